"""The average of several predictions: over symmetries of the image, over networks, over classes."""

import numpy as np
import pytest
import torch

from cellmill.inference.ensemble import SYMMETRIES, Averaged
from cellmill.models.weights import join_members, split_members
from cellmill.objects.flows import unit_flows

SHAPE = (24, 40)


class Plain(torch.nn.Module):
    """Network that applies a given function to its input."""

    stride_px, halo_px, is_recurrent = 4, 12, False

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.seen = []

    def forward(self, images):
        self.seen.append(images)
        return self.function(images)


def average(function, *, output="foreground", average="rotations", classes=0, others=()):
    networks = [Plain(each) for each in (function, *others)]
    return Averaged(networks, output=output, average=average, classes=classes, precision="fp32")


def images_of(channels=1, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (2, channels, *SHAPE)).astype(np.float32))


@pytest.mark.parametrize(("name", "count"), [("none", 1), ("flips", 4), ("rotations", 8)])
def test_each_way_is_seen_once(name, count):
    network = average(lambda images: images, average=name)
    network(images_of())
    seen = {image.numpy().tobytes() + bytes(image.shape[-2:]) for image in network.networks[0].seen}
    assert len(network.networks[0].seen) == len(seen) == count


@pytest.mark.parametrize("symmetry", SYMMETRIES["rotations"])
def test_what_is_turned_is_turned_back(symmetry):
    maps = images_of(channels=3)
    assert torch.equal(symmetry.undo(symmetry.apply(maps), has_vectors=False), maps)


def test_a_network_that_does_not_care_predicts_the_same():
    images = images_of()
    found = average(lambda images: 3 * images)(images)
    assert torch.allclose(found, torch.sigmoid(3 * images), atol=1e-6)


def test_the_mean_is_that_of_probabilities_and_not_of_logits():
    """The network adds to the upper half of its input, which is the lower half of a flipped image."""

    def upper(images):
        raised = images.clone()
        raised[:, :, : images.shape[2] // 2] += 4
        return raised

    images = torch.zeros(1, 1, *SHAPE)
    found = average(upper, average="flips")(images)
    assert torch.allclose(found, (torch.sigmoid(torch.tensor(4.0)) + 0.5) / 2, atol=1e-6)


def test_flow_vectors_are_turned_back_with_the_image():
    """The network computes the exact flows of its input in any orientation."""
    y, x = np.indices(SHAPE)
    labels = ((y - 11) ** 2 / 64 + (x - 18) ** 2 / 200 <= 1).astype(np.uint16)
    labels[2:6, 30:38] = 2

    def flows_of(images):
        flows = [unit_flows(image[0].numpy().astype(np.uint16)) for image in images]
        return torch.cat([images, 5 * torch.from_numpy(np.stack(flows))], dim=1)

    images = torch.from_numpy(labels.astype(np.float32))[None, None]
    found = average(flows_of, output="flow")(images)[0, 1:].numpy()
    assert np.abs(found - unit_flows(labels)).max() < 1e-5
    assert np.abs(unit_flows(labels)).max() > 0.9


def test_several_networks_are_averaged():
    images = images_of()
    found = average(lambda images: images - 2, average="none", others=[lambda images: images + 1])(images)
    assert torch.allclose(found, (torch.sigmoid(images - 2) + torch.sigmoid(images + 1)) / 2, atol=1e-6)


def test_each_class_is_told_in_turn():
    network = average(lambda images: images[:, :1] + images[:, 1:2] - images[:, 3:], average="none", classes=3)
    images = torch.cat([images_of(), torch.full((2, 3, *SHAPE), 9.0)], dim=1)
    found = network(images)
    logits = [images[:, :1] + step for step in (1, 0, -1)]
    assert torch.allclose(found, sum(torch.sigmoid(each) for each in logits) / 3, atol=1e-6)
    assert (images[:, 1:] == 9).all()  # the input is not changed


def test_each_way_of_a_recurrent_network_has_its_own_memory():
    class Counter(torch.nn.Module):
        """Network that returns the sum of all frames so far, pixel by pixel."""

        stride_px, halo_px, is_recurrent = 4, 12, True

        def forward(self, images_btcyx, state):
            total = images_btcyx[:, 0] if state is None else state + images_btcyx[:, 0]
            return total[:, None], total

    network = Averaged([Counter()], output="foreground", average="rotations", classes=0, precision="fp32")
    first, second = images_of(seed=1), images_of(seed=2)
    _, state = network(first[:, None], None)
    found, _ = network(second[:, None], state)
    assert torch.allclose(found[:, 0], torch.sigmoid(first + second), atol=1e-6)


def test_members_go_into_one_file_and_come_out():
    def contents(value):
        return {"network": {"width": 1}, "input": {"frames": 1}, "state_dict": {"a.b": torch.full((2,), value)}}

    joined = join_members([("one", contents(1.0)), ("two", contents(2.0))])
    assert [float(each["a.b"][0]) for each in split_members(joined)] == [1.0, 2.0]
    [alone] = split_members(contents(3.0))
    assert list(alone) == ["a.b"]
    with pytest.raises(ValueError, match="two: expected the same network and input as in one"):
        join_members([("one", contents(1.0)), ("two", contents(1.0) | {"network": {"width": 2}})])
