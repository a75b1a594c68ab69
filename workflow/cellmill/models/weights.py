"""Weights files: networks of a run with their settings and weights."""

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

WEIGHTS_KEYS = ("network", "input", "state_dict")
MAX_DIFFERENCES = 5
# Name of a weights file inside an exported model, equal to `cellmill.exports.model_file.WEIGHTS` (tested). That module
# is not imported, because its edits would then rerun trainings and predictions.
EXPORTED_NAME = "weights.pt"
# Prefix of the network's number in the tensor names of a file that holds several networks
MEMBER = "member"


def write_weights(
    path: str | Path, *, network: Mapping[str, Any], input: Mapping[str, Any], state_dict: dict[str, Any]
) -> None:
    """Write a weights file that holds everything needed for prediction.

    The archive is written through a stream, so that its bytes do not depend on the file's name.
    """
    contents = {"network": network, "input": input, "state_dict": state_dict}
    with Path(path).open("wb") as stream:
        torch.save(contents, stream)


def read_weights(path: str | Path) -> dict[str, Any]:
    """Read a weights file, or the weights inside an exported model.

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
        If it is not a weights file of cellmill.
    """
    try:
        source: Path | io.BytesIO = Path(path)
        with zipfile.ZipFile(path) as archive:
            # torch does not verify the checksums: a flipped bit would go unnoticed as a wrong weight.
            if (damaged := archive.testzip()) is not None:
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
            if EXPORTED_NAME in archive.namelist():
                source = io.BytesIO(archive.read(EXPORTED_NAME))
        contents = torch.load(source, map_location="cpu", weights_only=True)
        missing = [key for key in WEIGHTS_KEYS if key not in contents]
    except (pickle.UnpicklingError, RuntimeError, TypeError, LookupError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path}: expected a weights file of cellmill, found a file that torch cannot load "
            f"({type(error).__name__}). Use the weights.pt of a run or an exported .cellmill file."
        ) from error
    if missing:
        raise ValueError(
            f"{path}: expected a weights file with {', '.join(WEIGHTS_KEYS)}, found no {', '.join(missing)}. "
            "Use the weights.pt of a run or an exported .cellmill file."
        )
    return dict(contents)


def join_members(files: Sequence[tuple[str | Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """Join the weights of several networks with equal settings, to average their predictions.

    Parameters
    ----------
    files : sequence of (path, contents)
        Contents from `read_weights`, at least one.

    Returns
    -------
    dict
        Arguments of `write_weights`: network, input, and state_dict with the member's number before each name.

    Raises
    ------
    ValueError
        If networks or inputs differ.
    """
    first_path, first = files[0]
    joined: dict[str, torch.Tensor] = {}
    for number, (path, contents) in enumerate(files):
        if contents["network"] != first["network"] or contents["input"] != first["input"]:
            raise ValueError(
                f"{path}: expected the same network and input as in {first_path}, so that predictions can be averaged, "
                "found different ones. Train both with the same settings."
            )
        joined |= {f"{MEMBER}{number}.{name}": tensor for name, tensor in contents["state_dict"].items()}
    return {"network": first["network"], "input": first["input"], "state_dict": joined}


def read_one_network(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a weights file or an exported model, to start a training from them.

    Raises
    ------
    ValueError
        If it is not a weights file of cellmill, or holds the networks of several seeds.
    """
    members = split_members(read_weights(path))
    if len(members) != 1:
        raise ValueError(
            f"{path}: expected the weights of one network to start from, found the average of {len(members)}. Use the "
            "model of one seed."
        )
    return members[0]


def split_members(weights: Mapping[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Split a weights file into one state_dict per network; a file not made by `join_members` holds one."""
    members: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in weights["state_dict"].items():
        member, rest = name.split(".", 1) if name.startswith(MEMBER) else ("", name)
        members.setdefault(member, {})[rest] = tensor
    return list(members.values())


def load_weights(network: nn.Module, state_dict: dict[str, torch.Tensor], *, source: str | Path) -> None:
    """Load weights into a network, all or none.

    Raises
    ------
    ValueError
        If names or shapes differ; the message lists the first differences.
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
            f"{shown}. Use the same architecture, width, levels and norm in both runs."
        )
    network.load_state_dict(state_dict)


def load_matching(
    network: nn.Module, state_dict: dict[str, torch.Tensor], *, source: str | Path
) -> tuple[list[str], list[str]]:
    """Load into a network those weights whose name and shape match.

    Returns
    -------
    taken, left : list of str
        Names of the network's weights that were loaded, and of those left unchanged.

    Raises
    ------
    ValueError
        If none matches.
    """
    wanted = network.state_dict()
    taken = [name for name in wanted if name in state_dict and state_dict[name].shape == wanted[name].shape]
    if not taken:
        raise ValueError(
            f"{source}: expected some weights that fit this network, found none with the same name and shape. "
            "Use the same architecture and width in both runs."
        )
    network.load_state_dict({name: state_dict[name] for name in taken}, strict=False)
    return taken, [name for name in wanted if name not in taken]
