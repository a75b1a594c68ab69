"""Table of the annotation formats, and the function that reads the objects of one sample in any of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cellmill.annotations.coco import read_coco, read_coco_table
from cellmill.annotations.color_components import read_color_components
from cellmill.annotations.ctc import read_ctc
from cellmill.annotations.imagej_roi import read_imagej_roi
from cellmill.annotations.instance import Instance
from cellmill.annotations.masks import read_binary, read_ignored, read_label_image, read_mask_folder
from cellmill.annotations.table import read_rle, read_rle_table

# format -> reader of the objects of one sample
READERS: dict[str, Callable[..., list[Instance]]] = {
    "rle": read_rle,
    "coco": read_coco,
    "mask_folder": read_mask_folder,
    "label_image": read_label_image,
    "binary": read_binary,
    "ctc": read_ctc,
    "color_components": read_color_components,
    "imagej_roi": read_imagej_roi,
}
# format -> reader of a file that all samples share, called once per shard
TABLE_READERS: dict[str, Callable[..., dict[str, Any]]] = {
    "rle": read_rle_table,
    "coco": read_coco_table,
}


def open_table(annotations: Mapping[str, Any], *, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Read the entries of a shard's samples from the file that all samples share; None for other formats."""
    if annotations["format"] not in TABLE_READERS:
        return None
    return TABLE_READERS[annotations["format"]](annotations, samples=[row["sample"] for row in samples])


def has_annotation(row: Mapping[str, Any], *, table: Mapping[str, Any] | None) -> bool:
    """Check whether a sample has an annotation, even an empty one."""
    return row["sample"] in table if table is not None else bool(row["annotations"])


def explain_missing(
    samples: Sequence[Mapping[str, Any]],
    *,
    annotations: Mapping[str, Any],
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
    annotations: Mapping[str, Any],
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
    instances = READERS[annotations["format"]](row, shape=shape, annotations=annotations, table=table)
    return instances + read_ignored(row, shape=shape)
