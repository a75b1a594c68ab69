"""Preprocessing of datasets that apply a trained model: adopted from the model, apart from what the config sets.

Background, scale and size belong to the model, because its network was trained on images made with them. The channel
belongs to the dataset: the same stain may be in another channel of other images. Uneven light belongs to the microscope
and so to the dataset: a flat field is neither adopted as numbers nor required.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cellmill.config.dataset import Config, Dataset
from cellmill.config.merging import merge
from cellmill.config.preprocess import NUMBERS_OF_METHOD, Preprocess
from cellmill.exports.model_file import MODEL_SUFFIX, read_description
from cellmill.images.channels import LUMINANCE, Channel
from cellmill.images.rasters import Raster
from cellmill.planning.rescaling import adopt_rescale, complete_rescale, first_image, is_same_scale
from cellmill.planning.runs import Run
from cellmill.planning.samples import Sample
from cellmill.planning.shipped_models import name_source
from cellmill.preprocessing.background import TEMPORAL_METHODS
from cellmill.preprocessing.flat_field import METHOD as FLAT
from cellmill.provenance import canonical

# Keys that decide which keys beside them are used
SWITCHES = ("method", "mode")


def plan_preprocessing(
    config: Config, runs: Mapping[str, Sequence[Run]], samples: Mapping[str, Sequence[Sample]]
) -> tuple[dict[str, dict[str, Any]], list[str], list[str]]:
    """Return the preprocessing of every dataset.

    Parameters
    ----------
    config : Config
        The config of the run.
    runs, samples : mapping
        Runs and sample table of each dataset. Datasets without a sample table are taken as images of one channel.

    Returns
    -------
    dict
        Dataset -> section `preprocess` with all keys.
    list of str
        Mistakes: contradictions between a dataset and the models that it applies.
    list of str
        Remarks on channels that are adopted from a model.
    """
    sections = {name: complete_section(dataset.preprocess) for name, dataset in config.datasets.items()}
    for name, dataset in config.datasets.items():
        sections[name]["rescale"] = complete_rescale(
            sections[name]["rescale"], name=name, dataset=dataset, samples=samples.get(name, ())
        )
    mistakes: list[str] = []
    remarks: list[str] = []
    for name, dataset in config.datasets.items():
        models = {
            run.apply: _section_of_model(run.apply)
            if run.apply.endswith(MODEL_SUFFIX)
            else sections[run.apply.split("/", 1)[0]]
            for run in runs[name]
            if run.apply is not None
        }
        if not models:
            continue
        where = f"datasets.{name}.preprocess"
        if not any(run.is_learned for run in runs[name]):
            written = _written_section(dataset)
            reference, model = next(iter(models.items()))
            rescale = sections[name]["rescale"]
            sections[name] = _adopt(sections[name], model, written=written)
            is_set = written.get("rescale") is not None
            sections[name]["rescale"] = rescale if is_set else adopt_rescale(model["rescale"], reference=reference)
            if "channels" in model and not {"channel", "channels"} & set(written):
                sections[name]["channel"] = model["channel"]
            elif not {"channel", "channels"} & set(written):
                channel, wrong, said = _adopt_channel(models, first_image(samples.get(name, ())), where=where)
                sections[name]["channel"] = channel
                mistakes += wrong
                remarks += said
        for reference, settings in models.items():
            mistakes += _wrong_channels(sections[name], settings, reference=reference, where=where)
            mistakes += _wrong_scale(sections[name], settings, reference=reference, where=where)
            for path, wanted, found in _contradictions(sections[name], settings):
                mistakes.append(
                    f"{where}.{'.'.join(path)}: expected {wanted}, as in the training of {name_source(reference)}, "
                    f"found {found}. {_advise(path, written=_written_section(dataset))}"
                )
    return sections, mistakes, remarks


def complete_section(preprocess: Preprocess) -> dict[str, Any]:
    """Return a section with all keys. Several channels have their backgrounds, and the first is `channel`, too.

    The key `channels` is there only if there are several.
    """
    section = preprocess.model_dump(mode="json")
    if section["channels"] is None:
        del section["channels"]
        return section
    channels = [{**each, "background": each["background"] or section["background"]} for each in section["channels"]]
    return {**section, "channels": channels, "channel": channels[0]["channel"], "background": channels[0]["background"]}


def _section_of_model(path: str) -> dict[str, Any]:
    """Return the section of a model file; `channels` only if there are several."""
    section = merge(complete_section(Preprocess()), read_description(path).preprocess)
    return {key: value for key, value in section.items() if key != "channels" or value}


def _written_section(dataset: Dataset) -> dict[str, Any]:
    if "preprocess" not in dataset.model_fields_set:
        return {}
    return dataset.preprocess.model_dump(mode="json", exclude_unset=True)


def _adopt(own: Mapping[str, Any], model: Mapping[str, Any], *, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of a model with the keys that the config sets.

    If a switch (method, mode) is set to another value, the numbers beside it are those of the config, because the
    model's numbers belong to its own method.
    """
    background = written.get("background", {})
    adopted = merge(merge(own, model), written)
    adopted["background"] = _adopt_background(own["background"], model.get("background", {}), written=background)
    if adopted["fit"]["mode"] != model.get("fit", own["fit"])["mode"]:
        adopted["fit"] = dict(own["fit"])
    # The region of other images says nothing about these.
    adopted["fit"]["at"] = own["fit"]["at"]
    theirs = model.get("channels", ())
    if "channel" in written or not theirs:
        if "channel" in written:
            adopted.pop("channels", None)
        return adopted
    if "channels" in written:
        # Names belong to the dataset, backgrounds that it does not set to the model.
        adopted["channels"] = [
            {**ours, "background": _adopt_background(ours["background"], each["background"], written=set_here)}
            for ours, each, set_here in zip(
                own["channels"], theirs, (each.get("background") or background for each in written["channels"]),
                strict=False,
            )
        ] + own["channels"][len(theirs) :]  # fmt: skip
    else:
        adopted["channels"] = [
            {**each, "background": _adopt_background(own["background"], each["background"], written=background)}
            for each in theirs
        ]
    return adopted | {key: adopted["channels"][0][key] for key in ("channel", "background")}


def _adopt_background(
    own: Mapping[str, Any], model: Mapping[str, Any], *, written: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the background of a model with the keys that the config sets, for one channel.

    A division by the illumination profile may be put before the method of the model.
    """
    if written.get("method") == FLAT:
        model = _with_flat_field(model)
    adopted = merge(merge(own, model), written)
    return dict(own) if adopted["method"] != model.get("method", own["method"]) else adopted


def _adopt_channel(
    models: Mapping[str, Mapping[str, Any]], image: Raster | None, *, where: str
) -> tuple[Channel, list[str], list[str]]:
    """Choose the channel of images from the channel that models were trained on; return mistakes and remarks too."""
    channels = {reference: settings["channel"] for reference, settings in models.items()}
    first = next(iter(channels.values()))
    if image is None or _is_grey(image):
        # A model of channel 0 may have been trained on grey images: then the settings stay equal.
        return (first if first == 0 else "luminance"), [], []
    numbers = f"0 to {image.channels - 1}"
    if len({str(channel) for channel in channels.values()}) > 1:
        found = ", ".join(f"{channel} for {name_source(reference)}" for reference, channel in channels.items())
        wrong = (
            f"{where}.channel: expected the channel with the objects, because the models were trained on different "
            f"channels, found no key ({found}). Set preprocess.channel to a number from {numbers}."
        )
        return first, [wrong], []
    if first == LUMINANCE:
        return first, [], []  # channels that are no colours are refused where the image is read
    reference = name_source(next(iter(channels)))
    if isinstance(first, list):
        exists = len(first) == image.channels
    else:
        exists = image.channel_names.count(first) == 1 if isinstance(first, str) else first < image.channels
    if not exists:
        wrong = (
            f"{where}.channel: expected the channel with the objects, because {reference} was trained on {_say(first)} "
            f"and {image.path} has {image.channels} channels, found no key. Set preprocess.channel to a number from "
            f"{numbers}."
        )
        return first, [wrong], []
    said = (
        f"{where}.channel: {_say(first)} of {image.channels} is used, because {reference} was trained on "
        f"{_say(first)}; if the stain is in another channel of these images, set preprocess.channel"
    )
    return first, [], [said]


def _say(channel: Channel) -> str:
    if isinstance(channel, str | int):
        return f"channel {channel}"
    return f"the mix {list(channel)} of channels"


def _is_grey(image: Raster) -> bool:
    """Return whether an image has one channel, apart from transparency."""
    return image.channels == 1 or (image.axes == "YXS" and image.channels == 2)


def _contradictions(own: Mapping[str, Any], model: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield path, model's value and own value of keys that make images look different to the network."""
    even, wanted_even = (
        {**section, "background": _without_light(section.get("background", {}))} for section in (own, model)
    )
    differences = list(_differences(even, wanted_even))
    switched = {path[0] for path, _, _ in differences if path[-1] in SWITCHES}
    for path, wanted, found in differences:
        is_follower = path[0] in switched and path[-1] not in SWITCHES
        is_harmless = path[0] == "fit" and _keeps_scale(own["fit"]) and _keeps_scale(model["fit"])
        if path[0] not in ("channel", "channels", "rescale") and not is_follower and not is_harmless:
            is_after = path == ("background", "method") and own["background"]["method"] == FLAT
            yield ("background", "then") if is_after else path, wanted, found


def _with_flat_field(background: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a model's background for images that are divided by their illumination profile first."""
    if background.get("method") not in NUMBERS_OF_METHOD or background["method"] in (FLAT, *TEMPORAL_METHODS):
        return background
    return {**background, "method": FLAT, "then": background["method"]}


def _without_light(background: Mapping[str, Any]) -> dict[str, Any]:
    """Return the background that is subtracted from images whose light is even."""
    even = {key: value for key, value in background.items() if key not in ("dark", "then")}
    if background.get("method") == FLAT:
        even["method"] = background["then"]
    return even


def _wrong_channels(own: Mapping[str, Any], model: Mapping[str, Any], *, reference: str, where: str) -> list[str]:
    """Check that images have as many input channels as a model, with the same backgrounds."""
    wanted, found = (section.get("channels") or [{"background": None}] for section in (model, own))
    if len(wanted) != len(found):
        return [
            f"{where}.channels: expected {_say_number(wanted)}, as in the training of {name_source(reference)}, found "
            f"{_say_number(found)}. Set as many channels, in the order of the training."
        ]
    return [
        f"{where}.channels[{number}].background: expected {theirs['background']}, as in the training of "
        f"{name_source(reference)}, found {ours['background']}. Set the model's value."
        for number, (theirs, ours) in enumerate(zip(wanted, found, strict=True))
        if number and _without_light(theirs["background"]) != _without_light(ours["background"])
    ]


def _say_number(channels: Sequence[Any]) -> str:
    return "one channel" if len(channels) == 1 else f"{len(channels)} channels"


def _wrong_scale(own: Mapping[str, Any], model: Mapping[str, Any], *, reference: str, where: str) -> list[str]:
    """Check that images are rescaled to the scale that a model was trained at."""
    if not is_same_scale(own["rescale"], model["rescale"]):
        wanted, found = (_say_scale(section["rescale"]) for section in (model, own))
        return [
            f"{where}.rescale: expected {wanted}, as in the training of {reference}, found {found}. Remove the key to "
            "adopt the model's value, or put models that need different preprocessing into separate datasets."
        ]
    if own["rescale"] is not None and own["fit"]["mode"] == "resize":
        return [
            f"{where}.rescale: expected no rescale with {reference}, which resizes every image to "
            f"{list(own['fit']['size'])} px, found {_say_scale(own['rescale'])}. Remove rescale."
        ]
    return []


def _say_scale(rescale: Mapping[str, Any] | None) -> str:
    if rescale is None:
        return "none"
    key = "pixel_size_um" if rescale["pixel_size_um"] is not None else "diameter_px"
    return f"{key} {rescale[key]:g}"


def _advise(path: tuple[str, ...], *, written: Mapping[str, Any]) -> str:
    part: Any = written
    for key in path:
        part = part.get(key) if isinstance(part, Mapping) else None
    first = "Remove the key to adopt the model's value" if part is not None else "Set the model's value here"
    return f"{first}, or put models that need different preprocessing into separate datasets."


def _keeps_scale(fit: Mapping[str, Any]) -> bool:
    """Return whether a section `fit` leaves the size of the objects unchanged."""
    return fit["mode"] != "resize"


def _differences(
    own: Mapping[str, Any], model: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path, the model's value and the dataset's value of each key that differs."""
    for key, wanted in model.items():
        found = own.get(key)
        if isinstance(wanted, Mapping) and isinstance(found, Mapping):
            yield from _differences(found, wanted, (*path, key))
        elif canonical(wanted) != canonical(found):
            yield (*path, key), wanted, found
