"""Overlap between moving cells: push overlapping discs apart, and measure the overlap of masks."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from cellmill.simulation.shapes import Footprint

ROUNDS = 3  # of pushing per frame; the next frame reduces the remaining overlap further


def contact_of(overlap_limit: float) -> float:
    """Return the distance of two equal discs at the overlap limit, relative to the sum of their radii.

    Parameters
    ----------
    overlap_limit : float, in [0, 1]
        Largest overlap as a fraction of one disc.

    Returns
    -------
    float
        1 for discs that may only touch, about 1e-12 for discs that may coincide.
    """
    near, far = 0.0, 1.0
    for _ in range(40):
        middle = (near + far) / 2
        lens = (2 * math.acos(middle) - 2 * middle * math.sqrt(1 - middle**2)) / math.pi
        near, far = (middle, far) if lens > overlap_limit else (near, middle)
    return far


def push_apart(
    places: np.ndarray, *, radii_px: np.ndarray, is_fixed: np.ndarray, contact: float, size: tuple[int, int]
) -> np.ndarray:
    """Push apart discs that are closer than allowed.

    Parameters
    ----------
    places : ndarray of float, shape (discs, 2)
        Row and column of the centres, px.
    radii_px : ndarray of float, shape (discs,)
    is_fixed : ndarray of bool, shape (discs,)
        Discs that do not move; a disc that overlaps such a disc is moved by the whole distance.
    contact : float
        From `contact_of`.
    size : (rows, columns)
        World in px, with periodic boundaries.

    Returns
    -------
    ndarray of float64, shape (discs, 2)
        New centres; no disc moves further than its radius.

    Notes
    -----
    Each of three rounds moves every overlapping pair apart along the line between the centres, each disc by half the
    distance. Discs in a crowd approach the limit but need not reach it.
    """
    if contact == 0 or len(places) < 2:
        return places
    pushed = np.zeros_like(places)
    extent = np.array(size, dtype=float)
    for _ in range(ROUNDS):
        inside = np.mod(places + pushed, extent)
        # for a tiny negative number, np.mod rounds up to the extent itself
        tree = cKDTree(np.where(inside < extent, inside, 0.0), boxsize=extent)
        pairs = tree.query_pairs(2 * contact * float(radii_px.max()), output_type="ndarray")
        one, other = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))].T
        apart = (places + pushed)[one] - (places + pushed)[other]
        apart -= extent * np.round(apart / extent)
        distance = np.hypot(*apart.T)
        lacking = contact * (radii_px[one] + radii_px[other]) - distance
        meets = (lacking > 0) & ~(is_fixed[one] & is_fixed[other])
        if not meets.any():
            break
        one, other, apart, distance, lacking = (x[meets] for x in (one, other, apart, distance, lacking))
        # coinciding centres are separated along the row axis
        direction = np.where(distance[:, None] > 0, apart / np.maximum(distance, 1e-12)[:, None], [1.0, 0.0])
        share = np.where(is_fixed[other], 1.0, np.where(is_fixed[one], 0.0, 0.5))
        np.add.at(pushed, one, (share * lacking)[:, None] * direction)
        np.add.at(pushed, other, ((share - 1) * lacking)[:, None] * direction)
        length = np.hypot(*pushed.T)
        pushed *= np.minimum(1, radii_px / np.maximum(length, 1e-12))[:, None]
    return places + pushed


@dataclass(frozen=True)
class Claim:
    """The current or proposed position of an object; its pixels are computed only on demand.

    Attributes
    ----------
    box : (first row, first column, rows, columns)
        Contains all pixels of the object.
    fill : function
        Returns the pixels.
    """

    box: tuple[int, int, int, int]
    fill: Callable[[], Footprint]


class Crowd:
    """The space taken by the objects of a world with periodic boundaries; objects can be added, moved and removed."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = np.array(size)
        self._boxes = np.zeros((64, 4), dtype=int)  # as in a claim; 0 rows mark an empty slot
        self._claims: list[Claim | None] = [None] * 64
        self._numbers = [0] * 64
        self._slots: dict[int, int] = {}
        self._free = list(range(63, -1, -1))

    def put(self, number: int, claim: Claim) -> None:
        """Add an object, or move it if it is already there."""
        if number not in self._slots:
            if not self._free:
                self._grow()
            self._slots[number] = self._free.pop()
        slot = self._slots[number]
        self._boxes[slot] = claim.box
        self._claims[slot] = claim
        self._numbers[slot] = number

    def remove(self, number: int) -> None:
        """Remove an object."""
        slot = self._slots.pop(number)
        self._boxes[slot] = 0
        self._claims[slot] = None
        self._free.append(slot)

    def overlaps(self, claim: Claim, *, without: Collection[int] = ()) -> dict[int, float]:
        """Return the overlaps with other objects, as fractions of the smaller object's full extent.

        Parameters
        ----------
        claim : Claim
        without : collection of int
            Objects to ignore, such as the object itself.

        Returns
        -------
        dict
            Number of each object that shares a pixel -> overlap, above 0.
        """
        # with periodic boundaries: distance from this box's start to the other's, and from the other's to this one's
        behind = np.mod(self._boxes[:, :2] - claim.box[:2], self._size)
        is_near = ((behind < claim.box[2:]) | (self._size - behind < self._boxes[:, 2:])).all(axis=1)
        is_near &= self._boxes[:, 2] > 0
        for number in without:
            is_near[self._slots[number]] = False
        found = {}
        for slot in np.flatnonzero(is_near).tolist():
            other = self._claims[slot]
            if other is not None and (overlap := self.overlap_of(claim.fill(), other.fill())):
                found[self._numbers[slot]] = overlap
        return found

    def overlap_of(self, one: Footprint, other: Footprint) -> float:
        """Return the overlap of two objects, as a fraction of the smaller object."""
        shared = count_shared(one, self._nearest(other, one))
        if not shared:
            return 0.0
        return shared / min(int(np.count_nonzero(one.mask_yx)), int(np.count_nonzero(other.mask_yx)))

    def _nearest(self, footprint: Footprint, other: Footprint) -> Footprint:
        """Return the periodic copy of a footprint that is nearest to the other object."""
        rows, columns = (
            size * round((target + target_length / 2 - first - length / 2) / size)
            for size, first, length, target, target_length in zip(
                self._size.tolist(),
                (footprint.row, footprint.column), footprint.mask_yx.shape,
                (other.row, other.column), other.mask_yx.shape,
                strict=True,
            )
        )  # fmt: skip
        return footprint.moved(rows, columns) if rows or columns else footprint

    def _grow(self) -> None:
        count = len(self._boxes)
        self._boxes = np.concatenate([self._boxes, np.zeros_like(self._boxes)])
        self._claims += [None] * count
        self._numbers += [0] * count
        self._free = list(range(2 * count - 1, count - 1, -1))


def count_shared(one: Footprint, other: Footprint) -> int:
    """Count the pixels that two objects share."""
    top, left = max(one.row, other.row), max(one.column, other.column)
    bottom = min(one.row + one.mask_yx.shape[0], other.row + other.mask_yx.shape[0])
    right = min(one.column + one.mask_yx.shape[1], other.column + other.mask_yx.shape[1])
    if top >= bottom or left >= right:
        return 0
    shared_yx = (
        one.mask_yx[top - one.row : bottom - one.row, left - one.column : right - one.column]
        & other.mask_yx[top - other.row : bottom - other.row, left - other.column : right - other.column]
    )
    return int(np.count_nonzero(shared_yx))
