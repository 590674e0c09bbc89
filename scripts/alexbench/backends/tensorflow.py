"""The study's networks in TensorFlow, built of Keras layers. The only file that imports tensorflow and keras."""

import os
from typing import Any

# Both must be set before the import. oneDNN's kernels are on by default on some processors only and decide which framework is
# faster on a CPU, so the choice is made here for all of them (an exported value wins) and recorded in every result.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from alexbench.files import InputError
from alexbench.recipe import Recipe
from alexbench.spec import Conv, Dense, Dropout, Flatten, LayerInfo, MaxPool, Pad, Variant, describe, weight_shapes
from alexbench.weights import Weights, from_channels_last, to_channels_last


def build(variant: Variant, dropout: float, seed: int) -> keras.Sequential:
    """The network: float32 (n, size, size, 3) to logits (n, 10). Its layers bear the declaration's names."""
    model = keras.Sequential([keras.Input((variant.input_size, variant.input_size, 3))], name=variant.name)
    for number, info in enumerate(describe(variant)):
        for layer in _layers(info, dropout, seed * 1000 + number):
            model.add(layer)
    return model


def _layers(info: LayerInfo, dropout: float, seed: int) -> list[keras.Layer]:
    name = info.name
    match info.layer:
        case Conv(filters, kernel, stride, padding):
            if stride == 1 and 2 * padding == kernel - 1:
                return [keras.layers.Conv2D(filters, kernel, padding="same", activation="relu", name=name)]
            conv = keras.layers.Conv2D(filters, kernel, strides=stride, activation="relu", name=name)
            # Keras's "same" pads unevenly where the stride is not 1.
            return [keras.layers.ZeroPadding2D(padding, name=f"{name}_padding"), conv] if padding else [conv]
        case Pad(size):
            return [keras.layers.ZeroPadding2D(size, name=name)]
        case MaxPool(window, stride):
            return [keras.layers.MaxPooling2D(window, strides=stride, name=name)]
        case Flatten():
            return [keras.layers.Flatten(name=name)]
        case Dense(units, relu):
            return [keras.layers.Dense(units, activation="relu" if relu else None, name=name)]
        case Dropout():
            return [keras.layers.Dropout(dropout, seed=seed, name=name)]
    raise TypeError(f"unknown layer {info.layer!r}")


class TorchAdam(keras.optimizers.Adam):
    """Adam with epsilon added to the bias-corrected root of the second moment, as Kingma and Ba (2015) and PyTorch have it."""

    def update_step(self, gradient, variable, learning_rate):
        epsilon = self.epsilon
        step = tf.cast(self.iterations + 1, variable.dtype)
        # Keras divides by (root + epsilon) without correcting the root; scaling epsilon by the correction amounts to the same.
        self.epsilon = epsilon * tf.sqrt(1 - tf.pow(tf.cast(self.beta_2, variable.dtype), step))
        super().update_step(gradient, variable, learning_rate)
        self.epsilon = epsilon


ADAM = {"torch": (TorchAdam, 1e-8), "keras": (keras.optimizers.Adam, 1e-7)}


class Backend:
    """See `alexbench.backends.Backend`."""

    conventions = "keras"
    title = "TensorFlow"
    out_of_memory = (tf.errors.ResourceExhaustedError,)

    def __init__(self, variant: Variant, recipe: Recipe, mean: np.ndarray, std: np.ndarray, device: str, threads: int, seed: int) -> None:
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
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        # One operation after another: each already uses all threads.
        tf.config.threading.set_inter_op_parallelism_threads(1)
        # fp32 is to be IEEE fp32 in both frameworks; TensorFlow would use TF32 by default.
        tf.config.experimental.enable_tensor_float_32_execution(False)

        self.variant = variant
        self.model = build(variant, recipe.dropout, seed)
        optimizer, epsilon = ADAM[recipe.adam_epsilon]
        self.optimizer = optimizer(recipe.learning_rate, beta_1=0.9, beta_2=0.999, epsilon=epsilon)
        self.optimizer.build(self.model.trainable_variables)
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.scale = tf.constant(1 / (255 * std), tf.float32)
        self.shift = tf.constant(-mean / std, tf.float32)
        self.loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self.correct = tf.Variable(0, dtype=tf.int64)
        # XLA pays on a GPU; on a CPU it would take the place of the faster oneDNN kernels.
        self.xla = self.gpu is not None
        self._step = tf.function(self._train_step, jit_compile=self.xla)
        # Traced once for any number of steps and images; XLA compiles the step for each batch size it meets.
        self._train = tf.function(self._train_steps, input_signature=[tf.TensorSpec([None, None], tf.int64)])
        self._predict = tf.function(self._logits, jit_compile=self.xla, reduce_retracing=True)

    @staticmethod
    def probe() -> tuple[str, list[str]]:
        gpus = tf.config.list_physical_devices("GPU")
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return tf.__version__, [detail.get("device_name", gpu.name) for detail, gpu in zip(details, gpus, strict=True)]

    def describe(self) -> dict[str, Any]:
        build_info = tf.sysconfig.get_build_info()
        details = tf.config.experimental.get_device_details(self.gpu) if self.gpu else {}
        return {
            "device": "cuda" if self.gpu else "cpu",
            "device_name": details.get("device_name"),
            "versions": {
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "cuda": build_info.get("cuda_version") if self.gpu else None,
                "cudnn": build_info.get("cudnn_version") if self.gpu else None,
            },
            "settings": {
                "execution": "tf.function",
                "precision": "fp32",
                "memory_format": "channels_last",
                "xla": self.xla,
                "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1",
            },
        }

    def set_weights(self, weights: Weights) -> None:
        for name, array in to_channels_last(self.variant, weights).items():
            self._variable(name).assign(array)

    def get_weights(self) -> Weights:
        weights = {name: self._variable(name).numpy() for name in weight_shapes(self.variant)}
        return from_channels_last(self.variant, weights)

    def _variable(self, name: str) -> keras.Variable:
        layer, kind = name.split(".")
        return getattr(self.model.get_layer(layer), {"weight": "kernel", "bias": "bias"}[kind])

    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = tf.constant(images)
        self.labels = tf.constant(labels)

    def _inputs(self, images: tf.Tensor) -> tf.Tensor:
        """uint8 (n, height, width, 3) to the network's float32 (n, size, size, 3)."""
        x = tf.cast(images, tf.float32) * self.scale + self.shift
        size = self.variant.input_size
        if x.shape[1:3] != (size, size):
            x = tf.image.resize(x, (size, size), method="bilinear")
        return x

    def _logits(self, images: tf.Tensor) -> tf.Tensor:
        return self.model(self._inputs(images), training=False)

    def _train_steps(self, plan: tf.Tensor) -> None:
        for batch in plan:
            self._step(batch)

    def _train_step(self, batch: tf.Tensor) -> None:
        labels = tf.gather(self.labels, batch)
        inputs = self._inputs(tf.gather(self.images, batch))
        with tf.GradientTape() as tape:
            logits = self.model(inputs, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.loss_sum.assign_add(tf.cast(loss, tf.float64) * tf.cast(tf.size(batch), tf.float64))
        self.correct.assign_add(tf.math.count_nonzero(tf.argmax(logits, 1) == labels))

    def train(self, plan: np.ndarray) -> None:
        self._train(tf.constant(plan))

    def metrics(self) -> tuple[float, int]:
        loss_sum, correct = float(self.loss_sum.numpy()), int(self.correct.numpy())
        self.loss_sum.assign(0.0)
        self.correct.assign(0)
        return loss_sum, correct

    def predict(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        parts = [images[first : first + batch_size] for first in range(0, len(images), batch_size)]
        return np.concatenate([self._predict(tf.constant(part)).numpy() for part in parts])

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
