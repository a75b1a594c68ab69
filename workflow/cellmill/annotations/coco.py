"""Annotations in COCO JSON: one file for all images, with each object stored as outlines or run lengths.

This module assigns entries to images. coco_json.py reads the entries and coco_masks.py draws them.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cellmill.annotations.coco_json import (
    as_text,
    feed_digest,
    identify_image,
    identify_owner,
    keep_drawn,
    read_entries,
    read_size,
    refuse_strangers,
    sample_of,
)
from cellmill.annotations.coco_masks import describe_objects, draw_annotation
from cellmill.annotations.instance import AnnotationSettings, Instance
from cellmill.annotations.pieces import LabelBands
from cellmill.images.showing import explain_exchange
from cellmill.shards import atomic_path

# Declaration, see formats.py
FORMATS = {
    "coco": {
        "reader": "read_coco",
        "table_reader": "read_coco_table",
        "files": "table",
        "keys": ("table",),
        "needs": ("table",),
        "is_filled": False,
        "missing": "error",
        "summary": "one JSON file with polygons or run lengths",
        "reads": "one JSON file with outlines, runs or compressed runs; crowds are ignored pixels",
        "used_by": "LIVECell, pycocotools, exports of most annotation tools",
    },
}


class CocoEntry(NamedTuple):
    """Entry of one image: its (rows, columns) if stated, and its annotations with their index in the file, from 0."""

    size: tuple[int, int] | None
    annotations: list[tuple[int, dict[str, Any]]]


def index_coco(path: str | Path, *, where: str) -> tuple[dict[str, str], dict[str, dict[str, str]], list[str]]:
    """Compute a digest of the annotations of every image, in one pass that holds one annotation at a time.

    Parameters
    ----------
    path : path
        JSON file.
    where : str
        Key path in the config, for messages.

    Returns
    -------
    dict
        sample -> digest of its size, outlines or runs, and crowd flags, in the order of the file. A sample is the name
        of the image's file without folder and suffix, or the whole `file_name` if several files have this name;
        images without annotations have a digest too.
    dict of dict
        key -> sample -> text, for every key of the images whose values are neither lists nor objects. Unless images
        have a key `category`, it holds the category names of their annotations, in alphabetical order joined by "+".
    list of str
        The keys.

    Raises
    ------
    ValueError
        If the file is not JSON or lacks the lists `images` or `annotations`, an entry of these lacks an id or file
        name of its image, two images share an id, or an annotation belongs to no image.
    """
    where = f"{where}: {path}"
    index = _Index(where)
    for kind, entry in read_entries(path, ("images", "annotations", "categories"), where=where):
        if kind == "images":
            index.add_image(entry)
        elif kind == "annotations":
            index.add_annotation(entry)
        else:
            index.add_category(entry)
    digests, values = index.digest_samples(), index.name_values()
    values.setdefault("category", index.name_categories())
    return digests, values, list(values)


def read_coco_table(annotations: AnnotationSettings, *, samples: Sequence[str]) -> dict[str, CocoEntry]:
    """Read the annotations of some samples; those of others are not kept in memory.

    Parameters
    ----------
    annotations : mapping
        The config section; `table` (path) is read.
    samples : sequence of str
        Samples of a shard: names of files without folder and suffix, or whole `file_name`s.

    Returns
    -------
    dict
        sample -> its entry; a sample that is not among the images of the file is missing.

    Raises
    ------
    ValueError
        As `index_coco`, and if two images have the same sample name or the size of an image is invalid.
    """
    assert annotations["table"] is not None
    path = Path(annotations["table"])
    where = str(path)
    wanted = set(samples)
    table: dict[str, CocoEntry] = {}
    file_names: dict[str, str] = {}
    owners: dict[Any, str] = {}
    for _, entry in read_entries(path, ("images",), where=where):
        key, file_name = identify_image(entry, known=owners, where=where)
        sample = owners[key] = file_name if file_name in wanted else sample_of(file_name)
        if sample not in wanted:
            continue
        if sample in table:
            raise ValueError(
                f"{where}: expected one image for sample {sample}, found {file_names[sample]} and {file_name}. "
                "Rename one of them, or use a separate dataset and annotation file for each folder."
            )
        file_names[sample] = file_name
        table[sample] = CocoEntry(read_size(entry, where=f"{where}, image {file_name}"), [])
    strangers: Counter[Any] = Counter()
    # a second pass, because a file may list its annotations before its images
    for place, (_, entry) in enumerate(read_entries(path, ("annotations",), where=where)):
        key = identify_owner(entry, where=where)
        if key not in owners:
            strangers[key] += 1
        elif owners[key] in table:
            table[owners[key]].annotations.append((place, keep_drawn(entry)))
    refuse_strangers(strangers, len(owners), where=where)
    return table


def read_coco(
    row: Mapping[str, Any],
    *,
    shape: tuple[int, int],
    annotations: AnnotationSettings,
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
        In the order of the file, pixels as pycocotools draws them; crowds are ignored regions. An outline with fewer
        than three points, without area or partly outside the image is a broken instance and may be empty.

    Raises
    ------
    ValueError
        If the file states another image size, or an annotation is neither outlines nor runs of this size; one line
        per annotation.

    Notes
    -----
    Memory grows with the outline and with the bounding box of the object, not with the image.
    """
    entry = table[row["sample"]]
    where = f"sample {row['sample']}, {annotations['table']}"
    if entry.size is not None and entry.size != tuple(shape):
        raise ValueError(
            f"{where}: expected {shape[0]} rows and {shape[1]} columns, the size of the image file, found height "
            f"{entry.size[0]} and width {entry.size[1]}. Pair every image with its own full-size annotation."
            + explain_exchange(entry.size, shape)
        )
    instances, problems = [], []
    for place, annotation in entry.annotations:
        source = f"annotation {annotation['id']}" if "id" in annotation else f"annotation at position {place + 1}"
        try:
            instances.append(draw_annotation(annotation, shape=shape, where=f"{where}, {source}", source=source))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def write_coco(
    path: str | Path,
    *,
    images: Iterable[tuple[str, np.ndarray | LabelBands]],
    scores: Callable[[str], Sequence[float]] | None = None,
) -> None:
    """Write label images as one COCO file with compressed runs.

    Parameters
    ----------
    path : path
        Written whole or not at all. One image is held at a time.
    images : iterable of (str, ndarray of non-negative integers, shape (rows, columns), or LabelBands)
        Unique name of the image's file, and its labels: 0 background, 65535 ignored pixels (one annotation with
        iscrowd 1), any other number an object of the category `cell`.
    scores : callable or None
        Returns the confidences of the objects of an image by the name of its file, in ascending order of the labels.
        COCOeval needs them for predictions; None for annotations, which have none.
    """
    listed: list[dict[str, Any]] = []
    number = 0
    ids: dict[str, Any]
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as stream:
        # pycocotools reads the keys `info` and `licenses` without checking whether they exist
        stream.write('{"info": {"description": "objects segmented by cellmill"}, "licenses": [],\n')
        stream.write('"categories": [{"id": 1, "name": "cell"}],\n"annotations": [')
        for file_name, labels in images:
            rows, columns = labels.shape
            listed.append({"id": len(listed) + 1, "file_name": file_name, "height": rows, "width": columns})
            of_image = None if scores is None else scores(file_name)
            for place, annotation in enumerate(describe_objects(labels, where=file_name)):
                number += 1
                ids = {"id": number, "image_id": len(listed), "category_id": 1}
                ids |= {} if of_image is None else {"score": of_image[place]}
                stream.write((",\n" if number > 1 else "\n") + json.dumps(ids | annotation))
        stream.write('],\n"images": ' + json.dumps(listed) + "}\n")


@dataclass
class _Index:
    """Contents of a file, collected entry by entry.

    Keys are image ids, except category ids in `names` and image keys in `values`.
    """

    where: str
    samples: dict[Any, str] = field(default_factory=dict)
    file_names: dict[Any, str] = field(default_factory=dict)
    sizes: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    digests: dict[Any, bytes] = field(default_factory=dict)
    counts: Counter[Any] = field(default_factory=Counter)
    categories: dict[Any, set[Any]] = field(default_factory=dict)
    names: dict[Any, str] = field(default_factory=dict)
    values: dict[str, dict[Any, str]] = field(default_factory=dict)

    def add_image(self, entry: Any) -> None:
        key, file_name = identify_image(entry, known=self.samples, where=self.where)
        self.samples[key], self.file_names[key] = sample_of(file_name), file_name
        self.sizes[key] = entry.get("height"), entry.get("width")
        for column, value in entry.items():
            if not isinstance(value, list | dict):
                self.values.setdefault(column, {})[key] = as_text(value)

    def add_annotation(self, entry: Any) -> None:
        key = identify_owner(entry, where=self.where)
        self.counts[key] += 1
        digest = hashlib.sha256(self.digests.get(key, b""))
        feed_digest(digest, [entry.get("segmentation"), float(bool(entry.get("iscrowd")))])
        self.digests[key] = digest.digest()
        category = entry.get("category_id")
        if isinstance(category, int | float | str):
            self.categories.setdefault(key, set()).add(category)

    def add_category(self, entry: Any) -> None:
        if isinstance(entry, dict) and isinstance(entry.get("id"), int | float | str):
            self.names[entry["id"]] = as_text(entry.get("name"))

    def digest_samples(self) -> dict[str, str]:
        """Return sample -> digest, in the order of the images; raise if annotations belong to no image."""
        strangers = {key: count for key, count in self.counts.items() if key not in self.samples}
        refuse_strangers(strangers, len(self.samples), where=self.where)
        found: dict[str, str] = {}
        for key, sample in self.name_images().items():
            # Two images with one sample name are an error only if that sample is read; the digest covers both.
            digest = hashlib.sha256(found.get(sample, "").encode())
            feed_digest(digest, self.sizes[key])
            digest.update(self.digests.get(key, b""))
            found[sample] = digest.hexdigest()[:16]
        return found

    def name_images(self) -> dict[Any, str]:
        """Return image id -> sample, or the whole file name if files in several folders have that name."""
        files: dict[str, set[str]] = {}
        for key, sample in self.samples.items():
            files.setdefault(sample, set()).add(self.file_names[key])
        return {
            key: sample if len(files[sample]) == 1 else self.file_names[key] for key, sample in self.samples.items()
        }

    def name_values(self) -> dict[str, dict[str, str]]:
        """Return column -> sample -> text; of two images with one name, the first counts."""
        names = self.name_images()
        found: dict[str, dict[str, str]] = {}
        for column, texts in self.values.items():
            own = found.setdefault(column, {})
            for key, text in texts.items():
                own.setdefault(names[key], text)
        return found

    def name_categories(self) -> dict[str, str]:
        """Return sample -> category names of its annotations, as described in `index_coco`."""
        found: dict[str, str] = {}
        for key, sample in self.name_images().items():
            names = {self.names.get(one, as_text(one)) for one in self.categories.get(key, set())}
            found.setdefault(sample, "+".join(sorted(names)))
        return found
