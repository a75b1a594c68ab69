"""Windows of frames: a slot follows a sequence to its end; crop, geometry and state persist, gradients do not."""

import os
import signal
from itertools import pairwise

import numpy as np
import pytest
import torch

from cellmill.models.registry import build_network
from cellmill.models.weights import read_weights
from cellmill.planning.make import make_plan
from cellmill.stages.train import train_model
from cellmill.training.batches import Batch
from cellmill.training.checkpoints import Stopped
from cellmill.training.losses import IGNORED_TARGET, Truth, measure_loss
from cellmill.training.optimisers import build_optimiser
from cellmill.training.stepping import Stepper
from cellmill.training.streams import iterate_windows, windows_per_epoch
from cellmill.training.targets import Target
from cellmill.training.team import Team
from project import ROOT
from sequence_shards import coded_frames, decode, recurrent_preset, write_frames, write_named_frames
from training_shards import image_set, network_of

PRESETS = ROOT / "resources/models"
ALONE = Team()


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def names_of(name, count):
    return [f"{name}{number:02d}" for number in range(count)]


def preset_of(*, streams=None, augmentation=None, **train):
    changes = {"streams": {"unroll": 3, **(streams or {})}, "augmentation": augmentation or {}, **train}
    return recurrent_preset(input={"normalise": "none"}, train=changes)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """Two sequences of 7 and 11 frames whose labels never move; pixel values encode their position."""
    folder = tmp_path_factory.mktemp("still")
    labels_yx = np.zeros((50, 60), np.uint16)
    for number in range(30):
        row, column = divmod(number, 6)
        labels_yx[10 * row + 2 : 10 * row + 8, 10 * column + 3 : 10 * column + 7] = number + 1
    shards = [
        write_frames(folder, "a", images_tyx=coded_frames(7), labels_tyx=[labels_yx] * 7),
        write_frames(folder, "b", images_tyx=coded_frames(11, first=50), labels_tyx=[labels_yx] * 11),
    ]
    return shards, [names_of("a", 7), names_of("b", 11)]


def open_still(still, preset):
    return image_set(*still[0], preset=preset, passages=still[1])


def windows_of(still, preset, *, epoch=0, first_step=0, workers=1, team=ALONE, seed=7):
    given = {"epoch": epoch, "first_step": first_step, "workers": workers, "team": team, "seed": seed}
    return list(iterate_windows(open_still(still, preset), train=preset["train"], **given))


def frames_seen(batch):
    """Return the frame numbers of each slot, decoded from the pixels."""
    return decode(batch.images[:, :, 0, 0, 0])[0].tolist()


LONG = {"patches_per_image": 9, "batch": 2}


def test_a_window_is_a_batch_of_slots_of_frames(still):
    batch = windows_of(still, preset_of())[0]
    assert batch.images.shape == (2, 3, 1, 32, 32)
    assert batch.images.dtype == np.float32
    assert batch.target.classes_yx.shape == (6, 32, 32)
    numbers = [number for slot in frames_seen(batch) for number in slot]
    assert batch.samples == [f"a{n:02d}" if n < 50 else f"b{n - 50:02d}" for n in numbers]


@pytest.mark.parametrize("streams", [{}, {"max_step": 3}, {"reverse": True}, {"max_step": 3, "reverse": True}])
def test_a_slot_follows_one_sequence_until_it_ends_and_says_where_another_begins(still, streams):
    windows = windows_of(still, preset_of(streams=streams, **LONG))
    assert windows[0].fresh_b.all()
    steps_found, begun = set(), 0
    for slot in range(2):
        seen = [(frames_seen(batch)[slot], bool(batch.fresh_b[slot])) for batch in windows]
        for frames, _ in seen:
            assert len({number < 50 for number in frames}) == 1
            assert len({b - a for a, b in pairwise(frames)}) == 1
            steps_found.add(frames[1] - frames[0])
        for (before, _), (frames, is_fresh) in pairwise(seen):
            step = before[1] - before[0]
            follows = [before[-1] + step * further for further in (1, 2, 3)]
            low, high = (0, 6) if before[0] < 50 else (50, 60)
            is_at_its_end = not all(low <= number <= high for number in follows)
            assert is_fresh == is_at_its_end
            assert is_fresh or frames == follows
            begun += is_fresh
    assert begun > 5
    # A window of 3 frames at a step of 3 spans 7 frames, so that every step up to 3 fits into both sequences.
    sizes = range(1, streams.get("max_step", 1) + 1)
    signs = (-1, 1) if streams.get("reverse") else (1,)
    assert steps_found == {sign * size for sign in signs for size in sizes}


@pytest.mark.parametrize(
    "augmentation",
    [
        {},
        {"flip": True, "rotate_90": True},
        {"flip": True, "affine_probability": 0.7, "rotation_deg": 40, "elastic": {"displacement_px": 1.0}},
    ],
)
def test_crop_and_geometry_stay_through_a_pass(still, augmentation):
    """Labels that stand still look the same in every frame until another pass begins."""
    windows = windows_of(still, preset_of(augmentation=augmentation, **LONG))
    for slot in range(2):
        looks = []
        for batch in windows:
            frames_tyx = batch.target.classes_yx.reshape(2, 3, 32, 32)[slot]
            if batch.fresh_b[slot]:
                looks.append(frames_tyx[0])
            assert (frames_tyx == looks[-1]).all()
        assert len({look_yx.tobytes() for look_yx in looks}) > 4  # each pass looks different


def test_image_and_labels_are_of_the_same_places(still):
    """The value of each pixel encodes its position, and the position determines its label."""
    preset = preset_of(augmentation={"flip": True, "rotate_90": True}, **LONG)
    images = open_still(still, preset)
    mask_yx = images.truth(0)[0]
    for batch in windows_of(still, preset):
        _, rows, columns = decode(batch.images[:, :, 0].reshape(-1, 32, 32))
        assert np.array_equal(batch.target.classes_yx, mask_yx[rows, columns] > 0)


def same(first, second):
    return all(
        np.array_equal(a.images, b.images)
        and np.array_equal(a.target.classes_yx, b.target.classes_yx)
        and np.array_equal(a.fresh_b, b.fresh_b)
        and a.samples == b.samples
        for a, b in zip(first, second, strict=True)
    )


AUGMENTED = {"flip": True, "affine_probability": 0.5, "noise": 0.2, "contrast": 0.5, "per_frame": True}


def test_threads_and_an_interruption_change_nothing(still):
    preset = preset_of(augmentation=AUGMENTED, streams={"max_step": 2, "reverse": True}, **LONG)
    whole = windows_of(still, preset, epoch=3)
    assert same(whole, windows_of(still, preset, epoch=3, workers=4))
    assert same(whole[5:], windows_of(still, preset, epoch=3, first_step=5))
    assert not same(whole, windows_of(still, preset, epoch=4))
    assert not same(whole, windows_of(still, preset, epoch=3, seed=8))


def test_members_of_a_team_together_have_the_whole_batch(still):
    preset = preset_of(augmentation=AUGMENTED, patches_per_image=9, batch=3)
    whole = windows_of(still, preset)
    parts = [windows_of(still, preset, team=Team(member, 2)) for member in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        assert np.array_equal(batch.images, np.concatenate([share.images for share in shares]))
        classes = np.concatenate([share.target.classes_yx for share in shares])
        assert np.array_equal(batch.target.classes_yx, classes)
        assert np.array_equal(batch.fresh_b, np.concatenate([share.fresh_b for share in shares]))
        assert {share.patches for share in shares} == {3}


@pytest.mark.parametrize(("each", "batch", "steps"), [(5, 2, 12), (1, 2, 2), (1, 64, 1), (4, 1, 20)])
def test_an_epoch_shows_each_frame_as_often_as_asked(still, each, batch, steps):
    """7 frames are two whole windows of 3, and 11 are three: five windows, `each` times, in batches of `batch`."""
    preset = preset_of(patches_per_image=each, batch=batch)
    assert windows_per_epoch(open_still(still, preset), train=preset["train"]) == steps
    assert len(windows_of(still, preset)) == steps


def test_short_epochs_see_the_end_of_a_sequence_as_often_as_its_beginning(tmp_path):
    """Four slots of two windows each, so that no pass reaches its end within an epoch."""
    labels_yx = np.zeros((32, 32), np.uint16)
    shard = write_frames(tmp_path, "s", images_tyx=coded_frames(20, shape=(32, 32)), labels_tyx=[labels_yx] * 20)
    preset = recurrent_preset(input={"normalise": "none"}, train={"batch": 4, "streams": {"unroll": 2}})
    images = image_set(shard, preset=preset, passages=[names_of("s", 20)])
    assert windows_per_epoch(images, train=preset["train"]) == 2
    counts = np.zeros(20)
    for epoch in range(50):
        given = {"epoch": epoch, "first_step": 0, "workers": 1, "team": ALONE, "seed": 1}
        for batch in iterate_windows(images, train=preset["train"], **given):
            np.add.at(counts, np.array(frames_seen(batch)).ravel(), 1)
    # 40 times on average, with a standard deviation below 8
    assert counts.sum() == 50 * 2 * 4 * 2
    assert counts.min() > 10


def test_frames_that_fill_no_window_are_not_always_the_same(still):
    preset = preset_of(patches_per_image=30)
    seen = {number for batch in windows_of(still, preset) for slot in frames_seen(batch) for number in slot}
    assert seen == {*range(7), *range(50, 61)}


def test_a_sequence_that_is_too_short_is_named(still):
    preset = preset_of(streams={"unroll": 12})
    message = r"at least 12 consecutive frames, found 11\. Lower train\.streams\.unroll"
    with pytest.raises(ValueError, match=message):
        windows_per_epoch(open_still(still, preset), train=preset["train"])


def test_single_images_are_no_sequence(still):
    preset = preset_of()
    with pytest.raises(ValueError, match=r"training sequence of at least .* consecutive frames, found 0"):
        windows_per_epoch(image_set(*still[0], preset=preset, passages=None), train=preset["train"])


def test_frames_of_one_sequence_have_one_size(tmp_path):
    frames = {"s00": np.zeros((32, 32)), "s01": np.zeros((32, 40))}
    labelled = {name: (image_yx, image_yx.astype(np.uint16)) for name, image_yx in frames.items()}
    shard = write_named_frames(tmp_path, "s", labelled)
    message = r"s01\.tif: expected 32 x 32 px as in frame s00 .* found 32 x 40 px\. Set preprocess\.fit"
    with pytest.raises(ValueError, match=message):
        image_set(shard, preset=preset_of(), passages=[["s00", "s01"]])


@pytest.mark.parametrize("per_frame", [False, True])
def test_grey_values_change_once_a_pass_or_for_each_frame(still, per_frame):
    """The fractional part of a pixel separates the brightness from the code."""
    augmentation = {"brightness": 0.4, "per_frame": per_frame}
    windows = windows_of(still, preset_of(augmentation=augmentation, **LONG))
    for slot in range(2):
        passes = []
        for batch in windows:
            offsets = [float(value - np.rint(value)) for value in batch.images[slot, :, 0, 0, 0].astype(float)]
            if batch.fresh_b[slot]:
                passes.append([])
            passes[-1] += offsets
        spans = [np.ptp(offsets) for offsets in passes]
        firsts = [offsets[0] for offsets in passes]
        assert np.ptp(firsts) > 0.2
        # float32 has steps of 0.06 near 610,000
        assert (min(spans) > 0.1) if per_frame else (max(spans) < 0.13)


def test_frames_without_labels_are_seen_and_teach_nothing(tmp_path):
    labels_yx = np.ones((32, 32), np.uint16)
    known = write_named_frames(
        tmp_path, "known", {f"s{n:02d}": (coded_frames(9, shape=(32, 32))[n], labels_yx) for n in (1, 4, 5)}
    )
    others, _ = write_named_frames(
        tmp_path, "others", {f"s{n:02d}": (coded_frames(9, shape=(32, 32))[n], labels_yx) for n in (0, 2, 3, 6, 7, 8)}
    )
    preset = preset_of(**LONG)
    images = image_set(known, preset=preset, around=[others], passages=[names_of("s", 9)])
    given = {"epoch": 0, "first_step": 0, "workers": 1, "team": ALONE, "seed": 1}
    for batch in iterate_windows(images, train=preset["train"], **given):
        seen = np.array(frames_seen(batch)).ravel()
        for number, classes_yx in zip(seen, batch.target.classes_yx, strict=True):
            assert (classes_yx == (1 if number in (1, 4, 5) else IGNORED_TARGET)).all()


# ---- through the plan ------------------------------------------------------------------------------------


def test_frames_of_a_gap_or_of_another_part_never_appear(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for room in ("movie", "truth"):
        (tmp_path / room).mkdir()
        for frame in range(20):
            (tmp_path / room / f"m_{frame}.tif").touch()
    section = {
        "images": "movie/{sequence}_{frame}.tif",
        "annotations": {"format": "label_image", "path": "truth/{sequence}_{frame}.tif"},
        "split": {"by": "blocks", "gap": 2},
        "models": [{"preset": "clstm_unet_text"}],
    }
    plan = make_plan({"datasets": {"d": section}}, presets_dir=PRESETS)
    [shard] = plan.shards("d", parts=("train",))
    train = {row.sample for row in plan.rows("d", shard)}
    labels_yx = np.zeros((32, 32), np.uint16)
    coded = coded_frames(20, shape=(32, 32))
    folders = {
        part: write_named_frames(
            tmp_path, part,
            {row.sample: (coded[row.frame], labels_yx) for row in plan.samples["d"] if (row.sample in train) == is_own},
        )
        for part, is_own in (("train", True), ("others", False))
    }  # fmt: skip
    preset = preset_of(**LONG)
    passages = [passage for one in plan.shards("d") for passage in plan.passages("d", one)]
    images = image_set(folders["train"], preset=preset, around=[folders["others"][0]], passages=passages[1:2])
    given = {"epoch": 0, "first_step": 0, "workers": 1, "team": ALONE, "seed": 1}
    seen = {name for batch in iterate_windows(images, train=preset["train"], **given) for name in batch.samples}
    assert seen == train
    assert len(train) == 10


# ---- truncated back-propagation ----------------------------------------------------------------------------


def make_stepper(*, seed=3, train=None):
    preset = recurrent_preset(train={"optimiser": {"name": "sgd", "learning_rate": 1e-30}, **(train or {})})
    torch.manual_seed(seed)
    model = build_network(network_of(preset))
    optimiser = build_optimiser(model, optimiser=preset["train"]["optimiser"])
    device = torch.device("cpu")
    return Stepper(model, model, optimiser, device, "two_classes", preset["train"], None, ALONE)


def random_window(seed, *, fresh=(True, True), slots=2):
    rng = np.random.default_rng(seed)
    images_btcyx = rng.normal(size=(slots, 2, 1, 16, 16)).astype(np.float32)
    classes_byx = rng.integers(0, 2, size=(2 * slots, 16, 16)).astype(np.uint8)
    return Batch(images_btcyx, Target(classes_byx, None, None), ["x"] * 2 * slots, slots, np.array(fresh))


def test_memory_is_carried_without_its_graph():
    stepper = make_stepper()
    stepper.take(random_window(1))
    assert stepper.memory is not None
    for hidden_bcyx, cell_bcyx in stepper.memory:
        assert hidden_bcyx.grad_fn is None
        assert cell_bcyx.grad_fn is None
        assert hidden_bcyx.abs().sum() > 0


def test_the_gradient_of_a_window_takes_the_memory_for_a_constant():
    stepper = make_stepper()
    first, second = random_window(1), random_window(2, fresh=(False, False))
    for batch in (first, second):
        stepper.take(batch)
    found = {name: p.grad.clone() for name, p in stepper.bare_model.named_parameters()}

    model = make_stepper().bare_model
    with torch.no_grad():
        _, state = model(torch.from_numpy(first.images), None)
    logits_btcyx, _ = model(torch.from_numpy(second.images), state)
    truth = Truth(torch.from_numpy(second.target.classes_yx), None, None)
    loss, _ = measure_loss(logits_btcyx.flatten(0, 1), truth, output="two_classes", loss=stepper.train["loss"])
    loss.backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-4, atol=1e-7), name


def test_what_was_seen_before_changes_the_loss_of_a_window_that_goes_on():
    losses = {}
    for name, fresh in (("carried", (False, False)), ("afresh", (True, True)), ("half", (False, True))):
        stepper = make_stepper()
        stepper.take(random_window(1))
        losses[name] = stepper.take(random_window(2, fresh=fresh))
    assert losses["afresh"] == pytest.approx(make_stepper().take(random_window(2)), rel=1e-6)
    assert abs(losses["carried"] - losses["afresh"]) > 1e-4
    assert losses["half"] not in (losses["carried"], losses["afresh"])


def test_a_slot_where_a_sequence_begins_remembers_nothing_of_the_one_before():
    stepper = make_stepper()
    stepper.bare_model.eval()
    stepper.take(random_window(1))
    stepper.take(random_window(2, fresh=(False, True)))
    alone = make_stepper()
    alone.bare_model.eval()
    alone.take(random_window(2))
    for (hidden_bcyx, cell_bcyx), (expected_h, expected_c) in zip(stepper.memory, alone.memory, strict=True):
        assert torch.allclose(hidden_bcyx[1], expected_h[1], atol=1e-6)
        assert torch.allclose(cell_bcyx[1], expected_c[1], atol=1e-6)
        assert not torch.allclose(hidden_bcyx[0], expected_h[0], atol=1e-4)


def test_parts_of_a_batch_carry_the_memory_of_their_own_slots():
    whole, parted = make_stepper(), make_stepper()
    parted.parts = 3
    for stepper in (whole, parted):
        stepper.bare_model.eval()
        stepper.take(random_window(1, slots=3, fresh=(True,) * 3))
        stepper.take(random_window(2, slots=3, fresh=(False, True, False)))
    for layer, expected in zip(parted.memory, whole.memory, strict=True):
        for tensor, other in zip(layer, expected, strict=True):
            assert torch.allclose(tensor, other, atol=1e-6)


# ---- training ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("cells"), np.random.default_rng(5)
    y, x = np.mgrid[:40, :40]
    images_tyx, labels_tyx = [], []
    for frame in range(8):
        labels_yx = ((y - 15) ** 2 + (x - 8 - 3 * frame) ** 2 < 49).astype(np.uint16)
        images_tyx.append(60.0 * labels_yx + rng.normal(0, 8, (40, 40)))
        labels_tyx.append(labels_yx)
    return write_frames(folder, "c", images_tyx=images_tyx, labels_tyx=labels_tyx)


def train(folder, cells):
    folder.mkdir(exist_ok=True)
    preset = recurrent_preset(
        train={
            "patches_per_image": 3,
            "augmentation": {"flip": True, "noise": 0.1},
            "streams": {"unroll": 2, "reverse": True},
        }
    )
    train_model(
        weights_path=folder / "weights.pt",
        history_path=folder / "history.csv",
        summary_path=folder / "train.json",
        choices_path=folder / "choices.json",
        pixel_size_um=None,
        train_images=[cells[0]],
        train_labels=[cells[1]],
        validation_images=[cells[0]],
        validation_labels=[cells[1]],
        around_images=[],
        network=network_of(preset),
        input=preset["input"],
        train=preset["train"],
        seed=1,
        init_from=None,
        init_weights="all",
        passages=[names_of("c", 8)],
        classes=None,
        threads=1,
        gpu=0,
        code={},
    )
    return read_weights(folder / "weights.pt")["state_dict"]


def stop_after(folder, cells, monkeypatch, *, steps):
    done = []

    def interrupt(*args, **keywords):
        done.append(1)
        if len(done) == steps:
            os.kill(os.getpid(), signal.SIGTERM)
        return measure_loss(*args, **keywords)

    monkeypatch.setattr("cellmill.training.stepping.measure_loss", interrupt)
    with pytest.raises(Stopped):
        train(folder, cells)
    monkeypatch.undo()
    [checkpoint] = folder.iterdir()
    return checkpoint


def test_a_training_that_is_stopped_within_a_sequence_goes_on_with_its_memory(tmp_path, cells, monkeypatch):
    unbroken = train(tmp_path / "unbroken", cells)
    for name, forget in (("kept", False), ("forgotten", True)):
        # 12 windows in two slots make 6 steps an epoch; at the second step of the second epoch a pass continues.
        checkpoint = stop_after(tmp_path / name, cells, monkeypatch, steps=8)
        state = torch.load(checkpoint, weights_only=True)
        assert (state["epoch"], state["step"]) == (1, 2)
        if forget:
            state["members"][0]["memory"] = None
            torch.save(state, checkpoint)
        resumed = train(tmp_path / name, cells)
        assert all(torch.equal(resumed[key], unbroken[key]) for key in unbroken) != forget
