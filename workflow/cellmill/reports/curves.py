"""Curves of one model: scores at each threshold, calibration of the probabilities, scores by object size.

Everything is drawn from curves.csv, sizes.csv and confidence.csv, pooled over the test images.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from cellmill.metrics.calibration import calibration_error, reliability
from cellmill.metrics.pixel import auc_roc, average_precision, divide, matthews_correlation, score_pixels, sweep_counts
from cellmill.reports.colours import NEUTRAL_STYLE, with_pattern
from cellmill.reports.figures import Curve, Figure, draw_curves
from cellmill.reports.results import Run
from cellmill.reports.verdict import RAW, Number
from cellmill.reports.wording import say_interval, say_percent, say_score

UNIT = (0.0, 1.0)
CONFIDENCE_BINS, CONFIDENCE_NUMBERS = 10, ("low", "high", "n_right", "n_wrong")
# Share of the objects that are more confident than the least sure tenth
LEAST_SURE_FROM = 0.9
# Sizes with fewer objects are too uncertain and are not drawn.
MIN_OBJECTS = 3


def draw_probabilities(run: Run, curves: pd.DataFrame, *, threshold: float | None) -> list[Figure]:
    """Draw ROC, precision and recall, scores over the threshold, and calibration.

    Parameters
    ----------
    run : Run
    curves : DataFrame
        curves.csv.
    threshold : float or None
        The chosen threshold, which is marked.

    Returns
    -------
    list of Figure
        Empty if the test images contain pixels of one class only.
    """
    rows = _rows_of(run, curves).sort_values("low")
    histogram = rows[["background", "foreground"]].to_numpy(dtype=np.float64).T
    if rows.empty or not histogram.any(axis=1).all():
        return []
    counts = sweep_counts(histogram)
    scores = score_pixels(counts)
    style, places = with_pattern(run.style, 0), rows["low"].tolist()
    false = (1 - scores["specificity"]).tolist()
    chance = Curve("", f"{NEUTRAL_STYLE} d1", [0.0, 1.0], [0.0, 1.0])
    auc = float(auc_roc(histogram))
    found = reliability(rows["confidence"].to_numpy(), histogram)
    error = float(calibration_error(rows["confidence"].to_numpy(), histogram))
    mcc = matthews_correlation(**counts)
    square: dict[str, Any] = {"is_log": False, "mark_x": None, "x_span": UNIT, "y_span": UNIT}
    share = float(histogram[1].sum() / histogram.sum())
    precision = divide(counts["tp"], counts["tp"] + counts["fp"], undefined=np.nan)
    return [
        draw_curves(
            [Curve("", style, [*false, 0.0], [*scores["recall"].tolist(), 0.0]), chance], title="ROC",
            x_label="false positive rate", y_label="recall",
            caption=f"Area under the curve: {say_score(auc)}. Dashed: chance level.", **square,
        ),
        draw_curves(
            [
                Curve("", style, scores["recall"].tolist(), precision.tolist()),
                Curve("", f"{NEUTRAL_STYLE} d1", [0.0, 1.0], [share, share]),
            ],
            title="Precision and recall", x_label="recall", y_label="precision",
            caption=f"Average precision: {say_score(float(average_precision(histogram)))}. "
            "Dashed: all pixels predicted as foreground.",
            **square,
        ),
        draw_curves(
            [
                Curve("Dice", style, places, scores["dice"].tolist()),
                Curve("MCC", with_pattern(style, 1), places, mcc.tolist()),
            ],
            title="Scores at each threshold", x_label="threshold", y_label="", is_log=False, mark_x=threshold,
            caption=_say_threshold(mcc, places, threshold), x_span=UNIT,
        ),
        draw_curves(
            [
                Curve("", f"{style} marked", found["confidence"].tolist(), found["accuracy"].tolist()),
                chance,
            ],
            title="Calibration", x_label="mean predicted probability", y_label="share of foreground pixels",
            caption=f"15 bins with equal numbers of pixels. Expected calibration error: {say_score(error)}. "
            "Above the dashed line, the probabilities are too low.",
            **square,
        ),
    ]  # fmt: skip


def draw_found_by_size(run: Run, sizes: pd.DataFrame) -> Figure | None:
    """Draw by size the shares of annotated objects found and of predicted ones right; None if objects are too few."""
    rows = _rows_of(run, sizes).sort_values("low_px")
    curves = []
    for label, style, part, whole in (
        ("annotated objects found", with_pattern(run.style, 0), "n_found", "n_true"),
        ("predicted objects correct", with_pattern(run.style, 1), "n_right", "n_predicted"),
    ):
        known = rows[rows[whole] >= MIN_OBJECTS]
        middles = np.sqrt(known["low_px"].astype(float) * known["high_px"].astype(float))
        curves.append(Curve(label, f"{style} marked", middles.tolist(), (known[part] / known[whole]).tolist()))
    if not any(len(curve.x) for curve in curves):
        return None
    return draw_curves(
        curves, title="Detection by object size", x_label="area, px", y_label="share", is_log=False, mark_x=None,
        caption=f"Objects match at an IoU above 0.50. Sizes with fewer than {MIN_OBJECTS} objects are not shown.",
        y_span=UNIT, is_log_x=True,
    )  # fmt: skip


def draw_confidence(run: Run, confidence: pd.DataFrame, *, auroc: Number | None) -> list[Figure]:
    """Draw the share of right objects among the most confident ones, and by confidence.

    Parameters
    ----------
    run : Run
    confidence : DataFrame
        confidence.csv.
    auroc : Number or None
        Area under the ROC curve of the confidence.

    Returns
    -------
    list of Figure
        Empty without objects; the first only if there are right and wrong objects.
    """
    rows = _rows_of(run, confidence)
    if rows.empty:
        return []
    # The highest confidence first
    rows = rows.sort_values("low", ascending=False).astype(dict.fromkeys(CONFIDENCE_NUMBERS, float))
    right, counts = rows["n_right"].to_numpy(), (rows["n_right"] + rows["n_wrong"]).to_numpy()
    kept, style = np.cumsum(counts), with_pattern(run.style, 0)
    overall = float(right.sum() / kept[-1])
    figures = []
    square: dict[str, Any] = {"is_log": False, "mark_x": None, "x_span": UNIT, "y_span": UNIT}
    if auroc is not None:
        # A bin that is partly in the last tenth counts in proportion.
        in_tenth = np.clip(kept - LEAST_SURE_FROM * kept[-1], 0, counts)
        share = float((right / counts * in_tenth).sum() / in_tenth.sum())
        figures.append(
            draw_curves(
                [
                    Curve("", style, (kept / kept[-1]).tolist(), (np.cumsum(right) / kept).tolist()),
                    Curve("", f"{NEUTRAL_STYLE} d1", [0.0, 1.0], [overall, overall]),
                ],
                title="Right objects among the most confident", x_label="share of objects kept",
                y_label="share of them that are right",
                caption=f"Area under the ROC curve: {say_score(auroc.value)}{_say_ends(auroc)}, the probability that a "
                f"right object has a higher confidence than a wrong one. Of the least confident tenth of objects, "
                f"{say_percent(share)} are right; of all, {say_percent(overall)} (dashed).",
                **square,
            )
        )  # fmt: skip
    bins = (rows["low"].to_numpy() * CONFIDENCE_BINS).astype(np.int64)
    middles = ((rows["low"] + rows["high"]) / 2).to_numpy()
    in_bins = [np.bincount(bins, weights=each, minlength=CONFIDENCE_BINS) for each in (counts, right, middles * counts)]
    all_of, right_of, sum_of = (each[in_bins[0] >= MIN_OBJECTS] for each in in_bins)
    is_calibrated = bool((run.fit.get("confidence") or {}).get("calibrated"))
    figures.append(
        draw_curves(
            [
                Curve("", f"{style} marked", (sum_of / all_of).tolist(), (right_of / all_of).tolist()),
                Curve("", f"{NEUTRAL_STYLE} d1", [0.0, 1.0], [0.0, 1.0]),
            ],
            title="Confidence and right objects", x_label="mean confidence", y_label="share of right objects",
            caption=f"{CONFIDENCE_BINS} equal bins of confidence; those with fewer than {MIN_OBJECTS} objects are not "
            "shown. " + (
                "The confidence was fitted on the validation images. Above the dashed line, it is too low."
                if is_calibrated
                else "The confidence is not fitted to annotated objects: it orders objects, and is no probability."
            ),
            **square,
        )
    )  # fmt: skip
    return figures


def _say_ends(number: Number) -> str:
    """Return the interval of a number in brackets; "" if it has none."""
    return "" if number.low is None else f" ({say_interval(number.low, number.high)})"


def _rows_of(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    if table.empty:
        return table
    chosen = (table["model"] == run.model) & (table["seed"] == run.seed)
    return table[chosen & (table["split"] == "test") & (table["geometry"] == RAW)]


def _say_threshold(mcc: np.ndarray, places: list[float], threshold: float | None) -> str:
    best = int(np.nanargmax(mcc))
    says = f"On the test images, the MCC is highest at {say_score(places[best])} ({say_score(float(mcc[best]))})"
    if threshold is None:
        return f"{says}."
    # Bin k contains probabilities between k/256 and (k + 1)/256.
    here = float(mcc[min(math.ceil(threshold * len(places)), len(places) - 1)])
    return f"{says}. The line marks the threshold in use (MCC {say_score(here)}), which was not chosen on these images."
