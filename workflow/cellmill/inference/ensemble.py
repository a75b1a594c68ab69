"""Average of several predictions of an image: ensemble, test-time augmentation, and all values of the class input.

Axes  b batch, t time, c channels, y rows, x columns
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from cellmill.device import choose_autocast
from cellmill.models.outputs import to_probabilities


class PredictSettings(TypedDict):
    """Section `predict` of a preset."""

    tile: Sequence[int]
    batch: int
    average: str
    precision: str


@dataclass(frozen=True)
class Symmetry:
    """A rotation or reflection of an image: an optional transpose, then optional flips of each axis."""

    transposes: bool = False
    flips_y: bool = False
    flips_x: bool = False

    def apply(self, images: Tensor) -> Tensor:
        """Apply the transform to images, shape (..., rows, columns)."""
        if self.transposes:
            images = images.transpose(-1, -2)
        return images.flip(self._axes) if self._axes else images

    def undo(self, maps_bcyx: Tensor, *, has_vectors: bool) -> Tensor:
        """Apply the inverse to maps, shape (b, channels, rows, columns).

        With `has_vectors`, channels 1 and 2 are y and x of a flow, whose vectors are transformed too.
        """
        if self._axes:
            maps_bcyx = maps_bcyx.flip(self._axes)
        if self.transposes:
            maps_bcyx = maps_bcyx.transpose(-1, -2)
        if not has_vectors:
            return maps_bcyx
        value, flow_y, flow_x, *others = maps_bcyx.split(1, dim=1)
        flow_y, flow_x = -flow_y if self.flips_y else flow_y, -flow_x if self.flips_x else flow_x
        if self.transposes:
            flow_y, flow_x = flow_x, flow_y
        return torch.cat([value, flow_y, flow_x, *others], dim=1)

    @property
    def _axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, is_flipped in ((-2, self.flips_y), (-1, self.flips_x)) if is_flipped)


_FLIPS = tuple(Symmetry(False, y, x) for y in (False, True) for x in (False, True))
SYMMETRIES: dict[str, tuple[Symmetry, ...]] = {
    "none": (Symmetry(),),
    "flips": _FLIPS,
    "rotations": (*_FLIPS, *(Symmetry(True, flip.flips_y, flip.flips_x) for flip in _FLIPS)),
}


class Averaged(nn.Module):
    """Module that returns the mean prediction of several networks, in the channels listed in `cellmill.models.outputs`.

    Parameters
    ----------
    networks : sequence of nn.Module
        In evaluation mode, with the same input and output and the interface described in `cellmill.models.registry`.
    output : str
        `network.output` of their preset.
    average : "none", "flips" or "rotations"
        Test-time augmentation: 1, 4 or 8 orientations of each image are predicted.
    classes : int, >= 0
        Number of class planes at the end of the input. Each class is predicted in turn and the predictions are
        averaged; with 0 all planes stay as they are.
    precision : "fp32", "bf16" or "fp16"
        Precision of the convolutions, see `device.settle_precision`.

    Notes
    -----
    Has `stride_px`, `halo_px` and `is_recurrent` like its networks. Windows whose start and size are multiples of the
    stride keep this property when rotated or flipped, so tiles still give the same result as the whole image.
    """

    def __init__(
        self, networks: Sequence[nn.Module], *, output: str, average: str, classes: int, precision: str
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.stride_px = max(int(network.stride_px) for network in networks)  # type: ignore[arg-type]
        self.halo_px = max(int(network.halo_px) for network in networks)  # type: ignore[arg-type]
        self.is_recurrent = bool(networks[0].is_recurrent)
        self._output = output
        self._symmetries = SYMMETRIES[average]
        self._classes = classes
        self._precision = precision

    def forward(self, images: Tensor, state: list[Any] | None = None) -> Any:
        """Predict windows.

        Parameters
        ----------
        images : Tensor of float32, shape (b, c, y, x); of recurrent networks (b, t, c, y, x)
        state : list or None
            Recurrent networks only: state returned by the previous call.

        Returns
        -------
        Tensor of float32, shape (b, c, y, x), and for recurrent networks (b, t, c, y, x) and the next state
        """
        total: Tensor | None = None
        states: list[Any] = []
        ways = list(self._ways())
        for number, (network, symmetry, number_of_class) in enumerate(ways):
            seen = symmetry.apply(self._as_class(images, number_of_class))
            with choose_autocast(self._precision, device=images.device):
                if self.is_recurrent:
                    logits, next_state = network(seen, None if state is None else state[number])
                    states.append(next_state)
                else:
                    logits = network(seen)
            maps = to_probabilities(logits.reshape(-1, *logits.shape[-3:]), output=self._output)
            maps = symmetry.undo(maps, has_vectors=self._output == "flow")
            # Accumulate one prediction at a time, so that memory holds only one more than without averaging.
            total = maps if total is None else total.add_(maps)
        assert total is not None
        mean = total if len(ways) == 1 else total.div_(len(ways))
        if not self.is_recurrent:
            return mean
        return mean.reshape(*images.shape[:2], *mean.shape[1:]), states

    def _ways(self) -> Iterator[tuple[nn.Module, Symmetry, int | None]]:
        for network in self.networks:
            for symmetry in self._symmetries:
                for number_of_class in range(self._classes) if self._classes else [None]:
                    yield network, symmetry, number_of_class

    def _as_class(self, images: Tensor, number: int | None) -> Tensor:
        if number is None:
            return images
        told = images.clone()
        told[..., -self._classes :, :, :] = 0
        told[..., number - self._classes, :, :] = 1
        return told
