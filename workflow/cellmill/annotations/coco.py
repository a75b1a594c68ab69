"""Annotations in COCO's JSON: one file for all images, an object as outlines or as runs.

What the file says of which image; its entries are read in coco_json.py and drawn in coco_masks.py.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from cellmill.annotations.masks import Instance
from cellmill.annotations.pieces import LabelBands
from cellmill.shards import atomic_path


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
    index = _Index(where)
    for kind, entry in read_entries(path, ("images", "annotations", "categories"), where=where):
        if kind == "images":
            index.add_image(entry)
        elif kind == "annotations":
            index.add_annotation(entry)
        else:
            index.add_category(entry)
    digests, values = index.digest_samples(), index.values
    values.setdefault("category", index.name_categories())
    return digests, values, list(values)


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
    for _, entry in read_entries(path, ("images",), where=where):
        key, file_name = identify_image(entry, known=owners, where=where)
        sample = owners[key] = sample_of(file_name)
        if sample not in wanted:
            continue
        if sample in table:
            raise ValueError(
                f"{where}: expected one image for sample {sample}, found {file_names[sample]} and {file_name}. "
                "Rename one of them, or make a dataset of each folder with a file of its own."
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
            instances.append(draw_annotation(annotation, shape=shape, where=f"{where}, {source}", source=source))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def write_coco(path: str | Path, *, images: Iterable[tuple[str, np.ndarray | LabelBands]]) -> None:
    """Write label images as one COCO file with compressed runs.

    Parameters
    ----------
    path : path
        Written whole or not at all. One image is held at a time.
    images : iterable of (str, ndarray of non-negative integers, shape (rows, columns), or LabelBands)
        Name of the image's file, which no other has, and its labels: 0 background, 65535 ignored pixels (one
        annotation with iscrowd 1), any other number an object of the category `cell`.
    """
    listed: list[dict[str, Any]] = []
    number = 0
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write('{"categories": [{"id": 1, "name": "cell"}],\n"annotations": [')
        for file_name, labels in images:
            rows, columns = labels.shape
            listed.append({"id": len(listed) + 1, "file_name": file_name, "height": rows, "width": columns})
            for annotation in describe_objects(labels, where=file_name):
                number += 1
                ids = {"id": number, "image_id": len(listed), "category_id": 1}
                stream.write((",\n" if number > 1 else "\n") + json.dumps(ids | annotation))
        stream.write('],\n"images": ' + json.dumps(listed) + "}\n")


@dataclass
class _Index:
    """What a file says of every image, gathered entry by entry; keys are ids of images, in `names` of categories."""

    where: str
    samples: dict[Any, str] = field(default_factory=dict)
    sizes: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    digests: dict[Any, bytes] = field(default_factory=dict)
    counts: Counter[Any] = field(default_factory=Counter)
    categories: dict[Any, set[Any]] = field(default_factory=dict)
    names: dict[Any, str] = field(default_factory=dict)
    values: dict[str, dict[str, str]] = field(default_factory=dict)

    def add_image(self, entry: Any) -> None:
        key, file_name = identify_image(entry, known=self.samples, where=self.where)
        sample = self.samples[key] = sample_of(file_name)
        self.sizes[key] = entry.get("height"), entry.get("width")
        for column, value in entry.items():
            if not isinstance(value, list | dict):
                self.values.setdefault(column, {}).setdefault(sample, as_text(value))

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
        """Give sample -> digest, in the order of the images; annotations that belong to none are refused."""
        strangers = {key: count for key, count in self.counts.items() if key not in self.samples}
        refuse_strangers(strangers, len(self.samples), where=self.where)
        found: dict[str, str] = {}
        for key, sample in self.samples.items():
            # of two images of one name, which is a mistake if anybody wants them, both count
            digest = hashlib.sha256(found.get(sample, "").encode())
            feed_digest(digest, self.sizes[key])
            digest.update(self.digests.get(key, b""))
            found[sample] = digest.hexdigest()[:16]
        return found

    def name_categories(self) -> dict[str, str]:
        """Give sample -> names of the categories of its annotations, as `index_coco` says."""
        found: dict[str, str] = {}
        for key, sample in self.samples.items():
            names = {self.names.get(one, as_text(one)) for one in self.categories.get(key, set())}
            found.setdefault(sample, "+".join(sorted(names)))
        return found
