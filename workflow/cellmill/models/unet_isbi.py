"""U-Net for membranes: no normalisation, upsampling by repetition and 2x2 convolution, dropout at deep levels.

Axes    b batch, c channels, y rows, x columns
Input   images_bcyx   float32, b x in_channels x rows x columns, multiples of 2**levels
Output  logits_bcyx   float32, b x out_channels x rows x columns

Channels 64-128-256-512-1024 for four levels (poolings): 31,031,685 parameters with one input and one output plane.
The input of the head's last convolution is two rectified channels; if both die, the output is constant.

# SOURCE paper 3, section 4: U-Net
# SOURCE zhixuhao/unet, which paper 3 follows: channels, dropout .5 after the two deepest encoder levels, 2x2
#   convolutions after repetition, the head, He's initial weights
"""

import torch
from torch import Tensor, nn

from cellmill.models.layers import double_size, initialise_convolutions, scale_channels
from cellmill.models.receptive_field import (
    POOL,
    Join,
    Keep,
    Layer,
    Upsample,
    Window,
    convolution,
    measure_receptive_field,
)

# Read by config and exports, see registry.py
IS_RECURRENT = False
HALVINGS = ("levels", 0)
CITATIONS = (("Ronneberger et al. 2015: U-Net", "10.1007/978-3-319-24574-4_28"),)

HEAD_CHANNELS = 2


class UpConv(nn.Module):
    """Upsampling by repetition, convolution 2x2, ReLU.

    # SOURCE Keras, padding `same` of an even kernel: the extra row and column of zeros are at the bottom and the right
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((0, 1, 0, 1))
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=2)

    def forward(self, features_bcyx: Tensor) -> Tensor:
        return torch.relu(self.conv(self.pad(double_size(features_bcyx, is_bilinear=False))))


class UNetIsbi(nn.Module):
    """Encoder and decoder with skip connections."""

    is_recurrent = IS_RECURRENT

    def __init__(self, *, in_channels: int, out_channels: int, channels: list[int], dropout: float) -> None:
        super().__init__()
        levels = len(channels) - 1
        inputs = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(_block(inputs[level], channels[level]) for level in range(levels + 1))
        self.dropout = nn.Dropout(dropout)
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.up = nn.ModuleList(UpConv(channels[level + 1], channels[level]) for level in range(levels))
        self.decoder = nn.ModuleList(_block(2 * channels[level], channels[level]) for level in range(levels))
        self.head = nn.Sequential(
            nn.Conv2d(channels[0], HEAD_CHANNELS, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(HEAD_CHANNELS, out_channels, kernel_size=1),
        )
        self.stride_px = 2**levels
        self.receptive_field_px, self.halo_px = measure_receptive_field(list_layers(levels))
        initialise_convolutions(self, init="he")

    def forward(self, images_bcyx: Tensor) -> Tensor:
        features_bcyx = images_bcyx
        levels = len(self.up)
        skips = []
        for level, block in enumerate(self.encoder):
            features_bcyx = block(features_bcyx)
            if level >= levels - 1:
                features_bcyx = self.dropout(features_bcyx)
            if level < levels:
                skips.append(features_bcyx)
                features_bcyx = self.pool(features_bcyx)
        for level in reversed(range(levels)):
            upsampled_bcyx = self.up[level](features_bcyx)
            features_bcyx = self.decoder[level](torch.cat([skips[level], upsampled_bcyx], dim=1))
        return self.head(features_bcyx)


def _block(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.ReLU(),
    )


def list_layers(levels: int) -> list[Layer]:
    """List the layers that determine the receptive field; the 2x2 convolutions extend it down and right only."""
    block = [convolution(3), convolution(3)]
    layers: list[Layer] = []
    for level in range(levels):
        layers += [*block, Keep(level), POOL]
    layers += block
    for level in reversed(range(levels)):
        layers += [Upsample(is_bilinear=False), Window(before_px=0, after_px=1), Join(level), *block]
    return [*layers, convolution(3)]


def build(
    *,
    in_channels: int,
    out_channels: int,
    width: float,
    base_channels: int,
    levels: int,
    dropout: float,
) -> UNetIsbi:
    """Build the U-Net of paper 3.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of the image and of the logits.
    width : float, > 0
        Multiplies all channel counts except the two of the head; results are rounded, at least 1.
    base_channels : int, > 0
        Channels of the first level at width 1; each deeper level has twice as many.
    levels : int, > 0
        Number of poolings.
    dropout : float, in [0, 1)
        Probability that a feature of the two deepest levels is set to zero in training.

    Returns
    -------
    UNetIsbi
        With He's initial weights.
    """
    channels = [scale_channels(base_channels * 2**level, width=width) for level in range(levels + 1)]
    return UNetIsbi(in_channels=in_channels, out_channels=out_channels, channels=channels, dropout=dropout)
