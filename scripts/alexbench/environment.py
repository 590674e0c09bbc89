"""Where and with what a run was made: machine, job, versions, code."""

import os
import platform
import re
import socket
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def available_threads() -> int:
    """CPUs that this process may use: what SLURM or taskset leaves of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model name, as Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git_commit() -> str | None:
    """Commit of this code, with "-dirty" where files differ from it; None outside a repository or without git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def queue_seconds() -> float | None:
    """How long this SLURM job has waited between submission and start; None outside of one, or where SLURM does not tell."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    try:
        done = subprocess.run(["scontrol", "show", "job", job], check=False, capture_output=True, text=True, timeout=30)
        times = dict(re.findall(r"\b(SubmitTime|StartTime)=(\S+)", done.stdout))
        return (datetime.fromisoformat(times["StartTime"]) - datetime.fromisoformat(times["SubmitTime"])).total_seconds()
    except (OSError, subprocess.TimeoutExpired, KeyError, ValueError):
        return None


def describe() -> dict:
    """Host, SLURM job, code and library versions: the part of a run's metrics that does not depend on the framework."""
    libraries = {}
    for name in ("numpy", "safetensors"):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    return {
        "hostname": socket.gethostname(),
        "slurm_job_id": os.environ.get("SLURM_JOB_ID"),
        "queue_seconds": queue_seconds(),
        "cpu_name": cpu_name(),
        "platform": platform.platform(),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **libraries},
    }
