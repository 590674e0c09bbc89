"""The networks in plain NumPy and float64: slow, short and independent, in case all frameworks are wrong in the same way.

Forward and backward pass of one batch, with dropout off. Images and activations are (n, channels, height, width), weights are in the
neutral form (`weights.py`).
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import special

from alexbench.experiment.layers import (
    BATCH_NORM_EPSILON,
    RUNNING,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LayerInfo,
    LocalResponseNorm,
    MaxPool,
    Pad,
    Residual,
    Variant,
    describe,
)
from alexbench.experiment.weights import Weights


def resize(images: np.ndarray, size: int) -> np.ndarray:
    """Resize (..., height, width) to (..., size, size): bilinear with half-pixel centres and repeated edges, as two matrix products."""
    rows, columns = (_interpolation(side, size) for side in images.shape[-2:])
    return rows @ images @ columns.T


def _interpolation(old: int, new: int) -> np.ndarray:
    """Weights of linear interpolation along one axis, (new, old)."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    left = np.minimum(place.astype(int), old - 1)
    right = np.minimum(left + 1, old - 1)
    matrix = np.zeros((new, old))
    np.add.at(matrix, (np.arange(new), left), 1 - (place - left))
    np.add.at(matrix, (np.arange(new), right), place - left)
    return matrix


def inputs(variant: Variant, images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Turn uint8 (n, height, width, 3) into the network's inputs, float64 (n, 3, size, size)."""
    scaled = (images / 255 - np.float64(mean)) / np.float64(std)
    return resize(scaled.transpose(0, 3, 1, 2), variant.input_size)


def loss_and_gradients(
    variant: Variant, weights: Weights, x: np.ndarray, labels: np.ndarray, training: bool = False
) -> tuple[np.ndarray, float, Weights]:
    """Logits (n, classes), mean cross-entropy, and its gradient for each trained weight, from inputs (n, 3, size, size) and labels (n,).

    `training`: whether batch normalisation uses the batch's mean and variance, as in training, or the running averages.
    """
    gradients: Weights = {}
    logits, back = _chain(describe(variant), weights, x, training, gradients)
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(-np.log(probabilities[rows, labels]).mean())
    upstream = probabilities.copy()
    upstream[rows, labels] -= 1
    back(upstream / len(labels))
    return logits, loss, gradients


def _chain(infos: Iterable[LayerInfo], weights: Weights, x: np.ndarray, training: bool, gradients: Weights) -> tuple[np.ndarray, Callable]:
    """The layers' output, and a function that turns the gradient of it into that of `x` and notes those of the weights in `gradients`."""
    backward = []
    for info in infos:
        x, back = _layer(info, weights, x, training, gradients)
        backward.append(back)
        activation = getattr(info.layer, "activation", None)
        if activation:
            x, back = _ACTIVATIONS[activation](x)
            backward.append(back)

    def through(upstream: np.ndarray) -> np.ndarray:
        for back in reversed(backward):
            upstream = back(upstream)
        return upstream

    return x, through


def _layer(info: LayerInfo, weights: Weights, x: np.ndarray, training: bool, gradients: Weights) -> tuple[np.ndarray, Callable]:
    w, b = (np.float64(weights.get(f"{info.name}.{kind}", 0)) for kind in ("weight", "bias"))

    def noted(back: Callable) -> Callable:
        """`back`, which returns the gradients of input, weight and bias, with the last two noted."""

        def of_input(upstream: np.ndarray) -> np.ndarray:
            by_input, *own = back(upstream)
            for kind, gradient in zip(("weight", "bias"), own, strict=True):
                if f"{info.name}.{kind}" in weights:
                    gradients[f"{info.name}.{kind}"] = gradient
            return by_input

        return of_input

    match info.layer:
        case Conv(_, kernel, stride, padding, groups=groups):
            x, back = _convolve(x, w, b, kernel, stride, padding, groups)
            return x, noted(back)
        case BatchNorm():
            if training:
                mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
            else:
                mean, variance = (np.float64(weights[f"{info.name}.{kind}"]) for kind in RUNNING)
            x, back = _normalise(x, w, b, mean, variance, training)
            return x, noted(back)
        case Dense():
            x, back = _dense(x, w, b)
            return x, noted(back)
        case LocalResponseNorm(size, alpha, beta, bias):
            return _local_response(x, size, alpha, beta, bias)
        case Pad(size):
            return _pad(x, size), _cut(size)
        case MaxPool(window, stride):
            return _pool(x, window, stride)
        case AvgPool(window, stride):
            return _average(x, window, stride)
        case GlobalAvgPool():
            area = x.shape[2] * x.shape[3]
            shape = x.shape
            return x.mean((2, 3)), lambda upstream: np.broadcast_to(upstream[:, :, None, None] / area, shape)
        case Flatten():
            shape = x.shape
            return x.reshape(len(x), -1), lambda upstream: upstream.reshape(shape)
        case Dropout():
            return x, lambda upstream: upstream
        case Residual():
            y, through = _chain(info.body, weights, x, training, gradients)
            shortcut, beside = _chain(info.projection, weights, x, training, gradients)
            return y + shortcut, lambda upstream: through(upstream) + beside(upstream)
    raise TypeError(f"unknown layer {info.layer!r}")


def _relu(x: np.ndarray) -> tuple[np.ndarray, Callable]:
    return np.maximum(x, 0), lambda upstream: upstream * (x > 0)


def _gelu(x: np.ndarray) -> tuple[np.ndarray, Callable]:
    below = special.ndtr(x)
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return x * below, lambda upstream: upstream * (below + x * density)


def _silu(x: np.ndarray) -> tuple[np.ndarray, Callable]:
    share = special.expit(x)
    return x * share, lambda upstream: upstream * (share + x * share * (1 - share))


_ACTIVATIONS = {"relu": _relu, "gelu": _gelu, "silu": _silu}


def _pad(x: np.ndarray, size: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (size, size), (size, size)))


def _cut(size: int) -> Callable:
    return lambda upstream: upstream[:, :, size : upstream.shape[2] - size, size : upstream.shape[3] - size] if size else upstream


def _dense(x: np.ndarray, w: np.ndarray, b: np.ndarray):
    return x @ w.T + b, lambda upstream: (upstream @ w, upstream.T @ x, upstream.sum(axis=0))


def _normalise(x: np.ndarray, w: np.ndarray, b: np.ndarray, mean: np.ndarray, variance: np.ndarray, training: bool):
    """Batch normalisation. `training`: mean and variance are those of `x` itself, and so have gradients too."""
    mean, factor = (a[:, None, None] for a in (mean, 1 / np.sqrt(variance + BATCH_NORM_EPSILON)))
    standard = (x - mean) * factor
    scale = w[:, None, None] * factor

    def backward(upstream: np.ndarray):
        by_weight, by_bias = (upstream * standard).sum(axis=(0, 2, 3)), upstream.sum(axis=(0, 2, 3))
        by_x = upstream
        if training:
            count = x.size / x.shape[1]
            by_x = upstream - by_bias[:, None, None] / count - standard * by_weight[:, None, None] / count
        return by_x * scale, by_weight, by_bias

    return standard * w[:, None, None] + b[:, None, None], backward


def _local_response(x: np.ndarray, size: int, alpha: float, beta: float, bias: float) -> tuple[np.ndarray, Callable]:
    around = (size // 2, size // 2)

    def summed(values: np.ndarray) -> np.ndarray:
        """Of each channel, the sum over `size` channels around it."""
        return sliding_window_view(np.pad(values, ((0, 0), around, (0, 0), (0, 0))), size, axis=1).sum(axis=-1)

    divisor = bias + alpha * summed(x**2)

    def backward(upstream: np.ndarray) -> np.ndarray:
        return upstream * divisor**-beta - 2 * alpha * beta * x * summed(upstream * x * divisor ** (-beta - 1))

    return x * divisor**-beta, backward


def _convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray, kernel: int, stride: int, padding: int, groups: int):
    """Each group of output channels sees its own group of input channels."""
    parts = [
        _convolve_all(*of_group, kernel, stride, padding) for of_group in zip(np.split(x, groups, axis=1), np.split(w, groups), strict=True)
    ]

    def backward(upstream: np.ndarray):
        by_x, by_weight = zip(*(back(part) for (_, back), part in zip(parts, np.split(upstream, groups, axis=1), strict=True)), strict=True)
        return np.concatenate(by_x, axis=1), np.concatenate(by_weight), upstream.sum(axis=(0, 2, 3))

    return np.concatenate([y for y, _ in parts], axis=1) + b.reshape(-1, 1, 1), backward


def _convolve_all(x: np.ndarray, w: np.ndarray, kernel: int, stride: int, padding: int):
    padded = _pad(x, padding)
    # (n, channels, rows, columns, kernel, kernel)
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    rows, columns = windows.shape[2:4]
    y = np.tensordot(windows, w, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)

    def backward(upstream: np.ndarray):
        by_weight = np.tensordot(upstream, windows, axes=((0, 2, 3), (0, 2, 3)))
        by_padded = np.zeros_like(padded)
        for i in range(kernel):
            for j in range(kernel):
                part = np.tensordot(upstream, w[:, :, i, j], axes=((1,), (0,))).transpose(0, 3, 1, 2)
                by_padded[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += part
        return _cut(padding)(by_padded), by_weight

    return y, backward


def _pool(x: np.ndarray, window: int, stride: int) -> tuple[np.ndarray, Callable]:
    windows = sliding_window_view(x, (window, window), axis=(2, 3))[:, :, ::stride, ::stride]
    flat = windows.reshape(*windows.shape[:4], -1)
    # The first of several equal values counts, as in the frameworks. After a ReLU these are zeros, which pass no gradient on.
    largest = flat.argmax(axis=-1)

    def backward(upstream: np.ndarray) -> np.ndarray:
        by_x = np.zeros_like(x)
        n, c, i, j = np.indices(upstream.shape, sparse=True)
        np.add.at(by_x, (n, c, i * stride + largest // window, j * stride + largest % window), upstream)
        return by_x

    return np.take_along_axis(flat, largest[..., None], axis=-1)[..., 0], backward


def _average(x: np.ndarray, window: int, stride: int) -> tuple[np.ndarray, Callable]:
    windows = sliding_window_view(x, (window, window), axis=(2, 3))[:, :, ::stride, ::stride]
    rows, columns = windows.shape[2:4]

    def backward(upstream: np.ndarray) -> np.ndarray:
        by_x = np.zeros_like(x)
        for i in range(window):
            for j in range(window):
                by_x[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += upstream / window**2
        return by_x

    return windows.mean(axis=(4, 5)), backward
