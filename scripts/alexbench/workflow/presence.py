"""Detect other processes at work in a folder. It uses locks, which the kernel releases when a process ends; a marker file could remain."""

import fcntl
import os
import re
import shutil
import socket
from pathlib import Path


def join(register: Path, stale_when_alone: Path) -> list[str]:
    """Register this process as at work in a folder until it ends; returns the others at work, as "process 123 on login1".

    All processes at work share a lock on the file `register`, which lists them. A process that gets the lock exclusively is alone. Any
    content of the folder `stale_when_alone`, which processes at work fill, was then left by a killed process, and the folder is deleted
    before another process can join. It is kept if a process of another machine is listed, because some network file systems do not share
    locks between machines. If nothing can be locked or written, nothing is deleted and [] is returned.
    """
    try:
        register.parent.mkdir(parents=True, exist_ok=True)
        # Never closed, since that would release the lock. Child processes inherit neither the handle nor a lock of this kind.
        handle = os.open(register, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        alone = _lock_alone(handle)
        # Skip a line that a full disk cut short.
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
    """Take the lock exclusively if possible, otherwise share it; returns whether it is exclusive."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):  # POSIX allows either
        # May wait a moment, while another process holds it exclusively.
        fcntl.lockf(handle, fcntl.LOCK_SH)
        return False


def _filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _may_live(pid: int, host: str) -> bool:
    """Whether a listed process, other than this one, may still be running; one on another machine always may."""
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()
