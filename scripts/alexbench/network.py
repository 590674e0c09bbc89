"""A trained network as one file: its weights, with all that is needed to use them, in whichever framework is at hand."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexbench import backends, spec, variants, weights
from alexbench.execution import Execution
from alexbench.files import InputError
from alexbench.recipe import Recipe


def save(path: Path | str, variant: spec.Variant, trained: weights.Weights, mean: np.ndarray, std: np.ndarray, **about: object) -> None:
    """Write weights in the neutral form (`weights.py`), with the scaling of the inputs, float32 (3,) each in 0..1.

    `about`: what else is to be known of them, as JSON allows. To use them, these are needed: `framework`, which trained them; `classes`,
    their names in order; `side`, in pixels, of the images they were trained on.
    """
    content = about | {"variant": variant.name, "mean": mean.tolist(), "std": std.tolist()}
    weights.write(path, trained, {key: json.dumps(value) for key, value in content.items()})


@dataclass(frozen=True)
class Network:
    """A trained network in a framework. `about`: what `save` was told, by key."""

    backend: backends.Backend
    about: dict

    @property
    def classes(self) -> list[str]:
        """The classes' names, in the order of the probabilities."""
        return self.about["classes"]

    @property
    def side(self) -> int:
        """Of the images that it was trained on, in pixels, before they were resized to the network's input."""
        return self.about["side"]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Probabilities, float64 (n, classes), of uint8 RGB images (n, height, width, 3), resized to the network's input."""
        logits = self.backend.predict(images).astype(np.float64)
        # By hand, since a framework's environment has no SciPy.
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def load(path: Path | str, framework: str | None = None, device: str = "cpu") -> Network:
    """The network that `save` wrote, in the framework that trained it or another one. InputError where the file is not one, or damaged."""
    tensors, metadata = weights.read(path)
    try:
        about = {key: json.loads(value) for key, value in metadata.items()}
        variant, mean, std = variants.get(about["variant"]), np.float32(about["mean"]), np.float32(about["std"])
        about |= {"classes": [str(name) for name in about["classes"]], "side": int(about["side"])}
        framework = framework or str(about["framework"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a trained network of this workflow ({error}); take the model.safetensors of a run") from None
    weights.check(variant, tensors, str(path))
    backend_class = backends.load(framework, Execution())
    recipe = Recipe().resolved(backend_class.conventions, variant.normalisation)
    backend = backend_class(variant, recipe, mean, std, device, None, 0, Execution())
    backend.set_weights(tensors)
    return Network(backend, about)
