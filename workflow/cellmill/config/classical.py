"""Config section `network` of a preset without a network: a run that thresholds the image itself."""

from typing import Literal

from pydantic import Field, model_validator

from cellmill.config.closed import Closed

# Its preset has this name, too.
CLASSICAL = "classical"


class Classical(Closed):
    """No network: smoothing, threshold and polarity; objects are separated by postprocessing, as for all models."""

    architecture: Literal["classical"] = Field(description="No module of cellmill.models; nothing is trained.")
    output: Literal["foreground"] = Field("foreground", description="One map, .5 at the threshold of the image.")
    sigma_px: float | None = Field(
        None,
        ge=0,
        le=50,
        description="Standard deviation of the Gaussian that smooths the image. Default: 0, 1 or 2 px, chosen on the "
        "training and validation images; 1 px where nothing is annotated.",
    )
    threshold: Literal["auto", "global", "local"] = Field(
        "auto",
        description="global: Otsu's threshold of the image. local: Otsu's threshold of the difference from the mean of "
        "the surroundings, for an uneven background. auto: chosen on the training and validation images; global where "
        "nothing is annotated.",
    )
    window_px: int | None = Field(
        None,
        ge=3,
        le=2001,
        description="local: side of the square of surroundings, odd. Default: 3 or 6 times the diameter of the median "
        "annotated object, chosen on the training and validation images; 101 px where nothing is annotated.",
    )
    polarity: Literal["auto", "bright", "dark", "image"] = Field(
        "auto",
        description="Side of the threshold with the objects. image: the side with fewer pixels, in each image. auto: "
        "chosen on the training and validation images; image where nothing is annotated.",
    )

    @model_validator(mode="after")
    def _window_is_used(self) -> "Classical":
        if self.window_px is not None and self.threshold == "global":
            raise ValueError(
                f"expected no window_px with threshold: global, found {self.window_px}. Remove it, or set threshold to "
                "local"
            )
        if self.window_px is not None and self.window_px % 2 == 0:
            raise ValueError(
                f"window_px: expected an odd number, so that the window has a centre, found {self.window_px}. Set it "
                f"to {self.window_px + 1}"
            )
        return self
