"""Read the files of runs, and runs.csv, the table of them all, without needing any framework."""

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench import arrays, tables
from alexbench.analysis import comparability, stats
from alexbench.experiment import datasets
from alexbench.files import InputError, raise_refusal
from alexbench.metrics import upgraded
from alexbench.paths import RUN
from alexbench.tables import Column

STATUSES = ("completed", "collapsed", "diverged")
# Computed from a run's predictions.
CALIBRATION = "calibration_error"
# Computed where the classes are unbalanced.
UNBALANCED = ("balanced_accuracy", "macro_f1")
COLLECT_AGAIN = "delete it and make it again with scripts/collect.py"

_NUMBER = (int, float)
# Metrics that a table needs: type, smallest and largest value (None: no limit).
_EXPECTED = {
    "framework": (str, None, None),
    "framework_title": (str, None, None),
    "variant": (str, None, None),
    "variant_title": (str, None, None),
    "seed": (int, 0, None),
    "dataset": (str, None, None),
    "start": (str, None, None),
    "device": (str, None, None),
    "device_name": (str, None, None),
    "data_sha256": (str, None, None),
    "parameters": (int, 1, None),
    "epochs": (int, 1, None),
    "batch_size": (int, 1, None),
    "train_images": (int, 1, None),
    "test_images": (int, 1, None),
    "setup_seconds": (_NUMBER, 0, None),
    "compile_seconds": (_NUMBER, 0, None),
    "train_seconds": (_NUMBER, 0, None),
    "evaluate_seconds": (_NUMBER, 0, None),
    "images_per_second": (_NUMBER, 0, None),
    "peak_memory_bytes": (int, 0, None),
    "threads": (int, 1, None),
}
_OF_COMPLETED = {"accuracy": (_NUMBER, 0, 1), "loss": (_NUMBER, 0, None)}
# Missing or None if a run used all images.
_LIMITS = ("train_limit", "test_limit")

# Columns to read as text even if they look like numbers: version 3.10, or a hash that has only digits.
_TEXTS = ("made_with", "code", "network", "git_commit")
# Columns of every history; `read_history` knows which values may be missing.
_HISTORY = ("epoch", "train_loss", "train_accuracy", "evaluated_loss", "evaluated_accuracy", "seconds")


def _columns(expected: dict, **like: bool) -> dict[str, Column]:
    """Convert entries of `expected` (type, limits) to columns for `tables.read`."""
    kinds = {key: float if kind is _NUMBER else kind for key, (kind, *_) in expected.items()}
    bounds = {key: {"least": least, "most": np.inf if most is None else most} for key, (_, least, most) in expected.items()}
    return {key: Column(kinds[key], **bounds[key], **like) for key in expected}


# runs.csv, one row per run; tables of older runs lack some columns.
COLUMNS = _columns(_EXPECTED) | _columns(_OF_COMPLETED, gaps=True) | {"group": Column(int, 1), "made_with": Column(gaps=True)}
COLUMNS |= {"status": Column(choices=STATUSES), "folder": Column(), CALIBRATION: Column(float, 0, 1, gaps=True)}
COLUMNS |= {key: Column(int, 1, gaps=True, optional=True) for key in ("train_limit", "test_limit")}
COLUMNS |= {"checkpoint_seconds": Column(float, 0, gaps=True, optional=True), "runs_per_gpu": Column(int, 1, optional=True)}
COLUMNS |= {key: Column(int, 0, optional=True) for key in ("left_out", "in_both", "validation_images")}
COLUMNS |= {key: Column(float, 0, 1, gaps=True, optional=True) for key in UNBALANCED}


@dataclass(frozen=True)
class Run:
    """One run of the grid and the folder of its files."""

    framework: str
    variant: str
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.framework} {self.variant} seed {self.seed}"


def grid(folder: Path, frameworks: Iterable[str], variants: Iterable[str], seeds: Iterable[int]) -> list[Run]:
    """Every run of the grid in a folder of results, in the order of the tables."""
    return [Run(f, v, s, folder / RUN.format(framework=f, variant=v, seed=s)) for f in frameworks for v in variants for s in seeds]


def read_metrics(run: Run, path: Path | None = None) -> dict:
    """Read and check a run's metrics.json, or `path`; InputError names the file, the field, its value and what was expected."""
    path = path or run.folder / "metrics.json"
    try:
        metrics = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise_refusal(error, "results", path)
        raise InputError(f"results: {path} is not JSON ({error}); delete it and train the run again") from None
    if not isinstance(metrics, dict):
        raise InputError(f"results: {path} holds no metrics; delete it and train the run again")
    try:
        metrics = upgraded(metrics)
    except InputError as error:
        raise InputError(f"results: {path}: {error}") from None
    status = metrics.get("status")
    if status not in STATUSES:
        raise InputError(f"results: {path}: status is {status!r}; expected one of {', '.join(STATUSES)}")
    expected = _EXPECTED | (_OF_COMPLETED if status == "completed" else {})
    expected |= {key: (int, 1, None) for key in _LIMITS if metrics.get(key) is not None}
    for key, (kind, least, most) in expected.items():
        value = metrics.get(key)
        number = isinstance(value, _NUMBER)
        # Reject NaN, infinity and integers too large for a float.
        if not isinstance(value, kind) or isinstance(value, bool) or (number and not abs(value) <= sys.float_info.max):
            raise InputError(f"results: {path}: {key} is {value!r}; delete the file and train the run again")
        if (least is not None and value < least) or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"{least} to {most}"
            raise InputError(f"results: {path}: {key} is {value!r}; expected {bounds}")
    for key in ("framework", "variant", "seed"):
        if metrics[key] != getattr(run, key):
            raise InputError(f"results: {path} is of {key} {metrics[key]!r}; its place is that of {getattr(run, key)!r}")
    return metrics


def read_history(folder: Path | str) -> pd.DataFrame:
    """Read a run's history.csv, one row per epoch; what was evaluated in each, on test or validation images, as `evaluated_`.

    InputError unless it is complete and its numbers finite, except in the last epoch of a diverged run.
    """
    path = Path(folder) / "history.csv"
    beside = _metrics_beside(folder)
    again = f"delete {path.parent} and train the run again"
    kind = "validation" if beside["validation_images"] else "test"
    columns = [name.replace("evaluated", kind) for name in _HISTORY]
    history = tables.read(path, dict.fromkeys(columns, Column(object, gaps=True)), again, what="history")
    epochs = history.epoch.tolist()
    if epochs != list(range(1, beside["epochs"] + 1)):
        raise InputError(f"results: {path} has the epochs {epochs}; its metrics.json is of {beside['epochs']}; {again}")
    numbers = history[:-1] if beside["status"] == "diverged" else history
    for name in columns:
        values = pd.to_numeric(numbers[name], errors="coerce")
        bad = numbers[~np.isfinite(values)]
        if len(bad):
            epoch, value = bad.epoch.iloc[0], bad[name].iloc[0]
            raise InputError(f"results: {path}: {name} of epoch {epoch} is {value}, expected a finite number; {again}")
    return history.rename(columns=dict(zip(columns, _HISTORY, strict=True)))


def evaluated_on(runs: pd.DataFrame) -> str:
    """On which images the runs were evaluated in every epoch: "test" or "validation"."""
    return "validation" if "validation_images" in runs and (runs.validation_images > 0).any() else "test"


def read_predictions(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """A run's test logits, float32 (n, classes), and labels, int64 (n,); InputError if they are damaged or do not match its metrics."""
    path = Path(folder) / "predictions.npz"
    beside = _metrics_beside(folder)
    again = f"delete {path.parent} and train the run again"
    try:
        logits, labels = arrays.read(path, ("logits", "labels")).values()
    except (OSError, ValueError) as error:
        raise_refusal(error, "results", path)
        raise InputError(f"results: {path} is not a whole file of predictions ({error}); {again}") from None
    images = beside["test_images"]
    if logits.dtype != np.float32 or logits.ndim != 2 or labels.dtype != np.int64 or not len(logits) == len(labels) == images:
        found = f"logits {logits.dtype} {logits.shape} and labels {labels.dtype} {labels.shape}"
        raise InputError(f"results: {path} has {found}; its metrics.json is of {images} images; {again}")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise InputError(f"results: {path} has labels outside 0..{logits.shape[1] - 1}; {again}")
    if beside["status"] != "diverged":
        accuracy = float(np.mean(logits.argmax(axis=1) == labels))
        # The accuracy in metrics.json may have fewer digits.
        if not np.isfinite(logits).all() or abs(accuracy - beside["accuracy"]) * images > 0.5:
            found = f"has an accuracy of {accuracy}, its metrics.json {beside['accuracy']}"
            raise InputError(f"results: {path} {found}: it is damaged or of another run; {again}")
    return logits, labels


def _metrics_beside(folder: Path | str) -> dict:
    return read_metrics_file(Path(folder) / "metrics.json")


def read_metrics_file(path: Path) -> dict:
    """Read and check the metrics of a run whose place in the grid is not known."""
    try:
        found = json.loads(path.read_bytes())
        return read_metrics(Run(found["framework"], found["variant"], found["seed"], path.parent), path)
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise_refusal(error, "results", path)
        raise InputError(f"results: {path} cannot be read ({error}); delete {path.parent} and train the run again") from None


def of_predictions(metrics: dict, folder: Path) -> dict[str, float | None]:
    """What a run's predictions give besides its metrics: the expected calibration error and, where the classes are unbalanced (otherwise
    None), the balanced accuracy and macro-F1. All are None unless its status is completed."""
    found = dict.fromkeys((CALIBRATION, *UNBALANCED))
    if metrics["status"] != "completed":
        return found
    logits, labels = read_predictions(folder)
    found[CALIBRATION] = stats.expected_calibration_error(logits, labels)
    if stats.is_unbalanced(labels, logits.shape[1]):
        found |= {"balanced_accuracy": stats.balanced_accuracy(logits, labels), "macro_f1": stats.macro_f1(logits, labels)}
    return found


def runs_table(runs: list[Run], partial: bool = False) -> pd.DataFrame:
    """One row per run: metrics (nested ones as `recipe.epochs`), `of_predictions`, folder, and group (`comparability.grouped`).

    InputError lists runs without metrics.json, and runs that do not belong together. `partial`: skip runs without metrics.json, unless all
    lack it.
    """
    missing = [run for run in runs if not (run.folder / "metrics.json").is_file()]
    if missing and (not partial or len(missing) == len(runs)):
        names = "".join(f"\n  {run}" for run in missing)
        raise InputError(f"results: {len(missing)} of {len(runs)} runs have no metrics.json:{names}")
    rows = []
    for run in (run for run in runs if run not in set(missing)):
        metrics = read_metrics(run)
        rows.append(metrics | of_predictions(metrics, run.folder) | {"folder": str(run.folder)})
    table = pd.json_normalize(rows)
    table = table.map(lambda value: " ".join(map(str, value)) if isinstance(value, list) else value)
    comparability.check(table)
    return comparability.grouped(table)


def read_runs(path: Path | str, more: Iterable[str] = ()) -> pd.DataFrame:
    """Read runs.csv, written by `collect.py`; InputError if it is damaged, has no row or lacks one of the columns in `more`."""
    columns = {name: Column(object, gaps=True) for name in more} | COLUMNS
    return read_collected(path, columns | {name: replace(columns[name], optional=False) for name in more}, (*comparability.CELL, "seed"))


def read_collected(path: Path | str, columns: dict[str, Column], key: tuple[str, ...]) -> pd.DataFrame:
    """Read a table that `collect.py` wrote; InputError if it is damaged or has no row."""

    def is_text(name: str) -> bool:
        return name in _TEXTS or name.startswith("versions.") or name.endswith("_sha256")

    table = tables.read(path, columns, COLLECT_AGAIN, key, is_text)
    if table.empty:
        raise InputError(f"table: {path} has no row; {COLLECT_AGAIN}")
    return table.fillna({"made_with": ""})


def cell(runs: pd.DataFrame, framework: str, variant: str) -> pd.DataFrame:
    """The runs of one cell; InputError if there are none."""
    found = runs[(runs.framework == framework) & (runs.variant == variant)]
    if found.empty:
        there = ", ".join(f"{f} {v}" for f, v in runs[comparability.CELL].drop_duplicates().itertuples(index=False))
        raise InputError(f"results: no run of {framework} {variant}; there are {there}")
    return found


def limits_of(run: pd.Series) -> tuple[int | None, int | None]:
    """A run's train_limit and test_limit; None if it used all images."""
    return tuple(None if pd.isna(run.get(key)) else int(run[key]) for key in _LIMITS)


def data_of(runs: pd.DataFrame, file: Path | str) -> datasets.Dataset:
    """Load the whole data set in `file`; InputError if any run, of any status, had other images after applying its limits."""
    dataset = datasets.load(file)
    hashes = {}
    for _, run in runs.iterrows():
        limits = limits_of(run)
        if limits not in hashes:
            try:
                hashes[limits] = f"data_sha256 {dataset.limited(*limits).sha256()}"
            except InputError as error:
                hashes[limits] = str(error)
        if hashes[limits] != f"data_sha256 {run.data_sha256}":
            limited = "".join(f", {key} {limit}" for key, limit in zip(_LIMITS, limits, strict=True) if limit)
            raise InputError(
                f"results: the predictions in {run.folder} are not of the test images in {file}, or the run had other training images:\n"
                f"  the run: {run.dataset}{limited}: data_sha256 {run.data_sha256}\n"
                f"  the file: {dataset.name}{limited}: {hashes[limits]}\n"
                "Give the file that the run was trained on, or delete the run's folder and train the run again"
            )
    return dataset
