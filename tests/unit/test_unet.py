"""The U-Net of paper 4: size, receptive field, independence of the images of a batch; weights files."""

import zipfile

import numpy as np
import pytest
import torch
from training_shards import tiny_preset

from cellmill.models import build_network, count_parameters, load_weights, read_weights, write_weights
from cellmill.models.unet import measure_receptive_field

PAPER = {
    "architecture": "unet",
    "in_channels": 1,
    "base_channels": 32,
    "levels": 4,
    "norm": "batch",
    "dropout": 0,
    "out_channels": 1,
    "width": 1,
}


def build(**changes):
    torch.manual_seed(0)
    return build_network({**PAPER, **changes})


def write_file(path, network):
    write_weights(path, network=PAPER, input={"normalise": "zscore"}, state_dict=network.state_dict())


def test_the_network_of_paper_4_has_its_number_of_parameters():
    # SOURCE counted layer by layer: convolutions with biases, norms, transposed convolutions, head
    def block(i, o):
        return (9 * i * o + o) + (9 * o * o + o) + 2 * 2 * o

    channels = [32, 64, 128, 256, 512]
    encoder = sum(block(i, o) for i, o in zip([1, *channels], channels, strict=False))
    decoder = sum((4 * 2 * o * o + o) + block(2 * o, o) for o in channels[:-1])
    assert encoder + decoder + 33 == 7_765_409
    assert count_parameters(build()) == 7_765_409


def test_class_planes_add_one_filter_plane_each():
    assert count_parameters(build(in_channels=4)) == 7_766_273


def test_width_multiplies_the_channels_of_every_level():
    quarter = build(width=0.25)
    assert [block.conv1.out_channels for block in quarter.encoder] == [8, 16, 32, 64]
    assert quarter.bottleneck.conv1.out_channels == 128


def test_a_tiny_width_leaves_at_least_one_channel():
    assert build(width=1e-6).head.in_channels == 1


def test_output_has_the_shape_of_the_input():
    assert build(width=1 / 16)(torch.zeros(2, 1, 48, 32)).shape == (2, 1, 48, 32)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_receptive_field_is_the_support_of_the_gradient(levels):
    network = build(levels=levels, norm="none", width=1 / 16)
    # Positive weights and positive features: no rectifier and no pooling hides a path for good.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    stride, size = 2**levels, 4 * measure_receptive_field(levels)[1]
    size += -size % stride
    centre = size // 2 - size // 2 % stride
    extents, reaches = set(), set()
    for pixel in range(centre, centre + stride):
        seen = set()
        # Which of four equal pixels a pooling takes is not ours to know: look with several images.
        for seed in range(6):
            image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed)).requires_grad_()
            network(image)[0, 0, pixel, pixel].backward()
            seen |= set(torch.nonzero(image.grad[0, 0].abs().sum(dim=1)).flatten().tolist())
        extents.add(max(seen) - min(seen) + 1)
        reaches |= {pixel - min(seen), max(seen) - pixel}
    assert (max(extents), max(reaches)) == measure_receptive_field(levels)


def test_the_receptive_field_of_paper_4_is_that_of_its_specification():
    network = build(width=1 / 16)
    assert network.receptive_field_px == 204
    assert network.halo_px < 204


def test_in_evaluation_an_image_does_not_depend_on_its_companions():
    network = build(width=1 / 8)
    network(torch.randn(4, 1, 64, 64))
    network.eval()
    images = torch.randn(3, 1, 64, 64)
    images[1] *= 100
    alone = network(images[:1])
    assert torch.allclose(network(images)[:1], alone, atol=1e-5)


def test_in_training_an_image_does_depend_on_its_companions():
    network = build(width=1 / 8).train()
    images = torch.randn(3, 1, 64, 64)
    images[1] *= 100
    assert not torch.allclose(network(images)[:1], network(images[:1]), atol=1e-3)


def test_dropout_drops_in_training_only():
    network = build(width=1 / 16, dropout=0.25)
    zeros = (network.encoder[0].dropout(torch.ones(200_000)) == 0).float().mean()
    assert zeros == pytest.approx(0.25, abs=0.01)
    network.eval()
    images = torch.randn(1, 1, 32, 32)
    assert torch.equal(network(images), network(images))


def test_dropout_leaves_the_names_of_the_weights():
    assert set(build(dropout=0.2).state_dict()) == set(build().state_dict())


def test_the_same_seed_gives_the_same_weights():
    first, second = build(width=1 / 16), build(width=1 / 16)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_the_preset_describes_the_network_of_paper_4():
    settings = tiny_preset(width=1, network={"levels": 4})
    assert count_parameters(build_network({**settings["network"], "width": settings["width"]})) == 7_765_409


def test_weights_survive_the_file(tmp_path):
    network = build(width=1 / 16)
    write_file(tmp_path / "weights.pt", network)
    contents = read_weights(tmp_path / "weights.pt")
    assert contents["network"] == PAPER
    assert all(torch.equal(contents["state_dict"][name], value) for name, value in network.state_dict().items())


def test_the_bytes_of_a_weights_file_do_not_depend_on_its_name(tmp_path):
    for name in ("one.pt", "another.pt.partial-17"):
        write_file(tmp_path / name, build(width=1 / 16))
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another.pt.partial-17").read_bytes()


def test_weights_are_read_from_an_exported_model(tmp_path):
    network = build(width=1 / 16)
    write_file(tmp_path / "weights.pt", network)
    with zipfile.ZipFile(tmp_path / "a.cellmill", "w") as archive:
        archive.write(tmp_path / "weights.pt", "weights.pt")
        archive.writestr("model.json", "{}")
    contents = read_weights(tmp_path / "a.cellmill")
    assert set(contents["state_dict"]) == set(network.state_dict())


@pytest.mark.parametrize("content", [b"", b"not a weights file"])
def test_what_is_no_weights_file_is_named(tmp_path, content):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt: expected a weights file of cellmill.*exported"):
        read_weights(tmp_path / "weights.pt")


def test_a_torch_file_of_another_kind_is_named(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="found no network, input"):
        read_weights(tmp_path / "weights.pt")


def test_a_weights_file_runs_no_code_of_a_stranger(tmp_path):
    torch.save({"state_dict": np.random.default_rng}, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="torch cannot load"):
        read_weights(tmp_path / "weights.pt")


def test_weights_of_another_width_are_refused_with_the_differences():
    with pytest.raises(ValueError, match=r"old\.pt: expected the weights of the same network.*conv1\.weight has"):
        load_weights(build(width=1 / 16), build(width=1 / 8).state_dict(), source="old.pt")


def test_weights_of_another_depth_are_refused_with_the_differences():
    with pytest.raises(ValueError, match=r"is not part of this network.*and \d+ more"):
        load_weights(build(levels=2), build(levels=3).state_dict(), source="old.pt")
