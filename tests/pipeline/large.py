"""Make one large image with annotations, run on it the stages that process images, and print the peak memory.

``python tests/pipeline/large.py 30000`` runs it at full size (`make full-size`); the tests use fewer pixels.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow")]

TILE = 512
# nuclei of 12 px radius on a grid of 64 px
STEP, RADIUS = 64, 12
# bytes per pixel that keep 30,000 x 30,000 px within 4 GB
BYTES_PER_PIXEL = 4 * 1000**3 / 30000**2
# limit for predict and postprocess, which hold a row of tiles and a window, whatever the image size
FLAT_MB = 2500
LAST_STAGES = ("predict", "postprocess", "export", "evaluate", "picture")


def write_slide(path: Path, *, side: int, kind: str) -> int:
    """Write a 16-bit image, or its labels or mask, tile by tile, and return the number of objects."""
    import numpy as np
    import tifffile

    y, x = np.mgrid[:TILE, :TILE]
    is_object = ((y % STEP - STEP // 2) ** 2 + (x % STEP - STEP // 2) ** 2) <= RADIUS**2
    across = -(-side // TILE)
    per_tile = TILE // STEP

    def tiles() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 400, (TILE, TILE))
        for row in range(across):
            for column in range(across):
                if kind == "image":
                    yield (800 + 900 * is_object + noise).astype(np.uint16)
                elif kind == "mask":
                    yield (255 * is_object).astype(np.uint8)
                else:
                    place = (row * per_tile + y // STEP) * across * per_tile + column * per_tile + x // STEP
                    yield np.where(is_object, place + 1 + (place + 1 >= 65535), 0).astype(np.uint32)

    tifffile.imwrite(
        path, tiles(), shape=(side, side), dtype={"image": "u2", "mask": "u1", "labels": "u4"}[kind],
        tile=(TILE, TILE), compression="zlib", photometric="minisblack", metadata=None,
        resolution=(20000, 20000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    return len(range(STEP // 2 - RADIUS, side, STEP)) ** 2


def run_stage(stage: str, folder: Path, form: str) -> None:
    """Run one stage on the slide in `folder`, in this process, and print its peak memory in MB."""
    from cellmill.config.annotations import Annotations
    from cellmill.config.preprocess import Preprocess

    rows = [
        {"sample": "slide", "image": str(folder / "slide.tif"), "annotations": [str(folder / f"{form}.tif")],
         "sequence": "", "frame": 0}
    ]  # fmt: skip
    annotations = Annotations.model_validate({"format": form, "path": "x"}).model_dump(mode="json")
    start = time.perf_counter()
    if stage == "check":
        from cellmill.stages.check_shard import check_shard

        check_shard(
            output_path=folder / f"check_{form}.json", samples=rows, channel="luminance", pixel_size_um=None,
            annotations=annotations, missing="error",
        )  # fmt: skip
    elif stage == "preprocess":
        from cellmill.stages.preprocess import preprocess_shard

        section = {"background": {"method": "gaussian", "sigma_px": 20.0}} if form == "binary" else {}
        settings = Preprocess.model_validate(section).model_dump(mode="json")
        preprocess_shard(output_dir=folder / f"images_{form}", samples=rows, context=[], **settings)
    elif stage == "predict":
        predict_slide(folder)
    elif stage == "postprocess":
        postprocess_slide(folder, rows=rows)
    elif stage == "evaluate":
        evaluate_slide(folder)
    elif stage == "picture":
        picture_slide(folder)
    elif stage == "export":
        from cellmill.stages.export_coco import export_coco
        from cellmill.stages.export_geojson import export_geojson
        from cellmill.stages.export_rois import export_rois

        given = {"segmentation_dirs": [folder / "segmentation"], "samples": rows}
        export_coco(output_path=folder / "objects.coco.json", **given)
        export_rois(output_dir=folder / "rois", **given)
        export_geojson(output_dir=folder / "geojson", **given)
    else:
        from cellmill.stages.rasterize import rasterize_shard

        rasterize_shard(output_dir=folder / f"labels_{form}", samples=rows, annotations=annotations, missing="error")
    print(f"{stage} {form} {peak_memory_mb():.0f} {time.perf_counter() - start:.0f}")


def predict_slide(folder: Path) -> None:
    """Predict the preprocessed slide with a small untrained network."""
    import torch

    from cellmill.config.preset import ModelPreset
    from cellmill.models.registry import build_network
    from cellmill.models.weights import write_weights
    from cellmill.stages.predict import predict_shard

    torch.manual_seed(0)
    network = {
        "architecture": "unet", "in_channels": 1, "base_channels": 4, "levels": 2, "norm": "batch", "dropout": 0,
        "film": 0, "output": "flow", "width": 1,
    }  # fmt: skip
    preset = ModelPreset(title="slide").model_dump(mode="json")
    weights = build_network(network).state_dict()
    write_weights(folder / "weights.pt", network=network, input=preset["input"], state_dict=weights)
    predict_shard(
        output_dir=folder / "predicted", images_dir=folder / "images_label_image", around_dirs=[],
        weights_path=folder / "weights.pt", predict=preset["predict"], passages=None, classes=None, pixel_size_um=None,
        threads=1, gpu=0,
    )  # fmt: skip


def postprocess_slide(folder: Path, *, rows: list[dict[str, Any]]) -> None:
    """Segment the slide from probabilities that are .9 on its nuclei and .1 elsewhere."""
    import numpy as np
    import tifffile

    from cellmill.checks.unlike_training import summarize_images
    from cellmill.config.postprocess import Postprocess
    from cellmill.images.stored import write_probability_bands
    from cellmill.shards import shard_folder
    from cellmill.stages.postprocess import postprocess_shard

    settings = Postprocess().model_dump(mode="json")
    fit = {
        "format": 2, "settings": settings, "threshold": {"value": 0.5}, "closing": settings["closing"],
        "boundary": {"applied": False, "scales_px": [0.0]}, "training_images": summarize_images([], normalise="zscore"),
        "instances": {
            "method": "watershed", "split_depth": 1.0, "min_area_px": 0, "max_area_px": None, "min_solidity": None,
            "exclude_border": False, "max_flow_error": 0.4, "fill_holes_px": 100,
            "median_area_px": None,
        },
    }  # fmt: skip
    (folder / "postprocess.json").write_text(json.dumps(fit))
    path = folder / "images_label_image" / "slide.tif"
    shape = tifffile.memmap(path, mode="r").shape
    with shard_folder(folder / "probabilities") as output:
        # Mapped anew for each band, so that the test's own input does not add to the measured memory.
        bands = (
            np.where(tifffile.memmap(path, mode="r")[first : first + TILE] > 1500, 0.9, 0.1).astype(np.float16)[None]
            for first in range(0, shape[0], TILE)
        )
        write_probability_bands(output / "slide.tif", bands, shape=shape)
    postprocess_shard(
        output_dir=folder / "segmentation", images_dir=folder / "images_label_image",
        probabilities_dir=folder / "probabilities", fit_path=folder / "postprocess.json", postprocess=settings,
        pixel_size_um=None, rle_order="row", samples=rows, hot_pixels="replace", channel="luminance",
    )  # fmt: skip


def evaluate_slide(folder: Path) -> None:
    """Score the objects against the annotations."""
    from cellmill.stages.evaluate_shard import evaluate_shard

    evaluate_shard(
        output_path=folder / "counts.json", images_dir=folder / "images_label_image",
        labels_dir=folder / "labels_label_image", probabilities_dir=folder / "probabilities",
        segmentation_dir=folder / "segmentation", fit_path=folder / "postprocess.json", split="test", model="slide",
        seed=0, isbi2012=False, border_tolerance_px=2, groups={}, exclude_border=False,
    )  # fmt: skip


def picture_slide(folder: Path) -> None:
    """Draw the slide for the gallery of a report, with every view."""
    from cellmill.images.files import PlaneRows
    from cellmill.objects.shard_tables import read_confidences
    from cellmill.preprocessing.geometry import read_geometry
    from cellmill.reports.pictures import Prediction, Source, draw_picture

    source = Source(
        "slide", folder / "images_label_image" / "slide.tif",
        read_geometry(folder / "images_label_image" / "geometry.csv")["slide"],
        PlaneRows(folder / "slide.tif", channel="luminance"), folder / "labels_label_image" / "slide.tif",
    )  # fmt: skip
    prediction = Prediction(
        "slide", "#1f77b4", folder / "probabilities" / "slide.tif", folder / "segmentation" / "slide.tif",
        read_confidences(folder / "segmentation")["slide"],
    )  # fmt: skip
    picture = draw_picture(source, [prediction], side_px=512)
    (folder / "picture.json").write_text(json.dumps([picture.errors, [layer.uri for layer in picture.layers]]))


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process in MB; ru_maxrss would start at the parent's value."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def measure(
    folder: Path, form: str, *, stages: Sequence[str] = ("check", "preprocess", "rasterize")
) -> Iterator[tuple[str, float, float]]:
    """Run each stage in a separate process; yield its name, peak memory in MB and duration in seconds."""
    for stage in stages:
        command = [sys.executable, __file__, stage, str(folder), form]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        _, _, peak_mb, seconds = done.stdout.split()
        yield stage, float(peak_mb), float(seconds)


def main(side: int) -> None:
    """Check that the stages on a slide of this side length stay within their memory limits."""
    limit_mb = BYTES_PER_PIXEL * side**2 / 1e6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_slide(folder / "slide.tif", side=side, kind="image")
        for form, kind in (("label_image", "labels"), ("binary", "mask")):
            objects = write_slide(folder / f"{form}.tif", side=side, kind=kind)
            for stage, peak_mb, seconds in measure(folder, form):
                print(
                    f"{side} x {side} px, {objects} objects, {form}: {stage} {peak_mb:.0f} MB of {limit_mb:.0f}, {seconds:.0f} s"
                )
                assert peak_mb < limit_mb, f"{stage} took more than {limit_mb:.0f} MB"
        for stage, peak_mb, seconds in measure(folder, "label_image", stages=LAST_STAGES):
            print(f"{side} x {side} px: {stage} {peak_mb:.0f} MB of {FLAT_MB}, {seconds:.0f} s")
            assert peak_mb < FLAT_MB, f"{stage} took more than {FLAT_MB} MB"


if __name__ == "__main__":
    if len(sys.argv) > 2:
        run_stage(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
    else:
        main(int(sys.argv[1]))
