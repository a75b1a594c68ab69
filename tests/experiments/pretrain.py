"""Train the model `nuclei` that is shipped with cellmill, and put it into resources/weights.

``make pretrain`` runs it: resources/weights/nuclei.yaml on the real images in $CELLMILL_DATA/dsb2018_more and on
simulated ones, in the folder pretrain. An interrupted training resumes. Further arguments go to snakemake, for example

    python tests/experiments/pretrain.py --resources gpu=1 --set-resources train:gpu=1 predict:gpu=1

The split is frozen in split.csv: 80, 10 and 10 % of the images of each kind, in the order of a hash of their names. The
scores of the test part are printed for the model card. Raise the version in the card with each new file.
"""

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

from real_runs import find_data  # noqa: E402  the module is found here

NAME, IMAGES = "nuclei", "dsb2018_more"
WEIGHTS_DIR = ROOT / "resources/weights"
SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
MAX_BYTES = 8_000_000
METRICS = ("ap_kaggle", "ap_0.50", "seg", "dice")


def prepare(data: Path, folder: Path) -> None:
    """Link the real images into the working folder, and write the split table."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / IMAGES
    if not link.exists():
        link.symlink_to((data / IMAGES).resolve())
    with (link / "index.csv").open(newline="", encoding="utf-8") as stream:
        kinds = {row["id"]: row["kind"] for row in csv.DictReader(stream) if not row["same_field_as_shared"]}
    with (folder / "split.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("sample", "split"))
        writer.writerows(sorted(split_by_kind(kinds).items()))


def split_by_kind(kinds: dict[str, str]) -> dict[str, str]:
    """Split images by a hash of their names so that each part has its share of every kind.

    Parameters
    ----------
    kinds : dict
        Name of an image -> its kind.

    Returns
    -------
    dict
        Name -> train, validation or test.
    """
    from cellmill.shards import stable_hash

    parts = {}
    for kind in sorted(set(kinds.values())):
        names = sorted(
            (name for name in kinds if kinds[name] == kind), key=lambda name: stable_hash(name, purpose=kind)
        )
        first = round(SHARES["test"] * len(names))
        second = first + round(SHARES["validation"] * len(names))
        for place, name in enumerate(names):
            parts[name] = "test" if place < first else "validation" if place < second else "train"
    return parts


def install(model: Path, *, weights_dir: Path) -> Path:
    """Copy a trained model to where it is shipped.

    Raises
    ------
    SystemExit
        If the file is damaged or larger than shipped models may be.
    """
    from cellmill.exports.model_file import check_contents

    try:
        check_contents(model)
    except ValueError as error:
        raise SystemExit(f"pretrain: {error}") from None
    if (size := model.stat().st_size) > MAX_BYTES:
        raise SystemExit(
            f"pretrain: {model}: expected at most {MAX_BYTES / 1e6:g} MB, found {size / 1e6:.1f} MB. "
            f"Lower width in resources/weights/{NAME}.yaml."
        )
    return Path(shutil.copyfile(model, weights_dir / f"{NAME}.cellmill"))


def tabulate(metrics_path: Path, *, model: str) -> Iterator[str]:
    """Yield the rows of the table of scores in the model card: means over the test images with their intervals."""
    import pandas as pd

    from cellmill.metrics.glossary import GLOSSARY
    from cellmill.reports.verdict import find_number

    metrics = pd.read_csv(metrics_path)
    for name in METRICS:
        rows = metrics[(metrics["model"] == model) & (metrics["metric"] == name)]
        number = find_number(metrics, model=model, seed=int(rows["seed"].iloc[0]), metric=name) if len(rows) else None
        if number is not None and number.low is not None and number.high is not None:
            yield (
                f"| {GLOSSARY[name].heading} | {number.value:.3f} ({number.low:.3f} to {number.high:.3f}) | "
                f"{number.n} images |"
            )


def main() -> None:
    """Train, install the model, and print its scores."""
    folder = ROOT / "pretrain"
    prepare(find_data(), folder)
    subprocess.run(
        [sys.executable, "-m", "snakemake", "--configfile", str(WEIGHTS_DIR / f"{NAME}.yaml"), "--directory", str(folder),
         "--cores", "all", *sys.argv[1:]],
        cwd=ROOT, check=True,
    )  # fmt: skip
    results = folder / "results" / NAME
    print(f"Installed {install(results / NAME / 'model.cellmill', weights_dir=WEIGHTS_DIR)}. Scores for the card:")
    for line in tabulate(results / "metrics.csv", model=NAME):
        print(line)


if __name__ == "__main__":
    main()
