"""A signal to snakemake alone ends a training with a checkpoint; the next run ends with the same weights."""

import os
import signal
import subprocess
import sys
import time

import pytest

from project import GUARD_S, QUIET_THREADS, TINY, copy_project, snakemake, write_config, write_label_dataset


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_snakemake_alone_costs_no_training(tmp_path, number):
    project = copy_project(tmp_path / "project")
    write_label_dataset(project / "data", [f"n{at}" for at in range(6)], seed=4)
    train = {**TINY["train"], "epochs": 30, "patches_per_image": 12}
    dataset = {
        "images": "data/images/{sample}.tif",
        "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
        "models": [{"preset": "sartorius_unet", "name": "u", **TINY, "train": train}],
    }
    write_config(project, {"datasets": {"d": dataset}}, "config.yaml")
    target = "results/d/u/weights.pt"
    snakemake(project, "--cores", "2", target)
    weights = project / target
    undisturbed = weights.read_bytes()
    weights.unlink()

    command = [sys.executable, "-m", "snakemake", "--cores", "2", target]
    with (tmp_path / "said").open("w+") as said:
        running = subprocess.Popen(
            command, cwd=project, stdout=said, stderr=said, start_new_session=True, env={**os.environ, **QUIET_THREADS}
        )
        deadline = time.monotonic() + GUARD_S
        while "epoch 3/" not in (tmp_path / "said").read_text() and time.monotonic() < deadline:
            assert running.poll() is None
            time.sleep(0.1)
        os.kill(running.pid, number)
        assert running.wait(GUARD_S) != 0
    checkpoints = []
    while not checkpoints and time.monotonic() < deadline:  # after SIGKILL the training outlives snakemake by a step
        time.sleep(0.1)
        checkpoints = list(weights.parent.glob(".weights.checkpoint-*.pt"))
    log = project / "logs/d/train/u.log"
    while "stopped by SIGTERM" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    if number == signal.SIGKILL:
        snakemake(project, "--unlock")
    snakemake(project, "--cores", "2", target)
    assert "continuing in epoch" in log.read_text()
    assert weights.read_bytes() == undisturbed
