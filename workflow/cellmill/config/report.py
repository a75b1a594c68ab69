"""Config section `report`: contents of a dataset's report page, and whether an RO-Crate is written."""

from typing import Literal

from pydantic import Field

from cellmill.config.closed import Closed


class Report(Closed):
    """Report page of a dataset, and its RO-Crate."""

    title: str | None = Field(
        None, min_length=1, max_length=200, description="Heading of the page; left out: the dataset's name."
    )
    gallery_images: int = Field(
        24,
        ge=0,
        le=1000,
        description="Test images shown with truth, prediction and errors (all images where nothing is annotated). "
        "0 for none; many are shown smaller, so that the page stays below 15 MB.",
    )
    gallery_choice: Literal["worst", "spread"] = Field(
        "worst",
        description="Which images are shown where there are more: the ones with the lowest Dice, or some from the "
        "lowest to the highest, evenly over their ranks.",
    )
    gallery_side_px: int = Field(
        512, ge=64, le=2048, description="Longest side of a shown image; larger ones are scaled down."
    )
    paper: Literal["stemnet", "clstm_unet", "isbi2012", "sartorius", "simcep"] | None = Field(
        None,
        description="Set the scores beside the published ones of a paper (resources/papers), with what must be known "
        "to read those. Its rows are filled by the models that were made from its presets.",
    )
    ro_crate: bool = Field(
        False,
        description="Write ro-crate-metadata.json into the dataset's results: what they were made from, by which "
        "software and settings, and what came out, with sizes and digests, as RO-Crate 1.1 (Process Run Crate). Reads "
        "every image and annotation once more.",
    )
