"""The training recipe: what is done to a network, the same for every framework."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from alexbench.datasets import Dataset

INITIALISATIONS = ("framework", "torch", "keras", "he")
ADAM_EPSILONS = ("framework", "torch", "keras")
NORMALISATIONS = ("variant", "dataset", "imagenet", "unit")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """Cross-entropy minimised by Adam (beta 0.9 and 0.999) in shuffled batches, the last, smaller one included.

    `initialisation`: whose default weights a fresh layer starts with, "framework" for each framework's own.
    `adam_epsilon`: "torch" adds 1e-8 to the bias-corrected root of the second moment, "keras" 1e-7 to the uncorrected one.
    `normalisation`: whose channel mean and standard deviation; "variant" for the one that the variant declares.
    """

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 0.001
    dropout: float = 0.5
    initialisation: str = "framework"
    adam_epsilon: str = "framework"
    normalisation: str = "variant"

    def resolved(self, conventions: str, normalisation: str) -> "Recipe":
        """This recipe with every "framework" replaced by `conventions` ("torch", "keras") and "variant" by `normalisation`."""
        return replace(
            self,
            initialisation=conventions if self.initialisation == "framework" else self.initialisation,
            adam_epsilon=conventions if self.adam_epsilon == "framework" else self.adam_epsilon,
            normalisation=normalisation if self.normalisation == "variant" else self.normalisation,
        )

    def as_dict(self) -> dict:
        return asdict(self)


def channel_scaling(normalisation: str, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Channel mean and standard deviation of a resolved `normalisation`, in 0..1, float32 (3,) each."""
    match normalisation:
        case "dataset":
            return dataset.channel_statistics()
        case "imagenet":
            return np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)
        case "unit":
            return np.zeros(3, np.float32), np.ones(3, np.float32)
    raise ValueError(f"unknown normalisation {normalisation!r}")


def batches(images: int, batch_size: int, seed: int, epoch: int, steps: int, done: int = 0) -> Iterator[np.ndarray]:
    """The shuffled image indices of one epoch, int64 of shape (n, batch_size) with n <= `steps`, then the rest as (1, rest).

    The order depends on seed and epoch alone, so that every framework sees the same batches in the same order. The first
    `done` steps are left out.
    """
    order = np.random.default_rng([seed, epoch]).permutation(images)
    whole = images // batch_size
    plan = order[: whole * batch_size].reshape(whole, batch_size)
    for first in range(done, whole, steps):
        yield plan[first : first + steps]
    if images % batch_size and done <= whole:
        yield order[whole * batch_size :][np.newaxis]
