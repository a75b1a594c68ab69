"""Do the networks do what papers 1 and 2 claim? Two claims, each tested on a simulated and on a real sequence.

1. Paper 1: where dirt looks like cells but does not move, StemNet with five frames makes fewer false positives than
   with one. Its F1 may be lower, as in the paper. Background subtraction, which would remove such dirt, is off.
2. Paper 2: in frames with faint cells, the C-LSTM U-Net finds more cells than the same network without recurrence.

``make claims`` runs the study in two processes of one thread each, prints its tables, and resumes an interrupted study.
The protocol below was written and committed before the first of these trainings. Widths, patches and numbers of steps
were chosen by the time that a step on random numbers takes.

- Simulated images: the scenes static_dirt and fading_cells of resources/scenes. Dirt and cells differ between
  sequences, and a sequence is never split. In static_dirt a speck in one frame has the distribution of a cell, so only
  motion differs.
- Real images: 35 frames of Fluo-N2DL-HeLa 01 in blocks of 18, 4 and 5 frames with gaps of 4. Dirt and faint cells are
  not annotated. There is one sequence: intervals are over its five test frames and do not extend to other sequences.
- Recipes: those of the presets except for width, patch, epochs, patches per epoch and, for paper 2, the learning rate:
  1e-4 over 100,000 iterations there, ten times that over 1,280 and 576 here. The changes are the same for both arms.
- A training counts if its loss stays finite and the Dice coefficient of the kept epoch on the validation frames, at
  threshold .5, is at least .3. If any of a study's six trainings fails this, all six are repeated at a third of the
  rate, and if necessary at a ninth. The first rate at which all six count is judged; if there is none, the last,
  without a verdict.
- Thresholds: the one with the highest MCC on the validation pixels, which decides; .5; and a third, so that no arm wins
  by predicting fewer (claim 1) or more pixels (claim 2). For claim 1 it is the highest at which .8 of the validation's
  cell pixels are found; for claim 2 the lowest at which .8 of the found pixels are cells. If none reaches .8: the best
  of .01 to .99.
- Deciding measure: for claim 1, pixels wrongly called cell per test frame; for claim 2, the share of faint cells with
  more than half of their pixels found, and on the real sequence that share of all cells.
- Intervals: 2.5 to 97.5 % of 2,000 bootstraps, which draw sequences and then frames of each. Seeds are repeats and are
  averaged; differences are paired by frame and seed. Shown: the interval lies on the claimed side of zero.
  Contradicted: on the other side. Open: it includes zero.
"""

import json
import math
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  after the number of threads is set
import pandas as pd  # noqa: E402
import tifffile  # noqa: E402
from scipy import ndimage  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow")]


class Claim(NamedTuple):
    """Two arms, the second of which is claimed to be better, and the measure that decides.

    `decides` applies to scenes, `decides_real` to the real sequence. `wanted` is the sign of second minus first.
    """

    arms: dict[str, dict[str, Any]]
    rate: float
    floor: str
    decides: str
    decides_real: str
    wanted: int


class Study(NamedTuple):
    """A claim on a scene, or on the real sequence if `scene` is None.

    `parts` counts the sequences of `frames` frames for training, validation and test, in this order. For the real
    sequence it counts frames.
    """

    claim: str
    scene: str | None
    frames: int
    parts: tuple[int, int, int]
    train: dict[str, Any]


# ---- the protocol ----------------------------------------------------------------------------------------

SIMULATION_SEED = 12
SEEDS = (1, 2, 3)
CLAIMS = {
    "frames": Claim(
        arms={"one_frame": {"preset": "stemnet1", "width": 0.5}, "five_frames": {"preset": "stemnet5", "width": 0.5}},
        rate=0.15, floor="recall", decides="false_px", decides_real="false_px", wanted=-1,
    ),
    "memory": Claim(
        arms={
            name: {"preset": "clstm_unet_text", "width": 1 / 32, "network": {"memory": memory}}
            for name, memory in (("no_memory", False), ("memory", True))
        },
        rate=0.001, floor="precision", decides="faint_found", decides_real="found", wanted=1,
    ),
}  # fmt: skip
STUDIES = {
    # whole frames of 128 x 128 px, 120 steps an epoch: 3,000 steps
    "static_dirt": Study("frames", "static_dirt", 12, (10, 4, 12), {"epochs": 25, "patch": [128, 128]}),
    # 160 frames in windows of 5 and batches of 3, 64 steps an epoch: 1,280 steps
    "fading_cells": Study(
        "memory", "fading_cells", 20, (8, 3, 8), {"epochs": 20, "patch": [64, 64], "patches_per_image": 6}
    ),
    # 18 frames, 54 steps an epoch: 1,080 steps
    "hela_frames": Study(
        "frames", None, 35, (18, 4, 5),
        {"epochs": 20, "patch": [128, 128], "patches_per_image": 3, "validation_images": 2},
    ),
    # windows of 5 in batches of 3 use 15 of the 18 frames, 96 steps an epoch: 576 steps
    "hela_memory": Study(
        "memory", None, 35, (18, 4, 5),
        {"epochs": 6, "patch": [64, 64], "patches_per_image": 96, "validation_images": 2},
    ),
}  # fmt: skip
GAP = 4
RATE_FACTORS = (1, 1 / 3, 1 / 9)
SMALLEST_DICE = 0.3
SMALLEST_SHARE = 0.8
THRESHOLDS = np.linspace(0.01, 0.99, 99)
SMALLEST_OBJECT_PX = 20
# Half the light of the faintest speck. Cell pixels never count as dirt.
DIRT_FROM = 0.1
REPLICATES = 2000

# ----------------------------------------------------------------------------------------------------------

WORKERS = 2
COUNTS = (
    "frames", "tp", "fp", "fn", "tn", "false_objects", "dirt_px", "dirt_called_px", "cells", "cells_found",
    "faint", "faint_cells_found", "faint_px", "faint_px_found",
)  # fmt: skip
MEASURES = {
    "false_px": "pixels wrongly called cell, per frame",
    "false_objects": "objects that are no cell, per frame",
    "dirt_called": "share of dirt pixels called cell",
    "f1": "F1 of pixels",
    "recall": "recall of pixels",
    "precision": "precision of pixels",
    "found": "share of cells found",
    "faint_found": "share of faint cells found",
    "faint_recall": "recall of pixels of faint cells",
}
REAL_FOLDER = Path("ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa")

# Replacements for --smoke: other scenes, seed and sizes, one epoch. They only show that the code runs.
SMOKE_SCENES = {
    "static_dirt": {"scene": "demo", "size": [64, 64], "cells": 4, "cell": {"radius_px": 6}, "dirt": {"count": 2},
                    "time_lapse": {"frames": 8}},
    "fading_cells": {"scene": "demo", "size": [64, 64], "cells": 4, "cell": {"radius_px": 6},
                     "time_lapse": {"frames": 8, "fading": {}}},
}  # fmt: skip
SMOKE_TRAIN = {"epochs": 1, "patch": [48, 48], "patches_per_image": 1}
SMOKE_SEED = 99


def choose_studies(*, smoke: bool, is_real_there: bool) -> dict[str, Study]:
    """Return the studies that can be run: those of the protocol, or their replacements for --smoke."""
    if smoke:
        return {
            name: study._replace(train={**study.train, **SMOKE_TRAIN}, parts=(1, 1, 1) if study.scene else (8, 2, 2))
            for name, study in STUDIES.items()
        }
    return {name: study for name, study in STUDIES.items() if study.scene or is_real_there}


def make_config(studies: dict[str, Study], *, smoke: bool) -> dict[str, Any]:
    """Make the config; its paths are relative to the folder of the study. It also runs under Snakemake."""
    datasets: dict[str, Any] = {}
    for dataset, study in studies.items():
        models = [
            make_model(study, arm, step, seeds=SEEDS[:1] if smoke else SEEDS)
            for step in range(len(RATE_FACTORS))
            for arm in CLAIMS[study.claim].arms
        ]
        if study.scene is None:
            parts = dict(zip(("train", "validation", "test"), study.parts, strict=True))
            shares = {part: frames / sum(study.parts) for part, frames in parts.items()}
            source = {
                "images": "real/{sequence}/t{frame}.tif",
                "annotations": {"format": "ctc", "path": "real/{sequence}_RES/mask{frame}.tif"},
                "split": {"by": "blocks", "gap": GAP, **shares},
            }
        else:
            scene = (
                SMOKE_SCENES[study.scene] if smoke else {"scene": study.scene, "time_lapse": {"frames": study.frames}}
            )
            source = {
                "simulate": {**scene, "images": sum(study.parts)},
                "split": {"table": f"{dataset}.csv"},
            }
        datasets[dataset] = {**source, "preprocess": {"background": {"method": "none"}}, "models": models}
    return {"seed": SMOKE_SEED if smoke else SIMULATION_SEED, "datasets": datasets}


def make_model(study: Study, arm: str, step: int, *, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Make the model of one arm at one of the learning rates."""
    claim = CLAIMS[study.claim]
    optimiser = {"learning_rate": claim.rate * RATE_FACTORS[step]}
    return {
        **claim.arms[arm], "name": f"{arm}_rate{step}", "seeds": list(seeds),
        "train": {**study.train, "optimiser": optimiser},
    }  # fmt: skip


def write_split(path: Path, simulate: dict[str, Any], *, parts: tuple[int, int, int]) -> None:
    """Write a split table: the first sequences for training, the next ones for validation, the last ones for test."""
    from cellmill.config.simulate import Simulate, name_samples

    names = [part for part, count in zip(("train", "validation", "test"), parts, strict=True) for _ in range(count)]
    samples = name_samples(Simulate.model_validate(simulate))
    part_of = dict(zip(dict.fromkeys(sample.sequence for sample in samples), names, strict=True))
    rows = [f"{sample.sample},{part_of[sample.sequence]}\n" for sample in samples]
    path.write_text("sample,split\n" + "".join(rows), encoding="utf-8")


def write_stand_in(folder: Path) -> None:
    """Write a simulated sequence in the layout of the real one, for --smoke."""
    from cellmill.config.simulate import Simulate, image_settings
    from cellmill.simulation.sequence import simulate_sequence

    scene = {"scene": "dividing_nuclei", "size": [64, 96], "cells": 4, "time_lapse": {"frames": 20}}
    for room in ("01", "01_RES"):
        (folder / room).mkdir(parents=True)
    section = image_settings(Simulate.model_validate(scene))
    for frame in simulate_sequence("stand_in", seed=SMOKE_SEED, simulate=section, frames=None):
        tifffile.imwrite(folder / f"01/t{frame.frame:03d}.tif", frame.counts)
        tifffile.imwrite(folder / f"01_RES/mask{frame.frame:03d}.tif", frame.labels_yx.astype(np.uint16))


# ---- stages ----------------------------------------------------------------------------------------------


def run_all(studies: dict[str, Study]) -> dict[str, int]:
    """Run the jobs of the studies in two processes, and return for each study the index of the rate to judge.

    Existing results are kept.
    """
    plan = read_plan()
    with ProcessPoolExecutor(WORKERS) as pool:

        def do(stage: str, jobs: list[dict[str, str]]) -> None:
            start = time.perf_counter()
            list(pool.map(partial(run_job, stage), jobs))
            print(f"{stage}: {len(jobs)} jobs, {time.perf_counter() - start:.0f} s", file=sys.stderr)

        for stage in ("simulate", "preprocess", "rasterize"):
            chosen = [name for name in studies if stage != "simulate" or studies[name].scene]
            shards_of = plan.labelled_shards if stage == "rasterize" else plan.shards
            do(stage, [{"dataset": name, "shard": shard} for name in chosen for shard in shards_of(name)])
        rates: dict[str, int] = {}
        for step in range(len(RATE_FACTORS)):
            open_studies = [name for name in studies if name not in rates]
            # seeds in turn, so that the arms of one study, which take equally long, run side by side
            do("train", [{"dataset": name, "run": run} for name in open_studies for run in runs_of(plan, name, step)])
            for name in open_studies:
                if step == len(RATE_FACTORS) - 1 or all(learnt(name, run) for run in runs_of(plan, name, step)):
                    rates[name] = step
        do(
            "predict",
            [
                {"dataset": name, "run": run, "shard": shard}
                for name in studies
                for run in runs_of(plan, name, rates[name])
                for shard in plan.shards(name, parts=("validation", "test"))
            ],
        )
    return rates


def runs_of(plan: Any, dataset: str, step: int) -> list[str]:
    """List the runs of a study at one rate, sorted by seed."""
    found = [run for run in plan.runs[dataset] if run.model.endswith(f"_rate{step}")]
    return [run.name for run in sorted(found, key=lambda run: run.seed)]


def learnt(dataset: str, run: str) -> bool:
    """Check whether a training counts, by its Dice coefficient on the validation frames."""
    path = Path("results") / dataset / run / "history.csv"
    if not path.is_file():
        return False
    history = pd.read_csv(path)
    dice = history.loc[history["validation_loss"].idxmin(), "validation_dice"]
    return bool(dice >= SMALLEST_DICE)


def read_plan() -> Any:
    from cellmill.planning.make import make_plan

    return make_plan(json.loads(Path("config.json").read_text()), presets_dir=ROOT / "resources/models")


def run_job(stage: str, words: dict[str, str]) -> None:
    """Run one job in a process of the pool, unless its results exist."""
    from cellmill.planning.settings import job_settings
    from cellmill.stages import preprocess, rasterize, simulate

    plan = read_plan()
    dataset, shard = words["dataset"], words.get("shard", "")
    results = Path("results") / dataset
    rooms = {room: results / room / shard for room in ("raw", "images", "labels")}
    if stage == "train":
        train_run(plan, dataset, words["run"])
    elif stage == "predict":
        predict_run(plan, dataset, words["run"], shard)
    elif stage == "simulate" and not rooms["raw"].is_dir():
        simulate.simulate_shard(output_dir=rooms["raw"], **job_settings(plan, stage, **words))
    elif stage == "preprocess" and not rooms["images"].is_dir():
        preprocess.preprocess_shard(output_dir=rooms["images"], **job_settings(plan, stage, **words))
    elif stage == "rasterize" and not rooms["labels"].is_dir():
        rasterize.rasterize_shard(output_dir=rooms["labels"], **job_settings(plan, stage, **words))


def train_run(plan: Any, dataset: str, name: str) -> None:
    """Train one network. If its loss does not stay finite, write failed.txt."""
    from cellmill.planning.settings import job_settings
    from cellmill.stages import train

    run, results = plan.run(dataset, name), Path("results") / dataset
    folder = results / name
    if (folder / "train.json").is_file() or (folder / "failed.txt").is_file():
        return
    shards = {role: plan.shards(dataset, parts=run.parts[role]) for role in ("train", "validation")}
    around = plan.seen_shards(dataset, run, [*shards["train"], *shards["validation"]])
    rooms = {f"{role}_{room}": [results / room / shard for shard in shards[role]]
             for role in shards for room in ("images", "labels")}  # fmt: skip
    try:
        train.train_model(
            weights_path=folder / "weights.pt", history_path=folder / "history.csv",
            summary_path=folder / "train.json", choices_path=folder / "choices.json",
            around_images=[results / "images" / shard for shard in around],
            init_from=None, threads=1, gpu=0, code={}, **rooms,
            **job_settings(plan, "train", dataset=dataset, run=name),
        )  # fmt: skip
    except ValueError as error:
        if "finite loss" not in str(error):
            raise
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "failed.txt").write_text(str(error), encoding="utf-8")


def predict_run(plan: Any, dataset: str, name: str, shard: str) -> None:
    """Predict one shard with a network, if its weights exist."""
    from cellmill.planning.settings import job_settings
    from cellmill.stages import predict

    results = Path("results") / dataset
    output, weights = results / name / "probabilities" / shard, results / name / "weights.pt"
    if output.is_dir() or not weights.is_file():
        return
    around = plan.seen_shards(dataset, plan.run(dataset, name), [shard])
    predict.predict_shard(
        output_dir=output, images_dir=results / "images" / shard, weights_path=weights, threads=1, gpu=0,
        around_dirs=[results / "images" / other for other in around],
        **job_settings(plan, "predict", dataset=dataset, run=name, shard=shard),
    )  # fmt: skip


# ---- counts ----------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """One frame and its truth: `faint` lists labels of faint cells, `dirt_yx` is None if unknown or without dirt."""

    sequence: str
    path: Path
    labels_yx: np.ndarray
    faint: np.ndarray
    dirt_yx: np.ndarray | None


def read_frames(plan: Any, dataset: str, part: str) -> list[Frame]:
    """Read the ground truth of a part, ordered by sequence and frame, with map paths relative to a run's folder."""
    frames = []
    for shard in plan.shards(dataset, parts=(part,)):
        table = Path("results") / dataset / "raw" / shard / "objects.csv"
        objects = pd.read_csv(table) if table.is_file() else pd.DataFrame()
        for row in plan.rows(dataset, shard):
            name = f"{shard}/{row.sample}.tif"
            faint = np.array([], dtype=int)
            if "light" in objects:
                is_faint = (objects["sample"] == row.sample) & (objects["light"] < 1)
                faint = objects.loc[is_faint, "track"].to_numpy()
            labels_yx = tifffile.imread(f"results/{dataset}/labels/{name}")
            dirt_yx = None if plan.config.datasets[dataset].simulate is None else find_dirt(plan, dataset, row.sequence)
            frames.append((row.frame, Frame(row.sequence, Path("probabilities") / name, labels_yx, faint, dirt_yx)))
    return [frame for _, frame in sorted(frames, key=lambda pair: (pair[1].sequence, pair[0]))]


def find_dirt(plan: Any, dataset: str, sequence: str) -> np.ndarray | None:
    """Draw the specks of a sequence again and return their mask; None for a scene without specks."""
    from cellmill.config.simulate import image_settings
    from cellmill.simulation.streams import open_stream
    from cellmill.simulation.surroundings import draw_dirt

    section = image_settings(plan.config.datasets[dataset].simulate)
    rng = open_stream(sequence, "dirt", seed=plan.config.seed)
    light_yx = draw_dirt(tuple(section["size"]), **section["dirt"], rng=rng)
    return None if light_yx is None else light_yx >= DIRT_FROM


def read_map(dataset: str, run: str, frame: Frame) -> np.ndarray:
    """Read the foreground probabilities of a frame."""
    probabilities = tifffile.imread(Path("results") / dataset / run / frame.path).astype(np.float32)
    return probabilities[0] if probabilities.ndim == 3 else probabilities


def choose_thresholds(plan: Any, dataset: str, run: str, *, floor: str) -> dict[str, float]:
    """Choose thresholds on the validation frames."""
    totals = np.zeros((len(THRESHOLDS), 4))
    for frame in read_frames(plan, dataset, "validation"):
        prob_yx, truth_yx = read_map(dataset, run, frame), frame.labels_yx > 0
        # numbers of cell pixels and of background pixels that reach each threshold
        tp, fp = (
            np.count_nonzero(side) - np.searchsorted(np.sort(prob_yx[side]), THRESHOLDS)
            for side in (truth_yx, ~truth_yx)
        )
        totals += np.stack([tp, fp, np.count_nonzero(truth_yx) - tp, np.count_nonzero(~truth_yx) - fp], axis=1)
    rates = {"recall": divide(totals[:, 0], totals[:, 0] + totals[:, 2]),
             "precision": divide(totals[:, 0], totals[:, 0] + totals[:, 1])}[floor]  # fmt: skip
    reached = np.flatnonzero(np.nan_to_num(rates) >= SMALLEST_SHARE)
    at_floor = int(np.nanargmax(np.nan_to_num(rates)))
    if len(reached):
        at_floor = int(reached[-1] if floor == "recall" else reached[0])
    return {
        "mcc": float(THRESHOLDS[int(np.argmax(correlate(totals)))]),
        "half": 0.5,
        floor: float(THRESHOLDS[at_floor]),
    }


def correlate(counts: np.ndarray) -> np.ndarray:
    """Compute Matthews' correlation coefficient of counts whose last axis is TP, FP, FN, TN."""
    from cellmill.metrics.pixel import matthews_correlation

    return np.asarray(matthews_correlation(*np.moveaxis(np.asarray(counts, dtype=float), -1, 0)))


def count_frame(prob_yx: np.ndarray, frame: Frame, *, threshold: float) -> np.ndarray:
    """Count one frame at one threshold, in the order of `COUNTS`."""
    found_yx, labels_yx = prob_yx >= threshold, frame.labels_yx
    truth_yx = labels_yx > 0
    tp, fp, fn = (np.count_nonzero(each) for each in (found_yx & truth_yx, found_yx & ~truth_yx, ~found_yx & truth_yx))
    objects_yx, objects = ndimage.label(found_yx, structure=np.ones((3, 3)))
    areas = np.bincount(objects_yx.ravel(), minlength=objects + 1)[1:]
    on_cells = np.bincount(objects_yx[truth_yx], minlength=objects + 1)[1:]
    cell_areas = np.bincount(labels_yx.ravel())
    cell_areas[0] = 0
    hits = np.bincount(labels_yx[found_yx], minlength=len(cell_areas))
    is_cell = cell_areas >= SMALLEST_OBJECT_PX
    is_faint = np.isin(np.arange(len(cell_areas)), frame.faint) & is_cell
    is_found = 2 * hits > cell_areas
    dirt_yx = np.zeros_like(truth_yx) if frame.dirt_yx is None else frame.dirt_yx & ~truth_yx
    numbers = {
        "frames": 1, "tp": tp, "fp": fp, "fn": fn, "tn": truth_yx.size - tp - fp - fn,
        "false_objects": np.count_nonzero((areas >= SMALLEST_OBJECT_PX) & (2 * on_cells < areas)),
        "dirt_px": np.count_nonzero(dirt_yx), "dirt_called_px": np.count_nonzero(dirt_yx & found_yx),
        "cells": np.count_nonzero(is_cell), "cells_found": np.count_nonzero(is_cell & is_found),
        "faint": np.count_nonzero(is_faint), "faint_cells_found": np.count_nonzero(is_faint & is_found),
        "faint_px": cell_areas[is_faint].sum(), "faint_px_found": hits[is_faint].sum(),
    }  # fmt: skip
    return np.array([numbers[name] for name in COUNTS], dtype=float)


def measure(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the measures from summed counts, whose last axis is `COUNTS`; NaN where the denominator is zero."""
    n = dict(zip(COUNTS, np.moveaxis(counts, -1, 0), strict=True))
    return {
        "false_px": divide(n["fp"], n["frames"]),
        "false_objects": divide(n["false_objects"], n["frames"]),
        "dirt_called": divide(n["dirt_called_px"], n["dirt_px"]),
        "f1": divide(2 * n["tp"], 2 * n["tp"] + n["fp"] + n["fn"]),
        "recall": divide(n["tp"], n["tp"] + n["fn"]),
        "precision": divide(n["tp"], n["tp"] + n["fp"]),
        "found": divide(n["cells_found"], n["cells"]),
        "faint_found": divide(n["faint_cells_found"], n["faint"]),
        "faint_recall": divide(n["faint_px_found"], n["faint_px"]),
    }


def divide(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.divide(one, other, out=np.full(np.shape(other), math.nan), where=np.asarray(other) > 0)


# ---- verdicts --------------------------------------------------------------------------------------------


def judge(plan: Any, dataset: str, study: Study, step: int) -> dict[str, Any]:
    """Score both arms of a study at each threshold, compare them, and judge the claim."""
    claim = CLAIMS[study.claim]
    seeds = sorted({run.seed for run in plan.runs[dataset]})
    runs = {arm: [f"{arm}_rate{step}.seed{seed}" for seed in seeds] for arm in claim.arms}
    failed = sorted(run for names in runs.values() for run in names if not learnt(dataset, run))
    result: dict[str, Any] = {
        "rate": claim.rate * RATE_FACTORS[step], "failed": failed, "seeds": seeds,
        "seconds": {run: json.loads(path.read_text())["seconds"] for names in runs.values() for run in names
                    if (path := Path("results") / dataset / run / "train.json").is_file()},
    }  # fmt: skip
    if any(not (Path("results") / dataset / run / "weights.pt").is_file() for names in runs.values() for run in names):
        return {**result, "verdict": "none: not every network could be trained"}
    frames = read_frames(plan, dataset, "test")
    thresholds = {run: choose_thresholds(plan, dataset, run, floor=claim.floor)
                  for names in runs.values() for run in names}  # fmt: skip
    weights = draw_frames([frame.sequence for frame in frames], rng=np.random.default_rng(0))
    for point in ("mcc", "half", claim.floor):
        counts = {
            arm: np.array(
                [
                    [count_frame(read_map(dataset, run, f), f, threshold=thresholds[run][point]) for f in frames]
                    for run in names
                ]
            )
            for arm, names in runs.items()
        }
        result[point] = compare(counts, weights=weights)
        result[point]["thresholds"] = {arm: [thresholds[run][point] for run in names] for arm, names in runs.items()}
    decides = claim.decides if study.scene else claim.decides_real
    return {**result, "decides": decides, "verdict": give_verdict(result["mcc"][decides], claim.wanted, failed=failed)}


def draw_frames(sequences: list[str], *, rng: np.random.Generator) -> np.ndarray:
    """Draw bootstrap weights of frames: sequences with replacement, then frames of each; shape (replicates, frames)."""
    names = sorted(set(sequences))
    members = [np.flatnonzero(np.array(sequences) == name) for name in names]
    weights = np.zeros((REPLICATES, len(sequences)))
    for replicate in weights:
        for chosen in rng.integers(len(names), size=len(names)):
            np.add.at(replicate, rng.choice(members[chosen], size=len(members[chosen])), 1)
    return weights


def compare(counts: dict[str, np.ndarray], *, weights: np.ndarray) -> dict[str, Any]:
    """Compute each measure of both arms and their difference, with intervals.

    Parameters
    ----------
    counts : dict of ndarray
        One per arm, shape (seeds, frames, counts).
    weights : ndarray of shape (replicates, frames)
        From `draw_frames`.
    """
    (first, one), (second, other) = (
        (arm, (measure(each.sum(axis=1)), measure(np.einsum("rf,sfc->rsc", weights, each))))
        for arm, each in counts.items()
    )
    table: dict[str, Any] = {}
    for name in MEASURES:
        if np.isnan([one[0][name], other[0][name]]).all():
            continue
        replicates = {first: one[1][name].mean(axis=1), second: other[1][name].mean(axis=1)}
        table[name] = {
            arm: {"seeds": sides[0][name].tolist(), **summarise(sides[0][name].mean(), replicates[arm])}
            for arm, sides in ((first, one), (second, other))
        }
        table[name]["difference"] = summarise(
            other[0][name].mean() - one[0][name].mean(), replicates[second] - replicates[first]
        )
    return table


def summarise(value: float, replicates: np.ndarray) -> dict[str, Any]:
    """Return a value and the interval of its replicates, which is None if all of these are NaN."""
    known = replicates[~np.isnan(replicates)]
    interval = np.quantile(known, [0.025, 0.975]).tolist() if len(known) else None
    return {"value": float(value), "interval": interval}


def give_verdict(row: dict[str, Any] | None, wanted: int, *, failed: list[str]) -> str:
    """Return the verdict on the claim from the interval of the difference."""
    if failed:
        return f"none: {', '.join(failed)} did not learn"
    interval = row and row["difference"]["interval"]
    if not interval:
        return "none: nothing to measure on"
    low, high = interval
    if low <= 0 <= high:
        return "open"
    return "shown" if (low > 0) == (wanted > 0) else "contradicted"


# ---- tables ----------------------------------------------------------------------------------------------


def tabulate(dataset: str, result: dict[str, Any], study: Study) -> str:
    """Write the table of a study as Markdown."""
    claim = CLAIMS[study.claim]
    first, second = claim.arms
    lines = [f"### {dataset}: {result['verdict']}", "", f"Learning rate {result['rate']:.3g}."]
    for point in ("mcc", "half", claim.floor):
        if point not in result:
            continue
        at = {arm: ", ".join(f"{value:.2f}" for value in each) for arm, each in result[point]["thresholds"].items()}
        lines += [
            "",
            f"| {describe(point)} | {first} ({at[first]}) | {second} ({at[second]}) | {second} less {first} |",
        ]
        lines += ["|---|---|---|---|"]
        for name, row in result[point].items():
            if name in MEASURES:
                mark = ", decides" if point == "mcc" and name == result["decides"] else ""
                cells = [say(row[arm]) for arm in (first, second)] + [say(row["difference"], sign="+")]
                lines.append(f"| {MEASURES[name]}{mark} | {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(point: str) -> str:
    share = f"threshold of a {point} of {SMALLEST_SHARE:g}"
    return {"mcc": "threshold of the highest MCC", "half": "threshold .5"}.get(point, share)


def say(row: dict[str, Any], *, sign: str = "") -> str:
    digits = 1 if abs(row["value"]) >= 10 else 3
    text = f"{row['value']:{sign}.{digits}f}"
    if row["interval"]:
        text += " ({} to {})".format(*(f"{end:{sign}.{digits}f}" for end in row["interval"]))
    if "seeds" in row:
        text += " [" + ", ".join(f"{seed:.{digits}f}" for seed in row["seeds"]) + "]"
    return text


# ---- the run ---------------------------------------------------------------------------------------------


def prepare(folder: Path, studies: dict[str, Study], real: Path, *, smoke: bool) -> None:
    """Write the files named in the config into the study's folder, or check that its results are of this protocol."""
    config = make_config(studies, smoke=smoke)
    text, path = json.dumps(config, indent=1), folder / "config.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise SystemExit(
            f"claims: {folder} holds the results of another protocol, or of other data. Give another folder."
        )
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name, study in studies.items():
        if study.scene is not None:
            section = config["datasets"][name]["simulate"]
            write_split(folder / f"{name}.csv", section, parts=study.parts)
    if smoke:
        write_stand_in(folder / "real")
    elif any(study.scene is None for study in studies.values()):
        (folder / "real").unlink(missing_ok=True)
        (folder / "real").symlink_to(real.resolve())
    path.write_text(text, encoding="utf-8")


def main() -> None:
    """Run the study in a folder and print its tables."""
    words = [word for word in sys.argv[1:] if word != "--smoke"]
    smoke = "--smoke" in sys.argv[1:]
    folder = Path(words[0] if words else "claims_smoke" if smoke else "claims").resolve()
    real = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared/data")) / REAL_FOLDER
    if not smoke and not real.is_dir():
        print(f"claims: no folder {real}, so the real sequence is left out. Set CELLMILL_DATA.", file=sys.stderr)
    studies = choose_studies(smoke=smoke, is_real_there=real.is_dir())
    prepare(folder, studies, real, smoke=smoke)
    os.chdir(folder)
    start = time.perf_counter()
    rates = run_all(studies)
    plan = read_plan()
    results = {name: judge(plan, name, study, rates[name]) for name, study in studies.items()}
    Path("claims.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, study in studies.items():
        print(tabulate(name, results[name], study), end="\n\n")
    print(f"{time.perf_counter() - start:.0f} s; all numbers: {folder}/claims.json", file=sys.stderr)


if __name__ == "__main__":
    main()
