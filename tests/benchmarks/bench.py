"""Speed and memory as ratios against a peer or a physical limit in the same run. `make bench` prints the table.

Each row times both sides alternately and reports the median ratio; absolute times on a shared machine mean little.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from default_model import default_layouts, default_prediction, default_training  # noqa: E402  it imports the library
from distances import flow_fields, two_nearest_cells  # noqa: E402

from annotations import flat_rasterize, rle_decoding  # noqa: E402  it imports the library
from evaluation import flat_evaluation, instance_matching, large_report  # noqa: E402
from objects import bare_forward, flow_tracking, image_files, larger_image, tuned_images  # noqa: E402
from planning import many_images, short_jobs  # noqa: E402  the module is found here
from simulation import flat_simulation, image_with_all_stages, large_image, two_workers  # noqa: E402
from training import loops, preset_of, print_supplies  # noqa: E402

REPEATS = 5


class Row(NamedTuple):
    """One row of the table: what was timed, our time, the peer and its time, the ratio theirs / ours and its target."""

    what: str
    ours_s: float
    peer: str
    peer_s: float
    ratio: float
    wanted: str


def compare(
    what: str, ours: Callable[[], object], peer: str, theirs: Callable[[], object], wanted: str, repeats: int = REPEATS
) -> Row:
    """Time two functions alternately and return their median times and the median of the pairwise ratios."""
    pairs = []
    ours()  # warm caches and compiled code
    for _ in range(repeats):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        theirs()
        pairs.append((middle - start, time.perf_counter() - middle))
    ours_s, theirs_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(what, ours_s, peer, theirs_s, statistics.median(b / a for a, b in pairs), wanted)


def boundary_svm() -> Row:
    """Time the classifier of boundary pixels: ten coefficients against libsvm's support vectors."""
    from sklearn.svm import SVC

    from cellmill.objects.boundary import decide, fit_classifier

    rng = np.random.default_rng(0)
    features = rng.random((10_000, 2))
    is_object = features[:, 0] + 0.3 * rng.normal(size=10_000) > 0.5
    cubic = fit_classifier(features, is_object, classifier="svm", standardise=False, coef0=1.0, cost=1.0)
    svm = SVC(kernel="poly", degree=3, coef0=1.0).fit(features, is_object)
    pixels = rng.random((1_000_000, 2))
    assert ((decide(cubic, pixels[:50_000]) > 0) == svm.predict(pixels[:50_000])).all()
    return compare(
        "boundary SVM of 10,000 pixels, on 1,000,000", lambda: decide(cubic, pixels),
        "libsvm", lambda: svm.decision_function(pixels), "> 1000", repeats=1,
    )  # fmt: skip


def rolling_ball() -> Row:
    """Time background subtraction of one frame: on a shrunk image against scikit-image at full size."""
    from skimage.restoration import rolling_ball as peer

    from cellmill.preprocessing.background import subtract_rolling_ball

    image = np.random.default_rng(0).gamma(4, 50, (512, 512)).astype(np.float32)
    return compare(
        "rolling ball r 40, 512 x 512", lambda: subtract_rolling_ball(image, radius_px=40.0),
        "scikit-image", lambda: peer(image, radius=40), "> 10", repeats=3,
    )  # fmt: skip


def flat_field() -> Row:
    """Time the division of a large image by a profile of polynomials, against the division by a profile in memory."""
    from cellmill.preprocessing.flat_field import TERMS, FlatField

    raw = np.random.default_rng(0).integers(100, 4000, (2048, 2048)).astype(np.uint16)
    coefficients = tuple(0.8 ** (4 * k) for k in range(len(TERMS)))
    profile = FlatField(*raw.shape, dark=100.0, coefficients=coefficients, images=10)
    ready = profile.profile_rows(slice(0, 2048))
    return compare(
        "division by a flat field, 2048 x 2048", lambda: profile.correct_rows(raw, slice(0, 2048)),
        "profile in memory", lambda: (raw.astype(np.float32) - np.float32(100)) / ready, "> 0.05", repeats=3,
    )  # fmt: skip


def tiled_prediction() -> Row:
    """Time prediction in tiles against the network on the whole image at once, which is the limit."""
    import torch

    from cellmill.config.networks import network_settings
    from cellmill.inference.normalise import InputScale
    from cellmill.inference.tiling import predict_tiled
    from cellmill.inference.views import View
    from cellmill.models.registry import build_network

    torch.set_num_threads(2)
    network = build_network(network_settings(preset_of(width=0.25))).eval()
    image = np.random.default_rng(0).random((1024, 1024), np.float32)
    view = View(((image, InputScale(0.0, 1.0, (0, 1024), (0, 1024))),))

    def tiles() -> None:
        with torch.inference_mode():
            predict_tiled(
                network, view, tile=(512, 512), batch=1, device=torch.device("cpu"), finish=torch.sigmoid,
            )  # fmt: skip

    def whole() -> None:
        with torch.inference_mode():
            torch.sigmoid(network(torch.from_numpy(image)[None, None]))

    return compare(
        "prediction of 1024 x 1024 in tiles of 512", tiles, "network on the whole image", whole, "> 0.5", repeats=3
    )


def run_lengths() -> Row:
    """Time run-length encoding of 400 objects: by bounding box against a whole-image mask per object."""
    from cellmill.objects.measurements import bounding_boxes, encode_objects
    from whole_images import encode_rle

    labels = np.zeros((520, 704), np.uint16)
    for number in range(400):
        row, column = divmod(number, 25)
        labels[row * 32 + 4 : row * 32 + 24, column * 28 + 4 : column * 28 + 22] = number + 1

    def ours() -> list[str]:
        boxes = bounding_boxes([(slice(0, 520), labels)])
        return list(encode_objects(labels, np.arange(1, 401), boxes=boxes, order="row"))

    return compare(
        "run lengths of 400 objects, 520 x 704", ours,
        "a whole mask each", lambda: [encode_rle(labels == n, order="row") for n in range(1, 401)], "> 3", repeats=3,
    )  # fmt: skip


def idle_run() -> Row:
    """Time a second run with nothing to do against the start of Snakemake alone."""
    from project import TINY, copy_project, snakemake, write_config

    folder = Path(tempfile.mkdtemp())
    project = copy_project(folder / "project")
    config = {
        "datasets": {"d": {"simulate": {"images": 6, "size": [64, 64]}, "models": [{"preset": "default", **TINY}]}}
    }
    write_config(project, config, "config.yaml")
    snakemake(project, "--cores", "2")
    version = [sys.executable, "-m", "snakemake", "--version"]
    return compare(
        "nothing to be done", lambda: snakemake(project, "--cores", "2"),
        "snakemake --version", lambda: subprocess.run(version, check=True, capture_output=True), "> 0.2", repeats=3,
    )  # fmt: skip


def main() -> None:
    """Run every benchmark, or those named as arguments, and print the table row by row."""
    wanted = set(sys.argv[1:])
    print("| what | ours [s] | against | theirs [s] | theirs / ours | wanted |\n|---|---|---|---|---|---|")
    for bench in (
        boundary_svm, rolling_ball, flat_field, tiled_prediction, run_lengths, rle_decoding,
        image_with_all_stages, large_image, two_workers, two_nearest_cells, flow_fields, *loops(), tuned_images,
        default_training, default_layouts, default_prediction, image_files, bare_forward, flow_tracking, larger_image,
        instance_matching, large_report, idle_run, many_images, short_jobs,
    ):  # fmt: skip
        if wanted and getattr(bench, "__name__", "") not in wanted:
            continue
        found = bench()
        for row in found if isinstance(found, list) else [found] if found is not None else []:
            cells = (row.what, f"{row.ours_s:.3g}", row.peer, f"{row.peer_s:.3g}", f"{row.ratio:.3g}", row.wanted)
            print(f"| {' | '.join(cells)} |", flush=True)
    if wanted:
        return
    print("\n| what | peak [MB] | against | peak [MB] | ratio | wanted |\n|---|---|---|---|---|---|")
    for what, flat, fewer in (
        ("read and rasterize 1,000 images of 256 x 256", flat_rasterize, "100 images"),
        ("simulate 200 images of 256 x 256", flat_simulation, "20 images"),
        ("evaluate 1,000 images of 256 x 256, with 1,000 bootstraps", flat_evaluation, "200 images"),
    ):
        few_mb, many_mb = flat()
        print(f"| {what} | {many_mb:.0f} | {fewer} | {few_mb:.0f} | {many_mb / few_mb:.2f} | < 1.2 |")
    print_supplies()


if __name__ == "__main__":
    main()
