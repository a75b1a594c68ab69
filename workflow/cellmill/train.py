"""Stage `train`: a network learns foreground from labelled images.

Reads   images and labels of training and validation shards   float32 YX, and label images in raw geometry
Writes  weights.pt, history.csv, train.json                   weights, one row an epoch, what was done on what
"""

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cellmill.batches import ImageSet, choose_images, find_labelled_images, iterate_batches, steps_per_epoch
from cellmill.checkpoints import (
    Checkpoint,
    Row,
    StopRequest,
    Training,
    checkpoint_key,
    checkpoint_path,
    copy_weights,
    remove_checkpoints,
    stop_requests,
)
from cellmill.device import choose_device, is_overridden, make_repeatable, name_gpu, peak_memory_mb
from cellmill.losses import IGNORED_TARGET, segmentation_loss
from cellmill.models import build_network, count_parameters, load_weights, read_weights, write_weights
from cellmill.optimisers import build_optimiser, learning_rate_at
from cellmill.runlog import package_versions
from cellmill.shards import atomic_path, file_digest
from cellmill.tiling import predict_tiled

logger = logging.getLogger(__name__)

# Larger validation images are predicted in tiles; the numbers do not depend on it.
VALIDATION_TILE_PX = (1024, 1024)

# Steps at the end of an epoch over which batch normalisation takes its running statistics.
STATISTICS_STEPS = 200

# Threads that make batches ahead of a GPU. On the CPU one is enough, and more would take its cores.
MAX_WORKERS = 4


def train_model(
    *,
    weights_path: str | Path,
    history_path: str | Path,
    summary_path: str | Path,
    train_images: list[str | Path],
    train_labels: list[str | Path],
    validation_images: list[str | Path],
    validation_labels: list[str | Path],
    network: dict[str, Any],
    input: dict[str, Any],
    train: dict[str, Any],
    seed: int,
    init_from: str | Path | None,
    threads: int,
    gpu: int,
    code: dict[str, str],
) -> None:
    """Train one network, from its checkpoint where there is one.

    Parameters
    ----------
    weights_path, history_path, summary_path : path
        What is written: weights.pt, history.csv, train.json.
    train_images, train_labels, validation_images, validation_labels : lists of paths
        Shard folders of preprocess and rasterize.
    network, input, train : dicts
        Parts of a preset, `network` with its `width`.
    seed : int
        Decides initial weights, patches, augmentation and dropout.
    init_from : path or None
        Weights to start from: a weights.pt or a .cellmill file.
    threads, gpu : int
        The job's resources; they do not enter the checkpoint's key.
    code : dict
        Digests of the modules that matter; they do.

    Raises
    ------
    ValueError
        If there are no images to train on or to choose on, if weights do not fit, if a loss is not finite.
    Stopped
        After SIGTERM, SIGUSR1 or SIGINT, when the checkpoint is saved.
    """
    device = choose_device(gpu=gpu)
    torch.set_num_threads(threads)
    make_repeatable(device=device, seed=seed)
    folders = {
        "train_images": train_images,
        "train_labels": train_labels,
        "validation_images": validation_images,
        "validation_labels": validation_labels,
    }
    images, validation = _open_images(folders, input=input, train=train, seed=seed)
    model = build_network(network)
    if init_from is not None:
        load_weights(model, read_weights(init_from)["state_dict"], source=init_from)
        logger.info("starts from the weights of %s", init_from)
    training = Training(model.to(device), build_optimiser(model, optimiser=train["optimiser"]))

    settings = {"network": network, "input": input, "train": train, "seed": seed}
    start = None if init_from is None else file_digest(init_from)
    key = checkpoint_key(settings={**settings, "init_from": start}, code=code, shards=folders)
    checkpoint = Checkpoint(checkpoint_path(weights_path, key=key))
    if (state := checkpoint.load()) is not None:
        training.restore(state)

    epochs, steps = int(train["epochs"]), steps_per_epoch(len(images), train=train)
    workers = min(threads, MAX_WORKERS) if device.type == "cuda" else 1
    is_mixed = train["precision"] == "bf16" and device.type == "cuda"
    _log_start(model, images=images, validation=validation, steps=steps, epochs=epochs, device=device)

    with stop_requests() as stop:
        while training.epoch < epochs:
            epoch = training.epoch
            model.train()
            for batch in iterate_batches(
                images, train=train, seed=seed, epoch=epoch, first_step=training.step, workers=workers
            ):
                rate = learning_rate_at(epoch + training.step / steps, train=train)
                for group in training.optimiser.param_groups:
                    group["lr"] = rate
                if training.step == max(0, steps - STATISTICS_STEPS):
                    restart_statistics(model)
                images_bcyx = torch.from_numpy(batch.images_byx)[:, None].to(device)
                target_byx = torch.from_numpy(batch.target_byx).to(device)
                with torch.autocast(device.type, torch.bfloat16, enabled=is_mixed):
                    logits_byx = model(images_bcyx)[:, 0]
                loss = segmentation_loss(logits_byx, target_byx, loss=train["loss"])
                _check_finite(loss.item(), epoch=epoch, rate=rate, samples=batch.samples)
                training.optimiser.zero_grad()
                loss.backward()
                training.optimiser.step()

                training.step += 1
                training.loss_sum += loss.item() * len(batch.samples)
                training.patches += len(batch.samples)
                if checkpoint.is_due(stop):
                    checkpoint.save(training.state())
                    stop.obey()

            scores = validate(model, validation, loss=train["loss"], device=device, stop=stop)
            # A signal during validation leaves the epoch open: the next run validates again.
            if stop.number is None:
                rate = learning_rate_at(epoch + (steps - 1) / steps, train=train)
                if scores is not None:
                    _check_finite(scores[0], epoch=epoch, rate=rate, samples=["of the validation"])
                _log_epoch(training.close_epoch(rate=rate, validation=scores), epochs=epochs)
            checkpoint.save(training.state())
            stop.obey()

    is_best = train["select"] == "best"
    weights = training.best_weights if is_best else copy_weights(model)
    with atomic_path(weights_path) as path:
        write_weights(path, network=network, input=input, state_dict=weights)
    with atomic_path(history_path) as path:
        _write_history(path, training.history)
    with atomic_path(summary_path) as path:
        _write_summary(
            path,
            training=training,
            best_epoch=training.best_epoch if is_best else epochs,
            settings=settings,
            threads=threads,
            device=device,
            device_override=is_overridden(gpu=gpu),
        )
    remove_checkpoints(weights_path)


def restart_statistics(model: nn.Module) -> None:
    """Forget the running statistics of batch normalisation, so that they are means over the steps to come.

    The usual exponential mean looks back over about ten steps; with few patches a step, of images that differ, it
    moves so much that scores swing from epoch to epoch at a learning rate of nearly zero. # SOURCE Wu and Johnson
    2021, arXiv:2105.07576, section 3, which computes them afresh; here the steps of the epoch serve, at no cost.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def validate(
    model: nn.Module, images: ImageSet, *, loss: dict[str, Any], device: torch.device, stop: StopRequest
) -> tuple[float, float] | None:
    """Measure loss and Dice coefficient on whole images.

    Parameters
    ----------
    model : nn.Module
        Put into evaluation mode: running statistics, no dropout.
    images : ImageSet
        Validation images.
    loss : dict
        Section `train.loss`.
    device : torch.device
        Where the model is.
    stop : StopRequest
        Ends the work between two images.

    Returns
    -------
    loss, dice : float or None
        Means over images; Dice at probability .5, NaN where truth and prediction of all images are empty.
        None without images, or when asked to stop.
    """
    model.eval()
    losses, dices = [], []
    for index in range(len(images)):
        if stop.number is not None:
            return None
        logits_cyx = predict_tiled(
            model,
            images.image(index),
            scale=images.scale(index),
            tile=VALIDATION_TILE_PX,
            batch=1,
            device=device,
            finish=torch.Tensor.float,
        )
        logits_byx = torch.from_numpy(logits_cyx)
        target_byx = torch.from_numpy(images.target(index))[None]
        losses.append(segmentation_loss(logits_byx, target_byx, loss=loss).item())
        predicted_byx = (logits_byx >= 0) & (target_byx != IGNORED_TARGET)
        truth_byx = target_byx == 1
        if total := int(predicted_byx.sum() + truth_byx.sum()):
            dices.append(2 * int((predicted_byx & truth_byx).sum()) / total)
    if not losses:
        return None
    return sum(losses) / len(losses), sum(dices) / len(dices) if dices else math.nan


def _open_images(
    folders: dict[str, list[str | Path]], *, input: dict[str, Any], train: dict[str, Any], seed: int
) -> tuple[ImageSet, ImageSet]:
    found = find_labelled_images(folders["train_images"], folders["train_labels"])
    chosen = find_labelled_images(folders["validation_images"], folders["validation_labels"])
    if not found:
        raise ValueError(
            "train: expected labelled training images, found none. Label some, or raise split.train in the config."
        )
    if not chosen and train["select"] == "best":
        raise ValueError(
            "train: expected validation images to choose the best epoch on, found none. "
            "Raise split.validation, or set train.select: last in the config."
        )
    chosen = choose_images(chosen, limit=train["validation_images"], seed=seed)
    return ImageSet(found, normalise=input["normalise"]), ImageSet(chosen, normalise=input["normalise"])


def _check_finite(loss: float, *, epoch: int, rate: float, samples: list[str]) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"train: expected a finite loss, found {loss} in epoch {epoch + 1} at learning rate {rate:g} "
            f"on the images {', '.join(samples)}. Look at these images, or lower train.optimiser.learning_rate."
        )


def _log_start(
    model: nn.Module, *, images: ImageSet, validation: ImageSet, steps: int, epochs: int, device: torch.device
) -> None:
    logger.info(
        "%s parameters, %d training and %d validation images, %d epochs of %d steps, device %s %s",
        f"{count_parameters(model):,}", len(images), len(validation), epochs, steps, device, name_gpu(device),
    )  # fmt: skip


def _log_epoch(row: Row, *, epochs: int) -> None:
    done, seconds = int(row["epoch"] or 0), float(row["seconds"] or 0)
    scores = ", ".join(
        f"{name.replace('_', ' ')} {row[name]:.4f}"
        for name in ("train_loss", "validation_loss", "validation_dice")
        if row[name] is not None
    )
    logger.info(
        "epoch %d/%d: %s, rate %.3g, %.1f s, %.0f s left",
        done, epochs, scores, row["learning_rate"], seconds, seconds * (epochs - done),
        extra={"progress": True},
    )  # fmt: skip


def _write_history(path: Path, history: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


def _write_summary(
    path: Path,
    *,
    training: Training,
    best_epoch: int,
    settings: dict[str, Any],
    threads: int,
    device: torch.device,
    device_override: bool,
) -> None:
    summary = {
        "parameters": count_parameters(training.model),
        "receptive_field_px": training.model.receptive_field_px,
        "epochs_done": training.epoch,
        "best_epoch": best_epoch,
        "seconds": round(training.read_clock(), 3),
        "device": device.type,
        "device_override": device_override,
        "gpu_name": name_gpu(device),
        "threads": threads,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "seed": settings["seed"],
        "settings": {name: settings[name] for name in ("network", "input", "train")},
        "versions": package_versions(),
    }
    path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
