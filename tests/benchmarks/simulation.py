"""The simulator: speed against a plain port of the same description, speed-up by two workers, and memory."""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bench import Row

NUCLEI = 20
SIZE = (256, 256)
ALL_STAGES: dict[str, Any] = {
    "size": SIZE,
    "cells": NUCLEI,
    "cell": {"radius_px": 10, "radial_jitter": 0.1, "angular_jitter": 0.1, "texture": {"persistence": 0.5}},
    "nucleus": {"include": True, "radius_px": 4},
    "organelles": {"count": 4},
    "focus": {"image_sigma_px": 0.5},
    "background_noise": {"fraction": 1},
    "dirt": {"count": 5},
    "camera": {"full_scale_counts": 255, "offset_counts": 0, "photons": 2000, "jpeg_quality": 95},
}
LARGE: dict[str, Any] = {
    "size": (2048, 2048), "cells": 2000, "cell": {"radius_px": [8, 12]}, "clusters": {"count": 30},
}  # fmt: skip

SHARD = """
from cellmill.config.simulate import Simulate, image_settings
from cellmill.simulate import simulate_shard
section = image_settings(Simulate.model_validate(job["section"]))
samples = [{"sample": f"s{i}"} for i in range(job["images"])]
simulate_shard(output_dir=job["output"], samples=samples, seed=0, simulate=section)
"""


def settings(section: dict[str, Any]) -> dict[str, Any]:
    from cellmill.config.simulate import Simulate, image_settings

    return image_settings(Simulate.model_validate(section))


def simulate(numbers: range) -> None:
    """Simulate images with all stages switched on."""
    from cellmill.simulation.imaging import simulate_image

    section = settings(ALL_STAGES)
    for number in numbers:
        simulate_image(f"s{number}", seed=0, simulate=section)


def image_with_all_stages() -> "Row":
    """Time one image with 20 nuclei, 80 organelles, dirt, blotches, photons and JPEG."""
    from bench import compare

    return compare(
        f"simulated image, 256 x 256, {NUCLEI} cells with nuclei and organelles, all stages",
        lambda: simulate(range(1)),
        "plain port: cells alone, blur and noise", lambda: plain_image(np.random.default_rng(0)), "> 1, < 0.04 s",
    )  # fmt: skip


def large_image() -> "Row":
    """Time 2,000 cells in one image against the same area in images of the small size."""
    from bench import compare

    from cellmill.simulation.imaging import simulate_image

    whole = settings(LARGE)
    part = settings({**LARGE, "size": SIZE, "cells": 2000 // 64, "clusters": {"count": 1}})

    def parts() -> None:
        for number in range(64):
            simulate_image(f"s{number}", seed=0, simulate=part)

    return compare(
        "simulated image, 2048 x 2048, 2,000 cells", lambda: simulate_image("s", seed=0, simulate=whole),
        "64 images of 256 x 256", parts, "> 0.5", repeats=3,
    )  # fmt: skip


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Limit processes that start now to one thread each, as Snakemake does for jobs of the rule simulate."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def two_workers(images: int = 80) -> "Row":
    """Time the same images in one process and in two; the processes exist before the clock starts."""
    from bench import Row

    halves = [range(images // 2), range(images // 2, images)]
    with one_thread_each(), ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(simulate, [range(2), range(2)]))
        ratios = []
        for _ in range(3):
            start = time.perf_counter()
            pool.submit(simulate, range(images)).result()
            middle = time.perf_counter()
            list(pool.map(simulate, halves))
            ratios.append((middle - start, time.perf_counter() - middle))
    one, two = sorted(ratios, key=lambda pair: pair[0] / pair[1])[1]
    return Row(f"{images} simulated images, two workers", two, "one worker", one, one / two, "> 1.8")


def flat_simulation() -> tuple[float, float]:
    """Measure the peak memory [MB] of simulate on shards of 20 and of 200 images of 256 x 256."""
    few, many = (_peak_of_shard(images) for images in (20, 200))
    return few, many


def _peak_of_shard(images: int) -> float:
    from peaks import peak_mb

    with tempfile.TemporaryDirectory() as name:
        return peak_mb(SHARD, {"output": str(Path(name) / "raw"), "section": ALL_STAGES, "images": images})


def plain_image(rng: np.random.Generator) -> np.ndarray:
    """Simulate an image with a plain port on the same libraries: no nuclei, organelles, glow, dirt or JPEG."""
    from scipy import ndimage
    from scipy.interpolate import CubicSpline
    from skimage.draw import polygon
    from skimage.transform import resize

    light_yx, count_yx = np.zeros(SIZE), np.zeros(SIZE)
    for _ in range(NUCLEI):
        angles = 2 * np.pi * np.arange(11) / 10
        x = rng.uniform(-0.1, 0.1, 11) + np.cos(angles + rng.uniform(-0.1, 0.1, 11))
        y = rng.uniform(-0.1, 0.1, 11) + np.sin(angles + rng.uniform(-0.1, 0.1, 11))
        ring = np.column_stack([y, x])
        ring[-1] = ring[0]
        knots = np.r_[0, np.cumsum(np.hypot(*np.diff(ring, axis=0).T) ** 0.5)]
        outline = 10 * CubicSpline(knots, ring, bc_type="periodic")(np.linspace(0, knots[-1], 1000))
        mask_yx = np.zeros(SIZE)
        mask_yx[polygon(*(outline + rng.uniform(0, 256, 2)).T, SIZE)] = 1
        texture_yx = np.zeros((24, 24))
        for octave in range(2, 7):
            noise = ndimage.uniform_filter(rng.random((2**octave, 2**octave)), 3, mode="nearest")
            texture_yx += 0.5**octave * resize(noise, (24, 24), order=3)
        row, column = (
            (int(part.start) for part in ndimage.find_objects(mask_yx.astype(int))[0]) if mask_yx.any() else (0, 0)
        )
        part_yx = light_yx[row : row + 24, column : column + 24]
        part_yx += mask_yx[row : row + 24, column : column + 24] * texture_yx[: part_yx.shape[0], : part_yx.shape[1]]
        count_yx += mask_yx
    groups_yx, groups = ndimage.label(count_yx > 0)
    blurred_yx = np.zeros(SIZE)
    for group in range(1, groups + 1):
        blurred_yx += ndimage.gaussian_filter(light_yx * (groups_yx == group), rng.uniform(0.5, 5), truncate=1)
    return np.clip(blurred_yx + 0.01 * rng.standard_normal(SIZE), 0, 1)
