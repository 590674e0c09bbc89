#!/usr/bin/env python3
"""Record what one framework computes, for compare_parity.py: inputs, logits, loss, gradients, and the losses of some training steps.

Writes an .npz file and, beside it, a .safetensors file with the weights as the framework returns them. Every framework gets the same
initial weights, the same batches and PyTorch's Adam, without dropout.

    python scripts/measure_parity.py --framework pytorch --variant alexnet_mod --data resources/data/digits.npz --output pytorch.npz
"""

import argparse
import hashlib
from itertools import islice
from pathlib import Path

import numpy as np

from alexbench import backends, machine, numeric
from alexbench.experiment import recipe, weights
from alexbench.experiment.execution import Execution
from alexbench.experiment.streams import Use, stream
from alexbench.files import InputError, replacing, run_program
from alexbench.settings import add_options, from_options
from alexbench.training import lease, options

SEED = 1


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_network(p)
    p.add_argument("--output", required=True, type=Path, metavar="NPZ")
    p.add_argument(
        "--weights",
        type=Path,
        metavar="SAFETENSORS",
        help="initial weights of all layers, such as an earlier run wrote (default: random, from a fixed seed)",
    )
    p.add_argument(
        "--images", type=numeric.positive(int), default=4, metavar="N", help="images to record logits and gradients for (%(default)s)"
    )
    p.add_argument("--steps", type=numeric.positive(int), default=20, metavar="N", help="training steps to record losses for (%(default)s)")
    p.add_argument("--batch-size", type=numeric.positive(int), default=recipe.Recipe().batch_size, help="images per step (%(default)s)")
    p.add_argument(
        "--learning-rate",
        type=numeric.positive(float),
        default=1e-4,
        help="learning rate, small so that rounding grows slowly (%(default)s)",
    )
    add_options(p, Execution)
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    with lease.one_gpu(args.device):
        measure(args)
    return 0


def measure(args: argparse.Namespace) -> None:
    """Run the framework and write what it computes."""
    how = from_options(args, Execution)
    if args.output.suffix == ".safetensors":
        raise InputError(f"--output: {args.output} is where the weights go; end it in .npz")
    dataset, variant = options.load_network(args)
    if not args.batch_size * args.steps <= len(dataset.train_labels):
        raise InputError(f"--steps: {args.steps} steps of {args.batch_size} images are more than an epoch of {dataset.name}; lower either")
    settings = recipe.Recipe(
        batch_size=args.batch_size, learning_rate=args.learning_rate, dropout=0.0, initialisation="torch", adam_epsilon="torch"
    ).resolved({}, variant.normalisation)
    mean, std = recipe.channel_scaling(settings.normalisation, dataset)
    start = weights.initialise(variant, "torch", SEED)
    if args.weights:
        start, _ = weights.read(args.weights)
        weights.check(variant, start, str(args.weights))
    threads = min(args.threads, machine.available_threads())
    backend = backends.load(args.framework, how)(backends.Setup(variant, settings, mean, std, args.device, threads, SEED, how))
    backend.set_weights(start)
    weights.write(args.output.with_suffix(".safetensors"), backend.get_weights(), {"variant": variant.name})

    images, labels = dataset.test_images[: args.images], dataset.test_labels[: args.images]
    loss, gradients = backend.gradients(images, labels)
    shown = {f"gradient.{name}": gradient for name, gradient in gradients.items()}
    shown |= {"logits": backend.predict(images), "loss": np.array(loss), "images": images, "labels": labels, "mean": mean, "std": std}
    backend.set_data(dataset.train_images, dataset.train_labels)
    plans = list(islice(recipe.batches(settings, len(dataset.train_labels), SEED, 1, 1), args.steps))
    digest = hashlib.sha256()
    for batch in backend.load(plans):
        inputs, batch_labels = backend.as_arrays(batch)
        shown.setdefault("inputs", inputs[: args.images])
        digest.update(_pixels(inputs, dataset.train_images.shape[1], mean, std))
        digest.update(np.ascontiguousarray(batch_labels, np.int64))
    shown["input_images"] = dataset.train_images[plans[0].images[0][: args.images]]
    shown["batches_sha256"] = np.array(digest.hexdigest())
    before = backend.state()
    shown["step_losses"] = _losses(backend, plans)
    # The same steps again, from weights that differ in the last bit: this shows how far rounding alone drives the losses apart.
    backend.set_state(before)
    random = stream(SEED, Use.ROUNDING)
    backend.set_weights({name: np.nextafter(w, np.float32(random.choice((-9, 9), w.shape))) for name, w in start.items()})
    shown["twin_losses"] = _losses(backend, plans)
    # To an open file, because NumPy adds .npz to a name that lacks it.
    with replacing(args.output) as temporary, temporary.open("wb") as file:
        np.savez(file, **shown)


def _losses(backend: backends.Backend, plans: list[recipe.Plan]) -> np.ndarray:
    """Mean loss of each step of `plans`, float64 (steps,)."""
    losses = []
    for plan in plans:
        for _ in backend.train([plan]):
            pass
        losses.append(backend.metrics()[0] / plan.images.size)
    return np.array(losses)


def _pixels(inputs: np.ndarray, side: int, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Recover the pixels, uint8 (n, 3, side, side), from a network's inputs, float32 (n, 3, size, size).

    If the images were enlarged by an odd factor, the middle of each enlarged pixel has kept its value.
    """
    factor = inputs.shape[2] // side
    middle = inputs[:, :, factor // 2 :: factor, factor // 2 :: factor]
    return np.ascontiguousarray(np.round((np.float64(middle) * std[:, None, None] + mean[:, None, None]) * 255), np.uint8)


if __name__ == "__main__":
    run_program(main)
