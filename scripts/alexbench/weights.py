"""Weights without a framework: how they start, how they are stored, how their axes are ordered.

The neutral form is a dict of float32 arrays named as in `spec.weight_shapes`: convolutions `conv1.weight` (filters, channels,
height, width), dense layers `dense1.weight` (units, inputs), and `.bias`. The inputs of the first dense layer are flattened
channel by channel (channels, height, width). Files of it are safetensors.
"""

import hashlib
from math import sqrt
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from alexbench.files import InputError, replacing
from alexbench.spec import Conv, Dense, Variant, describe, weight_shapes

Weights = dict[str, np.ndarray]


def initialise(variant: Variant, scheme: str, seed: int) -> Weights:
    """Fresh weights of every layer, drawn from one stream a layer, so that every framework starts from the same numbers.

    `scheme`: "torch" is U(-1/sqrt(fan_in), 1/sqrt(fan_in)) for weights and biases, torch.nn's default
    (kaiming_uniform with a = sqrt(5)); "keras" is Glorot and Bengio's (2010) uniform with zero biases; "he" is
    N(0, 2/fan_in) (He et al., 2015) with zero biases.
    """
    weights: Weights = {}
    for number, info in enumerate(describe(variant)):
        match info.layer:
            case Conv(filters, kernel):
                shape = (filters, info.input_shape[2], kernel, kernel)
                fan_in, fan_out = shape[1] * kernel**2, filters * kernel**2
            case Dense(units):
                shape = (units, info.input_shape[0])
                fan_in, fan_out = shape[1], units
            case _:
                continue
        random = np.random.default_rng([seed, number])
        bias = np.zeros(shape[0], np.float32)
        match scheme:
            case "torch":
                weight = _uniform(random, shape, 1 / sqrt(fan_in))
                bias = _uniform(random, shape[:1], 1 / sqrt(fan_in))
            case "keras":
                weight = _uniform(random, shape, sqrt(6 / (fan_in + fan_out)))
            case "he":
                weight = random.standard_normal(shape, np.float32) * np.float32(sqrt(2 / fan_in))
            case _:
                raise ValueError(f"unknown initialisation {scheme!r}")
        weights |= {f"{info.name}.weight": weight, f"{info.name}.bias": bias}
    return weights


def _uniform(random: np.random.Generator, shape: tuple[int, ...], bound: float) -> np.ndarray:
    return (random.random(shape, np.float32) * 2 - 1) * np.float32(bound)


def to_channels_last(variant: Variant, weights: Weights) -> Weights:
    """The same weights for a framework with NHWC images: convolutions HWIO, dense layers (inputs, units), flattened HWC.

    The rows of the first dense layer are permuted from (channels, height, width) to (height, width, channels); leaving
    that out changes fresh logits by less than one percent and would pass unnoticed.
    """
    out: Weights = {}
    for name, axes in _flatten_axes(variant).items():
        weight = weights[f"{name}.weight"]
        if weight.ndim == 4:
            out[f"{name}.weight"] = weight.transpose(2, 3, 1, 0)
        elif axes:
            height, width, channels = axes
            out[f"{name}.weight"] = weight.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, len(weight))
        else:
            out[f"{name}.weight"] = weight.T
        out[f"{name}.bias"] = weights[f"{name}.bias"]
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


def from_channels_last(variant: Variant, weights: Weights) -> Weights:
    """The inverse of `to_channels_last`."""
    out: Weights = {}
    for name, axes in _flatten_axes(variant).items():
        weight = weights[f"{name}.weight"]
        if weight.ndim == 4:
            out[f"{name}.weight"] = weight.transpose(3, 2, 0, 1)
        elif axes:
            out[f"{name}.weight"] = weight.reshape(*axes, -1).transpose(3, 2, 0, 1).reshape(weight.shape[1], -1)
        else:
            out[f"{name}.weight"] = weight.T
        out[f"{name}.bias"] = weights[f"{name}.bias"]
    return {name: np.ascontiguousarray(array) for name, array in out.items()}


def _flatten_axes(variant: Variant) -> dict[str, tuple[int, ...] | None]:
    """Every layer with weights; for the first dense one behind a Flatten, the (height, width, channels) that it flattens."""
    axes: dict[str, tuple[int, ...] | None] = {}
    flattened = None
    for info in describe(variant):
        match info.layer:
            case Conv():
                axes[info.name] = None
            case Dense():
                axes[info.name], flattened = flattened, None
        if info.kind == "Flatten":
            flattened = info.input_shape
    return axes


def read(path: Path | str) -> tuple[Weights, dict[str, str]]:
    """Arrays and metadata of a safetensors file; InputError where it is none."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys()  # the file itself cannot be iterated over
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise InputError(f"weights: {path} does not exist") from None
    except SafetensorError as error:
        raise InputError(f"weights: {path} is not a whole safetensors file ({error})") from None


def write(path: Path | str, weights: Weights, metadata: dict[str, str]) -> None:
    """Write a safetensors file; all metadata are strings."""
    with replacing(path) as temporary:
        # order="C" for what safetensors can store; ascontiguousarray would give a scalar an axis.
        save_file({name: np.asarray(array, order="C") for name, array in weights.items()}, temporary, metadata=metadata)


def sha256(weights: Weights) -> str:
    """Hash of names, shapes and values: two runs with the same one ended at the same network, to the bit."""
    digest = hashlib.sha256()
    for name, array in weights.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def check(variant: Variant, weights: Weights, source: str, optional: tuple[str, ...] = ()) -> None:
    """InputError, naming tensor and shapes, unless `weights` are just those of `variant`; layers in `optional` may be absent."""
    expected = weight_shapes(variant)
    for name in weights:
        if name not in expected:
            raise InputError(f"weights: {source} has {name}, which {variant.name} has not; is it of another variant?")
    for name, shape in expected.items():
        if name not in weights:
            if name.split(".")[0] in optional:
                continue
            raise InputError(f"weights: {source} lacks {name} {shape}, which {variant.name} needs")
        if weights[name].shape != shape or weights[name].dtype != np.float32:
            found = f"{weights[name].shape} {weights[name].dtype}"
            raise InputError(f"weights: {source} has {name} of {found}; {variant.name} needs {shape} float32")
        if not np.isfinite(weights[name]).all():
            raise InputError(f"weights: {source} has values in {name} that are not finite")
