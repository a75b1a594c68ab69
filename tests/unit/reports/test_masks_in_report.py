"""The page with masks made elsewhere and an annotator, and its opening pictures."""

import re

import pytest

from cellmill.reports import comparison, results
from cellmill.stages.report import write_report
from report_example import add_models, build_example


def text_of(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.replace("&nbsp;", " ")))


def with_masks(arguments, model, *, role="model"):
    """Turn a run of the example into one of masks, which has no probabilities and no fit."""
    for run in arguments["runs"]:
        if run["model"] == model:
            for key in ("probabilities", "postprocess", "history", "summary"):
                run.pop(key, None)
            run |= {"masks": f"/scratch/{model}/{{sample}}.png", "role": role}
    return arguments


@pytest.fixture
def write(tmp_path):
    def page(arguments):
        write_report(output_path=tmp_path / "report.html", **arguments)
        return (tmp_path / "report.html").read_text()

    return page


def test_masks_are_compared_and_described_without_threshold_or_probabilities(tmp_path, write):
    page = write(with_masks(build_example(tmp_path / "x"), "narrow"))
    said = text_of(page)
    assert re.search(r"wide is (not surely )?better than narrow , masks made elsewhere", said)
    assert "Made by another program and read from …/{sample}.png . The masks have no probabilities" in said
    assert "made elsewhere" in said
    article = page[page.index('<article class="model">', page.index("narrow</span></h3>") - 200) :].split("</article>")[
        0
    ]
    assert "Threshold" not in article
    assert 'alt="foreground probability in a01 predicted by wide' in page
    assert "predicted by narrow; black is 0" not in page


def test_a_page_of_masks_alone_has_no_view_of_probabilities(tmp_path, write):
    arguments = with_masks(with_masks(build_example(tmp_path / "x"), "narrow"), "wide")
    page = write(arguments)
    assert 'value="probability"' not in page
    assert "at a threshold of" not in text_of(page)


def test_an_annotator_is_not_ranked_and_shades_the_scores(tmp_path, write):
    # `wide` has the highest scores, and is a person here.
    page = write(with_masks(build_example(tmp_path / "x"), "wide", role="annotator"))
    said = text_of(page)
    assert "narrow was scored on 3 test images" in said
    assert "narrow agrees less with the annotations than the annotator wide does" in said or (
        "narrow and the annotator wide agree with the annotations equally well, as far as can be told" in said
    )
    assert "wide (annotator)" in said
    assert said.count("agreement between annotators") >= 2
    assert "Drawn by another annotator and read from" in said


def test_where_only_people_are_scored_they_are_ranked(tmp_path, write):
    arguments = with_masks(build_example(tmp_path / "x"), "wide", role="annotator")
    said = text_of(write(with_masks(arguments, "narrow", role="annotator")))
    assert "Of 2 models, wide is the best on 3 test images" in said
    assert "No test image has a Dice score" not in said
    assert "0 models and 2 annotators on" in said


def test_the_band_covers_the_intervals_of_all_annotators(tmp_path):
    arguments = build_example(tmp_path / "x")
    add_models(tmp_path / "x", arguments, ("third",))
    for model in ("wide", "third"):
        with_masks(arguments, model, role="annotator")
    runs = results.read_runs(arguments["runs"])
    metrics, comparisons = (results.read_table(arguments[f"{name}_path"]) for name in ("metrics", "comparisons"))
    panels, _ = comparison.compare_runs(runs, metrics, comparisons=comparisons)
    # Dice .85 and .85 with .02 on both sides; the table of `third` copies the metrics of `wide`.
    assert "agreement between annotators: 0.830 to 0.870" in panels[0].svg


# ---- the first pictures ---------------------------------------------------------------------------------------


def opening(page):
    section = page.split('class="opening-pictures"')[1].split("</ul>")[0]
    return re.findall(r"<strong>(\w[\w ]*)</strong> (AP \(Kaggle\) [\d.]+).*?<span>(\w+)</span>", section, re.DOTALL)


def test_the_first_screen_shows_the_best_the_median_and_the_worst_test_image(tmp_path, write):
    page = write(build_example(tmp_path / "x"))
    assert opening(page) == [
        ("Best", "AP (Kaggle) 0.650", "a02"), ("Median", "AP (Kaggle) 0.600", "a03"),
        ("Worst", "AP (Kaggle) 0.400", "a01"),
    ]  # fmt: skip
    assert page.index('class="opening-pictures"') < page.index('<section id="data">')


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("a01",), [("Test image", "a01")]), (("a01", "a02"), [("Best", "a02"), ("Worst", "a01")])],
)
def test_of_few_images_each_is_shown_once(tmp_path, write, names, expected):
    page = write(build_example(tmp_path / "x", test_names=names))
    assert [(title, sample) for title, _, sample in opening(page)] == expected


def test_without_scores_there_are_no_opening_pictures(tmp_path, write):
    assert "opening-pictures" not in write(build_example(tmp_path / "x", is_annotated=False)).split("</style>")[1]
