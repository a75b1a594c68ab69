"""Stage export: write the objects of a run as one tidy table."""

import csv
import gzip
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.objects.tables import KEYS, facts_of_images
from cellmill.objects.units import unit_of_column
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)


def export_table(*, output_path: str | Path, objects_path: str | Path, samples: Sequence[Mapping[str, Any]]) -> None:
    """Write one row for each object and feature.

    Parameters
    ----------
    output_path : path
        objects.tidy.csv.gz with the columns sample, those of the sample table, object, feature, unit and value, in the
        order of objects.csv. A feature is a column of objects.csv and its value has the same digits; an empty cell has
        no row. Equal tables give equal bytes.
    objects_path : path
        objects.csv of the run.
    samples : sequence of mapping
        Rows of the sample table: sample, and what is known of the image, such as sequence, frame, class and part.
    """
    names, facts = facts_of_images(samples)
    count = 0
    with (
        Path(objects_path).open(encoding="utf-8", newline="") as stream,
        atomic_path(output_path) as partial,
        partial.open("wb") as raw,
        # without a name and a time
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as output,
    ):
        writer = csv.writer(output, lineterminator="\n")
        writer.writerow(["sample", *names, "object", "feature", "unit", "value"])
        rows = csv.DictReader(stream)
        features = [(name, unit_of_column(name)) for name in rows.fieldnames or () if name not in KEYS]
        for row in rows:
            head = [row["sample"], *facts[row["sample"]], row["object"]]
            writer.writerows([*head, name, unit, row[name]] for name, unit in features if row[name] != "")
            count += 1
    logger.info("%d objects, %d features", count, len(features), extra={"progress": True})
