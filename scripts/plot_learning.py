#!/usr/bin/env python3
"""Plot the learning curves: loss and accuracy by epoch, in training and on the test set, a column a variant.

python scripts/plot_learning.py --runs results/runs.csv --output results/figures/learning.png
"""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from alexbench import figures, results
from alexbench.files import run_program

MEASURES = {"loss": "Cross-entropy loss (nats)", "accuracy": "Accuracy"}
DASHES = {"training": (2, 1.2), "test": ""}


def read(runs: pd.DataFrame) -> pd.DataFrame:
    """Every history in long form: a row a run, epoch and split, with loss and accuracy."""
    parts = []
    for run in runs.itertuples():
        history = results.read_history(run.folder)
        for split, column in (("training", "train"), ("test", "test")):
            part = history[["epoch"]].assign(split=split, seed=run.seed, framework=run.framework_title, variant=run.variant_title)
            parts.append(part.assign(loss=history[f"{column}_loss"], accuracy=history[f"{column}_accuracy"]))
    return pd.concat(parts, ignore_index=True)


def draw(runs: pd.DataFrame) -> plt.Figure:
    """Loss above accuracy, a column a variant; lines are means over seeds, bands reach from the lowest to the highest run."""
    histories = read(runs)
    variants = list(dict.fromkeys(runs.variant_title))
    colours = figures.colours(runs.framework_title)
    figure, panels = plt.subplots(
        2, len(variants), figsize=(max(6.6, 1.2 + 3.4 * len(variants)), 5.4), sharex="col", squeeze=False, layout="constrained"
    )
    for row, (measure, label) in zip(panels, MEASURES.items(), strict=True):
        for axes, variant in zip(row, variants, strict=True):
            sns.lineplot(
                histories[histories.variant == variant],
                x="epoch",
                y=measure,
                hue="framework",
                palette=colours,
                style="split",
                dashes=DASHES,
                errorbar=("pi", 100),
                err_kws={"alpha": 0.15, "linewidth": 0},
                marker="o" if histories.epoch.max() <= 20 else None,
                markersize=4,
                markeredgewidth=0,
                legend=False,
                ax=axes,
            )
            axes.set(xlabel="Epoch", ylabel=label, title=variant if measure == "loss" else "")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # Accuracies share their axis; one wild loss would flatten all other curves.
    for axes in panels[1]:
        axes.set_ylim(0, 1)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    handles += [
        Line2D([], [], color=figures.GREY, linestyle=(0, dashes) if dashes else "-", label=split) for split, dashes in DASHES.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    seeds = runs.groupby(["framework", "variant"]).size()
    n = " or ".join(map(str, sorted(seeds.unique())))
    figure.supxlabel(f"Mean and range over n = {n} runs of any outcome; {figures.about(runs)}", fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    args = figures.parser(__doc__).parse_args(argv)
    figures.style()
    figures.save(draw(results.read_table(args.runs)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
