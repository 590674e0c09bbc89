"""kill -9 at random moments of a whole study, and the same command again: the results are those of a run that nobody disturbed."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from small_study import ENVIRONMENT, command, copy_of_workflow, finished_files, outcome, run, said, succeed, whole

pytestmark = [pytest.mark.fault, pytest.mark.slow]

KILLS = int(os.environ.get("FAULT_KILLS", "50"))
SEED = int(os.environ.get("FAULT_SEED", "20261124"))
# Who is killed: a node goes down with all that runs on it; Snakemake goes and its jobs live on; one job goes.
VICTIMS = ("everything", "Snakemake", "a job")
# Every stage, and two of the figures: enough for plotting to be met.
TARGETS = [f"results/small/{name}" for name in ("table.csv", "figures/learning.png", "figures/samples.png")]


def start_over(folder: Path) -> None:
    for name in ("results", "resources", "logs", "benchmarks", ".snakemake"):
        shutil.rmtree(folder / name, ignore_errors=True)


def kill(process: subprocess.Popen, victim: str, draw: random.Random) -> str:
    """Kill -9; returns what the victim was at."""
    children = psutil.Process(process.pid).children(recursive=True)
    programs = [child for child in children if (line := _line(child)) and "/scripts/" in f"/{line[1]}" and line[1].endswith(".py")]
    at = sorted({Path(_line(child)[1]).name for child in programs if _line(child)})
    if victim == "a job" and programs:
        draw.choice(programs).kill()
    else:
        process.send_signal(signal.SIGSTOP)  # so that it starts nothing while its children are listed
        doomed = psutil.Process(process.pid).children(recursive=True) if victim == "everything" else []
        process.kill()
        for child in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()
    return ", ".join(at) or "Snakemake alone"


def _line(process: psutil.Process) -> list[str]:
    try:
        line = process.cmdline()
        return line if len(line) > 1 and Path(line[0]).name.startswith("python") else []
    except psutil.NoSuchProcess:
        return []


def nobody_left(folder: Path) -> None:
    """Wait for what outlived its Snakemake; it writes into the folder that is to be deleted."""
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder):
                process.wait(120)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def test_killed_at_random_moments_it_ends_as_if_it_had_not_been(tmp_path):
    folder = copy_of_workflow(tmp_path / "study")
    started = time.monotonic()
    succeed(folder, *TARGETS)
    length = time.monotonic() - started
    undisturbed = outcome(folder)
    print(f"seed {SEED}, {KILLS} kills, an undisturbed run takes {length:.1f} s")

    draw = random.Random(SEED)
    start_over(folder)
    kills = rounds = kills_of_round = 0
    while True:
        moment, victim = draw.uniform(0, length), draw.choice(VICTIMS)
        with (folder / "snakemake.out").open("w") as out:
            process = subprocess.Popen(command(*TARGETS), cwd=folder, env=ENVIRONMENT, stdout=out, stderr=out)
            try:
                status = process.wait(moment if kills < KILLS else None)
            except subprocess.TimeoutExpired:
                at = kill(process, victim, draw)
                kills, kills_of_round = kills + 1, kills_of_round + 1
                print(f"kill {kills}: {victim} at {moment:.1f} s, during {at}")
                for path in finished_files(folder):
                    whole(path)
                continue
        assert status == 0, f"{(folder / 'snakemake.out').read_text()[-3000:]}\n{said(folder)}"
        rounds += 1
        assert outcome(folder) == undisturbed
        print(f"round {rounds}: {kills_of_round} kills, bit-identical")
        nobody_left(folder)
        if kills == KILLS:
            break
        start_over(folder)
        kills_of_round = 0
    leftovers = [path for path in folder.rglob(".*") if path.is_file() and ".snakemake" not in path.parts]
    print(f"{rounds} complete rounds; left over: {[str(path.relative_to(folder)) for path in leftovers]}")
    assert run(folder, "-n", *TARGETS).stdout.count("Nothing to be done") == 1
