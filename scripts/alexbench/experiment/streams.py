"""Random numbers without a framework: each use of a seed has a stream of its own.

Code that draws numbers must list its use here. Seeds combined by hand repeat each other silently: `default_rng([seed, 3])` is the same for
the third layer's weights and the third epoch's order, and `default_rng(seed)` is `default_rng([seed, 0])`.
"""

from enum import IntEnum

import numpy as np


class Use(IntEnum):
    """What random numbers are drawn for. The values are part of what a seed means: never change one; add new ones at the end."""

    INITIALISATION = 0
    """Fresh weights, one stream per layer."""
    ORDER = 1
    """The order of the training images, one stream per epoch."""
    CROPS = 2
    """Where training images are cropped, one stream per epoch."""
    FLIPS = 3
    """Which training images are mirrored, one stream per epoch."""
    ROUNDING = 4
    """The direction in which weights are changed in their last bit, to measure the effect of rounding."""


def stream(seed: int, use: Use, number: int = 0) -> np.random.Generator:
    """A fresh generator for one use of a seed. `number` is the layer or epoch, as `use` says. Neither may be negative."""
    # A spawn key stays separate from the seed however long either is; a second number in the entropy would not.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(use, number)))
