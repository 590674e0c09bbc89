#!/usr/bin/env python3
"""Download the packages of every environment that an experiment needs, to carry them to a machine without internet.

For .venv: the packages of requirements.lock. For --use-conda, if conda is on PATH: the conda packages and wheels of the files in envs/
that the experiment needs. They suit machines of this kind with this version of Python. docs/environments.md says how to use them there;
`make prefetch` also fetches data and weights.

python scripts/prefetch_packages.py --config my.yaml
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distributions, version
from pathlib import Path

import yaml

from alexbench.files import InputError, run_program
from alexbench.workflow import configuration

ROOT = Path(__file__).parents[1]


def run(command: list[str | Path], **environment: str) -> None:
    try:
        subprocess.run(command, check=True, env=os.environ | environment)
    except subprocess.CalledProcessError as error:
        words = " ".join(map(str, command))
        raise InputError(f"prefetch: {words} ended with status {error.returncode}; what it said stands above") from None


def fetch_wheels(python: Path | str, requirements: list[str], folder: Path) -> None:
    """Fetch `requirements` and their dependencies as wheels, as `python` would install them."""
    # Not `pip download`: a package published only as source could not be built without internet.
    run([python, "-m", "pip", "wheel", "--quiet", "--wheel-dir", folder, *requirements])


def fetch_lock(folder: Path) -> None:
    """Fetch the packages of requirements.lock that are installed here, in their published form, because `make` compares hashes.

    A package published only as source is built on the other machine, with the lock's setuptools. If torch is a CPU build, which the lock
    does not contain, the build installed here is fetched.
    """
    torch = version("torch")
    here = {re.sub(r"[-_.]+", "-", found.name).lower() for found in distributions()} - ({"torch"} if "+" in torch else set())
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}"]
    with tempfile.NamedTemporaryFile("w", suffix=".lock", encoding="utf-8") as lock:
        lock.write("\n".join(entry for entry in entries if entry.partition("==")[0] in here))
        lock.flush()
        run([*download, "--require-hashes", f"--requirement={lock.name}"])
    if "+" in torch:
        run([*download, f"torch=={torch}"])


def fetch_environment(file: Path, output: Path) -> None:
    """Fetch the packages of an environment file by creating its conda part (Python and pip) in a temporary folder."""
    environment = yaml.safe_load(file.read_text(encoding="utf-8"))
    specs = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    wheels = [line for entry in environment["dependencies"] if isinstance(entry, dict) for line in entry["pip"]]
    channels = [f"--channel={name}" for name in environment["channels"]]
    with tempfile.TemporaryDirectory(dir=output, prefix=f".{file.stem}.") as folder:
        prefix = Path(folder).resolve() / "environment"
        command = ["conda", "create", "--yes", "--quiet", "--override-channels", *channels, f"--prefix={prefix}", *specs]
        run(command, CONDA_PKGS_DIRS=str(output.resolve() / "conda"))
        fetch_wheels(prefix / "bin" / "python", wheels, output / "wheels")


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", nargs="*", default=[], metavar="YAML", help="configuration files, as for snakemake --configfile")
    p.add_argument(
        "--output", type=Path, default=Path("resources/packages"), metavar="FOLDER", help="folder for the packages (%(default)s)"
    )
    args = p.parse_args(argv)
    config = configuration.load(*args.config)
    args.output.mkdir(parents=True, exist_ok=True)
    fetch_lock(args.output / "wheels")
    print(f"requirements.lock: in {args.output}")
    if shutil.which("conda") is None:
        print("envs/: not fetched, since conda is not on PATH; there the workflow will run in .venv, without --use-conda")
        return 0
    for name in [*config["frameworks"], "analysis"]:
        fetch_environment(ROOT / "envs" / f"{name}.yaml", args.output)
        print(f"envs/{name}.yaml: in {args.output}", flush=True)
    return 0


if __name__ == "__main__":
    run_program(main)
