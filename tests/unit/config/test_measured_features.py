"""Config section `measure`: groups become features, channels become names with numbers, mistakes one message each."""

import pytest
from pydantic import ValidationError

from cellmill.config.errors import describe_errors
from cellmill.config.measure import FEATURES, GROUPS, Measure
from cellmill.objects import features as declared


def mistakes(**section):
    with pytest.raises(ValidationError) as raised:
        Measure.model_validate(section)
    return describe_errors(raised.value, model=Measure, prefix=("measure",))


def test_the_config_knows_the_features_that_the_library_declares():
    assert FEATURES == declared.FEATURES
    assert GROUPS == ("shape", "intensity", "texture", "colocalisation")


def test_groups_and_names_become_features_in_one_order():
    section = Measure(features=["texture_energy", "shape", "intensity_mean"])
    assert section.names == [*(name for name in FEATURES if FEATURES[name]["group"] == "shape"), "intensity_mean",
                             "texture_energy"]  # fmt: skip
    assert Measure.model_validate({"features": "shape"}).names == Measure(features=["shape"]).names
    assert Measure().names == []


def test_channels_become_names_and_numbers():
    assert Measure().named_channels == "all"
    assert Measure(channels=[2, 0]).named_channels == [("c0", 0), ("c2", 2)]
    assert Measure(channels={"actin": 2, "dapi": 0}).named_channels == [("dapi", 0), ("actin", 2)]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"features": ["intensity_mean", "intensity_mean"]}, "measure.features: expected each feature once, found "
         "intensity_mean more than once in intensity_mean, intensity_mean. Remove the duplicates."),
        ({"features": ["solidity", "axis_major_px"]}, "measure.features: expected features to add, found solidity, "
         "axis_major_px, which objects.csv always contains (solidity, axis_major_px). Remove solidity, axis_major_px."),
        ({"channels": [0, 0]}, "measure.channels: expected each channel once, found [0, 0]. Remove the duplicates."),
        ({"channels": [True]}, "measure.channels: expected all, numbers from 0 to 63 such as [0, 2], or names with "
         "numbers such as {dapi: 0}, found [True]. Change it to one of the three."),
        ({"channels": {"my dye": 0}}, "measure.channels: expected channel names of letters and digits that do not begin "
         "with a digit, found 'my dye'. Change the names."),
        ({"texture_range_counts": [5, 5]}, "measure.texture_range_counts: expected two rising numbers, found [5.0, 5.0]. "
         "Set the darkest and the brightest intensity, such as [0, 4095]."),
        ({"features": ["colocalisation"], "channels": [1]}, "measure: expected several channels for channel_correlation, "
         "found one in channels. Add a channel, or remove channel_correlation from features."),
    ],
)  # fmt: skip
def test_each_mistake_has_one_message(section, message):
    assert mistakes(**section) == [message]
