"""What keeps a campaign's jobs when SLURM's controller goes away for a while, and notes what each job cost.

Snakemake's SLURM executor asks five times for the states of its jobs; where nobody answers it forgets them all, and Snakemake waits for
ever beside an empty queue. A submission that nobody answers counts as a failed job. Either way a controller that restarts ends a campaign.
"""

import csv
import re
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from alexbench.workflow import slurm

# What sbatch, and the plugin's own questions before it, say when nobody answers.
SILENCE = re.compile(
    "unable to contact slurm controller|connect failure|connection (refused|timed out)|timed out on send/recv|zero bytes were transmitted"
    "|slurmdbd: .*(connect|contact)|communication (connection )?failure|slurm temporarily unable|slurm_persist_conn_open",
    re.IGNORECASE,
)
# How long submissions are tried again, and the pause between two.
HOURS = 24
PAUSE_SECONDS = 10

# Of each job that was submitted, and of each that has ended.
SUBMITTED = ["run", "job", "rule", "cell", "attempt"]
COSTS = [*SUBMITTED[1:], "state", "submitted", "started", "ended", "queue_seconds", "seconds", "gpus", "gpu_hours_asked", "gpu_hours"]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Guard:
    """Stands around an executor of Snakemake's for SLURM, from the start of a run to its end."""

    def __init__(self, executor, results: Path):
        self.executor = executor
        self.results = results
        self.reported: set[str] = set()
        # The attempt that each submitted job is.
        self.claimed: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.told: set[str] = set()
        self.silent_since: float | None = None
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self._check, self._submitted = executor.check_active_jobs, executor._report_job_submission_threadsafe
        self._failed = executor._report_job_error_threadsafe
        executor.check_active_jobs = self.check_active_jobs
        executor._report_job_submission_threadsafe = self.submitted
        executor._report_job_error_threadsafe = self.not_submitted
        for name in ("report_job_success", "report_job_error"):
            setattr(executor, name, self._noting(getattr(executor, name)))
        for name in ("cancel", "shutdown"):
            setattr(executor, name, self._ending(getattr(executor, name)))

    def _ending(self, end: Callable) -> Callable:
        def note():
            # First, since the executor waits for its submissions to end.
            self.ending.set()
            return end()

        return note

    def _noting(self, report: Callable) -> Callable:
        def note(info, *args, **kwargs):
            self.reported.add(info.external_jobid)
            return report(info, *args, **kwargs)

        return note

    async def check_active_jobs(self, active: list):
        """The executor's own, which loses no job: what it neither reported nor gave back is still active."""
        left = {}
        async for info in self._check(active):
            left[info.external_jobid] = info
        if not active:
            return
        forgotten = [info for info in active if info.external_jobid not in left and info.external_jobid not in self.reported]
        left |= {info.external_jobid: info for info in forgotten}
        known = self._look()
        for number, info in left.items():
            if known is not None and number not in known:
                # SLURM answers and knows nothing of it: it ended while nobody answered. Its files tell how; asked twice, since a job that
                # was submitted just now may not be listed yet.
                if number in self.unknown:
                    say(f"SLURM no longer knows job {number}, which ended meanwhile; its results decide whether it is run again")
                    self.executor.report_job_success(info)
                    continue
                self.unknown.add(number)
            yield info
        if known:
            self._note(active, known)

    def _look(self) -> dict[str, slurm.Job] | None:
        """This run's jobs as SLURM knows them, by number; None where it does not answer, which is said once, and so is its return."""
        try:
            known = {job.id: job for job in slurm.jobs(f"--name={self.executor.run_uuid}")}
        except slurm.NoAnswer as silence:
            if self.silent_since is None:
                self.silent_since = time.monotonic()
                say(f"SLURM does not answer ({silence}). Its jobs run on, Snakemake waits for it; nothing is lost.")
            return None
        if self.silent_since is not None:
            say(f"SLURM answers again, after {time.monotonic() - self.silent_since:.0f} s")
            self.silent_since = None
        for job in known.values():
            if job.never and job.id not in self.told:
                self.told.add(job.id)
                say(f"SLURM job {job.id} ({job.comment}) can never start: {slurm.in_words(job)}. scancel {job.id}; make doctor tells more")
        return known

    def submitted(self, info) -> None:
        with self.lock:
            self.claimed[info.external_jobid] = info.job.attempt
            append(self.results / "slurm_jobs.csv", SUBMITTED, [{"run": self.executor.run_uuid} | self._of(info.external_jobid, info.job)])
        self._submitted(info)

    def not_submitted(self, info, msg: str) -> None:
        """Submit a job again for which nobody was there; where it was taken without a word, take it over. Called in a thread of its own."""
        if not SILENCE.search(msg) or self.ending.is_set():
            self._failed(info, msg)
            return
        say(f"SLURM did not take a job of {info.job.name}: {' '.join(msg.split())[:200]}. It is submitted again when SLURM answers.")
        limit = time.monotonic() + HOURS * 3600
        while not self.ending.wait(PAUSE_SECONDS) and time.monotonic() < limit:
            try:
                queue = slurm.jobs(f"--name={self.executor.run_uuid}")
            except slurm.NoAnswer:
                continue
            taken = self._claim(info.job, queue)
            if taken is None:
                self.executor.run_job(info.job)
            else:
                say(f"SLURM had taken it, as job {taken}")
                log = next(self.executor.slurm_logdir.rglob(f"{taken}.log"), self.executor.slurm_logdir)
                self.submitted(type(info)(info.job, external_jobid=taken, aux={"slurm_logfile": log}))
            return
        self._failed(info, msg)

    def _claim(self, job, queue: list[slurm.Job]) -> str | None:
        """The number of a live job that was submitted for `job` and that nobody has claimed; from now on it is."""
        with self.lock:
            for found in queue:
                if found.live and found.id not in self.claimed and found.comment == comment_of(job) and is_of_group(found, job):
                    self.claimed[found.id] = job.attempt
                    return found.id
        return None

    def _note(self, active: list, known: dict[str, slurm.Job]) -> None:
        """A row of the costs for each job that has ended since the last look."""
        jobs = {info.external_jobid: info.job for info in active}
        ended = [job for number, job in known.items() if number in jobs and number in self.reported]
        append(self.results / "costs.csv", COSTS, [self._of(job.id, jobs[job.id]) | cost(job) for job in ended])

    def _of(self, number: str, job) -> dict:
        """What a job is, by Snakemake's names."""
        # Several in one job: cells with a space between them.
        jobs = sorted(job.jobs, key=lambda one: one.jobid) if job.is_group() else [job]
        rules = " ".join(dict.fromkeys(one.rule.name for one in jobs))
        cells = " ".join("/".join(map(str, one.wildcards)) for one in jobs)
        return {"job": number, "rule": rules, "cell": cells, "attempt": self.claimed[number]}


def append(path: Path, columns: list[str], rows: list[dict]) -> None:
    """Add rows to a table, which is begun where there is none."""
    if not rows:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        if new:
            table.writeheader()
        table.writerows(rows)


def comment_of(job) -> str:
    """What the executor writes beside a job, by which it is known again."""
    from snakemake_executor_plugin_slurm.utils import get_job_wildcards

    wildcards = get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"


def is_of_group(found: slurm.Job, job) -> bool:
    """Whether a job of SLURM's is to run what `job` does, where that is a group: the comments of all groups of one name are the same."""
    if not job.is_group():
        return True
    from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

    try:
        script = slurm.answer("scontrol", "write", "batch_script", found.id, "-")
    except slurm.NoAnswer:
        return False
    return all(re.search(rf"{re.escape(target)}(?![\w.])", script) for target in encode_target_jobs_cli_args(job.get_target_spec()))


def cost(job: slurm.Job) -> dict:
    """What a job took, as a part of a row of the costs; seconds of wall time, hours of GPUs."""
    started = job.start if job.end and job.start and job.start <= job.end else None
    seconds = (job.end - started).total_seconds() if started else 0.0
    waited = (started - job.submitted).total_seconds() if started and job.submitted else None
    return {
        "state": job.state,
        "submitted": when(job.submitted),
        "started": when(started),
        "ended": when(job.end),
        "queue_seconds": "" if waited is None else round(waited),
        "seconds": round(seconds),
        "gpus": job.gpus,
        "gpu_hours_asked": "" if job.limit_minutes is None else round(job.gpus * job.limit_minutes / 60, 4),
        "gpu_hours": round(job.gpus * seconds / 3600, 4),
    }


def when(time: datetime | None) -> str:
    return time.isoformat() if time else ""
