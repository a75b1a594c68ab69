"""Images of microscope files: scenes, time points and sections that the config has to choose.

The axes of such a file are known, but not which of its planes are the images. Nothing is guessed: what a file has and
the config does not choose is listed in one message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from cellmill.images.axes import ONLY, SCENE
from cellmill.images.channels import LUMINANCE, Channel, find_channel, list_choices
from cellmill.images.raw_files import RAW_FORMATS, SET_OF_TIFF, UNKNOWN_AXIS, Scene, is_set, raw_format_of
from cellmill.planning.headers import Headers
from cellmill.planning.plane_choices import ALL
from cellmill.planning.samples import Found, Sample


def is_raw(sample: Sample, *, stack: Mapping[str, Any]) -> bool:
    """Return whether an image is a microscope file; a TIFF is one if its scene is chosen."""
    return raw_format_of(sample.image) is not None or (stack["scene"] is not None and is_set(sample.image))


def choose_scenes(
    sample: Sample,
    values: Mapping[str, str],
    *,
    stack: Mapping[str, Any],
    channels: Sequence[Channel],
    headers: Headers,
    where: str,
) -> list[tuple[Found, Scene]]:
    """List the images of a raw file, one for each chosen scene, named {sample}_s{scene} if all are chosen.

    Parameters
    ----------
    sample : Sample
        The file.
    values : mapping
        Its wildcards.
    stack : mapping
        The section `stack` of the dataset.
    channels : sequence of "luminance", int, sequence of float or str
        Channels of the config, the one with the objects first; none if a trained model decides.
    headers : Headers
        What is known of microscope files.
    where : str
        Key path of the dataset, for messages.

    Returns
    -------
    list of tuple
        Sample with wildcards and scene. The plane of the sample has an entry for the scene if the file has several.

    Raises
    ------
    ValueError
        If the file is damaged, the config does not choose what is needed, or chooses what the file does not have.
    """
    scenes, members = headers.read(Path(sample.image))
    has_unknown = any(UNKNOWN_AXIS in scene.sizes for scene in scenes)
    if stack["axis"] != "auto" and not has_unknown:
        raise ValueError(
            f"{where}.stack.axis: expected auto for {sample.image}, whose axes are known, found {stack['axis']}. "
            "Remove stack.axis."
        )
    numbers = _choose(scenes, stack["scene"], where=f"{where}.stack.scene: {sample.image}")
    chosen = [scenes[number] for number in numbers]
    if question := _ask(sample.image, scenes, chosen, stack=stack, channels=channels):
        raise ValueError(f"{where}.stack: {question}")
    sample = replace(sample, members=members)
    if len(scenes) == 1 and not is_set(sample.image):
        return [((sample, dict(values)), scenes[0])]
    digits = max(3, len(str(len(scenes) - 1)))
    found: list[tuple[Found, Scene]] = []
    for number in numbers:
        plane = [[SCENE, f"{ONLY} {number}", len(scenes)]]
        one, texts = replace(sample, plane=plane), {**values, "scene": scenes[number].name or str(number)}
        if stack["scene"] in ALL and len(scenes) > 1:
            tag = f"_s{number:0{digits}d}"
            sequence = f"{sample.sequence}{tag}" if sample.sequence else ""
            one = replace(one, sample=f"{sample.sample}{tag}", sequence=sequence)
            texts["sample"] = one.sample
        found.append(((one, texts), scenes[number]))
    return found


def _choose(scenes: Sequence[Scene], choice: int | str | None, *, where: str) -> list[int]:
    """Return the numbers of the chosen scenes; all of them without a choice."""
    if choice is None or choice in ALL:
        return list(range(len(scenes)))
    names = [scene.name for scene in scenes]
    if isinstance(choice, int):
        if choice < len(scenes):
            return [choice]
        raise ValueError(
            f"{where}: expected a scene from 0 to {len(scenes) - 1}, found {choice}. The file has the scenes "
            f"{list_choices(names)}. Set stack.scene to one of them, or to all."
        )
    found = [number for number, name in enumerate(names) if name == choice]
    if len(found) == 1:
        return found
    problem = f"found {len(found)} (numbers {', '.join(map(str, found))})" if found else f"found {list_choices(names)}"
    advice = "the number of one of them" if found else "one of these names or numbers, or to all"
    raise ValueError(f"{where}: expected one scene called {choice!r}, {problem}. Set stack.scene to {advice}.")


def _ask(
    path: str,
    scenes: Sequence[Scene],
    chosen: Sequence[Scene],
    *,
    stack: Mapping[str, Any],
    channels: Sequence[Channel],
) -> str:
    """Return a message that asks for everything that the config does not choose; empty if nothing is missing."""
    keys: list[str] = []
    has: list[str] = []
    advice: list[str] = []

    def ask(key: str, found: str, how: str) -> None:
        keys.append(key)
        has.append(found)
        advice.append(f"{key} to {how}")

    if len(scenes) > 1 and stack["scene"] is None:
        kind = RAW_FORMATS[raw_format_of(path) or SET_OF_TIFF]["scenes"]
        ask("stack.scene", f"the {kind} {list_choices([one.name for one in scenes])}", "a name, a number or all")
    sizes = _largest_sizes(chosen)
    if UNKNOWN_AXIS in sizes and stack["axis"] == "auto":
        ask("stack.axis", f"{sizes[UNKNOWN_AXIS]} planes of unknown meaning", "time, z or channel")
    if "T" in sizes and stack["time"] is None:
        ask("stack.time", f"{sizes['T']} time points", f"all, a number or a range such as 0-{sizes['T'] - 1}")
    if "Z" in sizes and stack["z"] is None:
        how = f"sections, maximum, mean, a number or a range such as 0-{sizes['Z'] - 1}"
        ask("stack.z", f"{sizes['Z']} sections", how)
    others = [axis for axis in sizes if axis not in ("T", "Z", UNKNOWN_AXIS, *stack["others"])]
    if others:
        found = ", ".join(f"{sizes[axis]} positions along {axis}" for axis in others)
        ask("stack.others", found, f"{{{', '.join(f'{axis}: 0' for axis in others)}}} or other numbers, or all")
    layout = chosen[0].layout(where=path)
    if list(channels) == [LUMINANCE] and layout.axes == "YXC":
        names = chosen[0].channels or ("",) * layout.channels
        ask("preprocess.channel", f"the channels {list_choices(names)}", "a name or a number")
    else:
        for one, channel in product(chosen, channels):
            _check_channel(path, one, channel)
    if not keys:
        return ""
    return (
        f"{path}: expected a choice of {_join(keys)}, found none. The file has {_join(has)}. "
        f"Set {'; '.join(advice)}. Numbers count from 0."
    )


def _check_channel(path: str, scene: Scene, channel: Channel) -> None:
    layout = scene.layout(where=path)
    found = find_channel(channel, names=scene.channels, where=path)
    if isinstance(found, int) and found >= layout.channels:
        raise ValueError(
            f"{path}: expected at least {found + 1} channels, found {list_choices(scene.channels)}. "
            "Set preprocess.channel to one of these names or numbers."
        )


def _largest_sizes(scenes: Sequence[Scene]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for scene in scenes:
        for axis, size in scene.layout(where=scene.name).stack.items():
            sizes[axis] = max(size, sizes.get(axis, 0))
    return sizes


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
