"""Training: the loop against its bare step, the loader against the rate of the step. Run this file for these alone.

The loop's steps are timed by the run itself, in the seconds of its history; without validation images, these contain
nothing else. The first epoch is a warm-up and does not count.
"""

import csv
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in ("workflow", "tests")]

import torch

from cellmill.config.networks import network_settings
from cellmill.config.preset import ModelPreset
from cellmill.device import choose_autocast
from cellmill.images.stored import write_labels
from cellmill.models.registry import build_network
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from cellmill.stages.train import train_model
from cellmill.training.batches import MAX_WORKERS, Batch, iterate_batches
from cellmill.training.imagesets import ImageSet, find_labelled_images
from cellmill.training.losses import Truth, measure_loss
from cellmill.training.optimisers import build_optimiser
from cellmill.training.streams import iterate_windows
from cellmill.training.team import Team
from whole_images import write_image

if TYPE_CHECKING:
    from bench import Row

REPEATS = 5
IMAGE_PX, IMAGES = 2048, 4
FRAMES, FRAME_PX = 20, 320
PITCH_PX, RADIUS_PX = 34, 11
PATCHES = 16
THREADS = tuple(n for n in (1, 2, 4, 8, MAX_WORKERS) if n <= max(2, os.cpu_count() or 2))

AFFINE: dict[str, Any] = {
    "affine_probability": 1.0, "rotation_deg": 180.0, "zoom": [0.8, 1.25], "translation": 0.05, "flip": True,
    "rotate_90": True, "contrast": 0.3, "brightness": 0.2, "noise": 0.1,
}  # fmt: skip
GAPS = {"weight": 10.0, "sigma_px": 5.0, "factor": 1, "reading": "to_border", "inside": False}
TRUTHS: dict[str, tuple[str, dict[str, Any]]] = {
    "foreground": ("foreground", {"name": "bce"}),
    "contour": ("contour", {"name": "ce"}),
    "flow": ("flow", {"name": "flow"}),
    "distance weights": ("two_classes", {"name": "ce", "distance": GAPS}),
}


class Supply(NamedTuple):
    """Patches of one kind that are made per second, and patches that the bare step takes per second."""

    what: str
    made: dict[int, float]  # by number of threads
    step: str
    taken: float


def preset_of(**sections: Any) -> dict[str, Any]:
    """Return a preset in the form that the rules pass."""
    return ModelPreset.model_validate({"title": "bench", **sections}).model_dump(mode="json")


@cache
def shard_of(images: int, size_px: int) -> tuple[Path, Path]:
    """Write images of crowded discs and their labels as the earlier stages do; return both folders."""
    folder, rng = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    geometry = plan_fit((size_px, size_px), mode="none", size=None)
    samples = [f"s{number}" for number in range(images)]
    with shard_folder(folder / "images") as images_dir, shard_folder(folder / "labels") as labels_dir:
        for sample in samples:
            labels_yx = _draw_labels(size_px, rng)
            noise_yx = rng.normal(0, 8, labels_yx.shape)
            write_image(images_dir / f"{sample}.tif", (100 + 60 * (labels_yx > 0) + noise_yx).astype(np.float32))
            write_labels(labels_dir / f"{sample}.tif", labels_yx)
        write_geometry(images_dir / "geometry.csv", dict.fromkeys(samples, geometry))
    return folder / "images", folder / "labels"


def _draw_labels(size_px: int, rng: np.random.Generator) -> np.ndarray:
    labels_yx = np.zeros((size_px, size_px), dtype=np.uint16)
    corners = range(0, size_px - PITCH_PX + 1, PITCH_PX)
    y, x = np.ogrid[:PITCH_PX, :PITCH_PX]
    for number, (top, left) in enumerate(itertools.product(corners, corners), start=1):
        middle = rng.uniform(RADIUS_PX, PITCH_PX - RADIUS_PX, 2)
        disc_yx = np.hypot(y - middle[0], x - middle[1]) <= RADIUS_PX
        labels_yx[top : top + PITCH_PX, left : left + PITCH_PX][disc_yx] = number
    return labels_yx


def open_images(preset: dict[str, Any], *, images: int, size_px: int, is_sequence: bool = False) -> ImageSet:
    """Open written images as training does, and load each image and its ground truth once."""
    images_dir, labels_dir = shard_of(images, size_px)
    opened = ImageSet(
        find_labelled_images([images_dir], [labels_dir]),
        around=[],
        input=preset["input"],
        output=preset["network"]["output"],
        loss=preset["train"]["loss"],
        passages=[[f"s{number}" for number in range(images)]] if is_sequence else None,
        classes=None,
    )
    for number in range(images):
        opened.view(number)
        opened.truth(number)
    return opened


def batches_of(images: ImageSet, train: dict[str, Any], *, workers: int, epoch: int) -> Iterator[Batch]:
    """Make the batches of an epoch."""
    make = iterate_windows if images.passages else iterate_batches
    return make(images, train=train, seed=0, epoch=epoch, first_step=0, workers=workers, team=Team())


def bare_step(preset: dict[str, Any], batches: list[Batch], *, device: torch.device) -> Callable[[], None]:
    """Make the bare step: one forward, one backward, one update, cycling over tensors in the device's memory."""
    train, output = preset["train"], preset["network"]["output"]
    network = build_network(network_settings(preset)).to(device)
    layout = torch.channels_last if train["channels_last"] else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    optimiser = build_optimiser(network, optimiser=train["optimiser"])

    def load(planes: np.ndarray | None) -> torch.Tensor | None:
        return None if planes is None else torch.from_numpy(planes).to(device)

    given = [
        (_laid_out(torch.from_numpy(batch.images).to(device), layout), Truth(*map(load, astuple(batch.target))))  # type: ignore[arg-type]
        for batch in batches
    ]
    turns = itertools.cycle(given)

    def step() -> None:
        images, truth = next(turns)
        optimiser.zero_grad()
        with choose_autocast(train["precision"], device=device):
            found = network(images, None)[0].flatten(0, 1) if network.is_recurrent else network(images)
        loss, _ = measure_loss(found, truth, output=output, loss=train["loss"])
        loss.backward()
        optimiser.step()

    return step


def _laid_out(images: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    return images.contiguous(memory_format=layout) if images.ndim == 4 else images


def seconds_of(steps: int, step: Callable[[], None], *, device: torch.device) -> float:
    """Time some steps, until the device has finished them."""
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def seconds_of_loop(preset: dict[str, Any], *, images: int, size_px: int, threads: int, gpu: int) -> float:
    """Train as a job does, without validation, and return the seconds of the second epoch."""
    images_dir, labels_dir = shard_of(images, size_px)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train_model(
            weights_path=folder / "weights.pt", history_path=folder / "history.csv",
            summary_path=folder / "train.json", choices_path=folder / "choices.json", pixel_size_um=None,
            train_images=[images_dir], train_labels=[labels_dir],
            validation_images=[], validation_labels=[], around_images=[], network=network_settings(preset),
            input=preset["input"], train=preset["train"], seed=0, init_from=None, init_weights="all", passages=None,
            classes=None, threads=threads, gpu=gpu, code={},
        )  # fmt: skip
        with (folder / "history.csv").open() as stream:
            return float(list(csv.DictReader(stream))[1]["seconds"])


def loop(*, patch_px: int, batch: int, width: float, steps: int, is_augmented: bool, threads: int, gpu: int) -> "Row":
    """Time an epoch of the loop against the same number of bare steps."""
    from bench import Row

    images, size_px = 8, 2 * patch_px
    preset = preset_of(
        width=width,
        train={
            "epochs": 2, "batch": batch, "patch": [patch_px, patch_px], "patches_per_image": steps * batch // images,
            "select": "last", "augmentation": AFFINE if is_augmented else {},
        },
    )  # fmt: skip
    device = torch.device("cuda" if gpu else "cpu")
    cores = torch.get_num_threads()
    torch.set_num_threads(threads)
    opened = open_images(preset, images=images, size_px=size_px)
    batches = list(itertools.islice(batches_of(opened, preset["train"], workers=1, epoch=0), 4))
    step = bare_step(preset, batches, device=device)
    seconds_of(2, step, device=device)
    pairs = []
    for _ in range(REPEATS):
        ours_s = seconds_of_loop(preset, images=images, size_px=size_px, threads=threads, gpu=gpu)
        pairs.append((ours_s, seconds_of(steps, step, device=device)))
    torch.set_num_threads(cores)
    ours_s, theirs_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    where = torch.cuda.get_device_name() if gpu else f"{threads} thread{'s' * (threads > 1)}"
    kind = "augmented" if is_augmented else "uniform"
    return Row(
        f"training, {steps} steps, {batch} {kind} patches of {patch_px}, U-Net of width {width:g}, {where}",
        ours_s, "the bare step", theirs_s, statistics.median(theirs / ours for ours, theirs in pairs), "> 0.9",
    )  # fmt: skip


def loops() -> "list[Callable[[], Row]]":
    """List the timings of the loop: on the CPU, and on a GPU if available."""
    small: dict[str, Any] = {"patch_px": 128, "batch": 4, "width": 0.25, "steps": 40}
    large: dict[str, Any] = {"patch_px": 512, "batch": 2, "width": 0.25, "steps": 4}
    places = [(1, 0), (2, 0)] + [(4, 1)] * torch.cuda.is_available()
    return [
        partial(loop, **size, is_augmented=is_augmented, threads=threads, gpu=gpu)
        for size in (small, large)
        for is_augmented in (False, True)
        for threads, gpu in places
    ]


def rate_of_loader(images: ImageSet, train: dict[str, Any], *, workers: int) -> float:
    """Measure how many patches (or windows) a number of threads make per second, not counting the first batch."""
    made = batches_of(images, train, workers=workers, epoch=workers)
    next(made)
    start = time.perf_counter()
    patches = sum(len(batch.images) for batch in made)
    return patches / (time.perf_counter() - start)


def supply(what: str, preset: dict[str, Any], images: ImageSet, *, taker: dict[str, Any], name: str) -> Supply:
    """Time the loader, and the bare step of the preset `taker`, in turn."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    first = list(itertools.islice(batches_of(images, preset["train"], workers=1, epoch=0), 2))
    step = bare_step(taker, first, device=device)
    seconds_of(1, step, device=device)
    steps = 20 if device.type == "cuda" else 1
    made: dict[int, list[float]] = {threads: [] for threads in THREADS}
    taken = []
    for _ in range(3):
        for workers, rates in made.items():
            rates.append(rate_of_loader(images, preset["train"], workers=workers))
        taken.append(steps * len(first[0].images) / seconds_of(steps, step, device=device))
    rates_of = {workers: statistics.median(rates) for workers, rates in made.items()}
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {threads} threads"
    return Supply(what, rates_of, f"{name}, {where}", statistics.median(taken))


def supplies() -> Iterator[Supply]:
    """Time the loader for each kind of ground truth on patches of 512 x 512, and on windows of frames."""
    for what, (output, loss) in TRUTHS.items():
        preset = preset_of(
            network={"output": output},
            train={
                "batch": 2, "patch": [512, 512], "patches_per_image": PATCHES // IMAGES,
                "loss": loss, "augmentation": AFFINE,
            },
        )  # fmt: skip
        images = open_images(preset, images=IMAGES, size_px=IMAGE_PX)
        yield supply(f"512 x 512, affine, {what}", preset, images, taker=preset, name="U-Net of width 1")
    preset = windows_preset()
    images = open_images(preset, images=FRAMES, size_px=FRAME_PX, is_sequence=True)
    unroll = preset["train"]["streams"]["unroll"]
    yield supply(
        f"windows of {unroll} frames of 160 x 160, affine and elastic, distance weights", preset, images,
        taker=preset, name=f"C-LSTM U-Net of width {preset['width']:g}",
    )  # fmt: skip


def windows_preset() -> dict[str, Any]:
    """Return the recurrent network of paper 2's text, made narrower: a faster step demands more of the loader."""
    from cellmill.planning.runs import load_preset, merge_preset

    folder = Path(__file__).resolve().parents[2] / "resources" / "models"
    named = load_preset("clstm_unet_text", presets_dir=folder, where="")
    narrow = merge_preset(named, {"width": 0.125, "train": {"patches_per_image": 10}})
    return ModelPreset.model_validate(narrow).model_dump(mode="json")


def print_supplies() -> None:
    """Print the patches per second made by the loader, by number of threads, and those taken by the bare step."""
    print("\n| patches a second |" + "".join(f" {n} thread{'s' * (n > 1)} |" for n in THREADS), end="")
    print(f" the bare step takes | times, {THREADS[-1]} threads | wanted |\n|---|" + "---|" * (len(THREADS) + 3))
    for row in supplies():
        rates = "".join(f" {row.made[threads]:.3g} |" for threads in THREADS)
        print(
            f"| {row.what} |{rates} {row.taken:.3g} ({row.step}) | {row.made[THREADS[-1]] / row.taken:.3g} | > 1 |",
            flush=True,
        )


if __name__ == "__main__":
    for measure in loops():
        measured = measure()
        print(
            f"{measured.what}: {measured.ours_s:.3g} s, {measured.peer}: {measured.peer_s:.3g} s, "
            f"{measured.ratio:.3g} times (wanted {measured.wanted})",
            flush=True,
        )
    print_supplies()
