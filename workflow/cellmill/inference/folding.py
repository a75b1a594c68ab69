"""Batch normalisations folded into the convolutions before them: the same function with fewer passes over memory."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_norms(network: nn.Module) -> nn.Module:
    """Fold each batch normalisation into the convolution that it follows, and return the network.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode; changed in place. A normalisation registered directly after a convolution is expected to be
        applied to its output, as in all networks of `cellmill.models`.

    Returns
    -------
    nn.Module
        The network, whose outputs differ by rounding only.

    Notes
    -----
    On a CPU, normalising is limited by memory bandwidth, as it computes little with each value.
    """
    for part in list(network.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(part.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(part, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(part, norm_name, nn.Identity())
    return network
