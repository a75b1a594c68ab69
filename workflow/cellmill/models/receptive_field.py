"""Receptive field of a network, computed from a list of its layers.

The list goes from input to output and holds only the layers that change the receptive field: convolutions, poolings,
upsamplings and skip connections. Rows and columns are treated alike, so the computation is one-dimensional.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """A convolution or pooling: pixel p is computed from pixels stride * p - before_px to stride * p + after_px."""

    before_px: int
    after_px: int
    stride: int = 1


@dataclass(frozen=True)
class Upsample:
    """Upsampling by a factor of two.

    Pixel p is computed from pixel p // 2 (repetition, transposed convolution 2x2 of stride 2, unpooling), or with
    bilinear interpolation from the two pixels around (p - 0.5) / 2.
    """

    is_bilinear: bool


@dataclass(frozen=True)
class Keep:
    """The start of a skip connection."""

    name: int


@dataclass(frozen=True)
class Join:
    """The end of the skip connection of this name, which adds the receptive field of the kept features."""

    name: int


Layer = Window | Upsample | Keep | Join

POOL = Window(before_px=0, after_px=1, stride=2)


def convolution(kernel_px: int) -> Window:
    """Return the window of a convolution with an odd kernel that keeps the size."""
    return Window(before_px=kernel_px // 2, after_px=kernel_px // 2)


def trace_back(layers: Sequence[Layer], *, pixel: int) -> tuple[int, int]:
    """Trace a pixel of the last layer back to the input.

    Parameters
    ----------
    layers : sequence of layers
        From input to output.
    pixel : int
        Position on the grid of the last layer, far from the border.

    Returns
    -------
    first, last : int
        The outermost input pixels in its receptive field.
    """
    first = last = pixel
    kept: dict[int, tuple[int, int]] = {}
    for layer in reversed(layers):
        if isinstance(layer, Window):
            first, last = layer.stride * first - layer.before_px, layer.stride * last + layer.after_px
        elif isinstance(layer, Upsample):
            first, last = ((first - 1) // 2, (last + 1) // 2) if layer.is_bilinear else (first // 2, last // 2)
        elif isinstance(layer, Join):
            kept[layer.name] = (first, last)
        elif layer.name in kept:
            other_first, other_last = kept.pop(layer.name)
            first, last = min(first, other_first), max(last, other_last)
    assert not kept, kept
    return first, last


def measure_stride(layers: Sequence[Layer]) -> int:
    """Return the largest distance (px of the input) between neighbouring pixels of any layer."""
    scale, deepest = 1, 1
    for layer in layers:
        if isinstance(layer, Window):
            scale *= layer.stride
        elif isinstance(layer, Upsample):
            scale //= 2
        deepest = max(deepest, scale)
    assert scale == 1, scale
    return deepest


def measure_receptive_field(layers: Sequence[Layer]) -> tuple[int, int]:
    """Compute the largest receptive field of any output pixel.

    Parameters
    ----------
    layers : sequence of layers
        From input to output, which have the same size.

    Returns
    -------
    extent_px, reach_px : int
        Largest extent of a receptive field along one axis, and the largest distance from an output pixel to an input
        pixel in its field.

    Notes
    -----
    The field depends on the pixel's position within a block of `measure_stride` pixels, so all positions are tried.
    Unpooling positions do not widen it: they are chosen among pixels in the field of the pooled value.
    """
    extent_px = reach_px = 0
    for pixel in range(measure_stride(layers)):
        first, last = trace_back(layers, pixel=pixel)
        extent_px = max(extent_px, last - first + 1)
        reach_px = max(reach_px, pixel - first, last - pixel)
    return extent_px, reach_px
