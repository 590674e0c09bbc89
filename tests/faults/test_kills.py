"""kill -9 at random moments of a complete experiment, then the same command again: the results are those of an undisturbed run."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from small_experiment import ENVIRONMENT, command, copy_of_workflow, finished_files, outcome, run, said, succeed, whole

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KILLS = int(os.environ.get("FAULT_KILLS", "50"))
SEED = int(os.environ.get("FAULT_SEED", "20261124"))
# Who is killed: everything, as when a node goes down; Snakemake, while its jobs live on; or one job.
VICTIMS = ("everything", "Snakemake", "a job")
# Every stage, and one figure so that plotting is hit too.
TARGETS = ["results/small/table.csv", "results/small/figures/samples.png"]


def start_over(folder: Path) -> None:
    for name in ("results", "resources", "logs", "benchmarks", ".snakemake"):
        shutil.rmtree(folder / name, ignore_errors=True)


def kill(process: subprocess.Popen, victim: str, draw: random.Random) -> str:
    """Kill -9, and return who was killed and what was running. If no job is running, Snakemake is killed instead."""
    jobs = [(child, name) for child in psutil.Process(process.pid).children(recursive=True) if (name := _program(child))]
    if victim == "a job" and jobs:
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(jobs)[0].kill()
    else:
        victim = victim if victim == "everything" else "Snakemake"
        process.send_signal(signal.SIGSTOP)  # so that it starts nothing while its children are listed
        doomed = psutil.Process(process.pid).children(recursive=True) if victim == "everything" else []
        process.kill()
        for child in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()
    return f"{victim}, during {', '.join(sorted({name for _, name in jobs})) or 'no job'}"


def _program(process: psutil.Process) -> str | None:
    """The workflow's program that a process runs; None if it runs another."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        script = process.cmdline()[1:2]
        if script and script[0].startswith("scripts/"):
            return Path(script[0]).name
    return None


def nobody_left(folder: Path) -> None:
    """Wait for processes that outlived their Snakemake: they write into the folder that is about to be deleted."""
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                process.wait(120)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


# In halves, so that they can run in parallel.
@pytest.mark.parametrize(("kills_wanted", "seed"), [(KILLS // 2, SEED), (KILLS - KILLS // 2, SEED + 1)])
def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(tmp_path, kills_wanted, seed):
    folder = copy_of_workflow(tmp_path / "project")
    started = time.monotonic()
    succeed(folder, *TARGETS)
    length = time.monotonic() - started
    undisturbed = outcome(folder)
    print(f"seed {seed}, {kills_wanted} kills, an undisturbed run takes {length:.1f} s")

    draw = random.Random(seed)
    start_over(folder)
    kills = rounds = kills_of_round = 0
    while True:
        # What was done before the last kill need not be repeated, so half the length is enough to hit every stage.
        moment, victim = draw.uniform(0, length / 2), draw.choice(VICTIMS)
        with (folder / "snakemake.out").open("w", encoding="utf-8") as out:
            process = subprocess.Popen(command(*TARGETS), cwd=folder, env=ENVIRONMENT, stdout=out, stderr=out)
            try:
                status = process.wait(moment if kills < kills_wanted else None)
            except subprocess.TimeoutExpired:
                killed = kill(process, victim, draw)
                kills, kills_of_round = kills + 1, kills_of_round + 1
                print(f"kill {kills} at {moment:.1f} s: {killed}", flush=True)
                for path in finished_files(folder):
                    # Jobs that live on delete their progress.json and checkpoint when they end.
                    with suppress(FileNotFoundError):
                        whole(path)
                continue
        assert status == 0, f"{(folder / 'snakemake.out').read_text(encoding='utf-8')[-3000:]}\n{said(folder)}"
        rounds += 1
        assert outcome(folder) == undisturbed
        print(f"round {rounds}: {kills_of_round} kills, bit-identical")
        nobody_left(folder)
        if kills == kills_wanted:
            break
        start_over(folder)
        kills_of_round = 0
    # What a killed writer left disappears when the same file is written again, as all but the last checkpoint are.
    left = {path.name.rpartition(".")[0] for top in ("results", "resources") for path in (folder / top).rglob(".*")}
    assert left <= {".checkpoint.safetensors"}
    print(f"{rounds} complete rounds")
    assert run(folder, "-n", *TARGETS).stdout.count("Nothing to be done") == 1
