"""Mirrored and turned copies of images across the split."""

import base64
import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cellmill.checks.quality import measure_plane
from cellmill.checks.turned_copies import find_turned_copies

TURNS = {
    "a quarter turn": lambda a: np.rot90(a),
    "half a turn": lambda a: np.rot90(a, 2),
    "three quarter turns": lambda a: np.rot90(a, 3),
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "transposed": np.transpose,
    "transposed the other way": lambda a: np.rot90(a, 2).T,
}


def field(seed, shape=(96, 120)):
    """Return an image of bright cells of different sizes."""
    rng = np.random.default_rng(seed)
    image_yx = np.zeros(shape)
    image_yx[rng.integers(0, shape[0], 40), rng.integers(0, shape[1], 40)] = rng.uniform(500, 4000, 40)
    return gaussian_filter(image_yx, 3) * 30 + rng.normal(100, 2, shape)


def entry(sample, image_yx, split):
    plane_yx = np.ascontiguousarray(image_yx)
    found = measure_plane([plane_yx], shape=plane_yx.shape, top=None)
    return {"sample": sample, "split": split, "thumbnail": found["thumbnail"]}


def found(*entries):
    return [(one["severity"], one["finding"]) for one in find_turned_copies(entries, dataset="d")]


@pytest.mark.parametrize("turned", TURNS.values(), ids=TURNS)
def test_every_orientation_of_a_training_image_is_found_among_the_test_images(turned):
    others = [entry(f"o{seed}", field(seed), "train") for seed in range(2, 8)]
    copy = entry("copy", turned(field(1)), "test")
    assert found(entry("own", field(1), "train"), *others, copy) == [
        ("warning", "1 mirrored or turned copy of images in another part of the split (copy and own)")
    ]


def test_a_brighter_and_noisier_turned_copy_is_found():
    noise_yx = np.random.default_rng(9).normal(0, 3, (120, 96))
    copy = entry("copy", 2 * np.rot90(field(1)) + noise_yx, "test")
    assert [severity for severity, _ in found(entry("own", field(1), "validation"), copy)] == ["warning"]


def test_copies_of_an_augmented_training_part_are_a_note():
    copies = [entry(name, turned(field(3)), "train") for name, turned in TURNS.items()]
    [(severity, text)] = found(entry("own", field(3), "train"), *copies)
    assert severity == "note"
    assert text.startswith("7 mirrored or turned copies of images in the same part of the split")


def test_an_unlabelled_copy_is_no_leak():
    assert found(entry("a", field(1), "train"), entry("b", np.rot90(field(1)), "unlabelled"))[0][0] == "note"


def test_other_fields_and_plain_copies_are_not_turned_copies():
    fields = [entry(f"f{seed}", field(seed), "train" if seed % 2 else "test") for seed in range(60)]
    assert found(*fields, entry("again", field(4), "train")) == []


def test_a_symmetric_field_is_no_copy_of_itself():
    half_yx = field(5, (96, 60))
    image_yx = np.concatenate([half_yx, np.fliplr(half_yx)], axis=1)
    assert found(entry("a", image_yx, "train"), entry("b", np.fliplr(image_yx), "test")) == []


def test_many_images_take_seconds():
    """Guards against the comparison of all pairs in all orientations."""
    cells = np.random.default_rng(0).integers(-127, 128, (5000, 576)).astype(np.int8)
    many = [
        {"sample": str(i), "split": "test", "thumbnail": base64.b64encode(one.tobytes()).decode()}
        for i, one in enumerate(cells)
    ]
    start = time.perf_counter()
    assert find_turned_copies(many, dataset="d") == []
    assert time.perf_counter() - start < 20
