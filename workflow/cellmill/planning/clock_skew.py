"""Input files with times in the future, which come from machines whose clocks are wrong."""

import shlex
import time
from datetime import datetime
from pathlib import Path

from cellmill.planning.plan import Plan
from cellmill.planning.results import list_inputs

# Clocks of a file server and its clients differ by less.
TOLERANCE_S = 5.0
SHOWN = 3


def files_of_the_future(plan: Plan) -> list[str]:
    """List the datasets with files that are newer than any result could be.

    Snakemake takes results as outdated that are older than their inputs, and discards them after their job.
    """
    now = time.time()
    mistakes = []
    for dataset in plan.samples:
        inputs = list_inputs(plan, dataset)
        members = [member for row in plan.samples[dataset] for member in row.members]
        times = {path: _time_of(path) for path in [*inputs["images"], *members, *inputs["annotations"]]}
        late = [path for path, written in times.items() if written > now + TOLERANCE_S]
        if not late:
            continue
        more = f" and {len(late) - SHOWN} more" if len(late) > SHOWN else ""
        shown = ", ".join(late[:SHOWN])
        example = (
            f"{datetime.fromtimestamp(times[late[0]]):%Y-%m-%d %H:%M}, and it is {datetime.fromtimestamp(now):%H:%M}"
        )
        touch = " ".join(["touch", *map(shlex.quote, late[:SHOWN])])
        mistakes.append(
            f"datasets.{dataset}: expected files that were written before now, found {shown}{more} with times in the "
            f"future ({late[0]}: {example} on {datetime.fromtimestamp(now):%Y-%m-%d}). The clock of the machine that "
            f"wrote them is wrong, or that of this one. Correct it, or set the times of the files with "
            f"`{touch}{' …' if more else ''}`."
        )
    return mistakes


def _time_of(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:  # reported elsewhere
        return 0.0
