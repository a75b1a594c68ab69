"""Two processes on the CPU that train one network: the weights of one process, one set of files, a common end."""

import csv
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import cellmill.stages.train
import cellmill.training.team
from cellmill.models.weights import read_weights
from cellmill.stages.train import Job, train_member, train_model
from cellmill.training.budget import Costs
from cellmill.training.team import Team, form_team
from sequence_shards import recurrent_preset
from training_shards import network_of, tiny_preset, write_training_shard

WORKFLOW = Path(cellmill.training.team.__file__).parents[2]
PATIENCE_S = 300


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train = write_training_shard(folder, "t", shapes=[(40, 40)] * 5)
    validation = write_training_shard(folder, "v", shapes=[(40, 40)] * 2, seed=9)
    return {
        "train_images": [train[0]],
        "train_labels": [train[1]],
        "validation_images": [validation[0]],
        "validation_labels": [validation[1]],
        "around_images": [],
    }


def keywords(folder, shards, preset, *, passages=None):
    folder.mkdir(exist_ok=True)
    return {
        **shards,
        "weights_path": folder / "weights.pt",
        "history_path": folder / "history.csv",
        "summary_path": folder / "train.json",
        "choices_path": folder / "choices.json",
        "pixel_size_um": None,
        "network": network_of(preset),
        "input": preset["input"],
        "train": preset["train"],
        "seed": 7,
        "init_from": None,
        "init_weights": "all",
        "passages": passages,
        "classes": None,
        "threads": 1,
        "gpu": 0,
        "code": {},
    }


def train_all(*, team, jobs):
    """Run several trainings in each member, since a process takes longer to start than they take."""
    for given in jobs:
        train_member(team=team, job=Job(**given))


def train_as_two(jobs):
    with form_team(2, train_all, {"jobs": jobs}, kind="cpu") as team:
        train_all(team=team, jobs=jobs)


def train_timed(*, team, jobs):
    """Train with a measurement whose result, the same in each member, is replaced by one for 10 steps."""
    real = cellmill.stages.train.measure_costs

    def measure(*args, **keywords):
        assert len(set(team.gather(real(*args, **keywords)))) == 1
        return Costs(step_s=5.0, validation_s=2.0, start_s=0.0, measuring_s=4.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cellmill.training.budget.SHARE", 0.0)
        patch.setattr("cellmill.training.budget.FEWEST_STEPS", 1)
        patch.setattr("cellmill.stages.train.measure_costs", measure)
        train_all(team=team, jobs=jobs)


# A team computes the same as one process only without normalisation, whose statistics come from a member's own
# patches, and without dropout, which each member draws independently. Plain SGD, because Adam turns the sign of a
# gradient near zero into a whole step.
PLAIN = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
PRESETS = {
    # 10 patches in batches of 3: members have one and two patches, and in the last batch both have the same one
    "uneven": tiny_preset(
        network={"norm": "none"},
        width=1 / 4,
        train={"batch": 3, "patches_per_image": 2, "optimiser": PLAIN, "ema": 0.5},
    ),
    "weighted": tiny_preset(
        network={"norm": "none", "output": "two_classes"},
        width=1 / 4,
        train={
            "batch": 4,
            "patches_per_image": 2,
            "optimiser": {**PLAIN, "clip_norm": 0.05},
            "loss": {"name": "ce", "class_weights": [1, 3], "normaliser": "weights"},
        },
    ),
    "dropout": tiny_preset(
        network={"dropout": 0.3},
        train={"batch": 3, "epochs": 3, "patches_per_image": 3, "augmentation": {"noise": 0.2}},
    ),
    "memory": recurrent_preset(train={"patches_per_image": 2}),
    "without memory": recurrent_preset(network={"memory": False}, train={"patches_per_image": 2}),
}
SEQUENCES = [[f"t{n}" for n in range(5)], ["v0", "v1"]]


def job(folder, shards, name):
    is_recurrent = PRESETS[name]["network"]["architecture"] == "clstm_unet_text"
    return keywords(folder / name, shards, PRESETS[name], passages=SEQUENCES if is_recurrent else None)


@pytest.fixture(scope="module")
def together(shards, tmp_path_factory):
    """Folder with a training of each preset by two processes."""
    folder = tmp_path_factory.mktemp("together")
    train_as_two([job(folder, shards, name) for name in PRESETS])
    return folder


@pytest.fixture(scope="module")
def alone(shards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    for name in ("uneven", "weighted"):
        train_model(**job(folder, shards, name))
    return folder


def weights_in(folder):
    return read_weights(folder / "weights.pt")["state_dict"]


def history_in(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("name", ["uneven", "weighted"])
def test_two_give_the_weights_and_the_history_of_one(together, alone, name):
    found, expected = weights_in(together / name), weights_in(alone / name)
    for key, tensor in expected.items():
        assert torch.allclose(found[key], tensor, rtol=1e-4, atol=1e-6), key
    for row, other in zip(history_in(together / name), history_in(alone / name), strict=True):
        for column in ("train_loss", "validation_loss", "validation_dice"):
            assert float(row[column]) == pytest.approx(float(other[column]), rel=1e-4)


@pytest.mark.parametrize("name", PRESETS)
def test_a_team_writes_one_set_of_files(together, name):
    assert sorted(path.name for path in (together / name).iterdir()) == [
        "choices.json",
        "history.csv",
        "train.json",
        "weights.pt",
    ]
    epochs = PRESETS[name]["train"]["epochs"]
    assert [int(row["epoch"]) for row in history_in(together / name)] == list(range(1, epochs + 1))
    assert json.loads((together / name / "train.json").read_text())["epochs_done"] == epochs


def test_the_members_agree_on_the_steps_of_a_time_and_measuring_leaves_no_trace(tmp_path, shards):
    jobs = []
    for name, length in (("timed", {"minutes": 1}), ("counted", {"steps": 10})):
        changes = {"batch": 3, "epochs": 3, "augmentation": {"noise": 0.2}, **length}
        preset = tiny_preset(network={"dropout": 0.3}, train=changes)
        jobs.append(keywords(tmp_path / name, shards, preset))
    with form_team(2, train_timed, {"jobs": jobs}, kind="cpu") as team:
        train_timed(team=team, jobs=jobs)
    timed, counted = ((tmp_path / name / "weights.pt").read_bytes() for name in ("timed", "counted"))
    assert timed == counted
    assert [int(row["step"]) for row in history_in(tmp_path / "timed")] == [3, 6, 10]


# ---- how a team ends ---------------------------------------------------------------------------------------


def start_leader(tmp_path, given):
    """Start a process that trains as two and waits in its second epoch; return it and the id of its member process."""
    (tmp_path / "given.pickle").write_bytes(pickle.dumps(given))
    script = f"""
import multiprocessing, pickle, sys, time
from pathlib import Path
sys.path.insert(0, {str(WORKFLOW)!r})
import cellmill.stages.train as stage
import cellmill.training.state as state
from cellmill.training.team import form_team
make, room = state.iterate_batches, Path({str(tmp_path)!r})
def wait(*a, **k):
    for number, batch in enumerate(make(*a, **k)):
        if k["epoch"] == 1 and number == 2:
            [member] = multiprocessing.active_children()
            (room / "member.new").write_text(str(member.pid))
            (room / "member.new").rename(room / "member")
            while not (room / "go").exists():
                time.sleep(0.01)
        yield batch
state.iterate_batches = wait
given = stage.Job(**pickle.loads((room / "given.pickle").read_bytes()))
with form_team(2, stage.train_member, {{"job": given}}, kind="cpu") as team:
    stage.train_member(team=team, job=given)
"""
    with (tmp_path / "said").open("w") as said:
        leader = subprocess.Popen([sys.executable, "-c", script], stderr=said)
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "member").exists() and leader.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert leader.poll() is None, (tmp_path / "said").read_text()
    return leader, int((tmp_path / "member").read_text())


def is_gone(process, *, within_s=15):
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{process}/stat").exists() and Path(f"/proc/{process}/stat").read_text().split()[2] == "Z":
            return True  # ended but not yet reaped
        time.sleep(0.02)
    os.kill(process, signal.SIGKILL)
    return False


def test_a_signal_to_the_leader_stops_both_and_the_next_run_goes_on_to_the_same_weights(
    tmp_path, shards, together, caplog
):
    given = job(tmp_path, shards, "dropout")
    folder = tmp_path / "dropout"
    leader, member = start_leader(tmp_path, given)
    leader.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert leader.wait(PATIENCE_S) == 128 + signal.SIGTERM, (tmp_path / "said").read_text()
    assert is_gone(member)
    [checkpoint] = folder.iterdir()
    state = torch.load(checkpoint, weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 3)
    # Each member has its own random numbers.
    randoms = [own["random"] for own in state["members"]]
    assert len(randoms) == 2
    assert not torch.equal(*randoms)
    shutil.copytree(folder, tmp_path / "copy")

    train_as_two([given])
    expected = weights_in(together / "dropout")
    for key, tensor in weights_in(folder).items():
        assert torch.equal(tensor, expected[key]), key
    columns = ("epoch", "train_loss", "validation_loss", "validation_dice")
    for row, other in zip(history_in(folder), history_in(together / "dropout"), strict=True):
        assert [row[column] for column in columns] == [other[column] for column in columns]

    # A single process can also resume from it, and reports what is lost.
    alone = {**given, "weights_path": tmp_path / "copy" / "weights.pt"}
    alone |= {"history_path": tmp_path / "copy" / "history.csv", "summary_path": tmp_path / "copy" / "train.json"}
    alone["choices_path"] = tmp_path / "copy" / "choices.json"
    train_model(**alone)
    assert "the checkpoint was saved with 2 GPUs, this run uses 1: dropout is redrawn" in caplog.text
    assert len(history_in(tmp_path / "copy")) == 3


def wait_for_ever(*, team):
    """Wait as a member that exchanges nothing and therefore cannot notice that it is alone."""
    time.sleep(10 * PATIENCE_S)


def test_nobody_outlives_a_leader_that_is_killed(tmp_path):
    script = f"""
import multiprocessing, sys
sys.path[:0] = [{str(WORKFLOW)!r}, *{[str(Path(__file__).parents[up]) for up in range(3)]!r}]
from test_team import wait_for_ever
from cellmill.training.team import form_team
with form_team(2, wait_for_ever, {{}}, kind="cpu") as team:
    [member] = multiprocessing.active_children()
    print(member.pid, flush=True)
    wait_for_ever(team=team)
"""
    leader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    member = int(leader.stdout.readline())
    leader.kill()
    leader.communicate(timeout=PATIENCE_S)
    assert is_gone(member)


@pytest.mark.parametrize(("status", "ends"), [(1, True), (-9, True), (0, False), (128 + 15, False), (None, False)])
def test_a_leader_on_a_gpu_ends_when_a_member_has_died_and_not_when_it_has_left(monkeypatch, caplog, status, ends):
    """A GPU would wait for ever; a member that is done, or was stopped by a signal, leaves while the leader writes."""
    is_over, ended = threading.Event(), []
    monkeypatch.setattr(cellmill.training.team, "FAREWELL_S", 0.01)

    def end(code):
        ended.append(code)
        is_over.set()

    monkeypatch.setattr(os, "_exit", end)
    others = [SimpleNamespace(exitcode=None), SimpleNamespace(exitcode=status)]
    timer = threading.Timer(1.2, is_over.set)
    timer.start()
    cellmill.training.team._end_with(others, is_over)
    timer.cancel()
    assert ended == ([1] if ends else [])
    assert ("the process of GPU 2 has died; the next run continues from the checkpoint" in caplog.text) == ends


def fail_as(*, team, member):
    if team.member == member:
        raise ValueError(f"member {member} has failed")
    for _ in range(3):
        team.sum(torch.zeros(1))


@pytest.mark.parametrize("member", [0, 1])
def test_the_failure_of_one_ends_all(monkeypatch, member):
    monkeypatch.setattr(cellmill.training.team, "FAREWELL_S", 10.0)
    expected = (ValueError, "member 0 has failed") if member == 0 else (RuntimeError, "(?i)connection")
    before = time.monotonic()
    with pytest.raises(expected[0], match=expected[1]), form_team(2, fail_as, {"member": member}, kind="cpu") as team:
        fail_as(team=team, member=member)
    assert time.monotonic() - before < PATIENCE_S
    assert not torch.distributed.is_initialized()
    assert torch.multiprocessing.active_children() == []


# ---- shares and messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("patches", [8, 9, 13, 30])
def test_the_parts_of_a_batch_are_nearly_equal_and_make_the_whole(size, patches):
    parts = [list(Team(member, size).part_of(range(5, 5 + patches))) for member in range(size)]
    assert [number for part in parts for number in part] == list(range(5, 5 + patches))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_nobody_is_without_a_patch():
    """With fewer patches than members, some take the same patch, because a step waits for all members."""
    for patches in (1, 2, 3):
        parts = [list(Team(member, 4).part_of(range(patches))) for member in range(4)]
        assert {len(part) for part in parts} == {1}
        assert {number for part in parts for number in part} == set(range(patches))


def test_a_team_of_one_exchanges_nothing():
    team, model = Team(), torch.nn.Linear(2, 2)
    assert team.leads
    assert team.wrap(model, device=torch.device("cpu")) is model
    assert team.gather("x") == ["x"]
    assert team.share("x") == "x"
    assert team.largest(3.5) == 3.5
    assert torch.equal(team.sum(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("gpus", "batch", "message"),
    [
        (3, 2, r"resource gpu=3: expected a batch of at least 3 patches, one per GPU, found 2\. Raise"),
        (
            9,
            16,
            r"resource gpu=9: expected at least 9 GPUs, found 8\. Request more GPUs from the cluster, or lower the resource",
        ),
    ],
)
def test_more_gpus_than_there_are_or_than_patches_are_refused(tmp_path, shards, monkeypatch, gpus, batch, message):
    monkeypatch.delenv("CELLMILL_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    given = keywords(tmp_path / "run", shards, tiny_preset(train={"batch": batch}))
    with pytest.raises(ValueError, match=message):
        train_model(**{**given, "gpu": gpus})


def test_a_part_knows_the_size_of_the_whole_batch(shards):
    """The training loss of an epoch counts whole batches, whichever member records it."""
    from cellmill.training.batches import iterate_batches
    from training_shards import image_set

    preset = PRESETS["uneven"]
    images = image_set((shards["train_images"][0], shards["train_labels"][0]), preset=preset)
    given = {"train": preset["train"], "seed": 1, "epoch": 0, "first_step": 0, "workers": 1}
    parts = [list(iterate_batches(images, team=Team(member, 2), **given)) for member in range(2)]
    assert [[batch.patches for batch in part] for part in parts] == [[3, 3, 3, 1]] * 2
    assert [[len(batch.images) for batch in part] for part in parts] == [[1, 1, 1, 1], [2, 2, 2, 1]]
    assert np.array_equal(parts[0][3].images, parts[1][3].images)
