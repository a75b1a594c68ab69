"""Loss functions on logits that exclude ignored pixels, and the check that a loss is finite.

Axes     b batch, c channels, y rows, x columns
Classes  0 background, 1 foreground, 2 contour, IGNORED_TARGET where the truth is unknown: padding and ignored labels
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as functional
from torch import Tensor

from cellmill.models.outputs import FLOW_SCALE, OUTPUT_CHANNELS, foreground_logit

IGNORED_TARGET = 255

# Added to numerator and denominator of the Dice coefficient: an empty patch predicted as empty has loss 0, not 0/0.
DICE_SMOOTHING_PX = 1.0

# Outputs that each loss is defined for. The config reads this declaration and proposes the losses in this order.
OUTPUTS_OF_LOSS: dict[str, tuple[str, ...]] = {
    "ce": ("two_classes", "contour"),
    "bce": ("foreground", "two_classes"),
    "dice": ("foreground", "two_classes"),
    "bce_dice": ("foreground", "two_classes"),
    "focal": ("foreground", "two_classes"),
    "mse": ("flow_gray",),
    "distance": ("distance",),
    "flow": ("flow",),
}


class DistanceSettings(TypedDict):
    """Section `train.loss.distance` of a preset."""

    weight: float
    sigma_px: float
    factor: int
    reading: str
    inside: bool


class LossSettings(TypedDict):
    """Section `train.loss` of a preset."""

    name: str
    positive_weight: float
    class_weights: list[float] | None
    normaliser: str
    gamma: float
    distance: DistanceSettings | None


@dataclass(frozen=True)
class Truth:
    """Ground truth of a batch: the arrays of `cellmill.training.targets.Target` as stacked tensors."""

    classes_byx: Tensor  # uint8
    values_bcyx: Tensor | None  # float32
    weights_byx: Tensor | None  # float32

    def to(self, device: torch.device) -> "Truth":
        """Copy everything to a device."""
        return Truth(*(None if part is None else part.to(device) for part in self._parts()))  # type: ignore[arg-type]

    def __getitem__(self, patches: slice) -> "Truth":
        """Return some patches of the batch."""
        return Truth(*(None if part is None else part[patches] for part in self._parts()))  # type: ignore[arg-type]

    def _parts(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        return self.classes_byx, self.values_bcyx, self.weights_byx


def measure_loss(logits_bcyx: Tensor, truth: Truth, *, output: str, loss: LossSettings) -> tuple[Tensor, Tensor]:
    """Compute the loss of a batch.

    Parameters
    ----------
    logits_bcyx : Tensor of any float, shape (batch, channels, rows, columns)
        Output of a network; converted to float32.
    truth : Truth
        Ground truth of the same batch, rows and columns.
    output : str
        `network.output` of a preset.
    loss : LossSettings

    Returns
    -------
    loss : Tensor of float32
        Scalar; 0 if every pixel is ignored.
    weight : Tensor of float32
        Scalar: the divisor of the sum over pixels. The loss of a batch is the mean of the losses of its parts, weighted
        with this number. For losses with Dice, which is not a sum over pixels, the number of patches that are not
        entirely ignored; the weighted mean of parts then only approximates the whole. 0 if every pixel is ignored.
    """
    name = loss["name"]
    assert output in OUTPUTS_OF_LOSS[name], (name, output)
    assert logits_bcyx.shape[1] == OUTPUT_CHANNELS[output], (logits_bcyx.shape, output)
    logits_bcyx = logits_bcyx.float()
    valid_byx = truth.classes_byx != IGNORED_TARGET
    if name == "ce":
        weights_byx = _pixel_weights(truth, valid_byx, loss=loss)
        return weighted_ce(logits_bcyx, truth.classes_byx, weights_byx, valid_byx, normaliser=loss["normaliser"])
    pixels = valid_byx.sum().float()
    if name == "mse":
        return half_mean_square(logits_bcyx, _values_of(truth), valid_byx), pixels

    logits_byx = foreground_logit(logits_bcyx, output=output)
    truth_byx = (truth.classes_byx == 1).to(logits_byx.dtype)
    positive_weight = float(loss["positive_weight"])
    if name == "focal":
        gamma = float(loss["gamma"])
        return focal(logits_byx, truth_byx, valid_byx, positive_weight=positive_weight, gamma=gamma), pixels
    parts = []
    if name in ("bce", "bce_dice", "distance", "flow"):
        parts.append(weighted_bce(logits_byx, truth_byx, valid_byx, positive_weight=positive_weight))
    if name in ("dice", "bce_dice"):
        parts.append(soft_dice(logits_byx, truth_byx, valid_byx))
        pixels = valid_byx.flatten(1).any(dim=1).sum().float()
    if name in ("distance", "flow"):
        scale = FLOW_SCALE if name == "flow" else 1.0
        parts.append(half_mean_square(logits_bcyx[:, 1:], scale * _values_of(truth), valid_byx))
    return torch.stack(parts).sum(), pixels


def weighted_bce(logits_byx: Tensor, truth_byx: Tensor, valid_byx: Tensor, *, positive_weight: float) -> Tensor:
    """Compute the mean binary cross-entropy of valid pixels; foreground pixels are weighted by `positive_weight`.

    The divisor is the number of valid pixels, not the sum of weights, as in BCEWithLogitsLoss(pos_weight).
    """
    per_pixel_byx = functional.binary_cross_entropy_with_logits(
        logits_byx, truth_byx, pos_weight=logits_byx.new_tensor(positive_weight), reduction="none"
    )
    return _mean_over(per_pixel_byx, valid_byx)


def soft_dice(logits_byx: Tensor, truth_byx: Tensor, valid_byx: Tensor) -> Tensor:
    """Compute one minus the Dice coefficient of probabilities, over the valid pixels of the whole batch.

    # SOURCE Milletari et al. 2016, doi:10.1109/3DV.2016.79, with a sum instead of squares in the divisor
    """
    probability_byx = torch.where(valid_byx, logits_byx.sigmoid(), 0.0)
    truth_byx = torch.where(valid_byx, truth_byx, 0.0)
    shared = (probability_byx * truth_byx).sum()
    total = probability_byx.sum() + truth_byx.sum()
    return 1 - (2 * shared + DICE_SMOOTHING_PX) / (total + DICE_SMOOTHING_PX)


def focal(logits_byx: Tensor, truth_byx: Tensor, valid_byx: Tensor, *, positive_weight: float, gamma: float) -> Tensor:
    """Compute the mean over valid pixels of cross-entropy times (1 - p)**gamma, p the probability of the true class.

    Foreground pixels are weighted by `positive_weight`; gamma 0 is `weighted_bce`.

    # SOURCE Lin et al. 2017, doi:10.1109/ICCV.2017.324, whose alpha / (1 - alpha) is the positive weight, and whose
    # divisor is the number of foreground anchors
    """
    is_foreground_byx = truth_byx > 0
    towards_truth_byx = torch.where(is_foreground_byx, logits_byx, -logits_byx)
    # For gamma below 1 a power of 1 - p has an infinite gradient at 0; the exponential of its logarithm does not.
    share_byx = (gamma * functional.logsigmoid(-towards_truth_byx)).exp()
    per_pixel_byx = -share_byx * functional.logsigmoid(towards_truth_byx)
    return _mean_over(torch.where(is_foreground_byx, positive_weight * per_pixel_byx, per_pixel_byx), valid_byx)


def weighted_ce(
    logits_bcyx: Tensor, classes_byx: Tensor, weights_byx: Tensor, valid_byx: Tensor, *, normaliser: str
) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropy of classes with a weight for each pixel.

    Parameters
    ----------
    logits_bcyx : Tensor of float32
        One channel per class.
    classes_byx : Tensor of uint8
        True class of each pixel.
    weights_byx : Tensor of float32
        0 at ignored pixels.
    valid_byx : Tensor of bool
        False at ignored pixels.
    normaliser : "pixels" or "weights"
        Divisor of the weighted sum: the number of valid pixels, or the sum of weights as in torch's cross_entropy.

    Returns
    -------
    loss, weight : Tensors of float32
        The quotient and its divisor.
    """
    classes_byx = torch.where(valid_byx, classes_byx, torch.zeros_like(classes_byx)).long()
    per_pixel_byx = functional.cross_entropy(logits_bcyx, classes_byx, reduction="none")
    total = (weights_byx * per_pixel_byx).sum()
    divisor = valid_byx.sum().float() if normaliser == "pixels" else weights_byx.sum()
    return total / torch.where(divisor > 0, divisor, 1.0), divisor


def half_mean_square(values_bcyx: Tensor, truth_bcyx: Tensor, valid_byx: Tensor) -> Tensor:
    """Compute half the squared difference, averaged over channels and valid pixels.

    # SOURCE paper 4, equation 4: the factor 1/2
    """
    return _mean_over(0.5 * (values_bcyx - truth_bcyx).square().mean(dim=1), valid_byx)


def _mean_over(per_pixel_byx: Tensor, valid_byx: Tensor) -> Tensor:
    return torch.where(valid_byx, per_pixel_byx, 0.0).sum() / valid_byx.sum().clamp(min=1)


def _values_of(truth: Truth) -> Tensor:
    assert truth.values_bcyx is not None
    return truth.values_bcyx


def _pixel_weights(truth: Truth, valid_byx: Tensor, *, loss: LossSettings) -> Tensor:
    """Compute the weight of each pixel: class weight plus distance weight, 0 at ignored pixels."""
    # SOURCE paper 2, section 1.3: (w_c + w_d) times cross-entropy
    weights_byx = torch.ones(valid_byx.shape, device=valid_byx.device)
    if loss["class_weights"] is not None:
        for number, weight in enumerate(loss["class_weights"]):
            weights_byx = torch.where(truth.classes_byx == number, float(weight), weights_byx)
    if loss["distance"] is not None:
        assert truth.weights_byx is not None
        weights_byx = weights_byx + truth.weights_byx
    return torch.where(valid_byx, weights_byx, 0.0)


def check_finite(loss: float, *, epoch: int, rate: float, samples: Sequence[str] | None) -> None:
    """Check that a loss is a finite number.

    Parameters
    ----------
    loss : float
        Loss of a batch or of the validation.
    epoch : int
        Number of finished epochs.
    rate : float
        Learning rate of the step.
    samples : sequence of str, or None
        Training images of the batch; None for the validation images.

    Raises
    ------
    ValueError
        If the loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        images = "the validation images" if samples is None else f"the images {', '.join(samples)}"
        raise ValueError(
            f"train: expected a finite loss, found {loss} in epoch {epoch + 1} at learning rate {rate:g} on {images}. "
            "Check these images, or lower train.optimiser.learning_rate."
        )
