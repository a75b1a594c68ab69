"""Convolutional LSTM layer for sequences of frames.

Axes    b batch, t frames of a window, c channels, y rows, x columns
Input   frames_btcyx  float32, b x t x in_channels x rows x columns
Output  hidden_btcyx  float32, b x t x channels x rows x columns

With * a convolution, x the frame, h and c the hidden state and cell state after the previous frame:
  i = gate(Wi * x + Ui * h + bi)        input
  f = gate(Wf * x + Uf * h + bf)        forget, bf starts at 1
  g = tanh(Wg * x + Ug * h + bg)        candidate
  o = gate(Wo * x + Uo * h + bo)        output
  c = f c + i g,   h = o tanh(c)
Both kernels hold the four in this order (i, f, g, o) along their output channels. No gate takes the cell as input.

# SOURCE Shi et al. 2015, arXiv:1506.04214, equation 3, without its peepholes
# SOURCE Jozefowicz et al. 2015, section 4: the forget gate starts open, bias 1
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

FORGET_BIAS = 1.0


def hard_sigmoid(values: Tensor) -> Tensor:
    """Compute the piecewise linear approximation of the sigmoid, clip(0.2 x + 0.5, 0, 1).

    # SOURCE Keras, recurrent_activation of ConvLSTM2D; torch's hard sigmoid has slope 1/6
    """
    return (0.2 * values + 0.5).clamp(0, 1)


class ConvLSTM(nn.Module):
    """One convolutional LSTM layer.

    Parameters
    ----------
    in_channels, channels : int, > 0
        Channels of the frames and of the hidden state.
    kernel_px : int, odd
        Side of both convolutions.
    gate : function
        torch.sigmoid or hard_sigmoid.
    has_memory : bool
        Whether h and c pass from frame to frame; if not, each frame starts from zeros.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel_px: int,
        gate: Callable[[Tensor], Tensor],
        has_memory: bool,
    ) -> None:
        super().__init__()
        self.from_input = nn.Conv2d(in_channels, 4 * channels, kernel_px, padding=kernel_px // 2)
        self.from_hidden = nn.Conv2d(channels, 4 * channels, kernel_px, padding=kernel_px // 2, bias=False)
        self.channels = channels
        self.gate = gate
        self.has_memory = has_memory
        nn.init.xavier_uniform_(self.from_input.weight)
        nn.init.xavier_uniform_(self.from_hidden.weight)
        with torch.no_grad():
            assert self.from_input.bias is not None
            self.from_input.bias.zero_()
            self.from_input.bias[channels : 2 * channels] = FORGET_BIAS

    def forward(
        self, frames_btcyx: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Process a window of frames.

        Parameters
        ----------
        frames_btcyx : Tensor
            The window.
        state : (h_bcyx, c_bcyx) or None
            State after the frame before the window; None means zeros.

        Returns
        -------
        hidden_btcyx : Tensor
            h of each frame.
        (h_bcyx, c_bcyx) : tuple of Tensors
            State after the last frame.
        """
        batch, frames = frames_btcyx.shape[:2]
        gates_bcyx = self.from_input(frames_btcyx.flatten(0, 1))
        if not self.has_memory:
            hidden_bcyx, cell_bcyx = self._step(gates_bcyx, self._zeros(gates_bcyx))
            hidden_btcyx = hidden_bcyx.unflatten(0, (batch, frames))
            return hidden_btcyx, (hidden_btcyx[:, -1], cell_bcyx.unflatten(0, (batch, frames))[:, -1])
        gates_btcyx = gates_bcyx.unflatten(0, (batch, frames))
        zeros_bcyx = self._zeros(gates_btcyx[:, 0])
        hidden_bcyx, cell_bcyx = (zeros_bcyx, zeros_bcyx) if state is None else state
        hiddens = []
        for frame in range(frames):
            gates_bcyx = gates_btcyx[:, frame] + self.from_hidden(hidden_bcyx)
            hidden_bcyx, cell_bcyx = self._step(gates_bcyx, cell_bcyx)
            hiddens.append(hidden_bcyx)
        return torch.stack(hiddens, dim=1), (hidden_bcyx, cell_bcyx)

    def _step(self, gates_bcyx: Tensor, cell_bcyx: Tensor) -> tuple[Tensor, Tensor]:
        input_bcyx, forget_bcyx, candidate_bcyx, output_bcyx = gates_bcyx.chunk(4, dim=1)
        cell_bcyx = self.gate(forget_bcyx) * cell_bcyx + self.gate(input_bcyx) * torch.tanh(candidate_bcyx)
        return self.gate(output_bcyx) * torch.tanh(cell_bcyx), cell_bcyx

    def _zeros(self, gates_bcyx: Tensor) -> Tensor:
        # In the weights' precision, since a cell accumulates over many frames and autocast lowers that of the gates.
        batch, _, rows, columns = gates_bcyx.shape
        return self.from_hidden.weight.new_zeros((batch, self.channels, rows, columns))
