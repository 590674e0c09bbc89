"""What made the results is recorded: the machine, its GPU, and what the runs report about theirs."""

import json
import os
import platform
import shutil
import subprocess
import sys
import types

import numpy as np
import pynvml
import pytest

import collect
import record_environment
from alexbench import machine
from conftest import write_run


def gpu_here() -> bool:
    return bool(machine.gpus())


@pytest.mark.skipif(gpu_here(), reason="of machines without a GPU")
def test_without_a_gpu_nothing_is_watched():
    assert machine.gpus() == []
    for device in ("cuda", "cpu"):
        with machine.GpuSampler(device) as gpu:
            pass
        assert gpu.summary() is None


@pytest.mark.skipif(not gpu_here(), reason="needs a GPU")
def test_the_gpu_is_watched():
    with machine.GpuSampler("cuda", seconds=0.01) as gpu:
        np.linalg.svd(np.random.default_rng(0).normal(size=(300, 300)))
    seen = gpu.summary()
    assert seen["name"] == machine.gpus()[0]["name"] and seen["driver"] and seen["seconds"] > 0
    assert 0 <= seen["utilisation_percent"] <= 100 and 0 <= seen["memory_bytes"] <= machine.gpus()[0]["memory_bytes"]


class Driver:
    """Stand-in for NVML on a machine without it: a 100 W GPU that uses 5 J between any two queries."""

    def __init__(self) -> None:
        self.asked = []
        self.joules = 0

    def device(self, which) -> str:
        self.asked.append(which)
        return "handle"

    def energy(self, _) -> int:
        self.joules += 5
        return 1000 * self.joules


@pytest.fixture
def driver(monkeypatch) -> Driver:
    driver = Driver()
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "1.2",
        "nvmlDeviceGetHandleByIndex": driver.device,
        "nvmlDeviceGetHandleByUUID": driver.device,
        "nvmlDeviceGetName": lambda _: "a GPU",
        "nvmlDeviceGetUtilizationRates": lambda _: types.SimpleNamespace(gpu=80),
        "nvmlDeviceGetMemoryInfo": lambda _: types.SimpleNamespace(used=10**9),
        "nvmlDeviceGetPowerUsage": lambda _: 100_000,
        "nvmlDeviceGetTotalEnergyConsumption": driver.energy,
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    return driver


@pytest.mark.parametrize(("visible", "asked"), [(None, 0), ("2,3", 2), ("GPU-8f1c", "GPU-8f1c")])
def test_the_first_visible_gpu_is_watched(driver, monkeypatch, visible, asked):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", visible)
    with machine.GpuSampler("cuda", seconds=0.001) as gpu:
        pass
    assert driver.asked == [asked]
    seen = gpu.summary()
    assert seen.pop("seconds") >= 0
    measured = {"utilisation_percent": 80, "memory_bytes": 10**9, "power_watts": 100, "energy_joules": 5}
    assert seen == {"name": "a GPU", "driver": "1.2"} | measured
    with machine.GpuSampler("cpu") as gpu:
        pass
    assert gpu.summary() is None


def test_what_a_gpu_does_not_tell_is_none(driver, monkeypatch):
    def refuse(_):
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    for name in ("nvmlDeviceGetUtilizationRates", "nvmlDeviceGetTotalEnergyConsumption"):
        monkeypatch.setattr(pynvml, name, refuse)
    with machine.GpuSampler("cuda") as gpu:
        pass
    seen = gpu.summary()
    assert seen["utilisation_percent"] is None and seen["energy_joules"] == pytest.approx(100 * seen["seconds"])


def test_the_environment_names_this_machine_and_what_the_runs_were_made_with(grid_folder):
    write_run(grid_folder / "runs/pytorch/alexnet/seed2", variant="alexnet", seed=2, device="cuda", device_name="a GPU")
    grid = ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "alexnet", "--seeds", "1", "2"]
    collect.main(["--results", str(grid_folder), *grid])
    output = grid_folder / "environment.json"
    assert record_environment.main(["--runs", str(grid_folder / "runs.csv"), "--snakemake", "9.9", "--output", str(output)]) == 0
    found = json.loads(output.read_text(encoding="utf-8"))
    assert found["snakemake"] == "9.9" and found["python"] == platform.python_version() and found["threads"] >= 1
    assert found["packages"]["numpy"] == np.__version__ and found["memory_bytes"] > 10**8
    assert [(runs["framework"], runs["device_name"], runs["runs"]) for runs in found["runs"]] == [
        ("pytorch", "a processor", 3),
        ("pytorch", "a GPU", 1),
        ("tensorflow", "a processor", 4),
    ]
    assert found["runs"][0]["versions.python"] == "3.11" and found["runs"][0]["threads"] == 2


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_the_commit_is_recorded_in_another_users_checkout_too(tmp_path):
    """git refuses it as "dubious ownership" unless the user allows it. If the commit cannot be found, the log says why."""
    code = tmp_path / "checkout" / "scripts"
    code.mkdir(parents=True)
    shutil.copy(machine.__file__, code)
    settings = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CEILING_DIRECTORIES": str(tmp_path)}

    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=code, env=settings, check=True, capture_output=True, text=True).stdout.strip()

    def recorded() -> tuple[str, str]:
        command = [sys.executable, "-c", "import machine; print(machine.git_commit())"]
        others = settings | {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
        done = subprocess.run(command, cwd=code, env=others, check=True, capture_output=True, text=True)
        return done.stdout.strip(), done.stderr

    assert recorded() == ("None", "")
    git("init", "-q")
    commit, said = recorded()
    assert commit == "None" and said.startswith(f"git_commit is left empty, because git cannot tell the commit of {code} (fatal: ")
    git("add", "machine.py")
    git("commit", "-q", "-m", "first")
    assert recorded() == (git("rev-parse", "HEAD"), "")
    with (code / "machine.py").open("a", encoding="utf-8") as file:
        file.write("# changed")
    assert recorded() == (f"{git('rev-parse', 'HEAD')}-dirty", "")
