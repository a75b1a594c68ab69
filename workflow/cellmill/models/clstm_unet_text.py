"""C-LSTM U-Net after the text of paper 2: recurrent encoder, three poolings, bilinear upsampling.

Axes    b batch, t frames of a window, c channels, y rows, x columns
Input   images_btcyx  float32, b x t x in_channels x rows x columns, multiples of 8
        state         None at the start of a sequence, otherwise the state returned for the previous window
Output  logits_btcyx  float32, b x t x out_channels x rows x columns
        state         list of four (h_bcyx, c_bcyx), one for each encoder level

Channels 128-256-512-1024. With one input plane and two output planes it has 128,169,090 parameters with C-LSTM
kernels of 3x3, or 261,346,434 with 5x5. The text, the caption of figure 1 and the equations contradict each other.
This module follows the C-LSTM in the encoder (sections 1.1 and 2.1), three poolings (multiples of eight, equation 2),
and the concatenation of the deepest features with themselves (equations 3 and 4).

# SOURCE paper 2, sections 1.1 and 2.1, equations 1 to 4
"""

import torch
from torch import Tensor, nn

from cellmill.models.conv_lstm import ConvLSTM
from cellmill.models.layers import double_size, make_norm, scale_channels
from cellmill.models.memory import State
from cellmill.models.receptive_field import POOL, Join, Keep, Layer, Upsample, convolution, measure_receptive_field

# Read by config and exports, see registry.py
IS_RECURRENT = True
HALVINGS = 3
CITATIONS = (("Arbelle and Riklin Raviv 2018: C-LSTM U-Net", "10.48550/arXiv.1805.11247"),)

FACTORS = (1, 2, 4, 8)  # channels in multiples of base_channels
NEGATIVE_SLOPE = 0.01  # of the leaky ReLU; paper 2 gives no number, so torch's default is used


class EncoderBlock(nn.Module):
    """C-LSTM, leaky ReLU, convolution 3x3, norm, leaky ReLU."""

    def __init__(self, in_channels: int, channels: int, *, lstm_kernel_px: int, memory: bool) -> None:
        super().__init__()
        # ASSUME sigmoid gates and a forget bias of 1: paper 2 specifies neither
        self.lstm = ConvLSTM(in_channels, channels, kernel_px=lstm_kernel_px, gate=torch.sigmoid, has_memory=memory)
        self.conv = _convolve(channels, channels)

    def forward(
        self, frames_btcyx: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden_btcyx, state = self.lstm(frames_btcyx, state)
        hidden_bcyx = nn.functional.leaky_relu(hidden_btcyx.flatten(0, 1), NEGATIVE_SLOPE)
        return self.conv(hidden_bcyx), state


class ClstmUNetText(nn.Module):
    """Recurrent encoder and feed-forward decoder; convolutions process all frames of a window as one batch."""

    is_recurrent = IS_RECURRENT
    stride_px = 2**HALVINGS

    def __init__(
        self, *, in_channels: int, out_channels: int, channels: list[int], lstm_kernel_px: int, memory: bool
    ) -> None:
        super().__init__()
        levels = range(len(channels))
        inputs = [in_channels, *channels]
        self.encoder = nn.ModuleList(
            EncoderBlock(inputs[level], channels[level], lstm_kernel_px=lstm_kernel_px, memory=memory)
            for level in levels
        )
        self.pool = nn.MaxPool2d(kernel_size=2)
        below = [*channels[1:], channels[-1]]  # the deepest features are concatenated with themselves
        self.decoder = nn.ModuleList(
            nn.Sequential(
                _convolve(below[level] + channels[level], channels[level]), _convolve(channels[level], channels[level])
            )
            for level in levels
        )
        self.head = nn.Conv2d(channels[0], out_channels, kernel_size=1)
        self.receptive_field_px, self.halo_px = measure_receptive_field(list_layers(lstm_kernel_px=lstm_kernel_px))

    def forward(self, images_btcyx: Tensor, state: State | None) -> tuple[Tensor, State]:
        window = images_btcyx.shape[:2]
        frames_btcyx, skips, states = images_btcyx, [], []
        for level, block in enumerate(self.encoder):
            features_bcyx, after = block(frames_btcyx, None if state is None else state[level])
            states.append(after)
            skips.append(features_bcyx)
            if level < len(self.encoder) - 1:
                frames_btcyx = self.pool(features_bcyx).unflatten(0, window)
        features_bcyx = skips[-1]
        for level in reversed(range(len(skips))):
            if level < len(skips) - 1:
                features_bcyx = double_size(features_bcyx, is_bilinear=True)
            features_bcyx = self.decoder[level](torch.cat([features_bcyx, skips[level]], dim=1))
        return self.head(features_bcyx).unflatten(0, window), states


def _convolve(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        make_norm("batch", out_channels),
        nn.LeakyReLU(NEGATIVE_SLOPE),
    )


def list_layers(*, lstm_kernel_px: int) -> list[Layer]:
    """List the layers that determine the receptive field within one frame.

    The hidden-to-hidden convolutions, which bring in earlier frames, are not counted. Each widens the field by
    lstm_kernel_px // 2 pixels of its level per frame.
    """
    deepest = len(FACTORS) - 1
    layers: list[Layer] = []
    for level in range(len(FACTORS)):
        layers += [convolution(lstm_kernel_px), convolution(3), Keep(level)]
        layers += [POOL] if level < deepest else []
    for level in reversed(range(len(FACTORS))):
        layers += [Upsample(is_bilinear=True)] if level < deepest else []
        layers += [Join(level), convolution(3), convolution(3)]
    return layers


def build(
    *,
    in_channels: int,
    out_channels: int,
    width: float,
    base_channels: int,
    lstm_kernel_px: int,
    memory: bool,
) -> ClstmUNetText:
    """Build the C-LSTM U-Net of the paper's text.

    Parameters
    ----------
    in_channels, out_channels : int, > 0
        Planes of a frame and of the logits.
    width : float, > 0
        Multiplies all channel counts; results are rounded, at least 1.
    base_channels : int, > 0
        Channels of the first level at width 1; the others have 2, 4 and 8 times as many.
    lstm_kernel_px : int, odd
        Side of both convolutions of a C-LSTM.
    memory : bool
        Whether h and c pass from frame to frame; if not, the input state is ignored.

    Returns
    -------
    ClstmUNetText
        Attributes `receptive_field_px` and `halo_px` are those within one frame, see `list_layers`.
    """
    return ClstmUNetText(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=[scale_channels(base_channels * factor, width=width) for factor in FACTORS],
        lstm_kernel_px=lstm_kernel_px,
        memory=memory,
    )
