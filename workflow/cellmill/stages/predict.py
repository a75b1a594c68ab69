"""Stage `predict`: probability maps of the images of one shard.

Reads   results/{dataset}/images/{shard}/                   float32 YX; weights.pt
Writes  results/{dataset}/{run}/probabilities/{shard}/      float16 CYX, geometry of the preprocessed image; channel 0
        is the foreground, the others depend on the network's output (contour, distance, flow y and x)
"""

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cellmill.device import choose_device
from cellmill.images.stored import write_probability_bands
from cellmill.inference.ensemble import Averaged
from cellmill.inference.tiling import predict_bands, predict_passage
from cellmill.inference.views import Frames, View, class_planes
from cellmill.models.registry import build_network
from cellmill.models.weights import load_weights, read_weights, split_members
from cellmill.preprocessing.stored_images import find_images
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)

# A sample, its (rows, columns), and its probability maps in bands from top to bottom
Predicted = tuple[str, tuple[int, int], Iterable[np.ndarray]]


def predict_shard(
    *,
    output_dir: str | Path,
    images_dir: str | Path,
    around_dirs: Sequence[str | Path],
    weights_path: str | Path,
    predict: Mapping[str, Any],
    passages: Sequence[Sequence[str]] | None,
    classes: Mapping[str, str] | None,
    threads: int,
    gpu: int,
) -> None:
    """Predict every image of a shard.

    Parameters
    ----------
    output_dir : path
        Folder of the shard's probability maps; appears only when complete.
    images_dir : path
        Shard folder of the stage preprocess.
    around_dirs : sequence of path
        Shard folders with further frames of the same sequences.
    weights_path : path
        A weights.pt or a .cellmill file, with the settings of the network and its input. If it holds several
        networks, their predictions are averaged.
    predict : mapping
        Section `predict` of a preset: tile (rows, columns, px), batch, average and precision.
    passages : sequence of sequences of str, or None
        Unbroken runs of frames in order, for networks with temporal context.
    classes : mapping or None
        Class of each image, for networks that take it as input.
    threads, gpu : int
        Resources of the job.

    Notes
    -----
    Memory holds one row of tiles of the probability map and one batch of tiles with the network's features. The image
    is memory-mapped and read tile by tile. Maps of recurrent networks stay on disk until their passage is done.
    """
    device = choose_device(gpu=gpu)
    torch.set_num_threads(threads)
    # Tiles and the whole image agree to 1e-4 only without TF32, which has ten bits of mantissa.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    network, input = _load_networks(weights_path, predict=predict, device=device)

    own = find_images([images_dir])
    stored = {image.sample: image for image in [*find_images(around_dirs), *own]}
    frames = Frames(stored, normalise=input["normalise"], passages=passages)
    run = partial(
        _predict_sequences if network.is_recurrent else _predict_images,
        network,
        frames=frames,
        input=input,
        given={
            "tile": (int(predict["tile"][0]), int(predict["tile"][1])),
            "batch": int(predict["batch"]),
            "device": device,
            "finish": torch.Tensor.half,
        },
    )
    with shard_folder(output_dir) as folder, tempfile.TemporaryDirectory(dir=folder) as room:
        started = time.monotonic()
        samples = [image.sample for image in own]
        for sample, (rows, columns), bands in run(samples, passages=passages, classes=classes, room=Path(room)):
            write_probability_bands(folder / f"{sample}.tif", bands, shape=(rows, columns))
            logger.info("%s: %d x %d px, %.2f s", sample, rows, columns, time.monotonic() - started)
            started = time.monotonic()


def _load_networks(
    path: str | Path, *, predict: Mapping[str, Any], device: torch.device
) -> tuple[Averaged, Mapping[str, Any]]:
    """Build the averaged networks of a weights file, and return them with their input settings."""
    weights = read_weights(path)
    networks = []
    for state_dict in split_members(weights):
        network = build_network(weights["network"])
        load_weights(network, state_dict, source=path)
        network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        networks.append(network)
    input = weights["input"]
    is_told = input["class_at_prediction"] == "oracle"
    averaged = Averaged(
        networks,
        output=weights["network"]["output"],
        average=predict["average"],
        classes=0 if is_told else len(input["class_planes"]),
        precision=predict["precision"],
    )
    return averaged.eval(), input


def _predict_images(
    network: nn.Module,
    samples: Sequence[str],
    *,
    frames: Frames,
    input: Mapping[str, Any],
    given: dict[str, Any],
    classes: Mapping[str, str] | None,
    passages: object,
    room: object,
) -> Iterator[Predicted]:
    """Predict images with a feed-forward network; if the class is not an input, `network` averages over all classes."""
    names = input["class_planes"]
    for sample in samples:
        told = (classes or {}).get(sample, "") if input["class_at_prediction"] == "oracle" else next(iter(names), "")
        planes = class_planes(told, classes=names, sample=sample)
        view = frames.view(sample, count=int(input["frames"]), planes=planes)
        yield sample, view.shape, predict_bands(network, view, **given)


def _predict_sequences(
    network: nn.Module,
    samples: Sequence[str],
    *,
    frames: Frames,
    input: Mapping[str, Any],
    given: dict[str, Any],
    classes: object,
    passages: Sequence[Sequence[str]] | None,
    room: Path,
) -> Iterator[Predicted]:
    """Predict frames with a recurrent network, each passage from its beginning."""
    wanted = set(samples)
    known = {sample for passage in passages or () for sample in passage}
    for passage in [*(passages or ()), *([sample] for sample in samples if sample not in known)]:
        # Frames after the last requested one are not predicted.
        last = max((number for number, sample in enumerate(passage) if sample in wanted), default=-1)
        if last < 0:
            continue
        views: list[View] = [frames.view(sample, count=1, planes=()) for sample in passage[: last + 1]]
        maps_tcyx = predict_passage(
            network, views, warmup=int(input["warmup"]), empty=partial(_map_array, room / "passage.bin"), **given
        )
        for number, sample in enumerate(passage[: last + 1]):
            if sample in wanted:
                yield sample, views[0].shape, [maps_tcyx[number]]
        del maps_tcyx


def _map_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, mode="w+", shape=shape, dtype=dtype)
