"""Choose the device and the precision that networks run in, make training reproducible, and measure memory use."""

import logging
import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

VARIABLE = "CELLMILL_DEVICE"
HALF_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(*, gpu: int) -> torch.device:
    """Return the device that a job runs on.

    Parameters
    ----------
    gpu : int
        The rule's resource: 0 for a CPU job, 1 or more for a GPU job.

    Returns
    -------
    torch.device
        `cuda` where gpu > 0, or `mps` on a Mac whose GPU torch can use, which is untested; else `cpu`. With
        CELLMILL_DEVICE=cpu in the environment always `cpu`.

    Raises
    ------
    ValueError
        If a GPU was requested and none is visible, or if CELLMILL_DEVICE has another value.
    """
    forced = os.environ.get(VARIABLE, "")
    if forced not in ("", "cpu"):
        raise ValueError(
            f"{VARIABLE}: expected cpu or nothing, found {forced!r}. Unset it; the rule's resource gpu chooses the "
            "device."
        )
    if gpu < 1:
        return torch.device("cpu")
    if forced == "cpu":
        logger.warning("%s=cpu: the job requested a GPU but runs on the CPU", VARIABLE)
        return torch.device("cpu")
    if not torch.cuda.is_available():
        if torch.backends.mps.is_available():
            return torch.device("mps")
        raise ValueError(
            f"resource gpu={gpu}: expected a CUDA device, found none (torch {torch.__version__}). "
            "Provide a GPU for the job (partition, driver, a CUDA build of torch), "
            f"or set {VARIABLE}=cpu to run on the CPU."
        )
    return torch.device("cuda")


def is_overridden(*, gpu: int) -> bool:
    """Return whether a job that requested a GPU runs on the CPU because of CELLMILL_DEVICE=cpu."""
    return gpu > 0 and os.environ.get(VARIABLE) == "cpu"


def settle_precision(wanted: str, *, device: torch.device) -> str:
    """Return the precision that a device computes convolutions in.

    Parameters
    ----------
    wanted : "fp32", "bf16" or "fp16"
        The setting.
    device : torch.device

    Returns
    -------
    str
        `wanted` on a GPU that has it in hardware. On a CPU, bf16 where the processor multiplies bfloat16 matrices
        (AMX), which halves the time of a step; other processors emulate it, many times slower than fp32.
        Otherwise fp32.
    """
    if wanted == "bf16":
        if device.type == "cuda":
            has_it = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has_it = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    else:
        has_it = wanted == "fp32" or device.type == "cuda"
    return wanted if has_it else "fp32"


def choose_autocast(wanted: str, *, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a network computes in a precision, see `settle_precision`."""
    half = HALF_TYPES.get(settle_precision(wanted, device=device))
    return nullcontext() if half is None else torch.autocast(device.type, half)


def make_repeatable(*, device: torch.device, seed: int, deterministic: bool) -> None:
    """Configure torch so that training in this process is reproducible.

    Parameters
    ----------
    device : torch.device
        On the CPU all operations of our networks are deterministic; on a GPU, nondeterministic ones raise a warning.
    seed : int
        Seed of torch's global generators, which are used for initial weights and dropout.
    deterministic : bool
        False allows faster GPU operations whose results differ in the last digits from run to run.
    """
    torch.manual_seed(seed)
    if not deterministic and device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        return
    # Read by cuBLAS when its first handle is created.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def name_gpu(device: torch.device) -> str:
    """Return the GPU's product name, or an empty string for the CPU."""
    if device.type == "mps":
        return "Apple GPU"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process so far, in MiB; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        # On Linux, ru_maxrss starts with the memory of the parent process.
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1024  # type: ignore[index]
    if resource is None:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)  # UNIT bytes on macOS, KiB on Linux
