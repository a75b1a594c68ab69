"""Path patterns: {name} marks a part of a path, * matches anything within a name."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

from cellmill.ome_zarr import is_store

_WILDCARD = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def wildcards_of(pattern: str) -> list[str]:
    """List the wildcards of a pattern in the order of their first use."""
    return list(dict.fromkeys(_WILDCARD.findall(pattern)))


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; a wildcard matches within one name, and the same text wherever it stands again."""
    text, position, seen = "", 0, set()
    for match in re.finditer(r"\{([A-Za-z_][A-Za-z0-9_]*)\}|\*", pattern):
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
    """Find the files, and the folders of OME-Zarr, that fit a pattern, in the order of their paths.

    Yields
    ------
    tuple
        Path as the pattern writes it (relative stays relative), and the text of each wildcard.

    Raises
    ------
    ValueError
        If one of them is a symbolic link that leads nowhere.
    """
    parts = re.split(r"(\{[A-Za-z_][A-Za-z0-9_]*\}|\*)", pattern)
    globbed = "".join("*" if part == "*" or _WILDCARD.fullmatch(part) else glob.escape(part) for part in parts)
    regex = pattern_regex(pattern)
    for path in sorted(glob.iglob(globbed)):
        match = regex.fullmatch(path)
        if not match:
            continue
        refuse_dangling(path)
        if Path(path).is_file() or is_store(Path(path)):
            yield path, match.groupdict()


def refuse_dangling(path: str) -> None:
    """Refuse a symbolic link that leads nowhere: left out, an image or an object would be missing unseen.

    Raises
    ------
    ValueError
        Naming the link.
    """
    if not Path(path).exists():
        raise ValueError(
            f"{path}: expected a readable file, found a symbolic link to {Path(path).readlink()}, which "
            "is not there. Mend the link, or remove it."
        )


def fill_pattern(pattern: str, values: dict[str, str]) -> str:
    """Put values into the wildcards of a pattern, escaped for glob where the pattern has a star."""
    is_glob = "*" in pattern
    return _WILDCARD.sub(
        lambda match: glob.escape(values[match.group(1)]) if is_glob else values[match.group(1)], pattern
    )


def fixed_folder(pattern: str) -> Path:
    """Give the folder up to which a pattern has no wildcard: the one a person expects to be there."""
    fixed: list[str] = []
    for part in Path(pattern).parent.parts:
        if "*" in part or "{" in part:
            break
        fixed.append(part)
    return Path(*fixed)
