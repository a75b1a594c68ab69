"""The sample table: samples from paths, annotations assigned to images, and messages where they do not fit."""

import pytest

from cellmill.planning.patterns import fill_pattern, find_files, fixed_folder, pattern_regex
from cellmill.planning.samples import (
    SampleError,
    dump_samples,
    load_samples,
    natural_key,
    scan_images,
)
from cellmill.planning.ties import attach_annotations


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def scan(root, pattern):
    return [sample for sample, _ in scan_images(f"{root}/{pattern}", where="datasets.x.images")]


def test_a_wildcard_stays_within_one_name():
    assert pattern_regex("a/{sample}.png").fullmatch("a/b/c.png") is None
    assert pattern_regex("a/{sample}.png").fullmatch("a/b c.png")["sample"] == "b c"


def test_a_repeated_wildcard_means_the_same_text():
    regex = pattern_regex("{sample}/images/{sample}.png")
    assert regex.fullmatch("x/images/x.png")
    assert regex.fullmatch("x/images/y.png") is None


@pytest.mark.parametrize("name", ["a b.png", "a'b.png", "100%.png", "größe.png", "-dash.png", "a[1].png", "a?b.png"])
def test_odd_names_are_found_and_filled_as_they_are(tmp_path, name):
    touch(tmp_path, f"in/{name}", f"out/{name}")
    [(path, values)] = find_files(f"{tmp_path}/in/{{sample}}.png")
    assert path == f"{tmp_path}/in/{name}"
    assert fill_pattern(f"{tmp_path}/out/{{sample}}.png", values) == f"{tmp_path}/out/{name}"
    found = scan_images(f"{tmp_path}/in/{{sample}}.png", where="x")
    [sample] = attach_annotations(found, path=f"{tmp_path}/out/{{sample}}.*", many=False, where="x").samples
    assert sample.annotations == [f"{tmp_path}/out/{name}"]


def test_samples_are_named_by_the_wildcard_the_stem_or_sequence_and_frame(tmp_path):
    touch(tmp_path, "a/id1/images/x.png", "b/y.ome.tif", "c/01/t002.tif")
    assert scan(tmp_path, "a/{sample}/images/*.png")[0].sample == "id1"
    assert scan(tmp_path, "b/*.tif")[0].sample == "y"
    frame = scan(tmp_path, "c/{sequence}/t{frame}.tif")[0]
    assert (frame.sample, frame.sequence, frame.frame) == ("01_002", "01", 2)


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
    touch(tmp_path, "t1.tif", "t10.tif", "t2.tif")
    assert [sample.frame for sample in scan(tmp_path, "t{frame}.tif")] == [1, 2, 10]
    assert sorted(["t10", "t2", "t1"], key=natural_key) == ["t1", "t2", "t10"]


def test_a_missing_folder_is_named_with_what_lies_beside_it(tmp_path):
    touch(tmp_path, "data/x.png")
    with pytest.raises(SampleError, match=r"expected a folder .*/daten, found none.*contains data/"):
        scan(tmp_path, "daten/{sample}.png")


def test_a_pattern_that_matches_nothing_says_what_is_there(tmp_path):
    touch(tmp_path, "x.PNG")
    with pytest.raises(SampleError, match=r"expected files that match .*, found none\. .* contains x\.PNG"):
        scan(tmp_path, "{sample}.png")


def test_two_images_of_one_sample_are_a_mistake(tmp_path):
    touch(tmp_path, "a/1.png", "a/2.png")
    with pytest.raises(SampleError, match=r"expected one image per sample, found .*1\.png and .*2\.png for 'a'"):
        scan(tmp_path, "{sample}/*.png")


def test_a_name_with_a_control_character_is_refused(tmp_path):
    touch(tmp_path, "a\nb.png")
    with pytest.raises(SampleError, match="contains a character that paths must not contain"):
        scan(tmp_path, "{sample}.png")


def test_mask_folders_tie_many_files_to_an_image(tmp_path):
    touch(tmp_path, "a/images/a.png", "a/masks/1.png", "a/masks/2.png", "b/images/b.png")
    found = scan_images(f"{tmp_path}/{{sample}}/images/*.png", where="x")
    samples = attach_annotations(found, path=f"{tmp_path}/{{sample}}/masks/*.png", many=True, where="x").samples
    assert [len(sample.annotations) for sample in samples] == [2, 0]


def test_several_label_images_for_one_image_are_a_mistake(tmp_path):
    touch(tmp_path, "a.png", "l/a_1.tif", "l/a_2.tif")
    found = scan_images(f"{tmp_path}/{{sample}}.png", where="x")
    with pytest.raises(SampleError, match="expected one file for 'a', found 2"):
        attach_annotations(found, path=f"{tmp_path}/l/{{sample}}_*.tif", many=False, where="x")


def test_an_annotation_wildcard_that_no_image_has_is_a_mistake(tmp_path):
    touch(tmp_path, "a.png")
    found = scan_images(f"{tmp_path}/{{sample}}.png", where="x")
    with pytest.raises(SampleError, match=r"found \{well\}, which their paths do not contain"):
        attach_annotations(found, path="l/{well}.tif", many=False, where="x")


def test_the_fixed_part_of_a_pattern_is_the_folder_a_person_expects():
    assert fixed_folder("data/x*/{sample}.png").as_posix() == "data"
    assert fixed_folder("{sample}.png").as_posix() == "."


def test_a_table_survives_freezing(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    samples = scan(tmp_path, "{sample}.png")
    assert load_samples(dump_samples(samples)) == samples
