"""Safety of the pages: names and texts from files stay text on the page and in a spreadsheet."""

import csv
import json
import socket
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page

from cellmill.stages.index import write_index_page
from cellmill.stages.report import write_report
from report_example import TABLES, build_example

# A sample's name is a file name, so it has no slash.
SAMPLE = "\"'><img src=x onerror=window.hacked=1>"
SCRIPT = "<script>window.hacked=1</script>"
BREAKOUT = "\"'></script></style></title></textarea></svg><img src=x onerror=window.hacked=1>"
WICKED = (SAMPLE, SCRIPT, BREAKOUT, "{{ 7 * 7 }}${7 * 7}<!--", "javascript:window.hacked=1")
EVERYTHING = " ".join(WICKED)
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", '=HYPERLINK("x","y")', "-cmd|' /C calc'!A0", "＝1+1", "- 1")
NUMBERS = ("-0.5", "+3", "1e-3", "-1E+4", "7")


def write_wicked(root: Path) -> Path:
    """Write a report in which every text from a file or from the config is an attack."""
    arguments = build_example(
        root, test_names=(SAMPLE, "a02", "a03"), title=EVERYTHING, dataset=SCRIPT, config_text=f"# {EVERYTHING}\n",
        remarks=[EVERYTHING],
    )  # fmt: skip
    arguments["provenance"] |= dict.fromkeys(("date", "commit", "machine", "python", "command"), EVERYTHING)
    arguments["provenance"]["versions"] = {EVERYTHING: EVERYTHING}
    for row in arguments["samples"]:
        row |= {"class": EVERYTHING, "sequence": BREAKOUT}
    for name in TABLES:
        _replace(arguments[f"{name}_path"], {"model": BREAKOUT, "against": BREAKOUT})
    check = dict.fromkeys(("finding", "advice", "where", "dtype"), EVERYTHING)
    for path in arguments["check_paths"]:
        table = pd.read_csv(path)
        table.assign(**{name: text for name, text in check.items() if name in table}).to_csv(path, index=False)
    for run in arguments["runs"]:
        if run["model"] == "wide":
            run |= {"run": BREAKOUT, "model": BREAKOUT}
        _edit(run["summary"], gpu_name=EVERYTHING, versions={SCRIPT: BREAKOUT}, settings={SCRIPT: EVERYTHING})
        fit = json.loads(run["postprocess"].read_text())
        fit["threshold"]["reason"] = fit["instances"]["method"] = fit["boundary"]["classifier"] = EVERYTHING
        run["postprocess"].write_text(json.dumps(fit))
        flag = {"severity": "note", "sample": SAMPLE, "where": BREAKOUT, "finding": SCRIPT, "advice": BREAKOUT}
        pd.DataFrame([flag]).to_csv(run["flags"], index=False)
    write_report(output_path=root / "report.html", **arguments)
    return root / "report.html"


def _replace(path: Path, columns: dict[str, str]) -> None:
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    for name, text in columns.items():
        if name in table:
            table[name] = table[name].replace("wide", text)
    table.to_csv(path, index=False)


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_harmless(page: Page) -> None:
    assert page.evaluate("window.hacked") is None
    assert page.locator("script").count() == 1
    assert page.locator("img:not([src^='data:']), iframe, object, embed, base, form").count() == 0
    assert page.locator("a:not([href^='#'])[href*=':']").count() == 0
    handlers = (
        "[...document.querySelectorAll('*')].flatMap((p) => [...p.attributes]).filter((a) => /^on/i.test(a.name))"
    )
    assert page.evaluate(f"{handlers}.length") == 0


@pytest.fixture(scope="module")
def wicked_report(tmp_path_factory) -> Path:
    return write_wicked(tmp_path_factory.mktemp("wicked"))


def test_markup_in_names_and_texts_is_shown_and_does_nothing(open_page, wicked_report):
    page = open_page(wicked_report)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert_harmless(page)
    shown = page.locator("main").inner_text()
    for text in WICKED:
        assert shown.count(text) >= 8, text
    for place in ("h1", ".facts", "#config-text", ".card .name", ".caption .size", ".notice", "pre.code"):
        assert any(text in shown for shown in page.locator(place).all_inner_texts() for text in WICKED), place
    assert SAMPLE in page.locator(".table[data-name=images] tbody th").all_inner_texts()
    assert BREAKOUT in page.locator(".table[data-name=costs] tbody th").all_inner_texts()
    assert page.title().startswith(SAMPLE)


def test_controls_of_a_wicked_page_work(open_page, wicked_report):
    page = open_page(wicked_report)
    for heading in page.locator("thead button:visible").all():
        heading.evaluate("(part) => part.click()")
    page.locator("#gallery-model").select_option(index=1)
    page.locator("#gallery-order").select_option("name")
    page.locator(f'.card[data-name="{SAMPLE.replace(chr(34), chr(92) + chr(34))}"] .picture').click()
    assert page.locator(".zoom-name").inner_text() == SAMPLE
    page.locator("#zoom [data-step='1']").click()
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.locator(".table[data-name=images] [data-csv]").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as stream:
        assert SAMPLE in [row["Image"] for row in csv.DictReader(stream)]
    assert_harmless(page)


def test_index_with_markup_is_harmless(open_page, tmp_path):
    report = {"path": "a/report.html", "images": 1, "dice": 0.5, "ap": None, "annotated": True}
    report |= {"dataset": EVERYTHING, "best_model": BREAKOUT}
    write_index_page(
        output_path=tmp_path / "index.html", reports=[report], provenance={"date": SCRIPT, "commit": BREAKOUT}
    )
    page = open_page(tmp_path / "index.html")
    assert_harmless(page)
    assert EVERYTHING in page.locator("tbody").inner_text()


def test_injected_script_would_be_stopped_all_the_same(browser, site):
    context = browser.new_context()
    page = context.new_page()
    page.goto((site / "cells" / "report.html").as_uri())
    page.locator("h1").evaluate(
        "(part) => {"
        " const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        " part.append(script);"
        " const image = document.createElement('img'); image.setAttribute('onerror', 'window.hacked = 1');"
        " image.src = 'data:,'; part.append(image); }"
    )
    page.wait_for_timeout(100)
    assert page.evaluate("window.hacked") is None
    context.close()


def test_page_cannot_reach_the_network(browser, site):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        context = browser.new_context()
        page = context.new_page()
        page.goto((site / "cells" / "report.html").as_uri())
        outcome = page.evaluate(
            "(url) => fetch(url, {signal: AbortSignal.timeout(2000)}).then(() => 'reached', () => 'refused')", address
        )
        page.evaluate("(url) => { new Image().src = url; navigator.sendBeacon(url, 'x'); }", address)
        assert outcome == "refused"
        with pytest.raises(TimeoutError):
            server.accept()
        context.close()


def test_tables_hold_no_formulas_for_spreadsheets(open_page, tmp_path):
    arguments = build_example(tmp_path / "formulas")
    texts = (*FORMULAS, *NUMBERS)
    advice = [f"advice {number}" for number in range(len(texts))]
    findings = {"severity": "note", "sample": "a01", "where": "masks", "finding": texts, "advice": advice}
    pd.DataFrame(findings).to_csv(arguments["check_paths"][0], index=False)
    write_report(output_path=tmp_path / "formulas" / "report.html", **arguments)
    page = open_page(tmp_path / "formulas" / "report.html")
    # The text is tidied on the way to the page; the export must be safe without that.
    page.locator(".table[data-name=findings] tbody").evaluate(
        "(body) => { for (const text of ['\\t=1', '\\r=1', ' =1', '\\n@x']) {"
        " const row = body.rows[0].cloneNode(true); row.cells[1].dataset.value = text; body.append(row); } }"
    )
    with page.expect_download() as download:
        page.locator(".table[data-name=findings] [data-csv]").click()
    with Path(download.value.path()).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    saved = [row["Finding"] for row in rows[: len(texts)]]
    assert sorted(saved) == sorted([*(f"'{text}" for text in FORMULAS), *NUMBERS])
    assert [row["Images"] for row in rows[len(texts) :]] == ["'\t=1", "'\r=1", "' =1", "'\n@x"]
    assert {row["Severity"] for row in rows} == {"note"}


def test_no_folder_of_the_machine_is_in_the_page(open_page, tmp_path):
    root = tmp_path / "a folder" / "here"
    arguments = build_example(root)
    path = f"{root}/images/a01.tif"
    arguments["config_text"] = f"images: {path}\nmasks: '{path}'\nlist: [{tmp_path}/x/y.tif]\n"
    arguments["remarks"] = [f"'{path}' is odd", f"{tmp_path}/x/y.tif: odd"]
    arguments["provenance"]["command"] = f"snakemake --directory {tmp_path}/x --configfile {tmp_path}/config.yaml"
    table = pd.read_csv(arguments["check_paths"][0])
    where = {"sample": "", "where": f"{tmp_path}/x/masks.csv", "finding": f"file://{tmp_path}/x/y.tif"}
    table.assign(**where, advice=f"see {tmp_path}/x/z.tif").to_csv(arguments["check_paths"][0], index=False)
    for run in arguments["runs"]:
        _edit(run["summary"], settings={"init_weights": path, "train": {"from": [f"{tmp_path}/x/w.pt"]}})
        fit = json.loads(run["postprocess"].read_text())
        fit["threshold"]["reason"] = f"as in {tmp_path}/x/fit.json"
        run["postprocess"].write_text(json.dumps(fit))
        run["apply"] = f"{tmp_path}/x/wide.cellmill"
        flag = {
            "severity": "note",
            "sample": "a01",
            "where": path,
            "finding": f"unlike {tmp_path}/x",
            "advice": f"'{path}'",
        }
        pd.DataFrame([flag]).to_csv(run["flags"], index=False)
    write_report(output_path=root / "report.html", **arguments)
    text = (root / "report.html").read_text(encoding="utf-8")
    assert [folder for folder in (str(tmp_path), str(Path.home()) + "/", str(Path.cwd())) if folder in text] == []
    assert "a folder" not in text
    page = open_page(root / "report.html")
    assert "…/y.tif: odd" in page.locator("main").inner_text()
