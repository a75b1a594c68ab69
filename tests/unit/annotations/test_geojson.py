"""GeoJSON: objects as QuPath writes them, and as cellmill exports them."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cellmill.annotations.geojson import read_geojson
from cellmill.annotations.pieces import gather_objects
from cellmill.config.annotations import Annotations
from cellmill.objects.geojson import describe_features

SHAPE = (20, 30)
SQUARE = [[[2, 3], [8, 3], [8, 9], [2, 9], [2, 3]]]


def feature(coordinates, *, kind="Polygon", plane=None, **properties):
    geometry = {"type": kind, "coordinates": coordinates, **({"plane": plane} if plane else {})}
    return {
        "type": "Feature",
        "id": "4ff5",
        "geometry": geometry,
        "properties": {"objectType": "annotation", **properties},
    }


def read(path, content, *, shape=SHAPE, object_type=None, **row):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    settings = Annotations(format="geojson", path="x", object_type=object_type).model_dump(mode="json")
    return read_geojson(
        {"sample": "a", "annotations": [str(path)], **row}, shape=shape, annotations=settings, table=None
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.geojson"


def mask_of(instance, shape=SHAPE):
    mask_yx = np.zeros(shape, dtype=bool)
    mask_yx[instance.box] = instance.mask_yx
    return mask_yx


def box(rows, columns):
    mask_yx = np.zeros(SHAPE, dtype=bool)
    mask_yx[slice(*rows), slice(*columns)] = True
    return mask_yx


@pytest.mark.parametrize(
    "wrap", [lambda one: {"type": "FeatureCollection", "features": [one]}, lambda one: [one], lambda one: one]
)
def test_a_polygon_is_read_from_a_collection_a_list_or_alone(path, wrap):
    [found] = read(path, wrap(feature(SQUARE, name="left cell")))
    assert np.array_equal(mask_of(found), box((3, 9), (2, 8)))
    assert (found.source, found.number, found.broken, found.is_ignored) == ("left cell", None, "", False)


def test_holes_and_parts_follow_the_even_odd_rule(path):
    hole = [[4, 5], [6, 5], [6, 7], [4, 7], [4, 5]]
    far = [[[20, 3], [25, 3], [25, 6], [20, 6], [20, 3]]]
    [found] = read(path, [feature([[SQUARE[0], hole], far], kind="MultiPolygon")])
    expected = box((3, 9), (2, 8)) & ~box((5, 7), (4, 6)) | box((3, 6), (20, 25))
    assert np.array_equal(mask_of(found), expected)


def test_objects_of_the_class_ignore_are_ignored_regions_of_any_type(path):
    ignored = feature(SQUARE, classification={"name": "Ignore*", "color": [180, 180, 180]})
    cells = [feature(SQUARE, objectType="cell"), feature(SQUARE, objectType="cell", classification={"name": "Tumor"})]
    found = read(path, [ignored, *cells], object_type="cell")
    assert [instance.is_ignored for instance in found] == [True, False, False]
    newer = feature(SQUARE, classification={"names": ["Ignore*"]})
    assert read(path, [newer])[0].is_ignored


def test_the_outline_of_a_cell_is_read_and_not_that_of_its_nucleus(path):
    cell = feature(SQUARE, objectType="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [[[4, 4], [5, 4], [5, 5], [4, 4]]]}
    [found] = read(path, [cell])
    assert found.area_px == 36


def test_points_lines_and_features_without_a_geometry_are_broken(path):
    point, line = feature([3, 4], kind="Point"), feature([[1, 2], [3, 4]], kind="LineString")
    empty = {"type": "Feature", "geometry": None, "properties": None}
    found = read(path, [point, line, empty, feature(SQUARE)])
    assert [instance.broken for instance in found] == [
        "a Point, which encloses no area", "a LineString, which encloses no area", "no geometry", "",
    ]  # fmt: skip


def test_outlines_beyond_the_image_and_of_two_points_are_broken(path):
    beyond = [[[25, 3], [40, 3], [40, 9], [25, 9], [25, 3]]]
    found = read(path, [feature(beyond), feature([[[1, 1], [2, 2], [1, 1]]])])
    assert found[0].broken == "outline extends beyond the image"
    assert found[1].broken.startswith("outline of 2 points")


def test_an_empty_collection_is_an_image_without_objects(path):
    assert read(path, {"type": "FeatureCollection", "features": []}) == []
    assert read(path, {"type": "FeatureCollection", "features": []}, object_type="cell") == []


def test_planes_of_a_stack_get_their_own_objects(path):
    # QuPath does not write the plane of z 0 and t 0.
    content = [feature(SQUARE, name="z0")]
    content += [feature(SQUARE, plane={"c": -1, "z": z, "t": 0}, name=f"z{z}") for z in (1, 2)]
    for z in range(3):
        stack = {"is_annotated_as_stack": True, "plane": [["Z", z, 3]]}
        assert [found.source for found in read(path, content, **stack)] == [f"z{z}"]
    assert len(read(path, content)) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "expected a GeoJSON file, found"),
        ("[1, 2]", "expected GeoJSON with features"),
        ({"type": "Topology"}, "expected GeoJSON with features"),
        ({"images": [], "annotations": []}, "expected GeoJSON with features"),
        ([feature([[["a", 1], [2, 2], [3, 3]]])], "feature 1: expected a polygon of points [x, y], found a damaged one"),
        ([feature(7)], "feature 1: expected a polygon of points [x, y], found a damaged one"),
        ('[{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[NaN, 1], [2, 2], [3, 4]]]}}]', "not numbers"),
        ([feature(SQUARE), feature(SQUARE, objectType="detection")],
         "expected objects of one type, found 1 of the type annotation and 1 of the type detection. Set object_type to the "
         "type of the objects, such as object_type: detection"),
    ],
)  # fmt: skip
def test_what_is_no_geojson_of_objects_is_refused_with_file_and_remedy(path, content, expected):
    with pytest.raises(ValueError, match="sample a") as caught:
        read(path, content)
    assert expected in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_image_without_objects_of_the_type_is_empty(path):
    region, ignored = feature(SQUARE), feature(SQUARE, classification={"name": "Ignore*"})
    [found] = read(path, [region, ignored], object_type="cell")
    assert found.is_ignored


def test_parts_that_overlap_and_collections_are_added_up(path):
    other = [[[5, 3], [11, 3], [11, 9], [5, 9], [5, 3]]]
    both = feature([SQUARE, other], kind="MultiPolygon")
    parts = [{"type": "Polygon", "coordinates": SQUARE}, {"type": "Point", "coordinates": [1, 1]}]
    collection = {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": parts}, "properties": {}}
    one, two = read(path, [both, collection])
    assert np.array_equal(mask_of(one), box((3, 9), (2, 11)))
    assert np.array_equal(mask_of(two), box((3, 9), (2, 8)))


label_images = arrays(
    np.uint16, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9), elements=st.sampled_from([0, 1, 2, 7, 300])
)


@given(label_images)
def test_exported_objects_are_read_back_with_their_numbers(labels_yx):
    features = list(describe_features(gather_objects(labels_yx, where="x")))
    with tempfile.TemporaryDirectory() as folder:
        found = read(
            Path(folder) / "a.geojson", {"type": "FeatureCollection", "features": features}, shape=labels_yx.shape
        )
    again_yx = np.zeros_like(labels_yx)
    for instance in found:
        again_yx[mask_of(instance, labels_yx.shape)] = instance.number
    assert np.array_equal(again_yx, labels_yx)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=4)
    )
)
def test_coordinates_of_any_form_are_read_or_refused(coordinates):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.geojson"
        found, refusal = None, ""
        try:
            found = read(path, [feature(coordinates), feature(coordinates, kind="MultiPolygon")])
        except ValueError as error:
            refusal = str(error)
    assert len(found) == 2 if found is not None else (str(path) in refusal and "expected" in refusal)
