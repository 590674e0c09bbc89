#!/usr/bin/env python3
"""Time many small trainings on the tests' one-node SLURM: one run per job, and several per job. Run as root on an idle machine.

python tests/benchmarks/packed.py
python tests/benchmarks/packed.py --runs 8 --together 2
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT / "tests")]

import slurm  # noqa: E402
from on_cluster import ENVIRONMENT, FAST_SNAKEMAKE, ON_CLUSTER, copy_of_project  # noqa: E402
from test_packed import IN_TURN, SHARED, SMALLER, uncommented  # noqa: E402


def measured(runs: int, together: int, runs_per_gpu: int, changes: list[tuple[str, str]]) -> str:
    """One row of the table: the number of jobs, and the seconds until the last run's results."""
    with tempfile.TemporaryDirectory() as folder, slurm.Cluster():
        config = SMALLER | {"seeds": list(range(1, runs + 1)), "runs_per_gpu": runs_per_gpu}
        project = copy_of_project(Path(folder) / "project", config)
        if changes:
            uncommented(project, *changes, together=together)
        command = [*FAST_SNAKEMAKE, *ON_CLUSTER, "--retries", "0", "--until", "train"]
        subprocess.run([*command, "--until", "dataset"], cwd=project, env=ENVIRONMENT, capture_output=True, check=True)
        start = time.monotonic()
        subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, check=True)
        seconds = time.monotonic() - start
        done = [json.loads(path.read_text(encoding="utf-8")) for path in project.glob("results/four/runs/*/*/*/metrics.json")]
        assert len(done) == runs, f"{len(done)} of {runs} runs ended"
        jobs = {run["slurm_job_id"] for run in done}
        assert all(job.state == "COMPLETED" for job in slurm.jobs() if str(job.id) in jobs)
    return f"| {len(jobs)} | {seconds:.0f} |"


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=60)
    p.add_argument("--together", type=int, default=4, help="how many share a job")
    args = p.parse_args(argv)
    print(f"| {args.runs} runs | jobs | seconds |\n|:--|--:|--:|")
    for name, runs_per_gpu, changes in (
        ("a job each", 1, []),
        (f"{args.together} in a job, sharing its GPU", args.together, [SHARED]),
        (f"{args.together} in a job, one after the other", 1, IN_TURN),
    ):
        print(f"| {name} {measured(args.runs, args.together, runs_per_gpu, changes)}", flush=True)


if __name__ == "__main__":
    main()
