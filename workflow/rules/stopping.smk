"""A stop of snakemake reaches its trainings, which save a checkpoint and end.

A signal that is sent to snakemake alone, as by a scheduler or an editor, does not reach its jobs. After SIGINT, Snakemake
waits for the running jobs and discards their outputs; after SIGTERM it waits for them. A training could take hours.
"""

import atexit
import os
import signal

from cellmill.planning.make import CACHE_DIR

STOP_FILE = (CACHE_DIR / f"stop-{os.getpid()}").absolute()


def stop_trainings(number):
    """Create the file that trainings watch for when a signal arrives, then do what Snakemake does."""
    earlier = signal.getsignal(number)
    if not callable(earlier):  # ignored, as in a background job of a script
        return

    def stop(number, frame):
        STOP_FILE.parent.mkdir(parents=True, exist_ok=True)
        STOP_FILE.touch()
        earlier(number, frame)

    signal.signal(number, stop)


# Before a time limit SLURM signals all processes of a job, but only the training understands SIGUSR1. It would end the
# snakemake that started the training, and with it the job, before the checkpoint is saved. The shell between the two,
# and the scripts of other rules, inherit that the signal is ignored.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# Processes of single local jobs start no further jobs.
if workflow.is_main_process or workflow.remote_exec:
    os.environ.update(CELLMILL_STOP=f"{STOP_FILE}:{os.getpid()}")
    STOP_FILE.unlink(missing_ok=True)
    atexit.register(STOP_FILE.unlink, missing_ok=True)
    stop_trainings(signal.SIGINT)
