"""The training recipe: what is done to a network, the same for every framework."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from alexbench.experiment.datasets import Dataset
from alexbench.experiment.streams import Use, stream
from alexbench.files import InputError

INITIALISATIONS = ("framework", "torch", "keras", "he")
ADAM_EPSILONS = ("framework", "torch", "keras")
NORMALISATIONS = ("variant", "dataset", "imagenet", "unit")
SCHEDULES = ("constant", "one_cycle")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """Cross-entropy minimised by Adam (beta 0.9 and 0.999) in shuffled batches, the last, smaller one included.

    `initialisation`: whose default weights a fresh layer starts with, "framework" for each framework's own.
    `adam_epsilon`: "torch" adds 1e-8 to the bias-corrected root of the second moment, "keras" 1e-7 to the uncorrected one.
    `normalisation`: whose channel mean and standard deviation; "variant" for the one that the variant declares.
    `schedule`: of the learning rate after the first `warm_up_epochs`, over which it rises linearly; see `learning_rates`.
    `weight_decay`: decoupled (Loshchilov and Hutter, 2019), of the weights of convolutions and dense layers; a step takes this times the
    learning rate of each.
    `label_smoothing`: what the true class gives away, in equal shares to all (Szegedy et al., 2016); in the training loss alone.
    `flips`: half of the training images are mirrored. `crop_padding`: each is cut out of itself with so many black pixels around.
    `frozen_features`: variants that start from trained weights keep their convolutions as they are.
    """

    epochs: int = 15
    batch_size: int = 64
    learning_rate: float = 0.001
    dropout: float = 0.5
    initialisation: str = "framework"
    adam_epsilon: str = "framework"
    normalisation: str = "variant"
    schedule: str = "constant"
    warm_up_epochs: float = 0.0
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    flips: bool = False
    crop_padding: int = 0
    frozen_features: bool = False

    @property
    def augments(self) -> bool:
        """Whether training images are other ones each time."""
        return self.flips or self.crop_padding > 0

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
    """Channel mean and standard deviation of a resolved `normalisation`, in 0..1, float32 (3,) each.

    InputError where a channel does not vary.
    """
    match normalisation:
        case "dataset":
            mean, std = dataset.channel_statistics()
            if not (std > 1e-6).all():
                channel = ("red", "green", "blue")[int(std.argmin())]
                raise InputError(
                    f"data: the {channel} channel of {dataset.name}'s training images is constant, so it cannot be scaled to unit spread; "
                    "give images that vary in it, or set recipe.normalisation to unit"
                )
            return mean, std
        case "imagenet":
            return np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)
        case "unit":
            return np.zeros(3, np.float32), np.ones(3, np.float32)
    raise ValueError(f"unknown normalisation {normalisation!r}")


@dataclass(frozen=True)
class Plan:
    """Steps to take, the same in every framework.

    `images`: indices of the training images, int64 (steps, batch). `learning_rates`: float32 (steps,). `crops`: where each image is cut
    out of the padded one, from the top and from the left, and whether it is mirrored then, int32 (steps, batch, 3); all zero where the
    recipe does neither.
    """

    images: np.ndarray
    learning_rates: np.ndarray
    crops: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, steps: slice) -> "Plan":
        return Plan(self.images[steps], self.learning_rates[steps], self.crops[steps])


def learning_rates(recipe: Recipe, images: int, epoch: int) -> np.ndarray:
    """The learning rate of each step of an epoch, counted from 1, float32 (steps,).

    "constant" is the recipe's. "one_cycle" falls from it to zero along half a cosine (Smith and Topin, 2019, anneal further; Loshchilov
    and Hutter, 2017, for the cosine). Either rises to it linearly over the warm-up.
    """
    steps = -(-images // recipe.batch_size)
    step = (epoch - 1) * steps + np.arange(1, steps + 1)
    warm_up, total = recipe.warm_up_epochs * steps, recipe.epochs * steps
    factor = np.minimum(step / warm_up, 1) if warm_up else np.ones(steps)
    if recipe.schedule == "one_cycle":
        done = np.clip((step - warm_up) / (total - warm_up + 1), 0, 1)
        factor = factor * (1 + np.cos(np.pi * done)) / 2
    return np.float32(recipe.learning_rate * factor)


def batches(recipe: Recipe, images: int, seed: int, epoch: int, steps: int, done: int = 0) -> Iterator[Plan]:
    """The steps of one epoch, at most `steps` a plan, those of the smaller last batch in a plan of its own; the first `done` are left out.

    Order, crops and mirroring each depend on seed and epoch only, so that every framework sees the same batches in the same order, and the
    images come in the same order with and without the others.
    """
    order = stream(seed, Use.ORDER, epoch).permutation(images)
    crops = np.zeros((images, 3), np.int32)
    if recipe.crop_padding:
        crops[:, :2] = stream(seed, Use.CROPS, epoch).integers(0, 2 * recipe.crop_padding + 1, (images, 2))
    if recipe.flips:
        crops[:, 2] = stream(seed, Use.FLIPS, epoch).integers(0, 2, images)
    rates = learning_rates(recipe, images, epoch)
    size = recipe.batch_size
    whole = images // size
    for first in range(done, whole, steps):
        last = min(first + steps, whole)
        some = slice(first * size, last * size)
        yield Plan(order[some].reshape(-1, size), rates[first:last], crops[some].reshape(-1, size, 3))
    if images % size and done <= whole:
        rest = slice(whole * size, images)
        yield Plan(order[rest][np.newaxis], rates[whole:], crops[rest][np.newaxis])
