"""From files of runs to tables. NumPy and pandas only; no framework is needed to read what the frameworks made."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench.files import InputError

STATUSES = ("completed", "collapsed", "diverged")
# What is averaged over seeds, and what the study reports too.
MEASURES = ("train_seconds", "accuracy", "loss")

_NUMBER = (int, float)
# What a run's metrics must hold for a table: type, and smallest and largest value where there are such.
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


@dataclass(frozen=True)
class Run:
    """A place in the grid, and where its files are."""

    framework: str
    variant: str
    seed: int
    folder: Path

    def __str__(self) -> str:
        return f"{self.framework} {self.variant} seed {self.seed}"


def grid(root: Path, frameworks: Iterable[str], variants: Iterable[str], seeds: Iterable[int]) -> list[Run]:
    """Every run of the grid, in the order of its tables."""
    return [Run(f, v, s, root / f / v / f"seed{s}") for f in frameworks for v in variants for s in seeds]


def read_metrics(run: Run) -> dict:
    """A run's metrics.json, checked: InputError names the file, the field, its value and what was expected."""
    path = run.folder / "metrics.json"
    try:
        metrics = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"results: {path} is not JSON ({error}); delete it and run its cell again") from None
    if not isinstance(metrics, dict):
        raise InputError(f"results: {path} holds no metrics; delete it and run its cell again")
    status = metrics.get("status")
    if status not in STATUSES:
        raise InputError(f"results: {path}: status is {status!r}; expected one of {', '.join(STATUSES)}")
    for key, (kind, least, most) in (_EXPECTED | (_OF_COMPLETED if status == "completed" else {})).items():
        value = metrics.get(key)
        number = isinstance(value, _NUMBER)
        if not isinstance(value, kind) or isinstance(value, bool) or (number and not np.isfinite(value)):
            raise InputError(f"results: {path}: {key} is {value!r}; delete the file and run its cell again")
        if (least is not None and value < least) or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"{least} to {most}"
            raise InputError(f"results: {path}: {key} is {value!r}; expected {bounds}")
    for key in ("framework", "variant", "seed"):
        if metrics[key] != getattr(run, key):
            raise InputError(f"results: {path} is of {key} {metrics[key]!r}; its place is that of {getattr(run, key)!r}")
    return metrics


def read_history(folder: Path | str) -> pd.DataFrame:
    """A run's history.csv: a row an epoch."""
    return pd.read_csv(Path(folder) / "history.csv")


def read_predictions(folder: Path | str) -> tuple[np.ndarray, np.ndarray]:
    """A run's test logits, float32 (n, classes), and labels, int64 (n,)."""
    with np.load(Path(folder) / "predictions.npz", allow_pickle=False) as file:
        return file["logits"], file["labels"]


def runs_table(runs: list[Run], partial: bool = False) -> pd.DataFrame:
    """A row a run: its metrics, nested ones as `recipe.epochs`, and its folder.

    InputError lists the runs that have no metrics.json, unless `partial`, which leaves them out.
    """
    missing = [run for run in runs if not (run.folder / "metrics.json").is_file()]
    if missing and (not partial or len(missing) == len(runs)):
        names = "".join(f"\n  {run}" for run in missing)
        raise InputError(f"results: {len(missing)} of {len(runs)} runs have no metrics.json:{names}")
    rows = [read_metrics(run) | {"folder": str(run.folder)} for run in runs if run not in set(missing)]
    table = pd.json_normalize(rows)
    return table.map(lambda value: " ".join(map(str, value)) if isinstance(value, list) else value)


def results_table(runs: pd.DataFrame, study: pd.DataFrame) -> pd.DataFrame:
    """A row a framework and variant: mean over completed runs, standard deviation (`_sd`, n - 1) and `n`, beside the study's figures.

    Runs that collapsed or diverged are counted and not averaged; a cell without a completed run has no figures.
    """
    rows = []
    for (framework, variant), cell in runs.groupby(["framework", "variant"], sort=False):
        completed = cell[cell.status == "completed"]
        first = cell.iloc[0]
        row = {"framework": framework, "variant": variant, "parameters": first.parameters}
        for measure in MEASURES:
            values = completed[measure].astype(float)
            row |= {measure: values.mean(), f"{measure}_sd": values.std()}
        row["n"] = len(completed)
        row |= {status: int((cell.status == status).sum()) for status in STATUSES[1:]}
        row |= {key: first[key] for key in ("epochs", "dataset", "train_images", "test_images", "start", "device_name")}
        row |= {"framework_title": first.framework_title, "variant_title": first.variant_title}
        rows.append(row)
    theirs = study.rename(columns={column: f"study_{column}" for column in study if column not in ("framework", "variant")})
    return pd.DataFrame(rows).merge(theirs, how="left", on=["framework", "variant"])


def read_study(path: Path | str) -> pd.DataFrame:
    """The figures of the study that is reproduced: framework, variant, parameters, train_seconds, accuracy, loss."""
    return pd.read_csv(path)


def readable(table: pd.DataFrame, plus_minus: str = "±", missing: str = "–") -> pd.DataFrame:
    """`results_table` for reading: titles for names, `mean ± sd` with the digits that mean something, the study's figures."""

    def measured(row: pd.Series, measure: str, digits: int) -> str:
        mean, sd = row[measure], row[f"{measure}_sd"]
        if np.isnan(mean):
            return missing
        return f"{mean:,.{digits}f}" + ("" if np.isnan(sd) else f" {plus_minus} {sd:,.{digits}f}")

    def theirs(row: pd.Series, measure: str, digits: int) -> str:
        value = row[f"study_{measure}"]
        return missing if np.isnan(value) else f"{value:,.{digits}f}"

    def counted(row: pd.Series) -> str:
        lost = {status: row[status] for status in STATUSES[1:] if row[status]}
        of = f" of {row.n + sum(lost.values())} (" + ", ".join(f"{count} {status}" for status, count in lost.items()) + ")"
        return f"{row.n}" + (of if lost else "")

    fastest = table.train_seconds.min()
    digits = {"train_seconds": 0 if fastest >= 100 else 1, "accuracy": 4, "loss": 4}
    columns = {"train_seconds": "Training time (s)", "accuracy": "Test accuracy", "loss": "Test loss"}
    out = pd.DataFrame({"Framework": table.framework_title, "Variant": table.variant_title})
    out["Start"] = table.start
    out["Parameters"] = [f"{count:,}" for count in table.parameters]
    for measure, title in columns.items():
        out[title] = [measured(row, measure, digits[measure]) for _, row in table.iterrows()]
    out["Runs"] = [counted(row) for _, row in table.iterrows()]
    for measure, title in (("train_seconds", "time (s)"), ("accuracy", "accuracy"), ("loss", "loss")):
        out[f"Study: {title}"] = [theirs(row, measure, {"train_seconds": 0}.get(measure, 4)) for _, row in table.iterrows()]
    return out


def conditions(table: pd.DataFrame, missing: int = 0) -> str:
    """A sentence or two on what the figures of a table are of: data, epochs, hardware, n."""

    def listed(values: pd.Series, unit: str) -> str:
        return " or ".join(f"{value:,}" if isinstance(value, (int, np.integer)) else str(value) for value in values.unique()) + unit

    sizes = f"{listed(table.train_images, ' training images')}, {listed(table.test_images, ' test images')}"
    text = (
        f"Data: {listed(table.dataset, '')}, {sizes}; {listed(table.epochs, ' epochs')}; on {listed(table.device_name, '')}. "
        "Mean ± standard deviation over the completed runs. Study: F. A. Castillo, AlexNet challenge (2025), one run a cell on "
        "CIFAR-10, 15 epochs, GPU unnamed."
    )
    return text + (f" {missing} runs of the grid are missing." if missing else "")
