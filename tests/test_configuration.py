"""Every mistake that a person may make in the configuration is reported in one line, before any job starts."""

import copy
import re

import pytest
import yaml

from alexbench import settings
from alexbench.backends import FRAMEWORKS
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import Recipe
from alexbench.workflow import configuration
from conftest import ROOT

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
SCHEMA = configuration.schema()


def with_value(key: str, value) -> dict:
    config = copy.deepcopy(DEFAULT)
    *parents, last = key.split(".")
    section = config
    for parent in parents:
        section = section[parent]
    section[last] = value
    return config


def keys(section: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in section.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


def schema_keys(schema: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in schema["properties"].items():
        found |= schema_keys(value, f"{prefix}{key}.") if "properties" in value else {prefix + key}
    return found


def test_the_default_is_right():
    assert configuration.errors(DEFAULT) == []


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("frameworks", ["pytorch", "jaxx"], f"frameworks: unknown framework 'jaxx'; choose from {', '.join(FRAMEWORKS)}"),
        ("frameworks", ["tensorflwo"], "did you mean 'tensorflow'?"),
        ("variants", ["alexnett"], "variants: unknown variant 'alexnett', did you mean 'alexnet'?; choose from alexnet_mod, alexnet, "),
        (
            "data.dataset",
            "cifar101",
            "data.dataset: unknown value 'cifar101', did you mean 'cifar10'?; choose from cifar10, cifar100, cifar100_coarse, dig",
        ),
        ("recipe.epochs", 0, "recipe.epochs: 0 is out of range; give a number at least 1"),
        ("recipe.epochs", -1, "recipe.epochs: -1 is out of range"),
        ("recipe.epochs", "abc", "recipe.epochs: 'abc' is of the wrong type; give an integer"),
        ("recipe.epochs", 1.5, "recipe.epochs: 1.5 is of the wrong type; give an integer"),
        ("recipe.epochs", True, "recipe.epochs: True is of the wrong type; give an integer"),
        ("recipe.epoch", 3, "unknown key 'recipe.epoch', did you mean 'epochs'?"),
        ("seed", [1], "unknown key 'seed', did you mean 'seeds'?"),
        ("frameworks", [], "frameworks: the list is empty"),
        ("seeds", [1, 2, 1], "seeds: 1 is listed more than once"),
        ("variants", ["alexnet", "alexnet"], "variants: alexnet is listed more than once"),
        ("seeds", ["one"], "seeds: 'one' is of the wrong type; give an integer"),
        ("seeds", [1.5], "seeds: 1.5 is of the wrong type"),
        ("seeds", [-1], "seeds: -1 is out of range"),
        ("seeds", 3, "seeds: 3 is of the wrong type; give an array"),
        ("recipe.dropout", 1, "recipe.dropout: 1 is out of range; give a number below 1"),
        ("recipe.learning_rate", 0, "recipe.learning_rate: 0 is out of range; give a number above 0"),
        ("recipe.initialisation", "glorot", "recipe.initialisation: unknown value 'glorot'; choose from framework, torch, keras, he"),
        ("device", "gpu", "device: unknown value 'gpu'; choose from auto, cpu, cuda"),
        ("results", "../elsewhere", "results: '../elsewhere' is not allowed"),
        ("results", "results/a b; rm -rf ~", "results: 'results/a b; rm -rf ~' is not allowed"),
        ("results", "/tmp/results", "results: '/tmp/results' is not allowed"),
        ("weights.sha256", 12345678, "weights.sha256: 12345678 is of the wrong type; give a string or null"),
        ("recipe.flips", "yes", "recipe.flips: 'yes' is of the wrong type; give a boolean"),
        ("recipe.schedule", "cosine", "recipe.schedule: unknown value 'cosine'; choose from constant, one_cycle"),
        ("equal_time.as_long_as", "alexnet_modd", "equal_time.as_long_as: unknown variant 'alexnet_modd', did you mean 'alexnet_mod'?"),
        ("equal_time.variant", "alexnet", "equal_time: variant and as_long_as are both 'alexnet'; name two networks to compare"),
        ("recipe", None, "recipe: None is of the wrong type; give an object, such as {epochs: ...}"),
        ("seeds", 3, "give an array, such as [3]"),
        ("variants", "alexnet, alexnet_mod", "give an array, such as [alexnet, alexnet_mod]"),
        ("seeds", "range(3)", "give an array, such as [1, 2, 3]"),
        ("frameworks", None, "give an array, such as [pytorch, tensorflow]"),
        ("recipe.epochs:2", None, "unknown key 'recipe.epochs:2' (a space belongs after the colon: epochs: 2); choose from"),
        ("epochs", 3, "unknown key 'epochs', did you mean 'recipe.epochs' (recipe: {epochs: 3})?"),
        ("recipe.epochs_", 3, "did you mean 'epochs'?"),
        ("train_limits", 3, "did you mean 'data.train_limit' (data: {train_limit: 3})?"),
        ("recipe.device", "cpu", "did you mean 'device' (device: cpu, outside of all sections)?"),
        ("flips", True, "did you mean 'recipe.flips' (recipe: {flips: true})?"),
        ("dataset", "a\nb", "did you mean 'data.dataset' (data: {dataset: ...})?"),
        ("variant", ["alexnet"], "unknown key 'variant', did you mean 'variants'?"),
    ],
)
def test_a_mistake_is_one_line_that_names_key_value_and_choices(key, value, says):
    lines = configuration.errors(with_value(key, value))
    assert len(lines) == 1, lines
    assert lines[0].startswith("config: ") and says in lines[0] and "\n" not in lines[0]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"seeds": ["1", "2"]}, [1, 2]),
        ({"seeds": "[1, 2]"}, [1, 2]),
        ({"recipe": {"epochs": "2"}}, 2),
        ({"recipe": {"learning_rate": "1e-4"}}, 1e-4),
        ({"recipe": {"flips": "true"}}, True),
        ({"data": {"train_limit": "null"}}, None),
        ({"weights": {"sha256": "null"}}, None),
        # Text stays text where text is expected.
        ({"weights": {"sha256": "12345678"}}, "12345678"),
        ({"data": {"archive": "2"}}, "2"),
        ({"variants": ["1"]}, ["1"]),
        # So does text that means nothing else; the error then shows it as it was written.
        ({"recipe": {"epochs": "two"}}, "two"),
        ({"recipe": {"epochs": ""}}, ""),
        ({"seeds": ["2020-01-01"]}, ["2020-01-01"]),
    ],
)
def test_text_in_the_place_of_a_number_is_taken_for_what_it_means(given, meant, tmp_path):
    """Snakemake passes --config 'recipe={epochs: 2}' on as {"epochs": "2"}, and PyYAML reads 1e-4 as text."""
    config = copy.deepcopy(given)
    configuration.complete(config)
    (key, value), *_ = given.items()
    assert (config[key] if not isinstance(value, dict) else config[key][next(iter(value))]) == meant
    assert keys(config) == keys(DEFAULT)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
    if not configuration.errors(config):
        assert configuration.load(tmp_path / "mine.yaml") == config


def test_every_mistake_is_told_at_once():
    config = with_value("recipe.epochs", 0) | {"seeds": [], "variants": ["vgg"]}
    assert len(configuration.errors(config)) == 3


def test_a_missing_key_is_named():
    config = copy.deepcopy(DEFAULT)
    del config["recipe"]["epochs"]
    assert configuration.errors(config) == ["config: key 'recipe.epochs' is missing; config/config.yaml shows it"]


def test_local_files_must_exist(tmp_path):
    config = with_value("data.archive", str(tmp_path / "cifar.tar.gz"))
    config["weights"]["source"] = str(tmp_path / "alexnet.pth")
    archive, weights = configuration.missing_files(config)
    assert archive.startswith("config: data.archive: ") and "cifar.tar.gz' does not exist" in archive
    assert weights.startswith("config: weights.source: ") and "alexnet.pth' does not exist" in weights
    (tmp_path / "cifar.tar.gz").touch()
    config["variants"] = ["alexnet"]
    assert configuration.missing_files(config) == []
    config["data"]["dataset"] = "digits"
    (tmp_path / "cifar.tar.gz").unlink()
    assert configuration.missing_files(config) == []


def test_configuration_schema_and_readme_have_the_same_keys():
    documented = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", (ROOT / "config" / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert keys(DEFAULT) == schema_keys(SCHEMA) == documented


@pytest.mark.parametrize("declared", [Recipe, Execution])
def test_defaults_and_tables_are_those_of_the_declaration(declared):
    """`make format` writes the tables."""
    assert DEFAULT[declared.__name__.lower()] == vars(declared())
    assert f"\n{settings.table(declared)}\n\n<!-- end -->\n" in (ROOT / "config" / "README.md").read_text(encoding="utf-8")
