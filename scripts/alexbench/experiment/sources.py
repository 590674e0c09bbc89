"""Readers of the data sets, by name. Training reads what prepare_data.py wrote and does not depend on this file."""

from collections.abc import Callable

from alexbench.experiment import datasets

# Data sets that need no archive, unlike CIFAR-10.
READERS: dict[str, Callable[[], datasets.Dataset]] = {"digits": datasets.digits}
