"""Gathers what the check stage found in the shards of a dataset, for the terminal and the report."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)

COLUMNS = ["severity", "sample", "where", "finding", "advice"]
SHOWN_SAMPLES = 3


def summarize_check(*, output_path: str | Path, findings_paths: Sequence[str | Path], dataset: str) -> None:
    """Write the findings of a dataset as one table and tell the terminal what matters.

    Parameters
    ----------
    output_path : path
        CSV with one row a finding; only its header where nothing is odd.
    findings_paths : sequence of path
        The JSON files of ``check_shard``.
    dataset : str
        Name of the dataset.
    """
    shards: list[dict[str, Any]] = [json.loads(Path(path).read_text(encoding="utf-8")) for path in findings_paths]
    images = [image for shard in shards for image in shard["images"]]
    truths = [truth for shard in shards for truth in shard["annotations"]]
    findings = [finding for shard in shards for finding in shard["findings"]]
    findings += find_duplicates(images)
    with atomic_path(output_path) as partial:
        pd.DataFrame(findings, columns=COLUMNS).to_csv(partial, index=False)
    for line in describe(dataset, images=images, truths=truths, findings=findings):
        logger.info(line, extra={"progress": True})


def find_duplicates(images: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """Find image files that are equal to the last byte, in whichever shards: one may train while the other judges."""
    first: dict[str, str] = {}
    findings = []
    for image in images:
        twin = first.setdefault(image["sha256"], image["sample"])
        if twin != image["sample"]:
            findings.append(
                {
                    "severity": "warning",
                    "sample": image["sample"],
                    "where": image["sample"],
                    "finding": f"the file is the same as that of {twin}",
                    "advice": "Leave one out: on two sides of the split it would be judged on what it learnt",
                }
            )
    return findings


def describe(
    dataset: str,
    *,
    images: Sequence[dict[str, Any]],
    truths: Sequence[dict[str, Any]],
    findings: Sequence[dict[str, str]],
) -> list[str]:
    """Say in a few lines what a dataset is and what is odd about it."""
    sizes = Counter((image["rows"], image["columns"]) for image in images)
    kinds = Counter(f"{image['dtype']}, {image['channels']} channel(s)" for image in images)
    shown_sizes = ", ".join(f"{rows} x {columns}" for (rows, columns), _ in sizes.most_common(3))
    more = f" and {len(sizes) - 3} other sizes" if len(sizes) > 3 else ""
    objects = sum(truth["objects"] for truth in truths)
    lines = [
        f"{dataset}: {len(images)} images of {shown_sizes}{more} px ({'; '.join(kinds)}); "
        f"{objects} objects in {len(truths)} annotated images"
    ]
    by_finding: dict[tuple[str, str], list[dict[str, str]]] = {}
    for finding in findings:
        by_finding.setdefault((finding["severity"], finding["advice"]), []).append(finding)
    for (severity, advice), same in by_finding.items():
        names = ", ".join(finding["sample"] for finding in same[:SHOWN_SAMPLES])
        rest = f" and {len(same) - SHOWN_SAMPLES} more" if len(same) > SHOWN_SAMPLES else ""
        lines.append(f"{dataset}: {severity}: {names}{rest}: {same[0]['finding']}. {advice}.")
    return lines
