"""Find stationary objects, which a temporal background includes because they stay for most of a sequence.

They disappear from frames in which they are present and leave an inverted ghost where they used to be. No statistic of
a single pixel separates an object that stays for 60 % of the frames from a place that objects cross in 40 %, so the
surroundings are needed. A place had a stationary object if its background differs from the surroundings while the
values of the other frames do not.
"""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

RESTING_TABLE = "resting.csv"
MIN_FRAMES = 8
# Distance from the background above which a value counts as different, in standard deviations of the noise.
DISTANCE = 5.0
# An object that is absent from a smaller share of the frames cannot be distinguished from dirt.
MIN_SHARE_GONE = 0.1
MIN_AREA_PX = 12
# Width of the surrounding ring that a place is compared with.
RING_PX = 6
# A change in a larger share of the frame is attributed to the lamp or the focus.
MAX_SHARE_OF_FRAME = 0.25
# converts a median absolute deviation to a standard deviation for normal noise
MAD_TO_SD = 1.4826


class Resting(NamedTuple):
    """A stationary object in a temporal background.

    `row` and `column` are its centre in px, `area_px` its area, `share` the share of frames in which it was present.
    """

    row: float
    column: float
    area_px: int
    share: float


@dataclass
class Seen:
    """Per-pixel statistics of the frames that differ from the background of their sequence.

    Attributes
    ----------
    share_yx : ndarray of float32, shape (rows, columns)
        Share of the frames that differ from the background by more than noise.
    other_yx : ndarray of float32, shape (rows, columns)
        Median of these frames; the background where there are none.
    """

    share_yx: np.ndarray
    other_yx: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "Seen":
        """Create empty maps to be filled band by band."""
        return cls(np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32))

    def add(self, rows: slice, stack_tyx: np.ndarray, background_yx: np.ndarray) -> None:
        """Fill in some rows.

        Parameters
        ----------
        rows : slice
            Of the frame.
        stack_tyx : ndarray of float32, shape (frames, rows, columns)
            In order of time.
        background_yx : ndarray of float32, shape (rows, columns)
        """
        # Differences of consecutive frames: an object that comes or goes affects one of them, noise affects all.
        steps_tyx = np.abs(np.diff(stack_tyx, axis=0))
        noise_yx = MAD_TO_SD / np.sqrt(2) * np.median(steps_tyx, axis=0)
        # With few frames the estimate per pixel is rough, so use at least half of the median noise.
        limit_yx = DISTANCE * np.maximum(noise_yx, 0.5 * np.median(noise_yx))
        is_other_tyx = np.abs(stack_tyx - background_yx) > limit_yx
        self.share_yx[rows] = is_other_tyx.mean(axis=0)
        others_tyx = np.where(is_other_tyx, stack_tyx, np.nan)
        is_any_yx = is_other_tyx.any(axis=0)
        other_yx = background_yx.copy()
        other_yx[is_any_yx] = np.nanmedian(others_tyx[:, is_any_yx], axis=0)
        self.other_yx[rows] = other_yx


def find_resting(seen: Seen, background_yx: np.ndarray) -> list[Resting]:
    """Find the stationary objects in a background.

    Parameters
    ----------
    seen : Seen
        Filled for all rows.
    background_yx : ndarray of float32, shape (rows, columns)
        The temporal background, counts.

    Returns
    -------
    list of Resting
        Largest first; empty if a single changing region covers more than a quarter of the frame.
    """
    places_yx, _ = ndimage.label(seen.share_yx >= MIN_SHARE_GONE, structure=np.ones((3, 3), dtype=bool))
    found = []
    for number, box in enumerate(ndimage.find_objects(places_yx), start=1):
        wide = tuple(
            slice(max(part.start - RING_PX, 0), min(part.stop + RING_PX, size))
            for part, size in zip(box, background_yx.shape, strict=True)
        )
        is_place_yx = places_yx[wide] == number
        found += _resting_parts(
            is_place_yx,
            background_yx[wide],
            seen.other_yx[wide],
            share_yx=seen.share_yx[wide],
            is_ring_yx=ndimage.binary_dilation(is_place_yx, iterations=RING_PX) & (places_yx[wide] == 0),
            corner=(wide[0].start, wide[1].start),
        )
        if np.count_nonzero(is_place_yx) > MAX_SHARE_OF_FRAME * background_yx.size:
            return []
    return sorted(found, key=lambda resting: -resting.area_px)


def _resting_parts(
    is_place_yx: np.ndarray,
    background_yx: np.ndarray,
    other_yx: np.ndarray,
    *,
    share_yx: np.ndarray,
    is_ring_yx: np.ndarray,
    corner: tuple[int, int],
) -> list[Resting]:
    """List the regions of a place where the background differs from the surroundings and the other frames do not."""
    if np.count_nonzero(is_place_yx) < MIN_AREA_PX or not is_ring_yx.any():
        return []
    around = float(np.median(background_yx[is_ring_yx]))
    spread = MAD_TO_SD * float(np.median(np.abs(background_yx[is_ring_yx] - around)))
    is_odd_yx = np.abs(background_yx - around) > np.maximum(2 * np.abs(other_yx - around), 2 * spread)
    parts_yx, _ = ndimage.label(is_place_yx & is_odd_yx)
    resting = []
    for number, box in enumerate(ndimage.find_objects(parts_yx), start=1):
        is_part_yx = parts_yx[box] == number
        area_px = int(np.count_nonzero(is_part_yx))
        if area_px < MIN_AREA_PX:
            continue
        row, column = ndimage.center_of_mass(is_part_yx)
        resting.append(
            Resting(
                row=corner[0] + box[0].start + float(row),
                column=corner[1] + box[1].start + float(column),
                area_px=area_px,
                share=1 - float(np.median(share_yx[box][is_part_yx])),
            )
        )
    return resting


def write_resting(path: str | Path, found: Iterable[tuple[str, Resting]]) -> None:
    """Write sequence, row, column, area and share of each place as a table."""
    with Path(path).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["sequence", *Resting._fields])
        for sequence, each in found:
            writer.writerow([sequence, f"{each.row:.1f}", f"{each.column:.1f}", each.area_px, f"{each.share:.3f}"])


def describe_resting(folders: Mapping[str, str | Path]) -> list[dict[str, str]]:
    """Build a finding for each sequence with stationary objects.

    Parameters
    ----------
    folders : mapping
        Shard -> folder of preprocessed images.

    Returns
    -------
    list of dict
        severity, sample, where, finding and advice, as the stage check writes them.
    """
    found: dict[tuple[str, str], list[Resting]] = {}
    for shard, folder in folders.items():
        with (Path(folder) / RESTING_TABLE).open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                place = Resting(float(row["row"]), float(row["column"]), int(row["area_px"]), float(row["share"]))
                found.setdefault((shard, row["sequence"]), []).append(place)
    return [
        {
            "severity": "warning",
            "sample": "",
            "where": f"sequence {sequence}, {shard}",
            "finding": (
                f"the temporal background contains {len(places)} object{'s' if len(places) > 1 else ''} that stayed "
                f"in most of the frames; the largest ({places[0].area_px} px at row {places[0].row:.0f}, column "
                f"{places[0].column:.0f}) is present in {places[0].share:.0%} of them"
            ),
            "advice": "Use a longer sequence, temporal_mode, or a single-frame background. Otherwise these objects "
            "disappear from frames in which they are present and leave an inverted ghost where they used to be",
        }
        for (shard, sequence), places in found.items()
    ]
