"""Files that are read and files that are left out, counted for the first line of the check."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cellmill.planning.patterns import SYSTEM_FILES, find_files, is_image, is_matched, list_names, pattern_regex
from cellmill.planning.samples import Found, Sample, SampleError, some, stem_of

SHOWN = 3
# Spellings of one suffix, in lower case
ALIKE = (r"\.tiff?", r"\.jpe?g", r"\.png")

# Endings of files that programs store beside an image
COMPANION = re.compile(
    r"(.+?)((?:[ _.-]cp)?[ _.-](?:masks?|seg|segmentation|labels?|flows?|outlines?|cellprob|probabilit(?:y|ies)|thumb"
    r"(?:nail)?s?|preview))",
    re.IGNORECASE,
)


def refuse_annotations_as_images(samples: Sequence[Sample], *, path: str | None, where: str) -> None:
    """Check that no image is also the annotation of another image, as in a folder that holds both.

    Raises
    ------
    SampleError
        With a pattern for the key exclude that leaves the annotations out.
    """
    images = {sample.image: sample for sample in samples}
    owners = {
        file: sample.sample
        for sample in samples
        for file in sample.annotation_files()
        if file in images and file != sample.image
    }
    if not owners:
        return
    named = sorted(owners)
    pattern = re.sub(r"\*+", "*", re.sub(r"\*\*/|\{[^{}]*\}", "*", path or ""))
    others = [image for image in images if image not in owners]
    is_narrow = bool(pattern) and not any(is_matched(image, [pattern]) for image in others)
    is_narrow = is_narrow and all(is_matched(image, [pattern]) for image in owners)
    advice = f'Set exclude: "{pattern}"' if is_narrow else "Set exclude to a pattern of these files"
    raise SampleError(
        [
            f"{where}.images: expected images only, found {len(owners)} files among them that are annotations of other "
            f"images, such as {named[0]} (of {owners[named[0]]}). {advice}, narrow the pattern of the images, or store "
            "images and annotations in separate folders."
        ]
    )


def count_files(
    samples: Sequence[Sample], *, images: str, exclude: Sequence[str], orphans: Sequence[str], table: str | None
) -> dict[str, Any]:
    """Count the files of a dataset and the files beside them.

    Parameters
    ----------
    samples : sequence of Sample
        With annotations.
    images : str
        Pattern of the images.
    exclude : sequence of str
        Patterns of files that are left out.
    orphans : sequence of str
        Annotation files of no image.
    table : str or None
        Annotation table.

    Returns
    -------
    dict
        Numbers of files: images, annotations, excluded, orphans (annotation files of no image) and others (further
        files in the folders of the images, without those of the operating system), and `examples` of others.
    """
    read = {os.path.normpath(sample.image) for sample in samples}
    annotations = {os.path.normpath(file) for sample in samples for file in sample.annotation_files()}
    matched = find_files(images) if exclude else ()
    excluded = {os.path.normpath(path) for path, _ in matched if is_matched(path, exclude)}
    masks = {os.path.normpath(file) for sample in samples for file in sample.mask_files()}
    known = (
        read
        | annotations
        | masks
        | excluded
        | {os.path.normpath(path) for path in (*orphans, *([table] if table else []))}
    )
    others = []
    for prefix in sorted({path[: path.rfind("/") + 1] for path in read}):
        with os.scandir(prefix or ".") as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
        visible = [name for name in names if not name.startswith(".") and name not in SYSTEM_FILES]
        others += [name for name in visible if f"{prefix}{name}" not in known]
    return {
        "images": len(read),
        "annotations": len(annotations) + (table is not None),
        "excluded": len(excluded),
        "orphans": len(orphans),
        "others": len(others),
        "examples": others[:SHOWN],
    }


def remark_on_spelling(pattern: str, *, exclude: Sequence[str], where: str) -> list[str]:
    """Return a remark on files that differ from a pattern only in case or in the spelling of the suffix: .TIF."""
    folder, slash, name = pattern.rpartition("/")
    alike = next((a for a in ALIKE if re.search(rf"{a}$", name, re.IGNORECASE)), None)
    stem = re.sub(rf"{alike}$", "", name, flags=re.IGNORECASE) if alike else name
    loose = re.compile(pattern_regex(folder + slash + stem).pattern + (alike or ""), re.IGNORECASE | re.DOTALL)
    own = pattern_regex(pattern)
    alike_names = (
        path for path in list_names(f"{folder}{slash}*") if loose.fullmatch(path) and not own.fullmatch(path)
    )
    odd = [path for path in alike_names if is_image(path) and not is_matched(path, exclude)]
    if not odd:
        return []
    wider = f"{folder}{slash}{stem}.*" if alike else pattern
    return [
        f"{where}: {len(odd)} files differ from the pattern in upper and lower case or in the spelling of the suffix "
        f"only, such as {some(odd[:SHOWN])}, and are left out. Write {wider} to read them as well, rename them, or add "
        "them to exclude"
    ]


def remark_on_companions(found: Sequence[Found], *, where: str) -> list[str]:
    """Return a remark on images named like another image with an ending such as _mask or _thumb."""
    stems = [(sample.image.rpartition("/")[0], stem_of(sample.image)) for sample, _ in found]
    places = set(stems)
    companions = []
    for (sample, _), (folder, stem) in zip(found, stems, strict=True):
        match = COMPANION.fullmatch(stem)
        if match is not None and (folder, match.group(1)) in places:
            path = Path(sample.image)
            companions.append((path.name, f"*{match.group(2)}{path.suffix}"))
    if not companions:
        return []
    name, pattern = companions[0]
    return [
        f"{where}: {len(companions)} images have the name of another image and an ending, such as {name}. If they are "
        f'masks or previews, leave them out with exclude: "{pattern}"'
    ]


def remark_on_exclude(images: str, *, exclude: Sequence[str], where: str) -> list[str]:
    """Return a remark on each pattern of `exclude` that matches no file among the images."""
    matched = [path for path, _ in find_files(images)] if exclude else []
    return [
        f"{where}.exclude: {pattern} matches none of the files that the pattern of the images matches, so it has no "
        "effect"
        for pattern in exclude
        if not any(is_matched(path, [pattern]) for path in matched)
    ]
