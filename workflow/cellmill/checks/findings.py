"""Compare the images and annotations of a dataset, and describe what is unusual about them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ["severity", "sample", "where", "finding", "advice"]
IMAGE_COLUMNS = [
    *("sample", "split", "shard", "sequence", "rows", "columns", "dtype", "channels", "pixel_height_um"),
    *("pixel_width_um", "minimum", "maximum", "mean", "contrast", "saturated_fraction", "significant_bits", "focus"),
    "sha256",
]
ANNOTATION_COLUMNS = [
    *("sample", "split", "objects", "min_area_px", "q05_area_px", "median_area_px", "q95_area_px", "max_area_px"),
    *("touching_border", "overlapping", "contested_px", "with_holes", "in_parts", "empty", "broken", "ignored_px"),
    "covered_fraction",
]
SEVERITIES = ("error", "warning", "note")
SHOWN_SAMPLES = 3
# With fewer images the median is no reliable reference for outliers.
ENOUGH_IMAGES = 10
# SOURCE Iglewicz and Hoaglin 1993: modified z-scores beyond 3.5 are potential outliers
OUTLIER = -3.5
# Fraction of the median below which an outlier is reported.
LOW_SHARE = {"focus": 0.5, "contrast": 0.25, "mean": 0.25}
LOW_ADVICE = {
    "focus": "Check whether the image is blurred, or whether a bright clump outshines sharp cells",
    "contrast": "Check whether the image contains anything to train on",
    "mean": "Check whether the exposure failed, or whether the field is empty",
}
TINY_SHARE = 0.01
TINY_PX = 4
PIXEL_TOLERANCE = 0.01


def describe_remarks(remarks: Iterable[str]) -> list[dict[str, str]]:
    """Convert remarks from the scan and the split to notes; text before the first colon is the location."""
    findings = []
    for remark in remarks:
        where, separator, text = remark.partition(": ")
        findings.append(_finding("note", text if separator else remark, "", where=where if separator else ""))
    return findings


def compare_images(images: Sequence[Mapping[str, Any]], *, dataset: str) -> list[dict[str, str]]:
    """Find differing kinds of images, and images that are dark, flat or out of focus compared with the others.

    Parameters
    ----------
    images : sequence of mappings
        From `read_shards`.
    dataset : str
        Location reported in the findings.

    Returns
    -------
    list of dict
        One finding for each property that differs between images, and one for each image with a low outlier.
    """
    findings = []
    for name, texts, advice in (
        ("pixel types", [image["dtype"] for image in images], "Export all images in the same way"),
        (
            "numbers of channels",
            [_colours(image["channels"]) for image in images],
            "Use one kind of image per dataset",
        ),
        (
            "brightness scales",
            ["MinIsWhite" if image.get("is_min_is_white") else "MinIsBlack" for image in images],
            "MinIsWhite images were inverted, as viewers show them; export all images in the same way",
        ),
        ("pixel sizes", _pixel_sizes(images), "Set preprocess.rescale.pixel_size_um, or use separate datasets"),
    ):
        tally = Counter(text for text in texts if text)
        if len(tally) > 1:
            shown = ", ".join(f"{text} ({count} images)" for text, count in tally.most_common(4))
            findings.append(_finding("warning", f"images have different {name}: {shown}", advice, where=dataset))
    if len({image["dtype"] for image in images}) == 1:
        findings += _find_low(images, "mean", "dark: mean {value:.4g}, median of all images {usual:.4g}")
    findings += _find_low(images, "contrast", "flat: standard deviation {value:.3g}, median of all images {usual:.3g}")
    findings += _find_low(images, "focus", "out of focus: focus measure {value:.2g}, median of all images {usual:.2g}")
    return findings


def compare_annotations(
    truths: Sequence[Mapping[str, Any]], *, areas_px: np.ndarray, dataset: str
) -> list[dict[str, str]]:
    """Find irregularities in the annotated objects of a dataset.

    Parameters
    ----------
    truths : sequence of mappings
        From `read_shards`.
    areas_px : ndarray of int
        Areas of all objects.
    dataset : str
        Location reported in the findings.

    Returns
    -------
    list of dict
        Notes, at most one of each kind: tiny objects, overlaps, fragmented objects, and images without an object.
    """
    counts = {
        key: sum(truth[key] for truth in truths) for key in ("objects", "overlapping", "contested_px", "in_parts")
    }
    said = []
    limit = max(float(TINY_PX), TINY_SHARE * float(np.median(areas_px)) if areas_px.size else 0.0)
    if tiny := int(np.count_nonzero(areas_px < limit)):
        said.append((f"{tiny} of {counts['objects']} objects are tiny, below {limit:.3g} px",
                     "Check whether they are annotation errors; annotations.min_object_px removes them"))  # fmt: skip
    if counts["overlapping"]:
        said.append((f"{counts['overlapping']} of {counts['objects']} objects overlap, in {counts['contested_px']} px",
                     "See overlaps.csv of the labels; a shared pixel goes to the smaller object"))  # fmt: skip
    if counts["in_parts"]:
        said.append((f"{counts['in_parts']} of {counts['objects']} objects consist of separate parts",
                     "Set annotations.fragments to split or reduce them; the default keeps one object"))  # fmt: skip
    without = [truth["sample"] for truth in truths if not truth["objects"]]
    if without and truths and np.median([truth["objects"] for truth in truths]) >= 1:
        names = _name(without)
        said.append((f"{len(without)} of {len(truths)} annotated images contain no objects ({names})",
                     "Check whether their annotation is missing"))  # fmt: skip
    return [_finding("note", text, advice, where=dataset) for text, advice in said]


def describe_files(dataset: str, files: Mapping[str, Any]) -> list[str]:
    """Return a line on the files that are read and left out, or nothing for a simulation.

    Parameters
    ----------
    dataset : str
        Name of the dataset.
    files : mapping
        Numbers of files: images, annotations, excluded, orphans (annotation files of no image), others (further files
        in the folders of the images), and names of others in `examples`.
    """
    if not files:
        return []
    line = f"{dataset}: files: {files['images']} of images and {files['annotations']} of annotations are read"
    left = []
    shown = _name(files["examples"]) + (", …" if files["others"] > SHOWN_SAMPLES else "")
    if files["excluded"]:
        left.append(f"{files['excluded']} that match exclude")
    if files["others"]:
        left.append(f"{files['others']} others beside the images ({shown})")
    if files["orphans"]:
        left.append(f"{files['orphans']} of annotations without an image")
    return [line + ("; left out: " + ", ".join(left) if left else "")]


def describe(
    dataset: str,
    *,
    images: Sequence[Mapping[str, Any]],
    truths: Sequence[Mapping[str, Any]],
    areas_px: np.ndarray,
    findings: Sequence[Mapping[str, str]],
) -> list[str]:
    """Summarize a dataset and its findings in a few lines, the most severe findings first."""
    sizes = Counter((image["rows"], image["columns"]) for image in images)
    kinds = Counter(f"{image['dtype']}, {image['channels']} channel(s)" for image in images)
    shown = ", ".join(f"{rows} x {columns}" for (rows, columns), _ in sizes.most_common(3))
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    line = f"{dataset}: {len(images)} images of {shown}{more} px ({'; '.join(kinds)}"
    if images:
        line += f"; values {min(i['minimum'] for i in images):g} to {max(i['maximum'] for i in images):g}"
    lines = [line + ")"]
    if truths:
        counts = [truth["objects"] for truth in truths]
        line = (
            f"{dataset}: {sum(counts)} objects in {len(truths)} annotated images, "
            f"{min(counts)} to {max(counts)} per image"
        )
        if areas_px.size:
            low, middle, high = np.quantile(areas_px, (0.05, 0.5, 0.95))
            line += f"; median area {middle:.4g} px, 90 % from {low:.4g} to {high:.4g} px"
        lines.append(line)
    groups: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for finding in sorted(findings, key=lambda finding: SEVERITIES.index(finding["severity"])):
        groups.setdefault((finding["severity"], finding["advice"] or finding["finding"]), []).append(finding)
    for (severity, _), same in groups.items():
        names = list(dict.fromkeys(finding["sample"] for finding in same if finding["sample"]))
        who = "" if not names else f"{names[0]}: " if len(names) == 1 else f"{len(names)} images ({_name(names)}): "
        alike = " (and similar findings)" if len({finding["finding"] for finding in same}) > 1 else ""
        advice = f" {same[0]['advice']}." if same[0]["advice"] else ""
        lines.append(f"{dataset}: {severity}: {who}{same[0]['finding']}{alike}.{advice}")
    return lines


def read_tables(paths: Sequence[str | Path]) -> dict[str, list[dict[str, Any]]]:
    """Read the tables of `summarize_check`: file stem -> rows; empty numbers become None, names stay text."""
    texts = dict.fromkeys((*COLUMNS, "split", "shard", "sequence", "dtype", "sha256"), str)
    numbers = {name: [""] for name in (*IMAGE_COLUMNS, *ANNOTATION_COLUMNS) if name not in texts}
    tables: dict[str, list[dict[str, Any]]] = {}
    for path in paths:
        table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=numbers)
        rows: list[Any] = table.astype(object).where(table.notna(), None).to_dict("records")
        tables[Path(path).stem] = rows
    return tables


def _find_low(images: Sequence[Mapping[str, Any]], key: str, text: str) -> list[dict[str, str]]:
    """Find the images whose value is a low outlier on a logarithmic scale."""
    known = [image for image in images if image[key] is not None and image[key] > 0]
    if len(known) < ENOUGH_IMAGES:
        return []
    logs = np.log([image[key] for image in known])
    deviations = logs - np.median(logs)
    scale = 1.4826 * float(np.median(np.abs(deviations)))
    usual = float(np.exp(np.median(logs)))
    is_low = (deviations <= OUTLIER * scale) & (deviations < np.log(LOW_SHARE[key]))
    return [
        _finding(
            "note", text.format(value=image[key], usual=usual), LOW_ADVICE[key], where="", sample=str(image["sample"])
        )
        for image, low in zip(known, is_low, strict=True)
        if low
    ]


def _colours(channels: int) -> str:
    # RGB and RGBA count as the same kind
    return "3" if channels == 4 else str(channels)


def _pixel_sizes(images: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the pixel size of each image as text, "" if unknown; sizes within 1 % have the same text."""
    names: list[str] = []
    seen: list[float] = []
    for image in images:
        edge_um = image["pixel_height_um"]
        if edge_um is None:
            names.append("")
            continue
        same = next((known for known in seen if abs(known - edge_um) <= PIXEL_TOLERANCE * known), None)
        if same is None:
            seen.append(edge_um)
        names.append(f"{edge_um if same is None else same:.4g} um")
    return names


def _name(samples: Sequence[str]) -> str:
    rest = f" and {len(samples) - SHOWN_SAMPLES} more" if len(samples) > SHOWN_SAMPLES else ""
    return ", ".join(samples[:SHOWN_SAMPLES]) + rest


def _finding(severity: str, finding: str, advice: str, *, where: str, sample: str = "") -> dict[str, str]:
    return {"severity": severity, "sample": sample, "where": where or sample, "finding": finding, "advice": advice}
