#!/usr/bin/env python3
"""Copy finished runs to a folder that can be committed: metrics, history and compressed predictions.

`make publish` makes tables, figures and pages from the copies. Runs that were copied before are left alone.

python scripts/keep_runs.py --results results/campaign/mod --output docs/results/mod
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

from alexbench.analysis import run_files
from alexbench.files import InputError, replacing, run_program, write_json
from alexbench.paths import EVERY_RUN

# Metrics that identify a person's machine or jobs and are of no use to others.
PRIVATE = ("hostname", "slurm_job_id", "gpu_uuid")


def keep(run: Path, target: Path) -> None:
    """Copy a run's files. metrics.json comes last, because it marks a run as finished."""
    metrics = run_files.read_metrics_file(run / "metrics.json")
    logits, labels = run_files.read_predictions(run)
    target.mkdir(parents=True, exist_ok=True)
    with replacing(target / "history.csv") as temporary:
        shutil.copy(run / "history.csv", temporary)
    with replacing(target / "predictions.npz") as temporary:
        np.savez_compressed(temporary, logits=logits, labels=labels)
    write_json(target / "metrics.json", {key: value for key, value in metrics.items() if key not in PRIVATE})


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--results", required=True, type=Path, metavar="FOLDER", help="folder with runs/FRAMEWORK/VARIANT/seedSEED/")
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="the runs are copied to its runs/")
    args = p.parse_args(argv)
    ended = sorted(path.parent for path in args.results.glob(f"{EVERY_RUN}/metrics.json"))
    if not ended:
        raise InputError(f"keep: {args.results} holds no run that has ended; name a folder of results")
    for run in ended:
        target = args.output / run.relative_to(args.results)
        kept = target / "metrics.json"
        if kept.is_file():
            print(f"{target} is kept already")
            continue
        keep(run, target)
        print(target, json.loads(kept.read_bytes())["status"])
    return 0


if __name__ == "__main__":
    run_program(main)
