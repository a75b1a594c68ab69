"""Objects as regions of equal colour: connectivity, background, transparency, and images that are not masks."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.measure import label

from cellmill.annotations.color_components import number_colours, read_color_components
from cellmill.config.annotations import Annotations

SHAPE = (6, 9)
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 1)


def section():
    return Annotations.model_validate({"format": "color_components", "path": "x.png"}).model_dump(mode="json")


def read_path(path, *, shape):
    row = {"sample": "a", "image": "a.tif", "annotations": [str(path)]}
    return read_color_components(row, shape=shape, annotations=section(), table=None)


def read(tmp_path, array):
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array))
    return read_path(path, shape=array.shape[:2])


def masks_of(instances, shape):
    masks = []
    for instance in instances:
        mask_yx = np.zeros(shape, bool)
        mask_yx[instance.box] = instance.mask_yx
        masks.append(mask_yx)
    return masks


def paint(*areas, channels=3, dtype=np.uint8):
    array = np.zeros((*SHAPE, channels), dtype)
    for box, colour in areas:
        array[box] = colour
    return array


def assert_objects(instances, *boxes):
    masks = masks_of(instances, SHAPE)
    assert len(masks) == len(boxes)
    for mask_yx, box in zip(masks, boxes, strict=True):
        expected_yx = np.zeros(SHAPE, bool)
        expected_yx[box] = True
        assert np.array_equal(mask_yx, expected_yx)


LEFT, RIGHT, FAR = np.s_[0:3, 0:2], np.s_[0:3, 2:4], np.s_[4:6, 6:9]


def test_touching_objects_differ_by_colour_and_distant_ones_may_share_it(tmp_path):
    instances = read(tmp_path, paint((LEFT, RED), (RIGHT, GREEN), (FAR, RED)))
    assert_objects(instances, LEFT, RIGHT, FAR)
    assert [instance.source for instance in instances] == ["region 1", "region 2", "region 3"]
    assert all(instance.number is None for instance in instances)


def test_regions_of_one_colour_that_meet_at_a_corner_are_one(tmp_path):
    array = paint((np.s_[0, 0], RED), (np.s_[1, 1], RED), (np.s_[2, 2], GREEN))
    assert [instance.area_px for instance in read(tmp_path, array)] == [2, 1]


def test_every_channel_counts(tmp_path):
    for i in range(3):
        colour = [9, 9, 9]
        colour[i] = 10
        assert len(read(tmp_path, paint((LEFT, (9, 9, 9)), (RIGHT, colour)))) == 2


def test_16_bit_colours_are_not_mixed_up(tmp_path):
    array = paint((LEFT, (1, 0, 0)), (RIGHT, (0, 0, 1)), (FAR, (0, 256, 0)), dtype=np.uint16)
    assert_objects(read(tmp_path, array), LEFT, RIGHT, FAR)


def test_black_alone_is_background(tmp_path):
    assert read(tmp_path, paint()) == []
    assert_objects(read(tmp_path, paint((FAR, BLUE))), FAR)


def test_a_grey_image_has_grey_values_for_colours(tmp_path):
    assert_objects(read(tmp_path, paint((LEFT, 1), (RIGHT, 255), channels=1)[:, :, 0]), LEFT, RIGHT)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.uint64])
def test_grey_values_of_any_type_are_told_apart(tmp_path, dtype):
    array = paint((LEFT, 1), (RIGHT, 2**20), (FAR, 0.5 if dtype == np.float32 else 3), channels=1, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", array[:, :, 0])
    assert_objects(read_path(tmp_path / "a.tif", shape=SHAPE), LEFT, RIGHT, FAR)


def test_a_palette_counts_as_the_colours_that_it_shows(tmp_path):
    image = Image.fromarray(paint((LEFT, 1), (RIGHT, 2), (FAR, 3), channels=1)[:, :, 0])
    image.putpalette([9, 9, 9, 255, 0, 0, 0, 0, 0, 255, 0, 0])
    image.save(tmp_path / "a.png")
    background = np.ones(SHAPE, bool)
    background[LEFT] = background[RIGHT] = background[FAR] = False
    masks = masks_of(read_path(tmp_path / "a.png", shape=SHAPE), SHAPE)
    # colour 0 of the palette is grey and colour 2 black
    assert len(masks) == 3
    assert any(np.array_equal(mask_yx, background) for mask_yx in masks)
    assert not any(mask_yx[RIGHT].any() for mask_yx in masks)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_equal_alpha_says_nothing(tmp_path, alpha):
    array = paint((LEFT, (*RED, 0)), (RIGHT, (*GREEN, 0)), channels=4)
    array[:, :, 3] = alpha
    assert_objects(read(tmp_path, array), LEFT, RIGHT)


def test_where_alpha_varies_transparent_pixels_are_background_and_others_keep_their_colour(tmp_path):
    array = paint((LEFT, (*RED, 255)), (RIGHT, (*GREEN, 0)), (FAR, (*RED, 7)), channels=4)
    assert_objects(read(tmp_path, array), LEFT, FAR)
    array[4, 7, 3] = 255
    assert_objects(read(tmp_path, array), LEFT, FAR)


def test_grey_with_alpha_is_read_as_grey(tmp_path):
    assert_objects(read(tmp_path, paint((LEFT, (1, 255)), (RIGHT, (2, 255)), channels=2)), LEFT, RIGHT)


def test_channels_that_are_no_colours_are_told_apart_together(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 2, (2, *SHAPE)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "CYX"}, photometric="minisblack", imagej=True)
    expected_yx, count = label(array[0].astype(int) + 2 * array[1].astype(int), return_num=True)
    masks = masks_of(read_path(tmp_path / "a.tif", shape=SHAPE), SHAPE)
    assert len(masks) == count
    assert all(np.unique(expected_yx[mask_yx]).size == 1 for mask_yx in masks)
    assert np.array_equal(np.any(masks, axis=0), expected_yx > 0)


def test_colours_have_one_number_each_whatever_their_type():
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 3, (20, 30, 4))
    key = (colours * [1, 3, 9, 27]).sum(axis=2)
    for dtype in (np.uint8, np.uint16, np.uint32, np.int16, np.float64):
        codes_yx = number_colours(colours.astype(dtype), axes="YXC")
        assert np.array_equal(codes_yx == 0, key == 0)
        pairs = set(zip(codes_yx.ravel().tolist(), key.ravel().tolist(), strict=True))
        assert len(pairs) == len(set(codes_yx.ravel().tolist())) == len(np.unique(key))


def test_smoothed_edges_are_refused(tmp_path):
    y, x = np.mgrid[:200, :200]
    distance = np.hypot(y - 100, x - 100)
    smooth = np.clip(90 - distance, 0, 1)[:, :, np.newaxis] * np.array([255.0, 60, 190])
    with pytest.raises(ValueError, match=r"expected areas of uniform colour, found \d+ single-pixel regions among"):
        read(tmp_path, smooth.round().astype(np.uint8))


def test_a_hundred_single_pixels_are_still_a_mask(tmp_path):
    array = np.zeros((42, 42), np.uint8)
    array[0:20:2, 0:20:2] = 1
    assert len(read(tmp_path, array)) == 100
    array[30, 30] = 1
    with pytest.raises(ValueError, match=r"found 101 single-pixel regions among 101\. Export the mask"):
        read(tmp_path, array)


def test_jpeg_is_refused(tmp_path):
    for name in ("a.jpg", "a.JPEG"):
        (tmp_path / name).write_bytes(imagecodecs.jpeg_encode(paint((LEFT, RED))))
        with pytest.raises(ValueError, match=r"sample a, .*expected an image with exact colours, found a JPEG\."):
            read_path(tmp_path / name, shape=SHAPE)


def test_another_size_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(paint()))
    with pytest.raises(
        ValueError, match=r"sample a, .*expected an annotation of 9 rows and 6 columns, .* found 6 rows"
    ):
        read_path(tmp_path / "a.png", shape=(9, 6))


def test_real_masks_have_the_components_of_their_codes(real_data):
    paths = sorted((real_data / "bbbc039" / "masks").glob("*.png"))
    assert len(paths) == 18
    for path in paths:
        mask = imagecodecs.imread(path)
        expected_yx, count = label(mask[:, :, 0], return_num=True)
        instances = read_path(path, shape=mask.shape[:2])
        assert len(instances) == count
        found_yx = np.zeros(mask.shape[:2], int)
        for number, instance in enumerate(instances, start=1):
            found_yx[instance.box][instance.mask_yx] = number
        assert np.array_equal(found_yx, expected_yx)
