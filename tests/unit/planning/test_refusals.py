"""Settings that contradict each other or the images: each error proposes a setting that works, which is then tried."""

import re

import pytest
import yaml
from pydantic import ValidationError

from cellmill.config.consistency import contradictions_of
from cellmill.config.errors import ConfigError
from cellmill.config.networks import network_settings, stride_px
from cellmill.config.preset import ModelPreset
from cellmill.models.registry import build_network
from cellmill.planning.make import make_plan
from cellmill.planning.runs import load_preset, merge_preset
from project import ROOT
from training_shards import merge

PRESETS = ROOT / "resources/models"
SYSTEMS = sorted({path.stem for path in PRESETS.glob("*.yaml")} - {"classical"})  # which has no network


# ---- within a preset -----------------------------------------------------------------------------------------


def preset_of(name, changes):
    return ModelPreset.model_validate(merge_preset(load_preset(name, presets_dir=PRESETS, where=""), changes))


def contradictions_in(preset):
    return contradictions_of(network=preset.network, input=preset.input, train=preset.train, predict=preset.predict)


def complaints(name, changes):
    """Return the error message of a preset, without the head and the tail that pydantic adds."""
    try:
        preset_of(name, changes)
    except ValidationError as error:
        [details] = error.errors()
        return details["msg"].removeprefix("Value error, ")
    raise AssertionError(f"{name} with {changes} was taken")


STRIDES = {
    "sartorius_unet": 16,
    "unet_isbi": 16,
    "stemnet1": 4,
    "clstm_unet_text": 8,
    "clstm_unet_code": 8,
    "segnet_vgg16": 32,
    "fcrn_a": 8,
}


@pytest.mark.parametrize("name", STRIDES)
@pytest.mark.parametrize("excess", [(1, 1), (1, -1), (-1, 1)])
def test_a_patch_is_a_multiple_of_the_stride_and_the_nearest_one_is_proposed(name, excess):
    """The expected stride, by hand, is 2 to the power of the number of poolings."""
    stride = STRIDES[name]
    patch = [160 + excess[0], 192 + excess[1]]
    changes = {"train": {"patch": patch, "augmentation": {"rotate_90": False, "elastic": None}}}
    message = complaints(name, changes)
    assert f"train.patch: expected multiples of {stride} px, at least {2 * stride}" in message
    assert f"found {patch}" in message
    proposed = yaml.safe_load(re.search(r"Set it to (\[.*?\])", message)[1])
    assert proposed == [160, 192]
    taken = preset_of(name, merge(changes, {"train": {"patch": proposed}}))
    assert stride_px(taken.network) == stride


@pytest.mark.parametrize("name", STRIDES)
def test_the_stride_that_a_patch_is_measured_by_is_that_of_the_network(name):
    preset = preset_of(name, {"width": 1 / 32})
    network = build_network(network_settings(preset.model_dump(mode="json")))
    assert stride_px(preset.network) == network.stride_px == STRIDES[name]


@pytest.mark.parametrize("name", STRIDES)
def test_a_patch_of_one_deepest_pixel_is_too_small(name):
    changes = {"train": {"patch": [16, 16], "augmentation": {"elastic": None}}}
    if STRIDES[name] <= 8:
        assert preset_of(name, changes)
        return
    proposed = yaml.safe_load(re.search(r"Set it to (\[.*?\])", complaints(name, changes))[1])
    assert proposed == [2 * STRIDES[name]] * 2
    assert preset_of(name, merge(changes, {"train": {"patch": proposed}}))


def test_quarter_turns_need_a_square():
    changes = {"train": {"patch": [64, 128], "augmentation": {"rotate_90": True}}}
    message = complaints("sartorius_unet", changes)
    assert re.search(
        r"rotate_90: expected a square patch, found \[64, 128\]\. Set train\.patch to a square or", message
    )
    assert preset_of("sartorius_unet", merge(changes, {"train": {"patch": [64, 64]}}))
    assert preset_of("sartorius_unet", merge(changes, {"train": {"augmentation": {"rotate_90": False}}}))


OUTPUTS = ("foreground", "two_classes", "contour", "distance", "flow", "flow_gray")
ALL_LOSSES = ("bce", "dice", "bce_dice", "focal", "ce", "mse", "distance", "flow")
ALLOWED = {
    *((output, loss) for output in ("foreground", "two_classes") for loss in ("bce", "dice", "bce_dice", "focal")),
    ("two_classes", "ce"),
    ("contour", "ce"),
    ("distance", "distance"),
    ("flow", "flow"),
    ("flow_gray", "mse"),
}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("loss", ALL_LOSSES)
def test_an_output_has_losses_of_its_own_and_the_first_is_proposed(output, loss):
    changes = {"network": {"output": output}, "train": {"loss": {"name": loss}}}
    if (output, loss) in ALLOWED:
        assert preset_of("sartorius_unet", changes)
        return
    message = complaints("sartorius_unet", changes)
    found = re.search(rf"train\.loss\.name: expected .* for network\.output {output}, found {loss}\.", message)
    assert found, message
    proposed = re.search(r"Set train\.loss\.name to (\w+)", message)[1]
    assert preset_of("sartorius_unet", merge(changes, {"train": {"loss": {"name": proposed}}}))


@pytest.mark.parametrize(("key", "value"), [("class_weights", [1, 2]), ("distance", {"weight": 5})])
def test_weights_of_classes_and_distances_belong_to_cross_entropy(key, value):
    changes = {"train": {"loss": {key: value}}}
    message = complaints("sartorius_unet", changes)
    assert re.search(rf"train\.loss\.{key}: expected train\.loss\.name ce, .* found bce\. Remove it, or set", message)
    proposed = {"network": {"output": "two_classes"}, "train": {"loss": {"name": "ce"}}}
    assert preset_of("sartorius_unet", merge(changes, proposed))


@pytest.mark.parametrize(("output", "wrong", "right"), [("two_classes", 3, 2), ("contour", 2, 3)])
def test_there_is_a_weight_for_each_class(output, wrong, right):
    changes = {"network": {"output": output}, "train": {"loss": {"name": "ce", "class_weights": [1] * wrong}}}
    message = complaints("sartorius_unet", changes)
    assert re.search(
        rf"class_weights: expected {right} numbers for network\.output {output}, found \[1\.0(, 1\.0)*\]\. "
        "Set one weight per class, background first",
        message,
    )
    assert preset_of("sartorius_unet", merge(changes, {"train": {"loss": {"class_weights": [1] * right}}}))


@pytest.mark.parametrize("name", ["clstm_unet_text", "clstm_unet_code"])
@pytest.mark.parametrize(
    ("changes", "message", "proposed"),
    [
        (
            {"input": {"frames": 5}},
            r"input\.frames: expected 1 for \w+, which reads a sequence frame by frame, found 5\. Set it to 1",
            {"input": {"frames": 1}},
        ),
        (
            {"input": {"class_planes": ["a"]}},
            r"input\.class_planes: expected none for \w+, found \['a'\]\. Remove it",
            {"input": {"class_planes": []}},
        ),
        (
            {"train": {"augmentation": {"reverse_time": True}}},
            r"reverse_time: expected input\.frames above 1, found 1\. Remove it, or set train\.streams\.reverse",
            {"train": {"augmentation": {"reverse_time": False}, "streams": {"reverse": True}}},
        ),
        (
            {"network": {"output": "flow"}},
            r"^network\.output: expected foreground, two_classes, contour for \w+, found flow\. "
            r"Set it to two_classes and train\.loss\.name to ce$",
            {"network": {"output": "two_classes"}, "train": {"loss": {"name": "ce"}}},
        ),
    ],
)
def test_a_recurrent_network_takes_neither_frames_nor_planes_nor_maps(name, changes, message, proposed):
    changes = merge({"train": {"loss": {"class_weights": None, "distance": None}}}, changes)
    assert re.search(message, complaints(name, changes))
    assert preset_of(name, merge(changes, proposed))


def test_reversed_time_needs_frames():
    changes = {"train": {"augmentation": {"reverse_time": True}}}
    assert "expected input.frames above 1, found 1. Remove it, or raise input.frames" in complaints(
        "sartorius_unet", changes
    )
    assert preset_of("sartorius_unet", merge(changes, {"input": {"frames": 3}}))


def test_film_needs_classes():
    changes = {"network": {"conditioning": "film"}}
    message = complaints("sartorius_unet", changes)
    assert "network.conditioning: expected input.class_planes for film, found none. List the classes" in message
    assert preset_of("sartorius_unet", merge(changes, {"input": {"class_planes": ["a", "b"]}}))
    assert preset_of("sartorius_unet", {"network": {"conditioning": "planes"}})


def test_an_even_number_of_frames_has_no_middle():
    message = complaints("stemnet1", {"input": {"frames": 4}})
    assert re.search(r"frames: expected an odd number, .* found 4\. Set it to 3 or 5", message)
    assert preset_of("stemnet1", {"input": {"frames": 3}})
    assert preset_of("stemnet1", {"input": {"frames": 5}})


def test_a_class_has_one_plane():
    message = complaints("sartorius_unet", {"input": {"class_planes": ["a", "b", "a"]}})
    assert re.search(r"expected different classes, found \['a', 'b', 'a'\]\. Remove the duplicate", message)


@pytest.mark.parametrize("patch", [32, 48, 64, 80, 112, 160, 176, 512])
@pytest.mark.parametrize("smoothness", [0.05, 0.1, 0.15, 0.33, 1])
def test_a_bend_that_folds_cells_is_refused_and_the_largest_that_does_not_is_proposed(patch, smoothness):
    elastic = {"displacement_px": 50, "smoothness": smoothness}
    changes = {"train": {"patch": [patch, patch], "augmentation": {"elastic": elastic}}}
    if patch * smoothness >= 140:
        assert preset_of("sartorius_unet", changes)
        return
    message = complaints("sartorius_unet", changes)
    assert "which would fold cells. Lower it, or raise smoothness" in message
    proposed = float(re.search(r"displacement_px: expected at most ([\d.]+) px", message)[1])
    lower = {"train": {"augmentation": {"elastic": {"displacement_px": proposed}}}}
    assert preset_of("sartorius_unet", merge(changes, lower))
    assert proposed > 0.95 * smoothness * patch / 2.8


def test_the_warmup_ends_before_the_training():
    changes = {"train": {"epochs": 5, "schedule": {"warmup_epochs": 6}}}
    assert re.search(r"warmup_epochs: expected at most 5 epochs, found 6\. Lower it", complaints("stemnet1", changes))
    assert preset_of("stemnet1", merge(changes, {"train": {"schedule": {"warmup_epochs": 5}}}))
    assert preset_of("stemnet1", merge(changes, {"train": {"epochs": 6}}))


def test_all_mistakes_of_a_preset_are_named_at_once():
    changes = {"network": {"conditioning": "film"}, "train": {"patch": [40, 40], "loss": {"name": "mse"}}}
    message = complaints("sartorius_unet", changes)
    assert all(key in message for key in ("train.patch", "train.loss.name", "network.conditioning"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_shipped_preset_contradicts_itself(name):
    assert contradictions_in(preset_of(name, {})) == []


# ---- a preset and its images -----------------------------------------------------------------------------------


@pytest.fixture
def stills(tmp_path, monkeypatch):
    """Config section of twelve single images of two kinds with label images."""
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels"):
        for number in range(12):
            path = tmp_path / room / ("cort" if number % 2 else "astro") / f"n{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return {
        "images": "images/{kind}/{sample}.tif",
        "annotations": {"format": "label_image", "path": "labels/{kind}/{sample}.tif"},
    }


@pytest.fixture
def movie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("movie", "truth"):
        (tmp_path / room).mkdir()
        for sequence in "abcdef":
            for frame in range(6):
                (tmp_path / room / f"{sequence}_{frame}.tif").touch()
    return {
        "images": "movie/{sequence}_{frame}.tif",
        "annotations": {"format": "label_image", "path": "truth/{sequence}_{frame}.tif"},
    }


def plan(section, *models, **others):
    config = {"datasets": {"d": {**section, "models": list(models)}, **others}}
    return make_plan(config, presets_dir=PRESETS)


def mistakes(section, *models, **others):
    with pytest.raises(ConfigError) as caught:
        plan(section, *models, **others)
    return caught.value.mistakes


def one_mistake(section, *models, **others):
    [message] = mistakes(section, *models, **others)
    return message


@pytest.mark.parametrize(
    ("preset", "key"),
    [
        ("stemnet5", "input.frames"),
        ("clstm_unet_text", "network.architecture"),
        ("clstm_unet_code", "network.architecture"),
    ],
)
def test_a_network_of_sequences_is_refused_for_single_images(stills, movie, preset, key):
    message = one_mistake(stills, preset)
    assert re.match(
        rf"datasets\.d\.models\[0\]\.{re.escape(key)}: expected frames of sequences for {preset}, which uses "
        r"several frames, found single images\. Add \{sequence\} and \{frame\} to the pattern .* stemnet1, sartorius_unet\.",
        message,
    )
    assert plan(stills, "stemnet1", "sartorius_unet")
    assert plan(movie, preset)


def test_frames_as_a_pattern_make_a_sequence(stills, tmp_path):
    """The pattern proposed in the message works with one folder of numbered images."""
    section = {
        "images": "images/{kind}/n{frame}.tif",
        "annotations": {"format": "label_image", "path": "labels/{kind}/n{frame}.tif"},
    }
    for room in ("images", "labels"):
        for path in sorted((tmp_path / room / "cort").iterdir()):
            path.rename(tmp_path / room / "astro" / path.name)
    assert plan({**section, "split": {"by": "blocks"}}, "stemnet5")


def test_a_model_of_sequences_is_not_applied_to_single_images(stills, movie):
    section = {**stills, "models": [{"apply": "m/stemnet5"}]}
    config = {"datasets": {"d": section, "m": {**movie, "models": ["stemnet5"]}}}
    with pytest.raises(ConfigError) as caught:
        make_plan(config, presets_dir=PRESETS)
    [message] = caught.value.mistakes
    assert re.match(
        r"datasets\.d\.models\[0\]\.apply: expected frames of sequences for stemnet5, .* single images", message
    )
    config["datasets"]["d"] = {**movie, "models": [{"apply": "m/stemnet5"}]}
    assert make_plan(config, presets_dir=PRESETS)


def test_class_planes_need_a_column(stills):
    message = one_mistake(stills, {"preset": "sartorius_hot", "input": {"class_planes": ["astro", "cort"]}})
    assert re.match(
        r"datasets\.d\.models\[0\]\.input\.class_planes: expected the class of each image for the planes astro, cort, "
        r"found no class_column\. Set datasets\.d\.class_column, set input\.class_planes to \[\], or use "
        r"sartorius_unet\.",
        message,
    )
    assert plan(
        {**stills, "class_column": "kind"}, {"preset": "sartorius_hot", "input": {"class_planes": ["astro", "cort"]}}
    )
    assert plan(stills, {"preset": "sartorius_hot", "input": {"class_planes": []}}, "sartorius_unet")


def test_each_class_of_the_training_images_has_a_plane(stills):
    section = {**stills, "class_column": "kind"}
    entry = {"preset": "sartorius_hot", "input": {"class_planes": ["astro", "shsy5y"]}}
    message = one_mistake(section, entry)
    assert "expected a plane for each class of the training and validation images, found no plane for cort" in message
    proposed = yaml.safe_load(re.search(r"Set it to (\[.*?\])", message)[1])
    assert proposed == ["astro", "cort"]
    assert plan(section, merge(entry, {"input": {"class_planes": proposed}}))


def test_each_class_of_any_fold_has_a_plane(stills, tmp_path):
    """Only one image has the class rare; in every fold that does not test it, it is a training image."""
    for room in ("images", "labels"):
        (tmp_path / room / "rare").mkdir()
        (tmp_path / room / "rare" / "n99.tif").touch()
    section = {**stills, "class_column": "kind", "split": {"folds": 3}}
    entry = {"preset": "sartorius_hot", "input": {"class_planes": ["astro", "cort"]}}
    for seed in range(3):
        message = one_mistake({**section, "split": {"folds": 3, "seed": seed}}, entry)
        assert "found no plane for rare" in message


def write_table(tmp_path, kinds):
    rows = [f"n{number},1 4,8,8,{kind}" for number, kind in enumerate(kinds)]
    (tmp_path / "cells.csv").write_text("\n".join(["id,annotation,width,height,cell_type", *rows]) + "\n")
    return {
        "images": "images/*/{sample}.tif",
        "annotations": {"format": "rle", "table": "cells.csv", "order": "row"},
        "class_column": "cell_type",
    }


def refusal(section, entry, *, seed):
    """Return the seed and the message of a refused split, or None.

    Some splits put the images without a class into the test part, where the network does not need it.
    """
    try:
        plan({**section, "split": {"seed": seed}}, entry)
    except ConfigError as error:
        return seed, str(error)
    return None


def test_an_image_without_a_class_is_named(stills, tmp_path):
    section = write_table(tmp_path, ["cort", "astro"] * 5 + ["", ""])
    entry = {"preset": "sartorius_hot", "input": {"class_planes": ["astro", "cort"]}}
    seed, message = next(found for number in range(20) if (found := refusal(section, entry, seed=number)))
    assert "found no plane for (none). Add the missing classes to cell_type." in message
    assert plan({**write_table(tmp_path, ["cort", "astro"] * 6), "split": {"seed": seed}}, entry)


def test_who_is_told_the_class_is_told_it_of_every_image(stills, tmp_path):
    """An image without annotation has no row in the table and therefore no class."""
    section = write_table(tmp_path, ["cort", "astro"] * 5)
    section["annotations"]["missing"] = "unlabelled"
    entry = {"preset": "sartorius_hot", "input": {"class_planes": ["astro", "cort"], "class_at_prediction": "oracle"}}
    message = one_mistake(section, entry)
    assert re.match(
        r"datasets\.d\.models\[0\]\.input\.class_at_prediction: expected one of the classes astro, cort for each image, "
        r"because the prediction uses it \(oracle\), found \(none\)\. Set datasets\.d\.class_column to a column of these "
        r"classes, or set it to average\.",
        message,
    )
    assert plan(section, merge(entry, {"input": {"class_at_prediction": "average"}}))
    whole = write_table(tmp_path, ["cort", "astro"] * 6)
    assert plan(whole, entry)

    applied = {**stills, "models": [{"apply": "d/sartorius_hot"}]}
    message = one_mistake(whole, entry, e=applied)
    assert re.match(
        r"datasets\.e\.models\[0\]\.apply: expected one of the classes astro, cort for each image, .* found \(none\)\. "
        r"Set datasets\.e\.class_column to a column of these classes, or apply a model with input\.class_at_prediction: average\.",
        message,
    )
    assert plan(whole, entry, e={**applied, "class_column": "kind"})
    assert plan(whole, merge(entry, {"input": {"class_at_prediction": "average"}}), e=applied)


BINARY = {"annotations": {"format": "binary", "path": "labels/{kind}/{sample}.tif"}}


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"preset": "sartorius_hot_flow", "input": {"class_planes": []}}, "flow_gray"),
        ({"preset": "default", "network": {"output": "flow"}, "train": {"loss": {"name": "flow"}}}, "flow"),
        ({"preset": "default", "network": {"output": "distance"}, "train": {"loss": {"name": "distance"}}}, "distance"),
        (
            {
                "preset": "default",
                "network": {"output": "contour"},
                "train": {"loss": {"name": "ce", "class_weights": [1, 2, 3], "distance": {}}},
            },
            "contour",
        ),
    ],
)
def test_outputs_of_single_cells_need_labels_of_single_cells(stills, entry, found):
    section = {**stills, **BINARY}
    message = one_mistake(section, entry)
    assert re.match(
        rf"datasets\.d\.models\[0\]\.network\.output: expected labels of single objects for {found}, found annotations "
        r"of format binary, which do not separate touching objects\. Use label images, masks or outlines of the objects, "
        r"or set network\.output to foreground and train\.loss to \{name: bce",
        message,
    )
    proposed = yaml.safe_load(re.search(r"train\.loss to (\{.*?\})", message)[1])
    changed = merge(entry, {"network": {"output": "foreground"}, "train": {"loss": proposed}})
    assert plan(section, changed)
    assert plan(stills, entry)


def test_distance_weights_need_labels_of_single_cells(stills):
    section = {**stills, **BINARY}
    entry = {
        "preset": "default",
        "network": {"output": "two_classes"},
        "train": {"loss": {"name": "ce", "distance": {"weight": 10}}},
    }
    message = one_mistake(section, entry)
    assert "train.loss.distance: expected labels of single objects for distance weights" in message
    assert message.endswith("or set train.loss.distance to null.")
    assert plan(section, merge(entry, {"train": {"loss": {"distance": None}}}))
    assert plan(stills, entry)


def test_a_window_is_no_longer_than_the_passages_of_the_training_part(movie):
    entry = {"preset": "clstm_unet_text", "train": {"streams": {"unroll": 7}}}
    message = one_mistake(movie, entry)
    assert re.match(
        r"datasets\.d\.models\[0\]\.train\.streams\.unroll: expected at most 6, the number of consecutive frames "
        r"in the training part, found 7\. Lower it, or change split so that the training part has more consecutive "
        r"frames\.",
        message,
    )
    assert plan(movie, merge(entry, {"train": {"streams": {"unroll": 6}}}))


def test_blocks_make_passages_shorter(movie):
    section = {**movie, "split": {"by": "blocks", "train": 0.4, "validation": 0.3, "test": 0.3}}
    entry = {"preset": "clstm_unet_text", "train": {"streams": {"unroll": 3}}}
    assert "expected at most 2, the number of consecutive frames" in one_mistake(section, entry)
    assert plan({**section, "split": {"by": "blocks", "train": 0.6, "validation": 0.2, "test": 0.2}}, entry)


def test_windows_fit_into_the_training_part_of_every_fold(movie, tmp_path):
    """One sequence is long; in the fold that tests it, only the short ones are used for training."""
    for room in ("movie", "truth"):
        for frame in range(6, 20):
            (tmp_path / room / f"a_{frame}.tif").touch()
    section = {**movie, "split": {"folds": 3}}
    entry = {"preset": "clstm_unet_text", "train": {"streams": {"unroll": 10}}}
    for seed in range(3):
        message = one_mistake({**section, "split": {"folds": 3, "seed": seed}}, entry)
        assert "expected at most 6, the number of consecutive frames in the training part, found 10" in message


# ---- starting weights ------------------------------------------------------------------------------------------


def test_how_weights_are_taken_is_said_of_weights_only(stills):
    message = one_mistake(stills, {"preset": "default", "init_weights": "matching"})
    assert (
        "expected init_from with init_weights: matching, found none. Set init_from, or remove init_weights" in message
    )
    assert plan(stills, {"preset": "default"})
    assert plan(
        stills, "default", {"preset": "default", "name": "b", "init_from": "d/default", "init_weights": "matching"}
    )


def test_all_weights_of_another_network_are_refused_and_matching_ones_are_taken(stills):
    other = {"preset": "default", "name": "b", "network": {"output": "flow"}, "train": {"loss": {"name": "flow"}}}
    message = one_mistake(stills, "default", {**other, "init_from": "d/default"})
    assert re.match(
        r"d/b: expected weights of the same network in init_from d/default, found output foreground instead of flow\. "
        r"Set the same network and width for both, or set init_weights: matching\.",
        message,
    )
    assert plan(stills, "default", {**other, "init_from": "d/default", "init_weights": "matching"})


# ---- objects and files ---------------------------------------------------------------------------------------


FLOWS = {"preset": "default", "network": {"output": "flow"}, "train": {"loss": {"name": "flow"}}}


@pytest.mark.parametrize("method", ["contour", "distance", "flow"])
def test_a_way_into_objects_needs_the_map_that_it_follows(stills, method):
    section = {**stills, "postprocess": {"instances": {"method": method}}}
    message = one_mistake(section, "stemnet1")
    assert re.match(
        r"datasets\.d\.postprocess\.instances\.method: expected auto, components or watershed for stemnet1, whose "
        rf"network\.output is two_classes, found {method}\. Set it to auto, or set network\.output: {method} and "
        r"the matching loss for stemnet1\.",
        message,
    )
    assert plan({**stills, "postprocess": {"instances": {"method": "auto"}}}, "stemnet1")


def test_flows_are_followed_where_the_network_gives_them(stills):
    section = {**stills, "postprocess": {"instances": {"method": "flow"}}}
    assert plan(section, FLOWS)


def test_grey_flows_have_no_direction_to_average(stills):
    message = one_mistake(stills, {"preset": "sartorius_hot_flow", "predict": {"average": "flips"}})
    assert "predict.average: expected none for network.output flow_gray" in message
    assert plan(stills, {**FLOWS, "predict": {"average": "rotations"}})


def test_tracks_need_sequences(stills, movie):
    message = one_mistake({**stills, "export": ["coco", "ctc"]}, "stemnet1")
    assert message.startswith("datasets.d.export: expected frames of sequences for ctc, found single images. ")
    assert plan({**stills, "export": ["coco"]}, "stemnet1")
    assert plan({**movie, "export": ["ctc"]}, "stemnet1")


@pytest.mark.parametrize("seeds", [None, [3]])
def test_one_seed_is_no_mean(stills, seeds):
    entry = {"preset": "stemnet1", "average_seeds": True, **({"seeds": seeds} if seeds else {})}
    assert "average_seeds: expected at least two seeds to average, found" in one_mistake(stills, entry)
    found = plan(stills, {**entry, "seeds": [1, 2, 3]})
    assert [run.name for run in found.runs["d"]] == [
        "stemnet1.seed1",
        "stemnet1.seed2",
        "stemnet1.seed3",
        "stemnet1.mean",
    ]
    assert found.runs["d"][-1].members == ("stemnet1.seed1", "stemnet1.seed2", "stemnet1.seed3")


def test_each_fold_has_a_mean_of_its_own(stills):
    found = plan({**stills, "split": {"folds": 3}}, {"preset": "stemnet1", "seeds": [1, 2], "average_seeds": True})
    means = {run.name: run for run in found.runs["d"] if run.members}
    assert set(means) == {f"stemnet1.mean.fold{fold}" for fold in range(3)}
    assert means["stemnet1.mean.fold1"].members == ("stemnet1.seed1.fold1", "stemnet1.seed2.fold1")
    assert means["stemnet1.mean.fold1"].parts["test"] == ("fold1",)
