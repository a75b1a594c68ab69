"""Are the learning rate, the batch and the augmentation of the preset `default` well chosen? One change at a time.

``make recipe`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: the 60 images of `dsb2018/stage1_train` in three folds: a third is trained on, a third is for validation, a third
  is tested. Every image is a test image once.
- Arms: `default` from random weights with STEPS steps, and the same with one change each, see ARMS. All see the same
  number of patches, which takes about the same time.
- Score: Kaggle's AP of the final objects, mean over the test images, and the paired difference to `default` with the
  interval of the pipeline's own bootstrap over images.
- A change goes into the preset if it is surely better, that is, if its interval lies above 0, and if the same comparison
  on LIVECell (``make recipe-confirmed``, by well) is not below 0. Of several such changes the one with the largest gain
  is taken. Otherwise the preset stays: a longer training needs a smaller learning rate and more augmentation than this
  one, so that an advantage of less augmentation that is not sure would not last.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests"), str(ROOT / "tests/experiments")]

from parts import FLIPS_ONLY  # noqa: E402  the module is found here

from real_runs import find_data, read_section, run_pipeline, say_difference  # noqa: E402

STEPS, VALIDATIONS = 1000, 4
METRIC = "ap_kaggle"
# Name of the run -> what is said in the table, and what differs from the preset
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "slower": ("learning rate 0.001", {"optimiser": {"learning_rate": 0.001}}),
    "faster": ("learning rate 0.006", {"optimiser": {"learning_rate": 0.006}}),
    "small": ("twice as many steps of 4 patches", {"batch": 4, "steps": 2 * STEPS}),
    "flips": ("flips and quarter turns only", {"augmentation": FLIPS_ONLY}),
}


def make_config(name: str, arms: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """Make the config of one dataset, whose paths start in the folder of the data."""
    section = read_section(name)
    groups = {key: value for key, value in section.get("split", {}).items() if key == "group_by"}
    section["split"] = {**groups, "folds": 3}
    section["models"] = [
        {"preset": "default", "name": run, "start": None, "train": {"steps": STEPS, "epochs": VALIDATIONS, **changes}}
        for run, changes in {"default": {}, **{run: changes for run, (_, changes) in arms.items()}}.items()
    ]
    return {"seed": 1, "datasets": {name: section}}


def main(*, name: str, confirmed: list[str]) -> None:
    """Run missing jobs and print the table, on LIVECell of the arms to be confirmed alone."""
    from cellmill.reports.verdict import find_difference, find_number, read_table

    arms = {run: ARMS[run] for run in confirmed} if confirmed else ARMS
    folder = ROOT / "recipe" / name
    folder.parent.mkdir(exist_ok=True)
    run_pipeline(folder, find_data(), make_config(name, arms))
    results = folder / "results" / name
    scores, pairs = (read_table(results / f"{table}.csv") for table in ("metrics", "comparisons"))
    mean = find_number(scores, model="default", seed=1, metric=METRIC)
    print(f"| change | {name} |\n|---|---|\n| none | {'' if mean is None else f'{mean.value:.3f}'} |")
    for run, (title, _) in arms.items():
        difference = find_difference(pairs, model=run, against="default", metric=METRIC)
        print(f"| {title} | {say_difference(difference)} |", flush=True)


if __name__ == "__main__":
    main(name="livecell" if sys.argv[1:] else "dsb2018", confirmed=sys.argv[1:])
