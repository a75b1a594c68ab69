"""How long a job takes that has next to nothing to do: the start of its process, its imports, and reading its inputs.

``make starts`` runs every stage on twelve images of 64 x 64 px, one job at a time, and prints the shortest time of each
stage, as Snakemake measures it (`benchmark:`). Stages that load PyTorch, and those that fit something, are marked.
"""

import csv
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from project import TINY, copy_project, snakemake, write_config, write_label_dataset  # noqa: E402  it is found here

NAMES = [f"{treatment}_{treatment[0]}{well}" for treatment in ("control", "drug") for well in range(6)]
WITH_TORCH = ("train", "predict")
# Stages that search for values on the validation images, however small these are
FITS = ("postprocess_fit", "contrast_fit")
EXPORTS = ["coco", "imagej_roi", "geojson", "table", "anndata", "ome_zarr"]


def make_config() -> dict[str, Any]:
    """Make a config with every stage that needs no sequence and no package beyond the requirements."""
    model = {"preset": "sartorius_unet", "name": "net", **TINY}
    annotated = {
        "images": "data/images/{treatment}_{well}.tif",
        "annotations": {"format": "label_image", "path": "data/labels/{treatment}_{well}.tif"},
        "preprocess": {"background": {"method": "flat_field"}, "rescale": {"diameter_px": 12}},
        "models": ["classical", model, {"masks": "data/labels/{treatment}_{well}.tif", "name": "outside"}],
        "conditions": {"column": "treatment", "replicate": ["well"]},
        "worklist": {"images": 2},
        "export": EXPORTS,
    }
    simulated = {"simulate": {"images": 6, "size": [64, 64]}, "models": [{**model, "seeds": [1, 2]}]}
    return {"datasets": {"annotated": annotated, "simulated": simulated}}


def measure_starts() -> dict[str, float]:
    """Run the pipeline and return the shortest job of each stage, s."""
    with tempfile.TemporaryDirectory() as name:
        project = copy_project(Path(name) / "project")
        write_label_dataset(project / "data", NAMES, seed=1)
        write_config(project, make_config(), "config.yaml")
        snakemake(project, "--cores", "1")
        starts: dict[str, float] = {}
        for log in sorted((project / "logs").rglob("*.log")):
            table = project / "benchmarks" / log.relative_to(project / "logs").with_suffix(".tsv")
            text = log.read_text(encoding="utf-8")
            rule = re.search(r": rule (\w+)$", text, re.MULTILINE)
            if rule is None or not table.is_file():
                continue
            with table.open(encoding="utf-8", newline="") as stream:
                seconds = float(next(csv.DictReader(stream, delimiter="\t"))["s"])
            starts[rule[1]] = min(seconds, starts.get(rule[1], seconds))
    return starts


def main() -> None:
    """Print the table, slowest first."""
    print("| stage | s | |\n|---|---|---|")
    for stage, seconds in sorted(measure_starts().items(), key=lambda item: -item[1]):
        remark = "loads PyTorch" if stage in WITH_TORCH else "with a search" if stage in FITS else ""
        print(f"| {stage} | {seconds:.2f} | {remark} |")


if __name__ == "__main__":
    main()
