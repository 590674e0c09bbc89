"""The workflow on a real SLURM: what jobs are given, and that every way of losing one ends in the same results."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import slurm
import yaml

from conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
FAST_SNAKEMAKE = [sys.executable, str(ROOT / "tests" / "cluster" / "fast_snakemake.py"), "--nocolor"]
# The GPUs are stand-ins: jobs ask for them, and train on the CPU. The profile's own `device: cuda` is tried in a test of its own.
ON_CLUSTER = ["--profile", "profiles/slurm", "--config", "device=auto", "--configfile", "mine.yaml"]
# Both frameworks at once, each for a while: long enough to be interrupted in the middle.
PAIR = {
    "results": "results/pair",
    "variants": ["alexnet_mod"],
    "seeds": [1],
    "data": {"dataset": "digits", "train_limit": 400, "test_limit": 50},
    "recipe": {"epochs": 4, "batch_size": 32},
    "device": "auto",
    "threads": 1,
}
FRAMEWORKS = ("pytorch", "tensorflow")
# Figures are drawn in another test.
TABLE = "results/pair/table.md"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A real SLURM of one node with two stand-in GPUs."""
    reason = slurm.obstacle()
    if reason:
        # Where all is installed first, a skip would hide that it was not.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no SLURM here: {reason}")
    with slurm.Cluster() as up:
        yield up


def copy_of_project(folder: Path, config: dict) -> Path:
    for name in ("config", "rules", "scripts", "envs", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "mine.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    return copy_of_project(tmp_path / "project", PAIR)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The same two cells without SLURM, and with nobody disturbing them."""
    folder = copy_of_project(tmp_path_factory.mktemp("undisturbed") / "project", PAIR)
    command = [BIN / "snakemake", TABLE, "-c2", "--resources", "gpu=2", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def start(project: Path, *more: str) -> subprocess.Popen:
    """Snakemake with the profile, its output in a file."""
    with (project / "snakemake.out").open("a") as log:
        command = [*FAST_SNAKEMAKE, *more, *ON_CLUSTER]
        # Where the tests run in the background of a script, SIGINT is ignored, and would be by Snakemake too.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command, cwd=project, env=ENVIRONMENT, stdout=log, stderr=log, preexec_fn=heed)


def said(project: Path) -> str:
    return (project / "snakemake.out").read_text()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, project: Path, seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, said(project)[-3000:]
        assert time.monotonic() < limit, said(project)[-3000:]
        time.sleep(0.1)


def finish(process: subprocess.Popen, project: Path, seconds: float = 400) -> None:
    assert process.wait(timeout=seconds) == 0, said(project)[-4000:]


def run_folder(project: Path, framework: str) -> Path:
    return project / "results" / "pair" / "runs" / framework / "alexnet_mod" / "seed1"


def progress(project: Path, framework: str) -> dict:
    try:
        return json.loads((run_folder(project, framework) / "progress.json").read_text())
    except FileNotFoundError:
        return {}


def in_epoch(project: Path, epoch: int) -> bool:
    """Whether both frameworks are at work, in that epoch or later."""
    return all(progress(project, framework).get("epoch", 0) >= epoch for framework in FRAMEWORKS)


def trainings() -> list[slurm.Job]:
    return [job for job in slurm.jobs() if "rule_train" in job.comment and job.state == "RUNNING"]


def assert_same_results(project: Path, undisturbed: Path, interruptions: int | None = None) -> None:
    """Weights, predictions and history are those of the undisturbed run, to the bit; the interruptions are on record."""
    for framework in FRAMEWORKS:
        ours, theirs = run_folder(project, framework), run_folder(undisturbed, framework)
        metrics, reference = (json.loads((folder / "metrics.json").read_text()) for folder in (ours, theirs))
        assert metrics["final_weights_sha256"] == reference["final_weights_sha256"]
        assert (metrics["accuracy"], metrics["loss"]) == (reference["accuracy"], reference["loss"])
        assert (ours / "predictions.npz").read_bytes() == (theirs / "predictions.npz").read_bytes()
        histories = [[line.rpartition(",")[0] for line in (folder / "history.csv").read_text().splitlines()] for folder in (ours, theirs)]
        assert histories[0] == histories[1]
        seconds = [float(line.rpartition(",")[2]) for line in (ours / "history.csv").read_text().splitlines()[1:]]
        assert sum(seconds) == pytest.approx(metrics["train_seconds"])
        if interruptions is not None:
            assert metrics["interruptions"] == interruptions
        assert metrics["slurm_job_id"] and metrics["queue_seconds"] >= 0
    assert (project / "results/pair/table.md").exists()


def test_each_training_holds_one_gpu_of_its_own_and_gives_the_local_results(tmp_path):
    """The demo's whole grid, made small, both ways."""
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    demo["data"] |= {"train_limit": 40, "test_limit": 20}
    demo |= {"recipe": {"epochs": 1, "batch_size": 16}, "device": "auto", "threads": 1}
    here, there = (copy_of_project(tmp_path / name, demo) for name in ("local", "cluster"))
    command = [BIN / "snakemake", "-c2", "--resources", "gpu=2", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=here, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

    process = start(there)
    held: dict[int, tuple[int, ...]] = {}
    at_once = 0
    while process.poll() is None:
        running = trainings()
        gpus = [gpu for job in running for gpu in job.gpus]
        assert len(gpus) == len(set(gpus)), "two trainings on one GPU"
        held |= {job.id: job.gpus for job in running}
        at_once = max(at_once, len(running))
        time.sleep(0.2)
    finish(process, there)
    assert len(held) == 8 and all(len(gpus) == 1 for gpus in held.values())
    assert at_once == 2, "the two GPUs were never used together"
    cells = sorted(path.relative_to(here) for path in here.glob("results/demo/runs/*/*/*"))
    assert len(cells) == 8
    for cell in cells:
        first, second = (json.loads((folder / cell / "metrics.json").read_text()) for folder in (here, there))
        assert first["final_weights_sha256"] == second["final_weights_sha256"], cell
        assert (here / cell / "predictions.npz").read_bytes() == (there / cell / "predictions.npz").read_bytes()
    assert (there / "results/demo/table.md").exists()


def test_sigterm_in_mid_epoch(project, undisturbed):
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 2), process, project)
    for framework in FRAMEWORKS:
        os.kill(progress(project, framework)["pid"], signal.SIGTERM)
    finish(process, project)
    assert_same_results(project, undisturbed, interruptions=1)


def test_kill_9_of_the_training(project, undisturbed):
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 3), process, project)
    for framework in FRAMEWORKS:
        os.kill(progress(project, framework)["pid"], signal.SIGKILL)
    finish(process, project)
    assert_same_results(project, undisturbed, interruptions=1)


def test_requeue(project, undisturbed):
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 2), process, project)
    jobs = trainings()
    for job in jobs:
        slurm.requeue(job.id)
    finish(process, project)
    assert [slurm.job(job.id).restarts for job in jobs] == [1, 1]
    assert_same_results(project, undisturbed, interruptions=1)


def test_time_limit(project, undisturbed):
    # Five times as long, so that the shortest limit that SLURM knows, a minute, is reached.
    longer = PAIR | {"recipe": PAIR["recipe"] | {"epochs": 20}}
    (project / "mine.yaml").write_text(yaml.safe_dump(longer))
    # Without the profile's early signal: SLURM's own SIGTERM at the limit leaves but a few seconds.
    profile = project / "profiles/slurm/config.yaml"
    profile.write_text("".join(line for line in profile.read_text().splitlines(True) if "slurm_extra" not in line))
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 1), process, project)
    jobs = trainings()
    for job in jobs:
        slurm.command("scontrol", "update", f"JobId={job.id}", "TimeLimit=1")
    for job in jobs:
        slurm.wait_for_state(job.id, "TIMEOUT", "COMPLETED", seconds=150)
    states = [slurm.job(job.id).state for job in jobs]
    finish(process, project)
    assert states == ["TIMEOUT", "TIMEOUT"]
    for framework in FRAMEWORKS:
        metrics = json.loads((run_folder(project, framework) / "metrics.json").read_text())
        assert metrics["interruptions"] == 1 and metrics["epochs"] == 20
    # To the bit as well: the same run in one piece.
    whole = copy_of_project(project.parent / "whole", longer)
    command = [BIN / "snakemake", TABLE, "-c2", "--resources", "gpu=2", "--configfile", "mine.yaml"]
    subprocess.run(command, cwd=whole, env=ENVIRONMENT, capture_output=True, check=True)
    assert_same_results(project, whole)


@pytest.mark.parametrize("cancelled", [False, True], ids=["old jobs run on", "old jobs cancelled"])
def test_kill_9_of_snakemake_and_the_same_command_again(project, undisturbed, cancelled):
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 2), process, project)
    process.kill()
    process.wait()
    orphans = trainings()
    assert len(orphans) == 2, "SLURM's jobs live on"
    if cancelled:
        slurm.command("scancel", *(job.id for job in orphans))
        for job in orphans:
            slurm.wait_for_state(job.id, "CANCELLED")
    assert start(project, "--unlock").wait() == 0, said(project)[-2000:]
    finish(start(project, TABLE), project)
    # A cancelled training has saved itself. One that runs on ends first, since it holds the GPU or the cell's folder.
    assert_same_results(project, undisturbed, interruptions=1 if cancelled else 0)


def test_out_of_memory_on_the_host_is_tried_again_with_more(project, undisturbed):
    path = project / "profiles/slurm/config.yaml"
    text = path.read_text()
    assert "    slurm_partition: gpu\n" in text
    path.write_text(text.replace("    slurm_partition: gpu\n", "    slurm_partition: gpu\n    mem_mb: 300 * attempt**2\n"))
    before = {job.id for job in slurm.jobs()}
    finish(start(project, TABLE), project)
    jobs = [job for job in slurm.jobs() if "rule_train" in job.comment and job.id not in before]
    assert {(job.memory_mb, job.state) for job in jobs} >= {(300, "FAILED")}
    # A training needs about a gigabyte.
    assert max(job.memory_mb for job in jobs if job.state == "COMPLETED") in (1200, 2700)
    assert_same_results(project, undisturbed)


def test_ctrl_c_leaves_nothing_running(project):
    process = start(project, TABLE)
    wait_for(lambda: len(trainings()) == 2, process, project)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 1
    assert slurm.wait_until(lambda: not slurm.command("squeue", "--noheader").strip(), seconds=30)


def test_a_promised_gpu_that_is_not_there_ends_the_job_in_seconds(project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [*FAST_SNAKEMAKE, "--profile", "profiles/slurm", "--configfile", "mine.yaml", "--retries", "0"]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    for framework in FRAMEWORKS:
        log = (project / f"logs/pair/runs/{framework}/alexnet_mod/seed1.log").read_text()
        assert "device: cuda was asked for, but" in log and "sees no GPU" in log
        assert not (run_folder(project, framework) / "metrics.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("slurm_partition: gpu", "slurm_partition: nowhere", "invalid partition specified: nowhere"),
        ("# gpu_model: h100", "gpu_model: h999", "Requested node configuration is not available"),
    ],
)
def test_what_slurm_refuses_is_told_by_snakemake_and_by_the_doctor(project, old, new, says):
    path = project / "profiles/slurm/config.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    command = [*FAST_SNAKEMAKE, *ON_CLUSTER, "--retries", "0"]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and says in done.stderr + done.stdout
    command = [sys.executable, "scripts/doctor.py", "--config", "mine.yaml", "--profile", "profiles/slurm"]
    found = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    failures = [line for line in found.stdout.splitlines() if line.startswith("FAILED")]
    assert failures and all("profiles/slurm/config.yaml" in line for line in failures)


def test_the_doctor_on_a_compute_node(project):
    command = ["srun", "--partition=gpu", "--gpus=1", "--mem=8000", sys.executable, "scripts/doctor.py", "--config", "mine.yaml"]
    found = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok       results: can be written" in found.stdout


def test_a_misspelt_key_of_the_profile_is_named(project):
    path = project / "profiles/slurm/config.yaml"
    path.write_text(path.read_text().replace("slurm-status-command:", "slurm-statsu-command:"))
    done = subprocess.run([*FAST_SNAKEMAKE, *ON_CLUSTER, "-n"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "slurm-statsu-command" in done.stderr + done.stdout
