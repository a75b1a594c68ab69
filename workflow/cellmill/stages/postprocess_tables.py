"""Stage postprocess, last rule: join the tables of all shards of a run."""

import csv
import itertools
import logging
import tempfile
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
    features_paths: Sequence[str | Path],
) -> None:
    """Concatenate the tables of all shards of a run.

    Parameters
    ----------
    objects_path, rle_path, counts_path, flags_path : path
        Output files.
    segmentation_dirs : sequence of path
        Shard folders of `postprocess_shard`, at least one.
    features_paths : sequence of path
        Table of features of each of these shards, in the same order, whose columns follow those of objects.csv; or
        nothing, if no features were measured.

    Raises
    ------
    ValueError
        If a folder is incomplete, or tables differ in their columns or rows.
    """
    for folder in segmentation_dirs:
        listed_files(folder)
    # A table of the run is named like those of its shards.
    of_shards = {
        path: [Path(folder) / Path(path).name for folder in segmentation_dirs]
        for path in (objects_path, rle_path, counts_path, flags_path)
    }
    Path(objects_path).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(objects_path).parent, prefix=".tables-") as room:
        if features_paths:
            of_shards[objects_path] = join_features(of_shards[objects_path], features_paths, room=Path(room))
        objects, _, _, flags = (concatenate_tables(path, tables) for path, tables in of_shards.items())
    logger.info("%d objects in %d shards, %d flags", objects, len(segmentation_dirs), flags)


def join_features(objects: Sequence[Path], features: Sequence[str | Path], *, room: Path) -> list[Path]:
    """Add the columns of features to the tables of objects.

    Parameters
    ----------
    objects, features : sequence of path
        Tables of the same shards in the same order, with the columns sample and object and the same rows. Shards whose
        images have fewer channels lack some columns of features, which become empty cells.
    room : Path
        Folder in which the joined tables are written.

    Returns
    -------
    list of Path
        One table for each shard, all with the same columns.

    Raises
    ------
    ValueError
        If two tables do not list the same objects.
    """
    headers = [_read_header(path) for path in features]
    columns = max(headers, key=len)[2:]
    joined = []
    for number, (objects_path, features_path) in enumerate(zip(objects, features, strict=True)):
        joined.append(room / f"{number}.csv")
        with (
            objects_path.open(encoding="utf-8", newline="") as left,
            Path(features_path).open(encoding="utf-8", newline="") as right,
            joined[-1].open("w", encoding="utf-8", newline="") as output,
        ):
            writer, rows, measured = csv.writer(output, lineterminator="\n"), csv.reader(left), csv.DictReader(right)
            header = next(rows)
            keys = [header.index(name) for name in ("sample", "object")]
            writer.writerow([*header, *columns])
            for row, values in itertools.zip_longest(rows, measured):
                if row is None or values is None or [row[key] for key in keys] != [values["sample"], values["object"]]:
                    raise ValueError(
                        f"{features_path}: expected the objects of {objects_path}, found others. Run snakemake again "
                        "with --forcerun postprocess_features."
                    )
                writer.writerow([*row, *(values.get(name, "") for name in columns)])
    return joined


def _read_header(path: str | Path) -> list[str]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream))


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
