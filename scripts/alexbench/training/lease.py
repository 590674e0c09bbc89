"""A GPU of its own for each process that computes on one, on a machine where several run at once.

Each GPU, or part of one (MIG), has a lock file in a folder that all users of the machine share. The kernel releases a lock when its process
ends, however that ends. Only this workflow's programs look at these locks.

Who shares a GPU says with how many: that many then have a place on it each. They hold the GPU's lock together, so that nobody has it alone
meanwhile, and one lock a place; those who say another number, and whose seconds are of another kind, take another GPU or wait.
"""

import fcntl
import glob
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pynvml

# Names another folder for the locks, for containers that do not share /tmp. TMPDIR does not: each user or job may have its own.
FOLDER = "ALEXBENCH_GPU_LOCKS"
# Says that a process which started this one holds the GPU for both.
INHERITED = "ALEXBENCH_GPU"
SECONDS_BETWEEN_TRIES = 0.5


@dataclass
class Lease:
    """`gpu`: the UUID of the GPU that is held, None where there was nothing to take. `waited_seconds`: until it was free.

    `handles`: file descriptors to pass on to a process that works on the same GPU: the lock then lasts until the last of them ends.
    """

    gpu: str | None = None
    waited_seconds: float = 0.0
    handles: tuple[int, ...] = ()

    def release(self) -> None:
        """Let another process have the GPU."""
        if self.handles:
            _close(self.handles)
            os.environ.pop(INHERITED, None)
        self.gpu, self.handles = None, ()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def one_gpu(device: str, say: Callable[[str], None] = _to_stderr, runs_per_gpu: int = 1) -> Iterator[Lease]:
    """Hold the first free GPU of those that CUDA_VISIBLE_DEVICES leaves, for as long as the block lasts; wait where none is free.

    With `runs_per_gpu`, a place on one, together with others that say the same number, up to that many.

    Call it before a framework looks for GPUs: CUDA_VISIBLE_DEVICES names only this one from then on, also after the block, since a
    framework looks once. `device`: "auto", "cuda", or "cpu", for which nothing is held. Nothing is held either where NVML finds no GPU.
    `say` is told of waiting.
    """
    lease = _take(device, say, runs_per_gpu)
    try:
        yield lease
    finally:
        lease.release()


def _take(device: str, say: Callable[[str], None], runs_per_gpu: int) -> Lease:
    names = [] if device == "cpu" else visible_gpus()
    if not names:
        return Lease()
    if names == [os.environ.get(INHERITED)]:
        return Lease(gpu=names[0])
    folder = Path(os.environ.get(FOLDER, "/tmp/alexbench-gpus"))
    started, told = time.perf_counter(), False
    try:
        while (held := _first_free(folder, names, runs_per_gpu)) is None:
            if not told:
                say(
                    f"other processes hold every GPU that this one may use ({', '.join(names)}); waiting for one. "
                    "To start fewer at once, lower Snakemake's --resources gpu=N"
                )
                told = True
            time.sleep(SECONDS_BETWEEN_TRIES)
    except OSError as error:
        say(f"no GPU can be reserved in {folder} ({error.strerror}): see to it that no other training uses the same one")
        return Lease()
    name, handles = held
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[INHERITED] = name
    return Lease(name, time.perf_counter() - started if told else 0.0, handles)


def _first_free(folder: Path, names: list[str], runs_per_gpu: int) -> tuple[str, tuple[int, ...]] | None:
    """The first of these GPUs that has room, held from now on, and the descriptors that hold it."""
    for name in names:
        path = folder / name.replace("/", "-")
        alone = _locked(path) if runs_per_gpu == 1 else None
        handles = _place(path, runs_per_gpu) if runs_per_gpu > 1 else () if alone is None else (alone,)
        if handles:
            return name, handles
    return None


def _place(path: Path, runs_per_gpu: int) -> tuple[int, ...]:
    """Descriptors that hold one of so many places on the GPU whose lock is `path`; () where all are taken, or others have the GPU."""
    held: list[int] = []

    def also(handle: int | None) -> bool:
        held.extend(() if handle is None else (handle,))
        return handle is not None

    ours = path.with_name(f"{path.name}-by-{runs_per_gpu}")
    # Both said before others are looked for: of two numbers that come at once, neither overlooks the other.
    if also(_locked(path, fcntl.LOCK_SH)) and also(_locked(ours, fcntl.LOCK_SH)):
        others = [other for other in path.parent.glob(f"{glob.escape(path.name)}-by-*") if other != ours]
        free = all(_is_free(other) for other in others)
        if free and any(also(_locked(path.with_name(f"{path.name}-place{number}"))) for number in range(runs_per_gpu)):
            return tuple(held)
    _close(held)
    return ()


def _is_free(path: Path) -> bool:
    handle = _locked(path)
    if handle is not None:
        os.close(handle)
    return handle is not None


def _close(handles: Iterable[int]) -> None:
    for handle in handles:
        os.close(handle)


def _locked(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """A descriptor that holds the lock on a file, which is made if need be; None where another process holds it, and not to share."""
    while True:
        handle = _opened(path)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            # Whatever cleans up /tmp may have deleted the file meanwhile: others would then lock a new one of that name.
            if os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False)):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        os.close(handle)


def _opened(path: Path) -> int:
    """A descriptor of a lock file, of whatever user, made where it is not there. It is only read: that is enough for a lock."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        # Apart, since Linux refuses to open another user's file in a folder of this kind where the call could also make it.
        umask = os.umask(0)
        try:
            with suppress(FileExistsError):
                # As in /tmp, everybody may add files and delete only their own.
                path.parent.mkdir(0o1777)
            with suppress(FileExistsError):
                return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444)
        finally:
            os.umask(umask)


def visible_gpus() -> list[str]:
    """What CUDA may use here, by UUID, in its order: whole GPUs, or the parts of those that are divided (MIG). [] where NVML finds none.

    CUDA_VISIBLE_DEVICES chooses as CUDA reads it: numbers, UUIDs or the first characters of one, up to the first that does not exist. A
    number is that of nvidia-smi, and CUDA's too unless the machine has unlike GPUs and CUDA_DEVICE_ORDER is not PCI_BUS_ID.
    """
    parts = _machine()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = list(parts) if chosen is None else []
    for entry in () if chosen is None else chosen.split(","):
        there = _matching(entry.strip(), parts)
        if there is None:
            break
        found.append(there)
    # A divided GPU is not to be had as a whole.
    return list(dict.fromkeys(part for name in found for part in (parts.get(name) if parts.get(name) is not None else [name])))


def _machine() -> dict[str, list[str] | None]:
    """The machine's GPUs by UUID, in NVML's order, with the UUIDs of their parts; None for a GPU that is not divided."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    parts = {}
    try:
        for number in range(pynvml.nvmlDeviceGetCount()):
            with suppress(pynvml.NVMLError):  # a GPU that is broken, or another job's
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                parts[_uuid(handle, str(number))] = _mig_parts(handle)
    except pynvml.NVMLError:  # a driver that does not count
        return {}
    finally:
        pynvml.nvmlShutdown()
    return parts


def _uuid(handle: object, otherwise: str) -> str:
    try:
        return pynvml.nvmlDeviceGetUUID(handle)
    except pynvml.NVMLError:
        return otherwise


def _mig_parts(handle: object) -> list[str] | None:
    """The UUIDs of a GPU's parts; None where it is not divided."""
    try:
        if pynvml.nvmlDeviceGetMigMode(handle)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return None
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except pynvml.NVMLError:  # a GPU that cannot be divided
        return None
    parts = []
    for number in range(most):
        with suppress(pynvml.NVMLError):  # numbers without a part
            parts.append(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    return parts


def _matching(entry: str, parts: dict[str, list[str] | None]) -> str | None:
    """The UUID that an entry of CUDA_VISIBLE_DEVICES means; None where CUDA would find nothing."""
    if entry.isdigit():
        return list(parts)[int(entry)] if int(entry) < len(parts) else None
    known = [*parts, *(part for some in parts.values() for part in some or ())]
    matches = [name for name in known if name.startswith(entry)] if entry.startswith(("GPU-", "MIG-")) else []
    if not matches and entry.startswith("MIG-GPU-"):
        # An older form of a part's name, which CUDA takes and NVML may list in its newer form.
        return entry
    return matches[0] if len(matches) == 1 else None
