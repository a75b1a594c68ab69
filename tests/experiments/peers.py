"""Is the preset `default` better than StarDist and Cellpose, each trained for 15 minutes on the same images?

``make peers`` runs the study on two cores and prints its table; an interrupted run resumes with what is missing. The
protocol below was written and committed before the first of these trainings.

- Data: BBBC039 (18 images) and LIVECell (15, by well), as in `make sets`: half is trained on, a fifth is for validation,
  the rest is tested.
- Runs: `classical` and `default` with its own 15 minutes; where it starts from the shipped model, also `scratch`, the
  same from random weights (added before any score was looked at); StarDist 0.9.2 and Cellpose 3.1.1.3 from random weights, with
  the settings of their own documentation, see the folder peer_programs. Each has both cores for 15 minutes of training.
  Their masks of all images enter the report as `masks` runs.
- Scores: Kaggle's AP and AP at an IoU of 0.5 of the final objects, mean over the test images, and the paired difference
  of `default` to each, with the interval of the pipeline's own bootstrap.
"""

import csv
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data, read_section, run_pipeline, say_difference  # noqa: E402  the module is found here

DATASETS = ("bbbc039", "livecell")
WITH_START = ("bbbc039",)  # where `default` starts from `nuclei`
SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}
MINUTES = 15
# Program -> its packages, in an environment of their own, because their pins contradict ours and each other's
PROGRAMS = {
    "stardist": ("stardist==0.9.2", "csbdeep==0.8.2", "tensorflow-cpu==2.21.0"),
    "cellpose": ("cellpose==3.1.1.3", "torch==2.13.0"),
}


def make_config(*, with_masks: bool) -> dict[str, Any]:
    """Make the config, whose paths start in the folder of the data."""
    datasets = {}
    for name in DATASETS:
        section = read_section(name)
        section["split"] = {**section.get("split", {}), **SHARES}
        default = {"preset": "default", "train": {"minutes": MINUTES}}
        section["models"] = ["classical", default]
        if name in WITH_START:
            section["models"].append({**default, "name": "scratch", "start": None})
        if with_masks:
            section["models"] += [
                {"masks": f"masks/{program}/{name}/{{sample}}.tif", "name": program} for program in PROGRAMS
            ]
        datasets[name] = section
    return {"seed": 1, "datasets": datasets}


def write_images(folder: Path, name: str) -> Path:
    """Write each image with its labels and its part of the split for the other programs, and return their folder.

    Nothing is subtracted from these images, so the preprocessed ones are the raw ones.
    """
    from cellmill.images.stored import read_labels

    results, target = folder / "results" / name, folder / "images" / name
    target.mkdir(parents=True, exist_ok=True)
    with (results / "samples.csv").open(newline="", encoding="utf-8") as stream:
        parts = {row["sample"]: row["split"] for row in csv.DictReader(stream)}
    for path in results.glob("images/*/*.tif"):
        if path.stem in parts:
            image_yx, part = np.asarray(tifffile.imread(path)), parts[path.stem]
            labels_yx = np.zeros(image_yx.shape, np.int32)
            if part != "test":
                labels_yx[:] = read_labels(results / "labels" / path.parent.name / path.name)
            np.savez(target / f"{path.stem}.npz", image=image_yx, labels=labels_yx, part=part)
    return target


def run_program(program: str, folder: Path, name: str) -> None:
    """Train another program and write its masks, unless they are there."""
    images, masks = folder / "images" / name, folder / "masks" / program / name
    if masks.exists():
        return
    home = folder / "environments" / program
    if not (home / "done").exists():
        venv.create(home, with_pip=True)
        subprocess.run([home / "bin/pip", "install", "--quiet", *PROGRAMS[program]], check=True)
        (home / "done").touch()
    partial = masks.with_name(f"{name}.partial")
    script = Path(__file__).parent / f"peer_programs/{program}_run.py"
    subprocess.run([home / "bin/python", script, images, partial, str(MINUTES)], check=True)
    partial.rename(masks)


def main() -> None:
    """Run what is missing and print the table."""
    from cellmill.reports.verdict import find_difference, find_mean, read_table

    folder, data = ROOT / "peers", find_data()
    run_pipeline(folder, data, make_config(with_masks=False), until=("preprocess", "rasterize"))
    for name in DATASETS:
        write_images(folder, name)
        for program in PROGRAMS:
            run_program(program, folder, name)
    run_pipeline(folder, data, make_config(with_masks=True), threads=2)
    print("| data | run | AP (Kaggle) | AP 0.5 | default minus this |\n|---|---|---:|---:|---|")
    for name in DATASETS:
        pairs = read_table(folder / f"results/{name}/comparisons.csv")
        for run in ("classical", "default", "scratch", *PROGRAMS):
            means = [find_mean(pairs, model=run, metric=metric) for metric in ("ap_kaggle", "ap_0.50")]
            cells = " | ".join("" if mean is None else f"{mean.value:.3f}" for mean in means)
            paired = find_difference(pairs, model="default", against=run, metric="ap_kaggle")
            print(f"| {name} | {run} | {cells} | {say_difference(paired)} |", flush=True)


if __name__ == "__main__":
    main()
