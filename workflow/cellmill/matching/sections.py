"""Convert the traits of a reference image to simulation settings."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from cellmill.matching.traits import Reference
from cellmill.simulation.density import LARGEST_COUNT, most_cells

Limits = Mapping[str, tuple[float, float]]

# Range of the blur relative to the blur of the median group; the median depth is at a third of the range.
FOCUS_RANGE = (0.8, 1.6)
LENGTH_WIDTH = 0.5  # half width of the range of the aspect ratio, relative to the excess of its median over 1
WINDOW_SIGMAS = 3  # reach of the light of a pixel, in standard deviations of the blur
CELLS_IN_CLUSTER = 6
CLUSTER_RADII = 2.5  # standard deviation of a cluster in cell radii
LARGEST_OF_8_BITS = 255  # larger counts do not fit into a JPEG
DARKEST_GROUND = 0.001  # lowest background for dark cells, as a fraction of the full scale


@dataclass(frozen=True)
class Frame:
    """The inputs common to all references.

    Attributes
    ----------
    section : mapping
        The config section as written. Settings without a trait are kept; sizes and intensities among them are scaled
        with the cells.
    top_counts : float
        Largest count of the camera.
    limits : mapping
        Dotted name of a setting -> smallest and largest value allowed by the config.
    """

    section: Mapping[str, Any]
    top_counts: float
    limits: Limits


def write_section(
    traits: Mapping[str, float], *, reference: Reference, frame: Frame, size: tuple[int, int]
) -> dict[str, Any]:
    """Build the settings of one reference.

    Parameters
    ----------
    traits : mapping
        Trait -> value; NaN keeps the setting of the config.
    reference : Reference
        The image; its darkest counts are read.
    frame : Frame
    size : (rows, columns)
        Image to simulate, px; the number of cells is proportional to its area.

    Returns
    -------
    dict
        A complete section, within the limits of the config; numbers have six significant digits.
    """
    section: dict[str, Any] = deepcopy(dict(frame.section))
    usual_radius, usual_light = _middle(section["cell"]["radius_px"]), abs(_middle(section["cell"]["brightness"]))
    limits = frame.limits

    def put(place: str, value: Any) -> None:
        owner, last = _find(section, place)
        ends = limits.get(place, (-math.inf, math.inf))
        pair = isinstance(value, tuple)
        numbers = [min(max(float(number), ends[0]), ends[1]) for number in (value if pair else (value,))]
        numbers = [float(f"{number:.6g}") for number in numbers]
        owner[last] = numbers if pair else numbers[0]

    def known(*names: str) -> bool:
        return all(math.isfinite(traits[name]) for name in names)

    section["size"] = list(size)
    section["clusters"] = {"count": 0, "probability": 0.0, "spread": 0.05}
    put("autofluorescence.energy_ratio", 0.0)
    put("background_noise.fraction", 0.0)
    if known("radius_px"):
        width = traits["radius_width"] if known("radius_width") else 0.0
        widest = min(size) / 2
        put("cell.radius_px", tuple(min(end, widest) for end in _around(traits["radius_px"], width)))
    if known("jitter"):
        put("cell.radial_jitter", traits["jitter"])
    if known("length"):
        half = LENGTH_WIDTH * (traits["length"] - 1)
        put("cell.elongation", (traits["length"] - half, traits["length"] + half))
    if known("texture"):
        put("cell.texture.bias", (1 - traits["texture"]) / (1 + traits["texture"]))
    if known("sigma_px"):
        put("focus.sigma_px", tuple(share * traits["sigma_px"] for share in FOCUS_RANGE))
        section["focus"]["scaling"] = "fixed"
        reach = math.ceil(WINDOW_SIGMAS * section["focus"]["sigma_px"][1])
        section["focus"]["window_px"] = int(min(2 * max(reach, 2) + 1, limits["focus.window_px"][1]))
    _write_camera(put, traits, reference=reference, frame=frame, known=known)
    if frame.top_counts > LARGEST_OF_8_BITS:
        section["camera"]["jpeg_quality"] = None
    if known("lamp"):
        put("illumination.energy_ratio", traits["lamp"])
    _keep_proportions(
        section, put,
        size_ratio=_middle(section["cell"]["radius_px"]) / usual_radius,
        light_ratio=abs(_middle(section["cell"]["brightness"])) / usual_light if usual_light else 1.0,
    )  # fmt: skip
    _write_population(section, put, traits, frame=frame, size=size)
    return section


def _write_camera(
    put: Callable[[str, Any], None],
    traits: Mapping[str, float],
    *,
    reference: Reference,
    frame: Frame,
    known: Callable[..., bool],
) -> None:
    """Set the settings that determine the counts: offset, full scale, brightness, noise, background."""
    ground = max(traits["ground"], 0.0) if known("ground") else 0.0
    is_dark = known("brightness") and traits["brightness"] < 0
    # Dark cells can reduce the light to 0 counts.
    offset = 0.0 if is_dark else float(math.floor(min(max(reference.darkest_counts, 0.0), ground)))
    full_scale = max(frame.top_counts - offset, 1.0)
    put("camera.offset_counts", offset)
    put("camera.full_scale_counts", full_scale)
    level = (ground - offset) / full_scale
    put("background.level", (max(level, DARKEST_GROUND) if is_dark else level,) * 2)
    if known("brightness"):
        width = traits["brightness_width"] if known("brightness_width") else 0.0
        put("cell.brightness", tuple(sorted(end / full_scale for end in _around(traits["brightness"], width))))
    if known("noise"):
        put("camera.noise", traits["noise"] / full_scale)


def _write_population(
    section: dict[str, Any],
    put: Callable[[str, Any], None],
    traits: Mapping[str, float],
    *,
    frame: Frame,
    size: tuple[int, int],
) -> None:
    """Set the number of cells and their clustering."""
    cells = round(traits["density"] * size[0] * size[1] / 1e6)
    if section["overlap"]["no_place"] != "place":
        judged = section["cell" if section["overlap"]["of"] == "cell" else "nucleus"]["radius_px"]
        cells = min(cells, most_cells(size, radius_px=judged, overlap_limit=section["overlap"]["limit"]))
    cells = min(cells, LARGEST_COUNT)
    section["cells"] = [cells, cells]
    clustered = traits["clustered"]
    if math.isfinite(clustered) and clustered > 0 and cells > 0:
        put("clusters.probability", clustered)
        section["clusters"]["count"] = int(
            min(max(round(cells / CELLS_IN_CLUSTER), 1), frame.limits["clusters.count"][1])
        )
        put("clusters.spread", CLUSTER_RADII * _middle(section["cell"]["radius_px"]) / min(size))


def _keep_proportions(
    section: dict[str, Any], put: Callable[[str, Any], None], *, size_ratio: float, light_ratio: float
) -> None:
    """Scale settings without a trait in proportion to the cells: nuclei, organelles, rims, dirt."""
    smallest_cell = section["cell"]["radius_px"][0]
    nucleus = tuple(min(size_ratio * end, smallest_cell) for end in section["nucleus"]["radius_px"])
    put("nucleus.radius_px", nucleus)
    put("cell.rim.width_px", size_ratio * section["cell"]["rim"]["width_px"])
    for place in ("cell.rim.brightness", "nucleus.brightness", "organelles.brightness", "dirt.brightness"):
        owner, last = _find(section, place)
        put(place, tuple(light_ratio * end for end in owner[last]))


def _find(section: dict[str, Any], place: str) -> tuple[dict[str, Any], str]:
    """Find the part of a section that holds a setting, and the setting's name in it."""
    *path, last = place.split(".")
    owner = section
    for part in path:
        owner = owner[part]
    return owner, last


def _around(middle: float, width: float) -> tuple[float, float]:
    return middle * (1 - width), middle * (1 + width)


def _middle(pair: Sequence[float]) -> float:
    return (pair[0] + pair[1]) / 2
