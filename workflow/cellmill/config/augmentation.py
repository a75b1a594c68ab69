"""Config section `train.augmentation` of a preset."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.closed import Closed

Probability = Annotated[float, Field(ge=0, le=1)]
Magnification = Annotated[float, Field(ge=0.25, le=4)]


class Elastic(Closed):
    """A smooth random displacement of all pixels."""

    probability: Probability = Field(1.0, description="How often a patch is bent.")
    displacement_px: float = Field(
        2.0,
        gt=0,
        le=50,
        description="Standard deviation of the displacement along rows and along columns (px); four of them are "
        "the most that occurs.",
    )
    smoothness: float = Field(
        0.15,
        ge=0.05,
        le=1,
        description="Sigma of the Gaussian that smooths the displacement (fraction of the patch's shorter side). Below "
        "three times the displacement, cells may be folded.",
    )


class Augmentation(Closed):
    """Random augmentation of a patch; geometric changes apply to image, labels and flows alike."""

    flip: bool | Literal["rows", "columns"] = Field(
        False,
        description="Flip with probability 0.5. rows: top and bottom change places. columns: left and right. true: "
        "each of the two.",
    )
    rotate_90: bool = Field(
        False,
        description="Turn by a multiple of 90 degrees; needs square patches. With flip all eight symmetries of the "
        "square.",
    )
    affine_probability: Probability = Field(
        0.0,
        description="How often a patch is rotated, zoomed, sheared, jittered and shifted by the six settings below.",
    )
    rotation_deg: float = Field(15.0, ge=0, le=180, description="Largest rotation to either side (degrees).")
    zoom: tuple[Magnification, Magnification] = Field((0.9, 1.1), description="Smallest and largest magnification.")
    zoom_axes: Literal["same", "independent"] = Field(
        "same", description="same: rows and columns are zoomed alike. independent: each by a draw of its own."
    )
    shear_deg: float = Field(0.0, ge=0, le=45, description="Largest tilt of rows to either side (degrees).")
    jitter: float = Field(
        0.0,
        ge=0,
        le=0.15,
        description="Largest move of each of three corners of a square in the patch's middle, which decide an affine "
        "map (fraction of the patch's shorter side).",
    )
    translation: float = Field(0.05, ge=0, le=0.5, description="Largest shift to either side (fraction of the patch).")
    elastic: Elastic | None = Field(None, description="Bend patches; left out: none is bent.")
    reverse_time: bool = Field(
        False, description="Show the frames in reversed order with probability 0.5; needs more than one frame."
    )
    contrast: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Size of the change of contrast, 0 for none; `contrast_scale` says what values are multiplied by.",
    )
    contrast_scale: Literal["log", "linear"] = Field(
        "log",
        description="log: values times 1/(1 + contrast) to 1 + contrast, half as likely as double. linear: times "
        "1 - contrast to 1 + contrast, all alike.",
    )
    contrast_about: Literal["image", "patch"] = Field(
        "image", description="What contrast leaves as it is: the mean of the image, or of each frame of the patch."
    )
    brightness: float = Field(
        0.0, ge=0, le=4, description="Largest number added or taken away (standard deviations of the image)."
    )
    per_frame: bool = Field(
        False, description="Contrast and brightness are drawn for each frame, otherwise once for all frames of a patch."
    )
    invert_probability: Probability = Field(
        0.0, description="How often bright and dark change places: for data with both kinds of contrast."
    )
    noise: float = Field(
        0.0, ge=0, le=4, description="Gaussian noise added to a patch (standard deviations of the image)."
    )

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> "Augmentation":
        mistakes = []
        if self.zoom[0] > self.zoom[1]:
            mistakes.append(
                f"zoom: expected [smallest, largest], found [{self.zoom[0]:g}, {self.zoom[1]:g}]. Swap the two"
            )
        if self.contrast_scale == "linear" and self.contrast >= 1:
            mistakes.append(
                f"contrast: expected below 1 with contrast_scale linear, found {self.contrast:g}, which would remove "
                "the image. Lower it, or set contrast_scale to log"
            )
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
