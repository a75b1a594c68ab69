"""Compare the preset `default` with the same preset after one change, in three folds of images: for parts.py, recipe.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from real_runs import find_data, read_section, run_pipeline, say_difference

METRIC = "ap_kaggle"
# Name of the run -> what is said in the table, and what differs from the preset
Arms = Mapping[str, tuple[str, dict[str, Any]]]


def make_config(arms: Arms, *, names: Sequence[str], length: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Make the config, whose paths start in the folder of the data.

    All runs start from random weights, train for `length`, and have the settings `before`; those of an arm take precedence.
    """
    from cellmill.config.merging import merge

    base = merge({"train": length}, before)
    changes = {"default": {}, **{run: changed for run, (_, changed) in arms.items()}}
    datasets = {}
    for name in names:
        section = read_section(name)
        groups = {key: value for key, value in section.get("split", {}).items() if key == "group_by"}
        section["split"] = {**groups, "folds": 3}
        section["models"] = [
            {"preset": "default", "name": run, "start": None, **merge(base, changed)}
            for run, changed in changes.items()
        ]
        datasets[name] = section
    return {"seed": 1, "datasets": datasets}


def compare(
    folder: Path,
    arms: Arms,
    *,
    names: Sequence[str],
    length: dict[str, Any],
    before: dict[str, Any] | None = None,
    against: Mapping[str, str] | None = None,
) -> None:
    """Run missing jobs and print the table; `against` names arms that are compared with another arm than `default`."""
    from cellmill.reports.verdict import find_difference, find_number, read_table

    folder.parent.mkdir(exist_ok=True)
    run_pipeline(folder, find_data(), make_config(arms, names=names, length=length, before=before or {}))
    print(f"| change | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    results = [folder / "results" / name for name in names]
    means = [find_number(read_table(path / "metrics.csv"), model="default", seed=1, metric=METRIC) for path in results]
    pairs = [read_table(path / "comparisons.csv") for path in results]
    print(f"| none | {' | '.join('' if mean is None else f'{mean.value:.3f}' for mean in means)} |")
    for run, (title, _) in arms.items():
        other = (against or {}).get(run, "default")
        cells = [say_difference(find_difference(table, model=run, against=other, metric=METRIC)) for table in pairs]
        print(f"| {title} | {' | '.join(cells)} |", flush=True)
