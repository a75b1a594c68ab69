"""Input planes of a network for one image: the image or a window of frames, normalised, and class planes."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np

from cellmill.images.stored import open_planes
from cellmill.images.windows import release_pages
from cellmill.inference.normalise import InputScale, measure_input, read_window
from cellmill.inference.scaling import ScaledImages, WorkingScale, limit_scale, plan_working_size, scale_box
from cellmill.preprocessing.geometry import Geometry
from cellmill.preprocessing.stored_images import StoredImage


class InputSection(TypedDict):
    """Section `input` of a preset."""

    normalise: str
    polarity: str
    min_contrast: float | str
    diameter_px: float | None
    scale: str
    frames: int
    class_planes: list[str]
    class_at_prediction: str
    warmup: int


class InputSettings(InputSection, total=False):
    """Section `input` of a run. `channels` is the number of channels of its images, if there are several."""

    channels: int


class SettledInput(InputSettings, total=False):
    """Input of a trained network, in its weights file: the section with the choices of the training.

    Only with `diameter_px`: object_px and object_um are the median diameter of the objects that it was trained on, in
    px of their preprocessed images and in um, None if unknown.
    """

    object_px: float | None
    object_um: float | None


# A plane, float32 YX, and its normalisation
ScaledPlane = tuple[np.ndarray, InputScale]


@dataclass(frozen=True)
class View:
    """The input planes of one image, read on demand.

    `frames` are memory-mapped float32 arrays of the same shape with their scales: the frames of a sequence, or the
    channels of a single image. `planes` are the values of the constant planes that follow them.
    """

    frames: tuple[ScaledPlane, ...]
    planes: tuple[float, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, columns = self.frames[0][0].shape
        return int(rows), int(columns)

    def read(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Read a window of all planes.

        Parameters
        ----------
        rows, columns : ndarray of int
            Row and column indices in the image, from `normalise.mirror`.

        Returns
        -------
        ndarray of float32, shape (frames + planes, len(rows), len(columns))
        """
        window_cyx = np.empty((len(self.frames) + len(self.planes), len(rows), len(columns)), dtype=np.float32)
        for number, (image_yx, scale) in enumerate(self.frames):
            window_cyx[number] = read_window(image_yx, rows=rows, columns=columns, scale=scale)
        for number, value in enumerate(self.planes, start=len(self.frames)):
            window_cyx[number] = value
        return window_cyx

    def release_pages(self) -> None:
        """Release the memory of the pages read so far; they are read again when needed."""
        for image_yx, _ in self.frames:
            release_pages(image_yx)


class Frames:
    """Preprocessed images by sample, each normalised, at its working scale, and with its neighbouring frames.

    Parameters
    ----------
    images : mapping
        Sample -> image.
    normalise, polarity, min_contrast
        As for `normalise.measure_input`.
    passages : sequence of sequences of str, or None
        Unbroken runs of frames in order.
    kept : int or None
        Number of planes that stay resampled; None for all.

    Raises
    ------
    ValueError
        If frames of one passage differ in size.
    """

    def __init__(
        self,
        images: Mapping[str, StoredImage],
        *,
        normalise: str,
        polarity: str,
        min_contrast: float,
        passages: Sequence[Sequence[str]] | None,
        kept: int | None,
    ) -> None:
        _check_sizes(images, passages=passages or ())
        self._images = images
        self._normalise = normalise
        self._polarity = polarity
        self._min_contrast = min_contrast
        self._factors: dict[str, float] = {}
        self._scaled = ScaledImages(kept=kept)
        self._scales: dict[str, list[InputScale]] = {}
        # Dtype, offset and shape (channels, rows, columns) of the pixels in each file. The header is read once, because
        # reading it takes longer than reading the pixels of a patch.
        self._layouts: dict[str, tuple[np.dtype, int, tuple[int, ...]]] = {}
        self._passages = passages or ()
        self._places = {sample: (passage, place) for passage in passages or () for place, sample in enumerate(passage)}

    def settle(
        self,
        *,
        factors: Mapping[str, float],
        normalise: str | None = None,
        polarity: str | None = None,
        min_contrast: float | None = None,
    ) -> None:
        """Set the working scale of images, sample -> factor of the sides (1 for all others), and how values change."""
        self._factors |= factors
        self._polarity = polarity or self._polarity
        self._normalise = normalise or self._normalise
        self._min_contrast = self._min_contrast if min_contrast is None else min_contrast
        if (polarity, normalise, min_contrast) != (None, None, None):
            self._scales.clear()

    def settle_by_dataset(self, *, input: SettledInput, pixel_size_um: float | None) -> dict[str, WorkingScale]:
        """Set the working scale of all images from the objects of the training images.

        By pixel size where it is known, of the training images and of this image; otherwise by the same factor as for
        the training images. Frames of a passage, which are read together, have the factor of the first.

        Parameters
        ----------
        input : SettledInput
            With a scale for the whole dataset.
        pixel_size_um : float or None
            Edge length of a pixel of the raw images; None: from the metadata of each image.

        Returns
        -------
        dict
            Sample -> working scale; empty if images are not resampled.
        """
        wanted, typical_px, typical_um = input["diameter_px"], input["object_px"], input["object_um"]
        if wanted is None or typical_px is None:
            return {}
        scales = {}
        for sample, image in self._images.items():
            edge_um = image.geometry.edge_um(pixel_size_um)
            objects_px, size = typical_px, f"{typical_px:.3g} px"
            if typical_um and edge_um:
                objects_px, size = typical_um / edge_um, f"{typical_um:.3g} um, and pixels {edge_um:.3g} um"
            because = f"objects of the training images have a median diameter of {size}"
            scales[sample] = limit_scale(wanted / objects_px, because=because)
        for passage in self._passages:
            known = [sample for sample in passage if sample in self._images]
            scales |= dict.fromkeys(known, scales[known[0]]) if known else {}
        self._factors |= {sample: scale.factor for sample, scale in scales.items()}
        return scales

    def working_size(self, sample: str) -> Geometry:
        """Return the resize of an image to its working scale."""
        return plan_working_size(self._images[sample].geometry.shape, factor=self._factors.get(sample, 1.0))

    def open(self, sample: str) -> list[ScaledPlane]:
        """Return the channels of an image at its working scale, each with its normalisation.

        The image is memory-mapped, and resampled unless its factor is 1. The normalisation of each channel is measured
        on first use, on the image as it is stored. Polarity and least contrast are those of the first channel, the one
        with the objects.
        """
        path, geometry = self._images[sample].image_path, self._images[sample].geometry
        if sample not in self._layouts:
            first = open_planes(path)
            assert isinstance(first, np.memmap)
            self._layouts[sample] = (first.dtype, first.offset, first.shape)
        dtype, offset, shape = self._layouts[sample]
        image_cyx: np.ndarray = np.memmap(str(path), mode="r", dtype=dtype, offset=offset, shape=shape)
        if sample not in self._scales:
            others = [("keep", 0.0)] * (len(image_cyx) - 1)
            self._scales[sample] = [
                measure_input(
                    image_yx, geometry=geometry, normalise=self._normalise, polarity=polarity, min_contrast=contrast
                )
                for image_yx, (polarity, contrast) in zip(
                    image_cyx, [(self._polarity, self._min_contrast), *others], strict=True
                )
            ]
        scales, working = self._scales[sample], self.working_size(sample)
        if working.shape == geometry.shape:
            return list(zip(image_cyx, scales, strict=True))
        rows = scale_box(scales[0].valid_rows, old=geometry.rows, new=working.rows)
        columns = scale_box(scales[0].valid_columns, old=geometry.columns, new=working.columns)
        return [
            (
                self._scaled.find((sample, number), image_yx, working),
                replace(scale, valid_rows=rows, valid_columns=columns),
            )
            for number, (image_yx, scale) in enumerate(zip(image_cyx, scales, strict=True))
        ]

    def neighbours(self, sample: str, *, count: int) -> list[str]:
        """List a frame and its neighbours, equally many on both sides; the nearest frame replaces a missing one.

        Parameters
        ----------
        sample : str
            The frame in the middle.
        count : int, odd
            Number of frames.

        Returns
        -------
        list of str
            In the order of the sequence, all from the same passage.
        """
        passage, place = self._places.get(sample, ([sample], 0))
        reach = count // 2
        return [passage[min(max(place + step, 0), len(passage) - 1)] for step in range(-reach, reach + 1)]

    def view(self, sample: str, *, count: int, planes: tuple[float, ...]) -> View:
        """Return the input planes of an image."""
        opened = (self.open(name) for name in self.neighbours(sample, count=count))
        return View(tuple(itertools.chain.from_iterable(opened)), planes)


def _check_sizes(images: Mapping[str, StoredImage], *, passages: Sequence[Sequence[str]]) -> None:
    for passage in passages:
        known = [sample for sample in passage if sample in images]
        for sample in known[1:]:
            expected, found = images[known[0]].geometry.shape, images[sample].geometry.shape
            if found != expected:
                raise ValueError(
                    f"{images[sample].image_path}: expected {expected[0]} x {expected[1]} px as in frame "
                    f"{known[0]} of the same sequence, found {found[0]} x {found[1]} px. Set preprocess.fit so that "
                    "all frames have the same size."
                )


def class_planes(name: str, *, classes: Sequence[str], sample: str) -> tuple[float, ...]:
    """Return the values of the class planes: 1 for the class of the image, 0 for the others.

    Raises
    ------
    ValueError
        If the image has no class, or a class for which the network has no plane.
    """
    if not classes:
        return ()
    if name not in classes:
        raise ValueError(
            f"{sample}: expected one of the classes {', '.join(classes)}, found {name or 'none'}. "
            "Set its class in class_column, or add the class to input.class_planes and train again."
        )
    return tuple(float(name == other) for other in classes)
