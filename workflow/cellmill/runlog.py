"""Log of one job: rule, settings, code digests, package versions, and errors.

This module is exempt from the code digests, so nothing here may change a result.
"""

import atexit
import json
import logging
import os
import platform
import sys
import time
import traceback
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

logger = logging.getLogger(__name__)

REPORTER = "CELLMILL_TERMINAL"  # set to `main` by the main process if it reports the errors of its jobs
MESSAGE = "Error: "
PARTS = ("train", "validation", "test", "unlabelled", "fold")
TRACEBACK = "Traceback (most recent call last):"
MAX_SETTINGS_CHARACTERS = 4000
RECORDED_PACKAGES = (
    "numpy", "scipy", "scikit-image", "scikit-learn", "tifffile", "imagecodecs", "pandas", "torch",
)  # fmt: skip


def start_log(path: str | Path, *, rule: str, params: Mapping[str, Any]) -> None:
    """Write this process's log records to a file. Warnings, progress and errors also go to the terminal.

    Parameters
    ----------
    path : path
        The log file of the rule; overwritten.
    rule : str
        Name of the rule.
    params : mapping
        `settings` and `code` of the job, written at the head of the log.

    Notes
    -----
    A ``ValueError`` is a message for the user and is shown on the terminal without a traceback. Any other
    exception is a bug and keeps its traceback. The log contains the traceback in both cases.
    Warnings and progress go to the terminal only with CELLMILL_PROGRESS=1, the default. With CELLMILL_TERMINAL=main,
    the main process reports errors and counts shards, so the job shows neither.
    """
    path = Path(path)
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
    formatter.converter = time.gmtime  # UTC, so that logs of several machines can be compared
    # Emptied, then opened in append mode: a crash is written through a second handle, and a handle in write mode would
    # overwrite it.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text("", encoding="utf-8")
    except OSError as error:
        sys.excepthook = _excepthook
        raise ValueError(
            f"{path}: expected to write a log, found {error.strerror}. Make its folder writable or free some space, "
            "then run the same command again: it goes on from here."
        ) from error
    # A log on a full disk must not hide the job's own message behind a traceback for each record.
    logging.raiseExceptions = False
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    if os.environ.get("CELLMILL_PROGRESS", "1") == "1":
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setFormatter(logging.Formatter(f"[{_short_name(path)}] %(message)s"))
        counts_itself = not (_is_reported_by_main() and _is_of_shard(path))
        terminal.addFilter(lambda record: record.levelno >= logging.WARNING or (counts_itself and _is_progress(record)))
        root.addHandler(terminal)
    logging.captureWarnings(True)
    sys.excepthook = _excepthook

    settings = json.dumps(params.get("settings", {}), ensure_ascii=False, sort_keys=True)
    if len(settings) > MAX_SETTINGS_CHARACTERS:
        settings = settings[:MAX_SETTINGS_CHARACTERS] + f"… ({len(settings)} characters)"
    logger.info("rule %s", rule)
    logger.info("settings %s", settings)
    logger.info("code %s", json.dumps(params.get("code", {})))
    logger.info("versions %s", json.dumps(package_versions()))
    atexit.register(_log_loaded_modules)


def _log_loaded_modules() -> None:
    """Log the library modules that the job loaded as the last line of the log; `code` must cover them."""
    logger.info("loaded %s", json.dumps(sorted(name for name in sys.modules if name.startswith("cellmill"))))


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the installed packages that process pixels."""
    versions = {"python": platform.python_version()}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _is_progress(record: logging.LogRecord) -> bool:
    """Return whether a record was logged with ``extra={"progress": True}``, which sends it to the terminal."""
    return bool(getattr(record, "progress", False))


def _short_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return "/".join(parts[parts.index("logs") + 1 :] if "logs" in parts else parts[-2:])


def _is_of_shard(path: Path) -> bool:
    """Return whether a log is that of a shard, such as ``train-0001.log``."""
    part, _, number = path.stem.rpartition("-")
    return part.rstrip("0123456789") in PARTS and number.isdecimal() and len(number) >= 4


def _is_reported_by_main() -> bool:
    return os.environ.get(REPORTER) == "main"


def describe_damage(error: BaseException) -> str:
    """Describe a package that is missing or damaged, which is seen when it is imported.

    Parameters
    ----------
    error : exception
        Any error, with its traceback.

    Returns
    -------
    str
        The message for the user; "" if the error did not come up while a package was imported.
    """
    # The first frame is the script. The code of a module runs in a frame named <module>.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][1:]
    modules = [str(frame.f_globals.get("__name__", "")) for frame in frames if frame.f_code.co_name == "<module>"]
    foreign = next((name for name in modules if name.partition(".")[0] not in ("cellmill", "__main__")), "")
    if isinstance(error, ImportError) and not foreign:
        foreign = error.name or ""
    package = foreign.partition(".")[0]
    # A file that is no Python has no frame, and one of zeros, as a power cut leaves it, has no name either.
    is_unread = isinstance(error, SyntaxError) and Path(__file__).parent not in Path(error.filename or "").parents
    if package == "cellmill" or not (package or is_unread):
        return ""
    folder = Path(sys.prefix)
    is_of_conda = folder.parent.name == "conda" and folder.parent.parent.name == ".snakemake"
    then = (
        "Remove this folder, then run the same command again, which makes it anew."
        if is_of_conda
        else "Install the pinned packages anew: if make has made this folder, remove it, then run make environment."
    )
    return (
        f"{folder}: expected the package {package or 'that is imported'} as pinned, found that its import fails "
        f"({type(error).__name__}: {error}). The environment is incomplete or damaged. {then}"
    )


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    message = describe_damage(error) or (str(error) if isinstance(error, ValueError) else "")
    shown = f"\n{MESSAGE}{message}\n\n" if message else text
    is_logged = True
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.acquire()
            try:
                with Path(handler.baseFilename).open("a", encoding="utf-8") as log:
                    log.write(text if shown is text else text + shown)
            except OSError:  # the log is on the full disk, too, so the main process cannot read the message there
                is_logged = False
            handler.release()
    if not (is_logged and _is_reported_by_main()):
        sys.stderr.write(shown)
        sys.stderr.flush()
