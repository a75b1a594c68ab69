"""Stage postprocess, last rule: join the tables of all shards of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from cellmill.shards import atomic_path, listed_files

logger = logging.getLogger(__name__)


def gather_tables(
    *,
    objects_path: str | Path,
    rle_path: str | Path,
    counts_path: str | Path,
    flags_path: str | Path,
    segmentation_dirs: Sequence[str | Path],
) -> None:
    """Concatenate the tables of all shards of a run.

    Parameters
    ----------
    objects_path, rle_path, counts_path, flags_path : path
        Output files.
    segmentation_dirs : sequence of path
        Shard folders of `postprocess_shard`, at least one.

    Raises
    ------
    ValueError
        If a folder is incomplete, or tables differ in their columns.
    """
    for folder in segmentation_dirs:
        listed_files(folder)
    # A table of the run is named like those of its shards.
    objects, _, _, flags = (
        concatenate_tables(path, [Path(folder) / Path(path).name for folder in segmentation_dirs])
        for path in (objects_path, rle_path, counts_path, flags_path)
    )
    logger.info("%d objects in %d shards, %d flags", objects, len(segmentation_dirs), flags)


def concatenate_tables(output_path: str | Path, paths: Sequence[str | Path]) -> int:
    """Concatenate CSV files with the same header, line by line.

    Parameters
    ----------
    output_path : path
        Written whole or not at all.
    paths : sequence of path
        At least one file; all with the same header.

    Returns
    -------
    int
        Number of lines below the header.

    Raises
    ------
    ValueError
        If a header differs.
    """
    assert paths
    header, lines = "", 0
    with atomic_path(output_path) as partial, partial.open("w", encoding="utf-8", newline="") as output:
        for number, path in enumerate(paths):
            with Path(path).open(encoding="utf-8", newline="") as stream:
                first = stream.readline()
                if number == 0:
                    header = first
                    output.write(header)
                elif first != header:
                    raise ValueError(
                        f"{path}: expected the columns {header.strip()}, found {first.strip()}. "
                        "Different versions wrote the shards. Run snakemake again with --forcerun postprocess."
                    )
                for line in stream:
                    output.write(line)
                    lines += 1
    return lines
