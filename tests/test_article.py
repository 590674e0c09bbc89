"""The article, in both languages, says what the runs say and no more, and needs no other file; so does its PDF."""

import io
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import yaml
from babel.messages import pofile
from babel.messages.extract import extract_from_dir

import collect
import compare
import plot_architectures
import plot_clocks
import plot_intervals
import plot_learning
import plot_samples
import print_page
import write_article
import write_page
from alexbench.analysis import results_table
from alexbench.experiment import datasets, variants
from alexbench.files import InputError
from alexbench.writing import charts, pages
from alexbench.writing.language import Language
from conftest import IMAGES, ROOT, write_run

TITLES = {"pytorch": "PyTorch", "tensorflow": "TensorFlow", "alexnet_mod": "AlexNet mod. (32)", "alexnet": "AlexNet (224)"}
OWN = {
    "pytorch": {"initialisation": "torch", "adam_epsilon": "torch"},
    "tensorflow": {"initialisation": "keras", "adam_epsilon": "keras"},
}


def write_grid(folder, change, seeds=(1, 2, 3), **common) -> list[str]:
    """Write runs of two frameworks and variants, with `change(framework, variant, seed)` in their metrics. Returns collect.py's options."""
    for framework in ("pytorch", "tensorflow"):
        for variant in ("alexnet_mod", "alexnet"):
            for seed in seeds:
                metrics = {"framework": framework, "framework_title": TITLES[framework]}
                metrics |= {"variant": variant, "variant_title": TITLES[variant], "seed": seed, "train_limit": None, "test_limit": None}
                metrics |= {"recipe": {"epochs": 2, **OWN[framework]}, **common, **change(framework, variant, seed)}
                write_run(folder / "runs" / framework / variant / f"seed{seed}", **metrics)
    return ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "alexnet", "--seeds", *map(str, seeds)]


def draw_figures(folder, data, language: str) -> None:
    """Draw the page's figures, each with its own program."""
    runs, figures, said = ["--runs", str(folder / "runs.csv")], folder / "figures", ["--language", language]
    plot_samples.main(["--data", str(data), *said, "--output", str(figures / "samples.png")])
    plot_architectures.main(["--variants", "alexnet_mod", "alexnet", *said, "--output", str(figures / "architectures.png")])
    plot_intervals.main([*runs, "--table", str(folder / "table.csv"), *said, "--output", str(figures / "intervals.png")])
    plot_learning.main([*runs, *said, "--output", str(figures / "learning.png")])
    plot_clocks.main([*runs, *said, "--output", str(figures / "clocks.png")])


def page(folder, data, grid: list[str], language: str = "en", figures=None) -> str:
    """The page of a folder of runs, made by its programs. `figures`: those of other runs, for pages whose figures do not matter."""
    collect.main(["--results", str(folder), *grid])
    compare.main(["--runs", str(folder / "runs.csv"), "--data", str(data), "--output", str(folder)])
    if figures:
        shutil.copytree(figures, folder / "figures")
    else:
        draw_figures(folder, data, language)
    write_article.main(["--results", str(folder), "--data", str(data), "--language", language, "--output", str(folder / "article.html")])
    return (folder / "article.html").read_text(encoding="utf-8")


def words(html: str) -> str:
    """The text of a page as a reader sees it: no tags, scripts or figures, one space between words."""
    body = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).replace("&nbsp;", " ").replace("\xa0", " ").split()).replace(" .", ".").replace(" ,", ",")


def spread(framework, seed) -> int:
    """1 to 3, with the same mean in both frameworks but not the same value for each seed."""
    return seed if framework == "pytorch" else {1: 3, 2: 1, 3: 2}[seed]


def slower_tensorflow(framework, variant, seed) -> dict:
    """TensorFlow takes twice as long; PyTorch is better on the small network."""
    better = 0.05 if (framework, variant) == ("pytorch", "alexnet_mod") else 0
    seconds = (200 if framework == "tensorflow" else 100) + spread(framework, seed)
    return {"train_seconds": seconds, "accuracy": 0.6 + better + 0.001 * spread(framework, seed)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images under CIFAR-10's name, so that the page shows the original study's numbers beside them."""
    path = tmp_path_factory.mktemp("data") / "cifar10.npz"
    datasets.save(IMAGES, path)
    return path


@pytest.fixture(scope="module")
def figures(tmp_path_factory, data):
    """Figures of some runs, for pages whose figures do not matter."""
    folder = tmp_path_factory.mktemp("figures")
    collect.main(["--results", str(folder), *write_grid(folder, slower_tensorflow, seeds=(1,))])
    draw_figures(folder, data, "en")
    return folder / "figures"


@pytest.fixture(scope="module", params=["en", "es"])
def made(request, tmp_path_factory, data):
    """Language, folder and page of a grid in which TensorFlow is slower and one cell lost two runs."""
    folder = tmp_path_factory.mktemp(request.param)

    def change(framework, variant, seed) -> dict:
        lost = {"status": "collapsed"} if (framework, variant) == ("tensorflow", "alexnet") and seed < 3 else {}
        return slower_tensorflow(framework, variant, seed) | lost

    return request.param, folder, page(folder, data, write_grid(folder, change), request.param)


class Links(HTMLParser):
    """What a page contains: addresses, ids, and images without a text alternative."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses, self.ids, self.silent = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes) -> None:
        found = dict(attributes)
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        self.ids += [found["id"]] if "id" in found else []
        if tag == "img" and not found.get("alt"):
            self.silent.append(found)


def test_the_page_needs_nothing_but_itself(made):
    _, _, html = made
    links = Links(re.sub(r"<script\b.*?</script>", "", html, flags=re.DOTALL))
    assert all(address.startswith(("data:", "#")) for address in links.addresses)
    targets = [address[1:] for address in links.addresses if address.startswith("#")]
    assert len(targets) >= 11 and set(targets) <= set(links.ids) and len(links.ids) == len(set(links.ids))
    assert links.silent == [] and html.count("data:image/png") == 5
    assert "window.vegaEmbed=" in html and len(html) < 5_000_000


def test_who_is_ahead_is_said_by_the_runs(made):
    language, _, html = made
    text = words(html)
    if language == "en":
        assert re.search(r"TensorFlow, AlexNet mod. \(32\) takes 1.98 \(1.9\d to \d.\d\d\) times as long as PyTorch", text)
        assert "PyTorch, AlexNet mod. (32) is faster." in text and "Here the order is reversed." in text
        assert "PyTorch is the fastest on AlexNet mod. (32). No framework is shown to be the fastest on AlexNet (224)." in text
        assert "PyTorch is the most accurate on AlexNet mod. (32)." in text
        assert "to train (n = 1 and 3), but without an interval there is no verdict." in text and "2 collapsed" in text
        assert "Each framework follows its own defaults" in text and "4,539,786" in text
        assert "differs from the original study’s (epochs 2 instead of 15)." in text
    else:
        assert ": PyTorch, AlexNet mod. (32) es más rápido." in text and "Aquí el orden es el inverso." in text
        assert "PyTorch es el más rápido en AlexNet mod. (32)." in text and "colapsadas: 2" in text
        assert "4.539.786" in text and "1,98" in text


def test_the_other_way_round_and_alike(tmp_path, data, figures):
    def change(framework, variant, seed) -> dict:
        slow = (framework, variant) == ("pytorch", "alexnet_mod")
        return {"train_seconds": (200 if slow else 100) + spread(framework, seed), "accuracy": 0.6 + 0.01 * spread(framework, seed)}

    text = words(page(tmp_path, data, write_grid(tmp_path, change), figures=figures))
    assert "TensorFlow is the fastest on AlexNet mod. (32). No framework is shown to be the fastest on AlexNet (224)." in text
    assert "No framework is shown to be the most accurate on AlexNet mod. (32) and AlexNet (224)." in text
    assert "is more accurate than" not in text and "Here the order is the same." in text


def test_one_run_is_no_verdict(tmp_path, data, figures):
    text = words(page(tmp_path, data, write_grid(tmp_path, slower_tensorflow, seeds=(1,)), figures=figures))
    assert text.count("without an interval there is no verdict") == 8
    for claim in ("is faster", "is the fastest", "is more accurate", "is less accurate", "is the most accurate"):
        assert claim not in text
    assert "McNemar’s exact test" in text and "The accuracy interval of a single run is over the test images." in text


def test_the_original_stands_beside_its_own_data_only(tmp_path, data, figures):
    text = words(page(tmp_path, data, write_grid(tmp_path, slower_tensorflow, dataset="digits"), figures=figures))
    assert "Comparison with the original study" not in text and "In the original study," not in text and "Diamonds" not in text


def test_the_originals_experiment_is_known_as_such_and_as_controlled(tmp_path, data, figures):
    recipe = {"epochs": 15, "initialisation": "torch", "adam_epsilon": "torch"}
    grid = write_grid(tmp_path, lambda f, v, s: slower_tensorflow(f, v, s) | {"recipe": recipe})
    text = words(page(tmp_path, data, grid, figures=figures))
    assert (
        "The data, networks and recipe are the original study’s" in text
        and "Precision differs" not in text
        and "contain 0 of the original study’s 4 accuracies" in text
    )
    assert "The comparison is controlled" in text and "follows its own defaults" not in text


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"recipe.initialisation": "he"}, ""),
        ({"dataset": "digits", "train_images": 1437}, "data digits instead of cifar10; training images 1,437 instead of 50,000"),
        ({"recipe.epochs": [15, 30]}, "epochs 15 or 30 instead of 15"),
        ({"recipe.flips": True, "recipe.weight_decay": 0.05}, "weight decay 0.05 instead of 0; random mirroring yes instead of no"),
        ({"settings.precision": "bf16"}, "precision bf16 instead of fp32"),
        ({"recipe.epochs": [15, None]}, "epochs 15 or not recorded instead of 15"),
        ({"recipe.epochs": ["15", "15"], "recipe.learning_rate": "0.001"}, ""),
    ],
)
def test_what_differs_from_the_original_is_named(changes, says):
    """And it is another experiment, unless only the way of computing differs."""
    runs = pd.DataFrame([results_table.ORIGINAL_EXPERIMENT] * 2).assign(**changes)
    assert write_article.differs_from_original(runs, Language("en")) == says
    unrecorded = runs.drop(columns=set(runs) - {"dataset", "train_images", "recipe.epochs", *changes})
    assert write_article.differs_from_original(unrecorded, Language("en")) == says
    same = says == "" or set(changes) == {"settings.precision"}
    assert results_table.is_original_experiment(runs) == results_table.is_original_experiment(unrecorded) == same


def test_runs_that_do_not_record_the_experiment_are_of_another():
    runs = pd.DataFrame([results_table.ORIGINAL_EXPERIMENT] * 2).drop(columns="recipe.epochs")
    assert write_article.differs_from_original(runs, Language("en")) == "epochs not recorded instead of 15"
    assert not results_table.is_original_experiment(runs)


def test_the_original_s_experiment_is_the_default_configuration():
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    of_config = {"dataset": config["data"]["dataset"], "settings.precision": config["execution"]["precision"], "train_images": 50_000}
    of_config |= {f"recipe.{key}": value for key, value in config["recipe"].items() if value not in ("framework", "variant")}
    assert of_config == results_table.ORIGINAL_EXPERIMENT


def test_without_a_completed_run_the_page_says_so(tmp_path, data, figures):
    lost = {"status": "diverged", "accuracy": None, "loss": None}
    text = words(page(tmp_path, data, write_grid(tmp_path, lambda *_: lost), figures=figures))
    for said in ("No run was completed.", "so there is nothing to plot", "12 of 12 runs collapsed or diverged"):
        assert said in text


def test_other_experiments_are_told_where_they_were_run(tmp_path, data, figures):
    grid = write_grid(tmp_path, slower_tensorflow)
    before = page(tmp_path, data, grid, figures=figures)
    (tmp_path / "speed_ratios.csv").write_text(
        "device,variant,framework,to,arm,ratio,low,high,rounds\n"
        "cpu,alexnet_mod,tensorflow,pytorch,notebook,0.84,0.80,0.88,5\ncpu,alexnet_mod,tensorflow,pytorch,fast,1.0,0.9,1.1,5\n",
        encoding="utf-8",
    )
    (tmp_path / "parity").mkdir()
    (tmp_path / "parity" / "alexnet_mod.md").write_text(
        "# AlexNet mod.: alike?\n\n| pair | quantity |\n|---|---|\n| a, b | logits |\n", encoding="utf-8"
    )
    (tmp_path / "equal_time").mkdir()
    (tmp_path / "equal_time" / "table.md").write_text("Caught up <script>alert(1)</script>\n", encoding="utf-8")
    write_article.main(["--results", str(tmp_path), "--data", str(data), "--output", str(tmp_path / "article.html")])
    after = (tmp_path / "article.html").read_text(encoding="utf-8")
    for text in (
        "as in the tutorials: TensorFlow takes 0.84 (0.80 to 0.88) times as long as PyTorch to train (rounds: 5): TensorFlow is faster.",
        "(rounds: 5), but the interval includes 1: no difference was found.",
    ):
        assert text in words(after) and text not in words(before)
    assert '<h2 id="parity">' in after and "<td>logits</td>" in after and '<h2 id="parity">' not in before
    assert "The small network trained for as long as the large one" in after and "&lt;script&gt;alert(1)" in after


def messages() -> set[str]:
    """All messages that templates and programs mark for translation, and those that the page takes from elsewhere."""
    options = {"**.j2": {"trimmed": "true", "newstyle_gettext": "true", "silent": "false"}}
    methods = [("**.py", "python"), ("**.j2", "jinja2")]
    found = extract_from_dir(str(ROOT / "scripts"), methods, options, keywords={"_": None, "gettext": None})
    starts = {"random", "ImageNet", "ImageNet convolutions, fresh classifier"}
    declared = {variant.description for variant in variants.VARIANTS.values()}
    for source in map(datasets.source, datasets.NAMES):
        declared |= {source.TITLE, source.ABOUT} - {""}
    return {message for _, _, message, _, _ in found} | declared | starts


def test_the_spanish_catalogue_has_every_message_and_no_other():
    with (ROOT / "scripts/alexbench/writing/pages/es.po").open("rb") as file:
        catalogue = pofile.read_po(file, locale="es")
    theirs = {message.id: message for message in catalogue if message.id}
    assert set(theirs) == messages()
    for message in theirs.values():
        assert message.string, message.id
        for placeholder in (r"%\(\w+\)s", r"%%", r"</?\w+>"):
            assert sorted(re.findall(placeholder, message.id)) == sorted(re.findall(placeholder, message.string)), message.id


def test_nothing_is_left_in_english(made):
    language, _, html = made
    if language == "es":
        text = words(html)
        left = [message for message in messages() if len(message) > 25 and "%" not in message and "<" not in message and message in text]
        assert left == [] and '<html lang="es">' in html


def test_numbers_are_written_the_language_s_way():
    assert [Language(code).number(-1234567.891, 2) for code in ("en", "es")] == ["−1,234,567.89", "−1.234.567,89"]
    assert Language("en").number(0.5, 1, sign=True) == "+0.5" and Language("es").number(float("nan")) == "–"
    assert Language("es").listed(["a", "b", "c"]) == "a, b y c" and Language("en").either(["1", "2"]) == "1 or 2"


def test_the_front_is_what_nothing_beats():
    points = pd.DataFrame({"train_seconds": [10, 20, 30, 40], "accuracy": [0.5, 0.4, 0.7, 0.7], "parameters": [1, 1, 1, 1]})
    assert charts.pareto(points, "train_seconds", "accuracy").train_seconds.tolist() == [10, 30]
    assert charts.pareto(points, "parameters", "accuracy").accuracy.tolist() == [0.7, 0.7]
    assert charts.pareto(points.iloc[:0], "train_seconds", "accuracy").empty


def test_the_pdf_has_the_pages_and_the_text(made):
    pypdf = pytest.importorskip("pypdf")
    language, folder, _ = made
    try:
        import weasyprint  # noqa: F401
    except OSError as error:
        pytest.skip(f"no Pango on this machine: {error}")
    assert print_page.main([str(folder / "article.html"), "--output", str(folder / "article.pdf")]) == 0
    reader = pypdf.PdfReader(folder / "article.pdf")
    texts = [" ".join(sheet.extract_text().split()) for sheet in reader.pages]
    assert 6 <= len(texts) <= 16 and all(len(text) > 100 for text in texts)
    whole = " ".join(texts)
    for text in {"en": ("Conclusions", "is the fastest on"), "es": ("Conclusiones", "es el más rápido en")}[language]:
        assert text in whole
    assert texts[1].rstrip().endswith("2") and len(reader.outline) >= 11
    # All columns of the widest table fit on the page.
    assert "0.6370" in whole or "0,6370" in whole


def test_tables_texts_and_code_as_pages(tmp_path):
    pd.DataFrame({"name": ["<b>", "x"], "value": [1.5, np.nan]}).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.md").write_text("# A\n\n| a |\n|---|\n| 1 |\n", encoding="utf-8")
    (tmp_path / "t.py").write_text("x = '<i>'\n", encoding="utf-8")
    files = [str(tmp_path / f"t.{suffix}") for suffix in ("csv", "md", "py")]
    assert write_page.main([*files, "--title", "T & U", "--output", str(tmp_path / "t.html")]) == 0
    html = (tmp_path / "t.html").read_text(encoding="utf-8")
    assert "<td>&lt;b&gt;</td>" in html and "<td>1</td>" in html and "&lt;i&gt;" in html and "<title>T &amp; U</title>" in html
    with pytest.raises(InputError, match=r"absent\.csv does not exist"):
        write_page.main([str(tmp_path / "absent.csv"), "--title", "T", "--output", str(tmp_path / "u.html")])


def test_no_script_ends_early():
    assert "</script" not in pages.inline_json({"a": "</script><script>alert(1)</script>"})


def test_the_recipe_for_a_new_variant_says_its_description_in_spanish():
    """CONTRIBUTING.md's two blocks agree: the catalogue is told to translate exactly what the variant says about itself."""
    recipe = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    described = re.search(r'description="([^"]+)"', recipe)[1]
    added = pofile.read_po(io.BytesIO(re.search(r"```po\n(.*?)```", recipe, re.DOTALL)[1].encode()), locale="es")
    assert [(message.id, bool(message.string)) for message in added if message.id] == [(described, True)]
