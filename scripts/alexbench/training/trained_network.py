"""A trained network in one file: its weights and everything needed to use them in any installed framework."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexbench import backends
from alexbench.experiment import layers, variants, weights
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import Recipe
from alexbench.files import InputError

# Largest accepted side of the training images, in pixels: far above any that would be resized to 224, and safe for memory.
LARGEST_SIDE = 1024
# Smallest accepted standard deviation of pixels in 0..1: below it all images are one colour, and dividing by it can overflow float32.
SMALLEST_STD = 1e-6


def save(path: Path | str, variant: layers.Variant, trained: weights.Weights, mean: np.ndarray, std: np.ndarray, **about: object) -> None:
    """Write weights in the neutral form (`weights.py`) with the input scaling, `mean` and `std`, float32 (3,) each in 0..1.

    `about`: further JSON-serialisable facts. `load` requires `framework`, which trained the weights; `classes`, the class names in order;
    and `side`, the side of the training images in pixels.
    """
    content = about | {"variant": variant.name, "mean": mean.tolist(), "std": std.tolist()}
    weights.write(path, trained, {key: json.dumps(value) for key, value in content.items()})


@dataclass(frozen=True)
class Network:
    """A trained network in a framework. `about`: the facts given to `save`, by key."""

    backend: backends.Backend
    about: dict

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the probabilities."""
        return self.about["classes"]

    @property
    def side(self) -> int:
        """Side of the training images in pixels, before they were resized to the network's input."""
        return self.about["side"]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities, float64 (n, classes), of uint8 RGB images (n, height, width, 3), which are resized for the network."""
        logits = self.backend.predict(images).astype(np.float64)
        if not np.isfinite(logits).all():
            raise InputError(
                "the network's outputs are not finite numbers, so its weights are damaged; use another run's model.safetensors"
            )
        # Softmax by hand: the frameworks' environments have no SciPy.
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def load(path: Path | str, framework: str | None = None, device: str = "cpu") -> Network:
    """Load a network that `save` wrote into `framework`; by default into the one that trained it or, failing that, any installed one.

    InputError, naming file, field and value, if the file is damaged or not a trained network.
    """
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; take the model.safetensors of a run in it")
    with weights.opened(path) as file:
        about = _checked(path, file.metadata() or {})
        variant = variants.get(about["variant"], len(about["classes"]))
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  not a dict
        types = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}
        shapes = {name: (tuple(part.get_shape()), types.get(part.get_dtype(), part.get_dtype())) for name, part in slices.items()}
        # Check before reading any tensor: a wrong file can be larger than memory.
        weights.check_shapes(variant, shapes, str(path))
        tensors = {name: file.get_tensor(name) for name in shapes}
    weights.check(variant, tensors, str(path))
    backend_class = _backend(framework, about["framework"], path)
    recipe = Recipe().resolved(backend_class.conventions, variant.normalisation)
    mean, std = np.float32(about["mean"]), np.float32(about["std"])
    with _quiet():
        backend = backend_class(backends.Setup(variant, recipe, mean, std, device, None, 0, Execution()))
        backend.set_weights(tensors)
    return Network(backend, about)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress TensorFlow's C++ messages about processors and GPUs, which no setting turns off; print them if the block raises."""
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed: nothing to suppress
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception as error:
            if not isinstance(error, InputError):
                said.seek(0)
                os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _backend(asked: str | None, trained_by: str, path: Path | str) -> type[backends.Backend]:
    """The requested framework; by default the one that trained the network or, if that is not installed, another, with a message."""
    try:
        return _imported(asked or trained_by)
    except backends.MissingError as missing:
        for other in () if asked else backends.FRAMEWORKS:
            if other != trained_by:
                with suppress(backends.MissingError):
                    found = _imported(other)
                    print(f"{path} was trained in {trained_by}, which is not installed here; using --framework {other}", file=sys.stderr)
                    return found
        raise missing from None


def _imported(framework: str) -> type[backends.Backend]:
    with _quiet():
        return backends.load(framework, Execution())


def _checked(path: Path | str, metadata: dict[str, str]) -> dict:
    """The facts given to `save`, by key. InputError, naming file, field and value, if one is missing or invalid."""

    def refusal(field: str, found: str, expected: str) -> InputError:
        found = found if len(found) <= 60 else f"{found[:57]}..."
        what = f"its metadata have {found} as {field}; expected {expected}"
        return InputError(f"{path} is not a trained network of this workflow ({what}); take the model.safetensors of a run")

    about = {}
    for key, text in metadata.items():
        try:
            about[key] = json.loads(text)
        except (ValueError, RecursionError):
            raise refusal(key, repr(text), "JSON") from None
    rules = {
        "variant": (lambda name: name in list(variants.VARIANTS), f"one of {', '.join(variants.VARIANTS)}"),
        "framework": (lambda name: name in backends.FRAMEWORKS, f"one of {', '.join(backends.FRAMEWORKS)}"),
        "classes": (_are_names, "a list of different names, one for each output of the network"),
        "side": (lambda side: type(side) is int and 1 <= side <= LARGEST_SIDE, f"whole pixels, from 1 to {LARGEST_SIDE}"),
        "mean": (lambda mean: _are_colours(mean, 0), "3 numbers from 0 to 1"),
        "std": (lambda std: _are_colours(std, SMALLEST_STD), f"3 numbers from {SMALLEST_STD:g} to 1"),
    }
    for field, (holds, expected) in rules.items():
        if field not in about:
            raise refusal(field, "nothing", expected)
        if not holds(about[field]):
            raise refusal(field, repr(about[field]), expected)
    return about


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name for name in value) and 2 <= len(value) == len({*value})


def _are_colours(value: object, least: float) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(number) in (int, float) and least <= number <= 1 for number in value)
