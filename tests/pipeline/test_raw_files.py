"""The full pipeline on microscope files: CZI, ND2, LIF and a set of OME-TIFF, with scenes, channels, time and z."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tifffile

from cellmill.images.stored import read_labels
from project import copy_project, planned_jobs, snakemake, write_config
from raw_files import raw_folder

FILES = {
    "czi": "S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi",
    "nd2": "example-timelapse.nd2",
    "lif": "PR2729_frameOrderCombinedScanTypes.lif",
    "svs": "CMU-1-Small-Region.svs",
}
CONFIG = {
    "datasets": {
        "zeiss": {
            "images": "czi/{sample}.czi",
            "stack": {"scene": "all", "time": 0, "z": "max"},
            "preprocess": {"channel": "DAPI"},
            "models": ["classical"],
        },
        "nikon": {
            "images": "nd2/{sample}.nd2",
            "stack": {"time": "0-2"},
            "models": ["classical", {"apply": "nuclei"}],
        },
        "leica": {
            "images": "lif/{sample}.lif",
            "stack": {"time": 1, "z": 2, "others": {"M": "all"}},
            "preprocess": {"channel": 1},
            "models": ["classical"],
        },
        "slide": {
            "images": "svs/{sample}.svs",
            "preprocess": {"fit": {"mode": "crop_pad", "size": [300, 400], "at": [1200, 900]}},
            "models": ["classical"],
        },
        "companion": {
            "images": "companion/{sample}.companion.ome",
            "stack": {"z": "max"},
            "models": ["classical"],
        },
    }
}


@pytest.fixture(scope="module")
def project(tmp_path_factory, real_data):
    folder = copy_project(tmp_path_factory.mktemp("raw"))
    for form, name in FILES.items():
        (folder / form).mkdir()
        shutil.copyfile(raw_folder(real_data, form) / name, folder / form / name)
    (folder / "companion").mkdir()
    for path in (raw_folder(real_data, "ometiff_multi") / "companion").iterdir():
        shutil.copyfile(path, folder / "companion" / path.name)
    snakemake(folder, "--cores", "2", "--configfile", write_config(folder, CONFIG))
    return folder


def test_each_scene_is_an_image_of_its_own_size(project):
    stem = FILES["czi"].removesuffix(".czi")
    shapes = {
        path.stem: read_labels(path).shape for path in project.glob("results/zeiss/classical/segmentation/*/*.tif")
    }
    assert shapes == {f"{stem}_s000": (122, 295), f"{stem}_s001": (64, 64), f"{stem}_s002": (237, 352)}


def test_chosen_time_points_are_frames_of_one_sequence(project):
    table = pd.read_csv(project / "results/nikon/samples.csv")
    assert list(table["frame"]) == [0, 1, 2]
    assert set(table["sequence"]) == {"example-timelapse"}


def test_tiles_of_a_scan_are_images(project):
    table = pd.read_csv(project / "results/leica/samples.csv")
    assert [name.rpartition("_")[2] for name in table["sample"]] == ["m000", "m001", "m002", "m003"]


def test_the_pixel_size_of_the_file_is_in_the_tables(project):
    for dataset, edge_um in (("zeiss", 1.6), ("nikon", 0.325), ("leica", 3.968253968)):
        for path in (project / f"results/{dataset}/images").glob("*/geometry.csv"):
            assert np.allclose(pd.read_csv(path)["pixel_size_um"], edge_um)
        table = pd.read_csv(project / f"results/{dataset}/classical/objects.csv").astype({"area_um2": float})
        assert np.allclose(table["area_um2"], table["area_px"].astype(float) * edge_um**2, rtol=1e-3)


def test_the_objects_of_a_region_lie_where_they_are_on_the_slide(project):
    [mask] = project.glob("results/slide/classical/segmentation/*/*.tif")
    labels_yx = read_labels(mask)
    assert labels_yx.shape == (2967, 2220)
    rows, columns = np.nonzero(labels_yx)
    assert 1200 <= rows.min() < rows.max() < 1500
    assert 900 <= columns.min() < columns.max() < 1300
    [image] = project.glob("results/slide/images/*/*.tif")
    colours_yxc = tifffile.imread(project / "svs/CMU-1-Small-Region.svs")[1200:1500, 900:1300]
    found = np.corrcoef(tifffile.imread(image).ravel(), colours_yxc.mean(axis=2).ravel())[0, 1]
    assert found > 0.98


def test_a_trained_model_is_applied_to_raw_frames(project):
    objects = pd.read_csv(project / "results/nikon/nuclei/objects.csv")
    assert objects["sample"].nunique() == 3


def test_the_sections_of_a_set_are_projected_from_all_of_its_files(project):
    sections = [tifffile.imread(path) for path in sorted((project / "companion").glob("*.ome.tiff"))]
    [image] = project.glob("results/companion/images/*/multifile.tif")
    assert np.array_equal(tifffile.imread(image), np.max(sections, axis=0).astype(np.float32))


def test_nothing_is_made_again_unless_a_file_of_a_set_has_changed(project):
    assert planned_jobs(project, "--configfile", "mine.yaml") == set()
    [path, *_] = sorted((project / "companion").glob("*.ome.tiff"))
    kept = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        [offset] = tif.pages.first.dataoffsets[:1]
    path.write_bytes(kept[:offset] + bytes([kept[offset] ^ 1]) + kept[offset + 1 :])
    jobs = planned_jobs(project, "--configfile", "mine.yaml")
    assert any(job.startswith("preprocess companion/") for job in jobs)
    assert not any(job.split()[1].startswith(("zeiss", "nikon", "leica")) for job in jobs if len(job.split()) > 1)
    path.write_bytes(kept)


def test_what_the_file_has_and_the_config_does_not_choose_is_asked_for(project):
    asked = write_config(project, {"datasets": {"zeiss": {"images": "czi/{sample}.czi"}}}, "asked.yaml")
    finished = snakemake(project, "-n", "--configfile", asked, check=False)
    text = finished.stdout + finished.stderr
    assert finished.returncode != 0
    assert "the scenes 0 'TR1', 1 'P1', 2 'TR2', 2 time points, 3 sections and the channels 0 'DAPI', 1 'EGFP'" in text
