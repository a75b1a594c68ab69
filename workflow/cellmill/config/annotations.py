"""Config section `annotations` of a dataset: location and format of the ground truth."""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from cellmill.annotations.formats import ANNOTATION_FORMATS
from cellmill.config.closed import Closed

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
        description="Path of the file that all images share: CSV for rle, JSON for coco (where `path` means the same).",
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the annotation files with the same {sample}, {sequence} and {frame} as `images`; "
        "frames are tied by number, so t1 and t001 agree. Needed for the formats without a table.",
    )
    order: Literal["row", "column"] | None = Field(
        default=None,
        description="Which way the pixels of rle are counted: row (along the rows, as in Sartorius 2021) or column "
        "(down the columns, as in Data Science Bowl 2018). Needed for rle: a table does not say it.",
    )
    sample_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table that names the image, with or without suffix; left out: id or ImageId.",
    )
    rle_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table that holds the runs; left out: annotation or EncodedPixels.",
    )
    object_column: str | None = Field(
        default=None,
        min_length=1,
        description="Column of the table that names the object within its image: rows of one name are parts of one "
        "object. Left out: every row is an object.",
    )
    foreground: Literal["nonzero", "zero"] = Field(
        default="nonzero", description="Which pixels of a binary image are objects. Read by binary."
    )
    tracks: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the CTC track tables (man_track.txt, res_track.txt), one for each sequence: numbers, "
        "first and last frames are checked against the masks. Left out: the one beside the masks, if any.",
    )
    markers: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the CTC markers (TRA/man_track{frame}.tif): what is marked but not outlined in a frame "
        "of SEG is ignored there and not taken for background. Read by ctc.",
    )
    ignore: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of binary images whose pixels other than 0 are neither trained on nor scored. An image "
        "may lack one.",
    )
    ignore_value: int | None = Field(
        default=None,
        ge=1,
        lt=2**32,
        description="Number in a label image that marks ignored pixels and no object, such as 255 or 65535.",
    )
    repair: Literal["none", "fill", "fill_close"] | None = Field(
        default=None,
        description="Repair of every object's mask by itself, before objects are merged; all changes are listed. "
        "none: as annotated. fill: holes are filled. fill_close: closed by 3x3 px, filled, parts under a tenth of "
        "the largest dropped. Left out: fill for rle and mask_folder, none for the others, where a hole is what lies "
        "between objects, or was drawn.",
    )
    fragments: Literal["keep", "largest", "split"] = Field(
        default="keep",
        description="What the parts of an object are that do not touch. keep: one object. largest: only the largest "
        "is kept. split: an object each.",
    )
    min_object_px: int = Field(default=0, ge=0, description="Objects of fewer pixels are dropped, and listed as tiny.")
    missing: Literal["error", "unlabelled", "empty"] | None = Field(
        default=None,
        description="What an image without annotation is. error: a mistake. unlabelled: predicted, but neither "
        "trained on nor scored. empty: an image without objects. Left out: unlabelled for ctc, else error.",
    )

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
        wrong = [f"{key} is needed" for key in needed if getattr(self, key) is None]
        wrong += [
            f"{key} is not read"
            for key, field in type(self).model_fields.items()
            if key in foreign and getattr(self, key) != field.default
        ]
        if (self.sample_column is None) != (self.rle_column is None):
            wrong.append("sample_column and rle_column go together")
        if wrong:
            raise ValueError(
                f"expected {' and '.join(needed)} for format {self.format}, found that {'; '.join(wrong)}. "
                "Complete the section, or choose the format that the keys belong to."
            )
        if self.table is not None and "{" in self.table:
            raise ValueError(
                f"expected one file that all images share for format {self.format}, found the pattern "
                f"{self.table!r}. Give the path of one file; its entries name their images."
            )
        return self
