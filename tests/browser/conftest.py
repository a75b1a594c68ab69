"""A real browser for the tests of the page, pages to open in it, and an accessibility checker."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from real_example import build_real_example

from cellmill.matching.statistic_names import STATISTICS
from cellmill.stages.index import write_index
from cellmill.stages.report import write_report
from left_out import without_tool
from programs import need
from project import ROOT
from report_example import add_curve, add_experiment, add_masks, build_example

ARGUMENTS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking", "--no-first-run",
]  # fmt: skip
# axe-core from a Python package, which is installed together with the packages of the other checks.
AXE = ROOT / ".venv" / "oracles" / "axe_playwright_python" / "axe.min.js"
PICTURES = Path(__file__).with_name("screenshots")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = need("chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(program), args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """Index and three reports, laid out as in results/: one of two models, one unannotated, one with every chapter."""
    root = tmp_path_factory.mktemp("site")
    datasets = {"cells": True, "plate": False, "full": True}
    for dataset, is_annotated in datasets.items():
        arguments = build_example(root / dataset, dataset=dataset, is_annotated=is_annotated)
        if dataset == "full":
            arguments |= write_more_chapters(root / dataset, arguments)
            add_masks(root / dataset, arguments, {"cellpose": "model", "second": "annotator"})
            add_curve(root / dataset, arguments)
            add_experiment(root / dataset, arguments)
        write_report(output_path=root / dataset / "report.html", **arguments)
    write_index(
        output_path=root / "index.html",
        metrics_paths=[root / dataset / "metrics.csv" for dataset in datasets],
        comparisons_paths=[root / dataset / "comparisons.csv" for dataset in datasets],
        datasets=dict.fromkeys(datasets, 4),
        order=list(datasets),
        ranked={dataset: ["wide", "narrow"] for dataset in datasets},
        rank_by=dict.fromkeys(datasets, "ap_kaggle"),
        others=[],
        provenance={},
    )
    return root


def write_more_chapters(root: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Write the inputs of the other chapters: a paper's figures, a match, benchmark files, remarks, classes."""
    for run in arguments["runs"]:
        run["made_from"] = {"preset": "sartorius_unet", "settings": {}, "overrides": {"width": 0.5}, "how": "trained"}
    for number, row in enumerate(arguments["samples"]):
        row |= {"class": "neuroblastoma", "sequence": "s1", "frame": number}
    numbers = {"real": 1.25, "before": 2.5, "after": 1.5, "distance_before": 0.8, "distance_after": 0.25}
    numbers |= {f"{side}_{end}": 1.0 for side in ("real", "before", "after") for end in ("low", "high")}
    numbers |= {"interval_low": 0.1, "interval_high": 0.3, "n_real": 40, "n_simulated": 60, "n_undefined": 0}
    rows = [{"statistic": name, "is_primary": True, **numbers} for name in STATISTICS]
    pd.DataFrame(rows).to_csv(root / "match.csv", index=False)
    for path in ("preprocess/a", "rasterize/a", "train/wide", "predict/wide/a", "postprocess/wide/a", "evaluate/all"):
        (root / "benchmarks" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "benchmarks" / f"{path}.tsv").write_text("s\th:m:s\tmax_rss\n61.5\t0:01:01\t812.4\n")
    return {
        "paper": "sartorius", "match_path": root / "match.csv", "benchmarks_dir": root / "benchmarks",
        "remarks": ["masks/a01.png: two objects share pixels"],
    }  # fmt: skip


@pytest.fixture(scope="session")
def real_report(tmp_path_factory, real_data) -> Path:
    """Report of real images of nuclei with fabricated predictions."""
    root = tmp_path_factory.mktemp("real") / "nuclei"
    write_report(output_path=root / "report.html", **build_real_example(root, real_data))
    return root / "report.html"


@pytest.fixture
def open_page(browser, site) -> Iterator[Callable[..., Page]]:
    """A function that opens a page of the site, or any other; console messages and network requests fail the test."""
    context = browser.new_context(accept_downloads=True, reduced_motion="reduce")  # no animated scrolling
    problems: list[str] = []
    requests: list[str] = []

    def open_file(name: str | Path, *, width: int = 1280, scheme: str = "light") -> Page:
        page = context.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((site / name).as_uri())
        return page

    yield open_file
    context.close()
    assert not problems
    # The pages themselves, and what is embedded in them or made by them
    assert [url for url in requests if not re.match(r"data:|blob:|file:.*/(report|index)\.html(#\w+)?$", url)] == []


@pytest.fixture(scope="session")
def axe() -> str:
    """Source of axe-core, which finds accessibility faults."""
    if not AXE.is_file():
        without_tool(f"{AXE} is missing: `make test` installs requirements-oracles.txt")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Folder of the screenshots that tests leave for visual inspection."""
    PICTURES.mkdir(exist_ok=True)
    return PICTURES
