"""Reading annotations: speed against pycocotools, and memory against the number of images."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bench import Row

# As in Sartorius 2021
SHAPE = (520, 704)
OBJECTS = 2000

RASTERIZE = """
from cellmill.config.annotations import Annotations
from cellmill.rasterize import rasterize_shard
section = Annotations.model_validate({"format": "rle", "order": "row", "table": job["table"]})
rasterize_shard(
    output_dir=job["output"], samples=job["samples"], annotations=section.model_dump(mode="json"), missing="error"
)
"""


def rle_decoding() -> "Row":
    """Time the decoding of run lengths like those of Sartorius against pycocotools on the same objects."""
    from bench import compare
    from pycocotools import mask as coco_mask

    from cellmill.annotations.rle import decode_crop, encode_crop

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:30, :30]
    texts, runs = [], []
    for _ in range(OBJECTS):
        mask_yx = np.hypot(y - 15, (x - 15) * rng.uniform(0.8, 1.2)) < rng.uniform(7, 13)
        row, column = int(rng.integers(SHAPE[0] - 30)), int(rng.integers(SHAPE[1] - 30))
        texts.append(encode_crop(mask_yx, order="row", row=row, column=column, shape=SHAPE))
        whole_yx = np.zeros(SHAPE, dtype=np.uint8, order="F")
        whole_yx[row : row + 30, column : column + 30] = mask_yx
        runs.append(coco_mask.encode(whole_yx))

    def ours() -> None:
        for text in texts:
            decode_crop(text, shape=SHAPE, order="row", where="benchmark")

    def theirs() -> None:
        for one in runs:
            coco_mask.decode(one)

    for text, one in zip(texts[:50], runs[:50], strict=True):
        row, column, mask_yx = decode_crop(text, shape=SHAPE, order="row", where="benchmark")
        whole_yx = coco_mask.decode(one)
        assert (whole_yx[row : row + mask_yx.shape[0], column : column + mask_yx.shape[1]] == mask_yx).all()
        assert whole_yx.sum() == mask_yx.sum()
    return compare(
        f"decoding of {OBJECTS} objects of about 20 px, {SHAPE[0]} x {SHAPE[1]}", ours,
        "pycocotools, a whole image each", theirs, "> 1", repeats=3,
    )  # fmt: skip


def flat_rasterize() -> tuple[float, float]:
    """Measure the peak memory [MB] of rasterize on shards of 100 and of 1,000 images of 256 x 256."""
    few, many = (_peak_of_rasterize(images) for images in (100, 1000))
    return few, many


def _peak_of_rasterize(images: int) -> float:
    import tifffile
    from peaks import peak_mb

    from cellmill.annotations.rle import encode_crop

    shape = (256, 256)
    y, x = np.mgrid[:20, :20]
    disc_yx = np.hypot(y - 9.5, x - 9.5) < 10
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = folder / "image.tif"
        tifffile.imwrite(image, np.zeros(shape, np.uint8))
        samples = [{"sample": f"s{i:04d}", "image": str(image), "annotations": []} for i in range(images)]
        with (folder / "train.csv").open("w", encoding="utf-8") as table:
            table.write("id,annotation,width,height\n")
            for sample in samples:
                for row, column in rng.integers(0, 236, (20, 2)).tolist():
                    text = encode_crop(disc_yx, order="row", row=row, column=column, shape=shape)
                    table.write(f"{sample['sample']},{text},256,256\n")
        job = {"table": str(folder / "train.csv"), "output": str(folder / "labels"), "samples": samples}
        return peak_mb(RASTERIZE, job)
