"""Time and memory of the jobs from Snakemake's benchmark files, as a table and as the graph of the stages.

Each file benchmarks/{dataset}/{stage}/...tsv describes one job; stages of a run have a folder with the run's name.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from cellmill.reports.figures import WIDTH, Figure
from cellmill.reports.wording import Cell, Column, Table, count, say_duration, say_number_of, word

# Stage -> stages whose outputs it reads, in the order of the chain
StageInputs = Mapping[str, Sequence[str]]
# Stages that map images to probabilities, with and without a network
PREDICTING = ("predict", "contrast")
FIT_JOB = "fit"
BOX, PITCH = (100, 49), (120, 75)


@dataclass(frozen=True)
class Job:
    """One job: its stage, the run it was for ("" for none), wall time in s and peak memory in MB (None: unknown).

    `name` is its shard, or "fit" if it chose the numbers of the run.
    """

    stage: str
    run: str
    seconds: float
    memory_mb: float | None
    name: str = ""


def read_jobs(folder: str | Path | None) -> list[Job]:
    """Read the benchmark files of a dataset.

    Parameters
    ----------
    folder : path or None
        benchmarks/{dataset}; None or a missing folder means that no jobs are known.

    Returns
    -------
    list of Job
        In the order of the file names. Files that are not such a table are skipped: other programs write them.
    """
    jobs: list[Job] = []
    if folder is None:
        return jobs
    for path in sorted(Path(folder).rglob("*.tsv")):
        stage, *inside = path.relative_to(folder).parts
        try:
            with path.open(newline="", encoding="utf-8") as stream:
                row = next(csv.DictReader(stream, delimiter="\t"))
            seconds, memory = float(row["s"]), row.get("max_rss") or ""
        except (StopIteration, KeyError, ValueError, UnicodeDecodeError):
            continue
        known = memory.replace(".", "", 1).isdigit()
        run = inside[0].removesuffix(".tsv") if len(inside) > 1 or stage == "train" else ""
        jobs.append(Job(stage, run, seconds, float(memory) if known else None, path.stem))
    return jobs


def tabulate_jobs(jobs: Sequence[Job], *, stage_inputs: StageInputs) -> Table | None:
    """Tabulate the stages: jobs, time, memory; None if no jobs are known."""
    rows = []
    for stage in _stages_of(jobs, stage_inputs):
        own = [job for job in jobs if job.stage == stage]
        seconds, memory = [job.seconds for job in own], [job.memory_mb for job in own if job.memory_mb is not None]
        rows.append(
            [
                word(stage),
                count(len(own)),
                Cell(say_duration(sum(seconds)), sum(seconds)),
                Cell(say_duration(max(seconds)), max(seconds)),
                count(max(memory) if memory else None),
            ]
        )
    columns = [
        Column("Stage"), Column("Jobs", True), Column("All jobs", True, "total wall time of all jobs"),
        Column("Longest job", True), Column("Peak memory, MB", True),
    ]  # fmt: skip
    return Table("jobs", "Time and memory of the stages", columns, rows) if rows else None


def draw_stages(jobs: Sequence[Job], *, stage_inputs: StageInputs) -> Figure | None:
    """Draw the stages with their inputs from other stages, their jobs and time; None if no jobs are known."""
    stages = [stage for stage in _stages_of(jobs, stage_inputs) if stage in stage_inputs]
    if not stages:
        return None
    inputs = reduce_graph({stage: stage_inputs[stage] for stage in dict.fromkeys([*stages, "report"])})
    places, (columns, rows) = place_stages(inputs)
    left = (WIDTH - (columns - 1) * PITCH[0] - BOX[0]) / 2
    corners = {stage: (left + column * PITCH[0], 6 + row * PITCH[1]) for stage, (column, row) in places.items()}
    height = 12 + (rows - 1) * PITCH[1] + BOX[1]
    parts = []
    for before, after in ((before, after) for after, befores in inputs.items() for before in befores):
        (x1, y1), (x2, y2) = corners[before], corners[after]
        # Straight down past the rows between, then to the other column in the gap above the box
        start, end = x1 + BOX[0] / 2, x2 + BOX[0] / 2
        gap_top, bend = y2 - (PITCH[1] - BOX[1]), y2 - (PITCH[1] - BOX[1]) / 2
        parts.append(
            f'<path class="edge" d="M{start:.1f},{y1 + BOX[1]:.1f}L{start:.1f},{gap_top:.1f}'
            f'C{start:.1f},{bend:.1f} {end:.1f},{bend:.1f} {end:.1f},{y2:.1f}"/>'
        )
    for stage, (x, y) in corners.items():
        own = [job.seconds for job in jobs if job.stage == stage]
        says = [say_number_of(len(own), "job"), say_duration(sum(own))] if own else ["this page"]
        middle = f'x="{x + BOX[0] / 2:.1f}" text-anchor="middle"'
        parts.append(
            f'<rect class="box" x="{x:.1f}" y="{y:.1f}" width="{BOX[0]}" height="{BOX[1]}" rx="4"/>'
            f'<text class="row-label" {middle} y="{y + 15:.1f}">{escape(stage)}</text>'
        )
        parts += [
            f'<text class="tick" {middle} y="{y + 29 + 13 * line:.1f}">{escape(text)}</text>'
            for line, text in enumerate(says)
        ]
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Graph of the stages">'
    caption = "From top to bottom. The inputs of a stage are above it."
    return Figure("Stages of the pipeline", Markup(head + "".join(parts) + "</svg>"), caption)


def reduce_graph(inputs: StageInputs) -> dict[str, list[str]]:
    """Keep the stages of a graph that are its keys, and of their inputs those that no other input implies.

    Parameters
    ----------
    inputs : mapping
        Stage -> stages whose outputs it reads, also ones that are no key.

    Returns
    -------
    dict
        Stage -> inputs; in the order of the keys.
    """

    def implied(stage: str) -> set[str]:
        known = [before for before in inputs.get(stage, ()) if before in inputs]
        return set(known).union(*(implied(before) for before in known))

    reduced = {}
    for stage, befores in inputs.items():
        known = [before for before in befores if before in inputs]
        reduced[stage] = [b for b in known if not any(b in implied(other) for other in known)]
    return reduced


def place_stages(inputs: StageInputs) -> tuple[dict[str, tuple[float, int]], tuple[int, int]]:
    """Place the stages of a graph in rows, each as far up as its inputs allow.

    Parameters
    ----------
    inputs : mapping
        Stage -> inputs, from `reduce_graph`.

    Returns
    -------
    dict
        Stage -> column and row. Rows are centred, so that a column may be a half. A stage without a reader in the
        next row has a column of its own at the right, so that an edge can go straight down.
    tuple of int
        Numbers of columns and rows.
    """

    def row_of(stage: str) -> int:
        return 1 + max((row_of(before) for before in inputs[stage]), default=-1)

    readers = {stage: [after for after, befores in inputs.items() if stage in befores] for stage in inputs}
    aside = [
        stage for stage, afters in readers.items() if afters and min(map(row_of, afters)) > row_of(stage) + 1
    ]  # fmt: skip
    rows: dict[int, list[str]] = {}
    for stage in inputs:
        rows.setdefault(row_of(stage), []).append(stage)
    inside = {number: [stage for stage in row if stage not in aside] for number, row in rows.items()}
    width = max(map(len, inside.values()))
    places = {
        stage: ((width - len(row)) / 2 + place, number)
        for number, row in inside.items() for place, stage in enumerate(row)
    }  # fmt: skip
    places |= {stage: (float(width + place), row_of(stage)) for place, stage in enumerate(aside)}
    return places, (width + len(aside), 1 + max(rows))


def say_speed(jobs: Sequence[Job], *, run: str, megapixels: float) -> Cell:
    """Compute the megapixels per second of a run's prediction jobs, including the start of the processes.

    Without a network, the job that chooses its numbers is left out, as a training is.
    """
    seconds = sum(job.seconds for job in jobs if job.stage in PREDICTING and job.run == run and job.name != FIT_JOB)
    if not seconds or not megapixels:
        return Cell("–", None)
    return Cell(f"{megapixels / seconds:.3g}", megapixels / seconds)


def megapixels_of(images: Mapping[str, Mapping[str, str]]) -> float:
    """Add up the pixels of all images of images.csv, in millions."""
    sizes = [(row.get("rows") or 0, row.get("columns") or 0) for row in images.values()]
    return sum(int(float(rows)) * int(float(columns)) for rows, columns in sizes) / 1e6


def _stages_of(jobs: Sequence[Job], stage_inputs: StageInputs) -> list[str]:
    """List the stages that have jobs, in the order of the chain; unknown ones last."""
    order = list(stage_inputs)
    found = dict.fromkeys(job.stage for job in jobs)
    return sorted(found, key=lambda stage: (order.index(stage) if stage in order else len(order), stage))
