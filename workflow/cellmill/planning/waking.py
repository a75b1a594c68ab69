"""Let Snakemake's main process sleep while jobs run.

Snakemake 9.27 wakes its scheduler again a second after each round, because its limit of jobs per second may then permit
more. Each round that a finished job starts leaves one more such alarm, and each alarm sets the next. After a hundred
jobs the scheduler wakes a hundred times a second and looks at the inputs of all waiting jobs each time. Measured: a
quarter of a core after 80 jobs with 40 waiting, half of one in a study of 350 jobs; local jobs then lack it.
"""

import threading
from typing import Any


class Alarm:
    """One alarm for the scheduler, set only if the limit of jobs is reached and none is set yet.

    Parameters
    ----------
    scheduler : snakemake.scheduling.job_scheduler.JobScheduler
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._timer: threading.Timer | None = None

    def set(self, delay: float) -> None:
        """Wake the scheduler after a delay (s), unless a finished job will wake it anyway."""
        limiter = self._scheduler.job_rate_limiter
        is_set = self._timer is not None and self._timer.is_alive()
        if is_set or (limiter is not None and limiter.get_free_jobs() > 0):
            return
        self._timer = threading.Timer(delay, self._scheduler._open_jobs.release)
        self._timer.daemon = True
        self._timer.start()


def calm_scheduler(scheduler: Any) -> None:
    """Replace the alarms of Snakemake's scheduler by a single one; leave a scheduler of another version as it is."""
    names = ("_schedule_reevalutation", "_open_jobs", "job_rate_limiter")
    if all(hasattr(scheduler, name) for name in names):
        scheduler._schedule_reevalutation = Alarm(scheduler).set
