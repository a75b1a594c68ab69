"""Path patterns: {name} marks a part of a path, * matches anything within a name."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from cellmill.config.dataset import WILDCARD
from cellmill.images.ome_zarr import is_store

# Where the text of a pattern is open: a wildcard or a star
PLACES = re.compile(rf"{WILDCARD}|\*")


def wildcards_of(pattern: str) -> list[str]:
    """List the wildcards of a pattern in the order of their first use."""
    return list(dict.fromkeys(re.findall(WILDCARD, pattern)))


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern to a regular expression.

    A wildcard matches within one file or folder name, and a repeated wildcard matches the same text again.
    """
    text, position, seen = "", 0, set()
    for match in PLACES.finditer(pattern):
        text += re.escape(pattern[position : match.start()])
        position = match.end()
        name = match.group(1)
        if name is None:
            text += r"[^/]*"
        elif name in seen:
            text += f"(?P={name})"
        else:
            text += f"(?P<{name}>[^/]+)"
            seen.add(name)
    return re.compile(text + re.escape(pattern[position:]), re.DOTALL)


def find_files(pattern: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Find the files and OME-Zarr folders that match a pattern, sorted by path.

    Yields
    ------
    tuple
        Path as written in the pattern (relative stays relative), and the text of each wildcard.

    Raises
    ------
    ValueError
        If one of them is a broken symbolic link.
    """
    literals = PLACES.sub("\0", pattern).split("\0")
    globbed = "*".join(map(glob.escape, literals))
    regex = pattern_regex(pattern)
    for path in sorted(glob.iglob(globbed)):
        match = regex.fullmatch(path)
        if not match:
            continue
        refuse_dangling(path)
        if Path(path).is_file() or is_store(Path(path)):
            yield path, match.groupdict()


def refuse_dangling(path: str) -> None:
    """Check that a path is not a broken symbolic link, since skipping it would silently lose an image or an object.

    Raises
    ------
    ValueError
        If the link is broken.
    """
    if not Path(path).exists():
        raise ValueError(
            f"{path}: expected a readable file, found a symbolic link to {Path(path).readlink()}, which "
            "does not exist. Repair or remove the link."
        )


def fill_pattern(pattern: str, values: dict[str, str]) -> str:
    """Replace the wildcards of a pattern by values, which are escaped for glob if the pattern contains a star."""
    is_glob = "*" in pattern
    return re.sub(
        WILDCARD, lambda match: glob.escape(values[match.group(1)]) if is_glob else values[match.group(1)], pattern
    )


def fixed_folder(pattern: str) -> Path:
    """Return the folder before the first wildcard of a pattern, which users expect to exist."""
    fixed: list[str] = []
    for part in Path(pattern).parent.parts:
        if "*" in part or "{" in part:
            break
        fixed.append(part)
    return Path(*fixed)
