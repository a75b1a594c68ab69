"""Stage preprocess: sequences kept apart, signs kept, invertible geometry, errors all at once."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from cellmill.config.preprocess import Preprocess
from cellmill.images.stored import sample_paths
from cellmill.preprocessing.background import temporal_median
from cellmill.preprocessing.geometry import read_geometry
from cellmill.shards import read_manifest
from cellmill.stages.preprocess import preprocess_shard
from whole_images import unfit_probability

RESCALE_KEYS = ("pixel_size_um", "diameter_px", "object_px", "object_pixel_um", "given_um")


def row(sample, path, *, sequence="", frame=0):
    return {"sample": sample, "image": str(path), "annotations": [], "sequence": sequence, "frame": frame, "class": ""}


def preprocess(folder, rows, context=(), *, rescale=None, diameter_path=None, **changes):
    settings = Preprocess.model_validate(changes).model_dump(mode="json")
    settings["rescale"] = None if rescale is None else {**dict.fromkeys(RESCALE_KEYS), **rescale}
    preprocess_shard(output_dir=folder, samples=rows, context=context, diameter_path=diameter_path, **settings)
    return {sample: tifffile.imread(path) for sample, path in sample_paths(folder).items()}


def write_sequence(folder, name, *, pattern_yx, frames=12, seed=0):
    """Write frames with a static pattern, a square that moves across it, and little noise; return their sample rows."""
    rng = np.random.default_rng(seed)
    rows = []
    for t in range(1, frames + 1):
        frame_yx = pattern_yx + rng.normal(0, 0.5, pattern_yx.shape)
        frame_yx[4:8, 3 * t : 3 * t + 3] += 300
        path = folder / f"{name}_t{t}.tif"
        tifffile.imwrite(path, frame_yx.round().astype(np.uint16))
        rows.append(row(f"{name}_t{t}", path, sequence=name, frame=t))
    return rows


@pytest.fixture
def two_sequences(tmp_path):
    y, x = np.mgrid[:30, :44]
    patterns = {"a": 500 + 80 * np.sin(x / 3), "b": 900 + 80 * np.cos(y / 2)}
    rows = []
    for i, (name, pattern_yx) in enumerate(patterns.items()):
        rows += write_sequence(tmp_path, name, pattern_yx=pattern_yx, seed=i)
    return rows, patterns


@pytest.mark.parametrize("method", ["temporal_median", "temporal_mode"])
def test_the_static_pattern_of_each_sequence_vanishes(tmp_path, two_sequences, method):
    rows, patterns = two_sequences
    images = preprocess(tmp_path / "out", rows, background={"method": method})
    for sample, image_yx in images.items():
        below_yx = image_yx[10:]  # the square moves above
        energy = (patterns[sample[0]][10:] - patterns[sample[0]].mean()) ** 2
        assert ((below_yx - below_yx.mean()) ** 2).mean() < 0.01 * energy.mean()


def test_the_moving_object_keeps_its_counts(tmp_path, two_sequences):
    images = preprocess(tmp_path / "out", two_sequences[0], background={"method": "temporal_median"})
    for name in ("a", "b"):
        for t in range(1, 13):
            assert images[f"{name}_t{t}"][4:8, 3 * t : 3 * t + 3].mean() == pytest.approx(300, abs=3)


def test_a_sequence_does_not_depend_on_its_neighbours_in_the_shard(tmp_path, two_sequences):
    rows, _ = two_sequences
    background = {"method": "temporal_median"}
    together = preprocess(tmp_path / "both", rows[::-1], background=background)
    for name in ("a", "b"):
        alone = preprocess(tmp_path / name, [r for r in rows if r["sequence"] == name], background=background)
        assert all(np.array_equal(alone[sample], together[sample]) for sample in alone)


def test_frames_are_spread_in_the_order_of_their_numbers(tmp_path):
    rows = []
    for t in (1, 2, 10, 11, 12):
        tifffile.imwrite(tmp_path / f"{t}.tif", np.full((4, 5), t * 10, np.uint16))
        rows.append(row(f"t{t}", tmp_path / f"{t}.tif", sequence="s", frame=t))
    by_text = sorted(rows, key=lambda r: r["sample"])  # 1, 10, 11, 12, 2
    images = preprocess(tmp_path / "out", by_text, background={"method": "temporal_median", "max_frames": 3})
    # frames 1, 10 and 12 by number: their median is 100; by text it would be 1, 11 and 2
    assert images["t1"] == pytest.approx(-90)


def test_bands_of_rows_give_the_same_background(tmp_path, two_sequences, monkeypatch):
    rows, _ = two_sequences
    whole = preprocess(tmp_path / "whole", rows, background={"method": "temporal_mode"})
    monkeypatch.setattr("cellmill.stages.preprocess.MAX_STACK_MB", 0)
    bands = preprocess(tmp_path / "bands", rows, background={"method": "temporal_mode"})
    assert all(np.array_equal(whole[sample], bands[sample]) for sample in whole)


def test_the_background_is_the_median_of_the_sequence(tmp_path, two_sequences):
    rows = [r for r in two_sequences[0] if r["sequence"] == "a"]
    stack_tyx = np.stack([tifffile.imread(r["image"]) for r in rows])
    images = preprocess(tmp_path / "out", rows, background={"method": "temporal_median"})
    expected_yx = stack_tyx[5].astype(np.float32) - temporal_median(stack_tyx)
    assert np.array_equal(images["a_t6"], expected_yx)


def test_unsigned_counts_below_the_background_become_negative(tmp_path):
    rows = []
    for t, level in enumerate([12, 12, 10, 12, 12]):
        (tmp_path / f"{t}.png").write_bytes(imagecodecs.png_encode(np.full((4, 5), level, np.uint8)))
        rows.append(row(f"t{t}", tmp_path / f"{t}.png", sequence="s", frame=t))
    images = preprocess(tmp_path / "out", rows, background={"method": "temporal_median"})
    assert images["t2"] == pytest.approx(-2)


def test_margins_hold_the_median_of_a_frame_or_nothing_above_a_background(tmp_path):
    image_yx = np.random.default_rng(0).integers(500, 600, (20, 20)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image_yx)
    fit = {"mode": "crop_pad", "size": [30, 30]}
    plain = preprocess(tmp_path / "plain", [row("a", tmp_path / "a.tif")], fit=fit)["a"]
    flat = preprocess(tmp_path / "flat", [row("a", tmp_path / "a.tif")], fit=fit, background={"method": "gaussian"})[
        "a"
    ]
    assert plain[0] == pytest.approx(np.median(image_yx))
    assert flat[0] == pytest.approx(0)


@pytest.mark.parametrize("at", [[0, 0], [3, 5], [19, 30]])
def test_a_region_is_kept_and_named_by_its_first_pixel(tmp_path, at):
    image_yx = np.random.default_rng(0).integers(500, 600, (20, 31)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image_yx)
    fit = {"mode": "crop_pad", "size": [8, 10], "at": at}
    found_yx = preprocess(tmp_path / "out", [row("a", tmp_path / "a.tif")], fit=fit)["a"]
    wanted_yx = image_yx[at[0] : at[0] + 8, at[1] : at[1] + 10]
    assert np.array_equal(found_yx[: wanted_yx.shape[0], : wanted_yx.shape[1]], wanted_yx)
    geometry = read_geometry(tmp_path / "out" / "geometry.csv")["a"]
    assert [geometry.row_offset, geometry.column_offset] == at
    assert geometry.is_padded == (wanted_yx.shape != (8, 10))


def test_a_region_outside_an_image_is_refused_with_the_size_of_the_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 31), np.uint16))
    fit = {"mode": "crop_pad", "size": [8, 10], "at": [20, 0]}
    with pytest.raises(ValueError, match=r"a\.tif: expected preprocess\.fit\.at within the image of 20 x 31 px, found"):
        preprocess(tmp_path / "out", [row("a", tmp_path / "a.tif")], fit=fit)


def test_the_shard_holds_what_its_contract_says(tmp_path):
    for name, shape in (("a", (20, 31)), ("b", (40, 25))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.ones(shape, np.uint16))
    rows = [row("a", tmp_path / "a.tif"), row("b", tmp_path / "b.tif")]
    images = preprocess(tmp_path / "out", rows, fit={"mode": "resize", "size": [16, 24]})
    geometries = read_geometry(tmp_path / "out" / "geometry.csv")
    assert set(read_manifest(tmp_path / "out")) == {"a.tif", "b.tif", "geometry.csv"}
    assert {sample: image_yx.shape for sample, image_yx in images.items()} == {"a": (16, 24), "b": (16, 24)}
    assert {image_yx.dtype for image_yx in images.values()} == {np.dtype(np.float32)}
    assert unfit_probability(images["b"], geometries["b"]).shape == (40, 25)


def test_a_channel_of_a_colour_image_is_taken(tmp_path):
    rgb = np.zeros((6, 7, 3), np.uint8)
    rgb[:, :, 1] = 90
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(rgb))
    assert preprocess(tmp_path / "out", [row("a", tmp_path / "a.png")], channel=1)["a"] == pytest.approx(90)


def test_all_broken_images_are_named_at_once_and_nothing_is_left(tmp_path):
    tifffile.imwrite(tmp_path / "good.tif", np.ones((8, 8), np.uint8))
    (tmp_path / "text.png").write_text("no image")
    rows = [row(name, tmp_path / name) for name in ("text.png", "good.tif", "gone.tif")]
    with pytest.raises(ValueError, match=r"2 problems with the images:\n.*text\.png.*\n.*gone\.tif") as caught:
        preprocess(tmp_path / "out", rows)
    assert "good.tif" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.tif", "text.png"]


def test_single_images_have_no_temporal_background(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"expected frames of a sequence for temporal_median, found 1 images without"):
        preprocess(tmp_path / "out", [row("a", tmp_path / "a.tif")], background={"method": "temporal_median"})


def test_two_frames_are_too_few_for_a_temporal_background(tmp_path, two_sequences):
    with pytest.raises(ValueError, match=r"sequence a, from .*: expected at least 3 frames .* found 2\. Set"):
        preprocess(tmp_path / "out", two_sequences[0][:2], background={"method": "temporal_mode"})


def test_frames_of_two_sizes_are_refused(tmp_path, two_sequences):
    rows = two_sequences[0][:4]
    tifffile.imwrite(rows[3]["image"], np.ones((30, 45), np.uint16))
    with pytest.raises(ValueError, match=r"sequence a.*frames of the same size.*found 30 x 44, 30 x 45 px"):
        preprocess(tmp_path / "out", rows, background={"method": "temporal_median"})


def test_an_empty_section_is_a_complete_one():
    assert Preprocess().model_dump(mode="json") == {
        "channel": "luminance",
        "channels": None,
        "hot_pixels": "replace",
        "background": {
            "method": "none", "radius_px": 50.0, "sigma_px": 50.0, "max_frames": 101, "dark": 0.0, "then": "none",
        },
        "rescale": None,
        "fit": {"mode": "none", "size": None, "at": None},
    }  # fmt: skip


def test_a_resolved_section_is_valid_again():
    first = Preprocess.model_validate(
        {"channel": 2, "background": {"method": "tophat", "radius_px": 9}, "fit": {"mode": "resize", "size": [64, 32]}}
    )
    assert Preprocess.model_validate(first.model_dump(mode="json")) == first


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"background": {"method": "gaussian", "radius_px": 9}}, "sigma_px with method gaussian, found radius_px"),
        ({"background": {"radius_px": 9}}, "expected no other key with method none, found radius_px"),
        ({"background": {"method": "rolling_ball", "radius_px": 0}}, "greater than 0"),
        ({"fit": {"mode": "resize"}}, r"expected a size for mode resize, found none\. Set size to"),
        ({"fit": {"size": [64, 64]}}, r"expected no size for mode none, found \[64, 64\]"),
        ({"fit": {"mode": "resize", "size": [64]}}, "size"),
        (
            {"fit": {"mode": "resize", "size": [64, 64], "at": [0, 0]}},
            r"expected at with mode crop_pad only, found \[0, 0\] with mode resize\. Set mode to crop_pad",
        ),
        ({"fit": {"mode": "crop_pad", "size": [64, 64], "at": [-1, 0]}}, "greater than or equal to 0"),
        ({"channel": ""}, "channel"),
        ({"backgrund": {}}, "backgrund"),
    ],
)
def test_contradictory_sections_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Preprocess.model_validate(section)


def test_every_setting_is_described():
    for model in (Preprocess, *(field.annotation for field in Preprocess.model_fields.values())):
        if hasattr(model, "model_fields"):
            assert all(field.description for field in model.model_fields.values())


def test_frames_around_a_shard_enter_its_background_and_are_not_written(tmp_path, two_sequences):
    rows, _ = two_sequences
    whole = preprocess(tmp_path / "whole", rows, background={"method": "temporal_median"})
    own = [r for r in rows if r["frame"] <= 2]
    around = [r for r in rows if r["frame"] > 2]
    part = preprocess(tmp_path / "part", own, context=around, background={"method": "temporal_median"})
    assert set(part) == {r["sample"] for r in own}
    for sample, image_yx in part.items():
        assert np.array_equal(image_yx, whole[sample])


@pytest.mark.parametrize(
    "fit",
    [
        {"mode": "none"},
        {"mode": "resize", "size": [101, 57]},
        {"mode": "resize", "size": [400, 333]},
        {"mode": "crop_pad", "size": [120, 300]},
        {"mode": "crop_pad", "size": [500, 100]},
    ],
    ids=["none", "smaller", "larger", "cut", "padded"],
)
@pytest.mark.parametrize(
    "background",
    [
        {"method": "none"},
        {"method": "gaussian", "sigma_px": 4.0},
        {"method": "tophat", "radius_px": 7.0},
        {"method": "rolling_ball", "radius_px": 9.0},
        {"method": "rolling_ball", "radius_px": 12.0},
    ],
    ids=lambda section: f"{section['method']}{section.get('radius_px', '')}",
)
def test_bands_give_what_the_whole_image_gives(tmp_path, monkeypatch, fit, background):
    rng = np.random.default_rng(0)
    image = (200 + 100 * gaussian_filter(rng.normal(size=(311, 203)), 5) + rng.normal(size=(311, 203))).round()
    tifffile.imwrite(tmp_path / "a.tif", image.astype(np.uint16), tile=(32, 32), compression="zlib")
    whole = preprocess(tmp_path / "whole", [row("a", tmp_path / "a.tif")], background=background, fit=fit)["a"]
    monkeypatch.setattr("cellmill.stages.preprocess.BAND_PIXELS", 203 * 90)
    banded = preprocess(tmp_path / "banded", [row("a", tmp_path / "a.tif")], background=background, fit=fit)["a"]
    # In a large image the level of the margin is computed from fewer pixels.
    assert banded == pytest.approx(
        whole, abs=1.0 if fit["mode"] == "crop_pad" and background["method"] == "none" else 0
    )


def test_large_frames_lose_the_mean_of_all_their_rows(tmp_path, monkeypatch, two_sequences):
    rows, _ = two_sequences
    whole = preprocess(tmp_path / "whole", rows, background={"method": "temporal_mode"})
    monkeypatch.setattr("cellmill.stages.preprocess.BAND_PIXELS", 44 * 7)
    banded = preprocess(tmp_path / "banded", rows, background={"method": "temporal_mode"})
    assert all(np.array_equal(banded[sample], whole[sample]) for sample in whole)


def test_the_pixel_size_of_the_metadata_goes_with_the_geometry(tmp_path):
    options = {"resolution": (4, 4), "metadata": {"unit": "um"}, "imagej": True}
    tifffile.imwrite(tmp_path / "a.tif", np.arange(20, dtype=np.uint16).reshape(4, 5), **options)
    tifffile.imwrite(tmp_path / "b.tif", np.arange(20, dtype=np.uint16).reshape(4, 5))
    preprocess(tmp_path / "out", [row(name, tmp_path / f"{name}.tif") for name in "ab"])
    geometries = read_geometry(tmp_path / "out" / "geometry.csv")
    assert (geometries["a"].pixel_size_um, geometries["b"].pixel_size_um) == (0.25, None)


def test_frames_of_a_stack_are_a_sequence(tmp_path, two_sequences):
    rows, _ = two_sequences
    own = [r for r in rows if r["sequence"] == "a"]
    stack = np.stack([tifffile.imread(r["image"]) for r in own])
    tifffile.imwrite(tmp_path / "stack.tif", stack, imagej=True, metadata={"axes": "TYX"})
    planes = [{**r, "image": str(tmp_path / "stack.tif"), "plane": [["T", i, 12]]} for i, r in enumerate(own)]
    background = {"method": "temporal_median"}
    from_stack = preprocess(tmp_path / "stacked", planes, background=background)
    from_files = preprocess(tmp_path / "single", own, background=background)
    assert all(np.array_equal(from_stack[sample], from_files[sample]) for sample in from_files)


@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 65535), (np.float32, 1e30)])
def test_a_hot_pixel_is_replaced_before_anything_else(tmp_path, dtype, value):
    clean_yx = np.random.default_rng(0).normal(300, 30, (50, 60)).round().astype(dtype)
    hot_yx = clean_yx.copy()
    hot_yx[20, 30] = value
    around = np.delete(clean_yx[19:22, 29:32].ravel(), 4)
    clean_yx[20, 30] = np.median(around)
    tifffile.imwrite(tmp_path / "clean.tif", clean_yx)
    tifffile.imwrite(tmp_path / "hot.tif", hot_yx)
    for background in ({"method": "none"}, {"method": "gaussian", "sigma_px": 5.0}, {"method": "rolling_ball"}):
        rows = [row(name, tmp_path / f"{name}.tif") for name in ("clean", "hot")]
        images = preprocess(tmp_path / background["method"], rows, background=background)
        assert images["hot"] == pytest.approx(images["clean"], abs=1)
    kept = preprocess(tmp_path / "kept", [row("hot", tmp_path / "hot.tif")], hot_pixels="keep")["hot"]
    assert np.array_equal(kept, hot_yx.astype(np.float32))


def test_a_sound_image_stays_byte_equal_whatever_hot_pixels_says(tmp_path):
    image_yx = np.random.default_rng(0).integers(0, 60000, (50, 60)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image_yx)
    files = []
    for value in ("keep", "replace"):
        preprocess(tmp_path / value, [row("a", tmp_path / "a.tif")], hot_pixels=value)
        files.append((tmp_path / value / "a.tif").read_bytes())
    assert files[0] == files[1]


def test_a_hot_pixel_of_one_frame_does_not_change_the_temporal_background(tmp_path, two_sequences):
    rows = [r for r in two_sequences[0] if r["sequence"] == "a"]
    expected = preprocess(tmp_path / "clean", rows, background={"method": "temporal_mode"})
    frame_yx = tifffile.imread(rows[5]["image"])
    frame_yx[25, 40] = 65535
    tifffile.imwrite(rows[5]["image"], frame_yx)
    images = preprocess(tmp_path / "hot", rows, background={"method": "temporal_mode"})
    for sample in expected:
        assert images[sample] == pytest.approx(expected[sample], abs=3)


def test_a_cropped_frame_loses_the_mean_of_the_whole_frame(tmp_path):
    ramp_yx = np.add.outer(np.arange(64) * 4.0, np.zeros(40)) + 100
    rows = []
    for t in range(6):
        frame_yx = ramp_yx + np.random.default_rng(t).normal(0, 0.5, ramp_yx.shape)
        tifffile.imwrite(tmp_path / f"{t}.tif", frame_yx.astype(np.float32))
        rows.append(row(f"t{t}", tmp_path / f"{t}.tif", sequence="s", frame=t))
    background = {"method": "temporal_mode"}
    whole = preprocess(tmp_path / "whole", rows, background=background)
    # fewer rows than the frame, from its upper part after a shift of the centre by an odd difference
    cropped = preprocess(tmp_path / "cut", rows, background=background, fit={"mode": "crop_pad", "size": [33, 40]})
    first = (64 - 33) // 2
    for sample in whole:
        assert cropped[sample] == pytest.approx(whole[sample][first : first + 33], abs=1e-3)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_image_is_preprocessed_as_shown(tmp_path, orientation):
    image_yx = np.random.default_rng(0).integers(0, 200, (30, 44)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", image_yx, extratags=[(274, 3, 1, orientation, True)], metadata=None)
    shown_yx = image_yx[::-1, ::-1] if orientation == 3 else np.rot90(image_yx, -1)
    images = preprocess(tmp_path / "out", [row("a", tmp_path / "a.tif")])
    assert np.array_equal(images["a"], shown_yx)
    geometry = read_geometry(tmp_path / "out/geometry.csv")["a"]
    assert (geometry.raw_rows, geometry.raw_columns) == shown_yx.shape


# ---- rescaling ------------------------------------------------------------------------------------------


def write_sized(path, image_yx, *, down_um=None, across_um=None):
    """Write an image with a pixel size in its metadata, as ImageJ does."""
    options = (
        {"resolution": (1 / across_um, 1 / down_um), "metadata": {"unit": "um"}, "imagej": True} if down_um else {}
    )
    tifffile.imwrite(path, image_yx.astype(np.uint16), **options)


def test_each_image_is_rescaled_by_its_own_pixel_size(tmp_path):
    image_yx = np.random.default_rng(0).integers(0, 900, (40, 60))
    for name, edges in (("a", (0.25, 0.25)), ("b", (1.0, 1.0)), ("c", (0.5, 0.25))):
        write_sized(tmp_path / f"{name}.tif", image_yx, down_um=edges[0], across_um=edges[1])
    rows = [row(name, tmp_path / f"{name}.tif") for name in "abc"]
    images = preprocess(tmp_path / "out", rows, rescale={"pixel_size_um": 0.5})
    assert {name: image.shape for name, image in images.items()} == {"a": (20, 30), "b": (80, 120), "c": (40, 30)}
    assert images["a"] == pytest.approx(image_yx.reshape(20, 2, 30, 2).mean(axis=(1, 3)), abs=1e-3)
    geometries = read_geometry(tmp_path / "out" / "geometry.csv")
    # um of the tables are those of raw pixels
    assert geometries["a"].pixel_size_um == pytest.approx(0.25)
    assert geometries["c"].scaled_shape == (40, 30)
    assert all(unfit_probability(images[name], geometries[name]).shape == (40, 60) for name in "abc")


def test_images_without_pixel_size_are_named_together(tmp_path):
    for name in "ab":
        write_sized(tmp_path / f"{name}.tif", np.ones((9, 9)))
    rows = [row(name, tmp_path / f"{name}.tif") for name in "ab"]
    with pytest.raises(ValueError, match=r"(?s)a\.tif: expected a pixel size.*b\.tif: expected a pixel size"):
        preprocess(tmp_path / "out", rows, rescale={"pixel_size_um": 0.5})
    images = preprocess(tmp_path / "given", rows, rescale={"pixel_size_um": 0.5, "given_um": 1.0})
    assert images["a"].shape == (18, 18)


def test_the_measured_diameter_is_read_from_its_file(tmp_path, caplog):
    write_sized(tmp_path / "a.tif", np.ones((60, 90)))
    (tmp_path / "diameter.json").write_text('{"object_px": 60}')
    rows = [row("a", tmp_path / "a.tif")]
    images = preprocess(tmp_path / "out", rows, rescale={"diameter_px": 12.0}, diameter_path=tmp_path / "diameter.json")
    assert images["a"].shape == (12, 18)
    assert "1 of 1 images are rescaled by a factor below 1/4 or above 4, such as a by 0.2" in caplog.text


def test_a_model_from_elsewhere_uses_its_factor_where_the_pixel_size_is_unknown(tmp_path, caplog):
    write_sized(tmp_path / "a.tif", np.ones((40, 40)), down_um=0.25, across_um=0.25)
    write_sized(tmp_path / "b.tif", np.ones((40, 40)))
    rows = [row(name, tmp_path / f"{name}.tif") for name in "ab"]
    section = {"diameter_px": 24.0, "object_px": 24.0, "object_pixel_um": 0.5}
    images = preprocess(tmp_path / "out", rows, rescale=section)
    assert (images["a"].shape, images["b"].shape) == ((20, 20), (40, 40))
    assert "1 of 2 images have no pixel size and are rescaled by the factor of the model's training" in caplog.text


def test_all_frames_of_a_sequence_have_one_factor(tmp_path, two_sequences):
    rows, _ = two_sequences
    background = {"method": "temporal_median"}
    plain = preprocess(tmp_path / "plain", rows, background=background)
    images = preprocess(tmp_path / "out", rows, background=background, rescale={"diameter_px": 6.0, "object_px": 12.0})
    # The background is subtracted from raw frames.
    for sample, image_yx in images.items():
        assert image_yx == pytest.approx(plain[sample].reshape(15, 2, 22, 2).mean(axis=(1, 3)), abs=1e-3)
    for frame, edge_um in ((rows[0], 0.5), (rows[1], 0.5001), (rows[2], 0.9)):
        write_sized(tmp_path / "x.tif", tifffile.imread(frame["image"]), down_um=edge_um, across_um=edge_um)
        (tmp_path / "x.tif").replace(frame["image"])
    with pytest.raises(
        ValueError, match=r"a_t3.tif: expected the pixel size of .*a_t1.tif, the first frame of"
    ) as caught:
        preprocess(tmp_path / "bad", rows[:3], rescale={"pixel_size_um": 0.5})
    assert "a_t2.tif" not in str(caught.value).split("a_t1.tif", 1)[0]


def test_a_large_image_is_rescaled_in_bands(tmp_path, monkeypatch):
    image_yx = gaussian_filter(np.random.default_rng(1).normal(500, 300, (90, 40)), 2).clip(0)
    write_sized(tmp_path / "a.tif", image_yx)
    rows = [row("a", tmp_path / "a.tif")]
    for factor in (0.25, 0.77, 3.0):
        settings = {
            "rescale": {"diameter_px": 12.0 * factor, "object_px": 12.0},
            "background": {"method": "gaussian", "sigma_px": 2.0},
        }
        whole = preprocess(tmp_path / f"whole{factor}", rows, **settings)["a"]
        with monkeypatch.context() as patched:
            patched.setattr("cellmill.stages.preprocess.BAND_PIXELS", 40 * 30)
            banded = preprocess(tmp_path / f"banded{factor}", rows, **settings)["a"]
        assert banded == pytest.approx(whole, abs=1e-3)


def test_padding_of_a_rescaled_image_has_its_median(tmp_path):
    write_sized(tmp_path / "a.tif", np.full((20, 20), 300))
    images = preprocess(
        tmp_path / "out",
        [row("a", tmp_path / "a.tif")],
        rescale={"diameter_px": 6.0, "object_px": 12.0},
        fit={"mode": "crop_pad", "size": [16, 8]},
    )
    assert images["a"].shape == (16, 8)
    assert images["a"] == pytest.approx(300)
