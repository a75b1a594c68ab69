import csv

import numpy as np
import pandas as pd
import pytest

from cellmill.images.windows import LabelFile
from cellmill.objects.measurements import (
    NEIGHBOUR_PX,
    ObjectTables,
    background_level,
    bounding_boxes,
    count_neighbours,
    encode_objects,
    measure_objects,
)
from cellmill.stages.postprocess_tables import concatenate_tables
from whole_images import decode_rle, encode_rle


def sample_labels():
    labels = np.zeros((30, 50), dtype=np.int64)
    labels[4:10, 6:18] = 1
    labels[12:16, 46:] = 2
    labels[20, 20] = 3
    labels[25, 3:9] = 4
    return labels


def measured(pixel_size_um=None, labels=None):
    labels = sample_labels() if labels is None else labels
    image = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    return measure_objects(labels, image, 2 * image + 1, sample="a01", pixel_size_um=pixel_size_um, background=100.0)


def encode(labels, *, order):
    boxes = bounding_boxes([(slice(0, len(labels)), labels)])
    return list(encode_objects(labels, np.setdiff1d(labels, [0]), boxes=boxes, order=order))


def label_file(tmp_path, labels):
    file = LabelFile(tmp_path / "labels.bin", labels.shape)
    file.write(labels, slice(0, len(labels)))
    return file


def add(tables, tmp_path, sample, labels, *, image=None):
    image = labels.astype(np.float32) if image is None else image
    tables.add(
        sample, label_file(tmp_path, labels), image_of_rows=lambda rows: image[rows],
        raw_of_rows=lambda rows: 2 * image[rows] + 1, pixel_size_um=0.65,
    )  # fmt: skip


def test_a_rectangle_is_measured_by_hand():
    row = measured().iloc[0]
    assert (row["sample"], row["object"], row["area_px"]) == ("a01", 1, 6 * 12)
    assert (row["centroid_row_px"], row["centroid_column_px"]) == (6.5, 11.5)
    assert row["equivalent_diameter_px"] == pytest.approx(np.sqrt(4 * 72 / np.pi), abs=1e-4)
    assert row["solidity"] == 1
    assert tuple(row[f"bbox_{end}_px"] for end in ("row_start", "column_start", "row_stop", "column_stop")) == (
        4, 6, 10, 18,
    )  # fmt: skip
    assert (row["intensity_min"], row["intensity_max"]) == (4 * 50 + 6, 9 * 50 + 17)
    assert row["intensity_mean"] == 6.5 * 50 + 11.5
    assert row["raw_intensity_mean"] == 2 * row["intensity_mean"] + 1
    assert row["raw_intensity_max"] == 2 * row["intensity_max"] + 1
    assert row["intensity_above_background"] == row["intensity_mean"] - 100


def test_axes_of_an_ellipse_are_its_diameters():
    rows, columns = np.indices((80, 120))
    ellipse = ((rows - 40) / 15) ** 2 + ((columns - 60) / 40) ** 2 <= 1
    row = measured(labels=ellipse.astype(np.int64)).iloc[0]
    assert row["axis_major_px"] == pytest.approx(80, rel=0.01)
    assert row["axis_minor_px"] == pytest.approx(30, rel=0.01)


def test_one_pixel_and_a_line_are_measured_without_a_warning():
    table = measured()
    assert table["area_px"].tolist() == [72, 16, 1, 6]
    assert np.isfinite(measured(pixel_size_um=0.5).drop(columns="sample").to_numpy(dtype=float)).all()


def test_objects_at_the_border_are_marked():
    assert measured()["touches_border"].tolist() == [0, 1, 0, 0]


def test_micrometres_follow_from_the_pixel_size():
    table = measured(pixel_size_um=0.5)
    assert table["area_um2"].tolist() == (table["area_px"] * 0.25).tolist()
    assert table["axis_major_um"].to_numpy() == pytest.approx(table["axis_major_px"].to_numpy() * 0.5, abs=1e-4)
    unknown = measured()
    assert all(unknown[column].isna().all() for column in unknown if column.endswith(("_um", "_um2")))


def test_small_quantities_keep_their_digits():
    table = measured(pixel_size_um=0.004)
    assert table.loc[2, "area_um2"] == pytest.approx(1.6e-5)
    assert table.loc[0, "axis_major_um"] == pytest.approx(0.004 * table.loc[0, "axis_major_px"], rel=1e-4)
    labels = sample_labels()
    image = np.full(labels.shape, 1.23456e-4)
    small = measure_objects(labels, image, image, sample="a", pixel_size_um=None, background=1e-4)
    assert small["intensity_mean"].tolist() == pytest.approx([1.23456e-4] * 4)
    assert small["intensity_above_background"].tolist() == pytest.approx([2.3456e-5] * 4)


def test_an_image_without_objects_has_the_same_columns():
    empty = measured(pixel_size_um=1.0, labels=np.zeros((5, 5), dtype=np.int64))
    assert len(empty) == 0
    assert list(empty) == list(measured(pixel_size_um=1.0))


@pytest.mark.parametrize("order", ["row", "column"])
def test_runs_of_each_object_are_those_of_its_mask(order):
    labels = np.random.default_rng(0).integers(0, 6, (13, 17))
    expected = [encode_rle(labels == label, order=order) for label in range(1, 6)]
    assert encode(labels, order=order) == expected


def test_runs_skip_missing_labels():
    labels = sample_labels()
    labels[labels == 2] = 0
    assert len(encode(labels, order="row")) == 3


def test_tables_hold_every_object_of_every_image(tmp_path):
    tables = ObjectTables(tmp_path, order="column")
    labels = sample_labels()
    add(tables, tmp_path, "a", labels)
    add(tables, tmp_path, "b", np.zeros_like(labels))
    add(tables, tmp_path, "c", labels)
    objects = pd.read_csv(tmp_path / "objects.csv")
    assert objects["sample"].tolist() == ["a"] * 4 + ["c"] * 4
    assert objects["object"].tolist() == [1, 2, 3, 4] * 2
    with (tmp_path / "rle.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["id"] for row in rows] == ["a"] * 4 + ["c"] * 4
    rebuilt = np.zeros_like(labels)
    for number, row in enumerate(rows[:4], start=1):
        rebuilt[decode_rle(row["annotation"], shape=labels.shape, order="column", where="rle.csv")] = number
    assert np.array_equal(rebuilt, labels)


def test_tables_without_objects_have_a_header(tmp_path):
    ObjectTables(tmp_path, order="row")
    assert (tmp_path / "rle.csv").read_text() == "id,annotation\n"
    assert (tmp_path / "objects.csv").read_text().startswith("sample,object,centroid_row_px")


def test_tables_are_joined_under_one_header(tmp_path):
    for number, text in enumerate(["a,b\n1,2\n", "a,b\n", "a,b\n3,4\n5,6\n"]):
        (tmp_path / f"{number}.csv").write_text(text)
    lines = concatenate_tables(tmp_path / "all.csv", [tmp_path / f"{number}.csv" for number in range(3)])
    assert lines == 3
    assert (tmp_path / "all.csv").read_text() == "a,b\n1,2\n3,4\n5,6\n"


def test_tables_of_different_columns_are_not_joined(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n")
    (tmp_path / "2.csv").write_text("a,c\n")
    with pytest.raises(ValueError, match=r"2\.csv: expected the columns a,b, found a,c\. .*--forcerun"):
        concatenate_tables(tmp_path / "all.csv", [tmp_path / "1.csv", tmp_path / "2.csv"])
    assert not (tmp_path / "all.csv").exists()


def test_windows_measure_what_the_whole_image_measures(tmp_path, monkeypatch):
    """Also an object wider than a window, objects across its edges, and a neighbour outside the window."""
    rng = np.random.default_rng(0)
    labels = np.zeros((150, 170), dtype=np.int64)
    labels[70:74, 3:160] = 1
    for number in range(2, 60):
        row, column = rng.integers(0, 140), rng.integers(0, 160)
        labels[row : row + rng.integers(1, 12), column : column + rng.integers(1, 12)] = number
    image = rng.normal(100, 10, labels.shape).astype(np.float32)
    tables = []
    for name in ("whole", "windows"):
        (tmp_path / name).mkdir()
        add(ObjectTables(tmp_path / name, order="column"), tmp_path, "a", labels, image=image)
        found = pd.read_csv(tmp_path / name / "objects.csv").set_index("object").sort_index()
        runs = pd.read_csv(tmp_path / name / "rle.csv")
        assert len(runs) == len(found)
        tables.append((found, set(runs["annotation"])))
        monkeypatch.setattr("cellmill.images.windows.WHOLE_PIXELS", 100)
        monkeypatch.setattr("cellmill.images.windows.CORE_PX", 32)
        monkeypatch.setattr("cellmill.images.windows.CORE_HALOS", 0)
        monkeypatch.setattr("cellmill.objects.measurements.HALO_PX", 16)
    (whole, whole_runs), (windows, windows_runs) = tables
    pd.testing.assert_frame_equal(windows, whole, atol=1e-3)
    assert windows_runs == whole_runs
    assert len(whole) == len(np.setdiff1d(labels, [0]))


def test_neighbours_are_counted_up_to_their_distance():
    labels = np.zeros((40, 60), dtype=np.int64)
    labels[10:20, 10:20] = 4
    labels[10:20, 20 + NEIGHBOUR_PX - 1 : 30] = 2  # a gap of four pixels
    labels[10:20, 30 + NEIGHBOUR_PX + 1 : 50] = 9  # a gap of six pixels
    labels[20:25, 10:14] = 7  # touches object 4
    assert count_neighbours(labels, np.array([2, 4, 7, 9])).tolist() == [1, 2, 1, 0]
    assert count_neighbours(labels, np.array([4])).tolist() == [2]
    assert count_neighbours(np.zeros((4, 4), dtype=np.int64), np.array([], dtype=np.int64)).tolist() == []


def test_background_is_the_median_outside_of_objects(tmp_path, monkeypatch):
    labels = sample_labels()
    image = np.where(labels > 0, 1000.0, np.random.default_rng(0).normal(20, 3, labels.shape))
    file = label_file(tmp_path, labels)
    assert background_level(file, lambda rows: image[rows]) == np.median(image[labels == 0])
    monkeypatch.setattr("cellmill.objects.measurements.MAX_LEVEL_PIXELS", 200)
    assert background_level(file, lambda rows: image[rows]) == pytest.approx(20, abs=2)
    cropped = np.zeros_like(image)
    inside = (slice(11, 19), slice(13, 29))
    cropped[inside] = image[inside]
    monkeypatch.undo()
    level = background_level(file, lambda rows: cropped[rows], within=inside)
    assert level == np.median(image[inside][labels[inside] == 0])
    everything = label_file(tmp_path, np.ones((5, 5), dtype=np.int64))
    assert background_level(everything, lambda rows: np.ones((5, 5))[rows]) == 0
