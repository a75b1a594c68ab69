"""Annotations as GeoJSON: one file for each image, with each object as a polygon, as QuPath writes it.

# SOURCE RFC 7946: features and geometries
# SOURCE QuPath 0.5 documentation, "Exporting annotations": coordinates are px of the full image from its upper left
# corner; properties have objectType, name and classification; a geometry in a stack has a plane with z and t
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.codes import only_path
from cellmill.annotations.instance import AnnotationSettings, Instance
from cellmill.annotations.outlines import (
    DamagedOutlineError,
    explain_few_points,
    fill_outline,
    outline_of_rings,
)
from cellmill.annotations.pieces import merge_pieces

# Declaration, see formats.py
FORMATS = {
    "geojson": {
        "reader": "read_geojson",
        "files": "one",
        "keys": ("path", "object_type"),
        "needs": ("path",),
        "is_filled": False,
        "missing": "error",
        "summary": "one GeoJSON file of polygons for each image",
        "reads": "one `.geojson` file for each image with polygons in px, holes included; of a cell, its outline and "
        "not that of its nucleus. Features of the class `Ignore*` are ignored regions; points and lines are listed and "
        "left out",
        "used_by": "QuPath, and the export `geojson` of cellmill",
    },
}

# A slide of 30,000 x 30,000 px has 200,000 nuclei; QuPath writes a few kilobytes for each.
MAX_BYTES = 2 * 2**30
IGNORED_CLASS = "Ignore*"
DEFAULT_TYPE = "annotation"
EXPORT_AGAIN = "Export the objects from QuPath again: File, Export objects as GeoJSON."


def read_geojson(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one sample from a GeoJSON file.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (path) and the position in a stack are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; `object_type` is read.
    table : None
        Only used by formats with one file for all samples.

    Returns
    -------
    list of Instance
        In the order of the file; `source` is the name of the object, its id, or its place in the file, and `number` its
        name if that is a number. Features without area are empty and broken.

    Raises
    ------
    ValueError
        If the file cannot be read, is not GeoJSON, has geometries of wrong form, or holds objects of several types and
        `object_type` does not choose one; one line per problem.

    Notes
    -----
    A pixel belongs to an object if its centre lies inside the outline, as described in `fill_outline`. Holes follow the
    even-odd rule, and parts are added up. In a stack, a feature without a plane belongs to the first.
    """
    path = only_path(row)
    where = f"sample {row['sample']}, {path}"
    features = _read_features(Path(path), where=where)
    chosen = _choose_type(features, wanted=annotations.get("object_type"), where=where)
    instances, problems = [], []
    for place, feature in chosen:
        source = _name_of(feature, place=place)
        try:
            if _is_of_plane(feature, row):
                instances.append(_draw(feature, shape=shape, source=source))
        except (DamagedOutlineError, TypeError, ValueError, OverflowError) as error:
            problems.append(
                f"{where}, feature {place}: expected a polygon of points [x, y], found a damaged one ({error}). "
                f"{EXPORT_AGAIN}"
            )
    if problems:
        raise ValueError("\n".join(problems))
    return instances


def _read_features(path: Path, *, where: str) -> list[Mapping[str, Any]]:
    """Read the features of a file: a collection, a list of features, or a single one."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES // 2**30} GiB")
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{where}: expected a GeoJSON file, found: {error}. {EXPORT_AGAIN}") from error
    if isinstance(content, Mapping):
        features = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    else:
        features = content
    if not isinstance(features, list) or not all(_is_feature(feature) for feature in features):
        raise ValueError(
            f"{where}: expected GeoJSON with features (type, geometry, properties), found other JSON. {EXPORT_AGAIN}"
        )
    return features


def _is_feature(feature: Any) -> bool:
    return (
        isinstance(feature, Mapping)
        and isinstance(feature.get("geometry") or {}, Mapping)
        and isinstance(feature.get("properties") or {}, Mapping)
        and feature.get("type") == "Feature"
    )


def _choose_type(
    features: list[Mapping[str, Any]], *, wanted: str | None, where: str
) -> list[tuple[int, Mapping[str, Any]]]:
    """Return the features of a type with their places from 1; ignored regions may have any type."""
    placed = list(enumerate(features, start=1))
    kinds = Counter(_type_of(feature) for feature in features if not _is_ignored(feature))
    if wanted is None and len(kinds) > 1:
        found = " and ".join(f"{count} of the type {kind}" for kind, count in sorted(kinds.items()))
        raise ValueError(
            f"{where}: expected objects of one type, found {found}. Set object_type to the type of the objects, "
            f"such as object_type: {min(kinds, key=lambda kind: (kind == DEFAULT_TYPE, kind))}."
        )
    return [
        (place, feature) for place, feature in placed if wanted in (None, _type_of(feature)) or _is_ignored(feature)
    ]


def _type_of(feature: Mapping[str, Any]) -> str:
    return str((feature.get("properties") or {}).get("objectType") or DEFAULT_TYPE)


def _is_ignored(feature: Mapping[str, Any]) -> bool:
    found = (feature.get("properties") or {}).get("classification")
    names = [found.get("name"), *_as_list(found.get("names"))] if isinstance(found, Mapping) else [found]
    return IGNORED_CLASS in names


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _name_of(feature: Mapping[str, Any], *, place: int) -> str:
    name = (feature.get("properties") or {}).get("name") or feature.get("id") or f"feature {place}"
    return "".join(character for character in str(name) if character.isprintable()).strip() or f"feature {place}"


def _is_of_plane(feature: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Return whether a feature belongs to the plane of a stack that is read.

    # SOURCE QuPath, ROITypeAdapter: the plane of z 0 and t 0 is not written, and a missing one is read as that plane
    """
    plane = (feature.get("geometry") or {}).get("plane") or {}
    if not row.get("is_annotated_as_stack"):
        return True
    return all(
        not isinstance(index, int) or int(plane.get(axis.lower(), 0)) == int(index)
        for axis, index, _ in row["plane"]
        if axis in ("Z", "T")
    )


def _draw(feature: Mapping[str, Any], *, shape: tuple[int, int], source: str) -> Instance:
    geometry = feature.get("geometry") or {}
    polygons = list(_polygons_of(geometry))
    if not polygons:
        kind = geometry.get("type")
        fault = "no geometry" if kind is None else f"a {kind}, which encloses no area"
        return Instance(0, 0, np.zeros((0, 0), dtype=bool), source, broken=fault)
    parts = []
    for polygon in polygons:
        rings = list(_rings_of(polygon))
        faults = [fault for ring in rings if (fault := explain_few_points(len(ring)))] if rings else ["no outline"]
        parts.append(fill_outline(outline_of_rings(rings, problem="".join(faults[:1])), shape=shape, source=source))
    row, column, mask_yx = merge_pieces([(part.row, part.column, part.mask_yx) for part in parts])
    number = int(source) if source.isascii() and source.isdecimal() and len(source) < 10 else None
    return Instance(
        row, column, mask_yx, source, number=number, is_ignored=_is_ignored(feature),
        broken=next((part.broken for part in parts if part.broken), ""),
    )  # fmt: skip


def _polygons_of(geometry: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the polygons of a geometry, each a list of rings; points and lines have none."""
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind == "Polygon":
        yield coordinates
    elif kind == "MultiPolygon":
        yield from coordinates or ()
    elif kind == "GeometryCollection":
        for part in geometry.get("geometries") or ():
            yield from _polygons_of(part)


def _rings_of(polygon: Any) -> Iterator[np.ndarray]:
    """Yield the rings of a polygon as points (x, y), without the last, which repeats the first."""
    for ring in polygon:
        points = np.array([point[:2] for point in ring], dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(points).all():
            raise DamagedOutlineError("coordinates that are not numbers")
        yield points[:-1] if len(points) > 1 and (points[0] == points[-1]).all() else points
