"""What catalogues and readers of the repository look for."""

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
