"""The workflow on a real SLURM: what jobs are given, and that the results are the same however a job is lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
import slurm
import yaml
from on_cluster import BIN, ENVIRONMENT, FAST_SNAKEMAKE, ON_CLUSTER, bring_up, copy_of_project, doctors_failures

from conftest import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

# Both frameworks at once, each long enough to be interrupted in the middle.
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
# Another test draws the figures.
TABLE = "results/pair/table.md"


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield from bring_up()


@pytest.fixture
def project(tmp_path) -> Path:
    return copy_of_project(tmp_path / "project", PAIR)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The same two runs, run without SLURM and without interruption."""
    folder = copy_of_project(tmp_path_factory.mktemp("undisturbed") / "project", PAIR)
    command = [BIN / "snakemake", TABLE, "-c2", "--resources", "gpu=2", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def start(project: Path, *more: str) -> subprocess.Popen:
    """Start Snakemake with the profile, its output in a file."""
    with (project / "snakemake.out").open("a", encoding="utf-8") as log:
        command = [*FAST_SNAKEMAKE, *more, *ON_CLUSTER]
        # If a script runs the tests in the background, they ignore SIGINT, and Snakemake would inherit that.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(command, cwd=project, env=ENVIRONMENT, stdout=log, stderr=log, preexec_fn=heed)


def said(project: Path) -> str:
    return (project / "snakemake.out").read_text(encoding="utf-8")


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
        return json.loads((run_folder(project, framework) / "progress.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def in_epoch(project: Path, epoch: int) -> bool:
    """Whether both frameworks are training, in that epoch or later."""
    return all(progress(project, framework).get("epoch", 0) >= epoch for framework in FRAMEWORKS)


def signal_trainings(project: Path, number: signal.Signals) -> None:
    for framework in FRAMEWORKS:
        os.kill(progress(project, framework)["pid"], number)


def trainings() -> list[slurm.Job]:
    return [job for job in slurm.jobs() if "rule_train" in job.comment and job.state == "RUNNING"]


def assert_same_results(project: Path, undisturbed: Path, interruptions: int | None = None) -> None:
    """Weights, predictions and history equal those of the undisturbed run bit for bit; the interruptions are recorded."""
    for framework in FRAMEWORKS:
        ours, theirs = run_folder(project, framework), run_folder(undisturbed, framework)
        metrics, reference = (json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (ours, theirs))
        assert metrics["final_weights_sha256"] == reference["final_weights_sha256"]
        assert (metrics["accuracy"], metrics["loss"]) == (reference["accuracy"], reference["loss"])
        assert (ours / "predictions.npz").read_bytes() == (theirs / "predictions.npz").read_bytes()
        histories = [
            [line.rpartition(",")[0] for line in (folder / "history.csv").read_text(encoding="utf-8").splitlines()]
            for folder in (ours, theirs)
        ]
        assert histories[0] == histories[1]
        seconds = [float(line.rpartition(",")[2]) for line in (ours / "history.csv").read_text(encoding="utf-8").splitlines()[1:]]
        assert sum(seconds) == pytest.approx(metrics["train_seconds"])
        if interruptions is not None:
            assert metrics["interruptions"] == interruptions
        assert metrics["slurm_job_id"] and metrics["queue_seconds"] >= 0
    assert (project / "results/pair/table.md").exists()


@pytest.mark.long
def test_each_training_holds_one_gpu_of_its_own_and_gives_the_local_results(tmp_path):
    """Runs the demo's complete grid, made small, locally and on the cluster."""
    demo = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text(encoding="utf-8"))
    demo["data"] |= {"train_limit": 40, "test_limit": 20}
    demo |= {"recipe": {"epochs": 1, "batch_size": 16}, "device": "auto", "threads": 1}
    here, there = (copy_of_project(tmp_path / name, demo) for name in ("local", "cluster"))
    command = [BIN / "snakemake", "-c2", "--resources", "gpu=2", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=here, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False)
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
    runs = sorted(path.relative_to(here) for path in here.glob("results/demo/runs/*/*/*"))
    assert len(runs) == 8
    for run in runs:
        first, second = (json.loads((folder / run / "metrics.json").read_text(encoding="utf-8")) for folder in (here, there))
        assert first["final_weights_sha256"] == second["final_weights_sha256"], run
        assert (here / run / "predictions.npz").read_bytes() == (there / run / "predictions.npz").read_bytes()
    assert (there / "results/demo/table.md").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_signal_to_the_training_in_mid_run(project, undisturbed, number):
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 2), process, project)
    signal_trainings(project, number)
    finish(process, project)
    assert_same_results(project, undisturbed, interruptions=1)


@pytest.mark.parametrize("preempted", [pytest.param(False, marks=pytest.mark.long), True], ids=["scontrol requeue", "preemption"])
def test_requeue(project, undisturbed, preempted):
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 2), process, project)
    jobs = trainings()
    if preempted:
        slurm.command("sbatch", "--partition=urgent", "--gpus=2", "--output=/dev/null", "--wrap=true")
        for job in jobs:
            slurm.wait_for_state(job.id, "PENDING")
            slurm.start_now(job.id)
    else:
        for job in jobs:
            slurm.requeue(job.id)
    finish(process, project)
    assert [slurm.job(job.id).restarts for job in jobs] == [1, 1]
    assert_same_results(project, undisturbed, interruptions=1)


# The shipped profile asks for SIGTERM 180 s before the limit; it comes up to a minute earlier (man sbatch), so at once if that is 4 min.
# Without it, SLURM sends SIGTERM only at the limit, which is at least one minute, and leaves a few seconds.
@pytest.mark.long
@pytest.mark.parametrize(("early", "minutes", "ends"), [(True, 4, "FAILED"), (False, 1, "TIMEOUT")], ids=["early signal", "at the limit"])
def test_time_limit(project, undisturbed, early, minutes, ends):
    profile = project / "profiles/slurm/config.yaml"
    text = profile.read_text(encoding="utf-8")
    assert "--signal=TERM@180" in text
    if not early:
        profile.write_text("".join(line for line in text.splitlines(True) if "slurm_extra" not in line), encoding="utf-8")
    process = start(project, TABLE)
    wait_for(lambda: in_epoch(project, 2), process, project)
    jobs = trainings()
    for job in jobs:
        slurm.command("scontrol", "update", f"JobId={job.id}", f"TimeLimit={minutes}")
    # Paused, so that they do not end before the limit, which is in minutes. SLURM resumes them when it sends SIGTERM.
    signal_trainings(project, signal.SIGSTOP)
    ended = [slurm.wait_for_state(job.id, "FAILED", "TIMEOUT", "COMPLETED", seconds=150) for job in jobs]
    finish(process, project)
    assert [job.state for job in ended] == [ends, ends]
    for job in ended:
        seconds = (datetime.fromisoformat(job.fields["EndTime"]) - datetime.fromisoformat(job.fields["StartTime"])).total_seconds()
        assert seconds < 120 if early else seconds >= 60
    assert_same_results(project, undisturbed, interruptions=1)


@pytest.mark.parametrize("cancelled", [False, pytest.param(True, marks=pytest.mark.long)], ids=["old jobs run on", "old jobs cancelled"])
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
    finish(start(project, TABLE), project)
    # A cancelled training has saved itself. One that still runs ends first, since it holds the GPU or the run's folder.
    assert_same_results(project, undisturbed, interruptions=1 if cancelled else 0)


@pytest.mark.long
def test_out_of_memory_on_the_host_is_tried_again_with_more(project, undisturbed):
    path = project / "profiles/slurm/config.yaml"
    text = path.read_text(encoding="utf-8")
    assert "    slurm_partition: gpu\n" in text
    path.write_text(
        text.replace("    slurm_partition: gpu\n", "    slurm_partition: gpu\n    mem_mb: 300 * attempt**2\n"), encoding="utf-8"
    )
    before = {job.id for job in slurm.jobs()}
    finish(start(project, TABLE), project)
    jobs = [job for job in slurm.jobs() if "rule_train" in job.comment and job.id not in before]
    assert {(job.memory_mb, job.state) for job in jobs} >= {(300, "FAILED")}
    # A training needs about a gigabyte.
    assert max(job.memory_mb for job in jobs if job.state == "COMPLETED") in (1200, 2700)
    assert_same_results(project, undisturbed)


@pytest.mark.long
def test_the_experiment_on_speed_is_one_job_on_one_machine(project):
    """Times can only be compared on one machine, and must not be measured at the same time."""
    small = PAIR | {"frameworks": ["pytorch"], "recipe": {"batch_size": 4}, "speed": {"rounds": 2, "seconds": 0.05}}
    (project / "mine.yaml").write_text(yaml.safe_dump(small), encoding="utf-8")
    before = {job.id for job in slurm.jobs()}
    # A processor without instructions for bfloat16 takes minutes for that arm.
    finish(start(project, "speed"), project, seconds=1200)
    jobs = [job for job in slurm.jobs() if job.id not in before]
    assert [(job.state, job.gpu_count, job.partition) for job in jobs] == [("COMPLETED", 1, "gpu")]
    assert "## AlexNet mod. (32), cpu" in (project / "results/pair/speed.md").read_text(encoding="utf-8")
    rounds = sorted((project / "results/pair/speed/auto/alexnet_mod").glob("round*/pytorch.csv"))
    assert len(rounds) == 2 and rounds[0].stat().st_mtime < rounds[1].stat().st_mtime


@pytest.mark.parametrize("query_seconds", [0, 3], ids=["between queries", "during a query"])
def test_ctrl_c_leaves_nothing_running(project, tmp_path, monkeypatch, query_seconds):
    """Also while Snakemake is asking SLURM for job states: with queries of 3 s every half second, it nearly always is."""
    slow = tmp_path / "bin" / "squeue"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nsleep {query_seconds}\nexec {shutil.which("squeue")} "$@"\n', encoding="utf-8")
    slow.chmod(0o755)
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{slow.parent}{os.pathsep}{ENVIRONMENT['PATH']}")
    process = start(project, TABLE)
    wait_for(lambda: len(trainings()) == 2, process, project)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 1
    assert slurm.wait_until(lambda: not slurm.command("squeue", "--noheader").strip(), seconds=30)
    # The jobs were cancelled; they did not just finish in the meantime.
    assert not any((run_folder(project, framework) / "metrics.json").exists() for framework in FRAMEWORKS)


def test_a_promised_gpu_that_is_not_there_ends_the_job_in_seconds(project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [*FAST_SNAKEMAKE, "--profile", "profiles/slurm", "--configfile", "mine.yaml", "--retries", "0"]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 1
    for framework in FRAMEWORKS:
        log = (project / f"logs/pair/runs/{framework}/alexnet_mod/seed1.log").read_text(encoding="utf-8")
        assert "device: cuda was asked for, but" in log and "sees no GPU" in log
        # Of its two logs, the one of its own is not hidden by the one that SLURM kept.
        assert f"seed1.log ends:\n    {log.splitlines()[0]}" in done.stderr and "(it says nothing)" not in done.stderr
        assert not (run_folder(project, framework) / "metrics.json").exists()


REFUSED = "Requested node configuration is not available"


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ("slurm_partition: gpu", "slurm_partition: nowhere", "slurm_partition", "invalid partition specified: nowhere"),
        ("# gpu_model: h100", "gpu_model: h999", "gpu_model", REFUSED),
        (
            "# gpu: 0\n    # gres: \"'gpu:1'\"",
            "gpu: 0\n    gres: \"'gpu:h999:1'\"",
            "gres",
            REFUSED,
        ),
    ],
    ids=["partition", "GPU model", "gres"],
)
def test_what_slurm_refuses_is_told_by_snakemake_and_by_the_doctor(project, old, new, key, says):
    path = project / "profiles/slurm/config.yaml"
    assert old in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new))
    command = [*FAST_SNAKEMAKE, *ON_CLUSTER, "--retries", "0"]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120)
    assert done.returncode == 1 and says in done.stderr + done.stdout
    assert "the key to set: make doctor" in done.stdout
    failures = doctors_failures(project)
    assert any(key in line for line in failures) and all("profiles/slurm/config.yaml" in line for line in failures)


def test_the_doctor_on_a_compute_node(project):
    command = ["srun", "--partition=gpu", "--gpus=1", "--mem=8000", sys.executable, "scripts/doctor.py", "--config", "mine.yaml"]
    found = subprocess.run(
        command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "ok       results: can be written" in found.stdout


def test_a_misspelt_key_of_the_profile_is_named(project):
    path = project / "profiles/slurm/config.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("slurm-status-command:", "slurm-statsu-command:"))
    done = subprocess.run(
        [*FAST_SNAKEMAKE, *ON_CLUSTER, "-n"], cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert done.returncode != 0 and "slurm-statsu-command" in done.stderr + done.stdout
