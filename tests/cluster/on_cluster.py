"""Shared by the tests on a real SLURM: a cluster, a copy of the project, Snakemake with the profile."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm
import yaml

from conftest import ROOT

BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
FAST_SNAKEMAKE = [sys.executable, str(ROOT / "tests" / "cluster" / "fast_snakemake.py"), "--nocolor"]
# The GPUs are stand-ins: jobs request them but train on the CPU. A separate test tries the profile's own `device: cuda`.
ON_CLUSTER = ["--profile", "profiles/slurm", "--config", "device=auto", "--configfile", "mine.yaml"]


# Four small runs, for a queue that has room for two.
FOUR = {
    "results": "results/four",
    "frameworks": ["pytorch"],
    "variants": ["alexnet_mod"],
    "seeds": [1, 2, 3, 4],
    "data": {"dataset": "digits", "train_limit": 200, "test_limit": 50},
    "recipe": {"epochs": 4, "batch_size": 32},
    "device": "auto",
    "threads": 1,
}


def bring_up(accounting: bool = False, **options: object) -> Iterator[slurm.Cluster]:
    """Start a real SLURM of one node with two stand-in GPUs, or as `options` say. For use in a fixture."""
    reason = slurm.obstacle(accounting)
    if reason:
        # CI installs everything first; a skip there would hide that something is missing.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no SLURM here: {reason}")
    with slurm.Cluster(accounting=accounting, **options) as up:
        yield up


def copy_of_project(folder: Path, config: dict) -> Path:
    for name in ("config", "rules", "scripts", "envs", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def doctors_failures(project: Path) -> list[str]:
    """What the doctor finds wrong with the project's profile."""
    command = [sys.executable, "scripts/doctor.py", "--config", "mine.yaml", "--profile", "profiles/slurm"]
    found = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False)
    failures = [line for line in found.stdout.splitlines() if line.startswith("FAILED")]
    assert found.returncode == bool(failures), found.stdout + found.stderr
    return failures
