"""Shard folders that have lost files are made again before the jobs of a run are planned.

Snakemake would rerun all jobs that follow. Each level of folders is therefore made by a snakemake of its own, with the
same options. The seals are equal afterwards, so nothing else runs. See workflow/decisions/0003-seals.md.
"""

import contextlib
import inspect
import io
import json
import os
import signal
import subprocess
import sys

from snakemake import cli
from snakemake.exceptions import WorkflowError

from cellmill.planning.incomplete import find_incomplete

# Set in the snakemake that makes folders again
REMAKING = "CELLMILL_REMAKING"
# Options with which snakemake runs no jobs, or all of them
OTHER_TASKS = """
    touch unlock lint forceall list_rules list_target_rules list_input_changes list_params_changes
    list_code_changes list_changes list_untracked delete_all_output delete_temp_output cleanup_metadata
    summary detailed_summary archive dag rulegraph filegraph d3dag report containerize export_cwl
    generate_unit_tests print_compilation conda_create_envs_only conda_cleanup_envs container_cleanup_images
    list_conda_envs edit_notebook
""".split()
# The command line of this process, with the options that come as JSON on the standard input
SNAKEMAKE = """
import json, sys
from snakemake import cli
changes, parse = json.load(sys.stdin), cli.parse_args
def parse_args(argv):
    parser, args = parse(argv)
    vars(args).update(changes)
    return parser, args
cli.parse_args = parse_args
cli.main(sys.argv[1:])
"""


def start_folder():
    """Return the folder in which snakemake was started; the option --directory has left it already."""
    for frame in inspect.stack():
        handler = getattr(frame.frame.f_locals.get("self"), "_workdir_handler", None)
        if handler is not None and handler.olddir is not None:
            return handler.olddir
    return Path.cwd()


def options_of_run():
    """Return the options of this snakemake; None if it was not started by its command line, or runs no jobs."""
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return None
    with (
        contextlib.chdir(start_folder()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        _, options = cli.parse_args(sys.argv[1:])
    is_other = any(getattr(options, name, None) for name in OTHER_TASKS)
    return None if is_other else options


def run_snakemake(targets, options, *, forced):
    """Run snakemake for some targets; return its exit status. Forced ones run although they are up to date."""
    changes = {
        **{"targets": targets, "forcerun": forced, "force": False},
        **{"until": [], "omit_from": [], "prioritize": [], "batch": None},
        # The lines about the machine were printed once.
        **({"quiet": ["host"]} if options.quiet is None else {}),
    }
    child = subprocess.Popen(
        [sys.executable, "-c", SNAKEMAKE, *sys.argv[1:]],
        cwd=start_folder(),
        env={**os.environ, REMAKING: "1"},
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        child.communicate(json.dumps(changes))
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        child.wait()
        raise
    return child.returncode


def remake_incomplete_folders():
    """Make incomplete folders again, level by level; print a line for each."""
    if not workflow.is_main_process or REMAKING in os.environ:
        return
    levels = find_incomplete(PLAN)
    if not any(levels) or (options := options_of_run()) is None:
        return
    # The check reads raw images only.
    levels = levels[:1] if options.targets == ["check"] else levels
    for level in levels:
        for entry in level:
            print(entry, file=sys.stderr, flush=True)
        folders = [entry.folder for entry in level]
        if level and run_snakemake(folders, options, forced=folders) != 0:
            raise WorkflowError(
                f"{level[0].folder}: expected to make {len(level)} incomplete folders again, found a failed job. "
                "Its message is above. Run snakemake again once its cause is removed."
            )


remake_incomplete_folders()
