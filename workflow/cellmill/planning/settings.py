"""Settings of every job, in canonical form and limited to what the job uses, because any change reruns the job."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cellmill.config.networks import network_settings
from cellmill.config.simulate import image_settings, setting_limits
from cellmill.config.worklist import Worklist
from cellmill.exports.model_file import read_description
from cellmill.planning.conditions import DEFAULT_FEATURES, sort_conditions
from cellmill.planning.layout import (  # fmt: skip
    CONDITIONS,
    DIAMETER,
    FIT,
    INDEX,
    RECIPE,
    REPLICATES,
    REPORT,
    WORKLIST,
    dataset_path,
    run_path,
    shard_path,
)
from cellmill.planning.model_cards import card_facts
from cellmill.planning.plan import Plan
from cellmill.planning.rescaling import job_rescale, stored_rescale
from cellmill.planning.results import list_inputs, list_results, list_settings
from cellmill.planning.runs import ALIKE, MEAN_SUFFIX, Run
from cellmill.planning.samples import UNLABELLED, Sample
from cellmill.planning.shipped_models import shipped_name
from cellmill.planning.splits import LEFT_OUT
from cellmill.planning.stage_graph import STAGE_INPUTS
from cellmill.planning.worklists import worklist_run
from cellmill.preprocessing.flat_field import METHOD as FLAT_METHOD
from cellmill.provenance import canonical

# What an experiment says of an image, in the tables for other programs
TREATED = ("condition", "replicate", "plate", "well")
# Fields of a sample that are needed by the stages that read annotations
ANNOTATED_COLUMNS = (
    "sample", "image", "annotations", "frame", "rows_digest", "entry", "plane", "is_annotated_as_stack", "extra",
    "correction", "members", "image_digest", "annotation_digest",
)  # fmt: skip
# Fields that say what a raw image is: with the digest, a changed image reruns the job
IMAGE_COLUMNS = ("image", "members", "plane", "image_digest")


class Rows(list[dict[str, Any]]):
    """Rows of samples that are canonical already and need no second pass in `job_settings`; leave them unchanged."""


def job_settings(plan: Plan, stage: str, **words: str) -> dict[str, Any]:
    """Return the canonical settings of one job.

    Parameters
    ----------
    plan : Plan
        The plan of the run.
    stage : str
        Name of the rule.
    **words : str
        Wildcards of the job: dataset, run, shard.
    """
    settings = STAGES[stage](plan, **words)
    return {
        key: list(value) if isinstance(value := settings[key], Rows) else canonical(value) for key in sorted(settings)
    }


def simulate_settings(plan: Plan, dataset: str, shard: str) -> dict[str, Any]:
    section = plan.config.datasets[dataset].simulate
    assert section is not None
    columns = ("sample", "sequence", "frame") if section.time_lapse else ("sample",)
    return {
        "samples": _columns(plan.rows(dataset, shard), *columns),
        "seed": plan.config.seed,
        "simulate": image_settings(section),
    }


def match_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    section, like = plan.config.datasets[dataset].simulate, plan.like_of(dataset)
    assert section is not None
    assert like is not None
    rows, source = plan.reference_rows(dataset), plan.config.datasets[like]
    samples = list(_columns(rows, "sample", *IMAGE_COLUMNS))  # a key is added below, so no `Rows`
    objects = "labels"
    if source.annotations is not None and source.annotations.format == "binary":
        objects = "components"  # a binary mask does not separate touching objects
    if source.annotations is None and source.simulate is None:
        objects = "otsu"
    else:
        for sample, row in zip(samples, rows, strict=True):
            sample["labels"] = f"{shard_path('labels', dataset=like, shard=row.shard)}/{row.sample}.tif"
    return {
        "like": like,
        "samples": samples,
        "objects": objects,
        "channel": plan.preprocess[like]["channel"],
        "simulate": image_settings(section),
        "simulated_channel": plan.preprocess[dataset]["channel"],
        "size": section.size if "size" in section.model_fields_set else None,
        "limits": setting_limits(),
        "seed": plan.config.seed,
    }


def check_shard_settings(plan: Plan, dataset: str, shard: str) -> dict[str, Any]:
    return {
        **_reading_annotations(plan, dataset, shard),
        "samples": _annotated_rows(plan, dataset, shard, "sequence"),
        "channel": plan.preprocess[dataset]["channel"],
        "pixel_size_um": plan.config.datasets[dataset].pixel_size_um,
        **_further_channels(plan, dataset),
    }


def _further_channels(plan: Plan, dataset: str) -> dict[str, Any]:
    """Return the channels besides the first one that no image may lack, if there are several channels."""
    channels = plan.preprocess[dataset].get("channels")
    if not channels:
        return {}
    return {"further_channels": [each["channel"] for each in channels[1:] if each["missing"] == "refuse"]}


def check_dataset_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "parts": {shard: _part_of_shard(plan, dataset, shard) for shard in plan.shards(dataset)},
        "remarks": _remarks(plan, dataset),
        "files": plan.files.get(dataset, {}),
        "annotations": _judged_section(plan, dataset),
        "models": plan.models_to_compare(dataset),
    }


def _judged_section(plan: Plan, dataset: str) -> dict[str, Any] | None:
    """Return what the plausibility of annotations depends on; None without annotations, or if they are simulated."""
    section = plan.config.datasets[dataset].annotations
    if section is None:
        return None
    keys = ("format", "foreground", "fragments", "min_object_px", "missing", "implausible")
    return {
        **{key: getattr(section, key) for key in keys},
        "source": section.table or section.path,
        "is_foreground_set": section.foreground is not None,
    }


def _remarks(plan: Plan, dataset: str) -> list[str]:
    return [remark for remark in plan.remarks if remark.startswith(f"datasets.{dataset}.")]


def _part_of_shard(plan: Plan, dataset: str, shard: str) -> str:
    """Return the part of a shard for readers; unlabelled images and frames left out on purpose may share a shard."""
    rows = plan.rows(dataset, shard)
    shown = {plan.shown_part(dataset, row) for row in rows}
    return shown.pop() if len(shown) == 1 else rows[0].split


def preprocess_settings(plan: Plan, dataset: str, shard: str) -> dict[str, Any]:
    rows = _columns(plan.rows(dataset, shard), "sample", "sequence", "frame", *IMAGE_COLUMNS)
    context = _columns(plan.context(dataset, shard), "sequence", "frame", *IMAGE_COLUMNS)
    section = plan.preprocess[dataset]
    rescale = job_rescale(section.get("rescale"), given_um=plan.config.datasets[dataset].pixel_size_um)
    return {"samples": rows, "context": context, "hot_pixels": "replace", **section, "rescale": rescale}


def estimate_flat_field_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    return {
        "samples": _columns(plan.flat_field_rows(dataset), *IMAGE_COLUMNS),
        "planes": [
            {
                "channel": plane["channel"], "dark": plane["background"]["dark"],
                "may_be_missing": plane["missing"] == "zero",
            }
            if plane["background"]["method"] == FLAT_METHOD
            else None
            for plane in plan.input_planes(dataset)
        ],
    }  # fmt: skip


def measure_objects_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    return {}


def rasterize_settings(plan: Plan, dataset: str, shard: str) -> dict[str, Any]:
    return {"samples": _annotated_rows(plan, dataset, shard), **_reading_annotations(plan, dataset, shard)}


def _reading_annotations(plan: Plan, dataset: str, shard: str) -> dict[str, Any]:
    """Return how the annotations of a shard are read."""
    rows = plan.rows(dataset, shard)
    section = plan.annotations(dataset, shard)
    settings = (
        None
        if section is None or rows[0].split == UNLABELLED
        else section.model_dump(mode="json", exclude={"frame_offset"})
    )
    missing = settings.pop("missing") if settings else "unlabelled"
    if settings:
        del settings["implausible"]  # judged for the whole dataset
    return {"annotations": settings, "missing": missing}


def _annotated_rows(plan: Plan, dataset: str, shard: str, *more: str) -> list[dict[str, Any]]:
    """Return the rows of a shard for reading annotations, with frames numbered as in the annotations."""
    rows = _columns(plan.rows(dataset, shard), *ANNOTATED_COLUMNS, *more)
    section = plan.annotations(dataset, shard)
    offset = (section.frame_offset if section else None) or 0
    return [{**row, "frame": row["frame"] + offset} for row in rows] if offset else rows


def train_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    found = plan.run(dataset, run)
    shards = [*plan.training_shards(dataset, found), *plan.shards(dataset, parts=found.parts["validation"])]
    return {
        "network": network_settings(found.preset),
        "input": found.preset["input"],
        "train": found.preset["train"],
        "init_weights": found.init_weights,
        "seed": found.seed,
        "pixel_size_um": _scale_of_pixels(plan, dataset, found),
        **_seen(plan, dataset, found, shards),
    }


def _scale_of_pixels(plan: Plan, dataset: str, run: Run) -> float | None:
    """Return the pixel size of a dataset if the network of a run works at a scale of its own, else None."""
    return plan.config.datasets[dataset].pixel_size_um if plan.input_of(run).get("diameter_px") else None


def _seen(plan: Plan, dataset: str, run: Run, shards: list[str]) -> dict[str, Any]:
    """Return the passages and the classes of the images of some shards, each None if a run does not use them."""
    passages, classes = None, None
    if plan.sees_sequences(run):
        passages = [names for shard in shards for names in plan.passages(dataset, shard)]
    if plan.sees_classes(run):
        classes = {row.sample: row.class_name for shard in shards for row in plan.rows(dataset, shard)}
    return {"passages": passages, "classes": classes}


def join_seeds_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {}


def predict_settings(plan: Plan, dataset: str, run: str, shard: str | None = None) -> dict[str, Any]:
    found = plan.run(dataset, run)
    source = plan.source_of(found)
    predict = read_description(str(found.apply)).predict if source is None else source.preset["predict"]
    seen = _seen(plan, dataset, found, [shard] if shard else [])
    if plan.input_of(found).get("class_at_prediction") != "oracle":
        seen["classes"] = None  # each image is predicted once for every class
    return {"predict": predict, "pixel_size_um": _scale_of_pixels(plan, dataset, found), **seen}


def contrast_fit_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {"network": network_settings(plan.run(dataset, run).preset), "seed": plan.config.seed}


def contrast_settings(plan: Plan, dataset: str, run: str, shard: str | None = None) -> dict[str, Any]:
    return {}


# Without a network, nothing is predicted in tiles. Each image is thresholded by itself, so that like after a z-score
# its brightness and contrast make no difference.
CLASSICAL_SECTIONS = {"predict": {}, "input": {"normalise": "zscore"}}


def postprocess_fit_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    found = plan.run(dataset, run)
    sections = CLASSICAL_SECTIONS if found.is_classical else found.preset
    return {
        "postprocess": _postprocess_section(plan, dataset, run),
        "preprocess": {
            **plan.preprocess[dataset],
            "rescale": stored_rescale(plan.preprocess[dataset].get("rescale")),
        },
        "predict": sections["predict"],
        "input": sections["input"],
        "network": network_settings(found.preset),
        "is_trained": not found.is_classical,
        "pixel_size_um": plan.config.datasets[dataset].pixel_size_um,
        "seed": plan.config.seed,
    }


def _postprocess_section(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    found = plan.run(dataset, run)
    source = plan.source_of(found)
    if source is None:  # an exported model includes its section
        return dict(read_description(str(found.apply)).postprocess)
    return plan.config.datasets[source.dataset].postprocess.model_dump(mode="json")


def postprocess_settings(plan: Plan, dataset: str, run: str, shard: str | None = None) -> dict[str, Any]:
    return {
        "postprocess": _postprocess_section(plan, dataset, run),
        # Changed raw images arrive as preprocessed images.
        "samples": _columns(plan.rows(dataset, shard), "sample", "image", "plane") if shard else [],
        **_measuring(plan, dataset, shard or ""),
    }


def _measuring(plan: Plan, dataset: str, shard: str) -> dict[str, Any]:
    """Return what the tables of objects depend on besides the images and the objects."""
    section = plan.annotations(dataset, shard)
    return {
        "rle_order": (section.order if section else None) or "row",
        "pixel_size_um": plan.config.datasets[dataset].pixel_size_um,
        "channel": plan.preprocess[dataset]["channel"],
        "hot_pixels": plan.preprocess[dataset].get("hot_pixels", "replace"),
    }


def masks_settings(plan: Plan, dataset: str, run: str, shard: str | None = None) -> dict[str, Any]:
    found = plan.run(dataset, run)
    assert found.masks is not None
    rows = plan.rows(dataset, shard) if shard else []
    offset = found.masks.frame_offset or 0
    missing: str = found.masks.missing
    if missing == "untested":
        missing = "error" if rows and rows[0].split in found.parts["test"] else UNLABELLED
    return {
        "samples": [
            {**one, "annotations": [], **row.masks[found.model], "frame": row.frame + offset}
            for row, one in zip(rows, _columns(rows, "sample", "image", "plane"), strict=True)
        ],
        "annotations": found.masks.model_dump(mode="json", exclude={"frame_offset", "missing", "implausible"}),
        "missing": missing,
        **_measuring(plan, dataset, shard or ""),
    }


def postprocess_features_settings(plan: Plan, dataset: str, run: str, shard: str) -> dict[str, Any]:
    section, measuring = plan.config.datasets[dataset].measure, _measuring(plan, dataset, shard)
    return {
        # Digests, because a channel that is only measured does not change the preprocessed images.
        "samples": _columns(plan.rows(dataset, shard), "sample", *IMAGE_COLUMNS),
        "features": section.names,
        "channels": section.named_channels,
        "texture_range_counts": section.texture_range_counts,
        **{key: measuring[key] for key in ("pixel_size_um", "hot_pixels")},
    }


def postprocess_tables_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {}


def export_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    preset = plan.run(dataset, run).preset
    return {"title": preset["title"], "cite": preset["cite"]}


def object_files_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {"samples": _columns(plan.samples[dataset], "sample", "image", "sequence", "frame")}


def export_table_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    has_conditions = plan.config.datasets[dataset].conditions is not None
    rows = [
        {
            "sample": row.sample, "sequence": row.sequence, "frame": row.frame, "class": row.class_name,
            "group": row.group, "part": plan.shown_part(dataset, row),
            **({key: row.treated.get(key, "") for key in TREATED} if has_conditions else {}),
        }
        for row in plan.samples[dataset]
    ]  # fmt: skip
    return {"samples": rows}


def export_anndata_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {**export_table_settings(plan, dataset, run), "dataset": dataset, "run": run}


def export_ome_zarr_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {
        "samples": _columns(plan.samples[dataset], "sample", *IMAGE_COLUMNS),
        "run": run,
        "pixel_size_um": plan.config.datasets[dataset].pixel_size_um,
    }


def export_bioimageio_settings(plan: Plan, dataset: str, run: str) -> dict[str, Any]:
    return {**export_settings(plan, dataset, run), "dataset": dataset, "run": run}


def evaluate_shard_settings(plan: Plan, dataset: str, run: str, shard: str) -> dict[str, Any]:
    found, evaluate = plan.run(dataset, run), plan.config.datasets[dataset].evaluate
    return {
        "split": plan.role_of(dataset, found, shard),
        "model": found.model,
        "seed": found.seed,
        "isbi2012": evaluate.isbi2012,
        "border_tolerance_px": evaluate.border_tolerance_px,
        "exclude_border": _asks_for_whole_objects(plan, dataset, run),
        # Images of a group are resampled together by the bootstrap
        "groups": {row.sample: group for row in plan.rows(dataset, shard) if (group := row.group or row.sequence)},
    }


def _asks_for_whole_objects(plan: Plan, dataset: str, run: str) -> bool:
    """Return whether objects at the border are left out: as the model does, and for masks as this dataset does."""
    if plan.run(dataset, run).masks is not None:
        return plan.config.datasets[dataset].postprocess.instances.exclude_border
    return bool(_postprocess_section(plan, dataset, run)["instances"]["exclude_border"])


def evaluate_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    return {"bootstrap": plan.config.datasets[dataset].evaluate.bootstrap, "seed": plan.config.seed}


def worklist_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    run, section = worklist_run(plan, dataset), plan.config.datasets[dataset].worklist
    assert run is not None
    parts = {row.sample: plan.shown_part(dataset, row) for row in plan.samples[dataset]}
    roles = {part: role for role, of_role in run.parts.items() for part in of_role}
    return {
        "samples": [
            {
                "sample": row.sample,
                "image": row.image,
                "part": parts[row.sample],
                "role": roles.get(row.split, ""),
            }
            for row in plan.samples[dataset]
            if parts[row.sample] not in LEFT_OUT
        ],
        "model": run.model,
        "seed": run.seed,
        "images": (section or Worklist()).images,
    }


def conditions_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    section, run = plan.config.datasets[dataset].conditions, plan.run_of_conditions(dataset)
    assert section is not None
    assert run is not None
    rows = [row for row in plan.samples[dataset] if row.treated]
    return {
        "run": run.name,
        "images": [{"sample": row.sample, **row.treated} for row in rows],
        "conditions": sort_conditions((row.treated["condition"] for row in rows), control=section.control),
        "control": section.control,
        "features": section.features or DEFAULT_FEATURES,
    }


def report_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    section = plan.config.datasets[dataset]
    shown, labelled = plan.shown_shards(dataset), plan.labelled_shards(dataset)
    gallery = section.report.model_dump(mode="json", exclude={"ro_crate"})
    return {
        "dataset": dataset,
        "title": gallery.pop("title", None) or dataset,
        "paper": gallery.pop("paper", None),
        "config_text": yaml.safe_dump(canonical(list_settings(plan, dataset)), sort_keys=False, allow_unicode=True),
        "runs": [_run_files(plan, run) for run in plan.listed_runs(dataset)],
        "learning_curve": _curve_settings(plan, dataset),
        "experiment": _experiment_settings(plan, dataset),
        "rank_by": _rank_by(plan, dataset),
        "samples": [
            {
                "sample": row.sample, "image": row.image, "split": plan.shown_part(dataset, row), "shard": row.shard,
                "class": row.class_name, "sequence": row.sequence, "frame": row.frame,
                "channel": plan.preprocess[dataset]["channel"], "plane": row.plane,
            }
            for row in plan.samples[dataset]
        ],
        "images_dirs": _folders("images", shown, dataset=dataset),
        "labels_dirs": _folders("labels", [shard for shard in shown if shard in labelled], dataset=dataset),
        "gallery": gallery,
        "stage_inputs": _stage_inputs(plan, dataset),
        "remarks": _remarks(plan, dataset),
        "pixel_size_um": section.pixel_size_um,
        "match_path": None if plan.like_of(dataset) is None else dataset_path(dataset, "match.csv"),
        "worklist_path": dataset_path(dataset, WORKLIST) if worklist_run(plan, dataset) else None,
        "flat_field_path": plan.flat_field_path(dataset),
        "temporal_dirs": _folders("images", plan.temporal_shards(dataset), dataset=dataset),
    }  # fmt: skip


def _curve_settings(plan: Plan, dataset: str) -> dict[str, Any] | None:
    """Return the models of a learning curve: the one with all images, and number of images -> model."""
    runs = [run for run in plan.runs[dataset] if run.subset is not None]
    if not runs:
        return None
    whole = plan.config.datasets[dataset].curve_model
    parts = next(run.parts["train"] for run in plan.runs[dataset] if run.model == whole)
    return {
        "model": whole,
        "images": sum(row.split in parts for row in plan.samples[dataset]),
        "draws": max(run.subset[1] for run in runs if run.subset),
        # As pairs, because canonical settings sort the keys of a mapping as text
        "parts": sorted({(run.subset[0], run.model) for run in runs if run.subset}),
    }


def _experiment_settings(plan: Plan, dataset: str) -> dict[str, Any] | None:
    """Return the tables of an experiment, its control, and how many of its images the model has learned from."""
    section, run = plan.config.datasets[dataset].conditions, plan.run_of_conditions(dataset)
    if section is None or run is None:
        return None
    rows = [row for row in plan.samples[dataset] if row.treated]
    learned = (*run.parts["train"], *run.parts["validation"]) if run.is_fitted else ()
    return {
        "conditions_path": dataset_path(dataset, CONDITIONS),
        "replicates_path": dataset_path(dataset, REPLICATES),
        "column": section.column,
        "replicate": section.replicate,
        "control": section.control,
        "learned": sum(row.split in learned for row in rows),
        "left_out": len(plan.samples[dataset]) - len(rows),
    }


def _stage_inputs(plan: Plan, dataset: str) -> list[list[Any]]:
    """Return the graph of the stages as pairs, because canonical settings sort the keys of a mapping."""
    inputs = {stage: list(befores) for stage, befores in STAGE_INPUTS.items()}
    if not plan.config.datasets[dataset].is_fitted:
        # Annotations are read where numbers are chosen; applied models bring theirs along, others are fixed. Exported
        # models list their images as the check found them.
        inputs["contrast"].remove("rasterize")
        inputs["postprocess"] = [stage for stage in inputs["postprocess"] if stage not in ("rasterize", "check")]
    if worklist_run(plan, dataset) is None:
        del inputs["worklist"]
        inputs["report"].remove("worklist")
    if plan.diameter_path(dataset) == dataset_path(dataset, DIAMETER):
        inputs["preprocess"].append("rasterize")
    return [[stage, befores] for stage, befores in inputs.items()]


def _run_files(plan: Plan, run: Run) -> dict[str, Any]:
    path = partial(run_path, run.dataset, run.name)
    source = plan.source_of(run)
    files = {"run": run.name, "model": run.model, "seed": run.seed}
    files |= {name: path(f"{name}.csv") for name in ("objects", "counts", "flags")}
    if run.is_trained:
        files |= {"history": path("history.csv"), "summary": path("train.json"), "choices": path("choices.json")}
    elif run.apply is not None:
        files["apply"] = run.apply
    if (shipped := shipped_name(run.apply or run.init_from)) is not None:
        files["shipped"] = card_facts(shipped)
    if run.masks is not None:
        files |= {"masks": str(run.masks.table or run.masks.path), "role": run.role}
    elif source is not None:
        files["postprocess"] = run_path(source.dataset, source.name, FIT)
    if plan.is_classical(run):
        files["recipe"] = str(run.apply) if source is None else run_path(source.dataset, source.name, RECIPE)
    if plan.config.datasets[run.dataset].report.paper is not None:
        files["made_from"] = _origin(plan, run)
    for room in ("segmentation",) if run.masks is not None else ("probabilities", "segmentation"):
        files[room] = _folders(room, plan.shown_shards(run.dataset), dataset=run.dataset, run=run.name)
    return files


def _folders(room: str, shards: Sequence[str], *, dataset: str, run: str = "") -> dict[str, str]:
    return {shard: shard_path(room, dataset=dataset, run=run, shard=shard) for shard in shards}


def _origin(plan: Plan, run: Run) -> dict[str, Any]:
    """Return the preset that a run was made from, and how, for the report's comparison with a paper."""
    source = plan.source_of(run)
    if source is None or run.masks is not None:
        return {"preset": "", "settings": {}, "overrides": {}, "how": "applied"}
    entry = next(
        entry
        for entry in plan.config.datasets[source.dataset].models
        if entry.run_name == source.model.removesuffix(MEAN_SUFFIX)
    )
    if run.members:
        return {"preset": entry.preset, "settings": source.preset, "overrides": entry.overrides, "how": "averaged"}
    is_tuned = run.init_from is not None and run.init_weights != ALIKE
    how = "applied" if run.apply is not None else "fine_tuned" if is_tuned else "trained"
    return {"preset": entry.preset, "settings": source.preset, "overrides": entry.overrides, "how": how}


def index_settings(plan: Plan) -> dict[str, Any]:
    return {
        "datasets": {name: len(rows) for name, rows in plan.samples.items()},
        "order": list(plan.samples),
        "ranked": {
            name: sorted({run.model for run in plan.listed_runs(name) if run.role == "model"}) for name in plan.samples
        },
        "rank_by": {name: _rank_by(plan, name) for name in plan.samples},
        "others": _other_reports(plan),
    }


def _other_reports(plan: Plan) -> list[str]:
    """List the datasets of other configs that have a report in the same folder."""
    pages = Path(INDEX).parent.glob(f"*/{REPORT}")
    return sorted({page.parent.name for page in pages} - plan.samples.keys())


def _rank_by(plan: Plan, dataset: str) -> str:
    """Return the score that ranks the models: of the pixels where binary masks do not separate objects."""
    annotations = plan.config.datasets[dataset].annotations
    return "dice" if annotations is not None and annotations.format == "binary" else "ap_kaggle"


def propose_settings(plan: Plan) -> dict[str, Any]:
    return {"look": plan.proposal.get("look"), "write": plan.proposal.get("write")}


def crate_settings(plan: Plan, dataset: str) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "title": plan.config.datasets[dataset].report.title or dataset,
        "runs": [run.name for run in plan.listed_runs(dataset)],
        "parameters": list_settings(plan, dataset),
        "shipped": _shipped_models(plan, dataset),
        **list_inputs(plan, dataset),
        **list_results(plan, dataset),
    }


def _shipped_models(plan: Plan, dataset: str) -> dict[str, dict[str, Any]]:
    """Return what is known of the shipped models that a dataset uses: path of the copy -> facts."""
    sources = dict.fromkeys(source for run in plan.runs[dataset] for source in (run.apply, run.init_from))
    return {source: card_facts(name) for source in sources if source and (name := shipped_name(source)) is not None}


def _columns(rows: list[Sample], *names: str) -> Rows:
    ordered = sorted(names)
    return Rows(row.as_settings(*ordered) for row in rows)


STAGES: dict[str, Callable[..., dict[str, Any]]] = {
    "match": match_settings,
    "simulate": simulate_settings,
    "check_shard": check_shard_settings,
    "check_dataset": check_dataset_settings,
    "measure_objects": measure_objects_settings,
    "estimate_flat_field": estimate_flat_field_settings,
    "preprocess": preprocess_settings,
    "rasterize": rasterize_settings,
    "train": train_settings,
    "join_seeds": join_seeds_settings,
    "contrast_fit": contrast_fit_settings,
    "contrast": contrast_settings,
    "predict": predict_settings,
    "postprocess_fit": postprocess_fit_settings,
    "postprocess": postprocess_settings,
    "masks": masks_settings,
    "postprocess_features": postprocess_features_settings,
    "postprocess_tables": postprocess_tables_settings,
    "export_onnx": export_settings,
    "export_bioimageio": export_bioimageio_settings,
    "export_coco": object_files_settings,
    "export_rois": object_files_settings,
    "export_geojson": object_files_settings,
    "export_ctc": object_files_settings,
    "export_table": export_table_settings,
    "export_anndata": export_anndata_settings,
    "export_ome_zarr": export_ome_zarr_settings,
    "evaluate_shard": evaluate_shard_settings,
    "evaluate": evaluate_settings,
    "worklist": worklist_settings,
    "conditions": conditions_settings,
    "report": report_settings,
    "index": index_settings,
    "crate": crate_settings,
    "propose": propose_settings,
}
