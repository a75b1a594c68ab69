"""Message for a file that a decoder cannot read."""

from pathlib import Path


def explain(error: Exception, *, path: Path, kind: str) -> ValueError:
    """Convert a decoder's error to a ValueError with the path; return errors that already have it unchanged."""
    if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ValueError(
        f"{path}: expected a readable {kind} image, found a damaged one ({reason}). "
        "Copy the file again from its source."
    )
