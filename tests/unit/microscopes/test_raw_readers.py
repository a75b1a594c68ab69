"""Readers of raw files, on real files: axes, sizes, types, scenes, channels, pixel sizes and pixels, as others read them."""

import ast
import json
import shutil

import numpy as np
import pytest

from cellmill.images.rasters import open_raster
from cellmill.images.raw_files import RAW_FORMATS, close_raw, open_raw, raw_format_of, read_rows
from project import ROOT
from raw_files import expected_values, need_library, raw_folder

# Mean values are rounded to four decimals in the expected values.
MEAN_TOLERANCE = 5e-5
CZI = [
    "s_1_t_1_c_1_z_1", "S3_1Pos_2Mosaic_T2_Z3_CH2_sm", "Fluorescence_RGB", "CellDivision_T3_Z5_CH2_X240_Y170",
    "CellDivision_T3_Z5_CH2_X240_Y170_comp2",
]  # fmt: skip
ND2 = ["example-multichannel", "example-timelapse", "cluster"]
LIF = ["PR2729_frameOrderCombinedScanTypes", "xz-example"]


@pytest.fixture(autouse=True)
def closed():
    yield
    close_raw()


def plane_of(path, scene, *, last):
    """Read the first or the last plane of a scene, at the first or last position along each axis of the file."""
    layout = open_raw(path).scenes[scene].layout(where=path)
    stacked = {axis: size for axis, size in layout.sizes.items() if axis not in "YXS"}
    index = {axis: size - 1 if last else 0 for axis, size in stacked.items()}
    return read_rows(path, scene=scene, index=index, first=0, last=layout.shape[0])


def assert_plane(plane, expected):
    assert plane.min() == pytest.approx(expected["min"], rel=1e-6)
    assert plane.max() == pytest.approx(expected["max"], rel=1e-6)
    assert plane.mean(dtype=np.float64) == pytest.approx(expected["mean"], abs=MEAN_TOLERANCE)
    for place, value in expected.get("pixels", {}).items():
        assert plane[tuple(json.loads(place))].tolist() == pytest.approx(value, rel=1e-6)


def assert_scene(path, number, *, axes, shape, expected):
    scene = open_raw(path).scenes[number]
    assert "".join(scene.sizes) == axes
    assert list(scene.sizes.values()) == list(shape)
    assert scene.dtype == expected["dtype"]
    assert_plane(plane_of(path, number, last=False), expected["first_plane"])
    assert_plane(plane_of(path, number, last=True), expected["last_plane"])
    return scene


@pytest.mark.parametrize("name", CZI)
def test_czi_is_read_as_by_other_programs(real_data, name):
    need_library("CZI")
    folder = raw_folder(real_data, "czi")
    path = folder / f"{name}.czi"
    expected = expected_values(folder)[path.name]
    assert len(open_raw(path).scenes) == expected["n_scenes"]
    for number, values in enumerate(expected["scenes"]):
        scene = assert_scene(path, number, axes=values["dims"], shape=values["shape"], expected=values)
        assert list(scene.channels) == values["channels"]
        assert scene.pixel_size_um == (pytest.approx(values["mpp"]) if values["mpp"] else None)


@pytest.mark.parametrize("name", ND2)
def test_nd2_is_read_as_by_other_programs(real_data, name):
    need_library("ND2")
    folder = raw_folder(real_data, "nd2")
    path = folder / f"{name}.nd2"
    expected = expected_values(folder)[path.name]
    assert len(open_raw(path).scenes) == expected["n_positions"]
    sizes = expected["sizes"]
    scene = assert_scene(path, 0, axes=expected["dims"], shape=sizes.values(), expected=expected)
    assert list(scene.channels) == expected["channel_names"]
    assert scene.pixel_size_um == pytest.approx(expected["pixel_size_um"][1::-1])
    assert scene.bits == expected["significant_bits"]


@pytest.mark.parametrize("name", LIF)
def test_lif_is_read_as_by_other_programs(real_data, name):
    need_library("LIF")
    folder = raw_folder(real_data, "lif")
    path = folder / f"{name}.lif"
    expected = expected_values(folder)[path.name]
    assert len(open_raw(path).scenes) == expected["n_series"]
    for number, values in enumerate(expected["series"]):
        sizes = values["sizes"]
        scene = assert_scene(path, number, axes="".join(values["dims"]), shape=sizes.values(), expected=values)
        assert scene.name == values["path"]
        rows, columns = [np.diff(values["coords_first_two_m_or_s"][axis])[0] for axis in scene.plane_axes]
        assert scene.pixel_size_um == pytest.approx((abs(rows) * 1e6, abs(columns) * 1e6))


def read_with_tifffile(path, values):
    """Compare a file with values that were read with tifffile."""
    first = values["series"][0]
    return assert_scene(path, 0, axes=first["axes"], shape=first["shape"], expected=first)


@pytest.mark.parametrize("name", ["test", "38_Hoechst_Golgi_Mito_Lyso_CellMask_mixture"])
def test_lsm_is_read_as_by_other_programs_without_its_thumbnail(real_data, name):
    folder = raw_folder(real_data, "lsm")
    path = folder / f"{name}.lsm"
    expected = expected_values(folder)[path.name]
    scene = read_with_tifffile(path, expected)
    assert list(scene.channels) == expected["metadata"]["channel_names"]
    assert scene.pixel_size_um == pytest.approx(expected["metadata"]["pixel_size_um"][1::-1])
    assert len(open_raw(path).scenes) == 1


def test_stk_is_read_as_by_other_programs(real_data):
    folder = raw_folder(real_data, "stk")
    count = 0
    for name, members in expected_values(folder).items():
        for member, expected in members.items():
            if member.endswith(".stk"):
                scene = read_with_tifffile(folder / name / member, expected)
                assert scene.pixel_size_um == pytest.approx((expected["metadata"]["XCalibration"],) * 2)
                count += 1
    assert count == 16


@pytest.mark.parametrize(
    ("name", "sizes", "scenes"),
    [
        ("benchmark_v1_2018_x64y64z1c2s1t11", {"C": 2}, [""]),
        ("benchmark_v1_2018_x64y64z5c2s1t41", {"T": 4, "C": 2, "Z": 5}, [""]),
        (
            "benchmark_v1_2018_x64y64z5c2s4t11", {"C": 2, "Z": 5},
            ["Row0_Col0", "Row1_Col0", "Row0_Col1", "Row1_Col1"],
        ),
    ],
)  # fmt: skip
def test_nd_joins_the_files_of_an_acquisition(real_data, name, sizes, scenes):
    folder = raw_folder(real_data, "stk")
    path = folder / name / f"{name}.nd"
    opened = open_raw(path)
    assert [scene.name for scene in opened.scenes] == scenes
    assert opened.scenes[0].sizes == {**sizes, "Y": 64, "X": 64}
    assert opened.scenes[0].channels == ("Laser4054BD4BP", "Laser4914BD4BP")
    for member, expected in expected_values(folder)[name].items():
        parts = {part[0]: int(part[1]) - 1 for part in member.rpartition(".")[0].removeprefix(name).split("_") if part}
        place = {"C": parts.get("w", 0), "T": parts.get("t", 0)}
        first = expected["series"][0]["first_plane"]
        stacked = {axis: at for axis, at in {**place, "Z": 0}.items() if axis in sizes}
        assert_plane(read_rows(path, scene=parts.get("s", 0), index=stacked, first=0, last=64), first)


def test_an_nd_without_a_member_is_refused(real_data, tmp_path):
    name = "benchmark_v1_2018_x64y64z5c2s4t11"
    copy = tmp_path / name
    shutil.copytree(raw_folder(real_data, "stk") / name, copy)
    copy.chmod(0o755)
    (copy / f"{name}_w2Laser4914BD4BP_s3.stk").unlink()
    message = rf"expected the files that it lists beside it, found no {name}_w2Laser4914BD4BP_s3\.stk\. Copy them"
    with pytest.raises(ValueError, match=message):
        open_raw(copy / f"{name}.nd")


def test_oib_is_read_as_by_other_programs(real_data):
    need_library("OIB")
    folder = raw_folder(real_data, "oib")
    expected = expected_values(folder)["test.oib"]
    scene = assert_scene(
        folder / "test.oib", 0, axes=expected["axes"], shape=expected["shape"], expected=expected
    )  # fmt: skip
    assert list(scene.channels) == expected["channel_names"]
    assert scene.pixel_size_um == pytest.approx(expected["pixel_size_um"])
    assert scene.bits == expected["significant_bits"]


def test_oif_is_read_from_the_folder_beside_it(real_data, tmp_path):
    need_library("OIF")
    import oiffile

    source = raw_folder(real_data, "oib") / "test.oib"
    oiffile.oib2oif(source, location=tmp_path)
    [path] = tmp_path.rglob("*.oif")
    assert np.array_equal(plane_of(path, 0, last=True), plane_of(source, 0, last=True))
    assert open_raw(path).members
    folder = path.with_name(f"{path.name}.files")
    folder.rename(path.with_name("elsewhere"))
    close_raw()
    with pytest.raises(ValueError, match=r"expected the folder .* beside it, which has the pixels, found none"):
        open_raw(path)


def test_dv_is_read_as_by_other_programs(real_data):
    need_library("DV")
    folder = raw_folder(real_data, "dv")
    expected = expected_values(folder)["toxo.dv"]
    sizes = {axis: size for axis, size in expected["sizes"].items() if size > 1}
    scene = assert_scene(folder / "toxo.dv", 0, axes="".join(sizes), shape=sizes.values(), expected=expected)
    assert list(scene.channels) == [str(wave) for wave in expected["wavelengths_nm"] if wave]
    assert scene.pixel_size_um == pytest.approx(expected["pixel_size_um"][1::-1])


def test_mrc_is_read_as_by_other_programs(real_data):
    need_library("MRC")
    folder = raw_folder(real_data, "mrc")
    expected = expected_values(folder)["EMD-3197.map"]
    scene = assert_scene(folder / "EMD-3197.map", 0, axes="ZYX", shape=expected["shape"], expected=expected)
    assert scene.pixel_size_um == pytest.approx([edge * 1e-4 for edge in expected["voxel_size_angstrom"][:2]])


def test_a_companion_file_joins_the_files_that_it_names(real_data, tmp_path):
    folder = raw_folder(real_data, "ometiff_multi")
    path = folder / "companion/multifile.companion.ome"
    [scene] = open_raw(path).scenes
    assert scene.sizes == {"Z": 5, "Y": 24, "X": 18}
    for z in range(5):
        [values] = expected_values(folder)["companion"][f"multifile-Z{z + 1}.ome.tiff"]["series"]
        assert_plane(read_rows(path, scene=0, index={"Z": z}, first=0, last=24), values["first_plane"])
    copy = tmp_path / "companion"
    shutil.copytree(path.parent, copy)
    copy.chmod(0o755)
    (copy / "multifile-Z4.ome.tiff").unlink()
    message = r"expected the files that its metadata name beside it, found no multifile-Z4\.ome\.tiff\. Copy them"
    with pytest.raises(ValueError, match=message):
        open_raw(copy / path.name)


def test_a_tiff_of_a_set_has_the_images_of_its_metadata(real_data):
    folder = raw_folder(real_data, "ometiff_multi")
    path = folder / "bruker_multi_image_node/TSeries-camp-005_Cycle00001_Ch1_000001.ome.tif"
    values = expected_values(folder)["bruker_multi_image_node"][path.name]["series"]
    assert [scene.name for scene in open_raw(path).scenes] == [one["name"] for one in values]
    for number, one in enumerate(values):
        assert_scene(path, number, axes=one["axes"], shape=one["shape"], expected=one)


def test_vsi_is_read_from_the_folder_beside_it(real_data, tmp_path):
    need_library("VSI")
    folder = raw_folder(real_data, "vsi")
    path = folder / "vsi-ets-test-jpg2k.vsi"
    [expected] = expected_values(folder)[path.name]["slideio"]["scenes"]
    [scene] = open_raw(path).scenes
    columns, rows = expected["rect"][2:]
    assert scene.sizes == {"C": expected["channels"], "Z": expected["z"], "Y": rows, "X": columns}
    assert (scene.name, scene.dtype, list(scene.channels)) == (expected["name"], expected["dtype"], expected["chn"])
    assert scene.pixel_size_um == pytest.approx(expected["res_um"])
    # largest value and mean of both channels of each section, from the note in the expected values
    for z, largest, mean in ((0, 0, 0), (4, 2007, 68.3773), (10, 82, 0.04057)):
        planes = [read_rows(path, scene=0, index={"C": c, "Z": z}, first=0, last=rows) for c in (0, 1)]
        assert (np.max(planes), np.mean(planes)) == (largest, pytest.approx(mean, abs=MEAN_TOLERANCE))
    assert np.array_equal(read_rows(path, scene=0, index={"C": 1, "Z": 4}, first=700, last=900),
                          read_rows(path, scene=0, index={"C": 1, "Z": 4}, first=0, last=rows)[700:900])  # fmt: skip
    shutil.copy(path, tmp_path / "a.vsi")
    with pytest.raises(ValueError, match=r"a\.vsi: expected the folder _a_ with \.ets files beside it, which has the"):
        open_raw(tmp_path / "a.vsi")


def test_ndtiff_is_read_as_by_other_programs(real_data):
    folder = raw_folder(real_data, "ndtiff")
    for name, expected in expected_values(folder).items():
        [path] = (folder / name).rglob("NDTiff.index")
        [scene] = open_raw(path).scenes
        letters = [{"time": "T", "channel": "C", "z": "Z"}[axis] for axis in expected["axes"]]
        assert {letter: scene.sizes[letter] for letter in letters} == dict(
            zip(letters, expected["shape"], strict=False)
        )
        assert (scene.sizes["Y"], scene.sizes["X"]) == tuple(expected["shape"][-2:])
        assert scene.dtype == expected["dtype"]
        assert_plane(plane_of(path, 0, last=False), expected["first_plane"])
        [values] = [one["series"][0] for one in expected["tifffile"].values()]
        assert_plane(plane_of(path, 0, last=True), values["last_plane"])
        assert scene.pixel_size_um == (float(expected["meta"]["PixelSizeUm"]),) * 2
        assert scene.bits == int(expected["meta"]["BitDepth"])
        if not str(expected["axes"].get("channel", ["0"])[0]).isdigit():
            assert list(scene.channels) == expected["axes"]["channel"]


def test_ims_is_read_as_by_other_programs(real_data):
    need_library("IMS")
    path = raw_folder(real_data, "ims") / "Minimal_IMS_File.ims"
    [scene] = open_raw(path).scenes
    assert (scene.sizes, scene.dtype) == ({"Y": 128, "X": 128}, np.uint16)
    assert scene.pixel_size_um == pytest.approx((7 / 128, 7 / 128))
    plane = plane_of(path, 0, last=False)
    assert_plane(plane, {"min": 43, "max": 141, "mean": 87.8354, "pixels": {"[42,32]": 94, "[64,64]": 95}})


@pytest.mark.parametrize(
    ("name", "dataset", "axes", "first"),
    [
        ("2d3c.h5", "data", "YXS", {"min": 0, "max": 249, "mean": 31.0303}),
        ("5t2d2c.h5", "data", "TCYX", {"min": 57, "max": 249, "mean": 187.95, "pixels": {"[11,19]": 194.0, "[16,38]": 189.0}}),
        ("smallVideoBdv.h5", "t00000/s00/1/cells", "YX", {"min": 0, "max": 255, "mean": 16.496}),
    ],
)  # fmt: skip
def test_datasets_of_hdf5_are_scenes(real_data, name, dataset, axes, first):
    need_library("HDF5")
    path = raw_folder(real_data, "h5_ilastik") / name
    scenes = open_raw(path).scenes
    number = [scene.name for scene in scenes].index(dataset)
    assert "".join(scenes[number].sizes) == axes
    plane = plane_of(path, number, last=False)
    # without tags of axes, the expected values of an array are those of its first entry
    assert_plane(plane[0] if axes == "YXS" else plane, first)


def test_an_hdf5_file_without_images_lists_what_it_has(tmp_path):
    need_library("HDF5")
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["table/areas"] = np.arange(5)
    with pytest.raises(ValueError, match=r"expected a dataset with rows and columns, found table/areas \(5,\)\."):
        open_raw(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("form", "name", "edge_um", "levels"),
    [("svs", "CMU-1-Small-Region.svs", 0.499, 1), ("ndpi", "test3-DAPI-2-(387).ndpi", 0.2281750559028887, 4)],
)
def test_levels_of_slides_are_scenes(real_data, form, name, edge_um, levels):
    folder = raw_folder(real_data, form)
    opened = open_raw(folder / name)
    assert len(opened.scenes) == levels
    assert opened.scenes[0].pixel_size_um == pytest.approx((edge_um, edge_um))
    pixels = {"svs": {(989, 555): [246, 243, 243], (1483, 1110): [105, 44, 99]}, "ndpi": {(1621, 992): [0, 0, 8]}}
    for (row, column), value in pixels[form].items():
        assert opened.read(0, {}, row, row + 1)[0, column].tolist() == value


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize(("shape", "axes"), [((9, 11), "YX"), ((4, 9, 11), "QYX"), ((9, 11, 3), "YXS")])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">u2", "f4"])
def test_arrays_are_read_as_they_are(tmp_path, suffix, shape, axes, kind):
    array = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    path = tmp_path / f"a.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez_compressed(path, cells=array, numbers=np.arange(3))
    [scene] = open_raw(path).scenes
    assert "".join(scene.sizes) == axes
    last = plane_of(path, 0, last=True)
    assert np.array_equal(last, array[-1] if axes == "QYX" else array)
    assert last.dtype == np.dtype(kind).newbyteorder("=")


def test_objects_in_arrays_are_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(ValueError, match="expected an array of numbers, found Python objects"):
        open_raw(tmp_path / "a.npy")


def test_sections_along_z_and_x_have_z_as_rows(real_data):
    need_library("LIF")
    path = raw_folder(real_data, "lif") / "xz-example.lif"
    layout = open_raw(path).scenes[1].layout(where=path)
    # 23 positions along y, each a section of 128 x 128 px along z and x
    assert layout.sizes == {"Z": 23, "C": 2, "Y": 128, "X": 128}


@pytest.mark.parametrize(
    ("form", "name"),
    [("czi", "S3_1Pos_2Mosaic_T2_Z3_CH2_sm.czi"), ("nd2", "cluster.nd2"), ("lif", LIF[0] + ".lif")],
)
def test_bands_of_rows_are_those_of_the_whole_plane(real_data, form, name):
    need_library(form.upper())
    path = raw_folder(real_data, form) / name
    scene = open_raw(path).scenes[0]
    index = {axis: 1 for axis in scene.sizes if axis not in scene.plane_axes}
    rows = scene.sizes[scene.plane_axes[0]]
    whole = read_rows(path, scene=0, index=index, first=0, last=rows)
    parts = [read_rows(path, scene=0, index=index, first=i, last=min(i + 7, rows)) for i in range(0, rows, 7)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_projection_is_that_of_the_sections(real_data):
    need_library("CZI")
    path = raw_folder(real_data, "czi") / "CellDivision_T3_Z5_CH2_X240_Y170.czi"
    sections = [read_rows(path, scene=0, index={"T": 2, "Z": z, "C": 1}, first=0, last=170) for z in (1, 2, 3)]
    plane = [["T", "only 2", 3], ["Z", "maximum 1-3", 5]]
    read = open_raster(path, palette="colours", plane=plane).channel_reader("LED470")
    assert np.array_equal(read(0, 170), np.max(sections, axis=0))


def test_a_channel_is_read_without_the_others(real_data, monkeypatch):
    need_library("ND2")
    path = raw_folder(real_data, "nd2") / "example-multichannel.nd2"
    raster = open_raster(path, palette="colours", plane=())
    asked = []
    opened = open_raw(path)
    read = opened.read
    monkeypatch.setattr(opened, "read", lambda scene, index, *rows: asked.append(index) or read(scene, index, *rows))
    raster.channel_reader("DAPI")(0, 10)
    assert asked == [{"C": 1}]


def test_declarations_are_complete_and_import_no_library_at_their_head():
    keys = {
        "module", "opener", "suffixes", "signatures", "is_whole", "library", "imports", "licence", "content", "scenes",
        "tested",
    }  # fmt: skip
    libraries = {facts["imports"].partition(".")[0] for facts in RAW_FORMATS.values()} - {"tifffile", "numpy", ""}
    for facts in RAW_FORMATS.values():
        assert set(facts) == keys
        assert "GPL" not in facts["licence"].replace("LGPL", "")
        path = ROOT / f"workflow/{facts['module'].replace('.', '/')}.py"
        head = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in head for alias in node.names} | {getattr(node, "module", "") for node in head}
        assert not names & libraries


def test_suffixes_belong_to_one_format():
    suffixes = [suffix for facts in RAW_FORMATS.values() for suffix in facts["suffixes"]]
    assert len(suffixes) == len(set(suffixes))
    assert raw_format_of("plate/A1.CZI") == "CZI"
    assert raw_format_of("a.tif") is None
