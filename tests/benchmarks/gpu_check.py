#!/usr/bin/env python3
"""Check a GPU before its first use: does everything work, does it run on the GPU, and which switches make a training step faster?

Start it with `make gpu-check`, or only one part of it with `make gpu-check PART=switches`. The parts:

tests     run tests/test_gpu.py
checks    check on which device operations run, and that compilers, precisions, CUDA graphs, NVML and two processes on one GPU work
switches  time the plain step and the fast step, each alone and with one more switch, in each precision
aims      train the original study's networks for 15 epochs and compare the time with the targets in docs/benchmarks.md

A part that reaches --minutes stops; run the same command again to continue. Frameworks that are not installed or see no GPU are skipped.
Writes report.md, report.json and timings.csv (the times of `switches`) to --output.

Exit status: 0 if everything passed, 1 if something failed or there is no GPU, 75 if it stopped early and must be run again.
"""

import argparse
import contextlib
import csv
import ctypes
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts")]

try:
    import numpy as np

    from alexbench import backends, machine
    from alexbench.experiment import datasets, variants, weights
    from alexbench.experiment.execution import PRECISIONS, Execution
    from alexbench.experiment.recipe import Plan, Recipe
    from alexbench.files import InputError, replacing, write_json
except ModuleNotFoundError as missing:
    sys.exit(f"gpu-check: {missing.name} is not installed for {sys.executable}; make one of envs/, or say make PYTHON=another")

PARTS = ("tests", "checks", "switches", "aims")
MODULES = {"pytorch": "torch", "tensorflow": "tensorflow"}
# Seconds that must be left to start another item.
LEAST_SECONDS = 20
# A speed change below this share counts as none.
MARGIN = 0.02
# Seconds for 15 epochs on an H200: the target, and the time for the arithmetic only.
AIMS = {"alexnet_mod": (5.0, 2.4), "alexnet": (28.0, 18.5), "alexnet_pretrained": (20.0, 13.4)}
# What may go wrong on a GPU, numbered so that items can refer to it.
SUSPICIONS = {
    1: "TensorFlow's steps with input: per_image run on the CPU",
    2: "deterministic: true dies in TensorFlow (XLA has no deterministic MaxPoolGrad)",
    3: "a compiler is incomplete: libdevice or ptxas (XLA), Triton (torch.compile)",
    4: "channels last is slower than NCHW in fp32",
    5: "fp32 is computed in TF32, or tf32 in fp32",
    6: "XLA is slower than cuDNN's kernels",
    7: "operations without a kernel for the GPU go to the CPU silently",
    8: "a process takes the memory of the whole GPU: a second one dies, and NVML's figure means nothing",
    9: "a backward pass before the capture breaks the CUDA graph",
    10: "TF32 is set by PyTorch's old and new interface at once",
    11: "deterministic steps in PyTorch are slower than need be",
    12: "torch.compile turns to dynamic shapes with a second batch size",
    13: "the step alone waits after every step, so that it exceeds loader and step together",
}


@dataclass(frozen=True)
class Item:
    """One check, run in its own process. `about`: numbers of SUSPICIONS; `limit`: seconds after which it counts as hung."""

    part: str
    framework: str
    name: str
    command: list[str]
    about: tuple[int, ...] = ()
    limit: float = 300
    place: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        return f"{self.part}/{self.framework}/{self.name}"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run (all)")
    p.add_argument("--minutes", type=float, default=9.0, help="time limit of each part, in minutes (%(default)s)")
    p.add_argument("--again", action="store_true", help="start these parts again from the beginning")
    p.add_argument(
        "--output", type=Path, default=ROOT / "results" / "gpu-check", metavar="FOLDER", help="folder for the report (results/gpu-check)"
    )
    p.add_argument(
        "--frameworks", nargs="+", choices=backends.FRAMEWORKS, default=list(backends.FRAMEWORKS), help="frameworks to check (all)"
    )
    p.add_argument(
        "--precisions",
        nargs="+",
        choices=PRECISIONS,
        default=list(PRECISIONS),
        help="precisions to check, in all parts but tests (all)",
    )
    p.add_argument("--steps", nargs="+", metavar="STEP", help="for switches and aims: only these steps, such as fast+channels_last")
    switches = p.add_argument_group("switches")
    switches.add_argument(
        "--variants", nargs="+", choices=list(AIMS), default=["alexnet", "alexnet_mod"], help="networks to time (alexnet alexnet_mod)"
    )
    switches.add_argument("--rounds", type=int, default=2, metavar="N", help="how often to time each step (%(default)s)")
    switches.add_argument(
        "--seconds", type=float, default=0.5, help="minimum duration of each measurement: loader, step, both together (%(default)s)"
    )
    switches.add_argument("--batch-size", type=int, default=64, metavar="N", help="images per step (%(default)s)")
    aims = p.add_argument_group("aims")
    aims.add_argument(
        "--data",
        type=Path,
        default=ROOT / "resources" / "data" / "cifar10.npz",
        metavar="NPZ",
        help="data set, made by prepare_data.py (resources/data/cifar10.npz)",
    )
    aims.add_argument("--epochs", type=int, default=15, metavar="N", help="epochs to train; the report scales the time to 15 (%(default)s)")
    # For this program's own tests, and for the processes that it starts.
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help=argparse.SUPPRESS)
    p.add_argument("--check", help=argparse.SUPPRESS)
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.check:
        print(json.dumps(CHECKS[args.check](args.frameworks[0], args.device, args.precisions[0], args.steps[0] if args.steps else "plain")))
        return 0
    seen, skipped = frameworks(args)
    if not seen:
        raise InputError(f"gpu-check: no GPU: {'; '.join(skipped)}. Check nvidia-smi and that the frameworks are built for CUDA")
    args.output = args.output.resolve()
    args.output.mkdir(parents=True, exist_ok=True)
    kept = args.output / "records.jsonl"
    device = next(iter(seen.values()))["device_name"]
    records = {key: record for key, record in read(kept).items() if record["device_name"] == device}
    if args.again:
        records = {key: record for key, record in records.items() if record["part"] not in args.part}
    with replacing(kept) as temporary:
        temporary.write_text("".join(json.dumps(record) + "\n" for record in records.values()), encoding="utf-8")
    images = args.output / "images.npz"
    if not images.exists():
        datasets.save(made_up(), images)
    left = []
    for part in args.part:
        found = [item for framework in seen for item in ITEMS[part](args, framework, skipped)]
        left += run_part(args, part, found, records, kept, device)
    failed = [record for record in records.values() if record["status"] == "failed"]
    write_report(args, seen, skipped, records, left)
    say(f"{len(records)} done, {len(failed)} failed, {len(left)} left; see {args.output / 'report.md'}")
    if left:
        say("run the same command again to continue")
    return 1 if failed else 75 if left else 0


def frameworks(args: argparse.Namespace) -> tuple[dict[str, dict], list[str]]:
    """The frameworks that see a GPU, each with version and GPU name, and one line for each of the others."""
    seen, skipped = {}, []
    for name in args.frameworks:
        if importlib.util.find_spec(MODULES.get(name, name)) is None:
            skipped.append(f"{name} is not installed")
            continue
        status, answer = run_process(check_command(args, "probe", name), 120)
        if status != "ok":
            skipped.append(f"{name} cannot be imported ({answer['says']})")
        elif not answer["gpus"] and args.device == "cuda":
            skipped.append(f"{name} {answer['version']} sees none")
        else:
            gpus = answer["gpus"] if args.device == "cuda" else []
            seen[name] = {"version": answer["version"], "device_name": gpus[0] if gpus else machine.cpu_name()}
    return seen, skipped


def run_part(args: argparse.Namespace, part: str, items: list[Item], records: dict, kept: Path, device: str) -> list[str]:
    """Run the items of a part that earlier calls have not run, adding to `records` and the file `kept`. Returns the keys of those left."""
    end = time.monotonic() + 60 * args.minutes
    todo = [item for item in items if item.key not in records]
    say(f"{part}: {len(items)} items, {len(todo)} to do, at most {args.minutes:g} minutes")
    for number, item in enumerate(todo):
        seconds = end - time.monotonic()
        if seconds < min(LEAST_SECONDS, 60 * args.minutes / 2):
            return [item.key for item in todo[number:]]
        started = time.monotonic()
        status, answer = run_process(item.command, min(item.limit, seconds))
        if status == "late" and seconds < item.limit and number:
            # The part ran out of time, not the item: the next call starts with it and gives it more.
            return [item.key for item in todo[number:]]
        status = "failed" if status == "late" else status
        about = {"key": item.key, "part": part, "framework": item.framework, "name": item.name, "status": status, "about": item.about}
        about |= {"device_name": device, "wall_seconds": round(time.monotonic() - started, 1), **dict(item.place)}
        record = answer | about
        records[item.key] = record
        with kept.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        say(f"  [{number + 1}/{len(todo)}] {item.key}: {status}, {record['wall_seconds']:.0f} s  {record['says']}")
    return []


def run_process(command: list[str], seconds: float) -> tuple[str, dict]:
    """Run a program: "ok", "failed", "skipped" or "late", and its last line if that is JSON, else the end of its errors."""
    # In a process group of its own, so that loaders and compilers end with it.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=ROOT, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace").strip().splitlines())
    if code is None:
        return "late", {"says": f"took longer than {seconds:.0f} s"}
    with contextlib.suppress(ValueError, IndexError):
        answer = json.loads(texts[0][-1])
        if isinstance(answer, dict) and code == 0:
            return answer.pop("status", "ok"), {"says": "", **answer}
    said = " | ".join((texts[1] or texts[0])[-3:])[-600:]
    return "ok" if code == 0 else "failed", {"says": said or f"exit status {code}"}


def read(kept: Path) -> dict[str, dict]:
    """What earlier calls found, by key; a line that a kill cut short is ignored."""
    found = {}
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else ():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            found[record["key"]] = record
    return found


def made_up() -> datasets.Dataset:
    """Noise images of CIFAR-10's size; the step time does not depend on their content."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (2048, 32, 32, 3), np.uint8), np.arange(2048) % 10
    return datasets.Dataset("made up", images, labels, images[:512], labels[:512], tuple("0123456789"))


def say(line: str) -> None:
    print(line, flush=True)


# The items of each part.


def items_of_tests(args: argparse.Namespace, framework: str, skipped: list[str]) -> list[Item]:
    """One item per test function."""
    if importlib.util.find_spec("pytest") is None:
        skipped.append("tests: pytest is not installed")
        return []
    source = (ROOT / "tests" / "test_gpu.py").read_text(encoding="utf-8")
    items = []
    for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE):
        about = {"image_by_image": (1,), "deterministic": (2,), "coarser": (5,), "no_operation": (7,), "warming_up": (9,)}
        numbers = next((numbers for part, numbers in about.items() if part in name), ())
        command = check_command(args, "pytest", framework, "--steps", name)
        items.append(Item("tests", framework, name, command, numbers, 400))
    return items


def check_command(args: argparse.Namespace, check: str, framework: str, *options: str) -> list[str]:
    return [sys.executable, __file__, "--check", check, "--frameworks", framework, "--device", args.device, *options]


def items_of_checks(args: argparse.Namespace, framework: str, skipped: list[str]) -> list[Item]:
    def item(check: str, about: tuple[int, ...], *options: str) -> Item:
        name = " ".join([check, *(option for option in options if not option.startswith("--"))])
        return Item("checks", framework, name, check_command(args, check, framework, *options), about)

    there = [precision for precision in args.precisions if args.device == "cuda" or precision != "tf32"]
    # On a CPU, torch.compile needs channels last, which is part of the fast step.
    compiler = "plain+xla" if framework == "tensorflow" else "plain+compiled" if args.device == "cuda" else "fast+compiled"
    items = [item("placement", (1, 7), "--precisions", p, "--steps", s) for p in there for s in ("plain", "fast", "per_image")]
    items += [item("compiled", (3, 12), "--steps", compiler)]
    items += [item("precision", (5, 10), "--precisions", p) for p in there if p != "bf16"]
    items += [item("deterministic", (2,)), item("nvml", (8,)), item("two_processes", (8,))]
    return items + ([item("cuda_graph", (9,))] if framework == "pytorch" else [])


def steps_of(framework: str, device: str) -> list[str]:
    """The plain step, the plain step with each switch, the fast step, and the fast step with each switch that it leaves out."""
    known = backends.load(framework).switches
    there = [name for name, switch in known.items() if device in switch.devices]
    fast = Execution().switches(known, device)
    needed = {name: "".join(f"+{other}" for other in known[name].needs.get(device, ())) for name in there}
    steps = ["plain", *(f"plain{needed[name]}+{name}" for name in there), "fast"]
    for name in there:
        # Skip a switch that turns off part of the fast step: its time would be that of another step.
        with_it = Execution(step=f"fast+{name}").switches(known, device)
        if not fast[name] and all(with_it[other] for other, on in fast.items() if on):
            steps.append(f"fast+{name}")
    return steps


def items_of_switches(args: argparse.Namespace, framework: str, skipped: list[str]) -> list[Item]:
    items = []
    steps = args.steps or run_process(check_command(args, "steps", framework), 120)[1]["steps"]
    there = [precision for precision in args.precisions if args.device == "cuda" or precision != "tf32"]
    for number in range(1, args.rounds + 1):
        for variant in args.variants:
            for precision in there:
                asked = [Execution(step=step, precision=precision) for step in steps]
                if precision == "fp32" and not args.steps:
                    asked.append(Execution(step="plain", deterministic=True))
                for how in asked:
                    about = tuple(
                        suspicion
                        for suspicion, word in {3: "+compiled", 4: "channels_last", 6: "xla"}.items()
                        if how.step.endswith(word) or (suspicion == 3 and how.step.endswith("+xla"))
                    )
                    place = {"variant": variant, "precision": precision, "step": how.step, "round": number}
                    place["deterministic"] = how.deterministic
                    command = [sys.executable, str(ROOT / "scripts" / "time_steps.py"), "--alone", "--framework", framework]
                    command += ["--variant", variant, "--data", str(args.output / "images.npz"), "--device", args.device]
                    command += ["--batch-size", str(args.batch_size), "--seconds", str(args.seconds), *how.as_options()]
                    name = f"{variant} {precision} {how.step}{' deterministic' if how.deterministic else ''} round {number}"
                    items.append(Item("switches", framework, name, command, about, place=tuple(place.items())))
    return items


def items_of_aims(args: argparse.Namespace, framework: str, skipped: list[str]) -> list[Item]:
    if not args.data.exists():
        line = f"aims: {args.data} does not exist; make it with scripts/prepare_data.py, or name another with --data"
        if line not in skipped:
            skipped.append(line)
        return []
    steps = args.steps or (["fast", "fast+cuda_graph"] if framework == "pytorch" and args.device == "cuda" else ["fast"])
    items = []
    for variant in AIMS:
        for precision in sorted(args.precisions, key=["tf32", "bf16", "fp32"].index):
            for step in steps:
                folder = args.output / "aims" / framework / variant / f"{precision}-{step}"
                command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--framework", framework, "--variant", variant]
                command += ["--data", str(args.data), "--epochs", str(args.epochs), "--device", args.device, "--precision", precision]
                command += ["--step", step, "--output", str(folder), "--no-model", "--no-tensorboard"]
                if variants.get(variant).pretrained:
                    # Speed does not depend on the weights.
                    start = args.output / "start.safetensors"
                    if not start.exists():
                        weights.write(start, weights.initialise(variants.get(variant), "torch", 1), {"start": "random", "fresh_layers": ""})
                    command += ["--weights", str(start)]
                place = {"variant": variant, "precision": precision, "step": step, "metrics": str(folder / "metrics.json")}
                items.append(Item("aims", framework, f"{variant} {precision} {step}", command, limit=500, place=tuple(place.items())))
    return items


ITEMS = {"tests": items_of_tests, "checks": items_of_checks, "switches": items_of_switches, "aims": items_of_aims}


# The checks, each run in a process of its own. The answer has `says`, and `status` unless it is "ok".


def verdict(well: bool, says: str, **found: object) -> dict:
    return {"status": "ok" if well else "failed", "says": says, **found}


def make(framework: str, device: str, **asked: object):
    """A backend of the small network on the noise images, without dropout so that two backends can be compared."""
    how = Execution(**asked)
    variant = variants.get("alexnet_mod")
    settings = Recipe(batch_size=16, dropout=0.0, initialisation="torch", adam_epsilon="torch").resolved({}, "unit")
    threads = machine.available_threads()
    zeros, ones = np.zeros(3, np.float32), np.ones(3, np.float32)
    backend = backends.load(framework, how)(backends.Setup(variant, settings, zeros, ones, device, threads, 1, how))
    backend.set_weights(weights.initialise(variant, "torch", 1))
    data = made_up()
    backend.set_data(data.train_images, data.train_labels)
    return backend


def plan(steps: int, size: int = 16) -> Plan:
    images = np.arange(steps * size).reshape(steps, size)
    return Plan(images, np.full(steps, 0.001, np.float32), np.zeros((*images.shape, 3), np.int32))


def losses(backend, plans: list[Plan]) -> list[float]:
    """Mean loss of each plan."""
    found = []
    for one in plans:
        for _ in backend.train([one]):
            pass
        found.append(backend.metrics()[0] / one.images.size)
    return found


def check_probe(framework: str, device: str, precision: str, step: str) -> dict:
    version, gpus = backends.load(framework).probe()
    return {"version": version, "gpus": gpus}


def check_steps(framework: str, device: str, precision: str, step: str) -> dict:
    return {"steps": steps_of(framework, device)}


def check_pytest(framework: str, device: str, precision: str, name: str) -> dict:
    """Run one function of tests/test_gpu.py, for one framework only."""
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "tests/test_gpu.py", "-k"]
    done = subprocess.run([*command, f"{name} and {framework}"], capture_output=True, text=True, encoding="utf-8", check=False)
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    status = {0: "ok", 5: "skipped"}.get(done.returncode, "failed")
    status = "skipped" if status == "ok" and "passed" not in lines[-1] else status
    wrong = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"status": status, "says": " | ".join([lines[-1], *wrong])[:1500]}


# Operations that make up a step, all of which belong on the GPU.
WORK = re.compile(r"conv|mat_?mul|addmm|\bmm\b|pool|relu|bias|softmax|batch_?norm|adam", re.IGNORECASE)


def check_placement(framework: str, device: str, precision: str, step: str) -> dict:
    """The device on which each operation of a step ran."""
    asked = {"input": "per_image", "step": "plain"} if step == "per_image" else {"step": step}
    find = {"pytorch": placed_by_pytorch, "tensorflow": placed_by_tensorflow}[framework]
    found = find(lambda: make(framework, device, precision=precision, **asked))
    wanted = "CPU" if device == "cpu" else "GPU"
    work = {name: sorted(places) for name, places in sorted(found.items()) if WORK.search(name)}
    astray = [name for name, places in work.items() if places != [wanted]]
    elsewhere = sorted(name for name, places in found.items() if wanted not in places)
    says = f"{len(work)} kinds of operation of the step on the {wanted}" if not astray else f"not only on the {wanted}: {', '.join(astray)}"
    return verdict(bool(work) and not astray, says, work=work, elsewhere=elsewhere)


def placed_by_pytorch(build: Callable) -> dict[str, set[str]]:
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    found: dict[str, set[str]] = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for leaf in tree_leaves((args, result)):
                if hasattr(leaf, "device"):
                    found.setdefault(str(function), set()).add("GPU" if leaf.device.type == "cuda" else "CPU")
            return result

    backend = build()
    with Watch():
        losses(backend, [plan(2)])
    return found


def placed_by_tensorflow(build: Callable) -> dict[str, set[str]]:
    # C++ writes the placement log straight to the process's stdout and stderr. The level is read at import.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "0"
    import tensorflow as tf

    # Before the first operation: afterwards TensorFlow ignores the second setting.
    tf.config.set_soft_device_placement(False)
    tf.debugging.set_log_device_placement(True)
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        kept = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
        for descriptor in kept:
            os.dup2(log.fileno(), descriptor)
        try:
            losses(build(), [plan(2)])
        finally:
            # Part of the log is still in C's buffers.
            ctypes.CDLL(None).fflush(None)
            for descriptor, before in kept.items():
                os.dup2(before, descriptor)
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    found: dict[str, set[str]] = {}
    for name, place in re.findall(r"(?:Executing op (?=\w)|: \()(\w+)(?: in device |\): )\S*/device:([A-Z]+):\d", text):
        found.setdefault(name, set()).add(place)
    return found


def check_compiled(framework: str, device: str, precision: str, step: str) -> dict:
    """Compare a compiled step with the plain one, in two batch sizes."""
    plans = [plan(1), plan(1, 8), plan(1), plan(1, 8)]
    expected = losses(make(framework, device, step="plain"), plans)
    started = time.perf_counter()
    found = losses(make(framework, device, step=step), plans)
    seconds = time.perf_counter() - started
    off = float(np.max(np.abs(np.subtract(found, expected))))
    dynamic = False
    if framework == "pytorch":
        import torch._dynamo.utils as dynamo

        # With dynamic shapes, one graph would serve both batch sizes.
        graphs = dynamo.counters["stats"]["unique_graphs"]
        dynamic = graphs < 2
    says = f"{step}: {seconds:.0f} s including compilation, losses within {off:.1e} of the plain step's"
    says += ", one graph for two batch sizes" if dynamic else ""
    return verdict(off < 1e-3 and not dynamic, says, seconds=seconds, largest_difference=off)


def check_precision(framework: str, device: str, precision: str, step: str) -> dict:
    """Relative error of a product and a convolution against float64, plain and compiled: below 2e-5 in IEEE fp32, above in TF32."""
    make(framework, device, precision=precision)
    random = np.random.default_rng(0)
    a, b = random.standard_normal((512, 512), np.float32), random.standard_normal((512, 512), np.float32)
    x, w = random.standard_normal((8, 32, 32, 64), np.float32), random.standard_normal((3, 3, 64, 64), np.float32)
    errors = {"pytorch": errors_of_pytorch, "tensorflow": errors_of_tensorflow}[framework](a, b, x, w, device)
    well = all(error < 2e-5 if precision == "fp32" else 2e-5 < error < 2e-2 for error in errors.values())
    return verdict(well, ", ".join(f"{name} {error:.1e}" for name, error in errors.items()), errors=errors)


def relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def errors_of_pytorch(a: np.ndarray, b: np.ndarray, x: np.ndarray, w: np.ndarray, device: str) -> dict[str, float]:
    import torch

    # Raises if the precision was set through both of PyTorch's interfaces and they disagree.
    torch.get_float32_matmul_precision()
    images, kernels = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), torch.from_numpy(w.transpose(3, 2, 0, 1).copy())
    exact = torch.nn.functional.conv2d(images.double(), kernels.double()).numpy()
    here = [tensor.to(device) for tensor in (torch.from_numpy(a), torch.from_numpy(b), images, kernels)]
    return {
        "matmul": relative((here[0] @ here[1]).cpu().numpy(), a.astype(np.float64) @ b),
        "convolution": relative(torch.nn.functional.conv2d(here[2], here[3]).cpu().numpy(), exact),
    }


def errors_of_tensorflow(a: np.ndarray, b: np.ndarray, x: np.ndarray, w: np.ndarray, device: str) -> dict[str, float]:
    import tensorflow as tf

    with tf.device("CPU:0"):
        exact = tf.nn.conv2d(tf.constant(x, tf.float64), tf.constant(w, tf.float64), 1, "VALID").numpy()
    errors = {}
    for name, compiled in (("", False), ("XLA ", True)):
        multiply = tf.function(tf.matmul, jit_compile=compiled)
        convolve = tf.function(lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), jit_compile=compiled)
        errors[f"{name}matmul"] = relative(multiply(tf.constant(a), tf.constant(b)).numpy(), a.astype(np.float64) @ b)
        errors[f"{name}convolution"] = relative(convolve(tf.constant(x), tf.constant(w)).numpy(), exact)
    return errors


def check_deterministic(framework: str, device: str, precision: str, step: str) -> dict:
    """Run the fast step with deterministic: true twice, and compare the bits."""
    ends = []
    for _ in range(2):
        backend = make(framework, device, deterministic=True)
        losses(backend, [plan(5)])
        ends.append(weights.sha256(backend.get_weights()))
    settings = {key: str(value) for key, value in backend.describe()["settings"].items()}
    return verdict(ends[0] == ends[1], "identical bits" if ends[0] == ends[1] else "different bits the second time", settings=settings)


def check_cuda_graph(framework: str, device: str, precision: str, step: str) -> dict:
    """Compare CUDA graphs with the plain step: two batch sizes, captured after a backward pass on the default stream."""
    if device == "cpu":
        return {"status": "skipped", "says": "a CPU has no CUDA graphs"}
    plans = [plan(2), plan(1, 8), plan(2)]
    expected = losses(make(framework, device, step="plain"), plans)
    backend = make(framework, device, step="fast+cuda_graph")
    data = made_up()
    backend.gradients(data.test_images[:16], data.test_labels[:16])
    off = float(np.max(np.abs(np.subtract(losses(backend, plans), expected))))
    return verdict(off < 1e-3, f"losses within {off:.1e} of the plain step's", largest_difference=off)


def check_nvml(framework: str, device: str, precision: str, step: str) -> dict:
    """What NVML reports during training, and whether its memory figure agrees with the framework's."""
    if device == "cpu":
        return {"status": "skipped", "says": "NVML reports only GPUs"}
    backend = make(framework, device)
    with machine.GpuSampler(device, seconds=0.1) as gpu:
        end = time.perf_counter() + 2
        while time.perf_counter() < end:
            losses(backend, [plan(20)])
    summary, counted = gpu.summary(), backend.peak_memory_bytes()
    if summary is None or not summary["memory_bytes"]:
        return verdict(False, "NVML reports nothing about this GPU", summary=summary)
    # Each process needs some hundred MB for NVIDIA's libraries.
    own = summary["memory_bytes"] < counted + 4e9
    says = f"{summary['memory_bytes'] / 1e6:,.0f} MB by NVML, {counted / 1e6:,.0f} MB by the framework"
    says += f", {summary['utilisation_percent']} %, {summary['power_watts']} W"
    return verdict(own, says if own else f"{says}: the framework, or another process, holds far more than it uses", summary=summary)


def check_busy(framework: str, device: str, precision: str, step: str) -> dict:
    backend = make(framework, device)
    found = losses(backend, [plan(50)] * 4)
    return verdict(bool(np.isfinite(found).all()), f"peak {(backend.peak_memory_bytes() or 0) / 1e6:,.0f} MB")


def check_two_processes(framework: str, device: str, precision: str, step: str) -> dict:
    """Train in two processes on one GPU at the same time."""
    command = [sys.executable, __file__, "--check", "busy", "--frameworks", framework, "--device", device]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = [(process.communicate(), process.returncode) for process in both]
    wrong = [(err.strip().splitlines() or [""])[-1] for (_, err), code in ends if code]
    return verdict(not wrong, " | ".join(wrong)[:600] or "both trained")


CHECKS = {
    "probe": check_probe,
    "steps": check_steps,
    "pytest": check_pytest,
    "placement": check_placement,
    "compiled": check_compiled,
    "precision": check_precision,
    "deterministic": check_deterministic,
    "cuda_graph": check_cuda_graph,
    "nvml": check_nvml,
    "busy": check_busy,
    "two_processes": check_two_processes,
}


# The report.


def timings(records: dict[str, dict]) -> list[dict]:
    """What `switches` measured, one row per item."""
    rows = []
    for record in records.values():
        if record["part"] == "switches" and record["status"] == "ok":
            row = {key: record[key] for key in ("framework", "variant", "precision", "step", "deterministic", "round")}
            row |= {key: record[key] for key in ("together_seconds", "loader_seconds", "step_seconds", "first_step_seconds")}
            rows.append(row)
    return rows


def factors(rows: list[dict], framework: str, precision: str) -> dict[str, dict[str, list[float]]]:
    """By switch and variant, the speed-up in each round: over the fast step if the switch is not part of it, else over the plain step."""
    seconds = {
        (row["variant"], row["round"], row["step"]): row["together_seconds"]
        for row in rows
        if (row["framework"], row["precision"], row["deterministic"]) == (framework, precision, False)
    }
    found: dict[str, dict[str, list[float]]] = {}
    for variant, number, step in seconds:
        base, _, name = step.partition("+")
        on_top = (variant, number, f"fast+{name}") in seconds
        if name and "+" not in name and (base == "fast" or not on_top) and (variant, number, base) in seconds:
            factor = seconds[variant, number, base] / seconds[variant, number, step]
            found.setdefault(name, {}).setdefault(variant, []).append(factor)
    return found


def helps(by_variant: dict[str, list[float]]) -> bool:
    """Whether a switch belongs in the fast step: in every round it makes one network faster and none slower."""
    lowest = [min(found) for found in by_variant.values()]
    return max(lowest) > 1 + MARGIN and min(lowest) > 1 - MARGIN


def recommended(rows: list[dict]) -> dict[str, dict[str, list[str]]]:
    """By framework and switch, the precisions in which the switch belongs in the fast step on this device."""
    found: dict[str, dict[str, list[str]]] = {}
    for framework in dict.fromkeys(row["framework"] for row in rows):
        for precision in PRECISIONS:
            for name, by_variant in factors(rows, framework, precision).items():
                precisions = found.setdefault(framework, {}).setdefault(name, [])
                precisions += [precision] if helps(by_variant) else []
    return found


def of_timings(rows: list[dict]) -> dict[int, str]:
    """What the timings say about the suspicions, by number."""

    def compared(framework: str, faster: str, slower: str, precision: str, deterministic: bool = False) -> str:
        parts = []
        for variant in dict.fromkeys(row["variant"] for row in rows):

            def seconds(step: str, exact: bool, variant: str = variant) -> list[float]:
                place = (framework, variant, precision, step, exact)
                keys = ("framework", "variant", "precision", "step", "deterministic")
                return [row["together_seconds"] for row in rows if tuple(row[key] for key in keys) == place]

            ours, theirs = seconds(faster, deterministic), seconds(slower, False)
            parts += [f"{variant} {median(theirs) / median(ours):.2f}"] if ours and theirs else []
        return ", ".join(parts)

    found = {
        4: compared("pytorch", "plain+channels_last", "plain", "fp32"),
        6: compared("tensorflow", "fast+xla", "fast", "fp32"),
        11: compared("pytorch", "plain", "plain", "fp32", deterministic=True),
    }
    found = {number: f"speed-up with it: {text}" for number, text in found.items() if text}
    waits = sorted({f"{row['framework']} {row['step']}" for row in rows if row["step_seconds"] > 1.05 * row["together_seconds"]})
    if rows:
        found[13] = f"seen in {', '.join(waits)}" if waits else "not seen in any step"
    return found


def report(args: argparse.Namespace, seen: dict, skipped: list[str], records: dict[str, dict], left: list[str]) -> str:
    """The report, in Markdown."""
    device = next(iter(seen.values()))["device_name"]
    counts = {status: sum(record["status"] == status for record in records.values()) for status in ("ok", "failed", "skipped")}
    lines = [f"# First contact with a GPU: {device}", ""]
    lines += [", ".join(f"{name} {about['version']}" for name, about in seen.items()) + ".", ""]
    lines += [f"{counts['ok']} passed, {counts['failed']} failed, {counts['skipped']} skipped, {len(left)} not reached yet.", ""]
    lines += ["## Failed", ""]
    lines += [f"- {key}: {record['says']}" for key, record in records.items() if record["status"] == "failed"] or ["Nothing."]
    lines += ["", "## Skipped", ""]
    lines += [*(f"- {line}" for line in skipped)]
    lines += [f"- {key}: {record['says']}" for key, record in records.items() if record["status"] == "skipped"]
    lines += [f"- {key}: no time was left" for key in left]
    rows = timings(records)
    lines += ["", "## Put into the fast step", ""]
    lines += [f"A switch helps if in every round it makes one network more than {MARGIN:.0%} faster and none slower.", ""]
    found = recommended(rows)
    if not found:
        lines += ["No switch was measured."]
    for framework, switches in found.items():
        known, there = backends.load(framework).switches, args.device
        lines += [
            f"In scripts/alexbench/backends/{framework}.py, for {device}:",
            "",
        ]
        for name, precisions in switches.items():
            if precisions:
                lines.append(f'- `"{name}"`: `fast={{"{there}": {tuple(precisions)!r}}}`')
            elif there in known[name].fast or there in known[name].expected:
                lines.append(f"- `{name}`: in the fast step now, but it did not help")
        lines += ["", f"Leave out: {', '.join(name for name, precisions in switches.items() if not precisions) or 'none'}.", ""]
    lines += ["", "## Suspicions", "", "| | what may go wrong | found |", "|--:|:--|:--|"]
    told = of_timings(rows)
    for number, what in SUSPICIONS.items():
        about = [record for record in records.values() if number in record["about"]]
        failed = [record["key"] for record in about if record["status"] == "failed"]
        well = sum(record["status"] == "ok" for record in about)
        text = f"**failed**: {', '.join(failed)}" if failed else f"{well} items passed" if well else "" if number in told else "not checked"
        lines.append(f"| {number} | {what} | {'; '.join(part for part in (text, told.get(number)) if part)} |")
    if rows:
        lines += [
            "",
            "## Steps",
            "",
            "Loader and step together, ms per image, median over the rounds; in brackets the speed-up over the plain step.",
            "",
        ]
        lines += list(table(rows))
    aims = [record for record in records.values() if record["part"] == "aims" and record["status"] == "ok"]
    if aims:
        lines += [
            "",
            "## Aims",
            "",
            "| framework | variant | precision | step | 15 epochs (s) | target on an H200, tf32 (s) | arithmetic only (s) | accuracy |",
        ]
        lines += ["|:--|:--|:--|:--|--:|--:|--:|--:|"]
        for record in aims:
            metrics = json.loads(Path(record["metrics"]).read_text(encoding="utf-8"))
            aim, floor = AIMS[record["variant"]] if record["precision"] == "tf32" else ("", "")
            seconds = metrics["train_seconds"] * 15 / metrics["epochs"]
            accuracy = "–" if metrics["accuracy"] is None else f"{metrics['accuracy']:.4f}"
            what = " | ".join(record[key] for key in ("framework", "variant", "precision", "step"))
            lines.append(f"| {what} | {seconds:.2f} | {aim} | {floor} | {accuracy} |")
    lines += ["", "## Everything", "", "| item | | seconds | found |", "|:--|:--|--:|:--|"]
    for key, record in records.items():
        says = record["says"].replace("|", "/") or (
            f"{1e3 * record['together_seconds']:.4f} ms per image" if record["part"] == "switches" else ""
        )
        lines.append(f"| {key} | {record['status']} | {record['wall_seconds']:.0f} | {says} |")
    return "\n".join(lines) + "\n"


def table(rows: list[dict]) -> Iterator[str]:
    """The timings: one row per framework, variant and step, one column per precision."""
    precisions = [precision for precision in PRECISIONS if any(row["precision"] == precision for row in rows)]
    yield f"| framework | variant | step | {' | '.join(precisions)} |"
    yield f"|:--|:--|:--|{'--:|' * len(precisions)}"
    seconds: dict[tuple, list[float]] = {}
    for row in rows:
        step = f"{row['step']}{', deterministic' if row['deterministic'] else ''}"
        seconds.setdefault((row["framework"], row["variant"], step, row["precision"]), []).append(row["together_seconds"])
    for framework, variant, step in dict.fromkeys(key[:3] for key in seconds):
        cells = []
        for precision in precisions:
            ours, plain = (seconds.get((framework, variant, name, precision)) for name in (step, "plain"))
            beside = f" ({median(plain) / median(ours):.2f})" if ours and plain else ""
            cells.append(f"{1e3 * median(ours):.4f}{beside}" if ours else "")
        yield f"| {framework} | {variant} | {step} | {' | '.join(cells)} |"


def write_report(args: argparse.Namespace, seen: dict, skipped: list[str], records: dict[str, dict], left: list[str]) -> None:
    rows = timings(records)
    with replacing(args.output / "report.md") as temporary:
        temporary.write_text(report(args, seen, skipped, records, left), encoding="utf-8")
    found = {"frameworks": seen, "skipped": skipped, "left": left, "fast": recommended(rows), "records": list(records.values())}
    write_json(args.output / "report.json", found)
    with replacing(args.output / "timings.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["framework"])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(str(error))
