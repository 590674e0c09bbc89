"""Keep a campaign's jobs through an outage of SLURM's controller, and record what each job cost.

Snakemake's SLURM executor asks for the states of its jobs five times. If the controller does not answer, it forgets all of them, and
Snakemake waits for ever beside an empty queue. A submission without an answer counts as a failed job. So without this module a restart of
the controller ends a campaign.
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

# Messages of sbatch, and of the plugin's queries before it, when the controller does not answer.
SILENCE = re.compile(
    "unable to contact slurm controller|connect failure|connection (refused|timed out)|timed out on send/recv|zero bytes were transmitted"
    "|slurmdbd: .*(connect|contact)|communication (connection )?failure|slurm temporarily unable|slurm_persist_conn_open",
    re.IGNORECASE,
)
# How long a submission is retried, and the pause between attempts.
HOURS = 24
PAUSE_SECONDS = 10

# Columns of slurm_jobs.csv (submitted jobs) and of costs.csv (ended jobs). `run` is Snakemake's run, `cell` the wildcards of its jobs.
SUBMITTED = ["run", "job", "rule", "cell", "attempt"]
COSTS = [*SUBMITTED[1:], "state", "submitted", "started", "ended", "queue_seconds", "seconds", "gpus", "gpu_hours_asked", "gpu_hours"]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Guard:
    """Wraps Snakemake's SLURM executor for the whole of a run."""

    def __init__(self, executor, results: Path):
        self.executor = executor
        self.results = results
        self.reported: set[str] = set()
        # The attempt number of each submitted job.
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
            # Set this first: the executor waits for its submissions to end.
            self.ending.set()
            return end()

        return note

    def _noting(self, report: Callable) -> Callable:
        def note(info, *args, **kwargs):
            self.reported.add(info.external_jobid)
            return report(info, *args, **kwargs)

        return note

    async def check_active_jobs(self, active: list):
        """The executor's own check, without losing jobs: those that it neither reported nor returned are still active."""
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
                # SLURM answers but does not know the job: it ended during the outage, and its output files tell how. Wait for a second
                # such answer, since a job that was only just submitted may not be listed yet.
                if number in self.unknown:
                    say(f"SLURM no longer knows job {number}, which ended meanwhile; its results decide whether it is run again")
                    self.executor.report_job_success(info)
                    continue
                self.unknown.add(number)
            yield info
        if known:
            self._note(active, known)

    def _look(self) -> dict[str, slurm.Job] | None:
        """This run's jobs in SLURM, by number; None if it does not answer. Reports the start and the end of an outage, once each."""
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
        """Resubmit a job whose submission got no answer, or adopt it if SLURM accepted it all the same. Runs in its own thread."""
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
        """Claim a live job in `queue` that was submitted for `job` and not yet claimed; returns its number, or None."""
        with self.lock:
            for found in queue:
                if found.live and found.id not in self.claimed and found.comment == comment_of(job) and is_of_group(found, job):
                    self.claimed[found.id] = job.attempt
                    return found.id
        return None

    def _note(self, active: list, known: dict[str, slurm.Job]) -> None:
        """Append a row to costs.csv for each job that has ended since the last check."""
        jobs = {info.external_jobid: info.job for info in active}
        ended = [job for number, job in known.items() if number in jobs and number in self.reported]
        append(self.results / "costs.csv", COSTS, [self._of(job.id, jobs[job.id]) | cost(job) for job in ended])

    def _of(self, number: str, job) -> dict:
        """Identify a job by Snakemake's names: number, rule, wildcards, attempt."""
        # A group has several jobs: separate their wildcards by spaces.
        jobs = sorted(job.jobs, key=lambda one: one.jobid) if job.is_group() else [job]
        rules = " ".join(dict.fromkeys(one.rule.name for one in jobs))
        wildcards = " ".join("/".join(map(str, one.wildcards)) for one in jobs)
        return {"job": number, "rule": rules, "cell": wildcards, "attempt": self.claimed[number]}


def append(path: Path, columns: list[str], rows: list[dict]) -> None:
    """Append rows to a CSV file, which is created if necessary."""
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
    """The comment that the executor gives a SLURM job; it identifies the job later."""
    from snakemake_executor_plugin_slurm.utils import get_job_wildcards

    wildcards = get_job_wildcards(job)
    return f"rule_{job.name}_wildcards_{wildcards}" if wildcards else f"rule_{job.name}"


def is_of_group(found: slurm.Job, job) -> bool:
    """Whether a SLURM job runs the targets of `job`. Only groups need this check: all groups of one name have the same comment."""
    if not job.is_group():
        return True
    from snakemake_interface_executor_plugins.utils import encode_target_jobs_cli_args

    try:
        script = slurm.answer("scontrol", "write", "batch_script", found.id, "-")
    except slurm.NoAnswer:
        return False
    return all(re.search(rf"{re.escape(target)}(?![\w.])", script) for target in encode_target_jobs_cli_args(job.get_target_spec()))


def cost(job: slurm.Job) -> dict:
    """What a job used, as columns of costs.csv: wall time in seconds, GPU time in hours."""
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
