"""The demo on a small scale through a real SLURM: the shipped profile, with the GPU really requested."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import yaml

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


# The test cluster has no accounts; shorter waits than on a real cluster keep the test short.
QUICK = (
    "--slurm-no-account",
    "--slurm-init-seconds-before-status-checks",
    "2",
    "--seconds-between-status-checks",
    "2",
)


def test_the_demo_runs_through_slurm_with_the_gpu_requested(cluster, home, tmp_path):
    project = copy_project(tmp_path / "project")
    small_demo(project)
    snakemake(
        project, "--profile", "slurm", *QUICK, "--retries", "0",
        env={**home, "CELLMILL_DEVICE": "cpu"},
    )  # fmt: skip
    assert (project / "results/demo/report.html").stat().st_size > 10_000
    ours = [job for job in cluster.jobs() if "Comment" in job]  # without the job that tested the cluster
    wanted = {job["Comment"]: job["TresPerJob"] for job in ours if "TresPerJob" in job}
    assert any(comment.startswith("rule_train") for comment in wanted)
    assert any(comment.startswith("rule_predict") for comment in wanted)
    assert all("gpu:1" in tres for tres in wanted.values())
    assert not any(
        job["Comment"].startswith(("rule_train", "rule_predict")) and job["Partition"] != "gpu" for job in ours
    )
    log = (project / "logs/demo/train/sartorius_unet.log").read_text()
    assert "CELLMILL_DEVICE=cpu" in log
    # A second run on this machine, without the profile, has nothing to do.
    assert planned_jobs(project) == set()


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


def test_the_profile_names_partition_gpu_memory_and_time_of_the_heavy_rules():
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    assert set(profile["default-resources"]) >= {"slurm_partition", "mem_mb", "runtime"}
    for rule in ("train", "predict"):
        resources = profile["set-resources"][rule]
        assert resources["gpu"] == 1
        assert set(resources) >= {"slurm_partition", "mem_mb", "runtime"}
