"""U-Net with batch normalisation.

Axes    b batch, c channels, y rows, x columns
Input   images_bcyx   float32, b x in_channels x rows x columns, multiples of 2**levels
Output  logits_bcyx   float32, b x out_channels x rows x columns

Level l works at 1/2**l of the resolution with base_channels * width * 2**l channels; the bottleneck is level
`levels`. With 32 channels, four levels and one image plane it has 7,765,409 parameters.

# SOURCE Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28, with padded convolutions
# SOURCE paper 4, section C, figure 7: 32-64-128-256, bottleneck 512, batch normalisation, ReLU
"""

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Two times convolution 3x3, dropout, norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm1 = _norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = _norm(norm, out_channels)
        # SOURCE paper 4, section C5: dropout follows every convolutional layer
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, features_bcyx: Tensor) -> Tensor:
        features_bcyx = torch.relu(self.norm1(self.dropout(self.conv1(features_bcyx))))
        return torch.relu(self.norm2(self.dropout(self.conv2(features_bcyx))))


class UNet(nn.Module):
    """Encoder, bottleneck and decoder with skip connections."""

    def __init__(self, *, in_channels: int, out_channels: int, channels: list[int], norm: str, dropout: float) -> None:
        super().__init__()
        levels = len(channels) - 1
        inputs = [in_channels, *channels[:-1]]
        self.encoder = nn.ModuleList(
            ConvBlock(inputs[level], channels[level], norm=norm, dropout=dropout) for level in range(levels)
        )
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.bottleneck = ConvBlock(inputs[levels], channels[levels], norm=norm, dropout=dropout)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(channels[level + 1], channels[level], kernel_size=2, stride=2) for level in range(levels)
        )
        self.decoder = nn.ModuleList(
            ConvBlock(2 * channels[level], channels[level], norm=norm, dropout=dropout) for level in range(levels)
        )
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        self.stride_px = 2**levels
        self.receptive_field_px, self.halo_px = measure_receptive_field(levels)

    def forward(self, images_bcyx: Tensor) -> Tensor:
        features_bcyx = images_bcyx
        skips = []
        for block in self.encoder:
            features_bcyx = block(features_bcyx)
            skips.append(features_bcyx)
            features_bcyx = self.pool(features_bcyx)
        features_bcyx = self.bottleneck(features_bcyx)
        for level in reversed(range(len(skips))):
            upsampled_bcyx = self.up[level](features_bcyx)
            features_bcyx = self.decoder[level](torch.cat([skips[level], upsampled_bcyx], dim=1))
        return self.head(features_bcyx)


def measure_receptive_field(levels: int) -> tuple[int, int]:
    """Follow the deepest path from each kind of output pixel back to the input.

    Parameters
    ----------
    levels : int, > 0
        Number of poolings.

    Returns
    -------
    extent_px, reach_px : int
        Largest number of input pixels in a line that one output pixel sees, and the largest distance to one.

    Notes
    -----
    Two convolutions 3x3 reach two pixels further; pixel p of a level is made from pixel p // 2 of the next
    one, which was pooled from pixels 2 * (p // 2) and the one after. The extent depends on the place of the
    pixel in its cell of 2**levels pixels.
    """
    extent_px = reach_px = 0
    for pixel in range(2**levels):
        first = last = pixel
        for _ in range(levels):
            first, last = (first - 2) // 2, (last + 2) // 2
        first, last = first - 2, last + 2
        for _ in range(levels):
            first, last = 2 * first - 2, 2 * last + 1 + 2
        extent_px = max(extent_px, last - first + 1)
        reach_px = max(reach_px, pixel - first, last - pixel)
    return extent_px, reach_px


def build(
    *,
    in_channels: int,
    out_channels: int,
    base_channels: int,
    levels: int,
    width: float,
    norm: str,
    dropout: float,
) -> UNet:
    """Build a U-Net.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of the image and of the logits.
    base_channels : int, > 0
        Channels of the first level at width 1; each deeper level has twice as many.
    levels : int, > 0
        Number of poolings.
    width : float, > 0
        Multiplies all channels; rounded, at least one.
    norm : str
        `batch` or `none`.
    dropout : float, in [0, 1)
        Probability that a feature is set to zero in training.

    Returns
    -------
    UNet
        With torch's default initialisation.
    """
    channels = [max(1, int(base_channels * width * 2**level + 0.5)) for level in range(levels + 1)]
    return UNet(in_channels=in_channels, out_channels=out_channels, channels=channels, norm=norm, dropout=dropout)


def _norm(name: str, channels: int) -> nn.Module:
    if name == "none":
        return nn.Identity()
    assert name == "batch", name
    # No momentum: the running statistics are plain means since `restart_statistics`, and batches of few patches of
    # different stains do not pull them to and fro.
    return nn.BatchNorm2d(channels, momentum=None)
