"""Object counts of an image, and detection of runs that were decoded in the wrong order."""

import csv
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from scipy.ndimage import label

from cellmill.annotations.instance import Instance, crop_instance
from cellmill.annotations.rle import decode_crop, encode_crop
from cellmill.checks.plausibility import (
    TwoReadings,
    compare_readings,
    count_shared,
    explain_order,
    fits_image_better,
    has_holes,
    has_streaks,
    measure_contrast,
    measure_objects,
)

SHAPE = (40, 61)


def disc(row, column, radius, *, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def crops(*masks):
    return [crop_instance(mask_yx, source="s") for mask_yx in masks]


def read_otherwise(instance, *, shape, order):
    """Encode an object in the other order and decode it in this one."""
    other = {"row": "column", "column": "row"}[order]
    text = encode_crop(instance.mask_yx, order=other, row=instance.row, column=instance.column, shape=shape)
    return Instance(*decode_crop(text, shape=shape, order=order, where=""), instance.source)


# ---- objects -----------------------------------------------------------------------------------------------


def test_overlaps_are_those_of_the_stacked_masks():
    rng = np.random.default_rng(4)
    for _ in range(20):
        masks = [disc(rng.uniform(0, 40), rng.uniform(0, 61), rng.uniform(1, 9)) for _ in range(12)]
        depth_yx = np.sum(masks, axis=0)
        expected = sum((mask & (depth_yx > 1)).any() for mask in masks), int((depth_yx > 1).sum())
        assert count_shared(crops(*masks))[:2] == expected


def test_objects_are_described():
    ring = disc(12, 12, 6) & ~disc(12, 12, 2)
    pair = disc(30, 30, 3) | disc(30, 45, 2)
    corner = disc(0, 60, 4)
    instances = crops(ring, pair, corner, np.zeros(SHAPE, bool))
    instances.append(Instance(20, 5, np.ones((3, 4), bool), "s", is_ignored=True))
    instances.append(Instance(36, 3, np.ones((2, 2), bool), "s", broken="outline extends beyond the image"))
    areas = sorted([int(ring.sum()), int(pair.sum()), int(corner.sum()), 4])
    found = measure_objects(instances, shape=SHAPE)
    assert found["areas_px"] == areas
    assert {k: found[k] for k in ("min_area_px", "median_area_px", "max_area_px")} == {
        "min_area_px": 4, "median_area_px": float(np.median(areas)), "max_area_px": areas[-1],
    }  # fmt: skip
    counts = {"objects": 4, "touching_border": 1, "overlapping": 0, "contested_px": 0, "with_holes": 1, "in_parts": 1,
              "empty": 1, "broken": 1, "ignored_px": 12}  # fmt: skip
    assert {key: found[key] for key in counts} == counts
    assert found["covered_fraction"] == pytest.approx(sum(areas) / (40 * 61))


def test_an_image_without_objects_has_no_areas():
    found = measure_objects([], shape=SHAPE)
    assert (found["objects"], found["median_area_px"], found["areas_px"]) == (0, None, [])


def test_a_notch_is_no_hole_and_a_corner_of_background_none_either():
    notched = np.ones((5, 5), bool)
    notched[0, 2] = notched[1, 2] = False
    assert not has_holes(notched)
    notched[0, 2] = True
    assert has_holes(notched)


# ---- order of runs -----------------------------------------------------------------------------------------


def test_contrast_is_the_difference_of_means_in_standard_deviations():
    rng = np.random.default_rng(0)
    inside_yx = disc(20, 30, 9)
    image_yx = rng.normal(100, 5, SHAPE) + 20 * inside_yx
    assert measure_contrast(image_yx, *crops(inside_yx)) == pytest.approx(4, rel=0.15)
    assert measure_contrast(np.full(SHAPE, 3), *crops(inside_yx)) == 0
    assert measure_contrast(image_yx, *crops(np.ones(SHAPE, bool))) == 0


def field(shape, *, seed=0, count=40):
    rng = np.random.default_rng(seed)
    masks = [disc(*rng.uniform(6, np.array(shape) - 6), rng.uniform(3, 5), shape=shape) for _ in range(count)]
    return np.any(masks, axis=0) * 50.0 + rng.normal(100, 5, shape), crops(*masks)


@pytest.mark.parametrize("order", ["row", "column"])
def test_a_square_image_shows_that_every_mask_is_transposed(order):
    image_yx, instances = field((160, 160))
    right = compare_readings(instances, shape=(160, 160), order=order, image_yx=image_yx)
    flipped = [read_otherwise(one, shape=(160, 160), order=order) for one in instances]
    wrong = compare_readings(flipped, shape=(160, 160), order=order, image_yx=image_yx)
    assert not has_streaks(wrong)
    assert not fits_image_better([right])
    assert fits_image_better([wrong])
    other = {"row": "column", "column": "row"}[order]
    section = {"table": "t.csv", "order": order}
    [text] = explain_order({"a": wrong}, annotations=section)
    assert text == (
        "t.csv: expected objects that stand out from their surroundings, found this in 1 image (a) only "
        f"when runs are counted by {other}. Set annotations.order to {other}."
    )
    assert explain_order({"a": right}, annotations=section) == []


def test_masks_that_fit_nothing_are_not_taken_for_the_wrong_order():
    _, instances = field((160, 160))
    for seed in range(5):
        image_yx = np.random.default_rng(seed).normal(100, 5, (160, 160))
        assert not fits_image_better([compare_readings(instances, shape=(160, 160), order="row", image_yx=image_yx)])


def test_few_objects_say_nothing_about_the_order():
    clear = np.array([[0.1] * 19, [5.0] * 19])
    assert not fits_image_better([TwoReadings(clear, clear, clear)])
    assert fits_image_better([TwoReadings(clear, clear, clear)] * 2)
    assert not fits_image_better([])


def test_torn_objects_give_the_order_away_where_they_stay_compact():
    parts = np.array([[9.0] * 5, [1.0] * 5])
    assert has_streaks(TwoReadings(np.array([[0.3] * 5, [0.8] * 5]), parts, np.zeros((2, 0))))
    assert not has_streaks(TwoReadings(np.array([[0.3] * 5, [0.4] * 5]), parts, np.zeros((2, 0))))


def read_table(path, *, columns, order, images):
    rows = {}
    with path.open() as stream:
        for row in csv.DictReader(stream):
            rows.setdefault(row[columns[0]], []).append(row[columns[1]])
    for sample, image_path in images.items():
        image = imagecodecs.imread(image_path)
        image_yx = image if image.ndim == 2 else image[:, :, :3].mean(axis=2)
        shape = image_yx.shape
        yield image_yx, [Instance(*decode_crop(t, shape=shape, order=order, where=""), "") for t in rows[sample]]


def cut_square(image_yx, instances):
    side = min(image_yx.shape)
    inside = [one for one in instances if one.box[0].stop <= side and one.box[1].stop <= side]
    return image_yx[:side, :side], inside


def sources(data: Path):
    """Yield real images with objects, each kind with its correct order."""
    images = {path.parts[-3]: path for path in sorted(data.glob("dsb2018/stage1_test/*/images/*.png"))}
    solution = data / "dsb2018/stage1_solution.csv"
    yield "column", list(read_table(solution, columns=("ImageId", "EncodedPixels"), order="column", images=images))
    folder = data / "sartorius_cell_instance"
    images = {path.stem: path for path in sorted(folder.glob("train/*.png"))}
    yield "row", list(read_table(folder / "train.csv", columns=("id", "annotation"), order="row", images=images))
    sections = sorted(data.glob("isbi2012_em/data/membrane/train/label/*.png"))[:6]
    regions = [label(imagecodecs.imread(path) > 0)[0] for path in sections]
    pictures = [imagecodecs.imread(path.parents[1] / "image" / path.name) for path in sections]
    yield "row", [(image_yx, crops(*(labels_yx == i for i in range(1, labels_yx.max() + 1))))
                  for image_yx, labels_yx in zip(pictures, regions, strict=True)]  # fmt: skip


@pytest.mark.parametrize("is_square", [False, True])
def test_real_tables_are_found_out_in_the_wrong_order_and_never_in_the_right_one(real_data, is_square):
    for order, pairs in sources(real_data):
        right, wrong = {}, {}
        for number, pair in enumerate(pairs):
            image_yx, instances = cut_square(*pair) if is_square else pair
            shape = image_yx.shape
            flipped = [read_otherwise(one, shape=shape, order=order) for one in instances if one.area_px]
            right[str(number)] = compare_readings(instances, shape=shape, order=order, image_yx=image_yx)
            wrong[str(number)] = compare_readings(flipped, shape=shape, order=order, image_yx=image_yx)
        section = {"table": "t.csv", "order": order}
        assert explain_order(right, annotations=section) == []
        assert len(explain_order(wrong, annotations=section)) == 1
        assert fits_image_better(list(wrong.values()))
