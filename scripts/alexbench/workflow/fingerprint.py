"""Hashes that decide what Snakemake reruns: of code without its comments, docstrings and layout, and of data by content."""

import ast
import hashlib
import json
import os
import time
from functools import cache
from pathlib import Path

from alexbench.experiment.layers import Variant
from alexbench.files import is_special, replacing

LIBRARY = Path(__file__).parents[1]
# Modules that a training uses without depending on them, so that a change in them does not train every run again. Not variants.py: a run
# depends only on its own variant (`of_variant`). Those outside the wings, such as files.py, do not count either.
BESIDES = (
    "experiment/variants",
    "training/lease",
    "training/options",
    "training/tensorboard",
    "training/trained_network",
    "workflow/fingerprint",
)


def of_source(source: str) -> str:
    """A hash of Python `source` that ignores comments, docstrings, help texts and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))] or [ast.Pass()]
        elif isinstance(node, ast.Call):
            node.keywords = [keyword for keyword in node.keywords if keyword.arg not in ("help", "about")]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


@cache
def of_file(path: Path) -> str:
    return of_source(path.read_text(encoding="utf-8")) if path.suffix == ".py" else hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@cache
def code_of(path: Path, framework: str | None = None) -> frozenset[Path]:
    """The files of a program: itself, all library modules that it imports, and the other files in the packages of those modules.

    For a program that trains or measures a `framework`: with the framework's backend, without the modules `BESIDES`.
    """
    left_out = {*LIBRARY.glob("*.py"), *(LIBRARY / f"{name}.py" for name in BESIDES)} if framework else set()
    found, waiting = set(), [path, *([LIBRARY / "backends" / f"{framework}.py"] if framework else [])]
    while waiting:
        file = waiting.pop()
        if file in found or file in left_out:
            continue
        found.add(file)
        if file.suffix == ".py":
            waiting += _imported(file)
        if file.name == "__init__.py":
            waiting += [other for other in file.parent.iterdir() if other.is_file() and other.suffix != ".py"]
    return frozenset(found)


@cache
def of_program(path: Path, framework: str | None = None) -> str:
    """A hash of a program's files, `code_of`."""
    # Sorted by hash, because paths depend on where the project is.
    return hashlib.sha256(" ".join(sorted(map(of_file, code_of(path, framework)))).encode()).hexdigest()[:12]


@cache
def _imported(file: Path) -> list[Path]:
    """The library modules that a file imports, at the top or inside functions."""
    names = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    places = [LIBRARY.parent.joinpath(*name.split(".")) for name in names if name.startswith("alexbench.")]
    return [path for place in places for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()]


def of_variant(variant: Variant) -> str:
    """A hash of what a variant's training depends on: its declaration without title and description."""
    trained = (variant.input_size, variant.layers, variant.normalisation, variant.pretrained)
    return hashlib.sha256(repr(trained).encode()).hexdigest()[:12]


@cache
def of_content(path: Path, manifests: Path) -> str | None:
    """A hash of a file's bytes, or of the paths and bytes of all files in a folder; None if the path does not exist.

    `manifests`: folder for what was hashed of a folder, so that the next time only changed files are read.
    """
    if path.is_dir():
        return _of_folder(path, manifests / f"{hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:12]}.json")
    return _sha256(path)[:12] if path.is_file() else None


def _of_folder(folder: Path, manifest: Path) -> str:
    """A hash of the paths and bytes of the files in a folder, hidden ones left out, links to folders followed.

    As in Git's index, a file is not read again if its size, its number and both its times are those noted in the manifest. A user can set
    one of the times, but not the other. A file that changed less than two seconds before it was read is read again the next time.
    """
    try:
        noted = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        noted = {}
    now, entries, seen = time.time(), {}, set()
    for place, folders, names in os.walk(folder, followlinks=True):
        # A link may lead back.
        places = {name: os.path.realpath(Path(place, name)) for name in sorted(folders) if not name.startswith(".")}
        folders[:] = [name for name, real in places.items() if real not in seen]
        seen |= set(places.values())
        for name in sorted(names):
            file = Path(place, name)
            if name.startswith(".") or not file.is_file():
                continue
            status = file.stat()
            about = [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
            key = os.fsdecode(file.relative_to(folder)).encode("utf-8", "backslashreplace").decode()
            known = noted.get(key)
            entries[key] = known if known and known[1:] == about else [_sha256(file), *about]
    settled = {key: entry for key, entry in entries.items() if entry[-1] / 1e9 < now - 2}
    if settled != noted:
        with replacing(manifest) as temporary:
            temporary.write_text(json.dumps(settled), encoding="utf-8")
    return hashlib.sha256("\n".join(f"{key} {entry[0]}" for key, entry in entries.items()).encode()).hexdigest()[:12]


def note(path: Path) -> None:
    """Write the SHA-256 of a prepared file beside it, in sha256sum's format, for `of_prepared`; skip devices and pipes."""
    if is_special(path):
        return
    with replacing(_beside(path)) as temporary:
        temporary.write_text(f"{_sha256(path)}  {path.name}\n", encoding="utf-8")


@cache
def of_prepared(path: Path) -> str | None:
    """None if a file is absent or matches the hash that its program noted (`note`); otherwise a hash of its content.

    A file that its program makes again therefore causes no rerun; one that somebody puts in its place does.
    """
    if not path.is_file():
        return None
    try:
        noted = _beside(path).read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        noted = []
    found = _sha256(path)
    return None if noted[:1] == [found] else found[:12]


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
