"""Stage train: the network learns, results are exactly repeatable, and a kill does not change them."""

import csv
import itertools
import json
import math
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import cellmill.stages.train
import cellmill.training.batches
from cellmill.config.preset import ModelPreset
from cellmill.images.stored import IGNORE_LABEL, read_labels, write_labels
from cellmill.models.choices import read_choices
from cellmill.models.registry import build_network
from cellmill.models.weights import join_members, read_weights, write_weights
from cellmill.planning.runs import load_preset
from cellmill.stages.train import train_model
from cellmill.training.batches import iterate_batches
from cellmill.training.budget import Costs
from cellmill.training.checkpoints import Stopped, StopRequest
from cellmill.training.optimisers import build_optimiser, learning_rate_at
from cellmill.training.team import Team
from cellmill.training.validation import validate
from training_shards import image_set, network_of, tiny_preset, write_training_shard
from whole_images import write_image

WORKFLOW = Path(cellmill.training.batches.__file__).parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train = write_training_shard(folder, "train", shapes=[(48, 48), (40, 70), (64, 64), (30, 30)])
    validation = write_training_shard(folder, "validation", shapes=[(50, 40), (41, 47)], seed=9)
    return {
        "train_images": [train[0]],
        "train_labels": [train[1]],
        "validation_images": [validation[0]],
        "validation_labels": [validation[1]],
    }


def keywords(folder, shards, *, seed=7, init_from=None, init_weights="all", classes=None, **changes):
    preset = tiny_preset(**changes)
    return {
        "weights_path": folder / "weights.pt",
        "history_path": folder / "history.csv",
        "summary_path": folder / "train.json",
        "choices_path": folder / "choices.json",
        "pixel_size_um": None,
        "around_images": [],
        "passages": None,
        **shards,
        "network": network_of(preset),
        "input": preset["input"],
        "train": preset["train"],
        "seed": seed,
        "init_from": init_from,
        "init_weights": init_weights,
        "classes": classes,
        "threads": 1,
        "gpu": 0,
        "code": {"cellmill.stages.train": "abc"},
    }


def train(folder, shards, **changes):
    folder.mkdir(exist_ok=True)
    train_model(**keywords(folder, shards, **changes))
    return read_weights(folder / "weights.pt")["state_dict"]


def history_of(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def validate_on(model, shard):
    return validate(model, image_set(shard), warmup=0, device=torch.device("cpu"), stop=StopRequest())


LEARNING = {
    "width": 1 / 8,
    "train": {
        "epochs": 8,
        "patches_per_image": 12,
        "batch": 4,
        "schedule": {"name": "cosine"},
        "augmentation": {"flip": True, "rotate_90": True},
    },
}


@pytest.fixture(scope="module")
def learned(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    train(folder, shards, **LEARNING)
    return folder


def test_it_learns_cells_on_an_uneven_background(learned):
    rows = history_of(learned)
    assert float(rows[-1]["train_loss"]) < 0.5 * float(rows[0]["train_loss"])
    assert max(float(row["validation_dice"]) for row in rows) > 0.85


def test_the_weights_are_those_of_the_best_epoch(learned, shards):
    losses = [float(row["validation_loss"]) for row in history_of(learned)]
    contents = read_weights(learned / "weights.pt")
    model = build_network(contents["network"])
    model.load_state_dict(contents["state_dict"])
    loss, _ = validate_on(model, (shards["validation_images"][0], shards["validation_labels"][0]))
    assert loss == pytest.approx(min(losses), rel=1e-4)
    summary = json.loads((learned / "train.json").read_text())
    assert summary["best_epoch"] == losses.index(min(losses)) + 1


def test_the_summary_says_what_was_done_on_what(learned):
    summary = json.loads((learned / "train.json").read_text())
    contents = read_weights(learned / "weights.pt")
    weights = [v for k, v in contents["state_dict"].items() if k.endswith(("weight", "bias"))]
    assert summary["parameters"] == sum(w.numel() for w in weights)
    assert summary["receptive_field_px"] == 44
    assert (summary["epochs_done"], summary["seed"], summary["threads"]) == (8, 7, 1)
    assert (summary["device"], summary["gpu_name"]) == ("cpu", "")
    assert summary["versions"]["torch"] == torch.__version__
    assert summary["settings"]["train"]["patches_per_image"] == 12
    assert summary["seconds"] == pytest.approx(sum(float(row["seconds"]) for row in history_of(learned)), rel=0.2)
    assert summary["peak_memory_mb"] > 50


def test_the_history_has_a_row_an_epoch(learned):
    rows = history_of(learned)
    assert [int(row["epoch"]) for row in rows] == list(range(1, 9))
    assert list(rows[0]) == [
        "epoch", "step", "learning_rate", "train_loss", "validation_loss", "validation_dice", "seconds",
    ]  # fmt: skip


def test_no_checkpoint_is_left_behind(learned):
    assert sorted(path.name for path in learned.iterdir()) == [
        "choices.json",
        "history.csv",
        "train.json",
        "weights.pt",
    ]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path, shards):
    first, second = (train(tmp_path / name, shards) for name in ("one", "two"))
    assert_equal(first, second)
    assert (tmp_path / "one" / "weights.pt").read_bytes() == (tmp_path / "two" / "weights.pt").read_bytes()
    other = train(tmp_path / "three", shards, seed=8)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# Against hangs only
PATIENCE_S = 300
INTERRUPTED = {
    "network": {"dropout": 0.1},
    "train": {"epochs": 4, "patches_per_image": 3, "augmentation": {"flip": True, "noise": 0.1}},
}


def test_a_killed_training_resumes_to_the_weights_of_an_unbroken_one(tmp_path, shards):
    unbroken = train(tmp_path / "unbroken", shards, **INTERRUPTED)
    folder = tmp_path / "broken"
    folder.mkdir()
    # The child process waits in the middle of its second epoch until the signal has come.
    (tmp_path / "arguments.pickle").write_bytes(pickle.dumps(keywords(folder, shards, **INTERRUPTED)))
    script = f"""
import pickle, sys, time
from pathlib import Path
sys.path.insert(0, {str(WORKFLOW)!r})
import cellmill.stages.train as stage
import cellmill.training.state as state
make = state.iterate_batches
def slow(*a, **k):
    for number, batch in enumerate(make(*a, **k)):
        if k["epoch"] == 1 and number == 2:
            Path({str(tmp_path / "ready")!r}).touch()
            while not Path({str(tmp_path / "go")!r}).exists():
                time.sleep(0.01)
        yield batch
state.iterate_batches = slow
stage.train_model(**pickle.loads(Path({str(tmp_path / "arguments.pickle")!r}).read_bytes()))
"""
    child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert child.wait(PATIENCE_S) == 128 + signal.SIGTERM, child.stderr.read().decode()
    child.stderr.close()
    assert [path.suffix for path in folder.iterdir()] == [".pt"]
    resumed = train(folder, shards, **INTERRUPTED)
    assert_equal(resumed, unbroken)
    columns = ("train_loss", "validation_loss", "validation_dice")
    for row, expected in zip(history_of(folder), history_of(tmp_path / "unbroken"), strict=True):
        assert [row[column] for column in columns] == [expected[column] for column in columns]
    assert sorted(path.name for path in folder.iterdir()) == ["choices.json", "history.csv", "train.json", "weights.pt"]


@pytest.mark.parametrize("place", ["step", "validation", "epoch"])
def test_a_signal_at_any_place_resumes_to_the_same_weights(tmp_path, shards, monkeypatch, place):
    unbroken = train(tmp_path / "unbroken", shards, **INTERRUPTED)
    calls = {"step": 5, "validation": 1, "epoch": 2}
    target = {
        "step": "cellmill.training.stepping.measure_loss",
        "validation": "cellmill.training.validation.predict_tiled",
        "epoch": "cellmill.training.watching.Watcher.note_epoch",
    }[place]
    real = pkgutil.resolve_name(target)

    def interrupt(*args, **kwargs):
        calls[place] -= 1
        if calls[place] == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(*args, **kwargs)

    monkeypatch.setattr(target, interrupt)
    with pytest.raises(Stopped) as ended:
        train(tmp_path / "broken", shards, **INTERRUPTED)
    assert ended.value.code == 128 + signal.SIGUSR1
    monkeypatch.undo()
    assert_equal(train(tmp_path / "broken", shards, **INTERRUPTED), unbroken)


def test_a_training_with_other_settings_does_not_take_the_checkpoint(tmp_path, shards, monkeypatch, caplog):
    folder = tmp_path / "run"

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("cellmill.training.watching.Watcher.note_epoch", stop)
    with pytest.raises(Stopped):
        train(folder, shards)
    monkeypatch.undo()
    caplog.set_level("INFO")
    changed = {"train": {"optimiser": {"learning_rate": 0.02}}}
    resumed = train(folder, shards, **changed)
    assert "continuing" not in caplog.text
    assert_equal(resumed, train(tmp_path / "fresh", shards, **changed))
    assert sorted(path.name for path in folder.iterdir()) == ["choices.json", "history.csv", "train.json", "weights.pt"]


def test_last_keeps_the_last_weights_and_needs_no_validation(tmp_path, shards):
    alone = {**shards, "validation_images": [], "validation_labels": []}
    train(tmp_path / "run", alone, train={"select": "last"})
    rows = history_of(tmp_path / "run")
    assert [row["validation_loss"] for row in rows] == ["", ""]
    assert json.loads((tmp_path / "run" / "train.json").read_text())["best_epoch"] == 2


def test_choosing_the_best_epoch_without_validation_images_is_refused(tmp_path, shards):
    alone = {**shards, "validation_images": [], "validation_labels": []}
    with pytest.raises(ValueError, match=r"expected validation images.*select: last"):
        train(tmp_path / "run", alone)


def test_training_on_nothing_is_refused(tmp_path, shards):
    with pytest.raises(ValueError, match="expected labelled training images, found none"):
        train(tmp_path / "run", {**shards, "train_images": [], "train_labels": []})


def test_a_loss_that_is_not_finite_names_the_images(tmp_path, shards):
    images, labels = write_training_shard(tmp_path, "dark", shapes=[(40, 40)])
    image_yx = tifffile.imread(images / "dark0.tif")
    image_yx[3, 4] = np.nan
    write_image(images / "dark0.tif", image_yx)
    with pytest.raises(ValueError, match=r"expected a finite loss, found nan in epoch 1 .* images dark0\. Check"):
        train(tmp_path / "run", {**shards, "train_images": [images], "train_labels": [labels]})


def test_training_starts_from_given_weights(tmp_path, shards, learned):
    """With a learning rate near zero the given weights come out unchanged."""
    still = {"epochs": 1, "optimiser": {"name": "sgd", "learning_rate": 1e-30}}
    started = train(tmp_path / "run", shards, init_from=learned / "weights.pt", width=1 / 8, train=still)
    given = read_weights(learned / "weights.pt")["state_dict"]
    for name, tensor in given.items():
        if name.endswith(("weight", "bias")):
            assert torch.equal(started[name], tensor), name


RUINOUS = {"width": 1 / 8, "train": {"epochs": 2, "optimiser": {"name": "sgd", "learning_rate": 3.0, "clip_norm": 1.0}}}


def test_the_start_is_kept_if_no_epoch_is_better(tmp_path, shards, learned, caplog):
    found = train(tmp_path / "run", shards, init_from=learned / "weights.pt", **RUINOUS)
    assert_equal(found, read_weights(learned / "weights.pt")["state_dict"])
    assert json.loads((tmp_path / "run/train.json").read_text())["best_epoch"] == 0
    rows, before = history_of(tmp_path / "run"), history_of(learned)
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "0"), ("1", "2"), ("2", "4")]
    assert rows[0]["train_loss"] == rows[0]["learning_rate"] == ""
    # The start has the scores that it had at the end of its own training.
    assert float(rows[0]["validation_loss"]) == pytest.approx(min(float(row["validation_loss"]) for row in before))
    assert min(float(row["validation_loss"]) for row in rows[1:]) > float(rows[0]["validation_loss"])
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"lower validation loss than the start, {learned / 'weights.pt'}: its weights are kept" in warning


def test_the_start_is_not_kept_if_an_epoch_is_better(tmp_path, shards, caplog):
    short = {"width": 1 / 8, "train": {**LEARNING["train"], "epochs": 1}}
    train(tmp_path / "early", shards, **short)
    longer = {**short, "train": {**LEARNING["train"], "epochs": 3}}
    train(tmp_path / "run", shards, init_from=tmp_path / "early/weights.pt", **longer)
    losses = [float(row["validation_loss"]) for row in history_of(tmp_path / "run")]
    assert len(losses) == 4
    best = json.loads((tmp_path / "run/train.json").read_text())["best_epoch"]
    assert best == losses.index(min(losses)) >= 1
    assert "its weights are kept" not in caplog.text


def test_the_last_epoch_is_kept_if_the_config_says_so(tmp_path, shards, learned, caplog):
    last = {**RUINOUS, "train": {**RUINOUS["train"], "select": "last"}}
    found = train(tmp_path / "run", shards, init_from=learned / "weights.pt", **last)
    given = read_weights(learned / "weights.pt")["state_dict"]
    assert not any(torch.equal(found[name], given[name]) for name in given if name.endswith("weight"))
    assert json.loads((tmp_path / "run/train.json").read_text())["best_epoch"] == 2
    assert "its weights are kept" not in caplog.text


def test_without_better_epochs_patience_ends_the_training(tmp_path, shards, learned):
    impatient = {**RUINOUS, "train": {**RUINOUS["train"], "epochs": 9, "patience": 2}}
    train(tmp_path / "run", shards, init_from=learned / "weights.pt", **impatient)
    assert [row["epoch"] for row in history_of(tmp_path / "run")] == ["0", "1", "2"]


@pytest.mark.parametrize("moment", ["cellmill.stages.train.validate", "cellmill.training.watching.Watcher.note_start"])
def test_an_interruption_at_the_start_changes_nothing(tmp_path, shards, learned, monkeypatch, moment):
    """While the start is validated, or just after it."""
    given = {"init_from": learned / "weights.pt", **RUINOUS}
    unbroken = train(tmp_path / "unbroken", shards, **given)

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        return (0.1, 0.9)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(moment, stop)
        train(tmp_path / "broken", shards, **given)
    assert_equal(train(tmp_path / "broken", shards, **given), unbroken)
    rows = [history_of(tmp_path / name) for name in ("unbroken", "broken")]
    for row in itertools.chain(*rows):
        del row["seconds"]
    assert rows[0] == rows[1]


def test_a_time_for_the_training_includes_the_validation_of_the_start(tmp_path, shards, learned, monkeypatch):
    costs = Costs(step_s=1.0, validation_s=12.0, start_s=0.0, measuring_s=0.0)
    monkeypatch.setattr("cellmill.stages.train.measure_costs", lambda *_, **__: costs)
    changes = {"width": 1 / 8, "train": {"minutes": 1, "epochs": 2, "select": "best"}}
    steps = {}
    for name, start in (("none", None), ("start", learned / "weights.pt")):
        train(tmp_path / name, shards, init_from=start, **changes)
        steps[name] = json.loads((tmp_path / name / "train.json").read_text())["steps"]
    assert steps == {"none": 60 - 2 * 12, "start": 60 - 3 * 12}


def choices_of(folder):
    return {choice.key: choice.value for choice in read_choices(folder / "choices.json")}


@pytest.mark.parametrize(("least", "taken"), [(0.0, "weights"), (1.1, None)])
def test_a_start_that_is_taken_gives_the_bytes_of_given_weights_and_one_that_is_left_those_of_none(
    tmp_path, shards, learned, monkeypatch, least, taken
):
    monkeypatch.setattr("cellmill.training.starting.LEAST_DICE", least)
    given = {"init_from": learned / "weights.pt"}
    found = train(tmp_path / "alike", shards, **given, init_weights="alike", width=1 / 8)
    assert choices_of(tmp_path / "alike") == {"start": taken}
    assert_equal(found, train(tmp_path / "other", shards, **(given if taken else {}), width=1 / 8))
    assert choices_of(tmp_path / "other") == {}


def stop_after_an_epoch(folder, shards, monkeypatch, **given):
    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("cellmill.training.watching.Watcher.note_epoch", stop)
        train(folder, shards, **given)


@pytest.fixture
def by_percentiles(learned, tmp_path):
    """Weights whose training is said to have normalised images by percentiles."""
    weights = read_weights(learned / "weights.pt")
    weights["input"] = {**weights["input"], "normalise": "percentile"}
    write_weights(tmp_path / "given.pt", **weights)
    return tmp_path / "given.pt"


@pytest.mark.parametrize(("least", "normalise"), [(0.0, "percentile"), (1.1, "zscore")])
def test_an_open_normalisation_is_that_of_the_weights_if_the_training_starts_from_them(
    tmp_path, shards, by_percentiles, monkeypatch, least, normalise
):
    monkeypatch.setattr("cellmill.training.starting.LEAST_DICE", least)
    is_taken = normalise == "percentile"
    given = {"init_from": by_percentiles, "width": 1 / 8}
    found = train(tmp_path / "open", shards, **given, init_weights="alike", input={"normalise": "auto"})
    assert choices_of(tmp_path / "open") == {"start": "given" if is_taken else None, "input.normalise": normalise}
    assert read_weights(tmp_path / "open/weights.pt")["input"]["normalise"] == normalise
    named = {**given, "init_from": by_percentiles if is_taken else None, "input": {"normalise": normalise}}
    assert_equal(found, train(tmp_path / "named", shards, **named))


def test_an_open_normalisation_follows_given_weights_and_is_zscore_without_any(tmp_path, shards, by_percentiles):
    still = {"input": {"normalise": "auto"}, "width": 1 / 8, "train": {"epochs": 1}}
    train(tmp_path / "given", shards, init_from=by_percentiles, **still)
    train(tmp_path / "none", shards, **still)
    for name, normalise in (("given", "percentile"), ("none", "zscore")):
        assert choices_of(tmp_path / name) == {"input.normalise": normalise}
        assert read_weights(tmp_path / name / "weights.pt")["input"]["normalise"] == normalise


@pytest.mark.parametrize("least", [0.0, 1.1])
def test_a_training_that_continues_keeps_its_normalisation(tmp_path, shards, by_percentiles, monkeypatch, least):
    given = {"init_from": by_percentiles, "init_weights": "alike", "width": 1 / 8, "input": {"normalise": "auto"}}
    monkeypatch.setattr("cellmill.training.starting.LEAST_DICE", least)
    unbroken = train(tmp_path / "unbroken", shards, **given)
    stop_after_an_epoch(tmp_path / "broken", shards, monkeypatch, **given)
    assert_equal(train(tmp_path / "broken", shards, **given), unbroken)
    assert choices_of(tmp_path / "broken") == choices_of(tmp_path / "unbroken")


def test_a_training_that_continues_keeps_its_choice_of_a_start(tmp_path, shards, learned, monkeypatch):
    """The device that continues may measure another score of the start than the one before."""
    given = {"init_from": learned / "weights.pt", "init_weights": "alike", "width": 1 / 8}
    monkeypatch.setattr("cellmill.training.starting.LEAST_DICE", 0.0)
    unbroken = train(tmp_path / "unbroken", shards, **given)
    stop_after_an_epoch(tmp_path / "broken", shards, monkeypatch, **given)
    monkeypatch.setattr("cellmill.training.starting.LEAST_DICE", 1.1)
    assert_equal(train(tmp_path / "broken", shards, **given), unbroken)
    assert choices_of(tmp_path / "broken") == {"start": "weights"}


def test_a_training_that_continues_in_another_precision_says_so(tmp_path, shards, monkeypatch, caplog):
    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})
        patch.setattr("cellmill.training.watching.Watcher.note_epoch", stop)
        train(tmp_path / "run", shards, train={"precision": "bf16"})
    monkeypatch.setattr("torch.cpu.get_capabilities", dict)
    train(tmp_path / "run", shards, train={"precision": "bf16"})
    assert "saved on a device that computes in bf16, this one computes in fp32" in caplog.text


def test_the_average_of_several_seeds_is_no_start(tmp_path, shards, learned):
    weights = learned / "weights.pt"
    both = join_members([(weights, read_weights(weights))] * 2)
    write_weights(tmp_path / "mean.pt", **both)
    with pytest.raises(ValueError, match="expected the weights of one network to start from, found the average of 2"):
        train(tmp_path / "run", shards, init_from=tmp_path / "mean.pt", width=1 / 8)


def test_given_weights_of_another_network_are_refused(tmp_path, shards, learned):
    with pytest.raises(ValueError, match=r"weights\.pt: expected the weights of the same network"):
        train(tmp_path / "run", shards, init_from=learned / "weights.pt")


def test_running_statistics_are_plain_means_over_the_last_steps_of_an_epoch(tmp_path, shards, monkeypatch):
    """The weights stay fixed, so that the output of the first convolution can be computed from the batches alone."""
    monkeypatch.setattr(cellmill.stages.train, "STATISTICS_STEPS", 3)
    still = {
        "epochs": 2,
        "patches_per_image": 3,
        "select": "last",
        "optimiser": {"name": "sgd", "learning_rate": 1e-30},
    }
    weights = train(tmp_path / "run", shards, train=still)
    given = keywords(tmp_path, shards, train=still)
    images = image_set((shards["train_images"][0], shards["train_labels"][0]))
    order = {"seed": 7, "epoch": 1, "first_step": 0, "workers": 1, "team": Team()}
    batches = list(iterate_batches(images, train=given["train"], **order))
    assert len(batches) > 3
    means = []
    for batch in batches[-3:]:
        seen_bcyx = torch.from_numpy(batch.images)
        convolved_bcyx = torch.nn.functional.conv2d(
            seen_bcyx, weights["encoder.0.conv1.weight"], weights["encoder.0.conv1.bias"], padding=1
        )
        means.append(convolved_bcyx.mean(dim=(0, 2, 3)))
    assert torch.allclose(weights["encoder.0.norm1.running_mean"], torch.stack(means).mean(dim=0), atol=1e-6)


@pytest.mark.parametrize(("ignored_rows", "is_taught"), [(48, False), (24, True)])
def test_pixels_that_are_ignored_teach_nothing(tmp_path, shards, learned, ignored_rows, is_taught):
    """Where all pixels are ignored, the weights stay as given; where half of them are known, they change."""
    images, labels = write_training_shard(tmp_path, "t", shapes=[(48, 48)] * 2)
    for path in sorted(labels.glob("*.tif")):
        labels_yx = read_labels(path).copy()
        assert labels_yx.any()
        labels_yx[:ignored_rows] = IGNORE_LABEL
        write_labels(path, labels_yx)
    folders = {**shards, "train_images": [images], "train_labels": [labels]}
    changes = {"epochs": 1, "select": "last", "optimiser": {"name": "sgd", "learning_rate": 0.1}}
    found = train(tmp_path / "run", folders, init_from=learned / "weights.pt", width=1 / 8, train=changes)
    given = read_weights(learned / "weights.pt")["state_dict"]
    parameters = [name for name in given if name.endswith(("weight", "bias"))]
    assert all(torch.equal(found[name], given[name]) for name in parameters) != is_taught


def test_validation_ignores_padding(tmp_path, shards):
    """The same image with more padding has the same loss, up to the effect of the padding on adjacent pixels."""
    model = build_network(network_of(tiny_preset())).eval()
    losses = []
    for size in ([120, 120], [160, 160]):
        images, labels = write_training_shard(
            tmp_path / str(size[0]), "t", shapes=[(64, 64)], mode="crop_pad", size=size
        )
        assert (image_set((images, labels)).target(0).classes_yx != 255).sum() == 64 * 64
        losses.append(validate_on(model, (images, labels)))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_validation_of_images_without_objects_has_no_dice(tmp_path):
    images, labels = write_training_shard(tmp_path, "t", shapes=[(32, 32)])
    write_labels(labels / "t0.tif", np.zeros((32, 32), np.uint16))
    model = build_network(network_of(tiny_preset()))
    with torch.no_grad():
        model.head.bias.fill_(-50)
    assert math.isnan(validate_on(model, (images, labels))[1])


def schedule_of(*, epochs=50, rate=0.01, **schedule):
    return {"epochs": epochs, "optimiser": {"learning_rate": rate}, "schedule": {"warmup_epochs": 0, **schedule}}


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.01), (9.99, 0.01), (10, 0.005), (29.5, 0.0025), (49, 0.000625)])
def test_the_rate_of_paper_4_is_halved_every_ten_epochs(epoch, rate):
    train = schedule_of(name="step", every_epochs=10, factor=0.5)
    assert learning_rate_at(epoch, train=train) == pytest.approx(rate)


def test_the_rate_of_paper_1_falls_by_a_twentieth_each_epoch():
    train = schedule_of(name="step", rate=0.15, every_epochs=1, factor=0.95)
    assert learning_rate_at(49.5, train=train) == pytest.approx(0.15 * 0.95**49)
    assert learning_rate_at(0.99, train=train) == 0.15


@pytest.mark.parametrize(
    ("preset", "rates"),
    [
        ("stemnet1", {0: 0.15, 49: 0.15 * 0.95**49}),
        ("sartorius_unet", {0: 0.01, 49: 0.000625}),
        ("fcrn_a", {0: 0.01, 20: 0.001, 40: 0.0001}),
    ],
)
def test_presets_have_the_rates_of_their_papers(preset, rates):
    presets = Path(__file__).resolve().parents[3] / "resources" / "models"
    content = load_preset(preset, presets_dir=presets, where="")
    train = ModelPreset.model_validate(content).model_dump(mode="json")["train"]
    for epoch, rate in rates.items():
        assert learning_rate_at(epoch, train=train) == pytest.approx(rate)


def test_a_factor_of_a_tenth_every_twenty_epochs_gives_three_decades():
    train = schedule_of(name="step", every_epochs=20, factor=0.1)
    rates = [learning_rate_at(epoch, train=train) for epoch in (0, 20, 40)]
    assert rates == pytest.approx([0.01, 0.001, 0.0001])


def test_cosine_falls_from_the_full_rate_over_half_of_it_to_nothing():
    train = schedule_of(name="cosine", epochs=8)
    rates = [learning_rate_at(epoch, train=train) for epoch in (0, 4, 8)]
    assert rates == pytest.approx([0.01, 0.005, 0])


def test_warmup_rises_in_a_line():
    train = schedule_of(name="none", warmup_epochs=2)
    rates = [learning_rate_at(epoch, train=train) for epoch in (0, 0.5, 1, 2, 7)]
    assert rates == pytest.approx([0, 0.0025, 0.005, 0.01, 0.01])


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adagrad", "rmsprop"])
def test_each_optimiser_makes_a_loss_smaller(name):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    settings = {"name": name, "learning_rate": 0.05, "momentum": 0.5, "weight_decay": 0.01, "decay": "all"}
    optimiser = build_optimiser(model, optimiser=settings)
    x = torch.randn(64, 4)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = (model(x) - x[:, :1]).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # Adagrad's steps shrink over time.
    assert losses[-1] < (0.2 if name == "adagrad" else 0.1) * losses[0]
