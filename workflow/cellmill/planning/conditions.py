"""Conditions of an experiment: which image has which condition and replicate, from its path or from a sample sheet."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cellmill.config.conditions import Conditions
from cellmill.config.errors import nearest
from cellmill.config.measure import Measure
from cellmill.experiment.features import list_features
from cellmill.experiment.wells import find_well, write_well
from cellmill.objects.features import list_columns
from cellmill.objects.measurements import empty_table
from cellmill.planning.plan import Plan
from cellmill.planning.sample_sheets import Sheet, read_sheet, tie_sheet
from cellmill.planning.samples import Found, Sample, SampleError, natural_key, some

MOST_CHANNELS = 64
DEFAULT_FEATURES = ("objects_per_image", "area", "eccentricity", "intensity_mean")
PLATE = "plate"
JOINT = "/"  # between the parts of the name of a replicate
Image = Mapping[str, str]


def attach_conditions(
    samples: list[Sample], found: list[Found], *, section: Conditions, where: str
) -> tuple[list[Sample], list[str]]:
    """Add condition, replicate and well to the images of an experiment.

    Parameters
    ----------
    samples : list of Sample
        The images.
    found : list of tuple
        The same images with the text of their wildcards, from ``scan_images``.
    section : Conditions
        The config section.
    where : str
        Key path of the section, for messages.

    Returns
    -------
    tuple
        Samples with `treated`, which is empty for an image without a row in the sheet, and remarks for the user.

    Raises
    ------
    SampleError
        If a column or the control does not exist, cells are empty, the sheet does not fit the images, or a replicate
        has several conditions.
    """
    images: list[Image] = [{**values, "sample": sample.sample} for sample, values in found]
    sheet = None if section.table is None else read_sheet(section.table, where=f"{where}.table")
    known = [*dict.fromkeys([*images[0], *(sheet.columns if sheet else [])])]
    keys = {"column": [section.column], "replicate": section.replicate}
    if mistakes := [
        _unknown_column(name, known, sheet, where=f"{where}.{key}")
        for key, names in keys.items()
        for name in names
        if name not in known
    ]:
        raise SampleError(mistakes)
    remarks: list[str] = []
    rows: list[Image | None] = list(images)
    if sheet is not None:
        needed = [section.column, *section.replicate]
        tied = tie_sheet(sheet, images, needed=needed, where=f"{where}.table")
        rows = [None if cells is None else {**cells, **image} for image, cells in zip(images, tied.cells, strict=True)]
        remarks = _remarks_on_rows(samples, rows, tied.left, section=section, where=f"{where}.table")
    inside = [row for row in rows if row is not None]
    mistakes = _empty_cells(inside, samples, keys=keys, where=where)
    mistakes = mistakes or [
        *_mixed_replicates(inside, section, known, where=where),
        *_missing_control(inside, section, where=where),
    ]
    if mistakes:
        raise SampleError(mistakes)
    remarks += [
        *_remarks_on_plates(inside, section, where=where),
        *_remarks_on_parts(inside, section, known, where=where),
        *_remarks_on_few(inside, section, where=where),
    ]
    well = _find_wells(inside, section, known)
    return [
        sample if row is None else replace(sample, treated=_treat(row, section, well))
        for sample, row in zip(samples, rows, strict=True)
    ], remarks


def sort_conditions(names: Iterable[str], *, control: str | None) -> list[str]:
    """Sort conditions: the control first, numbers by their value, other names in natural order."""
    names = dict.fromkeys(names)
    try:
        ordered = sorted(names, key=float)
    except ValueError:
        ordered = sorted(names, key=natural_key)
    return sorted(ordered, key=lambda name: name != control)


def wrong_conditions(plan: Plan) -> list[str]:
    """List the conditions whose model or features do not exist."""
    mistakes = []
    for dataset, config in plan.config.datasets.items():
        section, where = config.conditions, f"datasets.{dataset}.conditions"
        if section is None:
            continue
        if plan.run_of_conditions(dataset) is None:
            runs = plan.listed_runs(dataset)
            names = [*(run.name for run in runs), *(run.model for run in runs)]
            mistakes.append(
                f"{where}.model: expected a model of this dataset, found {section.model!r}. "
                f"{nearest(str(section.model), set(names))}."
            )
        run = plan.run_of_conditions(dataset)
        if run is not None and not run.has_all_images:
            mistakes.append(
                f"{where}.model: expected a model with objects of every image, found {run.name!r}, with masks of some "
                "of them. Set another model."
            )
        features = list_features([*empty_table().columns, *_measured_columns(config.measure)])
        mistakes += [
            f"{where}.features: expected objects_per_image or a column of objects.csv, found {name!r}. "
            f"{nearest(name, features)}."
            for name in section.features or ()
            if name not in features
        ]
    return mistakes


def _measured_columns(measure: Measure) -> list[str]:
    """List the columns that `measure` may add to objects.csv; how many channels images have is not known here."""
    channels = measure.named_channels
    names = [f"c{n}" for n in range(MOST_CHANNELS)] if isinstance(channels, str) else [name for name, _ in channels]
    return [column.name for column in list_columns(measure.names, channels=names)]


def _unknown_column(name: str, known: Sequence[str], sheet: Sheet | None, *, where: str) -> str:
    places = "a wildcard of images" if sheet is None else f"a wildcard of images or a column of {sheet.path}"
    return f"{where}: expected {places}, found {name!r}. {nearest(name, known)}."


def _replicate_of(row: Image, section: Conditions) -> tuple[str, ...]:
    return tuple(row[name] for name in section.replicate)


def _treat(row: Image, section: Conditions, well: str | None) -> dict[str, str]:
    """Return what was done to an image, and where."""
    own = _replicate_of(row, section)
    place = None if well is None else find_well(row[well])
    rest = [row[name] for name in section.replicate if name != well]
    return {
        "condition": row[section.column],
        "replicate": JOINT.join(own),
        "plate": "" if place is None else row.get(PLATE, JOINT.join(rest) if well in section.replicate else ""),
        "well": "" if place is None else write_well(place),
    }


def _find_wells(rows: Sequence[Image], section: Conditions, known: Sequence[str]) -> str | None:
    """Find the column with a well for each replicate, and a replicate for each well; None if there is none."""
    for name in _with_wells(rows, dict.fromkeys([*section.replicate, *known])):
        if name == section.column:
            continue
        pairs = {
            (treated["replicate"], treated["plate"], treated["well"])
            for treated in (_treat(row, section, name) for row in rows)
        }
        if len({pair[0] for pair in pairs}) == len({pair[1:] for pair in pairs}) == len(pairs):
            return name
    return None


def _with_wells(rows: Sequence[Image], names: Iterable[str]) -> list[str]:
    """Return the columns that contain names of wells only; a plate may be called P1."""
    return [name for name in names if name != PLATE and all(find_well(row[name]) is not None for row in rows)]


def _empty_cells(
    rows: Sequence[Image], samples: Sequence[Sample], *, keys: Mapping[str, Sequence[str]], where: str
) -> list[str]:
    """List the columns with empty cells in rows of images."""
    mistakes = []
    for key, names in keys.items():
        for name in names:
            empty = [row["sample"] for row in rows if not row[name]]
            if empty:
                mistakes.append(
                    f"{where}.{key}: expected a {name} for each image with a row in the sheet, found empty cells for "
                    f"{len(empty)} of {len(samples)} images ({some(empty)}). Fill them in, or remove the rows to leave "
                    "the images out."
                )
    return mistakes


def _mixed_replicates(rows: Sequence[Image], section: Conditions, known: Sequence[str], *, where: str) -> list[str]:
    """Return a message if the images of a replicate have several conditions."""
    mixed = _several(rows, section.replicate, section.column)
    if not mixed:
        return []
    own, conditions = next(iter(mixed.items()))
    more = f" (as for {len(mixed) - 1} more)" if len(mixed) > 1 else ""
    helps = [
        name
        for name in (*known, section.column)
        if name not in (*section.replicate, "sample", "frame")
        and not _several(rows, [*section.replicate, name], section.column)
    ]
    better = ", ".join([*section.replicate, helps[0]])
    return [
        f"{where}.replicate: expected one {section.column} for each replicate, the unit that was treated as a whole, "
        f"found {some(conditions)} in {JOINT.join(own)!r}{more}. Correct the names, or set "
        f"replicate: [{better}]."
    ]


def _several(rows: Sequence[Image], names: Sequence[str], column: str) -> dict[tuple[str, ...], list[str]]:
    """Return the values of some columns with which images have several conditions: values -> conditions."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        own = found.setdefault(tuple(row[name] for name in names), [])
        if row[column] not in own:
            own.append(row[column])
    return {own: conditions for own, conditions in found.items() if len(conditions) > 1}


def _missing_control(rows: Sequence[Image], section: Conditions, *, where: str) -> list[str]:
    """Return a message if no image is a control, or if all are."""
    conditions = sort_conditions((row[section.column] for row in rows), control=None)
    if section.control is None:
        return []
    if section.control not in conditions:
        shown = ", ".join(map(repr, conditions))
        return [
            f"{where}.control: expected a condition of {section.column}, found {section.control!r}. Set it to one of "
            f"{shown}; quote numbers to keep their zeros."
        ]
    if len(conditions) == 1:
        return [
            f"{where}.column: expected a condition besides the control, found only {section.control!r} in "
            f"{section.column}. Set column to another wildcard or column, or remove control."
        ]
    return []


def _remarks_on_rows(
    samples: Sequence[Sample],
    rows: Sequence[Image | None],
    left: Sequence[tuple[int, Image]],
    *,
    section: Conditions,
    where: str,
) -> list[str]:
    """Return remarks on images without a row, and on rows and conditions without an image."""
    remarks = []
    out = [sample.sample for sample, row in zip(samples, rows, strict=True) if row is None]
    if out:
        remarks.append(
            f"{where}: {section.table} has no row for {len(out)} of {len(samples)} images ({some(out)}), which are "
            "left out of the comparison of conditions"
        )
    if left:
        numbers = some([str(number) for number, _ in left])
        remarks.append(f"{where}: {section.table} has {len(left)} rows without an image (rows {numbers})")
        named = {row[section.column] for row in rows if row is not None}
        lost = dict.fromkeys(cells.get(section.column, "") for _, cells in left)
        if without := [name for name in lost if name and name not in named]:
            remarks.append(f"{where}: no image has the {section.column} {some(without)} of {section.table}")
    return remarks


def _remarks_on_plates(rows: Sequence[Image], section: Conditions, *, where: str) -> list[str]:
    """Return a remark if wells of several plates are one replicate, because they have the same name."""
    if PLATE not in rows[0] or PLATE in section.replicate or not _with_wells(rows, section.replicate):
        return []
    mixed = _several(rows, section.replicate, PLATE)
    if not mixed:
        return []
    own, plates = next(iter(mixed.items()))
    better = ", ".join([PLATE, *section.replicate])
    return [
        f"{where}.replicate: {len(mixed)} replicates have images of several plates, such as {JOINT.join(own)} of "
        f"{some(plates)}. If these are different wells, set replicate: [{better}]"
    ]


def _remarks_on_parts(rows: Sequence[Image], section: Conditions, known: Sequence[str], *, where: str) -> list[str]:
    """Return a remark if wells have several replicates, such as their images, which are not independent."""
    # By its name as well, because batches may be called A1 and B2.
    names = [name for name in known if "well" in name.lower() and name not in (*section.replicate, section.column)]
    for name in _with_wells(rows, names):
        whole = [PLATE, name] if PLATE in rows[0] else [name]
        replicates: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for row in rows:
            replicates.setdefault(tuple(row[key] for key in whole), set()).add(_replicate_of(row, section))
        parted = [own for own, several in replicates.items() if len(several) > 1]
        # The same replicates in several wells are donors or days, and no parts of a well.
        if parted and len({own for several in replicates.values() for own in several}) > len(replicates):
            better = name if len(whole) == 1 else f"[{PLATE}, {name}]"
            return [
                f"{where}.replicate: {len(parted)} wells have several replicates, such as {JOINT.join(parted[0])}. "
                "What is in one well is not independent, so intervals are too narrow and p values too small if the "
                f"well was treated as a whole. Then set replicate: {better}"
            ]
    return []


def _remarks_on_few(rows: Sequence[Image], section: Conditions, *, where: str) -> list[str]:
    """Return a remark on conditions with a single replicate."""
    replicates: dict[str, set[tuple[str, ...]]] = {}
    for row in rows:
        replicates.setdefault(row[section.column], set()).add(_replicate_of(row, section))
    single = sort_conditions((name for name, own in replicates.items() if len(own) == 1), control=section.control)
    if not single:
        return []
    return [
        f"{where}.replicate: {some(single)} {'has' if len(single) == 1 else 'have'} one replicate only, so there is no "
        "interval and no p value: the difference of two replicates may be that of any two"
    ]
