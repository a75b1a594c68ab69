"""The U-Net of paper 4: size, receptive field, norms, class input after the norm, weights files."""

import zipfile

import numpy as np
import pytest
import torch

from cellmill.config.networks import network_settings
from cellmill.models.layers import make_norm
from cellmill.models.receptive_field import measure_receptive_field
from cellmill.models.registry import build_network, count_parameters
from cellmill.models.unet import list_layers
from cellmill.models.weights import load_weights, read_weights, write_weights
from training_shards import tiny_preset

PAPER = {
    "architecture": "unet",
    "in_channels": 1,
    "base_channels": 32,
    "levels": 4,
    "norm": "batch",
    "dropout": 0,
    "film": 0,
    "output": "foreground",
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
    # Positive weights and positive features, so that no rectifier and no pooling hides a path permanently.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0.1)
    stride, size = 2**levels, 4 * measure_receptive_field(list_layers(levels))[1]
    size += -size % stride
    centre = size // 2 - size // 2 % stride
    extents, reaches = set(), set()
    for pixel in range(centre, centre + stride):
        seen = set()
        # Which of four equal pixels a pooling takes is undefined, so several images are used.
        for seed in range(6):
            image = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed)).requires_grad_()
            network(image)[0, 0, pixel, pixel].backward()
            seen |= set(torch.nonzero(image.grad[0, 0].abs().sum(dim=1)).flatten().tolist())
        extents.add(max(seen) - min(seen) + 1)
        reaches |= {pixel - min(seen), max(seen) - pixel}
    assert (max(extents), max(reaches)) == measure_receptive_field(list_layers(levels))


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
    assert count_parameters(build_network(network_settings(settings))) == 7_765_409


@pytest.mark.parametrize("norm", ["batch", "group", "instance", "none"])
@pytest.mark.parametrize("film", [0, 3])
def test_every_norm_takes_images_of_one_pixel_in_the_depth(norm, film):
    network = build(width=1 / 16, norm=norm, film=film, in_channels=4).eval()
    assert torch.isfinite(network(torch.randn(1, 4, 16, 16))).all()


@pytest.mark.parametrize(("channels", "groups"), [(32, 8), (12, 6), (7, 7), (11, 1), (1, 1)])
def test_groups_are_up_to_eight_and_divide_the_channels(channels, groups):
    assert make_norm("group", channels).num_groups == groups


def test_group_and_instance_norm_have_mean_0_and_variance_1_over_their_channels():
    features_bcyx = 5 * torch.randn(2, 16, 8, 8) + 3
    for name, groups in (("group", 8), ("instance", 16)):
        grouped = make_norm(name, 16)(features_bcyx).unflatten(1, (groups, -1)).flatten(2)
        assert torch.allclose(grouped.mean(dim=2), torch.zeros(2, groups), atol=1e-5)
        assert torch.allclose(grouped.var(dim=2, unbiased=False), torch.ones(2, groups), atol=1e-3)


@pytest.mark.parametrize("norm", ["group", "instance"])
def test_with_group_or_instance_norm_companions_do_not_matter_in_training_either(norm):
    network = build(width=1 / 8, norm=norm).train()
    images = torch.randn(3, 1, 64, 64)
    images[1] *= 100
    assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-4)


def test_an_unknown_norm_is_refused():
    with pytest.raises(AssertionError, match="layer"):
        build(norm="layer")


def with_class(images_byx, number, *, classes=3):
    """Return images with their class planes: ones in the plane of the class, zeros in the others."""
    planes_bcyx = torch.zeros(len(images_byx), classes, *images_byx.shape[1:])
    if number is not None:
        planes_bcyx[:, number] = 1
    return torch.cat([images_byx[:, None], planes_bcyx], dim=1)


def normed(network, images_bcyx):
    """Return the output of the first norm (with film, after its gain and offset)."""
    block = network.encoder[0]
    if not network.film:
        return block.norm1(block.conv1(images_bcyx))
    kept = []
    hook = block.film1.register_forward_hook(lambda module, given, result: kept.append(result))
    network(images_bcyx)
    hook.remove()
    return kept[0]


def with_offset(**changes):
    """Return a U-Net whose first convolution adds eleven standard deviations where the second class plane is 1."""
    network = build(width=1 / 8, levels=1, in_channels=4, **changes)
    with torch.no_grad():
        conv = network.encoder[0].conv1
        # With noise of variance 1 as input, the standard deviation of a channel is the norm of its kernel.
        spread_c = conv.weight[:, 0].flatten(1).norm(dim=1)
        conv.weight[:, 1:] = 0
        conv.weight[:, 2] = (11 * spread_c / 9)[:, None, None]
    return network


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_batch_norm_takes_the_offset_of_a_shared_class_away_in_training_but_not_in_evaluation(padding_mode):
    # SOURCE paper 4, section C3: one-hot planes of the cell type beside the image
    network = with_offset()
    network.encoder[0].conv1.padding_mode = padding_mode
    images_byx = torch.randn(2, 512, 512)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    with torch.no_grad():
        shift_bcyx = normed(network, with_class(images_byx, 1)) - normed(network, with_class(images_byx, 0))
        shift_c = shift_bcyx[inner].mean(dim=(0, 2, 3)).abs()
        assert shift_c.max() <= (0.15 if padding_mode == "zeros" else 1e-4)
        network.encoder[0].norm1.reset_running_stats()
        normed(network, with_class(images_byx, 0))
        network.eval()
        shift_bcyx = normed(network, with_class(images_byx, 1)) - normed(network, with_class(images_byx, 0))
    assert torch.allclose(shift_bcyx[inner].mean(dim=(0, 2, 3)), torch.tensor(11.0), rtol=0.02)


def test_an_offset_behind_the_norm_survives_training_and_evaluation():
    network = build(width=1 / 8, levels=1, in_channels=4, film=3)
    with torch.no_grad():
        network.encoder[0].film1.offset_kc[1] = 11
        images_byx = torch.randn(2, 64, 64)
        for _ in range(2):
            shift_bcyx = normed(network, with_class(images_byx, 1)) - normed(network, with_class(images_byx, 0))
            assert torch.allclose(shift_bcyx, torch.tensor(11.0), atol=1e-3)
            network.eval()


def test_gain_and_offset_of_a_class_by_hand():
    network = build(width=1 / 8, levels=1, in_channels=4, film=3)
    with torch.no_grad():
        film = network.encoder[0].film1
        film.gain_kc[2], film.offset_kc[2] = torch.arange(4) / 4, -torch.arange(4.0)
        images_byx = torch.randn(1, 16, 16)
        plain_cyx = normed(network, with_class(images_byx, None))[0]
        of_class_cyx = normed(network, with_class(images_byx, 2))[0]
    for channel in range(4):
        expected_yx = (1 + channel / 4) * plain_cyx[channel] - channel
        assert torch.allclose(of_class_cyx[channel], expected_yx, atol=1e-5)


def test_each_image_of_a_batch_gets_its_own_class():
    network = build(width=1 / 8, levels=1, in_channels=4, film=3).eval()
    for name, weights in network.named_parameters():
        if "film" in name:
            torch.nn.init.normal_(weights)
    images_bcyx = torch.cat([with_class(torch.randn(1, 32, 32), number) for number in (0, 1, 2)])
    together_bcyx = network(images_bcyx)
    for place in range(3):
        assert torch.allclose(together_bcyx[place], network(images_bcyx[place : place + 1])[0], atol=1e-5)


def test_before_training_classes_behind_the_norm_change_nothing():
    plain, filmed = build(width=1 / 8), build(width=1 / 8, in_channels=4, film=3)
    images_byx = torch.randn(2, 32, 32)
    assert torch.equal(filmed(with_class(images_byx, 1)), plain(images_byx[:, None]))


def test_classes_behind_the_norm_add_a_gain_and_an_offset_to_each_normed_channel():
    # Two convolutions in each of the nine blocks; the first one takes only the image as input.
    channels = 2 * (2 * (32 + 64 + 128 + 256) + 512)
    assert count_parameters(build(in_channels=4, film=3)) == 7_765_409 + 3 * 2 * channels


def test_without_classes_behind_the_norm_the_weights_have_the_names_they_always_had():
    names = set(build(width=1 / 16, levels=1).state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    block = [f"conv{i}.{name}" for i in (1, 2) for name in ("weight", "bias")]
    block += [f"norm{i}.{name}" for i in (1, 2) for name in norm]
    expected = {f"{part}.{name}" for part in ("encoder.0", "bottleneck", "decoder.0") for name in block}
    assert names == expected | {f"{part}.{name}" for part in ("up.0", "head") for name in ("weight", "bias")}


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
