"""Copy the project into a separate folder, and run snakemake in it as a user does."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
import yaml
from skimage.draw import disk

from whole_images import encode_rle

ROOT = Path(__file__).resolve().parents[1]
# Guards against hangs only: at least five times what the longest run takes on an idle machine.
GUARD_S = 2400
PARTS = ("Snakefile", "config.yaml", "workflow", "envs", "profiles", "resources")

# Several pipelines share the cores of a test machine, so waiting threads must sleep. Measured with two trainings at
# once on two cores: 0.36 s a step with the library's spinning, 0.18 s without.
QUIET_THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}

# A network and a training that take seconds; all other settings are the shipped ones.
TINY = {"width": 0.0625, "train": {"epochs": 1, "patch": [32, 32], "batch": 2}, "predict": {"tile": [64, 64]}}


def copy_project(destination: Path) -> Path:
    """Copy the files that a user has after a clone."""
    destination.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, destination / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, destination / part)
    return destination


def snakemake(
    project: Path, *arguments: str, check: bool = True, env: dict[str, str] | None = None, timeout: int = GUARD_S
) -> subprocess.CompletedProcess[str]:
    """Run snakemake in a project with this interpreter's environment."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    surroundings = {key: value for key, value in os.environ.items() if not key.startswith(("SNAKEMAKE", "SLURM"))}
    finished = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=timeout,
        env={**surroundings, **QUIET_THREADS, **(env or {})},
    )  # fmt: skip
    if check and finished.returncode != 0:
        logs = "".join(f"\n== {log}\n{log.read_text()[-3000:]}" for log in sorted(project.glob("logs/**/*.log"))[-3:])
        raise AssertionError(f"{' '.join(command[2:])} failed:\n{finished.stdout}\n{finished.stderr}{logs}")
    return finished


def planned_jobs(project: Path, *arguments: str) -> set[str]:
    """List the jobs of a dry run as ``rule dataset/run/shard``, without the rules all and check."""
    finished = snakemake(project, "-n", *arguments)
    text = finished.stdout + finished.stderr
    rules: list[str] = []
    places: list[str] = []
    for line in text.splitlines():
        if head := re.fullmatch(r"(?:local)?rule (\w+):", line):
            rules.append(head.group(1))
            places.append("")
        elif line.startswith("    wildcards: "):
            words = dict(word.split("=", 1) for word in line.removeprefix("    wildcards: ").split(", "))
            places[-1] = "/".join(words[key] for key in ("dataset", "run", "shard") if key in words)
    named = zip(rules, places, strict=True)
    jobs = {f"{rule} {place}".strip() for rule, place in named if rule not in ("all", "check")}
    assert jobs or "Nothing to be done" in text, text
    return jobs


# Files with times, paths of a run, or the machine in them
UNLIKE = (".html", ".log", "train.json", "history.csv", ".cellmill", "ro-crate-metadata.json", "choices.json")


def results_of(project: Path) -> dict[str, str]:
    """Return a digest of every result that does not depend on the clock; partial files are results, too."""
    root = project / "results"
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(UNLIKE)
    }


def draw_cells(rng: np.random.Generator, shape: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw bright discs on a dark noisy background: image (uint8) and labels."""
    labels = np.zeros(shape, np.uint16)
    for number in range(1, count + 1):
        radius = rng.uniform(4, 8)
        centre = rng.uniform(radius, np.array(shape) - radius)
        rows, columns = disk(centre, radius, shape=shape)
        labels[rows, columns] = number
    image = 40 + 120 * (labels > 0) + rng.normal(0, 8, shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def write_rle_dataset(folder: Path, names: list[str], *, seed: int, shape: tuple[int, int] = (64, 80)) -> None:
    """Write images and one shared table of row-major RLE with classes, in the layout of Sartorius."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in names:
        rng = np.random.default_rng([seed, *name.encode()])
        image, labels = draw_cells(rng, shape, 5)
        tifffile.imwrite(folder / f"{name}.tif", image)
        for number in np.unique(labels)[1:]:
            rows.append(
                {
                    "id": name, "annotation": encode_rle(labels == number, order="row"), "width": shape[1],
                    "height": shape[0], "cell_type": "cort" if name < "m" else "astro",
                }
            )  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "train.csv", index=False)


def write_label_dataset(folder: Path, names: list[str], *, seed: int, shape: tuple[int, int] = (64, 64)) -> None:
    """Write images and a label image for each."""
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    for name in names:
        image, labels = draw_cells(np.random.default_rng([seed, *name.encode()]), shape, 4)
        tifffile.imwrite(folder / "images" / f"{name}.tif", image)
        tifffile.imwrite(folder / "labels" / f"{name}.tif", labels)


def write_config(project: Path, config: dict, name: str = "mine.yaml") -> str:
    """Write a config file and return its name."""
    plain = json.loads(json.dumps(config))  # without YAML's aliases for shared sections
    (project / name).write_text(yaml.safe_dump(plain, sort_keys=False))
    return name


# The model of the README's example for the 2018 Data Science Bowl; a test compares the two.
README_DSB_MODEL = {
    "preset": "sartorius_unet",
    "name": "small",
    "width": 0.25,
    "train": {
        "epochs": 20,
        "patch": [64, 64],
        "patches_per_image": 24,
        "batch": 16,
        "sampling": "balanced",
        "optimiser": {"learning_rate": 0.003},
        "schedule": {"name": "cosine"},
        "augmentation": {"flip": True, "rotate_90": True, "contrast": 0.5, "brightness": 0.3},
    },
}
