"""The networks, each declared once. To add one, add an entry to VARIANTS and its name to the configuration."""

from dataclasses import replace

from alexbench.experiment.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LocalResponseNorm,
    MaxPool,
    Pad,
    Residual,
    Variant,
)

# Those of CIFAR-10; data with another number of classes have another last layer (`get`).
CLASSES = 10

_ALEXNET_MOD = Variant(
    name="alexnet_mod",
    title="AlexNet mod. (32)",
    description="AlexNet for 32x32 images: a first stride of 1 and narrow dense layers (the original study's own).",
    input_size=32,
    layers=(
        Conv(96, kernel=11),
        Pad(2),
        MaxPool(3, stride=2),
        Conv(256, kernel=5, padding=2),
        MaxPool(3, stride=2),
        Conv(384, kernel=3, padding=1),
        Conv(384, kernel=3, padding=1),
        Conv(256, kernel=3, padding=1),
        MaxPool(3, stride=2),
        Flatten(),
        Dense(512),
        Dropout(),
        Dense(512),
        Dropout(),
        Dense(CLASSES, activation=None),
    ),
)

_ALEXNET = Variant(
    name="alexnet",
    title="AlexNet (224)",
    description="AlexNet as of 2012, without its split over two GPUs and its local response normalisation; images resized to 224x224.",
    input_size=224,
    layers=(
        Conv(96, kernel=11, stride=4),
        Pad(2),
        MaxPool(3, stride=2),
        Conv(256, kernel=5, padding=2),
        MaxPool(3, stride=2),
        Conv(384, kernel=3, padding=1),
        Conv(384, kernel=3, padding=1),
        Conv(256, kernel=3, padding=1),
        MaxPool(3, stride=2),
        Flatten(),
        Dense(4096),
        Dropout(),
        Dense(4096),
        Dropout(),
        Dense(CLASSES, activation=None),
    ),
)

_ALEXNET_PRETRAINED = Variant(
    name="alexnet_pretrained",
    title="AlexNet pretrained",
    description="torchvision's AlexNet ('One weird trick', 2014), trained on ImageNet; the last layer replaced, every layer fine-tuned.",
    input_size=224,
    layers=(
        Conv(64, kernel=11, stride=4, padding=2),
        MaxPool(3, stride=2),
        Conv(192, kernel=5, padding=2),
        MaxPool(3, stride=2),
        Conv(384, kernel=3, padding=1),
        Conv(256, kernel=3, padding=1),
        Conv(256, kernel=3, padding=1),
        MaxPool(3, stride=2),
        Flatten(),
        Dropout(),
        Dense(4096),
        Dropout(),
        Dense(4096),
        Dense(CLASSES, activation=None),
    ),
    normalisation="imagenet",
    pretrained={
        "conv1": "features.0",
        "conv2": "features.3",
        "conv3": "features.6",
        "conv4": "features.8",
        "conv5": "features.10",
        "dense1": "classifier.1",
        "dense2": "classifier.4",
    },
)

_ALEXNET_SCRATCH = replace(
    _ALEXNET_PRETRAINED,
    name="alexnet_scratch",
    title="AlexNet from scratch",
    description="The network of alexnet_pretrained from random weights: what the pretrained ones are worth.",
    pretrained=None,
)

_ALEXNET_TUNED = Variant(
    name="alexnet_tuned",
    title="AlexNet tuned (32)",
    description="Five convolutions of 3x3, batch-normalised, and one hidden dense layer, for the recipe of config/tuned.yaml.",
    input_size=32,
    layers=(
        Conv(64, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(),
        Conv(96, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(),
        MaxPool(2, stride=2),
        Conv(192, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(),
        MaxPool(2, stride=2),
        Conv(256, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(),
        Conv(256, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(),
        MaxPool(2, stride=2),
        Flatten(),
        Dropout(),
        Dense(512),
        Dropout(),
        Dense(CLASSES, activation=None),
    ),
)

_ALEXNET_2012 = Variant(
    name="alexnet_2012",
    title="AlexNet 2012 (224)",
    description="AlexNet as published (Krizhevsky et al., 2012): local response normalisation, and convolutions 2, 4 and 5 in two groups.",
    input_size=224,
    layers=(
        Conv(96, kernel=11, stride=4, padding=2),
        LocalResponseNorm(),
        MaxPool(3, stride=2),
        Conv(256, kernel=5, padding=2, groups=2),
        LocalResponseNorm(),
        MaxPool(3, stride=2),
        Conv(384, kernel=3, padding=1),
        Conv(384, kernel=3, padding=1, groups=2),
        Conv(256, kernel=3, padding=1, groups=2),
        MaxPool(3, stride=2),
        Flatten(),
        Dense(4096),
        Dropout(),
        Dense(4096),
        Dropout(),
        Dense(CLASSES, activation=None),
    ),
)


def _basic_block(filters: int, stride: int) -> Residual:
    """Two convolutions of 3x3; where they halve the image, the shortcut does so with a convolution of 1x1 (He et al., 2015, option B)."""
    body = (
        Conv(filters, kernel=3, stride=stride, padding=1, bias=False, activation=None),
        BatchNorm(),
        Conv(filters, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(activation=None),
    )
    halves = (Conv(filters, kernel=1, stride=stride, bias=False, activation=None), BatchNorm(activation=None))
    return Residual(body, projection=halves if stride > 1 else ())


_RESNET18 = Variant(
    name="resnet18",
    title="ResNet-18 (32)",
    description="ResNet-18 (He et al., 2015) for 32x32 images: a first convolution of 3x3 with stride 1, and no pooling after it.",
    input_size=32,
    layers=(
        Conv(64, kernel=3, padding=1, bias=False, activation=None),
        BatchNorm(),
        *(_basic_block(filters, stride) for filters, first in ((64, 1), (128, 2), (256, 2), (512, 2)) for stride in (first, 1)),
        GlobalAvgPool(),
        Dense(CLASSES, activation=None),
    ),
)

_ALL = (_ALEXNET_MOD, _ALEXNET, _ALEXNET_PRETRAINED, _ALEXNET_SCRATCH, _ALEXNET_TUNED, _ALEXNET_2012, _RESNET18)
VARIANTS: dict[str, Variant] = {v.name: v for v in _ALL}


def get(name: str, classes: int = CLASSES) -> Variant:
    """The variant with that name, for data of so many classes; ValueError with the choices if there is none."""
    try:
        return VARIANTS[name].with_classes(classes)
    except KeyError:
        raise ValueError(f"unknown variant {name!r}; choose from {', '.join(VARIANTS)}") from None
