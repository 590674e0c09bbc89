"""Every environment in envs/, unedited: solved, installed, activated and used; then again on a machine without a network."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import stand_in
import yaml

from alexbench.experiment import layers, variants, weights
from alexbench.experiment.datasets import cifar10
from conftest import ROOT

pytestmark = [pytest.mark.conda, pytest.mark.slow]

SMALLER = {"variants": ["alexnet_mod"], "seeds": [1], "data": {"train_limit": 40, "test_limit": 20}, "recipe": {"epochs": 1}, "threads": 1}
LIBRARIES = ("torch", "tensorflow", "pandas")
# Run with an environment's own Python, to list its contents.
CONTENT = f"""
import importlib.metadata, importlib.util, json, sys
versions = {{d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}}
print(json.dumps({{"prefix": sys.prefix, "libraries": [n for n in {LIBRARIES} if importlib.util.find_spec(n)], "versions": versions}}))
"""


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder for everything that is installed, deleted afterwards; pytest's own would keep the last three."""
    with tempfile.TemporaryDirectory(prefix="alexbench-conda-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def environment(place) -> dict[str, str]:
    """Environment variables with the stand-in for conda, a separate home folder, and no Python but those of the environments."""
    pinned = {yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"][0] for path in (ROOT / "envs").glob("*.yaml")}
    here = f"python={sys.version_info.major}.{sys.version_info.minor}"
    if pinned != {here}:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"envs/ need {pinned}; the stand-in's channel can be made of this {here} alone"
        )
    stand_in.install(place / "conda")
    home = place / "home"
    home.mkdir()
    outside = place / "outside" / "python"
    outside.parent.mkdir()
    outside.write_text('#!/bin/sh\necho "python was called outside of an environment: $*" >&2\nexit 1\n', encoding="utf-8")
    outside.chmod(0o755)
    path = [str(place / "conda" / "bin"), str(outside.parent), "/usr/bin", "/bin"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CONDA", "PYTHON", "VIRTUAL_ENV"))}
    alias = (place / "conda" / "channels").as_uri()
    # Compiling every installed module takes longer than compiling the imported ones.
    return kept | {"HOME": str(home), "PATH": os.pathsep.join(path), "CONDA_CHANNEL_ALIAS": alias, "PIP_NO_COMPILE": "1"}


def copy_of_project(folder: Path, config: dict) -> Path:
    for name in ("config", "rules", "scripts", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "Makefile", "requirements.txt", "requirements.lock"):
        shutil.copy(ROOT / name, folder)
    (folder / "my.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def run(command: list[str | Path], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", check=False
    )
    logs = (
        "".join(f"\n== {path}\n{path.read_text(encoding='utf-8')[-1000:]}" for path in folder.rglob("logs/**/*.log"))
        if done.returncode
        else ""
    )
    assert done.returncode == 0, done.stdout[-5000:] + logs
    return done.stdout


def environments(folder: Path) -> dict[str, Path]:
    """The folders of the environments that Snakemake made, by the names of their files."""
    made = {}
    for path in (folder / ".snakemake" / "conda").glob("*.yaml"):
        names = [source.stem for source in (ROOT / "envs").glob("*.yaml") if source.read_bytes() == path.read_bytes()]
        assert len(names) == 1, f"{path} is none of envs/"
        made[names[0]] = path.with_suffix("")
    return made


def content(prefix: Path, environment: dict[str, str]) -> dict:
    return json.loads(run([prefix / "bin" / "python", "-c", CONTENT], prefix, environment))


def test_the_demo_with_every_environment(place, environment):
    """`snakemake -c1 --use-conda`: solve, install, activate, train, table, figures."""
    project = copy_of_project(place / "demo", SMALLER)
    command = [sys.executable, "-m", "snakemake", "--nocolor", "-c1", "--use-conda", "--configfile", "config/demo.yaml", "my.yaml"]
    run(command, project, environment)

    assert pd.read_csv(project / "results/demo/table.csv").framework.tolist() == ["pytorch", "tensorflow"]
    assert (project / "results/demo/figures/tradeoff.svg").stat().st_size > 1000

    made = environments(project)
    found = {name: content(prefix, environment) for name, prefix in made.items()}
    # Each contains only its own libraries, and its Python is not the one that runs Snakemake.
    assert {name: tuple(what["libraries"]) for name, what in found.items()} == {
        "pytorch": ("torch",),
        "tensorflow": ("tensorflow",),
        "analysis": ("pandas",),
    }
    for name, prefix in made.items():
        assert found[name]["prefix"] == str(prefix)
        assert sorted(path.name.split("-")[0] for path in (prefix / "conda-meta").glob("*.json")) == ["pip", "python"]
        run([prefix / "bin" / "python", "-m", "pip", "check"], prefix, environment)

    # TensorFlow is a CUDA build with all its libraries, although this machine has no GPU.
    said = run(
        [made["tensorflow"] / "bin/python", "-c", "import tensorflow as t; print(t.test.is_built_with_cuda())"], project, environment
    )
    assert said.splitlines()[-1] == "True"
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12", "nvidia-cuda-runtime-cu12"} <= set(found["tensorflow"]["versions"])
    # So is torch, unless this machine's pip was set up for a CPU build, which the version then says.
    said = run([made["pytorch"] / "bin/python", "-c", "import torch; print(torch.version.cuda)"], project, environment)
    assert (said.strip() == "None") == found["pytorch"]["versions"]["torch"].endswith("+cpu")
    shutil.rmtree(project)  # frees gigabytes


def recipe() -> list[str]:
    """The command blocks under "Without internet" in docs/environments.md."""
    section = (ROOT / "docs/environments.md").read_text(encoding="utf-8").partition("## Without internet\n")[2].partition("\n## ")[0]
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", section, flags=re.MULTILINE)]


@pytest.fixture
def served(tmp_path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address that serves it to this machine only."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def without_network() -> list[str]:
    """A command prefix that cuts a command off from the network."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return prefix
    (pytest.fail if os.environ.get("CI") else pytest.skip)("this machine lets nobody take the network from a process (unshare --net)")


def convolutions(path: Path) -> None:
    """Write a weights file with random numbers for the convolutions of torchvision's AlexNet."""
    variant = variants.get("alexnet_pretrained")
    random = np.random.default_rng(1)
    shapes = layers.weight_shapes(variant)
    arrays = {f"{source}.{kind}": shapes[f"{name}.{kind}"] for name, source in variant.pretrained.items() for kind in ("weight", "bias")}
    weights.write(
        path, {name: random.normal(0, 0.01, shape).astype(np.float32) for name, shape in arrays.items() if "features" in name}, {}
    )


def pack(source: Path, archive: Path) -> None:
    """Write CIFAR-10's archive: copy it, or make it from its folder."""
    if source.is_file():
        shutil.copy(source, archive)
        return
    with tarfile.open(archive, "w:gz", compresslevel=0) as packed:
        packed.add(next(source.rglob("data_batch_1")).parent, cifar10.FOLDER)


def test_the_recipe_for_a_machine_without_internet(place, environment, served):
    """Follows docs/environments.md line by line; data and weights come from a server, and the second machine has no network at all.

    Only with PyTorch: TensorFlow's wheels are gigabytes, and they are handled the same way.
    """
    network_off = without_network()
    folder, address = served
    convolutions(folder / "convolutions.safetensors")
    sha256 = hashlib.sha256((folder / "convolutions.safetensors").read_bytes()).hexdigest()
    config = {
        "results": "results/offline",
        "frameworks": ["pytorch"],
        "weights": {"source": f"{address}/convolutions.safetensors", "sha256": sha256, "classifier": "fresh"},
        **SMALLER,
        "variants": ["alexnet_mod", "alexnet_pretrained"],
    }
    if "CIFAR10" in os.environ:
        pack(Path(os.environ["CIFAR10"]), folder / "cifar-10-python.tar.gz")
        config["data"] = config["data"] | {"archive": f"{address}/cifar-10-python.tar.gz"}
    else:
        config["data"] = config["data"] | {"dataset": "digits"}
    here, there = recipe()

    project = copy_of_project(place / "here", config)
    # Stands for the environment that `make` would create.
    (project / ".venv").symlink_to(Path(sys.prefix))
    os.utime(project / "requirements.lock", (0, 0))
    run(["bash", "-euc", here], project, environment)
    (project / ".venv").unlink()
    project.rename(place / "gone")
    (place / "conda" / "channels").rename(place / "conda" / "gone")

    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    shutil.move(place / "carried.tar", elsewhere)
    settings = {name: value for name, value in environment.items() if name != "CONDA_CHANNEL_ALIAS"}
    said = run([*network_off, "bash", "-euc", there], elsewhere, settings | {"PYTHON": sys._base_executable, "CORES": "1"})
    assert "2 runs: 2 waiting" in said
    project = elsewhere / "alexbench"
    assert pd.read_csv(project / "results/offline/table.csv").variant.tolist() == ["alexnet_mod", "alexnet_pretrained"]
    # Nothing was downloaded or converted again.
    assert not {"dataset", "weights"} & set(re.findall(r"^(?:local)?rule (\w+):", said, flags=re.MULTILINE))
    made = environments(project)
    assert set(made) == {"pytorch", "analysis"}
    assert content(made["pytorch"], settings)["libraries"] == ["torch"]
    used = json.loads((project / "results/offline/runs/pytorch/alexnet_pretrained/seed1/metrics.json").read_text(encoding="utf-8"))
    assert used["start"] == "ImageNet convolutions, fresh classifier"
