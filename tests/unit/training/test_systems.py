"""The papers' twelve systems by preset: each has its size, trains, resumes, predicts and can overfit a few images.

They are small variants: the preset's own recipe with fewer channels, smaller patches and few steps. The overfitting
test uses Adam without augmentation, since the papers' budgets are thousands of times larger.
"""

import csv
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import cellmill.training.stepping
from cellmill.config.preset import ModelPreset
from cellmill.images.stored import read_labels
from cellmill.models.registry import build_network, count_parameters
from cellmill.models.weights import read_weights
from cellmill.planning.runs import load_preset, merge_preset
from cellmill.stages.predict import predict_shard
from cellmill.stages.train import train_model
from cellmill.training.checkpoints import Stopped
from training_shards import merge, network_of, write_training_shard
from whole_images import read_probabilities

PRESETS = Path(__file__).resolve().parents[3] / "resources" / "models"
GOLDEN = Path(__file__).with_name("golden_losses.json")
# Sums in another order, on another processor or with another number of threads, stay within this in the first epoch,
# and differences grow from there. Most differ by less than .1 %; the batch normalisation of segnet_vgg16 makes 1.2 % of
# it between processors of Intel and AMD in the second epoch.
GOLDEN_TOLERANCES = (1e-2, 3e-2)

# SOURCE number of parameters, computed from the papers' layers; largest receptive field of an output pixel in px
SYSTEMS = {
    "stemnet1": (305_442, 84),
    "stemnet5": (307_042, 84),
    "clstm_unet_text": (128_169_090, 148),
    "clstm_unet_code": (74_606_531, 215),
    "unet_isbi": (31_031_685, 220),
    "segnet_vgg16": (29_443_010, 404),
    "sartorius_unet": (7_765_409, 204),
    "sartorius_hot": (7_766_273, 204),
    "sartorius_hot_weighted": (7_766_273, 204),
    "sartorius_hot_flow": (7_766_273, 204),
    "sartorius_hot_drop": (7_766_273, 204),
    "fcrn_a": (1_365_282, 54),
}
RECURRENT = ("clstm_unet_text", "clstm_unet_code")
WIDTHS = {"clstm_unet_text": 1 / 16, "clstm_unet_code": 1 / 16, "stemnet1": 1 / 2, "stemnet5": 1 / 2, "fcrn_a": 1 / 2}
WIDTHS |= {"unet_isbi": 1 / 8, "segnet_vgg16": 1 / 8}
LEARNING_RATES = {"segnet_vgg16": 0.01, "clstm_unet_code": 0.01} | {
    name: 0.01 for name in SYSTEMS if name.startswith("sartorius")
}
# Grey values of directions start at .29.
THRESHOLDS = {"sartorius_hot_flow": 0.15}

pytestmark = pytest.mark.parametrize("name", SYSTEMS)


def small(name, **changes):
    """Return the settings of a preset with fewer channels and small patches, and with further changes."""
    narrow = {"width": WIDTHS.get(name, 1 / 4), "train": {"patch": [64, 64]}}
    content = merge_preset(load_preset(name, presets_dir=PRESETS, where=""), merge(narrow, changes))
    return ModelPreset.model_validate(content).model_dump(mode="json")


def run_keywords(folder, shard, preset):
    samples = [path.stem for path in sorted(shard[0].glob("*.tif"))]
    return {
        "weights_path": folder / "weights.pt",
        "history_path": folder / "history.csv",
        "summary_path": folder / "train.json",
        "choices_path": folder / "choices.json",
        "pixel_size_um": None,
        "train_images": [shard[0]],
        "train_labels": [shard[1]],
        "validation_images": [shard[0]],
        "validation_labels": [shard[1]],
        "around_images": [],
        "network": network_of(preset),
        "input": preset["input"],
        "train": preset["train"],
        "seed": 1,
        "init_from": None,
        "init_weights": "all",
        "passages": [samples],
        "classes": dict.fromkeys(samples, "astro"),
        "threads": 1,
        "gpu": 0,
        "code": {},
    }


def train(folder, shard, preset):
    folder.mkdir(exist_ok=True)
    train_model(**run_keywords(folder, shard, preset))
    with (folder / "history.csv").open() as stream:
        history = list(csv.DictReader(stream))
    return read_weights(folder / "weights.pt")["state_dict"], history


def predict(folder, shard, preset):
    samples = [path.stem for path in sorted(shard[0].glob("*.tif"))]
    predict_shard(
        output_dir=folder / "probabilities",
        images_dir=shard[0],
        around_dirs=[],
        weights_path=folder / "weights.pt",
        predict=preset["predict"],
        passages=[samples],
        classes=dict.fromkeys(samples, "astro"),
        pixel_size_um=None,
        threads=1,
        gpu=0,
    )
    return {sample: read_probabilities(folder / "probabilities" / f"{sample}.tif") for sample in samples}


def test_its_size_is_that_of_the_paper(name):
    preset = ModelPreset.model_validate(load_preset(name, presets_dir=PRESETS, where="")).model_dump(mode="json")
    with torch.device("meta"):
        network = build_network(network_of(preset))
    assert (count_parameters(network), network.receptive_field_px) == SYSTEMS[name]
    assert network.is_recurrent == (name in RECURRENT)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Six images that are also six frames of a sequence."""
    return write_training_shard(tmp_path_factory.mktemp("frames"), "f", shapes=[(70, 64)] * 6, cells=6, radius_px=7)


def test_it_trains_resumes_and_predicts(name, frames, tmp_path, monkeypatch, request):
    epochs = {"epochs": 2, "patches_per_image": 2, "batch": 2, "streams": {"unroll": 3}}
    preset = small(name, train=epochs)
    weights, history = train(tmp_path / "unbroken", frames, preset)

    # The same training, stopped within the second epoch.
    steps, real = [], cellmill.training.stepping.measure_loss

    def stop_in_time(*args, **keywords):
        steps.append(1)
        if len(steps) == STOP_AT[name]:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(*args, **keywords)

    monkeypatch.setattr(cellmill.training.stepping, "measure_loss", stop_in_time)
    with pytest.raises(Stopped):
        train(tmp_path / "broken", frames, preset)
    monkeypatch.undo()
    assert [path.name[:12] for path in (tmp_path / "broken").iterdir()] == [".weights.che"]
    resumed, history_of_both = train(tmp_path / "broken", frames, preset)
    for key, tensor in weights.items():
        assert torch.equal(resumed[key], tensor), key
    assert [row["train_loss"] for row in history_of_both] == [row["train_loss"] for row in history]

    maps = predict(tmp_path / "unbroken", frames, preset)
    assert {prob_cyx.shape[1:] for prob_cyx in maps.values()} == {(70, 64)}
    assert all(0 <= prob_cyx[0].min() <= prob_cyx[0].max() <= 1 for prob_cyx in maps.values())

    losses = [float(row["train_loss"]) for row in history]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if request.config.getoption("--regenerate-golden"):
        GOLDEN.write_text(json.dumps({**golden, name: [round(loss, 6) for loss in losses]}, indent=1) + "\n")
        print(f"{name}: {golden.get(name)} -> {losses}")
    else:
        is_near = [
            loss == pytest.approx(expected, rel=tolerance)
            for loss, expected, tolerance in zip(losses, golden[name], GOLDEN_TOLERANCES, strict=True)
        ]
        assert all(is_near), (
            f"training losses changed from {golden[name]} to {losses}. If intended, run pytest tests/unit/training/test_systems.py -n0 "
            "--regenerate-golden and state in the changelog that results change"
        )


# Within the second epoch: an epoch has 6 steps of two patches or, for windows, 2 steps (two times 6 frames in two
# slots of 3).
STOP_AT = {name: 3 if name in RECURRENT else 8 for name in SYSTEMS}


def test_it_can_learn_an_image_by_heart(name, tmp_path):
    is_temporal = name in RECURRENT or name == "stemnet5"
    shard = write_training_shard(tmp_path, "s", shapes=[(64, 64)] * (4 if is_temporal else 1), cells=6, radius_px=9)
    preset = small(
        name,
        # Planes of classes that were never seen carry no information.
        input={"class_at_prediction": "oracle"},
        train={
            "epochs": 4,
            "patches_per_image": {"stemnet1": 120, "stemnet5": 30}.get(name, 40),
            "batch": 1 if name in RECURRENT else 2,
            "patience": None,
            "streams": {"unroll": 4, "max_step": 1, "reverse": False},
            "optimiser": {"name": "adam", "learning_rate": LEARNING_RATES.get(name, 3e-3), "momentum": 0.9},
            "schedule": {"name": "cosine"},
            "augmentation": {
                "flip": False, "rotate_90": False, "affine_probability": 0, "elastic": None,
                "contrast": 0, "brightness": 0,
            },
        },
    )  # fmt: skip
    train(tmp_path, shard, preset)
    scores = []
    for sample, prob_cyx in predict(tmp_path, shard, preset).items():
        found_yx = prob_cyx[0] >= THRESHOLDS.get(name, 0.5)
        truth_yx = read_labels(shard[1] / f"{sample}.tif") > 0
        scores.append(2 * np.sum(found_yx & truth_yx) / (found_yx.sum() + truth_yx.sum()))
    # clstm_unet_text reaches .949 on one kind of processor and more than .95 on another.
    assert np.mean(scores) > 0.94
