"""Tables, ratios and text from the rounds of the experiment on speed. Needs no framework."""

from collections.abc import Iterable
from dataclasses import replace
from math import exp, log
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench import tables
from alexbench.analysis import verdicts
from alexbench.analysis.stats import Interval, ratio_interval
from alexbench.experiment import layers, variants
from alexbench.files import InputError
from alexbench.tables import Column

PLACE = ["device", "variant", "framework"]
_AGAIN = "delete it and make it again with scripts/collect_speed.py"
_NAME, _VARIANT, _POSITIVE = Column(), Column(choices=tuple(variants.VARIANTS)), Column(float, 1e-12)
_KIND, _DEVICE = Column(choices=("ladder", "precision", "extra")), Column(choices=("cpu", "cuda"))
_ARM = {"framework": _NAME, "variant": _VARIANT, "arm": _NAME, "kind": _KIND, "change": _NAME}
_MACHINE = {"framework_title": _NAME, "variant_title": _NAME, "device": _DEVICE, "device_name": _NAME, "dataset": _NAME}
_MACHINE |= dict.fromkeys(("threads", "batch_size"), Column(int, 1)) | dict.fromkeys(("matmul_flops", "copy_bytes"), _POSITIVE)
MEASURES = ("together_seconds", "loader_seconds", "step_seconds")
_COSTS = ("start_seconds", "import_seconds", "first_step_seconds", "peak_memory_bytes", "framework_memory_bytes")
# Columns of an arm that was measured; one that could not be measured has only the reason, as `error`.
_MEASURED = _MACHINE | {"hostname": _NAME, "images": Column(int, 1), "data_bytes": Column(int, 0), "settings": _NAME, "versions": _NAME}
_MEASURED |= dict.fromkeys(MEASURES, _POSITIVE) | dict.fromkeys(_COSTS, Column(float, 0))
_ROUND = {"round": Column(int, 1), **_ARM, "error": Column(gaps=True)}
_ROUND |= {name: replace(column, gaps=True, optional=True) for name, column in _MEASURED.items()}
_ARMS = _ARM | _MACHINE | {"rounds": Column(int, 1)} | dict.fromkeys(("epoch_seconds", "share_of_floor"), _POSITIVE)
_RATIOS = {"device": _DEVICE, "variant": _VARIANT, "framework": _NAME, "to": _NAME, "arm": _NAME, "ratio": _POSITIVE}
_RATIOS |= {"low": Column(float, gaps=True), "high": Column(float, gaps=True), "rounds": Column(int, 1)}


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Read all rounds in the order of the files, one row per arm and round; InputError if they differ in machine or data."""
    read = [(path, _read_round(path)) for path in paths]
    rows = pd.concat([of_one for _, of_one in read], ignore_index=True)
    measured = rows[rows.error.isna()]
    twice = measured[measured.duplicated(["round", *PLACE, "arm"])] if len(measured) else measured
    if len(twice):
        first = twice.iloc[0]
        raise InputError(
            f"speed: round {first['round']} has {first.framework} {first.variant} {first.arm} more than once; "
            "give each round's file once, or delete the folder speed in the results and measure again"
        )
    for column in ("hostname", "dataset", "images", "batch_size"):
        # Each value, with the first file that has it.
        found = {}
        for path, of_one in read:
            for value in of_one[column].dropna().unique() if column in of_one else ():
                found.setdefault(value, path)
        if len(found) > 1:
            which = ", ".join(f"{value} in {path}" for value, path in found.items())
            raise InputError(
                f"speed: rounds differ in {column} ({which}) and do not compare; "
                "delete their folder, speed, in the results and measure again"
            )
    return rows


def _read_round(path: Path) -> pd.DataFrame:
    again = "delete it and measure again"
    rows = tables.read(path, _ROUND, again, ("round", "framework", "variant", "arm"))
    measured = rows[rows.error.isna()]
    gaps = [name for name in _MEASURED if len(measured) and (name not in rows or measured[name].isna().any())]
    if gaps:
        raise InputError(f"table: {path} lacks {', '.join(gaps)} of arms that were measured; {again}")
    return rows


def read_arms(path: Path) -> pd.DataFrame:
    """Read speed.csv, which is `table` as written by `collect_speed.py`; InputError if it is damaged."""
    return tables.read(path, _ARMS, _AGAIN, (*PLACE, "arm"))


def read_ratios(path: Path) -> pd.DataFrame:
    """Read speed_ratios.csv, which is `ratios` as written by `collect_speed.py`, possibly empty; InputError if it is damaged."""
    return tables.read(path, _RATIOS, _AGAIN, ("device", "variant", "framework", "to", "arm"))


def ratio(ours: np.ndarray, theirs: np.ndarray, together: int = 1) -> Interval:
    """Ratio of the medians over rounds, with its 95 % interval; `ours` and `theirs`, (rounds,) each, are paired by round.

    `together`: how many such ratios are judged together, see `stats.difference_interval`.
    """
    return ratio_interval(ours, theirs, paired=True, statistic=np.median, together=together)


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per arm: medians over rounds, seconds per epoch, seconds saved by the change, speed-up over the notebook, share of the floor.

    `floor_seconds`: the least time per image. It is the longer of two: the image's arithmetic at the fastest matrix product of any arm with
    the same precision on that device, and its memory traffic at the fastest copy.
    """
    measured = rows[rows.error.isna()].copy()
    if measured.empty:
        why = rows.error.iloc[0] if len(rows) else "the rounds have no rows"
        raise InputError(f"speed: no arm was measured ({why}); mend that, delete the folder speed in the results and measure again")
    rows = measured
    rows["precision"] = ["bf16" if arm == "bf16" else "tf32" if arm == "tf32" else "fp32" for arm in rows.arm]
    matmul = rows.groupby(["device", "precision"]).matmul_flops.max()
    copy = rows.groupby("device").copy_bytes.max()
    out = []
    for place, cell in rows.groupby(PLACE, sort=False):
        notebook = by_round(cell, "notebook")
        below = None
        for name, arm in cell.groupby("arm", sort=False):
            first = arm.iloc[0]
            variant = variants.get(first.variant)
            row = dict(zip(PLACE, place, strict=True)) | {key: first[key] for key in ("arm", "kind", "change")}
            row["rounds"] = len(arm)
            row |= {f"{measure[:-8]}_ms": 1e3 * arm[measure].median() for measure in MEASURES}
            row["epoch_seconds"] = arm.together_seconds.median() * first.images
            row["saved_seconds"] = below - row["epoch_seconds"] if first.kind == "ladder" and below is not None else np.nan
            if first.kind == "ladder":
                below = row["epoch_seconds"]
            both = pd.concat([notebook, by_round(cell, name)], axis=1, join="inner").to_numpy()
            row["factor"], row["factor_low"], row["factor_high"] = ratio(both[:, 0], both[:, 1])
            row["together_to_larger"] = (arm.together_seconds / arm[["loader_seconds", "step_seconds"]].max(axis=1)).median()
            row["together_to_sum"] = (arm.together_seconds / (arm.loader_seconds + arm.step_seconds)).median()
            batch = int(first.batch_size)
            arithmetic = layers.training_operations(variant) / matmul[first.device, first.precision]
            traffic = layers.training_bytes(variant, batch) / batch / copy[first.device]
            row["floor_seconds"] = max(arithmetic, traffic)
            row["share_of_floor"] = row["floor_seconds"] / arm.together_seconds.median()
            row["arithmetic_share"] = arithmetic / arm.step_seconds.median()
            for measure in _COSTS:
                row[measure] = arm[measure].median()
            row["least_memory_bytes"] = layers.memory_bytes(variant, batch) + first.data_bytes
            row |= {key: first[key] for key in ("framework_title", "variant_title", "device_name", "threads", "dataset", "batch_size")}
            row |= {key: first[key] for key in ("settings", "versions")}
            row["matmul_flops"], row["copy_bytes"] = matmul[first.device, first.precision], copy[first.device]
            out.append(row)
    return pd.DataFrame(out)


def by_round(rows: pd.DataFrame, arm: str) -> pd.Series:
    """Seconds per image of an arm, loader and step together, by round."""
    return rows[rows.arm == arm].set_index("round").together_seconds


def ratios(rows: pd.DataFrame) -> pd.DataFrame:
    """Time of each later framework divided by that of the first, with interval; one row per device, variant and arm that both have.

    Of several later frameworks, the ratios of an arm are judged together.
    """
    rows = rows[rows.error.isna()]
    out = []
    for (device, variant), cell in rows.groupby(["device", "variant"], sort=False):
        first, *others = cell.framework.unique()
        ours = cell[cell.framework == first]
        for other in others:
            theirs = cell[cell.framework == other]
            for arm in (name for name in ours.arm.unique() if name in set(theirs.arm)):
                both = pd.concat([by_round(theirs, arm), by_round(ours, arm)], axis=1, join="inner").to_numpy()
                if not len(both):
                    continue
                middle, low, high = ratio(both[:, 0], both[:, 1], together=len(others))
                row = {"device": device, "variant": variant, "framework": other, "to": first, "arm": arm}
                out.append(row | {"ratio": middle, "low": low, "high": high, "rounds": len(both)})
    return pd.DataFrame(out, columns=list(_RATIOS))


def explanation(ratios_of_pair: pd.DataFrame, framework: str, to: str) -> str:
    """A paragraph on which of two frameworks is faster for one network on one device, and why, derived from the ratios only.

    The notebook arms' ratio is the product of three factors: image preparation (notebook ratio / resident ratio), the way a step is carried
    out (resident ratio / fast ratio), and the remaining difference between the frameworks (fast ratio).
    """
    by_arm = ratios_of_pair.set_index("arm")
    needed = ("notebook", "resident", "fast")
    missing = [name for name in needed if name not in by_arm.index]
    if missing:
        return f"{framework} and {to} were not both measured in {', '.join(missing)}: nothing is said of which is faster."
    notebook, resident, fast = (by_arm.loc[name] for name in needed)
    factors = {
        "how the images are prepared": notebook.ratio / resident.ratio,
        "how a step is carried out": resident.ratio / fast.ratio,
        "the frameworks' own kernels": fast.ratio,
    }
    text = f"Following its tutorials, {on_time(framework, to, notebook)} "
    product = " x ".join(f"{factor:.2f} ({name})" for name, factor in factors.items())
    text += f"That ratio, {notebook.ratio:.2f}, is {product}: "
    largest = max(factors, key=lambda name: abs(log(factors[name])))
    if abs(log(factors[largest])) < log(1.05):
        text += "none of the three makes a difference of 5 %. "
    else:
        slower = framework if factors[largest] > 1 else to
        text += f"the largest factor is {largest}, which costs {slower} {exp(abs(log(factors[largest]))):.2f} times as much. "
    return text + f"With their fast steps, {on_time(framework, to, fast)}"


def on_time(framework: str, to: str, row: pd.Series, _: verdicts.English = verdicts.ENGLISH) -> str:
    """A row of `ratios` as a sentence."""
    return verdicts.on_time(framework, to, Interval(row.ratio, row.low, row.high), _("rounds: %(rounds)s", rounds=int(row.rounds)), _)


def report(arms: pd.DataFrame, compared: pd.DataFrame) -> str:
    """The experiment in Markdown: for each device and network, the explanation, the ladder with ratios and the costs; then the devices."""
    parts = ["# Which framework is faster, and why", ""]
    titles = dict(zip(arms.framework, arms.framework_title, strict=True))
    for (device, _), cell in arms.groupby(["device", "variant"], sort=False):
        first = cell.iloc[0]
        parts += [f"## {first.variant_title}, {device} ({first.device_name}, {first.threads} threads)", ""]
        here = compared[(compared.device == device) & (compared.variant == first.variant)]
        for (framework, to), pair in here.groupby(["framework", "to"], sort=False):
            parts += [explanation(pair, titles[framework], titles[to]), ""]
        parts += [_ladder(cell, here, titles).to_markdown(index=False, disable_numparse=True), ""]
        parts += [_costs(cell).to_markdown(index=False, disable_numparse=True), ""]
    parts += [*_devices(arms), ""] if arms.device.nunique() > 1 else []
    parts += [
        "Seconds of an epoch: the median over the rounds of loader and step together, times the images. The factor is over the notebook's "
        "form, its 95 % interval a bootstrap over rounds with Student's t; a rung is the one above it with one thing changed. Floor: the "
        "longer of the declared arithmetic at the best matrix product and the least memory traffic at the best copy, both measured in the "
        "same run. Start: from the process's own to the end of the first step, compilation included. Memory at the least: weights, "
        "gradients and Adam's moments, the data set, the outputs of all layers for a batch; on a CPU the framework's own, once imported, "
        "comes on top.",
        "",
    ]
    others = compared.framework.nunique()
    if others > 1:
        parts += [f"The intervals of the ratios are widened (Bonferroni), because {others} frameworks are judged together.", ""]
    return "\n".join(parts)


def _devices(arms: pd.DataFrame) -> list[str]:
    """How much the device matters: one line per framework and network that compares its fast arm on CPU and GPU."""
    lines = ["## How much a GPU matters", ""]
    fast = arms[arms.arm == "fast"]
    for _, cell in fast.groupby(["variant", "framework"], sort=False):
        if set(cell.device) != {"cuda", "cpu"}:
            continue
        cuda, cpu = (cell[cell.device == device].iloc[0] for device in ("cuda", "cpu"))
        lines.append(
            f"- {cuda.framework_title}, {cuda.variant_title}: an epoch takes {cuda.epoch_seconds:,.1f} s on {cuda.device_name} and "
            f"{cpu.epoch_seconds:,.1f} s on {cpu.threads} threads of {cpu.device_name}, "
            f"{cpu.epoch_seconds / cuda.epoch_seconds:,.0f} times as long"
        )
    return lines


def _ladder(cell: pd.DataFrame, compared: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """The arms of one network on one device, as a table for readers."""
    rows = []
    for _, arm in cell.iterrows():
        there = compared[(compared.arm == arm.arm) & (compared.framework == arm.framework)]
        itself = arm.arm == "notebook"
        interval = "" if itself or np.isnan(arm.factor_low) else f" ({arm.factor_low:.2f} to {arm.factor_high:.2f})"
        row = {
            "Framework": arm.framework_title,
            "Arm": {"ladder": "", "precision": "fast step, ", "extra": "apart: "}[arm.kind] + arm.change,
            "Epoch (s)": f"{arm.epoch_seconds:,.1f}",
            "Saves (s)": "" if np.isnan(arm.saved_seconds) else f"{arm.saved_seconds:,.1f}",
            "Factor": "" if np.isnan(arm.factor) else f"{arm.factor:.2f}{interval}",
            "Loader (ms/image)": f"{arm.loader_ms:.3f}",
            "Step (ms/image)": f"{arm.step_ms:.3f}",
            "Combined / slower part": f"{arm.together_to_larger:.2f}",
            "Share of floor": f"{arm.share_of_floor:.2f}",
        }
        for _, pair in there.iterrows():
            interval = "" if np.isnan(pair.low) else f" ({pair.low:.2f} to {pair.high:.2f})"
            row[f": {titles[pair.to]}"] = f"{pair.ratio:.2f}{interval}"
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def _costs(cell: pd.DataFrame) -> pd.DataFrame:
    """Start-up time and memory of the fast arms of one network on one device, as a table for readers."""
    rows = []
    for _, arm in cell[cell.arm == "fast"].iterrows():
        own = arm.framework_memory_bytes if arm.device == "cpu" else 0
        rows.append(
            {
                "Framework": arm.framework_title,
                "Start (s)": f"{arm.start_seconds:.1f}",
                "imports (s)": f"{arm.import_seconds:.1f}",
                "first step (s)": f"{arm.first_step_seconds:.1f}",
                "Peak memory (MB)": f"{arm.peak_memory_bytes / 1e6:,.0f}",
                "framework (MB)": f"{own / 1e6:,.0f}",
                "memory / minimum": f"{(arm.peak_memory_bytes - own) / arm.least_memory_bytes:.2f}",
            }
        )
    return pd.DataFrame(rows)
