"""The full pipeline on stacks, OME-Zarr, COCO, ImageJ ROIs, links and odd names, and reruns after a changed chunk."""

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr

from cellmill.annotations.coco import write_coco
from cellmill.annotations.imagej_writer import write_rois
from cellmill.images.stored import read_labels
from project import TINY, copy_project, draw_cells, planned_jobs, snakemake, write_config

ODD_NAMES = ("a b", "it's", '6" well', "100%", "größe", "-dash", "semi;colon", "paren(1)", "and&so", "dollar$x", "#1")


def write_movies(folder):
    """Write two time-lapse stacks with label stacks; the pages of the labels have no axis metadata."""
    for room in ("images", "labels"):
        (folder / room).mkdir(parents=True)
    for name in ("a", "b"):
        pairs = [draw_cells(np.random.default_rng([ord(name), t]), (48, 56), 3) for t in range(15)]
        images, labels = (np.stack(each) for each in zip(*pairs, strict=True))
        options = {"imagej": True, "resolution": (2, 2), "metadata": {"axes": "TYX", "unit": "um"}}
        tifffile.imwrite(folder / "images" / f"{name}.tif", images, **options)
        tifffile.imwrite(folder / "labels" / f"{name}.tif", labels, metadata=None, compression="zlib")


def write_zarr(path, image):
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.create_array("0", shape=(1, *image.shape), chunks=(1, 32, 32), dtype=image.dtype)[...] = image[np.newaxis]
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 0.25, 0.25]}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    ]


def write_slides(folder):
    """Write OME-Zarr images with one COCO file."""
    folder.mkdir(parents=True)
    truths = []
    for i in range(8):
        image, labels = draw_cells(np.random.default_rng([9, i]), (64, 80), 4)
        write_zarr(folder / f"s{i}.ome.zarr", image)
        truths.append((f"s{i}.ome.zarr", labels))
    write_coco(folder / "truth.json", images=truths)


def write_odd_names(folder):
    """Write images whose names trip shells, glob patterns and web pages; one image is a symbolic link."""
    (folder / "rois").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    for number, name in enumerate(ODD_NAMES):
        image, labels = draw_cells(np.random.default_rng([4, number]), (64, 64), 3)
        tifffile.imwrite(folder / "elsewhere" / f"{number}.tif", image)
        if number == 0:
            (folder / f"{name}.tif").symlink_to(folder / "elsewhere" / "0.tif")
        else:
            (folder / "elsewhere" / f"{number}.tif").rename(folder / f"{name}.tif")
        write_rois(folder / "rois" / f"{name}.zip", labels)


CONFIG = {
    "datasets": {
        "movies": {
            "images": "movies/images/{sample}.tif",
            "annotations": {"format": "label_image", "path": "movies/labels/{sample}.tif"},
            "preprocess": {"background": {"method": "temporal_median"}},
            "split": {"by": "blocks", "gap": 1},
            "models": [{"preset": "default", **TINY}],
        },
        "slides": {
            "images": "slides/{sample}.ome.zarr",
            "annotations": {"format": "coco", "path": "slides/truth.json"},
            "models": [{"preset": "default", **TINY}],
        },
        "odd": {
            "images": "odd names/{sample}.tif",
            "annotations": {"format": "imagej_roi", "path": "odd names/rois/{sample}.zip"},
            "models": [{"preset": "default", **TINY}],
        },
    }
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = copy_project(tmp_path_factory.mktemp("kinds") / "project")
    write_movies(folder / "movies")
    write_slides(folder / "slides")
    write_odd_names(folder / "odd names")
    write_config(folder, CONFIG, "mine.yaml")
    snakemake(folder, "--configfile", "mine.yaml", "--cores", "2")
    return folder


def test_every_kind_of_input_reaches_its_report(project):
    for dataset, images in (("movies", 30), ("slides", 8), ("odd", len(ODD_NAMES))):
        page = (project / f"results/{dataset}/report.html").read_text()
        table = pd.read_csv(project / f"results/{dataset}/samples.csv")
        assert len(table) == images
        assert "Traceback" not in page
    assert planned_jobs(project, "--configfile", "mine.yaml") == set()


def test_frames_of_a_stack_keep_their_order_and_their_truth(project):
    table = pd.read_csv(project / "results/movies/samples.csv")
    assert table.groupby("sequence")["frame"].apply(list).tolist() == [list(range(15))] * 2
    assert (table["split"] == "gap").sum() == 4  # one frame between two blocks, in both sequences
    for row in table[table["split"] != "gap"].itertuples():
        truth = tifffile.imread(project / f"movies/labels/{row.sequence}.tif")[row.frame]
        labels_yx = read_labels(project / f"results/movies/labels/{row.shard}/{row.sample}.tif")
        assert np.array_equal(labels_yx, truth)
    findings = (project / "results/movies/check/summary.csv").read_text()
    assert "cut into blocks: training and test frames come from the same sequence" in findings


def test_objects_are_measured_in_the_um_of_the_metadata(project):
    measured = 0
    for dataset, edge_um in (("movies", 0.5), ("slides", 0.25)):
        for path in (project / f"results/{dataset}/images").glob("*/geometry.csv"):
            assert (pd.read_csv(path)["pixel_size_um"] == edge_um).all()
        table = pd.read_csv(project / f"results/{dataset}/default/objects.csv").astype({"area_um2": float})
        assert np.allclose(table["area_um2"], table["area_px"].astype(float) * edge_um**2)
        measured += len(table)
    assert measured > 0


def test_odd_names_reach_the_folders_as_they_are(project):
    drawn = {path.stem for path in (project / "results/odd/default/segmentation").glob("*/*.tif")}
    assert drawn == set(ODD_NAMES)
    labelled = {path.stem: path for path in (project / "results/odd/labels").glob("*/*.tif")}
    for number, name in enumerate(ODD_NAMES):
        _, truth = draw_cells(np.random.default_rng([4, number]), (64, 64), 3)
        assert np.array_equal(read_labels(labelled[name]), truth)


def test_a_changed_chunk_reruns_its_image_only(project):
    table = pd.read_csv(project / "results/slides/samples.csv")
    row = table[table["split"] == "test"].iloc[0]
    pixels = zarr.open_array(str(project / row["image"] / "0"), mode="r+")
    pixels[0, 3, 4] = int(pixels[0, 3, 4]) ^ 1
    jobs = planned_jobs(project, "--configfile", "mine.yaml")
    place = f"slides/{row['shard']}"
    assert {f"check_shard {place}", f"preprocess {place}"} <= jobs
    assert not any(job.startswith(("train", "postprocess_fit")) for job in jobs)
    assert {job.split()[1].split("/")[0] for job in jobs if job != "index"} == {"slides"}
    pixels[0, 3, 4] = int(pixels[0, 3, 4]) ^ 1
    assert planned_jobs(project, "--configfile", "mine.yaml") == set()
