"""Stage `crate`: machine-readable description of a dataset's results, their inputs and the software used.

Reads   tables, page, models and shard folders of a dataset, and sizes and digests of its images and annotations
Writes  results/{dataset}/ro-crate-metadata.json      RO-Crate 1.1, Process Run Crate 0.5; its folder is the crate
"""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from cellmill.shards import MANIFEST, VERSIONS, atomic_path, file_digest

logger = logging.getLogger(__name__)

SPECIFICATION = "https://w3id.org/ro/crate/1.1"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
# The context of RO-Crate 1.1 lacks schema.org's term for a digest, which is newer.
CONTEXT = [f"{SPECIFICATION}/context", {"sha256": "http://schema.org/sha256"}]
# The specification requires a licence or, in its place, a text.
NO_LICENCE = "No licence is stated. Add one before you publish these results."
# Written at the start of every run, not by a rule.
SAMPLE_TABLE = {"samples.csv": "Images with their annotations, classes, groups and parts of the split"}
OF_SHARD = {MANIFEST: "SHA-256 of each file in the folder", VERSIONS: "Package versions used to make the folder"}
FORMATS = {
    ".cellmill": "application/zip", ".csv": "text/csv", ".html": "text/html", ".json": "application/json",
    ".zip": "application/zip", ".gz": "application/gzip", ".h5ad": "application/x-hdf5",
}  # fmt: skip
# SOURCE package-url specification: identifies a package, wherever it was obtained
PACKAGE = "pkg:pypi/{name}@{version}"
PYTHON = "https://www.python.org/downloads/release/python-{version}/"

Entity = dict[str, Any]


def write_crate(
    *,
    output_path: str | Path,
    dataset: str,
    title: str,
    runs: Sequence[str],
    parameters: Mapping[str, Any],
    images: Sequence[str],
    annotations: Sequence[str],
    models: Sequence[str],
    shipped: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, str],
    shards: Mapping[str, str],
    folders: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> None:
    """Describe the results of a dataset as an RO-Crate; the same arguments and files result in the same bytes.

    Parameters
    ----------
    output_path : path
        ro-crate-metadata.json; its folder is the root of the crate.
    dataset, title : str
        Name of the dataset, and the heading of its page.
    runs : sequence of str
        Names of the runs.
    parameters : mapping
        The part of the config that was used; each value becomes one entity.
    images, annotations, models : sequence of paths
        Inputs outside of the crate: files, or folders of OME-Zarr. Absolute paths are written without their common
        folder.
    shipped : mapping
        Of the models, those that are shipped with cellmill: path -> name and, from the card, title, version, licence.
    files, shards, folders : mapping
        Outputs, path relative to the root -> meaning: files, folders with a manifest, folders without.
    provenance : mapping
        date, commit, machine and versions of `describe_run`. The function reads no clock.

    Raises
    ------
    ValueError
        If the date is invalid, or a file or folder of the results is missing.

    Notes
    -----
    No person, organisation or licence is named, since none is known. RO-Crate 1.1, https://w3id.org/ro/crate/1.1;
    Process Run Crate 0.5, https://w3id.org/ro/wfrun/process/0.5.
    """
    root, when = Path(output_path).parent, _read_date(str(provenance.get("date", "")))
    outputs = [describe_file(root, name, meaning) for name, meaning in (SAMPLE_TABLE | dict(files)).items()]
    for name, meaning in {**shards, **folders}.items():
        outputs += describe_folder(root, name, meaning)
    kinds = {"image": images, "annotation": annotations, "model": models}
    inputs = [entity for kind, paths in kinds.items() for entity in describe_inputs(kind, paths)]
    inputs = [entity | describe_shipped(shipped.get(entity["name"])) for entity in inputs]
    inputs += [
        _entity(f"#parameter/{_encode(key)}", "PropertyValue", key, value=value) for key, value in flatten(parameters)
    ]
    software = describe_software(_versions(root, files, shards, here=provenance.get("versions") or {}))
    descriptor = {
        "@id": "ro-crate-metadata.json", "@type": "CreativeWork", "about": {"@id": "./"},
        "conformsTo": {"@id": SPECIFICATION},
    }  # fmt: skip
    crate = _entity(
        "./", "Dataset", title,
        description=f"Objects in the images of {dataset}, found by {', '.join(runs)}, with scores and models",
        datePublished=when, license=NO_LICENCE, conformsTo={"@id": PROFILE}, hasPart=_references(outputs),
        mentions={"@id": "#run"},
    )  # fmt: skip
    run = _entity(
        "#run", "CreateAction", f"cellmill on {dataset}",
        description=f"From raw images to objects and scores, on {provenance.get('machine') or 'an unknown machine'}",
        endTime=when, actionStatus="http://schema.org/CompletedActionStatus", instrument={"@id": "#cellmill"},
        object=_references(inputs), result=_references(outputs),
    )  # fmt: skip
    cellmill = _entity(
        "#cellmill", "SoftwareApplication", "cellmill",
        description="Snakemake pipeline from microscope images to masks and scores",
        softwareVersion=str(provenance.get("commit") or "unknown"), softwareRequirements=_references(software),
    )  # fmt: skip
    profile = _entity(PROFILE, "CreativeWork", "Process Run Crate", version="0.5")
    graph = [descriptor, crate, profile, run, cellmill, *software, *inputs, *outputs]
    text = json.dumps({"@context": CONTEXT, "@graph": graph}, indent=1, ensure_ascii=False)
    with atomic_path(output_path) as path:
        path.write_text(text + "\n", encoding="utf-8")
    logger.info("%s: %d entities", output_path, len(graph))


def describe_file(root: Path, name: str, meaning: str) -> Entity:
    """Describe a file of the crate, with its size in bytes and its SHA-256; raise a ValueError if it is missing."""
    path = _find(root / name)
    kind = FORMATS.get(path.suffix, "application/octet-stream")
    return _entity(_encode(name), "File", name, description=meaning, encodingFormat=kind, **_weigh(path))


def describe_folder(root: Path, name: str, meaning: str) -> list[Entity]:
    """Describe a folder of the crate and, if present, its manifest of file digests and its package versions."""
    path = _find(root / name)
    found = {file: said for file, said in OF_SHARD.items() if (path / file).is_file()}
    parts = [describe_file(root, f"{name}/{file}", said) for file, said in found.items()]
    folder = _entity(f"{_encode(name)}/", "Dataset", name, description=meaning)
    return [folder | ({"hasPart": _references(parts)} if parts else {}), *parts]


def describe_inputs(kind: str, paths: Iterable[str]) -> list[Entity]:
    """Describe inputs outside of the crate by name, and existing files also by size and SHA-256.

    Parameters
    ----------
    kind : str
        image, annotation or model: the first word of the identifiers.
    paths : iterable of str
        Relative paths are written unchanged; of absolute paths, the part below their common folder is written.
    """
    names = {path: path for path in paths}
    absolute = [path for path in names if PurePath(path).is_absolute()]
    shared = os.path.commonpath([PurePath(path).parent for path in absolute]) if absolute else ""
    names |= {path: f"…/{PurePath(path).relative_to(shared).as_posix()}" for path in absolute}
    meaning = f"{kind.capitalize()} used to make the results"
    return [
        # RO-Crate 1.1 reserves the type File for parts of the crate
        _entity(f"#{kind}/{_encode(name)}", "CreativeWork", name, description=meaning)
        | (_weigh(Path(path)) if Path(path).is_file() else {})
        for path, name in names.items()
    ]


def describe_shipped(facts: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what is known of a shipped model beyond its file; nothing for other inputs."""
    if facts is None:
        return {}
    described = {"name": facts["name"], "description": "Model that is shipped with cellmill"}
    if "card" in facts:
        described["description"] += f": {facts['title']}, trained on {facts['data']}. Cite {facts['cite']}"
        described |= {"version": str(facts["version"]), "license": facts["licence"]}
    return described


def describe_software(versions: Iterable[tuple[str, str]]) -> list[Entity]:
    """Describe packages, and Python under the name ``python``; each version of a package is a separate entity."""
    return [
        _entity(
            PYTHON.format(version=version.replace(".", ""))
            if package == "python"
            else PACKAGE.format(name=package, version=quote(version, safe="")),
            "SoftwareApplication",
            package,
            softwareVersion=version,
        )
        for package, version in versions
    ]


def flatten(settings: Any, *, name: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Yield each value of nested settings with its path, such as ``datasets.nuclei.models[0].preset``.

    Lists of plain values become one text, because JSON-LD keeps no order; folders of absolute paths become ``…``.
    """
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            yield from flatten(value, name=f"{name}.{key}" if name else str(key))
    elif isinstance(settings, list | tuple) and any(isinstance(item, Mapping) for item in settings):
        for number, value in enumerate(settings):
            yield from flatten(value, name=f"{name}[{number}]")
    elif isinstance(settings, list | tuple):
        values = [_hide_folders(value) if isinstance(value, str) else value for value in settings]
        yield name, json.dumps(values, ensure_ascii=False)
    elif settings is not None:
        yield name, _hide_folders(settings) if isinstance(settings, str) else settings


def _hide_folders(text: str) -> str:
    """Remove the folders of an absolute path that precede its first wildcard, or its last part if it has none."""
    parts = PurePath(text).parts
    if not PurePath(text).is_absolute() or len(parts) < 3:
        return text
    first = next((number for number, part in enumerate(parts) if "{" in part or "*" in part), len(parts) - 1)
    return "/".join(["…", *parts[first:]])


def _read_date(text: str) -> str:
    """Convert the date of `describe_run` to ISO 8601, with seconds and the offset from UTC."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC).isoformat()
    except ValueError:
        raise ValueError(
            f"date of the run: expected a date like 2026-01-31 23:59 UTC, found {text!r}. Use the date of describe_run."
        ) from None


def _find(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path}: expected a result, found nothing there. Run snakemake again to create it.")
    return path


def _entity(identifier: str, kind: str, name: str, **facts: Any) -> Entity:
    return {"@id": identifier, "@type": kind, "name": name, **facts}


def _versions(
    root: Path, files: Iterable[str], shards: Iterable[str], *, here: Mapping[str, str]
) -> list[tuple[str, str]]:
    """List each version of each package that was used for training, for the objects and for this file."""
    recorded = [dict(here)]
    for name in files:
        if PurePath(name).name == "train.json":
            recorded.append(json.loads((root / name).read_text(encoding="utf-8")).get("versions") or {})
    for path in (root / name / VERSIONS for name in shards):
        recorded.append(json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})
    return sorted({item for versions in recorded for item in versions.items()})


def _weigh(path: Path) -> dict[str, str]:
    return {"contentSize": str(path.stat().st_size), "sha256": file_digest(path)}


def _references(entities: Iterable[Entity]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _encode(name: str) -> str:
    return quote(name, safe="/+")
