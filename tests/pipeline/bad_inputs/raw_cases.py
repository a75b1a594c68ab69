"""Cases of bad input: microscope files, and the choice of their images."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bad_inputs.cases import case, images, pixels, put, put_tiff
from raw_files import write_czi, write_ndtiff


def raw(folder: Path, *, written: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """Write a CZI file and return the section of a dataset with that image."""
    write_czi(folder / "images/bad.czi", **written)
    return {"images": f"{folder}/images/{{sample}}.czi", "models": ["classical"], **keys}


def section_of(folder: Path, name: str, content: bytes | str) -> dict[str, Any]:
    put(folder / "images" / name, content)
    return {"images": f"{folder}/images/{name}", "models": ["classical"]}


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack: {folder}/images/bad.czi: expected a choice of stack.scene, stack.time, stack.z and "
    "preprocess.channel, found none. The file has the scenes 0, 1, 2 time points, 3 sections and the channels 0 'DAPI', "
    "1 'EGFP'. Set stack.scene to a name, a number or all; stack.time to all, a number or a range such as 0-1; stack.z "
    "to sections, maximum, mean, a number or a range such as 0-2; preprocess.channel to a name or a number. Numbers "
    "count from 0.",
)  # fmt: skip
def a_raw_file_without_choices(folder):
    return raw(folder, written={"channels": ("DAPI", "EGFP"), "scenes": 2, "times": 2, "sections": 3})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack: {folder}/images/bad.czi: expected a choice of stack.z, found none. The file has 3 sections. "
    "Set stack.z to sections, maximum, mean, a number or a range such as 0-2. Numbers count from 0.",
)  # fmt: skip
def a_volume_without_a_choice(folder):
    return raw(folder, written={"sections": 3})


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.czi: expected a channel called 'GFP', found 0 'DAPI', 1 'EGFP'. Set preprocess.channel to one "
    "of these names or numbers.",
)  # fmt: skip
def a_channel_name_that_is_not_there(folder):
    return raw(folder, written={"channels": ("DAPI", "EGFP")}, preprocess={"channel": "GFP"})


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.czi: expected one channel called 'DAPI', found 2 (numbers 0, 1). Set preprocess.channel to the "
    "number of one of them.",
)  # fmt: skip
def a_channel_name_that_two_channels_have(folder):
    return raw(folder, written={"channels": ("DAPI", "DAPI")}, preprocess={"channel": "DAPI"})


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.czi: expected at least 8 channels, found 0 'DAPI', 1 'EGFP'. Set preprocess.channel to one of "
    "these names or numbers.",
)  # fmt: skip
def a_channel_number_that_is_not_there(folder):
    return raw(folder, written={"channels": ("DAPI", "EGFP")}, preprocess={"channel": 7})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.scene: {folder}/images/bad.czi: expected one scene called 'B2', found 0, 1. Set stack.scene "
    "to one of these names or numbers, or to all.",
)  # fmt: skip
def a_scene_name_that_is_not_there(folder):
    return raw(folder, written={"scenes": 2}, stack={"scene": "B2"})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.scene: {folder}/images/bad.czi: expected a scene from 0 to 1, found 2. The file has the "
    "scenes 0, 1. Set stack.scene to one of them, or to all.",
)  # fmt: skip
def a_scene_number_that_is_not_there(folder):
    return raw(folder, written={"scenes": 2}, stack={"scene": 2})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.z: {folder}/images/bad.czi: expected positions from 0 to 2, found maximum 1-5. Change the key.",
)  # fmt: skip
def a_range_beyond_the_sections(folder):
    return raw(folder, written={"sections": 3}, stack={"z": "max 1-5"})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.axis: expected auto for {folder}/images/bad.czi, whose axes are known, found time. Remove "
    "stack.axis.",
)  # fmt: skip
def an_axis_of_a_raw_file(folder):
    return raw(folder, written={"sections": 3}, stack={"axis": "time"})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.scene: expected microscope files, such as .czi or .lif, found "
    "{folder}/images/bad.png. Remove stack.scene.",
)  # fmt: skip
def a_scene_of_a_picture(folder):
    return images(folder, stack={"scene": 0})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.z: expected sections, maximum, mean, a number from 0 or a range such as 3-8 or maximum 3-8, "
    "found 'sum'. Change z.",
)  # fmt: skip
def an_unknown_projection(folder):
    return images(folder, stack={"z": "sum"})


@case(
    "Content of microscope files", "plan",
    "datasets.{name}.stack.time: expected all, a number from 0 or a range such as 0-9, found '9-3'. Change time.",
)  # fmt: skip
def a_range_of_times_backwards(folder):
    return images(folder, stack={"time": "9-3"})


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.czi: expected a readable CZI image, found a damaged one (<...>). Copy the file again from its "
    "source.",
)  # fmt: skip
def a_truncated_czi(folder):
    section = raw(folder, written={})
    path = folder / "images/bad.czi"
    put(path, path.read_bytes()[:-400])
    return section


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.nd2: expected ND2 because of the suffix, found something else. Rename the file to match its "
    "content, or copy it again from its source.",
)  # fmt: skip
def a_text_called_nd2(folder):
    return section_of(folder, "bad.nd2", b"a page of text")


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.lif: expected a readable LIF image, found a damaged one (<...>). Copy the file again from its "
    "source.",
)  # fmt: skip
def a_lif_of_which_only_the_start_was_copied(folder):
    return section_of(folder, "bad.lif", bytes.fromhex("70000000200000002a0a000000") + b"<\0L\0M\0S\0")


COMPANION = """<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0" Name="a">
<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="12" SizeZ="2" SizeC="1" SizeT="1">
<TiffData FirstZ="0" IFD="0"><UUID FileName="a_z0.ome.tif">urn:uuid:1</UUID></TiffData>
<TiffData FirstZ="1" IFD="0"><UUID FileName="a_z1.ome.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>"""


@case(
    "Content of microscope files", "plan",
    "{folder}/images/a.companion.ome: expected the files that its metadata name beside it, found no a_z1.ome.tif. Copy "
    "them into the same folder.",
)  # fmt: skip
def a_companion_file_without_a_member(folder):
    put_tiff(folder / "images/a_z0.ome.tif", pixels())
    return section_of(folder, "a.companion.ome", COMPANION)


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.nd: expected the files that it lists beside it, found no bad_t1.stk, bad_t2.stk, bad_t3.stk and "
    "1 more. Copy them into the same folder, or set images to the .stk files that are there.",
)  # fmt: skip
def an_nd_without_its_stacks(folder):
    return section_of(folder, "bad.nd", '"NDInfoFile", Version 1.0\n"DoTimelapse", TRUE\n"NTimePoints", 4\n')


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.vsi: expected the folder _bad_ with .ets files beside it, which has the pixels, found none. Copy "
    "it into the same folder as the file.",
)  # fmt: skip
def a_vsi_without_its_pixels(folder):
    put_tiff(folder / "images/bad.vsi", pixels())
    return {"images": f"{folder}/images/bad.vsi", "models": ["classical"]}


@case(
    "Content of microscope files", "plan",
    "{folder}/images/run/NDTiff.index: expected the files that it lists beside it, found no run_NDTiffStack.tif. Copy "
    "them into the same folder.",
)  # fmt: skip
def an_ndtiff_index_without_its_pixels(folder):
    path, _ = write_ndtiff(folder / "images/run", [({"time": 0}, np.zeros((12, 16), np.uint16))])
    path.with_name("run_NDTiffStack.tif").unlink()
    return {"images": f"{folder}/images/{{sample}}/NDTiff.index", "models": ["classical"]}


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.h5: expected a dataset with rows and columns, found areas (5,). Write the images with "
    "tifffile.imwrite('image.tif', array).",
)  # fmt: skip
def an_hdf5_file_of_a_table(folder):
    import h5py

    (folder / "images").mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / "images/bad.h5", "w") as file:
        file["areas"] = np.arange(5)
    return {"images": f"{folder}/images/bad.h5", "models": ["classical"]}


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.h5: expected HDF5 because of the suffix, found something else. Rename the file to match its "
    "content, or copy it again from its source.",
)  # fmt: skip
def an_encrypted_file_called_h5(folder):
    return section_of(folder, "bad.h5", bytes(range(255, 0, -1)) * 20)


@case(
    "Content of microscope files", "plan",
    "{folder}/images/bad.npy: expected an array of numbers, found Python objects, which may contain code and are never "
    "loaded. Write each image with tifffile.imwrite('image.tif', array).",
)  # fmt: skip
def an_array_of_python_objects(folder):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    np.save(folder / "images/bad.npy", np.array([[{}]]), allow_pickle=True)
    return {"images": f"{folder}/images/bad.npy", "models": ["classical"]}
