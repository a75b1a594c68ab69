"""The full pipeline on Sartorius neurons: row-major runs in one table, overlapping cells, three cell types.

The data are not part of the project; without them these tests are skipped with a message.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from project import TINY, copy_project, snakemake, write_config

pytestmark = pytest.mark.long  # a whole run on real images


@pytest.fixture(scope="module")
def sartorius(real_data, tmp_path_factory) -> Path:
    """Five phase-contrast images with 659 cells in one table of row-major runs, some of them overlapping."""
    project = copy_project(tmp_path_factory.mktemp("sartorius") / "project")
    (project / "train").symlink_to((real_data / "sartorius_cell_instance/train").resolve())
    (project / "train.csv").symlink_to((real_data / "sartorius_cell_instance/train.csv").resolve())
    config = {
        "datasets": {
            "neurons": {
                "images": "train/{sample}.png",
                "annotations": {"format": "rle", "table": "train.csv", "order": "row"},
                "class_column": "cell_type",
                "models": [{"preset": "sartorius_unet", **TINY, "predict": {"tile": [256, 256]}}],
            }
        }
    }
    write_config(project, config, "config.yaml")
    snakemake(project, "--cores", "2")
    return project


def decode_by_hand(text: str, shape: tuple[int, int]) -> np.ndarray:
    """Decode row-major, 1-based runs pixel by pixel, as the competition specifies them."""
    flat = np.zeros(shape[0] * shape[1], bool)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[start - 1 : start - 1 + length] = True
    return flat.reshape(shape)


def test_overlapping_cells_are_resolved_and_counted(sartorius):
    table = pd.read_csv(sartorius / "train.csv")
    labels_dir = sartorius / "results/neurons/labels"
    overlaps = pd.concat([pd.read_csv(path) for path in labels_dir.glob("*/overlaps.csv")])
    faults = pd.concat([pd.read_csv(path) for path in labels_dir.glob("*/faults.csv")])
    filled = faults.loc[faults["fault"] == "repaired", "pixels"].sum()
    areas = unions = 0
    for path in labels_dir.glob("*/*.tif"):
        labels = tifffile.imread(path)
        masks = [decode_by_hand(text, labels.shape) for text in table.loc[table["id"] == path.stem, "annotation"]]
        union = np.logical_or.reduce(masks)
        assert not (union & (labels == 0)).any()
        assert len(np.unique(labels)) - 1 == len(masks)
        areas += sum(int(mask.sum()) for mask in masks)
        unions += int((labels > 0).sum())
    assert len(table) == 659
    assert len(overlaps) > 400
    assert areas + filled - overlaps["pixels"].sum() == unions


def test_five_images_make_three_parts_and_a_report(sartorius):
    samples = pd.read_csv(sartorius / "results/neurons/samples.csv")
    assert set(samples["split"]) == {"train", "validation", "test"}
    assert set(samples["class"]) == {"shsy5y", "astro", "cort"}
    assert (sartorius / "results/neurons/report.html").is_file()


def test_the_wrong_order_of_runs_is_found_before_anything_is_trained(sartorius, tmp_path):
    project = copy_project(tmp_path / "wrong")
    for name in ("train", "train.csv"):
        (project / name).symlink_to((sartorius / name).resolve())
    config = {
        "datasets": {
            "neurons": {
                "images": "train/{sample}.png",
                "annotations": {"format": "rle", "table": "train.csv", "order": "column"},
            }
        }
    }
    write_config(project, config, "config.yaml")
    finished = snakemake(project, "--cores", "2", "check", check=False)
    assert finished.returncode != 0
    assert "Set annotations.order to row" in finished.stderr
