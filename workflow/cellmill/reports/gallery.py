"""The gallery of a report: which images are shown, in which order, and their captions."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from cellmill.images.files import PlaneRows
from cellmill.metrics.glossary import GLOSSARY
from cellmill.objects.shard_tables import read_confidences, read_image_confidences
from cellmill.preprocessing.geometry import Geometry, read_geometry
from cellmill.reports.colours import ANNOTATION_COLOUR, ERROR_COLOURS, colour_of_style
from cellmill.reports.comparison import final_scores
from cellmill.reports.mistakes import describe_mistakes
from cellmill.reports.pictures import (  # fmt: skip
    VIEWS,
    Picture,
    Prediction,
    Source,
    choose_side,
    draw_picture,
    draw_thumbnail,
    shown_shape,
)
from cellmill.reports.results import Run, run_of_fold
from cellmill.reports.verdict import BY_OBJECTS
from cellmill.reports.wording import say_count, say_number_of, say_score

Row = Mapping[str, Any]

EXAMPLES, EXAMPLE_SIDE_PX = 6, 240
OPENING_SIDE_PX = 320
VIEW_LABELS = {
    "raw": "Raw", "preprocessed": "Preprocessed", "truth": "Annotated", "probability": "Probability",
    "prediction": "Predicted", "confidence": "Confidence", "errors": "Errors",
}  # fmt: skip
ERROR_MEANINGS = {
    "found": "annotated object with a matching predicted object",
    "missed": "annotated object without a match",
    "false": "predicted object without a match",
    "split": "annotated object that contains two or more predicted objects",
    "merged": "predicted object that contains two or more annotated objects",
}

ERROR_KEYS = [(name, colour, ERROR_MEANINGS[name]) for name, colour in ERROR_COLOURS.items()]


@dataclass(frozen=True)
class Rooms:
    """Folders of the shards that may be shown: shard -> folder."""

    images: Mapping[str, str | Path]
    labels: Mapping[str, str | Path]

    def source(self, row: Row, *, side_px: int | None = None) -> Source:
        """Return the files of one sample, with its raw plane if the sample table contains a file.

        Raises
        ------
        ValueError
            If the shard lacks the sample.
        """
        folder, sample = Path(self.images[row["shard"]]), row["sample"]
        geometries = read_geometry(folder / "geometry.csv")
        if sample not in geometries:
            raise ValueError(
                f"{folder}: expected an image of sample {sample}, found none in geometry.csv. "
                f"The folder was made from another sample table. Remove {folder} and run snakemake again."
            )
        labels = self.labels.get(row["shard"])
        return Source(
            sample=sample,
            image_path=folder / f"{sample}.tif",
            geometry=geometries[sample],
            raw=_open_raw(row, geometries[sample]),
            truth_path=Path(labels) / f"{sample}.tif" if labels is not None else None,
        )


@dataclass(frozen=True)
class Card:
    """A picture with the text below it; lists have one entry per model."""

    picture: Picture
    captions: list[list[str]]
    dice: list[float | str]
    note: str
    links: list[list[tuple[str, str]]]


def judged_rows(rows: Sequence[Row], *, models: Sequence[Run], scores: pd.DataFrame) -> list[Row]:
    """Return the images on which the models were tested, or all images if nothing is scored.

    Parameters
    ----------
    rows : sequence of mappings
        Rows of the sample table whose shards may be shown.
    models : sequence of Run
        One for each model.
    scores : DataFrame
        scores.csv.

    Returns
    -------
    list of mappings
    """
    tested = {row["sample"] for run in models for row in final_scores(scores, run=run)}
    return [row for row in rows if row["sample"] in tested] if tested else list(rows)


def choose_rows(rows: Sequence[Row], *, dice: Mapping[str, float], images: int, choice: str) -> list[Row]:
    """Choose the images to show, the lowest Dice first; without scores evenly, in their own order.

    Parameters
    ----------
    rows : sequence of mappings
        Candidates.
    dice : mapping
        Sample -> Dice of the best model; images without a score come last.
    images : int
        Number of images to choose.
    choice : "worst" or "spread"
        The lowest, or evenly spaced ones from the lowest to the highest.

    Returns
    -------
    list of mappings
    """
    ranked = sorted(rows, key=lambda row: dice.get(row["sample"], 2.0)) if dice else list(rows)
    if len(ranked) <= images or images <= 0:
        return ranked[: max(images, 0)]
    if choice == "worst" and dice:
        return ranked[:images]
    last = max(images - 1, 1)
    return [ranked[index * (len(ranked) - 1) // last] for index in range(images)]


def draw_gallery(
    rows: Sequence[Row],
    *,
    models: Sequence[Run],
    runs: Sequence[Run],
    scores: pd.DataFrame,
    rooms: Rooms,
    settings: Mapping[str, Any],
    page_dir: Path,
) -> dict[str, Any]:
    """Draw the gallery.

    Parameters
    ----------
    rows : sequence of mappings
        Images to choose from.
    models : sequence of Run
        One for each model, the best first.
    runs : sequence of Run
        All runs.
    scores : DataFrame
        scores.csv.
    rooms : Rooms
        Folders.
    settings : mapping
        gallery_images, gallery_choice, gallery_side_px.
    page_dir : path
        Folder of the page, to which links are relative; files outside of it are not linked.

    Returns
    -------
    dict
        cards, views, first_view, models, sentence, is_scored, and the colours: error_keys, annotation_colour,
        model_colours.
    """
    found = [{row["sample"]: row for row in final_scores(scores, run=run)} for run in models]
    best = found[0] if found else {}
    dice = {sample: float(row["dice"]) for sample, row in best.items() if math.isfinite(row["dice"])}
    choice = settings["gallery_choice"]
    chosen = choose_rows(rows, dice=dice, images=settings["gallery_images"], choice=choice)
    side_px = choose_side(len(chosen), models=len(models), side_px=settings["gallery_side_px"])
    cards = []
    for row in chosen:
        predictions = [
            _prediction(run_of_fold(runs, like=run, part=row["split"]), row=row, model=run.model) for run in models
        ]
        source = rooms.source(row)
        picture = draw_picture(source, predictions, side_px=side_px)
        own_scores = [by_sample.get(row["sample"]) for by_sample in found]
        confidences = [
            read_image_confidences(prediction.segmentation_path.parent).get(row["sample"]) for prediction in predictions
        ]
        links = [_links(source, prediction, page_dir=page_dir) for prediction in predictions]
        cards.append(
            _card(
                picture, row=row, scores=own_scores, confidences=confidences, models=models, links=links,
                are_known=[prediction.is_known for prediction in predictions],
            )
        )  # fmt: skip
    used = {view for card in cards for layer in card.picture.layers if layer.kind == "mask" for view in layer.views}
    used |= {"raw", "preprocessed", *(["probability"] if any(run.probabilities for run in runs) else [])}
    views = [{"name": view, "label": VIEW_LABELS[view]} for view in VIEWS if view in used]
    first_view = next(view for view in ("errors", "prediction", "preprocessed") if view in used)
    return {
        "cards": cards,
        "views": views,
        "first_view": first_view,
        "models": [run.model for run in models],
        "is_scored": bool(dice),
        "error_keys": ERROR_KEYS,
        "annotation_colour": ANNOTATION_COLOUR,
        "model_colours": [colour_of_style(run.style) for run in models],
        "sentence": _sentence(len(chosen), of=len(rows), is_scored=bool(dice), choice=choice),
    }


def draw_opening(
    rows: Sequence[Row],
    *,
    best: Run | None,
    runs: Sequence[Run],
    scores: pd.DataFrame,
    rooms: Rooms,
    rank_by: str = BY_OBJECTS,
) -> dict[str, Any] | None:
    """Draw the test images with the highest, median and lowest score of the best model, with what it found and missed.

    Parameters
    ----------
    rows : sequence of mappings
        Images to choose from.
    best : Run or None
        A run of the best model.
    runs : sequence of Run
        All runs.
    scores : DataFrame
        scores.csv.
    rooms : Rooms
        Folders.
    rank_by : str
        The score that orders the images, a column of scores.csv.

    Returns
    -------
    dict or None
        model, pictures (title, sample, score, said, layers, rows and columns as shown) and the keys of the colours;
        None if no image has a score. Images without annotated objects are shown only if there are no others.
    """
    found = {} if best is None else {row["sample"]: row for row in final_scores(scores, run=best)}
    ranked = sorted(
        (row for row in rows if math.isfinite(found.get(row["sample"], {}).get(rank_by, math.nan))),
        key=lambda row: (-float(found[row["sample"]][rank_by]), row["sample"]),
    )
    if best is None or not ranked:
        return None
    ranked = [row for row in ranked if found[row["sample"]]["n_true"]] or ranked
    last = len(ranked) - 1
    # Of few images, each is shown once.
    titles = {0: "Best", last: "Worst"} if last else {0: "Test image"}
    titles.setdefault(last // 2, "Median")
    pictures = []
    for place, title in sorted(titles.items()):
        row = ranked[place]
        prediction = _prediction(run_of_fold(runs, like=best, part=row["split"]), row=row, model=best.model)
        picture = draw_picture(rooms.source(row), [prediction], side_px=OPENING_SIDE_PX)
        errors = picture.errors[0]
        pictures.append(
            {
                "title": title,
                "sample": row["sample"],
                "score": f"{GLOSSARY[rank_by].heading} {say_score(found[row['sample']][rank_by])}",
                "said": "" if errors is None else describe_mistakes(errors),
                "layers": [layer for layer in picture.layers if "errors" in layer.views],
                "rows": picture.shown_rows,
                "columns": picture.shown_columns,
            }
        )
    return {"model": best.model, "pictures": pictures, "error_keys": ERROR_KEYS}


def draw_examples(rows: Sequence[Row], *, rooms: Rooms) -> list[dict[str, Any]]:
    """Draw a few preprocessed images, of as many classes as possible.

    Returns
    -------
    list of dict
        sample, uri, rows, columns (as shown), note.
    """
    by_class: dict[str, list[Row]] = {}
    for row in rows:
        by_class.setdefault(str(row.get("class") or ""), []).append(row)
    queues = [choose_rows(group, dice={}, images=EXAMPLES, choice="spread") for _, group in sorted(by_class.items())]
    turns = [row for turn in range(EXAMPLES) for queue in queues for row in queue[turn : turn + 1]]
    examples = []
    for row in turns[:EXAMPLES]:
        source = rooms.source({**row, "image": ""})
        height, width = shown_shape(source.geometry.raw_shape, side_px=EXAMPLE_SIDE_PX)
        examples.append(
            {
                "sample": row["sample"],
                "uri": draw_thumbnail(source, side_px=EXAMPLE_SIDE_PX),
                "rows": height,
                "columns": width,
                "note": row.get("class") or row["split"],
            }
        )
    return examples


def _links(source: Source, prediction: Prediction, *, page_dir: Path) -> list[tuple[str, str]]:
    """List the files of a picture: label, and path relative to the page."""
    files = {
        "objects": prediction.segmentation_path, "probability": prediction.probability_path,
        "preprocessed": source.image_path, "annotation": source.truth_path,
    }  # fmt: skip
    return [
        (label, quote(path.resolve().relative_to(page_dir.resolve()).as_posix()))
        for label, path in files.items()
        if path is not None and path.resolve().is_relative_to(page_dir.resolve())
    ]


def _card(
    picture: Picture,
    *,
    row: Row,
    scores: Sequence[Any],
    confidences: Sequence[float | None],
    models: Sequence[Run],
    links: list[list[tuple[str, str]]],
    are_known: Sequence[bool],
) -> Card:
    captions: list[list[str]] = []
    of_models = zip(models, scores, confidences, picture.errors, are_known, strict=True)
    for run, score, confidence, errors, is_known in of_models:
        if not is_known:
            captions.append(["No masks of this image"])
            continue
        said = [] if score is None else [f"Dice {say_score(score['dice'])} · AP {say_score(score['ap_kaggle'])}"]
        if errors is not None:
            said.append(describe_mistakes(errors))
        else:
            said.append(say_number_of(len(run.areas.get(picture.sample, ())), "object"))
        if confidence is not None:
            said.append(f"Confidence {say_score(confidence)}")
        captions.append(said)
    note = [f"{picture.rows} × {picture.columns} px"]
    if picture.shown_rows < picture.rows:
        note.append(f"shown at {picture.shown_rows} × {picture.shown_columns}")
    note += [str(row[key]) for key in ("class",) if row.get(key)]
    dice = [
        "" if score is None or not math.isfinite(score["dice"]) else round(float(score["dice"]), 6) for score in scores
    ]
    return Card(picture, captions, dice, " · ".join(note), links)


def _prediction(run: Run, *, row: Row, model: str) -> Prediction:
    file, folder = f"{row['sample']}.tif", Path(run.segmentation[row["shard"]])
    of_shard = {} if run.masks else _read_shard(folder)
    return Prediction(
        model=model,
        colour=colour_of_style(run.style),
        probability_path=Path(run.probabilities[row["shard"]]) / file if run.probabilities else None,
        segmentation_path=folder / file,
        confidences=of_shard.get(row["sample"], {}),
        is_known=row["sample"] in run.counts,
    )


@functools.lru_cache(maxsize=8)
def _read_shard(folder: Path) -> dict[str, dict[int, float]]:
    """Read the confidences of a shard, whose pictures are drawn one after the other."""
    return read_confidences(folder)


def _open_raw(row: Row, geometry: Geometry) -> PlaneRows | None:
    path = str(row.get("image") or "")
    if not path or not Path(path).is_file():
        return None
    try:
        raw = PlaneRows(path, channel=row.get("channel", "luminance"), plane=row.get("plane", ()))
        raw[0:1]
    except ValueError:
        if "channel" in row:
            raise
        return None  # several channels, and the one that was used is unknown
    # A file of another size is not the preprocessed image, for example if a table of names was read elsewhere.
    return raw if raw.shape == geometry.raw_shape else None


def _sentence(shown: int, *, of: int, is_scored: bool, choice: str) -> str:
    kind = "test image" if is_scored else "image"
    if shown == of:
        return f"All {say_number_of(of, kind)}" + (", lowest Dice first." if is_scored else ".")
    if not is_scored:
        return f"{say_count(shown)} of {say_number_of(of, kind)}, chosen at regular intervals."
    which = "those with the lowest" if choice == "worst" else "chosen at regular intervals from lowest to highest"
    return f"{say_count(shown)} of {say_number_of(of, kind)}, {which} Dice, lowest first."
