"""Metrics against other implementations: scikit-learn, StarDist, Cellpose, pycocotools, py-ctcmetrics, plain loops.

Of a package that the project does not need, a single file is loaded, without its imports for other purposes.
"""

import types
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pycocotools import mask as coco_mask
from sklearn.metrics import brier_score_loss

from cellmill.metrics.borders import count_borders, score_borders
from cellmill.metrics.calibration import brier_score, calibration_error, count_calibration, reliability
from cellmill.metrics.instance import (
    CTC,
    INSTANCE_METRICS,
    IOU_PERCENT,
    PANOPTIC,
    STARDIST_AP,
    STRICT_AP,
    count_objects,
    count_overlaps,
    score_instances,
)
from cellmill.metrics.pixel import histogram_classes
from oracles import load_oracle

EXACT = 1e-9


def plain_jit(*_, **__):
    return lambda function: function


def stop(error):
    raise error


@pytest.fixture(scope="module")
def stardist():
    return load_oracle(
        Path("stardist/matching.py"), numba={"jit": plain_jit}, tqdm={"tqdm": lambda items, **_: items}, csbdeep={},
        csbdeep__utils={"_raise": stop},
    )  # fmt: skip


@pytest.fixture(scope="module")
def cellpose():
    return load_oracle(
        Path("cellpose/metrics.py"), numba={"jit": plain_jit},
        **{"oracles": {}, "oracles__cellpose": {"utils": None, "dynamics": None}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def ctc():
    parts = ("utils/representations", "metrics/technical/seg", "metrics/technical/det")
    representations, seg, det = (load_oracle(Path(f"ctc_metrics/{part}.py")) for part in parts)
    return types.SimpleNamespace(match=representations.match, tests=representations, seg=seg.seg, det=det.det)


def random_pair(seed):
    """Return predicted and true discs, some of them moved, merged, halved, missed or invented."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((70, 90))
    truth, predicted = np.zeros((70, 90), dtype=np.int64), np.zeros((70, 90), dtype=np.int64)
    for number in range(1, 19):
        row, column, radius = rng.integers(4, 66), rng.integers(4, 86), rng.integers(2, 8)
        truth[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
        fate = rng.integers(6)
        shift = rng.integers(-2, 3, 2)
        moved = (rows - row - shift[0]) ** 2 + (columns - column - shift[1]) ** 2 <= (radius + rng.integers(-1, 2)) ** 2
        if fate < 4:
            predicted[moved] = number + 40
        if fate == 3:
            predicted[moved & (rows < row)] = number + 80
        if fate == 5:
            predicted[moved] = 7
    predicted[60:, :9] = 99
    return predicted, truth


def by_hand(name):
    """Return predicted and true labels on which implementations differ."""
    truth, predicted = np.zeros((20, 40), dtype=np.int64), np.zeros((20, 40), dtype=np.int64)
    if name == "both empty":
        pass
    elif name == "only truth empty":
        predicted[3:7, 3:7] = 1
    elif name == "only prediction empty":
        truth[3:7, 3:7] = 1
    elif name == "one half exactly":
        truth[:, :8], predicted[:, :4] = 1, 1
    elif name == "two halves":
        truth[2:6, 2:10] = 1
        predicted[2:6, 2:6], predicted[2:6, 6:10] = 1, 2
    elif name == "a chain of halves":  # each predicted object is half of two true ones
        for k in range(3):
            truth[0:4, 12 * k : 12 * k + 8] = k + 1
            predicted[0:4, 12 * k + 4 : 12 * k + 8] = k + 1
        predicted[0:4, 0:4] = 9
    elif name == "merged":
        truth[2:8, 2:8], truth[2:8, 8:14] = 1, 2
        predicted[2:8, 2:14] = 5
    elif name == "gaps in the numbers":
        truth[2:8, 2:8], truth[10:18, 20:30] = 1, 900
        predicted[2:8, 3:9], predicted[10:18, 20:30] = 65534, 3
    return predicted, truth


HARD = (
    "both empty", "only truth empty", "only prediction empty", "one half exactly", "two halves", "a chain of halves",
    "merged", "gaps in the numbers",
)  # fmt: skip
CASES = [*range(8), *HARD]


def pair_of(case):
    return by_hand(case) if isinstance(case, str) else random_pair(case)


def ours(predicted, truth):
    counts = count_objects(count_overlaps(predicted, truth, valid_yx=np.ones(truth.shape, dtype=bool)))
    return counts, {name: float(score) for name, score in score_instances(counts).items()}


@pytest.mark.parametrize("case", CASES)
def test_stardist_finds_the_same(stardist, case):
    predicted, truth = pair_of(case)
    counts, found = ours(predicted, truth)
    thresholds = [percent / 100 for percent in IOU_PERCENT]
    for name, inclusive, theirs in zip(
        STARDIST_AP, counts["matches_inclusive"], stardist.matching(truth, predicted, thresh=thresholds), strict=True
    ):
        assert (theirs.n_true, theirs.n_pred, theirs.tp) == (counts["n_true"], counts["n_predicted"], inclusive)
        assert found[name] == pytest.approx(theirs.accuracy, abs=EXACT)
    # Panoptic quality counts matches above one half; one ulp more makes that their >=. They use single precision.
    theirs = stardist.matching(truth, predicted, thresh=float(np.nextafter(np.float32(0.5), np.float32(1))))
    assert found["recognition_quality"] == pytest.approx(theirs.f1 if counts["n_true"] + counts["n_predicted"] else 1)
    if counts["matches"][0]:
        assert found["panoptic_quality"] == pytest.approx(theirs.panoptic_quality, abs=1e-6)
        assert found["segmentation_quality"] == pytest.approx(theirs.mean_matched_score, abs=1e-6)


def test_stardist_pools_as_we_do(stardist):
    pairs = [random_pair(seed) for seed in range(5)]
    counts = [ours(*pair)[0] for pair in pairs]
    total = {name: np.sum([each[name] for each in counts], axis=0) for name in counts[0]}
    truths, predictions = [pair[1] for pair in pairs], [pair[0] for pair in pairs]
    pooled = stardist.matching_dataset(truths, predictions, thresh=0.75, show_progress=False)
    assert float(score_instances(total)["ap_stardist_0.75"]) == pytest.approx(pooled.accuracy, abs=EXACT)
    mean = stardist.matching_dataset(truths, predictions, thresh=0.75, by_image=True, show_progress=False)
    each = [float(score_instances(count)["ap_stardist_0.75"]) for count in counts]
    assert np.mean(each) == pytest.approx(mean.accuracy, abs=EXACT)


@pytest.mark.parametrize("case", CASES)
def test_cellpose_finds_the_same(cellpose, case):
    predicted, truth = pair_of(case)
    _, found = ours(predicted, truth)
    dense = [np.unique(labels, return_inverse=True)[1].reshape(labels.shape) for labels in (truth, predicted)]
    thresholds = [percent / 100 for percent in IOU_PERCENT]
    with np.errstate(invalid="ignore"):
        precision, *_ = cellpose.average_precision([dense[0]], [dense[1]], threshold=thresholds)
    expected = np.nan_to_num(precision[0])  # their 0/0 is a 0 in StarDist
    assert [found[name] for name in STARDIST_AP] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if not str(case).endswith("empty")])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_coco_finds_the_same_overlaps(case):
    predicted, truth = pair_of(case)
    encoded = [
        [coco_mask.encode(np.asfortranarray(labels == number, dtype=np.uint8)) for number in np.setdiff1d(labels, [0])]
        for labels in (predicted, truth)
    ]
    iou = coco_mask.iou(*encoded, [0] * len(encoded[1]))
    counts, _ = ours(predicted, truth)
    # Our thresholds are whole per cents; floating-point thresholds would be off by an ulp.
    above = [np.count_nonzero(np.round(iou, 9) > percent / 100) for percent in IOU_PERCENT]
    assert counts["matches"] == above
    assert counts["matched_iou"] == pytest.approx(iou[np.round(iou, 9) > 0.5].sum())


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("both empty", "only truth empty")])
def test_the_cell_tracking_challenge_finds_the_same(ctc, tmp_path, case):
    predicted, truth = pair_of(case)
    counts, found = ours(predicted, truth)
    for name, labels in (("truth", truth), ("predicted", predicted)):
        tifffile.imwrite(tmp_path / f"{name}.tif", labels.astype(np.int64))
    of_true, of_predicted, mapped_true, mapped_predicted, ious = ctc.match(
        str(tmp_path / "truth.tif"), str(tmp_path / "predicted.tif")
    )
    assert found["seg"] == pytest.approx(ctc.seg([of_true], [ious]), abs=EXACT)
    test = ctc.tests.create_detection_test_matrix(
        len(of_predicted), len(of_true), [of_true], [of_predicted], [mapped_true], [mapped_predicted]
    )
    held = np.asarray(test.todense() if hasattr(test, "todense") else test).sum(axis=1).ravel()
    splits, false = int((held[held > 1] - 1).sum()), int((held == 0).sum())
    missed = len(of_true) - int(held.sum())
    assert (counts["ctc_split"], counts["ctc_missed"], counts["ctc_false"]) == (splits, missed, false)
    assert found["det"] == pytest.approx(ctc.det(NS=splits, FN=missed, FP=false, num_vertices=len(of_true)), abs=EXACT)


def jaccard_by_force(predicted, truth):
    """Compute Kumar's algorithm literally, one mask at a time."""
    common, union, used = 0, 0, set()
    for number in np.setdiff1d(truth, [0]):
        mask = truth == number
        scores = {
            other: np.count_nonzero(mask & (predicted == other)) / np.count_nonzero(mask | (predicted == other))
            for other in np.setdiff1d(predicted[mask], [0])
        }
        if not scores:
            union += np.count_nonzero(mask)
            continue
        best = max(sorted(scores), key=lambda other: scores[other])
        common += np.count_nonzero(mask & (predicted == best))
        union += np.count_nonzero(mask | (predicted == best))
        used.add(best)
    union += sum(np.count_nonzero(predicted == other) for other in np.setdiff1d(predicted, [0, *used]))
    return common / union if union else 1.0


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("two halves", "a chain of halves")])
def test_aggregated_jaccard_index_is_that_of_its_algorithm(case):
    predicted, truth = pair_of(case)
    assert ours(predicted, truth)[1]["aji"] == pytest.approx(jaccard_by_force(predicted, truth), abs=EXACT)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("both empty", dict.fromkeys(("ap_kaggle", *STRICT_AP, "panoptic_quality", "recognition_quality", "aji"), 1.0)
            | dict.fromkeys(STARDIST_AP, 0.0) | {"count_error": 0.0}),
        ("only truth empty", dict.fromkeys(("ap_kaggle", *STRICT_AP, *STARDIST_AP, "panoptic_quality",
            "recognition_quality", "aji"), 0.0)),
        ("only prediction empty", dict.fromkeys(("ap_kaggle", *STRICT_AP, *STARDIST_AP, "panoptic_quality",
            "recognition_quality", "aji", *CTC), 0.0) | {"count_error": 1.0}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_what_is_empty_scores_as_the_table_says(case, expected):
    found = ours(*pair_of(case))[1]
    assert tuple(found) == INSTANCE_METRICS
    assert {name: score for name, score in found.items() if not np.isnan(score)} == expected


def test_false_objects_cost_nothing_in_seg_and_a_tenth_in_det():
    predicted, truth = random_pair(1)
    before = ours(predicted, truth)
    free = np.argwhere((truth == 0) & (predicted == 0))[:3]
    for number, (row, column) in enumerate(free):
        predicted[row, column] = 1000 + number
    after = ours(predicted, truth)
    assert after[1]["seg"] == before[1]["seg"]
    assert before[1]["det"] - after[1]["det"] == pytest.approx(3 / (10 * before[0]["n_true"]))


def test_a_merged_pair_costs_five():
    predicted, truth = by_hand("merged")
    counts, found = ours(predicted, truth)
    assert (counts["ctc_split"], counts["ctc_missed"], counts["ctc_false"]) == (1, 0, 0)
    assert found["det"] == pytest.approx(1 - 5 / 20)
    assert set(PANOPTIC) <= set(found)


# ---- calibration -------------------------------------------------------------------------------------------------


def probabilities(seed, *, shape=(60, 70)):
    rng = np.random.default_rng(seed)
    probability = np.clip(rng.beta(0.4, 0.7, shape), 0, 1).astype(np.float16).astype(np.float32)
    truth = rng.random(shape) < probability**1.5
    valid = rng.random(shape) < 0.9
    return probability, truth, valid


@pytest.mark.parametrize("seed", range(4))
def test_brier_score_is_that_of_scikit_learn(seed):
    probability, truth, valid = probabilities(seed)
    counts = count_calibration(probability, truth, valid_yx=valid)
    histogram = histogram_classes(probability, truth, valid_yx=valid)
    expected = brier_score_loss(truth[valid], probability[valid])
    assert float(brier_score(counts["squared_error"], histogram)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_calibration_error_is_that_of_sorted_pixels(seed):
    """The reference splits all pixels, sorted by probability, into fifteen parts; 256 bins blur only their edges."""
    probability, truth, valid = probabilities(seed)
    counts = count_calibration(probability, truth, valid_yx=valid)
    histogram = histogram_classes(probability, truth, valid_yx=valid)
    order = np.argsort(probability[valid], kind="stable")
    parts = zip(np.array_split(probability[valid][order], 15), np.array_split(truth[valid][order], 15), strict=True)
    expected = np.mean([abs(float(said.mean()) - float(true.mean())) for said, true in parts])
    found = float(calibration_error(np.array(counts["confidence"]), histogram))
    assert found == pytest.approx(expected, abs=0.01)
    curve = reliability(np.array(counts["confidence"]), histogram)
    assert (np.diff(curve["confidence"]) >= 0).all()
    assert (curve["mass"] * curve["accuracy"]).sum() == pytest.approx(truth[valid].mean())


def test_probabilities_that_say_the_truth_have_no_error():
    truth = np.arange(400).reshape(20, 20) % 3 == 0
    everywhere = np.ones(truth.shape, dtype=bool)
    for probability, brier, error in ((truth.astype(float), 0.0, 0.0), (np.full(truth.shape, 0.5), 0.25, 1 / 6)):
        counts = count_calibration(probability, truth, valid_yx=everywhere)
        histogram = histogram_classes(probability, truth, valid_yx=everywhere)
        assert float(brier_score(counts["squared_error"], histogram)) == pytest.approx(brier)
        # 134 of 400 pixels are foreground
        assert float(calibration_error(np.array(counts["confidence"]), histogram)) == pytest.approx(error, abs=0.002)


def test_no_pixel_is_no_calibration():
    nothing = np.zeros((4, 4), dtype=bool)
    counts = count_calibration(np.full((4, 4), 0.3), nothing, valid_yx=nothing)
    histogram = histogram_classes(np.full((4, 4), 0.3), nothing, valid_yx=nothing)
    assert np.isnan(brier_score(counts["squared_error"], histogram))
    assert np.isnan(calibration_error(np.array(counts["confidence"]), histogram))


# ---- borders -----------------------------------------------------------------------------------------------------


def borders_by_force(predicted, truth, tolerance):
    """Compare every pair of border pixels."""

    def border(labels):
        around = [(-1, 0), (1, 0), (0, -1), (0, 1)]
        rows, columns = labels.shape
        return np.array([
            (row, column)
            for row, column in np.argwhere(labels > 0)
            if any(
                0 <= row + down < rows and 0 <= column + across < columns
                and labels[row + down, column + across] != labels[row, column]
                for down, across in around
            )
        ]).reshape(-1, 2)  # fmt: skip

    true, found = border(truth), border(predicted)
    if not len(true) or not len(found):
        return float(len(true) == len(found))
    near = ((true[:, None] - found[None]) ** 2).sum(axis=2) <= tolerance**2
    precision, recall = near.any(axis=0).mean(), near.any(axis=1).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [0, 1, 2, 5])
@pytest.mark.parametrize("case", [0, 1, *HARD])
def test_boundary_f1_is_that_of_every_pair_of_border_pixels(case, tolerance):
    predicted, truth = pair_of(case)
    everywhere = np.ones(truth.shape, dtype=bool)
    counts = count_borders(predicted, truth, valid_yx=everywhere, tolerance_px=tolerance)
    expected = borders_by_force(predicted, truth, tolerance)
    assert float(score_borders(counts)["boundary_f1"]) == pytest.approx(expected, abs=EXACT)


def test_borders_beside_unknown_pixels_count_for_nobody():
    truth = np.zeros((12, 20), dtype=int)
    truth[2:8, 2:12] = 1
    predicted = np.where(np.arange(20) < 10, truth, 0)
    known = np.broadcast_to(np.arange(20) < 8, truth.shape)
    counts = count_borders(predicted, truth, valid_yx=known, tolerance_px=0)
    assert score_borders(counts)["boundary_f1"] == 1
    assert counts["border_true"] == 6 + 2 * 5
