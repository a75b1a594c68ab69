"""Cases of bad input: pictures whose stored pixels are not what viewers show."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.bad_inputs.cases import FULL_SIZE, TURNED, bad_tiff, case, images, mask, pixels, put, put_tiff

CERTAIN = (
    "expected a mask whose objects are certain, found MinIsWhite (smaller numbers are shown brighter) with 88% of the "
    "pixels as objects. For format binary, set annotations.foreground to the stored numbers of the objects, zero or "
    "nonzero; otherwise save the mask with MinIsBlack."
)
ORIENTATION = 274


def masked(folder: Path, stored: np.ndarray, *, file_format: str) -> dict[str, Any]:
    """Write three images, and masks of which the bad one is MinIsWhite."""
    section = images(folder)
    for sample in ("good", "other"):
        put_tiff(folder / f"masks/{sample}.tif", mask())
    put_tiff(folder / "masks/bad.tif", stored, photometric="miniswhite")
    return {**section, "annotations": {"format": file_format, "path": f"{folder}/masks/{{sample}}.tif"}}


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected intensities, found MinIsWhite (smaller numbers are brighter) with float32, "
    "whose white level is unknown. Save the image with MinIsBlack, after inverting its values if needed.",
)  # fmt: skip
def a_min_is_white_image_of_floats(folder):
    return bad_tiff(folder, pixels().astype(np.float32), photometric="miniswhite")


@case(
    "Image files", "check",
    "{folder}/images/bad.tif: expected grey or RGB pixels, found the raw mosaic of a colour camera (CFA). "
    "Convert the image to RGB or grey.",
)  # fmt: skip
def the_raw_mosaic_of_a_colour_camera(folder):
    return bad_tiff(
        folder, pixels(), photometric="cfa", metadata=None,
        extratags=[(33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes((0, 1, 1, 2)), True)],
    )  # fmt: skip


@case("Annotation images", "check", "sample bad, {folder}/masks/bad.tif: " + CERTAIN)
def a_min_is_white_mask_that_may_be_its_background(folder):
    return masked(folder, np.where(mask() > 0, 0, 255).astype(np.uint8), file_format="binary")


@case("Annotation images", "check", "sample bad, {folder}/masks/bad.tif: " + CERTAIN)
def inverted_labels_with_min_is_white(folder):
    return masked(folder, 255 - mask(), file_format="label_image")


@case(
    "Annotation images", "check",
    "sample bad, {folder}/labels/bad.png: expected an annotation of 16 rows and 12 columns, the size of its image, "
    "found 12 rows and 16 columns. " + FULL_SIZE + TURNED,
)  # fmt: skip
def labels_of_the_unturned_picture(folder):
    section = images(folder, skip="bad", images=f"{folder}/images/{{sample}}.*")
    stream, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(pixels()).save(stream, "PNG", exif=exif)
    put(folder / "images/bad.png", stream.getvalue())
    return section
