#!/usr/bin/env python3
"""Keep the runs that have ended among the results in a folder that can be committed: metrics, history, and compressed predictions.

`make publish` makes tables, figures and pages of what is kept. Runs that are there already are left alone.

python scripts/keep_runs.py --results results/campaign/mod --output docs/results/mod
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from alexbench.analysis import results
from alexbench.files import InputError, replacing, run_program, write_json

# What names a person's machine or jobs, and is of no use to others.
PRIVATE = ("hostname", "slurm_job_id", "gpu_uuid")


def keep(run: Path, target: Path) -> None:
    """Copy a run's files; metrics.json, which says that it has ended, comes last."""
    metrics = results.read_metrics_file(run / "metrics.json")
    logits, labels = results.read_predictions(run)
    target.mkdir(parents=True, exist_ok=True)
    with replacing(target / "history.csv") as temporary:
        shutil.copy(run / "history.csv", temporary)
    with replacing(target / "predictions.npz") as temporary:
        np.savez_compressed(temporary, logits=logits, labels=labels)
    write_json(target / "metrics.json", {key: value for key, value in metrics.items() if key not in PRIVATE})


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results", required=True, type=Path, metavar="FOLDER", help="holds runs/FRAMEWORK/VARIANT/seedSEED/")
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="the runs go to its runs/")
    args = p.parse_args(argv)
    ended = sorted(path.parent for path in (args.results / "runs").glob("*/*/seed*/metrics.json"))
    if not ended:
        raise InputError(f"keep: {args.results / 'runs'} holds no run that has ended; name a folder of results")
    for run in ended:
        target = args.output / "runs" / run.relative_to(args.results / "runs")
        kept = target / "metrics.json"
        if kept.is_file():
            print(f"{target} is kept already")
            continue
        keep(run, target)
        print(target, json.loads(kept.read_bytes())["status"])
    return 0


if __name__ == "__main__":
    run_program(main)
