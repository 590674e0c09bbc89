"""CIFAR-100 (Krizhevsky, 2009) with its 100 fine classes, from its published archive."""

from pathlib import Path

import numpy as np

from alexbench.experiment.datasets import Dataset, _cifar

TITLE = "CIFAR-100"
CREDIT = (
    "CIFAR-100 (A. Krizhevsky, *Learning multiple layers of features from tiny images*, 2009), which comes without a licence "
    "and is in use for research; its images were collected from the web"
)
ABOUT = ""
ARCHIVE = "cifar-100-python.tar.gz, its extracted folder"
URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
READS = ()

FOLDER = "cifar-100-python"
# MD5 of the members of cifar-100-python.tar.gz, as torchvision publishes them.
MEMBERS = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
PER_CLASS = {"train": 500, "test": 100}


def read(archive: Path | str, kind: str = "fine", name: str = "cifar100", per_class: dict[str, int] | None = None) -> Dataset:
    """CIFAR-100 from its archive, cifar-100-python.tar.gz, or from its unpacked folder; see `_cifar.Archive.read`.

    `kind`: "fine" or "coarse" labels.
    """
    members = _cifar.Archive(name, "cifar-100-python.tar.gz", 169_001_437, FOLDER, MEMBERS).read(archive)
    labels = {split: np.array(members[split][f"{kind}_labels".encode()], np.int64) for split in ("train", "test")}
    classes = tuple(text.decode() for text in members["meta"][f"{kind}_label_names".encode()])
    _cifar.check_counts(name, archive, per_class or PER_CLASS, labels, len(classes))
    train, test = (_cifar.images(members[split]) for split in ("train", "test"))
    return Dataset(name, train, labels["train"], test, labels["test"], classes)
