"""Stage export: write the objects of a run for other programs (COCO, ImageJ's ROI Manager, QuPath, cell tracking)."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cellmill.annotations.coco import write_coco
from cellmill.annotations.ctc import TooManyTracksError, write_ctc
from cellmill.annotations.imagej_roi import write_rois
from cellmill.annotations.outlines import trace_edges
from cellmill.annotations.pieces import Piece, gather_objects
from cellmill.images import StoredRows, read_labels
from cellmill.linking import link_frames
from cellmill.shards import atomic_path, shard_folder

logger = logging.getLogger(__name__)


def export_coco(
    *, output_path: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write the objects of all images as one COCO file.

    Parameters
    ----------
    output_path : path
        Written whole or not at all.
    segmentation_dirs : sequence of path
        Shard folders of the stage postprocess.
    samples : sequence of mapping
        Rows of the sample table: sample, image. `file_name` is the name of the image file if that begins with
        `{sample}.`, else {sample}.tif.
    """
    paths = _label_paths(segmentation_dirs)
    write_coco(
        output_path, images=((_file_name(row), StoredRows(paths[row["sample"]])) for row in _sorted(samples, paths))
    )
    logger.info("%d images", len(paths), extra={"progress": True})


def export_rois(
    *, output_dir: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write {sample}.zip for ImageJ's ROI Manager, one ROI per object; parameters as for `export_coco`."""
    paths = _label_paths(segmentation_dirs)
    with shard_folder(output_dir) as folder:
        for row in _sorted(samples, paths):
            write_rois(folder / f"{row['sample']}.zip", StoredRows(paths[row["sample"]]))
    logger.info("%d images", len(paths), extra={"progress": True})


def export_geojson(
    *, output_dir: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write {sample}.geojson for QuPath; parameters as for `export_coco`.

    Notes
    -----
    An object is a Polygon or MultiPolygon along the edges of its pixels, in px from the upper left corner of the
    image, x to the right and y downwards, with its number as `name` and `objectType` detection.
    """
    paths = _label_paths(segmentation_dirs)
    with shard_folder(output_dir) as folder:
        for row in _sorted(samples, paths):
            path = paths[row["sample"]]
            objects = gather_objects(StoredRows(path), where=str(path))
            with atomic_path(folder / f"{row['sample']}.geojson") as partial, partial.open("w") as stream:
                stream.write('{"type": "FeatureCollection", "features": [')
                for number, feature in enumerate(describe_features(objects)):
                    stream.write((",\n" if number else "\n") + json.dumps(feature))
                stream.write("\n]}\n")
    logger.info("%d images", len(paths), extra={"progress": True})


def export_ctc(
    *, output_dir: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write each sequence as a result of the Cell Tracking Challenge: {sequence}_RES with masks and res_track.txt.

    Parameters
    ----------
    output_dir : path
        Output folder; written whole or not at all.
    segmentation_dirs : sequence of path
        Shard folders of the stage postprocess.
    samples : sequence of mapping
        Rows of the sample table: sample, sequence, frame. Images without a sequence are left out.

    Notes
    -----
    Objects of consecutive frames are linked by overlap, see `cellmill.linking`. This is enough for the challenge's
    SEG and DET, but it is not tracking.
    """
    paths = _label_paths(segmentation_dirs)
    rows = sorted(
        (row for row in samples if row["sequence"] and row["sample"] in paths),
        key=lambda row: (row["sequence"], int(row["frame"])),
    )
    with shard_folder(output_dir) as folder:
        for sequence, frames in groupby(rows, key=lambda row: str(row["sequence"])):
            numbered = ((int(row["frame"]), read_labels(paths[row["sample"]])) for row in frames)
            result = folder / f"{sequence.replace('/', '_')}_RES"
            try:
                write_ctc(result, frames=link_frames(numbered))
            except TooManyTracksError as error:
                # A sequence with too many tracks must not prevent the export of the others.
                shutil.rmtree(result)
                logger.warning("%s is left out: %s", sequence, error)
    logger.info("%d frames", len(rows), extra={"progress": True})


def _label_paths(folders: Sequence[str | Path]) -> dict[str, Path]:
    return {path.name.removesuffix(".tif"): path for folder in folders for path in Path(folder).glob("*.tif")}


def _sorted(samples: Sequence[Mapping[str, Any]], paths: Mapping[str, Path]) -> list[Mapping[str, Any]]:
    return sorted((row for row in samples if row["sample"] in paths), key=lambda row: str(row["sample"]))


def _file_name(row: Mapping[str, Any]) -> str:
    name = Path(row["image"]).name
    return name if name.startswith(f"{row['sample']}.") else f"{row['sample']}.tif"


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
