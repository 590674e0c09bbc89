"""What catalogues and readers expect to find in the repository."""

import argparse
import ast
import importlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from conftest import ROOT


def test_the_citation_names_what_the_licence_names():
    # `cffconvert --validate` was run once by hand: it needs an older jsonschema than Snakemake does.
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert {"cff-version", "message", "title", "authors", "license"} <= citation.keys() and citation["cff-version"] == "1.2.0"
    assert licence.startswith(f"{citation['license']} License") and citation["authors"][0]["name"] in licence
    assert (ROOT / "README.md").read_text(encoding="utf-8").startswith(f"# {citation['title']}\n")


def test_the_workflow_catalog_finds_what_it_shows():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text(encoding="utf-8"))["usage"]
    assert usage["software-stack-deployment"]["conda"] is True and list((ROOT / "envs").glob("*.yaml"))
    assert usage["software-stack-deployment"]["report"] is True and list((ROOT / "rules/captions").glob("*.rst"))
    assert (ROOT / "config/README.md").exists()


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_git_ignores_what_a_run_makes_also_where_it_is_a_link_to_a_larger_disk(tmp_path):
    names = ["results", "resources", "logs", "benchmarks", ".snakemake"]
    for kind in ("folders", "links"):
        checkout = tmp_path / kind
        checkout.mkdir()
        subprocess.run(["git", "init", "-q"], cwd=checkout, check=True)
        shutil.copy(ROOT / ".gitignore", checkout)
        for name in names:
            place = checkout / name if kind == "folders" else tmp_path / "disk" / name
            place.mkdir(parents=True)
            (place / "file").touch()
            if kind == "links":
                (checkout / name).symlink_to(place)
        done = subprocess.run(["git", "status", "--porcelain"], cwd=checkout, check=True, capture_output=True, text=True)
        assert done.stdout.split() == ["??", ".gitignore"]


class Parsed(Exception):
    """Raised once a program has understood its arguments."""


def examples() -> list[tuple[str, str]]:
    """Every example command in a program's --help, README.md or another document: the file, and the command in one line.

    Not those in CONTRIBUTING.md, which tests/test_workflow.py carries out to the letter.
    """
    texts = {path.name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in (ROOT / "scripts").glob("*.py")}
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "config").glob("*.md")]
    texts |= {path.name: path.read_text(encoding="utf-8") for path in documents}
    command = r"^ *(?:srun [^\n]*)?python (scripts/\w+\.py(?: [^\n]*)?)$"
    joined = {name: re.sub(r" *\\\n\s*", " ", text) for name, text in texts.items()}
    return [(name, found) for name, text in sorted(joined.items()) for found in re.findall(command, text, re.MULTILINE)]


@pytest.mark.parametrize(("place", "command"), examples())
def test_an_example_is_understood_by_its_program(place, command, monkeypatch, capsys):
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser, *arguments):
        parse(parser, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    program, *arguments = shlex.split(command.partition(" >")[0], comments=True)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises((Parsed, SystemExit)) as ended:
        importlib.import_module(program.removeprefix("scripts/").removesuffix(".py")).main()
    # --help exits with 0.
    assert ended.type is Parsed or ended.value.code == 0, f"{place}: {command}\n{capsys.readouterr().err}"


def test_every_program_shows_an_example():
    assert {path.name for path in (ROOT / "scripts").glob("*.py")} <= {place for place, _ in examples()}
