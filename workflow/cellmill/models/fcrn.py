"""FCRN-A: three poolings, three upsamplings, no skip connections.

Axes    b batch, c channels, y rows, x columns
Input   images_bcyx   float32, b x in_channels x rows x columns, multiples of 8
Output  logits_bcyx   float32, b x out_channels x rows x columns

Channels 32-64-128-512-128-64-32; with one image plane and two output planes 1,365,282 parameters. The receptive field
is 54 px at most (46 px at two of eight positions). The 38 x 38 px of paper 5 is that of the layer of 512 channels.

# SOURCE paper 5, section on the network: FCRN-A with two output maps, ReLU, Xavier, no dropout, 38 x 38
# SOURCE Xie et al. 2018, doi:10.1080/21681163.2016.1149104, and W. Xie's published model: channels, nearest-neighbour
#   upsampling, batch normalisation without biases as an option
"""

from torch import Tensor, nn

from cellmill.models.layers import double_size, initialise_convolutions, make_norm, scale_channels
from cellmill.models.receptive_field import POOL, Layer, Upsample, convolution, measure_receptive_field

# Read by config and exports, see registry.py
IS_RECURRENT = False
HALVINGS = 3
CITATIONS = (("Xie et al. 2018: fully convolutional regression networks", "10.1080/21681163.2016.1149104"),)

# Channels in multiples of base_channels.
ENCODER = (1, 2, 4, 16)
DECODER = (4, 2, 1)


class Fcrn(nn.Module):
    """Encoder with three poolings and decoder with three upsamplings, one convolution per stage."""

    is_recurrent = IS_RECURRENT
    stride_px = 2**HALVINGS

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        encoder: list[int],
        decoder: list[int],
        norm: str,
        init: str,
        upsampling: str,
        head_kernel_px: int,
    ) -> None:
        super().__init__()
        assert upsampling in ("nearest", "bilinear"), upsampling
        self.encoder = nn.ModuleList(
            _stage(inputs, outputs, norm=norm)
            for inputs, outputs in zip([in_channels, *encoder], encoder, strict=False)
        )
        self.decoder = nn.ModuleList(
            _stage(inputs, outputs, norm=norm)
            for inputs, outputs in zip([encoder[-1], *decoder], decoder, strict=False)
        )
        self.head = nn.Conv2d(decoder[-1], out_channels, head_kernel_px, padding=head_kernel_px // 2)
        self.pool = nn.MaxPool2d(kernel_size=2)
        self.is_bilinear = upsampling == "bilinear"
        self.receptive_field_px, self.halo_px = measure_receptive_field(
            list_layers(is_bilinear=self.is_bilinear, head_kernel_px=head_kernel_px)
        )
        initialise_convolutions(self, init=init)

    def forward(self, images_bcyx: Tensor) -> Tensor:
        features_bcyx = self.encoder[0](images_bcyx)
        for stage in self.encoder[1:]:
            features_bcyx = stage(self.pool(features_bcyx))
        for stage in self.decoder:
            features_bcyx = stage(double_size(features_bcyx, is_bilinear=self.is_bilinear))
        return self.head(features_bcyx)


def _stage(in_channels: int, out_channels: int, *, norm: str) -> nn.Sequential:
    # Batch normalisation would cancel a bias before it.
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=norm == "none")
    return nn.Sequential(conv, make_norm(norm, out_channels), nn.ReLU())


def list_layers(*, is_bilinear: bool, head_kernel_px: int) -> list[Layer]:
    """List the layers that determine the receptive field."""
    layers: list[Layer] = [convolution(3)]
    for _ in ENCODER[1:]:
        layers += [POOL, convolution(3)]
    for _ in DECODER:
        layers += [Upsample(is_bilinear=is_bilinear), convolution(3)]
    return [*layers, convolution(head_kernel_px)]


def build(
    *,
    in_channels: int,
    out_channels: int,
    width: float,
    base_channels: int,
    norm: str,
    init: str,
    upsampling: str,
    head_kernel_px: int,
) -> Fcrn:
    """Build an FCRN-A.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of the image and of the logits.
    width : float, > 0
        Multiplies all channel counts; results are rounded, at least 1.
    base_channels : int, > 0
        Channels of the first stage at width 1; the others have 2, 4, 16, 4, 2 and 1 times as many.
    norm : str
        `none` or `batch`.
    init : str
        `xavier` or `he`.
    upsampling : str
        `nearest` or `bilinear`.
    head_kernel_px : int, odd
        Side of the last convolution.

    Returns
    -------
    Fcrn
        With fresh weights and biases of zero.
    """
    return Fcrn(
        in_channels=in_channels,
        out_channels=out_channels,
        encoder=[scale_channels(base_channels * factor, width=width) for factor in ENCODER],
        decoder=[scale_channels(base_channels * factor, width=width) for factor in DECODER],
        norm=norm,
        init=init,
        upsampling=upsampling,
        head_kernel_px=head_kernel_px,
    )
