"""Rule measure_objects: the median over images of the median diameter."""

import json
import math

import numpy as np
import pytest

from cellmill.images.stored import IGNORE_LABEL, write_label_bands
from cellmill.preprocessing.diameters import measure_diameter, read_diameter
from cellmill.shards import shard_folder
from cellmill.stages.measure_objects import measure_objects


def put_labels(folder, images):
    with shard_folder(folder) as partial:
        for name, labels_yx in images.items():
            write_label_bands(partial / f"{name}.tif", [labels_yx], shape=labels_yx.shape, highest=int(labels_yx.max()))


def squares(*sides):
    labels_yx = np.zeros((40, 40 * max(1, len(sides))), np.uint16)
    for number, side in enumerate(sides):
        labels_yx[2 : 2 + side, 40 * number : 40 * number + side] = number + 1
    return labels_yx


def test_a_square_counts_as_the_disc_of_its_area():
    assert measure_diameter([squares(10)]) == pytest.approx(2 * math.sqrt(100 / math.pi))


def test_bands_are_counted_together_and_ignored_pixels_are_no_object():
    labels_yx = squares(10, 20, 30)
    labels_yx[38:] = IGNORE_LABEL
    assert measure_diameter([labels_yx[:7], labels_yx[7:]]) == pytest.approx(2 * math.sqrt(400 / math.pi))
    assert measure_diameter([np.full((3, 3), IGNORE_LABEL, np.uint16)]) is None


def test_each_image_counts_once_however_many_objects_it_has(tmp_path):
    put_labels(tmp_path / "train-0000", {"a": squares(4, 4, 4, 4, 4, 4), "b": squares(8), "c": squares()})
    put_labels(tmp_path / "train-0001", {"d": squares(16)})
    measure_objects(output_path=tmp_path / "d.json", labels_dirs=[tmp_path / "train-0000", tmp_path / "train-0001"])
    assert read_diameter(tmp_path / "d.json") == 9.03  # the disc of 64 px, three digits
    assert list(json.loads((tmp_path / "d.json").read_text())) == ["object_px"]


def test_training_images_without_objects_are_refused(tmp_path):
    put_labels(tmp_path / "train-0000", {"a": squares(), "b": squares()})
    with pytest.raises(ValueError, match=r"expected annotated objects in the training images, found none in 2 images"):
        measure_objects(output_path=tmp_path / "d.json", labels_dirs=[tmp_path / "train-0000"])
    assert not (tmp_path / "d.json").exists()
