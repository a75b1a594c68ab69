"""The demo on a small scale through a real SLURM: the shipped profile, with the GPU really requested."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml
from yte import process_yaml

import cluster as slurm
from left_out import without_tool
from programs import SLURM, need
from project import ROOT, TINY, copy_project, planned_jobs, snakemake, write_config


@pytest.fixture(scope="module")
def cluster():
    if reason := slurm.unavailable():
        without_tool(reason)
    need(*SLURM)
    root = Path(tempfile.mkdtemp(prefix=f"{slurm.MARK}-"))
    root.chmod(0o755)
    running = slurm.Cluster(root)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def home(tmp_path, monkeypatch) -> dict[str, str]:
    """Environment variables of a user's home with the profile linked by make slurm-profile."""
    home = tmp_path / "home"
    environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    subprocess.run(["make", "slurm-profile"], cwd=ROOT, env=environment, check=True, capture_output=True)
    linked = home / ".config/snakemake/slurm"
    assert linked.resolve() == ROOT / "profiles/slurm"
    return {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}


def small_demo(project: Path) -> None:
    config = yaml.safe_load((project / "config.yaml").read_text())
    [(name, dataset)] = config["datasets"].items()
    dataset["simulate"].update(images=8, size=[64, 64])
    dataset["models"] = [{"preset": "sartorius_unet", **TINY}]
    write_config(project, config, "config.yaml")
    assert name == "demo"


def edit_profile(home: dict[str, str], changes: dict[str, str]) -> None:
    """Replace the link to the profile by a copy with changed settings."""
    folder = Path(home["XDG_CONFIG_HOME"]) / "snakemake/slurm"
    folder.unlink()
    folder.mkdir()
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "config.yaml").write_text(text)


# The test cluster has no accounts; shorter waits than on a real cluster keep the test short.
QUICK = (
    "--slurm-no-account",
    "--slurm-init-seconds-before-status-checks",
    "2",
    "--seconds-between-status-checks",
    "2",
)


def test_training_and_prediction_run_through_slurm_with_the_gpu_requested(cluster, home, tmp_path):
    project = copy_project(tmp_path / "project")
    small_demo(project)
    environment = {**home, "CELLMILL_DEVICE": "cpu"}
    snakemake(project, "--cores", "2", "--until", "preprocess", "rasterize", "check_dataset", env=environment)
    earlier = {job["JobId"] for job in cluster.jobs()}
    snakemake(project, "--profile", "slurm", *QUICK, "--retries", "0", "--until", "predict", env=environment)
    # without the job that tested the cluster
    ours = [job for job in cluster.jobs() if "Comment" in job and job["JobId"] not in earlier]
    wanted = {job["Comment"]: job["TresPerJob"] for job in ours if "TresPerJob" in job}
    assert any(comment.startswith("rule_train") for comment in wanted)
    assert any(comment.startswith("rule_predict") for comment in wanted)
    assert all("gpu:1" in tres for tres in wanted.values())
    assert not any(
        job["Comment"].startswith(("rule_train", "rule_predict")) and job["Partition"] != "gpu" for job in ours
    )
    log = (project / "logs/demo/train/sartorius_unet.log").read_text()
    assert "CELLMILL_DEVICE=cpu" in log
    # On this machine, without the profile, nothing of it runs again.
    assert not any(job.startswith(("train", "predict")) for job in planned_jobs(project))


@pytest.mark.long
def test_a_job_that_asked_for_a_gpu_and_sees_none_fails_and_says_what_to_do(cluster, home, tmp_path):
    project = copy_project(tmp_path / "project")
    small_demo(project)
    environment = {**home, "CELLMILL_DEVICE": ""}
    snakemake(project, "--cores", "2", "--until", "preprocess", "rasterize", env=environment)
    finished = snakemake(
        project, "--profile", "slurm", *QUICK, "--retries", "0", "--until", "train",
        env=environment, check=False,
    )  # fmt: skip
    assert finished.returncode != 0
    log = (project / "logs/demo/train/sartorius_unet.log").read_text()
    assert "expected a CUDA device, found none" in log
    assert "CELLMILL_DEVICE=cpu" in log
    assert not (project / "results/demo/sartorius_unet/weights.pt").exists()


# The first attempt is slow enough to reach its time limit: it waits at each step until the first checkpoint exists.
STEP = "                loss = stepper.take(batch)\n"
SLOW_STEP = f"                __import__('time').sleep(0 if checkpoint.path.exists() else 3)\n{STEP}"
STEPS = 80


@pytest.mark.long
def test_a_training_that_reaches_its_time_limit_saves_and_its_retry_continues(cluster, home, tmp_path):
    project = copy_project(tmp_path / "project")
    small_demo(project)
    config = yaml.safe_load((project / "config.yaml").read_text())
    model = config["datasets"]["demo"]["models"][0]
    model["train"] = {**TINY["train"], "steps": STEPS}  # in one epoch, after which it would save
    write_config(project, config, "config.yaml")
    stage = project / "workflow/cellmill/stages/train.py"
    text = stage.read_text()
    assert text.count(STEP) == 1
    stage.write_text(text.replace(STEP, SLOW_STEP))
    environment = {**home, "CELLMILL_DEVICE": "cpu"}
    snakemake(project, "--cores", "2", "--until", "preprocess", "rasterize", "check_dataset", env=environment)

    # SLURM looks at the clock each half minute, so the signal comes 60 to 90 s before the end of the four minutes. This
    # leaves a busy machine the time to start the training.
    edit_profile(home, {"longest_min: 1440": "longest_min: 4", "signal_s: 120": "signal_s: 60"})
    snakemake(project, "--profile", "slurm", *QUICK, "--until", "train", env=environment)
    jobs = [job for job in cluster.jobs() if job["WorkDir"] == str(project) and "rule_train" in job["Comment"]]
    first, second, *others = sorted(jobs, key=lambda job: int(job["JobId"]))  # a very busy machine needs others
    assert (first["JobState"], [second, *others][-1]["JobState"]) == ("FAILED", "COMPLETED")
    assert first["TimeLimit"] == second["TimeLimit"] == "00:04:00"
    assert (first["MinMemoryNode"], second["MinMemoryNode"]) == ("16000M", "32000M")
    [slurm_log] = (project / "logs/slurm/rule_train").glob(f"**/{first['JobId']}.log")
    text = slurm_log.read_text()
    assert "stopped by SIGUSR1; the next run continues from the checkpoint" in text
    assert "task 0: Exited with exit code 1" in text  # and not by the signal, which snakemake ignores
    assert "continuing in epoch" in (project / "logs/demo/train/sartorius_unet.log").read_text()
    assert json.loads((project / "results/demo/sartorius_unet/train.json").read_text())["steps_done"] == STEPS


def requests_of(project: Path, rule: str, *arguments: str, env: dict[str, str]) -> dict[str, str]:
    """Return the resources of the first job of a rule in a dry run."""
    text = snakemake(project, "-n", *arguments, env=env).stdout
    [line, *_] = re.findall(rf"^rule {rule}:\n(?: .*\n)*?    resources: (.*)$", text, re.MULTILINE)
    return dict(word.split("=", 1) for word in line.split(", "))


def test_requests_grow_with_the_attempt_up_to_the_limits_of_the_profile(home, tmp_path):
    project = copy_project(tmp_path / "project")
    small_demo(project)
    edit_profile(home, {'gpu_model: ""': 'gpu_model: "a100"', 'qos: ""': 'qos: "1234"'})
    second, tenth = (
        {
            rule: requests_of(project, rule, "--profile", "slurm", "--attempt", str(attempt), env=home)
            for rule in ("train", "preprocess")
        }
        for attempt in (2, 10)
    )
    assert (second["preprocess"]["mem_mb"], second["preprocess"]["runtime"]) == ("8000", "120")
    assert (second["train"]["mem_mb"], second["train"]["runtime"]) == ("32000", "1440")
    assert (tenth["train"]["mem_mb"], tenth["preprocess"]["runtime"]) == ("128000", "600")
    assert (second["train"]["gpu"], second["train"]["gpu_model"], second["train"]["qos"]) == ("1", "a100", "1234")
    assert second["train"]["slurm_extra"] == "--signal=USR1@120"
    assert "gpu_model" not in second["preprocess"]
    assert "slurm_account" not in second["preprocess"]


def test_make_slurm_profile_writes_partitions_and_account(tmp_path):
    folder = tmp_path / "snakemake/slurm"
    command = ["make", "slurm-profile", "PARTITION=short,long", "GPU_PARTITION=gpu-a100", "ACCOUNT=lab_1"]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    profile = process_yaml((folder / "config.yaml").read_text(), require_use_yte=True)
    # Quoted, because Snakemake evaluates them: a partition `max` would be Python's function.
    assert profile["default-resources"]["slurm_partition"] == "'short,long'"
    assert profile["default-resources"]["slurm_account"] == "'lab_1'"
    assert {profile["set-resources"][rule]["slurm_partition"] for rule in ("train", "predict")} == {"'gpu-a100'"}
    # What a site has edited stays.
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "Edit its config.yaml, or move the folder away" in again.stdout


def test_the_profile_names_partition_gpu_memory_and_time_of_the_heavy_rules():
    profile = process_yaml((ROOT / "profiles/slurm/config.yaml").read_text(), require_use_yte=True)
    assert set(profile["default-resources"]) >= {"slurm_partition", "mem_mb", "runtime"}
    for rule in ("train", "predict"):
        resources = profile["set-resources"][rule]
        assert resources["gpu"] == 1
        # the time of a prediction follows from its shard, in the rule
        assert set(resources) >= {"slurm_partition", "mem_mb"} | ({"runtime"} if rule == "train" else set())
