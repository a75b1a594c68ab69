"""Stacks: turn the planes of image files with several planes into separate samples."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cellmill.images.axes import Layout
from cellmill.images.png_jpeg import KIND_OF_SUFFIX, STORE
from cellmill.images.rasters import read_layout
from cellmill.planning.samples import Found, Sample, SampleError

AXIS_OF_MEANING = {"time": "T", "z": "Z", "channel": "C"}
MAX_MISTAKES = 20
# Damaged files at the beginning of a list that are skipped to find a readable file
MAX_DAMAGED = 5


def expand_stacks(found: list[Found], *, stack: Mapping[str, Any], where: str) -> list[Found]:
    """Replace every file that holds a stack by its planes.

    Parameters
    ----------
    found : list of tuple
        Samples and wildcards of ``scan_images``.
    stack : mapping
        The section `stack` of the dataset.
    where : str
        Key path of the dataset, for messages.

    Returns
    -------
    list of tuple
        The input, unchanged, if the first readable file is a single image; only its header is read. Otherwise a sample
        for each frame or section, named {sample}_t{frame} or {sample}_z{section} from 0, with the file as its sequence.

    Raises
    ------
    SampleError
        If neither metadata nor config define the meaning of the planes, or frames are numbered both in the path and
        in the file.
    ValueError
        If `stack.axis` is set but the first readable file is a single image.
    """
    first = _first_layout(found)
    if first is None:
        return found
    path, layout = first
    if not layout.stack:
        _refuse_single(path, layout, stack=stack, where=where)
        return found
    mistakes: list[str] = []
    expanded: list[Found] = []
    for sample, values in found:
        try:
            expanded += _planes(sample, values, layout=read_layout(sample.image), stack=stack, where=where)
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SampleError(mistakes[:MAX_MISTAKES])
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
    cut = times + (depths if stack["z"] == "sections" else [])
    fixed = {axis: "channel" if meaning == "C" else stack["z"] for axis, meaning in meanings.items() if axis not in cut}
    planes: list[Found] = []
    for place in _places({axis: layout.stack[axis] for axis in cut}):
        plane = [[axis, {**fixed, **place}[axis], size] for axis, size in layout.stack.items()]
        name, sequence, frame = sample.sample, sample.sequence or sample.sample, sample.frame
        numbered = dict(values)
        for axis in depths:
            if axis in place:
                tag = f"z{place[axis]:0{_digits(layout.stack[axis])}d}"
                name = f"{name}_{tag}"
                if times or "frame" in values:
                    sequence = f"{sequence}_{tag}"
                else:
                    frame = place[axis]
        for axis in times:
            name, frame = f"{name}_t{place[axis]:0{_digits(layout.stack[axis])}d}", place[axis]
        if place:
            numbered.setdefault("frame", str(frame))
            numbered.setdefault("sequence", sequence)
        else:
            sequence = sample.sequence
        planes.append((replace(sample, sample=name, sequence=sequence, frame=frame, plane=plane), numbered))
    return planes


def _meanings(path: str, layout: Layout, *, stack: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the meaning of each axis of a stack: T, Z or C."""
    meanings = {axis: axis if axis in "TZ" else "" for axis in layout.stack}
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


def _places(sizes: Mapping[str, int]) -> list[dict[str, int]]:
    places: list[dict[str, int]] = [{}]
    for axis, size in sizes.items():
        places = [{**place, axis: i} for place in places for i in range(size)]
    return places


def _digits(size: int) -> int:
    return max(3, len(str(size - 1)))
