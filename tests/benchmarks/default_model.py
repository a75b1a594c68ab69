"""The preset `default` on two cores: its training step against a bare step, prediction with objects, and a peer's."""

import copy
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile
import torch

from cellmill.config.networks import network_settings
from cellmill.config.preset import ModelPreset
from cellmill.exports.model_file import read_description, read_fit
from cellmill.inference.folding import fold_norms
from cellmill.models.registry import build_network
from cellmill.objects.flows import unit_flows
from cellmill.objects.instances import segment_image
from cellmill.planning.runs import load_preset, merge_preset
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from cellmill.stages.predict import predict_shard
from objects import SIDE, cells
from training import bare_step, batches_of, open_images, seconds_of, seconds_of_loop
from whole_images import write_image

if TYPE_CHECKING:
    from bench import Row

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
THREADS, STEPS, REPEATS, IMAGES = 2, 60, 3, 4
# Bare steps are timed on this part of the steps.
SHARE = 6
# Target: an image of 512 x 512 px, from its preprocessed file to its objects
IMAGE_S = 0.5
# Channels of Cellpose's network, and the diameter (px) that it resamples nuclei to
PEER_CHANNELS, PEER_DIAMETER_PX = [2, 32, 64, 128, 256], 17.0
CPU = torch.device("cpu")


@cache
def preset() -> dict[str, Any]:
    """Return the preset `default` with two epochs of STEPS steps and without validation, as the rules pass it."""
    content = load_preset("default", presets_dir=RESOURCES / "models", where="bench")
    train = {"steps": 2 * STEPS, "epochs": 2, "select": "last"}
    changes = {"train": train, "start": None, "input": {"normalise": "zscore"}}
    return ModelPreset.model_validate(merge_preset(content, changes)).model_dump(mode="json")


def default_training() -> "list[Row]":
    """Time steps of the training loop against bare steps, and against bare steps of Cellpose's network."""
    from bench import Row

    images, size_px, settings = 8, 256, preset()
    torch.set_num_threads(THREADS)
    opened = open_images(settings, images=images, size_px=size_px)
    batches = list(itertools.islice(batches_of(opened, settings["train"], workers=1, epoch=0), 4))
    steps: dict[str, Callable[[], None]] = {"the bare step": bare_step(settings, batches, device=CPU)}
    if (peer := peer_step(batches[0].images)) is not None:
        steps["a bare step of cellpose 3"] = peer
    for step in steps.values():
        seconds_of(3, step, device=CPU)
    times: dict[str, list[float]] = {name: [] for name in ("ours", *steps)}
    for _ in range(REPEATS):
        times["ours"].append(seconds_of_loop(settings, images=images, size_px=size_px, threads=THREADS, gpu=0))
        for name, step in steps.items():
            times[name].append(SHARE * seconds_of(STEPS // SHARE, step, device=CPU))
    batch, patch = settings["train"]["batch"], settings["train"]["patch"][0]
    what = f"training of default, {STEPS} steps of {batch} patches of {patch}, {THREADS} threads"
    return [
        Row(
            what, statistics.median(times["ours"]), name, statistics.median(times[name]),
            statistics.median(theirs / ours for theirs, ours in zip(times[name], times["ours"], strict=True)),
            "> 0.9" if name == "the bare step" else "> 1",
        )
        for name in steps
    ]  # fmt: skip


def default_layouts() -> "list[Row]":
    """Time a training step and the network on a window, with channels last in memory and with channels first."""
    from bench import compare

    torch.set_num_threads(THREADS)
    settings = preset()
    opened = open_images(settings, images=8, size_px=256)
    batches = list(itertools.islice(batches_of(opened, settings["train"], workers=1, epoch=0), 4))
    first = {**settings, "train": {**settings["train"], "channels_last": False}}
    steps = [bare_step(each, batches, device=CPU) for each in (settings, first)]
    network = fold_norms(build_network(network_settings(settings)).eval())

    def forward(layout: torch.memory_format) -> Callable[[], None]:
        laid_out = copy.deepcopy(network).to(memory_format=layout)
        window = torch.randn(1, 1, SIDE, SIDE).to(memory_format=layout)

        def apply() -> None:
            with torch.inference_mode():
                laid_out(window)

        return apply

    return [
        compare(
            "training step of default, channels last", partial(seconds_of, 5, steps[0], device=CPU), "channels first",
            partial(seconds_of, 5, steps[1], device=CPU), "> 1",
        ),
        compare(
            f"network of default on {SIDE} x {SIDE} px, channels last", forward(torch.channels_last),
            "channels first", forward(torch.contiguous_format), "> 1",
        ),
    ]  # fmt: skip


def peer_network() -> Any | None:
    """Build Cellpose's network with random weights; None if it is not installed."""
    try:
        from cellpose.resnet_torch import CPnet
    except ImportError:
        print("default is not compared: install requirements-bench.txt (make bench does)", file=sys.stderr)
        return None
    return CPnet(PEER_CHANNELS, 3, 3)


def peer_step(patches_bcyx: np.ndarray) -> Callable[[], None] | None:
    """Make a training step of Cellpose's network on the same patches, which it sees as two channels."""
    network = peer_network()
    if network is None:
        return None
    images = torch.from_numpy(np.concatenate([patches_bcyx, np.zeros_like(patches_bcyx)], axis=1))
    truth = torch.zeros(len(images), 3, *images.shape[2:])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        optimiser.zero_grad()
        found = network(images)[0]
        flows = torch.nn.functional.mse_loss(found[:, :2], truth[:, :2])
        loss = flows + torch.nn.functional.binary_cross_entropy_with_logits(found[:, 2], truth[:, 2])
        loss.backward()
        optimiser.step()

    return step


def default_prediction() -> "list[Row]":
    """Time images of 512 x 512 px with some 200 nuclei through a first look, the shipped network and the objects."""
    from bench import Row

    torch.set_num_threads(THREADS)
    model = RESOURCES / "weights/nuclei.cellmill"
    description, fit = read_description(model), read_fit(model)
    labels_yx, _, image_yx = cells(SIDE)
    geometry = plan_fit(image_yx.shape, mode="none", size=None)
    names = [f"s{number}" for number in range(IMAGES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with shard_folder(folder / "images") as images_dir:
            for sample in names:
                write_image(images_dir / f"{sample}.tif", image_yx)
            write_geometry(images_dir / "geometry.csv", dict.fromkeys(names, geometry))
        times = []
        for repeat in range(REPEATS + 1):
            start = time.perf_counter()
            predict_shard(
                output_dir=folder / f"maps{repeat}", images_dir=folder / "images", around_dirs=[], weights_path=model,
                predict=description.predict, passages=None, classes=None, pixel_size_um=None, threads=THREADS, gpu=0,
            )  # fmt: skip
            for sample in names:
                maps_cyx = tifffile.imread(folder / f"maps{repeat}" / f"{sample}.tif").astype(np.float32)
                found_yx = segment_image(
                    maps_cyx, tifffile.imread(folder / "images" / f"{sample}.tif"),
                    valid_yx=np.ones(image_yx.shape, dtype=bool), grey=(0.0, 0.0), fitted=fit,
                )  # fmt: skip
            times.append((time.perf_counter() - start) / IMAGES)
    found, drawn = int(found_yx.max()), int(labels_yx.max())
    assert abs(found - drawn) <= 0.1 * drawn, (found, drawn)
    ours_s = statistics.median(times[1:])
    what = f"prediction of 512 x 512 to {found} objects, first look included, {THREADS} threads"
    rows = [Row(what, ours_s, "two images a second", IMAGE_S, IMAGE_S / ours_s, "> 1")]
    if (peer_s := seconds_of_peer(image_yx, labels_yx)) is not None:
        rows.append(Row(what, ours_s, "cellpose 3 at the known size", peer_s, peer_s / ours_s, "> 1"))
    return rows


def seconds_of_peer(image_yx: np.ndarray, labels_yx: np.ndarray) -> float | None:
    """Time Cellpose's network on an image at its working size, and its way from flows to objects in the image.

    The network has random weights, so that the objects come from the true flows.
    """
    network = peer_network()
    if network is None:
        return None
    from cellpose import dynamics
    from scipy import ndimage

    network.eval()
    areas = np.bincount(labels_yx.ravel())[1:]
    factor = PEER_DIAMETER_PX / (2 * float(np.sqrt(np.median(areas[areas > 0]) / np.pi)))
    flows_cyx = np.stack(unit_flows(labels_yx)).astype(np.float32)
    logits_yx = np.where(labels_yx > 0, 5, -5).astype(np.float32)
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        small_yx = ndimage.zoom(image_yx, factor, order=1)
        sides = [-(-side // 16) * 16 for side in small_yx.shape]
        padded = torch.zeros(1, 2, *sides)
        padded[0, 0, : small_yx.shape[0], : small_yx.shape[1]] = torch.from_numpy(small_yx)
        with torch.inference_mode():
            network(padded)
        dynamics.compute_masks(5 * flows_cyx, logits_yx, niter=200, flow_threshold=0.4, device=CPU)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
