"""A complete experiment in seconds: one convolution, checkpoints of 3 MB; and which of its results must be the same after any fault."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml
from PIL import Image
from safetensors import safe_open

from alexbench.experiment import weights
from conftest import ROOT

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
ENVIRONMENT = os.environ | {"PATH": f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"}
SMALL = {
    "results": "results/small",
    "variants": ["tiny"],
    "seeds": [1],
    "data": {"dataset": "digits", "train_limit": 60, "test_limit": 20},
    "recipe": {"epochs": 20, "batch_size": 16},
    "device": "cpu",
    "threads": 1,
}
TINY = """
LAYERS = (Conv(4, kernel=3, stride=4), Flatten(), Dense(999), Dropout(), Dense(10, activation=None))
VARIANTS["tiny"] = Variant("tiny", "Tiny", "", 32, LAYERS)
"""
# Differs between two identical runs: seconds, memory, and how often a run was interrupted.
TIMED = ("seconds", "images_per_second", "peak_memory_bytes", "interruptions")


def copy_of_workflow(folder: Path, config: dict = SMALL) -> Path:
    """Copy the workflow into `folder`, adding the network `tiny`, and `config` as mine.yaml."""
    for name in ("config", "rules", "scripts", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "Makefile"):
        shutil.copy(ROOT / name, folder)
    with (folder / "scripts/alexbench/experiment/variants.py").open("a", encoding="utf-8") as file:
        file.write(TINY)
    configure(folder, config)
    return folder


def configure(folder: Path, config: dict) -> None:
    (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def command(*arguments: str) -> list[str]:
    return [str(SNAKEMAKE), "-c2", *arguments, "--nocolor", "--rerun-incomplete", "--configfile", "mine.yaml"]


def run(folder: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """Run the user's command in `folder`, the same each time; `before` is a program that starts it."""
    return subprocess.run(
        [*before, *command(*arguments)], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False
    )


def succeed(folder: Path, *arguments: str) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-3000:]}\n{said(folder)}"


def said(folder: Path) -> str:
    """Everything that the programs wrote into their logs."""
    return "\n".join(f"== {path}\n{path.read_text(errors='replace')}" for path in sorted((folder / "logs").rglob("*.log")))


def whole(path: Path) -> None:
    """Read a file completely, in the way of its kind; raises if it is cut short."""
    match path.suffix:
        case ".json":
            json.loads(path.read_text(encoding="utf-8"))
        case ".csv":
            rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
            assert len(rows) > 1 and {len(row) for row in rows} == {len(rows[0])} and path.read_text(encoding="utf-8").endswith("\n"), path
        case ".npz":
            with np.load(path) as file:
                assert all(file[name] is not None for name in file.files)
        case ".safetensors":
            with safe_open(path, framework="numpy") as file:
                names = file.keys()
                assert all(file.get_tensor(name) is not None for name in names)
        case ".png":
            with Image.open(path) as image:
                image.load()
        case ".svg":
            ElementTree.parse(path)
        case ".md" | ".tex" | ".txt":
            assert path.read_text(encoding="utf-8").endswith("\n"), path
        case ".sha256":
            noted, name = path.read_text(encoding="utf-8").split()
            assert noted == hashlib.sha256(path.with_name(name).read_bytes()).hexdigest(), path
        case _:
            raise AssertionError(f"{path} is of no kind that the workflow writes")


def finished_files(folder: Path) -> list[Path]:
    """Every file that is in its final place: not those still being written, whose paths contain a dot name, nor TensorBoard's logs."""
    paths = [path.relative_to(folder) for top in ("results", "resources") for path in (folder / top).rglob("*") if path.is_file()]
    return sorted(folder / path for path in paths if "events" not in path.parts and not any(part.startswith(".") for part in path.parts))


def outcome(folder: Path) -> dict[str, str]:
    """An experiment's results: every file and its hash, leaving out timings."""
    return {str(path.relative_to(folder)): hashlib.sha256(_untimed(path)).hexdigest() for path in finished_files(folder)}


def _untimed(path: Path) -> bytes:
    if path.suffix == ".json":
        return json.dumps(
            {key: value for key, value in json.loads(path.read_text(encoding="utf-8")).items() if not key.endswith(TIMED)}
        ).encode()
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return json.dumps(
            [{key: value for key, value in row.items() if "seconds" not in key and key not in TIMED} for row in rows]
        ).encode()
    if path.suffix == ".safetensors":
        # Compare tensors and metadata: safetensors writes the metadata in an order that differs between processes.
        tensors, metadata = weights.read(path)
        return f"{weights.sha256(tensors)} {sorted(metadata.items())}".encode()
    if path.stem in ("tradeoff", "table"):  # these show seconds
        return b""
    return path.read_bytes()
