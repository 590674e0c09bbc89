"""One set of versions: requirements.txt chooses them, and envs/, README and every other file that names a version agree."""

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from conftest import ROOT

PINNED = re.compile(r"^([A-Za-z0-9_.-]+)(\[[a-z0-9-]+\])?==([0-9][0-9A-Za-z.]*)$")
# The same library, built for another device.
SAME = {"tensorflow-cpu": "tensorflow"}
# Packages that are imported under another name.
IMPORTED_AS = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "pynvml": "nvidia-ml-py",
    "vl_convert": "vl-convert-python",
    "markdown_it": "markdown-it-py",
    "tensorboardX": "tensorboardx",
}
# Imported by a library on demand and by none of our modules: pandas needs them to write Markdown and LaTeX.
FOR_LIBRARIES = {"analysis": {"tabulate", "jinja2"}}


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = PINNED.match(line)
        assert match, f"{line!r} is not pinned to one version"
        found[SAME.get(match[1], match[1]).lower()] = match[3]
    return found


REQUIREMENTS = pins(
    [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
)
# The packages of requirements.lock: name, version, and the SHA-256 of each of its files.
LOCKED = {
    match[1]: (match[2], re.findall(r"--hash=sha256:([0-9a-f]{64})", match[3]))
    for match in re.finditer(
        r"^([a-z0-9-]+)==(\S+)(.*(?:\n    --hash=.*)*)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE
    )
}
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def wheels(path: Path) -> dict[str, str]:
    return pins(yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"][2]["pip"])


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_have_the_versions_of_requirements(path):
    environment = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert environment["channels"] == ["conda-forge"]
    python, pip, _ = environment["dependencies"]
    assert re.fullmatch(r"python=3\.\d+", python) and pip == "pip"
    ours = wheels(path)
    assert ours == {name: REQUIREMENTS[name] for name in ours}


def test_the_lock_has_every_requirement_and_hashes_of_all():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert {name: version for name, (version, _) in LOCKED.items() if name in REQUIREMENTS} | {
        "tensorflow": LOCKED["tensorflow-cpu"][0]
    } == REQUIREMENTS
    # Every line that is neither a continuation nor a comment is a package, and has at least one hash.
    assert set(LOCKED) == set(re.findall(r"^([^#\s].*?)(?:==|\s|$)", text, re.MULTILINE)) and all(hashes for _, hashes in LOCKED.values())
    # It names no index and no path on a machine.
    assert "/" not in text


def test_the_lock_has_all_that_an_installation_needs():
    """It has everything that the installed packages require, in turn; for a CUDA build of torch only if that is what is installed."""
    from importlib.metadata import PackageNotFoundError, requires

    from packaging.requirements import Requirement

    for name, (version, _) in LOCKED.items():
        try:
            needed = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:  # for another system, or NVIDIA's
            continue
        for requirement in needed:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                key = re.sub(r"[-_.]+", "-", requirement.name).lower()
                assert key in LOCKED, f"{name} {version} needs {requirement}"


def test_make_leaves_the_cuda_libraries_to_a_cuda_build_of_torch():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    cuda = re.compile(re.search(r"^CUDA = (.+)$", makefile, re.MULTILINE)[1])
    left_out = {name for name in LOCKED if cuda.search(name)}
    assert {"cuda-toolkit", "nvidia-cudnn-cu13", "triton"} <= left_out and not left_out & set(REQUIREMENTS)


def test_every_framework_has_an_environment():
    from alexbench.backends import FRAMEWORKS

    assert {path.stem for path in ENVIRONMENTS} == {*FRAMEWORKS, "analysis"}


def test_this_environment_is_the_pinned_one():
    from importlib.metadata import version

    installed = {name: version("tensorflow_cpu" if name == "tensorflow" else name).split("+")[0] for name in REQUIREMENTS}
    assert installed == REQUIREMENTS


def programs(rules: dict[str, dict], environment: str) -> set[str]:
    """The programs that rules run in an environment, and the one that a person may run by hand in any framework's."""
    from alexbench.backends import FRAMEWORKS

    names = {environment, "{framework}"} if environment in FRAMEWORKS else {environment}
    found = {rule["program"] for rule in rules.values() if rule["environment"] in names}
    return found | {"predict.py"} if environment in FRAMEWORKS else found


@cache
def imports(path: Path, everywhere: bool) -> frozenset[str]:
    """Packages that a module imports, directly or through our own modules: when it is imported, or (`everywhere`) anywhere in the code."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [ROOT / "scripts" / name.replace(".", "/") for name in names if name.startswith("alexbench.")]
    own = {*(place.with_suffix(".py") for place in places), *(place / "__init__.py" for place in places)}
    packages = {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, "alexbench"}
    return frozenset(packages).union(*(imports(module, everywhere) for module in own if module.is_file()))


def imported(rules: dict[str, dict], environment: str, everywhere: bool) -> set[str]:
    """Packages that an environment's programs and its backend import, by their names in requirements.txt."""
    files = {ROOT / "scripts" / name for name in programs(rules, environment)} | {ROOT / f"scripts/alexbench/backends/{environment}.py"}
    return {IMPORTED_AS.get(name, name) for path in files if path.is_file() for name in imports(path, everywhere)}


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_environments_hold_what_their_programs_import_and_no_more(rules, path):
    ours = set(wheels(path))
    assert imported(rules, path.stem, everywhere=False) <= ours
    # Some packages are imported only inside functions, which another environment's programs call.
    assert ours <= imported(rules, path.stem, everywhere=True) | FOR_LIBRARIES.get(path.stem, set())


def test_whatever_names_a_version_names_the_same():
    import doctor

    readme, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    pythons = {yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"][0].removeprefix("python=") for path in ENVIRONMENTS}
    (python,) = pythons
    assert re.findall(r"Python (\d+\.\d+) or later", readme + makefile) == [python, python]
    assert f'target-version = "py{python.replace(".", "")}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    documents = {
        path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "docs/environments.md", ROOT / "config/README.md")
    }
    for path, text in documents.items():
        for found in re.findall(r"\bconda (\d[\d.]*\d)", text):
            assert found == doctor.CONDA, f"{path.name} has conda {found}"
        # "Keras 3.15" means Keras 3.15.0; "TensorFlow 2.21 takes Keras 3.12 or later" says nothing about what is installed.
        for name, found, later in re.findall(r"\b([A-Za-z][\w-]+)(?:==| )(\d+(?:\.\d+)*)\b( or later)?", text):
            pinned = REQUIREMENTS.get(SAME.get(name.lower(), name.lower()))
            if pinned and not later:
                assert f"{pinned}.".startswith(f"{found}."), f"{path.name} has {name} {found}, requirements.txt {pinned}"
