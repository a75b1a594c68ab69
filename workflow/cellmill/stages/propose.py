"""Stage propose: write a config for a folder of images."""

import logging
import shlex
from pathlib import Path

from cellmill.proposing.draft import Draft, count
from cellmill.proposing.proposal import propose
from cellmill.proposing.writing import QuestionLine, write_proposal

logger = logging.getLogger(__name__)


def propose_config(*, look: str | None, write: str | None) -> None:
    """Look at a folder, and write a config with a comment for each decision and a question where the files are silent.

    Parameters
    ----------
    look : str or None
        Folder with the images. Paths in the config begin with it.
    write : str or None
        New file. None for the name of the folder and .yaml, in the working directory.

    Raises
    ------
    ValueError
        If no folder is set, if it is missing or has no images that can be read, or if the file exists or cannot be
        written.
    """
    if look is None:
        raise ValueError("look: expected a folder with images, found none. Run snakemake propose --config look=FOLDER.")
    path = Path(write or f"{Path(look).resolve().name or 'images'}.yaml")
    _refuse_existing(path)
    # what it finds odd in a header is reported by the check
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    proposal = propose(look)
    text, questions = write_proposal(proposal, path=path.as_posix())
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        _refuse_existing(path)
    except OSError as error:
        raise ValueError(
            f"{path}: expected to write a new config, found: {error.strerror}. Set another file with write=FILE."
        ) from error
    for line in _summary(path, proposal.drafts, questions):
        logger.info(line, extra={"progress": True})


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise ValueError(
            f"{path}: expected a new file, found one that exists, which is never overwritten. Move it away, or name "
            "another: --config look=FOLDER write=FILE."
        )


def _summary(path: Path, drafts: list[Draft], questions: list[QuestionLine]) -> list[str]:
    """Return what was found, the questions, and what to run next."""
    lines = [f"Wrote {path}"]
    for draft in drafts:
        form = draft.values["annotations"]["format"] if draft.annotated else ""
        found = f"{draft.annotated} annotated ({form})" if draft.annotated else "no annotations"
        lines.append(f"  {draft.name}: {count(draft.images, 'image')}, {found}")
    for question in questions:
        need = "needs an answer" if question.is_open else "optional"
        lines.append(f"  {path}, line {question.line} ({need}): {question.text}")
    is_open = any(question.is_open for question in questions)
    lines.append(
        f"Next: {'answer the questions that need it, then ' if is_open else ''}snakemake check --configfile "
        f"{shlex.quote(str(path))}"
    )
    return lines
