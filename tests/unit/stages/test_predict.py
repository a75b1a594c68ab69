"""Stage predict: probabilities in the image's shape, from a weights file alone."""

import numpy as np
import pytest
import tifffile
import torch

from cellmill.images.noise import measure_noise
from cellmill.images.stored import sample_paths
from cellmill.inference.normalise import measure_input, mirror, read_window
from cellmill.models.registry import build_network
from cellmill.models.weights import join_members, read_weights, write_weights
from cellmill.preprocessing.geometry import read_geometry
from cellmill.shards import read_manifest
from cellmill.stages.predict import predict_shard
from training_shards import network_of, tiny_preset, write_training_shard
from whole_images import read_probabilities

SHAPES = [(70, 90), (5, 7), (64, 64)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    preset = tiny_preset()
    settings = network_of(preset)
    torch.manual_seed(3)
    network = build_network(settings)
    for _ in range(20):
        network(torch.randn(4, 1, 32, 32))
    path = tmp_path_factory.mktemp("run") / "weights.pt"
    write_weights(path, network=settings, input=preset["input"], state_dict=network.state_dict())
    return path, network.eval()


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory):
    return write_training_shard(tmp_path_factory.mktemp("data"), "s", shapes=SHAPES)[0]


def predict(folder, images_dir, weights, *, tile=(1024, 1024), batch=1, average="none"):
    predict_shard(
        output_dir=folder,
        images_dir=images_dir,
        around_dirs=[],
        weights_path=weights[0],
        predict={"tile": list(tile), "batch": batch, "average": average, "precision": "fp32"},
        passages=None,
        classes=None,
        pixel_size_um=None,
        threads=1,
        gpu=0,
    )
    return {sample: read_probabilities(path) for sample, path in sample_paths(folder).items()}


def test_each_image_gets_probabilities_of_its_shape(tmp_path, images_dir, weights):
    found = predict(tmp_path / "p", images_dir, weights)
    assert {name: prob_cyx.shape for name, prob_cyx in found.items()} == {
        f"s{number}": (1, *shape) for number, shape in enumerate(SHAPES)
    }
    for prob_cyx in found.values():
        assert prob_cyx.min() >= 0
        assert prob_cyx.max() <= 1


def test_the_file_holds_float16_channels_first(tmp_path, images_dir, weights):
    predict(tmp_path / "p", images_dir, weights)
    stored = tifffile.imread(tmp_path / "p" / "s0.tif")
    assert stored.dtype == np.float16
    assert stored.size == 70 * 90


def test_probabilities_are_the_sigmoid_of_the_network_once(tmp_path, images_dir, weights):
    found = predict(tmp_path / "p", images_dir, weights)["s2"][0]
    image_yx = tifffile.imread(images_dir / "s2.tif")
    seen_yx = (image_yx - image_yx.mean()) / image_yx.std()
    with torch.no_grad():
        logits_yx = weights[1](torch.from_numpy(seen_yx)[None, None])[0, 0].double().numpy()
    assert np.allclose(found, 1 / (1 + np.exp(-logits_yx)), atol=1e-3)  # float16 keeps 3 digits


def test_tiles_and_batches_change_nothing(tmp_path, images_dir, weights):
    whole = predict(tmp_path / "whole", images_dir, weights)
    tiled = predict(tmp_path / "tiled", images_dir, weights, tile=(16, 32), batch=3)
    for sample in whole:
        assert np.abs(whole[sample] - tiled[sample]).max() < 1e-3  # a step of float16 near 1 is 5e-4


def test_padding_looks_the_same_in_prediction_as_in_training(tmp_path, weights):
    images_dir, _ = write_training_shard(tmp_path, "t", shapes=[(40, 40)], mode="crop_pad", size=[64, 64])
    found = predict(tmp_path / "p", images_dir, weights)["t0"][0]
    image_yx, geometry = tifffile.imread(images_dir / "t0.tif"), read_geometry(images_dir / "geometry.csv")["t0"]
    scale = measure_input(image_yx, geometry=geometry, normalise="zscore", polarity="keep", min_contrast=0.0)
    every = np.arange(64)
    seen_yx = read_window(image_yx, rows=every, columns=every, scale=scale)
    assert not seen_yx[:12].any()
    with torch.no_grad():
        logits_yx = weights[1](torch.from_numpy(seen_yx)[None, None])[0, 0]
    assert np.allclose(found, torch.sigmoid(logits_yx).numpy(), atol=1e-3)


def test_an_image_of_little_contrast_is_amplified_less_and_the_log_says_so(tmp_path, images_dir, weights, caplog):
    image_yx, geometry = tifffile.imread(images_dir / "s2.tif"), read_geometry(images_dir / "geometry.csv")["s2"]
    # The least contrast that doubles its divisor
    least = float(2 * image_yx.std() / measure_noise(image_yx, is_known_yx=np.ones(image_yx.shape, dtype=bool)))
    file = read_weights(weights[0])
    path = tmp_path / "weights.pt"
    write_weights(
        path, network=file["network"], input={**file["input"], "min_contrast": least}, state_dict=file["state_dict"]
    )
    with caplog.at_level("INFO"):
        found = predict(tmp_path / "p", images_dir, (path,))["s2"][0]
    scale = measure_input(image_yx, geometry=geometry, normalise="zscore", polarity="keep", min_contrast=least)
    assert scale.scale == pytest.approx(2 * image_yx.std(), rel=1e-4)
    with torch.no_grad():
        logits_yx = weights[1](torch.from_numpy((image_yx - image_yx.mean()) / (2 * image_yx.std()))[None, None])[0, 0]
    assert np.allclose(found, torch.sigmoid(logits_yx).numpy(), atol=1e-3)
    assert (
        "s2: amplified less than other images, as its contrast is below input.min_contrast, by a factor of 2"
        in caplog.text
    )


def test_the_same_shard_gives_the_same_bytes(tmp_path, images_dir, weights):
    for name in ("one", "two"):
        predict(tmp_path / name, images_dir, weights)
    assert read_manifest(tmp_path / "one") == read_manifest(tmp_path / "two")


def test_a_failure_leaves_no_half_written_shard(tmp_path, images_dir, weights, monkeypatch):
    def out_of_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr("cellmill.stages.predict.predict_bands", out_of_memory)
    with pytest.raises(MemoryError):
        predict(tmp_path / "p", images_dir, weights)
    assert list(tmp_path.iterdir()) == []


def test_weights_of_another_program_are_named(tmp_path, images_dir):
    (tmp_path / "weights.pt").write_bytes(b"{}")
    with pytest.raises(ValueError, match=r"weights\.pt: expected a weights file of cellmill"):
        predict(tmp_path / "p", images_dir, (tmp_path / "weights.pt",))


@pytest.mark.parametrize("average", ["flips", "rotations"])
def test_averages_are_those_of_the_whole_image_turned(tmp_path, images_dir, weights, average):
    found = predict(tmp_path / "p", images_dir, weights, average=average, tile=(16, 32))["s0"][0]
    image_yx = tifffile.imread(images_dir / "s0.tif")
    seen_yx = (image_yx - image_yx.mean()) / image_yx.std()
    rows, columns = image_yx.shape
    stride = int(weights[1].stride_px)
    # As in tiles: padded below and to the right to a multiple of the stride
    padded_yx = seen_yx[np.ix_(*(mirror(0, size + -size % stride, size) for size in (rows, columns)))]
    ways = [(turns, flips) for turns in (range(4) if average == "rotations" else (0, 2)) for flips in (False, True)]
    maps = []
    with torch.no_grad():
        for turns, flips in ways:
            turned_yx = np.rot90(padded_yx[::-1] if flips else padded_yx, turns).copy()
            prob_yx = np.rot90(torch.sigmoid(weights[1](torch.from_numpy(turned_yx)[None, None]))[0, 0], -turns)
            maps.append(prob_yx[::-1] if flips else prob_yx)
    assert len(maps) == {"flips": 4, "rotations": 8}[average]
    assert np.allclose(found, np.mean(maps, axis=0)[:rows, :columns], atol=1e-3)


def test_several_networks_in_a_file_give_their_mean(tmp_path, images_dir, weights):
    first = read_weights(weights[0])
    torch.manual_seed(8)
    other = build_network(first["network"]).state_dict()
    write_weights(tmp_path / "other.pt", network=first["network"], input=first["input"], state_dict=other)
    both = join_members([("a", first), ("b", read_weights(tmp_path / "other.pt"))])
    write_weights(tmp_path / "both.pt", **both)
    alone = [
        predict(tmp_path / str(n), images_dir, (path,)) for n, path in enumerate((weights[0], tmp_path / "other.pt"))
    ]
    mean = predict(tmp_path / "mean", images_dir, (tmp_path / "both.pt",))
    for sample in mean:
        assert np.allclose(mean[sample], (alone[0][sample] + alone[1][sample]) / 2, atol=1e-3)
