"""Cases of bad input: images that cannot be rescaled."""

from pathlib import Path
from typing import Any

from model_files import put_model
from pipeline.bad_inputs.cases import case, images


def rescaled(folder: Path, *, fit: dict[str, Any] | None = None, **rescale: Any) -> dict[str, Any]:
    """Return the section of three images that are rescaled."""
    return images(folder, preprocess={"rescale": rescale, **({} if fit is None else {"fit": fit})})


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.rescale: expected either pixel_size_um or diameter_px, found pixel_size_um and "
    "diameter_px. Set pixel_size_um for images of known pixel size, or diameter_px for objects of a common diameter.",
)
def a_rescaling_by_pixel_size_and_by_diameter(folder):
    return rescaled(folder, pixel_size_um=0.5, diameter_px=24)


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.rescale: expected either pixel_size_um or diameter_px, found neither. Set "
    "pixel_size_um for images of known pixel size, or diameter_px for objects of a common diameter.",
)
def a_rescaling_to_nothing(folder):
    return rescaled(folder, object_px=60)


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.rescale: expected object_px with diameter_px only, found object_px 60 with "
    "pixel_size_um. Remove object_px, or replace pixel_size_um by diameter_px.",
)
def a_rescaling_by_pixel_size_with_a_diameter(folder):
    return rescaled(folder, pixel_size_um=0.5, object_px=60)


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess: expected fit none or crop_pad with rescale, found resize, which would undo it: it "
    "stretches every image to the same size. Remove rescale, or set fit.mode to crop_pad.",
)
def a_rescaling_that_a_resize_undoes(folder):
    return rescaled(folder, pixel_size_um=0.5, fit={"mode": "resize", "size": [64, 64]})


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.rescale: {folder}/images/bad.png: expected a pixel size for "
    "preprocess.rescale.pixel_size_um, found none in its metadata. Set pixel_size_um of the dataset, or rescale by "
    "diameter_px and object_px.",
    is_judged_last=True,
)
def a_rescaling_of_images_without_pixel_size(folder):
    return rescaled(folder, pixel_size_um=0.5)


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.rescale: expected to rescale by a factor from 1/16 to 16, found 24 (objects of 1 px "
    "and rescale.diameter_px 24). Correct the pixel size or the diameter; check their units.",
    is_judged_last=True,
)
def a_rescaling_by_a_factor_of_24(folder):
    return rescaled(folder, diameter_px=24, object_px=1)


@case(
    "Config",
    "plan",
    "datasets.{name}.preprocess.rescale.diameter_px: expected annotated training images, in which the diameter of the "
    "objects is measured, found none. Set object_px beside it to the diameter of the objects in px, or rescale by "
    "pixel_size_um.",
    is_judged_last=True,
)
def a_rescaling_by_diameter_without_annotations(folder):
    put_model(folder / "model.cellmill", rescale={"diameter_px": 24, "object_px": 60})
    section = rescaled(folder, diameter_px=24)
    del section["annotations"]
    return {**section, "models": [{"apply": f"{folder}/model.cellmill"}]}
