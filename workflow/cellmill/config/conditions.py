"""Config section `conditions` of a dataset: an experiment whose conditions are compared by its replicates."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from cellmill.config.closed import Closed

Text = Annotated[str, Field(min_length=1)]


def _as_text(value: Any) -> Any:
    """Return a number as the text that stands in paths and sheets; true and false are no numbers."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Conditions(Closed):
    """Conditions of an experiment, and the replicates whose means are compared."""

    column: Text = Field(
        description="Wildcard of the image path, or column of `table`, that contains the condition of an image, such "
        "as treatment."
    )
    control: Annotated[Text, BeforeValidator(_as_text)] | None = Field(
        None,
        description="Condition that the others are compared with, such as DMSO. Default: none; the report shows values "
        "and intervals, and no differences.",
    )
    replicate: Annotated[list[Text], BeforeValidator(_as_list)] = Field(
        min_length=1,
        description="Wildcard of the image path, or column of `table`, that contains the replicate of an image: the "
        "unit that was treated as a whole, such as well. A list joins several, such as [plate, well]; without plate, "
        "A01 of two plates would be one replicate.",
    )
    table: Text | None = Field(
        None,
        description="Sample sheet: CSV with further columns of the images. Its column sample, and each column with the "
        "name of a wildcard, such as well, tie its rows to the images. Images without a row are left out.",
    )
    features: list[Text] | None = Field(
        None,
        min_length=1,
        description="What is compared: objects_per_image and columns of objects.csv. A name without its unit, such as "
        "area, is the column in um where the pixel size is known, otherwise that in px. Default: [objects_per_image, "
        "area, eccentricity, intensity_mean].",
    )
    model: Text | None = Field(
        None,
        description="Model or run whose objects are compared, such as unet or unet.seed2. Default: the first that is "
        "not classical and no annotator, or else the first; of several seeds the mean, if there is one.",
    )

    @field_validator("replicate", "features")
    @classmethod
    def _names_differ(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and len(set(names)) != len(names):
            raise ValueError(f"expected different names, found {names}. Remove the duplicates")
        return names
