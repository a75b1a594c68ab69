"""Validation: whole images, only those with labels, and for sequences the scores that a prediction would have."""

import tempfile

import numpy as np
import pytest
import torch

import cellmill.inference.tiling
import cellmill.training.validation
from cellmill.images.stored import IGNORE_LABEL, read_labels, write_labels
from cellmill.models.registry import build_network
from cellmill.models.weights import write_weights
from cellmill.stages.predict import predict_shard
from cellmill.training.checkpoints import StopRequest
from cellmill.training.validation import validate
from sequence_shards import recurrent_preset, write_named_frames
from training_shards import draw_cells, image_set, network_of, tiny_preset, write_training_shard
from whole_images import read_probabilities

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def score(model, images, *, warmup=0):
    return validate(model, images, warmup=warmup, device=CPU, stop=StopRequest())


def make_network(preset, *, seed=2):
    """Return a network whose running statistics are not the initial ones."""
    torch.manual_seed(seed)
    network = build_network(network_of(preset))
    for _ in range(10):
        if network.is_recurrent:
            network(torch.randn(2, 3, 1, 32, 32), None)
        else:
            network(torch.randn(4, 1, 32, 32))
    with torch.no_grad():
        network.head.weight *= 5
    return network.eval()


def cross_entropy(logits_cyx, labels_yx):
    """Compute the mean over the known pixels, by hand in float64."""
    logits = logits_cyx.astype(float)
    log_shares = logits - np.log(np.exp(logits).sum(axis=0))
    return -np.where(labels_yx > 0, log_shares[1], log_shares[0])[labels_yx != IGNORE_LABEL].mean()


def dice(logits_cyx, labels_yx):
    found_yx, truth_yx = logits_cyx[1] > logits_cyx[0], labels_yx > 0
    return 2 * (found_yx & truth_yx).sum() / (found_yx.sum() + truth_yx.sum())


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """Six frames, of which 1, 2 and 4 are labelled."""
    folder, rng = tmp_path_factory.mktemp("sequence"), np.random.default_rng(3)
    frames = {f"s{number}": draw_cells(rng, (40, 48)) for number in range(6)}
    known = {name: frames[name] for name in ("s1", "s2", "s4")}
    others = {name: frame for name, frame in frames.items() if name not in known}
    return frames, write_named_frames(folder, "known", known), write_named_frames(folder, "others", others)


@pytest.mark.parametrize("warmup", [0, 2, 9])
def test_frames_of_a_sequence_are_scored_with_the_memory_of_those_before(sequence, warmup):
    frames, known, others = sequence
    preset = recurrent_preset()
    network = make_network(preset)
    images = image_set(known, preset=preset, around=[others[0]], passages=[sorted(frames)])
    loss, mean_dice = score(network, images, warmup=warmup)

    order = list(range(5))  # frames after the last labelled one are not used
    state, logits = None, {}
    with torch.no_grad():
        for number in [*order[:warmup][::-1], *order]:
            image_yx = frames[f"s{number}"][0].astype(np.float64)
            seen_yx = ((image_yx - image_yx.mean()) / image_yx.std()).astype(np.float32)
            logits_btcyx, state = network(torch.from_numpy(seen_yx)[None, None, None], state)
            logits[number] = logits_btcyx[0, 0].numpy()
    labelled = [(logits[number], frames[f"s{number}"][1]) for number in (1, 2, 4)]
    assert loss == pytest.approx(np.mean([cross_entropy(*pair) for pair in labelled]), rel=1e-4)
    assert mean_dice == pytest.approx(np.mean([dice(*pair) for pair in labelled]), abs=2e-3)


def test_it_scores_what_a_prediction_gives(sequence, tmp_path):
    frames, known, others = sequence
    preset = recurrent_preset(input={"warmup": 3})
    network = make_network(preset)
    images = image_set(known, preset=preset, around=[others[0]], passages=[sorted(frames)])
    _, mean_dice = score(network, images, warmup=3)
    weights = tmp_path / "weights.pt"
    write_weights(weights, network=network_of(preset), input=preset["input"], state_dict=network.state_dict())
    predict_shard(
        output_dir=tmp_path / "p",
        images_dir=known[0],
        around_dirs=[others[0]],
        weights_path=weights,
        predict=preset["predict"],
        passages=[sorted(frames)],
        classes=None,
        pixel_size_um=None,
        threads=1,
        gpu=0,
    )
    scores = []
    for sample in ("s1", "s2", "s4"):
        found_yx, truth_yx = read_probabilities(tmp_path / "p" / f"{sample}.tif")[0] >= 0.5, frames[sample][1] > 0
        scores.append(2 * (found_yx & truth_yx).sum() / (found_yx.sum() + truth_yx.sum()))
    assert mean_dice == pytest.approx(np.mean(scores), abs=0.01)  # float16 rounds values just below .5 to .5


def test_logits_of_a_sequence_lie_on_disk_and_are_gone_afterwards(sequence, tmp_path, monkeypatch):
    frames, known, others = sequence
    preset = recurrent_preset()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen, real = [], cellmill.inference.tiling._map_array

    def note(path, shape, dtype):
        seen.append((path.parent.parent, shape))
        return real(path, shape, dtype)

    monkeypatch.setattr(cellmill.inference.tiling, "_map_array", note)
    score(make_network(preset), image_set(known, preset=preset, around=[others[0]], passages=[sorted(frames)]))
    assert seen == [(tmp_path, (5, 2, 40, 48))]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_recurrent", [False, True])
def test_tiles_change_nothing_but_the_last_digits(tmp_path, monkeypatch, is_recurrent):
    """One frame for the recurrent network: with more, a tile's hidden state lacks information from beyond its halo."""
    shard = write_training_shard(tmp_path, "t", shapes=[(120, 136)])
    preset = recurrent_preset(network={"memory": False}) if is_recurrent else tiny_preset()
    network = make_network(preset)
    images = image_set(shard, preset=preset, passages=[["t0"]] if is_recurrent else None)
    whole = score(network, images)
    monkeypatch.setattr(cellmill.training.validation, "VALIDATION_TILE_PX", (32, 64))
    assert score(network, images) == pytest.approx(whole, rel=1e-4)


def test_every_image_counts_alike_whatever_its_size(tmp_path):
    shards = [
        write_training_shard(tmp_path, name, shapes=[shape]) for name, shape in (("a", (32, 32)), ("b", (96, 96)))
    ]
    preset = tiny_preset()
    network = make_network(preset)
    single = [score(network, image_set(shard, preset=preset)) for shard in shards]
    both = score(network, image_set(*shards, preset=preset))
    assert both == pytest.approx(np.mean(single, axis=0), rel=1e-6)


def test_ignored_pixels_are_not_scored(tmp_path):
    """The truth there may be anything, whatever the network predicts."""
    shard = write_training_shard(tmp_path, "t", shapes=[(40, 40)])
    preset = tiny_preset()
    network = make_network(preset)
    path = shard[1] / "t0.tif"
    labels_yx = read_labels(path).copy()
    labels_yx[:20] = IGNORE_LABEL
    write_labels(path, labels_yx)
    images = image_set(shard, preset=preset)
    loss, _ = score(network, images)
    image_cyx = images.view(0).read(np.arange(40), np.arange(40))
    with torch.no_grad():
        logits_yx = network(torch.from_numpy(image_cyx)[None])[0, 0].numpy().astype(float)
    expected = np.logaddexp(0, np.where(labels_yx > 0, -logits_yx, logits_yx))[20:].mean()
    assert loss == pytest.approx(expected, rel=1e-4)


def test_without_images_there_is_no_score():
    assert score(make_network(tiny_preset()), image_set(preset=tiny_preset())) is None
