"""Write label images as archives of ImageJ ROIs."""

import zipfile
from pathlib import Path

import numpy as np

from cellmill.annotations.imagej_shapes import encode_rings
from cellmill.annotations.outlines import trace_edges
from cellmill.annotations.pieces import LabelBands, gather_objects
from cellmill.images.stored import IGNORE_LABEL
from cellmill.shards import atomic_path

# a fixed time stamp, so that equal labels give identical archives
ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def write_rois(path: str | Path, labels: np.ndarray | LabelBands) -> None:
    """Write a label image as an archive for ImageJ's ROI Manager, with one ROI per object.

    Parameters
    ----------
    path : path
        Ends in ``.zip``.
    labels : ndarray of integers, shape (rows, columns), or LabelBands
        0 background, 65535 ignored pixels, which are left out. The name of a ROI is its number with leading zeros. Its
        outline follows pixel edges, so `read_imagej_roi` returns the same pixels. Without objects the archive is empty.

    Raises
    ------
    ValueError
        If a label is negative.

    Notes
    -----
    An object with one closed outline becomes a traced ROI. Objects with several parts, holes or coordinates beyond
    32,767 px, the limit of traced ROIs, become composite ROIs. Equal labels give identical bytes.
    """
    objects = gather_objects(labels, where=str(path))
    digits = max(4, len(str(max(objects, default=0))))
    with atomic_path(path) as partial_path, zipfile.ZipFile(partial_path, "w") as archive:
        for number, (row, column, mask_yx) in objects.items():
            if number == IGNORE_LABEL:
                continue
            name = f"{number:0{digits}d}"
            rings = [ring + np.array([column, row]) for ring in trace_edges(mask_yx)]
            info = zipfile.ZipInfo(f"{name}.roi", date_time=ZIP_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            # fixed for identical bytes on every system: created on Unix (3), mode 0644
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, encode_rings(rings, name=name))
