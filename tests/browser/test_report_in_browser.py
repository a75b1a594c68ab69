"""The page in a real browser: nothing breaks, nothing is fetched, and every control works, also by keyboard."""

import csv

import pytest
from playwright.sync_api import Page, expect


def shown_views(page: Page) -> set[str]:
    """Return the views of the layers that the first card shows."""
    return set(
        page.evaluate(
            "[...document.querySelectorAll('.card')[0].querySelectorAll('.layer:not([hidden])')]"
            ".map((layer) => layer.dataset.views)"
        )
    )


def column(page: Page, table: str, heading: str) -> list[str]:
    return page.evaluate(
        """([name, heading]) => {
            const table = document.querySelector(`.table[data-name=${name}] table`);
            const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === heading);
            return [...table.tBodies[0].rows].map((row) => row.cells[at].dataset.value);
        }""",
        [table, heading],
    )


def test_a_click_on_a_heading_sorts_and_another_turns_round(open_page):
    page = open_page("cells/report.html")
    heading = page.locator(".table[data-name=images] th button", has_text="Dice")
    heading.click()
    assert column(page, "images", "Image") == ["a01", "a03", "a02"]
    assert page.locator(".table[data-name=images] th[aria-sort=ascending]").inner_text() == "Dice"
    heading.click()
    assert column(page, "images", "Image") == ["a02", "a03", "a01"]


def test_headings_sort_by_keyboard_and_numbers_as_numbers(open_page):
    page = open_page("cells/report.html")
    page.locator(".table[data-name=costs] th button", has_text="Parameters").focus()
    page.keyboard.press("Enter")
    assert page.locator(".table[data-name=costs] th[aria-sort=ascending]").count() == 1
    page.evaluate(
        "document.querySelectorAll('.table[data-name=costs] tbody td:nth-child(2)').forEach("
        "(cell, i) => { cell.dataset.value = ['10000', '9'][i]; })"
    )
    page.keyboard.press("Enter")
    assert column(page, "costs", "Parameters") == ["10000", "9"]


def test_table_downloads_as_csv(open_page, tmp_path):
    page = open_page("cells/report.html")
    with page.expect_download() as download:
        page.locator(".table[data-name=images] [data-csv]").click()
    assert download.value.suggested_filename == "images.csv"
    download.value.save_as(tmp_path / "images.csv")
    with (tmp_path / "images.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["Image"] for row in rows] == ["a01", "a02", "a03"]
    assert [float(row["Dice"]) for row in rows] == [0.7, 0.95, 0.9]


def test_a_csv_of_scores_has_the_ends_of_the_intervals(open_page, tmp_path):
    page = open_page("cells/report.html")
    with page.expect_download() as download:
        page.locator(".table[data-name=scores_test] [data-csv]").click()
    download.value.save_as(tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    shown = page.locator(".table[data-name=scores_test] tbody tr").first.locator("td.num").first
    low, high = shown.locator("small").inner_text().split("–")
    assert [round(float(rows[0][name]), 3) for name in ("Dice, low", "Dice, high")] == [float(low), float(high)]
    assert float(low) < float(rows[0]["Dice"]) < float(high)


def test_views_switch_by_keyboard(open_page):
    page = open_page("cells/report.html")
    assert "errors" in shown_views(page)
    page.locator("#gallery input[name=view]:checked").focus()
    page.keyboard.press("ArrowLeft")
    assert "confidence" in shown_views(page)
    page.keyboard.press("ArrowLeft")
    assert "prediction" in shown_views(page)
    page.keyboard.press("ArrowLeft")
    assert shown_views(page) == {"probability"}
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert shown_views(page) == {"raw"}


def test_another_model_shows_its_own_pictures_and_scores(open_page):
    page = open_page("cells/report.html")
    caption = page.locator(".card").first.locator(".said:not(.files, [hidden])")
    assert "2 found, 1 missed" in caption.inner_text().replace("\N{NO-BREAK SPACE}", " ")
    page.locator("#gallery-model").select_option(label="narrow")
    caption = page.locator(".card").first.locator(".said:not(.files, [hidden])")
    # narrow is worst on a03
    assert page.locator(".card").first.get_attribute("data-name") == "a03"
    assert "1 found, 2 missed" in caption.inner_text().replace("\N{NO-BREAK SPACE}", " ")


def test_the_legend_of_the_pictures_follows_the_view_and_the_model(open_page):
    page = open_page("cells/report.html")
    shown = page.locator("#gallery .colours .legend:not([hidden])")
    assert shown.inner_text().split() == ["found", "missed", "false", "split", "merged"]
    page.locator("#gallery label:has([value=truth])").click()
    assert shown.inner_text() == "annotated object"
    page.locator("#gallery label:has([value=prediction])").click()
    assert shown.inner_text() == "object predicted by wide"
    page.locator("#gallery-model").select_option(label="narrow")
    assert shown.inner_text() == "object predicted by narrow"
    page.locator(".card .picture").first.click()
    assert page.locator("#zoom .colours .legend:not([hidden])").inner_text() == "object predicted by narrow"
    page.keyboard.press("Escape")
    page.locator("#gallery label:has([value=raw])").click()
    assert shown.count() == 0


def test_pictures_sort_by_score_and_by_name(open_page):
    page = open_page("cells/report.html")
    names = "[...document.querySelectorAll('.card')].map((card) => card.dataset.name).join(' ')"
    assert page.evaluate(names) == "a01 a03 a02"
    page.locator("#gallery-order").select_option("best")
    assert page.evaluate(names) == "a02 a03 a01"
    page.locator("#gallery-order").select_option("name")
    assert page.evaluate(names) == "a01 a02 a03"


def test_picture_enlarges_and_closes_by_keyboard(open_page):
    page = open_page("cells/report.html")
    page.locator(".card .picture").first.focus()
    page.keyboard.press("Enter")
    zoom = page.locator("#zoom")
    expect(zoom).to_be_visible()
    assert zoom.locator(".zoom-name").inner_text() == "a01"
    small = page.locator(".card .stack").first.bounding_box()
    large = zoom.locator(".stack").bounding_box()
    assert large["width"] > 2 * small["width"]
    assert large["width"] / large["height"] == pytest.approx(64 / 48, rel=0.02)
    page.keyboard.press("ArrowRight")
    assert zoom.locator(".zoom-name").inner_text() == "a03"
    page.keyboard.press("Escape")
    expect(zoom).to_be_hidden()
    # The browser reports the closing to the page a moment later, and on a busy machine that takes longer. A locator
    # waits for it without evaluating a string in the page, which the page's security policy forbids.
    expect(page.locator(".card[data-name=a03] .picture")).to_be_focused(timeout=10_000)


def test_view_chosen_in_the_enlarged_picture_stays(open_page):
    page = open_page("cells/report.html")
    page.locator(".card .picture").first.click()
    page.locator("#zoom button[data-view=truth]").click()
    assert page.locator("#zoom button[aria-pressed=true]").inner_text() == "Annotated"
    page.locator("#zoom [data-close]").click()
    assert page.locator("#gallery input[name=view]:checked").get_attribute("value") == "truth"
    assert "truth" in shown_views(page)


def test_every_control_has_a_name(open_page):
    page = open_page("cells/report.html")
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, select, input')].filter((part) =>"
        " !(part.ariaLabel || part.textContent.trim() || part.labels?.[0]?.textContent.trim())).length"
    )
    assert nameless == 0
    assert page.evaluate("[...document.querySelectorAll('[id]')].length === new Set("
                         "[...document.querySelectorAll('[id]')].map((part) => part.id)).size")  # fmt: skip


def test_index_leads_to_a_report(open_page):
    page = open_page("index.html")
    page.get_by_role("link", name="cells").click()
    assert page.locator("h1").inner_text() == "Cells on glass"


def test_page_is_readable_without_scripts(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "cells" / "report.html").as_uri())
    assert page.locator(".card .layer:visible").count() == 6  # a raw image and its errors on three cards
    assert not page.locator("[data-csv]").first.is_visible()
    context.close()
