"""First look: the working scale of an image follows from the objects that the network finds in it."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from cellmill.inference.looking import MOST_OBJECTS, cut_part, find_factor
from cellmill.inference.normalise import InputScale
from cellmill.objects.flows import unit_flows

DIAMETER_PX = 16.0


class Exact(nn.Module):
    """A network that is right about discs near the diameter it works at, and breaks up larger ones."""

    stride_px = 1
    halo_px = 0
    is_recurrent = False

    def forward(self, images_bcyx):
        image_yx = images_bcyx[0, 0].numpy()
        labels_yx, _ = ndimage.label(image_yx > 0.5)
        flows_cyx = unit_flows(labels_yx.astype(np.uint16))
        widths = np.sqrt(np.bincount(labels_yx.ravel()) * 4 / math.pi)[labels_yx]
        is_large_yx = widths > 1.7 * DIAMETER_PX
        noise_cyx = np.random.default_rng(0).standard_normal(flows_cyx.shape)
        flows_cyx = np.where(is_large_yx, ndimage.gaussian_filter(noise_cyx, (0, 3, 3)) * 8, flows_cyx)
        maps_cyx = np.concatenate([(labels_yx > 0)[None], flows_cyx]).astype(np.float32)
        return torch.from_numpy(maps_cyx)[None]


def draw_discs(diameter_px, *, side=320, gap=2.2):
    y, x = np.mgrid[:side, :side]
    step = gap * diameter_px
    near = [np.abs(axis % step - step / 2) for axis in (y, x)]
    return (np.hypot(*near) < diameter_px / 2).astype(np.float32)


def look(image_yx, *, typical_px=20.0):
    scale = InputScale(0.0, 1.0, (0, image_yx.shape[0]), (0, image_yx.shape[1]))
    return find_factor(
        Exact(),
        [(image_yx, scale)],
        planes=(),
        diameter_px=DIAMETER_PX,
        typical_px=typical_px,
        device=torch.device("cpu"),
    )


@pytest.mark.parametrize("diameter_px", [8, 14, 20, 40])
def test_objects_are_brought_to_the_diameter_that_the_network_works_at(diameter_px):
    found = look(draw_discs(diameter_px))
    assert found.factor * diameter_px == pytest.approx(DIAMETER_PX, rel=0.15)
    assert "first look" in found.because


def test_an_image_without_objects_gets_the_factor_of_the_training_images():
    found = look(np.zeros((100, 100), dtype=np.float32), typical_px=32)
    assert found.factor == 0.5
    assert "no object" in found.because


def test_a_tiny_image_has_a_factor():
    assert look(np.zeros((5, 9), dtype=np.float32)).factor == pytest.approx(0.8)


@pytest.mark.parametrize(("diameter_px", "is_one"), [(20, True), (60, False)])
def test_further_sizes_are_tried_only_if_they_could_be_better(diameter_px, is_one, monkeypatch):
    tried = []
    monkeypatch.setattr(
        Exact, "forward", lambda self, images, forward=Exact.forward: tried.append(1) or forward(self, images)
    )
    look(draw_discs(diameter_px), typical_px=20)
    assert (len(tried) == 1) == is_one


def test_the_same_image_gets_the_same_factor():
    image_yx = draw_discs(25)
    assert look(image_yx) == look(image_yx.copy())


def test_of_a_large_image_the_most_structured_part_is_looked_at():
    image_yx = np.zeros((3000, 2600), dtype=np.float32)
    image_yx[2000:2400, 1500:1900] = np.random.default_rng(0).random((400, 400))
    scale = InputScale(0.0, 1.0, (10, 2990), (0, 2600))
    other_yx = np.arange(image_yx.size, dtype=np.float32).reshape(image_yx.shape)
    (part_yx, part_scale), (other_part_yx, _) = cut_part([(image_yx, scale), (other_yx, scale)], factor=1.0)
    assert part_yx.shape == (640, 640)
    assert np.count_nonzero(part_yx) > 0.6 * 400 * 400
    row, column = divmod(int(other_part_yx[0, 0]), 2600)  # all channels are cut at the same place
    assert (image_yx[row : row + 640, column : column + 640] == part_yx).all()
    assert (part_scale.valid_rows, part_scale.valid_columns) == ((0, 640), (0, 640))


@pytest.mark.parametrize("corner", [(0, 0), (0, 700), (700, 0), (700, 700)])
def test_every_edge_of_an_image_may_be_the_part(corner):
    image_yx = np.zeros((959, 959), dtype=np.float32)
    row, column = corner
    image_yx[row + 200 : row + 259, column + 200 : column + 259] = draw_discs(20, side=59)
    [(part_yx, _)] = cut_part([(image_yx, InputScale(0.0, 1.0, (0, 959), (0, 959)))], factor=1.0)
    assert part_yx.shape == (640, 640)
    assert part_yx.sum() == image_yx.sum()


def test_a_small_image_is_looked_at_as_a_whole():
    image_yx = draw_discs(12, side=200)
    scale = InputScale(0.0, 1.0, (7, 200), (0, 150))
    [(part_yx, part_scale)] = cut_part([(image_yx, scale)], factor=2.0)
    assert (part_yx == image_yx).all()
    assert (part_scale.valid_rows, part_scale.valid_columns) == ((7, 200), (0, 150))


def test_a_convincing_size_ends_the_search(monkeypatch):
    tried = []
    monkeypatch.setattr(
        Exact, "forward", lambda self, images, forward=Exact.forward: tried.append(1) or forward(self, images)
    )
    found = look(draw_discs(28), typical_px=20)
    assert len(tried) == 1
    assert found.factor * 28 == pytest.approx(DIAMETER_PX, rel=0.15)


def test_a_crowd_is_measured_by_some_of_its_objects():
    found = look(draw_discs(16, side=400, gap=1.5))
    assert f"({MOST_OBJECTS} measured)" in found.because
    assert found.factor * 16 == pytest.approx(DIAMETER_PX, rel=0.15)
