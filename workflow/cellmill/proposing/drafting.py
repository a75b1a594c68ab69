"""The draft of one dataset: its images, annotations, classes, pixel size, split and models."""

from collections.abc import Sequence

from cellmill.proposing.datasets import Group, Reader
from cellmill.proposing.draft import Draft, Key, Question, count
from cellmill.proposing.evidence import Headers
from cellmill.proposing.families import Family
from cellmill.proposing.listing import File
from cellmill.proposing.naming import Named, column_spans, is_nuclear, name_parts
from cellmill.proposing.patterns import WHOLE, Naming, join, matcher
from cellmill.proposing.sources import add_annotations
from cellmill.proposing.splitting import propose_split
from cellmill.proposing.stacks import describe_images, describe_planes, time_axis
from cellmill.proposing.tables import CLASS_WORDS, MAX_CLASSES

FEWEST_TO_TRAIN = 3
# Names of single files that are excluded
MOST_EXCLUDED = 50
# Values of a class that are listed
SHOWN = 7


def draft_dataset(name: str, group: Group, *, files: Sequence[File], reader: Reader, first: Draft | None) -> Draft:
    """Draft one dataset.

    Parameters
    ----------
    name : str
        Name of the dataset.
    group : Group
        Its images and what belongs to them.
    files : sequence of File
        All files of the folder.
    reader : Reader
        Content of the files.
    first : Draft or None
        An annotated dataset of the same folder, whose model is applied.
    """
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
    key.questions += _ask_twins(group, reader)
    draft.keys += describe_planes(headers)
    add_annotations(draft, group, reader=reader, naming=naming, is_sequence="frame" in naming.wildcards)
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


def exclude_others(
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


def _ask_twins(group: Group, reader: Reader) -> list[Question]:
    return [
        Question(
            f"{twin.describe()} has files of the same names. Are these the images? Proposed: those above.",
            ((f"images: {join(reader.root_text, twin.describe())}", "write {sample} in place of *"),),
        )
        for twin in group.twins
    ]


def _describe_classes(draft: Draft, group: Group, naming: Naming) -> None:
    """Add the class of the images if a column of the table tells it, else ask about columns or parts of the names."""
    classes = group.run_tables[0][1].classes if group.run_tables and not group.pairings else {}
    known = next((column for column in classes if column.lower() in CLASS_WORDS), None)
    if known is not None:
        draft.add("class_column", known, f"One value for each image: {', '.join(classes[known][:SHOWN])}.")
        return
    asked = "Does a column give the class of an image?"
    if not classes:
        asked = "Is this part of the names the class of an image?"
        classes = _words_in_names(group, naming)
    if classes:
        choices = tuple((f"class_column: {name}", ", ".join(values[:SHOWN])) for name, values in classes.items())
        draft.add("class_column", None, questions=(Question(asked, choices),))


def _words_in_names(group: Group, naming: Naming) -> dict[str, list[str]]:
    """Return the wildcards that stand for one of a few words, with the words."""
    table, found = group.family.table, {}
    for column in (table.columns[place] for place in table.varying):
        texts = [column.values[row] for row in group.family.rows]
        values = sorted(set(texts))
        is_few = 2 <= len(values) <= MAX_CLASSES and len(values) < len(texts)
        is_word = not column.meaning and not all(value.isdecimal() for value in values)
        if column.name in naming.wildcards and is_few and is_word:
            found[column.name] = values
    return found


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
