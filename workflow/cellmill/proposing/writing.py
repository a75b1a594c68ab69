"""The text of a proposed config: YAML with a comment for each decision, and a list of the open questions."""

import json
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cellmill.proposing.draft import Draft, Key, Question
from cellmill.proposing.proposal import Proposal

WIDTH = 118
# Texts that YAML reads as they are; anything else is quoted
PLAIN = re.compile(r"[A-Za-z0-9_./~+-][A-Za-z0-9_./~+{}*()=,@ -]*[A-Za-z0-9_./~+}*)-]|[A-Za-z_]")
OTHER_KINDS = re.compile(r"[\d.+_eExXobn-]+|true|false|yes|no|on|off|null|y|n|~|[\d-]+[ :T].*", re.IGNORECASE)
QUESTION = "QUESTION: "


class QuestionLine(NamedTuple):
    """A question with its line in the file, and whether it is open, so that the config is refused without an answer."""

    line: int
    text: str
    is_open: bool


def write_proposal(proposal: Proposal, *, path: str) -> tuple[str, list[QuestionLine]]:
    """Return the text of the config, and its questions.

    Parameters
    ----------
    proposal : Proposal
    path : str
        Path of the file, for the commands in its head.

    Returns
    -------
    str
        YAML.
    list of QuestionLine
    """
    lines = [
        f"# Proposed by snakemake propose --config {shlex.quote(f'look={proposal.folder}')}. It is yours to edit.",
        "# QUESTION marks a decision that the files leave to you. The lines below it are answers: remove the # before",
        "# one of them, and the line above with the proposed answer, if there is one.",
        f"# Next: snakemake check --configfile {shlex.quote(path)}",
        f"# Then: snakemake --configfile {shlex.quote(path)}",
        "# All keys: docs/config.md",
        "",
        "datasets:",
    ]
    for number, draft in enumerate(proposal.drafts):
        lines += [""] if number else []
        lines += _write_draft(draft)
    if proposal.remarks:
        lines += ["", "# Not used:"]
        for remark in proposal.remarks:
            lines += _comment(f"- {remark}", "")
    open_texts = {
        question.text
        for draft in proposal.drafts
        for key in draft.keys
        for question in key.questions
        if question.is_open
    }
    return "\n".join(lines) + "\n", _find_questions(lines, open_texts)


def _find_questions(lines: Sequence[str], open_texts: set[str]) -> list[QuestionLine]:
    found = []
    for number, line in enumerate(lines, start=1):
        _, mark, text = line.partition(f"# {QUESTION}")
        if not mark:
            continue
        follow = number
        while follow < len(lines) and (more := re.fullmatch(r" *#   (?! )(.*)", lines[follow])):
            text += f" {more.group(1)}"
            follow += 1
        found.append(QuestionLine(number, text, text in open_texts))
    return found


def _write_draft(draft: Draft) -> list[str]:
    lines = [f"  {draft.name}:"]
    for key in draft.keys:
        lines += _write_key(key)
    return lines


def _write_key(key: Key) -> list[str]:
    indent = "    "
    lines = [line for text in key.comments for line in _comment(text, indent)]
    inside = key.name == "annotations"
    if key.value is not None:
        lines += _write_value(key.name, key.value, indent)
    for question in key.questions:
        lines += _write_question(question, indent + "  " if inside else indent)
    return lines


def _write_question(question: Question, indent: str) -> list[str]:
    lines = _comment(QUESTION + question.text, indent)
    width = max((len(line) for line, _ in question.choices), default=0)
    for line, said in question.choices:
        lines.append(f"{indent}# {line:<{width}}  # {said}" if said else f"{indent}# {line}")
    return lines


def _write_value(name: str, value: Any, indent: str) -> list[str]:
    """Write a key: sections of annotations over several lines, other sections and lists in one."""
    if name == "annotations":
        return [f"{indent}{name}:"] + [f"{indent}  {key}: {scalar(v)}" for key, v in value.items() if v is not None]
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key}: {scalar(v)}" for key, v in value.items())
        return [f"{indent}{name}: {{{inside}}}"]
    if isinstance(value, list):
        entries = [
            "{" + ", ".join(f"{key}: {scalar(v)}" for key, v in entry.items()) + "}"
            if isinstance(entry, Mapping)
            else scalar(entry)
            for entry in value
        ]
        return [f"{indent}{name}: [{', '.join(entries)}]"]
    return [f"{indent}{name}: {scalar(value)}"]


def scalar(value: Any) -> str:
    """Write a number or a text for YAML, quoted where it would be read as something else."""
    if isinstance(value, int | float):
        return f"{value:g}"
    text = str(value)
    if PLAIN.fullmatch(text) and not OTHER_KINDS.fullmatch(text):
        return text
    return json.dumps(text, ensure_ascii=False)


def _comment(text: str, indent: str, *, follow: str = "  ") -> list[str]:
    """Wrap a comment; further lines are indented."""
    wrapped = textwrap.wrap(
        text, WIDTH - len(indent) - 2, subsequent_indent=follow, break_long_words=False, break_on_hyphens=False
    )
    return [f"{indent}# {line}" for line in wrapped]
