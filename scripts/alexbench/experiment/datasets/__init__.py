"""The images: read from their published form, checked, and stored as framework-neutral uint8 arrays in one .npz file.

A data set is a module in this folder, named as in the configuration. It declares what `Source` lists.
"""

import hashlib
import importlib
import json
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alexbench import arrays
from alexbench.files import InputError, raise_refusal, replacing

NAMES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))


class Source(Protocol):
    """What the module of a data set declares."""

    TITLE: str
    """The data set's name in sentences."""

    CREDIT: str
    """For model cards: who made it, and on what terms it may be used."""

    ABOUT: str
    """For the article: what a reader should know about the images; "" if nothing."""

    ARCHIVE: str
    """What `data.archive` must name: the archive, in words; "" for a data set that is read from no archive."""

    URL: str
    """Where the archive is published; "" without one."""

    READS: tuple[str, ...]
    """The keys of the configuration's section `data` that decide what is read, besides `archive`."""

    @staticmethod
    def read(**values: Any) -> "Dataset":
        """The images, checked; `values`: those of the keys, and the local path of the `archive`."""


def prepared_name(data: dict) -> str:
    """What the prepared file is called, without .npz; `data`: that section of the configuration. Other values give another name."""
    values = {key: data[key] for key in source(data["dataset"]).READS}
    if not values:
        return data["dataset"]
    if "folder" in values:
        values["folder"] = str(Path(values["folder"] or "").expanduser().absolute())
    return f"{data['dataset']}-{hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]}"


def source(name: str) -> Source | None:
    """The module of a data set; None for a name that is not declared, such as that of a user's own .npz file."""
    return importlib.import_module(f"alexbench.experiment.datasets.{name}") if name in NAMES else None


@dataclass(frozen=True)
class Dataset:
    """Images uint8 (n, height, width, 3), labels int64 (n,) in 0..classes-1, and the names of the classes."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    left_out: int = 0
    """Pictures that could not be read."""
    in_both: int = 0
    """Test images that are training images too."""

    def channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each channel over the training images in 0..1, float32 (3,) each."""
        # From one histogram per channel: exact, without a float copy of every image. In parts, since bincount copies its input to int64.
        levels = np.arange(256) / 255
        counts = np.zeros((3, 256), np.int64)
        step = max(1, 1_000_000 // self.train_images.shape[1] ** 2)
        for first in range(0, len(self.train_images), step):
            for channel in range(3):
                counts[channel] += np.bincount(self.train_images[first : first + step, ..., channel].ravel(), minlength=256)
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


def held_out(dataset: Dataset, wanted: float, seed: int) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """`dataset` without some of its training images, and these, uint8 (n, height, width, 3), with their labels, int64 (n,).

    `wanted`: how many or, below 1, which share; drawn by `seed`, classes balanced as in `limited`. InputError if a class would have none
    left, or none among them.
    """
    labels, classes = dataset.train_labels, len(dataset.classes)
    number = round(wanted * len(labels)) if wanted < 1 else int(wanted)
    order = np.random.default_rng(seed).permutation(len(labels))
    turn = np.empty(len(labels), np.int64)
    for label in range(classes):
        where = order[labels[order] == label]
        turn[where] = np.arange(len(where))
    chosen = np.zeros(len(labels), bool)
    # By turns, as many of each class as there are; of the last turn, the first classes.
    chosen[np.lexsort((labels, turn))[:number]] = True
    for part, what in ((chosen, "in"), (~chosen, "beside")):
        counts = np.bincount(labels[part], minlength=classes)
        if not counts.all():
            missing = dataset.classes[int(counts.argmin())]
            share = f"{number:,} of the {len(labels):,} training images of {dataset.name}"
            raise InputError(
                f"data: validation is {wanted:g}, {share}: class {missing!r} has none {what} them; every class needs images in both"
            )
    rest = replace(dataset, train_images=dataset.train_images[~chosen], train_labels=labels[~chosen])
    return rest, dataset.train_images[chosen], labels[chosen]


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
            left_out=np.array(dataset.left_out),
            in_both=np.array(dataset.in_both),
        )


def load(path: Path | str) -> Dataset:
    """Read what `save` wrote, or arrays in the same form that a user made: labels may be of any integer type, (n,) or (n, 1).

    InputError if the file is damaged, has another form, or has fewer images or classes than training and its tables need. Sizes are
    checked before anything is read into memory.
    """
    try:
        needed = [field.name for field in fields(Dataset) if field.default is MISSING]
        read = arrays.read(path, needed, if_there=("left_out", "in_both"))
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
    counts = {key: int(read[key]) for key in ("left_out", "in_both") if key in read}
    return Dataset(name=str(name), classes=tuple(names), **splits, **counts)


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
