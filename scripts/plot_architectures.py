#!/usr/bin/env python3
"""Draw the networks from their declarations: one block per layer, as high as its output is large, with shape and parameters.

python scripts/plot_architectures.py --variants alexnet_mod alexnet --output results/figures/architectures.png
"""

from math import log2
from pathlib import Path

from matplotlib.patches import FancyBboxPatch, Patch

from alexbench.experiment import datasets, layers, variants
from alexbench.files import run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt
from alexbench.writing.language import Language

COLOURS = {
    "Conv": "#0072B2",
    "Residual": "#D55E00",
    "BatchNorm": "#56B4E9",
    "LocalResponseNorm": "#56B4E9",
    "Pad": "#BBBBBB",
    "MaxPool": "#E69F00",
    "AvgPool": "#F0E442",
    "GlobalAvgPool": "#F0E442",
    "Flatten": "#DDDDDD",
    "Dense": "#009E73",
    "Dropout": "#CC79A7",
}
# Width of a block and of the gap between two blocks, in inches.
WIDTH, GAP = 0.62, 0.16


def _kinds(_: Language) -> dict[str, str]:
    """The displayed name of each kind of layer."""
    return {
        "Conv": _("convolution (+ activation unless batch-normalised)"),
        "Residual": _("residual block"),
        "BatchNorm": _("batch normalisation + activation"),
        "LocalResponseNorm": _("local response normalisation"),
        "Pad": _("zero padding"),
        "MaxPool": _("max-pooling"),
        "AvgPool": _("average-pooling"),
        "GlobalAvgPool": _("average of each channel"),
        "Flatten": _("flatten"),
        "Dense": _("dense (+ activation except the last)"),
        "Dropout": _("dropout"),
    }


def _setting(info: layers.LayerInfo) -> str:
    """The layer's own numbers, or those of a residual block's convolutions, in a few short lines."""
    match info.layer:
        case layers.Conv(_, kernel, stride, padding, groups=groups):
            more = [f"pad {padding}"] * (padding > 0) + [f"{groups} groups"] * (groups > 1)
            return f"{kernel}×{kernel}" + (f" /{stride}" if stride > 1 else "") + "".join(f"\n{part}" for part in more)
        case layers.Residual():
            convolutions = [inner.layer for inner in info.body if inner.kind == "Conv"]
            return "\n".join(f"{conv.kernel}×{conv.kernel}" + (f" /{conv.stride}" if conv.stride > 1 else "") for conv in convolutions)
        case layers.MaxPool(window, stride) | layers.AvgPool(window, stride):
            return f"{window}×{window} /{stride}"
        case layers.Pad(size):
            return f"pad {size}"
    return ""


def _height(shape: tuple[int, ...]) -> float:
    """The height of a block, proportional to the logarithm of its output's side or, for a vector, its length."""
    return 0.16 * log2(shape[0]) if len(shape) == 3 else 0.095 * log2(shape[0])


def draw_variant(axes: plt.Axes, variant: layers.Variant, places: int, _: Language) -> None:
    """Draw one network from left to right, on `places` places: settings above each block; name, output shape and parameters below."""
    size = variant.input_size
    blocks = [(_("image"), "#FFFFFF", (size, size, 3), "", 0)]
    blocks += [(i.name, COLOURS[i.kind], i.output_shape, _setting(i), i.parameters) for i in layers.describe(variant)]
    for number, (name, colour, shape, setting, parameters) in enumerate(blocks):
        x, height = number * (WIDTH + GAP), _height(shape)
        axes.add_patch(
            FancyBboxPatch(
                (x, -height / 2),
                WIDTH,
                height,
                boxstyle="round,pad=0,rounding_size=0.04",
                facecolor=colour,
                edgecolor="#333333",
                linewidth=0.8,
            )
        )
        if number:
            axes.annotate("", (x, 0), (x - GAP, 0), arrowprops={"arrowstyle": "->", "color": "#333333", "linewidth": 0.8})
        middle = x + WIDTH / 2
        axes.text(middle, height / 2 + 0.06, setting, ha="center", va="bottom", fontsize=8.5, color=figures.GREY)
        shown = "×".join(map(str, shape))
        weights = _.number(parameters) if parameters else ""
        axes.text(middle, -0.74, name, ha="center", va="top", fontsize=8.5, fontweight="bold")
        axes.text(middle, -0.93, f"{shown}\n{weights}", ha="center", va="top", fontsize=8, linespacing=1.35)
    total = _(
        "%(title)s: %(parameters)s parameters, %(operations)s M multiply-adds per image",
        title=variant.title,
        parameters=_.number(layers.parameters(variant)),
        operations=_.number(layers.multiply_adds(variant) / 1e6, 1),
    )
    axes.set_title(total, loc="left", fontsize=11.5)
    axes.set(xlim=(-0.1, places * (WIDTH + GAP)), ylim=(-1.35, 1.1), aspect="equal")
    axes.axis("off")


def draw(chosen: list[layers.Variant], _: Language) -> plt.Figure:
    """One row per network, all on the same scale."""
    places = 1 + max(len(variant.layers) for variant in chosen)
    width, height = places * (WIDTH + GAP), 2.6 * len(chosen) + 0.7
    figure, panels = plt.subplots(len(chosen), 1, figsize=(width, height), squeeze=False, layout="constrained")
    for axes, variant in zip(panels[:, 0], chosen, strict=True):
        draw_variant(axes, variant, places, _)
    used = {info.kind for variant in chosen for info in layers.describe(variant)}
    handles = [Patch(facecolor=COLOURS[kind], edgecolor="#333333", label=name) for kind, name in _kinds(_).items() if kind in used]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), max(1, int(width / 2))), fontsize=10)
    note = _(
        "Above each block: window, /stride, padding. Below: output shape (height×width×channels), parameters. Heights are logarithmic."
    )
    figure.supxlabel(note, fontsize=9, color=figures.GREY)
    return figure


def main(argv: list[str] | None = None) -> int:
    p = figures.parser(__doc__, runs=False, language=True)
    p.add_argument("--variants", required=True, nargs="+", choices=list(variants.VARIANTS), metavar="NAME", help="networks to draw")
    p.add_argument("--data", type=Path, metavar="NPZ", help="data set, whose classes the last layer has (by default, ten)")
    args = p.parse_args(argv)
    classes = len(datasets.load(args.data).classes) if args.data else variants.CLASSES
    figures.style()
    figures.save(draw([variants.get(name, classes) for name in args.variants], Language(args.language)), args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
