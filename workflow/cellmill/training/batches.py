"""Random patches and batches of training images, independent of the number of workers and of interruptions.

An image smaller than a patch is mirrored at its edges; the labels of the added pixels are ignored.
"""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from cellmill.images.stored import IGNORE_LABEL
from cellmill.inference.normalise import cut, mirror
from cellmill.training.augmentation import (
    AugmentationSettings,
    Window,
    augment,
    draw_geometry,
    draw_values,
    margin_px,
)
from cellmill.training.draws import Draws, draw_interval, draw_pass
from cellmill.training.imagesets import ImageSet, as_labels
from cellmill.training.lengths import plan_length
from cellmill.training.losses import LossSettings
from cellmill.training.optimisers import RateSettings
from cellmill.training.targets import Target, context_px, make_target
from cellmill.training.team import Team

# Number that separates these random streams from those of other purposes. None is zero, because SeedSequence([7, 1])
# and SeedSequence([7, 1, 0]) give the same stream. 1 is used in draws.py, 3 in imagesets.py, 4 and 5 in streams.py.
PATCH_STREAM = 2

# Upper limit for the threads that prepare batches ahead of a GPU (otherwise the rule's `threads`), because each of them
# holds a batch in memory. On the CPU there is one such thread if a core is free for it. If it shared the cores of the
# training step, it would slow the step by more than the time it saves.
MAX_WORKERS = 16


class StreamSettings(TypedDict):
    """Section `train.streams` of a preset."""

    unroll: int
    max_step: int
    reverse: bool


class TrainSettings(RateSettings):
    """Section `train` of a preset."""

    batch: int
    patch: Sequence[int]
    patches_per_image: int
    sampling: str
    loss: LossSettings
    augmentation: AugmentationSettings
    streams: StreamSettings
    precision: str
    channels_last: bool
    compile: bool
    deterministic: bool
    ema: float | None
    patience: int | None
    select: str
    validation_images: int | None


@dataclass(frozen=True)
class Batch:
    """Images and targets of one training step."""

    images: np.ndarray  # float32, normalised: b c y x, or b t c y x for windows of frames
    target: Target  # with a leading batch axis; for windows b and t are flattened into it
    samples: list[str]
    patches: int  # number in the whole batch, of which a member of a team has a part
    fresh_b: np.ndarray | None = None  # windows only: whether a sequence begins, so that the hidden state is reset


def steps_per_epoch(images: int, *, train: TrainSettings) -> int:
    """Count the batches of a pass over the images; the last one may be smaller."""
    return -(-images * int(train["patches_per_image"]) // int(train["batch"]))


def count_workers(threads: int, *, has_gpu: bool) -> int:
    """Return the number of threads that prepare batches.

    Parameters
    ----------
    threads : int, > 0
        Threads of the rule.
    has_gpu : bool
        Whether the training steps run on a GPU, which leaves the CPU to these threads.

    Returns
    -------
    int
        0 if no core is free: each batch is then made when it is needed.
    """
    if has_gpu:
        return min(threads, MAX_WORKERS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(cores > threads)


def draw_patch(
    images: ImageSet, index: int, *, train: TrainSettings, rng: np.random.Generator
) -> tuple[np.ndarray, Target]:
    """Draw one patch of one image.

    Parameters
    ----------
    images : ImageSet
        The training images.
    index : int
        Number of the image.
    train : TrainSettings
        patch, sampling and augmentation are used.
    rng : Generator
        Random stream of this patch.

    Returns
    -------
    image_cyx, target : ndarray of float32 and Target, of the patch's shape
    """
    patch = patch_of(train)
    origin = draw_origin(images.foreground, index, train=train, shape=images.view(index).shape, rng=rng)
    geometry = draw_geometry(train["augmentation"], patch=patch, rng=rng)
    # Channels have exposures of their own.
    draws = images.frames_seen if train["augmentation"]["per_frame"] else images.channels
    values = [draw_values(train["augmentation"], rng=rng) for _ in range(draws)]
    around = context_px(output=images.output, loss=images.loss)
    window, planes = cut_window(images, [index], origin=origin, train=train, is_warped=geometry.is_warped)
    shape = (patch[0] + 2 * around, patch[1] + 2 * around)
    moved = augment(window, geometry=geometry, values=values, shape=shape, rng=rng)
    target = make_target(moved.labels_tyx[0], moved.maps_cyx, output=images.output, loss=images.loss, context_px=around)
    inner = slice(around, around + patch[0]), slice(around, around + patch[1])
    return add_planes(moved.images_cyx[:, *inner], planes), target


def patch_of(train: TrainSettings) -> tuple[int, int]:
    """Return rows and columns of a patch, px."""
    return int(train["patch"][0]), int(train["patch"][1])


def cut_window(
    images: ImageSet, frames: list[int | str], *, origin: tuple[int, int], train: TrainSettings, is_warped: bool
) -> tuple[Window, tuple[float, ...]]:
    """Cut the window for the patch at `origin`, with its context and the margin needed for augmentation.

    Parameters
    ----------
    images : ImageSet
    frames : list of int or str
        Images of the same size: numbers for images of the set, sample names for frames around it, whose labels are
        IGNORE_LABEL everywhere.
    origin : (row, column)
        Of the patch, px; negative for an image smaller than the patch.
    train : TrainSettings
    is_warped : bool
        Whether an affine or elastic change was drawn, which needs a margin.

    Returns
    -------
    window : Window
        Images and labels of all frames in order; maps of the first frame.
    planes : tuple of float
        Values of the constant planes, which no augmentation changes.
    """
    patch, around = patch_of(train), context_px(output=images.output, loss=images.loss)
    margin = margin_px(train["augmentation"], patch=patch, context_px=around) if is_warped else 0
    views = [images.view(frame) if isinstance(frame, int) else images.view_around(frame) for frame in frames]
    starts = [start - around - margin for start in origin]
    lengths = [side + 2 * (around + margin) for side in patch]
    rows, columns = (
        mirror(start, length, size) for start, length, size in zip(starts, lengths, views[0].shape, strict=True)
    )
    outside = [
        (places < 0) | (places >= size)
        for places, size in zip(
            (np.arange(start, start + length) for start, length in zip(starts, lengths, strict=True)),
            views[0].shape,
            strict=True,
        )
    ]
    labels_tyx = np.full((len(frames), *lengths), IGNORE_LABEL, dtype=np.uint16)
    maps_cyx = None
    for number, frame in enumerate(frames):
        if isinstance(frame, int):
            truth_yx, maps = images.truth(frame)
            labels_tyx[number] = as_labels(cut(truth_yx, rows=rows, columns=columns))
            if number == 0 and maps is not None:
                maps_cyx = cut(maps, rows=rows, columns=columns)
    if any(places.any() for places in outside):
        labels_tyx[:, outside[0]] = IGNORE_LABEL
        labels_tyx[:, :, outside[1]] = IGNORE_LABEL
        if maps_cyx is not None:
            is_outside_yx = outside[0][:, None] | outside[1][None, :]
            maps_cyx = np.where(is_outside_yx, np.float32(0), maps_cyx)
    planes = views[0].planes
    read = [view.read(rows, columns)[: len(view.frames)] for view in views]
    window = Window(
        images_cyx=np.concatenate(read),
        labels_tyx=labels_tyx,
        maps_cyx=maps_cyx,
        is_vector=images.output in ("flow", "flow_gray"),
    )
    return window, planes


def add_planes(images_cyx: np.ndarray, planes: tuple[float, ...]) -> np.ndarray:
    """Append constant planes with the given values."""
    constant = np.broadcast_to(np.array(planes, np.float32)[:, None, None], (len(planes), *images_cyx.shape[1:]))
    return np.concatenate([images_cyx, constant]) if planes else images_cyx


def iterate_batches(
    images: ImageSet, *, train: TrainSettings, seed: int, epoch: int, first_step: int, workers: int, team: Team
) -> Iterator[Batch]:
    """Yield the batches of one epoch in order, prepared ahead by threads.

    Parameters
    ----------
    images : ImageSet
        The training images.
    train : TrainSettings
    seed, epoch : int
        Together with the number of the patch, they seed its random stream.
    first_step : int
        Number of steps already done, whose batches are skipped.
    workers : int, >= 0
        Number of threads; with 0 each batch is made on demand. The batches do not depend on it.
    team : Team
        Each member gets its part of every batch.

    Yields
    ------
    Batch
    """
    size = int(train["batch"])
    draws = _draw_epoch(images, train=train, seed=seed, epoch=epoch)

    def make_batch(step: int) -> Batch:
        whole = draws.numbers[step * size : (step + 1) * size]
        numbers = team.part_of(whole)
        chosen = [draws.image_of(number) for number in numbers]
        patches = [
            draw_patch(
                images,
                index,
                train=train,
                rng=np.random.default_rng(np.random.SeedSequence([seed, PATCH_STREAM, draws.stream, number])),
            )
            for index, number in zip(chosen, numbers, strict=True)
        ]
        return Batch(
            images=np.stack([image_cyx for image_cyx, _ in patches]),
            target=stack_targets([target for _, target in patches]),
            samples=[images.images[index].sample for index in chosen],
            patches=len(whole),
        )

    yield from make_ahead(make_batch, range(first_step, -(-len(draws.numbers) // size)), workers=workers)


def _draw_epoch(images: ImageSet, *, train: TrainSettings, seed: int, epoch: int) -> Draws:
    if train["steps"] is None:
        return draw_pass(len(images), patches_per_image=int(train["patches_per_image"]), seed=seed, epoch=epoch)
    length, batch = plan_length(train, pass_steps=1), int(train["batch"])
    numbers = range(length.before(epoch) * batch, length.before(epoch + 1) * batch)
    return draw_interval(len(images), numbers=numbers, seed=seed)


def make_ahead(make: Callable[[int], Batch], steps: range, *, workers: int) -> Iterator[Batch]:
    """Make the batches of the given steps in threads and yield them in order; without threads, make each on demand."""
    if workers == 0:
        yield from map(make, steps)
        return
    todo = iter(steps)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches") as pool:
        ahead: deque[Future[Batch]] = deque(pool.submit(make, step) for step in itertools.islice(todo, workers + 1))
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(make, step) for step in itertools.islice(todo, 1))
            yield batch


def stack_targets(targets: list[Target]) -> Target:
    """Stack targets with the same kinds of planes along a new leading axis."""

    def stack(planes: list[np.ndarray | None]) -> np.ndarray | None:
        return None if planes[0] is None else np.stack([plane for plane in planes if plane is not None])

    return Target(
        classes_yx=np.stack([target.classes_yx for target in targets]),
        values_cyx=stack([target.values_cyx for target in targets]),
        weights_yx=stack([target.weights_yx for target in targets]),
    )


def draw_origin(
    foreground_of: Callable[[int], np.ndarray],
    index: int,
    *,
    train: TrainSettings,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[int, int]:
    """Draw the origin of a patch; with balanced sampling half of the patches contain a random foreground pixel.

    Parameters
    ----------
    foreground_of : callable
        Maps the number of an image to its foreground, bool YX; called only when needed.
    index : int
        Number of the image.
    train : TrainSettings
        patch and sampling are used.
    shape : (rows, columns)
        Shape of the image.
    rng : Generator

    Returns
    -------
    row, column : int
        Negative if the image is smaller than the patch: the image then lies at a random position within it.
    """
    patch = patch_of(train)
    lows = [min(0, size - side) for size, side in zip(shape, patch, strict=True)]
    highs = [max(0, size - side) for size, side in zip(shape, patch, strict=True)]
    is_chosen = train["sampling"] == "balanced" and rng.random() < 0.5
    foreground = np.flatnonzero(foreground_of(index)) if is_chosen else ()
    if len(foreground):
        chosen = np.unravel_index(foreground[rng.integers(len(foreground))], shape)
        lows = [max(low, int(pixel) - side + 1) for low, pixel, side in zip(lows, chosen, patch, strict=True)]
        highs = [min(high, int(pixel)) for high, pixel in zip(highs, chosen, strict=True)]
    row, column = (int(rng.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True))
    return row, column
