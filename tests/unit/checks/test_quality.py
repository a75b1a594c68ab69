"""Measurements of a plane: range, saturation, focus, signature and digest, however the plane is cut into bands."""

import base64

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellmill.checks import quality
from cellmill.checks.quality import PixelDigest, measure_plane, share_cells

TOP = 65535


def cells_image(shape=(96, 120), *, seed=3):
    """Draw bright discs on an uneven background, in camera counts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image_yx = 100 + 0.2 * x
    for _ in range(12):
        row, column = rng.uniform(8, shape[0] - 8), rng.uniform(8, shape[1] - 8)
        image_yx = image_yx + 400.0 * ((y - row) ** 2 + (x - column) ** 2 <= rng.uniform(3, 7) ** 2)
    return image_yx


def measure(image_yx, *, top=None):
    return measure_plane([image_yx], shape=image_yx.shape, top=top)


def correlate(one, other):
    a, b = (np.frombuffer(base64.b64decode(text), np.int8).astype(float) for text in (one, other))
    return a @ b / np.sqrt((a @ a) * (b @ b))


def test_nothing_depends_on_how_the_plane_is_cut(monkeypatch):
    image_yx = cells_image().astype(np.uint16)
    image_yx.flags.writeable = False
    whole = measure(image_yx, top=TOP)
    monkeypatch.setattr(quality, "STRIP_PIXELS", 8 * 120)
    cut = [image_yx[:1], image_yx[1:6], image_yx[6:53], image_yx[53:]]
    pieces = measure_plane(cut, shape=image_yx.shape, top=TOP)
    numbers = {key: value for key, value in whole.items() if key != "thumbnail"}
    assert {key: pieces[key] for key in numbers} == pytest.approx(numbers, rel=1e-6)
    assert correlate(pieces["thumbnail"], whole["thumbnail"]) > 0.9999


def test_range_mean_and_contrast_are_those_of_the_whole_image():
    image_yx = cells_image().astype(np.uint16) + np.uint16(32768)
    found = measure(image_yx, top=TOP)
    expected = {
        "minimum": image_yx.min(),
        "maximum": image_yx.max(),
        "mean": image_yx.mean(),
        "contrast": image_yx.std(),
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_blur_lowers_the_focus_step_by_step_also_under_noise():
    noise_yx = np.random.default_rng(1).normal(0, 2, cells_image().shape)
    for image_noise in (0, 1):
        focus = [
            measure(gaussian_filter(cells_image(), s) + image_noise * noise_yx)["focus"] for s in (0, 0.7, 1, 2, 3, 4)
        ]
        assert np.all(np.diff(focus) < 0)
        assert focus[3] < focus[0] / 2


def test_exposure_and_offset_leave_the_focus_alone():
    image_yx = cells_image()
    expected = measure(image_yx)["focus"]
    assert measure(3.7 * image_yx)["focus"] == pytest.approx(expected, rel=1e-4)
    assert measure(image_yx + 30_000)["focus"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (5, 60)])
def test_a_sliver_has_no_focus(shape):
    image_yx = np.random.default_rng(2).integers(0, 255, shape).astype(np.uint8)
    assert measure(image_yx, top=255)["focus"] is None


def test_a_constant_image_has_neither_focus_nor_signature():
    found = measure(np.full((40, 50), 1e5))
    assert (found["focus"], found["thumbnail"], found["contrast"]) == (None, "", 0)


@pytest.mark.parametrize(
    ("top_value", "fraction", "shift", "expected"),
    [
        (4095, 0.05, 0, 0.05), (1023, 0.05, 0, 0.05), (16383, 0.05, 0, 0.05), (65535, 0.001, 0, 0.001),
        (4095, 0.005, 0, 0.0), (4000, 0.05, 0, 0.0), (4095, 0.05, 4, 0.05),
    ],
)  # fmt: skip
def test_the_top_of_a_camera_of_fewer_bits_counts_as_saturated(top_value, fraction, shift, expected):
    image_yx = (np.arange(100_000, dtype=np.uint16) % 997).reshape(200, 500)
    image_yx.ravel()[: int(fraction * image_yx.size)] = top_value
    found = measure(image_yx << shift, top=TOP)
    assert found["saturated_fraction"] == pytest.approx(expected)
    assert found["significant_bits"] == int(top_value).bit_length()


def test_white_is_saturated_although_a_luminance_is_no_whole_number():
    image_yx = np.full((20, 20), 100, np.float32)
    image_yx[:5] = np.float32(254.99998)
    assert measure(image_yx, top=255)["saturated_fraction"] == pytest.approx(0.25)


def test_cells_share_every_pixel_once():
    for length in (7, 24, 100, 1000):
        shares = share_cells(0, length, length=length)
        assert np.allclose(shares.sum(axis=1), 1, atol=1e-5)
        assert np.allclose(shares.sum(axis=0), 24 / length, atol=1e-5)


def test_the_signature_survives_what_a_copy_goes_through_and_tells_fields_apart():
    image_yx = cells_image()
    own = measure(image_yx)["thumbnail"]
    assert correlate(own, measure(1.1 * image_yx)["thumbnail"]) > 0.99
    assert correlate(own, measure(np.kron(image_yx, np.ones((2, 2))))["thumbnail"]) > 0.99
    assert abs(correlate(own, measure(cells_image(seed=4))["thumbnail"])) < 0.5


def digest(band, plane_yx, *, cuts=()):
    made = PixelDigest()
    for part, plane in zip(np.split(band, cuts), np.split(plane_yx, cuts), strict=True):
        made.add(part, plane)
    return made.result(plane_yx.shape)


def test_equal_pixels_have_equal_digests_whatever_the_file():
    grey_yx = cells_image().astype(np.uint16)
    expected = digest(grey_yx, grey_yx)
    assert digest(grey_yx.astype(">u2"), grey_yx.astype(">u2")) == expected
    assert digest(np.stack([grey_yx] * 3, axis=2), grey_yx) == expected
    assert digest(grey_yx, grey_yx, cuts=(3, 50)) == expected
    assert digest(grey_yx.T.copy(), grey_yx.T.copy()) != expected
    assert digest(grey_yx.reshape(48, -1), grey_yx.reshape(48, -1)) != expected
    assert digest(grey_yx.astype(np.int16), grey_yx.astype(np.int16)) != expected


def test_colours_have_one_digest_wherever_their_grey_rows_are_cut():
    colours = np.random.default_rng(5).integers(0, 255, (40, 30, 3)).astype(np.uint8)
    colours[:10] = colours[:10, :, :1]
    luminance_yx = colours.mean(axis=2, dtype=np.float32)
    whole = digest(colours, luminance_yx)
    cut = PixelDigest()
    cut.add(colours[:10], colours[:10, :, 0])  # the luminance of grey rows keeps the type of the image
    cut.add(colours[10:], luminance_yx[10:])
    assert cut.result((40, 30)) == whole
    assert digest(colours[:, :, ::-1], luminance_yx) != whole


def test_grey_images_under_one_weight_have_their_own_digests():
    digests = set()
    for level in (1, 2):
        band = np.full((4, 5), level, np.uint8)
        made = PixelDigest()
        made.add(band, band.astype(np.float32))
        assert made.is_grey
        digests.add(made.result((4, 5)))
    assert len(digests) == 2


def test_luminance_of_floating_point_colours_is_no_grey():
    rng = np.random.default_rng(0)
    band = rng.random((4, 5, 3)).astype(np.float32)
    mixed, chosen = PixelDigest(), PixelDigest()
    mixed.add(band, (band @ np.float32([0.3, 0.6, 0.1])).astype(np.float32))
    chosen.add(band, np.ascontiguousarray(band[:, :, 1]))
    assert (mixed.is_grey, chosen.is_grey) == (False, True)
