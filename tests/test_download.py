"""Downloads, from a server on this machine: fetched once, kept when right, dropped when wrong."""

import functools
import http.server
import threading

import pytest

from alexbench.download import local_copy
from alexbench.files import InputError


@pytest.fixture
def server(tmp_path):
    """A folder and the address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def test_a_url_is_fetched_once(server, tmp_path):
    folder, address = server
    (folder / "a.bin").write_bytes(b"content")
    with local_copy(f"{address}/a.bin", tmp_path / "downloads", "data.archive") as path:
        assert path.read_bytes() == b"content"
    (folder / "a.bin").unlink()
    with local_copy(f"{address}/a.bin", tmp_path / "downloads", "data.archive") as path:
        assert path.read_bytes() == b"content"


def test_a_download_that_is_refused_is_deleted(server, tmp_path):
    folder, address = server
    (folder / "a.bin").write_bytes(b"<html>")
    with pytest.raises(InputError, match=rf"not what was expected \[the download from {address}/a.bin was deleted\]"):
        with local_copy(f"{address}/a.bin", tmp_path / "downloads", "data.archive"):
            raise InputError("not what was expected")
    assert not list((tmp_path / "downloads").iterdir())


@pytest.mark.parametrize("path", ["/missing.bin", None])
def test_what_cannot_be_fetched_names_the_key_to_set(server, tmp_path, path):
    # None: nobody listens at that port.
    source = f"{server[1]}{path}" if path else "http://127.0.0.1:9/a.bin"
    with pytest.raises(InputError, match=r"weights\.source: cannot download .* set weights\.source to a file"):
        with local_copy(source, tmp_path / "downloads", "weights.source"):
            pass
    assert not list((tmp_path / "downloads").glob("*"))


def test_a_local_file_is_used_where_it_lies(tmp_path):
    (tmp_path / "a").touch()
    with local_copy(str(tmp_path / "a"), tmp_path / "downloads", "x") as path:
        assert path == tmp_path / "a"
    with pytest.raises(InputError, match=r"x: .*/b does not exist"):
        with local_copy(str(tmp_path / "b"), tmp_path / "downloads", "x"):
            pass
