"""The section `annotations` of a dataset: the best of the sources that belong to its images."""

from cellmill.proposing.annotating import describe_annotations, is_ctc
from cellmill.proposing.datasets import Group, Reader
from cellmill.proposing.draft import Draft, Key, Question, count
from cellmill.proposing.patterns import Naming
from cellmill.proposing.tables import RunTable, choose_order


def add_annotations(draft: Draft, group: Group, *, reader: Reader, naming: Naming, is_sequence: bool) -> None:
    """Add the section `annotations` from the best source, and name the others."""
    alternatives: list[str] = []
    key: Key | None = None
    for pairing in group.pairings:
        pattern = naming.pattern_of(reader.root_text, group.family, pairing)
        if key is not None:
            is_marker = is_ctc(pairing) and "TRA" in pairing.family.folders and "_GT/SEG" in key.value["path"]
            if is_marker and "markers" not in key.value:
                key.value["markers"] = pattern
                key.comments.append("Cells that are marked in TRA but not outlined are ignored, not background.")
            else:
                alternatives.append(pattern)
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
        draft.annotated = len(table.names & group.stems)
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
    images = {file.stem: reader.path(file) for file in group.family.files if file.stem in table.names}
    order = choose_order(path, table, images)
    key = Key("annotations", {"format": "rle", "table": path, "order": order})
    key.comments.append(f"Run lengths of {len(images)} of {count(len(group.family.files), 'image')}.")
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
    _ask_missing(key, len(group.family.files) - len(images))
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
