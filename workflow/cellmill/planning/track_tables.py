"""Track tables of the Cell Tracking Challenge that lie beside the masks and that the config does not name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cellmill.annotations.ctc import UNASKED_TRACKS, read_tracks
from cellmill.config.annotations import Annotations
from cellmill.planning.samples import Sample

TRACK_TABLES = ("man_track.txt", "res_track.txt")


def attach_track_tables(
    samples: Sequence[Sample], *, section: Annotations | None, where: str
) -> tuple[list[Sample], list[str]]:
    """Add the track table beside its mask to each image, unless `tracks` is set or the table is broken.

    Parameters
    ----------
    samples : sequence of Sample
        With their annotations.
    section : Annotations or None
        `format` and `tracks` are read.
    where : str
        Key path of the section, for remarks.

    Returns
    -------
    list of Sample
        Samples, with the table in `extra`.
    list of str
        A remark for each broken table; nobody asked for it, so it is left out. In a cropped film, parents outside the
        crop are missing.
    """
    if section is None or section.format != "ctc" or section.tracks is not None:
        return list(samples), []
    tables: dict[Path, str] = {}
    remarks = []
    for folder in sorted({Path(path).parent for sample in samples for path in sample.annotations}):
        table = next((folder / name for name in TRACK_TABLES if (folder / name).is_file()), None)
        if table is None:
            continue
        try:
            read_tracks(table)
        except ValueError as error:
            remarks.append(
                f"{where}.tracks: the track table beside the masks is not used, because it is broken: {error} "
                "Objects are used without it; set tracks to require it"
            )
        else:
            tables[folder] = str(table)
    return [_with_table(sample, tables) for sample in samples], remarks


def _with_table(sample: Sample, tables: dict[Path, str]) -> Sample:
    table = tables.get(Path(sample.annotations[0]).parent) if sample.annotations else None
    return sample if table is None else replace(sample, extra={**sample.extra, UNASKED_TRACKS: table})
