"""Stage preprocess with several channels: one plane for each, with its own background, on large images too."""

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from cellmill.config.preprocess import Preprocess
from cellmill.images.stored import open_plane, open_planes, sample_paths
from cellmill.planning.adoption import complete_section
from cellmill.stages import preprocess as stage
from cellmill.stages.preprocess import preprocess_shard

GAUSSIAN = {"method": "gaussian", "sigma_px": 6.0}


def run(folder, paths, **keys):
    rows = [
        {"sample": path.stem, "image": str(path), "sequence": "s", "frame": number} for number, path in enumerate(paths)
    ]
    settings = {**complete_section(Preprocess.model_validate(keys)), "rescale": None}
    preprocess_shard(output_dir=folder / "out", samples=rows, context=(), **settings)
    return {sample: np.array(open_planes(path)) for sample, path in sample_paths(folder / "out").items()}


def write(folder, name, *, channels=3, shape=(40, 56), seed=0):
    image_cyx = np.random.default_rng(seed).integers(100, 4000, (channels, *shape)).astype(np.uint16)
    if channels == 1:
        tifffile.imwrite(folder / f"{name}.tif", image_cyx[0])
    else:
        tifffile.imwrite(folder / f"{name}.tif", image_cyx, imagej=True, metadata={"axes": "CYX"})
    return folder / f"{name}.tif", image_cyx


def test_the_planes_are_the_channels_in_the_order_of_the_config(tmp_path):
    path, image_cyx = write(tmp_path, "a")
    found = run(tmp_path, [path], channels=[2, 0])["a"]
    assert (found == image_cyx[[2, 0]]).all()
    assert (open_plane(tmp_path / "out/a.tif") == image_cyx[2]).all()


def test_each_channel_is_what_it_is_alone_with_its_own_background(tmp_path):
    path, _ = write(tmp_path, "a")
    both = run(
        tmp_path, [path], channels=[{"channel": 1, "background": {"method": "rolling_ball", "radius_px": 9}}, 2],
        background=GAUSSIAN, fit={"mode": "crop_pad", "size": [48, 48]},
    )["a"]  # fmt: skip
    for number, background in ((1, {"method": "rolling_ball", "radius_px": 9}), (2, GAUSSIAN)):
        alone = tmp_path / str(number)
        alone.mkdir()
        fit = {"mode": "crop_pad", "size": [48, 48]}
        assert (run(alone, [path], channel=number, background=background, fit=fit)["a"][0] == both[number - 1]).all()


def test_bands_of_a_large_image_give_the_same_planes(tmp_path, monkeypatch):
    path, image_cyx = write(tmp_path, "a", shape=(301, 64))
    monkeypatch.setattr(stage, "BAND_PIXELS", 64 * 40)
    assert (run(tmp_path, [path], channels=[0, 1, 2])["a"] == image_cyx).all()


def test_a_temporal_background_of_one_channel_leaves_the_other(tmp_path):
    written = [write(tmp_path, f"t{number}", channels=2, seed=number) for number in range(5)]
    found = run(
        tmp_path, [path for path, _ in written],
        channels=[{"channel": 0, "background": {"method": "temporal_median"}}, 1],
    )  # fmt: skip
    median_yx = np.median([image_cyx[0] for _, image_cyx in written], axis=0)
    for path, image_cyx in written:
        assert np.allclose(found[path.stem][0], image_cyx[0] - median_yx)
        assert (found[path.stem][1] == image_cyx[1]).all()


def test_a_missing_channel_is_refused_or_becomes_zero(tmp_path, caplog):
    paths = [write(tmp_path, "a")[0], write(tmp_path, "b", channels=2)[0]]
    with pytest.raises(ValueError, match=r"b\.tif: expected at least 3 channels, found 2"):
        run(tmp_path, paths, channels=[0, 2])
    found = run(tmp_path, paths, channels=[0, {"channel": 2, "missing": "zero"}])
    assert found["a"][1].any()
    assert not found["b"][1].any()
    assert "b: a channel is missing and becomes zero" in caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channels": [0, 0]}, "found 0 twice"),
        ({"channels": [0, 1], "channel": 1}, "found both"),
        ({"channels": [0]}, "at least 2"),
        ({"channels": [{"channel": 0, "missing": "zero"}, 1]}, "which shows the objects"),
    ],
)
def test_channels_that_say_nothing_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Preprocess.model_validate(keys)
