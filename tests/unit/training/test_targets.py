"""Targets: classes by hand, the context of a patch, values after augmentation."""

import numpy as np
import pytest
from scipy import ndimage

from cellmill.images.stored import IGNORE_LABEL
from cellmill.objects.distances import distance_weights, normalised_distance, separate_touching
from cellmill.objects.flows import grey_of_flows, unit_flows
from cellmill.training.losses import IGNORED_TARGET
from cellmill.training.targets import Target, context_px, contour_classes, foreground_classes, image_maps, make_target

DISTANCE = {"weight": 10.0, "sigma_px": 5.0, "factor": 1, "reading": "to_border", "inside": False}
BCE = {"name": "bce", "distance": None}
CE = {"name": "ce", "distance": None}
WEIGHTED = {"name": "ce", "distance": DISTANCE}
I, X = IGNORE_LABEL, IGNORED_TARGET  # noqa: E741  short, so that the arrays are readable


def read_only(labels, dtype=np.uint16):
    labels = np.array(labels, dtype=dtype)
    labels.setflags(write=False)
    return labels


def scattered_cells(shape=(100, 110), cells=40, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    labels = np.zeros(shape, dtype=np.uint16)
    for number in rng.permutation(3 * cells)[:cells] + 1:
        labels[np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) <= rng.uniform(1, 8)] = number
    labels[40:50, 60:80] = IGNORE_LABEL
    return read_only(labels)


def whole_target(labels, *, output, loss=BCE):
    return make_target(labels, image_maps(labels, output=output), output=output, loss=loss, context_px=0)


def test_foreground_is_any_cell_and_ignored_stays_ignored():
    assert foreground_classes(read_only([[0, 7, I], [1, 0, 9]])).tolist() == [[0, 1, X], [1, 0, 1]]


def test_contour_is_a_ring_of_one_pixel_around_a_cell():
    labels = np.zeros((7, 8), dtype=np.uint16)
    labels[2:5, 2:6] = 4
    expected = np.zeros((7, 8), dtype=int)
    expected[1:6, 1:7] = 2
    expected[2:5, 2:6] = 1
    assert contour_classes(read_only(labels)).tolist() == expected.tolist()


def test_between_touching_cells_the_lower_number_gives_its_pixels_to_the_contour():
    assert contour_classes(read_only([[3, 3, 3, 5, 5]] * 3)).tolist() == [[1, 1, 2, 1, 1]] * 3
    assert contour_classes(read_only([[5, 5, 3, 3, 3]] * 3)).tolist() == [[1, 1, 2, 1, 1]] * 3


def test_ignored_pixels_make_no_contour():
    labels = read_only([[1, 1, I, 0, 0, 2], [1, 1, I, I, I, I], [1, 1, I, 0, 0, 0]])
    assert contour_classes(labels).tolist() == [[1, 1, X, 0, 2, 1], [1, 1, X, X, X, X], [1, 1, X, 0, 0, 0]]


def test_contour_is_where_the_grey_dilation_differs():
    labels = np.where(scattered_cells() == IGNORE_LABEL, 0, scattered_cells())
    differs = ndimage.grey_dilation(labels, size=(3, 3)) != labels
    classes = contour_classes(read_only(labels))
    assert np.array_equal(classes == 2, differs)
    assert np.array_equal(classes == 1, (labels > 0) & ~differs)


def test_contours_of_labels_of_32_bits_are_the_same():
    labels = scattered_cells()
    large = labels.astype(np.uint32)
    large[(labels > 0) & (labels != IGNORE_LABEL)] += 100_000
    assert np.array_equal(contour_classes(read_only(large, np.uint32)), contour_classes(labels))


@pytest.mark.parametrize(
    ("output", "loss", "expected"),
    [
        ("foreground", BCE, 0),
        ("flow", BCE, 0),
        ("distance", BCE, 0),
        ("contour", CE, 1),
        ("two_classes", CE, 0),
        ("two_classes", WEIGHTED, 22),
        ("contour", WEIGHTED, 22),
        ("contour", {"name": "ce", "distance": DISTANCE | {"factor": 2}}, 31),
        ("two_classes", {"name": "bce", "distance": DISTANCE}, 0),
    ],
)
def test_context_is_what_reaches_into_a_patch(output, loss, expected):
    assert context_px(output=output, loss=loss) == expected


@pytest.mark.parametrize(("output", "loss"), [("contour", CE), ("contour", WEIGHTED), ("two_classes", WEIGHTED)])
@pytest.mark.parametrize("more", [0, 5])
def test_a_patch_with_its_context_has_the_target_of_the_whole_image(output, loss, more):
    labels = scattered_cells()
    whole = whole_target(labels, output=output, loss=loss)
    context = context_px(output=output, loss=loss) + more
    padded = np.pad(labels, context, constant_values=IGNORE_LABEL)
    for top, left in ((0, 0), (33, 50), (68, 78)):
        window = read_only(padded[top : top + 32 + 2 * context, left : left + 32 + 2 * context])
        target = make_target(window, None, output=output, loss=loss, context_px=context)
        assert np.array_equal(target.classes_yx, whole.classes_yx[top : top + 32, left : left + 32])
        if loss is WEIGHTED:
            weights = whole.weights_yx[top : top + 32, left : left + 32]
            # Both omit weights below 1e-8 of the largest.
            assert np.allclose(target.weights_yx, weights, rtol=0, atol=1e-7)


def test_a_cell_three_pixels_outside_of_a_patch_counts():
    labels = np.zeros((64, 64), dtype=np.uint16)
    labels[22:42, 22:40], labels[22:42, 45:55] = 1, 2  # the patch ends before column 42
    target = make_target(read_only(labels), None, output="two_classes", loss=WEIGHTED, context_px=22)
    assert target.classes_yx.shape == (20, 20)
    assert target.weights_yx[10, 19] == pytest.approx(10 * np.exp(-((2 + 4) ** 2) / 25), rel=1e-6)


def test_the_ridge_between_touching_cells_is_weighted_as_background():
    labels = read_only([[1] * 10 + [2] * 10] * 20)
    target = whole_target(labels, output="two_classes", loss=WEIGHTED)
    assert (target.weights_yx[:, 9] > 8).all()
    assert target.classes_yx.tolist() == [[1] * 9 + [0] + [1] * 10] * 20


def test_the_ridge_between_touching_cells_is_weighted_as_contour():
    labels = scattered_cells()
    ridge = (labels > 0) & (separate_touching(labels) == 0)
    target = whole_target(labels, output="contour", loss=WEIGHTED)
    assert ridge.any()
    assert (target.classes_yx[ridge] == 2).all()
    assert np.array_equal(target.classes_yx, contour_classes(labels))


@pytest.mark.parametrize("output", ["foreground", "two_classes"])
def test_without_distance_weights_there_is_no_ridge_and_no_weight(output):
    labels = scattered_cells()
    for loss in (BCE, CE):
        target = whole_target(labels, output=output, loss=loss)
        assert np.array_equal(target.classes_yx, foreground_classes(labels))
        assert target.values_cyx is None
        assert target.weights_yx is None


def test_weights_are_those_of_the_distances():
    labels = scattered_cells()
    weights = whole_target(labels, output="contour", loss=WEIGHTED).weights_yx
    assert np.array_equal(weights, distance_weights(labels, **DISTANCE))
    assert not weights[labels == IGNORE_LABEL].any()


@pytest.mark.parametrize(
    ("output", "planes"),
    [("foreground", 0), ("two_classes", 0), ("contour", 0), ("distance", 1), ("flow", 2), ("flow_gray", 2)],
)
def test_maps_of_an_image_are_zero_where_there_is_no_cell(output, planes):
    labels = scattered_cells()
    maps = image_maps(labels, output=output)
    if planes == 0:
        assert maps is None
        return
    assert maps.dtype == np.float32
    assert maps.shape == (planes, *labels.shape)
    assert not maps[:, (labels == 0) | (labels == IGNORE_LABEL)].any()
    assert maps.any()


def test_values_of_an_image_that_was_not_changed_are_its_maps():
    labels = scattered_cells()
    flows = unit_flows(labels)
    assert np.array_equal(whole_target(labels, output="distance").values_cyx[0], normalised_distance(labels))
    assert np.allclose(whole_target(labels, output="flow").values_cyx, flows, atol=1e-6)
    assert np.allclose(whole_target(labels, output="flow_gray").values_cyx[0], grey_of_flows(flows), atol=1e-6)


@pytest.mark.parametrize("output", ["distance", "flow", "flow_gray"])
def test_values_are_cut_to_the_patch_as_classes_are(output):
    labels = scattered_cells()
    whole = whole_target(labels, output=output)
    target = make_target(labels, image_maps(labels, output=output), output=output, loss=BCE, context_px=7)
    assert np.array_equal(target.classes_yx, whole.classes_yx[7:-7, 7:-7])
    assert np.array_equal(target.values_cyx, whole.values_cyx[:, 7:-7, 7:-7])


def test_vectors_shortened_by_interpolation_have_length_one_again():
    labels = read_only([[0, 1, 1], [0, 1, 1], [IGNORE_LABEL, 1, 1]])
    maps = np.zeros((2, 3, 3), dtype=np.float32)
    maps[:, :, :2] = np.array([0.3, -0.4])[:, None, None]
    target = make_target(labels, maps, output="flow", loss=BCE, context_px=0)
    assert np.allclose(target.values_cyx[:, :, 1], np.array([0.6, -0.8])[:, None])
    # No values outside cells, even if some came across the border, and none where there were none
    assert not target.values_cyx[:, :, [0, 2]].any()


def test_depths_beyond_the_border_of_a_cell_are_zero():
    labels = read_only([[0, 1, 1, IGNORE_LABEL]])
    maps = np.array([[[0.4, 0.7, 1.1, 0.5]]], dtype=np.float32)
    values = make_target(labels, maps, output="distance", loss=BCE, context_px=0).values_cyx
    assert values.tolist() == [[[0, np.float32(0.7), 1, 0]]]


@pytest.mark.parametrize(
    ("output", "loss"),
    [("foreground", BCE), ("two_classes", WEIGHTED), ("contour", WEIGHTED), ("distance", BCE), ("flow", BCE)],
)
def test_targets_have_their_dtypes_and_lie_in_order(output, loss):
    labels = scattered_cells()
    target = make_target(labels, image_maps(labels, output=output), output=output, loss=loss, context_px=3)
    assert isinstance(target, Target)
    assert target.classes_yx.dtype == np.uint8
    assert set(np.unique(target.classes_yx)) <= {0, 1, 2, IGNORED_TARGET}
    for part in (target.values_cyx, target.weights_yx):
        assert part is None or part.dtype == np.float32
        assert part is None or part.shape[-2:] == target.classes_yx.shape
    assert all(part is None or part.flags.c_contiguous for part in vars(target).values())


def test_mirrored_labels_have_mirrored_flow_targets():
    labels = scattered_cells()
    maps = image_maps(labels, output="flow")
    values = make_target(labels, maps, output="flow", loss=BCE, context_px=0).values_cyx
    mirrored_maps = np.stack([maps[0, :, ::-1], -maps[1, :, ::-1]])
    for found in (mirrored_maps, image_maps(labels[:, ::-1], output="flow")):
        target = make_target(labels[:, ::-1], found, output="flow", loss=BCE, context_px=0)
        assert np.array_equal(target.values_cyx[0], values[0, :, ::-1])
        assert np.array_equal(target.values_cyx[1], -values[1, :, ::-1])
