"""The training of one cell, written once for every framework: epochs, clocks, evaluation, outcome."""

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite, log
from typing import Self

import numpy as np
from tqdm import tqdm

from alexbench import recipe as recipes
from alexbench.backends import Backend
from alexbench.datasets import Dataset
from alexbench.recipe import Recipe

# Steps handed to a backend at once: few enough for a live progress bar, enough to keep a GPU's queue full.
STEPS_PER_CALL = 10
# Without a terminal, a line of progress at most this often.
SECONDS_PER_LINE = 30.0
# A final loss this close to that of guessing means that the network learned nothing.
COLLAPSE_MARGIN = 0.01


@dataclass
class Clocks:
    """Seconds by what they were spent on. Monotonic; the device is waited for at each boundary."""

    setup_seconds: float = 0.0
    compile_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0


@dataclass
class Outcome:
    """What a training came to.

    `status`: "completed"; "diverged" where a loss was not finite (accuracy and loss are None then); "collapsed" where the
    network ended at guessing. `history`: a dict an epoch. `logits`: float32 (n, 10) of the test images, by the last epoch's weights.
    """

    status: str
    accuracy: float | None
    loss: float | None
    logits: np.ndarray
    clocks: Clocks
    epochs_run: int = 0
    history: list[dict] = field(default_factory=list)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label], in float64; logits (n, classes), labels (n,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def has_collapsed(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a network ended at guessing: a loss within 0.01 of ln(classes), or one class for every image."""
    at_chance = abs(cross_entropy(logits, labels) - log(logits.shape[1])) < COLLAPSE_MARGIN
    return at_chance or len(np.unique(logits.argmax(axis=1))) == 1


def peak_process_memory_bytes() -> int:
    """The most memory that this process has had resident."""
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def train(backend: Backend, dataset: Dataset, recipe: Recipe, seed: int, clocks: Clocks, say: Callable[[str], None] = print) -> Outcome:
    """Train `backend`, whose weights are set, on `dataset`; evaluate after every epoch, outside the training clock.

    A loss that is not finite ends the training after its epoch. `say` is given a line an epoch.
    """
    now = time.perf_counter
    images = len(dataset.train_labels)
    backend.set_data(dataset.train_images, dataset.train_labels)
    started = now()
    _warm_up(backend, dataset, recipe, seed)
    clocks.compile_seconds = now() - started
    say(f"compiled in {clocks.compile_seconds:.1f} s; training on {images:,} images, {recipe.epochs} epochs")

    outcome = Outcome("completed", None, None, np.empty(0), clocks)
    for epoch in range(1, recipe.epochs + 1):
        started = now()
        with _Progress(epoch, recipe.epochs, images, say) as progress:
            for plan in recipes.batches(images, recipe.batch_size, seed, epoch, STEPS_PER_CALL):
                backend.train(plan)
                progress.update(plan.size)
            loss_sum, correct = backend.metrics()
        seconds = now() - started
        clocks.train_seconds += seconds

        started = now()
        outcome.logits = backend.predict(dataset.test_images)
        clocks.evaluate_seconds += now() - started

        finite = isfinite(loss_sum) and bool(np.isfinite(outcome.logits).all())
        row = {"epoch": epoch, "train_loss": loss_sum / images, "train_accuracy": correct / images}
        if finite:
            row["test_loss"] = cross_entropy(outcome.logits, dataset.test_labels)
            row["test_accuracy"] = float(np.mean(outcome.logits.argmax(axis=1) == dataset.test_labels))
        else:
            row |= {"test_loss": None, "test_accuracy": None}
        row["seconds"] = seconds
        outcome.history.append(row)
        outcome.epochs_run = epoch
        if not finite:
            say(f"epoch {epoch}/{recipe.epochs}  the loss is not finite: diverged")
            outcome.status = "diverged"
            return outcome
        left = (recipe.epochs - epoch) * (clocks.train_seconds + clocks.evaluate_seconds) / epoch
        say(
            f"epoch {epoch}/{recipe.epochs}  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}"
            f"  test loss {row['test_loss']:.4f} accuracy {row['test_accuracy']:.4f}"
            f"  {seconds:.1f} s, {images / seconds:.0f} images/s" + (f"  about {_span(left)} left" if left else "")
        )

    outcome.loss, outcome.accuracy = outcome.history[-1]["test_loss"], outcome.history[-1]["test_accuracy"]
    if has_collapsed(outcome.logits, dataset.test_labels):
        outcome.status = "collapsed"
    return outcome


def _warm_up(backend: Backend, dataset: Dataset, recipe: Recipe, seed: int) -> None:
    """Have everything compiled, chosen and allocated that training needs, and leave no trace of it in the network."""
    state = backend.state()
    sizes = {}
    for plan in recipes.batches(len(dataset.train_labels), recipe.batch_size, seed, 0, 1):
        sizes.setdefault(plan.size, plan)
    for plan in sizes.values():
        backend.train(plan)
    backend.metrics()
    backend.predict(dataset.test_images[: recipe.batch_size])
    backend.set_state(state)


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes > 9 else f"{60 * minutes + seconds} s"


class _Progress:
    """A bar on a terminal; without one, a line now and then."""

    def __init__(self, epoch: int, epochs: int, images: int, say: Callable[[str], None]) -> None:
        self.title, self.images, self.say = f"epoch {epoch}/{epochs}", images, say
        self.done, self.started = 0, time.perf_counter()
        self.next_line = self.started + SECONDS_PER_LINE

    def __enter__(self) -> Self:
        self.bar = tqdm(desc=self.title, total=self.images, unit=" images", unit_scale=True, leave=False, disable=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self, images: int) -> None:
        self.done += images
        self.bar.update(images)
        now = time.perf_counter()
        if self.bar.disable and now > self.next_line:
            rate = self.done / (now - self.started)
            self.say(f"{self.title}  {self.done:,} of {self.images:,} images, {rate:.0f} images/s")
            self.next_line = now + SECONDS_PER_LINE
