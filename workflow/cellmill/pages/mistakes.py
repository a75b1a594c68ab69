"""Which objects were found, missed, invented, split or merged in one image."""

from dataclasses import dataclass

import numpy as np

from cellmill.images import IGNORE_LABEL

KINDS = ("found", "missed", "false", "split", "merged")


@dataclass(frozen=True)
class ErrorMap:
    """True and predicted objects, numbered 1 .. n, with the kind of each; entry 0 is the background.

    A predicted object matches a true one where their intersection over union is above one half. Of the others:
    a true one that holds most of two or more predicted ones is split, a predicted one that holds most of two or
    more true ones has merged them, the rest is missed or false.
    """

    truth_yx: np.ndarray
    predicted_yx: np.ndarray
    ignored_yx: np.ndarray
    truth_kinds: np.ndarray
    predicted_kinds: np.ndarray
    counts: dict[str, int]


def find_errors(predicted_yx: np.ndarray, truth_yx: np.ndarray) -> ErrorMap:
    """Match predicted with true objects and name what is wrong.

    Parameters
    ----------
    predicted_yx, truth_yx : ndarray of integers, shape (rows, columns)
        Label images. Pixels that the truth says to ignore count for nobody, and a predicted object with more
        than half of its pixels there is left out.

    Returns
    -------
    ErrorMap
        `counts` has one number for each of KINDS; missed are those neither split nor merged.
    """
    ignored_yx = truth_yx == IGNORE_LABEL
    truth, n_true = _number_objects(np.where(ignored_yx, 0, truth_yx))
    predicted, n_predicted = _number_objects(predicted_yx)
    whole = np.bincount(predicted.ravel(), minlength=n_predicted + 1)
    predicted = np.where(ignored_yx, 0, predicted)
    seen = np.bincount(predicted.ravel(), minlength=n_predicted + 1)
    judged = 2 * seen >= whole
    predicted, n_predicted = _number_objects(np.where(judged[predicted], predicted, 0))

    both = (truth > 0) & (predicted > 0)
    code, pixels = np.unique(truth[both] * (n_predicted + 1) + predicted[both], return_counts=True)
    of_true, of_predicted = code // (n_predicted + 1), code % (n_predicted + 1)
    true_areas = np.bincount(truth.ravel(), minlength=n_true + 1)
    predicted_areas = np.bincount(predicted.ravel(), minlength=n_predicted + 1)

    union = true_areas[of_true] + predicted_areas[of_predicted] - pixels
    match = 2 * pixels > union
    pieces = np.bincount(of_true[2 * pixels > predicted_areas[of_predicted]], minlength=n_true + 1)
    swallowed = np.bincount(of_predicted[2 * pixels > true_areas[of_true]], minlength=n_predicted + 1)

    truth_kinds = np.full(n_true + 1, "missed", dtype="<U8")
    truth_kinds[pieces >= 2] = "split"
    predicted_kinds = np.full(n_predicted + 1, "false", dtype="<U8")
    predicted_kinds[swallowed >= 2] = "merged"
    truth_kinds[of_true[match]] = "found"
    predicted_kinds[of_predicted[match]] = "found"
    # Pieces of a split object and objects in a merged one are told by the whole, not counted twice.
    inside = (2 * pixels > predicted_areas[of_predicted]) & (truth_kinds[of_true] == "split")
    predicted_kinds[of_predicted[inside & (predicted_kinds[of_predicted] == "false")]] = "piece"
    inside = (2 * pixels > true_areas[of_true]) & (predicted_kinds[of_predicted] == "merged")
    truth_kinds[of_true[inside & (truth_kinds[of_true] == "missed")]] = "part"
    truth_kinds[0] = predicted_kinds[0] = ""
    counts = {
        "found": int((truth_kinds == "found").sum()),
        "missed": int((truth_kinds == "missed").sum()),
        "false": int((predicted_kinds == "false").sum()),
        "split": int((truth_kinds == "split").sum()),
        "merged": int((predicted_kinds == "merged").sum()),
    }
    return ErrorMap(truth, predicted, ignored_yx, truth_kinds, predicted_kinds, counts)


def describe_errors(counts: dict[str, int]) -> str:
    """Say the counts of `find_errors` in words; kinds that do not occur are left out, but found and missed."""
    shown = [(kind, n) for kind, n in counts.items() if n or kind in ("found", "missed")]
    return ", ".join(f"{number}\N{NO-BREAK SPACE}{kind}" for kind, number in shown)


def _number_objects(labels_yx: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the labels 1 .. n in their order, 0 stays; give the image and n."""
    present = np.bincount(labels_yx.ravel()) > 0
    present[0] = False
    return np.where(present, np.cumsum(present), 0)[labels_yx], int(present.sum())
