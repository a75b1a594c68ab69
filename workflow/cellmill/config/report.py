"""Config section `report`: contents of a dataset's report page, and whether an RO-Crate is written."""

from typing import Literal

from pydantic import Field

from cellmill.config.closed import Closed


class Report(Closed):
    """Report page of a dataset, and its RO-Crate."""

    title: str | None = Field(
        None, min_length=1, max_length=200, description="Heading of the page. Default: the dataset's name."
    )
    gallery_images: int = Field(
        24,
        ge=0,
        le=1000,
        description="Number of test images shown with ground truth, prediction and errors (from all images if none is "
        "annotated). 0 for none. If there are many, they are shown smaller, so that the page stays below 15 MB.",
    )
    gallery_choice: Literal["worst", "spread"] = Field(
        "worst",
        description="Which test images are shown if there are more. worst: those with the lowest Dice. spread: images "
        "at evenly spaced ranks from the lowest to the highest Dice.",
    )
    gallery_side_px: int = Field(
        512, ge=64, le=2048, description="Longest side of a shown image; larger images are scaled down."
    )
    paper: Literal["stemnet", "clstm_unet", "isbi2012", "sartorius", "simcep"] | None = Field(
        None,
        description="Compare the scores with the published scores of a paper (resources/papers), with notes for "
        "interpreting them. Rows of the comparison are filled by models made from the paper's presets.",
    )
    ro_crate: bool = Field(
        False,
        description="Write ro-crate-metadata.json into the dataset's results, as RO-Crate 1.1 (Process Run Crate). It "
        "lists inputs, software, settings and results, with sizes and digests. Reads every image and annotation once "
        "more.",
    )
