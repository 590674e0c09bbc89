"""What CIFAR-10 and CIFAR-100 share: an archive of pickled batches, checked against published hashes and read without running any code."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexbench.experiment import contents
from alexbench.files import InputError, raise_refusal

# CIFAR-100's training batch has 155 MB; anything much larger is no batch and is not read into memory.
_MEMBER_LIMIT_BYTES = 200_000_000
# The genuine archives unpack to 186 MB in total.
_ARCHIVE_LIMIT_BYTES = 400_000_000


@dataclass(frozen=True)
class Archive:
    """A published archive: the data set's name, the archive's file and its size, the folder in it, and the hash of each member of use.

    Hashes are SHA-256 or, where nothing else is published, MD5; their length tells.
    """

    name: str
    file: str
    size: int
    folder: str
    members: dict[str, str]

    def read(self, source: Path | str) -> dict[str, dict]:
        """Each member's content, unpickled, from the archive or its unpacked folder.

        Each member is read whole and its hash compared with the published one before anything is unpickled. Nothing is extracted, and the
        unpickler builds only NumPy arrays and plain containers. InputError names the file, what was found and what was expected.
        """
        source = Path(source)
        members, hashes, others = {}, {}, []
        for path, content in self._folder_members(source) if source.is_dir() else self._archive_members(source):
            name = path.rpartition("/")[2]
            if content is None:
                others.append(path)
            # In any folder. If two members share a name, the one with the right hash is kept.
            elif hashes.get(name) != self.members[name]:
                kind = "md5" if len(self.members[name]) == 32 else "sha256"
                members[name], hashes[name] = content, hashlib.new(kind, content, usedforsecurity=False).hexdigest()
        for name, expected in self.members.items():
            if name not in members:
                there = [*members, *others]
                holds = f"{', '.join(map(ascii, there[:5]))}{', ...' if len(there) > 5 else ''}" if there else "nothing"
                raise InputError(
                    f"{self.name}: {source} lacks {self.folder}/{name} (it holds {holds}); "
                    f"expected the {len(self.members)} files of {self.file}: {', '.join(self.members)}"
                )
            found = hashes[name]
            if found != expected:
                kind = "MD5" if len(expected) == 32 else "SHA-256"
                raise InputError(
                    f"{self.name}: {name} in {source} has {kind} {found}, expected {expected}; "
                    "it is damaged or of another data set: delete it and fetch it again"
                )
        return {name: self._unpickle(content) for name, content in members.items()}

    def _folder_members(self, folder: Path) -> Iterator[tuple[str, bytes | None]]:
        """The names in a folder: the files of use with their content, all others with None."""
        inner = folder / self.folder
        for path in sorted((inner if inner.is_dir() else folder).iterdir()):
            if path.name in self.members and path.is_file():
                self._check_size(path.name, path.stat().st_size, folder, _MEMBER_LIMIT_BYTES)
                yield path.name, path.read_bytes()
            else:
                yield path.name, None

    def _archive_members(self, path: Path) -> Iterator[tuple[str, bytes | None]]:
        """The names in a tar archive, gzipped or not: the files of use, in any folder, with their content, all others with None."""
        expected = f"expected {self.file} ({self.size:,} bytes)"
        try:
            with path.open("rb") as file:
                start = file.read(512)
            packed = start[:2] == b"\x1f\x8b"
            # Some browsers and proxies unpack what they fetch.
            if not packed and not contents.is_tar(start):
                kind = contents.describe(path)
                what = f"{kind}, perhaps for a login" if contents.is_html(kind) else f"no gzip file and no tar archive but {kind}"
                raise InputError(f"{self.name}: {path} is {what}; {expected}")
            # "r|" reads forwards once: a member that is not asked for is skipped and never kept.
            with (
                gzip.open(path) if packed else path.open("rb") as unzipped,
                tarfile.open(
                    fileobj=(
                        content := _Limited(unzipped, lambda given: self._check_size("the content", given, path, _ARCHIVE_LIMIT_BYTES))
                    ),
                    mode="r|",
                ) as archive,
            ):
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if name in self.members and member.isfile():
                        self._check_size(name, member.size, path, _MEMBER_LIMIT_BYTES)
                        yield member.name, archive.extractfile(member).read()
                    elif not member.isdir():
                        yield member.name, None
                # tarfile takes a damaged header for the end; reading on to the real end makes gzip check length and CRC.
                while content.read(1 << 20):
                    pass
        except FileNotFoundError:
            raise InputError(f"{self.name}: {path} does not exist; set data.archive to {self.file} or its folder") from None
        except (
            tarfile.TarError,
            EOFError,
            zlib.error,
            OSError,
            ValueError,
            OverflowError,
            RecursionError,
        ) as error:  # tarfile raises them all
            raise_refusal(error, self.name, path)
            size = path.stat().st_size
            raise InputError(f"{self.name}: {path} ({size:,} bytes) is truncated or damaged ({error}); {expected}") from None

    def _check_size(self, name: str, size: int, source: Path, limit: int) -> None:
        if size > limit:
            raise InputError(f"{self.name}: {name} in {source} has {size:,} bytes, far more than in the genuine archive")

    def _unpickle(self, content: bytes) -> dict:
        return _ArrayUnpickler(io.BytesIO(content), self.name).load()


def images(batch: dict) -> np.ndarray:
    """A batch's images, uint8 (n, 32, 32, 3): a row holds the 32x32 red values, then the green, then the blue."""
    return np.ascontiguousarray(batch[b"data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def check_counts(name: str, source: Path | str, per_class: dict[str, int], labels: dict[str, np.ndarray], classes: int) -> None:
    """InputError unless each split has `per_class` images of every class."""
    for split, of_split in labels.items():
        counts = np.bincount(of_split, minlength=classes).tolist()
        if counts != [per_class[split]] * classes:
            raise InputError(f"{name}: {source} has {counts} {split} images a class, expected {per_class[split]} each")


class _Limited:
    """A stream that calls `check` with how much it has given: even a name in a tar header may be endless."""

    def __init__(self, stream: BinaryIO, check: Callable[[int], None]) -> None:
        self.stream, self.check, self.given = stream, check, 0

    def read(self, size: int) -> bytes:
        content = self.stream.read(size)
        self.given += len(content)
        self.check(self.given)
        return content


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds only NumPy arrays and plain containers."""

    ALLOWED = (("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"))

    def __init__(self, content: BinaryIO, name: str) -> None:
        super().__init__(content, encoding="bytes")
        self.name = name

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise InputError(f"{self.name}: a batch asks for {module}.{name} while being unpickled; the genuine ones do not")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
