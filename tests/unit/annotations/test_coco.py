"""COCO files: how they are drawn, digested, refused and written, compared with pycocotools."""

import contextlib
import io
import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cellmill.annotations.coco import CocoEntry, index_coco, read_coco, read_coco_table, write_coco
from cellmill.annotations.coco_json import sample_of
from cellmill.annotations.coco_masks import MAX_OUTLINE_PX, decode_counts, encode_counts
from cellmill.images.stored import IGNORE_LABEL

# pycocotools' own decoder raises this warning
peer_decodes = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

SHAPE = (30, 43)
SQUARE = [3, 2, 9, 2, 9, 7, 3, 7]


def write_json(folder, content, *, name="labels.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def image(key, file_name, **others):
    return {"id": key, "file_name": file_name, **others}


def outlined(key, image_id, *parts, **others):
    return {"id": key, "image_id": image_id, "segmentation": [list(part) for part in parts], **others}


def one_image(*annotations, **size):
    return {"images": [image(1, "a.png", **size)], "annotations": list(annotations)}


def drawn(segmentation, *, shape=SHAPE, **others):
    table = {"a": CocoEntry(None, [(0, {"id": 5, "segmentation": segmentation, **others})])}
    (instance,) = read_coco({"sample": "a"}, shape=shape, annotations={"table": "labels.json"}, table=table)
    return instance


def placed(instance, *, shape=SHAPE):
    mask_yx = np.zeros(shape, dtype=bool)
    mask_yx[instance.box] = instance.mask_yx
    return mask_yx


def by_pycocotools(parts, *, shape=SHAPE):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *shape))).astype(bool)


def load_quietly(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


# Drawing


def test_an_outline_on_whole_pixels_is_their_rectangle():
    expected_yx = np.zeros(SHAPE, dtype=bool)
    expected_yx[2:7, 3:9] = True
    instance = drawn([SQUARE])
    assert np.array_equal(placed(instance), expected_yx)
    assert (instance.source, instance.broken, instance.is_ignored) == ("annotation 5", "", False)
    assert instance.mask_yx.shape == (5, 6)


@peer_decodes
def test_random_outlines_are_drawn_as_pycocotools_draws_them_on_the_whole_image():
    rng = np.random.default_rng(3)
    for _ in range(300):
        # 0 to 3 decimals: pycocotools rounds to fifths of a pixel, so that many coordinates are exact ties
        parts = [
            np.round(rng.uniform(-15, 55, 2 * rng.integers(3, 9)), rng.integers(0, 4)).tolist()
            for _ in range(rng.integers(1, 4))
        ]
        assert np.array_equal(placed(drawn(parts)), by_pycocotools(parts)), parts


def test_parts_are_one_object():
    other = [20, 10, 25, 10, 25, 15, 20, 15]
    both_yx = placed(drawn([SQUARE, other]))
    assert np.array_equal(both_yx, placed(drawn([SQUARE])) | placed(drawn([other])))


def test_counts_run_down_the_columns_from_the_background():
    mask_yx = placed(drawn({"size": [2, 3], "counts": [1, 2, 3]}, shape=(2, 3)), shape=(2, 3))
    assert np.argwhere(mask_yx).tolist() == [[0, 1], [1, 0]]


def test_a_mask_with_the_first_pixel_has_no_background_before_it():
    mask_yx = placed(drawn({"size": [2, 3], "counts": [0, 1, 5]}, shape=(2, 3)), shape=(2, 3))
    assert np.argwhere(mask_yx).tolist() == [[0, 0]]


def test_runs_without_a_pixel_do_not_widen_the_box():
    instance = drawn({"size": [2, 3], "counts": [0, 0, 4, 1, 1, 0]}, shape=(2, 3))
    assert (instance.row, instance.column, instance.mask_yx.tolist()) == (0, 2, [[True]])


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.9, 1.1])
def test_both_kinds_of_counts_are_read_as_pycocotools_reads_them(threshold):
    mask_yx = np.random.default_rng(1).random(SHAPE) > threshold
    runs = coco_mask.encode(np.asfortranarray(mask_yx.astype(np.uint8)))
    text = runs["counts"].decode()
    size = list(SHAPE)
    assert np.array_equal(placed(drawn({"size": size, "counts": text})), mask_yx)
    counts = decode_counts(text, where="test")
    assert np.array_equal(placed(drawn({"size": size, "counts": counts.tolist()})), mask_yx)
    assert encode_counts(counts) == text
    assert coco_mask.frPyObjects({"size": size, "counts": counts.tolist()}, *SHAPE)["counts"].decode() == text


def test_a_crowd_is_an_ignored_region():
    assert drawn([SQUARE], iscrowd=1).is_ignored
    assert not drawn([SQUARE], iscrowd=0).is_ignored


@pytest.mark.parametrize(
    ("parts", "broken", "pixels"),
    [
        ([[3, 2, 9, 7]], "outline of 2 points", 0),
        ([[3, 2]], "outline of 1 point", 0),
        ([[]], "outline of 0 points", 0),
        ([[3, 2, 9, 7], SQUARE], "outline of 2 points", 30),
        ([[3, 2, 9, 8, 6, 5]], "outline without area", 0),
        ([[3, 2, 3, 2, 3, 2]], "outline without area", 0),
        ([[-5, 2, 9, 2, 9, 7, -5, 7]], "outline extends beyond the image", 45),
        ([[-0.5, 2, 9, 2, 9, 7, -0.5, 7]], "", 45),
        ([[38, 2, 44, 2, 44, 7, 38, 7]], "", 25),
        ([[38, 2, 44.5, 2, 44.5, 7, 38, 7]], "outline extends beyond the image", 25),
        ([[53, 2, 59, 2, 59, 7, 53, 7]], "outline lies outside the image", 0),
        ([[3, -9, 9, -9, 9, -2]], "outline lies outside the image", 0),
        ([[1e300, 2, 1e301, 2, 1e300, 7]], "outline lies outside the image", 0),
    ],
)
def test_a_broken_outline_is_a_lesser_object_that_says_so(parts, broken, pixels):
    instance = drawn(parts)
    assert (instance.broken, instance.area_px) == (broken, pixels)


def test_memory_grows_with_the_object_and_not_with_the_image():
    shape = (20_000, 20_000)
    tracemalloc.start()
    instance = drawn([[10_000 + x for x in SQUARE]], shape=shape)
    runs = coco_mask.frPyObjects([[10_000 + x for x in SQUARE]], *shape)[0]
    again = drawn({"size": list(shape), "counts": runs["counts"].decode()}, shape=shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (instance.row, instance.column, instance.area_px) == (10_002, 10_003, 30)
    assert (again.row, again.column, again.area_px) == (10_002, 10_003, 30)
    assert peak < 1e6


# Refused files


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, r"expected a segmentation \(outlines or runs\), found none\. Annotate the outline"),
        ([], r"expected a segmentation \(outlines or runs\), found none\."),
        ("abc", r"expected a segmentation .* found \"abc\"\."),
        (SQUARE, r"expected outlines as lists of finite numbers \[x, y, x, y, \.\.\.\], found 3\. Export"),
        ([SQUARE, [1, 2, float("nan"), 4, 5, 6]], r"expected outlines as lists of finite numbers .* NaN"),
        ([[1, 2, float("inf"), 4, 5, 6]], "expected outlines as lists of finite numbers .* Infinity"),
        ([[1, 2, "3", 4, 5, 6]], 'expected outlines as lists of finite numbers .* "3"'),
        ([[1, 2, None, 4, 5, 6]], "expected outlines as lists of finite numbers .* null"),
        ([[1, 2, True, 4, 5, 6]], "expected outlines as lists of finite numbers .* true"),
        ([[1, 2, 3, 4, 5, 6, 7]], r"expected an x and a y for every point, found 7 numbers\. The outline is truncated"),
        (
            [[1, 2], [3, 4], [9, 1]],
            r"expected outlines as lists of numbers .*, found 3 points of two numbers\. Write all numbers of an outline in one list",
        ),
        ([[1, 2, 5e6, 4, 5, 6]], rf"expected an outline of at most {MAX_OUTLINE_PX} px, found 1e\+07 px\. Correct"),
        ([[1, 2, 1e308, -1e308, 5, 6]], "expected an outline of at most .* found inf px"),
        ({}, r"expected runs of size \[30, 43\], the rows and columns of the image, found null\. Pair every image"),
        ({"size": [43, 30], "counts": [1290]}, r"expected runs of size \[30, 43\], .* found \[43\.0, 30\.0\]"),
        ({"size": "30x43", "counts": [1290]}, r"expected runs of size \[30, 43\], .* found \"30x43\""),
        ({"size": [30, 43]}, r"expected counts as a list of numbers or as compressed text, found null\. Export"),
        ({"size": [30, 43], "counts": [1, "2"]}, r"expected counts as a list .* found \[1, \"2\"\]"),
        ({"size": [30, 43], "counts": [5, -3, 1288]}, "expected counts from 0 to 1290, .* found -3. Export the file"),
        ({"size": [30, 43], "counts": [5, 0.5, 1284.5]}, "expected counts from 0 to 1290, .* found 0.5"),
        ({"size": [30, 43], "counts": [5, 1e30]}, r"expected counts from 0 to 1290, .* found 1e\+30"),
        ({"size": [30, 43], "counts": [5, 6]}, r"expected counts that sum to the 1290 pixels .* found a sum of 11\."),
        ({"size": [30, 43], "counts": []}, "expected counts that sum to the 1290 pixels .* found a sum of 0"),
        ({"size": [30, 43], "counts": ""}, "expected counts that sum to the 1290 pixels .* found a sum of 0"),
        ({"size": [30, 43], "counts": "4~"}, r"expected compressed runs of the characters '0' to 'o', found '~' at"),
        (
            {"size": [30, 43], "counts": "4é"},
            "expected compressed runs of the characters '0' to 'o', found 'é' at character 2",
        ),
        (
            {"size": [30, 43], "counts": "4P"},
            "expected compressed runs that end with a complete number, .* inside a number after 2 characters. Export the file",
        ),
        (
            {"size": [30, 43], "counts": "PPPPPPPPPP1"},
            "expected numbers of at most 7 characters .* found a number of 11 characters",
        ),
        ({"size": [30, 43], "counts": "5O"}, "expected counts from 0 to 1290, .* found -1"),
    ],
)
def test_a_bad_segmentation_is_refused_with_its_place(segmentation, message):
    with pytest.raises(ValueError, match=r"^sample a, labels\.json, annotation 5: " + message):
        drawn(segmentation)


def test_a_crowd_is_said_with_0_or_1():
    with pytest.raises(ValueError, match=r"annotation 5: expected iscrowd 0 or 1, found \"no\"\. Correct the file"):
        drawn([SQUARE], iscrowd="no")


def test_every_bad_annotation_has_its_line():
    table = {"a": CocoEntry(None, [(7, {"segmentation": [[1, 2, 3]]}), (8, {"id": 2, "segmentation": None})])}
    with pytest.raises(ValueError, match=r"annotation at position 8: .*\n.*annotation 2: expected a segmentation"):
        read_coco({"sample": "a"}, shape=SHAPE, annotations={"table": "labels.json"}, table=table)


def test_an_image_of_another_size_is_refused():
    table = {"a": CocoEntry((43, 30), [])}
    with pytest.raises(ValueError, match=r"expected 30 rows and 43 columns, .* found height 43 and width 30"):
        read_coco({"sample": "a"}, shape=SHAPE, annotations={"table": "labels.json"}, table=table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"expected JSON, found something else \(parse error: premature EOF\)\. Export the file again: it is truncated"),
        ("id,annotation\n", r"expected JSON, found something else \(lexical error"),
        ('{"images": [', r"expected JSON, found something else \(parse error: premature EOF\)"),
        ('{"images": [], "annotations": [{"segmentation": [[NaN]]}]}', r"expected JSON, .* contains NaN or Infinity"),
        ("[]", "expected a JSON object with the lists images and annotations, found a list. Export the annotations"),
        ("7", "expected a JSON object with the lists images and annotations, found 7"),
        ("{}", r"found no list images.* \(keys: none\)"),
        ({"images": [], "shapes": []}, r"found no list annotations \(keys: images, shapes\)\. Export the annotations as COCO"),
        ({"images": {}, "annotations": []}, r"found no list images \(keys: images, annotations\)"),
        ({"images": [3], "annotations": []}, "expected images with an id and a file_name, found 3. Add them"),
        ({"images": [{"id": 3}], "annotations": []}, r"expected images with an id and a file_name, found \{\"id\": 3\}"),
        ({"images": [image([], "a")], "annotations": []}, "expected images with an id and a file_name"),
        (one_image({"id": 3}), r"expected annotations with an image_id, found \{\"id\": 3\}\. Export"),
        (
            {"images": [image(1, "a.png"), image(1, "b.png")], "annotations": []},
            "expected a unique id for every image, found 1 for a and b. Renumber the images",
        ),
        (
            one_image(outlined(1, 1, SQUARE), outlined(2, 7, SQUARE), outlined(3, 7, SQUARE)),
            "annotations of the 1 images listed in the file, found 2 of unlisted images, such as image_id 7",
        ),
        ('{"images": [' + "[" * 5000, "expected COCO entries, found lists nested 50 levels deep"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_coco_is_refused(tmp_path, content, message):
    path = write_json(tmp_path, content)
    with pytest.raises(ValueError, match=rf"^annotations\.table: {path}: .*{message}"):
        index_coco(path, where="annotations.table")
    with pytest.raises(ValueError, match=rf"^{path}: .*{message}"):
        read_coco_table({"table": str(path)}, samples=["a"])


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected a JSON file, found: No such file or directory\. Check the path"):
        read_coco_table({"table": str(tmp_path / "none.json")}, samples=["a"])


def test_two_images_of_one_wanted_sample_are_refused(tmp_path):
    images = [image(1, "left/a.png"), image(2, "right/a.png"), image(3, "b.png")]
    path = write_json(tmp_path, {"images": images, "annotations": []})
    with pytest.raises(ValueError, match=r"one image for sample a, found left/a\.png and right/a\.png\. Rename one"):
        read_coco_table({"table": str(path)}, samples=["a"])
    assert list(read_coco_table({"table": str(path)}, samples=["b"])) == ["b"]


def test_a_size_that_is_none_is_refused(tmp_path):
    path = write_json(tmp_path, one_image(height="30", width=43))
    with pytest.raises(ValueError, match=r"image a\.png: expected height and width in pixels, found \"30\" and 43"):
        read_coco_table({"table": str(path)}, samples=["a"])


# Contents and digests


@pytest.mark.parametrize("first", ["images", "annotations"])
def test_the_order_of_the_lists_does_not_matter(tmp_path, first):
    content = {
        "images": [image(1, "x/a.png", height=30, width=43), image(2, "b.png"), image(3, "c.png")],
        "annotations": [outlined(4, 2, SQUARE), outlined(5, 1, SQUARE), outlined(6, 1, SQUARE, iscrowd=1)],
    }
    content = dict(sorted(content.items(), key=lambda item: item[0] != first))
    table = read_coco_table({"table": str(write_json(tmp_path, content))}, samples=["a", "c", "z"])
    assert sorted(table) == ["a", "c"]
    assert table["a"].size == (30, 43)
    assert [(place, annotation["id"]) for place, annotation in table["a"].annotations] == [(1, 5), (2, 6)]
    assert table["c"] == CocoEntry(None, [])


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(one_image()), encoding="utf-8-sig")
    assert list(read_coco_table({"table": str(path)}, samples=["a"])) == ["a"]


@pytest.mark.parametrize(
    ("file_name", "sample"),
    [
        ("a.png", "a"),
        ("train/x y/a.tif", "a"),
        ("train\\a.JPEG", "a"),
        ("a.ome.tiff", "a"),
        ("a.b.png", "a.b"),
        ("well_0.5", "well_0.5"),
        ("a", "a"),
        (".png", ".png"),
    ],
)
def test_a_sample_is_the_name_of_the_file_without_folder_and_suffix(file_name, sample):
    assert sample_of(file_name) == sample


def digest_of(folder, content):
    return index_coco(write_json(folder, content), where="test")[0]["a"]


def test_the_digest_does_not_change_with_what_is_not_drawn(tmp_path):
    plain = one_image(outlined(1, 1, SQUARE), height=30, width=43)
    digest = digest_of(tmp_path, plain)
    same = outlined(9, 77, [float(number) for number in SQUARE], iscrowd=0, category_id=4, bbox=[1, 2, 3, 4], area=3.5)
    other = {"images": [image(77, "d/a.tif", height=30.0, width=43, license=2)], "annotations": [same], "info": {}}
    assert digest_of(tmp_path, other) == digest
    more = {
        "images": [*plain["images"], image(2, "b.png")],
        "annotations": [*plain["annotations"], outlined(3, 2, SQUARE)],
    }
    assert digest_of(tmp_path, more) == digest


@pytest.mark.parametrize(
    "content",
    [
        one_image(outlined(1, 1, SQUARE), outlined(2, 1, SQUARE)),
        one_image(outlined(1, 1, [3.25, *SQUARE[1:]])),
        one_image(outlined(1, 1, SQUARE[:4], SQUARE[4:])),
        one_image(outlined(1, 1, SQUARE, iscrowd=1)),
        one_image(outlined(1, 1, [str(number) for number in SQUARE])),
        one_image({"id": 1, "image_id": 1, "segmentation": {"size": [2, 3], "counts": [6]}}),
        one_image({"id": 1, "image_id": 1, "segmentation": {"size": [2, 3], "counts": "6"}}),
        one_image({"id": 1, "image_id": 1}),
        one_image(outlined(1, 1, SQUARE), height=30, width=43),
        one_image(outlined(1, 1, SQUARE), height=43, width=30),
        one_image(),
    ],
)
def test_the_digest_changes_with_what_is_drawn(tmp_path, content):
    assert digest_of(tmp_path, content) != digest_of(tmp_path, one_image(outlined(1, 1, SQUARE)))


def test_the_digest_changes_with_the_order_of_objects(tmp_path):
    small = [1, 1, 4, 1, 4, 4]
    one_way = digest_of(tmp_path, one_image(outlined(1, 1, SQUARE), outlined(2, 1, small)))
    assert one_way != digest_of(tmp_path, one_image(outlined(1, 1, small), outlined(2, 1, SQUARE)))


def test_values_are_the_texts_of_images_and_their_categories(tmp_path):
    content = {
        "annotations": [
            outlined(1, 1, SQUARE, category_id=2), outlined(2, 1, SQUARE, category_id=1),
            outlined(3, 1, SQUARE, category_id=2), outlined(4, 2, SQUARE, category_id=9),
        ],
        "images": [
            image(1, "d/a.png", well="B 7", day=5.0, ratio=0.5, flags=[1], isgood=True, note=None),
            image(2, "b.png", day=6), image(3, "c.png"),
        ],
        "categories": [{"id": 1, "name": "round"}, {"id": 2, "name": "long"}],
    }  # fmt: skip
    digests, values, columns = index_coco(write_json(tmp_path, content), where="test")
    assert list(digests) == ["a", "b", "c"]
    assert columns == ["id", "file_name", "well", "day", "ratio", "isgood", "note", "category"]
    assert values == {
        "id": {"a": "1", "b": "2", "c": "3"},
        "file_name": {"a": "d/a.png", "b": "b.png", "c": "c.png"},
        "well": {"a": "B 7"},
        "day": {"a": "5", "b": "6"},
        "ratio": {"a": "0.5"},
        "isgood": {"a": "true"},
        "note": {"a": ""},
        "category": {"a": "long+round", "b": "9", "c": ""},
    }


def test_the_images_own_category_is_not_overwritten(tmp_path):
    content = {"images": [image(1, "a.png", category="wild type")], "annotations": [outlined(1, 1, SQUARE)]}
    assert index_coco(write_json(tmp_path, content), where="test")[1]["category"] == {"a": "wild type"}


def test_memory_is_flat_in_the_size_of_the_file(tmp_path):
    def peak(annotations):
        entries = [outlined(key, 1, np.arange(400.0) + key) for key in range(annotations)]
        path = write_json(tmp_path, one_image(*entries))
        del entries
        tracemalloc.start()
        index_coco(path, where="test")
        read_coco_table({"table": str(path)}, samples=["b"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(10)
    assert peak(1000) < peak(100) + 200_000


# Writing


def random_labels(seed, *, ignored):
    rng = np.random.default_rng(seed)
    labels_yx = np.zeros(SHAPE, dtype=np.uint32)
    for number in (3, 4, 70_000, 9):
        row, column = rng.integers(0, 25), rng.integers(0, 38)
        labels_yx[row : row + 9, column : column + 7] = number
    labels_yx[rng.random(SHAPE) < 0.1] = 0
    if ignored:
        labels_yx[20:, :4] = IGNORE_LABEL
    labels_yx.flags.writeable = False
    return labels_yx


@peer_decodes
def test_labels_written_are_read_back_exactly(tmp_path):
    path = tmp_path / "out" / "labels.json"
    images = {
        "a.tif": random_labels(1, ignored=False),
        "b.tif": random_labels(2, ignored=True),
        "empty.tif": np.zeros((5, 8), np.uint16),
        "full.tif": np.full((5, 8), 2, np.uint16),
    }
    write_coco(path, images=iter(images.items()))
    table = read_coco_table({"table": str(path)}, samples=["a", "b", "empty", "full"])
    peer = load_quietly(path)
    for key, (file_name, labels_yx) in enumerate(images.items(), start=1):
        sample = sample_of(file_name)
        assert table[sample].size == labels_yx.shape
        numbers = [number for number in np.unique(labels_yx) if number != 0]
        instances = read_coco({"sample": sample}, shape=labels_yx.shape, annotations={"table": str(path)}, table=table)
        theirs = peer.loadAnns(peer.getAnnIds(imgIds=[key]))
        assert peer.imgs[key]["file_name"] == file_name
        for number, instance, annotation in zip(numbers, instances, theirs, strict=True):
            mask_yx = labels_yx == number
            assert np.array_equal(placed(instance, shape=labels_yx.shape), mask_yx)
            assert np.array_equal(peer.annToMask(annotation), mask_yx)
            assert instance.is_ignored == (number == IGNORE_LABEL) == bool(annotation["iscrowd"])
            assert annotation["area"] == mask_yx.sum() == coco_mask.area(annotation["segmentation"])
            assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
            assert annotation["category_id"] == 1
    assert peer.loadCats([1]) == [{"id": 1, "name": "cell"}]


def test_a_file_without_images_is_still_coco(tmp_path):
    write_coco(tmp_path / "labels.json", images=[])
    assert index_coco(tmp_path / "labels.json", where="test") == ({}, {"category": {}}, ["category"])


def test_a_failed_write_leaves_no_file(tmp_path):
    def broken():
        yield "a.tif", np.ones((3, 3), np.uint8)
        raise RuntimeError("cannot be read")

    with pytest.raises(RuntimeError, match="cannot be read"):
        write_coco(tmp_path / "labels.json", images=broken())
    assert list(tmp_path.iterdir()) == []


# Real data


@peer_decodes
def test_livecell_is_drawn_as_pycocotools_draws_it(real_data):
    path = real_data / "livecell" / "livecell_coco_test.json"
    digests, values, _ = index_coco(path, where="test")
    assert len(digests) == 15
    assert set(values["category"].values()) == {"cell"}
    table = read_coco_table({"table": str(path)}, samples=list(digests))
    assert sum(len(entry.annotations) for entry in table.values()) == 3285
    peer = load_quietly(path)
    sparse = sorted(peer.imgs.values(), key=lambda one: len(peer.getAnnIds(imgIds=[one["id"]])))[:3]
    for one in sparse:
        row = {"sample": sample_of(one["file_name"])}
        instances = read_coco(row, shape=(520, 704), annotations={"table": str(path)}, table=table)
        theirs = peer.loadAnns(peer.getAnnIds(imgIds=[one["id"]]))
        for instance, annotation in zip(instances, theirs, strict=True):
            assert instance.source == f"annotation {annotation['id']}"
            assert np.array_equal(placed(instance, shape=(520, 704)), peer.annToMask(annotation))
