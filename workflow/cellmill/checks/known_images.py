"""Find test images that a trained model from elsewhere was trained on."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

SHOWN_SAMPLES = 3
TEST, FOLD = "test", "fold"


def find_known_images(
    images: Sequence[Mapping[str, Any]], digests: Collection[str], *, model: str, dataset: str
) -> list[dict[str, str]]:
    """Find the test images among the training images of a model, because their scores are too high.

    Parameters
    ----------
    images : sequence of mappings
        sample, split ("test", "fold0", ...) and sha256 of the pixels of each image.
    digests : collection of str
        SHA-256 of the pixels of the model's training and validation images; empty if the model lists none.
    model : str
        Name of the model.
    dataset : str
        Location reported in the finding.

    Returns
    -------
    list of dict
        One warning, or none. With folds, every image is tested once.

    Notes
    -----
    Only identical pixels are found, not other crops or other exposures of the same field.
    """
    known = set(digests)
    tested = [image for image in images if image["split"] == TEST or str(image["split"]).startswith(FOLD)]
    seen = [str(image["sample"]) for image in tested if image["sha256"] in known]
    if not seen:
        return []
    shown = ", ".join(seen[:SHOWN_SAMPLES]) + (", …" if len(seen) > SHOWN_SAMPLES else "")
    verb = "was" if len(seen) == 1 else "were"
    return [
        {
            "severity": "warning",
            "sample": "",
            "where": dataset,
            "finding": f"{len(seen)} of {len(tested)} test images {verb} used to train {model} ({shown})",
            "advice": f"Leave these images out with exclude: on them, scores of {model} and of runs that start from it "
            "are too high",
        }
    ]
