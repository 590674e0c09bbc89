#!/usr/bin/env python3
"""Compare what frameworks compute for one network, with each other and with a reference in float64 NumPy.

Writes a Markdown table with the largest difference in each quantity and its tolerance. Exit status 1 if one is exceeded.

python scripts/compare_parity.py --variant alexnet_mod pytorch.npz tensorflow.npz --output parity.md
"""

import argparse
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from alexbench import arrays
from alexbench.experiment import reference, variants, weights
from alexbench.files import InputError, raise_refusal, replacing, run_program

# Only fp32 rounding may differ. Gradients: norm of the difference divided by the norm, worst tensor; the first convolution sums over a
# whole image, so the order of summation matters most there. Losses: rounding errors grow from step to step. How fast is measured with
# a twin: the same framework, started from weights that differ in the last bit. The twin is disturbed once, but another framework rounds
# differently at every step, so it may be TWINS times as far away.
EARLY_STEPS = 5
TWINS = 5
LOSSES = (f"losses of {EARLY_STEPS} steps", "losses of all steps")
TOLERANCES = {
    "weights, there and back": 0.0,
    "batches": 0.0,
    "inputs": 2e-5,
    "logits": 1e-5,
    "loss": 2e-6,
    "gradients": 1e-3,
}
# What measure_parity.py writes besides gradients.
SHOWN = ("logits", "loss", "images", "labels", "mean", "std", "inputs", "input_images", "batches_sha256", "step_losses", "twin_losses")
# Lower limit on the tolerance of the losses, however close the twin is.
LEAST_OF_LOSSES = 1e-5


def read(path: Path) -> dict[str, np.ndarray]:
    """Read a file that measure_parity.py wrote; InputError if it is unreadable or lacks something."""
    try:
        found = arrays.read(path)
    except (OSError, ValueError) as error:
        raise_refusal(error, "parity", path)
        raise InputError(f"parity: {path} cannot be read ({error}); make it with scripts/measure_parity.py") from None
    absent = [name for name in SHOWN if name not in found]
    if absent:
        raise InputError(f"parity: {path} lacks {', '.join(absent)}; make it again with scripts/measure_parity.py")
    return found


def relative(first: np.ndarray, second: np.ndarray) -> float:
    """Norm of the difference divided by the norm of `second`."""
    return float(np.linalg.norm(np.float64(first) - second) / np.linalg.norm(np.float64(second)))


def differences(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference in each quantity that both have."""
    found = {
        "logits": np.abs(first["logits"] - second["logits"]).max(),
        "loss": abs(first["loss"] - second["loss"]),
        "gradients": max(relative(first[name], second[name]) for name in first if name.startswith("gradient.")),
        "inputs": np.abs(first["inputs"] - second["inputs"]).max(),
    }
    if "step_losses" in second:
        steps = np.abs(first["step_losses"] - second["step_losses"])
        found |= dict(zip(LOSSES, (steps[:EARLY_STEPS].max(), steps.max()), strict=True))
        found["batches"] = float(first["batches_sha256"] != second["batches_sha256"])
        found["weights, there and back"] = float(first["weights_sha256"] != second["weights_sha256"])
    return {name: float(value) for name, value in found.items()}


def reference_of(variant_name: str, shown: dict[str, np.ndarray], start: weights.Weights) -> dict[str, np.ndarray]:
    """The same quantities, computed in float64 NumPy from the same images and weights."""
    variant = variants.get(variant_name, shown["logits"].shape[1])
    x = reference.inputs(variant, shown["images"], shown["mean"], shown["std"])
    logits, loss, gradients = reference.loss_and_gradients(variant, start, x, shown["labels"])
    seen = reference.inputs(variant, shown["input_images"], shown["mean"], shown["std"])
    return {f"gradient.{name}": g for name, g in gradients.items()} | {"logits": logits, "loss": np.array(loss), "inputs": seen}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shown", nargs="+", type=Path, metavar="NPZ", help="files made by measure_parity.py, each named after its framework")
    p.add_argument("--variant", required=True, choices=list(variants.VARIANTS))
    p.add_argument("--output", required=True, type=Path, metavar="MD")
    args = p.parse_args(argv)
    shown = {}
    for path in args.shown:
        start, _ = weights.read(path.with_suffix(".safetensors"))
        shown[path.stem] = read(path) | {"weights_sha256": np.array(weights.sha256(start))}
        first = next(iter(shown.values()))
        for name in ("images", "labels", "input_images"):
            if not np.array_equal(shown[path.stem][name], first[name]):
                raise InputError(f"parity: {path} and {args.shown[0]} differ in their {name}: measure both alike, on the same data")
    names = list(shown)
    shown["float64 NumPy"] = reference_of(args.variant, shown[names[0]], start)
    pairs = [*combinations(names, 2), *((name, "float64 NumPy") for name in names)]
    rows, failed = [], []
    for first, second in pairs:
        for quantity, value in differences(shown[first], shown[second]).items():
            allowed = TOLERANCES.get(quantity)
            if allowed is None:
                steps = EARLY_STEPS if quantity == LOSSES[0] else None
                twins = (shown[name]["step_losses"] - shown[name]["twin_losses"] for name in (first, second))
                allowed = max(LEAST_OF_LOSSES, *(TWINS * np.abs(twin[:steps]).max() for twin in twins))
            rows.append(
                {"pair": f"{first}, {second}", "quantity": quantity, "largest difference": f"{value:.2g}", "allowed": f"{allowed:.2g}"}
            )
            if not value <= allowed:
                failed.append(f"{quantity} of {first} and {second} differ by {value:.2g}, allowed are {allowed:.2g}")
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    with replacing(args.output) as temporary:
        temporary.write_text(f"# {variants.get(args.variant).title}: do the frameworks compute the same?\n\n{table}\n", encoding="utf-8")
    print(table)
    if failed:
        raise InputError("\n".join(f"parity: {line}" for line in failed))
    return 0


if __name__ == "__main__":
    run_program(main)
