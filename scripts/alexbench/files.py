"""Files that are whole or absent: each is written in a temporary folder beside its target and moved into place."""

import errno
import fcntl
import glob
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

# What the machine refuses, and not the program or its input.
_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


class InputError(Exception):
    """Something the user gave is wrong. The message names the thing, the value and the way out; no traceback is shown."""


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its status; for an InputError, with its message and status 1.

    Where nobody reads what it prints any more (`| head -1`), it ends without a word, with the status that a shell gives to such an end.
    """
    try:
        status = main()
        print(end="", flush=True)
        sys.exit(status)
    except BrokenPipeError:
        # Python flushes once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except InputError as error:
        sys.exit(str(error))


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a path in a temporary folder beside `path` (whose folder is made if need be); it becomes `path` unless the block raises.

    InputError where the machine does not let it be written: a full or read-only disk, no more descriptors. What a process that was
    killed left of the same file is deleted.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
            _delete_unless_locked(left)
        with _temporary_folder(path) as folder:
            temporary = folder / path.name
            yield temporary
            # Some libraries make private files; results are to be read by whoever may read the folder.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
    except OSError as error:
        if error.errno not in _MACHINE:
            raise
        raise InputError(f"{path} cannot be written ({error.strerror}); mend that, and the same command goes on") from None


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, locked as long as its writer lives. A folder, since libraries put files of their own beside theirs."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        handle = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Not where another process took it for left behind before it was locked.
        if folder.exists():
            break
        os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _delete_unless_locked(folder: Path) -> None:
    """Delete a temporary folder whose writer is no more: the kernel has ended its lock."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def refusal(folder: Path | str) -> str | None:
    """Why nothing can be written into a folder, which need not exist; None where it can. Nothing is written to find out."""
    there = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if os.access(there, os.W_OK | os.X_OK):
        return None
    read_only = os.statvfs(there).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def write_json(path: Path | str, content: dict) -> None:
    """Write `content` as indented JSON. NaN and infinities, which JSON lacks, are a ValueError: say None for what was not measured."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
