"""A training ends with the snakemake that started it, and only with that one."""

import os
import signal
import subprocess
import sys

import pytest

from cellmill.training.checkpoints import VARIABLE, StopRequest


@pytest.fixture
def snakemake():
    """A process in the place of snakemake, which ends when its input is closed."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def test_a_training_that_was_started_alone_never_stops_by_itself(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert not StopRequest().is_made()


def test_a_stop_of_snakemake_stops_the_training(tmp_path, monkeypatch, snakemake):
    monkeypatch.setenv(VARIABLE, f"{tmp_path / 'stop'}:{snakemake.pid}")
    stop = StopRequest()
    assert not stop.is_made()
    (tmp_path / "stop").touch()
    assert stop.is_made()
    assert stop.number == signal.SIGTERM


def test_the_end_of_snakemake_stops_the_training(tmp_path, monkeypatch, snakemake):
    monkeypatch.setenv(VARIABLE, f"{tmp_path / 'stop'}:{snakemake.pid}")
    stop = StopRequest()
    assert not stop.is_made()
    snakemake.kill()
    snakemake.wait()
    assert stop.is_made()


def test_a_snakemake_on_another_machine_is_not_taken_for_an_ended_one(tmp_path, monkeypatch, snakemake):
    snakemake.kill()
    snakemake.wait()
    monkeypatch.setenv(VARIABLE, f"{tmp_path / 'stop'}:{snakemake.pid}")
    assert not StopRequest().is_made()


def test_a_signal_to_the_training_itself_keeps_its_number(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"{tmp_path / 'stop'}:{os.getpid()}")
    (tmp_path / "stop").touch()
    stop = StopRequest()
    stop.number = int(signal.SIGUSR1)
    assert stop.is_made()
    assert stop.number == signal.SIGUSR1
