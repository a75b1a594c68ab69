"""Write the sequences of a shard in the format of the Cell Tracking Challenge: images, SEG, TRA, track table."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.images.stored import write_labels
from cellmill.simulation.files import write_counts, write_rows
from cellmill.simulation.lineage import Lineage
from cellmill.simulation.sequence import simulate_sequence
from cellmill.simulation.sequence_names import name_truth

logger = logging.getLogger(__name__)

OBJECT_COLUMNS = [
    *("sample", "sequence", "frame", "track", "cell", "parent_cell", "row", "column", "radius_px", "area_px"),
    *("visible_area_px", "full_area_px", "first_row", "last_row", "first_column", "last_column", "nucleus_area_px"),
    *("organelles", "brightness", "depth", "sigma_px", "is_resting"),
]
# Fraction of its light that a cell shows; only if the sequences have fading.
LIGHT_COLUMN = "light"
IMAGE_COLUMNS = [
    *("sample", "sequence", "frame", "cells", "cells_of_world", "failed", "held", "put_off", "squeezed"),
    *("foreground_fraction", "has_background_noise", "saturated_fraction"),
]
TRACK_COLUMNS = ["sequence", "track", "begin", "end", "parent", "cell", "parent_cell", "starts_by", "ends_by"]


def write_sequences(
    folder: Path, *, samples: Sequence[Mapping[str, Any]], seed: int, section_of: Callable[[str], Mapping[str, Any]]
) -> None:
    """Simulate the sequences of a shard and write the frames that belong to it.

    Parameters
    ----------
    folder : path
        Output folder for images/{sample}.tif (camera counts), {sequence}_GT/SEG/man_seg{frame}.tif and
        {sequence}_GT/TRA/man_track{frame}.tif (number of the visible track at each pixel, identical in both),
        {sequence}_GT/TRA/man_track.txt and tracks.csv (all tracks of the whole sequence), objects.csv and images.csv.
        With fading, objects.csv has a column `light`: the fraction of its light that each cell shows.
    samples : sequence of mapping
        Rows of the sample table; `sample`, `sequence` and `frame` are read.
    seed : int, >= 0
        The config's seed.
    section_of : function
        Maps a sequence to its simulation settings, a section with `time_lapse`.
    """
    (folder / "images").mkdir()
    objects: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    tracks: list[dict[str, Any]] = []
    is_fading = False
    for sequence in sorted({str(row["sequence"]) for row in samples}):
        names = {int(row["frame"]): str(row["sample"]) for row in samples if row["sequence"] == sequence}
        simulate, lineage = section_of(sequence), Lineage(sequence)
        is_fading |= simulate["time_lapse"]["fading"] is not None
        for frame in simulate_sequence(sequence, seed=seed, simulate=simulate, frames=names, lineage=lineage):
            name = names[frame.frame]
            write_counts(folder / "images" / f"{name}.tif", frame.counts)
            truth = name_truth(sequence, frame.frame, frames=simulate["time_lapse"]["frames"])
            for kind in ("objects", "markers"):
                path = folder / truth[kind]
                path.parent.mkdir(parents=True, exist_ok=True)
                write_labels(path, frame.labels_yx)
            objects += [{"sample": name, **row} for row in frame.objects]
            images.append({"sample": name, **frame.summary})
        tracks += write_lineage(folder, lineage, sequence=sequence, simulate=simulate)
        own = [row for row in images if row["sequence"] == sequence]
        failed, squeezed = own[0]["failed"], max(row["squeezed"] for row in own)
        logger.log(
            logging.WARNING if failed or squeezed else logging.INFO,
            "%s: %d of %d frames, %d to %d cells, %d tracks; %d cells could not be placed, %d overlap too much",
            *(sequence, len(own), simulate["time_lapse"]["frames"]),
            *(min(row["cells"] for row in own), max(row["cells"] for row in own)),
            *(len(lineage.tracks()), failed, squeezed),
        )
    columns = [*OBJECT_COLUMNS, LIGHT_COLUMN] if is_fading else OBJECT_COLUMNS
    write_rows(folder / "objects.csv", objects, columns=columns)
    write_rows(folder / "images.csv", images, columns=IMAGE_COLUMNS)
    write_rows(folder / "tracks.csv", tracks, columns=TRACK_COLUMNS)


def write_lineage(
    folder: Path, lineage: Lineage, *, sequence: str, simulate: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Write the track table of one sequence, and return its rows of tracks.csv."""
    found = lineage.tracks()
    path = folder / name_truth(sequence, 0, frames=simulate["time_lapse"]["frames"])["tracks"]
    path.write_text("".join(f"{one.number} {one.begin} {one.end} {one.parent}\n" for one in found), encoding="utf-8")
    return [
        {
            "sequence": sequence,
            "track": one.number,
            "begin": one.begin,
            "end": one.end,
            "parent": one.parent,
            "cell": one.cell,
            "parent_cell": one.parent_cell,
            "starts_by": one.starts_by,
            "ends_by": one.ends_by,
        }
        for one in found
    ]
