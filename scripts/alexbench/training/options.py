"""Command-line options that several programs share."""

import argparse
from pathlib import Path

from alexbench import backends, machine, numeric
from alexbench.experiment import datasets, layers, variants


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options for framework, network, data, device and threads."""
    parser.add_argument("--framework", required=True, choices=backends.FRAMEWORKS, help="framework to use")
    parser.add_argument("--variant", required=True, choices=list(variants.VARIANTS), help="network to use")
    parser.add_argument("--data", required=True, type=Path, metavar="NPZ", help="data set, made by prepare_data.py")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU if there is one (%(default)s)")
    parser.add_argument("--threads", type=numeric.positive(int), default=machine.available_threads(), help="CPU threads (%(default)s)")


def load_network(args: argparse.Namespace) -> tuple[datasets.Dataset, layers.Variant]:
    """Load the data set that `add_network`'s options name, and the variant with an output for each of its classes."""
    dataset = datasets.load(args.data)
    return dataset, variants.get(args.variant, len(dataset.classes))
