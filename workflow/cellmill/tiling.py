"""Prediction in tiles that equals prediction of the whole image.

A tile is a core, which is kept, and a halo around it, which the network only looks at. Cores and windows
start at multiples of the network's stride, so that poolings fall on the same pixels as in the whole image; the
halo is at least as wide as the network sees. What remains of a difference is the rounding of float32.

Networks whose normalisation looks at the whole window see further than any halo and have seams. There cores reach into
each other's halo, and the weight goes linearly from one to the other. What a recurrent network sees grows with each
frame, too; but trained ones forget what is far away: on eight frames tiles of 112 px differed from the whole by 1e-8
(tests/benchmarks/RESULTS.md), and blending, which takes in pixels with less around them, made it worse.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cellmill.normalise import mirror
from cellmill.views import View

logger = logging.getLogger(__name__)

Run = Callable[[list[tuple["Span", "Span"]]], np.ndarray]


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


def blend_px(network: nn.Module) -> int:
    """Give how far (px) a core reaches into its halo and is blended there: 0 where tiles equal the whole image."""
    sees_all = any(isinstance(part, (nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm)) for part in network.modules())
    return int(network.halo_px) // 2 if sees_all else 0  # type: ignore[arg-type]


def predict_bands(
    network: nn.Module,
    view: View,
    *,
    tile: tuple[int, int],
    batch: int,
    device: torch.device,
    finish: Callable[[Tensor], Tensor],
) -> Iterator[np.ndarray]:
    """Run a feed-forward network over an image of any size, from top to bottom.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on `device`; as `cellmill.models` describes.
    view : View
        What the network sees of the image; a memory map is read a batch of tiles at a time.
    tile : (rows, columns)
        Largest core, px; an image up to this size is predicted at once.
    batch : int, > 0
        Tiles that the network sees at once; halved where the memory of a GPU does not hold them.
    device : torch.device
        Where the network is.
    finish : callable
        From logits_bcyx to what is kept, such as the sigmoid.

    Yields
    ------
    ndarray, shape (channels, rows of the band, columns)
        With the dtype that `finish` gives. Memory does not grow with the number of rows.

    Raises
    ------
    MemoryError
        If the memory of the GPU does not hold a single tile.
    """

    def run(group: list[tuple[Span, Span]]) -> np.ndarray:
        windows_bcyx = np.stack([_read_tile(view, spans) for spans in group])
        images_bcyx = torch.from_numpy(windows_bcyx).to(device, memory_format=torch.channels_last)
        kept_bcyx: np.ndarray = finish(network(images_bcyx)).cpu().numpy()
        return kept_bcyx

    mosaic = _Mosaic(network, view.shape, tile=tile)
    batches = _Batches(batch)
    with torch.inference_mode():
        for down in mosaic.down:
            tiles = [(down, across) for across in mosaic.across]
            yield mosaic.add_row(down, batches.run(tiles, run))
            view.release_pages()


def predict_tiled(
    network: nn.Module,
    view: View,
    *,
    tile: tuple[int, int],
    batch: int,
    device: torch.device,
    finish: Callable[[Tensor], Tensor],
) -> np.ndarray:
    """Run a feed-forward network over an image: the bands of `predict_bands` as one array (channels, rows, columns)."""
    given = {"tile": tile, "batch": batch, "device": device, "finish": finish}
    bands = list(predict_bands(network, view, **given))  # type: ignore[arg-type]
    return bands[0] if len(bands) == 1 else np.concatenate(bands, axis=1)


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
        As for `predict_bands`.
    views : sequence of View
        The frames in their order, of one size.
    warmup : int, >= 0
        So many first frames are played backwards before the first one, so that its memory is not empty.
    empty : callable
        Makes the array of the result, filled with zeros, from its shape and dtype, such as a memory map.

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
    played = [*((number, False) for number in first), *((number, True) for number in range(len(views)))]

    def run(group: list[tuple[Span, Span]]) -> np.ndarray:
        state, kept = None, []
        for number, is_kept in played:
            windows_bcyx = np.stack([_read_tile(views[number], spans) for spans in group])
            logits_btcyx, state = network(torch.from_numpy(windows_bcyx)[:, None].to(device), state)
            if is_kept:
                kept.append(finish(logits_btcyx[:, 0]).cpu().numpy())
        return np.stack(kept, axis=1)

    mosaic = _Mosaic(network, views[0].shape, tile=tile)
    batches = _Batches(batch)
    with torch.inference_mode():
        for down in mosaic.down:
            for spans, kept_tcyx in batches.run([(down, across) for across in mosaic.across], run):
                if result_tcyx is None:
                    result_tcyx = empty((len(views), kept_tcyx.shape[1], *views[0].shape), kept_tcyx.dtype)
                mosaic.paint(result_tcyx, kept_tcyx, spans, first_row=0)
    assert result_tcyx is not None
    return result_tcyx


class _Mosaic:
    """How the tiles of an image are put together; keeps the rows that the next row of tiles still adds to."""

    def __init__(self, network: nn.Module, shape: tuple[int, int], *, tile: tuple[int, int]) -> None:
        geometry = {"stride_px": int(network.stride_px), "halo_px": int(network.halo_px)}  # type: ignore[arg-type]
        self.down, self.across = (plan_spans(shape[axis], tile=tile[axis], **geometry) for axis in range(2))
        # No core is narrower than what its two neighbours blend with it, but the last, which has one only.
        cores = [spans[0].core_stop for spans in (self.down, self.across)]
        self._blend_px = min(blend_px(network), *(core // 2 for core in cores))
        self._shape = shape
        self._rest_cyx: np.ndarray | None = None

    def add_row(self, down: Span, tiles: Iterator[tuple[tuple[Span, Span], np.ndarray]]) -> np.ndarray:
        """Put a row of tiles together with what the last one left; give the rows that no later tile adds to."""
        first, last = self._reach(down, self._shape[0])
        band_cyx: np.ndarray | None = None
        dtype = np.dtype(np.float32)
        for spans, kept_cyx in tiles:
            if band_cyx is None:
                dtype = kept_cyx.dtype
                # Weighted parts are added up in single precision: rounded one by one they pass 1.
                exact = np.float32 if self._blend_px else dtype
                band_cyx = np.zeros((len(kept_cyx), last - first, self._shape[1]), dtype=exact)
            self.paint(band_cyx, kept_cyx, spans, first_row=first)
        assert band_cyx is not None
        if self._rest_cyx is not None:
            band_cyx[:, : self._rest_cyx.shape[1]] += self._rest_cyx
        done = (last if down is self.down[-1] else down.core_stop - self._blend_px) - first
        self._rest_cyx = band_cyx[:, done:].copy()
        return band_cyx[:, :done].astype(dtype, copy=False)

    def paint(self, target: np.ndarray, kept: np.ndarray, spans: tuple[Span, Span], *, first_row: int) -> None:
        """Add what is kept of a tile, shapes (..., rows, columns), to a target whose rows start at `first_row`."""
        (top, bottom), (left, right) = (self._reach(span, size) for span, size in zip(spans, self._shape, strict=True))
        down, across = spans
        part = kept[..., top - down.start : bottom - down.start, left - across.start : right - across.start]
        place = (..., slice(top - first_row, bottom - first_row), slice(left, right))
        if self._blend_px == 0:
            target[place] = part
        else:
            weights = [self._weights(span, size) for span, size in zip(spans, self._shape, strict=True)]
            target[place] += (part * weights[0][:, None] * weights[1]).astype(target.dtype)

    def _reach(self, span: Span, size: int) -> tuple[int, int]:
        return max(0, span.core_start - self._blend_px), min(size, span.core_stop + self._blend_px)

    def _weights(self, span: Span, size: int) -> np.ndarray:
        """Weight of a tile along one axis; those of all tiles add up to 1 in each pixel."""
        places = np.arange(*self._reach(span, size)) + 0.5
        weights = np.ones(len(places), dtype=np.float32)
        for edge, sign in ((span.core_start, 1), (span.core_stop, -1)):
            if 0 < edge < size:
                ramp = 0.5 + sign * (places - edge) / (2 * self._blend_px)
                weights *= np.clip(ramp, 0, 1).astype(np.float32)
        return weights


class _Batches:
    """Tiles that are run together, fewer from then on where memory does not hold them."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, tiles: list[tuple[Span, Span]], run: Run) -> Iterator[tuple[tuple[Span, Span], np.ndarray]]:
        """Give each tile with what `run` makes of it."""
        todo = list(tiles)
        while todo:
            group = todo[: self._size]
            try:
                kept = run(group)
            except torch.OutOfMemoryError as error:
                self._halve(len(group), error)
                continue
            todo = todo[len(group) :]
            yield from zip(group, kept, strict=True)

    def _halve(self, count: int, error: torch.OutOfMemoryError) -> None:
        if count == 1:
            raise MemoryError(
                f"predict.tile: expected a tile that the memory of the GPU holds, found {error}. Halve predict.tile."
            ) from error
        self._size = count // 2
        torch.cuda.empty_cache()
        logger.warning("out of memory with %d tiles at once: from now on %d", count, self._size)


def _read_tile(view: View, spans: tuple[Span, Span]) -> np.ndarray:
    down, across = spans
    rows = mirror(down.start, down.length, view.shape[0])
    columns = mirror(across.start, across.length, view.shape[1])
    return view.read(rows, columns)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
