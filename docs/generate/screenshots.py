"""Take the pictures of the README and of docs/results.md from a report on real images.

``make screenshots`` runs `classical` and `default` on DSB 2018 (CC0), two seeds of 600 steps, a quarter of an hour on
two cores, and opens the report in Chromium.
"""

import io
import os
import shutil
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from real_runs import ROOT, find_data, read_section, run_pipeline

DATASET = "dsb2018"
SEEDS, STEPS = [1, 2], 600
WIDTH = 1120
# Chapter of the report -> picture, and its height in px
PICTURES = {"#result": ("result", 860), "#comparison": ("comparison", 1260), "#images": ("gallery", 760)}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def make_config() -> dict[str, Any]:
    """Make the config: the two models of a dataset that names none."""
    models: list[Any] = ["classical", {"preset": "default", "seeds": SEEDS, "train": {"steps": STEPS}}]
    section = read_section(DATASET) | {"models": models, "report": {"title": "DSB 2018, nuclei of many stains"}}
    return {"datasets": {DATASET: section}}


def main() -> None:
    """Run missing jobs and take the pictures."""
    folder = ROOT / "screenshots"
    run_pipeline(folder, find_data(), make_config(), threads=2)
    page_path = folder / f"results/{DATASET}/report.html"
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        page = browser.new_page(color_scheme="light")
        page.goto(Path(page_path).as_uri())
        for chapter, (name, height) in PICTURES.items():
            page.set_viewport_size({"width": WIDTH, "height": height})
            page.evaluate("place => document.querySelector(place).scrollIntoView()", chapter)
            page.wait_for_timeout(1500)
            taken = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            # 200 colours are enough for text, plots and grey images, at half the file size.
            small = taken.quantize(200, dither=Image.Dither.NONE)
            small.save(ROOT / f"docs/pictures/{name}.png", optimize=True)
        browser.close()
    print("Taken:", *(f"docs/pictures/{name}.png" for name, _ in PICTURES.values()))


if __name__ == "__main__":
    main()
