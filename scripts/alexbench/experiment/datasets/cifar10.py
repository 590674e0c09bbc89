"""CIFAR-10 (Krizhevsky, 2009), from its published archive."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexbench.experiment import contents
from alexbench.experiment.datasets import Dataset
from alexbench.files import InputError, raise_refusal

TITLE = "CIFAR-10"
CREDIT = (
    "CIFAR-10 (A. Krizhevsky, *Learning multiple layers of features from tiny images*, 2009), which comes without a licence "
    "and is in use for research; its images were collected from the web"
)
ABOUT = ""
ARCHIVE = "cifar-10-python.tar.gz, its extracted folder"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
READS = ()

FOLDER = "cifar-10-batches-py"
# SHA-256 of the members of cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html).
MEMBERS = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
}
PER_CLASS = {"train": 5000, "test": 1000}
# A batch has 31 MB; anything much larger is not a batch and is not read into memory.
_MEMBER_LIMIT_BYTES = 40_000_000
# The genuine archive unpacks to 186 MB in total.
_ARCHIVE_LIMIT_BYTES = 400_000_000


def read(archive: Path | str) -> Dataset:
    """CIFAR-10 (Krizhevsky, 2009) from its archive, cifar-10-python.tar.gz, or from its unpacked folder.

    Each member is read whole and its SHA-256 compared with the published one before anything is unpickled. Nothing is extracted, and the
    unpickler builds only NumPy arrays and plain containers. InputError names the file, what was found and what was expected.
    """
    source = Path(archive)
    members, hashes, others = {}, {}, []
    for path, content in _folder_members(source) if source.is_dir() else _archive_members(source):
        name = path.rpartition("/")[2]
        if content is None:
            others.append(path)
        # In any folder. If two members share a name, the one with the right hash is kept.
        elif hashes.get(name) != MEMBERS[name]:
            members[name], hashes[name] = content, hashlib.sha256(content).hexdigest()
    for name, expected in MEMBERS.items():
        if name not in members:
            there = [*members, *others]
            holds = f"{', '.join(map(ascii, there[:5]))}{', ...' if len(there) > 5 else ''}" if there else "nothing"
            raise InputError(
                f"cifar10: {source} lacks {FOLDER}/{name} (it holds {holds}); expected the seven files of cifar-10-python.tar.gz"
            )
        found = hashes[name]
        if found != expected:
            raise InputError(
                f"cifar10: {name} in {source} has SHA-256 {found}, expected {expected}; "
                "it is damaged or of another data set: delete it and fetch it again"
            )

    def split(names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        batches = [_unpickle(members[name]) for name in names]
        rows = np.concatenate([batch[b"data"] for batch in batches])
        labels = np.concatenate([np.array(batch[b"labels"], np.int64) for batch in batches])
        # A row holds the 32x32 red values, then the green, then the blue.
        return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)), labels

    train = split([name for name in MEMBERS if name.startswith("data_batch")])
    test = split(["test_batch"])
    classes = tuple(name.decode() for name in _unpickle(members["batches.meta"])[b"label_names"])
    for name, (_, labels) in (("train", train), ("test", test)):
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        if counts != [PER_CLASS[name]] * len(classes):
            raise InputError(f"cifar10: {source} has {counts} {name} images a class, expected {PER_CLASS[name]} each")
    return Dataset("cifar10", *train, *test, classes)


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """The names in a folder: CIFAR-10's files with their content, all others with None."""
    inner = folder / FOLDER
    for path in sorted((inner if inner.is_dir() else folder).iterdir()):
        if path.name in MEMBERS and path.is_file():
            _check_size(path.name, path.stat().st_size, folder, _MEMBER_LIMIT_BYTES)
            yield path.name, path.read_bytes()
        else:
            yield path.name, None


def _archive_members(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """The names in a tar archive, gzipped or not: CIFAR-10's files, in any folder, with their content, all others with None."""
    expected = "expected cifar-10-python.tar.gz (170,498,071 bytes)"
    try:
        with path.open("rb") as file:
            start = file.read(512)
        packed = start[:2] == b"\x1f\x8b"
        # Some browsers and proxies unpack what they fetch.
        if not packed and not contents.is_tar(start):
            kind = contents.describe(path)
            what = f"{kind}, perhaps for a login" if contents.is_html(kind) else f"no gzip file and no tar archive but {kind}"
            raise InputError(f"cifar10: {path} is {what}; {expected}")
        # "r|" reads forwards once: a member that is not asked for is skipped and never kept.
        with (
            gzip.open(path) if packed else path.open("rb") as unzipped,
            tarfile.open(fileobj=(content := _Limited(unzipped, path)), mode="r|") as archive,
        ):
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in MEMBERS and member.isfile():
                    _check_size(name, member.size, path, _MEMBER_LIMIT_BYTES)
                    yield member.name, archive.extractfile(member).read()
                elif not member.isdir():
                    yield member.name, None
            # tarfile takes a damaged header for the end; reading on to the real end makes gzip check length and CRC.
            while content.read(1 << 20):
                pass
    except FileNotFoundError:
        raise InputError(f"cifar10: {path} does not exist; set data.archive to cifar-10-python.tar.gz or its folder") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError, RecursionError) as error:  # tarfile raises them all
        raise_refusal(error, "cifar10", path)
        size = path.stat().st_size
        raise InputError(f"cifar10: {path} ({size:,} bytes) is truncated or damaged ({error}); {expected}") from None


class _Limited:
    """A stream that fails once it has given far more than the genuine archive holds: even a name in a tar header may be endless."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream, self.path, self.given = stream, path, 0

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        self.given += len(content)
        _check_size("the content", self.given, self.path, _ARCHIVE_LIMIT_BYTES)
        return content


def _check_size(name: str, size: int, source: Path, limit: int) -> None:
    if size > limit:
        raise InputError(f"cifar10: {name} in {source} has {size:,} bytes, far more than in the genuine archive")


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds only NumPy arrays and plain containers."""

    ALLOWED = (("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise InputError(f"cifar10: a batch asks for {module}.{name} while being unpickled; the genuine ones do not")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickle(content: bytes) -> dict:
    return _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
