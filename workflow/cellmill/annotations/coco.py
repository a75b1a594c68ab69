"""Annotations in COCO's JSON: one file for all images, an object as outlines or as runs.

Runs of COCO count down the columns and begin with the pixels before the object, of which there may be none. In a
compressed text every count is a few characters of five bits each.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ijson
import numpy as np
from pycocotools import mask as coco_mask
from scipy.ndimage import find_objects

from cellmill.annotations.masks import Instance
from cellmill.annotations.rle import draw_runs, find_runs
from cellmill.images import IGNORE_LABEL
from cellmill.shards import atomic_path

SUFFIX = re.compile(r"(\.ome)?\.[a-z][a-z0-9]{1,4}$", re.IGNORECASE)
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# COCO needs six levels; a file of nothing but brackets must not exhaust the stack
MAX_DEPTH = 50
# five bits a character; the change from one count to another is less than 2**31, the pixels of the largest image
MAX_CHARACTERS = 7
# an outline may leave the image by so much, as rounding of coordinates makes it
TOLERANCE_PX = 1.0
# pycocotools holds about 80 bytes for each pixel of the outline
MAX_OUTLINE_PX = 1_000_000
NOT_COCO = "Export the annotations as COCO instances, or set annotations.format to what the file is."
EXPORT_AGAIN = "The runs are damaged or of another format: export the file again."


class CocoEntry(NamedTuple):
    """What a file says of one image: its (rows, columns), if it does, and its annotations with their place, from 0."""

    size: tuple[int, int] | None
    annotations: list[tuple[int, dict[str, Any]]]


def index_coco(path: str | Path, *, where: str) -> tuple[dict[str, str], dict[str, dict[str, str]], list[str]]:
    """Digest what the labels of every image are made of, in one pass that holds one annotation at a time.

    Parameters
    ----------
    path : path
        JSON file.
    where : str
        Key path in the config, for messages.

    Returns
    -------
    dict
        sample -> digest of its size, outlines or runs, and crowds, in the order of the file. A sample is the name of
        the image's file without folder and suffix; images without annotations have a digest too.
    dict of dict
        key -> sample -> text, for every key of the images that holds no list, and for `category`, unless images have
        a key of this name: the name of the category of their annotations, several in alphabetical order with "+".
    list of str
        The keys.

    Raises
    ------
    ValueError
        If the file is no JSON, lacks the lists `images` or `annotations`, entries of these name no image, two
        images have one id, or an annotation belongs to no image.
    """
    where = f"{where}: {path}"
    samples: dict[Any, str] = {}
    digests: dict[Any, bytes] = {}
    counts: Counter[Any] = Counter()
    categories: dict[Any, set[Any]] = {}
    names: dict[Any, str] = {}
    values: dict[str, dict[str, str]] = {}
    sizes: dict[Any, tuple[Any, Any]] = {}
    for kind, entry in _read_entries(path, ("images", "annotations", "categories"), where=where):
        if kind == "images":
            key, file_name = _identify_image(entry, known=samples, where=where)
            samples[key] = sample_of(file_name)
            sizes[key] = entry.get("height"), entry.get("width")
            for column, value in entry.items():
                if not isinstance(value, list | dict):
                    values.setdefault(column, {}).setdefault(samples[key], _as_text(value))
        elif kind == "annotations":
            key = _identify_owner(entry, where=where)
            counts[key] += 1
            digest = hashlib.sha256(digests.get(key, b""))
            _feed(digest, [entry.get("segmentation"), float(bool(entry.get("iscrowd")))])
            digests[key] = digest.digest()
            category = entry.get("category_id")
            if isinstance(category, int | float | str):
                categories.setdefault(key, set()).add(category)
        elif isinstance(entry, dict) and isinstance(entry.get("id"), int | float | str):
            names[entry["id"]] = _as_text(entry.get("name"))
    _refuse_strangers({key: count for key, count in counts.items() if key not in samples}, len(samples), where=where)
    found: dict[str, str] = {}
    classes: dict[str, str] = {}
    for key, sample in samples.items():
        # of two images of one name, which is a mistake if anybody wants them, both count
        digest = hashlib.sha256(found.get(sample, "").encode())
        _feed(digest, sizes[key])
        digest.update(digests.get(key, b""))
        found[sample] = digest.hexdigest()[:16]
        classes.setdefault(
            sample, "+".join(sorted({names.get(one, _as_text(one)) for one in categories.get(key, set())}))
        )
    values.setdefault("category", classes)
    return found, values, list(values)


def read_coco_table(annotations: Mapping[str, Any], *, samples: Sequence[str]) -> dict[str, CocoEntry]:
    """Read the annotations of some samples; those of others are not held.

    Parameters
    ----------
    annotations : mapping
        The config section; `table` (path) is read.
    samples : sequence of str
        Samples of a shard.

    Returns
    -------
    dict
        sample -> its entry; a sample that is not among the images of the file is missing.

    Raises
    ------
    ValueError
        As `index_coco`, and if two images are of one sample, or the size of one is no size.
    """
    path = Path(annotations["table"])
    where = str(path)
    wanted = set(samples)
    table: dict[str, CocoEntry] = {}
    file_names: dict[str, str] = {}
    owners: dict[Any, str] = {}
    for _, entry in _read_entries(path, ("images",), where=where):
        key, file_name = _identify_image(entry, known=owners, where=where)
        sample = owners[key] = sample_of(file_name)
        if sample not in wanted:
            continue
        if sample in table:
            raise ValueError(
                f"{where}: expected one image for sample {sample}, found {file_names[sample]} and {file_name}. "
                "Rename one of them, or make a dataset of each folder with a file of its own."
            )
        file_names[sample] = file_name
        table[sample] = CocoEntry(_read_size(entry, where=f"{where}, image {file_name}"), [])
    strangers: Counter[Any] = Counter()
    # a second pass, because a file may list its annotations before its images
    for place, (_, entry) in enumerate(_read_entries(path, ("annotations",), where=where)):
        key = _identify_owner(entry, where=where)
        if key not in owners:
            strangers[key] += 1
        elif owners[key] in table:
            table[owners[key]].annotations.append((place, _keep(entry)))
    _refuse_strangers(strangers, len(owners), where=where)
    return table


def read_coco(
    row: Mapping[str, Any],
    *,
    shape: tuple[int, int],
    annotations: Mapping[str, Any],
    table: Mapping[str, CocoEntry],
) -> list[Instance]:
    """Draw the objects of one sample.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample` is read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; `table` is read.
    table : mapping
        From `read_coco_table`.

    Returns
    -------
    list of Instance
        In the order of the file, pixels as pycocotools draws them; crowds are ignored regions. An outline of
        fewer than three points, without area or outside the image is a broken instance and may be empty.

    Raises
    ------
    ValueError
        If the file gives the image another size, or an annotation is neither outlines nor runs of this size; a line
        for each annotation.

    Notes
    -----
    Memory grows with the outline and with the bounding box of the object, not with the image.
    """
    entry = table[row["sample"]]
    where = f"sample {row['sample']}, {annotations['table']}"
    if entry.size is not None and entry.size != tuple(shape):
        raise ValueError(
            f"{where}: expected an image of {shape[0]} rows and {shape[1]} columns, as the image file has, found "
            f"height {entry.size[0]} and width {entry.size[1]}. Pair every image with its own annotation, at full size."
        )
    instances, problems = [], []
    for place, annotation in entry.annotations:
        source = f"annotation {annotation['id']}" if "id" in annotation else f"annotation at place {place + 1}"
        try:
            instances.append(_draw(annotation, shape=shape, where=f"{where}, {source}", source=source))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def write_coco(path: str | Path, *, images: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write label images as one COCO file with compressed runs.

    Parameters
    ----------
    path : path
        Written whole or not at all. One image is held at a time.
    images : iterable of (str, ndarray of non-negative integers, shape (rows, columns))
        Name of the image's file, which no other has, and its labels: 0 background, 65535 ignored pixels (one
        annotation with iscrowd 1), any other number an object of the category `cell`.
    """
    listed: list[dict[str, Any]] = []
    number = 0
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write('{"categories": [{"id": 1, "name": "cell"}],\n"annotations": [')
        for file_name, labels_yx in images:
            rows, columns = labels_yx.shape
            listed.append({"id": len(listed) + 1, "file_name": file_name, "height": rows, "width": columns})
            for annotation in _describe_objects(labels_yx):
                number += 1
                ids = {"id": number, "image_id": len(listed), "category_id": 1}
                stream.write((",\n" if number > 1 else "\n") + json.dumps(ids | annotation))
        stream.write('],\n"images": ' + json.dumps(listed) + "}\n")


def sample_of(file_name: str) -> str:
    """Give the sample that an image's file belongs to: its name without folder and suffix."""
    name = re.split(r"[/\\]", file_name)[-1]
    return SUFFIX.sub("", name) or name


def encode_counts(counts: np.ndarray) -> str:
    """Compress counts into COCO's text.

    Parameters
    ----------
    counts : ndarray of int64, shape (runs,)
        Lengths in turn of background and object, px; the first may be 0.

    Returns
    -------
    str
        Byte for byte what pycocotools writes.
    """
    values = counts.astype(np.int64)
    # SOURCE pycocotools: from the fourth on, the change since the last count of the same kind
    values[3:] -= counts[1:-2]
    shifts = 5 * np.arange(MAX_CHARACTERS)
    digits = values[:, np.newaxis] >> shifts
    rest = digits >> 5
    goes_on = np.where(digits & 16, rest != -1, rest != 0)
    is_written = np.ones_like(goes_on)
    is_written[:, 1:] = np.logical_and.accumulate(goes_on, axis=1)[:, :-1]
    return ((digits & 31) + 32 * goes_on + 48)[is_written].astype(np.uint8).tobytes().decode("ascii")


def decode_counts(text: str, *, where: str) -> np.ndarray:
    """Read COCO's compressed text, of which pycocotools checks nothing.

    Parameters
    ----------
    text : str
        As `encode_counts` writes it.
    where : str
        File and annotation, named in errors.

    Returns
    -------
    ndarray of int64, shape (runs,)
        Lengths in turn of background and object, px. They may be negative where the text is not of COCO.

    Raises
    ------
    ValueError
        If there are other characters than "0" to "o", the text ends inside a number, or a number is too long.
    """
    if wrong := re.search("[^0-o]", text):
        raise ValueError(
            f"{where}: expected compressed runs of the characters '0' to 'o', found {wrong.group()!r} at character "
            f"{wrong.start() + 1}. {EXPORT_AGAIN}"
        )
    codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(codes < 32)
    if codes.size and codes[-1] >= 32:
        raise ValueError(
            f"{where}: expected compressed runs that end with a number, found a text that breaks off inside one "
            f"after {codes.size} characters. {EXPORT_AGAIN}"
        )
    if codes.size == 0:
        return codes
    sizes = np.diff(ends, prepend=-1)
    if sizes.max() > MAX_CHARACTERS:
        raise ValueError(
            f"{where}: expected numbers of at most {MAX_CHARACTERS} characters in compressed runs, found one of "
            f"{sizes.max()}. {EXPORT_AGAIN}"
        )
    starts = ends + 1 - sizes
    places = np.arange(codes.size) - np.repeat(starts, sizes)
    values = np.add.reduceat((codes & 31) << (5 * places), starts)
    values[codes[ends] >= 16] -= 1 << (5 * sizes[codes[ends] >= 16])
    for kind in (1, 2):
        values[kind::2] = np.cumsum(values[kind::2])
    return values


def _read_entries(path: str | Path, lists: Sequence[str], *, where: str) -> Iterator[tuple[str, Any]]:
    """Yield (list, entry) for the entries of some lists of a JSON object, one at a time, in the order of the file."""
    missing = set(lists)
    keys = []
    try:
        with Path(path).open("rb") as stream:
            if stream.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
                stream.seek(0)
            events = iter(ijson.basic_parse(stream, use_float=True))
            event, value = next(events)
            if event != "start_map":
                raise ValueError(
                    f"{where}: expected a JSON object with the lists images and annotations, found "
                    f"{'a list' if event == 'start_array' else repr(value)}. {NOT_COCO}"
                )
            for event, key in events:
                if event == "end_map":
                    continue  # the parser has yet to see that nothing follows
                keys.append(key)
                event, value = next(events)
                if key not in lists or event != "start_array":
                    _skip(events, event)
                    continue
                missing.discard(key)
                for event, value in events:
                    if event == "end_array":
                        break
                    yield key, _load(events, event, value, where=where, depth=1)
                if not missing:
                    return
    except OSError as error:
        raise ValueError(
            f"{where}: expected a JSON file, found: {error.strerror or error}. Check the path and who may read it."
        ) from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        # the parser's message goes on with a drawing of the place
        found = re.split(r"\\n|\n", str(error).removeprefix("b'"))[0].strip()
        raise ValueError(
            f"{where}: expected JSON, found something else ({found}). "
            "The file is cut off, holds NaN or Infinity, or is of another format: export it again."
        ) from error
    if lacking := [name for name in lists if name in missing and name != "categories"]:
        raise ValueError(
            f"{where}: expected a JSON object with the lists images and annotations, found no list "
            f"{' and no list '.join(lacking)} but {', '.join(keys[:8]) or 'no key at all'}. {NOT_COCO}"
        )


def _load(events: Iterator[tuple[str, Any]], event: str, value: Any, *, where: str, depth: int) -> Any:
    """Build the value that begins with an event."""
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}: expected entries of COCO, found lists {MAX_DEPTH} deep in each other. {NOT_COCO}")
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


def _identify_image(entry: Any, *, known: Mapping[Any, str], where: str) -> tuple[Any, str]:
    key, file_name = (entry.get("id"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
    if not isinstance(key, int | float | str) or not isinstance(file_name, str) or not file_name:
        raise ValueError(
            f"{where}: expected images with an id and a file_name, found {_shorten(entry)}. "
            "Add them; the name without suffix is what ties an image to its file."
        )
    if key in known:
        raise ValueError(
            f"{where}: expected an id of its own for every image, found {key} for {known[key]} and "
            f"{sample_of(file_name)}. Give ids anew: annotations of one cannot be told from those of the other."
        )
    return key, file_name


def _identify_owner(entry: Any, *, where: str) -> Any:
    key = entry.get("image_id") if isinstance(entry, dict) else None
    if not isinstance(key, int | float | str):
        raise ValueError(
            f"{where}: expected annotations with an image_id, found {_shorten(entry)}. "
            "Export the annotations as COCO instances."
        )
    return key


def _refuse_strangers(strangers: Mapping[Any, int], images: int, *, where: str) -> None:
    if strangers:
        raise ValueError(
            f"{where}: expected annotations of the {images} images that the file lists, found "
            f"{sum(strangers.values())} of images that it does not list, such as image_id {next(iter(strangers))}. "
            "Add the images, or take their annotations out."
        )


def _shorten(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _read_size(entry: Mapping[str, Any], *, where: str) -> tuple[int, int] | None:
    height, width = entry.get("height"), entry.get("width")
    if height is None or width is None:
        return None
    size = _as_numbers([height, width])
    if size is None or (size < 1).any() or (size != np.floor(size)).any():
        raise ValueError(
            f"{where}: expected height and width in pixels, found {_shorten(height)} and {_shorten(width)}. "
            "Correct them, or leave both out."
        )
    return int(size[0]), int(size[1])


def _keep(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Take what is drawn from an annotation, its numbers packed: as a list they need four times the memory."""
    kept = {key: entry[key] for key in ("id", "segmentation", "iscrowd") if key in entry}
    segmentation = kept.get("segmentation")
    if isinstance(segmentation, list):
        kept["segmentation"] = [_pack(part) for part in segmentation]
    elif isinstance(segmentation, dict):
        kept["segmentation"] = {key: _pack(part) for key, part in segmentation.items()}
    return kept


def _pack(part: Any) -> Any:
    numbers = _as_numbers(part)
    return part if numbers is None else numbers


def _as_numbers(values: Any) -> np.ndarray | None:
    """Give a list of finite numbers as float64, None for anything else: numpy would read texts and true as numbers."""
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return None
    try:
        numbers = np.array(values, dtype=np.float64)
    except OverflowError:
        return None
    return numbers if np.isfinite(numbers).all() else None


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _feed(digest: Any, value: Any) -> None:
    """Add a value of JSON to a digest: equal for 5 and 5.0, different for any other two."""
    numbers = _as_numbers(value)
    if numbers is not None:
        # -0.0 and 0.0 are one number of two texts
        digest.update(b"numbers %d:" % numbers.size + (numbers + 0.0).tobytes())
    elif isinstance(value, list | tuple):
        digest.update(b"list %d:" % len(value))
        for item in value:
            _feed(digest, item)
    elif isinstance(value, dict):
        digest.update(b"object %d:" % len(value))
        for key in sorted(value):
            _feed(digest, key)
            _feed(digest, value[key])
    else:
        text = (_as_text(value) if type(value) in (int, float) else json.dumps(value)).encode()
        digest.update(b"text %d:" % len(text) + text)


def _draw(annotation: Mapping[str, Any], *, shape: tuple[int, int], where: str, source: str) -> Instance:
    crowd = annotation.get("iscrowd")
    if crowd is not None and (not isinstance(crowd, int | float) or crowd not in (0, 1)):
        raise ValueError(f"{where}: expected iscrowd 0 or 1, found {_shorten(crowd)}. Correct the file.")
    segmentation = annotation.get("segmentation")
    broken = ""
    if isinstance(segmentation, dict):
        counts = _read_counts(segmentation, shape=shape, where=where)
    elif isinstance(segmentation, list) and segmentation:
        outlines, broken = _read_outlines(segmentation, shape=shape, where=where)
        counts = _outlined_counts(outlines, shape=shape) if outlines else np.array([shape[0] * shape[1]])
    else:
        found = "none" if segmentation is None or segmentation == [] else _shorten(segmentation)
        raise ValueError(
            f"{where}: expected a segmentation (outlines or runs), found {found}. "
            "A bounding box alone says nothing of the object's pixels: annotate its outline."
        )
    lengths = counts[1::2]
    firsts = np.cumsum(counts)[0::2][: lengths.size]
    row, column, mask_yx = draw_runs(firsts[lengths > 0], lengths[lengths > 0], shape=shape, order="column")
    return Instance(row, column, mask_yx, source, is_ignored=bool(crowd), broken=broken)


def _read_counts(segmentation: Mapping[str, Any], *, shape: tuple[int, int], where: str) -> np.ndarray:
    """Read runs, compressed or not, and check them against the size of the image."""
    size = _as_numbers(segmentation.get("size"))
    if size is None or size.tolist() != list(shape):
        found = _shorten(segmentation.get("size") if size is None else size.tolist())
        raise ValueError(
            f"{where}: expected runs of size [{shape[0]}, {shape[1]}], the rows and columns of the image, found "
            f"{found}. Pair every image with its own annotation, at full size."
        )
    pixels = shape[0] * shape[1]
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        numbers = decode_counts(counts, where=where)
    else:
        found_numbers = _as_numbers(counts)
        if found_numbers is None:
            raise ValueError(
                f"{where}: expected counts as a list of numbers or a compressed text, found {_shorten(counts)}. "
                "Export the annotations as COCO instances."
            )
        numbers = found_numbers
    wrong = numbers[(numbers < 0) | (numbers > pixels) | (numbers != np.floor(numbers))]
    if wrong.size:
        raise ValueError(
            f"{where}: expected counts from 0 to {pixels}, the pixels of the image, found {wrong[0]:.15g}. "
            f"{EXPORT_AGAIN}"
        )
    if numbers.sum() != pixels:
        raise ValueError(
            f"{where}: expected counts that sum to the {pixels} pixels of the image, found a sum of "
            f"{numbers.sum():.0f}. {EXPORT_AGAIN}"
        )
    return numbers.astype(np.int64)


def _read_outlines(parts: Sequence[Any], *, shape: tuple[int, int], where: str) -> tuple[list[list[float]], str]:
    """Give the outlines that can be drawn as flat lists (x, y, x, y, ...), and what is wrong with any other."""
    outlines, faults = [], []
    for part in parts:
        numbers = _as_numbers(part)
        if numbers is None:
            raise ValueError(
                f"{where}: expected outlines as lists of finite numbers [x, y, x, y, ...], found {_shorten(part)}. "
                "Export the annotations as COCO instances."
            )
        if numbers.size % 2:
            raise ValueError(
                f"{where}: expected an x and a y for every point, found {numbers.size} numbers. "
                "The outline is cut off: export the file again."
            )
        fault, can_be_drawn = _judge_outline(numbers.reshape(-1, 2), shape=shape, where=where)
        faults += [fault] if fault else []
        if can_be_drawn:
            outlines.append(numbers.tolist())
    if len(parts) > 2 and all(len(part) == 2 for part in parts):
        raise ValueError(
            f"{where}: expected outlines as lists of numbers [x, y, x, y, ...], found {len(parts)} points of two "
            "numbers. Write the numbers of one outline as one list."
        )
    return outlines, faults[0] if faults else ""


def _judge_outline(points_xy: np.ndarray, *, shape: tuple[int, int], where: str) -> tuple[str, bool]:
    """Say what is wrong with an outline, and whether it can have pixels."""
    if len(points_xy) < 3:
        # pycocotools would take two points for a box
        return f"outline of {len(points_xy)} point{'s' * (len(points_xy) != 1)}", False
    low, high = points_xy.min(axis=0), points_xy.max(axis=0)
    end = np.array([shape[1], shape[0]])
    if (high <= 0).any() or (low >= end).any():
        return "outline lies outside the image", False
    with np.errstate(over="ignore"):
        length_px = float(np.abs(points_xy - np.roll(points_xy, 1, axis=0)).max(axis=1).sum())
    if length_px > MAX_OUTLINE_PX:
        raise ValueError(
            f"{where}: expected an outline of at most {MAX_OUTLINE_PX} px, found one of {length_px:.3g} px. "
            "Its coordinates are not pixels of this image: correct the point that lies far away."
        )
    if (low < -TOLERANCE_PX).any() or (high > end + TOLERANCE_PX).any():
        return "outline leaves the image", True
    edges_xy = points_xy - points_xy[0]
    far_xy = edges_xy[np.abs(edges_xy).max(axis=1).argmax()]
    distances = np.abs(edges_xy @ np.array([far_xy[1], -far_xy[0]]))
    return ("outline without area" if distances.max() <= 1e-9 * (far_xy @ far_xy) else ""), True


def _outlined_counts(outlines: list[list[float]], *, shape: tuple[int, int]) -> np.ndarray:
    # The runs of pycocotools need the memory of the outline only. A crop would be drawn anew: its coordinates round
    # otherwise where they lie half way between the fifths of a pixel that pycocotools draws with.
    runs = coco_mask.merge(coco_mask.frPyObjects(outlines, *shape))
    return decode_counts(runs["counts"].decode("ascii"), where="pycocotools")


def _describe_objects(labels_yx: np.ndarray) -> Iterator[dict[str, Any]]:
    numbers, compact = np.unique(labels_yx, return_inverse=True)
    compact_yx = compact.reshape(labels_yx.shape) + int(numbers[0] != 0)
    objects = numbers[numbers != 0]
    for place, (number, box) in enumerate(zip(objects.tolist(), find_objects(compact_yx), strict=True), start=1):
        row, column = box[0].start, box[1].start
        mask_yx = compact_yx[box] == place
        firsts, lengths = find_runs(mask_yx, order="column", row=row, column=column, shape=labels_yx.shape)
        counts = np.zeros(2 * firsts.size + 1, dtype=np.int64)
        counts[1::2] = lengths
        counts[0::2] = np.append(firsts, labels_yx.size) - np.concatenate(([0], firsts + lengths))
        yield {
            "iscrowd": int(number == IGNORE_LABEL),
            "area": int(lengths.sum()),
            "bbox": [column, row, mask_yx.shape[1], mask_yx.shape[0]],
            "segmentation": {
                "size": list(labels_yx.shape),
                "counts": encode_counts(counts if counts[-1] else counts[:-1]),
            },
        }
