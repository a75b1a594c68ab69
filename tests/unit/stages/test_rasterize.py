"""Stage rasterize: every format, repair per object, overlaps accounted for, errors all at once."""

import csv
import tracemalloc

import imagecodecs
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as scipy_label
from skimage.draw import line, polygon

from cellmill.annotations.drawing import Drawing, choose_numbers
from cellmill.annotations.instance import Instance, crop_instance
from cellmill.annotations.pieces import join_regions
from cellmill.annotations.repair import repair_instances, repair_mask
from cellmill.config.annotations import Annotations
from cellmill.images.stored import IGNORE_LABEL, read_labels
from cellmill.shards import read_manifest
from cellmill.stages.rasterize import rasterize_shard
from whole_images import encode_rle

SHAPE = (30, 43)


def disc(row, column, radius, *, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def resolve_overlaps(instances, *, numbers, shape, max_pixels=2**24):
    drawing = Drawing(shape, instances, numbers)
    labels_yx = np.concatenate(list(drawing.bands(max_pixels)))
    return labels_yx, drawing.contested()


def instances_of(*masks):
    return [crop_instance(mask_yx, source=f"{i}") for i, mask_yx in enumerate(masks)]


def sample_row(folder, sample, *, annotations=(), shape=SHAPE):
    path = folder / f"{sample}.tif"
    tifffile.imwrite(path, np.zeros(shape, np.uint8))
    return {"sample": sample, "image": str(path), "annotations": [str(path) for path in annotations]}


def write_png(path, array):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(array))
    return path


def write_table(path, rows, *, header=("id", "annotation", "width", "height"), encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def rle_rows(sample, *masks, order="row"):
    return [(sample, encode_rle(mask_yx, order=order), mask_yx.shape[1], mask_yx.shape[0]) for mask_yx in masks]


def rasterize(folder, rows, *, missing="error", **section):
    annotations = Annotations.model_validate(section).model_dump(mode="json")
    rasterize_shard(output_dir=folder, samples=rows, annotations=annotations, missing=missing)
    return {row["sample"]: read_labels(folder / f"{row['sample']}.tif") for row in rows}


def read_rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# overlaps


def test_contested_pixels_go_to_the_smaller_object_and_are_counted():
    large, small = disc(14, 14, 10), disc(14, 24, 6)
    labels_yx, contested = resolve_overlaps(instances_of(large, small), numbers=[1, 2], shape=SHAPE)
    assert np.array_equal(labels_yx == 2, small)
    assert np.array_equal(labels_yx == 1, large & ~small)
    assert contested == [(2, 1, np.count_nonzero(large & small))]


def test_no_pixel_is_lost_without_being_listed():
    rng = np.random.default_rng(0)
    masks = [disc(rng.uniform(0, 30), rng.uniform(0, 43), rng.uniform(2, 9)) for _ in range(25)]
    labels_yx, contested = resolve_overlaps(instances_of(*masks), numbers=list(range(1, 26)), shape=SHAPE)
    assert np.array_equal(labels_yx > 0, np.any(masks, axis=0))
    assert sum(mask_yx.sum() for mask_yx in masks) - sum(n for *_, n in contested) == (labels_yx > 0).sum()


def test_of_two_equal_objects_the_first_stays_and_the_other_is_reported(tmp_path):
    mask_yx = disc(10, 10, 5)
    table = write_table(tmp_path / "t.csv", rle_rows("a", mask_yx, mask_yx))
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order="row", table=str(table))
    assert np.array_equal(labels["a"], mask_yx.astype(int))
    area = str(mask_yx.sum())
    assert read_rows(tmp_path / "out" / "faults.csv") == [
        {
            "sample": "a",
            "object": "2",
            "fault": "hidden",
            "detail": "every pixel belongs to smaller objects",
            "pixels": area,
        }
    ]
    assert read_rows(tmp_path / "out" / "overlaps.csv") == [
        {"sample": "a", "object": "1", "other": "2", "pixels": area}
    ]


def test_areas_are_those_of_the_annotations_before_overlaps_are_resolved():
    masks = [disc(14, 14, 10), disc(14, 24, 6)]
    assert [instance.area_px for instance in instances_of(*masks)] == [mask_yx.sum() for mask_yx in masks]


# repair


def test_a_ring_does_not_swallow_the_cell_inside_it(tmp_path):
    ring, inner = disc(14, 20, 12) & ~disc(14, 20, 8), disc(14, 20, 5)
    table = write_table(tmp_path / "t.csv", rle_rows("a", ring, inner))
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order="row", table=str(table))
    assert np.array_equal(labels["a"] == 2, inner)
    assert np.array_equal(labels["a"] == 1, disc(14, 20, 12) & ~inner)


@pytest.mark.parametrize("repair", ["none", "fill", "fill_close"])
def test_convex_masks_need_no_repair(repair):
    square = np.zeros(SHAPE, dtype=bool)
    square[0:6, 38:43] = True
    for mask_yx in (disc(14, 20, 1), disc(14, 20, 9), disc(0, 0, 7), square, np.ones(SHAPE, dtype=bool)):
        assert np.array_equal(repair_mask(mask_yx, repair=repair), mask_yx)


def outline(ys, xs, *, shape):
    mask_yx = np.zeros(shape, dtype=bool)
    for i in range(len(ys)):
        mask_yx[line(ys[i - 1], xs[i - 1], ys[i], xs[i])] = True
    return mask_yx


def filled_as_if_convex(ys, xs, *, shape):
    """Draw an outline and what a scan-line fill for convex polygons leaves inside a concave one.

    The fill walks down from the top vertex along both sides at once and skips every edge that turns up again.
    """
    mask_yx = outline(ys, xs, shape=shape)
    top, n = int(np.argmin(ys)), len(ys)
    sides = []
    for step in (1, -1):
        x_at, y = {}, ys[top]
        for k in range(n):
            i, j = (top + step * k) % n, (top + step * (k + 1)) % n
            if ys[j] > y:
                for row in range(y, ys[j] + 1):
                    x_at[row] = xs[i] + (row - y) / (ys[j] - y) * (xs[j] - xs[i])
                y = ys[j]
        sides.append(x_at)
    for row in sides[0].keys() & sides[1].keys():
        first, last = sorted((round(sides[0][row]), round(sides[1][row])))
        mask_yx[row, first : last + 1] = True
    return mask_yx


@pytest.mark.parametrize("repair", ["fill", "fill_close"])
def test_repair_brings_broken_outlines_nearer_to_the_truth(repair):
    shape = (120, 120)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        radii = np.where(np.arange(14) % 2, rng.uniform(12, 22, 14), rng.uniform(38, 54, 14))
        ys = (60 + radii * np.sin(angles)).round().astype(int)
        xs = (60 + radii * np.cos(angles)).round().astype(int)
        truth = outline(ys, xs, shape=shape)
        truth[polygon(ys, xs, shape)] = True
        broken = filled_as_if_convex(ys, xs, shape=shape)
        repaired = repair_mask(broken, repair=repair)
        before, after = ((truth & mask).sum() / (truth | mask).sum() for mask in (broken, repaired))
        assert after > before + 0.02


def test_fill_close_drops_debris_and_keeps_large_parts():
    body, part, crumb = disc(14, 12, 9), disc(14, 32, 5), disc(2, 40, 1)
    mask_yx = repair_mask(body | part | crumb, repair="fill_close")
    assert np.array_equal(mask_yx, body | part)


def test_fill_close_closes_a_gap_that_opens_a_hole():
    ring = disc(14, 20, 10) & ~disc(14, 20, 7)
    ring[14, 27:31] = False
    assert repair_mask(ring, repair="fill")[14, 20] == 0
    assert repair_mask(ring, repair="fill_close")[14, 20] == 1


def test_repairs_and_fragments_are_counted():
    ring, crumb = disc(14, 20, 10) & ~disc(14, 20, 7), disc(14, 40, 1)
    _, faults = repair_instances(instances_of(ring | crumb), repair="fill", fragments="keep", min_object_px=0)
    hole = np.count_nonzero(disc(14, 20, 7))
    assert faults == [
        (1, "components", "2 parts", np.count_nonzero(crumb)),
        (1, "repaired", f"{hole} px added, 0 px removed", hole),
    ]


def test_empty_annotations_are_listed_and_take_no_number():
    instances, faults = repair_instances(
        instances_of(disc(5, 5, 2), np.zeros(SHAPE, bool), disc(20, 20, 2)),
        repair="none",
        fragments="keep",
        min_object_px=0,
    )
    assert [instance.source for instance in instances] == ["0", "2"]
    assert faults == [(0, "empty", "1", 0)]


# numbers


def test_the_ignore_value_is_never_an_object():
    numbers = choose_numbers([crop_instance(np.ones((1, 1), bool), source="")] * 70_000)
    assert len(set(numbers)) == 70_000
    assert IGNORE_LABEL not in numbers
    assert numbers[:3] == [1, 2, 3]
    assert numbers[-1] == 70_001


def test_numbers_beyond_uint16_are_drawn():
    masks = [disc(6, 8, 5), disc(20, 30, 7)]
    labels_yx, _ = resolve_overlaps(instances_of(*masks), numbers=[65534, 65536], shape=SHAPE)
    assert np.array_equal(labels_yx, 65534 * masks[0].astype(np.int64) + 65536 * masks[1].astype(np.int64))


# formats


@pytest.mark.parametrize("order", ["row", "column"])
def test_rle_gives_each_row_of_the_table_a_number(tmp_path, order):
    masks = [disc(6, 8, 5), disc(20, 30, 7), disc(29, 0, 4)]
    table = write_table(
        tmp_path / "t.csv", rle_rows("other", disc(3, 3, 2), order=order) + rle_rows("a", *masks, order=order)
    )
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order=order, table=str(table))
    assert labels["a"].dtype == np.uint16
    assert all(np.array_equal(labels["a"] == i + 1, mask_yx) for i, mask_yx in enumerate(masks))
    assert [(row["object"], row["source"]) for row in read_rows(tmp_path / "out" / "objects.csv")] == [
        ("1", "row 3"),
        ("2", "row 4"),
        ("3", "row 5"),
    ]


def test_the_shard_holds_what_its_contract_says(tmp_path):
    table = write_table(tmp_path / "t.csv", rle_rows("a", disc(6, 8, 5)))
    rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order="row", table=str(table))
    assert set(read_manifest(tmp_path / "out")) == {"a.tif", "objects.csv", "faults.csv", "overlaps.csv"}
    assert (tmp_path / "out" / "faults.csv").read_text().strip() == "sample,object,fault,detail,pixels"
    assert (tmp_path / "out" / "overlaps.csv").read_text().strip() == "sample,object,other,pixels"


def test_samples_in_a_table_may_carry_a_suffix_zeros_and_odd_names(tmp_path):
    names = {"007": "007.png", "NA": "NA.TIF", "b.tif": "b.tif"}
    masks = {name: disc(5 + 3 * i, 20, 4) for i, name in enumerate(names)}
    rows = [(table_name, encode_rle(masks[name], order="column")) for name, table_name in names.items()]
    table = write_table(tmp_path / "t.csv", rows, header=("ImageId", "EncodedPixels"), encoding="utf-8-sig")
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, name) for name in names], format="rle", order="column", table=str(table)
    )
    assert all(np.array_equal(labels[name] > 0, masks[name]) for name in names)


def test_other_columns_are_taken_by_name(tmp_path):
    rows = [("x", "a", encode_rle(disc(6, 8, 5), order="row"))]
    table = write_table(tmp_path / "t.csv", rows, header=("well", "picture", "runs"))
    section = {"format": "rle", "order": "row", "table": str(table)}
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, "a")], **section, sample_column="picture", rle_column="runs"
    )
    assert labels["a"].sum() == disc(6, 8, 5).sum()
    with pytest.raises(
        ValueError, match=r"columns id and annotation or ImageId and EncodedPixels, found well, picture, runs\. Set"
    ):
        rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], **section)
    with pytest.raises(ValueError, match="expected the columns photo and runs, found well, picture, runs"):
        rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], **section, sample_column="photo", rle_column="runs")


def test_one_row_without_runs_is_an_image_without_objects(tmp_path):
    table = write_table(tmp_path / "t.csv", [("a", "", 43, 30)])
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order="row", table=str(table))
    assert labels["a"].max() == 0
    assert read_rows(tmp_path / "out" / "faults.csv") == []


def test_mask_folder_gives_each_file_a_number(tmp_path):
    masks = [disc(6, 8, 5), disc(20, 30, 7), np.zeros(SHAPE, bool)]
    paths = [write_png(tmp_path / "m" / f"{i}.png", mask_yx * np.uint8(255)) for i, mask_yx in enumerate(masks)]
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a", annotations=paths)], format="mask_folder", path="m")
    assert np.array_equal(labels["a"], masks[0] + 2 * masks[1].astype(int))
    assert [row["source"] for row in read_rows(tmp_path / "out" / "objects.csv")] == [str(p) for p in paths[:2]]
    assert read_rows(tmp_path / "out" / "faults.csv")[0]["detail"] == str(paths[2])


def test_the_numbers_of_a_label_image_are_kept(tmp_path):
    codes_yx = 900 * disc(6, 8, 5).astype(np.uint16) + 7 * disc(20, 30, 7).astype(np.uint16)
    path = write_png(tmp_path / "m" / "a.png", codes_yx)
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, "a", annotations=[path])], format="label_image", path="m"
    )
    assert np.array_equal(labels["a"], codes_yx)
    assert [(row["object"], row["source"]) for row in read_rows(tmp_path / "out" / "objects.csv")] == [
        ("7", "7"),
        ("900", "900"),
    ]


def test_numbers_that_16_bits_cannot_hold_are_given_anew(tmp_path):
    codes_yx = 900_000 * disc(6, 8, 5).astype(np.uint32) + 7 * disc(20, 30, 7).astype(np.uint32)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, codes_yx)
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, "a", annotations=[path])], format="label_image", path="m"
    )
    assert np.array_equal(labels["a"], 2 * disc(6, 8, 5).astype(int) + disc(20, 30, 7))
    assert [row["source"] for row in read_rows(tmp_path / "out" / "objects.csv")] == ["7", "900000"]


def test_the_ignored_number_of_a_label_image_is_no_object(tmp_path):
    codes_yx = 3 * disc(6, 8, 5).astype(np.uint8) + 255 * disc(20, 30, 7).astype(np.uint8)
    path = write_png(tmp_path / "m" / "a.png", codes_yx)
    labels = rasterize(
        tmp_path / "out",
        [sample_row(tmp_path, "a", annotations=[path])],
        format="label_image",
        path="m",
        ignore_value=255,
    )
    assert np.array_equal(labels["a"], np.where(codes_yx == 255, IGNORE_LABEL, codes_yx.astype(int)))
    assert read_rows(tmp_path / "out" / "faults.csv")[0]["fault"] == "ignored"
    assert len(read_rows(tmp_path / "out" / "objects.csv")) == 1


def test_an_ignored_region_lies_below_the_objects(tmp_path):
    objects, unknown = disc(10, 12, 6), disc(14, 16, 9)
    row = sample_row(tmp_path, "a", annotations=[write_png(tmp_path / "m" / "a.png", objects * np.uint8(1))])
    row["extra"] = {"ignore": str(write_png(tmp_path / "m" / "ignore.png", unknown * np.uint8(255)))}
    labels = rasterize(tmp_path / "out", [row], format="label_image", path="m")
    assert np.array_equal(labels["a"], np.where(objects, 1, np.where(unknown, IGNORE_LABEL, 0)))


@pytest.mark.parametrize("max_pixels", [1, 50, 43 * 7, 43 * 29, 10**6])
def test_bands_draw_what_the_whole_image_shows(max_pixels):
    rng = np.random.default_rng(3)
    masks = [disc(*rng.integers(0, 30, 2), rng.integers(1, 9)) for _ in range(25)]
    instances = [instance for instance in instances_of(*masks) if instance.area_px]
    numbers = choose_numbers(instances)
    whole_yx, contested = resolve_overlaps(instances, numbers=numbers, shape=SHAPE)
    banded_yx, contested_in_bands = resolve_overlaps(instances, numbers=numbers, shape=SHAPE, max_pixels=max_pixels)
    assert np.array_equal(banded_yx, whole_yx)
    assert contested_in_bands == contested


def test_bands_read_the_regions_and_numbers_of_the_whole_image():
    rng = np.random.default_rng(5)
    mask_yx = gaussian_filter(rng.normal(size=(60, 47)), 1.5) > 0
    regions_yx, count = scipy_label(mask_yx)
    for height in (1, 2, 7, 59, 60):
        pieces = join_regions((slice(i, min(i + height, 60)), mask_yx[i : i + height]) for i in range(0, 60, height))
        assert len(pieces) == count
        for number, (row, column, part_yx) in enumerate(pieces, start=1):
            drawn_yx = np.zeros(mask_yx.shape, bool)
            drawn_yx[row : row + part_yx.shape[0], column : column + part_yx.shape[1]] = part_yx
            assert np.array_equal(drawn_yx, regions_yx == number)


def test_parts_become_objects_or_go():
    body, part, crumb = disc(14, 12, 9), disc(14, 32, 5), disc(2, 40, 1)
    given = instances_of(body | part | crumb)
    split, faults = repair_instances(given, repair="none", fragments="split", min_object_px=0)
    assert [instance.area_px for instance in split] == [np.count_nonzero(m) for m in (body, part, crumb)]
    largest, _ = repair_instances(given, repair="none", fragments="largest", min_object_px=0)
    assert [instance.area_px for instance in largest] == [np.count_nonzero(body)]
    assert ("fragments", np.count_nonzero(part | crumb)) in [(fault, pixels) for _, fault, _, pixels in faults]


def test_tiny_objects_are_dropped_and_listed():
    kept, faults = repair_instances(
        instances_of(disc(14, 12, 9), disc(2, 40, 1)), repair="none", fragments="keep", min_object_px=6
    )
    assert [instance.source for instance in kept] == ["0"]
    assert faults == [(0, "tiny", "1", 5)]


def test_a_label_image_without_background_keeps_all_objects(tmp_path):
    codes_yx = np.full(SHAPE, 5, np.uint8)
    codes_yx[:, 20:] = 9
    path = write_png(tmp_path / "m" / "a.png", codes_yx)
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, "a", annotations=[path])], format="label_image", path="m"
    )
    assert np.array_equal(labels["a"], codes_yx)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.full(SHAPE, 1.5, np.float32), r"expected whole object numbers from 0.*found 1\.5"),
        (np.full(SHAPE, -1, np.int16), "found -1"),
        (np.full(SHAPE, 65535, np.uint16), "except 65535, found 65535. Renumber"),
    ],
)
def test_numbers_that_cannot_be_objects_are_refused(tmp_path, codes, message):
    tifffile.imwrite(tmp_path / "l.tif", codes)
    row = sample_row(tmp_path, "a", annotations=[tmp_path / "l.tif"])
    with pytest.raises(ValueError, match=message):
        rasterize(tmp_path / "out", [row], format="label_image", path="l.tif")


def test_binary_regions_are_four_connected(tmp_path):
    cells = np.full((6, 6), 255, np.uint8)
    cells[np.arange(6), np.arange(6)] = 0  # a diagonal membrane of one pixel
    path = write_png(tmp_path / "m" / "a.png", cells)
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, "a", annotations=[path], shape=(6, 6))], format="binary", path="m"
    )
    assert labels["a"].max() == 2
    assert labels["a"][0, 5] != labels["a"][5, 0]


def test_the_foreground_of_a_binary_image_may_be_zero(tmp_path):
    path = write_png(tmp_path / "m" / "a.png", np.where(disc(14, 20, 9), 0, 255).astype(np.uint8))
    row = sample_row(tmp_path, "a", annotations=[path])
    labels = rasterize(tmp_path / "out", [row], format="binary", path="m", foreground="zero")
    assert np.array_equal(labels["a"], disc(14, 20, 9).astype(int))


def test_a_binary_hole_stays_a_hole_by_default(tmp_path):
    ring = disc(14, 20, 10) & ~disc(14, 20, 7)
    path = write_png(tmp_path / "m" / "a.png", ring.astype(np.uint8))
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a", annotations=[path])], format="binary", path="m")
    assert np.array_equal(labels["a"] > 0, ring)


def test_an_opaque_rgba_mask_is_a_mask(tmp_path):
    grey = disc(14, 20, 9) * np.uint8(255)
    path = write_png(tmp_path / "m" / "a.png", np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=2))
    labels = rasterize(
        tmp_path / "out", [sample_row(tmp_path, "a", annotations=[path])], format="mask_folder", path="m"
    )
    assert np.array_equal(labels["a"] > 0, disc(14, 20, 9))


# refusals


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    path = write_png(tmp_path / "m" / "a.png", np.zeros((43, 30), np.uint8))
    row = sample_row(tmp_path, "a", annotations=[path])
    for form in ("mask_folder", "label_image", "binary"):
        with pytest.raises(
            ValueError, match=r"sample a, .*a\.png: expected .* 30 rows and 43 columns.* found 43 rows and 30"
        ):
            rasterize(tmp_path / "out", [row], format=form, path="m")


def test_a_table_of_another_size_is_refused_with_both_sizes(tmp_path):
    table = write_table(tmp_path / "t.csv", [("a", "1 3", 30, 43)])
    with pytest.raises(
        ValueError, match=r"sample a, .*t\.csv, row 2: expected .* 30 rows and 43 .*height 43 and width 30"
    ):
        rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order="row", table=str(table))


def test_smoothed_masks_are_refused(tmp_path):
    path = write_png(tmp_path / "m" / "a.png", np.arange(30 * 43, dtype=np.uint16).reshape(SHAPE))
    row = sample_row(tmp_path, "a", annotations=[path])
    for form in ("mask_folder", "binary"):
        with pytest.raises(
            ValueError, match="expected zero and one other value, found values from 0 to 1289 with 1288"
        ):
            rasterize(tmp_path / "out", [row], format=form, path="m")


def test_coloured_annotations_are_refused(tmp_path):
    colours = np.zeros((*SHAPE, 3), np.uint8)
    colours[5:9, 5:9, 0] = 255
    row = sample_row(tmp_path, "a", annotations=[write_png(tmp_path / "m" / "a.png", colours)])
    with pytest.raises(ValueError, match="expected one number per pixel, found 3 channels that differ"):
        rasterize(tmp_path / "out", [row], format="label_image", path="m")


def test_two_files_for_one_label_image_are_refused(tmp_path):
    row = sample_row(tmp_path, "a", annotations=["x.png", "y.png"])
    with pytest.raises(ValueError, match=r"sample a: expected one annotation file, found 2: x\.png, y\.png\. Narrow"):
        rasterize(tmp_path / "out", [row], format="label_image", path="*.png")


def test_all_faults_of_a_shard_are_listed_at_once_and_nothing_is_left(tmp_path):
    rows = [("a", "1 3"), ("a", "1 2 2 2"), ("b", "1291 1"), ("b", "x")]
    table = write_table(tmp_path / "t.csv", rows, header=("id", "annotation"))
    samples = [sample_row(tmp_path, name) for name in "abc"]
    with pytest.raises(ValueError, match="4 problems with the annotations") as caught:
        rasterize(tmp_path / "out", samples, format="rle", order="row", table=str(table))
    lines = str(caught.value).splitlines()[1:]
    assert ["none for 1 of 3: c" in lines[0], "row 3" in lines[1], "row 4" in lines[2], "row 5" in lines[3]] == [
        True
    ] * 4
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_missing_annotation_is_an_error_or_an_empty_image(tmp_path):
    row = sample_row(tmp_path, "a")
    for missing in ("error", "unlabelled"):
        with pytest.raises(
            ValueError, match=r"masks/\*: expected an annotation for every image, found none for 1 of 1: a\."
        ):
            rasterize(tmp_path / "out", [row], missing=missing, format="mask_folder", path="masks/*")
    labels = rasterize(tmp_path / "out", [row], missing="empty", format="mask_folder", path="masks/*")
    assert labels["a"].max() == 0


@pytest.mark.parametrize("content", [None, "", 'id,annotation\n"a,1 3\n'])
def test_an_unreadable_table_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    with pytest.raises(
        ValueError, match=r"t\.csv: expected a comma-separated table with one header row, found: .*\. Save"
    ):
        rasterize(
            tmp_path / "out", [sample_row(tmp_path, "a")], format="rle", order="row", table=str(tmp_path / "t.csv")
        )


# memory


def test_a_thousand_objects_do_not_take_a_thousand_images(tmp_path):
    shape = (512, 512)
    masks = [(row, column) for row in range(0, 512, 16) for column in range(0, 512, 16)]
    small = np.ones((12, 12), dtype=bool)
    instances = [Instance(row, column, small.copy(), "") for row, column in masks]
    tracemalloc.start()
    try:
        repaired, _ = repair_instances(instances, repair="fill_close", fragments="keep", min_object_px=0)
        labels_yx, _ = resolve_overlaps(repaired, numbers=choose_numbers(repaired), shape=shape)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert labels_yx.max() == 1024
    # one label image is 1 MB; a stack of masks would be 268 MB
    assert peak < 5e6


# config


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"format": "rle"}, "table and order for format rle, found no table; no order"),
        ({"format": "rle", "table": "t.csv", "order": "row", "path": "x"}, "path, which this format does not use"),
        ({"format": "binary"}, "expected path for format binary, found no path"),
        ({"format": "label_image", "path": "x", "order": "row"}, "order, which this format does not use"),
        ({"format": "label_image", "path": "x", "foreground": "zero"}, "foreground, which this format does not use"),
        (
            {"format": "rle", "table": "t", "order": "row", "rle_column": "r"},
            "only one of sample_column and rle_column",
        ),
        ({"format": "rle", "table": "t", "order": "F"}, "'row' or 'column'"),
        (
            {"format": "yaml"},
            "'coco', 'color_components', 'ctc', 'geojson', 'imagej_roi', 'label_image', 'mask_folder', 'binary' or 'rle'",
        ),
        ({"format": "binary", "path": "x", "missing": "skip"}, "'error', 'unlabelled' or 'empty'"),
        ({"format": "binary", "path": "x", "colour": 1}, "colour"),
    ],
)
def test_contradictory_sections_are_refused(section, message):
    with pytest.raises(ValidationError, match=message):
        Annotations.model_validate(section)


def test_holes_are_filled_only_where_each_object_was_drawn_by_itself():
    repairs = {
        form: Annotations.model_validate({"format": form, **keys}).repair
        for form, keys in {
            "rle": {"table": "t", "order": "row"},
            "mask_folder": {"path": "x"},
            "label_image": {"path": "x"},
            "binary": {"path": "x"},
        }.items()
    }
    assert repairs == {"rle": "fill", "mask_folder": "fill", "label_image": "none", "binary": "none"}
    assert Annotations(format="binary", path="x", repair="fill", fragments="keep", min_object_px=0).repair == "fill"


def test_a_resolved_section_is_valid_again():
    first = Annotations(format="rle", table="t.csv", order="column")
    assert Annotations.model_validate(first.model_dump(mode="json")) == first
    assert all(field.description for field in Annotations.model_fields.values())


# real annotations


def test_sartorius_objects_and_overlaps_add_up(tmp_path, real_data):
    folder = real_data / "sartorius_cell_instance"
    rows = [
        {"sample": path.stem, "image": str(path), "annotations": []}
        for path in sorted((folder / "train").glob("*.png"))
    ]
    labels = rasterize(
        tmp_path / "out", rows, format="rle", order="row", table=str(folder / "train.csv"), repair="none"
    )
    with (folder / "train.csv").open(newline="") as stream:
        areas = [sum(map(int, row["annotation"].split()[1::2])) for row in csv.DictReader(stream)]
    contested = sum(int(row["pixels"]) for row in read_rows(tmp_path / "out" / "overlaps.csv"))
    assert len(read_rows(tmp_path / "out" / "objects.csv")) == len(areas) == 659
    assert sum(np.count_nonzero(labels_yx) for labels_yx in labels.values()) == sum(areas) - contested


def test_membranes_of_isbi_2012_are_twenty_two_percent(tmp_path, real_data):
    folder = next((real_data / "isbi2012_em").rglob("label")).parent
    rows = [
        {"sample": path.stem, "image": str(path), "annotations": [str(folder / "label" / path.name)]}
        for path in sorted((folder / "image").glob("*.png"))[:30]
    ]
    labels = rasterize(tmp_path / "out", rows, format="binary", path="label")
    membrane = np.mean([(labels_yx == 0).mean() for labels_yx in labels.values()])
    assert membrane == pytest.approx(0.22, abs=0.005)


def test_rows_of_one_name_are_one_object(tmp_path):
    left, right, other = disc(14, 10, 4), disc(14, 30, 4), disc(5, 20, 3)
    lines = ["id,annotation,cell"]
    lines += [f"a,{encode_rle(m, order='row')},{name}" for m, name in ((left, "1"), (other, "2"), (right, "1"))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    section = {"format": "rle", "table": str(tmp_path / "t.csv"), "order": "row", "object_column": "cell"}
    labels = rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], **section)
    assert np.array_equal(labels["a"], np.where(left | right, 1, 0) + 2 * other)
    assert [row["source"] for row in read_rows(tmp_path / "out" / "objects.csv")] == ["row 2 and 4", "row 3"]


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("id,annotation,annotation\na,1 3,5 2\n")
    section = {"format": "rle", "table": str(tmp_path / "t.csv"), "order": "row"}
    with pytest.raises(ValueError, match=r"t\.csv: expected one column annotation, found 2\. Remove or rename"):
        rasterize(tmp_path / "out", [sample_row(tmp_path, "a")], **section)
