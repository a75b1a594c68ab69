import numpy as np
import pytest
from scipy import ndimage
from skimage import measure, morphology

from cellmill.objects.boundary import fit_classifier
from cellmill.objects.flows import unit_flows
from cellmill.objects.instances import (
    Candidates,
    drop_small_share,
    grow_components,
    keep_objects,
    make_masks,
    masks_reach_px,
    smallest_area,
)
from cellmill.objects.morphology import close_mask, label_components, make_footprint
from cellmill.objects.necks import find_necks, join_parts
from cellmill.objects.tuning import FALLBACK_SPLIT_DEPTH, FALLBACK_SPLIT_DEPTH_PX, Searched, choose_objects

ROWS, COLUMNS = np.indices((60, 90))
PLAIN = {"applied": False}


def disc(row, column, radius):
    return (ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= radius**2


def blobs(seed, shape=(120, 150)):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 3)
    return noise > 0


def count(labels):
    return len(np.setdiff1d(labels, [0]))


def split_objects(core, mask, *, method, depth, maps=None):
    return Candidates(core, mask, mask[np.newaxis] if maps is None else maps).split(
        method, depth=depth, max_flow_error=None
    )


def limits(**changes):
    settings = {"min_area_px": 0, "max_area_px": None, "min_solidity": None, "exclude_border": False}
    return {"instances": settings | changes}


def test_closing_joins_no_two_cells():
    core = np.zeros((12, 21), dtype=bool)
    core[2:10, 2:10] = core[2:10, 11:19] = True
    closed = close_mask(core, footprint=make_footprint("cross", radius_px=1))
    assert count(label_components(closed)) == 1
    objects = grow_components(core, closed)
    assert count(objects) == 2
    assert objects[5, 3] != objects[5, 15]


@pytest.mark.parametrize("method", ["components", "watershed"])
@pytest.mark.parametrize("seed", range(4))
def test_closing_never_lowers_the_number_of_objects(method, seed):
    core = np.random.default_rng(seed).random((60, 80)) < 0.25
    closed = close_mask(core, footprint=make_footprint("square", radius_px=1))
    objects = split_objects(core, closed, method=method, depth=1e6)
    assert count(objects) == count(measure.label(core, connectivity=2))
    assert count(objects) > count(label_components(closed))


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_objects_cover_the_mask_and_nothing_else(method):
    core = blobs(1)
    mask = close_mask(core, footprint=make_footprint("disk", radius_px=2))
    objects = split_objects(core, mask, method=method, depth=0.5)
    assert np.array_equal(objects > 0, mask)


def test_a_part_of_the_mask_without_a_core_is_an_object_of_its_own():
    core, mask = disc(20, 20, 8) | disc(20, 38, 8), disc(20, 20, 9) | disc(20, 38, 9) | disc(45, 70, 4)
    objects = grow_components(core, mask)
    assert count(objects) == 3
    assert objects[45, 70] not in (0, objects[20, 20], objects[20, 38])


def test_touching_discs_are_split_by_watershed_only():
    mask = disc(30, 25, 12) | disc(30, 46, 12)
    assert count(split_objects(mask, mask, method="components", depth=None)) == 1
    split = split_objects(mask, mask, method="watershed", depth=1.0)
    assert count(split) == 2
    assert split[30, 20] != split[30, 50]
    middle = np.abs(COLUMNS - 35.5) > 1
    assert np.array_equal((split == split[30, 20])[middle], (mask & (COLUMNS < 35.5))[middle])


def test_an_ellipse_is_one_object():
    mask = ((ROWS - 30) / 10) ** 2 + ((COLUMNS - 45) / 35) ** 2 <= 1
    assert count(split_objects(mask, mask, method="watershed", depth=1.0)) == 1


@pytest.mark.parametrize("depth", [0.55, 0.93, 1.37, 2.21])
def test_objects_are_as_many_as_h_maxima(depth):
    mask = blobs(2)
    distance = ndimage.distance_transform_edt(mask)
    flooded = morphology.reconstruction(distance - depth, distance)
    peaks = measure.label(morphology.local_maxima(flooded, connectivity=2) & mask, connectivity=2)
    components = label_components(mask)
    lost = np.setdiff1d(components, components[peaks > 0])
    expected = peaks.max() + count(lost)
    objects = join_parts(find_necks(components), depth=depth)
    assert count(objects) == expected


def test_a_depth_beyond_all_necks_gives_the_components():
    components = label_components(blobs(3))
    assert np.array_equal(join_parts(find_necks(components), depth=1e6), components)


def test_deeper_necks_are_asked_for_fewer_objects_are_found():
    necks = find_necks(label_components(blobs(4)))
    counts = [count(join_parts(necks, depth=depth)) for depth in (0.25, 0.5, 1, 2, 4)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_empty_full_and_one_pixel_masks(method):
    def objects(mask):
        return split_objects(mask, mask, method=method, depth=1.0)

    empty = np.zeros((8, 9), dtype=bool)
    dot = empty.copy()
    dot[4, 4] = True
    assert not objects(empty).any()
    assert np.array_equal(objects(~empty), np.ones((8, 9)))
    assert np.array_equal(objects(dot), dot)


def test_objects_are_dropped_by_area_shape_and_border_after_splitting():
    mask = disc(30, 25, 12) | disc(30, 42, 7) | disc(0, 70, 6)
    mask[45:48, 60:80] = mask[45:58, 60:63] = True  # an L shape
    objects = split_objects(mask, mask, method="watershed", depth=0.5)
    large, small, cut, bent = objects[30, 20], objects[30, 45], objects[2, 70], objects[46, 75]
    areas = np.bincount(objects.ravel())
    frame = ((0, 60), (0, 90))

    def kept(box=frame, **changes):
        return set(np.flatnonzero(keep_objects(objects, box=box, limits=limits(**changes)["instances"])))

    assert kept() == {large, small, cut, bent}
    assert kept(min_area_px=int(areas[large])) == {large}
    assert kept(max_area_px=int(areas[large]) - 1) == {small, cut, bent}
    assert kept(min_solidity=0.8) == {large, small, cut}
    assert kept(exclude_border=True) == {large, small, bent}
    # The raw frame ends at the large disc; or it extends beyond the array, which is a part of a larger image.
    assert kept(((0, 60), (25, 90)), exclude_border=True) == {small, bent}
    assert kept(((-500, 900), (0, 90)), exclude_border=True) == {large, small, cut, bent}


def touching_discs():
    truth = np.where(disc(30, 30, 12), 1, 0)
    truth[disc(30, 48, 12) & (truth == 0)] = 2  # too close for a clear neck in the mask
    return truth


def test_a_predicted_contour_splits_and_its_roughness_does_not():
    truth = touching_discs()
    contour = np.where((truth == 1) & (ndimage.maximum_filter(truth, 3) == 2), 0.8, 0.05)
    contour += np.random.default_rng(0).uniform(0, 0.1, contour.shape)
    maps = np.stack([(truth > 0) * 0.9, contour])
    assert count(split_objects(truth > 0, truth > 0, method="contour", depth=0.2, maps=maps)) == 2
    assert count(split_objects(truth > 0, truth > 0, method="contour", depth=0.95, maps=maps)) == 1


def test_predicted_distances_split_at_the_pass_between_their_tops():
    truth = touching_discs()
    distances = sum(ndimage.distance_transform_edt(truth == cell) / 12 for cell in (1, 2))
    maps = np.stack([(truth > 0) * 0.9, distances])
    split = split_objects(truth > 0, truth > 0, method="distance", depth=0.2, maps=maps)
    assert count(split) == 2
    assert np.mean((split == split[30, 25]) == (truth == 1)) > 0.99


def test_predicted_flows_split():
    truth = touching_discs()
    maps = np.concatenate([(truth > 0)[np.newaxis] * 0.9, unit_flows(truth.astype(np.uint16))])
    split = split_objects(truth > 0, truth > 0, method="flow", depth=None, maps=maps)
    assert count(split) == 2
    assert np.mean((split == split[30, 25]) == (truth == 1)) > 0.99


@pytest.mark.parametrize("scales_px", [None, [0.0], [0.0, 2.0]])
@pytest.mark.parametrize("radius_px", [0, 1, 4])
def test_a_mask_looks_no_further_than_it_says(radius_px, scales_px):
    rng = np.random.default_rng(0)
    probability, image = np.where(blobs(1), 0.9, 0.1), rng.random((120, 150))
    boundary = dict(PLAIN)
    if scales_px is not None:
        features = rng.normal(size=(60, 2 * len(scales_px)))
        model = fit_classifier(
            features, features.sum(axis=1) > 0, classifier="svm", standardise=True, coef0=1.0, cost=1.0
        )
        boundary = {"applied": True, "model": model, "scales_px": scales_px}
    fitted = {
        "threshold": {"value": 0.5}, "closing": {"footprint": "disk", "radius_px": radius_px}, "boundary": boundary,
        "instances": {"fill_holes_px": 0},
    }  # fmt: skip
    reach = masks_reach_px(fitted)

    def masks_of(part):
        valid = np.ones(probability[part].shape, dtype=bool)
        return make_masks(probability[part][np.newaxis], image[part], valid_yx=valid, grey=(0, 1), fitted=fitted)[1]

    inside = (slice(30, 90), slice(35, 110))
    outside = tuple(slice(part.start - reach, part.stop + reach) for part in inside)
    core = slice(reach, -reach or None)
    assert np.array_equal(masks_of(outside)[core, core], masks_of((slice(None), slice(None)))[inside])


def test_padding_is_never_an_object():
    valid = np.zeros((30, 30), dtype=bool)
    valid[5:25, 5:25] = True
    fitted = {
        "threshold": {"value": 0.5}, "closing": {"footprint": "disk", "radius_px": 2}, "boundary": PLAIN,
        "instances": {"fill_holes_px": 10},
    }  # fmt: skip
    image = np.zeros((30, 30))
    core, mask = make_masks(np.ones((1, 30, 30)), image, valid_yx=valid, grey=(0, 1), fitted=fitted)
    assert np.array_equal(core, valid)
    assert np.array_equal(mask, valid)


def test_a_pixel_at_the_threshold_is_foreground():
    probability = np.array([[0.5, np.nextafter(0.5, 0)]])
    fitted = {
        "threshold": {"value": 0.5}, "closing": {"footprint": "cross", "radius_px": 0}, "boundary": PLAIN,
        "instances": {"fill_holes_px": 0},
    }  # fmt: skip
    everywhere = np.ones((1, 2), dtype=bool)
    core, _ = make_masks(probability[np.newaxis], probability, valid_yx=everywhere, grey=(0, 1), fitted=fitted)
    assert np.array_equal(core, [[True, False]])


def frame_of(mask, truth, *maps):
    candidates = Candidates(mask, mask, np.stack([mask * 0.9, *maps]))
    return Searched("a", candidates, truth, np.ones(mask.shape, dtype=bool), ((0, 60), (0, 90)))


def choose(frames, *, output="foreground", median_area_px=400.0, smallest_area_px=400, is_few=False, **changes):
    settings = limits(
        method="auto", split_depth_px=None, split_depth=None, min_area_px=None, min_area_share=None, max_flow_error=0.4
    )
    return choose_objects(
        frames, instances=settings["instances"] | changes, output=output, median_area_px=median_area_px,
        smallest_area_px=smallest_area_px, is_few=is_few,
    )  # fmt: skip


def test_touching_cells_choose_the_watershed():
    truth = np.where(disc(30, 25, 12), 1, 0)
    truth[disc(30, 46, 12)] = 2
    chosen = choose([frame_of(truth > 0, truth)])
    assert chosen["method"] == "watershed"
    assert max(tried["ap_kaggle"] for tried in chosen["searched"]) > 0.8


def test_dumbbell_cells_choose_the_components():
    mask = disc(30, 25, 12) | disc(30, 46, 12)
    chosen = choose([frame_of(mask, mask.astype(int))])
    assert chosen["method"] == "components"
    assert chosen["split_depth"] is None
    assert chosen["min_area_px"] == 0


def test_debris_chooses_a_smallest_area_between_it_and_the_cells():
    truth = np.where(disc(30, 25, 12), 1, 0)
    mask = (truth > 0) | disc(10, 70, 2) | disc(50, 70, 2)
    chosen = choose([frame_of(mask, truth)])
    assert 13 < chosen["min_area_px"] <= 441


def test_images_of_different_magnification_choose_a_share():
    small = np.zeros((60, 90), dtype=int)
    for number in range(9):
        small[disc(8 + 20 * (number // 3), 10 + 30 * (number % 3), 3)] = number + 1
    large = np.where(disc(30, 25, 20), 1, 0) + np.where(disc(30, 68, 20), 2, 0)
    # Debris of the large image is as large as the cells of the small one.
    debris = (large > 0) | disc(4, 46, 3) | disc(56, 46, 3)
    frames = [frame_of(small > 0, small), frame_of(debris, large)]
    chosen = choose(frames, median_area_px=29.0)
    assert (chosen["min_area_px"], chosen["min_area_share"]) == (0, 0.1)
    best = max(tried["ap_kaggle"] for tried in chosen["searched"])
    assert best > max(tried["ap_kaggle"] for tried in chosen["searched"] if tried["min_area_share"] == 0)


def test_a_share_of_the_config_is_kept():
    truth = np.where(disc(30, 25, 12), 1, 0)
    chosen = choose([frame_of(truth > 0, truth)], min_area_share=0.3)
    assert {(tried["min_area_px"], tried["min_area_share"]) for tried in chosen["searched"]} == {(0, 0.3)}
    both = choose([frame_of(truth > 0, truth)], min_area_share=0.3, min_area_px=5)
    assert (both["min_area_px"], both["min_area_share"]) == (5, 0.3)
    none = choose([frame_of(truth > 0, truth)], min_area_share=0.0)
    assert {tried["min_area_share"] for tried in none["searched"]} == {0}


def test_objects_below_a_share_of_the_median_of_their_image_are_dropped():
    labels = np.zeros((40, 40), dtype=int)
    labels[0:10, 0:10], labels[0:10, 20:30], labels[20:24, 0:5], labels[30, 30:39] = 1, 2, 3, 4  # 100, 100, 20, 9 px
    assert smallest_area(np.array([100, 100, 20, 9]), share=0.2) == 12
    assert set(np.unique(drop_small_share(labels, share=0.2))) == {0, 1, 2, 3}
    assert set(np.unique(drop_small_share(labels, share=0.4))) == {0, 1, 2}
    assert (drop_small_share(labels, share=0.0) == labels).all()
    assert not drop_small_share(np.zeros((5, 5), dtype=int), share=0.5).any()


def test_what_is_set_is_not_chosen():
    truth = np.where(disc(30, 25, 12), 1, 0)
    chosen = choose([frame_of(truth > 0, truth)], method="watershed", split_depth_px=3.0, min_area_px=7)
    assert (chosen["method"], chosen["split_depth"], chosen["min_area_px"]) == ("watershed", 3.0, 7)
    assert chosen["searched"] == []


def test_without_validation_images_the_sizes_fall_back_and_say_so():
    chosen = choose([], median_area_px=None, smallest_area_px=0)
    assert (chosen["method"], chosen["split_depth"]) == ("watershed", FALLBACK_SPLIT_DEPTH_PX)
    assert chosen["min_area_px"] == 0
    assert "no validation image contains annotated objects" in chosen["reason"]


def test_with_few_images_the_annotated_objects_set_the_sizes_and_the_images_only_the_method():
    truth = np.where(disc(30, 25, 12), 1, 0)
    truth[disc(30, 46, 12)] = 2
    chosen = choose([frame_of(truth > 0, truth)], smallest_area_px=37, is_few=True)
    assert {tried["min_area_px"] for tried in chosen["searched"]} == {37}
    assert [tried["method"] for tried in chosen["searched"]] == ["components", "watershed"]
    assert (chosen["method"], chosen["split_depth"]) == ("watershed", FALLBACK_SPLIT_DEPTH_PX)
    assert "fewer than 10 of the searched validation images" in chosen["reason"]


def test_with_few_images_a_single_validation_image_without_specks_does_not_let_specks_pass():
    truth = np.where(disc(30, 25, 12), 1, 0)
    assert choose([frame_of(truth > 0, truth)])["min_area_px"] == 0
    assert choose([frame_of(truth > 0, truth)], smallest_area_px=37, is_few=True)["min_area_px"] == 37


def test_no_minimum_area_is_tried_that_annotated_objects_are_below():
    truth = np.where(disc(30, 25, 12), 1, 0)
    chosen = choose([frame_of(truth > 0, truth)], median_area_px=500.0, smallest_area_px=60)
    assert {tried["min_area_px"] for tried in chosen["searched"]} == {0, 25, 50, 60}


def test_sizes_of_the_config_hold_with_few_images():
    truth = np.where(disc(30, 25, 12), 1, 0)
    chosen = choose([frame_of(truth > 0, truth)], smallest_area_px=37, is_few=True, min_area_px=5, split_depth_px=3.0)
    assert {tried["min_area_px"] for tried in chosen["searched"]} == {5}
    assert {tried["split_depth"] for tried in chosen["searched"]} == {None, 3.0}
    fixed = choose([], smallest_area_px=37, is_few=True, min_area_px=5, method="components")
    assert (fixed["min_area_px"], fixed["reason"]) == (5, "set in the config")


def test_only_what_is_set_is_said_to_be_set():
    """One method and objects of 1 px leave a single combination, although no area is set."""
    truth = np.where(disc(30, 25, 12), 1, 0)
    whole = {"method": "watershed", "split_depth_px": 3.0}
    assert choose([frame_of(truth > 0, truth)], **whole, min_area_px=7)["reason"] == "set in the config"
    fallback = choose([], median_area_px=None, method="components")
    assert fallback["reason"] == "not fitted, because no validation image contains annotated objects"
    tiny = choose([frame_of(truth > 0, truth)], median_area_px=1.0, method="components")
    assert (tiny["reason"], tiny["min_area_px"]) == ("best mean Kaggle AP on 1 validation image", 0)


def test_methods_are_those_that_the_network_allows():
    truth = touching_discs()
    flows = unit_flows(truth.astype(np.uint16))
    chosen = choose([frame_of(truth > 0, truth, *flows)], output="flow", split_depth_px=9.0)
    assert {tried["method"] for tried in chosen["searched"]} == {"components", "watershed", "flow"}
    assert (chosen["method"], chosen["split_depth"]) == ("flow", None)
    assert choose([], output="distance", median_area_px=None)["split_depth"] == FALLBACK_SPLIT_DEPTH
    assert choose([], output="contour", median_area_px=None, split_depth=0.4)["split_depth"] == 0.4


def test_limits_take_part_in_the_choice():
    truth = np.where(disc(30, 25, 12), 1, 0)
    mask = (truth > 0) | disc(10, 70, 8)
    assert max(tried["ap_kaggle"] for tried in choose([frame_of(mask, truth)])["searched"]) > 0.4
    best = max(tried["ap_kaggle"] for tried in choose([frame_of(mask, truth)], max_area_px=300)["searched"])
    assert best == 0  # the cell itself exceeds the limit
