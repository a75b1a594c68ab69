"""Named cases of bad input: each yields its message word for word, without traceback, partial files or results."""

import json
import os
import re
import typing
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest

from cellmill.config.annotations import Annotations
from cellmill.config.errors import ConfigError
from cellmill.images.files import read_plane
from cellmill.images.png_jpeg import KIND_OF_SUFFIX, STORE
from cellmill.images.rasters import open_raster
from cellmill.planning.make import make_plan
from cellmill.planning.plan import Plan
from cellmill.planning.settings import job_settings
from cellmill.stages.check_shard import check_shard
from cellmill.stages.preprocess import preprocess_shard
from cellmill.stages.rasterize import rasterize_shard
from generate.inputs import COMMAND, IMAGE_FORMATS, PAGE, inputs_page
from pipeline.bad_inputs.cases import SAMPLES, Case, images, pixels, put, put_tiff
from pipeline.bad_inputs.every import CASES
from project import GUARD_S, ROOT, copy_project, snakemake, write_config
from rights import file_modes_count

PRESETS = ROOT / "resources/models"
# Guard against hangs: a case takes a second or two on an idle machine.
SECONDS = 60
FOLDER = "data"
pytestmark = pytest.mark.timeout(GUARD_S)


def matches(message: str, text: str) -> bool:
    """Return whether a text is the message word for word, apart from text of libraries (<...>)."""
    return re.fullmatch(pattern_of(message), text) is not None


def pattern_of(message: str) -> str:
    return "[^\n]*?".join(map(re.escape, message.split("<...>")))


def rights_of(case: Case) -> AbstractContextManager[None]:
    """Return the context in which a case is judged: where it is about rights, root has those of its files' modes."""
    return file_modes_count() if case.needs_rights else nullcontext()


def planned(case: Case) -> Plan:
    """Write the files of a case below the working directory and return the plan."""
    section = case.make(Path(FOLDER) / case.name)
    return make_plan({**case.top, "datasets": {case.name: section}}, presets_dir=PRESETS, cache_dir=Path("cache"))


def of_stage(stage: str) -> list[Case]:
    return [case for case in CASES if case.when == stage]


@pytest.fixture
def workplace(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("case", of_stage("plan"), ids=lambda case: case.name)
def test_a_mistake_of_the_plan_is_said_word_for_word(workplace, case):
    with pytest.raises(ConfigError) as caught, rights_of(case):
        planned(case)
    expected = case.expected(f"{FOLDER}/{case.name}")
    mistake, *others = caught.value.mistakes
    assert matches(expected, mistake), f"\nexpected {expected}\nfound    {mistake}"
    assert len(others) == case.followers


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("case", of_stage("check"), ids=lambda case: case.name)
def test_a_mistake_in_a_file_is_said_word_for_word_by_every_stage_that_reads_it(workplace, case):
    plan = planned(case)
    shard = shard_of(case, plan)
    output = workplace / "out"
    words = {"dataset": case.name, "shard": shard}
    jobs = {
        "check": lambda: check_shard(output_path=output / "c.json", **job_settings(plan, "check_shard", **words)),
        "preprocess": lambda: preprocess_shard(output_dir=output / "p", **job_settings(plan, "preprocess", **words)),
        "rasterize": lambda: rasterize_shard(output_dir=output / "r", **job_settings(plan, "rasterize", **words)),
    }
    with rights_of(case):
        said = {stage: failure(job) for stage, job in jobs.items()}
    assert not list(output.rglob("*partial*"))
    assert not list(output.glob("c*"))
    assert not (said["preprocess"] and (output / "p").exists())
    assert not (said["rasterize"] and (output / "r").exists())
    expected = case.expected(f"{FOLDER}/{case.name}")
    for stage, line in said.items():
        assert line == "" or matches(expected, line), f"{stage}\nexpected {expected}\nfound    {line}"
    assert said["check"]
    assert case.is_judged_by_check_only or said["preprocess"] or said["rasterize"], "only the check refuses it"


def failure(job: Callable[[], None]) -> str:
    """Return the only message with which a job fails ("" if it succeeds), without the line that counts messages."""
    try:
        job()
    except ValueError as error:
        # every plane of a stack reports the same error for its file
        [line] = {
            line.strip() for line in str(error).splitlines() if not re.match(r"\d+ problems? with the \w+:", line)
        }
        return line
    return ""


def shard_of(case: Case, plan: Plan) -> str:
    """Return the shard that fails."""
    return next(row.shard for row in plan.samples[case.name] if row.sample.startswith(case.spoilt))


def test_every_message_says_where_what_was_expected_what_was_found_and_what_to_do():
    for case in CASES:
        message = case.expected("data")
        place, _, rest = message.partition(": ")
        assert place.startswith(("data/", "sample ", f"datasets.{case.name}", "seed")), message
        if "unknown " not in message:
            assert "expected " in rest, message
            assert re.search("found[ :]", rest), message
        # a separate sentence at the end: an instruction, or the available choices
        assert re.search(r"[.?)] [A-Z`].*\.$", rest), message


def test_cases_have_names_of_their_own():
    assert len({case.name for case in CASES}) == len(CASES) >= 70


# ---- the real pipeline -----------------------------------------------------------------------------------


def shown(case: Case, text: str) -> bool:
    """Return whether a message is on the terminal, at the end of a line."""
    pattern = pattern_of(case.expected(f"{FOLDER}/{case.name}"))
    return re.search(rf"(?:^|[-:\] ] ){pattern}$", text, re.MULTILINE) is not None


def made(project: Path, cases: list[Case], monkeypatch) -> dict:
    """Write the files of all cases in a project and return a config that contains them."""
    monkeypatch.chdir(project)
    config = {"datasets": {case.name: case.make(Path(FOLDER) / case.name) for case in cases}}
    for case in cases:
        config |= case.top
    return config


def runnable(stage: str) -> list[Case]:
    return [case for case in of_stage(stage) if not (case.needs_rights and os.geteuid() == 0)]


def test_all_mistakes_of_all_plans_are_said_at_once_and_nothing_starts(tmp_path, monkeypatch):
    project = copy_project(tmp_path / "project")
    cases = [case for case in runnable("plan") if not case.is_judged_last]
    name = write_config(project, made(project, cases, monkeypatch))
    finished = snakemake(project, "--configfile", name, "--cores", "2", check=False)
    text = finished.stdout + finished.stderr
    assert finished.returncode == 1
    assert "Traceback" not in text
    assert [case.name for case in cases if not shown(case, text)] == []
    mistakes = len(cases) + sum(case.followers for case in cases)
    assert f"The config has {mistakes} mistakes; nothing was started:" in text
    assert not (project / "results").exists()


# all cases take more than a minute, so the default is every third
@pytest.mark.parametrize(
    "cases", [runnable("check")[::3], pytest.param(runnable("check"), marks=pytest.mark.long)], ids=["some", "all"]
)
def test_every_mistake_in_a_file_is_on_the_terminal_and_nothing_is_half_written(tmp_path, monkeypatch, cases):
    project = copy_project(tmp_path / "project")
    config = made(project, cases, monkeypatch)
    plan = make_plan(config, presets_dir=PRESETS, cache_dir=tmp_path / "cache")
    # For each dataset only the shard that fails, so that 70 jobs suffice instead of 200.
    targets = [f"results/{case.name}/check/{shard_of(case, plan)}.json" for case in cases]
    name = write_config(project, config)
    finished = snakemake(project, *targets, "--configfile", name, "--cores", "2", "--keep-going", check=False)
    text = finished.stdout + finished.stderr
    assert finished.returncode == 1
    assert "Traceback" not in text
    assert [case.name for case in cases if not shown(case, text)] == []
    left = {path.name for path in (project / "results").rglob("*") if path.is_file()}
    assert left == {"samples.csv"}


def test_a_config_cannot_run_code(tmp_path):
    project = copy_project(tmp_path / "project")
    victim = tmp_path / "victim"
    put(project / "mine.yaml", f"seed: !!python/object/apply:os.system ['touch {victim}']\ndatasets: {{}}\n")
    finished = snakemake(project, "--configfile", "mine.yaml", "--cores", "1", check=False)
    text = finished.stdout + finished.stderr
    assert finished.returncode == 1
    assert not victim.exists()
    assert "Traceback" not in text
    assert "mine.yaml" in text or "Config file" in text
    assert not (project / "results").exists()


def test_names_in_a_table_never_become_paths(workplace):
    """A table refers to images by name only; other names in it are never read or written as paths."""
    inner = workplace / "a/b"
    section = images(inner)
    rows = ["id,annotation", *(f"{sample},54 6" for sample in SAMPLES), "../../escaped,54 6", "/tmp/escaped,54 6"]
    put(inner / "train.csv", "\n".join(rows))
    section["annotations"] = {"format": "rle", "table": f"{inner}/train.csv", "order": "row"}
    plan = make_plan({"datasets": {"d": section}}, presets_dir=PRESETS, cache_dir=inner / "cache")
    assert sorted(row.sample for row in plan.samples["d"]) == sorted(SAMPLES)
    before = set(workplace.rglob("*"))
    for shard in plan.shards("d"):
        rasterize_shard(output_dir=inner / "out" / shard, **job_settings(plan, "rasterize", dataset="d", shard=shard))
    assert all((inner / "out") in (path, *path.parents) for path in set(workplace.rglob("*")) - before)


def test_file_names_of_coco_never_become_paths(workplace):
    inner = workplace / "a/b"
    section = images(inner)
    listed = [{"id": i, "file_name": f"../../../{sample}.png"} for i, sample in enumerate(SAMPLES)]
    drawn = [{"id": i, "image_id": i, "segmentation": [[5, 3, 11, 3, 11, 7]]} for i in range(3)]
    put(inner / "x.json", json.dumps({"images": listed, "annotations": drawn}))
    section["annotations"] = {"format": "coco", "table": f"{inner}/x.json"}
    plan = make_plan({"datasets": {"d": section}}, presets_dir=PRESETS, cache_dir=inner / "cache")
    before = set(workplace.rglob("*"))
    for shard in plan.shards("d"):
        rasterize_shard(output_dir=inner / "out" / shard, **job_settings(plan, "rasterize", dataset="d", shard=shard))
    assert all((inner / "out") in (path, *path.parents) for path in set(workplace.rglob("*")) - before)
    assert len(list((inner / "out").rglob("*.tif"))) == 3


@pytest.mark.timeout(SECONDS)
def test_a_billion_laughs_are_an_image_without_metadata(workplace):
    """OME-XML with ten levels of tenfold entities is read at once, and only the pixel size is unknown."""
    entities = '<!ENTITY a0 "lol">' + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE OME [{entities}]><OME xmlns="x">&a9;</OME>'
    path = put_tiff(workplace / "bomb.ome.tif", pixels(), description=bomb, metadata=None)
    assert open_raster(path, palette="colours", plane=()).pixel_size_um is None
    assert (read_plane(path, channel="luminance") == pixels()).all()


# ---- the page --------------------------------------------------------------------------------------------


def test_the_page_of_inputs_is_written_from_the_cases():
    assert PAGE.is_file(), f"run {COMMAND}"
    assert PAGE.read_text(encoding="utf-8") == inputs_page(), f"run {COMMAND}"


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
def test_numbers_that_the_page_names_for_tiff_are_read_as_they_are(workplace, kind, order):
    array = pixels().astype(kind)
    plane_yx = read_plane(put_tiff(workplace / "a.tif", array, byteorder=order), channel="luminance")
    assert plane_yx.dtype == np.dtype(kind)
    assert np.array_equal(plane_yx, array)


def test_the_page_names_every_kind_of_image():
    assert {*IMAGE_FORMATS} == {*KIND_OF_SUFFIX.values(), STORE}


def test_the_page_names_every_format_of_annotations():
    text = inputs_page()
    for name in typing.get_args(Annotations.model_fields["format"].annotation):
        assert f"| `{name}` |" in text, name
