"""How many annotated images does each kind of model need? 5, 10, 20 and 50 of DSB 2018, scored on 40 others.

``make curve`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: the images of `make seeds`: 50 of `stage1_train` are trained on, 10 are for validation, and the 40 of
  `stage1_test` are only scored. Subsets are nested: of a random permutation of the 50, the first 5, 10 and 20.
- Runs: `default` from random weights and from the shipped model `nuclei`, 1,000 steps each (five minutes on two idle
  cores without AMX); `sartorius_unet`, the preset that was the default before, at a quarter of its width, with patches of
  128 px, flows and as many steps; `classical`, whose numbers are chosen on the validation images.
- Score: Kaggle's AP of the final objects, mean over the 40 images, with the interval of the pipeline's own bootstrap.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests"), str(ROOT / "tests/experiments")]

from seeds import write_dataset  # noqa: E402

from real_runs import find_data, run_pipeline  # noqa: E402  the module is found here

NUMBERS, STEPS = (5, 10, 20, 50), 1000
LENGTH = {"steps": STEPS, "epochs": 3}
MODELS: tuple[Any, ...] = (
    "classical",
    {"preset": "default", "name": "scratch", "start": None, "train": LENGTH},
    {"preset": "default", "name": "started", "init_from": "nuclei", "train": LENGTH},
    {
        "preset": "sartorius_unet",
        "name": "before",
        "width": 0.25,
        "network": {"output": "flow"},
        "train": {**LENGTH, "patch": [128, 128], "batch": 8, "loss": {"name": "flow"}},
    },
)
RUNS = ("classical", "scratch", "started", "before")


def left_out(folder: Path, *, number: int) -> list[str]:
    """Return the files of the training images that a subset leaves out."""
    with (folder / "task/split.csv").open(newline="", encoding="utf-8") as stream:
        names = sorted(row["sample"] for row in csv.DictReader(stream) if row["split"] == "train")
    return [f"{names[place]}.png" for place in np.random.default_rng(1).permutation(len(names))[number:]]


def main() -> None:
    """Run missing jobs and print the table."""
    from cellmill.reports.verdict import find_number, read_table

    folder, data = ROOT / "curve", find_data()
    folder.mkdir(exist_ok=True)
    section = write_dataset(folder / "task", data / "dsb2018")
    datasets = {
        f"images{number}": {
            **section,
            "exclude": left_out(folder, number=number),
            "models": list(MODELS),
        }
        for number in NUMBERS
    }
    run_pipeline(folder, data, {"seed": 1, "datasets": datasets}, threads=2)
    print(f"| AP (Kaggle) | {' | '.join(f'{number} images' for number in NUMBERS)} |\n|---|{'---|' * len(NUMBERS)}")
    for run in RUNS:
        cells = []
        for number in NUMBERS:
            metrics = read_table(folder / f"results/images{number}/metrics.csv")
            found = find_number(metrics, model=run, seed=1, metric="ap_kaggle")
            cells.append("" if found is None else f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})")
        print(f"| {run} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
