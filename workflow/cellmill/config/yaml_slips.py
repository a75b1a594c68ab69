"""Strict reading of a config file: mistakes that YAML accepts in silence or reports without a line.

Snakemake reads config files with PyYAML, where the last of two equal keys wins and `on` is a truth value. This module
reads the same file only to find such mistakes. It imports no other part of the project, because Snakemake's profile
runs it before the Snakefile.
"""

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from pathlib import Path

import yaml

from cellmill.config.yaml_hints import FOREIGN, GLUED_DASH, foreign, glued, syntax_mistake

Location = tuple[str | int, ...]
READ_AS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
# Snakemake hands over config files by their paths, and everything after --configfile is taken for one
_TARGETS = ("check", "all")


def slips_of_files(paths: Iterable[str | Path]) -> list[str]:
    """List the mistakes of several config files, in the order of the files."""
    return [slip for path in paths for slip in slips_of_file(path)]


def slips_of_file(path: str | Path) -> list[str]:
    """List the mistakes in the YAML or JSON of a config file, each with file, line and repair.

    Returns
    -------
    list of str
        Empty if the file is read as it is written. After a mistake in the syntax nothing more can be found.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return [_unreadable(path, error)]
    return [f"{path}{slip}" for slip in _slips_of_bytes(data)]


@lru_cache(maxsize=8)  # the profile and the workflow read the same files in one process
def _slips_of_bytes(data: bytes) -> tuple[str, ...]:
    """Return the mistakes in the bytes of a config file, without the path before them."""
    try:
        text = decode(data)
    except ValueError as error:
        return (str(error),)
    # JSON allows tabulators, YAML does not.
    text = text.replace("\t", " ") if _is_json(text) else text
    try:
        root = yaml.compose(text, Loader=yaml.FullLoader)
        if not isinstance(root, yaml.MappingNode):
            return (_no_mapping(root),)
        slips = tuple(f", {slip}" for slip in _slips_of_node(root))
        if not slips:
            yaml.FullLoader("").construct_document(root)
    except yaml.YAMLError as error:
        return (syntax_mistake(text, error),)
    return slips


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def with_lines(mistakes: Iterable[str], paths: Iterable[str | Path], *, overridden: Iterable[str] = ()) -> list[str]:
    """Put file and line before each mistake that begins with the location of a key, such as ``datasets.d.images``.

    Parameters
    ----------
    mistakes : iterable of str
        Messages about the merged config.
    paths : iterable of path
        The config files in the order in which they were merged: the last one wins.
    overridden : iterable of str
        Keys at the top level whose values are from the command line.
    """
    sound = [path for path in paths if not slips_of_file(path)]
    known = {
        _name_of(where): f"{_short(path)}, line {line}"
        for path in sound
        for where, line in lines_of_keys(path).items()
        if str(where[0]) not in set(overridden)
    }
    return [f"{known[key]}: {mistake}" if (key := _key_of(mistake, known)) else mistake for mistake in mistakes]


def _short(path: str | Path) -> Path:
    """Return a path relative to the working directory if the file is in it."""
    return Path(path).relative_to(Path.cwd()) if Path(path).is_relative_to(Path.cwd()) else Path(path)


def _key_of(mistake: str, known: Mapping[str, str]) -> str | None:
    """Return the longest known location that a message begins with, or None."""
    begun = [key for key in known if mistake.startswith(key) and mistake[len(key) : len(key) + 1] in (":", ".", "[")]
    return max(begun, key=len, default=None)


def lines_of_keys(path: str | Path) -> dict[Location, int]:
    """Return the line of each key and list item of a valid config file, by its location."""
    root = yaml.compose(decode(Path(path).read_bytes()), Loader=yaml.FullLoader)
    assert root is not None, path
    found: dict[Location, int] = {}
    # bounded, since anchors in anchors can stand for more keys than a memory holds
    for location, key in islice(_keys_of(root, (), frozenset()), 100_000):
        found.setdefault(location, key.start_mark.line + 1)
    return found


def decode(data: bytes) -> str:
    """Decode the bytes of a config file.

    Raises
    ------
    ValueError
        If it is not UTF-8. The message is to be put after the path and names the line.
    """
    marks = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
    found = marks.get(data[:2], "UTF-16 without a mark" if b"\0" in data[:200] else None)
    if found is not None:
        raise ValueError(f", line 1: expected text encoded as UTF-8, found {found}. {_SAVE}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - before.rfind(b"\n")
        byte = data[error.start]
        shown = bytes([byte]).decode("latin-1")
        of_latin = f" ({shown} in Latin-1)" if shown.isprintable() else ""
        raise ValueError(
            f", line {line}, column {column}: expected text encoded as UTF-8, found the byte 0x{byte:02X}{of_latin}. "
            f"{_SAVE}"
        ) from None


_SAVE = "Save the file as UTF-8 in your editor."


def _unreadable(path: str | Path, error: OSError) -> str:
    if str(path) in _TARGETS:
        return (
            f"{path}: expected a config file after --configfile, found the name of a target. Write the target first: "
            f"snakemake {path} --configfile FILE."
        )
    if isinstance(error, FileNotFoundError):
        return (
            f"{path}: expected a config file, found none. Correct the path; it starts from the folder in which "
            "snakemake is called."
        )
    return f"{path}: expected a readable config file, found {error.strerror}. Give a file that you may read."


def _no_mapping(root: yaml.Node | None) -> str:
    # a file of comments only has no node; a file of dashes only has an empty one
    if root is None or root.tag.endswith(":null"):
        return ": expected a config with the key datasets, found an empty file. Start from a copy of config.yaml."
    found = "a list" if isinstance(root, yaml.SequenceNode) else "a text"
    line = root.start_mark.line + 1
    advice = "Remove the dash before the keys" if found == "a list" else "Write a colon and a blank after each key"
    return f", line {line}: expected keys such as datasets at the top level, found {found}. {advice}."


def _slips_of_node(root: yaml.Node) -> Iterator[str]:
    """Yield the mistakes in a section and in the sections in it, without the path of the file."""
    for where, node in _nodes_of(root):
        if isinstance(node, yaml.MappingNode):
            yield from _slips_of_keys(node, where)
        elif isinstance(node, yaml.ScalarNode):
            yield from _slips_of_text(node, where)


def _slips_of_keys(section: yaml.MappingNode, where: Location) -> Iterator[str]:
    placeholder = _placeholder_in(section)
    if placeholder is not None:
        yield (
            f"{place(section)}: {_name_of(where)}: expected a text, found {placeholder} without quotes, which YAML "
            f'reads as a section. Quote it: "{placeholder}".'
        )
        return
    yield from _empty_datasets(section, where)
    places: dict[str, str] = {}
    before: yaml.Node | None = None
    for key, value in section.value:
        number, before = before, value
        if key.tag.endswith(":merge"):
            continue
        if not isinstance(key, yaml.ScalarNode):
            yield f"{place(key)}: expected the name of a key, found brackets. Quote the name, or remove the brackets."
            continue
        if key.style is None and (sign := FOREIGN.match(key.value)):
            yield f"{place(key)}: {_name_of((*where, key.value))}: {foreign(sign.group())}"
        if key.style is None and GLUED_DASH.match(key.value):
            yield f"{place(key)}: {_name_of(where)}: {glued(key.value)}"
        if section.flow_style and _is_bare(value) and _is_whole_number(number) and key.value.isdigit():
            assert isinstance(number, yaml.ScalarNode)
            yield (
                f"{place(number)}: {_name_of(where)}: expected a decimal point, found {number.value},{key.value}. "
                f"Write {number.value}.{key.value}."
            )
            continue
        kind = READ_AS.get(key.tag.rsplit(":", 1)[-1])
        if kind is not None:
            shown = key.value or "no name"
            yield (
                f"{place(key)}: {_name_of((*where, shown))}: expected a name, found {shown} without quotes, which YAML "
                f'reads as {kind}. Quote the name: "{key.value or "name"}".'
            )
        if key.value in places:
            yield (
                f"{place(key)}: {_name_of((*where, key.value))}: expected each key once, found it in "
                f"{places[key.value]} already. Rename or remove one of the two."
            )
        places.setdefault(key.value, place(key))


def _empty_datasets(section: yaml.MappingNode, where: Location) -> Iterator[str]:
    """Yield a mistake if the keys of a dataset, or the datasets, begin in the column of the key above them."""
    for number, (key, value) in enumerate(section.value):
        following = next(iter(section.value[number + 1 :]), None)
        if following and FOREIGN.match(str(following[0].value)):
            continue  # the blanks before it are reported
        if _is_bare(value) and (where == ("datasets",) or (where == () and key.value == "datasets")):
            found = "nothing below it" if following is None else f"{following[0].value} in the same column"
            after = "" if following is None else f" from line {following[0].start_mark.line + 1} on"
            yield (
                f"{place(key)}: {_name_of((*where, key.value))}: expected its keys below it and further right, found "
                f"{found}. Indent the lines that belong to it{after}."
            )
            return


def _slips_of_text(node: yaml.ScalarNode, where: Location) -> Iterator[str]:
    """Yield a mistake for quotes of a word processor, or for a path in double quotes without its backslashes."""
    sign = FOREIGN.match(node.value) or FOREIGN.match(node.value[-1:])
    if node.style is None and sign:
        yield f"{place(node)}: {_name_of(where)}: {foreign(sign.group())}"
    if node.style != '"' or node.start_mark.line != node.end_mark.line or len(node.value) < 2:
        return
    if any(ord(letter) < 32 for letter in node.value):
        line = node.start_mark.buffer or ""
        source = line[node.start_mark.pointer + 1 : node.end_mark.pointer - 1]
        yield (
            f"{place(node)}: {_name_of(where)}: expected a path or a name, found backslashes in double quotes, which "
            f"YAML reads as control characters. Use single quotes or forward slashes: '{source.replace(chr(92), '/')}'."
        )


def _placeholder_in(section: yaml.MappingNode) -> str | None:
    """Return `{sample}` if a section is nothing but a placeholder that should have been quoted."""
    if not section.flow_style or len(section.value) != 1:
        return None
    key, value = section.value[0]
    return f"{{{key.value}}}" if _is_bare(value) and isinstance(key, yaml.ScalarNode) else None


def _is_bare(node: yaml.Node) -> bool:
    """Return whether nothing is written in the place of a value."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value == ""


def _is_whole_number(node: yaml.Node | None) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value.lstrip("-").isdigit()


def _nodes_of(root: yaml.Node) -> Iterator[tuple[Location, yaml.Node]]:
    """Yield a node and all nodes below it with their locations; an anchored one only where it is written."""
    seen: set[int] = set()
    waiting: list[tuple[Location, yaml.Node]] = [((), root)]
    while waiting:
        where, node = waiting.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield where, node
            waiting += reversed([(below, value) for below, _, value in _entries_of(node, where)])


def _keys_of(node: yaml.Node, where: Location, above: frozenset[int]) -> Iterator[tuple[Location, yaml.Node]]:
    """Yield the keys and list items below a node; those of an anchor at each place that refers to it."""
    if id(node) in above:
        return
    for below, key, value in _entries_of(node, where):
        if below != where:
            yield below, key
        yield from _keys_of(value, below, above | {id(node)})


def _entries_of(node: yaml.Node, where: Location) -> Iterator[tuple[Location, yaml.Node, yaml.Node]]:
    """Yield location, key and value of each entry of a section or list; merged sections come last."""
    if isinstance(node, yaml.MappingNode):
        merged = [value for key, value in node.value if key.tag.endswith(":merge")]
        for key, value in node.value:
            if not key.tag.endswith(":merge"):
                yield (*where, key.value if isinstance(key, yaml.ScalarNode) else "?"), key, value
        for value in merged:
            for section in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                yield where, section, section
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*where, index), value, value


def _name_of(location: Location) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "config"


def place(node: yaml.Node) -> str:
    """Format the position of a node as ``line 3, column 5``."""
    return f"line {node.start_mark.line + 1}, column {node.start_mark.column + 1}"
