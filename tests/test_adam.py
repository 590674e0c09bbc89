"""Adam's steps equal those of float64 NumPy, within the precision of float32 weights."""

from math import sqrt

import numpy as np
import pytest

from alexbench import backends
from alexbench.experiment import weights
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import Plan, Recipe
from conftest import TINY

RATE, BETA_1, BETA_2 = np.float32(0.001), 0.9, 0.999
EPSILON = {"torch": 1e-8, "keras": 1e-7}


class Adam:
    """Kingma and Ba's Adam in float64; with "keras", Keras's epsilon is added to the uncorrected root of the second moment."""

    def __init__(self, epsilon: str) -> None:
        self.epsilon, self.step, self.first, self.second = epsilon, 0, 0.0, 0.0

    def update(self, gradient: np.ndarray) -> np.ndarray:
        """What a step adds to the weights with this gradient, in float64."""
        self.step += 1
        gradient = gradient.astype(np.float64)
        self.first = BETA_1 * self.first + (1 - BETA_1) * gradient
        self.second = BETA_2 * self.second + (1 - BETA_2) * gradient**2
        root = sqrt(1 - BETA_2**self.step)
        epsilon = EPSILON[self.epsilon] / (1 if self.epsilon == "torch" else root)
        return -float(RATE) * self.first / (1 - BETA_1**self.step) / (np.sqrt(self.second) / root + epsilon)


def largest_error(framework: str, epsilon: str, step: str, digits) -> float:
    """The largest error of what a step adds to a bias, as a share of the learning rate, over some steps on the same images.

    Biases start at zero in Keras's initialisation, so that small additions are not lost in their last bits.
    """
    recipe = Recipe(batch_size=16, dropout=0.0, initialisation="keras", adam_epsilon=epsilon).resolved({}, "unit")
    how = Execution(step=step)
    setup = backends.Setup(TINY, recipe, np.zeros(3, np.float32), np.ones(3, np.float32), "cpu", 1, 1, how)
    backend = backends.load(framework)(setup)
    backend.set_weights(weights.initialise(TINY, "keras", 1))
    backend.set_data(digits.train_images, digits.train_labels)
    images = np.arange(16)
    plan = Plan(images[np.newaxis], RATE[np.newaxis], np.zeros((1, 16, 3), np.int32))
    adams, worst = {}, 0.0
    before = backend.get_weights()
    for _ in range(3):
        _, gradients = backend.gradients(digits.train_images[images], digits.train_labels[images])
        assert sum(backend.train([plan])) == 1
        after = backend.get_weights()
        for name in (name for name in gradients if name.endswith("bias")):
            expected = adams.setdefault(name, Adam(epsilon)).update(gradients[name])
            # Leave out gradients as small as the rounding of a sum.
            some = np.abs(gradients[name]) > 1e-3
            error = np.abs((after[name].astype(np.float64) - before[name])[some] - expected[some])
            # Not as a share of the step, which is small where gradients of opposite signs cancel.
            worst = max([worst, *error / RATE])
        before = after
    return worst


@pytest.mark.parametrize(
    ("framework", "step"),
    [("pytorch", "fast"), ("pytorch", "plain"), ("tensorflow", "fast"), ("tensorflow", "plain"), ("tensorflow", "plain+xla")],
)
def test_steps_are_those_of_float64(framework, step, digits):
    assert largest_error(framework, "torch", step, digits) < 1.5e-6


def test_the_epsilon_of_keras_in_each_framework(digits):
    """Keras's own Adam computes the bias correction in float32, as config/README.md says."""
    assert largest_error("pytorch", "keras", "fast", digits) < 1.5e-6
    assert 1e-6 < largest_error("tensorflow", "keras", "fast", digits) < 2e-5
