"""Simulate one sequence: render a moving population frame by frame in stationary surroundings."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellmill.simulation.fading import light_in
from cellmill.simulation.growth import scale_at, trace_bodies, vertices_of
from cellmill.simulation.illumination import energy_of
from cellmill.simulation.imaging import photograph
from cellmill.simulation.individuals import Individual, Life
from cellmill.simulation.lineage import Lineage
from cellmill.simulation.motion import Moment, World, lay_out_world, move_population
from cellmill.simulation.optics import depth_to_sigma
from cellmill.simulation.organelles import OrganelleShape, fill_organelle, trace_organelles
from cellmill.simulation.population import Cell, label_visible
from cellmill.simulation.shapes import Footprint, fill_outline, stretching
from cellmill.simulation.staining import Light, stain_cells
from cellmill.simulation.streams import open_stream, open_streams
from cellmill.simulation.surroundings import Surroundings, draw_surroundings


@dataclass(frozen=True)
class SimulatedFrame:
    """A simulated frame with its ground truth.

    Attributes
    ----------
    frame : int
    counts : ndarray of uint8 or uint16, shape (rows, columns) or (stains, rows, columns)
        Camera counts.
    labels_yx : ndarray of int32, shape (rows, columns)
        Track of the visible cell at each pixel, 0 background; the cell born later is visible in an overlap.
    objects : list of dict
        Rows of objects.csv, one per cell that lies at least partly in the image.
    summary : dict
        The row of images.csv.
    """

    frame: int
    counts: np.ndarray
    labels_yx: np.ndarray
    objects: list[dict[str, Any]]
    summary: dict[str, Any]


def simulate_sequence(
    sequence: str,
    *,
    seed: int,
    simulate: Mapping[str, Any],
    frames: Collection[int] | None,
    lineage: Lineage | None = None,
) -> Iterator[SimulatedFrame]:
    """Simulate one sequence.

    Parameters
    ----------
    sequence : str
        Name of the sequence; every random draw depends only on it and the seed.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section with `time_lapse`.
    frames : collection of int, or None
        Frames to render; None for all. Skipping a frame saves time and does not affect the others.
    lineage : Lineage, or None
        Filled with the tracks of the whole sequence, including frames that are not rendered; complete when the
        iteration has ended.

    Yields
    ------
    SimulatedFrame
        In chronological order.
    """
    world = lay_out_world(simulate)
    lineage = Lineage(sequence) if lineage is None else lineage
    recorder: _Recorder | None = None
    for moment in move_population(sequence, seed=seed, simulate=simulate):
        if recorder is None:
            recorder = _Recorder(sequence, world, moment, seed=seed, simulate=simulate)
        seen = [one for one in moment.individuals if _reaches(one, world.shape)]
        order_yx = label_visible([one.cell for one in seen], shape=world.shape)
        areas = np.bincount(order_yx.ravel(), minlength=len(seen) + 1)[1:]
        visible = {one.number for one, area in zip(seen, areas, strict=True) if area}
        track_of = lineage.see(moment.frame, lives=[one.life for one in moment.individuals], visible=visible)
        if frames is None or moment.frame in frames:
            yield recorder.record(moment, seen, order_yx, track_of=track_of)


class _Recorder:
    """Microscope and camera of one sequence, with everything that is constant over its frames."""

    def __init__(self, sequence: str, world: World, first: Moment, *, seed: int, simulate: Mapping[str, Any]) -> None:
        self._sequence, self._world, self._seed, self._simulate = sequence, world, seed, simulate
        self._first = first.individuals
        self._deepest = max((abs(one.depth) for one in self._first), default=0.0)
        self._organelles: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._drawn: Surroundings | None = None

    def record(
        self, moment: Moment, seen: list[Individual], order_yx: np.ndarray, *, track_of: Mapping[int, int]
    ) -> SimulatedFrame:
        """Render one frame.

        Parameters
        ----------
        moment : Moment
        seen : list of Individual
            The cells that lie at least partly in the image, in the order of their numbers.
        order_yx : ndarray of int32, shape (rows, columns)
            Index in `seen`, from 1, of the cell that is visible at each pixel; 0 for background.
        track_of : mapping
            Number of a visible cell -> its track.
        """
        shape = self._world.shape
        cells = [self._furnish(one) for one in seen]
        lights = [light_in(one.life.fades, moment.frame) for one in seen]
        light = self._stain(cells, seen, lights=lights, shape=shape)
        sigmas_px = self._blur(seen)
        groups_yx, groups = _split_blur(cells, order_yx)
        counts, saturated = photograph(
            light,
            order_yx > 0,
            groups_yx,
            sigmas_px=sigmas_px[groups - 1],
            surroundings=self._surroundings,
            simulate=self._simulate,
            rng=open_stream(self._sequence, "camera", seed=self._seed, part=(moment.frame,)),
        )
        tracks = np.array([0, *(track_of.get(one.number, 0) for one in seen)], dtype=np.int32)
        visible = np.bincount(order_yx.ravel(), minlength=len(seen) + 1)[1:]
        objects = [
            {
                "sequence": self._sequence,
                "frame": moment.frame,
                "track": int(track),
                **_describe(one, cell, shape=shape),
                "visible_area_px": int(area),
                "brightness": brightness,
                "sigma_px": float(sigma_px),
                "light": shown,
            }
            for one, cell, track, area, brightness, sigma_px, shown in zip(
                seen, cells, tracks[1:], visible, light.brightness, sigmas_px, lights, strict=True
            )
        ]
        summary = {
            "sequence": self._sequence,
            "frame": moment.frame,
            "cells": len(track_of),
            "cells_of_world": len(moment.individuals),
            "failed": moment.failed,
            "held": moment.held,
            "put_off": moment.put_off,
            "squeezed": moment.squeezed,
            "foreground_fraction": np.count_nonzero(order_yx) / order_yx.size,
            "has_background_noise": self._surroundings.blotches_yx is not None,
            "saturated_fraction": saturated,
        }
        return SimulatedFrame(moment.frame, counts, tracks[order_yx], objects, summary)

    @property
    def _surroundings(self) -> Surroundings:
        if self._drawn is None:
            self._drawn = draw_surroundings(
                self._world.shape,
                energy=self._reference_energy(),
                simulate=self._simulate,
                rngs=open_streams(self._sequence, seed=self._seed),
            )
        return self._drawn

    def _reference_energy(self) -> float:
        """Compute the energy to which the background is scaled: that of the first frame's cells per image area.

        All cells of the world count, without fading. With only the cells in the image, the stationary background would
        depend on their positions.
        """
        margin, (rows, columns) = self._world.margin_px, self._world.size
        # cells at the border of the world extend beyond it
        cells = [_moved(self._furnish(one), 2 * margin) for one in self._first]
        lights = [1.0] * len(cells)
        light = self._stain(cells, self._first, lights=lights, shape=(rows + 2 * margin, columns + 2 * margin))
        return energy_of(light.cells_yx) / self._world.share

    def _stain(
        self, cells: list[Cell], individuals: list[Individual], *, lights: list[float], shape: tuple[int, int]
    ) -> Light:
        def stream_of(index: int, purpose: str) -> np.random.Generator:
            # ASSUME daughters look like their mother: brightness and texture do not change when a cell divides.
            founder = individuals[index].life.founder
            return open_stream(self._sequence, purpose, seed=self._seed, part=(founder,))

        return stain_cells(cells, lights=lights, shape=shape, simulate=self._simulate, stream_of=stream_of)

    def _blur(self, individuals: list[Individual]) -> np.ndarray:
        """Compute the blur of each cell, px."""
        focus = self._simulate["focus"]
        depths = np.array([abs(one.depth) for one in individuals])
        if focus["scaling"] == "deepest":
            # scale by the deepest cell of the first frame, so that the blur does not change when a cell enters
            depths = np.append(np.minimum(depths, self._deepest), self._deepest)
        sigmas_px = depth_to_sigma(depths, sigma_px=focus["sigma_px"], scaling=focus["scaling"])
        return sigmas_px[: len(individuals)]

    def _furnish(self, one: Individual) -> Cell:
        """Return a cell with its nucleus and organelles, which move and stretch with the cell."""
        organelles: tuple[Footprint, ...] = ()
        if self._simulate["organelles"]["count"][1] > 0:
            if one.number not in self._organelles:
                self._organelles[one.number] = self._draw_organelles(one.life)
            places, outlines_px = self._organelles[one.number]
            scale = scale_at(one.phase)
            places = scale * places @ stretching(one.stretch / one.life.stretch, axis=one.life.axis) + one.place
            organelles = tuple(fill_organelle(scale * o, place) for o, place in zip(outlines_px, places, strict=True))
        return Cell(
            row=float(one.place[0]), column=float(one.place[1]), radius_px=one.radius_px, cluster=0,
            cell=one.cell, nucleus=one.nucleus, organelles=organelles,
        )  # fmt: skip

    def _draw_organelles(self, life: Life) -> tuple[np.ndarray, np.ndarray]:
        """Draw positions and outlines of organelles in the newborn cell, around its centre."""
        cell, section = self._simulate["cell"], self._simulate["organelles"]
        vertices = vertices_of(
            life.birth_latent[None], radial_jitter=cell["radial_jitter"], angular_jitter=cell["angular_jitter"]
        )
        largest_px = cell["radius_px"][1]
        [outline_px] = trace_bodies(
            vertices,
            radii_px=np.array([life.radius_px]),
            stretches=np.array([life.stretch]),
            axes=np.array([life.axis]),
            largest_px=largest_px,
        )
        [traced] = trace_organelles(
            [fill_outline(outline_px)],
            count=section["count"],
            cell_radii_px=[life.radius_px],
            largest_px=largest_px,
            shape=OrganelleShape(section["radius_fraction"], section["radial_jitter"], section["angular_jitter"]),
            rng=open_stream(self._sequence, "organelle", seed=self._seed, part=(life.number,)),
        )
        return traced


def _reaches(one: Individual, shape: tuple[int, int]) -> bool:
    row, column, rows, columns = one.box
    is_near = row < shape[0] and column < shape[1] and row + rows > 0 and column + columns > 0
    return is_near and bool(one.cell.clipped(shape)[1].any())


def _split_blur(cells: list[Cell], order_yx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Assign each pixel to the cell whose blur applies: the visible cell, or the cell whose organelle extends there.

    Returns
    -------
    groups_yx : ndarray of int, shape (rows, columns)
        0 for none, then 1, 2, ... without a gap.
    cells : ndarray of int, shape (groups,)
        Index in the list of each group's cell, from 1.
    """
    cells_yx = order_yx.copy()
    for number, cell in enumerate(cells, start=1):
        for organelle in cell.organelles:
            window, mask_yx = organelle.clipped(order_yx.shape)
            cells_yx[window][mask_yx & (cells_yx[window] == 0)] = number
    found = np.flatnonzero(np.bincount(cells_yx.ravel(), minlength=len(cells) + 1))
    found = found[found > 0]
    group_of = np.zeros(len(cells) + 1, dtype=np.int32)
    group_of[found] = np.arange(1, len(found) + 1)
    return group_of[cells_yx], found


def _moved(cell: Cell, pixels: int) -> Cell:
    return Cell(
        row=cell.row + pixels, column=cell.column + pixels, radius_px=cell.radius_px, cluster=cell.cluster,
        cell=cell.cell.moved(pixels, pixels), nucleus=cell.nucleus.moved(pixels, pixels),
        organelles=tuple(organelle.moved(pixels, pixels) for organelle in cell.organelles),
    )  # fmt: skip


def _describe(one: Individual, cell: Cell, *, shape: tuple[int, int]) -> dict[str, Any]:
    rows, columns = (np.flatnonzero(cell.cell.mask_yx.any(axis=axis)) for axis in (1, 0))
    return {
        "cell": one.number,
        "parent_cell": one.life.parent,
        "row": cell.row,
        "column": cell.column,
        "radius_px": cell.radius_px,
        "area_px": int(np.count_nonzero(cell.cell.clipped(shape)[1])),
        "full_area_px": int(np.count_nonzero(cell.cell.mask_yx)),
        "first_row": cell.cell.row + int(rows[0]),
        "last_row": cell.cell.row + int(rows[-1]),
        "first_column": cell.cell.column + int(columns[0]),
        "last_column": cell.cell.column + int(columns[-1]),
        "nucleus_area_px": int(np.count_nonzero(cell.nucleus.clipped(shape)[1])),
        "organelles": len(cell.organelles),
        "depth": abs(one.depth),
        "is_resting": one.is_resting,
    }
