"""How a recipe is carried out: settings that change the speed and, except for the precision, not what is computed."""

import ctypes
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from alexbench.files import InputError
from alexbench.settings import setting

INPUTS = ("resident", "per_image")
RESIZES = ("framework", "image", "batch")
STEPS = ("fast", "plain")
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Switch:
    """An option of a framework's training step, on or off, that affects its speed.

    `title`: what it does, for tables and figures. `devices`: where it is available ("cpu", "cuda").
    `fast`: by device, the precisions with which it was measured to help, so that the fast step uses it; docs/benchmarks.md has the figures.
    `expected`: devices whose fast step uses it although nobody has measured it there: it only leaves out work and cannot cost anything.
    `excludes`: what it cannot be combined with (another switch, "deterministic" or an input), and why. Only one of two switches says so.
    `needs`: by device, the switches without which it computes something else, and why.
    """

    title: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    fast: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    excludes: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def in_fast(self, device: str, precision: str) -> bool:
        """Whether the fast step uses it."""
        return precision in self.fast.get(device, ()) or device in self.expected


@dataclass(frozen=True)
class Execution:
    """How training is carried out."""

    input: str = setting(
        "resident",
        help="resident: keep the whole data set on the device; per_image: prepare images one by one on the host",
        about="`resident`: the data set is kept on the device as uint8, and each batch is gathered, scaled and resized there. `per_image`: "
        "images are prepared one by one on the host, as in the frameworks' tutorials.",
        enum=INPUTS,
    )
    workers: int = setting(
        0,
        help="for per_image: loader processes (PyTorch) or parallel calls (TensorFlow)",
        about="For `per_image`: loader processes (PyTorch) or parallel calls (TensorFlow) in addition to the training process.",
        metavar="N",
        minimum=0,
        maximum=64,
    )
    resize: str = setting(
        "framework",
        help="for per_image: resize one image at a time, or a batch in the network; framework: as in that framework's tutorials",
        about="Where `per_image` resizes: `image`, one by one on the host, or `batch`, all at once in the network. `framework`: as in each "
        "framework's tutorials (PyTorch `image`, TensorFlow `batch`).",
        enum=RESIZES,
    )
    step: str = setting(
        "fast",
        help="fast: what was measured to help on that device; plain: as in the framework's tutorials; +SWITCH adds to either",
        about="`fast`: what was measured to help on the device at hand. Nothing was measured on a GPU yet, so there `fast` only avoids "
        "waiting and kernel launches ([the switches](../docs/benchmarks.md#switches)). `plain`: as in each framework's tutorials. Both do "
        "the same mathematics. With `deterministic: true`, `fast` leaves out what has no deterministic form. The option of `train.py` also "
        "takes single switches: `--step plain+channels_last`.",
        metavar="fast|plain",
        extensible=True,
        enum=STEPS,
    )
    precision: str = setting(
        "fp32",
        help="precision of matrix products and convolutions",
        about="Precision of matrix products and convolutions: `fp32` is IEEE's in every framework; `tf32` (GPUs only) rounds factors to 10 "
        "bits of mantissa; `bf16` rounds them to 7 bits and stores activations that way. Weights, sums and Adam stay in fp32.",
        enum=PRECISIONS,
    )
    deterministic: bool = setting(
        False,
        help="identical bits each time on a GPU too, with slower kernels",
        about="`true`: the same seed, machine and versions give identical bits on a GPU too, with slower kernels (PyTorch: "
        "`use_deterministic_algorithms`, no autotuning; TensorFlow: `enable_op_determinism`, no XLA). On a CPU results are identical "
        "anyway, given the same number of threads.",
    )

    def switches(self, known: dict[str, Switch], device: str) -> dict[str, bool]:
        """Whether each of the framework's switches that `device` has is on. InputError if `step` names an unknown one, or if settings
        contradict each other."""
        base, *extra = self.step.split("+")
        there = {name: switch for name, switch in known.items() if device in switch.devices}
        if base not in STEPS or not set(extra) <= set(there):
            unknown = base if base not in STEPS else next(name for name in extra if name not in there)
            raise InputError(
                f"execution.step: unknown {unknown!r} in {self.step!r}; "
                f"choose fast or plain, then any of {', '.join(f'+{name}' for name in there)}"
            )
        self.check(device, known)
        return {name: self._turns_on(name, known, device) for name in there}

    def _turns_on(self, name: str, known: Mapping[str, Switch], device: str) -> bool:
        """Whether a switch is on: `step` names it, or it belongs to the fast step and nothing that was asked for excludes it."""
        base, *extra = self.step.split("+")
        fast = base == "fast" and known[name].in_fast(device, self.precision)
        return name in extra or (fast and not any(_reason(name, other, known) for other in [*self._conditions(), *extra]))

    def _conditions(self) -> dict[str, str]:
        """What a switch may exclude besides other switches, each with the setting that asks for it, for messages."""
        conditions = {self.input: f"execution.input: {self.input}"}
        return conditions | ({"deterministic": "execution.deterministic: true"} if self.deterministic else {})

    def as_options(self) -> list[str]:
        """The options that describe this Execution."""
        said = [f"--{name}={value}" for name, value in vars(self).items() if name != "deterministic"]
        return [*said, "--deterministic" if self.deterministic else "--no-deterministic"]

    def check(self, device: str, known: Mapping[str, Switch] | None = None) -> None:
        """InputError if `device` cannot do what is asked for, or if settings contradict each other; `known`: the framework's switches."""
        for line in contradictions(vars(self), device, known or {}):
            raise InputError(line)


def contradictions(
    execution: Mapping[str, Any],
    device: str,
    known: Mapping[str, Switch] | None = None,
    recipe: Mapping[str, Any] | None = None,
    as_long_as: bool = False,
) -> Iterator[str]:
    """Yield one line, with the way out, for each contradiction in what was asked for. No other code decides this.

    `execution`, `recipe`: values by key, as in the configuration. `device`: "auto" if it is not known yet. `known`: the framework's
    switches, once a framework is chosen. `as_long_as`: the number of epochs depends on how long another run took.
    """
    how = Execution(**execution)
    if how.precision == "tf32" and device == "cpu":
        yield "execution.precision: tf32 is a GPU's number format, and device is cpu; say fp32 or bf16, or train on a GPU"
    if how.input == "resident":
        if how.workers:
            yield f"execution.workers: {how.workers} workers have nothing to do with input: resident; say workers: 0, or input: per_image"
        if how.resize == "image":
            yield (
                "execution.resize: image does not go with execution.input: resident, which resizes a batch at a time; "
                "say resize: framework, or input: per_image"
            )
    given = how._conditions()
    for name in how.step.split("+")[1:]:
        for other, label in given.items():
            if reason := _reason(name, other, known or {}):
                yield f"execution.step: +{name} and {label} exclude each other ({reason}); leave one of them out"
        given[name] = f"+{name}"
        needs = known[name].needs.get(device, {}) if known and name in known else {}
        for other, reason in needs.items():
            if not how._turns_on(other, known, device):
                yield f"execution.step: +{name} needs +{other} on a {device.upper()} ({reason}); say {how.step}+{other}"
    if recipe is None:
        return
    if how.input != "resident" and (recipe["flips"] or recipe["crop_padding"]):
        yield (
            f"recipe.flips, recipe.crop_padding: images are mirrored and cropped with execution.input: resident alone, not with "
            f"{how.input}; say input: resident, or flips: false and crop_padding: 0"
        )
    if recipe["nesterov"] and not (recipe["optimizer"] == "sgd" and recipe["momentum"]):
        yield "recipe.nesterov: Nesterov's is a form of SGD's momentum; say optimizer: sgd and a momentum above 0, or nesterov: false"
    epochs, warm_up = recipe["epochs"], recipe["warm_up_epochs"]
    if warm_up > epochs:
        yield f"recipe.warm_up_epochs: {warm_up:g} is more than the {epochs} epochs of recipe.epochs; lower it, or train longer"
    if as_long_as and recipe["schedule"] != "constant":
        yield f"recipe.schedule: {recipe['schedule']} has to know the number of epochs, --as-long-as does not; choose constant"


def _reason(name: str, other: str, known: Mapping[str, Switch]) -> str | None:
    """Why a switch and something else exclude each other; None if they do not."""
    here, there = (known[key].excludes if key in known else {} for key in (name, other))
    return here.get(other) or there.get(name)


# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Make glibc keep freed memory for later allocations, for the rest of this process. Does nothing except on Linux with glibc.

    By default, blocks of more than 32 MB go back to the kernel at once, and each step asks for the same ones again. It then spends its
    time on page faults, because the kernel fills new memory with zeros.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
