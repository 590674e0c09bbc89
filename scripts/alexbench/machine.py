"""What a run was made with: machine, SLURM job, versions, code."""

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
    """Number of CPUs that this process may use, which SLURM or taskset may have restricted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's model name if Linux gives it, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# Environment variables that change a run's bits or speed and are unset by default. Thread counts are not among them: options set those.
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
    """Exported variables that change results or speed, with their values. Call this before importing a framework, which sets some."""
    return {name: os.environ[name] for name in SURROUNDINGS if name in os.environ}


def git_commit() -> str | None:
    """Commit of this code, with "-dirty" if files differ from it; None outside a repository.

    Also None if git cannot tell the commit; a line on stderr then says why.
    """
    # git refuses to read another user's checkout, whose configuration may start programs. safe.directory overrides that: this process runs
    # the checkout's code anyway. fsmonitor would be such a program and is not needed.
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
    print(f"git_commit is left empty, because git cannot tell the commit of {folder} ({reason})", file=sys.stderr)
    return None


def queue_seconds() -> float | None:
    """Seconds that this SLURM job waited between submission and start; None outside a job, or if SLURM does not say."""
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
    """The machine's GPUs as NVML lists them: name, driver and memory in bytes; [] without a GPU or a driver."""
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
    """Watch the GPU that this process uses through NVML, from a separate thread, while the `with` block runs:

        with GpuSampler(device) as gpu:
            ...
        gpu.summary()

    `device`: "cuda", or "cpu" to watch nothing. `seconds`: interval between samples. The GPU is the first in CUDA_VISIBLE_DEVICES; if that
    is not set, it is NVML's first, which need not be CUDA's first on a machine with different GPUs.
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
        """What was seen, or None without a GPU. Values that the GPU does not report are None.

        `name`, `driver`; `seconds` watched; `utilisation_percent`: mean share of time in which a kernel ran; `memory_bytes`: peak memory in
        use on the GPU, by any process; `power_watts`: mean; `energy_joules`: mean power times seconds if the GPU does not count energy.
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
    """NVML's handle of the first GPU that this process may use; None if there is none."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByIndex(int(first)) if first.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(first)
    except pynvml.NVMLError:
        return None


def _asked(ask: Callable, handle: object, field: str | None = None):
    """NVML's answer, or one field of it; None if this GPU does not report it or this user may not read it."""
    try:
        answer = ask(handle)
    except pynvml.NVMLError:
        return None
    return getattr(answer, field) if field else answer
