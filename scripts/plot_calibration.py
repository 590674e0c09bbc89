#!/usr/bin/env python3
"""Plot calibration, one column per variant: accuracy at each confidence, and how many images have that confidence.

python scripts/plot_calibration.py --runs results/runs.csv --output results/figures/calibration.png
"""

import numpy as np
import pandas as pd

from alexbench.analysis import run_files, stats
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt

BINS = 15


def panel(upper: plt.Axes, lower: plt.Axes, cells: pd.DataFrame, colours: dict[str, str]) -> None:
    """Draw one variant, one line per framework: accuracy against confidence above, the share of images at each confidence below."""
    edges = np.linspace(0, 1, BINS + 1)
    upper.plot([0, 1], [0, 1], color=figures.GREY, linestyle="--", linewidth=1)
    for framework, cell in cells.groupby("framework_title", sort=False):
        predictions = [run_files.read_predictions(folder) for folder in cell.folder]
        logits, labels = (np.concatenate(arrays) for arrays in zip(*predictions, strict=True))
        count, confidence, accuracy = stats.reliability(logits, labels, BINS)
        error = cell[run_files.CALIBRATION].astype(float)
        spread = f" ± {error.std():.3f}" if len(cell) > 1 else ""
        label = f"{framework}: calibration error {error.mean():.3f}{spread}, n = {len(cell)}"
        filled = count > 0
        upper.plot(confidence[filled], accuracy[filled], color=colours[framework], linewidth=1.2, alpha=0.6)
        upper.scatter(confidence, accuracy, 200 * count / count.sum(), color=colours[framework], linewidth=0, clip_on=False, zorder=3)
        upper.plot([], [], "o", color=colours[framework], markersize=5, label=label)
        lower.stairs(count / count.sum(), edges, color=colours[framework], linewidth=1.4)
        lower.stairs(count / count.sum(), edges, color=colours[framework], alpha=0.12, fill=True)
    upper.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), fontsize=8, borderpad=0.2, handletextpad=0.3)
    upper.set(xlim=(0, 1), ylim=(0, 1))
    lower.set(xlabel="Confidence: probability of the predicted class")


def draw(runs: pd.DataFrame) -> plt.Figure:
    """Reliability above, confidence below, one column per variant; completed runs are pooled."""
    variants = list(dict.fromkeys(runs.variant_title))
    colours = figures.colours(runs.framework_title)
    figure, panels = plt.subplots(
        2,
        len(variants),
        figsize=(max(6.6, 1.0 + 3.4 * len(variants)), 5.6),
        height_ratios=(2.4, 1),
        sharex=True,
        sharey="row",
        squeeze=False,
        layout="constrained",
    )
    completed = runs[runs.status == "completed"]
    for (upper, lower), variant in zip(panels.T, variants, strict=True):
        cells = completed[completed.variant_title == variant]
        if len(cells):
            panel(upper, lower, cells, colours)
        else:
            upper.text(0.5, 0.5, "no completed run", ha="center", va="center")
        # Above the legend, which has one line per framework.
        upper.set_title(variant, pad=8 + 14 * len(colours))
    figure.get_layout_engine().set(wspace=0.06)
    panels[0][0].set_ylabel("Accuracy")
    panels[1][0].set_ylabel("Share of images")
    note = f"All completed runs together, {BINS} bins, dots sized by their images\n{figures.about(runs)}"
    figure.supxlabel(note, fontsize=8, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    args = figures.parser(__doc__).parse_args(argv)
    figures.style()
    figures.save(draw(run_files.read_runs(args.runs)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
