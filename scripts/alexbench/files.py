"""Files that are whole or absent: each is written under a temporary name beside its target and moved into place."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn


class InputError(Exception):
    """Something the user gave is wrong. The message names the thing, the value and the way out; no traceback is shown."""


def run_program(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its status; for an InputError, with its message and status 1."""
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(str(error))


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path` (made if need be); it becomes `path` unless the block raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; results are to be read by whoever may read the folder.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path | str, content: dict) -> None:
    """Write `content` as indented JSON. NaN and infinities, which JSON lacks, are a ValueError: say None for what was not measured."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
