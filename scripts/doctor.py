#!/usr/bin/env python3
"""Check, before a campaign, what usually breaks: one line per check, with a remedy if it fails. Exit status 1 if any check fails.

python scripts/doctor.py
python scripts/doctor.py --config my.yaml --profile profiles/slurm
srun --partition=gpu --gpus=1 --mem=8000 python scripts/doctor.py --profile profiles/slurm      # the same on a compute node
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from alexbench import paths
from alexbench.experiment import datasets, layers, variants
from alexbench.experiment.download import is_url
from alexbench.files import run_program
from alexbench.workflow import composing, configuration, slurm

OK, WARNING, FAILURE = "ok", "warning", "FAILED"
# A checkpoint holds weights and Adam's two moments, float32; while it is being replaced, there are two.
CHECKPOINT_BYTES_PER_PARAMETER = 2 * 12
SPARE_BYTES = 2 * 10**9

# The oldest conda that Snakemake accepts for --use-conda.
CONDA = "24.7.1"

# Run once per framework, each time in a separate process.
PROBE = "import json; from alexbench import backends; print(json.dumps(backends.load({name!r}).probe()))"


@dataclass(frozen=True)
class Finding:
    """The result of one check and, if it is not ok, what to do about it."""

    level: str
    check: str
    found: str
    way_out: str = ""


def output(command: list[str], seconds: float = 120.0, **environment: str) -> tuple[int, str]:
    """Run a command; returns its exit status (127: not found, 124: no answer in time) and what it printed."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
            env=os.environ | environment,
        )
    except FileNotFoundError:
        return 127, f"{command[0]} is not on PATH"
    except subprocess.TimeoutExpired:
        return 124, f"no answer within {seconds:.0f} s"
    return done.returncode, (done.stdout.strip() or done.stderr.strip())


def python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding(OK if good else FAILURE, "Python", f"{version}, {sys.executable}", "use Python 3.11 or later")
    for package in ("snakemake", "snakemake-executor-plugin-slurm"):
        try:
            yield Finding(OK, package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(WARNING, package, "not in this Python", "needed where the workflow is started, not on a compute node")


def conda(profile: Path | None) -> Iterator[Finding]:
    """Check the conda that --use-conda would call; a problem is a failure only if the profile asks for conda."""
    wanted = profile is not None and asks_for_conda(read_profile(profile))
    bad = FAILURE if wanted else WARNING
    way_out = f"install conda {CONDA} or later, or put it on PATH" if wanted else f"fine without --use-conda, which needs {CONDA} or later"
    status, said = output(["conda", "--version"])
    version = re.search(r"\d+(\.\d+)+", said)
    if status or not version:
        yield Finding(bad, "conda", said.splitlines()[-1] if said else "no answer", way_out)
    elif release(version[0]) < release(CONDA):
        yield Finding(bad, "conda", f"{version[0]} is too old", way_out)
    else:
        yield Finding(OK, "conda", version[0])


def release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def asks_for_conda(profile: dict) -> bool:
    methods = profile.get("software-deployment-method") or profile.get("sdm") or []
    return bool(profile.get("use-conda")) or "conda" in ([methods] if isinstance(methods, str) else methods)


def driver() -> Iterator[Finding]:
    status, said = output(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"])
    if status == 0:
        for line in said.splitlines():
            yield Finding(OK, "NVIDIA driver", line)
    else:
        yield Finding(WARNING, "NVIDIA driver", said.splitlines()[0] if said else "no answer", "fine without a GPU, and on a login node")


def frameworks(config: dict) -> Iterator[Finding]:
    for name in config["frameworks"]:
        path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
        status, said = output([sys.executable, "-c", PROBE.format(name=name)], PYTHONPATH=path)
        last = said.splitlines()[-1] if said else "no answer"
        if status:
            way_out = "install requirements.txt, or run with --use-conda, which has each framework in an environment of its own"
            yield Finding(FAILURE, name, last, way_out)
            continue
        version, gpus = json.loads(last)
        if gpus:
            yield Finding(OK, name, f"{version}, sees {', '.join(gpus)}")
        elif config["device"] == "cuda":
            yield Finding(
                FAILURE, name, f"{version} sees no GPU", "device is cuda: run this on a GPU node, with a CUDA build of the framework"
            )
        else:
            yield Finding(
                OK if config["device"] == "cpu" else WARNING, name, f"{version} sees no GPU", "trainings here would run on the CPU"
            )


def inputs(config: dict) -> Iterator[Finding]:
    for line in configuration.missing_files(config):
        yield Finding(FAILURE, *line.removeprefix("config: ").split(": ", 1))
    dataset = config["data"]["dataset"]
    archive = (config["data"]["archive"] or datasets.source(dataset).URL) if datasets.source(dataset).ARCHIVE else ""
    wanted = {"data": (Path(paths.DATA.format(dataset=datasets.prepared_name(config["data"]))), archive)}
    for name in config["variants"]:
        if variants.get(name).pretrained:
            path = Path(paths.WEIGHTS.format(variant=name, classifier=config["weights"]["classifier"]))
            wanted[f"weights of {name}"] = (path, config["weights"]["source"])
    for check, (path, source) in wanted.items():
        try:
            there = path.exists()
        except OSError as error:
            yield Finding(FAILURE, check, f"{path} cannot be read: {error.strerror}", f"ask its owner for access (chmod {path.parent})")
            continue
        if there:
            yield Finding(OK, check, f"{path}, {path.stat().st_size / 1e6:.0f} MB")
        elif is_url(source):
            yield Finding(WARNING, check, f"{path} is not there yet", f"it will be fetched from {source}, where the workflow is started")
        else:
            yield Finding(OK, check, f"{path} is not there yet; it will be made first")


def storage(config: dict) -> Iterator[Finding]:
    largest = max(layers.parameters(variants.get(name)) for name in config["variants"])
    needed = SPARE_BYTES + largest * CHECKPOINT_BYTES_PER_PARAMETER
    # The nearest existing folder of the results, which may be a link to another disk.
    place = next(folder for folder in (Path(config["results"]).resolve(), *Path(config["results"]).resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    good = free >= needed
    yield Finding(
        OK if good else FAILURE, "disk", f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB wanted for one run", f"make room in {place}"
    )
    for folder in ("results", "logs", "benchmarks", "resources"):
        try:
            Path(folder).mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
            yield Finding(OK, folder, "can be written")
        except OSError as error:
            yield Finding(FAILURE, folder, f"cannot be written: {error.strerror}", f"change the rights of {Path(folder).resolve()}")


def cluster(profile: Path, configs: list[str]) -> Iterator[Finding]:
    """Ask SLURM about each job that the profile would submit, at every attempt, and check it against the partitions' limits."""
    path = profile_file(profile)
    if path is None:
        yield Finding(FAILURE, "profile", f"{profile} has no profile.yaml or config.yaml", "name the profile's folder with --profile")
        return
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield Finding(FAILURE, "profile", f"{path} cannot be read ({error})", "mend the file, or name another one with --profile")
        return
    if settings.get("executor") != "slurm":
        found = f"{path} has no executor: slurm, so every job runs on this machine"
        yield Finding(WARNING, "SLURM", found, "add it, if jobs are to go to SLURM")
        return
    if shutil.which("sbatch") is None:
        found = f"{path} says executor: slurm, but sbatch is not on PATH"
        yield Finding(WARNING, "SLURM", found, "run on a login node, or load SLURM's module; without SLURM, leave --profile out")
        return
    try:
        partitions = slurm.partitions()
    except slurm.NoAnswer as silence:
        yield Finding(FAILURE, "SLURM", f"its controller does not answer ({silence})", "try again later, or ask those who run the cluster")
        return
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        yield Finding(
            WARNING, "jobs", "not checked: Snakemake's SLURM executor is not in this Python", "run this where the workflow is started"
        )
        return
    try:
        composed = composing.jobs(path, configs)
    except composing.CannotCompose as error:
        yield Finding(FAILURE, "jobs", f"Snakemake composes none: {error}", f"mend {path} or the configuration")
        return
    if not composed:
        yield Finding(OK, "jobs", "none would go to SLURM")
    for rule in dict.fromkeys(job.rule for job in composed):
        jobs = [job for job in composed if job.rule == rule]
        problems = [(job, problem) for job in jobs if (problem := objection(job, partitions))]
        if problems:
            job, (said, keys) = problems[0]
            attempt = "" if job.attempt == 1 else f", attempt {job.attempt}"
            way_out = f"set {' or '.join(keys)} for {rule} in {path}" if keys else f"mend {path}"
            yield Finding(FAILURE, f"job of {rule}{attempt}", said, way_out)
        else:
            last = "" if len(jobs) == 1 else f"; at the last attempt {' '.join(asked(jobs[-1]))}"
            yield Finding(OK, f"job of {rule}", f"SLURM accepts {' '.join(asked(jobs[0]))}{last}")


def profile_file(profile: Path) -> Path | None:
    """The file that Snakemake would read for a profile, given as a folder, a file or a name; None if there is none."""
    try:
        from snakemake.cli import get_profile_dir
    except ImportError:  # Snakemake may be missing on a compute node
        return next((path for path in (profile, profile / "config.yaml") if path.is_file()), None)
    found = get_profile_dir(str(profile))
    return found and Path(found[1])


# Options that request no resources: the job's name, its log, its folder ...
UNASKED = {"--parsable", "--job-name", "--output", "--export", "--comment", "-D", "--requeue", "--no-requeue"}
VALUED = {"--job-name", "--output", "--comment", "-D"}


def asked(job: composing.Composed) -> list[str]:
    """The sbatch options of a job that request resources."""
    wanted, words = [], iter(job.options)
    for word in words:
        if word.partition("=")[0] not in UNASKED:
            wanted.append(word)
        elif word in VALUED:
            next(words)
    return wanted


# Words in SLURM's error messages, and the Snakemake resources that they are about.
ABOUT = {
    "partition": ["slurm_partition"],
    "account": ["slurm_account"],
    "qos": ["qos"],
    "reservation": ["slurm-reservation", "slurm_extra"],
    "time limit": ["runtime"],
    "memory": ["mem_mb"],
    "unrecognized option|invalid option|unknown option": ["slurm_extra"],
    "configuration|gres|gpu|feature|constraint|cpu|processor": [
        "gpu_model",
        "gpu",
        "gres",
        "constraint",
        "mem_mb",
        "threads",
        "slurm_extra",
    ],
}


def objection(job: composing.Composed, partitions: list[slurm.Partition]) -> tuple[str, list[str]] | None:
    """Why a job would not run, and the keys to change; None if it can run."""
    if job.refusal:
        return refused_by_executor(job)
    status, said = output(["sbatch", "--test-only", *asked(job), "--wrap=true"])
    request = " ".join(asked(job))
    if status:
        said = re.sub(r"(?m)^(sbatch|allocation failure): (error: )?", "", said)
        message = "; ".join(dict.fromkeys(line.strip() for line in said.splitlines() if line.strip()))
        keys = [key for words, keys in ABOUT.items() if re.search(words, message, re.IGNORECASE) for key in keys]
        present = [key for key in keys if job.resources.get(key)]
        return f"SLURM refuses {request}: {message}", present or keys
    return too_much(job, partitions, request)


def refused_by_executor(job: composing.Composed) -> tuple[str, list[str]]:
    """Why Snakemake's executor would refuse to submit a job, and the keys to change."""
    if re.search("Invalid (GRES|GPU model) format", job.refusal):
        name = job.resources.get("gres") or f"gpu:{job.resources.get('gpu_model')}:{job.resources.get('gpu')}"
        extra = "--gpus-per-node=" + str(name).removeprefix("gpu:")
        return f"Snakemake's executor takes no such name: {name}", [f"gpu: 0 and slurm_extra: \"'{extra}'\""]
    option = re.search(r"--(\S+) option is not allowed in the 'slurm_extra'", job.refusal)
    if option:
        said = f"slurm_extra may not hold {option[1]}, which Snakemake's executor sets itself: {job.resources['slurm_extra']}"
        return said, ["the resource for it (runtime, mem_mb, slurm_partition ...)"]
    return " ".join(job.refusal.split()), ["slurm_account" if "account" in job.refusal else "slurm_partition"]


def too_much(job: composing.Composed, partitions: list[slurm.Partition], request: str) -> tuple[str, list[str]] | None:
    """What none of the job's partitions can provide (SLURM would queue the job for ever), and the keys to change; None if it fits."""
    name = job.resources.get("slurm_partition")
    named = str(name).split(",") if name else [partition.name for partition in partitions if partition.default]
    own = [partition for partition in partitions if partition.name in named]
    if not own:
        return None
    where = " and ".join(dict.fromkeys(partition.name for partition in own))
    if not any(partition.up for partition in own):
        return f"partition {where} is down", ["slurm_partition"]
    runtime, memory, threads = (job.resources.get(key) or 0 for key in ("runtime", "mem_mb", "threads"))
    limits = [partition.limit_minutes for partition in own]
    if None not in limits and runtime > max(limits):
        return f"{request} asks for {runtime} minutes, partition {where} allows {max(limits):.0f}: it would wait for ever", ["runtime"]
    if memory > max(partition.memory_mb for partition in own):
        return f"{request} asks for {memory} MB, no node of {where} has more than {max(p.memory_mb for p in own)}", ["mem_mb"]
    if threads > max(partition.cores for partition in own):
        return f"{request} asks for {threads} cores, no node of {where} has more than {max(p.cores for p in own)}", ["threads"]
    return None


def read_profile(profile: Path) -> dict:
    """A profile's settings; {} if it cannot be read, which `cluster` reports."""
    path = profile_file(profile)
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return settings if isinstance(settings, dict) else {}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", nargs="*", default=[], metavar="YAML", help="configuration files, as for snakemake --configfile")
    p.add_argument("--profile", type=lambda path: Path(path).expanduser(), metavar="FOLDER", help="also check this SLURM profile")
    args = p.parse_args(argv)
    config = configuration.load(*args.config)
    if args.profile and "SLURM_JOB_ID" in os.environ:
        # Inside a SLURM job, check what a training job would: a missing GPU is a failure there, but not on a login node.
        config |= read_profile(args.profile).get("config") or {}
    checks = [python(), conda(args.profile), driver(), frameworks(config), inputs(config), storage(config)]
    if args.profile:
        checks.append(cluster(args.profile, args.config))
    failures = 0
    for check in checks:
        for finding in check:
            failures += finding.level == FAILURE
            way_out = f" -> {finding.way_out}" if finding.way_out and finding.level != OK else ""
            print(f"{finding.level:<8} {finding.check}: {finding.found}{way_out}", flush=True)
    print(f"{failures} check{'' if failures == 1 else 's'} failed" if failures else "all checks passed")
    return 1 if failures else 0


if __name__ == "__main__":
    run_program(main)
