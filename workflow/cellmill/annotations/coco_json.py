"""Read the JSON of COCO files entry by entry; check, pack and digest the entries."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ijson
import numpy as np

from cellmill.annotations.other_exports import recognise_export

SUFFIX = re.compile(r"(\.ome)?\.[a-z][a-z0-9]{1,4}$", re.IGNORECASE)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# COCO needs six levels; a file that consists of brackets only must not exhaust the stack
MAX_DEPTH = 50
NOT_COCO = "Export the annotations as COCO instances, or set annotations.format to the format of this file."


def read_entries(path: str | Path, lists: Sequence[str], *, where: str) -> Iterator[tuple[str, Any]]:
    """Read the entries of some lists of a JSON object, one at a time.

    Parameters
    ----------
    path : path
        JSON file.
    lists : sequence of str
        Keys of the object; it may lack `categories`.
    where : str
        Name of the file in error messages.

    Yields
    ------
    str, object
        Key of the list, and the entry as `json.loads` returns it (numbers are int or float), in the order of the file.
        The values of an object count as a list; its keys are the ids of entries without an id.

    Raises
    ------
    ValueError
        If the file cannot be read, is not JSON or lacks a list, or if entries are nested too deeply.
    """
    try:
        yield from _read_lists(path, lists, where=where)
    except ValueError as error:
        if (found := recognise_export(path)) is None:
            raise
        raise ValueError(
            f"{where}: expected annotations as COCO instances, found {found[0]}. To use it, {found[1]}."
        ) from error


def _read_lists(path: str | Path, lists: Sequence[str], *, where: str) -> Iterator[tuple[str, Any]]:
    try:
        with Path(path).open("rb") as stream:
            if stream.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
                stream.seek(0)
            yield from _walk_lists(iter(ijson.basic_parse(stream, use_float=True)), lists, where=where)
    except OSError as error:
        raise ValueError(
            f"{where}: expected a JSON file, found: {error.strerror or error}. Check the path and the file permissions."
        ) from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        # keep the first line of the parser's message; a drawing of the position follows
        found = re.split(r"\\n|\n", str(error).removeprefix("b'"))[0].strip()
        raise ValueError(
            f"{where}: expected JSON, found something else ({found}). "
            "Export the file again: it is truncated, contains NaN or Infinity, or has another format."
        ) from error


def identify_image(entry: Any, *, known: Mapping[Any, str], where: str) -> tuple[Any, str]:
    """Return the id and the file_name of an image.

    Parameters
    ----------
    entry : object
        Entry of the list `images`.
    known : mapping
        id -> sample of the images read before.
    where : str
        File, for error messages.

    Raises
    ------
    ValueError
        If the entry lacks either of them, or another image has the same id.
    """
    key, file_name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
    if not isinstance(key, int | float | str) or not isinstance(file_name, str) or not file_name:
        raise ValueError(
            f"{where}: expected images with an id and a file_name, found {shorten(entry)}. "
            "Add them; images are matched to their files by the name without suffix."
        )
    if key in known:
        raise ValueError(
            f"{where}: expected a unique id for every image, found {key} for {known[key]} and {sample_of(file_name)}. "
            "Renumber the images: their annotations cannot be distinguished."
        )
    return key, file_name


def identify_owner(entry: Any, *, where: str) -> Any:
    """Return the id of the image that an entry of the list `annotations` belongs to.

    Raises
    ------
    ValueError
        If the entry has none.
    """
    key = entry.get("image_id") if isinstance(entry, dict) else None
    if not isinstance(key, int | float | str):
        raise ValueError(
            f"{where}: expected annotations with an image_id, found {shorten(entry)}. "
            "Export the annotations as COCO instances."
        )
    return key


def refuse_strangers(strangers: Mapping[Any, int], images: int, *, where: str) -> None:
    """Raise an error if annotations belong to images that the file does not list.

    Parameters
    ----------
    strangers : mapping
        id of an image that the file does not list -> number of its annotations.
    images : int
        Number of images that the file lists.
    where : str
        File, for error messages.

    Raises
    ------
    ValueError
        If there are any.
    """
    if strangers:
        raise ValueError(
            f"{where}: expected annotations of the {images} images listed in the file, found {sum(strangers.values())} "
            f"of unlisted images, such as image_id {next(iter(strangers))}. "
            "Add the images, or remove their annotations."
        )


def sample_of(file_name: str) -> str:
    """Return the sample of an image's file: the file name without folder and suffix."""
    name = re.split(r"[/\\]", file_name)[-1]
    return SUFFIX.sub("", name) or name


def read_size(entry: Mapping[str, Any], *, where: str) -> tuple[int, int] | None:
    """Return the (rows, columns) stated in an image's entry, or None if it states none.

    Raises
    ------
    ValueError
        If they are not two whole numbers from 1.
    """
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None:
        return None
    size = as_numbers([height, width])
    if size is None or (size < 1).any() or (size != np.floor(size)).any():
        raise ValueError(
            f"{where}: expected height and width in pixels, found {shorten(height)} and {shorten(width)}. "
            "Correct them, or remove both."
        )
    return int(size[0]), int(size[1])


def keep_drawn(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the fields of an annotation that are drawn, with numbers as arrays: lists need four times the memory."""
    kept = {key: entry[key] for key in ("id", "segmentation", "iscrowd") if key in entry}
    segmentation = kept.get("segmentation")
    if isinstance(segmentation, list):
        kept["segmentation"] = [_pack(part) for part in segmentation]
    elif isinstance(segmentation, dict):
        kept["segmentation"] = {key: _pack(part) for key, part in segmentation.items()}
    return kept


def as_numbers(values: Any) -> np.ndarray | None:
    """Return a list of finite numbers as float64, an array unchanged, and None for anything else.

    Types are checked first, because numpy would convert strings and booleans to numbers.
    """
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return None
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def as_text(value: Any) -> str:
    """Convert a JSON value to the text of a table cell: without quotes, 5.0 as 5, null as empty text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def feed_digest(digest: Any, value: Any) -> None:
    """Add a JSON value to a hashlib digest, which is equal for 5 and 5.0 but differs for any other two values."""
    numbers = as_numbers(value)
    if numbers is not None:
        # -0.0 and 0.0 are equal, but their bytes differ
        digest.update(b"numbers %d:" % numbers.size + (numbers + 0.0).tobytes())
    elif isinstance(value, list | tuple):
        digest.update(b"list %d:" % len(value))
        for item in value:
            feed_digest(digest, item)
    elif isinstance(value, dict):
        digest.update(b"object %d:" % len(value))
        for key in sorted(value):
            feed_digest(digest, key)
            feed_digest(digest, value[key])
    else:
        text = (as_text(value) if type(value) in (int, float) else json.dumps(value)).encode()
        digest.update(b"text %d:" % len(text) + text)


def shorten(value: Any) -> str:
    """Return the text of a JSON value for a message, cut to 60 characters and dots."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _walk_lists(events: Iterator[tuple[str, Any]], lists: Sequence[str], *, where: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, entry) of the wanted lists from parser events, and stop when all these lists have been read."""
    missing = set(lists)
    keys = []
    event, value = next(events)
    if event != "start_map":
        raise ValueError(
            f"{where}: expected a JSON object with the lists images and annotations, found "
            f"{'a list' if event == 'start_array' else repr(value)}. {NOT_COCO}"
        )
    for event, key in events:
        if event == "end_map":
            continue  # the parser must still check that nothing follows
        keys.append(key)
        event, value = next(events)
        if key not in lists or event not in ("start_array", "start_map"):
            _skip(events, event)
            continue
        if event == "start_map":
            for entry in _walk_values(events, key, where=where):
                missing.discard(key)
                yield key, entry
        else:
            missing.discard(key)
            for event, value in events:
                if event == "end_array":
                    break
                yield key, _load(events, event, value, where=where, depth=1)
        if not missing:
            return
    if lacking := [name for name in lists if name in missing and name != "categories"]:
        raise ValueError(
            f"{where}: expected a JSON object with the lists images and annotations, found no list "
            f"{' and no list '.join(lacking)} (keys: {', '.join(keys[:8]) or 'none'}). {NOT_COCO}"
        )


def _walk_values(events: Iterator[tuple[str, Any]], key: str, *, where: str) -> Iterator[Any]:
    """Yield the values of an object, which some exporters write in place of a list."""
    for event, name in events:
        if event == "end_map":
            return
        entry = _load(events, *next(events), where=where, depth=1)
        if not isinstance(entry, dict):
            raise ValueError(
                f"{where}: expected a list {key}, found an object with the key {name}. "
                f"Write {key} as a list of entries."
            )
        yield {"id": int(name) if name.isdecimal() else name, **entry}


def _load(events: Iterator[tuple[str, Any]], event: str, value: Any, *, where: str, depth: int) -> Any:
    """Build the value that starts with an event."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}: expected COCO entries, found lists nested {MAX_DEPTH} levels deep. {NOT_COCO}")
    if event == "start_array":
        items = []
        for event, value in events:
            if event == "number":
                items.append(value)
            elif event == "end_array":
                break
            else:
                items.append(_load(events, event, value, where=where, depth=depth + 1))
        return items
    if event == "start_map":
        entry = {}
        for event, key in events:
            if event == "end_map":
                break
            entry[key] = _load(events, *next(events), where=where, depth=depth + 1)
        return entry
    return value


def _skip(events: Iterator[tuple[str, Any]], event: str) -> None:
    depth = 0
    while True:
        depth += event.startswith("start") - event.startswith("end_")
        if depth == 0:
            return
        event, _ = next(events)


def _pack(part: Any) -> Any:
    numbers = as_numbers(part)
    return part if numbers is None else numbers
