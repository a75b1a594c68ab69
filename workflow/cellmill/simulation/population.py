"""Place cells in an image, individually or in clusters, within the overlap limit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cellmill.simulation.shapes import Footprint


@dataclass(frozen=True)
class Body:
    """A cell before placement: its footprints, centred within pixel (0, 0).

    Attributes
    ----------
    row_fraction, column_fraction : float, in [-0.5, 0.5)
        Sub-pixel position of the centre.
    radius_px : float
        Radius of the circle that is deformed to the outline.
    cell, nucleus : Footprint
        The nucleus has an empty mask if none is simulated.
    """

    row_fraction: float
    column_fraction: float
    radius_px: float
    cell: Footprint
    nucleus: Footprint
    organelles: tuple[Footprint, ...] = ()


@dataclass(frozen=True)
class Cell:
    """A placed cell; attributes as in `Body`, in image coordinates.

    `cluster` is numbered from 1, and 0 for a cell outside clusters.
    """

    row: float
    column: float
    radius_px: float
    cluster: int
    cell: Footprint
    nucleus: Footprint
    organelles: tuple[Footprint, ...] = ()


@dataclass(frozen=True)
class Population:
    """The cells of one image, in the order in which they were placed.

    Attributes
    ----------
    cells : list of Cell
        Numbered from 1 in the tables: cell i is `cells[i - 1]`.
    failed : int
        Number of cells that could not be placed.
    cluster_centres : ndarray of shape (clusters, 2)
        Row and column in px.
    """

    cells: list[Cell]
    failed: int
    cluster_centres: np.ndarray


class Occupancy:
    """The occupied pixels, to test a new object against all earlier objects."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._boxes = np.empty((0, 4), dtype=int)  # first and end row, first and end column
        self._masks: list[np.ndarray] = []
        self._top_yx = np.zeros(shape, dtype=np.int32)  # number of the latest object on a pixel

    def largest_overlap(self, footprint: Footprint) -> float:
        """Return the largest overlap with any single earlier object, as a fraction of either of the two.

        Notes
        -----
        SOURCE SIMCEP: as a fraction of the new object, and of the visible pixels of the earlier object. Full
        extents are measured as well, so that the limit also holds for the annotations. Otherwise several new
        objects could hide an earlier object step by step.
        """
        (rows, columns), mask_yx = footprint.clipped(self.shape)
        starts = np.maximum(self._boxes[:, 0::2], [rows.start, columns.start])
        stops = np.minimum(self._boxes[:, 1::2], [rows.stop, columns.stop])
        largest = 0.0
        for index in np.flatnonzero(np.all(starts < stops, axis=1)):
            top, bottom, left, right = self._boxes[index]
            earlier_yx = self._masks[index]
            (first_row, first_column), (end_row, end_column) = starts[index], stops[index]
            shared_yx = (
                mask_yx[
                    first_row - rows.start : end_row - rows.start,
                    first_column - columns.start : end_column - columns.start,
                ]
                & earlier_yx[first_row - top : end_row - top, first_column - left : end_column - left]
            )
            shared = np.count_nonzero(shared_yx)
            if shared == 0:
                continue
            is_top_yx = self._top_yx[first_row:end_row, first_column:end_column] == index + 1
            visible = int(np.count_nonzero(self._top_yx[top:bottom, left:right] == index + 1))
            largest = max(
                largest,
                shared / np.count_nonzero(mask_yx),
                shared / np.count_nonzero(earlier_yx),
                np.count_nonzero(shared_yx & is_top_yx) / max(visible, 1),
            )
        return largest

    def add(self, footprint: Footprint) -> None:
        """Mark the pixels of a footprint as occupied."""
        (rows, columns), mask_yx = footprint.clipped(self.shape)
        self._boxes = np.vstack([self._boxes, [rows.start, rows.stop, columns.start, columns.stop]])
        self._masks.append(mask_yx)
        self._top_yx[rows, columns][mask_yx] = len(self._masks)


def place_cells(
    bodies: Sequence[Body],
    *,
    shape: tuple[int, int],
    clusters: int,
    cluster_probability: float,
    cluster_spread: float,
    overlap_limit: float,
    overlap_of: str,
    attempts: int,
    no_place: str,
    rng: np.random.Generator,
) -> Population:
    """Place cells one after another.

    Parameters
    ----------
    bodies : sequence of Body
        Cells to place, in this order.
    shape : (rows, columns)
        Image in px; the centre of a cell always lies inside, its outline may extend beyond the image.
    clusters : int, >= 0
        Number of clusters; their centres are uniformly distributed.
    cluster_probability : float, in [0, 1]
        Probability that a cell belongs to a cluster.
    cluster_spread : float, > 0
        Standard deviation of the distance to the cluster's centre along each axis, as a fraction of the
        image's shorter side.
    overlap_limit : float, in [0, 1]
        Largest overlap of two objects as a fraction of either; 1 allows any overlap.
    overlap_of : {"cell", "nucleus"}
        Objects whose overlap is limited.
    attempts : int, >= 1
        Number of places tried for each cell.
    no_place : {"leave_out", "stop", "place"}
        Action if all attempts for a cell fail: skip the cell, stop placing cells, or use the last place tried inside
        the image. Skipped cells, and those not tried after a stop, are counted as failed.
    rng : numpy.random.Generator
        Stream of the image's population.

    Returns
    -------
    Population
    """
    centres = rng.uniform(-0.5, np.array(shape) - 0.5, size=(clusters, 2))
    # ASSUME the shorter side for both axes, so that clusters are round even if the image is not square.
    spread_px = cluster_spread * min(shape)
    taken = Occupancy(shape)
    cells: list[Cell] = []
    for body in bodies:
        clustered = rng.random() < cluster_probability and clusters > 0
        last: tuple[int, int, int] | None = None
        for _ in range(attempts):
            cluster = int(rng.integers(1, clusters + 1)) if clustered else 0
            row, column = _draw_pixel(centres, cluster, shape=shape, spread_px=spread_px, rng=rng)
            if not (0 <= row < shape[0] and 0 <= column < shape[1]):
                continue
            if not body.cell.moved(row, column).clipped(shape)[1].any():
                continue
            last = (row, column, cluster)
            if taken.largest_overlap(_judged(body, overlap_of).moved(row, column)) <= overlap_limit:
                break
        else:
            if no_place == "stop":
                break
            if no_place == "leave_out" or last is None:
                continue
        assert last is not None
        row, column, cluster = last
        taken.add(_judged(body, overlap_of).moved(row, column))
        cells.append(_placed(body, row, column, cluster))
    return Population(cells, len(bodies) - len(cells), centres)


def _judged(body: Body, overlap_of: str) -> Footprint:
    return body.cell if overlap_of == "cell" else body.nucleus


def _draw_pixel(
    centres: np.ndarray, cluster: int, *, shape: tuple[int, int], spread_px: float, rng: np.random.Generator
) -> tuple[int, int]:
    if cluster == 0:
        return int(rng.integers(shape[0])), int(rng.integers(shape[1]))
    row, column = centres[cluster - 1] + spread_px * rng.standard_normal(2)
    return math.floor(row + 0.5), math.floor(column + 0.5)


def _placed(body: Body, row: int, column: int, cluster: int) -> Cell:
    return Cell(
        row=row + body.row_fraction,
        column=column + body.column_fraction,
        radius_px=body.radius_px,
        cluster=cluster,
        cell=body.cell.moved(row, column),
        nucleus=body.nucleus.moved(row, column),
        organelles=tuple(organelle.moved(row, column) for organelle in body.organelles),
    )


def count_cover(footprints: Sequence[Footprint], *, shape: tuple[int, int]) -> np.ndarray:
    """Count the objects on each pixel.

    Parameters
    ----------
    footprints : sequence of Footprint
        Full extents.
    shape : (rows, columns)
        Image in px.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 for background; the ground-truth foreground is where it is above 0.
    """
    count_yx = np.zeros(shape, dtype=np.int32)
    for footprint in footprints:
        window, mask_yx = footprint.clipped(shape)
        count_yx[window] += mask_yx
    return count_yx


def label_visible(footprints: Sequence[Footprint], *, shape: tuple[int, int]) -> np.ndarray:
    """Label each pixel with the number of the visible object: the last placed object that covers it.

    Parameters
    ----------
    footprints : sequence of Footprint
        Full extents, in the order of placement.
    shape : (rows, columns)
        Image in px.

    Returns
    -------
    ndarray of int32, shape (rows, columns)
        0 for background, 1 for the first footprint.
    """
    top_yx = np.zeros(shape, dtype=np.int32)
    for number, footprint in enumerate(footprints, start=1):
        window, mask_yx = footprint.clipped(shape)
        top_yx[window][mask_yx] = number
    return top_yx
