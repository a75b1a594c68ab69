"""Read label and mask images of a sample as numbers, by bands of rows, and check them against its image."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.instance import Instance, instance_of_piece
from cellmill.annotations.pieces import crop_piece, merge_pieces
from cellmill.images.axes import PlaneIndex
from cellmill.images.channels import has_alpha
from cellmill.images.rasters import Raster, match_plane, open_raster, read_layout
from cellmill.images.showing import explain_exchange
from cellmill.images.stored import BAND_PIXELS

JPEG_SUFFIXES = (".jpg", ".jpeg")
# Objects of a MinIsWhite mask that cover more of the image may be its background.
MOST_OF_WHITE = 0.5
# An image of classes has few numbers; more are grey levels.
MAX_CLASSES = 16
SET_BACKGROUND = "Write the background as 0"


def read_codes(
    sample: str, path: str, *, shape: tuple[int, int], plane: PlaneIndex, is_as_stored: bool = False
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read an annotation image with one number per pixel from top to bottom, and check its size.

    Parameters
    ----------
    sample : str
        Sample, for error messages.
    path : str
        The annotation.
    shape : tuple of int
        (rows, columns) of the sample's image.
    plane : sequence of [axis, position, size]
        The position of the image in its stack, if the annotation is a stack too.
    is_as_stored : bool
        Whether the meaning of the stored numbers is known, even if the file is MinIsWhite.

    Yields
    ------
    slice, ndarray of shape (rows, columns)
        Rows, and the stored numbers: indices for a palette image, one channel if all colour channels are equal. One
        bit MinIsWhite is read as shown: 1 is white.

    Raises
    ------
    ValueError
        If the file is unreadable, differs in size from the image, has colours, or is MinIsWhite with a background that
        has the largest number.
    """
    raster = open_raster(path, palette="indices", plane=match_plane(path, plane) if plane else ())
    if raster.shape != tuple(shape):
        raise ValueError(
            f"sample {sample}, {path}: expected an annotation of {shape[0]} rows and {shape[1]} columns, the size of "
            f"its image, found {raster.shape[0]} rows and {raster.shape[1]} columns. "
            "Pair every image with its own full-size annotation." + explain_exchange(raster.shape, shape)
        )
    bands = _read_numbers(raster, sample=sample)
    if not raster.layout.is_min_is_white or is_as_stored:
        yield from bands
        return
    top = 2**raster.layout.bits - 1
    counts = 0
    for rows, codes_yx in bands:
        shown_yx = 1 - codes_yx if raster.layout.bits == 1 else codes_yx
        counts += int(np.count_nonzero(shown_yx == top))
        yield rows, shown_yx
    refuse_dark_objects(counts / (shape[0] * shape[1]), where=f"sample {sample}, {path}")


def refuse_dark_objects(share: float, *, where: str) -> None:
    """Raise an error if the objects of a MinIsWhite mask cover most of the image, and may be the background."""
    if share > MOST_OF_WHITE:
        raise ValueError(
            f"{where}: expected a mask whose objects are certain, found MinIsWhite (smaller numbers are shown "
            f"brighter) with {share:.0%} of the pixels as objects. "
            "For format binary, set annotations.foreground to the stored numbers of the objects, zero or nonzero; "
            "otherwise save the mask with MinIsBlack."
        )


def _read_numbers(raster: Raster, *, sample: str) -> Iterator[tuple[slice, np.ndarray]]:
    path = raster.path
    for rows, array in raster.bands(BAND_PIXELS):
        if raster.axes == "YX":
            yield rows, array
            continue
        if has_alpha(array, raster.axes) and np.ptp(array[:, :, -1]) == 0:
            array = array[:, :, :-1]
        if (array != array[:, :, :1]).any():
            raise ValueError(
                f"sample {sample}, {path}: expected one number per pixel, found {array.shape[2]} channels that differ. "
                "Save the annotation as a grey image without transparency, or use format color_components."
            )
        yield rows, array[:, :, 0]


def read_two_values(
    sample: str,
    path: str,
    *,
    shape: tuple[int, int],
    plane: PlaneIndex,
    is_as_stored: bool = False,
    advice: str = SET_BACKGROUND,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read an annotation image of two values as a mask of its nonzero pixels, from top to bottom.

    Parameters
    ----------
    sample, path, shape, plane, is_as_stored
        As in `read_codes`.
    advice : str
        What to do with a file of whole numbers, such as the classes 1 and 2, for error messages.

    Yields
    ------
    slice, ndarray of bool
        Rows, and their mask.

    Raises
    ------
    ValueError
        As `read_codes`, and if there are more than two values, or two values and neither is zero.
    """
    extremes: set[float] = set()
    covered = 0
    for rows, codes_yx in read_codes(sample, path, shape=shape, plane=plane, is_as_stored=is_as_stored):
        lowest, highest = codes_yx.min(), codes_yx.max()
        extremes |= {float(lowest), float(highest)}
        between = int(np.count_nonzero((codes_yx != lowest) & (codes_yx != highest)))
        if between or len(extremes) > 2 or (len(extremes) == 2 and 0.0 not in extremes):
            is_exact = Path(path).suffix.lower() not in JPEG_SUFFIXES
            if is_exact and (classes := _list_classes(codes_yx, extremes)):
                raise ValueError(
                    f"sample {sample}, {path}: expected zero and one other value, found the numbers {classes}. "
                    f"{advice}."
                )
            raise ValueError(
                f"sample {sample}, {path}: expected zero and one other value, found values from {min(extremes):g} to "
                f"{max(extremes):g} with {between} pixels of intermediate values. "
                "Save the mask without smoothing or JPEG compression, or use format label_image."
            )
        yield rows, codes_yx != 0
        covered += int(np.count_nonzero(codes_yx))
    if not is_as_stored and read_layout(path).is_min_is_white:
        refuse_dark_objects(covered / (shape[0] * shape[1]), where=f"sample {sample}, {path}")


def read_class(
    sample: str, path: str, *, number: int, shape: tuple[int, int], plane: PlaneIndex
) -> Iterator[tuple[slice, np.ndarray]]:
    """Read an annotation image of classes as a mask of the pixels of one class, from top to bottom.

    Parameters
    ----------
    sample, path, shape, plane
        As in `read_codes`.
    number : int
        Number of the class.

    Yields
    ------
    slice, ndarray of bool
        Rows, and their mask.

    Raises
    ------
    ValueError
        As `read_codes`, and if the file has more than 16 values.
    """
    found: set[float] = set()
    for rows, codes_yx in read_codes(sample, path, shape=shape, plane=plane, is_as_stored=True):
        found.update(np.unique(codes_yx).tolist())
        if len(found) > MAX_CLASSES:
            raise ValueError(
                f"sample {sample}, {path}: expected at most {MAX_CLASSES} classes, found {len(found)} values from "
                f"{min(found):g} to {max(found):g}. Save the classes without smoothing or JPEG compression."
            )
        yield rows, codes_yx == number


def _list_classes(codes_yx: np.ndarray, extremes: set[float]) -> str:
    """List the numbers of an image of classes; return an empty text if they are grey levels of a smoothed mask."""
    numbers = sorted({*np.unique(codes_yx).tolist(), *extremes})
    if len(numbers) > MAX_CLASSES or numbers != [round(number) for number in numbers] or 255 in numbers:
        return ""
    texts = [f"{number:g}" for number in numbers]
    return f"{', '.join(texts[:-1])} and {texts[-1]}"


def read_ignored(row: Mapping[str, Any], *, shape: tuple[int, int]) -> list[Instance]:
    """Read the ignored pixels of one sample as one region; return none if the sample has no such file.

    Raises
    ------
    ValueError
        As `read_two_values`.
    """
    path = row.get("extra", {}).get("ignore")
    if path is None:
        return []
    bands = read_two_values(row["sample"], path, shape=shape, plane=())
    piece = merge_pieces([crop_piece(band_yx, row=rows.start) for rows, band_yx in bands])
    return [instance_of_piece(piece, source=path, is_ignored=True)] if piece[2].size else []


def stack_place(row: Mapping[str, Any]) -> PlaneIndex:
    """Return the position of a sample in its stack if its annotation is a stack too, else an empty tuple."""
    return row["plane"] if row.get("is_annotated_as_stack") else ()


def only_path(row: Mapping[str, Any]) -> str:
    """Return the only annotation file of a sample.

    Raises
    ------
    ValueError
        If the sample does not have exactly one.
    """
    paths = row["annotations"]
    if len(paths) != 1:
        raise ValueError(
            f"sample {row['sample']}: expected one annotation file, found {len(paths)}: {', '.join(paths[:3])}. "
            "Narrow annotations.path so that it matches one file for each image."
        )
    return str(paths[0])
