"""Real microscope files, in the folder `vendor` of the test data."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cellmill.images.raw_files import RAW_FORMATS
from left_out import without_data


def raw_folder(real_data: Path, form: str) -> Path:
    """Return the folder of one format; skip the test if it is missing."""
    folder = real_data / "vendor" / form
    if not (folder / "expected.json").is_file():
        without_data(f"microscope files are not at {folder}")
    return folder


def expected_values(folder: Path) -> dict[str, Any]:
    """Read what other programs read from the files of a folder: file -> values."""
    text = (folder / "expected.json").read_text(encoding="utf-8")
    return {name: facts["expected"] for name, facts in json.loads(text).items()}


def need_library(form: str) -> None:
    """Skip a test without the optional library of a format."""
    pytest.importorskip(RAW_FORMATS[form]["imports"])


def write_czi(
    path: Path, *, channels: Sequence[str] = ("DAPI",), scenes: int = 1, times: int = 1, sections: int = 1,
    shape: tuple[int, int] = (12, 16), edge_um: float = 0.5,
) -> np.ndarray:  # fmt: skip
    """Write a CZI file with its own number in each plane; return its pixels, shape (scenes, t, z, c, rows, columns)."""
    from pylibCZIrw import czi

    path.parent.mkdir(parents=True, exist_ok=True)
    counts = (scenes, times, sections, len(channels))
    ramp = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    pixels = (1000 * np.arange(np.prod(counts)).reshape(counts)[..., None, None] + ramp).astype(np.uint16)
    with czi.create_czi(str(path), exist_ok=True) as file:
        for s, t, z, c in np.ndindex(counts):
            place = {"T": t, "Z": z, "C": c}
            # scenes lie side by side on the stage
            file.write(pixels[s, t, z, c], plane=place, scene=s, location=(1000 * s, 0))
        file.write_metadata(
            document_name=path.stem, channel_names=dict(enumerate(channels)), scale_x=edge_um * 1e-6,
            scale_y=edge_um * 1e-6,
        )  # fmt: skip
    return pixels


def write_ndtiff(
    folder: Path, planes: Sequence[tuple[dict[str, Any], np.ndarray]], *, kind: int = 1, metadata: Any = None
) -> tuple[Path, Path]:
    """Write an acquisition: list of (axes, pixels); return the paths of its index and of its pixels."""
    name = f"{folder.name}_NDTiffStack.tif"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metadata or {"PixelSizeUm": 0.5}).encode()
    index, pixels = b"", b"II*\0\0\0\0\0"
    for axes, array in planes:
        place = json.dumps(axes).encode()
        content = array.tobytes()
        rows, columns = array.shape[:2]
        index += struct.pack("<I", len(place)) + place + struct.pack("<I", len(name)) + name.encode()
        index += struct.pack("<IiiiiIii", len(pixels), columns, rows, kind, 0, len(pixels) + len(content), len(text), 0)
        pixels += content + text
    (folder / name).write_bytes(pixels)
    (folder / "NDTiff.index").write_bytes(index)
    return folder / "NDTiff.index", folder / name
