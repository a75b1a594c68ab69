"""One cell over time: its fixed properties, its state in a frame, and its random streams."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cellmill.simulation.fading import Fade, draw_fades
from cellmill.simulation.growth import deform, draw_latent, scale_at, stretch_at, trace_bodies, vertices_of
from cellmill.simulation.optics import DEPTH_SD
from cellmill.simulation.shapes import Footprint, draw_vertices, fill_outline
from cellmill.simulation.streams import open_stream

# Correlation of a cell's depth between consecutive frames. ASSUME focus drifts over about fifty frames.
DEPTH_PERSISTENCE = 0.98
NOWHERE = Footprint(0, 0, np.zeros((1, 1), dtype=bool))


class Streams(NamedTuple):
    """The random streams that a cell uses in every frame: for its steps, outline and depth."""

    steps: np.random.Generator
    shapes: np.random.Generator
    depths: np.random.Generator


@dataclass(frozen=True)
class Life:
    """The properties of a cell that are fixed at birth.

    Attributes
    ----------
    number : int
        From 1, in the order of birth.
    parent : int
        Number of the mother, 0 for the cells of the first frame.
    founder : int
        Number of the ancestor in the first frame.
    birth : int
        First frame.
    radius_px : float
        Radius at mid-cycle of the circle that is deformed to the outline.
    birth_latent : ndarray of shape (4, 10)
        Latent variables of the outline at birth, as in `growth.vertices_of`.
    nucleus_radius_px : float
        Radius at mid-cycle; 0 without nucleus.
    nucleus_vertices : ndarray of shape (10, 2)
    cycle_frames : int
        Frames from birth to division; 0 for a cell that neither grows nor divides.
    axis : float
        Direction of elongation and division, rad, as in `shapes.stretching`.
    stretch : float
        Stretch along the axis before the elongation that precedes division.
    rest : (first, end)
        Frames in which the cell is stationary, without `end`; equal for none. A cell born during its rest is
        stationary for the remaining frames.
    fades : tuple of Fade
        Frames in which the cell is faint.
    """

    number: int
    parent: int
    founder: int
    birth: int
    radius_px: float
    birth_latent: np.ndarray
    nucleus_radius_px: float
    nucleus_vertices: np.ndarray
    cycle_frames: int
    axis: float
    stretch: float
    rest: tuple[int, int]
    fades: tuple[Fade, ...]

    def rests(self, frame: int) -> bool:
        """Return whether the cell is at rest in a frame."""
        return self.rest[0] <= frame < self.rest[1]

    def stands_still(self, frame: int) -> bool:
        """Return whether the cell is unchanged since the previous frame: from the second frame of its rest on."""
        return self.rest[0] < frame < self.rest[1]


@dataclass(frozen=True)
class Individual:
    """A cell in one frame.

    Attributes
    ----------
    life : Life
    place : ndarray of shape (2,)
        Row and column of the centre in image coordinates, sub-pixel; outside the image if it is in the margin.
    step : ndarray of shape (2,)
        Step of the random walk to this place, without displacement by other cells.
    latent : ndarray of shape (4, 10)
        Latent variables of the outline.
    age : float
        Frames of growth since birth; frames at rest or without space to grow do not count.
    depth : float
        Signed distance from the focal plane.
    outline_px, nucleus_outline_px : ndarray of shape (points, 2)
        Relative to the centre; None without nucleus.
    bounds_px : ndarray of shape (2, 2)
        Smallest and largest row and column of the outline.
    is_resting : bool
    """

    life: Life
    place: np.ndarray
    step: np.ndarray
    latent: np.ndarray
    age: float
    depth: float
    outline_px: np.ndarray
    nucleus_outline_px: np.ndarray | None
    bounds_px: np.ndarray
    is_resting: bool

    @property
    def number(self) -> int:
        """Number of the cell."""
        return self.life.number

    @property
    def phase(self) -> float | None:
        """Completed fraction of the cycle; None for a cell that does not grow."""
        return min(self.age / self.life.cycle_frames, 1.0) if self.life.cycle_frames else None

    @property
    def stretch(self) -> float:
        """Length along the axis relative to a round cell of the same area; the width is the inverse."""
        return self.life.stretch * stretch_at(self.phase)

    @property
    def radius_px(self) -> float:
        """Radius of the circle that is deformed to the outline."""
        return self.life.radius_px * scale_at(self.phase)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Bounding box in image coordinates: first row, first column, rows, columns."""
        row, column = np.floor(self.place + self.bounds_px[0]).astype(int).tolist()
        last_row, last_column = np.ceil(self.place + self.bounds_px[1]).astype(int).tolist()
        return row, column, last_row - row + 1, last_column - column + 1

    @cached_property
    def cell(self) -> Footprint:
        """Full extent of the cell, in image coordinates."""
        return fill_outline(self.outline_px + self.place)

    @cached_property
    def nucleus(self) -> Footprint:
        """Full extent of the nucleus; an empty mask without nucleus."""
        if self.nucleus_outline_px is None:
            return NOWHERE
        return fill_outline(self.nucleus_outline_px + self.place).within(self.cell)

    @property
    def nominal_area_px(self) -> float:
        """Area at mid-cycle of the undeformed circle."""
        return math.pi * self.life.radius_px**2

    @property
    def is_due(self) -> bool:
        """Whether the cell is due to divide in the next frame."""
        # the cells of the first frame have fractional ages
        return self.life.cycle_frames > 0 and self.age + 1 >= self.life.cycle_frames - 1e-9

    def unmoved(self, *, step: np.ndarray, depth: float, is_resting: bool) -> "Individual":
        """Return the cell unmoved in the next frame, keeping masks that are already computed."""
        later = replace(self, step=step, depth=depth, is_resting=is_resting)
        later.__dict__.update({name: self.__dict__[name] for name in ("cell", "nucleus") if name in self.__dict__})
        return later


def draw_founder(number: int, *, sequence: str, seed: int, simulate: Mapping[str, Any]) -> tuple[Individual, Streams]:
    """Draw a cell of the first frame, centred within pixel (0, 0), and open its streams.

    Parameters
    ----------
    number : int
        Number of the cell.
    sequence : str
        Name of the sequence.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section; `cell`, `nucleus` and `time_lapse` are read.
    """
    drawn, streams = _draw(number, birth=0, mother=None, sequence=sequence, seed=seed, simulate=simulate)
    return shape_individuals([drawn], simulate=simulate)[0], streams


def draw_daughter(
    number: int, *, birth: int, mother: Individual, sequence: str, seed: int, simulate: Mapping[str, Any]
) -> tuple[Individual, Streams]:
    """Draw a daughter cell at the position and depth of its mother, with half of her area, and open its streams.

    Parameters
    ----------
    number, sequence, seed, simulate
        As in `draw_founder`.
    birth : int
        First frame of the daughter.
    mother : Individual
    """
    drawn, streams = _draw(number, birth=birth, mother=mother, sequence=sequence, seed=seed, simulate=simulate)
    drawn = replace(drawn, place=mother.place, age=0.0, depth=mother.depth)
    return shape_individuals([drawn], simulate=simulate)[0], streams


def draw_next(one: Individual, streams: Streams, *, frame: int, lapse: Mapping[str, Any]) -> Individual:
    """Draw the next step, latent variables, age and depth of a cell, without updating its place and outline.

    Parameters
    ----------
    one : Individual
        The cell in the previous frame.
    streams : Streams
        The same number of values is drawn from them in every frame.
    frame : int
        Number of the next frame.
    lapse : mapping
        The config section `time_lapse`.
    """
    step = streams.steps.standard_normal(2)
    noise = draw_latent(streams.shapes)
    drift = float(streams.depths.standard_normal())
    if one.life.stands_still(frame):
        return one.unmoved(step=one.step, depth=one.depth, is_resting=True)
    persistence = lapse["persistence"]
    return replace(
        one,
        step=persistence * one.step + math.sqrt(1 - persistence**2) * lapse["speed_px"] * step,
        latent=deform(one.latent, noise, share=lapse["deformation"]),
        age=min(one.age + 1, one.life.cycle_frames),
        depth=DEPTH_PERSISTENCE * one.depth + math.sqrt(1 - DEPTH_PERSISTENCE**2) * DEPTH_SD * drift,
        is_resting=one.life.rests(frame),
    )


def largest_reach(simulate: Mapping[str, Any]) -> float:
    """Return the largest extent of a cell from its centre relative to its mid-cycle radius, without jitter."""
    is_growing = simulate["time_lapse"]["cycle_frames"][1] > 0
    reach = scale_at(1.0) * stretch_at(1.0) if is_growing else 1.0
    return reach * math.sqrt(simulate["cell"]["elongation"][1])


def shape_individuals(individuals: Sequence[Individual], *, simulate: Mapping[str, Any]) -> list[Individual]:
    """Trace the outlines of cells and nuclei from their latent variables and ages."""
    if not individuals:
        return []
    cell, nucleus = simulate["cell"], simulate["nucleus"]
    phases = [one.phase for one in individuals]
    scales = np.array([scale_at(phase) for phase in phases])
    stretches = np.array([one.stretch for one in individuals])
    axes = np.array([one.life.axis for one in individuals])
    most = largest_reach(simulate)
    vertices = vertices_of(
        np.array([one.latent for one in individuals]),
        radial_jitter=cell["radial_jitter"], angular_jitter=cell["angular_jitter"],
    )  # fmt: skip
    outlines_px = trace_bodies(
        vertices, radii_px=scales * [one.life.radius_px for one in individuals],
        stretches=stretches, axes=axes, largest_px=most * cell["radius_px"][1],
    )  # fmt: skip
    nuclei_px: list[np.ndarray | None] = [None] * len(individuals)
    if nucleus["include"]:
        nuclei_px = list(
            trace_bodies(
                np.array([one.life.nucleus_vertices for one in individuals]),
                radii_px=scales * [one.life.nucleus_radius_px for one in individuals],
                stretches=stretches, axes=axes, largest_px=most * nucleus["radius_px"][1],
            )
        )  # fmt: skip
    bounds_px = np.stack([outlines_px.min(axis=1), outlines_px.max(axis=1)], axis=1)
    return [
        replace(one, outline_px=outline_px, nucleus_outline_px=nucleus_px, bounds_px=bounds)
        for one, outline_px, nucleus_px, bounds in zip(individuals, outlines_px, nuclei_px, bounds_px, strict=True)
    ]


def _draw(
    number: int, *, birth: int, mother: Individual | None, sequence: str, seed: int, simulate: Mapping[str, Any]
) -> tuple[Individual, Streams]:
    """Draw all properties of a cell at its birth, without tracing outlines."""
    cell, nucleus, lapse = simulate["cell"], simulate["nucleus"], simulate["time_lapse"]
    steps, shapes, depths, nuclei = (
        open_stream(sequence, purpose, seed=seed, part=(number,)) for purpose in ("motion", "shape", "focus", "nucleus")
    )
    step = lapse["speed_px"] * steps.standard_normal(2)
    shortest, longest = lapse["cycle_frames"]
    cycle_frames = int(steps.integers(shortest, longest + 1))
    phase, turn, rests, begins = steps.random(4).tolist()
    resting_frames = round(lapse["resting_frames"] * lapse["frames"]) if rests < lapse["resting"] else 0
    first = int(begins * (lapse["frames"] - resting_frames + 1))
    elongation = float(open_stream(sequence, "elongation", seed=seed, part=(number,)).uniform(*cell["elongation"]))
    radius_px, place = float(shapes.uniform(*cell["radius_px"])), shapes.uniform(-0.5, 0.5, size=2)
    nucleus_radius_px = float(nuclei.uniform(*nucleus["radius_px"])) if nucleus["include"] else 0.0
    [nucleus_vertices] = draw_vertices(
        radial_jitter=nucleus["radial_jitter"], angular_jitter=nucleus["angular_jitter"], rng=nuclei
    )
    life = Life(
        number=number,
        parent=mother.number if mother else 0,
        founder=mother.life.founder if mother else number,
        birth=birth,
        # mother and daughter have the same size at mid-cycle
        radius_px=mother.life.radius_px if mother else radius_px,
        birth_latent=draw_latent(shapes),
        nucleus_radius_px=mother.life.nucleus_radius_px if mother else nucleus_radius_px,
        nucleus_vertices=nucleus_vertices,
        cycle_frames=cycle_frames,
        axis=math.pi * turn,
        stretch=math.sqrt(elongation),
        rest=(first, first + resting_frames),
        fades=draw_fades(
            lapse["fading"],
            birth=birth,
            frames=lapse["frames"],
            is_founder=mother is None,
            rng=open_stream(sequence, "fading", seed=seed, part=(number,)),
        ),
    )
    drawn = Individual(
        life=life,
        place=place,
        step=step,
        latent=life.birth_latent,
        age=phase * cycle_frames,
        depth=DEPTH_SD * float(depths.standard_normal()),
        outline_px=np.zeros((0, 2)),
        nucleus_outline_px=None,
        bounds_px=np.zeros((2, 2)),
        is_resting=life.rests(birth),
    )
    return drawn, Streams(steps, shapes, depths)
