"""Counts of an image read in bands equal those of the whole image, whatever the height of the bands."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellmill.evaluation import counting
from cellmill.evaluation.counting import View, count_frame, count_view, find_cut, number_components
from cellmill.images.stored import IGNORE_LABEL, write_labels
from cellmill.metrics.instance import add_tallies, count_overlaps, judge_tally, tally_overlaps
from cellmill.objects.frames import Frame
from cellmill.objects.morphology import label_components
from cellmill.preprocessing.geometry import fit_labels, plan_fit
from shapes import scattered_objects
from whole_images import unfit_probability, write_probabilities

SHAPE = (44, 37)


def make_view(seed, *, ends=(), scale=1):
    """Return a view of random objects, a prediction shifted by up to two pixels, and some ignored pixels."""
    rng = np.random.default_rng(seed)
    truth_yx = scattered_objects(SHAPE, objects=14, seed=seed) * scale
    segmented_yx = np.roll(truth_yx, rng.integers(-2, 3, 2), axis=(0, 1))
    truth_yx[rng.integers(30) :, rng.integers(25, 37) :] = IGNORE_LABEL
    probability_yx = np.clip(0.6 * (segmented_yx > 0) + rng.uniform(-0.1, 0.5, SHAPE), 0, 1)

    class Cut(View):
        def bands(self):
            return [slice(*pair) for pair in zip([0, *sorted(ends)], [*sorted(ends), SHAPE[0]], strict=True)]

    arrays = {"read_probability": probability_yx, "read_truth": truth_yx, "read_segmented": segmented_yx}
    return Cut(SHAPE, behind=0, **{name: array_yx.__getitem__ for name, array_yx in arrays.items()})


cuts = st.sets(st.integers(1, SHAPE[0] - 1), max_size=12)


@given(seed=st.integers(0, 2**32 - 1), ends=cuts, tolerance=st.integers(0, 4), scale=st.sampled_from([1, 2**21]))
def test_counts_do_not_depend_on_the_bands(seed, ends, tolerance, scale):
    given = {"threshold": 0.55, "tolerance_px": tolerance}
    whole, cut = make_view(seed, scale=scale), make_view(seed, ends=ends, scale=scale)
    unasked = find_cut(whole)
    assert np.array_equal(find_cut(cut), unasked)
    expected, found = (count_view(view, unasked=unasked, **given) for view in (whole, cut))
    assert list(found) == list(expected)
    for name in ("confidence", "squared_error"):  # sums of rounded numbers
        np.testing.assert_allclose(found.pop(name), expected.pop(name), rtol=0, atol=1e-4)
    for stage in ("thresholded", "postprocessed"):
        np.testing.assert_allclose(found[stage].pop("matched_iou"), expected[stage].pop("matched_iou"), rtol=1e-12)
        np.testing.assert_allclose(found[stage].pop("ctc_seg"), expected[stage].pop("ctc_seg"), rtol=1e-12)
    assert found == expected


@given(seed=st.integers(0, 2**32 - 1), ends=cuts)
def test_components_of_bands_are_those_of_the_image(seed, ends):
    view = make_view(seed, ends=ends)
    threshold = 0.8  # many small components that touch at corners
    expected_yx = label_components(view.read_probability(slice(None)) >= threshold)
    found = []
    for rows, numbers in zip(view.bands(), number_components(view, view.bands(), threshold=threshold), strict=True):
        components_yx = label_components(view.read_probability(rows) >= threshold)
        found.append(components_yx if numbers is None else numbers[components_yx])
    found_yx = np.concatenate(found)
    pairs = np.unique(np.stack([found_yx.ravel(), expected_yx.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert [0, 0] in pairs.T.tolist()


@given(seed=st.integers(0, 2**32 - 1), ends=cuts)
def test_tallies_of_parts_add_up(seed, ends):
    view = make_view(seed, ends=ends)
    everything = slice(0, SHAPE[0])
    valid_yx = view.read_truth(everything) != IGNORE_LABEL
    whole = count_overlaps(view.read_segmented(everything), view.read_truth(everything), valid_yx=valid_yx)
    parts = [
        tally_overlaps(view.read_segmented(rows), view.read_truth(rows), valid_yx=valid_yx[rows])
        for rows in view.bands()
    ]
    found = judge_tally(add_tallies(parts))
    for field in dataclasses.fields(whole):
        assert np.array_equal(getattr(found, field.name), getattr(whole, field.name)), field.name


@pytest.mark.parametrize(
    ("mode", "size"), [("none", None), ("resize", (30, 60)), ("crop_pad", (60, 30)), ("crop_pad", (20, 64))]
)
def test_files_are_counted_as_arrays(tmp_path, monkeypatch, mode, size):
    geometry = plan_fit(SHAPE, mode=mode, size=size)
    view = make_view(3)
    truth_yx, segmented_yx = view.read_truth(slice(None)), view.read_segmented(slice(None))
    probability_yx = np.random.default_rng(0).uniform(0, 1, geometry.shape).astype(np.float16)
    write_labels(tmp_path / "truth.tif", truth_yx)
    write_labels(tmp_path / "segmented.tif", segmented_yx)
    write_probabilities(tmp_path / "probability.tif", probability_yx[None])
    frame = Frame(
        sample="a", image_path=tmp_path / "image.tif", probability_path=tmp_path / "probability.tif",
        labels_path=tmp_path / "truth.tif", geometry=geometry,
    )  # fmt: skip
    given = {"threshold": 0.5, "tolerance_px": 2}
    asked = {
        "segmentation_path": tmp_path / "segmented.tif",
        "isbi2012": False,
        "exclude_border": False,
        "confidences": None,
        **given,
    }
    found = count_frame(frame, **asked)
    monkeypatch.setattr(counting, "WHOLE_PIXELS", 500)
    monkeypatch.setattr(counting, "BAND_PIXELS", 300)
    in_bands = count_frame(frame, **asked)
    raw_yx = np.clip(unfit_probability(probability_yx.astype(np.float32), geometry), 0, 1)
    arrays = {"raw": (raw_yx, truth_yx, segmented_yx)}
    if mode != "none":
        known_yx = fit_labels(np.zeros(SHAPE, np.uint16), geometry) == 0
        fitted_yx = np.where(known_yx, probability_yx.astype(np.float32), 0)
        arrays["fitted"] = (fitted_yx, fit_labels(truth_yx, geometry), fit_labels(segmented_yx, geometry))
    assert found.keys() == in_bands.keys() == arrays.keys()
    for name, each in arrays.items():
        whole = View(each[0].shape, *(array_yx.__getitem__ for array_yx in each), behind=0)
        monkeypatch.setattr(counting, "WHOLE_PIXELS", 10**6)
        expected = count_view(whole, unasked=np.zeros(0, int), **given)
        assert found[name] == expected
        for key in ("background", "foreground"):
            assert in_bands[name][key] == expected[key]
        for stage in ("thresholded", "postprocessed"):
            for key, value in expected[stage].items():
                assert in_bands[name][stage][key] == pytest.approx(value, rel=1e-12), key
