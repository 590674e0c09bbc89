"""Options that programs share."""

import argparse
from collections.abc import Callable
from pathlib import Path

from alexbench import backends, environment, variants


def positive(kind: type) -> Callable[[str], float]:
    """An argparse type: a number of `kind` above zero."""

    def parse(text: str):
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    parse.__name__ = f"positive {kind.__name__}"
    return parse


def share(text: str) -> float:
    """An argparse type: a number from 0 up to 1, without it."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


def add_network(parser: argparse.ArgumentParser) -> None:
    """Have a program take a network in a framework, its data, and where it runs."""
    parser.add_argument("--framework", required=True, choices=backends.FRAMEWORKS)
    parser.add_argument("--variant", required=True, choices=list(variants.VARIANTS))
    parser.add_argument("--data", required=True, type=Path, metavar="NPZ", help="data set, made by prepare_data.py")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU where there is one (%(default)s)")
    parser.add_argument("--threads", type=positive(int), default=environment.available_threads(), help="CPU threads (%(default)s)")
