"""From probabilities to objects: boundary tuning, prediction in tiles, flows, and the cost of a larger image."""

import json
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in ("workflow", "tests")]

import torch
from scipy import ndimage

from cellmill.objects.boundary import boundary_features, find_boundary, fit_classifier, measure_grey
from cellmill.objects.flow_tracking import track_objects
from cellmill.objects.flows import unit_flows
from cellmill.objects.instances import segment_image

if TYPE_CHECKING:
    from bench import Row

SIDE, PITCH, RADIUS = 512, 34, 14
# Target of the pipeline: ten images a second on one core
IMAGE_S = 0.1


@cache
def cells(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw nuclei that touch in places: labels, a soft probability and a noisy image."""
    rng = np.random.default_rng(0)
    labels_yx = np.zeros((side, side), dtype=np.uint16 if side < 4096 else np.uint32)
    y, x = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1]
    places = [(r, c) for r in range(20, side - 20, PITCH) for c in range(20, side - 20, PITCH)]
    for number, place in enumerate(places, start=1):
        row, column = place + rng.integers(-4, 5, 2)
        radius = rng.integers(9, RADIUS + 1)
        part = labels_yx[row - RADIUS : row + RADIUS + 1, column - RADIUS : column + RADIUS + 1]
        part[(y[: part.shape[0]] ** 2 + x[:, : part.shape[1]] ** 2 <= radius**2) & (part == 0)] = number
    is_cell = (labels_yx > 0).astype(np.float32)
    prob_yx = np.clip(ndimage.gaussian_filter(is_cell, 1.0) + rng.normal(0, 0.05, is_cell.shape), 0, 1)
    image_yx = 200 + 300 * is_cell + rng.normal(0, 30, is_cell.shape)
    return labels_yx, prob_yx.astype(np.float32), image_yx.astype(np.float32)


def fit_of(image_yx: np.ndarray, labels_yx: np.ndarray, *, is_tuned: bool) -> dict[str, Any]:
    """Make the contents of postprocess.json, with an SVM of 10,000 boundary pixels."""
    everywhere = np.ones(image_yx.shape, dtype=bool)
    boundary: dict[str, Any] = {"applied": is_tuned, "scales_px": [0.0]}
    if is_tuned:
        features = boundary_features(image_yx, grey=measure_grey(image_yx, valid_yx=everywhere), scales_px=[0.0])
        drawn = np.flatnonzero(find_boundary(labels_yx > 0, valid_yx=everywhere))
        drawn = np.random.default_rng(0).permutation(drawn)[:10_000]
        boundary["model"] = fit_classifier(
            features.reshape(-1, 2)[drawn], (labels_yx > 0).ravel()[drawn], classifier="svm", standardise=True,
            coef0=1.0, cost=1.0,
        )  # fmt: skip
    return {
        "threshold": {"value": 0.5}, "closing": {"footprint": "cross", "radius_px": 1}, "boundary": boundary,
        "instances": {
            "method": "watershed", "split_depth": 1.0, "max_flow_error": 0.4, "fill_holes_px": 100, "min_area_px": 20,
            "max_area_px": None, "min_solidity": None, "exclude_border": False, "median_area_px": 400,
        },
    }  # fmt: skip


def segment(side: int, *, is_tuned: bool) -> Any:
    """Return a function that segments the image of this side length once."""
    labels_yx, prob_yx, image_yx = cells(side)
    fitted = fit_of(image_yx, labels_yx, is_tuned=is_tuned)
    everywhere = np.ones(image_yx.shape, dtype=bool)

    def run() -> np.ndarray:
        grey = measure_grey(image_yx, valid_yx=everywhere) if is_tuned else (0.0, 0.0)
        return segment_image(prob_yx[np.newaxis], image_yx, valid_yx=everywhere, grey=grey, fitted=fitted)

    return run


def tuned_images() -> "Row":
    """Time a 512 x 512 image with some 200 nuclei through the whole chain of paper 4 and the watershed."""
    from bench import Row

    run = segment(SIDE, is_tuned=True)
    run()
    times = []
    for _ in range(9):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    ours_s = float(np.median(times))
    what = "threshold, closing, SVM, closing, watershed, 512 x 512"
    return Row(what, ours_s, "ten images a second", IMAGE_S, IMAGE_S / ours_s, "> 1")


def bare_forward() -> "Row":
    """Time prediction of an image in tiles of 512 against the network on the same windows, already tensors."""
    from bench import compare

    from cellmill.inference.ensemble import Averaged
    from cellmill.inference.normalise import measure_input
    from cellmill.inference.tiling import plan_spans, predict_bands
    from cellmill.inference.views import View
    from cellmill.models.registry import build_network
    from cellmill.preprocessing.geometry import plan_fit

    torch.manual_seed(0)
    network = build_network(
        {"architecture": "unet", "in_channels": 1, "base_channels": 32, "levels": 4, "norm": "batch", "dropout": 0,
         "film": 0, "output": "foreground", "width": 0.25}
    ).eval().to(memory_format=torch.channels_last)  # fmt: skip
    averaged = Averaged([network], output="foreground", average="none", classes=0, precision="fp32").eval()
    image_yx = cells(2048)[2]
    geometry = plan_fit(image_yx.shape, mode="none", size=None)
    view = View(
        ((image_yx, measure_input(image_yx, geometry=geometry, normalise="zscore", polarity="keep", min_contrast=0.0)),)
    )
    length = plan_spans(2048, tile=512, stride_px=network.stride_px, halo_px=network.halo_px)[0].length
    count = len(plan_spans(2048, tile=512, stride_px=network.stride_px, halo_px=network.halo_px)) ** 2
    window = torch.randn(1, 1, length, length).to(memory_format=torch.channels_last)

    def ours() -> None:
        given: dict[str, Any] = {"tile": (512, 512), "batch": 1, "device": torch.device("cpu")}
        for _ in predict_bands(averaged, view, **given, finish=torch.Tensor.half):
            pass

    def bare() -> None:
        with torch.inference_mode():
            for _ in range(count):
                network(window)

    return compare(
        f"prediction of 2048 x 2048 in {count} tiles", ours, "the network on ready tiles", bare, "> 0.9", repeats=3
    )


def flow_tracking() -> "Row | None":
    """Time following the flows of 841 touching discs in 1024 x 1024 against cellpose's own way, one thread."""
    try:
        from cellpose import dynamics
    except ImportError:
        print("flow tracking is not compared: install requirements-bench.txt (make bench does)", file=sys.stderr)
        return None
    from bench import compare

    labels_yx = cells(1024)[0]
    mask_yx = labels_yx > 0
    angle = np.random.default_rng(0).normal(0, 0.3, labels_yx.shape)
    y, x = unit_flows(labels_yx)
    flows_cyx = np.stack([y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)])
    flows_cyx = flows_cyx.astype(np.float32)
    logits_yx = np.where(mask_yx, 5, -5).astype(np.float32)
    torch.set_num_threads(1)
    found = track_objects(flows_cyx, mask_yx, max_flow_error=0.6).max()
    theirs = dynamics.compute_masks(5 * flows_cyx, logits_yx, niter=200, flow_threshold=0.6, device=torch.device("cpu"))
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    assert abs(int(found) - int(theirs.max())) <= 0.01 * found, (found, theirs.max())
    return compare(
        f"flows to {found} objects, 1024 x 1024", lambda: track_objects(flows_cyx, mask_yx, max_flow_error=0.6),
        "cellpose 3", lambda: dynamics.compute_masks(
            5 * flows_cyx, logits_yx, niter=200, flow_threshold=0.6, device=torch.device("cpu")
        ), "> 1", repeats=3,
    )  # fmt: skip


def larger_image() -> "Row":
    """Time objects of 8192 x 8192, window by window, against four times those of 4096 x 4096: linear in pixels."""
    from bench import Row

    from cellmill.objects.frames import Frame
    from cellmill.objects.segmenting import segment_frame
    from cellmill.preprocessing.geometry import plan_fit
    from whole_images import write_image, write_probabilities

    seconds = {}
    for side in (4096, 8192):
        labels_yx, prob_yx, image_yx = (np.tile(plane, (side // 4096, side // 4096)) for plane in cells(4096))
        fitted = fit_of(image_yx[:SIDE, :SIDE], labels_yx[:SIDE, :SIDE], is_tuned=True)
        fitted["instances"] |= {"min_solidity": 0.5, "exclude_border": True}
        with tempfile.TemporaryDirectory() as name:
            room = Path(name)
            write_image(room / "image.tif", image_yx)
            write_probabilities(room / "prob.tif", prob_yx[np.newaxis])
            geometry = plan_fit((side, side), mode="none", size=None)
            frame = Frame(
                sample="slide", image_path=room / "image.tif", probability_path=room / "prob.tif", geometry=geometry
            )
            start = time.perf_counter()
            segment_frame(frame, fitted=fitted, room=room)
            seconds[side] = time.perf_counter() - start
    what, peer = "SVM, watershed, filters, 8192 x 8192", "4096 x 4096, four times"
    return Row(what, seconds[8192], peer, 4 * seconds[4096], 4 * seconds[4096] / seconds[8192], "> 0.75")


def image_files() -> "Row":
    """Time a shard of 512 x 512 images through postprocess with tuning and all tables, against ten images a second."""
    from bench import Row

    from cellmill.checks.unlike_training import summarize_images
    from cellmill.config.postprocess import Postprocess
    from cellmill.preprocessing.geometry import plan_fit, write_geometry
    from cellmill.shards import shard_folder
    from cellmill.stages.postprocess import postprocess_shard
    from whole_images import write_image, write_probabilities

    labels_yx, prob_yx, image_yx = cells(SIDE)
    settings = Postprocess().model_dump(mode="json")
    fitted = fit_of(image_yx, labels_yx, is_tuned=True)
    fitted |= {"format": 2, "settings": settings, "training_images": summarize_images([], normalise="zscore")}
    count = 10
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        samples = [f"s{number}" for number in range(count)]
        with shard_folder(root / "images") as folder:
            for sample in samples:
                write_image(folder / f"{sample}.tif", image_yx)
            write_geometry(
                folder / "geometry.csv", {s: plan_fit(image_yx.shape, mode="none", size=None) for s in samples}
            )
        with shard_folder(root / "probabilities") as folder:
            for sample in samples:
                write_probabilities(folder / f"{sample}.tif", prob_yx[np.newaxis])
        (root / "postprocess.json").write_text(json.dumps(fitted))
        rows = [{"sample": s, "image": str(root / "images" / f"{s}.tif")} for s in samples]
        times = []
        for repeat in range(3):
            start = time.perf_counter()
            postprocess_shard(
                output_dir=root / f"out{repeat}", images_dir=root / "images", probabilities_dir=root / "probabilities",
                fit_path=root / "postprocess.json", postprocess=settings, pixel_size_um=None, rle_order="row",
                samples=rows, channel=0, hot_pixels="replace",
            )  # fmt: skip
            times.append((time.perf_counter() - start) / count)
    ours_s = float(np.median(times))
    return Row(
        "the same with files and measurements", ours_s, "ten images a second", IMAGE_S, IMAGE_S / ours_s, "> 0.3"
    )


if __name__ == "__main__":
    for measure in (tuned_images, image_files, bare_forward, flow_tracking, larger_image):
        measured = measure()
        if measured is not None:
            print(
                f"{measured.what}: {measured.ours_s:.3g} s, {measured.peer}: {measured.peer_s:.3g} s, "
                f"{measured.ratio:.3g} times (wanted {measured.wanted})",
                flush=True,
            )
