"""Options that programs share."""

import argparse
from collections.abc import Callable
from math import inf, isfinite
from pathlib import Path


def number(kind: type, least: float = -inf, most: float = inf, above: float = -inf, below: float = inf) -> Callable[[str], float]:
    """An argparse type: a finite number of `kind` from `least` to `most`, above `above` and below `below`."""
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", least), ("at most", most), ("above", above), ("below", below))
        if isfinite(bound)
    ]

    def parse(text: str):
        value = kind(text)
        if not (isfinite(value) and least <= value <= most and above < value < below):
            raise argparse.ArgumentTypeError(f"{text} is out of range; give a number {' and '.join(bounds)}")
        return value

    parse.__name__ = "integer" if kind is int else "number"
    return parse


def positive(kind: type) -> Callable[[str], float]:
    """An argparse type: a number of `kind` above zero."""
    return number(kind, above=0)


def not_negative(kind: type) -> Callable[[str], float]:
    """An argparse type: a number of `kind` of at least zero."""
    return number(kind, least=0)


# argparse types: a share from 0 up to 1, without it; a seed, as in the configuration.
share = number(float, least=0, below=1)
seed = number(int, least=0, most=2**32 - 1)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Have a program take a network in a framework, its data, and where it runs."""
    # Here, since programs of tables and figures, which share the types above, have an environment without these.
    from alexbench import backends, environment, variants

    parser.add_argument("--framework", required=True, choices=backends.FRAMEWORKS)
    parser.add_argument("--variant", required=True, choices=list(variants.VARIANTS))
    parser.add_argument("--data", required=True, type=Path, metavar="NPZ", help="data set, made by prepare_data.py")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU where there is one (%(default)s)")
    parser.add_argument("--threads", type=positive(int), default=environment.available_threads(), help="CPU threads (%(default)s)")
