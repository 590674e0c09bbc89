"""The facts in the article, derived from the tables of results only: who is ahead, by which interval, and the rest.

The wording is in pages/.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench.analysis import results_table, run_files, speed_tables, verdicts
from alexbench.analysis.stats import Interval
from alexbench.analysis.verdicts import Verdict
from alexbench.writing.language import Language


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
    def more_accurate(self) -> Side | None:
        """The more accurate cell; None without such a verdict."""
        return {Verdict.BETTER: self.first, Verdict.WORSE: self.second}.get(verdicts.of_accuracy(self.accuracy))

    @property
    def faster(self) -> Side | None:
        """The cell that trains faster; None without such a verdict."""
        return {Verdict.FASTER: self.first, Verdict.SLOWER: self.second}.get(verdicts.of_time(self.seconds, self.unlike))

    @property
    def original_seconds(self) -> float:
        """The original study's own ratio of training times; NaN if it lacks either."""
        return self.first.original_seconds / self.second.original_seconds


def accuracy_sentence(c: Comparison, _: Language) -> str:
    """The accuracies of two cells in words; for single runs, McNemar's test of their networks too."""
    text = verdicts.on_accuracy(c.first.title, c.second.title, c.accuracy, _counts(c.first, c.second, _), _)
    return text if np.isnan(c.mcnemar_p) else f"{text} {verdicts.on_two_networks(c.mcnemar_p, _)}"


def time_sentence(c: Comparison, _: Language) -> str:
    """The training times of two cells in words, the slower first, so that the ratio is at least 1."""
    slow, fast, ratio = c.first, c.second, c.seconds
    if ratio.value < 1:
        slow, fast, ratio = fast, slow, Interval(1 / ratio.value, 1 / ratio.high, 1 / ratio.low)
    return verdicts.on_time(slow.title, fast.title, ratio, _counts(slow, fast, _), _, c.unlike)


def _counts(first: Side, second: Side, _: Language) -> str:
    """How many runs two cells have, such as "n = 3" or "n = 1 and 3"."""
    return f"n = {_.listed(list(dict.fromkeys([str(first.n), str(second.n)])))}".replace(" ", "\N{NO-BREAK SPACE}")


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

    Returns its row, the titles of the cells that it is shown to be more accurate than, and those of the other cells that it is compared
    with; None without a completed run.
    """
    if not table.n.any():
        return None
    top = table.loc[table.accuracy.idxmax()]
    beaten, level = [], []
    for comparison in compared:
        for us, other in ((comparison.first, comparison.second), (comparison.second, comparison.first)):
            if us.title == title(top):
                (beaten if comparison.more_accurate is us else level).append(other.title)
    return top, beaten, level


def leaders(compared: Iterable[Comparison], quality: str) -> tuple[dict[str, list[str]], list[str]]:
    """The networks on which each framework is ahead of all others that it is compared with, and those on which none is.

    `compared`: pairs of frameworks; `quality`: "more_accurate" or "faster".
    """
    pairs: dict[str, list[Comparison]] = {}
    for comparison in compared:
        pairs.setdefault(comparison.first.variant_title, []).append(comparison)
    found: dict[str, list[str]] = {}
    none = []
    for network, those in pairs.items():
        sides = [(side.framework_title, getattr(c, quality) is side) for c in those for side in (c.first, c.second)]
        not_ahead = {framework for framework, is_ahead in sides if not is_ahead}
        leading = [framework for framework in dict.fromkeys(framework for framework, _ in sides) if framework not in not_ahead]
        for framework in leading:
            found.setdefault(framework, []).append(network)
        none += [] if leading else [network]
    return found, none


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
    """Whether all frameworks used the same initialisation and the same optimizer, not each its own."""
    return all(runs[f"recipe.{key}"].nunique() == 1 for key in results_table.CONVENTIONS)


def learning(runs: pd.DataFrame) -> list[dict]:
    """One row per cell, from means over the completed runs.

    Each row has the epoch with the lowest test loss, that loss, and the last epoch's test loss, training accuracy and test accuracy.
    """
    rows = []
    for _, cell in runs[runs.status == "completed"].groupby(["framework", "variant"], sort=False):
        history = pd.concat([run_files.read_history(folder) for folder in cell.folder]).groupby("epoch").mean()
        lowest, last = history.evaluated_loss.idxmin(), history.iloc[-1]
        row = {
            "title": f"{cell.framework_title.iloc[0]}, {cell.variant_title.iloc[0]}",
            "epoch": int(lowest),
            "epochs": int(history.index[-1]),
        }
        row |= {"lowest": history.evaluated_loss[lowest], "last": last.evaluated_loss}
        rows.append(row | {"train_accuracy": last.train_accuracy, "evaluated_accuracy": last.evaluated_accuracy})
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
