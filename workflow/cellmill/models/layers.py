"""Building blocks shared by several architectures: normalisation, channel counts, initial weights, upsampling.

Axes    b batch, c channels, y rows, x columns
"""

import torch
from torch import Tensor, nn

# SOURCE Wu and He 2018, arXiv:1803.08494: the number of groups hardly matters. 8 is our choice for few channels.
MAX_GROUPS = 8


class GroupNorm(nn.GroupNorm):
    """Group normalisation that also accepts features of a single pixel and then returns the offset."""

    def forward(self, features_bcyx: Tensor) -> Tensor:
        return torch.group_norm(features_bcyx, self.num_groups, self.weight, self.bias, self.eps)


def make_norm(name: str, channels: int) -> nn.Module:
    """Make the normalisation that follows a convolution.

    Parameters
    ----------
    name : str
        `batch`; `group`: the largest number of groups up to MAX_GROUPS that divides the channels; `instance`: each
        channel is a group; `none`.
    channels : int, > 0
        Number of channels of the features.

    Returns
    -------
    nn.Module
        With a gain and an offset for each channel, except `none`.

    Notes
    -----
    `group` and `instance` take their statistics over all pixels of the input, so tiled prediction is not exactly
    equal to prediction of the whole image.
    """
    if name == "none":
        return nn.Identity()
    if name == "batch":
        # No momentum: the running statistics are plain means since `restart_statistics`, so that small batches of
        # patches with different stains do not make them fluctuate.
        return nn.BatchNorm2d(channels, momentum=None)
    if name == "instance":
        return GroupNorm(channels, channels)
    assert name == "group", name
    return GroupNorm(max(groups for groups in range(1, MAX_GROUPS + 1) if channels % groups == 0), channels)


def scale_channels(channels: float, *, width: float) -> int:
    """Multiply a number of channels by the width, round half up, and return at least 1."""
    return max(1, int(channels * width + 0.5))


def initialise_convolutions(network: nn.Module, *, init: str) -> None:
    """Initialise the weights of all convolutions and set their biases to zero.

    Parameters
    ----------
    network : nn.Module
        Changed in place, with torch's global generator.
    init : str
        `xavier`: uniform, variance 2 / (fan_in + fan_out); `he`: normal, variance 2 / fan_in.

    Notes
    -----
    # SOURCE Glorot and Bengio 2010, equation 16
    # SOURCE He et al. 2015, doi:10.1109/ICCV.2015.123, equation 10
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            if init == "xavier":
                nn.init.xavier_uniform_(module.weight)
            else:
                assert init == "he", init
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def double_size(features_bcyx: Tensor, *, is_bilinear: bool) -> Tensor:
    """Double rows and columns by repetition, or by linear interpolation between pixel centres."""
    if is_bilinear:
        return nn.functional.interpolate(features_bcyx, scale_factor=2, mode="bilinear", align_corners=False)
    return nn.functional.interpolate(features_bcyx, scale_factor=2, mode="nearest")
