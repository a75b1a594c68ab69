"""Pictures of a page: an image with its annotation, its predictions, and their differences.

All layers of a picture share the raw image's frame, scaled to the displayed size. Photographs are WebP, masks PNG with
a palette, both as data URIs, so that the page needs no other file. Objects have the colour of their run or that of
annotations.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cellmill.images.stored import IGNORE_LABEL, StoredRows, pick_rows
from cellmill.preprocessing.geometry import Geometry, RowSource, covered_part, nearest, unfit_image_rows
from cellmill.reports.colours import ANNOTATION_COLOUR, ERROR_COLOURS, IGNORED_COLOUR
from cellmill.reports.mistakes import Mistakes, describe_mistakes, find_mistakes
from cellmill.reports.shrinking import pick, shrink

# Noise does not compress, so a photograph gets the first quality that needs less than this, or the last one.
PHOTO_QUALITIES, PHOTO_BYTES_PER_PIXEL = (70, 45, 25), 0.25
# Pixels of all pictures together; more or larger pictures are scaled down to fit. One photograph and four
# masks need about 0.4 bytes a pixel, so this is about 4 MB with one model.
PIXEL_BUDGET = 24 * 512 * 512
SMALL_SIDE_PX = 256  # smaller images are enlarged, so that outlines are thin lines
STRETCH_PERCENT = (0.5, 99.5)

FILL_ALPHA, OUTLINE_ALPHA = 90, 255
THICK_FROM_PX = 400  # longest side from which on outlines are two pixels wide


def _heat_colours() -> np.ndarray:
    """Return the 256 colours of cubehelix, black to white, with evenly rising brightness for any colour vision.

    SOURCE Green 2011, Bull. Astr. Soc. India 39, 289: start 0.5, -1.5 rotations, saturation 1, gamma 1
    """
    share = np.linspace(0, 1, 256)
    angle = 2 * np.pi * (0.5 / 3 + 1 - 1.5 * share)
    around = np.stack([np.cos(angle), np.sin(angle)])
    weights = np.array([[-0.14861, 1.78277], [-0.29227, -0.90649], [1.97294, 0.0]])
    colours = share + share * (1 - share) / 2 * (weights @ around)
    return np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8).T


HEAT = _heat_colours()
VIEWS = ("raw", "preprocessed", "truth", "probability", "prediction", "confidence", "errors")
# Opacity of the fill of an object, from the highest confidence to the lowest, in equal steps of confidence
DOUBT_ALPHAS = (0, 60, 120, 180, 240)


@dataclass(frozen=True)
class Layer:
    """One image of a picture: its views, its model (None: all models), and the data."""

    views: tuple[str, ...]
    model: int | None
    kind: str
    uri: str
    alt: str


@dataclass(frozen=True)
class Picture:
    """The layers of one sample, later ones on top, with its true size."""

    sample: str
    rows: int
    columns: int
    shown_rows: int
    shown_columns: int
    layers: tuple[Layer, ...]
    errors: tuple[dict[str, int] | None, ...]


@dataclass(frozen=True)
class Source:
    """Files of one sample: its preprocessed image, and its raw plane and true labels if there are any."""

    sample: str
    image_path: Path
    geometry: Geometry
    raw: RowSource | None
    truth_path: Path | None


@dataclass(frozen=True)
class Unfitted:
    """A fitted image or probability map in the geometry of the raw image, read by rows."""

    image_yx: RowSource
    geometry: Geometry

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the raw image."""
        return self.geometry.raw_shape

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return a slice of the rows, or the rows of these indices in ascending order."""

        def read(first: int, last: int) -> np.ndarray:
            return unfit_image_rows(self.image_yx, self.geometry, slice(first, last))

        return pick_rows(read, rows, height=self.shape[0])


@dataclass(frozen=True)
class Prediction:
    """Files of one sample from one model, and the colour of its objects, "#rrggbb"; masks have no probabilities.

    `confidences` maps object numbers to confidences; empty for masks. `is_known` is False for an image that an
    annotator left out.
    """

    model: str
    colour: str
    probability_path: Path | None
    segmentation_path: Path
    confidences: Mapping[int, float]
    is_known: bool = True


def choose_side(images: int, *, models: int, side_px: int) -> int:
    """Choose the longest side of the pictures, so that all of them together stay small.

    Parameters
    ----------
    images, models : int
        Numbers shown. Each model adds a probability map and three masks to each picture.
    side_px : int
        The requested side.

    Returns
    -------
    int
        At most `side_px`, at least 64.
    """
    share = PIXEL_BUDGET / max(images, 1) / (0.6 + 0.4 * max(models, 1))
    return max(64, min(side_px, int(share**0.5)))


def shown_shape(shape: tuple[int, int], *, side_px: int) -> tuple[int, int]:
    """Return the size at which an image is shown: scaled down to `side_px`, or enlarged by a whole number.

    Parameters
    ----------
    shape : tuple of int
        (rows, columns) of the raw image.
    side_px : int
        Longest side.

    Returns
    -------
    tuple of int
        (rows, columns), in proportion.
    """
    longest = max(shape)
    if longest > side_px:
        return max(1, round(shape[0] * side_px / longest)), max(1, round(shape[1] * side_px / longest))
    times = max(1, min(SMALL_SIDE_PX, side_px) // longest)
    return shape[0] * times, shape[1] * times


def draw_picture(source: Source, predictions: Sequence[Prediction], *, side_px: int) -> Picture:
    """Draw every layer of one sample.

    Parameters
    ----------
    source : Source
        Image and truth.
    predictions : sequence of Prediction
        Prediction of each model.
    side_px : int
        Longest side of the picture.

    Returns
    -------
    Picture
    """
    shape = shown_shape(source.geometry.raw_shape, side_px=side_px)
    has_gaps = any(prediction.probability_path is None for prediction in predictions)
    layers = _photo_layers(source, shape, has_gaps=has_gaps)
    truth = StoredRows(source.truth_path) if source.truth_path else None
    shown_truth_yx = None if truth is None else pick(truth, shape)
    if shown_truth_yx is not None:
        alt = f"outlines of the annotated objects in {source.sample}"
        layers.append(Layer(("truth",), None, "mask", paint_objects(shown_truth_yx, colour=ANNOTATION_COLOUR), alt))
    errors: list[dict[str, int] | None] = []
    for number, prediction in enumerate(predictions):
        if prediction.probability_path is not None:
            probability = Unfitted(StoredRows(prediction.probability_path), source.geometry)
            grey_yx = np.rint(np.clip(shrink(probability, shape), 0, 1) * 255).astype(np.uint8)
            alt = f"foreground probability in {source.sample} predicted by {prediction.model}; black is 0, white is 1"
            layers.append(Layer(("probability",), number, "photo", encode_photo(HEAT[grey_yx]), alt))
        if not prediction.is_known:
            errors.append(None)
            continue
        labels = StoredRows(prediction.segmentation_path)
        shown_yx = pick(labels, shape)
        alt = f"outlines of the objects in {source.sample} predicted by {prediction.model}"
        layers.append(Layer(("prediction",), number, "mask", paint_objects(shown_yx, colour=prediction.colour), alt))
        if prediction.confidences:
            painted = paint_confidences(shown_yx, prediction.confidences, colour=prediction.colour)
            alt = f"objects in {source.sample} predicted by {prediction.model}; the fuller, the lower their confidence"
            layers.append(Layer(("confidence",), number, "mask", painted, alt))
        if truth is None or shown_truth_yx is None:
            errors.append(None)
            continue
        found = find_mistakes((labels[rows], truth_yx) for rows, truth_yx in truth.bands())
        alt = f"errors of {prediction.model} in {source.sample}: {describe_mistakes(found.counts)}"
        layers.append(Layer(("errors",), number, "mask", paint_mistakes(found, shown_yx, shown_truth_yx), alt))
        errors.append(found.counts)
    return Picture(source.sample, *source.geometry.raw_shape, *shape, tuple(layers), tuple(errors))


def draw_thumbnail(source: Source, *, side_px: int) -> str:
    """Draw a preprocessed image alone, as a data URI."""
    return encode_photo(_preprocessed(source, shown_shape(source.geometry.raw_shape, side_px=side_px)))


# ---- painting ----------------------------------------------------------------------------------------------


def paint_objects(labels_yx: np.ndarray, *, colour: str) -> str:
    """Paint the objects of a label image in one colour, filled lightly, with outlines, as a data URI."""
    classes_yx = np.where(labels_yx > 0, 1, 0).astype(np.uint8)
    classes_yx[_outlines(labels_yx)] = 2
    classes_yx[labels_yx == IGNORE_LABEL] = 3
    return encode_mask(classes_yx, _palette((colour,)))


def paint_confidences(labels_yx: np.ndarray, confidences: Mapping[int, float], *, colour: str) -> str:
    """Paint the objects of a label image in one colour, the fuller the lower their confidence, as a data URI."""
    last = len(DOUBT_ALPHAS) - 1
    steps = np.zeros(int(labels_yx.max(initial=0)) + 1, dtype=np.uint8)
    for number, confidence in confidences.items():
        if number < len(steps):
            steps[number] = 1 + min(int((1 - confidence) * len(DOUBT_ALPHAS)), last)
    classes_yx = steps[labels_yx]
    classes_yx[_outlines(labels_yx)] = last + 2
    red, green, blue = bytes.fromhex(colour[1:])
    fills = [(red, green, blue, alpha) for alpha in DOUBT_ALPHAS]
    return encode_mask(classes_yx, [(0, 0, 0, 0), *fills, (red, green, blue, OUTLINE_ALPHA)])


def paint_mistakes(found: Mistakes, predicted_yx: np.ndarray, truth_yx: np.ndarray) -> str:
    """Paint the result of `find_mistakes` over label images of the displayed size, as a data URI.

    Found objects have an outline only. False and merged objects lie over missed and split ones.
    """
    names = tuple(ERROR_COLOURS)
    ignored_yx = truth_yx == IGNORE_LABEL
    classes_yx = np.zeros(truth_yx.shape, dtype=np.uint8)
    for labels_yx, kinds, painted in (
        (truth_yx, found.true_kinds, ("found", "missed", "split")),
        (predicted_yx, found.predicted_kinds, ("false", "merged")),
    ):
        outline_yx = _outlines(np.where(~ignored_yx & np.isin(labels_yx, list(kinds)), labels_yx, 0))
        for kind in painted:
            here = ~ignored_yx & np.isin(labels_yx, [label for label, one in kinds.items() if one == kind])
            if kind != "found":
                classes_yx[here & ~outline_yx] = 1 + names.index(kind)
            classes_yx[here & outline_yx] = 1 + names.index(kind) + len(names)
    classes_yx[ignored_yx] = 2 * len(names) + 1
    return encode_mask(classes_yx, _palette(tuple(ERROR_COLOURS.values())))


def encode_photo(shown: np.ndarray) -> str:
    """Encode a uint8 image, shape (rows, columns) or (rows, columns, 3), as WebP in a data URI."""
    image = Image.fromarray(shown).convert("RGB")
    data = b""
    for quality in PHOTO_QUALITIES:
        stream = io.BytesIO()
        image.save(stream, "WEBP", quality=quality, method=4)
        data = stream.getvalue()
        if len(data) <= PHOTO_BYTES_PER_PIXEL * shown.shape[0] * shown.shape[1]:
            break
    return _uri("webp", data)


def encode_mask(classes_yx: np.ndarray, palette: Sequence[tuple[int, int, int, int]]) -> str:
    """Encode a uint8 image of palette indices as PNG in a data URI; `palette` is red, green, blue, alpha."""
    rows, columns = classes_yx.shape
    image = Image.frombytes("P", (columns, rows), np.ascontiguousarray(classes_yx).tobytes())
    image.putpalette([channel for colour in palette for channel in colour[:3]])
    stream = io.BytesIO()
    image.save(stream, "PNG", transparency=bytes(colour[3] for colour in palette))
    return _uri("png", stream.getvalue())


def stretch(image_yx: np.ndarray, *, within_yx: np.ndarray | None = None) -> np.ndarray:
    """Stretch an image to 0 .. 255 between its 0.5 and 99.5 percentiles.

    Parameters
    ----------
    image_yx : ndarray of shape (rows, columns), any real dtype
    within_yx : ndarray of bool, same shape, or None
        Pixels from which the percentiles are computed; the others become 0.

    Returns
    -------
    ndarray of uint8
        A constant image becomes mid-grey.
    """
    values = image_yx.astype(np.float64)
    inside = values if within_yx is None else values[within_yx]
    low, high = np.percentile(inside, STRETCH_PERCENT) if inside.size else (0.0, 0.0)
    if high <= low:
        low, high = (float(inside.min()), float(inside.max())) if inside.size else (0.0, 0.0)
    grey = np.full(values.shape, 0.5) if high <= low else np.clip((values - low) / (high - low), 0, 1)
    if within_yx is not None:
        grey[~within_yx] = 0
    return np.rint(grey * 255).astype(np.uint8)


def _photo_layers(source: Source, shape: tuple[int, int], *, has_gaps: bool) -> list[Layer]:
    """Draw the image itself; with `has_gaps` it is also shown in place of probabilities that a run does not have."""
    uri = encode_photo(_preprocessed(source, shape))
    raw_uri = uri if source.raw is None else encode_photo(stretch(shrink(source.raw, shape)))
    under = tuple(view for view in VIEWS if view != "raw" and (view != "probability" or has_gaps))
    name = f"image {source.sample}"
    if raw_uri == uri:  # the same picture twice would double the page
        return [Layer(("raw", *under), None, "photo", uri, name)]
    return [
        Layer(("raw",), None, "photo", raw_uri, f"{name}, raw"),
        Layer(under, None, "photo", uri, f"{name}, preprocessed"),
    ]


def _preprocessed(source: Source, shape: tuple[int, int]) -> np.ndarray:
    geometry = source.geometry
    shown_yx = shrink(Unfitted(StoredRows(source.image_path), geometry), shape)
    if geometry.mode != "crop_pad":
        return stretch(shown_yx)
    is_covered_yx = np.ones(shape, dtype=bool)
    for axis, part in enumerate(covered_part(geometry)):
        place = nearest(geometry.raw_shape[axis], shape[axis])
        is_covered = (place >= part.start) & (place < part.stop)
        is_covered_yx &= is_covered[:, None] if axis == 0 else is_covered
    return stretch(shown_yx, within_yx=is_covered_yx)


def _outlines(labels_yx: np.ndarray) -> np.ndarray:
    """Mark object pixels next to a pixel of another object or of the background."""
    edge_yx = np.zeros(labels_yx.shape, dtype=bool)
    for width in (1, 2) if max(labels_yx.shape) >= THICK_FROM_PX else (1,):
        down, right = labels_yx[width:] != labels_yx[:-width], labels_yx[:, width:] != labels_yx[:, :-width]
        edge_yx[width:] |= down
        edge_yx[:-width] |= down
        edge_yx[:, width:] |= right
        edge_yx[:, :-width] |= right
    return edge_yx & (labels_yx > 0)


def _palette(colours: Sequence[str]) -> list[tuple[int, int, int, int]]:
    """Return transparency, a light fill and an outline for each colour, and grey for ignored pixels."""
    rgb = [tuple(bytes.fromhex(colour[1:])) for colour in colours]
    fills = [(r, g, b, FILL_ALPHA) for r, g, b in rgb]
    outlines = [(r, g, b, OUTLINE_ALPHA) for r, g, b in rgb]
    return [(0, 0, 0, 0), *fills, *outlines, IGNORED_COLOUR]


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
