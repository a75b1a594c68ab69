"""What planning costs with 25,000, 250,000 and a million images. ``make scale`` prints the table.

For each number, a folder of tiny images with label images is written, and results as a finished run leaves them: empty
shard folders with manifests and seals, empty tables, and the records of Snakemake, made by its option --touch. Then
dry runs are timed in processes of their own: the first look, nothing to do, and one more image. They are compared with
the start of Snakemake (``snakemake --version``) and with a dry run of as many jobs that have neither settings nor code.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from cellmill.shards import shard_folder  # noqa: E402  the module is found here

SIZES = (25_000, 250_000, 1_000_000)
CONFIG = """datasets:
  plate:
    images: data/images/{sample}.tif
    annotations: {format: label_image, path: "data/labels/{sample}.tif"}
    models: [default]
"""
EMPTY = """rule all:
    input: expand("out/{{number}}.txt", number=range({jobs}))
rule one:
    output: "out/{{number}}.txt"
    shell: "touch {{output}}"
"""


class Cost(NamedTuple):
    """Cost of a process: seconds, and the largest memory in MB; with what it printed."""

    seconds: float
    memory_mb: float
    output: str


def measure(folder: Path, *arguments: str) -> Cost:
    """Run snakemake in a folder."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    with tempfile.TemporaryFile("w+") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        stream.seek(0)
        output = stream.read()
    if status != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{output[-3000:]}")
    return Cost(seconds, usage.ru_maxrss / 1024, output)


def write_images(folder: Path, count: int) -> None:
    """Write images of 16 x 16 px, no two alike, and a label image for each."""
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True)
    template = folder / "template.tif"
    tifffile.imwrite(template, np.zeros((16, 16), np.uint8))
    image = bytearray(template.read_bytes())
    tifffile.imwrite(template, np.ones((16, 16), np.uint8))
    labels = template.read_bytes()
    template.unlink()
    for number in range(count):
        image[-4:] = number.to_bytes(4, "little")
        (folder / f"images/im{number:07d}.tif").write_bytes(image)
        (folder / f"labels/im{number:07d}.tif").write_bytes(labels)


def snakemake_in(folder: Path, *arguments: str) -> Cost:
    """Run the pipeline in a folder."""
    return measure(
        folder, "--snakefile", str(ROOT / "Snakefile"), "--configfile", "mine.yaml", "--cores", "1", *arguments
    )


def pretend_results(folder: Path) -> int:
    """Write what a finished run leaves, as far as a plan reads it, and return the number of jobs."""
    lines = snakemake_in(folder, "--summary").output.splitlines()
    outputs = [line.split("\t")[0] for line in lines if line.startswith("results/")]
    for output in outputs:
        path = folder / output
        if path.name.endswith(".sha256"):
            continue
        if path.suffix:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
        else:
            with shard_folder(path):
                pass
    snakemake_in(folder, "--touch", "--forceall")
    jobs = re.search(r"^total\s+(\d+)", snakemake_in(folder, "-n", "--forceall").output, re.MULTILINE)
    assert jobs is not None
    return int(jobs[1])


def measure_size(count: int) -> tuple[int, dict[str, Cost]]:
    """Return the number of jobs with `count` images, and the cost of each kind of call."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder / "data", count)
        (folder / "mine.yaml").write_text(CONFIG)
        time.sleep(3)  # digests of files that have just been written are not kept
        costs = {"first look": snakemake_in(folder, "-n", "--quiet", "all")}
        jobs = pretend_results(folder)
        costs["nothing to do"] = snakemake_in(folder, "-n")
        assert "Nothing to be done" in costs["nothing to do"].output, costs["nothing to do"].output[-3000:]
        for room in ("images", "labels"):
            source = folder / f"data/{room}/im0000000.tif"
            (folder / f"data/{room}/new.tif").write_bytes(source.read_bytes()[:-1] + b"\xff")
        costs["one more image"] = snakemake_in(folder, "-n")
        empty = folder / "empty"
        empty.mkdir()
        (empty / "Snakefile").write_text(EMPTY.format(jobs=jobs))
        costs["as many empty jobs"] = measure(empty, "-n", "--quiet", "all", "--cores", "1")
        costs["snakemake --version"] = measure(empty, "--version")
    return jobs, costs


def main(sizes: list[int]) -> None:
    """Print one row for each number of images and kind of call."""
    print("| images | jobs | call | s | MB |\n|---|---|---|---|---|")
    for count in sizes:
        jobs, costs = measure_size(count)
        for call, cost in costs.items():
            print(f"| {count:,} | {jobs} | {call} | {cost.seconds:.1f} | {cost.memory_mb:.0f} |", flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(SIZES))
