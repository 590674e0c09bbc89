"""Checkpoints: enough state on disk to resume a training from any step, bit for bit, however the process ended.

A checkpoint is one safetensors file: the backend's state and the last logits as tensors, everything else as JSON in its metadata.
It is written to a temporary file and moved into place. It is valid for one configuration, machine and code version; a checkpoint from any
other run is set aside.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from alexbench.experiment import weights
from alexbench.files import InputError, RefusedError

_LOGITS = "logits"


@dataclass
class Clocks:
    """Seconds spent in each phase, summed over all parts of an interrupted run. A monotonic clock, read after the device has finished."""

    setup_seconds: float = 0.0
    compile_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    checkpoint_seconds: float = 0.0

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        """Add the seconds that the block takes to a phase, such as "train". The block's last call must wait for the device."""
        name, started = f"{phase}_seconds", time.perf_counter()
        yield
        setattr(self, name, getattr(self, name) + time.perf_counter() - started)


@dataclass
class Progress:
    """How far a training has got.

    `epochs_run`: completed epochs. `steps_run`, `epoch_seconds`: steps done in the current epoch, and the time they took.
    `history`: one dict per completed epoch. `logits`: float32 (n, classes) of the test images, or those for validation, after the last
    completed epoch.
    `interruptions`: how often the run was resumed. `device_names`: every device it has run on. `runs_per_gpu`: the largest number of runs
    that shared one of these GPUs.
    """

    clocks: Clocks = field(default_factory=Clocks)
    epochs_run: int = 0
    steps_run: int = 0
    epoch_seconds: float = 0.0
    history: list[dict] = field(default_factory=list)
    logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    interruptions: int = 0
    device_names: list[str] = field(default_factory=list)
    runs_per_gpu: int = 1


def save(path: Path, identity: dict, progress: Progress, state: dict[str, np.ndarray]) -> None:
    """Write a checkpoint. `identity`: what must match for a run to resume from it, JSON-serialisable."""
    content = asdict(progress)
    logits = content.pop("logits")
    metadata = {"identity": json.dumps(identity), "progress": json.dumps(content)}
    weights.write(path, state | {_LOGITS: logits}, metadata)


def load(path: Path, identity: dict, say: Callable[[str], None]) -> tuple[Progress, dict[str, np.ndarray]] | None:
    """Progress and state to resume from, or None if there is no checkpoint with this `identity`.

    A checkpoint that is damaged or belongs to another run is renamed to `.set-aside`, and `say` gets the reason.
    """
    if not path.exists():
        return None
    try:
        state, metadata = weights.read(path)
        theirs = json.loads(metadata["identity"])
        content = json.loads(metadata["progress"])
        different = _differences(identity, theirs)
        reason = f"it is of another run ({different})" if different else ""
        progress = Progress(**content | {"clocks": Clocks(**content["clocks"]), "logits": state.pop(_LOGITS)})
    except RefusedError:  # it may be intact
        raise
    except (InputError, KeyError, TypeError, ValueError) as error:
        reason = f"it is damaged ({error})"
    if reason:
        aside = path.with_suffix(".set-aside")
        path.replace(aside)
        say(f"checkpoint {path}: {reason}; set aside as {aside.name}, starting from the beginning")
        return None
    progress.interruptions += 1
    return progress, state


def _differences(ours: dict, theirs: dict, prefix: str = "") -> str:
    """Each key whose value differs, with the checkpoint's value and this run's."""
    found = []
    for key in ours.keys() | theirs.keys():
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            found.append(_differences(mine, other, f"{prefix}{key}."))
        elif mine != other:
            found.append(f"{prefix}{key} was {other!r}, is {mine!r}")
    return ", ".join(sorted(filter(None, found)))
