"""Measure how similar the scene bbbc005 is to BBBC005. `make bbbc005` prints tables and draws a figure.

BBBC005 was made with the original SIMCEP. Its images come with a cell count but without masks, so objects are found by
Otsu's threshold on both sides. Each image is compared with simulated images of the same count, stain and focus: its
values are standardised by their mean and standard deviation. The values of all real images are then compared with those
of all simulated images.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from PIL import Image, ImageDraw, ImageFont
from skimage.filters import threshold_otsu

from cellmill.config.merging import merge
from cellmill.config.simulate import Simulate, image_settings
from cellmill.matching.statistics import distance, measure_image, otsu_objects, permutation_interval
from cellmill.simulation.imaging import simulate_image

FOLDER = "bbbc005_simcep/train"
ROOT = Path(__file__).resolve().parents[2]
FIGURE = ROOT / "docs/pictures/bbbc005.png"
# Stain in a file name -> what it shows, and the channel of the scene. The published text has the stains swapped.
STAINS = {"w1": ("nuclei", 2), "w2": ("cell bodies", 0)}
SEED, IMAGES, PERMUTATIONS = 5, 16, 2000
BLUR_OF_FOCUS = 0.23  # px per unit of F, as in the scene
MEASURED = (
    "foreground_fraction", "objects_per_mpx", "radius_px", "radius_spread", "solidity", "clustering",
    "contrast", "contrast_spread", "texture", "noise", "edge_width_px", "autocorrelation_px",
)  # fmt: skip
HISTOGRAM = "histogram"
STATISTICS = (*MEASURED, HISTOGRAM)
LEVELS = 256


@dataclass(frozen=True)
class Plate:
    """Contents of a file name: number of cells, focus number F (1: in focus), stain."""

    cells: int
    focus: int
    stain: str

    @property
    def title(self) -> str:
        """Title in tables and figures."""
        return f"{STAINS[self.stain][0]}, {self.cells} cells" + (f", F {self.focus}" if self.focus > 1 else "")


def find_images(folder: Path) -> dict[Path, Plate]:
    """List the real images with the contents of their names."""
    found = {}
    for path in sorted(folder.glob("*.TIF")):
        said = re.fullmatch(r"\w+_C(?P<cells>\d+)_F(?P<focus>\d+)_s\d+_(?P<stain>w\d)", path.stem)
        if said is None:
            raise ValueError(
                f"{path}: expected a name such as A01_C1_F1_s06_w2.TIF. Move other files out of the folder."
            )
        found[path] = Plate(int(said["cells"]), int(said["focus"]), said["stain"])
    return found


def simulate_plate(plate: Plate, *, images: int) -> list[np.ndarray]:
    """Simulate images with the count, stain and focus of a real image.

    Parameters
    ----------
    plate : Plate
    images : int, > 0

    Returns
    -------
    list of ndarray of uint8, shape (520, 696)
    """
    changes: dict[str, Any] = {"cells": plate.cells}
    if plate.focus > 1:  # as in the scene: BBBC005 blurs its finished images, noise included
        blur = {"image_sigma_px": BLUR_OF_FOCUS * plate.focus}
        camera = {"noise": 0, "jpeg_quality": None}
        changes |= {"focus": blur, "camera": camera, "background": {"level": 0.004}}
    settings = image_settings(Simulate.model_validate(merge({"scene": "bbbc005"}, changes)))
    channel = STAINS[plate.stain][1]
    names = (f"C{plate.cells}_s{number}" for number in range(images))
    return [simulate_image(name, seed=SEED, simulate=settings).counts[channel] for name in names]


def measure(images: Iterable[np.ndarray]) -> pd.DataFrame:
    """Measure images by Otsu's objects: one row per image, columns `MEASURED`."""
    rows = []
    for image_yx in images:
        found = measure_image(image_yx, labels_yx=otsu_objects(image_yx))
        # All bright pixels, because the objects leave out whatever is small beside the largest group of cells
        bright = float(np.mean(image_yx > threshold_otsu(image_yx)))
        rows.append(found | {"foreground_fraction": bright})
    return pd.DataFrame(rows)[list(MEASURED)]


def histogram_distances(real: Sequence[np.ndarray], simulated: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Compute the distance of each image's intensities from the mean of the simulated images (without itself).

    Returns
    -------
    real, simulated : ndarray of float64
        Wasserstein distances in counts.
    """
    shares = np.array([np.bincount(image.ravel(), minlength=LEVELS) / image.size for image in simulated]).cumsum(axis=1)
    total = shares.sum(axis=0)
    own = np.abs((total - shares) / (len(shares) - 1) - shares).sum(axis=1)
    others = [np.bincount(image.ravel(), minlength=LEVELS).cumsum() / image.size for image in real]
    return np.array([np.abs(total / len(shares) - share).sum() for share in others]), own


@dataclass(frozen=True)
class Comparison:
    """Values of real and simulated images: one row per image, one column per statistic, plus the plate.

    `real` and `simulated` hold the measured values. `real_relative` and `simulated_relative` are standardised by the
    simulated images of the same plate.
    """

    real: pd.DataFrame
    simulated: pd.DataFrame
    real_relative: pd.DataFrame
    simulated_relative: pd.DataFrame


def compare(paths: dict[Path, Plate], *, images: int) -> Comparison:
    """Measure real images and simulated images of the same plates.

    Parameters
    ----------
    paths : dict
        From `find_images`.
    images : int, > 1
        Number of simulated images per plate.
    """
    parts: dict[str, list[pd.DataFrame]] = {
        key: [] for key in ("real", "simulated", "real_relative", "simulated_relative")
    }
    for plate in sorted(set(paths.values()), key=lambda plate: (plate.stain, plate.focus, plate.cells)):
        real = [tifffile.imread(path) for path, own in paths.items() if own == plate]
        simulated = simulate_plate(plate, images=images)
        tables = measure(real), measure(simulated)
        for table, values in zip(tables, histogram_distances(real, simulated), strict=True):
            table[HISTOGRAM] = values
        mean, spread = tables[1].mean(), tables[1].std()
        facts: dict[str, Any] = {"plate": plate, "stain": plate.stain, "is_sharp": plate.focus == 1}
        for key, table in zip(("real", "simulated"), tables, strict=True):
            relative = (table - mean) / spread.where(spread > 1e-9)  # a constant statistic cannot be compared
            for name, frame in ((key, table), (f"{key}_relative", relative)):
                parts[name].append(frame.assign(**facts))
    return Comparison(**{key: pd.concat(frames, ignore_index=True) for key, frames in parts.items()})


def distances(comparison: Comparison, *, permutations: int = PERMUTATIONS) -> pd.DataFrame:
    """Compute each statistic's distance and its permutation interval, which holds if both sides are of one kind.

    Returns
    -------
    DataFrame
        Columns stain, is_sharp, statistic, distance, low, high, n_real, n_simulated, and shift: the mean of the real
        images relative to the simulated ones, in standard deviations of the simulated ones.
    """
    rows = []
    for stain in STAINS:
        for is_sharp in (True, False):
            sides = [
                table[(table["stain"] == stain) & (table["is_sharp"] == is_sharp)]
                for table in (comparison.real_relative, comparison.simulated_relative)
            ]
            if sides[0].empty:
                continue
            for name in STATISTICS:
                real, simulated = (side[name].to_numpy(dtype=float) for side in sides)
                rng = np.random.default_rng(SEED)
                expected = permutation_interval(real, simulated, permutations=permutations, rng=rng)
                rows.append(
                    {
                        "stain": stain, "is_sharp": is_sharp, "statistic": name, "distance": distance(real, simulated),
                        "low": expected.low, "high": expected.high, "n_real": expected.n_real,
                        "n_simulated": expected.n_simulated, "shift": float(pd.Series(real).mean()),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def draw_figure(pairs: Sequence[tuple[Plate, np.ndarray, np.ndarray]], comparison: Comparison) -> Image.Image:
    """Draw images side by side, and below them every in-focus value of both sides.

    Parameters
    ----------
    pairs : sequence of (Plate, real image, simulated image)
    comparison : Comparison
    """
    width, panel, gap = 1392, (348, 260), 4
    shown = [(f"BBBC005: {plate.title}", real) for plate, real, _ in pairs]
    shown += [(f"simulated: {plate.title}", simulated) for plate, _, simulated in pairs]
    names = (
        "foreground_fraction", "objects_per_mpx", "radius_px", "contrast", "texture", "edge_width_px",
        "autocorrelation_px", "noise",
    )  # fmt: skip
    rows = -(-len(shown) // 4)
    plot = width // len(names), 190
    picture = Image.new("RGB", (width, rows * (panel[1] + 20) + len(STAINS) * (plot[1] + 22)), "white")
    draw, font, small = ImageDraw.Draw(picture), ImageFont.load_default(14), ImageFont.load_default(11)
    for place, (title, image_yx) in enumerate(shown):
        x, y = place % 4 * panel[0], place // 4 * (panel[1] + 20)
        small_yx = np.asarray(Image.fromarray(image_yx).resize((panel[0] - gap, panel[1]), Image.Resampling.BOX))
        # 16 greys; the square root brightens faint outlines that are left by the other stain
        picture.paste(Image.fromarray((np.rint(np.sqrt(small_yx / 255) * 15) * 17).astype(np.uint8)), (x, y + 20))
        draw.text((x + 2, y + 2), title, fill="black", font=font)
    for row, stain in enumerate(STAINS):
        top = rows * (panel[1] + 20) + row * (plot[1] + 22)
        title = f"{STAINS[stain][0]} in focus: simulated (grey) and BBBC005 (orange), by cells"
        draw.text((2, top + 3), title, fill="black", font=font)
        for column, name in enumerate(names):
            box = (column * plot[0] + 6, top + 42, (column + 1) * plot[0] - 6, top + plot[1] + 2)
            _draw_strips(draw, box, name, comparison, stain=stain, font=small)
    return picture.quantize(32, dither=Image.Dither.NONE)


def _draw_strips(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    name: str,
    comparison: Comparison,
    *,
    stain: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    real, simulated = (
        table[(table["stain"] == stain) & table["is_sharp"]] for table in (comparison.real, comparison.simulated)
    )
    values = pd.concat([real[name], simulated[name]]).dropna()
    low, high = float(values.min()), float(values.max())
    plates = sorted(set(real["plate"]), key=lambda plate: plate.cells)
    left, top, right, bottom = box
    draw.rectangle(box, outline=(160, 160, 160))
    draw.text((left, top - 16), name, fill="black", font=font)
    draw.text((left + 2, top + 1), f"{high:.3g}", fill=(120, 120, 120), font=font)
    draw.text((left + 2, bottom - 26), f"{low:.3g}", fill=(120, 120, 120), font=font)
    for place, plate in enumerate(plates):
        x = left + (place + 1) * (right - left) / (len(plates) + 0.5)
        draw.text((x, bottom - 13), str(plate.cells), fill="black", font=font, anchor="ma")
        for table, colour, size in ((simulated, (140, 140, 140), 2), (real, (230, 120, 0), 4)):
            for value in table.loc[table["plate"] == plate, name].dropna():
                y = bottom - 20 - (value - low) / max(high - low, 1e-12) * (bottom - top - 32)
                draw.ellipse((x - size, y - size, x + size, y + size), fill=colour)


def describe_foreground(comparison: Comparison) -> list[str]:
    """Format the foreground of each real image and of its simulated images as rows of a table."""
    lines = ["| BBBC005 | foreground [%] | simulated: mean (2.5 to 97.5 %) | n |", "|---|---|---|---|"]
    for _, row in comparison.real.iterrows():
        own = 100 * comparison.simulated.loc[comparison.simulated["plate"] == row["plate"], "foreground_fraction"]
        low, high = own.quantile([0.025, 0.975])
        real = 100 * row["foreground_fraction"]
        lines.append(f"| {row['plate'].title} | {real:.2f} | {own.mean():.2f} ({low:.2f} to {high:.2f}) | {len(own)} |")
    return lines


def describe_distances(found: pd.DataFrame) -> list[str]:
    """Format the distances as rows of a table, in bold where they exceed their interval."""
    lines = [
        "| images | statistic | distance | 95 % of chance | shift [sd] | n real, simulated |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.to_dict("records"):
        what = f"{STAINS[row['stain']][0]}{'' if row['is_sharp'] else ', F 23 and 48'}"
        value = f"{row['distance']:.2f}" if row["distance"] <= row["high"] else f"**{row['distance']:.2f}**"
        lines.append(
            f"| {what} | {row['statistic']} | {value} | {row['low']:.2f} to {row['high']:.2f} | {row['shift']:+.1f} | "
            f"{row['n_real']}, {row['n_simulated']} |"
        )
    return lines


def main() -> None:
    """Print both tables and draw the figure."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=IMAGES, help="simulated ones for each real image")
    arguments.add_argument("--figure", type=Path, default=FIGURE)
    chosen = arguments.parse_args()
    folder = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared" / "data")) / FOLDER
    if not folder.is_dir():
        sys.exit(
            f"{folder}: expected the images of BBBC005, found no folder. Set CELLMILL_DATA to the folder above it."
        )
    paths = find_images(folder)
    comparison = compare(paths, images=chosen.images)
    print("\n".join([*describe_foreground(comparison), "", *describe_distances(distances(comparison))]))
    by_plate = {plate: path for path, plate in paths.items()}
    plates = [Plate(27, 1, "w1"), Plate(83, 1, "w1"), Plate(23, 1, "w2"), Plate(61, 1, "w2")]
    pairs = [(plate, tifffile.imread(by_plate[plate]), simulate_plate(plate, images=1)[0]) for plate in plates]
    draw_figure(pairs, comparison).save(chosen.figure, optimize=True)


if __name__ == "__main__":
    main()
