"""The proposal for a folder: a draft of each dataset, from images, annotations and headers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cellmill.proposing.annotating import describe_annotations, is_ctc
from cellmill.proposing.datasets import Chooser, Content, Group, Reader
from cellmill.proposing.draft import Draft, Key, Question, count
from cellmill.proposing.evidence import Headers
from cellmill.proposing.families import Family, find_families
from cellmill.proposing.listing import File, list_files
from cellmill.proposing.naming import Named, column_spans, is_nuclear, name_parts
from cellmill.proposing.patterns import WHOLE, Naming, matcher
from cellmill.proposing.splitting import propose_split
from cellmill.proposing.stacks import describe_images, describe_planes, time_axis
from cellmill.proposing.tables import CLASS_WORDS, RunTable, choose_order, describe_table

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]*")
FEWEST_TO_TRAIN = 3
# Names of single files that are excluded
MOST_EXCLUDED = 50
# Tables of the Cell Tracking Challenge, which are found beside the masks
TRACK_TABLES = ("man_track.txt", "res_track.txt")


@dataclass(frozen=True)
class Proposal:
    """Drafts of the datasets, and remarks on files that are not used."""

    folder: str
    drafts: list[Draft]
    remarks: list[str]


def propose(folder: str) -> Proposal:
    """Look at a folder and draft its datasets.

    Parameters
    ----------
    folder : str
        Path, as it is to stand in the config.

    Raises
    ------
    ValueError
        If the folder is missing or empty, or contains no image that can be read.
    """
    root = Path(folder)
    files = list_files(root)
    families = find_families(files)
    in_families = {file for family in families for file in family.files}
    others = [file for file in files if file not in in_families]
    reader = Reader(root)
    images = [family for family in families if family.files[0].is_image]
    if not images:
        suffixes = sorted({file.suffix for file in files if file.suffix})
        raise ValueError(
            f"look: expected images in {folder}, found {count(len(files), 'file')} of other kinds "
            f"({', '.join(suffixes[:8]) or 'without suffix'}). docs/inputs.md lists the formats that are read; "
            "convert others to OME-TIFF."
        )
    content = Chooser(reader, families, others).choose()
    if not content.groups:
        reasons = [message for family in images for message in reader.headers(family).damaged[:1]]
        raise ValueError(f"look: expected images that can be read in {folder}, found none. The first is {reasons[0]}")
    names = _dataset_names(root, content.groups)
    drafts: list[Draft] = []
    for name, group in zip(names, content.groups, strict=True):
        first = drafts[0] if drafts and drafts[0].annotated else None
        drafts.append(_draft(name, group, files=files, reader=reader, first=first))
        _exclude_others(drafts[-1], group, files=files, families=families, reader=reader)
    return Proposal(folder, drafts, _remarks(content, drafts, reader, others))


def _dataset_names(root: Path, groups: Sequence[Group]) -> list[str]:
    """Name datasets by the looked-at folder, and by the folders in which they differ if there are several."""
    base = _clean(root.resolve().name)
    names: list[str] = []
    for group in groups:
        fixed = [folder for folder in group.family.folders if not folder.startswith("*")]
        shared = [folder for folder in fixed if all(folder in other.family.folders for other in groups)]
        own = [folder for folder in fixed if folder not in shared and folder not in ("images", "image")]
        name = base if len(groups) == 1 else _clean("_".join([base, *own[:2]]))
        wanted, number = name, 1
        while name in names:
            number += 1
            name = f"{wanted}_{number}"
        names.append(name)
    return names


def _clean(text: str) -> str:
    cleaned = re.sub(r"[^A-Za-z0-9_+-]+", "_", text).strip("_+-")
    return cleaned if NAME.fullmatch(cleaned) else "images"


def _draft(name: str, group: Group, *, files: Sequence[File], reader: Reader, first: Draft | None) -> Draft:
    """Draft one dataset."""
    family, headers = group.family, reader.headers(group.family)
    draft = Draft(name, images=len(family.files))
    layout = headers.first
    assert layout is not None
    named = name_parts(family, path_of=lambda number: reader.path(family.files[number]), may_be_frames=not layout.stack)
    naming = _naming_for_ties(named, group)
    if naming.spans == WHOLE and _others(naming, group, files=files, reader=reader):
        by_columns = Naming(naming.folders, column_spans(family))
        if not _others(by_columns, group, files=files, reader=reader):
            naming = by_columns
    key = draft.add("images", naming.pattern(reader.root_text, family), *describe_images(family, headers))
    key.comments += named.comments
    key.questions += named.questions
    key.questions += _ask_channel(group, reader, naming)
    key.questions += _ask_twins(group)
    draft.keys += describe_planes(headers)
    _annotate(draft, group, reader=reader, naming=naming, headers=headers, is_sequence="frame" in naming.wildcards)
    _describe_classes(draft, group, naming)
    _describe_pixels(draft, headers)
    sequences = named.sequences or (len(family.files) if time_axis(layout) else 0)
    frames = named.frames or time_axis(layout)
    if draft.annotated:
        draft.keys += propose_split(
            family, naming=naming, annotated=draft.annotated, sequences=sequences, frames=frames,
            stratify=any(key.name == "class_column" and key.value for key in draft.keys),
        )  # fmt: skip
    _choose_models(draft, first)
    return draft


def find_others(pattern: str, own: set[File], *, files: Sequence[File], reader: Reader) -> set[File]:
    """Return the files that a pattern matches besides the own ones."""
    fits = matcher(pattern).fullmatch
    return {file for file in files if file not in own and fits(reader.path(file))}


def _others(naming: Naming, group: Group, *, files: Sequence[File], reader: Reader) -> set[File]:
    pattern = naming.pattern(reader.root_text, group.family)
    return find_others(pattern, set(group.family.files), files=files, reader=reader)


def _exclude_others(
    draft: Draft, group: Group, *, files: Sequence[File], families: Sequence[Family], reader: Reader
) -> None:
    """Add the key `exclude` if the pattern of the images matches other files, too."""
    own = set(group.family.files)
    wrong = find_others(draft.values["images"], own, files=files, reader=reader)
    if not wrong:
        return
    patterns: list[str] = []
    for family in families:
        inside = [file for file in family.files if file in wrong]
        if not inside:
            continue
        star = family.describe().rsplit("/", 1)[-1]
        is_narrow = not any(matcher(star).fullmatch(file.name) for file in own)
        patterns += [star] if is_narrow else sorted({file.name for file in inside})
    patterns = list(
        dict.fromkeys([*patterns, *sorted({f.name for f in wrong if not any(f in o.files for o in families)})])
    )
    place = next(place for place, key in enumerate(draft.keys) if key.name == "images")
    comment = f"{count(len(wrong), 'file')} that the pattern matches, too, but that are no images of this dataset."
    draft.keys.insert(place + 1, Key("exclude", patterns[:MOST_EXCLUDED], [comment]))


def _naming_for_ties(named: Named, group: Group) -> Naming:
    """Return wildcards by which the annotations are tied: {sample} for a whole name only ties equal names."""
    ways = {pairing.way for pairing in group.pairings[:1]}
    if isinstance(named.naming.spans, str) and ways & {"columns", "objects"}:
        return Naming(named.naming.folders, column_spans(group.family))
    return named.naming


def _ask_channel(group: Group, reader: Reader, naming: Naming) -> list[Question]:
    if group.channels is None:
        return []
    others = [
        (f"images: {naming.pattern(reader.root_text, family)}", f"channel {text} ({count(len(family.files), 'file')})")
        for text, family in group.channels.families.items()
        if text != group.channel
    ]
    reason = "its name is that of a nuclear stain" if is_nuclear(group.channel) else "the first"
    reason = "the annotations are named like it" if group.pairings else reason
    return [
        Question(
            f"Each image has {len(others) + 1} channels in separate files. Which one shows the objects? "
            f"Proposed: {group.channel} ({reason}).",
            tuple(others),
        )
    ]


def _ask_twins(group: Group) -> list[Question]:
    return [
        Question(
            f"{twin.describe()} has files of the same names. Are these the images? Proposed: those above.",
            (("images: " + twin.describe(), "write {sample} in place of *"),),
        )
        for twin in group.twins
    ]


def _annotate(
    draft: Draft, group: Group, *, reader: Reader, naming: Naming, headers: Headers, is_sequence: bool
) -> None:
    """Add the section `annotations` from the best source, and name the others."""
    alternatives: list[str] = []
    key: Key | None = None
    for pairing in group.pairings:
        pattern = naming.pattern_of(reader.root_text, group.family, pairing)
        if key is not None:
            alternatives.append(pattern)
            if is_ctc(pairing) and "TRA" in pairing.family.folders and key.value.get("path", "").find("_GT/SEG") >= 0:
                key.value["markers"] = pattern
                key.comments.append("Cells that are marked in TRA but not outlined are ignored, not background.")
            continue
        codes = [] if not pairing.family.files[0].is_image else reader.codes(pairing.family, sorted(pairing.files))
        key = describe_annotations(
            pairing, [one for one in codes if one], pattern=pattern, images=len(group.family.files),
            is_sequence=is_sequence,
        )  # fmt: skip
        draft.annotated = len(pairing.images)
    for path, table in group.run_tables:
        if key is not None:
            alternatives.append(path)
            continue
        key = _describe_runs(path, table, group, reader)
        draft.annotated = len(table.names)
    for path, entries in group.coco:
        if key is not None:
            alternatives.append(path)
            continue
        key = Key("annotations", {"format": "coco", "table": path}, [f"COCO file that names {entries} of the images."])
        draft.annotated = entries
        _ask_missing(key, len(group.family.files) - entries)
    if key is not None:
        if alternatives:
            key.comments.append(f"Also annotations of these images, not used: {', '.join(alternatives)}.")
        draft.keys.append(key)


def _describe_runs(path: str, table: RunTable, group: Group, reader: Reader) -> Key:
    """Return the section for a table of runs, whose order is found by decoding both ways."""
    order = choose_order(
        path, table, {file.stem: reader.path(file) for file in group.family.files if file.stem in table.names}
    )
    key = Key("annotations", {"format": "rle", "table": path, "order": order})
    key.comments.append(f"Run lengths of {len(table.names)} of {count(len(group.family.files), 'image')}.")
    if order is None:
        key.questions.append(
            Question(
                "Are pixels counted along the rows or down the columns? Both fit the images.",
                (("order: row", "as in Sartorius 2021"), ("order: column", "as in Data Science Bowl 2018")),
                is_open=True,
            )
        )
    else:
        other = "down columns" if order == "row" else "along rows"
        key.comments.append(f"Read {other}, the objects would be streaks or would not lie on the cells of the images.")
    if not table.is_known:
        key.value |= {"sample_column": table.sample_column, "rle_column": table.rle_column}
    _ask_missing(key, len(group.family.files) - len(table.names))
    return key


def _ask_missing(key: Key, lacking: int) -> None:
    if lacking > 0:
        key.value["missing"] = "unlabelled"
        key.questions.append(
            Question(
                f"{count(lacking, 'image')} without annotations: not annotated yet, or without objects?",
                (("missing: empty", "images without objects"),),
            )
        )


def _describe_classes(draft: Draft, group: Group, naming: Naming) -> None:
    """Add the class of the images if a column of the table tells it, else name the candidates."""
    for _, table in group.run_tables[:1]:
        if not group.pairings and table.classes:
            best = next((column for column in table.classes if column.lower() in CLASS_WORDS), None)
            values = ", ".join(table.classes[best or next(iter(table.classes))][:5])
            if best:
                draft.add("class_column", best, f"One value for each image: {values}.")
                return
            choices = tuple((f"class_column: {column}", ", ".join(v[:5])) for column, v in table.classes.items())
            draft.add("class_column", None, questions=(Question("Does a column give the class of an image?", choices),))
            return
    table_of_names = group.family.table
    choices = []
    for place in table_of_names.varying:
        column = table_of_names.columns[place]
        texts = [column.values[row] for row in group.family.rows]
        values = sorted(set(texts))
        is_few = 2 <= len(values) <= 10 and len(values) < len(texts)
        is_word = not column.meaning and not all(value.isdecimal() for value in values)
        if column.name in naming.wildcards and is_few and is_word:
            choices.append((f"class_column: {column.name}", ", ".join(values[:7])))
    if choices:
        draft.add(
            "class_column",
            None,
            questions=(Question("Is this part of the names the class of an image?", tuple(choices)),),
        )


def _describe_pixels(draft: Draft, headers: Headers) -> None:
    layout = headers.first
    sizes = {one.pixel_size_um for one in headers.layouts}
    if layout is None:
        return
    if None not in sizes and layout.pixel_size_um is not None:
        down, across = layout.pixel_size_um
        text = f"{down:.4g} um" if abs(down - across) < 0.01 * down else f"{down:.4g} x {across:.4g} um"
        draft.add("pixel_size_um", None, f"Pixel size: {text}, from the metadata of the files.")
        return
    draft.add(
        "pixel_size_um", None,
        questions=(Question("What is the side of a pixel in um? The files do not tell. Without it, results are in px.",
                            (("pixel_size_um: 0.5", "an example"),)),),
    )  # fmt: skip


def _choose_models(draft: Draft, first: Draft | None) -> None:
    """Leave out the models where the default fits; apply the model of the first dataset to later ones."""
    if first is not None and first.annotated >= FEWEST_TO_TRAIN:
        draft.add("models", [{"apply": f"{first.name}/default"}], f"The network that is trained on {first.name}.")
    elif draft.annotated >= FEWEST_TO_TRAIN:
        draft.add("models", None, "Models are left out: classical, without training, and default, a trained network.")
    elif draft.annotated:
        draft.add("models", ["classical"], "Fewer than three annotated images: nothing can be trained.")
    else:
        choices = (("models: [classical, {apply: nuclei}]", "a shipped model of nuclei"),)
        draft.add(
            "models", None, "No annotations: classical runs, which needs no training.",
            questions=(Question("Do the images show nuclei?", choices),),
        )  # fmt: skip


def _remarks(content: Content, drafts: Sequence[Draft], reader: Reader, others: Sequence) -> list[str]:
    """List the files that are not used: those with a reason, tables that describe images, and the rest by suffix."""
    remarks = [f"{name}: {reason}." for name, reason in content.unused]
    used = {path for group in content.groups for path, _ in [*group.run_tables, *group.coco]}
    stems = set().union(*(group.stems for group in content.groups))
    is_tracked = any(draft.values.get("annotations", {}).get("format") == "ctc" for draft in drafts)
    rest: dict[str, list[str]] = {}
    for file in others:
        path = reader.path(file)
        if path in used or (file.name in TRACK_TABLES and is_tracked):
            continue
        if file.suffix.lower() == ".csv" and (found := describe_table(path, stems)):
            remarks.append(
                f"{path}: a table with names of images (column {found[0]}). If it says how the images were treated, the "
                "section conditions compares treatments."
            )
            continue
        rest.setdefault(file.suffix.lower() or "no suffix", []).append(file.name)
    for suffix, names in sorted(rest.items()):
        remarks.append(f"{count(len(names), 'other file')} ({suffix}), such as {names[0]}.")
    return remarks
