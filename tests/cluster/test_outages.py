"""SLURM's controller goes away and comes back: every job runs exactly once, and the results are the same."""

import csv
import json
import os
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import slurm
import yaml
from on_cluster import ENVIRONMENT, FAST_SNAKEMAKE, FOUR, ON_CLUSTER, bring_up, copy_of_project

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TABLE = "results/four/table.md"
# Length of each outage in seconds. `OUTAGES=5,30,120 make cluster-test` tries more, and everything with accounting too.
OUTAGES = [int(seconds) for seconds in os.environ.get("OUTAGES", "30").split(",")]
ONCE = "tried without accounting; OUTAGES=30 make cluster-test tries it with, too"


@pytest.fixture(scope="module", params=[False, True], ids=["without accounting", "with accounting"])
def accounting(request) -> bool:
    return request.param


@pytest.fixture(scope="module")
def cluster(accounting):
    up = bring_up(accounting)
    next(up)
    # The folder is enough to find its daemons.
    yield slurm.Cluster(folder=slurm.current(), accounting=accounting)
    next(up, None)


@pytest.fixture
def project(tmp_path) -> Path:
    return copy_of_project(tmp_path / "project", FOUR)


def start(project: Path, environment: dict[str, str] = ENVIRONMENT) -> subprocess.Popen:
    with (project / "snakemake.out").open("a", encoding="utf-8") as log:
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        # Two jobs at once; the others are submitted when those end.
        command = [*FAST_SNAKEMAKE, TABLE, "--jobs", "2", "--retries", "1", *ON_CLUSTER]
        return subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log, preexec_fn=heed)


def said(project: Path) -> str:
    return (project / "snakemake.out").read_text(encoding="utf-8")


def hold_two_runs(project: Path) -> list[int]:
    """Stop the processes of the first two runs as soon as each trains, and return their ids.

    A job that has only just begun needs the controller for its `srun`: if it went away then, the job would fail.
    """
    held: list[int] = []

    def both() -> bool:
        for path in project.glob("results/four/runs/pytorch/alexnet_mod/seed*/progress.json"):
            pid = json.loads(path.read_text(encoding="utf-8"))["pid"]
            if pid not in held:
                os.kill(pid, signal.SIGSTOP)
                held.append(pid)
        return len(held) == 2

    assert slurm.wait_until(both, seconds=120), said(project)
    return held


def log_of(project: Path, job: slurm.Job) -> str:
    return next((project / "logs" / "slurm").glob(f"*/*/{job.id}.log")).read_text(encoding="utf-8")


def assert_each_ran_once(process: subprocess.Popen, project: Path, before: set[int]) -> None:
    assert process.wait(timeout=400) == 0, said(project)[-4000:]
    jobs = [job for job in slurm.jobs() if job.id not in before]
    # A controller that has only just come back may start a job before its node has told it of its GPUs. SLURM then refuses the job's step,
    # nothing is run, and the job is tried again.
    refused = [job.id for job in jobs if job.state == "FAILED" and "srun: error: Unable to create step" in log_of(project, job)]
    assert sorted((job.comment, job.state, job.restarts) for job in jobs if job.id not in refused) == [
        (f"rule_train_wildcards_pytorch_alexnet_mod_{seed}", "COMPLETED", 0) for seed in FOUR["seeds"]
    ]
    assert (project / TABLE).exists()
    with (project / "results/four/costs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["job"], row["state"], row["gpus"]) for row in rows) == sorted((str(job.id), job.state, "1") for job in jobs)
    assert all(float(row["gpu_hours"]) > 0 for row in rows if row["state"] == "COMPLETED")


@pytest.mark.parametrize("seconds", OUTAGES)
def test_the_controller_goes_away(cluster, accounting, project, seconds):
    """The controller stops while two jobs run. In a long outage they end, and the next two cannot be submitted."""
    if accounting and "OUTAGES" not in os.environ:
        pytest.skip(ONCE)
    before = {job.id for job in slurm.jobs()}
    process = start(project)
    held = hold_two_runs(project)
    cluster.stop_controller()
    for pid in held:
        os.kill(pid, signal.SIGCONT)
    time.sleep(seconds)
    cluster.start_controller()
    assert_each_ran_once(process, project, before)
    assert seconds < 10 or "SLURM answers again" in said(project)


def test_the_controller_is_away_when_jobs_are_submitted(cluster, accounting, project):
    if accounting and "OUTAGES" not in os.environ:
        pytest.skip(ONCE)
    before = {job.id for job in slurm.jobs()}
    cluster.stop_controller()
    try:
        process = start(project)
        assert slurm.wait_until(lambda: "submitted again when SLURM answers" in said(project), seconds=120), said(project)
    finally:
        cluster.start_controller()
    assert_each_ran_once(process, project, before)


@pytest.mark.long
def test_squeue_fails_for_a_minute(cluster, accounting, project, tmp_path):
    """Only the commands fail, as on an overloaded login node; the jobs run and end."""
    if not accounting and "OUTAGES" not in os.environ:
        pytest.skip("tried with accounting; OUTAGES=30 make cluster-test tries it without, too")
    before = {job.id for job in slurm.jobs()}
    broken = tmp_path / "broken"
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("squeue", "sacct"):
        path = folder / name
        real = shutil.which(name)
        if real:
            silence = f'if [ -e {broken} ]; then echo "{name}: error: Unable to contact slurm controller" >&2; exit 1; fi'
            path.write_text(f'#!/bin/sh\n{silence}\nexec {real} "$@"\n', encoding="utf-8")
            path.chmod(0o755)
    process = start(project, ENVIRONMENT | {"PATH": f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}"})
    assert slurm.wait_until(lambda: list(project.glob("results/four/runs/pytorch/alexnet_mod/seed*/progress.json")), seconds=90), said(
        project
    )
    broken.touch()
    time.sleep(60)
    broken.unlink()
    assert_each_ran_once(process, project, before)


def test_ctrl_c_while_nobody_answers_ends_snakemake(cluster, accounting, project):
    if accounting and "OUTAGES" not in os.environ:
        pytest.skip(ONCE)
    process = start(project)
    assert slurm.wait_until(lambda: list(project.glob("results/four/runs/pytorch/alexnet_mod/seed*/progress.json")), seconds=90), said(
        project
    )
    cluster.stop_controller()
    try:
        assert slurm.wait_until(lambda: "SLURM does not answer" in said(project), seconds=60), said(project)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=90) != 0
    finally:
        cluster.start_controller()
    slurm.command("scancel", "--user=root")


def test_a_job_that_can_never_start_is_named_once(cluster, accounting, project):
    if accounting:
        pytest.skip("there SLURM refuses it at once")
    (project / "mine.yaml").write_text(
        yaml.safe_dump(FOUR | {"seeds": [1], "largest_job": {"mem_mb": 64000, "runtime": 1440}}), encoding="utf-8"
    )
    profile = project / "profiles/slurm/config.yaml"
    profile.write_text(profile.read_text(encoding="utf-8").replace("train: &gpu\n", "train: &gpu\n    runtime: 20000\n"), encoding="utf-8")
    process = start(project)
    try:
        assert slurm.wait_until(lambda: "can never start" in said(project), seconds=90), said(project)
        time.sleep(3)
        assert said(project).count("can never start: asks for ") == 1
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


@pytest.mark.long
def test_snakemake_in_a_job_survives_its_own_time_limit(cluster, accounting, project):
    """submit.sh gets the signal that SLURM sends near the limit, goes back into the queue, and finishes what it began."""
    if accounting and "OUTAGES" not in os.environ:
        pytest.skip(ONCE)
    told = project / "told.txt"
    (project / "mine.yaml").write_text(yaml.safe_dump(FOUR | {"at_end": f"cat > {told}"}), encoding="utf-8")
    account = [f"--account={slurm.ACCOUNT}"] if accounting else []
    arguments = [TABLE, "--jobs", "2", "--slurm-init-seconds-before-status-checks", "2", *ON_CLUSTER[2:]]
    command = ["sbatch", "--parsable", "--partition=cpu", *account, "profiles/slurm/submit.sh", *arguments]
    done = subprocess.run(command, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=True)
    number = int(done.stdout)
    assert slurm.wait_until(lambda: list(project.glob("results/four/runs/pytorch/alexnet_mod/seed*/progress.json")), seconds=120)
    slurm.command("scancel", "--batch", "--signal=TERM", number)
    assert slurm.wait_until(lambda: slurm.job(number).restarts == 1, seconds=120), (project / f"slurm-{number}.out").read_text(
        encoding="utf-8"
    )
    slurm.start_now(number)
    slurm.wait_for_state(number, "COMPLETED", seconds=300)
    assert (project / TABLE).exists() and f"Tables: {TABLE}" in told.read_text(encoding="utf-8")
