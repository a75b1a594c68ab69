"""One training step: parts add up to the whole batch, lack of memory halves it, non-finite values change nothing."""

import copy
import csv
import json
import math
import os
import signal

import numpy as np
import pytest
import torch

import cellmill.training.stepping
import cellmill.training.validation
from cellmill.models.outputs import OUTPUT_CHANNELS
from cellmill.models.registry import build_network
from cellmill.models.weights import read_weights
from cellmill.stages.train import train_model
from cellmill.training.batches import Batch, iterate_batches
from cellmill.training.checkpoints import Checkpoint, Stopped, StopRequest
from cellmill.training.losses import IGNORED_TARGET, measure_loss
from cellmill.training.optimisers import build_optimiser
from cellmill.training.stepping import Stepper, update_average
from cellmill.training.targets import Target
from cellmill.training.team import Team
from cellmill.training.validation import validate
from sequence_shards import recurrent_preset
from training_shards import image_set, network_of, tiny_preset, write_training_shard

ALONE = Team()
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


LOSSES = [
    ("foreground", {"name": "bce", "positive_weight": 3}),
    ("foreground", {"name": "focal"}),
    ("two_classes", {"name": "ce", "class_weights": [1, 2], "normaliser": "weights", "distance": {}}),
    ("contour", {"name": "ce", "class_weights": [0.15, 0.25, 0.6]}),
    ("distance", {"name": "distance"}),
    ("flow", {"name": "flow"}),
    ("flow_gray", {"name": "mse"}),
]
DICE = [("foreground", {"name": "dice"}), ("two_classes", {"name": "bce_dice"})]


def preset_of(*, output="foreground", loss=None, **train):
    network = {"output": output, "norm": "none", "levels": 1}
    train = {"optimiser": {"name": "sgd", "learning_rate": 0.1, "momentum": 0}, "batch": 6, **train}
    return tiny_preset(width=1 / 4, network=network, train={**train, "loss": loss or {"name": "bce"}})


def make_stepper(preset, *, seed=3, team=ALONE):
    torch.manual_seed(seed)
    model = build_network(network_of(preset))
    train = preset["train"]
    averaged = None if train["ema"] is None else copy.deepcopy(model)
    optimiser = build_optimiser(model, optimiser=train["optimiser"])
    return Stepper(model, model, optimiser, CPU, preset["network"]["output"], train, averaged, team)


def random_batch(preset, *, seed=1, patches=6, planes=1):
    """Return patches with very different shares of known pixels, so that parts have unequal weights."""
    rng = np.random.default_rng(seed)
    output = preset["network"]["output"]
    shape = (patches, 16, 16)
    classes_byx = rng.integers(0, 3 if output == "contour" else 2, size=shape).astype(np.uint8)
    for number in range(patches):
        classes_byx[number, : 3 * number] = IGNORED_TARGET
    maps = {"distance": 1, "flow": 2, "flow_gray": 1}.get(output)
    values_bcyx = None if maps is None else rng.random((patches, maps, 16, 16)).astype(np.float32)
    is_weighted = preset["train"]["loss"]["distance"] is not None
    weights_byx = rng.random(shape).astype(np.float32) * 10 if is_weighted else None
    images_bcyx = rng.normal(size=(patches, planes, 16, 16)).astype(np.float32)
    for array in (images_bcyx, classes_byx):
        array.setflags(write=True)
    names = [f"n{number}" for number in range(patches)]
    return Batch(images_bcyx, Target(classes_byx, values_bcyx, weights_byx), names, patches)


def gradients(stepper):
    return {name: p.grad.clone() for name, p in stepper.bare_model.named_parameters() if p.grad is not None}


def weights_of(stepper):
    return {name: tensor.clone() for name, tensor in stepper.bare_model.state_dict().items()}


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_close(first, second, *, tolerance=1e-5):
    """Check equality up to float32 sums in another order: a few units of the seventh digit."""
    for name in first:
        scale = max(1e-6, float(second[name].abs().max()))
        assert float((first[name] - second[name]).abs().max()) < tolerance * scale, name


# ---- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "loss"), LOSSES, ids=lambda value: value if isinstance(value, str) else value["name"]
)
@pytest.mark.parametrize("parts", [2, 4, 6])
def test_parts_of_a_batch_add_up_to_the_gradient_and_the_loss_of_the_whole(output, loss, parts):
    preset = preset_of(output=output, loss=loss)
    whole, parted = make_stepper(preset), make_stepper(preset)
    parted.parts = parts
    batch = random_batch(preset)
    assert parted.take(batch) == pytest.approx(whole.take(batch), rel=1e-6)
    assert_close(gradients(parted), gradients(whole))
    assert_close(weights_of(parted), weights_of(whole))


@pytest.mark.parametrize(("output", "loss"), DICE, ids=lambda value: value if isinstance(value, str) else value["name"])
def test_with_dice_parts_give_the_mean_of_their_losses(output, loss):
    """A quotient of sums is not additive, so each part is weighted by its number of patches with known pixels."""
    preset = preset_of(output=output, loss=loss)
    parted, batch = make_stepper(preset), random_batch(preset)
    parted.parts = 2
    singles, counts, expected = [], [], {}
    for part in (slice(0, 3), slice(3, 6)):
        alone = make_stepper(preset)
        target = Target(batch.target.classes_yx[part], None, None)
        singles.append(alone.take(Batch(batch.images[part], target, batch.samples[part], 3)))
        counts.append(sum((classes_yx != IGNORED_TARGET).any() for classes_yx in target.classes_yx))
        for name, gradient in gradients(alone).items():
            expected[name] = expected.get(name, 0) + counts[-1] * gradient
    assert counts == [3, 3]
    assert parted.take(batch) == pytest.approx(np.average(singles, weights=counts), rel=1e-6)
    assert_close(gradients(parted), {name: total / sum(counts) for name, total in expected.items()})


def test_a_batch_of_fewer_patches_than_parts_is_taken_one_by_one():
    """The last batch of an epoch may be that small."""
    preset = preset_of()
    whole, parted = make_stepper(preset), make_stepper(preset)
    parted.parts = 4
    batch = random_batch(preset, patches=3)
    assert parted.take(batch) == pytest.approx(whole.take(batch), rel=1e-6)
    assert_close(gradients(parted), gradients(whole))
    assert parted.parts == 4


def test_parts_that_are_ignored_as_a_whole_count_nothing():
    preset = preset_of()
    batch = random_batch(preset)
    batch.target.classes_yx[3:] = IGNORED_TARGET
    parted, whole = make_stepper(preset), make_stepper(preset)
    parted.parts = 2
    assert parted.take(batch) == pytest.approx(whole.take(batch), rel=1e-6)
    assert_close(gradients(parted), gradients(whole))


@pytest.mark.parametrize("parts", [1, 2])
def test_a_batch_of_which_nothing_is_known_moves_no_weight(parts):
    """Momentum and weight decay alone would move the weights."""
    optimiser = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    preset = preset_of(optimiser=optimiser)
    stepper = make_stepper(preset)
    stepper.take(random_batch(preset))
    before, batch = weights_of(stepper), random_batch(preset, seed=2)
    stepper.parts = parts
    batch.target.classes_yx[:] = IGNORED_TARGET
    assert stepper.take(batch) == 0
    assert_equal(weights_of(stepper), before)
    stepper.take(random_batch(preset, seed=3))
    assert not torch.equal(stepper.bare_model.head.weight, before["head.weight"])


# ---- running out of memory -----------------------------------------------------------------------------------


def run_out(monkeypatch, *, while_larger_than):
    """Simulate a device that holds a limited number of patches; return the list of sizes tried."""
    tried = []

    def measure(logits_bcyx, *args, **keywords):
        tried.append(len(logits_bcyx))
        if len(logits_bcyx) > while_larger_than:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return measure_loss(logits_bcyx, *args, **keywords)

    monkeypatch.setattr(cellmill.training.stepping, "measure_loss", measure)
    return tried


@pytest.mark.parametrize(
    ("holds", "parts", "tried"),
    [(3, 2, [6, 3, 3]), (2, 4, [6, 3, 2, 2, 1, 1]), (1, 6, [6, 3, 2, 1, 1, 1, 1, 1, 1])],
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does(monkeypatch, caplog, holds, parts, tried):
    preset = preset_of()
    whole, batch = make_stepper(preset), random_batch(preset)
    expected = whole.take(batch)
    sizes = run_out(monkeypatch, while_larger_than=holds)
    stepper = make_stepper(preset)
    assert stepper.take(batch) == pytest.approx(expected, rel=1e-6)
    assert sizes == tried
    assert stepper.parts == parts
    assert_close(weights_of(stepper), weights_of(whole))
    assert f"out of memory: a batch of 6 is processed in {parts} parts" in caplog.text
    # The next batch is split from the start.
    sizes.clear()
    stepper.take(random_batch(preset, seed=2))
    assert max(sizes) <= holds


def test_a_patch_that_does_not_fit_alone_is_an_error(monkeypatch):
    run_out(monkeypatch, while_larger_than=0)
    message = r"expected a patch of 16 x 16 px to fit into the memory of the GPU, .* Lower train\.patch or width"
    for patches in (1, 3, 6):
        stepper = make_stepper(preset_of())
        before = weights_of(stepper)
        with pytest.raises(ValueError, match=message):
            stepper.take(random_batch(preset_of(), patches=patches))
        assert_equal(weights_of(stepper), before)


def test_the_small_last_batch_may_be_the_one_that_does_not_fit(monkeypatch):
    """With more parts than patches, a single patch has already been tried."""
    run_out(monkeypatch, while_larger_than=0)
    stepper = make_stepper(preset_of())
    stepper.parts = 4
    with pytest.raises(ValueError, match="expected a patch of 16 x 16 px to fit"):
        stepper.take(random_batch(preset_of(), patches=2))


def test_a_team_does_not_part_its_batches(monkeypatch):
    """A member that splits alone would make more exchanges than the others."""
    run_out(monkeypatch, while_larger_than=2)
    stepper = make_stepper(preset_of(), team=Team(0, 2))
    message = r"expected 6 patches of 16 x 16 px to fit into the memory of each of 2 GPUs, .* Lower train\.batch"
    with pytest.raises(ValueError, match=message):
        stepper.take(random_batch(preset_of()))


def test_windows_of_frames_are_parted_by_their_sequences(monkeypatch):
    preset = recurrent_preset()
    sizes = run_out(monkeypatch, while_larger_than=3)  # of 2 frames each
    torch.manual_seed(1)
    model = build_network(network_of(preset))
    optimiser = build_optimiser(model, optimiser=preset["train"]["optimiser"])
    stepper = Stepper(model, model, optimiser, CPU, "two_classes", preset["train"], None, ALONE)
    rng = np.random.default_rng(1)
    images_btcyx = rng.normal(size=(2, 2, 1, 16, 16)).astype(np.float32)
    target = Target(rng.integers(0, 2, size=(4, 16, 16)).astype(np.uint8), None, None)
    stepper.take(Batch(images_btcyx, target, ["x"] * 4, 2, np.array([True, True])))
    assert sizes == [4, 2, 2]
    assert {len(hidden_bcyx) for hidden_bcyx, _ in stepper.memory} == {2}


# ---- non-finite values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 3])
def test_a_loss_that_is_not_finite_leaves_the_weights_as_they_were(parts):
    preset = preset_of(ema=0.5)
    stepper = make_stepper(preset)
    stepper.take(random_batch(preset))
    before, mean = weights_of(stepper), copy.deepcopy(stepper.averaged.state_dict())
    stepper.parts = parts
    batch = random_batch(preset, seed=2)
    batch.images[2, 0, 9, 9] = np.nan
    assert not np.isfinite(stepper.take(batch))
    assert_equal(weights_of(stepper), before)
    assert_equal(stepper.averaged.state_dict(), mean)


# ---- clipping, mean, precision, memory format ----------------------------------------------------------------


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    for longest in (1e-3, 1e3):
        free, clipped = (
            make_stepper(preset_of(optimiser={"name": "sgd", "learning_rate": 1, "momentum": 0, "clip_norm": norm}))
            for norm in (None, longest)
        )
        before, batch = weights_of(free), random_batch(preset_of())
        for stepper in (free, clipped):
            stepper.take(batch)
        steps = [
            torch.cat([(weights_of(stepper)[name] - before[name]).flatten().double() for name in before])
            for stepper in (free, clipped)
        ]
        assert float(steps[0].norm()) > 0.01
        shorter = min(1.0, longest / float(steps[0].norm()))
        assert torch.allclose(steps[1], shorter * steps[0], rtol=1e-3, atol=2e-7)  # differences of float32 weights


def test_parts_are_added_before_they_are_shortened():
    preset = preset_of(optimiser={"name": "sgd", "learning_rate": 1, "momentum": 0, "clip_norm": 1e-2})
    whole, parted = make_stepper(preset), make_stepper(preset)
    parted.parts = 3
    for stepper in (whole, parted):
        stepper.take(random_batch(preset))
    assert_close(weights_of(parted), weights_of(whole))


def test_the_mean_of_the_weights_follows_them_by_its_decay():
    """By hand: m = decay m + (1 - decay) w after each step, starting from the initial weights."""
    preset = preset_of(ema=0.8)
    stepper = make_stepper(preset)
    expected = {name: tensor.double() for name, tensor in weights_of(stepper).items()}
    for seed in range(5):
        stepper.take(random_batch(preset, seed=seed))
        for name, tensor in weights_of(stepper).items():
            expected[name] = 0.8 * expected[name] + 0.2 * tensor.double()
    for name, tensor in stepper.averaged.state_dict().items():
        assert torch.allclose(tensor.double(), expected[name], atol=1e-6), name
    assert not torch.allclose(stepper.averaged.head.weight, stepper.bare_model.head.weight, atol=1e-4)


def test_running_statistics_are_copied_and_not_averaged():
    model = torch.nn.BatchNorm2d(2)
    mean = copy.deepcopy(model)
    model(torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(1)) + 3)
    update_average(mean, model, decay=0.9)
    assert torch.equal(mean.running_mean, model.running_mean)
    assert mean.num_batches_tracked == 1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_cpu_without_half_precision_takes_full_precision(precision, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    found = []
    for setting in ("fp32", precision):
        stepper = make_stepper(preset_of(precision=setting))
        found.append((stepper.take(random_batch(preset_of())), weights_of(stepper)))
    assert found[0][0] == found[1][0]
    assert_equal(found[0][1], found[1][1])


def test_a_cpu_with_amx_multiplies_bfloat16_matrices(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    stepper = make_stepper(preset_of(precision="bf16"))
    seen = []
    stepper.model.register_forward_hook(lambda module, arguments, logits: seen.append(logits.dtype))
    assert math.isfinite(stepper.take(random_batch(preset_of())))
    assert (stepper.precision, seen) == ("bf16", [torch.bfloat16])
    assert {weight.dtype for weight in weights_of(stepper).values() if weight.is_floating_point()} == {torch.float32}


# ---- in a training ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    train = write_training_shard(folder, "t", shapes=[(48, 48), (40, 70), (30, 30)])
    validation = write_training_shard(folder, "v", shapes=[(50, 40), (41, 47)], seed=9)
    return train, validation


def train(folder, shards, *, seed=7, **changes):
    folder.mkdir(exist_ok=True)
    preset = tiny_preset(**changes)
    (train_images, train_labels), (validation_images, validation_labels) = shards
    train_model(
        weights_path=folder / "weights.pt",
        history_path=folder / "history.csv",
        summary_path=folder / "train.json",
        choices_path=folder / "choices.json",
        pixel_size_um=None,
        train_images=[train_images],
        train_labels=[train_labels],
        validation_images=[validation_images],
        validation_labels=[validation_labels],
        around_images=[],
        network=network_of(preset),
        input=preset["input"],
        train=preset["train"],
        seed=seed,
        init_from=None,
        init_weights="all",
        passages=None,
        classes=None,
        threads=1,
        gpu=0,
        code={},
    )
    return read_weights(folder / "weights.pt")["state_dict"]


def history_of(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_training_that_ran_out_of_memory_goes_on_in_parts(tmp_path, shards, monkeypatch, caplog):
    """Without normalisation, only the last digits differ from a training with enough memory."""
    settings = {"network": {"norm": "none"}, "train": {"batch": 4, "patches_per_image": 3}}
    expected = train(tmp_path / "room", shards, **settings)
    sizes = run_out(monkeypatch, while_larger_than=2)
    found = train(tmp_path / "tight", shards, **settings)
    assert caplog.text.count("out of memory") == 1
    # 9 patches per epoch, in batches of 4, 4 and 1: the last batch is smaller than the number of parts
    assert sizes == [4, 2, 2, 2, 2, 1, 2, 2, 2, 2, 1]
    assert json.loads((tmp_path / "tight" / "train.json").read_text())["parts_of_a_batch"] == 2
    assert_close(found, expected, tolerance=1e-3)
    losses = [[float(row["train_loss"]) for row in history_of(tmp_path / name)] for name in ("room", "tight")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_a_resumed_training_remembers_in_how_many_parts_it_works(tmp_path, shards, monkeypatch):
    settings = {"network": {"norm": "none"}, "train": {"batch": 4, "patches_per_image": 3}}
    run_out(monkeypatch, while_larger_than=2)
    unbroken = train(tmp_path / "unbroken", shards, **settings)
    sizes = run_out(monkeypatch, while_larger_than=2)

    def stop(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("cellmill.training.watching.Watcher.note_epoch", stop)
        with pytest.raises(Stopped):
            train(tmp_path / "broken", shards, **settings)
    sizes.clear()
    assert_equal(train(tmp_path / "broken", shards, **settings), unbroken)
    assert sizes == [2, 2, 2, 2, 1]


def test_a_loss_that_is_not_finite_in_a_later_epoch_ends_the_training_and_keeps_the_checkpoint(
    tmp_path, shards, monkeypatch
):
    calls = []

    def measure(*args, **keywords):
        calls.append(1)
        loss, weight = measure_loss(*args, **keywords)
        return (loss * torch.nan if len(calls) == 4 else loss), weight

    monkeypatch.setattr(cellmill.training.stepping, "measure_loss", measure)
    message = r"found nan in epoch 2 at learning rate 0\.01 on the images t\d(, t\d)?\. Check these images, or lower"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", shards)
    [path] = (tmp_path / "run").iterdir()
    state = Checkpoint(path).load()
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values() if tensor.is_floating_point())


def test_a_validation_loss_that_is_not_finite_ends_the_training(tmp_path, shards, monkeypatch):
    monkeypatch.setattr("cellmill.stages.train.validate", lambda *_, **__: (float("inf"), 0.5))
    message = r"expected a finite loss, found inf in epoch 1 .* on the validation images"
    with pytest.raises(ValueError, match=message):
        train(tmp_path / "run", shards)


def test_the_mean_of_the_weights_is_validated_and_written(tmp_path, shards):
    settings = {"network": {"norm": "none"}, "train": {"ema": 0.7, "select": "last", "patches_per_image": 2}}
    found = train(tmp_path / "run", shards, **settings)
    (train_images, train_labels), validation = shards

    # The same training by hand.
    preset = tiny_preset(**settings)
    torch.manual_seed(7)
    stepper = make_stepper(preset, seed=7)
    images = image_set((train_images, train_labels), preset=preset)
    for epoch in range(2):
        given = {"seed": 7, "epoch": epoch, "first_step": 0, "workers": 1, "team": ALONE}
        for group in stepper.optimiser.param_groups:
            group["lr"] = 0.01
        for batch in iterate_batches(images, train=preset["train"], **given):
            stepper.take(batch)
    assert_equal(found, stepper.averaged.state_dict())
    assert any(not torch.equal(found[name], tensor) for name, tensor in weights_of(stepper).items())

    model = build_network(network_of(preset))
    model.load_state_dict(found)
    loss, dice = validate(model, image_set(validation, preset=preset), warmup=0, device=CPU, stop=StopRequest())
    last = history_of(tmp_path / "run")[-1]
    assert float(last["validation_loss"]) == pytest.approx(loss, rel=1e-6)
    assert float(last["validation_dice"]) == pytest.approx(dice, rel=1e-6)


def test_a_resumed_training_goes_on_with_its_mean(tmp_path, shards, monkeypatch):
    settings = {"train": {"ema": 0.9, "patches_per_image": 3}}
    unbroken = train(tmp_path / "unbroken", shards, **settings)
    calls = []

    def interrupt(*args, **keywords):
        calls.append(1)
        if len(calls) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return measure_loss(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(cellmill.training.stepping, "measure_loss", interrupt)
        with pytest.raises(Stopped):
            train(tmp_path / "broken", shards, **settings)
    assert_equal(train(tmp_path / "broken", shards, **settings), unbroken)


def test_the_order_of_features_in_memory_changes_the_last_digits_at_most(tmp_path, shards):
    """SGD, because Adam amplifies differences: the sign of a gradient near zero decides its step."""
    settings = {"optimiser": {"name": "sgd", "learning_rate": 0.01}, "patches_per_image": 2}
    first = train(tmp_path / "first", shards, train=settings)
    last = train(tmp_path / "last", shards, train={**settings, "channels_last": True})
    assert_close(last, first, tolerance=1e-3)


def test_channels_last_resumes_to_the_same_weights(tmp_path, shards, monkeypatch):
    settings = {"train": {"channels_last": True, "patches_per_image": 3}}
    unbroken = train(tmp_path / "unbroken", shards, **settings)
    calls = []

    def interrupt(*args, **keywords):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), signal.SIGUSR1)
        return measure_loss(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(cellmill.training.stepping, "measure_loss", interrupt)
        with pytest.raises(Stopped):
            train(tmp_path / "broken", shards, **settings)
    assert_equal(train(tmp_path / "broken", shards, **settings), unbroken)


# Validation losses of the epochs: the third is the lowest, and three that are not lower follow.
LOSSES_OF_EPOCHS = [0.9, 0.7, 0.5, 0.6, 0.5, 0.8, 0.1, 0.1]
PATIENT = {"train": {"epochs": 8, "patience": 3}}


def with_losses(monkeypatch, losses, *, stop_in=None):
    """Replace the validation losses by these; with `stop_in`, a signal arrives during the validation of that epoch."""
    left = list(losses)

    def scores(model, images, *, stop, **_):
        if len(losses) - len(left) + 1 == stop_in:
            stop.number = signal.SIGTERM
            return None
        return left.pop(0), 0.5

    monkeypatch.setattr("cellmill.stages.train.validate", scores)


def test_training_ends_when_no_epoch_was_better_for_a_while(tmp_path, shards, monkeypatch):
    with_losses(monkeypatch, LOSSES_OF_EPOCHS)
    found = train(tmp_path / "patient", shards, **PATIENT)
    rows = history_of(tmp_path / "patient")
    assert [float(row["validation_loss"]) for row in rows] == LOSSES_OF_EPOCHS[:6]
    summary = json.loads((tmp_path / "patient" / "train.json").read_text())
    assert (summary["best_epoch"], summary["epochs_done"]) == (3, 6)
    # The weights are those of the third epoch.
    with_losses(monkeypatch, LOSSES_OF_EPOCHS)
    assert_equal(train(tmp_path / "third", shards, train={"epochs": 3}), found)


@pytest.mark.parametrize("stop_in", [2, 3, 5, 6])
def test_an_interruption_does_not_change_when_training_ends(tmp_path, shards, monkeypatch, stop_in):
    with_losses(monkeypatch, LOSSES_OF_EPOCHS)
    unbroken = train(tmp_path / "unbroken", shards, **PATIENT)
    with_losses(monkeypatch, LOSSES_OF_EPOCHS, stop_in=stop_in)
    with pytest.raises(Stopped):
        train(tmp_path / "broken", shards, **PATIENT)
    with_losses(monkeypatch, LOSSES_OF_EPOCHS[stop_in - 1 :])
    assert_equal(train(tmp_path / "broken", shards, **PATIENT), unbroken)
    assert len(history_of(tmp_path / "broken")) == 6


def test_without_patience_all_epochs_are_done(tmp_path, shards, monkeypatch):
    with_losses(monkeypatch, LOSSES_OF_EPOCHS)
    train(tmp_path / "run", shards, train={"epochs": 8})
    assert len(history_of(tmp_path / "run")) == 8


def test_a_validation_ends_between_two_tiles_when_a_signal_comes(shards, monkeypatch):
    preset = tiny_preset()
    model = build_network(network_of(preset))
    stop, seen = StopRequest(), []
    monkeypatch.setattr(cellmill.training.validation, "VALIDATION_TILE_PX", (16, 16))
    real = model.forward

    def forward(images_bcyx):
        seen.append(1)
        if len(seen) == 3:
            stop.number = signal.SIGTERM
        return real(images_bcyx)

    model.forward = forward
    assert validate(model, image_set(shards[1], preset=preset), warmup=0, device=CPU, stop=stop) is None
    assert len(seen) == 3


def test_outputs_of_the_tests_are_all_outputs():
    assert {output for output, _ in LOSSES + DICE} == set(OUTPUT_CHANNELS)
