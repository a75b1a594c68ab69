"""The split of annotated images: wells and sequences stay together, a single sequence is cut into blocks."""

from collections.abc import Mapping

from cellmill.proposing.draft import Key, count
from cellmill.proposing.families import Family
from cellmill.proposing.patterns import Naming

# Fewest groups for three parts
PARTS = 3
# Frames of a sequence from which a frame between blocks can be spared
LONG = 20


def propose_split(
    family: Family, *, naming: Naming, annotated: int, sequences: int, frames: int, stratify: bool
) -> list[Key]:
    """Return the key `split` where the default, single images or whole sequences, does not fit.

    Parameters
    ----------
    family : Family
        The images.
    naming : Naming
        Their wildcards.
    annotated : int
        Number of annotated images.
    sequences, frames : int
        Number of sequences and of frames in a typical one; 0 for single images.
    stratify : bool
        Whether the class of the images is known.
    """
    if annotated < PARTS and not frames:
        return []
    if sequences and sequences < PARTS:
        value: dict[str, object] = {"by": "blocks"}
        if frames >= LONG:
            value["gap"] = 1
        few = f"{count(sequences, 'sequence')}: too few for training, validation and test, so each is cut into blocks."
        return [Key("split", value, [few])]
    if sequences:
        return [Key("split", None, ["Split by whole sequences, the default."])]
    value = {}
    comments = []
    groups = _wells(family) if "well" in naming.wildcards else {}
    if groups and len(groups) >= PARTS and max(groups.values()) > 1:
        value["group_by"] = "well"
        comments.append(f"{len(groups)} wells: the images of a well stay together.")
    elif stratify:
        value["stratify"] = "class"
        comments.append("Each class is in each part, where there are enough images.")
    return [Key("split", value, comments)] if value else []


def _wells(family: Family) -> Mapping[str, int]:
    """Return the number of images of each well."""
    place = family.table.find("well")
    if place is not None:
        texts = [family.table.columns[place].values[row] for row in family.rows]
    else:
        level = family.folder_names.index("well")
        texts = [spot[level] for spot in family.places]
    return {text: texts.count(text) for text in set(texts)}
