"""Everything that a machine can do to a run at a random moment: the next runs end with the results of an undisturbed one.

``make faults`` draws more moments, and applies the model to real files as well. Their number is CELLMILL_FAULTS; the plan
of a number is always the same.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cellmill.planning.progress import RECORD
from cellmill.planning.status import read_run
from project import GUARD_S, QUIET_THREADS, TINY, copy_project, results_of, snakemake, write_config, write_label_dataset

# Whole runs
pytestmark = pytest.mark.long

FAULTS = int(os.environ.get("CELLMILL_FAULTS", "3"))
CONFIG = {
    "seed": 3,
    "images_per_job": 4,
    "datasets": {
        "simulated": {
            "simulate": {"images": 6, "size": [64, 64], "cells": [3, 6]},
            "preprocess": {"background": {"method": "gaussian", "sigma_px": 20}},
            "models": ["classical", {"preset": "sartorius_unet", "name": "u", **TINY}],
        },
        "cells": {
            "images": "data/images/{sample}.tif",
            "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
            "models": [{"apply": "simulated/u", "name": "u"}],
            "export": ["coco"],
        },
    },
}
# What is killed: snakemake with its jobs, as by a crash; snakemake alone, whose jobs go on; a single job
KINDS = ("everything", "snakemake", "a job")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    project = make_project(tmp_path_factory.mktemp("undisturbed") / "project")
    snakemake(project, "--cores", "2")
    return project


def make_project(folder: Path) -> Path:
    project = copy_project(folder)
    write_label_dataset(project / "data", [f"n{at}" for at in range(6)], seed=4)
    datasets = CONFIG["datasets"] if len(KINDS) < FAULTS else {"simulated": CONFIG["datasets"]["simulated"]}
    write_config(project, {**CONFIG, "datasets": datasets}, "config.yaml")
    return project


def plan_faults(*, jobs: int) -> list[tuple[str, int, float]]:
    """Draw for each fault its kind, after how many jobs of a run it comes, and how many seconds later."""
    rng = np.random.default_rng(FAULTS)
    return [
        (KINDS[number % len(KINDS)], int(rng.integers(1, max(2, jobs // FAULTS))), float(rng.uniform(0, 2)))
        for number in range(FAULTS)
    ]


def disturb(project: Path, said: Path, *, kind: str, after: int, wait_s: float) -> bool:
    """Start a run, and kill it or a part of it when some jobs are done; return whether it was still running."""
    record = project / ".snakemake/cellmill"
    (record / RECORD).unlink(missing_ok=True)
    with said.open("w") as stream:
        running = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--cores", "2"], cwd=project, stdout=stream, stderr=stream,
            start_new_session=True, env={**os.environ, **QUIET_THREADS},
        )  # fmt: skip
        deadline = time.monotonic() + GUARD_S
        while running.poll() is None and time.monotonic() < deadline:
            run = read_run(record)
            if run is not None and run.done >= after and run.running:
                break
            time.sleep(0.05)
        time.sleep(wait_s)
        if running.poll() is not None:
            return False
        if kind == "everything":
            os.killpg(running.pid, signal.SIGKILL)
        elif kind == "snakemake":
            running.kill()
        else:
            found: list[int] = []
            while running.poll() is None and not (found := scripts_of(running.pid)):
                time.sleep(0.02)  # between two jobs
            for process in found[:1]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        return running.wait(GUARD_S) != 0


def scripts_of(session: int) -> list[int]:
    """List the processes of a session that run the script of a rule."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "-s", str(session)], capture_output=True, text=True, check=False)
    return [
        int(line.split()[0])
        for line in found.stdout.splitlines()
        if ".snakemake/scripts/" in line and " -m " not in line
    ]


def test_random_kills_change_no_result(undisturbed, tmp_path):
    project = make_project(tmp_path / "project")
    wanted = results_of(undisturbed)
    jobs = read_run(undisturbed / ".snakemake/cellmill").total
    hits = 0
    for number, (kind, after, wait_s) in enumerate(plan_faults(jobs=jobs)):
        is_hit = disturb(project, tmp_path / f"said-{number}.txt", kind=kind, after=after, wait_s=wait_s)
        hits += is_hit
        # After a kill the lock of the folder is left, which a user removes.
        snakemake(project, "--unlock", check=False)
        if not is_hit:  # the run came to its end, so the next one begins anew
            compare(results_of(project), wanted)
            shutil.rmtree(project / "results")
    assert hits >= FAULTS // 2
    snakemake(project, "--cores", "2")
    compare(results_of(project), wanted)


def compare(found: dict[str, str], wanted: dict[str, str]) -> None:
    assert sorted(found) == sorted(wanted)
    assert {name for name in wanted if found[name] != wanted[name]} == set()
