"""Prediction in tiles that equals prediction of the whole image.

A tile is a core, which is kept, and a halo around it, which the network only looks at. Cores and windows
start at multiples of the network's stride, so that poolings fall on the same pixels as in the whole image; the
halo is at least as wide as the network sees. What remains of a difference is the rounding of float32.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cellmill.normalise import mirror
from cellmill.views import View


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
    view: View,
    *,
    tile: tuple[int, int],
    batch: int,
    device: torch.device,
    finish: Callable[[Tensor], Tensor],
) -> np.ndarray:
    """Run a feed-forward network over an image of any size.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on `device`; as `cellmill.models` describes.
    view : View
        What the network sees of the image; a memory map is read a batch of tiles at a time.
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
    result_cyx: np.ndarray | None = None
    with torch.inference_mode():
        for group in _batches(_plan_tiles(network, view.shape, tile=tile), batch):
            windows_bcyx = np.stack([_read_tile(view, spans) for spans in group])
            images_bcyx = torch.from_numpy(windows_bcyx).to(device, memory_format=torch.channels_last)
            kept_bcyx = finish(network(images_bcyx)).cpu().numpy()
            if result_cyx is None:
                result_cyx = np.empty((kept_bcyx.shape[1], *view.shape), dtype=kept_bcyx.dtype)
            _keep_cores(result_cyx, kept_bcyx, group)
    assert result_cyx is not None
    return result_cyx


def predict_passage(
    network: nn.Module,
    views: Sequence[View],
    *,
    warmup: int,
    tile: tuple[int, int],
    batch: int,
    device: torch.device,
    finish: Callable[[Tensor], Tensor],
    empty: Callable[[tuple[int, ...], np.dtype], np.ndarray],
) -> np.ndarray:
    """Run a recurrent network over the frames of a passage, tile by tile through the time.

    Parameters
    ----------
    network, tile, batch, device, finish
        As for `predict_tiled`.
    views : sequence of View
        The frames in their order, of one size.
    warmup : int, >= 0
        So many first frames are played backwards before the first one, so that its memory is not empty.
    empty : callable
        Makes the array of the result from its shape and dtype, such as a memory map.

    Returns
    -------
    ndarray, shape (frames, channels, rows, columns)

    Notes
    -----
    A tile remembers what it saw itself: at its seams the memory of what lies beyond its halo is missing, since what a
    network with memory sees grows with each frame.
    """
    result_tcyx: np.ndarray | None = None
    first = list(range(min(warmup, len(views)) - 1, -1, -1))
    with torch.inference_mode():
        for group in _batches(_plan_tiles(network, views[0].shape, tile=tile), batch):
            state = None
            for number, is_kept in [*((n, False) for n in first), *((n, True) for n in range(len(views)))]:
                windows_bcyx = np.stack([_read_tile(views[number], spans) for spans in group])
                logits_btcyx, state = network(torch.from_numpy(windows_bcyx)[:, None].to(device), state)
                if not is_kept:
                    continue
                kept_bcyx = finish(logits_btcyx[:, 0]).cpu().numpy()
                if result_tcyx is None:
                    result_tcyx = empty((len(views), kept_bcyx.shape[1], *views[0].shape), kept_bcyx.dtype)
                _keep_cores(result_tcyx[number], kept_bcyx, group)
    assert result_tcyx is not None
    return result_tcyx


def _plan_tiles(network: nn.Module, shape: tuple[int, int], *, tile: tuple[int, int]) -> list[tuple[Span, Span]]:
    geometry = {"stride_px": int(network.stride_px), "halo_px": int(network.halo_px)}  # type: ignore[arg-type]
    return [
        (down, across)
        for down in plan_spans(shape[0], tile=tile[0], **geometry)
        for across in plan_spans(shape[1], tile=tile[1], **geometry)
    ]


def _keep_cores(result_cyx: np.ndarray, kept_bcyx: np.ndarray, group: list[tuple[Span, Span]]) -> None:
    for (down, across), kept_cyx in zip(group, kept_bcyx, strict=True):
        target = (slice(down.core_start, down.core_stop), slice(across.core_start, across.core_stop))
        result_cyx[:, *target] = kept_cyx[:, _within(down), _within(across)]


def _read_tile(view: View, spans: tuple[Span, Span]) -> np.ndarray:
    down, across = spans
    rows = mirror(down.start, down.length, view.shape[0])
    columns = mirror(across.start, across.length, view.shape[1])
    return view.read(rows, columns)


def _within(span: Span) -> slice:
    return slice(span.core_start - span.start, span.core_stop - span.start)


def _batches(tiles: list[tuple[Span, Span]], batch: int) -> Iterator[list[tuple[Span, Span]]]:
    for first in range(0, len(tiles), batch):
        yield tiles[first : first + batch]


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
