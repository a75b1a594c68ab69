"""Progress lines and optional TensorBoard files of a running training."""

import logging
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cellmill.training.lengths import Length
from cellmill.training.state import Row, Training

logger = logging.getLogger(__name__)

# An epoch may last hours, so progress within it is logged at this interval.
PROGRESS_EVERY_S = 60.0

# An environment variable like CELLMILL_DEVICE, not part of the config, so that switching it on reruns nothing.
VARIABLE = "CELLMILL_TENSORBOARD"


class Watcher:
    """Writer of progress lines to the log and, with CELLMILL_TENSORBOARD=folder, of event files in a folder per run."""

    def __init__(self, weights_path: str | Path, *, rank: int) -> None:
        self._said = time.monotonic()
        self._writer: Any = None
        if rank == 0 and (folder := os.environ.get(VARIABLE, "")):
            self._writer = _open_writer(Path(folder) / Path(*Path(weights_path).parent.parts[-2:]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def note_step(self, training: Training, *, length: Length, rate: float) -> None:
        """Log the progress of the epoch if nothing was logged for PROGRESS_EVERY_S."""
        if time.monotonic() - self._said < PROGRESS_EVERY_S:
            return
        self._said = time.monotonic()
        done, step = length.before(training.epoch) + training.step, training.step
        left = training.read_clock() / done * (length.steps - done)
        place = f"{done}/{length.steps}" if length.counts_steps else f"{step}/{length.of(training.epoch)}"
        logger.info(
            "epoch %d/%d, step %s: train loss %.4f, rate %.3g, about %.0f s left",
            training.epoch + 1, length.epochs, place, training.loss_sum / training.patches, rate, left,
            extra={"progress": True},
        )  # fmt: skip

    def note_start(self, row: Row) -> None:
        """Log the scores of the weights that the training starts from, and write them to TensorBoard if in use."""
        self._said = time.monotonic()
        logger.info("start: %s, %.1f s", _say_scores(row), row["seconds"], extra={"progress": True})
        self._write(row)

    def note_epoch(self, row: Row, *, length: Length) -> None:
        """Log the scores of a finished epoch, and write them to TensorBoard if it is in use."""
        self._said = time.monotonic()
        done, seconds = int(row["epoch"] or 0), float(row["seconds"] or 0)
        logger.info(
            "epoch %d/%d%s: %s, rate %.3g, %.1f s, %.0f s left",
            done, length.epochs, f", step {row['step']}/{length.steps}" if length.counts_steps else "",
            _say_scores(row), row["learning_rate"], seconds, seconds * (length.epochs - done),
            extra={"progress": True},
        )  # fmt: skip
        self._write(row)

    def _write(self, row: Row) -> None:
        if self._writer is not None:
            for name, value in row.items():
                if name not in ("epoch", "step") and value is not None and math.isfinite(value):
                    self._writer.add_scalar(name, value, int(row["epoch"] or 0))


def _say_scores(row: Row) -> str:
    names = ("train_loss", "validation_loss", "validation_dice")
    return ", ".join(f"{name.replace('_', ' ')} {row[name]:.4f}" for name in names if row[name] is not None)


def _open_writer(folder: Path) -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            f"{VARIABLE}: expected the package tensorboardX to write {folder}, found it missing from this environment. "
            f"Install it (pip install tensorboardX), or unset {VARIABLE}."
        ) from None
    return SummaryWriter(str(folder))
