"""The frameworks follow the protocol and agree: same start, same batches, same mathematics."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from alexbench import backends
from alexbench.backends import FRAMEWORKS
from alexbench.experiment import datasets, layers, reference, variants, weights
from alexbench.experiment.datasets import digits as digits_source
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import IMAGENET_MEAN, IMAGENET_STD, Plan, Recipe, batches, learning_rates
from alexbench.files import InputError
from alexbench.training import loop
from conftest import EVERY, NORMALISED, ROOT, TINY

# Each of these is compared with TensorFlow.
OTHERS = [name for name in FRAMEWORKS if name != "tensorflow"]
FAST = Execution()
MEAN, STD = np.float32(IMAGENET_MEAN), np.float32(IMAGENET_STD)


def make(framework: str, seed: int = 1, variant=TINY, threads: int | None = 1, execution: Execution = FAST, **recipe):
    """A backend of `variant` with fresh weights; "torch" conventions unless said otherwise."""
    settings = Recipe(**{"initialisation": "torch", "adam_epsilon": "torch", **recipe}).resolved({}, "imagenet")
    backend = backends.load(framework)(backends.Setup(variant, settings, MEAN, STD, "cpu", threads, seed, execution))
    backend.set_weights(weights.initialise(variant, settings.initialisation, seed))
    return backend


def plan_of(images: np.ndarray) -> Plan:
    """One step per row of image indices, int64 (steps, batch), at Adam's usual rate."""
    return Plan(images, np.full(len(images), 0.001, np.float32), np.zeros((*images.shape, 3), np.int32))


def take_steps(backend, plan: Plan) -> None:
    assert sum(backend.train([plan])) == len(plan)


def losses_of(backend, images: np.ndarray, labels: np.ndarray, steps: int = 20, **recipe) -> list[float]:
    """Losses of the first steps on these images, in batches of 16 unless `recipe` says otherwise."""
    backend.set_data(images, labels)
    found = []
    for epoch in range(1, 4):
        for plan in batches(Recipe(**{"batch_size": 16, **recipe}), len(labels), 1, epoch, 1):
            take_steps(backend, plan)
            found.append(backend.metrics()[0] / plan.images.size)
    return found[:steps]


def same(first: weights.Weights, second: weights.Weights) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("variant", [TINY, variants.get("alexnet_pretrained")], ids=lambda v: v.name)
def test_weights_go_in_and_come_out_unchanged(framework, variant):
    backend = make(framework, variant=variant)
    start = weights.initialise(variant, "he", seed=7)
    backend.set_weights(start)
    assert same(backend.get_weights(), start)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_lowers_the_loss_and_counts_every_image(framework, digits):
    backend = make(framework, dropout=0.0)
    backend.set_data(digits.train_images, digits.train_labels)
    losses = []
    for epoch in range(8):
        for plan in batches(Recipe(batch_size=16), 100, 1, epoch + 1, 3):
            take_steps(backend, plan)
        loss_sum, correct = backend.metrics()
        losses.append(loss_sum / 100)
        assert 0 <= correct <= 100
    assert losses[-1] < 0.9 * losses[0] and losses[0] == pytest.approx(np.log(10), abs=0.2)
    assert backend.metrics() == (0.0, 0)
    logits = backend.predict(digits.test_images)
    assert logits.shape == (50, 10) and logits.dtype == np.float32


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_state_brings_back_weights_optimiser_and_dropout(framework, digits):
    backend = make(framework)
    backend.set_data(digits.train_images, digits.train_labels)
    plan = plan_of(np.arange(60).reshape(3, 20))
    take_steps(backend, plan)
    state = backend.state()
    take_steps(backend, plan)
    first = backend.get_weights() | {}
    first = {name: array.copy() for name, array in first.items()}
    backend.set_state(state)
    take_steps(backend, plan)
    assert same(backend.get_weights(), first)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_warming_up_leaves_no_trace(framework, digits):
    """The loop takes steps to compile; the network must then start as if it had taken none."""
    results = []
    for warm in (False, True):
        backend = make(framework)
        backend.set_data(digits.train_images, digits.train_labels)
        if warm:
            loop._warm_up(backend, digits, Recipe(batch_size=16), seed=1)
        take_steps(backend, plan_of(np.arange(60).reshape(3, 20)))
        results.append(backend.get_weights())
    assert same(*results)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_dropout_is_on_in_training_and_off_in_prediction(framework, digits):
    backend = make(framework, dropout=0.5)
    assert np.array_equal(backend.predict(digits.test_images), backend.predict(digits.test_images))
    losses = set()
    state = backend.state()
    for seed in (1, 2):
        other = make(framework, dropout=0.5, seed=seed)
        other.set_data(digits.train_images, digits.train_labels)
        other.set_weights(weights.initialise(TINY, "torch", 1))
        take_steps(other, plan_of(np.arange(64)[np.newaxis]))
        losses.add(other.metrics()[0])
    assert len(losses) == 2, "two seeds drop the same units"
    backend.set_state(state)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_gpu_that_is_not_there_is_an_error(framework):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InputError, match=r"device: cuda was asked for, but .* sees no GPU; check the driver.*or set device to cpu"):
        backends.load(framework)(backends.Setup(TINY, Recipe().resolved({}, "imagenet"), MEAN, STD, "cuda", 1, 1, FAST))


def test_frameworks_agree_on_logits_from_the_same_weights(digits):
    logits = [make(framework).predict(digits.test_images) for framework in FRAMEWORKS]
    assert np.abs(logits[0]).max() > 0.05
    for other in logits[1:]:
        assert other == pytest.approx(logits[0], abs=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_layer_is_the_declared_one(framework, digits):
    """Logits, loss, gradients and, with the batch's own statistics, the loss of a training step agree with the float64 reference."""
    backend = make(framework, variant=EVERY, dropout=0.0, batch_size=16)
    images = np.random.default_rng(1).integers(0, 256, (16, 32, 32, 3), np.uint8)
    labels = np.arange(16) % 10
    start = backend.get_weights()
    x = reference.inputs(EVERY, images, MEAN, STD)
    logits, loss, gradients = reference.loss_and_gradients(EVERY, start, x, labels)
    assert backend.predict(images) == pytest.approx(logits, abs=1e-6)
    own_loss, own = backend.gradients(images, labels)
    assert own_loss == pytest.approx(loss, abs=1e-6) and own.keys() == gradients.keys()
    for name, gradient in gradients.items():
        # Where rounding decides whether a ReLU lets a value pass, a gradient is off by more than rounding.
        assert np.linalg.norm(own[name] - gradient) < 1e-4 * np.linalg.norm(gradient) + 1e-9, name
    _, in_training, _ = reference.loss_and_gradients(EVERY, start, x, labels, training=True)
    backend.set_data(images, labels)
    take_steps(backend, plan_of(np.arange(16)[np.newaxis]))
    assert backend.metrics()[0] / 16 == pytest.approx(in_training, abs=1e-6) != pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize("framework", OTHERS)
def test_frameworks_agree_on_twenty_steps_of_every_layer(framework):
    images, labels = np.random.default_rng(1).integers(0, 256, (100, 32, 32, 3), np.uint8), np.arange(100) % 10
    found, expected = (losses_of(make(name, variant=EVERY, dropout=0.0), images, labels) for name in (framework, "tensorflow"))
    assert_same_steps(found, expected)


@pytest.mark.parametrize("framework", OTHERS)
@pytest.mark.parametrize("convention", ["torch", "keras"])
def test_frameworks_agree_on_twenty_steps(framework, convention, digits):
    """With the same start, batches and Adam the losses are the same; with the other Adam in one framework they are not."""

    def losses(name: str, adam: str) -> list[float]:
        return losses_of(make(name, dropout=0.0, adam_epsilon=adam), digits.train_images, digits.train_labels)

    theirs = losses("tensorflow", convention)
    assert losses(framework, convention) == pytest.approx(theirs, abs=2e-6)
    other = {"torch": "keras", "keras": "torch"}[convention]
    assert losses(framework, other) != pytest.approx(theirs, abs=2e-6)


def twenty_losses(framework: str, digits, execution: Execution, variant=TINY) -> list[float]:
    backend = make(framework, dropout=0.0, execution=execution, variant=variant, batch_size=16)
    return losses_of(backend, digits.train_images, digits.train_labels)


def assert_same_steps(found: list[float], expected: list[float]) -> None:
    """The losses differ only by rounding, whose effect grows from step to step."""
    assert found[:8] == pytest.approx(expected[:8], abs=5e-6)
    assert found == pytest.approx(expected, abs=2e-4)


# Larger than the images, so that they are enlarged as in the original study: PIL smooths when it makes images smaller.
LARGER = replace(TINY, name="larger", input_size=48)
PLAIN = Execution(step="plain")
WAYS = {
    "pytorch": ["fast", "plain+asynchronous", "plain+channels_last", "plain+fused_adam", "plain+kept_memory"],
    "tensorflow": ["fast", "plain+asynchronous", "plain+onednn", "plain+eager", "fast+xla"],
}


@pytest.mark.parametrize(("framework", "step"), [(framework, step) for framework in FRAMEWORKS for step in WAYS.get(framework, ["fast"])])
def test_every_way_of_taking_a_step_gives_the_same_losses(framework, step, digits):
    expected = twenty_losses(framework, digits, PLAIN, LARGER)
    assert_same_steps(twenty_losses(framework, digits, Execution(step=step), LARGER), expected)


@pytest.mark.slow
def test_a_compiled_step_has_the_gradients_of_the_plain_one(digits):
    """Also where pooling windows overlap and the output is a few pixels: on a CPU torch.compile gets that wrong without channels last."""
    variant = replace(
        TINY,
        input_size=10,
        layers=(layers.Conv(4, kernel=6), layers.MaxPool(3, stride=2), layers.Flatten(), layers.Dense(10, activation=None)),
    )
    first, second = (
        make("pytorch", variant=variant, execution=Execution(step=step)).gradients(digits.test_images, digits.test_labels)[1]
        for step in ("plain", "fast+compiled")
    )
    for name, gradient in first.items():
        assert second[name] == pytest.approx(gradient, abs=1e-5) and np.any(second[name]), name


@pytest.mark.parametrize("step", ["plain", "fast"])
@pytest.mark.parametrize("resize", ["batch", "image"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_image_by_image_gives_the_same_losses(framework, resize, step, digits):
    expected = twenty_losses(framework, digits, PLAIN, LARGER)
    found = twenty_losses(framework, digits, Execution("per_image", resize=resize, step=step), LARGER)
    if (backends.load(framework).tutorial_resize, resize) == ("image", "image"):
        # PIL rounds each resized pixel to a whole number from 0 to 255.
        assert found[:5] == pytest.approx(expected[:5], abs=2e-3)
    else:
        assert_same_steps(found, expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_bf16_is_close_and_not_the_same(framework, digits):
    expected = twenty_losses(framework, digits, PLAIN)
    found = twenty_losses(framework, digits, Execution(precision="bf16"))
    assert found == pytest.approx(expected, abs=0.05) and found != pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_what_an_execution_cannot_be_is_refused(framework):
    for execution, says in (
        (Execution(precision="tf32"), "execution.precision: tf32 is a GPU's number format"),
        (Execution(workers=2), "execution.workers: 2 workers have nothing to do with input: resident"),
        (Execution(step="quick"), "step: unknown 'quick' in 'quick'; choose fast or plain, then any of "),
        (Execution(step="plain+cuda_graph"), r"step: unknown 'cuda_graph' in 'plain\+cuda_graph'"),
    ):
        with pytest.raises(InputError, match=says):
            make(framework, execution=execution)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_setting_is_on_record(framework):
    settings = make(framework, execution=Execution("per_image", step="plain+asynchronous")).describe()["settings"]
    assert settings.items() >= {"input": "per_image", "workers": 0, "precision": "fp32", "asynchronous": True}.items()
    assert settings["resize"] == backends.load(framework).tutorial_resize
    assert settings["step"] == "plain+asynchronous"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_loader_and_step_apart_do_what_training_does(framework, digits):
    plan = plan_of(np.arange(60).reshape(3, 20))
    ends = []
    for apart in (False, True):
        backend = make(framework, batch_size=20)
        backend.set_data(digits.train_images, digits.train_labels)
        if apart:
            for batch in backend.load([plan]):
                backend.step(batch)
        else:
            take_steps(backend, plan)
        ends.append(backend.get_weights())
    for name, array in ends[0].items():
        assert ends[1][name] == pytest.approx(array, abs=1e-6)
    assert all(operations > 0 for _, operations in backend.peak_work().values())


def test_frameworks_resize_alike(digits):
    """The network does little but look at the resized image: one 1x1 convolution, flattened, then ten dense units."""
    from alexbench.experiment import layers

    looker = layers.Variant("looker", "", "", 48, (layers.Conv(3, kernel=1), layers.Flatten(), layers.Dense(10, activation=None)))
    logits = [make(framework, variant=looker).predict(digits.test_images) for framework in FRAMEWORKS]
    for other in logits[1:]:
        assert other == pytest.approx(logits[0], abs=5e-6)


def test_torchvisions_alexnet_is_ours(digits):
    """Our declaration is faithful to torchvision's network: as many parameters, and the same logits from the same weights."""
    import torch

    from alexbench.backends._torchvision import torchvision
    from alexbench.backends.pytorch import build

    variant = variants.get("alexnet_pretrained")
    theirs = torchvision().models.alexnet(weights=None, num_classes=10).eval()
    assert sum(p.numel() for p in theirs.parameters()) == 57_044_810
    names = variant.pretrained | {"dense3": "classifier.6"}
    state = theirs.state_dict()
    ours = build(variant, dropout=0.5).eval()
    ours.load_state_dict({f"{us}.{kind}": state[f"{them}.{kind}"] for us, them in names.items() for kind in ("weight", "bias")})
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32))
    with torch.inference_mode():
        assert ours(images).numpy() == pytest.approx(theirs(images).numpy(), abs=1e-6)


def shapes(recipe: Recipe, images: int, steps: int) -> list[tuple[int, ...]]:
    return [plan.images.shape for plan in batches(recipe, images, 1, 1, steps)]


def test_batches_are_every_image_once_in_an_order_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate([plan.images.ravel() for plan in batches(Recipe(batch_size=16), 50, seed, epoch, 2)]).tolist()

    assert shapes(Recipe(batch_size=16), 50, 2) == [(2, 16), (1, 16), (1, 2)]
    assert sorted(order(1, 1)) == list(range(50))
    assert order(1, 1) == order(1, 1) != order(1, 2) != order(2, 1)
    assert shapes(Recipe(batch_size=16), 32, 10) == [(2, 16)]
    assert shapes(Recipe(batch_size=16), 5, 10) == [(1, 5)]


def test_the_rest_of_an_epoch_is_what_was_not_done():
    recipe = Recipe(batch_size=16, epochs=2, schedule="one_cycle", warm_up_epochs=1, flips=True, crop_padding=2)

    def steps(most: int, done: int) -> list:
        plans = batches(recipe, 50, 1, 1, most, done)
        return [(i.tolist(), r, c.tolist()) for p in plans for i, r, c in zip(p.images, p.learning_rates, p.crops, strict=True)]

    for done in range(5):
        assert steps(2, done) == steps(1, 0)[done:]


def test_the_originals_last_batch_of_sixteen_is_trained_on():
    found = shapes(Recipe(), 50_000, loop.GPU_STEPS_PER_CALL)
    assert sum(steps for steps, _ in found) == 782 and found[-1] == (1, 16)


def test_the_learning_rate_rises_over_the_warm_up_and_falls_to_zero_in_one_cycle():
    recipe = Recipe(epochs=4, batch_size=10, learning_rate=0.1, warm_up_epochs=1)
    constant = np.concatenate([learning_rates(recipe, 100, epoch) for epoch in range(1, 5)])
    assert constant[:10] == pytest.approx(np.arange(1, 11) / 100) and (constant[10:] == np.float32(0.1)).all()
    cycle = np.concatenate([learning_rates(replace(recipe, schedule="one_cycle"), 100, epoch) for epoch in range(1, 5)])
    assert cycle[:10] == pytest.approx(constant[:10]) and (np.diff(cycle[9:]) < 0).all()
    # Halfway down the rate is half as high, and the last step still counts.
    assert cycle[9 + 15] == pytest.approx(0.05, rel=0.06) and 0 < cycle[-1] < 0.001
    assert (learning_rates(Recipe(), 100, 7) == np.float32(0.001)).all()


# Each part of the recipe that the original study leaves out, alone and all together; the values are large so that each has an effect.
BETTER = {
    "weight_decay": {"weight_decay": 5.0},
    "label_smoothing": {"label_smoothing": 0.3},
    "flips": {"flips": True},
    "crop_padding": {"crop_padding": 3},
    "schedule": {"schedule": "one_cycle", "warm_up_epochs": 1, "epochs": 3},
}
BETTER["all"] = {key: value for part in BETTER.values() for key, value in part.items()}
BETTER["sgd"] = {"optimizer": "sgd", "learning_rate": 0.05}
BETTER["nesterov"] = BETTER["sgd"] | {"nesterov": True}
BETTER["plain sgd"] = BETTER["sgd"] | {"momentum": 0.0}
BETTER["all with sgd"] = BETTER["all"] | BETTER["nesterov"] | {"weight_decay": 0.5}


@pytest.mark.parametrize("framework", OTHERS)
@pytest.mark.parametrize("part", BETTER)
def test_frameworks_agree_on_a_better_recipe(framework, part, digits):
    """On a network with batch normalisation. The part must also have an effect: without it, the losses differ."""
    # Noise, because in the flat parts of digits, rounding alone decides which of several equal numbers is the largest.
    images = np.random.default_rng(1).integers(0, 256, digits.train_images.shape, np.uint8)

    def losses(name: str, **recipe) -> list[float]:
        backend = make(name, variant=NORMALISED, dropout=0.0, batch_size=16, **recipe)
        return losses_of(backend, images, digits.train_labels, **recipe)

    theirs = losses("tensorflow", **BETTER[part])
    assert_same_steps(losses(framework, **BETTER[part]), theirs)
    assert losses(framework) != pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_augmented_image_is_a_mirrored_cut_out_of_the_padded_one(framework, digits):
    backend = make(framework, variant=NORMALISED, flips=True, crop_padding=3)
    backend.set_data(digits.train_images, digits.train_labels)
    crops = np.array([[[0, 5, 0], [2, 3, 1]]], np.int32)
    (batch,) = backend.load([Plan(np.array([[4, 7]]), np.ones(1, np.float32), crops)])
    first, second = np.pad(digits.train_images[[4, 7]], ((0, 0), (3, 3), (3, 3), (0, 0)))
    expected = np.stack([first[0:32, 5:37], second[2:34, 3:35][:, ::-1]])
    inputs, labels = backend.as_arrays(batch)
    assert inputs == pytest.approx(((expected / 255 - MEAN) / STD).transpose(0, 3, 1, 2), abs=1e-5)
    assert labels.tolist() == digits.train_labels[[4, 7]].tolist()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_batch_normalisation_is_the_declared_one(framework, digits):
    """Training normalises by the batch's mean and variance, and updates the running ones, the variance with divisor n - 1."""
    variant = layers.Variant("norm", "", "", 32, (layers.BatchNorm(activation=None), layers.Flatten(), layers.Dense(10, activation=None)))
    backend = make(framework, variant=variant, batch_size=2)
    backend.set_data(digits.train_images, digits.train_labels)
    take_steps(backend, plan_of(np.arange(2)[np.newaxis]))
    x = (digits.train_images[:2] / 255 - MEAN) / STD
    after = backend.get_weights()
    assert after["batchnorm1.running_mean"] == pytest.approx(0.1 * x.mean(axis=(0, 1, 2)), abs=2e-5)
    assert after["batchnorm1.running_var"] == pytest.approx(0.9 + 0.1 * x.var(axis=(0, 1, 2), ddof=1), abs=5e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_frozen_features_stay_and_the_classifier_learns(framework, digits):
    variant = replace(TINY, pretrained={"conv1": "features.0", "conv2": "features.3"})
    backend = make(framework, variant=variant, frozen_features=True, weight_decay=1.0)
    start = backend.get_weights()
    backend.set_data(digits.train_images, digits.train_labels)
    take_steps(backend, plan_of(np.arange(60).reshape(3, 20)))
    changed = {name for name, array in backend.get_weights().items() if not np.array_equal(array, start[name])}
    assert changed == {"dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias"}
    _, gradients = backend.gradients(digits.test_images, digits.test_labels)
    assert gradients.keys() == changed
    # A network without pretrained weights has nothing to freeze.
    assert layers.trained(TINY, frozen_features=True) == layers.trained(TINY)


def test_data_sets_have_ten_classes():
    assert len(digits_source.read().classes) == 10


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_logits_are_float32_whatever_the_precision(framework):
    backend = make(framework, execution=replace(FAST, precision="bf16"))
    logits = backend.predict(np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), np.uint8))
    # A bfloat16 number has zeros in the lower half of a float32's 32 bits.
    assert logits.dtype == np.float32 and np.any(logits.view(np.uint32) & 0xFFFF)


def test_warming_up_compiles_what_evaluation_needs():
    backend = make("tensorflow")
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (300, 16, 16, 3), np.uint8), np.arange(300) % 10
    dataset = datasets.Dataset("made up", images[:40], labels[:40], images, labels, tuple("0123456789"))
    backend.set_data(dataset.train_images, dataset.train_labels)
    loop._warm_up(backend, dataset, Recipe(batch_size=16), seed=1)
    traced = backend._predict.experimental_get_tracing_count()
    backend.predict(dataset.test_images)
    assert backend._predict.experimental_get_tracing_count() == traced


SECOND_DEVICE = """
import numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from alexbench.experiment.execution import Execution
from test_backends import make, plan_of
for resize in ("image", "batch"):
    for workers in (0, 2):
        with tf.device("CPU:1"):
            execution = Execution(input="per_image", resize=resize, workers=workers)
            backend = make("tensorflow", threads=None, execution=execution, batch_size=4)
            backend.set_data(np.zeros((8, 8, 8, 3), np.uint8), np.zeros(8, np.int64))
            plan = plan_of(np.arange(8).reshape(2, 4))
            for inputs, labels in backend.load([plan]):
                here = tf.constant(0.0)
                assert {tensor.device[-5:] for tensor in (inputs, labels, here)} == {"CPU:1"}, (inputs.device, here.device)
            assert sum(backend.train([plan])) == 2
            assert backend.images.device[-5:] == "CPU:0" and backend.scale.device[-5:] == "CPU:1"
"""


def test_images_prepared_by_the_host_leave_the_steps_where_the_caller_computes():
    # A second logical CPU stands in for the GPU. It must be declared before TensorFlow starts, hence the separate process.
    path = os.pathsep.join(str(ROOT / part) for part in ("scripts", "tests"))
    command = [sys.executable, "-c", SECOND_DEVICE]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
