"""What a repository shows about its runs is what those runs say: anyone can compute it again."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

import keep_runs
import prepare_data
import publish
from alexbench.experiment import datasets
from alexbench.files import InputError
from conftest import IMAGES, ROOT
from test_article import write_grid

PUBLISHED = ROOT / "docs" / "results"
README = "before\n<!-- published: original -->\nold\n<!-- end -->\nbetween\n<!-- published: precision -->\n<!-- end -->\nafter\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with kept runs of two campaigns, and a README to fill in."""
    monkeypatch.chdir(tmp_path)
    datasets.save(IMAGES, tmp_path / "cifar10.npz")
    for name, step in (("mod", 0.01), ("mod_fp32", 0.02)):

        def accuracy(framework, variant, seed, step=step) -> dict:
            return {"accuracy": 0.6 + step * seed}

        write_grid(tmp_path / "results" / name, accuracy, hostname="somebodys-laptop", dataset="cifar10")
        keep_runs.main(["--results", f"results/{name}", "--output", f"docs/results/{name}"])
    for document in publish.DOCUMENTS:
        document.parent.mkdir(exist_ok=True)
        document.write_text(README, encoding="utf-8")
    return tmp_path


def test_what_is_kept_is_whole_and_names_no_machine(project, capsys):
    kept = sorted(Path("docs/results/mod").rglob("*.*"))
    assert [path.name for path in kept] == 12 * ["history.csv", "metrics.json", "predictions.npz"]
    assert not any("somebodys-laptop" in path.read_text(encoding="utf-8") for path in kept if path.suffix == ".json")
    keep_runs.main(["--results", "results/mod", "--output", "docs/results/mod"])
    assert capsys.readouterr().out.count("is kept already") == 12
    with pytest.raises(InputError, match="holds no run that has ended"):
        keep_runs.main(["--results", "nowhere", "--output", "docs/results/mod"])


def test_the_readme_shows_what_the_runs_say(project):
    publish.main(["--data", "cifar10.npz", "--tables"])
    text = Path("README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n") and "\nbetween\n" in text and text.endswith("\nafter\n") and "old" not in text
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["PyTorch", "AlexNet mod. (32)", "0.6370", "0.6200 ± 0.0100", "3", "-0.0170", "0.5703 to 0.6697", "within"] in rows
    assert ["PyTorch", "AlexNet pretrained", "0.7809", "not run yet", "–", "–", "–", "–"] in rows
    assert ["TensorFlow", "0.6200", "0.6400", "-0.0200", "-0.0446 to +0.0046", "1, 2, 3"] in rows
    publish.main(["--data", "cifar10.npz", "--tables"])
    assert Path("README.md").read_text(encoding="utf-8") == text


def test_one_run_of_each_cell_has_no_column_for_what_takes_two(project):
    for path in [*Path("docs/results").glob("*/runs/*/*/seed*")]:
        if path.name != "seed1":
            shutil.rmtree(path)
    publish.main(["--data", "cifar10.npz", "--tables"])
    text = Path("README.md").read_text(encoding="utf-8")
    assert "Difference |" in text and "Next run" not in text and "Original lies" not in text


def test_a_mark_that_nothing_is_made_for_is_named(project):
    Path("README.md").write_text("<!-- published: weather -->\n<!-- end -->\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"README\.md marks 'weather'; there are original, precision"):
        publish.main(["--data", "cifar10.npz", "--tables"])


@pytest.mark.slow
def test_figures_and_pages_in_both_languages_are_made_of_the_kept_runs(project):
    shutil.rmtree("docs/results/mod_fp32")
    publish.main(["--data", "cifar10.npz"])
    made = {str(path.relative_to("docs/results/mod")) for path in Path("docs/results/mod").rglob("*") if path.suffix in (".png", ".pdf")}
    figures = ("architectures", "calibration", "clocks", "intervals", "learning", "time_to_accuracy", "tradeoff")
    assert made == {"article.en.pdf", "article.es.pdf", *(f"figures/{name}.png" for name in figures)}
    assert "hostname" not in Path("docs/results/mod/environment.json").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(not any(PUBLISHED.glob("*/runs")), reason="no run is kept yet")
def test_every_published_number_can_be_computed_again(tmp_path, monkeypatch):
    if not os.environ.get("CIFAR10"):
        pytest.skip("needs CIFAR-10: CIFAR10=FOLDER, which holds cifar-10-batches-py")
    prepare_data.main(["cifar10", "--archive", os.environ["CIFAR10"], "--output", str(tmp_path / "cifar10.npz")])
    for runs in PUBLISHED.glob("*/runs"):
        shutil.copytree(runs, tmp_path / runs.relative_to(ROOT))
    for document in publish.DOCUMENTS:
        (tmp_path / document).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / document, tmp_path / document)
    monkeypatch.chdir(tmp_path)
    publish.main(["--data", "cifar10.npz", "--tables"])
    tables = list(PUBLISHED.glob("*/*.csv"))
    assert {path.parent for path in tables} == {path.parent for path in PUBLISHED.glob("*/runs")}
    for path in tables:
        again = pd.read_csv(path.relative_to(ROOT))
        pd.testing.assert_frame_equal(again, pd.read_csv(path), rtol=1e-9)
    for document in publish.DOCUMENTS:
        assert document.read_text(encoding="utf-8") == (ROOT / document).read_text(encoding="utf-8")
