"""The format of annotations, from the numbers in some of the files."""

from collections.abc import Sequence

import numpy as np

from cellmill.proposing.draft import Key, Question, count, kind_of
from cellmill.proposing.evidence import CLASSES, PARTS_OF_LABEL, Codes, count_regions
from cellmill.proposing.pairing import Pairing

OUTLINES = {".zip": "imagej_roi", ".roi": "imagej_roi", ".geojson": "geojson"}
# Annotations of the Cell Tracking Challenge: ends of folders, and starts of names
CTC_FOLDERS = ("_GT", "_ST", "_RES")
CTC_NAMES = ("man_seg", "man_track", "mask")
IGNORED = (255.0, 65535.0)


def describe_annotations(
    pairing: Pairing, codes: Sequence[Codes], *, pattern: str, images: int, is_sequence: bool
) -> Key:
    """Return the section `annotations` for the files of a pairing.

    Parameters
    ----------
    pairing : Pairing
        How the files belong to the images.
    codes : sequence of Codes
        Numbers of some of them; empty for files with outlines.
    pattern : str
        Pattern of the files.
    images : int
        Number of images.
    is_sequence : bool
        Whether the images are frames.
    """
    files, suffix = len(pairing.files), pairing.family.suffix.lower()
    kind = kind_of(suffix)
    tied = len(pairing.images)
    key = Key(
        "annotations",
        {},
        [f"{count(files, f'{kind} file')} for {tied} of {count(images, 'image')}, {_say_way(pairing)}."],
    )
    if suffix in OUTLINES:
        key.value = {"format": OUTLINES[suffix], "path": pattern}
    elif is_ctc(pairing) and is_sequence:
        key.value = {"format": "ctc", "path": pattern}
        key.comments.append("Label images named as in the Cell Tracking Challenge.")
    elif pairing.is_many:
        key.value = {"format": "mask_folder", "path": pattern}
        key.comments.append("Several files for each image: a binary mask for each object.")
    else:
        _judge_numbers(key, codes, pattern=pattern)
    _mention_sizes(key, codes)
    if tied < images and key.value.get("format") != "ctc":
        key.value["missing"] = "unlabelled"
        key.questions.append(
            Question(
                f"{count(images - tied, 'image')} without annotations: not annotated yet, or without objects?",
                (("missing: unlabelled", "predicted, neither trained on nor scored (proposed)"),
                 ("missing: empty", "images without objects")),
            )
        )  # fmt: skip
    return key


def is_ctc(pairing: Pairing) -> bool:
    """Return whether folders and names are those of the Cell Tracking Challenge."""
    family = pairing.family
    is_folder = any(folder.upper().endswith(CTC_FOLDERS) for folder in family.folders)
    return is_folder and family.files[0].stem.startswith(CTC_NAMES)


def _say_way(pairing: Pairing) -> str:
    return {
        "equal": "with equal names",
        "end": f"named like the image and {pairing.text!r}",
        "start": f"named {pairing.text!r} and like the image",
        "columns": "with equal numbers and words in their names",
        "objects": "named like the image, with a number for each object",
        "folder": "in a folder for each image",
    }[pairing.way]


def _judge_numbers(key: Key, codes: Sequence[Codes], *, pattern: str) -> None:
    """Choose the format of masks with one file for each image."""
    values = sorted({value for one in codes for value in one.values})
    foreground = [value for value in values if value]
    parts = [number for one in codes for number in one.parts]
    if any(one.has_colours for one in codes):
        key.value = {"format": "color_components", "path": pattern}
        key.comments.append("Colours: each connected area of one colour is an object.")
    elif len(values) <= 2 and len(foreground) == 2:
        _ask_class(key, values, codes, pattern=pattern)
    elif len(foreground) <= 1:
        _judge_binary(key, codes, pattern=pattern)
    elif np.median(parts or [1]) <= PARTS_OF_LABEL:
        key.value = {"format": "label_image", "path": pattern}
        key.comments.append("Numbers: each is one area, so each is one object.")
        highest = max(values)
        if highest in IGNORED and sum(highest in one.values for one in codes) > len(codes) / 2:
            key.questions.append(
                Question(
                    f"The number {highest:g} is in most files. Does it mark pixels to ignore?",
                    ((f"ignore_value: {highest:g}", "if it is not an object"),),
                )
            )
    elif len(values) <= CLASSES:
        _ask_class(key, values, codes, pattern=pattern)
    else:
        key.value = {"format": "label_image", "path": pattern}
        key.comments.append("Many numbers, some of them in several areas: objects in parts.")


def _judge_binary(key: Key, codes: Sequence[Codes], *, pattern: str) -> None:
    """Choose which of two values are the objects: the one with many separate areas."""
    counts = np.array([count_regions(one.path) for one in codes])
    nonzero, zero = np.median(counts, axis=0)
    share = float(
        np.mean([sum(part for value, part in zip(one.values, one.shares, strict=True) if value) for one in codes])
    )
    is_dark = share > 0.5 and zero > 2 * nonzero
    key.value = {"format": "binary", "path": pattern}
    if is_dark:
        key.value["foreground"] = "zero"
    chosen = "zero" if is_dark else "nonzero"
    key.comments += [
        f"Two values. In a typical file, the nonzero one is in {count(round(nonzero), 'area')} ({share:.0%} of the "
        f"pixels) and zero in {count(round(zero), 'area')}, so the objects are {chosen}.",
        "Objects that touch count as one, because such masks do not tell them apart.",
    ]
    if share > 0.5:
        key.questions.append(
            Question(
                "Which value are the objects?",
                (
                    ("foreground: nonzero", "" if is_dark else "proposed"),
                    ("foreground: zero", "proposed" if is_dark else ""),
                ),
            )
        )


def _ask_class(key: Key, values: Sequence[float], codes: Sequence[Codes], *, pattern: str) -> None:
    """Leave open which number of an image of classes is the class of the objects."""
    shares = {
        value: float(np.mean([dict(zip(one.values, one.shares, strict=True)).get(value, 0.0) for one in codes]))
        for value in values
    }
    key.value = {"format": "binary", "path": pattern}
    key.comments.append("Few numbers, each in many areas: classes, or numbers that only differ between neighbours.")
    choices = [(f"foreground: {value:g}", f"{shares[value]:.1%} of the pixels") for value in values if value]
    choices.append(("format: color_components", "in place of binary, if each area is one object"))
    key.value["foreground"] = None
    key.questions.append(Question("Which number are the objects?", tuple(choices), is_open=True))


def _mention_sizes(key: Key, codes: Sequence[Codes]) -> None:
    if (empty := sum(len(one.values) < 2 for one in codes)) and empty == len(codes):
        key.comments.append(f"The {count(empty, 'file')} that were opened contain one value only.")
