"""`make status` on a busy queue: what waits and why, what runs and for how long, what it cost."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import slurm
import yaml
from on_cluster import ENVIRONMENT, FAST_SNAKEMAKE, FOUR, ON_CLUSTER, bring_up, copy_of_project

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

# Long enough to be looked at.
LONGER = FOUR | {"data": FOUR["data"] | {"train_limit": 400}}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    yield from bring_up()


def status(project: Path, **environment: str) -> list[str]:
    command = [sys.executable, "scripts/status.py", "--config", "mine.yaml"]
    done = subprocess.run(
        command, cwd=project, env=ENVIRONMENT | environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_busy_queue_in_words(tmp_path):
    project = copy_of_project(tmp_path / "project", LONGER)
    with (project / "snakemake.out").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*FAST_SNAKEMAKE, "results/four/table.md", *ON_CLUSTER],
            cwd=project,
            env=ENVIRONMENT,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        trained = "results/four/runs/pytorch/alexnet_mod/seed*/progress.json"
        assert slurm.wait_until(lambda: len(list(project.glob(trained))) == 2, seconds=120)
        said = status(project)
        print("\n".join(said))
        runs = [line for line in said if line.startswith("pytorch ")]
        running = [line for line in runs if " running " in line]
        waiting = [line for line in runs if " waiting " in line]
        assert len(running) == len(waiting) == 2
        assert all(re.search(r"job \d+, 1 GPU on \S+, 3 h 5\d min of its time left", line) for line in running), running
        assert all(re.search(r"job \d+, in the queue for .*: (waits for free GPUs|others are before it)", line) for line in waiting), (
            waiting
        )
        assert process.wait(timeout=300) == 0
        said = status(project)
        assert re.search(r"4 SLURM jobs ended: .* in the queue, .* at work, \d+\.\d GPU hours used of 16\.0 asked for", said[-1]), said
        # Without SLURM's commands, it reads files.
        said = status(project, PATH=os.defpath.replace("/usr/bin", "").replace("/bin", "") or "/nonexistent")
        assert said[-1].startswith("SLURM does not answer (squeue is not on PATH): from files alone") and "4 done" in said[-3]
    finally:
        process.kill()


def test_a_job_that_can_never_start_says_so(tmp_path):
    project = copy_of_project(tmp_path / "project", LONGER | {"seeds": [1]})
    profile = project / "profiles/slurm/config.yaml"
    settings = yaml.safe_load(profile.read_text(encoding="utf-8"))
    settings["set-resources"]["train"]["runtime"] = 20000
    profile.write_text(yaml.safe_dump(settings), encoding="utf-8")
    process = subprocess.Popen(
        [*FAST_SNAKEMAKE, "results/four/table.md", *ON_CLUSTER],
        cwd=project,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        # The reason is PartitionTimeLimit or PartitionConfig.
        never = re.compile(r"asks for .* \(Partition\w+\); it can never start: scancel it, and see make doctor")
        assert slurm.wait_until(lambda: never.search(status(project)[0]) is not None, seconds=120), status(project)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
