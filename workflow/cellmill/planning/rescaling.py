"""Section `preprocess.rescale` of datasets, completed by what their models and images determine.

A completed section has the keys of the config and
    object_pixel_um    edge of a pixel of the images in which object_px was measured, um, or None
    measured_in        dataset whose training images object_px is measured in, or None if it is known
    adopted_from       applied model that the section comes from, or None if the config sets it
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from cellmill.config.dataset import Config, Dataset
from cellmill.images.rasters import Raster, open_raster
from cellmill.planning.samples import Sample
from cellmill.preprocessing.rescaling import choose_factors

# Images whose headers are read for the pixel size of a dataset, and damaged files that are skipped
MOST_HEADERS = 5
# Pixel sizes within this ratio are taken as one.
SAME_EDGES = 1.1


def complete_rescale(
    section: Mapping[str, Any] | None, *, name: str, dataset: Dataset, samples: Sequence[Sample]
) -> dict[str, Any] | None:
    """Complete the section of a dataset that does not adopt it.

    Parameters
    ----------
    section : mapping or None
        As in the config.
    name : str
        Name of the dataset.
    dataset : Dataset
        Its config.
    samples : sequence of Sample
        Its sample table. The headers of a few training images are read if their pixel size is needed.

    Returns
    -------
    dict or None
    """
    if section is None:
        return None
    is_measured = section["diameter_px"] is not None and section["object_px"] is None
    edge_um = None
    if section["diameter_px"] is not None:
        edge_um = dataset.pixel_size_um
        if edge_um is None and dataset.simulate is None:
            edge_um = _common_edge([row for row in samples if row.split in training_parts(dataset)])
    return {
        **section,
        "object_pixel_um": edge_um,
        "measured_in": name if is_measured else None,
        "adopted_from": None,
    }


def adopt_rescale(section: Mapping[str, Any] | None, *, reference: str) -> dict[str, Any] | None:
    """Return the section of an applied model for the dataset that applies it.

    Parameters
    ----------
    section : mapping or None
        Completed section of the dataset that trains the model, or the section in its file.
    reference : str
        The applied model.
    """
    if section is None:
        return None
    keys = ("pixel_size_um", "diameter_px", "object_px", "object_pixel_um", "measured_in")
    return {**{key: section.get(key) for key in keys}, "adopted_from": reference}


def stored_rescale(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the keys of a completed section that are stored with an exported model."""
    keys = ("pixel_size_um", "diameter_px", "object_px", "object_pixel_um")
    return None if section is None else {key: section[key] for key in keys}


def job_rescale(section: Mapping[str, Any] | None, *, given_um: float | None) -> dict[str, Any] | None:
    """Return the keys of a completed section that jobs of the stage preprocess need, see `choose_factors`.

    Parameters
    ----------
    section : mapping or None
        From `complete_rescale` or `adopt_rescale`.
    given_um : float or None
        pixel_size_um of the dataset.
    """
    if section is None:
        return None
    # All images of the dataset in which the diameter was measured have the same factor.
    edge_um = section["object_pixel_um"] if section["adopted_from"] is not None else None
    uses_edges = section["pixel_size_um"] is not None or edge_um is not None
    return {
        **{key: section[key] for key in ("pixel_size_um", "diameter_px", "object_px")},
        "object_pixel_um": edge_um,
        "given_um": given_um if uses_edges else None,
    }


def training_parts(dataset: Dataset) -> tuple[str, ...]:
    """List the parts of the split that are trained on; with folds, all folds."""
    return tuple(f"fold{number}" for number in range(dataset.split.folds or 0)) or ("train",)


def is_same_scale(own: Mapping[str, Any] | None, model: Mapping[str, Any] | None) -> bool:
    """Return whether a dataset's section leads to the scale that a model was trained at.

    A model that was trained without rescaling can be applied to images that the config rescales to its scale.
    """
    if own is None or model is None:
        return model is None
    return all(own[key] == model[key] for key in ("pixel_size_um", "diameter_px"))


def wrong_rescales(
    config: Config, sections: Mapping[str, Mapping[str, Any]], samples: Mapping[str, Sequence[Sample]]
) -> list[str]:
    """List the datasets whose images cannot be rescaled, as far as a few headers show.

    Parameters
    ----------
    config : Config
        The config of the run.
    sections : mapping
        Dataset -> section `preprocess` with a completed `rescale`.
    samples : mapping
        Dataset -> its sample table.
    """
    mistakes = []
    for name, dataset in config.datasets.items():
        section = sections[name].get("rescale")
        if section is None:
            continue
        if section["measured_in"] == name and not _has_training_objects(dataset, samples[name]):
            mistakes.append(
                f"datasets.{name}.preprocess.rescale.diameter_px: expected annotated training images, in which the "
                "diameter of the objects is measured, found none. Set object_px beside it to the diameter of the "
                "objects in px, or rescale by pixel_size_um."
            )
        else:
            where = f"datasets.{name}.preprocess.rescale"
            mistakes += _wrong_factor(section, where=where, dataset=dataset, samples=samples[name])
    return mistakes


def remarks_on_rescales(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return remarks on images that are rescaled by the factor of other images."""
    return [
        f"datasets.{name}.preprocess.rescale: the images are rescaled by the factor of the training images of "
        f"{section['adopted_from']}, whose pixel size is unknown. If the magnification differs, set diameter_px to "
        f"{section['diameter_px']:g} and object_px to the diameter of the objects in these images"
        for name in sections
        if (section := sections[name].get("rescale")) is not None
        and section["adopted_from"] is not None
        and section["diameter_px"] is not None
        and section["object_pixel_um"] is None
    ]


def _has_training_objects(dataset: Dataset, samples: Sequence[Sample]) -> bool:
    is_annotated = dataset.annotations is not None or dataset.simulate is not None
    return is_annotated and any(row.split in training_parts(dataset) for row in samples)


def _wrong_factor(section: Mapping[str, Any], *, where: str, dataset: Dataset, samples: Sequence[Sample]) -> list[str]:
    """Return the message on the factor of the first readable image; nothing if it is right or not yet known."""
    job = job_rescale(section, given_um=dataset.pixel_size_um)
    assert job is not None
    if job["pixel_size_um"] is None and job["object_px"] is None:
        return []  # measured in the first jobs
    edges_um = None
    if job["given_um"] is None and (job["pixel_size_um"] or job["object_pixel_um"]):
        image = None if dataset.simulate is not None else first_image(samples)
        if image is None:
            return []
        edges_um, where = image.pixel_size_um, f"{where}: {image.path}"
    try:
        choose_factors(job, edges_um=edges_um, where=where)
    except ValueError as error:
        return [str(error)]
    return []


def first_image(samples: Sequence[Sample]) -> Raster | None:
    """Open the first readable image, reading its header only, because reading thousands takes minutes."""
    for sample in samples[:MOST_HEADERS]:
        try:
            return open_raster(sample.image, palette="colours", plane=sample.plane)
        except (ValueError, OSError):
            continue  # simulated later, or damaged: the stage `check` reports it
    return None


def _common_edge(samples: Sequence[Sample]) -> float | None:
    """Return the edge of a pixel in um that a few images, spread evenly over a dataset, have in common, or None."""
    chosen = samples[:: max(1, len(samples) // MOST_HEADERS)][:MOST_HEADERS]
    edges: list[float] = []
    for row in chosen:
        image = first_image([row])
        if image is None:
            continue
        if image.pixel_size_um is None:
            return None
        edges += image.pixel_size_um
    if not edges or max(edges) > SAME_EDGES * min(edges):
        return None
    # Rounded, so that one more image does not change it.
    return float(f"{median(edges):.4g}")
