"""Corrected annotations: whose annotation they replace, what changes with them, and what is refused."""

import numpy as np
import pytest
import tifffile

from cellmill.annotations.imagej_writer import write_rois
from cellmill.annotations.rasterizing import draw_sample
from cellmill.annotations.reading import open_table
from cellmill.config.errors import ConfigError
from cellmill.planning.make import make_plan
from cellmill.planning.results import list_inputs
from cellmill.planning.settings import job_settings
from project import ROOT

PRESETS = ROOT / "resources/models"
TRUE, CORRECTED = np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8)
TRUE[2:6, 2:6], CORRECTED[8:14, 8:14] = 1, 3
LABELS = {"format": "label_image", "path": "labels/{sample}.tif"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels", "corrected"):
        (tmp_path / room).mkdir()
    for number in range(12):
        for room in ("images", "labels"):
            tifffile.imwrite(tmp_path / room / f"x{number:02d}.tif", TRUE)
    return tmp_path


def plan(corrections="corrected/{sample}.tif", **annotations):
    section = {
        "images": "images/{sample}.tif", "annotations": {**LABELS, **annotations}, "corrections": corrections,
        "models": ["classical"],
    }  # fmt: skip
    return make_plan({"images_per_job": 4, "datasets": {"d": section}}, presets_dir=PRESETS)


def correct(data, sample, name=None, labels_yx=CORRECTED):
    tifffile.imwrite(data / "corrected" / (name or f"{sample}.tif"), labels_yx)


def shard_of(made, sample):
    return next(row.shard for row in made.samples["d"] if row.sample == sample)


def draw(made, sample):
    """Draw the labels of a sample as the job of its shard does."""
    settings = job_settings(made, "rasterize", dataset="d", shard=shard_of(made, sample))
    table = open_table(settings["annotations"], samples=settings["samples"])
    row = next(row for row in settings["samples"] if row["sample"] == sample)
    drawing = draw_sample(row, annotations=settings["annotations"], table=table)
    return np.concatenate(list(drawing.bands()))


def test_a_correction_replaces_the_annotation_of_its_image_only(data):
    correct(data, "x03")
    made = plan()
    assert np.array_equal(draw(made, "x03"), CORRECTED)
    assert np.array_equal(draw(made, "x04"), TRUE)
    assert "corrected/x03.tif" in list_inputs(made, "d")["annotations"]
    assert made.files["d"]["others"] == 0


def test_a_correction_changes_the_jobs_of_its_shard_only(data):
    before = plan()
    correct(data, "x03")
    after = plan()
    for stage in ("rasterize", "check_shard", "preprocess"):
        for shard in before.shards("d"):
            one, other = (job_settings(made, stage, dataset="d", shard=shard) for made in (before, after))
            is_its = stage != "preprocess" and shard == shard_of(before, "x03")
            assert (one != other) == is_its, (stage, shard)


def test_a_correction_annotates_an_image_that_had_none(data):
    (data / "labels/x05.tif").unlink()
    before = plan(missing="unlabelled")
    assert shard_of(before, "x05").startswith("unlabelled")
    correct(data, "x05")
    after = plan(missing="unlabelled")
    assert not shard_of(after, "x05").startswith("unlabelled")
    assert np.array_equal(draw(after, "x05"), CORRECTED)


def test_a_correction_stands_in_for_a_row_of_a_table_and_for_rois(data):
    (data / "found.csv").write_text("id,annotation\n" + "".join(f"x{n:02d},1 4\n" for n in range(12)))
    write_rois(data / "corrected/x03.zip", CORRECTED)
    made = plan("corrected/{sample}.*", format="rle", path=None, table="found.csv", order="row")
    assert np.array_equal(draw(made, "x03") > 0, CORRECTED > 0)
    assert np.count_nonzero(draw(made, "x04")) == 4


def test_an_empty_correction_is_an_image_without_objects(data):
    correct(data, "x03", labels_yx=np.zeros((16, 16), np.uint8))
    assert not draw(plan(), "x03").any()


def test_a_correction_of_another_size_is_refused_with_its_file(data):
    correct(data, "x03", labels_yx=CORRECTED[:8])
    with pytest.raises(ValueError, match=r"corrected/x03.tif: expected an annotation of 16 rows and 16 columns"):
        draw(plan(), "x03")


def test_corrections_of_no_image_and_none_at_all_are_said(data):
    assert any("no file matches 'corrected/{sample}.tif' yet" in remark for remark in plan().remarks)
    correct(data, "other")
    assert any("datasets.d.corrections: 1 annotation files belong to no image" in remark for remark in plan().remarks)


def refused(*args, **annotations):
    with pytest.raises(ConfigError) as caught:
        plan(*args, **annotations)
    return str(caught.value)


def test_what_is_no_correction_is_refused(data):
    correct(data, "x03")
    (data / "corrected/x04.jpg").write_bytes(b"")
    assert "expected corrections as .tif, .tiff, .png, .zip, .roi, .geojson, found corrected/x04.jpg" in refused(
        "corrected/{sample}.*"
    )
    correct(data, "x03", "x03.png.tif")
    (data / "corrected/x04.jpg").unlink()
    (data / "corrected/x03.zip").write_bytes(b"")
    assert "expected one file for 'x03'" in refused("corrected/{sample}.*")


def test_without_annotations_the_message_gives_the_section_to_write(data):
    section = {"images": "images/{sample}.tif", "corrections": "corrected/{sample}.tif"}
    with pytest.raises(ConfigError) as caught:
        make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)
    assert "Set annotations: {format: label_image, path: 'corrected/{sample}.tif', missing: unlabelled}" in str(
        caught.value
    )
