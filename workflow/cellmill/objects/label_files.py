"""Label images of a run by sample, for the exports of its objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.images.stored import sample_paths
from cellmill.objects.shard_tables import list_counted


def label_paths(folders: Sequence[str | Path]) -> dict[str, Path]:
    """Return the label images of shards by sample, without those of images that an annotator left out."""
    return {
        sample: path
        for folder in folders
        for known in [list_counted(folder)]
        for sample, path in sample_paths(folder).items()
        if sample in known
    }


def rows_with_labels(samples: Sequence[Mapping[str, Any]], paths: Mapping[str, Path]) -> list[Mapping[str, Any]]:
    return sorted((row for row in samples if row["sample"] in paths), key=lambda row: str(row["sample"]))


def image_file_name(row: Mapping[str, Any]) -> str:
    name = Path(row["image"]).name
    return name if name.startswith(f"{row['sample']}.") else f"{row['sample']}.tif"
