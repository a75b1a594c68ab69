import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, matthews_corrcoef, roc_auc_score

from cellmill.evaluation.comparisons import COMPARISON_COLUMNS
from cellmill.images.stored import IGNORE_LABEL, read_labels, write_labels
from cellmill.metrics.isbi2012 import THRESHOLDS, compare_regions, label_cells, thin_membranes
from cellmill.preprocessing.geometry import fit_labels, plan_fit, write_geometry
from cellmill.shards import shard_folder
from cellmill.stages.evaluate import METRIC_COLUMNS, SCORE_COLUMNS, summarize_evaluation
from cellmill.stages.evaluate_shard import evaluate_shard
from whole_images import fit_image, read_probabilities, write_image, write_probabilities

SHAPE = (40, 56)
ROWS, COLUMNS = np.indices(SHAPE)
ROOMS = ("images", "labels", "probabilities", "segmentation")
THRESHOLD = 0.4
EXACT = 1e-9


def draw_image(seed, cells=3):
    """Return true labels, a noisy probability map, and a segmentation shifted by one row."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype=np.int64)
    for number in range(1, cells + 1):
        row, column = rng.integers(8, 32), rng.integers(8, 48)
        labels[(ROWS - row) ** 2 + (COLUMNS - column) ** 2 <= 36] = number
    soft = ndimage.gaussian_filter((labels > 0).astype(float), 1.5)
    probability = np.clip(soft + rng.normal(0, 0.1, SHAPE), 0, 1)
    return labels, probability, np.roll(labels, 1, axis=0)


def write_shard(root, shard, drawn, *, mode="none", size=None):
    folders = {f"{room}_dir": root / room / shard for room in ROOMS}
    geometries = {sample: plan_fit(SHAPE, mode=mode, size=size) for sample in drawn}
    with shard_folder(folders["images_dir"]) as folder:
        for sample, arrays in drawn.items():
            # Grey values that follow the labels; only the ISBI 2012 scores use them.
            write_image(
                folder / f"{sample}.tif", fit_image(40.0 + 100 * (arrays[0] > 0), geometries[sample], pad_value=0)
            )
        write_geometry(folder / "geometry.csv", geometries)
    for room, part in (("labels", 0), ("segmentation", 2)):
        with shard_folder(folders[f"{room}_dir"]) as folder:
            for sample, arrays in drawn.items():
                write_labels(folder / f"{sample}.tif", arrays[part])
            if room == "segmentation":
                write_confidences(folder, {sample: arrays[part] for sample, arrays in drawn.items()})
    with shard_folder(folders["probabilities_dir"]) as folder:
        for sample, arrays in drawn.items():
            fitted = fit_image(arrays[1], geometries[sample], pad_value=1.0)
            write_probabilities(folder / f"{sample}.tif", np.clip(fitted, 0, 1)[None])
    return folders


def write_confidences(folder, labels):
    """Write counts.csv, and objects.csv in which object k has the confidence k/10, at most 1."""
    counts = [(sample, len(np.unique(yx))) for sample, yx in labels.items()]
    pd.DataFrame(counts, columns=["sample", "objects"]).to_csv(folder / "counts.csv", index=False)
    rows = [(sample, number, min(number / 10, 1)) for sample, yx in labels.items() for number in np.setdiff1d(yx, [0])]
    pd.DataFrame(rows, columns=["sample", "object", "confidence"]).to_csv(folder / "objects.csv", index=False)


def evaluate(
    root, folders, *, split="test", model="unet", seed=7, shard="test-0000", isbi2012=False, exclude_border=False,
    groups=None,
):  # fmt: skip
    fit_path = root / "postprocess.json"
    fit = {"format": 2, "threshold": {"value": THRESHOLD}, "instances": {}}
    fit_path.write_text(json.dumps(fit))
    output = root / f"{model}.{seed}" / f"{shard}.json"
    evaluate_shard(
        output_path=output, fit_path=fit_path, split=split, model=model, seed=seed, isbi2012=isbi2012,
        border_tolerance_px=2, groups=groups or {}, exclude_border=exclude_border, **folders,
    )  # fmt: skip
    return output


def summarize(root, paths, *, bootstrap=50, seed=1):
    summarize_evaluation(
        metrics_path=root / "metrics.csv", scores_path=root / "scores.csv",
        comparisons_path=root / "comparisons.csv", curves_path=root / "curves.csv", sizes_path=root / "sizes.csv",
        confidence_path=root / "confidence.csv", shard_paths=paths, bootstrap=bootstrap, seed=seed,
    )  # fmt: skip
    return pd.read_csv(root / "metrics.csv"), pd.read_csv(root / "scores.csv")


def drawn_images(count=4, first=0):
    return {f"x{k}": draw_image(first + k) for k in range(count)}


def pick(metrics, **words):
    for column, word in words.items():
        metrics = metrics[metrics[column] == word]
    return metrics.set_index("metric")["value"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluation")
    folders = write_shard(root, "test-0000", drawn_images())
    return summarize(root, [evaluate(root, folders)])


def test_tables_have_the_agreed_columns(tables):
    metrics, scores = tables
    assert tuple(metrics.columns) == METRIC_COLUMNS
    assert tuple(scores.columns) == SCORE_COLUMNS
    assert metrics[["model", "seed", "split", "geometry"]].drop_duplicates().values.tolist() == [
        ["unet", 7, "test", "raw"]
    ]
    assert set(metrics["stage"]) == {"thresholded", "postprocessed", "at_0.50"}
    assert set(metrics["aggregation"]) == {"image_mean", "pooled"}


def compare(root, folders, runs, *, bootstrap=200, groups=None):
    """Evaluate the same images under several names; `runs` maps (model, seed) to a change of the segmentation."""
    paths = []
    for (model, seed), change in runs.items():
        changed = root / f"changed-{model}-{seed}"
        with shard_folder(changed) as folder:
            files = sorted(folders["segmentation_dir"].glob("*.tif"))
            labels = {path.stem: change(read_labels(path)) for path in files}
            for sample, labels_yx in labels.items():
                write_labels(folder / f"{sample}.tif", labels_yx)
            write_confidences(folder, labels)
        given = folders | {"segmentation_dir": changed}
        paths.append(evaluate(root, given, model=model, seed=seed, groups=groups))
    metrics, _ = summarize(root, paths, bootstrap=bootstrap)
    return metrics, pd.read_csv(root / "comparisons.csv", keep_default_na=False, na_values=[""])


def lose_half(labels):
    return np.where(labels % 2 == 0, labels, 0)


def shift(by):
    return lambda labels: np.roll(labels, by, axis=1)


def test_models_are_compared_image_by_image(tmp_path):
    folders = write_shard(tmp_path, "test-0000", drawn_images(12))
    runs = {("good", 1): shift(0), ("good", 2): shift(1), ("bad", 1): lose_half}
    metrics, found = compare(tmp_path, folders, runs)
    assert tuple(found) == COMPARISON_COLUMNS
    dice = found[found["metric"] == "dice"].fillna({"against": ""}).set_index(["model", "against"])
    scores = pd.read_csv(tmp_path / "scores.csv")
    scores = scores[scores["stage"] == "postprocessed"]
    by_image = scores.pivot_table(index="sample", columns="model", values="dice", aggfunc="mean")
    for model in ("good", "bad"):
        assert dice.loc[(model, ""), "value"] == pytest.approx(by_image[model].mean(), abs=1e-8)
    row = dice.loc[("good", "bad")]
    difference = by_image["good"] - by_image["bad"]
    assert row["value"] == pytest.approx(difference.mean(), abs=1e-8)
    assert row["ci_low"] < row["value"] < row["ci_high"]
    assert row["ci_low"] > 0
    assert (row["n"], row["n_better"], row["n_worse"]) == (12, (difference > 0).sum(), (difference < 0).sum())
    assert (row["n_seeds"], row["n_seeds_against"], row["n_groups"]) == (2, 1, 12)
    mirrored = dice.loc[("bad", "good")]
    assert (mirrored["value"], mirrored["ci_low"], mirrored["ci_high"]) == pytest.approx(
        (-row["value"], -row["ci_high"], -row["ci_low"])
    )
    # Difficult images are difficult for both models, so the interval of the difference is narrower than for two models
    # whose images are drawn independently. A second seed would widen it.
    metrics, found = compare(tmp_path / "single", folders, {("good", 1): shift(0), ("bad", 1): lose_half})
    [row] = found[(found["metric"] == "dice") & (found["against"] == "bad")].to_dict("records")
    ends = metrics[(metrics["metric"] == "dice") & (metrics["aggregation"] == "image_mean")]
    ends = ends[(ends["stage"] == "postprocessed") & (ends["seed"] == 1)].set_index("model")
    alone = (ends["ci_high"] - ends["ci_low"]).sum()
    assert row["ci_high"] - row["ci_low"] < alone


def test_two_models_that_are_one_differ_by_nothing(tmp_path):
    folders = write_shard(tmp_path, "test-0000", drawn_images(5))
    _, found = compare(tmp_path, folders, {("a", 1): shift(1), ("b", 1): shift(1)})
    both = found[found["against"] == "b"]
    assert (both[["value", "ci_low", "ci_high"]].dropna() == 0).all().all()
    assert not both[["n_better", "n_worse"]].any().any()


def test_seeds_that_differ_widen_the_interval(tmp_path):
    folders = write_shard(tmp_path, "test-0000", drawn_images(8))
    widths = []
    for name, second in (("same", shift(0)), ("other", lose_half)):
        (tmp_path / name).mkdir()
        _, found = compare(tmp_path / name, folders, {("a", 1): shift(0), ("a", 2): second})
        row = found[found["metric"] == "dice"].iloc[0]
        widths.append(row["ci_high"] - row["ci_low"])
    assert widths[1] > 1.5 * widths[0]


def test_images_of_a_group_are_drawn_together(tmp_path):
    folders = write_shard(tmp_path, "test-0000", drawn_images(6))
    groups = {f"x{k}": f"well {k // 3}" for k in range(6)}
    metrics, found = compare(tmp_path, folders, {("a", 1): shift(0)}, groups=groups)
    assert set(found["n_groups"]) == {2}
    alone, by_image = compare(tmp_path, folders, {("a", 1): shift(0)})
    assert set(by_image["n_groups"]) == {6}
    widths = [
        pick(table.assign(value=table["ci_high"] - table["ci_low"]), aggregation="image_mean", stage="thresholded")[
            "dice"
        ]
        for table in (metrics, alone)
    ]
    assert widths[0] != widths[1]


def test_objects_at_the_border_are_not_asked_for_where_they_were_left_out(tmp_path):
    labels = np.zeros(SHAPE, dtype=np.int64)
    labels[0:8, 10:20], labels[20:30, 20:30] = 1, 2
    found = np.where(labels == 2, labels, 0)
    folders = write_shard(tmp_path, "test-0000", {"x0": (labels, (labels > 0) * 0.9, found)})
    for exclude_border, ap in ((False, 0.5), (True, 1.0)):
        metrics, scores = summarize(tmp_path, [evaluate(tmp_path, folders, exclude_border=exclude_border)])
        rows = scores.set_index("stage")
        assert rows.loc["postprocessed", "ap_0.50"] == ap
        assert rows.loc["thresholded", "ap_0.50"] == 1  # the mask contains both objects
        assert rows.loc["postprocessed", "n_true"] == 2 - exclude_border
        assert rows.loc["postprocessed", "dice"] == pytest.approx(1.0 if exclude_border else 2 * 100 / 280)


def test_curves_hold_every_pixel_and_sizes_every_object(tables, tmp_path):
    metrics, scores = tables
    paths = [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn_images()))]
    summarize(tmp_path, paths)
    curves, sizes = pd.read_csv(tmp_path / "curves.csv"), pd.read_csv(tmp_path / "sizes.csv")
    assert len(curves) == 256
    assert curves[["background", "foreground"]].to_numpy().sum() == 4 * SHAPE[0] * SHAPE[1]
    # The mean probability for the Brier score and the pixels above the threshold, both from the curve
    above = curves[curves["low"] >= THRESHOLD]
    threshold = math.ceil(THRESHOLD * 256) / 256
    assert above["low"].min() == threshold
    area = (curves["background"] + curves["foreground"]).sum()
    assert 0 < curves["confidence"].sum() / area < 1
    final = scores[scores["stage"] == "postprocessed"]
    assert sizes["n_true"].sum() == final["n_true"].sum()
    assert sizes["n_predicted"].sum() == final["n_predicted"].sum()
    recognised = pick(metrics, stage="postprocessed", aggregation="pooled")["recognition_quality"]
    assert sizes["n_found"].sum() == sizes["n_right"].sum()
    assert 2 * sizes["n_found"].sum() / (sizes["n_true"] + sizes["n_predicted"]).sum() == pytest.approx(recognised)
    assert (sizes["high_px"] == 2 * sizes["low_px"]).all()
    assert sizes["low_px"].between(64, 128).all()  # discs of radius 6, of which one may be cut


def test_dice_and_iou_agree_in_every_row(tables):
    metrics, scores = tables
    assert len(scores) == 4 * 2
    assert np.allclose(scores["dice"], 2 * scores["iou"] / (1 + scores["iou"]), atol=1e-7)
    pooled = metrics[metrics["aggregation"] == "pooled"].pivot_table(index="stage", columns="metric", values="value")
    assert np.allclose(pooled["dice"], 2 * pooled["iou"] / (1 + pooled["iou"]), atol=1e-7)
    means = metrics[metrics["aggregation"] == "image_mean"].pivot_table(index="stage", columns="metric", values="value")
    assert (means["dice"] >= means["iou"]).all()


def test_thresholded_scores_are_those_of_the_stored_probabilities(tmp_path):
    drawn = drawn_images(3)
    folders = write_shard(tmp_path, "test-0000", drawn)
    metrics, scores = summarize(tmp_path, [evaluate(tmp_path, folders)])
    stored = {sample: read_probabilities(folders["probabilities_dir"] / f"{sample}.tif")[0] for sample in drawn}
    expected = [f1_score((drawn[s][0] > 0).ravel(), (stored[s] >= THRESHOLD).ravel()) for s in drawn]
    found = scores[scores["stage"] == "thresholded"]["dice"]
    assert found.tolist() == pytest.approx(expected, abs=EXACT)
    assert pick(metrics, stage="thresholded", aggregation="image_mean")["dice"] == pytest.approx(
        np.mean(expected), abs=EXACT
    )


def test_threshold_free_scores_are_pooled_over_the_images(tmp_path):
    drawn = drawn_images(3)
    for sample, (labels, probability, segmented) in drawn.items():
        drawn[sample] = labels, (probability * 255).astype(np.uint8) / 255, segmented
    metrics, _ = summarize(tmp_path, [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn))])
    truth = np.concatenate([(arrays[0] > 0).ravel() for arrays in drawn.values()])
    # The stored float16 probability decides the bin, not the 8-bit value.
    stored = np.concatenate([arrays[1].astype(np.float16).ravel() for arrays in drawn.values()])
    bins = np.minimum((stored.astype(np.float64) * 256).astype(int), 255)
    pooled = pick(metrics, stage="thresholded", aggregation="pooled")
    assert pooled["auc_roc"] == pytest.approx(roc_auc_score(truth, bins), abs=1e-8)
    assert pooled["average_precision"] == pytest.approx(average_precision_score(truth, bins), abs=1e-8)


def test_threshold_free_scores_stand_once(tables):
    metrics, scores = tables
    rows = metrics[metrics["metric"].isin(["auc_roc", "average_precision"])]
    assert rows[["stage", "aggregation"]].drop_duplicates().values.tolist() == [["thresholded", "pooled"]]
    assert scores[scores["stage"] == "postprocessed"]["auc_roc"].isna().all()


def test_a_perfect_segmentation_scores_one(tmp_path):
    drawn = {f"x{k}": (draw_image(k)[0], draw_image(k)[1], draw_image(k)[0]) for k in range(3)}
    metrics, _ = summarize(tmp_path, [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn))])
    for aggregation in ("image_mean", "pooled"):
        found = pick(metrics, stage="postprocessed", aggregation=aggregation)
        assert found.pop("count_error") == found.pop("fpr") == 0
        # Without a wrong object there is nothing to rank.
        assert np.isnan(found.pop("confidence_auroc")) if aggregation == "pooled" else True
        assert (found == 1).all()


def test_thresholded_objects_are_connected_components(tmp_path):
    labels = np.zeros(SHAPE, dtype=np.int64)
    labels[5:15, 5:15], labels[5:15, 15:25], labels[25:30, 40:45] = 1, 2, 3
    drawn = {"x0": (labels, (labels > 0) * 1.0, labels)}
    _, scores = summarize(tmp_path, [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn))])
    counts = scores.set_index("stage")[["n_true", "n_predicted"]]
    assert counts.loc["thresholded"].tolist() == [3, 2]
    assert counts.loc["postprocessed"].tolist() == [3, 3]


def test_ignored_pixels_change_no_score(tmp_path):
    labels, probability, segmented = draw_image(3)
    ignored = labels.copy()
    ignored[:, 28:] = IGNORE_LABEL
    wild = np.where(COLUMNS >= 28, np.random.default_rng(0).random(SHAPE), probability)
    results = []
    for name, prob in (("calm", probability), ("wild", wild)):
        folders = write_shard(tmp_path / name, "test-0000", {"x0": (ignored, prob, segmented)})
        path = evaluate(tmp_path / name, folders)
        results.append(summarize(tmp_path / name, [path])[1].set_index("stage"))
    pixel_scores = ["dice", "iou", "accuracy", "precision", "recall", "specificity", "mcc", "n_true"]
    for stage in ("thresholded", "postprocessed"):
        assert results[0].loc[stage, pixel_scores].tolist() == results[1].loc[stage, pixel_scores].tolist()


def test_an_image_without_known_pixels_is_counted_as_undefined(tmp_path):
    drawn = drawn_images(2)
    drawn["x1"] = (np.full(SHAPE, IGNORE_LABEL), *drawn["x1"][1:])
    metrics, _ = summarize(tmp_path, [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn))])
    means = metrics[metrics["aggregation"] == "image_mean"]
    assert set(zip(means["n"], means["n_undefined"], strict=True)) == {(1, 1)}


def test_empty_images_are_counted_and_not_hidden(tmp_path):
    nothing = np.zeros(SHAPE, dtype=np.int64)
    drawn = {"x0": (nothing, nothing * 1.0, nothing), "x1": draw_image(1)}
    metrics, scores = summarize(tmp_path, [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn))])
    row = scores[(scores["sample"] == "x0") & (scores["stage"] == "postprocessed")].iloc[0]
    assert (row["dice"], row["ap_kaggle"], row["mcc"], row["count_error"]) == (1, 1, 0, 0)
    assert np.isnan(row["recall"])
    means = metrics[(metrics["aggregation"] == "image_mean") & (metrics["stage"] == "postprocessed")]
    undefined = means.set_index("metric")["n_undefined"]
    undefined = undefined[undefined > 0].to_dict()
    assert undefined == {
        "precision": 1,
        "recall": 1,
        "mcc": 1,
        "segmentation_quality": 1,
        "seg": 1,
        "det": 1,
        "op_csb": 1,
    }


@pytest.mark.parametrize(("mode", "size"), [("resize", (32, 64)), ("crop_pad", (48, 40))])
def test_both_geometries_are_scored_where_they_differ(tmp_path, mode, size):
    drawn = drawn_images(2)
    folders = write_shard(tmp_path, "test-0000", drawn, mode=mode, size=size)
    metrics, scores = summarize(tmp_path, [evaluate(tmp_path, folders)])
    assert set(metrics["geometry"]) == {"raw", "fitted"}
    sample = scores[(scores["sample"] == "x0") & (scores["stage"] == "thresholded")].set_index("geometry")
    truth = fit_labels(drawn["x0"][0].astype(np.uint16), plan_fit(SHAPE, mode=mode, size=size))
    stored = read_probabilities(folders["probabilities_dir"] / "x0.tif")[0]
    known = truth != IGNORE_LABEL
    expected = f1_score((truth > 0)[known], (stored >= THRESHOLD)[known])
    assert sample.loc["fitted", "dice"] == pytest.approx(expected, abs=EXACT)
    assert sample.loc["raw", "dice"] > 0.5


def test_padding_holds_no_predicted_object(tmp_path):
    # The probability is 1 in the padding of this shard.
    folders = write_shard(tmp_path, "test-0000", drawn_images(1), mode="crop_pad", size=(80, 90))
    _, scores = summarize(tmp_path, [evaluate(tmp_path, folders)])
    thresholded = scores[scores["stage"] == "thresholded"].set_index("geometry")
    columns = ["dice", "ap_kaggle", "n_true", "n_predicted"]
    assert thresholded.loc["fitted", columns].tolist() == thresholded.loc["raw", columns].tolist()


@pytest.mark.parametrize("room", ["probabilities", "segmentation"])
@pytest.mark.parametrize(("kept", "said"), [(2, "missing x2"), (4, "extra x3")])
def test_missing_and_extra_predictions_are_named(tmp_path, room, kept, said):
    folders = write_shard(tmp_path / "truth", "test-0000", drawn_images(3))
    other = write_shard(tmp_path / "other", "test-0000", drawn_images(kept))
    message = rf"test-0000: expected {room} for the 3 samples in labels, found differences \({said}\)\. "
    with pytest.raises(ValueError, match=message + "Remove .* run snakemake"):
        evaluate(tmp_path, folders | {f"{room}_dir": other[f"{room}_dir"]})


def test_a_segmentation_of_another_size_is_refused(tmp_path):
    drawn = drawn_images(1)
    folders = write_shard(tmp_path, "test-0000", drawn)
    wrong = {"x0": (*drawn["x0"][:2], np.zeros((5, 5), dtype=np.int64))}
    other = write_shard(tmp_path / "other", "test-0000", wrong)
    with pytest.raises(
        ValueError, match=r"x0: expected a segmentation of 40 x 56 px, the size of its labels, found 5 x 5 px\."
    ):
        evaluate(tmp_path, folders | {"segmentation_dir": other["segmentation_dir"]})


def test_shards_of_one_part_are_one_row(tmp_path):
    drawn = drawn_images(5)
    whole = evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn), model="whole")
    parts = [
        evaluate(tmp_path, write_shard(tmp_path, shard, {s: drawn[s] for s in samples}), model="parts", shard=shard)
        for shard, samples in (("test-0001", ["x0", "x1"]), ("test-0002", ["x2", "x3", "x4"]))
    ]
    metrics, scores = summarize(tmp_path, [whole, *parts])
    values = metrics.pivot_table(index=["stage", "metric", "aggregation"], columns="model", values="value")
    assert np.allclose(values["whole"], values["parts"], atol=1e-8)
    assert scores[scores["model"] == "parts"]["shard"].unique().tolist() == ["test-0001", "test-0002"]


def test_another_run_changes_no_row_of_this_one(tmp_path):
    folders = write_shard(tmp_path, "test-0000", drawn_images(4))
    first, second = (evaluate(tmp_path, folders, model=model) for model in ("a", "b"))
    alone, _ = summarize(tmp_path, [second])
    together, _ = summarize(tmp_path, [second, first])
    mine = together[together["model"] == "b"].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, alone)


def test_summary_does_not_depend_on_the_order_of_its_inputs(tmp_path):
    paths = [
        evaluate(tmp_path, write_shard(tmp_path, shard, {f"{shard}{k}": draw_image(k) for k in range(2)}), shard=shard)
        for shard in ("test-0000", "test-0001")
    ]
    texts = []
    for order in (paths, paths[::-1]):
        summarize(tmp_path, order)
        texts.append((tmp_path / "metrics.csv").read_text() + (tmp_path / "scores.csv").read_text())
    assert texts[0] == texts[1]


def test_another_seed_moves_the_intervals_and_not_the_values(tmp_path):
    path = evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn_images(4)))
    one, other = (summarize(tmp_path, [path], seed=seed)[0] for seed in (1, 2))
    assert np.array_equal(one["value"], other["value"], equal_nan=True)
    assert not np.array_equal(one["ci_low"], other["ci_low"], equal_nan=True)


def test_without_shards_the_tables_have_a_header_only(tmp_path):
    metrics, scores = summarize(tmp_path, [])
    assert (len(metrics), len(scores)) == (0, 0)
    assert tuple(metrics.columns) == METRIC_COLUMNS
    assert tuple(scores.columns) == SCORE_COLUMNS


def test_evaluation_leaves_its_inputs_alone(tmp_path):
    folders = write_shard(tmp_path, "test-0000", drawn_images(1))
    before = read_labels(folders["labels_dir"] / "x0.tif")
    evaluate(tmp_path, folders)
    assert np.array_equal(read_labels(folders["labels_dir"] / "x0.tif"), before)


# ---- scores of the papers' tables ----------------------------------------------------------------------------


def test_rates_of_both_classes_follow_from_the_scores_of_each(tmp_path):
    drawn = drawn_images(3)
    metrics, _ = summarize(tmp_path, [evaluate(tmp_path, write_shard(tmp_path, "test-0000", drawn))])
    pairs = [((labels > 0).ravel(), (segmented > 0).ravel()) for labels, _, segmented in drawn.values()]
    pairs_of = {"image_mean": pairs, "pooled": [tuple(np.concatenate(side) for side in zip(*pairs, strict=True))]}
    for aggregation, known in pairs_of.items():
        found = pick(metrics, stage="postprocessed", aggregation=aggregation)
        macro = [f1_score(truth, predicted, average="macro") for truth, predicted in known]
        rate = [np.mean(predicted[~truth]) for truth, predicted in known]
        assert found["f1_macro"] == pytest.approx(np.mean(macro), abs=1e-8)
        assert found["fpr"] == pytest.approx(np.mean(rate), abs=1e-8)


def test_scores_at_one_half_do_not_follow_the_fitted_threshold(tmp_path):
    drawn = drawn_images(2)
    folders = write_shard(tmp_path, "test-0000", drawn)
    metrics, scores = summarize(tmp_path, [evaluate(tmp_path, folders)])
    stored = {sample: read_probabilities(folders["probabilities_dir"] / f"{sample}.tif")[0] for sample in drawn}
    truth = np.concatenate([(drawn[sample][0] > 0).ravel() for sample in drawn])
    above = np.concatenate([stored[sample].ravel() >= 0.5 for sample in drawn])
    pooled = pick(metrics, stage="at_0.50", aggregation="pooled")
    assert pooled["mcc"] == pytest.approx(matthews_corrcoef(truth, above), abs=1e-8)
    assert pooled["accuracy"] == pytest.approx(np.mean(truth == above), abs=1e-8)
    assert pooled["mcc"] != pick(metrics, stage="thresholded", aggregation="pooled")["mcc"]
    assert "at_0.50" not in set(scores["stage"])


def test_intervals_of_all_scores_rest_on_the_same_draws(tables):
    metrics = tables[0][tables[0]["aggregation"] == "pooled"].set_index(["stage", "metric"])
    for stage in ("thresholded", "postprocessed"):
        rate, specificity = metrics.loc[(stage, "fpr")], metrics.loc[(stage, "specificity")]
        assert rate["ci_low"] == pytest.approx(1 - specificity["ci_high"], abs=1e-8)
        assert rate["ci_high"] == pytest.approx(1 - specificity["ci_low"], abs=1e-8)


def sectioned(root, *, split="test", shard="test-0000", model="unet", first=0, **words):
    drawn = {f"{split}{k}": draw_image(first + k) for k in range(3)}
    folders = write_shard(root / shard, shard, drawn, **words)
    return drawn, folders, evaluate(root, folders, split=split, model=model, shard=shard, isbi2012=True)


def test_sections_are_scored_only_where_it_is_asked(tables):
    assert not set(tables[0]["metric"]) & {"v_rand", "v_info"}
    assert "baseline" not in set(tables[0]["stage"])


def test_sections_have_their_best_threshold_per_stack_and_per_slice(tmp_path):
    drawn, folders, path = sectioned(tmp_path)
    metrics, _ = summarize(tmp_path, [path])
    stored = {sample: read_probabilities(folders["probabilities_dir"] / f"{sample}.tif")[0] for sample in drawn}

    def rand(sample, threshold):
        return compare_regions(thin_membranes(stored[sample] >= threshold), label_cells(drawn[sample][0] > 0))[0]

    swept = np.array([[rand(sample, threshold) for threshold in THRESHOLDS] for sample in drawn])
    expected = {
        "best_per_stack": swept.mean(axis=0).max(),
        "best_per_slice": swept.max(axis=1).mean(),
        "image_mean": np.mean([rand(sample, THRESHOLD) for sample in drawn]),
    }
    rows = metrics[(metrics["metric"] == "v_rand") & (metrics["stage"] == "thresholded")].set_index("aggregation")
    assert rows["value"].to_dict() == pytest.approx(expected, abs=1e-8)
    assert set(rows["n"]) == {3}
    assert ((rows["ci_low"] <= rows["value"]) & (rows["value"] <= rows["ci_high"])).all()


def test_sections_are_scored_in_both_geometries(tmp_path):
    _, _, path = sectioned(tmp_path, mode="resize", size=(32, 64))
    metrics, _ = summarize(tmp_path, [path])
    assert set(metrics.loc[metrics["metric"] == "v_info", "geometry"]) == {"raw", "fitted"}


def test_constant_predictor_has_the_share_of_the_foreground_as_accuracy(tmp_path):
    drawn, _, path = sectioned(tmp_path)
    metrics, _ = summarize(tmp_path, [path])
    found = pick(metrics, model="(constant)", stage="baseline", aggregation="pooled")
    share = np.mean([labels > 0 for labels, _, _ in drawn.values()])
    assert found["accuracy"] == pytest.approx(share, abs=1e-8)
    assert (found["recall"], found["specificity"]) == (1, 0)


def test_grey_threshold_is_chosen_on_training_images(tmp_path):
    _, _, trained = sectioned(tmp_path, split="train", shard="train-0000", first=5)
    drawn, folders, tested = sectioned(tmp_path)
    # In the test images objects are dark, so that a threshold chosen on the training images is wrong there.
    for sample, arrays in drawn.items():
        write_image(folders["images_dir"] / f"{sample}.tif", (140.0 - 100 * (arrays[0] > 0)).astype(np.float32))
    tested = evaluate(tmp_path, folders, isbi2012=True)
    metrics, _ = summarize(tmp_path, [trained, tested])
    accuracy = metrics[(metrics["model"] == "(grey)") & (metrics["metric"] == "accuracy")]
    of = accuracy[accuracy["aggregation"] == "pooled"].set_index("split")["value"]
    assert of["train"] > 0.97  # the blur shifts the border by at most one pixel
    assert of["test"] < 0.1


def test_baselines_do_not_depend_on_the_number_of_runs(tmp_path):
    drawn, folders, first = sectioned(tmp_path)
    second = evaluate(tmp_path, folders, model="other", isbi2012=True)
    one, two = (summarize(tmp_path, paths)[0] for paths in ([first], [first, second]))
    kept = [table[table["stage"] == "baseline"].reset_index(drop=True) for table in (one, two)]
    pd.testing.assert_frame_equal(*kept)


def test_section_without_a_cell_is_counted_as_undefined(tmp_path):
    drawn = drawn_images(2)
    drawn["x1"] = (np.zeros(SHAPE, dtype=np.int64), *drawn["x1"][1:])
    folders = write_shard(tmp_path, "test-0000", drawn)
    metrics, _ = summarize(tmp_path, [evaluate(tmp_path, folders, isbi2012=True)])
    rows = metrics[metrics["metric"].isin(["v_rand", "v_info"])]
    assert set(zip(rows["n"], rows["n_undefined"], strict=True)) == {(1, 1)}
    assert rows["value"].notna().all()


def test_one_score_has_one_interval(tmp_path):
    """The box at the top of the report takes a mean from comparisons.csv, the table of scores from metrics.csv."""
    first, second = drawn_images(5), drawn_images(4, first=5)
    second = {f"w{name}": arrays for name, arrays in second.items()}
    folders = {
        shard: write_shard(tmp_path, shard, drawn) for shard, drawn in (("test-0000", first), ("test-0001", second))
    }
    paths = [
        evaluate(tmp_path, of_shard, model=model, seed=seed, shard=shard)
        for model, seed in (("unet", 1), ("other", 7)) for shard, of_shard in folders.items()
    ]  # fmt: skip
    metrics, _ = summarize(tmp_path, paths)
    comparisons = pd.read_csv(tmp_path / "comparisons.csv")
    chosen = (metrics["stage"] == "postprocessed") & (metrics["aggregation"] == "image_mean")
    chosen &= metrics["metric"].isin(comparisons["metric"])
    compared = 0
    for _, row in metrics[chosen].iterrows():
        same = (comparisons["model"] == row["model"]) & (comparisons["metric"] == row["metric"])
        [other] = comparisons[same & comparisons["against"].isna()].to_dict("records")
        for column in ("value", "ci_low", "ci_high"):
            assert other[column] == pytest.approx(row[column], nan_ok=True, abs=1e-12), (row["metric"], column)
            compared += 1
    assert compared > 60


def test_confidences_are_counted_by_right_and_wrong_objects_and_ranked(tmp_path):
    truth = np.zeros(SHAPE, dtype=np.int64)
    truth[4:10, 4:10], truth[4:10, 20:26], truth[20:26, 4:10] = 1, 2, 3
    found = np.zeros(SHAPE, dtype=np.int64)
    found[4:10, 4:10], found[4:10, 20:26], found[20:26, 8:14], found[30:34, 40:44] = 3, 1, 9, 2
    maps = (truth > 0).astype(float)
    drawn = {"a": (truth, maps, found), "b": (truth, maps, found)}
    folders = write_shard(tmp_path, "test-0000", drawn)
    metrics, _ = summarize(tmp_path, [evaluate(tmp_path, folders)])
    table = pd.read_csv(tmp_path / "confidence.csv")
    # Objects 3 and 1 are right, 9 and 2 are wrong, each in both images.
    assert [(row.low <= k / 10 < row.high, row.n_right, row.n_wrong) for k, row in zip((1, 2, 3, 9), table.itertuples(), strict=True)] == [
        (True, 2, 0), (True, 0, 2), (True, 2, 0), (True, 0, 2)
    ]  # fmt: skip
    found = pick(metrics, stage="postprocessed", aggregation="pooled")
    # Of the four pairs of a right and a wrong object, one has the right object first.
    assert found["confidence_auroc"] == pytest.approx(0.25)
