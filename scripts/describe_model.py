#!/usr/bin/env python3
"""Write the model card of a trained network: what it is, how and on what it was trained, how accurate it is, what it may be used for.

python scripts/describe_model.py --metrics results/runs/pytorch/alexnet_mod/seed1/metrics.json --output card.md \\
    --model results/runs/pytorch/alexnet_mod/seed1/model.safetensors --table results/table.csv
"""

import argparse
import hashlib
import json
import shlex
from pathlib import Path

import pandas as pd

from alexbench import backends
from alexbench.analysis import results_table, run_files, stats
from alexbench.experiment import datasets, variants
from alexbench.files import InputError, replacing, run_program

START = {"random": "random weights"}
IMAGENET = (
    "Its start is torchvision's AlexNet, whose weights come under a BSD licence and were trained on ImageNet, whose terms allow "
    "non-commercial research and education."
)
USE = """How to use it, in either framework:

```python
import sys

sys.path.insert(0, "scripts")
from alexbench.experiment import pictures
from alexbench.training import trained_network

model = trained_network.load({model}, framework="{framework}")  # or "{other}"
image = pictures.read("picture.jpg", model.side)
probabilities = model.predict(image[None])[0]
print(model.classes[probabilities.argmax()], probabilities.max())
```

or `python scripts/predict.py picture.jpg --model {quoted}`."""


def accuracy(metrics: dict, table: pd.DataFrame) -> str:
    """A paragraph on the network's accuracy, with intervals."""
    if metrics["status"] != "completed":
        return f"This run {metrics['status']}: the network is of no use."
    n = metrics["test_images"]
    one = stats.wilson(round(metrics["accuracy"] * n), n)
    text = (
        f"Accuracy {metrics['accuracy']:.4f} on {n:,} test images (95 % interval {one.low:.4f} to {one.high:.4f}, "
        f"Wilson's, of these images), loss {metrics['loss']:.4f}."
    )
    cell = table[(table.framework == metrics["framework"]) & (table.variant == metrics["variant"])]
    for row in cell[cell.n > 1].itertuples():
        interval = "" if pd.isna(row.accuracy_low) else f", 95 % interval {row.accuracy_low:.4f} to {row.accuracy_high:.4f}"
        text += f" {row.n} seeds come to {row.accuracy:.4f} on average (standard deviation {row.accuracy_sd:.4f}{interval})."
    return text


def card(metrics: dict, table: pd.DataFrame, model: Path) -> str:
    """The card, in Markdown."""
    recipe = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in metrics["recipe"].items())
    known = datasets.source(metrics["dataset"])
    data = known.CREDIT if known else metrics["dataset"]
    pretrained = metrics["start"] != "random"
    other = next(name for name in backends.FRAMEWORKS if name != metrics["framework"])
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    lines = [
        f"# {metrics['variant_title']}, trained in {metrics['framework_title']}, seed {metrics['seed']}",
        f"{variants.get(metrics['variant']).description} {metrics['parameters']:,} parameters.",
        f"File: `{model.name}`, safetensors, SHA-256 {sha256}. Names and layouts: `scripts/alexbench/experiment/weights.py`.",
        "## Training",
        f"Data: {data}. {metrics['train_images']:,} training images, {metrics['epochs']} epochs.",
        f"Start: {START.get(metrics['start'], metrics['start'])}. Recipe: {recipe}.",
        f"On {metrics['device_name']}, {metrics['train_seconds']:,.0f} s; commit {metrics.get('git_commit') or 'unknown'}.",
        "## How good it is",
        accuracy(metrics, table),
        "## What it is for",
        "Comparing frameworks and recipes, and teaching. It knows the classes that it was trained on, in small pictures of them alone, and "
        "names one of them whatever it is shown; its probabilities need not mean what they say (see the calibration error in the results "
        "table). It is not for decisions about people or things.",
        "## Licences",
        "These weights: the project's (MIT), as far as they are its own. "
        + (IMAGENET if pretrained else "They were trained on the data above alone."),
        "## Use",
        USE.format(
            model=json.dumps(str(model), ensure_ascii=False), quoted=shlex.quote(str(model)), framework=metrics["framework"], other=other
        ),
    ]
    return "\n\n".join(lines) + "\n"


def read(path: Path) -> dict:
    """Read a run's metrics.json; InputError names what the card needs and is missing or of the wrong type."""
    metrics = run_files.read_metrics_file(path)
    if not isinstance(metrics.get("recipe"), dict):
        raise InputError(f"card: {path}: recipe is {metrics.get('recipe')!r}; delete the file and train the run again")
    if metrics["variant"] not in variants.VARIANTS:
        raise InputError(f"card: {path}: variant {metrics['variant']!r} is not declared; there are {', '.join(variants.VARIANTS)}")
    return metrics


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--metrics", required=True, type=Path, metavar="JSON", help="metrics.json of the run")
    p.add_argument("--model", required=True, type=Path, metavar="SAFETENSORS", help="model.safetensors of the run")
    p.add_argument("--table", required=True, type=Path, metavar="CSV", help="table.csv, made by collect.py")
    p.add_argument("--output", required=True, type=Path, metavar="MD")
    args = p.parse_args(argv)
    metrics = read(args.metrics)
    table = results_table.read(args.table, ("framework", "variant", "n"))
    if (table.n > 1).any():
        table = results_table.read(args.table)  # with the columns on several seeds
    text = card(metrics, table, args.model)
    with replacing(args.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_program(main)
