"""Exported and shipped models that are incomplete or damaged, found before any job starts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cellmill.config.dataset import Config
from cellmill.config.errors import key_path
from cellmill.exports.model_file import MODEL_SUFFIX, ModelFileError, check_contents, read_description
from cellmill.planning.runs import ALIKE, Run
from cellmill.planning.shipped_models import TO_REPAIR, list_shipped, shipped_name


def damaged_models(config: Config, runs: Mapping[str, Sequence[Run]], *, presets_dir: Path) -> list[str]:
    """List the model files that cannot be used; each is read as a whole, so this is left to the main process.

    Files of users whose settings cannot be read are left out, because `resolve_runs` reports them.
    """
    mistakes, shipped = [], list_shipped(presets_dir)
    for where, reference in _model_files(config, runs):
        name = shipped_name(reference)
        try:
            if name in shipped:
                check_contents(shipped[name])
            elif name is None and _is_readable(reference):
                check_contents(reference)
        except ModelFileError as error:
            mistakes.append(f"{where}: {error if name is None else f'{error.problem} {TO_REPAIR}'}")
    return mistakes


def _model_files(config: Config, runs: Mapping[str, Sequence[Run]]) -> Iterator[tuple[str, str]]:
    """Yield the place in the config and the path of each model file that is applied or started from."""
    for dataset, section in config.datasets.items():
        for index, entry in enumerate(section.models):
            run = next(run for run in runs[dataset] if run.model == entry.run_name)
            start = "start" if run.init_weights == ALIKE else "init_from"
            for key, reference in (("apply", run.apply), (start, run.init_from)):
                if reference is not None and reference.endswith(MODEL_SUFFIX):
                    yield f"{key_path(('datasets', dataset, 'models', index))}.{key}", reference


def _is_readable(path: str | Path) -> bool:
    try:
        read_description(path)
    except ModelFileError:
        return False
    return True
