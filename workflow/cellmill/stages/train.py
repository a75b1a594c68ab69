"""Stage `train`: train a network on labelled images.

Reads   images and labels of training and validation shards   float32 YX, and label images in raw geometry
Writes  weights.pt, history.csv, train.json                   weights, one row per epoch, summary of the training
"""

import copy
import csv
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cellmill.device import choose_device, is_overridden, make_repeatable, name_gpu, peak_memory_mb
from cellmill.models.registry import build_network, count_parameters
from cellmill.models.weights import load_matching, load_weights, read_weights, write_weights
from cellmill.preprocessing.stored_images import find_images
from cellmill.runlog import package_versions
from cellmill.shards import atomic_path, file_digest
from cellmill.training.batches import Batch, TrainSettings, iterate_batches, steps_per_epoch
from cellmill.training.checkpoints import Checkpoint, checkpoint_key, checkpoint_path, remove_checkpoints, stop_requests
from cellmill.training.imagesets import ImageSet, choose_images, find_labelled_images
from cellmill.training.optimisers import build_optimiser, learning_rate_at
from cellmill.training.state import Row, Training, copy_weights
from cellmill.training.stepping import Stepper
from cellmill.training.streams import iterate_windows, windows_per_epoch
from cellmill.training.team import Team, form_team
from cellmill.training.validation import validate
from cellmill.training.watching import Watcher

logger = logging.getLogger(__name__)

# Steps at the end of an epoch over which batch normalisation averages its running statistics.
STATISTICS_STEPS = 200

# Upper limit for the threads that prepare batches ahead of a GPU (otherwise the rule's `threads`), because each of them
# holds a batch in memory. On the CPU there is one such thread if a core is free for it. If it shared the cores of the
# training step, it would slow the step by more than the time it saves.
MAX_WORKERS = 16


@dataclass(frozen=True)
class Job:
    """Arguments of `train_model`, passed to each member of a team."""

    weights_path: str | Path
    history_path: str | Path
    summary_path: str | Path
    train_images: Sequence[str | Path]
    train_labels: Sequence[str | Path]
    validation_images: Sequence[str | Path]
    validation_labels: Sequence[str | Path]
    around_images: Sequence[str | Path]
    network: dict[str, Any]
    input: dict[str, Any]
    train: TrainSettings
    seed: int
    init_from: str | Path | None
    init_weights: str
    passages: Sequence[Sequence[str]] | None
    classes: Mapping[str, str] | None
    threads: int
    gpu: int
    code: dict[str, str]


def train_model(
    *,
    weights_path: str | Path,
    history_path: str | Path,
    summary_path: str | Path,
    train_images: Sequence[str | Path],
    train_labels: Sequence[str | Path],
    validation_images: Sequence[str | Path],
    validation_labels: Sequence[str | Path],
    around_images: Sequence[str | Path],
    network: dict[str, Any],
    input: dict[str, Any],
    train: TrainSettings,
    seed: int,
    init_from: str | Path | None,
    init_weights: str,
    passages: Sequence[Sequence[str]] | None,
    classes: Mapping[str, str] | None,
    threads: int,
    gpu: int,
    code: dict[str, str],
) -> None:
    """Train one network on the GPUs of the job, resuming from its checkpoint if there is one.

    Parameters
    ----------
    weights_path, history_path, summary_path : path
        Output files: weights.pt, history.csv, train.json.
    train_images, train_labels, validation_images, validation_labels : sequences of paths
        Shard folders of preprocess and rasterize.
    around_images : sequence of paths
        Shard folders with further frames of the same sequences: temporal context only, never trained on or scored.
    network, input, train : dicts
        Sections of a preset; `network` is passed to `build_network`.
    seed : int
        Determines initial weights, patches, augmentation and dropout.
    init_from : path or None
        Weights to start from: a weights.pt or a .cellmill file.
    init_weights : "all" or "matching"
        Whether all of these weights must fit the network, or those that do not are left out.
    passages : sequence of sequences of str, or None
        Unbroken runs of frames in order, for networks with temporal context.
    classes : mapping or None
        Class of each image, for networks that take it as input.
    threads, gpu : int
        Resources of the job; not part of the checkpoint's key.
    code : dict
        Digests of the modules that affect the result; part of the checkpoint's key.

    Raises
    ------
    ValueError
        If there are no training images, or no validation images although the settings need them. If initial weights
        do not fit, or a loss is not finite. If more GPUs are requested than exist or than a batch has patches.
    Stopped
        After SIGTERM, SIGUSR1 or SIGINT, once the checkpoint is saved.
    """
    job = Job(**locals())
    kind = choose_device(gpu=gpu).type
    size = gpu if kind == "cuda" else 1
    if kind == "cuda" and size > torch.cuda.device_count():
        raise ValueError(
            f"resource gpu={size}: expected as many GPUs, found {torch.cuda.device_count()}. "
            "Ask the cluster for more, or set the resource to what there is."
        )
    if size > int(train["batch"]):
        raise ValueError(
            f"resource gpu={size}: expected at most as many GPUs as a batch has patches, found {train['batch']}. "
            "Raise train.batch, or ask for fewer GPUs."
        )
    with form_team(size, train_member, {"job": job}, kind=kind) as team:
        train_member(team=team, job=job)


def train_member(*, team: Team, job: Job) -> None:
    """Train as one member of a team; the first member writes the files."""
    device = choose_device(gpu=job.gpu)
    if team.size > 1 and device.type == "cuda":
        device = torch.device("cuda", team.member)
    torch.set_num_threads(job.threads)
    make_repeatable(device=device, seed=job.seed, deterministic=job.train["deterministic"])
    folders = {
        "train_images": job.train_images,
        "train_labels": job.train_labels,
        "validation_images": job.validation_images,
        "validation_labels": job.validation_labels,
        "around_images": job.around_images,
    }
    settings = {"network": job.network, "input": job.input, "train": job.train, "seed": job.seed}
    seen = {"passages": job.passages, "classes": job.classes}
    images, validation = _open_images(folders, settings=settings, seen=seen)
    model = build_network(job.network)
    start = None if job.init_from is None else file_digest(job.init_from)
    if job.init_from is not None:
        _load_start(model, job.init_from, init_weights=job.init_weights)
    training = Training(_make_stepper(model, team=team, device=device, output=job.network["output"], train=job.train))

    key = checkpoint_key(
        settings={**settings, **seen, "init_from": start, "init_weights": job.init_weights},
        code=job.code,
        shards=folders,
    )
    checkpoint = Checkpoint(checkpoint_path(job.weights_path, key=key))
    if team.size > 1:
        # Each member draws different dropout; all of them start with the weights of the first member.
        torch.manual_seed(job.seed + team.member)
    if (state := checkpoint.load()) is not None:
        training.restore(state)

    epochs = int(job.train["epochs"])
    steps = count_steps(images, train=job.train, is_recurrent=bool(model.is_recurrent))
    workers = _count_workers(job.threads, device=device)
    _log_start(model, images=images, validation=validation, steps=steps, epochs=epochs, device=device, team=team)

    with stop_requests() as stop, Watcher(job.weights_path, rank=team.member) as watcher:
        while not training.is_done(epochs=epochs, patience=job.train["patience"]):
            epoch = training.epoch
            model.train()
            for batch in _batches_of(images, settings=settings, training=training, workers=workers):
                rate = learning_rate_at(epoch + training.step / steps, train=job.train)
                for group in training.stepper.optimiser.param_groups:
                    group["lr"] = rate
                if training.step == max(0, steps - STATISTICS_STEPS):
                    restart_statistics(model)
                loss = training.stepper.take(batch)
                _check_finite(loss, epoch=epoch, rate=rate, samples=batch.samples)

                training.step += 1
                training.loss_sum += loss * batch.patches
                training.patches += batch.patches
                watcher.note_step(training, steps=steps, epochs=epochs, rate=rate)
                if checkpoint.is_due(stop, team=team):
                    checkpoint.save(training.state(), team=team)
                    stop.obey()

            scores = None
            if team.leads:
                scores = validate(
                    training.kept_model, validation, warmup=int(job.input["warmup"]), device=device, stop=stop
                )
            # A signal during validation leaves the epoch unfinished, and the next run validates again.
            if not stop.agree(team):
                rate = learning_rate_at(epoch + (steps - 1) / steps, train=job.train)
                scores = team.share(scores)
                if scores is not None:
                    _check_finite(scores[0], epoch=epoch, rate=rate, samples=["of the validation"])
                row = training.close_epoch(rate=rate, validation=scores)
                watcher.note_epoch(row, epochs=epochs)
            checkpoint.save(training.state(), team=team)
            stop.obey()

    if not team.leads:
        return
    is_best = job.train["select"] == "best"
    weights = training.best_weights if is_best else copy_weights(training.kept_model)
    with atomic_path(job.weights_path) as path:
        write_weights(path, network=job.network, input=job.input, state_dict=weights)
    with atomic_path(job.history_path) as path:
        _write_history(path, training.history)
    with atomic_path(job.summary_path) as path:
        _write_summary(
            path,
            training=training,
            best_epoch=training.best_epoch if is_best else training.epoch,
            settings=settings,
            threads=job.threads,
            device=device,
            device_override=is_overridden(gpu=job.gpu),
            weights_sha256=file_digest(job.weights_path),
        )
    remove_checkpoints(job.weights_path)


def count_steps(images: ImageSet, *, train: TrainSettings, is_recurrent: bool) -> int:
    """Count the steps of an epoch."""
    return windows_per_epoch(images, train=train) if is_recurrent else steps_per_epoch(len(images), train=train)


def _count_workers(threads: int, *, device: torch.device) -> int:
    if device.type == "cuda":
        return min(threads, MAX_WORKERS)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(cores > threads)


def _batches_of(images: ImageSet, *, settings: dict[str, Any], training: Training, workers: int) -> Iterator[Batch]:
    """Yield the remaining batches of the current epoch."""
    make = iterate_windows if training.model.is_recurrent else iterate_batches
    yield from make(
        images,
        train=settings["train"],
        seed=settings["seed"],
        epoch=training.epoch,
        first_step=training.step,
        workers=workers,
        team=training.stepper.team,
    )


def _make_stepper(model: nn.Module, *, team: Team, device: torch.device, output: str, train: TrainSettings) -> Stepper:
    model.to(device)
    if train["channels_last"]:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    wrapped = team.wrap(model, device=device)
    return Stepper(
        model=torch.compile(wrapped) if train["compile"] and device.type == "cuda" else wrapped,  # type: ignore[arg-type]
        bare_model=model,
        optimiser=build_optimiser(model, optimiser=train["optimiser"]),
        device=device,
        output=output,
        train=train,
        averaged=None if train["ema"] is None else copy.deepcopy(model),
        team=team,
    )


def _load_start(model: nn.Module, path: str | Path, *, init_weights: str) -> None:
    state = read_weights(path)["state_dict"]
    if init_weights == "all":
        load_weights(model, state, source=path)
        logger.info("starts from the weights of %s", path)
        return
    taken, left = load_matching(model, state, source=path)
    logger.info("starts from %d of the weights of %s; drawn anew: %s", len(taken), path, "; ".join(left) or "none")


def restart_statistics(model: nn.Module) -> None:
    """Reset the running statistics of batch normalisation, so that they become means over the following steps.

    The usual exponential mean covers about ten steps. With few patches per step, from images that differ, it
    fluctuates so much that scores vary between epochs even at a learning rate of nearly zero. Layers with a momentum,
    set because their paper specifies it, are left alone. # SOURCE Wu and Johnson
    2021, arXiv:2105.07576, section 3, which recomputes them separately; here training steps do so at no extra cost.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.momentum is None:
            module.reset_running_stats()


def _open_images(
    folders: dict[str, Sequence[str | Path]], *, settings: dict[str, Any], seen: dict[str, Any]
) -> tuple[ImageSet, ImageSet]:
    train = settings["train"]
    found = find_labelled_images(folders["train_images"], folders["train_labels"])
    chosen = find_labelled_images(folders["validation_images"], folders["validation_labels"])
    if not found:
        raise ValueError(
            "train: expected labelled training images, found none. Label some, or raise split.train in the config."
        )
    if not chosen and (train["select"] == "best" or train["patience"] is not None):
        raise ValueError(
            "train: expected validation images to choose the best epoch on, found none. "
            "Raise split.validation, or set train.select: last and leave out train.patience in the config."
        )
    around = find_images(folders["around_images"])
    some = choose_images(chosen, limit=train["validation_images"], seed=settings["seed"])
    names = {image.sample for image in some}
    given = {
        "input": settings["input"],
        "output": settings["network"]["output"],
        "loss": train["loss"],
        **seen,
    }
    others = [image for image in chosen if image.sample not in names]
    return ImageSet(found, around=around, **given), ImageSet(some, around=[*around, *others], **given)


def _check_finite(loss: float, *, epoch: int, rate: float, samples: list[str]) -> None:
    if not math.isfinite(loss):
        raise ValueError(
            f"train: expected a finite loss, found {loss} in epoch {epoch + 1} at learning rate {rate:g} "
            f"on the images {', '.join(samples)}. Look at these images, or lower train.optimiser.learning_rate."
        )


def _log_start(
    model: nn.Module,
    *,
    images: ImageSet,
    validation: ImageSet,
    steps: int,
    epochs: int,
    device: torch.device,
    team: Team,
) -> None:
    logger.info(
        "%s parameters, %d training and %d validation images, %d epochs of %d steps, device %s %s%s",
        f"{count_parameters(model):,}", len(images), len(validation), epochs, steps, device, name_gpu(device),
        f", one of {team.size}" if team.size > 1 else "",
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
    weights_sha256: str,
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
        "gpus": training.stepper.team.size if device.type == "cuda" else 0,
        "parts_of_a_batch": training.stepper.parts,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "weights_sha256": weights_sha256,
        "seed": settings["seed"],
        "settings": {name: settings[name] for name in ("network", "input", "train")},
        "versions": package_versions(),
    }
    path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
