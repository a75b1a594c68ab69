"""Augmentation: all planes move together, labels are never interpolated, flows rotate, sizes are as configured."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellmill.config.augmentation import Augmentation
from cellmill.images.stored import IGNORE_LABEL
from cellmill.training.augmentation import BLACK, WHITE, Values, augment, draw_geometry, draw_values, margin_px
from cellmill.training.warping import ELASTIC_REACH, Elastic, Geometry, Window, back_matrix

PATCH = (64, 64)
STILL = Geometry(
    back_yx=None,
    shift_yx_px=(0, 0),
    elastic=None,
    quarter_turns=0,
    flip_rows=False,
    flip_columns=False,
    reverse_time=False,
    is_inverted=False,
)
SAME = Values(gain=1, offset=0, noise=0, is_about_patch=False)
ALL_GEOMETRY = {
    "flip": True,
    "rotate_90": True,
    "affine_probability": 0.8,
    "rotation_deg": 40,
    "zoom": [0.7, 1.4],
    "zoom_axes": "independent",
    "shear_deg": 10,
    "jitter": 0.05,
    "translation": 0.1,
    "elastic": {"probability": 0.5, "displacement_px": 1.5, "smoothness": 0.15},
}
SYMMETRIES = [
    replace(STILL, quarter_turns=turns, flip_rows=rows, flip_columns=columns)
    for turns in range(4)
    for rows in (False, True)
    for columns in (False, True)
]


def settings_of(**changes):
    return Augmentation(**changes).model_dump(mode="json")


def affine(*, rotation_deg=0.0, zoom_yx=(1.0, 1.0), shear_deg=0.0, **changes):
    back_yx = back_matrix(rotation_deg=rotation_deg, zoom_yx=zoom_yx, shear_deg=shear_deg)
    return replace(STILL, back_yx=back_yx, **changes)


def window_of(images, labels=None, maps=None, *, is_vector=False):
    """Return a window of read-only planes; a single plane may lack its first axis, and labels are optional."""
    images_cyx = np.atleast_3d(images.T).T.astype(np.float32)
    labels_tyx = np.zeros((1, *images_cyx.shape[1:])) if labels is None else np.atleast_3d(labels.T).T
    maps_cyx = None if maps is None else maps.astype(np.float32)
    window = Window(images_cyx, labels_tyx.astype(np.uint16), maps_cyx, is_vector)
    for planes in (window.images_cyx, window.labels_tyx, window.maps_cyx):
        if planes is not None:
            planes.setflags(write=False)
    return window


def apply(window, geometry=STILL, *, values=(SAME,), shape=PATCH, seed=0):
    return augment(window, geometry=geometry, values=list(values), shape=shape, rng=np.random.default_rng(seed))


def places(geometry, *, shape=PATCH, margin=0):
    """Return the position (y, x) each pixel of the result was taken from, relative to the middle of the window."""
    grid_cyx = np.mgrid[: shape[0] + 2 * margin, : shape[1] + 2 * margin].astype(float)
    grid_cyx -= np.array([(length - 1) / 2 for length in grid_cyx.shape[1:]])[:, None, None]
    return apply(window_of(grid_cyx), geometry, shape=shape).images_cyx


def ellipses(shape):
    """Draw three large smooth cells, two of which touch along a line."""
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    labels_yx = np.zeros(shape, np.uint16)
    labels_yx[((y - 0.4) / 0.22) ** 2 + ((x - 0.55) / 0.16) ** 2 < 1] = 7
    labels_yx[(labels_yx == 7) & (x > 0.55)] = 300
    labels_yx[((y - 0.75) / 0.14) ** 2 + ((x - 0.3) / 0.2) ** 2 < 1] = 60000
    return labels_yx


def flow_to_middle(labels_yx):
    """Return unit vectors (y, x) from each pixel of an object to the mean of its pixels; 0 elsewhere."""
    y, x = np.mgrid[: labels_yx.shape[0], : labels_yx.shape[1]]
    flow_cyx = np.zeros((2, *labels_yx.shape))
    for label in set(np.unique(labels_yx)) - {0, IGNORE_LABEL}:
        inside_yx = labels_yx == label
        there = np.stack([(axis[inside_yx].mean() - axis[inside_yx]) for axis in (y, x)])
        length = np.hypot(*there)
        flow_cyx[:, inside_yx] = np.where(length > 1e-9, there / np.maximum(length, 1e-9), 0)
    return flow_cyx


def angles_deg(one_cyx, other_cyx):
    across = one_cyx[0] * other_cyx[1] - one_cyx[1] * other_cyx[0]
    return np.degrees(np.abs(np.arctan2(across, (one_cyx * other_cyx).sum(axis=0))))


def test_frames_and_labels_move_together_over_a_hundred_draws():
    settings = settings_of(**ALL_GEOMETRY)
    margin = margin_px(settings, patch=PATCH, context_px=0)
    labels_yx = ellipses((PATCH[0] + 2 * margin, PATCH[1] + 2 * margin))
    window = window_of(np.stack([labels_yx > 0, labels_yx == 7]), labels_yx)
    for seed in range(100):
        moved = apply(window, draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed)))
        for image_yx, truth_yx in zip(
            moved.images_cyx, (moved.labels_tyx[0] > 0, moved.labels_tyx[0] == 7), strict=True
        ):
            found_yx = image_yx > 0.5
            assert (found_yx & truth_yx).sum() >= 0.97 * (found_yx | truth_yx).sum()


def test_no_label_appears_that_was_not_there():
    labels_yx = ellipses(PATCH)
    labels_yx[:5] = IGNORE_LABEL
    settings = settings_of(**ALL_GEOMETRY)
    for seed in range(30):
        moved = apply(
            window_of(labels_yx, labels_yx), draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed))
        )
        assert moved.labels_tyx.dtype == np.uint16
        assert set(np.unique(moved.labels_tyx)) <= {0, 7, 300, 60000, IGNORE_LABEL}


@pytest.mark.parametrize("geometry", SYMMETRIES)
def test_the_flow_of_turned_labels_is_the_turned_flow(geometry):
    labels_yx = ellipses(PATCH)
    moved = apply(window_of(labels_yx, labels_yx, flow_to_middle(labels_yx), is_vector=True), geometry)
    assert np.abs(moved.maps_cyx - flow_to_middle(moved.labels_tyx[0])).max() < 1e-5


def test_quarter_turns_and_flips_move_numbers_and_change_their_signs_only():
    field_cyx = np.random.default_rng(2).normal(size=(2, 4, 4)).astype(np.float32)
    window = window_of(field_cyx[0], np.ones((4, 4)), field_cyx, is_vector=True)
    turned = apply(window, replace(STILL, quarter_turns=1), shape=(4, 4)).maps_cyx
    # The upper right corner moves to the upper left: vectors down become vectors to the right, those to the right
    # point up.
    assert turned[1, 0, 0] == field_cyx[0, 0, -1]
    assert turned[0, 0, 0] == -field_cyx[1, 0, -1]
    mirrored = apply(window, replace(STILL, flip_columns=True), shape=(4, 4)).maps_cyx
    assert np.array_equal(mirrored, np.stack([field_cyx[0], -field_cyx[1]])[:, :, ::-1])


@pytest.mark.parametrize(
    "geometry",
    [
        affine(rotation_deg=33),
        affine(rotation_deg=-120, zoom_yx=(1.3, 1.3), shift_yx_px=(3.0, -2.4)),
        affine(zoom_yx=(0.8, 1.3)),
        affine(shear_deg=20),
        affine(rotation_deg=25, shear_deg=-15, zoom_yx=(1.2, 0.9), quarter_turns=3, flip_rows=True),
    ],
)
def test_a_flow_to_the_middle_of_a_disc_still_points_there_when_the_disc_is_an_ellipse(geometry):
    y, x = np.mgrid[:96, :96]
    labels_yx = 5 * ((y - 50) ** 2 + (x - 45) ** 2 < 18**2)
    moved = apply(window_of(labels_yx, labels_yx, flow_to_middle(labels_yx), is_vector=True), geometry)
    expected_cyx = flow_to_middle(moved.labels_tyx[0])
    y, x = np.mgrid[: PATCH[0], : PATCH[1]]
    inside_yx = moved.labels_tyx[0] == 5
    far_yx = inside_yx & (np.hypot(y - y[inside_yx].mean(), x - x[inside_yx].mean()) > 4)
    assert far_yx.sum() > 500
    # Half a pixel of error in the disc's middle, seen from 4 px away, is 7 degrees.
    assert angles_deg(moved.maps_cyx, expected_cyx)[far_yx].max() < 7
    assert angles_deg(moved.maps_cyx, expected_cyx)[far_yx].mean() < 1.5


def test_unit_flows_stay_unit_inside_and_zero_outside():
    settings = settings_of(**ALL_GEOMETRY)
    labels_yx = ellipses((100, 100))
    labels_yx[:, :9] = IGNORE_LABEL
    flow_cyx = flow_to_middle(labels_yx)
    assert (np.hypot(*flow_cyx)[(labels_yx > 0) & (labels_yx != IGNORE_LABEL)] > 0.99).all()
    window = window_of(labels_yx, labels_yx, flow_cyx, is_vector=True)
    for seed in range(30):
        moved = apply(window, draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed)))
        inside_yx = (moved.labels_tyx[0] > 0) & (moved.labels_tyx[0] != IGNORE_LABEL)
        length_yx = np.hypot(*moved.maps_cyx)
        assert np.abs(length_yx[inside_yx] - 1).max() < 1e-5
        assert not length_yx[~inside_yx].any()


def test_where_cells_touch_no_flow_points_into_the_other_one():
    labels_yx = np.repeat([[1] * 12 + [2] * 12], 96, axis=0).repeat(4, axis=1)
    flow_cyx = np.stack([np.zeros((96, 96)), np.where(labels_yx == 1, -1, 1)])  # away from the other cell
    window = window_of(labels_yx, labels_yx, flow_cyx, is_vector=True)
    for angle in (0, 17, 45, 80):
        moved = apply(window, affine(rotation_deg=angle, shift_yx_px=(0.3, 0.5)))
        away = np.array([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])[:, None, None]
        expected_cyx = np.where(moved.labels_tyx == 1, -away, away)
        assert angles_deg(moved.maps_cyx, expected_cyx).max() < 0.1


def test_a_corner_of_a_cell_that_another_surrounds_keeps_its_direction():
    labels_yx = np.full((96, 96), 2)
    labels_yx[:48, :48] = 1
    flow_cyx = np.where(labels_yx == 1, -1, 1) * np.full((2, 96, 96), np.sqrt(0.5))
    # At the corner the nearest pixel has weight .36, those of the other cell together .64.
    moved = apply(window_of(labels_yx, labels_yx, flow_cyx, is_vector=True), affine(shift_yx_px=(0.4, 0.4)))
    assert moved.labels_tyx[0, 31, 31] == 1
    assert np.allclose(moved.maps_cyx, np.where(moved.labels_tyx == 1, -1, 1) * np.sqrt(0.5), atol=1e-5)


def test_a_map_without_direction_is_interpolated_within_objects():
    labels_yx = ellipses((96, 96))
    depth_yx = ndimage.distance_transform_edt(labels_yx == 7) / 10
    moved = apply(window_of(depth_yx, labels_yx, depth_yx[None]), affine(rotation_deg=30))
    assert not moved.maps_cyx[0][moved.labels_tyx[0] == 0].any()
    inside_yx = moved.labels_tyx[0] != 0
    assert np.array_equal(moved.maps_cyx[0][inside_yx], moved.images_cyx[0][inside_yx])


def test_all_planes_of_a_window_have_one_geometry():
    settings = settings_of(**ALL_GEOMETRY)
    labels_yx = ellipses((100, 100))
    flow_cyx = flow_to_middle(labels_yx)
    one = window_of(labels_yx > 0, labels_yx, flow_cyx, is_vector=True)
    three = window_of(
        np.stack([labels_yx > 0] * 3), np.stack([labels_yx] * 3), np.concatenate([flow_cyx] * 3), is_vector=True
    )
    for seed in range(10):
        geometry = draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed))
        alone, together = apply(one, geometry), apply(three, geometry)
        for plane in range(3):
            assert np.array_equal(together.images_cyx[plane], alone.images_cyx[0])
            assert np.array_equal(together.labels_tyx[plane], alone.labels_tyx[0])
            assert np.array_equal(together.maps_cyx[2 * plane : 2 * plane + 2], alone.maps_cyx)


def test_reversed_time_reverses_frames_labels_and_maps():
    images_cyx = np.random.default_rng(3).normal(size=(5, 8, 8))
    labels_tyx = np.arange(1, 6)[:, None, None] * np.ones((8, 8))
    maps_cyx = np.arange(10)[:, None, None] * np.ones((8, 8))
    moved = apply(
        window_of(images_cyx, labels_tyx, maps_cyx, is_vector=True), replace(STILL, reverse_time=True), shape=(8, 8)
    )
    assert np.array_equal(moved.images_cyx, images_cyx[::-1].astype(np.float32))
    assert moved.labels_tyx[:, 0, 0].tolist() == [5, 4, 3, 2, 1]
    assert moved.maps_cyx[:, 0, 0].tolist() == [8, 9, 6, 7, 4, 5, 2, 3, 0, 1]
    # A single plane of labels belongs to the middle frame, which stays in place.
    middle = apply(window_of(images_cyx, labels_tyx[2]), replace(STILL, reverse_time=True), shape=(8, 8))
    assert (middle.labels_tyx == 3).all()


def test_time_is_reversed_in_half_of_the_draws_and_only_where_wanted():
    drawn = [
        draw_geometry(settings_of(reverse_time=wanted), patch=PATCH, rng=np.random.default_rng(seed)).reverse_time
        for wanted in (True, False)
        for seed in range(200)
    ]
    assert 70 < sum(drawn[:200]) < 130
    assert not any(drawn[200:])


class Extremes:
    """Stand-in for a random generator that returns chosen numbers, so that the largest changes are reached."""

    def __init__(self, numbers, noise):
        self.numbers, self.noise = iter(numbers), noise

    def random(self, size=None):
        return np.zeros(size or ())

    def uniform(self, low, high, size=None):
        assert (low, high) == (-1, 1)
        drawn = [next(self.numbers) for _ in range(int(np.prod(size or ())))]
        return np.reshape(drawn, size or ())

    def standard_normal(self, size):
        return np.full(size, self.noise)


numbers_at_their_ends = st.lists(st.one_of(st.sampled_from([-1.0, 1.0]), st.floats(-1, 1)), min_size=12, max_size=12)


@given(
    numbers=numbers_at_their_ends,
    noise=st.sampled_from([-50.0, 50.0]),
    patch=st.tuples(st.integers(16, 40), st.integers(16, 40)),
    context=st.sampled_from([0, 1, 22]),
    rotation=st.sampled_from([0.0, 0.2, 30.0, 180.0]),
    zoom=st.tuples(st.floats(0.4, 1.0), st.floats(1.0, 3.0)),
    shear=st.sampled_from([0.0, 20.0]),
    jitter=st.sampled_from([0.0, 0.08, 0.15]),
    translation=st.sampled_from([0.0, 0.2]),
    displacement=st.sampled_from([None, 2.17]),
)
@settings(max_examples=60, deadline=None)
def test_no_pixel_outside_the_margin_is_ever_needed(
    numbers, noise, patch, context, rotation, zoom, shear, jitter, translation, displacement
):
    section = settings_of(
        affine_probability=1,
        rotation_deg=rotation,
        zoom=zoom,
        zoom_axes="independent",
        shear_deg=shear,
        jitter=jitter,
        translation=translation,
        elastic=None if displacement is None else {"displacement_px": displacement},
    )
    geometry = draw_geometry(section, patch=patch, rng=Extremes(numbers, noise))
    margin = margin_px(section, patch=patch, context_px=context)
    shape = (patch[0] + 2 * context, patch[1] + 2 * context)
    image_yx = np.random.default_rng(0).normal(size=[side + 2 * margin for side in shape])
    enough = apply(window_of(image_yx), geometry, shape=shape)
    assert not (enough.labels_tyx == IGNORE_LABEL).any()
    surrounded = apply(window_of(np.pad(image_yx, 9, constant_values=np.nan)), geometry, shape=shape)
    assert np.abs(surrounded.images_cyx - enough.images_cyx).max() < 1e-4


def test_the_margin_holds_with_elastic_changes_alone():
    section = settings_of(elastic={"displacement_px": 2.0})
    margin = margin_px(section, patch=PATCH, context_px=0)
    assert margin == 4 * 2 + 1
    geometry = draw_geometry(section, patch=PATCH, rng=Extremes([0.0] * 4, 50.0))
    assert geometry.back_yx is None
    assert not (apply(window_of(np.zeros((64 + 2 * margin,) * 2)), geometry).labels_tyx == IGNORE_LABEL).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"translation": 0.25},
        {"rotation_deg": 0.2},
        {"rotation_deg": 25},
        {"zoom": [0.5, 2]},
        {"shear_deg": 20},
        {"jitter": 0.08},
        {"jitter": 0.15, "zoom": [0.5, 0.5]},
        {"elastic": {"displacement_px": 3.0}},
    ],
    ids=str,
)
def test_the_margin_is_what_the_largest_draws_need(changes):
    still = {"rotation_deg": 0, "zoom": [1, 1], "translation": 0}
    section = settings_of(affine_probability=1, **{**still, **changes})
    shape = (64, 48)

    def reaches_out(margin):
        window = window_of(np.zeros([side + 2 * margin for side in shape]))
        return any(
            (
                apply(window, draw_geometry(section, patch=shape, rng=Extremes(signs, noise)), shape=shape).labels_tyx
                == IGNORE_LABEL
            ).any()
            for noise in (-50.0, 50.0)
            for signs in itertools.product((-1.0, 1.0), repeat=10 if "jitter" in changes else 5)
        )

    margin = margin_px(section, patch=shape, context_px=0)
    assert not reaches_out(margin)
    assert reaches_out(max(0, margin - 3))


def test_there_is_no_margin_where_nothing_is_resampled():
    assert margin_px(settings_of(flip=True, rotate_90=True), patch=PATCH, context_px=5) == 0
    assert margin_px(settings_of(elastic={"probability": 0}), patch=PATCH, context_px=5) == 0


def test_what_lies_outside_the_window_is_ignored():
    moved = apply(window_of(np.zeros(PATCH)), affine(shift_yx_px=(20.0, 0.0)))
    assert (moved.labels_tyx[0, -20:] == IGNORE_LABEL).all()
    assert (moved.labels_tyx[0, :-20] == 0).all()


def test_the_rotation_of_paper_3_moves_a_corner_by_less_than_a_pixel():
    # 0.2 degrees at the corner of 256 x 256: 180 px * 0.0035 = 0.63 px; read as radians it would be 36 px.
    section = settings_of(affine_probability=1, rotation_deg=0.2, zoom=[1, 1], translation=0)
    geometry = draw_geometry(section, patch=(256, 256), rng=Extremes([1.0] * 4, 0.0))
    still_cyx, moved_cyx = (places(drawn, shape=(256, 256), margin=2) for drawn in (STILL, geometry))
    assert np.hypot(*(moved_cyx - still_cyx)).max() == pytest.approx(np.hypot(127.5, 127.5) * np.radians(0.2), rel=0.01)


def test_a_positive_rotation_turns_the_content_counter_clockwise():
    image_yx = np.zeros(PATCH)
    image_yx[30:34, 54:58] = 1  # to the right of the middle
    moved_yx = apply(window_of(image_yx), affine(rotation_deg=90)).images_cyx[0]
    assert moved_yx[6:10, 30:34].min() > 0.99  # above the middle


def test_a_magnification_of_two_makes_areas_four_times_as_large():
    square_yx = np.zeros(PATCH)
    square_yx[26:38, 26:38] = 1
    moved = apply(window_of(square_yx, square_yx), affine(zoom_yx=(2.0, 2.0)))
    assert (moved.labels_tyx == 1).sum() == pytest.approx(4 * 144, rel=0.1)
    tall_yx = apply(window_of(square_yx, square_yx), affine(zoom_yx=(2.0, 0.5))).labels_tyx[0] == 1
    assert tall_yx.any(axis=1).sum() == pytest.approx(24, abs=1)
    assert tall_yx.any(axis=0).sum() == pytest.approx(6, abs=1)


def test_a_shear_tilts_rows_by_its_angle():
    y, x = places(affine(shear_deg=30), margin=40)
    still_y, still_x = places(STILL, margin=40)
    assert np.abs(y - still_y - np.tan(np.radians(30)) * still_x).max() < 1e-4
    assert np.abs(x - still_x).max() < 1e-4


def test_axes_are_zoomed_apart_only_where_wanted():
    for zoom_axes, is_apart in (("same", False), ("independent", True)):
        section = settings_of(affine_probability=1, rotation_deg=0, zoom=[0.5, 2], zoom_axes=zoom_axes)
        for seed in range(20):
            back_yx = draw_geometry(section, patch=PATCH, rng=np.random.default_rng(seed)).back_yx
            assert (np.diag(back_yx) >= 0.5).all()
            assert (np.diag(back_yx) <= 2).all()
            assert (back_yx[0, 0] != back_yx[1, 1]) == is_apart


@given(moves=st.lists(st.floats(-1, 1), min_size=6, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_jitter_moves_three_corners_of_a_square_by_what_was_drawn(moves):
    section = settings_of(affine_probability=1, rotation_deg=0, zoom=[1, 1], translation=0, jitter=0.1)
    geometry = draw_geometry(section, patch=(60, 90), rng=Extremes([0.0] * 4 + moves, 0.0))
    corners = [(20, 20), (20, -20), (-20, -20)]  # a third of the shorter side from the middle
    for corner, move in zip(corners, np.reshape(moves, (3, 2)), strict=True):
        there = geometry.back_yx @ corner + geometry.shift_yx_px
        assert np.allclose(there - corner, 0.1 * 60 * move)


def elastics(count, *, patch=(64, 48), **changes):
    section = settings_of(elastic=changes)
    return [draw_geometry(section, patch=patch, rng=np.random.default_rng(seed)).elastic for seed in range(count)]


def test_an_elastic_displacement_has_the_spread_and_the_smoothness_that_are_set():
    fields = np.array(
        [elastic.displacements((64, 48)) for elastic in elastics(400, displacement_px=3.0, smoothness=0.25)]
    )
    for y, x in ((0, 0), (31, 24), (63, 47), (10, 33)):
        assert np.sqrt((fields[:, :, y, x] ** 2).mean()) == pytest.approx(3.0, rel=0.1)
    # The autocorrelation of Gaussian-filtered noise at a distance r is exp(-r^2 / (4 sigma^2)).
    alike = (fields[:, :, 20, 10] * fields[:, :, 20, 10 + 12]).mean() / 9
    assert alike == pytest.approx(np.exp(-(12**2) / (4 * 12**2)), abs=0.1)
    assert abs((fields[:, 0] * fields[:, 1]).mean()) < 0.5


def test_the_displacement_of_paper_2_is_that_of_its_smoothed_uniform_noise():
    # SOURCE paper 2, code: uniform noise of -1 to 1, smoothed with .15 of the side, times twice the side.
    side = 128
    noise = np.random.default_rng(4).uniform(-1, 1, size=(40, 2 * side, 2 * side))
    field = 2 * side * ndimage.gaussian_filter(noise, 0.15 * side, axes=(1, 2), mode="wrap")
    assert np.sqrt((field**2).mean()) == pytest.approx(2 / (0.15 * np.sqrt(12 * np.pi)), rel=0.1)


def test_an_elastic_displacement_never_exceeds_its_bound():
    [elastic] = elastics(1, displacement_px=2.0)
    wild = Elastic(elastic.nodes_cyx * 50, elastic.spacing_px, elastic.sigma_px, elastic.displacement_px)
    assert np.abs(wild.displacements((64, 48))).max() == pytest.approx(ELASTIC_REACH * 2.0)


def test_the_elastic_change_of_paper_2_folds_nothing():
    for elastic in elastics(30, patch=(128, 128), displacement_px=2.17, smoothness=0.15):
        (dyy, dyx), (dxy, dxx) = (np.gradient(plane_yx) for plane_yx in elastic.displacements((128, 128)))
        assert ((1 + dyy) * (1 + dxx) - dyx * dxy).min() > 0.2


def test_elastic_changes_are_as_frequent_as_set():
    bent = [elastic is not None for elastic in elastics(200, probability=0.3)]
    assert 35 < sum(bent) < 85


def test_context_around_a_patch_changes_nothing_within_it():
    settings = settings_of(**ALL_GEOMETRY)
    image_yx = np.random.default_rng(5).normal(size=(220, 220))
    for seed in range(10):
        geometry = draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed))
        bare, wide = apply(window_of(image_yx), geometry), apply(window_of(image_yx), geometry, shape=(84, 84))
        assert np.abs(wide.images_cyx[:, 10:74, 10:74] - bare.images_cyx).max() < 1e-4


def test_constant_planes_stay_constant():
    settings = settings_of(**ALL_GEOMETRY)
    window = window_of(np.stack([np.zeros((90, 90)), np.ones((90, 90))]))
    for seed in range(30):
        moved = apply(window, draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed)))
        assert (moved.images_cyx[0] == 0).all()
        assert np.abs(moved.images_cyx[1] - 1).max() < 1e-6


def test_a_still_draw_changes_nothing_and_gives_arrays_of_its_own():
    image_yx = np.random.default_rng(1).normal(size=PATCH).astype(np.float32)
    window = window_of(image_yx, ellipses(PATCH), flow_to_middle(ellipses(PATCH)), is_vector=True)
    kept = apply(window)
    for planes in ("images_cyx", "labels_tyx", "maps_cyx"):
        assert np.array_equal(getattr(kept, planes), getattr(window, planes))
        assert not np.shares_memory(getattr(kept, planes), getattr(window, planes))


def test_the_neutral_affine_change_is_the_middle_of_the_window():
    image_yx = np.random.default_rng(1).normal(size=(84, 84)).astype(np.float32)
    assert np.allclose(apply(window_of(image_yx), affine()).images_cyx[0], image_yx[10:74, 10:74], atol=1e-5)
    assert np.array_equal(apply(window_of(image_yx)).images_cyx[0], image_yx[10:74, 10:74])


def test_flips_and_quarter_turns_are_the_symmetries_of_the_square():
    settings = settings_of(flip=True, rotate_90=True)
    image_yx = np.arange(64 * 64).reshape(PATCH)
    seen = set()
    for seed in range(200):
        geometry = draw_geometry(settings, patch=PATCH, rng=np.random.default_rng(seed))
        moved_yx = apply(window_of(image_yx), geometry).images_cyx[0]
        assert np.array_equal(np.sort(moved_yx, axis=None), image_yx.ravel())
        seen.add((moved_yx[0, 0], moved_yx[0, -1]))
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("flip", "expected"), [(False, {(0, 0)}), ("rows", {(0, 0), (1, 0)}), ("columns", {(0, 0), (0, 1)})]
)
def test_one_axis_can_be_flipped_alone(flip, expected):
    section = settings_of(flip=flip)
    drawn = [draw_geometry(section, patch=PATCH, rng=np.random.default_rng(seed)) for seed in range(50)]
    assert {(geometry.flip_rows, geometry.flip_columns) for geometry in drawn} == expected


def values_of(count=2000, **changes):
    return [draw_values(settings_of(**changes), rng=np.random.default_rng(seed)) for seed in range(count)]


def test_contrast_is_a_ratio_or_a_difference():
    ratios = [drawn.gain for drawn in values_of(contrast=1)]
    assert 0.5 <= min(ratios) < 0.52
    assert 1.95 < max(ratios) <= 2
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    # SOURCE paper 2, code: contrast times a uniform number of .5 to 1.5.
    factors = [drawn.gain for drawn in values_of(contrast=0.5, contrast_scale="linear")]
    assert 0.5 <= min(factors) < 0.52
    assert 1.48 < max(factors) <= 1.5
    assert np.mean(factors) == pytest.approx(1, abs=0.05)


def test_brightness_is_at_most_what_is_set():
    offsets = [drawn.offset for drawn in values_of(brightness=0.5)]
    assert -0.5 <= min(offsets) < -0.48
    assert 0.48 < max(offsets) <= 0.5


def test_contrast_about_the_patch_keeps_the_mean_of_each_frame():
    images_cyx = np.random.default_rng(6).normal(size=(3, *PATCH)) + np.array([-2, 0, 5])[:, None, None]
    about_patch = replace(SAME, gain=1.4, is_about_patch=True)
    changed = apply(window_of(images_cyx), values=[about_patch]).images_cyx
    assert np.allclose(changed.mean(axis=(1, 2)), images_cyx.mean(axis=(1, 2)), atol=1e-4)
    assert np.allclose(changed.std(axis=(1, 2)), 1.4 * images_cyx.std(axis=(1, 2)), rtol=1e-4)
    about_image = apply(window_of(images_cyx), values=[replace(SAME, gain=1.4)]).images_cyx
    assert np.allclose(about_image, 1.4 * images_cyx, atol=1e-5)


def test_each_frame_can_have_values_of_its_own():
    values = [replace(SAME, gain=gain, offset=offset) for gain, offset in ((1, 0), (2, 1), (0.5, -1))]
    changed = apply(window_of(np.ones((3, *PATCH))), values=values).images_cyx
    assert changed[:, 0, 0].tolist() == [1, 3, -0.5]


def test_bright_and_dark_change_places_in_all_frames_and_labels_stay():
    labels_yx = ellipses(PATCH)
    window = window_of(np.stack([labels_yx > 0] * 3), labels_yx)
    section = settings_of(invert_probability=0.5)
    signs = []
    for seed in range(50):
        changed = apply(window, draw_geometry(section, patch=PATCH, rng=np.random.default_rng(seed)), values=[SAME] * 3)
        assert np.array_equal(changed.labels_tyx[0], labels_yx)
        [sign] = {float(image_yx[labels_yx > 0].mean()) for image_yx in changed.images_cyx}
        signs.append(sign)
    assert set(signs) == {1, -1}
    assert 10 < signs.count(1) < 40


def test_noise_has_the_spread_that_is_set_and_differs_from_frame_to_frame():
    changed = apply(window_of(np.zeros((2, *PATCH))), values=[replace(SAME, noise=0.3)]).images_cyx
    assert np.allclose(changed.std(axis=(1, 2)), 0.3, rtol=0.05)
    assert abs(np.corrcoef(changed[0].ravel(), changed[1].ravel())[0, 1]) < 0.1


def test_a_random_noise_level_is_half_normal_and_has_a_limit():
    levels = np.array([drawn.noise for drawn in values_of(noise=0.2, noise_draw="random")])
    assert levels.mean() == pytest.approx(0.2 * np.sqrt(2 / np.pi), rel=0.05)
    # 0.27 % of normal numbers lie beyond three standard deviations
    assert levels.max() == pytest.approx(0.6)
    assert levels.min() < 0.001
    assert {drawn.noise for drawn in values_of(noise=0.2)} == {0.2}


def test_each_frame_can_have_noise_of_its_own():
    values = [replace(SAME, noise=noise) for noise in (0.0, 0.1, 0.5)]
    changed = apply(window_of(np.zeros((3, *PATCH))), values=values).images_cyx
    assert np.allclose(changed.std(axis=(1, 2)), [0, 0.1, 0.5], rtol=0.05)


def gamma_of(values, gamma):
    return apply(window_of(values), values=[replace(SAME, gamma=gamma)], shape=values.shape).images_cyx[0]


@pytest.mark.parametrize("gamma", [0.2, 0.5, 1, 2, 7])
def test_a_gamma_keeps_black_white_and_the_order(gamma):
    values = np.linspace(BLACK, WHITE + 2, 61)[None]  # the 41st is white
    bent = gamma_of(values, gamma)[0]
    assert (bent[0], bent[40]) == (pytest.approx(BLACK), pytest.approx(WHITE))
    assert (np.diff(bent) >= 0).all()
    assert ((bent - values[0])[1:40] * (gamma - 1) <= 0).all()  # above 1 darkens, below 1 brightens
    # Near black, a large power leaves no digits for the way back.
    assert np.allclose(gamma_of(bent[None], 1 / gamma)[0, 10:], values[0, 10:], atol=1e-3)


def test_values_darker_than_black_are_black_after_a_gamma():
    assert np.allclose(gamma_of(np.array([[BLACK - 3, BLACK - 1e-3, BLACK]]), 0.7), BLACK)


def test_gammas_below_and_above_one_are_equally_likely():
    logs = np.log([drawn.gamma for drawn in values_of(gamma=0.5)])
    assert -0.5 <= logs.min() < -0.49
    assert 0.49 < logs.max() <= 0.5
    assert np.median(logs) == pytest.approx(0, abs=0.03)
    assert {drawn.gamma for drawn in values_of(count=5)} == {None}


def test_a_blur_spreads_a_point_by_its_sigma_and_keeps_its_sum():
    point_yx = np.zeros(PATCH)
    point_yx[32, 32] = 5.0
    y = np.arange(PATCH[0]) - 32
    for sigma in (0.8, 2.0, 4.0):
        blurred_yx = apply(window_of(point_yx), values=[replace(SAME, blur_px=sigma)]).images_cyx[0]
        assert blurred_yx.sum() == pytest.approx(5, rel=1e-4)
        assert (blurred_yx.sum(axis=1) @ y**2) / 5 == pytest.approx(sigma**2, rel=0.02)


def test_a_blur_leaves_constants_labels_and_the_other_frames():
    labels_yx = ellipses(PATCH)
    noise_yx = np.random.default_rng(3).normal(size=PATCH)
    window = window_of(np.stack([np.full(PATCH, 2.5), noise_yx, noise_yx]), labels_yx)
    changed = apply(window, values=[replace(SAME, blur_px=sigma) for sigma in (3, 0, 3)])
    assert np.allclose(changed.images_cyx[0], 2.5, atol=1e-6)
    assert np.array_equal(changed.images_cyx[1], window.images_cyx[1])
    assert changed.images_cyx[2].std() < 0.2
    assert np.array_equal(changed.labels_tyx[0], labels_yx)


def test_blurs_are_as_frequent_and_as_large_as_set():
    sigmas = np.array([drawn.blur_px for drawn in values_of(blur_px=2, blur_probability=0.3)])
    assert (sigmas > 0).mean() == pytest.approx(0.3, abs=0.04)
    assert sigmas.max() == pytest.approx(2, abs=0.05)
    assert sigmas[sigmas > 0].mean() == pytest.approx(1, abs=0.1)


def test_a_change_of_values_changes_no_argument():
    noise_yx = np.random.default_rng(3).normal(size=PATCH).astype(np.float32)
    window = window_of(noise_yx)
    apply(window, values=[replace(SAME, gamma=0.5, blur_px=1, noise=0.1)])
    assert np.array_equal(window.images_cyx[0], noise_yx)


def test_settings_that_are_off_take_nothing_from_the_stream():
    section = settings_of(
        flip=True, affine_probability=1, contrast=1, contrast_scale="log", shear_deg=0, per_frame=True, gamma=0,
        blur_px=0, blur_probability=1, noise=0, noise_draw="random",
    )  # fmt: skip
    rng, other = np.random.default_rng(5), np.random.default_rng(5)
    draw_geometry(section, patch=PATCH, rng=rng)
    draw_values(section, rng=rng)
    other.random(11)  # five coin flips, rotation, two shifts, zoom, contrast, brightness
    assert rng.random() == other.random()


def test_switching_one_change_on_leaves_the_draws_of_the_others():
    plain, both = (
        draw_geometry(settings_of(flip=True, **changes), patch=PATCH, rng=np.random.default_rng(5))
        for changes in ({}, {"contrast": 1, "affine_probability": 1, "jitter": 0.1})
    )
    assert (plain.flip_rows, plain.flip_columns) == (both.flip_rows, both.flip_columns)


def test_a_patch_that_is_not_square_is_augmented():
    section = settings_of(**{**ALL_GEOMETRY, "rotate_90": False})
    margin = margin_px(section, patch=(48, 80), context_px=3)
    window = window_of(np.zeros((48 + 6 + 2 * margin, 80 + 6 + 2 * margin)))
    for seed in range(20):
        geometry = draw_geometry(section, patch=(48, 80), rng=np.random.default_rng(seed))
        moved = apply(window, geometry, shape=(54, 86))
        assert moved.images_cyx.shape == moved.labels_tyx.shape == (1, 54, 86)
        assert not (moved.labels_tyx == IGNORE_LABEL).any()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"zoom": [1.2, 0.8]}, r"zoom: .*found \[1\.2, 0\.8\]\. Swap the two"),
        (
            {"contrast": 1, "contrast_scale": "linear"},
            r"contrast: expected below 1 .*found 1, .* contrast_scale to log",
        ),
        ({"flip": "diagonal"}, "rows"),
        ({"gamma": -0.1}, "gamma"),
        ({"blur_px": -1}, "blur_px"),
        ({"noise_draw": "often"}, "random"),
        ({"elastic": {"alpha": 2}}, "alpha"),
    ],
)
def test_settings_without_sense_are_refused(section, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**section)
