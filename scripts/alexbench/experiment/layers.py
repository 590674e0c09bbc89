"""The layers of a network as plain data, and what follows from them: shapes, parameters, multiply-adds.

Imports neither a framework nor NumPy, because the Snakefile reads the variants through this module in every job.
"""

from dataclasses import dataclass, replace
from math import prod


@dataclass(frozen=True)
class Conv:
    """2-D convolution with `padding` zero pixels on each side, then ReLU if `relu`. Has a `bias` unless a BatchNorm follows."""

    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    relu: bool = True


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of each channel (Ioffe and Szegedy, 2015), then ReLU if `relu`.

    (x - mean) / sqrt(variance + 1e-5) * weight + bias. Training uses the mean and variance of the batch, everything else the running
    averages. Each batch enters these with weight 0.1, and with its variance divided by one less than its count.
    """

    relu: bool = True


@dataclass(frozen=True)
class Pad:
    """`size` zero pixels on each side, as a separate layer because a max-pool may not pad by more than half its window."""

    size: int


@dataclass(frozen=True)
class MaxPool:
    """Max-pooling without padding; an incomplete window at the right or lower edge is dropped."""

    window: int
    stride: int


@dataclass(frozen=True)
class Flatten:
    """Flatten (height, width, channels) into one axis. Weight files keep the channel-major order; see `weights.py`."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with bias, then ReLU if `relu`."""

    units: int
    relu: bool = True


@dataclass(frozen=True)
class Dropout:
    """Dropout; its rate is part of the recipe, not of the network."""


Layer = Conv | BatchNorm | Pad | MaxPool | Flatten | Dense | Dropout

# Batch normalisation: the averages that training keeps besides the parameters, the weight of a new batch in them, and epsilon.
RUNNING = ("running_mean", "running_var")
BATCH_NORM_MOMENTUM = 0.1
BATCH_NORM_EPSILON = 1e-5


@dataclass(frozen=True)
class Variant:
    """One version of AlexNet, declared once; every backend builds from this. Its last layer is dense, with an output for each class.

    `normalisation`: whose channel mean and standard deviation scale the inputs, "dataset" or "imagenet".
    `pretrained`: for a variant that starts from trained weights, the name of each of its layers in the weights file that it is read from;
    layers left out start fresh.
    """

    name: str
    title: str
    description: str
    input_size: int
    layers: tuple[Layer, ...]
    normalisation: str = "dataset"
    pretrained: dict[str, str] | None = None

    def with_classes(self, number: int) -> "Variant":
        """The same with a last layer of `number` outputs, one for each class of the data."""
        return replace(self, layers=(*self.layers[:-1], replace(self.layers[-1], units=number)))


@dataclass(frozen=True)
class LayerInfo:
    """One layer in its network. Shapes are (height, width, channels) or (features,); multiply-adds count one image's forward pass."""

    name: str
    layer: Layer
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int

    @property
    def kind(self) -> str:
        return type(self.layer).__name__


def _apply(layer: Layer, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    """Output shape, parameters and multiply-adds of `layer` for an input of `shape`."""
    match layer:
        case Conv(filters, kernel, stride, padding, bias):
            height, width, channels = shape
            out = tuple((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
            taps = kernel * kernel * channels
            return (*out, filters), (taps + bias) * filters, prod(out) * filters * taps
        case BatchNorm():
            return shape, 2 * shape[-1], 0
        case Pad(size):
            return (shape[0] + 2 * size, shape[1] + 2 * size, shape[2]), 0, 0
        case MaxPool(window, stride):
            return (*((side - window) // stride + 1 for side in shape[:2]), shape[2]), 0, 0
        case Flatten():
            return (prod(shape),), 0, 0
        case Dense(units):
            return (units,), (shape[0] + 1) * units, shape[0] * units
        case Dropout():
            return shape, 0, 0
    raise TypeError(f"unknown layer {layer!r}")


def describe(variant: Variant) -> list[LayerInfo]:
    """Every layer of `variant` with its name (`conv1`, `dense3`, ...), shapes, parameters and multiply-adds."""
    shape: tuple[int, ...] = (variant.input_size, variant.input_size, 3)
    counts: dict[str, int] = {}
    infos = []
    for layer in variant.layers:
        kind = type(layer).__name__.lower()
        counts[kind] = counts.get(kind, 0) + 1
        output_shape, parameters, multiply_adds = _apply(layer, shape)
        if min(output_shape) < 1:
            raise ValueError(f"variant {variant.name}: {kind}{counts[kind]} leaves nothing of an input of {shape}")
        infos.append(LayerInfo(f"{kind}{counts[kind]}", layer, shape, output_shape, parameters, multiply_adds))
        shape = output_shape
    return infos


def parameters(variant: Variant) -> int:
    """Number of trainable parameters."""
    return sum(info.parameters for info in describe(variant))


def multiply_adds(variant: Variant) -> int:
    """Multiply-adds of one image's forward pass: convolutions and dense layers, without biases and pooling."""
    return sum(info.multiply_adds for info in describe(variant))


def weight_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the variant in the neutral layout (`weights.py`), in the order of the layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for info in describe(variant):
        match info.layer:
            case Conv(filters, kernel, bias=bias):
                shapes[f"{info.name}.weight"] = (filters, info.input_shape[2], kernel, kernel)
                if bias:
                    shapes[f"{info.name}.bias"] = (filters,)
            case BatchNorm():
                shapes |= {f"{info.name}.{kind}": (info.input_shape[2],) for kind in ("weight", "bias", *RUNNING)}
            case Dense(units):
                shapes[f"{info.name}.weight"] = (units, info.input_shape[0])
                shapes[f"{info.name}.bias"] = (units,)
    return shapes


def trained(variant: Variant, frozen_features: bool = False) -> list[str]:
    """Names of the tensors that the optimiser changes: all except running averages and, if `frozen_features`, the convolutions of a
    variant that starts from trained weights."""
    frozen = {info.name for info in describe(variant) if frozen_features and variant.pretrained and info.kind == "Conv"}
    parts = {name: name.split(".") for name in weight_shapes(variant)}
    return [name for name, (layer, kind) in parts.items() if layer not in frozen and kind not in RUNNING]


def training_operations(variant: Variant) -> int:
    """Floating-point operations of training on one image, forward and backward: two for each multiply-add.

    Each layer's multiply-adds are done three times: for its output and for the gradients of its input and its weights. The first layer's
    are done twice, since its input needs no gradient.
    """
    layers = [info.multiply_adds for info in describe(variant) if info.multiply_adds]
    return 2 * (3 * sum(layers) - layers[0])


def training_bytes(variant: Variant, batch_size: int) -> int:
    """Least number of bytes that a step on `batch_size` images moves, all in float32.

    Each layer's output is written and read once in the forward pass, and its gradient once in the backward pass. Each weight is read in
    both passes and its gradient written; Adam reads weight, gradient and both moments and writes all but the gradient.
    """
    outputs = sum(prod(info.output_shape) for info in describe(variant) if info.multiply_adds)
    return 4 * (4 * batch_size * outputs + (3 + 7) * parameters(variant))


def memory_bytes(variant: Variant, batch_size: int) -> int:
    """Least number of bytes that training holds besides the data set, all in float32.

    These are the weights, their gradients, Adam's two moments, and for one batch the inputs and every layer's output, which the backward
    pass needs.
    """
    outputs = variant.input_size**2 * 3 + sum(prod(info.output_shape) for info in describe(variant))
    return 4 * (4 * parameters(variant) + batch_size * outputs)
