"""SegNet: VGG16 encoder and mirrored decoder that unpools with the encoder's max-pooling indices.

Axes    b batch, c channels, y rows, x columns
Input   images_bcyx   float32, b x in_channels x rows x columns, any size; multiples of 32 for seamless tiling
Output  logits_bcyx   float32, b x out_channels x rows x columns

26 convolutions: 2x64, 2x128, 3x256, 3x512, 3x512 and back. With normalisation, one input plane and two output planes
it has 29,443,010 parameters.

# SOURCE paper 3, section 4: SegNet
# SOURCE Badrinarayanan et al. 2017, doi:10.1109/TPAMI.2016.2644615, section 3: layers, unpooling by pooling indices
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from cellmill.models.layers import initialise_convolutions, make_norm, scale_channels
from cellmill.models.receptive_field import POOL, Layer, Upsample, convolution, measure_receptive_field

# Read by config and exports, see registry.py
IS_RECURRENT = False
HALVINGS = 5
CITATIONS = (("Badrinarayanan et al. 2017: SegNet", "10.1109/TPAMI.2016.2644615"),)

FACTORS = (1, 2, 4, 8, 8)  # channels in multiples of base_channels
CONVOLUTIONS = (2, 2, 3, 3, 3)


class SegNet(nn.Module):
    """Encoder and decoder of five blocks each."""

    is_recurrent = IS_RECURRENT
    stride_px = 2**HALVINGS

    def __init__(self, *, in_channels: int, out_channels: int, channels: list[int], norm: str) -> None:
        super().__init__()
        encoder, decoder = [], []
        inputs = in_channels
        for outputs, count in zip(channels, CONVOLUTIONS, strict=True):
            encoder.append(_block([inputs, *[outputs] * count], norm=norm))
            inputs = outputs
        # The last convolution of a block has the channels of the level above; at the first level it is the head.
        for level, count in enumerate(CONVOLUTIONS):
            last = [channels[level - 1]] if level else []
            decoder.append(_block([*[channels[level]] * count, *last], norm=norm))
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=3, padding=1)
        self.receptive_field_px, self.halo_px = measure_receptive_field(list_layers())
        # SOURCE Badrinarayanan et al. 2017, section 4.1: He's initial weights
        initialise_convolutions(self, init="he")

    def forward(self, images_bcyx: Tensor) -> Tensor:
        features_bcyx = images_bcyx
        pooled = []
        for block in self.encoder:
            features_bcyx = block(features_bcyx)
            size = features_bcyx.shape[-2:]
            features_bcyx, places_bcyx = pool(features_bcyx)
            pooled.append((places_bcyx, size))
        for level in reversed(range(len(pooled))):
            places_bcyx, size = pooled[level]
            features_bcyx = self.decoder[level](unpool(features_bcyx, places_bcyx, size=size))
        return self.head(features_bcyx)


def pool(features_bcyx: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maximum of each 2x2 pixels and its index in the plane; an odd last row or column is pooled alone."""
    values_bcyx, places_bcyx = nn.functional.max_pool2d(
        features_bcyx, kernel_size=2, ceil_mode=True, return_indices=True
    )
    return values_bcyx, places_bcyx


def unpool(values_bcyx: Tensor, places_bcyx: Tensor, *, size: torch.Size) -> Tensor:
    """Write values to their pooling indices on planes of zeros.

    Parameters
    ----------
    values_bcyx : Tensor
        Pooled features.
    places_bcyx : Tensor of int64, same shape
        Indices from `pool`: row * columns + column.
    size : torch.Size of (rows, columns)
        Size of the features before pooling; an odd size cannot be derived from its half.

    Returns
    -------
    Tensor
        With rows and columns of `size`.

    Notes
    -----
    torch's max_unpool2d is not deterministic where indices repeat. Here none do, as pooling windows do not overlap.
    """
    zeros = values_bcyx.new_zeros((*values_bcyx.shape[:2], size[0] * size[1]))
    return zeros.scatter(2, places_bcyx.flatten(2), values_bcyx.flatten(2)).unflatten(2, size)


def _block(channels: list[int], *, norm: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), make_norm(norm, outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def list_layers() -> list[Layer]:
    """List the layers that determine the receptive field; the head is the last convolution of the first level."""
    layers: list[Layer] = []
    for count in CONVOLUTIONS:
        layers += [*[convolution(3)] * count, POOL]
    for count in reversed(CONVOLUTIONS):
        layers += [Upsample(is_bilinear=False), *[convolution(3)] * count]
    return layers


def build(*, in_channels: int, out_channels: int, width: float, base_channels: int, norm: str) -> SegNet:
    """Build a SegNet.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of the image and of the logits.
    width : float, > 0
        Multiplies all channel counts; results are rounded, at least 1.
    base_channels : int, > 0
        Channels of the first block at width 1; the others have 2, 4, 8 and 8 times as many.
    norm : str
        `batch` or `none`.

    Returns
    -------
    SegNet
        With He's initial weights.
    """
    channels = [scale_channels(base_channels * factor, width=width) for factor in FACTORS]
    return SegNet(in_channels=in_channels, out_channels=out_channels, channels=channels, norm=norm)
