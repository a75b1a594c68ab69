"""Stage simulate: images of cells with a known truth, as a lab would have them.

Each image draws from streams of its own, keyed by the seed, its name and a purpose. So an image is the same
in whatever shard, order or process it is made, and the truth is the same under another camera or lamp.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from cellmill.annotations.rle import encode_crop
from cellmill.shards import shard_folder, stable_hash
from cellmill.simcep.detector import expose
from cellmill.simcep.illumination import (
    draw_autofluorescence,
    draw_background_noise,
    parabolic_illumination,
    scale_to_energy,
)
from cellmill.simcep.optics import depth_to_sigma, draw_depths, group_of, label_groups, scatter
from cellmill.simcep.population import Body, Cell, Population, count_cover, place_cells, visible_areas
from cellmill.simcep.shapes import Footprint, draw_outline, fill_outline
from cellmill.simcep.texture import draw_texture

logger = logging.getLogger(__name__)

ANNOTATION_COLUMNS = ["id", "annotation", "width", "height"]
OBJECT_COLUMNS = [
    "sample", "object", "row", "column", "radius_px", "area_px", "visible_area_px", "nucleus_area_px",
    "brightness", "cluster", "group", "depth", "sigma_px",
]  # fmt: skip
IMAGE_COLUMNS = [
    "sample", "cells", "failed", "groups",
    "foreground_fraction", "has_background_noise", "saturated_fraction",
]  # fmt: skip

# Purposes of the streams. The numbers are part of the images: append, never renumber.
STREAMS = {
    "population": 0,
    "shape": 1,
    "nucleus": 2,
    "texture": 3,
    "focus": 4,
    "autofluorescence": 5,
    "background_noise": 6,
    "camera": 7,
}


@dataclass(frozen=True)
class SimulatedImage:
    """One image and everything that is known about it.

    Attributes
    ----------
    counts_yx : ndarray of uint16, shape (rows, columns)
        Camera counts.
    population : Population
        The cells in the order of their numbers, which start at 1.
    objects : list of dict
        A row of objects.csv a cell.
    summary : dict
        The row of images.csv.
    """

    counts_yx: np.ndarray
    population: Population
    objects: list[dict[str, Any]]
    summary: dict[str, Any]


def simulate_shard(
    *, output_dir: str | Path, samples: Sequence[Mapping[str, Any]], seed: int, simulate: Mapping[str, Any]
) -> None:
    """Simulate the images of one shard.

    Parameters
    ----------
    output_dir : path
        Folder of the shard; gets images/{sample}.tif, annotations.csv, objects.csv and images.csv.
    samples : sequence of mapping
        Rows of the sample table; only `sample` is read.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        The config section `simulate`; `images` in it is not read.

    Raises
    ------
    ValueError
        If two rows name the same sample.
    """
    names = sorted(str(row["sample"]) for row in samples)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{output_dir}: expected each sample once, found {', '.join(twice)} twice or more. "
            "Remove the duplicates from the sample table."
        )
    annotations: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    with shard_folder(output_dir) as folder:
        (folder / "images").mkdir()
        for name in names:
            image = simulate_image(name, seed=seed, simulate=simulate)
            tifffile.imwrite(
                folder / "images" / f"{name}.tif",
                image.counts_yx,
                metadata={"axes": "YX"},
                software="cellmill",
            )
            annotations.extend(_annotation_rows(name, image))
            objects.extend(image.objects)
            images.append(image.summary)
            logger.info("%s: %d cells, %d without a place", name, image.summary["cells"], image.summary["failed"])
        _write_table(folder / "annotations.csv", annotations, columns=ANNOTATION_COLUMNS)
        _write_table(folder / "objects.csv", objects, columns=OBJECT_COLUMNS)
        _write_table(folder / "images.csv", images, columns=IMAGE_COLUMNS)


def simulate_image(sample: str, *, seed: int, simulate: Mapping[str, Any]) -> SimulatedImage:
    """Simulate one image.

    Parameters
    ----------
    sample : str
        Name of the image; with the seed it decides every draw.
    seed : int, >= 0
        The config's seed.
    simulate : mapping
        As in `simulate_shard`.

    Returns
    -------
    SimulatedImage
    """
    rows, columns = simulate["size"]
    shape = (int(rows), int(columns))
    rngs = _streams(sample, seed=seed)
    population = _populate(shape, simulate=simulate, rngs=rngs)
    footprints = [cell.cell for cell in population.cells]
    count_yx = count_cover(footprints, shape=shape)
    groups_yx, groups = label_groups(count_yx)
    depths = draw_depths(groups, rng=rngs["focus"])
    sigmas_px = depth_to_sigma(depths, sigma_px=simulate["focus"]["sigma_px"], scaling=simulate["focus"]["scaling"])
    ideal_yx, brightness = _stain(population.cells, count_yx, simulate=simulate, rng=rngs["texture"])
    blurred_yx, cover_yx = scatter(
        [ideal_yx, (count_yx > 0).astype(float)],
        groups_yx,
        sigmas_px=sigmas_px,
        window_px=simulate["focus"]["window_px"],
    )
    light_yx = blurred_yx + _stray_light(ideal_yx, simulate=simulate, rng=rngs["autofluorescence"])
    blotches_yx = _blotches(shape, simulate=simulate, rng=rngs["background_noise"])
    if blotches_yx is not None:
        # The blurred cover, not the sharp truth: a sharp edge in the blotches would give the truth away.
        light_yx = light_yx + np.clip(1 - cover_yx, 0, 1) * blotches_yx
    counts_yx = expose(light_yx, **simulate["camera"], rng=rngs["camera"])

    objects = _object_rows(
        sample, population, brightness=brightness, groups_yx=groups_yx, depths=depths, sigmas_px=sigmas_px
    )
    summary = {
        "sample": sample,
        "cells": len(population.cells),
        "failed": population.failed,
        "groups": groups,
        "foreground_fraction": np.count_nonzero(count_yx) / count_yx.size,
        "has_background_noise": blotches_yx is not None,
        "saturated_fraction": np.count_nonzero(light_yx >= 1) / light_yx.size,
    }
    return SimulatedImage(counts_yx, population, objects, summary)


def _streams(sample: str, *, seed: int) -> dict[str, np.random.Generator]:
    key = [seed, stable_hash(sample, purpose="simulate")]
    return {
        purpose: np.random.default_rng(np.random.SeedSequence(key, spawn_key=(number,)))
        for purpose, number in STREAMS.items()
    }


def _populate(
    shape: tuple[int, int], *, simulate: Mapping[str, Any], rngs: Mapping[str, np.random.Generator]
) -> Population:
    fewest, most = simulate["cells"]
    rng = rngs["population"]
    return place_cells(
        int(rng.integers(fewest, most + 1)),
        shape=shape,
        draw_body=lambda: _draw_body(simulate, rng=rngs["shape"], nucleus_rng=rngs["nucleus"]),
        clusters=simulate["clusters"]["count"],
        cluster_probability=simulate["clusters"]["probability"],
        cluster_spread=simulate["clusters"]["spread"],
        overlap_limit=simulate["overlap"]["limit"],
        overlap_of=simulate["overlap"]["of"],
        attempts=simulate["overlap"]["attempts"],
        rng=rng,
    )


def _draw_body(simulate: Mapping[str, Any], *, rng: np.random.Generator, nucleus_rng: np.random.Generator) -> Body:
    centre = rng.uniform(-0.5, 0.5, size=2)  # within a pixel; whole pixels follow with the place
    radius_px, cell = _draw_footprint(simulate["cell"], centre, rng=rng)
    nucleus = Footprint(0, 0, np.zeros((1, 1), dtype=bool))
    if simulate["nucleus"]["include"]:
        _, nucleus = _draw_footprint(simulate["nucleus"], centre, rng=nucleus_rng)
        nucleus = nucleus.within(cell)
    return Body(float(centre[0]), float(centre[1]), radius_px, cell, nucleus)


def _draw_footprint(
    section: Mapping[str, Any], centre: np.ndarray, *, rng: np.random.Generator
) -> tuple[float, Footprint]:
    radius_px = rng.uniform(*section["radius_px"])
    outline_px = draw_outline(
        radius_px=radius_px,
        radial_jitter=section["radial_jitter"],
        angular_jitter=section["angular_jitter"],
        rng=rng,
    )
    return radius_px, fill_outline(outline_px + centre)


def _stain(
    cells: Sequence[Cell], count_yx: np.ndarray, *, simulate: Mapping[str, Any], rng: np.random.Generator
) -> tuple[np.ndarray, list[float]]:
    """Give the light of the cells before the lens, and the brightness that each drew."""
    light_yx = np.zeros(count_yx.shape)
    nuclei_yx = np.zeros(count_yx.shape)
    brightness = []
    for cell in cells:
        brightness.append(_add_stain(light_yx, cell.cell, simulate["cell"], rng=rng))
        if simulate["nucleus"]["include"]:
            _add_stain(nuclei_yx, cell.nucleus, simulate["nucleus"], rng=rng)
    # SOURCE SIMCEP: where objects overlap, their intensities are averaged.
    light_yx /= np.maximum(count_yx, 1)
    if simulate["nucleus"]["include"]:
        nuclei = count_cover([cell.nucleus for cell in cells], shape=count_yx.shape)
        light_yx = np.minimum(light_yx + nuclei_yx / np.maximum(nuclei, 1), 1)
    return light_yx, brightness


def _add_stain(
    light_yx: np.ndarray, footprint: Footprint, section: Mapping[str, Any], *, rng: np.random.Generator
) -> float:
    brightness = float(rng.uniform(*section["brightness"]))
    texture_yx = draw_texture(footprint.mask_yx.shape, **section["texture"], rng=rng)
    window, own = footprint.window(light_yx.shape)
    light_yx[window] += brightness * texture_yx[own] * footprint.mask_yx[own]
    return brightness


def _stray_light(ideal_yx: np.ndarray, *, simulate: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray:
    illumination, glow = simulate["illumination"], simulate["autofluorescence"]
    profile_yx = parabolic_illumination(ideal_yx.shape, centre_shift=illumination["centre_shift"])
    glow_yx = draw_autofluorescence(ideal_yx.shape, rng=rng)
    return scale_to_energy(profile_yx, ideal_yx, ratio=illumination["energy_ratio"]) + scale_to_energy(
        glow_yx, ideal_yx, ratio=glow["energy_ratio"]
    )


def _blotches(shape: tuple[int, int], *, simulate: Mapping[str, Any], rng: np.random.Generator) -> np.ndarray | None:
    blotches_yx = draw_background_noise(shape, **simulate["background_noise"], rng=rng)
    if blotches_yx is None:
        return None
    # ASSUME the level of the cells is the middle of their brightness, also in an image without any.
    return blotches_yx * sum(simulate["cell"]["brightness"]) / 2


def _object_rows(
    sample: str,
    population: Population,
    *,
    brightness: Sequence[float],
    groups_yx: np.ndarray,
    depths: np.ndarray,
    sigmas_px: np.ndarray,
) -> list[dict[str, Any]]:
    shape = groups_yx.shape
    visible = visible_areas([cell.cell for cell in population.cells], shape=shape)
    rows = []
    for index, cell in enumerate(population.cells):
        group = group_of(cell.cell, groups_yx)
        rows.append(
            {
                "sample": sample,
                "object": index + 1,
                "row": cell.row,
                "column": cell.column,
                "radius_px": cell.radius_px,
                "area_px": _area(cell.cell, shape),
                "visible_area_px": int(visible[index]),
                "nucleus_area_px": _area(cell.nucleus, shape),
                "brightness": brightness[index],
                "cluster": cell.cluster,
                "group": group,
                "depth": depths[group - 1],
                "sigma_px": sigmas_px[group - 1],
            }
        )
    return rows


def _area(footprint: Footprint, shape: tuple[int, int]) -> int:
    return int(np.count_nonzero(footprint.clipped(shape)[1]))


def _annotation_rows(sample: str, image: SimulatedImage) -> list[dict[str, Any]]:
    shape = image.counts_yx.shape
    annotations = []
    for cell in image.population.cells:
        (rows, columns), mask_yx = cell.cell.clipped(shape)
        text = encode_crop(mask_yx, order="row", row=rows.start, column=columns.start, shape=shape)
        annotations.append({"id": sample, "annotation": text, "width": shape[1], "height": shape[0]})
    return annotations


def _write_table(path: Path, rows: list[dict[str, Any]], *, columns: list[str]) -> None:
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
