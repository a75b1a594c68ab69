"""Is the order of the worklist better than chance? Networks trained on images from its head and on random ones.

``make worklist`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: 66 images of DSB 2018 (BBBC038) of all kinds, drawn by a hash, and the 35 frames of Fluo-N2DL-HeLa as single
  images, whose neighbours are nearly alike. A third of the images is tested, the last frames of the time-lapse.
- Draws: three. In each, FIRST images are annotated at random, and a tenth of the images, at least 3, is for validation.
  `default` is trained on them with STEPS steps from random weights, and predicts all others.
- Arms: FIRST further images are annotated, at random or from the head of an order. `default` is trained again on twice
  as many images.
- Orders: `novelty`, doubt times novelty of the image itself (`curation/order.py`); `doubt`, the sum of doubt times
  novelty of all images that an annotation lowers; `typical`, the same with equal doubt.
- Score: Kaggle's AP and AP at an IoU of 0.5 of the final objects, mean over the test images. The difference to the
  random arm is paired by image, and its interval is a bootstrap over test images of the mean over the draws.

First round: `novelty` on `dsb2018` and `hela`. It was the order of the worklist, and worse than chance on `dsb2018`.
Second round: all orders on `dsb2018b`, 66 other images, and `hela`. The worklist has the order with the highest mean
over both of the difference in Kaggle's AP, or is random if none is better than chance.
"""

import csv
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from cellmill.curation.order import order_images  # noqa: E402  the module is found here
from cellmill.shards import stable_hash  # noqa: E402
from cellmill.stages.worklist import describe_samples, read_by_sample  # noqa: E402
from real_runs import find_data, run_pipeline  # noqa: E402

FIRST, STEPS, VALIDATIONS, DRAWS, IMAGES = 5, 300, 3, 3, 66
MODEL = {"preset": "default", "start": None, "train": {"steps": STEPS, "epochs": VALIDATIONS}}
METRICS = ("ap_kaggle", "ap_0.50")
REPLICATES = 2000
# Doubt, descriptors and annotated images -> numbers of the other images in order
Order = Callable[[np.ndarray, np.ndarray, np.ndarray], list[int]]


def by_novelty(doubt: np.ndarray, described_nd: np.ndarray, is_known: np.ndarray) -> list[int]:
    return [number for number, _ in order_images(doubt, described_nd, is_known=is_known, picks=FIRST)]


def by_doubt(doubt: np.ndarray, described_nd: np.ndarray, is_known: np.ndarray) -> list[int]:
    """Greedy order of facility location: each image lowers the sum of doubt times novelty over all images most.

    SOURCE Wei, Iyer and Bilmes 2015, "Submodularity in data subset selection and active learning"
    """
    distances_nn = np.linalg.norm(described_nd[:, np.newaxis] - described_nd, axis=2)
    nearest = distances_nn[:, is_known].min(axis=1)
    scale = max(float(np.median(nearest[~is_known])), 1e-9)
    novelty_nn, weight = 1 - scale / (distances_nn + scale), np.where(is_known, 0.0, doubt)
    order: list[int] = []
    for _ in range(FIRST):
        novelty = 1 - scale / (nearest + scale)
        gains = np.where(is_known, -1.0, np.maximum(novelty - novelty_nn, 0) @ weight)
        gains[order] = -1.0
        order.append(int(np.argmax(gains)))
        nearest = np.minimum(nearest, distances_nn[order[-1]])
    return order


def by_typical(doubt: np.ndarray, described_nd: np.ndarray, is_known: np.ndarray) -> list[int]:
    return by_doubt(np.ones_like(doubt), described_nd, is_known)


ORDERS: dict[str, Order] = {"novelty": by_novelty, "doubt": by_doubt, "typical": by_typical}
ROUNDS = {"dsb2018": ("novelty",), "dsb2018b": tuple(ORDERS), "hela": tuple(ORDERS)}


def find_files(data: Path) -> dict[str, dict[str, tuple[Path, Path]]]:
    """Find the images and label images of all sets: set -> sample -> files; the last third is tested."""
    folder = data / "dsb2018_more/stage1_train"
    names = sorted(
        (path.stem for path in (folder / "images").glob("*.png")), key=lambda n: stable_hash(n, purpose="study")
    )
    bowl = {name: (folder / f"images/{name}.png", folder / f"labels/{name}.png") for name in names[: 2 * IMAGES]}
    sequence = data / "ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa"
    frames = sorted(sequence.glob("01/t*.tif")) or sorted(sequence.glob("02/t*.tif"))
    return {
        "dsb2018": {name: bowl[name] for name in names[:IMAGES]},
        "dsb2018b": {name: bowl[name] for name in names[IMAGES : 2 * IMAGES]},
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


def order_pool(folder: Path, files: dict[str, tuple[Path, Path]], known: list[str], order: Order) -> list[str]:
    """Order the images that are not annotated by what a trained network predicts in them."""
    counts, measured = (read_by_sample(folder / name) for name in ("default/counts.csv", "check/images.csv"))
    samples = [sample for sample in files if sample in counts and sample in measured]
    doubt, described_nd = describe_samples(samples, counts=counts, measured=measured)
    is_known = np.array([sample in known for sample in samples])
    return [samples[number] for number in order(doubt, described_nd, is_known)]


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
        own = parts[name, draw]
        known = [sample for part, samples in own.items() if part != "pool" for sample in samples]
        results = folder / f"results/{name}{draw}"
        chosen = {arm: order_pool(results, found[name], known, ORDERS[arm]) for arm in ROUNDS[name]}
        for arm, samples in {"random": own["pool"], **chosen}.items():
            more = {**own, "train": [*own["train"], *samples[:FIRST]]}
            arms[f"{name}{draw}{arm}"] = write_dataset(folder / f"{name}{draw}{arm}", found[name], more)
    run_pipeline(folder, data, {"seed": 1, "datasets": arms}, until=("evaluate",))
    print(f"| data | score | {FIRST} images | {2 * FIRST}, random | order | {2 * FIRST}, in this order | difference |")
    print("|---|---|---|---|---|---|---|")
    for name, metric in ((name, metric) for name in found for metric in METRICS):
        means = {arm: _means(folder, name, arm, metric) for arm in ("", "random", *ROUNDS[name])}
        for arm in ROUNDS[name]:
            paired = means[arm] - means["random"]
            draws = np.random.default_rng(0).integers(len(paired), size=(REPLICATES, len(paired)))
            low, high = np.quantile(paired[draws].mean(axis=1), (0.025, 0.975))
            values = f"{means[''].mean():.3f} | {means['random'].mean():.3f} | {arm} | {means[arm].mean():.3f}"
            print(f"| {name} | {metric} | {values} | {paired.mean():+.3f} ({low:+.3f} to {high:+.3f}) |", flush=True)


def _means(folder: Path, name: str, arm: str, metric: str) -> np.ndarray:
    """Return the score of each test image, mean over the draws."""
    tables = [read_scores(folder / f"results/{name}{draw}{arm}/scores.csv") for draw in range(1, DRAWS + 1)]
    means: np.ndarray = np.mean([[one[metric] for _, one in sorted(table.items())] for table in tables], axis=0)
    return means


if __name__ == "__main__":
    main()
