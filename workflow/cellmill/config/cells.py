"""Config sections of a simulation: shape, brightness, texture and placement of the cells.

Names in parentheses are those of SIMCEP's options file (Lehmussola et al. 2007).
"""

from typing import Literal

from pydantic import Field, model_validator

from cellmill.config.ranges import CountRange, Fraction, FractionRange, LightRange, RadiusRange, RatioRange, Section

LAST_OCTAVE = 10  # a grid of 1024 x 1024 for each cell


class Texture(Section):
    """Octaves of smoothed noise."""

    persistence: float = Field(
        default=0.9,
        gt=0,
        le=4,
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
        description="Number of octaves. SIMCEP calls it the last octave but uses it as a count (texture, 3rd number). "
        "Its value of 8 for cytoplasm is slower, and finer than a pixel of a small cell.",
    )
    bias: Fraction = Field(
        default=0.2,
        description="Brightness of the darkest place of a cell relative to its brightest; 1 is flat (texture, 4th "
        "number).",
    )

    @model_validator(mode="after")
    def _octaves_end(self) -> "Texture":
        last = self.first_octave + self.octaves - 1
        if last > LAST_OCTAVE:
            raise ValueError(
                f"expected octaves up to {LAST_OCTAVE}, found {last} (first_octave + octaves - 1). Lower one of the two"
            )
        return self


class Rim(Section):
    """The edge of a cell, which refracts light in bright field and phase contrast."""

    brightness: LightRange = Field(
        default=(0.0, 0.0),
        description="Light that the edge adds, as a fraction of the full scale. Negative values darken the edge; 0 "
        "for none.",
    )
    width_px: float = Field(
        default=2.0, gt=0, le=50, description="Distance from the outline at which this light has fallen to 1/e, in px."
    )


class CellBody(Section):
    """The cells, which are the annotated objects."""

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
    elongation: RatioRange = Field(
        default=(1.0, 1.0),
        description="Length divided by width of a cell, at constant area and in a random direction; 1 is round "
        "(SIMCEP). One number, or [smallest, largest] from which a value is drawn for each cell. Nuclei have the "
        "elongation of their cells.",
    )
    brightness: LightRange = Field(
        default=(0.2, 0.9),
        description="Brightness of a cell's brightest place as a fraction of the full scale, drawn for each cell from "
        "[smallest, largest] (1 in SIMCEP). Negative values make cells darker than the background, whose level must "
        "then be above 0.",
    )
    texture: Texture = Field(default_factory=Texture, description="Stain within a cell (texture).")
    rim: Rim = Field(default_factory=Rim, description="A brighter or darker edge, as in bright field.")


class Nucleus(Section):
    """Brighter nuclei within the cells, not annotated separately.

    They are in the same channel as the cells unless `camera.stains` is separate.
    """

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


class Organelles(Section):
    """Small bodies within the cells (subcellular objects). They are not annotated separately."""

    count: CountRange = Field(
        default=(0, 0),
        description="Number of organelles in a cell, one number or [smallest, largest]; 0 for none (subcell ns; 4).",
    )
    radius_fraction: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Radius relative to the cell's radius (0.1 in SIMCEP, which does not use its subcell radius).",
    )
    radial_jitter: float = Field(
        default=0.1, ge=0, le=0.6, description="Displacement of the vertices of the outline, in radii (subcell shape)."
    )
    angular_jitter: float = Field(
        default=0.1, ge=0, le=1.5, description="Displacement of the vertices along the outline, in rad (subcell shape)."
    )
    brightness: LightRange = Field(
        default=(0.2, 0.4), description="Light that an organelle adds, as a fraction of the full scale."
    )
    texture: Texture = Field(
        default_factory=lambda: Texture(persistence=3.0, first_octave=1, octaves=4, bias=0.0),
        description="Stain within an organelle (fixed in SIMCEP: 3, 1, 4, 0).",
    )


class Clusters(Section):
    """Clusters of cells."""

    count: int = Field(default=4, ge=0, le=1000, description="Number of clusters in an image; 0 for none (clusters).")
    probability: Fraction = Field(
        default=0.3, description="Fraction of the cells that lie in a cluster (clustprob); 0 for none."
    )
    spread: float = Field(
        default=0.05,
        gt=0,
        le=1,
        description="Standard deviation of the distance to the cluster's centre along each axis, as a "
        "fraction of the image's shorter side (spatvar).",
    )


class Overlap(Section):
    """Largest overlap of cells, and what happens to a cell for which no place is found."""

    limit: Fraction = Field(
        default=0.1,
        description="Largest overlap of two objects as a fraction of either object: 0 keeps them apart, 1 allows any "
        "overlap (overlap).",
    )
    of: Literal["cell", "nucleus"] = Field(
        default="cell", description="What must not overlap: whole cells, or only their nuclei (2 and 1 in SIMCEP)."
    )
    attempts: int = Field(
        default=50,
        ge=1,
        le=10000,
        description="Number of positions tried for a cell before it is left out and counted as failed (50 in SIMCEP, "
        "which then stops).",
    )
    no_place: Literal["leave_out", "stop", "place"] = Field(
        default="leave_out",
        description="What happens to a cell after all attempts have failed. leave_out: count it as failed and try the "
        "next cell. stop: place no further cells in this image. place: use the last position tried, whatever it "
        "overlaps.",
    )
