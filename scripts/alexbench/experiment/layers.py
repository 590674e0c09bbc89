"""The layers of a network as plain data, and what follows from them: shapes, parameters, multiply-adds.

Imports neither a framework nor NumPy, because the Snakefile reads the variants through this module in every job.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from math import prod

# What a layer may apply to its output: max(x, 0); x times the normal distribution function (Hendrycks and Gimpel, 2016), exact, not by
# tanh; x times the logistic function.
ACTIVATIONS = ("relu", "gelu", "silu")


@dataclass(frozen=True)
class Conv:
    """2-D convolution with `padding` zero pixels on each side, then an activation or None. Has a `bias` unless a BatchNorm follows.

    With several `groups`, input and output channels are divided into so many parts, and each part sees only its own.
    """

    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    bias: bool = True
    activation: str | None = "relu"
    groups: int = 1


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of each channel (Ioffe and Szegedy, 2015), then an activation or None.

    (x - mean) / sqrt(variance + 1e-5) * weight + bias. Training uses the mean and variance of the batch, everything else the running
    averages. Each batch enters these with weight 0.1, and with its variance divided by one less than its count.
    """

    activation: str | None = "relu"


@dataclass(frozen=True)
class LocalResponseNorm:
    """Local response normalisation across channels (Krizhevsky et al., 2012, section 3.3; its numbers are the defaults).

    Each value is divided by (bias + alpha * sum of squares)^beta, where the sum is over `size` channels around its own, an odd number.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 2.0


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
class AvgPool:
    """Average-pooling without padding; an incomplete window at the right or lower edge is dropped."""

    window: int
    stride: int


@dataclass(frozen=True)
class GlobalAvgPool:
    """The mean of each channel, which leaves one axis, (channels,)."""


@dataclass(frozen=True)
class Flatten:
    """Flatten (height, width, channels) into one axis. Weight files keep the channel-major order; see `weights.py`."""


@dataclass(frozen=True)
class Dense:
    """Fully connected layer with bias, then an activation or None."""

    units: int
    activation: str | None = "relu"


@dataclass(frozen=True)
class Dropout:
    """Dropout; its rate is part of the recipe, not of the network."""


@dataclass(frozen=True)
class Residual:
    """`layers` with a shortcut around them (He et al., 2015): their output plus the input, then an activation or None.

    The shortcut is the input itself or, where the layers change its shape, what `projection` makes of it.
    """

    layers: "tuple[Layer, ...]"
    projection: "tuple[Layer, ...]" = ()
    activation: str | None = "relu"


Layer = Conv | BatchNorm | LocalResponseNorm | Pad | MaxPool | AvgPool | GlobalAvgPool | Flatten | Dense | Dropout | Residual

# Names of layers in a network, where those of their kinds are long.
SHORT = {"LocalResponseNorm": "lrn", "GlobalAvgPool": "globalpool"}

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
    """One layer in its network. Shapes are (height, width, channels) or (features,); multiply-adds count one image's forward pass.

    `body`, `projection`: the layers of a Residual, which its own parameters and multiply-adds include; () for other layers.
    """

    name: str
    layer: Layer
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    body: "tuple[LayerInfo, ...]" = ()
    projection: "tuple[LayerInfo, ...]" = ()

    @property
    def kind(self) -> str:
        return type(self.layer).__name__


def _apply(layer: Layer, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int, int]:
    """Output shape, parameters and multiply-adds of `layer` for an input of `shape`."""
    match layer:
        case Conv(filters, kernel, stride, padding, bias, _, groups):
            height, width, channels = shape
            if channels % groups or filters % groups:
                raise ValueError(f"has {groups} groups, which divide its {channels} channels and {filters} filters unevenly")
            out = tuple((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
            taps = kernel * kernel * channels // groups
            return (*out, filters), (taps + bias) * filters, prod(out) * filters * taps
        case BatchNorm():
            return shape, 2 * shape[-1], 0
        case LocalResponseNorm() | Dropout():
            return shape, 0, 0
        case Pad(size):
            return (shape[0] + 2 * size, shape[1] + 2 * size, shape[2]), 0, 0
        case GlobalAvgPool():
            return shape[2:], 0, 0
        case MaxPool(window, stride) | AvgPool(window, stride):
            return (*((side - window) // stride + 1 for side in shape[:2]), shape[2]), 0, 0
        case Flatten():
            return (prod(shape),), 0, 0
        case Dense(units):
            return (units,), (shape[0] + 1) * units, shape[0] * units
    raise TypeError(f"unknown layer {layer!r}")


def describe(variant: Variant) -> list[LayerInfo]:
    """Every layer of `variant` with its name, shapes, parameters and multiply-adds; those of a Residual are in its `body` and `projection`.

    Names count the layers of a kind: `conv1`, `dense3`, and in a Residual `residual1.conv2` and `residual1.projection.conv1`. ValueError
    where a layer does not fit what comes before it.
    """
    return _chain(variant.name, variant.layers, (variant.input_size, variant.input_size, 3), "")


def _chain(where: str, layers: tuple[Layer, ...], shape: tuple[int, ...], prefix: str) -> list[LayerInfo]:
    counts: dict[str, int] = {}
    infos = []
    for layer in layers:
        kind = SHORT.get(type(layer).__name__, type(layer).__name__.lower())
        counts[kind] = counts.get(kind, 0) + 1
        info = _info(where, f"{prefix}{kind}{counts[kind]}", layer, shape)
        infos.append(info)
        shape = info.output_shape
    return infos


def _info(where: str, name: str, layer: Layer, shape: tuple[int, ...]) -> LayerInfo:
    if isinstance(layer, Residual):
        body, projection = (
            tuple(_chain(where, inner, shape, f"{name}.{place}"))
            for inner, place in ((layer.layers, ""), (layer.projection, "projection."))
        )
        out, shortcut = (inner[-1].output_shape if inner else shape for inner in (body, projection))
        if out != shortcut:
            way = "its projection gives" if projection else "its shortcut, which has no projection, gives"
            raise ValueError(f"variant {where}: {name} gives {out}, and {way} {shortcut}; both must have one shape")
        inside = (*body, *projection)
        return LayerInfo(
            name, layer, shape, out, *(sum(getattr(i, what) for i in inside) for what in ("parameters", "multiply_adds")), body, projection
        )
    flat = isinstance(layer, Dense)
    if len(shape) != (1 if flat else 3) and not isinstance(layer, Dropout):
        needs = "a vector: put a Flatten or GlobalAvgPool before it" if flat else "an image: put it before the Flatten"
        raise ValueError(f"variant {where}: {name} takes {needs} (its input is {shape})")
    try:
        out, parameters, multiply_adds = _apply(layer, shape)
    except ValueError as error:
        raise ValueError(f"variant {where}: {name} {error}") from None
    if min(out) < 1:
        raise ValueError(f"variant {where}: {name} leaves nothing of an input of {shape}")
    return LayerInfo(name, layer, shape, out, parameters, multiply_adds)


def every_layer(variant: Variant) -> list[LayerInfo]:
    """All layers in the order in which they are computed; a Residual comes after its own."""
    return list(_every(describe(variant)))


def _every(infos: Iterable[LayerInfo]) -> Iterator[LayerInfo]:
    for info in infos:
        yield from _every(info.body)
        yield from _every(info.projection)
        yield info


def parameters(variant: Variant) -> int:
    """Number of trainable parameters."""
    return sum(info.parameters for info in describe(variant))


def multiply_adds(variant: Variant) -> int:
    """Multiply-adds of one image's forward pass: convolutions and dense layers, without biases and pooling."""
    return sum(info.multiply_adds for info in describe(variant))


def weight_shapes(variant: Variant) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the variant in the neutral layout (`weights.py`), in the order of the layers."""
    shapes: dict[str, tuple[int, ...]] = {}
    for info in every_layer(variant):
        match info.layer:
            case Conv(filters, kernel, bias=bias, groups=groups):
                shapes[f"{info.name}.weight"] = (filters, info.input_shape[2] // groups, kernel, kernel)
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
    frozen = {info.name for info in every_layer(variant) if frozen_features and variant.pretrained and info.kind == "Conv"}
    parts = {name: name.rsplit(".", 1) for name in weight_shapes(variant)}
    return [name for name, (layer, kind) in parts.items() if layer not in frozen and kind not in RUNNING]


def training_operations(variant: Variant) -> int:
    """Floating-point operations of training on one image, forward and backward: two for each multiply-add.

    Each layer's multiply-adds are done three times: for its output and for the gradients of its input and its weights. The first layer's
    are done twice, since its input needs no gradient.
    """
    layers = [info.multiply_adds for info in every_layer(variant) if info.multiply_adds and not info.body]
    return 2 * (3 * sum(layers) - layers[0])


def training_bytes(variant: Variant, batch_size: int) -> int:
    """Least number of bytes that a step on `batch_size` images moves, all in float32.

    Each layer's output is written and read once in the forward pass, and its gradient once in the backward pass. Each weight is read in
    both passes and its gradient written; Adam reads weight, gradient and both moments and writes all but the gradient.
    """
    outputs = sum(prod(info.output_shape) for info in every_layer(variant) if info.multiply_adds and not info.body)
    return 4 * (4 * batch_size * outputs + (3 + 7) * parameters(variant))


def memory_bytes(variant: Variant, batch_size: int) -> int:
    """Least number of bytes that training holds besides the data set, all in float32.

    These are the weights, their gradients, Adam's two moments, and for one batch the inputs and every layer's output, which the backward
    pass needs.
    """
    outputs = variant.input_size**2 * 3 + sum(prod(info.output_shape) for info in every_layer(variant))
    return 4 * (4 * parameters(variant) + batch_size * outputs)
