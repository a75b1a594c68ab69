"""Tiled prediction that equals prediction of the whole image.

A tile consists of a core, which is kept, and a halo around it, which is only input. Cores and windows start at
multiples of the network's stride, so that poolings fall on the same pixels as in the whole image. The halo is at least
as wide as the network's `halo_px`. The only remaining difference is rounding in float32.

If a network's normalisation uses the whole window, its receptive field exceeds any halo and seams appear. Then
neighbouring cores overlap and are blended with linear weights. The receptive field of a recurrent network also grows
with each frame, but in trained networks the influence of distant pixels vanishes. On eight frames, tiles of 112 px
differed from the whole image by 1e-8 (tests/benchmarks/RESULTS.md). Blending made it worse, because it includes pixels
with less context.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cellmill.inference.normalise import mirror
from cellmill.inference.views import View

logger = logging.getLogger(__name__)

Run = Callable[[list[tuple["Span", "Span"]]], np.ndarray]


@dataclass(frozen=True)
class Span:
    """One tile along one axis, px: the input window (start, length) and the core that is kept."""

    start: int
    length: int
    core_start: int
    core_stop: int


def plan_spans(size: int, *, tile: int, stride_px: int, halo_px: int) -> list[Span]:
    """Split one axis into tiles.

    Parameters
    ----------
    size : int, > 0
        Length of the image's axis, px.
    tile : int, > 0
        Longest core, px; rounded up to a multiple of the stride.
    stride_px, halo_px : int
        Attributes of the network.

    Returns
    -------
    list of Span
        Cores of almost equal length that cover 0 .. size once; all windows have the same length and lie within the
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
    """Return how far (px) cores extend into their halo to be blended; 0 if tiles equal the whole image anyway."""
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
    """Apply a feed-forward network to an image of any size, from top to bottom.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, on `device`, with the interface described in `cellmill.models.registry`.
    view : View
        Input planes of the image; memory maps are read one batch of tiles at a time.
    tile : (rows, columns)
        Largest core, px; an image up to this size is predicted at once.
    batch : int, > 0
        Tiles per batch; halved if GPU memory runs out.
    device : torch.device
        Device of the network.
    finish : callable
        Converts logits_bcyx to the result, for instance the sigmoid.

    Yields
    ------
    ndarray, shape (channels, rows of the band, columns)
        With the dtype returned by `finish`. Memory does not grow with the number of rows.

    Raises
    ------
    MemoryError
        If a single tile does not fit into GPU memory.
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
    """Apply a feed-forward network to an image and return the bands of `predict_bands` as one array.

    The shape is (channels, rows, columns).
    """
    bands = list(predict_bands(network, view, tile=tile, batch=batch, device=device, finish=finish))
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
    scratch_dir: str | Path,
) -> np.ndarray:
    """Apply a recurrent network to the frames of a passage, one batch of tiles at a time through all frames.

    Parameters
    ----------
    network, tile, batch, device, finish
        As for `predict_bands`.
    views : sequence of View
        The frames in order, all of the same size.
    warmup : int, >= 0
        Number of initial frames fed in reverse order before the first frame, to initialise the hidden state.
    scratch_dir : path
        Folder for the file that holds the result. The next call with the same folder overwrites this file.

    Returns
    -------
    ndarray, shape (frames, channels, rows, columns)
        Memory-mapped, because the maps of a long passage may not fit into memory.

    Notes
    -----
    Each tile has its own hidden state, which lacks information from beyond its halo: the receptive field of a
    recurrent network grows with each frame.
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
                    shape = (len(views), kept_tcyx.shape[1], *views[0].shape)
                    result_tcyx = _map_array(Path(scratch_dir) / "passage.bin", shape, kept_tcyx.dtype)
                mosaic.paint(result_tcyx, kept_tcyx, spans, first_row=0)
    assert result_tcyx is not None
    return result_tcyx


def _map_array(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.memmap(path, mode="w+", shape=shape, dtype=dtype)


class _Mosaic:
    """Assembly of tiles into an image; keeps the rows that the next row of tiles still adds to."""

    def __init__(self, network: nn.Module, shape: tuple[int, int], *, tile: tuple[int, int]) -> None:
        stride_px, halo_px = int(network.stride_px), int(network.halo_px)  # type: ignore[arg-type]
        self.down, self.across = (
            plan_spans(size, tile=core, stride_px=stride_px, halo_px=halo_px)
            for size, core in zip(shape, tile, strict=True)
        )
        # A core must be at least as wide as the blending at both of its edges; the last core has only one such edge.
        cores = [spans[0].core_stop for spans in (self.down, self.across)]
        self._blend_px = min(blend_px(network), *(core // 2 for core in cores))
        self._shape = shape
        self._rest_cyx: np.ndarray | None = None

    def add_row(self, down: Span, tiles: Iterator[tuple[tuple[Span, Span], np.ndarray]]) -> np.ndarray:
        """Add a row of tiles to the rows kept from the previous one, and return the rows that are complete."""
        first, last = self._reach(down, self._shape[0])
        band_cyx: np.ndarray | None = None
        dtype = np.dtype(np.float32)
        for spans, kept_cyx in tiles:
            if band_cyx is None:
                dtype = kept_cyx.dtype
                # Weighted parts are summed in single precision: if each were rounded, the sum could exceed 1.
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
        """Write the core of a tile, shape (..., rows, columns), into a target whose rows start at `first_row`.

        With blending, the weighted core is added instead.
        """
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
        """Compute the weights of a tile along one axis; in each pixel the weights of all tiles add up to 1."""
        places = np.arange(*self._reach(span, size)) + 0.5
        weights = np.ones(len(places), dtype=np.float32)
        for edge, sign in ((span.core_start, 1), (span.core_stop, -1)):
            if 0 < edge < size:
                ramp = 0.5 + sign * (places - edge) / (2 * self._blend_px)
                weights *= np.clip(ramp, 0, 1).astype(np.float32)
        return weights


class _Batches:
    """Batched prediction of tiles; the batch size is halved for good if GPU memory runs out."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, tiles: list[tuple[Span, Span]], run: Run) -> Iterator[tuple[tuple[Span, Span], np.ndarray]]:
        """Yield each tile with its result from `run`."""
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
                f"predict.tile: expected a tile that fits into GPU memory, found {error}. Halve predict.tile."
            ) from error
        self._size = count // 2
        torch.cuda.empty_cache()
        logger.warning("out of memory with %d tiles at once: continuing with %d at once", count, self._size)


def _read_tile(view: View, spans: tuple[Span, Span]) -> np.ndarray:
    down, across = spans
    rows = mirror(down.start, down.length, view.shape[0])
    columns = mirror(across.start, across.length, view.shape[1])
    return view.read(rows, columns)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
