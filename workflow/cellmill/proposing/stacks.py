"""What the headers of images say: size, type, planes and channels, and what they leave open."""

from collections import Counter

from cellmill.images.axes import Layout
from cellmill.proposing.draft import Key, Question, count, kind_of
from cellmill.proposing.evidence import Headers
from cellmill.proposing.families import Family

MOST_CHANNELS = 8
AXES = {"T": "time points", "Z": "sections"}


def describe_images(family: Family, headers: Headers) -> list[str]:
    """Return comments on a family of images: number, format, size, type, and files that cannot be read."""
    layout = headers.first
    assert layout is not None
    kinds = Counter((one.shape, str(one.dtype), one.channels) for one in headers.layouts)
    rows, columns = layout.shape
    size = f"{rows} x {columns} px" if len({one.shape for one in headers.layouts}) == 1 else "several sizes"
    colour = "colour, " if layout.axes == "YXS" else ""
    kind = kind_of(family.suffix)
    name = family.files[0].name
    texts = [f"{count(len(family.files), f'{kind} image')} ({size}, {colour}{layout.dtype}), such as {name}."]
    if len(kinds) > 1 and len({(dtype, channels) for _, dtype, channels in kinds}) > 1:
        texts.append("Their types or numbers of channels differ.")
    texts += [f"Not readable: {message}" for message in headers.damaged[:3]]
    return texts


def time_axis(layout: Layout) -> int:
    """Return the number of frames or sections in a file; 0 for single images."""
    return next((size for axis, size in layout.stack.items() if axis in "TZ"), 0)


def describe_planes(headers: Headers) -> list[Key]:
    """Return the keys `stack` and `preprocess`, with questions where the metadata leave planes or channels open."""
    layout = headers.first
    assert layout is not None
    if headers.scenes:
        return [*_ask_planes(headers), *_ask_channel(layout)]
    keys: list[Key] = []
    unknown = [size for axis, size in layout.stack.items() if axis not in AXES]
    known = [f"{size} {AXES[axis]}" for axis, size in layout.stack.items() if axis in AXES]
    if unknown:
        keys.append(
            Key(
                "stack", None, [f"Each file has {unknown[0]} planes, and its metadata do not say what they are."],
                [Question(
                    "What are the planes?",
                    (("stack: {axis: time}", "frames of one sequence"), ("stack: {axis: z}", "sections"),
                     ("stack: {axis: channel}", "channels of one image; then set preprocess.channel, too")),
                    is_open=True,
                )],
            )
        )  # fmt: skip
    elif known:
        key = Key("stack", None, [f"Each file has {' and '.join(known)}, as its metadata say."])
        if "Z" in layout.stack:
            key.questions.append(
                Question(
                    "Each section is an image. Are the objects to be found in a projection instead?",
                    (("stack: {z: maximum}", "one image for each stack"), ("stack: {z: mean}", "")),
                )
            )
        keys.append(key)
    return [*keys, *_ask_channel(layout)]


def _ask_planes(headers: Headers) -> list[Key]:
    """Ask which scenes, time points and sections of microscope files are images: the config needs a choice of each."""
    found: dict[str, int] = {}
    for axis, size in (pair for layout in headers.layouts for pair in layout.stack.items()):
        found[axis] = max(size, found.get(axis, 0))
    words = [f"{headers.scenes} scenes"] if headers.scenes > 1 else []
    words += [f"{size} {AXES.get(axis, f'positions along {axis}')}" for axis, size in found.items()]
    if not words:
        return []
    others = ", ".join(f"{axis}: all" for axis in found if axis not in AXES)
    parts = {"scene": headers.scenes > 1, "time": "T" in found, "z": "Z" in found, "others": bool(others)}
    texts = {"scene": "scene: all", "time": "time: all", "z": "z: sections", "others": f"others: {{{others}}}"}
    every = ", ".join(texts[key] for key, is_needed in parts.items() if is_needed)
    choices = [(f"stack: {{{every}}}", "each of them is an image")]
    if parts["z"]:
        choices.append((f"stack: {{{every.replace('z: sections', 'z: maximum')}}}", "projected along z"))
    asked = f"The files have up to {', '.join(words)}. Which are images? Numbers from 0 choose single ones."
    return [Key("stack", None, [], [Question(asked, tuple(choices), is_open=True)])]


def _ask_channel(layout: Layout) -> list[Key]:
    if layout.axes != "YXC":
        return []
    asked = f"Each file has {layout.channels} channels. Which one shows the objects?"
    return [Key("preprocess", None, [], [Question(asked, _channel_choices(layout), is_open=True)])]


def _channel_choices(layout: Layout) -> tuple[tuple[str, str], ...]:
    """Return a line for each channel, and one for several channels."""
    names = layout.channel_names
    known = all(names) and len(set(names)) == layout.channels == len(names)
    shown = range(min(layout.channels, MOST_CHANNELS))
    choices = [
        (f"preprocess: {{channel: {number}}}", f"{names[number]}, channel " if known else "channel ")
        for number in shown
    ]
    numbered = [(line, f"{said}{number + 1} of {layout.channels}") for number, (line, said) in enumerate(choices)]
    return (*numbered, ("preprocess: {channels: [0, 1]}", "several for the networks; the first shows the objects"))
