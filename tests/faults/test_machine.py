"""A failing machine: full or read-only disks, no descriptors, a clock set back, two runs at once. A clear error, or right results."""

import contextlib
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_experiment import ENVIRONMENT, SMALL, command, copy_of_workflow, finished_files, outcome, run, said, succeed, whole

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems: needs root")]

# Every stage of one framework: what is tested here is in the library, which both share.
CONFIG = SMALL | {"frameworks": ["pytorch"]}
TARGETS = ["results/small/table.csv", "results/small/figures/samples.png"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """An undisturbed experiment. Copy it, do not change it."""
    folder = copy_of_workflow(tmp_path_factory.mktemp("finished") / "project", CONFIG)
    succeed(folder, *TARGETS)
    return folder


@pytest.fixture(scope="module")
def right(finished) -> dict[str, str]:
    return outcome(finished)


@pytest.fixture
def project(finished, tmp_path) -> Path:
    """A copy of that experiment in which nothing has been done yet."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("results", "resources", "logs", "benchmarks", ".snakemake"))
    return folder


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a file system in memory in place of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Write a file that leaves `leave` bytes of the file system free."""
    room = shutil.disk_usage(folder).free - leave
    with (folder / ".filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, room)
    return folder / ".filler"


def nothing_corrupt(folder: Path) -> None:
    for path in finished_files(folder):
        if not path.name.startswith(".filler"):
            whole(path)


# The stage: the folder whose disk is full, the bytes left on it, and what must have been made before.
STAGES = {
    "data": ("resources", 2_000_000, []),
    "checkpoint": ("results", 1_000_000, ["resources/data/digits.npz"]),
    "first byte of a training": ("results", 0, ["resources/data/digits.npz"]),
    "table": ("results", 4096, ["results/small/runs/pytorch/tiny/seed1/metrics.json"]),
    "figure": ("results", 40_000, ["results/small/table.csv"]),
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_named_and_with_room_the_same_command_goes_on(project, right, stage):
    full, leave, before = STAGES[stage]
    with mounted(project / full, "size=64m"):
        if before:
            succeed(project, *before)
        filler = fill(project / full, leave)
        done = run(project, *TARGETS)
        told = f"{done.stderr}\n{said(project)}"
        assert done.returncode == 1 and "No space left on device" in told, told[-3000:]
        print(stage, [line for line in told.splitlines() if "No space left" in line])
        assert "Traceback" not in said(project), said(project)
        nothing_corrupt(project)
        filler.unlink()
        succeed(project, *TARGETS)
        assert outcome(project) == right


def test_a_disk_full_of_everything_is_named_and_with_room_the_same_command_goes_on(project, right):
    """There is no room for logs and Snakemake's own records either."""
    disk = project.with_name("disk")
    with mounted(disk, "size=96m"):
        folder = disk / "project"
        shutil.copytree(project, folder)
        succeed(folder, "resources/data/digits.npz")
        filler = fill(disk, 4096)
        done = run(folder, *TARGETS)
        assert done.returncode != 0 and "No space left on device" in done.stderr, done.stderr[-3000:]
        nothing_corrupt(folder)
        filler.unlink()
        succeed(folder, *TARGETS)
        assert outcome(folder) == right


def test_a_read_only_results_folder_is_named_before_any_job(project, right):
    with mounted(project / "results", "ro"):
        done = run(project, *TARGETS)
        assert done.returncode == 1
        assert "config: results: results/small cannot be written (Read-only file system)" in done.stderr, done.stderr[-3000:]
        assert "Traceback" not in done.stderr
        assert not (project / "resources").exists() and not (project / "logs").exists()
    succeed(project, *TARGETS)
    assert outcome(project) == right


def test_results_on_another_file_system_than_the_temporary_one(project, right, tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "TMPDIR", str(tmp_path / "temporary"))
    elsewhere = tmp_path / "elsewhere"
    with mounted(tmp_path / "temporary", "size=64m"), mounted(elsewhere, "size=64m"):
        (project / "results").symlink_to(elsewhere)
        assert len({folder.stat().st_dev for folder in (project, project / "results", tmp_path / "temporary")}) == 3
        succeed(project, *TARGETS)
        assert outcome(project) == right


@pytest.mark.parametrize("descriptors", [12, 40, 256])
def test_few_file_descriptors_are_named_or_enough(project, right, descriptors):
    done = run(project, *TARGETS, before=("prlimit", f"--nofile={descriptors}:{descriptors}", "--"))
    told = f"{done.stderr}\n{said(project) if (project / 'logs').exists() else ''}"
    print(descriptors, done.returncode, [line for line in told.splitlines() if "Too many open files" in line][:2])
    assert done.returncode == 0 or "Too many open files" in told, told[-3000:]
    nothing_corrupt(project)
    succeed(project, *TARGETS)
    assert outcome(project) == right


def test_a_clock_set_back_between_two_runs(project, right):
    """Files made before are dated tomorrow: Snakemake says so, and continues once they are dated today."""
    succeed(project, "results/small/runs/pytorch/tiny/seed1/metrics.json")
    tomorrow = time.time() + 86400
    for path in finished_files(project):
        os.utime(path, (tomorrow, tomorrow))
    done = run(project, *TARGETS)
    assert done.returncode == 1 and "clock skew" in done.stderr, done.stderr[-3000:]
    nothing_corrupt(project)
    succeed(project, "--touch", "--forceall", *TARGETS)
    succeed(project, *TARGETS)
    assert outcome(project) == right
    assert "Nothing to be done" in run(project, "-n", *TARGETS).stdout


def test_a_clock_set_back_during_a_run(project, right):
    """By an hour, after training has begun: according to its time stamp, the input comes from the future."""
    with (project / "snakemake.out").open("w", encoding="utf-8") as out:
        process = subprocess.Popen(command(*TARGETS), cwd=project, env=ENVIRONMENT, stdout=out, stderr=out)
        while process.poll() is None and not list((project / "results").rglob("progress.json")):
            time.sleep(0.05)
        future = time.time() + 3600
        os.utime(project / "resources/data/digits.npz", (future, future))
        status = process.wait()
    told = (project / "snakemake.out").read_text(encoding="utf-8")
    assert status == 1 and "clock skew" in told, told[-3000:]
    nothing_corrupt(project)
    succeed(project, "--touch", "resources/data/digits.npz", "--forceall")
    succeed(project, *TARGETS)
    assert outcome(project) == right


def test_two_workflows_started_in_one_folder(project, right):
    """Three times, at once or a moment apart: one does the work, the other is refused or has nothing to do."""
    draw = random.Random(7)
    refused = 0
    for apart in (0, draw.uniform(0, 1), draw.uniform(1, 4)):
        for name in ("results", "resources"):
            shutil.rmtree(project / name, ignore_errors=True)
        processes = []
        for _ in range(2):
            processes.append(
                subprocess.Popen(
                    command(*TARGETS), cwd=project, env=ENVIRONMENT, stdout=-1, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
                )
            )
            time.sleep(apart)
        told = [process.communicate()[0] for process in processes]
        ended = [process.returncode for process in processes]
        print(f"{apart:.2f} s apart: {ended}")
        assert 0 in ended, told
        for status, text in zip(ended, told, strict=True):
            refused += status != 0
            assert status == 0 or "LockException" in text or "Another Snakemake is at work" in text, text[-3000:]
        nothing_corrupt(project)
        assert outcome(project) == right
    assert refused
