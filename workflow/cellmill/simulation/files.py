"""Write simulated images and tables; equal content gives identical bytes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile


def write_counts(path: Path, counts: np.ndarray) -> None:
    """Write the camera counts: integers, shape (rows, columns) or (stains, rows, columns)."""
    tifffile.imwrite(
        path,
        counts,
        metadata={"axes": "YX" if counts.ndim == 2 else "CYX"},
        photometric="minisblack",
        software="cellmill",
    )


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], *, columns: Sequence[str]) -> None:
    """Write a table as CSV, with six significant digits for floats."""
    table = pd.DataFrame(list(rows), columns=list(columns))
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
