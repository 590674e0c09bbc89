"""Weights without a framework: how they are initialised, how they are stored, how their axes are ordered.

The neutral form is a dict of float32 arrays named as in `layers.weight_shapes`: convolutions `conv1.weight` (filters, channels,
height, width), dense layers `dense1.weight` (units, inputs), and `.bias`; batch normalisation `batchnorm1.weight`, `.bias`,
`.running_mean` and `.running_var` (channels,). The inputs of the first dense layer are flattened channel by channel (channels, height,
width). Files in this form are safetensors.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from math import sqrt
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from alexbench.experiment.layers import BatchNorm, Conv, Dense, Flatten, Variant, every_layer, weight_shapes
from alexbench.experiment.streams import Use, stream
from alexbench.files import InputError, RefusedError, raise_refusal, replacing

Weights = dict[str, np.ndarray]


def initialise(variant: Variant, scheme: str, seed: int) -> Weights:
    """Fresh weights for every layer, each drawn from its own stream, so that every framework starts from the same numbers.

    `scheme`: "torch" is U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases, torch.nn's default
    (kaiming_uniform with a = sqrt(5)); "keras" is Glorot and Bengio's (2010) uniform with zero biases; "jax" is Flax's default, LeCun et
    al.'s (1998) N(0, 1/fan_in), truncated at two standard deviations, with zero biases; "he" is
    N(0, 2/fan_in) (He et al., 2015) with zero biases. Batch normalisation starts as the identity in all of them.
    """
    weights: Weights = {}
    shapes = weight_shapes(variant)
    for number, info in enumerate(every_layer(variant)):
        match info.layer:
            case Conv(filters, kernel, groups=groups):
                fan_in, fan_out = info.input_shape[2] // groups * kernel**2, filters * kernel**2
            case Dense(units):
                fan_in, fan_out = info.input_shape[0], units
            case BatchNorm():
                channels = shapes[f"{info.name}.weight"]
                for kind, start in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
                    weights[f"{info.name}.{kind}"] = np.full(channels, start, np.float32)
                continue
            case _:
                continue
        random = stream(seed, Use.INITIALISATION, number)
        shape = shapes[f"{info.name}.weight"]
        bias = np.zeros(shape[0], np.float32)
        match scheme:
            case "torch":
                weight = _uniform(random, shape, 1 / sqrt(fan_in))
                bias = _uniform(random, shape[:1], 1 / sqrt(fan_in))
            case "keras":
                weight = _uniform(random, shape, sqrt(6 / (fan_in + fan_out)))
            case "jax":
                # Cutting off the tails leaves a standard deviation of 0.8796.
                weight = _truncated(random, shape) * np.float32(1 / sqrt(fan_in) / 0.87962566103423978)
            case "he":
                weight = random.standard_normal(shape, np.float32) * np.float32(sqrt(2 / fan_in))
            case _:
                raise ValueError(f"unknown initialisation {scheme!r}")
        weights[f"{info.name}.weight"] = weight
        if f"{info.name}.bias" in shapes:
            weights[f"{info.name}.bias"] = bias
    return weights


def _truncated(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers, those beyond 2 drawn again."""
    found = random.standard_normal(shape, np.float32)
    while (far := np.abs(found) > 2).any():
        found[far] = random.standard_normal(int(far.sum()), np.float32)
    return found


def _uniform(random: np.random.Generator, shape: tuple[int, ...], bound: float) -> np.ndarray:
    return (random.random(shape, np.float32) * 2 - 1) * np.float32(bound)


def to_channels_last(variant: Variant, weights: Weights) -> Weights:
    """The same weights for a framework with NHWC images: convolutions HWIO, dense layers (inputs, units), flattened HWC.

    The rows of the first dense layer are permuted from (channels, height, width) to (height, width, channels). Without that, fresh logits
    would change by less than one percent, and nobody would notice the mistake.
    """
    flattened = _flattened(variant)
    out: Weights = {}
    for name, array in weights.items():
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif name in flattened:
            height, width, channels = flattened[name]
            array = array.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(array))
        elif array.ndim == 2:
            array = array.T
        out[name] = np.ascontiguousarray(array)
    return out


def from_channels_last(variant: Variant, weights: Weights) -> Weights:
    """The inverse of `to_channels_last`."""
    flattened = _flattened(variant)
    out: Weights = {}
    for name, array in weights.items():
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif name in flattened:
            array = array.reshape(*flattened[name], -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
        elif array.ndim == 2:
            array = array.T
        out[name] = np.ascontiguousarray(array)
    return out


def _flattened(variant: Variant) -> dict[str, tuple[int, ...]]:
    """For the weight of each dense layer that follows a Flatten, the (height, width, channels) that the Flatten takes."""
    shapes: dict[str, tuple[int, ...]] = {}
    before = None
    for info in every_layer(variant):
        match info.layer:
            case Flatten():
                before = info.input_shape
            case Dense():
                if before:
                    shapes[f"{info.name}.weight"] = before
                before = None
    return shapes


@contextmanager
def opened(path: Path | str) -> Iterator[safe_open]:
    """Open a safetensors file, reading only its header. InputError if it is not one."""
    try:
        if not (Path(path).is_file() or Path(path).is_dir()) and Path(path).exists():
            # Opening a pipe would wait for its writer.
            raise RefusedError(f"weights: {path} is a device or a pipe; give a safetensors file")
        Path(path).open("rb").close()  # safetensors says of any file that cannot be opened that it does not exist
        with safe_open(path, framework="numpy") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"weights: {path} does not exist") from None
    except (OSError, SafetensorError) as error:
        raise_refusal(error, "weights", path)
        raise InputError(f"weights: {path} is not a whole safetensors file ({error})") from None


def read(path: Path | str) -> tuple[Weights, dict[str, str]]:
    """Arrays and metadata of a safetensors file. InputError if it is not one."""
    with opened(path) as file:
        try:
            names = file.keys()  # the file itself is not iterable
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
        except TypeError as error:  # such as bfloat16
            raise InputError(f"weights: {path} holds numbers that NumPy has not ({error}); store them as float32") from None


def write(path: Path | str, weights: Weights, metadata: dict[str, str]) -> None:
    """Write a safetensors file. Metadata values must be strings."""
    with replacing(path) as temporary:
        # safetensors stores only C order; ascontiguousarray would give a scalar an axis.
        try:
            save_file({name: np.asarray(array, order="C") for name, array in weights.items()}, temporary, metadata=metadata)
        except SafetensorError as error:
            if found := re.search(r"\(os error (\d+)\)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from None
            raise


def sha256(weights: Weights) -> str:
    """Hash of names, shapes and values: two runs with the same hash ended with bit-identical networks."""
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def check(variant: Variant, weights: Weights, source: str, optional: tuple[str, ...] = ()) -> None:
    """InputError, naming tensor and shapes, unless `weights` are exactly those of `variant`; layers in `optional` may be absent."""
    check_shapes(variant, {name: (array.shape, str(array.dtype)) for name, array in weights.items()}, source, optional)
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise InputError(f"weights: {source} has values in {name} that are not finite")


def check_shapes(variant: Variant, found: dict[str, tuple[tuple[int, ...], str]], source: str, optional: tuple[str, ...] = ()) -> None:
    """Like `check`, but only shapes and types, before any tensor is read."""
    expected = weight_shapes(variant)
    for name in found:
        if name not in expected:
            raise InputError(f"weights: {source} has {name}, which {variant.name} has not; is it of another variant?")
    for name, shape in expected.items():
        if name not in found:
            if name.rpartition(".")[0] in optional:
                continue
            raise InputError(f"weights: {source} lacks {name} {shape}, which {variant.name} needs")
        if found[name] != (shape, "float32"):
            raise InputError(f"weights: {source} has {name} of {found[name][0]} {found[name][1]}; {variant.name} needs {shape} float32")
