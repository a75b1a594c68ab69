"""Prediction in tiles that equals prediction of the whole image.

A tile is a core, which is kept, and a halo around it, which the network only looks at. Cores and windows
start at multiples of the network's stride, so that poolings fall on the same pixels as in the whole image; the
halo is at least as wide as the network sees. What remains of a difference is the rounding of float32.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cellmill.normalise import InputScale, mirror, read_window


@dataclass(frozen=True)
class Span:
    """One tile along one axis, px: the window that the network sees and the core that is kept of it."""

    start: int
    length: int
    core_start: int
    core_stop: int


def plan_spans(size: int, *, tile: int, stride_px: int, halo_px: int) -> list[Span]:
    """Cut one axis into tiles.

    Parameters
    ----------
    size : int, > 0
        Length of the image's axis, px.
    tile : int, > 0
        Longest core, px; rounded up to the stride.
    stride_px, halo_px : int
        Of the network.

    Returns
    -------
    list of Span
        Cores of almost equal length that cover 0 .. size once; all windows have one length and lie within the
        axis padded to a multiple of the stride.
    """
    padded = _round_up(size, stride_px)
    halo_px = _round_up(halo_px, stride_px)
    count = -(-padded // _round_up(tile, stride_px))
    core = _round_up(-(-padded // count), stride_px)
    starts = range(0, padded, core)
    # With two tiles each has a halo on one side only.
    length = min(padded, core + min(len(starts) - 1, 2) * halo_px)
    return [
        Span(
            start=min(max(0, start - halo_px), padded - length),
            length=length,
            core_start=start,
            core_stop=min(start + core, size),
        )
        for start in starts
    ]


def predict_tiled(
    network: nn.Module,
    image_yx: np.ndarray,
    *,
    scale: InputScale,
    tile: tuple[int, int],
    batch: int,
    device: torch.device,
    finish: Callable[[Tensor], Tensor],
) -> np.ndarray:
    """Run a network over an image of any size.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on `device`; as `cellmill.models` describes.
    image_yx : ndarray of float32, shape (rows, columns)
        A preprocessed image, not normalised; a memory map is read a batch of tiles at a time.
    scale : InputScale
        How this image is normalised.
    tile : (rows, columns)
        Largest core, px; an image up to this size is predicted at once.
    batch : int, > 0
        Tiles that the network sees at once.
    device : torch.device
        Where the network is.
    finish : callable
        From logits_bcyx to what is kept, such as the sigmoid.

    Returns
    -------
    ndarray, shape (channels, rows, columns)
        With the dtype that `finish` gives.
    """
    rows, columns = image_yx.shape
    geometry = {"stride_px": int(network.stride_px), "halo_px": int(network.halo_px)}  # type: ignore[arg-type]
    tiles = [
        (down, across)
        for down in plan_spans(rows, tile=tile[0], **geometry)
        for across in plan_spans(columns, tile=tile[1], **geometry)
    ]
    result_cyx: np.ndarray | None = None
    with torch.inference_mode():
        for group in _batches(tiles, batch):
            windows_byx = np.stack([_read_tile(image_yx, spans, scale=scale) for spans in group])
            images_bcyx = torch.from_numpy(windows_byx)[:, None].to(device, memory_format=torch.channels_last)
            kept_bcyx = finish(network(images_bcyx)).cpu().numpy()
            if result_cyx is None:
                result_cyx = np.empty((kept_bcyx.shape[1], rows, columns), dtype=kept_bcyx.dtype)
            for (down, across), kept_cyx in zip(group, kept_bcyx, strict=True):
                target = (slice(down.core_start, down.core_stop), slice(across.core_start, across.core_stop))
                source = (_within(down), _within(across))
                result_cyx[:, *target] = kept_cyx[:, *source]
    assert result_cyx is not None
    return result_cyx


def _read_tile(image_yx: np.ndarray, spans: tuple[Span, Span], *, scale: InputScale) -> np.ndarray:
    down, across = spans
    rows = mirror(down.start, down.length, image_yx.shape[0])
    columns = mirror(across.start, across.length, image_yx.shape[1])
    return read_window(image_yx, rows=rows, columns=columns, scale=scale)


def _within(span: Span) -> slice:
    return slice(span.core_start - span.start, span.core_stop - span.start)


def _batches(tiles: list[tuple[Span, Span]], batch: int) -> Iterator[list[tuple[Span, Span]]]:
    for first in range(0, len(tiles), batch):
        yield tiles[first : first + batch]


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
