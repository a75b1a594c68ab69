"""Masks of real nuclei (BBBC039), written by Cellpose's and StarDist's code: scores agree with StarDist's own matching."""

import numpy as np
import pandas as pd
import pytest
import tifffile
from scipy import ndimage
from skimage import filters, io, measure, segmentation
from sklearn.metrics import f1_score

from cellmill.config.annotations import Masks
from cellmill.images.stored import IGNORE_LABEL, read_labels
from cellmill.planning.layout import EVALUATED
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from cellmill.stages.evaluate import summarize_evaluation
from cellmill.stages.evaluate_shard import evaluate_shard
from cellmill.stages.masks import read_masks_of_shard
from cellmill.stages.rasterize import rasterize_shard
from oracles import load_oracle, write_cellpose_masks, write_stardist_rois
from whole_images import write_image

IMAGES = 3
CROP = np.s_[:360, :400]  # keeps the pixel loops of the oracle short
EXACT = 1e-9


def otsu(image_yx):
    """Segment as a person would in a few lines: threshold, opening, components."""
    return measure.label(ndimage.binary_opening(image_yx > filters.threshold_otsu(image_yx), iterations=2))


def watershed(image_yx):
    """Segment with seeds at the peaks of a smoothed distance map."""
    mask_yx = image_yx > filters.threshold_otsu(image_yx)
    distance_yx = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask_yx), 2)
    peaks_yx = (distance_yx == ndimage.maximum_filter(distance_yx, 9)) & mask_yx
    return segmentation.watershed(-distance_yx, measure.label(peaks_yx), mask=mask_yx)


@pytest.fixture(scope="module")
def scored(real_data, tmp_path_factory):
    """Score both kinds of masks through the stages; return the folder and the arrays by program and sample."""
    root, folder = tmp_path_factory.mktemp("masks"), real_data / "bbbc039"
    images, samples = {}, []
    for path in sorted((folder / "images").glob("*.tif"))[:IMAGES]:
        images[path.stem] = tifffile.imread(path)[CROP]
        tifffile.imwrite(root / f"{path.stem}.tif", images[path.stem])
        io.imsave(
            root / f"{path.stem}_true.png", io.imread(folder / f"masks/{path.stem}.png")[CROP], check_contrast=False
        )
        samples.append(
            {"sample": path.stem, "image": str(root / f"{path.stem}.tif"), "frame": 0,
             "annotations": [str(root / f"{path.stem}_true.png")]}
        )  # fmt: skip
    shard = {room: root / room / "test-0000" for room in ("images", "labels")}
    with shard_folder(shard["images"]) as output:
        for name, image_yx in images.items():
            write_image(output / f"{name}.tif", image_yx.astype(np.float32))
        write_geometry(
            output / "geometry.csv", {name: plan_fit(yx.shape, mode="none", size=None) for name, yx in images.items()}
        )
    settings = {"format": "color_components", "path": "x"}
    annotations = Masks(**settings).model_dump(mode="json", exclude={"frame_offset", "missing", "implausible"})
    rasterize_shard(output_dir=shard["labels"], samples=samples, annotations=annotations, missing="error")
    found, paths = {}, []
    for program, segment, file in (("cellpose", otsu, "png"), ("stardist", watershed, "zip")):
        for name, image_yx in images.items():
            labels_yx = segment(image_yx)
            if file == "png":
                write_cellpose_masks(root / f"{name}.tif", labels_yx)
            else:
                write_stardist_rois(root / f"{name}_cp_masks.zip", labels_yx)
            found[program, name] = labels_yx
        masks = Masks(path="x", format="label_image" if file == "png" else "imagej_roi")
        read_masks_of_shard(
            output_dir=root / program / "test-0000", images_dir=shard["images"],
            samples=[{**row, "annotations": [str(root / f"{row['sample']}_cp_masks.{file}")]} for row in samples],
            annotations=masks.model_dump(mode="json", exclude={"frame_offset", "missing", "implausible"}),
            missing="error", pixel_size_um=None, rle_order="row", channel="luminance", hot_pixels="keep",
        )  # fmt: skip
        paths.append(root / f"{program}.json")
        evaluate_shard(
            output_path=paths[-1], images_dir=shard["images"], labels_dir=shard["labels"], probabilities_dir=None,
            segmentation_dir=root / program / "test-0000", fit_path=None, split="test", model=program, seed=0,
            isbi2012=False, border_tolerance_px=2, groups={}, exclude_border=False,
        )  # fmt: skip
    tables = {f"{name}_path": root / f"{name}.csv" for name in EVALUATED}
    summarize_evaluation(**tables, shard_paths=paths, bootstrap=20, seed=1)
    return root, found


@pytest.mark.parametrize("program", ["cellpose", "stardist"])
def test_scores_of_masks_are_those_of_an_independent_implementation(scored, program):
    root, found = scored
    stardist = load_oracle(
        "stardist/matching.py", numba={"jit": lambda *_, **__: lambda function: function},
        tqdm={"tqdm": lambda items, **_: items}, csbdeep={}, csbdeep__utils={"_raise": None},
    )  # fmt: skip
    scores = pd.read_csv(root / "scores.csv")
    rows = scores[(scores["model"] == program) & (scores["stage"] == "postprocessed")]
    assert len(rows) == IMAGES
    for row in rows.to_dict("records"):
        truth_yx = read_labels(root / f"labels/test-0000/{row['sample']}.tif")
        predicted_yx = read_labels(root / f"{program}/test-0000/{row['sample']}.tif")
        drawn_yx = found[program, row["sample"]]
        # Outlines cut corners, so pixels come back only from label images.
        share = np.mean((predicted_yx > 0) == (drawn_yx > 0))
        assert share == 1 if program == "cellpose" else share > 0.99
        assert not (truth_yx == IGNORE_LABEL).any()
        for threshold in (0.5, 0.75, 0.9):
            theirs = stardist.matching(truth_yx, predicted_yx, thresh=threshold)
            assert row[f"ap_stardist_{threshold:.2f}"] == pytest.approx(theirs.accuracy, abs=EXACT)
            assert row["n_predicted"] == theirs.n_pred
        assert row["dice"] == pytest.approx(f1_score(truth_yx.ravel() > 0, predicted_yx.ravel() > 0), abs=EXACT)
    assert 0.5 < rows["ap_0.50"].mean() < 1
