"""Training from other weights: all of them, or those that fit, with the rest listed in the log."""

import re

import pytest
import torch

from cellmill.models.registry import build_network
from cellmill.models.weights import load_matching, read_weights, write_weights
from cellmill.stages.train import train_model
from sequence_shards import recurrent_preset
from training_shards import network_of, tiny_preset, write_training_shard


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_training_shard(tmp_path_factory.mktemp("data"), "t", shapes=[(40, 40)] * 2)


def write_random(path, preset, *, seed=5):
    torch.manual_seed(seed)
    network = build_network(network_of(preset))
    write_weights(path, network=network_of(preset), input=preset["input"], state_dict=network.state_dict())
    return network.state_dict()


# A learning rate near zero, so that the result equals the initial weights.
STILL = {"epochs": 1, "optimiser": {"name": "sgd", "learning_rate": 1e-30}}
FLOW = {"network": {"output": "flow"}, "train": {**STILL, "loss": {"name": "flow"}}}


def start(folder, shard, preset, *, init_from, init_weights, classes=None):
    folder.mkdir(exist_ok=True)
    train_model(
        weights_path=folder / "weights.pt",
        history_path=folder / "history.csv",
        summary_path=folder / "train.json",
        choices_path=folder / "choices.json",
        pixel_size_um=None,
        train_images=[shard[0]],
        train_labels=[shard[1]],
        validation_images=[shard[0]],
        validation_labels=[shard[1]],
        around_images=[],
        network=network_of(preset),
        input=preset["input"],
        train=preset["train"],
        seed=7,
        init_from=init_from,
        init_weights=init_weights,
        passages=None,
        classes=classes,
        threads=1,
        gpu=0,
        code={},
    )
    return read_weights(folder / "weights.pt")["state_dict"]


def is_same(first, second):
    """Return whether tensors are equal, where zeros may have become 1e-33."""
    return first.shape == second.shape and torch.allclose(first, second, rtol=0, atol=1e-20)


def learnt(state):
    """Return the names of trained parameters; running statistics depend on the images."""
    return [name for name in state if name.endswith(("weight", "bias"))]


@pytest.mark.parametrize("init_weights", ["all", "matching"])
def test_the_same_network_starts_from_every_weight(tmp_path, shard, caplog, init_weights):
    caplog.set_level("INFO")
    preset = tiny_preset(train=STILL)
    given = write_random(tmp_path / "given.pt", preset)
    found = start(tmp_path / "run", shard, preset, init_from=tmp_path / "given.pt", init_weights=init_weights)
    assert all(is_same(found[name], given[name]) for name in learnt(found))
    said = next(message for message in caplog.messages if message.startswith("initial weights"))
    count, rest = ("all", "") if init_weights == "all" else (len(given), "; initialised at random: none")
    assert said == f"initial weights: {count} from {tmp_path}/given.pt{rest}"


def test_a_flow_network_starts_from_a_foreground_network_but_for_its_head(tmp_path, shard, caplog):
    caplog.set_level("INFO")
    preset = tiny_preset(**FLOW)
    given = write_random(tmp_path / "given.pt", tiny_preset())
    fresh = start(tmp_path / "fresh", shard, preset, init_from=None, init_weights="all")
    found = start(tmp_path / "run", shard, preset, init_from=tmp_path / "given.pt", init_weights="matching")
    head = ["head.weight", "head.bias"]
    for name in learnt(found):
        assert is_same(found[name], fresh[name] if name in head else given[name]), name
    [said] = [message for message in caplog.messages if message.startswith("initial weights")]
    taken = len(given) - 2
    assert said == f"initial weights: {taken} from {tmp_path}/given.pt; initialised at random: head.weight; head.bias"


def test_a_network_that_is_told_the_class_takes_all_but_the_first_convolution(tmp_path, shard, caplog):
    caplog.set_level("INFO")
    preset = tiny_preset(input={"class_planes": ["a", "b"]}, train=STILL)
    given = write_random(tmp_path / "given.pt", tiny_preset())
    classes = {"t0": "a", "t1": "b"}
    found = start(
        tmp_path / "run", shard, preset, init_from=tmp_path / "given.pt", init_weights="matching", classes=classes
    )
    differs = [name for name in learnt(found) if name not in given or not is_same(found[name], given[name])]
    assert differs == ["encoder.0.conv1.weight"]
    assert "; initialised at random: encoder.0.conv1.weight" in caplog.text


def test_other_weights_of_one_network_are_refused_with_what_differs(tmp_path, shard):
    write_random(tmp_path / "given.pt", tiny_preset())
    message = (
        r"given\.pt: expected the weights of the same network, found 2 differences: head\.weight has shape "
        r"\(1, 2, 1, 1\), not \(3, 2, 1, 1\); head\.bias has shape \(1,\), not \(3,\)\. Use the same architecture"
    )
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "run", shard, tiny_preset(**FLOW), init_from=tmp_path / "given.pt", init_weights="all")
    assert list((tmp_path / "run").iterdir()) == []


def test_weights_of_which_none_fits_are_refused(tmp_path, shard):
    write_random(tmp_path / "given.pt", recurrent_preset())
    message = r"given\.pt: expected some weights that fit this network, found none with the same name and shape"
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "run", shard, tiny_preset(), init_from=tmp_path / "given.pt", init_weights="matching")


def test_names_and_shapes_decide_what_matches():
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = {"0.weight": torch.ones(3, 2), "0.bias": torch.ones(4), "1.bias": torch.ones(2), "elsewhere": torch.ones(3)}
    taken, left = load_matching(network, given, source="x")
    assert (taken, left) == (["0.weight", "1.bias"], ["0.bias", "1.weight"])
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, given[name] if name in taken else before[name])


def test_where_a_training_starts_is_part_of_what_its_checkpoint_belongs_to(tmp_path, shard, monkeypatch):
    """The same settings with other initial weights are a different training."""
    from cellmill.stages.train import checkpoint_key

    keys = []

    def note(**keywords):
        keys.append(checkpoint_key(**keywords))
        return keys[-1]

    monkeypatch.setattr("cellmill.stages.train.checkpoint_key", note)
    preset = tiny_preset(train=STILL)
    for number, seed in enumerate((5, 5, 6)):
        write_random(tmp_path / f"{number}.pt", preset, seed=seed)
        start(tmp_path / "run", shard, preset, init_from=tmp_path / f"{number}.pt", init_weights="all")
    start(tmp_path / "run", shard, preset, init_from=tmp_path / "0.pt", init_weights="matching")
    start(tmp_path / "run", shard, preset, init_from=None, init_weights="all")
    assert keys[0] == keys[1]  # the location of the weights file does not matter
    assert len(set(keys)) == 4


def test_the_weights_inside_an_exported_model_serve_as_well(tmp_path, shard):
    import zipfile

    preset = tiny_preset(train=STILL)
    given = write_random(tmp_path / "given.pt", preset)
    with zipfile.ZipFile(tmp_path / "model.cellmill", "w") as archive:
        archive.write(tmp_path / "given.pt", "weights.pt")
    found = start(tmp_path / "run", shard, preset, init_from=tmp_path / "model.cellmill", init_weights="all")
    assert all(is_same(found[name], given[name]) for name in learnt(found))


def test_what_is_no_weights_file_is_named(tmp_path, shard):
    (tmp_path / "given.pt").write_text("no weights")
    with pytest.raises(ValueError, match=re.escape("given.pt: expected a weights file of cellmill")):
        start(tmp_path / "run", shard, tiny_preset(), init_from=tmp_path / "given.pt", init_weights="all")
