"""The numbers of a run without a network are chosen on annotated images, or fixed where there are none."""

import numpy as np
import pytest

from cellmill.classical import choosing
from cellmill.classical.choosing import choose_recipe
from cellmill.images.stored import write_labels
from cellmill.objects.frames import list_scenes
from cellmill.preprocessing.geometry import plan_fit, write_geometry
from cellmill.shards import shard_folder
from whole_images import write_image

OPEN = {
    "architecture": "classical", "output": "foreground", "sigma_px": None, "threshold": "auto", "window_px": None,
    "polarity": "auto",
}  # fmt: skip
FIXED = {"sigma_px": 1.0, "window_px": None, "polarity": "image"}


def draw(seed, *, contrast=300.0, slope=0.0, side=96, radius_px=6, objects=True, cover=False):
    """Draw discs on a grid, and their labels; with `cover`, the discs are the ground between squares of objects."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    labels_yx = np.zeros((side, side), dtype=np.uint16)
    for number, (row, column) in enumerate(np.ndindex(3, 3), start=1):
        middle = (np.array([row, column]) + 0.5) * side / 3 + rng.integers(-3, 4, 2)
        labels_yx[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 < radius_px**2] = number
    labels_yx *= objects
    image_yx = 1000 + slope * x / side + contrast * (labels_yx > 0) + rng.normal(0, 10, labels_yx.shape)
    return image_yx.astype(np.float32), labels_yx


def scenes(folder, drawn):
    geometries = {}
    with shard_folder(folder / "images") as images, shard_folder(folder / "labels") as labels:
        for number, (image_yx, labels_yx) in enumerate(drawn):
            geometries[f"s{number}"] = plan_fit(image_yx.shape, mode="none", size=None)
            write_image(images / f"s{number}.tif", image_yx)
            write_labels(labels / f"s{number}.tif", labels_yx)
        write_geometry(images / "geometry.csv", geometries)
    return list_scenes(folder / "images", labels=folder / "labels")


def choose(found, **network):
    return choose_recipe(found, network={**OPEN, **network}, seed=1)


def test_without_images_the_numbers_are_fixed():
    found = choose([])
    assert found["recipe"] == FIXED
    assert found["searched"] == []
    assert found["reason"].startswith("fixed values")


def test_images_without_objects_leave_the_numbers_fixed(tmp_path):
    assert choose(scenes(tmp_path, [draw(1, objects=False)]))["recipe"] == FIXED


@pytest.mark.parametrize(("contrast", "polarity"), [(300.0, "bright"), (-300.0, "dark")])
def test_the_polarity_of_the_annotated_objects_is_chosen(tmp_path, contrast, polarity):
    found = choose(scenes(tmp_path, [draw(seed, contrast=contrast) for seed in range(3)]))
    assert found["recipe"]["polarity"] == polarity
    assert max(way["ap_kaggle"] for way in found["searched"]) > 0.6


def test_images_of_both_polarities_are_cut_each_by_itself(tmp_path):
    found = choose(scenes(tmp_path, [draw(seed, contrast=300.0 - 600 * (seed % 2)) for seed in range(4)]))
    assert found["recipe"]["polarity"] == "image"


def test_objects_that_cover_most_of_an_image_keep_their_polarity(tmp_path):
    """The side with fewer pixels would be the ground."""
    found = choose(scenes(tmp_path, [draw(seed, side=48, radius_px=9) for seed in range(3)]))
    assert found["recipe"]["polarity"] == "bright"


def test_a_local_threshold_is_chosen_on_an_uneven_background(tmp_path):
    found = choose(scenes(tmp_path, [draw(seed, slope=3000.0) for seed in range(3)]))
    # 3 or 6 times the diameter, rounded to an odd number
    diameter_px = 2 * np.sqrt(np.count_nonzero(draw(0)[1] == 1) / np.pi)
    assert found["recipe"]["window_px"] % 2 == 1
    assert any(abs(found["recipe"]["window_px"] - factor * diameter_px) < 3 for factor in (3, 6))


def test_what_the_config_sets_is_not_chosen(tmp_path):
    drawn = scenes(tmp_path, [draw(seed) for seed in range(2)])
    found = choose(drawn, sigma_px=3.0, polarity="dark")
    assert {(way["sigma_px"], way["polarity"]) for way in found["searched"]} == {(3.0, "dark")}
    all_set = choose(drawn, sigma_px=3.0, threshold="local", window_px=15, polarity="bright")
    assert all_set["recipe"] == {"sigma_px": 3.0, "window_px": 15, "polarity": "bright"}
    assert (all_set["searched"], all_set["reason"]) == ([], "set in the config")


def test_a_local_threshold_without_annotations_has_a_fixed_window():
    assert choose([], threshold="local")["recipe"]["window_px"] == choosing.FIXED_WINDOW_PX


def test_the_same_images_give_the_same_choice(tmp_path):
    drawn = scenes(tmp_path, [draw(seed, slope=200.0) for seed in range(3)])
    assert choose(drawn) == choose(drawn[::-1])
