"""Keep the images that an applied model was trained on out of the test images of a dataset that trains nothing."""

from collections.abc import Mapping

from cellmill.config.dataset import Config
from cellmill.planning.runs import Run
from cellmill.planning.samples import Sample, reassign, some


def keep_seen_images(config: Config, runs: Mapping[str, list[Run]], samples: dict[str, list[Sample]]) -> list[str]:
    """Return images that are also trained or chosen on in another dataset of the config to their part there.

    Parameters
    ----------
    config : Config
        Only datasets that apply trained models, and whose section `split` sets no parts, are changed.
    runs : mapping
        Dataset -> its runs.
    samples : dict
        Dataset -> its samples; updated.

    Returns
    -------
    list of str
        A remark for each dataset that was changed.
    """
    remarks = []
    for dataset, section in config.datasets.items():
        applied = [run.apply for run in runs.get(dataset, ()) if run.apply is not None]
        if dataset not in samples or section.split.is_chosen or section.is_fitted:
            continue
        parts: dict[str, str] = {}
        for reference in applied:
            source, _, name = reference.partition("/")
            run = next((run for run in runs.get(source, ()) if run.name == name), None)
            if run is None or source == dataset or source not in samples:
                continue
            roles = {part: role for role in ("validation", "train") for part in run.parts[role]}
            parts |= {_place(row): roles[row.split] for row in samples[source] if row.split in roles}
        seen = {
            row.sample: parts[_place(row)] for row in samples[dataset] if row.split == "test" and _place(row) in parts
        }
        if seen:
            samples[dataset] = reassign(samples[dataset], seen, images_per_job=config.images_per_job)
            remarks.append(
                f"datasets.{dataset}.split: {len(seen)} images are training or validation images of the applied model, "
                f"such as {some(list(seen)[:3])}. They are not test images here either; all others are"
            )
    return remarks


def _place(row: Sample) -> str:
    return f"{row.image}\0{row.plane}"
