"""Random numbers without a framework: of one seed, a stream of its own for each use.

Whoever draws names its use here. Seeds put together by hand repeat one another without a word: `default_rng([seed, 3])` is the same for the
third layer's weights and the third epoch's order, and `default_rng(seed)` is `default_rng([seed, 0])`.
"""

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """What random numbers are drawn for. The values are part of what a seed means: never change one, add new ones at the end."""

    INITIALISATION = 0
    """Fresh weights, by number of layer."""
    ORDER = 1
    """The order of the training images, by epoch."""
    CROPS = 2
    """Where training images are cut out, by epoch."""
    FLIPS = 3
    """Which training images are mirrored, by epoch."""
    ROUNDING = 4
    """Which way weights are moved by their last bit, to see what rounding does."""


def stream(seed: int, use: Use, number: int = 0) -> np.random.Generator:
    """A fresh generator for one use of a seed, both 0 or more; `number` counts what `use` says."""
    # A spawn key, unlike a second number in the entropy, is kept apart from the seed however long either is.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(use, number)))
