"""Trainings on one machine take a GPU each, whoever starts them, and give it back however they end. A stand-in tells of the GPUs."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alexbench import lease
from conftest import ROOT
from test_train import run_cell

A, B = (f"GPU-{letter * 8}-0000" for letter in "ab")
MIG = [f"MIG-{digit * 8}-0000" for digit in "123"]

# In the place of pynvml: GPUS is JSON, a list of [UUID, null or its parts' UUIDs]. Says what was imported before GPUs were looked for.
STAND_IN = """
import json, os, sys

NVML_DEVICE_MIG_ENABLE = 1
GPUS = json.loads(os.environ["GPUS"])

class NVMLError(Exception):
    pass

def nvmlInit():
    if not GPUS:
        raise NVMLError("Driver Not Loaded")

def nvmlShutdown():
    pass

def nvmlDeviceGetCount():
    print("before:", *sorted({"torch", "tensorflow"} & set(sys.modules)), file=sys.stderr, flush=True)
    return len(GPUS)

def nvmlDeviceGetHandleByIndex(number):
    if GPUS[number][0] == "lost":
        raise NVMLError("GPU is lost")
    return GPUS[number]

def nvmlDeviceGetUUID(handle):
    if handle[0] is None:
        raise NVMLError("Not Supported")
    return handle[0]

def nvmlDeviceGetMigMode(handle):
    if handle[1] is None:
        raise NVMLError("Not Supported")
    return [1, 1]

def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 7

def nvmlDeviceGetMigDeviceHandleByIndex(handle, number):
    if number >= len(handle[1]):
        raise NVMLError("Not Found")
    return [handle[1][number], None]
"""

HOLDER = """
import os, sys, time
from alexbench import lease
with lease.one_gpu(sys.argv[1], lambda line: print(line, flush=True)) as held:
    print("has", held.gpu, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    time.sleep(60)
"""


class Holder:
    """A process that asks for a GPU and keeps it. Its output is read line by line."""

    def __init__(self, environment: dict[str, str], device: str = "auto") -> None:
        command = [sys.executable, "-c", HOLDER, device]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def machine(tmp_path) -> Callable[..., dict[str, str]]:
    """The environment of a process on a machine of its own, with these GPUs, and CUDA_VISIBLE_DEVICES where it is said."""
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "pynvml.py").write_text(STAND_IN, encoding="utf-8")
    (tmp_path / "tmp").mkdir()

    def with_gpus(*gpus: str | tuple[str, list[str]], visible: str | None = None) -> dict[str, str]:
        found = [list(gpu) if isinstance(gpu, tuple) else [gpu, None] for gpu in gpus]
        path = os.pathsep.join([str(tmp_path / "stand_in"), str(ROOT / "scripts")])
        ours = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", "ALEXBENCH_GPU")}
        chosen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return ours | {"GPUS": json.dumps(found), "PYTHONPATH": path, "TMPDIR": str(tmp_path / "tmp"), **chosen}

    return with_gpus


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    """Start a Holder; all are ended with the test."""
    started = []

    def start(*arguments: object) -> Holder:
        started.append(Holder(*arguments))
        return started[-1]

    yield start
    for holder in started:
        if holder.process.poll() is None:
            holder.end()


def test_each_process_has_a_gpu_of_its_own_and_the_last_one_waits(machine, hold):
    two = machine(A, B)
    first, second, third = hold(two), None, None
    assert first.says() == f"has {A} {A}"
    second = hold(two)
    assert second.says() == f"has {B} {B}"
    third = hold(two)
    assert third.says().startswith(f"other processes hold every GPU that this one may use ({A}, {B}); waiting for one.")
    second.end(signal.SIGKILL)
    assert third.says() == f"has {B} {B}"
    # What does not ask for a GPU waits for none.
    assert hold(two, "cpu").says() == "has None None"


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [
        ((A, B), "1", [B]),
        ((A, B), "1,0", [B, A]),
        ((A, B), " 1 , 0", [B, A]),
        ((A, B), "0,0", [A]),
        ((A, B), B, [B]),
        ((A, B), "GPU-b", [B]),
        ((A, B), "0,-1,1", [A]),
        ((A, B), "0,2,1", [A]),
        ((A, (B, MIG[:2])), None, [A, *MIG[:2]]),
        (((A, MIG[:2]), (B, [])), None, MIG[:2]),
        (((A, MIG), B), "0", MIG),
        (((A, MIG), B), f"{MIG[2]},1", [MIG[2], B]),
        (((A, MIG),), f"MIG-{A}/1/0", [f"MIG-{A}/1/0"]),
        ((None, B), None, ["0", B]),
        (("lost", B), None, [B]),
    ],
)
def test_cuda_visible_devices_is_kept_to(machine, hold, gpus, visible, expected):
    environment = machine(*gpus, visible=visible)
    for name in expected:
        assert hold(environment).says() == f"has {name} {name}"
    assert hold(environment).says().startswith(f"other processes hold every GPU that this one may use ({', '.join(expected)})")


@pytest.mark.parametrize(("gpus", "visible"), [((), None), ((), "0"), ((A,), ""), ((A,), "-1"), ((A,), "1"), ((A,), "GPU-c"), ((A,), "x")])
def test_where_cuda_sees_no_gpu_nothing_is_held(machine, hold, gpus, visible):
    environment = machine(*gpus, visible=visible)
    assert [hold(environment).says() for _ in range(2)] == [f"has None {visible}".strip()] * 2


def test_a_lock_of_another_user_counts_and_links_are_not_followed(machine, hold, tmp_path):
    folder = tmp_path / "tmp" / "alexbench-gpus"
    assert hold(machine(A)).says() == f"has {A} {A}"
    assert folder.stat().st_mode & 0o7777 == 0o1777 and (folder / A).stat().st_mode & 0o7777 == 0o444
    (folder / B).symlink_to(tmp_path / "elsewhere")
    assert "see to it that no other training uses the same one" in hold(machine(B)).says()
    assert not (tmp_path / "elsewhere").exists()


SMALL = ["--framework=pytorch", "--variant=alexnet_mod", "--threads=1"]


def programs(data: Path, folder: Path) -> dict[str, list[str]]:
    """What is timed, or compared to the bit, each at its smallest."""
    train = ["--train-limit=20", "--test-limit=10", "--epochs=1", "--batch-size=10", f"--output={folder / 'train'}"]
    parity = ["--images=2", "--steps=1", "--batch-size=4", f"--output={folder / 'parity.npz'}"]
    timed = ["--seconds=0.01", "--batch-size=4", "--arms", "resident", f"--output={folder / 'timed.csv'}"]
    options = {"train.py": train, "measure_parity.py": parity, "time_steps.py": timed}
    return {name: [*SMALL, f"--data={data}", *more] for name, more in options.items()}


@pytest.mark.parametrize("program", ["train.py", "measure_parity.py", "time_steps.py"])
def test_every_program_that_uses_a_gpu_waits_for_one(machine, hold, digits_file, tmp_path, program):
    one = machine(A)
    holder = hold(one)
    assert holder.says() == f"has {A} {A}"
    command = [sys.executable, str(ROOT / "scripts" / program), *programs(digits_file, tmp_path)[program]]
    started = time.perf_counter()
    process = subprocess.Popen(command, env=one, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        # Before the framework is imported, which may look for GPUs at once.
        assert process.stderr.readline().strip() == "before:"
        assert process.stderr.readline().startswith(f"other processes hold every GPU that this one may use ({A}); waiting")
        if program == "train.py":
            assert json.loads((tmp_path / "train" / "progress.json").read_text(encoding="utf-8"))["stage"] == "waiting for a GPU"
        time.sleep(max(0, 3 - (time.perf_counter() - started)))
        holder.end()
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.wait()
    if program == "train.py":
        metrics = json.loads((tmp_path / "train" / "metrics.json").read_text(encoding="utf-8"))
        # This machine's framework sees no GPU, and lets it go.
        assert (metrics["device"], metrics["gpu_uuid"]) == ("cpu", None)
        assert metrics["setup_seconds"] < time.perf_counter() - started - 3


def test_a_process_that_was_started_by_the_holder_shares_its_gpu(machine):
    """As the arms of the timing experiment do. The lock then lasts until the last of them has ended."""
    child = "import os; from alexbench import lease\nwith lease.one_gpu('cuda', print) as held: print('child has', held.gpu)"
    parent = (
        "import subprocess, sys; from alexbench import lease\n"
        "with lease.one_gpu('cuda', print) as held:\n"
        "    subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)\n"
        "    subprocess.Popen(['sleep', '2'], pass_fds=held.handles, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
    )
    one = machine(A)
    done = subprocess.run([sys.executable, "-c", parent, child], env=one, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.stdout.strip() == f"child has {A}", done.stderr
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", child], env=one, capture_output=True, text=True, encoding="utf-8", check=False)
    assert "waiting for one" in done.stdout and done.stdout.endswith(f"child has {A}\n")
    assert time.perf_counter() - started > 1


def test_a_training_says_which_gpu_it_had(digits_file, tmp_path, monkeypatch):
    """There is no GPU where this runs: the framework says that it has one, and computes on the CPU."""
    from alexbench.backends import pytorch

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(lease, "visible_gpus", lambda: [A])
    about = {"device": "cuda", "device_name": "a GPU", "versions": {}, "settings": {}}
    monkeypatch.setattr(pytorch.Backend, "describe", lambda self: about)
    assert run_cell(digits_file, tmp_path / "run", "--device=auto")["gpu_uuid"] == A
    # It stays the framework's, and another process may have it.
    assert os.environ["CUDA_VISIBLE_DEVICES"] == A and "ALEXBENCH_GPU" not in os.environ
