"""Where and with what a run was made: machine, job, versions, code."""

import os
import platform
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import numpy as np
import pynvml


def available_threads() -> int:
    """CPUs that this process may use: what SLURM or taskset leaves of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model name, as Linux tells it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# What changes bits or speed without the program's doing, and is nobody's default. Numbers of threads are not among it: options say those.
SURROUNDINGS = (
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TF_DETERMINISTIC_OPS",
    "TF_XLA_FLAGS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "XLA_FLAGS",
)


def surroundings() -> dict[str, str]:
    """Exported variables that change results or speed, with their values; asked for before a framework is imported, which sets some."""
    return {name: os.environ[name] for name in SURROUNDINGS if name in os.environ}


def git_commit() -> str | None:
    """Commit of this code, with "-dirty" where files differ from it; None outside a repository.

    Where git cannot tell it, None as well, with a line on stderr that says why.
    """
    # safe.directory: git reads no checkout of another user's, since its configuration may start programs; whoever gets here runs that
    # checkout's code already. fsmonitor would be such a program, and is not needed.
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false"]
    command += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    folder = Path(__file__).parent
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=10)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    else:
        reason = done.stderr.strip().partition("\n")[0]
        if done.returncode == 0:
            return done.stdout.strip()
    print(f"git_commit is left empty, since git does not tell the commit of {folder} ({reason})", file=sys.stderr)
    return None


def queue_seconds() -> float | None:
    """How long this SLURM job has waited between submission and start; None outside of one, or where SLURM does not tell."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    try:
        done = subprocess.run(
            ["scontrol", "show", "job", job], check=False, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=30
        )
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


def gpus() -> list[dict]:
    """The machine's GPUs by NVML: name, driver and memory in bytes; [] where there is no GPU or no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    driver = pynvml.nvmlSystemGetDriverVersion()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    found = [
        {
            "name": pynvml.nvmlDeviceGetName(handle),
            "driver": driver,
            "memory_bytes": _asked(pynvml.nvmlDeviceGetMemoryInfo, handle, "total"),
        }
        for handle in handles
    ]
    pynvml.nvmlShutdown()
    return found


class GpuSampler:
    """Watches the GPU that this process uses, by NVML, from a thread of its own, for as long as the `with` block lasts:

        with GpuSampler(device) as gpu:
            ...
        gpu.summary()

    `device`: "cuda", or "cpu", for which nothing is watched. `seconds`: between two looks. The GPU is the first in CUDA_VISIBLE_DEVICES;
    where that is not set, NVML's first, which on a machine of unlike GPUs need not be CUDA's.
    """

    def __init__(self, device: str, seconds: float = 1.0) -> None:
        self._handle = _visible_gpu() if device == "cuda" else None
        self._between = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._utilisation: list[float] = []
        self._memory: list[float] = []
        self._power: list[float] = []

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        if self._handle is not None:
            self._energy = _asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._elapsed = time.perf_counter() - self._started
        if self._handle is not None:
            self._stop.set()
            self._thread.join()
            before, after = self._energy, _asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, self._handle)
            self._energy = None if before is None or after is None else (after - before) / 1e3

    def _watch(self) -> None:
        while True:
            for values, ask, field in (
                (self._utilisation, pynvml.nvmlDeviceGetUtilizationRates, "gpu"),
                (self._memory, pynvml.nvmlDeviceGetMemoryInfo, "used"),
                (self._power, pynvml.nvmlDeviceGetPowerUsage, None),
            ):
                value = _asked(ask, self._handle, field)
                if value is not None:
                    values.append(value)
            if self._stop.wait(self._between):
                break

    def summary(self) -> dict | None:
        """What was seen: `name`, `driver`; `seconds` watched; `utilisation_percent`, the mean share of time in which a kernel ran;
        `memory_bytes`, the most in use on the GPU, by whomever; `power_watts`, the mean; `energy_joules`. A value that the GPU does not
        tell is None, and all of it where there is no GPU. Where the GPU counts no energy, it is mean power times seconds.
        """
        if self._handle is None:
            return None
        power = float(np.mean(self._power)) / 1e3 if self._power else None
        energy = power * self._elapsed if self._energy is None and power is not None else self._energy
        return {
            "name": _asked(pynvml.nvmlDeviceGetName, self._handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "seconds": self._elapsed,
            "utilisation_percent": float(np.mean(self._utilisation)) if self._utilisation else None,
            "memory_bytes": max(self._memory, default=None),
            "power_watts": power,
            "energy_joules": energy,
        }


def _visible_gpu() -> object | None:
    """NVML's handle of the first GPU that this process may use; None where there is none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByIndex(int(first)) if first.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(first)
    except pynvml.NVMLError:
        return None


def _asked(ask: Callable, handle: object, field: str | None = None):
    """What NVML answers, or a field of it; None where this GPU or this user is not told."""
    try:
        answer = ask(handle)
    except pynvml.NVMLError:
        return None
    return getattr(answer, field) if field else answer
