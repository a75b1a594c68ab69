"""Training processes killed by real signals: the next run ends with the weights of an undisturbed one, bit for bit."""

import csv
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import cellmill.stages.train
from cellmill.models.weights import read_weights
from cellmill.stages.train import train_model
from cellmill.training.checkpoints import Checkpoint
from unit.sequence_shards import recurrent_preset
from unit.training_shards import network_of, tiny_preset, write_training_shard

WORKFLOW = Path(cellmill.stages.train.__file__).parents[2]
PATIENCE_S = 600
FRAMES = 6

AUGMENTATION = {"flip": True, "affine_probability": 0.5, "contrast": 0.3, "noise": 0.2}
PRESETS = {
    "feed-forward": tiny_preset(
        network={"dropout": 0.2},
        train={
            "epochs": 4,
            "patches_per_image": 3,
            "sampling": "balanced",
            "ema": 0.9,
            "augmentation": AUGMENTATION,
            "schedule": {"name": "cosine", "warmup_epochs": 0.5},
        },
    ),
    "recurrent": recurrent_preset(
        train={
            "epochs": 4,
            "patches_per_image": 5,
            "augmentation": {**AUGMENTATION, "per_frame": True},
            "optimiser": {"name": "rmsprop", "learning_rate": 1e-3, "momentum": 0.5},
            "streams": {"unroll": 2, "max_step": 2, "reverse": True},
        }
    ),
}

# A process that has imported torch but not computed with it, so that a training in a fork of it starts at once.
NURSERY = f"""
import os, pickle, sys, time, traceback
from pathlib import Path
sys.path.insert(0, {str(WORKFLOW)!r})
import torch
import cellmill.training.checkpoints, cellmill.training.state as state, cellmill.stages.train as stage
torch.optim.Adam(torch.nn.Linear(1, 1).parameters())  # loads seconds of modules

def work(room, given, save_every_s, wait_at, step_s, half_save):
    cellmill.training.checkpoints.SAVE_EVERY_S = save_every_s
    def watch(make):
        def steps(*arguments, **keywords):
            for number, batch in enumerate(make(*arguments, **keywords), start=keywords["first_step"]):
                if wait_at in (None, (keywords["epoch"], number)) and not half_save:
                    (room / "here").touch()
                while wait_at == (keywords["epoch"], number) and not (room / "go").exists():
                    time.sleep(0.005)
                time.sleep(step_s)
                yield batch
        return steps
    state.iterate_batches, state.iterate_windows = watch(state.iterate_batches), watch(state.iterate_windows)
    save, saves = cellmill.training.checkpoints.torch.save, []
    def save_half(state, stream):
        saves.append(1)
        if len(saves) < half_save:
            return save(state, stream)
        stream.write(b"half a checkpoint")
        stream.flush()
        (room / "here").touch()
        time.sleep(3600)
    if half_save:
        cellmill.training.checkpoints.torch.save = save_half
    stage.train_model(**given)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work(**pickle.loads(Path(line.strip()).read_bytes()))
            status = 0
        except SystemExit as end:
            status = end.code
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Launcher of trainings that may be killed, each in a fork of one prepared process."""

    def __init__(self, folder):
        self._said = (folder / "said").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )

    def start(self, room, given, *, save_every_s=600.0, wait_at=None, step_s=0.0, half_save=0):
        """Start a training, wait until it reaches the requested point, and return its process id."""
        for name in ("here", "go"):
            (room / name).unlink(missing_ok=True)
        work = {"room": room, "given": given, "save_every_s": save_every_s, "wait_at": wait_at}
        (room / "work.pickle").write_bytes(pickle.dumps({**work, "step_s": step_s, "half_save": half_save}))
        self._process.stdin.write(f"{room / 'work.pickle'}\n")
        self._process.stdin.flush()
        process = int(self._process.stdout.readline())
        deadline = time.monotonic() + PATIENCE_S
        while not (room / "here").exists() and time.monotonic() < deadline and is_running(process):
            time.sleep(0.002)
        return process

    def end_of(self, process, number):
        """Send a signal if the training is still running, and return its exit code."""
        if is_running(process):
            os.kill(process, number)
        return int(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()
        self._said.close()


def is_running(process):
    """Return whether a process is running; one that has ended but is not yet reaped counts as ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def nursery(tmp_path_factory):
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("data")
    train = write_training_shard(folder, "t", shapes=[(40, 44)] * FRAMES)
    validation = write_training_shard(folder, "v", shapes=[(40, 40)] * 2, seed=9)
    return {
        "train_images": [train[0]],
        "train_labels": [train[1]],
        "validation_images": [validation[0]],
        "validation_labels": [validation[1]],
        "around_images": [],
    }


def keywords(folder, shards, kind, *, epochs=4):
    folder.mkdir(exist_ok=True, parents=True)
    preset = PRESETS[kind]
    return {
        **shards,
        "weights_path": folder / "weights.pt",
        "history_path": folder / "history.csv",
        "summary_path": folder / "train.json",
        "choices_path": folder / "choices.json",
        "pixel_size_um": None,
        "network": network_of(preset),
        "input": preset["input"],
        "train": {**preset["train"], "epochs": epochs},
        "seed": 7,
        "init_from": None,
        "init_weights": "all",
        "passages": [[f"t{n}" for n in range(FRAMES)], ["v0", "v1"]] if kind == "recurrent" else None,
        "classes": None,
        "threads": 1,
        "gpu": 0,
        "code": {},
    }


@pytest.fixture(scope="module")
def undisturbed(shards, tmp_path_factory):
    """Folder with one uninterrupted training of each kind."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for kind in PRESETS:
        train_model(**keywords(folder / kind, shards, kind))
    return folder


def read_history(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def assert_as_undisturbed(folder, expected):
    assert sorted(path.name for path in folder.iterdir()) == ["choices.json", "history.csv", "train.json", "weights.pt"]
    found, wanted = (read_weights(place / "weights.pt")["state_dict"] for place in (folder, expected))
    assert found.keys() == wanted.keys()
    for name in found:
        assert torch.equal(found[name], wanted[name]), name
    rows, others = (read_history(place) for place in (folder, expected))
    for row, other in zip(rows, others, strict=True):
        assert {**row, "seconds": ""} == {**other, "seconds": ""}


def go_on(folder, shards, kind, caplog):
    """Train to the end in this process; return the log message about the point of resumption, or None."""
    caplog.clear()
    with caplog.at_level("INFO"):
        train_model(**keywords(folder, shards, kind))
    return next((message for message in caplog.messages if message.startswith("continuing")), None)


@pytest.mark.parametrize("kind", PRESETS)
def test_a_kill_in_the_middle_of_an_epoch_costs_what_came_after_the_last_checkpoint(
    tmp_path, shards, nursery, undisturbed, caplog, kind
):
    process = nursery.start(tmp_path, keywords(tmp_path / "run", shards, kind), save_every_s=-1.0, wait_at=(1, 5))
    assert nursery.end_of(process, signal.SIGKILL) == -signal.SIGKILL
    assert [path.suffix for path in (tmp_path / "run").iterdir()] == [".pt"]
    assert go_on(tmp_path / "run", shards, kind, caplog) == "continuing in epoch 2 after step 5"
    assert_as_undisturbed(tmp_path / "run", undisturbed / kind)


@pytest.mark.parametrize(("kind", "number"), [("feed-forward", signal.SIGUSR1), ("recurrent", signal.SIGTERM)])
def test_a_signal_saves_where_the_training_is_and_ends_it(tmp_path, shards, nursery, undisturbed, caplog, kind, number):
    process = nursery.start(tmp_path, keywords(tmp_path / "run", shards, kind), wait_at=(2, 3))
    os.kill(process, number)
    (tmp_path / "go").touch()
    assert nursery.end_of(process, 0) == 128 + number
    # The step in progress is completed.
    assert go_on(tmp_path / "run", shards, kind, caplog) == "continuing in epoch 3 after step 4"
    assert_as_undisturbed(tmp_path / "run", undisturbed / kind)


def test_a_kill_before_the_first_checkpoint_costs_everything_and_changes_nothing(
    tmp_path, shards, nursery, undisturbed, caplog
):
    process = nursery.start(tmp_path, keywords(tmp_path / "run", shards, "feed-forward"), wait_at=(0, 3))
    assert nursery.end_of(process, signal.SIGKILL) == -signal.SIGKILL
    assert list((tmp_path / "run").iterdir()) == []
    assert go_on(tmp_path / "run", shards, "feed-forward", caplog) is None
    assert_as_undisturbed(tmp_path / "run", undisturbed / "feed-forward")


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, shards, nursery, undisturbed, caplog):
    folder = tmp_path / "run"
    process = nursery.start(tmp_path, keywords(folder, shards, "feed-forward"), save_every_s=-1.0, half_save=4)
    assert nursery.end_of(process, signal.SIGKILL) == -signal.SIGKILL
    whole, half = sorted(folder.iterdir(), key=lambda path: "partial" in path.name)
    assert half.read_bytes() == b"half a checkpoint"
    state = Checkpoint(whole).load()
    assert (state["epoch"], state["step"]) == (0, 3)
    assert go_on(folder, shards, "feed-forward", caplog) == "continuing in epoch 1 after step 3"
    assert_as_undisturbed(folder, undisturbed / "feed-forward")


KILLS = 10


@pytest.mark.long
@pytest.mark.parametrize("kind", PRESETS)
def test_kills_at_random_moments_change_nothing(tmp_path, shards, nursery, undisturbed, kind):
    """Ten kills per kind of network, by three signals; a resumed training is killed again."""
    rng = np.random.default_rng([3, *kind.encode()])
    done, kept, folders = 0, 0, 0
    while done < KILLS:
        folder = tmp_path / str(folders)
        given = keywords(folder, shards, kind)
        while done < KILLS:
            # Save a checkpoint every tenth of a second between steps; the kill comes at a random moment.
            process = nursery.start(tmp_path, given, save_every_s=0.1, step_s=0.02)
            moment = rng.uniform(0, 0.8)
            time.sleep(moment)
            number = rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1])
            status = nursery.end_of(process, int(number))
            if status == 0:
                break
            assert status in (-number, 128 + number), (kind, done, moment)
            done += 1
            kept += any(path.suffix == ".pt" for path in folder.iterdir())
        train_model(**given)
        assert_as_undisturbed(folder, undisturbed / kind)
        folders += 1
    assert kept > KILLS // 2  # most kills left a checkpoint to resume from
