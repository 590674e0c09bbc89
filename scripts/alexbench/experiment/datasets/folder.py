"""A person's own pictures, in a folder for each class: train/CLASS/* and test/CLASS/*, or one set of which a share is for testing.

Without test/, a share of every class is set apart for testing; the classes may then be folders in the folder itself. Any picture that
Pillow reads will do. Each becomes its middle square of `image_size` pixels, as `predict.py` sees it too (`pictures.read`).
"""

import hashlib
import sys
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexbench import machine
from alexbench.experiment import datasets, pictures
from alexbench.experiment.datasets import Dataset
from alexbench.files import InputError, raise_refusal

TITLE = "the user’s pictures"
CREDIT = "the user's own pictures"
ABOUT = ""
ARCHIVE = ""
URL = ""
READS = ("folder", "image_size", "test_share", "split_seed", "skip_broken")

# What file managers leave behind, besides hidden files.
_LITTER = {"Thumbs.db", "desktop.ini", "Icon\r"}
_SECONDS_BETWEEN_REPORTS = 5


class Picture(NamedTuple):
    path: Path
    label: int


def read(folder: str | Path, image_size: int, test_share: float, split_seed: int, skip_broken: bool) -> Dataset:
    """The pictures in `folder`, sorted by class and name; its own name becomes the data set's.

    `skip_broken`: leave pictures out that cannot be read, and count them (`Dataset.left_out`); otherwise the first one is an InputError, as
    is a class without enough pictures or without a name of its own. Pictures that are in train and test are counted and named.
    """
    root = Path(folder).expanduser()
    splits, classes = _found(root, test_share, split_seed)
    arrays, paths, left_out = {}, {}, 0
    for split, listed in splits.items():
        images, labels = np.empty((len(listed), image_size, image_size, 3), np.uint8), []
        paths[split] = []
        for picture, pixels in _read(listed, image_size, split):
            if isinstance(pixels, pictures.Unreadable):
                if not skip_broken:
                    raise InputError(f"folder: {pixels}; mend or remove it, or set data.skip_broken to true")
                print(f"left out: {pixels}", file=sys.stderr)
                left_out += 1
                continue
            images[len(labels)] = pixels
            labels.append(picture.label)
            paths[split].append(picture.path)
        counts = np.bincount(labels, minlength=len(classes))
        if not counts.all():
            raise InputError(f"folder: no {split} picture of class {classes[int(counts.argmin())]!r} in {root} can be read")
        # A view: a copy would take as much memory again.
        arrays |= {f"{split}_images": images[: len(labels)], f"{split}_labels": np.array(labels, np.int64)}
    twice = _in_both(arrays, paths)
    if twice:
        one, other = twice[0]
        print(f"{len(twice)} pictures are in both train and test, such as {one} and {other}", file=sys.stderr)
    own = root.resolve().name or "pictures"
    name = f"{own} (folder)" if own in datasets.NAMES else own
    return Dataset(name, **arrays, classes=classes, left_out=left_out, in_both=len(twice))


def _found(root: Path, test_share: float, split_seed: int) -> tuple[dict[str, list[Picture]], tuple[str, ...]]:
    """The pictures for training and for testing, and the names of the classes."""
    inside = _folders(root)
    if "test" in inside and "train" not in inside:
        raise InputError(f"folder: {root} has test/ but no train/; add train/CLASS/ with pictures to train on")
    train = _by_class(root / "train" if "train" in inside else root)
    classes = tuple(sorted(train))
    if len(classes) < 2:
        raise InputError(f"folder: {root} has pictures of {len(classes)} classes; two are the least, each in a folder of its own")
    if "test" in inside:
        test = _by_class(root / "test")
        for split, others, theirs in (("test", test, train), ("train", train, test)):
            unknown = sorted(others.keys() - theirs.keys())
            if unknown:
                lacking = "train" if split == "test" else "test"
                raise InputError(f"folder: {root}/{lacking} has no class {unknown[0]!r}, which {split} has; every class needs both")
    else:
        train, test = _divided(train, test_share, split_seed)
    numbers = {name: number for number, name in enumerate(classes)}
    listed = {
        split: [Picture(path, numbers[name]) for name in classes for path in by_class[name]]
        for split, by_class in (("train", train), ("test", test))
    }
    return listed, classes


def _divided(every: dict[str, list[Path]], share: float, seed: int) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """A share of every class for testing, at least one picture and never all, drawn by `seed`; the rest for training."""
    random = np.random.default_rng(seed)
    train, test = {}, {}
    for name in sorted(every):
        paths = every[name]
        if len(paths) < 2:
            raise InputError(
                f"folder: class {name!r} has one picture, {paths[0]}; it needs one to train on and one to test on, or a folder test/"
            )
        number = min(max(round(share * len(paths)), 1), len(paths) - 1)
        drawn = set(random.permutation(len(paths))[:number].tolist())
        test[name] = [path for place, path in enumerate(paths) if place in drawn]
        train[name] = [path for place, path in enumerate(paths) if place not in drawn]
    return train, test


def _by_class(folder: Path) -> dict[str, list[Path]]:
    """The pictures of every class, sorted by name; classes are named by their folders."""
    found = {}
    for place in _folders(folder).values():
        # Composed, because macOS writes the same name decomposed.
        name = unicodedata.normalize("NFC", place.name)
        if pictures.shown(name) != name or not name.strip():
            raise InputError(
                f"folder: {pictures.shown(place)} cannot name a class, because of a line break or another sign that is no text; rename it"
            )
        if name in found:
            raise InputError(f"folder: {folder} has two folders for class {name!r}, written in two ways; put their pictures into one")
        found[name] = _files(place)
        if not found[name]:
            raise InputError(f"folder: {place} is empty; put pictures of class {name!r} into it, or remove it")
    return found


def _folders(folder: Path) -> dict[str, Path]:
    """The folders in a folder, links to folders included, without hidden ones."""
    return {path.name: path for path in _listed(folder) if path.is_dir()}


def _files(folder: Path) -> list[Path]:
    inside = [path for path in _listed(folder) if path.name not in _LITTER]
    deeper = next((path for path in inside if path.is_dir()), None)
    if deeper:
        raise InputError(
            f"folder: {pictures.shown(deeper)} is a folder inside a class; put its pictures into {folder}, or make it a class of its own"
        )
    return inside


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        raise InputError(f"folder: {folder} does not exist; set data.folder to a folder that holds train/CLASS/ or CLASS/") from None
    except NotADirectoryError:
        raise InputError(f"folder: {folder} is a file; set data.folder to a folder that holds train/CLASS/ or CLASS/") from None
    except OSError as error:
        raise_refusal(error, "folder", folder)
        raise


def _read(listed: list[Picture], side: int, split: str) -> Iterator[tuple[Picture, np.ndarray | pictures.Unreadable]]:
    """Each picture with its pixels, or with why it cannot be read, in order; several are decoded at the same time."""

    def one(picture: Picture) -> np.ndarray | pictures.Unreadable:
        try:
            return pictures.read(picture.path, side)
        except pictures.Unreadable as error:
            return error

    start = last = time.monotonic()
    ahead = 64
    with ThreadPoolExecutor(machine.available_threads()) as pool:
        for first in range(0, len(listed), ahead):
            part = listed[first : first + ahead]
            yield from zip(part, pool.map(one, part), strict=True)
            now, done = time.monotonic(), first + len(part)
            if now - last > _SECONDS_BETWEEN_REPORTS:
                left = (len(listed) - done) * (now - start) / done
                print(
                    f"{split}: {done:,} of {len(listed):,} pictures, {done / (now - start):,.0f} a second, about {left:,.0f} s left",
                    file=sys.stderr,
                )
                last = now


def _in_both(arrays: dict[str, np.ndarray], paths: dict[str, list[Path]]) -> list[tuple[Path, Path]]:
    """The pictures for testing whose pixels are those of one for training, each with the first such."""
    seen = {}
    for path, image in zip(paths["train"], arrays["train_images"], strict=True):
        seen.setdefault(_hash(image), path)
    pairs = ((seen.get(_hash(image)), path) for path, image in zip(paths["test"], arrays["test_images"], strict=True))
    return [(one, other) for one, other in pairs if one]


def _hash(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image, digest_size=16).digest()
