"""Check of path patterns in the config: {name} marks a part of a path, * any text within a name, ** any folders."""

import re

# A part of a path that a pattern names, such as {sample}
WILDCARD = r"\{([A-Za-z_][A-Za-z0-9_]*)\}"
# Text in braces that is no wildcard; a constraint such as {sample,[0-9]{3}} has braces inside
_IN_BRACES = re.compile(r"\{+([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}+")


def check_pattern(pattern: str) -> str:
    """Return a pattern unchanged if its wildcards and stars are valid.

    Raises
    ------
    ValueError
        With the valid spelling, if a wildcard has a constraint, a number format or an invalid name, if a brace is not
        closed, or if ** is not a folder.
    """
    rest = re.sub(rf"(?<!\{{){WILDCARD}(?!\}})", "", pattern)
    if "{" in rest or "}" in rest:
        raise ValueError(f"expected wildcards such as {{sample}}, found {_explain_braces(rest, pattern)}")
    parts = pattern.split("/")
    if any("**" in part and part != "**" for part in parts) or parts[-1] == "**":
        raise ValueError(
            f"expected ** as a folder of the path, found {pattern!r}. Write **/ for folders of any depth, such as "
            "data/**/{sample}.tif, and * for any text within a name"
        )
    return pattern


def _explain_braces(rest: str, pattern: str) -> str:
    match = _IN_BRACES.search(rest)
    if match is None:
        return f"unmatched braces in {pattern!r}. Close each brace"
    found, text = match.group(), match.group(1).strip()
    name = re.split(r"[,:!\s]", text)[0]
    if "," in text:
        return (
            f"{found} with a constraint in {pattern!r}. Write {{{_valid(name)}}}; a wildcard matches any text within a "
            "name, and the key exclude of the dataset leaves files out"
        )
    if ":" in text or "!" in text:
        return (
            f"{found} with a number format in {pattern!r}. Write {{{_valid(name)}}}; numbers are matched with and "
            "without leading zeros"
        )
    return (
        f"{found} in {pattern!r}. Write {{{_valid(text)}}}: the name of a wildcard consists of letters, digits and _, "
        "in single braces, and is spelt alike in all patterns"
    )


def _valid(name: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "sample"
    return f"_{cleaned}" if cleaned[0].isdigit() else cleaned
