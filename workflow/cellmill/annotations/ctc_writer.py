"""Write label images of a sequence as a result of the Cell Tracking Challenge."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cellmill.images.stored import IGNORE_LABEL, write_labels
from cellmill.shards import atomic_path

TRACK_TABLE = "res_track.txt"
# the largest uint16 below IGNORE_LABEL
LAST_LABEL = IGNORE_LABEL - 1


class Track(NamedTuple):
    """One line of a track table. Frames count from 0, the track includes both ends, and parent 0 means no parent."""

    label: int
    begin: int
    end: int
    parent: int


class TooManyTracksError(ValueError):
    """Error for a sequence with more labels than the format's 16 bits can hold."""


def write_ctc(folder: str | Path, *, frames: Iterable[tuple[int, np.ndarray]]) -> None:
    """Write the label images of one sequence in the result format of the Cell Tracking Challenge.

    Parameters
    ----------
    folder : path
        Output folder for mask000.tif and so on (uint16; four digits in all names if a frame needs them) and for
        res_track.txt, which is written last. It should not contain masks yet.
    frames : iterable of (int, ndarray of integers, shape (rows, columns))
        Frame number from 0, ascending, and label image: 0 background, the same number for the same object in every
        frame; ignored pixels (65535) are written as background. One image at a time is held in memory.

    Raises
    ------
    ValueError
        If frames do not ascend or a label is negative.
    TooManyTracksError
        If a label is above 65535, or there are more than 65534 tracks.

    Notes
    -----
    The format does not allow gaps in a track. The track of an object that is missing from a frame ends there and
    continues under another label whose parent is the old one. These labels count down from 65534, so that other
    objects keep theirs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tracks: dict[int, Track] = {}
    current: dict[int, int] = {}
    unused = iter(range(LAST_LABEL, 0, -1))
    last_frame = -1
    for frame, labels_yx in frames:
        where = f"{folder}, frame {frame}"
        if frame <= last_frame:
            raise ValueError(
                f"{where}: expected ascending frame numbers from 0, found {frame} after "
                f"{last_frame if last_frame >= 0 else 'the start'}. Sort the frames and use each number once."
            )
        _write_frame(folder, frame, labels_yx, tracks=tracks, current=current, unused=unused, where=where)
        last_frame = frame
    if last_frame > 999:
        for path in folder.glob("mask[0-9][0-9][0-9].tif"):
            path.replace(folder / f"mask0{path.name[4:]}")
    with atomic_path(folder / TRACK_TABLE) as partial:
        partial.write_text("".join(f"{t.label} {t.begin} {t.end} {t.parent}\n" for _, t in sorted(tracks.items())))


def _write_frame(
    folder: Path,
    frame: int,
    labels_yx: np.ndarray,
    *,
    tracks: dict[int, Track],
    current: dict[int, int],
    unused: Iterator[int],
    where: str,
) -> None:
    """Write one mask and extend the tracks of its labels; `current` maps each label to its latest track."""
    assert labels_yx.dtype.kind in "ui"
    numbers = np.unique(labels_yx)
    if numbers[0] < 0 or numbers[-1] > IGNORE_LABEL:
        kind, wrong = (ValueError, numbers[0]) if numbers[0] < 0 else (TooManyTracksError, numbers[-1])
        raise kind(
            f"{where}: expected labels from 0 to {LAST_LABEL}, because the format has 16 bits, found {wrong}. "
            "Renumber the objects."
        )
    written = np.zeros(IGNORE_LABEL + 1, dtype=np.uint16)
    for label in numbers[(numbers != 0) & (numbers != IGNORE_LABEL)].tolist():
        number = current.get(label)
        if number is not None and tracks[number].end == frame - 1:
            tracks[number] = tracks[number]._replace(end=frame)
        else:
            parent = number or 0
            number = label if label not in tracks else _next_unused(unused, tracks, where=where)
            tracks[number] = Track(number, frame, frame, parent)
            current[label] = number
        written[label] = number
    with atomic_path(folder / f"mask{frame:03d}.tif") as partial:
        write_labels(partial, written[labels_yx])


def _next_unused(unused: Iterator[int], tracks: Mapping[int, Track], *, where: str) -> int:
    for label in unused:
        if label not in tracks:
            return label
    raise TooManyTracksError(
        f"{where}: expected at most {LAST_LABEL} tracks, because the format has 16 bits, found more. "
        "Write the sequence in parts."
    )
