"""Stage report, first rule: write the page of one dataset.

Reads   metrics.csv, scores.csv, history.csv, train.json, postprocess.json, objects.csv, check/*.csv,
        and images, labels, probabilities and segmentation of the shards that the gallery shows
Writes  results/{dataset}/report.html                          one file, which opens offline
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from cellmill.checks.findings import read_tables
from cellmill.metrics.glossary import GLOSSARY
from cellmill.preprocessing.geometry import read_geometry
from cellmill.preprocessing.stationary import describe_resting
from cellmill.reports import chapters, comparison, data, figures, likeness, papers, results, runtime, seeds, wording
from cellmill.reports.conditions import Experiment, describe_conditions
from cellmill.reports.contests import Contest, find_contest
from cellmill.reports.gallery import Rooms, draw_examples, draw_gallery, draw_opening, judged_rows
from cellmill.reports.headline import write_headline
from cellmill.reports.learning_curve import CurveModels, describe_curve
from cellmill.reports.light import describe_light
from cellmill.reports.published import load_paper
from cellmill.reports.rendering import known_origin, render
from cellmill.reports.verdict import (  # fmt: skip
    BY_OBJECTS,
    Standing,
    count_objects,
    find_difference,
    rank_models,
    read_table,
    say_caution,
    say_few,
)
from cellmill.reports.worklist import describe_worklist
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)

DATA_FILES = ("../reports/templates/report.html.jinja",)


def write_report(
    *,
    output_path: str | Path,
    dataset: str,
    title: str,
    config_text: str,
    runs: Sequence[results.RunFiles],
    samples: Sequence[Mapping[str, Any]],
    check_paths: Sequence[str | Path],
    metrics_path: str | Path,
    scores_path: str | Path,
    comparisons_path: str | Path,
    curves_path: str | Path,
    sizes_path: str | Path,
    confidence_path: str | Path,
    images_dirs: Mapping[str, str | Path],
    labels_dirs: Mapping[str, str | Path],
    gallery: Mapping[str, Any],
    provenance: Mapping[str, Any],
    stage_inputs: Sequence[tuple[str, Sequence[str]]],
    remarks: Sequence[str] = (),
    pixel_size_um: float | None = None,
    temporal_dirs: Mapping[str, str | Path] | None = None,
    flat_field_path: str | Path | None = None,
    match_path: str | Path | None = None,
    paper: str | None = None,
    learning_curve: CurveModels | None = None,
    worklist_path: str | Path | None = None,
    experiment: Experiment | None = None,
    benchmarks_dir: str | Path | None = None,
    rank_by: str = BY_OBJECTS,
) -> None:
    """Write the page of one dataset; the same arguments and files result in the same bytes.

    Parameters
    ----------
    output_path : path
        The HTML file.
    dataset, title : str
        Name of the dataset, and the heading.
    config_text : str
        The part of the config that was used, as YAML.
    runs : sequence of RunFiles
        Names and files of the runs; `made_from` with `paper` only.
    samples : sequence of mappings
        sample, image, split, shard, class, sequence, frame, and `channel` if it is not the luminance; one row per
        image. The gallery has a raw view if `image` is a file.
    check_paths : sequence of paths
        summary.csv, images.csv and annotations.csv of the stage check.
    metrics_path, scores_path, comparisons_path, curves_path, sizes_path, confidence_path : path
        Tables of the stage evaluate, without rows if nothing is annotated.
    images_dirs, labels_dirs : mapping
        Shard -> folder, for the shards that may be shown; labels_dirs lacks the unlabelled ones.
    gallery : mapping
        gallery_images, gallery_choice, gallery_side_px.
    provenance : mapping
        date, commit, versions, python, machine, command; any may be missing. The function reads no clock.
    stage_inputs : sequence of pairs
        Stage, and stages whose outputs it reads; in the order of the chain, for the graph of the stages.
    remarks : sequence of str
        Remarks on the config for the reader.
    pixel_size_um : float, optional
        Edge of a pixel, if the config contains it.
    temporal_dirs : mapping, optional
        Shard -> folder of images whose background was estimated from their sequence, for all shards.
    flat_field_path : path, optional
        flat_field.json of a dataset whose images were divided by their illumination profile.
    match_path : path, optional
        match.csv of a simulation that was matched to another dataset.
    paper : str, optional
        A file of resources/papers whose figures are shown beside the scores.
    learning_curve : mapping, optional
        Models of the learning curve, which are in the tables and nowhere else on the page.
    worklist_path : path, optional
        worklist.csv of a dataset with images to annotate.
    experiment : mapping, optional
        Tables of the stage conditions, and what they were made from.
    benchmarks_dir : path, optional
        Snakemake's benchmark files of the dataset, for time and memory of the jobs.
    rank_by : str
        The score that the models are ranked by, see `cellmill.reports.verdict.rank_models`.

    Raises
    ------
    ValueError
        If a table is not a CSV table, or a shard folder lacks an image of the sample table.
    """
    metrics, scores, comparisons = (read_table(path) for path in (metrics_path, scores_path, comparisons_path))
    curves, sizes, confidence = (read_table(path) for path in (curves_path, sizes_path, confidence_path))
    read_runs = results.read_runs(runs)
    annotators = {run.model for run in read_runs if run.is_annotator}
    # People are not ranked; they come after the models.
    known = {run.model for run in read_runs}
    ranked = [one for one in rank_models(comparisons, rank_by=rank_by) if one.model in known]
    standings = sorted(ranked, key=lambda one: one.model in annotators)
    models = results.first_runs(read_runs, order=[one.model for one in standings], samples=samples)
    rooms = Rooms(images=images_dirs, labels=labels_dirs)
    shown = [row for row in samples if row["shard"] in images_dirs]
    judged = judged_rows(shown, models=models, scores=scores)
    jobs = runtime.read_jobs(benchmarks_dir)
    data_chapter = _data_chapter(
        samples,
        check_paths=check_paths,
        remarks=remarks,
        pixel_size_um=pixel_size_um,
        temporal_dirs=temporal_dirs or {},
        images_dirs=images_dirs,
        runs=read_runs,
    )
    page = {
        "dataset": dataset,
        "title": title,
        "provenance": known_origin(provenance),
        "images": len(samples),
        "is_annotated": not metrics.empty,
        "config_text": wording.hide_folders(config_text),
        "is_shortened": wording.hide_folders(config_text) != config_text,
        "command": wording.hide_folders(str(provenance.get("command") or f"snakemake results/{dataset}/report.html")),
        "caution": say_caution(results.read_flags(read_runs), samples=samples),
        "verdict": _verdict(standings, runs=read_runs, comparisons=comparisons, scores=scores, rank_by=rank_by),
        "models": [run.model for run in models],
        "annotators": len(annotators),
        "draw_key": figures.draw_key,
        "objects": sum(len(areas) for areas in models[0].areas.values()) if models else 0,
        "devices": sorted({comparison.say_device(run.summary) for run in read_runs if run.summary}),
        "likeness": _likeness(match_path),
        "light": describe_light(flat_field_path) if flat_field_path else None,
        **data_chapter,
        "opening": draw_opening(
            judged, best=models[0] if models else None, runs=read_runs, scores=scores, rooms=rooms, rank_by=rank_by
        ),
        "examples": draw_examples(shown, rooms=rooms),
        **_comparison_chapter(
            read_runs, metrics=metrics, comparisons=comparisons, jobs=jobs, megapixels=data_chapter["megapixels"]
        ),
        "digests": chapters.tabulate_digests(
            results.list_digests(
                data_chapter["checked"],
                read_runs,
                [metrics_path, scores_path, comparisons_path, curves_path, sizes_path, confidence_path],
            )
        ),
        "jobs_table": runtime.tabulate_jobs(jobs, stage_inputs=dict(stage_inputs)),
        "stages": runtime.draw_stages(jobs, stage_inputs=dict(stage_inputs)),
        "learning_curve": describe_curve(learning_curve, comparisons) if learning_curve else None,
        "worklist": describe_worklist(worklist_path, calibrated=_calibrated(read_runs)) if worklist_path else None,
        "experiment": describe_conditions(experiment, styles={run.name: run.style for run in read_runs})
        if experiment
        else None,
        "difference_table": comparison.tabulate_differences(standings, comparisons),
        "paper": papers.compare_with_paper(load_paper(paper), runs=read_runs, metrics=metrics) if paper else None,
        "model_pages": [
            comparison.describe_model(
                [run for run in read_runs if run.model == first.model],
                metrics=metrics,
                scores=scores,
                curves=curves,
                sizes=sizes,
                confidence=confidence,
            )
            for first in models
        ],
        "gallery": draw_gallery(
            judged,
            models=models,
            runs=read_runs,
            scores=scores,
            rooms=rooms,
            settings=gallery,
            page_dir=Path(output_path).parent,
        ),
        **_object_chapter(judged, models=models, scores=scores, labels_dirs=labels_dirs, all_rows=samples),
        **_versions(read_runs, images_dirs=images_dirs, labels_dirs=labels_dirs, provenance=provenance),
    }
    text = render("report.html.jinja", page)
    with atomic_path(output_path) as path:
        path.write_text(text, encoding="utf-8")
    logger.info("report of %s: %.1f MB", dataset, len(text) / 1e6, extra={"progress": True})


def _verdict(
    standings: Sequence[Standing],
    *,
    runs: Sequence[results.Run],
    comparisons: pd.DataFrame,
    scores: pd.DataFrame,
    rank_by: str,
) -> dict[str, Any] | None:
    """Collect the facts of the first sentences; None if nothing is scored."""
    annotators = {run.model for run in runs if run.is_annotator}
    if not standings:
        return None
    # Where only people are scored, they are ranked.
    ranked = [one for one in standings if one.model not in annotators] or list(standings)
    best, second = ranked[0], ranked[1] if len(ranked) > 1 else None
    best = replace(best, counts=best.counts or count_objects(scores, model=best.model))
    own = [run for run in runs if run.model == best.model]
    thresholds = [comparison.fitted_threshold(run.fit) for run in own]
    known = [threshold for threshold in thresholds if threshold is not None]
    difference = None
    if second is not None:
        difference = find_difference(comparisons, model=best.model, against=second.model, metric=rank_by)
    return {
        "best": best,
        "thresholds": known,
        "few": say_few(best.dice.n, best.n_groups) if best.dice.low is not None else "",
        "headline": write_headline(
            best,
            second=second,
            difference=difference,
            n_models=len({run.model for run in runs} - annotators) or len(annotators),
            thresholds=known,
            averages=own[0].averages if own else "",
            contests=_find_contests(standings, runs=runs, comparisons=comparisons, rank_by=rank_by),
            rank_by=rank_by,
        ),
    }


def _calibrated(runs: Sequence[results.Run]) -> set[str]:
    """List the models whose confidence was fitted to annotated objects."""
    return {run.model for run in runs if (run.fit.get("confidence") or {}).get("calibrated")}


def _find_contests(
    standings: Sequence[Standing], *, runs: Sequence[results.Run], comparisons: pd.DataFrame, rank_by: str
) -> list[Contest]:
    """Compare the best model with the floor, with masks of other programs, and with annotators."""
    annotators = {run.model for run in runs if run.is_annotator}
    elsewhere = {run.model for run in runs if run.masks} - annotators
    floors = {run.model for run in runs if run.is_floor}
    models = {run.model for run in runs} - annotators
    find = partial(find_contest, standings=standings, comparisons=comparisons, rank_by=rank_by)
    found = (
        find("floor", rivals=floors, models=models - elsewhere),
        find("masks", rivals=elsewhere, models=models),
        find("annotator", rivals=annotators, models=models),
    )
    return [contest for contest in found if contest is not None]


def _data_chapter(
    samples: Sequence[Mapping[str, Any]],
    *,
    check_paths: Sequence[str | Path],
    remarks: Sequence[str],
    pixel_size_um: float | None,
    temporal_dirs: Mapping[str, str | Path],
    images_dirs: Mapping[str, str | Path],
    runs: Sequence[results.Run],
) -> dict[str, Any]:
    tables = read_tables(check_paths)
    paths = [Path(folder) / "geometry.csv" for folder in images_dirs.values()]
    geometries = {sample: found for path in paths for sample, found in read_geometry(path).items()}
    images, annotations = ({row["sample"]: row for row in tables[name]} for name in ("images", "annotations"))
    # a remark is already shown above the table
    findings = [row for row in tables["summary"] if f"{row['where']}: {row['finding']}" not in remarks]
    return {
        "remarks": [wording.end_sentence(wording.hide_folders(remark)) for remark in remarks],
        "shared_sequences": chapters.shared_sequences(samples),
        "checked": images,
        "megapixels": runtime.megapixels_of(images),
        "data_tables": data.describe_data(
            samples, images=images, annotations=annotations, pixel_size_um=pixel_size_um, geometries=geometries
        ),
        "findings": data.list_findings([*describe_resting(temporal_dirs), *findings, *results.read_flags(runs)]),
    }


def _likeness(match_path: str | Path | None) -> dict[str, Any] | None:
    if match_path is None:
        return None
    table = pd.read_csv(match_path).astype(object)
    rows: list[Any] = table.where(table.notna(), None).to_dict("records")
    return likeness.describe_likeness(rows)


def _comparison_chapter(
    runs: Sequence[results.Run],
    *,
    metrics: pd.DataFrame,
    comparisons: pd.DataFrame,
    jobs: Sequence[runtime.Job],
    megapixels: float,
) -> dict[str, Any]:
    one_per_seed = {(run.model, run.seed): run for run in reversed(runs)}
    scored = [run for run in runs if one_per_seed[run.model, run.seed] is run]
    figures, table = comparison.compare_runs(scored, metrics, comparisons=comparisons)
    return {
        "comparison": figures,
        "score_table": table,
        "seeds_note": seeds.EXPLANATION if len({run.model for run in scored}) < len(scored) else "",
        "cost_table": comparison.tabulate_costs(runs, jobs=jobs, megapixels=megapixels),
        "metrics_table": comparison.list_all_metrics(metrics),
        "metric_meanings": [(GLOSSARY[name].heading, GLOSSARY[name].words) for name in comparison.METRICS],
    }


def _object_chapter(
    judged: Sequence[Mapping[str, Any]],
    *,
    models: Sequence[results.Run],
    scores: pd.DataFrame,
    labels_dirs: Mapping[str, str | Path],
    all_rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    if not models:
        return {"object_figures": [], "image_table": None}
    measured, truth_areas_px = results.measure_truth(judged, labels_dirs=labels_dirs)
    samples = [row["sample"] for row in judged]
    figures = [
        chapters.draw_sizes(models, samples=measured, truth_areas_px=truth_areas_px),
        chapters.draw_intensities(models, samples=samples),
        chapters.draw_counts(models, scores=scores, samples=samples),
        *chapters.draw_times(models, rows=all_rows),
    ]
    return {
        "object_figures": [figure for figure in figures if figure],
        "image_table": chapters.tabulate_images(judged, runs=models, scores=scores),
    }


def _versions(
    runs: Sequence[results.Run],
    *,
    images_dirs: Mapping[str, str | Path],
    labels_dirs: Mapping[str, str | Path],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    folders = {
        "preprocess": list(images_dirs.values()),
        "rasterize": list(labels_dirs.values()),
        "predict": [folder for run in runs if not run.is_floor for folder in run.probabilities.values()],
        "contrast": [folder for run in runs if run.is_floor for folder in run.probabilities.values()],
        "postprocess": [folder for run in runs if not run.masks for folder in run.segmentation.values()],
        "masks": [folder for run in runs if run.masks for folder in run.segmentation.values()],
    }
    table, mixed = chapters.tabulate_versions(
        results.recorded_versions(runs, folders, here=provenance.get("versions") or {})
    )
    return {"versions": table, "mixed_packages": mixed}
