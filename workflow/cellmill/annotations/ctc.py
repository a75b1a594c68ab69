"""Annotations of the Cell Tracking Challenge: label images of single frames, and a track table in the same folder.

SEG (man_seg*.tif) outlines some objects in some frames. TRA (man_track*.tif) marks every object in every frame. A
result (mask*.tif) does both. A track table has one line "L B E P" per label: label, first frame, last frame, parent.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.annotations.ctc_writer import Track
from cellmill.annotations.instance import AnnotationSettings, Instance, draw_onto, list_neighbours
from cellmill.annotations.masks import read_label_image

# Declaration, see formats.py
FORMATS = {
    "ctc": {
        "reader": "read_ctc",
        "remarks": "remark_on_tracks",
        "files": "one",
        "keys": ("path", "ignore_value", "tracks", "markers"),
        "needs": ("path",),
        "is_filled": False,
        "missing": "unlabelled",
        "summary": "label images of the Cell Tracking Challenge (SEG, TRA or a result), for some or all frames",
        "reads": "label images of some or all frames, with an optional table of tracks and optional markers",
        "used_by": "Cell Tracking Challenge: SEG, TRA and results",
    },
}

NAMED_LABELS = 5
# Key of a sample's further files: a track table beside the masks that the config does not name
UNASKED_TRACKS = "tracks_beside"


def read_ctc(
    row: Mapping[str, Any], *, shape: tuple[int, int], annotations: AnnotationSettings, table: None
) -> list[Instance]:
    """Read the objects of one frame of the Cell Tracking Challenge.

    Parameters
    ----------
    row : mapping
        Row of the sample table; `sample`, `annotations` (one path), `frame` (as counted in the track table), the
        position in a stack and the optional paths `markers` (a TRA label image) and `tracks` in `extra` are read.
    shape : tuple of int
        (rows, columns) of the image.
    annotations : mapping
        The config section; `ignore_value` is read.
    table : None
        Only used by formats with one file for all samples.

    Returns
    -------
    list of Instance
        In the order of their numbers, which are kept; then an ignored region for each marked object without an
        outline.

    Raises
    ------
    ValueError
        If there is not exactly one file, a file is unreadable, differs in size from the image or has invalid object
        numbers, or the track table contradicts the numbers.

    Notes
    -----
    SEG and TRA use independent numbers. A track table matches only the masks it was made with, TRA or a result.
    SOURCE Maska et al. 2023, doi:10.1038/s41592-023-01879-y.
    """
    extra = row.get("extra", {})
    found = read_label_image(row, shape=shape, annotations=annotations, table=None)
    instances = [replace(instance, source=f"label {instance.number}") for instance in found]
    if "tracks" in extra:
        labels = _labels_of(instances)
        if wrong := _find_unlisted(row, labels=labels, table=extra["tracks"]):
            raise ValueError(
                f"sample {row['sample']}, {row['annotations'][0]}: expected only labels that {extra['tracks']} lists "
                f"for frame {row['frame']}, found {wrong}. "
                "Use masks and tracks of the same sequence with the same frame numbers, or remove annotations.tracks."
            )
    if "markers" in extra:
        marked = {**row, "annotations": [extra["markers"]]}
        markers = read_label_image(marked, shape=shape, annotations=annotations, table=None)
        instances += find_unoutlined(markers, outlined=instances)
    return instances


def remark_on_tracks(row: Mapping[str, Any], instances: Sequence[Instance]) -> list[tuple[str, str, str]]:
    """Compare a frame with the track table beside its masks, which nobody asked for.

    Parameters
    ----------
    row : mapping
        As in `read_ctc`.
    instances : sequence of Instance
        From `read_ctc`.

    Returns
    -------
    list of (severity, text, advice)
        One note if the table does not list all labels of the frame.
    """
    table = row.get("extra", {}).get(UNASKED_TRACKS)
    wrong = "" if table is None else _find_unlisted(row, labels=_labels_of(instances), table=table)
    if not wrong:
        return []
    advice = "The table is not used; set annotations.tracks to stop at differences between masks and tracks"
    return [("note", f"{table}, frame {row['frame']}: {wrong}", advice)]


def find_unoutlined(markers: Sequence[Instance], *, outlined: Sequence[Instance]) -> list[Instance]:
    """List the marked objects without an outline, as ignored regions.

    Parameters
    ----------
    markers : sequence of Instance
        Marked objects, as drawn for TRA.
    outlined : sequence of Instance
        The outlined objects; ignored regions are skipped.

    Returns
    -------
    list of Instance
        The markers without a pixel in an outlined object; all are ignored regions.
    """
    objects = [*markers, *(instance for instance in outlined if not instance.is_ignored)]
    found = []
    for marker, others in zip(markers, list_neighbours(objects), strict=False):
        outlined_yx = np.zeros(marker.mask_yx.shape, dtype=bool)
        for k in others:
            if k >= len(markers):
                draw_onto(outlined_yx, marker, objects[k])
        if not (outlined_yx & marker.mask_yx).any():
            found.append(replace(marker, source=f"marker {marker.number}", number=None, is_ignored=True))
    return found


def read_tracks(path: str | Path) -> dict[int, Track]:
    """Read a track table: four whole numbers per line, separated by blanks.

    Parameters
    ----------
    path : path
        man_track.txt or res_track.txt.

    Returns
    -------
    dict
        label -> Track, in the order of the table.

    Raises
    ------
    ValueError
        If the file cannot be read, a line is not four whole numbers from 0, a label is 0 or occurs twice, a track ends
        before it begins, or a parent is unknown or has not ended when its daughter begins.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected a text table of tracks, found: {error}. Check the path and the file permissions."
        ) from error
    tracks: dict[int, Track] = {}
    places: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        track = _read_track(line, where=where)
        if track.label in tracks:
            raise ValueError(
                f"{where}: expected every label once, found label {track.label} again, after "
                f"{places[track.label].rsplit(', ', 1)[1]}. Assign a unique label to each track."
            )
        tracks[track.label], places[track.label] = track, where
    for track in tracks.values():
        _check_parent(track, tracks, where=places[track.label])
    return tracks


def _labels_of(instances: Sequence[Instance]) -> list[int]:
    return [instance.number for instance in instances if instance.number and not instance.is_ignored]


def _find_unlisted(row: Mapping[str, Any], *, labels: Sequence[int], table: str) -> str:
    """Describe the labels of a frame that a track table does not list for it; return an empty text without any."""
    tracks, frame = read_tracks(table), row["frame"]
    wrong = []
    for label in labels:
        if label not in tracks:
            wrong.append(f"{label} (not listed)")
        elif not tracks[label].begin <= frame <= tracks[label].end:
            wrong.append(f"{label} (listed for frames {tracks[label].begin} to {tracks[label].end})")
    if not wrong:
        return ""
    names = ", ".join(wrong[:NAMED_LABELS]) + (" and others" if len(wrong) > NAMED_LABELS else "")
    return f"{len(wrong)} of {len(labels)} labels not listed for it: {names}"


def _read_track(line: str, *, where: str) -> Track:
    fields = line.split()
    # 18 digits fit into int64, and labels and frames have fewer
    if len(fields) != 4 or not all(re.fullmatch("-?[0-9]{1,18}", field) for field in fields):
        raise ValueError(
            f"{where}: expected four whole numbers 'label begin end parent', found '{line.strip()[:40]}'. "
            "Save the table in the format of the Cell Tracking Challenge, without a header."
        )
    if "-" in line:
        raise ValueError(
            f"{where}: expected numbers from 0, found '{line.strip()}'. Correct the line: frames are numbered from 0."
        )
    track = Track(*map(int, fields))
    if track.label == 0:
        raise ValueError(f"{where}: expected labels from 1, found 0. Remove the line: 0 is the background.")
    if track.begin > track.end:
        raise ValueError(
            f"{where}: expected a track that begins before it ends, found frames {track.begin} to {track.end}. "
            "Correct the line: its columns are label, begin, end, parent."
        )
    return track


def _check_parent(track: Track, tracks: Mapping[int, Track], *, where: str) -> None:
    if track.parent == 0:
        return
    if track.parent not in tracks:
        raise ValueError(
            f"{where}: expected a parent listed in the table, or 0 for none, found {track.parent}. "
            "Add a line for the parent, or set the parent to 0."
        )
    if tracks[track.parent].end >= track.begin:
        raise ValueError(
            f"{where}: expected a parent that ends before frame {track.begin}, where its daughter begins, found label "
            f"{track.parent}, which ends in frame {tracks[track.parent].end}. "
            "Correct the frames of the parent or the daughter."
        )
