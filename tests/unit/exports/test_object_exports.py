"""Object files for other programs: read back by other readers, or by ours, they contain the same pixels."""

import json

import numpy as np
import pandas as pd
import pytest
import shapely
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cellmill.annotations.ctc import read_tracks
from cellmill.annotations.imagej_roi import read_imagej_roi
from cellmill.annotations.outlines import fill_outline, outline_of_rings
from cellmill.annotations.pieces import gather_objects
from cellmill.config.annotations import Annotations
from cellmill.images.stored import IGNORE_LABEL, write_labels
from cellmill.objects.geojson import describe_features
from cellmill.objects.linking import link_frames
from cellmill.shards import shard_folder
from cellmill.stages.export_coco import export_coco
from cellmill.stages.export_ctc import export_ctc
from cellmill.stages.export_geojson import export_geojson
from cellmill.stages.export_rois import export_rois
from shapes import scattered_objects

SHAPE = (40, 60)
SECTION = Annotations.model_validate({"format": "imagej_roi", "path": "x"}).model_dump(mode="json")
# pycocotools 2.0.11 returns arrays in a way that numpy 2 deprecates
peer_decodes = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


def write_tables(folder, labels):
    """Write the tables of a shard; object k has the confidence k/20."""
    rows = [(sample, k, k / 20) for sample, yx in labels.items() for k in np.setdiff1d(yx, [0])]
    pd.DataFrame(rows, columns=["sample", "object", "confidence"]).to_csv(folder / "objects.csv", index=False)
    counts = [(sample, len(np.unique(yx)) - 1) for sample, yx in labels.items()]
    pd.DataFrame(counts, columns=["sample", "objects"]).to_csv(folder / "counts.csv", index=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two shards of two images each, one of which has no object."""
    root = tmp_path_factory.mktemp("run")
    labels = {f"s{number}": scattered_objects(SHAPE, objects=9, seed=number) for number in range(3)}
    labels["s3"] = np.zeros(SHAPE, dtype=np.int64)
    folders = []
    for shard, samples in (("test-0000", ("s0", "s3")), ("train-0000", ("s1", "s2"))):
        folders.append(root / shard)
        with shard_folder(folders[-1]) as folder:
            for sample in samples:
                write_labels(folder / f"{sample}.tif", labels[sample])
            write_tables(folder, {sample: labels[sample] for sample in samples})
    rows = [
        {"sample": sample, "image": f"data/{sample}.png", "sequence": "", "frame": 0} for sample in reversed(labels)
    ]
    return labels, {"segmentation_dirs": folders, "samples": rows}


@peer_decodes
def test_coco_is_read_by_the_reference(run, tmp_path):
    labels, given = run
    export_coco(output_path=tmp_path / "objects.coco.json", **given)
    coco = COCO(tmp_path / "objects.coco.json")
    names = {entry["file_name"]: entry["id"] for entry in coco.loadImgs(coco.getImgIds())}
    assert sorted(names) == [f"{sample}.png" for sample in sorted(labels)]
    for sample, labels_yx in labels.items():
        found_yx = np.zeros(SHAPE, dtype=np.int64)
        entries = coco.loadAnns(coco.getAnnIds(imgIds=names[f"{sample}.png"]))
        for number, entry in enumerate(sorted(entries, key=lambda entry: entry["id"]), start=1):
            found_yx[coco.annToMask(entry).astype(bool)] = number
        assert np.array_equal(found_yx, labels_yx)


@peer_decodes
def test_coco_is_scored_by_the_reference(run, tmp_path, capsys):
    labels, given = run
    export_coco(output_path=tmp_path / "objects.coco.json", **given)
    truth = COCO(tmp_path / "objects.coco.json")
    truth.info()
    assert truth.dataset["licenses"] == []
    annotations = json.loads((tmp_path / "objects.coco.json").read_text())["annotations"]
    confidences = sorted(k / 20 for yx in labels.values() for k in np.setdiff1d(yx, [0]))
    assert sorted(entry["score"] for entry in annotations) == pytest.approx(confidences)
    # equal files score 1, and without the objects of one of three images a precision of 1 at a lower recall
    first = annotations[0]["image_id"]
    rest = [entry for entry in annotations if entry["image_id"] != first]
    scores = []
    for found in (annotations, rest):
        judged = COCOeval(truth, truth.loadRes(found), "segm")
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
        scores.append(judged.stats[0])
    assert scores[0] == pytest.approx(1)
    assert scores[1] == pytest.approx(len(rest) / len(annotations), abs=0.01)


def test_files_that_several_images_share_get_names_of_their_own(run, tmp_path):
    labels, given = run
    rows = [row | {"image": "data/stack.tif"} for row in given["samples"]]
    export_coco(output_path=tmp_path / "a.json", segmentation_dirs=given["segmentation_dirs"], samples=rows)
    images = json.loads((tmp_path / "a.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [f"{sample}.tif" for sample in sorted(labels)]


def test_rois_are_read_back(run, tmp_path):
    labels, given = run
    export_rois(output_dir=tmp_path / "rois", **given)
    for sample, labels_yx in labels.items():
        row = {"sample": sample, "image": "", "annotations": [str(tmp_path / "rois" / f"{sample}.zip")]}
        found_yx = np.zeros(SHAPE, dtype=np.int64)
        for number, each in enumerate(read_imagej_roi(row, shape=SHAPE, annotations=SECTION, table=None), start=1):
            rows, columns = each.mask_yx.shape
            found_yx[each.row : each.row + rows, each.column : each.column + columns][each.mask_yx] = number
        assert np.array_equal(found_yx, labels_yx)


def ring_area(ring):
    x, y = np.array(ring[:-1], dtype=float).T
    return np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2


def test_geojson_has_the_pixels_of_each_object_and_its_rings_turn_as_they_should(run, tmp_path):
    labels, given = run
    export_geojson(output_dir=tmp_path / "geojson", **given)
    kinds = set()
    for sample, labels_yx in labels.items():
        collection = json.loads((tmp_path / "geojson" / f"{sample}.geojson").read_text())
        assert collection["type"] == "FeatureCollection"
        assert len(collection["features"]) == len(np.setdiff1d(labels_yx, [0]))
        for feature in collection["features"]:
            number, geometry = int(feature["properties"]["name"]), feature["geometry"]
            kinds.add(geometry["type"])
            polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
            rings = [np.array(ring[:-1]) for polygon in polygons for ring in polygon]
            filled = fill_outline(outline_of_rings(rings, problem=""), shape=SHAPE, source="")
            found_yx = np.zeros(SHAPE, dtype=bool)
            rows, columns = filled.mask_yx.shape
            found_yx[filled.row : filled.row + rows, filled.column : filled.column + columns] = filled.mask_yx
            assert np.array_equal(found_yx, labels_yx == number)
            for outer, *holes in polygons:
                assert outer[0] == outer[-1]
                assert ring_area(outer) > 0
                assert all(ring_area(hole) < 0 for hole in holes)
    assert kinds == {"Polygon", "MultiPolygon"}


def moving(frames, *, gap=()):
    """Yield frames of a moving disc, a static disc and one from the third frame on; numbers differ between frames."""
    y, x = np.indices(SHAPE)
    for frame in range(frames):
        if frame in gap:
            continue
        labels = np.zeros(SHAPE, dtype=np.int64)
        order = np.random.default_rng(frame).permutation(3) + 1
        labels[(y - 10) ** 2 + (x - 10 - 2 * frame) ** 2 <= 36] = order[0]
        labels[(y - 30) ** 2 + (x - 12) ** 2 <= 25] = order[1]
        if frame >= 2:
            labels[(y - 30) ** 2 + (x - 45) ** 2 <= 25] = order[2]
        yield frame, labels


def test_objects_keep_their_number_while_they_overlap():
    linked = dict(link_frames(moving(6)))
    for row, column in ((30, 12), (30, 45)):
        assert len({linked[frame][row, column] for frame in range(2, 6)}) == 1
    assert len({linked[frame][10, 10 + 2 * frame] for frame in range(6)}) == 1
    assert {int(number) for labels in linked.values() for number in np.unique(labels)} == {0, 1, 2, 3}


def test_a_gap_in_the_frames_ends_all_tracks():
    linked = dict(link_frames(moving(6, gap=(3,))))
    assert linked[2][30, 12] != linked[4][30, 12]
    assert linked[4][30, 12] == linked[5][30, 12]


def test_two_that_become_one_give_it_the_number_of_one_of_them():
    first = np.zeros(SHAPE, dtype=np.int64)
    first[5:15, 5:15], first[5:15, 15:21] = 1, 2
    linked = dict(link_frames([(0, first), (1, (first > 0).astype(np.int64)), (2, first)]))
    assert linked[1][10, 10] == linked[1][10, 18] == linked[0][10, 10] == linked[2][10, 10]
    assert linked[2][10, 18] not in (linked[0][10, 18], linked[0][10, 10])


def test_no_object_gets_the_number_of_ignored_pixels():
    labels = np.arange(1, 40_001).reshape(200, 200)
    linked = list(link_frames([(0, labels), (2, labels)]))  # after the gap all are new
    numbers = np.unique(np.concatenate([each for _, each in linked]))
    assert len(numbers) == 80_000
    assert IGNORE_LABEL not in numbers
    assert numbers[-1] == 80_001


def test_a_sequence_with_too_many_objects_is_left_out_and_said(tmp_path, caplog):
    crowd = np.arange(1, 40_001).reshape(200, 200)
    rows = []
    with shard_folder(tmp_path / "test-0000") as folder:
        for sequence, frames in (("01", moving(3)), ("02", [(0, crowd), (2, crowd)])):
            for frame, labels in frames:
                rows.append({"sample": f"{sequence}_{frame}", "image": "", "sequence": sequence, "frame": frame})
                write_labels(folder / f"{sequence}_{frame}.tif", labels)
        write_tables(folder, {row["sample"]: labels for row in rows})
    export_ctc(output_dir=tmp_path / "ctc", segmentation_dirs=[tmp_path / "test-0000"], samples=rows)
    assert [path.name for path in sorted((tmp_path / "ctc").iterdir()) if path.is_dir()] == ["01_RES"]
    assert "02 is left out" in caplog.text


def test_sequences_become_results_of_the_challenge(tmp_path):
    rows = []
    with shard_folder(tmp_path / "test-0000") as folder:
        for sequence in ("01", "02"):
            for frame, labels in moving(5):
                rows.append({"sample": f"{sequence}_{frame}", "image": "", "sequence": sequence, "frame": frame})
                write_labels(folder / f"{sequence}_{frame}.tif", labels)
        write_labels(folder / "alone.tif", np.ones(SHAPE, dtype=np.int64))
        write_tables(folder, dict.fromkeys(["alone", *(row["sample"] for row in rows)], np.ones(SHAPE, dtype=np.int64)))
    rows.append({"sample": "alone", "image": "", "sequence": "", "frame": 0})
    export_ctc(output_dir=tmp_path / "ctc", segmentation_dirs=[tmp_path / "test-0000"], samples=rows[::-1])
    for sequence in ("01", "02"):
        folder = tmp_path / "ctc" / f"{sequence}_RES"
        tracks = read_tracks(folder / "res_track.txt")
        assert {(track.begin, track.end) for track in tracks.values()} == {(0, 4), (2, 4)}
        table = pd.read_csv(folder / "res_track.txt", sep=" ", header=None)
        assert len(table) == 3
        for frame, labels in moving(5):
            found = tifffile.imread(folder / f"mask{frame:03d}.tif")
            assert found.dtype == np.uint16
            assert np.array_equal(found > 0, labels > 0)
    assert not (tmp_path / "ctc" / "_RES").exists()


@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.2, 0.95))
def test_geojson_is_valid_geometry(seed, density):
    """QuPath and other geometry libraries refuse rings that touch themselves."""
    mask_yx = (np.random.default_rng(seed).random((8, 9)) < density).astype(np.uint8)
    for feature in describe_features(gather_objects(mask_yx, where="")):
        found = shapely.geometry.shape(feature["geometry"])
        assert found.is_valid, shapely.validation.explain_validity(found)
        assert found.area == mask_yx.sum()
