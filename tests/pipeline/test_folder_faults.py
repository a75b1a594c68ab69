"""What the folder of a run can do to it: it is full, read-only, or used by a second run. No result is lost or different."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from left_out import without_tool
from project import GUARD_S, QUIET_THREADS, copy_project, results_of, snakemake, write_config, write_label_dataset

# Whole runs
pytestmark = pytest.mark.long

SECTION = {
    "images": "data/images/{sample}.tif",
    "annotations": {"format": "label_image", "path": "data/labels/{sample}.tif"},
    "models": ["classical"],
    "export": ["coco"],
}
COMMAND = f"{sys.executable} -m snakemake --cores 2"


def make_project(folder: Path) -> Path:
    project = copy_project(folder)
    write_label_dataset(project / "data", [f"n{at}" for at in range(6)], seed=4)
    write_config(project, {"datasets": {"cells": SECTION}}, "config.yaml")
    return project


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, str]:
    project = make_project(tmp_path_factory.mktemp("undisturbed") / "project")
    snakemake(project, "--cores", "2")
    return results_of(project)


def mounted(project: Path, script: str) -> str:
    """Run commands that mount something on the results, in a namespace of their own; return what they print."""
    if os.geteuid() != 0:
        without_tool("a small or read-only disk is mounted as root only")
    (project / "results").mkdir(exist_ok=True)
    finished = subprocess.run(
        ["unshare", "--mount", "bash", "-euc", script], cwd=project, env={**os.environ, **QUIET_THREADS},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=GUARD_S, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def test_a_small_disk_fills_and_after_it_has_grown_the_run_goes_on(undisturbed, tmp_path):
    project = make_project(tmp_path / "project")
    said = mounted(
        project,
        f"""mount -t tmpfs -o size=200k none results
        ! {COMMAND}
        mount -o remount,size=100m results
        {COMMAND}
        cp --archive results kept""",
    )
    assert "expected to write this" in said
    assert "No space left on device" in said
    assert "it goes on from here" in said
    (project / "results").rmdir()
    (project / "kept").rename(project / "results")
    assert results_of(project) == undisturbed


def test_read_only_results_are_named_before_any_job_and_can_be_looked_at(undisturbed, tmp_path):
    project = make_project(tmp_path / "project")
    snakemake(project, "--cores", "2")
    said = mounted(
        project,
        f"""mount --bind results results
        mount -o remount,ro,bind results
        {COMMAND}
        echo a change; sed -i s/coco/geojson/ config.yaml
        ! {COMMAND}""",
    )
    before, after = said.split("a change")
    assert "Nothing to be done" in before
    assert "Write-protected output files" in after
    assert "results/cells/report.html" in after
    assert results_of(project) == undisturbed


def test_a_second_run_on_a_folder_is_refused_and_the_first_is_undisturbed(undisturbed, tmp_path):
    project = make_project(tmp_path / "project")
    with subprocess.Popen(
        COMMAND.split(), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **QUIET_THREADS},
    ) as first:  # fmt: skip
        deadline = time.monotonic() + GUARD_S
        while not list(project.glob("results/cells/check/*.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        second = snakemake(project, "--cores", "1", check=False)
        assert first.poll() is None
        said, _ = first.communicate(timeout=GUARD_S)
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.stderr
    assert first.returncode == 0, said
    assert results_of(project) == undisturbed


# The first attempt is killed, as for lack of memory on a cluster.
KILLED_ONCE = """
import os
from pathlib import Path

mark = Path(snakemake.output[0] + ".was-killed")
if not mark.exists():
    mark.touch()
    os.kill(os.getpid(), 9)
"""


def test_with_retries_a_killed_job_is_repeated_and_a_mistake_in_the_data_is_not(undisturbed, tmp_path):
    project = make_project(tmp_path / "project")
    script = project / "workflow/scripts/rasterize.py"
    original = script.read_text()
    script.write_text(original.replace("from cellmill.stages", f"{KILLED_ONCE}\nfrom cellmill.stages", 1))
    path = project / "data/images/n0.tif"
    content = path.read_bytes()
    path.write_bytes(b"no TIFF")
    finished = snakemake(project, "--cores", "2", "--retries", "2", "--keep-going", check=False)
    logs = (project / ".snakemake/log").glob("*.log")
    said = "".join(log.read_text() for log in logs)
    marks = list(project.glob("results/cells/labels/*.was-killed"))
    assert "data/images/n0.tif: expected TIFF" in finished.stderr
    assert marks
    assert said.count("Trying to restart job") == len(marks)
    for mark in marks:
        mark.unlink()
    script.write_text(original)
    path.write_bytes(content)
    snakemake(project, "--cores", "2")
    assert results_of(project) == undisturbed
