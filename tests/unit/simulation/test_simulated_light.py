"""Additions to SIMCEP's cells: organelles, edges, dirt, even light, focus, shot noise, JPEG, stains."""

import math

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from scipy import ndimage
from skimage.measure import block_reduce, regionprops

from cellmill.config.simulate import Simulate, image_settings
from cellmill.images.files import read_plane
from cellmill.simulation.density import densest_cover
from cellmill.simulation.detector import expose
from cellmill.simulation.imaging import draw_bodies, simulate_image
from cellmill.simulation.organelles import OrganelleShape, draw_organelles
from cellmill.simulation.population import Body, place_cells
from cellmill.simulation.shapes import Footprint
from cellmill.simulation.streams import open_streams
from cellmill.simulation.surroundings import draw_dirt
from cellmill.simulation.texture import draw_texture
from cellmill.stages.check_shard import describe_places
from cellmill.stages.simulate import simulate_shard

SHAPE = (96, 128)
DARK = {
    "illumination": {"energy_ratio": 0},
    "autofluorescence": {"energy_ratio": 0},
    "background_noise": {"fraction": 0},
    "focus": {"sigma_px": 0.1, "window_px": 3},
    "camera": {"noise": 0, "offset_counts": 0, "full_scale_counts": 50000},
}


def settings(**section):
    return image_settings(Simulate.model_validate({"size": SHAPE, "cells": 6, **section}))


def light_of(name="a", seed=1, **section):
    """Return the recorded light as fractions of the full scale, for cells in focus on a dark background."""
    merged = {**DARK, **section}
    return simulate_image(name, seed=seed, simulate=settings(**merged)).counts / 50000


def square(side):
    return Footprint(0, 0, np.ones((side, side), dtype=bool))


# Texture


BOX = 128
WAVES = np.abs(np.fft.fftfreq(BOX, 1 / BOX))  # across the box
# without it the borders of the box would leak into the weak wave numbers
WINDOW = np.outer(np.hanning(BOX + 1)[:-1], np.hanning(BOX + 1)[:-1])
WINDOW_POWER = np.outer([1 / 16, 1 / 4, 1 / 16], [1 / 16, 1 / 4, 1 / 16])  # of a Hann window, at wave numbers -1, 0, 1


def expected_power(persistence, octaves):
    """Compute the power at each wave number: white noise on grids of 2**k, its mean over 3 x 3, Keys' cubic kernel."""
    distance = np.linspace(-2, 2, 4001)
    near, far = np.abs(distance) <= 1, np.abs(distance) > 1
    kernel = np.where(near, 1.5 * np.abs(distance) ** 3 - 2.5 * distance**2 + 1, 0.0)
    kernel += np.where(far, -0.5 * np.abs(distance) ** 3 + 2.5 * distance**2 - 4 * np.abs(distance) + 2, 0.0)
    power = np.zeros((BOX, BOX))
    for octave in octaves:
        u = WAVES / 2**octave
        mean = (1 + 2 * np.cos(2 * np.pi * u)) / 3
        cubic = np.array([np.trapezoid(kernel * np.cos(2 * np.pi * wave * distance), distance) for wave in u])
        axis = (mean * cubic) ** 2
        power += persistence ** (2 * octave) / 4**octave * np.outer(axis, axis)
    return power


@pytest.mark.parametrize("persistence", [0.5, 0.9, 1.3])
def test_spectrum_of_a_texture_is_that_of_its_octaves(persistence):
    measured = np.zeros((BOX, BOX))
    for seed in range(60):
        rng = np.random.default_rng(seed)
        texture = draw_texture((BOX, BOX), persistence=persistence, first_octave=2, octaves=4, bias=0, rng=rng)
        measured += np.abs(np.fft.fft2(WINDOW * (texture - texture.mean()) / texture.std())) ** 2
    radius = np.hypot(WAVES[:, None], WAVES[None, :])
    rings = [(radius >= low) & (radius < 1.5 * low) for low in (5, 8, 12, 18)]
    expected = ndimage.convolve(expected_power(persistence, range(2, 6)), WINDOW_POWER, mode="wrap")
    found = np.array([measured[ring].sum() for ring in rings])
    wanted = np.array([expected[ring].sum() for ring in rings])
    assert found / found[1] == pytest.approx(wanted / wanted[1], rel=0.2)


# Organelles


def test_organelles_lie_on_their_cell_and_have_their_radius():
    shape = OrganelleShape(radius_fraction=0.1, radial_jitter=0.1, angular_jitter=0.1)
    cell = square(80).moved(5, 7)
    [found] = draw_organelles(
        [cell], count=(400, 400), cell_radii_px=[60.0], largest_px=60, shape=shape, rng=np.random.default_rng(0)
    )
    areas = np.array([organelle.mask_yx.sum() for organelle in found])
    assert areas.mean() == pytest.approx(math.pi * 6**2, rel=0.05)
    centres = np.array(
        [np.add(ndimage.center_of_mass(organelle.mask_yx), (organelle.row, organelle.column)) for organelle in found]
    )
    assert (centres.min(axis=0) > [2, 4]).all()
    assert (centres.max(axis=0) < [88, 90]).all()
    assert centres.mean(axis=0) == pytest.approx([44.5, 46.5], abs=4)
    assert centres.std(axis=0) == pytest.approx([80 / math.sqrt(12)] * 2, rel=0.1)


def test_organelles_are_counted_bright_and_no_part_of_the_truth():
    plain, rich = (
        simulate_image("a", seed=1, simulate=settings(**DARK, organelles={"count": count})) for count in (0, 5)
    )
    assert [row["organelles"] for row in rich.objects] == [5] * 6
    assert np.array_equal(plain.labels_yx, rich.labels_yx)
    more = rich.counts.astype(float) - plain.counts
    assert more.min() >= -1
    assert 0.15 * 50000 < more.max() <= 0.4 * 50000 + 1


def test_an_organelle_smaller_than_a_pixel_is_one_pixel():
    shape = OrganelleShape(radius_fraction=0.05, radial_jitter=0, angular_jitter=0)
    [found] = draw_organelles(
        [square(9)], count=(50, 50), cell_radii_px=[4.0], largest_px=4, shape=shape, rng=np.random.default_rng(0)
    )
    assert {int(organelle.mask_yx.sum()) for organelle in found} == {1}


def test_organelles_that_stick_out_keep_their_light():
    section = {**DARK, "organelles": {"count": 30, "radius_fraction": 0.4, "brightness": 0.3}}
    image = simulate_image("a", seed=1, simulate=settings(**section))
    beyond = (image.counts > 0) & (image.labels_yx == 0)
    assert np.count_nonzero(ndimage.binary_erosion(beyond)) > 20


# Long cells


def test_long_cells_have_the_asked_ratio_and_the_area_of_round_ones():
    cell = {"radius_px": 14, "radial_jitter": 0, "angular_jitter": 0}

    def bodies(**more):
        rngs = open_streams("a", seed=0)
        return draw_bodies(300, simulate=settings(cell={**cell, **more}, nucleus={"include": True}), rngs=rngs)

    long, round_ = bodies(elongation=[1.5, 2.5]), bodies()
    ratios, turns = [], []
    for body in long:
        [region] = regionprops(body.cell.mask_yx.astype(np.uint8))
        ratios.append(region.axis_major_length / region.axis_minor_length)
        turns.append(region.orientation)
        [inner] = regionprops(body.nucleus.mask_yx.astype(np.uint8))
        assert inner.axis_major_length > 1.2 * inner.axis_minor_length
    assert np.quantile(ratios, [0, 0.5, 1]) == pytest.approx([1.5, 2, 2.5], abs=0.12)
    assert np.histogram(turns, bins=6, range=(-np.pi / 2, np.pi / 2))[0] == pytest.approx(50, abs=25)
    areas = [[body.cell.mask_yx.sum() for body in side] for side in (long, round_)]
    assert np.mean(areas[0]) == pytest.approx(np.mean(areas[1]), rel=0.01)


# Edges, levels, focus


def test_rim_is_brightest_at_the_outline_and_falls_by_e():
    cell = {"radius_px": 20, "radial_jitter": 0, "angular_jitter": 0, "brightness": 0.2, "texture": {"bias": 1}}
    section = {"cells": 1, "cell": {**cell, "rim": {"brightness": 0.5, "width_px": 4}}}
    image = simulate_image("c", seed=4, simulate=settings(**DARK, **section))
    light = image.counts / 50000 - 0.2
    depth = ndimage.distance_transform_edt(np.pad(image.labels_yx > 0, 1))[1:-1, 1:-1]
    rows = slice(10, -10)
    for low in (1, 3, 5, 9):
        ring = (depth[rows] >= low) & (depth[rows] < low + 1)
        assert light[rows][ring].mean() == pytest.approx(0.5 * np.exp(-np.mean(depth[rows][ring] - 0.5) / 4), rel=0.12)


def test_dark_cells_take_light_from_an_even_background():
    cell = {"brightness": [-0.4, -0.2], "texture": {"bias": 1}}
    light = light_of(background={"level": 0.5}, cell=cell)
    truth = simulate_image("a", seed=1, simulate=settings(**DARK, cell=cell, background={"level": 0.5})).labels_yx > 0
    inside = ndimage.binary_erosion(truth, iterations=2)
    assert light[ndimage.binary_erosion(~truth, iterations=2)] == pytest.approx(0.5, abs=1e-4)
    assert light[inside].min() >= 0.5 - 0.4 - 1e-3
    assert light[inside].max() <= 0.5 - 0.2 + 1e-3


def test_level_is_drawn_for_each_image():
    section = {**DARK, "cells": 0, "background": {"level": [0.2, 0.6]}}
    levels = [simulate_image(f"n{i}", seed=1, simulate=settings(**section)).counts[0, 0] / 50000 for i in range(60)]
    assert 0.2 <= min(levels) < 0.26
    assert 0.54 < max(levels) <= 0.6


def test_an_image_out_of_focus_is_the_one_in_focus_blurred():
    sharp = light_of()
    focus = {**DARK["focus"], "image_sigma_px": 4}
    soft = light_of(focus=focus)
    assert soft == pytest.approx(ndimage.gaussian_filter(sharp, 4, mode="nearest"), abs=1e-4)


# Dirt


def test_dirt_is_there_in_the_asked_number_and_light():
    dirt = draw_dirt(
        (400, 400), count=(30, 30), radius_px=(4, 4), brightness=(-0.2, -0.2), sigma_px=(0.5, 0.5),
        rng=np.random.default_rng(5),
    )  # fmt: skip
    assert dirt.max() <= 1e-12
    assert -0.2 * 3 < dirt.min() < -0.12
    specks = ndimage.label(dirt < -0.02)[1]
    assert 20 <= specks <= 30  # some overlap
    assert (
        draw_dirt(
            (9, 9), count=(0, 0), radius_px=(4, 4), brightness=(0, 0), sigma_px=(1, 1), rng=np.random.default_rng(0)
        )
        is None
    )


def test_dirt_stays_sharp_where_the_microscope_does_not():
    dirt = {"count": 12, "radius_px": 3, "brightness": 0.3, "sigma_px": 0.5}
    section = {**DARK, "cells": 0, "focus": {**DARK["focus"], "image_sigma_px": 8}}
    with_dirt, without = light_of(**section, dirt=dirt), light_of(**section)
    assert np.abs(np.diff(with_dirt - without, axis=0)).max() > 0.1


# Camera


def test_shot_noise_has_the_variance_of_its_photons():
    rng = np.random.default_rng(2)
    for level in (0.1, 0.5):
        counts = expose(
            np.full((300, 300), level), full_scale_counts=1000, offset_counts=0, noise=0, photons=400, rng=rng
        ).astype(float)
        assert counts.mean() == pytest.approx(1000 * level, rel=0.01)
        # UNIT counts: 1000 / 400 counts per photon
        assert counts.var() == pytest.approx((1000 / 400) ** 2 * 400 * level, rel=0.05)


def test_a_photon_counting_camera_counts_photons():
    counts = expose(
        np.full((200, 200), 0.02), full_scale_counts=100, offset_counts=0, noise=0, photons=100,
        rng=np.random.default_rng(3),
    )  # fmt: skip
    found = np.bincount(counts.ravel(), minlength=6)[:6] / counts.size
    assert found == pytest.approx([math.exp(-2) * 2**k / math.factorial(k) for k in range(6)], abs=0.01)


@pytest.mark.parametrize(("full_scale", "dtype"), [(255, np.uint8), (256, np.uint16)])
def test_eight_bits_are_stored_where_they_suffice(full_scale, dtype):
    camera = {"full_scale_counts": full_scale, "offset_counts": 0}
    assert simulate_image("a", seed=0, simulate=settings(camera=camera)).counts.dtype == dtype


def test_jpeg_leaves_marks_that_grow_as_its_quality_falls():
    camera = {"full_scale_counts": 255, "offset_counts": 0, "noise": 0.01}

    def error(quality):
        plain = simulate_image("a", seed=0, simulate=settings(camera=camera)).counts
        packed = simulate_image("a", seed=0, simulate=settings(camera={**camera, "jpeg_quality": quality})).counts
        return np.abs(packed.astype(float) - plain).mean()

    assert error(100) < 0.5 < error(50) < error(10)
    packed = simulate_image("a", seed=0, simulate=settings(camera={**camera, "jpeg_quality": 5})).counts.astype(float)
    steps = block_reduce(np.abs(np.diff(packed, axis=1))[:, :120].reshape(96, 15, 8), (96, 15, 1), np.mean).ravel()
    assert steps.argmax() == 7  # at the edges between blocks of 8 px


def test_jpeg_of_a_sixteen_bit_camera_is_refused():
    with pytest.raises(ValueError, match="at most 255 counts, found 4000"):
        expose(
            np.zeros((8, 8)), full_scale_counts=4000, offset_counts=0, noise=0, jpeg_quality=90,
            rng=np.random.default_rng(0),
        )  # fmt: skip


def test_separate_stains_add_up_to_the_merged_image(tmp_path):
    section = {**DARK, "nucleus": {"include": True}, "organelles": {"count": 3}, "cell": {"brightness": 0.3}}
    merged = simulate_image("a", seed=1, simulate=settings(**section)).counts.astype(float)
    apart = {**section, "camera": {**DARK["camera"], "stains": "separate"}}
    counts = simulate_image("a", seed=1, simulate=settings(**apart)).counts
    assert counts.shape == (3, *SHAPE)
    is_clear = merged < 45000
    assert counts.astype(float).sum(axis=0)[is_clear] == pytest.approx(merged[is_clear], abs=3)
    simulate_shard(output_dir=tmp_path / "s", samples=[{"sample": "a"}], seed=1, simulate=settings(**apart))
    path = tmp_path / "s/images/a.tif"
    with tifffile.TiffFile(path) as tif:
        assert tif.series[0].axes == "CYX"
    for channel in range(3):
        assert np.array_equal(read_plane(path, channel=channel, plane=()), counts[channel])


def test_visible_extents_are_written_beside_the_full_ones(tmp_path):
    section = settings(overlap={"limit": 0.5}, cells=14, clusters={"probability": 1, "count": 1, "spread": 0.2})
    simulate_shard(output_dir=tmp_path / "s", samples=[{"sample": "a"}], seed=1, simulate=section)
    image = simulate_image("a", seed=1, simulate=section)
    visible = tifffile.imread(tmp_path / "s/visible/a.tif")
    assert np.array_equal(visible, image.labels_yx)
    areas = np.bincount(visible.ravel(), minlength=15)[1:]
    assert areas.tolist() == [row["visible_area_px"] for row in image.objects]
    assert any(row["visible_area_px"] < row["area_px"] for row in image.objects)


# Places


def crowd(no_place, *, count=40):
    nothing = Footprint(0, 0, np.zeros((1, 1), dtype=bool))
    body = Body(0.0, 0.0, 5.0, square(11).moved(-5, -5), nothing)
    return place_cells(
        [body] * count, shape=(60, 60), clusters=0, cluster_probability=0, cluster_spread=0.1, overlap_limit=0,
        overlap_of="cell", attempts=5, no_place=no_place, rng=np.random.default_rng(0),
    )  # fmt: skip


def test_a_cell_without_a_place_is_left_out_or_ends_the_image_or_is_placed_nevertheless():
    left_out, stopped, placed = (crowd(how) for how in ("leave_out", "stop", "place"))
    assert len(stopped.cells) < len(left_out.cells) < 40 == len(placed.cells)
    assert (stopped.failed, left_out.failed, placed.failed) == (40 - len(stopped.cells), 40 - len(left_out.cells), 0)
    assert [cell.row for cell in stopped.cells] == [cell.row for cell in left_out.cells][: len(stopped.cells)]


def test_cells_without_a_place_are_a_finding_of_the_check(tmp_path):
    section = settings(size=[64, 64], cells=12, cell={"radius_px": 10}, overlap={"limit": 0, "attempts": 3})
    samples = [{"sample": name} for name in ("a", "b")]
    simulate_shard(output_dir=tmp_path / "s", samples=samples, seed=1, simulate=section)
    [finding] = describe_places(tmp_path / "s")
    failed = [simulate_image(name, seed=1, simulate=section).summary["failed"] for name in ("a", "b")]
    assert sum(failed) > 0
    assert finding["finding"].startswith(f"{sum(failed)} of 24 simulated cells could not be placed, in")
    simulate_shard(output_dir=tmp_path / "t", samples=samples, seed=1, simulate=settings(cells=1))
    assert describe_places(tmp_path / "t") == []


def test_discs_are_placed_up_to_the_density_that_is_refused():
    assert densest_cover(0) == pytest.approx(0.547, abs=1e-6)
    assert densest_cover(0) < densest_cover(0.1) < densest_cover(0.5) < densest_cover(1) == math.inf
    simulate = Simulate.model_validate(
        {"size": [200, 200], "cells": 80, "cell": {"radius_px": 8, "radial_jitter": 0}, "clusters": {"count": 0},
         "overlap": {"limit": 0, "attempts": 2000}}
    )  # fmt: skip
    image = simulate_image("a", seed=0, simulate=image_settings(simulate))
    assert image.summary["failed"] == 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"cells": 900, "size": [128, 128], "cell": {"radius_px": 10}},
            r"found cells up to 900\. At most about 5\d cells with radius_px 10 to 10 .* in 128 x 128 px\. Set cells to "
            r"40 or fewer, raise overlap.limit, or set overlap.no_place: place",
        ),
        (
            {"cell": {"brightness": [-0.3, -0.1]}},
            r"light for cells that are darker than it, found cell.brightness from -0.3 .* Set background.level to 0.3 or more",
        ),
        ({"camera": {"jpeg_quality": 90}}, r"255 or less for jpeg_quality, found 4100.* set offset_counts: 0"),
        ({"camera": {"noise": -0.1}}, r"greater than or equal to 0"),
        ({"camera": {"photons": 0}}, r"greater than or equal to 1"),
        ({"time_lapse": {"frames": 1}}, r"greater than or equal to 2"),
        ({"time_lapse": {"persistence": 1}}, r"less than 1"),
        ({"cell": {"radius_px": 300}}, r"cells that fit in the image, found cell.radius_px up to 300 px"),
    ],
)
def test_scenes_that_cannot_be_are_refused_with_one_that_can(section, message):
    with pytest.raises(ValidationError, match=message):
        Simulate.model_validate(section)


def test_a_crowded_scene_is_allowed_where_overlap_is():
    crowded = {"cells": 900, "size": [128, 128], "cell": {"radius_px": 10}}
    assert Simulate.model_validate({**crowded, "overlap": {"limit": 1}}).cells == (900, 900)
    assert Simulate.model_validate({**crowded, "overlap": {"no_place": "place"}}).cells == (900, 900)
