"""Identical and nearly identical images: which are found, in which parts of the split, and how fast."""

import base64
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from cellmill.checks.duplicates import find_duplicates, find_exact, find_near
from cellmill.checks.quality import measure_plane


def signature(seed, *, shift=0.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 30, 576) + shift * np.random.default_rng(99 + seed).normal(0, 30, 576)
    return base64.b64encode(np.clip(values, -127, 127).astype(np.int8).tobytes()).decode()


def image(sample, *, split="train", seed=None, sha=None, sequence="", thumbnail=None):
    seed = abs(hash(sample)) % 1000 if seed is None else seed
    return {
        "sample": sample,
        "split": split,
        "sequence": sequence,
        "sha256": sha or sample,
        "thumbnail": signature(seed) if thumbnail is None else thumbnail,
    }


def said(images):
    return [(finding["severity"], finding["finding"]) for finding in find_duplicates(images, dataset="cells")]


def test_equal_pixels_on_two_sides_are_a_warning_and_on_one_a_note():
    across = [image("a", seed=1, sha="x"), image("b", seed=2), image("c", seed=1, sha="x", split="test")]
    assert said(across) == [
        ("warning", "1 image has the same pixels as another image in another part of the split (c and a)")
    ]
    beside = [{**one, "split": "train"} for one in across]
    assert said(beside) == [
        ("note", "1 image has the same pixels as another image in the same part of the split (c and a)")
    ]


def test_near_copies_are_counted_and_few_are_named():
    images = [image(f"a{i}", seed=i) for i in range(5)]
    images += [image(f"b{i}", seed=i, thumbnail=signature(i, shift=0.3), split="test") for i in range(5)]
    assert said(images) == [
        (
            "warning",
            "5 images show nearly the same field as another image in another part of the split (b0 and a0; b1 and a1; "
            "b2 and a2 and 2 more)",
        )
    ]


def test_an_unlabelled_twin_is_no_leak():
    assert find_exact([image("a", sha="x"), image("b", sha="x", split="unlabelled")]).across == {}
    assert find_near([image("a", seed=1), image("b", seed=1, split="unlabelled")]).beside == {1: 0}


def test_frames_of_a_sequence_are_alike_and_count_once_for_it_on_two_sides():
    frames = [image(f"t{i}", seed=7, sequence="s1") for i in range(6)]
    assert said(frames) == []
    parted = [{**frame, "split": "test" if i > 3 else "train"} for i, frame in enumerate(frames)]
    assert said(parted) == [
        ("warning", "6 frames have a near duplicate from the same sequence in another part of the split")
    ]


def test_signatures_that_hold_almost_nothing_are_not_compared():
    spot = np.zeros(576, np.int8)
    spot[[40, 41, 65]] = 127
    thumbnail = base64.b64encode(spot.tobytes()).decode()
    assert (
        find_near([image("a", thumbnail=thumbnail), image("b", thumbnail=thumbnail), image("c", thumbnail="")]).beside
        == {}
    )


def test_pairs_are_those_of_a_plain_comparison():
    rng = np.random.default_rng(0)
    images = [
        image(f"s{i}", thumbnail=signature(int(rng.integers(40)), shift=float(rng.uniform(0, 1.5))),
              split=("train", "test", "unlabelled")[i % 3], sequence=("", "q", "r")[i % 5 % 3])
        for i in range(120)
    ]  # fmt: skip
    units = np.array([np.frombuffer(base64.b64decode(one["thumbnail"]), np.int8) for one in images], dtype=float)
    units /= np.linalg.norm(units, axis=1)[:, None]
    across, beside, in_sequence = set(), set(), set()
    for j, two in enumerate(images):
        for i, one in enumerate(images[:j]):
            if units[i] @ units[j] >= 0.75:
                is_across = one["split"] != two["split"] and "unlabelled" not in (one["split"], two["split"])
                if one["sequence"] and one["sequence"] == two["sequence"]:
                    in_sequence |= {i, j} if is_across else set()
                else:
                    (across if is_across else beside).add(j)
    twins = find_near(images)
    assert across
    assert in_sequence
    assert set(twins.across) == across
    assert set(twins.beside) == beside - across
    assert twins.in_sequence == in_sequence


def test_many_images_take_seconds():
    rng = np.random.default_rng(0)
    texts = [base64.b64encode(row.tobytes()).decode() for row in rng.integers(-127, 127, (10_000, 576)).astype(np.int8)]
    images = [image(str(i), thumbnail=text, seed=0, split=("train", "test")[i % 2]) for i, text in enumerate(texts)]
    start = time.monotonic()
    assert find_near(images).across == {}
    assert time.monotonic() - start < 20


COPIES = {
    "crop": lambda image_yx: image_yx[2:, 2:],
    "brightness": lambda image_yx: 1.1 * image_yx,
    "noise": lambda image_yx: image_yx + np.random.default_rng(1).normal(0, 0.05 * image_yx.std(), image_yx.shape),
    "jpeg": lambda image_yx: imagecodecs.jpeg_decode(
        imagecodecs.jpeg_encode((image_yx * (255 / image_yx.max())).astype(np.uint8), level=75)
    ),
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_real_images_are_found_and_nothing_else(real_data: Path, how):
    paths = sorted(real_data.glob("bbbc039/images/*.tif")) + sorted(
        real_data.glob("sartorius_cell_instance/train/*.png")
    )
    images = []
    for path in paths:
        image_yx = imagecodecs.imread(path).astype(np.float64)
        for split, plane_yx in (("train", image_yx), ("test", COPIES[how](image_yx))):
            thumbnail = measure_plane([plane_yx], shape=plane_yx.shape, top=None)["thumbnail"]
            images.append(image(f"{path.stem}-{split}", split=split, thumbnail=thumbnail))
    twins = find_near(images)
    assert twins.across == {i: i - 1 for i in range(1, len(images), 2)}
    assert twins.beside == {}
