import numpy as np
import pytest

from cellmill.metrics import instance
from cellmill.metrics.instance import OBJECT_COUNTS, count_matches, count_objects, count_overlaps, score_instances

THRESHOLDS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
EXACT = 1e-12


def random_labels(seed, objects=12, shape=(40, 50)):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.int64)
    for label in range(1, objects + 1):
        row, column = rng.integers(0, shape[0] - 8), rng.integers(0, shape[1] - 8)
        labels[row : row + rng.integers(4, 12), column : column + rng.integers(4, 12)] = label
    return labels


def shifted_pair(seed):
    truth = random_labels(seed)
    predicted = np.roll(truth, 1, axis=1)
    predicted[:, 40:] = random_labels(seed + 100)[:, 40:] + 50 * (random_labels(seed + 100)[:, 40:] > 0)
    return predicted, truth


def match(predicted, truth, ignored=None):
    valid = np.ones(truth.shape, dtype=bool) if ignored is None else ~ignored
    overlaps = count_overlaps(predicted, truth, valid_yx=valid)
    matches = count_matches(overlaps)
    n_true, n_predicted = len(overlaps.true_areas), len(overlaps.predicted_areas)
    return n_true, n_predicted, matches, score_instances(count_objects(overlaps))


def matches_by_force(predicted, truth):
    """Count matches by comparing every pair as two masks, with fractions compared as integers."""
    found = []
    for threshold in THRESHOLDS:
        percent = round(100 * threshold)
        found.append(
            sum(
                100 * np.count_nonzero((predicted == p) & (truth == t))
                > percent * np.count_nonzero((predicted == p) | (truth == t))
                for p in np.setdiff1d(predicted, [0])
                for t in np.setdiff1d(truth, [0])
            )
        )
    return found


@pytest.mark.parametrize("seed", range(4))
def test_matches_are_those_of_comparing_every_pair(seed):
    predicted, truth = shifted_pair(seed)
    n_true, n_predicted, matches, _ = match(predicted, truth)
    assert (n_true, n_predicted) == (len(np.unique(truth)) - 1, len(np.unique(predicted)) - 1)
    assert matches.tolist() == matches_by_force(predicted, truth)
    assert matches[0] > 0


def test_counting_pairs_by_sorting_gives_the_same(monkeypatch):
    predicted, truth = shifted_pair(7)
    expected = match(predicted, truth)[2].tolist()
    monkeypatch.setattr(instance, "MAX_DENSE_PAIRS", 0)
    assert match(predicted, truth)[2].tolist() == expected


def test_kaggle_score_of_three_objects_by_hand():
    truth, predicted = np.zeros((10, 40), dtype=int), np.zeros((10, 40), dtype=int)
    truth[:, 0:10], truth[:, 12:22], truth[:, 25:30] = 1, 2, 3
    predicted[:, 0:10] = 1  # IoU 1
    predicted[:, 12:20] = 2  # IoU .8: a match at lower thresholds, not at .8
    predicted[:, 35:38] = 3  # matches nothing
    _, _, matches, found = match(predicted, truth)
    assert matches.tolist() == [2] * 6 + [1] * 4
    assert found["ap_kaggle"] == pytest.approx((6 * 2 / 4 + 4 * 1 / 5) / 10, abs=EXACT)
    assert found["ap_0.50"] == pytest.approx(2 / 4, abs=EXACT)
    assert found["ap_0.75"] == pytest.approx(2 / 4, abs=EXACT)


def test_a_perfect_segmentation_scores_one():
    labels = random_labels(3)
    found = match(labels, labels)[3]
    assert (found["ap_kaggle"], found["count_error"]) == (1, 0)


def test_gaps_between_labels_change_nothing():
    predicted, truth = np.zeros((8, 20), dtype=int), np.zeros((8, 20), dtype=int)
    truth[1:7, 1:7], truth[1:7, 9:15] = 1, 2
    predicted[1:7, 2:8], predicted[1:7, 9:15] = 1, 2
    gaps = np.array([0, 1, 900])
    dense, sparse = match(predicted, truth), match(gaps[predicted], gaps[truth])
    assert sparse[2].tolist() == dense[2].tolist()
    assert sparse[3] == dense[3]


def test_two_halves_of_a_cell_match_once_at_most():
    truth = np.zeros((8, 20), dtype=int)
    truth[:, 2:14] = 1
    uneven = np.where(truth, 1, 0)
    uneven[:, 10:14] = 2
    assert match(uneven, truth)[2][0] == 1
    even = np.where(truth, 1, 0)
    even[:, 8:14] = 2
    assert match(even, truth)[2][0] == 0


def test_an_iou_of_exactly_one_half_is_no_match():
    truth, predicted = np.zeros((4, 12), dtype=int), np.zeros((4, 12), dtype=int)
    truth[:, 0:8], predicted[:, 0:4] = 1, 1
    assert match(predicted, truth)[2].tolist() == [0] * 10


def test_an_iou_of_exactly_a_threshold_is_no_match_there():
    for percent in range(50, 100, 5):
        truth, predicted = np.ones((1, 100), dtype=int), np.zeros((1, 100), dtype=int)
        predicted[0, :percent] = 1
        assert match(predicted, truth)[2].sum() == (percent - 50) // 5


EMPTY = np.zeros((6, 6), dtype=int)
DOT = EMPTY.copy()
DOT[2:4, 2:4] = 1


@pytest.mark.parametrize(
    ("predicted", "truth", "ap", "count_error"),
    [(EMPTY, EMPTY, 1.0, 0.0), (DOT, EMPTY, 0.0, np.nan), (EMPTY, DOT, 0.0, 1.0)],
    ids=["both", "truth", "prediction"],
)
def test_empty_images(predicted, truth, ap, count_error):
    found = match(predicted, truth)[3]
    assert found["ap_kaggle"] == found["ap_0.50"] == found["ap_0.75"] == ap
    assert float(found["count_error"]) == pytest.approx(count_error, nan_ok=True)


def test_count_error_is_a_fraction_of_the_true_number():
    nothing = dict.fromkeys(OBJECT_COUNTS, 0) | {"matches": np.zeros(10), "matches_inclusive": np.zeros(10)}
    for n_predicted in (10, 6):
        found = score_instances(nothing | {"n_true": 8, "n_predicted": n_predicted})
        assert found["count_error"] == pytest.approx(0.25)


def test_an_object_mostly_in_ignored_pixels_is_neither_right_nor_wrong():
    truth, predicted = np.zeros((10, 20), dtype=int), np.zeros((10, 20), dtype=int)
    truth[0:4, 0:4] = predicted[0:4, 0:4] = 1
    predicted[6:9, 8:16] = 2
    ignored = np.zeros(truth.shape, dtype=bool)
    ignored[:, 11:] = True  # five of eight columns of object 2
    assert match(predicted, truth, ignored)[:2] == (1, 1)
    ignored[:, 11:13] = False  # three of eight
    assert match(predicted, truth, ignored)[:2] == (1, 2)


def test_ignored_pixels_of_a_judged_object_do_not_count():
    truth, predicted = np.zeros((10, 20), dtype=int), np.zeros((10, 20), dtype=int)
    truth[2:8, 2:10] = 1
    predicted[2:8, 2:14] = 1
    ignored = np.zeros(truth.shape, dtype=bool)
    ignored[:, 10:] = True
    assert match(predicted, truth, ignored)[3]["ap_kaggle"] == 1


def test_leaving_out_small_objects_is_counting_without_them():
    predicted, truth = shifted_pair(5)
    areas = np.bincount(predicted.ravel())
    limit = int(np.median(areas[areas > 0]))
    valid = np.ones(truth.shape, dtype=bool)
    kept = count_overlaps(predicted, truth, valid_yx=valid).without_small(limit)
    expected = count_overlaps(np.where(areas[predicted] >= limit, predicted, 0), truth, valid_yx=valid)
    assert kept.predicted_areas.tolist() == expected.predicted_areas.tolist()
    assert count_matches(kept).tolist() == count_matches(expected).tolist()


def test_an_object_is_as_large_as_it_is_also_where_the_truth_is_unknown():
    truth, predicted = np.zeros((10, 20), dtype=int), np.zeros((10, 20), dtype=int)
    predicted[0:5, 0:10] = 4
    valid = np.ones(truth.shape, dtype=bool)
    valid[:, :4] = False
    overlaps = count_overlaps(predicted, truth, valid_yx=valid)
    assert (overlaps.predicted_areas.tolist(), overlaps.predicted_whole.tolist()) == ([30], [50])
    assert len(overlaps.without_small(50).predicted_areas) == 1
    assert len(overlaps.without_small(51).predicted_areas) == 0
