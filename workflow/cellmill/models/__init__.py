"""Networks by name: one file an architecture, each with `build(...)`; and the weights files they are kept in.

A network is a `torch.nn.Module` that maps images_bcyx (float32, normalised) to logits_bcyx and tells
  stride_px             rows and columns of its input are multiples of this
  receptive_field_px    largest extent of the input that one output pixel sees
  halo_px               largest distance from an output pixel to an input pixel that it sees
"""

import importlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

WEIGHTS_KEYS = ("network", "input", "state_dict")
MAX_DIFFERENCES = 5


def build_network(network: dict[str, Any]) -> nn.Module:
    """Build the network that a preset describes, with fresh weights from torch's global generator.

    Parameters
    ----------
    network : dict
        Section `network` of a preset with its `width`; `architecture` names a module of this package,
        the other keys are the keywords of its `build`.

    Returns
    -------
    nn.Module
        In training mode, on the CPU.
    """
    keywords = dict(network)
    architecture = keywords.pop("architecture")
    built: nn.Module = importlib.import_module(f"cellmill.models.{architecture}").build(**keywords)
    return built


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that training may change."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def write_weights(
    path: str | Path, *, network: dict[str, Any], input: dict[str, Any], state_dict: dict[str, Any]
) -> None:
    """Write a weights file that suffices alone for prediction.

    The bytes do not depend on the file's name: the archive is written through a stream.
    """
    contents = {"network": network, "input": input, "state_dict": state_dict}
    with Path(path).open("wb") as stream:
        torch.save(contents, stream)


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a weights file, or the one inside an exported model.

    Parameters
    ----------
    path : path
        A weights.pt, or a .cellmill archive that holds one.

    Returns
    -------
    dict
        network, input (settings) and state_dict (tensors on the CPU).

    Raises
    ------
    ValueError
        If it is no weights file of cellmill.
    """
    try:
        source: Path | io.BytesIO = Path(path)
        with zipfile.ZipFile(path) as archive:
            if "weights.pt" in archive.namelist():
                source = io.BytesIO(archive.read("weights.pt"))
        contents = torch.load(source, map_location="cpu", weights_only=True)
        missing = [key for key in WEIGHTS_KEYS if key not in contents]
    except (pickle.UnpicklingError, RuntimeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a weights file of cellmill, found something that torch cannot load "
            f"({type(error).__name__}). Give the weights.pt of a run or an exported .cellmill file."
        ) from error
    if missing:
        raise ValueError(
            f"{path}: expected a weights file with {', '.join(WEIGHTS_KEYS)}, found no {', '.join(missing)}. "
            "Give the weights.pt of a run or an exported .cellmill file."
        )
    return dict(contents)


def load_weights(network: nn.Module, state_dict: dict[str, torch.Tensor], *, source: str | Path) -> None:
    """Put weights into a network, all or none.

    Raises
    ------
    ValueError
        If names or shapes differ, with the first differences.
    """
    wanted = network.state_dict()
    differences = [f"{name} is missing" for name in wanted if name not in state_dict]
    differences += [f"{name} is not part of this network" for name in state_dict if name not in wanted]
    differences += [
        f"{name} has shape {tuple(state_dict[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in state_dict and state_dict[name].shape != wanted[name].shape
    ]
    if differences:
        more = len(differences) - MAX_DIFFERENCES
        shown = "; ".join(differences[:MAX_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
        raise ValueError(
            f"{source}: expected the weights of the same network, found {len(differences)} differences: "
            f"{shown}. Give both runs the same architecture, width, levels and norm."
        )
    network.load_state_dict(state_dict)
