"""The meaning of the parts of names: frames of sequences, channels, and wildcards for the rest."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cellmill.proposing.draft import Question, count
from cellmill.proposing.evidence import compare_neighbours, is_sequence
from cellmill.proposing.families import Family, fix_folder, restrict
from cellmill.proposing.patterns import WHOLE, Naming, Span

# Frames of a typical sequence, below which numbers are no frames
FEWEST_FRAMES = 3
# Share of a range of numbers that is there
CONSECUTIVE = 0.9
MOST_CHANNELS = 8
# Images that have to have the same words at their ends, if the words are no known stains
FEWEST_OF_WORDS = 3
NUCLEAR = ("dapi", "hoechst", "nuclei", "nucleus", "dna", "draq5")


@dataclass
class Named:
    """Wildcards of a family, and what is to be said of them."""

    naming: Naming
    comments: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    frames: int = 0
    sequences: int = 0


@dataclass(frozen=True)
class Channels:
    """Channels in separate files: the family of each, by the text in the names."""

    families: dict[str, Family]


def find_channels(family: Family) -> Channels | None:
    """Sort the files of a family by channel, if most images have a file for each; None otherwise."""
    for level, name in enumerate(family.folder_names):
        if name == "channel" and (found := _by_folder(family, level, is_word=False)):
            return Channels(found)
    # columns that are named as channels first
    for place in sorted(family.table.varying, key=lambda place: family.table.columns[place].meaning != "channel"):
        if found := _by_column(family, place):
            return Channels(found)
    return None


def find_parallels(family: Family) -> list[dict[str, Family]]:
    """List the ways to sort the files of a family so that each part has the same names: by a word, or by a folder."""
    found = [_by_folder(family, level, is_word=True) for level, _ in enumerate(family.folder_names)]
    found += [_by_column(family, place) for place in family.table.varying]
    return [families for families in found if families]


def _by_folder(family: Family, level: int, *, is_word: bool) -> dict[str, Family]:
    texts = [place[level] for place in family.places]
    rest = [
        (*place[:level], *place[level + 1 :], file.stem)
        for place, file in zip(family.places, family.files, strict=True)
    ]
    found = _by_channel(family, texts, rest, is_word=is_word)
    return {text: fix_folder(one, level) for text, one in found.items()}


def _by_column(family: Family, place: int) -> dict[str, Family]:
    column = family.table.columns[place]
    texts = [column.values[row] for row in family.rows]
    is_word = not column.meaning and not all(text.isdecimal() for text in texts)
    if column.meaning != "channel" and not is_word:
        return {}
    keys = family.table.keys(without=[place])
    rest = [(*spot, *keys[row]) for spot, row in zip(family.places, family.rows, strict=True)]
    return _by_channel(family, texts, rest, is_word=is_word)


def _by_channel(family: Family, texts: list[str], rest: list[tuple[str, ...]], *, is_word: bool) -> dict[str, Family]:
    """Return the files of each channel if at least half of the images have several; for words, if all have each."""
    values = sorted(set(texts))
    if not 2 <= len(values) <= MOST_CHANNELS:
        return {}
    counts = Counter(rest)
    several = sum(number > 1 for number in counts.values())
    if several < 0.5 * len(counts) or max(counts.values()) > len(values):
        return {}
    if is_word and (len(counts) < FEWEST_OF_WORDS or any(number != len(values) for number in counts.values())):
        return {}
    return {value: restrict(family, [number for number, text in enumerate(texts) if text == value]) for value in values}


def choose_channel(channels: Channels) -> str:
    """Return the channel of the nuclei, if its name tells, else the first."""
    return next(filter(is_nuclear, channels.families), next(iter(channels.families)))


def is_nuclear(text: str) -> bool:
    """Return whether a text is the name of a stain of nuclei."""
    return text.lower() in NUCLEAR


def name_parts(family: Family, *, path_of: Callable[[int], str], may_be_frames: bool) -> Named:
    """Choose wildcards for the folders and names of a family of images.

    Parameters
    ----------
    family : Family
        Images, of one channel.
    path_of : function
        Path of a file by its number.
    may_be_frames : bool
        False if the files are stacks of frames.
    """
    found = _name_frames(family, path_of=path_of) if may_be_frames else None
    if found is not None:
        return found
    folders = tuple(family.folder_names)
    is_one_each = bool(folders) and len(set(family.places)) == len(family.places)
    if is_one_each:  # a folder for each image
        return Named(Naming((*folders[:-1], "sample"), ()))
    known = {family.table.columns[place].meaning for place in family.table.varying} & {"well", "channel", "plate"}
    if not known:
        return Named(Naming(folders, WHOLE))
    return Named(Naming(folders, _all_spans(family)), questions=_ask_single_channels(family))


def _ask_single_channels(family: Family) -> list[Question]:
    """Ask about channels of which no image has several."""
    place = family.table.find("channel")
    if place is None:
        return []
    column = family.table.columns[place]
    counts = sorted(Counter(column.values[row] for row in family.rows).items())
    found = ", ".join(f"{column.before.strip(' _-')}{text} ({number})" for text, number in counts[:MOST_CHANNELS])
    return [
        Question(
            f"The names tell {count(len(counts), 'channel')}, but no image has several: {found}. Are all to be read? "
            f"For one of them only, write its text in place of {{{column.name}}}."
        )
    ]


def _all_spans(family: Family) -> tuple[Span, ...]:
    """Return a wildcard for each varying column; columns without a text between them have one in common."""
    spans: list[Span] = []
    for rank, place in enumerate(family.table.varying):
        column = family.table.columns[place]
        is_glued = not column.before and rank > 0 and family.table.varying[rank - 1] == place - 1
        if column.meaning == "random":
            continue
        if is_glued and spans and spans[-1].last == rank - 1:
            spans[-1] = Span(spans[-1].first, rank, spans[-1].name)
        else:
            # {frame} numbers the frames of sequences, and these are single images
            spans.append(Span(rank, rank, "time" if column.name == "frame" else column.name))
    return tuple(spans)


def column_spans(family: Family) -> tuple[Span, ...]:
    """Return the wildcards by which annotations are tied: {sample} for a single column, else one for each."""
    spans = _all_spans(family)
    return (Span(0, 0, "sample"),) if len(family.table.varying) == 1 else spans


def _name_frames(family: Family, *, path_of: Callable[[int], str]) -> Named | None:
    """Return the wildcards of sequences and frames; None if the names have none."""
    place = _frame_place(family)
    if place is None:
        return None
    ranks = {column: rank for rank, column in enumerate(family.table.varying)}
    others = [rank for column, rank in ranks.items() if column != place]
    keys = family.table.keys(without=[place])
    groups = [(*spot, *keys[row]) for spot, row in zip(family.places, family.rows, strict=True)]
    sequences: dict[tuple[str, ...], list[int]] = {}
    for number, group in enumerate(groups):
        sequences.setdefault(group, []).append(number)
    frames = int(np.median([len(members) for members in sequences.values()]))
    if frames < FEWEST_FRAMES:
        return None
    texts = family.table.columns[place].values
    for members in sequences.values():
        members.sort(key=lambda number: _order(texts[family.rows[number]]))
    comments = []
    if not family.table.columns[place].meaning:
        longest = max(sequences.values(), key=len)
        said = _compare([texts[family.rows[number]] for number in longest], [path_of(number) for number in longest])
        if not said:
            return None
        comments.append(said)
    rank = ranks[place]
    inside = set(range(min(others, default=0), max(others, default=-1) + 1))
    outer = [column for column in family.table.varying if column != place] or [0]
    is_fixed_inside = any(
        column.is_fixed and column.meaning == "channel" for column in family.table.columns[min(outer) : max(outer)]
    )
    if rank in inside or (others and (family.folder_names or is_fixed_inside)):
        return None
    spans = [Span(rank, rank, "frame")]
    if others:
        spans.append(Span(min(others), max(others), "sequence"))
    folders = list(family.folder_names)
    if folders:
        folders[-1] = "sequence"
    if len(folders) > 1:
        return None
    comments.append(f"{count(len(sequences), 'sequence')} of {frames} frames.")
    return Named(
        Naming(tuple(folders), tuple(sorted(spans, key=lambda span: span.first))), comments, [], frames, len(sequences)
    )


def _order(text: str) -> list[int]:
    """Return a key by which frames are in order: numbers, also those of times such as 00d06h00m."""
    digits = "".join(sign if sign.isdecimal() else " " for sign in text).split()
    return [int(number) for number in digits]


def _frame_place(family: Family) -> int | None:
    """Return the place of the column with the frames: a time, a section, or the only numbers."""
    for meaning in ("frame", "z"):
        place = family.table.find(meaning)
        if place is not None:
            return place
    numbers = [
        place
        for place in family.table.varying
        if not family.table.columns[place].meaning and all(v.isdecimal() for v in family.table.columns[place].values)
    ]
    return numbers[0] if len(numbers) == 1 and len(family.table.varying) == 1 else None


def _compare(texts: list[str], paths: list[str]) -> str:
    """Return a comment if files with successive numbers are alike, so that they are frames; else an empty text."""
    numbers = sorted({int(text) for text in texts})
    if len(numbers) < CONSECUTIVE * (numbers[-1] - numbers[0] + 1):
        return ""
    found = compare_neighbours(paths)
    if found is None or not is_sequence(*found):
        return ""
    return (
        f"Successive images are alike (correlation {found[0]:.2f}, distant ones {found[1]:.2f}): frames or sections of "
        "one sequence."
    )
