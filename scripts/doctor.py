#!/usr/bin/env python3
"""Check what usually breaks before a campaign: a line a check, and the way out for each that fails. Exit status 1 if any does.

python scripts/doctor.py
python scripts/doctor.py --config my.yaml --profile profiles/slurm
srun --partition=gpu --gpus=1 --mem=8000 python scripts/doctor.py --profile profiles/slurm      # the same on a compute node
"""

import argparse
import getpass
import importlib.metadata
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

from alexbench import configuration, spec, variants
from alexbench.download import is_url
from alexbench.files import run_program

OK, WARNING, FAILURE = "ok", "warning", "FAILED"
# A run's checkpoint: weights and Adam's two moments, float32, and once more while it is being replaced.
CHECKPOINT_BYTES_PER_PARAMETER = 2 * 12
SPARE_BYTES = 2 * 10**9

# Of conda, for --use-conda: Snakemake's own demand.
CONDA = "24.7.1"

# Asked of each framework in a process of its own.
PROBE = "import json; from alexbench import backends; print(json.dumps(backends.load({name!r}).probe()))"


@dataclass(frozen=True)
class Finding:
    """One check's result, and where it is not well, what to do."""

    level: str
    check: str
    found: str
    way_out: str = ""


def output(command: list[str], seconds: float = 120.0, **environment: str) -> tuple[int, str]:
    """Exit status and what a command printed; 127 where it does not exist."""
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
    """The conda that --use-conda would call; a failure where the profile asks for it."""
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
    wanted = {"data": (Path(f"resources/data/{config['data']['dataset']}.npz"), config["data"]["archive"])}
    for name in config["variants"]:
        if variants.get(name).pretrained:
            path = Path(f"resources/weights/{name}-{config['weights']['classifier']}.safetensors")
            wanted[f"weights of {name}"] = (path, config["weights"]["source"])
    for check, (path, source) in wanted.items():
        try:
            there = path.exists()
        except OSError as error:
            yield Finding(FAILURE, check, f"{path} cannot be read: {error.strerror}", f"ask its owner for access (chmod {path.parent})")
            continue
        if there:
            yield Finding(OK, check, f"{path}, {path.stat().st_size / 1e6:.0f} MB")
        elif is_url(source) and not (check == "data" and config["data"]["dataset"] == "digits"):
            yield Finding(WARNING, check, f"{path} is not there yet", f"it will be fetched from {source}, where the workflow is started")
        else:
            yield Finding(OK, check, f"{path} is not there yet; it will be made first")


def storage(config: dict) -> Iterator[Finding]:
    largest = max(spec.parameters(variants.get(name)) for name in config["variants"])
    needed = SPARE_BYTES + largest * CHECKPOINT_BYTES_PER_PARAMETER
    free = shutil.disk_usage(".").free
    good = free >= needed
    yield Finding(
        OK if good else FAILURE, "disk", f"{free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB wanted for one run", f"make room in {Path.cwd()}"
    )
    for folder in ("results", "logs", "benchmarks", "resources"):
        try:
            Path(folder).mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder):
                pass
            yield Finding(OK, folder, "can be written")
        except OSError as error:
            yield Finding(FAILURE, folder, f"cannot be written: {error.strerror}", f"change the rights of {Path(folder).resolve()}")


def slurm(profile: Path) -> Iterator[Finding]:
    """What SLURM itself says of a job as the profile would submit it."""
    path = profile / "config.yaml"
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        yield Finding(FAILURE, "profile", f"{path} cannot be read ({error})", "name the profile's folder with --profile")
        return
    if shutil.which("sbatch") is None:
        found = f"{path} says executor: slurm, but sbatch is not on PATH"
        yield Finding(WARNING, "SLURM", found, "run on a login node, or load SLURM's module; without SLURM, leave --profile out")
        return
    resources = resources_of(settings)
    partition = resources.get("slurm_partition")
    known = names(["sinfo", "--noheader", "--format=%R"])
    if partition and partition not in known:
        yield Finding(FAILURE, "partition", f"{partition!r} is unknown", f"set slurm_partition in {path} to one of {', '.join(known)}")
    else:
        yield Finding(OK, "partition", str(partition or "the cluster's default"))
    account = resources.get("slurm_account")
    # None where SLURM keeps no accounts.
    known = names(["sacctmgr", "--noheader", "--parsable2", "show", "associations", f"user={getpass.getuser()}", "format=account"])
    if account and known and str(account).lower() not in known:
        yield Finding(FAILURE, "account", f"{account!r} is none of yours", f"set slurm_account in {path} to one of {', '.join(known)}")
    else:
        yield Finding(OK, "account", str(account or "your default, if there is one"))
    options = {"slurm_partition": "partition", "slurm_account": "account", "gres": "gres", "constraint": "constraint", "qos": "qos"}
    keys = [key for key in options if resources.get(key)]
    request = [f"--{options[key]}={resources[key]}" for key in keys]
    if resources.get("gpu"):
        model = f"{resources['gpu_model']}:" if resources.get("gpu_model") else ""
        request.append(f"--gpus={model}{resources['gpu']}")
        keys += ["gpu_model", "gpu"] if model else ["gpu"]
    status, said = output(["sbatch", "--test-only", *request, "--wrap=true"])
    asked = " ".join(request)
    message = re.sub(r"^(sbatch|allocation failure): (error: )?", "", said.splitlines()[-1]) if said else ""
    if "account" in message and not account:
        keys.append("slurm_account")
    if status:
        yield Finding(FAILURE, "GPU job", f"SLURM refuses {asked}: {message}", f"mend {', '.join(keys)} of rule train in {path}")
    else:
        yield Finding(OK, "GPU job", f"SLURM accepts {asked}")


def names(command: list[str]) -> list[str]:
    """What one of SLURM's commands lists, a name a line; nothing where it fails."""
    status, said = output(command)
    return [] if status else sorted(set(said.split()))


def read_profile(profile: Path) -> dict:
    """A profile's settings; nothing where it cannot be read, which `slurm` tells of."""
    try:
        settings = yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return settings if isinstance(settings, dict) else {}


def resources_of(profile: dict) -> dict:
    """The resources of rule train under a profile: its own, the defaults, then what is set for the rule."""

    def pairs(section: dict | list | None) -> dict:
        if isinstance(section, list):
            section = dict(item.split("=", 1) for item in section)
        return section or {}

    given = pairs(profile.get("default-resources")) | pairs((profile.get("set-resources") or {}).get("train"))
    return {"gpu": 1} | {key: int(value) if str(value).isdigit() else str(value).strip("'\"") for key, value in given.items()}


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", nargs="*", default=[], metavar="YAML", help="what will be given to snakemake --configfile")
    p.add_argument("--profile", type=lambda path: Path(path).expanduser(), metavar="FOLDER", help="check it against SLURM as well")
    args = p.parse_args(argv)
    config = configuration.load(*args.config)
    if args.profile and "SLURM_JOB_ID" in os.environ:
        # As a training's job would find it: there a missing GPU is a failure, on a login node it is not.
        config |= read_profile(args.profile).get("config") or {}
    checks = [python(), conda(args.profile), driver(), frameworks(config), inputs(config), storage(config)]
    if args.profile:
        checks.append(slurm(args.profile))
    failures = 0
    for check in checks:
        for finding in check:
            failures += finding.level == FAILURE
            way_out = f" -> {finding.way_out}" if finding.way_out and finding.level != OK else ""
            print(f"{finding.level:<8} {finding.check}: {finding.found}{way_out}", flush=True)
    print(f"{failures} checks failed" if failures else "nothing in the way")
    return 1 if failures else 0


if __name__ == "__main__":
    run_program(main)
