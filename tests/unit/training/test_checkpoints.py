"""Checkpoints: complete or absent, named after the settings that determine the result, saved on a signal."""

import os
import signal
import threading
import time

import pytest
import torch

from cellmill.training import checkpoints
from cellmill.training.checkpoints import (
    Checkpoint,
    Stopped,
    StopRequest,
    checkpoint_key,
    checkpoint_path,
    remove_checkpoints,
    stop_requests,
)
from cellmill.training.state import Training
from cellmill.training.stepping import Stepper
from cellmill.training.team import Team
from training_shards import write_training_shard

STATE = {"epoch": 3, "model": {"w": torch.arange(5.0)}, "history": [{"epoch": 1, "loss": None}]}


def train_a_little(*, steps):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    settings = {"precision": "fp32", "ema": None, "steps": None}
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    stepper = Stepper(model, model, optimiser, torch.device("cpu"), "foreground", settings, None, Team())
    training = Training(stepper)
    run(training, steps=steps)
    return training


def run(training, *, steps):
    for _ in range(steps):
        training.stepper.optimiser.zero_grad()
        training.model(torch.randn(8, 3)).square().mean().backward()
        training.stepper.optimiser.step()
        training.step += 1


def test_a_state_survives_the_file(tmp_path):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    checkpoint.save(STATE, team=Team())
    state = checkpoint.load()
    assert state["epoch"] == 3
    assert state["history"] == STATE["history"]
    assert torch.equal(state["model"]["w"], STATE["model"]["w"])


def test_there_is_nothing_to_load_before_the_first_save(tmp_path):
    assert Checkpoint(tmp_path / "a.pt").load() is None


def test_a_file_that_cannot_be_read_starts_training_anew_with_a_warning(tmp_path, caplog):
    (tmp_path / "a.pt").write_bytes(b"half a checkpoint")
    assert Checkpoint(tmp_path / "a.pt").load() is None
    assert "training starts from the beginning" in caplog.text


def test_a_save_that_fails_keeps_the_checkpoint_before_it(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    checkpoint.save(STATE, team=Team())

    def no_space(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.torch, "save", no_space)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"epoch": 4}, team=Team())
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    assert checkpoint.load()["epoch"] == 3


def test_training_goes_on_from_a_state_as_if_nothing_had_happened(tmp_path):
    unbroken = train_a_little(steps=9)
    broken = train_a_little(steps=4)
    Checkpoint(tmp_path / "a.pt").save(broken.state(), team=Team())
    torch.manual_seed(99)
    fresh = train_a_little(steps=0)
    fresh.restore(Checkpoint(tmp_path / "a.pt").load())
    assert fresh.step == 4
    run(fresh, steps=5)
    assert torch.equal(fresh.model.weight, unbroken.model.weight)


def test_time_spent_before_an_interruption_counts():
    training = train_a_little(steps=1)
    state = {**training.state(), "seconds": 1000.0}
    fresh = train_a_little(steps=0)
    fresh.restore(state)
    assert 1000 <= fresh.read_clock() < 1010


@pytest.fixture
def shards(tmp_path):
    images, labels = write_training_shard(tmp_path, "t", shapes=[(20, 20)])
    other, _ = write_training_shard(tmp_path, "u", shapes=[(20, 20)], seed=1)
    return {"train_images": [images, other], "train_labels": [labels]}


def key_of(shards, *, settings=None, code=None):
    settings = {"epochs": 5, "rate": 0.1} if settings is None else settings
    return checkpoint_key(settings=settings, code=code or {"train": "abc"}, shards=shards)


def test_the_key_ignores_orders_and_places(shards, tmp_path):
    moved = tmp_path / "elsewhere"
    shards["train_labels"][0].rename(moved)
    before = key_of({**shards, "train_labels": [moved]})
    moved.rename(shards["train_labels"][0])
    turned = {**shards, "train_images": shards["train_images"][::-1]}
    assert before == key_of(shards) == key_of(turned, settings={"rate": 0.1, "epochs": 5})


def test_the_key_follows_settings_code_and_data(shards):
    changed = [
        key_of(shards),
        key_of(shards, settings={"epochs": 6, "rate": 0.1}),
        key_of(shards, code={"train": "abd"}),
        key_of({**shards, "train_images": shards["train_images"][:1]}),
        key_of({"validation_images": shards["train_images"], "train_labels": shards["train_labels"]}),
    ]
    assert len(set(changed)) == len(changed)


def test_success_removes_the_checkpoints_of_this_run_only(tmp_path):
    weights = tmp_path / "weights.pt"
    mine = [checkpoint_path(weights, key=key * 32) for key in "ab"]
    mine.append(mine[0].with_name(f".{mine[0].name}.partial-17"))
    for path in (*mine, tmp_path / ".other.checkpoint-aaaa.pt", weights):
        path.touch()
    remove_checkpoints(weights)
    assert {path.name for path in tmp_path.iterdir()} == {".other.checkpoint-aaaa.pt", "weights.pt"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_is_noted_and_obeyed_with_its_status(number):
    with stop_requests() as stop:
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        assert stop.number == number
        with pytest.raises(Stopped) as ended:
            stop.obey()
    assert ended.value.code == 128 + number


def test_signals_do_what_they_did_before_once_training_is_over():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_training_runs_without_signals():
    seen = []

    def work():
        with stop_requests() as stop:
            stop.obey()
            seen.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [None]


def test_a_long_epoch_is_saved_on_the_way(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "a.pt")
    assert not checkpoint.is_due(StopRequest(), team=Team())
    assert checkpoint.is_due(StopRequest(signal.SIGTERM), team=Team())
    monkeypatch.setattr(checkpoints, "SAVE_EVERY_S", 0)
    assert checkpoint.is_due(StopRequest(), team=Team())
