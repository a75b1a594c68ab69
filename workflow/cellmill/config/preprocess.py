"""Config section `preprocess` of a dataset: channel, background subtraction, scale and image size."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cellmill.config.closed import Closed

Side = Annotated[int, Field(ge=8, le=32768)]
Offset = Annotated[int, Field(ge=0, le=1_000_000)]
Weight = Annotated[float, Field(ge=-1e6, le=1e6)]

# settings that each method uses
NUMBERS_OF_METHOD: dict[str, set[str]] = {
    "none": set(),
    "rolling_ball": {"radius_px"},
    "tophat": {"radius_px"},
    "gaussian": {"sigma_px"},
    "temporal_median": {"max_frames"},
    "temporal_mode": {"max_frames"},
    "flat_field": {"dark", "then"},
}


class Background(Closed):
    """Correction of uneven light and background, applied to every image before training and prediction."""

    method: Literal["none", "rolling_ball", "tophat", "gaussian", "temporal_median", "temporal_mode", "flat_field"] = (
        Field(
            default="none",
            description="none: leave the counts unchanged. rolling_ball, tophat: for bright objects on a dark, uneven "
            "background. gaussian: for objects brighter or darker than their surroundings. temporal_median, "
            "temporal_mode: subtract what is stationary in a sequence, computed from that sequence only. temporal_mode "
            "also equalises the mean of all frames. flat_field: divide by the uneven light "
            "that all images share, estimated from at most 200 training images, or from images of all parts where "
            "nothing is trained on, a profile for each input channel; the images have one size.",
        )
    )
    radius_px: float = Field(
        default=50.0,
        gt=0,
        le=1000,
        description="Radius of the ball or disk in px, larger than the largest object. Used by rolling_ball and "
        "tophat.",
    )
    sigma_px: float = Field(
        default=50.0,
        gt=0,
        le=1000,
        description="Standard deviation of the blur in px, several times the size of an object. Used by gaussian.",
    )
    max_frames: int = Field(
        default=101,
        ge=3,
        le=1001,
        description="Largest number of frames used per sequence, evenly spaced. Used by temporal_median and "
        "temporal_mode.",
    )
    dark: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = Field(
        default=0.0,
        description="Camera counts without light, subtracted before the division by the profile. auto: estimated from "
        "at least 10 images of different brightness. Used by flat_field.",
    )
    then: Literal["none", "rolling_ball", "tophat", "gaussian"] = Field(
        default="none",
        description="Method that subtracts what is left of the background after flat_field, with radius_px or "
        "sigma_px.",
    )

    @model_validator(mode="after")
    def _refuse_numbers_that_nobody_reads(self) -> Self:
        defaults = type(self).model_fields
        used = NUMBERS_OF_METHOD[self.method]
        if self.method == "flat_field":
            used = used | NUMBERS_OF_METHOD[self.then]
        unread = sorted(
            name
            for name in set().union(*NUMBERS_OF_METHOD.values()) - used
            if getattr(self, name) != defaults[name].default
        )
        if unread:
            read = ", ".join(sorted(used)) or "no other key"
            raise ValueError(
                f"expected {read} with method {self.method}, found {', '.join(unread)}. "
                "Remove it, or set a method that uses it."
            )
        return self


class Fit(Closed):
    """Size of the networks' input images; results are converted back to the size of the raw images."""

    mode: Literal["none", "resize", "crop_pad"] = Field(
        default="none",
        description="none: every image keeps its size. resize: rescale to `size`, each axis separately. crop_pad: "
        "crop larger images to their centre, or to the region that begins `at` a pixel, and pad smaller images with "
        "ignored pixels.",
    )
    size: tuple[Side, Side] | None = Field(
        default=None, description="[rows, columns] in px, 8 to 32768; required for resize and crop_pad."
    )
    at: tuple[Offset, Offset] | None = Field(
        default=None,
        description="[row, column] of the first pixel that crop_pad keeps, counted from 0 and after `rescale`, for a "
        "region of a slide. Default: the centre.",
    )

    @model_validator(mode="after")
    def _size_belongs_to_mode(self) -> Self:
        if self.mode == "none" and self.size is not None:
            raise ValueError(
                f"expected no size for mode none, found {list(self.size)}. Set mode to resize or crop_pad, or "
                "remove size."
            )
        if self.mode != "crop_pad" and self.at is not None:
            raise ValueError(
                f"expected at with mode crop_pad only, found {list(self.at)} with mode {self.mode}. Set mode to "
                "crop_pad, or remove at."
            )
        if self.mode != "none" and self.size is None:
            raise ValueError(
                f"expected a size for mode {self.mode}, found none. Set size to [rows, columns], such as [512, 512]."
            )
        return self


class Rescale(Closed):
    """Resampling of images of different magnification; results are converted back to the pixels of the raw images."""

    pixel_size_um: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="Edge of a pixel after rescaling, um. Each image needs its own pixel size: pixel_size_um of the "
        "dataset, or its metadata.",
    )
    diameter_px: float | None = Field(
        default=None,
        ge=4,
        le=1000,
        description="Median diameter of the objects after rescaling, px: that of a circle of the same area. All images "
        "are rescaled by the same factor, diameter_px divided by object_px.",
    )
    object_px: float | None = Field(
        default=None,
        ge=1,
        le=10000,
        description="Median diameter of the objects in the raw images, px. Used with diameter_px. Default: measured in "
        "the annotations of the training images.",
    )

    @model_validator(mode="after")
    def _is_by_pixel_size_or_by_diameter(self) -> Self:
        given = [name for name in ("pixel_size_um", "diameter_px") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected either pixel_size_um or diameter_px, found {' and '.join(given) or 'neither'}. Set "
                "pixel_size_um for images of known pixel size, or diameter_px for objects of a common diameter."
            )
        if self.object_px is not None and self.diameter_px is None:
            raise ValueError(
                f"expected object_px with diameter_px only, found object_px {self.object_px:g} with pixel_size_um. "
                "Remove object_px, or replace pixel_size_um by diameter_px."
            )
        return self


class InputChannel(Closed):
    """One of several channels that the networks receive."""

    channel: Annotated[int, Field(strict=True, ge=0, le=63)] | Annotated[str, Field(min_length=1)] = Field(
        description="Number of the channel from 0, its name in the file, or luminance."
    )
    background: Background | None = Field(
        default=None, description="Background subtraction of this channel. Default: that of all channels."
    )
    missing: Literal["refuse", "zero"] = Field(
        default="refuse",
        description="Treatment of images without the channel. refuse: an error. zero: the network receives a plane of "
        "zeros; the log names the image. The first channel, which shows the objects, is always needed.",
    )


def _as_input_channel(channel: Any) -> Any:
    return channel if isinstance(channel, dict | InputChannel) else {"channel": channel}


class Preprocess(Closed):
    """Conversion of raw images to input images of the networks."""

    channel: (
        Literal["luminance"]
        | Annotated[int, Field(strict=True, ge=0, le=63)]
        | Annotated[str, Field(min_length=1)]
        | list[Weight]
    ) = Field(
        default="luminance",
        description="luminance: grey images unchanged, colours weighted by Rec. 601. A number from 0 to 63: that "
        "channel of a multi-channel image. A name such as DAPI: the channel of that name, if the metadata of "
        "the files name channels. A list: the weight of each channel in a mix.",
    )
    channels: list[Annotated[InputChannel, BeforeValidator(_as_input_channel)]] | None = Field(
        default=None,
        min_length=2,
        max_length=16,
        description="Several channels for the networks in place of channel, such as [DAPI, 2] or "
        "[{channel: 0, background: {method: gaussian}}, 1]. The first one shows the objects: runs without a network, "
        "polarity, checks and pictures use it alone. Default: the one of channel.",
    )
    hot_pixels: Literal["replace", "keep"] = Field(
        default="replace",
        description="Treatment of defective pixels: at most two adjacent pixels, at least 4 times farther from the "
        "median of the image than all other pixels are from each other. replace: they become the median of their "
        "neighbours, also where intensities are measured. keep: leave them. Images without such pixels do not change. "
        "check names every such pixel.",
    )
    background: Background = Field(
        default_factory=Background, description="Background subtraction, in pixels of the raw images."
    )
    rescale: Rescale | None = Field(
        default=None,
        description="Resampling to a common pixel size or object diameter, after background subtraction and before "
        "fit, by a factor from 1/16 to 16. Default: images keep their pixels.",
    )
    fit: Fit = Field(default_factory=Fit, description="Size of the input images of the networks.")

    @model_validator(mode="after")
    def _is_scaled_once(self) -> Self:
        if self.rescale is not None and self.fit.mode == "resize":
            raise ValueError(
                "expected fit none or crop_pad with rescale, found resize, which would undo it: it stretches every "
                "image to the same size. Remove rescale, or set fit.mode to crop_pad."
            )
        return self

    @property
    def needed_channels(self) -> list[str | int | list[Weight]]:
        """Channels that every image must have; the first one shows the objects."""
        if self.channels is None:
            return [self.channel]
        return [each.channel for each in self.channels if each.missing == "refuse"]

    @model_validator(mode="after")
    def _channels_differ(self) -> Self:
        if self.channels is None:
            return self
        if "channel" in self.model_fields_set:
            raise ValueError(
                "expected channel or channels, found both. Remove channel: the first of channels shows the objects."
            )
        chosen = [each.channel for each in self.channels]
        if twice := sorted({str(channel) for channel in chosen if chosen.count(channel) > 1}):
            raise ValueError(f"expected different channels, found {', '.join(twice)} twice. Remove one of them.")
        if self.channels[0].missing == "zero":
            raise ValueError(
                f"expected missing: refuse for the first channel, found zero for {chosen[0]}, which shows the objects. "
                "Remove missing, or name another channel first."
            )
        return self

    @model_validator(mode="after")
    def _weights_say_something(self) -> Self:
        if isinstance(self.channel, list) and not any(self.channel):
            raise ValueError(
                f"expected a weight other than 0 for at least one channel, found {self.channel}. "
                "Set a weight for each channel of the images, such as [0.5, 0, 0.5]."
            )
        return self
