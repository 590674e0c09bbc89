"""GPU reservation: each process gets a GPU of its own where several run on one machine.

Each GPU, or part of one (MIG), has a lock file in a folder that all users of the machine share. The kernel releases a lock when its process
ends, however it ends. Only this workflow's programs look at these locks.

A process that shares a GPU says how many runs may share it, and takes one of that many places. The sharing processes hold the GPU's lock in
shared mode, so that no process can take the whole GPU meanwhile, and each holds the lock of its place. A process that asks for a different
number takes another GPU or waits, because its times would not be comparable.
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

# Environment variable that moves the lock folder, for containers that do not share /tmp. TMPDIR would not do: it can differ by user or job.
FOLDER = "ALEXBENCH_GPU_LOCKS"
# Environment variable with the GPU that the parent process already holds for this one.
INHERITED = "ALEXBENCH_GPU"
SECONDS_BETWEEN_TRIES = 0.5


@dataclass
class Lease:
    """A held GPU. `gpu`: its UUID, None if there was nothing to reserve. `waited_seconds`: how long it took to become free.

    `handles`: file descriptors to pass to a child process that uses the same GPU; the lock then lasts until the last holder ends.
    """

    gpu: str | None = None
    waited_seconds: float = 0.0
    handles: tuple[int, ...] = ()

    def release(self) -> None:
        """Free the GPU for other processes."""
        if self.handles:
            _close(self.handles)
            os.environ.pop(INHERITED, None)
        self.gpu, self.handles = None, ()


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def one_gpu(device: str, say: Callable[[str], None] = _to_stderr, runs_per_gpu: int = 1) -> Iterator[Lease]:
    """Hold the first free GPU that CUDA_VISIBLE_DEVICES allows for the duration of the block; wait if none is free.

    With `runs_per_gpu` above 1, hold one of that many places on a GPU, shared with processes that ask for the same number.

    Call it before a framework looks for GPUs. It sets CUDA_VISIBLE_DEVICES to this GPU and leaves it so after the block, since a framework
    looks only once. `device`: "auto", "cuda" or "cpu". Nothing is held for "cpu", or where NVML finds no GPU.
    `say` gets a message when it has to wait, or when the lock folder cannot be used.
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
        say(f"no GPU can be reserved in {folder} ({error.strerror}): make sure that no other training uses the same one")
        return Lease()
    name, handles = held
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ[INHERITED] = name
    return Lease(name, time.perf_counter() - started if told else 0.0, handles)


def _first_free(folder: Path, names: list[str], runs_per_gpu: int) -> tuple[str, tuple[int, ...]] | None:
    """Take the first of these GPUs that has room; returns its name and the descriptors that hold it, or None."""
    for name in names:
        path = folder / name.replace("/", "-")
        alone = _locked(path) if runs_per_gpu == 1 else None
        handles = _place(path, runs_per_gpu) if runs_per_gpu > 1 else () if alone is None else (alone,)
        if handles:
            return name, handles
    return None


def _place(path: Path, runs_per_gpu: int) -> tuple[int, ...]:
    """Take one of `runs_per_gpu` places on the GPU whose lock is `path`; returns the descriptors, () if there is no place."""
    held: list[int] = []

    def also(handle: int | None) -> bool:
        held.extend(() if handle is None else (handle,))
        return handle is not None

    ours = path.with_name(f"{path.name}-by-{runs_per_gpu}")
    # Take both locks before looking for other numbers, so that two processes arriving at once with different numbers see each other.
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
    """Lock a file, created if necessary; returns the descriptor, or None if another process holds a conflicting lock."""
    while True:
        handle = _opened(path)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            # A /tmp cleaner may have deleted the file meanwhile; other processes would then lock a new file of that name.
            if os.path.samestat(os.fstat(handle), path.stat(follow_symlinks=False)):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except FileNotFoundError:
            pass
        os.close(handle)


def _opened(path: Path) -> int:
    """Open a lock file, whichever user owns it, creating it if necessary. Read-only access is enough for a lock."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        # A separate call: in a sticky folder that all may write to, Linux refuses to open another user's file with O_CREAT.
        umask = os.umask(0)
        try:
            with suppress(FileExistsError):
                # As in /tmp, everyone may add files but delete only their own.
                path.parent.mkdir(0o1777)
            with suppress(FileExistsError):
                return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444)
        finally:
            os.umask(umask)


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that CUDA may use, in its order; a divided GPU (MIG) is listed as its parts. [] if NVML finds none.

    CUDA_VISIBLE_DEVICES is read the way CUDA reads it: numbers, UUIDs or UUID prefixes, up to the first that does not exist. Numbers are
    those of nvidia-smi; CUDA's are the same unless the machine has GPUs of different models and CUDA_DEVICE_ORDER is not PCI_BUS_ID.
    """
    parts = _machine()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = list(parts) if chosen is None else []
    for entry in () if chosen is None else chosen.split(","):
        there = _matching(entry.strip(), parts)
        if there is None:
            break
        found.append(there)
    # A divided GPU cannot be used as a whole.
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
            with suppress(pynvml.NVMLError):  # a broken GPU, or one of another job
                handle = pynvml.nvmlDeviceGetHandleByIndex(number)
                parts[_uuid(handle, str(number))] = _mig_parts(handle)
    except pynvml.NVMLError:  # a driver that cannot count its GPUs
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
    """UUIDs of a GPU's MIG parts; None if it is not divided."""
    try:
        if pynvml.nvmlDeviceGetMigMode(handle)[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return None
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except pynvml.NVMLError:  # no MIG support
        return None
    parts = []
    for number in range(most):
        with suppress(pynvml.NVMLError):  # unused part numbers
            parts.append(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
    return parts


def _matching(entry: str, parts: dict[str, list[str] | None]) -> str | None:
    """The UUID that an entry of CUDA_VISIBLE_DEVICES refers to; None if CUDA would find nothing."""
    if entry.isdigit():
        return list(parts)[int(entry)] if int(entry) < len(parts) else None
    known = [*parts, *(part for some in parts.values() for part in some or ())]
    matches = [name for name in known if name.startswith(entry)] if entry.startswith(("GPU-", "MIG-")) else []
    if not matches and entry.startswith("MIG-GPU-"):
        # An older form of a part's name: CUDA accepts it, but NVML may list the newer form.
        return entry
    return matches[0] if len(matches) == 1 else None
