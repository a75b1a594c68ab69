"""Real images with fabricated predictions, as the stages before the report leave them, for the tests of the page."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy import ndimage

from cellmill.images.files import read_plane
from cellmill.images.stored import write_labels
from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from report_example import build_example
from whole_images import write_image, write_probabilities

# Image shape -> class; the first image of each shape is taken.
SHAPES = {
    (256, 256): "fluorescence", (360, 360): "fluorescence", (520, 696): "fluorescence", (256, 320): "histology",
    (603, 1272): "embryo",
}  # fmt: skip
# Model -> n where every n-th object is missed, by how many pixels the others are drawn too large, noise.
FAULTS = {"wide": (11, 1, 0.04), "narrow": (4, -1, 0.12)}


def build_real_example(root: Path, data_dir: Path) -> dict[str, Any]:
    """Write a dataset of nuclei below `root` and return the arguments of `write_report`, except output_path.

    Parameters
    ----------
    root : path
        An empty folder.
    data_dir : path
        Holds dsb2018/stage1_train/{sample}/images and masks, one PNG per nucleus.

    Returns
    -------
    dict
        As returned by `build_example`. Scores are those of the fabricated predictions.
    """
    folders = _choose_folders(data_dir / "dsb2018" / "stage1_train")
    arguments = build_example(root, test_names=tuple(folders), title="Nuclei of many stains")
    (shard,) = arguments["labels_dirs"]
    geometries, scores, objects = {}, [], {run["model"]: [] for run in arguments["runs"]}
    for row in arguments["samples"]:
        if row["sample"] not in folders:
            continue
        name = row["sample"]
        raw_path = folders[name] / "images" / f"{name}.png"
        image_yx = read_plane(raw_path, channel="luminance").astype(np.float32)
        truth_yx = _read_masks(folders[name] / "masks", image_yx.shape)
        row |= {"image": str(raw_path), "class": SHAPES[image_yx.shape]}
        geometries[name] = plan_fit(image_yx.shape, mode="none", size=None)
        write_image(arguments["images_dirs"][shard] / f"{name}.tif", image_yx - ndimage.gaussian_filter(image_yx, 25))
        write_labels(arguments["labels_dirs"][shard] / f"{name}.tif", truth_yx)
        for run in arguments["runs"]:
            found_yx, probability_yx = _fabricate(truth_yx, *FAULTS[run["model"]])
            write_probabilities(run["probabilities"][shard] / f"{name}.tif", probability_yx[np.newaxis])
            write_labels(run["segmentation"][shard] / f"{name}.tif", found_yx)
            objects[run["model"]] += _measure(name, found_yx, image_yx)
            scores.append({"model": run["model"], "sample": name, **_score(found_yx, truth_yx)})
    write_geometry(arguments["images_dirs"][shard] / "geometry.csv", geometries)
    for run in arguments["runs"]:
        pd.DataFrame(objects[run["model"]]).to_csv(run["objects"], index=False)
    _rewrite_check(arguments, geometries, pd.DataFrame(objects["wide"]))
    _rewrite_scores(arguments, pd.DataFrame(scores))
    return arguments


def _choose_folders(parent: Path) -> dict[str, Path]:
    chosen: dict[tuple[int, int], Path] = {}
    for folder in sorted(parent.iterdir()):
        with Image.open(folder / "images" / f"{folder.name}.png") as image:
            chosen.setdefault((image.height, image.width), folder)
    return {chosen[shape].name: chosen[shape] for shape in SHAPES}


def _read_masks(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    labels_yx = np.zeros(shape, dtype=np.uint16)
    for number, path in enumerate(sorted(folder.glob("*.png")), start=1):
        with Image.open(path) as mask:
            labels_yx[np.asarray(mask.convert("L")) > 0] = number
    return labels_yx


def _fabricate(truth_yx: np.ndarray, every: int, by_px: int, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Miss some objects, draw the others too large or too small, and invent one that is not there."""
    kept_yx = np.where(truth_yx % every == 0, 0, truth_yx)
    grown_yx = ndimage.grey_dilation(kept_yx, size=(2 * by_px + 1,) * 2) if by_px > 0 else kept_yx
    found_yx = np.where(kept_yx > 0, kept_yx, grown_yx)
    if by_px < 0:
        found_yx = np.where(ndimage.minimum_filter(kept_yx, size=3) == kept_yx, kept_yx, 0)
    found_yx[2:14, -16:-4] = found_yx.max() + 1
    rng = np.random.default_rng(3)
    blurred_yx = ndimage.gaussian_filter((found_yx > 0).astype(np.float32), 1.5)
    return found_yx, np.clip(blurred_yx + noise * rng.standard_normal(truth_yx.shape), 0, 1).astype(np.float32)


def _measure(name: str, found_yx: np.ndarray, image_yx: np.ndarray) -> list[dict[str, Any]]:
    numbers = np.unique(found_yx[found_yx > 0])
    areas = np.bincount(found_yx.ravel())[numbers]
    means = ndimage.mean(image_yx, found_yx, numbers)
    return [
        {"sample": name, "object": number, "area_px": area, "raw_intensity_mean": mean}
        for number, area, mean in zip(numbers, areas, means, strict=True)
    ]


def _score(found_yx: np.ndarray, truth_yx: np.ndarray) -> dict[str, float]:
    overlaps = count_overlaps(found_yx, truth_yx, valid_yx=np.ones(truth_yx.shape, dtype=bool))
    both = np.count_nonzero((found_yx > 0) & (truth_yx > 0))
    counts = count_objects(overlaps)
    return {
        "dice": 2 * both / (np.count_nonzero(found_yx) + np.count_nonzero(truth_yx)),
        "ap_kaggle": float(score_instances(counts)["ap_kaggle"]),
        "n_true": counts["n_true"], "n_predicted": counts["n_predicted"],
    }  # fmt: skip


def _rewrite_check(arguments: dict[str, Any], geometries: dict[str, Any], objects: pd.DataFrame) -> None:
    """Replace the example's sizes of images and objects by the real ones."""
    _, images_path, annotations_path = arguments["check_paths"]
    images, annotations = (pd.read_csv(path).set_index("sample") for path in (images_path, annotations_path))
    areas = objects.groupby("sample")["area_px"]
    for name, geometry in geometries.items():
        images.loc[name, ["rows", "columns"]] = geometry.raw_shape
    annotations.loc[list(geometries), "objects"] = areas.count()
    annotations.loc[list(geometries), "median_area_px"] = areas.median()
    for key in ("min", "max"):
        annotations.loc[list(geometries), f"{key}_area_px"] = areas.agg(key)
    images.to_csv(images_path)
    annotations.to_csv(annotations_path)


def _rewrite_scores(arguments: dict[str, Any], found: pd.DataFrame) -> None:
    """Replace the example's scores by those of `found`."""
    table = pd.read_csv(arguments["scores_path"])
    kept = table.drop(columns=["dice", "ap_kaggle", "n_true", "n_predicted"])
    kept.merge(found, on=["model", "sample"]).to_csv(arguments["scores_path"], index=False)
    means = found.groupby("model")[["dice", "ap_kaggle"]].mean()
    for name in ("metrics_path", "comparisons_path"):
        table = pd.read_csv(arguments[name], keep_default_na=False, dtype=str)
        own = table["against"] == "" if "against" in table else pd.Series(True, index=table.index)
        for model, row in means.iterrows():
            for metric, mean in row.items():
                here = own & (table["model"] == model) & (table["metric"] == metric)
                table.loc[here, ["value", "ci_low", "ci_high"]] = [str(mean), str(mean - 0.02), str(mean + 0.02)]
        table.to_csv(arguments[name], index=False)
