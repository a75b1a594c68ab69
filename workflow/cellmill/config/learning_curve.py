"""Config section `learning_curve` of a dataset: trainings with fewer annotated images, to see what more would add."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from cellmill.config.closed import Closed


class LearningCurve(Closed):
    """Trainings of one model with fewer training images; everything else stays as it is."""

    images: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1,
        description="Numbers of training images, such as [5, 10, 20]. The point with all training images is the model "
        "itself.",
    )
    draws: int = Field(
        3,
        ge=1,
        le=100,
        description="Draws of images for each number. Within a draw, fewer images are a part of more images.",
    )
    model: str | None = Field(
        None, description="Name of the model that is trained. Default: the first model that trains a network."
    )

    @field_validator("images")
    @classmethod
    def _numbers_differ(cls, images: list[int]) -> list[int]:
        if len(set(images)) != len(images):
            raise ValueError(f"expected different numbers of images, found {images}. Remove the duplicates")
        return sorted(images)


def _as_section(curve: Any) -> Any:
    return {"images": curve} if isinstance(curve, list) else curve


CurveOrNumbers = Annotated[LearningCurve, BeforeValidator(_as_section)]
