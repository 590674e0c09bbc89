"""What catalogues and readers of the repository look for."""

import shutil
import subprocess

import pytest
import yaml

from conftest import ROOT


def test_the_citation_names_what_the_licence_names():
    # `cffconvert --validate` was run on it; that program wants an older jsonschema than Snakemake does.
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
