"""Named cases of bad input: patterns, files that are tied to the wrong image or to several, and classes of objects."""

from pathlib import Path
from typing import Any

from pipeline.bad_inputs.cases import GOOD_RUN, annotated, case, frames, images, mask, pixels, put_png

PATTERNS = "Names and patterns"
WILDCARDS = "datasets.{name}.images: expected wildcards such as {sample}, found "
FITS = "Add the folders of the image files to the names in the table."


@case(
    PATTERNS, "plan",
    WILDCARDS + "{sample,[a-z]+} with a constraint in '{folder}/images/{sample,[a-z]+}.png'. Write {sample}; a wildcard "
    "matches any text within a name, and the key exclude of the dataset leaves files out.",
)  # fmt: skip
def a_constraint_of_a_wildcard(folder):
    return images(folder) | {"images": f"{folder}/images/{{sample,[a-z]+}}.png"}


@case(
    PATTERNS, "plan",
    WILDCARDS + "{frame:03d} with a number format in '{folder}/01/t{frame:03d}.png'. Write {frame}; numbers are matched "
    "with and without leading zeros.",
)  # fmt: skip
def a_number_format_of_a_wildcard(folder):
    return frames(folder) | {"images": f"{folder}/01/t{{frame:03d}}.png"}


@case(
    PATTERNS, "plan",
    WILDCARDS + "{image-name} in '{folder}/images/{image-name}.png'. Write {image_name}: the name of a wildcard consists "
    "of letters, digits and _, in single braces, and is spelt alike in all patterns.",
)  # fmt: skip
def a_hyphen_in_a_wildcard(folder):
    return images(folder) | {"images": f"{folder}/images/{{image-name}}.png"}


@case(
    PATTERNS, "plan",
    "datasets.{name}.images: expected ** as a folder of the path, found '{folder}/images**/{sample}.png'. Write **/ for "
    "folders of any depth, such as data/**/{sample}.tif, and * for any text within a name.",
)  # fmt: skip
def two_stars_within_a_name(folder):
    return images(folder) | {"images": f"{folder}/images**/{{sample}}.png"}


@case(
    PATTERNS, "plan",
    "datasets.{name}.images: expected files that match '{folder}/images/?{sample}.png', found none. {folder}/images "
    "contains bad.png, good.png, other.png. Check folders and suffix, including upper and lower case. In patterns, ? and "
    "[...] stand for themselves: write * or a wildcard such as {sample} in their place.",
)  # fmt: skip
def a_question_mark_in_a_pattern(folder):
    return images(folder) | {"images": f"{folder}/images/?{{sample}}.png"}


@case(
    PATTERNS, "plan",
    "datasets.{name}.images: expected images only, found 3 files among them that are annotations of other images, such as "
    "{folder}/data/bad_cp_masks.png (of bad). Set exclude: \"{folder}/data/*_cp_masks.png\", narrow the pattern of the "
    "images, or store images and annotations in separate folders.",
)  # fmt: skip
def masks_beside_the_images(folder):
    for sample in ("bad", "good", "other"):
        put_png(folder / f"data/{sample}.png", pixels())
        put_png(folder / f"data/{sample}_cp_masks.png", mask())
    return {
        "images": f"{folder}/data/{{sample}}.png",
        "annotations": {"format": "label_image", "path": f"{folder}/data/{{sample}}_cp_masks.png"},
    }


@case(
    PATTERNS, "plan",
    "datasets.{name}.images: expected images that are not excluded, found 3 files that match '{folder}/images/{sample}.png',"
    " all of which match exclude (*.png). Narrow exclude.",
)  # fmt: skip
def an_exclude_of_all_images(folder):
    return images(folder) | {"exclude": "*.png"}


@case(
    PATTERNS, "plan",
    "datasets.{name}.images: expected frames in one unit, found 00h30m00s (seconds) and 00h00m. Rename the files, or use "
    "separate datasets.",
)  # fmt: skip
def times_with_and_without_seconds(folder):
    for time in ("00h00m", "00h30m00s"):
        put_png(folder / f"{time}.png", pixels())
    return annotated(folder, format="label_image", path="labels/{frame}.png") | {"images": f"{folder}/{{frame}}.png"}


def numbered(folder: Path, pattern: str) -> dict[str, Any]:
    """Write three images numbered from 1 and label images numbered from 0."""
    for number in range(3):
        put_png(folder / f"images/t{number + 1}.png", pixels())
        put_png(folder / f"labels/t{number}.png", mask())
    return {
        "images": f"{folder}/images/{pattern}.png",
        "annotations": {"format": "label_image", "path": f"{folder}/labels/{pattern}.png"},
        "split": {"by": "blocks"},
    }


SHIFTED = (
    "datasets.{name}.annotations.path: expected annotation files with the numbers of the images, found images 1 to 3 and "
    "files 0 to 2 of {folder}/labels/"
)
OFFSET = (
    ": equally many, but shifted by -1. Set annotations.frame_offset: -1 if image 1 belongs to file 0, or frame_offset: 0 if "
    "equal numbers belong together."
)


@case("Annotation images", "plan", SHIFTED + "t{frame}.png" + OFFSET)
def masks_numbered_from_0_and_frames_from_1(folder):
    return numbered(folder, "t{frame}")


@case("Annotation images", "plan", SHIFTED + "{sample}.png" + OFFSET)
def masks_numbered_from_0_and_images_from_1(folder):
    return numbered(folder, "{sample}")


@case(
    "Annotation images", "plan",
    "datasets.{name}.annotations.path: expected files of one image each, found {folder}/masks/1.png, which fits 'bad' and "
    "'good' equally. Add {sample} to the pattern, or rename the files.",
)  # fmt: skip
def masks_without_the_name_of_an_image(folder):
    put_png(folder / "masks/1.png", mask())
    return annotated(folder, format="mask_folder", path=f"{folder}/masks/*.png")


@case(
    "Runs of a table", "plan",
    "datasets.{name}.annotations.table: expected one entry for {folder}/images/bad.png, found a/bad and b/bad, which fit "
    "equally. " + FITS,
)  # fmt: skip
def two_entries_for_an_image(folder):
    rows = [f"{name},{GOOD_RUN}" for name in ("a/bad.png", "b/bad.png", "good.png", "other.png")]
    data = "\n".join(["id,annotation", *rows]) + "\n"
    return annotated(folder, file="train.csv", data=data, format="rle", table=f"{folder}/train.csv", order="row")


@case(
    "Runs of a table", "plan",
    "datasets.{name}.class_column: expected one value of 'kind' for all rows of an image, found several in 1 of 3 images, "
    "such as bad (round, long). The value is that of the whole image: remove this key, or give all rows of an image the same "
    "value.",
)  # fmt: skip
def objects_of_two_classes(folder):
    rows = [f"bad,{GOOD_RUN},round", "bad,1 2,long", f"good,{GOOD_RUN},round", f"other,{GOOD_RUN},long"]
    data = "\n".join(["id,annotation,kind", *rows]) + "\n"
    section = annotated(folder, file="train.csv", data=data, format="rle", table=f"{folder}/train.csv", order="row")
    return section | {"class_column": "kind"}


@case(
    "Splits", "plan",
    "datasets.{name}: expected a train share above 0, found 0. Raise split.train, because train images are needed to train "
    "the network.",
)  # fmt: skip
def a_training_without_a_training_part(folder):
    return images(folder, split={"train": 0, "validation": 0, "test": 1})
