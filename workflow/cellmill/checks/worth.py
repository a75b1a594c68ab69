"""Judge from all images of a dataset whether its annotations can be learned from and scored.

Each rule finds a way in which annotations are read without error but do not mean what was read: every object ignored,
outlines in another unit, a mask read as object numbers, the background as object. A single image can be so; a rule
stops the run if most images, or most objects, of a dataset are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np

# More than this share of the annotations or of the images stops the run.
MOST = 0.5
# More than this share of crowds is a warning; in COCO's own files it is 1 %.
SOME = 0.1
# Objects of a label image have one part each; a mask of many cells read as one number has many.
PARTS_PER_OBJECT = 3
# Number of the foreground in 8-bit masks.
MASK_NUMBER = 255
# Regions that a background surrounds in most images, or the fraction of the image that it covers if there are fewer.
ENCLOSED = 2
MOST_COVERED = 0.95
# Largest coordinate, px, of outlines given as fractions (a pixel is drawn although its outline ends inside it).
FRACTION_PX = 2
# Largest coordinate, px, of outlines in per cent of an image of at least WIDE times this size, and the smallest and
# largest coordinates that the objects of a whole dataset reach at least.
PERCENT_PX = 100
WIDE = 1.5
FIRST_PX, LAST_PX = 20, 70
ENOUGH_OBJECTS = 10
SHOWN = 3
ESCAPE = "If the data are really so, set annotations.implausible to warn"
OTHER_FOREGROUND = {"nonzero": "zero", "zero": "nonzero"}


class JudgedSettings(TypedDict):
    """Keys of the config section `annotations` that the judgement depends on, and the location of the annotations."""

    source: str
    format: str
    foreground: str | int | None
    is_foreground_set: bool
    fragments: str
    min_object_px: int
    missing: str
    implausible: str


class Reason(NamedTuple):
    """A reason against the annotations of a dataset: what was found, and the likely remedy."""

    finding: str
    advice: str
    severity: str = "error"


def judge_annotations(
    truths: Sequence[Mapping[str, Any]], *, images: Sequence[Mapping[str, Any]], annotations: JudgedSettings
) -> list[dict[str, str]]:
    """Find reasons why the annotations of a dataset cannot be learned from or scored.

    Parameters
    ----------
    truths : sequence of mappings
        Annotated images: the results of `measure_objects` and `measure_evidence`, with `sample` and `split`.
    images : sequence of mappings
        sample, rows and columns of each image.
    annotations : mapping
        See `JudgedSettings`.

    Returns
    -------
    list of dict
        Findings: errors for what most images or objects of the dataset have, warnings or notes for less. Errors are
        warnings if `implausible` is "warn".
    """
    if not truths:
        return []
    reasons = find_losses(truths, annotations=annotations)
    # without objects there is nothing that the other rules could compare
    if any(truth["objects"] for truth in truths):
        reasons += find_other_units(truths, images=images)
        backgrounds = find_backgrounds(truths, annotations=annotations)
        # a background has holes, and what is around it has parts
        is_explained = any(reason.severity == "error" for reason in backgrounds)
        reasons += (
            backgrounds if is_explained else [*find_masks_as_numbers(truths, annotations=annotations), *backgrounds]
        )
    is_stopped = annotations["implausible"] == "stop"
    return [
        {
            "severity": severity if is_stopped or severity != "error" else "warning",
            "sample": "",
            "where": annotations["source"],
            "finding": finding,
            "advice": f"{advice}. {ESCAPE}" if is_stopped and severity == "error" else advice,
        }
        for finding, advice, severity in reasons
    ]


def explain_errors(findings: Sequence[Mapping[str, str]]) -> str:
    """Join the findings that stop the run in one message, one line each; empty if there are none."""
    return "\n".join(
        f"{finding['where']}: expected annotations to train on and to score, found: {finding['finding']}. "
        f"{finding['advice']}."
        for finding in findings
        if finding["severity"] == "error"
    )


def find_losses(truths: Sequence[Mapping[str, Any]], *, annotations: JudgedSettings) -> list[Reason]:
    """Find out whether all or most annotations are no objects: missing, ignored, without pixels, broken or tiny."""
    total, objects, crowds = (sum(truth[key] for truth in truths) for key in ("annotations", "objects", "crowds"))
    # a table of runs states with empty cells what an image lacks
    empty = 0 if annotations["format"] == "rle" else sum(truth["empty"] for truth in truths)
    broken, tiny = (sum(truth[key] for truth in truths) for key in ("broken", "tiny"))
    reasons = []
    if crowds > MOST * total:
        reasons.append(Reason(
            f"{crowds} of {total} annotations are crowds (iscrowd 1), whose pixels are ignored",
            "CVAT marks every brushed mask so: set iscrowd to 0 if each of them is one object",
        ))  # fmt: skip
    elif crowds > SOME * total:
        reasons.append(Reason(
            f"{crowds} of {total} annotations are crowds (iscrowd 1), whose pixels are ignored",
            "CVAT marks brushed masks so: set iscrowd to 0 for each that is one object",
            "warning",
        ))  # fmt: skip
    if max(empty, broken) > MOST * (total - crowds):
        reasons.append(_explain_broken(truths, empty=empty, broken=broken, total=total - crowds))
    if objects and tiny == objects:
        reasons.append(Reason(
            f"{tiny} of {objects} objects have fewer than {annotations['min_object_px']} px and are dropped",
            "Reduce annotations.min_object_px, which counts pixels",
        ))  # fmt: skip
    if not objects and not any(reason.severity == "error" for reason in reasons):
        reasons.append(Reason(
            f"no object in {len(truths)} annotated images",
            "Export the annotations again: this file has lost its objects, or the format is another",
        ))  # fmt: skip
    if any(reason.severity == "error" for reason in reasons):
        return reasons
    return [*reasons, *_find_empty_parts(truths, annotations=annotations)]


def find_other_units(truths: Sequence[Mapping[str, Any]], *, images: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """Find coordinates in fractions or per cent of the image: all objects lie in its first corner."""
    sizes = {image["sample"]: (image["rows"], image["columns"]) for image in images}
    known = [truth for truth in truths if truth["reach_px"] and truth["sample"] in sizes]
    if not known:
        return []
    edges = np.array([truth["reach_px"] for truth in known])
    first, last = edges[:, :2].min(axis=0), edges[:, 2:].max(axis=0)
    smallest = min(min(sizes[truth["sample"]]) for truth in known)
    objects = sum(truth["objects"] for truth in known)
    where = f"all {objects} objects lie in the first {last[0]} rows and {last[1]} columns of their images"
    if last.max() <= FRACTION_PX < smallest / WIDE:
        return [Reason(
            f"{where}, as if coordinates were fractions of the image",
            "Write coordinates in pixels: multiply x by the width and y by the height of the image",
        )]  # fmt: skip
    is_percent = last.max() <= PERCENT_PX and last.min() >= LAST_PX and first.max() <= FIRST_PX
    if is_percent and objects >= ENOUGH_OBJECTS and smallest >= WIDE * PERCENT_PX:
        return [Reason(
            f"{where}, as if coordinates were percentages",
            "Write coordinates in pixels: multiply x by the width and y by the height of the image, and divide by 100",
        )]  # fmt: skip
    return []


def find_masks_as_numbers(truths: Sequence[Mapping[str, Any]], *, annotations: JudgedSettings) -> list[Reason]:
    """Find masks of many cells that are read as one object each."""
    if annotations["fragments"] != "keep" or annotations["format"] == "binary":
        return []
    known = [truth for truth in truths if truth["objects"]]
    torn = [truth for truth in known if truth["parts"] >= PARTS_PER_OBJECT * truth["counted"]]
    numbers = Counter(number for truth in known for number in truth["numbers"])
    # masks of one or two cells have few parts, but no label image has only objects with the number 255
    is_mask = set(numbers) == {MASK_NUMBER}
    split = [truth for truth in known if truth["parts"] > truth["counted"]]
    chosen = split if is_mask else torn
    if len(chosen) <= (0 if is_mask else MOST * len(known)):
        return []
    parts, counted = (sum(truth[key] for truth in chosen) for key in ("parts", "counted"))
    often = f" (number {', '.join(str(number) for number, _ in numbers.most_common(SHOWN))})" if numbers else ""
    advice = "If parts that do not touch are different cells, set annotations.fragments to split"
    if annotations["format"] in ("label_image", "ctc", "mask_folder"):
        advice = "If these are masks of all cells, set annotations.format to binary; object numbers differ in each cell"
    return [Reason(
        f"{counted} objects{often} in {len(chosen)} of {len(known)} images consist of {parts} separate parts "
        f"({_name(chosen)})",
        advice,
    )]  # fmt: skip


def find_backgrounds(truths: Sequence[Mapping[str, Any]], *, annotations: JudgedSettings) -> list[Reason]:
    """Find images whose largest object is the background: it spans the image and surrounds other regions."""
    known = [truth for truth in truths if truth["objects"]]
    full = [truth for truth in known if truth["is_full"]]
    chosen = [truth for truth in known if is_background(truth, annotations=annotations)]
    reasons = []
    if len(full) > MOST * len(truths):
        reasons.append(Reason(
            f"one object covers every pixel in {len(full)} of {len(truths)} images ({_name(full)})",
            "Write the background as 0 and export the annotations again",
        ))  # fmt: skip
    if not chosen:
        return reasons
    regions = sum(truth["enclosed"] for truth in chosen)
    text = (
        f"the largest object spans the image and surrounds other regions in {len(chosen)} of {len(known)} images "
        f"({_name(chosen)}; {regions} regions), as a background or a net of membranes does"
    )
    is_meant = annotations["format"] == "binary" and annotations["is_foreground_set"]
    is_error = len(chosen) > MOST * len(known) and not is_meant
    advice = _advise_on_background(chosen, annotations=annotations)
    if annotations["format"] == "binary" and len(chosen) <= MOST * len(known):
        # the key would turn the others into backgrounds
        advice = "If these objects are the background, invert these masks: annotations.foreground is for all images"
    return [*reasons, Reason(text, advice, "error" if is_error else "warning")]


def is_background(truth: Mapping[str, Any], *, annotations: JudgedSettings) -> bool:
    """Check whether the largest object of an image looks like its background."""
    if not truth["enclosed"]:
        return False
    if annotations["format"] == "binary" and truth["enclosed"] <= truth["objects"] - 1:
        return False  # cells of a tissue that merge through a gap of the membrane surround other cells
    # of cells, no two can surround others and span the image; inverted masks of single cells do
    return bool(truth["enclosed"] >= ENCLOSED or truth["surrounding"] >= 2 or truth["largest_fraction"] > MOST_COVERED)


def _find_empty_parts(truths: Sequence[Mapping[str, Any]], *, annotations: JudgedSettings) -> list[Reason]:
    """Find parts of the split without an object, and datasets in which most images have none."""
    reasons = []
    for part, text, severity in (
        ("train", "no object in the training images, but objects in the others", "error"),
        ("validation", "no object in the validation images, by which weights and threshold are chosen", "warning"),
        ("test", "no object in the test images, so that scores of objects are empty", "warning"),
    ):
        same = [truth for truth in truths if truth["split"] == part]
        if same and not any(truth["objects"] for truth in same):
            reasons.append(Reason(text, "Set split so that each part has annotated objects", severity))
    without = [truth for truth in truths if not truth["objects"]]
    is_stated = annotations["format"] == "rle" or annotations["missing"] == "empty"
    if len(without) > MOST * len(truths):
        advice = "Remove the annotations of images that nobody annotated, and set annotations.missing to unlabelled"
        reasons.append(Reason(
            f"{len(without)} of {len(truths)} annotated images contain no objects ({_name(without)})",
            "Check whether their annotation is missing" if is_stated else advice,
            "note" if is_stated else "error",
        ))  # fmt: skip
    return reasons


def _explain_broken(truths: Sequence[Mapping[str, Any]], *, empty: int, broken: int, total: int) -> Reason:
    faults: Counter[str] = Counter()
    for truth in truths:
        faults.update(truth["faults"])
    shown = "; ".join(fault for fault, _ in faults.most_common(SHOWN))
    text = f"{empty} of {total} annotations contain no pixels and {broken} are broken" + (
        f" ({shown})" if shown else ""
    )
    advice = "Export the annotations again, with coordinates in pixels of these images"
    if any("fractions" in fault for fault in faults):
        advice = "Multiply x by the width and y by the height of the image: coordinates are read in pixels"
    elif any("beyond" in fault or "outside" in fault for fault in faults):
        advice += ": the annotated images had another size, or x and y are exchanged"
    return Reason(text, advice)


def _advise_on_background(chosen: Sequence[Mapping[str, Any]], *, annotations: JudgedSettings) -> str:
    if annotations["format"] == "binary":
        foreground = annotations["foreground"] or "nonzero"
        other = OTHER_FOREGROUND.get(str(foreground), "the number of the objects")
        return (
            f"If these objects are the background, set annotations.foreground to {other}; "
            f"otherwise set it to {foreground}"
        )
    if annotations["format"] == "color_components":
        return "If the colour of these objects is the background, paint it black (0, 0, 0)"
    if annotations["format"] == "mask_folder":
        return "If these masks are inverted, write the background of each as 0, and its object as 255"
    numbers = Counter(truth["largest_number"] for truth in chosen if truth["largest_number"] is not None)
    if not numbers:
        return "Remove the annotation of the background"
    number = numbers.most_common(1)[0][0]
    others = {other for truth in chosen for other in truth["numbers"]} - {number}
    if others and all(truth["objects"] <= SHOWN for truth in chosen):
        return (
            f"If {number} is the background, as in masks of ilastik, set annotations.format to binary and "
            f"annotations.foreground to {' or '.join(map(str, sorted(others)))}"
        )
    if not others:
        return f"If {number} is the background, set annotations.format to binary and annotations.foreground to zero"
    return f"If {number} is the background, write it as 0: it is read as an object"


def _name(truths: Sequence[Mapping[str, Any]]) -> str:
    names = [str(truth["sample"]) for truth in truths[:SHOWN]]
    return ", ".join(names) + (f" and {len(truths) - SHOWN} more" if len(truths) > SHOWN else "")
