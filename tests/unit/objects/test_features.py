"""Features of objects by name: against numbers computed by hand, other formulas and scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import measure

from cellmill.objects.feature_measurements import LEVELS, UnmeasuredObject, measure_feret, measure_textures
from cellmill.objects.features import DISTANCES_PX, FEATURES, explain_channels, list_columns
from cellmill.objects.units import unit_of_column

SHAPES = [name for name, facts in FEATURES.items() if facts["group"] == "shape"]
ROWS, COLUMNS = np.indices((41, 41))
DISC = (ROWS - 20) ** 2 + (COLUMNS - 20) ** 2 <= 400
RECTANGLE = np.ones((4, 6), dtype=bool)
PIXEL = np.ones((1, 1), dtype=bool)
LINE = np.ones((1, 7), dtype=bool)
NAN = np.nan


def measure_one(mask_yx, names, *images, channels=None, range_counts=(0, 32), pixel_size_um=0.5):
    """Measure features of one object: column -> value."""
    ranges = [range_counts] * len(images)
    one = UnmeasuredObject(mask_yx, images, ranges_counts=ranges, pixel_size_um=pixel_size_um)
    columns = list_columns(names, channels=channels or [f"c{place}" for place in range(len(images))])
    return dict(zip([column.name for column in columns], one.measure(columns), strict=True))


# By hand. The line through the centres of the border pixels of 4 x 6 px has the length 2 (3 + 5); its largest extent
# is that of two edge midpoints, as in sqrt(6^2 + 3^2); the axes are 4 sqrt((n^2 - 1) / 12) for n pixels. The variance
# of n pixels in a line is (n^2 - 1) / 12.
@pytest.mark.parametrize(
    ("mask_yx", "expected"),
    [
        (RECTANGLE, {
            "perimeter_px": 16, "perimeter_um": 8, "feret_diameter_max_px": 45**0.5, "feret_diameter_max_um": 45**0.5 / 2,
            "area_convex_px": 24, "area_convex_um2": 6, "extent": 1, "form_factor": 4 * np.pi * 24 / 256,
            "aspect_ratio": (35 / 15) ** 0.5, "orientation_deg": 90, "euler_number": 1, "holes": 0,
        }),
        (PIXEL, {
            "perimeter_px": 0, "perimeter_um": 0, "feret_diameter_max_px": 1, "feret_diameter_max_um": 0.5,
            "area_convex_px": 1, "area_convex_um2": 0.25, "extent": 1, "form_factor": NAN, "aspect_ratio": NAN,
            "orientation_deg": NAN, "euler_number": 1, "holes": 0,
        }),
        (LINE, {
            "feret_diameter_max_px": 7, "area_convex_px": 7, "extent": 1, "aspect_ratio": NAN, "orientation_deg": 90,
            "euler_number": 1, "holes": 0,
        }),
        (np.eye(5, dtype=bool), {
            "perimeter_px": 3 * 2**0.5, "extent": 0.2, "aspect_ratio": NAN, "orientation_deg": 45, "holes": 0,
        }),
        (np.eye(5, dtype=bool)[::-1], {"orientation_deg": -45, "euler_number": 1}),
        (np.ones((5, 5), dtype=bool), {"orientation_deg": NAN, "aspect_ratio": 1, "perimeter_px": 16}),
    ],
)  # fmt: skip
def test_shapes_have_the_values_computed_by_hand(mask_yx, expected):
    found = measure_one(mask_yx, SHAPES)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True, rel=1e-9)


def test_a_disc_is_round():
    found = measure_one(DISC, SHAPES, pixel_size_um=None)
    # The outline of a digital disc follows the grid: its length is 5 % above that of the circle.
    assert found["perimeter_px"] == pytest.approx(2 * np.pi * 20, rel=0.06)
    assert found["form_factor"] == pytest.approx(4 * np.pi * DISC.sum() / found["perimeter_px"] ** 2)
    assert 0.85 < found["form_factor"] < 1
    assert found["feret_diameter_max_px"] == pytest.approx(41, abs=1)
    assert found["aspect_ratio"] == pytest.approx(1)
    assert np.isnan(found["orientation_deg"])
    assert np.isnan([found[f"{name}_um"] for name in ("perimeter", "feret_diameter_max")]).all()
    assert np.isnan(found["area_convex_um2"])


def test_holes_and_parts_are_counted():
    mask_yx = DISC.copy()
    mask_yx[20, 20] = mask_yx[20, 10] = False
    assert measure_one(mask_yx, ["holes", "euler_number"]) == {"euler_number": -1, "holes": 2}
    two_yx = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 1, 1]], dtype=bool)
    assert measure_one(two_yx, ["holes", "euler_number"]) == {"euler_number": 2, "holes": 0}
    # four pixels around a corner-connected gap: the ring is closed over corners
    ring_yx = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    assert measure_one(ring_yx, ["holes", "euler_number"]) == {"euler_number": 0, "holes": 1}


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 12), columns=st.integers(1, 12))
def test_the_feret_diameter_is_that_of_scikit_image(seed, rows, columns):
    mask_yx = np.random.default_rng(seed).random((rows, columns)) < 0.6
    mask_yx[rows // 2, columns // 2] = True
    region = measure.regionprops(mask_yx.astype(np.uint8))[0]
    assert measure_feret(region.image_convex) == pytest.approx(region.feret_diameter_max, rel=1e-12)


def test_intensities_of_each_channel_are_those_of_its_pixels():
    mask_yx = np.array([[1, 1, 0], [1, 1, 1]], dtype=bool)
    first_yx = np.array([[1, 2, 99], [3, 4, 10]], dtype=np.uint16)
    second_yx = 65535 - first_yx
    found = measure_one(mask_yx, ["intensity_mean", "intensity_std", "intensity_median", "intensity_min",
                                  "intensity_max", "intensity_integrated"], first_yx, second_yx)  # fmt: skip
    assert found["raw_intensity_mean_c0"] == 4
    assert found["raw_intensity_std_c0"] == pytest.approx(10**0.5)  # squares of -3, -2, -1, 0, 6: mean 10
    assert (found["raw_intensity_median_c0"], found["raw_intensity_min_c0"], found["raw_intensity_max_c0"]) == (
        3,
        1,
        10,
    )
    assert found["raw_intensity_integrated_c0"] == 20
    assert found["raw_intensity_integrated_c1"] == 5 * 65535 - 20  # beyond the range of 16 bits
    assert found["raw_intensity_min_c1"] == 65525


def test_the_correlation_of_channels_is_that_of_pearson_and_undefined_for_a_constant():
    rng = np.random.default_rng(1)
    first_yx, second_yx = rng.normal(size=(2, *DISC.shape))
    images = (first_yx, 3 - 2 * first_yx, second_yx, np.full(DISC.shape, 7.0))
    found = measure_one(DISC, ["channel_correlation"], *images)
    assert list(found) == [
        f"channel_correlation_c{a}_c{b}" for a, b in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    ]
    assert found["channel_correlation_c0_c1"] == pytest.approx(-1)
    a, b = first_yx[DISC], second_yx[DISC]
    by_hand = np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std())
    assert found["channel_correlation_c0_c2"] == pytest.approx(by_hand)
    assert np.isnan(found["channel_correlation_c0_c3"])


def pairs_by_hand(mask_yx, levels_yx, distance_px):
    """List the levels of all pairs of pixels inside an object, in both orders, over four directions."""
    step = round(distance_px * 2**-0.5)
    pairs = []
    for down, across in ((0, distance_px), (step, -step), (distance_px, 0), (step, step)):
        for row, column in np.argwhere(mask_yx):
            other = (row + down, column + across)
            if 0 <= other[0] < mask_yx.shape[0] and 0 <= other[1] < mask_yx.shape[1] and mask_yx[other]:
                pairs += [(levels_yx[row, column], levels_yx[other]), (levels_yx[other], levels_yx[row, column])]
    return np.array(pairs, dtype=float)


@pytest.mark.parametrize("distance_px", DISTANCES_PX)
def test_textures_are_those_of_all_pairs_of_pixels(distance_px):
    rng = np.random.default_rng(2)
    mask_yx = rng.random((9, 11)) < 0.7
    levels_yx = rng.integers(0, LEVELS, mask_yx.shape)
    found = measure_textures(mask_yx, 100 + 2 * levels_yx, range_counts=(100, 100 + 2 * LEVELS))
    a, b = pairs_by_hand(mask_yx, levels_yx, distance_px).T
    _, counts = np.unique(np.stack((a, b)), axis=1, return_counts=True)
    expected = {
        "contrast": np.mean((a - b) ** 2),
        "homogeneity": np.mean(1 / (1 + (a - b) ** 2)),
        "energy": np.sum((counts / counts.sum()) ** 2) ** 0.5,
        "correlation": np.corrcoef(a, b)[0, 1],
    }
    assert {name: found[f"texture_{name}", distance_px] for name in expected} == pytest.approx(expected)


def test_the_surroundings_of_an_object_do_not_change_its_texture():
    image_yx = np.random.default_rng(3).integers(0, 32, DISC.shape)
    other_yx = np.where(DISC, image_yx, 31 - image_yx)
    assert measure_textures(DISC, image_yx, range_counts=(0, 32)) == measure_textures(
        DISC, other_yx, range_counts=(0, 32)
    )


def test_textures_without_pairs_or_with_one_level_are_undefined_where_they_have_no_value():
    alone = measure_textures(PIXEL, np.array([[5]]), range_counts=(0, 32))
    assert np.isnan(list(alone.values())).all()
    flat = measure_textures(RECTANGLE, np.full((4, 6), 5), range_counts=(5, 5))
    assert flat["texture_contrast", 1] == 0
    assert flat["texture_homogeneity", 1] == flat["texture_energy", 3] == 1
    assert np.isnan([flat["texture_correlation", distance_px] for distance_px in DISTANCES_PX]).all()
    short = measure_textures(np.ones((1, 3), dtype=bool), np.array([[1, 5, 9]]), range_counts=(0, 32))
    assert short["texture_contrast", 1] == 16
    assert np.isnan(short["texture_contrast", 3])


def test_intensities_beyond_the_range_have_the_nearest_level():
    image_yx = np.array([[-50.0, 1000.0]])
    found = measure_textures(np.ones((1, 2), dtype=bool), image_yx, range_counts=(0, 32))
    assert found["texture_contrast", 1] == (LEVELS - 1) ** 2


def test_columns_follow_the_list_of_features_and_the_channels():
    names = [column.name for column in list_columns(["texture_energy", "perimeter"], channels=["dapi", "actin"])]
    assert names == [
        "perimeter_px", "perimeter_um", "texture_energy_1px_dapi", "texture_energy_1px_actin", "texture_energy_3px_dapi",
        "texture_energy_3px_actin",
    ]  # fmt: skip


def test_channels_that_an_image_lacks_are_undefined():
    found = measure_one(RECTANGLE, ["intensity_mean", "texture_energy"], np.ones((4, 6)), channels=["c0", "c1"])
    assert found["raw_intensity_mean_c0"] == 1
    assert np.isnan([found["raw_intensity_mean_c1"], found["texture_energy_1px_c1"]]).all()


def test_every_feature_has_a_column_with_its_unit():
    columns = list_columns(list(FEATURES), channels=["c0", "c1"])
    assert {column.feature for column in columns} == set(FEATURES)
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        unit = FEATURES[column.feature]["unit"]
        expected = unit.replace("px", "um") if column.is_in_um else unit
        assert unit_of_column(column.name) == expected, column.name


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("area_px", "px2"), ("area_um2", "um2"), ("axis_major_um", "um"), ("centroid_row_px", "px"), ("solidity", ""),
        ("intensity_above_background", "counts"), ("raw_intensity_max", "counts"), ("object", ""), ("confidence", ""),
    ],
)  # fmt: skip
def test_the_unit_of_a_column_is_in_its_name(name, unit):
    assert unit_of_column(name) == unit


def test_channels_are_compared_with_the_image():
    assert explain_channels(3, channels="all", features=["channel_correlation"]) == ""
    assert explain_channels(3, channels=[("c2", 2)], features=["intensity_mean"]) == ""
    assert explain_channels(2, channels=[("dapi", 2)], features=["intensity_mean"]) == (
        "expected at least 3 channels, found 2. Set measure.channels to numbers from 0 to 1."
    )
    assert explain_channels(1, channels="all", features=["perimeter", "channel_correlation"]) == (
        "expected several channels for channel_correlation, found one. Remove channel_correlation from measure.features."
    )
