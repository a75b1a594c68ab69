"""Simulate a population over time, before rendering: cells move, deform, grow, divide and push each other aside.

The world is larger than the image and has periodic boundaries outside the image, so cells enter and leave the image
through the image borders. Each cell has separate random streams, opened at its birth and used frame by frame, so that
a frame does not depend on the number of later frames.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellmill.simulation.crowding import Claim, Crowd, contact_of, push_apart
from cellmill.simulation.growth import scale_at
from cellmill.simulation.individuals import (
    Individual,
    Streams,
    draw_daughter,
    draw_founder,
    draw_next,
    shape_individuals,
)
from cellmill.simulation.population import Body, place_cells
from cellmill.simulation.shapes import Footprint
from cellmill.simulation.streams import open_stream

# Options for the next frame, best first: fraction of the move, and whether outline and area are updated.
WAYS = ((1.0, True), (0.5, True), (0.0, True), (1.0, False), (0.5, False))
# Distance between two daughters, in units of twice their radius
DISTANCES = (1.0, 1.15, 1.3)
# Where overlap is allowed there is always space, so divisions stop when cells cover this fraction of the world.
FULLEST_COVER = 1.0


@dataclass(frozen=True)
class World:
    """The simulated area: the image, whose first pixel is (0, 0), and a margin on each side.

    Attributes
    ----------
    shape : (rows, columns)
        Image in px.
    margin_px : int
        Larger than the distance from the centre of any cell to its outline.
    """

    shape: tuple[int, int]
    margin_px: int

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns including the margins."""
        return self.shape[0] + 2 * self.margin_px, self.shape[1] + 2 * self.margin_px

    @property
    def share(self) -> float:
        """Area relative to the area of the image."""
        return self.size[0] * self.size[1] / (self.shape[0] * self.shape[1])

    def wrap(self, place: np.ndarray) -> np.ndarray:
        """Return the periodic copy of a place that lies in the world."""
        first = -self.margin_px - 0.5
        inside: np.ndarray = np.mod(place - first, self.size) + first
        return inside


@dataclass(frozen=True)
class Moment:
    """All cells of the world in one frame.

    Attributes
    ----------
    frame : int
    individuals : list of Individual
        In the order of their numbers.
    failed : int
        Cells that could not be placed in the first frame; 0 in later frames.
    held : int
        Cells that neither moved nor changed shape, for lack of space.
    put_off : int
        Divisions that were postponed for lack of space.
    squeezed : int
        Cells that overlap another cell by more than the limit.
    """

    frame: int
    individuals: list[Individual]
    failed: int
    held: int
    put_off: int
    squeezed: int


def lay_out_world(simulate: Mapping[str, Any]) -> World:
    """Compute the world of a sequence; the margin is two diameters of the largest cell plus three steps.

    Parameters
    ----------
    simulate : mapping
        The config section.
    """
    rows, columns = simulate["size"]
    lapse = simulate["time_lapse"]
    largest = scale_at(1.0 if lapse["cycle_frames"][1] else None) * math.sqrt(simulate["cell"]["elongation"][1])
    diameter_px = 2 * simulate["cell"]["radius_px"][1] * largest
    # Limit the step to a cell diameter: a wider margin would only add cells that are never visible.
    margin_px = math.ceil(2 * diameter_px + 3 * min(lapse["speed_px"], diameter_px))
    return World((int(rows), int(columns)), margin_px)


def move_population(sequence: str, *, seed: int, simulate: Mapping[str, Any]) -> Iterator[Moment]:
    """Simulate the cells of a sequence frame by frame.

    Parameters
    ----------
    sequence : str
        Name of the sequence; every random draw depends only on it and the seed.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section with `time_lapse`; settings of light, lens and camera are not read.

    Yields
    ------
    Moment
        For frames 0, 1, ... The number of frames affects only the frames in which cells rest.

    Notes
    -----
    Each step of the random walk is the previous step times the persistence plus normal noise, so that the steps of a
    cell are stationary. With speed v along each axis, persistence p and no obstacles, the mean square displacement
    after n frames is 2 v**2 (n (1 + p) / (1 - p) - 2 p (1 - p**n) / (1 - p)**2).

    Cells are updated one after another, in the order of their numbers. If an update would exceed the overlap limit,
    the cell takes a shorter step, keeps its outline, or does not change at all. Only overlaps in the first frame
    (overlap.no_place: place) can therefore exceed the limit, and they never grow.
    """
    population = _Population(sequence, seed=seed, simulate=simulate)
    yield population.moment
    for frame in range(1, int(simulate["time_lapse"]["frames"])):
        population.go_on(frame)
        yield population.moment


class _Population:
    """The cells of one sequence, their random streams and the space they take."""

    def __init__(self, sequence: str, *, seed: int, simulate: Mapping[str, Any]) -> None:
        self._sequence, self._seed, self._simulate = sequence, seed, simulate
        self._lapse = simulate["time_lapse"]
        self._world = lay_out_world(simulate)
        self._limit = float(simulate["overlap"]["limit"])
        self._contact = contact_of(self._limit)
        self._judges_nuclei = simulate["overlap"]["of"] == "nucleus"
        self._crowd = Crowd(self._world.size)
        self._streams: dict[int, Streams] = {}
        self._next_number = 1
        self.moment = self._place_founders()

    # ---- the first frame -------------------------------------------------------------------------------------

    def _place_founders(self) -> Moment:
        simulate, world = self._simulate, self._world
        rng = open_stream(self._sequence, "population", seed=self._seed)
        fewest, most = simulate["cells"]
        count = round(int(rng.integers(fewest, most + 1)) * world.share)
        founders = [
            draw_founder(number, sequence=self._sequence, seed=self._seed, simulate=simulate)
            for number in range(1, count + 1)
        ]
        self._next_number = count + 1
        bodies = [
            Body(float(one.place[0]), float(one.place[1]), one.radius_px, one.cell, one.nucleus) for one, _ in founders
        ]
        clusters = simulate["clusters"]
        placed = place_cells(
            bodies,
            shape=world.size,
            clusters=round(clusters["count"] * world.share),
            cluster_probability=clusters["probability"],
            cluster_spread=clusters["spread"] * min(world.shape) / min(world.size),
            overlap_limit=self._limit,
            overlap_of=simulate["overlap"]["of"],
            attempts=simulate["overlap"]["attempts"],
            no_place=simulate["overlap"]["no_place"],
            rng=rng,
        )
        founder_of = {id(one.cell.mask_yx): (one, streams) for one, streams in founders}
        individuals = []
        for cell in placed.cells:
            one, streams = founder_of[id(cell.cell.mask_yx)]
            one = replace(one, place=np.array([cell.row, cell.column]) - world.margin_px)
            # place_cells does not check overlaps across the periodic boundary. Drop these cells: the boundary is
            # outside the image, where a few missing cells do no harm.
            if simulate["overlap"]["no_place"] != "place" and self._excess(one, without=()):
                continue
            self._enter(one, streams)
            individuals.append(one)
        return Moment(0, individuals, placed.failed, 0, 0, self._count_squeezed(individuals))

    def _enter(self, one: Individual, streams: Streams) -> None:
        self._streams[one.number] = streams
        self._crowd.put(one.number, self._claim(one))

    # ---- the next frame --------------------------------------------------------------------------------------

    def go_on(self, frame: int) -> None:
        """Advance to the next frame."""
        before = self.moment.individuals
        drawn = [draw_next(one, self._streams[one.number], frame=frame, lapse=self._lapse) for one in before]
        still = [one.life.stands_still(frame) for one in before]
        shaped = iter(
            shape_individuals(
                [one for one, stays in zip(drawn, still, strict=True) if not stays], simulate=self._simulate
            )
        )
        wanted = [one if stays else next(shaped) for one, stays in zip(drawn, still, strict=True)]
        moves = self._moves(before, wanted, is_fixed=np.array(still, dtype=bool))
        after: list[Individual] = []
        born: list[Individual] = []
        held = put_off = 0
        covered_px = sum(one.nominal_area_px for one in before)
        for one, next_one, move, stays in zip(before, wanted, moves, still, strict=True):
            if stays:
                after.append(next_one)
                continue
            if one.is_due and not next_one.is_resting:
                is_full = covered_px + one.nominal_area_px > FULLEST_COVER * math.prod(self._world.size)
                daughters = [] if is_full else self._divide(one, one.place + move, frame=frame)
                if daughters:
                    born += daughters
                    covered_px += one.nominal_area_px
                    continue
                put_off += 1
            settled = self._settle(one, next_one, move)
            held += settled is None
            after.append(
                settled or one.unmoved(step=next_one.step, depth=next_one.depth, is_resting=next_one.is_resting)
            )
        individuals = [*after, *born]
        # Without a cell beyond the overlap limit in the previous frame, there is none in this frame.
        squeezed = self._count_squeezed(individuals) if self.moment.squeezed else 0
        self.moment = Moment(frame, individuals, 0, held, put_off, squeezed)

    def _moves(self, before: list[Individual], wanted: list[Individual], *, is_fixed: np.ndarray) -> np.ndarray:
        """Compute the displacement of each cell including pushes by other cells, shape (cells, 2)."""
        places = np.array([one.place for one in before]).reshape(-1, 2)
        steps = np.array([one.step for one in wanted]).reshape(-1, 2) * ~is_fixed[:, None]
        radii_px = [
            (one.life.nucleus_radius_px if self._judges_nuclei else one.life.radius_px)
            # a cell that is about to divide needs space for its length
            * scale_at(one.phase) * one.stretch
            for one in wanted
        ]  # fmt: skip
        targets = push_apart(
            places + steps, radii_px=np.array(radii_px), is_fixed=is_fixed, contact=self._contact, size=self._world.size
        )
        return targets - places

    def _settle(self, one: Individual, wanted: Individual, move: np.ndarray) -> Individual | None:
        """Update a cell by the best option that there is space for; return None if there is no space for any."""
        present: dict[int, float] | None = None
        as_before = replace(
            wanted,
            latent=one.latent,
            age=one.age,
            outline_px=one.outline_px,
            nucleus_outline_px=one.nucleus_outline_px,
            bounds_px=one.bounds_px,
        )
        for part, is_new in WAYS:
            settled = self._put(wanted if is_new else as_before, one.place + part * move)
            if excess := self._excess(settled, without=(one.number,)):
                present = self._excess(one, without=(one.number,)) if present is None else present
                if any(overlap > present.get(number, 0.0) for number, overlap in excess.items()):
                    continue
            self._crowd.put(one.number, self._claim(settled))
            return settled
        return None

    def _divide(self, mother: Individual, place: np.ndarray, *, frame: int) -> list[Individual]:
        """Return two daughters, or an empty list if there is no space."""
        drawn = [
            draw_daughter(
                number, birth=frame, mother=mother, sequence=self._sequence, seed=self._seed, simulate=self._simulate
            )
            for number in (self._next_number, self._next_number + 1)
        ]
        along = np.array([math.sin(mother.life.axis), math.cos(mother.life.axis)])
        for distance in DISTANCES:
            away = distance * drawn[0][0].radius_px * along
            pair = [self._put(one, place + side * away) for (one, _), side in zip(drawn, (1, -1), strict=True)]
            if self._fits(pair, mother=mother.number):
                self._crowd.remove(mother.number)
                del self._streams[mother.number]
                for daughter, (_, streams) in zip(pair, drawn, strict=True):
                    self._enter(daughter, streams)
                self._next_number += 2
                return pair
        return []

    # ---- space -----------------------------------------------------------------------------------------------

    def _put(self, one: Individual, place: np.ndarray) -> Individual:
        return replace(one, place=self._world.wrap(place))

    def _claim(self, one: Individual) -> Claim:
        return Claim(one.box, lambda: self._judged(one))

    def _judged(self, one: Individual) -> Footprint:
        return one.nucleus if self._judges_nuclei else one.cell

    def _excess(self, one: Individual, *, without: tuple[int, ...]) -> dict[int, float]:
        """Return the overlaps beyond the limit, by the number of the other cell."""
        if self._limit >= 1:
            return {}
        overlaps = self._crowd.overlaps(self._claim(one), without=without)
        return {number: overlap for number, overlap in overlaps.items() if overlap > self._limit}

    def _fits(self, pair: list[Individual], *, mother: int) -> bool:
        if any(self._excess(daughter, without=(mother,)) for daughter in pair):
            return False
        return self._limit >= 1 or self._crowd.overlap_of(*map(self._judged, pair)) <= self._limit

    def _count_squeezed(self, individuals: list[Individual]) -> int:
        return sum(bool(self._excess(one, without=(one.number,))) for one in individuals)
