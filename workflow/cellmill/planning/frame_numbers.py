"""Numbers in file names: frames and times, and a constant shift between the numbers of images and annotation files."""

import re
from collections.abc import Sequence

# Times as microscopes write them: 00d06h00m, 1h30m, 02h00m30s
TIME = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s)?", re.IGNORECASE)
MINUTES = (24 * 60, 60, 1)


def frame_number(text: str) -> int | None:
    """Return the number of a frame: minutes (or seconds, if given) of a time such as 00d06h00m, or the first number.

    Returns
    -------
    int or None
        None if the text has no digits.
    """
    time = TIME.fullmatch(text)
    if time is not None and sum(part is not None for part in time.groups()) > 1:
        *parts, seconds = (int(part or 0) for part in time.groups())
        minutes = sum(part * factor for part, factor in zip(parts, MINUTES, strict=True))
        return 60 * minutes + seconds if has_seconds(text) else minutes
    digits = re.search(r"\d+", text)
    return None if digits is None else int(digits.group())


def has_seconds(text: str) -> bool:
    """Check whether a text is a time with seconds, so that its number counts seconds."""
    time = TIME.fullmatch(text)
    return time is not None and sum(part is not None for part in time.groups()) > 1 and time.group(4) is not None


def shift_last_number(text: str, offset: int) -> str | None:
    """Add a number to the last number of a text and keep leading zeros: img_010 becomes img_009 for -1.

    Returns
    -------
    str or None
        None if the text has no number or the result is negative.
    """
    match = re.search(r"\d+(?=\D*$)", text)
    if match is None or int(match.group()) + offset < 0:
        return None
    number = f"{int(match.group()) + offset:0{len(match.group())}d}"
    return text[: match.start()] + number + text[match.end() :]


def find_shift(images: Sequence[int], files: Sequence[int]) -> int | None:
    """Return the shift between the numbers of images and of annotation files, or None if there is no such shift.

    Parameters
    ----------
    images, files : sequence of int
        Numbers of the images and of the annotation files.

    Returns
    -------
    int or None
        Number of a file minus the number of its image. None for equal ranges, images with gaps, ranges of different
        lengths or a single number: files may then be missing, which is no shift. Files may lack some numbers if both
        ends are shifted by 1, as between counts from 0 and from 1.
    """
    own, others = sorted(set(images)), sorted(set(files))
    if len(own) < 2 or len(others) < 2 or own[-1] - own[0] != len(own) - 1:
        return None
    shift = others[0] - own[0]
    if shift == 0 or others[-1] - own[-1] != shift:
        return None
    return shift if len(own) == len(others) or abs(shift) == 1 else None


def find_shift_of_names(
    images: Sequence[tuple[str, str]], files: Sequence[tuple[str, str]], *, numbers: int | None
) -> tuple[set[int], set[int], int] | None:
    """Return the numbers of images and files, and their shift, if it holds for at least half of the names.

    Parameters
    ----------
    images, files, numbers
        As in `number_names`.

    Returns
    -------
    tuple or None
        Numbers of a group of images, numbers of its files, and the shift as in `find_shift`. Groups of two names are
        not compared, because files may be missing by chance.
    """
    others = number_names(files, numbers=numbers)
    shifted: dict[int, list[tuple[set[int], set[int]]]] = {}
    for group, own in number_names(images, numbers=numbers).items():
        found = others.get(group, set())
        shift = find_shift(sorted(own), sorted(found))
        if shift is not None and len(own) > 2:
            shifted.setdefault(shift, []).append((own, found))
    for shift, groups in shifted.items():
        if 2 * sum(len(own) for own, _ in groups) >= len(set(images)):
            return *groups[0], shift
    return None


def number_names(names: Sequence[tuple[str, str]], *, numbers: int | None) -> dict[tuple[str, ...], set[int]]:
    """Collect the numbers of names that differ in one number only.

    Parameters
    ----------
    names : sequence of (str, str)
        Name, and other text that separates names, such as the folder.
    numbers : int or None
        How many numbers are compared: a name after that many numbers is open. None: the whole name is compared.

    Returns
    -------
    dict
        (separating text, texts and other numbers, position of the number) -> numbers.
    """
    found: dict[tuple[str, ...], set[int]] = {}
    for name, apart in names:
        parts = re.split(r"(\d+)", name)
        parts = parts if numbers is None else parts[: 2 * numbers]
        for place in range(1, len(parts), 2):
            rest = [part for index, part in enumerate(parts) if index != place]
            found.setdefault((apart, *rest, str(place)), set()).add(int(parts[place]))
    return found
