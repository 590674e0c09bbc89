"""The data sets by name, and what reads them. A training reads what prepare_data.py made of them, and does not depend on this file."""

from collections.abc import Callable

from alexbench.experiment import datasets

# CIFAR-10 comes from an archive; these are at hand.
READERS: dict[str, Callable[[], datasets.Dataset]] = {"digits": datasets.digits}
