"""Are the learning rate, the batch and the augmentation of the preset `default` well chosen? One change at a time.

``make recipe`` runs the study on two cores and prints its table; an interrupted run resumes. The protocol below was
written and committed before the first of these trainings.

- Data: the 60 images of `dsb2018/stage1_train` in three folds: a third is trained on, a third is for validation, a third
  is tested. Every image is a test image once.
- Arms: `default` from random weights with STEPS steps, and the same with one change each, see ARMS. All see the same
  number of patches, which takes about the same time.
- Score: Kaggle's AP of the final objects, mean over the test images, and the paired difference to `default` with the
  interval of the pipeline's own bootstrap over images.
- A change goes into the preset if it is surely better, that is, if its interval lies above 0, and if the same comparison
  on LIVECell (``make recipe-confirmed``, by well) is not below 0. Of several such changes the one with the largest gain
  is taken. Otherwise the preset stays: a longer training needs a smaller learning rate and more augmentation than this
  one, so that an advantage of less augmentation that is not sure would not last.
"""

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / place) for place in ("workflow", "tests", "tests/experiments")]

from arms import compare  # noqa: E402  the module is found here
from parts import FLIPS_ONLY  # noqa: E402

STEPS, VALIDATIONS = 1000, 4
# Name of the run -> what is said in the table, and what differs from the preset
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "slower": ("learning rate 0.001", {"train": {"optimiser": {"learning_rate": 0.001}}}),
    "faster": ("learning rate 0.006", {"train": {"optimiser": {"learning_rate": 0.006}}}),
    "small": ("twice as many steps of 4 patches", {"train": {"batch": 4, "steps": 2 * STEPS}}),
    "flips": ("flips and quarter turns only", {"train": {"augmentation": FLIPS_ONLY}}),
}


def main(*, name: str, confirmed: list[str]) -> None:
    """Run missing jobs and print the table, on LIVECell of the arms to be confirmed alone."""
    compare(
        ROOT / "recipe" / name,
        {run: ARMS[run] for run in confirmed} if confirmed else ARMS,
        names=[name],
        length={"steps": STEPS, "epochs": VALIDATIONS},
    )


if __name__ == "__main__":
    main(name="livecell" if sys.argv[1:] else "dsb2018", confirmed=sys.argv[1:])
