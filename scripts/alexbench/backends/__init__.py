"""What a framework has to do for the study, and nothing more. Adding one: a file here with a class `Backend` of this protocol.

No framework is imported here. Clocks, epochs, shuffling, weights' start, metrics and files are the loop's (`loop.py`), the
same for all; a backend builds the network from its declaration, takes optimiser steps and predicts.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # the Snakefile reads FRAMEWORKS where neither may be installed
    import numpy as np

    from alexbench.recipe import Recipe
    from alexbench.spec import Variant
    from alexbench.weights import Weights

FRAMEWORKS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))


class Backend(Protocol):
    """One network on one device, its optimiser and its data."""

    conventions: str
    """Whose initialisation and Adam this framework uses when it is left alone: "torch" or "keras"."""

    title: str
    """The framework's name as it is written in tables and figures."""

    out_of_memory: tuple[type[Exception], ...]
    """What the framework raises where the device's memory does not suffice."""

    def __init__(self, variant: Variant, recipe: Recipe, mean: np.ndarray, std: np.ndarray, device: str, threads: int, seed: int) -> None:
        """Build `variant` for `recipe` (resolved: no "framework" or "variant" in it).

        An input pixel p in 0..255 enters the network as (p / 255 - mean) / std, float32 (3,) each, and is then resized to
        the variant's input size (bilinear, half-pixel centres). `device`: "auto", "cpu" or "cuda"; InputError where "cuda" is asked
        for and none is seen. `seed`: of dropout.
        """

    @staticmethod
    def probe() -> tuple[str, list[str]]:
        """The framework's version, and the names of the GPUs that it sees."""

    def describe(self) -> dict[str, Any]:
        """`device` ("cpu" or "cuda"), `device_name`, `versions` (library -> version), `settings` (what else decides speed or bits)."""

    def set_weights(self, weights: Weights) -> None:
        """Take weights in the neutral form (`weights.py`)."""

    def get_weights(self) -> Weights:
        """The weights in the neutral form."""

    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep the training set on the device: uint8 (n, height, width, 3), int64 (n,)."""

    def train(self, plan: np.ndarray) -> None:
        """One optimiser step a row of `plan`, image indices of shape (steps, batch). Need not wait for the device."""

    def metrics(self) -> tuple[float, int]:
        """Sum of the losses of the images trained on since the last call, and how many were classified right (dropout on).
        Waits for the device."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (n, 10), of uint8 (n, height, width, 3), dropout off."""

    def state(self) -> dict[str, np.ndarray]:
        """A copy of all that the next steps and `metrics` depend on: weights, optimiser, random state, sums."""

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a `state`, of this process or of another one of the same framework."""

    def peak_memory_bytes(self) -> int | None:
        """The most device memory used so far; None on a CPU, where the loop measures the process."""


def load(name: str) -> type[Backend]:
    """The backend of that name; imports its framework. ValueError with the choices where there is none."""
    if name not in FRAMEWORKS:
        raise ValueError(f"unknown framework {name!r}; choose from {', '.join(FRAMEWORKS)}")
    return importlib.import_module(f"alexbench.backends.{name}").Backend
