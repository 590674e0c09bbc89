"""The networks in plain NumPy and float64: slow, short and independent, in case all frameworks are wrong in the same way.

Forward and backward pass of one batch, with dropout off. Images and activations are (n, channels, height, width), weights are in the
neutral form (`weights.py`).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from alexbench.experiment.layers import (
    BATCH_NORM_EPSILON,
    RUNNING,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    Pad,
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


def loss_and_gradients(variant: Variant, weights: Weights, x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float, Weights]:
    """Logits (n, classes), mean cross-entropy, and its gradient for each trained weight, from inputs (n, 3, size, size) and labels (n,)."""
    backward = []
    gradients: Weights = {}
    for info in describe(variant):
        w, b = (np.float64(weights.get(f"{info.name}.{kind}", 0)) for kind in ("weight", "bias"))
        match info.layer:
            case Conv(_, kernel, stride, padding):
                x, back = _convolve(x, w, b, kernel, stride, padding)
            case BatchNorm():
                mean, variance = (np.float64(weights[f"{info.name}.{kind}"]) for kind in RUNNING)
                x, back = _normalise(x, w, b, mean, variance)
            case Pad(size):
                x, back = _pad(x, size), _cut(size)
            case MaxPool(window, stride):
                x, back = _pool(x, window, stride)
            case Flatten():
                x, back = x.reshape(len(x), -1), _reshape(x.shape)
            case Dense():
                x, back = _dense(x, w, b)
            case Dropout():
                continue
        backward.append((info.name, back))
        if getattr(info.layer, "relu", False):
            backward.append((info.name, _mask(x > 0)))
            x = np.maximum(x, 0)
    logits = x
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = float(-np.log(probabilities[rows, labels]).mean())
    upstream = probabilities.copy()
    upstream[rows, labels] -= 1
    upstream /= len(labels)
    for name, back in reversed(backward):
        upstream, *own = back(upstream)
        for kind, gradient in zip(("weight", "bias"), own, strict=False):
            if f"{name}.{kind}" in weights:
                gradients[f"{name}.{kind}"] = gradient
    return logits, loss, gradients


def _pad(x: np.ndarray, size: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (size, size), (size, size)))


def _cut(size: int):
    return lambda upstream: (upstream[:, :, size : upstream.shape[2] - size, size : upstream.shape[3] - size] if size else upstream,)


def _reshape(shape: tuple[int, ...]):
    return lambda upstream: (upstream.reshape(shape),)


def _mask(kept: np.ndarray):
    return lambda upstream: (upstream * kept,)


def _dense(x: np.ndarray, w: np.ndarray, b: np.ndarray):
    return x @ w.T + b, lambda upstream: (upstream @ w, upstream.T @ x, upstream.sum(axis=0))


def _normalise(x: np.ndarray, w: np.ndarray, b: np.ndarray, mean: np.ndarray, variance: np.ndarray):
    """Batch normalisation with the running averages, as in evaluation."""
    mean, factor = (a[:, None, None] for a in (mean, 1 / np.sqrt(variance + BATCH_NORM_EPSILON)))
    standard = (x - mean) * factor

    def backward(upstream: np.ndarray):
        by_weight = (upstream * standard).sum(axis=(0, 2, 3))
        return upstream * w[:, None, None] * factor, by_weight, upstream.sum(axis=(0, 2, 3))

    return standard * w[:, None, None] + b[:, None, None], backward


def _convolve(x: np.ndarray, w: np.ndarray, b: np.ndarray, kernel: int, stride: int, padding: int):
    padded = _pad(x, padding)
    # (n, channels, rows, columns, kernel, kernel)
    windows = sliding_window_view(padded, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
    rows, columns = windows.shape[2:4]
    y = np.tensordot(windows, w, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2) + b.reshape(-1, 1, 1)

    def backward(upstream: np.ndarray):
        by_weight = np.tensordot(upstream, windows, axes=((0, 2, 3), (0, 2, 3)))
        by_padded = np.zeros_like(padded)
        for i in range(kernel):
            for j in range(kernel):
                part = np.tensordot(upstream, w[:, :, i, j], axes=((1,), (0,))).transpose(0, 3, 1, 2)
                by_padded[:, :, i : i + stride * rows : stride, j : j + stride * columns : stride] += part
        return _cut(padding)(by_padded)[0], by_weight, upstream.sum(axis=(0, 2, 3))

    return y, backward


def _pool(x: np.ndarray, window: int, stride: int):
    windows = sliding_window_view(x, (window, window), axis=(2, 3))[:, :, ::stride, ::stride]
    flat = windows.reshape(*windows.shape[:4], -1)
    # The first of several equal values counts, as in the frameworks. After a ReLU these are zeros, which pass no gradient on.
    largest = flat.argmax(axis=-1)

    def backward(upstream: np.ndarray):
        by_x = np.zeros_like(x)
        n, c, i, j = np.indices(upstream.shape, sparse=True)
        np.add.at(by_x, (n, c, i * stride + largest // window, j * stride + largest % window), upstream)
        return (by_x,)

    return np.take_along_axis(flat, largest[..., None], axis=-1)[..., 0], backward
