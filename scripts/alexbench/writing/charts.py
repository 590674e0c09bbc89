"""The interactive trade-off chart, by Vega-Altair: accuracy, parameters, training time and loss against each other."""

from itertools import permutations

import altair as alt
import numpy as np
import pandas as pd
import vl_convert

from alexbench.writing import figures
from alexbench.writing.language import Language

# The version of Vega-Lite 6, which Altair writes, that vl-convert has.
VEGA_LITE = "6.4"
LOCALES = {"en": "en-US", "es": "es-ES"}
# Quantities for the axes, and whether more is better.
AXES = {"train_seconds": False, "parameters": False, "accuracy": True, "loss": False}
LOGARITHMIC = ("train_seconds", "parameters")
SHAPES = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")
FORMATS = {"train_seconds": ",.1f", "parameters": ",", "accuracy": ".4f", "loss": ".4f"}
# Width in pixels of a chart outside a page.
WIDTH = 600


def titles(_: Language) -> dict[str, str]:
    """Axis titles by column."""
    return {
        "train_seconds": _("Training time (s)"),
        "parameters": _("Parameters"),
        "accuracy": _("Test accuracy"),
        "loss": _("Test loss"),
    }


def pareto(points: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The Pareto front of `points` in `x` and `y`, sorted by `x`; AXES says whether more is better."""
    worth = np.stack([points[axis] * (1 if AXES[axis] else -1) for axis in (x, y)], axis=1)
    beaten = [((worth >= point).all(axis=1) & (worth > point).any(axis=1)).any() for point in worth]
    return points[~np.array(beaten, bool)].sort_values([x, y])


def tradeoffs(runs: pd.DataFrame, table: pd.DataFrame, _: Language) -> dict[str, dict]:
    """Vega-Lite specifications for every pair of quantities, by "x y". `runs`, `table`: runs.csv and table.csv.

    A chart has a small point per run, a large one per cell for the mean, hollow points for the original's figures where they compare,
    and the Pareto front of the means.
    """
    colours = figures.colours(runs.framework_title)
    variants = list(dict.fromkeys(runs.variant_title))
    looks = {
        "color": alt.Color("framework_title:N", title=None, scale=alt.Scale(domain=list(colours), range=list(colours.values()))),
        "shape": alt.Shape("variant_title:N", title=None, scale=alt.Scale(domain=variants, range=list(SHAPES[: len(variants)]))),
    }
    completed = runs[runs.status == "completed"]
    runs_shown = completed[["framework_title", "variant_title", "seed", "device_name", "epochs", "train_images", *AXES]]
    means = table[table.n > 0][["framework_title", "variant_title", "n", "device_name", *AXES]]
    beside = table[table.accuracy_minus_original.notna()]
    theirs = beside[["framework_title", "variant_title", "parameters"]].assign(
        what=_("the original study of 2025: one run, 15 epochs"),
        **{name: beside[f"original_{name}"] for name in AXES if name != "parameters"},
    )
    return {f"{x} {y}": _tradeoff(x, y, runs_shown, means, theirs, looks, _) for x, y in permutations(AXES, 2)}


def _tradeoff(x: str, y: str, runs: pd.DataFrame, means: pd.DataFrame, theirs: pd.DataFrame, looks: dict, _: Language) -> dict:
    place = {"x": _axis(alt.X, x, _), "y": _axis(alt.Y, y, _)}
    named = [alt.Tooltip("framework_title:N", title=_("Framework")), alt.Tooltip("variant_title:N", title=_("Network"))]
    numbers = [alt.Tooltip(f"{name}:Q", title=title, format=FORMATS[name]) for name, title in titles(_).items()]
    hardware = alt.Tooltip("device_name:N", title=_("Hardware"))
    length = [alt.Tooltip("epochs:Q", title=_("Epochs")), alt.Tooltip("train_images:Q", title=_("Training images"), format=",")]
    front = alt.Chart(pareto(means, x, y)).encode(**place)
    hollow = alt.Chart(theirs).encode(**place, **looks, tooltip=[alt.Tooltip("what:N", title=" "), *named, *numbers])
    each = alt.Chart(runs).encode(**place, **looks, tooltip=[*named, alt.Tooltip("seed:N", title=_("Seed")), hardware, *length, *numbers])
    middle = alt.Chart(means).encode(**place, **looks, tooltip=[*named, alt.Tooltip("n:Q", title=_("Runs averaged")), hardware, *numbers])
    # Draw the steps so that each corner is a trade-off that some mean reaches, not a better one.
    steps = "step-before" if AXES[x] else "step-after"
    # Leave out an empty layer: Vega could not compute its extent.
    shown = [hollow.mark_point(filled=False, size=150, strokeWidth=1.6)] if len(theirs) else []
    chart = alt.layer(
        front.mark_line(color=figures.GREY, strokeDash=[4, 3], strokeWidth=1.2, interpolate=steps),
        *shown,
        each.mark_point(filled=True, size=45, opacity=0.5),
        middle.mark_point(filled=True, size=190, opacity=1, stroke="white", strokeWidth=1),
    ).properties(width="container", height=360)
    return (
        chart.configure_axis(titleFontWeight="normal", gridColor="#e5e5e5", domainColor="#333333", labelFontSize=11, titleFontSize=12)
        .configure_legend(orient="top", labelFontSize=12, symbolSize=90, symbolOpacity=1, columnPadding=14, labelLimit=260)
        .configure_view(stroke="#cccccc")
        .to_dict()
    )


def _axis(kind: type, name: str, _: Language) -> alt.X | alt.Y:
    if name in LOGARITHMIC:
        scale, look = alt.Scale(type="log", nice=False, padding=18), alt.Axis(format="~s", tickCount=5)
    else:
        scale, look = alt.Scale(zero=False, padding=18), alt.Axis(tickCount=5)
    return kind(f"{name}:Q", title=titles(_)[name], axis=look, scale=scale)


def svg(spec: dict, language: str) -> str:
    """A chart as SVG, for print, with numbers formatted for the language."""
    return vl_convert.vegalite_to_svg(spec | {"width": WIDTH}, vl_version=VEGA_LITE, format_locale=LOCALES[language])


def scripts() -> str:
    """The JavaScript of Vega, Vega-Lite and Vega-Embed, so that a page shows its charts offline."""
    return vl_convert.javascript_bundle(vl_version=VEGA_LITE)


def format_locale(language: str) -> dict:
    """Vega's number format for the language."""
    return vl_convert.get_format_locale(LOCALES[language])
