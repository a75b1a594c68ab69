"""The report page of a dataset: its text, its pictures, and content that it must never have."""

import base64
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from cellmill.checks.findings import read_tables
from cellmill.config.report import Report
from cellmill.images.stored import IGNORE_LABEL
from cellmill.planning.stage_graph import STAGE_INPUTS
from cellmill.reports import chapters, comparison, data, figures, gallery, results, runtime, scales, wording
from cellmill.reports.mistakes import describe_mistakes, find_mistakes
from cellmill.reports.pictures import (  # fmt: skip
    DOUBT_ALPHAS,
    ERROR_COLOURS,
    HEAT,
    choose_side,
    encode_mask,
    encode_photo,
    shown_shape,
    stretch,
)
from cellmill.reports.verdict import Counts, find_difference, find_number, rank_models, read_table, say_caution
from cellmill.stages.index import summarize_for_index, write_index
from cellmill.stages.report import write_report
from report_example import CONFIG, SETTINGS, SHAPE, build_example, make_labels, make_run

VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """Elements of a page in order: tag, attributes, and the text inside."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts)).replace("\N{NO-BREAK SPACE}", " ")


def write(root: Path, arguments: dict) -> tuple[str, Page]:
    write_report(output_path=root / "report.html", **arguments)
    text = (root / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def decode(uri: str) -> np.ndarray:
    data = base64.b64decode(uri.partition("base64,")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    root = tmp_path_factory.mktemp("example")
    arguments = build_example(root)
    return root, arguments, *write(root, arguments)


# ---- the page ----------------------------------------------------------------------------------------------


def test_equal_arguments_make_equal_bytes(example):
    root, arguments, _, _ = example
    write_report(output_path=root / "again.html", **arguments)
    assert (root / "again.html").read_bytes() == (root / "report.html").read_bytes()


def test_page_asks_for_nothing_outside_itself(example):
    root, _, text, page = example
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset", "background"):
            if tag == "a" and name == "href" and not attributes["href"].startswith("#"):
                assert (root / unquote(attributes["href"])).is_file()  # files beside the page, opened by a click
            elif attributes.get(name) is not None:
                assert re.match(r"(data:|#)", attributes[name]), attributes
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "http:" not in text
    assert "https:" not in text


def test_only_our_script_may_run(example):
    _, _, text, page = example
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert len(page.all("script")) == 1


def test_page_names_no_folder_of_the_machine(tmp_path):
    arguments = build_example(tmp_path, config_text=f"images: {tmp_path}/data/{{sample}}.tif\n")
    arguments["remarks"] = [f"{tmp_path}/masks/a01.png: looks odd"]
    arguments["provenance"]["command"] = f"snakemake --configfile {tmp_path}/config.yaml"
    text, page = write(tmp_path, arguments)
    assert str(tmp_path) not in text
    assert "images: …/{sample}.tif" in page.text
    assert "…/a01.png: looks odd" in page.text


def test_every_image_has_alternative_text(example):
    page = example[3]
    assert page.all("img")
    assert all(image.get("alt") for image in page.all("img"))
    assert all(figure.get("aria-label") for figure in page.all("svg"))


def test_first_sentence_names_the_best_model_and_its_scores(example):
    # means of DICE by hand: wide 0.85, narrow 0.7166667; wide leads on two of three images
    text = example[3].text
    assert "Of 2 models, wide is the best on 3 test images" in text
    # three objects are annotated in each image, and two of them are found
    assert "it found 6 objects where 9 are annotated (an error of −33.3 %, 95 % confidence interval" in text
    assert "average precision of 0.550 (95 % confidence interval 0.530–0.570)" in text
    assert "Dice 0.850 (0.830–0.870), at a threshold of 0.438" in text
    assert "Its AP (Kaggle) is 0.133 higher than that of narrow (0.083–0.183); it is higher on 2 of 3 images" in text
    assert "The confidence interval of the difference excludes 0, but it is computed from only 3 test images." in text


def flag(arguments, **severities):
    """Write a flag of this severity for each of these samples."""
    rows = [
        {"severity": severity, "sample": sample, "where": "", "finding": "unlike the images", "advice": "Look"}
        for sample, severity in severities.items()
    ]
    pd.DataFrame(rows).to_csv(arguments["runs"][0]["flags"], index=False)


@pytest.mark.parametrize("is_annotated", [True, False])
def test_the_first_sentence_says_that_images_are_flagged(tmp_path, is_annotated):
    arguments = build_example(tmp_path, is_annotated=is_annotated)
    flag(arguments, a01="warning", a03="warning")
    text, page = write(tmp_path, arguments)
    caution = "Caution: 2 of 3 images are flagged, because a model may not fit them (see Data)."
    assert re.search(r'<p class="verdict">\s*<strong>' + re.escape(caution), text)
    assert page.text.index(caution) < page.text.index("wide")


def test_notes_and_flags_of_training_images_are_no_caution(tmp_path, example):
    arguments = build_example(tmp_path)
    flag(arguments, a01="note")
    assert "Caution" not in write(tmp_path, arguments)[1].text
    assert "Caution" not in example[3].text
    rows = [{"sample": "a", "severity": "warning"}, {"sample": "b", "severity": "warning"}]
    samples = [{"sample": "a", "split": "train"}, {"sample": "b", "split": "unlabelled"}]
    assert say_caution(rows[:1], samples=samples) == ""
    assert say_caution(rows, samples=samples).startswith("Caution: 1 image is flagged, because a model may not fit it")


@pytest.mark.parametrize(
    "said",
    [
        "7,763,041", "1 h 6 min", "CPU", "2026-03-14", "4f2a91c0d3be", "48 × 64", "uint16", "850 to 2,210",
        "accuracy on held-out images", "0.674", "best on the validation images".capitalize(), "Learning rate",
        "Effect of postprocessing", "a01, a03", "All 3 test images, lowest Dice first",
        "boundary tuning and closing", "Score of wide minus that of each other model, on the same images", "2 : 1",
        "Expected calibration error", "Detection by object size", "1 found, 2 missed", "snakemake results/cells/report.html", "numpy", CONFIG.split("\n")[0],
    ],
)  # fmt: skip
def test_page_says(example, said):
    assert said in example[3].text


def test_worst_image_comes_first(example):
    cards = [a["data-name"] for a in example[3].all("li") if a.get("class") == "card"]
    assert cards == ["a01", "a03", "a02"]


def test_names_with_markup_stay_text(tmp_path):
    wicked = "<script>alert('1')</script>\"&"
    arguments = build_example(tmp_path, title=wicked, config_text=f"# {wicked}\n")
    for row in arguments["samples"]:
        row["class"] = wicked
    findings = read_tables([tmp_path / "summary.csv"])["summary"]
    findings[0] |= {"finding": wicked, "advice": wicked, "sample": wicked}
    pd.DataFrame(findings).to_csv(tmp_path / "summary.csv", index=False)
    arguments["remarks"] = [wicked]
    arguments["provenance"] |= {"date": wicked, "command": wicked, "versions": {wicked: wicked}}
    text, page = write(tmp_path, arguments)
    assert len(page.all("script")) == 1
    assert text.count("<script") == 1
    assert page.text.count("alert('1')") > 8


def test_sample_name_with_quotes_reaches_every_attribute_whole(tmp_path):
    name = "a'\"><b>01"
    _, page = write(tmp_path, build_example(tmp_path, test_names=(name,)))
    assert not page.all("b")
    assert [a["data-name"] for a in page.all("li") if a.get("class") == "card"] == [name]
    assert any(name in image["alt"] for image in page.all("img"))


def test_page_without_annotations_shows_predictions_and_counts(tmp_path):
    _, page = write(tmp_path, build_example(tmp_path, is_annotated=False))
    views = [a["value"] for a in page.all("input") if a.get("name") == "view"]
    assert views == ["raw", "preprocessed", "probability", "prediction", "confidence"]
    # one object per image, found by narrow, which is first in the config
    assert "2 models: narrow, wide. narrow found 3 objects in 3 images. The images have no annotations" in page.text
    assert "Trained elsewhere and applied unchanged: …/wide.cellmill" in page.text
    assert "Size of the objects" in page.text
    assert "Comparison" not in page.text


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({}, "the shipped model nuclei."),
        (
            {"card": "resources/weights/nuclei.md", "title": "Nuclei", "version": 2, "data": "discs & squares",
             "licence": "CC0", "cite": "Nobody 2026"},
            "the shipped model nuclei, version 2: Nuclei. It was trained on discs & squares. Licence: CC0. Cite Nobody "
            "2026. Scores and limits: model card resources/weights/nuclei.md.",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_applied", [True, False])
def test_page_states_which_shipped_model_was_applied_or_started_from(is_applied, facts, said, tmp_path):
    arguments = build_example(tmp_path, is_annotated=not is_applied)  # without annotations its models are applied
    for run in arguments["runs"]:
        run["shipped"] = {"name": "nuclei", **facts}
    _, page = write(tmp_path, arguments)
    text = re.sub(r"\s+", " ", page.text)
    applied = (
        f"Applied unchanged: {said} Its settings for threshold, boundaries and objects were chosen in its training."
    )
    assert (applied if is_applied else f"The training started from {said}") in text
    assert "wide.cellmill" not in text


@pytest.mark.parametrize("value", ["nuclei", None])
def test_page_names_a_start_only_if_the_training_took_it(value, tmp_path):
    arguments = build_example(tmp_path)
    choices = tmp_path / "start.json"
    choices.write_text(json.dumps([{"key": "start", "value": value, "because": "its foreground was compared"}]))
    for run in arguments["runs"]:
        run |= {"shipped": {"name": "nuclei"}, "choices": choices}
    _, page = write(tmp_path, arguments)
    assert ("The training started from the shipped model nuclei." in re.sub(r"\s+", " ", page.text)) == (
        value is not None
    )
    assert "its foreground was compared" in page.text


def test_page_says_where_no_score_is_defined(tmp_path):
    arguments = build_example(tmp_path)
    metrics = (tmp_path / "metrics.csv").read_text().splitlines()
    undefined = [",".join([*line.split(",")[:7], "", "", "", "0", "3"]) for line in metrics[1:]]
    (tmp_path / "metrics.csv").write_text("\n".join([metrics[0], *undefined]) + "\n")
    compared = pd.read_csv(tmp_path / "comparisons.csv")
    compared.assign(value=np.nan, ci_low=np.nan, ci_high=np.nan).to_csv(tmp_path / "comparisons.csv", index=False)
    _, page = write(tmp_path, arguments)
    assert "No test image has a Dice score." in page.text


def test_cards_lead_to_their_files(tmp_path):
    arguments = build_example(tmp_path, test_names=("a 01#é", "a02", "a03"))
    _, page = write(tmp_path, arguments)
    links = [a["href"] for a in page.all("a") if not a["href"].startswith("#")]
    assert len(links) == 3 * 2 * 4
    assert all((tmp_path / unquote(link)).is_file() for link in links)
    (tmp_path / "elsewhere").mkdir()
    write_report(output_path=tmp_path / "elsewhere/report.html", **arguments)
    page = Page((tmp_path / "elsewhere/report.html").read_text(encoding="utf-8"))
    assert all(a["href"].startswith("#") for a in page.all("a"))


def test_what_the_jobs_took_is_drawn_and_tabulated(tmp_path):
    folder = tmp_path / "benchmarks"
    rows = {
        "preprocess/test-0000": (3.0, "210.5"), "train/wide": (120.0, "900"), "predict/wide/test-0000": (2.0, "-"),
        "predict/wide/train-0000": (4.0, "350"), "evaluate/summary": (0.5, "80"),
    }  # fmt: skip
    for name, (seconds, memory) in rows.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:01\t{memory}\n")
    (folder / "train/broken.tsv").write_text("nothing\n")
    jobs = runtime.read_jobs(folder)
    assert {(job.stage, job.run) for job in jobs} == {
        ("preprocess", ""), ("train", "wide"), ("predict", "wide"), ("evaluate", "")
    }  # fmt: skip
    table = runtime.tabulate_jobs(jobs, stage_inputs=STAGE_INPUTS)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["preprocess", "1", "3.0 s", "3.0 s", "210"], ["train", "1", "2 min 0 s", "2 min 0 s", "900"],
        ["predict", "2", "6.0 s", "4.0 s", "350"], ["evaluate", "1", "0.5 s", "0.5 s", "80"],
    ]  # fmt: skip
    assert runtime.say_speed(jobs, run="wide", megapixels=12.0).value == 2.0
    assert runtime.say_speed(jobs, run="narrow", megapixels=12.0).value is None
    _, page = write(tmp_path, build_example(tmp_path, benchmarks_dir=folder))
    assert "2 jobs6.0 s" in page.text  # two lines of a box
    assert "this page" in page.text
    assert "Time and memory of the stages" in page.text
    assert runtime.read_jobs(None) == runtime.read_jobs(tmp_path / "nothing") == []


def test_a_graph_is_drawn_without_the_inputs_that_others_imply():
    inputs = runtime.reduce_graph({"a": (), "b": ("a",), "c": ("a", "b", "missing"), "d": ("a",), "e": ("c", "a", "d")})
    assert inputs == {"a": [], "b": ["a"], "c": ["b"], "d": ["a"], "e": ["c", "d"]}
    places, size = runtime.place_stages(inputs)
    assert size == (2, 4)
    # The reader of d is two rows further down, so that d is in a column of its own.
    assert places == {"a": (0.0, 0), "b": (0.0, 1), "d": (1.0, 1), "c": (0.0, 2), "e": (0.0, 3)}


def test_stages_without_jobs_are_left_out_of_the_graph():
    """An applied model is predicted from preprocessed images; nothing was trained."""
    jobs = [runtime.Job(stage, "", 1.0, None) for stage in ("predict", "preprocess", "strange")]
    drawn = str(runtime.draw_stages(jobs, stage_inputs=STAGE_INPUTS).svg)
    assert [name in drawn for name in ("preprocess", "predict", "report", "train", "strange")] == [
        True, True, True, False, False,
    ]  # fmt: skip
    assert drawn.count('class="edge"') == 2


@pytest.mark.parametrize("missing", [(), ("match", "simulate"), ("match", "simulate", "train"), ("match", "export")])
def test_no_edge_of_the_graph_passes_behind_a_box(missing):
    stages = [stage for stage in STAGE_INPUTS if stage not in (*missing, "report")]
    jobs = [runtime.Job(stage, "", 1.0, None) for stage in stages]
    svg = ElementTree.fromstring(str(runtime.draw_stages(jobs, stage_inputs=STAGE_INPUTS).svg))
    boxes = [[float(box.get(key)) for key in ("x", "y", "width", "height")] for box in svg.iter() if box.get("rx")]
    for edge in (part for part in svg.iter() if part.get("class") == "edge"):
        start, *line_and_curve = np.reshape([float(n) for n in re.findall(r"[\d.]+", edge.get("d"))], (-1, 2))
        points = [start + (line_and_curve[0] - start) * t for t in np.linspace(0.01, 0.99, 30)]
        for t in np.linspace(0, 0.98, 30):
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
            points.append(np.dot(weights, line_and_curve))
        for x, y in points:
            assert not any(left < x < left + width and top < y < top + height for left, top, width, height in boxes)


def test_objects_are_shown_by_intensity_and_over_time(tmp_path):
    arguments = build_example(tmp_path)
    assert "Objects over time" not in write(tmp_path, arguments)[1].text
    for frame, row in enumerate(arguments["samples"]):
        row |= {"sequence": "<b>s1", "frame": frame}
    _, page = write(tmp_path, arguments)
    assert "Objects over time, <b>s1" in page.text
    assert "Intensity of the objects" in page.text
    assert "Median: wide 964, narrow 964." in page.text


def test_heat_colours_rise_in_brightness():
    brightness = HEAT.astype(float) @ [0.2126, 0.7152, 0.0722]
    assert HEAT[0].tolist() == [0, 0, 0]
    assert HEAT[-1].tolist() == [255, 255, 255]
    assert (np.diff(brightness) > -1).all()
    assert (np.diff(brightness[::8]) > 2).all()


def test_page_says_that_the_images_are_of_one_sequence(tmp_path):
    arguments = build_example(tmp_path)
    assert "All test images belong to a single sequence or group" not in write(tmp_path, arguments)[1].text
    compared = pd.read_csv(tmp_path / "comparisons.csv", keep_default_na=False)
    compared.assign(n_groups=1).to_csv(tmp_path / "comparisons.csv", index=False)
    assert "All test images belong to a single sequence or group" in write(tmp_path, arguments)[1].text


def test_page_without_gallery(tmp_path):
    _, page = write(tmp_path, build_example(tmp_path, gallery={**SETTINGS, "gallery_images": 0}))
    assert not any(a.get("class") == "card" for a in page.all("li"))


def test_frames_of_one_sequence_on_both_sides_are_said(tmp_path):
    arguments = build_example(tmp_path)
    for row in arguments["samples"]:
        row["sequence"] = "s1"
    _, page = write(tmp_path, arguments)
    assert (
        "One sequence has frames in more than one split: s1. The scores apply to other frames of this sequence"
        in page.text
    )


def test_different_package_versions_are_said(example):
    # the shards are written with this process's numpy; the example's training and report state 9.9.9
    text = example[3].text
    assert "Package versions differ between stages: numpy." in text
    assert "9.9.9 (train narrow, train wide, report)" in text
    assert f"{np.__version__} (preprocess, rasterize, predict and 1 more)" in text


def test_missing_image_is_named(tmp_path):
    arguments = build_example(tmp_path)
    arguments["samples"].append({**arguments["samples"][-1], "sample": "a99"})
    arguments["scores_path"] = tmp_path / "metrics_only.csv"
    header = (tmp_path / "scores.csv").read_text().splitlines()[0]
    arguments["scores_path"].write_text(header + "\n")
    with pytest.raises(
        ValueError, match=r"expected an image of sample a99, found none.*Remove .* and run snakemake again"
    ):
        write_report(output_path=tmp_path / "report.html", **arguments)
    assert not (tmp_path / "report.html").exists()


def test_noisy_gallery_stays_small(tmp_path):
    # 4 of 24 images of 512 x 512 px that do not compress, so a sixth of 5 MB, and three at the top
    arguments = build_example(tmp_path, test_names=("a01", "a02", "a03", "a04"), shape=(512, 512))
    write_report(output_path=tmp_path / "report.html", **arguments)
    assert (tmp_path / "report.html").stat().st_size < 5e6 / 6 + 2e5


# ---- pictures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "size"), [("none", None), ("resize", (24, 32)), ("crop_pad", (40, 80)), ("crop_pad", (60, 50))]
)
def test_every_layer_lies_in_the_raw_frame(tmp_path, mode, size):
    _, page = write(tmp_path, build_example(tmp_path, mode=mode, size=size, test_names=("a01",)))
    rows, columns = shown_shape(SHAPE, side_px=512)
    times = rows // SHAPE[0]
    inside, outside = (34 * times, 24 * times), (34 * times, 38 * times)  # of the second object, in raw px
    layers = {
        a["data-views"].split()[0]: decode(a["src"])
        for a in page.all("img")
        if a.get("data-views") and ("data-model" not in a or "wide" in a["alt"])
    }
    assert set(layers) == {"raw", "preprocessed", "truth", "probability", "prediction", "confidence", "errors"}
    assert {pixels.shape[:2] for pixels in layers.values()} == {(rows, columns)}
    for view in ("raw", "preprocessed", "probability"):
        assert layers[view][inside][0] > layers[view][outside][0] + 40, view
    for view in ("truth", "prediction"):
        assert layers[view][inside][3] > 0, view
        assert layers[view][outside][3] == 0, view
    # The second object has a confidence of 0.75, the second of five steps.
    assert (layers["confidence"][inside][3], layers["confidence"][outside][3]) == (DOUBT_ALPHAS[1], 0)


def test_large_image_is_shown_smaller_and_its_size_is_said(tmp_path):
    arguments = build_example(tmp_path, test_names=("a01",), shape=(300, 1200))
    _, page = write(tmp_path, arguments)
    assert "300 × 1200 px · shown at 128 × 512" in page.text


@pytest.mark.parametrize(
    ("shape", "shown"), [((512, 512), (512, 512)), ((1000, 500), (512, 256)), ((40, 30), (240, 180)), ((1, 4000), (1, 512))]
)  # fmt: skip
def test_shown_shape_keeps_the_proportions(shape, shown):
    assert shown_shape(shape, side_px=512) == shown


@pytest.mark.parametrize(("images", "models"), [(24, 1), (24, 4), (200, 1), (1000, 2)])
def test_more_pictures_are_smaller_pictures(images, models):
    side_px = choose_side(images, models=models, side_px=512)
    assert 64 <= side_px <= 512
    assert images * side_px**2 * (0.6 + 0.4 * models) <= 24 * 512**2 or side_px == 64


def test_usual_gallery_is_shown_in_full():
    assert choose_side(24, models=1, side_px=512) == 512


@pytest.mark.parametrize("value", [0.0, 7.0, -3.0])
def test_constant_image_is_grey(value):
    assert (stretch(np.full((8, 8), value)) == 128).all()


def test_photograph_survives_its_encoding():
    image_yx = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 64, axis=0)
    assert np.abs(decode(encode_photo(image_yx))[:, :, 0].astype(int) - image_yx).max() < 12


def test_mask_survives_its_encoding():
    palette = [(0, 0, 0, 0), (255, 0, 0, 90), (0, 255, 0, 255)]
    classes_yx = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    assert np.array_equal(decode(encode_mask(classes_yx, palette)), np.array(palette, dtype=np.uint8)[classes_yx])


def test_error_colours_are_far_apart():
    colours = np.array([list(bytes.fromhex(colour[1:])) for colour in ERROR_COLOURS.values()], dtype=float)
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 999 * np.eye(len(colours))
    assert distance.min() > 90


# ---- mistakes ----------------------------------------------------------------------------------------------


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    labels_yx = np.zeros((40, 40), dtype=np.uint16)
    for label, (top, left, bottom, right) in enumerate(corners, start=1):
        labels_yx[top:bottom, left:right] = label
    return labels_yx


@pytest.mark.parametrize(
    ("truth", "predicted", "expected"),
    [
        ([(0, 0, 9, 9)], [(0, 0, 9, 9)], {"found": 1}),
        ([(0, 0, 9, 9)], [(0, 0, 9, 8)], {"found": 1}),
        ([(0, 0, 9, 9)], [], {"missed": 1}),
        ([], [(0, 0, 9, 9)], {"false": 1}),
        ([(0, 0, 9, 9)], [(20, 20, 29, 29)], {"missed": 1, "false": 1}),
        ([(0, 0, 10, 10)], [(0, 0, 10, 5), (0, 5, 10, 10)], {"split": 1}),
        ([(0, 0, 10, 5), (0, 5, 10, 10)], [(0, 0, 10, 10)], {"merged": 1}),
        ([(0, 0, 10, 10)], [(0, 0, 10, 5)], {"missed": 1, "false": 1}),  # an IoU of exactly one half is not a match
        ([], [], {}),
    ],
)
def test_mistakes_have_their_names(truth, predicted, expected):
    counts = find_mistakes([(boxes(*predicted), boxes(*truth))]).counts
    assert counts == {"found": 0, "missed": 0, "false": 0, "split": 0, "merged": 0, **expected}


def test_ignored_pixels_are_nobodys_mistake():
    truth_yx = boxes((0, 0, 9, 9))
    truth_yx[20:, :] = IGNORE_LABEL
    predicted_yx = boxes((0, 0, 9, 9), (25, 25, 35, 35), (17, 0, 24, 9))
    assert find_mistakes([(predicted_yx, truth_yx)]).counts == {
        "found": 1,
        "missed": 0,
        "false": 0,
        "split": 0,
        "merged": 0,
    }


def test_gaps_in_the_numbers_of_objects_change_nothing():
    truth_yx, predicted_yx = make_labels(), np.where(make_labels() == 2, 0, make_labels())
    renumbered_yx = np.array([0, 900, 40, 7], dtype=np.uint16)[truth_yx]
    assert find_mistakes([(predicted_yx, renumbered_yx)]).counts == find_mistakes([(predicted_yx, truth_yx)]).counts


def test_errors_in_words():
    counts = {"found": 3, "missed": 0, "false": 2, "split": 0, "merged": 1}
    assert describe_mistakes(counts).replace("\N{NO-BREAK SPACE}", " ") == "3 found, 0 missed, 2 false, 1 merged"


# ---- gallery and runs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "choice", "expected"),
    [(2, "worst", "db"), (3, "spread", "dec"), (9, "worst", "dbeac"), (1, "spread", "d"), (0, "worst", "")],
)
def test_choice_of_images(images, choice, expected):
    dice = {"a": 0.8, "b": 0.2, "c": 0.9, "d": 0.1, "e": 0.5}
    rows = [{"sample": name} for name in "abcde"]
    chosen = gallery.choose_rows(rows, dice=dice, images=images, choice=choice)
    assert "".join(row["sample"] for row in chosen) == expected


def test_image_is_shown_by_the_run_that_was_tested_on_it():
    runs = [make_run(f"u.fold{fold}", model="u", seed=7, made_from=None) for fold in range(3)]
    assert results.run_of_fold(runs, like=runs[0], part="fold2").name == "u.fold2"
    assert results.run_of_fold(runs[:1], like=runs[0], part="test").name == "u.fold0"


def test_runs_are_told_apart_by_seed_and_fold(tmp_path):
    objects = tmp_path / "objects.csv"
    objects.write_text("sample,area_px,area_um2\na,10,2.5\na,400,100\nNA,4,1\n")
    names = (("u.seed1.fold0", "u"), ("u.seed1.fold1", "u"), ("v", "v"))
    (tmp_path / "counts.csv").write_text("sample,objects\na,2\nNA,1\nskipped,\n")
    tables = {"objects": objects, "counts": tmp_path / "counts.csv", "flags": tmp_path / "flags.csv"}
    files = {**tables, "probabilities": {}, "segmentation": {}}
    read = results.read_runs([{"run": run, "model": model, "seed": 1, **files} for run, model in names])
    assert [run.label for run in read] == ["u, seed 1 fold 0", "u, seed 1 fold 1", "v"]
    assert [run.style for run in read] == ["s0", "s0", "s1"]
    assert {sample: list(areas) for sample, areas in read[0].areas.items()} == {"a": [10, 400], "NA": [4]}
    assert read[0].counts == {"a": 2, "NA": 1}
    assert read[0].um2_per_px == pytest.approx(0.25)


# ---- verdict -----------------------------------------------------------------------------------------------


def metrics_of(tmp_path: Path, rows: list[str]) -> Path:
    header = "model,seed,split,stage,geometry,metric,aggregation,value,ci_low,ci_high,n,n_undefined"
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def comparisons_of(tmp_path: Path, rows: list[str]) -> pd.DataFrame:
    header = "model,against,split,metric,value,ci_low,ci_high,n_seeds,n_seeds_against,n,n_undefined,n_groups,n_better,n_worse"
    path = tmp_path / "comparisons.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return read_table(path)


def test_models_are_ranked_by_the_mean_over_their_seeds(tmp_path):
    rows = [f"{model},,test,dice,{value},{value - 0.1},{value + 0.1},2,,4,1,4,,"
            for model, value in (("b", 0.7), ("a", 0.75))]  # fmt: skip
    rows.append("b,,validation,dice,0.99,,,2,,4,0,4,,")
    rows.append("a,b,test,dice,0.05,-0.01,0.1,2,2,4,0,4,3,1")
    table = comparisons_of(tmp_path, rows)
    first, second = rank_models(table)
    assert (first.model, first.n_seeds, second.model) == ("a", 2, "b")
    assert (first.dice.value, first.dice.low, first.dice.high, first.dice.n_undefined) == (0.75, 0.65, 0.85, 1)
    found = find_difference(table, model="a", against="b", metric="dice")
    assert (found.value, found.better, found.worse, found.images, found.is_sure) == (0.05, 3, 1, 4, False)
    assert find_difference(table, model="b", against="a", metric="dice") is None


def test_objects_rank_the_models_and_pixels_where_binary_masks_join_them(tmp_path):
    scores = {"joins": {"dice": 0.96, "ap_kaggle": 0.74}, "splits": {"dice": 0.95, "ap_kaggle": 0.8}}
    rows = [f"{model},,test,{metric},{value},,,1,,4,0,4,," for model, found in scores.items()
            for metric, value in found.items()]  # fmt: skip
    table = comparisons_of(tmp_path, rows)
    assert [one.model for one in rank_models(table)] == ["splits", "joins"]
    assert [one.model for one in rank_models(table, rank_by="dice")] == ["joins", "splits"]
    row = summarize_for_index(
        dataset="cells", images=4, ranked=list(scores), rank_by="dice", metrics_path=metrics_of(tmp_path, []),
        comparisons_path=tmp_path / "comparisons.csv",
    )  # fmt: skip
    assert row["best_model"] == "joins"


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path):
    rows = [f"{model},7,test,postprocessed,raw,dice,image_mean,0.5,0.4,0.6,4,0" for model in ("007", "NA", "nan")]
    metrics = read_table(metrics_of(tmp_path, rows))
    compared = comparisons_of(
        tmp_path, [f"{model},,test,dice,0.5,0.4,0.6,1,,4,0,4,," for model in ("007", "NA", "nan")]
    )
    assert [standing.model for standing in rank_models(compared)] == ["007", "NA", "nan"]
    assert find_number(metrics, model="007", seed=7, metric="dice").value == 0.5
    assert find_number(metrics, model="007", seed=8, metric="dice") is None


def test_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "metrics.csv").write_text("")
    with pytest.raises(ValueError, match=r"metrics.csv: expected a CSV table, found.*run snakemake again"):
        read_table(tmp_path / "metrics.csv")


# ---- index -------------------------------------------------------------------------------------------------


def test_index_links_to_the_reports(example, tmp_path):
    root, _, _, _ = example
    scored = summarize_for_index(
        dataset="cells", images=4, ranked=["narrow", "wide"], metrics_path=root / "metrics.csv",
        comparisons_path=root / "comparisons.csv",
    )  # fmt: skip
    other = summarize_for_index(
        dataset="cells", images=4, ranked=["narrow"], metrics_path=root / "metrics.csv",
        comparisons_path=root / "comparisons.csv",
    )  # fmt: skip
    assert other["best_model"] == "narrow"  # `wide` is an annotator, or a point of a learning curve
    assert scored == {
        "dataset": "cells", "path": "cells/report.html", "images": 4, "best_model": "wide",
        "dice": pytest.approx(0.85), "ap": pytest.approx(0.55), "annotated": True, "n_seeds": 1,
        "counts": Counts(9, 6.0, pytest.approx(-1 / 3), -0.4, -0.25), "few": "only 3 test images",
    }  # fmt: skip
    comparisons_of(tmp_path, [])
    plain = summarize_for_index(
        dataset="plate",
        images=9,
        ranked=[],
        metrics_path=metrics_of(tmp_path, []),
        comparisons_path=tmp_path / "comparisons.csv",
    )
    assert (plain["best_model"], plain["dice"], plain["annotated"]) == ("", None, False)
    write_index(
        output_path=tmp_path / "index.html",
        metrics_paths=[root / "metrics.csv", tmp_path / "metrics.csv"],
        comparisons_paths=[root / "comparisons.csv", tmp_path / "comparisons.csv"],
        datasets={"cells": 4, "plate": 9},
        order=["cells", "plate"],
        ranked={"cells": ["narrow", "wide"], "plate": []},
        rank_by={"cells": "ap_kaggle", "plate": "ap_kaggle"},
        others=["last_year"],
        provenance={},
    )
    page = Page((tmp_path / "index.html").read_text(encoding="utf-8"))
    hrefs = [a["href"] for a in page.all("a")]
    assert hrefs == ["cells/report.html", "plate/report.html", "last_year/report.html"]
    assert "Reports of other configs in this folder: last_year." in page.text
    assert "2 datasets, 13 images" in page.text
    assert "0.850" in page.text
    assert "6 9 annotated".replace(" ", "") in page.text.replace(" ", "")
    assert "−33.3 %−40.0 % to −25.0 %" in page.text  # two lines of a cell
    assert "not annotated" in page.text


# ---- figures and words -------------------------------------------------------------------------------------


WICKED = "a <b> & \"c\" 'd'"


@pytest.mark.parametrize(
    "figure",
    [
        figures.draw_curves(
            [figures.Curve(WICKED, "s0", [1, 2, 3, 4], [0.1, None, 0.3, float("nan")])],
            title=WICKED, x_label=WICKED, y_label=WICKED, is_log=True, mark_x=2, caption="",
        ),
        figures.draw_dots([figures.Dot(WICKED, "s0", 0.5, 0.4, 0.6), figures.Dot("b", "s1", 0.5)], title=WICKED, caption=""),
        figures.draw_changes([(WICKED, 0.1, 0.2)], style="s0", title=WICKED, caption=""),
        figures.draw_scatter(
            [figures.Point(1, 2, "s0", WICKED)], title=WICKED, x_label="x", y_label="y", is_agreement=True, legend=(),
            caption="",
        ),
        figures.draw_scatter([], title="", x_label="", y_label="", is_agreement=False, legend=(), caption=""),
        figures.draw_histogram([(figures.Key("s0", WICKED), [1.0, 2.0, 200.0])], title=WICKED, x_label=WICKED, is_log=True, caption=""),
        figures.draw_histogram([(figures.Key("s0", "a"), [3.0])], title="", x_label="", is_log=False, caption=""),
        figures.draw_histogram([], title="", x_label="", is_log=False, caption=""),
    ],
)  # fmt: skip
def test_figures_are_well_formed(figure):
    root = ElementTree.fromstring(str(figure.svg))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == figure.title
    assert "nan" not in str(figure.svg)


def test_missing_values_leave_a_gap_in_a_curve():
    curve = figures.Curve("loss", "s0", [1, 2, 3, 4], [1.0, 2.0, None, 4.0])
    drawn = figures.draw_curves([curve], title="", x_label="", y_label="", is_log=False, mark_x=None, caption="")
    path = next(p.attrib["d"] for p in ElementTree.fromstring(str(drawn.svg)).iter("path"))
    assert path.count("M") == 2


def test_histogram_is_as_high_as_its_counts():
    key = figures.Key("s0", "a")
    drawn = figures.draw_histogram([(key, [1.0, 1.1, 9.0])], title="", x_label="", is_log=False, caption="")
    path = next(p.attrib["d"] for p in ElementTree.fromstring(str(drawn.svg)).iter("path"))
    heights = [float(number) for number in re.findall(r"V([\d.]+)", path)]
    floor = heights[-1]
    assert (floor - heights[0]) / (floor - heights[-2]) == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.84, 0.97), (0, 73), (-0.2, 0.9), (1e-5, 3e-5), (990, 125_000)]
)
def test_ticks_are_round_and_within_the_axis(low, high):
    ticks = scales.round_ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    assert float(f"{steps[0]:.1g}") == pytest.approx(steps[0])


@pytest.mark.parametrize(("low", "high"), [(1e-4, 0.01), (6e-4, 0.012), (3, 900), (0.5, 0.6)])
def test_ticks_of_a_logarithmic_axis_lie_within_it(low, high):
    ticks = scales.log_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low * 0.99 <= tick <= high * 1.01 for tick in ticks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/data/{sample}.tif", "…/{sample}.tif"),
        ("images: /scratch/x/a.tif, b.tif", "images: …/a.tif, b.tif"),
        ("'/a/b c.png'", "'…/b c.png'"),
        (r"C:\Users\ann\a.tif", "…/a.tif"),
        ("data/train.csv", "data/train.csv"),
        ("../data/train.csv", "../data/train.csv"),
        ('images: "/home/Ann Other/data/{sample}.tif"', 'images: "…/{sample}.tif"'),
        ("images: /home/Ann Other/data/{sample}.tif", "images: …/{sample}.tif"),
        ("masks: /a/b.png differs from c/d.png", "masks: …/b.png differs from c/d.png"),
        ("file:///home/ann/a.tif", "…/a.tif"),
        (r"\\server\share\a.tif", "…/a.tif"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("counts/s and 1/2/3", "counts/s and 1/2/3"),
    ],
)
def test_folders_of_absolute_paths_are_hidden(text, expected):
    assert wording.hide_folders(text) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0.4 s"), (41, "41 s"), (200, "3 min 20 s"), (18_720, "5 h 12 min"), (None, "–"), (float("nan"), "–")],
)
def test_durations_in_words(seconds, expected):
    assert wording.say_duration(seconds) == expected


def test_facts_leave_out_data_and_digests():
    settings = {
        "train": {"patch": [512, 512], "loss": {"name": "bce"}},
        "sha": "0f" * 32,
        "long": list(range(9)),
        "on": True,
    }
    assert wording.list_facts(settings) == [
        ("train · patch", "512, 512"), ("train · loss · name", "bce"), ("on", "yes"),
    ]  # fmt: skip


def test_equal_findings_stand_together_the_most_severe_first():
    findings = [{"severity": s, "sample": n, "finding": f, "advice": ""} for s, n, f in
                (("note", "a", "x"), ("warning", "b", "y"), ("warning", "c", "y"), ("error", "d", "z"))]  # fmt: skip
    rows = [[cell.text for cell in row[:4]] for row in data.list_findings(findings).rows]
    assert rows == [["error", "1", "d", "z"], ["warning", "2", "b, c", "y"], ["note", "1", "a", "x"]]


def test_findings_with_one_remedy_stand_together_and_those_of_the_dataset_say_where():
    findings = [
        {"severity": "note", "sample": name, "where": "", "finding": f"{name} % saturated", "advice": "Expose shorter"}
        for name in ("2", "9", "9")
    ] + [{"severity": "note", "sample": "", "where": "cells", "finding": "12 twins", "advice": "Leave one out"}]
    first, second = data.list_findings(findings).rows
    assert [cell.text for cell in first[1:4]] == ["2", "2, 9", "2 % saturated"]
    assert first[3].note == "and similar findings"
    assert [cell.text for cell in second[1:4]] == ["–", "cells", "12 twins"]


def test_a_remark_is_said_once(tmp_path):
    arguments = build_example(tmp_path)
    table = (tmp_path / "summary.csv").read_text()
    (tmp_path / "summary.csv").write_text(table + "note,,datasets.cells.split,the parts are small,\n")
    arguments["remarks"] = ["datasets.cells.split: the parts are small"]
    _, page = write(tmp_path, arguments)
    assert page.text.count("the parts are small") == 1


def test_the_data_chapter_says_focus_saturation_and_objects_by_split(example):
    # in the example: focus 0.5, 2 % saturated; two objects at the border in each of three test images
    page = example[3]
    assert "Images by split" in page.text
    assert "Annotations by split" in page.text
    cells = [a["data-value"] for tag, a in page.elements if tag == "td" and a.get("data-value")]
    assert {"0.5", "0.02", "6.0", "9.0"} <= set(cells)
    assert page.text.index("Images by split") < page.text.index("Comparison of the models")


def test_parts_have_an_order():
    parts = ["unlabelled", "fold1", "test", "fold0", "train", "validation"]
    assert chapters.sort_parts(parts) == ["train", "validation", "test", "fold0", "fold1", "unlabelled"]


def test_threshold_of_a_run_without_a_fit_is_unknown():
    assert comparison.fitted_threshold({}) is None
    assert comparison.describe_fit({}) == []


# ---- settings ----------------------------------------------------------------------------------------------


def test_settings_of_the_page_have_defaults():
    assert Report().model_dump() == {"title": None, "paper": None, "ro_crate": False, **SETTINGS}


@pytest.mark.parametrize(
    ("key", "value"),
    [("gallery", 3), ("gallery_images", -1), ("gallery_images", 1001), ("gallery_side_px", 63), ("title", "")],
)
def test_wrong_settings_are_refused(key, value):
    with pytest.raises(ValidationError, match=key):
        Report.model_validate({key: value})


def test_an_override_of_the_device_is_said():
    assert "CELLMILL_DEVICE=cpu" in comparison.say_device({"device": "cpu", "device_override": True})
    assert comparison.say_device({"device": "cpu", "device_override": False}) == "CPU"


# ---- comparison with the paper -----------------------------------------------------------------------------


def test_page_sets_the_figures_of_a_paper_beside_its_own(tmp_path):
    arguments = build_example(tmp_path, paper="sartorius")
    for run in arguments["runs"]:
        run["made_from"] = {"preset": "sartorius_unet", "settings": {}, "overrides": {"width": 0.5}, "how": "trained"}
    _, page = write(tmp_path, arguments)
    assert "Comparison with the paper" in page.text
    assert "#paper" in [a["href"] for a in page.all("a")]
    assert {"table-paper_results", "table-paper_postprocessing"} <= {a.get("id") for a in page.all("h3")}
    assert "1 of the 5 systems of the paper is measured here." in page.text
    assert "wide: width 0.5" in page.text
    # Dice of the one image before and after postprocessing: DICE of `wide` by hand, minus 0.05 before
    assert "0.800" in page.text
    assert "not run" in page.text


def test_page_without_a_paper_has_no_such_chapter(example):
    assert "Comparison with the paper" not in example[3].text
    assert "#paper" not in [a["href"] for a in example[3].all("a")]


def test_unknown_paper_is_refused():
    with pytest.raises(ValidationError, match="isbi2012"):
        Report(paper="isbi2013")


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [([1, 2, 3, 4], ["1", "2", "3", "4"]), ([7], ["7"]), (list(range(1, 21)), ["0", "5", "10", "15", "20"])],
)
def test_an_axis_of_epochs_has_whole_numbers(epochs, shown):
    axis = scales.Scale(*scales.span_of(epochs), 0, 100, is_whole=True)
    assert [text for _, text in axis.ticks()] == shown
    curves = [figures.Curve("", "s0", epochs, [0.5 for _ in epochs])]
    figure = figures.draw_curves(
        curves, title="Loss", x_label="epoch", y_label="", is_log=False, mark_x=None, caption=""
    )
    assert all(f">{text}</text>" in figure.svg for text in shown)


def test_the_pixel_size_of_the_config_is_shown(tmp_path):
    _, page = write(tmp_path, build_example(tmp_path, pixel_size_um=0.65))
    assert "0.65" in page.text
    assert any("edge of a pixel, from the config" in heading.get("title", "") for heading in page.all("th"))


def test_hashes_say_whether_a_second_run_gave_the_same(tmp_path):
    arguments = build_example(tmp_path)
    _, page = write(tmp_path, arguments)
    metrics = Path(arguments["metrics_path"])
    digest = hashlib.sha256(metrics.read_bytes()).hexdigest()
    assert digest in page.text
    objects = [hashlib.sha256(Path(run["objects"]).read_bytes()).hexdigest() for run in arguments["runs"]]
    assert all(each in page.text for each in objects)
    images = {"b": {"sha256": "2" * 64}, "a": {"sha256": "1" * 64}}
    [(what, found)] = results.list_digests(images, [], [])
    assert (what, found) == ("raw images", hashlib.sha256(f"a {'1' * 64}\nb {'2' * 64}\n".encode()).hexdigest())
    assert results.list_digests(dict(reversed(images.items())), [], []) == [(what, found)]


def test_chapters_have_one_order(tmp_path):
    page = write(tmp_path, build_example(tmp_path, paper="sartorius"))[1]
    chapters_shown = [section["id"] for section in page.all("section")]
    assert chapters_shown == ["result", "data", "comparison", "models", "images", "objects", "paper", "reproduce"]
    links = [link["href"] for link in page.all("a") if link["href"].startswith("#")]
    assert links[1:9] == [f"#{name}" for name in chapters_shown]  # the first link skips the navigation bar
