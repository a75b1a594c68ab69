"""Small sequences for the tests of networks that take several frames as input."""

import numpy as np

from cellmill.config.merging import merge
from cellmill.config.preset import ModelPreset
from cellmill.images.stored import write_labels
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from whole_images import write_image

TINY_RECURRENT = {
    "title": "tiny",
    "width": 1 / 64,
    "network": {"architecture": "clstm_unet_text"},
    "train": {"epochs": 2, "batch": 2, "patch": [32, 32], "loss": {"name": "ce"}, "streams": {"unroll": 2}},
}


def recurrent_preset(**changes):
    """Return the settings of a recurrent preset that trains in a second, as the rules pass them."""
    return ModelPreset.model_validate(merge(TINY_RECURRENT, changes)).model_dump(mode="json")


def write_frames(folder, name, *, images_tyx, labels_tyx):
    """Write frames {name}00, {name}01 and so on to images/{name} and labels/{name}; return both folders."""
    samples = [f"{name}{number:02d}" for number in range(len(images_tyx))]
    return write_named_frames(folder, name, dict(zip(samples, zip(images_tyx, labels_tyx, strict=True), strict=True)))


def write_named_frames(folder, name, frames):
    """Write a shard of frames {sample: (image_yx, labels_yx)}; return the folders of images and of labels."""
    with shard_folder(folder / "images" / name) as images, shard_folder(folder / "labels" / name) as labels:
        for sample, (image_yx, labels_yx) in frames.items():
            write_image(images / f"{sample}.tif", np.asarray(image_yx, dtype=np.float32))
            write_labels(labels / f"{sample}.tif", labels_yx)
        shapes = {sample: image_yx.shape for sample, (image_yx, _) in frames.items()}
        write_geometry(
            images / "geometry.csv", {s: plan_fit(shape, mode="none", size=None) for s, shape in shapes.items()}
        )
    return folder / "images" / name, folder / "labels" / name


def coded_frames(count, *, shape=(50, 60), first=0):
    """Return frames whose pixel values encode their position: 10000 * frame + 100 * row + column."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return [10000.0 * (first + frame) + 100 * y + x for frame in range(count)]


def decode(values):
    """Return frame, row and column of coded pixels."""
    whole = np.rint(values).astype(int)
    return whole // 10000, whole % 10000 // 100, whole % 100
