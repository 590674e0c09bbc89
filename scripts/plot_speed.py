#!/usr/bin/env python3
"""Plot the experiment on speed, which times several ways (arms) to train a network, from the tutorials' to the fastest.

waterfall  seconds per epoch of one framework and network, and what each change saves
ratio      the time of each framework divided by that of the first, after each change
roofline   the shortest possible time divided by each arm's time (its share of the floor)

python scripts/plot_speed.py waterfall --arms results/speed.csv --framework pytorch --variant alexnet_mod --output waterfall.png
python scripts/plot_speed.py ratio --arms results/speed.csv --ratios results/speed_ratios.csv --output ratio.png
python scripts/plot_speed.py roofline --arms results/speed.csv --device cuda --output roofline.png
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from alexbench.analysis import speed_tables
from alexbench.files import InputError, run_program
from alexbench.writing import figures
from alexbench.writing.figures import plt

KEPT, SAVED, LOST, APART = "#555555", "#009E73", "#D55E00", "#bbbbbb"


def machine(arms: pd.DataFrame) -> str:
    """Device, data set, batch size and number of rounds, in one line."""
    first = arms.iloc[0]
    return (
        f"{first.device_name}, {first.threads} CPU threads; {first.dataset}, batches of {first.batch_size}, median of {first.rounds} rounds"
    )


def waterfall(arms: pd.DataFrame) -> plt.Figure:
    """Seconds per epoch from the notebook's form down to the fast one, with what each change saves; other arms below."""
    ladder = arms[arms.kind == "ladder"].reset_index(drop=True)
    apart = arms[arms.kind != "ladder"].reset_index(drop=True)
    if ladder.empty:
        raise InputError(f"speed: {arms.framework.iloc[0]} {arms.variant.iloc[0]} has no measured rung of the ladder; measure it again")
    seconds = ladder.epoch_seconds
    labels = [ladder.change[0], *(f"+ {change}" for change in ladder.change[1:]), "fast", *apart.change]
    figure, axes = plt.subplots(figsize=(7.2, 0.32 * len(labels) + 1.3))
    axes.barh(0, seconds[0], color=KEPT)
    for place in range(1, len(ladder)):
        saved = seconds[place - 1] - seconds[place]
        axes.barh(place, saved, left=seconds[place], color=SAVED if saved >= 0 else LOST)
        axes.plot([seconds[place - 1]] * 2, [place - 1.4, place + 0.4], color=KEPT, linewidth=0.7)
    last = len(ladder)
    axes.barh(last, seconds.iloc[-1], color=KEPT)
    axes.barh(range(last + 1, last + 1 + len(apart)), apart.epoch_seconds, color=APART)
    texts = [f"{seconds[0]:,.1f} s"]
    texts += [f"{seconds[place] - seconds[place - 1]:+,.1f} s" for place in range(1, last)]
    texts += [f"{seconds.iloc[-1]:,.1f} s", *(f"{value:,.1f} s" for value in apart.epoch_seconds)]
    ends = [seconds[0], *(max(seconds[place], seconds[place - 1]) for place in range(1, last)), seconds.iloc[-1], *apart.epoch_seconds]
    for place, (end, text) in enumerate(zip(ends, texts, strict=True)):
        axes.annotate(text, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.set_xlim(0, max(ends) * 1.13)
    axes.grid(axis="y", visible=False)
    if len(apart):
        axes.axhline(last + 0.5, color="#999999", linewidth=0.8, linestyle=":")
    first = arms.iloc[0]
    axes.set_xlabel("Seconds per epoch")
    axes.set_title(f"{first.framework_title}, {first.variant_title}: what each change saves\n{machine(arms)}", fontsize=9)
    return figure


def ratio(arms: pd.DataFrame, ratios: pd.DataFrame) -> plt.Figure:
    """Each later framework's time divided by the first's, at each rung that both have, with 95 % intervals."""
    networks = dict(zip(arms.variant, arms.variant_title, strict=True))
    titles = dict(zip(arms.framework, arms.framework_title, strict=True))
    changes = {arm.arm: arm.change if arm.arm != "fast" else "fast" for _, arm in arms.iterrows()}
    rungs = [name for name in dict.fromkeys(arms.arm) if name in set(ratios.arm)]
    several = ratios.framework.nunique() > 1
    height = (0.55 if several else 0.4) * max(len(rungs), 1) + 1.5
    figure, panels = plt.subplots(1, len(networks), figsize=(2.2 + 2.6 * len(networks), height), sharey=True, sharex=True, squeeze=False)
    colours = figures.colours(arms.framework_title)
    for axes, (name, title) in zip(panels[0], networks.items(), strict=True):
        axes.axvline(1, color="#333333", linewidth=0.8)
        here = list(ratios[ratios.variant == name].groupby(["framework", "to"], sort=False))
        for number, ((framework, to), pair) in enumerate(here):
            # Several frameworks lie side by side on a rung.
            shift = 0.3 * (number - (len(here) - 1) / 2)
            places = [rungs.index(arm) + shift for arm in pair.arm]
            colour = colours[titles[framework]]
            axes.plot(pair.ratio, places, "o", color=colour, markersize=5, label=titles[framework])
            axes.hlines(places, pair.low.fillna(pair.ratio), pair.high.fillna(pair.ratio), color=colour, linewidth=1.6)
            for place, value in zip(places, pair.ratio, strict=True):
                axes.annotate(f"{value:.2f}", (value, place), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=7.5)
            axes.set_xlabel(f"Time : {titles[to]}" if several else f"{titles[framework]} : {titles[to]}")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_title(title)
    low, high = ratios[["ratio", "low"]].min().min(), ratios[["ratio", "high"]].max().max()
    if rungs:
        panels[0][0].set_xlim(min(0.45, low / 1.1), max(2.2, high * 1.1))
        panels[0][0].set_ylim(len(rungs) - 0.5, -0.7)
        if several:
            panels[0][0].legend(fontsize=7.5)
    else:  # only one framework, or two that share no arm
        panels[0][0].set_xlim(0.45, 2.2)
        for axes in panels[0]:
            axes.text(0.5, 0.5, "nothing that two frameworks\nwere both measured in", transform=axes.transAxes, ha="center", va="center")
    panels[0][0].set_yticks(range(len(rungs)), [changes[rung] for rung in rungs])
    figure.suptitle(f"Time for the same training, one framework over another\n{machine(arms)}", fontsize=9, y=1.0)
    figure.tight_layout()
    return figure


def roofline(arms: pd.DataFrame) -> plt.Figure:
    """Each arm's share of the floor; at 1 it would do the declared arithmetic or memory traffic at the machine's best measured rate."""
    networks = list(dict.fromkeys(arms.variant))
    # Arms in the order of the network that has the most: those on resizing exist only for networks with resized images.
    longest = max(networks, key=lambda name: (arms.variant == name).sum())
    ordered = pd.concat([arms[arms.variant == longest], arms[arms.variant != longest]])
    names = list(dict.fromkeys(zip(ordered.framework_title, ordered.arm, ordered.change, strict=True)))
    figure, panels = plt.subplots(
        1, len(networks), figsize=(2.6 + 2.2 * len(networks), 0.21 * len(names) + 1.4), sharey=True, sharex=True, squeeze=False
    )
    colours = figures.colours(arms.framework_title)
    for axes, name in zip(panels[0], networks, strict=True):
        cell = arms[arms.variant == name]
        for _, arm in cell.iterrows():
            place = names.index((arm.framework_title, arm.arm, arm.change))
            colour = colours[arm.framework_title]
            axes.hlines(place, 0, arm.share_of_floor, color=colour, linewidth=1, alpha=0.5)
            filled = colour if arm.kind == "ladder" else "white"
            axes.plot(arm.share_of_floor, place, "o", markersize=5, markerfacecolor=filled, markeredgecolor=colour)
        axes.axvline(1, color="#333333", linewidth=0.8)
        axes.set_title(cell.iloc[0].variant_title)
        axes.set_xlabel("Share of the floor")
    panels[0][0].set_xlim(0, max(1.1, 1.08 * arms.share_of_floor.max()))
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)
    panels[0][0].set_yticks(range(len(names)), [change for _, _, change in names], fontsize=7.5)
    handles = [Line2D([], [], marker="o", linestyle="none", color=colour, label=title) for title, colour in colours.items()]
    handles.append(
        Line2D([], [], marker="o", linestyle="none", markerfacecolor="white", markeredgecolor=KEPT, label="apart from the ladder")
    )
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), bbox_to_anchor=(0.5, -0.03))
    # Prefer an fp32 arm, because the title names the fp32 rate.
    fp32 = pd.concat([arms[~arms.arm.isin(["bf16", "tf32"])], arms]).iloc[0]
    figure.suptitle(
        f"Share of what this machine can do: {fp32.matmul_flops / 1e9:,.0f} GFLOP/s in a matrix product (fp32), "
        f"{fp32.copy_bytes / 1e9:,.0f} GB/s in a copy\n{machine(arms)}",
        fontsize=9,
        y=1.0,
    )
    figure.tight_layout()
    return figure


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("figure", choices=("waterfall", "ratio", "roofline"), help="figure to draw")
    p.add_argument("--arms", required=True, type=Path, metavar="CSV", help="speed.csv, made by collect_speed.py")
    p.add_argument("--ratios", type=Path, metavar="CSV", help="for ratio: speed_ratios.csv, made by collect_speed.py")
    p.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="device to show; auto: the one that was measured (%(default)s)"
    )
    p.add_argument("--framework", help="for waterfall: the framework")
    p.add_argument("--variant", help="for waterfall: the network")
    p.add_argument("--output", required=True, type=Path, metavar="PNG", help="the figure; an SVG is written beside it")
    args = p.parse_args(argv)
    figures.style()
    arms = speed_tables.read_arms(args.arms)
    devices = arms.device.unique()
    if args.device == "auto" and len(devices) > 1:
        raise InputError(f"speed: {args.arms} is of {' and '.join(devices)}; name them in speed.devices instead of auto")
    device = devices[0] if args.device == "auto" else args.device
    arms = arms[arms.device == device]
    if args.figure == "waterfall":
        arms = arms[(arms.framework == args.framework) & (arms.variant == args.variant)]
    if arms.empty:
        raise InputError(f"speed: {args.arms} has no arm of {args.framework or 'any framework'} on {device}")
    if args.figure == "waterfall":
        figure = waterfall(arms)
    elif args.figure == "ratio":
        ratios = speed_tables.read_ratios(args.ratios)
        ratios = ratios[ratios.device == device]
        unknown = {*ratios.framework, *ratios.to} - set(arms.framework) or set(ratios.arm) - set(arms.arm)
        if unknown:
            raise InputError(
                f"table: {args.ratios} has {min(unknown)}, which {args.arms} lacks; make both again with scripts/collect_speed.py"
            )
        figure = ratio(arms, ratios)
    else:
        figure = roofline(arms)
    figures.save(figure, args.output)
    return 0


if __name__ == "__main__":
    run_program(main)
