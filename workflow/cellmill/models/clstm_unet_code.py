"""C-LSTM U-Net after the authors' code: strided convolutions, skips from block inputs, Keras' default constants.

Axes    b batch, t frames of a window, c channels, y rows, x columns
Input   images_btcyx  float32, b x t x in_channels x rows x columns, multiples of 8
        state         None at the start of a sequence, otherwise the state returned for the previous window
Output  logits_btcyx  float32, b x t x out_channels x rows x columns
        state         list of four (h_bcyx, c_bcyx), one for each encoder level

C-LSTMs of 5x5 with 128, 256, 256 and 512 channels; decoder 256-128-64-32. With one input plane and three output
planes it has 74,606,531 parameters, or 93,596,099 with convolutions of 5x5.

# SOURCE paper 2 and its published code, arbellea/LSTM-UNet: Networks.py and Params.py
# SOURCE Keras, defaults of ConvLSTM2D, Conv2D, BatchNormalization and LeakyReLU, which that code does not change
"""

import torch
from torch import Tensor, nn

from cellmill.models.conv_lstm import ConvLSTM, hard_sigmoid
from cellmill.models.layers import double_size, initialise_convolutions, scale_channels
from cellmill.models.memory import State
from cellmill.models.receptive_field import Join, Keep, Layer, Upsample, Window, convolution, measure_receptive_field

# Read by config and exports, see registry.py
IS_RECURRENT = True
HALVINGS = 3
CITATIONS = (("Arbelle and Riklin Raviv 2018: C-LSTM U-Net", "10.48550/arXiv.1805.11247"),)

LSTM_KERNEL_PX = 5
ENCODER = (1, 2, 2, 4)  # channels in multiples of base_channels
DECODER = (0.25, 0.5, 1, 2)  # by level, the finest first

# SOURCE Keras; torch's defaults are .01, 1e-5 and .1
NEGATIVE_SLOPE = 0.3
NORM_EPS = 1e-3
NORM_MOMENTUM = 0.01  # UNIT weight of the newest batch; Keras specifies the weight of the past, .99


class EncoderBlock(nn.Module):
    """C-LSTM without activation, then twice convolution, norm, leaky ReLU; stride 2 halves the size."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, conv_kernel_px: int, memory: bool) -> None:
        super().__init__()
        self.lstm = ConvLSTM(in_channels, channels, kernel_px=LSTM_KERNEL_PX, gate=hard_sigmoid, has_memory=memory)
        self.conv = nn.Sequential(
            _convolve(channels, channels, kernel_px=conv_kernel_px, stride=stride),
            _convolve(channels, channels, kernel_px=conv_kernel_px, stride=1),
        )
        # SOURCE Keras: orthogonal weights (Saxe et al. 2014, arXiv:1312.6120) from hidden to hidden, Glorot elsewhere
        nn.init.orthogonal_(self.lstm.from_hidden.weight)
        initialise_convolutions(self.conv, init="xavier")

    def forward(
        self, frames_btcyx: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden_btcyx, state = self.lstm(frames_btcyx, state)
        return self.conv(hidden_btcyx.flatten(0, 1)), state


class ClstmUNetCode(nn.Module):
    """Recurrent encoder and feed-forward decoder; convolutions process all frames of a window as one batch."""

    is_recurrent = IS_RECURRENT
    stride_px = 2**HALVINGS

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        encoder: list[int],
        decoder: list[int],
        conv_kernel_px: int,
        memory: bool,
    ) -> None:
        super().__init__()
        levels = range(len(encoder))
        inputs = [in_channels, *encoder]
        self.encoder = nn.ModuleList(
            EncoderBlock(
                inputs[level],
                encoder[level],
                stride=_stride(level),
                conv_kernel_px=conv_kernel_px,
                memory=memory,
            )
            for level in levels
        )
        below = [*decoder[1:], encoder[-1]]
        self.decoder = nn.ModuleList(
            nn.Sequential(
                _convolve(below[level] + inputs[level], decoder[level], kernel_px=conv_kernel_px, stride=1),
                _convolve(decoder[level], decoder[level], kernel_px=conv_kernel_px, stride=1),
            )
            for level in levels
        )
        self.head = nn.Conv2d(decoder[0], out_channels, kernel_size=1)
        self.receptive_field_px, self.halo_px = measure_receptive_field(list_layers(conv_kernel_px=conv_kernel_px))
        for part in (self.decoder, self.head):
            initialise_convolutions(part, init="xavier")

    def forward(self, images_btcyx: Tensor, state: State | None) -> tuple[Tensor, State]:
        window = images_btcyx.shape[:2]
        features_bcyx, skips, states = images_btcyx.flatten(0, 1), [], []
        for level, block in enumerate(self.encoder):
            skips.append(features_bcyx)
            features_bcyx, after = block(features_bcyx.unflatten(0, window), None if state is None else state[level])
            states.append(after)
        for level in reversed(range(len(skips))):
            if _stride(level) == 2:
                features_bcyx = double_size(features_bcyx, is_bilinear=True)
            features_bcyx = self.decoder[level](torch.cat([features_bcyx, skips[level]], dim=1))
        return self.head(features_bcyx).unflatten(0, window), states


class StridedConv(nn.Conv2d):
    """Convolution of stride 2 for inputs of even size.

    # SOURCE Keras, padding `same`: kernel_px - 2 rows of zeros in all, an odd one at the bottom; columns likewise
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_px: int) -> None:
        super().__init__(in_channels, out_channels, kernel_px, stride=2)
        before, after = _strided_padding(kernel_px)
        self.pad = nn.ZeroPad2d((before, after, before, after))

    def forward(self, features_bcyx: Tensor) -> Tensor:
        return super().forward(self.pad(features_bcyx))


def _strided_padding(kernel_px: int) -> tuple[int, int]:
    before = (kernel_px - 2) // 2
    return before, kernel_px - 2 - before


def _stride(level: int) -> int:
    return 2 if level < len(ENCODER) - 1 else 1


def _convolve(in_channels: int, out_channels: int, *, kernel_px: int, stride: int) -> nn.Sequential:
    conv = (
        StridedConv(in_channels, out_channels, kernel_px)
        if stride == 2
        else nn.Conv2d(in_channels, out_channels, kernel_px, padding=kernel_px // 2)
    )
    norm = nn.BatchNorm2d(out_channels, eps=NORM_EPS, momentum=NORM_MOMENTUM)
    return nn.Sequential(conv, norm, nn.LeakyReLU(NEGATIVE_SLOPE))


def list_layers(*, conv_kernel_px: int) -> list[Layer]:
    """List the layers that determine the receptive field within one frame.

    The hidden-to-hidden convolutions, which bring in earlier frames, are not counted. Each widens the field by two
    pixels of its level per frame.
    """
    conv = convolution(conv_kernel_px)
    before, _ = _strided_padding(conv_kernel_px)
    strided = Window(before_px=before, after_px=conv_kernel_px - 1 - before, stride=2)
    layers: list[Layer] = []
    for level in range(len(ENCODER)):
        layers += [Keep(level), convolution(LSTM_KERNEL_PX), strided if _stride(level) == 2 else conv, conv]
    for level in reversed(range(len(ENCODER))):
        layers += [Upsample(is_bilinear=True)] if _stride(level) == 2 else []
        layers += [Join(level), conv, conv]
    return layers


def build(
    *,
    in_channels: int,
    out_channels: int,
    width: float,
    base_channels: int,
    conv_kernel_px: int,
    memory: bool,
) -> ClstmUNetCode:
    """Build the C-LSTM U-Net of the authors' code.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of a frame and of the logits.
    width : float, > 0
        Multiplies all channel counts; results are rounded, at least 1.
    base_channels : int, > 0
        Channels of the first C-LSTM at width 1; the others have 2, 2 and 4 times as many, the decoder 2, 1, 1/2, 1/4.
    conv_kernel_px : int, odd
        Side of the convolutions outside the C-LSTMs.
    memory : bool
        Whether h and c pass from frame to frame; if not, the input state is ignored.

    Returns
    -------
    ClstmUNetCode
        Attributes `receptive_field_px` and `halo_px` are those within one frame, see `list_layers`.
    """
    return ClstmUNetCode(
        in_channels=in_channels,
        out_channels=out_channels,
        encoder=[scale_channels(base_channels * factor, width=width) for factor in ENCODER],
        decoder=[scale_channels(base_channels * factor, width=width) for factor in DECODER],
        conv_kernel_px=conv_kernel_px,
        memory=memory,
    )
