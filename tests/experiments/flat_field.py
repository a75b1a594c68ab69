"""How well is an illumination profile recovered, from how many images, and what is left of the seams of a mosaic?

``python tests/experiments/flat_field.py`` prints three tables in some minutes. Decision 0026 quotes them.

- Recovered: images of known shading. Simulated nuclei, evenly spread; discs that crowd at the centre; BBBC039 and the
  fields of 696 x 520 px of the Data Science Bowl 2018, multiplied by a profile. Of real images, whose own shading is
  unknown, the profiles with and without the known one are divided.
- Methods: the mean of the images; the median of the images divided by their medians, both blurred; the profile of this
  library; and BaSiCPy with its default settings, if it is installed.
- Seams: a simulated field and real large fields, cut into tiles that are shaded alike. The step across each seam is the
  difference between the means of the two strips of 4 px beside it, relative to their mean.
- Own shading: real images as they are; the ground at the borders relative to the centre, before and after a division by
  the profile of the other half of the images.
"""

import contextlib
import csv
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  after the number of threads is set
from scipy.ndimage import gaussian_filter  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from cellmill.config.simulate import Simulate, image_settings  # noqa: E402
from cellmill.images.files import read_plane  # noqa: E402
from cellmill.preprocessing.flat_field import FlatField  # noqa: E402
from cellmill.preprocessing.geometry import resample  # noqa: E402
from cellmill.preprocessing.shading import SIDE, estimate_profile  # noqa: E402
from cellmill.simulation.illumination import parabolic_illumination  # noqa: E402
from cellmill.simulation.imaging import simulate_image  # noqa: E402
from real_runs import find_data  # noqa: E402  the module is found here

COUNTS, DRAWS = (5, 10, 20, 50, 200), 3
OFFSET, NOISE, TILE = 100.0, 10.0, 256
NUCLEI = {
    "size": [TILE, TILE], "cells": 25, "illumination": {"energy_ratio": 0}, "autofluorescence": {"energy_ratio": 0.0005},
    "background": {"level": [0.02, 0.08]}, "background_noise": {"fraction": 0},
    "camera": {"full_scale_counts": 20000, "offset_counts": 0, "noise": 0},
}  # fmt: skip


def reduce(image_yx: np.ndarray) -> np.ndarray:
    rows, columns = image_yx.shape
    return resample(image_yx, (min(SIDE, rows), min(SIDE, columns)))


def shading(shape: tuple[int, int], *, depth: float = 0.5) -> np.ndarray:
    """Return the fourth power of the cosine of an angle, brightest off the centre, with mean 1; no polynomial."""
    distance_yx = 1 - parabolic_illumination(shape, centre_shift=(0.1, -0.15))  # squared; 1 at the farthest corner
    profile_yx = (1 + distance_yx * ((1 - depth) ** -0.5 - 1)) ** -2
    return profile_yx / profile_yx.mean()


def simulate(count: int, **changes: object) -> np.ndarray:
    section = image_settings(Simulate.model_validate({**NUCLEI, "images": count, **changes}))
    return np.array([simulate_image(f"s{i}", seed=1, simulate=section).counts for i in range(count)], np.float32)


def crowd(count: int) -> np.ndarray:
    """Draw 25 discs an image, which crowd at its centre."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:TILE, :TILE]
    images_nyx = np.zeros((count, TILE, TILE), np.float32)
    for image_yx in images_nyx:
        image_yx += rng.uniform(300, 900)
        for row, column in rng.normal(0.5, 0.17, (25, 2)) * TILE:
            image_yx += rng.uniform(500, 3000) * (np.hypot(y - row, x - column) < rng.uniform(7, 12))
        image_yx[:] = gaussian_filter(image_yx, 1.5)
    return images_nyx


def photograph(light_yx: np.ndarray, profile_yx: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (OFFSET + profile_yx * light_yx + rng.normal(0, NOISE, light_yx.shape)).astype(np.float32)


def by_mean(images_nyx: np.ndarray) -> np.ndarray:
    return gaussian_filter(images_nyx.mean(axis=0), 6, mode="nearest")


def by_median(images_nyx: np.ndarray) -> np.ndarray:
    relative_nyx = images_nyx / np.median(images_nyx, axis=(1, 2), keepdims=True)
    return gaussian_filter(np.median(relative_nyx, axis=0), 6, mode="nearest")


def by_library(images_nyx: np.ndarray) -> np.ndarray:
    flat_field, _ = estimate_profile(images_nyx, shape=images_nyx.shape[1:], dark=0.0, where="experiment")
    return flat_field.profile_rows(slice(0, flat_field.rows))


def by_basicpy(images_nyx: np.ndarray) -> np.ndarray:
    from basicpy import BaSiC

    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        peer = BaSiC(device="cpu")
        peer.fit(images_nyx)
    return resample(np.asarray(peer.flatfield, np.float32), images_nyx.shape[1:])


METHODS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": by_mean, "median": by_median, "flat_field": by_library, "BaSiCPy": by_basicpy,
}  # fmt: skip


def errors(found_yx: np.ndarray, truth_yx: np.ndarray) -> tuple[float, float]:
    """Return the rms and the largest error of a profile, %."""
    ratio_yx = found_yx / truth_yx
    ratio_yx = ratio_yx / ratio_yx.mean()
    return 100 * float(ratio_yx.std()), 100 * float(np.abs(ratio_yx - 1).max())


def recover(name: str, images_nyx: np.ndarray, truth_yx: np.ndarray, *, is_relative: bool) -> None:
    """Print the errors of all methods, mean over draws of some of the images."""
    known_nyx = images_nyx * truth_yx if is_relative else images_nyx
    for count in [count for count in COUNTS if count < len(images_nyx)] + [len(images_nyx)]:
        cells = []
        for method in METHODS.values():
            found = []
            for draw in range(DRAWS if count < len(images_nyx) else 1):
                chosen = np.random.default_rng(draw).permutation(len(images_nyx))[:count]
                try:
                    profile_yx = method(known_nyx[chosen])
                    profile_yx = profile_yx / method(images_nyx[chosen]) if is_relative else profile_yx
                    found.append(errors(profile_yx, truth_yx))
                except ImportError:
                    continue
            cells.append("{:.2f} / {:.1f}".format(*np.mean(found, axis=0)) if found else "")
        print(f"| {name} | {count} | {' | '.join(cells)} |", flush=True)


def read_images(*parts: str, size: tuple[str, str] | None = None, kind: str = "grey_dark_bg") -> list[np.ndarray]:
    folder = find_data().joinpath(*parts)
    paths = sorted(folder.iterdir())
    if size is not None:
        with (folder.parents[1] / "index.csv").open() as stream:
            chosen = {r["id"] for r in csv.DictReader(stream) if (r["width"], r["height"], r["kind"]) == (*size, kind)}
        paths = [path for path in paths if path.stem in chosen]
    return [read_plane(path, channel="luminance").astype(np.float32) for path in paths]


def cut(field_yx: np.ndarray) -> list[np.ndarray]:
    rows, columns = (side // TILE for side in field_yx.shape)
    return [field_yx[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE] for i in range(rows) for j in range(columns)]


def seams(tiles: list[np.ndarray], columns: int) -> float:
    """Return the median step across the seams of a mosaic, %."""
    steps = []
    for place, tile_yx in enumerate(tiles):
        right = tiles[place + 1] if (place + 1) % columns else None
        below = tiles[place + columns] if place + columns < len(tiles) else None
        for here_yx, there_yx in ((tile_yx[:, -4:], right), (tile_yx[-4:], below)):
            if there_yx is not None:
                there = float((there_yx[:, :4] if there_yx is right else there_yx[:4]).mean())
                steps.append(abs(here_yx.mean() - there) / ((here_yx.mean() + there) / 2))
    return 100 * float(np.median(steps))


def stitch(name: str, fields: list[np.ndarray]) -> None:
    """Print the steps across the seams of mosaics: without shading, shaded, and divided by the estimated profile."""
    profile_yx, rng = shading((TILE, TILE), depth=0.5), np.random.default_rng(0)
    # Only the darkest point is not at a corner: opposite borders differ.
    mosaics = [[photograph(tile_yx, profile_yx, rng) for tile_yx in cut(field_yx)] for field_yx in fields]
    every = np.array([reduce(tile_yx) for tiles in mosaics for tile_yx in tiles])
    flat_field, _ = estimate_profile(every, shape=(TILE, TILE), dark=OFFSET, where="experiment")
    rows = []
    for field_yx, tiles in zip(fields, mosaics, strict=True):
        columns = field_yx.shape[1] // TILE
        flat = [flat_field.correct_rows(tile_yx, slice(0, TILE)) for tile_yx in tiles]
        rows.append([seams(part, columns) for part in (cut(field_yx), [tile - OFFSET for tile in tiles], flat)])
    even, before, after = np.mean(rows, axis=0)
    print(f"| {name} | {len(fields)} | {len(every)} | {even:.1f} | {before:.1f} | {after:.1f} |", flush=True)


def print_own(name: str, images: list[np.ndarray]) -> None:
    """Print the shading that real images have."""
    reduced = np.array([reduce(image_yx) for image_yx in images])
    found: FlatField = estimate_profile(reduced, shape=images[0].shape, dark=0.0, where="experiment")[0]
    assert found.error is not None
    print(
        f"| {name} | {found.images} | {100 * found.corner:.1f} | {100 * found.border_before:.1f} | "
        f"{100 * found.border_after:.1f} | {100 * found.error:.2f} |",
        flush=True,
    )


def main() -> None:
    """Print the three tables."""
    print(f"| images | n | {' | '.join(METHODS)} |\n|---|---|{'---|' * len(METHODS)}")
    rng = np.random.default_rng(0)
    profile_yx = shading((TILE, TILE))
    truth_yx = resample(profile_yx, (SIDE, SIDE))
    for name, light_nyx in (("simulated nuclei", simulate(200)), ("discs at the centre", crowd(200))):
        shaded = np.array([reduce(photograph(light_yx, profile_yx, rng)) for light_yx in light_nyx])
        recover(name, shaded - np.float32(OFFSET), truth_yx, is_relative=False)
    real = {
        "BBBC039": read_images("bbbc039", "images"),
        "DSB 2018, 696 x 520 px": read_images("dsb2018_more", "stage1_train", "images", size=("696", "520")),
    }
    for name, images in real.items():
        recover(name, np.array([reduce(image) for image in images]), resample(shading(images[0].shape), (SIDE, SIDE)),
                is_relative=True)  # fmt: skip
    print("\n| mosaic | fields | tiles | even light, % | shaded, % | divided, % |\n|---|---|---|---|---|---|")
    stitch("simulated nuclei", list(simulate(2, size=[4 * TILE, 4 * TILE], cells=400)))
    large = read_images("dsb2018_more", "stage1_train", "images", size=("1024", "1024"), kind="grey_bright_bg")
    stitch("DSB 2018, bright field", large)
    print("\n| images | n | corners, % | border before, % | after, % | error, % |\n|---|---|---|---|---|---|")
    phase = read_images("usiigaci_t98g_phase", "images")
    square = read_images("dsb2018_more", "stage1_train", "images", size=("360", "360"))
    for name, images in {**real, "DSB 2018, 360 x 360 px": square, "T98G, phase contrast": phase}.items():
        print_own(name, images)


if __name__ == "__main__":
    main()
