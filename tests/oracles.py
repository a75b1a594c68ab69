"""Load single files of packages that the project does not need, to compare with them."""

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED

import numpy as np
import pytest
from skimage import io, measure

from project import ROOT

ORACLES = ROOT / ".venv/oracles"


def load_oracle(path: str | Path, **stubs: dict[str, Any]) -> types.ModuleType:
    """Import one file of a package, with stand-ins for modules that only other parts of it need."""
    path = ORACLES / path
    if not path.is_file():
        pytest.skip(f"{path} is missing: `make test` installs requirements-oracles.txt")
    name = "oracles." + ".".join(path.relative_to(ORACLES).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for stub, contents in stubs.items():
            made = types.ModuleType(stub.replace("__", "."))
            made.__dict__.update(contents)
            patch.setitem(sys.modules, made.__name__, made)
        module.__package__ = name.rpartition(".")[0]
        spec.loader.exec_module(module)
    return module


def write_cellpose_masks(image_path: Path, labels_yx: np.ndarray) -> Path:
    """Write masks by Cellpose's own code beside an image; return their path."""
    cellpose = load_oracle(
        "cellpose/io.py",
        natsort={"natsorted": sorted}, tqdm={"tqdm": None}, roifile={"ImagejRoi": None, "roiwrite": None},
        cv2={"imwrite": lambda path, image, *_: io.imsave(path, image, check_contrast=False)},
        oracles__cellpose={"version_str": "", "utils": None, "plot": None, "transforms": None, "__path__": []},
    )  # fmt: skip
    cellpose.save_masks(None, labels_yx.astype(np.int32), [None], str(image_path))
    return image_path.with_name(f"{image_path.stem}_cp_masks.png")


def write_stardist_rois(path: Path, labels_yx: np.ndarray) -> None:
    """Write the outlines of objects by StarDist's own code, as ROIs of ImageJ."""
    stardist = load_oracle(
        "stardist/utils.py",
        tqdm={"tqdm": None}, csbdeep__utils={"_raise": None}, csbdeep__utils__six={"Path": type(path)},
        oracles__stardist__matching={"matching_dataset": None, "_check_label_array": None},
        oracles__stardist={"__path__": []},
    )  # fmt: skip
    outlines = []
    for number in np.setdiff1d(labels_yx, [0]):
        [outline, *_] = measure.find_contours(np.pad((labels_yx == number).astype(float), 1), 0.5)
        outlines.append(outline[:-1].T - 0.5)  # without the padding, from pixel centres to the corner of the image
    stardist.export_imagej_rois(str(path), [outlines], compression=ZIP_DEFLATED)
