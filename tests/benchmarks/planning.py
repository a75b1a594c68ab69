"""Cost of planning 25,000 images with labels, and of starting a job, against limits and the start of Snakemake."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Row

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/experiments"))
IMAGES = 25_000
# Targets: nothing to do within 10 s, one more image within 2 s more
NOTHING_S, ADDED_S = 10.0, 2.0
# Target: a job that has next to nothing to do and loads no PyTorch
START_S = 1.5


def many_images() -> "list[Row]":
    """Time dry runs of a finished dataset: nothing to do, and one more image."""
    from bench import Row
    from scale import measure_size

    jobs, costs = measure_size(IMAGES)
    nothing, added = costs["nothing to do"].seconds, costs["one more image"].seconds
    what = f"dry run on {IMAGES:,} images, {jobs} jobs, nothing to do"
    empty, version = costs["as many empty jobs"].seconds, costs["snakemake --version"].seconds
    return [
        Row(what, nothing, "limit", NOTHING_S, NOTHING_S / nothing, "> 1"),
        Row(what, nothing, "as many empty jobs", empty, empty / nothing, "> 0.1"),
        Row(what, nothing, "snakemake --version", version, version / nothing, "> 0.1"),
        Row("the same with one more image", added, "limit", nothing + ADDED_S, (nothing + ADDED_S) / added, "> 1"),
    ]


def short_jobs() -> "Row":
    """Time the jobs of all stages on tiny images, and return the slowest of those that do not load PyTorch."""
    from bench import Row
    from starts import FITS, WITH_TORCH, measure_starts

    starts = {stage: seconds for stage, seconds in measure_starts().items() if stage not in (*WITH_TORCH, *FITS)}
    slowest = max(starts, key=lambda stage: starts[stage])
    seconds = starts[slowest]
    what = f"a job on 64 x 64 px, slowest of {len(starts)} stages: {slowest}"
    return Row(what, seconds, "limit", START_S, START_S / seconds, "> 1")
