"""Small shards of images and labels for the tests of train and predict."""

import numpy as np

from cellmill.config.networks import network_settings
from cellmill.config.preset import ModelPreset
from cellmill.images.stored import write_labels
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.preprocessing.stored_images import find_images
from cellmill.shards import shard_folder
from cellmill.training.imagesets import ImageSet, find_labelled_images
from whole_images import fit_image, write_image

TINY = {
    "title": "tiny",
    "width": 1 / 16,
    "network": {"levels": 2},
    "train": {"epochs": 2, "batch": 2, "patch": [32, 32]},
}


def tiny_preset(**changes):
    """Return the settings of a preset that trains in a second, as the rules pass them."""
    return ModelPreset.model_validate(merge(TINY, changes)).model_dump(mode="json")


def network_of(preset):
    """Return the network settings of a preset, as the rules pass them."""
    return network_settings(preset)


def image_set(*shards, preset=None, around=(), passages=None, classes=None):
    """Return the images of some (images, labels) folders, opened as in training."""
    preset = preset or tiny_preset()
    return ImageSet(
        find_labelled_images([images for images, _ in shards], [labels for _, labels in shards]),
        around=find_images(around),
        input=preset["input"],
        output=preset["network"]["output"],
        loss=preset["train"]["loss"],
        passages=passages,
        classes=classes,
    )


def merge(base, changes):
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = merge(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged


def draw_cells(rng, shape, *, cells=4, radius_px=5):
    """Draw bright discs on an uneven background; return the image and its label image."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels_yx = np.zeros(shape, dtype=np.uint16)
    for number in range(1, cells + 1):
        centre = rng.uniform(0, 1, 2) * shape
        labels_yx[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius_px**2] = number
    image_yx = 100 + 20 * y / shape[0] + 60.0 * (labels_yx > 0) + rng.normal(0, 8, shape)
    return image_yx.astype(np.float32), labels_yx


def write_training_shard(folder, name, *, shapes, seed=0, mode="none", size=None, cells=4, radius_px=5):
    """Write images/{name} and labels/{name} with an image of each shape; return both folders."""
    rng = np.random.default_rng(seed)
    drawn = {
        f"{name}{number}": draw_cells(rng, shape, cells=cells, radius_px=radius_px)
        for number, shape in enumerate(shapes)
    }
    return write_shard(folder, name, drawn, mode=mode, size=size)


def write_shard(folder, name, drawn, *, mode="none", size=None):
    """Write images/{name} and labels/{name} from pairs of an image and its labels by sample; return both folders."""
    geometries = {}
    with shard_folder(folder / "images" / name) as images, shard_folder(folder / "labels" / name) as labels:
        for sample, (image_yx, labels_yx) in drawn.items():
            geometries[sample] = plan_fit(image_yx.shape, mode=mode, size=size)
            write_image(images / f"{sample}.tif", fit_image(image_yx, geometries[sample], pad_value=0))
            write_labels(labels / f"{sample}.tif", labels_yx)
        write_geometry(images / "geometry.csv", geometries)
    return folder / "images" / name, folder / "labels" / name
