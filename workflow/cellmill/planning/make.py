"""Make the plan of a run from its config, freeze it for the processes of jobs, and read it back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cellmill.config.errors import ConfigError
from cellmill.planning.adoption import plan_preprocessing
from cellmill.planning.damaged_models import damaged_models
from cellmill.planning.exports import wrong_exports
from cellmill.planning.file_digests import FileDigests
from cellmill.planning.flat_fields import remarks_on_flat_fields
from cellmill.planning.layout import SAMPLES, dataset_path
from cellmill.planning.model_cards import wrong_cards
from cellmill.planning.plan import Plan
from cellmill.planning.refusals import contradictions, likes_of_folds, models_left_out
from cellmill.planning.rescaling import remarks_on_rescales, wrong_rescales
from cellmill.planning.runs import known_runs, remarks_on_binary, resolve_runs
from cellmill.planning.samples import Sample, SampleError, dump_samples, load_samples
from cellmill.planning.scan import scan_dataset
from cellmill.planning.seen_images import keep_seen_images
from cellmill.planning.shipped_models import copy_shipped
from cellmill.planning.validation import other_mistakes, validate_config, wrong_likes
from cellmill.provenance import digest_of
from cellmill.shards import atomic_path

CACHE_DIR = Path(".snakemake/cellmill")


def make_plan(raw: Mapping[str, Any], *, presets_dir: Path, cache_dir: Path = CACHE_DIR) -> Plan:
    """Validate the config, scan the files once, and build the plan.

    Raises
    ------
    ConfigError
        With all mistakes in the config and in the files it refers to.
    """
    config, mistakes, damaged = validate_config(raw)
    sections = raw.get("datasets")
    for name, section in sections.items() if isinstance(sections, Mapping) else ():
        is_wrong = config is None or str(name) not in config.datasets or str(name) in damaged
        if is_wrong and isinstance(section, Mapping):
            mistakes += other_mistakes(str(name), section, presets_dir=presets_dir)
    if config is None:
        raise ConfigError(mistakes)
    runs, wrong_runs = resolve_runs(config, presets_dir=presets_dir)
    mistakes += wrong_runs
    sources = (source for run in known_runs(runs).values() for source in (run.apply, run.init_from))
    mistakes += copy_shipped(sources, presets_dir=presets_dir)
    mistakes += damaged_models(config, runs, presets_dir=presets_dir)
    mistakes += wrong_cards(runs, presets_dir=presets_dir)
    mistakes += wrong_exports(config, runs)
    samples: dict[str, list[Sample]] = {}
    remarks: list[str] = []
    files: dict[str, dict[str, Any]] = {}
    digests = FileDigests(cache_dir, recheck=config.recheck)
    for name, dataset in config.datasets.items():
        try:
            if name in damaged:
                continue
            scan = scan_dataset(
                name, dataset, images_per_job=config.images_per_job, cache_dir=cache_dir, digests=digests
            )
        except SampleError as error:
            mistakes += error.mistakes
        except ValueError as error:
            mistakes.append(str(error))
        else:
            samples[name] = scan.samples
            remarks += scan.remarks
            files[name] = scan.files
    remarks += keep_seen_images(config, runs, samples)
    mistakes += wrong_likes(config, names=sections if isinstance(sections, Mapping) else ())
    preprocess: dict[str, dict[str, Any]] = {}
    if not mistakes:
        preprocess, wrong, said = plan_preprocessing(config, runs, samples)
        mistakes += wrong or wrong_rescales(config, preprocess, samples)
        remarks += [*said, *remarks_on_rescales(preprocess)]
    plan = Plan(config=config, runs=runs, samples=samples, preprocess=preprocess, remarks=remarks, files=files)
    if not mistakes:
        mistakes += contradictions(plan)
    if mistakes:
        raise ConfigError(mistakes)
    remarks += [*likes_of_folds(plan), *models_left_out(plan), *remarks_on_binary(config, presets_dir=presets_dir)]
    remarks += remarks_on_flat_fields(plan)
    return plan


def freeze(plan: Plan, raw: Mapping[str, Any], *, cache_dir: Path = CACHE_DIR) -> None:
    """Store the sample tables for the job processes, in a file named by the digest of the config."""
    content = {
        "samples": {name: dump_samples(rows) for name, rows in plan.samples.items()},
        "remarks": plan.remarks,
        "files": plan.files,
        "preprocess": plan.preprocess,
    }
    with atomic_path(_frozen_path(raw, cache_dir)) as partial:
        partial.write_text(json.dumps(content))


def thaw(raw: Mapping[str, Any], *, presets_dir: Path, cache_dir: Path = CACHE_DIR) -> Plan:
    """Rebuild the plan in a job process from the frozen tables, without scanning the folders."""
    path = _frozen_path(raw, cache_dir)
    if not path.is_file():
        raise ConfigError(
            [
                f"{path}: expected the sample tables of this config, found none. The config was edited while "
                "jobs were running. Run snakemake again."
            ]
        )
    content = json.loads(path.read_text())
    config, mistakes, _ = validate_config(raw)
    assert config is not None, mistakes
    runs, _ = resolve_runs(config, presets_dir=presets_dir)
    samples = {name: load_samples(text) for name, text in content["samples"].items()}
    return Plan(
        config=config,
        runs=runs,
        samples=samples,
        preprocess=content["preprocess"],
        remarks=content["remarks"],
        files=content["files"],
    )


def _shown_treatment(row: Sample) -> dict[str, str]:
    return {key: row.treated.get(key, "") for key in ("condition", "replicate")}


def _frozen_path(raw: Mapping[str, Any], cache_dir: Path) -> Path:
    return cache_dir / f"samples-{digest_of(raw)[:16]}.json"


def write_sample_tables(plan: Plan) -> None:
    """Write results/{dataset}/samples.csv, a readable copy that no job takes as input."""
    for name, rows in plan.samples.items():
        table = pd.DataFrame(
            [
                {
                    "sample": row.sample, "image": row.image,
                    "annotation": row.correction or ";".join(row.annotations[:1]),
                    "sequence": row.sequence, "frame": row.frame, "class": row.class_name, "group": row.group,
                    "split": plan.shown_part(name, row), "shard": row.shard,
                    **(_shown_treatment(row) if plan.run_of_conditions(name) else {}),
                }
                for row in rows
            ]
        )  # fmt: skip
        with atomic_path(dataset_path(name, SAMPLES)) as partial:
            table.to_csv(partial, index=False)
