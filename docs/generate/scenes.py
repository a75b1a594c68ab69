"""The gallery of scenes: write the page docs/scenes.md and a picture of each scene.

``make scenes`` runs it; a test compares the page and reports that command.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from cellmill.config import scenes
from cellmill.config.scenes import list_scenes, read_scene
from cellmill.config.simulate import Simulate, image_settings
from cellmill.simulation.imaging import simulate_image
from cellmill.simulation.sequence import simulate_sequence

logger = logging.getLogger(__name__)

COMMAND = "make scenes"
ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/scenes.md"
PICTURES_DIR = ROOT / "docs/pictures/scenes"

SAMPLE, SEED = "gallery", 7
FRAMES = (0, 10, 20)
HEIGHT_PX, GAP_PX = 300, 6
DETAIL_RADII, DETAIL_PX = 8, (110, 300)  # side of the detail in cell radii, and its limits in px
STRETCH_PERCENT = (0.5, 99.9)
DARK_MEDIAN, DARK_GAMMA = 0.2, 0.6  # brightens faint cells on a dark background
GREYS = 48
# Okabe and Ito, distinguishable with any colour vision; a track keeps its colour
LINE_COLOURS = np.array([(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0)])

KEYS = (
    "size", "cells", "cell.radius_px", "cell.brightness", "nucleus.radius_px", "organelles.count",
    "clusters.count", "clusters.probability", "overlap.limit", "overlap.of", "focus.sigma_px", "background.level",
    "illumination.energy_ratio", "dirt.count", "camera.full_scale_counts", "camera.noise", "camera.jpeg_quality",
    "camera.stains", "time_lapse.frames", "time_lapse.speed_px", "time_lapse.cycle_frames",
)  # fmt: skip

HEAD = """# Scenes

Ready-made `simulate` sections, `resources/scenes/*.yaml`. A config selects a scene by its name. Keys beside `scene`
override those of the scene, section by section. A different `size` keeps the density unless `cells` is set:

```yaml
datasets:
  synthetic:
    simulate: {scene: demo, images: 200, cells: [5, 15], camera: {noise: 0.05}}
    models: [default]
```

Comments in the files state the source of each number. Every picture shows a whole image (one panel per stain, if the
stains are separate) and a detail of it with the true outlines. Time-lapse scenes show the detail in three frames, with
one colour per track. Dark images are brightened. The similarity of the scene bbbc005 to real images is shown by
`make bbbc005`, in this [figure](pictures/bbbc005.png) and in [RESULTS.md](../tests/benchmarks/RESULTS.md).

"""


@dataclass(frozen=True)
class Scene:
    """A file of resources/scenes.

    Attributes
    ----------
    name, title : str
        The title is the first comment line of the file.
    written : dict
        The section as written in the file.
    simulate : dict
        The section with every default filled in.
    """

    name: str
    title: str
    written: dict[str, Any]
    simulate: dict[str, Any]

    @property
    def is_sequence(self) -> bool:
        """Whether the scene consists of sequences of frames."""
        return self.simulate["time_lapse"] is not None

    @property
    def is_stained_apart(self) -> bool:
        """Whether the scene has a separate channel for each stain."""
        return bool(self.simulate["camera"]["stains"] == "separate")


@dataclass(frozen=True)
class Shot:
    """An image or a frame of a scene, counts of shape (rows, columns) or (stains, rows, columns), and its labels."""

    frame: int
    counts: np.ndarray
    labels_yx: np.ndarray


def load_scene(name: str) -> Scene:
    """Read a scene with its title.

    Raises
    ------
    ValueError
        If there is no scene of this name, or its file does not begin with a comment.
    """
    written = read_scene(name)
    path = scenes.SCENES_DIR / f"{name}.yaml"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    if not first.startswith("# "):
        raise ValueError(
            f"{path.name}: expected a title as the first line, found {first!r}. Begin the file with a comment."
        )
    simulate = image_settings(Simulate.model_validate({"scene": name}))
    return Scene(name, first.removeprefix("# "), written, simulate)


def shoot(scene: Scene) -> list[Shot]:
    """Simulate the images of the gallery: one image, or the frames `FRAMES` of one sequence."""
    if not scene.is_sequence:
        image = simulate_image(SAMPLE, seed=SEED, simulate=scene.simulate)
        return [Shot(0, image.counts, image.labels_yx)]
    frames = simulate_sequence(SAMPLE, seed=SEED, simulate=scene.simulate, frames=FRAMES)
    return [Shot(frame.frame, frame.counts, frame.labels_yx) for frame in frames]


def draw_picture(scene: Scene, shots: Sequence[Shot]) -> Image.Image:
    """Put the first shot, one panel per stain, and the details side by side.

    Returns
    -------
    PIL.Image.Image
        Palette image of `HEIGHT_PX` rows.
    """
    radius_px = scene.simulate["cell"]["radius_px"][1]
    window = find_detail(shots[0].labels_yx, side_px=int(np.clip(DETAIL_RADII * radius_px, *DETAIL_PX)))
    no_line = np.full((HEIGHT_PX, GAP_PX), -1)
    panels: list[tuple[np.ndarray, np.ndarray]] = []
    for plane_yx in _planes(scene, shots[0].counts):
        shown_yx = _resize(_develop(plane_yx))
        panels.append((shown_yx, _frame_lines(window, plane_yx.shape, shown_yx.shape)))
    for shot in shots:
        shown_yx = _resize(_develop(_planes(scene, shot.counts)[0])[window])
        panels.append((shown_yx, _outline_lines(shot.labels_yx[window], shown_yx.shape)))
    gap = (np.full(no_line.shape, 255, dtype=np.uint8), no_line)
    row = [part for panel in panels for part in (panel, gap)][:-1]
    grey_yx, lines_yx = (np.hstack(parts) for parts in zip(*row, strict=True))
    # few greys, because noise compresses badly; the last entries of the palette are the lines
    greys = np.linspace(0, 255, GREYS).round().astype(np.uint8)
    indices_yx = np.rint(grey_yx / 255 * (GREYS - 1)).astype(np.uint8)
    indices_yx = np.where(lines_yx >= 0, GREYS + lines_yx, indices_yx).astype(np.uint8)
    picture = Image.fromarray(indices_yx, mode="P")
    picture.putpalette(np.vstack([np.repeat(greys[:, None], 3, axis=1), LINE_COLOURS]).astype(np.uint8).tobytes())
    return picture


def find_detail(labels_yx: np.ndarray, *, side_px: int) -> tuple[slice, slice]:
    """Find the square of an image with the largest area of cells; the first one on a tie.

    Parameters
    ----------
    labels_yx : ndarray of int, shape (rows, columns)
    side_px : int, > 0
        If it is longer than the image's shorter side, that side is used.
    """
    side = min(side_px, *labels_yx.shape)
    total_yx = np.zeros((labels_yx.shape[0] + 1, labels_yx.shape[1] + 1))
    # smoothed, so that of two squares with the same cells the square with the cells near its middle wins
    cover_yx = ndimage.uniform_filter((labels_yx > 0).astype(float), side // 2, mode="constant")
    total_yx[1:, 1:] = cover_yx.cumsum(axis=0).cumsum(axis=1)
    sums_yx = (
        total_yx[side:, side:] - total_yx[:-side, side:] - total_yx[side:, :-side] + total_yx[:-side, :-side]
    ).round(6)
    row, column = (int(place) for place in np.unravel_index(np.argmax(sums_yx), sums_yx.shape))
    return slice(row, row + side), slice(column, column + side)


def _planes(scene: Scene, counts: np.ndarray) -> list[np.ndarray]:
    """List the stains that a scene simulates, cells first."""
    if counts.ndim == 2:
        return [counts]
    is_simulated = (True, scene.simulate["organelles"]["count"][1] > 0, scene.simulate["nucleus"]["include"])
    return [plane_yx for plane_yx, is_there in zip(counts, is_simulated, strict=True) if is_there]


def _develop(counts_yx: np.ndarray) -> np.ndarray:
    """Stretch counts to uint8."""
    low, high = np.percentile(counts_yx, STRETCH_PERCENT)
    shown_yx = np.clip((counts_yx.astype(float) - low) / max(high - low, 1.0), 0, 1)
    if np.median(shown_yx) < DARK_MEDIAN:
        shown_yx **= DARK_GAMMA
    return (255 * shown_yx).round().astype(np.uint8)


def _resize(shown_yx: np.ndarray) -> np.ndarray:
    rows, columns = shown_yx.shape
    size = round(HEIGHT_PX * columns / rows), HEIGHT_PX
    method = Image.Resampling.BOX if rows > HEIGHT_PX else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(shown_yx).resize(size, method))


def _frame_lines(window: tuple[slice, slice], shape: tuple[int, ...], shown_shape: tuple[int, ...]) -> np.ndarray:
    """Mark the frame of the detail: index into `LINE_COLOURS`, -1 elsewhere."""
    lines_yx = np.full(shown_shape, -1)
    top, bottom, left, right = (
        min(round(edge * shown / size), shown - 1)
        for part, size, shown in zip(window, shape, shown_shape, strict=True)
        for edge in (part.start, part.stop)
    )
    lines_yx[[top, bottom], left : right + 1] = 0
    lines_yx[top : bottom + 1, [left, right]] = 0
    return lines_yx


def _outline_lines(labels_yx: np.ndarray, shown_shape: tuple[int, ...]) -> np.ndarray:
    """Mark the outlines of labels, enlarged: index into `LINE_COLOURS`, -1 elsewhere."""
    size = shown_shape[1], shown_shape[0]
    shown_yx = np.asarray(Image.fromarray(labels_yx.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    inside_yx = ndimage.minimum_filter(shown_yx, size=3) == ndimage.maximum_filter(shown_yx, size=3)
    is_line_yx = (shown_yx > 0) & ~inside_yx
    return np.where(is_line_yx, (shown_yx - 1) % len(LINE_COLOURS), -1)


def describe_shots(shots: Sequence[Shot]) -> str:
    """Describe in a sentence how many cells a picture shows and which share of the image they cover."""
    cells = [np.count_nonzero(np.unique(shot.labels_yx)) for shot in shots]
    shares = [100 * np.count_nonzero(shot.labels_yx) / shot.labels_yx.size for shot in shots]
    if len(shots) == 1:
        return f"Picture: {cells[0]} cells covering {shares[0]:.3g} % of the image."
    frames = _join(str(shot.frame) for shot in shots)
    return (
        f"Picture: {_join(str(number) for number in cells)} cells covering "
        f"{_join(f'{share:.3g}' for share in shares)} % of the image in frames {frames}."
    )


def _join(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def write_page(shown: Sequence[Scene], pictures: Mapping[str, str]) -> str:
    """Return the text of the page.

    Parameters
    ----------
    shown : sequence of Scene
        In the order of the page.
    pictures : mapping
        Name of a scene -> its sentence from `describe_shots`.
    """
    lines = [f"- [{scene.name}](#{scene.name}): {scene.title}" for scene in shown]
    return HEAD + "\n".join(lines) + "\n\n" + "\n".join(_write_scene(scene, pictures[scene.name]) for scene in shown)


def _write_scene(scene: Scene, picture: str) -> str:
    settings = [f"`{key}: {_shown(value)}`" for key in KEYS if (value := _look_up(scene.written, key)) is not None]
    simulate = f"simulate: {{scene: {scene.name}, images: {5 if scene.is_sequence else 100}}}"
    use = [
        f"  {scene.name}:",
        f"    {simulate}" + ("       # five sequences" if scene.is_sequence else ""),
        *(["    preprocess: {channel: 0}       # 0 cells, 1 organelles, 2 nuclei"] if scene.is_stained_apart else []),
        "    models: [default]",
    ]
    lines = [
        f"## {scene.name}", "", scene.title, "", f"![{scene.title}](pictures/scenes/{scene.name}.png)", "", picture,
        f"Settings: {', '.join(settings)}.",
        f"All settings with their sources: [{scene.name}.yaml](../resources/scenes/{scene.name}.yaml).", "",
        "```yaml", *use, "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _look_up(section: Mapping[str, Any], key: str) -> Any:
    value: Any = section
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _shown(value: Any) -> str:
    return f"[{', '.join(f'{number:g}' for number in value)}]" if isinstance(value, list) else str(value)


def main() -> None:
    """Write the page and every picture."""
    shown = [load_scene(name) for name in list_scenes()]
    pictures = {}
    for scene in shown:
        shots = shoot(scene)
        pictures[scene.name] = describe_shots(shots)
        path = PICTURES_DIR / f"{scene.name}.png"
        draw_picture(scene, shots).save(path, optimize=True)
        logger.info("%s: %.0f kB, %s", scene.name, path.stat().st_size / 1000, pictures[scene.name])
    for path in PICTURES_DIR.glob("*.png"):
        if path.stem not in pictures:
            path.unlink()
    PAGE.write_text(write_page(shown, pictures), encoding="utf-8")


def known_pictures(page: str) -> dict[str, str]:
    """Read the sentence on each picture from a page: scene -> sentence."""
    return dict(re.findall(r"\(pictures/scenes/(\w+)\.png\)\n\n(Picture: .*)\n", page))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
