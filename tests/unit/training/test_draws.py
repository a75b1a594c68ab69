"""Order of the patches: all images are used equally often, whatever the length of an epoch."""

from collections import Counter

import pytest

from cellmill.training.draws import draw_interval, draw_pass


def images_of(draws):
    return [draws.image_of(number) for number in draws.numbers]


@pytest.mark.parametrize(("images", "patches"), [(1, 5), (4, 3), (7, 50), (50, 7)])
def test_no_image_is_used_more_than_once_more_than_another(images, patches):
    used = Counter(dict.fromkeys(range(images), 0))
    for image in images_of(draw_interval(images, numbers=range(patches), seed=3)):
        used[image] += 1
        assert max(used.values()) - min(used.values()) <= 1


def test_the_patches_of_a_training_do_not_depend_on_its_epochs():
    whole = images_of(draw_interval(5, numbers=range(60), seed=3))
    parts = [images_of(draw_interval(5, numbers=range(first, first + 12), seed=3)) for first in range(0, 60, 12)]
    assert [image for part in parts for image in part] == whole


def test_shuffles_and_seeds_differ():
    first, second = (images_of(draw_interval(50, numbers=range(50 * n, 50 * n + 50), seed=3)) for n in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    assert first != images_of(draw_interval(50, numbers=range(50), seed=4))


def test_a_pass_has_the_patches_of_each_image():
    draws = draw_pass(6, patches_per_image=3, seed=1, epoch=2)
    assert sorted(images_of(draws)) == sorted(list(range(6)) * 3)
    assert images_of(draws) != images_of(draw_pass(6, patches_per_image=3, seed=1, epoch=3))
    assert (draws.stream, draws.numbers) == (2, range(18))
