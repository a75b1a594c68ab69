"""Check and rasterize on every folder of real images, described in a few lines of YAML; everything is counted twice.

The data are not part of the project; without them these tests are skipped with a message.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from PIL import Image
from pycocotools import mask as coco_mask
from skimage.measure import label

from cellmill.images.stored import IGNORE_LABEL
from cellmill.metrics.instance import count_objects, count_overlaps, score_instances
from cellmill.objects.distances import normalised_distance
from cellmill.objects.flows import unit_flows
from cellmill.objects.instances import Candidates
from cellmill.planning.make import make_plan
from cellmill.planning.plan import Plan
from cellmill.planning.samples import UNLABELLED
from cellmill.planning.settings import job_settings
from cellmill.stages.check_dataset import summarize_check
from cellmill.stages.check_shard import check_shard
from cellmill.stages.rasterize import rasterize_shard
from cellmill.training.targets import contour_classes
from project import ROOT, copy_project, snakemake, write_config

CONFIGS = {path.stem: path for path in sorted(Path(__file__).with_name("real").glob("*.yaml"))}

# Numbers from the PROVENANCE.md of each folder
IMAGES = {
    "bbbc005_simcep": 16, "bbbc039": 18, "ctc_fluo_n2dl_hela": 35, "dsb2018": 60, "dsb2018_test": 40,
    "isbi2012_em": 30, "livecell": 15, "sartorius_cell_instance": 5, "yeast_timelapse": 10,
}  # fmt: skip
OBJECTS = {"dsb2018_test": 2736, "livecell": 3285, "sartorius_cell_instance": 659}
COLOUR_HISTOLOGY = 12
SHAPES = {"bbbc005_simcep": (520, 696), "bbbc039": (520, 696), "isbi2012_em": (512, 512), "livecell": (520, 704)}
# frames in the gaps between blocks, which belong to no part
GAP_FRAMES = {"ctc_fluo_n2dl_hela": 4, "isbi2012_em": 2}

# Every finding that the check may report, with its count. Any other finding is a false alarm.
# Few images are assigned one by one, so that chance may leave a part too small.
BLOCKS = "note: 1 sequence is cut into blocks"
TWINS = "have a near duplicate from the same sequence in another part of the split"
# Written by the programs that made these TIFF files
PRINTER = "note: the resolution in the metadata, 72 dots per inch"
FINDINGS: dict[str, dict[str, int]] = {
    "bbbc005_simcep": {PRINTER: 16},
    # One image has no nucleus. Another is in focus except for a bright clump of debris above the focal plane.
    "bbbc039": {
        PRINTER: 18, "note: flat": 1, "note: out of focus": 1, "note: 2 of 1931 objects are tiny": 1,
        "note: 1 of 18 annotated images contain no objects (IXMtest_L01_s2": 1,
    },
    "ctc_fluo_n2dl_hela": {BLOCKS: 1, TWINS: 1},
    "dsb2018": {"note: colours are converted to luminance": COLOUR_HISTOLOGY},
    "dsb2018_test": {"note: colours are converted to luminance": 9},
    # Cells cover most of every brain section, which is not a mistake.
    "isbi2012_em": {
        BLOCKS: 1, "note: objects cover": 28, "note: 9 of 3222 objects are tiny": 1,
        "note: default predicts the foreground alone": 1,
    },
    # One image is a confluent layer of cells.
    "livecell": {"note: 2853 of 3285 objects overlap": 1, "consist of separate parts": 1},
    "sartorius_cell_instance": {"note: 490 of 659 objects overlap": 1},
    "yeast_timelapse": {BLOCKS: 1, TWINS: 1},
}  # fmt: skip

# pycocotools 2.0.11 returns arrays in a way that numpy 2 deprecates
peer_decodes = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@dataclass(frozen=True)
class Look:
    """Results of the stages for one dataset; each dictionary has one entry per image, by sample."""

    plan: Plan
    images: dict[str, dict]
    truths: dict[str, dict]
    findings: pd.DataFrame
    labels: dict[str, np.ndarray]
    faults: pd.DataFrame
    overlaps: pd.DataFrame


@dataclass(frozen=True)
class Count:
    """Independent count of one image: object areas in order, pixels of any object, and number of shared pixels."""

    areas: list[int]
    covered_yx: np.ndarray
    shared_px: int


@pytest.fixture(scope="module")
def look_at(real_data, tmp_path_factory) -> Callable[[str], Look]:
    """Function that checks and rasterises a dataset once, in a folder with links to the data, which stay as they are."""
    looks: dict[str, Look] = {}
    lab = tmp_path_factory.mktemp("lab")
    for folder in real_data.iterdir():
        (lab / folder.name).symlink_to(folder.resolve())

    def look(name: str) -> Look:
        if name not in looks:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(lab)
                looks[name] = run_stages(name, tmp_path_factory.mktemp(name))
        return looks[name]

    return look


def run_stages(name: str, folder: Path) -> Look:
    plan = make_plan(
        yaml.safe_load(CONFIGS[name].read_text()), presets_dir=ROOT / "resources/models", cache_dir=folder / "cache"
    )
    found, tables = {}, []
    for shard in plan.shards(name):
        found[shard] = folder / f"check/{shard}.json"
        check_shard(output_path=found[shard], **job_settings(plan, "check_shard", dataset=name, shard=shard))
    for shard in plan.labelled_shards(name):
        tables.append(folder / "labels" / shard)
        rasterize_shard(output_dir=tables[-1], **job_settings(plan, "rasterize", dataset=name, shard=shard))
    summarize_check(
        **{f"{kind}_path": folder / f"{kind}.csv" for kind in ("summary", "images", "annotations")},
        findings_paths=list(found.values()), **job_settings(plan, "check_dataset", dataset=name),
    )  # fmt: skip
    contents = [json.loads(path.read_text()) for path in found.values()]
    return Look(
        plan=plan,
        images={image["sample"]: image for content in contents for image in content["images"]},
        truths={truth["sample"]: truth for content in contents for truth in content["annotations"]},
        findings=pd.read_csv(folder / "summary.csv", dtype=str, keep_default_na=False),
        labels={path.stem: tifffile.imread(path) for table in tables for path in table.glob("*.tif")},
        faults=join(table / "faults.csv" for table in tables),
        overlaps=join(table / "overlaps.csv" for table in tables),
    )


def join(paths: Iterator[Path]) -> pd.DataFrame:
    return pd.concat([pd.read_csv(path, dtype={"sample": str}) for path in paths] or [pd.DataFrame()])


# ---- independent counts ----------------------------------------------------------------------------------


def stack_up(masks: Iterator[np.ndarray]) -> Count:
    """Count the objects of one image, each given as a mask of the whole image."""
    areas, times_yx = [], None
    for mask_yx in masks:
        times_yx = mask_yx.astype(np.uint8) if times_yx is None else times_yx + mask_yx
        areas.append(int(np.count_nonzero(mask_yx)))
    return Count(areas, times_yx > 0, int(np.count_nonzero(times_yx > 1)))


def tally(labels_yx: np.ndarray) -> Count:
    """Count the objects of one label image."""
    _, areas = np.unique(labels_yx[labels_yx > 0], return_counts=True)
    return Count(areas.tolist(), labels_yx > 0, 0)


def count_mask_files(data: Path) -> dict[str, Count]:
    folders = sorted(path for path in (data / "dsb2018/stage1_train").iterdir() if path.is_dir())
    return {
        folder.name: stack_up(np.array(Image.open(p)) > 0 for p in folder.glob("masks/*.png")) for folder in folders
    }


def count_runs(data: Path, *, table: str, names: list[str], order: str) -> dict[str, Count]:
    """Decode runs pixel by pixel; `names` are the columns of sample, runs, height and width."""
    rows = pd.read_csv(data / table, usecols=names, dtype={names[0]: str})

    def draw(text: str, height: int, width: int) -> np.ndarray:
        flat = np.zeros(height * width, bool)
        for start, length in np.array(text.split(), int).reshape(-1, 2):
            flat[start - 1 : start - 1 + length] = True
        return flat.reshape((height, width)) if order == "row" else flat.reshape((width, height)).T

    return {
        sample: stack_up(draw(*row) for row in group[names[1:]].itertuples(index=False))
        for sample, group in rows.groupby(names[0])
    }


def count_polygons(data: Path) -> dict[str, Count]:
    content = json.loads((data / "livecell/livecell_coco_test.json").read_text())

    def draw(image: dict) -> Iterator[np.ndarray]:
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"] and not annotation["iscrowd"]:
                outlines = coco_mask.frPyObjects(annotation["segmentation"], image["height"], image["width"])
                yield coco_mask.decode(coco_mask.merge(outlines)).astype(bool)

    return {Path(image["file_name"]).stem: stack_up(draw(image)) for image in content["images"]}


def count_colours(data: Path) -> dict[str, Count]:
    return {
        path.stem: tally(label(np.array(Image.open(path))[:, :, 0], connectivity=2))
        for path in (data / "bbbc039/masks").glob("*.png")
    }


def count_white_regions(data: Path) -> dict[str, Count]:
    return {
        path.stem: tally(label(np.array(Image.open(path)) == 255, connectivity=1))
        for path in (data / "isbi2012_em/data/membrane/train/label").glob("*.png")
    }


def count_numbers(data: Path, *, folder: str, pattern: str, sample: str) -> dict[str, Count]:
    """Count label images; `sample` makes a sample name from the first three digits of a file name."""
    return {
        sample.format("".join(filter(str.isdigit, path.stem))[:3]): tally(tifffile.imread(path))
        for path in (data / folder).glob(pattern)
    }


COUNTED: dict[str, Callable[[Path], dict[str, Count]]] = {
    "bbbc039": count_colours,
    "ctc_fluo_n2dl_hela": partial(
        count_numbers, folder="ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa/01_RES", pattern="mask*.tif", sample="01_{}"
    ),
    "dsb2018": count_mask_files,
    "dsb2018_test": partial(
        count_runs, table="dsb2018/stage1_solution.csv",
        names=["ImageId", "EncodedPixels", "Height", "Width"], order="column",
    ),
    "isbi2012_em": count_white_regions,
    "livecell": count_polygons,
    "sartorius_cell_instance": partial(
        count_runs, table="sartorius_cell_instance/train.csv",
        names=["id", "annotation", "height", "width"], order="row",
    ),
    "yeast_timelapse": partial(
        count_numbers, folder="yeast_timelapse/sample_movie_1", pattern="*_mask1.tif", sample="im{}_channel1_phase"
    ),
}  # fmt: skip


# ---- tests -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_a_few_lines_describe_a_folder(look_at, name):
    assert len(CONFIGS[name].read_text().splitlines()) <= 12
    look = look_at(name)
    rows = look.plan.samples[name]
    assert len(rows) == len(look.images) == IMAGES[name]
    assert {row.sample for row in rows if row.split != UNLABELLED} == set(look.truths) == set(look.labels)
    for sample, labels_yx in look.labels.items():
        assert labels_yx.shape == (look.images[sample]["rows"], look.images[sample]["columns"])
    if name in SHAPES:
        assert {(image["rows"], image["columns"]) for image in look.images.values()} == {SHAPES[name]}


@peer_decodes
@pytest.mark.parametrize("name", COUNTED)
def test_no_object_and_no_pixel_is_lost_or_invented(look_at, real_data, name):
    look, counted = look_at(name), COUNTED[name](real_data)
    assert len(counted) == IMAGES[name]
    assert len(counted) - len(look.truths) == GAP_FRAMES.get(name, 0)
    filled = look.faults[look.faults["fault"] == "repaired"].groupby("sample")["pixels"].sum()
    hidden = Counter(look.faults.loc[look.faults["fault"] == "hidden", "sample"])
    contested = look.overlaps.groupby("sample")["pixels"].sum()
    for sample, truth in look.truths.items():
        count, labels_yx = counted[sample], look.labels[sample]
        assert truth["areas_px"] == sorted(count.areas)
        assert truth["contested_px"] == count.shared_px
        assert truth["covered_fraction"] == pytest.approx(count.covered_yx.mean())
        assert len(np.unique(labels_yx[labels_yx > 0])) == len(count.areas) - hidden[sample]
        labelled, added = int(np.count_nonzero(labels_yx)), filled.get(sample, 0)
        assert labelled == sum(count.areas) + added - contested.get(sample, 0)
        assert not (count.covered_yx & (labels_yx == 0)).any()
        assert np.count_nonzero(labels_yx[~count.covered_yx]) <= added
    if name in OBJECTS:
        assert sum(truth["objects"] for truth in look.truths.values()) == OBJECTS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_check_finds_what_is_there_and_nothing_else(look_at, name):
    said = (look_at(name).findings["severity"] + ": " + look_at(name).findings["finding"]).tolist()
    known = [[text for text in FINDINGS[name] if text in finding] for finding in said]
    assert [finding for finding, texts in zip(said, known, strict=True) if len(texts) != 1] == []
    assert Counter(text for texts in known for text in texts) == FINDINGS[name]


def test_images_whose_colours_differ_are_the_ones_said_to_be_coloured(look_at, real_data):
    for name, folder in (("dsb2018", "stage1_train"), ("dsb2018_test", "stage1_test")):
        coloured = set()
        for path in (real_data / "dsb2018" / folder).glob("*/images/*.png"):
            colours = np.array(Image.open(path))[:, :, :3]
            if (colours != colours[:, :, :1]).any():
                coloured.add(path.stem)
        findings = look_at(name).findings
        assert set(findings.loc[findings["finding"].str.startswith("colours"), "sample"]) == coloured


@peer_decodes
def test_a_shared_pixel_goes_to_the_smaller_of_the_cells_that_overlap(look_at, real_data):
    look, counted = look_at("livecell"), count_polygons(real_data)
    taken = [(counted[row.sample].areas, row.object, row.other) for row in look.overlaps.itertuples()]
    assert len(taken) > 3000
    assert all(areas[winner - 1] <= areas[loser - 1] for areas, winner, loser in taken)


@pytest.mark.parametrize(
    ("name", "pattern", "sample"),
    [
        ("ctc_fluo_n2dl_hela", "ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa/01_RES/mask*.tif", "01_{}"),
        ("yeast_timelapse", "yeast_timelapse/sample_movie_1/*_mask1.tif", "im{}_channel1_phase"),
    ],
)
def test_cells_keep_their_numbers_from_frame_to_frame(look_at, real_data, name, pattern, sample):
    labels = look_at(name).labels
    same = 0
    for path in real_data.glob(pattern):
        labels_yx = labels.get(sample.format("".join(filter(str.isdigit, path.stem))[:3]))
        if labels_yx is not None:
            np.testing.assert_array_equal(labels_yx, tifffile.imread(path))
            same += 1
    assert same == len(labels) == IMAGES[name] - GAP_FRAMES.get(name, 0)


def test_touching_nuclei_of_different_colours_stay_apart(look_at, real_data):
    touching = 0
    for sample, labels_yx in look_at("bbbc039").labels.items():
        codes_yx = np.array(Image.open(real_data / f"bbbc039/masks/{sample}.png"))[:, :, 0]
        np.testing.assert_array_equal(labels_yx > 0, codes_yx > 0)
        pairs = np.unique(labels_yx.astype(int) * 256 + codes_yx)
        assert len(np.unique(pairs // 256)) == len(pairs)  # one colour per label
        touching += np.count_nonzero(pairs) - label(codes_yx > 0, connectivity=2).max()
    assert touching > 50


def test_yeast_has_as_many_cells_as_its_provenance_says(look_at):
    counts = [truth["objects"] for truth in look_at("yeast_timelapse").truths.values()]
    assert (min(counts), max(counts)) == (106, 140)


def test_frames_of_a_sequence_are_cut_into_blocks_with_gaps(look_at):
    rows = look_at("ctc_fluo_n2dl_hela").plan.samples["ctc_fluo_n2dl_hela"]
    assert [row.frame for row in rows] == list(range(35))
    blocks = [part for i, part in enumerate(row.split for row in rows) if i == 0 or part != rows[i - 1].split]
    assert blocks == ["train", UNLABELLED, "validation", UNLABELLED, "test"]
    tables = {row.extra["tracks_beside"] for row in rows}
    assert tables == {"ctc_fluo_n2dl_hela/Fluo-N2DL-HeLa/01_RES/res_track.txt"}
    sections = look_at("isbi2012_em").plan.samples["isbi2012_em"]
    assert [row.image.rsplit("/", 1)[1] for row in sections] == [f"{i}.png" for i in range(30)]


def test_classes_and_groups_come_from_columns_and_paths(look_at):
    neurons = look_at("sartorius_cell_instance").plan.samples["sartorius_cell_instance"]
    assert Counter(row.class_name for row in neurons) == {"shsy5y": 1, "astro": 1, "cort": 3}
    assert {row.split for row in neurons if row.class_name == "cort"} == {"train", "validation", "test"}
    cells = look_at("livecell").plan.samples["livecell"]
    kinds = {"A172", "BT474", "Huh7", "MCF7", "SHSY5Y", "SKOV3", "SkBr3"}
    assert {row.class_name for row in cells} == kinds
    wells = {(row.sample.split("_")[2], row.split) for row in cells}
    assert len(wells) == len({well for well, _ in wells})  # no well is in two parts


def test_images_that_are_only_counted_take_the_model_of_others(look_at):
    look = look_at("bbbc005_simcep")
    assert Counter(row.class_name for row in look.plan.samples["bbbc005_simcep"]) == {"1": 8, "23": 4, "48": 4}
    assert look.plan.shards("bbbc005_simcep") == [f"{UNLABELLED}-0000"]
    assert look.plan.preprocess["bbbc005_simcep"] == look.plan.preprocess["bbbc039"]
    sharp = [image["focus"] for sample, image in look.images.items() if "_F1_" in sample]
    blurred = [image["focus"] for sample, image in look.images.items() if "_F1_" not in sample]
    assert min(sharp) > 2 * max(blurred)


@pytest.mark.long
def test_one_config_checks_every_folder_at_once(look_at, real_data, tmp_path):
    project = copy_project(tmp_path / "project")
    lab = tmp_path / "lab"
    lab.mkdir()
    for folder in real_data.iterdir():
        if folder.is_dir():
            (lab / folder.name).symlink_to(folder.resolve())
    datasets: dict = {}
    for path in CONFIGS.values():
        datasets |= yaml.safe_load(path.read_text())["datasets"]
    config = project / write_config(project, {"datasets": datasets})
    finished = snakemake(project, "check", "--directory", str(lab), "--configfile", str(config), "--cores", "2")
    assert finished.returncode == 0
    lines = finished.stderr.splitlines()
    for name in CONFIGS:
        said = [line.split("] ", 1)[1] for line in lines if line.startswith(f"[{name}/check/summary]")]
        assert sum(line.startswith(f"{name}: {IMAGES[name]} images of ") for line in said) == 1
        truths = look_at(name).truths.values()
        total = f"{name}: {sum(truth['objects'] for truth in truths)} objects in {len(truths)} annotated images"
        assert sum(line.startswith(total) for line in said) == bool(truths)
        assert not any(line.startswith(f"{name}: error") for line in said)


# ---- from perfect maps back to objects -------------------------------------------------------------------


# Outputs that networks are trained to predict, made from the ground truth, and the depth at which each is split
RECOVERED = {"flow": None, "contour": 0.5, "distance": 0.3}
RETURNED = ("bbbc039", "ctc_fluo_n2dl_hela", "dsb2018", "livecell")


def perfect_maps(labels_yx: np.ndarray, *, output: str) -> np.ndarray:
    """Return the output of a perfect network."""
    is_cell_yx = (labels_yx > 0) & (labels_yx != IGNORE_LABEL)
    if output == "contour":
        classes_yx = contour_classes(labels_yx)
        return np.stack([classes_yx == 1, classes_yx == 2]).astype(np.float32)
    maps = unit_flows(labels_yx) if output == "flow" else normalised_distance(labels_yx)[np.newaxis]
    return np.concatenate([is_cell_yx[np.newaxis].astype(np.float32), maps])


def recovered_precision(labels: dict[str, np.ndarray], *, output: str, every: int) -> float:
    """Return the mean AP at an IoU of .75 of the recovered objects, over every `every`-th image that has objects."""
    scores = []
    for truth_yx in [labels[sample] for sample in sorted(labels)][::every]:
        if not (truth_yx > 0).any():
            continue
        maps_cyx = perfect_maps(truth_yx, output=output)
        core_yx = maps_cyx[0] > 0.5
        ways = Candidates(core_yx, core_yx, maps_cyx)
        found_yx = ways.split(output, depth=RECOVERED[output], max_flow_error=0.4)
        overlaps = count_overlaps(found_yx, truth_yx, valid_yx=truth_yx != IGNORE_LABEL)
        score = score_instances(count_objects(overlaps))
        scores.append(float(score["ap_0.75"]))
    return float(np.mean(scores))


@pytest.mark.parametrize("name", RETURNED)
def test_objects_come_back_from_perfect_flows(look_at, name):
    assert recovered_precision(look_at(name).labels, output="flow", every=8) >= 0.98


@pytest.mark.long
@pytest.mark.parametrize("output", RECOVERED)
@pytest.mark.parametrize("name", RETURNED)
def test_objects_come_back_from_what_networks_are_to_learn(look_at, name, output):
    assert recovered_precision(look_at(name).labels, output=output, every=1) >= (0.98 if output == "flow" else 0.95)
