"""Config section `measure` of a dataset: features of objects that are added to objects.csv."""

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cellmill.config.closed import Closed
from cellmill.config.errors import nearest
from cellmill.declared import read_declaration

FEATURES: dict[str, dict[str, str]] = read_declaration("objects/features.py", "FEATURES")
GROUP_OF_PAIRS: str = read_declaration("objects/features.py", "GROUP_OF_PAIRS")
GROUPS = tuple(dict.fromkeys(facts["group"] for facts in FEATURES.values()))
ALWAYS = {
    column.removesuffix("_px"): column
    for column in read_declaration("objects/measurements.py", "SHAPE_PROPERTIES")
    if column.endswith("_px")
} | {"eccentricity": "eccentricity", "solidity": "solidity"}
ChannelNumber = Annotated[int, Field(ge=0, le=63)]


class Measure(Closed):
    """Features of objects besides those that objects.csv always contains."""

    features: list[str] = Field(
        default_factory=list,
        description=f"Columns to add to objects.csv, by name or by group ({', '.join(GROUPS)}), such as [shape, "
        "intensity_median]. Names, units and definitions: docs/objects.md, Features. A single name may be given "
        "without a list. A changed list measures the objects again; nothing is segmented or scored again.",
    )
    channels: Literal["all"] | list[ChannelNumber] | dict[str, ChannelNumber] = Field(
        "all",
        description="Channels of the raw images that intensities and textures are measured in. all: each but alpha; "
        "columns end in _c0, _c1, … A list of numbers: these. Names with numbers, such as {dapi: 0, actin: 2}: these, "
        "and columns end in the names.",
    )
    texture_range_counts: list[float] | None = Field(
        None,
        description="Intensities of the darkest and the brightest of the 32 grey levels of textures, such as [0, "
        "4095]. Default: the 0.1 % and 99.9 % quantiles of each image and channel, so that brightness and contrast of "
        "an image make no difference.",
    )

    @field_validator("features", mode="before")
    @classmethod
    def _one_feature_is_a_list(cls, features: Any) -> Any:
        return [features] if isinstance(features, str) else features

    @field_validator("features")
    @classmethod
    def _features_are_known(cls, features: list[str]) -> list[str]:
        known = [*FEATURES, *GROUPS]
        if always := [name for name in features if name not in known and name.removesuffix("_px") in ALWAYS]:
            columns = ", ".join(ALWAYS[name.removesuffix("_px")] for name in always)
            raise ValueError(
                f"expected features to add, found {', '.join(always)}, which objects.csv always contains ({columns}). "
                f"Remove {', '.join(always)}"
            )
        if unknown := [name for name in features if name not in known]:
            raise ValueError(
                f"expected names of features or groups, found {', '.join(map(repr, unknown))}. "
                f"{nearest(unknown[0], known)}"
            )
        counts = Counter(one for name in features for one in _members(name))
        if twice := [name for name in FEATURES if counts[name] > 1]:
            raise ValueError(
                f"expected each feature once, found {', '.join(twice)} more than once in {', '.join(features)}. "
                "Remove the duplicates"
            )
        return features

    @field_validator("channels", mode="before")
    @classmethod
    def _channels_are_numbers(cls, channels: Any) -> Any:
        numbers = list(channels.values()) if isinstance(channels, dict) else channels
        is_list = isinstance(numbers, list) and bool(numbers)
        if channels != "all" and not (is_list and all(type(one) is int and 0 <= one <= 63 for one in numbers)):
            raise ValueError(
                f"expected all, numbers from 0 to 63 such as [0, 2], or names with numbers such as {{dapi: 0}}, found "
                f"{channels!r}. Change it to one of the three"
            )
        if is_list and len(set(numbers)) < len(numbers):
            raise ValueError(f"expected each channel once, found {channels!r}. Remove the duplicates")
        return channels

    @field_validator("channels")
    @classmethod
    def _names_fit_into_columns(cls, channels: Any) -> Any:
        named = channels if isinstance(channels, dict) else {}
        wrong = [name for name in named if not name.isidentifier() or "_" in name]
        if wrong:
            raise ValueError(
                f"expected channel names of letters and digits that do not begin with a digit, found "
                f"{', '.join(map(repr, wrong))}. Change the names"
            )
        return channels

    @field_validator("texture_range_counts")
    @classmethod
    def _range_rises(cls, limits: list[float] | None) -> list[float] | None:
        if limits is not None and (len(limits) != 2 or not limits[0] < limits[1]):
            raise ValueError(
                f"expected two rising numbers, found {limits}. Set the darkest and the brightest intensity, such as "
                "[0, 4095]"
            )
        return limits

    @model_validator(mode="after")
    def _pairs_have_two_channels(self) -> "Measure":
        pairs = [name for name in self.names if FEATURES[name]["group"] == GROUP_OF_PAIRS]
        if pairs and self.channels != "all" and len(self.channels) < 2:
            raise ValueError(
                f"expected several channels for {', '.join(pairs)}, found one in channels. Add a channel, or remove "
                f"{', '.join(pairs)} from features"
            )
        return self

    @property
    def names(self) -> list[str]:
        """The features without their groups, in the order of their columns."""
        chosen = {one for name in self.features for one in _members(name)}
        return [name for name in FEATURES if name in chosen]

    @property
    def named_channels(self) -> str | list[tuple[str, int]]:
        """The channels as pairs of name and number, by number; "all" if there is no choice."""
        if isinstance(self.channels, dict):
            return sorted(self.channels.items(), key=lambda item: item[1])
        if isinstance(self.channels, list):
            return [(f"c{number}", number) for number in sorted(self.channels)]
        return self.channels


def _members(name: str) -> list[str]:
    """Return the features of a group, or the feature itself."""
    return [feature for feature, facts in FEATURES.items() if facts["group"] == name] or [name]
