#!/usr/bin/env python3
"""Say how each cell of an experiment stands: waiting, running, interrupted, failed or done. Reads files only, from anywhere.

python scripts/status.py
python scripts/status.py --config config/demo.yaml
"""

import argparse
import json
import socket
import time
from collections import Counter
from pathlib import Path

from alexbench import configuration
from alexbench.files import check_open, run_program

# A run writes its progress every few seconds in training; loading, compiling and evaluating may take minutes without a word.
SILENT_SECONDS = 900
LOG_LINES = 3


def span(seconds: float) -> str:
    """A duration as a person says it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def ended(progress: dict, silent: float) -> bool:
    """Whether the process that wrote `progress` is no more, as far as files tell."""
    if progress.get("hostname") == socket.gethostname() and Path("/proc/self").exists():
        return not Path(f"/proc/{progress.get('pid')}").exists()
    return silent > SILENT_SECONDS


def state(run: Path, log: Path) -> tuple[str, str]:
    """A cell's state in a word, and what else there is to say of it."""
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


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--config", nargs="*", default=[], metavar="YAML", help="what was given to snakemake --configfile")
    args = p.parse_args(argv)
    config = configuration.load(*args.config)
    results = Path(config["results"])
    logs = Path("logs", *results.parts[1:])
    counts: Counter[str] = Counter()
    for framework in config["frameworks"]:
        for variant in config["variants"]:
            for seed in config["seeds"]:
                cell = Path("runs", framework, variant, f"seed{seed}")
                check_open("results", results / cell, (logs / cell).parent)
                word, detail = state(results / cell, logs / f"{cell}.log")
                counts[word] += 1
                print(f"{framework:<11} {variant:<19} seed {seed:<4} {word:<12} {detail}".rstrip())
    print(f"{counts.total()} cells: " + ", ".join(f"{count} {word}" for word, count in counts.most_common()))
    return 0


if __name__ == "__main__":
    run_program(main)
