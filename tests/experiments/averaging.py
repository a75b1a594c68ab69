"""Do predictions that are averaged over mirrored and turned images make better objects, and what do they cost?

``make averaging`` applies the shipped model `nuclei` on two cores and prints a table; an interrupted run resumes. The
protocol below was written and committed before the first of these runs.

- Data: DSB 2018 (the 60 images of `stage1_train`) and BBBC039 (18); nothing is trained or chosen on them.
- Runs: `nuclei` without averaging, with `predict.average: flips` (4 predictions) and with `rotations` (8). Thresholds
  are those of the model file.
- Scores: Kaggle's AP and AP at an IoU of 0.5 of the final objects, mean over the images, and the paired difference to
  the run without averaging, with the interval of the pipeline's own bootstrap. Time is that of the jobs of `predict`.
- Averaging becomes the default of `nuclei` if it surely helps on both sets.
"""

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data, read_section, run_pipeline, say_difference  # noqa: E402  the module is found here

DATASETS = ("dsb2018", "bbbc039")
KINDS = ("none", "flips", "rotations")
SHIPPED = ROOT / "resources/weights/nuclei.cellmill"


def write_model(path: Path, *, average: str) -> None:
    """Write the shipped model with another setting of `predict.average`."""
    with zipfile.ZipFile(SHIPPED) as source, zipfile.ZipFile(path, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == "model.json":
                description = json.loads(content)
                description["predict"]["average"] = average
                content = json.dumps(description).encode()
            copy.writestr(zipfile.ZipInfo(name), content)


def make_config() -> dict[str, Any]:
    """Make the config, whose paths start in the folder of the data."""
    datasets = {}
    for name in DATASETS:
        section = read_section(name)
        section["split"] = {"train": 0, "validation": 0, "test": 1}
        section["models"] = [{"apply": f"models/{kind}.cellmill", "name": kind} for kind in KINDS]
        datasets[name] = section
    return {"seed": 1, "datasets": datasets}


def main() -> None:
    """Run missing jobs and print the table."""
    from cellmill.reports.runtime import read_jobs
    from cellmill.reports.verdict import find_difference, find_number, read_table

    folder = ROOT / "averaging"
    (folder / "models").mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        write_model(folder / f"models/{kind}.cellmill", average=kind)
    run_pipeline(folder, find_data(), make_config())
    print("| data | average | AP (Kaggle) | AP 0.5 | minus none | prediction, s |\n|---|---|---:|---:|---|---:|")
    for name in DATASETS:
        metrics, pairs = (read_table(folder / f"results/{name}/{table}.csv") for table in ("metrics", "comparisons"))
        jobs = read_jobs(folder / f"benchmarks/{name}")
        for kind in KINDS:
            found = [find_number(metrics, model=kind, seed=1, metric=metric) for metric in ("ap_kaggle", "ap_0.50")]
            cells = " | ".join("" if number is None else f"{number.value:.3f}" for number in found)
            seconds = sum(job.seconds for job in jobs if job.stage == "predict" and job.run == kind)
            paired = find_difference(pairs, model=kind, against="none", metric="ap_kaggle")
            print(f"| {name} | {kind} | {cells} | {say_difference(paired)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
