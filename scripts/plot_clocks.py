#!/usr/bin/env python3
"""Plot how the runs of each cell spent their time: start-up, compilation, training, evaluation, checkpoints.

python scripts/plot_clocks.py --runs results/runs.csv --output results/figures/clocks.png
"""

import pandas as pd

from alexbench.analysis import run_files
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt
from alexbench.writing.language import Language

CLOCKS = ("setup_seconds", "compile_seconds", "train_seconds", "evaluate_seconds", "checkpoint_seconds")
COLOURS = ("#999999", "#E69F00", "#0072B2", "#009E73", "#CC79A7")


def draw(runs: pd.DataFrame, _: Language) -> plt.Figure:
    """One bar per cell, made of the means over its completed runs."""
    names = (_("start-up and data"), _("compilation"), _("training"), _("evaluation"), _("checkpoints"))
    completed = runs[runs.status == "completed"]
    means = completed.groupby(["framework_title", "variant_title"], sort=False)[[c for c in CLOCKS if c in runs]].mean()
    figure, axes = plt.subplots(figsize=(7.4, 1.2 + 0.34 * max(len(means), 1)), layout="constrained")
    left = pd.Series(0.0, index=means.index)
    for clock, name, colour in zip(CLOCKS, names, COLOURS, strict=True):
        if clock in means:
            axes.barh(range(len(means)), means[clock], left=left, color=colour, label=name, height=0.65)
            left = left + means[clock]
    axes.set_yticks(range(len(means)), [f"{framework}, {variant}" for framework, variant in means.index])
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(_("Seconds per run"))
    figure.legend(loc="outside upper center", ncols=len(CLOCKS), handlelength=1, handletextpad=0.4, columnspacing=1.2)
    counts = sorted(completed.groupby(["framework", "variant"]).size().unique()) or [0]
    note = _("Mean over the completed runs (n = %(n)s); %(about)s", n=_.either([str(n) for n in counts]), about=figures.about(runs, _))
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    args = figures.parser(__doc__, language=True).parse_args(argv)
    figures.style()
    figures.save(draw(run_files.read_runs(args.runs), Language(args.language)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
