"""The exported model: one file with weights, fit and settings."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from cellmill.exports.model_file import (
    MODEL_FORMAT,
    MODEL_SUFFIX,
    WEIGHTS,
    ModelDescription,
    ModelFileError,
    check_contents,
    export_model,
    read_description,
    read_fit,
)
from cellmill.models.weights import EXPORTED_NAME
from project import ROOT

FIT = '{"format": 2, "threshold": {"value": 0.4}}\n'
DESCRIPTION = ModelDescription(
    network={"architecture": "unet", "output": "foreground"},
    input={"frames": 1},
    preprocess={"channel": 0},
    predict={"batch": 4},
    postprocess={"search_images": 100},
)
# Contents of model.json as earlier versions of cellmill have written it
STORED = {
    "format": 2, "input": {"frames": 1}, "network": {"architecture": "unet", "output": "foreground"},
    "postprocess": {"search_images": 100}, "predict": {"batch": 4}, "preprocess": {"channel": 0},
}  # fmt: skip


def write_model(folder, content=b"weights"):
    (folder / "run.pt").write_bytes(content)
    path = folder / f"model{MODEL_SUFFIX}"
    export_model(path, weights_path=folder / "run.pt", postprocess_text=FIT, description=DESCRIPTION)
    return path


def write_archive(folder, **files):
    path = folder / f"other{MODEL_SUFFIX}"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return path


def test_what_is_written_is_read(tmp_path):
    path = write_model(tmp_path)
    assert read_description(path) == DESCRIPTION
    assert read_fit(path) == json.loads(FIT)


def test_the_bytes_of_an_exported_model_are_those_of_its_parts_in_order(tmp_path):
    """Built entry by entry, uncompressed, at the oldest time that a zip file can store."""
    with zipfile.ZipFile(tmp_path / "expected.zip", "w") as archive:
        text = json.dumps(STORED, indent=1) + "\n"
        for name, content in (("postprocess.json", FIT), ("model.json", text), ("weights.pt", b"weights")):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    assert write_model(tmp_path).read_bytes() == (tmp_path / "expected.zip").read_bytes()


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    assert read_description(write_archive(tmp_path, model_json=json.dumps(STORED))) == DESCRIPTION


def test_digests_of_images_are_stored_in_order_and_missing_in_earlier_files(tmp_path):
    (tmp_path / "run.pt").write_bytes(b"weights")
    path = tmp_path / "new.cellmill"
    described = replace(DESCRIPTION, training_images=["b", "a"])
    export_model(path, weights_path=tmp_path / "run.pt", postprocess_text=FIT, description=described)
    assert read_description(path).training_images == ("a", "b")
    with zipfile.ZipFile(path) as archive:  # an earlier version reads the sections that it knows
        assert json.loads(archive.read("model.json")) == {**STORED, "training_images": ["a", "b"]}
    assert read_description(write_archive(tmp_path, model_json=json.dumps(STORED))).training_images == ()


def test_a_sound_model_passes_the_check_of_its_contents(tmp_path):
    check_contents(write_model(tmp_path))


def test_a_changed_byte_is_found_before_the_weights_are_loaded(tmp_path):
    path = write_model(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"weights", b"wEights", 1))
    assert read_description(path) == DESCRIPTION
    with pytest.raises(ModelFileError, match=r"found a wrong checksum of weights\.pt\. Copy the file again"):
        check_contents(path)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_model_is_named_as_damaged(share, tmp_path):
    path = write_model(tmp_path, content=bytes(range(256)) * 8)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFileError, match=r"model\.cellmill: expected an exported model, found a damaged or diff"):
        check_contents(path)


def test_parts_that_are_missing_are_named(tmp_path):
    path = write_archive(tmp_path, model_json=json.dumps(STORED))
    with pytest.raises(ModelFileError, match=r"found no weights\.pt and no postprocess\.json in it\. Copy"):
        check_contents(path)


def test_a_fit_of_a_later_version_is_found_with_what_to_do(tmp_path):
    path = write_archive(
        tmp_path, model_json=json.dumps(STORED), postprocess_json='{"format": 7}', weights_pt="weights"
    )
    message = (
        r"expected a fit of format 2, found 7\. A later version of cellmill wrote this file\. Update cellmill, or run"
    )
    with pytest.raises(ModelFileError, match=message):
        check_contents(path)


def test_weights_are_read_by_the_name_under_which_they_are_written(tmp_path):
    assert EXPORTED_NAME == WEIGHTS
    with zipfile.ZipFile(write_model(tmp_path)) as archive:
        assert archive.read(EXPORTED_NAME) == b"weights"


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.cellmill"
    with pytest.raises(ValueError, match=r"none\.cellmill: expected an exported model, found no file\. Check the path"):
        read_description(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half an archive"])
def test_a_foreign_file_is_named(content, tmp_path):
    (tmp_path / "m.cellmill").write_bytes(content)
    message = r"m\.cellmill: expected an exported model, found a damaged or different file \(.*\)\. Use the model\.c"
    with pytest.raises(ValueError, match=message):
        read_description(tmp_path / "m.cellmill")


@pytest.mark.parametrize("files", [{"other_txt": ""}, {"model_json": "no JSON"}])
def test_an_archive_without_a_description_is_named(files, tmp_path):
    path = write_archive(tmp_path, **files)
    with pytest.raises(
        ValueError, match=r"other\.cellmill: expected an exported model, found a damaged or different file"
    ):
        read_description(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({**STORED, "format": 99}, r"found format 99\. A later version .*\. Update cellmill, or export"),
        ({**STORED, "format": 1}, r"found format 1\. An earlier version .*\. Export"),
        ([], r"found format None\. Another version .*\. Export"),
        (
            {key: value for key, value in STORED.items() if key != "input"},
            r"found format 2 without input\. .*\. Export",
        ),
    ],
)
def test_another_format_is_named_with_what_to_do(content, found, tmp_path):
    path = write_archive(tmp_path, model_json=json.dumps(content))
    message = rf"of format {MODEL_FORMAT}, which this cellmill reads, {found} the model again with this version\.$"
    with pytest.raises(ValueError, match=message):
        read_description(path)


def test_the_main_process_reads_the_description_without_torch():
    code = "import sys, cellmill.planning.make; assert 'torch' not in sys.modules"
    environment = {"PYTHONPATH": str(ROOT / "workflow")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
