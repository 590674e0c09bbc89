"""The facts in the article, derived from the tables of results only: who is ahead, by which interval, and the rest.

The wording is in pages/.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench.analysis import results, speed_tables
from alexbench.analysis.stats import Interval


@dataclass(frozen=True)
class Side:
    """One cell of a comparison."""

    title: str
    framework_title: str
    variant_title: str
    n: int
    original_seconds: float


@dataclass(frozen=True)
class Comparison:
    """Two cells compared.

    `accuracy`: of `first` minus that of `second`. `seconds`: training time of `first` divided by that of `second`; `unlike`: why times are
    not compared, or "". `mcnemar_p`: p of McNemar's test if each cell has one run, else NaN.
    """

    kind: str
    first: Side
    second: Side
    accuracy: Interval
    seconds: Interval
    unlike: str
    mcnemar_p: float

    @property
    def better(self) -> str:
        return ahead(self.accuracy, 0)

    @property
    def slower(self) -> str:
        return ahead(self.seconds, 1)

    @property
    def original_seconds(self) -> float:
        """The original study's own ratio of training times; NaN if it lacks either."""
        return self.first.original_seconds / self.second.original_seconds

    def slower_first(self) -> "Comparison":
        """The same comparison with the slower cell first, so that the ratio of training times is at least 1."""
        if not self.seconds.value < 1:
            return self
        ratio = Interval(1 / self.seconds.value, 1 / self.seconds.high, 1 / self.seconds.low)
        difference = Interval(-self.accuracy.value, -self.accuracy.high, -self.accuracy.low)
        return Comparison(self.kind, self.second, self.first, difference, ratio, self.unlike, self.mcnemar_p)


def ahead(found: Interval, equal: float) -> str:
    """Which of two is larger, by the interval of their difference or ratio: "first", "second", "neither"; "unknown" without interval."""
    if np.isnan(found.low):
        return "unknown"
    if not found.excludes(equal):
        return "neither"
    return "first" if found.value > equal else "second"


def title(row: pd.Series, prefix: str = "") -> str:
    """The title of a cell, with hardware and software in brackets if other runs of the cell differ in them."""
    made_with = row[f"{prefix}made_with"]
    name = f"{row[f'{prefix}framework_title']}, {row[f'{prefix}variant_title']}"
    return name + (f" [{made_with}]" if isinstance(made_with, str) and made_with else "")


def comparisons(compared: pd.DataFrame, table: pd.DataFrame) -> list[Comparison]:
    """The rows of comparisons.csv (`comparisons.table`) in which both cells have completed runs; `table`: table.csv."""
    theirs = table.drop_duplicates(["framework", "variant"]).set_index(["framework", "variant"]).original_train_seconds

    def side(row: pd.Series, cell: str) -> Side:
        place = row[f"{cell}_framework"], row[f"{cell}_variant"]
        names = row[f"{cell}_framework_title"], row[f"{cell}_variant_title"]
        return Side(title(row, f"{cell}_"), *names, int(row[f"{cell}_n"]), theirs[place])

    return [
        Comparison(
            row.kind,
            side(row, "a"),
            side(row, "b"),
            Interval(row.accuracy_difference, row.accuracy_low, row.accuracy_high),
            Interval(row.time_ratio, row.time_low, row.time_high),
            row.time_unlike if isinstance(row.time_unlike, str) else "",
            row.mcnemar_p if row.a_n == row.b_n == 1 else np.nan,
        )
        for _, row in compared.iterrows()
        if row.a_n and row.b_n
    ]


def best(table: pd.DataFrame, compared: Iterable[Comparison]) -> tuple[pd.Series, list[str], list[str]] | None:
    """The cell with the highest mean accuracy, and how it compares.

    Returns its row, the titles of the cells that it is shown to be better than, and those of the other cells that it is compared with; None
    without a completed run.
    """
    if not table.n.any():
        return None
    top = table.loc[table.accuracy.idxmax()]
    beaten, level = [], []
    for comparison in compared:
        for us, other, word in ((comparison.first, comparison.second, "first"), (comparison.second, comparison.first, "second")):
            if us.title == title(top):
                (beaten if comparison.better == word else level).append(other.title)
    return top, beaten, level


def winners(compared: Iterable[Comparison], word: str) -> tuple[dict[str, list[str]], list[str]]:
    """The networks on which each framework is ahead, and those on which none is shown to be; `word`: "better" or "faster"."""
    found: dict[str, list[str]] = {}
    level = []
    for comparison in compared:
        outcome = comparison.better if word == "better" else {"first": "second", "second": "first"}.get(comparison.slower)
        if outcome in ("first", "second"):
            winner = getattr(comparison, outcome)
            found.setdefault(winner.framework_title, []).append(winner.variant_title)
        else:
            level.append(comparison.first.variant_title)
    return found, list(dict.fromkeys(level))


def by_framework(runs: pd.DataFrame, columns: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """For each column of a table of runs, its distinct values by framework title; columns without any value are left out."""
    rows = []
    for column in (name for name in columns if name in runs):
        values = {name: _listed(cell[column]) for name, cell in runs.groupby("framework_title", sort=False)}
        if any(values.values()):
            rows.append((column, values))
    return rows


def _listed(values: pd.Series) -> str:
    """The distinct values of a column read from CSV, where pandas turns whole numbers into floats if there are gaps."""
    found = values.dropna().unique().tolist()
    return ", ".join(str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in found)


def is_controlled(runs: pd.DataFrame) -> bool:
    """Whether all frameworks used the same initialisation and the same Adam, not each its own."""
    return all(runs[f"recipe.{key}"].nunique() == 1 for key in results.CONVENTIONS)


def learning(runs: pd.DataFrame) -> list[dict]:
    """One row per cell, from means over the completed runs.

    Each row has the epoch with the lowest test loss, that loss, and the last epoch's test loss, training accuracy and test accuracy.
    """
    rows = []
    for _, cell in runs[runs.status == "completed"].groupby(["framework", "variant"], sort=False):
        history = pd.concat([results.read_history(folder) for folder in cell.folder]).groupby("epoch").mean()
        lowest, last = history.test_loss.idxmin(), history.iloc[-1]
        row = {
            "title": f"{cell.framework_title.iloc[0]}, {cell.variant_title.iloc[0]}",
            "epoch": int(lowest),
            "epochs": int(history.index[-1]),
        }
        row |= {"lowest": history.test_loss[lowest], "last": last.test_loss}
        rows.append(row | {"train_accuracy": last.train_accuracy, "test_accuracy": last.test_accuracy})
    return rows


def speed_ratios(folder: Path) -> pd.DataFrame | None:
    """The ratios of the notebook arm and the fast arm from speed_ratios.csv; None if the experiment on speed has not been run."""
    path = folder / "speed_ratios.csv"
    if not path.exists():
        return None
    table = speed_tables.read_ratios(path)
    return table[table.arm.isin(["notebook", "fast"])]


def interval(row: pd.Series, measure: str) -> Interval:
    """A measure in a row of table.csv, with its interval."""
    return Interval(row[measure], row[f"{measure}_low"], row[f"{measure}_high"])
