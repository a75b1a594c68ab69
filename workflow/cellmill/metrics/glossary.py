"""Definitions of the scores in metrics.csv, in words and as formulas; source of the page docs/metrics.md."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cellmill.metrics.instance import STARDIST_AP, STRICT_AP

NOT_DEFINED, SHARE_RIGHT = "NaN", "TN / N"


@dataclass(frozen=True)
class Meaning:
    """Definition of a score.

    Attributes
    ----------
    heading : str
        Heading in the tables of a report.
    words : str
        Explanation for readers who do not know the score.
    formula : str
        TP, FP, FN, TN are numbers of pixels, N is that of all pixels; for object scores, numbers of objects.
    empty : tuple of three str, or None
        Value if truth and prediction are empty, if only the truth is empty, if only the prediction is empty.
    source : str
        Source of the definition, where definitions differ.
    """

    heading: str
    words: str
    formula: str
    empty: tuple[str, str, str] | None
    source: str = ""


_CTC = "Cell Tracking Challenge"
_AP = "objects right over objects right, false and missed"

GLOSSARY: dict[str, Meaning] = {
    "dice": Meaning(
        "Dice", "twice the common area over the sum of both areas, all objects of an image together",
        "2 TP / (2 TP + FP + FN)", ("1", "0", "0"), "the F1 score of pixels",
    ),
    "iou": Meaning(
        "IoU", "common area over the area of either, all objects of an image together", "TP / (TP + FP + FN)",
        ("1", "0", "0"), "Jaccard index",
    ),
    "accuracy": Meaning(
        "Accuracy", "share of the pixels that are right, most of which are background", "(TP + TN) / N",
        ("1", SHARE_RIGHT, SHARE_RIGHT),
    ),
    "precision": Meaning(
        "Precision", "share of the predicted pixels that are true", "TP / (TP + FP)",
        (NOT_DEFINED, "0", NOT_DEFINED),
    ),
    "recall": Meaning(
        "Recall", "share of the true pixels that are predicted", "TP / (TP + FN)", (NOT_DEFINED, NOT_DEFINED, "0")
    ),
    "specificity": Meaning(
        "Specificity", "share of the background that is predicted as such", "TN / (TN + FP)", ("1", SHARE_RIGHT, "1")
    ),
    "mcc": Meaning(
        "MCC", "Matthews correlation of predicted and true pixels",
        "(TP TN - FP FN) / √((TP + FP)(TP + FN)(TN + FP)(TN + FN)), 0 where that is 0 / 0", ("0", "0", "0"),
        "Matthews 1975; an image with a 0 / 0 is in the mean as 0 and in n_undefined",
    ),
    "fpr": Meaning(
        "False positive rate", "share of the background that is predicted as object", "FP / (FP + TN)",
        ("0", "1 - TN / N", "0"),
    ),
    "f1_macro": Meaning(
        "Macro F1", "mean of the Dice of objects and that of the background", "(Dice + Dice of the background) / 2",
        None,
    ),
    "ap_kaggle": Meaning(
        "AP (Kaggle)", f"{_AP}: mean over ten IoU thresholds from 0.50 to 0.95", "mean of ap_0.50 .. ap_0.95",
        ("1", "0", "0"), "Kaggle, Data Science Bowl 2018 and Sartorius",
    ),
    **{
        name: Meaning(
            f"AP at {name[3:]}", f"{_AP}, where an IoU above {name[3:]} makes an object right", "TP / (TP + FP + FN)",
            ("1", "0", "0"), "as ap_kaggle: an IoU that equals the threshold is no match",
        )
        for name in STRICT_AP
    },
    **{
        name: Meaning(
            f"StarDist's AP at {name[-4:]}", f"{_AP}, where an IoU of {name[-4:]} makes an object right",
            "TP / (TP + FP + FN), 0 where TP is 0", ("0", "0", "0"),
            "StarDist's matching: pooled is its by_image=False, image_mean its by_image=True",
        )
        for name in STARDIST_AP
    },
    "panoptic_quality": Meaning(
        "Panoptic quality",
        "mean IoU of the objects right at 0.50, times their share of all, right, false and missed",
        "segmentation_quality · recognition_quality, 0 without a match", ("1", "0", "0"),
        "Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963",
    ),
    "segmentation_quality": Meaning(
        "Segmentation quality", "mean IoU of the objects right at 0.50", "Σ IoU / TP", (NOT_DEFINED,) * 3,
        "as panoptic_quality",
    ),
    "recognition_quality": Meaning(
        "Recognition quality", "F1 score of objects at an IoU above 0.50", "TP / (TP + FP / 2 + FN / 2)",
        ("1", "0", "0"), "as panoptic_quality",
    ),
    "aji": Meaning(
        "AJI", "aggregated Jaccard index: common area of each true object and its best partner over their union",
        "Σ common area / (Σ union + area of the predicted objects that are nobody's partner)", ("1", "0", "0"),
        "Kumar et al. 2017, doi:10.1109/TMI.2017.2677499",
    ),
    "seg": Meaning(
        "SEG", f"{_CTC}: mean IoU of true objects with what holds more than half of each",
        "Σ IoU / number of true objects; what is false costs nothing", (NOT_DEFINED, NOT_DEFINED, "0"), _CTC,
    ),
    "det": Meaning(
        "DET", f"{_CTC}: 1 less the cost of missed (10), merged (5) and false (1) objects",
        "1 - min(cost, cost of finding none) / cost of finding none", (NOT_DEFINED, NOT_DEFINED, "0"),
        "Matula et al. 2015, doi:10.1371/journal.pone.0144959",
    ),
    "op_csb": Meaning(
        "OP_CSB", f"{_CTC}: mean of SEG and DET", "(SEG + DET) / 2", (NOT_DEFINED, NOT_DEFINED, "0"),
        f"{_CTC}, Cell Segmentation Benchmark",
    ),
    "count_error": Meaning(
        "Count error", "difference of predicted and true number of objects over the true one",
        "abs(predicted - true) / true", ("0", NOT_DEFINED, "1"),
    ),
    "boundary_f1": Meaning(
        "Boundary F1", "borders of objects that lie within the tolerance of a true one, and the other way",
        "harmonic mean of the share of the predicted border that is right and of the true one that is found",
        ("1", "0", "0"), "Csurka et al. 2013, BMVC; the tolerance is `evaluate.border_tolerance_px`",
    ),
    "auc_roc": Meaning(
        "AUC", "area under the ROC curve: how often a pixel of an object has a higher probability than one of none",
        "trapezoids over 256 thresholds, (0, 0) and (1, 1) included", None,
    ),
    "average_precision": Meaning(
        "Average precision of pixels", "mean precision over recall, over all thresholds; nothing to do with objects",
        "Σ (recall step) · precision", None, "scikit-learn's average_precision_score",
    ),
    "brier": Meaning(
        "Brier score", "mean squared difference of probability and truth, 0 is best",
        "Σ (probability - truth)² / N", None, "Brier 1950",
    ),
    "ece": Meaning(
        "ECE", "expected calibration error: how far probabilities are from the share that is object, 0 is best",
        "mean over 15 bins of equal mass of abs(probability - share)", None,
        "Naeini et al. 2015, AAAI; bins as in Nixon et al. 2019",
    ),
    "v_rand": Meaning(
        "V_rand", "ISBI 2012: Rand index of the cells that thinned membranes keep apart",
        "2 Σ p_ij² / (Σ s_i² + Σ t_j²)", None, "Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142",
    ),
    "v_info": Meaning(
        "V_info", "ISBI 2012: information that both partitions into cells share", "2 I(S; T) / (H(S) + H(T))", None,
        "as v_rand",
    ),
}  # fmt: skip

COLUMNS = {
    "model, seed": "the run; with folds all of them together. `{model}.mean`, the mean of several seeds, has the first "
    "one",
    "split": "train, validation or test",
    "stage": "`thresholded`: all pixels at the threshold chosen on the validation images, as components. `at_0.50`: at "
    "one half. `postprocessed`: the final objects. `baseline`: no network, ISBI 2012 only",
    "geometry": "`raw`, and `fitted` where images were resized, cropped or padded",
    "metric": "a name of the table below",
    "aggregation": "`image_mean`: of the scores of the images. `pooled`: of the counts of all images together. "
    "`best_per_stack`, `best_per_slice`: ISBI 2012's best of eleven thresholds",
    "ci_low, ci_high": "95 % interval: bootstrap over images, those of one sequence, well or patient (`split.group`) "
    "drawn together; empty for a single image",
    "n, n_undefined": "images behind the value; images left out because the score is not defined for them",
}

BEFORE = """# Scores

Every number of a report stands in `results/{dataset}/metrics.csv`, one row a number. Packages call different things
"AP" or "Dice"; here is which one each name means, and what it is worth where there is nothing to find.

"""

BETWEEN = """
Pixels to ignore and padding count nowhere; a predicted object with more than half of its pixels there is left out.
Objects match where their IoU is above one half or higher, so that an object has one partner at most.

The last three columns are the value where truth and prediction hold no object, where only the truth holds none, where
only the prediction holds none. An image where it is NaN is left out of the mean, and counted in n_undefined.

"""

AFTER = """
Each of them is compared with an independent implementation in `tests/unit/metrics/test_metric_oracles.py`:
scikit-learn, StarDist, Cellpose, pycocotools, py-ctcmetrics, or loops over pixels, on random and on nasty images.

Two models are compared in `comparisons.csv`: on the same images, as mean difference with its interval and the number
of images where either is better; a model of several seeds by the mean over them.
"""


def metrics_page() -> str:
    """Build the text of the page docs/metrics.md."""
    rows = []
    for name, meaning in GLOSSARY.items():
        words = meaning.words + (f" ({meaning.source})" if meaning.source else "")
        rows.append((f"`{name}`", words, meaning.formula, *(meaning.empty or ("", "", ""))))
    columns = _table(("column", "says"), COLUMNS.items())
    heads = ("metric", "is", "formula", "none at all", "only predicted", "only true")
    return BEFORE + columns + BETWEEN + _table(heads, rows) + AFTER


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
