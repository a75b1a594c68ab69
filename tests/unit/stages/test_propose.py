"""The stage writes a new file, names what is open and what to run next, and refuses bad folders with one message."""

import logging
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from cellmill.stages.propose import propose_config
from lab_folders import write_labels, write_pictures
from rights import file_modes_count

NAMES = ("ant.tif", "bee.tif", "cow.tif")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "data/plate 1", NAMES)
    return tmp_path


def test_the_config_is_named_like_the_folder_and_says_what_to_run_next(lab, caplog):
    with caplog.at_level(logging.INFO):
        propose_config(look="data/plate 1", write=None)
    text = (lab / "plate 1.yaml").read_text()
    assert yaml.safe_load(text) == {"datasets": {"plate_1": {"images": "data/plate 1/{sample}.tif"}}}
    assert "# Next: snakemake check --configfile 'plate 1.yaml'" in text
    assert caplog.messages[0] == "Wrote plate 1.yaml"
    assert caplog.messages[1] == "  plate_1: 3 images, no annotations"
    assert "(optional): What is the side of a pixel in um?" in caplog.messages[2]
    assert caplog.messages[-1] == "Next: snakemake check --configfile 'plate 1.yaml'"
    assert all(record.progress for record in caplog.records)


def test_paths_begin_with_the_folder_as_it_was_given(lab, monkeypatch):
    monkeypatch.chdir(lab / "data/plate 1")
    propose_config(look=".", write="here.yaml")
    assert yaml.safe_load(Path("here.yaml").read_text())["datasets"]["plate_1"]["images"] == "{sample}.tif"
    propose_config(look=f"{lab}/data/plate 1/", write="whole.yaml")
    assert (
        yaml.safe_load(Path("whole.yaml").read_text())["datasets"]["plate_1"]["images"]
        == f"{lab}/data/plate 1/{{sample}}.tif"
    )


def test_an_open_question_is_named_with_its_line(lab, caplog):
    write_pictures(lab / "classes/images", NAMES)
    write_labels(lab / "classes/masks", NAMES)
    for name in NAMES:
        mask_yx = tifffile.imread(lab / "classes/masks" / name)
        tifffile.imwrite(lab / "classes/masks" / name, ((mask_yx > 0) + 1).astype(np.uint8))
    with caplog.at_level(logging.INFO):
        propose_config(look="classes", write=None)
    lines = (lab / "classes.yaml").read_text().splitlines()
    [asked] = [message for message in caplog.messages if "needs an answer" in message]
    number = int(asked.split("line ")[1].split(" ")[0])
    assert lines[number - 1].strip() == "# QUESTION: Which number are the objects?"
    assert caplog.messages[-1].startswith("Next: answer the questions that need it, then snakemake check")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_an_existing_file_is_never_overwritten(lab, kind):
    path = lab / "plate 1.yaml"
    if kind == "file":
        path.write_text("mine")
    else:
        path.symlink_to("elsewhere.yaml")
    with pytest.raises(ValueError, match=r"plate 1.yaml: expected a new file, found one that exists, which is never"):
        propose_config(look="data/plate 1", write=None)
    assert not (lab / "elsewhere.yaml").exists()
    assert kind == "link" or path.read_text() == "mine"


def test_a_folder_for_the_config_has_to_be_there(lab):
    with pytest.raises(ValueError, match=r"configs/a.yaml: expected to write a new config, found: No such file"):
        propose_config(look="data/plate 1", write="configs/a.yaml")


def test_bad_folders_are_refused_with_one_message(lab):
    (lab / "empty").mkdir()
    (lab / "tables").mkdir()
    (lab / "tables/a.csv").write_text("a,b\n1,2\n")
    (lab / "tables/readme").write_text("")
    (lab / "{x}").mkdir()
    (lab / "broken").mkdir()
    (lab / "broken/a.tif").write_bytes(b"II*\0 and then nothing")
    cases = {
        None: r"expected a folder with images, found none. Run snakemake propose --config look=FOLDER.",
        "data/plate1": r"look: expected a folder data/plate1, found none. Set the folder",
        "data/plate 1/ant.tif": r"look: expected a folder data/plate 1/ant.tif, found a file.",
        "empty": r"look: expected images in empty, found no file. Check the path.",
        "tables": r"look: expected images in tables, found 2 files of other kinds \(\.csv\)\. docs/inputs.md lists",
        "{x}": r"look: expected a folder without braces in its path, found \{x\}.",
        "broken": r"look: expected images that can be read in broken, found none. The first is broken/a.tif: expected a",
    }
    for folder, message in cases.items():
        with pytest.raises(ValueError, match=message):
            propose_config(look=folder, write="new.yaml")
    assert not (lab / "new.yaml").exists()


def test_a_folder_without_permission_is_refused(lab):
    (lab / "data").chmod(0)
    try:
        with file_modes_count(), pytest.raises(ValueError, match=r"expected a readable folder data, found: Permission"):
            propose_config(look="data", write=None)
    finally:
        (lab / "data").chmod(0o755)


def test_one_unreadable_image_among_others_is_a_comment(lab):
    (lab / "data/plate 1/ant.tif").write_bytes(b"")
    propose_config(look="data/plate 1", write="a.yaml")
    assert (
        "# Not readable: data/plate 1/ant.tif: expected TIFF because of the suffix, found an empty file."
        in " ".join(line.strip() for line in (lab / "a.yaml").read_text().splitlines())
    )


def test_hidden_files_results_and_loops_of_links_are_left_out(lab):
    folder = lab / "data/plate 1"
    for name in (".snakemake/a.tif", "results/x/labels/a.tif", "Thumbs.db", ".hidden.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (folder / "loop").symlink_to(folder)
    propose_config(look="data/plate 1", write="a.yaml")
    assert yaml.safe_load((lab / "a.yaml").read_text())["datasets"] == {
        "plate_1": {"images": "data/plate 1/{sample}.tif"}
    }
