"""Annotation files and images: ties by whole names, by number, by time and in any Unicode form; shifts are named."""

import unicodedata
from pathlib import Path

import pytest

from cellmill.planning.frame_numbers import find_shift, frame_number, number_names, shift_last_number
from cellmill.planning.samples import SampleError, explain_names, scan_images
from cellmill.planning.ties import attach_annotations, attach_extra


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def attach(root, images, path, *, many=True, **options):
    found = scan_images(f"{root}/{images}", where="x.images")
    return attach_annotations(found, path=f"{root}/{path}", many=many, where="x.path", **options)


def tied(root, images, path, **options):
    """Return sample -> names of its annotation files."""
    attached = attach(root, images, path, **options)
    return {sample.sample: [Path(file).name for file in sample.annotations] for sample in attached.samples}


# ---- names -----------------------------------------------------------------------------------------------


def test_a_file_belongs_to_the_image_with_the_longest_name(tmp_path):
    touch(tmp_path, *(f"i/DSC_{n}.png" for n in (1, 10, 11)))
    touch(tmp_path, *(f"m/DSC_{n}_mask_{k}.png" for n in (1, 10, 11) for k in (1, 2, 10)))
    found = tied(tmp_path, "i/{sample}.png", "m/{sample}*.png")
    assert found == {f"DSC_{n}": sorted(f"DSC_{n}_mask_{k}.png" for k in (1, 2, 10)) for n in (1, 10, 11)}


def test_a_name_inside_another_name_takes_none_of_its_files(tmp_path):
    touch(tmp_path, "i/well.png", "i/well_A.png", "m/well_1.png", "m/well_A_1.png", "m/well_A_2.png")
    found = tied(tmp_path, "i/{sample}.png", "m/{sample}_*.png")
    assert found == {"well": ["well_1.png"], "well_A": ["well_A_1.png", "well_A_2.png"]}


def test_files_of_a_missing_image_are_not_given_to_another(tmp_path):
    touch(tmp_path, "i/DSC_1.png", "m/DSC_1_mask_1.png", "m/DSC_10_mask_1.png", "m/DSC_12_mask_1.png")
    attached = attach(tmp_path, "i/{sample}.png", "m/{sample}*.png")
    assert [Path(file).name for file in attached.samples[0].annotations] == ["DSC_1_mask_1.png"]
    assert "2 annotation files belong to no image" in attached.remarks[0]
    assert [Path(file).name for file in attached.orphans] == ["DSC_10_mask_1.png", "DSC_12_mask_1.png"]


def test_a_star_before_a_name_is_read_in_the_same_way(tmp_path):
    touch(tmp_path, "i/1.png", "i/11.png", "m/a_1.png", "m/a_11.png", "m/b_11.png", "m/c_21.png")
    found = tied(tmp_path, "i/{sample}.png", "m/*{sample}.png")
    assert found == {"1": ["a_1.png"], "11": ["a_11.png", "b_11.png"]}


def test_a_word_is_not_continued_where_other_files_have_a_separator(tmp_path):
    touch(tmp_path, "i/ab.png", "m/ab_1.png", "m/abc_1.png")
    assert tied(tmp_path, "i/{sample}.png", "m/{sample}*.png") == {"ab": ["ab_1.png"]}
    touch(tmp_path, "n/ab1.png", "n/abmask.png")
    assert tied(tmp_path, "i/{sample}.png", "n/{sample}*.png") == {"ab": ["ab1.png", "abmask.png"]}


def test_a_file_that_fits_two_images_equally_names_both(tmp_path):
    touch(tmp_path, "i/a.png", "i/b.png", "m/1.png")
    with pytest.raises(SampleError, match=r"found .*/m/1\.png, which fits 'a' and 'b' equally\. Add \{sample\} to"):
        attach(tmp_path, "i/{sample}.png", "m/*.png")
    touch(tmp_path, "j/A_B.png", "j/B_A.png", "k/A_B_A.png")
    with pytest.raises(SampleError, match=r"which fits 'A_B' and 'B_A' equally"):
        attach(tmp_path, "j/{sample}.png", "k/*{sample}*.png")


def test_masks_of_a_sequence_are_not_given_to_each_of_its_frames(tmp_path):
    touch(tmp_path, "s/t1.png", "s/t2.png", "m/s_1.png")
    with pytest.raises(SampleError, match=r"fits 's_1' and 's_2' equally\. Add \{frame\} to the pattern"):
        attach(tmp_path, "{sequence}/t{frame}.png", "m/{sequence}_*.png")


def test_channels_of_a_field_may_share_its_annotation(tmp_path):
    touch(tmp_path, "i/f1_c0.png", "i/f1_c1.png", "m/f1.png")
    found = tied(tmp_path, "i/{field}_c{channel}.png", "m/{field}.png", many=False)
    assert found == {"f1_c0": ["f1.png"], "f1_c1": ["f1.png"]}


def test_a_mask_of_ignored_pixels_may_be_shared_by_all_images(tmp_path):
    touch(tmp_path, "i/a.png", "i/b.png", "scale_bar.png")
    found = scan_images(f"{tmp_path}/i/{{sample}}.png", where="x")
    samples = attach_extra(
        [sample for sample, _ in found], found, name="ignore", path=f"{tmp_path}/scale_bar.png", where="x"
    )
    assert len({sample.extra["ignore"] for sample in samples}) == 1


# ---- folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["{well}/{sample}.png", "{well}/{field}.png", "{well}/*.png"])
def test_equal_names_in_folders_get_the_names_of_the_folders(tmp_path, pattern):
    touch(tmp_path, "A/001.png", "A/002.png", "B/001.png")
    found = scan_images(f"{tmp_path}/{pattern}", where="x.images")
    assert [sample.sample for sample, _ in found] == ["A_001", "A_002", "B_001"]
    [remark] = explain_names(found, where="x.images")
    assert remark.startswith("x.images: files in different folders have the same name")
    assert f"such as A_001 for {tmp_path}/A/001.png" in remark


def test_names_that_differ_stay_as_they_are(tmp_path):
    touch(tmp_path, "A/001.png", "B/002.png")
    found = scan_images(f"{tmp_path}/{{well}}/{{sample}}.png", where="x.images")
    assert [sample.sample for sample, _ in found] == ["001", "002"]
    assert explain_names(found, where="x.images") == []


def test_equal_names_under_a_star_need_a_wildcard(tmp_path):
    touch(tmp_path, "A/001.png", "B/001.png")
    advice = {"*/{sample}.png": r"in place of each \* in", "**/{sample}.png": r"for each folder in place of \*\*"}
    for pattern, words in advice.items():
        with pytest.raises(SampleError, match=rf"Write a wildcard such as \{{folder\}} {words}"):
            scan_images(f"{tmp_path}/{pattern}", where="x.images")


def test_many_equal_names_are_one_message(tmp_path):
    touch(tmp_path, *(f"{folder}/{number}.png" for folder in ("a", "a/b", "c/d/e") for number in range(30)))
    with pytest.raises(SampleError, match=r"a/0\.png and .*a/b/0\.png for '0' \(as for 29 more\)") as error:
        scan_images(f"{tmp_path}/**/{{sample}}.png", where="x.images")
    assert len(error.value.mistakes) == 1


def test_annotations_of_equal_names_are_tied_by_folder_or_by_the_long_name(tmp_path):
    touch(tmp_path, "i/A/1.png", "i/B/1.png", "m/A/1.tif", "m/B/1.tif", "n/A_1.tif", "n/B_1.tif", "o/1.tif")
    images = "i/{well}/{sample}.png"
    assert [sample.annotations[0][-7:] for sample in attach(tmp_path, images, "m/{well}/{sample}.tif").samples] == [
        "A/1.tif", "B/1.tif",
    ]  # fmt: skip
    assert tied(tmp_path, images, "n/{sample}.tif") == {"A_1": ["A_1.tif"], "B_1": ["B_1.tif"]}
    with pytest.raises(
        SampleError, match=r"o/1\.tif, which fits 'A_1' and 'B_1' equally\. Add \{well\} to the pattern"
    ):
        attach(tmp_path, images, "o/{sample}.tif")


# ---- Unicode ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("own", "other"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("pattern", ["m/{sample}.png", "m/{sample}_*.png"])
def test_names_in_another_unicode_form_are_tied(tmp_path, own, other, pattern):
    name = "Zählung_é"
    touch(tmp_path, f"i/{unicodedata.normalize(own, name)}.png")
    mask = pattern.replace("{sample}", unicodedata.normalize(other, name)).replace("*", "1")
    touch(tmp_path, mask)
    attached = attach(tmp_path, "i/{sample}.png", pattern)
    assert attached.samples[0].annotations == [f"{tmp_path}/{mask}"]
    assert "1 names of images and annotation files agree in another Unicode form only" in attached.remarks[0]


# ---- numbers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "path", "numbers"),
    [
        ("i/t{frame}.tif", "m/mask{frame}.tif", (range(1, 13), range(12))),
        ("i/t{frame}.tif", "m/mask{frame}.tif", (range(12), range(1, 13))),
        ("i/{sequence}_t{frame}.tif", "m/{sequence}_m{frame}.tif", (range(5), range(3, 8))),
        ("i/{sample}.tif", "m/{sample}.tif", (range(1, 13), range(12))),
        ("i/{sample}.tif", "m/{sample}_*.tif", (range(1, 4), range(3))),
        ("i/{sample}.tif", "m/{sample}*.tif", (range(1, 4), range(3))),
    ],
)
def test_numbers_that_are_all_shifted_are_named_and_can_be_tied(tmp_path, images, path, numbers):
    own, others = numbers
    shift = others[0] - own[0]

    def file(pattern, number):
        text = pattern.replace("{sequence}", "s").replace("{frame}", f"{number:03d}")
        return text.replace("{sample}", f"img_{number:03d}").replace("*", "c1")

    touch(tmp_path, *(file(images, number) for number in own), *(file(path, number) for number in others))
    with pytest.raises(SampleError, match=rf"but shifted by {shift}\. Set annotations\.frame_offset: {shift} if image"):
        attach(tmp_path, images, path)
    attached = attach(tmp_path, images, path, frame_offset=shift)
    for number, sample in zip(own, attached.samples, strict=True):
        assert sample.annotations == [f"{tmp_path}/{file(path, number + shift)}"]
    assert attached.orphans == []
    equal = attach(tmp_path, images, path, frame_offset=0)
    assert len(equal.orphans) == abs(shift)


@pytest.mark.parametrize(
    "masks",
    [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3],
        [5, 6, 7, 8, 9],
        [0, 2, 4, 6, 8],
        [2, 3, 4, 5, 6, 7, 8, 9, 11],
        list(range(20)),
        [3],
    ],
    ids=str,
)
def test_missing_masks_are_no_shift(tmp_path, masks):
    touch(tmp_path, *(f"i/t{number:02d}.tif" for number in range(10)), *(f"m/m{number:02d}.tif" for number in masks))
    for pattern in ("t{frame}.tif", "{sample}.tif"):
        path = "m/m{frame}.tif" if "frame" in pattern else "m/{sample}.tif"
        attach(tmp_path, f"i/{pattern}", path)


def test_each_sequence_is_compared_with_its_own_masks(tmp_path):
    touch(tmp_path, *(f"i/{s}/t{n}.tif" for s in "ab" for n in (1, 2, 3)))
    touch(tmp_path, *(f"m/a/m{n}.tif" for n in (1, 2, 3)), *(f"m/b/m{n}.tif" for n in (0, 1, 2)))
    with pytest.raises(SampleError, match="found images 1 to 3 and files 0 to 2"):
        attach(tmp_path, "i/{sequence}/t{frame}.tif", "m/{sequence}/m{frame}.tif")


@pytest.mark.parametrize(("images", "masks"), [((1, 2, 3, 4, 5), (0, 1, 4)), ((0, 1, 2, 3), (1, 4))])
def test_a_shift_by_one_is_named_although_masks_are_missing(tmp_path, images, masks):
    touch(tmp_path, *(f"i/t{n}.tif" for n in images), *(f"m/m{n}.tif" for n in masks))
    shift = masks[0] - images[0]
    with pytest.raises(SampleError, match=rf"of .*m\{{frame\}}\.tif: shifted by {shift}\. Set annotations"):
        attach(tmp_path, "i/t{frame}.tif", "m/m{frame}.tif")
    attached = attach(tmp_path, "i/t{frame}.tif", "m/m{frame}.tif", frame_offset=shift)
    assert sum(bool(sample.annotations) for sample in attached.samples) == len(masks)
    assert attached.orphans == []


def test_the_shift_of_one_sequence_is_not_advised_for_all(tmp_path):
    touch(tmp_path, *(f"i/{s}/t{n}.tif" for s in "abc" for n in (0, 1, 2)))
    touch(tmp_path, *(f"m/{s}/m{n + (s == 'b')}.tif" for s in "abc" for n in (0, 1, 2)))
    with pytest.raises(SampleError, match=r"shifted by 1 in b \(1 of 3 sequences") as error:
        attach(tmp_path, "i/{sequence}/t{frame}.tif", "m/{sequence}/m{frame}.tif")
    assert "frame_offset: 1" not in str(error.value)


def test_a_shift_is_found_between_ranges_of_equal_length_only():
    assert find_shift([1, 2, 3], [0, 1, 2]) == -1
    assert find_shift([1, 2, 3], [1, 2, 3]) is None
    assert find_shift([1, 2, 3], [0, 1]) is None
    assert find_shift([1, 2, 4], [0, 1, 3]) is None
    assert find_shift([1], [0]) is None


def test_the_last_number_of_a_name_is_shifted_with_its_zeros():
    assert shift_last_number("plate2_010.x", -1) == "plate2_009.x"
    assert shift_last_number("img_9", 1) == "img_10"
    assert shift_last_number("img_0", -1) is None
    assert shift_last_number("img", 1) is None


def test_names_that_differ_in_one_number_are_collected():
    found = number_names([("p1_w1", ""), ("p1_w2", ""), ("p2_w1", "")], numbers=None)
    assert {frozenset(numbers) for numbers in found.values()} == {frozenset({1, 2}), frozenset({1})}


# ---- times -----------------------------------------------------------------------------------------------


def test_times_are_frames_in_the_order_of_time(tmp_path):
    times = ["00d00h00m", "00d06h30m", "00d10h00m", "01d02h00m", "10d00h00m"]
    touch(tmp_path, *(f"i/A1_{time}.tif" for time in times), *(f"m/A1_{time}.png" for time in times))
    attached = attach(tmp_path, "i/{sequence}_{frame}.tif", "m/{sequence}_{frame}.png", many=False)
    rows = sorted(attached.samples, key=lambda sample: sample.frame)
    assert [row.frame for row in rows] == [0, 390, 600, 1560, 14400]
    assert [Path(row.annotations[0]).stem for row in rows] == [f"A1_{time}" for time in times]


def test_a_text_that_is_no_time_has_its_first_number():
    assert [frame_number(text) for text in ("t007", "12", "6h", "2d_5", "1h30m", "0h0m10s", "x")] == [
        7, 12, 6, 2, 90, 10, None,
    ]  # fmt: skip


def test_times_with_and_without_seconds_are_not_mixed(tmp_path):
    touch(tmp_path, "a_00h10m.tif", "a_00h10m30s.tif")
    with pytest.raises(SampleError, match=r"expected frames in one unit, found 00h10m30s \(seconds\) and 00h10m"):
        scan_images(f"{tmp_path}/a_{{frame}}.tif", where="x")
