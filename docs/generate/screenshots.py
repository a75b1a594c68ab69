"""Take the two pictures of the README from a report on real images: the comparison of two models, and the gallery.

``make screenshots`` trains a network that predicts the foreground and one that predicts flows, two seeds each, on DSB
2018 (CC0), ten minutes on two cores, and opens the report in Chromium.
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
TRAIN: dict[str, Any] = {
    "epochs": 20, "patch": [64, 64], "patches_per_image": 24, "batch": 16, "sampling": "balanced",
    "optimiser": {"learning_rate": 0.003}, "schedule": {"name": "cosine"},
    "augmentation": {"flip": True, "rotate_90": True, "contrast": 0.5, "brightness": 0.3},
}  # fmt: skip
MODEL: dict[str, Any] = {"preset": "sartorius_unet", "width": 0.25, "seeds": [1, 2]}
WIDTH = 1120
# Chapter of the report -> picture, and its height in px
PICTURES = {"#comparison": ("comparison", 1260), "#images": ("gallery", 760)}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def make_config() -> dict[str, Any]:
    """Make the config: two networks that differ in their output."""
    models = [
        MODEL | {"name": "foreground", "train": TRAIN},
        MODEL | {"name": "flows", "network": {"output": "flow"}, "train": TRAIN | {"loss": {"name": "flow"}}},
    ]
    section = read_section(DATASET) | {"models": models, "report": {"title": "DSB 2018, nuclei of many stains"}}
    return {"datasets": {DATASET: section}}


def main() -> None:
    """Run missing jobs and take the pictures."""
    folder = ROOT / "screenshots"
    run_pipeline(folder, find_data(), make_config())
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
    print("Taken: docs/pictures/comparison.png, docs/pictures/gallery.png")


if __name__ == "__main__":
    main()
