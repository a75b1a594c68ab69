"""Rule estimate_flat_field: images become a profile, and the stage preprocess divides by it."""

import logging

import numpy as np
import pytest
import tifffile

from cellmill.config.preprocess import Preprocess
from cellmill.images.rasters import open_raster
from cellmill.images.stored import sample_paths
from cellmill.preprocessing.background import single_frame_method
from cellmill.preprocessing.flat_field import read_flat_fields
from cellmill.preprocessing.geometry import resample
from cellmill.preprocessing.shading import SIDE
from cellmill.simulation.illumination import parabolic_illumination
from cellmill.stages.estimate_flat_field import estimate_flat_field, reduce_image
from cellmill.stages.preprocess import preprocess_shard

SHAPE = (150, 200)
DARK = 50
PROFILE_YX = 0.4 + 0.6 * parabolic_illumination(SHAPE, centre_shift=(0.1, 0))


def row(path):
    return {"sample": path.stem, "image": str(path), "plane": [], "sequence": "", "frame": 0}


def write_images(folder, count=12, *, profile_yx=PROFILE_YX, seed=0):
    """Write images with three bright squares on even light of another brightness each, shaded."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        light_yx = np.full(profile_yx.shape, rng.uniform(2000, 6000))
        for first in rng.integers(0, 100, (3, 2)):
            light_yx[first[0] : first[0] + 20, first[1] : first[1] + 20] += 8000
        counts_yx = DARK + profile_yx * light_yx + rng.normal(0, 10, profile_yx.shape)
        paths.append(folder / f"a{number:02d}.tif")
        tifffile.imwrite(paths[-1], counts_yx.round().astype(np.uint16))
    return paths


def lit(channel="luminance", *, dark=DARK, may_be_missing=False):
    return {"channel": channel, "dark": dark, "may_be_missing": may_be_missing}


def estimate_planes(folder, paths, *planes):
    estimate_flat_field(output_path=folder / "flat_field.json", samples=[row(path) for path in paths], planes=planes)
    return read_flat_fields(folder / "flat_field.json")


def estimate(folder, paths, **plane):
    [flat_field] = estimate_planes(folder, paths, lit(**plane))
    return flat_field


def preprocess(folder, paths, *, channels=None, **background):
    section = {"background": {"method": "flat_field", **background}}
    if channels:
        section["channels"] = channels
    settings = Preprocess.model_validate(section).model_dump(mode="json")
    preprocess_shard(
        output_dir=folder / "out", samples=[row(path) for path in paths], context=[],
        flat_field_path=folder / "flat_field.json", **settings,
    )  # fmt: skip
    return {sample: tifffile.imread(path) for sample, path in sample_paths(folder / "out").items()}


def test_the_profile_of_the_files_is_recovered(tmp_path):
    flat_field = estimate(tmp_path, write_images(tmp_path / "raw"))
    assert flat_field.shape == SHAPE
    expected_yx = PROFILE_YX / PROFILE_YX.mean()
    assert flat_field.profile_rows(slice(0, SHAPE[0])) == pytest.approx(expected_yx, rel=0.02)


def test_the_profile_depends_on_no_order_and_no_clock(tmp_path):
    paths = write_images(tmp_path / "raw", 5)
    estimate(tmp_path, paths)
    before = (tmp_path / "flat_field.json").read_bytes()
    estimate(tmp_path, paths)
    assert (tmp_path / "flat_field.json").read_bytes() == before


def test_the_log_says_how_uneven_the_light_was(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        estimate(tmp_path, write_images(tmp_path / "raw"))
    assert "illumination profile of 12 images: 0." in caplog.text
    assert "ground at the borders relative to the centre: 0." in caplog.text


def test_preprocessed_images_have_even_light(tmp_path):
    paths = write_images(tmp_path / "raw")
    estimate(tmp_path, paths)
    for image_yx in preprocess(tmp_path, paths[:3]).values():
        corner, centre = np.median(image_yx[-20:, -20:]), np.median(image_yx[65:85, 90:110])
        # Squares may cover a place: the ground is the lower half of a larger one.
        corner, centre = np.percentile(image_yx[-50:, -50:], 20), np.percentile(image_yx[50:100, 75:125], 20)
        assert corner == pytest.approx(centre, rel=0.03)


def test_the_background_that_is_left_is_subtracted_afterwards(tmp_path):
    paths = write_images(tmp_path / "raw")
    flat_field = estimate(tmp_path, paths)
    found_yx = preprocess(tmp_path, paths[:1], then="gaussian", sigma_px=12)["a00"]
    divided_yx = flat_field.correct_rows(tifffile.imread(paths[0]), slice(0, SHAPE[0]))
    blur = single_frame_method(method="gaussian", radius_px=50.0, sigma_px=12.0)
    assert np.array_equal(found_yx, blur(divided_yx))


@pytest.mark.parametrize("then", ["none", "rolling_ball", "gaussian"])
def test_bands_of_a_large_image_are_the_whole_image(then, tmp_path, monkeypatch):
    paths = write_images(tmp_path / "raw", 4)
    estimate(tmp_path, paths)
    numbers = {"rolling_ball": {"radius_px": 12.0}, "gaussian": {"sigma_px": 3.0}}.get(then, {})
    whole = preprocess(tmp_path, paths[:1], then=then, **numbers)["a00"]
    (tmp_path / "again").mkdir()
    (tmp_path / "again/flat_field.json").write_bytes((tmp_path / "flat_field.json").read_bytes())
    monkeypatch.setattr("cellmill.stages.preprocess.BAND_PIXELS", 5000)
    assert np.array_equal(preprocess(tmp_path / "again", paths[:1], then=then, **numbers)["a00"], whole)


def test_a_reduced_image_is_the_mean_of_its_pixels_in_any_bands(tmp_path, monkeypatch):
    path = tmp_path / "a.tif"
    image_yx = np.random.default_rng(0).integers(0, 60000, (300, 500)).astype(np.uint16)
    tifffile.imwrite(path, image_yx, rowsperstrip=16)
    expected_yx = resample(image_yx, (SIDE, SIDE))
    raster = open_raster(path, palette="colours", plane=[])
    assert reduce_image(raster, channel="luminance") == pytest.approx(expected_yx, rel=1e-5)
    bands = [slice(first, min(first + 40, 300)) for first in range(0, 300, 40)]
    monkeypatch.setattr(type(raster), "row_bands", lambda self: bands)
    assert reduce_image(raster, channel="luminance") == pytest.approx(expected_yx, rel=1e-5)


def test_a_small_image_is_not_enlarged(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.arange(30 * 40, dtype=np.uint16).reshape(30, 40))
    reduced_yx = reduce_image(open_raster(tmp_path / "a.tif", palette="colours", plane=[]), channel="luminance")
    assert np.array_equal(reduced_yx, tifffile.imread(tmp_path / "a.tif"))


def test_the_chosen_channel_is_measured(tmp_path):
    paths = write_images(tmp_path / "raw", 6)
    for path in paths:
        shaded_yx = tifffile.imread(path)
        tifffile.imwrite(
            path, np.stack([np.full_like(shaded_yx, 700), shaded_yx]), imagej=True, metadata={"axes": "CYX"}
        )
    assert estimate(tmp_path, paths, channel=0).corner == pytest.approx(1, abs=1e-3)
    assert estimate(tmp_path, paths, channel=1).corner < 0.7


# ---- several channels -----------------------------------------------------------------------------------


def write_channels(folder, *profiles, count=12, lacking=()):
    """Write images of a channel for each profile; those in `lacking` have the first channel only."""
    singles = [
        write_images(folder / str(seed), count, profile_yx=each, seed=seed) for seed, each in enumerate(profiles)
    ]
    (folder / "all").mkdir()
    for paths in zip(*singles, strict=True):
        target = folder / "all" / paths[0].name
        kept = paths[:1] if target.stem in lacking else paths
        stack_cyx = np.stack([tifffile.imread(path) for path in kept])
        tifffile.imwrite(target, stack_cyx, imagej=True, metadata={"axes": "CYX"})
    return sorted((folder / "all").iterdir())


def test_each_channel_is_divided_by_its_own_profile(tmp_path):
    paths = write_channels(tmp_path / "raw", PROFILE_YX, PROFILE_YX[:, ::-1])
    flat_fields = estimate_planes(tmp_path, paths, lit(0), lit(1))
    for flat_field, profile_yx in zip(flat_fields, (PROFILE_YX, PROFILE_YX[:, ::-1]), strict=True):
        found_yx = flat_field.profile_rows(slice(0, SHAPE[0]))
        assert found_yx == pytest.approx(profile_yx / profile_yx.mean(), rel=0.02)
    assert [each.channel for each in flat_fields] == [0, 1]
    divided_cyx = preprocess(tmp_path, paths[:1], channels=[0, 1])["a00"]
    raw_cyx = tifffile.imread(paths[0])
    for plane_yx, raw_yx, flat_field in zip(divided_cyx, raw_cyx, flat_fields, strict=True):
        assert np.array_equal(plane_yx, flat_field.correct_rows(raw_yx, slice(0, SHAPE[0])))


def test_a_channel_with_another_method_is_not_divided(tmp_path):
    paths = write_channels(tmp_path / "raw", PROFILE_YX, PROFILE_YX)
    assert estimate_planes(tmp_path, paths, lit(0), None)[1] is None
    none = {"channel": 1, "background": {"method": "none"}}
    found_cyx = preprocess(tmp_path, paths[:1], channels=[0, none])["a00"]
    assert np.array_equal(found_cyx[1], tifffile.imread(paths[0])[1])
    assert not np.array_equal(found_cyx[0], tifffile.imread(paths[0])[0])


def test_images_without_a_channel_are_passed_over_where_it_may_be_missing(tmp_path):
    lacking = ("a00", "a05")
    paths = write_channels(tmp_path / "raw", PROFILE_YX, PROFILE_YX, lacking=lacking)
    assert estimate_planes(tmp_path, paths, lit(0), lit(1, may_be_missing=True))[1].images == 10
    found = preprocess(tmp_path, paths[:1], channels=[0, {"channel": 1, "missing": "zero"}])
    assert not found["a00"][1].any()
    with pytest.raises(ValueError, match=r"a00\.tif"):
        estimate_planes(tmp_path, paths, lit(0), lit(1))


def test_too_few_images_with_a_channel_are_refused_by_its_name(tmp_path):
    names = [f"a{number:02d}" for number in range(12)]
    paths = write_channels(tmp_path / "raw", PROFILE_YX, PROFILE_YX, lacking=names[2:])
    message = r"^preprocess.background.method flat_field, channel 1: expected at least 3 images with the channel, found 2 of 12. "
    with pytest.raises(ValueError, match=message):
        estimate_planes(tmp_path, paths, lit(0), lit(1, may_be_missing=True))


# ---- bad input ------------------------------------------------------------------------------------------


def test_images_of_different_sizes_are_refused_with_an_example(tmp_path):
    paths = write_images(tmp_path / "raw", 4)
    tifffile.imwrite(paths[2], np.ones((60, 80), np.uint16))
    message = (
        r"preprocess.background.method flat_field: expected images of one size, because they share one illumination "
        r"profile, found 150 x 200 px \(3 images\), 60 x 80 px \(1 images\); .*a02.tif has 60 x 80 px. Put the images of "
        r"each size into a separate dataset."
    )
    with pytest.raises(ValueError, match=message):
        estimate(tmp_path, paths)


def test_an_image_of_another_size_than_the_profile_is_refused_by_name(tmp_path):
    paths = write_images(tmp_path / "raw", 4)
    estimate(tmp_path, paths)
    tifffile.imwrite(paths[1], np.ones((60, 80), np.uint16))
    message = r"a01.tif: expected 150 x 200 px, the size of the images that the illumination profile was estimated from"
    with pytest.raises(ValueError, match=message):
        preprocess(tmp_path, paths)


def test_a_damaged_image_is_named(tmp_path):
    paths = write_images(tmp_path / "raw", 4)
    paths[3].write_bytes(paths[3].read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"a03.tif"):
        estimate(tmp_path, paths)


def test_constant_images_without_light_are_refused(tmp_path):
    paths = write_images(tmp_path / "raw", 4)
    for path in paths:
        tifffile.imwrite(path, np.zeros(SHAPE, np.uint16))
    with pytest.raises(
        ValueError, match=r"expected at least 3 images that are brighter than the dark level of 50 counts"
    ):
        estimate(tmp_path, paths)


def test_a_dark_level_above_the_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dark level of 60000 counts, found 0 of 4 with medians of"):
        estimate(tmp_path, write_images(tmp_path / "raw", 4), dark=60000)
