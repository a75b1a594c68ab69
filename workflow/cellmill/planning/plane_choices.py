"""Places along the axes of a stack, as the config chooses them: all, one, a range, or a projection."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from cellmill.images.axes import ONLY

# Words for all planes as images of their own
ALL = ("all", "sections")
RANGE = re.compile(r"(?:(?P<how>maximum|mean) )?(?P<first>\d+)-(?P<last>\d+)")

Place = int | str


def list_places(choice: Place, *, size: int, where: str) -> list[Place]:
    """List the places along an axis, as in `cellmill.images.axes.read_place`.

    Parameters
    ----------
    choice : int or str
        A position, "all" or "sections", a range such as "2-6", "maximum" or "mean", or one of these with a range.
    size : int
        Planes along the axis.
    where : str
        Key path and file, for messages.

    Returns
    -------
    list of int or str
        Positions, which are separate images, or one word for one image.

    Raises
    ------
    ValueError
        If the file has no such planes.
    """
    if choice in ALL:
        return list(range(size))
    match = None if isinstance(choice, int) else RANGE.fullmatch(choice)
    last = choice if isinstance(choice, int) else int(match["last"]) if match else 0
    if last >= size:
        raise ValueError(f"{where}: expected positions from 0 to {size - 1}, found {choice}. Change the key.")
    if isinstance(choice, int):
        return [f"{ONLY} {choice}"]
    if match and not match["how"]:
        return list(range(int(match["first"]), last + 1))
    return [choice]


def combine_places(choices: Mapping[str, Sequence[Place]]) -> Iterator[dict[str, Place]]:
    """Yield each combination of the places along several axes; the last axis varies fastest."""
    for places in product(*choices.values()):
        yield dict(zip(choices, places, strict=True))
