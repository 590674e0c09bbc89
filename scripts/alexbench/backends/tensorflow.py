"""The networks in TensorFlow, built from Keras layers. The only file that imports tensorflow and keras."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, ClassVar

from alexbench import backends
from alexbench.backends import PREDICT_BATCH_SIZE, Setup
from alexbench.experiment.execution import Switch

# All of these must be set before the import. oneDNN's kernels are on by default on some processors only, and decide which framework is
# faster on a CPU. The fast step always uses them, the plain one if TensorFlow does by default; an exported value wins over both.
_base, *_named = backends.requested.step.split("+")
if "no_onednn" in _named:
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
elif _base == "fast" or "onednn" in _named:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# `set_memory_growth` for every GPU: by default TensorFlow takes all of a GPU's memory at once, which makes NVML's figure meaningless.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

from alexbench.experiment.layers import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
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
from alexbench.experiment.recipe import Plan
from alexbench.experiment.weights import Weights, from_channels_last, to_channels_last
from alexbench.files import InputError


def build(variant: Variant, dropout: float, seed: int) -> keras.Model:
    """The network: float32 (n, size, size, 3) to logits (n, classes). Its layers are named as in the declaration."""
    inputs = keras.Input((variant.input_size, variant.input_size, 3))
    seeds = {info.name: seed * 1000 + number for number, info in enumerate(every_layer(variant))}
    return keras.Model(inputs, _chain(describe(variant), inputs, dropout, seeds), name=variant.name)


def _chain(infos: Iterable[LayerInfo], x: keras.KerasTensor, dropout: float, seeds: dict[str, int]) -> keras.KerasTensor:
    """The output of a chain of layers for an input; `seeds`: of dropout, by layer."""
    for info in infos:
        if isinstance(info.layer, Residual):
            parts = [_chain(inner, x, dropout, seeds) for inner in (info.body, info.projection)]
            x = keras.layers.Add(name=info.name)(parts)
            if info.layer.activation:
                x = keras.layers.Activation(info.layer.activation, name=f"{info.name}_{info.layer.activation}")(x)
            continue
        for layer in _layers(info, dropout, seeds[info.name]):
            x = layer(x)
    return x


def _layers(info: LayerInfo, dropout: float, seed: int) -> list[keras.Layer]:
    name = info.name
    match info.layer:
        case Conv(filters, kernel, stride, padding, bias, activation, groups):
            # Keras's "same" pads unevenly where the stride is not 1.
            same = stride == 1 and 2 * padding == kernel - 1
            kind = keras.layers.Conv2D if groups == 1 else GroupedConv2D
            conv = kind(
                filters,
                kernel,
                strides=stride,
                padding="same" if same else "valid",
                groups=groups,
                use_bias=bias,
                activation=activation,
                name=name,
            )
            return [keras.layers.ZeroPadding2D(padding, name=f"{name}_padding"), conv] if padding and not same else [conv]
        case BatchNorm(activation):
            norm = FusedBatchNorm(momentum=1 - BATCH_NORM_MOMENTUM, epsilon=BATCH_NORM_EPSILON, name=name)
            return [norm, keras.layers.Activation(activation, name=f"{name}_{activation}")] if activation else [norm]
        case LocalResponseNorm(size, alpha, beta, bias):
            return [LocalResponseNormalization(size, alpha, beta, bias, name=name)]
        case Pad(size):
            return [keras.layers.ZeroPadding2D(size, name=name)]
        case MaxPool(window, stride):
            return [keras.layers.MaxPooling2D(window, strides=stride, name=name)]
        case AvgPool(window, stride):
            return [keras.layers.AveragePooling2D(window, strides=stride, name=name)]
        case GlobalAvgPool():
            return [keras.layers.GlobalAveragePooling2D(name=name)]
        case Flatten():
            return [keras.layers.Flatten(name=name)]
        case Dense(units, activation):
            # The last layer, without an activation, computes in float32: logits in bfloat16 would have ties, which go to the lower class.
            return [keras.layers.Dense(units, activation=activation, name=name, dtype=None if activation else "float32")]
        case Dropout():
            return [keras.layers.Dropout(dropout, seed=seed, name=name)]
    raise TypeError(f"unknown layer {info.layer!r}")


class GroupedConv2D(keras.layers.Conv2D):
    """A convolution in groups, each computed on its own: TensorFlow has no gradients of grouped convolutions on a CPU."""

    def convolution_op(self, inputs, kernel):
        parts = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1), strict=True)
        return tf.concat([tf.nn.conv2d(x, part, self.strides, self.padding.upper()) for x, part in parts], axis=-1)


class LocalResponseNormalization(keras.Layer):
    """See `layers.LocalResponseNorm`; computed in float32."""

    def __init__(self, size: int, alpha: float, beta: float, bias: float, **more) -> None:
        super().__init__(**more)
        self.numbers = {"depth_radius": size // 2, "bias": bias, "alpha": alpha, "beta": beta}

    def call(self, inputs):
        return tf.cast(tf.nn.local_response_normalization(tf.cast(inputs, tf.float32), **self.numbers), inputs.dtype)


class FusedBatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation by TensorFlow's single kernel instead of Keras's several operations; only for images, channels last.

    The running variance is PyTorch's, where a batch's variance is divided by one less than its count; Keras divides by the count.
    """

    def call(self, inputs, training=None, mask=None):
        fused = partial(tf.compat.v1.nn.fused_batch_norm, inputs, self.gamma, self.beta, epsilon=self.epsilon)
        if not training:
            return fused(mean=self.moving_mean, variance=self.moving_variance, is_training=False)[0]
        outputs, mean, variance = fused(is_training=True)
        for average, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + new * (1 - self.momentum))
        return outputs


class TorchAdam(keras.optimizers.Adam):
    """Adam with epsilon added to the bias-corrected root of the second moment, as in Kingma and Ba (2015) and PyTorch."""

    def update_step(self, gradient, variable, learning_rate):
        # In float64, as in PyTorch: in Keras's float32, 1 - 0.999 is off by 1e-5, and so are the first steps.
        step = tf.cast(self.iterations + 1, tf.float64)
        correction, second_correction = (1 - tf.pow(tf.constant(beta, tf.float64), step) for beta in (self.beta_1, self.beta_2))
        root = tf.sqrt(second_correction)
        # Dividing the root of the second moment by `root` amounts to multiplying the rate and epsilon by it.
        rate = tf.cast(tf.cast(learning_rate, tf.float64) * root / correction, variable.dtype)
        epsilon = tf.cast(self.epsilon * root, variable.dtype)
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (tf.square(gradient) - second) * (1 - self.beta_2))
        self.assign_sub(variable, first * rate / (tf.sqrt(second) + epsilon))


class TorchSGD(keras.optimizers.SGD):
    """SGD whose velocity adds up gradients, as in PyTorch and Optax. Keras's adds up steps: not the same where the learning rate changes.

    Momentum as in Sutskever et al. (2013).
    """

    def update_step(self, gradient, variable, learning_rate):
        rate, step = tf.cast(learning_rate, variable.dtype), gradient
        if self.momentum:
            velocity = self.momentums[self._get_variable_index(variable)]
            self.assign(velocity, velocity * self.momentum + gradient)
            step = gradient + velocity * self.momentum if self.nesterov else velocity
        self.assign_sub(variable, rate * step)


ADAM = {"torch": (TorchAdam, 1e-8), "keras": (keras.optimizers.Adam, 1e-7)}

# With its number, or a surrounding device scope would choose one.
HOST = "CPU:0"


class Backend:
    """See `alexbench.backends.Backend`."""

    conventions: ClassVar = {"initialisation": "keras", "adam_epsilon": "keras"}
    title = "TensorFlow"
    out_of_memory = (tf.errors.ResourceExhaustedError,)
    tutorial_resize = "batch"
    switches: ClassVar = {
        "asynchronous": Switch("many steps per execution", fast={"cpu": ("fp32", "bf16")}, expected=("cuda",)),
        "onednn": Switch("oneDNN's kernels", devices=("cpu",), fast={"cpu": ("fp32", "bf16")}),
        # Not in the fast step on a CPU: it would replace oneDNN's kernels, which are faster.
        "xla": Switch("XLA", excludes={"deterministic": "the gradient of max-pooling has no deterministic form in XLA"}),
        "eager": Switch(
            "eager, without tf.function",
            excludes={
                "asynchronous": "many steps are one execution in a tf.function alone",
                "xla": "XLA compiles a tf.function",
            },
        ),
        "no_onednn": Switch("without oneDNN's kernels", devices=("cpu",), excludes={"onednn": "one is the other's opposite"}),
    }
    extra_steps: ClassVar = {"cpu": ("plain+eager", "plain+no_onednn", "fast+xla"), "cuda": ("plain+eager", "fast+xla")}

    def __init__(self, setup: Setup) -> None:
        variant, recipe, device, execution = setup.variant, setup.recipe, setup.device, setup.execution
        gpus = tf.config.list_physical_devices("GPU")
        if device == "cuda" and not gpus:
            build_of = "CUDA" if tf.test.is_built_with_cuda() else "the CPU alone"
            raise InputError(
                f"device: cuda was asked for, but TensorFlow {tf.__version__} (built for {build_of}) sees no GPU; "
                "check the driver (nvidia-smi), that tensorflow[and-cuda] is installed and the job's GPU request, or set device to cpu"
            )
        if device == "cpu":
            tf.config.set_visible_devices([], "GPU")
        self.gpu = gpus[0] if gpus and device != "cpu" else None
        self.device = "cuda" if self.gpu else "cpu"
        self.execution = execution
        self.on = execution.switches(self.switches, self.device)
        self.resident = execution.input == "resident"
        if setup.threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(setup.threads)
            # One operation after another: each already uses all threads.
            tf.config.threading.set_inter_op_parallelism_threads(1)
        # TensorFlow's default is TF32.
        tf.config.experimental.enable_tensor_float_32_execution(execution.precision == "tf32")
        if execution.deterministic:
            tf.config.experimental.enable_op_determinism()
        keras.config.set_dtype_policy("mixed_bfloat16" if execution.precision == "bf16" else "float32")

        self.variant, self.recipe = variant, recipe
        self.model = build(variant, recipe.dropout, setup.seed)
        self.trained = {name: self._variable(name) for name in trained(variant, recipe.frozen_features)}
        decay = recipe.weight_decay or None
        if recipe.optimizer == "sgd":
            self.optimizer = TorchSGD(recipe.learning_rate, recipe.momentum, recipe.nesterov, weight_decay=decay)
        else:
            adam, epsilon = ADAM[recipe.adam_epsilon]
            self.optimizer = adam(recipe.learning_rate, beta_1=0.9, beta_2=0.999, epsilon=epsilon, weight_decay=decay)
        variables = list(self.trained.values())
        self.optimizer.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) == 1])
        self.optimizer.build(variables)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.scale = tf.constant(1 / (255 * setup.std), tf.float32)
        self.shift = tf.constant(-setup.mean / setup.std, tf.float32)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.correct = tf.Variable(0, dtype=tf.int64)

        def compiled(function: Callable, **options: Any) -> Callable:
            return function if self.on["eager"] else tf.function(function, jit_compile=self.on["xla"], **options)

        # XLA compiles a step for each batch size that it meets.
        self._step = compiled(self._train_step, reduce_retracing=not self.on["xla"])
        self._gather = compiled(self._gathered)
        self._resident_step = compiled(self._gather_and_train)
        # Traced once for any number of steps and images.
        plan = ((None, None), tf.int64), ((None, None, 3), tf.int32), ((None,), tf.float32)
        self._resident_steps = tf.function(self._many_steps, input_signature=[tf.TensorSpec(*part) for part in plan])
        self._predict = tf.function(self._logits, jit_compile=self.on["xla"], reduce_retracing=True)

    @staticmethod
    def probe() -> tuple[str, list[str]]:
        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return tf.__version__, [detail.get("device_name", gpu.name) for detail, gpu in zip(details, gpus, strict=True)]

    def describe(self) -> dict[str, Any]:
        build_info = tf.sysconfig.get_build_info()
        details = tf.config.experimental.get_device_details(self.gpu) if self.gpu else {}
        return {
            "device": self.device,
            "device_name": details.get("device_name"),
            "versions": {
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "cuda": build_info.get("cuda_version") if self.gpu else None,
                "cudnn": build_info.get("cudnn_version") if self.gpu else None,
            },
            # oneDNN as TensorFlow reports it, since TensorFlow decides if no setting does.
            "settings": {**vars(self.execution), "resize": self._resize(), **self.on, "onednn": _pywrap_util_port.IsMklEnabled()},
        }

    def set_weights(self, weights: Weights) -> None:
        for name, array in to_channels_last(self.variant, weights).items():
            self._variable(name).assign(array)

    def get_weights(self) -> Weights:
        weights = {name: self._variable(name).numpy() for name in weight_shapes(self.variant)}
        return from_channels_last(self.variant, weights)

    def _variable(self, name: str) -> keras.Variable:
        layer_name, kind = name.rsplit(".", 1)
        layer = self.model.get_layer(layer_name)
        norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        return getattr(layer, (norm if isinstance(layer, FusedBatchNorm) else {"weight": "kernel", "bias": "bias"})[kind])

    def _resize(self) -> str:
        """Where images are resized: "image" or "batch"."""
        if self.resident:
            return "batch"
        return self.tutorial_resize if self.execution.resize == "framework" else self.execution.resize

    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        # per_image prepares its images on the host.
        with tf.device(None if self.resident else HOST):
            self.images = tf.constant(images)
            self.labels = tf.constant(labels)

    def _scaled(self, images: tf.Tensor) -> tf.Tensor:
        """Scale uint8 (..., 3) in 0..255 as the network takes it, to float32."""
        return tf.cast(images, tf.float32) * self.scale + self.shift

    def _resized(self, x: tf.Tensor) -> tf.Tensor:
        """Resize float32 ([n,] height, width, 3) to ([n,] size, size, 3)."""
        size = self.variant.input_size
        return x if x.shape[-3:-1] == (size, size) else tf.image.resize(x, (size, size), method="bilinear")

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.model(self._resized(self._scaled(images)), training=False), tf.float32)

    def load(self, plans: Iterable[Plan]) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for (inputs, labels), _ in self._load(plans):
            _wait(inputs)
            yield inputs, labels

    def as_arrays(self, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        return self._resized(batch[0]).numpy().transpose(0, 3, 1, 2), batch[1].numpy()

    def _load(self, plans: Iterable[Plan]) -> Iterator[tuple[tuple[tf.Tensor, tf.Tensor], float]]:
        """Yield each step's inputs, float32 (n, size, size, 3), or smaller if `_train_step` resizes them; its labels, int64 (n,); and its
        learning rate."""
        if self.resident:
            for index, crop, rate in self._rows(plans):
                yield self._gather(index, crop), rate
            return
        plans = list(plans)
        order = np.concatenate([plan.images.ravel() for plan in plans])
        rates = [rate for plan in plans for rate in plan.learning_rates.tolist()]
        whole = self._resize() == "image"

        def image(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scaled = self._scaled(self.images[index])
            return self._resized(scaled) if whole else scaled, self.labels[index]

        with tf.device(HOST):
            workers, size = self.execution.workers, self.recipe.batch_size
            dataset = tf.data.Dataset.from_tensor_slices(order).map(image, num_parallel_calls=workers or None).batch(size)
            batches = iter(dataset.prefetch(workers) if workers else dataset)
        for rate in rates:
            # Do not yield inside the scope: the caller's step would run in it, on the host.
            with tf.device(HOST):
                batch = next(batches)
            yield tuple(map(tf.identity, batch)), rate

    def _rows(self, plans: Iterable[Plan]) -> Iterator[tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
        """Yield each step's image indices, crops and learning rate."""
        for plan in plans:
            for row in zip(plan.images, plan.crops, plan.learning_rates, strict=True):
                yield tuple(map(tf.constant, row))

    def _gathered(self, index: tf.Tensor, crop: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Inputs and labels of the images at `index`, int64 (n,), each cropped as `crop`, int32 (n, 3), says."""
        images = tf.gather(self.images, index)
        if self.recipe.augments:
            images = self._cropped(images, crop)
        return self._resized(self._scaled(images)), tf.gather(self.labels, index)

    def _cropped(self, images: tf.Tensor, crop: tf.Tensor) -> tf.Tensor:
        """Images, uint8 (n, height, width, 3), each padded with black, cropped to its old size, and mirrored; see `Plan`."""
        height, width = images.shape[1:3]
        top, left, mirrored = tf.unstack(crop[:, :, tf.newaxis], axis=1)
        rows, columns = top + tf.range(height), tf.range(width)
        columns = left + tf.where(mirrored > 0, width - 1 - columns, columns)
        edge = [self.recipe.crop_padding] * 2
        padded = tf.pad(images, [[0, 0], edge, edge, [0, 0]])
        return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)

    def _gather_and_train(self, index: tf.Tensor, crop: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        return self._train_step(*self._gathered(index, crop), rate)

    def _many_steps(self, images: tf.Tensor, crops: tf.Tensor, rates: tf.Tensor) -> None:
        for step in tf.range(tf.shape(images)[0]):
            self._resident_step(images[step], crops[step], rates[step])

    def _train_step(self, inputs: tf.Tensor, labels: tf.Tensor, rate: tf.Tensor) -> tf.Tensor:
        inputs = self._resized(inputs)
        with tf.GradientTape() as tape:
            logits = tf.cast(self.model(inputs, training=True), tf.float32)
            loss = tf.reduce_mean(self._cross_entropy(labels, logits))
        variables = [variable.value for variable in self.trained.values()]
        self.optimizer.learning_rate.assign(rate)
        self.optimizer.apply(tape.gradient(loss, variables), list(self.trained.values()))
        self.loss_sum.assign_add(tf.cast(loss, tf.float64) * tf.cast(tf.size(labels), tf.float64))
        self.correct.assign_add(tf.math.count_nonzero(tf.argmax(logits, 1) == labels))
        return loss

    def _cross_entropy(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Cross-entropy of each image, float32 (n,), with the recipe's label smoothing."""
        smoothing, classes = self.recipe.label_smoothing, logits.shape[-1]
        if not smoothing:
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        targets = tf.one_hot(labels, classes, 1 - smoothing + smoothing / classes, smoothing / classes)
        return tf.nn.softmax_cross_entropy_with_logits(targets, logits)

    def step(self, batch: tuple[tf.Tensor, tf.Tensor]) -> None:
        _wait(self._step(*batch, tf.constant(self.recipe.learning_rate)))

    def train(self, plans: Iterable[Plan]) -> Iterator[int]:
        if self.resident and self.on["asynchronous"] and not self.on["eager"]:
            for plan in plans:
                self._resident_steps(*map(tf.constant, (plan.images, plan.crops, plan.learning_rates)))
                yield len(plan)
        elif self.resident:
            for row in self._rows(plans):
                _wait(self._resident_step(*row))
                yield 1
        else:
            for batch, rate in self._load(plans):
                loss = self._step(*batch, tf.constant(rate))
                if not self.on["asynchronous"]:
                    _wait(loss)
                yield 1

    def peak_work(self) -> dict[str, tuple[Callable[[], None], float]]:
        size = 8192 if self.gpu else 2048
        dtype = tf.bfloat16 if self.execution.precision == "bf16" else tf.float32
        a = tf.cast(tf.random.stateless_uniform((size, size), seed=(0, 0)), dtype)
        # Far larger than any cache.
        source = tf.ones(2**26)
        target = tf.Variable(2 * source)
        multiply = tf.function(lambda: tf.matmul(a, a))

        def matmul() -> None:
            _wait(multiply())

        def copy() -> None:
            # A plain assignment would only share the memory.
            target.assign_add(source)
            _wait(target)

        return {"matmul": (matmul, 2.0 * size**3), "copy": (copy, 3.0 * 4 * 2**26)}

    def metrics(self) -> tuple[float, int]:
        loss_sum, correct = float(self.loss_sum.numpy()), int(self.correct.numpy())
        self.loss_sum.assign(0.0)
        self.correct.assign(0)
        return loss_sum, correct

    def predict(self, images: np.ndarray, batch_size: int = PREDICT_BATCH_SIZE) -> np.ndarray:
        parts = [images[first : first + batch_size] for first in range(0, len(images), batch_size)]
        return np.concatenate([self._predict(tf.constant(part)).numpy() for part in parts])

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
        with tf.GradientTape() as tape:
            logits = self._logits(tf.constant(images))
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        found = tape.gradient(loss, [variable.value for variable in self.trained.values()])
        return float(loss), from_channels_last(self.variant, {n: g.numpy() for n, g in zip(self.trained, found, strict=True)})

    def _variables(self) -> list[keras.Variable | tf.Variable]:
        # Dropout's random state is among the model's variables.
        return [*self.model.variables, *self.optimizer.variables, self.loss_sum, self.correct]

    def state(self) -> dict[str, np.ndarray]:
        return {f"variable{number:03}": variable.numpy() for number, variable in enumerate(self._variables())}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        for number, variable in enumerate(self._variables()):
            variable.assign(state[f"variable{number:03}"])

    def peak_memory_bytes(self) -> int | None:
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] if self.gpu else None


def _wait(tensor: tf.Tensor | tf.Variable) -> None:
    """Wait until `tensor` is computed, by fetching one of its numbers."""
    tf.reshape(tensor, [-1])[0].numpy()
