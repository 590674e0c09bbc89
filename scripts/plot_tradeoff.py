#!/usr/bin/env python3
"""Plot accuracy, training time and parameters in pairs: one point per run, the mean over seeds, and the original study's results (hollow).

python scripts/plot_tradeoff.py --runs results/runs.csv --output results/figures/tradeoff.png
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from alexbench.analysis import results_table, run_files
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt

ORIGINAL = Path(__file__).resolve().parents[1] / "config" / "original.csv"
AXES = {"train_seconds": "Training time (s)", "accuracy": "Test accuracy", "parameters": "Parameters"}


def panel(axes: plt.Axes, x: str, y: str, runs: pd.DataFrame, original: pd.DataFrame, colours: dict, markers: dict) -> None:
    """Draw one pair of quantities: runs small, means large with a bar of one standard deviation, the original study's results hollow."""
    order = sorted(runs.framework_title.unique())
    for (framework, variant, _), cell in runs.groupby(["framework_title", "variant_title", "group"], sort=False):
        # All frameworks have the same number of parameters, so move their points apart.
        nudge = dict.fromkeys((x, y), 1.0)
        if "parameters" in nudge:
            nudge["parameters"] = 1.09 ** (order.index(framework) - (len(order) - 1) / 2)
        look = {"color": colours[framework], "marker": markers[variant], "linestyle": "none"}
        axes.plot(cell[x] * nudge[x], cell[y] * nudge[y], markersize=4, alpha=0.45, markeredgewidth=0, **look)
        spread = {f"{axis}err": cell[column].std() for axis, column in (("x", x), ("y", y)) if len(cell) > 1 and column != "parameters"}
        axes.errorbar(
            cell[x].mean() * nudge[x],
            cell[y].mean() * nudge[y],
            markersize=9,
            capsize=3,
            elinewidth=1,
            markeredgecolor="white",
            zorder=3,
            **spread,
            **look,
        )
        theirs = original[(original.framework_title == framework) & (original.variant_title == variant)]
        axes.plot(
            theirs[x] * nudge[x],
            theirs[y] * nudge[y],
            marker=markers[variant],
            markersize=9,
            linestyle="none",
            markerfacecolor="none",
            markeredgecolor=colours[framework],
            markeredgewidth=1.3,
        )
    axes.set(xlabel=AXES[x], ylabel=AXES[y])
    for name, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if name == "accuracy":
            continue
        (axes.set_xscale if name == x else axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(_short))
        axis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    # Wide limits, so that points moved apart do not look like networks of different sizes, even if there is only one network.
    for name, limit in ((x, axes.set_xlim), (y, axes.set_ylim)):
        if name == "parameters" and len(runs):
            limit(runs[name].min() / 2.5, runs[name].max() * 2.5)


def _short(value: float, _: object = None) -> str:
    for limit, unit in ((1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def draw(runs: pd.DataFrame, original: pd.DataFrame) -> plt.Figure:
    """The three pairs of the three quantities, side by side."""
    completed = runs[runs.status == "completed"]
    titles = runs[["framework", "framework_title", "variant", "variant_title"]].drop_duplicates()
    original = original.merge(titles, on=["framework", "variant"])
    if set(runs.dataset) != {results_table.ORIGINAL_DATASET}:
        original = original.iloc[:0]
    colours, markers = figures.colours(runs.framework_title), figures.markers(runs.variant_title)
    figure, panels = plt.subplots(1, 3, figsize=(11.5, 3.8), layout="constrained")
    for axes, (x, y) in zip(
        panels, (("train_seconds", "accuracy"), ("parameters", "accuracy"), ("parameters", "train_seconds")), strict=True
    ):
        panel(axes, x, y, completed, original, colours, markers)
    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    handles += [
        Line2D([], [], color=figures.GREY, marker=marker, linestyle="none", markersize=7, label=name) for name, marker in markers.items()
    ]
    handles.append(Line2D([], [], color=figures.GREY, marker="o", alpha=0.45, linestyle="none", markersize=4, label="one run"))
    if len(original):
        hollow = {"markerfacecolor": "none", "markeredgecolor": figures.GREY}
        handles.append(Line2D([], [], marker="o", linestyle="none", markersize=7, label="the original study of 2025 (15 epochs)", **hollow))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), handlelength=1.2, handletextpad=0.4, columnspacing=1.3)
    seeds = completed.groupby(["framework", "variant", "group"]).size()
    n = " or ".join(map(str, sorted(seeds.unique()))) if len(seeds) else "0"
    note = f"Mean ± 1 sd over n = {n} completed runs; {figures.about(runs)}"
    lost = {status: int((runs.status == status).sum()) for status in run_files.STATUSES[1:]}
    note += "".join(f"; {count} {status}, not shown" for status, count in lost.items() if count)
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__)
    p.add_argument("--original", type=Path, default=ORIGINAL, metavar="CSV", help="the original study's results (config/original.csv)")
    args = p.parse_args(argv)
    figures.style()
    runs = run_files.read_runs(args.runs)
    figures.save(draw(runs.astype(dict.fromkeys(AXES, np.float64)), results_table.read_original(args.original)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
