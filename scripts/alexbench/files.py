"""Write files completely or not at all: each is written in a temporary folder beside its target, then moved into place."""

import errno
import fcntl
import glob
import io
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

# What the user can do about each error of the operating system; for all others there is only `_MEND`.
_WAYS_OUT = {
    errno.ENOENT: "make it first, or name another one",
    errno.EACCES: "ask its owner for access (chmod), or name another one",
    errno.EPERM: "ask its owner for access, or name another one",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "part of this path is a file and no folder; name another one",
    errno.EEXIST: "remove what has this name, or name another one",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "its links lead in a circle; name another one",
}
_MEND = "mend that, and the same command goes on"
# Characters of a file's name that go into its temporary folder's name: a name may have 255 bytes, and a character can take four.
_PREFIX_LENGTH = 40


class InputError(Exception):
    """The user's input is wrong. The message names the thing, the value and the way out; no traceback is shown."""


class RefusedError(InputError):
    """The operating system refuses to let a file be read. The file may be intact, so the user must not be told to delete it."""


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its status. An InputError or an operating-system error is shown as one line, with status 1."""
    for stream in (sys.stdout, sys.stderr):
        # A locale that cannot encode our dashes, or a file's odd name, must not crash the program. (A closed stream is None.)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = main()
        if sys.stdout:
            sys.stdout.flush()  # while a failure can still be reported
        sys.exit(status)
    except InputError as error:
        sys.exit(str(error))
    except BrokenPipeError:
        # The reader of our output closed the pipe early, as `head` does. Python flushes once more at exit: send that to /dev/null.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except io.UnsupportedOperation:  # a subclass of OSError, but a bug of ours
        raise
    except OSError as error:
        name = _name(error) or Path(sys.argv[0]).name
        sys.exit(f"{name}: {cause(error)}; {_WAYS_OUT.get(error.errno, _MEND)}" if error.errno else f"{name}: {error}")


def cause(error: Exception) -> str:
    """What is wrong, without the error number and file name, which the caller's message already gives."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def raise_refusal(error: Exception, about: str, path: Path | str) -> None:
    """Raise a RefusedError that starts with `about` if `error` comes from the operating system, not from the content of `path`."""
    # Readers of a damaged file may seek to before its start, which the operating system calls an invalid argument.
    if isinstance(error, OSError) and error.errno not in (None, 0, errno.EINVAL):
        name = _name(error) or path
        raise RefusedError(f"{about}: {name} cannot be read ({error.strerror}); {_WAYS_OUT.get(error.errno, _MEND)}") from None


def _name(error: OSError) -> str:
    """The file that an error is about; "" if it names none."""
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a path in a temporary folder beside `path`; it becomes `path` unless the block raises. Missing parent folders are created.

    If `path` is a link, the file that it points to is replaced; a device or a pipe is written to. InputError if the operating system does
    not allow the write. Temporary folders that a killed process left for the same file are deleted.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if is_special(path):
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder, path.name)
                yield temporary
                with temporary.open("rb") as content, path.open("wb") as special:
                    shutil.copyfileobj(content, special)
            return
        target = path.resolve() if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob(f"{glob.escape(_prefix(target))}*"):
            _delete_unless_locked(left)
        with _temporary_folder(target) as folder:
            temporary = folder / target.name
            yield temporary
            # Some libraries create private files; results must be readable for everyone who may read the folder.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
    except OSError as error:
        name = _name(error)
        # An error about another file, which the block reads, is reported by that file's reader.
        if not error.errno or (name and not path.is_relative_to(name) and _prefix(path) not in name):
            raise
        where = f": {name}" if name and Path(name) in path.parents else ""
        raise InputError(f"{path} cannot be written ({error.strerror}{where}); {_WAYS_OUT.get(error.errno, _MEND)}") from None


def _mode(path: Path) -> int:
    """The `st_mode` of the file that a path leads to; 0 if there is none."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0


def is_special(path: Path) -> bool:
    """Whether a path must be written to, not replaced: a device, a pipe, or a process's open file such as /dev/stdout."""
    place = path.parent.resolve() / path.name
    link = place.readlink() if place.is_symlink() else Path()
    if any(text.startswith("/proc/") for text in map(str, (place, link))):
        return True
    mode = _mode(path)
    return mode != 0 and not stat.S_ISREG(mode)


def _prefix(path: Path) -> str:
    return f".{path.name[:_PREFIX_LENGTH]}."


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, locked while its writer lives. A folder, because libraries may write files beside theirs."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=_prefix(path)))
        handle = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Another process may have taken it for a leftover and deleted it before it was locked.
        if folder.exists():
            break
        os.close(handle)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _delete_unless_locked(folder: Path) -> None:
    """Delete a temporary folder whose writer is gone, so that the kernel has released its lock."""
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
    """Why nothing can be written into a folder, which need not exist, or None if it can. Checks without writing anything."""
    for path in (Path(folder).absolute(), *Path(folder).absolute().parents):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():
                return f"{path} is a link to nothing"
            continue
        except OSError as error:
            return error.strerror
        if not stat.S_ISDIR(mode):
            return os.strerror(errno.ENOTDIR)
        if os.access(path, os.W_OK | os.X_OK):
            return None
        return os.strerror(errno.EROFS if os.statvfs(path).f_flag & os.ST_RDONLY else errno.EACCES)
    return None


def check_open(about: str, *paths: Path | str) -> None:
    """Raise an InputError naming the first folder on the way to one of `paths` that may not be entered; the paths need not exist."""
    for path in map(Path, paths):
        for folder in reversed((path, *path.parents)):
            try:
                shut = stat.S_ISDIR(folder.stat().st_mode) and not os.access(folder, os.R_OK | os.X_OK)
            except PermissionError:  # a link into a folder that may not be entered
                shut = True
            except OSError:
                break
            if shut:
                refused = OSError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
                raise_refusal(refused, about, folder)


def write_json(path: Path | str, content: dict) -> None:
    """Write `content` as indented JSON. ValueError for NaN and infinities, which JSON lacks: use None for what was not measured."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
