"""How a recipe is carried out: what decides its speed, and, but for the precision, not what it computes."""

import argparse
import ctypes
import sys
from dataclasses import dataclass

from alexbench import numeric
from alexbench.files import InputError

INPUTS = ("resident", "per_image")
RESIZES = ("framework", "image", "batch")
STEPS = ("fast", "plain")
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Switch:
    """Something that a framework can do or leave to make a step faster.

    `title`: what is done, for tables and figures. `devices`: where it can be done ("cpu", "cuda"). `fast`: where it belongs to the
    fast step, since it was measured to help there.
    """

    title: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    fast: tuple[str, ...] = ()


@dataclass(frozen=True)
class Execution:
    """How training is carried out.

    `input`: "resident" keeps the data set on the device as uint8 and gathers, scales and resizes there, a batch at a time; "per_image"
    prepares one image after another on the host, the way of the frameworks' tutorials.
    `workers`: per_image's processes (PyTorch) or parallel calls (TensorFlow) beside the training one; 0 for none.
    `resize`: where per_image resizes, "image" by image on the host or the whole "batch" in the network; "framework" for its tutorials' way.
    `step`: "fast", "plain" (the tutorials' way), or either with switches of the framework's turned on: "plain+channels_last".
    `precision`: of matrix products and convolutions. "fp32" is IEEE's; "tf32" (GPUs alone) rounds their factors to 10 bits of mantissa,
    "bf16" to 7 and keeps activations so; weights, sums and Adam stay fp32.
    `deterministic`: the same bits each time on a GPU too, by slower kernels; on a CPU they are the same anyway.
    """

    input: str = "resident"
    workers: int = 0
    resize: str = "framework"
    step: str = "fast"
    precision: str = "fp32"
    deterministic: bool = False

    def switches(self, known: dict[str, Switch], device: str) -> dict[str, bool]:
        """Which of a framework's switches are on, of those that `device` has. InputError where `step` names another."""
        base, *extra = self.step.split("+")
        there = {name: switch for name, switch in known.items() if device in switch.devices}
        if base not in STEPS or not set(extra) <= set(there):
            unknown = base if base not in STEPS else next(name for name in extra if name not in there)
            raise InputError(
                f"step: unknown {unknown!r} in {self.step!r}; choose fast or plain, then any of {', '.join(f'+{name}' for name in there)}"
            )
        return {name: name in extra or (base == "fast" and device in switch.fast) for name, switch in there.items()}

    @classmethod
    def from_options(cls, args: argparse.Namespace) -> "Execution":
        """What was said with the options of `add_options`."""
        return cls(args.input, args.workers, args.resize, args.step, args.precision, args.deterministic)

    def as_options(self) -> list[str]:
        """The options that say this."""
        said = [f"--{name}={value}" for name, value in vars(self).items() if name != "deterministic"]
        return [*said, "--deterministic" if self.deterministic else "--no-deterministic"]

    def check(self, device: str) -> None:
        """InputError where `device` cannot do what is asked for."""
        if self.precision == "tf32" and device != "cuda":
            raise InputError("execution.precision: tf32 is a GPU's number format, and this training runs on a CPU; say fp32 or bf16")
        if self.input == "resident" and self.workers:
            raise InputError(
                f"execution.workers: {self.workers} workers have nothing to do with input: resident; say 0, or input: per_image"
            )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Have a program take an Execution."""
    defaults = Execution()
    group = parser.add_argument_group("execution")
    group.add_argument("--input", choices=INPUTS, default=defaults.input, help="data set on the device, or image by image (%(default)s)")
    group.add_argument(
        "--workers",
        type=numeric.few,
        default=defaults.workers,
        metavar="N",
        help="of per_image, beside the training (%(default)s)",
    )
    group.add_argument("--resize", choices=RESIZES, default=defaults.resize, help="where per_image resizes (%(default)s)")
    group.add_argument("--step", default=defaults.step, metavar="fast|plain", help="or with switches: plain+channels_last (%(default)s)")
    switch = argparse.BooleanOptionalAction
    group.add_argument("--deterministic", action=switch, default=defaults.deterministic, help="the same bits each time on a GPU too")
    group.add_argument("--precision", choices=PRECISIONS, default=defaults.precision, help="of products and convolutions (%(default)s)")


# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next allocation, for the rest of this process; nothing elsewhere than on Linux with glibc.

    By default blocks of more than 32 MB go back to the kernel at once, and each step asks for the same ones again: it spends its
    time on page faults, on memory that the kernel fills with zeros first.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
