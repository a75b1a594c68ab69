"""Which images to annotate next: the first rows of worklist.csv, and how to correct the predicted labels."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from cellmill.reports.verdict import read_table
from cellmill.reports.wording import Column, Table, count, say_number_of, score, word

SHOWN = 20


def describe_worklist(path: str | Path, *, calibrated: Collection[str]) -> dict[str, Any] | None:
    """Describe the worklist of a dataset.

    Parameters
    ----------
    path : path
        worklist.csv.
    calibrated : collection of str
        Models whose confidence was fitted to annotated objects.

    Returns
    -------
    dict or None
        unlabelled and tested (numbers of images, in words), model, is_calibrated, and table; None for an empty list.
    """
    rows = read_table(path)
    if rows.empty:
        return None
    is_unlabelled = rows["part"] == "unlabelled"
    unlabelled, tested = int(is_unlabelled.sum()), int((~is_unlabelled).sum())
    columns = [
        Column("Place", True),
        Column("Image"),
        Column("Part"),
        Column("Objects", True, "Predicted objects"),
        Column("Confidence", True, "Right objects that are expected, divided by right, wrong and missed ones"),
        *([Column("AP at 0.50", True)] if tested else []),
        Column("Why", False, "Unsure: less confident than most images. Different: unlike the images before it"),
    ]
    cells = [
        [
            count(int(row["rank"])),
            word(row["sample"]),
            word(row["part"]),
            count(float(row["objects"])),
            score(float(row["confidence"])),
            *([score(_number(row["ap_0.50"]))] if tested else []),
            word("" if pd.isna(row["reason"]) else row["reason"]),
        ]
        for row in rows.head(SHOWN).to_dict("records")
    ]
    heading = f"The first {SHOWN} of {say_number_of(len(rows), 'image')}" if len(rows) > SHOWN else "Images in order"
    return {
        "unlabelled": say_number_of(unlabelled, "unlabelled image") if unlabelled else "",
        "tested": say_number_of(tested, "annotated image") if tested else "",
        "model": str(rows["model"].iloc[0]),
        "is_calibrated": rows["model"].iloc[0] in calibrated,
        "table": Table("worklist", heading, columns, cells, source="worklist.csv"),
    }


def _number(value: Any) -> float | None:
    return None if pd.isna(value) or value == "" else float(value)
