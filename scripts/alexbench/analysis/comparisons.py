"""Compare pairs of cells in accuracy and training time, with intervals; verdicts only where the intervals support them."""

from collections import Counter
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench import tables
from alexbench.analysis import comparability, stats, verdicts
from alexbench.analysis.results_table import counted
from alexbench.analysis.run_files import STATUSES, read_predictions
from alexbench.analysis.stats import Interval
from alexbench.analysis.verdicts import SIGNIFICANT
from alexbench.files import InputError
from alexbench.tables import Column

_OF_A_CELL = ("framework", "variant", "group", "framework_title", "variant_title", "made_with", "n", *STATUSES[1:])
# Listed because the table can be empty: a grid of one framework and one variant has nothing to compare.
COLUMNS = (
    *("kind", *(f"{name}_{key}" for name in ("a", "b") for key in _OF_A_CELL), "paired"),
    *("accuracy_difference", "accuracy_low", "accuracy_high", "accuracy_verdict", "accuracy_together"),
    *("time_ratio", "time_low", "time_high", "time_verdict", "time_unlike", "time_together"),
    *("mcnemar_pairs", "mcnemar_p", "mcnemar_different", "words"),
)


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per pair of cells: one variant in two frameworks (`kind` "framework"), or two variants in one framework ("variant").

    `runs`: `run_files.runs_table`. Cell `a`, the later of the two in that table, is compared with cell `b` over completed runs.
    `accuracy_difference`: a's mean accuracy minus b's. `time_ratio`: a's training time divided by b's. Each has a 95 % interval (`_low`,
    `_high`) and a `_verdict`; all pairs of a kind are judged `_together`, which widens the intervals (`stats.difference_interval`).
    `paired`: both cells have the same seeds and are compared seed by seed.
    `mcnemar_pairs`: number of seeds that both have. `mcnemar_p`: median p of McNemar's test over those seeds. `mcnemar_different`: number
    of seeds with p below 0.05. `words`: the row in sentences.

    Groups of runs within a cell (see `comparability`) are compared with groups on the same hardware, if there are any.
    """
    cells = dict(iter(runs.groupby([*comparability.CELL, "group"], sort=False)))
    frameworks, variants = runs.framework.unique(), runs.variant.unique()
    pairs = [("framework", (later, variant), (first, variant)) for variant in variants for first, later in combinations(frameworks, 2)]
    pairs += [("variant", (framework, later), (framework, first)) for framework in frameworks for first, later in combinations(variants, 2)]
    found = []
    for kind, a, b in pairs:
        groups = list(product(*([cell for place, cell in cells.items() if place[:2] == which] for which in (a, b))))
        alike = [(ours, theirs) for ours, theirs in groups if not _unlike(ours, theirs)]
        found += [(kind, ours, theirs) for ours, theirs in alike or groups]
    judged = [(kind, not _unlike(ours, theirs)) for kind, ours, theirs in found if _completed_at_least(2, ours, theirs)]
    accuracies, times = Counter(kind for kind, _ in judged), Counter(kind for kind, timed in judged if timed)
    rows = [{"kind": kind} | _compared(ours, theirs, accuracies[kind], times[kind]) for kind, ours, theirs in found]
    return pd.DataFrame(rows, columns=COLUMNS)


def read(path: Path | str) -> pd.DataFrame:
    """Read comparisons.csv, written by `compare.py`; InputError if it is damaged or incomplete."""
    key = [f"{name}_{part}" for name in ("a", "b") for part in ("framework", "variant", "group")]
    return tables.read(path, {name: _column(name) for name in COLUMNS}, "delete it and make it again with scripts/compare.py", key)


def _column(name: str) -> Column:
    """The type and limits of a column of the table, by its name."""
    if name == "kind":
        return Column(choices=("framework", "variant"))
    if name == "paired":
        return Column(bool)
    if name.endswith(("_n", "_group", "_pairs", "_different", "_together", *STATUSES[1:])):
        return Column(int, 0)
    if name.endswith(("_low", "_high", "_difference", "_ratio", "_p")):
        return Column(float, gaps=True)
    return Column(gaps=name.endswith(("_made_with", "_unlike")))


def _unlike(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    """The hardware columns that differ, so that times cannot be compared."""
    return comparability.differing(pd.concat([ours, theirs]), comparability.HARDWARE)


def _completed_at_least(number: int, *cells: pd.DataFrame) -> bool:
    return all((cell.status == "completed").sum() >= number for cell in cells)


def _compared(ours: pd.DataFrame, theirs: pd.DataFrame, accuracies: int = 1, times: int = 1) -> dict:
    """A row of the table but for its kind, where so many differences in accuracy and ratios of times are judged together."""
    a, b = (cell[cell.status == "completed"].set_index("seed").sort_index() for cell in (ours, theirs))
    paired = a.index.equals(b.index)
    unlike = ", ".join(_unlike(ours, theirs))
    accuracy = stats.difference_interval(a.accuracy.astype(float), b.accuracy.astype(float), paired, together=max(accuracies, 1))
    time = Interval(np.nan) if unlike else stats.ratio_interval(a.train_seconds, b.train_seconds, paired, together=max(times, 1))
    p = np.array([_mcnemar(a.folder[seed], b.folder[seed]).p for seed in a.index.intersection(b.index)])
    row = {}
    for name, cell in (("a", ours), ("b", theirs)):
        row |= {
            f"{name}_{key}": cell.iloc[0][key] for key in ("framework", "variant", "group", "framework_title", "variant_title", "made_with")
        }
        row |= {f"{name}_n": int((cell.status == "completed").sum())}
        row |= {f"{name}_{status}": int((cell.status == status).sum()) for status in STATUSES[1:]}
    row["paired"] = paired
    row |= {"accuracy_difference": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
    row |= {"accuracy_verdict": verdicts.of_accuracy(accuracy), "accuracy_together": accuracies}
    row |= {"time_ratio": time.value, "time_low": time.low, "time_high": time.high}
    row |= {"time_verdict": verdicts.of_time(time, unlike), "time_unlike": unlike, "time_together": times}
    row |= {"mcnemar_pairs": len(p), "mcnemar_p": np.median(p) if len(p) else np.nan, "mcnemar_different": int((p < SIGNIFICANT).sum())}
    return row | {"words": words(pd.Series(row))}


def _mcnemar(ours: str, theirs: str) -> stats.McNemar:
    """McNemar's test of two runs, given their folders."""
    (logits, labels), (their_logits, their_labels) = read_predictions(ours), read_predictions(theirs)
    if not np.array_equal(labels, their_labels):
        raise InputError(
            f"results: predictions in {ours} and {theirs} are not of the same test images; delete them and train those runs again"
        )
    return stats.mcnemar(logits.argmax(axis=1) == labels, their_logits.argmax(axis=1) == labels)


def title(row: pd.Series, cell: str) -> str:
    """The title of cell "a" or "b" in a row of the table."""
    made_with = row[f"{cell}_made_with"]
    return f"{row[f'{cell}_framework_title']}, {row[f'{cell}_variant_title']}" + (f" [{made_with}]" if made_with else "")


def runs_of(row: pd.Series) -> str:
    """How many runs are compared, such as "n = 3, seed by seed" or "n = 3 and n = 2 of 3 (1 collapsed)"."""
    a, b = (counted(pd.Series({key: row[f"{cell}_{key}"] for key in ("n", *STATUSES[1:])})) for cell in ("a", "b"))
    return (a if a == b else f"{a} and {b}") + (", seed by seed" if row.paired and row.a_n > 1 else "")


def words(row: pd.Series) -> str:
    """A row of the table in sentences."""
    a, b, counts = title(row, "a"), title(row, "b"), runs_of(row)
    if not (row.a_n and row.b_n):
        return f"{a} and {b} ({counts}): nothing to compare without completed runs."
    accuracy = Interval(row.accuracy_difference, row.accuracy_low, row.accuracy_high)
    time = Interval(row.time_ratio, row.time_low, row.time_high)
    text = f"{verdicts.on_accuracy(a, b, accuracy, counts)} {verdicts.on_time(a, b, time, counts, unlike=row.time_unlike)}"
    return f"{text} {_images(row)}".rstrip()


def _images(row: pd.Series) -> str:
    if not row.mcnemar_pairs:
        return ""
    if row.a_n == row.b_n == 1:
        return verdicts.on_two_networks(row.mcnemar_p)
    seeds = "seeds" if row.mcnemar_pairs > 1 else "seed"
    return (
        f"McNemar’s exact test tells the two networks of a seed apart in {row.mcnemar_different} of {row.mcnemar_pairs} {seeds} "
        f"(median p = {row.mcnemar_p:.2g})."
    )


def readable(compared: pd.DataFrame) -> pd.DataFrame:
    """The table for readers: each pair, its runs, the differences with their intervals, and the verdicts."""

    def interval(low: float, high: float, form: str) -> str:
        return "" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]"

    rows = []
    for _, row in compared.iterrows():
        difference = f"{row.accuracy_difference:+.4f}{interval(row.accuracy_low, row.accuracy_high, '+.4f')}"
        ratio = f"{row.time_ratio:.2f}{interval(row.time_low, row.time_high, '.2f')}"
        rows.append(
            {
                "Compared": title(row, "a"),
                "with": title(row, "b"),
                "Runs": runs_of(row),
                "Accuracy": "–" if np.isnan(row.accuracy_difference) else difference,
                "better or worse": row.accuracy_verdict,
                "Training time": "–" if np.isnan(row.time_ratio) else f"× {ratio}",
                "faster or slower": row.time_verdict,
                "McNemar's p": "–" if np.isnan(row.mcnemar_p) else f"{row.mcnemar_p:.2g}",
            }
        )
    return pd.DataFrame(rows)


def markdown(compared: pd.DataFrame) -> str:
    """The table and its sentences in Markdown, with a note on method."""
    if compared.empty:
        return "Only one cell: nothing to compare.\n"
    parts = [readable(compared).to_markdown(index=False, disable_numparse=True), ""]
    parts += [*(f"- {sentence}" for sentence in compared.words), ""]
    together = compared.groupby("kind").accuracy_together.max()
    parts += [
        "Over completed runs, in brackets 95 % intervals by a bootstrap over runs with Student's t. Better, worse, faster, slower: said "
        f"only where the interval excludes no difference. {_adjusted(together)}Where n = 1 there is no interval, and no verdict. McNemar's "
        "exact test "
        "compares two trained networks on the test images (the median p over seeds), not what trained them: another seed may come out "
        "otherwise.",
        "",
    ]
    return "\n".join(parts)


def _adjusted(together: pd.Series) -> str:
    """A sentence on how many pairs of each kind are judged together."""
    what = {"framework": "pairs of frameworks", "variant": "pairs of networks"}
    many = [f"{together[kind]} {words}" for kind, words in what.items() if together.get(kind, 0) > 1]
    if not many:
        return ""
    return (
        f"The intervals of the {' and those of the '.join(many)} are widened (Bonferroni): were nothing different, even one wrong verdict "
        "among them would come in at most 5 % of such tables. "
    )
