"""Network input: frames around the target frame in its sequence, and class planes that no augmentation changes."""

import csv
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch

from cellmill.images.stored import write_image_bands
from cellmill.inference.normalise import mirror
from cellmill.inference.views import Frames, class_planes
from cellmill.models.registry import build_network
from cellmill.models.weights import write_weights
from cellmill.planning.make import make_plan
from cellmill.planning.settings import job_settings
from cellmill.preprocessing.geometry import plan_fit
from cellmill.preprocessing.stored_images import StoredImage
from cellmill.stages.predict import predict_shard
from cellmill.training.batches import draw_patch, iterate_batches
from cellmill.training.team import Team
from project import ROOT
from sequence_shards import coded_frames, decode, write_frames, write_named_frames
from training_shards import image_set, network_of, tiny_preset, write_training_shard
from whole_images import read_probabilities

PRESETS = ROOT / "resources/models"
CLASSES = ["cort", "astro", "shsy5y"]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def names_of(name, count):
    return [f"{name}{number:02d}" for number in range(count)]


# ---- five frames -------------------------------------------------------------------------------------------


def five_frames(**train):
    return tiny_preset(input={"frames": 5, "normalise": "none"}, train=train)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two sequences of coded frames; in frame n the rows from 3 n on are labelled."""
    folder = tmp_path_factory.mktemp("frames")
    y, _ = np.mgrid[:50, :60]
    labels_tyx = [(y >= 3 * frame).astype(np.uint16) for frame in range(8)]
    return [
        write_frames(folder, "a", images_tyx=coded_frames(8), labels_tyx=labels_tyx),
        write_frames(folder, "b", images_tyx=coded_frames(3, first=50), labels_tyx=labels_tyx[:3]),
    ]


PASSAGES = [names_of("a", 8), names_of("b", 3)]


def frames_of(view):
    planes_cyx = view.read(np.arange(2), np.arange(2))
    return decode(planes_cyx[:, 0, 0])[0].tolist()


def test_the_frame_in_the_middle_is_the_targets_own_and_ends_repeat_the_nearest_of_the_same_sequence(shards):
    images = image_set(*shards, preset=five_frames(), passages=PASSAGES)
    seen = {image.sample: frames_of(images.view(number)) for number, image in enumerate(images.images)}
    assert seen["a04"] == [2, 3, 4, 5, 6]
    assert seen["a00"] == [0, 0, 0, 1, 2]
    assert seen["a01"] == [0, 0, 1, 2, 3]
    assert seen["a07"] == [5, 6, 7, 7, 7]
    assert seen["b00"] == [50, 50, 50, 51, 52]
    assert seen["b01"] == [50, 50, 51, 52, 52]
    assert seen["b02"] == [50, 51, 52, 52, 52]


def test_a_patch_has_the_labels_of_its_middle_frame(shards):
    preset = five_frames(patches_per_image=4, augmentation={"flip": True, "rotate_90": True})
    images = image_set(*shards, preset=preset, passages=PASSAGES)
    given = {"seed": 3, "epoch": 0, "first_step": 0, "workers": 1, "team": Team()}
    for batch in iterate_batches(images, train=preset["train"], **given):
        frames, rows, columns = decode(batch.images)
        assert (frames == frames[:, :, :1, :1]).all()
        assert (rows == rows[:, :1]).all()
        assert (columns == columns[:, :1]).all()
        middle = frames[:, 2, 0, 0]
        numbers = middle % 50
        assert [f"{'ab'[n // 50]}{n % 50:02d}" for n in middle] == batch.samples
        assert np.array_equal(batch.target.classes_yx, rows[:, 2] >= 3 * numbers[:, None, None])


def test_reversed_time_turns_the_frames_around_the_middle_one(shards):
    preset = five_frames(augmentation={"reverse_time": True})
    images = image_set(*shards, preset=preset, passages=PASSAGES)
    orders = set()
    for seed in range(20):
        image_cyx, _ = draw_patch(images, 4, train=preset["train"], rng=np.random.default_rng(seed))
        orders.add(tuple(decode(image_cyx[:, 0, 0])[0].tolist()))
    assert orders == {(2, 3, 4, 5, 6), (6, 5, 4, 3, 2)}


@pytest.mark.parametrize("per_frame", [False, True])
def test_grey_values_of_the_frames_change_together_or_each_by_itself(shards, per_frame):
    preset = five_frames(augmentation={"brightness": 0.4, "per_frame": per_frame})
    images = image_set(*shards, preset=preset, passages=PASSAGES)
    image_cyx, _ = draw_patch(images, 4, train=preset["train"], rng=np.random.default_rng(1))
    offsets = image_cyx[:, 0, 0] - np.rint(image_cyx[:, 0, 0])
    assert np.ptp(offsets) > 0.1 if per_frame else np.ptp(offsets) < 0.02  # float32 has steps of 0.004 near 60,000


def test_an_image_that_belongs_to_no_sequence_is_its_own_neighbour(shards):
    images = image_set(*shards, preset=five_frames(), passages=[PASSAGES[0]])
    alone = next(number for number, image in enumerate(images.images) if image.sample == "b01")
    assert frames_of(images.view(alone)) == [51] * 5


def test_frames_without_labels_are_neighbours_too(tmp_path):
    coded, labels_yx = coded_frames(5), np.zeros((50, 60), np.uint16)
    known = write_named_frames(tmp_path, "known", {"s02": (coded[2], labels_yx)})
    others, _ = write_named_frames(tmp_path, "others", {f"s{n:02d}": (coded[n], labels_yx) for n in (0, 1, 3, 4)})
    images = image_set(known, preset=five_frames(), around=[others], passages=[names_of("s", 5)])
    assert len(images) == 1
    assert frames_of(images.view(0)) == [0, 1, 2, 3, 4]


def test_each_frame_is_normalised_by_itself(tmp_path):
    rng = np.random.default_rng(2)
    images_tyx = [rng.normal(100 * frame, 1 + frame, (40, 40)) for frame in range(5)]
    shard = write_frames(tmp_path, "s", images_tyx=images_tyx, labels_tyx=[np.zeros((40, 40), np.uint16)] * 5)
    images = image_set(shard, preset=tiny_preset(input={"frames": 5}), passages=[names_of("s", 5)])
    seen_cyx = images.view(2).read(np.arange(40), np.arange(40))
    assert np.allclose(seen_cyx.mean(axis=(1, 2)), 0, atol=1e-4)
    assert np.allclose(seen_cyx.std(axis=(1, 2)), 1, atol=1e-4)


def test_frames_of_one_sequence_have_one_size(tmp_path):
    stored = {
        name: StoredImage(
            sample=name, image_path=tmp_path / f"{name}.tif", geometry=plan_fit(shape, mode="none", size=None)
        )
        for name, shape in (("a", (20, 30)), ("b", (20, 31)))
    }
    message = r"b\.tif: expected 20 x 30 px as in frame a .* found 20 x 31 px\. Set preprocess\.fit"
    with pytest.raises(ValueError, match=message):
        Frames(stored, normalise="none", polarity="keep", min_contrast=0.0, passages=[["a", "b"]], kept=None)
    fitted = {
        name: replace(image, geometry=plan_fit(image.geometry.shape, mode="crop_pad", size=(24, 24)))
        for name, image in stored.items()
    }
    assert Frames(fitted, normalise="none", polarity="keep", min_contrast=0.0, passages=[["a", "b"]], kept=None)


def test_the_least_contrast_is_that_of_the_channel_with_the_objects(tmp_path):
    noise_cyx = np.random.default_rng(4).normal(50, 3, (2, 40, 60)).astype(np.float32)
    write_image_bands(tmp_path / "a.tif", noise_cyx, shape=(40, 60), channels=2)
    image = StoredImage(
        sample="a", image_path=tmp_path / "a.tif", geometry=plan_fit((40, 60), mode="none", size=None)
    )  # fmt: skip
    frames = Frames({"a": image}, normalise="zscore", polarity="keep", min_contrast=5.0, passages=None, kept=None)
    stretches = [scale.stretch for _, scale in frames.open("a")]
    assert stretches == [pytest.approx(5, rel=0.1), 1.0]
    frames.settle(factors={}, min_contrast=0.0)
    assert [scale.stretch for _, scale in frames.open("a")] == [1.0, 1.0]


# ---- passages from file patterns -----------------------------------------------------------------------------


@pytest.fixture
def movie(tmp_path, monkeypatch):
    """Function that creates files {sequence}_{frame}.tif and plans a dataset of them."""
    monkeypatch.chdir(tmp_path)

    def make(frames, *, labelled=None, sequences="abc", split=None, preset="stemnet5", missing="unlabelled"):
        for room in ("movie", "truth"):
            (tmp_path / room).mkdir()
        for sequence in sequences:
            for frame in frames:
                (tmp_path / f"movie/{sequence}_{frame}.tif").touch()
                if labelled is None or frame in labelled:
                    (tmp_path / f"truth/{sequence}_{frame}.tif").touch()
        section = {
            "images": "movie/{sequence}_{frame}.tif",
            "annotations": {"format": "label_image", "path": "truth/{sequence}_{frame}.tif", "missing": missing},
            "models": [preset],
        }
        return make_plan(
            {"datasets": {"d": {**section, **({"split": split} if split else {})}}},
            presets_dir=PRESETS, cache_dir=tmp_path / "cache",
        )  # fmt: skip

    return make


def passages_of(plan, part):
    return [passage for shard in plan.shards("d", parts=(part,)) for passage in plan.passages("d", shard)]


def neighbours_in(passages, sample):
    return Frames({}, normalise="none", polarity="keep", min_contrast=0.0, passages=passages, kept=None).neighbours(
        sample, count=5
    )


def test_whole_sequences_are_passages_in_the_order_of_their_numbers(movie):
    plan = movie(range(1, 13))
    found = {part: passages_of(plan, part) for part in ("train", "validation", "test")}
    whole = {sequence: [f"{sequence}_{frame}" for frame in range(1, 13)] for sequence in "abc"}
    assert sorted(passage for passages in found.values() for passage in passages) == sorted(whole.values())
    sequence = found["train"][0][0][0]
    # Sorted by name, m_10 would come before m_2.
    expected = [f"{sequence}_{frame}" for frame in (8, 9, 10, 11, 12)]
    assert neighbours_in(found["train"], f"{sequence}_10") == expected


def test_where_a_number_is_missing_the_next_frames_there_are_stand_beside_each_other(movie):
    plan = movie([1, 2, 3, 4, 6, 7, 8])
    [passage] = [
        found for part in ("train", "validation", "test") for found in passages_of(plan, part) if "a_1" in found
    ]
    assert passage == [f"a_{frame}" for frame in (1, 2, 3, 4, 6, 7, 8)]
    assert neighbours_in([passage], "a_6") == ["a_3", "a_4", "a_6", "a_7", "a_8"]


def test_blocks_are_seen_without_the_gap_and_without_the_other_blocks(movie):
    plan = movie(range(20), sequences="a", split={"by": "blocks", "gap": 2})
    blocks = {"train": range(10), "validation": range(12, 15), "test": range(17, 20)}
    for part, frames in blocks.items():
        assert passages_of(plan, part) == [[f"a_{frame}" for frame in frames]]
    assert neighbours_in(passages_of(plan, "train"), "a_9") == ["a_7", "a_8", "a_9", "a_9", "a_9"]
    assert neighbours_in(passages_of(plan, "validation"), "a_12") == ["a_12", "a_12", "a_12", "a_13", "a_14"]
    # The gap itself is predicted and never scored, so it may use all frames as context.
    [unlabelled] = plan.shards("d", parts=("unlabelled",))
    assert plan.passages("d", unlabelled) == [[f"a_{frame}" for frame in range(20)]]
    assert plan.seen_shards("d", plan.runs["d"][0], plan.shards("d", parts=("train",))) == []


def test_without_a_gap_a_block_ends_where_the_next_begins(movie):
    plan = movie(range(10), sequences="a", split={"by": "blocks"})
    assert [passages_of(plan, part) for part in ("train", "validation", "test")] == [
        [[f"a_{frame}" for frame in frames]] for frames in (range(6), range(6, 8), range(8, 10))
    ]


def test_unlabelled_frames_are_the_context_of_labelled_ones(movie):
    plan = movie(range(10), labelled=(3, 7))
    for part in ("train", "validation", "test"):
        for shard in plan.shards("d", parts=(part,)):
            sequences = {row.sequence for row in plan.rows("d", shard)}
            expected = [[f"{sequence}_{frame}" for frame in range(10)] for sequence in sorted(sequences)]
            assert sorted(plan.passages("d", shard)) == expected
            assert plan.seen_shards("d", plan.runs["d"][0], [shard]) == plan.shards("d", parts=("unlabelled",))
    settings = job_settings(plan, "train", dataset="d", run="stemnet5")
    assert {len(passage) for passage in settings["passages"]} == {10}


def test_between_blocks_of_sparse_labels_a_passage_ends_at_the_first_frame_of_the_gap(movie):
    """Every second frame is labelled: 12 of 24, in blocks of 6, 2 and 2 with one omitted between blocks."""
    plan = movie(range(24), labelled=range(0, 24, 2), sequences="a", split={"by": "blocks", "gap": 1})
    parts = {row.frame: row.split for row in plan.samples["d"]}
    assert [frame for frame in range(0, 24, 2) if parts[frame] == "unlabelled"] == [12, 18]
    assert passages_of(plan, "train") == [[f"a_{frame}" for frame in range(12)]]
    assert passages_of(plan, "validation") == [[f"a_{frame}" for frame in range(13, 18)]]
    assert passages_of(plan, "test") == [[f"a_{frame}" for frame in range(19, 24)]]


def test_a_split_by_table_cuts_a_sequence_where_another_part_begins(movie, tmp_path):
    parts = {**dict.fromkeys(range(4), "train"), 4: "test", **dict.fromkeys(range(5, 9), "train"), 9: "validation"}
    with (tmp_path / "split.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("sample", "split"), *((f"a_{frame}", part) for frame, part in parts.items())])
    plan = movie(range(10), sequences="a", split={"table": "split.csv"})
    found = passages_of(plan, "train")
    assert found == [[f"a_{n}" for n in range(4)], [f"a_{n}" for n in range(5, 9)]]
    assert neighbours_in(found, "a_3") == ["a_1", "a_2", "a_3", "a_3", "a_3"]
    assert neighbours_in(found, "a_5") == ["a_5", "a_5", "a_5", "a_6", "a_7"]
    assert passages_of(plan, "test") == [["a_4"]]


def test_a_network_of_single_images_is_told_no_passages(movie):
    plan = movie(range(6), preset="stemnet1")
    assert job_settings(plan, "train", dataset="d", run="stemnet1")["passages"] is None


# ---- planes of the class -----------------------------------------------------------------------------------


def hot_preset(**changes):
    return tiny_preset(**{**changes, "input": {"class_planes": CLASSES, **changes.get("input", {})}})


WILD = {
    "flip": True,
    "rotate_90": True,
    "affine_probability": 1.0,
    "rotation_deg": 90,
    "zoom": [0.5, 2.0],
    "shear_deg": 20,
    "jitter": 0.1,
    "translation": 0.3,
    "elastic": {"displacement_px": 1.0},
    "contrast": 2.0,
    "brightness": 2.0,
    "invert_probability": 0.5,
    "noise": 1.0,
}


@pytest.mark.parametrize("per_frame", [False, True])
@pytest.mark.parametrize("padded", [None, [64, 64]])
def test_no_augmentation_and_no_padding_touches_a_class_plane(tmp_path, padded, per_frame):
    """Also where the image is mirrored at its edge because it is smaller than a patch, or padded to a size."""
    mode = "none" if padded is None else "crop_pad"
    shard = write_training_shard(tmp_path, "t", shapes=[(20, 24)] * 3, mode=mode, size=padded)
    preset = hot_preset(train={"augmentation": {**WILD, "per_frame": per_frame}})
    images = image_set(shard, preset=preset, classes=dict(zip(["t0", "t1", "t2"], CLASSES, strict=True)))
    for seed in range(30):
        index = seed % 3
        image_cyx, _ = draw_patch(images, index, train=preset["train"], rng=np.random.default_rng(seed))
        assert image_cyx.shape == (4, 32, 32)
        assert image_cyx[0].std() > 0.1
        for number, plane_yx in enumerate(image_cyx[1:]):
            assert (plane_yx == (number == index)).all()


def test_planes_follow_the_frames(shards):
    preset = hot_preset(input={"frames": 5, "normalise": "none"}, train={"augmentation": {"reverse_time": True}})
    classes = dict.fromkeys([*names_of("a", 8), *names_of("b", 3)], "astro")
    images = image_set(*shards, preset=preset, passages=PASSAGES, classes=classes)
    assert network_of(preset)["in_channels"] == 8
    image_cyx, _ = draw_patch(images, 4, train=preset["train"], rng=np.random.default_rng(1))
    assert decode(image_cyx[2, 0, 0])[0] == 4
    assert [set(plane_yx.ravel()) for plane_yx in image_cyx[5:]] == [{0.0}, {1.0}, {0.0}]


def test_planes_of_a_whole_image_are_constant_beyond_its_edge_too(tmp_path):
    shard = write_training_shard(tmp_path, "t", shapes=[(20, 24)], mode="crop_pad", size=[40, 40])
    images = image_set(shard, preset=hot_preset(), classes={"t0": "shsy5y"})
    seen_cyx = images.view(0).read(mirror(-8, 56, 40), mirror(-8, 56, 40))
    assert [set(plane_yx.ravel()) for plane_yx in seen_cyx[1:]] == [{0.0}, {0.0}, {1.0}]


@pytest.mark.parametrize(("name", "found"), [("", "none"), ("hela", "hela")])
def test_an_image_of_no_known_class_is_named(tmp_path, name, found):
    shard = write_training_shard(tmp_path, "t", shapes=[(20, 24)])
    message = rf"t0: expected one of the classes cort, astro, shsy5y, found {found}\. Set its class in class_column"
    with pytest.raises(ValueError, match=message):
        image_set(shard, preset=hot_preset(), classes={"t0": name})


def test_a_network_without_planes_is_told_nothing():
    assert class_planes("hela", classes=[], sample="x") == ()


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A network whose prediction depends on the given class, and two images."""
    folder = tmp_path_factory.mktemp("told")
    torch.manual_seed(1)
    preset = hot_preset(network={"norm": "none"}, width=1 / 4)
    network = build_network(network_of(preset))
    with torch.no_grad():
        network.encoder[0].conv1.weight[:, 1:] *= 50
        network.head.weight *= 20
        network.head.bias.zero_()
    images_dir, _ = write_training_shard(folder, "t", shapes=[(40, 52), (33, 32)])
    return folder, preset, network, images_dir


def predict(told, name, *, at_prediction, classes):
    folder, preset, network, images_dir = told
    weights = folder / f"{name}.pt"
    section = {**preset["input"], "class_at_prediction": at_prediction}
    write_weights(weights, network=network_of(preset), input=section, state_dict=network.state_dict())
    predict_shard(
        output_dir=folder / name,
        images_dir=images_dir,
        around_dirs=[],
        weights_path=weights,
        predict=preset["predict"],
        passages=None,
        classes=classes,
        pixel_size_um=None,
        threads=1,
        gpu=0,
    )
    return {sample: read_probabilities(folder / name / f"{sample}.tif").astype(float) for sample in ("t0", "t1")}


def test_the_average_is_the_mean_of_the_predictions_for_each_class(told):
    average = predict(told, "average", at_prediction="average", classes=None)
    single = [predict(told, name, at_prediction="oracle", classes={"t0": name, "t1": name}) for name in CLASSES]
    for sample in ("t0", "t1"):
        stack = np.stack([maps[sample] for maps in single])
        assert np.abs(stack - stack.mean(axis=0)).max() > 0.02  # the prediction differs between classes
        assert np.abs(average[sample] - stack.mean(axis=0)).max() < 1e-3  # float16 has steps of 5e-4 below 1


def test_the_oracle_takes_the_class_that_is_given(told):
    found = predict(told, "oracle", at_prediction="oracle", classes={"t0": "astro", "t1": "cort"})
    network, images_dir = told[2], told[3]
    image_yx = tifffile.imread(images_dir / "t0.tif")
    seen_cyx = np.zeros((4, 40, 52), np.float32)
    seen_cyx[0] = (image_yx - image_yx.mean()) / image_yx.std()
    seen_cyx[2] = 1
    with torch.no_grad():
        expected_yx = network.eval()(torch.from_numpy(seen_cyx)[None])[0, 0].sigmoid().numpy()
    assert np.abs(found["t0"][0] - expected_yx).max() < 2e-3


def test_the_oracle_asks_for_the_class_of_every_image(told):
    with pytest.raises(ValueError, match="t1: expected one of the classes cort, astro, shsy5y, found none"):
        predict(told, "asked", at_prediction="oracle", classes={"t0": "astro"})


@pytest.mark.parametrize("at_prediction", ["average", "oracle"])
def test_a_prediction_depends_on_classes_only_where_it_is_told_them(tmp_path, monkeypatch, at_prediction):
    monkeypatch.chdir(tmp_path)
    for room in ("images", "labels"):
        for number in range(6):
            path = tmp_path / room / CLASSES[number % 2] / f"n{number}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    section = {
        "images": "images/{kind}/{sample}.tif",
        "annotations": {"format": "label_image", "path": "labels/{kind}/{sample}.tif"},
        "class_column": "kind",
        "models": [{"preset": "sartorius_hot", "input": {"class_at_prediction": at_prediction}}],
    }
    plan = make_plan({"datasets": {"d": section}}, presets_dir=PRESETS, cache_dir=tmp_path / "cache")
    shard = plan.shards("d", parts=("test",))[0]
    settings = job_settings(plan, "predict", dataset="d", run="sartorius_hot", shard=shard)
    told = {row.sample: row.class_name for row in plan.rows("d", shard)}
    assert settings["classes"] == (told if at_prediction == "oracle" else None)
    assert job_settings(plan, "train", dataset="d", run="sartorius_hot")["classes"]
