"""Downloads from a server on this machine: fetched once per URL, resumed, kept if right, deleted if wrong."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alexbench.experiment import download
from alexbench.experiment.download import local_copy
from alexbench.files import InputError
from conftest import ROOT, Server, sha256

LARGE = os.urandom(3_000_000)


@pytest.fixture
def downloads(tmp_path) -> Path:
    return tmp_path / "downloads"


def fetch(source: str, downloads: Path, **options) -> bytes:
    with local_copy(source, downloads, "weights.source", **options) as path:
        return path.read_bytes()


def refusal(source: str, downloads: Path, **options) -> str:
    with pytest.raises(InputError) as raised:
        fetch(source, downloads, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def left(downloads: Path) -> list[str]:
    return sorted(path.name for path in downloads.iterdir())


def test_a_url_is_fetched_once(server, downloads):
    server.files["a.bin"] = b"content"
    assert fetch(server.url("a.bin"), downloads) == b"content"
    server.files.clear()
    assert fetch(server.url("a.bin"), downloads) == b"content"
    assert len(server.asked) == 1 and len(left(downloads)) == 1


def test_another_url_with_the_same_last_part_is_another_file(server, downloads):
    server.files |= {"one/a.bin": b"one", "two/a.bin": b"two", "a.bin?v=3": b"three"}
    for path, content in server.files.items():
        assert fetch(server.url(path), downloads) == content
    assert fetch(server.url("one/a.bin"), downloads) == b"one" and len(server.asked) == 3


def test_a_copy_of_another_hash_is_fetched_again(server, downloads):
    server.files["a.bin"] = b"old"
    assert fetch(server.url("a.bin"), downloads, sha256=sha256(b"old")) == b"old"
    server.files["a.bin"] = b"new"
    assert fetch(server.url("a.bin"), downloads) == b"old"
    assert fetch(server.url("a.bin"), downloads, sha256=sha256(b"new")[:8].upper()) == b"new"
    # If the right file cannot be fetched, the message says that another one is there.
    server.files.clear()
    assert "-a.bin is there, but its SHA-256 does not start with 00000000" in refusal(server.url("a.bin"), downloads, sha256="0" * 8)


def test_a_file_put_there_by_hand_is_used_by_its_hash_or_its_full_name(server, downloads):
    server.files["a.bin"] = b"theirs"
    downloads.mkdir()
    (downloads / "a.bin").write_bytes(b"mine")
    assert fetch(server.url("a.bin"), downloads, sha256=sha256(b"mine")) == b"mine"
    # Without a hash, the file could be anyone's.
    assert fetch(server.url("a.bin"), downloads) == b"theirs"
    name = re.search(r"put the file there as (\S+)", refusal("http://127.0.0.1:9/b.bin", downloads))[1]
    Path(name).write_bytes(b"mine")
    assert fetch("http://127.0.0.1:9/b.bin", downloads) == b"mine"
    # A file that somebody put there is named, not deleted.
    with pytest.raises(InputError, match=rf"not what was expected \[delete {name} to have"):
        with local_copy("http://127.0.0.1:9/b.bin", downloads, "weights.source"):
            raise InputError("not what was expected")
    assert Path(name).exists()


def test_a_download_that_is_refused_is_deleted(server, downloads):
    server.files["a.bin"] = b"<html>"
    with pytest.raises(InputError, match=rf"not what was expected \[the download from {server.url('a.bin')} was deleted\]"):
        with local_copy(server.url("a.bin"), downloads, "data.archive"):
            raise InputError("not what was expected")
    assert not left(downloads)
    # The right file is kept, since the mistake lies elsewhere.
    with pytest.raises(InputError, match=r"^it lacks a classifier$"):
        with local_copy(server.url("a.bin"), downloads, "data.archive", sha256=sha256(b"<html>")):
            raise InputError("it lacks a classifier")
    assert len(left(downloads)) == 1


@pytest.mark.parametrize("path", ["missing.bin", None])
def test_what_cannot_be_fetched_names_the_key_to_set(server, downloads, path):
    # None: nothing listens on that port.
    source = server.url(path) if path else "http://127.0.0.1:9/a.bin"
    assert re.search(r"weights\.source: cannot download .* set weights\.source to a file", refusal(source, downloads))
    assert not left(downloads)


def killed_amid_a_download(server: Server, downloads: Path) -> None:
    """Have a process fetch a.bin, and kill it partway through."""
    server.files["a.bin"] = LARGE
    server.seconds = 0.05
    code = (
        "import sys; from pathlib import Path; from alexbench.experiment.download import local_copy\n"
        "with local_copy(sys.argv[1], Path(sys.argv[2]), 'x'): pass"
    )
    process = subprocess.Popen([sys.executable, "-c", code, server.url("a.bin"), str(downloads)], cwd=ROOT / "scripts")
    limit = time.monotonic() + 60
    while not any(path.stat().st_size > 300_000 for path in downloads.glob(".*.part")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.seconds = 0
    server.asked.clear()


def test_a_killed_download_goes_on_where_it_stopped(server, downloads, capfd):
    killed_amid_a_download(server, downloads)
    assert fetch(server.url("a.bin"), downloads) == LARGE
    (asked,) = server.asked
    start = int(re.fullmatch(r"bytes=(\d+)-", asked["Range"])[1])
    assert 300_000 <= start < len(LARGE) and asked["If-Range"] == f'"{sha256(LARGE)}"'
    assert len(left(downloads)) == 1
    # Progress is shown, starting from where it stopped.
    shown = capfd.readouterr().err
    assert "a.bin: " in shown and "3.00M/3.00M" in shown


@pytest.mark.parametrize("how", ["the file changed", "no ranges", "part is too long", "no version"])
def test_a_killed_download_starts_anew_where_it_cannot_go_on(server, downloads, how):
    if how == "no version":
        server.headers = {"ETag": 'W/"weak"'}
    killed_amid_a_download(server, downloads)
    if how == "the file changed":
        server.files["a.bin"] = LARGE[::-1]
    elif how == "no ranges":
        server.ranges = False
    elif how == "part is too long":
        (part,) = downloads.glob(".*.part")
        part.write_bytes(LARGE + b"more")
    assert fetch(server.url("a.bin"), downloads) == server.files["a.bin"]
    assert len(left(downloads)) == 1


def test_a_server_that_resumes_another_version_is_not_believed(server, downloads):
    """The server ignores If-Range but does report its file's version."""
    killed_amid_a_download(server, downloads)
    (version,) = downloads.glob(".*.version")
    version.write_text(f'"{sha256(LARGE[::-1])}"', encoding="utf-8")
    server.files["a.bin"] = LARGE[::-1]
    server.headers = {"ETag": '"another"'}
    assert fetch(server.url("a.bin"), downloads) == LARGE[::-1]


def test_a_transfer_that_breaks_off_goes_on(server, downloads):
    server.files["a.bin"] = LARGE
    server.breaks_after = [1_000_000, 0, 500_000, None]
    assert fetch(server.url("a.bin"), downloads) == LARGE
    starts = [int(asked.get("Range", "bytes=0-")[6:-1]) for asked in server.asked]
    # Each try continues after the last piece that arrived complete.
    assert starts == [0, 15 * 2**16, 15 * 2**16, 22 * 2**16]
    # A server that always breaks off is given up; what arrived is kept for another time.
    server.files["b.bin"] = LARGE
    server.breaks_after = [1_000_000, *[0] * 10]
    assert "the transfer broke off (tried 5 times)" in refusal(server.url("b.bin"), downloads)
    server.breaks_after.clear()
    assert fetch(server.url("b.bin"), downloads) == LARGE and server.asked[-1]["Range"] == f"bytes={15 * 2**16}-"


def test_parts_that_nobody_came_back_for_are_deleted(server, downloads):
    killed_amid_a_download(server, downloads)
    server.files["b.bin"] = b"b"
    fetch(server.url("b.bin"), downloads)
    assert len(left(downloads)) == 3  # they may still be needed
    (part,) = downloads.glob(".*.part")
    os.utime(part, (0, 0))
    fetch(server.url("b.bin"), downloads)
    assert len(left(downloads)) == 1


def test_two_that_want_one_file_fetch_it_once(server, downloads, capfd):
    server.files["a.bin"] = LARGE
    server.seconds = 0.01
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(server.url("a.bin"), downloads))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [LARGE] * 4 and len(server.asked) == 1 and len(left(downloads)) == 1
    assert "another process is fetching it" in capfd.readouterr().err


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_a_download_is_readable_for_whom_the_umask_says(server, downloads, mask):
    server.files["a.bin"] = b"content"
    before = os.umask(mask)
    try:
        fetch(server.url("a.bin"), downloads)
    finally:
        os.umask(before)
    (path,) = downloads.iterdir()
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_what_is_packed_stays_packed(server, downloads):
    """Some servers declare a .gz as compressed for the transfer."""
    server.files["a.gz"] = b"\x1f\x8b packed"
    server.headers = {"Content-Encoding": "gzip"}
    assert fetch(server.url("a.gz"), downloads) == b"\x1f\x8b packed"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, r"HTTP 401 \(Unauthorized\): it asks for a login; put yours into ~/\.netrc"),
        (403, r"HTTP 403 \(Forbidden\): the server refuses it, .* fetch the file in a browser"),
        (404, r"HTTP 404 \(Not Found\): there is no such file"),
        (410, r"HTTP 410 \(Gone\)"),
        (418, r"HTTP 418 \(I'm a Teapot\): the server does not give the file"),
        (429, r"HTTP 429 \(Too Many Requests\): .* try again later \(tried 5 times\)"),
        (500, r"HTTP 500 \(Internal Server Error\): the server fails; try again later \(tried 5 times\)"),
        (599, r"HTTP 599: the server fails"),
    ],
)
def test_a_servers_refusal_is_told_in_words(server, downloads, status, says):
    server.first = [(status, {})] * 5
    told = refusal(server.url("a.bin"), downloads)
    assert re.search(says, told) and "set weights.source to a file" in told and "Error)" not in told.replace("Server Error)", "")
    assert len(server.asked) == (5 if "tried" in says else 1)
    assert not left(downloads)


@pytest.mark.parametrize("wait", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "100000"])
def test_a_busy_server_is_asked_again(server, downloads, monkeypatch, wait, capfd):
    monkeypatch.setattr(download, "_LONGEST_PAUSE_SECONDS", 0.2)
    server.files["a.bin"] = b"content"
    server.first = [(503, {"Retry-After": wait}), (429, {"Retry-After": wait})]
    assert fetch(server.url("a.bin"), downloads) == b"content"
    assert len(server.asked) == 3 and capfd.readouterr().err.count("; trying again in ") == 2


def test_retry_after_is_waited_for(server, downloads):
    server.files["a.bin"] = b"content"
    server.first = [(429, {"Retry-After": "1"})]
    before = time.monotonic()
    assert fetch(server.url("a.bin"), downloads) == b"content"
    assert time.monotonic() - before >= 1


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("http://no-such-host.invalid/a.bin", "its host's name is unknown here"),
        ("http://127.0.0.1:9/a.bin", r"no connection \(Connection refused\)"),
        ("https://127.0.0.1:{port}/a.bin", "no secure connection"),
        ("ftp://127.0.0.1/a.bin", "only http:// and https:// addresses can be fetched"),
        ("http://127.0.0.1:99999/a.bin", "it is no address that a file could be fetched from"),
    ],
)
def test_what_is_wrong_with_a_connection_is_told_in_words(server, downloads, source, says):
    told = refusal(source.format(port=server.address.rpartition(":")[2]), downloads)
    assert re.search(f"cannot download .*: {says}", told)


def test_redirects_without_end_are_told_in_words(server, downloads):
    server.first = [(302, {"Location": "/login"})] * 40
    assert "redirects in a circle, as login pages do" in refusal(server.url("a.bin"), downloads)


def test_a_folder_that_cannot_be_written_is_named(server, tmp_path):
    server.files["a.bin"] = b"content"
    (tmp_path / "file").touch()
    told = refusal(server.url("a.bin"), tmp_path / "file/downloads")
    assert told.startswith(f"{tmp_path}/file/downloads cannot be written (Not a directory); mend that, or set weights.source to a file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(server, downloads):
    downloads.mkdir()
    downloads.chmod(0o555)
    assert refusal(server.url("a.bin"), downloads).startswith(f"{downloads} cannot be written (Permission denied)")


def test_a_file_that_finds_no_room_is_told_of_and_goes_on(server, downloads):
    """A limit on file size stands in for a full disk."""
    server.files["a.bin"] = LARGE
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        told = refusal(server.url("a.bin"), downloads)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"{downloads} cannot be written (File too large); make room, and the same command goes on where the download stopped" == told
    assert fetch(server.url("a.bin"), downloads) == LARGE and server.asked[-1]["Range"] == "bytes=1000000-"


def test_a_local_file_is_used_where_it_lies(tmp_path):
    (tmp_path / "a").touch()
    with local_copy(str(tmp_path / "a"), tmp_path / "downloads", "x") as path:
        assert path == tmp_path / "a"
    with pytest.raises(InputError, match=r"x: .*/b does not exist"):
        with local_copy(str(tmp_path / "b"), tmp_path / "downloads", "x"):
            pass
