"""argparse types for numbers. Imports nothing of ours, so a program that takes a number does not depend on what options.py imports."""

import argparse
from collections.abc import Callable
from math import inf, isfinite


def number(kind: type, least: float = -inf, most: float = inf, above: float = -inf, below: float = inf) -> Callable[[str], float]:
    """An argparse type: a finite number of `kind` from `least` to `most`, above `above` and below `below`."""
    words = {"at least": least, "at most": most, "above": above, "below": below}
    bounds = " and ".join(f"{word} {bound}" for word, bound in words.items() if isfinite(bound))

    def parse(text: str):
        value = kind(text)
        if not (least <= value <= most and above < value < below):  # False for nan and the infinities too
            raise argparse.ArgumentTypeError(f"{text} is out of range; give a number {bounds}")
        return value

    parse.__name__ = "integer" if kind is int else "number"
    return parse


def positive(kind: type) -> Callable[[str], float]:
    """An argparse type: a number of `kind` above zero."""
    return number(kind, above=0)


def not_negative(kind: type) -> Callable[[str], float]:
    """An argparse type: a number of `kind` of at least zero."""
    return number(kind, least=0)


# argparse types: a share (at least 0, below 1); a seed and a small count of processes or pixels, both limited as in config/schema.yaml;
# images side by side.
share = number(float, least=0, below=1)
seed = number(int, least=0, most=2**32 - 1)
few = number(int, least=0, most=64)
side_by_side = number(int, least=1, most=100)
