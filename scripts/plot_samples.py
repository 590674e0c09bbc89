#!/usr/bin/env python3
"""Plot sample images of a data set: a row a class, the first images of each in the training set.

python scripts/plot_samples.py --data resources/data/cifar10.npz --output results/figures/samples.png
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from alexbench import datasets, figures
from alexbench.files import run_program


def draw(dataset: datasets.Dataset, columns: int) -> plt.Figure:
    """`columns` images of every class, enlarged without smoothing, the class and its number of images beside them."""
    figure, panels = plt.subplots(len(dataset.classes), columns, figsize=(1.6 + 0.62 * columns, 0.64 * len(dataset.classes)), squeeze=False)
    for label, (row, name) in enumerate(zip(panels, dataset.classes, strict=True)):
        where = np.flatnonzero(dataset.train_labels == label)[:columns]
        for axes in row:
            axes.axis("off")
        for axes, index in zip(row, where, strict=False):
            axes.imshow(dataset.train_images[index], interpolation="nearest")
        row[0].text(-0.25, 0.5, name, transform=row[0].transAxes, ha="right", va="center", fontsize=10)
    figure.subplots_adjust(left=0.16, right=0.995, top=0.995, bottom=0.06, wspace=0.06, hspace=0.06)
    counts = " and ".join(
        f"{len(labels):,} {split} images ({_per_class(labels)} a class)"
        for split, labels in (("training", dataset.train_labels), ("test", dataset.test_labels))
    )
    figure.text(0.5, 0.03, f"{dataset.name}: {counts}", ha="center", va="center", fontsize=8, color=figures.GREY)
    return figure


def _per_class(labels: np.ndarray) -> str:
    counts = np.bincount(labels)
    return f"{counts.min():,}" if counts.min() == counts.max() else f"{counts.min():,} to {counts.max():,}"


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__, runs=False)
    p.add_argument("--data", required=True, type=Path, metavar="NPZ", help="made by prepare_data.py")
    p.add_argument("--columns", type=int, default=10, help="images a class (%(default)s)")
    args = p.parse_args(argv)
    figures.style()
    figures.save(draw(datasets.load(args.data), args.columns), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
