"""The pages for people with low vision, with a screen reader, or without a mouse."""

from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from cellmill.reports.colours import RUN_COLOURS

PAGES = ("full/report.html", "plate/report.html", "index.html")
WHERE_FOCUS_IS = """() => {
    const part = document.activeElement;
    const names = [part.getAttribute("aria-label"), part.textContent.trim(), part.labels?.[0]?.textContent.trim()];
    const box = (part.type === "radio" ? part.nextElementSibling : part).getBoundingClientRect();
    const style = getComputedStyle(part.type === "radio" ? part.nextElementSibling : part);
    return {
        tag: part.tagName.toLowerCase(), id: part.id, role: part.role, name: names.find((name) => name) ?? "", inside: [
            ...["nav", "#gallery", "#zoom", ".table"].filter((place) => part.closest(place)),
        ], section: part.closest("section")?.id ?? "", outline: style.outlineStyle, top: box.top, width: box.width,
    };
}"""
# WCAG 2.2, 1.4.3 and 1.4.11: text, and graphics that carry information
TEXT_CONTRAST, MARK_CONTRAST = 4.5, 3.0
CONTRASTS = """(names) => {
    const style = getComputedStyle(document.documentElement);
    const light = (name) => {
        const channels = style.getPropertyValue(name).trim().match(/[0-9a-f]{2}/gi)
            .map((hex) => parseInt(hex, 16) / 255)
            .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2];
    };
    const page = light("--page");
    return names.map((name) => {
        const [low, high] = [light(name), page].sort((a, b) => a - b);
        return [name, (high + 0.05) / (low + 0.05)];
    });
}"""


def find_faults(page: Page, axe: str, *, within: str = "html") -> list[str]:
    """List the faults that axe-core rates above minor, each with its first element."""
    page.evaluate(axe)
    found = page.evaluate("(within) => axe.run(within, {resultTypes: ['violations']})", within)
    assert found["passes"], "nothing was looked at"
    return [
        f"{fault['impact']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
        for fault in found["violations"]
        if fault["impact"] != "minor"
    ]


def press(page: Page, key: str) -> dict:
    page.keyboard.press(key)
    return page.evaluate(WHERE_FOCUS_IS)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_keeps_people_out(open_page, axe, name, width, scheme):
    page = open_page(name, width=width, scheme=scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert find_faults(page, axe) == []


def test_nothing_keeps_people_out_of_a_real_report(open_page, axe, real_report):
    page = open_page(real_report)
    assert find_faults(page, axe) == []
    page.locator(".card .picture").first.click()
    assert find_faults(page, axe, within="#zoom") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_enlarged_picture_keeps_nobody_out(open_page, axe, scheme):
    page = open_page("cells/report.html", scheme=scheme)
    page.locator(".card .picture").first.click()
    assert find_faults(page, axe, within="#zoom") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stand_out_from_the_page(open_page, scheme):
    page = open_page("cells/report.html", scheme=scheme)
    # axe-core does not check the text of drawings, nor lines and dots
    texts = page.evaluate(CONTRASTS, ["--ink", "--soft", "--accent", "--warn", "--bad"])
    marks = page.evaluate(CONTRASTS, ["--truth", *(f"--s{number}" for number in range(len(RUN_COLOURS)))])
    assert [(name, ratio) for name, ratio in texts if ratio < TEXT_CONTRAST] == []
    assert [(name, ratio) for name, ratio in marks if ratio < MARK_CONTRAST] == []


def test_tab_reaches_every_control_once_in_the_order_of_the_page(open_page):
    page = open_page("cells/report.html")
    walked = []
    for _ in range(300):
        focus = press(page, "Tab")
        if focus["tag"] == "body":
            break
        walked.append(focus)
    assert walked[0]["name"] == "Skip to the result"
    assert [part for part in walked if not part["name"]] == []
    # Scrollable parts of tables are named by the table's heading and have an outline like all others
    assert [part for part in walked if part["outline"] == "none"] == []
    assert [part for part in walked if part["width"] < 2] == []
    sections = [part["section"] for part in walked if part["section"]]
    assert sections == sorted(sections, key=list(dict.fromkeys(sections)).index)
    asked = page.evaluate(
        "[...document.querySelectorAll('button, select, a[href], summary, [tabindex=\"0\"]')]"
        ".filter((part) => part.checkVisibility()).length"
    )
    # The radio buttons of the views are one tab stop; arrow keys reach the others
    assert len(walked) == asked + 1


def test_what_has_the_focus_is_not_behind_the_bar(open_page):
    page = open_page("cells/report.html")
    bar = page.locator(".bar").bounding_box()["height"]
    for key, times in (("Tab", 80), ("Shift+Tab", 60)):
        for _ in range(times):
            focus = press(page, key)
            # Tables may be taller than the window, so that their top is out of sight.
            if focus["section"] and focus["role"] != "region":
                assert focus["top"] >= bar - 1, focus


def test_skip_link_leads_past_the_chapters(open_page):
    page = open_page("cells/report.html")
    press(page, "Tab")
    page.keyboard.press("Enter")
    focus = press(page, "Tab")
    assert "nav" not in focus["inside"]
    assert focus["section"] in ("result", "data")


def test_chapter_opens_by_keyboard_and_is_marked(open_page):
    page = open_page("cells/report.html")
    link = page.locator(".bar a", has_text="Images")
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".bar a[aria-current]")).to_have_text("Images")
    expect(page.locator("#images h2")).to_be_in_viewport()


def test_gallery_is_worked_by_keyboard_alone(open_page):
    page = open_page("cells/report.html")
    page.locator("#gallery input[name=view]:checked").focus()
    press(page, "ArrowLeft")
    assert page.locator("#gallery").get_attribute("data-view") == "confidence"
    assert press(page, "Tab")["id"] == "gallery-model"
    page.keyboard.press("ArrowDown")
    assert page.locator("#gallery").get_attribute("data-model") == "1"
    assert press(page, "Tab")["id"] == "gallery-order"
    page.keyboard.press("b")  # by name
    assert page.locator(".card").first.get_attribute("data-name") == "a01"
    assert press(page, "Tab")["name"] == "Enlarge a01"
    press(page, " ")
    expect(page.locator("#zoom")).to_be_visible()
    inside = [press(page, "Tab") for _ in range(20)]
    assert all(
        "#zoom" in part["inside"] or part["tag"] == "body" for part in inside
    )  # Tab passes through the browser's own bar in between
    assert {part["name"] for part in inside} >= {"Close", "Previous picture", "Next picture", "Raw", "Errors"}
    page.locator("#zoom [data-step='1']").focus()
    page.keyboard.press("Enter")
    assert page.locator("#zoom .zoom-name").inner_text() == "a02"
    page.keyboard.press("Escape")
    expect(page.locator("#zoom")).to_be_hidden()
    expect(page.locator(".card[data-name=a02] .picture")).to_be_focused(timeout=10_000)


def test_details_open_by_keyboard(open_page):
    page = open_page("cells/report.html")
    page.locator("summary", has_text="What the scores mean").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".meanings").first).to_be_visible()


def test_wide_table_scrolls_by_keyboard_and_fades_where_it_goes_on(open_page):
    page = open_page("cells/report.html", width=390)
    room = page.get_by_role("region", name="Annotations by split")
    assert "goes-on" in room.get_attribute("class")
    room.focus()
    before = room.evaluate("(part) => part.scrollLeft")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(room).not_to_have_js_property("scrollLeft", before)
    room.evaluate("(part) => part.scrollTo({left: part.scrollWidth, behavior: 'instant'})")
    expect(room).not_to_have_class("scroll goes-on")


@pytest.mark.parametrize("name", PAGES)
def test_headings_go_down_one_level_at_a_time(open_page, name):
    page = open_page(name)
    levels = page.evaluate("[...document.querySelectorAll('main :is(h1,h2,h3,h4,h5)')].map((part) => +part.tagName[1])")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_report_is_usable_at_twice_the_size_of_text(open_page):
    page = open_page("cells/report.html", width=640)
    page.evaluate("document.documentElement.style.fontSize = '200%'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 640
