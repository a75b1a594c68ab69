"""Stage `predict`: foreground probabilities of the images of one shard.

Reads   results/{dataset}/images/{shard}/                   float32 YX; weights.pt
Writes  results/{dataset}/{run}/probabilities/{shard}/      float16 CYX, geometry of the preprocessed image
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from cellmill.device import choose_device
from cellmill.fit import read_geometry
from cellmill.images import sample_paths, write_probabilities
from cellmill.models import build_network, load_weights, read_weights
from cellmill.normalise import measure_input
from cellmill.shards import shard_folder
from cellmill.tiling import predict_tiled

logger = logging.getLogger(__name__)


def predict_shard(
    *,
    output_dir: str | Path,
    images_dir: str | Path,
    weights_path: str | Path,
    predict: dict[str, Any],
    threads: int,
    gpu: int,
) -> None:
    """Predict every image of a shard.

    Parameters
    ----------
    output_dir : path
        Folder of the shard's probability maps; put in place whole.
    images_dir : path
        Shard folder of the stage preprocess.
    weights_path : path
        A weights.pt or a .cellmill file; it tells the network and how its input is normalised.
    predict : dict
        Section `predict` of a preset: tile (rows, columns, px) and batch.
    threads, gpu : int
        The job's resources.

    Notes
    -----
    Memory holds one probability map in float16 and a batch of tiles with the network's features; the image is
    mapped and read tile by tile.
    """
    device = choose_device(gpu=gpu)
    torch.set_num_threads(threads)
    # Tiles and the whole image agree to 1e-4 only without TF32, which keeps ten bits of the mantissa.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    weights = read_weights(weights_path)
    network = build_network(weights["network"])
    load_weights(network, weights["state_dict"], source=weights_path)
    network.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    geometries = read_geometry(Path(images_dir) / "geometry.csv")
    with shard_folder(output_dir) as folder:
        for sample, path in sample_paths(images_dir).items():
            started = time.monotonic()
            image_yx: np.ndarray = tifffile.memmap(path, mode="r")
            scale = measure_input(image_yx, geometry=geometries[sample], normalise=weights["input"]["normalise"])
            prob_cyx = predict_tiled(
                network,
                image_yx,
                scale=scale,
                tile=(int(predict["tile"][0]), int(predict["tile"][1])),
                batch=int(predict["batch"]),
                device=device,
                finish=_to_probability,
            )
            write_probabilities(folder / f"{sample}.tif", prob_cyx)
            rows, columns = image_yx.shape
            logger.info("%s: %d x %d px, %.2f s", sample, rows, columns, time.monotonic() - started)


def _to_probability(logits_bcyx: torch.Tensor) -> torch.Tensor:
    return logits_bcyx.sigmoid().half()
