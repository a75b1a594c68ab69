"""File names as microscopes and programs write them become patterns with wildcards."""

from itertools import product

import pytest
import yaml

from cellmill.planning.samples import scan_images
from cellmill.proposing.columns import cut_names, meaning_of
from cellmill.proposing.families import mask_ends, role_of
from cellmill.proposing.proposal import propose
from cellmill.proposing.writing import write_proposal
from lab_folders import write_labels, write_movie, write_pictures

WELLS = ("A01", "B02", "C11")
GUIDS = (
    "B9577918-4973-4A87-BA73-A168AA755527", "F71963FB-8F29-41CB-A5F5-07CB9584BBC5",
    "9D371AF3-0189-48A3-AF3B-D108DE6A017F", "E2770CF6-417B-4804-9B45-6EE7D783D8CA",
    "F4C7ADE4-B68D-4D30-A063-722B87AA2DA1", "2DC04C7F-2D7D-45C6-9DC2-66D8605FBE63",
)  # fmt: skip

# Scheme -> names, pattern
SCHEMES: dict[str, tuple[list[str], str]] = {
    "MetaXpress": (
        [f"plate_{well}_s{site}.TIF" for well, site in product(WELLS, (1, 2))], "plate_{well}_s{field}.TIF",
    ),
    "MetaXpress with random parts": (
        [f"IXM_{well}_s{site}_w1{guid}.tif" for (well, site), guid in zip(product(WELLS, (1, 2)), GUIDS, strict=True)],
        "IXM_{well}_s{field}_w1*.tif",
    ),
    "Incucyte, a time-lapse": (
        [f"VID12_{well}_1_{d:02}d{h:02}h00m.tif" for well in ("A1", "B12") for d, h in ((0, 0), (0, 6), (1, 0))],
        "VID12_{sequence}_1_{frame}.tif",
    ),
    "Incucyte, single times": (
        ["A172_Phase_C7_1_00d20h00m_4.tif", "A172_Phase_D3_2_01d12h00m_3.tif", "Huh7_Phase_A12_1_00d00h00m_1.tif"],
        "{name}_Phase_{well}_{field}_{time}_{number}.tif",
    ),
    "CellVoyager, newer": (
        [f"AssayPlate_{well}_T0001F00{field}L01A01Z01C01.tif" for well, field in product(WELLS, (1, 2))],
        "AssayPlate_{well}_T0001F{field}L01A01Z01C01.tif",
    ),
    "CellVoyager, older": (
        [f"W000{well}F00{field}T0001Z01C1.tif" for well, field in product((1, 2, 3), (1, 2))],
        "W{well}F{field}T0001Z01C1.tif",
    ),
    "Opera Phenix": (
        [f"r0{row}c0{column}f0{field}p01-ch1sk1fk1fl1.tiff" for row, column, field in product((1, 2), (1, 2), (1, 2))],
        "{well}f{field}p01-ch1sk1fk1fl1.tiff",
    ),
    "Operetta, older": (
        [f"00{row}00{column}-{field}-001001001.tif" for row, column, field in product((1, 2), (3, 4), (1, 2))],
        "{well}-{field}-001001001.tif",
    ),
    "Leica LIF export": (
        [f"Project_Series00{series}_t{time:02}_z000_ch00.tif" for series, time in product((1, 2), range(4))],
        "Project_Series{sequence}_t{frame}_z000_ch00.tif",
    ),
    "NIS Elements": ([f"xy0{xy}t00{time}c1.tif" for xy, time in product((1, 2), range(1, 5))], "xy{sequence}t{frame}c1.tif"),
    "ImageJ hyperstack": (
        [f"embryo_t{time:03}_z001_c001.tif" for time in range(5)], "embryo_t{frame}_z001_c001.tif",
    ),
    "Cell Tracking Challenge": ([f"t{time:03}.tif" for time in range(6)], "t{frame}.tif"),
    "Micro-Manager": (
        [f"img_channel000_position00{p}_time00000000{t}_z000.tif" for p, t in product((0, 1), range(3))],
        "img_channel000_position{sequence}_time{frame}_z000.tif",
    ),
    "hexadecimal": (["0030fd0e6378.png", "01ae5a43a2ab.png", "ffc2ead3e8cc.png"], "{sample}.png"),
    "free": (["ctrl 1.png", "my cell_image-2.png", "drug.png", "old-one_3.png", "x.png"], "{sample}.png"),
    "accents": (["Zellkern_ä.png", "Zellkern_ö.png", "Zellkern_ü.png"], "{sample}.png"),
    "numbers of single images": ([f"image_{number}.tif" for number in (3, 14, 15, 92)], "{sample}.tif"),
}  # fmt: skip


def proposed(folder):
    text, questions = write_proposal(propose(str(folder)), path="mine.yaml")
    return yaml.safe_load(text)["datasets"], questions, text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_names_become_a_pattern_that_matches_all_files(tmp_path, scheme):
    names, pattern = SCHEMES[scheme]
    write_pictures(tmp_path / "lab", names)
    [section] = proposed(tmp_path / "lab")[0].values()
    assert section["images"] == f"{tmp_path}/lab/{pattern}"
    found = scan_images(section["images"], where="images", exclude=section.get("exclude", []))
    assert sorted(sample.image for sample, _ in found) == sorted(f"{tmp_path}/lab/{name}" for name in names)


def test_numbers_are_frames_only_if_successive_images_are_alike(tmp_path):
    names = [f"im{number:03}.tif" for number in range(12)]
    write_movie(tmp_path / "movie", names)
    write_pictures(tmp_path / "singles", names)
    movie = proposed(tmp_path / "movie")
    assert movie[0]["movie"]["images"].endswith("im{frame}.tif")
    assert "Successive images are alike" in movie[2]
    assert proposed(tmp_path / "singles")[0]["singles"]["images"].endswith("/{sample}.tif")


def test_folders_of_frames_are_sequences(tmp_path):
    for sequence in ("01", "02"):
        write_pictures(tmp_path / "lab" / sequence, [f"t{time:03}.tif" for time in range(4)])
    assert proposed(tmp_path / "lab")[0]["lab"]["images"].endswith("lab/{sequence}/t{frame}.tif")


def test_a_folder_for_each_well_or_plate_is_named_so(tmp_path):
    for plate, well in product(("plate1", "plate2"), ("A01", "B03")):
        write_pictures(tmp_path / "lab" / plate / well, ["img1.tif", "img2.tif"])
    [section] = proposed(tmp_path / "lab")[0].values()
    assert section["images"].endswith("lab/{plate}/{well}/{sample}.tif")


CHANNELS = {
    "by number": ([f"x_{well}_w{w}.tif" for well, w in product(WELLS, (1, 2))], "x_{well}_w1.tif", "x_{well}_w2.tif"),
    "by stain": (
        [f"{name}_{stain}.tif" for name, stain in product(("cell1", "cell2"), ("Actin", "DAPI"))],
        "cell{sample}_DAPI.tif", "cell{sample}_Actin.tif",
    ),
    "by folder": ([f"{stain}/{n}.tif" for stain, n in product(("GFP", "Hoechst"), ("a", "b"))], "Hoechst/{sample}.tif", "GFP/{sample}.tif"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANNELS)
def test_channels_in_separate_files_are_a_question_with_the_nuclei_first(tmp_path, case):
    names, chosen, other = CHANNELS[case]
    write_pictures(tmp_path / "lab", names)
    datasets, questions, text = proposed(tmp_path / "lab")
    [section] = datasets.values()
    assert section["images"] == f"{tmp_path}/lab/{chosen}"
    assert other in text
    assert any("2 channels" in question.text and not question.is_open for question in questions)
    found = scan_images(section["images"], where="images", exclude=section.get("exclude", []))
    assert len(found) == len(names) // 2


def test_masks_decide_which_channel_is_meant(tmp_path):
    wells = [f"x_{well}_w{{}}.tif" for well in WELLS]
    write_pictures(tmp_path / "lab/images", [name.format(w) for name in wells for w in (1, 2)])
    write_labels(tmp_path / "lab/masks", [name.format(2) for name in wells])
    [section] = proposed(tmp_path / "lab")[0].values()
    assert section["images"].endswith("images/x_{well}_w2.tif")


ROLES = {
    "cell1": "image", "t000": "image", "mask000": "mask", "man_seg000": "mask", "man_track012": "mask",
    "cell1_mask": "mask", "cell1_cp_masks": "mask", "im000_mask1": "mask", "cell 1.labels": "mask",
    "cell1_Simple Segmentation": "mask", "cell1_Object Identities": "mask", "cell1_Probabilities": "by-product",
    "cell1_flows": "by-product", "x_A01_s1_thumb": "by-product", "unmasked": "image", "segment": "image",
    "cell1-labelled": "mask", "7masks": "mask", "gtest": "image",
}  # fmt: skip


@pytest.mark.parametrize("name", ROLES)
def test_a_name_suggests_a_role(name):
    assert role_of(name) == ROLES[name]


def test_the_end_of_a_mask_is_found_in_all_readings():
    assert mask_ends("cell1_cp_masks") == ["cell1_cp", "cell1"]
    assert mask_ends("cell1") == []


def test_letters_before_a_number_have_a_meaning_of_their_own_in_each_scheme():
    assert [meaning_of(key) for key in ("t", "s", "w", "ch", "z", "q")] == [
        "frame",
        "field",
        "channel",
        "channel",
        "z",
        "",
    ]
    assert meaning_of("W", among=("W", "F", "T", "Z", "C")) == "well"
    assert meaning_of("p", among=("r", "c", "f", "p")) == "z"


def test_a_meaning_is_given_to_one_column_only():
    names = [f"{well}_C{count}_F{blur}_s{site}_w1" for well, count, blur, site in
             (("A01", 1, 1, 6), ("A06", 23, 23, 2), ("P01", 70, 48, 9))]  # fmt: skip
    [table] = cut_names(names)
    assert [(table.columns[i].name, table.columns[i].meaning) for i in table.varying] == [
        ("well", "well"), ("channel", "channel"), ("f", ""), ("field", "field"),
    ]  # fmt: skip


def test_numbers_are_compared_without_leading_zeros():
    [table] = cut_names(["a_007", "a_012"])
    assert table.keys() == [("7",), ("12",)]
