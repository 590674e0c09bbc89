"""Read jobs and partitions from SLURM's commands, and explain in words why a job waits."""

import os
import re
import subprocess
from dataclasses import dataclass
from datetime import datetime

# SLURM's reasons for a job to wait, in words. Other reasons are shown under SLURM's names.
REASONS = {
    "None": "about to start",
    "Resources": "waits for free GPUs, cores or memory",
    "Priority": "others are before it",
    "Dependency": "waits for another job",
    "BeginTime": "not before its start time",
    "JobHeldUser": "held by its user (scontrol release)",
    "JobHeldAdmin": "held by an administrator",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "Reservation": "waits for its reservation",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition takes no jobs",
    "PartitionTimeLimit": "asks for more time than the partition allows",
    "PartitionNodeLimit": "asks for more nodes than the partition allows",
    "PartitionConfig": "asks for what the partition does not allow",
    "BadConstraints": "no node is as it asks",
    "NodeDown": "a node that it needs is down",
    "Licenses": "waits for a licence",
    "InvalidAccount": "the account is unknown",
    "InvalidQOS": "the QOS is unknown",
    "launch_failed_requeued_held": "failed to start and is held (scontrol release)",
    "DependencyNeverSatisfied": "the job that it waits for has failed",
    "AccountNotAllowed": "the account may not use this partition",
    "AssocGrpBillingMinutes": "the account's budget is used up",
}
# Reasons that do not go away by themselves: the job would wait for ever.
NEVER = {
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "PartitionConfig",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "AccountNotAllowed",
    "DependencyNeverSatisfied",
    "QOSMaxWallDurationPerJobLimit",
    "QOSMaxCpuPerJobLimit",
    "QOSMaxGRESPerJob",
    "QOSMaxMemoryPerJob",
    "AssocMaxWallDurationPerJobLimit",
    "AssocMaxCpuPerJobLimit",
    "AssocMaxGRESPerJob",
    "AssocMaxMemPerJob",
}
# Final states.
ENDED = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}

_FIELDS = "JobID State Reason SubmitTime StartTime EndTime TimeLimit TimeLeft NodeList Partition tres-per-job tres-per-node Comment"
_FORMAT = ",".join(f"{field}:250|" for field in _FIELDS.split())


class NoAnswer(Exception):
    """SLURM's commands are missing or get no answer from the controller; the text says which."""


@dataclass(frozen=True)
class Job:
    """A SLURM job. Times are None if SLURM gives none; `start` and `end` of a waiting job are estimates."""

    id: str
    state: str
    reason: str
    submitted: datetime | None
    start: datetime | None
    end: datetime | None
    limit_minutes: float | None
    minutes_left: float | None
    node: str
    partition: str
    gpus: int
    comment: str

    @property
    def live(self) -> bool:
        """Whether the job is waiting or running."""
        return self.state not in ENDED

    @property
    def never(self) -> bool:
        """Whether the job waits for something that will never happen."""
        return self.state == "PENDING" and self.reason in NEVER


@dataclass(frozen=True)
class Partition:
    """Nodes of one kind in a partition."""

    name: str
    default: bool
    up: bool
    limit_minutes: float | None
    cores: int
    memory_mb: int
    gres: str
    nodes: int


def answer(*command: str, seconds: float = 60) -> str:
    """Run one of SLURM's commands and return its output. Raises `NoAnswer`."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
            # Ignore the user's own output formats, so that the output can be parsed below.
            env={name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_", "SLURM_TIME_FORMAT"))},
        )
    except FileNotFoundError:
        raise NoAnswer(f"{command[0]} is not on PATH") from None
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"{command[0]} gave no answer within {seconds:.0f} s") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"ended with status {done.returncode}"
        raise NoAnswer(said if said.startswith(command[0]) else f"{command[0]}: {said}")
    return done.stdout


def jobs(*which: str) -> list[Job]:
    """Jobs that SLURM still knows, ended ones included, selected by squeue options (`--name=...`, `--jobs=...`). Raises `NoAnswer`."""
    lines = answer("squeue", "--noheader", "--states=all", f"--Format={_FORMAT}", *which).splitlines()
    return [_job([field.strip() for field in line.split("|")]) for line in lines if line.count("|") >= len(_FIELDS.split())]


def _job(fields: list[str]) -> Job:
    number, state, reason, submitted, start, end, limit, left, node, partition, per_job, per_node, comment = fields[:13]
    # Keep the first word of "(Resources)" or "ReqNodeNotAvail, UnavailableNodes:n1".
    reason = re.split(r"[,( ]", reason.strip("()"))[0]
    gpus = gpus_in(per_job) or gpus_in(per_node)
    return Job(
        number, state, reason, _time(submitted), _time(start), _time(end), minutes(limit), minutes(left), node, partition, gpus, comment
    )


def gpus_in(request: str) -> int:
    """Number of GPUs in a request such as `gres:gpu:h200:2` or `gres/gpu=1,gres/gpu:h200=1`."""
    return max((int(count) for count in re.findall(r"gpu(?::[^,:=]+)?[:=](\d+)", request)), default=0)


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def minutes(text: str) -> float | None:
    """A SLURM time limit, `[days-]hours:minutes:seconds` or shorter, in minutes; None if there is no limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if found:
        days, hours, whole, seconds = (int(part or 0) for part in found.groups())
        return days * 1440 + hours * 60 + whole + seconds / 60
    found = re.fullmatch(r"(?:(\d+)-(\d+)|(\d+))", text)
    if found:
        days, hours, whole = (int(part or 0) for part in found.groups())
        return days * 1440 + hours * 60 + whole
    return None


def partitions() -> list[Partition]:
    """Every kind of node in every partition. Raises `NoAnswer`."""
    found = []
    for line in answer("sinfo", "--exact", "--noheader", "--format=%P|%a|%l|%c|%m|%G|%D").splitlines():
        name, up, limit, cores, memory, gres, nodes = line.split("|")
        number = {key: int(re.match(r"\d+", text)[0]) for key, text in (("cores", cores), ("memory_mb", memory), ("nodes", nodes))}
        found.append(
            Partition(name=name.rstrip("*"), default=name.endswith("*"), up=up == "up", limit_minutes=minutes(limit), gres=gres, **number)
        )
    return found


def in_words(job: Job) -> str:
    """Why a job waits, in words, with SLURM's name for the reason."""
    known = REASONS.get(job.reason)
    if known is None and job.reason.startswith("QOS"):
        known = "a limit of the QOS"
    if known is None and job.reason.startswith("Assoc"):
        known = "a limit of the account"
    return f"{known} ({job.reason})" if known and job.reason != "None" else known or job.reason
