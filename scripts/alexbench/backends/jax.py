"""The networks in JAX, written with jax.lax, their optimiser from Optax. The only file that imports jax and optax."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial, wraps
from typing import Any, ClassVar

from alexbench import backends
from alexbench.backends import PREDICT_BATCH_SIZE, Setup
from alexbench.experiment.execution import Switch

# All of these must be set before JAX starts its device. By default JAX takes three quarters of a GPU's memory at once, which makes NVML's
# figure meaningless and leaves no room for a second run.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
if backends.requested.deterministic and "--xla_gpu_deterministic_ops" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from PIL import Image

from alexbench.experiment.layers import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
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
    every_layer,
    trained,
    weight_shapes,
)
from alexbench.experiment.recipe import Plan, Recipe
from alexbench.experiment.weights import Weights, from_channels_last, to_channels_last
from alexbench.files import InputError

# For sums of losses and Adam's bias correction in float64, as in the other frameworks; everything else names its type.
jax.config.update("jax_enable_x64", True)

# What jax.default_matmul_precision calls our precisions. bf16 is a matter of the operands' type.
PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32", "bf16": "highest"}

Tensors = dict[str, jax.Array]

ACTIVATIONS = {"relu": jax.nn.relu, "gelu": partial(jax.nn.gelu, approximate=False), "silu": jax.nn.silu}


class OutOfMemoryError(Exception):
    """The device's memory does not suffice; JAX has one exception for everything that XLA reports."""


def memory_errors_named(function: Callable) -> Callable:
    """Have a method raise OutOfMemoryError where XLA says that memory does not suffice."""

    @wraps(function)
    def named(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise OutOfMemoryError(str(error)) from error
            raise

    return named


def forward(variant: Variant, tensors: Tensors, x: jax.Array, dtype: Any, dropout: float = 0.0, key: jax.Array | None = None):
    """Logits, float32 (n, classes), of inputs, float32 (n, size, size, 3), and the new running averages of batch normalisation.

    `tensors`: the network's, channels last, float32; products and activations are of `dtype`. `key`: of dropout, in training, where batch
    normalisation also uses the batch's statistics; None in evaluation.
    """
    averages: Tensors = {}
    numbers = {info.name: number for number, info in enumerate(every_layer(variant))}

    def chain(infos: Iterable[LayerInfo], x: jax.Array) -> jax.Array:
        for info in infos:
            x = layer(info, x)
            activation = getattr(info.layer, "activation", None)
            if activation:
                x = ACTIVATIONS[activation](x)
        return x

    def layer(info: LayerInfo, x: jax.Array) -> jax.Array:
        name = info.name
        match info.layer:
            case Conv(_, _, stride, padding, bias, _, groups):
                kernel, edge = tensors[f"{name}.weight"].astype(dtype), [(padding, padding)] * 2
                order = ("NHWC", "HWIO", "NHWC")
                x = lax.conv_general_dilated(x, kernel, (stride, stride), edge, dimension_numbers=order, feature_group_count=groups)
                return x + tensors[f"{name}.bias"].astype(dtype) if bias else x
            case BatchNorm():
                x, new = _normalised(x, tensors, name, training=key is not None)
                averages.update(new)
                return x
            case LocalResponseNorm(size, alpha, beta, bias):
                return _local_response(x, size, alpha, beta, bias)
            case Pad(size):
                return jnp.pad(x, ((0, 0), (size, size), (size, size), (0, 0)))
            case MaxPool(window, stride):
                lowest = np.array(-np.inf, x.dtype)
                return lax.reduce_window(x, lowest, lax.max, (1, window, window, 1), (1, stride, stride, 1), "VALID")
            case AvgPool(window, stride):
                zero = np.zeros((), x.dtype)
                total = lax.reduce_window(x, zero, lax.add, (1, window, window, 1), (1, stride, stride, 1), "VALID")
                return total / np.array(window**2, x.dtype)
            case GlobalAvgPool():
                return x.mean((1, 2))
            case Flatten():
                return x.reshape(len(x), -1)
            case Dense(_, activation):
                # The last layer, without an activation, is in float32: logits in bfloat16 would have ties, which go to the lower class.
                kind = dtype if activation else jnp.float32
                return x.astype(kind) @ tensors[f"{name}.weight"].astype(kind) + tensors[f"{name}.bias"].astype(kind)
            case Dropout():
                if key is None or not dropout:
                    return x
                kept = jax.random.bernoulli(jax.random.fold_in(key, numbers[name]), 1 - dropout, x.shape)
                return jnp.where(kept, x / np.array(1 - dropout, x.dtype), 0)
            case Residual():
                return chain(info.body, x) + chain(info.projection, x)
        raise TypeError(f"unknown layer {info.layer!r}")

    return chain(describe(variant), x.astype(dtype)).astype(jnp.float32), averages


def _local_response(x: jax.Array, size: int, alpha: float, beta: float, bias: float) -> jax.Array:
    """See `layers.LocalResponseNorm`; computed in float32."""
    wide = x.astype(jnp.float32)
    edge = ((0, 0), (0, 0), (0, 0), (size // 2, size // 2))
    squares = lax.reduce_window(wide * wide, np.float32(0), lax.add, (1, 1, 1, size), (1, 1, 1, 1), edge)
    return (wide * (np.float32(bias) + np.float32(alpha) * squares) ** np.float32(-beta)).astype(x.dtype)


def _normalised(x: jax.Array, tensors: Tensors, name: str, training: bool) -> tuple[jax.Array, Tensors]:
    """Batch normalisation, computed in float32; see `layers.BatchNorm`."""
    wide = x.astype(jnp.float32)
    running = {kind: tensors[f"{name}.{kind}"] for kind in RUNNING}
    mean, variance, averages = *running.values(), {}
    if training:
        mean, variance = wide.mean((0, 1, 2)), wide.var((0, 1, 2))
        count = wide.size // wide.shape[-1]
        batch = dict(zip(RUNNING, (mean, variance * np.float32(count / max(count - 1, 1))), strict=True))
        weight = np.float32(BATCH_NORM_MOMENTUM)
        averages = {f"{name}.{kind}": running[kind] * (1 - weight) + new * weight for kind, new in batch.items()}
    scale = tensors[f"{name}.weight"] * lax.rsqrt(variance + np.float32(BATCH_NORM_EPSILON))
    return ((wide - mean) * scale + tensors[f"{name}.bias"]).astype(x.dtype), averages


def scale_by_keras_adam(epsilon: float = 1e-7) -> optax.GradientTransformation:
    """Adam with epsilon added to the uncorrected root of the second moment, as in Keras; betas 0.9 and 0.999."""
    usual = optax.scale_by_adam(0.9, 0.999, eps=0.0)

    def update(gradients: Tensors, state: optax.ScaleByAdamState, _: Tensors | None = None) -> tuple[Tensors, optax.ScaleByAdamState]:
        _, new = usual.update(gradients, state)
        corrections = (1 - beta ** new.count.astype(jnp.float64) for beta in (0.9, 0.999))
        first, second = corrections
        rate = (jnp.sqrt(second) / first).astype(jnp.float32)
        return jax.tree.map(lambda m, v: rate * m / (jnp.sqrt(v) + np.float32(epsilon)), new.mu, new.nu), new

    return optax.GradientTransformation(usual.init, update)


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """The recipe's optimizer with decoupled weight decay of everything that is not a vector, at a learning rate of one."""
    if recipe.optimizer == "sgd":
        chosen = optax.trace(recipe.momentum, recipe.nesterov) if recipe.momentum else optax.identity()
    else:
        chosen = {"torch": lambda: optax.scale_by_adam(0.9, 0.999, eps=1e-8), "keras": scale_by_keras_adam}[recipe.adam_epsilon]()
    decay = optax.add_decayed_weights(recipe.weight_decay, mask=lambda tensors: {name: array.ndim > 1 for name, array in tensors.items()})
    return optax.chain(chosen, decay) if recipe.weight_decay else chosen


class Backend:
    """See `alexbench.backends.Backend`."""

    conventions: ClassVar = {"initialisation": "jax", "adam_epsilon": "torch"}
    title = "JAX"
    out_of_memory = (OutOfMemoryError,)
    tutorial_resize = "image"
    switches: ClassVar = {
        "asynchronous": Switch("no waiting for each step's loss", expected=("cpu", "cuda")),
        "donated": Switch("old weights' memory used again", expected=("cpu", "cuda")),
        "scanned": Switch("many steps an execution", excludes={"per_image": "its batches come one by one from the host"}),
    }
    extra_steps: ClassVar = {"cpu": ("fast+scanned",), "cuda": ("fast+scanned",)}

    def __init__(self, setup: Setup) -> None:
        variant, recipe, device, execution = setup.variant, setup.recipe, setup.device, setup.execution
        if setup.threads is not None:
            # XLA reads it when it starts its threads.
            os.environ["NPROC"] = str(setup.threads)
        if device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        try:
            self.place = jax.devices("cuda" if device == "cuda" else None)[0]
        except RuntimeError as error:
            raise InputError(
                f"device: cuda was asked for, but JAX {jax.__version__} ({str(error).splitlines()[0].rstrip('.')}) sees no GPU; "
                "check the driver (nvidia-smi), that jax[cuda12] is installed and the job's GPU request, or set device to cpu"
            ) from None
        self.device = "cuda" if self.place.platform == "gpu" else "cpu"
        self.execution = execution
        self.on = execution.switches(self.switches, self.device)
        self.resident = execution.input == "resident"
        jax.config.update("jax_default_device", self.place)
        jax.config.update("jax_default_matmul_precision", PRECISIONS[execution.precision])
        self.dtype = jnp.bfloat16 if execution.precision == "bf16" else jnp.float32

        self.variant, self.recipe = variant, recipe
        self.mean, self.std = setup.mean, setup.std
        self.names = trained(variant, recipe.frozen_features)
        self.optimizer = optimizer(recipe)
        self.key = jax.random.key_data(jax.random.key(setup.seed))
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.scale, self.shift = np.float32(1 / (255 * setup.std)), np.float32(-setup.mean / setup.std)
        shapes = to_channels_last(variant, {name: np.zeros(shape, np.float32) for name, shape in weight_shapes(variant).items()})
        self.values = self._start({name: jnp.asarray(array) for name, array in shapes.items()})

        donated = {"donate_argnums": (0,)} if self.on["donated"] else {}
        self._step = jax.jit(self._train_step, **donated)
        self._resident_step = jax.jit(self._gather_and_train, **donated)
        self._resident_steps = jax.jit(self._many_steps, **donated)
        self._gather = jax.jit(self._gathered)
        self._predict = jax.jit(self._logits)
        self._gradients = jax.jit(jax.value_and_grad(self._plain_loss))

    @staticmethod
    def probe() -> tuple[str, list[str]]:
        return jax.__version__, [device.device_kind for device in jax.devices() if device.platform == "gpu"]

    def describe(self) -> dict[str, Any]:
        gpu = self.device == "cuda"
        return {
            "device": self.device,
            "device_name": self.place.device_kind if gpu else None,
            "versions": {
                "jax": jax.__version__,
                "optax": optax.__version__,
                "cuda": self.place.client.platform_version if gpu else None,
            },
            "settings": {**vars(self.execution), "resize": self._resize(), **self.on, "xla_flags": os.environ.get("XLA_FLAGS")},
        }

    def _start(self, tensors: Tensors) -> dict[str, Any]:
        """All that a step reads and changes, before the first one."""
        moments = self.optimizer.init({name: tensors[name] for name in self.names})
        sums = {"loss_sum": jnp.zeros((), jnp.float64), "correct": jnp.zeros((), jnp.int64)}
        return {"tensors": tensors, "optimizer": moments, "steps": jnp.zeros((), jnp.int64), **sums}

    def set_weights(self, weights: Weights) -> None:
        arrays = to_channels_last(self.variant, weights)
        self.values = self.values | {"tensors": self.values["tensors"] | {name: jnp.array(array) for name, array in arrays.items()}}

    def get_weights(self) -> Weights:
        return from_channels_last(self.variant, {name: np.array(self.values["tensors"][name]) for name in weight_shapes(self.variant)})

    def _resize(self) -> str:
        """Where images are resized: "image" or "batch"."""
        if self.resident:
            return "batch"
        return self.tutorial_resize if self.execution.resize == "framework" else self.execution.resize

    @memory_errors_named
    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = (jnp.asarray(images), jnp.asarray(labels)) if self.resident else (images, labels)

    def _scaled(self, images: jax.Array) -> jax.Array:
        """Scale uint8 (..., 3) in 0..255 as the network takes it, to float32."""
        return images.astype(jnp.float32) * self.scale + self.shift

    def _resized(self, x: jax.Array) -> jax.Array:
        """Resize float32 (n, height, width, 3) to (n, size, size, 3)."""
        size = self.variant.input_size
        return x if x.shape[1:3] == (size, size) else jax.image.resize(x, (len(x), size, size, 3), "bilinear", antialias=False)

    def _logits(self, tensors: Tensors, images: jax.Array) -> jax.Array:
        return forward(self.variant, tensors, self._resized(self._scaled(images)), self.dtype)[0]

    def load(self, plans: Iterable[Plan]) -> Iterator[tuple[jax.Array, jax.Array]]:
        for batch, _ in self._load(plans):
            yield jax.block_until_ready(batch)

    def as_arrays(self, batch: tuple[jax.Array, jax.Array]) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self._resized(batch[0])).transpose(0, 3, 1, 2), np.array(batch[1])

    def _load(self, plans: Iterable[Plan]) -> Iterator[tuple[tuple[jax.Array, jax.Array], float]]:
        """Yield each step's inputs, float32 (n, size, size, 3), or smaller if the step resizes them; its labels, int64 (n,); and its
        learning rate."""
        for plan in plans if self.resident else ():
            for index, crop, rate in zip(plan.images, plan.crops, plan.learning_rates, strict=True):
                yield self._gather(self.images, self.labels, index, crop), float(rate)
        if self.resident:
            return
        rows = [(index, float(rate)) for plan in plans for index, rate in zip(plan.images, plan.learning_rates, strict=True)]
        if not self.execution.workers:
            for index, rate in rows:
                yield self._collated(map(self._image, index), index), rate
            return
        with ThreadPoolExecutor(self.execution.workers) as pool:
            # As many batches under way as there are workers.
            ahead: list = []
            for index, rate in [*rows, *[(None, None)] * self.execution.workers]:
                ahead.append((index, rate, [] if index is None else [pool.submit(self._image, one) for one in index]))
                if len(ahead) > self.execution.workers:
                    first, its_rate, futures = ahead.pop(0)
                    yield self._collated((future.result() for future in futures), first), its_rate

    def _image(self, index: int) -> np.ndarray:
        """One image, prepared on the host: float32 (size, size, 3), or its own size where the step resizes."""
        image, size = self.images[index], self.variant.input_size
        if self._resize() == "image" and image.shape[:2] != (size, size):
            image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
        return image.astype(np.float32) * self.scale + self.shift

    def _collated(self, images: Iterable[np.ndarray], index: np.ndarray) -> tuple[jax.Array, jax.Array]:
        return jnp.asarray(np.stack(list(images))), jnp.asarray(self.labels[index])

    def _gathered(self, images: jax.Array, labels: jax.Array, index: jax.Array, crop: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Inputs and labels of the images at `index`, int64 (n,), each cropped as `crop`, int32 (n, 3), says."""
        chosen = images[index]
        if self.recipe.augments:
            chosen = self._cropped(chosen, crop)
        return self._resized(self._scaled(chosen)), labels[index]

    def _cropped(self, images: jax.Array, crop: jax.Array) -> jax.Array:
        """Images, uint8 (n, height, width, 3), each padded with black, cropped to its old size, and mirrored; see `Plan`."""
        height, width = images.shape[1:3]
        top, left, mirrored = (crop[:, part, None] for part in range(3))
        rows, columns = top + jnp.arange(height, dtype=crop.dtype), jnp.arange(width, dtype=crop.dtype)
        columns = left + jnp.where(mirrored > 0, width - 1 - columns, columns)
        edge = (self.recipe.crop_padding,) * 2
        padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
        return padded[jnp.arange(len(images))[:, None, None], rows[:, :, None], columns[:, None, :]]

    def _cross_entropy(self, labels: jax.Array, logits: jax.Array) -> jax.Array:
        """Cross-entropy of each image, float32 (n,), with the recipe's label smoothing."""
        smoothing, classes = self.recipe.label_smoothing, logits.shape[-1]
        if not smoothing:
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        targets = jax.nn.one_hot(labels, classes, dtype=jnp.float32) * np.float32(1 - smoothing) + np.float32(smoothing / classes)
        return optax.softmax_cross_entropy(logits, targets)

    def _train_step(self, values: dict[str, Any], inputs: jax.Array, labels: jax.Array, rate: jax.Array) -> dict[str, Any]:
        inputs = self._resized(inputs)
        tensors = values["tensors"]
        key = jax.random.fold_in(jax.random.wrap_key_data(self.key), values["steps"])

        def loss_of(learned: Tensors) -> tuple[jax.Array, tuple[jax.Array, Tensors]]:
            logits, averages = forward(self.variant, tensors | learned, inputs, self.dtype, self.recipe.dropout, key)
            return self._cross_entropy(labels, logits).mean(), (logits, averages)

        learned = {name: tensors[name] for name in self.names}
        (loss, (logits, averages)), gradients = jax.value_and_grad(loss_of, has_aux=True)(learned)
        updates, moments = self.optimizer.update(gradients, values["optimizer"], learned)
        rate = jnp.asarray(rate, jnp.float32)
        learned = {name: array - rate * updates[name] for name, array in learned.items()}
        return {
            "tensors": tensors | averages | learned,
            "optimizer": moments,
            "steps": values["steps"] + 1,
            "loss_sum": values["loss_sum"] + loss.astype(jnp.float64) * len(labels),
            "correct": values["correct"] + (logits.argmax(1) == labels).sum(),
        }

    def _gather_and_train(
        self, values: dict, images: jax.Array, labels: jax.Array, index: jax.Array, crop: jax.Array, rate: jax.Array
    ) -> dict:
        return self._train_step(values, *self._gathered(images, labels, index, crop), rate)

    def _many_steps(self, values: dict, images: jax.Array, labels: jax.Array, plan: tuple[jax.Array, ...]) -> dict:
        def one(values: dict, row: tuple[jax.Array, ...]) -> tuple[dict, None]:
            return self._gather_and_train(values, images, labels, *row), None

        return lax.scan(one, values, plan)[0]

    @memory_errors_named
    def step(self, batch: tuple[jax.Array, jax.Array]) -> None:
        self.values = jax.block_until_ready(self._step(self.values, *batch, np.float32(self.recipe.learning_rate)))

    def train(self, plans: Iterable[Plan]) -> Iterator[int]:
        work = self._train(plans)
        following = memory_errors_named(partial(next, work, None))
        try:
            while (steps := following()) is not None:
                yield steps
        finally:
            work.close()

    def _train(self, plans: Iterable[Plan]) -> Iterator[int]:
        if self.resident and self.on["scanned"]:
            for plan in plans:
                self.values = self._resident_steps(self.values, self.images, self.labels, (plan.images, plan.crops, plan.learning_rates))
                if not self.on["asynchronous"]:
                    jax.block_until_ready(self.values)
                yield len(plan)
        elif self.resident:
            for plan in plans:
                for row in zip(plan.images, plan.crops, plan.learning_rates, strict=True):
                    self.values = self._resident_step(self.values, self.images, self.labels, *row)
                    if not self.on["asynchronous"]:
                        jax.block_until_ready(self.values)
                    yield 1
        else:
            for batch, rate in self._load(plans):
                self.values = self._step(self.values, *batch, np.float32(rate))
                if not self.on["asynchronous"]:
                    jax.block_until_ready(self.values)
                yield 1

    def peak_work(self) -> dict[str, tuple[Callable[[], None], float]]:
        size = 8192 if self.device == "cuda" else 2048
        a = jax.random.uniform(jax.random.key(0), (size, size), jnp.float32).astype(self.dtype)
        # Far larger than any cache.
        source = jnp.ones(2**26, jnp.float32)
        multiply, add = jax.jit(lambda x: x @ x), jax.jit(lambda x, y: x + y)

        def matmul() -> None:
            jax.block_until_ready(multiply(a))

        def copy() -> None:
            jax.block_until_ready(add(source, source))

        return {"matmul": (matmul, 2.0 * size**3), "copy": (copy, 2.0 * 4 * 2**26)}

    @memory_errors_named
    def metrics(self) -> tuple[float, int]:
        found = float(self.values["loss_sum"]), int(self.values["correct"])
        self.values = self.values | {"loss_sum": jnp.zeros((), jnp.float64), "correct": jnp.zeros((), jnp.int64)}
        return found

    @memory_errors_named
    def predict(self, images: np.ndarray, batch_size: int = PREDICT_BATCH_SIZE) -> np.ndarray:
        parts = [images[first : first + batch_size] for first in range(0, len(images), batch_size)]
        return np.concatenate([np.array(self._predict(self.values["tensors"], part)) for part in parts])

    def _plain_loss(self, learned: Tensors, tensors: Tensors, images: jax.Array, labels: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(self._logits(tensors | learned, images), labels).mean()

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
        tensors = self.values["tensors"]
        loss, found = self._gradients({name: tensors[name] for name in self.names}, tensors, images, labels)
        return float(loss), from_channels_last(self.variant, {name: np.array(found[name]) for name in self.names})

    def state(self) -> dict[str, np.ndarray]:
        return {f"value{number:03}": np.array(leaf) for number, leaf in enumerate(jax.tree.leaves(self.values))}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        leaves = [jnp.array(state[f"value{number:03}"]) for number in range(len(state))]
        self.values = jax.tree.unflatten(jax.tree.structure(self.values), leaves)

    def peak_memory_bytes(self) -> int | None:
        return self.place.memory_stats()["peak_bytes_in_use"] if self.device == "cuda" else None
