"""Working scale of a whole dataset: by one factor, or by pixel sizes; the same in training and in prediction."""

from dataclasses import replace

import numpy as np
import tifffile

from cellmill.inference.views import Frames
from cellmill.preprocessing.geometry import plan_fit
from cellmill.preprocessing.stored_images import StoredImage
from cellmill.training.choosing import settle_input
from training_shards import image_set, tiny_preset, write_shard

SETTLED = {
    **tiny_preset()["input"], "normalise": "percentile", "diameter_px": 16.0, "scale": "dataset", "object_px": 32.0,
    "object_um": 8.0,
}  # fmt: skip


def stored(folder, sizes_um, *, side=64):
    """Write an image for each pixel size, and return the images by sample."""
    images = {}
    for number, size_um in enumerate(sizes_um):
        path = folder / f"i{number}.tif"
        tifffile.imwrite(path, np.random.default_rng(number).normal(100, 9, (side, side)).astype(np.float32))
        geometry = replace(plan_fit((side, side), mode="none", size=None), pixel_size_um=size_um)
        images[f"i{number}"] = StoredImage(sample=f"i{number}", image_path=path, geometry=geometry)
    return images


def sides(images, *, passages=None, pixel_size_um=None, **changes):
    frames = Frames(images, normalise="percentile", polarity="keep", min_contrast=0.0, passages=passages, kept=None)
    frames.settle_by_dataset(input={**SETTLED, **changes}, pixel_size_um=pixel_size_um)
    return [frames.open(sample)[0][0].shape[0] for sample in images]


def test_images_of_known_pixel_size_are_brought_to_the_size_of_the_training_objects(tmp_path):
    # Objects of 8 um are 32, 16 and 8 px wide.
    assert sides(stored(tmp_path, [0.25, 0.5, 1.0])) == [32, 64, 128]


def test_without_a_pixel_size_the_factor_is_that_of_the_training_images(tmp_path):
    assert sides(stored(tmp_path, [None, 0.5])) == [32, 64]
    assert sides(stored(tmp_path, [1.0, 0.5]), object_um=None) == [32, 32]


def test_a_pixel_size_of_the_config_holds_for_all_images(tmp_path):
    assert sides(stored(tmp_path, [0.25, 1.0]), pixel_size_um=0.5) == [64, 64]


def test_the_reason_of_a_scale_states_its_sizes(tmp_path):
    frames = Frames(
        stored(tmp_path, [0.5, None, 0.01]),
        normalise="percentile",
        polarity="keep",
        min_contrast=0.0,
        passages=None,
        kept=1,
    )
    found = frames.settle_by_dataset(input=SETTLED, pixel_size_um=None)
    size = "objects of the training images have a median diameter of"
    assert {name: (scale.factor, scale.because) for name, scale in found.items()} == {
        "i0": (1.0, f"{size} 8 um, and pixels 0.5 um"),
        "i1": (0.5, f"{size} 32 px"),
        "i2": (0.125, f"{size} 8 um, and pixels 0.01 um; a factor of 0.02 is beyond the limits of 1/8 and 8"),
    }


def test_frames_that_are_read_together_have_one_factor(tmp_path):
    assert sides(stored(tmp_path, [0.25, 0.5, 1.0]), passages=[["i0", "i1"], ["i2"]]) == [32, 32, 128]


def test_nothing_is_resampled_without_a_working_diameter(tmp_path):
    assert sides(stored(tmp_path, [0.25]), diameter_px=None) == [64]


def test_a_training_scales_its_images_as_a_prediction_does(tmp_path):
    rng = np.random.default_rng(1)
    labels_yx = np.zeros((80, 80), np.uint16)
    labels_yx[10:40, 10:40], labels_yx[45:75, 45:75] = 1, 2
    drawn = {
        f"t{n}": ((100 + 60.0 * (labels_yx > 0) + rng.normal(0, 4, (80, 80))).astype(np.float32), labels_yx)
        for n in (0, 1)
    }
    shard = write_shard(tmp_path, "train", drawn)
    preset = tiny_preset(input={"normalise": "percentile", "diameter_px": 16.0, "scale": "auto"})
    images, validation = image_set(shard, preset=preset), image_set(shard, preset=preset)
    settled, _ = settle_input(
        images, validation, input=preset["input"], pixel_size_um=0.5, is_sequential=False, can_look=True
    )
    assert settled["scale"] == "dataset"
    frames = Frames(
        {image.sample: image for image in images.images},
        normalise="percentile",
        polarity="keep",
        min_contrast=0.0,
        passages=None,
        kept=1,
    )
    frames.settle_by_dataset(input=settled, pixel_size_um=0.5)
    for part in (images, validation):
        assert [part.view(n).shape for n in (0, 1)] == [frames.open(f"t{n}")[0][0].shape for n in (0, 1)]
        assert part.view(0).shape[0] < 60
