#!/usr/bin/env python3
"""Plot each cell's test accuracy: its runs, their mean with its 95 % interval, and the original study's result for comparison.

A thin line is the 95 % prediction interval of one more run, to compare the original study's single run with.

python scripts/plot_intervals.py --runs results/runs.csv --table results/table.csv --output results/figures/intervals.png
"""

from pathlib import Path

import pandas as pd

from alexbench.analysis import results_table, run_files
from alexbench.files import run_program
from alexbench.writing import article, figures
from alexbench.writing.figures import plt
from alexbench.writing.language import Language


def draw(runs: pd.DataFrame, table: pd.DataFrame, _: Language) -> plt.Figure:
    """One line per row of `table`."""
    colours = figures.colours(table.framework_title)
    figure, axes = plt.subplots(figsize=(7.4, 1.3 + 0.34 * len(table)), layout="constrained")
    for place, (_index, row) in enumerate(table.iterrows()):
        cell = runs[(runs.framework == row.framework) & (runs.variant == row.variant) & (runs.group == row.group)]
        cell = cell[cell.status == "completed"]
        colour = colours[row.framework_title]
        axes.plot(cell.accuracy.astype(float), [place] * len(cell), "|", color=colour, markersize=13, markeredgewidth=1.2, alpha=0.6)
        axes.plot([row.accuracy_low, row.accuracy_high], [place, place], color=colour, linewidth=2)
        axes.plot(row.accuracy, place, "o", color=colour, markersize=7)
        if row.n == 0:
            axes.text(0.5, place, _("no completed run"), transform=axes.get_yaxis_transform(), ha="center", va="center", color=figures.GREY)
        if pd.notna(row.accuracy_minus_original):
            axes.plot([row.accuracy_run_low, row.accuracy_run_high], [place, place], color=colour, linewidth=0.8)
            axes.plot(row.original_accuracy, place, "D", color="none", markeredgecolor="#333333", markersize=7, markeredgewidth=1.3)
    axes.set_yticks(range(len(table)), [article.title(row) for _index, row in table.iterrows()])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(_("Test accuracy"))
    grey = {"color": figures.GREY, "linestyle": "none"}
    axes.plot([], [], "o", markersize=7, label=_("mean"), **grey)
    axes.plot([], [], color=figures.GREY, linewidth=2, label=_("95 %% interval"))
    axes.plot([], [], "|", markersize=13, label=_("one run"), **grey)
    if table.accuracy_minus_original.notna().any():
        axes.plot([], [], "D", markerfacecolor="none", markeredgecolor="#333333", linestyle="none", label=_("the original study of 2025"))
    if (table.accuracy_minus_original.notna() & table.accuracy_run_low.notna()).any():
        axes.plot([], [], color=figures.GREY, linewidth=0.8, label=_("95 %% prediction interval for one more run"))
    figure.legend(loc="outside upper center", ncols=3, handletextpad=0.4, columnspacing=1.4)
    counts = _.either([str(n) for n in sorted(table.n.unique())])
    note = _("completed runs: n = %(n)s; for n = 1 the interval is over the test images; %(about)s", n=counts, about=figures.about(runs, _))
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__, language=True)
    p.add_argument("--table", required=True, type=Path, metavar="CSV", help="table.csv, made by collect.py")
    args = p.parse_args(argv)
    figures.style()
    figures.save(draw(run_files.read_runs(args.runs), results_table.read(args.table), Language(args.language)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
