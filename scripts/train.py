#!/usr/bin/env python3
"""Train one variant in one framework with one seed, evaluate it and write the results.

Writes to --output: metrics.json, history.csv (one row per epoch), predictions.npz (test logits and labels), model.safetensors (the final
weights, for predict.py and others) and, after every epoch, events/ for TensorBoard.
The data file is made by prepare_data.py, the weights file by prepare_weights.py.

During the run it also keeps checkpoint.safetensors there, written after every epoch and, on SIGTERM or Ctrl-C, after the current step. The
same command then resumes from it, on a CPU with identical bits. progress.json shows how far it is.

    python scripts/train.py --framework pytorch --variant alexnet_mod --data resources/data/cifar10.npz --output results/try
"""

import time

STARTED = time.perf_counter()  # before the framework is imported, which counts as set-up

import argparse
import csv
import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from alexbench import backends, machine, numeric
from alexbench.experiment import datasets, execution, layers, recipe, weights
from alexbench.experiment.datasets import Dataset
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import Recipe
from alexbench.files import InputError, raise_refusal, replacing, write_json
from alexbench.metrics import FORMAT, upgraded
from alexbench.settings import add_options, from_options
from alexbench.training import lease, loop, options, tensorboard, trained_network
from alexbench.training.interruption import Interrupted, Stop
from alexbench.workflow import fingerprint

# EX_TEMPFAIL of sysexits.h: not done, try again.
INTERRUPTED_STATUS = 75


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_network(p)
    p.add_argument("--output", required=True, type=Path, metavar="FOLDER", help="folder for the results; created if missing")
    p.add_argument(
        "--weights", type=Path, metavar="SAFETENSORS", help="initial weights of a pretrained variant, made by prepare_weights.py"
    )
    p.add_argument("--seed", type=numeric.seed, default=1, help="seed of initial weights, shuffling and dropout (%(default)s)")
    p.add_argument(
        "--attempt", type=numeric.positive(int), default=1, metavar="N", help="number of this attempt, set by Snakemake (%(default)s)"
    )
    p.add_argument("--train-limit", type=numeric.positive(int), metavar="N", help="train on a class-balanced subset of N images")
    p.add_argument("--test-limit", type=numeric.positive(int), metavar="N", help="evaluate on a class-balanced subset of N images")
    p.add_argument(
        "--validation",
        type=numeric.not_negative(float),
        default=0,
        metavar="N",
        help="hold out N training images, or that share, and evaluate on them; the test images are seen once, at the end (%(default)s)",
    )
    p.add_argument("--validation-seed", type=numeric.seed, default=0, metavar="SEED", help="which images these are (%(default)s)")
    p.add_argument(
        "--as-long-as",
        type=Path,
        metavar="METRICS",
        help="metrics.json of another run: train the number of epochs that comes closest to its training time; overrides --epochs",
    )
    switch = argparse.BooleanOptionalAction
    p.add_argument("--model", action=switch, default=True, help="write model.safetensors (default: yes)")
    p.add_argument("--tensorboard", action=switch, default=True, help="write events/ (default: yes)")
    add_options(p, Recipe)
    add_options(p, Execution)
    p.add_argument(
        "--runs-per-gpu",
        type=numeric.positive(int),
        default=1,
        metavar="N",
        help="share a GPU with up to N-1 runs that give the same N; times are compared only between such runs (%(default)s)",
    )
    return p


def starting_weights(variant: layers.Variant, scheme: str, seed: int, file: Path | None) -> tuple[weights.Weights, dict]:
    """The initial weights of a run, and what its metrics record about them."""
    fresh = weights.initialise(variant, scheme, seed)
    if variant.pretrained is None:
        if file:
            raise InputError(f"--weights: {variant.name} starts from random weights; leave {file} out")
        return fresh, {
            "start": "random",
            "weights_sha256": None,
            "fresh_layers": [i.name for i in layers.every_layer(variant) if i.parameters and not i.body],
        }
    if file is None:
        raise InputError(f"--weights: {variant.name} starts from trained weights; make their file with scripts/prepare_weights.py")
    trained, metadata = weights.read(file)
    fresh_layers = metadata.get("fresh_layers", "").split()
    weights.check(variant, trained, str(file), optional=tuple(fresh_layers))
    return fresh | trained, {
        "start": metadata.get("start"),
        "weights_sha256": metadata.get("source_sha256"),
        "fresh_layers": fresh_layers,
    }


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    run_folder = loop.RunFolder(args.output)

    def waiting(line: str) -> None:
        run_folder.tell(stage="waiting for a GPU")
        say(line)

    with run_folder.alone(say):
        try:
            with lease.one_gpu(args.device, waiting, args.runs_per_gpu) as held:
                return run(args, run_folder, held)
        finally:
            # So that no one thinks this run is still going.
            run_folder.progress.unlink(missing_ok=True)


def trained_already(metrics: Path, identity_sha256: str) -> bool:
    """Whether a run with this identity has finished here: a job may outlive a killed Snakemake, and the next Snakemake repeats it."""
    try:
        return json.loads(metrics.read_bytes())["identity_sha256"] == identity_sha256
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def budget_seconds(other: Path, alike: dict) -> float:
    """Training seconds of another run, from its metrics.json; InputError if it differs from this run in a value of `alike`."""
    try:
        metrics = upgraded(json.loads(other.read_bytes()))
        seconds, theirs = metrics["train_seconds"], {key: metrics[key] for key in alike}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise_refusal(error, "--as-long-as", other)
        raise InputError(f"--as-long-as: {other} is not the metrics.json of a run ({error!r})") from None
    for key, value in alike.items():
        if theirs[key] != value:
            raise InputError(
                f"--as-long-as: {other} has {key} {theirs[key]!r} and this run {value!r}, so their times cannot be compared; "
                "run both on the same kind of machine, on the same data"
            )
    return seconds


@dataclasses.dataclass
class Prepared:
    """Everything that a run needs before its first step, and what its metrics record about it."""

    backend: backends.Backend
    variant: layers.Variant
    dataset: Dataset
    # Images and labels held out for validation; None without them.
    validation: tuple[np.ndarray, np.ndarray] | None
    recipe: Recipe
    # Input scaling: channel means and standard deviations, float32 (3,) each.
    mean: np.ndarray
    std: np.ndarray
    # From Backend.describe and machine.describe.
    described: dict
    host: dict
    start_note: dict
    # What must match for a checkpoint or a finished run to be this very run.
    identity: dict
    threads: int
    budget_seconds: float | None

    @property
    def identity_sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()


def prepare(args: argparse.Namespace, held: lease.Lease) -> Prepared:
    """Load data and framework, and build the network with its initial weights on the GPU that is `held`."""
    how, chosen = from_options(args, Execution), from_options(args, Recipe)
    for line in execution.contradictions(vars(how), args.device, recipe=chosen.as_dict(), as_long_as=args.as_long_as is not None):
        raise InputError(line)
    whole, variant = options.load_network(args)
    dataset = whole.limited(args.train_limit, args.test_limit)
    threads = min(args.threads, machine.available_threads())
    exported = machine.surroundings()
    backend_class = backends.load(args.framework, how)
    settings = chosen.resolved(backend_class.conventions, variant.normalisation)
    start, start_note = starting_weights(variant, settings.initialisation, args.seed, args.weights)
    mean, std = recipe.channel_scaling(settings.normalisation, dataset)
    backend = backend_class(backends.Setup(variant, settings, mean, std, args.device, threads, args.seed, how))
    backend.set_weights(start)
    described, host = backend.describe(), machine.describe()
    described["settings"] |= exported
    if described["device"] == "cpu":
        held.release()  # the framework does not see the GPU
    described["device_name"] = described["device_name"] or host["cpu_name"]
    data_sha256 = dataset.sha256()
    validation = None
    if args.validation:
        dataset, *validation = datasets.held_out(dataset, args.validation, args.validation_seed)
    budget = None
    if args.as_long_as:
        alike = {"framework": args.framework, **{key: described[key] for key in ("device", "device_name")}, "threads": threads}
        budget = budget_seconds(args.as_long_as, alike | {"runs_per_gpu": args.runs_per_gpu, "data_sha256": data_sha256})
    identity = {
        "framework": args.framework,
        "variant": fingerprint.of_variant(variant),
        "code": fingerprint.of_program(Path(__file__), args.framework),
        "seed": args.seed,
        "recipe": settings.as_dict(),
        "budget_seconds": budget,
        "data": data_sha256,
        **({"validation": [args.validation, args.validation_seed]} if validation else {}),
        **start_note,
        "device": described["device"],
        "threads": threads,
        "settings": described["settings"],
        "versions": described["versions"],
    }
    say(
        f"{backend_class.title} {variant.title}, seed {args.seed}: {layers.parameters(variant):,} parameters, start {start_note['start']}, "
        f"on {described['device']} ({described['device_name']}, {threads} threads)"
    )
    return Prepared(backend, variant, dataset, validation, settings, mean, std, described, host, start_note, identity, threads, budget)


def train(
    args: argparse.Namespace, prepared: Prepared, run_folder: loop.RunFolder, held: lease.Lease, stop: Stop
) -> tuple[loop.Outcome, dict]:
    """Train and evaluate; also return what was observed of the GPU. If its memory is too small, leave a note that stops retries."""
    backend, dataset = prepared.backend, prepared.dataset
    try:
        backend.set_data(dataset.train_images, dataset.train_labels)
        # The backend has its own copy by now.
        dataset = prepared.dataset = dataset.without_training_images()
        setup_seconds = time.perf_counter() - STARTED - held.waited_seconds
        folder = args.output / "events" if args.tensorboard else None
        with machine.GpuSampler(prepared.described["device"]) as gpu, tensorboard.Events(folder) as written:
            words = (setup_seconds, stop, say, prepared.budget_seconds, written, args.runs_per_gpu)
            outcome = loop.train(backend, dataset, prepared.recipe, args.seed, run_folder, prepared.identity, *words, prepared.validation)
    except backend.out_of_memory as error:
        if prepared.described["device"] == "cpu":
            raise  # the retry asks for more host memory
        reason = (
            f"the GPU ({prepared.described['device_name']}) has too little memory for {prepared.variant.name} with batches of "
            f"{prepared.recipe.batch_size}: lower recipe.batch_size, or ask for a GPU with more memory [{str(error).splitlines()[0]}]"
        )
        run_folder.do_not_retry.write_text(reason, encoding="utf-8")
        raise InputError(reason) from None
    return outcome, gpu.summary()


def record(args: argparse.Namespace, prepared: Prepared, outcome: loop.Outcome, gpu: dict, held: lease.Lease) -> None:
    """Write the run's files; metrics.json, which says that the run has ended, comes last."""
    backend, variant, dataset, progress = prepared.backend, prepared.variant, prepared.dataset, outcome.progress
    final_weights = backend.get_weights()

    def counted(names: list[str]) -> int:
        return sum(final_weights[name].size for name in names)

    images = len(dataset.train_labels)
    metrics = {
        "format": FORMAT,
        "framework": args.framework,
        "framework_title": backend.title,
        "variant": variant.name,
        "variant_title": variant.title,
        "seed": args.seed,
        "status": outcome.status,
        "accuracy": outcome.accuracy,
        "loss": outcome.loss,
        "parameters": counted(layers.trained(variant)),
        "trained_parameters": counted(layers.trained(variant, prepared.recipe.frozen_features)),
        "multiply_adds": layers.multiply_adds(variant),
        "dataset": dataset.name,
        "train_images": images,
        "test_images": len(dataset.test_labels),
        "validation_images": len(prepared.validation[1]) if prepared.validation else 0,
        "validation_seed": args.validation_seed if prepared.validation else None,
        "train_limit": args.train_limit,
        "test_limit": args.test_limit,
        "left_out": dataset.left_out,
        "in_both": dataset.in_both,
        "data_sha256": prepared.identity["data"],
        "epochs": progress.epochs_run,
        "budget_seconds": prepared.budget_seconds,
        "batch_size": prepared.recipe.batch_size,
        "recipe": prepared.recipe.as_dict(),
        **prepared.start_note,
        "network": prepared.identity["variant"],
        "code": prepared.identity["code"],
        "identity_sha256": prepared.identity_sha256,
        "final_weights_sha256": weights.sha256(final_weights),
        **vars(progress.clocks),
        "interruptions": progress.interruptions,
        "images_per_second": images * progress.epochs_run / progress.clocks.train_seconds,
        "peak_memory_bytes": backend.peak_memory_bytes() or loop.peak_process_memory_bytes(),
        "device": prepared.described["device"],
        # More than one if an interrupted run resumed on other hardware.
        "device_name": " and ".join(progress.device_names),
        # Covers only this process, not the earlier parts of an interrupted run.
        "gpu": gpu,
        # Which of the machine's GPUs it was.
        "gpu_uuid": held.gpu,
        # How many runs shared the GPU, as requested; the largest number if an interrupted run resumed with another one.
        "runs_per_gpu": progress.runs_per_gpu,
        "threads": prepared.threads,
        "settings": prepared.described["settings"],
        **prepared.host,
        "versions": prepared.host["versions"] | prepared.described["versions"],
    }
    with replacing(args.output / "history.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(progress.history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(progress.history)
    with replacing(args.output / "predictions.npz") as temporary:
        np.savez(temporary, logits=progress.logits, labels=dataset.test_labels)
    if args.model:
        about = {key: metrics[key] for key in ("framework", "seed", "status", "accuracy", "dataset", "epochs", "start")}
        about |= {"classes": list(dataset.classes), "side": dataset.test_images.shape[1]}
        trained_network.save(args.output / "model.safetensors", variant, final_weights, prepared.mean, prepared.std, **about)
    write_json(args.output / "metrics.json", metrics)


def run(args: argparse.Namespace, run_folder: loop.RunFolder, held: lease.Lease) -> int:
    """Do one run on the GPU that is `held`: prepare, train, record."""
    stop = Stop().listen()
    # A retry brings more host memory, which does not help on the GPU.
    if args.attempt > 1 and run_folder.do_not_retry.exists():
        raise InputError(f"not tried again: {run_folder.do_not_retry.read_text(encoding='utf-8')}")
    run_folder.do_not_retry.unlink(missing_ok=True)
    run_folder.tell(stage="starting")
    prepared = prepare(args, held)
    metrics = args.output / "metrics.json"
    if trained_already(metrics, prepared.identity_sha256):
        say(f"{metrics} is from this same run: nothing to do; delete it to train again")
        return 0
    outcome, gpu = train(args, prepared, run_folder, held, stop)
    record(args, prepared, outcome, gpu, held)
    run_folder.checkpoint.unlink(missing_ok=True)
    result = "no accuracy" if outcome.accuracy is None else f"accuracy {outcome.accuracy:.4f}, loss {outcome.loss:.4f}"
    say(f"{outcome.status}: {result}; trained {outcome.progress.clocks.train_seconds:.1f} s; see {metrics}")
    return 0


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(str(error))
    except Interrupted as interruption:
        say(f"interrupted by {interruption}; the same command goes on from there")
        sys.exit(INTERRUPTED_STATUS)
