"""Whatever bytes are in the place of CIFAR-10's archive, they are refused with InputError or they are the genuine images."""

import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexbench.experiment.datasets import cifar10
from alexbench.files import InputError
from conftest import ROOT
from test_datasets import batch

pytestmark = pytest.mark.fault

PER_CLASS = {"train": 5, "test": 1}
MEMBERS = {f"data_batch_{i}": batch(10, i) for i in range(1, 6)} | {"test_batch": batch(10, 6)}
MEMBERS["batches.meta"] = pickle.dumps({b"label_names": [f"class{i}".encode() for i in range(10)]}, protocol=3)
NAMES = [f"{cifar10.FOLDER}/{name}" for name in MEMBERS]
FOREVER = {"max_examples": 2000, "deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


def tar(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


GENUINE = tar([(tarfile.TarInfo(name), content) for name, content in zip(NAMES, MEMBERS.values(), strict=True)])
PACKED = gzip.compress(GENUINE, 1)


@pytest.fixture(scope="module")
def small_cifar10():
    """Use the small data set's hashes instead of the published ones."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cifar10, "PER_CLASS", PER_CLASS)
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in MEMBERS.items()}
        patched.setattr(cifar10, "MEMBERS", hashes)
        yield


def genuine_or_refused(folder: Path, content: bytes, right: str) -> None:
    path = folder / "cifar-10-python.tar.gz"
    path.write_bytes(content)
    try:
        found = cifar10.read(path).sha256()
    except InputError as error:
        assert str(error).splitlines() == [str(error)]
    else:
        assert found == right
    assert list(folder.iterdir()) == [path]


@pytest.fixture(scope="module")
def right(small_cifar10, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("genuine") / "a.tar.gz"
    path.write_bytes(PACKED)
    return cifar10.read(path).sha256()


# Cuts, flips and insertions, in the compressed bytes or in the tar archive inside, where they also hit its headers.
EDITS = st.lists(st.tuples(st.sampled_from(["cut", "flip", "insert"]), st.floats(0, 1), st.binary(min_size=1, max_size=40)), max_size=4)
HEADERS = st.lists(st.tuples(st.integers(0, len(MEMBERS) - 1), st.integers(0, 511), st.binary(min_size=1, max_size=24)), max_size=4)


def edited(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, new in edits:
        place = int(where * len(content))
        if kind == "cut":
            content = content[:place]
        elif kind == "flip":
            content = content[:place] + new + content[place + len(new) :]
        else:
            content = content[:place] + new + content[place:]
    return content


def with_headers(changes: list[tuple[int, int, bytes]]) -> bytes:
    """The genuine archive with bytes in its members' headers replaced, and the checksums corrected."""
    content = bytearray(GENUINE)
    starts, place = [], 0
    for member in MEMBERS.values():
        starts.append(place)
        place += 512 + -(-len(member) // 512) * 512
    for number, offset, new in changes:
        header = content[starts[number] : starts[number] + 512]
        header[offset : offset + len(new)] = new
        header = header[:512]
        header[148:156] = b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        content[starts[number] : starts[number] + 512] = header
    return bytes(content)


@settings(**FOREVER)
@given(edits=EDITS, headers=HEADERS, inside=st.booleans())
def test_a_changed_archive_is_refused_or_as_good(right, tmp_path_factory, edits, headers, inside):
    folder = tmp_path_factory.mktemp("changed")
    content = with_headers(headers)
    content = gzip.compress(edited(content, edits), 1) if inside else edited(gzip.compress(content, 1), edits)
    genuine_or_refused(folder, content, right)


NAME = st.sampled_from([*NAMES, "../" + NAMES[0], "/" + NAMES[0], "./" + NAMES[1], "x" * 300, "../../outside"]) | st.text(max_size=30)
KINDS = [getattr(tarfile, f"{kind}TYPE") for kind in ("REG", "SYM", "LNK", "CHR", "BLK", "FIFO", "DIR")]
PAX_KEYS = ["path", "linkpath", "size", "mtime", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major"]
MEMBER = st.tuples(
    NAME,
    st.sampled_from(KINDS),
    st.sampled_from([*NAMES, "/etc/passwd", "../../outside"]),
    st.binary(max_size=60) | st.sampled_from(list(MEMBERS.values())),
    st.dictionaries(st.sampled_from(PAX_KEYS), st.text(max_size=8)),
)


@settings(**FOREVER)
@given(members=st.lists(MEMBER, max_size=9), form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_a_made_up_archive_is_refused_or_as_good(right, tmp_path_factory, members, form):
    made = []
    for name, kind, link, content, headers in members:
        info = tarfile.TarInfo(name.replace("\0", ""))
        info.type, info.linkname = kind, link
        info.pax_headers = {key: value.replace("\0", "") for key, value in headers.items()} if form == tarfile.PAX_FORMAT else {}
        made.append((info, content if kind == tarfile.REGTYPE else b""))
    try:
        content = tar(made, form)
    except (ValueError, UnicodeError):  # no archive can hold such a name
        return
    genuine_or_refused(tmp_path_factory.mktemp("made"), gzip.compress(content, 1), right)


def bomb(path: Path, kind: bytes) -> Path:
    """Write 20 GB of zeros behind a tar header of type `kind`, in some 90 MB: a reader of the whole would never end."""
    info = tarfile.TarInfo(NAMES[0])
    info.type, info.size = kind, 20 << 30
    zeros = gzip.compress(bytes(64 << 20), 1)
    with path.open("wb") as file:
        # gzip allows several members, one after another.
        file.write(gzip.compress(info.tobuf(tarfile.GNU_FORMAT), 1))
        for _ in range(320):
            file.write(zeros)
    return path


BOMBS = {"file": tarfile.REGTYPE, "name": tarfile.GNUTYPE_LONGNAME, "pax": tarfile.XHDTYPE, "folder": tarfile.DIRTYPE}


@pytest.mark.parametrize("kind", BOMBS.values(), ids=BOMBS)
def test_a_bomb_is_given_up_within_seconds_and_little_memory(tmp_path, kind):
    """With the real limits, in a process that may use 3 GB; a name, too, can be 20 GB long."""
    path = bomb(tmp_path / "a.tar.gz", kind)
    assert path.stat().st_size < 200_000_000
    limits = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({3 << 30}, {3 << 30}))"
    code = f"{limits}; import prepare_data; from alexbench.files import run_program; run_program(prepare_data.main)"
    output = tmp_path / "out.npz"
    command = [sys.executable, "-c", code, "cifar10", "--archive", str(path), "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 1 and done.stderr.startswith("cifar10: ") and "far more than in the genuine archive" in done.stderr
    assert not output.exists()
