#!/usr/bin/env python3
"""Show the state of each run of an experiment (waiting, running, interrupted, failed or done), and of its SLURM jobs.

python scripts/status.py
python scripts/status.py --config config/demo.yaml
python scripts/status.py --watch

Without SLURM it only reads files, from any machine that sees them.
"""

import argparse
import csv
import io
import json
import socket
import time
from collections import Counter
from contextlib import redirect_stdout
from datetime import datetime
from pathlib import Path

from alexbench import paths
from alexbench.files import check_open, run_program
from alexbench.paths import RUN
from alexbench.workflow import configuration, slurm

# A run reports its progress every few seconds while it trains, but loading, compiling and evaluating may take minutes without a report.
SILENT_SECONDS = 900
LOG_LINES = 3


def span(seconds: float) -> str:
    """A duration in words, such as `2 h 05 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def ended(progress: dict, silent: float) -> bool:
    """Whether the process that wrote `progress` has ended, as far as files show."""
    if progress.get("hostname") == socket.gethostname() and Path("/proc/self").exists():
        return not Path(f"/proc/{progress.get('pid')}").exists()
    return silent > SILENT_SECONDS


def state(run: Path, log: Path) -> tuple[str, str]:
    """A run's state in one word, and the details."""
    if (run / "metrics.json").exists():
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        accuracy = "" if metrics["accuracy"] is None else f"accuracy {metrics['accuracy']:.4f}, "
        how = "" if metrics["status"] == "completed" else f"{metrics['status']}, "
        return "done", f"{how}{accuracy}trained {span(metrics['train_seconds'])}"
    if (run / "progress.json").exists():
        try:
            progress = json.loads((run / "progress.json").read_text(encoding="utf-8"))
            silent = time.time() - (run / "progress.json").stat().st_mtime
        except FileNotFoundError:  # it ended just now
            return state(run, log)
        where = f"job {progress['slurm_job_id']} on {progress['hostname']}" if progress.get("slurm_job_id") else progress["hostname"]
        if ended(progress, silent):
            kept = "goes on from its checkpoint" if (run / "checkpoint.safetensors").exists() else "starts again"
            return "interrupted", f"killed on {where}, silent for {span(silent)}; the same command {kept}"
        if progress["stage"] != "training":
            return "running", f"{progress['stage']} on {where}"
        return "running", (
            f"epoch {progress['epoch']} of {progress['epochs']}, {progress['images']:,} of {progress['epoch_images']:,} images, "
            f"{progress['images_per_second']:.0f} images/s, about {span(progress['seconds_left'])} left, on {where}"
        )
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if log.exists() else []
    if lines and lines[-1].startswith("interrupted by"):
        return "interrupted", lines[-1]
    if lines:
        return "failed", "\n".join(["", *(f"      {line}" for line in lines[-LOG_LINES:]), f"      ({log})"])
    return "waiting", ""


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; [] if it does not exist yet."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def live_jobs(results: Path) -> dict[tuple[str, str], slurm.Job]:
    """This experiment's live SLURM jobs, by rule and wildcards; a job of several is listed under each. Raises `slurm.NoAnswer`."""
    submitted = rows(results / "slurm_jobs.csv")
    if not submitted:
        return {}
    names = list(dict.fromkeys(row["run"] for row in submitted))[-50:]
    known = {job.id: job for job in slurm.jobs(f"--name={','.join(names)}")}
    live = [(row, known[row["job"]]) for row in submitted if row["job"] in known and known[row["job"]].live]
    return {(row["rule"], wildcards): job for row, job in live for wildcards in row["cell"].split() or [""]}


def of_job(job: slurm.Job, seconds_left: float | None = None) -> str:
    """What SLURM says of a live job, with a warning if its remaining time is known to be too short."""
    now = datetime.now()
    if job.state == "PENDING":
        since = f" for {span((now - job.submitted).total_seconds())}" if job.submitted else ""
        expected = f", expected to start {job.start:%d %b %H:%M}" if job.start and job.start > now else ""
        never = "; it can never start: scancel it, and see make doctor" if job.never else ""
        return f"job {job.id}, in the queue{since}: {slurm.in_words(job)}{expected}{never}"
    gpus = f"{job.gpus} GPU{'s' if job.gpus > 1 else ''} " if job.gpus else ""
    left = "" if job.minutes_left is None else f", {span(job.minutes_left * 60)} of its time left"
    short = seconds_left is not None and job.minutes_left is not None and seconds_left > job.minutes_left * 60
    return f"job {job.id}, {gpus}on {job.node or 'its node'}{left}" + (
        ": too little, a retry will go on from its checkpoint" if short else ""
    )


def costs(results: Path) -> str:
    """One line with the total cost of the jobs that have ended; empty if none has."""
    table = rows(results / "costs.csv")
    if not table:
        return ""

    def total(column: str) -> float:
        return sum(float(row[column] or 0) for row in table)

    return (
        f"{len(table)} SLURM jobs ended: {span(total('queue_seconds'))} in the queue, {span(total('seconds'))} at work, "
        f"{total('gpu_hours'):.1f} GPU hours used of {total('gpu_hours_asked'):.1f} asked for ({results / 'costs.csv'})"
    )


def show(config: dict) -> None:
    """Print one line per run, then the totals."""
    results, logs = Path(config["results"]), Path(paths.mirrored(config["results"], "logs"))
    check_open("results", results)
    silence = ""
    try:
        jobs = live_jobs(results)
    except slurm.NoAnswer as error:
        jobs, silence = {}, f"SLURM does not answer ({error}): from files alone"
    sizes = Counter(job.id for job in jobs.values())
    counts: Counter[str] = Counter()
    for framework in config["frameworks"]:
        for variant in config["variants"]:
            for seed in config["seeds"]:
                run = RUN.format(framework=framework, variant=variant, seed=seed)
                check_open("results", results / run, (logs / run).parent)
                word, detail = state(results / run, logs / f"{run}.log")
                job = jobs.pop(("train", f"{framework}/{variant}/{seed}"), None)
                if job and word != "done":
                    if word in ("failed", "interrupted") and job.state == "PENDING":
                        # The last attempt ended this way; the next one is in the queue.
                        detail = f"{of_job(job)}; before: {word}"
                        word = "waiting"
                    else:
                        detail = f"{detail}; {of_job(job, time_needed(results / run))}".removeprefix("; ")
                    if sizes[job.id] > 1:
                        detail += f" (one job of {sizes[job.id]} runs)"
                counts[word] += 1
                print(f"{framework:<11} {variant:<19} seed {seed:<4} {word:<12} {detail}".rstrip())
    # Jobs other than the grid's trainings, one line each.
    besides: dict[tuple[str, slurm.Job], list[str]] = {}
    for (rule, wildcards), job in jobs.items():
        besides.setdefault((rule, job), []).append(wildcards)
    for (rule, job), made in besides.items():
        what = made[0] if len(made) == 1 else f"{made[0]} and {len(made) - 1} more"
        print(f"{rule:<43} {'waiting' if job.state == 'PENDING' else 'running':<12} {of_job(job)} {what}".rstrip())
    print(f"{counts.total()} runs: " + ", ".join(f"{count} {word}" for word, count in counts.most_common()))
    for line in (costs(results), silence):
        if line:
            print(line)


def time_needed(run: Path) -> float | None:
    """Seconds that a training still expects to need; None if it does not say."""
    try:
        return json.loads((run / "progress.json").read_text(encoding="utf-8")).get("seconds_left")
    except (OSError, ValueError):
        return None


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", nargs="*", default=[], metavar="YAML", help="configuration files, as for snakemake --configfile")
    p.add_argument(
        "--watch", nargs="?", type=float, const=30.0, metavar="SECONDS", help="repeat every SECONDS (30 if not given) until Ctrl-C"
    )
    args = p.parse_args(argv)
    config = configuration.load(*args.config)
    while args.watch is not None:
        text = io.StringIO()
        with redirect_stdout(text):
            show(config)
        # Move the cursor home and clear the screen before the new text.
        print(f"\033[H\033[J{datetime.now():%H:%M:%S}\n{text.getvalue()}", end="", flush=True)
        try:
            time.sleep(max(1.0, args.watch))
        except KeyboardInterrupt:
            return 0
    show(config)
    return 0


if __name__ == "__main__":
    run_program(main)
