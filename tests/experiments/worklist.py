"""Is the order of the worklist better than chance? Networks trained on images from its head and on random ones.

``make worklist`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: 66 images of DSB 2018 (BBBC038) of all kinds, drawn by a hash, and the 35 frames of Fluo-N2DL-HeLa as single
  images, whose neighbours are nearly alike. A third of the images is tested, the last frames of the time-lapse.
- Draws: three. In each, FIRST images are annotated at random, and a tenth of the images, at least 3, is for validation.
  `default` is trained on them with STEPS steps from random weights, and writes the worklist of all others.
- Arms: the first FIRST images of the worklist are annotated as well, or FIRST random ones. `default` is trained again on
  twice as many images.
- Score: Kaggle's AP and AP at an IoU of 0.5 of the final objects, mean over the test images. The difference of the arms
  is paired by image, and its interval is a bootstrap over test images of the mean over the draws.
"""

import csv
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data, run_pipeline  # noqa: E402  the module is found here

FIRST, STEPS, VALIDATIONS, DRAWS = 5, 300, 3, 3
MODEL = {"preset": "default", "start": None, "train": {"steps": STEPS, "epochs": VALIDATIONS}}
ARMS = ("worklist", "random")
METRICS = ("ap_kaggle", "ap_0.50")
REPLICATES = 2000


def find_files(data: Path) -> dict[str, dict[str, tuple[Path, Path]]]:
    """Find the images and label images of both sets: set -> sample -> files; the last third is tested."""
    from cellmill.shards import stable_hash

    folder = data / "dsb2018_more/stage1_train"
    names = sorted(
        (path.stem for path in (folder / "images").glob("*.png")), key=lambda n: stable_hash(n, purpose="study")
    )
    sequence = data / "ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa"
    frames = sorted(sequence.glob("01/t*.tif")) or sorted(sequence.glob("02/t*.tif"))
    return {
        "dsb2018": {name: (folder / f"images/{name}.png", folder / f"labels/{name}.png") for name in names[:66]},
        "hela": {
            path.stem: (path, path.parent.with_name(f"{path.parent.name}_RES") / path.name.replace("t", "mask", 1))
            for path in frames
        },
    }


def cut(samples: list[str], *, draw: int) -> dict[str, list[str]]:
    """Cut samples into test, validation, train (FIRST images) and the pool of all others."""
    tested = samples[-(len(samples) // 3) :]
    left = samples[: -len(tested)]
    order = [left[number] for number in np.random.default_rng(draw).permutation(len(left))]
    validated = max(3, len(samples) // 10)
    return {
        "test": tested,
        "validation": order[:validated],
        "train": order[validated : validated + FIRST],
        "pool": order[validated + FIRST :],
    }


def write_dataset(folder: Path, files: dict[str, tuple[Path, Path]], parts: dict[str, list[str]]) -> dict[str, Any]:
    """Link all images and the labels of annotated ones, write the split, and return the section of the config."""
    shutil.rmtree(folder, ignore_errors=True)
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True)
    annotated = {sample: part for part, samples in parts.items() for sample in samples if part != "pool"}
    for sample, (image, labels) in files.items():
        (folder / f"images/{sample}{image.suffix}").symlink_to(image.resolve())
        if sample in annotated:
            (folder / f"labels/{sample}{labels.suffix}").symlink_to(labels.resolve())
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("sample", "split"), *sorted(annotated.items())])
    suffixes = {image.suffix for image, _ in files.values()}, {labels.suffix for _, labels in files.values()}
    [image_suffix], [label_suffix] = suffixes
    return {
        "images": f"{folder.name}/images/{{sample}}{image_suffix}",
        "annotations": {
            "format": "label_image",
            "path": f"{folder.name}/labels/{{sample}}{label_suffix}",
            "missing": "unlabelled",
        },
        "split": {"table": f"{folder.name}/split.csv"},
        "models": [MODEL],
    }


def read_scores(path: Path) -> dict[str, dict[str, float]]:
    """Read the scores of the final objects of the test images: sample -> metric -> value."""
    with path.open(newline="", encoding="utf-8") as stream:
        return {
            row["sample"]: {name: float(row[name]) for name in METRICS}
            for row in csv.DictReader(stream)
            if (row["split"], row["stage"], row["geometry"]) == ("test", "postprocessed", "raw")
        }


def main() -> None:
    """Run missing jobs and print the table."""
    folder, data = ROOT / "worklist", find_data()
    folder.mkdir(exist_ok=True)
    found = find_files(data)
    places = [(name, draw) for name in found for draw in range(1, DRAWS + 1)]
    parts = {(name, draw): cut(list(found[name]), draw=draw) for name, draw in places}
    sections = {
        f"{name}{draw}": write_dataset(folder / f"{name}{draw}", found[name], parts[name, draw])
        for name, draw in places
    }
    run_pipeline(folder, data, {"seed": 1, "datasets": sections}, until=("worklist",))
    arms = {}
    for name, draw in places:
        with (folder / f"results/{name}{draw}/worklist.csv").open(newline="", encoding="utf-8") as stream:
            listed = [row["sample"] for row in csv.DictReader(stream) if row["part"] == "unlabelled"]
        own = parts[name, draw]
        for arm, chosen in zip(ARMS, (listed[:FIRST], own["pool"][:FIRST]), strict=True):
            more = {**own, "train": [*own["train"], *chosen]}
            arms[f"{name}{draw}{arm}"] = write_dataset(folder / f"{name}{draw}{arm}", found[name], more)
    run_pipeline(folder, data, {"seed": 1, "datasets": arms}, until=("evaluate",))
    print(f"| data | score | {FIRST} images | {2 * FIRST}, random | {2 * FIRST}, worklist | difference |")
    print("|---|---|---|---|---|---|")
    for name in found:
        for metric in METRICS:
            means = {
                arm: np.mean(
                    [
                        [
                            one[metric]
                            for _, one in sorted(read_scores(folder / f"results/{name}{draw}{arm}/scores.csv").items())
                        ]
                        for draw in range(1, DRAWS + 1)
                    ],
                    axis=0,
                )
                for arm in ("", *ARMS)
            }
            paired = means["worklist"] - means["random"]
            draws = np.random.default_rng(0).integers(len(paired), size=(REPLICATES, len(paired)))
            low, high = np.quantile(paired[draws].mean(axis=1), (0.025, 0.975))
            values = " | ".join(f"{means[arm].mean():.3f}" for arm in ("", "random", "worklist"))
            print(f"| {name} | {metric} | {values} | {paired.mean():+.3f} ({low:+.3f} to {high:+.3f}) |", flush=True)


if __name__ == "__main__":
    main()
