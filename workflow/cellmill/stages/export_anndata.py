"""Stage export: write the objects of a run as AnnData, for scanpy, squidpy and R."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd

from cellmill.objects.tables import KEYS, facts_of_images
from cellmill.objects.units import unit_of_column
from cellmill.shards import atomic_path

logger = logging.getLogger(__name__)

# Text columns are stored as plain strings, which every version of anndata reads, and not in the type of pandas 3.
TEXT = np.dtype(object)


def export_anndata(
    *,
    output_path: str | Path,
    objects_path: str | Path,
    samples: Sequence[Mapping[str, Any]],
    dataset: str,
    run: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write the objects of a run as an h5ad file.

    Parameters
    ----------
    output_path : path
        objects.h5ad. X: float64, shape (objects, features), NaN where a cell of objects.csv is empty. obs: one row per
        object, named {sample}/{object}, with sample, object, run, the columns of the sample table, and pixel_size_um
        if known. var: one row per numeric column of objects.csv, with its unit. obsm["spatial"]: centroids, x to the
        right and y downwards, px of the raw image. uns: dataset, run, cellmill_commit.
    objects_path : path
        objects.csv of the run.
    samples : sequence of mapping
        Rows of the sample table: sample, and what is known of the image, such as sequence, frame, class and part.
    dataset, run : str
        Names in the config.
    provenance : mapping
        commit of `describe_run`.
    """
    table = pd.read_csv(
        objects_path, dtype={"sample": str}, keep_default_na=False, na_values=_empty_cells(objects_path)
    )
    values = table.drop(columns=list(KEYS))
    # Without rows, pandas cannot tell which columns are numbers.
    numbers = values.astype(np.float64) if table.empty else values.select_dtypes("number")
    names, facts = facts_of_images(samples)
    ids = [f"{sample}/{number}" for sample, number in zip(table["sample"], table["object"], strict=True)]
    obs = pd.DataFrame(
        {"sample": _categories(table["sample"]), "object": table["object"].to_numpy(np.int64)},
        index=pd.Index(ids, dtype=TEXT),
    )
    obs["run"] = _categories([run] * len(obs))
    for place, name in enumerate(names):
        known = [facts[sample][place] for sample in table["sample"]]
        is_text = any(isinstance(fact[place], str) for fact in facts.values())
        obs[name] = _categories(known) if is_text else np.asarray(known)
    if len(edges_um := _pixel_sizes_um(table)) and not np.isnan(edges_um).all():
        obs["pixel_size_um"] = edges_um
    features = list(numbers.columns)
    units = pd.Series([unit_of_column(name) for name in features], index=pd.Index(features, dtype=TEXT), dtype=TEXT)
    data = anndata.AnnData(
        X=numbers.to_numpy(np.float64),
        obs=obs,
        var=pd.DataFrame({"unit": units}),
        obsm={"spatial": table[["centroid_column_px", "centroid_row_px"]].to_numpy(np.float64)},
        uns={"dataset": dataset, "run": run, "cellmill_commit": provenance["commit"]},
    )
    with atomic_path(output_path) as partial:
        data.write_h5ad(partial, compression="gzip")
    logger.info("%d objects, %d features", *data.shape, extra={"progress": True})


def _empty_cells(path: str | Path) -> dict[str, list[str]]:
    """Return the texts that are read as missing, by column: a sample may be called NA."""
    return {name: [""] for name in pd.read_csv(path, nrows=0).columns if name not in KEYS}


def _categories(values: Sequence[str] | pd.Series) -> pd.Categorical:
    found = np.asarray(list(values), dtype=TEXT)
    return pd.Categorical(found, categories=pd.Index(sorted(set(found)), dtype=TEXT))


def _pixel_sizes_um(table: pd.DataFrame) -> np.ndarray:
    """Return the edge of a pixel of the image of each object, um, from both of its areas; NaN where it is unknown."""
    areas_um2 = table["area_um2"].to_numpy(np.float64)
    # areas have seven significant digits
    edges_um = np.sqrt(areas_um2 / table["area_px"].to_numpy(np.float64))
    return np.array([float(f"{edge_um:.6g}") for edge_um in edges_um])
