"""Scale images of any size to the size shown on a page; large images are read in bands of rows."""

import numpy as np

from cellmill.images.stored import BAND_PIXELS
from cellmill.images.windows import cut_evenly
from cellmill.preprocessing.geometry import RowSource, fit_rows, nearest, plan_fit, raw_rows_of


def shrink(source: RowSource, shape: tuple[int, int]) -> np.ndarray:
    """Scale an image to another size: the mean over the covered area if it shrinks, repeated pixels if it grows.

    Parameters
    ----------
    source : RowSource
        Any real dtype.
    shape : tuple of int
        (rows, columns) shown.

    Returns
    -------
    ndarray of shape `shape`
    """
    rows, columns = source.shape
    if rows <= shape[0]:
        return pick(source, shape)
    geometry = plan_fit((rows, columns), mode="resize", size=shape)
    parts = []
    for shown in _bands(shape[0], behind=rows * columns):
        raw_rows = raw_rows_of(geometry, shown)
        parts.append(fit_rows(source[raw_rows], geometry, rows=shown, raw_rows=raw_rows, pad_value=0))
    return np.concatenate(parts)


def pick(source: RowSource, shape: tuple[int, int]) -> np.ndarray:
    """Scale a label image to another size, taking the pixel under the centre of each shown one."""
    rows, columns = (nearest(old, new) for old, new in zip(source.shape, shape, strict=True))
    bands = _bands(shape[0], behind=source.shape[0] * source.shape[1])
    return np.concatenate([source[rows[shown]][:, columns] for shown in bands])


def _bands(shown_rows: int, *, behind: int) -> list[slice]:
    return cut_evenly(shown_rows, min(shown_rows, max(1, -(-behind // BAND_PIXELS))))
