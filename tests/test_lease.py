"""Trainings on one machine take one GPU each, whoever starts them, and release it however they end. A stand-in reports the GPUs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from alexbench.training import lease
from conftest import ROOT
from test_train import run_cell

A, B = (f"GPU-{letter * 8}-0000" for letter in "ab")
MIG = [f"MIG-{digit * 8}-0000" for digit in "123"]

# Replaces pynvml. GPUS is JSON: a list of [UUID, null or the UUIDs of its parts]. Prints what was imported before the GPUs are counted.
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
from alexbench.training import lease
if len(sys.argv) > 3:
    os.setgid(int(sys.argv[3]))
    os.setuid(int(sys.argv[3]))
    os.umask(0o077)
with lease.one_gpu(sys.argv[1], lambda line: print(line, flush=True), int(sys.argv[2])) as held:
    print("has", held.gpu, os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    time.sleep(60)
"""


class Holder:
    """A process that asks for a GPU and keeps it, as another user if one is given. Its output is read line by line."""

    def __init__(self, environment: dict[str, str], device: str = "auto", user: int | None = None, runs_per_gpu: int = 1) -> None:
        command = [sys.executable, "-c", HOLDER, device, str(runs_per_gpu), *([] if user is None else [str(user)])]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def says(self) -> str:
        return self.process.stdout.readline().strip()

    def end(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def machine(tmp_path) -> Callable[..., dict[str, str]]:
    """Environment of a process on its own machine with these GPUs, and with CUDA_VISIBLE_DEVICES if one is given."""
    (tmp_path / "pynvml.py").write_text(STAND_IN, encoding="utf-8")

    def with_gpus(*gpus: str | tuple[str, list[str]], visible: str | None = None, locks: Path = tmp_path / "locks") -> dict[str, str]:
        found = [list(gpu) if isinstance(gpu, tuple) else [gpu, None] for gpu in gpus]
        path = os.pathsep.join([str(tmp_path), str(ROOT / "scripts")])
        ours = {name: value for name, value in os.environ.items() if name not in ("CUDA_VISIBLE_DEVICES", lease.INHERITED)}
        chosen = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        return ours | {"GPUS": json.dumps(found), "PYTHONPATH": path, lease.FOLDER: str(locks), **chosen}

    return with_gpus


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    """Start a Holder; all of them are ended with the test."""
    started = []

    def start(*arguments: object, **more: int) -> Holder:
        started.append(Holder(*arguments, **more))
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
    # A process that asks for no GPU does not wait for one.
    assert hold(two, "cpu").says() == "has None None"


def test_as_many_as_they_say_share_a_gpu(machine, hold):
    one = machine(A)
    first, second = (hold(one, runs_per_gpu=2) for _ in range(2))
    assert first.says() == second.says() == f"has {A} {A}"
    third = hold(one, runs_per_gpu=2)
    assert third.says().startswith(f"other processes hold every GPU that this one may use ({A}); waiting for one.")
    first.end(signal.SIGKILL)
    assert third.says() == f"has {A} {A}"


@pytest.mark.parametrize(("ours", "theirs"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_a_gpu_is_not_shared_with_who_said_another_number(machine, hold, ours, theirs):
    """Nor with one that gave no number, which means 1: only processes with the same number share a GPU."""
    two = machine(A, B)
    first = hold(two, runs_per_gpu=ours)
    assert first.says() == f"has {A} {A}"
    assert hold(two, runs_per_gpu=theirs).says() == f"has {B} {B}"
    waiting = hold(machine(A), runs_per_gpu=theirs)
    assert waiting.says().startswith("other processes hold every GPU")
    first.end()
    assert waiting.says() == f"has {A} {A}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be other users")
def test_users_share_a_gpu_too(machine, hold):
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o1777)
        shared = machine(A, locks=place / "tmp" / "locks")
        for user in (12345, 54321):
            assert hold(shared, "auto", user, runs_per_gpu=2).says() == f"has {A} {A}"
        assert hold(shared, "auto", 12345, runs_per_gpu=2).says().startswith("other processes hold every GPU")
    finally:
        shutil.rmtree(place)


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
def test_cuda_visible_devices_is_kept_to(sees, gpus, visible, expected):
    assert sees(*gpus, visible=visible) == expected


@pytest.mark.parametrize(("gpus", "visible"), [((), None), ((), "0"), ((A,), ""), ((A,), "-1"), ((A,), "1"), ((A,), "GPU-c"), ((A,), "x")])
def test_where_cuda_sees_no_gpu_there_is_none_to_hold(sees, gpus, visible):
    assert sees(*gpus, visible=visible) == []


@pytest.fixture
def sees(machine, monkeypatch) -> Callable[..., list[str]]:
    """What `visible_gpus` returns in this process, on a machine with these GPUs."""

    def of_machine(*gpus: str | tuple[str, list[str]], visible: str | None) -> list[str]:
        environment = machine(*gpus, visible=visible)
        monkeypatch.setenv("GPUS", environment["GPUS"])
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        stand_in = ModuleType("pynvml")
        exec(STAND_IN, vars(stand_in))
        monkeypatch.setattr(lease, "pynvml", stand_in)
        return lease.visible_gpus()

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return of_machine


def test_a_part_of_a_gpu_is_held_as_a_whole_one_is(machine, hold):
    divided = machine((A, MIG[:2]), visible=f"{MIG[0]},MIG-{A}/1/0")
    assert [hold(divided).says() for _ in range(2)] == [f"has {name} {name}" for name in (MIG[0], f"MIG-{A}/1/0")]
    assert hold(divided).says().startswith("other processes hold every GPU")
    # A process without a GPU holds nothing and leaves the variable as it is.
    assert hold(machine(visible="0")).says() == "has None 0"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be other users")
def test_two_users_share_the_machine(machine, hold):
    """Each with their own TMPDIR and umask, in whatever order they come."""
    place = Path(tempfile.mkdtemp())
    try:
        place.chmod(0o755)
        (place / "tmp").mkdir()
        (place / "tmp").chmod(0o1777)
        both = machine(A, B, locks=place / "tmp" / "locks")
        mine, theirs = both | {"TMPDIR": "/a"}, both | {"TMPDIR": "/b"}
        assert hold(mine, "auto", 12345).says() == f"has {A} {A}"
        other = hold(theirs, "cuda", 54321)
        assert other.says() == f"has {B} {B}"
        third = hold(mine, "auto", 12345)
        assert third.says().startswith("other processes hold every GPU")
        other.end()
        assert third.says() == f"has {B} {B}"
    finally:
        shutil.rmtree(place)


def test_a_link_in_the_place_of_a_lock_file_is_not_followed(machine, hold, tmp_path):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / A).symlink_to(tmp_path / "elsewhere")
    assert "make sure that no other training uses the same one" in hold(machine(A)).says()
    assert not (tmp_path / "elsewhere").exists()


def test_a_lock_file_that_was_deleted_is_not_taken_for_the_one_that_others_see(tmp_path, monkeypatch):
    """Programs that clean up /tmp delete such files."""
    path, open_file = tmp_path / A, lease._opened

    def deleted_once(opened: Path) -> int:
        handle = open_file(opened)
        monkeypatch.setattr(lease, "_opened", open_file)
        path.unlink()
        return handle

    monkeypatch.setattr(lease, "_opened", deleted_once)
    handle = lease._locked(path)
    assert os.path.samestat(os.fstat(handle), path.stat()) and lease._locked(path) is None
    os.close(handle)
    os.close(lease._locked(path))


@pytest.mark.parametrize("program", ["train.py", "measure_parity.py", "time_steps.py"])
def test_every_program_that_uses_a_gpu_waits_for_one(machine, hold, digits_file, tmp_path, program):
    one = machine(A)
    holder = hold(one)
    assert holder.says() == f"has {A} {A}"
    options = ["--framework=pytorch", "--variant=alexnet_mod", "--threads=1", f"--data={digits_file}", f"--output={tmp_path / 'out'}"]
    small = ["--train-limit=20", "--test-limit=10", "--epochs=1", "--batch-size=10", "--no-model", "--no-tensorboard"]
    command = [sys.executable, str(ROOT / "scripts" / program), *options, *(small if program == "train.py" else [])]
    process = subprocess.Popen(command, env=one, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    try:
        # Before the framework is imported, which may look for GPUs at once.
        assert process.stderr.readline().strip() == "before:"
        assert process.stderr.readline().startswith(f"other processes hold every GPU that this one may use ({A}); waiting")
        if program != "train.py":
            return
        assert json.loads((tmp_path / "out" / "progress.json").read_text(encoding="utf-8"))["stage"] == "waiting for a GPU"
        holder.end()
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    # This machine's framework sees no GPU, so the lease is released.
    assert (metrics["device"], metrics["gpu_uuid"]) == ("cpu", None)


def test_a_process_that_was_started_by_the_holder_shares_its_gpu(machine):
    """The experiment on speed starts its arms this way. The lock then lasts until the last of them has ended."""
    child = "import os; from alexbench.training import lease\nwith lease.one_gpu('cuda', print) as held: print('child has', held.gpu)"
    parent = (
        "import subprocess, sys; from alexbench.training import lease\n"
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


def test_a_training_says_which_gpu_it_had_and_does_not_count_the_wait(digits_file, tmp_path, monkeypatch):
    """There is no GPU here: the framework is made to report one, and computes on the CPU."""
    from alexbench.backends import pytorch

    take = lease._take

    def much_later(*arguments: object) -> lease.Lease:
        return replace(take(*arguments), waited_seconds=1e6)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv(lease.FOLDER, str(tmp_path / "locks"))
    monkeypatch.setattr(lease, "visible_gpus", lambda: [A])
    monkeypatch.setattr(lease, "_take", much_later)
    about = {"device": "cuda", "device_name": "a GPU", "versions": {}, "settings": {}}
    monkeypatch.setattr(pytorch.Backend, "describe", lambda self: about)
    metrics = run_cell(digits_file, tmp_path / "run", "--device=auto")
    assert metrics["gpu_uuid"] == A and metrics["setup_seconds"] < 0
    # The framework keeps using this GPU, but another process may take it.
    assert os.environ["CUDA_VISIBLE_DEVICES"] == A and lease.INHERITED not in os.environ
