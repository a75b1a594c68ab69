"""Config section `simulate`: simulated images with known ground truth instead of microscope images.

Names in parentheses are those of SIMCEP's options file (Lehmussola et al. 2007).
"""

import typing
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, model_validator
from pydantic.fields import FieldInfo

from cellmill.config.cells import CellBody, Clusters, Nucleus, Organelles, Overlap
from cellmill.config.light import Autofluorescence, Background, BackgroundNoise, Camera, Dirt, Focus, Illumination
from cellmill.config.merging import merge
from cellmill.config.ranges import CountRange, Section
from cellmill.config.scenes import at_size, read_scene
from cellmill.config.time_lapse import TimeLapse
from cellmill.simulation.density import LARGEST_COUNT, mean_area, most_cells
from cellmill.simulation.sequence_names import name_frame

# Cells cover about this share of an image where `cells` is left out.
USUAL_COVER = (0.06, 0.20)
EXCLUDED = 1e-6


class Simulate(Section):
    """A simulated dataset: cells on an uneven background, with known ground truth."""

    scene: str | None = Field(
        default=None,
        description="Name of a file in resources/scenes, without .yaml; keys beside it override its values. A "
        "different size keeps the scene's density unless cells is set. Default: no scene, only the defaults below.",
    )
    like: str | None = Field(
        default=None,
        description="Another dataset of this config. Sizes, density, contrast, blur, noise and background are "
        "measured on its training images and used for the simulation. Settings that are not measured stay as written "
        "here.",
    )
    images: int = Field(
        default=100,
        ge=1,
        le=10_000_000,
        description="Number of images, or of sequences. Raising it does not change the earlier ones.",
    )
    size: tuple[Annotated[int, Field(ge=16, le=16384)], Annotated[int, Field(ge=16, le=16384)]] = Field(
        default=(256, 256), description="Rows and columns of an image in px (template; 500 x 500)."
    )
    cells: CountRange | None = Field(
        default=None,
        description="Number of cells in an image, one number or [smallest, largest] (N). Default: enough to cover "
        f"{USUAL_COVER[0]:.0%} to {USUAL_COVER[1]:.0%} of the image.",
    )
    cell: CellBody = Field(default_factory=CellBody, description="The cells, which are the annotated objects.")
    nucleus: Nucleus = Field(default_factory=Nucleus, description="Brighter nuclei within the cells.")
    organelles: Organelles = Field(default_factory=Organelles, description="Small bodies within the cells.")
    clusters: Clusters = Field(default_factory=Clusters, description="Clusters of cells.")
    overlap: Overlap = Field(default_factory=Overlap, description="Allowed overlap of cells.")
    focus: Focus = Field(default_factory=Focus, description="Blur of each group of touching cells.")
    background: Background = Field(default_factory=Background, description="Uniform background light.")
    illumination: Illumination = Field(default_factory=Illumination, description="Uneven light behind the cells.")
    autofluorescence: Autofluorescence = Field(
        default_factory=Autofluorescence, description="Coarse glow over the image."
    )
    background_noise: BackgroundNoise = Field(
        default_factory=BackgroundNoise, description="Blotches between the cells of some images."
    )
    dirt: Dirt = Field(default_factory=Dirt, description="Stationary specks that are not cells.")
    camera: Camera = Field(default_factory=Camera, description="Conversion of light to camera counts.")
    time_lapse: TimeLapse | None = Field(
        default=None, description="Sequences of frames instead of single images. Default: single images."
    )

    @model_validator(mode="before")
    @classmethod
    def _take_scene(cls, section: Any) -> Any:
        if not isinstance(section, dict) or not isinstance(section.get("scene"), str):
            return section
        return merge(at_size(read_scene(section["scene"]), section.get("size")), section)

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
                "Lower nucleus.radius_px"
            )
        if self.overlap.of == "nucleus" and not self.nucleus.include:
            raise ValueError(
                "expected nuclei for overlap.of: nucleus, found nucleus.include: false. "
                "Set nucleus.include: true, or overlap.of: cell"
            )
        return self

    @model_validator(mode="after")
    def _dark_cells_need_light(self) -> "Simulate":
        darkest = min(
            self.cell.brightness[0], self.cell.rim.brightness[0], self.dirt.brightness[0] if self.dirt.count[1] else 0
        )
        if self.cell.brightness[0] < 0 and self.background.level[1] == 0:
            raise ValueError(
                f"expected background light for cells that are darker than it, found cell.brightness from "
                f"{self.cell.brightness[0]:g} and a background.level of 0. Set background.level to {-darkest:g} or more"
            )
        return self

    @model_validator(mode="after")
    def _count_cells(self) -> "Simulate":
        area = self.size[0] * self.size[1]
        if self.cells is None:
            least, most = (round(share * area / mean_area(self.cell.radius_px)) for share in USUAL_COVER)
            self.cells = (max(least, 1), min(max(most, 1), LARGEST_COUNT))
        if self.overlap.no_place == "place":
            return self
        judged = self.cell.radius_px if self.overlap.of == "cell" else self.nucleus.radius_px
        most = most_cells(self.size, radius_px=judged, overlap_limit=self.overlap.limit)
        if self.cells[1] > most:
            what = "cells" if self.overlap.of == "cell" else "nuclei"
            raise ValueError(
                f"expected a number of cells that fit in the image, found cells up to {self.cells[1]}. At most about "
                f"{most} {what} with radius_px {judged[0]:g} to {judged[1]:g} and overlap.limit {self.overlap.limit:g} "
                f"fit in {self.size[0]} x {self.size[1]} px. Set cells to {int(0.7 * most)} or fewer, raise "
                "overlap.limit, or set overlap.no_place: place"
            )
        return self


class SampleName(NamedTuple):
    """One image of a simulated dataset; single images have an empty sequence and frame 0."""

    sample: str
    sequence: str
    frame: int


def name_samples(simulate: Simulate) -> list[SampleName]:
    """List the images of a simulated dataset, with their names, sequences and frames.

    Returns
    -------
    list of SampleName
        Images ``sim_0000``, ``sim_0001``, ...; with time-lapse, these are the sequences, and ``sim_0000_t000`` is a
        frame. Adding images or sequences changes no other name. Above 1000 frames, all frame numbers get more digits.
    """
    names = [f"sim_{number:04d}" for number in range(simulate.images)]
    if simulate.time_lapse is None:
        return [SampleName(name, "", 0) for name in names]
    frames = simulate.time_lapse.frames
    return [
        SampleName(name_frame(sequence, frame, frames=frames), sequence, frame)
        for sequence in names
        for frame in range(frames)
    ]


def image_settings(simulate: Simulate) -> dict[str, Any]:
    """Return the settings that an image depends on: all but `images`, `scene` and `like`.

    A job with only these settings does not rerun when images are added.
    """
    return simulate.model_dump(mode="json", exclude={"images", "scene", "like"})


def setting_limits(model: type[BaseModel] = Simulate, *, prefix: str = "") -> dict[str, tuple[float, float]]:
    """Return the smallest and largest allowed value of each number in the section, by its dotted name.

    Stage `match` keeps the settings that it writes within these limits. An exclusive limit is moved inwards by 1e-6.
    """
    limits: dict[str, tuple[float, float]] = {}
    for name, info in model.model_fields.items():
        place = f"{prefix}{name}"
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            limits |= setting_limits(info.annotation, prefix=f"{place}.")
            continue
        members = [*typing.get_args(info.annotation), info.annotation]
        marks = [*info.metadata, *(mark for member in members for mark in getattr(member, "__metadata__", ()))]
        marks += [mark for field in marks if isinstance(field, FieldInfo) for mark in field.metadata]
        low = [getattr(mark, "ge", None) for mark in marks] + [
            mark.gt + EXCLUDED for mark in marks if getattr(mark, "gt", None) is not None
        ]
        high = [getattr(mark, "le", None) for mark in marks] + [
            mark.lt - EXCLUDED for mark in marks if getattr(mark, "lt", None) is not None
        ]
        lows, highs = ([float(end) for end in ends if end is not None] for ends in (low, high))
        if lows and highs:
            limits[place] = (max(lows), min(highs))
    return limits
