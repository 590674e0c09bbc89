"""One set of versions: what envs/ installs is what requirements.txt does."""

import re

import pytest
import yaml

from conftest import ROOT

PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(\[[a-z-]+\])?==([0-9][0-9A-Za-z.]*)$")
# The same library, built for another device.
SAME = {"tensorflow-cpu": "tensorflow"}


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = PINNED.match(line)
        assert match, f"{line!r} is not pinned to one version"
        found[SAME.get(match[1], match[1]).lower()] = match[3]
    return found


REQUIREMENTS = pins([line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")])


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda path: path.stem)
def test_environments_have_the_versions_of_requirements(path):
    environment = yaml.safe_load(path.read_text())
    assert environment["channels"] == ["conda-forge"]
    python, pip, wheels = environment["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", python) and pip == "pip"
    ours = pins(wheels["pip"])
    assert ours == {name: REQUIREMENTS[name] for name in ours}


def test_every_framework_has_an_environment():
    from alexbench.backends import FRAMEWORKS

    assert {path.stem for path in (ROOT / "envs").glob("*.yaml")} == {*FRAMEWORKS, "analysis"}


def test_this_environment_is_the_pinned_one():
    from importlib.metadata import version

    installed = {name: version("tensorflow_cpu" if name == "tensorflow" else name).split("+")[0] for name in REQUIREMENTS}
    assert installed == REQUIREMENTS
