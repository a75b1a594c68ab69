"""Network architectures by name: one module of this package each, with a `build(...)` function.

A network is a `torch.nn.Module` that maps images_bcyx (float32, normalised) to logits_bcyx and has the attributes
  stride_px             rows and columns of the input must be multiples of this
  receptive_field_px    largest receptive field of an output pixel
  halo_px               largest distance from an output pixel to an input pixel that affects it
  is_recurrent          whether it maps (images_btcyx, state) to (logits_btcyx, state): images_btcyx is a window of
                        frames, state the hidden state after the previous window, None at the start of a sequence

A module declares as literals, which the config reads without loading torch (`cellmill.declared`)
  IS_RECURRENT          as above
  HALVINGS              how often the resolution is halved: a number, or a key of the network's settings and a number
                        that is added to its value; the stride is 2 to that power
  CITATIONS             publications behind the architecture, as text and DOI; a bioimage.io package lists them
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypedDict

from torch import nn

from cellmill.models.outputs import OUTPUT_CHANNELS


class NetworkSettings(TypedDict):
    """Settings of a network that all architectures have; each architecture has further ones."""

    architecture: str
    output: str
    base_channels: int
    in_channels: int
    width: float


def build_network(network: Mapping[str, Any]) -> nn.Module:
    """Build the network of a preset, with initial weights drawn from torch's global generator.

    Parameters
    ----------
    network : mapping
        NetworkSettings and the further settings of the architecture. `architecture` is a module of this package and
        `output` a key of OUTPUT_CHANNELS. All others are the keywords of the module's `build`.

    Returns
    -------
    nn.Module
        In training mode, on the CPU.
    """
    keywords: dict[str, Any] = {**network}
    architecture, out_channels = keywords.pop("architecture"), OUTPUT_CHANNELS[keywords.pop("output")]
    built: nn.Module = _module_of(architecture).build(**keywords, out_channels=out_channels)
    return built


def citations_of(architecture: str) -> tuple[tuple[str, str], ...]:
    """Return the publications behind an architecture, as text and DOI."""
    citations: tuple[tuple[str, str], ...] = _module_of(architecture).CITATIONS
    return citations


def count_parameters(network: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def _module_of(architecture: str) -> ModuleType:
    return importlib.import_module(f"cellmill.models.{architecture}")
