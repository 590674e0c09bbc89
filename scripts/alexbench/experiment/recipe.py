"""The training recipe: what is done to a network, the same for every framework."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import numpy as np

from alexbench.experiment.datasets import Dataset
from alexbench.experiment.streams import Use, stream
from alexbench.files import InputError
from alexbench.settings import setting

INITIALISATIONS = ("framework", "torch", "keras", "jax", "he")
ADAM_EPSILONS = ("framework", "torch", "keras")
NORMALISATIONS = ("variant", "dataset", "imagenet", "unit")
SCHEDULES = ("constant", "one_cycle")
OPTIMIZERS = ("adam", "sgd")
# In a resolved recipe, Adam's epsilon with another optimizer.
UNUSED = "unused"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Recipe:
    """Cross-entropy minimised on shuffled batches, including the smaller last one."""

    epochs: int = setting(15, help="passes over the training images", minimum=1)
    batch_size: int = setting(
        64,
        help="images per step",
        about="Images per step. What is left at the end of an epoch (16 of 50,000) makes a smaller step.",
        minimum=1,
    )
    optimizer: str = setting(
        "adam",
        help="Adam (betas 0.9 and 0.999), or SGD with momentum",
        about="`adam` (betas 0.9 and 0.999), or `sgd`, stochastic gradient descent with momentum.",
        enum=OPTIMIZERS,
    )
    learning_rate: float = setting(0.001, help="learning rate", exclusiveMinimum=0)
    momentum: float = setting(
        0.9,
        help="SGD's momentum",
        about="SGD's momentum: the velocity is this fraction of the last one plus the gradient, in every framework; 0 for none.",
        minimum=0,
        exclusiveMaximum=1,
    )
    nesterov: bool = setting(
        False,
        help="SGD with Nesterov's momentum",
        about="`true`: Nesterov's momentum (Sutskever et al., 2013): the step is the gradient plus the momentum times the new velocity.",
    )
    dropout: float = setting(0.5, help="fraction of units dropped", minimum=0, exclusiveMaximum=1)
    initialisation: str = setting(
        "framework",
        help="how layers that start from random weights are initialised; framework: by that framework's default",
        about="How layers that start from random weights are initialised: `torch` (uniform in ±1/√fan_in, biases too), `keras` (Glorot "
        "uniform, biases 0), `jax` (LeCun's normal, truncated at two standard deviations, biases 0), `he` (normal, biases 0). "
        "`framework`: each framework's own default.",
        enum=INITIALISATIONS,
    )
    adam_epsilon: str = setting(
        "framework",
        help="Adam's epsilon as in PyTorch or as in Keras (size and place differ); framework: as in that framework",
        about="Adam's epsilon. `torch`: 1e-8, added to the bias-corrected root of the second moment. `keras`: 1e-7, added to the "
        "uncorrected one. `framework`: each framework's own default. With `keras`, TensorFlow uses Keras's Adam, which computes the bias "
        "correction in float32, so its steps differ from PyTorch's (float64) by up to 1e-5 of their size. With `torch`, all "
        "compute it in float64.",
        enum=ADAM_EPSILONS,
    )
    normalisation: str = setting(
        "variant",
        help="mean and standard deviation that scale the input's channels; variant: as the variant declares",
        about="Which mean and standard deviation scale the channels of the inputs: `dataset`, `imagenet`, or `unit` (0 and 1). `variant`: "
        "`imagenet` for the pretrained network, `dataset` for the others.",
        enum=NORMALISATIONS,
    )
    schedule: str = setting(
        "constant",
        help="learning rate after the warm-up",
        about="The learning rate after the warm-up: `constant`, or `one_cycle`, which falls to zero along half a cosine.",
        enum=SCHEDULES,
    )
    warm_up_epochs: float = setting(
        0.0,
        help="epochs of linear warm-up",
        about="Epochs of linear warm-up, in which the learning rate rises to its value.",
        minimum=0,
    )
    weight_decay: float = setting(
        0.0,
        help="decoupled weight decay (AdamW, SGDW), of the weights of convolutions and dense layers only",
        about="Decoupled from the gradient (AdamW, SGDW; Loshchilov and Hutter, 2019): each step reduces the weights of convolutions and "
        "dense layers by this fraction times the learning rate.",
        minimum=0,
    )
    label_smoothing: float = setting(
        0.0,
        help="share of the true class's probability that is spread over all classes",
        about="The share of the true class's probability that is spread equally over all classes (Szegedy et al., 2016); in the training "
        "loss only.",
        minimum=0,
        exclusiveMaximum=1,
    )
    flips: bool = setting(
        False,
        help="mirror training images at random",
        about="`true`: each epoch, every training image is mirrored with probability 1/2.",
    )
    crop_padding: int = setting(
        0,
        help="pad training images with this many black pixels on each side, then crop them at random",
        about="Each epoch, every training image is padded with this many black pixels on each side and cropped to its size at a random "
        "place. Mirroring and crops depend on the seed, are the same in every framework, and are done on the device.",
        metavar="PIXELS",
        minimum=0,
        maximum=64,
    )
    frozen_features: bool = setting(
        False,
        help="keep the convolutions of a pretrained variant unchanged",
        about="`true`: a pretrained network keeps its convolutions as they are, and only its classifier is trained.",
    )

    @property
    def augments(self) -> bool:
        """Whether training images differ from epoch to epoch."""
        return self.flips or self.crop_padding > 0

    def resolved(self, conventions: dict[str, str], normalisation: str) -> "Recipe":
        """This recipe with every "framework" replaced by the framework's own `conventions`, and "variant" by `normalisation`."""
        own = {key: value for key, value in conventions.items() if getattr(self, key) == "framework"}
        if self.optimizer != "adam":
            own["adam_epsilon"] = UNUSED
        return replace(self, **own, normalisation=normalisation if self.normalisation == "variant" else self.normalisation)

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
    offset in the padded image from the top and from the left, and 1 if the crop is then mirrored, int32 (steps, batch, 3); all zero if the
    recipe neither crops nor mirrors.
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
