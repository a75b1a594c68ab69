"""Illumination profile of a dataset: the smooth unevenness of the light that all of its images share.

A raw image is taken as `dark + profile * light`. The profile is a polynomial of low degree over the field of view, so a
few numbers describe it at any size and for any band of rows. How it is estimated: `shading.py`.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from cellmill.shards import atomic_path

METHOD = "flat_field"
# Of the polynomial, rows and columns together. Light that falls to half at a corner by the fourth power of a cosine is
# fitted to .06 % by degree 6 and to .6 % by degree 4; the noise of both is the same (decision 0026).
DEGREE = 6
# (row, column) degree of each coefficient, the constant first
TERMS = tuple((i, j) for i in range(DEGREE + 1) for j in range(DEGREE + 1 - i))


@dataclass(frozen=True)
class FlatField:
    """Profile of the images of one size, with mean 1, and the counts without light: an entry of flat_field.json.

    `coefficients` belong to products of Legendre polynomials in the order of `TERMS`. The other fields describe the
    estimate: `images` that it is based on; `border_before` and `border_after`, brightness of the ground at the borders
    relative to the centre, before and after a correction by the profile of other images; `error`, the expected error
    of the profile as a fraction of it. The last three are None if there are too few images to be divided. `channel` is
    that of the config, for readers.
    """

    rows: int
    columns: int
    dark: float
    coefficients: tuple[float, ...]
    images: int
    border_before: float | None = None
    border_after: float | None = None
    error: float | None = None
    channel: Any = None

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the images, px."""
        return self.rows, self.columns

    def profile_rows(self, rows: slice) -> np.ndarray:
        """Compute some rows of the profile: float32, shape (rows, columns)."""
        return evaluate(self.coefficients, places(self.rows)[rows], places(self.columns))

    def correct_rows(self, raw_yx: np.ndarray, rows: slice) -> np.ndarray:
        """Remove dark level and unevenness from some rows of an image.

        Parameters
        ----------
        raw_yx : ndarray of shape (rows, columns), any real dtype
            These rows of the raw image, camera counts.
        rows : slice
            Their place in the image.

        Returns
        -------
        ndarray of float32
            (counts - dark) / profile; the same whether the image is corrected at once or in bands.
        """
        corrected_yx: np.ndarray = (raw_yx.astype(np.float32) - np.float32(self.dark)) / self.profile_rows(rows)
        return corrected_yx

    def shown(self, side: int) -> np.ndarray:
        """Compute the profile at a reduced size, with `side` pixels along the longer side."""
        longest = max(self.shape)
        rows, columns = (max(1, round(length * side / longest)) for length in self.shape)
        return evaluate(self.coefficients, places(rows), places(columns))

    @property
    def corner(self) -> float:
        """Mean of the profile at the four corners, relative to its value at the centre."""
        corners_yx = evaluate(self.coefficients, np.array([-1.0, 1.0]), np.array([-1.0, 1.0]))
        centre_yx = evaluate(self.coefficients, np.zeros(1), np.zeros(1))
        return float(corners_yx.mean() / centre_yx[0, 0])


def places(count: int) -> np.ndarray:
    """Return the centres of the pixels of one axis, which extends from -1 to 1."""
    places_n: np.ndarray = (2 * np.arange(count) + 1) / count - 1
    return places_n


def evaluate(coefficients: Sequence[float], row_places: np.ndarray, column_places: np.ndarray) -> np.ndarray:
    """Compute a polynomial over a grid: float32, shape (rows, columns)."""
    table = np.zeros((DEGREE + 1, DEGREE + 1))
    for (i, j), value in zip(TERMS, coefficients, strict=True):
        table[i, j] = value
    # One product after the other: a matrix product may round differently for another number of rows, and bands have to
    # equal the whole image.
    along_rows_jy = legendre.legval(row_places, table).astype(np.float32)
    along_columns_jx = legendre.legvander(column_places, DEGREE).T.astype(np.float32)
    profile_yx = np.zeros((len(row_places), len(column_places)), dtype=np.float32)
    for of_rows_y, of_columns_x in zip(along_rows_jy, along_columns_jx, strict=True):
        profile_yx += of_rows_y[:, np.newaxis] * of_columns_x
    return profile_yx


def write_flat_fields(path: str | Path, flat_fields: Sequence[FlatField | None]) -> None:
    """Write flat_field.json: an entry for each input channel, None for those that are not divided."""
    content = [None if each is None else asdict(each) for each in flat_fields]
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_flat_fields(path: str | Path) -> list[FlatField | None]:
    """Read flat_field.json."""
    return [
        None if each is None else FlatField(**{**each, "coefficients": tuple(each["coefficients"])})
        for each in json.loads(Path(path).read_text(encoding="utf-8"))
    ]
