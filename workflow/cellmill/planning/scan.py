"""Build the sample table of a dataset from one scan of the files: images, annotations, classes, split and shards."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellmill.config.dataset import Dataset
from cellmill.planning.annotation_tables import TableIndex
from cellmill.planning.attaching import attach_corrections, attach_masks, attach_section
from cellmill.planning.conditions import attach_conditions
from cellmill.planning.file_counts import (
    count_files,
    refuse_annotations_as_images,
    remark_on_companions,
    remark_on_exclude,
    remark_on_spelling,
)
from cellmill.planning.file_digests import FileDigests, digest_samples
from cellmill.planning.patterns import existing_form, hint_at_signs
from cellmill.planning.samples import (
    Found,
    Sample,
    SampleError,
    all_test,
    explain_names,
    scan_images,
    shard_samples,
    some,
    split_samples,
)
from cellmill.planning.simulated_samples import list_simulated, place_simulated
from cellmill.planning.splits import PARTS
from cellmill.planning.stacks import expand_stacks
from cellmill.planning.unread_files import refuse_unread_files
from cellmill.shards import ShardSize


@dataclass(frozen=True)
class Scan:
    """Samples of a dataset, remarks for the user, and numbers of files for the first line of the check."""

    samples: list[Sample]
    remarks: list[str]
    files: dict[str, Any]


def scan_dataset(
    name: str, dataset: Dataset, *, images_per_job: ShardSize, cache_dir: Path, digests: FileDigests
) -> Scan:
    """List the images of a dataset with the information that the plan needs about each.

    Parameters
    ----------
    name : str
        Name of the dataset.
    dataset : Dataset
        Config section of the dataset.
    images_per_job : int or "auto"
        Mean number of images of a shard.
    cache_dir : path
        Folder for cached digests of annotation tables and OME-Zarr folders.
    digests : FileDigests
        Digests of files, those of earlier calls included.

    Returns
    -------
    Scan
        Samples assigned to parts of the split and to shards, remarks on files, split and annotations without an image,
        and the numbers of files (`count_files`), empty for a simulation.

    Raises
    ------
    SampleError, ValueError
        If there are mistakes in patterns, names, annotations or the split.
    """
    where = f"datasets.{name}"
    if mistakes := refuse_unread_files(dataset, where=where):
        raise SampleError(mistakes)
    remarks: list[str] = []
    if dataset.simulate is not None:
        found = list_simulated(dataset.simulate)
    else:
        found, remarks = _find_images(dataset, cache_dir=cache_dir, where=where)
    samples = [sample for sample, _ in found]
    section, index, orphans = dataset.annotations, None, []
    if section is not None:
        attached = attach_section(
            samples, found, section=section, columns=_table_columns(dataset, found[0][1]), cache_dir=cache_dir,
            where=f"{where}.annotations", exclude=dataset.exclude,
        )  # fmt: skip
        samples, index, orphans = attached.samples, attached.index, attached.orphans
        remarks += attached.remarks
    if dataset.corrections is not None:
        samples, said = attach_corrections(samples, found, path=dataset.corrections, where=f"{where}.corrections")
        remarks += said
    samples, said = attach_masks(samples, found, dataset=dataset, cache_dir=cache_dir, where=where)
    remarks += said
    if dataset.conditions is not None:
        samples, said = attach_conditions(samples, found, section=dataset.conditions, where=f"{where}.conditions")
        remarks += said
    files: dict[str, Any] = {}
    if dataset.images is not None:
        refuse_annotations_as_images(samples, path=None if section is None else section.path, where=where)
        samples = digest_samples(samples, dataset=name, digests=digests, cache_dir=cache_dir)
        files = count_files(
            samples,
            images=existing_form(dataset.images),
            exclude=dataset.exclude,
            orphans=orphans,
            table=None if section is None else section.table,
        )
    labelled = _labelled(samples, dataset, where=where)

    def values_of(key: str | None, option: str) -> dict[str, str]:
        return _values_of(key, found=found, index=index, where=f"{where}.{option}")

    classes = values_of(dataset.class_column, "class_column")
    samples = [sample.changed(class_name=classes.get(sample.sample, "")) for sample in samples]
    strata_key = dataset.split.stratify
    strata = classes if strata_key == "class" and dataset.class_column else values_of(strata_key, "split.stratify")
    groups = values_of(dataset.split.group_by, "split.group_by")
    trains = any(entry.trains for entry in dataset.models)
    # With fewer images, a model without a network uses fixed numbers.
    is_fitted = dataset.is_fitted and (trains or len(labelled) >= len(PARTS))
    split = dataset.split.model_dump(mode="json")
    is_table = dataset.split.table is not None
    if not is_fitted and not is_table and (not dataset.split.is_chosen or len(labelled) < len(PARTS)):
        samples = all_test(samples, labelled=labelled, groups=groups)
    else:
        samples, said = split_samples(
            samples,
            labelled=labelled,
            split=split,
            groups=groups,
            strata=strata,
            where=f"{where}.split",
            needs=PARTS if trains or (is_fitted and not is_table) else (),
        )
        remarks += said
    samples = shard_samples(samples, images_per_job=images_per_job)
    if dataset.simulate is not None:
        samples = [place_simulated(row, dataset.simulate, dataset=name) for row in samples]
    return Scan(samples, remarks, files)


def _find_images(dataset: Dataset, *, cache_dir: Path, where: str) -> tuple[list[Found], list[str]]:
    """List the images of the pattern of a dataset and the planes of stacks, with remarks."""
    assert dataset.images is not None
    pattern, place = existing_form(dataset.images), f"{where}.images"
    found = scan_images(pattern, where=place, exclude=dataset.exclude)
    remarks = [
        *explain_names(found, where=place),
        *remark_on_companions(found, where=place),
        *remark_on_spelling(pattern, exclude=dataset.exclude, where=place),
        *remark_on_exclude(pattern, exclude=dataset.exclude, where=where),
    ]
    is_adopted = any(entry.apply is not None for entry in dataset.models)
    is_chosen = {"channel", "channels"} & dataset.preprocess.model_fields_set
    channels = [] if is_adopted and not is_chosen else dataset.preprocess.needed_channels
    stack = dataset.stack.model_dump(mode="json")
    return expand_stacks(found, stack=stack, channels=channels, cache_dir=cache_dir, where=where), remarks


def _labelled(samples: list[Sample], dataset: Dataset, *, where: str) -> set[str]:
    section = dataset.annotations
    if dataset.simulate is not None:
        return {sample.sample for sample in samples}
    if section is None:
        return set()
    have = {sample.sample for sample in samples if sample.is_annotated}
    lack = [sample.sample for sample in samples if sample.sample not in have]
    if not have:
        source = section.table or section.path
        raise ValueError(
            f"{where}.annotations: expected annotations of the images (such as {some([s.sample for s in samples])}), "
            f"found none in {source}. Check that the names match, because {{sample}} links images and annotations."
            f"{hint_at_signs(section.path or '')}"
        )
    if lack and section.missing == "error":
        companions = remark_on_companions([(sample, {}) for sample in samples], where="")
        raise ValueError(
            f"{where}.annotations: expected annotations of every image, found none for {some(lack)} "
            f"({len(lack)} of {len(samples)}). Add them, or set missing: unlabelled or empty."
            + "".join(f"{remark.removeprefix(':')}." for remark in companions)
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
        if several := index.explain_several([sample.sample for sample, _ in found], key):
            raise ValueError(f"{where}: {several}.")
        return {sample.sample: index.value(sample.sample, key) for sample, _ in found}
    known = sorted({*found[0][1], *(index.columns if index else [])})
    raise ValueError(
        f"{where}: expected a wildcard of images or a column of the annotation table, found {key!r}. "
        f"Known: {', '.join(known) or 'none'}."
    )
