"""Shared look of the figures: one colour per framework, one marker per variant, each figure as PNG and SVG."""

import argparse
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.font_manager as font_manager
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from alexbench.analysis import comparability
from alexbench.files import replacing
from alexbench.writing.language import LANGUAGES, Language

# Distinguishable in print and by colour-blind readers (Okabe and Ito, 2008): blue, vermilion, green, purple, orange.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "D", "^", "v", "P")
GREY = "#555555"
FONT = "DejaVu Sans"
OTHER_FONTS = ("Noto Sans CJK JP", "Noto Sans Arabic", "Noto Sans Bengali", "Noto Sans Devanagari", "Noto Sans Hebrew", "Noto Sans Thai")


def style() -> None:
    """Set fonts, grid and sizes for all figures that follow, ignoring the user's matplotlibrc, which may ask for TeX."""
    matplotlib.rcdefaults()
    sns.set_theme(
        context="paper",
        style="whitegrid",
        font=FONT,
        rc={
            # Further fonts, where they are installed, for scripts that DejaVu lacks.
            "font.family": [FONT, *sorted({font.name for font in font_manager.fontManager.ttflist} & set(OTHER_FONTS))],
            "axes.edgecolor": "#333333",
            "axes.titlesize": 10,
            "axes.labelsize": 9.5,
            "grid.color": "#e5e5e5",
            "legend.frameon": False,
            "figure.dpi": 100,
            "savefig.dpi": 200,
            "savefig.bbox": "tight",
            # Make the SVG files reproducible.
            "svg.hashsalt": "alexbench",
            "svg.fonttype": "none",
        },
    )


def colours(frameworks: Sequence[str]) -> dict[str, str]:
    """A colour for each framework title, assigned in alphabetical order so that figures agree."""
    return dict(zip(sorted(set(frameworks)), cycle(COLOURS), strict=False))


def shortened(name: str, most: int) -> str:
    """A person's own name, such as of a class, for a label: at most `most` characters, its middle left out, and no sign read as TeX."""
    kept = name if len(name) <= most else f"{name[: (most - 1) // 2 + 1]}…{name[len(name) - (most - 2) // 2 :]}"
    return kept.replace("$", r"\$")


def markers(variants: Sequence[str]) -> dict[str, str]:
    """A marker for each variant title, in the order given."""
    return dict(zip(dict.fromkeys(variants), cycle(MARKERS), strict=False))


def save(figure: Figure, output: Path) -> None:
    """Write `figure` as PNG and as SVG, to `output` with each suffix."""
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with replacing(output.with_suffix(suffix)) as temporary:
            figure.savefig(temporary, metadata=metadata)
    plt.close(figure)


def about(runs: pd.DataFrame, _: Language | None = None) -> str:
    """The conditions of a figure in one line: data, sizes, epochs, hardware, and what differs among runs drawn together."""
    _ = _ or Language("en")

    def listed(column: str) -> str:
        return _.either([_.number(v) if isinstance(v, int) else str(v) for v in runs[column].unique().tolist()])

    text = _(
        "%(dataset)s, %(train)s training and %(test)s test images, %(epochs)s epochs, %(hardware)s",
        dataset=listed("dataset"),
        train=listed("train_images"),
        test=listed("test_images"),
        epochs=listed("epochs"),
        hardware=listed("device_name"),
    )
    mixed = comparability.mixed(runs)
    return text + (_("; runs of a cell differ in %(what)s", what=", ".join(mixed)) if mixed else "")


def _png(name: str) -> Path:
    if Path(name).suffix != ".png":
        raise argparse.ArgumentTypeError(f"{name!r} does not end in .png; name it so, and an SVG is written beside it")
    return Path(name)


def parser(description: str, runs: bool = True, language: bool = False, cell: bool = False) -> argparse.ArgumentParser:
    """A parser with the options that plotting programs share; `cell`: add those that choose a single cell."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if runs:
        p.add_argument("--runs", required=True, type=Path, metavar="CSV", help="runs.csv, made by collect.py")
    if cell:
        p.add_argument("--data", required=True, type=Path, metavar="NPZ", help="the images that the runs were trained on")
        p.add_argument("--framework", required=True, metavar="NAME")
        p.add_argument("--variant", required=True, metavar="NAME")
    if language:
        p.add_argument("--language", choices=LANGUAGES, default="en", help="language of the figure's texts (%(default)s)")
    p.add_argument("--output", required=True, type=_png, metavar="PNG", help="the figure; an SVG is written beside it")
    return p
