"""Stage export: write each sequence of a run as a result of the Cell Tracking Challenge."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cellmill.annotations.ctc_writer import TooManyTracksError, write_ctc
from cellmill.images.stored import read_labels
from cellmill.objects.label_files import label_paths
from cellmill.objects.linking import link_frames
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)


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
    Objects of consecutive frames are linked by overlap, see `cellmill.objects.linking`. This is enough for the
    challenge's SEG and DET, but it is not tracking.
    """
    paths = label_paths(segmentation_dirs)
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
