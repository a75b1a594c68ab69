"""Receptive fields: counted from the layers, confirmed by gradients, and what follows from them."""

import pytest
import torch
from torch import nn

from cellmill.models import clstm_unet_code, clstm_unet_text, fcrn, segnet, stemnet, unet, unet_isbi
from cellmill.models.receptive_field import (
    POOL,
    Join,
    Keep,
    Upsample,
    Window,
    convolution,
    measure_receptive_field,
    measure_stride,
    trace_back,
)

SMALL = {"in_channels": 1, "out_channels": 2, "width": 1}
STEMNET = {**SMALL, "base_channels": 4, "levels": 3, "kernel_px": 5, "dropout": 0.25, "relu_logits": False}
FCRN = {**SMALL, "base_channels": 8, "norm": "none", "init": "he", "upsampling": "nearest", "head_kernel_px": 1}
UNET = {**SMALL, "base_channels": 4, "levels": 2, "norm": "batch", "dropout": 0, "film": 0}
UNET_ISBI = {**SMALL, "base_channels": 4, "levels": 4, "dropout": 0.5}
TEXT = {**SMALL, "base_channels": 2, "lstm_kernel_px": 3, "memory": True}
CODE = {**SMALL, "base_channels": 4, "conv_kernel_px": 3, "memory": True}

FEED_FORWARD = {
    "stemnet": (stemnet, STEMNET),
    "stemnet of 3x3": (stemnet, {**STEMNET, "levels": 4, "kernel_px": 3}),
    "unet": (unet, UNET),
    "unet_isbi": (unet_isbi, UNET_ISBI),
    "unet_isbi of three levels": (unet_isbi, {**UNET_ISBI, "levels": 3}),
    "segnet": (segnet, {**SMALL, "base_channels": 4, "norm": "batch"}),
    "fcrn": (fcrn, FCRN),
    "fcrn with norm": (fcrn, {**FCRN, "norm": "batch"}),
    "fcrn with a wide head": (fcrn, {**FCRN, "head_kernel_px": 3}),
    "fcrn bilinear": (fcrn, {**FCRN, "upsampling": "bilinear"}),
    "fcrn bilinear with a wide head": (fcrn, {**FCRN, "upsampling": "bilinear", "head_kernel_px": 3}),
}
RECURRENT = {
    "clstm_unet_text": (clstm_unet_text, TEXT),
    "clstm_unet_text of 5x5": (clstm_unet_text, {**TEXT, "lstm_kernel_px": 5}),
    "clstm_unet_code": (clstm_unet_code, CODE),
    "clstm_unet_code of 5x5": (clstm_unet_code, {**CODE, "conv_kernel_px": 5}),
}
ALL = {**FEED_FORWARD, **RECURRENT}


def build(name, *, seed=0):
    torch.manual_seed(seed)
    module, keywords = ALL[name]
    return module.build(**keywords)


def run(network, images_bcyx):
    """Return the logits of images; for a recurrent network each is a sequence of one frame."""
    if network.is_recurrent:
        return network(images_bcyx[:, None], None)[0][:, 0]
    return network(images_bcyx)


def open_all_paths(network, monkeypatch):
    """Make every pixel of the receptive field contribute: positive weights, means in place of maxima."""
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.MaxPool2d):
            network.set_submodule(name, nn.AvgPool2d(2))
    monkeypatch.setattr(segnet, "pool", lambda values: (nn.functional.avg_pool2d(values, 2), None))
    monkeypatch.setattr(segnet, "unpool", lambda values, places, *, size: nn.functional.interpolate(values, size=size))
    return network.double().eval()


def measure_support(network):
    """Return (pixel, first row, last row) of the input of each of stride_px neighbouring pixels, from gradients."""
    stride = network.stride_px
    size = 2 * (network.halo_px + 2 * stride)
    size += -size % stride
    centre = size // 2 - size // 2 % stride
    # Columns add no information, so that a narrow image suffices.
    image_bcyx = torch.ones(1, 1, size, stride, dtype=torch.float64, requires_grad=True)
    logits_y = run(network, image_bcyx).sum(dim=(0, 1, 3))
    support = []
    for pixel in range(centre, centre + stride):
        (gradient_bcyx,) = torch.autograd.grad(logits_y[pixel], image_bcyx, retain_graph=True)
        rows = torch.nonzero(gradient_bcyx.sum(dim=(0, 1, 3))).flatten()
        support.append((pixel, int(rows[0]), int(rows[-1])))
    assert min(first for _, first, _ in support) > 0
    assert max(last for _, _, last in support) < size - 1
    return support


@pytest.mark.parametrize("name", ALL)
def test_the_receptive_field_is_the_support_of_the_gradient(name, monkeypatch):
    network = open_all_paths(build(name), monkeypatch)
    support = measure_support(network)
    assert network.receptive_field_px == max(last - first + 1 for _, first, last in support)
    assert network.halo_px == max(max(pixel - first, last - pixel) for pixel, first, last in support)


def test_fcrn_sees_54_px_and_46_at_two_places_of_eight(monkeypatch):
    support = measure_support(open_all_paths(build("fcrn"), monkeypatch))
    assert sorted(last - first + 1 for _, first, last in support) == [46] * 2 + [54] * 6


def test_the_layer_of_512_channels_of_fcrn_sees_38_px(monkeypatch):
    # SOURCE paper 5: layer by layer the receptive field is 3, 4, 8, 10, 18, 22, 38
    layers = fcrn.list_layers(is_bilinear=False, head_kernel_px=1)
    views = [trace_back(layers[:count], pixel=0) for count in range(1, 8)]
    assert [last - first + 1 for first, last in views] == [3, 4, 8, 10, 18, 22, 38]
    network = open_all_paths(build("fcrn"), monkeypatch)
    image_bcyx = torch.ones(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    features_bcyx = network.encoder[0](image_bcyx)
    for stage in network.encoder[1:]:
        features_bcyx = stage(network.pool(features_bcyx))
    (gradient_bcyx,) = torch.autograd.grad(features_bcyx[0, 0, 4, 4], image_bcyx)
    assert int((gradient_bcyx[0, 0].sum(dim=0) != 0).sum()) == 38


def test_the_numbers_of_the_papers():
    assert build("stemnet").receptive_field_px == 84
    assert build("fcrn").receptive_field_px == 54
    layers = unet.list_layers(4)
    extents = [last - first + 1 for first, last in (trace_back(layers, pixel=pixel) for pixel in range(16))]
    assert (min(extents), max(extents)) == (188, 204)


def test_bilinear_upsampling_sees_more_than_repetition():
    assert build("fcrn bilinear").receptive_field_px > build("fcrn").receptive_field_px


def test_strides_are_what_poolings_leave():
    strides = {name: build(name).stride_px for name in ALL}
    assert strides["stemnet"] == strides["unet"] == 4
    assert strides["unet_isbi"] == 16
    assert strides["segnet"] == 32
    assert {strides[name] for name in ALL if name.startswith(("fcrn", "clstm"))} == {8}


def test_layers_by_hand():
    assert trace_back([convolution(5)], pixel=10) == (8, 12)
    assert trace_back([POOL], pixel=10) == (20, 21)
    assert trace_back([Window(before_px=0, after_px=1)], pixel=10) == (10, 11)
    assert [trace_back([Upsample(is_bilinear=False)], pixel=pixel) for pixel in (10, 11)] == [(5, 5), (5, 5)]
    assert [trace_back([Upsample(is_bilinear=True)], pixel=pixel) for pixel in (10, 11)] == [(4, 5), (5, 6)]


def test_a_skip_connection_can_see_more_than_the_path_below():
    layers = [convolution(3), Keep(0), POOL, Upsample(is_bilinear=False), Join(0)]
    assert trace_back(layers, pixel=4) == (3, 6)
    assert trace_back([*layers, Window(before_px=0, after_px=1)], pixel=5) == (3, 8)
    assert trace_back([Keep(0), Window(before_px=3, after_px=-3), Join(0)], pixel=5) == (2, 5)


def test_the_stride_is_that_of_the_deepest_layer():
    up = Upsample(is_bilinear=False)
    assert measure_stride([convolution(3)]) == 1
    assert measure_stride([POOL, POOL, up, POOL, up, up]) == 4


def test_extent_and_reach_are_those_of_the_worst_place():
    # Pixels 0 and 1 both depend on pixels -1 to 2: an extent of 4, at most 2 px away.
    layers = [convolution(3), POOL, Upsample(is_bilinear=False)]
    assert measure_receptive_field(layers) == (4, 2)


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_a_crop_is_predicted_as_in_its_image(name):
    network = build(name, seed=1)
    stride, halo = network.stride_px, network.halo_px
    side = 2 * halo + 3 * stride
    side += -side % stride
    image_bcyx = torch.randn(1, 1, side + 3 * stride, side + 2 * stride)
    crop = (slice(None), slice(None), slice(2 * stride, 2 * stride + side), slice(stride, stride + side))
    inner = (slice(None), slice(None), slice(halo, side - halo), slice(halo, side - halo))
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 1, 64, 64))
        network.eval()
        whole_bcyx, crop_bcyx = network(image_bcyx), network(image_bcyx[crop])
    same_bcyx = whole_bcyx[crop][inner]
    assert same_bcyx.std() > 0.01
    assert (crop_bcyx[inner] - same_bcyx).abs().max() < 1e-4
    assert (crop_bcyx - whole_bcyx[crop]).abs().max() > 1e-3  # zeros around the crop affect its halo


@pytest.mark.parametrize("name", ALL)
def test_in_evaluation_an_image_does_not_depend_on_its_companions(name):
    network = build(name).double()
    images_bcyx = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    images_bcyx[1] *= 100
    with torch.no_grad():
        run(network, images_bcyx)
        network.eval()
        # In double precision, because the grouping of sums depends on the batch.
        assert torch.allclose(run(network, images_bcyx)[:1], run(network, images_bcyx[:1]), atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_training_is_deterministic_on_the_cpu(name):
    # Operations that are not deterministic raise an error here.
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            network = build(name)
            run(network, torch.randn(2, 1, 32, 32)).square().sum().backward()
            gradients.append([weights.grad for weights in network.parameters() if weights.grad is not None])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ALL)
def test_every_weight_is_used(name):
    network = build(name).eval()
    images_bcyx = torch.randn(2, 2, 1, 32, 32)
    if network.is_recurrent:
        network(images_bcyx, None)[0].square().sum().backward()
    else:
        network(images_bcyx[:, 0]).square().sum().backward()
    assert all(weights.grad is not None for weights in network.parameters())


@pytest.mark.parametrize("name", ALL)
def test_logits_have_the_size_of_the_image(name):
    assert run(build(name).eval(), torch.zeros(2, 1, 64, 32)).shape == (2, 2, 64, 32)


@pytest.mark.parametrize("name", ALL)
def test_a_tiny_width_leaves_at_least_one_channel(name):
    module, keywords = ALL[name]
    network = module.build(**{**keywords, "width": 1e-6})
    assert run(network.eval(), torch.zeros(1, 1, 32, 32)).shape == (1, 2, 32, 32)
    assert {conv.out_channels for conv in network.modules() if isinstance(conv, nn.Conv2d)} <= {1, 2, 4}
