"""What CONTRIBUTING.md and docs/module.md tell people to do works to the letter."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd

from conftest import CONDA, ROOT, SMALL, SNAKEMAKE, planned, snakemake

MODULE_PAGE = (ROOT / "docs/module.md").read_text(encoding="utf-8")


# What is new is told in Spanish too.
CATALOGUE = "test_article.py::test_the_spanish_catalogue_has_every_message_and_no_other"


def follow(document: Path, heading: str, folder: Path) -> None:
    """Carry out a section's code blocks in `folder`: Python and YAML go into the file named before them, shell is run."""
    section = document.read_text(encoding="utf-8").partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    environment = os.environ | {"PATH": f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"}
    for before, language, code in re.findall(r"([^\n]*)\n\n```(\w+)\n(.*?)```", section, re.DOTALL):
        if language == "sh":
            done = subprocess.run(
                ["bash", "-e", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
            )
            assert done.returncode == 0, f"{code}\n{done.stderr[-3000:]}"
        else:
            with (folder / re.findall(r"`([^`]+)`", before)[-1]).open("a", encoding="utf-8") as file:
                file.write(f"\n{code}")


def assert_tests_pass(folder: Path, *names: str) -> None:
    """Run these test files, without the slow tests, in `folder`, a changed copy of the workflow."""
    for path in ROOT.iterdir():
        if path.is_dir() and path.name in ("tests", "docs", "profiles"):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif path.is_file() and not (folder / path.name).exists():
            shutil.copy(path, folder)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *(f"tests/{name}" for name in names)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_framework_is_one_file_and_one_word(finished, tmp_path):
    """Follows CONTRIBUTING.md to the letter: a backend, an environment, a word in the configuration; no rule, loop or plot changes."""
    folder = tmp_path / "extended"
    shutil.copytree(finished, folder)
    follow(ROOT / "CONTRIBUTING.md", "## A new framework", folder)
    results = folder / "results/another"
    assert pd.read_csv(results / "table.csv").framework_title.tolist() == ["PyTorch", "Another"]
    assert "another" in (results / "parity/alexnet_mod.md").read_text(encoding="utf-8")
    # It is PyTorch under another name, so the same seed gives the same network.
    first, second = (
        json.loads((results / f"runs/{name}/alexnet_mod/seed1/metrics.json").read_text(encoding="utf-8")) for name in ("pytorch", "another")
    )
    assert first["loss"] == second["loss"]
    jobs = planned(snakemake(folder, "-n", config=SMALL | {"frameworks": ["pytorch", "tensorflow", "another"]}))
    assert jobs["train"] == 1
    # Every test of a framework then includes this one; here, run those for what all frameworks share.
    documented = "test_execution.py::test_the_documentation_says_what_is_in_the_fast_step"
    assert_tests_pass(folder, "test_environments.py", "test_configuration.py", documented)


def test_a_variant_is_one_entry_and_one_word(finished, tmp_path):
    """Follows CONTRIBUTING.md to the letter."""
    folder = tmp_path / "extended"
    shutil.copytree(finished, folder)
    follow(ROOT / "CONTRIBUTING.md", "## A new variant", folder)
    results = folder / "results/lenet"
    assert pd.read_csv(results / "table.csv")[["framework", "variant"]].values.tolist() == [["pytorch", "lenet"], ["tensorflow", "lenet"]]
    assert (results / "parity/lenet.md").exists()
    done = snakemake(folder, "-n", config=SMALL | {"variants": ["alexnet_mod", "lenet"]})
    trained = re.findall(r"rule train:.*?wildcards: ([^\n]*)", done.stdout, re.DOTALL)
    assert planned(done)["train"] == len(trained) == 2 and all("variant=lenet" in wildcards for wildcards in trained)
    assert_tests_pass(folder, CATALOGUE)


def test_a_data_set_is_one_module(finished, tmp_path):
    """Follows CONTRIBUTING.md to the letter; trainings on other data are kept."""
    folder = tmp_path / "extended"
    shutil.copytree(finished, folder)
    follow(ROOT / "CONTRIBUTING.md", "## A new data set", folder)
    runs = pd.read_csv(folder / "results/stripes/runs.csv")
    assert runs.dataset.tolist() == ["stripes"] and runs.train_images.tolist() == [200]
    assert "Stripes" in (folder / "results/stripes/article.html").read_text(encoding="utf-8")
    assert "train" not in planned(snakemake(folder, "-n", "results/small/table.md", config=SMALL))
    assert_tests_pass(folder, "test_configuration.py", "test_environments.py", CATALOGUE)


def test_a_figure_is_a_program_and_a_rule(finished, tmp_path):
    """Follows CONTRIBUTING.md to the letter; nothing is trained for it."""
    folder = tmp_path / "extended"
    shutil.copytree(finished, folder)
    follow(ROOT / "CONTRIBUTING.md", "## A new figure", folder)
    assert all((folder / f"results/small/figures/scatter.{suffix}").stat().st_size > 1000 for suffix in ("png", "svg"))
    jobs = planned(snakemake(folder, "-n", config=SMALL))
    assert "plot_scatter" not in jobs and "train" not in jobs
    rules = [
        f"test_workflow.py::{name}" for name in ("test_lint_has_nothing_to_say", "test_only_what_trains_or_measures_is_a_job_of_a_cluster")
    ]
    assert_tests_pass(folder, "test_conventions.py", "test_environments.py", *rules)


def test_another_workflow_uses_this_one_as_a_module(project, tmp_path):
    """Follows docs/module.md to the letter; the other workflow has its own folder, configuration and rules."""
    outer = tmp_path / "outer"
    outer.mkdir()
    project.rename(outer / "alexnet")
    code = MODULE_PAGE.partition("```python\n")[2].partition("```")[0]
    (outer / "Snakefile").write_text(code, encoding="utf-8")
    done = snakemake(outer, "-c2", "best")
    assert done.returncode == 0, done.stderr[-3000:]
    best = (outer / "results/best.csv").read_text(encoding="utf-8")
    assert ",alexnet_mod," in best and "localrules directive" not in done.stderr and "localrule alexnet_dataset:" in done.stderr
    assert not list((outer / "alexnet").rglob("metrics.json")) and (outer / "logs/alexnet/collect.log").exists()
    assert {path.name for path in outer.iterdir()} - {".snakemake"} == {
        "Snakefile",
        "alexnet",
        "results",
        "logs",
        "benchmarks",
        "resources",
    }
    # Figures are planned too; what the configuration leaves out comes from config.yaml.
    assert planned(snakemake(outer, "-n", "alexnet_all"))["alexnet_plot_classes"] == 2
    (outer / "Snakefile").write_text(code.replace('"epochs": 1', '"epochs": 0'), encoding="utf-8")
    assert "config: recipe.epochs: 0 is out of range" in snakemake(outer, "-n").stderr


MODULES = """
FIRST = {
    "results": "results/first",
    "variants": ["alexnet_mod"],
    "frameworks": ["pytorch"],
    "seeds": [1],
    "data": {"dataset": "digits", "archive": "cifar.tar.gz", "train_limit": 40, "test_limit": 20},
    "weights": {"source": "alexnet.pth", "sha256": None},
}
SECOND = FIRST | {
    "results": "results/second",
    "variants": ["alexnet_pretrained"],
    "frameworks": ["tensorflow"],
    "weights": {"source": "alexnet.pth", "sha256": None, "classifier": "fresh"},
}
THIRD = SECOND | {"results": "results/third", "data": {"archive": "cifar.tar.gz"}}


module first:
    snakefile:
        "alexnet/Snakefile"
    config:
        FIRST


module second:
    snakefile:
        "alexnet/Snakefile"
    config:
        SECOND


module third:
    snakefile:
        "alexnet/Snakefile"
    prefix:
        "elsewhere"
    config:
        THIRD


use rule * from first as first_*


use rule * from second exclude dataset, weights as second_*


use rule * from third as third_*
"""


def test_one_workflow_uses_several_modules_and_a_prefix(project, tmp_path):
    """Two modules share data and weights that one of them prepares; a third has its own folder. Local files stay where they are."""
    outer = tmp_path / "outer"
    outer.mkdir()
    project.rename(outer / "alexnet")
    for name, text in (("Snakefile", MODULES), ("cifar.tar.gz", "archive"), ("alexnet.pth", "weights")):
        (outer / name).write_text(text, encoding="utf-8")
    extra = [f"{name}_{target}" for name in ("first", "second", "third") for target in ("all", "parity", "speed")]
    done = snakemake(outer, "-n", "-p", *extra)
    jobs = planned(done)
    assert (jobs["first_train"], jobs["second_train"], jobs["third_train"]) == (1, 1, 1)
    assert (jobs["first_dataset"], jobs["first_weights"], jobs["third_dataset"], jobs["third_weights"]) == (1, 1, 1, 1)
    told = {re.search(r"--output (\S+)", line)[1]: line for line in done.stdout.splitlines() if re.search(r"scripts/(prepare|train)", line)}
    fresh = "resources/weights/alexnet_pretrained-fresh.safetensors"
    train = "results/second/runs/tensorflow/alexnet_pretrained/seed1"
    assert f"--data resources/data/digits.npz --weights={fresh}" in told[train]
    assert "--classifier fresh" in told[fresh] and "--source=alexnet.pth" in told[fresh]
    train = "elsewhere/results/third/runs/tensorflow/alexnet_pretrained/seed1"
    assert f"--data elsewhere/resources/data/cifar10.npz --weights=elsewhere/{fresh}" in told[train]
    assert "--archive cifar.tar.gz" in told["elsewhere/resources/data/cifar10.npz"]
    assert "--source=alexnet.pth" in told[f"elsewhere/{fresh}"]
    # Rules are left out by their own names; what the others ask for then comes from another module, or exists already.
    for rules in ("all", "collect", "equal_time, train_as_long", "write_article, print_article"):
        code = MODULES.replace("from third as", f"from third exclude {rules} as")
        (outer / "Snakefile").write_text(code, encoding="utf-8")
        assert planned(snakemake(outer, "-n", "third_parity"))["third_measure_parity"] == 1


def test_an_image_with_every_environment_can_be_described(project, tmp_path):
    """The command of docs/module.md. Snakemake asks conda only where it is installed."""
    command = next(line.split(">")[0].split() for line in MODULE_PAGE.splitlines() if "--containerize" in line)
    conda = tmp_path / "bin/conda"
    conda.parent.mkdir()
    conda.write_text(CONDA, encoding="utf-8")
    conda.chmod(0o755)
    environment = os.environ | {"PATH": os.pathsep.join([str(conda.parent), str(SNAKEMAKE.parent), os.environ["PATH"]])}
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    for path in (project / "envs").glob("*.yaml"):
        assert f"COPY envs/{path.name} " in done.stdout
