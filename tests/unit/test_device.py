"""Devices: a job that requests a GPU never falls back to the CPU silently."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cellmill.device import choose_device, is_overridden, make_repeatable, name_gpu, peak_memory_mb, settle_precision
from project import ROOT


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.delenv("CELLMILL_DEVICE", raising=False)


def test_a_job_without_gpu_runs_on_the_cpu(no_cuda):
    assert choose_device(gpu=0).type == "cpu"


def test_a_job_that_asked_for_a_gpu_and_sees_none_fails_and_names_the_way_past(no_cuda):
    with pytest.raises(ValueError, match=r"resource gpu=1: expected a CUDA device.*CELLMILL_DEVICE=cpu"):
        choose_device(gpu=1)


def test_a_gpu_that_is_there_is_taken(no_cuda, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(gpu=2).type == "cuda"


def test_the_gpu_of_a_mac_is_taken_where_there_is_no_other(no_cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device = choose_device(gpu=1)
    assert (device.type, choose_device(gpu=0).type, name_gpu(device)) == ("mps", "cpu", "Apple GPU")
    assert [settle_precision(wanted, device=device) for wanted in ("fp32", "bf16", "fp16")] == ["fp32"] * 3
    monkeypatch.setenv("CELLMILL_DEVICE", "cpu")
    assert choose_device(gpu=1).type == "cpu"


def test_peak_memory_is_0_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr("cellmill.device.resource", None)
    monkeypatch.setattr("cellmill.device.Path", lambda _: Path("/nowhere"))
    assert peak_memory_mb() == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_the_override_is_obeyed_and_logged(no_cuda, monkeypatch, caplog, is_there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setenv("CELLMILL_DEVICE", "cpu")
    with caplog.at_level(logging.WARNING):
        assert choose_device(gpu=1).type == "cpu"
    assert "the job requested a GPU but runs on the CPU" in caplog.text


def test_only_a_job_that_asked_for_a_gpu_is_overridden(monkeypatch):
    monkeypatch.setenv("CELLMILL_DEVICE", "cpu")
    assert is_overridden(gpu=1)
    assert not is_overridden(gpu=0)
    monkeypatch.delenv("CELLMILL_DEVICE")
    assert not is_overridden(gpu=1)


def test_another_override_is_refused(no_cuda, monkeypatch):
    monkeypatch.setenv("CELLMILL_DEVICE", "cuda:1")
    with pytest.raises(ValueError, match="CELLMILL_DEVICE: expected cpu or nothing, found 'cuda:1'"):
        choose_device(gpu=1)


def test_the_seed_decides_torchs_numbers():
    drawn = []
    for _ in range(2):
        make_repeatable(device=torch.device("cpu"), seed=5, deterministic=True)
        drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.are_deterministic_algorithms_enabled()


def test_the_cpu_has_no_gpu_name():
    assert name_gpu(torch.device("cpu")) == ""


def test_peak_memory_is_that_of_a_process_with_torch():
    assert 50 < peak_memory_mb() < 100_000


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="Linux only: elsewhere a process starts from nothing"
)
def test_peak_memory_does_not_begin_with_that_of_the_parent():
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'workflow')!r}); import torch; "
        "from cellmill.device import peak_memory_mb; print(peak_memory_mb())"
    )
    outer = (
        f"ballast = b'1' * (2 * 10**9); import subprocess, sys; "
        f"print(subprocess.run([sys.executable, '-c', {script!r}], capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1500
