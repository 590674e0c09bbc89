#!/usr/bin/env python3
"""Plot the learning curves, one column per variant: loss and accuracy by epoch, in training and on test or validation images.

python scripts/plot_learning.py --runs results/runs.csv --output results/figures/learning.png
"""

import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from alexbench.analysis import run_files
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt
from alexbench.writing.language import Language


def read(runs: pd.DataFrame, splits: dict[str, str]) -> pd.DataFrame:
    """All histories in long form: one row per run, epoch and split, with loss and accuracy."""
    parts = []
    for run in runs.itertuples():
        history = run_files.read_history(run.folder)
        for column, split in splits.items():
            part = history[["epoch"]].assign(split=split, seed=run.seed, framework=run.framework_title, variant=run.variant_title)
            parts.append(part.assign(loss=history[f"{column}_loss"], accuracy=history[f"{column}_accuracy"]))
    return pd.concat(parts, ignore_index=True)


def draw(runs: pd.DataFrame, _: Language) -> plt.Figure:
    """Loss above accuracy, one column per variant; lines are means over seeds, bands reach from the lowest to the highest run."""
    measures = {"loss": _("Cross-entropy loss (nats)"), "accuracy": _("Accuracy")}
    splits = {"train": _("training"), "evaluated": _("validation") if run_files.evaluated_on(runs) == "validation" else _("test")}
    dashes = dict(zip(splits.values(), ((2, 1.2), ""), strict=True))
    histories = read(runs, splits)
    variants = list(dict.fromkeys(runs.variant_title))
    colours = figures.colours(runs.framework_title)
    figure, panels = plt.subplots(
        2, len(variants), figsize=(max(6.6, 1.2 + 3.4 * len(variants)), 5.4), sharex="col", squeeze=False, layout="constrained"
    )
    for row, (measure, label) in zip(panels, measures.items(), strict=True):
        for axes, variant in zip(row, variants, strict=True):
            sns.lineplot(
                histories[histories.variant == variant],
                x="epoch",
                y=measure,
                hue="framework",
                palette=colours,
                style="split",
                dashes=dashes,
                errorbar=("pi", 100),
                err_kws={"alpha": 0.15, "linewidth": 0},
                marker="o" if histories.epoch.max() <= 20 else None,
                markersize=4,
                markeredgewidth=0,
                legend=False,
                ax=axes,
            )
            axes.set(xlabel=_("Epoch"), ylabel=label, title=variant if measure == "loss" else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # Accuracies share one scale; losses do not, because a single diverging run would flatten all other curves.
    for axes in panels[1]:
        axes.set_ylim(0, 1)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles += [Line2D([], [], color=figures.GREY, linestyle=(0, dash) if dash else "-", label=split) for split, dash in dashes.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    seeds = runs.groupby(["framework", "variant"]).size()
    n = _.either([str(count) for count in sorted(seeds.unique())])
    note = _("Mean and range over all runs, whatever their outcome (n = %(n)s); %(about)s", n=n, about=figures.about(runs, _))
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    args = figures.parser(__doc__, language=True).parse_args(argv)
    figures.style()
    figures.save(draw(run_files.read_runs(args.runs), Language(args.language)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
