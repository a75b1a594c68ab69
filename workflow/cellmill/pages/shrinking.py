"""Images of any size in the size in which a page shows them: a large one is read in bands of rows."""

import numpy as np

from cellmill.fit import RowSource, fit_rows, nearest, plan_fit, raw_rows_of
from cellmill.windows import cut_evenly

# Pixels that are read together
BAND_PIXELS = 1 << 22


def shrink(source: RowSource, shape: tuple[int, int]) -> np.ndarray:
    """Show an image in another size: the mean over the covered area where it shrinks, repeated pixels where it grows.

    Parameters
    ----------
    source : RowSource
        Of any real dtype.
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
    """Show a label image in another size: the pixel under the centre of each shown one."""
    rows, columns = (nearest(old, new) for old, new in zip(source.shape, shape, strict=True))
    bands = _bands(shape[0], behind=source.shape[0] * source.shape[1])
    return np.concatenate([source[rows[shown]][:, columns] for shown in bands])


def _bands(shown_rows: int, *, behind: int) -> list[slice]:
    return cut_evenly(shown_rows, min(shown_rows, max(1, -(-behind // BAND_PIXELS))))
