"""CIFAR-100 (Krizhevsky, 2009) with its 20 coarse classes, such as "aquatic mammals", from the same archive as the fine ones."""

from pathlib import Path

from alexbench.experiment.datasets import Dataset, cifar100
from alexbench.experiment.datasets.cifar100 import ABOUT, ARCHIVE, CREDIT, READS, URL

__all__ = ["ABOUT", "ARCHIVE", "CREDIT", "READS", "TITLE", "URL", "read"]

TITLE = "CIFAR-100 (20 coarse classes)"
PER_CLASS = {"train": 2500, "test": 500}


def read(archive: Path | str) -> Dataset:
    """CIFAR-100 with its coarse labels; see `cifar100.read`."""
    return cifar100.read(archive, kind="coarse", name="cifar100_coarse", per_class=PER_CLASS)
