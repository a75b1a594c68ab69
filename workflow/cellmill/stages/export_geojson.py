"""Stage export: write the objects of a run as GeoJSON for QuPath."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.annotations.pieces import gather_objects
from cellmill.images.stored import StoredRows
from cellmill.objects.geojson import describe_features
from cellmill.objects.label_files import label_paths, rows_with_labels
from cellmill.shards import atomic_path, shard_folder

logger = logging.getLogger(__name__)


def export_geojson(
    *, output_dir: str | Path, segmentation_dirs: Sequence[str | Path], samples: Sequence[Mapping[str, Any]]
) -> None:
    """Write {sample}.geojson for QuPath; parameters as for `export_coco`.

    Notes
    -----
    An object is a Polygon or MultiPolygon along the edges of its pixels, in px from the upper left corner of the
    image, x to the right and y downwards, with its number as `name` and `objectType` detection.
    """
    paths = label_paths(segmentation_dirs)
    with shard_folder(output_dir) as folder:
        for row in rows_with_labels(samples, paths):
            path = paths[row["sample"]]
            objects = gather_objects(StoredRows(path), where=str(path))
            with atomic_path(folder / f"{row['sample']}.geojson") as partial, partial.open("w") as stream:
                stream.write('{"type": "FeatureCollection", "features": [')
                for number, feature in enumerate(describe_features(objects)):
                    stream.write((",\n" if number else "\n") + json.dumps(feature))
                stream.write("\n]}\n")
    logger.info("%d images", len(paths), extra={"progress": True})
