"""The training loop, shared by all frameworks: epochs, clocks, evaluation, checkpoints, outcome."""

import fcntl
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Self

import numpy as np
from tqdm import tqdm

from alexbench import machine
from alexbench.backends import PREDICT_BATCH_SIZE, Backend
from alexbench.experiment import recipe as recipes
from alexbench.experiment.datasets import Dataset
from alexbench.experiment.recipe import Recipe
from alexbench.files import write_json
from alexbench.training import checkpoint
from alexbench.training.checkpoint import Clocks, Progress
from alexbench.training.interruption import Interrupted, Stop
from alexbench.training.tensorboard import Events

# Steps per call on a GPU: few enough for a live progress bar and a quick response to a signal, enough to keep the GPU's queue full.
# On a CPU a step is slow enough to be called on its own.
GPU_STEPS_PER_CALL = 10
# Shortest interval between progress lines (without a terminal) and between updates of the progress file.
SECONDS_PER_LINE = 30.0
SECONDS_PER_FILE = 5.0
# Half-width of a 95 % normal interval in standard deviations. The frameworks' environments have no SciPy.
NORMAL = NormalDist().inv_cdf(0.975)


@dataclass
class Outcome:
    """The outcome of a training.

    `status`: "completed"; "diverged" if a loss was not finite (accuracy and loss are then None); "collapsed" if `has_collapsed` says so.
    `progress`: history, clocks, and the logits of the test images after the last epoch.
    """

    status: str
    accuracy: float | None
    loss: float | None
    progress: Progress


@dataclass(frozen=True)
class RunFolder:
    """A run's folder: its checkpoint, and files that show its progress to other programs."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def progress(self) -> Path:
        return self.folder / "progress.json"

    @property
    def do_not_retry(self) -> Path:
        """The file that says why retrying this run would fail the same way."""
        return self.folder / "do_not_retry.txt"

    @contextmanager
    def alone(self, say: Callable[[str], None]) -> Iterator[None]:
        """Lock the folder for the duration of the block; wait if another process, such as a job that outlived its Snakemake, holds it.

        The lock is on the folder itself and ends with the process, however it ends. Where the file system has no locks, the run goes ahead.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = self.progress.read_text(encoding="utf-8") if self.progress.exists() else "{}"
            say(f"another process is training this run; waiting for it to end: {other.strip()}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            say(f"{self.folder} cannot be locked ({error.strerror}): make sure that no other job trains this run")
        try:
            yield
        finally:
            os.close(handle)

    def tell(self, **what: object) -> None:
        """Write progress.json: the run's current state and its process."""
        process = {"pid": os.getpid(), "hostname": socket.gethostname(), "slurm_job_id": os.environ.get("SLURM_JOB_ID")}
        write_json(self.progress, what | process)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log softmax(logits)[label], in float64; logits (n, classes), labels (n,)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that are classified correctly; logits (n, classes), labels (n,)."""
    return float(np.mean(logits.argmax(axis=1) == labels))


def has_collapsed(logits: np.ndarray, labels: np.ndarray) -> bool:
    """Whether a network learned nothing: it predicts one class for every image, or its accuracy is not above chance.

    Chance is the largest class's share of the images. The accuracy is above chance if the lower end of its Wilson 95 % interval is.
    The loss plays no part: a correct network may be unsure, and a guessing one sure. Logits (n, classes), labels (n,).
    """
    predicted = logits.argmax(axis=1)
    chance = np.bincount(labels).max() / len(labels)
    lower = wilson_lower(int((predicted == labels).sum()), len(labels))
    return len(np.unique(predicted)) == 1 or bool(lower <= chance)


def wilson_lower(correct: int, n: int) -> float:
    """Lower end of Wilson's 95 % score interval for `correct` out of `n`; the same as `stats.wilson`, without SciPy."""
    share, z = correct / n, NORMAL**2 / n
    return (share + z / 2 - sqrt(z * share * (1 - share) + z**2 / 4)) / (1 + z)


def peak_process_memory_bytes() -> int:
    """Peak resident memory of this process, in bytes."""
    # Not ru_maxrss on Linux: it survives exec, so a process starts with its launcher's peak.
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM:")))
    # macOS reports bytes, other systems KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def train(
    backend: Backend,
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    run_folder: RunFolder,
    identity: dict,
    setup_seconds: float,
    stop: Stop,
    say: Callable[[str], None] = print,
    budget_seconds: float | None = None,
    events: Events | None = None,
    runs_per_gpu: int = 1,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> Outcome:
    """Train `backend`, which already has its weights and the training images of `dataset`, and evaluate it after every epoch.

    With `validation`, images, uint8 (n, height, width, 3), and labels, int64 (n,), each epoch is evaluated on these, and the test images
    are seen once, after the last epoch.

    Evaluation does not count as training time. A checkpoint is written after every epoch but the last. Once `stop` is true, the steps in
    hand are finished, a checkpoint is written and Interrupted is raised. Training resumes from a checkpoint with the same `identity`.
    It ends after an epoch whose loss is not finite.
    `say` gets one line per epoch and, without a progress bar, lines in between. `events` gets every epoch.
    With `budget_seconds`, the number of epochs is the one that comes closest to that much training time, whatever the recipe says.
    `runs_per_gpu` is recorded in the progress.
    """
    images = len(dataset.train_labels)
    kind, (seen, labels) = ("validation", validation) if validation else ("test", (dataset.test_images, dataset.test_labels))
    start = Clocks(setup_seconds=setup_seconds)
    with start.measure("compile"):
        _warm_up(backend, dataset, recipe, seed, validation)
    length = f"{recipe.epochs} epochs" if budget_seconds is None else f"for {budget_seconds:.1f} s"
    say(f"compiled in {start.compile_seconds:.1f} s; training on {images:,} images, {length}")

    progress = Progress()
    resumed = checkpoint.load(run_folder.checkpoint, identity, say)
    if resumed:
        progress, state = resumed
        backend.set_state(state)
        say(f"resumed after {progress.epochs_run} epochs and {progress.steps_run} steps (interruption {progress.interruptions})")
    device_name = backend.describe()["device_name"] or machine.cpu_name()
    if device_name not in progress.device_names:
        progress.device_names.append(device_name)
    progress.runs_per_gpu = max(progress.runs_per_gpu, runs_per_gpu)
    clocks = progress.clocks
    clocks.setup_seconds += start.setup_seconds
    clocks.compile_seconds += start.compile_seconds

    def save(state: dict[str, np.ndarray]) -> None:
        with clocks.measure("checkpoint"):
            checkpoint.save(run_folder.checkpoint, identity, progress, state)

    steps_per_call = 1 if backend.describe()["device"] == "cpu" else GPU_STEPS_PER_CALL
    steps_per_epoch = -(-images // recipe.batch_size)
    while progress.epochs_run < (epochs := _epochs(progress, recipe, budget_seconds)):
        epoch, before = progress.epochs_run + 1, clocks.train_seconds
        with clocks.measure("train"):
            with _Reporter(recipe, epochs, images, progress, run_folder, say) as reporter:
                plans = recipes.batches(recipe, images, seed, epoch, steps_per_call, progress.steps_run)
                with closing(backend.train(plans)) as work:
                    for steps in work:
                        progress.steps_run += steps
                        reporter.update()
                        if stop:
                            break
            # Both calls wait for the device. In an unfinished epoch the sums stay in the state, since reading them would clear them.
            whole = progress.steps_run == steps_per_epoch
            loss_sum, correct = backend.metrics() if whole else (0.0, 0)
            state = {} if whole else backend.state()
        progress.epoch_seconds += clocks.train_seconds - before
        if not whole:
            save(state)
            raise Interrupted(f"{stop.signal.name}: saved after {progress.epochs_run} epochs and {progress.steps_run} steps")

        with clocks.measure("evaluate"):
            progress.logits = backend.predict(seen)

        row = {"epoch": epoch, "train_loss": loss_sum / images, "train_accuracy": correct / images}
        finite = isfinite(loss_sum) and bool(np.isfinite(progress.logits).all())
        row[f"{kind}_loss"] = cross_entropy(progress.logits, labels) if finite else None
        row[f"{kind}_accuracy"] = accuracy(progress.logits, labels) if finite else None
        row["learning_rate"] = float(recipes.learning_rates(recipe, images, epoch)[-1])
        row["seconds"] = progress.epoch_seconds
        progress.history.append(row)
        if events:
            events.update(progress, images)
        progress.epochs_run, progress.steps_run, progress.epoch_seconds = epoch, 0, 0.0
        if not finite:
            say(f"epoch {epoch}/{epochs}  the loss is not finite: diverged")
            if validation:
                progress.logits = backend.predict(dataset.test_images)
            return Outcome("diverged", None, None, progress)
        epochs = _epochs(progress, recipe, budget_seconds)
        left = max(epochs - epoch, 0) * (clocks.train_seconds + clocks.evaluate_seconds) / epoch
        say(
            f"epoch {epoch}/{epochs}  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}"
            f"  {kind} loss {row[f'{kind}_loss']:.4f} accuracy {row[f'{kind}_accuracy']:.4f}"
            f"  {row['seconds']:.1f} s, {images / row['seconds']:.0f} images/s" + (f"  about {_span(left)} left" if left else "")
        )
        if epoch < epochs:
            save(backend.state())
            if stop:
                raise Interrupted(f"{stop.signal.name}: saved after {epoch} epochs")

    if validation:
        with clocks.measure("evaluate"):
            progress.logits = backend.predict(dataset.test_images)
        if not np.isfinite(progress.logits).all():
            return Outcome("diverged", None, None, progress)
    status = "collapsed" if has_collapsed(progress.logits, dataset.test_labels) else "completed"
    return Outcome(status, accuracy(progress.logits, dataset.test_labels), cross_entropy(progress.logits, dataset.test_labels), progress)


def _epochs(progress: Progress, recipe: Recipe, budget_seconds: float | None) -> int:
    """Number of epochs to train: the recipe's or, with a budget and one epoch timed, the number that comes closest to the budget."""
    if budget_seconds is None or not progress.epochs_run:
        return recipe.epochs
    return max(1, round(budget_seconds * progress.epochs_run / progress.clocks.train_seconds))


def _warm_up(
    backend: Backend, dataset: Dataset, recipe: Recipe, seed: int, validation: tuple[np.ndarray, np.ndarray] | None = None
) -> None:
    """Compile, autotune and allocate everything that training needs, then restore the network's state."""
    state = backend.state()
    sizes = {}
    for plan in recipes.batches(recipe, len(dataset.train_labels), seed, 1, 1):
        sizes.setdefault(plan.images.size, plan)
    for plan in sizes.values():
        for _ in backend.train([plan]):
            pass
    backend.metrics()
    # One full batch and one the size of the last, so that evaluation compiles nothing while it is timed.
    for images in (dataset.test_images, *(validation or ())[:1]):
        backend.predict(images[: PREDICT_BATCH_SIZE + len(images) % PREDICT_BATCH_SIZE])
    backend.set_state(state)


def _span(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes > 9 else f"{60 * minutes + seconds} s"


class _Reporter:
    """Reports progress within an epoch: a bar on a terminal, otherwise an occasional line, and in both cases the progress file."""

    def __init__(
        self, recipe: Recipe, epochs: int, images: int, progress: Progress, run_folder: RunFolder, say: Callable[[str], None]
    ) -> None:
        self.recipe, self.epochs, self.images, self.progress, self.run_folder, self.say = recipe, epochs, images, progress, run_folder, say
        self.title = f"epoch {progress.epochs_run + 1}/{epochs}"
        self.first = min(progress.steps_run * recipe.batch_size, images)
        self.done = self.first
        self.started = time.perf_counter()
        self.next_line, self.next_file = self.started + SECONDS_PER_LINE, self.started

    def __enter__(self) -> Self:
        title, images, first = self.title, self.images, self.first
        self.bar = tqdm(desc=title, total=images, initial=first, unit=" images", unit_scale=True, leave=False, disable=None)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def update(self) -> None:
        done = min(self.progress.steps_run * self.recipe.batch_size, self.images)
        self.bar.update(done - self.done)
        self.done = done
        now = time.perf_counter()
        rate = (self.done - self.first) / (now - self.started)
        if self.bar.disable and now > self.next_line:
            self.say(f"{self.title}  {self.done:,} of {self.images:,} images, {rate:.0f} images/s")
            self.next_line = now + SECONDS_PER_LINE
        if now > self.next_file:
            left = (self.epochs - self.progress.epochs_run) * self.images - self.done
            self.run_folder.tell(
                stage="training",
                epoch=self.progress.epochs_run + 1,
                epochs=self.epochs,
                images=self.done,
                epoch_images=self.images,
                images_per_second=rate,
                seconds_left=left / rate,
                interruptions=self.progress.interruptions,
            )
            self.next_file = now + SECONDS_PER_FILE
