#!/usr/bin/env python3
"""Plot the confusion matrix and the accuracy per class of one cell (framework and variant), over its completed runs.

    python scripts/plot_classes.py --runs results/runs.csv --data resources/data/cifar10.npz \\
        --framework pytorch --variant alexnet_mod --output results/figures/classes/pytorch_alexnet_mod.png
"""

import numpy as np
import seaborn as sns

from alexbench.analysis import run_files, stats
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt

# In squares of more classes, numbers could not be read.
MOST_WITH_NUMBERS = 20


def draw(title: str, colour: str, matrices: np.ndarray, classes: tuple[str, ...], note: str) -> plt.Figure:
    """Draw the figure. `matrices`: float (runs, classes, classes), the share of each true class (row) predicted as each class (column)."""
    # With many classes, smaller squares without numbers, so that a hundred still fit on a page. All lengths are in inches.
    square = float(np.clip(4.4 / len(classes), 0.14, 1.2))
    side = square * len(classes)
    size = min(10.0, 52 * square)
    names = [figures.shortened(name, 24) for name in classes]
    label = 0.0085 * size * max(map(len, names))
    widths = side + label + 1.2, 2.2 + label
    figure, (left, right) = plt.subplots(1, 2, figsize=(sum(widths) + 0.6, side + label + 1.2), width_ratios=widths, layout="constrained")
    positions = np.arange(len(classes))
    if len(matrices):
        percent = 100 * matrices.mean(axis=0)
        sns.heatmap(
            percent,
            ax=left,
            annot=len(classes) <= MOST_WITH_NUMBERS,
            fmt=".0f",
            cmap="Blues",
            vmin=0,
            vmax=100,
            square=True,
            linewidths=0.5 if len(classes) <= MOST_WITH_NUMBERS else 0,
            annot_kws={"fontsize": 8},
            cbar_kws={"label": "Share of the true class (%)", "shrink": 0.8},
            xticklabels=names,
            yticklabels=names,
        )
        accuracy = 100 * np.diagonal(matrices, axis1=1, axis2=2)
        right.barh(positions, accuracy.mean(axis=0), color=colour, alpha=0.75, height=0.7)
        for run in accuracy:
            right.plot(run, positions, "o", color="black", markersize=3, alpha=0.7, clip_on=False, zorder=4)
        right.plot([], [], "o", color="black", markersize=3, label="one run")
        overall = accuracy.mean()
        right.axvline(overall, color=figures.GREY, linestyle="--", linewidth=1, label=f"all classes: {overall:.1f} %")
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    else:
        left.text(0.5, 0.5, "no completed run", transform=left.transAxes, ha="center", va="center")
        left.set(xticks=[], yticks=[])
    left.set(xlabel="Predicted class", ylabel="True class")
    left.tick_params(axis="x", rotation=45 if len(classes) <= MOST_WITH_NUMBERS else 90, labelsize=size)
    plt.setp(left.get_xticklabels(), ha="right", va="center" if len(classes) > MOST_WITH_NUMBERS else "top", rotation_mode="anchor")
    left.tick_params(axis="y", rotation=0, labelsize=size)
    right.set(xlim=(0, 100), ylim=(len(classes) - 0.5, -0.5), xlabel="Test accuracy of the class (%)")
    right.set_yticks(positions, names, fontsize=size)
    right.grid(axis="y", visible=False)
    figure.get_layout_engine().set(wspace=0.08)
    figure.suptitle(title)
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__, cell=True)
    args = p.parse_args(argv)
    figures.style()
    runs = run_files.read_runs(args.runs)
    cell = run_files.cell(runs, args.framework, args.variant)
    completed = cell[cell.status == "completed"]
    classes = run_files.data_of(cell, args.data).classes
    matrices = []
    for folder in completed.folder:
        logits, labels = run_files.read_predictions(folder)
        matrix = stats.confusion_matrix(logits, labels)
        matrices.append(matrix / matrix.sum(axis=1, keepdims=True))
    first = cell.iloc[0]
    note = f"Mean over n = {len(completed)} of {len(cell)} runs; {figures.about(cell)}"
    colour = figures.colours(runs.framework_title)[first.framework_title]
    title = f"{first.framework_title}, {first.variant_title}"
    figures.save(draw(title, colour, np.array(matrices), classes, note), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
