"""Section `annotations` of a dataset: where the truth is and how it was written."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

TABLE_FORMATS = ("rle",)
# one mask an object, drawn by hand: a hole is a slip of the pen
FILLED_FORMATS = ("rle", "mask_folder")


class Annotations(BaseModel):
    """Where the annotated objects of each image are."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["rle", "mask_folder", "label_image", "binary"] = Field(
        description="rle: a table with one run-length encoded object a row. mask_folder: a binary file for each "
        "object. label_image: one image of object numbers, 0 for background. binary: one image of two values, "
        "objects are its 4-connected regions."
    )
    table: str | None = Field(
        default=None, min_length=1, description="Path of the CSV table; needed for rle, refused for the others."
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="Pattern of the annotation files with the same {sample}, {sequence} and {frame} as `images`; "
        "needed for mask_folder, label_image and binary, refused for rle.",
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
    foreground: Literal["nonzero", "zero"] = Field(
        default="nonzero", description="Which pixels of a binary image are objects. Read by binary."
    )
    repair: Literal["none", "fill", "fill_close"] | None = Field(
        default=None,
        description="Repair of every object's mask by itself, before objects are merged; all changes are listed. "
        "none: as annotated. fill: holes are filled. fill_close: closed by 3x3 px, filled, parts under a tenth of "
        "the largest dropped. Left out: fill for rle and mask_folder, none for label_image and binary, where a hole "
        "is what lies between objects.",
    )
    missing: Literal["error", "unlabelled", "empty"] = Field(
        default="error",
        description="What an image without annotation is. error: a mistake. unlabelled: predicted, but neither "
        "trained on nor scored. empty: an image without objects.",
    )

    @model_validator(mode="after")
    def _choose_repair(self) -> Self:
        if self.repair is None:
            self.repair = "fill" if self.format in FILLED_FORMATS else "none"
        return self

    @model_validator(mode="after")
    def _keys_belong_to_format(self) -> Self:
        is_table = self.format in TABLE_FORMATS
        needed = ("table", "order") if is_table else ("path",)
        refused = ["path"] if is_table else ["table", "order", "sample_column", "rle_column"]
        wrong = [f"{key} is needed" for key in needed if getattr(self, key) is None]
        wrong += [f"{key} is not read" for key in refused if getattr(self, key) is not None]
        if self.format != "binary" and self.foreground != "nonzero":
            wrong.append("foreground is not read")
        if (self.sample_column is None) != (self.rle_column is None):
            wrong.append("sample_column and rle_column go together")
        if wrong:
            raise ValueError(
                f"expected {' and '.join(needed)} for format {self.format}, found that {'; '.join(wrong)}. "
                "Complete the section, or choose the format that the keys belong to."
            )
        return self
