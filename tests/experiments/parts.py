"""What does each part of the preset `default` add? The preset without one part at a time, on three sets of images.

``make parts`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: DSB 2018 (60 images), BBBC039 (18), LIVECell (15), in three folds (LIVECell by well): a third of the images is
  trained on, a third is for validation, a third is tested. Every image is a test image once, and the three trainings of
  an arm have different images.
- Arms: `default` with STEPS steps and from random weights, and the same with one change each, see ARMS. All have the
  same number of steps. Without flows an image cannot be looked at first, so that distances also lose the factor of each
  image: they are compared with "one factor for all images".
- Score: Kaggle's AP of the final objects, mean over the test images, and the paired difference to `default` with the
  interval of the pipeline's own bootstrap over images (over wells for LIVECell).
- A part stays in the preset if removing it costs AP on the mean of the three sets, and on none of them surely helps.

At 300 steps, a tenth of what the preset takes in its 15 minutes, three arms were surely better than `default` on a set:
z-score, weights of the last step, and flips only (RESULTS.md). One of the three trainings of `default` on BBBC039 had not
converged then. So that learning fast is not taken for learning well, ``make parts-longer`` repeats `default` and the
first two of these arms with 1,000 steps, on the same folds of DSB 2018 and LIVECell, where the preset had converged: 18
trainings. An earlier protocol asked for all three arms, three sets and 1,500 steps, which would have taken four hours; no
result of it was looked at. The rule above then decides about the two parts, over the two sets. Flips only is not repeated:
it helped surely only on BBBC039.

By the result of the second study, percentiles and gamma went out of the preset. Both studies set them, so that they repeat
what was measured.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / place) for place in ("workflow", "tests", "tests/experiments")]

from arms import compare  # noqa: E402  the module is found here

DATASETS = ("dsb2018", "bbbc039", "livecell")
STEPS, VALIDATIONS = 300, 3
LONGER, REPEATED, CONVERGED = 1000, ("zscore", "no_average"), ("dsb2018", "livecell")
# The preset as it was before these studies
BEFORE: dict[str, Any] = {"input": {"normalise": "percentile"}, "train": {"augmentation": {"gamma": 0.6}}}
FLIPS_ONLY: dict[str, Any] = {
    "affine_probability": 0.0, "contrast": 0.0, "brightness": 0.0, "gamma": 0.0, "blur_probability": 0.0, "noise": 0.0,
}  # fmt: skip
# Name of the run -> what is said in the table, and what differs from the preset
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "no_scale": ("images as they are", {"input": {"diameter_px": None, "scale": "dataset"}}),
    "one_scale": ("one factor for all images", {"input": {"scale": "dataset"}}),
    "zscore": ("z-score, and no gamma", {"input": {"normalise": "zscore"}, "train": {"augmentation": {"gamma": 0.0}}}),
    "keep": ("no inversion", {"input": {"polarity": "keep"}}),
    "flips": ("flips and quarter turns only", {"train": {"augmentation": FLIPS_ONLY}}),
    "no_average": ("weights of the last step", {"train": {"ema": None}}),
    "distance": ("distances, not flows", {"network": {"output": "distance"}, "train": {"loss": {"name": "distance"}}}),
}

# Arms that are compared with another arm than `default`
AGAINST = {"distance": "one_scale"}


def main(*, is_longer: bool) -> None:
    """Run missing jobs and print the table."""
    compare(
        ROOT / ("parts-longer" if is_longer else "parts"),
        {run: ARMS[run] for run in REPEATED} if is_longer else ARMS,
        names=CONVERGED if is_longer else DATASETS,
        length={"steps": LONGER if is_longer else STEPS, "epochs": VALIDATIONS},
        before=BEFORE,
        against=AGAINST,
    )


if __name__ == "__main__":
    main(is_longer="longer" in sys.argv[1:])
