"""Remove the folders of shards that are no longer in the sample table."""

import re
import shutil
from pathlib import Path

from cellmill.planning.layout import RESERVED_NAMES, RESULTS, SHARD_PATTERN, room_path, rooms_of_run
from cellmill.planning.plan import Plan

# A shard's folder, its file (train-0000.json), or its seal (.train-0000.sha256).
SHARD_ENTRY = re.compile(rf"\.?(?P<shard>{SHARD_PATTERN})(\.json|\.sha256)?")


def remove_old_shards(plan: Plan, *, results_dir: str | Path = RESULTS) -> list[str]:
    """Remove shard folders and files that are not in the plan, so that no old mask reaches a report.

    Only entries named like shards are removed, and only in the folders of the plan's datasets and runs.

    Returns
    -------
    list of str
        Paths that were removed, without the seals.
    """
    removed = []
    for dataset in plan.samples:
        shards = {*plan.shards(dataset), *plan.curve_shards(dataset)}
        paths = [room_path(room, dataset=dataset) for room in sorted(RESERVED_NAMES)]
        for run in plan.runs[dataset]:
            paths += [room_path(room, dataset=dataset, run=run.name) for room in rooms_of_run()]
        for room in (Path(results_dir) / Path(path).relative_to(RESULTS) for path in paths):
            for entry in sorted(room.iterdir()) if room.is_dir() else []:
                name = SHARD_ENTRY.fullmatch(entry.name)
                if name is None or name["shard"] in shards:
                    continue
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
                if not entry.name.startswith("."):
                    removed.append(entry.as_posix())
    return removed
