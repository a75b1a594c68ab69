"""Config section `train.augmentation` of a preset."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.closed import Closed

Probability = Annotated[float, Field(ge=0, le=1)]
Magnification = Annotated[float, Field(ge=0.25, le=4)]


class Elastic(Closed):
    """A smooth random displacement of all pixels."""

    probability: Probability = Field(1.0, description="Probability that a patch is deformed.")
    displacement_px: float = Field(
        2.0,
        gt=0,
        le=50,
        description="Standard deviation of the displacement along rows and along columns (px). Displacements are "
        "limited to four times this value.",
    )
    smoothness: float = Field(
        0.15,
        ge=0.05,
        le=1,
        description="Sigma of the Gaussian that smooths the displacement (fraction of the patch's shorter side). "
        "Below three times the displacement, cells may fold.",
    )


class Augmentation(Closed):
    """Random augmentation of a patch; geometric changes apply to image, labels and flows alike."""

    flip: bool | Literal["rows", "columns"] = Field(
        False,
        description="Flip with probability 0.5. rows: swap top and bottom. columns: swap left and right. true: both, "
        "independently of each other.",
    )
    rotate_90: bool = Field(
        False,
        description="Rotate by a random multiple of 90 degrees; requires square patches. Together with flip, this "
        "gives all eight symmetries of the square.",
    )
    affine_probability: Probability = Field(
        0.0,
        description="Probability that a patch is rotated, zoomed, sheared, jittered and shifted, as set by the six "
        "keys below.",
    )
    rotation_deg: float = Field(15.0, ge=0, le=180, description="Largest rotation in either direction (degrees).")
    zoom: tuple[Magnification, Magnification] = Field((0.9, 1.1), description="Smallest and largest magnification.")
    zoom_axes: Literal["same", "independent"] = Field(
        "same",
        description="same: zoom rows and columns by the same factor. independent: draw a separate factor for each.",
    )
    shear_deg: float = Field(0.0, ge=0, le=45, description="Largest tilt of the rows in either direction (degrees).")
    jitter: float = Field(
        0.0,
        ge=0,
        le=0.15,
        description="Largest displacement of each of three corners of a square in the middle of the patch (fraction "
        "of the patch's shorter side). The three corners define an affine transform.",
    )
    translation: float = Field(
        0.05, ge=0, le=0.5, description="Largest shift in either direction (fraction of the patch)."
    )
    elastic: Elastic | None = Field(None, description="Elastic deformation of patches. Default: none.")
    reverse_time: bool = Field(
        False, description="Reverse the order of the frames with probability 0.5; requires more than one frame."
    )
    contrast: float = Field(
        0.0,
        ge=0,
        le=4,
        description="Strength of the contrast change, 0 for none; `contrast_scale` defines the range of factors.",
    )
    contrast_scale: Literal["log", "linear"] = Field(
        "log",
        description="log: multiply values by 1/(1 + contrast) to 1 + contrast; halving is as likely as doubling. "
        "linear: multiply by 1 - contrast to 1 + contrast, uniformly.",
    )
    contrast_about: Literal["image", "patch"] = Field(
        "image",
        description="Value that a contrast change leaves fixed: the mean of the image, or of each frame of the patch.",
    )
    brightness: float = Field(
        0.0, ge=0, le=4, description="Largest value added or subtracted (standard deviations of the image)."
    )
    per_frame: bool = Field(
        False,
        description="Draw contrast, brightness, gamma, blur and noise level for each frame; otherwise once for all "
        "frames of a patch.",
    )
    invert_probability: Probability = Field(
        0.0, description="Probability that bright and dark are swapped, for data with both kinds of contrast."
    )
    gamma: float = Field(
        0.0,
        ge=0,
        le=2,
        description="Range of a change of gamma, 0 for none. Values from 0 (1st percentile of the image) to 1 (99.8th) "
        "are raised to a power between exp(-gamma) and exp(gamma), drawn logarithmically. Darker values become 0. "
        "Requires input.normalise percentile.",
    )
    blur_px: float = Field(
        0.0, ge=0, le=20, description="Largest sigma of a Gaussian blur (px), 0 for none; drawn uniformly from 0."
    )
    blur_probability: Probability = Field(0.5, description="Probability that a patch is blurred, if blur_px is set.")
    noise: float = Field(
        0.0, ge=0, le=4, description="Gaussian noise added to a patch (standard deviations of the image)."
    )
    noise_draw: Literal["fixed", "random"] = Field(
        "fixed",
        description="fixed: each patch has noise of this standard deviation. random: the standard deviation is `noise` "
        "times the absolute value of a normal random number, at most three times `noise`.",
    )

    @model_validator(mode="after")
    def _ranges_make_sense(self) -> "Augmentation":
        mistakes = []
        if self.zoom[0] > self.zoom[1]:
            mistakes.append(
                f"zoom: expected [smallest, largest], found [{self.zoom[0]:g}, {self.zoom[1]:g}]. Swap the two numbers"
            )
        if self.contrast_scale == "linear" and self.contrast >= 1:
            mistakes.append(
                f"contrast: expected below 1 with contrast_scale linear, found {self.contrast:g}, which would remove "
                "the image. Lower it, or set contrast_scale to log"
            )
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self
