#!/usr/bin/env python3
"""Time several ways (arms) to train one network in a framework, from what its tutorials do to the fast path: one CSV row per arm.

Arms are measured in random order, each in its own process: loader alone, step alone, both together. For each further round, run this
again with another --round. collect_speed.py combines all rounds.

    python scripts/time_steps.py --framework pytorch --variant alexnet_mod --data resources/data/digits.npz --output try.csv
    python scripts/time_steps.py --framework pytorch --variant alexnet_mod --data resources/data/digits.npz --alone --step plain
"""

import time

STARTED = time.perf_counter()

import argparse
import csv
import json
import random
import subprocess
import sys
from pathlib import Path

from alexbench import backends, machine, numeric
from alexbench.experiment import recipe, weights
from alexbench.experiment.execution import Execution
from alexbench.files import InputError, replacing, run_program
from alexbench.settings import add_options, from_options
from alexbench.training import lease, loop, options, speed

SEED = 1


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_network(p)
    p.add_argument("--batch-size", type=numeric.positive(int), default=recipe.Recipe().batch_size, help="images per step (%(default)s)")
    p.add_argument(
        "--seconds", type=numeric.positive(float), default=5.0, help="minimum duration of each of an arm's three measurements (%(default)s)"
    )
    what = p.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, metavar="CSV", help="measure every arm, each in its own process, and write this file")
    what.add_argument(
        "--alone", action="store_true", help="measure only the arm that the options below describe, in this process; prints JSON"
    )
    p.add_argument(
        "--round",
        type=numeric.positive(int),
        default=1,
        metavar="N",
        help="with --output: the round, which decides the order of the arms (%(default)s)",
    )
    p.add_argument("--arms", nargs="+", metavar="NAME", help="with --output: measure only these arms")
    add_options(p, Execution)
    return p


def measure(args: argparse.Namespace, how: Execution, held: lease.Lease) -> dict:
    """Measure one arm in this process, on the GPU that `held` reserves."""
    how.check(args.device)
    exported = machine.surroundings()
    imported = time.perf_counter()
    backend_class = backends.load(args.framework, how)
    import_seconds = time.perf_counter() - imported
    framework_memory_bytes = loop.peak_process_memory_bytes()
    dataset, variant = options.load_network(args)
    batch_size = min(args.batch_size, len(dataset.train_labels))
    settings = recipe.Recipe(batch_size=batch_size).resolved(backend_class.conventions, variant.normalisation)
    threads = min(args.threads, machine.available_threads())
    mean, std = recipe.channel_scaling(settings.normalisation, dataset)
    backend = backend_class(backends.Setup(variant, settings, mean, std, args.device, threads, SEED, how))
    backend.set_weights(weights.initialise(variant, settings.initialisation, SEED))
    backend.set_data(dataset.train_images, dataset.train_labels)
    data_bytes = dataset.train_images.nbytes
    dataset = dataset.without_training_images()
    ready_seconds = time.perf_counter() - STARTED - held.waited_seconds
    measured = speed.measure(backend, len(dataset.train_labels), settings, SEED, args.seconds)
    described, host = backend.describe(), machine.describe()
    return {
        "framework_title": backend_class.title,
        "variant_title": variant.title,
        "device": described["device"],
        "device_name": described["device_name"] or host["cpu_name"],
        "hostname": host["hostname"],
        "threads": threads,
        "dataset": dataset.name,
        "images": len(dataset.train_labels),
        "data_bytes": data_bytes,
        "batch_size": batch_size,
        **measured,
        "import_seconds": import_seconds,
        "start_seconds": ready_seconds + measured["first_step_seconds"],
        "framework_memory_bytes": framework_memory_bytes,
        "settings": json.dumps(described["settings"] | exported),
        "versions": json.dumps(described["versions"] | host["versions"]),
    }


def measure_in_a_process(argv: list[str], arm: speed.Arm, held: lease.Lease) -> dict:
    """Measure one arm in its own process, on the GPU that `held` reserves.

    If an extra arm fails (torch.compile, for example, needs a compiler), its row holds only the reason, as `error`.
    """
    started = time.perf_counter()
    command = [sys.executable, __file__, *argv, "--alone", *arm.execution.as_options()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False, pass_fds=held.handles)
    if done.returncode:
        reason = " | ".join(done.stderr.strip().splitlines()[-3:]) or f"exit status {done.returncode}"
        if arm.kind != "extra":
            raise InputError(f"arm {arm.name} failed: {reason}")
        print(f"{arm.name}: left out, it failed: {reason}", file=sys.stderr, flush=True)
        return {"error": reason}
    row = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{arm.name}: {1e3 * row['together_seconds']:.3f} ms per image (loader {1e3 * row['loader_seconds']:.3f}, step "
        f"{1e3 * row['step_seconds']:.3f}); {time.perf_counter() - started:.0f} s",
        file=sys.stderr,
        flush=True,
    )
    return row


def measure_all(args: argparse.Namespace, held: lease.Lease) -> None:
    """Measure every arm on the GPU that `held` reserves, and write --output."""
    backend_class = backends.load(args.framework)
    device = "cuda" if args.device == "cuda" or (args.device == "auto" and backend_class.probe()[1]) else "cpu"
    if device == "cpu":
        held.release()  # the framework does not see the GPU
    dataset, variant = options.load_network(args)
    arms = speed.arms(backend_class, device, resized=dataset.train_images.shape[1] != variant.input_size)
    if args.arms:
        unknown = set(args.arms) - {arm.name for arm in arms}
        if unknown:
            raise InputError(f"--arms: unknown {', '.join(sorted(unknown))}; choose from {', '.join(arm.name for arm in arms)}")
        arms = [arm for arm in arms if arm.name in args.arms]
    argv = [
        *("--framework", args.framework, "--variant", args.variant, "--data", str(args.data), "--device", device),
        *("--threads", str(args.threads), "--batch-size", str(args.batch_size), "--seconds", str(args.seconds)),
    ]
    rows = {}
    for arm in random.Random(args.round).sample(arms, len(arms)):
        rows[arm.name] = measure_in_a_process(argv, arm, held)
    place = {"round": args.round, "framework": args.framework, "variant": args.variant}
    with replacing(args.output) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        names = [*place, "arm", "kind", "change", "error", *max(rows.values(), key=len)]
        writer = csv.DictWriter(file, fieldnames=names, restval="", lineterminator="\n")
        writer.writeheader()
        for arm in arms:
            writer.writerow(place | {"arm": arm.name, "kind": arm.kind, "change": arm.change} | rows[arm.name])


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    given, usual = from_options(args, Execution), Execution()
    if args.output and given != usual:
        said = ", ".join(f"--{name} {value}" for name, value in vars(given).items() if value != getattr(usual, name))
        raise InputError(f"--output measures every arm, each executed its own way: leave out {said}, or say --alone and no --output")
    if args.alone and args.arms:
        raise InputError(f"--alone measures the one arm that the execution options say: leave out --arms {' '.join(args.arms)}")
    with lease.one_gpu(args.device) as held:
        if args.alone:
            print(json.dumps(measure(args, from_options(args, Execution), held)))
        else:
            measure_all(args, held)
    return 0


if __name__ == "__main__":
    run_program(main)
