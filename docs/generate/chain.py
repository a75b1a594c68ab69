"""Draw the steps from a raw image to objects for one real test image per data set, beside the ground truth.

``make chain`` trains one small network on each data set, ten minutes on two cores, and writes chain/chain.png. Data
sets in the public domain are also drawn into docs/pictures/chain.png, which docs/objects.md shows. The image is the one
with the median test score and the crop is the one with the most objects, so neither is chosen by hand.
"""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tifffile
from PIL import Image, ImageDraw, ImageFont

from real_runs import ROOT, find_data, read_section, run_pipeline

# Data sets with annotations, and their titles in the figure
DATASETS = {
    "bbbc039": "BBBC039", "dsb2018": "DSB 2018", "livecell": "LIVECell", "sartorius_cell_instance": "Sartorius",
    "isbi2012_em": "ISBI 2012", "ctc_fluo_n2dl_hela": "Fluo-N2DL-HeLa", "yeast_timelapse": "yeast",
}  # fmt: skip
# CC0: https://bbbc.broadinstitute.org/BBBC039 and /BBBC038
PUBLIC_DOMAIN = ("bbbc039", "dsb2018")
MODEL: dict[str, Any] = {
    "preset": "sartorius_unet", "name": "small", "width": 0.25,
    "train": {
        "epochs": 20, "patch": [64, 64], "patches_per_image": 24, "batch": 16, "sampling": "balanced",
        "optimiser": {"learning_rate": 0.003}, "schedule": {"name": "cosine"},
        "augmentation": {"flip": True, "rotate_90": True, "contrast": 0.5, "brightness": 0.3},
    },
}  # fmt: skip
SIDE_PX, STEP_PX = 200, 20
PANELS = ("raw", "probability", "mask", "tuned", "objects", "truth")
# Colours of Okabe and Ito, https://jfly.uni-koeln.de/color: neighbouring objects differ for any colour vision.
OBJECT_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#f0e442", "#cc79a7", "#d55e00")
ADDED, REMOVED, GREY = (86, 180, 233), (213, 94, 0), (190, 190, 190)
TEXT_PX, GAP_PX = 18, 4


class Chain(NamedTuple):
    """Outputs of the stages for a crop of one image, and their title."""

    title: str
    raw_yx: np.ndarray
    probability_yx: np.ndarray
    mask_yx: np.ndarray
    tuned_yx: np.ndarray
    objects_yx: np.ndarray
    truth_yx: np.ndarray


def make_config() -> dict[str, Any]:
    """Make the config: the same network and the same tuning, always applied, for each data set."""
    datasets = {}
    for name in DATASETS:
        postprocess = {"boundary": {"apply": "always"}}
        section = read_section(name)
        # A binary mask does not separate touching cells, so flows cannot be trained on it.
        flow = {"output": "flow"} if section["annotations"]["format"] != "binary" else {}
        loss = {"loss": {"name": "flow"}} if flow else {}
        model = MODEL | {"network": flow, "train": MODEL["train"] | loss}
        datasets[name] = section | {"models": [model], "postprocess": postprocess}
    return {"datasets": datasets}


def choose_image(scores: pd.DataFrame) -> tuple[str, str, float]:
    """Return sample, shard and Kaggle AP of the test image with the median AP."""
    wanted = (scores["split"] == "test") & (scores["stage"] == "postprocessed") & (scores["geometry"] == "raw")
    ranked = scores[wanted].dropna(subset=["ap_kaggle"]).sort_values(["ap_kaggle", "sample"], ignore_index=True)
    middle = ranked.iloc[(len(ranked) - 1) // 2]
    return str(middle["sample"]), str(middle["shard"]), float(middle["ap_kaggle"])


def read_chain(results: Path, dataset: str) -> Chain:
    """Read a data set's image of median score, and crop the output of each stage to the part with most objects."""
    from cellmill.exports.model_file import read_fit
    from cellmill.images.files import read_plane
    from cellmill.images.stored import read_labels
    from cellmill.objects.frames import list_frames
    from cellmill.objects.instances import make_masks

    folder = results / dataset
    run = folder / "small"
    scores = pd.read_csv(folder / "scores.csv", dtype={"sample": str})
    sample, shard, ap = choose_image(scores)
    [frame] = [
        frame
        for frame in list_frames(
            folder / "images" / shard, run / "probabilities" / shard, labels=folder / "labels" / shard
        )
        if frame.sample == sample
    ]
    fitted = read_fit(run / "postprocess.json")
    maps_cyx, image_yx, valid_yx = frame.read_maps(), frame.read_image(), frame.find_valid()
    plain = fitted | {"boundary": fitted["boundary"] | {"applied": False}}
    masks = [
        make_masks(maps_cyx, image_yx, valid_yx=valid_yx, grey=frame.measure_grey(), fitted=each)[1]
        for each in (plain, fitted)
    ]
    table = pd.read_csv(folder / "samples.csv", dtype={"sample": str}).set_index("sample")
    raw_yx = read_plane(results.parent / str(table.loc[sample, "image"]), channel="luminance")
    objects_yx = tifffile.imread(run / "segmentation" / shard / f"{sample}.tif")
    truth_yx = read_labels(folder / "labels" / shard / f"{sample}.tif")
    part = find_fullest(truth_yx)
    method = fitted["instances"]["method"]
    return Chain(
        f"{DATASETS[dataset]}, image {sample[:24]}: Kaggle AP {ap:.2f}, objects by {method}",
        *(each[part] for each in (raw_yx, maps_cyx[0], *masks, objects_yx, truth_yx)),
    )


def find_fullest(truth_yx: np.ndarray) -> tuple[slice, slice]:
    """Return the crop of an image with the most annotated objects; the first one on a tie."""
    corners = itertools.product(*(range(0, max(1, size - SIDE_PX + 1), STEP_PX) for size in truth_yx.shape))
    parts = [(slice(row, row + SIDE_PX), slice(column, column + SIDE_PX)) for row, column in corners]
    return max(parts, key=lambda part: len(np.unique(truth_yx[part])))


def paint(chain: Chain) -> list[Image.Image]:
    """Paint the panels of one image, in the order of PANELS."""
    from cellmill.reports.pictures import stretch

    colours = np.array([[int(code[i : i + 2], 16) for i in (1, 3, 5)] for code in OBJECT_COLOURS], dtype=np.uint8)

    def objects(labels_yx: np.ndarray) -> np.ndarray:
        painted = np.zeros((*labels_yx.shape, 3), dtype=np.uint8)
        inside = labels_yx > 0
        painted[inside] = colours[labels_yx[inside] % len(colours)]
        painted[labels_yx == 65535] = 90
        return painted

    before, after = chain.mask_yx, chain.tuned_yx
    tuned = np.zeros((*before.shape, 3), dtype=np.uint8)
    tuned[before & after], tuned[after & ~before], tuned[before & ~after] = GREY, ADDED, REMOVED
    panels = [
        stretch(chain.raw_yx), np.rint(chain.probability_yx * 255).astype(np.uint8), before.astype(np.uint8) * GREY[0],
        tuned, objects(chain.objects_yx), objects(chain.truth_yx),
    ]  # fmt: skip
    return [
        Image.fromarray(panel).convert("RGB").resize((SIDE_PX, SIDE_PX), Image.Resampling.NEAREST) for panel in panels
    ]


def draw_figure(chains: Sequence[Chain]) -> Image.Image:
    """Draw one row per image."""
    width, height = SIDE_PX + GAP_PX, SIDE_PX + TEXT_PX + GAP_PX
    picture = Image.new("RGB", (len(PANELS) * width - GAP_PX, TEXT_PX + len(chains) * height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for column, name in enumerate(PANELS):
        draw.text((column * width + SIDE_PX // 2, 2), name, fill="black", font=font, anchor="ma")
    for row, chain in enumerate(chains):
        top = TEXT_PX + row * height
        draw.text((2, top + 1), chain.title, fill="black", font=font)
        for column, panel in enumerate(paint(chain)):
            picture.paste(panel, (column * width, top + TEXT_PX))
    return picture


def main() -> None:
    """Run missing jobs and draw the figures."""
    folder = ROOT / "chain"
    run_pipeline(folder, find_data(), make_config())
    os.chdir(folder)
    chains = {name: read_chain(folder / "results", name) for name in DATASETS}
    draw_figure(list(chains.values())).save("chain.png", optimize=True)
    draw_figure([chains[name] for name in PUBLIC_DOMAIN]).save(ROOT / "docs/pictures/chain.png", optimize=True)
    for chain in chains.values():
        print(chain.title)
    print("Drawn: chain/chain.png; the public domain's part of it: docs/pictures/chain.png")


if __name__ == "__main__":
    main()
