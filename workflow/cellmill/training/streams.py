"""Windows of frames for training recurrent networks: each slot of a batch follows one sequence until it ends.

A passage is an unbroken run of frames of one sequence. A pass goes through a passage once; its frame step, direction,
crop and geometry are drawn once and kept to its end. Frames that do not fill a window are dropped, at the beginning or
the end. The passes of a slot depend only on their numbers, so that training can resume at any step of an epoch. An
epoch starts at a random window of the first pass of each slot. Otherwise the last frames of a passage would be used
less often than the first, and never if an epoch is shorter than the passage.

# SOURCE paper 2, section 2.2 and the authors' code: crops and flips are the same for the whole sequence
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cellmill.training.augmentation import Geometry, augment, draw_geometry, draw_values
from cellmill.training.batches import (
    Batch,
    TrainSettings,
    cut_window,
    draw_origin,
    make_ahead,
    patch_of,
    stack_targets,
)
from cellmill.training.draws import ORDER_STREAM
from cellmill.training.imagesets import ImageSet
from cellmill.training.lengths import plan_length
from cellmill.training.targets import Target, context_px, make_target
from cellmill.training.team import Team

# Separates these random streams from those of batches.py and imagesets.py.
PASS_STREAM, FRAME_STREAM = 4, 5


@dataclass(frozen=True)
class Pass:
    """One traversal of a passage."""

    number: int
    frames: list[int | str]
    origin: tuple[int, int]
    geometry: Geometry
    entry: int  # number of the first window if an epoch begins with this pass

    def windows(self, unroll: int) -> int:
        """Count the complete windows."""
        return len(self.frames) // unroll


def windows_per_epoch(images: ImageSet, *, train: TrainSettings) -> int:
    """Count the steps of a pass over the images, in which each frame is used about `patches_per_image` times.

    Raises
    ------
    ValueError
        If all passages are shorter than a window.
    """
    unroll = int(train["streams"]["unroll"])
    frames = sum(len(passage) // unroll for passage in images.passages) * unroll
    if frames == 0:
        longest = max((len(passage) for passage in images.passages), default=0)
        raise ValueError(
            f"train: expected a training sequence of at least {unroll} consecutive frames, found {longest}. Lower "
            "train.streams.unroll, or put whole sequences into the training part (split.by: sequence or blocks)."
        )
    return max(1, round(frames * int(train["patches_per_image"]) / (unroll * int(train["batch"]))))


def iterate_windows(
    images: ImageSet, *, train: TrainSettings, seed: int, epoch: int, first_step: int, workers: int, team: Team
) -> Iterator[Batch]:
    """Yield the windows of one epoch in order; hidden states are reset at its start. See `iterate_batches`."""
    unroll, slots = int(train["streams"]["unroll"]), int(train["batch"])
    steps = plan_length(train, pass_steps=windows_per_epoch(images, train=train)).of(epoch)
    passages = [passage for passage in images.passages if len(passage) >= unroll]
    order = np.random.default_rng(np.random.SeedSequence([seed, ORDER_STREAM, epoch])).permutation(len(passages))

    def draw_pass(number: int) -> Pass:
        rng = np.random.default_rng(np.random.SeedSequence([seed, PASS_STREAM, epoch, number]))
        # Cycle through the passages, in an order drawn for the epoch.
        return _draw_pass(images, passages[order[number % len(order)]], number=number, train=train, rng=rng)

    plan = [
        _follow(draw_pass, slot=slot, slots=slots, steps=steps, unroll=unroll) for slot in team.part_of(range(slots))
    ]

    def make_batch(step: int) -> Batch:
        seen = [slot[step] for slot in plan]
        drawn = [_read_window(images, *place, train=train, seed=seed, epoch=epoch) for place in seen]
        targets = [target for _, targets in drawn for target in targets]
        names = [
            frame if isinstance(frame, str) else images.images[frame].sample
            for drawn_pass, window in seen
            for frame in _frames_of(drawn_pass, window, unroll=unroll)
        ]
        return Batch(
            images=np.stack([images_tcyx for images_tcyx, _ in drawn]),
            target=stack_targets(targets),
            samples=names,
            patches=slots,
            fresh_b=np.array([step == 0 or window == 0 for _, window in seen]),
        )

    yield from make_ahead(make_batch, range(first_step, steps), workers=workers)


def _follow(
    draw_pass: Callable[[int], Pass], *, slot: int, slots: int, steps: int, unroll: int
) -> list[tuple[Pass, int]]:
    """List the pass and the number of its window that a slot uses at each step."""
    found: list[tuple[Pass, int]] = []
    number = slot
    while len(found) < steps:
        drawn = draw_pass(number)
        first = 0 if found else drawn.entry
        found += [(drawn, window) for window in range(first, drawn.windows(unroll))]
        number += slots
    return found[:steps]


def _draw_pass(
    images: ImageSet, passage: list[int | str], *, number: int, train: TrainSettings, rng: np.random.Generator
) -> Pass:
    streams, unroll = train["streams"], int(train["streams"]["unroll"])
    longest = max(1, min(int(streams["max_step"]), len(passage) // unroll))
    step = int(rng.integers(1, longest + 1))
    start = int(rng.integers(0, (len(passage) - 1) % step + 1))
    frames = passage[start::step]
    if streams["reverse"] and rng.random() < 0.5:
        frames = frames[::-1]
    labelled = [frame for frame in frames if isinstance(frame, int)]
    middle = labelled[len(labelled) // 2] if labelled else frames[0]
    if isinstance(middle, int):
        shape = images.view(middle).shape
        origin = draw_origin(images.foreground, middle, train=train, shape=shape, rng=rng)
    else:
        shape = images.view_around(middle).shape
        origin = draw_origin(lambda _: np.zeros(shape, bool), 0, train=train, shape=shape, rng=rng)
    geometry = draw_geometry(train["augmentation"], patch=patch_of(train), rng=rng)
    skipped = int(rng.integers(0, len(frames) % unroll + 1))
    return Pass(number, frames[skipped:], origin, geometry, entry=int(rng.integers(0, len(frames) // unroll)))


def _frames_of(drawn: Pass, window: int, *, unroll: int) -> list[int | str]:
    return drawn.frames[window * unroll : (window + 1) * unroll]


def _read_window(
    images: ImageSet, drawn: Pass, window: int, *, train: TrainSettings, seed: int, epoch: int
) -> tuple[np.ndarray, list[Target]]:
    """Read the augmented frames of a window, t c y x, and the target of each frame."""
    unroll, patch = int(train["streams"]["unroll"]), patch_of(train)
    frames = _frames_of(drawn, window, unroll=unroll)
    rng = np.random.default_rng(np.random.SeedSequence([seed, FRAME_STREAM, epoch, drawn.number, window]))
    around = context_px(output=images.output, loss=images.loss)
    cut, _ = cut_window(images, frames, origin=drawn.origin, train=train, is_warped=drawn.geometry.is_warped)
    values = [draw_values(train["augmentation"], rng=rng) for _ in frames]
    if not train["augmentation"]["per_frame"]:
        # The same draw for all windows of the pass.
        same = np.random.default_rng(np.random.SeedSequence([seed, FRAME_STREAM, epoch, drawn.number]))
        values = [draw_values(train["augmentation"], rng=same)] * len(frames)
    shape = (patch[0] + 2 * around, patch[1] + 2 * around)
    moved = augment(cut, geometry=drawn.geometry, values=values, shape=shape, rng=rng)
    targets = [
        make_target(labels_yx, None, output=images.output, loss=images.loss, context_px=around)
        for labels_yx in moved.labels_tyx
    ]
    inner = slice(around, around + patch[0]), slice(around, around + patch[1])
    return moved.images_cyx[:, None, *inner], targets
