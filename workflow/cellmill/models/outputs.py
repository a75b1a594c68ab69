"""Output channels of the networks, and their conversion from logits to probabilities.

Axes  b batch, c channels, y rows, x columns

output        channels of the network                        stored channels
foreground    logit of foreground                            probability
two_classes   softmax: background, foreground                probability
contour       softmax: background, cell, contour             probabilities of cell and of contour
distance      logit of foreground, distance                  probability, distance from 0 to 1
flow          logit of foreground, 5 flow_y, 5 flow_x        probability, flow_y, flow_x
flow_gray     grey value of the flow                         the value, from 0 to 1
"""

import torch
from torch import Tensor

OUTPUT_CHANNELS: dict[str, int] = {
    "foreground": 1,
    "two_classes": 2,
    "contour": 3,
    "distance": 2,
    "flow": 3,
    "flow_gray": 1,
}

# SOURCE Stringer et al. 2021, doi:10.1038/s41592-020-01018-x: networks are trained on flows times five
FLOW_SCALE = 5.0


def foreground_logit(logits_bcyx: Tensor, *, output: str) -> Tensor:
    """Return the logit of foreground, whose sigmoid is its probability: shape (batch, rows, columns).

    Defined for foreground, two_classes (the difference of both logits), distance and flow.
    """
    assert output in ("foreground", "two_classes", "distance", "flow"), output
    if output == "two_classes":
        return logits_bcyx[:, 1] - logits_bcyx[:, 0]
    return logits_bcyx[:, 0]


def to_probabilities(logits_bcyx: Tensor, *, output: str) -> Tensor:
    """Convert logits to the channels that are stored.

    Parameters
    ----------
    logits_bcyx : Tensor of any float, shape (batch, channels, rows, columns)
        Output of a network; for recurrent networks with batch and time flattened into one axis.
    output : str
        `network.output` of a preset.

    Returns
    -------
    Tensor of float32, shape (batch, channels, rows, columns)
        Channel 0 is the probability of foreground, or for flow_gray the grey value, in [0, 1]; for contour it is the
        probability of cell. The others are listed at the head of this module.
    """
    assert logits_bcyx.shape[1] == OUTPUT_CHANNELS[output], (logits_bcyx.shape, output)
    logits_bcyx = logits_bcyx.float()
    if output in ("two_classes", "contour"):
        return logits_bcyx.softmax(dim=1)[:, 1:]
    if output == "flow_gray":
        return logits_bcyx.clamp(0, 1)
    others_bcyx = logits_bcyx[:, 1:]
    if output == "distance":
        others_bcyx = others_bcyx.clamp(0, 1)
    elif output == "flow":
        others_bcyx = others_bcyx / FLOW_SCALE
    return torch.cat([logits_bcyx[:, :1].sigmoid(), others_bcyx], dim=1)
