"""Read the full resolution of OME-Zarr images (0.4 and 0.5), which are folders with the pyramid of one image.

Axes as in `cellmill.images.axes`.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cellmill.images.axes import MAX_PIXELS, Layout, check_axes, unit_in_um

METADATA_FILES = ("zarr.json", ".zattrs")
# Codecs that only decode numbers. Others are rejected, because some execute the content of a chunk (pickle).
CODECS = {
    "blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "shuffle", "delta", "bytes", "crc32c", "crc32", "adler32",
    "transpose", "sharding_indexed", "fixedscaleoffset", "bitround", "packbits", "numcodecs.zlib", "numcodecs.bz2",
    "numcodecs.lz4", "numcodecs.shuffle", "numcodecs.delta", "fletcher32",
}  # fmt: skip


def is_store(path: Path) -> bool:
    """Return whether a path is a folder with the metadata file of an OME-Zarr image."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA_FILES)


def read_layout(path: Path) -> Layout:
    """Read the axes of an OME-Zarr image from its metadata only.

    Raises
    ------
    ValueError
        If the folder is not an image, or its metadata are damaged.
    """
    scales = _multiscales(path)
    axes, scale = _axes_and_scale(scales)
    array = _array_metadata(path, scales)
    shape = [int(size) for size in array["shape"]]
    if len(axes) != len(shape):
        raise ValueError(
            f"{path}: expected an axis for each of the {len(shape)} dimensions, found {len(axes)} axes "
            f"({''.join(axes)}). Write the image again with an OME-Zarr library."
        )
    return Layout(
        sizes=check_axes(dict(zip(axes, shape, strict=True)), where=path),
        dtype=np.dtype(array["dtype"]).newbyteorder("="),
        is_colour=False,
        pixel_size_um=(scale["Y"], scale["X"]) if scale.get("Y") and scale.get("X") else None,
        bits=8 * np.dtype(array["dtype"]).itemsize,
    )


def read_rows(path: Path, *, index: Mapping[str, int], first: int, last: int) -> np.ndarray:
    """Read some rows of one plane at full resolution.

    Parameters
    ----------
    path : Path
    index : mapping
        Axis -> position, for every axis of the stack but Y, X and C.
    first, last : int
        Range of rows; `last` is excluded.

    Returns
    -------
    ndarray of shape (rows, columns) or (rows, columns, channels)
    """
    import zarr  # slow to import, and only this format needs it

    scales = _multiscales(path)
    axes, _ = _axes_and_scale(scales)
    _array_metadata(path, scales)
    array = zarr.open_array(str(path / scales["datasets"][0]["path"]), mode="r")
    place = tuple(
        slice(first, last) if axis == "Y" else slice(None) if axis in "XC" else index.get(axis, 0) for axis in axes
    )
    plane = np.asarray(array[place])
    kept = [axis for axis in axes if axis in "YXC"]
    order = [kept.index("Y"), kept.index("X")] + [i for i, axis in enumerate(kept) if axis == "C"]
    plane = plane.transpose(order)
    if plane.ndim == 3 and plane.shape[2] == 1:
        plane = plane[:, :, 0]
    return np.ascontiguousarray(plane.astype(plane.dtype.newbyteorder("="), copy=False))


def digest_store(path: Path) -> str:
    """Compute a digest of the metadata and the full-resolution chunks, so that a changed chunk changes the image.

    Notes
    -----
    A folder's time stamp does not reflect changes of its chunks, and its thousands of files are not inputs of a job.
    """
    array = path / _multiscales(path)["datasets"][0]["path"]
    digest = hashlib.sha256()
    for file in sorted(file for file in array.rglob("*") if file.is_file()):
        digest.update(f"{file.relative_to(array).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    digest.update(json.dumps(_multiscales(path), sort_keys=True).encode())
    return digest.hexdigest()[:16]


def stamp_store(path: Path) -> str:
    """Compute a digest of names, sizes and times of these files; while it is unchanged, they need not be read."""
    array = path / _multiscales(path)["datasets"][0]["path"]
    metadata = [path / name for name in METADATA_FILES if (path / name).is_file()]
    entries = []
    for file in [*metadata, *sorted(array.rglob("*"))]:
        stat = file.stat()
        entries.append(f"{file.relative_to(path).as_posix()} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()[:16]


def _multiscales(path: Path) -> dict[str, Any]:
    stamp = tuple((path / name).stat().st_mtime_ns for name in METADATA_FILES if (path / name).is_file())
    return _read_multiscales(path, stamp)


@lru_cache(maxsize=64)
def _read_multiscales(path: Path, stamp: tuple[int, ...]) -> dict[str, Any]:
    attributes = _attributes(path)
    if "plate" in attributes or "well" in attributes:
        raise ValueError(
            f"{path}: expected one image, found a plate. "
            "Set the pattern to the images inside it, such as plate.zarr/{row}/{column}/{field}."
        )
    if "bioformats2raw.layout" in attributes:
        raise ValueError(
            f"{path}: expected one image, found a bioformats2raw collection. "
            "Set the pattern to the images inside it, such as {sample}.zarr/0."
        )
    scales = attributes.get("multiscales")
    try:
        name = PurePosixPath(scales[0]["datasets"][0]["path"])  # type: ignore[index]
        scales[0]["axes"][0]  # type: ignore[index]
    except (TypeError, KeyError, IndexError):
        raise ValueError(
            f"{path}: expected an OME-Zarr image with multiscales, axes and datasets in its metadata, found "
            f"{', '.join(sorted(attributes)[:8]) or 'none'}. Write it again with an OME-Zarr library (0.4 or 0.5)."
        ) from None
    if name.is_absolute() or ".." in name.parts:
        raise ValueError(
            f"{path}: expected the pixels inside the image folder, found the path {str(name)!r}. "
            "Write the image again with an OME-Zarr library."
        )
    found: dict[str, Any] = scales[0]  # type: ignore[index]
    return found


def _attributes(path: Path) -> dict[str, Any]:
    if (path / "zarr.json").is_file():
        attributes = _load(path / "zarr.json").get("attributes", {})
        return dict(attributes.get("ome", attributes))
    return _load(path / ".zattrs")


def _load(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"not a JSON object: {path.name}")
    return content


def _axes_and_scale(scales: Mapping[str, Any]) -> tuple[list[str], dict[str, float]]:
    axes, factors = [], []
    for axis in scales["axes"]:
        name = axis if isinstance(axis, str) else str(axis.get("name", ""))
        axes.append(name.upper())
        factors.append(unit_in_um(str(axis.get("unit", ""))) if isinstance(axis, dict) else 0.0)
    sizes = dict.fromkeys(axes, 0.0)
    for transform in scales["datasets"][0].get("coordinateTransformations", []):
        if transform.get("type") == "scale":
            sizes = dict(
                zip(axes, [float(s) * f for s, f in zip(transform["scale"], factors, strict=True)], strict=True)
            )
    return axes, sizes


def _array_metadata(path: Path, scales: Mapping[str, Any]) -> dict[str, Any]:
    """Read the shape and type of the full resolution; reject unknown codecs and oversized chunks."""
    folder = path / scales["datasets"][0]["path"]
    if (folder / "zarr.json").is_file():
        content = _load(folder / "zarr.json")
        codecs = list(_codecs(content["codecs"]))
        chunks = content["chunk_grid"]["configuration"]["chunk_shape"]
        dtype = content["data_type"]
    else:
        content = _load(folder / ".zarray")
        codecs = [str(codec["id"]) for codec in [content["compressor"], *(content["filters"] or [])] if codec]
        chunks, dtype = content["chunks"], content["dtype"]
    if unknown := sorted(set(codecs) - CODECS):
        raise ValueError(
            f"{path}: expected chunks of numbers compressed with a codec such as blosc or zstd, found "
            f"{', '.join(unknown)}. Write the image again with an OME-Zarr library."
        )
    if not isinstance(dtype, str) or np.prod([int(size) for size in chunks], dtype=float) > MAX_PIXELS:
        raise ValueError(
            f"{path}: expected chunks of up to {MAX_PIXELS} numbers, found {chunks} of type {dtype}. "
            "Write the image again with smaller chunks."
        )
    return {"shape": content["shape"], "dtype": dtype}


def _codecs(entries: Any) -> Any:
    for entry in entries:
        yield str(entry["name"])
        inner = entry.get("configuration") or {}
        yield from _codecs(inner.get("codecs", []))
        yield from _codecs(inner.get("index_codecs", []))
