#!/usr/bin/env python3
"""Record the machines and software behind the results: those of this program, and those that the runs recorded.

python scripts/record_environment.py --runs results/runs.csv --output results/environment.json
"""

import argparse
import platform
import socket
from importlib.metadata import distributions
from pathlib import Path

import pandas as pd

from alexbench import machine
from alexbench.analysis import comparability, run_files
from alexbench.files import run_program, write_json

# Recorded of a run besides its hardware and versions.
ALSO = ("gpu.name", "gpu.driver", "platform", "git_commit", "code")


def of_this_machine(snakemake: str | None) -> dict:
    """The machine that makes tables and figures, and the packages installed on it."""
    return {
        "hostname": socket.gethostname(),
        "platform": platform.platform(),
        "cpu_name": machine.cpu_name(),
        "threads": machine.available_threads(),
        "memory_bytes": machine.memory_bytes(),
        "gpus": machine.gpus(),
        "git_commit": machine.git_commit(),
        "snakemake": snakemake,
        "python": platform.python_version(),
        "packages": dict(sorted({package.name: package.version for package in distributions()}.items(), key=lambda item: item[0].lower())),
    }


def of_runs(runs: pd.DataFrame) -> list[dict]:
    """Every combination of hardware and software that a framework's runs were made with, and the number of runs with it."""
    columns = ["framework", *(name for name in (*comparability.HARDWARE, *ALSO) if name in runs)]
    columns += [column for column in runs if column.startswith("versions.")]
    counted = runs.groupby(columns, sort=False, dropna=False).size().reset_index(name="runs")
    # As types that JSON knows; values that a framework lacks are left out.
    return [{key: value for key, value in row.items() if pd.notna(value)} for row in counted.astype(object).to_dict("records")]


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", required=True, type=Path, metavar="CSV", help="runs.csv, made by collect.py")
    p.add_argument("--snakemake", metavar="VERSION", help="version of Snakemake, if Snakemake runs this")
    p.add_argument("--output", required=True, type=Path, metavar="JSON")
    args = p.parse_args(argv)
    write_json(args.output, of_this_machine(args.snakemake) | {"runs": of_runs(run_files.read_runs(args.runs))})
    return 0


if __name__ == "__main__":
    run_program(main)
