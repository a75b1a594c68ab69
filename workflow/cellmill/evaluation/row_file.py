"""Rows of numbers of many images, kept in a file, so that memory does not grow with their number."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

# Bytes up to which rows stay in memory
IN_MEMORY = 1 << 24
BLOCK_ROWS = 256


class RowFile:
    """Rows of float64, used like an array of shape (rows, width) where it is read by blocks of rows.

    `len(rows)`, `rows[first:last]`, `rows[:, first:last]`, `rows.sum(axis=0)` and `weights @ rows` are supported. Rows
    beyond 16 MB are in a file without a name, which disappears with the object.

    Parameters
    ----------
    folder : Path
        Folder of the file.
    """

    # Lets numpy leave `weights @ rows` to this class
    __array_ufunc__ = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stream = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY, dir=str(folder))  # noqa: SIM115
        self._width = 0
        self._count = 0

    def __del__(self) -> None:
        self._stream.close()

    def append(self, row: np.ndarray) -> None:
        """Add a row; all have the same width."""
        self._width = row.size
        self._stream.seek(0, 2)
        self._stream.write(np.ascontiguousarray(row, dtype=np.float64).tobytes())
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def sorted(self, order: Sequence[int]) -> "RowFile":
        """Return the rows in another order."""
        new = RowFile(self._folder)
        for number in order:
            new.append(self[number : number + 1][0])
        return new

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the rows, some at a time."""
        for first in range(0, len(self), BLOCK_ROWS):
            yield self[first : first + BLOCK_ROWS]

    def __getitem__(self, index: slice | tuple[slice, slice]) -> np.ndarray:
        if isinstance(index, tuple):
            rows, columns = index
            assert rows == slice(None), rows
            # Copies, because a view would keep its whole block in memory
            return np.concatenate([block[:, columns].copy() for block in self.blocks()])
        first, last, _ = index.indices(len(self))
        self._stream.seek(first * self._width * 8)
        data = self._stream.read(max(0, last - first) * self._width * 8)
        return np.frombuffer(data, dtype=np.float64).reshape(-1, self._width)

    def sum(self, axis: int = 0, *, keepdims: bool = False) -> np.ndarray:
        """Add all rows: shape (width,), or (1, width) with `keepdims`."""
        assert axis == 0
        total = sum((block.sum(axis=0) for block in self.blocks()), start=np.zeros(self._width))
        return total[None] if keepdims else total

    def __rmatmul__(self, weights: np.ndarray) -> np.ndarray:
        total = np.zeros((len(weights), self._width))
        for number, block in enumerate(self.blocks()):
            first = number * BLOCK_ROWS
            total += weights[:, first : first + len(block)] @ block
        return total


# What the functions that summarise images take
Rows = np.ndarray | RowFile
