"""The tables of results: one row per cell, with the original study's figures, and its form for readers."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench import tables
from alexbench.analysis import comparability, run_files, stats
from alexbench.experiment.recipe import UNUSED, Recipe
from alexbench.tables import Column

# Settings whose defaults differ between frameworks.
CONVENTIONS = ("initialisation", "adam_epsilon")
# Averaged over seeds, and reported by the original study too.
MEASURES = ("train_seconds", "accuracy", "loss")
# The original study's figures are comparable only on its data set.
ORIGINAL_DATASET = "cifar10"
# The original study's experiment, by columns of runs.csv. What the recipe leaves to a framework or variant is not fixed.
ORIGINAL_EXPERIMENT = {"dataset": ORIGINAL_DATASET, "train_images": 50_000, "settings.precision": "fp32"}
ORIGINAL_EXPERIMENT |= {f"recipe.{key}": value for key, value in asdict(Recipe()).items() if value not in ("framework", "variant")}
MUST_RECORD = ("dataset", "train_images", "recipe.epochs")

_OF_BOTH = ("framework", "framework_title", "variant", "variant_title", "dataset", "start", "device_name", "parameters")
_MEASURED = {name: replace(run_files.COLUMNS[name], gaps=True) for name in MEASURES}
# table.csv, one row per cell and group.
_CELLS = {name: run_files.COLUMNS[name] for name in (*_OF_BOTH, "group", "made_with")}
_CELLS |= {f"{name}{part}": column for name, column in _MEASURED.items() for part in ("", "_low", "_high")}
_CELLS |= {f"{name}_sd": Column(float, 0, gaps=True) for name in MEASURES}
_CELLS |= {"n": Column(int, 0)} | dict.fromkeys(run_files.STATUSES[1:], Column(int, 0))
_CELLS |= {f"original_{name}": column for name, column in _MEASURED.items()}
_CELLS |= {f"{name}_minus_original": Column(float, gaps=True) for name in MEASURES}
_CELLS |= {f"{name}_original_within": Column(bool, gaps=True) for name in MEASURES}
_ORIGINAL = {"framework": Column(), "variant": Column(), "parameters": Column(int, 1)} | _MEASURED


def _has(table: pd.DataFrame, column: str) -> bool:
    """Whether a table has a value in that column."""
    return column in table and table[column].notna().any()


def _possible(measure: str, found: stats.Interval) -> stats.Interval:
    """The interval, clipped to the possible range of the measure."""
    low, high = np.clip([found.low, found.high], 0, 1 if measure in ("accuracy", run_files.CALIBRATION, *run_files.UNBALANCED) else None)
    return stats.Interval(found.value, float(low), float(high))


def table(runs: pd.DataFrame, original: pd.DataFrame | None = None) -> pd.DataFrame:
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
        for measure in (*MEASURES, run_files.CALIBRATION, *(name for name in run_files.UNBALANCED if _has(runs, name))):
            values = completed[measure].astype(float)
            found = _possible(measure, stats.mean_interval(values))
            if measure == "accuracy" and len(values) == 1:
                found = stats.wilson(round(found.value * first.test_images), first.test_images)
            row |= {measure: found.value, f"{measure}_sd": values.std(), f"{measure}_low": found.low, f"{measure}_high": found.high}
            further = _possible(measure, stats.prediction_interval(values))
            row |= {f"{measure}_run_low": further.low, f"{measure}_run_high": further.high}
        row["accuracy_interval"] = {0: None, 1: "Wilson"}.get(len(completed), "t")
        row["n"] = len(completed)
        row |= {status: int((cell.status == status).sum()) for status in run_files.STATUSES[1:]}
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
    """One row per framework, variant, group and class: mean accuracy of `n` completed runs, `_sd`, `_low`, `_high` (`table`)."""
    rows = []
    for place, cell in runs[runs.status == "completed"].groupby([*comparability.CELL, "group"], sort=False):
        predictions = [run_files.read_predictions(folder) for folder in cell.folder]
        accuracies = np.array([stats.class_accuracy(*arrays) for arrays in predictions])
        images = np.bincount(predictions[0][1], minlength=len(classes))
        for name, values, count in zip(classes, accuracies.T, images, strict=True):
            found = _possible("accuracy", stats.mean_interval(values)) if len(values) > 1 else stats.wilson(round(values[0] * count), count)
            row = dict(zip([*comparability.CELL, "group"], place, strict=True)) | {"class": name, "images": count}
            row |= {"accuracy": found.value, "accuracy_sd": pd.Series(values).std()}
            rows.append(row | {"accuracy_low": found.low, "accuracy_high": found.high, "n": len(values)})
    columns = [*comparability.CELL, "group", "class", "images", "accuracy", "accuracy_sd", "accuracy_low", "accuracy_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def read(path: Path | str, needed: Iterable[str] = tuple(_CELLS)) -> pd.DataFrame:
    """Read table.csv, written by `collect.py`; InputError if it is damaged, has no row or lacks one of the columns in `needed`."""
    columns = {name: replace(column, optional=name not in needed) for name, column in _CELLS.items()}
    return run_files.read_collected(path, columns, (*comparability.CELL, "group"))


def read_original(path: Path | str) -> pd.DataFrame:
    """Read the original study's figures: framework, variant, parameters, train_seconds, accuracy, loss."""
    return tables.read(path, _ORIGINAL, "mend it, or fetch the file again (git checkout config/original.csv)", comparability.CELL)


def readable(table: pd.DataFrame, plus_minus: str = "±", missing: str = "–") -> pd.DataFrame:
    """`table` for readers: titles instead of names, `mean ± sd [low, high]` with meaningful digits, the original's figures."""

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
    digits = {"train_seconds": 0 if fastest >= 100 else 1, "loss": 4, run_files.CALIBRATION: 3}
    digits |= dict.fromkeys(("accuracy", *run_files.UNBALANCED), 4)
    of_unbalanced = {"balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro-F1"}
    columns = {
        "train_seconds": "Training time (s)",
        "accuracy": "Test accuracy",
        **{name: title for name, title in of_unbalanced.items() if _has(table, name)},
        "loss": "Test loss",
        run_files.CALIBRATION: "Calibration error",
    }
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
    lost = {status: row[status] for status in run_files.STATUSES[1:] if row[status]}
    of = f" of {row.n + sum(lost.values())} (" + ", ".join(f"{count} {status}" for status, count in lost.items()) + ")"
    return f"n = {row.n}" + (of if lost else "")


def differing_from_original(runs: pd.DataFrame) -> dict[str, list]:
    """The columns in which the runs differ from ORIGINAL_EXPERIMENT, with the values they have.

    A run that does not record one of `MUST_RECORD` has None there, and differs; other settings count only where they are recorded,
    because earlier versions did not record all of them.
    """
    differing = {}
    for column, expected in ORIGINAL_EXPERIMENT.items():
        values = [None if pd.isna(value) else value for value in (runs[column].unique().tolist() if column in runs else [None])]
        values = [value for value in values if value is not None or column in MUST_RECORD]
        # As text too: in files edited by hand, a column may hold anything.
        if any(value != expected and str(value) != str(expected) for value in values):
            differing[column] = values
    return differing


def is_original_experiment(runs: pd.DataFrame) -> bool:
    """Whether the runs have the original study's data and recipe. How they were computed, such as their precision, may differ."""
    return all(column.startswith("settings.") for column in differing_from_original(runs))


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
    if run_files.evaluated_on(runs) == "validation":
        text += f" {listed('validation_images', ' further training images')} were held out for validation; the test images were seen once, "
        text += "after the last epoch."
    else:
        text += " Every epoch was evaluated on the test images."
    for key, what in (("left_out", "pictures could not be read and were left out"), ("in_both", "test images are training images too")):
        if key in runs and (runs[key] > 0).any():
            text += f" {listed(key, '')} {what}."
    if table.original_accuracy.notna().any():
        text += " Original: F. A. Castillo, AlexNet challenge (2025), one run per cell on CIFAR-10, 15 epochs, GPU not named"
        if any(table[f"{measure}_minus_original"].notna().any() for measure in MEASURES):
            text += "; in parentheses ours minus the original's and, where n > 1, whether the original's lies within the 95 % prediction "
            text += "interval of one further run of ours"
            text += "" if is_original_experiment(runs) else ", which does not test it, because the experiments differ"
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
    """A sentence on the kind of comparison: frameworks with their own defaults, or all with the same initialisation and optimizer."""
    ways = table.groupby("framework_title", sort=False)[list(CONVENTIONS)].first()
    if len(ways) < 2 or ways.isna().any(axis=None):
        return ""
    if len(ways.drop_duplicates()) == 1:
        initialisation, adam = ways.iloc[0]
        optimizer = "SGD" if adam == UNUSED else f"Adam ({adam})"
        return f"All frameworks used the same initialisation ({initialisation}) and {optimizer}: this compares only the frameworks."
    adams = {name: "" if way.adam_epsilon == UNUSED else f" and the Adam of {way.adam_epsilon}" for name, way in ways.iterrows()}
    own = ", ".join(f"{name} with the start of {way.initialisation}{adams[name]}" for name, way in ways.iterrows())
    return f"Frameworks were left to their own defaults: {own}."
