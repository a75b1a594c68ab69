"""Stage match: fit the simulation settings to the images of another dataset."""

import csv
import json
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cellmill.images.channels import Channel, select_channel
from cellmill.images.content import explain_changes
from cellmill.images.files import raise_together
from cellmill.matching.calibration import ROUNDS, Draw, calibrate, mean_distance
from cellmill.matching.distance import distance, permutation_interval
from cellmill.matching.reference_images import (
    MEASURED_SIDE_PX,
    as_counts,
    find_objects,
    measure_references,
    read_middles,
)
from cellmill.matching.sections import Frame, write_section
from cellmill.matching.statistic_names import STATISTICS
from cellmill.matching.statistics import measure_image
from cellmill.matching.traits import Reference, Traits, gather, traits_of
from cellmill.metrics.decimals import round_digits
from cellmill.shards import atomic_path, stable_hash
from cellmill.simulation.imaging import simulate_image

logger = logging.getLogger(__name__)

LARGEST_SIDE_PX = 1024  # of the simulated images, if the config sets no size
FEWEST_DRAWS = 16  # simulated images before and after the fit each, summed over all references
PERMUTATIONS = 1000
ENDS = ("before", "after")
TABLE_COLUMNS = (
    "statistic", "unit", "is_primary", "real", "real_low", "real_high", "before", "before_low", "before_high",
    "after", "after_low", "after_high", "distance_before", "distance_after", "interval_low", "interval_high",
    "n_real", "n_simulated", "n_undefined",
)  # fmt: skip


def match_dataset(
    *,
    references_path: str | Path,
    table_path: str | Path,
    like: str,
    samples: Sequence[Mapping[str, Any]],
    objects: str,
    channel: Channel,
    simulate: Mapping[str, Any],
    simulated_channel: Channel,
    size: Sequence[int] | None,
    limits: Mapping[str, Sequence[float]],
    seed: int,
) -> None:
    """Fit the simulation to real images, and measure the similarity before and after the fit.

    Parameters
    ----------
    references_path : path
        JSON: `references`, each with its sample and a complete section `simulate`; rounds of the calibration.
    table_path : path
        CSV with one row per statistic.
    like : str
        Name of the dataset that the real images belong to.
    samples : sequence of mapping
        The references: sample, image, `labels` (path of the rasterized annotation) and optionally `plane`.
    objects : "labels", "components" or "otsu"
        Definition of an object in real and simulated images: a label, a connected component, or Otsu's threshold.
    channel, simulated_channel : "luminance", int, sequence of float, or the name of a channel
        Channel to measure in real and in simulated images.
    simulate : mapping
        The config section as written.
    size : (rows, columns) or None
        Size of the simulated images in px; None for the most frequent size of the references, at most 1024 px a side.
    limits : mapping
        Dotted name of a setting -> smallest and largest value allowed by the config.
    seed : int, >= 0
        The config's seed.

    Raises
    ------
    ValueError
        If an image cannot be read, or if no image contains an object.

    Notes
    -----
    Only the central 512 x 512 px of larger images are measured, and images of this size are simulated for comparison.
    The distances before the fit use the section as written. Those after the fit use images that took no part in the
    calibration.
    """
    images, top_counts = as_counts(read_middles(samples, channel=channel))
    raise_together(explain_changes(samples), subject="images")
    references, shapes = measure_references(images, samples=samples, objects=objects)
    if not any(one.statistics["objects_per_mpx"] > 0 for one in references):
        raise ValueError(
            f"simulate.like: expected objects in the images of {like}, found none in {len(references)} images. "
            "Annotate objects in some of them, or remove like."
        )
    frame = Frame(simulate, top_counts, {name: (low, high) for name, (low, high) in limits.items()})
    draw = partial(draw_statistics, seed=seed, channel=simulated_channel, objects=objects)
    history = calibrate(references, frame=frame, draw=draw, rounds=ROUNDS)
    best = min(range(len(history)), key=lambda number: (history[number].mean_distance, number))
    rng = np.random.default_rng(np.random.SeedSequence([seed, stable_hash(like, purpose="match")]))
    rows = judge(references, history[best].traits, frame=frame, draw=draw, rng=rng)
    final = choose_size(shapes) if size is None else (int(size[0]), int(size[1]))
    sections = write_sections(references, history[best].traits, frame=frame, sizes=[final] * len(references))
    before, after = (mean_distance({row["statistic"]: row[f"distance_{side}"] for row in rows}) for side in ENDS)
    content = {
        "like": like,
        "objects": objects,
        "top_counts": top_counts,
        "measured_side_px": MEASURED_SIDE_PX,
        "size": list(final),
        "chosen_round": best + 1,
        "rounds": [_round_numbers({"mean": one.mean_distance, **one.distances}) for one in history],
        **_round_numbers({"distance_before": before, "distance_after": after}),
        "references": [
            {"sample": one.sample, "statistics": _round_numbers(one.statistics), "simulate": section}
            for one, section in zip(references, sections, strict=True)
        ],
    }
    with atomic_path(references_path) as path:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    with atomic_path(table_path) as path, path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, TABLE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    logger.info(
        "fitted to %s: mean distance %.3f before, %.3f after, %d references, best round %d of %d",
        *(like, before, after, len(references), best + 1, len(history)),
    )


def write_sections(
    references: Sequence[Reference], traits: Traits, *, frame: Frame, sizes: Sequence[tuple[int, int]]
) -> list[dict[str, Any]]:
    """Build the settings of each reference for images of the given sizes."""
    return [
        write_section(traits_of(traits, index), reference=one, frame=frame, size=size)
        for index, (one, size) in enumerate(zip(references, sizes, strict=True))
    ]


def judge(
    references: Sequence[Reference], traits: Traits, *, frame: Frame, draw: Draw, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Compare real images with held-out simulated images from before and after the fit.

    Parameters
    ----------
    references : sequence of Reference
    traits : dict
        Fitted traits.
    frame : Frame
        Its section is used to simulate the images before the fit.
    draw : function
        Simulates and measures an image; called equally often for each reference, at least 16 times in total for
        before and for after.
    rng : numpy.random.Generator
        For the permutations.

    Returns
    -------
    list of dict
        As from `compare`.
    """
    repeats = range(math.ceil(FEWEST_DRAWS / len(references)))
    names = [f"{one.sample}/{repeat}" for repeat in repeats for one in references]
    sections = write_sections(references, traits, frame=frame, sizes=[one.shape for one in references]) * len(repeats)
    before = gather([draw(f"before/{name}", frame.section) for name in names])
    after = gather([draw(f"after/{name}", section) for name, section in zip(names, sections, strict=True)])
    return compare(gather([one.statistics for one in references]), before, after, rng=rng)


def draw_statistics(
    name: str, section: Mapping[str, Any], *, seed: int, channel: Channel, objects: str
) -> dict[str, float]:
    """Simulate an image and measure it in the same way as the real images."""
    image = simulate_image(name, seed=seed, simulate=section)
    is_one = image.counts.ndim == 2
    counts = image.counts if is_one else np.moveaxis(image.counts, 0, -1)
    counts_yx = select_channel(counts, axes="YX" if is_one else "YXC", channel=channel, where="simulated image")
    return measure_image(counts_yx, labels_yx=find_objects(counts_yx, image.labels_yx, objects=objects))


def choose_size(shapes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the most frequent size, or the smallest if several are equally frequent, at most 1024 px a side."""
    tally = Counter(shapes)
    rows, columns = min(tally, key=lambda shape: (-tally[shape], shape))
    return min(rows, LARGEST_SIDE_PX), min(columns, LARGEST_SIDE_PX)


def compare(
    real: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
    after: Mapping[str, np.ndarray],
    *,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Tabulate the distances between simulated and real images, and the distances expected by chance.

    Parameters
    ----------
    real, before, after : mapping
        Statistic -> value for each image; NaN where undefined.
    rng : numpy.random.Generator
        For the permutations.

    Returns
    -------
    list of dict
        TABLE_COLUMNS, one row per statistic: medians, 10 % and 90 % quantiles, distances, and the interval that
        contains 95 % of the distances if `real` and `after` have the same distribution. n_real and n_simulated count
        the defined values of these two sides, n_undefined their undefined values.
    """
    rows = []
    for name, statistic in STATISTICS.items():
        row: dict[str, Any] = {"statistic": name, "unit": statistic.unit, "is_primary": int(statistic.is_primary)}
        for side, values in (("real", real[name]), ("before", before[name]), ("after", after[name])):
            defined = values[np.isfinite(values)]
            ends = np.quantile(defined, [0.5, 0.1, 0.9]) if defined.size else np.full(3, np.nan)
            row |= zip((side, f"{side}_low", f"{side}_high"), map(float, ends), strict=True)
        row["distance_before"] = distance(real[name], before[name])
        row["distance_after"] = distance(real[name], after[name])
        expected = permutation_interval(real[name], after[name], permutations=PERMUTATIONS, rng=rng)
        row |= {"interval_low": expected.low, "interval_high": expected.high}
        row |= {key: getattr(expected, key) for key in ("n_real", "n_simulated", "n_undefined")}
        rows.append(row)
    return rows


def _six_digits(value: float) -> float | None:
    return float(round_digits(value, 6)) if math.isfinite(value) else None


def _round_numbers(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _six_digits(value) for name, value in numbers.items()}


def _cell(value: Any) -> Any:
    """Format a float with six significant digits, or as an empty string if it is not finite."""
    if not isinstance(value, float):
        return value
    return round_digits(value, 6) if math.isfinite(value) else ""
