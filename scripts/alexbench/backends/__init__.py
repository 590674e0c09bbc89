"""What a framework must do to be compared. To add a framework, add a file here with a class `Backend` that follows this protocol.

No framework is imported here. The loop (`training/loop.py`) does the clocks, epochs, shuffling, initial weights, metrics and files in the
same way for all; a backend builds the network from its declaration, takes optimiser steps and predicts.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alexbench.experiment.execution import Execution
from alexbench.files import InputError

if TYPE_CHECKING:  # the Snakefile reads FRAMEWORKS where NumPy and safetensors may be missing
    import numpy as np

    from alexbench.experiment.execution import Switch
    from alexbench.experiment.layers import Variant
    from alexbench.experiment.recipe import Plan, Recipe
    from alexbench.experiment.weights import Weights

FRAMEWORKS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")))

# Images per batch in `predict`.
PREDICT_BATCH_SIZE = 256

# The execution that `load` was given: a framework must know some of it before it is imported.
requested = Execution()


@dataclass(frozen=True)
class Setup:
    """What a backend is to train, and how."""

    variant: Variant

    recipe: Recipe
    """Resolved: no "framework" or "variant" in it."""

    mean: np.ndarray
    """float32 (3,). An input pixel p in 0..255 becomes (p / 255 - mean) / std; the image is then resized to the variant's input size
    (bilinear, half-pixel centres)."""

    std: np.ndarray
    """float32 (3,)."""

    device: str
    """"auto", "cpu" or "cuda"."""

    threads: int | None
    """CPU threads; None keeps the framework's default."""

    seed: int
    """For dropout."""

    execution: Execution


class MissingError(InputError):
    """A framework that is not installed, or cannot be imported."""


class Backend(Protocol):
    """One network on one device, its optimiser and its data."""

    conventions: dict[str, str]
    """What this framework does by default, for each key of the recipe that may be "framework": `initialisation` and `adam_epsilon`."""

    title: str
    """The framework's name in tables and figures."""

    out_of_memory: tuple[type[Exception], ...]
    """What the framework raises when the device runs out of memory."""

    switches: dict[str, Switch]
    """Options that affect the speed of a step, in the order in which the experiment on speed turns them on."""

    extra_steps: dict[str, tuple[str, ...]]
    """Further steps (`Execution.step`) that the experiment on speed tries, by device."""

    tutorial_resize: str
    """Where the framework's tutorials resize images: "image", one at a time on the host, or "batch", in the network."""

    def __init__(self, setup: Setup) -> None:
        """Build the network. InputError if `setup.device` is "cuda" and the framework sees no GPU."""

    @staticmethod
    def probe() -> tuple[str, list[str]]:
        """The framework's version, and the names of the GPUs that it sees."""

    def describe(self) -> dict[str, Any]:
        """`device` ("cpu" or "cuda"), `device_name`, `versions` (library -> version), `settings` (all else that affects speed or bits)."""

    def set_weights(self, weights: Weights) -> None:
        """Take weights in the neutral form (`weights.py`)."""

    def get_weights(self) -> Weights:
        """The weights in the neutral form."""

    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep the training set, uint8 (n, height, width, 3) and int64 (n,), on the device or the host as the input requires."""

    def train(self, plans: Iterable[Plan]) -> Iterator[int]:
        """Take the optimiser steps of each plan. Yields the number of steps issued since the last yield, and need not wait for the device.
        The caller may stop early."""

    def load(self, plans: Iterable[Plan]) -> Iterator[Any]:
        """Run only the input: yield a batch for each step, as `step` takes it. Waits for the device."""

    def as_arrays(self, batch: Any) -> tuple[np.ndarray, np.ndarray]:
        """What the network sees of a batch from `load`: images, float32 (n, 3, size, size), and labels, int64 (n,)."""

    def step(self, batch: Any) -> None:
        """Take only the optimiser step, on a batch from `load`, at the recipe's learning rate. Waits for the device."""

    def peak_work(self) -> dict[str, tuple[Callable[[], None], float]]:
        """Work to measure the machine's peak speed with: for each kind, a function that does it and waits for the device, and its amount.

        "matmul": a large matrix product in this precision, in floating-point operations. "copy": copying a large array, in bytes read and
        written.
        """

    def metrics(self) -> tuple[float, int]:
        """Sum of the losses over the images trained on since the last call, and how many were classified correctly (dropout on).
        Waits for the device."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits, float32 (n, classes), for images, uint8 (n, height, width, 3), with dropout off."""

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
        """Mean loss of a batch, uint8 (n, height, width, 3) and int64 (n,), and its gradient for each trained weight in the neutral form.

        Dropout is off, batch normalisation uses the running averages, and nothing is changed.
        """

    def state(self) -> dict[str, np.ndarray]:
        """A copy of everything that the next steps and `metrics` depend on: weights, optimiser, random state, sums."""

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore a `state` of this process, or of another process with the same framework."""

    def peak_memory_bytes(self) -> int | None:
        """Peak device memory so far; None on a CPU, where the loop measures the process instead."""


def load(name: str, execution: Execution = requested) -> type[Backend]:
    """Import a framework for `execution` and return its backend. ValueError with the choices if there is none of that name, MissingError
    if the framework cannot be imported."""
    global requested
    if name not in FRAMEWORKS:
        raise ValueError(f"unknown framework {name!r}; choose from {', '.join(FRAMEWORKS)}")
    requested = execution
    try:
        return importlib.import_module(f"alexbench.backends.{name}").Backend
    except ImportError as error:
        others = " or ".join(f"--framework {other}" for other in FRAMEWORKS if other != name)
        raise MissingError(f"framework: {name} cannot be imported here ({error}); install it (requirements.txt), or use {others}") from None
