"""Is pre-training on simulated images worth it, and more so where the simulation resembles the real images?

The study of paper 5 on a small scale, on two cores. A U-Net with a quarter of the width is trained on few real images
of fluorescent nuclei (2018 Data Science Bowl): from scratch, from weights pre-trained on simulated nuclei, and from
weights pre-trained on simulated nuclei matched to the real ones. ``make worth`` runs it and prints the table.

The protocol below was written and committed before the first of these trainings.

- Real images: the fluorescence images of stage1_train in the project's data (grey, median below 100 counts; 44). For
  each seed, n = 5, 10 and 20 of them are drawn, the smaller draws being subsets of the larger ones. A fifth of a draw
  is used to choose the epoch and the threshold, the rest to train.
- Test images: the fluorescence images of stage1_test (31). None of them is looked at before the end.
- Simulated images: 100 of 256 x 256 px. Unmatched: the scene simcep_nuclei, on which paper 5 pre-trained (nuclei of
  radius 10 px, background noise in half of the images). Matched: the same scene, fitted to the 44 images of the pool,
  without their annotations.
- Budget: 400 steps of 8 patches of 96 x 96 px on simulated images, then 200 on real ones; from scratch 600 on real
  ones. Adam, learning rate .003, for fine-tuning .001; cosine; flips and quarter turns; the best epoch on the
  validation images.
- Score: Matthews' correlation coefficient of the pixels of all test images, at the best threshold on the validation
  images and at .5. Intervals: 2.5 to 97.5 % of 2,000 bootstraps over test images. The three seeds are repeats and are
  averaged; differences are paired by image and seed.

Added after the first result, to find its cause: the pre-trained networks before any fine-tuning, and fine-tuning with
as many steps on real images, at the same rate, as training from scratch (the arms called long).
"""

import csv
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  after the number of threads is set
import pandas as pd  # noqa: E402
import tifffile  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

SEEDS = (1, 2, 3)
COUNTS = (5, 10, 20)
PRETRAINING_STEPS, FINE_TUNING_STEPS = 400, 200
PATCHES_PER_EPOCH, BATCH, PATCH = 64, 8, 96
LEARNING_RATE, FINE_TUNING_RATE = 0.003, 0.001


class Arm(NamedTuple):
    """Training of a network: the simulated dataset for pre-training, and the steps and rate on real images."""

    source: str | None
    steps: int = FINE_TUNING_STEPS
    rate: float = FINE_TUNING_RATE


ALL_STEPS = PRETRAINING_STEPS + FINE_TUNING_STEPS
ARMS = {
    "scratch": Arm(None, ALL_STEPS, LEARNING_RATE),
    "unmatched": Arm("unmatched"),
    "matched": Arm("matched"),
    "unmatched_long": Arm("unmatched", ALL_STEPS, LEARNING_RATE),
    "matched_long": Arm("matched", ALL_STEPS, LEARNING_RATE),
}
DIFFERENCES = (
    ("unmatched", "scratch"), ("matched", "scratch"), ("matched", "unmatched"),
    ("unmatched_long", "scratch"), ("matched_long", "scratch"), ("matched_long", "unmatched_long"),
)  # fmt: skip
SIMULATED_IMAGES, SIMULATED_SIDE = 100, 256
WORKERS = 2
THRESHOLDS = np.linspace(0.01, 0.99, 99)
REPLICATES = 2000
DARK_MEDIAN = 100


def is_fluorescence(path: Path) -> bool:
    """Check whether an image is grey on a dark background."""
    colours = np.array(Image.open(path))[..., :3]
    return bool((colours == colours[..., :1]).all() and np.median(colours) < DARK_MEDIAN)


def prepare(data: Path, folder: Path) -> None:
    """Link the pool, the draws from it and the test images, and write split tables and the test images' run lengths."""
    pool = sorted(p.parents[1] for p in data.glob("stage1_train/*/images/*.png") if is_fluorescence(p))
    test = sorted(p.parents[1] for p in data.glob("stage1_test/*/images/*.png") if is_fluorescence(p))
    link(pool, folder / "pool", rooms=["images"])
    link(test, folder / "test", rooms=["images"])
    solution = pd.read_csv(data / "stage1_solution.csv")
    solution[solution["ImageId"].isin([p.name for p in test])].to_csv(folder / "test.csv", index=False)
    for seed in SEEDS:
        order = np.random.default_rng(seed).permutation(len(pool))
        for count in COUNTS:
            # the last image is the test part that a split table must have; it is never read
            chosen = [pool[i] for i in [*order[:count], order[max(COUNTS)]]]
            name = few(count, seed)
            link(chosen, folder / name, rooms=["images", "masks"])
            parts = ["validation"] * (count // 5) + ["train"] * (count - count // 5) + ["test"]
            with (folder / f"{name}.csv").open("w", encoding="utf-8") as table:
                table.write("sample,split\n")
                table.writelines(f"{path.name},{part}\n" for path, part in zip(chosen, parts, strict=True))


def link(sources: list[Path], folder: Path, *, rooms: list[str]) -> None:
    for source in sources:
        (folder / source.name).mkdir(parents=True)
        for room in rooms:
            (folder / source.name / room).symlink_to((source / room).resolve())


def few(count: int, seed: int) -> str:
    return f"few{count}_draw{seed}"


def make_config() -> dict[str, Any]:
    """Make the config; its paths start in the folder that `prepare` filled. It also runs under Snakemake."""
    scene = {
        "scene": "simcep_nuclei", "images": SIMULATED_IMAGES, "size": [SIMULATED_SIDE, SIMULATED_SIDE],
        "cells": 13,  # the density of the scene's 50 in 500 x 500 px
        "background_noise": {"fraction": 0.5},
    }  # fmt: skip
    training = SIMULATED_IMAGES * 8 // 10
    simulated = {
        "split": {"train": 0.8, "validation": 0.1, "test": 0.1},
        "models": [{**model("unet", patches=1, steps=PRETRAINING_STEPS, images=training), "seeds": list(SEEDS)}],
    }
    datasets: dict[str, Any] = {
        "unmatched": {"simulate": scene, **simulated},
        "matched": {"simulate": {**scene, "like": "pool"}, **simulated},
        "pool": {"images": "pool/{sample}/images/*.png", "models": [{"apply": "matched/unet.seed1"}]},
        "test": {
            "images": "test/{sample}/images/*.png",
            "annotations": {"format": "rle", "table": "test.csv", "order": "column"},
            "models": [
                {"apply": f"{few(count, seed)}/{arm}.seed{seed}", "name": f"{arm}_{few(count, seed)}"}
                for count in COUNTS
                for seed in SEEDS
                for arm in ARMS
            ]
            + [
                {"apply": f"{source}/unet.seed{seed}", "name": f"before_{source}_seed{seed}"}
                for source in ("unmatched", "matched")
                for seed in SEEDS
            ],
        },
    }
    for seed in SEEDS:
        for count in COUNTS:
            name = few(count, seed)
            datasets[name] = {
                "images": f"{name}/{{sample}}/images/*.png",
                "annotations": {"format": "mask_folder", "path": f"{name}/{{sample}}/masks/*.png"},
                "split": {"table": f"{name}.csv"},
                "models": [fine_tuned(arm, count=count, seed=seed) for arm in ARMS],
            }
    return {"seed": 0, "datasets": datasets}


def fine_tuned(arm: str, *, count: int, seed: int) -> dict[str, Any]:
    """Make the model of one arm on `count` real images."""
    images = count - count // 5
    source, steps, rate = ARMS[arm]
    entry = {**model(arm, patches=PATCHES_PER_EPOCH // images, steps=steps, images=images), "seeds": [seed]}
    entry["train"]["optimiser"] = {"learning_rate": rate}
    return entry if source is None else {**entry, "init_from": f"{source}/unet.seed{seed}"}


def model(name: str, *, patches: int, steps: int, images: int) -> dict[str, Any]:
    """Make a model that is trained for `steps` steps in total on `images` images."""
    return {
        "preset": "sartorius_unet", "name": name, "width": 0.25,
        "train": {
            "batch": BATCH, "patch": [PATCH, PATCH], "patches_per_image": patches,
            "epochs": steps * BATCH // (patches * images),
            "optimiser": {"learning_rate": LEARNING_RATE}, "schedule": {"name": "cosine"},
            "augmentation": {"flip": True, "rotate_90": True},
        },
    }  # fmt: skip


# ---- stages ----------------------------------------------------------------------------------------------


def run_all(folder: Path) -> None:
    """Run the stages of the study in two processes; existing results are kept."""
    os.chdir(folder)
    plan = the_plan()
    simulated, real = ["unmatched", "matched"], [few(count, seed) for count in COUNTS for seed in SEEDS]
    with ProcessPoolExecutor(WORKERS) as pool:

        def do(stage: str, jobs: list[dict[str, str]]) -> None:
            start = time.perf_counter()
            list(pool.map(run_job, [stage] * len(jobs), jobs))
            print(f"{stage}: {len(jobs)} jobs, {time.perf_counter() - start:.0f} s", file=sys.stderr)

        do("match", [{"dataset": "matched"}])
        do("simulate", [{"dataset": name, "shard": shard} for name in simulated for shard in plan.shards(name)])
        for stage in ("preprocess", "rasterize"):
            do(stage, [{"dataset": n, "shard": s} for n in [*simulated, *real, "test"] for s in plan.shards(n)])
        do("train", [{"dataset": name, "run": f"unet.seed{seed}"} for name in simulated for seed in SEEDS])
        do("train", [{"dataset": name, "run": run.name} for name in real for run in plan.runs[name]])
        do(
            "predict",
            [
                {"dataset": "test", "run": run.name, "shard": s}
                for run in plan.runs["test"]
                for s in plan.shards("test")
            ],
        )
        do(
            "predict",
            [
                {"dataset": name, "run": run.name, "shard": shard}
                for name in real
                for run in plan.runs[name]
                for shard in plan.shards(name, parts=("validation",))
            ],
        )


def the_plan() -> Any:
    from cellmill.planning.make import make_plan

    return make_plan(json.loads(Path("config.json").read_text()), presets_dir=ROOT / "resources/models")


def run_job(stage: str, words: dict[str, str]) -> None:
    """Run one job in a process of the pool, unless its results exist."""
    from cellmill.planning.settings import job_settings
    from cellmill.stages import match, predict, preprocess, rasterize, simulate, train

    plan = the_plan()
    dataset, shard = words["dataset"], words.get("shard", "")
    results = Path("results") / dataset
    settings = job_settings(plan, stage, **words)
    rooms = {room: results / room / shard for room in ("raw", "images", "labels")}
    if stage == "match":
        if not (results / "match.json").is_file():
            match.match_dataset(references_path=results / "match.json", table_path=results / "match.csv", **settings)
    elif stage == "simulate" and not rooms["raw"].is_dir():
        path = results / "match.json"
        simulate.simulate_shard(output_dir=rooms["raw"], match_path=path if path.is_file() else None, **settings)
    elif stage == "preprocess" and not rooms["images"].is_dir():
        preprocess.preprocess_shard(output_dir=rooms["images"], **settings)
    elif stage == "rasterize" and not rooms["labels"].is_dir():
        rasterize.rasterize_shard(output_dir=rooms["labels"], **settings)
    elif stage == "train":
        run = plan.run(dataset, words["run"])
        folder = results / run.name
        if (folder / "train.json").is_file():
            return
        shards = {role: plan.shards(dataset, parts=run.parts[role]) for role in ("train", "validation")}
        train.train_model(
            weights_path=folder / "weights.pt", history_path=folder / "history.csv", summary_path=folder / "train.json",
            choices_path=folder / "choices.json",
            **{
                f"{role}_{room}": [results / room / name for name in shards[role]]
                for role in shards
                for room in ("images", "labels")
            },
            init_from=None if run.init_from is None else f"results/{run.init_from}/weights.pt",
            threads=1, gpu=0, code={}, **settings,
        )  # fmt: skip
    elif stage == "predict":
        run = plan.run(dataset, words["run"])
        source = plan.source_of(run)
        output = results / run.name / "probabilities" / shard
        if not output.is_dir():
            predict.predict_shard(
                output_dir=output, images_dir=rooms["images"], around_dirs=[],
                weights_path=f"results/{source.dataset}/{source.name}/weights.pt", threads=1, gpu=0, **settings,
            )  # fmt: skip


# ---- scores ----------------------------------------------------------------------------------------------


def judge(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count the pixels of every test image for every arm, number of real images and seed.

    Returns
    -------
    chosen, fixed : ndarray of int64, shape (arms, counts, seeds, images, 4)
        True and false positives, false and true negatives at the threshold of the validation images and at .5.
    thresholds : ndarray of float, shape (arms, counts, seeds)
    """
    os.chdir(folder)
    plan = the_plan()
    [shards] = [plan.shards("test")]
    images = sum(len(plan.rows("test", shard)) for shard in shards)
    shape = (len(ARMS), len(COUNTS), len(SEEDS))
    chosen, fixed = np.zeros((2, *shape, images, 4), dtype=np.int64)
    thresholds = np.zeros(shape)
    for place in np.ndindex(shape):
        arm, count, seed = list(ARMS)[place[0]], COUNTS[place[1]], SEEDS[place[2]]
        name = few(count, seed)
        validation = list(pixels(name, f"{arm}.seed{seed}", plan.shards(name, parts=("validation",))))
        sweep = [sum(count_pixels(p, t, threshold) for p, t in validation) for threshold in THRESHOLDS]
        thresholds[place] = THRESHOLDS[int(np.argmax([correlation(counts) for counts in sweep]))]
        for i, (probability_yx, truth_yx) in enumerate(pixels("test", f"{arm}_{name}", shards)):
            chosen[place][i] = count_pixels(probability_yx, truth_yx, thresholds[place])
            fixed[place][i] = count_pixels(probability_yx, truth_yx, 0.5)
    return chosen, fixed, thresholds


def pixels(dataset: str, run: str, shards: list[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for shard in shards:
        for path in sorted(Path(f"results/{dataset}/{run}/probabilities/{shard}").glob("*.tif")):
            labels_yx = tifffile.imread(f"results/{dataset}/labels/{shard}/{path.name}")
            yield np.squeeze(tifffile.imread(path)).astype(np.float32), labels_yx > 0


def count_pixels(probability_yx: np.ndarray, truth_yx: np.ndarray, threshold: float) -> np.ndarray:
    found_yx = probability_yx >= threshold
    both, truth, found = (int(np.count_nonzero(each)) for each in (found_yx & truth_yx, truth_yx, found_yx))
    return np.array([both, found - both, truth - both, truth_yx.size - truth - found + both])


def correlation(counts: np.ndarray) -> np.ndarray:
    """Compute Matthews' correlation coefficient of counts whose last axis is TP, FP, FN, TN."""
    from cellmill.metrics.pixel import matthews_correlation

    return np.asarray(matthews_correlation(*np.moveaxis(np.asarray(counts, dtype=float), -1, 0)))


def tabulate(chosen: np.ndarray, fixed: np.ndarray, thresholds: np.ndarray) -> list[dict[str, str]]:
    """Make the rows of the table: scores and paired differences with intervals."""
    images = chosen.shape[3]
    draws = np.random.default_rng(0).integers(images, size=(REPLICATES, images))
    rows = []
    for index, count in enumerate(COUNTS):
        row = {"real images": str(count)}
        scores = {}
        for place, arm in enumerate(ARMS):
            seeds = correlation(chosen[place, index].sum(axis=1))
            replicates = np.stack([correlation(chosen[place, index][:, draw].sum(axis=1)).mean() for draw in draws])
            scores[arm] = (seeds.mean(), replicates)
            row[arm] = f"{say(seeds.mean(), replicates)} [{', '.join(f'{score:.3f}' for score in seeds)}]"
            at_half = correlation(fixed[place, index].sum(axis=1)).mean()
            row[f"{arm} at .5"] = f"{at_half:.3f}"
            row[f"{arm} threshold"] = ", ".join(f"{threshold:.2f}" for threshold in thresholds[place, index])
        for one, other in DIFFERENCES:
            (mean, replicates), (base, others) = scores[one], scores[other]
            row[f"{one} - {other}"] = say(mean - base, replicates - others, sign="+")
        rows.append(row)
    return rows


def judge_before(folder: Path) -> dict[str, str]:
    """Score the pre-trained networks before fine-tuning, at threshold .5."""
    os.chdir(folder)
    plan = the_plan()
    shards = plan.shards("test")
    rows = {}
    for source in ("unmatched", "matched"):
        halves = []
        for seed in SEEDS:
            counts = sum(count_pixels(p, t, 0.5) for p, t in pixels("test", f"before_{source}_seed{seed}", shards))
            halves.append(float(correlation(counts)))
        rows[source] = f"{np.mean(halves):.3f} [{', '.join(f'{half:.3f}' for half in halves)}]"
    return rows


def say(value: float, replicates: np.ndarray, *, sign: str = "") -> str:
    low, high = np.quantile(replicates, [0.025, 0.975])
    return f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def main() -> None:
    """Run the study in a folder and print its table."""
    data = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared/data")) / "dsb2018"
    if not data.is_dir():
        raise SystemExit(f"worth: expected the images at {data}, found no folder. Set CELLMILL_DATA.")
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "worth").resolve()
    if not folder.is_dir():
        folder.mkdir(parents=True)
        prepare(data, folder)
    (folder / "config.json").write_text(json.dumps(make_config(), indent=2))
    start = time.perf_counter()
    run_all(folder)
    rows = tabulate(*judge(folder))
    with (folder / "worth.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for key in rows[0]:
        print("| " + " | ".join([key, *(row[key] for row in rows)]) + " |")
    for source, scores in judge_before(folder).items():
        print(f"before fine-tuning, {source}, at .5: {scores}")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
