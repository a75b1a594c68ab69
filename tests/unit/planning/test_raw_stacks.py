"""Images of raw files: scenes, time points, sections and channels, which the config has to choose."""

import importlib

import numpy as np
import pytest

from cellmill.config.stack import Stack
from cellmill.images.files import read_plane
from cellmill.images.raw_files import RAW_FORMATS, close_raw
from cellmill.planning.plane_choices import list_places
from cellmill.planning.samples import SampleError, scan_images
from cellmill.planning.stacks import expand_stacks
from cellmill.planning.ties import attach_annotations
from raw_files import need_library, raw_folder, write_czi

pytestmark = pytest.mark.usefixtures("czi")


@pytest.fixture
def czi():
    need_library("CZI")
    yield
    close_raw()


def planes(folder, *, channel="luminance", channels=(), **stack):
    found = scan_images(f"{folder}/{{sample}}.czi", where="datasets.x.images")
    section = Stack(**stack).model_dump(mode="json")
    return expand_stacks(
        found,
        stack=section,
        channels=channels or ([] if channel is None else [channel]),
        cache_dir=folder / "cache",
        where="datasets.x",
    )


def rows(found):
    return [(sample.sample, sample.sequence, sample.frame) for sample, _ in found]


def test_a_single_plane_needs_no_choice(tmp_path):
    pixels = write_czi(tmp_path / "a.czi")
    [(sample, _)] = planes(tmp_path)
    assert (sample.sample, sample.plane) == ("a", [])
    assert np.array_equal(read_plane(sample.image, channel="luminance"), pixels[0, 0, 0, 0])


def test_a_chosen_scene_keeps_the_name_of_its_file(tmp_path):
    pixels = write_czi(tmp_path / "a.czi", scenes=3)
    [(sample, values)] = planes(tmp_path, scene=1)
    assert (sample.sample, sample.plane) == ("a", [["scene", "only 1", 3]])
    assert values["scene"] == "1"
    read = read_plane(sample.image, channel="luminance", plane=sample.plane)
    assert np.array_equal(read, pixels[1, 0, 0, 0])


def test_all_scenes_are_images_of_their_own(tmp_path):
    pixels = write_czi(tmp_path / "a.czi", scenes=2)
    found = planes(tmp_path, scene="all")
    assert rows(found) == [("a_s000", "", 0), ("a_s001", "", 0)]
    for number, (sample, _) in enumerate(found):
        read = read_plane(sample.image, channel=0, plane=sample.plane)
        assert np.array_equal(read, pixels[number, 0, 0, 0])


def test_time_points_of_a_scene_are_a_sequence(tmp_path):
    write_czi(tmp_path / "a.czi", scenes=2, times=3)
    assert rows(planes(tmp_path, scene="all", time="1-2")) == [
        (f"a_s{s:03d}_t{t:03d}", f"a_s{s:03d}", t) for s in range(2) for t in (1, 2)
    ]


def test_one_time_point_is_no_sequence(tmp_path):
    write_czi(tmp_path / "a.czi", times=3)
    [(sample, _)] = planes(tmp_path, time=2)
    assert (sample.sample, sample.sequence, sample.plane) == ("a", "", [["T", "only 2", 3]])


def test_sections_of_one_time_point_are_numbered_as_frames(tmp_path):
    write_czi(tmp_path / "a.czi", times=2, sections=3)
    assert rows(planes(tmp_path, time=0, z="0-1")) == [("a_z000", "a", 0), ("a_z001", "a", 1)]


@pytest.mark.parametrize(("z", "take"), [("max", np.max), ("mean", np.mean)])
@pytest.mark.parametrize(("part", "sections"), [("", [0, 1, 2, 3]), (" 1-2", [1, 2])])
def test_a_projection_takes_all_or_some_sections(tmp_path, z, take, part, sections):
    pixels = write_czi(tmp_path / "a.czi", sections=4, channels=("DAPI", "EGFP"))
    [(sample, _)] = planes(tmp_path, z=z + part, channel="EGFP")
    read = read_plane(sample.image, channel="EGFP", plane=sample.plane)
    np.testing.assert_allclose(read, take(pixels[0, 0, sections, 1], axis=0))


def test_a_channel_is_known_by_its_name_and_by_its_number(tmp_path):
    pixels = write_czi(tmp_path / "a.czi", channels=("DAPI", "EGFP"))
    for channel in ("EGFP", 1):
        assert np.array_equal(read_plane(tmp_path / "a.czi", channel=channel), pixels[0, 0, 0, 1])
    assert np.allclose(read_plane(tmp_path / "a.czi", channel=[0.5, 0.5]), pixels[0, 0, 0].mean(axis=0))


def test_every_file_is_asked_about_its_own_contents(tmp_path):
    write_czi(tmp_path / "a.czi", sections=2)
    write_czi(tmp_path / "b.czi", times=2)
    with pytest.raises(SampleError) as caught:
        planes(tmp_path)
    first, second = caught.value.mistakes
    assert "a.czi: expected a choice of stack.z, found none. The file has 2 sections." in first
    assert "b.czi: expected a choice of stack.time, found none. The file has 2 time points." in second


def test_several_channels_of_a_network_are_a_choice_and_have_to_be_there(tmp_path):
    write_czi(tmp_path / "a.czi", channels=("DAPI", "EGFP"))
    assert len(planes(tmp_path, channels=["EGFP", 0])) == 1
    with pytest.raises(ValueError, match="expected a channel called 'RFP', found 0 'DAPI', 1 'EGFP'"):
        planes(tmp_path, channels=["DAPI", "RFP"])


def test_a_model_that_is_applied_may_choose_the_channel(tmp_path):
    write_czi(tmp_path / "a.czi", channels=("DAPI", "EGFP"))
    assert rows(planes(tmp_path, channel=None)) == [("a", "", 0)]


def test_a_label_image_belongs_to_the_plane_that_is_read(tmp_path):
    write_czi(tmp_path / "a.czi", sections=3)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.png").touch()
    found = planes(tmp_path, z="maximum")
    attached = attach_annotations(found, path=f"{tmp_path}/labels/{{sample}}.png", many=False, where="x")
    assert [(one.annotations, one.is_annotated_as_stack) for one in attached.samples] == [
        ([f"{tmp_path}/labels/a.png"], False)
    ]


def test_a_label_image_is_named_after_its_scene(tmp_path):
    write_czi(tmp_path / "a.czi", scenes=2)
    (tmp_path / "labels").mkdir()
    for number in range(2):
        (tmp_path / f"labels/a_s{number:03d}.png").touch()
    found = planes(tmp_path, scene="all")
    attached = attach_annotations(found, path=f"{tmp_path}/labels/{{sample}}.png", many=False, where="x")
    assert [one.annotations for one in attached.samples] == [
        [f"{tmp_path}/labels/a_s{number:03d}.png"] for number in range(2)
    ]


def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    write_czi(tmp_path / "a.czi")
    load = importlib.import_module

    def without(name, *words):
        if name == RAW_FORMATS["CZI"]["imports"]:
            raise ModuleNotFoundError("No module named 'pylibCZIrw'")
        return load(name, *words)

    monkeypatch.setattr(importlib, "import_module", without)
    message = r"a\.czi: expected the package pylibCZIrw, .*Install it: pip install -r requirements-vendor\.txt$"
    with pytest.raises(SampleError, match=message):
        planes(tmp_path)


def test_a_folder_with_the_name_of_a_library_is_no_library(tmp_path, monkeypatch):
    (tmp_path / "pylibCZIrw/czi").mkdir(parents=True)
    write_czi(tmp_path / "a.czi")
    for name in ("pylibCZIrw", "pylibCZIrw.czi"):
        monkeypatch.delitem(importlib.sys.modules, name, raising=False)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(SampleError, match=r"expected the package pylibCZIrw, which reads CZI files, found: No module"):
        planes(tmp_path)


@pytest.mark.parametrize(
    ("choice", "places"),
    [("all", [0, 1, 2]), ("sections", [0, 1, 2]), (1, ["only 1"]), ("1-2", [1, 2]), ("mean 0-1", ["mean 0-1"])],
)
def test_places_along_an_axis(choice, places):
    assert list_places(choice, size=3, where="x") == places


def arrays(folder, **stack):
    found = scan_images(f"{folder}/{{sample}}.npy", where="datasets.x.images")
    section = Stack(**stack).model_dump(mode="json")
    return expand_stacks(found, stack=section, channels=["luminance"], cache_dir=folder / "cache", where="datasets.x")


def test_planes_of_an_array_need_a_meaning(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 9, 11), dtype=np.uint8))
    with pytest.raises(SampleError, match=r"expected a choice of stack\.axis, found none\. The file has 4 planes of"):
        arrays(tmp_path)
    assert rows(arrays(tmp_path, axis="time")) == [(f"a_t{t:03d}", "a", t) for t in range(4)]
    [(sample, _)] = arrays(tmp_path, axis="z", z="maximum")
    assert sample.plane == [["Q", "maximum", 4]]


def test_members_of_a_set_are_inputs_of_its_jobs(tmp_path, real_data):
    source = raw_folder(real_data, "ometiff_multi") / "companion"
    found = scan_images(f"{source}/{{sample}}.companion.ome", where="datasets.x.images")
    section = Stack(z="maximum").model_dump(mode="json")
    [(sample, _)] = expand_stacks(found, stack=section, channels=["luminance"], cache_dir=tmp_path, where="datasets.x")
    assert [path.rpartition("/")[2] for path in sample.members] == [f"multifile-Z{z}.ome.tiff" for z in range(1, 6)]
    assert sample.sample == "multifile"


def test_what_many_files_have_in_common_is_asked_for_once(tmp_path):
    for number in range(4):
        np.save(tmp_path / f"a{number}.npy", np.zeros((4, 9, 11), dtype=np.uint8))
    np.save(tmp_path / "b.npy", np.zeros((5, 9, 11), dtype=np.uint8))
    with pytest.raises(SampleError) as caught:
        arrays(tmp_path)
    of_four, of_one = caught.value.mistakes
    assert f"{tmp_path}/a0.npy: expected a choice of stack.axis" in of_four
    assert of_four.endswith(f" The same holds for 3 more files, such as {tmp_path}/a1.npy.")
    assert "5 planes" in of_one
    assert "The same holds" not in of_one
