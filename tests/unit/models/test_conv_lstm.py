"""The convolutional LSTM: computed by hand, across windows, and how its hidden state is handled."""

import math

import pytest
import torch

from cellmill.models.conv_lstm import ConvLSTM, hard_sigmoid
from cellmill.models.memory import detach_state, reset_state


def make(channels=1, *, in_channels=1, kernel_px=3, gate=torch.sigmoid, has_memory=True, seed=0):
    torch.manual_seed(seed)
    return ConvLSTM(in_channels, channels, kernel_px=kernel_px, gate=gate, has_memory=has_memory)


def line(value):
    """Compute Keras' hard sigmoid of one number."""
    return min(1.0, max(0.0, 0.2 * value + 0.5))


def logistic(value):
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize(("gate", "by_hand"), [(torch.sigmoid, logistic), (hard_sigmoid, line)])
def test_one_cell_by_hand(gate, by_hand):
    # One pixel, so that only the middle of each kernel counts. Order of the gates: input, forget, candidate, output.
    from_input, from_hidden, bias = [0.7, -0.4, 1.3, 0.2], [-0.6, 0.9, 0.5, -1.1], [0.1, 1.0, -0.2, 0.3]
    cell = make(gate=gate)
    with torch.no_grad():
        for row in range(4):
            cell.from_input.weight[row, 0, 1, 1] = from_input[row]
            cell.from_hidden.weight[row, 0, 1, 1] = from_hidden[row]
            cell.from_input.bias[row] = bias[row]
        frames = [0.8, -1.5, 2.0]
        hidden_btcyx, (hidden_bcyx, cell_bcyx) = cell(torch.tensor(frames).reshape(1, 3, 1, 1, 1), None)
    h = c = 0.0
    expected = []
    for x in frames:
        i, f, g, o = (from_input[row] * x + from_hidden[row] * h + bias[row] for row in range(4))
        c = by_hand(f) * c + by_hand(i) * math.tanh(g)
        h = by_hand(o) * math.tanh(c)
        expected.append(h)
    assert hidden_btcyx.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert hidden_bcyx.item() == pytest.approx(h, abs=1e-6)
    assert cell_bcyx.item() == pytest.approx(c, abs=1e-6)


@pytest.mark.parametrize(("gate", "open_gate"), [(torch.sigmoid, logistic(1)), (hard_sigmoid, 0.7)])
def test_without_input_a_cell_keeps_what_its_forget_bias_lets_through(gate, open_gate):
    cell = make(2, gate=gate)
    zeros_btcyx = torch.zeros(1, 1, 1, 4, 4)
    with torch.no_grad():
        hidden_btcyx, (_, cell_bcyx) = cell(zeros_btcyx, None)
        assert not hidden_btcyx.any()
        assert not cell_bcyx.any()
        held_bcyx = torch.full((1, 2, 4, 4), 0.8)
        _, (hidden_bcyx, cell_bcyx) = cell(zeros_btcyx, (torch.zeros_like(held_bcyx), held_bcyx))
    assert torch.allclose(cell_bcyx, torch.tensor(0.8 * open_gate), atol=1e-6)
    assert torch.allclose(hidden_bcyx, torch.tensor(0.5 * math.tanh(0.8 * open_gate)), atol=1e-6)


def test_the_forget_bias_is_one_and_the_others_zero():
    bias = make(3).from_input.bias.tolist()
    assert bias == [0.0] * 3 + [1.0] * 3 + [0.0] * 6


def test_the_hard_sigmoid_is_that_of_keras():
    values = torch.tensor([-9.0, -2.5, -1.0, 0.0, 1.0, 2.5, 9.0])
    assert torch.allclose(hard_sigmoid(values), torch.tensor([0.0, 0.0, 0.3, 0.5, 0.7, 1.0, 1.0]), atol=1e-7)


@pytest.mark.parametrize("kernel_px", [3, 5])
def test_the_number_of_parameters_is_that_of_a_cell_without_peepholes(kernel_px):
    cell = make(7, in_channels=4, kernel_px=kernel_px)
    assert sum(weights.numel() for weights in cell.parameters()) == 4 * ((4 + 7) * 7 * kernel_px**2 + 7)


@pytest.mark.parametrize("kernel_px", [3, 5])
def test_memory_spreads_by_half_a_kernel_a_frame(kernel_px):
    cell = make(kernel_px=kernel_px)
    with torch.no_grad():
        cell.from_hidden.weight.fill_(0.3)
    frames_btcyx = torch.zeros(1, 3, 1, 21, 21)
    changed_btcyx = frames_btcyx.clone()
    changed_btcyx[0, 0, 0, 10, 10] = 1.0
    with torch.no_grad():
        difference_btcyx = cell(changed_btcyx, None)[0] - cell(frames_btcyx, None)[0]
    widths = [int((plane_cyx[0].abs().sum(dim=0) > 0).sum()) for plane_cyx in difference_btcyx[0]]
    reach = kernel_px // 2
    assert widths == [1 + 2 * reach * frame for frame in (1, 2, 3)]


def test_two_windows_give_what_one_gives():
    cell = make(3, in_channels=2)
    frames_btcyx = torch.randn(2, 10, 2, 8, 8)
    with torch.no_grad():
        whole_btcyx, last = cell(frames_btcyx, None)
        first_btcyx, state = cell(frames_btcyx[:, :5], None)
        second_btcyx, state = cell(frames_btcyx[:, 5:], state)
    assert torch.allclose(torch.cat([first_btcyx, second_btcyx], dim=1), whole_btcyx, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(state, last, strict=True))


def test_state_has_a_plane_for_each_channel():
    _, (hidden_bcyx, cell_bcyx) = make(3, in_channels=2)(torch.randn(2, 4, 2, 8, 6), None)
    assert hidden_bcyx.shape == cell_bcyx.shape == (2, 3, 8, 6)


def test_without_memory_a_frame_is_as_if_alone():
    cell = make(3, has_memory=False)
    frames_btcyx = torch.randn(2, 4, 1, 8, 8)
    with torch.no_grad():
        together_btcyx, state = cell(frames_btcyx, None)
        again_btcyx, _ = cell(frames_btcyx, state)
        with_memory = make(3)
        alone = [with_memory(frames_btcyx[:, [frame]], None) for frame in range(4)]
    assert torch.equal(again_btcyx, together_btcyx)
    assert torch.allclose(together_btcyx, torch.cat([hidden for hidden, _ in alone], dim=1), atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(state, alone[-1][1], strict=True))


def test_memory_changes_no_initial_weight():
    assert all(torch.equal(a, b) for a, b in zip(make().parameters(), make(has_memory=False).parameters(), strict=True))


def test_a_cell_keeps_its_digits_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        hidden_btcyx, (hidden_bcyx, cell_bcyx) = make()(torch.randn(1, 3, 1, 8, 8), None)
    assert cell_bcyx.dtype == hidden_bcyx.dtype == hidden_btcyx.dtype == torch.float32


def test_a_detached_state_has_its_values_and_no_graph():
    state = [make()(torch.randn(1, 2, 1, 4, 4), None)[1]]
    cut = detach_state(state)
    assert state[0][0].requires_grad
    assert not any(part.requires_grad for layer in cut for part in layer)
    assert all(torch.equal(a, b) for a, b in zip(cut[0], state[0], strict=True))


def test_only_fresh_places_lose_their_memory():
    state = [(torch.rand(3, 2, 4, 4) + 1, torch.rand(3, 2, 4, 4) + 1), (torch.rand(3, 4, 2, 2) + 1,) * 2]
    before = [(hidden.clone(), cell.clone()) for hidden, cell in state]
    after = reset_state(state, torch.tensor([False, True, False]))
    for old, kept, new in zip(before, state, after, strict=True):
        for old_bcyx, kept_bcyx, new_bcyx in zip(old, kept, new, strict=True):
            assert torch.equal(old_bcyx, kept_bcyx)
            assert not new_bcyx[1].any()
            assert torch.equal(new_bcyx[[0, 2]], old_bcyx[[0, 2]])


def test_a_reset_clears_what_is_not_a_number():
    bad_bcyx = torch.full((2, 1, 2, 2), math.nan)
    ((hidden_bcyx, _),) = reset_state([(bad_bcyx, bad_bcyx)], torch.tensor([True, True]))
    assert torch.equal(hidden_bcyx, torch.zeros(2, 1, 2, 2))


def test_no_state_stays_none():
    assert detach_state(None) is None
    assert reset_state(None, torch.tensor([True])) is None
