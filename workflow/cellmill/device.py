"""Where the networks run: the CPU, or the GPU that a job asked for."""

import logging
import os
import re
import resource
import sys
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

VARIABLE = "CELLMILL_DEVICE"


def choose_device(*, gpu: int) -> torch.device:
    """Give the device that a job was granted.

    Parameters
    ----------
    gpu : int
        The rule's resource: 0 for a CPU job, 1 or more for a job that was given a GPU.

    Returns
    -------
    torch.device
        `cuda` where gpu > 0, else `cpu`. With CELLMILL_DEVICE=cpu in the environment always `cpu`.

    Raises
    ------
    ValueError
        If a GPU was asked for and none is visible, or if CELLMILL_DEVICE has another value.
    """
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", "cpu"):
        raise ValueError(
            f"{VARIABLE}: expected cpu or nothing, found {forced!r}. Unset it: the resource gpu of the rule chooses."
        )
    if gpu < 1:
        return torch.device("cpu")
    if forced == "cpu":
        logger.warning("%s=cpu: the job asked for a GPU and runs on the CPU", VARIABLE)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(
            f"resource gpu={gpu}: expected a CUDA device, found none (torch {torch.__version__}). "
            "Give the job a GPU (partition, driver, a CUDA build of torch), "
            f"or set {VARIABLE}=cpu to run on the CPU."
        )
    return torch.device("cuda")


def is_overridden(*, gpu: int) -> bool:
    """Say whether a job that asked for a GPU runs on the CPU because CELLMILL_DEVICE=cpu says so."""
    return gpu > 0 and os.environ.get(VARIABLE) == "cpu"


def make_repeatable(*, device: torch.device, seed: int, deterministic: bool) -> None:
    """Make this process train to the same numbers each time.

    Parameters
    ----------
    device : torch.device
        On the CPU all operations of our networks are deterministic; on CUDA those that are not warn.
    seed : int
        Of torch's global generators: initial weights and dropout.
    deterministic : bool
        False lets a GPU choose faster operations whose last digits change from run to run.
    """
    torch.manual_seed(seed)
    if not deterministic and device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        return
    # Read by cuBLAS when its first handle is made.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def name_gpu(device: torch.device) -> str:
    """Give the GPU's product name, or nothing for the CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def peak_memory_mb() -> float:
    """Give the largest resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux begins ru_maxrss with the memory of the process that started this one.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024  # type: ignore[index]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)  # UNIT bytes on macOS, KiB on Linux
