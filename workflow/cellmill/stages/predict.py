"""Stage `predict`: probability maps of the images of one shard.

Reads   results/{dataset}/images/{shard}/                   float32 YX; weights.pt
Writes  results/{dataset}/{run}/probabilities/{shard}/      float16 CYX, geometry of the preprocessed image; channel 0
        is the foreground, the others depend on the network's output (contour, distance, flow y and x)
"""

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cellmill.device import choose_device
from cellmill.images.stored import write_probability_bands
from cellmill.inference.ensemble import Averaged, PredictSettings
from cellmill.inference.folding import fold_norms
from cellmill.inference.looking import find_factor
from cellmill.inference.normalise import InputScale
from cellmill.inference.scaling import WorkingScale, unscale_bands
from cellmill.inference.tiling import predict_bands, predict_passage
from cellmill.inference.views import Frames, SettledInput, class_planes
from cellmill.models.registry import build_network
from cellmill.models.weights import load_weights, read_weights, split_members
from cellmill.preprocessing.stored_images import find_images
from cellmill.shards import shard_folder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tiles:
    """Largest tile, (rows, columns) in px; tiles per batch; and the device that predicts them."""

    shape: tuple[int, int]
    batch: int
    device: torch.device


class Predicted(NamedTuple):
    """Probability maps of one image: (rows, columns) in px, and bands CYX from top to bottom."""

    sample: str
    shape: tuple[int, int]
    bands_cyx: Iterable[np.ndarray]


def predict_shard(
    *,
    output_dir: str | Path,
    images_dir: str | Path,
    around_dirs: Sequence[str | Path],
    weights_path: str | Path,
    predict: PredictSettings,
    passages: Sequence[Sequence[str]] | None,
    classes: Mapping[str, str] | None,
    pixel_size_um: float | None,
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
    pixel_size_um : float or None
        Edge length of a pixel of the raw images; None: from the metadata of each image. Used for the working scale.
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
    images = find_images([images_dir])
    stored = {image.sample: image for image in [*find_images(around_dirs), *images]}
    frames = Frames(
        stored,
        normalise=input["normalise"],
        # A file of an earlier version has no such settings.
        polarity=input.get("polarity", "keep"),
        min_contrast=float(input.get("min_contrast", 0.0)),
        passages=passages,
        kept=int(input["frames"]) * int(input.get("channels", 1)),  # a frame and its neighbours
    )
    samples = [image.sample for image in images]
    if _works_by_dataset(input):
        scales = frames.settle_by_dataset(input=input, pixel_size_um=pixel_size_um)
        for sample in samples:
            if sample in scales:
                _log_scale(sample, scales[sample])
    tiles = Tiles(shape=(int(predict["tile"][0]), int(predict["tile"][1])), batch=int(predict["batch"]), device=device)
    with shard_folder(output_dir) as folder, tempfile.TemporaryDirectory(dir=folder) as scratch_dir:
        if network.is_recurrent:
            predicted = _predict_passages(
                network,
                samples,
                frames=frames,
                passages=passages or (),
                warmup=int(input["warmup"]),
                tiles=tiles,
                scratch_dir=scratch_dir,
            )
        else:
            predicted = _predict_images(
                network, samples, frames=frames, input=input, classes=classes or {}, tiles=tiles
            )
        _write_maps(predicted, folder=folder)


def _load_networks(
    path: str | Path, *, predict: PredictSettings, device: torch.device
) -> tuple[Averaged, SettledInput]:
    """Build the averaged networks of a weights file, and return them with their input settings."""
    weights = read_weights(path)
    networks = []
    for state_dict in split_members(weights):
        network = build_network(weights["network"])
        load_weights(network, state_dict, source=path)
        network = fold_norms(network.eval())
        networks.append(network.to(device=device, memory_format=torch.channels_last))  # type: ignore[call-overload]
    input: SettledInput = weights["input"]
    averaged = Averaged(
        networks,
        output=weights["network"]["output"],
        average=predict["average"],
        classes=0 if _has_true_class(input) else len(input["class_planes"]),
        precision=predict["precision"],
    )
    return averaged.eval(), input


def _works_by_dataset(input: SettledInput) -> bool:
    """Return whether all images are resampled for the network by one factor, or by their pixel sizes."""
    return input.get("diameter_px") is not None and input["scale"] == "dataset"


def _has_true_class(input: SettledInput) -> bool:
    """Return whether the class planes contain the true class of the image, not each class in turn."""
    return bool(input["class_at_prediction"] == "oracle")


def _log_scale(sample: str, scale: WorkingScale) -> None:
    logger.info("%s: working scale %.3g, because %s", sample, scale.factor, scale.because)


def _log_contrast(sample: str, scale: InputScale) -> None:
    """Log if the contrast of an image is so low that it is amplified less than others."""
    if scale.stretch > 1:
        logger.info(
            "%s: amplified less than other images, as its contrast is below input.min_contrast, by a factor of %.3g",
            sample, scale.stretch,
        )  # fmt: skip


def _predict_images(
    network: Averaged,
    samples: Sequence[str],
    *,
    frames: Frames,
    input: SettledInput,
    classes: Mapping[str, str],
    tiles: Tiles,
) -> Iterator[Predicted]:
    """Predict images one by one with feed-forward networks."""
    looks = input.get("diameter_px") is not None and input["scale"] == "image" and bool(input["object_px"])
    names = input["class_planes"]
    for sample in samples:
        # Unless the true class is an input, `network` replaces the class planes by each class in turn.
        name = classes.get(sample, "") if _has_true_class(input) else next(iter(names), "")
        planes = class_planes(name, classes=names, sample=sample)
        if looks:
            found = find_factor(
                network, frames.open(sample), planes=planes, diameter_px=float(input["diameter_px"] or 0),
                typical_px=float(input["object_px"] or 0), device=tiles.device,
            )  # fmt: skip
            frames.settle(factors={sample: found.factor})
            _log_scale(sample, found)
        working = frames.working_size(sample)
        view = frames.view(sample, count=int(input["frames"]), planes=planes)
        # Of the frame itself, which is in the middle, or of the first channel
        _log_contrast(sample, view.frames[int(input["frames"]) // 2][1])
        bands_cyx = predict_bands(
            network, view, tile=tiles.shape, batch=tiles.batch, device=tiles.device, finish=torch.Tensor.half
        )
        yield Predicted(sample, working.raw_shape, unscale_bands(bands_cyx, working))


def _predict_passages(
    network: Averaged,
    samples: Sequence[str],
    *,
    frames: Frames,
    passages: Sequence[Sequence[str]],
    warmup: int,
    tiles: Tiles,
    scratch_dir: str | Path,
) -> Iterator[Predicted]:
    """Predict frames with recurrent networks, each passage from its beginning; an image outside is a passage alone."""
    requested = set(samples)
    placed = {sample for passage in passages for sample in passage}
    for whole in [*passages, *([sample] for sample in samples if sample not in placed)]:
        # Frames after the last requested one are not predicted.
        last = max((place for place, sample in enumerate(whole) if sample in requested), default=-1)
        passage = whole[: last + 1]
        if not passage:
            continue
        views = [frames.view(sample, count=1, planes=()) for sample in passage]
        maps_tcyx = predict_passage(
            network,
            views,
            warmup=warmup,
            tile=tiles.shape,
            batch=tiles.batch,
            device=tiles.device,
            finish=torch.Tensor.half,
            scratch_dir=scratch_dir,
        )
        for sample, view, maps_cyx in zip(passage, views, maps_tcyx, strict=True):
            if sample in requested:
                working = frames.working_size(sample)
                _log_contrast(sample, view.frames[0][1])
                yield Predicted(sample, working.raw_shape, unscale_bands([maps_cyx], working))
        # The next passage writes to the same scratch file: nothing may still refer to this mapping of it.
        del maps_tcyx, maps_cyx


def _write_maps(predicted: Iterable[Predicted], *, folder: Path) -> None:
    """Write the probability maps of each image, and log its size and time."""
    started = time.monotonic()
    for sample, shape, bands_cyx in predicted:
        write_probability_bands(folder / f"{sample}.tif", bands_cyx, shape=shape)
        logger.info("%s: %d x %d px, %.2f s", sample, *shape, time.monotonic() - started)
        started = time.monotonic()
