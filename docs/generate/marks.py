"""Replace the generated part of a page that is otherwise written by hand; two marks enclose it."""

from pathlib import Path


def replace_marked(path: Path, text: str, *, begin: str, end: str) -> str:
    """Return the text of a page with another part between its marks.

    Parameters
    ----------
    path : Path
        The page.
    text : str
        What is put between the marks, with its own empty lines.
    begin, end : str
        The marks.

    Raises
    ------
    ValueError
        If the page does not have both marks.
    """
    head, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(
            f"{path}: expected the marks {begin} and {end}, found {found_begin or 'none'}. Write both again."
        )
    return f"{head}{begin}{text}{end}{tail}"
