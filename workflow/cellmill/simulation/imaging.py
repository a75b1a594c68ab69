"""Simulate one image: draw, place and stain cells, then pass their light through the lens to the camera."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cellmill.simulation.detector import expose, pack_stains
from cellmill.simulation.illumination import energy_of
from cellmill.simulation.optics import depth_to_sigma, draw_depths, group_of, label_groups, scatter
from cellmill.simulation.organelles import OrganelleShape, draw_organelles
from cellmill.simulation.population import Body, Population, count_cover, label_visible, place_cells
from cellmill.simulation.shapes import VERTICES, Footprint, draw_vertices, fill_outline, stretching, trace_outlines
from cellmill.simulation.staining import Light, stain_cells
from cellmill.simulation.streams import open_streams
from cellmill.simulation.surroundings import Surroundings, draw_surroundings


@dataclass(frozen=True)
class SimulatedImage:
    """A simulated image with its ground truth.

    Attributes
    ----------
    counts : ndarray of uint8 or uint16, shape (rows, columns) or (stains, rows, columns)
        Camera counts.
    labels_yx : ndarray of int32, shape (rows, columns)
        Number of the visible cell at each pixel, 0 background; the later of overlapping cells is visible.
    population : Population
        The cells in the order of their numbers, which start at 1.
    objects : list of dict
        Rows of objects.csv, one per cell.
    summary : dict
        The row of images.csv.
    """

    counts: np.ndarray
    labels_yx: np.ndarray
    population: Population
    objects: list[dict[str, Any]]
    summary: dict[str, Any]


def simulate_image(sample: str, *, seed: int, simulate: Mapping[str, Any]) -> SimulatedImage:
    """Simulate one image.

    Parameters
    ----------
    sample : str
        Name of the image; every random draw depends only on it and the seed.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section.

    Returns
    -------
    SimulatedImage
    """
    rows, columns = simulate["size"]
    shape = (int(rows), int(columns))
    rngs = open_streams(sample, seed=seed)
    population = _populate(shape, simulate=simulate, rngs=rngs)
    cells = population.cells
    light = stain_cells(
        cells, lights=[1.0] * len(cells), shape=shape, simulate=simulate, stream_of=lambda _, purpose: rngs[purpose]
    )
    surroundings = draw_surroundings(shape, energy=energy_of(light.cells_yx), simulate=simulate, rngs=rngs)

    count_yx = count_cover([cell.cell for cell in cells], shape=shape)
    # SOURCE SIMCEP: touching objects share one depth, including organelles that extend beyond their cell.
    organelles = [organelle for cell in cells for organelle in cell.organelles]
    groups_yx, groups = label_groups(count_yx + count_cover(organelles, shape=shape) if organelles else count_yx)
    depths = draw_depths(groups, rng=rngs["focus"])
    focus = simulate["focus"]
    sigmas_px = depth_to_sigma(depths, sigma_px=focus["sigma_px"], scaling=focus["scaling"])
    counts, saturated = photograph(
        light,
        count_yx > 0,
        groups_yx,
        sigmas_px=sigmas_px,
        surroundings=surroundings,
        simulate=simulate,
        rng=rngs["camera"],
    )

    labels_yx = label_visible([cell.cell for cell in cells], shape=shape)
    depth_of = {
        number: (group, depths[group - 1], sigmas_px[group - 1])
        for number, group in enumerate((group_of(cell.cell, groups_yx) for cell in cells), start=1)
    }
    objects = [
        {"sample": sample, **row, **dict(zip(("group", "depth", "sigma_px"), depth_of[row["object"]], strict=True))}
        for row in describe_cells(population, labels_yx, brightness=light.brightness)
    ]
    summary = {
        "sample": sample,
        "cells": len(cells),
        "failed": population.failed,
        "groups": groups,
        "foreground_fraction": np.count_nonzero(count_yx) / count_yx.size,
        "has_background_noise": surroundings.blotches_yx is not None,
        "saturated_fraction": saturated,
    }
    return SimulatedImage(counts, labels_yx, population, objects, summary)


def photograph(
    light: Light,
    is_cell_yx: np.ndarray,
    groups_yx: np.ndarray,
    *,
    sigmas_px: np.ndarray,
    surroundings: Surroundings,
    simulate: Mapping[str, Any],
    rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
    """Blur the light of cells, add the surroundings, and record the result with the camera.

    Parameters
    ----------
    light : Light
        Before the lens.
    is_cell_yx : ndarray of bool, shape (rows, columns)
        Ground truth: True where a cell is.
    groups_yx : ndarray of int, shape (rows, columns)
        Blur group of each pixel, 0 for none; every pixel with light belongs to a group.
    sigmas_px : ndarray of shape (groups,)
        Blur of group 1, 2, ...
    surroundings : Surroundings
    simulate : mapping
        The config section; `focus` and `camera` are read.
    rng : numpy.random.Generator
        Stream of the image's camera.

    Returns
    -------
    counts : ndarray of uint8 or uint16, shape (rows, columns) or (3, rows, columns)
        As in `SimulatedImage`.
    saturated : float
        Fraction of pixels at full scale before noise.
    """
    camera = {key: value for key, value in simulate["camera"].items() if key != "stains"}
    planes = light.planes(stains=simulate["camera"]["stains"])
    # SOURCE SIMCEP: the stains are the colours of one file; a stain that is not simulated is dark and without noise.
    jpeg_quality = camera.pop("jpeg_quality") if len(planes) > 1 else None
    *blurred, cover_yx = scatter(
        [*(plane_yx for plane_yx in planes if plane_yx is not None), is_cell_yx.astype(float)],
        groups_yx,
        sigmas_px=sigmas_px,
        window_px=simulate["focus"]["window_px"],
    )
    recorded = [surroundings.add_to(plane_yx, cover_yx=cover_yx) for plane_yx in blurred]
    exposed = [expose(plane_yx, **camera, rng=rng) for plane_yx in recorded]
    saturated = np.count_nonzero(np.stack(recorded) >= 1) / (len(recorded) * cover_yx.size)
    if len(planes) == 1:
        return exposed[0], saturated
    dark_yx = np.full_like(exposed[0], round(camera["offset_counts"]))
    counts_cyx = np.stack([dark_yx if plane_yx is None else exposed.pop(0) for plane_yx in planes])
    return counts_cyx if jpeg_quality is None else pack_stains(counts_cyx, jpeg_quality=jpeg_quality), saturated


def describe_cells(population: Population, labels_yx: np.ndarray, *, brightness: list[float]) -> list[dict[str, Any]]:
    """List the properties of each cell: sub-pixel position, radius, areas in px, brightness, cluster.

    Parameters
    ----------
    population : Population
    labels_yx : ndarray of int, shape (rows, columns)
        From `label_visible`.
    brightness : list of float
        Brightness of each cell.

    Returns
    -------
    list of dict
        One row per cell, in the order of the cells, with part of the columns of objects.csv.
    """
    shape = (labels_yx.shape[0], labels_yx.shape[1])
    visible = np.bincount(labels_yx.ravel(), minlength=len(population.cells) + 1)[1:]
    return [
        {
            "object": number,
            "row": cell.row,
            "column": cell.column,
            "radius_px": cell.radius_px,
            "area_px": _area(cell.cell, shape),
            "visible_area_px": int(visible[number - 1]),
            "nucleus_area_px": _area(cell.nucleus, shape),
            "organelles": len(cell.organelles),
            "brightness": brightness[number - 1],
            "cluster": cell.cluster,
        }
        for number, cell in enumerate(population.cells, start=1)
    ]


def draw_bodies(count: int, *, simulate: Mapping[str, Any], rngs: Mapping[str, np.random.Generator]) -> list[Body]:
    """Draw cells with nuclei and organelles, each centred within pixel (0, 0).

    Parameters
    ----------
    count : int, >= 0
        Number of cells; a larger number does not change the earlier cells.
    simulate : mapping
        The config section; `cell`, `nucleus` and `organelles` are read.
    rngs : mapping
        Streams "shape", "elongation", "nucleus" and "organelle".

    Returns
    -------
    list of Body
    """
    no_centres = np.zeros((count, 2))
    maps = _draw_stretches(count, elongation=simulate["cell"]["elongation"], rng=rngs["elongation"])
    centres, radii_px, cells = _draw_footprints(
        simulate["cell"], no_centres, maps=maps, rng=rngs["shape"], draws_centre=True
    )
    nuclei = [Footprint(0, 0, np.zeros((1, 1), dtype=bool))] * count
    if simulate["nucleus"]["include"]:
        _, _, drawn = _draw_footprints(simulate["nucleus"], centres, maps=maps, rng=rngs["nucleus"], draws_centre=False)
        nuclei = [nucleus.within(cell) for nucleus, cell in zip(drawn, cells, strict=True)]
    organelles: list[tuple[Footprint, ...]] = [()] * count
    section = simulate["organelles"]
    if section["count"][1] > 0:
        shape = OrganelleShape(section["radius_fraction"], section["radial_jitter"], section["angular_jitter"])
        organelles = draw_organelles(
            cells,
            count=section["count"],
            cell_radii_px=radii_px,
            largest_px=simulate["cell"]["radius_px"][1],
            shape=shape,
            rng=rngs["organelle"],
        )
    return [
        Body(float(centre[0]), float(centre[1]), radius_px, cell, nucleus, inside)
        for centre, radius_px, cell, nucleus, inside in zip(centres, radii_px, cells, nuclei, organelles, strict=True)
    ]


def _draw_stretches(count: int, *, elongation: tuple[float, float], rng: np.random.Generator) -> np.ndarray | None:
    """Draw aspect ratio and direction of each cell, as linear maps of shape (count, 2, 2); None for round cells."""
    if elongation[1] == 1:
        return None
    draws = rng.random((count, 2))
    ratios = elongation[0] + (elongation[1] - elongation[0]) * draws[:, 0]
    maps = [stretching(math.sqrt(r), axis=math.pi * turn) for r, turn in zip(ratios, draws[:, 1], strict=True)]
    return np.array(maps).reshape(count, 2, 2)


def _draw_footprints(
    section: Mapping[str, Any],
    centres: np.ndarray,
    *,
    maps: np.ndarray | None,
    rng: np.random.Generator,
    draws_centre: bool,
) -> tuple[np.ndarray, list[float], list[Footprint]]:
    """Draw and fill an outline for each centre, after drawing the centre itself if `draws_centre`."""
    count = len(centres)
    radii_px, vertices = [], np.zeros((count, VERTICES, 2))
    centres = centres.copy()
    for index in range(count):
        if draws_centre:
            centres[index] = rng.uniform(-0.5, 0.5, size=2)  # sub-pixel part; `place_cells` adds whole pixels
        radii_px.append(float(rng.uniform(*section["radius_px"])))
        [vertices[index]] = draw_vertices(
            radial_jitter=section["radial_jitter"], angular_jitter=section["angular_jitter"], rng=rng
        )
    outlines_px = trace_outlines(vertices, radii_px=np.array(radii_px), largest_px=section["radius_px"][1])
    if maps is not None:
        outlines_px = outlines_px @ maps
    return centres, radii_px, [fill_outline(o + c) for o, c in zip(outlines_px, centres, strict=True)]


def _populate(
    shape: tuple[int, int], *, simulate: Mapping[str, Any], rngs: Mapping[str, np.random.Generator]
) -> Population:
    fewest, most = simulate["cells"]
    rng = rngs["population"]
    return place_cells(
        draw_bodies(int(rng.integers(fewest, most + 1)), simulate=simulate, rngs=rngs),
        shape=shape,
        clusters=simulate["clusters"]["count"],
        cluster_probability=simulate["clusters"]["probability"],
        cluster_spread=simulate["clusters"]["spread"],
        overlap_limit=simulate["overlap"]["limit"],
        overlap_of=simulate["overlap"]["of"],
        attempts=simulate["overlap"]["attempts"],
        no_place=simulate["overlap"]["no_place"],
        rng=rng,
    )


def _area(footprint: Footprint, shape: tuple[int, int]) -> int:
    return int(np.count_nonzero(footprint.clipped(shape)[1]))
