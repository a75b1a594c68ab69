"""Read the objects of one sample, whatever the format of its annotation."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cellmill.annotations.codes import read_ignored
from cellmill.annotations.formats import ANNOTATION_FORMATS, FORMATS_OF_CORRECTIONS
from cellmill.annotations.instance import AnnotationSettings, Instance


def open_table(annotations: AnnotationSettings, *, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Read the entries of a shard's samples from the file that all samples share; None for other formats."""
    read = _function_of(annotations, "table_reader")
    if read is None:
        return None
    names = {row["sample"]: row.get("entry", row["sample"]) for row in samples}
    table = read(annotations, samples=list(names.values()))
    return {sample: table[name] for sample, name in names.items() if name in table}


def has_annotation(row: Mapping[str, Any], *, table: Mapping[str, Any] | None) -> bool:
    """Check whether a sample has an annotation, even an empty one."""
    if row.get("correction"):
        return True
    return row["sample"] in table if table is not None else bool(row["annotations"])


def take_correction(
    row: Mapping[str, Any], *, annotations: AnnotationSettings, table: Mapping[str, Any] | None
) -> tuple[Mapping[str, Any], AnnotationSettings, Mapping[str, Any] | None]:
    """Return how an image's objects are read: by its correction if it has one, else as given.

    A correction is read in the format of its suffix and not repaired; sizes and fragments are judged as before.
    """
    path = row.get("correction")
    if not path:
        return row, annotations, table
    blank = dict.fromkeys(("table", "order", "sample_column", "rle_column", "object_column", "foreground", "tracks"))
    blank |= dict.fromkeys(("markers", "ignore_value", "object_type"))
    form = FORMATS_OF_CORRECTIONS[Path(path).suffix.lower()]
    own = {**annotations, **blank, "format": form, "path": path, "repair": "none"}
    corrected = {**row, "annotations": [path], "is_annotated_as_stack": False}
    return corrected, cast(AnnotationSettings, own), None


def explain_missing(
    samples: Sequence[Mapping[str, Any]],
    *,
    annotations: AnnotationSettings,
    table: Mapping[str, Any] | None,
    missing: str,
) -> list[str]:
    """List the samples without annotation in a message, if every sample needs one.

    Parameters
    ----------
    samples, annotations, missing
        As in `rasterize_shard`.
    table : mapping or None
        From `open_table`.

    Returns
    -------
    list of str
        One message for all samples, or none.
    """
    lacking = [row["sample"] for row in samples if not has_annotation(row, table=table)]
    if missing == "empty" or not lacking:
        return []
    names = ", ".join(lacking[:5]) + (" and others" if len(lacking) > 5 else "")
    return [
        f"{annotations['table'] or annotations['path']}: expected an annotation for every image, found none for "
        f"{len(lacking)} of {len(samples)}: {names}. "
        "Add them, or set annotations.missing to unlabelled (prediction only) or to empty (images without objects)."
    ]


def read_instances(
    row: Mapping[str, Any],
    *,
    shape: tuple[int, int],
    annotations: AnnotationSettings,
    table: Mapping[str, Any] | None,
) -> list[Instance]:
    """Read the objects of one sample in any format.

    Parameters
    ----------
    row : mapping
        Row of the sample table.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section.
    table : mapping or None
        From `open_table`.

    Returns
    -------
    list of Instance
        In the order of the annotations, including ignored regions; empty if there is no annotation.

    Raises
    ------
    ValueError
        If the annotation cannot be used; one line per fault.
    """
    if not has_annotation(row, table=table):
        return []
    read = _function_of(annotations, "reader")
    assert read is not None
    instances: list[Instance] = read(row, shape=shape, annotations=annotations, table=table)
    return instances + read_ignored(row, shape=shape)


def remark_on_reading(
    row: Mapping[str, Any], instances: Sequence[Instance], *, annotations: AnnotationSettings
) -> list[tuple[str, str, str]]:
    """Return the remarks (severity, text, advice) of a format on the objects of one sample; most formats have none."""
    remark = _function_of(annotations, "remarks")
    return [] if remark is None else remark(row, instances)


def _function_of(annotations: Mapping[str, Any], role: str) -> Callable[..., Any] | None:
    """Load a function that the module of a format declares; None if it declares none of this role.

    The module is loaded by name. The rules add it to the digests of a job's code, so that an edit of a reader reruns
    the datasets of its formats only.
    """
    facts = ANNOTATION_FORMATS[annotations["format"]]
    return getattr(importlib.import_module(facts["module"]), facts[role]) if role in facts else None
