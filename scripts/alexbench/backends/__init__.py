"""What a framework has to do for the study, and nothing more. Adding one: a file here with a class `Backend` of this protocol.

No framework is imported here. Clocks, epochs, shuffling, weights' start, metrics and files are the loop's (`loop.py`), the
same for all; a backend builds the network from its declaration, takes optimiser steps and predicts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alexbench.experiment.execution import Execution
from alexbench.files import InputError

if TYPE_CHECKING:  # the Snakefile reads FRAMEWORKS where neither may be installed
    import numpy as np

    from alexbench.experiment.execution import Switch
    from alexbench.experiment.layers import Variant
    from alexbench.experiment.recipe import Plan, Recipe
    from alexbench.experiment.weights import Weights

FRAMEWORKS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))

# Images that `predict` takes at a time.
PREDICT_BATCH_SIZE = 256

# What `load` was asked for: some of it a framework must know before it is imported.
requested = Execution()


class MissingError(InputError):
    """A framework that is not installed, or cannot be imported."""


class Backend(Protocol):
    """One network on one device, its optimiser and its data."""

    conventions: str
    """Whose initialisation and Adam this framework uses when it is left alone: "torch" or "keras"."""

    title: str
    """The framework's name as it is written in tables and figures."""

    out_of_memory: tuple[type[Exception], ...]
    """What the framework raises where the device's memory does not suffice."""

    switches: dict[str, Switch]
    """What it can do to make a step faster, in the order in which the timing experiment turns it on, with what each excludes."""

    extra_steps: dict[str, tuple[str, ...]]
    """Steps (`Execution.step`) that the timing experiment tries besides, by device."""

    tutorial_resize: str
    """Where its tutorials resize images: one "image" at a time on the host, or a "batch" in the network."""

    def __init__(
        self,
        variant: Variant,
        recipe: Recipe,
        mean: np.ndarray,
        std: np.ndarray,
        device: str,
        threads: int | None,
        seed: int,
        execution: Execution,
    ) -> None:
        """Build `variant` for `recipe` (resolved: no "framework" or "variant" in it), to be carried out as `execution` says.

        An input pixel p in 0..255 enters the network as (p / 255 - mean) / std, float32 (3,) each, and is then resized to
        the variant's input size (bilinear, half-pixel centres). `device`: "auto", "cpu" or "cuda"; InputError where "cuda" is asked
        for and none is seen. `threads`: on the CPU; None leaves the framework as it is. `seed`: of dropout.
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
        """Keep the training set, where the input has it: uint8 (n, height, width, 3), int64 (n,)."""

    def train(self, plans: Iterable[Plan]) -> Iterator[int]:
        """The optimiser steps of each plan. Yields how many were handed over since the last time, and need not wait for the device.
        May be left before its end."""

    def load(self, plans: Iterable[Plan]) -> Iterator[Any]:
        """The input alone: a batch for each step, as `step` takes it. Waits for the device."""

    def as_arrays(self, batch: Any) -> tuple[np.ndarray, np.ndarray]:
        """What the network sees of a batch of `load`'s, float32 (n, 3, size, size), and its labels, int64 (n,)."""

    def step(self, batch: Any) -> None:
        """The optimiser step alone, on a batch of `load`'s, at the recipe's learning rate. Waits for the device."""

    def peak_work(self) -> dict[str, tuple[Callable[[], None], float]]:
        """The machine's own measure: "matmul", a large matrix product in this precision and its floating-point operations, and
        "copy", of a large array and the bytes that it reads and writes. Each waits for the device."""

    def metrics(self) -> tuple[float, int]:
        """Sum of the losses of the images trained on since the last call, and how many were classified right (dropout on).
        Waits for the device."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (n, 10), of uint8 (n, height, width, 3), dropout off."""

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
        """Mean loss of a batch, uint8 (n, height, width, 3) and int64 (n,), and its gradient by each trained weight in the neutral form;
        dropout off, running averages for batch normalisation, nothing is changed."""

    def state(self) -> dict[str, np.ndarray]:
        """A copy of all that the next steps and `metrics` depend on: weights, optimiser, random state, sums."""

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a `state`, of this process or of another one of the same framework."""

    def peak_memory_bytes(self) -> int | None:
        """The most device memory used so far; None on a CPU, where the loop measures the process."""


def load(name: str, execution: Execution = requested) -> type[Backend]:
    """The backend of that name; imports its framework, for `execution`. ValueError with the choices where there is none, MissingError
    where its framework is not installed."""
    global requested
    if name not in FRAMEWORKS:
        raise ValueError(f"unknown framework {name!r}; choose from {', '.join(FRAMEWORKS)}")
    requested = execution
    try:
        return importlib.import_module(f"alexbench.backends.{name}").Backend
    except ImportError as error:
        others = " or ".join(f"--framework {other}" for other in FRAMEWORKS if other != name)
        raise MissingError(f"framework: {name} cannot be imported here ({error}); install it (requirements.txt), or use {others}") from None
