"""Download files: once per URL, resumed where a transfer broke off, deleted if they turn out to be wrong."""

import errno
import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from alexbench.files import InputError, RefusedError

# Timeouts in seconds: for the connection, and for the next bytes.
_TIMEOUT = (15, 60)
# Attempts without any progress; seconds to wait before the second one, doubled each time; the longest wait that Retry-After may ask for.
_ATTEMPTS = 5
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
# Statuses after which the server may succeed a little later.
_LATER = (429, 500, 502, 503, 504)
# Age at which abandoned partial downloads are deleted.
_PART_SECONDS = 7 * 24 * 3600

_STATUSES = {
    401: "it asks for a login; put yours into ~/.netrc, or fetch the file in a browser",
    403: "the server refuses it, since it asks for a login or takes no programs; fetch the file in a browser",
    404: "there is no such file; look for a slip in the address, or for where the file is now",
    407: "the proxy asks for a login; put yours into the address in https_proxy",
    410: "the file was taken away; look for where it is now",
    429: "the server had too many requests from here; try again later",
}


def is_url(source: str) -> bool:
    return re.match(r"(https?|ftp)://", source, re.IGNORECASE) is not None


def file_name(source: str) -> str:
    """The name of the file at a path or URL; "" if a URL has none, or none that is safe as a file name."""
    if not is_url(source):
        return Path(source).name
    try:
        name = unquote(urlsplit(source).path.rpartition("/")[2])
    except ValueError:  # not a URL
        return ""
    # Once unquoted, the name may be a path that leads out of `downloads`.
    return "" if name != Path(name).name or name.startswith(".") or not name.isprintable() else name


@contextmanager
def local_copy(source: str, downloads: Path, key: str, sha256: str | None = None) -> Iterator[Path]:
    """Yield a local path for `source`: `source` itself, or if it is a URL, its copy in `downloads`, downloaded if need be.

    A copy is named HASH-NAME, with HASH taken from the whole URL. `sha256` is what the file's SHA-256 must start with: a copy that does not
    match is downloaded again, and a matching file that the user put there as NAME is used. If the block raises InputError, a new copy is
    deleted unless its SHA-256 is right. `key` is the configuration key to name in errors.
    """
    if not is_url(source):
        path = Path(source).expanduser()
        if not path.exists():
            raise InputError(f"{key}: {source} does not exist; give a path that does, or a URL")
        yield path
        return

    name = file_name(source)
    if not name:
        raise InputError(f"{key}: {source} does not end in a file's name")
    # A name that any file system accepts, whatever the locale.
    kept = downloads / f"{_short_hash(source)}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)[-150:]}"

    def found() -> Path | None:
        if sha256:
            return next((path for path in (kept, downloads / name) if _is_file(path) and has_sha256(path, sha256)), None)
        return kept if kept.is_file() else None

    _delete_old_parts(downloads)
    path = found()
    new = False
    if path is None:
        with _writing(kept, key), _part_of(kept) as (part, file):
            # Another process may have downloaded it while this one waited for the lock.
            path = found()
            if path is None:
                try:
                    _download(source, file, _version_file(part))
                except _Refused as error:
                    reason = f"{error} ({kept} is there, but its SHA-256 does not start with {sha256})" if kept.exists() else str(error)
                    raise InputError(
                        f"{key}: cannot download {source}: {reason}; set {key} to a file that you fetched on a machine with internet, "
                        f"or to another URL, or put the file there as {kept}"
                    ) from None
                part.replace(kept)
                path, new = kept, True
    try:
        yield path
    except RefusedError:  # the file may be intact
        raise
    except InputError as error:
        if not new:
            raise InputError(f"{error} [delete {path} to have {source} fetched again]") from None
        if not (sha256 and has_sha256(path, sha256)):
            path.unlink(missing_ok=True)
            raise InputError(f"{error} [the download from {source} was deleted]") from None
        raise


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def has_sha256(path: Path, start: str) -> bool:
    """Whether a file's SHA-256 starts with these hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(start.lower())


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that the file system rejects
        return False


class _Refused(Exception):
    """Why a file cannot be downloaded."""


@contextmanager
def _writing(kept: Path, key: str) -> Iterator[None]:
    """Raise an InputError that names the folder if the download cannot be written to disk."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            way_out = "make room, and the same command goes on where the download stopped"
        else:
            way_out = f"mend that, or set {key} to a file that you fetched yourself"
        raise InputError(f"{kept.parent} cannot be written ({error.strerror or error}); {way_out}") from None


@contextmanager
def _part_of(kept: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yield path and open file of a partial download, to one process at a time: the others wait here until it ends."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_name(f".{kept.name}.part")
    while True:
        # Not from tempfile, whose files only their owner can read. "a" keeps what is there.
        with part.open("a+b") as file:
            try:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print(f"{kept}: another process is fetching it; waiting for that", file=sys.stderr, flush=True)
                    fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                pass
            # The part may have become the whole file, or been deleted, before this process got the lock.
            if not _is_at(file, part):
                continue
            try:
                yield part, file
            finally:
                # Nothing can be resumed from an empty part.
                with suppress(OSError):
                    file.flush()
                if _is_at(file, part) and not part.stat().st_size:
                    part.unlink()
                    _version_file(part).unlink(missing_ok=True)
            return


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _version_file(part: Path) -> Path:
    """The file that keeps the server's version mark for a part; see `_version`."""
    return part.with_suffix(".version")


def _delete_old_parts(downloads: Path) -> None:
    for part in downloads.glob(".*.part"):
        with suppress(OSError), part.open("rb") as file:
            if time.time() - part.stat().st_mtime > _PART_SECONDS:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
                _version_file(part).unlink(missing_ok=True)


def _download(source: str, part: BinaryIO, version_file: Path) -> None:
    """Download what `part` lacks of `source`. If that fails, _Refused says why, and what arrived stays in `part` to resume from."""
    import requests  # only if something is downloaded

    pause, failures, begun = _PAUSE_SECONDS, 0, False
    with requests.Session() as session:
        while True:
            before = part.seek(0, os.SEEK_END)
            seconds = None
            try:
                _receive(session, source, part, version_file)
                version_file.unlink(missing_ok=True)
                return
            except _Later as error:
                reason, seconds = str(error), error.seconds
            except (requests.RequestException, ValueError) as error:  # ValueError: not a URL after all
                reason = _explain(error)
                begun = begun or part.seek(0, os.SEEK_END) != before
                # Waiting does not help without internet, but it does if a transfer broke off.
                if not (begun or isinstance(error, requests.exceptions.ChunkedEncodingError) or "Connection aborted" in str(error)):
                    raise _Refused(reason) from None
            if part.seek(0, os.SEEK_END) > before:
                pause, failures = _PAUSE_SECONDS, 0
            failures += 1
            if failures == _ATTEMPTS:
                raise _Refused(f"{reason} (tried {failures} times)")
            seconds = pause if seconds is None else min(seconds, _LONGEST_PAUSE_SECONDS)
            print(f"{source}: {reason}; trying again in {seconds:.0f} s", file=sys.stderr, flush=True)
            time.sleep(seconds)
            pause *= 2


class _Later(Exception):
    """The server may succeed later: after `seconds`, or None if it does not say."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.seconds = seconds


def _receive(session, source: str, part: BinaryIO, version_file: Path) -> None:
    """Append the rest of `source` to `part`; start over if the server cannot resume or the file has changed since."""
    from requests.adapters import Retry
    from tqdm import tqdm

    size = part.seek(0, os.SEEK_END)
    version = version_file.read_text(encoding="utf-8", errors="replace") if size and version_file.exists() else ""
    # Ask for the file as stored; otherwise a .gz would arrive unpacked.
    headers = {"Accept-Encoding": "identity"}
    if version:
        headers |= {"Range": f"bytes={size}-", "If-Range": version}
    with session.get(source, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        status = response.status_code
        if version and status in (206, 416):
            resumes = re.match(rf"bytes {size}-", response.headers.get("Content-Range", "")) and _version(response) in ("", version)
            if status == 416 or not resumes:
                part.truncate(0)
                return _receive(session, source, part, version_file)
        elif status in (200, 203):
            size = 0
            part.truncate(0)
            version_file.write_text(_version(response), encoding="utf-8")
        else:
            phrase = f" ({HTTPStatus(status).phrase})" if status in list(HTTPStatus) else ""
            meaning = _STATUSES.get(status, "the server fails; try again later" if status >= 500 else "the server does not give the file")
            reason = f"HTTP {status}{phrase}: {meaning}"
            if status in _LATER:
                seconds = None
                if "Retry-After" in response.headers:
                    with suppress(Exception):  # urllib3's own error for a value that is neither seconds nor a date
                        seconds = Retry().parse_retry_after(response.headers["Retry-After"])
                raise _Later(reason, seconds)
            raise _Refused(reason)
        # requests would unpack a response that says it is compressed.
        response.raw.headers.pop("Content-Encoding", None)
        length = response.headers.get("Content-Length", "")
        total = size + int(length) if length.isdecimal() else None
        shown = {"initial": size, "total": total, "unit": "B", "unit_scale": True, "mininterval": 1, "desc": file_name(source)}
        with tqdm(**shown) as progress:
            for piece in response.iter_content(1 << 16):
                part.write(piece)
                progress.update(len(piece))
    part.flush()


def _version(response) -> str:
    """The server's version mark for a file, in a form that If-Range accepts: its ETag or date; "" if it has none."""
    etag = response.headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")


def _explain(error: Exception) -> str:
    """What a failed request means, in words."""
    from requests import exceptions

    text = str(error)
    system = re.findall(r"\[Errno -?\d+\] ([\w ,'-]+)", text)
    if isinstance(error, exceptions.InvalidSchema):
        return "only http:// and https:// addresses can be fetched"
    if isinstance(error, exceptions.InvalidURL) or not isinstance(error, exceptions.RequestException):
        return "it is no address that a file could be fetched from"
    if isinstance(error, exceptions.ProxyError):
        return f"the proxy does not answer ({system[-1] if system else 'ProxyError'}); look at https_proxy and http_proxy"
    if isinstance(error, exceptions.SSLError):
        detail = re.search(r"certificate verify failed: ([\w ,'.-]+)|\[SSL[^\]]*\] ([\w ]+)", text)
        return f"no secure connection ({(detail[1] or detail[2]).strip() if detail else 'SSLError'})"
    if isinstance(error, exceptions.TooManyRedirects):
        return "the server redirects in a circle, as login pages do; fetch the file in a browser"
    if isinstance(error, exceptions.ConnectTimeout):
        return f"no connection within {_TIMEOUT[0]} s"
    if isinstance(error, exceptions.ReadTimeout) or "Read timed out" in text:
        return f"the server sent nothing for {_TIMEOUT[1]} s"
    if "Failed to resolve" in text:
        return "its host's name is unknown here; is there internet, and is the name right?"
    if isinstance(error, exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    if "Connection aborted" in text:
        return "the server closed the connection without an answer"
    return f"no connection ({system[-1] if system else error.__class__.__name__})"
