"""Memory and time of every stage on growing input: one image, one sequence, many small images.

``make growth`` runs the pipeline on two cores, prints tables and draws docs/pictures/growth.png. An interrupted study
resumes with the sizes that are missing.

- One image of 6,144 to 24,576 px along each side, with nuclei of 24 px on a grid of 64 px.
- A sequence of 125 to 2,000 frames of 256 x 256 px, whose stationary background is subtracted.
- 625 to 10,000 images of 128 x 128 px.
- Models: a small U-Net that was trained on such images, for the image; `classical` for the sequence; both for the small
  images.
- Memory is the largest of the kernel's own peaks of the processes of a stage, read five times a second; time is their
  processor time, all jobs together.
- Memory is flat where its exponent over the number of pixels is near 0, time is linear where it is near 1: both
  exponents, between the largest input and the one before, are in the table.
"""

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import yaml
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests"), str(ROOT / "tests/pipeline"), str(ROOT / "docs")]

from large import STEP, write_slide  # noqa: E402  the module is found here

SCRIPT = re.compile(r"\.snakemake/scripts/\w+\.(\w+)\.py")
NETWORK = "../network/results/nuclei/net/model.cellmill"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
SHOWN = 6  # curves in a panel
PICTURE = ROOT / "docs/pictures/growth.png"


class Kind(NamedTuple):
    """A kind of input: its unit, the growing numbers of them, the side of an image in px, and the section of the config."""

    title: str
    unit: str
    numbers: tuple[int, ...]
    side: Callable[[int], int]
    images: Callable[[int], int]
    section: dict[str, Any]
    models: tuple[Any, ...] = ("classical", {"apply": NETWORK, "name": "net"})


KINDS = {
    "image": Kind(
        "One image", "px along each side", (6144, 12288, 24576), lambda n: n, lambda n: 1, {},
        ({"apply": NETWORK, "name": "net"},),
    ),
    "sequence": Kind(
        "One sequence of 256 x 256 px", "frames", (125, 500, 2000), lambda n: 256, lambda n: n,
        {"images": "data/t{frame}.tif", "annotations": {"format": "label_image", "path": "labels/t{frame}.tif"},
         "preprocess": {"background": {"method": "temporal_median"}}, "split": {"by": "blocks"}},
        ("classical",),
    ),
    "small": Kind("Images of 128 x 128 px", "images", (625, 2500, 10000), lambda n: 128, lambda n: n, {}),
}  # fmt: skip


def write_small(path: Path, *, side: int, seed: int) -> None:
    """Write an image and its labels: the nuclei of `write_slide`, moved within their squares."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    labels_yx = np.zeros((side, side), np.uint16)
    squares = [(row, column) for row in range(side // STEP) for column in range(side // STEP)]
    for number, (row, column) in enumerate(squares, start=1):
        centre_y, centre_x = (STEP * place + rng.uniform(14, STEP - 14) for place in (row, column))
        labels_yx[(y - centre_y) ** 2 + (x - centre_x) ** 2 <= 12**2] = number
    noise = rng.integers(0, 400, (side, side))
    name = path.name
    tifffile.imwrite(path.parent / "data" / name, (800 + 900 * (labels_yx > 0) + noise).astype(np.uint16))
    tifffile.imwrite(path.parent / "labels" / name, labels_yx)


def write_input(folder: Path, *, side: int, images: int) -> None:
    """Write images with labels; a large one tile by tile."""
    for room in ("data", "labels"):
        (folder / room).mkdir(parents=True, exist_ok=True)
    if images == 1:
        write_slide(folder / "data/t0.tif", side=side, kind="image")
        write_slide(folder / "labels/t0.tif", side=side, kind="labels")
        return
    for number in range(images):
        write_small(folder / f"t{number:05d}.tif", side=side, seed=number)


class Cost(NamedTuple):
    """Largest memory of the processes of a stage in MB, and the processor time of all of them in s."""

    memory_mb: float
    seconds: float


@contextmanager
def watched(folder: Path) -> Iterator[dict[str, Cost]]:
    """Yield stage -> cost, complete after the block, of the processes that run in a folder."""
    by_process: dict[str, tuple[str, Cost]] = {}
    costs: dict[str, Cost] = {}
    is_over = threading.Event()
    ticks = os.sysconf("SC_CLK_TCK")

    def look() -> None:
        while not is_over.wait(0.2):
            for place in Path("/proc").glob("[0-9]*"):
                try:
                    found = SCRIPT.search((place / "cmdline").read_text())
                    if found is None or not (place / "cwd").samefile(folder):
                        continue
                    peak = re.search(r"VmHWM:\s+(\d+) kB", (place / "status").read_text())
                    fields = (place / "stat").read_text().rpartition(")")[2].split()
                except (OSError, UnicodeDecodeError):  # it has ended
                    continue
                if peak:
                    used = Cost(int(peak[1]) * 1024 / 1e6, (int(fields[11]) + int(fields[12])) / ticks)
                    by_process[place.name] = (found[1], used)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield costs
    finally:
        is_over.set()
        thread.join()
        for stage, used in by_process.values():
            before = costs.get(stage, Cost(0, 0))
            costs[stage] = Cost(max(before.memory_mb, used.memory_mb), before.seconds + used.seconds)


def run(folder: Path, datasets: dict[str, Any]) -> dict[str, Cost]:
    """Run the pipeline in a folder and return the costs of its stages."""
    (folder / "mine.yaml").write_text(yaml.safe_dump({"datasets": datasets}))
    command = [
        sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "mine.yaml",
        "--cores", "2", "--set-threads", "predict=1", "train=2",
    ]  # fmt: skip
    with watched(folder) as costs:
        subprocess.run(command, cwd=folder, check=True)
    return costs


def section_of(kind: Kind, models: Sequence[Any]) -> dict[str, Any]:
    """Return the section of the config."""
    section = {
        "images": "data/{sample}.tif",
        "annotations": {"format": "label_image", "path": "labels/{sample}.tif"},
        "models": list(models),
        "export": ["coco"],
    }
    return section | kind.section


def train_network(folder: Path) -> None:
    """Train the small network that is applied to everything."""
    if (folder / NETWORK.removeprefix("../network/")).exists():
        return
    write_input(folder, side=256, images=12)
    network = {"preset": "sartorius_unet", "name": "net", "width": 0.0625}
    network["train"] = {"epochs": 3, "steps": 600, "patch": [128, 128], "batch": 4}
    run(folder, {"nuclei": section_of(KINDS["small"], [network])})


def measure(folder: Path, kind: Kind, number: int) -> dict[str, Cost]:
    """Run the pipeline on one size of a kind, or read what it took, and return the costs of its stages."""
    kept = folder / "costs.json"
    if not kept.exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_input(folder, side=kind.side(number), images=kind.images(number))
        costs = run(folder, {"cells": section_of(kind, kind.models)})
        for room in ("data", "labels", "results"):
            shutil.rmtree(folder / room)
        kept.write_text(json.dumps(costs))
    return {stage: Cost(*cost) for stage, cost in json.loads(kept.read_text()).items()}


def print_table(kind: Kind, costs: Mapping[int, Mapping[str, Cost]]) -> None:
    """Print memory and time of each stage, and the exponents of their growth with the pixels between the last two sizes."""
    *_, before, last = costs
    pixels = math.log(kind.images(last) * kind.side(last) ** 2 / (kind.images(before) * kind.side(before) ** 2))
    heads = [f"MB at {number:,}" for number in costs] + [f"s at {number:,}" for number in costs]
    print(f"\n| {kind.title}, {kind.unit} | {' | '.join(heads)} | MB ~ px^ | s ~ px^ |")
    print("|---|" + "---:|" * (len(heads) + 2))
    for stage in costs[last]:
        found = [costs[number].get(stage, Cost(0, 0)) for number in costs]
        growth = [
            f"{math.log(now / then) / pixels:.2f}" if then else ""
            for now, then in zip(found[-1], found[-2], strict=True)
        ]
        cells = [f"{cost.memory_mb:.0f}" for cost in found] + [f"{cost.seconds:.1f}" for cost in found] + growth
        print(f"| {stage} | {' | '.join(cells)} |", flush=True)


def draw(costs: Mapping[str, Mapping[int, Mapping[str, Cost]]]) -> None:
    """Draw memory and time over the size, a panel for each kind of input."""
    from cellmill.reports.colours import style_of_model, write_css
    from cellmill.reports.figures import Curve, draw_curves, draw_key
    from cellmill.reports.rendering import TEMPLATES_DIR

    panels = []
    for measure_of in Cost._fields:
        for name, kind in KINDS.items():
            of_kind = costs[name]
            last = of_kind[max(of_kind)]
            shown = sorted(last, key=lambda stage: -getattr(last[stage], measure_of))[:SHOWN]
            curves = [
                Curve(
                    stage, style_of_model(place), [kind.images(number) * kind.side(number) ** 2 / 1e6 for number in of_kind],
                    [getattr(of_kind[number][stage], measure_of) if stage in of_kind[number] else None for number in of_kind],
                )
                for place, stage in enumerate(shown)
            ]  # fmt: skip
            title = "Memory, MB" if measure_of == "memory_mb" else "Processor time, s"
            figure = draw_curves(
                curves, title=title, x_label="Mpx", y_label="", is_log=True, mark_x=None, caption="", is_log_x=True,
            )  # fmt: skip
            legend = "".join(f"<span>{draw_key(key)}{key.label}</span>" for key in figure.legend)
            panels.append(
                f'<figure class="plot"><h3 class="plot-title">{kind.title}: {title}</h3><p class="legend">{legend}</p>'
                f"{figure.svg}<figcaption></figcaption></figure>"
            )
    css = write_css() + (TEMPLATES_DIR / "report.css").read_text(encoding="utf-8")
    page = (
        f"<style>{css} .plots {{grid-template-columns: repeat(3, 352px); padding: 1rem; margin: 0}}</style>"
        f'<div class="plots">{"".join(panels)}</div>'
    )
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        tab = browser.new_page(color_scheme="light", viewport={"width": 1160, "height": 400})
        tab.set_content(page)
        taken = Image.open(io.BytesIO(tab.screenshot(full_page=True))).convert("RGB")
        browser.close()
    taken.quantize(200, dither=Image.Dither.NONE).save(PICTURE, optimize=True)


def main(share: int) -> None:
    """Measure what is missing, print the tables and draw the picture; with `share` 4, all sizes are a quarter."""
    folder = ROOT / "growth"
    (folder / "network").mkdir(parents=True, exist_ok=True)
    train_network(folder / "network")
    costs = {}
    for name, kind in KINDS.items():
        costs[name] = {
            number // share: measure(folder / f"{name}-{number // share}", kind, number // share)
            for number in kind.numbers
        }
        print_table(kind, costs[name])
    draw(costs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
