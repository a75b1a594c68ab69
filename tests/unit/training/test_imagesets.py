"""Ground truth that does not fit into memory."""

import errno
import io

import numpy as np
import pytest

from cellmill.training import imagesets
from training_shards import image_set, tiny_preset, write_training_shard

FLOW = {"network": {"output": "flow"}, "train": {"loss": {"name": "flow"}}}


@pytest.fixture
def shard(tmp_path):
    return write_training_shard(tmp_path, "t", shapes=[(40, 48), (30, 35)])


def count_makings(monkeypatch):
    """Return a list that grows by the shape of each label image whose maps are computed."""
    made = []
    real = imagesets.image_maps

    def counted(labels_yx, *, output):
        made.append(labels_yx.shape)
        return real(labels_yx, output=output)

    monkeypatch.setattr(imagesets, "image_maps", counted)
    return made


def test_maps_beyond_the_memory_for_them_are_made_once(shard, monkeypatch):
    expected = [image_set(shard, preset=tiny_preset(**FLOW)).truth(index) for index in (0, 1)]
    monkeypatch.setattr(imagesets, "CACHE_MB", 0)
    images = image_set(shard, preset=tiny_preset(**FLOW))
    made = count_makings(monkeypatch)
    for index in (0, 1, 1, 0, 1):
        for found, given in zip(images.truth(index), expected[index], strict=True):
            assert np.array_equal(found, given)
    assert made == [(40, 48), (30, 35)]


def test_maps_are_made_again_where_the_disk_is_full(shard, monkeypatch, caplog):
    class FullDisk(io.BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    expected = image_set(shard, preset=tiny_preset(**FLOW)).truth(0)
    monkeypatch.setattr(imagesets, "CACHE_MB", 0)
    monkeypatch.setattr(imagesets.tempfile, "TemporaryFile", lambda **_: FullDisk())
    images = image_set(shard, preset=tiny_preset(**FLOW))
    made = count_makings(monkeypatch)
    for _ in range(3):
        assert np.array_equal(images.truth(0)[1], expected[1])
    assert len(made) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device; maps of further label images are recomputed" in caplog.text
