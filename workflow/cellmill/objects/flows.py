"""Flow fields: at each pixel of a cell, a unit vector that points along the cell towards its middle.

Axes    n cells of one block, c components y and x, y rows, x columns
Signs   flow_y is positive downwards, flow_x to the right: position + flow is the next position

# SOURCE Stringer et al. 2021, doi:10.1038/s41592-020-01018-x: heat diffusing within each cell from its middle
"""

from itertools import groupby

import numpy as np
from scipy import ndimage

from cellmill.objects.morphology import number_objects, remove_ignored

# Cells whose bounding boxes round up to the same multiple of this are computed together.
BOX_STEP_PX = 8
# Pixels per block, few enough for the processor's cache
BLOCK_PX = 2**16
# Rec. 601 weights of red, green and blue
GREY_WEIGHTS = (0.299, 0.587, 0.114)

Box = tuple[slice, ...]


def unit_flows(labels_yx: np.ndarray) -> np.ndarray:
    """Compute the flow field of a label image.

    Parameters
    ----------
    labels_yx : ndarray of unsigned integers, shape (rows, columns)
        0 background, IGNORE_LABEL ignored, any other number a cell.

    Returns
    -------
    ndarray of float32, shape (2, rows, columns)
        Components y and x, of length 1 in cells. 0 outside, at ignored pixels, and where the heat has no gradient: in
        cells of one pixel, in the middle of symmetric cells, in parts of a cell not connected to its middle.

    Notes
    -----
    The middle is the pixel of the cell nearest to the mean of its pixels. In each step, heat 1 is added there, then
    each pixel takes the sum over its 3 x 3 neighbourhood in the same cell, divided by 9. There are
    2 (height + width + 2) steps, with the size of the cell. The flow is the central difference of the heat (0 outside
    the cell), divided by its length. The first version of cellpose takes the logarithm of 1 + heat. It is omitted here,
    because it only bends the directions close to the middle and rounds faint heat to 0. A pixel connected to its cell
    only by corners has no neighbours for the central difference, so the difference along the diagonals is used. Heat
    spreads across corners, too, and a process one pixel wide may run diagonally.

    Up to four pixels around one corner that are equally near to the mean share the heat. A cell with an even number of
    pixels then has its middle between them, and mirrored labels have exactly mirrored flows. If equally near pixels
    lie further apart (in a ring), the first in reading order is used, as the cell would otherwise be split in two.

    Run time grows with the area of a cell's bounding box times its height plus width; compute flows once per image.
    """
    cells_yx, _ = number_objects(remove_ignored(labels_yx))
    flows_cyx = np.zeros((2, *labels_yx.shape), dtype=np.float32)
    for block in _blocks(list(ndimage.find_objects(cells_yx))):
        height, width = (max(box[axis].stop - box[axis].start for _, box in block) for axis in range(2))
        # A border of one pixel, where the heat stays 0, stands for the neighbours outside.
        masks_nyx = np.zeros((len(block), height + 2, width + 2), dtype=bool)
        for mask_yx, (number, box) in zip(masks_nyx, block, strict=True):
            _inner(mask_yx, box)[...] = cells_yx[box] == number
        heat_nyx = _spread_heat(masks_nyx, steps=np.array([_steps(box) for _, box in block]))
        flows_ncyx = _slopes(heat_nyx, masks_nyx)
        for mask_yx, flow_cyx, (_, box) in zip(masks_nyx, flows_ncyx, block, strict=True):
            inside_yx = _inner(mask_yx, box)
            for target_yx, component_yx in zip(flows_cyx, flow_cyx, strict=True):
                target_yx[box][inside_yx] = _inner(component_yx, box)[inside_yx]
    return flows_cyx


def grey_of_flows(flows_cyx: np.ndarray) -> np.ndarray:
    """Convert flows to the grey version of their colour image.

    Parameters
    ----------
    flows_cyx : ndarray of float, shape (2, rows, columns)
        Components y and x, of length 0 to 1.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        0 where there is no flow; from .294 to .706 for length 1, depending on the direction.

    Notes
    -----
    In the colour image, brightness is the length and hue is the direction: red, green and blue are
    length (1 + cos(a + k 2 pi / 3)) / 2 for k = 0, 1, 2, with the angle a from the direction -y towards -x, as in
    cellpose. Weighted by Rec. 601, the three cosines add up to a single cosine, so grey is length / 2 plus a fixed
    linear form of the components, which depends mostly on the horizontal component.
    """
    # SOURCE paper 4, section II.C: "field representations" of cellpose, converted to grey, as labels
    flow_y, flow_x = np.asarray(flows_cyx, dtype=np.float64)
    shifts = [k * 2 * np.pi / 3 for k in range(3)]
    # length cos(a + shift) = -flow_y cos(shift) + flow_x sin(shift)
    along_y = -sum(weight * np.cos(shift) for weight, shift in zip(GREY_WEIGHTS, shifts, strict=True))
    along_x = sum(weight * np.sin(shift) for weight, shift in zip(GREY_WEIGHTS, shifts, strict=True))
    grey_yx = (np.hypot(flow_y, flow_x) + along_y * flow_y + along_x * flow_x) / 2
    return grey_yx.astype(np.float32)


def _steps(box: Box) -> int:
    return 2 * sum(side.stop - side.start + 1 for side in box)


def _inner(yx: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of a bordered array that contains the cell of a box."""
    return yx[tuple(slice(1, 1 + side.stop - side.start) for side in box)]


def _blocks(boxes: list[Box]) -> list[list[tuple[int, Box]]]:
    """Group cells (number, box) into blocks of similar box size; cells with the most steps come first."""

    def rounded(cell: tuple[int, Box]) -> tuple[int, int]:
        rows, columns = (-(-(side.stop - side.start) // BOX_STEP_PX) * BOX_STEP_PX for side in cell[1])
        return rows, columns

    blocks = []
    for (rows, columns), group in groupby(sorted(enumerate(boxes, start=1), key=rounded), key=rounded):
        cells = sorted(group, key=lambda cell: -_steps(cell[1]))
        size = max(1, BLOCK_PX // ((rows + 2) * (columns + 2)))
        blocks += [cells[first : first + size] for first in range(0, len(cells), size)]
    return blocks


def _middles(mask_yx: np.ndarray) -> np.ndarray:
    """Find the pixels of a mask that are nearest to the mean of its pixels: int64, shape (1 to 4, 2)."""
    places = np.argwhere(mask_yx)
    # Multiplied by the number of pixels, so that equal distances are equal to the last bit
    offsets = (places * len(places) - places.sum(axis=0)).astype(np.float64)
    squared = (offsets**2).sum(axis=1)
    nearest = places[squared == squared.min()]
    return nearest if np.ptp(nearest, axis=0).max() <= 1 else nearest[:1]


def _spread_heat(masks_nyx: np.ndarray, *, steps: np.ndarray) -> np.ndarray:
    """Spread heat from the middle of each mask; `steps` must be in descending order."""
    middles = [_middles(mask_yx) for mask_yx in masks_nyx]
    counts = np.array([len(places) for places in middles])
    ends = np.cumsum(counts)
    at_n, (at_y, at_x) = np.repeat(np.arange(len(counts)), counts), np.concatenate(middles).T
    added = np.repeat(1 / counts, counts)

    ninths_nyx = masks_nyx[:, 1:-1, 1:-1] / 9
    heat_nyx = np.zeros(masks_nyx.shape)
    rows_nyx, sums_nyx = np.empty_like(heat_nyx[:, 1:-1]), np.empty_like(ninths_nyx)
    for step in range(int(steps[0])):
        running = np.count_nonzero(steps > step)
        heat, rows, sums = heat_nyx[:running], rows_nyx[:running], sums_nyx[:running]
        sources = slice(ends[running - 1])
        heat[at_n[sources], at_y[sources], at_x[sources]] += added[sources]
        # The two outer neighbours are added first, so that the sum does not change when the image is mirrored.
        np.add(heat[:, :-2], heat[:, 2:], out=rows)
        rows += heat[:, 1:-1]
        np.add(rows[:, :, :-2], rows[:, :, 2:], out=sums)
        sums += rows[:, :, 1:-1]
        np.multiply(sums, ninths_nyx[:running], out=heat[:, 1:-1, 1:-1])
    return heat_nyx


def _slopes(heat_nyx: np.ndarray, masks_nyx: np.ndarray) -> np.ndarray:
    """Compute unit vectors along the heat gradient, 0 on borders and flat areas: float64, (n, 2, rows, columns)."""
    slopes_ncyx = np.zeros((len(heat_nyx), 2, *heat_nyx.shape[1:]))
    np.subtract(heat_nyx[:, 2:], heat_nyx[:, :-2], out=slopes_ncyx[:, 0, 1:-1])
    np.subtract(heat_nyx[:, :, 2:], heat_nyx[:, :, :-2], out=slopes_ncyx[:, 1, :, 1:-1])
    has_side_nyx = np.zeros_like(masks_nyx)
    has_side_nyx[:, 1:-1] = masks_nyx[:, 2:] | masks_nyx[:, :-2]
    has_side_nyx[:, :, 1:-1] |= masks_nyx[:, :, 2:] | masks_nyx[:, :, :-2]
    n, y, x = np.nonzero(masks_nyx & ~has_side_nyx)
    falling = heat_nyx[n, y + 1, x + 1] - heat_nyx[n, y - 1, x - 1]
    rising = heat_nyx[n, y + 1, x - 1] - heat_nyx[n, y - 1, x + 1]
    slopes_ncyx[n, 0, y, x], slopes_ncyx[n, 1, y, x] = falling + rising, falling - rising
    lengths_nyx = np.hypot(slopes_ncyx[:, 0], slopes_ncyx[:, 1])
    return slopes_ncyx / np.where(lengths_nyx > 0, lengths_nyx, 1)[:, None]
