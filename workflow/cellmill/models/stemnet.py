"""StemNet: a U-Net of 5x5 convolutions without normalisation, for one frame or several neighbouring ones.

Axes    b batch, c channels, y rows, x columns
Input   images_bcyx   float32, b x in_channels x rows x columns, multiples of 2**(levels - 1);
                      for five frames the channels are the frames j - 2 to j + 2
Output  logits_bcyx   float32, b x out_channels x rows x columns

`levels` counts resolutions: three levels have twelve convolutions and two poolings. With 16 channels it has 305,442
parameters for one frame and 307,042 for five, and a receptive field of 84 px.

# SOURCE paper 1, section on the networks: 12 layers, 5x5 convolutions of stride 1, 2x2 poolings and transposed
#   convolutions, ReLU, dropout .25, output of the size of the input
# SOURCE tf_unet (Akeret et al. 2017, doi:10.1016/j.ascom.2017.01.002), which paper 1 uses mostly with its defaults:
#   16 channels at the first level, position of the dropout, initial weights
"""

import math

import torch
from torch import Tensor, nn

from cellmill.models.layers import scale_channels
from cellmill.models.receptive_field import POOL, Join, Keep, Layer, Upsample, convolution, measure_receptive_field

# Read by config and exports, see registry.py
IS_RECURRENT = False
HALVINGS = ("levels", -1)
CITATIONS = (
    ("Ronneberger et al. 2015: U-Net", "10.1007/978-3-319-24574-4_28"),
    ("Akeret et al. 2017: U-Net with the settings used here", "10.1016/j.ascom.2017.01.002"),
)

BIAS = 0.1  # SOURCE tf_unet: slightly above zero, so that every ReLU is active at the start


class DroppedConv(nn.Module):
    """Convolution, dropout of single features, bias, ReLU; a dropped feature becomes ReLU(bias)."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_px: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_px, padding=kernel_px // 2, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.bias_c = nn.Parameter(torch.full((out_channels,), BIAS))

    def forward(self, features_bcyx: Tensor) -> Tensor:
        return torch.relu(self.dropout(self.conv(features_bcyx)) + self.bias_c[:, None, None])


class StemNet(nn.Module):
    """Encoder and decoder with skip connections."""

    is_recurrent = IS_RECURRENT

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        channels: list[int],
        kernel_px: int,
        dropout: float,
        relu_logits: bool,
    ) -> None:
        super().__init__()
        levels = len(channels)

        def block(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(
                DroppedConv(inputs, outputs, kernel_px=kernel_px, dropout=dropout),
                DroppedConv(outputs, outputs, kernel_px=kernel_px, dropout=dropout),
            )

        inputs = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(block(inputs[level], channels[level]) for level in range(levels))
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(channels[level + 1], channels[level], kernel_size=2, stride=2)
            for level in range(levels - 1)
        )
        self.decoder = nn.ModuleList(block(2 * channels[level], channels[level]) for level in range(levels - 1))
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        self.relu_logits = relu_logits
        self.stride_px = 2 ** (levels - 1)
        self.receptive_field_px, self.halo_px = measure_receptive_field(list_layers(levels, kernel_px=kernel_px))
        self._initialise(channels, kernel_px=kernel_px)

    def forward(self, images_bcyx: Tensor) -> Tensor:
        features_bcyx = self.encoder[0](images_bcyx)
        skips = []
        for block in self.encoder[1:]:
            skips.append(features_bcyx)
            features_bcyx = block(self.pool(features_bcyx))
        for level in reversed(range(len(skips))):
            upsampled_bcyx = torch.relu(self.up[level](features_bcyx))
            features_bcyx = self.decoder[level](torch.cat([skips[level], upsampled_bcyx], dim=1))
        logits_bcyx = self.head(features_bcyx)
        return torch.relu(logits_bcyx) if self.relu_logits else logits_bcyx

    def _initialise(self, channels: list[int], *, kernel_px: int) -> None:
        """Draw weights from normal distributions truncated at two standard deviations.

        The standard deviation is sqrt(2 / (kernel_px**2 * channels)).

        # SOURCE tf_unet: `channels` is that of the level in the encoder and of the level below in the decoder;
        #   transposed convolutions and the head use the kernel size and channels of their block's convolutions
        """
        parts: list[tuple[nn.Module, int]] = list(zip(self.encoder, channels, strict=True))
        parts += zip(self.decoder, channels[1:], strict=True)
        parts += zip(self.up, channels[1:], strict=True)
        parts += [(self.head, channels[1])]
        for part, features in parts:
            std = math.sqrt(2 / (kernel_px**2 * features))
            for module in part.modules():
                if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
                    if module.bias is not None:
                        nn.init.constant_(module.bias, BIAS)


def list_layers(levels: int, *, kernel_px: int) -> list[Layer]:
    """List the layers that determine the receptive field."""
    block = [convolution(kernel_px), convolution(kernel_px)]
    layers: list[Layer] = [*block]
    for level in range(levels - 1):
        layers += [Keep(level), POOL, *block]
    for level in reversed(range(levels - 1)):
        layers += [Upsample(is_bilinear=False), Join(level), *block]
    return layers


def build(
    *,
    in_channels: int,
    out_channels: int,
    width: float,
    base_channels: int,
    levels: int,
    kernel_px: int,
    dropout: float,
    relu_logits: bool,
) -> StemNet:
    """Build a StemNet.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Frames of the input and planes of the logits.
    width : float, > 0
        Multiplies all channel counts; results are rounded, at least 1.
    base_channels : int, > 0
        Channels of the first level at width 1; each deeper level has twice as many.
    levels : int, > 1
        Number of resolutions; there are levels - 1 poolings.
    kernel_px : int, odd
        Side of the convolutions.
    dropout : float, in [0, 1)
        Probability that a feature is set to zero in training; the others are divided by 1 - dropout.
    relu_logits : bool
        Whether negative logits become 0, as in tf_unet; this removes evidence against a class.

    Returns
    -------
    StemNet
        With fresh weights.
    """
    channels = [scale_channels(base_channels * 2**level, width=width) for level in range(levels)]
    return StemNet(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        kernel_px=kernel_px,
        dropout=dropout,
        relu_logits=relu_logits,
    )
