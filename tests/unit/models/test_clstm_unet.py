"""The two C-LSTM U-Nets of paper 2: size, constants of their frameworks, windows and hidden states."""

import pytest
import torch
from torch import nn

from cellmill.models import clstm_unet_code, clstm_unet_text
from cellmill.models.clstm_unet_code import StridedConv
from cellmill.models.conv_lstm import hard_sigmoid
from cellmill.models.memory import detach_state, reset_state
from cellmill.models.registry import count_parameters

TEXT = {
    "in_channels": 1,
    "out_channels": 2,
    "width": 1,
    "base_channels": 128,
    "lstm_kernel_px": 3,
    "memory": True,
}
CODE = {
    "in_channels": 1,
    "out_channels": 3,
    "width": 1,
    "base_channels": 128,
    "conv_kernel_px": 3,
    "memory": True,
}
BUILDS = {"text": (clstm_unet_text.build, TEXT), "code": (clstm_unet_code.build, CODE)}
both = pytest.mark.parametrize("version", BUILDS)


def build(version, **changes):
    torch.manual_seed(0)
    make, paper = BUILDS[version]
    return make(**{**paper, "width": 1 / 32, **changes})


def settled(version, **changes):
    """Return a network in evaluation mode whose running statistics are not the initial ones."""
    network = build(version, **changes)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 1, 32, 32) + 0.5, None)
    return network.eval()


def test_the_network_of_the_text_has_its_number_of_parameters():
    with torch.device("meta"):
        network = clstm_unet_text.build(**TEXT)
        wide = clstm_unet_text.build(**{**TEXT, "lstm_kernel_px": 5})
    lstms = [count_parameters(block.lstm) for block in network.encoder]
    assert lstms == [594_944, 3_539_968, 14_157_824, 56_627_200]
    assert count_parameters(network) == 128_169_090
    assert count_parameters(wide) == 261_346_434


def test_the_network_of_the_code_has_its_number_of_parameters():
    with torch.device("meta"):
        network = clstm_unet_code.build(**CODE)
        wide = clstm_unet_code.build(**{**CODE, "conv_kernel_px": 5})
    assert sum(count_parameters(block.lstm) for block in network.encoder) == 63_915_008
    assert count_parameters(network) == 74_606_531
    assert count_parameters(wide) == 93_596_099


@both
def test_memory_is_no_matter_of_parameters(version):
    assert count_parameters(build(version, memory=False)) == count_parameters(build(version))


def test_the_code_has_the_constants_of_keras():
    network = build("code")
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    slopes = [module for module in network.modules() if isinstance(module, nn.LeakyReLU)]
    assert len(norms) == len(slopes) == 16
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
    assert all(slope(torch.tensor(-1.0)).item() == pytest.approx(-0.3) for slope in slopes)
    assert {block.lstm.gate for block in network.encoder} == {hard_sigmoid}
    assert {block.lstm.from_input.kernel_size for block in network.encoder} == {(5, 5)}


def test_the_text_has_the_defaults_of_torch():
    network = build("text")
    slopes = [module for module in network.modules() if isinstance(module, nn.LeakyReLU)]
    assert all(slope(torch.tensor(-1.0)).item() == pytest.approx(-0.01) for slope in slopes)
    assert {block.lstm.gate for block in network.encoder} == {torch.sigmoid}
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {None}


@both
def test_forget_gates_start_open(version):
    for block in build(version).encoder:
        biases = block.lstm.from_input.bias.chunk(4)
        assert [bias.unique().tolist() for bias in biases] == [[0.0], [1.0], [0.0], [0.0]]


def test_hidden_to_hidden_kernels_of_the_code_start_orthogonal():
    for block in build("code").encoder:
        rows = block.lstm.from_hidden.weight.flatten(1)
        assert torch.allclose(rows @ rows.T, torch.eye(len(rows)), atol=1e-5)


@both
def test_state_has_one_pair_for_each_level(version):
    images_btcyx = torch.randn(2, 3, 1, 32, 48)
    logits_btcyx, state = build(version)(images_btcyx, None)
    channels = {"text": [4, 8, 16, 32], "code": [4, 8, 8, 16]}[version]
    assert logits_btcyx.shape == (2, 3, BUILDS[version][1]["out_channels"], 32, 48)
    assert [hidden.shape for hidden, _ in state] == [
        (2, channel, 32 // 2**level, 48 // 2**level) for level, channel in enumerate(channels)
    ]
    assert all(hidden.shape == cell.shape for hidden, cell in state)


@both
def test_three_poolings_take_multiples_of_eight(version):
    network = build(version).eval()
    assert network.stride_px == 8
    assert network(torch.randn(1, 2, 1, 24, 24), None)[0].shape[-2:] == (24, 24)


@both
def test_two_windows_of_five_give_what_one_of_ten_gives(version):
    network = settled(version)
    images_btcyx = torch.randn(2, 10, 1, 16, 24)
    with torch.no_grad():
        whole_btcyx, _ = network(images_btcyx, None)
        first_btcyx, state = network(images_btcyx[:, :5], None)
        second_btcyx, _ = network(images_btcyx[:, 5:], detach_state(state))
        forgetful_btcyx, _ = network(images_btcyx[:, 5:], None)
    assert torch.allclose(torch.cat([first_btcyx, second_btcyx], dim=1), whole_btcyx, atol=1e-5)
    assert not torch.allclose(forgetful_btcyx, whole_btcyx[:, 5:], atol=1e-4)


@both
def test_a_fresh_state_forgets_every_sequence_before(version):
    network = settled(version)
    images_btcyx = torch.randn(2, 3, 1, 16, 16)
    with torch.no_grad():
        fresh_btcyx, _ = network(images_btcyx, None)
        _, state = network(100 * torch.randn(2, 3, 1, 16, 16), None)
        again_btcyx, _ = network(images_btcyx, None)
        reset_btcyx, _ = network(images_btcyx, reset_state(state, torch.tensor([True, True])))
        half_btcyx, _ = network(images_btcyx, reset_state(state, torch.tensor([False, True])))
    assert torch.equal(again_btcyx, fresh_btcyx)
    assert torch.allclose(reset_btcyx, fresh_btcyx, atol=1e-6)
    assert torch.allclose(half_btcyx[1], fresh_btcyx[1], atol=1e-5)
    assert not torch.allclose(half_btcyx[0], fresh_btcyx[0], atol=1e-4)


@both
def test_no_gradient_crosses_a_detached_state(version):
    network = build(version).eval()
    first_btcyx = torch.randn(1, 2, 1, 16, 16, requires_grad=True)
    _, state = network(first_btcyx, None)
    network(torch.randn(1, 2, 1, 16, 16), detach_state(state))[0].sum().backward()
    assert first_btcyx.grad is None
    network(torch.randn(1, 2, 1, 16, 16), state)[0].sum().backward()
    assert first_btcyx.grad.abs().max() > 0


@both
def test_the_past_acts_through_memory_only_and_never_the_future(version):
    images_btcyx = torch.randn(1, 4, 1, 16, 16)
    changed_btcyx = images_btcyx.clone()
    changed_btcyx[:, 1] += 1
    for memory in (True, False):
        network = settled(version, memory=memory)
        with torch.no_grad():
            difference_btcyx = network(changed_btcyx, None)[0] - network(images_btcyx, None)[0]
        changes = difference_btcyx.abs().amax(dim=(0, 2, 3, 4))
        assert changes[0] < 1e-6
        assert changes[1] > 1e-3
        assert (changes[2:] > 1e-6).tolist() == [memory, memory]


@both
def test_without_memory_the_state_of_before_is_not_used(version):
    network = settled(version, memory=False)
    images_btcyx = torch.randn(1, 2, 1, 16, 16)
    with torch.no_grad():
        logits_btcyx, state = network(images_btcyx, None)
        assert torch.equal(network(images_btcyx, state)[0], logits_btcyx)


@both
def test_batch_normalisation_sees_the_whole_window_at_once(version):
    network = build(version)
    norm = network.decoder[0][0][1]
    given = []
    norm.register_forward_hook(lambda module, values, result: given.append(values[0]))
    with torch.no_grad():
        network(torch.randn(2, 3, 1, 16, 16), None)
    assert [len(frames_bcyx) for frames_bcyx in given] == [6]
    assert norm.num_batches_tracked == 1


@both
def test_a_network_without_batch_norm_statistics_of_others_gives_a_sequence_alone(version):
    network = settled(version)
    images_btcyx = torch.randn(3, 3, 1, 16, 16)
    images_btcyx[1] *= 50
    with torch.no_grad():
        together_btcyx = network(images_btcyx, None)[0]
        assert torch.allclose(together_btcyx[:1], network(images_btcyx[:1], None)[0], atol=1e-5)


@pytest.mark.parametrize(("kernel_px", "first"), [(3, 0), (5, -1)])
def test_strided_convolutions_lie_as_in_keras(kernel_px, first):
    # SOURCE Keras, padding "same" with stride 2 on an even size: kernel - 2 zeros, the odd one at the end
    conv = StridedConv(1, 1, kernel_px)
    image_bcyx = torch.zeros(1, 1, 12, 12, requires_grad=True)
    (gradient_bcyx,) = torch.autograd.grad(conv(image_bcyx)[0, 0, 2, 2], image_bcyx)
    rows = torch.nonzero(gradient_bcyx[0, 0].abs().sum(dim=1)).flatten().tolist()
    assert rows == list(range(4 + first, 4 + first + kernel_px))
    assert conv(image_bcyx).shape == (1, 1, 6, 6)


def test_skips_of_the_code_are_the_inputs_of_its_blocks():
    # The last decoder block takes 64 channels from below and the image itself as input.
    with torch.device("meta"):
        network = clstm_unet_code.build(**CODE)
    inputs = [block[0][0].in_channels for block in reversed(network.decoder)]
    assert inputs == [512 + 256, 256 + 256, 128 + 128, 64 + 1]


def test_skips_of_the_text_are_the_outputs_of_its_blocks():
    with torch.device("meta"):
        network = clstm_unet_text.build(**TEXT)
    inputs = [block[0][0].in_channels for block in reversed(network.decoder)]
    assert inputs == [1024 + 1024, 1024 + 512, 512 + 256, 256 + 128]
