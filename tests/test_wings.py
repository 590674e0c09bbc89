"""The library's wings are in the order of the data: none imports from a later one."""

import ast
from pathlib import Path

import pytest

from conftest import ROOT

LIBRARY = ROOT / "scripts" / "alexbench"
# What each wing may import, besides itself and the modules outside the wings (files, machine, ...), which import only one another.
WINGS = {
    "experiment": (),
    "backends": ("experiment",),
    "training": ("experiment", "backends"),
    "analysis": ("experiment",),
    "writing": ("experiment", "analysis"),
    "workflow": ("experiment", "backends"),
}


def imported(file: Path) -> set[str]:
    """The wings from which a module imports; "" for a module outside the wings."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "alexbench":
            names |= {f"alexbench.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    parts = [name.split(".")[1] for name in names if name.startswith("alexbench.")]
    return {part if part in WINGS else "" for part in parts}


def test_every_folder_of_the_library_is_a_wing():
    assert {path.parent.name for path in LIBRARY.glob("*/__init__.py")} == set(WINGS)


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_imports_from_none_that_comes_after_it(wing):
    allowed = {"", wing, *WINGS[wing]}
    for file in (LIBRARY / wing).rglob("*.py"):
        assert imported(file) <= allowed, f"{file.relative_to(ROOT)} imports from {', '.join(imported(file) - allowed)}"


def test_what_lies_in_no_wing_imports_no_wing():
    for file in LIBRARY.glob("*.py"):
        assert imported(file) <= {""}, file.relative_to(ROOT)
