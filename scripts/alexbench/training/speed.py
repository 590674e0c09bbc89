"""The arms of the experiment on speed, and the measurement of one arm.

An arm is one way to carry out the same training. The ladder goes from what a framework's tutorials do ("notebook") to the fast path; each
rung adds one change and keeps the earlier ones. Each arm is measured in its own process: the loader alone, the step alone, both together.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from alexbench.backends import Backend
from alexbench.experiment import recipe as recipes
from alexbench.experiment.execution import Execution, contradictions
from alexbench.experiment.recipe import Plan, Recipe
from alexbench.training.loop import GPU_STEPS_PER_CALL, peak_process_memory_bytes

WORKERS = 2
# Fewest steps to measure, after the warm-up; a step of a large network takes seconds on a CPU.
LEAST_STEPS = 2


@dataclass(frozen=True)
class Arm:
    """One way to train.

    `kind`: "ladder" (a rung, in order), "precision" (the fast step in another number format) or "extra".
    `change`: what this rung adds to the one below, or what is special about this arm.
    """

    name: str
    kind: str
    change: str
    execution: Execution


def arms(backend: type[Backend], device: str, resized: bool) -> list[Arm]:
    """The arms of a framework on a device ("cpu", "cuda"); `resized`: whether the images must be resized for the network."""
    tutorial = Execution("per_image", step="plain")
    rungs = [
        Arm("notebook", "ladder", "as in tutorials: image by image", tutorial),
        Arm("workers", "ladder", f"{WORKERS} workers", with_workers := replace(tutorial, workers=WORKERS)),
    ]
    extra = []
    if resized:
        other = {"image": "batch", "batch": "image"}[backend.tutorial_resize]
        elsewhere = replace(with_workers, resize=other)
        if other == "batch":
            rungs.append(Arm("batch_resize", "ladder", "resized by the batch", elsewhere))
        else:
            extra.append(Arm("image_resize", "extra", f"{WORKERS} workers, resized image by image", elsewhere))
    step = "plain"
    rungs.append(Arm("resident", "ladder", "data set on the device", Execution(step=step)))
    fast = Execution()
    # A fast step without switches is the plain step; it is still measured, because other arms are compared with it.
    *below, last = [name for name, on in fast.switches(backend.switches, device).items() if on] or [None]
    for name in below:
        step += f"+{name}"
        rungs.append(Arm(name, "ladder", backend.switches[name].title, Execution(step=step)))
    rungs.append(Arm("fast", "ladder", backend.switches[last].title if last else "the fast step, which is the plain one here", fast))
    precisions = {"cpu": ("bf16",), "cuda": ("tf32", "bf16")}[device]
    others = [Arm(precision, "precision", f"in {precision}", Execution(precision=precision)) for precision in precisions]
    if device == "cuda":
        # The frameworks' own defaults on a GPU: TensorFlow uses TF32 everywhere, PyTorch only in convolutions.
        extra.append(Arm("notebook_tf32", "extra", "as in tutorials, in tf32", replace(tutorial, precision="tf32")))
    extra.append(Arm("per_image_fast", "extra", "fast step, image by image", replace(tutorial, step="fast")))
    for step in backend.extra_steps[device]:
        name = step.partition("+")[2]
        extra.append(Arm(name, "extra", f"{step.partition('+')[0]} step, {backend.switches[name].title}", Execution(step=step)))
    for arm in (*rungs, *others):
        arm.execution.check(device, backend.switches)
    # Leave out extras that contradict the fast step they build on.
    return [*rungs, *others, *(arm for arm in extra if not any(contradictions(vars(arm.execution), device, backend.switches)))]


def measure(backend: Backend, images: int, recipe: Recipe, seed: int, seconds: float) -> dict:
    """Measure one arm with a backend that has its data.

    Returns seconds per image (`together_seconds`, `loader_seconds`, `step_seconds`); `first_step_seconds`, compilation included;
    `steps`, the number that `together_seconds` was measured over; the machine's `matmul_flops` and `copy_bytes`, both per second; and
    `peak_memory_bytes`. Only full batches are used. After a warm-up, each measurement lasts at least `seconds` and two steps.
    """
    now = time.perf_counter
    a_call = 1 if backend.describe()["device"] == "cpu" else GPU_STEPS_PER_CALL

    batch_size = recipe.batch_size

    def plans() -> Iterator[Plan]:
        epoch = 0
        while True:
            epoch += 1
            yield from (plan for plan in recipes.batches(recipe, images, seed, epoch, a_call) if plan.images.shape[1] == batch_size)

    started = now()
    for _ in backend.train([next(plans())[:1]]):
        backend.metrics()
    first_step = now() - started
    together, steps = _rate(backend.train(_some(plans())), backend.metrics, seconds)
    loader, _ = _rate((1 for _ in backend.load(_some(plans()))), lambda: None, seconds)
    batch = next(backend.load(plan[:1] for plan in _some(plans())))

    def repeat() -> Iterator[int]:
        while True:
            backend.step(batch)
            yield 1

    alone, _ = _rate(repeat(), backend.metrics, seconds)
    peak_memory_bytes = backend.peak_memory_bytes() or peak_process_memory_bytes()
    peaks = _peaks(backend, seconds / 5)
    return {
        "together_seconds": together / batch_size,
        "loader_seconds": loader / batch_size,
        "step_seconds": alone / batch_size,
        "first_step_seconds": first_step,
        "steps": steps,
        "matmul_flops": peaks["matmul"],
        "copy_bytes": peaks["copy"],
        "peak_memory_bytes": peak_memory_bytes,
    }


def _some(plans: Iterator[Plan]) -> Iterator[Plan]:
    """A finite number of plans, since a loader may read them all at once."""
    for _ in range(20_000):
        yield next(plans)


def _rate(work: Iterator[int], wait: Callable[[], object], seconds: float) -> tuple[float, int]:
    """Seconds per step and number of steps of `work`, which yields step counts; `wait` returns once the device has finished."""
    now = time.perf_counter
    next(work)
    wait()
    started, steps = now(), 0
    for done in work:
        steps += done
        if steps >= LEAST_STEPS and now() - started >= seconds:
            break
    wait()
    elapsed = now() - started
    if hasattr(work, "close"):
        work.close()
    return elapsed / steps, steps


def _peaks(backend: Backend, seconds: float) -> dict[str, float]:
    """Operations or bytes per second for each kind of `peak_work`: the best repetition within `seconds`."""
    best = {}
    for name, (work, amount) in backend.peak_work().items():
        work()
        end = time.perf_counter() + seconds
        shortest = float("inf")
        while time.perf_counter() < end or shortest == float("inf"):
            started = time.perf_counter()
            work()
            shortest = min(shortest, time.perf_counter() - started)
        best[name] = amount / shortest
    return best
