"""Appearance of the pages: on a desktop, on a phone, in dark mode, on paper.

The screenshots stay in tests/browser/screenshots for visual inspection.
"""

import re

import pytest
from playwright.sync_api import expect

from cellmill.stages.report import write_report
from report_example import add_models, build_example

PAPER = {"format": "A4", "print_background": True, "margin": dict.fromkeys(("top", "right", "bottom", "left"), "14mm")}
CHAPTERS = {
    "comparison": "#comparison",
    "model": ".model",
    "gallery": "#images",
    "objects": "#objects",
    "end": "#reproduce",
}
# Elements that stick out of the window and are not inside anything that scrolls or clips
STICKING_OUT = """() => [...document.querySelectorAll('main *')].filter((part) => {
    if (!part.checkVisibility() || part.closest('.unseen, svg')) return false;
    for (let parent = part.parentElement; parent; parent = parent.parentElement)
        if (getComputedStyle(parent).overflowX !== 'visible') return false;
    const box = part.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
}).map((part) => part.outerHTML.slice(0, 120))"""
# Numbers of one column must end at the same position, whatever their length.
RAGGED = """() => [...document.querySelectorAll('thead th')].flatMap((head) => {
    const table = head.closest('table'), at = head.cellIndex;
    if (!head.classList.contains('num') || !table.checkVisibility()) return [];
    const ends = [...table.tBodies[0].rows].map((row) => {
        const range = document.createRange();
        range.selectNodeContents(row.cells[at]);
        return range.getBoundingClientRect().right;
    });
    const place = `${table.closest('.table').dataset.name}: ${head.textContent}`;
    return Math.max(...ends) - Math.min(...ends) > 1 ? [place] : [];
})"""


# Texts of drawings that lie over a line, a curve or a dot of the same drawing
NAMES_OVER_LINES = """() => [...document.querySelectorAll('.plot svg[role=img]')].flatMap((svg) => {
    const boxes = [...svg.querySelectorAll('text')].filter((part) => part.textContent).map((part) => [part, part.getBBox()]);
    const marks = [...svg.querySelectorAll('.grid, .axis, .mark, .whisker, .curve, .dot, .open, .point')];
    return marks.flatMap((mark) => {
        const length = mark.getTotalLength();
        const points = Array.from({length: 200}, (_, k) => mark.getPointAtLength(length * k / 199));
        const hit = boxes.find(([, box]) => points.some((at) => at.x > box.x && at.x < box.x + box.width
            && at.y > box.y + 2 && at.y < box.y + box.height - 2));
        return hit ? [`${svg.ariaLabel}: ${hit[0].textContent} on ${mark.getAttribute('class')}`] : [];
    });
})"""
# Figures, legends and headings of columns that overlap their neighbours
OVERLAPPING = """() => ['.plots', '.legend', 'thead tr'].flatMap((name) => [...document.querySelectorAll(name)].flatMap((room) => {
    const boxes = [...room.children].map((part) => {
        const range = document.createRange();
        range.selectNodeContents(part);
        return range.getBoundingClientRect();
    });
    return boxes.flatMap((a, i) => boxes.slice(i + 1).flatMap((b) => {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        return across > 1 && down > 3 ? [`${name}: ${room.textContent.trim().slice(0, 80)}`] : [];
    }));
}))"""


# Sticky elements would cover parts of a screenshot that is taller than the window.
STILL = ".bar, .tools { position: static !important; }"


def pages_of(data: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", data))


def images_of(data: bytes) -> int:
    return len(re.findall(rb"/Subtype\s*/Image\b", data))


@pytest.fixture
def real_page(open_page, real_report):
    return lambda **how: open_page(real_report, **how)


@pytest.mark.parametrize("name", ["full/report.html", "plate/report.html", "index.html"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_opens_and_fits_the_screen(open_page, pictures, name, width, scheme):
    page = open_page(name, width=width, scheme=scheme)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    broken = "[...document.images].filter((i) => i.checkVisibility() && i.complete && !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    stem = f"example_{name.split('/')[0].removesuffix('.html')}_{width}_{scheme}"
    page.screenshot(path=pictures / f"{stem}.png", full_page=True, style=STILL)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (768, "dark")])
def test_real_report_fits_the_screen(real_page, pictures, width, scheme):
    page = real_page(width=width, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    page.screenshot(path=pictures / f"real_top_{width}_{scheme}.png")
    for name, place in CHAPTERS.items():
        page.locator(place).first.screenshot(path=pictures / f"real_{name}_{width}_{scheme}.png", style=STILL)


def test_dark_page_is_dark(open_page):
    light, dark = (
        open_page("cells/report.html", scheme=scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0]"
        )
        for scheme in ("light", "dark")
    )
    assert light > 200 > 60 > dark


def test_numbers_of_a_column_end_at_one_place(open_page):
    page = open_page("full/report.html")
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    assert page.evaluate(RAGGED) == []


def test_text_of_drawings_does_not_overlap(open_page):
    page = open_page("full/report.html")
    overlapping = page.evaluate(
        """() => [...document.querySelectorAll('.plot svg')].flatMap((svg) => {
            const texts = [...svg.querySelectorAll('text')].filter((part) => part.textContent.trim());
            const boxes = texts.map((part) => part.getBoundingClientRect());
            return texts.flatMap((part, i) => texts.slice(i + 1).flatMap((other, k) => {
                const [a, b] = [boxes[i], boxes[i + 1 + k]];
                const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                return across > 1 && down > 3 ? [`${svg.ariaLabel}: ${part.textContent} on ${other.textContent}`] : [];
            }));
        })"""
    )
    assert overlapping == []


@pytest.mark.parametrize("width", [1280, 390])
def test_long_names_of_many_models_lie_over_nothing(open_page, pictures, tmp_path, width):
    names = (
        "unet with a wide bottleneck, pretrained on simulated nuclei, learning rate 0.0003, second attempt",
        "segnet_vgg16_fine_tuned_from_the_model_of_last_year_without_augmentation_v2",
        *"abcd",
    )
    arguments = build_example(tmp_path)
    add_models(tmp_path, arguments, names)
    write_report(output_path=tmp_path / "report.html", **arguments)
    page = open_page(tmp_path / "report.html", width=width)
    assert page.evaluate(NAMES_OVER_LINES) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(STICKING_OUT) == []
    for name in ("comparison", "objects"):
        page.locator(f"#{name}").screenshot(path=pictures / f"long_names_{name}_{width}.png", style=STILL)


def test_views_of_a_real_report_differ(real_page, pictures):
    page = real_page()
    stack = page.locator(".card .stack").first
    shots = {}
    for view in page.locator("#gallery input[name=view]").evaluate_all("(all) => all.map((each) => each.value)"):
        page.locator(f"#gallery label:has([value={view}])").click()
        shots[view] = stack.screenshot(path=pictures / f"real_view_{view}.png")
    assert len(shots) >= 5
    assert len(set(shots.values())) == len(shots)


@pytest.mark.parametrize("width", [1280, 390])
def test_enlarged_real_picture_fills_the_window(real_page, pictures, width):
    page = real_page(width=width)
    page.locator(".card .picture").first.click()
    box = page.locator("#zoom .stack").bounding_box()
    assert box["width"] >= 0.9 * width or box["height"] >= 600
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.locator("#zoom").evaluate(
        "(part) => part.scrollWidth <= part.clientWidth && part.scrollHeight <= innerHeight"
    )
    expect(page.locator("#zoom .errors-legend")).to_be_visible()
    page.screenshot(path=pictures / f"real_zoom_{width}.png")


@pytest.mark.parametrize("is_open", [False, True])
def test_report_prints(open_page, pictures, is_open):
    page = open_page("cells/report.html")
    if is_open:
        page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    data = page.pdf(path=pictures / f"example_{'open' if is_open else 'closed'}.pdf", **PAPER)
    assert data.startswith(b"%PDF")
    assert pages_of(data) > 1
    page.emulate_media(media="print")
    # Controls are hidden on paper; the legend of the pictures is shown.
    for place in (".bar", "#gallery select", "[data-csv]", "#zoom"):
        assert not page.locator(place).first.is_visible(), place
    assert page.locator("#gallery .errors-legend").is_visible()
    assert page.locator(".meanings").first.is_visible() == is_open
    shown = page.locator(".card .layer:visible").count()
    assert shown == 6
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every((part) => part.scrollWidth <= part.clientWidth + 1)"
    )


def test_real_report_prints_with_its_pictures(real_page, pictures):
    page = real_page()
    data = page.pdf(path=pictures / "real.pdf", **PAPER)
    assert pages_of(data) > 3
    # Pictures far below the window, which were never scrolled into view, must be printed as well.
    for card in page.locator(".card").all():
        card.scroll_into_view_if_needed()
    page.evaluate("Promise.all([...document.images].filter((i) => i.checkVisibility()).map((i) => i.decode()))")
    assert images_of(data) == images_of(page.pdf(**PAPER)) >= 3 * page.locator(".card").count()


def test_page_is_printed_light_in_a_dark_room(open_page):
    page = open_page("cells/report.html", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
