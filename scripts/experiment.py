#!/usr/bin/env python3
"""Run Snakemake for one configuration from the project's folder; `make article`, `make report` and others call this.

python scripts/experiment.py article --config config/demo.yaml --cores 2
python scripts/experiment.py report --config config/demo.yaml

dag draws the graphs of jobs and rules; report writes one HTML file, with speed, parity and equal_time if they were run; tensorboard
shows learning curves; anything else is passed to Snakemake as a target.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from alexbench.files import InputError, replacing, run_program
from alexbench.workflow import configuration

STYLE = "rules/captions/report.css"
# Targets that the report includes if they were made.
PAGES = ("speed", "parity", "equal_time")
NO_GRAPHVIZ = "needs Graphviz (apt-get install graphviz); {} shows on mermaid.live and in Markdown on many sites"


def command(name: str) -> str:
    """The path of a program that is installed beside this Python or on PATH."""
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if not found:
        raise InputError(f"{name} is not installed for {sys.executable}; make .venv installs it")
    return found


def become(name: str, *arguments: str | Path) -> NoReturn:
    """Replace this process with another program, which then receives its signals and decides its exit status."""
    os.execv(command(name), [name, *map(str, arguments)])


def draw(results: Path, *snakemake: str | Path) -> int:
    """Write dag and rulegraph as .mmd and, if Graphviz is installed, as .svg."""

    def said(*program: str | Path, given: bytes | None = None) -> bytes:
        done = subprocess.run(program, input=given, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            raise InputError(f"dag: {Path(program[0]).name} ended with status {done.returncode}; what it said stands above")
        return done.stdout

    for graph in ("dag", "rulegraph"):

        def drawn(language: str, graph: str = graph) -> bytes:
            return said(command("snakemake"), *snakemake, "--quiet", "all", "--forceall", f"--{graph}", language)

        made = {results / f"{graph}.mmd": drawn("mermaid-js")}
        if shutil.which("dot"):
            made[results / f"{graph}.svg"] = said("dot", "-Tsvg", given=drawn("dot"))
        for path, content in made.items():
            with replacing(path) as temporary:
                temporary.write_bytes(content)
            print(path)
        if len(made) == 1:
            print(f"{graph}.svg {NO_GRAPHVIZ.format(f'{graph}.mmd')}")
    return 0


def main(argv: list[str] | None = None) -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", metavar="WHAT", help="dag, report, tensorboard, or a target such as article, prefetch, speed, all")
    p.add_argument("--config", nargs="*", default=[], metavar="YAML", help="configuration files, as for snakemake --configfile")
    p.add_argument("--cores", default="all", metavar="N", help="CPU cores for Snakemake (%(default)s)")
    args = p.parse_args(argv)
    paths = configuration.paths(args.config)
    results = Path(configuration.load(*paths)["results"])
    snakemake = ["--configfile", *paths] if paths else []
    if args.what == "dag":
        return draw(results, *snakemake)
    if args.what == "tensorboard":
        become("tensorboard", "--logdir", results)
    if args.what == "report":
        made = [name for name in PAGES if (results / "pages" / name).exists() or (results / "pages" / f"{name}.html").exists()]
        become("snakemake", *snakemake, "--report", results / "report.html", "--report-stylesheet", STYLE, "all", *made)
    become("snakemake", *snakemake, "--cores", args.cores, args.what)


if __name__ == "__main__":
    run_program(main)
