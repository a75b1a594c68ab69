"""Stage check, first rule: inspect the images and annotations of a shard before any expensive job starts."""

import csv
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.instance import AnnotationSettings, Instance
from cellmill.annotations.reading import (
    explain_missing,
    has_annotation,
    open_table,
    read_instances,
    remark_on_reading,
    take_correction,
)
from cellmill.checks.evidence import measure_evidence
from cellmill.checks.pictures import remark_on_defects, remark_on_masks, remark_on_picture
from cellmill.checks.plausibility import TwoReadings, compare_readings, explain_order, measure_objects
from cellmill.checks.quality import SATURATED_FRACTION, PixelDigest, measure_plane
from cellmill.images.channels import Channel, has_alpha, select_channel
from cellmill.images.content import explain_changes, record_files
from cellmill.images.files import raise_together, read_plane
from cellmill.images.rasters import Raster, open_raster
from cellmill.preprocessing.hot_pixels import DefectSearch
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)

# Relative difference up to which two pixel edge lengths count as equal.
PIXEL_TOLERANCE = 0.01
# Objects that cover a larger fraction of an image may be its background, annotated by mistake.
MOST_COVERED = 0.95
MOST_COVERED_BINARY = 0.5
# Images with more pixels are not read as a whole to determine the order of RLE runs.
ORDER_PIXELS = 2**24


CORRECTED = ("note", "a correction takes the place of the annotation", "Remove the file to use the annotation again")


def check_shard(
    *,
    output_path: str | Path,
    samples: Sequence[Mapping[str, Any]],
    channel: Channel,
    pixel_size_um: float | None,
    annotations: AnnotationSettings | None,
    missing: str,
    raw_dirs: Sequence[str | Path] = (),
    further_channels: Sequence[Channel] = (),
) -> None:
    """Read every image and annotation of a shard once and write measurements and findings.

    Parameters
    ----------
    output_path : path
        JSON with `images` (size, type, range and focus), `annotations` (objects per image), `findings`, and `files`
        (size, time and SHA-256 of the files that were not read for the plan).
    samples : sequence of mappings
        Rows of the sample table; `sequence` and `plane` may be missing.
    channel : "luminance", int, sequence of float, or the name of a channel
        How to reduce several channels to one plane, as in `read_plane`.
    pixel_size_um : float or None
        Edge length of a pixel from the config.
    annotations : mapping or None
        The config section; None for a dataset without annotations.
    missing : "error", "unlabelled" or "empty"
        How to treat an image without annotation.
    raw_dirs : sequence of paths
        Output folder of the stage simulate; empty unless the images are simulated.
    further_channels : sequence of int or str
        Channels that every image needs besides `channel`.

    Raises
    ------
    ValueError
        If anything would spoil a result; lists all problems, and no file is written.
    """
    table = open_table(annotations, samples=samples) if annotations is not None else None
    problems: list[str] = []
    findings: list[dict[str, str]] = []
    images: list[dict[str, Any]] = []
    truths: list[dict[str, Any]] = []
    readings: dict[str, TwoReadings] = {}
    if annotations is not None and missing == "error":
        problems += explain_missing(samples, annotations=annotations, table=table, missing=missing)
    for row in samples:
        try:
            image, remarks = describe_image(row, channel=channel, pixel_size_um=pixel_size_um)
            find_channels(row, further_channels)
            images.append(image)
            findings += remarks
            if annotations is None or not (has_annotation(row, table=table) or missing == "empty"):
                continue
            shape = (image["rows"], image["columns"])
            row, own, own_table = take_correction(row, annotations=annotations, table=table)
            instances = read_instances(row, shape=shape, annotations=own, table=own_table)
            if own["format"] == "rle":
                assert own["order"] is not None
                coded, order = instances, own["order"]
            else:
                coded, order = [instance for instance in instances if instance.order], "column"
            if coded:
                readings[row["sample"]] = read_both_ways(row, coded, shape=shape, order=order, channel=channel)
        except ValueError as error:
            problems.append(str(error))
            continue
        if path := row.get("correction"):
            findings += _findings([CORRECTED], row, path)
        for path, remark in remark_on_masks(row, annotations=own):
            findings += _findings([remark], row, path)
        truth, remarks = describe_objects(row, instances, shape=shape, annotations=own)
        truths.append(truth)
        findings += remarks
    if annotations is not None:
        problems += explain_order(readings, annotations=annotations)
    problems += explain_changes(samples)
    raise_together(problems, subject="data")
    for raw_dir in raw_dirs:
        findings += describe_places(raw_dir)
    for finding in findings:
        logger.info("%(severity)s: %(sample)s: %(finding)s. %(advice)s.", finding)
    logger.info("%d images, %d annotated, %d findings", len(images), len(truths), len(findings))
    with atomic_path(output_path) as partial:
        content = {"images": images, "findings": findings, "annotations": truths, "files": record_files(samples)}
        partial.write_text(json.dumps(content) + "\n", encoding="utf-8")


def describe_places(raw_dir: str | Path) -> list[dict[str, str]]:
    """Report simulated cells that could not be placed, so that images contain fewer cells than configured."""
    with (Path(raw_dir) / "images.csv").open(newline="", encoding="utf-8") as stream:
        rows = [(row["sample"], int(row["cells"]), int(row["failed"])) for row in csv.DictReader(stream)]
    short = [row for row in rows if row[2] > 0]
    if not short:
        return []
    failed, asked = sum(row[2] for row in short), sum(row[1] + row[2] for row in rows)
    return [
        {
            "severity": "note",
            "sample": "",
            "where": str(raw_dir),
            "finding": f"{failed} of {asked} simulated cells could not be placed, in {len(short)} of {len(rows)} "
            f"images ({', '.join(row[0] for row in short[:3])}{', …' if len(short) > 3 else ''})",
            "advice": "Increase overlap.limit, overlap.attempts or size, or reduce the number of cells",
        }
    ]


def find_channels(row: Mapping[str, Any], channels: Sequence[Channel]) -> None:
    """Check that an image has these channels.

    Raises
    ------
    ValueError
        If it lacks one.
    """
    if channels:
        raster = open_raster(row["image"], palette="colours", plane=row.get("plane", ()))
        for channel in channels:
            raster.channel_reader(channel)(0, 1)


def describe_image(
    row: Mapping[str, Any], *, channel: Channel, pixel_size_um: float | None
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Measure one raw image, band by band.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `image`, `plane` and `sequence` are read.
    channel : "luminance", int, sequence of float, or the name of a channel
        How to reduce several channels to one plane, as in `read_plane`.
    pixel_size_um : float or None
        Edge length of a pixel from the config.

    Returns
    -------
    dict
        sample, sequence, rows, columns, dtype, channels, is_min_is_white, pixel_size_um ((row, column) from the
        metadata, or None), the results of `measure_plane` for the chosen plane, and sha256 of the pixels.
    list of dict
        Findings.

    Raises
    ------
    ValueError
        If the image cannot be read.
    """
    whole = open_raster(row["image"], palette="colours", plane=row.get("plane", ()))
    raster, channel = whole.choose(channel)
    digest, search = PixelDigest(), DefectSearch(raster.shape)
    # a weighted sum has no maximum at which it saturates
    is_counted = raster.dtype.kind in "ui" and isinstance(channel, str | int)
    image = {
        "sample": row["sample"],
        "sequence": row.get("sequence", ""),
        "rows": raster.shape[0],
        "columns": raster.shape[1],
        "dtype": raster.dtype.name,
        "channels": whole.channels,
        "is_min_is_white": raster.layout.is_min_is_white,
        "pixel_size_um": list(raster.pixel_size_um) if raster.pixel_size_um else None,
        **measure_plane(
            _read_planes(raster, channel=channel, digest=digest, search=search),
            shape=raster.shape,
            top=int(np.iinfo(raster.dtype).max) if is_counted else None,
        ),
        "sha256": digest.result(raster.shape),
    }
    remarks = _remark_on_intensities(image, is_mixed=channel == "luminance" and not digest.is_grey)
    remarks += _remark_on_pixel_size(image["pixel_size_um"], pixel_size_um)
    remarks += remark_on_defects(search.result())
    remarks += remark_on_picture(raster.layout, path=raster.path, pixel_size_um=pixel_size_um)
    if Path(row["image"]).suffix.lower() in (".jpg", ".jpeg"):
        remarks.append(("note", "JPEG compression changes intensities", "Use the original file from the microscope"))
    return image, _findings(remarks, row, row["image"])


def describe_objects(
    row: Mapping[str, Any],
    instances: Sequence[Instance],
    *,
    shape: tuple[int, int],
    annotations: AnnotationSettings,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Count the annotated objects of one image.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample` is read.
    instances : sequence of Instance
        Annotated objects of the image.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section.

    Returns
    -------
    dict
        sample, and the results of `measure_objects` and `measure_evidence`.
    list of dict
        Findings.
    """
    truth = {
        "sample": row["sample"],
        **measure_objects(instances, shape=shape),
        **measure_evidence(instances, shape=shape, annotations=annotations),
    }
    remarks = remark_on_reading(row, instances, annotations=annotations) if instances else []
    if truth["empty"]:
        text = f"{truth['empty']} of {len(instances)} annotations contain no pixels"
        remarks.append(("warning", text, "Draw them again, or delete them"))
    if truth["broken"]:
        phrases = sorted({instance.broken for instance in instances if instance.broken})
        shown = "; ".join(phrases[:2]) + (f" and {len(phrases) - 2} other faults" if len(phrases) > 2 else "")
        text = f"{truth['broken']} of {len(instances)} annotations are broken ({shown})"
        remarks.append(("warning", text, "Draw them again; faults.csv in the labels folder lists them"))
    is_binary = annotations["format"] == "binary"
    # a confluent field has many objects; background annotated by mistake is a single large object
    largest = max(truth["areas_px"], default=0) / (shape[0] * shape[1])
    is_covered = truth["covered_fraction"] > (MOST_COVERED_BINARY if is_binary else MOST_COVERED)
    if is_covered and (is_binary or largest > MOST_COVERED / 2):
        other = {"None": "zero", "nonzero": "zero", "zero": "nonzero"}.get(
            str(annotations["foreground"]), "another number"
        )
        advice = f"If these objects are the background, set annotations.foreground to {other}; tissue can be this dense"
        if not is_binary:
            advice = "Check whether the background was annotated as an object"
        remarks.append(("note", f"objects cover {truth['covered_fraction']:.0%} of the image", advice))
    return truth, _findings(remarks, row, annotations["table"] or annotations["path"])


def read_both_ways(
    row: Mapping[str, Any],
    instances: Sequence[Instance],
    *,
    shape: tuple[int, int],
    order: str,
    channel: Channel,
) -> TwoReadings:
    """Compare the two orders of RLE runs on one image, without reading the pixels of a very large image.

    Raises
    ------
    ValueError
        If the image cannot be read.
    """
    is_small = shape[0] * shape[1] <= ORDER_PIXELS
    image_yx = read_plane(row["image"], channel=channel, plane=row.get("plane", ())) if is_small else None
    return compare_readings(instances, shape=shape, order=order, image_yx=image_yx)


def _read_planes(
    raster: Raster, *, channel: Channel, digest: PixelDigest, search: DefectSearch
) -> Iterator[np.ndarray]:
    """Yield the chosen plane band by band, and add each band to the digest and to the search for defects."""
    for _, band in raster.bands():
        plane_yx = select_channel(
            band, axes=raster.axes, channel=channel, where=raster.path, names=raster.channel_names
        )
        digest.add(band[:, :, :-1] if has_alpha(band, raster.axes) else band, plane_yx)
        search.add(plane_yx)
        yield plane_yx


def _remark_on_intensities(image: Mapping[str, Any], *, is_mixed: bool) -> list[tuple[str, str, str]]:
    remarks = []
    if image["minimum"] == image["maximum"]:
        text = f"every pixel has the value {image['minimum']:g}"
        remarks.append(("warning", text, "Remove the image if it is empty"))
    elif image["saturated_fraction"] > SATURATED_FRACTION:
        top = f"at {image['maximum']:.0f}, the maximum of the camera"
        if image["maximum"] > np.iinfo(image["dtype"]).max - 1:
            top = f"at the maximum of {image['dtype']}"
        text = f"{image['saturated_fraction']:.1%} of the pixels are {top}"
        advice = "Use a shorter exposure, or measure areas only: saturated intensities are not valid measurements"
        remarks.append(("warning", text, advice))
    if is_mixed:
        advice = "Set preprocess.channel to a channel number to use a single dye"
        remarks.append(("note", "colours are converted to luminance", advice))
    return remarks


def _remark_on_pixel_size(found_um: Sequence[float] | None, given_um: float | None) -> list[tuple[str, str, str]]:
    if found_um is None:
        return []
    remarks = []
    down_um, across_um = found_um
    if not _is_close(down_um, across_um):
        text = f"pixels of {down_um:.4g} um along rows and {across_um:.4g} um along columns are not square"
        advice = "Resample the images to square pixels: shapes and areas are measured as if pixels were square"
        remarks.append(("warning", text, advice))
    if given_um is not None and not any(_is_close(edge_um, given_um) for edge_um in found_um):
        text = f"the pixel size is {down_um:.4g} um in the metadata, but {given_um:.4g} um in the config"
        remarks.append(("warning", text, "Correct or remove pixel_size_um; areas and lengths depend on it"))
    return remarks


def _is_close(one: float, other: float) -> bool:
    return abs(one - other) <= PIXEL_TOLERANCE * max(one, other)


def _findings(remarks: Sequence[tuple[str, str, str]], row: Mapping[str, Any], where: Any) -> list[dict[str, str]]:
    return [
        {"severity": severity, "sample": row["sample"], "where": str(where), "finding": text, "advice": advice}
        for severity, text, advice in remarks
    ]
