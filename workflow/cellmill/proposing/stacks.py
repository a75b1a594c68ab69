"""What the headers of images say: size, type, planes and channels, and what they leave open."""

from collections import Counter

from cellmill.images.axes import Layout
from cellmill.proposing.draft import Key, Question, count, kind_of
from cellmill.proposing.evidence import Headers
from cellmill.proposing.families import Family

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
    if layout.axes == "YXC":
        choices = tuple(
            (f"preprocess: {{channel: {number}}}", f"channel {number + 1} of {layout.channels}")
            for number in range(min(layout.channels, 8))
        )
        keys.append(
            Key(
                "preprocess", None, [],
                [Question(f"Each file has {layout.channels} channels. Which one shows the objects?", choices, is_open=True)],
            )
        )  # fmt: skip
    return keys
