"""Losses on logits with pixels that do not count.

Axes    b batch, y rows, x columns
Target  0 background, 1 foreground, IGNORED_TARGET where nothing is known: padding and ignored labels
"""

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

IGNORED_TARGET = 255

# Added to both sides of the Dice quotient: an empty patch that is predicted empty has loss 0, not 0/0.
DICE_SMOOTHING_PX = 1.0


def segmentation_loss(logits_byx: Tensor, target_byx: Tensor, *, loss: dict[str, Any]) -> Tensor:
    """Measure how far logits are from a target.

    Parameters
    ----------
    logits_byx : Tensor of float32
        Before the sigmoid.
    target_byx : Tensor of uint8, same shape
        0, 1 or IGNORED_TARGET.
    loss : dict
        name (`bce`, `dice` or `bce_dice`, their sum) and positive_weight.

    Returns
    -------
    Tensor
        One number; 0 where every pixel is ignored.
    """
    logits_byx = logits_byx.float()
    valid_byx = target_byx != IGNORED_TARGET
    truth_byx = (target_byx == 1).to(logits_byx.dtype)
    parts = []
    if loss["name"] in ("bce", "bce_dice"):
        parts.append(weighted_bce(logits_byx, truth_byx, valid_byx, positive_weight=float(loss["positive_weight"])))
    if loss["name"] in ("dice", "bce_dice"):
        parts.append(soft_dice(logits_byx, truth_byx, valid_byx))
    assert parts, loss["name"]
    return torch.stack(parts).sum()


def weighted_bce(logits_byx: Tensor, truth_byx: Tensor, valid_byx: Tensor, *, positive_weight: float) -> Tensor:
    """Binary cross-entropy, the mean over valid pixels; foreground pixels count `positive_weight` times.

    The divisor is the number of valid pixels, not the sum of weights: as BCEWithLogitsLoss(pos_weight).
    """
    per_pixel_byx = functional.binary_cross_entropy_with_logits(
        logits_byx, truth_byx, pos_weight=logits_byx.new_tensor(positive_weight), reduction="none"
    )
    return torch.where(valid_byx, per_pixel_byx, 0.0).sum() / valid_byx.sum().clamp(min=1)


def soft_dice(logits_byx: Tensor, truth_byx: Tensor, valid_byx: Tensor) -> Tensor:
    """One minus the Dice coefficient of probabilities, over the valid pixels of the whole batch.

    # SOURCE Milletari et al. 2016, doi:10.1109/3DV.2016.79, with a sum instead of squares in the divisor
    """
    probability_byx = torch.where(valid_byx, logits_byx.sigmoid(), 0.0)
    truth_byx = torch.where(valid_byx, truth_byx, 0.0)
    shared = (probability_byx * truth_byx).sum()
    total = probability_byx.sum() + truth_byx.sum()
    return 1 - (2 * shared + DICE_SMOOTHING_PX) / (total + DICE_SMOOTHING_PX)
