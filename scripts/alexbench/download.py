"""Files from the network: fetched once, kept, and dropped again when they turn out to be wrong."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alexbench.files import InputError, RefusedError


def is_url(source: str) -> bool:
    return re.match(r"(https?|ftp)://", source, re.IGNORECASE) is not None


@contextmanager
def local_copy(source: str, downloads: Path, key: str) -> Iterator[Path]:
    """Yield the path of `source`: itself, or where it is a URL, its copy in `downloads`, fetched if need be.

    A copy that the block refuses with InputError is deleted, so that the next run fetches it anew. `key` is the
    configuration key to name where the source cannot be had.
    """
    if not is_url(source):
        path = Path(source).expanduser()
        if not path.exists():
            raise InputError(f"{key}: {source} does not exist; give a path that does, or a URL")
        yield path
        return

    import pooch  # only where something is fetched

    try:
        name = unquote(urlsplit(source).path.rpartition("/")[2])
    except ValueError:  # no URL
        name = ""
    # Unquoted, a name may have become a path out of `downloads`.
    if not name or name != Path(name).name or name.startswith(".") or not name.isprintable():
        raise InputError(f"{key}: {source} does not end in a file's name")
    try:
        path = Path(pooch.retrieve(source, known_hash=None, fname=name, path=downloads, progressbar=True))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise InputError(
            f"{key}: cannot download {source} ({error.__class__.__name__}); "
            f"set {key} to a file that you fetched on a machine with internet, or to another URL"
        ) from None
    try:
        yield path
    except RefusedError:  # it may be whole
        raise
    except InputError as error:
        path.unlink(missing_ok=True)
        raise InputError(f"{error} [the download from {source} was deleted]") from None
