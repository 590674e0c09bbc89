#!/usr/bin/env python3
"""Plot sample images of a data set: one row per class, with its first training images.

python scripts/plot_samples.py --data resources/data/cifar10.npz --output results/figures/samples.png
"""

from pathlib import Path

import numpy as np

from alexbench import numeric
from alexbench.experiment import datasets
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt
from alexbench.writing.language import Language

# Of more classes, so many are drawn, evenly spread.
MOST_CLASSES = 20


def draw(dataset: datasets.Dataset, columns: int, _: Language) -> plt.Figure:
    """Draw `columns` images of every class, enlarged without smoothing, with the class's name beside them and image counts below."""
    shown = np.unique(np.linspace(0, len(dataset.classes) - 1, MOST_CLASSES).astype(int))
    figure, panels = plt.subplots(len(shown), columns, figsize=(1.6 + 0.62 * columns, 0.64 * len(shown) + 0.2), squeeze=False)
    for label, row in zip(shown, panels, strict=True):
        where = np.flatnonzero(dataset.train_labels == label)[:columns]
        for axes in row:
            axes.axis("off")
        for axes, index in zip(row, where, strict=False):
            axes.imshow(dataset.train_images[index], interpolation="nearest")
        row[0].text(
            -0.25, 0.5, figures.shortened(dataset.classes[label], 24), transform=row[0].transAxes, ha="right", va="center", fontsize=10
        )
    figure.subplots_adjust(left=0.16, right=0.995, top=0.995, bottom=0.06, wspace=0.06, hspace=0.06)
    note = _(
        "%(dataset)s: %(train)s training images (%(train_class)s per class) and %(test)s test images (%(test_class)s per class)",
        dataset=dataset.name,
        train=_.number(len(dataset.train_labels)),
        train_class=_per_class(dataset.train_labels, _),
        test=_.number(len(dataset.test_labels)),
        test_class=_per_class(dataset.test_labels, _),
    )
    if len(shown) < len(dataset.classes):
        note += _("; %(shown)s of %(classes)s classes are shown", shown=_.number(len(shown)), classes=_.number(len(dataset.classes)))
    figure.text(0.5, 0.03, note, ha="center", va="center", fontsize=8, color=figures.GREY)
    return figure


def _per_class(labels: np.ndarray, _: Language) -> str:
    least, most = np.bincount(labels).min(), np.bincount(labels).max()
    return _.number(least) if least == most else _("%(low)s to %(high)s", low=_.number(least), high=_.number(most))


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__, runs=False, language=True)
    p.add_argument("--data", required=True, type=Path, metavar="NPZ", help="data set, made by prepare_data.py")
    p.add_argument("--columns", type=numeric.side_by_side, default=10, help="images per class (%(default)s)")
    args = p.parse_args(argv)
    figures.style()
    figures.save(draw(datasets.load(args.data), args.columns, Language(args.language)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
