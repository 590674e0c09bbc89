#!/usr/bin/env python3
"""Plot test accuracy, or validation accuracy, against training time, and the training time needed to reach each accuracy.

python scripts/plot_time_to_accuracy.py --runs results/runs.csv --output results/figures/time_to_accuracy.png
"""

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from alexbench.analysis import run_files
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt

# Accuracies to find the time for.
GRID = np.arange(0.1, 1.0, 0.01)


def read(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per completed run and epoch: framework, variant, seed, training `seconds` up to the epoch's end, test `accuracy` then."""
    parts = []
    for run in runs[runs.status == "completed"].itertuples():
        history = run_files.read_history(run.folder)
        part = history[["epoch"]].assign(framework=run.framework_title, variant=run.variant_title, seed=run.seed)
        parts.append(part.assign(seconds=history.seconds.cumsum(), accuracy=history.evaluated_accuracy))
    columns = ["epoch", "framework", "variant", "seed", "seconds", "accuracy"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def times_to(history: pd.DataFrame, accuracies: np.ndarray) -> np.ndarray:
    """Training seconds until one run first reached each of `accuracies` at the end of an epoch; NaN where it never did."""
    best, seconds = np.maximum.accumulate(history.accuracy.to_numpy()), history.seconds.to_numpy()
    place = np.searchsorted(best, accuracies)
    return np.where(place < len(best), seconds[np.minimum(place, len(best) - 1)], np.nan)


def draw(runs: pd.DataFrame) -> plt.Figure:
    """Accuracy against time above, time to an accuracy below; one column per framework."""
    histories = read(runs)
    accuracy = f"{run_files.evaluated_on(runs).capitalize()} accuracy"
    frameworks = list(dict.fromkeys(runs.framework_title))
    titles = list(dict.fromkeys(runs.variant_title))
    colours, markers = dict(zip(titles, figures.COLOURS, strict=False)), figures.markers(titles)
    size = (max(6.6, 1.0 + 3.6 * len(frameworks)), 6.0)
    figure, panels = plt.subplots(2, len(frameworks), figsize=size, sharex="row", sharey="row", squeeze=False, layout="constrained")
    for column, framework in enumerate(frameworks):
        above, below = panels[:, column]
        for variant, cell in histories[histories.framework == framework].groupby("variant", sort=False):
            look = {"color": colours[variant]}
            for _, run in cell.groupby("seed"):
                above.plot(run.seconds, run.accuracy, linewidth=0.8, alpha=0.4, **look)
            mean = cell.groupby("epoch")[["seconds", "accuracy"]].mean()
            above.plot(mean.seconds, mean.accuracy, marker=markers[variant], markersize=4.5, linewidth=1.8, markeredgewidth=0, **look)
            times = np.array([times_to(run, GRID) for _, run in cell.groupby("seed")])
            reached = np.isfinite(times).all(axis=0)
            low, middle, high = np.quantile(times[:, reached], (0, 0.5, 1), axis=0) if reached.any() else np.empty((3, 0))
            below.fill_between(GRID[reached], low, high, alpha=0.15, linewidth=0, step="post", **look)
            below.step(GRID[reached], middle, where="post", linewidth=1.8, **look)
        above.set(title=framework, xlabel="Training time (s)", ylabel=accuracy)
        below.set(xlabel=accuracy, ylabel="Training time to reach it (s)", yscale="log")
        below.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        below.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:,g}"))
        below.yaxis.set_minor_formatter(NullFormatter())
        above.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        below.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in panels[:, 1:].flat:
        axes.set_ylabel("")
    handles = [
        Line2D([], [], color=colours[title], marker=markers[title], markersize=4.5, markeredgewidth=0, label=title) for title in titles
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    seeds = runs[runs.status == "completed"].groupby(["framework", "variant"]).size()
    n = " or ".join(map(str, sorted(seeds.unique()))) if len(seeds) else "0"
    note = f"Mean above, median and range below, of n = {n} completed runs; {figures.about(runs)}"
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    args = figures.parser(__doc__).parse_args(argv)
    figures.style()
    figures.save(draw(run_files.read_runs(args.runs)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
