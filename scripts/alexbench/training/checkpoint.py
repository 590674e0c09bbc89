"""Where a training stands, on disk: enough to go on from any step, to the bit, after whatever ended the process.

A checkpoint is one safetensors file: the backend's state and the last logits as tensors, everything else as JSON in its metadata.
It is moved into place whole. It belongs to one configuration of one machine and one version of the code; any other is set aside.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from alexbench.experiment import weights
from alexbench.files import InputError, RefusedError

_LOGITS = "logits"


@dataclass
class Clocks:
    """Seconds by what they were spent on, over all pieces of an interrupted run. Monotonic; the device is waited for at each boundary."""

    setup_seconds: float = 0.0
    compile_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    checkpoint_seconds: float = 0.0


@dataclass
class Progress:
    """How far a training is.

    `epochs_run`: whole epochs; `steps_run`: steps of the epoch after these, and `epoch_seconds` their time; `history`: a dict a
    whole epoch; `logits`: float32 (n, 10) of the test images after the last whole epoch; `interruptions`: how often the run was resumed;
    `device_names`: what it has run on; `runs_per_gpu`: how many shared a GPU of these at most.
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
    """Write a checkpoint. `identity`: all that a run has to have in common with this one to go on from it, as JSON."""
    content = asdict(progress)
    logits = content.pop("logits")
    metadata = {"identity": json.dumps(identity), "progress": json.dumps(content)}
    weights.write(path, state | {_LOGITS: logits}, metadata)


def load(path: Path, identity: dict, say: Callable[[str], None]) -> tuple[Progress, dict[str, np.ndarray]] | None:
    """Progress and state to go on from, or None where there is no checkpoint of this very run.

    One that is damaged or of another run is renamed to `.set-aside`, and `say` is told why.
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
    except RefusedError:  # it may be whole
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
    """Each key whose value is not the same, with the checkpoint's value and this run's."""
    found = []
    for key in ours.keys() | theirs.keys():
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            found.append(_differences(mine, other, f"{prefix}{key}."))
        elif mine != other:
            found.append(f"{prefix}{key} was {other!r}, is {mine!r}")
    return ", ".join(sorted(filter(None, found)))
