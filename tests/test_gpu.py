"""On a GPU, where there is one: the fast path does the same mathematics as the plain one, and can be interrupted."""

import numpy as np
import pytest

from alexbench import backends
from alexbench.backends import FRAMEWORKS
from alexbench.experiment.execution import Execution
from alexbench.training import loop
from test_backends import LARGER, MEAN, STD, assert_same_steps, losses_of, plan_of, take_steps

MODULES = {"pytorch": "torch", "tensorflow": "tensorflow"}
STEPS = {
    "pytorch": [
        "fast",
        "fast+cuda_graph",
        "fast+compiled",
        "fast+cuda_graph+compiled",
        "fast+channels_last+autotuned",
        "plain+channels_last",
        "plain+fused_adam",
        "plain+autotuned",
    ],
    "tensorflow": ["fast", "fast+xla", "plain+asynchronous", "plain+xla", "plain+eager"],
}
WAYS = [(framework, step) for framework in FRAMEWORKS for step in STEPS.get(framework, ["fast"])]


@pytest.fixture(autouse=True)
def needs_a_gpu(framework) -> None:
    """Skip where the framework is not installed or sees no GPU."""
    pytest.importorskip(MODULES.get(framework, framework))
    if not backends.load(framework).probe()[1]:
        pytest.skip(f"needs a GPU that {framework} sees")


def on_gpu(framework: str, execution: Execution, **recipe):
    """A backend on the GPU, with weights but without data."""
    from alexbench.experiment import weights
    from alexbench.experiment.recipe import Recipe

    settings = Recipe(**{"initialisation": "torch", "adam_epsilon": "torch", "batch_size": 16, **recipe}).resolved({}, "imagenet")
    backend = backends.load(framework)(backends.Setup(LARGER, settings, MEAN, STD, "cuda", 1, 1, execution))
    backend.set_weights(weights.initialise(LARGER, "torch", 1))
    return backend


def losses(backend, digits) -> list[float]:
    return losses_of(backend, digits.train_images, digits.train_labels)


@pytest.mark.parametrize("epsilon", ["torch", "keras"])
@pytest.mark.parametrize(("framework", "step"), WAYS)
def test_every_way_gives_the_same_losses(framework, step, epsilon, digits):
    plain = losses(on_gpu(framework, Execution(step="plain"), dropout=0.0, adam_epsilon=epsilon), digits)
    assert_same_steps(losses(on_gpu(framework, Execution(step=step), dropout=0.0, adam_epsilon=epsilon), digits), plain)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("resize", ["framework", "image", "batch"])
@pytest.mark.parametrize("step", ["plain", "fast"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_image_by_image_gives_the_same_losses_on_the_gpu(framework, step, resize, workers, digits):
    plain = losses(on_gpu(framework, Execution(step="plain"), dropout=0.0), digits)
    backend = on_gpu(framework, Execution("per_image", workers, resize, step), dropout=0.0)
    found = losses(backend, digits)
    if (backend.tutorial_resize, backend.describe()["settings"]["resize"]) == ("image", "image"):
        # PIL rounds each resized pixel to a whole number from 0 to 255.
        assert found[:5] == pytest.approx(plain[:5], abs=2e-3)
    else:
        assert_same_steps(found, plain)
    (batch,) = backend.load([plan_of(np.arange(16)[np.newaxis])])
    assert all("cuda" in str(tensor.device) or "GPU" in str(tensor.device) for tensor in batch)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize("framework", ["tensorflow"])
def test_tensorflow_needs_no_operation_that_a_gpu_has_not(framework, precision, digits):
    """With soft placement off, an operation without a GPU kernel fails; otherwise it would run on the CPU without a word."""
    import tensorflow as tf

    tf.config.set_soft_device_placement(False)
    try:
        for asked in ({}, {"step": "plain"}, {"step": "plain", "input": "per_image"}):
            assert len(losses(on_gpu(framework, Execution(precision=precision, **asked)), digits)) == 20
    finally:
        tf.config.set_soft_device_placement(True)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_coarser_numbers_are_close_and_not_the_same(framework, precision, digits):
    exact = losses(on_gpu(framework, Execution(), dropout=0.0), digits)
    coarse = losses(on_gpu(framework, Execution(precision=precision), dropout=0.0), digits)
    assert coarse == pytest.approx(exact, abs=0.05) and coarse != exact


@pytest.mark.parametrize(("framework", "step"), [*((name, "fast") for name in FRAMEWORKS), ("pytorch", "fast+cuda_graph")])
def test_warming_up_leaves_no_trace_and_a_state_comes_back(framework, step, digits):
    from alexbench.experiment.recipe import Recipe

    ends = []
    for warm in (False, True):
        backend = on_gpu(framework, Execution(step=step))
        backend.set_data(digits.train_images, digits.train_labels)
        if warm:
            loop._warm_up(backend, digits, Recipe(batch_size=20), seed=1)
        take_steps(backend, plan_of(np.arange(60).reshape(3, 20)))
        state = backend.state()
        take_steps(backend, plan_of(np.arange(60).reshape(3, 20)))
        first = backend.get_weights()["conv1.weight"].copy()
        backend.set_state(state)
        take_steps(backend, plan_of(np.arange(60).reshape(3, 20)))
        assert backend.get_weights()["conv1.weight"] == pytest.approx(first, abs=1e-5)
        ends.append(first)
    assert ends[0] == pytest.approx(ends[1], abs=1e-5)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_deterministic_runs_repeat_to_the_bit(framework, digits):
    def weights_after() -> dict[str, np.ndarray]:
        backend = on_gpu(framework, Execution(deterministic=True))
        losses(backend, digits)
        return backend.get_weights()

    first, second = weights_after(), weights_after()
    assert all(np.array_equal(first[name], second[name]) for name in first)
