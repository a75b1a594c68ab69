"""U-Net with normalisation after each convolution.

Axes    b batch, c channels, y rows, x columns, k classes
Input   images_bcyx   float32, b x in_channels x rows x columns, multiples of 2**levels
Output  logits_bcyx   float32, b x out_channels x rows x columns

Level l works at 1/2**l of the resolution with base_channels * width * 2**l channels; the bottleneck is level
`levels`. With 32 channels, four levels and one image plane it has 7,765,409 parameters.

The class of an image is given by the last planes of the input, each 0 or 1 everywhere. As input of the first
convolution they only add a constant to each channel, which batch normalisation cancels if all images of a batch have
the same class. With `film` they act after each normalisation instead, as a gain and an offset of each channel.

# SOURCE Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28, with padded convolutions
# SOURCE paper 4, section C, figure 7: 32-64-128-256, bottleneck 512, batch normalisation, ReLU
# SOURCE Perez et al. 2018, arXiv:1709.07871, section 2: gain and offset of features by a condition
"""

import torch
from torch import Tensor, nn

from cellmill.models.layers import make_norm, scale_channels
from cellmill.models.receptive_field import POOL, Join, Keep, Layer, Upsample, convolution, measure_receptive_field

# Read by config and exports, see registry.py
IS_RECURRENT = False
HALVINGS = ("levels", 0)
CITATIONS = (("Ronneberger et al. 2015: U-Net", "10.1007/978-3-319-24574-4_28"),)


class Film(nn.Module):
    """Gain and offset of each channel by class: the identity at the start of training and where all classes are 0."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.gain_kc = nn.Parameter(torch.zeros(classes, channels))
        self.offset_kc = nn.Parameter(torch.zeros(classes, channels))

    def forward(self, features_bcyx: Tensor, classes_bk: Tensor) -> Tensor:
        gain_bc, offset_bc = 1 + classes_bk @ self.gain_kc, classes_bk @ self.offset_kc
        return gain_bc[:, :, None, None] * features_bcyx + offset_bc[:, :, None, None]


class ConvBlock(nn.Module):
    """Twice convolution 3x3, dropout, norm, ReLU; with `film` classes, a gain and offset by class after each norm."""

    def __init__(self, in_channels: int, out_channels: int, *, norm: str, dropout: float, film: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm1 = make_norm(norm, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = make_norm(norm, out_channels)
        self.film1 = Film(film, out_channels) if film else None
        self.film2 = Film(film, out_channels) if film else None
        # SOURCE paper 4, section C5: dropout follows every convolutional layer
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, features_bcyx: Tensor, classes_bk: Tensor | None) -> Tensor:
        for conv, norm, film in ((self.conv1, self.norm1, self.film1), (self.conv2, self.norm2, self.film2)):
            features_bcyx = norm(self.dropout(conv(features_bcyx)))
            if film is not None:
                features_bcyx = film(features_bcyx, classes_bk)
            features_bcyx = torch.relu(features_bcyx)
        return features_bcyx


class UNet(nn.Module):
    """Encoder, bottleneck and decoder with skip connections."""

    is_recurrent = IS_RECURRENT

    def __init__(
        self, *, in_channels: int, out_channels: int, channels: list[int], norm: str, dropout: float, film: int
    ) -> None:
        super().__init__()
        levels = len(channels) - 1
        inputs = [in_channels - film, *channels[:-1]]
        self.film = film
        self.encoder = nn.ModuleList(
            ConvBlock(inputs[level], channels[level], norm=norm, dropout=dropout, film=film) for level in range(levels)
        )
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.bottleneck = ConvBlock(inputs[levels], channels[levels], norm=norm, dropout=dropout, film=film)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(channels[level + 1], channels[level], kernel_size=2, stride=2) for level in range(levels)
        )
        self.decoder = nn.ModuleList(
            ConvBlock(2 * channels[level], channels[level], norm=norm, dropout=dropout, film=film)
            for level in range(levels)
        )
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        self.stride_px = 2**levels
        self.receptive_field_px, self.halo_px = measure_receptive_field(list_layers(levels))

    def forward(self, images_bcyx: Tensor) -> Tensor:
        features_bcyx, classes_bk = images_bcyx, None
        if self.film:
            features_bcyx = images_bcyx[:, : -self.film]
            classes_bk = images_bcyx[:, -self.film :].mean(dim=(2, 3))
        skips = []
        for block in self.encoder:
            features_bcyx = block(features_bcyx, classes_bk)
            skips.append(features_bcyx)
            features_bcyx = self.pool(features_bcyx)
        features_bcyx = self.bottleneck(features_bcyx, classes_bk)
        for level in reversed(range(len(skips))):
            upsampled_bcyx = self.up[level](features_bcyx)
            features_bcyx = self.decoder[level](torch.cat([skips[level], upsampled_bcyx], dim=1), classes_bk)
        return self.head(features_bcyx)


def list_layers(levels: int) -> list[Layer]:
    """List the layers that determine the receptive field.

    A transposed convolution 2x2 of stride 2 computes pixel p from pixel p // 2.
    """
    block = [convolution(3), convolution(3)]
    layers: list[Layer] = []
    for level in range(levels):
        layers += [*block, Keep(level), POOL]
    layers += block
    for level in reversed(range(levels)):
        layers += [Upsample(is_bilinear=False), Join(level), *block]
    return layers


def build(
    *,
    in_channels: int,
    out_channels: int,
    base_channels: int,
    levels: int,
    width: float,
    norm: str,
    dropout: float,
    film: int,
) -> UNet:
    """Build a U-Net.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of the input (image and classes) and of the logits.
    base_channels : int, > 0
        Channels of the first level at width 1; each deeper level has twice as many.
    levels : int, > 0
        Number of poolings.
    width : float, > 0
        Multiplies all channel counts; results are rounded, at least 1.
    norm : str
        `batch`, `group`, `instance` or `none`, see `layers.make_norm`.
    dropout : float, in [0, 1)
        Probability that a feature is set to zero in training.
    film : int, >= 0 and < in_channels
        Number of class planes at the end of the input that act as gain and offset; with 0, all planes enter the
        first convolution. Each class plane is constant, also where the image is padded.

    Returns
    -------
    UNet
        With torch's default initialisation.
    """
    channels = [scale_channels(base_channels * 2**level, width=width) for level in range(levels + 1)]
    return UNet(
        in_channels=in_channels, out_channels=out_channels, channels=channels, norm=norm, dropout=dropout, film=film
    )
