#!/usr/bin/env python3
"""Measure how PyTorch's spinning threads affect training speed, on an idle machine and beside one busy process. Linux only.

An OpenMP thread that waits for the others keeps its core busy for a while before it sleeps. If another process wants that core, two
threads then take longer than one. Each line times the fast step of one network, alternately alone and beside `while True: pass`, each in
its own process. Prints a Markdown table; docs/benchmarks.md keeps the last one.

    python tests/benchmarks/spinning.py --data resources/data/cifar10.npz
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]

# libgomp's own default (see its env.c). GOMP_SPINCOUNT is read when the library is loaded.
LIBGOMP = {"GOMP_SPINCOUNT": "300000"}
ARMS = {
    "PyTorch, 2 threads, libgomp's default (300000)": ("pytorch", 2, LIBGOMP),
    "PyTorch, 2 threads, GOMP_SPINCOUNT=1000 (the workflow's)": ("pytorch", 2, {"GOMP_SPINCOUNT": "1000"}),
    "PyTorch, 2 threads, OMP_WAIT_POLICY=passive": ("pytorch", 2, {"OMP_WAIT_POLICY": "passive"}),
    "PyTorch, 1 thread": ("pytorch", 1, LIBGOMP),
    "TensorFlow, 2 threads": ("tensorflow", 2, {}),
}
# Ends when its parent does, for whatever reason: the kernel then gives it another parent.
BUSY = "import os, sys\nwhile os.getppid() == int(sys.argv[1]):\n    for _ in range(1_000_000):\n        pass"


@contextmanager
def busy_process() -> Iterator[int]:
    """Keep one core busy for the length of the block; yields the process id."""
    process = subprocess.Popen([sys.executable, "-c", BUSY, str(os.getpid())])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def images_per_second(args: argparse.Namespace, framework: str, threads: int, variables: dict[str, str]) -> float:
    """Images per second of the fast step including its input, measured in a new process with these environment variables."""
    command = [sys.executable, str(ROOT / "scripts" / "time_steps.py"), "--alone", "--framework", framework, "--threads", str(threads)]
    command += ["--variant", args.variant, "--data", str(args.data), "--device", "cpu", "--seconds", str(args.seconds)]
    ours = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [*command, "--precision", args.precision], env=ours | variables, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return 1 / json.loads(done.stdout.splitlines()[-1])["together_seconds"]


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, default=ROOT / "resources/data/cifar10.npz", help="made by prepare_data.py (%(default)s)")
    p.add_argument("--variant", default="alexnet_mod", help="(%(default)s)")
    p.add_argument("--precision", default="fp32", help="(%(default)s)")
    p.add_argument("--seconds", type=float, default=5.0, help="of each measurement (%(default)s)")
    p.add_argument("--rounds", type=int, default=3, help="the table has their medians, least and most (%(default)s)")
    args = p.parse_args()
    found: dict[tuple[str, bool], list[float]] = {}
    for number in range(args.rounds):
        for name, arm in ARMS.items():
            for beside in (False, True):
                with busy_process() if beside else nullcontext():
                    found.setdefault((name, beside), []).append(images_per_second(args, *arm))
        print(f"round {number + 1} of {args.rounds}; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    print(f"| {args.variant}, {args.precision}, batches of 64 | alone (images/s) | beside a busy process (images/s) |\n|:--|--:|--:|")
    for name in ARMS:
        columns = [f"{median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f})" for speeds in (found[name, False], found[name, True])]
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()
