"""Cost of scores and report pages: matching against StarDist's, evaluation and report of a thousand images."""

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bench import Row

ROOT = Path(__file__).resolve().parents[2]
SIDE, PITCH = 2048, 45
MANY, FEW = 1000, 200
# Images per shard, the default of `images_per_job`
SHARD = 200
IMAGE = 256
# Target time for the page of a thousand images, s
PAGE_S = 60.0


def objects(seed: int) -> np.ndarray:
    """Draw 2,025 discs of radius 12 to 20 on 2048 x 2048 px, each moved by up to 3 px."""
    rng = np.random.default_rng(seed)
    labels_yx = np.zeros((SIDE, SIDE), dtype=np.int32)
    down, across = np.indices((PITCH, PITCH))
    for number, (row, column) in enumerate(np.ndindex(SIDE // PITCH, SIDE // PITCH), start=1):
        middle, radius = PITCH / 2 + rng.uniform(-3, 3, 2), rng.uniform(12, 20)
        part = labels_yx[row * PITCH : (row + 1) * PITCH, column * PITCH : (column + 1) * PITCH]
        part[(down - middle[0]) ** 2 + (across - middle[1]) ** 2 <= radius**2] = number
    return labels_yx


def instance_matching() -> "Row | None":
    """Time matching of 2,025 objects at ten thresholds: all our scores against StarDist's matching, equal counts."""
    from bench import compare

    from cellmill.metrics.instance import IOU_PERCENT, count_objects, count_overlaps

    path = ROOT / ".venv/oracles/stardist/matching.py"
    if not path.is_file():
        print("matching is left out: `make test-environment` installs StarDist's", file=sys.stderr)
        return None
    # Imports that matching does not need are stubbed. Numba, which makes it fast, is in requirements-bench.txt.
    csbdeep = types.ModuleType("csbdeep.utils")
    csbdeep._raise = None  # type: ignore[attr-defined]
    sys.modules |= {"csbdeep": types.ModuleType("csbdeep"), "csbdeep.utils": csbdeep}
    spec = importlib.util.spec_from_file_location("stardist_matching", path)
    assert spec is not None
    assert spec.loader is not None
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    truth, predicted = objects(1), objects(2)
    everywhere = np.ones(truth.shape, dtype=bool)
    thresholds = [percent / 100 for percent in IOU_PERCENT]

    def ours() -> dict[str, Any]:
        return count_objects(count_overlaps(predicted, truth, valid_yx=everywhere))

    def theirs() -> Any:
        return peer.matching(truth, predicted, thresh=thresholds)

    assert ours()["matches_inclusive"] == [found.tp for found in theirs()]
    return compare("matching of 2,025 objects, 2048 x 2048, ten thresholds", ours, "StarDist", theirs, "> 3")


def run_images(images: int, what: str) -> tuple[float, float]:
    """Evaluate images, or write their page, in a separate process; return peak memory in MB and seconds."""
    command = [sys.executable, __file__, what, str(images)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    peak_mb, seconds = done.stdout.split()
    return float(peak_mb), float(seconds)


def flat_evaluation() -> tuple[float, float]:
    """Measure the peak memory, MB, of evaluating 200 and 1,000 images of 256 x 256 px, shard by shard."""
    return run_images(FEW, "evaluate")[0], run_images(MANY, "evaluate")[0]


def large_report() -> "Row":
    """Time the page of 1,000 images, all of them test images."""
    from bench import Row

    _, seconds = run_images(MANY, "report")
    return Row("report on 1,000 images", seconds, "a minute", PAGE_S, PAGE_S / seconds, "> 1")


def main(what: str, images: int) -> None:
    """Run the job, and print the peak memory of the process in MB and the seconds of the work."""
    sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]
    from report_example import build_example

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = tuple(f"image{number:04d}" for number in range(images if what == "report" else SHARD))
        arguments = build_example(folder, test_names=names, shape=(IMAGE, IMAGE))
        start = time.perf_counter()
        if what == "report":
            from cellmill.stages.report import write_report

            write_report(output_path=folder / "report.html", **arguments)
            assert (folder / "report.html").stat().st_size < 15e6
        else:
            from cellmill.planning.layout import EVALUATED
            from cellmill.stages.evaluate import summarize_evaluation
            from cellmill.stages.evaluate_shard import evaluate_shard

            run = arguments["runs"][0]
            # The same images each time, which makes no difference to memory
            paths = [folder / f"evaluation/test-{number:04d}.json" for number in range(images // SHARD)]
            for path in paths:
                evaluate_shard(
                    output_path=path, images_dir=folder / "images/test-0000", labels_dir=folder / "labels/test-0000",
                    probabilities_dir=run["probabilities"]["test-0000"],
                    segmentation_dir=run["segmentation"]["test-0000"], fit_path=run["postprocess"], split="test",
                    model="narrow", seed=7, isbi2012=False, border_tolerance_px=2, groups={}, exclude_border=False,
                )  # fmt: skip
            tables = {f"{table}_path": folder / f"out_{table}.csv" for table in EVALUATED}
            summarize_evaluation(**tables, shard_paths=paths, bootstrap=1000, seed=0)
        seconds = time.perf_counter() - start
    # ru_maxrss would start from the memory of the parent.
    peak_kb = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
    print(f"{int(peak_kb) * 1024 / 1e6:.0f} {seconds:.2f}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
