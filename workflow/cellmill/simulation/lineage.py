"""Tracks as defined by the Cell Tracking Challenge: first and last frame of each track, and its parent track.

A track is an unbroken series of frames in which a cell has a visible pixel; a cell that leaves the image and comes
back gets another track. SOURCE Maska et al. 2023, doi:10.1038/s41592-023-01879-y.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cellmill.images.stored import IGNORE_LABEL
from cellmill.simulation.individuals import Life

# the largest uint16 number other than IGNORE_LABEL
LAST_TRACK = IGNORE_LABEL - 1


@dataclass(frozen=True)
class SimulatedTrack:
    """One track, with more information than a track table holds.

    Attributes
    ----------
    number : int
        From 1, in the order of first frames.
    begin, end : int
        First and last frame.
    parent : int
        Number of the mother's track; 0 unless the mother was visible in the previous frame.
    cell, parent_cell : int
        Numbers of the cell and of its mother, as in objects.csv.
    starts_by : {"first_frame", "division", "entry"}
    ends_by : {"last_frame", "division", "exit"}
        Entry and exit include any other appearance and disappearance, such as behind other cells.
    """

    number: int
    begin: int
    end: int
    parent: int
    cell: int
    parent_cell: int
    starts_by: str
    ends_by: str


class Lineage:
    """The tracks of one sequence, collected frame by frame."""

    def __init__(self, sequence: str) -> None:
        self._sequence = sequence
        self._tracks: list[SimulatedTrack] = []
        self._latest: dict[int, int] = {}  # cell number -> index of its latest track
        self._divided: dict[int, int] = {}  # cell number -> frame of its daughters' birth
        self._frame = -1

    def see(self, frame: int, *, lives: Sequence[Life], visible: Collection[int]) -> dict[int, int]:
        """Update the tracks with the next frame.

        Parameters
        ----------
        frame : int
            Number of the previous frame plus 1.
        lives : sequence of Life
            All cells of the world, in the order of their numbers.
        visible : collection of int
            Numbers of the cells that have a visible pixel.

        Returns
        -------
        dict
            Number of each visible cell -> number of its track; tracks are numbered from 1 as they begin.

        Raises
        ------
        ValueError
            If there are more than 65534 tracks, because the label images have 16 bits.
        """
        assert frame == self._frame + 1
        self._frame = frame
        self._divided |= {life.parent: frame for life in lives if life.birth == frame and life.parent}
        numbers = {}
        for life in lives:
            if life.number not in visible:
                continue
            place = self._latest.get(life.number)
            if place is not None and self._tracks[place].end == frame - 1:
                self._tracks[place] = replace(self._tracks[place], end=frame)
            else:
                self._begin(life)
            numbers[life.number] = self._tracks[self._latest[life.number]].number
        return numbers

    def tracks(self) -> list[SimulatedTrack]:
        """List the tracks of the frames so far, in the order of their numbers."""
        return [replace(track, ends_by=self._end_of(track)) for track in self._tracks]

    def _begin(self, life: Life) -> None:
        number, frame = len(self._tracks) + 1, self._frame
        if number > LAST_TRACK:
            raise ValueError(
                f"sequence {self._sequence}, frame {frame}: expected at most {LAST_TRACK} tracks, because track "
                "numbers have 16 bits, found more. Lower time_lapse.frames or cells, or raise cycle_frames."
            )
        is_born = life.parent > 0 and life.birth == frame
        mother = self._latest.get(life.parent) if is_born else None
        parent = 0
        if mother is not None and self._tracks[mother].end == frame - 1:
            parent = self._tracks[mother].number
        starts_by = "first_frame" if frame == 0 else "division" if is_born else "entry"
        self._tracks.append(
            SimulatedTrack(number, frame, frame, parent, life.number, life.parent, starts_by, ends_by="")
        )
        self._latest[life.number] = number - 1

    def _end_of(self, track: SimulatedTrack) -> str:
        if track.end == self._frame:
            return "last_frame"
        return "division" if self._divided.get(track.cell) == track.end + 1 else "exit"
