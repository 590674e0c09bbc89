"""The images: read from their published form, checked, and stored as framework-neutral uint8 arrays in one .npz file."""

import gzip
import hashlib
import io
import pickle
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from alexbench import arrays
from alexbench.experiment import contents
from alexbench.files import InputError, raise_refusal, replacing

CIFAR10_FOLDER = "cifar-10-batches-py"
# SHA-256 of the members of cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar.html).
CIFAR10_MEMBERS = {
    "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
    "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
    "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
    "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
    "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
    "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
    "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
}
CIFAR10_PER_CLASS = {"train": 5000, "test": 1000}
# A batch has 31 MB; anything much larger is not a batch and is not read into memory.
_MEMBER_LIMIT_BYTES = 40_000_000
# The genuine archive unpacks to 186 MB in total.
_ARCHIVE_LIMIT_BYTES = 400_000_000

# How many of load_digits' 1,797 images are for testing, and the seed of the split: part of what "digits" means here.
DIGITS_TEST_IMAGES = 360
DIGITS_SPLIT_SEED = 2025


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (n, height, width, 3), labels int64 (n,) in 0..classes-1, and the names of the classes."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]

    def channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the training images in 0..1, float32 (3,) each."""
        # From one histogram per channel: exact, without a float copy of every image. In parts, since bincount copies its input to int64.
        levels = np.arange(256) / 255
        counts = np.zeros((3, 256), np.int64)
        for first in range(0, len(self.train_images), 1000):
            for channel in range(3):
                counts[channel] += np.bincount(self.train_images[first : first + 1000, ..., channel].ravel(), minlength=256)
        mean = counts @ levels / counts.sum(1)
        variance = counts @ levels**2 / counts.sum(1) - mean**2
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)

    def sha256(self) -> str:
        """Hash of every image and label: two runs with the same hash saw the same data."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(f"{array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()

    def without_training_images(self) -> "Dataset":
        """The same without its training images, for a caller that has handed them to a backend and need not keep a second copy."""
        return replace(self, train_images=np.empty((0, *self.train_images.shape[1:]), np.uint8))

    def limited(self, train: int | None, test: int | None) -> "Dataset":
        """The same with at most `train` and `test` images, classes balanced to within one; None keeps all.

        Images are taken in order of their position within their class, so a larger subset contains a smaller one.
        """
        chosen = {}
        for split, limit in (("train", train), ("test", test)):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            if limit is not None:
                if not len(self.classes) <= limit <= len(labels):
                    raise InputError(
                        f"data: {split}_limit is {limit}; {self.name} allows {len(self.classes)} (one a class) to {len(labels)}"
                    )
                turn = np.empty(len(labels), np.int64)
                for label in range(len(self.classes)):
                    where = np.flatnonzero(labels == label)
                    turn[where] = np.arange(len(where))
                keep = np.sort(np.lexsort((labels, turn))[:limit])
                images, labels = images[keep], labels[keep]
            chosen |= {f"{split}_images": images, f"{split}_labels": labels}
        return replace(self, **chosen)


def save(dataset: Dataset, path: Path | str) -> None:
    """Write `dataset` as .npz, uncompressed because every run reads it."""
    # To an open file: NumPy would append .npz to a file name that lacks it.
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            name=np.array(dataset.name),
            train_images=dataset.train_images,
            train_labels=dataset.train_labels,
            test_images=dataset.test_images,
            test_labels=dataset.test_labels,
            classes=np.array(dataset.classes),
        )


def load(path: Path | str) -> Dataset:
    """Read what `save` wrote, or arrays in the same form that a user made: labels may be of any integer type, (n,) or (n, 1).

    InputError if the file is damaged, has another form, or has fewer images or classes than training and its tables need. Sizes are
    checked before anything is read into memory.
    """
    try:
        read = arrays.read(path, (field.name for field in fields(Dataset)))
    except FileNotFoundError:
        raise InputError(f"data: {path} does not exist; make it with scripts/prepare_data.py") from None
    except (OSError, ValueError) as error:
        raise_refusal(error, "data", path)
        raise InputError(f"data: {path} is not a whole data file ({error}); delete it and make it again") from None
    name, classes = read["name"], read["classes"]
    if name.dtype.kind != "U" or name.ndim or not str(name).strip():
        raise InputError(f"data: {path}: name is {name.dtype} {name.shape}; expected a name: np.array('mine')")
    names = classes.tolist() if classes.dtype.kind == "U" and classes.ndim == 1 else None
    if not names or not all(text.strip() for text in names):
        raise InputError(f"data: {path}: classes are {classes.dtype} {classes.shape}; expected names: np.array(['cat', 'dog', ...])")
    if len(set(names)) < len(names):
        twice = next(text for text in names if names.count(text) > 1)
        raise InputError(f"data: {path} names class {twice!r} more than once; each needs a name of its own")
    splits = {}
    for split in ("train", "test"):
        images = _images(path, split, read[f"{split}_images"])
        splits |= {f"{split}_images": images, f"{split}_labels": _labels(path, split, read[f"{split}_labels"], len(images), names)}
    sides = [splits[f"{split}_images"].shape[1] for split in ("train", "test")]
    if sides[0] != sides[1]:
        raise InputError(f"data: {path} has train images of side {sides[0]} and test images of side {sides[1]}; make them of one size")
    return Dataset(name=str(name), classes=tuple(names), **splits)


def _images(path: Path | str, split: str, images: np.ndarray) -> np.ndarray:
    """Return `images` if they are uint8 (n, side, side, 3) with n above 0; else raise an InputError that says how to make them so."""
    what = f"data: {path} has {split} images {images.dtype} {images.shape}"
    expected = "expected uint8 (n, side, side, 3)"
    if images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 1):
        raise InputError(f"{what}, which are grey; {expected}: repeat their one channel three times")
    if images.ndim == 4 and images.shape[1] == 3 != images.shape[3]:
        raise InputError(f"{what}, channels first; {expected}: images.transpose(0, 2, 3, 1)")
    if images.ndim != 4 or images.shape[3] != 3:
        raise InputError(f"{what}; {expected}")
    if images.dtype != np.uint8:
        raise InputError(f"{what}; {expected}, values 0 to 255: scale and round them, then astype('uint8')")
    if not len(images):
        raise InputError(f"{what}, which is none; every class needs training and test images")
    if images.shape[1] != images.shape[2] or not images.shape[1]:
        raise InputError(f"{what}, not square; {expected}: cut or scale them to squares")
    return np.ascontiguousarray(images)


def _labels(path: Path | str, split: str, labels: np.ndarray, images: int, names: list[str]) -> np.ndarray:
    """Return `labels` as int64 (n,). InputError unless they are integers in 0..classes-1, one per image, and every class has images."""
    what = f"data: {path} has {split} labels {labels.dtype} {labels.shape}"
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise InputError(f"{what}, one-hot; expected the number of each image's class: labels.argmax(axis=1)")
    if labels.dtype.kind not in "iu":
        raise InputError(f"{what}; expected integers from 0 to {len(names) - 1}, the place of the class in classes")
    if labels.shape not in ((images,), (images, 1)):
        raise InputError(f"{what} for {images} images; expected one label for each image")
    labels = labels.reshape(-1)
    if labels.min() < 0 or labels.max() >= len(names):
        found = f"they run from {labels.min()} to {labels.max()}"
        raise InputError(f"data: {path} has {split} labels outside 0..{len(names) - 1} ({found}); it names {len(names)} classes")
    labels = labels.astype(np.int64)
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        missing = names[int(counts.argmin())]
        raise InputError(f"data: {path} has no {split} image of class {missing!r}; every class needs training and test images")
    return labels


def digits() -> Dataset:
    """scikit-learn's handwritten digits (UCI, 1998): 8x8 grey in 0..16, enlarged to 32x32x3 in 0..255, with a stratified split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    grey = np.round(source.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2)[..., np.newaxis], 3, axis=3)
    labels = source.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=DIGITS_TEST_IMAGES, random_state=DIGITS_SPLIT_SEED, stratify=labels)
    return Dataset("digits", images[train], labels[train], images[test], labels[test], tuple("0123456789"))


def cifar10(source: Path | str) -> Dataset:
    """CIFAR-10 (Krizhevsky, 2009) from its archive, cifar-10-python.tar.gz, or from its unpacked folder.

    Each member is read whole and its SHA-256 compared with the published one before anything is unpickled. Nothing is extracted, and the
    unpickler builds only NumPy arrays and plain containers. InputError names the file, what was found and what was expected.
    """
    source = Path(source)
    members, hashes, others = {}, {}, []
    for path, content in _folder_members(source) if source.is_dir() else _archive_members(source):
        name = path.rpartition("/")[2]
        if content is None:
            others.append(path)
        # In any folder. If two members share a name, the one with the right hash is kept.
        elif hashes.get(name) != CIFAR10_MEMBERS[name]:
            members[name], hashes[name] = content, hashlib.sha256(content).hexdigest()
    for name, expected in CIFAR10_MEMBERS.items():
        if name not in members:
            there = [*members, *others]
            holds = f"{', '.join(map(ascii, there[:5]))}{', ...' if len(there) > 5 else ''}" if there else "nothing"
            raise InputError(
                f"cifar10: {source} lacks {CIFAR10_FOLDER}/{name} (it holds {holds}); expected the seven files of cifar-10-python.tar.gz"
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

    train = split([name for name in CIFAR10_MEMBERS if name.startswith("data_batch")])
    test = split(["test_batch"])
    classes = tuple(name.decode() for name in _unpickle(members["batches.meta"])[b"label_names"])
    for name, (_, labels) in (("train", train), ("test", test)):
        counts = np.bincount(labels, minlength=len(classes)).tolist()
        if counts != [CIFAR10_PER_CLASS[name]] * len(classes):
            raise InputError(f"cifar10: {source} has {counts} {name} images a class, expected {CIFAR10_PER_CLASS[name]} each")
    return Dataset("cifar10", *train, *test, classes)


def _folder_members(folder: Path) -> Iterator[tuple[str, bytes | None]]:
    """The names in a folder: CIFAR-10's files with their content, all others with None."""
    inner = folder / CIFAR10_FOLDER
    for path in sorted((inner if inner.is_dir() else folder).iterdir()):
        if path.name in CIFAR10_MEMBERS and path.is_file():
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
                if name in CIFAR10_MEMBERS and member.isfile():
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
