"""Path patterns: {name} marks a part of a path, * matches anything within a name, **/ folders of any depth."""

import errno
import glob
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cellmill.config.patterns import WILDCARD
from cellmill.images.ome_zarr import is_store

# Where the text of a pattern is open: a wildcard, folders of any depth, or a star
PLACES = re.compile(rf"{WILDCARD}|\*\*/|\*")
# Characters with a meaning in other programs that stand for themselves here
LITERAL_SIGNS = re.compile(r"[?\[]")
# Files that operating systems write on their own
SYSTEM_FILES = ("Thumbs.db", "desktop.ini")


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
        if match.group() == "**/":
            text += r"(?:[^/]+/)*"
        elif name is None:
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
    regex = pattern_regex(pattern)
    for path in list_names(pattern):
        match = regex.fullmatch(path)
        if match and is_image(path):
            yield path, match.groupdict()


def list_names(pattern: str) -> list[str]:
    """List the paths that match a pattern, whatever they are, without the files of operating systems, sorted."""
    found = set(glob.iglob(glob_of(pattern), recursive="**/" in pattern))
    return sorted(path for path in found if path.rpartition("/")[2] not in SYSTEM_FILES)


def is_image(path: str) -> bool:
    """Return whether a path is a file or an OME-Zarr folder.

    Raises
    ------
    ValueError
        If it is a symbolic link to nothing.
    """
    mode = mode_of(path)
    return stat.S_ISREG(mode) or (stat.S_ISDIR(mode) and is_store(Path(path)))


def mode_of(path: str) -> int:
    """Return the kind of an existing path, as in `stat`; a broken link is refused: an image would be lost silently.

    Raises
    ------
    ValueError
        If the path is a symbolic link to nothing.
    """
    try:
        return os.stat(path).st_mode  # noqa: PTH116  a Path takes longer than the call, for each of a million files
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        raise ValueError(
            f"{path}: expected a readable file, found a symbolic link to {Path(path).readlink()}, which "
            "does not exist. Repair or remove the link."
        ) from None


def glob_of(pattern: str, values: Mapping[str, str] | None = None) -> str:
    """Convert a pattern to a glob pattern: wildcards become their values, or * without values."""

    def open_text(match: re.Match[str]) -> str:
        if match.group(1) is None:
            return match.group()
        return "*" if values is None else glob.escape(values[match.group(1)])

    text, position = "", 0
    for match in PLACES.finditer(pattern):
        text += glob.escape(pattern[position : match.start()]) + open_text(match)
        position = match.end()
    return text + glob.escape(pattern[position:])


def fill_pattern(pattern: str, values: Mapping[str, str]) -> str:
    """Replace the wildcards of a pattern by values; if the pattern contains a star, the result is a glob pattern."""
    if "*" in pattern:
        return glob_of(pattern, values)
    return re.sub(WILDCARD, lambda match: values[match.group(1)], pattern)


def is_matched(path: str, patterns: Sequence[str]) -> bool:
    """Check whether one of several patterns matches a path; a pattern without a folder is compared with its name."""
    path = path.removeprefix("./")
    return any(
        pattern_regex(pattern.removeprefix("./")).fullmatch(path if "/" in pattern else path.rsplit("/", 1)[-1])
        for pattern in patterns
    )


def hint_at_signs(pattern: str) -> str:
    """Return a hint for a message if a pattern contains ? or [ ], which stand for themselves; else an empty text."""
    if not LITERAL_SIGNS.search(pattern):
        return ""
    return " In patterns, ? and [...] stand for themselves: write * or a wildcard such as {sample} in their place."


def existing_form(pattern: str) -> str:
    """Return a pattern in the Unicode form (composed or decomposed) in which its files exist, if there are any."""
    forms = dict.fromkeys([pattern, *(unicodedata.normalize(form, pattern) for form in ("NFC", "NFD"))])
    if len(forms) == 1:
        return pattern
    return next((form for form in forms if any(find_files(form))), pattern)


def fixed_folder(pattern: str) -> Path:
    """Return the folder before the first wildcard of a pattern, which users expect to exist."""
    fixed: list[str] = []
    for part in Path(pattern).parent.parts:
        if "*" in part or "{" in part:
            break
        fixed.append(part)
    return Path(*fixed)
