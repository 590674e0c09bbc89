#!/usr/bin/env python3
"""Measure the workflow's own cost as the grid grows: seconds and peak memory of a dry run, and of the table over stand-in runs.

`make bench`, or `python tests/benchmarks/scale.py --runs 6 600`. Prints a Markdown table; docs/benchmarks.md keeps the last one.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]

from conftest import write_run  # noqa: E402

FRAMEWORKS = ("pytorch", "tensorflow")
VARIANTS = ("alexnet_mod", "alexnet", "alexnet_pretrained")


# `ru_maxrss` survives exec, so a process starts with its launcher's peak: the launcher must be smaller than anything measured.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[2:], stderr=subprocess.STDOUT).returncode
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)
"""


def measured(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak resident MB of a command, which must succeed."""
    with tempfile.TemporaryDirectory() as place:
        peak = Path(place) / "peak"
        started = time.perf_counter()
        # Isolated and without `site`, the launcher needs less memory and time than any command measured.
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", LAUNCHER, str(peak), *command], cwd=folder, stdout=subprocess.PIPE, check=False
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout.decode()[-2000:]}")
        # macOS counts in bytes, other systems in KiB.
        return seconds, int(peak.read_text()) / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", nargs="+", type=int, default=[6, 60, 600, 6000], help="multiples of 6 (%(default)s)")
    args = p.parse_args()
    print("| runs | dry run (s) | dry run, peak (MB) | table (s) | table, peak (MB) |")
    print("|---:|---:|---:|---:|---:|")
    for count in args.runs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for part in ("Snakefile", "config", "rules", "scripts", "envs"):
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
                copy(ROOT / part, folder / part)
            seeds = list(range(count // len(FRAMEWORKS) // len(VARIANTS)))
            (folder / "grid.yaml").write_text(yaml.safe_dump({"seeds": seeds}), encoding="utf-8")
            snakemake = [str(Path(sys.executable).with_name("snakemake")), "--dry-run", "--quiet", "all", "--configfile", "grid.yaml"]
            dry = measured(snakemake, folder)
            for framework in FRAMEWORKS:
                for variant in VARIANTS:
                    for seed in seeds:
                        run = folder / "results/runs" / framework / variant / f"seed{seed}"
                        write_run(run, framework=framework, variant=variant, seed=seed)
            grid = ["--frameworks", *FRAMEWORKS, "--variants", *VARIANTS, "--seeds", *map(str, seeds)]
            table = measured([sys.executable, "scripts/collect.py", "--results", "results", *grid], folder)
        print(f"| {count:,} | {dry[0]:.1f} | {dry[1]:.0f} | {table[0]:.1f} | {table[1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
