"""Who else is at work in a folder. The kernel ends a lock with the process that holds it, however that ends; a file may stay for ever."""

import fcntl
import os
import re
import shutil
import socket
from pathlib import Path


def join(register: Path, stale_when_alone: Path) -> list[str]:
    """Be at work in a folder until this process ends; returns who else is, as "process 123 on login1".

    All that are at work share a lock on the file `register`, which lists them. Whoever gets that lock for itself is alone: the folder
    `stale_when_alone`, which one at work may fill, was then left behind by a process that was killed, and is deleted before another can
    join. Not so where a process of another machine is listed: some network file systems keep each machine's locks to itself. Where
    nothing can be locked or written, nothing is deleted and nobody is known.
    """
    try:
        register.parent.mkdir(parents=True, exist_ok=True)
        # Never closed: that would end the lock. Child processes inherit neither the handle nor a lock of this kind.
        handle = os.open(register, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        alone = _lock_alone(handle)
        # Not what a full disk cut short.
        listed = re.findall(r"^(\d+) (\S+)$", os.pread(handle, 1 << 20, 0).decode(errors="replace"), re.MULTILINE)
        if alone and (not _filled(stale_when_alone) or all(host == socket.gethostname() for _, host in listed)):
            shutil.rmtree(stale_when_alone, ignore_errors=True)
            os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()} {socket.gethostname()}\n".encode())
        fcntl.lockf(handle, fcntl.LOCK_SH)
    except OSError:
        return []
    return [] if alone else [f"process {pid} on {host}" for pid, host in listed if _may_live(int(pid), host)]


def _lock_alone(handle: int) -> bool:
    """Whether the lock is ours alone; if not, we share it."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):  # POSIX allows for either
        # Waits for the instant that another one is alone.
        fcntl.lockf(handle, fcntl.LOCK_SH)
        return False


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _may_live(pid: int, host: str) -> bool:
    """Whether a listed process other than this one may still be at work: of another machine's nothing is known."""
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()
