"""Ties: the annotation files of each image, found by the wildcards that both paths share."""

import glob
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from cellmill.planning.frame_numbers import find_shift, find_shift_of_names, frame_number, shift_last_number
from cellmill.planning.patterns import (
    PLACES,
    SYSTEM_FILES,
    fill_pattern,
    find_files,
    is_image,
    list_names,
    mode_of,
    pattern_regex,
    wildcards_of,
)
from cellmill.planning.samples import Found, Sample, SampleError, some, stem_of, wrong_path

MAX_MISTAKES = 20


@dataclass(frozen=True)
class Attached:
    """Samples with their annotation files, remarks for the user, and the annotation files of no image."""

    samples: list[Sample]
    remarks: list[str]
    orphans: list[str]


def attach_annotations(
    found: list[Found], *, path: str, many: bool, where: str, frame_offset: int | None = None
) -> Attached:
    """Match annotation files to their images by the wildcards that both paths share.

    Parameters
    ----------
    found : list of tuple
        Samples and wildcards of ``scan_images``.
    path : str
        Pattern of the annotation files.
    many : bool
        Whether an image has several files (a mask for each object).
    where : str
        Key path of the pattern, for messages.
    frame_offset : int or None
        Number of an annotation file minus the number of its image; None if they are equal.

    Returns
    -------
    Attached
        A sample without annotation files has an empty list. There is a remark on annotation files that belong to no
        image, and on names that agree in another Unicode form only.

    Raises
    ------
    SampleError
        If the pattern has a wildcard that no image has, an image has several files where one is allowed, a file fits
        two images, or the numbers of all files are shifted against those of the images.
    """
    ties = FileTies(path, found, where=where, frame_offset=frame_offset)
    tied, mistakes = ties.tie(found)
    # If every image has its file, the numbers are not shifted: the first or the last image would lack it.
    is_complete = all(files for files, _ in tied) and not mistakes
    if frame_offset is None and not is_complete and (shifted := ties.explain_shift()):
        raise SampleError([shifted])
    samples = []
    for (sample, _), (files, is_stack) in zip(found, tied, strict=True):
        if len(files) > 1 and not many:
            mistakes.append(
                f"{where}: expected one file for {sample.sample!r}, found {len(files)} ({files[0]}, {files[1]}, …). "
                "Narrow the pattern, or use format: mask_folder."
            )
        samples.append(sample.changed(annotations=files, is_annotated_as_stack=is_stack))
    if mistakes:
        raise SampleError(mistakes[:MAX_MISTAKES])
    used = {file for files, _ in tied for file in files} | {sample.image for sample, _ in found}
    regex = pattern_regex(path)
    orphans = [file for file in list_names(path) if file not in used and regex.fullmatch(file) and is_image(file)]
    remarks = [_explain_orphans(orphans, where=where)] if orphans else []
    if ties.respelt:
        remarks.append(
            f"{where}: {len(ties.respelt)} names of images and annotation files agree in another Unicode form only, as "
            f"macOS and Windows write accents, such as {some(ties.respelt[:1])}. They were matched"
        )
    return Attached(samples, remarks, orphans)


def attach_extra(
    samples: list[Sample], found: list[Found], *, name: str, path: str, where: str, frame_offset: int | None = None
) -> list[Sample]:
    """Add one further file to each image that has it, such as the mask of its ignored pixels."""
    files, mistakes = FileTies(path, found, where=where, frame_offset=frame_offset).tie(found, is_shared=True)
    if mistakes:
        raise SampleError(mistakes[:MAX_MISTAKES])
    return [
        sample.changed(extra={**sample.extra, name: own[0]}) if own else sample
        for sample, (own, _) in zip(samples, files, strict=True)
    ]


class FileTies:
    """Lookup of the files of a pattern by the wildcards of an image.

    Raises
    ------
    SampleError
        If the pattern has a wildcard that no image has.
    """

    def __init__(self, path: str, found: list[Found], *, where: str, frame_offset: int | None = None) -> None:
        unknown = [name for name in wildcards_of(path) if name != "sample" and name not in found[0][1]]
        if unknown:
            raise SampleError(
                [
                    f"{where}: expected wildcards of the images, found {{{'}, {'.join(unknown)}}}, which their paths "
                    f"do not contain. Use the wildcards of images ({', '.join(sorted({*found[0][1], 'sample'}))})."
                ]
            )
        self._path = path
        self._found = found
        self._where = where
        self._offset = frame_offset or 0
        self._has_frame = "frame" in wildcards_of(path)
        # image names that were matched in another Unicode form
        self.respelt: list[str] = []

    def tie(self, found: list[Found], *, is_shared: bool = False) -> tuple[list[tuple[list[str], bool]], list[str]]:
        """Return the files of each sample, with whether they belong to the stack of which it is a plane, and mistakes.

        Parameters
        ----------
        found : list of tuple
            Samples and wildcards of ``scan_images``.
        is_shared : bool
            Whether several images may have the same file, such as a mask of ignored pixels.
        """
        tied = [self._files(sample, values) for sample, values in found]
        if "*" in self._path:
            tied = self._keep_whole_names(found, tied)
        claims: dict[str, list[int]] = {}
        for index, (files, _) in enumerate(tied):
            for file in files:
                claims.setdefault(file, []).append(index)
        dropped: dict[int, set[str]] = {}
        mistakes = []
        for file, claimants in claims.items():
            if len({found[index][0].image for index in claimants}) < 2:
                continue
            lengths = {index: self._length(*found[index]) for index in claimants}
            longest = [index for index in claimants if lengths[index] == max(lengths.values())]
            for index in set(claimants) - set(longest):
                dropped.setdefault(index, set()).add(file)
            if not is_shared and (mistake := self._explain_equal(file, [found[index] for index in longest])):
                mistakes.append(mistake)
        kept = [
            ([file for file in files if file not in dropped.get(index, ())], is_stack)
            for index, (files, is_stack) in enumerate(tied)
        ]
        return kept, mistakes

    def _length(self, sample: Sample, values: Mapping[str, str]) -> int:
        texts = {"sample": sample.sample, **values}
        return sum(len(texts[name]) for name in wildcards_of(self._path))

    def _explain_equal(self, file: str, found: list[Found]) -> str:
        """Return a message if a file fits several images equally, unless they share it by the pattern."""
        if len({sample.image for sample, _ in found}) < 2:
            return ""
        names = wildcards_of(self._path)
        filled = {tuple({"sample": sample.sample, **values}[name] for name in names) for sample, values in found}
        # Images that differ in a channel, say, may share the annotation of their field.
        is_renamed = any(values.get("sample", sample.sample) != sample.sample for sample, values in found)
        is_left_open = "*" in self._path and (not names or ("frame" in found[0][1] and not self._has_frame))
        if len(filled) == 1 and not is_left_open and not (is_renamed and "sample" in names):
            return ""
        first, second = (sample.sample for sample, _ in found[:2])
        apart = [name for name in found[0][1] if name not in names] or ["sample"]
        return (
            f"{self._where}: expected files of one image each, found {file}, which fits {first!r} and {second!r} "
            f"equally. Add {' or '.join(f'{{{name}}}' for name in apart)} to the pattern, or rename the files."
        )

    def _files(self, sample: Sample, values: Mapping[str, str]) -> tuple[list[str], bool]:
        # {sample} is taken from the image file, because a plane of a stack has a different sample name.
        stem = values.get("sample", stem_of(sample.image) if sample.plane else sample.sample)
        texts = {**values, "sample": stem}
        if self._offset and not self._has_frame:
            shifted = shift_last_number(stem, self._offset)
            return (self._fill({**texts, "sample": shifted}) if shifted is not None else []), False
        if not (self._offset and self._has_frame):
            if files := self._fill_in_any_form(texts):
                is_plane = any(isinstance(place, int) for _, place, _ in sample.plane)
                return files, is_plane and not self._has_frame
            if stem != sample.sample and (files := self._fill({**values, "sample": sample.sample})):
                return files, False
        if self._has_frame:
            key = self._key({**texts, "frame": str(sample.frame + self._offset)})
            return self._by_number.get(key, []), False
        return [], False

    def _fill_in_any_form(self, texts: Mapping[str, str]) -> list[str]:
        """Fill the pattern, if necessary with composed or decomposed accents in place of those of the image's name."""
        if files := self._fill(texts):
            return files
        for form in ("NFC", "NFD"):
            respelt = {name: unicodedata.normalize(form, text) for name, text in texts.items()}
            if respelt != texts and (files := self._fill(respelt)):
                self.respelt.append(texts["sample"])
                return files
        return []

    def _fill(self, values: Mapping[str, str]) -> list[str]:
        filled = fill_pattern(self._path, values)
        if "*" in filled:
            files = sorted(set(glob.glob(filled, recursive="**/" in filled)))
            files = [file for file in files if Path(file).name not in SYSTEM_FILES]
            for file in files:
                mode_of(file)
                if wrong := wrong_path(file):
                    raise ValueError(f"{self._where}: {wrong}")
            return files
        return [filled] if Path(filled).exists() else []

    def _keep_whole_names(self, found: list[Found], tied: list[tuple[list[str], bool]]) -> list[tuple[list[str], bool]]:
        """Drop the files in which a star continues the name of an image: DSC_10_mask.png does not belong to DSC_1.

        A number is never continued by a digit. A letter after a letter continues a name if other files have a
        separator there.
        """
        ends = [
            [(file, self._continuation(file, sample, values)) for file in files]
            for (sample, values), (files, _) in zip(found, tied, strict=True)
        ]
        wrong = {"number"}
        if any(kind == "separator" for own in ends for _, kind in own):
            wrong.add("word")
        return [
            ([file for file, kind in own if kind not in wrong], is_stack)
            for own, (_, is_stack) in zip(ends, tied, strict=True)
        ]

    def _continuation(self, file: str, sample: Sample, values: Mapping[str, str]) -> str:
        """Return how a star beside a wildcard goes on: number, word, separator, or "" for anything else."""
        stem = values.get("sample", stem_of(sample.image) if sample.plane else sample.sample)
        kinds = set()
        for texts in ({**values, "sample": stem}, {**values, "sample": sample.sample}):
            match = self._filled_regex(texts).fullmatch(file)
            if match is None:
                continue
            for name, place, is_after in self._open_ends:
                text, beside = texts[name], match.group(place)
                pair = (text[-1:], beside[:1]) if is_after else (text[:1], beside[-1:])
                kinds.add(_kind_of(*pair))
            break
        return next((kind for kind in ("number", "word", "separator") if kind in kinds), "")

    def _filled_regex(self, texts: Mapping[str, str]) -> re.Pattern[str]:
        text, position = "", 0
        for match in PLACES.finditer(self._path):
            text += re.escape(self._path[position : match.start()])
            name = match.group(1)
            opened = r"((?:[^/]+/)*)" if match.group() == "**/" else r"([^/]*)"
            text += opened if name is None else re.escape(texts[name])
            position = match.end()
        return re.compile(text + re.escape(self._path[position:]), re.DOTALL)

    @cached_property
    def _open_ends(self) -> list[tuple[str, int, bool]]:
        """Wildcards beside a star: name, number of the star, and whether the star comes after the wildcard."""
        places = list(PLACES.finditer(self._path))
        stars = [place for place in places if place.group(1) is None]
        ends = []
        for first, second in pairwise(places):
            if first.end() != second.start():
                continue
            if second.group() == "*" and first.group(1):
                ends.append((first.group(1), stars.index(second) + 1, True))
            if first.group() == "*" and second.group(1):
                ends.append((second.group(1), stars.index(first) + 1, False))
        return ends

    def _key(self, values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((name, values[name]) for name in wildcards_of(self._path)))

    @cached_property
    def _by_number(self) -> dict[tuple[tuple[str, str], ...], list[str]]:
        """Files by their wildcards, with frames compared as numbers: man_seg001 belongs to t1."""
        files: dict[tuple[tuple[str, str], ...], list[str]] = {}
        for file, values in find_files(self._path):
            if (number := frame_number(values["frame"])) is not None:
                files.setdefault(self._key({**values, "frame": str(number)}), []).append(file)
        return files

    def explain_shift(self) -> str:
        """Return a message if all files are numbered differently from the images by a constant, "" otherwise."""
        if self._has_frame:
            own = _by_group((self._apart(values), sample.frame) for sample, values in self._found)
            numbered = ((self._apart(values), frame_number(values["frame"])) for _, values in find_files(self._path))
            others = _by_group((apart, number) for apart, number in numbered if number is not None)
        elif "sample" in wildcards_of(self._path):
            shifted = self._shift_of_names()
            return "" if shifted is None else self._say_shift(*shifted)
        else:
            return ""
        shifts = {
            group: find_shift(sorted(own[group]), sorted(files)) for group, files in others.items() if group in own
        }
        moved = [group for group, shift in shifts.items() if shift is not None]
        if not moved:
            return ""
        first = moved[0]
        shift = shifts[first]
        assert shift is not None
        if set(shifts.values()) == {shift}:
            return self._say_shift(own[first], others[first], shift)
        names = ", ".join(group[0].replace("\0", " ") for group in moved[:3])
        return (
            f"{self._where}: expected annotation files with the numbers of the images, found "
            f"{_phrase_shift(own[first], others[first], shift, of=self._path)} in {names} ({len(moved)} of "
            f"{len(shifts)} sequences are shifted, and not all alike). Rename the files so that equal numbers "
            "belong together, use a dataset for each numbering, or set annotations.frame_offset: 0 if equal numbers "
            "belong together already."
        )

    def _say_shift(self, numbers: set[int], files: set[int], shift: int) -> str:
        return (
            f"{self._where}: expected annotation files with the numbers of the images, found "
            f"{_phrase_shift(numbers, files, shift, of=self._path)}. Set annotations.frame_offset: {shift} if image "
            f"{min(numbers)} belongs to file {min(files)}, or frame_offset: 0 if equal numbers belong together."
        )

    def _shift_of_names(self) -> tuple[set[int], set[int], int] | None:
        names = [
            (values.get("sample", stem_of(sample.image) if sample.plane else sample.sample), self._apart(values)[0])
            for sample, values in self._found
        ]
        is_open = any(name == "sample" and is_after for name, _, is_after in self._open_ends)
        count = max((len(re.findall(r"\d+", name)) for name, _ in names), default=0) if is_open else None
        files = [(values["sample"], self._apart(values)[0]) for _, values in find_files(self._path)]
        return find_shift_of_names(names, files, numbers=count)

    def _apart(self, values: Mapping[str, str]) -> tuple[str, ...]:
        names = sorted(set(wildcards_of(self._path)) - {"frame", "sample"})
        return ("\0".join(values[name] for name in names),)


def _by_group(numbered: Iterable[tuple[tuple[str, ...], int]]) -> dict[tuple[str, ...], set[int]]:
    groups: dict[tuple[str, ...], set[int]] = {}
    for group, number in numbered:
        groups.setdefault(group, set()).add(number)
    return groups


def _phrase_shift(numbers: set[int], files: set[int], shift: int, *, of: str) -> str:
    """Return a phrase with the numbers of images and annotation files and the shift between them."""
    count = "equally many, but shifted" if len(numbers) == len(files) else "shifted"
    return f"images {min(numbers)} to {max(numbers)} and files {min(files)} to {max(files)} of {of}: {count} by {shift}"


def _kind_of(end: str, beside: str) -> str:
    """Return how a character goes on from the end of a name."""
    if not beside or not end:
        return ""
    if end.isdigit() and beside.isdigit():
        return "number"
    if end.isalpha() and beside.isalpha():
        return "word"
    return "" if beside.isalnum() else "separator"


def _explain_orphans(files: list[str], *, where: str) -> str:
    return (
        f"{where}: {len(files)} annotation files belong to no image, such as {', '.join(files[:3])}. Check that "
        "their names match those of the images"
    )
