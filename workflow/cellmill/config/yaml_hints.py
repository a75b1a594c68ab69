"""Messages for mistakes in the syntax of a config file: line, column, the line itself, and a hint for the slip."""

import re
from collections.abc import Callable

import yaml

_PLACEHOLDER = re.compile(r"[^\s,\[\]{}\"']*(?:\{\w+\}[^\s,\[\]{}\"']*)+")
# Quotes and blanks that word processors and web pages put in place of those of a keyboard.
FOREIGN = re.compile("[\u2018-\u201f\u00ab\u00bb\u00a0\u2000-\u200b\u202f\u3000]")
# A list item without a blank after its dash, which YAML reads as a text; not a negative number
GLUED_DASH = re.compile("-[A-Za-z{\\[\"']")
_ESCAPES = ("unknown escape character", "escape sequence of")


def syntax_mistake(text: str, error: yaml.YAMLError) -> str:
    """Return the message for a text that PyYAML cannot read: place, expected and found, repair, and the line itself.

    It is to be put after the path of the file.
    """
    lines = text.splitlines() or [""]
    line, column, message = _explained(text, lines, error)
    shown = lines[line].replace("\t", "→   ") if line < len(lines) else ""
    mark = " " * len(lines[line][:column].replace("\t", "→   ")) + "^" if line < len(lines) else ""
    quoted = f"\n      {shown}\n      {mark}" if shown.strip() else ""
    return f", line {line + 1}, column {column + 1}: {message}{quoted}"


def foreign(sign: str) -> str:
    """Return the message for a quote or blank that YAML does not read as one."""
    if sign in "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb":
        return f"expected straight quotes, found {sign} (U+{ord(sign):04X}). Write \" or ' in its place."
    return f"expected a blank, found the sign U+{ord(sign):04X} that only looks like one. Write a blank in its place."


def _explained(text: str, lines: list[str], error: yaml.YAMLError) -> tuple[int, int, str]:
    """Return line and column, counted from 0, and the message."""
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        letter = f"U+{error.character:04X}" if isinstance(error.character, int) else repr(error.character)
        column = error.position - before.rfind("\n") - 1
        return before.count("\n"), column, f"expected plain text, found the control character {letter}. Remove it."
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return 0, 0, f"expected YAML, found an error: {error}. Correct the file."
    at = _inside((error.problem_mark.line, error.problem_mark.column), lines)
    since = _inside((error.context_mark.line, error.context_mark.column), lines) if error.context_mark else at
    problem, context = error.problem or "", error.context or ""
    for hint in _HINTS:
        found = hint(problem, context, lines, at, since)
        if found is not None:
            return found
    return *at, f"expected YAML, found an error: {problem}. Correct this line or the one above."


Place = tuple[int, int]
Hint = tuple[int, int, str] | None


def _inside(at: Place, lines: list[str]) -> Place:
    """Return the place itself, or the end of the last line with text if it is behind the end of the file."""
    last = max((number for number, line in enumerate(lines) if line.strip()), default=0)
    return at if at[0] <= last else (last, len(lines[last].rstrip()))


def _backslash(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    if not any(words in problem for words in _ESCAPES):
        return None
    line = lines[since[0]]
    end = line.find('"', since[1] + 1)
    path = line[since[1] + 1 : end if end > 0 else len(line)]
    return *since, (
        "expected a path, found backslashes in double quotes, where YAML reads them as control characters. Use single "
        f"quotes or forward slashes: '{path.replace(chr(92), '/')}'."
    )


def _foreign_sign(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    for number in dict.fromkeys((at[0], max(at[0] - 1, 0), since[0])):
        text = re.split(r"(?:^|\s)#", lines[number], maxsplit=1)[0]
        sign = next((found for found in FOREIGN.finditer(text) if not _is_quoted(text, found.start())), None)
        if sign:
            return number, sign.start(), foreign(sign.group())
    return None


def _tabulator(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    for number in range(min(at[0] + 1, len(lines))):
        indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
        if "\t" in indent and lines[number].strip() and number >= min(since[0], at[0] - 1):
            return (
                number,
                indent.index("\t"),
                ("expected an indentation of blanks, found a tabulator. Replace each tabulator by blanks."),
            )
    if "'\\t'" in problem:
        return *at, "expected a blank, found a tabulator. Replace each tabulator by blanks."
    return None


def _braces(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    for number in dict.fromkeys((at[0], max(at[0] - 1, 0), since[0])):
        if number >= len(lines) or not 0 <= at[0] - number <= 1:
            continue
        for found in _PLACEHOLDER.finditer(lines[number]):
            begins_or_is_inside = found.group().startswith("{") or "flow" in context
            if begins_or_is_inside and not _is_quoted(lines[number], found.start()):
                return (
                    number,
                    found.start(),
                    (f'expected quotes around a text with braces, found none. Quote it: "{found.group()}".'),
                )
    return None


def _is_quoted(line: str, column: int) -> bool:
    """Return whether a column of a line is between quotes that open in the same line."""
    inside = ""
    for letter in line[:column]:
        if inside:
            inside = "" if letter == inside else inside
        elif letter in "\"'":
            inside = letter
    return bool(inside)


def _open_quote(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    if "quoted scalar" in context:
        return *since, "expected a closing quote, found none. Close the quote that opens here."
    # A quote that is left open closes at the next one, so the error is reported there.
    for token in _tokens("\n".join(lines)):
        is_quoted = isinstance(token, yaml.ScalarToken) and token.style in ('"', "'")
        start, end = token.start_mark, token.end_mark
        if is_quoted and start.line < end.line <= at[0] and at[0] - end.line <= 1:
            return (
                start.line,
                start.column,
                (
                    f"expected a closing quote in this line, found the next quote in line {end.line + 1}. Close the "
                    "quote that opens here."
                ),
            )
    line = lines[at[0]] if at[0] < len(lines) else ""
    if "<scalar>" in problem and any(line[: at[1]].rstrip().endswith(quote) for quote in "\"'"):
        return *at, (
            "expected the end of the line after a text in quotes, found more text. Put the quotes around the whole "
            "text; write a quote inside single quotes twice."
        )
    return None


def _tokens(text: str) -> list[yaml.Token]:
    """List the tokens of a text up to its first mistake."""
    tokens = []
    try:
        for token in yaml.scan(text, Loader=yaml.FullLoader):
            tokens.append(token)
    except yaml.YAMLError:
        pass
    return tokens


def _open_bracket(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    if "flow" not in context:
        return None
    opening = lines[since[0]][since[1] : since[1] + 1]
    if opening not in ("[", "{"):  # the place of an entry, not of the bracket
        opens = _innermost_bracket(lines)
        since = opens or since
        opening = lines[since[0]][since[1]] if opens else "bracket"
    closing = {"[": "]", "{": "}"}.get(opening, "bracket")
    if since[0] != at[0] or "<stream end>" in problem:
        return *since, f"expected a closing {closing}, found none. Close the {opening} that opens here."
    return *at, (
        f"expected a comma or a closing {closing}, found other text. Separate the entries by commas, close the "
        f"{opening} of column {since[1] + 1}, and quote texts with brackets or colons."
    )


def _innermost_bracket(lines: list[str]) -> Place | None:
    """Return the place of the last bracket that is open before the first mistake."""
    opened: list[Place] = []
    for token in _tokens("\n".join(lines)):
        if isinstance(token, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken):
            opened.append((token.start_mark.line, token.start_mark.column))
        elif isinstance(token, yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken) and opened:
            opened.pop()
    return opened[-1] if opened else None


def _special_start(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    line = lines[at[0]] if at[0] < len(lines) else ""
    if "undefined alias" in problem:
        text = line[at[1] :].split(" ")[0].rstrip(",]}")
        return *at, (
            f'expected an anchor &{text.lstrip("*")} above, found none. Quote the text if it is a pattern: "{text}".'
        )
    is_inside = context.startswith(("while scanning an alias", "while scanning an anchor", "while scanning a tag"))
    if "cannot start any token" in problem or is_inside or "determine a constructor" in problem:
        start = since if is_inside else at
        text = lines[start[0]][start[1] :].split(" #")[0].rstrip()
        return *start, (
            f'expected a text, found {text[:1]}, which has a special meaning at the start. Quote the text: "{text}".'
        )
    return None


def _colon(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    if "could not find expected ':'" in problem:
        line = lines[since[0]].strip()
        blank = re.match(r"[\w-]+:\S", line)
        advice = "Put a blank after the colon" if blank else "Write the name of a key, a colon and a blank"
        return *since, f"expected a key with a colon, found {line!r}. {advice}."
    if "mapping values are not allowed" not in problem:
        return None
    line = lines[at[0]]
    first = re.match(r"\s*(?:- )*[\w .-]+:\s+(?P<value>[^\s\"'].*)$", line)
    if first and first.start("value") < at[1]:
        return *at, (
            "expected the end of the text, found another colon. Quote a text with a colon and a blank: "
            f'"{first.group("value")}".'
        )
    above = [n for n in range(at[0]) if lines[n].strip() and lines[n].lstrip()[0] != "#"]
    for number in (*above[-1:], at[0]):
        without = re.match(r"\s*(?:- )*[\w-]+(?::\S\S*|\s+[\[{\"'].*)?\s*$", lines[number])
        if without and (number != at[0] or re.search(r"[\[{\"']", line[: at[1]])):
            return (
                number,
                len(lines[number]) - len(lines[number].lstrip()),
                ("expected a key, a colon and a blank, found no colon with a blank. Write them, as in `key: value`."),
            )
    return _indented(at[0], lines)


def _indent(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    is_block = "expected <block end>" in problem or "<document start>" in problem
    return _indented(min(at[0], len(lines) - 1), lines) if is_block else None


def _indented(number: int, lines: list[str]) -> Hint:
    """Return the message for a line whose indentation fits no section above it."""
    own = _first(lines[number])
    above = [n for n in range(number) if lines[n].strip() and lines[n].lstrip()[0] != "#"]
    near = f", where line {above[-1] + 1} begins in column {_first(lines[above[-1]])}" if above else ""
    return (
        number,
        own - 1,
        (
            f"expected the indentation of a section above, found text in column {own}{near}. Begin the keys of one "
            "section in the same column."
        ),
    )


def _first(line: str) -> int:
    return len(line) - len(line.lstrip()) + 1


def _dash(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    above = [n for n in range(min(at[0], len(lines))) if lines[n].strip() and lines[n].lstrip()[0] != "#"]
    for number in (at[0], *above[-1:]):
        line = lines[number] if number < len(lines) else ""
        if GLUED_DASH.match(line.lstrip()):
            return number, _first(line) - 1, glued(line.strip().split(" ")[0])
    return None


def glued(item: str) -> str:
    """Return the message for a list item whose dash has no blank after it."""
    return f"expected a blank after the dash of a list item, found {item}. Write - {item[1:]}."


def _documents(problem: str, context: str, lines: list[str], at: Place, since: Place) -> Hint:
    if "single document" not in context and "but found another document" not in problem:
        return None
    return *at, "expected one config, found a second one after ---. Remove the line ---, or use two files."


_HINTS: tuple[Callable[[str, str, list[str], Place, Place], Hint], ...] = (
    _foreign_sign, _backslash, _tabulator, _dash, _braces, _open_quote, _open_bracket, _special_start, _documents,
    _colon, _indent,
)  # fmt: skip
