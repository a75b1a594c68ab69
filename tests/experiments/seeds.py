"""How good is the preset `default` on the test images of the 2018 Data Science Bowl? Three seeds, and the shipped start.

``make seeds`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: the 60 images of `dsb2018/stage1_train`, of which 10 are for validation and 50 are trained on (a random
  permutation of the sorted names, seed 1), and the 40 of `dsb2018/stage1_test`, which are only scored.
- Runs: `classical`; `default` from random weights with STEPS steps; `default` from the shipped model `nuclei`, whose
  training images are others of the same competition, with STARTED_STEPS; and `nuclei` applied. 3,000 steps are 15 minutes
  on two idle cores without AMX, 1,000 are five.
- Scores: Kaggle's AP, AP at an IoU of 0.5, SEG and Dice of the final objects, mean over the test images and seeds, each
  seed alone, and the difference to `classical`, paired, with the interval of the pipeline's own bootstrap over images
  and seeds.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from skimage import io

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data, run_pipeline, say_difference  # noqa: E402  the module is found here

SEEDS, STEPS, STARTED_STEPS, VALIDATED = [1, 2, 3], 3000, 1000, 10
METRICS = ("ap_kaggle", "ap_0.50", "seg", "dice")
DATASET = "task"
RUNS = ("classical", "scratch", "started", "nuclei")


def read_runs(path: Path) -> dict[str, np.ndarray]:
    """Read the solution of the test images, runs down the columns: image -> labels."""
    labels: dict[str, np.ndarray] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            shape = int(row["Height"]), int(row["Width"])
            flat = labels.setdefault(row["ImageId"], np.zeros(shape[::-1], np.uint16)).reshape(-1)
            numbers = np.array(row["EncodedPixels"].split(), dtype=int)
            number = int(flat.max()) + 1
            for first, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
                flat[first : first + length] = number
    return {name: found_xy.T for name, found_xy in labels.items()}


def join_masks(folder: Path) -> np.ndarray:
    """Join the masks of one training image into labels."""
    masks = [io.imread(path) > 0 for path in sorted(folder.glob("*.png"))]
    labels_yx = np.zeros(masks[0].shape, np.uint16)
    for number, mask_yx in enumerate(masks, start=1):
        labels_yx[mask_yx] = number
    return labels_yx


def write_dataset(folder: Path, data: Path) -> dict[str, Any]:
    """Link the images, write labels and split, and return the section of the config."""
    names = {part: sorted(path.name for path in (data / part).iterdir()) for part in ("stage1_train", "stage1_test")}
    truth = read_runs(data / "stage1_solution.csv")
    order = np.random.default_rng(1).permutation(len(names["stage1_train"]))
    validated = {names["stage1_train"][place] for place in order[:VALIDATED]}
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    rows = []
    for part, of_part in names.items():
        for name in of_part:
            image, label = folder / f"images/{name}.png", folder / f"labels/{name}.png"
            if not image.exists():
                [source] = (data / part / name / "images").glob("*.png")
                image.symlink_to(source.resolve())
            if not label.exists():
                is_test = part == "stage1_test"
                labels_yx = truth[name] if is_test else join_masks(data / part / name / "masks")
                io.imsave(label, labels_yx, check_contrast=False)
            rows.append((name, "test" if part == "stage1_test" else "validation" if name in validated else "train"))
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("sample", "split"), *rows])
    default = {"preset": "default", "seeds": SEEDS}
    return {
        "images": f"{folder.name}/images/{{sample}}.png",
        "annotations": {"format": "label_image", "path": f"{folder.name}/labels/{{sample}}.png"},
        "split": {"table": f"{folder.name}/split.csv"},
        "models": [
            "classical",
            {**default, "name": "scratch", "start": None, "train": {"steps": STEPS}},
            {**default, "name": "started", "init_from": "nuclei", "train": {"steps": STARTED_STEPS}},
            {"apply": "nuclei"},
        ],
    }


def main() -> None:
    """Run missing jobs and print the table."""
    from cellmill.reports.verdict import find_difference, find_mean, find_number, read_table

    folder, data = ROOT / "seeds", find_data()
    folder.mkdir(exist_ok=True)
    section = write_dataset(folder / DATASET, data / "dsb2018")
    run_pipeline(folder, data, {"seed": 1, "datasets": {DATASET: section}}, threads=2)
    metrics, pairs = (read_table(folder / f"results/{DATASET}/{name}.csv") for name in ("metrics", "comparisons"))
    print("| run | AP (Kaggle) | AP 0.5 | SEG | Dice | AP (Kaggle) of the seeds | minus classical |")
    print("|---|---:|---:|---:|---:|---|---|")
    for run in RUNS:
        means = [find_mean(pairs, model=run, metric=metric) for metric in METRICS]
        seeds = [find_number(metrics, model=run, seed=seed, metric="ap_kaggle") for seed in SEEDS]
        each = ", ".join(f"{number.value:.3f}" for number in seeds if number is not None)
        paired = find_difference(pairs, model=run, against="classical", metric="ap_kaggle")
        cells = " | ".join("" if mean is None else f"{mean.value:.3f}" for mean in means)
        print(f"| {run} | {cells} | {each} | {say_difference(paired)} |", flush=True)


if __name__ == "__main__":
    main()
