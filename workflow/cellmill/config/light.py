"""Config sections of a simulation: blur, illumination, background and camera.

Names in parentheses are those of SIMCEP's options file (Lehmussola et al. 2007).
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from cellmill.config.ranges import (
    CountRange,
    Fraction,
    FractionRange,
    LengthRange,
    LightRange,
    PeriodRange,
    RadiusRange,
    Section,
    Shift,
    SigmaRange,
)

LARGEST_COUNT = 65535  # of a 16-bit camera
LARGEST_OF_8_BITS = 255


class Focus(Section):
    """Defocus blur: each group of touching cells has its own depth. The whole image can be blurred as well."""

    sigma_px: SigmaRange = Field(
        default=(0.5, 3.0),
        description="Standard deviation of the blur in px, in focus and out of focus (0.5 and 5 in SIMCEP).",
    )
    window_px: int = Field(
        default=21,
        ge=1,
        le=301,
        description="Side of the square over which the light of a pixel is spread, in px; odd (9 in SIMCEP, which "
        "narrows its sigma of 5 to 2.45).",
    )
    scaling: Literal["fixed", "deepest"] = Field(
        default="fixed",
        description="fixed: a given depth always has the same blur. deepest: the deepest group of each image has the "
        "largest blur, even if it is the only group (SIMCEP).",
    )

    image_sigma_px: LengthRange = Field(
        default=(0.0, 0.0),
        description="Additional blur of the whole image, cells and background, in px, as from a microscope out of "
        "focus. One number, or [smallest, largest] from which a value is drawn for each image or sequence (BBBC005: a "
        "quarter of its focus number).",
    )

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> "Focus":
        if self.window_px % 2 == 0:
            raise ValueError(f"expected window_px to be odd, found {self.window_px}. Use {self.window_px + 1}")
        return self


class Illumination(Section):
    """Uneven light behind the cells."""

    energy_ratio: float = Field(
        default=3.0,
        ge=0,
        le=1000,
        description="Energy (sum of squares) of the uneven light relative to the cells'; 0 for none "
        "(illumscale, 1 in SIMCEP).",
    )
    centre_shift: tuple[Shift, Shift] = Field(
        default=(0.15, -0.2),
        description="Position of the brightest light: distance from the image centre in [rows, columns], as fractions "
        "of its height and width (misalign_y, misalign_x; 0 in SIMCEP).",
    )


class Autofluorescence(Section):
    """Coarse glow over the image."""

    energy_ratio: float = Field(
        default=0.05,
        ge=0,
        le=1000,
        description="Energy (sum of squares) of the glow relative to the cells'; 0 for none (autofluorscale).",
    )


class BackgroundNoise(Section):
    """Blotches between the cells of some images: debris, stain, medium."""

    fraction: Fraction = Field(
        default=0.5,
        description="Probability that an image has blotches, and so about the fraction of images with blotches.",
    )
    period_px: PeriodRange = Field(
        default=(64.0, 256.0),
        description="Spacing of the coarsest blotches in px, one number or [smallest, largest].",
    )
    octaves: int = Field(
        default=3, ge=1, le=10, description="Number of octaves, each half as coarse as the one before."
    )
    persistence: float = Field(
        default=0.5, gt=0, le=2, description="Strength of each finer octave relative to the coarser one."
    )
    amplitude: FractionRange = Field(
        default=(0.1, 0.4),
        description="Amplitude of the blotches relative to the middle of the cells' brightness range, one number or "
        "[smallest, largest].",
    )


class Background(Section):
    """Uniform background light."""

    level: FractionRange = Field(
        default=(0.0, 0.0),
        description="Uniform background light as a fraction of the full scale: 0 in fluorescence, about 0.5 in bright "
        "field. One number, or [smallest, largest] from which a value is drawn for each image or sequence.",
    )


class Dirt(Section):
    """Specks on the glass and on the camera. They are part of the background: stationary and not annotated."""

    count: CountRange = Field(
        default=(0, 0), description="Number of specks in an image, one number or [smallest, largest]; 0 for none."
    )
    radius_px: RadiusRange = Field(default=(2.0, 6.0), description="Radius in px, one number or [smallest, largest].")
    brightness: LightRange = Field(
        default=(-0.2, 0.2),
        description="Light that a speck adds, as a fraction of the full scale. Negative values darken.",
    )
    sigma_px: SigmaRange = Field(
        default=(0.5, 3.0), description="Blur of a speck in px, one number or [smallest, largest]."
    )


class Camera(Section):
    """Conversion of light to camera counts: saturation, noise, compression and channels."""

    full_scale_counts: float = Field(
        default=4000.0,
        gt=0,
        le=LARGEST_COUNT,
        description="Counts above the offset at which the camera saturates. Images are stored with 8 bits if offset "
        "and full scale add up to 255 or less, else with 16 bits.",
    )
    offset_counts: float = Field(default=100.0, ge=0, le=LARGEST_COUNT, description="Counts of a dark pixel.")
    noise: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Standard deviation of the noise as a fraction of the full scale (the root of ccd; 0.01 "
        "in SIMCEP).",
    )
    photons: Annotated[float, Field(ge=1, le=1e9)] | None = Field(
        default=None,
        description="Number of photons that saturate a pixel. Fewer photons give stronger shot noise, whose variance "
        "is the number of photons. Default: no shot noise (SIMCEP).",
    )
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None,
        description="Compress the image as a JPEG file of this quality, 1 to 100; 8-bit cameras only. Separate stains "
        "are compressed as the colours of one file. Default: no compression (SIMCEP always compresses, with quality "
        "100 (1 - comp)).",
    )
    stains: Literal["merged", "separate"] = Field(
        default="merged",
        description="merged: one channel contains the light of all stains. separate: one channel each for cells, "
        "organelles and nuclei, in this order (SIMCEP's red, green and blue); a channel without its stain is dark. "
        "Choose a channel with preprocess.channel.",
    )

    @model_validator(mode="after")
    def _eight_bits_for_jpeg(self) -> "Camera":
        saturated = self.offset_counts + self.full_scale_counts
        if self.jpeg_quality is not None and saturated > LARGEST_OF_8_BITS:
            raise ValueError(
                f"expected offset_counts + full_scale_counts of {LARGEST_OF_8_BITS} or less for jpeg_quality, found "
                f"{saturated:g}. JPEG stores 8 bits: set offset_counts: 0 and full_scale_counts: 255, or remove "
                "jpeg_quality"
            )
        return self

    @model_validator(mode="after")
    def _counts_fit(self) -> "Camera":
        saturated = self.offset_counts + self.full_scale_counts
        if saturated > LARGEST_COUNT:
            raise ValueError(
                f"expected offset_counts + full_scale_counts of {LARGEST_COUNT} or less, found "
                f"{saturated:g}. Lower one of the two"
            )
        return self
