"""Monitoring of a running training: progress lines, and curves on request; no result depends on it."""

import csv
import re
import struct
import sys
from types import SimpleNamespace

import pytest
import torch

from cellmill.stages.train import train_model
from cellmill.training import watching
from cellmill.training.lengths import Length
from cellmill.training.watching import VARIABLE, Watcher
from training_shards import network_of, tiny_preset, write_training_shard


@pytest.fixture(autouse=True)
def unwatched(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    torch.set_num_threads(1)


@pytest.fixture
def clock(monkeypatch):
    """Clock that advances only when a test sets it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(watching, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


def training_of(*, epoch, step, seconds, loss_sum=3.0, patches=6):
    given = {"epoch": epoch, "step": step, "loss_sum": loss_sum, "patches": patches}
    return SimpleNamespace(**given, read_clock=lambda: seconds)


def length_of(*, epochs, steps=5, counts_steps=False):
    """Return the length of a training whose epochs have some number of steps."""
    return Length(steps=steps * epochs, epochs=epochs, schedule_epochs=epochs, counts_steps=counts_steps)


# ---- lines of the log --------------------------------------------------------------------------------------


def test_a_long_epoch_says_each_minute_how_far_it_is(clock, caplog):
    caplog.set_level("INFO")
    watcher = Watcher("results/d/run/weights.pt", rank=0)
    for step in range(1, 13):
        clock.seconds += 25
        watcher.note_step(
            training_of(epoch=1, step=step, seconds=25.0 * step), length=length_of(epochs=4, steps=100), rate=0.01
        )
    # 25 s per step: the third step is the first after a minute, then every third
    assert [line.split(":")[0] for line in caplog.messages] == [f"epoch 2/4, step {n}/100" for n in (3, 6, 9, 12)]


def test_the_line_says_loss_rate_and_the_time_that_is_left(clock, caplog):
    caplog.set_level("INFO")
    watcher = Watcher("results/d/run/weights.pt", rank=0)
    clock.seconds += 61
    # 30 of 80 steps took 60 s: the other 50 take 100 s
    training = training_of(epoch=1, step=10, seconds=60.0, loss_sum=3.0, patches=6)
    watcher.note_step(training, length=length_of(epochs=4, steps=20), rate=0.00125)
    assert caplog.messages == ["epoch 2/4, step 10/20: train loss 0.5000, rate 0.00125, about 100 s left"]
    assert caplog.records[0].progress


def test_short_epochs_have_a_line_each_and_none_on_the_way(clock, caplog):
    caplog.set_level("INFO")
    watcher = Watcher("results/d/run/weights.pt", rank=0)
    for epoch in range(3):
        for step in range(1, 6):
            clock.seconds += 11
            watcher.note_step(
                training_of(epoch=epoch, step=step, seconds=1.0), length=length_of(epochs=3, steps=5), rate=0.01
            )
        row = {"epoch": epoch + 1, "learning_rate": 0.01, "train_loss": 0.25, "seconds": 55.0}
        watcher.note_epoch({**row, "validation_loss": 0.5, "validation_dice": 0.75}, length=length_of(epochs=3))
    assert caplog.messages[1] == (
        "epoch 2/3: train loss 0.2500, validation loss 0.5000, validation dice 0.7500, rate 0.01, 55.0 s, 55 s left"
    )
    assert len(caplog.messages) == 3


def test_of_a_number_of_steps_the_lines_count_all_steps(clock, caplog):
    caplog.set_level("INFO")
    watcher, length = Watcher("results/d/run/weights.pt", rank=0), length_of(epochs=4, steps=20, counts_steps=True)
    clock.seconds += 61
    watcher.note_step(training_of(epoch=1, step=10, seconds=60.0), length=length, rate=0.01)
    row = {"epoch": 2, "step": 40, "learning_rate": 0.01, "train_loss": 0.25, "seconds": 55.0}
    watcher.note_epoch({**row, "validation_loss": None, "validation_dice": None}, length=length)
    assert caplog.messages == [
        "epoch 2/4, step 30/80: train loss 0.5000, rate 0.01, about 100 s left",
        "epoch 2/4, step 40/80: train loss 0.2500, rate 0.01, 55.0 s, 110 s left",
    ]


def test_without_validation_nothing_is_said_of_it(clock, caplog):
    caplog.set_level("INFO")
    row = {"epoch": 1, "learning_rate": 0.01, "train_loss": 0.25, "seconds": 2.0}
    Watcher("results/d/run/weights.pt", rank=0).note_epoch(
        {**row, "validation_loss": None, "validation_dice": None}, length=length_of(epochs=1)
    )
    assert caplog.messages == ["epoch 1/1: train loss 0.2500, rate 0.01, 2.0 s, 0 s left"]


# ---- curves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return write_training_shard(folder, "t", shapes=[(40, 40)] * 3), write_training_shard(
        folder, "v", shapes=[(40, 40)], seed=3
    )


def train(folder, shards, **changes):
    folder.mkdir(parents=True)
    preset = tiny_preset(**changes)
    (train_images, train_labels), (validation_images, validation_labels) = shards
    train_model(
        weights_path=folder / "weights.pt",
        history_path=folder / "history.csv",
        summary_path=folder / "train.json",
        choices_path=folder / "choices.json",
        pixel_size_um=None,
        train_images=[train_images],
        train_labels=[train_labels],
        validation_images=[validation_images],
        validation_labels=[validation_labels],
        around_images=[],
        network=network_of(preset),
        input=preset["input"],
        train=preset["train"],
        seed=1,
        init_from=None,
        init_weights="all",
        passages=None,
        classes=None,
        threads=1,
        gpu=0,
        code={},
    )
    with (folder / "history.csv").open() as stream:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(stream)]


def read_curves(folder):
    """Read curves from the event files of a folder: records of a length, its checksum, the event and its checksum."""
    events = pytest.importorskip("tensorboardX.proto.event_pb2")
    curves = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = events.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                curves.setdefault(value.tag, {})[event.step] = value.simple_value
    return curves


def test_curves_are_those_of_the_history_and_change_no_result(tmp_path, shards, monkeypatch):
    pytest.importorskip("tensorboardX")
    silent = train(tmp_path / "silent" / "d" / "run", shards)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "curves"))
    watched = train(tmp_path / "watched" / "d" / "run", shards)
    assert watched == silent
    weights = [(tmp_path / name / "d" / "run" / "weights.pt").read_bytes() for name in ("silent", "watched")]
    assert weights[0] == weights[1]
    assert [path.name for path in (tmp_path / "watched" / "d" / "run").iterdir() if path.suffix == ".tfevents"] == []
    curves = read_curves(tmp_path / "curves" / "d" / "run")
    for name in ("learning_rate", "train_loss", "validation_loss", "validation_dice"):
        expected = {int(row["epoch"]): float(row[name]) for row in watched}
        assert curves[name] == pytest.approx(expected, rel=1e-6)
    assert set(curves["seconds"]) == {1, 2}


def test_a_score_that_is_not_defined_leaves_a_gap(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorboardX")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    row = {"learning_rate": 0.01, "train_loss": 0.25, "validation_loss": 0.5, "seconds": 2.0}
    with Watcher("results/d/run/weights.pt", rank=0) as watcher:
        for epoch, dice in ((1, 0.5), (2, float("nan")), (3, None), (4, 0.75)):
            watcher.note_epoch({"epoch": epoch, **row, "validation_dice": dice}, length=length_of(epochs=4))
    assert read_curves(tmp_path / "d" / "run")["validation_dice"] == {1: 0.5, 4: 0.75}
    assert "NaN" not in "".join(capsys.readouterr())


def test_only_the_first_member_of_a_team_writes(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with Watcher("results/d/run/weights.pt", rank=1) as watcher:
        row = {"epoch": 1, "learning_rate": 0.01, "train_loss": 0.25, "seconds": 2.0}
        watcher.note_epoch({**row, "validation_loss": None, "validation_dice": None}, length=length_of(epochs=4))
    assert list(tmp_path.iterdir()) == []


def test_where_the_package_is_missing_it_is_named(tmp_path, shards, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "curves"))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    message = re.escape(
        f"{VARIABLE}: expected the package tensorboardX to write {tmp_path}/curves/d/run, found it missing"
    )
    with pytest.raises(ValueError, match=rf"{message} .*pip install tensorboardX\), or unset {VARIABLE}\."):
        train(tmp_path / "d" / "run", shards)


def test_nothing_is_imported_where_nothing_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with Watcher("results/d/run/weights.pt", rank=0) as watcher:
        assert watcher._writer is None
