"""`make` as a user types it: CONFIG may lie anywhere and have any name."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, SMALL, SNAKEMAKE

NAMES = ["/absolute/mine.yaml", "~/mine.yaml", "../my own.yaml", 'it\'s $x, "mine".yaml']


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of what `make` needs, with the .venv that runs the tests."""
    folder = tmp_path / "project"
    for name in ("config", "rules", "scripts", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    equip(folder)
    return folder


def equip(folder: Path) -> None:
    for name in ("Snakefile", "Makefile"):
        shutil.copy(ROOT / name, folder)
    (folder / ".venv").symlink_to(SNAKEMAKE.parents[1])


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run make in `folder`, whose parent is the user's home."""
    # Without the variables of a `make test` that runs this.
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "CONFIG", "CORES", "PROFILE")}
    command = ["make", "-o", ".venv/installed", *arguments]
    environment["HOME"] = str(folder.parent)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)


def named(folder: Path, name: str, config: dict) -> str:
    """Write `config` under a name that a user might give; returns CONFIG=..."""
    name = name.replace("/absolute", str(folder.parent))
    path = folder / name.replace("~", str(folder.parent))
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return f"CONFIG={name}"


@pytest.mark.parametrize("name", NAMES)
def test_status_finds_a_configuration_wherever_it_lies(project, name):
    done = make(project, "status", named(project, name, SMALL | {"seeds": [1, 2, 3]}))
    assert done.returncode == 0 and "6 runs: 6 waiting" in done.stdout and not done.stderr, done.stderr


@pytest.mark.parametrize("target", ["dag", "report", "status", "article", "tensorboard", "doctor", "prefetch"])
def test_a_configuration_that_is_not_to_be_had_ends_a_target_in_one_line(project, target):
    (project / "invalid.yaml").write_text("results: results/x\nseeds: no\n", encoding="utf-8")
    for config, says in (("no such.yaml", "no such.yaml cannot be read (No such file or directory)"), ("invalid.yaml", "config: seeds: ")):
        done = make(project, target, f"CONFIG={config}")
        assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stdout + done.stderr
        # Our line and make's own, and no further one even with several targets.
        assert len(done.stderr.splitlines()) == 2, done.stderr
    assert not (project / "results").exists()


def test_the_graphs_of_a_configuration_elsewhere_are_drawn_into_its_results(project):
    done = make(project, "dag", named(project, NAMES[-1], SMALL))
    assert done.returncode == 0, done.stderr
    made = {path.name for path in (project / "results/small").iterdir()}
    assert {"dag.mmd", "rulegraph.mmd"} <= made <= {"dag.mmd", "rulegraph.mmd", "dag.svg", "rulegraph.svg"}
    assert (project / "results/small/dag.mmd").read_text(encoding="utf-8").count("train") == 2


def test_the_report_of_a_configuration_elsewhere_is_made_in_its_results(finished, tmp_path):
    folder = tmp_path / "project"
    shutil.copytree(finished, folder)
    equip(folder)
    done = make(folder, "report", named(folder, "../my own.yaml", SMALL))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "results/small/report.html").stat().st_size > 0


def test_the_demo_trains_two_at_a_time_and_ends_with_its_table_and_the_file_to_open(project):
    demo = yaml.safe_load((project / "config/demo.yaml").read_text(encoding="utf-8"))
    assert demo["threads"] == 1
    told = make(project, "-n", "demo").stdout
    assert "--resources gpu=2" in told
    # Run the last two commands on what a demo leaves.
    results = project / demo["results"]
    results.mkdir(parents=True)
    (results / "table.md").write_text("the table\n", encoding="utf-8")
    makefile = (project / "Makefile").read_text(encoding="utf-8").replace("\tsnakemake --cores", "\t: --cores")
    (project / "Makefile").write_text(makefile, encoding="utf-8")
    done = make(project, "-s", "demo")
    assert (
        done.returncode == 0 and done.stdout == "the table\nOpen results/demo/article.html in a browser; everything else lies beside it.\n"
    )
