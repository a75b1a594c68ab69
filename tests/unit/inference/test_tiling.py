"""Tiles cover every pixel once and yield the prediction of the whole image."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cellmill.inference.normalise import measure_input
from cellmill.inference.tiling import blend_px, plan_spans, predict_bands, predict_tiled
from cellmill.inference.views import View
from cellmill.models.registry import build_network
from cellmill.preprocessing.geometry import plan_fit

LEVELS = 2  # receptive field of 44 px, at most 23 px to one side


@pytest.fixture(scope="module")
def network():
    """Network whose running statistics are not the initial ones."""
    torch.manual_seed(1)
    network = build_network(
        {
            "architecture": "unet",
            "in_channels": 1,
            "base_channels": 4,
            "levels": LEVELS,
            "norm": "batch",
            "dropout": 0,
            "film": 0,
            "output": "foreground",
            "width": 1,
        }
    )
    for _ in range(20):
        network(torch.randn(4, 1, 32, 32) * 2 + 1)
    with torch.no_grad():
        network.head.weight *= 10  # logits as large as those of a trained network
    return network.eval()


def predict(network, image_yx, *, tile, batch=1):
    return predict_tiled(
        network,
        view_of(image_yx),
        tile=tile,
        batch=batch,
        device=torch.device("cpu"),
        finish=torch.Tensor.float,
    )


def view_of(image_yx):
    geometry = plan_fit(image_yx.shape, mode="none", size=None)
    return View(
        ((image_yx, measure_input(image_yx, geometry=geometry, normalise="zscore", polarity="keep", min_contrast=0.0)),)
    )


def image_of(shape):
    image_yx = np.random.default_rng(2).normal(500, 30, shape).astype(np.float32)
    image_yx.setflags(write=False)
    return image_yx


@pytest.mark.parametrize("size", [1, 15, 16, 17, 160, 161, 1000])
@pytest.mark.parametrize("tile", [16, 48, 100, 4096])
def test_cores_cover_an_axis_once_and_keep_their_halo(size, tile):
    spans = plan_spans(size, tile=tile, stride_px=16, halo_px=107)
    covered = [pixel for span in spans for pixel in range(span.core_start, span.core_stop)]
    assert covered == list(range(size))
    padded = -(-size // 16) * 16
    assert len({span.length for span in spans}) == 1
    for span in spans:
        assert span.start % 16 == 0
        assert span.start >= 0
        assert span.start + span.length <= padded
        assert span.core_stop - span.core_start <= -(-tile // 16) * 16
        assert span.start <= max(0, span.core_start - 107)
        assert span.start + span.length >= min(padded, span.core_stop + 107)


def test_an_image_up_to_the_tile_is_one_tile():
    assert len(plan_spans(512, tile=512, stride_px=16, halo_px=107)) == 1


def test_memory_of_a_tile_does_not_grow_with_the_image():
    lengths = [plan_spans(size, tile=256, stride_px=16, halo_px=107)[0].length for size in (2_000, 200_000)]
    assert lengths[0] <= 256 + 2 * 112
    assert lengths[1] <= 256 + 2 * 112


@pytest.mark.parametrize("shape", [(150, 211), (64, 300)])
@pytest.mark.parametrize(("tile", "batch"), [((32, 32), 1), ((48, 64), 3)])
def test_tiles_give_what_the_whole_image_gives(network, shape, tile, batch):
    whole_cyx = predict(network, image_of(shape), tile=(4096, 4096))
    tiled_cyx = predict(network, image_of(shape), tile=tile, batch=batch)
    assert whole_cyx.std() > 0.1
    assert np.abs(tiled_cyx - whole_cyx).max() < 1e-4


def test_without_a_halo_they_would_not(network, monkeypatch):
    monkeypatch.setattr(network, "halo_px", 4)
    whole_cyx = predict(network, image_of((150, 211)), tile=(4096, 4096))
    tiled_cyx = predict(network, image_of((150, 211)), tile=(32, 32))
    assert np.abs(tiled_cyx - whole_cyx).max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (5, 7), (16, 16), (33, 65)])
def test_output_has_the_shape_of_the_image(network, shape):
    predicted_cyx = predict(network, image_of(shape), tile=(16, 16))
    assert predicted_cyx.shape == (1, *shape)
    assert np.isfinite(predicted_cyx).all()


def test_far_from_the_border_a_crop_is_predicted_as_in_its_image(network):
    image_yx = image_of((160, 160))
    ((_, scale),) = view_of(image_yx).frames
    crop = View(((image_yx[32:160, 16:144], replace(scale, valid_rows=(0, 128), valid_columns=(0, 128))),))
    given = {"tile": (512, 512), "batch": 1, "device": torch.device("cpu"), "finish": torch.Tensor.float}
    whole_cyx = predict_tiled(network, view_of(image_yx), **given)
    crop_cyx = predict_tiled(network, crop, **given)
    inner_cyx = whole_cyx[:, 32 + 24 : 160 - 24, 16 + 24 : 144 - 24]
    assert np.abs(crop_cyx[:, 24:-24, 24:-24] - inner_cyx).max() < 1e-4


def norm_network(norm):
    torch.manual_seed(1)
    settings = {
        "architecture": "unet", "in_channels": 1, "base_channels": 4, "levels": LEVELS, "norm": norm, "dropout": 0,
        "film": 0, "output": "foreground", "width": 1,
    }  # fmt: skip
    return build_network(settings).eval()


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("tile", [(32, 32), (48, 400)])
def test_bands_are_the_image_from_top_to_bottom(norm, tile):
    network, image_yx = norm_network(norm), image_of((150, 211))
    given = {"tile": tile, "batch": 2, "device": torch.device("cpu"), "finish": torch.Tensor.float}
    bands = list(predict_bands(network, view_of(image_yx), **given))
    assert len(bands) > 2
    assert np.array_equal(np.concatenate(bands, axis=1), predict_tiled(network, view_of(image_yx), **given))
    assert np.concatenate(bands, axis=1).shape == (1, 150, 211)


@pytest.mark.parametrize("shape", [(150, 211), (33, 90), (16, 500)])
@pytest.mark.parametrize("tile", [16, 40, 64])
def test_weights_of_blended_tiles_add_up_to_one(shape, tile):
    class Ones(torch.nn.Module):
        stride_px, halo_px, is_recurrent = 4, 20, False

        def __init__(self):
            super().__init__()
            self.norm = torch.nn.GroupNorm(1, 1)  # networks with this norm are blended

        def forward(self, images):
            return torch.ones_like(images)

    assert blend_px(Ones()) == 10
    predicted_cyx = predict(Ones(), image_of(shape), tile=(tile, tile))
    assert np.abs(predicted_cyx - 1).max() < 1e-6
    given = {"tile": (tile, tile), "batch": 1, "device": torch.device("cpu"), "finish": torch.Tensor.half}
    halves_cyx = predict_tiled(Ones(), view_of(image_of(shape)), **given)
    assert halves_cyx.dtype == np.float16
    assert (halves_cyx == 1).all()  # a probability above 1 would be refused


def test_blending_takes_the_steps_out_of_seams(monkeypatch):
    network = norm_network("instance")
    image_yx = np.tile(np.linspace(0, 400, 400, dtype=np.float32), (64, 1))  # the mean differs between windows
    blended_cyx = predict(network, image_yx, tile=(64, 64))
    monkeypatch.setattr("cellmill.inference.tiling.blend_px", lambda network: 0)
    cut_cyx = predict(network, image_yx, tile=(64, 64))
    whole_cyx = predict(network, image_yx, tile=(64, 4096))
    seams = [span.core_start for span in plan_spans(400, tile=64, stride_px=4, halo_px=network.halo_px)][1:]

    def step(predicted_cyx):
        excess = np.diff((predicted_cyx - whole_cyx).mean(axis=(0, 1)))
        return np.abs(excess[[seam - 1 for seam in seams]]).mean()

    assert step(blended_cyx) < 0.6 * step(cut_cyx)


def test_networks_that_equal_the_whole_image_are_not_blended(network):
    assert blend_px(network) == 0
    assert blend_px(norm_network("none")) == 0
    assert blend_px(norm_network("group")) > 0


@pytest.mark.parametrize(("fits", "asked"), [(1, 4), (3, 6), (2, 2)])
def test_out_of_memory_halves_the_batch_and_says_so(network, caplog, fits, asked):
    sizes = []

    class Small(torch.nn.Module):
        stride_px, halo_px, is_recurrent = network.stride_px, network.halo_px, False

        def forward(self, images):
            sizes.append(len(images))
            if len(images) > fits:
                raise torch.OutOfMemoryError("no room")
            return network(images)

    image_yx = image_of((150, 211))
    predicted_cyx = predict(Small(), image_yx, tile=(32, 32), batch=asked)
    assert np.abs(predicted_cyx - predict(network, image_yx, tile=(32, 32))).max() < 1e-5
    assert asked <= fits or sizes.count(asked) == 1  # the size that failed is not tried again
    assert ("out of memory" in caplog.text) == (asked > fits)


def test_a_tile_beyond_memory_is_an_error_with_the_key(network):
    class Full(torch.nn.Module):
        stride_px, halo_px, is_recurrent = network.stride_px, network.halo_px, False

        def forward(self, images):
            raise torch.OutOfMemoryError("no room")

    with pytest.raises(MemoryError, match=r"predict\.tile: expected a tile .* found no room\. Halve predict\.tile"):
        predict(Full(), image_of((40, 40)), tile=(32, 32), batch=4)
