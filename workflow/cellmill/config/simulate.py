"""Config section `simulate`: images with a known truth instead of images from a microscope.

Names in parentheses are those of SIMCEP's options file (Lehmussola et al. 2007).
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

LARGEST_COUNT = 65535  # of a 16-bit camera
LAST_OCTAVE = 10  # a grid of 1024 x 1024 for each cell
# Cells cover about this share of an image where `cells` is left out.
USUAL_COVER = (0.06, 0.20)


def _pair_of(value: Any) -> Any:
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _in_order(pair: tuple[Any, Any]) -> tuple[Any, Any]:
    if pair[0] > pair[1]:
        raise ValueError(f"expected [smallest, largest], found [{pair[0]:g}, {pair[1]:g}]. Swap the two")
    return pair


Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=65534)]
Radius = Annotated[float, Field(ge=2, le=1000)]
Sigma = Annotated[float, Field(ge=0.1, le=50)]
Period = Annotated[float, Field(ge=2, le=10000)]
Shift = Annotated[float, Field(ge=-2, le=2)]

# One number, or [smallest, largest] of a uniform draw.
CountRange = Annotated[
    tuple[Count, Count],
    BeforeValidator(_pair_of, json_schema_input_type=Count | tuple[Count, Count]),
    AfterValidator(_in_order),
]
RadiusRange = Annotated[
    tuple[Radius, Radius],
    BeforeValidator(_pair_of, json_schema_input_type=Radius | tuple[Radius, Radius]),
    AfterValidator(_in_order),
]
FractionRange = Annotated[
    tuple[Fraction, Fraction],
    BeforeValidator(_pair_of, json_schema_input_type=Fraction | tuple[Fraction, Fraction]),
    AfterValidator(_in_order),
]
SigmaRange = Annotated[
    tuple[Sigma, Sigma],
    BeforeValidator(_pair_of, json_schema_input_type=Sigma | tuple[Sigma, Sigma]),
    AfterValidator(_in_order),
]
PeriodRange = Annotated[
    tuple[Period, Period],
    BeforeValidator(_pair_of, json_schema_input_type=Period | tuple[Period, Period]),
    AfterValidator(_in_order),
]


class Section(BaseModel):
    """A closed section; a key with nothing after it is as good as left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_empty_keys(cls, section: Any) -> Any:
        if isinstance(section, dict):
            return {key: value for key, value in section.items() if value is not None}
        return section


class Texture(Section):
    """Octaves of smoothed noise."""

    persistence: float = Field(
        default=0.9,
        gt=0,
        le=2,
        description="Strength of each finer octave relative to the coarser one (texture, 1st number).",
    )
    first_octave: int = Field(
        default=2,
        ge=1,
        le=LAST_OCTAVE,
        description="Coarsest octave: octave k has 2^k blotches across the cell (texture, 2nd number).",
    )
    octaves: int = Field(
        default=5,
        ge=1,
        le=LAST_OCTAVE,
        description="How many octaves. SIMCEP calls it the last octave and uses it as a count "
        "(texture, 3rd number; its cytoplasm has 8: slower, and finer than a pixel of a small cell).",
    )
    bias: Fraction = Field(
        default=0.2,
        description="Darkest place of a cell relative to its brightest; 1 is flat (texture, 4th number).",
    )

    @model_validator(mode="after")
    def _octaves_end(self) -> "Texture":
        last = self.first_octave + self.octaves - 1
        if last > LAST_OCTAVE:
            raise ValueError(
                f"expected octaves up to {LAST_OCTAVE}, found {last} (first_octave + octaves - 1). Lower one of the two"
            )
        return self


class CellBody(Section):
    """The cells, which are what is annotated."""

    radius_px: RadiusRange = Field(
        default=(9.0, 15.0),
        description="Radius in px, one number or [smallest, largest] (cytoplasm radius; 25 in SIMCEP, 10 for "
        "its nuclei).",
    )
    radial_jitter: float = Field(
        default=0.25,
        ge=0,
        le=0.6,
        description="Displacement of the ten vertices of the outline, in radii (shape, 1st number; SIMCEP: "
        "cytoplasm 0.3, nuclei 0.1).",
    )
    angular_jitter: float = Field(
        default=0.1,
        ge=0,
        le=1.5,
        description="Displacement of the vertices along the outline, in rad (shape, 2nd number; SIMCEP: "
        "cytoplasm 0.05, nuclei 0.1).",
    )
    brightness: FractionRange = Field(
        default=(0.2, 0.9),
        description="Brightest place of a cell as a fraction of the full scale; each cell draws its own from "
        "[smallest, largest] (1 in SIMCEP).",
    )
    texture: Texture = Field(default_factory=Texture, description="Stain within a cell (texture).")


class Nucleus(Section):
    """Brighter nuclei within the cells, in the same channel. They are not annotated apart."""

    include: bool = Field(default=False, description="Simulate nuclei (nucleus include).")
    radius_px: RadiusRange = Field(
        default=(4.0, 6.0),
        description="Radius in px, one number or [smallest, largest] (nucleus radius; 10).",
    )
    radial_jitter: float = Field(
        default=0.1,
        ge=0,
        le=0.6,
        description="Displacement of the vertices of the outline, in radii (shape).",
    )
    angular_jitter: float = Field(
        default=0.1,
        ge=0,
        le=1.5,
        description="Displacement of the vertices along the outline, in rad (shape).",
    )
    brightness: FractionRange = Field(
        default=(0.3, 0.5),
        description="Light that a nucleus adds to its cell, as a fraction of the full scale.",
    )
    texture: Texture = Field(
        default_factory=lambda: Texture(persistence=0.5), description="Stain within a nucleus (texture)."
    )


class Clusters(Section):
    """Cells that lie together."""

    count: int = Field(default=4, ge=0, le=1000, description="Clusters in an image; 0 for none (clusters).")
    probability: Fraction = Field(
        default=0.3, description="Share of the cells that lie in a cluster (clustprob); 0 for none."
    )
    spread: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Standard deviation of the distance to the cluster's centre along each axis, as a "
        "fraction of the image's shorter side (spatvar).",
    )


class Overlap(Section):
    """How far cells may lie over each other."""

    limit: Fraction = Field(
        default=0.1,
        description="Largest overlap of two objects as a fraction of either one: 0 keeps them apart, 1 "
        "allows everything (overlap).",
    )
    of: Literal["cell", "nucleus"] = Field(
        default="cell", description="What must not overlap: whole cells, or their nuclei only (2 and 1 in SIMCEP)."
    )
    attempts: int = Field(
        default=50,
        ge=1,
        le=10000,
        description="Places tried for a cell before it is left out and counted as failed (50 in SIMCEP, "
        "which then stops).",
    )


class Focus(Section):
    """Blur: each group of touching cells lies at a depth of its own."""

    sigma_px: SigmaRange = Field(
        default=(0.5, 3.0),
        description="Standard deviation of the blur in px, in focus and out of focus (0.5 and 5 in SIMCEP).",
    )
    window_px: int = Field(
        default=21,
        ge=1,
        le=301,
        description="Side of the square that the light of a pixel reaches, in px, odd (9 in SIMCEP, which "
        "narrows its sigma of 5 to 2.45).",
    )
    scaling: Literal["fixed", "deepest"] = Field(
        default="fixed",
        description="fixed: a depth always has the same blur. deepest: the deepest group of each image has "
        "the largest blur, also where it is the only one (SIMCEP).",
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
        description="Where the light is brightest: distance from the image's middle in [rows, columns], as "
        "fractions of its height and width (misalign_y, misalign_x; 0 in SIMCEP).",
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
        description="Probability of an image to have blotches: about this share of the images has them.",
    )
    period_px: PeriodRange = Field(
        default=(64.0, 256.0),
        description="Distance of the coarsest blotches in px, one number or [smallest, largest].",
    )
    octaves: int = Field(default=3, ge=1, le=10, description="How many octaves, each half as coarse as the last.")
    persistence: float = Field(
        default=0.5, gt=0, le=2, description="Strength of each finer octave relative to the coarser one."
    )
    amplitude: FractionRange = Field(
        default=(0.1, 0.4),
        description="Height of the blotches relative to the middle of the cells' brightness, one number or "
        "[smallest, largest].",
    )


class Camera(Section):
    """From light to counts."""

    full_scale_counts: float = Field(
        default=4000.0,
        gt=0,
        le=LARGEST_COUNT,
        description="Counts above the offset at which the camera saturates.",
    )
    offset_counts: float = Field(default=100.0, ge=0, le=LARGEST_COUNT, description="Counts of a dark pixel.")
    noise: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Standard deviation of the noise as a fraction of the full scale (the root of ccd; 0.01 "
        "in SIMCEP).",
    )

    @model_validator(mode="after")
    def _counts_fit(self) -> "Camera":
        saturated = self.offset_counts + self.full_scale_counts
        if saturated > LARGEST_COUNT:
            raise ValueError(
                f"expected offset_counts + full_scale_counts of {LARGEST_COUNT} or less, found "
                f"{saturated:g}. Lower one of the two"
            )
        return self


class Simulate(Section):
    """A simulated dataset: fluorescent cells on an uneven background, with a known truth."""

    images: int = Field(
        default=100,
        ge=1,
        le=10_000_000,
        description="How many images. Raising it changes none of the earlier ones.",
    )
    size: tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]] = Field(
        default=(256, 256), description="Rows and columns of an image in px (template; 500 x 500)."
    )
    cells: CountRange | None = Field(
        default=None,
        description="Cells in an image, one number or [smallest, largest] (N). Left out: as many as cover "
        f"{USUAL_COVER[0]:.0%} to {USUAL_COVER[1]:.0%} of the image.",
    )
    cell: CellBody = Field(default_factory=CellBody, description="The cells, which are what is annotated.")
    nucleus: Nucleus = Field(default_factory=Nucleus, description="Brighter nuclei within the cells.")
    clusters: Clusters = Field(default_factory=Clusters, description="Cells that lie together.")
    overlap: Overlap = Field(default_factory=Overlap, description="How far cells may lie over each other.")
    focus: Focus = Field(default_factory=Focus, description="Blur of each group of touching cells.")
    illumination: Illumination = Field(default_factory=Illumination, description="Uneven light behind the cells.")
    autofluorescence: Autofluorescence = Field(
        default_factory=Autofluorescence, description="Coarse glow over the image."
    )
    background_noise: BackgroundNoise = Field(
        default_factory=BackgroundNoise, description="Blotches between the cells of some images."
    )
    camera: Camera = Field(default_factory=Camera, description="From light to counts.")

    @model_validator(mode="after")
    def _parts_agree(self) -> "Simulate":
        if self.cell.radius_px[1] > min(self.size) / 2:
            raise ValueError(
                f"expected cells that fit in the image, found cell.radius_px up to "
                f"{self.cell.radius_px[1]:g} px in an image of {self.size[0]} x {self.size[1]} px. "
                "Enlarge size or lower the radius"
            )
        if self.nucleus.include and self.nucleus.radius_px[1] > self.cell.radius_px[0]:
            raise ValueError(
                f"expected nuclei smaller than every cell, found nucleus.radius_px up to "
                f"{self.nucleus.radius_px[1]:g} px and cell.radius_px from {self.cell.radius_px[0]:g} px. "
                "Lower the nuclei's radius"
            )
        if self.overlap.of == "nucleus" and not self.nucleus.include:
            raise ValueError(
                "expected nuclei for overlap.of: nucleus, found nucleus.include: false. "
                "Set nucleus.include: true, or overlap.of: cell"
            )
        return self

    @model_validator(mode="after")
    def _count_cells(self) -> "Simulate":
        if self.cells is None:
            low, high = self.cell.radius_px
            mean_area = math.pi * (low**2 + low * high + high**2) / 3  # of a uniform radius
            area = self.size[0] * self.size[1]
            least, most = (round(share * area / mean_area) for share in USUAL_COVER)
            self.cells = (max(least, 1), min(max(most, 1), 65534))
        return self


def sample_names(simulate: Simulate) -> list[str]:
    """Name the images of a simulated dataset: ``sim_0000``, ``sim_0001``, ...

    Returns
    -------
    list of str
        One name an image; more images add names and change none.
    """
    return [f"sim_{number:04d}" for number in range(simulate.images)]


def image_settings(simulate: Simulate) -> dict[str, Any]:
    """Give the part of the section that an image depends on: everything but the number of images.

    A job that carries only this does not rerun when images are added.
    """
    return simulate.model_dump(mode="json", exclude={"images"})
