"""Stacks: turn the planes of image files with several planes into separate samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellmill.images.axes import Layout
from cellmill.images.channels import Channel
from cellmill.images.png_jpeg import KIND_OF_SUFFIX, STORE
from cellmill.images.rasters import read_layout
from cellmill.planning.headers import Headers
from cellmill.planning.plane_choices import combine_places, list_places
from cellmill.planning.raw_stacks import choose_scenes, is_raw
from cellmill.planning.samples import Found, Sample, SampleError

AXIS_OF_MEANING = {"time": "T", "z": "Z", "channel": "C"}
MAX_MISTAKES = 20
# Stands for the path of a file while messages are compared
PATH = "\0"
# Damaged files at the beginning of a list that are skipped to find a readable file
MAX_DAMAGED = 5


def expand_stacks(
    found: list[Found], *, stack: Mapping[str, Any], channels: Sequence[Channel], cache_dir: Path, where: str
) -> list[Found]:
    """Replace every file that holds a stack, or several images, by its images.

    Parameters
    ----------
    found : list of tuple
        Samples and wildcards of ``scan_images``.
    stack : mapping
        The section `stack` of the dataset.
    channels : sequence of "luminance", int, sequence of float or str
        Channels of the config, which raw files have to contain; none if a trained model decides.
    cache_dir : Path
        Folder in which headers of raw files are kept for the next call.
    where : str
        Key path of the dataset, for messages.

    Returns
    -------
    list of tuple
        The input, unchanged, if the first readable file is a single image; only its header is read. Otherwise a sample
        for each frame or section, named {sample}_t{frame} or {sample}_z{section} from 0, with the file as its sequence.
        Of raw files, all headers are read that are not kept.

    Raises
    ------
    SampleError
        If neither metadata nor config define the meaning of the planes, frames are numbered both in the path and in
        the file, or a raw file is damaged or has images among which the config does not choose.
    ValueError
        If `stack.axis` is set but the first readable file is a single image.
    """
    plain = [item for item in found if not is_raw(item[0], stack=stack)]
    raw = _expand_raw(
        [item for item in found if is_raw(item[0], stack=stack)],
        stack=stack, channels=channels, headers=Headers(cache_dir), where=where,
    )  # fmt: skip
    return [*raw, *_expand_plain(plain, stack=stack, where=where)] if plain else raw


def _expand_raw(
    found: list[Found], *, stack: Mapping[str, Any], channels: Sequence[Channel], headers: Headers, where: str
) -> list[Found]:
    mistakes: list[tuple[str, str]] = []
    expanded: list[Found] = []
    for sample, values in found:
        try:
            chosen = choose_scenes(sample, values, stack=stack, channels=channels, headers=headers, where=where)
            for (one, texts), scene in chosen:
                layout = scene.layout(where=sample.image)
                expanded += (
                    _planes(one, texts, layout=layout, stack=stack, where=where) if layout.stack else [(one, texts)]
                )
        except ValueError as error:
            mistakes.append((sample.image, str(error)))
    headers.keep()
    if mistakes:
        raise SampleError(_join_alike(mistakes)[:MAX_MISTAKES])
    return expanded


def _join_alike(mistakes: Sequence[tuple[str, str]]) -> list[str]:
    """Join messages that differ in the path of their file only: the first one counts the other files."""
    files: dict[str, list[str]] = {}
    for path, message in mistakes:
        files.setdefault(message.replace(path, PATH), []).append(path)
    return [
        message.replace(PATH, paths[0])
        + (f" The same holds for {len(paths) - 1} more files, such as {paths[1]}." if len(paths) > 1 else "")
        for message, paths in files.items()
    ]


def _expand_plain(found: list[Found], *, stack: Mapping[str, Any], where: str) -> list[Found]:
    if found and (chosen := [key for key in ("scene", "others") if stack[key] not in (None, {})]):
        raise ValueError(
            f"{where}.stack.{chosen[0]}: expected microscope files, such as .czi or .lif, found "
            f"{found[0][0].image}. Remove stack.{chosen[0]}."
        )
    first = _first_layout(found)
    if first is None:
        return found
    path, layout = first
    if not layout.stack:
        _refuse_single(path, layout, stack=stack, where=where)
        return found
    mistakes: list[tuple[str, str]] = []
    expanded: list[Found] = []
    for sample, values in found:
        try:
            expanded += _planes(sample, values, layout=read_layout(sample.image), stack=stack, where=where)
        except ValueError as error:
            mistakes.append((sample.image, str(error)))
    if mistakes:
        raise SampleError(_join_alike(mistakes)[:MAX_MISTAKES])
    return expanded


def _first_layout(found: list[Found]) -> tuple[str, Layout] | None:
    """Read the header of the first readable file; return None if it cannot hold a stack or no file is readable.

    Only one header is read, because reading thousands takes minutes.
    """
    for sample, _ in found[:MAX_DAMAGED]:
        if KIND_OF_SUFFIX.get(Path(sample.image).suffix.lower(), STORE) in ("PNG", "JPEG"):
            return None
        try:
            return sample.image, read_layout(sample.image)
        except ValueError:
            continue  # stage `check` reports the damage
    return None


def _refuse_single(path: str, layout: Layout, *, stack: Mapping[str, Any], where: str) -> None:
    if stack["axis"] != "auto":
        raise ValueError(
            f"{where}.stack.axis: expected stacks for axis {stack['axis']}, found a single plane in {path} "
            f"({layout.describe()}). Remove stack; use {{sequence}} and {{frame}} to join files into sequences."
        )


def _planes(
    sample: Sample, values: Mapping[str, str], *, layout: Layout, stack: Mapping[str, Any], where: str
) -> list[Found]:
    """List the planes of one file: its time points, its sections, or a single projected image."""
    meanings = _meanings(sample.image, layout, stack=stack, where=where)
    times = [axis for axis, meaning in meanings.items() if meaning == "T"]
    depths = [axis for axis, meaning in meanings.items() if meaning == "Z"]
    if times and "frame" in values:
        raise ValueError(
            f"{where}.images: expected frames either in {{frame}} or in the file, found both in {sample.image} "
            f"({layout.describe()}). Remove {{frame}} from the pattern, or set stack.axis to z."
        )
    choices: dict[str, Any] = dict.fromkeys(times, "all" if stack["time"] is None else stack["time"])
    choices |= dict.fromkeys(depths, "sections" if stack["z"] is None else stack["z"])
    others = [axis for axis in meanings if axis in stack["others"] and axis not in choices]
    choices |= {axis: stack["others"][axis] for axis in others}
    keys = {**dict.fromkeys(times, "time"), **dict.fromkeys(depths, "z")}
    places: dict[str, Any] = {
        axis: list_places(
            choice, size=layout.stack[axis], where=f"{where}.stack.{keys.get(axis, 'others')}: {sample.image}"
        )
        for axis, choice in choices.items()
    }
    places |= {axis: ["channel"] for axis, meaning in meanings.items() if meaning == "C"}
    is_sequence = "frame" in values or any(isinstance(places[axis][0], int) for axis in times)
    planes: list[Found] = []
    for place in combine_places(places):
        plane = [*sample.plane, *([axis, place[axis], size] for axis, size in layout.stack.items())]
        name, sequence, frame = sample.sample, sample.sequence or sample.sample, sample.frame
        cut = {axis: at for axis, at in place.items() if isinstance(at, int)}
        for axis in (*others, *depths):
            if axis not in cut:
                continue
            tag = f"{'z' if axis in depths else axis.lower()}{cut[axis]:0{_digits(layout.stack[axis])}d}"
            name = f"{name}_{tag}"
            if is_sequence or axis in others:
                sequence = f"{sequence}_{tag}"
            else:
                frame = cut[axis]
        for axis in times:
            if axis in cut:
                name, frame = f"{name}_t{cut[axis]:0{_digits(layout.stack[axis])}d}", cut[axis]
        numbered = dict(values)
        if set(cut) - set(others):
            numbered.setdefault("frame", str(frame))
            numbered.setdefault("sequence", sequence)
        else:
            sequence = sample.sequence
        planes.append((replace(sample, sample=name, sequence=sequence, frame=frame, plane=plane), numbered))
    return planes


def _meanings(path: str, layout: Layout, *, stack: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the meaning of each axis of a stack: T, Z or C."""
    meanings = {axis: axis if axis in "TZ" or axis in stack["others"] else "" for axis in layout.stack}
    if stack["axis"] != "auto" and len(meanings) == 1:
        meanings = dict.fromkeys(meanings, AXIS_OF_MEANING[stack["axis"]])
    unknown = [axis for axis, meaning in meanings.items() if not meaning]
    if len(unknown) == 1 and stack["axis"] != "auto":
        meanings[unknown[0]] = AXIS_OF_MEANING[stack["axis"]]
        unknown = []
    if unknown or len(set(meanings.values())) < len(meanings):
        raise ValueError(
            f"{where}.images: expected metadata that define the axes of the stack, found {layout.describe()} in "
            f"{path}. Set stack.axis to time (one sequence), z (a z-stack), or channel (one image)."
        )
    return meanings


def _digits(size: int) -> int:
    return max(3, len(str(size - 1)))
