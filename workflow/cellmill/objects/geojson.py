"""Objects as GeoJSON features."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.annotations.outlines import trace_edges
from cellmill.annotations.pieces import Piece


def describe_features(objects: Mapping[int, Piece]) -> Iterator[dict[str, Any]]:
    """Convert objects, number -> (row, column, mask), to GeoJSON features."""
    for number, (row, column, mask_yx) in objects.items():
        parts_yx, n_parts = ndimage.label(mask_yx)  # 4-connected: each part has one outer ring
        corner = np.array([column, row])
        polygons = [_polygon(parts_yx == part, corner=corner) for part in range(1, n_parts + 1)]
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if n_parts == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        yield {
            "type": "Feature",
            "geometry": geometry,
            "properties": {"objectType": "detection", "name": str(number)},
        }


def _polygon(mask_yx: np.ndarray, *, corner: np.ndarray) -> list[list[list[int]]]:
    """List the closed rings of one connected part, the outer ring first, oriented as RFC 7946 requires.

    No ring visits a point twice, because readers reject such rings as invalid geometry.
    """
    simple = (part for ring in trace_edges(mask_yx) for part in _split_ring(ring))
    rings = sorted(simple, key=lambda ring: -abs(_signed_area(ring)))
    turned = []
    for place, ring in enumerate(rings):
        wants_positive = place == 0
        if (_signed_area(ring) > 0) != wants_positive:
            ring = ring[::-1]
        turned.append((np.concatenate([ring, ring[:1]]) + corner).tolist())
    return turned


def _split_ring(ring: np.ndarray) -> Iterator[np.ndarray]:
    """Split a ring, shape (points, 2), where it touches itself, into simple rings."""
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for point in map(tuple, ring.tolist()):
        if point in place:
            first = place[point]
            yield np.array(path[first:])
            for passed in path[first:]:
                del place[passed]
            del path[first:]
        place[point] = len(path)
        path.append(point)
    yield np.array(path)


def _signed_area(ring: np.ndarray) -> float:
    x, y = ring.astype(np.float64).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)
