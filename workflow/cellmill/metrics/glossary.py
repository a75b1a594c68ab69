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
_AP = "correct objects divided by all correct, false and missed objects"

GLOSSARY: dict[str, Meaning] = {
    "dice": Meaning(
        "Dice", "twice the common area divided by the sum of both areas, all objects of an image together",
        "2 TP / (2 TP + FP + FN)", ("1", "0", "0"), "the F1 score of pixels",
    ),
    "iou": Meaning(
        "IoU",
        "intersection over union: common area divided by the area of the union, all objects of an image together",
        "TP / (TP + FP + FN)", ("1", "0", "0"), "Jaccard index",
    ),
    "accuracy": Meaning(
        "Accuracy", "share of the pixels that are correct, most of which are background", "(TP + TN) / N",
        ("1", SHARE_RIGHT, SHARE_RIGHT),
    ),
    "precision": Meaning(
        "Precision", "share of the predicted foreground that is correct", "TP / (TP + FP)",
        (NOT_DEFINED, "0", NOT_DEFINED),
    ),
    "recall": Meaning(
        "Recall", "share of the true foreground that is predicted", "TP / (TP + FN)", (NOT_DEFINED, NOT_DEFINED, "0")
    ),
    "specificity": Meaning(
        "Specificity", "share of the true background that is predicted as background", "TN / (TN + FP)",
        ("1", SHARE_RIGHT, "1"),
    ),
    "mcc": Meaning(
        "MCC", "Matthews correlation coefficient of predicted and true pixels",
        "(TP TN - FP FN) / √((TP + FP)(TP + FN)(TN + FP)(TN + FN)), 0 where that is 0 / 0", ("0", "0", "0"),
        "Matthews 1975; an image with 0 / 0 counts as 0 in the mean and is also counted in n_undefined",
    ),
    "fpr": Meaning(
        "False positive rate", "share of the true background that is predicted as foreground", "FP / (FP + TN)",
        ("0", "1 - TN / N", "0"),
    ),
    "f1_macro": Meaning(
        "Macro F1", "mean of the Dice of the foreground and the Dice of the background",
        "(Dice + Dice of the background) / 2", None,
    ),
    "ap_kaggle": Meaning(
        "AP (Kaggle)", f"{_AP}, mean over ten IoU thresholds from 0.50 to 0.95", "mean of ap_0.50 .. ap_0.95",
        ("1", "0", "0"), "Kaggle, Data Science Bowl 2018 and Sartorius",
    ),
    **{
        name: Meaning(
            f"AP at {name[3:]}", f"{_AP}; correct objects have an IoU above {name[3:]}", "TP / (TP + FP + FN)",
            ("1", "0", "0"), "as ap_kaggle: an IoU equal to the threshold is not a match",
        )
        for name in STRICT_AP
    },
    **{
        name: Meaning(
            f"StarDist's AP at {name[-4:]}", f"{_AP}; correct objects have an IoU of at least {name[-4:]}",
            "TP / (TP + FP + FN), 0 where TP is 0", ("0", "0", "0"),
            "as StarDist's matching: pooled with by_image=False, image_mean with by_image=True",
        )
        for name in STARDIST_AP
    },
    "panoptic_quality": Meaning(
        "Panoptic quality",
        "mean IoU of the objects matched at an IoU above 0.50, times the F1 score of these matches",
        "segmentation_quality · recognition_quality, 0 without a match", ("1", "0", "0"),
        "Kirillov et al. 2019, doi:10.1109/CVPR.2019.00963",
    ),
    "segmentation_quality": Meaning(
        "Segmentation quality", "mean IoU of the objects matched at an IoU above 0.50", "Σ IoU / TP",
        (NOT_DEFINED,) * 3, "as panoptic_quality",
    ),
    "recognition_quality": Meaning(
        "Recognition quality", "F1 score of objects at an IoU above 0.50", "TP / (TP + FP / 2 + FN / 2)",
        ("1", "0", "0"), "as panoptic_quality",
    ),
    "aji": Meaning(
        "AJI",
        "aggregated Jaccard index: common area of true objects and their best matches divided by the area of unions",
        "Σ common area / (Σ union + area of the predicted objects without a match)", ("1", "0", "0"),
        "Kumar et al. 2017, doi:10.1109/TMI.2017.2677499",
    ),
    "seg": Meaning(
        "SEG", f"{_CTC}: mean IoU of true objects with the predicted object that covers more than half of each",
        "Σ IoU / number of true objects; false objects have no effect", (NOT_DEFINED, NOT_DEFINED, "0"),
    ),
    "det": Meaning(
        "DET", f"{_CTC}: 1 minus the relative cost of missed (10), merged (5) and false (1) objects",
        "1 - min(cost, cost of finding none) / cost of finding none", (NOT_DEFINED, NOT_DEFINED, "0"),
        "Matula et al. 2015, doi:10.1371/journal.pone.0144959",
    ),
    "op_csb": Meaning(
        "OP_CSB", f"{_CTC}: mean of SEG and DET", "(SEG + DET) / 2", (NOT_DEFINED, NOT_DEFINED, "0"),
        "Cell Segmentation Benchmark",
    ),
    "count_error": Meaning(
        "Count error", "absolute difference of predicted and true number of objects, divided by the true number",
        "abs(predicted - true) / true", ("0", NOT_DEFINED, "1"),
    ),
    "boundary_f1": Meaning(
        "Boundary F1", "agreement of predicted and true object borders within a tolerance",
        "harmonic mean of the correct share of the predicted border and the found share of the true border",
        ("1", "0", "0"), "Csurka et al. 2013, BMVC; the tolerance is `evaluate.border_tolerance_px`",
    ),
    "auc_roc": Meaning(
        "AUC",
        "area under the ROC curve: how often a foreground pixel has a higher probability than a background pixel",
        "trapezoids over 256 thresholds, including (0, 0) and (1, 1)", None,
    ),
    "average_precision": Meaning(
        "Average precision of pixels", "mean precision over recall, over all thresholds; not the AP of objects",
        "Σ (recall step) · precision", None, "scikit-learn's average_precision_score",
    ),
    "brier": Meaning(
        "Brier score", "mean squared difference between probability and ground truth; 0 is best",
        "Σ (probability - truth)² / N", None, "Brier 1950",
    ),
    "ece": Meaning(
        "ECE",
        "expected calibration error: mean difference between probability and share of foreground; 0 is best",
        "mean of abs(mean probability - share of foreground) over 15 bins of equal mass", None,
        "Naeini et al. 2015, AAAI; bins as in Nixon et al. 2019",
    ),
    "confidence_auroc": Meaning(
        "Confidence AUROC",
        "area under the ROC curve of the confidence of objects: 1 if all right objects (IoU above 0.5) have a higher "
        "confidence than all wrong ones, 0.5 for an order by chance",
        "share of the pairs of a right and a wrong object in the right order, ties count half", None,
    ),
    "v_rand": Meaning(
        "V_rand", "ISBI 2012: Rand index of the cells separated by the thinned membranes",
        "2 Σ p_ij² / (Σ s_i² + Σ t_j²)", None, "Arganda-Carreras et al. 2015, doi:10.3389/fnana.2015.00142",
    ),
    "v_info": Meaning(
        "V_info", "ISBI 2012: shared information of the predicted and the true partition into cells",
        "2 I(S; T) / (H(S) + H(T))", None, "as v_rand",
    ),
}  # fmt: skip

COLUMNS = {
    "model, seed": "the run, with all its folds. `{model}.mean`, the mean of several seeds, has the first of them",
    "split": "train, validation or test",
    "stage": "`thresholded`: the mask at the threshold chosen on the validation images, and its connected components. "
    "`at_0.50`: the mask at a threshold of 0.5. `postprocessed`: the final objects. `baseline`: predictors without a "
    "network, ISBI 2012 only",
    "geometry": "`raw`: the raw images. `fitted`: the resized, cropped or padded images, if there are any",
    "metric": "a name from the table below",
    "aggregation": "`image_mean`: mean over the scores of the images. `pooled`: score of the summed counts of images. "
    "`best_per_stack`, `best_per_slice`: ISBI 2012's best of eleven thresholds, for each stack or each section",
    "ci_low, ci_high": "95 % confidence interval from a bootstrap over images; images of the same sequence, well or "
    "patient (`split.group_by`) are drawn together. Empty for a single image",
    "n, n_undefined": "number of images in the value; number of images whose score is undefined. These are left out of "
    "the mean, except for the Matthews correlation, for which they count as 0",
}

BEFORE = """# Scores

`results/{dataset}/metrics.csv` contains every score of a report, one per row. Names such as "AP" and "Dice" mean
different scores in different programs. This page defines each name, and its value for images without objects.

"""

BETWEEN = """
Ignored pixels and padding are excluded from all scores. A predicted object with more than half of its pixels there is
left out. Objects match above an IoU threshold of 0.5 or higher, so that each object has at most one match.

The last three columns are the values without objects: in ground truth and prediction, in the ground truth only, and in
the prediction only. Images with NaN are left out of the mean and counted in n_undefined.

"""

AFTER = """
`tests/unit/metrics/test_metric_oracles.py` compares each score with an independent implementation: scikit-learn,
StarDist, Cellpose, pycocotools, py-ctcmetrics, or loops over pixels. The images are random or edge cases.

`comparisons.csv` compares each pair of models on the same images. It contains the mean difference with its confidence
interval, and the number of images on which each of the two is better. Models with several seeds are compared by the
mean over their seeds. The rows without a second model contain the mean of each model. Among them, the row
`count_difference` compares the numbers of objects in all images: (`n_predicted` - `n_true`) / `n_true`, where
`n_predicted` is the mean over the seeds. It is negative if objects were lost. With fewer than ten images or groups of
images, bootstrap intervals are too narrow.
"""


def metrics_page() -> str:
    """Build the text of the page docs/metrics.md."""
    rows = []
    for name, meaning in GLOSSARY.items():
        words = meaning.words + (f" ({meaning.source})" if meaning.source else "")
        rows.append((f"`{name}`", words, meaning.formula, *(meaning.empty or ("", "", ""))))
    columns = _table(("column", "meaning"), COLUMNS.items())
    heads = ("metric", "definition", "formula", "both empty", "truth empty", "prediction empty")
    return BEFORE + columns + BETWEEN + _table(heads, rows) + AFTER


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
