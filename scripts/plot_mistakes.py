#!/usr/bin/env python3
"""Plot the test images that one cell gets wrong most confidently, with true class, predicted class and probability.

    python scripts/plot_mistakes.py --runs results/runs.csv --data resources/data/cifar10.npz \\
        --framework pytorch --variant alexnet_mod --output results/figures/mistakes/pytorch-alexnet_mod.png
"""

import numpy as np

from alexbench import numeric
from alexbench.analysis import run_files, stats
from alexbench.experiment import datasets
from alexbench.files import InputError, run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt


def draw(title: str, dataset: datasets.Dataset, shares: np.ndarray, columns: int, rows: int, note: str) -> plt.Figure:
    """Draw the figure. `shares`: float (images, classes), the predicted probabilities; (0, classes) if there is no completed run."""
    figure, panels = plt.subplots(rows, columns, figsize=(1.28 * columns, 1.45 * rows + 0.6), squeeze=False, layout="constrained")
    for axes in panels.flat:
        axes.axis("off")
    wrong = stats.confidently_wrong(shares, dataset.test_labels, columns * rows) if len(shares) else []
    for axes, image in zip(panels.flat, wrong, strict=False):
        axes.imshow(dataset.test_images[image], interpolation="nearest")
        places = dataset.test_labels[image], shares[image].argmax()
        true, predicted = (figures.shortened(dataset.classes[place], 16) for place in places)
        # A long name gets a line of its own: the next picture is near.
        between = ", " if len(predicted) <= 10 else "\n"
        axes.set_title(f"{true}\n→ {predicted}{between}{_probability(shares[image].max())}", fontsize=7.5, pad=3)
    if not len(wrong):
        figure.text(0.5, 0.5, "no mistake" if len(shares) else "no completed run", ha="center", va="center")
    figure.suptitle(f"{title}: most confident mistakes, true class → predicted class with its probability", fontsize=9.5)
    figure.get_layout_engine().set(wspace=0.02, hspace=0.04)
    figure.supxlabel(note, fontsize=7.5, color=figures.GREY)
    return figure


def _probability(share: float) -> str:
    """A probability with three decimals, but never rounded up to 1."""
    return f"{share:.3f}" if share < 0.9995 else "> 0.999"


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__, cell=True)
    p.add_argument("--columns", type=numeric.side_by_side, default=6, help="images per row (%(default)s)")
    p.add_argument("--rows", type=numeric.side_by_side, default=3, help="rows of images (%(default)s)")
    args = p.parse_args(argv)
    figures.style()
    runs = run_files.read_runs(args.runs)
    cell = run_files.cell(runs, args.framework, args.variant)
    first = cell.iloc[0]
    dataset = run_files.data_of(cell, args.data).limited(None, int(first.test_images))
    completed = cell[cell.status == "completed"]
    shares = []
    for folder in completed.folder:
        logits, labels = run_files.read_predictions(folder)
        if not np.array_equal(labels, dataset.test_labels):
            raise InputError(f"results: the predictions in {folder} are not of the test images in {args.data}; train that run again")
        shares.append(stats.probabilities(logits))
    mean = np.mean(shares, axis=0) if shares else np.empty((0, len(dataset.classes)))
    wrong = int((mean.argmax(axis=1) != dataset.test_labels).sum()) if shares else 0
    note = f"Mean probability over n = {len(completed)} of {len(cell)} runs, by which {wrong:,} images are wrong; {figures.about(cell)}"
    title = f"{first.framework_title}, {first.variant_title}"
    figures.save(draw(title, dataset, mean, args.columns, args.rows, note), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
