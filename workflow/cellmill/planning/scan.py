"""Build the sample table of a dataset from one scan of the files: images, annotations, classes, split and shards."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cellmill.annotations.formats import ANNOTATION_FORMATS
from cellmill.config.annotations import Annotations
from cellmill.config.dataset import Dataset
from cellmill.config.simulate import Simulate, name_samples
from cellmill.images.damage import explain
from cellmill.images.ome_zarr import digest_store, is_store, stamp_store
from cellmill.images.png_jpeg import STORE
from cellmill.planning.annotation_tables import TableIndex, index_table
from cellmill.planning.layout import shard_path
from cellmill.planning.samples import (
    MAX_NAMED,
    UNLABELLED,
    Found,
    Sample,
    SampleError,
    attach_annotations,
    attach_extra,
    attach_table,
    scan_images,
    shard_samples,
    some,
    split_samples,
)
from cellmill.planning.splits import PARTS
from cellmill.planning.stacks import expand_stacks
from cellmill.planning.track_tables import attach_track_tables
from cellmill.planning.unread_files import refuse_unread_files
from cellmill.shards import atomic_path
from cellmill.simulation.sequence_names import name_truth

MAX_MISTAKES = 20


def scan_dataset(
    name: str, dataset: Dataset, *, images_per_job: int, cache_dir: Path
) -> tuple[list[Sample], list[str]]:
    """List the images of a dataset with the information that the plan needs about each.

    Parameters
    ----------
    name : str
        Name of the dataset.
    dataset : Dataset
        Config section of the dataset.
    images_per_job : int
        Mean number of images of a shard.
    cache_dir : path
        Folder for cached digests of annotation tables and OME-Zarr folders.

    Returns
    -------
    samples : list of Sample
        Assigned to parts of the split and to shards.
    remarks : list of str
        Remarks for the user on the split and on annotations without an image.

    Raises
    ------
    SampleError, ValueError
        If there are mistakes in patterns, names, annotations or the split.
    """
    where = f"datasets.{name}"
    if mistakes := refuse_unread_files(dataset, where=where):
        raise SampleError(mistakes)
    if dataset.simulate is not None:
        found = _simulated(dataset.simulate)
    else:
        assert dataset.images is not None
        found = scan_images(dataset.images, where=f"{where}.images")
        found = expand_stacks(found, stack=dataset.stack.model_dump(mode="json"), where=where)
    samples = digest_stores([sample for sample, _ in found], cache_dir=cache_dir)
    remarks: list[str] = []
    index: TableIndex | None = None
    section = dataset.annotations
    if section is not None and section.table is not None:
        columns = _table_columns(dataset, found[0][1])
        index = index_table(
            section.model_dump(mode="json"),
            samples={sample.sample for sample in samples},
            value_columns=columns,
            cache_dir=cache_dir,
            where=f"{where}.annotations.table",
        )
        samples = attach_table(samples, index=index)
        if others := index.others({sample.sample for sample in samples}):
            remarks.append(
                f"{where}.annotations.table: {len(others)} images of the table have no image file, such as "
                f"{some(others[:MAX_NAMED])}. Check that the names match; ignore this if the images are "
                "stored elsewhere"
            )
    elif section is not None and section.path is not None:
        many = ANNOTATION_FORMATS[section.format]["files"] == "several"
        tied, remarks = attach_annotations(found, path=section.path, many=many, where=f"{where}.annotations.path")
        samples = [replace(new, image_digest=old.image_digest) for new, old in zip(tied, samples, strict=True)]
    if section is not None:
        samples = _attach_extra(samples, found, section=section, where=f"{where}.annotations")
        samples, said = attach_track_tables(samples, section=section, where=f"{where}.annotations")
        remarks += said
    labelled = _labelled(samples, dataset, where=where)

    def values_of(key: str | None, option: str) -> dict[str, str]:
        return _values_of(key, found=found, index=index, where=f"{where}.{option}")

    classes = values_of(dataset.class_column, "class_column")
    samples = [replace(sample, class_name=classes.get(sample.sample, "")) for sample in samples]
    strata_key = dataset.split.stratify
    strata = classes if strata_key == "class" and dataset.class_column else values_of(strata_key, "split.stratify")
    if all(entry.apply is not None for entry in dataset.models) and len(labelled) < len(PARTS):
        # Nothing is trained or chosen here, so labelled images too few for a split are all test images.
        samples = [replace(sample, split="test" if sample.sample in labelled else UNLABELLED) for sample in samples]
    else:
        samples, said = split_samples(
            samples,
            labelled=labelled,
            split=dataset.split.model_dump(mode="json"),
            groups=values_of(dataset.split.group_by, "split.group_by"),
            strata=strata,
            where=f"{where}.split",
        )
        remarks += said
    samples = shard_samples(samples, images_per_job=images_per_job)
    if dataset.simulate is not None:
        samples = [_place_simulated(row, dataset.simulate, dataset=name) for row in samples]
    return samples, remarks


def _simulated(simulate: Simulate) -> list[Found]:
    """List the images that the simulation will write, in the form returned by `scan_images`."""
    return [
        (
            Sample(sample=name.sample, image="", sequence=name.sequence, frame=name.frame),
            {"sample": name.sample, **({"sequence": name.sequence} if name.sequence else {})},
        )
        for name in name_samples(simulate)
    ]


def _place_simulated(row: Sample, simulate: Simulate, *, dataset: str) -> Sample:
    """Set the path of a simulated image and, for time-lapse, of its label image, tracks and markers."""
    raw = shard_path("raw", dataset=dataset, shard=row.shard)
    row = replace(row, image=f"{raw}/images/{row.sample}.tif")
    if simulate.time_lapse is None:
        return row
    truth = name_truth(row.sequence, row.frame, frames=simulate.time_lapse.frames)
    paths = {kind: f"{raw}/{path}" for kind, path in truth.items()}
    return replace(row, annotations=[paths["objects"]], extra={"tracks": paths["tracks"], "markers": paths["markers"]})


def _attach_extra(samples: list[Sample], found: list[Found], *, section: Annotations, where: str) -> list[Sample]:
    """Add ignored pixels, CTC markers and track tables to their images."""
    for name in ("ignore", "markers", "tracks"):
        if path := getattr(section, name):
            samples = attach_extra(samples, found, name=name, path=path, where=f"{where}.{name}")
            if not any(name in sample.extra for sample in samples):
                raise ValueError(
                    f"{where}.{name}: expected files that match {path!r}, found none. Check folders and suffix."
                )
    return samples


def digest_stores(samples: list[Sample], *, cache_dir: Path) -> list[Sample]:
    """Add digests to images that are OME-Zarr folders, taken from the cache if the file listing is unchanged."""
    if not any(sample.image and is_store(Path(sample.image)) for sample in samples):
        return samples
    cache = cache_dir / "stores.json"
    known: dict[str, list[str]] = json.loads(cache.read_text()) if cache.is_file() else {}
    digests: dict[str, str] = {}
    mistakes: list[str] = []
    for image in dict.fromkeys(sample.image for sample in samples):
        key = str(Path(image).absolute())
        try:
            stamp = stamp_store(Path(image))
            if known.get(key, [""])[0] != stamp:
                known[key] = [stamp, digest_store(Path(image))]
        except Exception as error:  # broken metadata can raise exceptions of many kinds
            mistakes.append(str(explain(error, path=Path(image), kind=STORE)))
            continue
        digests[image] = known[key][1]
    if mistakes:
        raise SampleError(mistakes[:MAX_MISTAKES])
    with atomic_path(cache) as partial:
        partial.write_text(json.dumps(known))
    return [replace(sample, image_digest=digests[sample.image]) for sample in samples]


def _labelled(samples: list[Sample], dataset: Dataset, *, where: str) -> set[str]:
    section = dataset.annotations
    if dataset.simulate is not None:
        return {sample.sample for sample in samples}
    if section is None:
        return set()
    have = {sample.sample for sample in samples if sample.annotations or sample.rows_digest}
    lack = [sample.sample for sample in samples if sample.sample not in have]
    if not have:
        source = section.table or section.path
        raise ValueError(
            f"{where}.annotations: expected annotations of the images (such as {some([s.sample for s in samples])}), "
            f"found none in {source}. Check that the names match, because {{sample}} links images and annotations."
        )
    if lack and section.missing == "error":
        raise ValueError(
            f"{where}.annotations: expected annotations of every image, found none for {some(lack)} "
            f"({len(lack)} of {len(samples)}). Add them, or set missing: unlabelled or empty."
        )
    return have if section.missing == "unlabelled" else {sample.sample for sample in samples}


def _table_columns(dataset: Dataset, wildcards: Mapping[str, str]) -> list[str]:
    wanted = {dataset.class_column, dataset.split.group_by}
    # `stratify: class` means the values of class_column, where there is one.
    if dataset.split.stratify != "class" or dataset.class_column is None:
        wanted.add(dataset.split.stratify)
    return sorted(key for key in wanted if key and key not in wildcards)


def _values_of(key: str | None, *, found: list[Found], index: TableIndex | None, where: str) -> dict[str, str]:
    if key is None:
        return {}
    if key in found[0][1]:
        return {sample.sample: values[key] for sample, values in found}
    if index is not None and key in index.columns:
        return {sample.sample: index.value(sample.sample, key) for sample, _ in found}
    known = sorted({*found[0][1], *(index.columns if index else [])})
    raise ValueError(
        f"{where}: expected a wildcard of images or a column of the annotation table, found {key!r}. "
        f"Known: {', '.join(known) or 'none'}."
    )
