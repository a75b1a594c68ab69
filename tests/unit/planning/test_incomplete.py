"""Folders that lost files are found by their manifest; folders that were never written are not."""

import shutil

import pytest
import yaml

from cellmill.planning.incomplete import find_incomplete
from cellmill.planning.make import make_plan
from cellmill.shards import seal_path, shard_folder
from project import ROOT

RUN = "sartorius_unet"


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    return make_plan(config, presets_dir=ROOT / "resources/models", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def root(plan, tmp_path):
    """Results in which every shard folder of the demo is whole."""
    demo = tmp_path / "results/demo"
    for shard in plan.shards("demo"):
        for room in ("raw", "images", "labels", f"{RUN}/probabilities", f"{RUN}/segmentation"):
            with shard_folder(demo / room / shard) as folder:
                (folder / "images").mkdir()
                for name in ("a.tif", "b.tif", "table.csv", "images/a.tif"):
                    (folder / name).write_text(f"{name} of {room}/{shard}")
    rows = "".join(f"{row.sample},{row.shard}\n" for row in plan.samples["demo"])
    (demo / "samples.csv").write_text(f"sample,shard\n{rows}")
    return tmp_path


def found(plan, root, **keywords):
    return [
        {(entry.folder, entry.finding) for entry in level} for level in find_incomplete(plan, root=root, **keywords)
    ]


def test_whole_folders_are_no_finding_whatever_else_lies_in_them(plan, root):
    (root / "results/demo/images/test-0000/Thumbs.db").write_text("x")
    assert found(plan, root) == [set(), set(), set(), set()]
    assert found(plan, root, contents=True) == [set(), set(), set(), set()]


def test_deleted_and_truncated_files_are_found_and_each_folder_has_its_level(plan, root):
    demo = root / "results/demo"
    for name in ("a.tif", "b.tif"):
        (demo / "images/train-0000" / name).unlink()
    (demo / "raw/test-0000/images/a.tif").unlink()
    (demo / "labels/train-0000/a.tif").write_text("short")
    (demo / RUN / "probabilities/test-0000/versions.json").unlink()
    for path in (demo / RUN / "segmentation/test-0000").glob("*.tif"):
        path.unlink()
    where = f"results/demo/{RUN}"
    assert found(plan, root) == [
        {("results/demo/raw/test-0000", "1 file is missing or of another size (images/a.tif)")},
        {
            ("results/demo/images/train-0000", "2 files are missing or of another size (a.tif, b.tif)"),
            ("results/demo/labels/train-0000", "1 file is missing or of another size (a.tif)"),
        },
        {(f"{where}/probabilities/test-0000", "1 file is missing or of another size (versions.json)")},
        {(f"{where}/segmentation/test-0000", "2 files are missing or of another size (a.tif, b.tif)")},
    ]


@pytest.mark.parametrize("name", ["manifest.json", "sizes.json", "the seal", "the folder"])
def test_what_states_that_a_folder_is_whole_is_itself_checked(plan, root, name):
    folder = root / "results/demo/images/test-0000"
    if name == "the folder":
        shutil.rmtree(folder)
    elif name == "the seal":
        seal_path(folder).unlink()
    else:
        (folder / name).unlink()
    assert [entry for level in found(plan, root) for entry, _ in level] == ["results/demo/images/test-0000"]


@pytest.mark.parametrize("name", ["manifest.json", "sizes.json"])
def test_a_manifest_that_does_not_belong_to_the_seal_is_found(plan, root, name):
    path = root / "results/demo/labels/test-0000" / name
    path.write_text(path.read_text()[:10])
    assert found(plan, root)[1] == {("results/demo/labels/test-0000", "its manifest is not the sealed one")}


def test_changed_content_of_the_same_size_is_found_on_request(plan, root):
    path = root / f"results/demo/{RUN}/segmentation/test-0000/a.tif"
    path.write_text(path.read_text().swapcase())
    assert not any(found(plan, root))
    assert found(plan, root, contents=True)[3] == {
        (f"results/demo/{RUN}/segmentation/test-0000", "1 file is changed (a.tif)")
    }


def test_a_folder_that_is_gone_with_its_seal_counts_only_if_something_was_made_from_it(plan, root):
    demo = root / "results/demo"
    shutil.rmtree(demo / "images")
    gone = {f"results/demo/images/{shard}" for shard in plan.shards("demo")}
    assert {folder for folder, _ in found(plan, root)[1]} == gone
    shutil.rmtree(demo / RUN)
    assert not any(found(plan, root))


def test_a_shard_that_no_earlier_run_planned_is_not_gone(plan, root):
    demo = root / "results/demo"
    shutil.rmtree(demo / "images")
    (demo / "samples.csv").write_text("sample,shard\na,train-9999\n")
    assert not any(found(plan, root))
    (demo / "samples.csv").unlink()
    assert not any(found(plan, root))


def test_folders_of_versions_without_sizes_are_compared_by_name(plan, root):
    folder = root / "results/demo/images/test-0000"
    (folder / "sizes.json").unlink()
    first, _ = seal_path(folder).read_text().splitlines()
    seal_path(folder).write_text(f"{first}\n")
    (folder / "a.tif").write_text("other")
    assert not any(found(plan, root))
    (folder / "a.tif").unlink()
    assert found(plan, root)[1] == {
        (f"results/demo/images/{folder.name}", "1 file is missing or of another size (a.tif)")
    }
