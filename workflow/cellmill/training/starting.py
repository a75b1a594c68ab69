"""Decide whether a training starts from the weights of a shipped model: if these find its objects already.

A preset may leave the normalisation of images open. It is then that of the weights which the training starts from.
"""

import copy
import logging
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cellmill.images.stored import IGNORE_LABEL
from cellmill.inference.normalise import mirror
from cellmill.models.choices import START, Choice
from cellmill.models.outputs import to_probabilities
from cellmill.models.weights import EXPORTED_NAME, load_weights, read_one_network, read_weights
from cellmill.training.imagesets import ImageSet, as_labels, choose_images
from cellmill.training.validation import FOREGROUND_FROM

logger = logging.getLogger(__name__)

# Training images that are looked at, and the window in the middle of each, px at the working scale. The sides are
# multiples of what any network needs.
MOST_IMAGES = 12
WINDOW_PX = 512

# Value of `input.normalise` that is settled here, and what it becomes with random weights
OPEN, WITHOUT_START = "auto", "zscore"

# Weights that reach this mean Dice coefficient of the foreground are a better start than random ones.
LEAST_DICE = 0.7


def offer_normalisation(normalise: str, *, path: str | Path | None) -> str:
    """Return the normalisation that a training has if it starts from the weights of a file; None: from random ones."""
    if normalise != OPEN:
        return normalise
    return WITHOUT_START if path is None else str(read_weights(path)["input"]["normalise"])


def explain_normalisation(normalise: str, *, path: str | Path | None) -> Choice:
    """Return the choice of a normalisation that was open, for a training that starts from the weights of a file."""
    because = "the training starts from random weights"
    if path is not None:
        # A shipped or exported model is called by its file, another run by its folder.
        name = Path(path).parent.name if Path(path).name == EXPORTED_NAME else Path(path).stem
        because = f"the training starts from {name}, which was trained with it"
    choice = Choice("input.normalise", normalise, because)
    logger.info("%s: %s, because %s", choice.key, choice.value, choice.because)
    return choice


def choose_start(model: nn.Module, images: ImageSet, *, path: str | Path, device: torch.device) -> Choice:
    """Compare the foreground that a shipped model finds in training images with their annotations.

    Parameters
    ----------
    model : nn.Module
        Of the same architecture; it is not changed.
    images : ImageSet
        The training images, at their working scale. At most 12 of them are used, the same for all seeds.
    path : path
        The shipped model.
    device : torch.device
        Where the model is applied.

    Returns
    -------
    Choice
        Its value is the name of the shipped model, or None if the training should start from random weights.
    """
    name = Path(path).stem
    trial = copy.deepcopy(model)
    load_weights(trial, read_one_network(path), source=path)
    trial.eval().to(device)
    chosen = choose_images(images.images, limit=MOST_IMAGES, seed=0)
    numbers = {image.sample: number for number, image in enumerate(images.images)}
    scores = [_score(trial, images, numbers[image.sample], device=device) for image in chosen]
    known = [score for score in scores if score is not None]
    mean = float(np.mean(known)) if known else 0.0
    is_taken = mean >= LEAST_DICE
    because = (
        f"in {len(known)} training images, the foreground that {name} finds has a mean Dice coefficient of {mean:.2f}; "
        f"a start needs at least {LEAST_DICE:g}"
        if known
        else "the parts of training images that were looked at contain no annotated object"
    )
    choice = Choice(START, name if is_taken else None, because)
    logger.info("%s: %s, because %s", choice.key, choice.value or "random weights", choice.because)
    return choice


@torch.inference_mode()
def _score(model: nn.Module, images: ImageSet, number: int, *, device: torch.device) -> float | None:
    """Return the Dice coefficient of the foreground in the middle of an image; None without annotated objects."""
    view, (labels_yx, _) = images.view(number), images.truth(number)
    labels_yx = as_labels(labels_yx)
    stride = int(model.stride_px)  # type: ignore[arg-type]
    starts = [max(0, (size - WINDOW_PX) // 2) for size in view.shape]
    sizes = [min(size, WINDOW_PX) for size in view.shape]
    rows, columns = (
        mirror(start, -(-size // stride) * stride, whole)
        for start, size, whole in zip(starts, sizes, view.shape, strict=True)
    )
    window_bcyx = torch.from_numpy(view.read(rows, columns))[None].to(device)
    view.release_pages()
    maps_cyx = to_probabilities(model(window_bcyx), output=images.output)[0].cpu().numpy()
    inside = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    truth_yx = labels_yx[inside]
    is_known_yx = truth_yx != IGNORE_LABEL
    is_object_yx = (truth_yx > 0) & is_known_yx
    if not is_object_yx.any():
        return None
    is_found_yx = (maps_cyx[0, : sizes[0], : sizes[1]] >= FOREGROUND_FROM.get(images.output, 0.5)) & is_known_yx
    return float(2 * (is_object_yx & is_found_yx).sum() / (is_object_yx.sum() + is_found_yx.sum()))
