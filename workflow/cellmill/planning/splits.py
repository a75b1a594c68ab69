"""Stable splits: images are ordered by the hash of a stable key and cut into parts.

The cuts of a small set are where they keep the wanted numbers, and those of a large set at fixed positions of the hash:
see workflow/decisions/0011-exact-shares-of-small-sets.md.
"""

import math
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pandas as pd

from cellmill.shards import stable_hash

PARTS = ("train", "validation", "test")
GAP = "unlabelled"
# Names, for readers, of annotated images without a part: frames between two blocks, and images left out by a table
LEFT_OUT = ("gap", "left out")
# Parts intended to hold fewer images than this are small anyway and get no remark.
SMALL_PART = 2
# Up to EXACT groups, each part has its wanted number of groups. From LOOSE groups on, parts follow the hash alone, so
# that an additional group moves no other. Between the two, the permitted deviation grows by RELAXATION groups for each
# additional group, from nothing to more than chance makes (at 500 groups, 75 against a standard deviation of 11).
EXACT, LOOSE, RELAXATION = 200, 500, 0.25


class Splittable(Protocol):
    """Fields of a sample that a split uses."""

    @property
    def sample(self) -> str: ...
    @property
    def sequence(self) -> str: ...
    @property
    def frame(self) -> int: ...


def assign_splits(
    samples: Sequence[Splittable],
    *,
    split: Mapping[str, Any],
    groups: Mapping[str, str],
    strata: Mapping[str, str],
    where: str,
    needs: Sequence[str] = PARTS,
) -> tuple[dict[str, str], list[str]]:
    """Assign each sample to train, validation, test or a fold.

    Parameters
    ----------
    samples : sequence
        Labelled samples.
    split : mapping
        The section `split` of the config.
    groups : mapping
        Sample -> group, where `group_by` is set; samples of one group stay together.
    strata : mapping
        Sample -> class, where `stratify` is set.
    where : str
        Key path of the section, for messages.
    needs : sequence of str
        Parts that a split table must contain; none for trained models.

    Returns
    -------
    tuple
        Sample -> part, and remarks for the user.

    Raises
    ------
    ValueError
        If there are fewer groups than parts, the split table does not fit the samples, sequences are missing or
        spread over several parts, or a sequence is too short for blocks.
    """
    if not samples:
        return {}, []
    if split["table"] is not None:
        frozen = _from_table(samples, path=split["table"], where=where, needs=needs)
        return frozen, _remark_on_sequences(samples, frozen, where=where)
    if split["by"] == "sequence" and not any(sample.sequence for sample in samples):
        raise ValueError(
            f"{where}.by: expected {{sequence}} or {{frame}} in the path of the images to split by sequence, found "
            "none. Add one of them to `images`, or split by image."
        )
    if split["by"] == "blocks":
        return _by_blocks(samples, split=split, where=where)
    keys = {}
    for sample in samples:
        whole_sequence = split["by"] in ("auto", "sequence") and bool(sample.sequence)
        keys[sample.sample] = groups.get(sample.sample) or (sample.sequence if whole_sequence else sample.sample)
    members: dict[str, dict[str, None]] = {}
    for name, key in keys.items():
        members.setdefault(strata.get(name, ""), {})[key] = None
    names = [f"fold{i}" for i in range(split["folds"])] if split["folds"] else _wanted_parts(split)
    bounds = _bounds(split, names)
    placed: dict[str, str] = {}
    remarks: list[str] = []
    every = list(dict.fromkeys(keys.values()))
    if len(every) < len(names):
        raise ValueError(
            f"{where}: expected at least {len(names)} groups to split into {', '.join(names)}, found {len(every)}. "
            "Add images, use `by: blocks` for frames of one sequence, or freeze a split with `table`. To train "
            "nothing, set models: [classical, {apply: nuclei}], or another trained model; these are scored on all "
            "images."
        )
    if len(every) < LOOSE:
        placed = _cut(members, bounds=bounds, seed=split["seed"], groups=len(every))
    else:
        for stratum, group_keys in members.items():
            fresh = [key for key in group_keys if key not in placed]
            if stratum and len(fresh) >= len(names):
                sides, said = _place(fresh, bounds=bounds, seed=split["seed"])
                remarks += [f"{where}: class {stratum}: {text}" for text in said]
                placed.update(sides)
            else:
                placed.update({key: _side(_position(key, seed=split["seed"]), bounds) for key in fresh})
    sides, said = _fill_empty(placed, bounds=bounds, seed=split["seed"])
    remarks += [f"{where}: {text}" for text in said]
    assigned = {name: sides[key] for name, key in keys.items()}
    if spread := _spread_sequences(samples, assigned):
        sequence, found = next(iter(spread.items()))
        raise ValueError(
            f"{where}: expected all frames of a sequence in one part, found {sequence!r} in {' and '.join(found)} "
            f"(number of such sequences: {len(spread)}). Neighbouring frames are nearly identical, so test "
            "scores would be too high. Split by sequence, or cut the sequences with `by: blocks`."
        )
    return assigned, [*remarks, *_remark_on_sizes(assigned, bounds=bounds, where=where)]


def _cut(
    members: Mapping[str, Mapping[str, None]], *, bounds: Mapping[str, tuple[float, float]], seed: int, groups: int
) -> dict[str, str]:
    """Order the groups of each stratum by their hash, and cut the order where parts have the wanted numbers.

    Parameters
    ----------
    members : mapping
        Stratum -> its groups; "" is the stratum of groups without class.
    bounds : mapping
        Part -> range of positions of the hash, in [0, 1].
    seed : int
        Seed of the hash.
    groups : int
        Number of groups of all strata.

    Returns
    -------
    dict
        Group -> part. A stratum with fewer groups than parts is cut together with the other small strata. Each cut
        makes up for the rounding of the strata before it, so that rounding errors do not add up.
    """
    strata: list[list[str]] = []
    rest: list[str] = []
    seen: set[str] = set()
    for stratum in sorted(members):
        fresh = sorted(set(members[stratum]) - seen)
        seen.update(fresh)
        if stratum and len(fresh) >= len(bounds):
            strata.append(fresh)
        else:
            rest += fresh
    stops = [stop for _, stop in bounds.values()][:-1]
    wanted = _wanted_cuts(groups, [stop - start for start, stop in bounds.values()])
    slack = RELAXATION * max(0, groups - EXACT)
    placed: dict[str, str] = {}
    done, cut_so_far = 0, [0] * len(stops)
    for keys in [*strata, *([rest] if rest else [])]:
        positions, ordered = zip(*sorted((_position(key, seed=seed), key) for key in keys), strict=True)
        done += len(ordered)
        cuts: list[int] = []
        # A stratum that is large enough has a group in each part; the rest follows the order alone.
        spare = 1 if len(ordered) >= len(bounds) else 0
        for number, stop in enumerate(stops):
            target = wanted[done][number] - cut_so_far[number]
            lowest, highest = math.ceil(target - slack), math.floor(target + slack)
            cut = min(max(bisect_left(positions, stop), lowest), highest)
            before = cuts[-1] if cuts else 0
            cut = min(max(cut, before + spare), len(ordered) - spare * (len(stops) - number))
            cuts.append(cut)
            cut_so_far[number] += cut
        for part, first, last in zip(bounds, [0, *cuts], [*cuts, len(ordered)], strict=True):
            placed.update(dict.fromkeys(ordered[first:last], part))
    return placed


def _wanted_cuts(groups: int, shares: Sequence[float]) -> list[list[int]]:
    """Return for each number of groups from 0 where to cut them, so that an additional group shrinks no part.

    Notes
    -----
    SOURCE Webster's method (Sainte-Lague): each group goes to the part that lacks most relative to its share. Among
    parts that lack alike, the cuts stay as close as possible to the hash's own positions, so that few groups move.
    """
    stops = [sum(shares[: number + 1]) for number in range(len(shares) - 1)]

    def cuts_of(sizes: Sequence[int]) -> list[int]:
        return [sum(sizes[: number + 1]) for number in range(len(shares) - 1)]

    def lack(place: int) -> tuple[float, float]:
        more = [size + (number == place) for number, size in enumerate(sizes)]
        distance = sum(abs(cut - stop * sum(more)) for cut, stop in zip(cuts_of(more), stops, strict=True))
        # Rounded, because 0.6 / 3 and 0.2 differ in the last digit.
        return round((2 * sizes[place] + 1) / shares[place], 6), round(distance, 6)

    sizes = [0] * len(shares)
    cuts = [cuts_of(sizes)]
    for _ in range(groups):
        sizes[min(range(len(shares)), key=lack)] += 1
        cuts.append(cuts_of(sizes))
    return cuts


def _remark_on_sizes(sides: Mapping[str, str], *, bounds: Mapping[str, tuple[float, float]], where: str) -> list[str]:
    """Return a remark on parts with less than half of their intended images, because groups differ in size."""
    counts = Counter(sides.values())
    wanted = {name: (stop - start) * len(sides) for name, (start, stop) in bounds.items()}
    short = [name for name in bounds if wanted[name] >= SMALL_PART and 2 * counts[name] < wanted[name]]
    if not short:
        return []
    said = " and ".join(f"{name} contains {counts[name]} instead of {wanted[name]:.0f}" for name in short)
    return [
        f"{where}: of {len(sides)} images, {said}, because groups differ in size and are not divided. Set another "
        "split.seed, use split.folds, or write the split into a split.table"
    ]


def _spread_sequences(samples: Sequence[Splittable], sides: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the sequences whose frames are in several parts, with these parts."""
    parts: dict[str, set[str]] = {}
    for sample in samples:
        if sample.sequence and sides[sample.sample] != GAP:
            parts.setdefault(sample.sequence, set()).add(sides[sample.sample])
    return {sequence: sorted(found) for sequence, found in parts.items() if len(found) > 1}


def _remark_on_sequences(samples: Sequence[Splittable], sides: Mapping[str, str], *, where: str) -> list[str]:
    spread = _spread_sequences(samples, sides)
    if not spread:
        return []
    return [
        f"{where}: {_say_sequences(len(spread))} in several parts: training and test frames come from the same "
        "sequence, so the scores may be higher than on a new sequence"
    ]


def _say_sequences(number: int) -> str:
    return "1 sequence is" if number == 1 else f"{number} sequences are"


def _wanted_parts(split: Mapping[str, Any]) -> list[str]:
    """List the parts with a share above 0: all of them, except where nothing is trained."""
    return [part for part in PARTS if split[part] > 0]


def _bounds(split: Mapping[str, Any], names: list[str]) -> dict[str, tuple[float, float]]:
    shares = [1 / len(names)] * len(names) if split["folds"] else [float(split[name]) for name in names]
    bounds, start = {}, 0.0
    for name, share in zip(names, shares, strict=True):
        bounds[name] = (start, start + share)
        start += share
    return bounds


def _position(key: str, *, seed: int) -> float:
    return stable_hash(key, purpose=f"split {seed}") / 2**64


def _side(position: float, bounds: Mapping[str, tuple[float, float]]) -> str:
    for name, (_, stop) in bounds.items():
        if position < stop:
            return name
    return next(reversed(list(bounds)))  # for shares that add up to 0.9999999


def _place(
    keys: list[str], *, bounds: Mapping[str, tuple[float, float]], seed: int
) -> tuple[dict[str, str], list[str]]:
    return _fill_empty({key: _side(_position(key, seed=seed), bounds) for key in keys}, bounds=bounds, seed=seed)


def _fill_empty(
    placed: dict[str, str], *, bounds: Mapping[str, tuple[float, float]], seed: int
) -> tuple[dict[str, str], list[str]]:
    """Move into each empty part the group with the nearest position, from a part that has other groups."""
    placed = dict(placed)
    remarks = []
    for name, (start, stop) in bounds.items():
        if name in placed.values():
            continue
        counts = {side: list(placed.values()).count(side) for side in bounds}
        movable = [key for key, side in placed.items() if counts[side] > 1]

        def distance(key: str, start: float = start, stop: float = stop) -> tuple[float, str]:
            position = _position(key, seed=seed)
            return max(start - position, position - stop, 0.0), key

        nearest = min(movable, key=distance)
        remarks.append(
            f"{name} would have been empty, so {nearest} was moved there from {placed[nearest]}. Adding images can "
            "move it back; freeze the split with `table` once results matter"
        )
        placed[nearest] = name
    return placed, remarks


def _by_blocks(
    samples: Sequence[Splittable], *, split: Mapping[str, Any], where: str
) -> tuple[dict[str, str], list[str]]:
    """Cut each sequence into train, validation and test along its frames, with a gap between them."""
    sequences: dict[str, list[Splittable]] = {}
    for sample in samples:
        sequences.setdefault(sample.sequence or "all", []).append(sample)
    sides: dict[str, str] = {}
    gap, parts = int(split["gap"]), _wanted_parts(split)
    for name, members in sequences.items():
        # Images without frame numbers (a z-stack as 0.png, 1.png, …) are in natural order already.
        members = sorted(members, key=lambda member: member.frame)
        usable = len(members) - gap * (len(parts) - 1)
        if usable < len(parts):
            number = "three" if len(parts) == len(PARTS) else str(len(parts))
            raise ValueError(
                f"{where}: expected at least {len(parts) + gap * (len(parts) - 1)} frames to cut {number} blocks with "
                f"gap {gap}, found {len(members)} in {name!r}. Lower the gap, or split by sequence."
            )
        sizes = _block_sizes(usable, [float(split[part]) for part in parts])
        position = 0
        for part, size in zip(parts, sizes, strict=True):
            sides.update({member.sample: part for member in members[position : position + size]})
            sides.update({m.sample: GAP for m in members[position + size : position + size + gap]})
            position += size + gap
    if len(parts) == 1:
        return sides, []
    return sides, [
        f"{where}: {_say_sequences(len(sequences))} cut into blocks: training and test frames come from the same "
        "sequence, so the scores may be higher than on a new sequence"
    ]


def _block_sizes(total: int, shares: list[float]) -> list[int]:
    sizes = [max(1, round(total * share)) for share in shares]
    while sum(sizes) != total:
        largest = sizes.index(max(sizes))
        sizes[largest] += 1 if sum(sizes) < total else -1
    return sizes


def _from_table(samples: Sequence[Splittable], *, path: str, where: str, needs: Sequence[str]) -> dict[str, str]:
    try:
        table = pd.read_csv(
            path, dtype=str, usecols=["sample", "split"], keep_default_na=False, encoding="utf-8-sig"
        ).drop_duplicates()
    except OSError as error:
        raise ValueError(
            f"{where}.table: expected a CSV file, found none at {path} ({error.strerror}). Check the path."
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{where}.table: {path}: expected the columns sample and split, found something else ({error}). "
            "Use a table such as results/{dataset}/samples.csv."
        ) from error
    names = {sample.sample for sample in samples}
    # Names from macOS and Windows may differ in the Unicode form of their accents only.
    spelt = {unicodedata.normalize("NFC", name): name for name in names}
    table["sample"] = [
        name if name in names else spelt.get(unicodedata.normalize("NFC", name), name) for name in table["sample"]
    ]
    table = table[table["sample"].isin(names)]
    mistakes = []
    if twice := sorted(table.loc[table["sample"].duplicated(), "sample"]):
        mistakes.append(f"two parts for {', '.join(twice[:5])}")
    sides = dict(zip(table["sample"], table["split"], strict=True))
    if wrong := sorted({side for side in sides.values() if side not in (*PARTS, GAP, *LEFT_OUT, "")}):
        mistakes.append(f"the unknown parts {wrong}")
    if missing := [sample.sample for sample in samples if sample.sample not in sides]:
        mistakes.append(f"no row for {', '.join(missing[:5])}")
    # Tables written by the pipeline name what is left out; an empty cell leaves an image out in the same way.
    sides = {name: GAP if side in (*LEFT_OUT, "") else side for name, side in sides.items()}
    if not mistakes and (empty := [part for part in needs if part not in sides.values()]):
        mistakes.append(f"no sample for {', '.join(empty)}")
    if mistakes:
        raise ValueError(
            f"{where}.table: {path}: expected each sample once with train, validation or test, found "
            f"{'; '.join(mistakes)}. Correct the rows."
        )
    return sides
