"""With the same seed, what is drawn for one purpose is independent of what is drawn for another."""

from itertools import product

import numpy as np
import pytest

import measure_parity
from alexbench.experiment import variants, weights
from alexbench.experiment.recipe import Recipe, batches
from alexbench.experiment.streams import Use, stream


@pytest.fixture
def started(monkeypatch) -> list[int]:
    """The starting states of all NumPy generators made from now on."""
    found, make = [], np.random.default_rng

    def noted(*arguments):
        generator = make(*arguments)
        found.append(generator.bit_generator.state["state"]["state"])
        return generator

    monkeypatch.setattr(np.random, "default_rng", noted)
    return found


@pytest.mark.parametrize("seed", [0, 1, 4294967295])
def test_a_training_draws_no_stream_twice(started, seed):
    """Layer k's weights once came from the stream of epoch k's order, bit for bit."""
    weights.initialise(variants.get("alexnet_tuned"), "torch", seed)
    layers = len(started)
    for epoch in range(1, 16):
        assert len(list(batches(Recipe(flips=True, crop_padding=4), 100, seed, epoch, 1))) == 2
    assert layers == 7 and len(started) == layers + 3 * 15
    assert len(set(started)) == len(started)


def test_a_comparison_draws_no_stream_twice(started, digits_file, tmp_path):
    """The direction of the one-bit changes to the weights once came from the first layer's stream: to NumPy, seed 1 is [1, 0]."""
    small = ["--images=2", "--steps=1", "--batch-size=4", "--device=cpu", "--threads=1"]
    command = ["--framework=pytorch", "--variant=alexnet_mod", f"--data={digits_file}", f"--output={tmp_path / 'shown.npz'}"]
    assert measure_parity.main([*command, *small]) == 0
    assert len(started) == 8 + 1 + 1 and len(set(started)) == len(started)


def test_uses_numbers_and_seeds_are_kept_apart():
    # To NumPy, seeds of more than 32 bits look like two numbers.
    seeds = [0, 1, 2, 2**32 - 1, 2**32, 2**32 + 1, 2**64 + 1]
    drawn = {tuple(stream(seed, use, number).integers(0, 2**62, 4)) for seed, use, number in product(seeds, Use, range(20))}
    plain = {tuple(np.random.default_rng(seed).integers(0, 2**62, 4)) for seed in seeds}
    assert len(drawn | plain) == len(seeds) * len(Use) * 20 + len(seeds)


def test_mirroring_does_not_change_where_images_are_cut_nor_the_reverse():
    def of(**recipe) -> tuple[np.ndarray, np.ndarray]:
        plans = list(batches(Recipe(batch_size=10, **recipe), 100, 1, 3, 10))
        return np.concatenate([plan.images.ravel() for plan in plans]), np.concatenate([plan.crops.reshape(-1, 3) for plan in plans])

    both, flipped, cropped, neither = of(flips=True, crop_padding=4), of(flips=True), of(crop_padding=4), of()
    assert all(np.array_equal(both[0], other[0]) for other in (flipped, cropped, neither))
    assert np.array_equal(both[1][:, :2], cropped[1][:, :2]) and np.array_equal(both[1][:, 2], flipped[1][:, 2])
    assert not neither[1].any() and not np.array_equal(both[0], np.sort(both[0]))
