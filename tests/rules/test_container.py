"""The container has all that a run needs: its COPY lines are followed, and the result is used from another folder."""

import re
import shutil
import subprocess
import sys

from project import ROOT, write_config

TEXT = (ROOT / "envs/Containerfile").read_text()


def follow(folder):
    """Copy what the COPY lines copy into a folder that stands for the root of the container."""
    place = re.search(r"^WORKDIR (\S+)", TEXT, re.MULTILINE)[1]
    for line in re.findall(r"^COPY (.+)$", TEXT, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            path = folder / place.removeprefix("/") / (target if target != "./" else source)
            path.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy2
            copy(ROOT / source, path)
    return folder / re.search(r'"--snakefile", "/(\S+)"', TEXT)[1]


def test_a_run_in_a_mounted_folder_needs_only_what_was_copied(tmp_path):
    snakefile = follow(tmp_path / "root")
    data = tmp_path / "data"
    data.mkdir()
    config = write_config(data, {"datasets": {"d": {"simulate": {"images": 4, "size": [64, 64]}}}})
    for path in snakefile.parent.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--configfile", config, "--cores", "2"]
    finished = subprocess.run([*command, "check"], cwd=data, capture_output=True, text=True, timeout=300, check=False)
    assert finished.returncode == 0, finished.stderr
    assert (data / "results/d/check/summary.csv").is_file()
    planned = subprocess.run([*command, "-n"], cwd=data, capture_output=True, text=True, timeout=300, check=False)
    assert re.search(r"^train +1$", planned.stdout, re.MULTILINE), planned.stdout + planned.stderr


def test_the_packages_are_the_pinned_ones():
    assert "--requirement requirements.txt --requirement requirements-vendor.txt" in TEXT
    version = re.search(r"^FROM \S+/python:(\d+)\.(\d+)-", TEXT, re.MULTILINE)
    assert (3, 11) <= (int(version[1]), int(version[2])) <= (3, 13)
