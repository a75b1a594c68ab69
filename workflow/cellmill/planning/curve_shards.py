"""Shards of a learning curve: parts of the training images that its runs are trained on.

A draw orders the training images by hashes of its own and cuts them at the numbers of the curve. Each piece is a shard
with its own preprocessed images and labels, and a run takes the pieces up to its number. Subsets of a draw are nested,
and another image changes the pieces at and behind its place: the trainings that it enters, and no other. The shards of
all training images would not do, because a change of any of their images reruns what reads them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from cellmill.planning.samples import Sample
from cellmill.shards import stable_hash

NAME = re.compile(r"draw(\d+)to(\d+)-(\d{4,})")


def list_curve_shards(subsets: Iterable[tuple[int, int]], *, images_per_job: int) -> list[str]:
    """List the shards of subsets, given as (number of images, draw), in the order of the images.

    A piece with more than `images_per_job` images is several shards.
    """
    names = []
    ends: dict[int, int] = {}
    for draw, last in sorted({(draw, images) for images, draw in subsets}):
        count = -(-(last - ends.get(draw, 0)) // images_per_job)
        names += [f"draw{draw}to{last}-{number:04d}" for number in range(count)]
        ends[draw] = last
    return names


def shards_of_subset(images: int, draw: int, *, shards: Sequence[str]) -> list[str]:
    """List the shards of a draw with its first images."""
    placed = {shard: _parse(shard) for shard in shards}
    return [shard for shard, (of_draw, last, _) in placed.items() if of_draw == draw and last <= images]


def cut_for_curve(rows: Sequence[Sample], *, shards: Sequence[str], images_per_job: int) -> dict[str, list[Sample]]:
    """Assign training images to the shards of a learning curve.

    Parameters
    ----------
    rows : sequence of Sample
        The training images of the model with all of them.
    shards : sequence of str
        From `list_curve_shards`.
    images_per_job : int
        As there.

    Returns
    -------
    dict
        Shard -> its images, which are in other shards as well.
    """
    found: dict[str, list[Sample]] = {}
    orders: dict[int, list[Sample]] = {}
    firsts: dict[int, int] = {}  # draw -> first image of its current piece
    lasts: dict[int, int] = {}
    for shard in shards:
        draw, last, number = _parse(shard)
        if draw not in orders:
            keys = {row.sample: stable_hash(f"{draw}/{row.sample}", purpose="learning curve") for row in rows}
            orders[draw] = sorted(rows, key=lambda row, keys=keys: keys[row.sample])  # type: ignore[misc]
        if number == 0:
            firsts[draw], lasts[draw] = lasts.get(draw, 0), last
        first = firsts[draw] + number * images_per_job
        found[shard] = [replace(row, shard=shard) for row in orders[draw][first : min(first + images_per_job, last)]]
    return found


def _parse(shard: str) -> tuple[int, int, int]:
    """Return the draw of a shard, the rank of the last image of its piece, and its number in the piece."""
    match = NAME.fullmatch(shard)
    assert match is not None, shard
    return int(match[1]), int(match[2]), int(match[3])
