"""Is tuning the borders of predicted masks worth it? Paper 4's chain on real images, three models, three seeds.

``make tuning`` runs the study on two cores and prints its tables. The protocol below was written and committed before
the first of these trainings. The part on thirds was written after the first results were seen and before its own
trainings.

- Data: DSB 2018 (60 images), BBBC039 (18), LIVECell (15), split .6, .2, .2 by the pipeline's own rule (LIVECell by
  well).
- Models: U-Net of paper 4, FCRN-A of paper 5, U-Net of paper 3, at a quarter, a half and an eighth of the width; 10
  epochs in batches of 16 patches of 64 x 64 px, 16 patches per image, Adam, .003, cosine, flips and quarter turns;
  seeds 1, 2, 3. The presets keep the epoch of the lowest validation loss; the committed protocol said the last one.
- Arms, on the same probabilities and at the threshold with the best MCC on the validation images: no tuning; the
  paper's SVM (degree 3, coef0 0, raw features); ours (standardised, coef0 1); ours at three scales (0, 1, 2 px);
  Gaussian Bayes. Each is trained on 50 boundary pixels of every training image, and always applied. "If better" is
  ours, applied only where the mean Dice of the validation images rises, which is the pipeline's default.
- Scores on test images: Dice coefficient of the mask, and Kaggle's AP of watershed objects, with depth and smallest
  area chosen on the validation images for each arm. Means are over images for which all of these are known.
- Intervals: 2.5 to 97.5 % of 2,000 bootstraps over the images of a data set. The three seeds are repeats and are
  averaged; differences to no tuning are paired by image and seed. All are reported for each model and data set,
  whatever the outcome.

Thirds. The rule puts 1 of 18 images of BBBC039 and 2 of 15 of LIVECell into the test part, and the only validation
image of BBBC039 contains no nucleus. So both sets are run again: wells, or images where there are none, are ordered by
a hash and dealt into three thirds, each of which is the test part once; every third of the others is for validation.
Seed k belongs to third k. All else is as above. Every image is a test image once, and intervals are over images.
"""

import csv
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  after the number of threads is set

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data, read_section, run_pipeline  # noqa: E402  the module is found here

DATASETS = ("dsb2018", "bbbc039", "livecell")
MODELS = {"sartorius_unet": 0.25, "fcrn_a": 0.5, "unet_isbi": 0.125}
SEEDS = (1, 2, 3)
THIRDS = ("bbbc039", "livecell")
RECIPE: dict[str, Any] = {
    "epochs": 10, "batch": 16, "patch": [64, 64], "patches_per_image": 16,
    "optimiser": {"name": "adam", "learning_rate": 0.003}, "schedule": {"name": "cosine"},
    "augmentation": {"flip": True, "rotate_90": True},
}  # fmt: skip
PAPER: dict[str, Any] = {"classifier": "svm", "standardise": False, "coef0": 0.0, "scales_px": [0.0]}
OURS: dict[str, Any] = {"classifier": "svm", "standardise": True, "coef0": 1.0, "scales_px": [0.0]}
ARMS: dict[str, dict[str, Any]] = {
    "none": {"classifier": "none"},
    "SVM of paper 4": {**PAPER, "apply": "always"},
    "SVM, ours": {**OURS, "apply": "always"},
    "SVM, three scales": {**OURS, "scales_px": [0.0, 1.0, 2.0], "apply": "always"},
    "Bayes": {**OURS, "classifier": "bayes", "apply": "always"},
    "SVM, ours, if better": {**OURS, "apply": "if_better"},
}
REPLICATES = 2000
WORKERS = 2


def make_config() -> dict[str, Any]:
    """Make the config, whose paths start in the folder of the data."""
    datasets = {}
    for name in DATASETS:
        section = read_section(name)
        section["split"] = {**section.get("split", {}), "train": 0.6, "validation": 0.2, "test": 0.2}
        section["models"] = [
            {"preset": preset, "width": width, "seeds": list(SEEDS), "train": RECIPE}
            for preset, width in MODELS.items()
        ]
        # Fitted once by the pipeline itself, for readers of its report; the arms are fitted below.
        section["postprocess"] = {"boundary": {"classifier": "none"}}
        datasets[name] = section
    return {"seed": 0, "datasets": datasets}


def make_thirds(folder: Path, samples: Path) -> dict[str, Any]:
    """Deal the images of two data sets into thirds, write split tables, and return a config: a dataset per third."""
    from cellmill.shards import stable_hash

    datasets = {}
    for name in THIRDS:
        with (samples / name / "samples.csv").open(newline="") as stream:
            groups = {row["sample"]: row["group"] or row["sample"] for row in csv.DictReader(stream)}
        dealt = sorted(set(groups.values()), key=lambda group: stable_hash(group, purpose="thirds"))
        for seed in SEEDS:
            others = [group for number, group in enumerate(dealt) if number % 3 != seed - 1]
            table = folder / f"{name}_{seed}.csv"
            with table.open("w", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(["sample", "split"])
                for sample, group in groups.items():
                    part = "test" if group not in others else "train" if others.index(group) % 3 else "validation"
                    writer.writerow([sample, part])
            section = make_config()["datasets"][name]
            for model in section["models"]:
                model["seeds"] = [seed]
            datasets[f"{name}_third{seed}"] = section | {"split": {"table": table.name}}
    return {"seed": 0, "datasets": datasets}


def judge(folder: Path, dataset: str, run: str) -> dict[str, dict[str, list[float]]]:
    """Score the test images of one run in each arm: arm -> score -> one value per image, ordered by sample."""
    os.chdir(folder)
    from cellmill.config.postprocess import Postprocess
    from cellmill.images.stored import IGNORE_LABEL
    from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
    from cellmill.metrics.pixel import count_pixels, score_pixels
    from cellmill.objects.frames import list_frames
    from cellmill.objects.instances import keep_objects, make_masks, segment_image
    from cellmill.objects.tuning import fit_frames
    from cellmill.planning.make import make_plan

    plan = make_plan(json.loads(Path("config.json").read_text()), presets_dir=ROOT / "resources/models")
    results = Path("results") / dataset
    frames = {
        part: [
            frame
            for shard in plan.shards(dataset, parts=(part,))
            for frame in list_frames(
                results / "images" / shard, results / run / "probabilities" / shard, labels=results / "labels" / shard
            )
        ]
        for part in ("train", "validation", "test")
    }
    scores: dict[str, dict[str, list[float]]] = {}
    for arm, changes in ARMS.items():
        section = Postprocess(boundary=changes).model_dump(mode="json")
        fitted = fit_frames(frames["train"], frames["validation"], settings=section, output="foreground", seed=0)
        scores[arm] = {"Dice": [], "AP": []}
        for frame in sorted(frames["test"], key=lambda frame: frame.sample):
            truth_yx, image_yx, maps_cyx = frame.read_truth(), frame.read_image(), frame.read_maps()
            known_yx, valid_yx = truth_yx != IGNORE_LABEL, frame.find_valid()
            seen = {"valid_yx": valid_yx, "grey": frame.measure_grey(), "fitted": fitted}
            _, mask_yx = make_masks(maps_cyx, image_yx, **seen)
            objects_yx = segment_image(maps_cyx, image_yx, **seen)
            kept = keep_objects(objects_yx, box=frame.box, limits=fitted["instances"])
            overlaps = count_overlaps(np.where(kept[objects_yx], objects_yx, 0), truth_yx, valid_yx=known_yx)
            found = score_instances(count_objects(overlaps))
            pixels = score_pixels(count_pixels(mask_yx, truth_yx > 0, valid_yx=known_yx))
            scores[arm]["Dice"].append(float(pixels["dice"]))
            scores[arm]["AP"].append(float(found["ap_kaggle"]))
    return scores


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Compute the mean over seeds and images, shape (seeds, images), and its bootstrap interval over images."""
    by_image = np.nanmean(differences, axis=0)
    by_image = by_image[~np.isnan(by_image)]
    rng = np.random.default_rng(0)
    means = by_image[rng.integers(0, len(by_image), (REPLICATES, len(by_image)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(by_image.mean()), float(low), float(high)


def main() -> None:
    """Run missing jobs and print the tables."""
    folder, thirds = ROOT / "tuning", ROOT / "tuning/thirds"
    run_pipeline(folder, find_data(), make_config())
    thirds.mkdir(exist_ok=True)
    run_pipeline(thirds, find_data(), make_thirds(thirds, folder / "results"))
    jobs = [(folder, dataset, model, seed) for dataset in DATASETS for model in MODELS for seed in SEEDS]
    jobs += [(thirds, f"{name}_third{seed}", model, seed) for name in THIRDS for model in MODELS for seed in SEEDS]
    with ProcessPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(judge, where, dataset, f"{model}.seed{seed}") for where, dataset, model, seed in jobs]
        found = {job[1:]: future.result() for job, future in zip(jobs, futures, strict=True)}
    (folder / "tuning.json").write_text(json.dumps({"/".join(map(str, job)): each for job, each in found.items()}))
    for score in ("Dice", "AP"):
        print(f"\n| data, test images | model | {score} without | " + " | ".join(list(ARMS)[1:]) + " |")
        print("|---|---|---|" + "---|" * (len(ARMS) - 1))
        for dataset, model in product(DATASETS, MODELS):
            runs = [found[dataset, model, seed] for seed in SEEDS]
            print_row(dataset, model, {arm: np.array([run[arm][score] for run in runs]) for arm in ARMS})
        for name, model in product(THIRDS, MODELS):
            runs = [found[f"{name}_third{seed}", model, seed] for seed in SEEDS]
            values = {arm: np.concatenate([run[arm][score] for run in runs])[np.newaxis] for arm in ARMS}
            print_row(f"{name} in thirds", model, values)


def print_row(title: str, model: str, values: dict[str, np.ndarray]) -> None:
    """Print the mean without tuning and the difference of each other arm; values have the shape (seeds, images)."""
    plain, cells = values["none"], []
    for arm in list(ARMS)[1:]:
        mean, low, high = interval(values[arm] - plain)
        cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
    print(f"| {title}, {plain.shape[1]} | {model} | {np.nanmean(plain):.3f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
