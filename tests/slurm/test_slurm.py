"""The demo on a small scale through a real SLURM: the shipped profile, with the GPU really requested."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from yte import process_yaml

import cluster as slurm
from left_out import without_tool
from programs import SLURM, need
from project import GUARD_S, QUIET_THREADS, ROOT, TINY, copy_project, planned_jobs, snakemake, write_config


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


# A training that waits in each step until the faults are over, so that they meet it at work
WAITING_STEP = f"                __import__('time').sleep(0 if __import__('pathlib').Path('faults-are-over').exists() else 0.5)\n{STEP}"


@contextmanager
def started(project: Path, said: Path, *arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run snakemake through SLURM in the background, in a session of its own."""
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "SLURM"))}
    with said.open("wb") as stream:
        running = subprocess.Popen(
            [sys.executable, "-m", "snakemake", "--profile", "slurm", *QUICK, *arguments],
            cwd=project, stdout=stream, stderr=stream, start_new_session=True, env={**surroundings, **QUIET_THREADS, **env},
        )  # fmt: skip
    try:
        yield running
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


def wait_until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + GUARD_S
    while not true():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def waiting_demo(cluster, tmp_path_factory) -> tuple[Path, str]:
    """The demo with a training that waits in its steps, ready to train; and its undisturbed weights, in hexadecimal."""
    project = copy_project(tmp_path_factory.mktemp("waiting") / "project")
    small_demo(project)
    config = yaml.safe_load((project / "config.yaml").read_text())
    config["datasets"]["demo"]["models"][0]["train"] = {**TINY["train"], "steps": 40}
    write_config(project, config, "config.yaml")
    stage = project / "workflow/cellmill/stages/train.py"
    stage.write_text(stage.read_text().replace(STEP, WAITING_STEP))
    (project / "faults-are-over").touch()
    weights = project / "results/demo/sartorius_unet/weights.pt"
    environment = {"CELLMILL_DEVICE": "cpu"}
    snakemake(project, "--cores", "2", weights.relative_to(project).as_posix(), env=environment)
    undisturbed = weights.read_bytes().hex()
    shutil.rmtree(weights.parent)
    (project / "faults-are-over").unlink()
    return project, undisturbed


@pytest.mark.long
def test_a_training_outlives_its_daemons_preemption_and_a_crash_of_its_node(cluster, home, waiting_demo, tmp_path):
    project, undisturbed = waiting_demo
    log = project / "logs/demo/train/sartorius_unet.log"

    def training() -> dict[str, str]:
        jobs = [job for job in cluster.jobs() if job["WorkDir"] == str(project) and "rule_train" in job["Comment"]]
        assert len(jobs) <= 1, jobs  # snakemake never submits it again
        return jobs[0] if jobs else {"JobState": "", "Restarts": ""}

    def works(*, restarts: int) -> bool:
        job, text = training(), log.read_text() if log.exists() else ""
        return (
            (job["JobState"], job["Restarts"]) == ("RUNNING", str(restarts))
            and ("continuing in epoch" if restarts else "on device cpu") in text
            and "stopped by" not in text
        )

    environment = {**home, "CELLMILL_DEVICE": "cpu"}
    with started(project, tmp_path / "said", "--retries", "0", "--until", "train", env=environment) as running:
        wait_until(lambda: works(restarts=0), "the training")

        cluster.kill("slurmctld")
        time.sleep(10)
        assert running.poll() is None
        cluster.start_daemons("slurmctld")
        cluster.kill("slurmd")
        time.sleep(3)
        cluster.start_daemons("slurmd")
        assert works(restarts=0)

        subprocess.run(["srun", "-Q", "-p", "urgent", "--gpus=1", "sleep", "5"], check=True, timeout=GUARD_S)
        wait_until(lambda: works(restarts=1), "the training after its preemption")

        cluster.crash_node()
        log.unlink()
        wait_until(lambda: training()["JobState"] != "RUNNING", "a controller that misses the node")
        cluster.start_daemons("slurmd")
        wait_until(lambda: works(restarts=2), "the training after the crash")

        (project / "faults-are-over").touch()
        assert running.wait(GUARD_S) == 0
    assert (project / "results/demo/sartorius_unet/weights.pt").read_bytes().hex() == undisturbed


@pytest.mark.long
def test_a_crash_of_everything_at_once_costs_no_result(cluster, home, waiting_demo, tmp_path):
    project, undisturbed = waiting_demo
    weights = project / "results/demo/sartorius_unet/weights.pt"
    shutil.rmtree(weights.parent, ignore_errors=True)
    (project / "faults-are-over").unlink(missing_ok=True)
    log = project / "logs/demo/train/sartorius_unet.log"
    log.unlink(missing_ok=True)
    environment = {**home, "CELLMILL_DEVICE": "cpu"}
    earlier = {job["JobId"] for job in cluster.jobs()}
    with started(project, tmp_path / "said", "--until", "train", env=environment) as running:
        wait_until(lambda: log.exists() and "on device cpu" in log.read_text(), "the training")
        os.killpg(running.pid, signal.SIGKILL)
    cluster.kill("slurmctld")
    cluster.crash_node()
    cluster.start_daemons("slurmctld", "slurmd")
    (project / "faults-are-over").touch()

    snakemake(project, "--unlock")
    snakemake(project, "--profile", "slurm", *QUICK, "--until", "train", env=environment)
    # The controller has not forgotten the job of the run that was killed, and starts it again beside the new one.
    ours = [job for job in cluster.jobs() if job["WorkDir"] == str(project) and job["JobId"] not in earlier]
    assert len(ours) == 2
    wait_until(lambda: not {"RUNNING", "PENDING"} & {job["JobState"] for job in cluster.jobs()}, "both jobs")
    assert weights.read_bytes().hex() == undisturbed


# A stage that needs more than the 1,000 MB that its rule requests at first
GREEDY = "import numpy as np\n\nheld = np.ones(1_200_000_000, np.uint8)\n"
# A stage whose folder appears some seconds after its job has ended, as a network file system can show it
LATE = """
import subprocess
from pathlib import Path

path = Path(snakemake.output[0]).absolute()
path.rename(path.with_name("late-" + path.name))
subprocess.Popen(f"sleep 12; mv {path.with_name('late-' + path.name)} {path}", shell=True, start_new_session=True)
"""


@pytest.mark.long
def test_a_job_without_enough_memory_gets_more_and_a_folder_that_appears_late_is_waited_for(cluster, home, tmp_path):
    project = copy_project(tmp_path / "project")
    small_demo(project)
    for name, more in (("check_dataset", GREEDY), ("rasterize", LATE)):
        script = project / f"workflow/scripts/{name}.py"
        script.write_text(script.read_text() + more)
    snakemake(project, "--cores", "2", "--until", "check_shard", env=home)
    targets = ("results/demo/check/summary.csv", "results/demo/labels/train-0000")
    snakemake(project, "--profile", "slurm", *QUICK, *targets, env=home)
    jobs = [job for job in cluster.jobs() if job["WorkDir"] == str(project)]
    named = sorted((job["Comment"], int(job["JobId"]), job["MinMemoryNode"], job["JobState"]) for job in jobs)
    (_, number, *first), (_, _, *second), (_, _, *late) = named
    assert first == ["1000M", "FAILED"]
    assert second == ["2000M", "COMPLETED"]
    [log] = (project / "logs/slurm/rule_check_dataset").glob(f"**/{number}.log")
    assert "exceeded memory limit" in log.read_text()
    assert late == ["4000M", "COMPLETED"]
    assert len(list((project / targets[1]).glob("*.tif"))) == 5


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
