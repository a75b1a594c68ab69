"""Validation during training: loss and Dice coefficient on whole images, used to choose the best epoch."""

import math
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from cellmill.inference.tiling import predict_passage, predict_tiled
from cellmill.models.outputs import to_probabilities
from cellmill.training.checkpoints import StopRequest
from cellmill.training.imagesets import ImageSet
from cellmill.training.losses import IGNORED_TARGET, Truth, measure_loss
from cellmill.training.targets import Target

# Larger validation images are predicted in tiles; this does not change the scores.
VALIDATION_TILE_PX = (1024, 1024)

# The grey values of flow directions lie between .29 and .71; the threshold is halfway between 0 and the darkest.
FOREGROUND_FROM = {"flow_gray": 0.15}


class _InterruptedError(Exception):
    """Stop signal received in the middle of an image."""


def validate(
    model: nn.Module, images: ImageSet, *, warmup: int, device: torch.device, stop: StopRequest
) -> tuple[float, float] | None:
    """Compute loss and Dice coefficient on whole images.

    Parameters
    ----------
    model : nn.Module
        Set to evaluation mode: running statistics, no dropout.
    images : ImageSet
        Validation images, with the network's output and the loss.
    warmup : int
        Recurrent networks only, as for prediction.
    device : torch.device
        Device of the model.
    stop : StopRequest
        Checked between tiles; a stop signal ends the validation.

    Returns
    -------
    (loss, dice) : tuple of float, or None
        Means over images; Dice at probability .5 (grey value .15), NaN if truth and prediction of all images are
        empty. None without images, or after a stop signal.
    """
    model.eval()

    def finish(logits_bcyx: Tensor) -> Tensor:
        if stop.is_made():
            raise _InterruptedError
        return logits_bcyx.float()

    losses, dices = [], []
    try:
        if model.is_recurrent:
            predicted = _predict_passages(model, images, warmup=warmup, device=device, finish=finish)
        else:
            predicted = _predict_images(model, images, device=device, finish=finish)
        for index, logits_cyx in predicted:
            loss, dice = _score(logits_cyx, images.target(index), images=images)
            losses.append(loss)
            if dice is not None:
                dices.append(dice)
    except _InterruptedError:
        return None
    if not losses:
        return None
    return sum(losses) / len(losses), sum(dices) / len(dices) if dices else math.nan


def _predict_images(
    model: nn.Module, images: ImageSet, *, device: torch.device, finish: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the logits of each image, predicted by a feed-forward network."""
    for index in range(len(images)):
        logits_cyx = predict_tiled(
            model, images.view(index), tile=VALIDATION_TILE_PX, batch=1, device=device, finish=finish
        )
        yield index, logits_cyx


def _predict_passages(
    model: nn.Module, images: ImageSet, *, warmup: int, device: torch.device, finish: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the logits of each labelled frame, predicted by a recurrent network."""
    for whole in images.passages:
        # As for prediction, frames after the last labelled one are not predicted.
        passage = whole[: max(place for place, frame in enumerate(whole) if isinstance(frame, int)) + 1]
        views = [images.view(frame) if isinstance(frame, int) else images.view_around(frame) for frame in passage]
        with tempfile.TemporaryDirectory() as scratch_dir:
            logits_tcyx = predict_passage(
                model,
                views,
                warmup=warmup,
                tile=VALIDATION_TILE_PX,
                batch=1,
                device=device,
                finish=finish,
                scratch_dir=scratch_dir,
            )
            for frame, logits_cyx in zip(passage, logits_tcyx, strict=True):
                if isinstance(frame, int):
                    yield frame, logits_cyx


def _score(logits_cyx: np.ndarray, target: Target, *, images: ImageSet) -> tuple[float, float | None]:
    """Return loss and Dice of one image; Dice is None if truth and prediction are empty."""
    logits_bcyx = torch.from_numpy(np.ascontiguousarray(logits_cyx))[None]
    truth = Truth(
        torch.from_numpy(target.classes_yx)[None],
        None if target.values_cyx is None else torch.from_numpy(target.values_cyx)[None],
        None if target.weights_yx is None else torch.from_numpy(target.weights_yx)[None],
    )
    loss, _ = measure_loss(logits_bcyx, truth, output=images.output, loss=images.loss)
    threshold = FOREGROUND_FROM.get(images.output, 0.5)
    is_object_byx = to_probabilities(logits_bcyx, output=images.output)[:, 0] >= threshold
    predicted_byx = is_object_byx & (truth.classes_byx != IGNORED_TARGET)
    truth_byx = truth.classes_byx == 1
    total = int(predicted_byx.sum() + truth_byx.sum())
    return loss.item(), 2 * int((predicted_byx & truth_byx).sum()) / total if total else None
