"""Stage simulate: properties of the simulator, for whole images and step by step."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import tifffile
from pydantic import ValidationError
from scipy import ndimage
from scipy.interpolate import CubicSpline
from skimage.filters import threshold_otsu
from skimage.transform import resize

from cellmill.config.simulate import Simulate, image_settings, name_samples
from cellmill.provenance import canonical
from cellmill.shards import read_manifest
from cellmill.simulation.detector import expose
from cellmill.simulation.illumination import (
    draw_autofluorescence,
    draw_background_noise,
    energy_of,
    parabolic_illumination,
    scale_to_energy,
)
from cellmill.simulation.imaging import simulate_image
from cellmill.simulation.optics import depth_to_sigma, draw_depths, gaussian_window, label_groups, scatter
from cellmill.simulation.population import Body, Occupancy, count_cover, label_visible, place_cells
from cellmill.simulation.shapes import Footprint, close_splines, draw_outline, draw_vertices, fill_outline
from cellmill.simulation.texture import draw_gradient_noise, draw_texture
from cellmill.stages.simulate import simulate_shard
from whole_images import decode_rle

SMALL = {"size": (80, 112), "cells": (3, 8)}


def settings(**section) -> dict:
    return image_settings(Simulate.model_validate({**SMALL, **section}))


def quiet(**section) -> dict:
    """Return settings for cells in focus on a dark background, recorded without noise."""
    defaults = {
        "focus": {"sigma_px": 0.1, "window_px": 3},
        "illumination": {"energy_ratio": 0},
        "autofluorescence": {"energy_ratio": 0},
        "background_noise": {"fraction": 0},
        "camera": {"noise": 0, "offset_counts": 0, "full_scale_counts": 65535},
    }
    return settings(**{**defaults, **section})


def extents(image) -> np.ndarray:
    """Return the full extents of the cells as a stack of masks."""
    shape = image.counts.shape
    masks = [count_cover([cell.cell], shape=shape) > 0 for cell in image.population.cells]
    return np.array(masks).reshape(-1, *shape)


def disc(radius: int) -> Footprint:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return Footprint(-radius, -radius, y**2 + x**2 <= radius**2)


def place_discs(count, *, radius=6, shape=(64, 64), limit=0.1, clusters=0, probability=0.0, seed=0, **options):
    nothing = Footprint(0, 0, np.zeros((1, 1), dtype=bool))
    body = Body(0.0, 0.0, radius, disc(radius), nothing)
    return place_cells(
        [body] * count,
        shape=shape,
        clusters=clusters,
        cluster_probability=probability,
        cluster_spread=options.get("spread", 0.05),
        overlap_limit=limit,
        overlap_of="cell",
        attempts=options.get("attempts", 50),
        no_place=options.get("no_place", "leave_out"),
        rng=np.random.default_rng(seed),
    )


def write_shard(folder, names, section=None, seed=7):
    simulate_shard(
        output_dir=folder,
        samples=[{"sample": name} for name in names],
        seed=seed,
        simulate=section or settings(),
    )
    return folder


# Shapes


def test_outline_has_ten_vertices_on_the_circle_where_nothing_is_jittered():
    [vertices] = draw_vertices(radial_jitter=0, angular_jitter=0, rng=np.random.default_rng(0))
    assert vertices.shape == (10, 2)
    assert np.hypot(*vertices.T) == pytest.approx(np.ones(10))
    turn = np.arctan2(vertices[:, 0], vertices[:, 1]) % (2 * np.pi)
    assert np.diff(turn) == pytest.approx(np.full(9, np.pi / 5))


def test_coordinates_of_a_vertex_are_displaced_independently():
    rng = np.random.default_rng(0)
    circle = draw_vertices(radial_jitter=0, angular_jitter=0, rng=rng)
    shifts = draw_vertices(radial_jitter=0.3, angular_jitter=0, rng=rng, outlines=400) - circle
    rows, columns = shifts[..., 0].ravel(), shifts[..., 1].ravel()
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.05
    assert rows.std() == pytest.approx(0.3 / math.sqrt(3), rel=0.05)


def test_closed_spline_has_no_kink_anywhere():
    rng = np.random.default_rng(1)
    spline = close_splines(draw_vertices(radial_jitter=0.3, angular_jitter=0.1, rng=rng, outlines=20))
    cubic, square, slope, start = spline.c
    step = np.diff(spline.x, axis=1)[..., None]
    place = ((cubic * step + square) * step + slope) * step + start  # at the end of each piece
    tangent = (3 * cubic * step + 2 * square) * step + slope
    for at_end, at_start in ((place, start), (tangent, slope), (3 * cubic * step + square, square)):
        assert at_end == pytest.approx(np.roll(at_start, -1, axis=1), abs=1e-9)  # the next piece, cyclically


def test_closed_spline_is_that_of_scipy():
    for vertices in draw_vertices(radial_jitter=0.3, angular_jitter=0.1, rng=np.random.default_rng(1), outlines=5):
        spline = close_splines(vertices[None])
        oracle = CubicSpline(spline.x[0], np.vstack([vertices, vertices[:1]]), bc_type="periodic")
        assert spline.c[:, 0] == pytest.approx(oracle.c, abs=1e-12)
        parameter = np.linspace(0, spline.x[0, -1], 200, endpoint=False)
        assert spline.sample(200)[0] == pytest.approx(oracle(parameter), abs=1e-12)


def test_spline_parameter_is_the_square_root_of_the_chord():
    vertices = np.array([[0.0, 0.0], [0.0, 4.0], [9.0, 4.0]])
    assert close_splines(vertices[None]).x[0] == pytest.approx([0, 2, 5, 5 + math.sqrt(math.hypot(9, 4))])


@pytest.mark.parametrize(
    ("radius_px", "radial", "angular", "mean", "spread"),
    [(10, 0.1, 0.1, 309, 12), (25, 0.3, 0.05, 1967, 226)],
)
def test_areas_are_those_of_simcep(radius_px, radial, angular, mean, spread):
    rng = np.random.default_rng(2)
    areas = [
        fill_outline(
            draw_outline(radius_px=radius_px, radial_jitter=radial, angular_jitter=angular, rng=rng)
            + rng.uniform(-0.5, 0.5, size=2)
        ).mask_yx.sum()
        for _ in range(400)
    ]
    assert np.mean(areas) == pytest.approx(mean, abs=spread / 2)
    assert np.std(areas) == pytest.approx(spread, rel=0.2)


def test_outline_that_crosses_itself_fills_to_one_piece_without_holes():
    rng = np.random.default_rng(3)
    for _ in range(100):
        outline = draw_outline(radius_px=20, radial_jitter=0.6, angular_jitter=0.3, rng=rng)
        mask = fill_outline(outline).mask_yx
        assert ndimage.label(mask, structure=np.ones((3, 3)))[1] == 1
        assert np.array_equal(ndimage.binary_fill_holes(mask), mask)


def test_filled_disc_holds_the_pixels_whose_centre_is_inside():
    outline = draw_outline(radius_px=9.3, radial_jitter=0, angular_jitter=0, rng=np.random.default_rng(0))
    footprint = fill_outline(outline + np.array([0.2, -0.4]))
    y, x = np.indices(footprint.mask_yx.shape)
    distance = np.hypot(y + footprint.row - 0.2, x + footprint.column + 0.4)
    is_clear = np.abs(distance - 9.3) > 0.05
    assert np.array_equal(footprint.mask_yx[is_clear], (distance < 9.3)[is_clear])


@pytest.mark.parametrize("radius_px", [0, -1])
def test_radius_that_is_not_positive_is_refused(radius_px):
    with pytest.raises(ValueError, match=r"outline: expected a radius above 0 px, found .* Set a positive radius_px"):
        draw_outline(radius_px=radius_px, radial_jitter=0, angular_jitter=0, rng=np.random.default_rng(0))


def test_vertices_at_one_place_are_refused():
    with pytest.raises(ValueError, match=r"expected neighbouring vertices at different positions.* Lower the jitter"):
        close_splines(np.array([[[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]]]))


def test_footprint_is_cut_at_every_border_and_vanishes_outside():
    square = Footprint(0, 0, np.ones((4, 4), dtype=bool))
    corners = [square.moved(row, column) for row, column in itertools.product((-2, 8), (-3, 19))]
    assert [part.clipped((10, 20))[1].shape for part in corners] == [(2, 1), (2, 1), (2, 1), (2, 1)]
    for row, column in ((-9, 3), (30, 3), (3, -9), (3, 40)):
        window, mask = square.moved(row, column).clipped((10, 20))
        assert mask.size == 0
        assert np.zeros((10, 20))[window].shape == mask.shape


# Texture


def test_third_number_of_a_texture_counts_octaves():
    rng, counted = np.random.default_rng(4), np.random.default_rng(4)
    draw_texture((9, 7), persistence=0.9, first_octave=2, octaves=8, bias=0.2, rng=rng)
    counted.bit_generator.advance(sum(4**octave for octave in range(2, 10)))
    assert rng.random() == counted.random()


def test_texture_on_its_own_grid_is_the_mean_of_three_by_three():
    texture = draw_texture((16, 16), persistence=0.5, first_octave=4, octaves=1, bias=0, rng=np.random.default_rng(5))
    mean = ndimage.uniform_filter(np.random.default_rng(5).random((16, 16)), 3, mode="nearest")
    assert texture == pytest.approx((mean - mean.min()) / np.ptp(mean))


def test_coarsest_texture_is_interpolated_linearly():
    texture = draw_texture((12, 9), persistence=1, first_octave=1, octaves=1, bias=0, rng=np.random.default_rng(6))
    mean = ndimage.uniform_filter(np.random.default_rng(6).random((2, 2)), 3, mode="nearest")
    large = resize(mean, (12, 9), order=1, mode="edge", anti_aliasing=False)
    assert texture == pytest.approx((large - large.min()) / np.ptp(large))


@pytest.mark.parametrize("bias", [0, 0.2, 1])
def test_texture_runs_from_its_bias_to_one(bias):
    texture = draw_texture(
        (20, 31), persistence=0.9, first_octave=2, octaves=4, bias=bias, rng=np.random.default_rng(7)
    )
    assert texture.shape == (20, 31)
    assert (texture.min(), texture.max()) == pytest.approx((bias, 1))


def test_persistence_weighs_the_finer_octaves():
    def roughness(persistence):
        rng = np.random.default_rng(15)
        texture = draw_texture((64, 64), persistence=persistence, first_octave=2, octaves=5, bias=0, rng=rng)
        return np.abs(np.diff(texture, axis=0)).mean()

    assert 2 * roughness(0.3) < roughness(1.2)


def test_texture_of_one_pixel_is_defined():
    rng = np.random.default_rng(0)
    assert draw_texture((1, 1), persistence=1, first_octave=1, octaves=2, bias=0, rng=rng).tolist() == [[1.0]]


def test_texture_without_octaves_is_refused():
    with pytest.raises(ValueError, match=r"texture: expected at least 1 octave, found 0"):
        draw_texture((4, 4), persistence=1, first_octave=1, octaves=0, bias=0, rng=np.random.default_rng(0))


def test_gradient_noise_fills_its_range_and_is_smooth():
    rng = np.random.default_rng(8)
    noise = draw_gradient_noise((120, 90), period_px=60, octaves=1, persistence=0.5, rng=rng)
    assert noise.shape == (120, 90)
    assert (noise.min(), noise.max()) == (0, 1)
    assert max(np.abs(np.diff(noise, axis=axis)).max() for axis in (0, 1)) < 0.1


def test_finer_octaves_make_gradient_noise_rougher():
    def roughness(octaves):
        rng = np.random.default_rng(9)
        noise = draw_gradient_noise((128, 128), period_px=64, octaves=octaves, persistence=0.5, rng=rng)
        return np.abs(np.diff(noise, 2, axis=0)).mean()

    assert roughness(1) < roughness(3) < roughness(5)


# Population


def test_tiny_cell_inside_a_large_one_counts_as_overlap():
    taken = Occupancy((64, 64))
    taken.add(disc(20).moved(32, 32))
    assert np.count_nonzero(disc(2).mask_yx) / np.count_nonzero(disc(20).mask_yx) < 0.1
    assert taken.largest_overlap(disc(2).moved(32, 32)) == 1


def test_large_cell_over_a_tiny_one_counts_as_overlap():
    taken = Occupancy((64, 64))
    taken.add(disc(2).moved(32, 32))
    assert taken.largest_overlap(disc(20).moved(32, 32)) == 1


def two_squares(second_column):
    """Return a square of 100 px whose right part a second one covers, and the mask of a large new object below."""
    taken = Occupancy((30, 20))
    for column in (0, second_column):
        taken.add(Footprint(0, column, np.ones((10, 10), dtype=bool)))
    new = np.zeros((30, 20), dtype=bool)
    new[10:] = True
    return taken, new


def test_overlap_is_also_a_fraction_of_what_is_still_visible():
    taken, new = two_squares(5)
    new[:10, 4] = True  # 10 of 100 px, of which 50 are visible
    assert taken.largest_overlap(Footprint(0, 0, new)) == pytest.approx(10 / 50)


def test_cell_cannot_be_hidden_bit_by_bit():
    taken, new = two_squares(9)
    new[:10, 8:10] = True  # 20 px of the first square, 10 of them already covered
    assert taken.largest_overlap(Footprint(0, 0, new)) == pytest.approx(20 / 100)


@pytest.mark.parametrize("limit", [0, 0.1, 0.3])
def test_no_two_annotations_overlap_more_than_allowed(limit):
    pairs = 0
    for seed in range(8):
        section = settings(overlap={"limit": limit}, cells=15, clusters={"probability": 0.8, "spread": 0.1})
        masks = extents(simulate_image("a", seed=seed, simulate=section))
        for one, other in itertools.combinations(masks, 2):
            shared = np.count_nonzero(one & other)
            assert shared <= limit * min(one.sum(), other.sum())
            pairs += shared > 0
    assert (pairs > 0) == (limit > 0)  # overlaps up to the limit do occur, so that the test would notice a violation


def test_limit_of_one_allows_everything():
    assert place_discs(200, limit=1, attempts=1).failed == 0


def test_cells_without_a_place_are_counted_and_the_rest_goes_on():
    population = place_discs(60, limit=0, radius=9)
    assert population.failed > 0
    assert len(population.cells) + population.failed == 60


def test_cluster_centres_are_spread_over_the_image():
    centres = np.vstack([place_discs(0, clusters=4, seed=seed).cluster_centres for seed in range(100)])
    assert np.all(centres.std(axis=0) > 0.2 * 64)


def test_cells_of_a_cluster_lie_around_its_centre():
    distances = []
    for seed in range(30):
        population = place_discs(20, shape=(300, 400), clusters=3, probability=1, limit=1, seed=seed, attempts=500)
        for cell in population.cells:
            distances.append((cell.row, cell.column) - population.cluster_centres[cell.cluster - 1])
    inner = np.array(distances)
    assert inner.std(axis=0) == pytest.approx([15, 15], rel=0.15)  # .05 of the shorter side, in both axes


def test_share_of_cells_in_clusters_is_the_probability():
    population = place_discs(1000, shape=(2000, 2000), radius=2, clusters=40, probability=0.3, spread=0.02)
    assert np.mean([cell.cluster > 0 for cell in population.cells]) == pytest.approx(0.3, abs=0.05)


def test_without_clusters_no_cell_belongs_to_one():
    assert {cell.cluster for cell in place_discs(20, clusters=0, probability=1, limit=1).cells} == {0}


def test_cells_are_uniform_up_to_the_border():
    population = place_discs(2000, shape=(50, 80), radius=2, limit=1)
    places = np.array([(cell.row, cell.column) for cell in population.cells])
    assert places.min(axis=0).tolist() == [0, 0]
    assert places.max(axis=0).tolist() == [49, 79]
    assert places.mean(axis=0) == pytest.approx([24.5, 39.5], abs=1.5)


def test_a_later_cell_covers_an_earlier_one():
    footprints = [Footprint(0, 0, np.ones((4, 6), dtype=bool)), Footprint(2, 4, np.ones((4, 6), dtype=bool))]
    labels = label_visible(footprints, shape=(6, 10))
    assert np.bincount(labels.ravel()).tolist() == [16, 20, 24]


# Optics


def scatter_slowly(plane, groups, sigmas, window):
    """Scatter light pixel by pixel into a frame that is wide enough for all of it."""
    reach = window // 2
    wide = np.zeros(np.array(plane.shape) + 2 * reach)
    offset = np.arange(-reach, reach + 1)
    for row, column in np.argwhere(groups > 0):
        weights = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * sigmas[groups[row, column] - 1] ** 2))
        wide[row : row + window, column : column + window] += plane[row, column] * weights / weights.sum()
    return wide[reach:-reach, reach:-reach]


def test_scatter_equals_the_sum_over_source_pixels():
    rng = np.random.default_rng(10)
    groups, count = label_groups(rng.random((23, 31)) < 0.25)
    sigmas = rng.uniform(0.5, 4, size=count)
    plane = rng.random((23, 31))
    (fast,) = scatter([plane], groups, sigmas_px=sigmas, window_px=9)
    assert fast == pytest.approx(scatter_slowly(plane, groups, sigmas, 9), abs=1e-12)


def test_light_spreads_with_the_blur_of_its_source_also_over_sharp_cells():
    groups = np.zeros((21, 21), dtype=int)
    groups[10, 9], groups[:, 12:] = 1, 2
    plane = np.zeros((21, 21))
    plane[10, 9] = 1
    (spread,) = scatter([plane], groups, sigmas_px=np.array([3.0, 0.1]), window_px=21)
    weights = gaussian_window(3.0, window_px=21)
    assert spread[10, 13] == pytest.approx(weights[10] * weights[14])


def test_blur_keeps_the_energy_away_from_borders():
    plane = np.zeros((60, 60))
    plane[20:30, 25:40] = np.random.default_rng(11).random((10, 15))
    groups, _ = label_groups(plane > 0)
    (spread,) = scatter([plane], groups, sigmas_px=np.array([5.0]), window_px=31)
    assert spread.sum() == pytest.approx(plane.sum(), rel=1e-12)


def test_groups_touch_at_corners():
    assert label_groups(np.eye(5, dtype=int))[1] == 1


@pytest.mark.parametrize("scaling", ["fixed", "deepest"])
def test_blur_of_no_group_and_of_focus_is_defined(scaling):
    assert depth_to_sigma(np.empty(0), sigma_px=(0.5, 5), scaling=scaling).size == 0
    assert depth_to_sigma(np.zeros(2), sigma_px=(0.5, 5), scaling=scaling).tolist() == [0.5, 0.5]


def test_deepest_group_of_an_image_has_the_largest_blur_also_when_alone():
    assert depth_to_sigma(np.array([0.01]), sigma_px=(0.5, 5), scaling="deepest").tolist() == [5]
    sigmas = depth_to_sigma(np.array([0.0, 0.1, 0.2]), sigma_px=(0.5, 5), scaling="deepest")
    assert sigmas == pytest.approx([0.5, 2.75, 5])


def test_fixed_blur_of_a_group_does_not_depend_on_the_others():
    sigmas = depth_to_sigma(np.array([0.3, 7.0]), sigma_px=(0.5, 5), scaling="fixed")
    assert sigmas == pytest.approx([0.5 + 4.5 * 0.3, 5])


def test_depths_are_half_normal():
    depths = draw_depths(20000, rng=np.random.default_rng(12))
    assert depths.min() >= 0
    assert depths.mean() == pytest.approx(0.5 * math.sqrt(2 / math.pi), rel=0.03)


def test_narrow_window_narrows_the_blur_as_in_simcep():
    weights = gaussian_window(5.0, window_px=9)
    assert math.sqrt(np.sum(weights * np.arange(-4, 5) ** 2)) == pytest.approx(2.45, abs=0.01)


def test_even_window_is_refused():
    with pytest.raises(ValueError, match=r"odd width in px, found 8. Set focus.window_px to 9"):
        gaussian_window(1.0, window_px=8)


# Illumination


@pytest.mark.parametrize("ratio", [0.05, 1, 3])
def test_background_has_the_asked_energy(ratio):
    rng = np.random.default_rng(13)
    ideal = rng.random((40, 50)) * (rng.random((40, 50)) < 0.1)
    for profile in (
        parabolic_illumination((40, 50), centre_shift=(0.1, 0)),
        draw_autofluorescence((40, 50), rng=rng),
    ):
        background = scale_to_energy(profile, energy=energy_of(ideal), ratio=ratio)
        assert np.sum(background**2) / np.sum(ideal**2) == pytest.approx(ratio, rel=1e-6)


def test_recorded_background_has_the_asked_energy():
    # Full scale far above the light: nothing is clipped, and rounding is small.
    cells = {"brightness": 0.1}
    dark = simulate_image("a", seed=1, simulate=quiet(cell=cells)).counts.astype(float)
    lit = simulate_image("a", seed=1, simulate=quiet(cell=cells, illumination={"energy_ratio": 2})).counts
    assert lit.max() < 65535
    assert np.sum((lit - dark) ** 2) / np.sum(dark**2) == pytest.approx(2, rel=1e-2)


def test_light_is_brightest_where_the_lamp_points_and_round_in_a_wide_image():
    profile = parabolic_illumination((41, 85), centre_shift=(0, 0.2))  # 17 px
    assert np.unravel_index(profile.argmax(), profile.shape) == (20, 59)
    assert (profile.min(), profile.max()) == (0, 1)
    assert profile[20 + 10, 59] == pytest.approx(profile[20, 59 + 10])


def test_no_cells_give_no_stray_light():
    profile = parabolic_illumination((8, 8), centre_shift=(0, 0))
    assert scale_to_energy(profile, energy=0, ratio=1).max() == 0
    assert scale_to_energy(np.zeros((8, 8)), energy=1, ratio=1).max() == 0


def test_larger_fraction_adds_blotches_to_more_images_and_takes_them_from_none():
    options = {"period_px": (64, 64), "octaves": 1, "persistence": 0.5, "amplitude": (0.1, 0.4)}

    def has_blotches(number, fraction):
        rng = np.random.default_rng(number)
        return draw_background_noise((8, 8), fraction=fraction, rng=rng, **options) is not None

    chosen = {f: {n for n in range(400) if has_blotches(n, f)} for f in (0, 0.3, 0.5, 1)}
    assert chosen[0] < chosen[0.3] < chosen[0.5] < chosen[1] == set(range(400))
    assert len(chosen[0.5]) == pytest.approx(200, abs=40)


def test_blotches_stay_out_of_the_cells():
    section = {"background_noise": {"fraction": 1, "amplitude": 1.0, "period_px": 30}}
    clean = simulate_image("a", seed=2, simulate=quiet())
    noisy = simulate_image("a", seed=2, simulate=quiet(**section))
    is_cell = extents(clean).any(axis=0)
    assert np.array_equal(clean.counts[is_cell], noisy.counts[is_cell])
    assert np.ptp(noisy.counts[~is_cell]) > 10000
    assert (clean.summary["has_background_noise"], noisy.summary["has_background_noise"]) == (False, True)


# Detector


def test_camera_records_offset_and_saturation_and_keeps_noise_symmetric():
    light = np.zeros((200, 200))
    light[:, 100:] = 1.5
    counts = expose(light, full_scale_counts=4000, offset_counts=100, noise=0.01, rng=np.random.default_rng(14))
    assert counts.dtype == np.uint16
    dark = counts[:, :100].astype(float)
    assert dark.mean() == pytest.approx(100, abs=1.5)
    assert dark.std() == pytest.approx(40, rel=0.05)
    assert counts.max() == 4100


def test_camera_saturates_before_its_noise():
    light = np.repeat([[-3.0, 3.0]], 500, axis=0)
    counts = expose(light, full_scale_counts=4000, offset_counts=500, noise=0.01, rng=np.random.default_rng(16))
    assert counts[:, 0].mean() == pytest.approx(500, abs=6)
    assert np.mean(counts[:, 1] < 4500) == pytest.approx(0.5, abs=0.1)


def test_camera_without_noise_is_a_scale():
    light = np.array([[0, 0.25, 1]])
    counts = expose(light, full_scale_counts=1000, offset_counts=7, noise=0, rng=np.random.default_rng(0))
    assert counts.tolist() == [[7, 257, 1007]]


def test_camera_past_sixteen_bits_is_refused():
    with pytest.raises(ValueError, match=r"at most 65535 counts, found 65536. Lower full_scale_counts"):
        expose(np.zeros((2, 2)), full_scale_counts=65535, offset_counts=1, noise=0, rng=np.random.default_rng(0))


# Images


def test_annotations_are_the_shapes_before_blur(tmp_path):
    section = settings(focus={"sigma_px": 4}, overlap={"limit": 0.4}, cells=10)
    folder = write_shard(tmp_path / "s", ["a"], section)
    table = pd.read_csv(folder / "annotations.csv")
    masks = [decode_rle(text, shape=(80, 112), order="row", where="a") for text in table["annotation"]]
    image = simulate_image("a", seed=7, simulate=section)
    assert np.array_equal(masks, extents(image))
    objects = pd.read_csv(folder / "objects.csv")
    assert objects["area_px"].tolist() == [mask.sum() for mask in masks]
    assert objects["visible_area_px"].sum() == np.any(masks, axis=0).sum()
    assert (objects["visible_area_px"] < objects["area_px"]).any()
    assert table[["width", "height"]].drop_duplicates().to_numpy().tolist() == [[112, 80]]


def test_shard_holds_what_its_manifest_says(tmp_path):
    folder = write_shard(tmp_path / "s", ["b", "a"])
    assert set(read_manifest(folder)) == {
        "images/a.tif",
        "images/b.tif",
        "visible/a.tif",
        "visible/b.tif",
        "annotations.csv",
        "objects.csv",
        "images.csv",
    }
    image = tifffile.imread(folder / "images" / "a.tif")
    assert (image.shape, image.dtype) == ((80, 112), np.uint16)


def test_objects_lie_where_the_table_says(tmp_path):
    folder = write_shard(tmp_path / "s", ["a"], settings(cell={"radial_jitter": 0, "angular_jitter": 0}, cells=6))
    annotations = pd.read_csv(folder / "annotations.csv")
    for item, text in zip(pd.read_csv(folder / "objects.csv").itertuples(), annotations["annotation"], strict=True):
        mask = decode_rle(text, shape=(80, 112), order="row", where="a")
        if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
            continue  # cut at the border
        assert ndimage.center_of_mass(mask) == pytest.approx((item.row, item.column), abs=0.2)
        assert item.area_px == pytest.approx(math.pi * item.radius_px**2, rel=0.08)


def test_image_is_the_same_in_every_shard_order_and_worker(tmp_path):
    names = ["a", "b", "c", "d"]
    whole = write_shard(tmp_path / "whole", names)
    np.random.seed(1)  # noqa: NPY002  the global state must not matter
    back = write_shard(tmp_path / "back", names[::-1])
    assert read_manifest(whole) == read_manifest(back)
    with ThreadPoolExecutor(4) as pool:
        single = list(pool.map(lambda name: write_shard(tmp_path / name, [name]), names))
    for name, folder in zip(names, single, strict=True):
        file = f"images/{name}.tif"
        assert read_manifest(folder)[file] == read_manifest(whole)[file]
    for table in ("annotations.csv", "objects.csv", "images.csv"):
        rows = [line for folder in single for line in (folder / table).read_text().splitlines()[1:]]
        assert rows == (whole / table).read_text().splitlines()[1:]


def test_seed_and_name_both_change_the_image():
    images = [
        simulate_image(name, seed=seed, simulate=settings()).counts for name, seed in (("a", 1), ("b", 1), ("a", 2))
    ]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(images, 2))


def test_canonical_settings_give_the_same_image():
    section = settings(cell={"radius_px": 8.0}, camera={"full_scale_counts": 1000.0})
    one = simulate_image("a", seed=1, simulate=section)
    other = simulate_image("a", seed=1, simulate=canonical(section))
    assert np.array_equal(one.counts, other.counts)


def test_truth_is_the_same_under_another_lamp_lens_and_camera():
    image = simulate_image("a", seed=3, simulate=settings())
    other = simulate_image("a", seed=3, simulate=quiet())
    assert np.array_equal(extents(image), extents(other))


def test_more_cells_change_none_of_the_earlier_ones():
    few = extents(simulate_image("a", seed=3, simulate=settings(cells=4)))
    many = extents(simulate_image("a", seed=3, simulate=settings(cells=8)))
    assert np.array_equal(few, many[: len(few)])


@pytest.mark.parametrize("scaling", ["fixed", "deepest"])
@pytest.mark.parametrize("cells", [0, 1])
def test_empty_image_and_single_cell_are_recorded(tmp_path, cells, scaling):
    section = settings(cells=cells, focus={"scaling": scaling})
    folder = write_shard(tmp_path / "s", ["a"], section)
    assert len(pd.read_csv(folder / "annotations.csv")) == cells
    objects = pd.read_csv(folder / "objects.csv")
    assert not objects.isna().any(axis=None)
    if scaling == "deepest":
        assert objects["sigma_px"].tolist() == [section["focus"]["sigma_px"][1]] * cells
    image = tifffile.imread(folder / "images" / "a.tif")
    assert image.std() > 0


def test_overlapping_cells_are_averaged():
    flat = {"brightness": 0.5, "texture": {"bias": 1.0}}
    image = simulate_image("a", seed=4, simulate=quiet(cells=12, cell=flat, overlap={"limit": 1}))
    covered = extents(image).sum(axis=0)
    assert covered.max() > 1
    assert image.counts[covered > 0] == pytest.approx(0.5 * 65535, abs=1)
    assert image.counts[covered == 0].max() == 0


def test_nuclei_lie_in_their_cells_and_are_brighter():
    # Ragged cells, and nuclei that would extend beyond them.
    cell = {"radius_px": 14, "brightness": 0.3, "radial_jitter": 0.4}
    section = quiet(cell=cell, nucleus={"include": True, "radius_px": 11}, cells=4)
    image = simulate_image("a", seed=5, simulate=section)
    for cell, mask in zip(image.population.cells, extents(image), strict=True):
        nucleus = count_cover([cell.nucleus], shape=mask.shape) > 0
        assert not (nucleus & ~mask).any()
        assert image.counts[nucleus].mean() > 1.3 * image.counts[mask & ~nucleus].mean()


def test_overlap_may_be_judged_on_nuclei_only():
    section = settings(
        cells=15, cell={"radius_px": 16}, nucleus={"include": True}, overlap={"of": "nucleus", "limit": 0}
    )
    image = simulate_image("a", seed=6, simulate=section)
    nuclei = count_cover([cell.nucleus for cell in image.population.cells], shape=(80, 112))
    assert nuclei.max() == 1
    assert extents(image).sum(axis=0).max() > 1


def test_global_threshold_misses_part_of_the_default_cells():
    scores = []
    for number in range(16):
        image = simulate_image(f"sim_{number:04d}", seed=7, simulate=image_settings(Simulate(size=(160, 160))))
        truth = extents(image).any(axis=0)
        found = image.counts > threshold_otsu(image.counts)
        scores.append(2 * np.count_nonzero(found & truth) / (found.sum() + truth.sum()))
    assert 0.5 < np.mean(scores) < 0.88


def test_sample_twice_in_a_shard_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected each sample once, found a more than once. Remove"):
        write_shard(tmp_path / "s", ["a", "b", "a"])


# Config


def sample_names(simulate):
    return [name.sample for name in name_samples(simulate)]


def test_more_images_rename_and_change_none():
    few, many = Simulate(images=3), Simulate(images=12000)
    assert sample_names(few) == ["sim_0000", "sim_0001", "sim_0002"] == sample_names(many)[:3]
    assert len(set(sample_names(many))) == 12000
    assert image_settings(few) == image_settings(many)


def test_usual_number_of_cells_follows_the_size():
    for size, radius in (((128, 128), 10), ((256, 256), 12), ((500, 700), 25)):
        simulate = Simulate(size=size, cell={"radius_px": radius})
        cover = [count * math.pi * radius**2 / (size[0] * size[1]) for count in simulate.cells]
        assert cover == pytest.approx([0.06, 0.2], abs=0.02)


def test_section_survives_being_written_and_read():
    simulate = Simulate.model_validate({"cells": 5, "focus": {"sigma_px": 2}, "clusters": None})
    assert simulate.cells == (5, 5)
    assert simulate.focus.sigma_px == (2, 2)
    assert Simulate.model_validate(simulate.model_dump(mode="json")) == simulate


def test_every_key_is_described():
    def models(model):
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
                yield from models(field.annotation)

    fields = [(model, name, field) for model in models(Simulate) for name, field in model.model_fields.items()]
    assert len(fields) > 40
    for model, name, field in fields:
        assert field.description, f"{model.__name__}.{name}"
        assert not field.is_required(), f"{model.__name__}.{name}"
    Simulate.model_json_schema()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"cells": [9, 3]}, r"expected \[smallest, largest\], found \[9, 3\]. Swap the two"),
        ({"focus": {"window_px": 10}}, r"expected window_px to be odd, found 10. Use 11"),
        (
            {"cell": {"radius_px": 70}, "size": [128, 300]},
            r"cells that fit in the image.* up to 70 px .*128 x 300",
        ),
        ({"camera": {"full_scale_counts": 65535}}, r"of 65535 or less, found 65635. Lower one of the two"),
        ({"cell": {"texture": {"first_octave": 6, "octaves": 6}}}, r"octaves up to 10, found 11"),
        (
            {"overlap": {"of": "nucleus"}},
            r"expected nuclei for overlap.of: nucleus.* Set nucleus.include: true",
        ),
        (
            {"nucleus": {"include": True, "radius_px": 12}},
            r"nuclei smaller than every cell, .* Lower nucleus\.radius_px",
        ),
        ({"nuclei": {}}, r"Extra inputs are not permitted"),
        ({"background_noise": {"fraction": 1.5}}, r"less than or equal to 1"),
        ({"cells": True}, r"valid tuple"),
    ],
)
def test_mistakes_of_the_section_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Simulate.model_validate(section)
