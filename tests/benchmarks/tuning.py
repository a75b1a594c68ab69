"""Is tuning the borders of predicted masks worth it? Paper 4's chain on real images, three models, three seeds.

``make tuning`` runs the study on two cores and prints its table. The protocol below was written, and committed, before the
first of these trainings.

- Data: DSB 2018 (60 images), BBBC039 (18), LIVECell (15), split .6, .2, .2 by the pipeline's own rule (LIVECell by well).
- Models: U-Net of paper 4, FCRN-A of paper 5, U-Net of paper 3, at a quarter, a half and an eighth of the width; 10 epochs of 16
  patches of 64 x 64 px, 16 patches an image, Adam, .003, cosine, flips and quarter turns; seeds 1, 2, 3. The last epoch is
  kept as the recipe says.
- Arms, on the same probabilities and at the threshold of the validation images' best MCC: no tuning; the paper's SVM (degree
  3, coef0 0, features as they are); ours (standardised, coef0 1); ours at three scales (0, 1, 2 px); Gaussian Bayes. Each
  trained on 50 boundary pixels of every training image, and always applied. Then "if better": ours, applied only where the
  mean Dice of the validation images rises, which is the pipeline's default.
- Scores on test images: Dice coefficient of the mask, and Kaggle's AP of objects by watershed whose depth and smallest area
  are chosen on the validation images for each arm. Means over images of which all are known.
- Intervals: 2.5 to 97.5 % of 2,000 bootstraps over the images of a data set, the three seeds being repeats whose mean is
  taken; differences to no tuning are paired by image and seed. Reported for each model and data set, whatever comes out.
"""

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  after the number of threads
import yaml  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

DATASETS = ("dsb2018", "bbbc039", "livecell")
MODELS = {"sartorius_unet": 0.25, "fcrn_a": 0.5, "unet_isbi": 0.125}
SEEDS = (1, 2, 3)
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
    """Give the config, whose paths start in the folder of the data."""
    datasets = {}
    for name in DATASETS:
        content = yaml.safe_load((ROOT / f"tests/pipeline/real/{name}.yaml").read_text())
        section = content["datasets"][name]
        section["split"] = {**section.get("split", {}), "train": 0.6, "validation": 0.2, "test": 0.2}
        section["models"] = [
            {"preset": preset, "width": width, "seeds": list(SEEDS), "train": RECIPE}
            for preset, width in MODELS.items()
        ]
        # Fitted once by the pipeline itself, for whoever looks at its report; the arms are fitted below.
        section["postprocess"] = {"boundary": {"classifier": "none"}}
        datasets[name] = section
    return {"seed": 0, "datasets": datasets}


def run_pipeline(folder: Path, data: Path) -> None:
    """Train and predict all runs; what is there already is kept."""
    folder.mkdir(exist_ok=True)
    for name in DATASETS:
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve())
    (folder / "config.json").write_text(json.dumps(make_config(), indent=1))
    subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile", "config.json", "--cores", "2",
         "--set-threads", "train=1", "predict=1"],
        cwd=folder, check=True,
    )  # fmt: skip


def judge(folder: Path, dataset: str, run: str) -> dict[str, dict[str, list[float]]]:
    """Score the test images of one run in each arm: arm -> score -> a value an image, in the order of the samples."""
    os.chdir(folder)
    from cellmill.boundary import measure_grey
    from cellmill.config.postprocess import Postprocess
    from cellmill.fitting import (
        choose_objects,
        choose_threshold,
        decide_application,
        fit_boundary,
        median_area,
        search_frames,
    )
    from cellmill.frames import list_frames
    from cellmill.images import IGNORE_LABEL
    from cellmill.instances import Candidates, keep_objects, make_masks
    from cellmill.metrics.instance import count_matches, count_overlaps, score_instances
    from cellmill.metrics.pixel import count_pixels, score_pixels
    from cellmill.plan import make_plan

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
    median_px = median_area(frames["validation"])
    scores: dict[str, dict[str, list[float]]] = {}
    for arm, changes in ARMS.items():
        section = Postprocess(boundary=changes).model_dump(mode="json")
        fitted: dict[str, Any] = {
            "threshold": choose_threshold(frames["validation"], **section["threshold"]),
            "closing": section["closing"],
            "boundary": {"applied": False, "scales_px": section["boundary"]["scales_px"]},
            "instances": {"fill_holes_px": round(0.25 * (median_px or 0))},
        }
        fitted["boundary"] = fit_boundary(frames["train"], fitted=fitted, settings=section["boundary"], seed=0)
        fitted["boundary"] = decide_application(frames["validation"], fitted=fitted, apply=section["boundary"]["apply"])
        fitted["instances"] |= choose_objects(
            search_frames(frames["validation"], fitted=fitted), instances=section["instances"], output="foreground",
            median_area_px=median_px,
        )  # fmt: skip
        chosen = fitted["instances"]
        scores[arm] = {"Dice": [], "AP": []}
        for frame in sorted(frames["test"], key=lambda frame: frame.sample):
            truth_yx, image_yx, maps_cyx = frame.read_truth(), frame.read_image(), frame.read_maps()
            known_yx, valid_yx = truth_yx != IGNORE_LABEL, frame.find_valid()
            grey = measure_grey(image_yx, valid_yx=valid_yx)
            core_yx, mask_yx = make_masks(maps_cyx, image_yx, valid_yx=valid_yx, grey=grey, fitted=fitted)
            objects_yx = Candidates(core_yx, mask_yx, maps_cyx).split(
                chosen["method"], depth=chosen["split_depth"], max_flow_error=None
            )
            kept = keep_objects(objects_yx, box=frame.box, fitted=fitted)
            overlaps = count_overlaps(np.where(kept[objects_yx], objects_yx, 0), truth_yx, valid_yx=known_yx)
            found = score_instances(len(overlaps.true_areas), len(overlaps.predicted_areas), count_matches(overlaps))
            pixels = score_pixels(count_pixels(mask_yx, truth_yx > 0, valid_yx=known_yx))
            scores[arm]["Dice"].append(float(pixels["dice"]))
            scores[arm]["AP"].append(float(found["ap_kaggle"]))
    return scores


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Give the mean over seeds and images, shape (seeds, images), and its bootstrap interval over images."""
    by_image = np.nanmean(differences, axis=0)
    by_image = by_image[~np.isnan(by_image)]
    rng = np.random.default_rng(0)
    means = by_image[rng.integers(0, len(by_image), (REPLICATES, len(by_image)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(by_image.mean()), float(low), float(high)


def main() -> None:
    """Run what is missing and print the table."""
    data = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared/data"))
    if not data.is_dir():
        sys.exit(f"{data}: expected real images there, found no folder. Set CELLMILL_DATA.")
    folder = ROOT / "tuning"
    run_pipeline(folder, data)
    jobs = [(dataset, model, seed) for dataset in DATASETS for model in MODELS for seed in SEEDS]
    with ProcessPoolExecutor(WORKERS) as pool:
        futures = [pool.submit(judge, folder, dataset, f"{model}.seed{seed}") for dataset, model, seed in jobs]
        found = {job: future.result() for job, future in zip(jobs, futures, strict=True)}
    (folder / "tuning.json").write_text(json.dumps({"/".join(map(str, job)): each for job, each in found.items()}))
    for score in ("Dice", "AP"):
        print(f"\n| data, test images | model | {score} without | " + " | ".join(list(ARMS)[1:]) + " |")
        print("|---|---|---|" + "---|" * (len(ARMS) - 1))
        for dataset in DATASETS:
            for model in MODELS:
                values = {arm: np.array([found[dataset, model, seed][arm][score] for seed in SEEDS]) for arm in ARMS}
                plain, cells = values["none"], []
                for arm in list(ARMS)[1:]:
                    mean, low, high = interval(values[arm] - plain)
                    cells.append(f"{mean:+.3f} ({low:+.3f} to {high:+.3f})")
                print(
                    f"| {dataset}, {plain.shape[1]} | {model} | {np.nanmean(plain):.3f} | " + " | ".join(cells) + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
