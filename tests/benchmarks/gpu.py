#!/usr/bin/env python3
"""Train every network for the study's 15 epochs on a GPU, in fp32, tf32 and bf16, and set the seconds beside the aims. `make bench-gpu`.

Prints a Markdown table: training time without start-up, compilation and evaluation. Frameworks that are not installed are left out.

    python tests/benchmarks/gpu.py --data resources/data/cifar10.npz
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from alexbench import variants, weights  # noqa: E402

# Of 15 epochs on an H200, in seconds, and what arithmetic alone would take there.
AIMS = {"alexnet_mod": (5.0, 2.4), "alexnet": (28.0, 18.5), "alexnet_pretrained": (20.0, 13.4)}
STEPS = {"pytorch": ["fast", "fast+cuda_graph", "fast+cuda_graph+compiled"], "tensorflow": ["fast"]}
MODULES = {"pytorch": "torch", "tensorflow": "tensorflow"}


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, default=Path("resources/data/cifar10.npz"), help="made by prepare_data.py (%(default)s)")
    p.add_argument("--epochs", type=int, default=15, help="(%(default)s)")
    p.add_argument("--precisions", nargs="+", default=["fp32", "tf32", "bf16"], help="(%(default)s)")
    p.add_argument(
        "--steps", nargs="+", help="of the framework's: fast, plain, or either with switches (fast; PyTorch also with a CUDA graph)"
    )
    args = p.parse_args()
    print("| framework | variant | precision | step | GPU | 15 epochs (s) | aim on an H200, tf32 (s) | its floor (s) | accuracy |")
    print("|:--|:--|:--|:--|:--|--:|--:|--:|--:|", flush=True)
    for framework in (name for name, module in MODULES.items() if importlib.util.find_spec(module)):
        for variant, (aim, floor) in AIMS.items():
            for precision in args.precisions:
                for step in args.steps or STEPS[framework]:
                    metrics = train(args, framework, variant, precision, step)
                    seconds = metrics["train_seconds"] * 15 / metrics["epochs"]
                    accuracy = "–" if metrics["accuracy"] is None else f"{metrics['accuracy']:.4f}"
                    beside = f"{aim} | {floor}" if precision == "tf32" else "|"
                    what = f"{framework} | {variant} | {precision} | {step} | {metrics['device_name']}"
                    print(f"| {what} | {seconds:.2f} | {beside} | {accuracy} |", flush=True)


def train(args: argparse.Namespace, framework: str, variant: str, precision: str, step: str) -> dict:
    """Metrics of one cell. Speed does not depend on the weights: the pretrained network starts from random ones here."""
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--framework", framework, "--variant", variant]
        command += ["--data", str(args.data), "--epochs", str(args.epochs), "--device", "cuda", "--precision", precision, "--step", step]
        if variants.get(variant).pretrained:
            start = Path(name) / "start.safetensors"
            weights.write(start, weights.initialise(variants.get(variant), "torch", 1), {"start": "random", "fresh_layers": ""})
            command += ["--weights", str(start)]
        done = subprocess.run([*command, "--output", name], capture_output=True, text=True, encoding="utf-8", check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        return json.loads((Path(name) / "metrics.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
