"""Read the files of runs and make tables of them, without needing any framework."""

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
# Settings whose defaults differ between frameworks.
CONVENTIONS = ("initialisation", "adam_epsilon")
# Averaged over seeds, and reported by the original study too.
MEASURES = ("train_seconds", "accuracy", "loss")
# Averaged too, but computed from a run's predictions.
CALIBRATION = "calibration_error"
# The original study's experiment: its figures are comparable only on the same data set.
ORIGINAL_DATASET, ORIGINAL_EPOCHS, ORIGINAL_TRAIN_IMAGES = "cifar10", 15, 50_000

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
_HISTORY = ("epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")


def _columns(expected: dict, **like: bool) -> dict[str, Column]:
    """Convert entries of `expected` (type, limits) to columns for `tables.read`."""
    kinds = {key: float if kind is _NUMBER else kind for key, (kind, *_) in expected.items()}
    bounds = {key: {"least": least, "most": np.inf if most is None else most} for key, (_, least, most) in expected.items()}
    return {key: Column(kinds[key], **bounds[key], **like) for key in expected}


_MADE_WITH = {"group": Column(int, 1), "made_with": Column(gaps=True)}
_OF_BOTH = ("framework", "framework_title", "variant", "variant_title", "dataset", "start", "device_name", "parameters")
_MEASURED = _columns(_OF_COMPLETED, gaps=True) | _columns({"train_seconds": _EXPECTED["train_seconds"]}, gaps=True)
# runs.csv, one row per run; tables of older runs lack some columns.
_RUNS = _columns(_EXPECTED) | _columns(_OF_COMPLETED, gaps=True) | _MADE_WITH
_RUNS |= {"status": Column(choices=STATUSES), "folder": Column(), CALIBRATION: Column(float, 0, 1, gaps=True)}
_RUNS |= {key: Column(int, 1, gaps=True, optional=True) for key in ("train_limit", "test_limit")}
_RUNS |= {"checkpoint_seconds": Column(float, 0, gaps=True, optional=True), "runs_per_gpu": Column(int, 1, optional=True)}
# table.csv, one row per cell and group.
_CELLS = _columns({key: _EXPECTED[key] for key in _OF_BOTH}) | _MADE_WITH
_CELLS |= {f"{name}{part}": column for name, column in _MEASURED.items() for part in ("", "_low", "_high")}
_CELLS |= {f"{name}_sd": Column(float, 0, gaps=True) for name in MEASURES}
_CELLS |= {"n": Column(int, 0)} | dict.fromkeys(STATUSES[1:], Column(int, 0))
_CELLS |= {f"original_{name}": column for name, column in _MEASURED.items()}
_CELLS |= {f"{name}_minus_original": Column(float, gaps=True) for name in MEASURES}
_CELLS |= {f"{name}_original_within": Column(bool, gaps=True) for name in MEASURES}
_ORIGINAL = {"framework": Column(), "variant": Column(), "parameters": Column(int, 1)} | _MEASURED
_COLLECT_AGAIN = "delete it and make it again with scripts/collect.py"


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
    """Read a run's history.csv, one row per epoch.

    InputError unless it is complete and its numbers finite, except in the last epoch of a diverged run.
    """
    path = Path(folder) / "history.csv"
    beside = _metrics_beside(folder)
    again = f"delete {path.parent} and train the run again"
    history = tables.read(path, dict.fromkeys(_HISTORY, Column(object, gaps=True)), again, what="history")
    epochs = history.epoch.tolist()
    if epochs != list(range(1, beside["epochs"] + 1)):
        raise InputError(f"results: {path} has the epochs {epochs}; its metrics.json is of {beside['epochs']}; {again}")
    numbers = history[:-1] if beside["status"] == "diverged" else history
    for name in _HISTORY:
        values = pd.to_numeric(numbers[name], errors="coerce")
        bad = numbers[~np.isfinite(values)]
        if len(bad):
            epoch, value = bad.epoch.iloc[0], bad[name].iloc[0]
            raise InputError(f"results: {path}: {name} of epoch {epoch} is {value}, expected a finite number; {again}")
    return history


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


def calibration_error(metrics: dict, folder: Path) -> float | None:
    """The expected calibration error of a run; None unless its status is completed."""
    return stats.expected_calibration_error(*read_predictions(folder)) if metrics["status"] == "completed" else None


def runs_table(runs: list[Run], partial: bool = False) -> pd.DataFrame:
    """One row per run: metrics (nested ones as `recipe.epochs`), calibration error, folder, and group (`comparability.grouped`).

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
        rows.append(metrics | {CALIBRATION: calibration_error(metrics, run.folder), "folder": str(run.folder)})
    table = pd.json_normalize(rows)
    table = table.map(lambda value: " ".join(map(str, value)) if isinstance(value, list) else value)
    comparability.check(table)
    return comparability.grouped(table)


def _possible(measure: str, found: stats.Interval) -> stats.Interval:
    """The interval, clipped to the possible range of the measure."""
    low, high = np.clip([found.low, found.high], 0, 1 if measure in ("accuracy", CALIBRATION) else None)
    return stats.Interval(found.value, float(low), float(high))


def results_table(runs: pd.DataFrame, original: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per framework, variant and group of runs that may be averaged, with the original study's figures if `original` is given.

    For each measure: the mean over the `n` completed runs, their standard deviation (`_sd`, n - 1), and the 95 % interval of the mean
    (`_low`, `_high`), clipped to possible values (times are not negative). `accuracy_interval` names the method: "t" over the runs or, for
    a single run, "Wilson" over its test images.
    `_minus_original`: our mean minus the original's figure, on its data set only. `_original_within`: whether that figure, which is from a
    single run, lies within the 95 % prediction interval of one further run (`_run_low`, `_run_high`); None where there is no such interval,
    as for a single run.
    Runs that collapsed or diverged are counted but not averaged; a cell without a completed run has no figures.
    """
    rows = []
    for (framework, variant, group), cell in runs.groupby([*comparability.CELL, "group"], sort=False):
        completed = cell[cell.status == "completed"]
        first = cell.iloc[0]
        row = {"framework": framework, "variant": variant, "group": group, "made_with": first.made_with, "parameters": first.parameters}
        for measure in (*MEASURES, CALIBRATION):
            values = completed[measure].astype(float)
            found = _possible(measure, stats.mean_interval(values))
            if measure == "accuracy" and len(values) == 1:
                found = stats.wilson(round(found.value * first.test_images), first.test_images)
            row |= {measure: found.value, f"{measure}_sd": values.std(), f"{measure}_low": found.low, f"{measure}_high": found.high}
            further = _possible(measure, stats.prediction_interval(values))
            row |= {f"{measure}_run_low": further.low, f"{measure}_run_high": further.high}
        row["accuracy_interval"] = {0: None, 1: "Wilson"}.get(len(completed), "t")
        row["n"] = len(completed)
        row |= {status: int((cell.status == status).sum()) for status in STATUSES[1:]}
        row |= {key: first[key] for key in ("epochs", "dataset", "train_images", "test_images", "start", "device_name", "threads")}
        row |= {key: first.get(f"recipe.{key}") for key in CONVENTIONS}
        row |= {"framework_title": first.framework_title, "variant_title": first.variant_title}
        # Older runs have no hash of their code, only their commits.
        row |= {key: " or ".join(cell[key].dropna().unique()) for key in ("code", "git_commit") if key in cell}
        rows.append(row)
    if original is None:
        original = pd.DataFrame(columns=[*comparability.CELL, "parameters", *MEASURES]).astype(dict.fromkeys(MEASURES, float))
    theirs = original.rename(columns={column: f"original_{column}" for column in original if column not in comparability.CELL})
    table = pd.DataFrame(rows).merge(theirs, how="left", on=comparability.CELL)
    for measure in MEASURES:
        reference = table[f"original_{measure}"].where(table.dataset == ORIGINAL_DATASET)
        low, high = table[f"{measure}_run_low"], table[f"{measure}_run_high"]
        table[f"{measure}_minus_original"] = table[measure] - reference
        table[f"{measure}_original_within"] = reference.between(low, high).astype(object).where(reference.notna() & low.notna(), None)
    return table


def classes_table(runs: pd.DataFrame, classes: tuple[str, ...]) -> pd.DataFrame:
    """One row per framework, variant, group and class: mean accuracy of `n` completed runs, `_sd`, `_low`, `_high` (`results_table`)."""
    rows = []
    for place, cell in runs[runs.status == "completed"].groupby([*comparability.CELL, "group"], sort=False):
        predictions = [read_predictions(folder) for folder in cell.folder]
        accuracies = np.array([stats.class_accuracy(*arrays) for arrays in predictions])
        images = np.bincount(predictions[0][1], minlength=len(classes))
        for name, values, count in zip(classes, accuracies.T, images, strict=True):
            found = _possible("accuracy", stats.mean_interval(values)) if len(values) > 1 else stats.wilson(round(values[0] * count), count)
            row = dict(zip([*comparability.CELL, "group"], place, strict=True)) | {"class": name, "images": count}
            row |= {"accuracy": found.value, "accuracy_sd": pd.Series(values).std()}
            rows.append(row | {"accuracy_low": found.low, "accuracy_high": found.high, "n": len(values)})
    columns = [*comparability.CELL, "group", "class", "images", "accuracy", "accuracy_sd", "accuracy_low", "accuracy_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def read_runs(path: Path | str, more: Iterable[str] = ()) -> pd.DataFrame:
    """Read runs.csv, written by `collect.py`; InputError if it is damaged, has no row or lacks one of the columns in `more`."""
    columns = {name: Column(object, gaps=True) for name in more} | _RUNS
    return _read(path, columns | {name: replace(columns[name], optional=False) for name in more}, (*comparability.CELL, "seed"))


def read_cells(path: Path | str, needed: Iterable[str] = tuple(_CELLS)) -> pd.DataFrame:
    """Read table.csv, written by `collect.py`; InputError if it is damaged, has no row or lacks one of the columns in `needed`."""
    columns = {name: replace(column, optional=name not in needed) for name, column in _CELLS.items()}
    return _read(path, columns, (*comparability.CELL, "group"))


def read_table(path: Path | str) -> pd.DataFrame:
    """Read runs.csv or table.csv, whichever `path` is; for interactive use."""
    found = tables.read(path, dict.fromkeys(comparability.CELL, Column()), _COLLECT_AGAIN)
    return read_runs(path) if "seed" in found else read_cells(path)


def _read(path: Path | str, columns: dict[str, Column], key: tuple[str, ...]) -> pd.DataFrame:
    def is_text(name: str) -> bool:
        return name in _TEXTS or name.startswith("versions.") or name.endswith("_sha256")

    table = tables.read(path, columns, _COLLECT_AGAIN, key, is_text)
    if table.empty:
        raise InputError(f"table: {path} has no row; {_COLLECT_AGAIN}")
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


def read_original(path: Path | str) -> pd.DataFrame:
    """Read the original study's figures: framework, variant, parameters, train_seconds, accuracy, loss."""
    return tables.read(path, _ORIGINAL, "mend it, or fetch the original's again (git checkout config/original.csv)", comparability.CELL)


def readable(table: pd.DataFrame, plus_minus: str = "±", missing: str = "–") -> pd.DataFrame:
    """`results_table` for readers: titles instead of names, `mean ± sd [low, high]` with meaningful digits, the original's figures."""

    def measured(row: pd.Series, measure: str) -> str:
        mean, sd, low, high = (row[f"{measure}{part}"] for part in ("", "_sd", "_low", "_high"))
        if np.isnan(mean):
            return missing
        spread = "" if np.isnan(sd) else f" {plus_minus} {sd:,.{digits[measure]}f}"
        interval = "" if np.isnan(low) else f" [{low:,.{digits[measure]}f}, {high:,.{digits[measure]}f}]"
        return f"{mean:,.{digits[measure]}f}{spread}{interval}"

    def theirs(row: pd.Series, measure: str) -> str:
        value, difference, within = row[f"original_{measure}"], row[f"{measure}_minus_original"], row[f"{measure}_original_within"]
        places = {"train_seconds": 0}.get(measure, 4)
        if np.isnan(value):
            return missing
        where = "" if pd.isna(within) else ", within" if within else ", outside"
        return f"{value:,.{places}f}" + ("" if np.isnan(difference) else f" ({difference:+,.{places}f}{where})")

    fastest = table.train_seconds.min()
    digits = {"train_seconds": 0 if fastest >= 100 else 1, "accuracy": 4, "loss": 4, CALIBRATION: 3}
    columns = {"train_seconds": "Training time (s)", "accuracy": "Test accuracy", "loss": "Test loss", CALIBRATION: "Calibration error"}
    out = pd.DataFrame({"Framework": table.framework_title, "Variant": table.variant_title})
    if table.made_with.any():
        out["Made with"] = table.made_with
    out["Start"] = table.start
    out["Parameters"] = [f"{count:,}" for count in table.parameters]
    for measure, title in columns.items():
        out[title] = [measured(row, measure) for _, row in table.iterrows()]
    out["Runs"] = [counted(row) for _, row in table.iterrows()]
    if table.original_accuracy.notna().any():
        for measure, title in (("train_seconds", "time (s)"), ("accuracy", "accuracy"), ("loss", "loss")):
            out[f"Original: {title}"] = [theirs(row, measure) for _, row in table.iterrows()]
    return out


def counted(row: pd.Series) -> str:
    """How many runs a row averages, and what happened to the others, such as "n = 1 of 3 (2 collapsed)"."""
    lost = {status: row[status] for status in STATUSES[1:] if row[status]}
    of = f" of {row.n + sum(lost.values())} (" + ", ".join(f"{count} {status}" for status, count in lost.items()) + ")"
    return f"n = {row.n}" + (of if lost else "")


def is_the_originals_experiment(runs: pd.DataFrame) -> bool:
    """Whether the runs have the original study's data set, number of training images and number of epochs."""
    # Compare as text: in files edited by hand these columns may hold anything, or be missing.
    found = [set(runs[key].astype(str)) if key in runs else set() for key in ("dataset", "recipe.epochs", "train_images")]
    return found == [{ORIGINAL_DATASET}, {str(ORIGINAL_EPOCHS)}, {str(ORIGINAL_TRAIN_IMAGES)}]


def conditions(table: pd.DataFrame, runs: pd.DataFrame, missing: int = 0) -> str:
    """A few sentences on the conditions of a table of runs: data, epochs, hardware, n, and how the intervals were made."""

    def listed(key: str, unit: str) -> str:
        return " or ".join(f"{value:,}" if isinstance(value, int) else value for value in sorted(set(runs[key].tolist()))) + unit

    text = (
        f"Data: {listed('dataset', '')}, {listed('train_images', ' training images')}, {listed('test_images', ' test images')}; "
        f"{listed('epochs', ' epochs')}; on {listed('device_name', '')}, {listed('threads', ' CPU threads')}. "
        "Mean ± standard deviation over the completed runs, in brackets the 95 % interval of the mean by Student's t. A single run "
        "gets an interval for accuracy only (Wilson's, over the test images), and no standard deviation."
    )
    if table.original_accuracy.notna().any():
        text += " Original: F. A. Castillo, AlexNet challenge (2025), one run per cell on CIFAR-10, 15 epochs, GPU not named"
        if any(table[f"{measure}_minus_original"].notna().any() for measure in MEASURES):
            text += "; in parentheses ours minus the original's and, where n > 1, whether the original's lies within the 95 % prediction "
            text += "interval of one further run of ours"
            text += "" if is_the_originals_experiment(runs) else ", which does not test it: this is only a part of its experiment"
        text += "."
    if "runs_per_gpu" in runs and (packed := sorted(set(runs.runs_per_gpu) - {1})):
        at_a_time = " or ".join(map(str, packed))
        text += f" Runs shared a GPU, {at_a_time} at a time: do not compare their times with those of runs that had a GPU each."
    text += f" {comparison(table)}"
    if table.made_with.any():
        text += " Runs of a cell that differ in hardware, software or code have separate rows and are not averaged."
    if "code" not in table and table.get("git_commit", pd.Series(dtype=str)).str.contains(" or ").any():
        text += " Runs of a cell come from different commits and do not record whether the training code changed."
    return text + (f" {missing} runs of the grid are missing." if missing else "")


def comparison(table: pd.DataFrame) -> str:
    """A sentence on the kind of comparison: frameworks with their own defaults, or all with the same initialisation and Adam."""
    ways = table.groupby("framework_title", sort=False)[list(CONVENTIONS)].first()
    if len(ways) < 2 or ways.isna().any(axis=None):
        return ""
    if len(ways.drop_duplicates()) == 1:
        initialisation, adam = ways.iloc[0]
        return f"All frameworks used the same initialisation ({initialisation}) and Adam ({adam}): this compares only the frameworks."
    own = ", ".join(f"{name} with the start of {way.initialisation} and the Adam of {way.adam_epsilon}" for name, way in ways.iterrows())
    return f"Frameworks were left to their own defaults: {own}."
