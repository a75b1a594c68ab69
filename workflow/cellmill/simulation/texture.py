"""Random fields: the texture of cells (octaves of smoothed noise) and gradient noise for backgrounds."""

import functools

import numpy as np

SMALLEST_CUBIC_GRID = 3  # SOURCE SIMCEP: a grid below this size is interpolated linearly
LARGEST_MATRIX = 8192  # entries, 64 kB per matrix
CUBIC_SHARPNESS = -0.5  # ASSUME the usual bicubic kernel; Keys 1981, doi:10.1109/TASSP.1981.1163711


def draw_texture(
    shape: tuple[int, int],
    *,
    persistence: float,
    first_octave: int,
    octaves: int,
    bias: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a texture: a sum of noise on increasingly fine grids, weighted by powers of `persistence`.

    Parameters
    ----------
    shape : (rows, columns)
        Bounding box of the object in px.
    persistence : float, > 0
        Octave k has the weight persistence**k.
    first_octave : int, >= 1
        Octave k is noise on a grid of 2**k by 2**k over the whole box.
    octaves : int, >= 1
        Number of octaves: first_octave .. first_octave + octaves - 1.
    bias : float, in [0, 1]
        Lowest value of the texture; 1 is flat.
    rng : numpy.random.Generator
        4**k draws for octave k.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        In [bias, 1]; both bounds are reached, except that a constant texture is 1.

    Raises
    ------
    ValueError
        If `octaves` is below 1.

    Notes
    -----
    SOURCE SIMCEP: uniform noise, 3x3 mean with replicated border, enlarged to the box. The third number of
    SIMCEP's texture option is the number of octaves, although it is called the last octave.
    """
    if octaves < 1:
        raise ValueError(f"texture: expected at least 1 octave, found {octaves}. Raise octaves in the config.")
    total = np.zeros(shape)
    for octave in range(first_octave, first_octave + octaves):
        noise = rng.random((2**octave, 2**octave))
        total += persistence**octave * _smooth_and_enlarge(noise, shape)
    low, high = total.min(), total.max()
    if high <= low:  # a box of one pixel
        return np.ones(shape)
    return bias + (1 - bias) * (total - low) / (high - low)


def _smooth_and_enlarge(noise: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    # The mean and the interpolation are separable and linear, so a single weighted sum along each axis does both.
    rows = _along_rows(noise, shape[0])
    return np.ascontiguousarray(_along_rows(rows.T, shape[1]).T)


def _along_rows(grid: np.ndarray, length: int) -> np.ndarray:
    if len(grid) * length <= LARGEST_MATRIX:
        return _smoothing_matrix(len(grid), length) @ grid
    # For large grids and boxes, most of a matrix would be zeros.
    taps, weights = _smoothing_taps(len(grid), length)
    return np.einsum("it,itx->ix", weights, grid[taps], optimize=False)


@functools.lru_cache(maxsize=1024)
def _smoothing_matrix(grid: int, length: int) -> np.ndarray:
    taps, weights = _smoothing_taps(grid, length)
    matrix = np.zeros((length, grid))
    np.add.at(matrix, (np.arange(length)[:, None], taps), weights)
    matrix.setflags(write=False)
    return matrix


@functools.lru_cache(maxsize=4096)
def _smoothing_taps(grid: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each of `length` pixels, the grid nodes it depends on and their weights (sum 1)."""
    position = (np.arange(length) + 0.5) * grid / length - 0.5
    if grid < SMALLEST_CUBIC_GRID:
        offsets, kernel = np.arange(2), _linear
    else:
        offsets, kernel = np.arange(-1, 3), _cubic
    nodes = np.floor(position).astype(int)[:, None] + offsets
    weights = kernel(np.abs(position[:, None] - nodes))
    nodes = np.clip(nodes, 0, grid - 1)
    taps = np.clip(nodes[:, :, None] + np.arange(-1, 2), 0, grid - 1).reshape(length, -1)
    weights = np.repeat(weights / 3, 3, axis=1)
    taps.setflags(write=False)
    weights.setflags(write=False)
    return taps, weights


def _linear(distance: np.ndarray) -> np.ndarray:
    return np.clip(1 - distance, 0, None)


def _cubic(distance: np.ndarray) -> np.ndarray:
    a = CUBIC_SHARPNESS
    near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
    far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def draw_gradient_noise(
    shape: tuple[int, int], *, period_px: float, octaves: int, persistence: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw smooth noise with a characteristic length, for the blotches of stained debris and medium.

    Parameters
    ----------
    shape : (rows, columns)
        Image in px.
    period_px : float, > 0
        Lattice spacing of the coarsest octave; each further octave halves it.
    octaves : int, >= 1
        Number of lattices.
    persistence : float, > 0
        Amplitude of an octave relative to the next coarser octave.
    rng : numpy.random.Generator
        Stream of the image's background.

    Returns
    -------
    ndarray of float64, shape (rows, columns)
        In [0, 1]; both bounds are reached, unless the noise is constant and thus 0.

    Notes
    -----
    Gradient noise, Perlin 1985, doi:10.1145/325165.325247, with the fade of Perlin 2002,
    doi:10.1145/566654.566636. Each octave's lattice is shifted by a random fraction of its period.
    """
    total = np.zeros(shape)
    for octave in range(octaves):
        total += persistence**octave * _lattice_noise(shape, period_px=period_px / 2**octave, rng=rng)
    low, high = total.min(), total.max()
    if high <= low:
        return np.zeros(shape)
    return (total - low) / (high - low)


def _lattice_noise(shape: tuple[int, int], *, period_px: float, rng: np.random.Generator) -> np.ndarray:
    shift = rng.random(2)
    y, x = (np.arange(size) / period_px + start for size, start in zip(shape, shift, strict=True))
    angle = rng.uniform(0, 2 * np.pi, size=(int(y[-1]) + 2, int(x[-1]) + 2))
    weight_y, ramp_y = _fade_and_ramp(y, nodes=angle.shape[0])
    weight_x, ramp_x = _fade_and_ramp(x, nodes=angle.shape[1])
    # gradients at the lattice nodes, faded along both axes, as two matrix products
    return ramp_y @ np.sin(angle) @ weight_x.T + weight_y @ np.cos(angle) @ ramp_x.T


def _fade_and_ramp(position: np.ndarray, *, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of the two nodes around each position, and the weights times the distance from the node."""
    first = np.floor(position).astype(int)
    part = position - first
    fade = part**3 * (part * (6 * part - 15) + 10)
    weight, ramp = np.zeros((2, len(position), nodes))
    index = np.arange(len(position))
    weight[index, first], weight[index, first + 1] = 1 - fade, fade
    ramp[index, first], ramp[index, first + 1] = (1 - fade) * part, fade * (part - 1)
    return weight, ramp
