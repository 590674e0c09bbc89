"""Whatever a configuration holds, it is refused in lines that name the key, or it is harmless in paths and in a shell."""

import copy
import re
from pathlib import PurePosixPath

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alexbench.workflow import configuration
from conftest import ROOT

pytestmark = pytest.mark.fault

DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
# Free text: two paths or URLs, which reach programs as one quoted argument, and a command of the user's own.
FREE = {("at_end",), ("data", "archive"), ("weights", "source")}


def places(section: dict, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key as a path, including sections."""
    found = []
    for key, value in section.items():
        found.append((*prefix, key))
        found += places(value, (*prefix, key)) if isinstance(value, dict) else []
    return found


HOSTILE = st.sampled_from(
    [
        "../outside",
        "/tmp/outside",
        "results/../../outside",
        "results/..",
        "results\n",
        "results/a\n",
        "results/$(touch pwned)",
        "results;touch pwned",
        "results/`touch pwned`",
        "results/{wildcards.seed}",
        "~nobody-of-this-name/x",
        "http://[",
        "https://host/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "7be5be79\n",
        "\0",
        "x" * 5000,
        "digits'; import os; os.system('touch pwned') #",
        "cifar10\n",
        "--output=/tmp/outside",
        "${HOME}",
        "!!python/object/apply:os.system ['touch pwned']",
    ]
)
SCALARS = st.one_of(HOSTILE, st.text(max_size=20), st.integers(), st.floats(), st.booleans(), st.none(), st.just(10**400))
VALUES = st.recursive(
    SCALARS | st.sampled_from(["pytorch", "alexnet", 1, 3.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=3),
    max_leaves=6,
)


def with_values(changes: dict[tuple[str, ...], object]) -> dict:
    config = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        section = config
        for key in path[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section[path[-1]] = value
    return config


def strings(value: object, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in strings(inner, (*path, key))]
    if isinstance(value, list):
        return [found for inner in value for found in strings(inner, path)]
    return [(path, value)] if isinstance(value, str) else []


@settings(max_examples=2000, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from([*places(DEFAULT), ("other",), ("recipe", "other")]), VALUES, min_size=1, max_size=3))
@example({("results",): "results\n"})
@example({("weights", "sha256"): "7be5be79\n"})
@example({("weights", "source"): "~nobody-of-this-name/x"})
@example({("data", "archive"): "http://["})
@example({("data", "archive"): "\0"})
@example({("data", "archive"): "x" * 5000})
@example({("seeds",): [1.0]})
@example({("seeds",): ["a\nb", "a\nb"]})
@example({("recipe", "epochs"): 3.0})
@example({("recipe", "learning_rate"): float("nan")})
@example({("recipe", "dropout"): float("nan")})
@example({("speed", "seconds"): float("inf")})
@example({("recipe", "learning_rate"): 10**400})
def test_a_configuration_is_refused_in_lines_or_is_harmless(changes):
    config = with_values(changes)
    lines = configuration.errors(config) or configuration.missing_files(config)
    for line in lines:
        assert line.startswith("config: ") and line.splitlines() == [line] and len(line) < 2000
    if lines:
        return
    for path, text in strings(config):
        if path not in FREE:
            assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", text), (path, text)
    results = PurePosixPath(config["results"])
    assert results.parts[0] == "results" and ".." not in results.parts
    assert all(type(seed) is int for seed in config["seeds"])
