"""Features of an experiment: what objects.csv is summarised by, and in which unit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cellmill.objects.units import unit_of_column

OBJECTS_PER_IMAGE = "objects_per_image"
# A mean of these columns has no meaning
NAMING_COLUMNS = ("sample", "object")
# Ends of the names of columns; one of the first is taken where the pixel size is known, the other elsewhere.
ENDS_IN_UM, END_IN_PX = ("_um2", "_um"), "_px"


@dataclass(frozen=True)
class Feature:
    """A feature: its name in the tables, its column of objects.csv ("" for the number of objects), and its unit."""

    name: str
    column: str
    unit: str


def list_features(columns: Sequence[str]) -> list[str]:
    """List the names that `resolve_feature` accepts: number of objects, columns, and columns without their unit.

    Parameters
    ----------
    columns : sequence of str
        Columns of objects.csv.
    """
    own = [column for column in columns if column not in NAMING_COLUMNS]
    stems = [_without_unit(column) for column in own if column.endswith(ENDS_IN_UM)]
    return [OBJECTS_PER_IMAGE, *stems, *own]


def resolve_feature(name: str, columns: Sequence[str], *, is_known: Callable[[str], bool]) -> Feature:
    """Return the feature of a name of the config.

    Parameters
    ----------
    name : str
        A name of `list_features`.
    columns : sequence of str
        Columns of objects.csv.
    is_known : callable
        Whether a column has a value for each object.

    Returns
    -------
    Feature
        `area` is area_um2 where the pixel size is known, otherwise area_px; likewise for lengths.

    Raises
    ------
    ValueError
        If there is no such column.
    """
    if name == OBJECTS_PER_IMAGE:
        return Feature(name, "", "objects")
    in_um = [name + end for end in ENDS_IN_UM if name + end in columns]
    fits = [column for column in (name, *in_um, name + END_IN_PX) if column in columns]
    if not fits or name in NAMING_COLUMNS:
        raise ValueError(
            f"{name}: expected a column of objects.csv, found {', '.join(columns)}. Change conditions.features."
        )
    column = next((fit for fit in fits if fit == name or is_known(fit)), fits[-1])
    return Feature(column, column, unit_of_column(column))


def _without_unit(column: str) -> str:
    return column[: -len(next(end for end in ENDS_IN_UM if column.endswith(end)))]
