"""The table of objects of a run, with what is known of the image of each object."""

from collections.abc import Mapping, Sequence
from typing import Any

# Columns of objects.csv that identify an object, and are no measurements
KEYS = ("sample", "object")
# What is known of an image, in the order of the columns; anything else follows
OF_IMAGE = ("sequence", "frame", "class", "group", "part")


def facts_of_images(samples: Sequence[Mapping[str, Any]]) -> tuple[list[str], dict[str, list[Any]]]:
    """Return what the sample table says of each image.

    Parameters
    ----------
    samples : sequence of mapping
        Rows of the sample table, all with the same keys, sample among them.

    Returns
    -------
    list of str
        Names of the columns besides sample.
    dict
        Sample -> values in that order.
    """
    keys = {key for row in samples for key in row} - set(KEYS)
    names = [*(name for name in OF_IMAGE if name in keys), *sorted(keys - set(OF_IMAGE))]
    return names, {str(row["sample"]): [row[name] for name in names] for row in samples}
