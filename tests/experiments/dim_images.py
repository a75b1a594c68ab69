"""What does `default` find in images with few, dim or no objects, with and without a least contrast?

``make dim-images`` runs the study on two cores and prints its table; an interrupted run resumes.

- Data: the 17 images of BBBC039 with nuclei. Nine are trained on and four are for validation, by sorted name. From the
  four others images are drawn: their nuclei at 30, 10 and 5 % of the brightness above the background, one nucleus, and
  none. The background is replaced by a smooth one with the noise that the image has between its nuclei, shuffled and
  therefore white. It stays the same at all brightnesses, as with a shorter exposure of a camera with read noise. The
  18th image, which has no nucleus, is tested as it is.
- Runs: `default` from random weights, STEPS steps, without a least contrast, with that of `default`, and with twice its
  largest value; and from `nuclei`, whose images are normalised by percentiles, with that of `default`. No training image
  is below the least contrast, so that the first three trainings are the same.
- Score: Kaggle's AP of the final objects (1 for an image without objects in which none is found, 0 if some are), and the
  number of objects, by kind of image.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from scipy import ndimage
from skimage import io
from skimage.measure import label

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from cellmill.annotations.color_components import number_colours  # noqa: E402  the module is found here
from real_runs import find_data, run_pipeline  # noqa: E402  the module is found here

STEPS, TRAINED, VALIDATED = 600, 9, 4
DATASET = "task"
BRIGHTNESSES = {"30": 0.3, "10": 0.1, "5": 0.05}
# Margin around nuclei that is not background, and around a single nucleus that is kept; smoothing of the background, px
MARGIN_PX, KEPT_PX, SMOOTH_PX = 12, 8, 40
RUNS = {
    "free": {"start": None, "input": {"min_contrast": 0.0}},
    "limited": {"start": None, "input": {"min_contrast": "auto"}},
    "twice": {"start": None, "input": {"min_contrast": 12.0}},
    "started": {"init_from": "nuclei", "input": {"min_contrast": "auto"}},
}


def read_objects(path: Path) -> np.ndarray:
    """Read objects of different colours as labels."""
    return label(number_colours(io.imread(path), axes="YXS"), connectivity=2).astype(np.uint16)


def draw(image_yx: np.ndarray, labels_yx: np.ndarray, *, rng: np.random.Generator) -> dict[str, tuple]:
    """Draw images with dim nuclei, with one, and without: kind -> image, labels."""
    near_yx = ndimage.binary_dilation(labels_yx > 0, iterations=MARGIN_PX)
    weight_yx = ndimage.gaussian_filter((~near_yx).astype(float), SMOOTH_PX)
    smooth_yx = ndimage.gaussian_filter(np.where(near_yx, 0, image_yx), SMOOTH_PX) / np.maximum(weight_yx, 1e-6)
    rest = (image_yx - smooth_yx)[~near_yx]
    # Traces of nuclei beyond the margin are not noise.
    noise_yx = rng.choice(rest[np.abs(rest) < 4 * np.median(np.abs(rest))], image_yx.shape)
    level = np.median(smooth_yx)
    empty_yx = smooth_yx.clip(level - 10, level + 10) + noise_yx
    nuclei_yx = np.where(near_yx, image_yx - smooth_yx, 0)
    drawn = {kind: (empty_yx + share * nuclei_yx, labels_yx) for kind, share in BRIGHTNESSES.items()}
    chosen = rng.choice(np.unique(labels_yx[labels_yx > 0]))
    around_yx = ndimage.binary_dilation(labels_yx == chosen, iterations=KEPT_PX) & np.isin(labels_yx, (0, chosen))
    drawn["one"] = np.where(around_yx, image_yx, empty_yx), (labels_yx == chosen).astype(np.uint16)
    drawn["none"] = empty_yx, np.zeros_like(labels_yx)
    return drawn


def write_dataset(folder: Path, data: Path) -> None:
    """Write images, labels and split."""
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    rows, number = [], 0
    for path in sorted((data / "images").iterdir()):
        image_yx, labels_yx = io.imread(path).astype(float), read_objects(data / "masks" / f"{path.stem}.png")
        drawn, part = {"all": (image_yx, labels_yx)}, "test"
        if not labels_yx.any():
            drawn = {"real": drawn["all"]}
        elif number < TRAINED + VALIDATED:
            part = "train" if number < TRAINED else "validation"
        else:
            drawn |= draw(image_yx, labels_yx, rng=np.random.default_rng(number))
        number += int(labels_yx.any())
        for kind, (values_yx, of_kind_yx) in drawn.items():
            name = f"{kind}_{path.stem}"
            tifffile.imwrite(folder / f"images/{name}.tif", np.rint(values_yx).clip(0, 65535).astype(np.uint16))
            tifffile.imwrite(folder / f"labels/{name}.tif", of_kind_yx)
            rows.append((name, part))
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("sample", "split"), *rows])


def main() -> None:
    """Run missing jobs and print the table."""
    folder, data = ROOT / "dim-images", find_data()
    if not (folder / DATASET / "split.csv").exists():
        write_dataset(folder / DATASET, data / "bbbc039")
    section = {
        "images": f"{DATASET}/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"{DATASET}/labels/{{sample}}.tif"},
        "split": {"table": f"{DATASET}/split.csv"},
        "models": [
            {"preset": "default", "name": name, "train": {"steps": STEPS}, **changes} for name, changes in RUNS.items()
        ],
    }
    run_pipeline(folder, data, {"seed": 1, "datasets": {DATASET: section}}, threads=2)
    scores = pd.read_csv(folder / f"results/{DATASET}/scores.csv")
    scores = scores[(scores["stage"] == "postprocessed") & (scores["split"] == "test")]
    scores = scores.assign(kind=scores["sample"].str.split("_").str[0])
    means = scores.pivot_table(index="kind", columns="model", values=["ap_kaggle", "n_true", "n_predicted"])
    for what, column in (("AP (Kaggle)", "ap_kaggle"), ("objects", "n_predicted")):
        print(f"| {what} | nuclei | {' | '.join(RUNS)} |\n|---|---:|{'---:|' * len(RUNS)}")
        for kind in ("all", *BRIGHTNESSES, "one", "none", "real"):
            cells = [f"{means.loc[kind][column, run]:.3g}" for run in RUNS]
            print(f"| {kind} | {means.loc[kind]['n_true', 'free']:.3g} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
