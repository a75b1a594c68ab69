"""Stage report, second rule: write the page that links to the reports of all datasets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cellmill.reports.rendering import known_origin, render
from cellmill.reports.verdict import BY_OBJECTS, rank_models, read_table, say_few
from cellmill.shards import atomic_path

DATA_FILES = ("../reports/templates/index.html.jinja",)


def write_index(
    *,
    output_path: str | Path,
    metrics_paths: Sequence[str | Path],
    comparisons_paths: Sequence[str | Path],
    datasets: Mapping[str, int],
    order: Sequence[str],
    ranked: Mapping[str, Sequence[str]],
    rank_by: Mapping[str, str],
    others: Sequence[str],
    provenance: Mapping[str, Any],
) -> None:
    """Write the index page, which links to the reports of all datasets.

    Parameters
    ----------
    output_path : path
        The HTML file.
    metrics_paths, comparisons_paths : sequences of paths
        Each dataset's metrics.csv and comparisons.csv, in the order of `order`.
    datasets : mapping
        Number of images of each dataset.
    order : sequence of str
        The datasets in the order of the page.
    ranked : mapping
        Names of the models of each dataset that may be the best: neither annotators nor points of a learning curve.
    rank_by : mapping
        The score that the models of each dataset are ranked by.
    others : sequence of str
        Datasets of other configs that have a report in the same folder.
    provenance : mapping
        As for `write_report`.
    """
    reports = [
        summarize_for_index(
            dataset=dataset,
            images=datasets[dataset],
            ranked=ranked[dataset],
            rank_by=rank_by[dataset],
            metrics_path=metrics_path,
            comparisons_path=comparisons_path,
        )
        for dataset, metrics_path, comparisons_path in zip(order, metrics_paths, comparisons_paths, strict=True)
    ]
    write_index_page(output_path=output_path, reports=reports, provenance=provenance, others=others)


def write_index_page(
    *,
    output_path: str | Path,
    reports: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
    others: Sequence[str] = (),
) -> None:
    """Write the index page from the rows of its table.

    Parameters
    ----------
    output_path : path
        The HTML file.
    reports : sequence of mappings
        From `summarize_for_index`, where n_seeds, counts and few may be missing.
        `path` is relative to the folder of `output_path`.
    provenance : mapping
        As for `write_report`.
    others : sequence of str
        As for `write_index`.
    """
    # Counts are unknown where nothing is scored.
    rows = [{"n_seeds": None, "counts": None, "few": "", **report} for report in reports]
    with atomic_path(output_path) as path:
        path.write_text(
            render("index.html.jinja", {"reports": rows, "provenance": known_origin(provenance), "others": others}),
            encoding="utf-8",
        )


def summarize_for_index(
    *,
    dataset: str,
    images: int,
    ranked: Sequence[str],
    metrics_path: str | Path,
    comparisons_path: str | Path,
    rank_by: str = BY_OBJECTS,
) -> dict[str, Any]:
    """Return a dataset's row of results/index.html.

    Parameters
    ----------
    dataset : str
        Its name; the link is ``{dataset}/report.html``.
    images : int
        Number of its images.
    ranked : sequence of str
        Names of its models that may be the best.
    metrics_path, comparisons_path : path
        Its metrics.csv and comparisons.csv; without rows if nothing is annotated.
    rank_by : str
        The score that its models are ranked by, see `cellmill.reports.verdict.rank_models`.

    Returns
    -------
    dict
        dataset, path, images, best_model, n_seeds, dice, ap, counts (Counts or None), few, annotated; best_model and
        few are "" and the others None if nothing is scored.
    """
    metrics = read_table(metrics_path)
    standings = [one for one in rank_models(read_table(comparisons_path), rank_by=rank_by) if one.model in ranked]
    best = standings[0] if standings else None
    return {
        "dataset": dataset,
        "path": f"{dataset}/report.html",
        "images": images,
        "best_model": best.model if best else "",
        "n_seeds": best.n_seeds if best else None,
        "dice": best.dice.value if best else None,
        "ap": best.ap.value if best and best.ap else None,
        "counts": best.counts if best else None,
        "few": say_few(best.dice.n, best.n_groups) if best else "",
        "annotated": not metrics.empty,
    }
