"""A colour has one meaning on a page, and readers with any colour vision can distinguish runs."""

import base64
import io
import itertools
import re

import numpy as np
import pytest
from PIL import Image
from test_seeds import make_comparisons, make_metrics, make_runs

from cellmill.reports import chapters, comparison, figures, results
from cellmill.reports.colours import (
    ANNOTATION_COLOUR,
    ERROR_COLOURS,
    PATTERNS,
    RUN_COLOURS,
    colour_of_style,
    style_of_model,
    with_pattern,
    write_css,
)
from cellmill.reports.pictures import paint_objects
from cellmill.reports.rendering import TEMPLATES_DIR
from cellmill.stages.report import write_report
from report_example import build_example, make_labels, make_run

# Machado, Oliveira, Fernandes 2009, doi:10.1109/TVCG.2009.113: severity 1.0, on linear RGB
RED_BLIND = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
GREEN_BLIND = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
# Ottosson 2020, OKLab
TO_CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.63]]
TO_LAB = [[0.2105, 0.7936, -0.0041], [1.978, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
PAGES = ("#fcfcfa", "#15181b", "#ffffff")
# A just noticeable difference is about 0.02 in OKLab.
CLEARLY_APART, APART = 0.12, 0.085


def linear(colour):
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def distance(one, other, *, vision=None):
    seen = [np.clip(np.eye(3) if vision is None else np.array(vision), -2, 2) @ linear(c) for c in (one, other)]
    labs = [np.array(TO_LAB) @ np.cbrt(np.array(TO_CONES) @ np.clip(values, 0, 1)) for values in seen]
    return float(np.linalg.norm(labs[0] - labs[1]))


def contrast(one, other):
    bright, dark = sorted((float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("vision", [None, RED_BLIND, GREEN_BLIND], ids=["usual", "red-blind", "green-blind"])
def test_runs_and_annotations_differ_for_every_reader(vision):
    pairs = itertools.combinations((*RUN_COLOURS, ANNOTATION_COLOUR), 2)
    assert min(distance(*pair, vision=vision) for pair in pairs) > CLEARLY_APART


def test_no_colour_of_a_run_means_found_missed_or_false():
    pairs = itertools.product((*RUN_COLOURS, ANNOTATION_COLOUR), ERROR_COLOURS.values())
    assert min(distance(*pair) for pair in pairs) > APART


@pytest.mark.parametrize("page", PAGES)
def test_one_value_stands_out_from_light_and_dark_pages(page):
    assert min(contrast(colour, page) for colour in (*RUN_COLOURS, ANNOTATION_COLOUR)) >= 3


def test_more_models_than_colours_get_a_line_pattern():
    styles = [style_of_model(index) for index in range(12)]
    assert len(set(styles)) == 12
    assert styles[:2] == ["s0", "s1"]
    assert styles[len(RUN_COLOURS)] == "s0 d1"
    assert colour_of_style(styles[len(RUN_COLOURS)]) == colour_of_style(styles[0]) == RUN_COLOURS[0]


def test_seeds_share_the_colour_of_their_model():
    styles = [with_pattern("s3 d1", seed) for seed in range(len(PATTERNS))]
    assert len(set(styles)) == len(PATTERNS)
    assert {colour_of_style(style) for style in styles} == {RUN_COLOURS[3]}


def test_no_other_file_of_the_pages_defines_a_colour_of_its_own_for_a_run():
    """Numbers of the palette are in one module; the style sheet has the greys of the page and of warnings."""
    known = {colour.lower() for colour in (*RUN_COLOURS, ANNOTATION_COLOUR, *ERROR_COLOURS.values())}
    for path in (*TEMPLATES_DIR.iterdir(), *TEMPLATES_DIR.parent.glob("*.py")):
        if path.name != "colours.py" and path.is_file():
            found = {colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}\b", path.read_text(encoding="utf-8"))}
            assert not found & known, path.name
            assert path.suffix == ".css" or not found, path.name


def test_the_style_sheet_defines_every_class_of_a_run():
    css = write_css()
    for index in range(len(RUN_COLOURS) * len(PATTERNS)):
        for name in style_of_model(index).split():
            assert f".{name} {{" in css


def styles_in(drawn):
    return set(re.findall(r'class="[a-z]+ ([^"]*)"', str(drawn.svg))) | {key.style for key in drawn.legend}


def test_figures_of_a_model_use_its_colour_only(tmp_path):
    arguments = build_example(tmp_path)
    narrow, wide = results.read_runs(arguments["runs"])
    for run in (narrow, wide):
        content = comparison.describe_model(
            [run], **{name: comparison.pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False)
                      for name in ("metrics", "scores", "curves", "sizes", "confidence")},
        )  # fmt: skip
        assert len(content["figures"]) > 6
        for figure in content["figures"]:
            colours = {style.split()[0] for style in styles_in(figure)} - {"muted"}
            assert colours == {run.style.split()[0]}, figure.title


def test_training_curves_of_seeds_do_not_borrow_colours_of_other_models():
    rows = [{"epoch": float(k), "train_loss": 1 / k, "validation_loss": 1 / k} for k in (1, 2, 3)]
    runs = [results.replace(run, style="s2", history=rows) for run in make_runs()[:3]]
    loss = comparison._training_curves(runs)[0]
    assert {style.split()[0] for style in styles_in(loss)} == {"s2"}
    assert len({key.style for key in loss.legend}) == 3


def test_a_match_has_no_colour_of_a_run():
    change = figures.Change("size", 0.4, 0.2, 0.1, 0.3)
    assert {s.split()[-1] for s in styles_in(figures.draw_distances([change], title="", caption=""))} == {"muted"}


def test_annotations_have_one_colour_in_plots_and_on_pictures(tmp_path):
    run = make_run("u", model="u", seed=1, made_from=None)
    sizes = chapters.draw_sizes([run], samples=["a"], truth_areas_px=[10.0, 20.0])
    assert [key.style for key in sizes.legend] == ["truth"]
    assert f"--truth: {ANNOTATION_COLOUR};" in write_css()
    write_report(output_path=tmp_path / "report.html", **build_example(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    chips = re.findall(r'data-views="(\w+)"[^>]*>\s*<span[^>]*><i class="chip[^"]*" style="--c:(#\w+)"', page)
    # the models in the order of the pictures: wide, the better one, is the second of the config
    assert chips == [
        ("errors", ERROR_COLOURS["found"]), ("truth", ANNOTATION_COLOUR), ("prediction", RUN_COLOURS[1]),
        ("prediction", RUN_COLOURS[0]),
    ]  # fmt: skip


@pytest.mark.parametrize("colour", [*RUN_COLOURS, ANNOTATION_COLOUR])
def test_objects_on_pictures_have_the_colour_of_their_run(colour):

    image = Image.open(io.BytesIO(base64.b64decode(paint_objects(make_labels(), colour=colour).partition(",")[2])))
    pixels = np.asarray(image.convert("RGBA"))
    painted = {tuple(pixel[:3]) for pixel in pixels.reshape(-1, 4) if pixel[3]}
    assert painted == {tuple(bytes.fromhex(colour[1:]))}
    assert len({pixel[3] for pixel in map(tuple, pixels.reshape(-1, 4))}) == 3  # nothing, filling, outline


def test_dots_of_seeds_have_the_colour_of_their_mean():
    runs = [results.replace(run, style="s1") for run in make_runs()[:3]]
    drawn, _ = comparison.compare_runs(runs, make_metrics(), comparisons=make_comparisons())
    assert styles_in(drawn[0]) == {"s1"}
