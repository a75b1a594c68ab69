"""Layout of results/: the names and paths of everything that the pipeline writes there.

The rules state their outputs as patterns, for the reader; a test compares these with this module. All other
modules, the inputs of the rules and the Snakefile take the paths from here.
"""

import re
from collections.abc import Iterable

from cellmill.config.dataset import NAME_PATTERN

# Wildcards of the rules
DATASET_PATTERN = NAME_PATTERN
# Part of the name of a run that is trained on some of the training images
SUBSET_PATTERN = r"\.images\d+\.draw\d+"
TRAINED_PATTERN = rf"{NAME_PATTERN}(\.seed\d+)?(\.fold\d+|{SUBSET_PATTERN})?"
MEAN_PATTERN = rf"{NAME_PATTERN}\.mean(\.fold\d+)?"
RUN_PATTERN = rf"{NAME_PATTERN}(\.seed\d+|\.mean)?(\.fold\d+|{SUBSET_PATTERN})?"
SHARD_PATTERN = r"[a-z0-9]+-\d\d\d\d+"  # Snakemake takes braces for wildcards

RESULTS = "results"
INDEX = f"{RESULTS}/index.html"

# Kinds of shard folder, called rooms
ROOMS = {
    "raw": "{dataset}/raw/{shard}",
    "images": "{dataset}/images/{shard}",
    "labels": "{dataset}/labels/{shard}",
    "probabilities": "{dataset}/{run}/probabilities/{shard}",
    "segmentation": "{dataset}/{run}/segmentation/{shard}",
}
# Files with one entry for each shard
SHARD_FILES = {
    "check": "{dataset}/check/{shard}.json",
    "evaluation": "{dataset}/{run}/evaluation/{shard}.json",
    "features": "{dataset}/{run}/features/{shard}.csv",
}
# Tables of the stages evaluate and check, without their suffix
EVALUATED = ("metrics", "scores", "comparisons", "curves", "sizes", "confidence")
CHECKED = ("summary", "images", "annotations")

# Files of a dataset and of its runs, with what they contain
REPORT, SAMPLES, CRATE = "report.html", "samples.csv", "ro-crate-metadata.json"
WEIGHTS, RECIPE, FIT = "weights.pt", "classical.json", "postprocess.json"
OF_DATASET = {
    "report.html": "Report: scores, figures and examples",
    "metrics.csv": "Every score with its confidence interval, one row per value",
    "scores.csv": "Scores of each image",
    "comparisons.csv": "Models summarised over their seeds, and pairwise comparisons on the same images",
    "curves.csv": "Pixels by probability",
    "sizes.csv": "Objects by size",
    "confidence.csv": "Right and wrong objects by confidence",
    "check/summary.csv": "Findings on images and annotations",
    "check/images.csv": "Measurements of every image",
    "check/annotations.csv": "Measurements of every annotation",
}
OF_SIMULATION_LIKE = {
    "match.json": "Settings of a simulation fitted to other images",
    "match.csv": "Similarity of the simulated images, before and after fitting",
}
CONDITIONS, REPLICATES = "conditions.csv", "replicates.csv"
OF_EXPERIMENT = {
    CONDITIONS: "Conditions of the experiment: means over replicates, and differences from the control",
    REPLICATES: "Features of each replicate",
}
DIAMETER = "diameter.json"
OF_RESCALED = {DIAMETER: "Median diameter of the annotated objects, by which the images are rescaled"}
FLAT_FIELD = "flat_field.json"
OF_FLAT = {FLAT_FIELD: "Illumination profile that each channel is divided by, with its dark level and error"}
# Files and folders of a dataset with a worklist
WORKLIST, LABELS_TO_CORRECT = "worklist.csv", "worklist"
OF_WORKLIST = {WORKLIST: "Images to annotate next, the least sure and most different first"}
OF_RUN = {
    "objects.csv": "Objects, one row per object",
    "rle.csv": "Objects as run lengths",
    "counts.csv": "Number of objects and confidence of each image",
    "flags.csv": "Images that differ from the model's training images",
}
OF_FITTED_RUN = {
    "model.cellmill": "Model with preprocessing, postprocessing and threshold",
    "postprocess.json": "Threshold, sizes, boundary classifier and confidence",
}
OF_TRAINED_RUN = {
    "history.csv": "Losses of the training, one row per epoch",
    "train.json": "Summary of the training",
    "choices.json": "Settings that the training images decided, and why",
}
OF_CLASSICAL_RUN = {
    "classical.json": "Smoothing, threshold and polarity of a run without a network",
}
EXPORTED = {
    "model.onnx": "Trained network as ONNX",
    "model.bioimageio.zip": "Trained network for the tools of bioimage.io",
    "objects.coco.json": "Objects as COCO",
    "rois": "Objects of each image as ImageJ ROIs",
    "geojson": "Objects of each image as GeoJSON",
    "ctc": "Objects of each sequence in the format of the Cell Tracking Challenge",
    "objects.tidy.csv.gz": "Measurements, one row per object and feature",
    "objects.h5ad": "Measurements as AnnData",
    "ome_zarr": "Images with the objects as OME-Zarr",
}
# Formats of the key `export`: models that are trained here, and objects of any run
MODEL_FILES = {"onnx": "model.onnx", "bioimageio": "model.bioimageio.zip"}
OBJECT_FILES = {
    "coco": "objects.coco.json", "imagej_roi": "rois", "geojson": "geojson", "ctc": "ctc",
    "table": "objects.tidy.csv.gz", "anndata": "objects.h5ad", "ome_zarr": "ome_zarr",
}  # fmt: skip

_ALL = {**ROOMS, **SHARD_FILES}
# Folders of a dataset with shards, which are no runs
RESERVED_NAMES = frozenset(kind for kind, pattern in _ALL.items() if "{run}" not in pattern)
# Folders of a dataset that a run may not have the name of
TAKEN_NAMES = RESERVED_NAMES | {LABELS_TO_CORRECT}


def pattern_of_runs(runs: Iterable[tuple[str, str]], *, but: bool = False) -> str:
    """Return the pattern of the wildcard `run` that fits some runs, each in the folder of its dataset only.

    Parameters
    ----------
    runs : iterable of (str, str)
        Dataset and run.
    but : bool
        Fit all other runs instead.
    """
    ways = [f"(?<={RESULTS}/{re.escape(dataset)}/){re.escape(run)}" for dataset, run in runs]
    chosen = f"(?:{'|'.join(ways)})" if ways else "(?!)"
    return f"(?!{chosen}/){RUN_PATTERN}" if but else chosen


def shard_path(kind: str, *, dataset: str, shard: str, run: str = "") -> str:
    """Return the folder, or the file, that one shard has in a room.

    Parameters
    ----------
    kind : str
        A key of ROOMS or SHARD_FILES.
    dataset, shard : str
        Names.
    run : str
        Name of the run, for what belongs to a run.
    """
    return f"{RESULTS}/{_ALL[kind].format(dataset=dataset, run=run, shard=shard)}"


def room_path(kind: str, *, dataset: str, run: str = "") -> str:
    """Return the folder that holds the entries of all shards, without a slash at the end."""
    return shard_path(kind, dataset=dataset, run=run, shard="").rpartition("/")[0]


def rooms_of_run() -> list[str]:
    """List the kinds of folder and file that each run has for each shard."""
    return [kind for kind in _ALL if kind not in RESERVED_NAMES]


def dataset_path(dataset: str, name: str = "") -> str:
    """Return the folder of a dataset, or the path of a file in it."""
    return f"{RESULTS}/{dataset}/{name}".rstrip("/")


def run_path(dataset: str, run: str, name: str = "") -> str:
    """Return the folder of a run, or the path of a file in it."""
    return f"{RESULTS}/{dataset}/{run}/{name}".rstrip("/")


def table_paths(dataset: str) -> dict[str, str]:
    """Return the tables of the stage evaluate: name -> path."""
    return {name: dataset_path(dataset, f"{name}.csv") for name in EVALUATED}


def check_paths(dataset: str) -> list[str]:
    """List the tables of the stage check."""
    return [dataset_path(dataset, f"check/{name}.csv") for name in CHECKED]
