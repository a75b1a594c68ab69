"""Batches: the same patches with any number of threads and after any interruption; padding is ignored."""

import json

import numpy as np
import pytest

from cellmill.images.stored import IGNORE_LABEL, write_labels
from cellmill.training import imagesets
from cellmill.training.batches import draw_origin, draw_patch, iterate_batches, steps_per_epoch
from cellmill.training.imagesets import choose_images, find_labelled_images
from cellmill.training.losses import IGNORED_TARGET
from cellmill.training.team import Team
from sequence_shards import write_named_frames
from training_shards import image_set, tiny_preset, write_training_shard

ALONE = Team()
SHAPES = [(40, 60), (64, 64), (20, 100), (50, 33)]


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_training_shard(tmp_path_factory.mktemp("data"), "train", shapes=SHAPES)


def open_images(shard):
    return image_set(shard)


def settings_of(**changes):
    return tiny_preset(train=changes)["train"]


def epoch_of(images, train, *, epoch=0, first_step=0, workers=1, seed=7, team=ALONE):
    given = {"epoch": epoch, "first_step": first_step, "workers": workers, "team": team}
    drawn = list(iterate_batches(images, train=train, seed=seed, **given))
    return [(batch.images.tobytes(), batch.target.classes_yx.tobytes(), tuple(batch.samples)) for batch in drawn]


def test_the_members_of_a_team_share_each_batch_among_them(shard):
    train = settings_of(patches_per_image=3, batch=4)
    whole = epoch_of(open_images(shard), train)
    parts = [epoch_of(open_images(shard), train, team=Team(member, 2)) for member in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert batch == tuple(a + b for a, b in zip(first, second, strict=True))


AUGMENTED = {
    "patches_per_image": 3,
    "sampling": "balanced",
    "augmentation": {"flip": True, "affine_probability": 0.5, "noise": 0.2, "contrast": 0.5},
}


def test_the_number_of_threads_changes_no_batch(shard):
    train = settings_of(**AUGMENTED)
    assert epoch_of(open_images(shard), train, workers=1) == epoch_of(open_images(shard), train, workers=4)


def test_an_epoch_that_is_continued_gives_the_batches_that_were_left(shard):
    train = settings_of(**AUGMENTED)
    whole = epoch_of(open_images(shard), train, epoch=3)
    assert epoch_of(open_images(shard), train, epoch=3, first_step=4) == whole[4:]


def test_epochs_and_seeds_draw_different_patches(shard):
    images, train = open_images(shard), settings_of()
    first = epoch_of(images, train, epoch=0)
    assert first != epoch_of(images, train, epoch=1)
    assert first != epoch_of(images, train, epoch=0, seed=8)


def test_an_epoch_shows_each_image_as_often_as_asked(shard):
    train = settings_of(patches_per_image=3, batch=5)
    drawn = epoch_of(open_images(shard), train)
    assert len(drawn) == steps_per_epoch(len(SHAPES), train=train) == 3
    assert sorted(name for *_, names in drawn for name in names) == sorted([f"train{i}" for i in range(4)] * 3)


def test_the_order_of_the_shards_changes_no_batch(tmp_path):
    a = write_training_shard(tmp_path, "a", shapes=SHAPES[:2])
    b = write_training_shard(tmp_path, "b", shapes=SHAPES[2:], seed=1)
    assert epoch_of(image_set(a, b), settings_of()) == epoch_of(image_set(b, a), settings_of())


def test_targets_beyond_the_memory_for_them_are_read_again(shard, monkeypatch):
    train = settings_of()
    kept = epoch_of(open_images(shard), train)
    monkeypatch.setattr(imagesets, "CACHE_MB", 0)
    images = open_images(shard)
    assert epoch_of(images, train) == kept
    assert not images._kept


def test_an_image_smaller_than_the_patch_is_all_there_once_and_the_rest_ignored(shard):
    images = open_images(shard)
    index = next(i for i, image in enumerate(images.images) if image.sample == "train2")  # 20 x 100
    train = settings_of(patch=[128, 128])
    (image_yx,), target = draw_patch(images, index, train=train, rng=np.random.default_rng(0))
    target_yx = target.classes_yx
    valid_yx = target_yx != IGNORED_TARGET
    rows, columns = np.flatnonzero(valid_yx.any(axis=1)), np.flatnonzero(valid_yx.any(axis=0))
    assert valid_yx.sum() == 20 * 100
    assert (np.ptp(rows), np.ptp(columns)) == (19, 99)
    assert np.array_equal(target_yx[valid_yx].reshape(20, 100), images.target(index).classes_yx)
    # The padding is mirrored so that batch statistics include no constant; the image itself has mean 0.
    assert image_yx[~valid_yx].std() > 0.5
    assert image_yx[valid_yx].mean() == pytest.approx(0, abs=1e-4)


def test_a_patch_within_an_image_ignores_nothing(shard):
    images = open_images(shard)
    for seed in range(20):
        target_yx = draw_patch(images, 1, train=settings_of(), rng=np.random.default_rng(seed))[1].classes_yx
        assert not (target_yx == IGNORED_TARGET).any()


def test_balanced_patches_hold_foreground_at_least_every_second_time(tmp_path):
    images_dir, labels_dir = write_training_shard(tmp_path, "rare", shapes=[(600, 600)])
    images = image_set((images_dir, labels_dir))
    shares = {}
    for sampling in ("uniform", "balanced"):
        train = settings_of(sampling=sampling)
        hits = [
            (draw_patch(images, 0, train=train, rng=np.random.default_rng(seed))[1].classes_yx == 1).any()
            for seed in range(200)
        ]
        shares[sampling] = np.mean(hits)
    assert shares["uniform"] < 0.15
    assert 0.4 < shares["balanced"] < 0.65


def test_balanced_patches_of_an_empty_image_are_uniform():
    rng, train = np.random.default_rng(1), settings_of(sampling="balanced")
    empty_yx = np.zeros((50, 70), bool)
    origins = [draw_origin(lambda _: empty_yx, 0, train=train, shape=(50, 70), rng=rng) for _ in range(2000)]
    assert {top for top, _ in origins} == set(range(19))
    assert {left for _, left in origins} == set(range(39))


def test_the_target_ignores_the_ignored_label(tmp_path):
    shard = write_training_shard(tmp_path, "t", shapes=[(2, 3)])
    write_labels(shard[1] / "t0.tif", np.array([[0, 3, IGNORE_LABEL], [65534, 0, 1]], dtype=np.uint16))
    target_yx = image_set(shard).target(0).classes_yx
    assert target_yx.tolist() == [[0, 1, IGNORED_TARGET], [1, 0, 1]]
    assert target_yx.dtype == np.uint8


def test_the_target_of_a_padded_image_ignores_the_padding(tmp_path):
    shard = write_training_shard(tmp_path, "t", shapes=[(2, 3)], mode="crop_pad", size=[4, 3])
    write_labels(shard[1] / "t0.tif", np.ones((2, 3), np.uint16))
    target_yx = image_set(shard).target(0).classes_yx
    assert (target_yx[1:3] == 1).all()
    assert (target_yx[[0, 3]] == IGNORED_TARGET).all()


def test_labels_follow_images_through_a_resize(tmp_path):
    images_dir, labels_dir = write_training_shard(tmp_path, "t", shapes=[(60, 40)], mode="resize", size=[96, 96])
    images = image_set((images_dir, labels_dir))
    target_yx, image_yx = images.target(0).classes_yx, images.view(0).frames[0][0]
    assert target_yx.shape == image_yx.shape == (96, 96)
    assert image_yx[target_yx == 1].mean() - image_yx[target_yx == 0].mean() > 40  # discs are 60 counts brighter


def test_an_image_without_labels_is_named(tmp_path):
    images_dir, labels_dir = write_training_shard(tmp_path, "t", shapes=[(32, 32), (32, 32)])
    manifest = json.loads((labels_dir / "manifest.json").read_text())
    del manifest["t1.tif"]  # else the folder itself would be incomplete
    (labels_dir / "manifest.json").write_text(json.dumps(manifest))
    (labels_dir / "t1.tif").unlink()
    with pytest.raises(ValueError, match="expected a label image for each image, found none for 1: t1"):
        find_labelled_images([images_dir], [labels_dir])


def test_a_limit_keeps_the_same_images_each_time(shard):
    found = find_labelled_images([shard[0]], [shard[1]])
    chosen = choose_images(found, limit=2, seed=3)
    assert len(chosen) == 2
    assert chosen == choose_images(list(found), limit=2, seed=3)
    assert choose_images(found, limit=None, seed=3) == choose_images(found, limit=9, seed=3) == found
    assert len({tuple(image.sample for image in choose_images(found, limit=2, seed=s)) for s in range(20)}) > 3


# ---- patches: image and target move together ------------------------------------------------------------------

OUTPUTS = [
    ("foreground", {"name": "bce"}),
    ("two_classes", {"name": "ce", "distance": {"sigma_px": 4}}),
    ("contour", {"name": "ce"}),
    ("contour", {"name": "ce", "distance": {"factor": 2}}),
    ("distance", {"name": "distance"}),
    ("flow", {"name": "flow"}),
    ("flow_gray", {"name": "mse"}),
]


def preset_for(output, loss, **train):
    return tiny_preset(network={"output": output}, input={"normalise": "none"}, train={**train, "loss": loss})


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """Shard of touching cells on an image whose pixel values encode their position: 100 row + column."""
    folder = tmp_path_factory.mktemp("coded")
    labels_yx = np.zeros((80, 90), np.uint16)
    for number in range(48):
        row, column = divmod(number, 8)
        labels_yx[13 * row + 2 : 13 * row + 15, 11 * column + 1 : 11 * column + 10 + number % 3] = number + 1
    labels_yx[30:34, 50:80] = IGNORE_LABEL
    y, x = np.mgrid[:80, :90]
    return write_named_frames(folder, "c", {"c0": ((100.0 * y + x).astype(np.float32), labels_yx)})


@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_a_patch_has_the_target_that_its_place_has_in_the_whole_image(coded, output, loss):
    """Also at its edge, where a cell outside the patch still affects the target inside it."""
    preset = preset_for(output, loss)
    images = image_set(coded, preset=preset)
    whole = images.target(0)
    for seed in range(10):
        image_cyx, target = draw_patch(images, 0, train=preset["train"], rng=np.random.default_rng(seed))
        row, column = divmod(int(image_cyx[0, 0, 0]), 100)
        place = slice(row, row + 32), slice(column, column + 32)
        assert np.array_equal(target.classes_yx, whole.classes_yx[place])
        if whole.values_cyx is not None:
            assert np.array_equal(target.values_cyx, whole.values_cyx[:, *place])
        if whole.weights_yx is not None:
            assert np.allclose(target.weights_yx, whole.weights_yx[place], atol=1e-6)


@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_turned_and_mirrored_patches_have_the_targets_of_their_pixels(coded, output, loss):
    """Contours between touching cells depend only on their numbers; flows turn with the image."""
    preset = preset_for(output, loss, augmentation={"flip": True, "rotate_90": True})
    images = image_set(coded, preset=preset)
    whole = images.target(0)
    turns = set()
    for seed in range(20):
        image_cyx, target = draw_patch(images, 0, train=preset["train"], rng=np.random.default_rng(seed))
        rows, columns = np.divmod(image_cyx[0].astype(int), 100)
        assert np.array_equal(target.classes_yx, whole.classes_yx[rows, columns])
        if whole.weights_yx is not None:
            assert np.allclose(target.weights_yx, whole.weights_yx[rows, columns], atol=1e-6)
        # Direction in the image of a step along the patch's rows and columns.
        turn = [[(p[1, 0] - p[0, 0]), (p[0, 1] - p[0, 0])] for p in (rows, columns)]
        turns.add(str(turn))
        if output == "distance":
            assert np.array_equal(target.values_cyx[0], whole.values_cyx[0][rows, columns])
        if output == "flow":
            expected_cyx = np.einsum("ij,iyx->jyx", np.array(turn, dtype=float), whole.values_cyx[:, rows, columns])
            assert np.allclose(target.values_cyx, expected_cyx, atol=1e-6)
    assert len(turns) == 8


WILD = {
    "flip": True,
    "rotate_90": True,
    "affine_probability": 1.0,
    "rotation_deg": 90,
    "zoom": [0.8, 1.5],
    "zoom_axes": "independent",
    "shear_deg": 15,
    "jitter": 0.1,
    "translation": 0.2,
    "elastic": {"displacement_px": 1.5},
}


def test_image_and_labels_are_moved_alike_by_every_augmentation(tmp_path):
    """The image is its own mask, with large discs; 100 draws."""
    y, x = np.mgrid[:160, :160]
    mask_yx = (y % 80 - 40) ** 2 + (x % 80 - 40) ** 2 < 30**2
    labels_yx = (mask_yx * (1 + 2 * (y // 80) + x // 80)).astype(np.uint16)
    shard = write_named_frames(tmp_path, "m", {"m0": (mask_yx.astype(np.float32), labels_yx)})
    preset = preset_for("foreground", {"name": "bce"}, patch=[128, 128], augmentation=WILD)
    images = image_set(shard, preset=preset)
    shares = []
    for seed in range(100):
        image_cyx, target = draw_patch(images, 0, train=preset["train"], rng=np.random.default_rng(seed))
        is_known_yx = target.classes_yx != IGNORED_TARGET
        found_yx, truth_yx = (image_cyx[0] > 0.5) & is_known_yx, target.classes_yx == 1
        shares.append((found_yx & truth_yx).sum() / (found_yx | truth_yx).sum())
    assert min(shares) > 0.97


@pytest.mark.parametrize(
    ("output", "classes"), [("foreground", {0, 1}), ("two_classes", {0, 1}), ("contour", {0, 1, 2})]
)
def test_no_augmentation_makes_a_class_that_was_not_there(coded, output, classes):
    loss = {"name": "bce" if output == "foreground" else "ce"}
    preset = preset_for(output, loss, augmentation=WILD)
    images = image_set(coded, preset=preset)
    for seed in range(20):
        _, target = draw_patch(images, 0, train=preset["train"], rng=np.random.default_rng(seed))
        assert set(np.unique(target.classes_yx)) <= {*classes, IGNORED_TARGET}


@pytest.mark.parametrize("output", ["distance", "flow"])
def test_values_are_where_cells_are(coded, output):
    preset = preset_for(output, {"name": output}, augmentation=WILD)
    images = image_set(coded, preset=preset)
    for seed in range(20):
        _, target = draw_patch(images, 0, train=preset["train"], rng=np.random.default_rng(seed))
        assert not target.values_cyx[:, target.classes_yx != 1].any()
        lengths_yx = np.hypot(*target.values_cyx) if output == "flow" else target.values_cyx[0]
        assert lengths_yx.max() <= 1 + 1e-5
        assert (lengths_yx[target.classes_yx == 1] > 0).mean() > 0.9


@pytest.mark.parametrize(("output", "loss"), OUTPUTS)
def test_an_image_smaller_than_its_patch_has_its_target_once(tmp_path, output, loss):
    """The mirrored padding is ignored and makes neither contours nor near neighbours."""
    labels_yx = np.zeros((24, 28), np.uint16)
    labels_yx[4:20, 3:13], labels_yx[4:20, 14:26] = 1, 2
    shard = write_named_frames(tmp_path, "s", {"s0": (np.zeros((24, 28), np.float32), labels_yx)})
    preset = preset_for(output, loss, patch=[64, 64])
    images = image_set(shard, preset=preset)
    whole = images.target(0)
    _, target = draw_patch(images, 0, train=preset["train"], rng=np.random.default_rng(0))
    is_known_yx = target.classes_yx != IGNORED_TARGET
    assert is_known_yx.sum() == 24 * 28
    assert np.array_equal(target.classes_yx[is_known_yx].reshape(24, 28), whole.classes_yx)
    if whole.weights_yx is not None:
        assert np.allclose(target.weights_yx[is_known_yx].reshape(24, 28), whole.weights_yx, atol=1e-6)
    if whole.values_cyx is not None:
        assert np.allclose(target.values_cyx[:, is_known_yx], whole.values_cyx.reshape(len(whole.values_cyx), -1))
