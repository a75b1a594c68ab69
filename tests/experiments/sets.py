"""Is the preset `default` better than no network, on images of any kind? Seven sets, 1,500 steps of training each.

``make sets`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: BBBC039 (18 images), LIVECell (15, by well), Fluo-N2DL-HeLa (35 frames, in blocks), yeast (10 frames, in blocks),
  Sartorius (5), Usiigaci (8), bacteria (20 frames, in blocks). Half of the images is trained on, a fifth is for
  validation, the rest is tested.
- Runs: `classical` and `default`, as a dataset gets them that names no model, but with STEPS steps, about a third of
  `default`'s own 15 minutes, so that the machine's load does not matter. `default` takes the shipped start where its own
  rule says so.
- Scores: Kaggle's AP and AP at an IoU of 0.5 of the final objects, mean over the test images, with the interval of the
  pipeline's own bootstrap; the difference is paired.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data, read_section, run_pipeline, say_difference  # noqa: E402  the module is found here

DESCRIBED = ("bbbc039", "livecell", "ctc_fluo_n2dl_hela", "yeast_timelapse", "sartorius_cell_instance")
OTHERS: dict[str, dict[str, Any]] = {
    "usiigaci_t98g_phase": {
        "images": "usiigaci_t98g_phase/images/{sample}.png",
        "annotations": {"format": "label_image", "path": "usiigaci_t98g_phase/labels/{sample}.png"},
    },
    "bacteria_trpl_timelapse": {
        "images": "bacteria_trpl_timelapse/images/t{frame}.png",
        "annotations": {"format": "label_image", "path": "bacteria_trpl_timelapse/labels/t{frame}.png"},
        "split": {"by": "blocks"},
    },
}
SHARES = {"train": 0.5, "validation": 0.2, "test": 0.3}
FLOOR, MODEL = "classical", "default"
STEPS = 1500


def make_config() -> dict[str, Any]:
    """Make the config, whose paths start in the folder of the data."""
    datasets = {name: read_section(name) for name in DESCRIBED} | OTHERS
    for section in datasets.values():
        section["split"] = {**section.get("split", {}), **SHARES}
        section["models"] = [FLOOR, {"preset": MODEL, "train": {"steps": STEPS}}]
    return {"seed": 1, "datasets": datasets}


def main() -> None:
    """Run missing jobs and print the table."""
    from cellmill.reports.verdict import find_difference, find_number, read_table

    folder, config = ROOT / "sets", make_config()
    run_pipeline(folder, find_data(), config, threads=2)
    print("| data | AP (Kaggle) of classical | of default | difference | AP 0.5 of classical | of default |")
    print("|---|---|---|---|---|---|")
    for name in config["datasets"]:
        metrics, pairs = (
            read_table(folder / "results" / name / f"{table}.csv") for table in ("metrics", "comparisons")
        )
        found = {
            (model, metric): find_number(metrics, model=model, seed=1, metric=metric)
            for model in (FLOOR, MODEL)
            for metric in ("ap_kaggle", "ap_0.50")
        }
        cells = ["" if number is None else f"{number.value:.3f}" for number in found.values()]
        paired = find_difference(pairs, model=MODEL, against=FLOOR, metric="ap_kaggle")
        print(f"| {name} | {cells[0]} | {cells[2]} | {say_difference(paired)} | {cells[1]} | {cells[3]} |", flush=True)


if __name__ == "__main__":
    main()
