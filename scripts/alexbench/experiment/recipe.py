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
    """Cross-entropy minimised by Adam (betas 0.9 and 0.999) on shuffled batches, including the smaller last one.

    `initialisation`: whose default weights a fresh layer starts with; "framework" for each framework's own.
    `adam_epsilon`: "torch" adds 1e-8 to the bias-corrected root of the second moment, "keras" 1e-7 to the uncorrected one.
    `normalisation`: whose channel mean and standard deviation scale the images; "variant" for the one that the variant declares.
    `schedule`: of the learning rate, after `warm_up_epochs` of linear warm-up; see `learning_rates`.
    `weight_decay`: decoupled (Loshchilov and Hutter, 2019); each step shrinks the weights of convolutions and dense layers by this
    fraction times the learning rate.
    `label_smoothing`: probability taken from the true class and spread evenly over all classes (Szegedy et al., 2016), only in the
    training loss.
    `flips`: mirror half of the training images at random. `crop_padding`: width of the black border around each training image, out of
    which a piece of the image's own size is cut at random.
    `frozen_features`: do not train the convolutions of variants that start from trained weights.
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
        """Whether training images differ from epoch to epoch."""
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
    """Channel mean and standard deviation for a resolved `normalisation`, in 0..1, float32 (3,) each.

    InputError if a channel does not vary.
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

    `images`: indices of the training images, int64 (steps, batch). `learning_rates`: float32 (steps,). `crops`: for each image, the crop's
    offset in the padded image from the top and from the left, and whether the crop is then mirrored, int32 (steps, batch, 3); all zero if
    the recipe does neither.
    """

    images: np.ndarray
    learning_rates: np.ndarray
    crops: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, steps: slice) -> "Plan":
        return Plan(self.images[steps], self.learning_rates[steps], self.crops[steps])


def learning_rates(recipe: Recipe, images: int, epoch: int) -> np.ndarray:
    """The learning rate of each step of an epoch, float32 (steps,). Epochs count from 1.

    "constant" keeps the recipe's learning rate. "one_cycle" falls from it to zero along half a cosine (the cosine is from Loshchilov and
    Hutter, 2017; Smith and Topin, 2019, anneal further). Both rise to it linearly during the warm-up.
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
    """Yield the steps of one epoch in plans of at most `steps` each, without the first `done`. A smaller last batch has its own plan.

    Order, crops and mirroring each depend only on seed and epoch. So every framework sees the same batches in the same order, and the order
    of the images does not depend on whether they are cropped or mirrored.
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
