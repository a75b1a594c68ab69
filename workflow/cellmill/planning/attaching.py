"""Attach the annotations of a dataset, and the masks of its other runs, to the images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellmill.annotations.formats import ANNOTATION_FORMATS, FORMATS_OF_CORRECTIONS
from cellmill.config.annotations import Annotations, Masks
from cellmill.config.dataset import Dataset
from cellmill.planning.annotation_tables import TableIndex, index_table
from cellmill.planning.file_counts import refuse_annotations_as_images, remark_on_spelling
from cellmill.planning.patterns import existing_form, hint_at_signs
from cellmill.planning.samples import MAX_NAMED, Found, Sample, SampleError, some
from cellmill.planning.table_ties import tie_entries
from cellmill.planning.ties import attach_annotations, attach_extra
from cellmill.planning.track_tables import attach_track_tables

# Fields of a sample that say where its objects are
PLACE_FIELDS = ("annotations", "rows_digest", "entry", "is_annotated_as_stack", "extra")


@dataclass(frozen=True)
class Attachment:
    """Samples with the files of their objects, the index of a shared table, remarks, and files of no image."""

    samples: list[Sample]
    index: TableIndex | None
    remarks: list[str]
    orphans: list[str]


def attach_section(
    samples: list[Sample],
    found: list[Found],
    *,
    section: Annotations,
    columns: list[str],
    cache_dir: Path,
    where: str,
    exclude: Sequence[str],
) -> Attachment:
    """Match the files or table rows of a section to the images.

    Parameters
    ----------
    samples : list of Sample
        The images.
    found : list of tuple
        The same images with the text of their wildcards, from ``scan_images``.
    section : Annotations
        Where the objects are.
    columns : list of str
        Further columns of a shared table that are needed.
    cache_dir : path
        Folder for cached digests of tables.
    where : str
        Key path of the section, for messages.
    exclude : sequence of str
        Patterns of files that are left out.

    Raises
    ------
    SampleError, ValueError
        If files or entries do not fit the images.
    """
    remarks: list[str] = []
    index: TableIndex | None = None
    orphans: list[str] = []
    if section.table is not None:
        samples, index, remarks = _attach_table(
            samples, section=section, columns=columns, cache_dir=cache_dir, where=f"{where}.table"
        )
    elif section.path is not None:
        many = ANNOTATION_FORMATS[section.format]["files"] == "several"
        path, place = existing_form(section.path), f"{where}.path"
        attached = attach_annotations(found, path=path, many=many, where=place, frame_offset=section.frame_offset)
        remarks = [*attached.remarks, *remark_on_spelling(path, exclude=exclude, where=place)]
        samples = [
            old.changed(annotations=new.annotations, is_annotated_as_stack=new.is_annotated_as_stack)
            for new, old in zip(attached.samples, samples, strict=True)
        ]
        orphans = attached.orphans
    samples = _attach_extra(samples, found, section=section, where=where)
    samples, said = attach_track_tables(samples, section=section, where=where)
    return Attachment(samples, index, [*remarks, *said], orphans)


def attach_corrections(
    samples: list[Sample], found: list[Found], *, path: str, where: str
) -> tuple[list[Sample], list[str]]:
    """Match corrected annotations to their images.

    Returns
    -------
    tuple
        Samples with `correction`, and remarks on files of no image, or if there is no file yet.

    Raises
    ------
    SampleError
        If an image has several corrections, a file fits two images, or a file is of no format of corrections.
    """
    pattern = existing_form(path)
    attached = attach_annotations(found, path=pattern, many=False, where=where, frame_offset=0)
    files = {new.sample: new.annotations[0] for new in attached.samples if new.annotations}
    wrong = [file for file in files.values() if Path(file).suffix.lower() not in FORMATS_OF_CORRECTIONS]
    if wrong:
        raise SampleError(
            [
                f"{where}: expected corrections as {', '.join(FORMATS_OF_CORRECTIONS)}, found {some(wrong)}. Narrow "
                "the pattern, or save the files in one of these formats."
            ]
        )
    if stack := next((new for new in attached.samples if new.is_annotated_as_stack), None):
        raise SampleError(
            [
                f"{where}: expected a correction for each plane, found {stack.annotations[0]} for a whole stack. Name "
                f"the files after the planes in samples.csv, such as {stack.sample}{Path(stack.annotations[0]).suffix}."
            ]
        )
    remarks = list(attached.remarks)
    if not files:
        remarks.append(f"{where}: no file matches {path!r} yet, so all images keep their annotations")
    return [sample.changed(correction=files.get(sample.sample, "")) for sample in samples], remarks


def attach_masks(
    samples: list[Sample], found: list[Found], *, dataset: Dataset, cache_dir: Path, where: str
) -> tuple[list[Sample], list[str]]:
    """Match the masks of runs without a model of ours to the images.

    Returns
    -------
    tuple
        Samples with `masks`, and remarks for the user.

    Raises
    ------
    SampleError, ValueError
        If files or entries do not fit the images, or images lack masks and `missing` is error.
    """
    remarks: list[str] = []
    if not any(entry.masks for entry in dataset.models):
        return samples, remarks
    # Without the annotations, whose place the masks take for the search.
    blank = [sample.changed(annotations=[], rows_digest="", entry="", extra={}, correction="") for sample in samples]
    for number, entry in enumerate(dataset.models):
        if entry.masks is None:
            continue
        place = f"{where}.models[{number}].masks"
        attached = attach_section(
            blank, found, section=entry.masks, columns=[], cache_dir=cache_dir, where=place, exclude=dataset.exclude
        )
        if dataset.images is not None:
            refuse_annotations_as_images(attached.samples, path=entry.masks.path, where=where)
        _refuse_gaps(attached.samples, section=entry.masks, where=place)
        remarks += attached.remarks
        samples = [
            sample.changed(masks={**sample.masks, entry.run_name: _place_of(own)})
            for sample, own in zip(samples, attached.samples, strict=True)
        ]
    return samples, remarks


def _place_of(sample: Sample) -> dict[str, Any]:
    return {name: value for name in PLACE_FIELDS if (value := getattr(sample, name))}


def _refuse_gaps(samples: Sequence[Sample], *, section: Masks, where: str) -> None:
    lack = [sample.sample for sample in samples if not sample.is_annotated]
    if len(lack) == len(samples):
        raise ValueError(
            f"{where}: expected masks of the images (such as {some(lack)}), found none in "
            f"{section.table or section.path}. Check that the names match, because {{sample}} links images and masks."
            f"{hint_at_signs(section.path or '')}"
        )
    if lack and section.missing == "error":
        raise ValueError(
            f"{where}: expected masks of every image, found none for {some(lack)} ({len(lack)} of {len(samples)}). Add "
            "them, or set missing: empty if these images have no object, missing: untested if the program was applied "
            "to the test images only, or missing: unlabelled with role: annotator if the person did not look at them."
        )


def _attach_table(
    samples: list[Sample], *, section: Annotations, columns: list[str], cache_dir: Path, where: str
) -> tuple[list[Sample], TableIndex, list[str]]:
    """Set for each sample the digest of its rows in a shared annotation table ("" without rows) and its name there."""
    index = index_table(
        section.model_dump(mode="json"),
        samples={sample.sample for sample in samples},
        value_columns=columns,
        cache_dir=cache_dir,
        where=where,
    )
    ties = tie_entries(samples, index.entries, where=where, frame_offset=section.frame_offset)
    index.tie(ties.names)
    remarks = []
    if ties.respelt:
        remarks.append(
            f"{where}: {len(ties.respelt)} names of images and of entries agree in another Unicode form only, as macOS "
            f"and Windows write accents, such as {some(ties.respelt[:1])}. They were matched"
        )
    if others := index.others({sample.sample for sample in samples}):
        remarks.append(
            f"{where}: {len(others)} images of the table have no image file, such as "
            f"{some(others[:MAX_NAMED])}. Check that the names match; ignore this if the images are "
            "stored elsewhere"
        )
    tied = [
        sample.changed(rows_digest=index.digest(sample.sample), entry=ties.lookups.get(sample.sample, ""))
        for sample in samples
    ]
    return tied, index, remarks


def _attach_extra(samples: list[Sample], found: list[Found], *, section: Annotations, where: str) -> list[Sample]:
    """Add ignored pixels, CTC markers and track tables to their images."""
    for name in ("ignore", "markers", "tracks"):
        if path := getattr(section, name):
            offset = section.frame_offset if name != "tracks" else None
            path = existing_form(path)
            samples = attach_extra(samples, found, name=name, path=path, where=f"{where}.{name}", frame_offset=offset)
            if not any(name in sample.extra for sample in samples):
                raise ValueError(
                    f"{where}.{name}: expected files that match {path!r}, found none. Check folders and suffix."
                )
    return samples
