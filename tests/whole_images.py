"""Whole images and masks in one call, for tests: the library works on bands of rows and on bounding boxes."""

from pathlib import Path

import numpy as np
import tifffile

from cellmill.annotations.rle import decode_crop, encode_crop
from cellmill.images.stored import write_image_bands, write_probability_bands
from cellmill.preprocessing.geometry import Geometry, fit_rows, unfit_image_rows, unfit_label_rows


def write_image(path: str | Path, image_yx: np.ndarray) -> None:
    """Write a preprocessed image: float32, shape (rows, columns)."""
    assert image_yx.ndim == 2
    assert image_yx.dtype == np.float32
    write_image_bands(path, [image_yx], shape=image_yx.shape)


def write_probabilities(path: str | Path, prob_cyx: np.ndarray) -> None:
    """Write probability maps, shape (channels, rows, columns)."""
    assert prob_cyx.ndim == 3
    write_probability_bands(path, [prob_cyx], shape=prob_cyx.shape[1:])


def read_probabilities(path: str | Path) -> np.ndarray:
    """Read stored probability maps: float32, shape (channels, rows, columns)."""
    array = tifffile.imread(path).astype(np.float32)
    return array if array.ndim == 3 else array[np.newaxis]


def fit_image(image_yx: np.ndarray, geometry: Geometry, *, pad_value: float) -> np.ndarray:
    """Bring an image to its fitted size: float32."""
    assert image_yx.shape == geometry.raw_shape
    rows, raw_rows = slice(0, geometry.rows), slice(0, geometry.raw_rows)
    return fit_rows(image_yx, geometry, rows=rows, raw_rows=raw_rows, pad_value=pad_value)


def unfit_labels(labels_yx: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Map a fitted label image back to the raw frame; 0 outside the fitted frame."""
    assert labels_yx.shape == geometry.shape
    return unfit_label_rows(lambda numbers: labels_yx[numbers], geometry, slice(0, geometry.raw_rows))


def unfit_probability(prob_yx: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Map a fitted probability map back to the raw frame: float32, 0 outside the fitted frame."""
    assert prob_yx.shape == geometry.shape
    return unfit_image_rows(prob_yx, geometry, slice(0, geometry.raw_rows))


def encode_rle(mask_yx: np.ndarray, *, order: str) -> str:
    """Encode the mask of an object in the whole image as runs."""
    return encode_crop(mask_yx, order=order, row=0, column=0, shape=mask_yx.shape)


def decode_rle(text: str, *, shape: tuple[int, int], order: str, where: str) -> np.ndarray:
    """Decode runs to a mask of the whole image, bool."""
    mask_yx = np.zeros(shape, dtype=bool)
    row, column, crop_yx = decode_crop(text, shape=shape, order=order, where=where)
    mask_yx[row : row + crop_yx.shape[0], column : column + crop_yx.shape[1]] = crop_yx
    return mask_yx
