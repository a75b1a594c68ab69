"""Code shared by all stages: the plan of the run, growing resources, and the params `settings` and `code` of jobs."""

import gc
import os
import signal
import sys
import time
from pathlib import Path

WORKFLOW_DIR = Path(workflow.basedir) / "workflow"
# Makes cellmill importable here and, through the preamble that Snakemake adds, in every script.
sys.path.insert(0, str(WORKFLOW_DIR))

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cellmill.runlog import describe_damage

try:
    import cellmill.planning.make
except Exception as error:
    if damage := describe_damage(error):
        raise WorkflowError(damage) from None
    raise

from cellmill.annotations.formats import ANNOTATION_FORMATS, FORMATS_OF_CORRECTIONS
from cellmill.config.errors import ConfigError
from cellmill.config.yaml_slips import slips_of_files, with_lines
from cellmill.exports.model_file import MODEL_SUFFIX
from cellmill.planning.exports import exported_files
from cellmill.planning.layout import (
    CRATE,
    DATASET_PATTERN,
    DIAMETER,
    FIT,
    INDEX,
    LABELS_TO_CORRECT,
    MEAN_PATTERN,
    OF_EXPERIMENT,
    REPORT,
    RECIPE,
    RUN_PATTERN,
    SHARD_PATTERN,
    TRAINED_PATTERN,
    WEIGHTS,
    WORKLIST,
    check_paths,
    dataset_path,
    pattern_of_runs,
    run_path,
    shard_path,
    table_paths,
)
from cellmill.planning.make import (
    CACHE_DIR,
    freeze,
    make_plan,
    thaw,
    write_sample_tables,
)
from cellmill.planning.model_paths import path_to_read
from cellmill.planning.old_shards import remove_old_shards
from cellmill.planning.progress import record_progress
from cellmill.planning.proposals import is_proposing, plan_proposal, wrong_targets
from cellmill.planning.results import result_paths
from cellmill.planning.retries import spare_attempts
from cellmill.planning.settings import job_settings
from cellmill.planning.status import STATUS, describe_run
from cellmill.planning.terminal import choose_reporter, shorten_terminal
from cellmill.planning.waking import calm_scheduler
from cellmill.planning.worklists import worklist_run
from cellmill.provenance import CODE_FACTS, code_digests
from cellmill.shards import FEW_IMAGES, seal_path

PRESETS_DIR = Path(workflow.basedir) / "resources" / "models"

# Answered at once, without a plan, and also while another snakemake holds the lock of the folder. Snakemake knows its
# targets only after this file.
if workflow.is_main_process and STATUS in sys.argv[1:]:
    print(describe_run(CACHE_DIR, now=time.time()))
    sys.exit(0)

TERMINAL = (
    shorten_terminal(logger, workflow.output_settings)
    if workflow.is_main_process
    else None
)
if workflow.is_main_process and "CELLMILL_REMAKING" not in os.environ:
    record_progress(logger, workflow.output_settings, folder=CACHE_DIR)

try:
    if workflow.is_main_process:
        # profiles/default has read the files strictly, unless another profile took its place.
        if slips := slips_of_files(workflow.configfiles):
            raise ConfigError(slips)
    if is_proposing(config):
        PLAN = plan_proposal(config)
    elif workflow.is_main_process:
        # The tables of many images are no garbage; to search them for some takes longer than to make them.
        gc.disable()
        PLAN = make_plan(config, presets_dir=PRESETS_DIR)
        gc.freeze()
        gc.enable()
    else:
        # A job on a cluster has the environment of the main process, but a terminal of its own.
        choose_reporter(None)
        PLAN = thaw(config, presets_dir=PRESETS_DIR)
except ConfigError as error:
    mistakes = with_lines(
        error.mistakes,
        workflow.configfiles,
        overridden=set(workflow.config_settings.config),
    )
    message = str(ConfigError(mistakes))
    if TERMINAL is not None:
        TERMINAL.mistakes = message
    raise WorkflowError(message) from None


# Rules whose outputs have the same paths divide the runs between them.
CLASSICAL_RUNS = [(run.dataset, run.name) for run in PLAN.classical_runs()]
MASK_RUNS = [(run.dataset, run.name) for run in PLAN.mask_runs()]


def begin():
    """Freeze the sample tables for job processes, and remove shards that are no longer in them."""
    choose_reporter(TERMINAL)
    stop_trainings(signal.SIGTERM)  # Snakemake has set its own handler only now
    rules_of_run = {job.rule.name for job in workflow.dag.jobs}
    if message := wrong_targets(PLAN, rules_of_run):
        raise WorkflowError(message)
    calm_scheduler(workflow.scheduler)
    spare_attempts(workflow.scheduler)
    try:
        freeze(PLAN, config)
        write_sample_tables(PLAN)
    except ValueError as error:  # a full disk
        raise WorkflowError(str(error)) from None
    # If no report is built, as in `snakemake check`, nothing is removed.
    for removed in remove_old_shards(PLAN) if "report" in rules_of_run else []:
        print(
            f"Removed {removed}: none of its images is in the sample table any more.",
            file=sys.stderr,
        )


def name_reports():
    """Print where the reports are, unless this run only makes incomplete folders again."""
    if "CELLMILL_REMAKING" in os.environ:
        return
    for dataset in PLAN.samples:
        page = Path(dataset_path(dataset, REPORT))
        if page.is_file():
            print(f"Report of {dataset}: {page}", file=sys.stderr)


def growing(amount, *, thousand=0):
    """Return the resource function of an amount, with `thousand` more for each 1,000 images; attempts add it again."""

    def resource(wildcards, attempt):
        images = len(PLAN.samples.get(getattr(wildcards, "dataset", ""), ()))
        return (amount + round(thousand * images / 1000)) * attempt

    return resource


def growing_with_images(minutes):
    """Return the resource function of a time for 200 images: larger shards get more, further attempts get it again."""

    def resource(wildcards, attempt):
        shard = getattr(wildcards, "shard", None)
        images = 0 if shard is None else len(PLAN.rows(wildcards.dataset, shard))
        return round(minutes * max(1, images / FEW_IMAGES)) * attempt

    return resource


def settings_of(stage):
    """Return the params function for `settings`: the canonical settings that a job uses, and no others."""

    def settings(wildcards):
        return job_settings(
            PLAN, stage, **{key: wildcards[key] for key in wildcards.keys()}
        )

    return settings


# Sources are parsed once until they change, also for the processes of jobs.
CODE_FACTS.load(CACHE_DIR / "code.json")
if workflow.is_main_process:
    CODE_FACTS.read_all(WORKFLOW_DIR)
    CODE_FACTS.keep(CACHE_DIR / "code.json")
_CODE = {}
# Module that loads the reader of a raw format by name; jobs that reach it depend on the readers of their images.
RAW_READING = "cellmill.images.raw_files"


def code_of(stage):
    """Return the params function for `code`: digests of the script and of everything it imports."""

    def code(wildcards):
        also = ()
        if stage in ("train", "predict", "export_onnx", "export_bioimageio"):
            run = PLAN.run(wildcards.dataset, wildcards.run)
            also = (
                ()
                if PLAN.is_classical(run)
                else (f"cellmill.models.{PLAN.architecture(run)}",)
            )
        if stage in ("check_shard", "rasterize"):
            section = PLAN.annotations(wildcards.dataset, wildcards.shard)
            also = (
                ()
                if section is None
                else (ANNOTATION_FORMATS[section.format]["module"],)
            )
            # Corrections may have other formats.
            if PLAN.config.datasets[wildcards.dataset].corrections is not None:
                also += tuple(
                    ANNOTATION_FORMATS[name]["module"]
                    for name in sorted(set(FORMATS_OF_CORRECTIONS.values()))
                )
        if stage == "masks":
            section = PLAN.run(wildcards.dataset, wildcards.run).masks
            also = (ANNOTATION_FORMATS[section.format]["module"],)
        digests = _digest_code(stage, also)
        if RAW_READING in digests and "dataset" in wildcards.keys():
            also += PLAN.raw_readers(wildcards.dataset)
        return _digest_code(stage, also)

    return code


def _digest_code(stage, also):
    if (stage, also) not in _CODE:
        _CODE[stage, also] = code_digests(
            WORKFLOW_DIR / "scripts" / f"{stage}.py", also=also
        )
    return _CODE[stage, also]
