"""The RO-Crate of a dataset: its contents, that they are correct, and the report of the RO-Crate validator."""

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import requests_cache
import urllib3
from requests.adapters import HTTPAdapter

from cellmill.planning.make import make_plan
from cellmill.planning.results import result_paths
from cellmill.planning.settings import job_settings
from cellmill.shards import MANIFEST, VERSIONS
from cellmill.stages.crate import flatten, write_crate
from crate_check import CONTEXT_URL, check_crate, entities_of
from project import GUARD_S, ROOT, write_label_dataset

CONTEXT = ROOT / ".venv/oracles/rocrate/data/ro-crate.jsonld"
PROVENANCE = {
    "date": "2026-01-31 23:59 UTC", "commit": "0123456789ab", "machine": "Linux x86_64",
    "versions": {"python": "3.11.7", "numpy": "2.4.6"},
}  # fmt: skip
# Facts that would have to be invented: who ran it, who publishes it, under which licence, and a URL of cellmill.
UNKNOWN = {
    "The Application SHOULD have a url",
    "The SoftwareApplication id SHOULD be an absolute URI",
    "The Action SHOULD have an agent that is a Person or Organization",
    "The Root Data Entity SHOULD have a link to a Contextual Entity representing the schema_org:license type",
    "The Root Data Entity SHOULD have a link to a Contextual Entity representing the `author` of the RO-Crate",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
}


def write_example(folder: Path) -> dict:
    """Write results of two runs and the images they were made from; return the keywords of `write_crate`."""
    root, data = folder / "results/cells", folder / "data"
    contents = {
        "samples.csv": "sample\na\n", "report.html": "<!doctype html>", "metrics.csv": "model\n", "one/objects.csv": "",
        "two.seed1/model.cellmill": "PK", "two.seed1/train.json": json.dumps({"versions": {"torch": "2.13.0+cpu"}}),
        f"one/segmentation/test-0000/{MANIFEST}": "{}",
        f"one/segmentation/test-0000/{VERSIONS}": json.dumps({"numpy": "2.4.5"}),
        "one/rois/a b.zip": "PK",
    }  # fmt: skip
    inputs = {"größe 1.tif": "image", "well/2.tif": "another", "labels/1.png": "label"}
    for place, files in ((root, contents), (data, inputs)):
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text)
    return {
        "output_path": root / "ro-crate-metadata.json",
        "dataset": "cells",
        "title": "Cells & more",
        "runs": ["one", "two.seed1"],
        "parameters": {
            "seed": 7,
            "datasets": {
                "cells": {"images": f"{data}/*/{{sample}}.tif", "models": [{"preset": "default", "seeds": [1, 2]}]}
            },
        },
        "images": [str(data / "größe 1.tif"), str(data / "well/2.tif")],
        "annotations": [str(data / "labels/1.png")],
        "models": ["elsewhere/m.cellmill"],
        "shipped": {},
        "files": {name: name for name in contents if not name.startswith(("samples", "one/seg", "one/rois"))},
        "shards": {"one/segmentation/test-0000": "label images"},
        "folders": {"one/rois": "ROIs"},
        "provenance": PROVENANCE,
    }


@pytest.fixture
def example(tmp_path):
    keywords = write_example(tmp_path)
    write_crate(**keywords)
    return keywords


def test_all_that_it_says_is_true(example):
    entities = check_crate(example["output_path"])
    assert entities["#cellmill"]["softwareVersion"] == "0123456789ab"
    assert entities["#run"]["endTime"] == "2026-01-31T23:59:00+00:00"
    assert {part["@id"] for part in entities["one/segmentation/test-0000/"]["hasPart"]} == {
        f"one/segmentation/test-0000/{name}" for name in (MANIFEST, VERSIONS)
    }
    assert "hasPart" not in entities["one/rois/"]


def test_every_version_that_took_part_is_named(example):
    entities = entities_of(example["output_path"])
    needed = [entities[item["@id"]] for item in entities["#cellmill"]["softwareRequirements"]]
    assert {(entity["name"], entity["softwareVersion"]) for entity in needed} == {
        ("python", "3.11.7"), ("numpy", "2.4.5"), ("numpy", "2.4.6"), ("torch", "2.13.0+cpu"),
    }  # fmt: skip


def test_inputs_have_size_and_digest_but_no_folder_of_the_machine(example, tmp_path):
    entities = entities_of(example["output_path"])
    inputs = [entities[item["@id"]] for item in entities["#run"]["object"]]
    named = {entity["name"]: entity for entity in inputs if entity["@type"] == "CreativeWork"}
    assert set(named) == {"…/größe 1.tif", "…/well/2.tif", "…/1.png", "elsewhere/m.cellmill"}
    assert named["…/well/2.tif"]["sha256"] == hashlib.sha256(b"another").hexdigest()
    assert "sha256" not in named["elsewhere/m.cellmill"]  # the file does not exist
    text = example["output_path"].read_text()
    assert tmp_path.name not in text
    assert "/tmp" not in text


def test_the_settings_are_among_the_inputs(example):
    entities = entities_of(example["output_path"])
    inputs = [entities[item["@id"]] for item in entities["#run"]["object"]]
    assert {entity["name"]: entity["value"] for entity in inputs if entity["@type"] == "PropertyValue"} == {
        "seed": 7,
        "datasets.cells.images": "…/*/{sample}.tif",
        "datasets.cells.models[0].preset": "default",
        "datasets.cells.models[0].seeds": "[1, 2]",
    }


def test_nobody_and_no_licence_is_invented(example):
    types = [entity["@type"] for entity in entities_of(example["output_path"]).values()]
    assert not {"Person", "Organization"} & set(types)
    assert entities_of(example["output_path"])["./"]["license"].startswith("No licence is stated")


def test_the_same_files_give_the_same_bytes(example):
    before = example["output_path"].read_bytes()
    write_crate(**example)
    assert example["output_path"].read_bytes() == before
    assert not list(example["output_path"].parent.glob(".*partial*"))
    write_crate(**{**example, "provenance": {**PROVENANCE, "date": "2026-02-01 00:00 UTC"}})
    changed = example["output_path"].read_text()
    assert changed.replace("2026-02-01T00:00", "2026-01-31T23:59").encode() == before


def test_a_missing_result_is_named_and_no_half_crate_is_left(tmp_path):
    keywords = write_example(tmp_path)
    with pytest.raises(
        ValueError, match=r"none.csv: expected a result, found nothing there\. Run snakemake again to create it"
    ):
        write_crate(**{**keywords, "files": {"none.csv": "missing"}})
    assert not keywords["output_path"].exists()


def test_a_date_that_is_none_is_refused(tmp_path):
    keywords = write_example(tmp_path)
    with pytest.raises(ValueError, match=r"expected a date like 2026-01-31 23:59 UTC, found 'today'\. Use the date of"):
        write_crate(**{**keywords, "provenance": {"date": "today"}})


def test_nested_settings_become_one_line_a_value():
    settings = {
        "a": {"b": [{"c": 1}, {"c": None}], "d": []},
        "e": False,
        "f": "/home/x/y.csv",
        "g": ["/home/x/z", "w/v"],
    }
    assert dict(flatten(settings)) == {"a.b[0].c": 1, "a.d": "[]", "e": False, "f": "…/y.csv", "g": '["…/z", "w/v"]'}


# ---- listed files ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    write_label_dataset(folder / "data", [f"n{number}" for number in range(8)], seed=4)
    section = {
        "images": f"{folder}/data/images/{{sample}}.tif",
        "annotations": {"format": "label_image", "path": f"{folder}/data/labels/{{sample}}.tif"},
    }
    trained = {"preset": "sartorius_unet", "name": "small", "seeds": [1, 2], "average_seeds": True}
    config = {
        "datasets": {
            "synthetic": {"simulate": {"like": "cells"}, "models": ["sartorius_unet"]},
            "cells": {**section, "models": [trained], "export": ["onnx", "geojson"], "report": {"ro_crate": True}},
            "plate": {"images": section["images"], "models": [{"apply": "cells/small.seed1"}]},
        }
    }
    return make_plan(config, presets_dir=ROOT / "resources/models", cache_dir=folder)


def test_each_kind_of_run_has_its_files(plan):
    listed = job_settings(plan, "crate", dataset="cells")
    assert {"small.seed1/train.json", "small.seed1/model.onnx", "small.mean/model.cellmill"} <= set(listed["files"])
    assert not {"small.mean/train.json", "small.mean/model.onnx", "match.csv"} & set(listed["files"])
    assert set(listed["folders"]) == {f"small.{name}/geojson" for name in ("seed1", "seed2", "mean")}
    assert len(listed["images"]) == len(listed["annotations"]) == 8
    assert listed["models"] == []


def test_an_applied_model_is_an_input(plan):
    listed = job_settings(plan, "crate", dataset="plate")
    assert listed["models"] == [f"results/cells/small.seed1/{name}" for name in ("weights.pt", "postprocess.json")]
    assert listed["annotations"] == []
    assert not any("model.cellmill" in name for name in listed["files"])


def test_simulated_images_are_results_and_no_inputs(plan):
    listed = job_settings(plan, "crate", dataset="synthetic")
    assert listed["images"] == []
    assert {"match.json", "match.csv"} <= set(listed["files"])
    assert {name.split("/")[0] for name in listed["shards"]} == {"raw", "sartorius_unet"}


def test_a_seal_stands_for_each_shard_and_for_no_other_folder(plan):
    paths = result_paths(plan, "cells")
    shards = job_settings(plan, "crate", dataset="cells")["shards"]
    assert len(paths["seals"]) == len(shards) > 0
    assert len(paths["folders"]) == len(shards) + 3  # geojson of three runs
    assert set(paths["seals"]) == {
        f"results/cells/{folder}/.{shard}.sha256" for folder, shard in (name.rsplit("/", 1) for name in shards)
    }


def test_asking_for_a_crate_changes_nothing_that_is_made_of_the_config(plan):
    """Neither the page nor the settings in the crate mention the request for a crate."""
    assert "ro_crate" not in json.dumps(job_settings(plan, "report", dataset="cells"))
    assert "report" not in job_settings(plan, "crate", dataset="cells")["parameters"]["datasets"]["cells"]


# ---- the validator ---------------------------------------------------------------------------------------


class OneFile(HTTPAdapter):
    """HTTP adapter that answers every request with the context of RO-Crate 1.1, so that no network is used."""

    def send(self, request, **_):
        headers = {"Content-Type": "application/ld+json"}
        raw = urllib3.HTTPResponse(io.BytesIO(CONTEXT.read_bytes()), headers=headers, status=200, preload_content=False)
        return self.build_response(request, raw)


@pytest.fixture(scope="module")
def web_cache(tmp_path_factory):
    """Cache of the web pages that the validator would otherwise download."""
    if not CONTEXT.is_file():
        pytest.skip(f"{CONTEXT} is missing: `make test` installs requirements-oracles.txt")
    path = tmp_path_factory.mktemp("web") / "cache"
    with requests_cache.CachedSession(cache_name=str(path), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", OneFile())
        assert "@context" in session.get(CONTEXT_URL).json()
        session.cache.close()
    return path


def validate(crate, web_cache, tmp_path):
    """Return the profile by which the validator checks a crate, and (severity, message) of each issue."""
    answer = tmp_path / "answer.json"
    options = ["--offline", "--cache-path", web_cache, "--no-paging", "-l", "recommended", "-f", "json", "-o", answer]
    command = [Path(sys.executable).parent / "rocrate-validator", "--no-interactive", "validate", *options, crate]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=GUARD_S)
    assert answer.is_file(), finished.stdout + finished.stderr
    content = json.loads(answer.read_text())
    issues = {(issue["severity"], issue["message"]) for issue in content["issues"]}
    return content["validation_settings"]["profile_identifier"], issues


def test_the_validator_misses_nothing_but_what_is_unknown(example, web_cache, tmp_path):
    profile, issues = validate(example["output_path"].parent, web_cache, tmp_path)
    assert profile == "process-run-crate-0.5"
    assert issues == {("RECOMMENDED", message) for message in UNKNOWN}


@pytest.mark.parametrize(
    ("identifier", "key", "said"),
    [("#run", "instrument", "MUST have an instrument"), ("./", "license", "MUST have a `license`")],
)
def test_the_validator_finds_what_is_left_out(example, web_cache, tmp_path, identifier, key, said):
    content = json.loads(example["output_path"].read_text())
    for entity in content["@graph"]:
        if entity["@id"] == identifier:
            del entity[key]
    example["output_path"].write_text(json.dumps(content))
    _, issues = validate(example["output_path"].parent, web_cache, tmp_path)
    assert any(severity == "REQUIRED" and said in message for severity, message in issues)
