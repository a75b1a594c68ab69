"""Stage `train`: train a network on labelled images.

Reads   images and labels of training and validation shards   float32 YX, and label images in raw geometry
Writes  weights.pt, history.csv, train.json                   weights, one row per epoch, summary of the training
        choices.json                                          settings that the training images decided, and why
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cellmill.device import choose_device, is_overridden, make_repeatable, name_gpu, peak_memory_mb
from cellmill.inference.views import InputSettings, SettledInput
from cellmill.models.choices import Choice, has_left_start, write_choices
from cellmill.models.registry import NetworkSettings, build_network, count_parameters
from cellmill.models.weights import write_weights
from cellmill.runlog import package_versions
from cellmill.shards import atomic_path, file_digest
from cellmill.training.batches import TrainSettings
from cellmill.training.budget import count_least_steps, find_steps, fix_steps, measure_costs, report_lateness
from cellmill.training.checkpoints import (
    Checkpoint,
    StopRequest,
    checkpoint_key,
    checkpoint_path,
    remove_checkpoints,
    stop_requests,
)
from cellmill.training.choosing import settle_input
from cellmill.training.imagesets import ImageSet, open_images
from cellmill.training.lengths import Length, describe_source
from cellmill.training.losses import check_finite
from cellmill.training.optimisers import learning_rate_at, set_learning_rate
from cellmill.training.starting import OPEN, WITHOUT_START, choose_start, explain_normalisation, offer_normalisation
from cellmill.training.state import Training, copy_weights, load_initial_weights, write_history
from cellmill.training.stepping import STATISTICS_STEPS, build_stepper, restart_statistics
from cellmill.training.team import Team, form_team, plan_team
from cellmill.training.validation import validate
from cellmill.training.watching import Watcher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Arguments of `train_model`, passed to each member of a team."""

    weights_path: str | Path
    history_path: str | Path
    summary_path: str | Path
    choices_path: str | Path
    train_images: Sequence[str | Path]
    train_labels: Sequence[str | Path]
    validation_images: Sequence[str | Path]
    validation_labels: Sequence[str | Path]
    around_images: Sequence[str | Path]
    network: NetworkSettings
    input: SettledInput
    train: TrainSettings
    seed: int
    init_from: str | Path | None
    init_weights: str
    passages: Sequence[Sequence[str]] | None
    classes: Mapping[str, str] | None
    pixel_size_um: float | None
    threads: int
    gpu: int
    code: dict[str, str]

    @property
    def shards(self) -> dict[str, Sequence[str | Path]]:
        """Shard folders by their role in the training."""
        return {
            "train_images": self.train_images,
            "train_labels": self.train_labels,
            "validation_images": self.validation_images,
            "validation_labels": self.validation_labels,
            "around_images": self.around_images,
        }

    def key(self) -> str:
        """Compute the digest of everything that determines the result: the checkpoint's key."""
        settings = {
            "network": self.network,
            "input": self.input,
            "train": self.train,
            "seed": self.seed,
            "passages": self.passages,
            "classes": self.classes,
            "pixel_size_um": self.pixel_size_um,
            "init_from": None if self.init_from is None else file_digest(self.init_from),
            "init_weights": self.init_weights,
        }
        return checkpoint_key(settings=settings, code=self.code, shards=self.shards)


def train_model(
    *,
    weights_path: str | Path,
    history_path: str | Path,
    summary_path: str | Path,
    choices_path: str | Path,
    train_images: Sequence[str | Path],
    train_labels: Sequence[str | Path],
    validation_images: Sequence[str | Path],
    validation_labels: Sequence[str | Path],
    around_images: Sequence[str | Path],
    network: NetworkSettings,
    input: InputSettings,
    train: TrainSettings,
    seed: int,
    init_from: str | Path | None,
    init_weights: str,
    passages: Sequence[Sequence[str]] | None,
    classes: Mapping[str, str] | None,
    pixel_size_um: float | None,
    threads: int,
    gpu: int,
    code: dict[str, str],
) -> None:
    """Train one network on the GPUs of the job, resuming from its checkpoint if there is one.

    Parameters
    ----------
    weights_path, history_path, summary_path, choices_path : path
        Output files: weights.pt, history.csv, train.json, choices.json.
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
    init_weights : "all", "matching" or "alike"
        Whether all of these weights must fit the network, or those that do not are left out. alike: all must fit, and
        the training starts from them only if they find the foreground of the training images already.
    passages : sequence of sequences of str, or None
        Unbroken runs of frames in order, for networks with temporal context.
    classes : mapping or None
        Class of each image, for networks that take it as input.
    pixel_size_um : float or None
        Edge length of a pixel of the raw images; None: from the metadata of each image. Used for the working scale.
    threads, gpu : int
        Resources of the job; not part of the checkpoint's key.
    code : dict
        Digests of the modules that affect the result; part of the checkpoint's key.

    Raises
    ------
    ValueError
        If there are no training images, or no validation images although the settings need them. If initial weights
        do not fit, or a loss is not finite. If more GPUs are requested than exist or than a batch has patches. If
        `train.minutes` is too short for a useful training.
    Stopped
        After SIGTERM, SIGUSR1 or SIGINT, or after snakemake has stopped, once the checkpoint is saved.
    """
    job = Job(
        weights_path=weights_path,
        history_path=history_path,
        summary_path=summary_path,
        choices_path=choices_path,
        train_images=train_images,
        train_labels=train_labels,
        validation_images=validation_images,
        validation_labels=validation_labels,
        around_images=around_images,
        network=network,
        input={**input},
        train=train,
        seed=seed,
        init_from=init_from,
        init_weights=init_weights,
        passages=passages,
        classes=classes,
        pixel_size_um=pixel_size_um,
        threads=threads,
        gpu=gpu,
        code=code,
    )
    size, kind = plan_team(gpu=gpu, batch=int(train["batch"]))
    with form_team(size, train_member, {"job": job}, kind=kind) as team:
        train_member(team=team, job=job)


def train_member(*, team: Team, job: Job) -> None:
    """Train as one member of a team; the first member validates and writes the files."""
    job, choices, images, validation, training, checkpoint = prepare(job, team=team)
    model, stepper = training.model, training.stepper
    length = training.plan_length(images)
    with stop_requests() as stop, Watcher(job.weights_path, rank=team.member) as watcher:
        if training.lacks_scores_of_start():
            scores = score(training, validation, job=job, team=team, stop=stop)
            stop.obey()
            if scores is not None:
                watcher.note_start(training.record_start(scores))
        while not training.is_done(epochs=length.epochs, patience=job.train["patience"]):
            epoch, steps = training.epoch, length.of(training.epoch)
            model.train()
            for batch in training.remaining_batches(images, seed=job.seed, threads=job.threads):
                rate = learning_rate_at(length.progress(epoch, training.step), train=job.train)
                set_learning_rate(stepper.optimiser, rate)
                if training.step == max(0, steps - STATISTICS_STEPS):
                    restart_statistics(model)
                loss = stepper.take(batch)
                check_finite(loss, epoch=epoch, rate=rate, samples=batch.samples)
                training.add_step(loss, patches=batch.patches)
                watcher.note_step(training, length=length, rate=rate)
                if checkpoint.is_due(stop, team=team):
                    checkpoint.save(training.state(), team=team)
                    stop.obey()

            scores = score(training, validation, job=job, team=team, stop=stop)
            # A signal during validation leaves the epoch unfinished, and the next run validates again.
            if not stop.agree(team):
                # An interruption may have come between the last step, which had this rate, and the validation.
                rate = learning_rate_at(length.progress(epoch, steps - 1), train=job.train)
                if scores is not None:
                    check_finite(scores[0], epoch=epoch, rate=rate, samples=None)
                row = training.close_epoch(rate=rate, validation=scores)
                watcher.note_epoch(row, length=length)
            checkpoint.save(training.state(), team=team)
            stop.obey()
    if team.leads:
        write_outputs(training, job=job, length=length, choices=choices)
        report_lateness(seconds=training.read_clock() + training.measuring_s, minutes=job.train["minutes"])
        # A snakemake that was stopped deletes the outputs; the next one then writes them from the checkpoint.
        if not stop.is_made():
            remove_checkpoints(job.weights_path)


def score(
    training: Training, validation: ImageSet, *, job: Job, team: Team, stop: StopRequest
) -> tuple[float, float] | None:
    """Validate the current weights on the first member of a team, and share loss and Dice coefficient with all.

    Returns
    -------
    tuple of float, or None
        None without validation images, or after a stop signal.
    """
    scores, device = None, training.stepper.device
    if team.leads:
        scores = validate(training.kept_model, validation, warmup=int(job.input["warmup"]), device=device, stop=stop)
    shared: tuple[float, float] | None = None if stop.agree(team) else team.share(scores)
    return shared


def prepare(job: Job, *, team: Team) -> tuple[Job, list[Choice], ImageSet, ImageSet, Training, Checkpoint]:
    """Open the images, choose what the preset leaves open, build the network, and restore a checkpoint.

    Returns
    -------
    job, choices
        The job with the chosen input settings, and the choices.
    images, validation
        Images to train and to validate on, at their working scale.
    training, checkpoint
    """
    # The key of the checkpoint contains the settings of the config; choices follow from them and from the images.
    key = job.key()
    device = choose_device(gpu=job.gpu)
    if team.size > 1 and device.type == "cuda":
        device = torch.device("cuda", team.member)
    torch.set_num_threads(job.threads)
    make_repeatable(device=device, seed=job.seed, deterministic=job.train["deterministic"])
    output = job.network["output"]
    is_open = job.input["normalise"] == OPEN
    offered = offer_normalisation(job.input["normalise"], path=job.init_from)
    job = replace(job, input={**job.input, "normalise": offered})
    images, validation = open_images(
        **job.shards,
        input=job.input,
        output=output,
        loss=job.train["loss"],
        needs_validation=job.train["select"] == "best" or job.train["patience"] is not None,
        limit=job.train["validation_images"],
        passages=job.passages,
        classes=job.classes,
        seed=job.seed,
    )
    settled, choices = settle_input(
        images, validation, input=job.input, pixel_size_um=job.pixel_size_um, is_sequential=job.passages is not None,
        can_look=output == "flow",
    )  # fmt: skip
    job = replace(job, input=settled)
    model = build_network(job.network)
    checkpoint = Checkpoint(checkpoint_path(job.weights_path, key=key))
    state = checkpoint.load()
    start = settle_start(model, images, job=job, state=state, device=device, team=team)
    choices += [] if start is None else [start]
    has_start = job.init_from is not None and not has_left_start(choices)
    if is_open:
        source = job.init_from
        if has_left_start(choices):
            source = None
            job = replace(job, input={**job.input, "normalise": WITHOUT_START})
            for part in (images, validation):
                part.normalise_by(WITHOUT_START)
        choices.append(explain_normalisation(job.input["normalise"], path=source))
    train, measuring_s = settle_length(
        model, images, validation, job=job, state=state, has_start=has_start, checkpoint=checkpoint, device=device,
        team=team,
    )  # fmt: skip
    training = Training(build_stepper(model, device=device, output=output, train=train, team=team))
    training.start = None if start is None else asdict(start)
    training.has_start = has_start
    if team.size > 1:
        # Each member draws different dropout; all of them start with the weights of the first member.
        torch.manual_seed(job.seed + team.member)
    if state is not None:
        training.restore(state)
    elif job.train["minutes"] is not None:
        # A training that is interrupted at any moment keeps its length.
        training.measuring_s = measuring_s
        checkpoint.save(training.state(), team=team)
    logger.info(
        "%s parameters, %d training and %d validation images, %s, %s on device %s%s",
        f"{count_parameters(model):,}", len(images), len(validation), training.plan_length(images),
        training.stepper.precision, f"{device} {name_gpu(device)}".strip(),
        f", process {team.member + 1} of {team.size}" if team.size > 1 else "",
    )  # fmt: skip
    return job, choices, images, validation, training, checkpoint


def settle_start(
    model: nn.Module,
    images: ImageSet,
    *,
    job: Job,
    state: Mapping[str, Any] | None,
    device: torch.device,
    team: Team,
) -> Choice | None:
    """Load the weights that the training starts from.

    Returns
    -------
    Choice or None
        Whether the training starts from the offered model; a training that continues keeps its choice. None if nothing
        was to be chosen.
    """
    if state is not None:
        return None if state["start"] is None else Choice(**state["start"])
    if job.init_from is None:
        return None
    if job.init_weights != "alike":
        load_initial_weights(model, job.init_from, init_weights=job.init_weights)
        return None
    start: Choice = team.share(choose_start(model, images, path=job.init_from, device=device))
    if start.value is not None:
        load_initial_weights(model, job.init_from, init_weights="all")
    return start


def settle_length(
    model: nn.Module,
    images: ImageSet,
    validation: ImageSet,
    *,
    job: Job,
    state: Mapping[str, Any] | None,
    has_start: bool,
    checkpoint: Checkpoint,
    device: torch.device,
    team: Team,
) -> tuple[TrainSettings, float]:
    """Return the settings of the training, with a number of steps in place of minutes, and the time (s) to find it."""
    if job.train["minutes"] is None:
        return job.train, 0.0
    if state is not None:
        return fix_steps(job.train, steps=state["steps"]), state["measuring_s"]
    costs = measure_costs(
        model,
        images=images,
        validation=validation,
        train=job.train,
        warmup=int(job.input["warmup"]),
        seed=job.seed,
        threads=job.threads,
        device=device,
        checkpoint=checkpoint,
        team=team,
    )
    if has_start:  # which is validated as well
        costs = replace(costs, start_s=costs.start_s + costs.validation_s)
    pass_steps = count_least_steps(images, train=job.train, is_recurrent=bool(model.is_recurrent))
    return fix_steps(job.train, steps=find_steps(costs, train=job.train, pass_steps=pass_steps)), costs.measuring_s


def write_outputs(training: Training, *, job: Job, length: Length, choices: Sequence[Choice]) -> None:
    """Write weights, history, summary and choices of a finished training."""
    is_best = job.train["select"] == "best"
    weights = training.best_weights if is_best else copy_weights(training.kept_model)
    with atomic_path(job.weights_path) as path:
        write_weights(path, network=job.network, input=job.input, state_dict=weights)
    with atomic_path(job.history_path) as path:
        write_history(path, training.history)
    best_epoch = training.best_epoch if is_best else training.epoch
    if training.has_start and best_epoch == 0:
        logger.warning(
            "no epoch has a lower validation loss than the start, %s: its weights are kept. To use the model as it is, "
            "name it in apply; to train on, add annotated images or lower train.optimiser.learning_rate.",
            job.init_from,
        )  # fmt: skip
    summary = summarize(training, job=job, length=length, best_epoch=best_epoch)
    with atomic_path(job.summary_path) as path:
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if (minutes := job.train["minutes"]) is not None:
        because = f"as many as take {minutes:g} min at the speed measured on this machine"
        choices = [*choices, Choice("train.steps", length.steps, because)]
    with atomic_path(job.choices_path) as path:
        write_choices(path, choices)


def summarize(training: Training, *, job: Job, length: Length, best_epoch: int) -> dict[str, Any]:
    """Return the content of train.json: what was trained, how, on which device, and for how long."""
    device = training.stepper.device
    return {
        "parameters": count_parameters(training.model),
        "receptive_field_px": training.model.receptive_field_px,
        "steps": length.steps,
        "steps_from": describe_source(job.train),
        "steps_done": training.steps_done,
        "epochs_done": training.epoch,
        "best_epoch": best_epoch,
        "seconds": round(training.read_clock() + training.measuring_s, 3),
        "measuring_seconds": round(training.measuring_s, 3),
        "device": device.type,
        "device_override": is_overridden(gpu=job.gpu),
        "gpu_name": name_gpu(device),
        "precision": training.stepper.precision,
        "threads": job.threads,
        "gpus": training.stepper.team.size if device.type == "cuda" else 0,
        "parts_of_a_batch": training.stepper.parts,
        "peak_memory_mb": round(peak_memory_mb(), 1),
        "weights_sha256": file_digest(job.weights_path),
        "seed": job.seed,
        "settings": {"network": job.network, "input": job.input, "train": job.train},
        "versions": package_versions(),
    }
