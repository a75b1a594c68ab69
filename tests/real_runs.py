"""Run the pipeline on real images, in a folder of the project, for the experiments and the figures of the documentation."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from cellmill.reports.verdict import Difference

ROOT = Path(__file__).resolve().parents[1]


def find_data() -> Path:
    """Return the folder of real images, from CELLMILL_DATA or beside the project; exit with a message if missing."""
    data = Path(os.environ.get("CELLMILL_DATA", ROOT.parent / "shared/data"))
    if not data.is_dir():
        sys.exit(f"{data}: expected real images there, found no folder. Set CELLMILL_DATA.")
    return data


def read_section(name: str) -> dict[str, Any]:
    """Read the section of a config that describes a folder of real images."""
    content = yaml.safe_load((ROOT / f"tests/pipeline/real/{name}.yaml").read_text())
    section: dict[str, Any] = content["datasets"][name]
    return section


def run_pipeline(
    folder: Path, data: Path, config: dict[str, Any], *, until: tuple[str, ...] = (), threads: int = 1
) -> None:
    """Run a config whose paths start in the folder of the data on two cores; existing results are kept.

    With `until`, only these rules and what they need are run. A training has one of the cores, or both `threads`.
    """
    folder.mkdir(exist_ok=True)
    for found in sorted(data.iterdir()):
        if found.is_dir() and not (folder / found.name).exists():
            (folder / found.name).symlink_to(found.resolve())
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    subprocess.run(
        [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--configfile", "config.json", "--cores", "2",
         "--set-threads", f"train={threads}", f"predict={threads}", *(["--until", *until] if until else [])],
        cwd=folder, check=True,
    )  # fmt: skip


def say_difference(found: "Difference | None") -> str:
    """Return a difference with its interval; dashes where there are too few images for one, nothing without images."""
    if found is None:
        return ""
    low, high = ("–" if end is None else f"{end:+.3f}" for end in (found.low, found.high))
    return f"{found.value:+.3f} ({low} to {high})"
