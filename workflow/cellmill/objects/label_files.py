"""Label images of a run by sample, for the exports of its objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.images.stored import sample_paths


def label_paths(folders: Sequence[str | Path]) -> dict[str, Path]:
    return {sample: path for folder in folders for sample, path in sample_paths(folder).items()}


def rows_with_labels(samples: Sequence[Mapping[str, Any]], paths: Mapping[str, Path]) -> list[Mapping[str, Any]]:
    return sorted((row for row in samples if row["sample"] in paths), key=lambda row: str(row["sample"]))


def image_file_name(row: Mapping[str, Any]) -> str:
    name = Path(row["image"]).name
    return name if name.startswith(f"{row['sample']}.") else f"{row['sample']}.tif"
