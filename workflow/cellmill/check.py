"""Stage check: look at the images and annotations of a shard before anything expensive starts."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.masks import Instance
from cellmill.annotations.rle import decode_crop, encode_crop
from cellmill.images import raise_together, read_array, select_channel
from cellmill.rasterize import explain_missing, has_annotation, open_table, read_instances
from cellmill.shards import atomic_path, file_digest

logger = logging.getLogger(__name__)

# Above this fraction of pixels at the top of the range, intensities are no measurements any more.
SATURATED_FRACTION = 0.01
# An object fills at least this part of its bounding box in most images; runs read in the wrong order do not.
COMPACT_FRACTION = 0.2
# Objects looked at for the order of runs.
ORDER_OBJECTS = 25


def check_shard(
    *,
    output_path: str | Path,
    samples: Sequence[Mapping[str, Any]],
    channel: str | int,
    annotations: Mapping[str, Any] | None,
    missing: str,
) -> None:
    """Read every image and annotation of a shard once and write down what is remarkable.

    Parameters
    ----------
    output_path : path
        JSON with `images` (size, type, range of each), `annotations` (objects of each) and `findings`.
    samples : sequence of mappings
        Rows of the sample table.
    channel : "luminance" or int
        Which plane of an image with several.
    annotations : mapping or None
        The config section; None for a dataset without.
    missing : "error", "unlabelled" or "empty"
        What an image without annotation is.

    Raises
    ------
    ValueError
        One that lists everything that would spoil a result; then no file is written.
    """
    table = open_table(annotations, samples=samples) if annotations is not None else None
    problems: list[str] = []
    findings: list[dict[str, str]] = []
    images: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    misordered: list[str] = []
    if annotations is not None and missing == "error":
        problems += explain_missing(samples, annotations=annotations, table=table, missing=missing)
    for row in samples:
        try:
            image, remarks = describe_image(row, channel=channel)
            images.append(image)
            findings += remarks
            if annotations is None or not (has_annotation(row, table=table) or missing == "empty"):
                continue
            shape = (image["rows"], image["columns"])
            instances = read_instances(row, shape=shape, annotations=annotations, table=table)
        except ValueError as error:
            problems.append(str(error))
            continue
        if annotations["format"] == "rle" and looks_misordered(instances, shape=shape, order=annotations["order"]):
            misordered.append(row["sample"])
        truth, remarks = describe_objects(row, instances, shape=shape, annotations=annotations)
        truths.append(truth)
        findings += remarks
    if annotations is not None:
        problems += explain_order(misordered, annotations=annotations)
    raise_together(problems, subject="data")
    for finding in findings:
        logger.info("%(severity)s: %(sample)s: %(finding)s. %(advice)s.", finding)
    logger.info("%d images, %d annotated, %d findings", len(images), len(truths), len(findings))
    with atomic_path(output_path) as partial:
        content = {"images": images, "findings": findings, "annotations": truths}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def describe_image(row: Mapping[str, Any], *, channel: str | int) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Measure one raw image.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample` and `image` are read.
    channel : "luminance" or int
        Which plane of an image with several.

    Returns
    -------
    dict
        sample, rows, columns, dtype, channels, minimum, maximum, mean (counts of the chosen plane),
        saturated_fraction (of pixels at the largest value of an integer type), sha256 of the file.
    list of dict
        Findings.

    Raises
    ------
    ValueError
        If the image cannot be read.
    """
    path = row["image"]
    array, axes = read_array(path, palette="colours")
    plane_yx = select_channel(array, axes=axes, channel=channel, where=path)
    lowest, highest = float(plane_yx.min()), float(plane_yx.max())
    saturated = _saturated_fraction(array, plane_yx)
    image = {
        "sample": row["sample"],
        "rows": int(array.shape[0]),
        "columns": int(array.shape[1]),
        "dtype": str(array.dtype),
        "channels": 1 if axes == "YX" else int(array.shape[2]),
        "minimum": lowest,
        "maximum": highest,
        "mean": float(plane_yx.mean(dtype=np.float64)),
        "saturated_fraction": saturated,
        "sha256": file_digest(path),
    }
    findings = []
    if lowest == highest:
        findings.append(
            _finding("warning", row, path, f"every pixel is {lowest:g}", "Leave the image out if it holds nothing")
        )
    elif saturated > SATURATED_FRACTION:
        findings.append(
            _finding(
                "warning",
                row,
                path,
                f"{saturated:.1%} of the pixels are at the top of {array.dtype}",
                "Their intensities are no measurements; expose shorter, or read areas only",
            )
        )
    if channel == "luminance" and axes == "YXS" and plane_yx.dtype != array.dtype:
        findings.append(
            _finding(
                "note",
                row,
                path,
                "colours become one luminance",
                "Set preprocess.channel to a number where one dye is wanted",
            )
        )
    if Path(path).suffix.lower() in (".jpg", ".jpeg"):
        findings.append(_finding("note", row, path, "JPEG changes intensities", "Use the file from the microscope"))
    return image, findings


def describe_objects(
    row: Mapping[str, Any],
    instances: Sequence[Instance],
    *,
    shape: tuple[int, int],
    annotations: Mapping[str, Any],
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Count the annotated objects of one image.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample` is read.
    instances : sequence of Instance
        Its objects, as annotated.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section.

    Returns
    -------
    dict
        sample, objects, median_area_px (None without objects), touching_border (objects), empty (annotations
        without a pixel, which are not among the objects).
    list of dict
        Findings.
    """
    where = str(annotations["table"] or annotations["path"])
    objects = [instance for instance in instances if instance.area_px > 0]
    areas = [instance.area_px for instance in objects]
    truth = {
        "sample": row["sample"],
        "objects": len(objects),
        "median_area_px": float(np.median(areas)) if areas else None,
        "touching_border": sum(_touches_border(instance, shape) for instance in objects),
        "empty": len(instances) - len(objects),
    }
    findings = []
    if truth["empty"]:
        findings.append(
            _finding(
                "warning",
                row,
                where,
                f"{truth['empty']} of {len(instances)} annotations hold no pixel",
                "Draw them again, or delete them",
            )
        )
    covered = sum(areas) / (shape[0] * shape[1])
    if annotations["format"] == "binary" and covered > 0.5:
        findings.append(
            _finding(
                "note",
                row,
                where,
                f"objects cover {covered:.0%} of the image",
                "If the background is meant, set annotations.foreground to "
                + ("zero" if annotations["foreground"] == "nonzero" else "nonzero"),
            )
        )
    return truth, findings


def looks_misordered(instances: Sequence[Instance], *, shape: tuple[int, int], order: str) -> bool:
    """Say whether run-length encoded objects become compact when they are read in the other order.

    Parameters
    ----------
    instances : sequence of Instance
        As read in `order`; the first 25 are looked at.
    shape : tuple of int
        (rows, columns) of the image.
    order : "row" or "column"
        How they were read.

    Returns
    -------
    bool
        Always False for a square image: there the wrong order transposes every mask.
    """
    fractions, others = [], []
    for instance in [instance for instance in instances if instance.area_px > 0][:ORDER_OBJECTS]:
        text = encode_crop(instance.mask_yx, order=order, row=instance.row, column=instance.column, shape=shape)
        _, _, other_yx = decode_crop(text, shape=shape, order=_other_order(order), where="check")
        fractions.append(instance.mask_yx.mean())
        others.append(other_yx.mean())
    return bool(fractions) and np.median(fractions) < COMPACT_FRACTION < np.median(others)


def explain_order(samples: Sequence[str], *, annotations: Mapping[str, Any]) -> list[str]:
    """Say for which samples the runs were counted the other way: one message for all, or none."""
    if not samples:
        return []
    other = _other_order(annotations["order"])
    names = ", ".join(samples[:5]) + (" and others" if len(samples) > 5 else "")
    return [
        f"{annotations['table']}: expected compact objects, found streaks across {len(samples)} images ({names}) "
        f"that are compact when runs are counted by {other}. Set annotations.order to {other}."
    ]


def _finding(severity: str, row: Mapping[str, Any], where: str, finding: str, advice: str) -> dict[str, str]:
    return {
        "severity": severity,
        "sample": row["sample"],
        "where": str(where),
        "finding": finding,
        "advice": advice,
    }


def _saturated_fraction(array: np.ndarray, plane_yx: np.ndarray) -> float:
    if array.dtype.kind not in "ui":
        return 0.0
    top = np.iinfo(array.dtype).max
    return float(np.count_nonzero(plane_yx >= top) / plane_yx.size)


def _touches_border(instance: Instance, shape: tuple[int, int]) -> bool:
    rows, columns = instance.box
    return rows.start == 0 or columns.start == 0 or rows.stop == shape[0] or columns.stop == shape[1]


def _other_order(order: str) -> str:
    return {"row": "column", "column": "row"}[order]
