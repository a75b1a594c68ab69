"""Config section `annotations` of a dataset: location and format of the ground truth."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from cellmill.annotations.formats import ANNOTATION_FORMATS
from cellmill.config.closed import Closed
from cellmill.config.patterns import check_pattern

# Keys that only some formats use
KEYS_OF_FORMATS = frozenset(key for facts in ANNOTATION_FORMATS.values() for key in facts["keys"])
if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[tuple(ANNOTATION_FORMATS)]


class Annotations(Closed):
    """Location and format of the annotated objects of each image."""

    format: FormatName = Field(
        description=" ".join(f"{name}: {facts['summary']}." for name, facts in ANNOTATION_FORMATS.items())
    )
    table: str | None = Field(
        default=None,
        min_length=1,
        description="Path of the file shared by all images: CSV for rle, JSON for coco. For coco, `path` means the "
        "same.",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the annotation files with the same {sample}, {sequence} and {frame} as in `images`. "
        "Frames are matched by number, so t1 and t001 agree. A file that fits several images belongs to the one with "
        "the longest name. Required for formats without a table.",
    )
    frame_offset: int | None = Field(
        default=None,
        description="Number of an annotation file minus the number of its image: -1 if images are numbered from 1 and "
        "annotation files from 0. Applies to {frame}, without {frame} to the last number of {sample}, and with a table "
        "to the last number of the names in it. Default: the numbers are equal, and an error is reported if all are "
        "shifted by the same amount. 0: the numbers are equal without this check.",
    )
    order: Literal["row", "column"] | None = Field(
        default=None,
        description="Pixel order of the run lengths: row (along rows, as in Sartorius 2021) or column (down columns, "
        "as in Data Science Bowl 2018). Required for rle, because the table does not specify it.",
    )
    sample_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table with the image name, with or without file suffix. Default: id or ImageId.",
    )
    rle_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table with the run lengths. Default: annotation or EncodedPixels.",
    )
    object_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table with the name of the object within its image. Rows with the same name are "
        "parts of one object. Default: every row is an object.",
    )
    foreground: Literal["nonzero", "zero"] | Annotated[int, Field(ge=1, lt=2**32)] | None = Field(
        default=None,
        description="Pixels of a binary image that are objects, by their stored numbers: nonzero, zero, or a number. A "
        "number selects one class of an image of classes, such as 1 in a Simple Segmentation of ilastik, which has no "
        "zero. Default: nonzero, except in a one-bit TIFF with MinIsWhite, where they are the pixels shown white; if a "
        "MinIsWhite mask is ambiguous, the key is required. Used by binary only.",
    )
    tracks: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the CTC track tables (man_track.txt, res_track.txt), one per sequence. Object numbers "
        "and first and last frames are checked against the masks. Default: the table beside the masks, if there is "
        "one.",
    )
    markers: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the CTC markers (TRA/man_track{frame}.tif). Cells that are marked but not outlined in "
        "a SEG frame are ignored there and do not count as background. Used by ctc only.",
    )
    ignore: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of binary images whose nonzero pixels are neither trained on nor scored. Optional for "
        "each image.",
    )
    ignore_value: int | None = Field(
        default=None,
        ge=1,
        lt=2**32,
        description="Value in a label image that marks ignored pixels and not an object, such as 255 or 65535.",
    )
    object_type: Literal["annotation", "detection", "cell", "tile"] | None = Field(
        default=None,
        description="Type of the QuPath objects in a GeoJSON file that are read. Default: all, and an error if a file "
        "has several types.",
    )
    repair: Literal["none", "fill", "fill_close"] | None = Field(
        default=None,
        description="Repair of each object's mask before objects are merged; all changes are listed. none: keep masks "
        "as annotated. fill: fill holes. fill_close: close with 3x3 px, fill holes, and drop parts smaller than a "
        "tenth of the largest. Default: fill for rle and mask_folder. Default for other formats: none, because their "
        "holes are background between objects or were drawn on purpose.",
    )
    fragments: Literal["keep", "largest", "split"] = Field(
        default="keep",
        description="Treatment of objects with unconnected parts. keep: one object. largest: keep only the largest "
        "part. split: each part becomes an object.",
    )
    min_object_px: int = Field(default=0, ge=0, description="Drop objects with fewer pixels, and list them as tiny.")
    missing: Literal["error", "unlabelled", "empty"] | None = Field(
        default=None,
        description="Treatment of images without annotation. error: report an error. unlabelled: predict, but neither "
        "train nor score. empty: treat as images without objects. Default: unlabelled for ctc, error for other "
        "formats.",
    )
    implausible: Literal["stop", "warn"] = Field(
        default="stop",
        description="Treatment of annotations that cannot be learned from or scored: no object in any image, most of "
        "them ignored, broken or without pixels, coordinates in fractions or per cent, a mask of all cells read as one "
        "object, or the background as object. stop: stop before training. warn: report a warning and go on.",
    )

    @field_validator("path", "tracks", "markers", "ignore")
    @classmethod
    def _patterns_are_sound(cls, pattern: str | None) -> str | None:
        return None if pattern is None else check_pattern(pattern)

    @model_validator(mode="after")
    def _fill_in_what_follows_from_the_format(self) -> Self:
        if self.format == "coco" and self.table is None and self.path is not None:
            self.table, self.path = self.path, None
        if self.repair is None:
            self.repair = "fill" if ANNOTATION_FORMATS[self.format]["is_filled"] else "none"
        if self.missing is None:
            self.missing = ANNOTATION_FORMATS[self.format]["missing"]
        return self

    @model_validator(mode="after")
    def _keys_belong_to_format(self) -> Self:
        needed = ANNOTATION_FORMATS[self.format]["needs"]
        foreign = KEYS_OF_FORMATS - set(ANNOTATION_FORMATS[self.format]["keys"])
        wrong = [f"no {key}" for key in needed if getattr(self, key) is None]
        wrong += [
            f"{key}, which this format does not use"
            for key, field in type(self).model_fields.items()
            if key in foreign and getattr(self, key) != field.default
        ]
        if (self.sample_column is None) != (self.rle_column is None):
            wrong.append("only one of sample_column and rle_column")
        if wrong:
            raise ValueError(
                f"expected {' and '.join(needed)} for format {self.format}, found {'; '.join(wrong)}. "
                "Complete the section, or set the format that these keys belong to."
            )
        if self.table is not None and "{" in self.table:
            raise ValueError(
                f"expected one file for all images for format {self.format}, found the pattern {self.table!r}. "
                "Set table to the path of one file, whose entries contain the image names."
            )
        return self


class Masks(Annotations):
    """Location and format of the masks of another program or of another annotator, with the keys of `annotations`."""

    model_config = ConfigDict(json_schema_extra=lambda schema: _or_path(schema))

    format: FormatName = Field("label_image", description="As in `annotations`.")
    # Annotations cannot be untested: nothing would be scored.
    missing: Literal["error", "empty", "untested", "unlabelled"] = Field(  # type: ignore[assignment]
        "error",
        description="Treatment of images without masks. error: report an error. empty: no object was found. "
        "untested: the program was applied to the test images and not to all others, on which it is not scored; a test "
        "image without masks is an error. "
        "unlabelled: the annotator did not look at them, and is not scored on them; only with role: annotator.",
    )


def _or_path(schema: dict[str, Any]) -> None:
    """Allow a path in place of a section, in the schema for editors."""
    section = dict(schema)
    schema.clear()
    schema |= {"anyOf": [{"type": "string"}, section], "description": section.pop("description", "")}


def _as_section(masks: Any) -> Any:
    return {"path": masks} if isinstance(masks, str) else masks


MasksOrPath = Annotated[Masks, BeforeValidator(_as_section)]
