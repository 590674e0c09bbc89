"""Shared by the tests: small data sets, small networks, and made-up runs that need no training."""

import csv
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from alexbench.experiment import datasets, download, layers  # noqa: E402
from alexbench.experiment.datasets import digits as digits_source  # noqa: E402
from alexbench.files import write_json  # noqa: E402

# Small enough to train in milliseconds, with every kind of layer in the original study.
TINY = layers.Variant(
    name="tiny",
    title="Tiny",
    description="For tests.",
    input_size=16,
    layers=(
        layers.Conv(4, kernel=5, stride=2),
        layers.Pad(1),
        layers.MaxPool(2, stride=2),
        layers.Conv(8, kernel=3, padding=1),
        layers.Flatten(),
        layers.Dense(16),
        layers.Dropout(),
        layers.Dense(10, relu=False),
    ),
)


# The same with batch normalisation, and without resizing the images.
NORMALISED = layers.Variant(
    name="normalised",
    title="Normalised",
    description="For tests.",
    input_size=32,
    layers=(
        layers.Conv(4, kernel=3, padding=1, bias=False, relu=False),
        layers.BatchNorm(),
        layers.MaxPool(2, stride=2),
        layers.Conv(8, kernel=3, stride=2, padding=1, bias=False, relu=False),
        layers.BatchNorm(),
        layers.Flatten(),
        layers.Dense(16),
        layers.Dropout(),
        layers.Dense(10, relu=False),
    ),
)


START = time.monotonic()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--within",
        type=float,
        metavar="MINUTES",
        help="begin none of the tests marked `long`, which then come last, after that time; all others run in any case",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--within") is not None:
        items.sort(key=lambda item: item.get_closest_marker("long") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    minutes = item.config.getoption("--within")
    if minutes is not None and item.get_closest_marker("long") and time.monotonic() - START > 60 * minutes:
        pytest.skip(f"long, and not begun within {minutes:g} minutes")


@pytest.fixture(scope="session")
def one_thread() -> None:
    """Set TensorFlow's number of threads, which a process can set only once, so that tests that do not set it get the same."""
    import tensorflow

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)


@pytest.fixture(scope="session")
def digits() -> datasets.Dataset:
    """100 training and 50 test images of handwritten digits."""
    return digits_source.read().limited(100, 50)


@pytest.fixture(scope="session")
def digits_file(tmp_path_factory) -> Path:
    """All digits, as prepare_data.py writes them."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    datasets.save(digits_source.read(), path)
    return path


# The data set that the runs of `write_run` name as theirs.
_random = np.random.default_rng(0)
IMAGES = datasets.Dataset(
    name="cifar10",
    train_images=_random.integers(0, 256, (100, 32, 32, 3), np.uint8),
    train_labels=np.arange(100) % 10,
    test_images=_random.integers(0, 256, (100, 32, 32, 3), np.uint8),
    test_labels=np.arange(100) % 10,
    classes=tuple("0123456789"),
)
IMAGES_SHA256 = IMAGES.sha256()


@pytest.fixture(scope="session")
def images_file(tmp_path_factory) -> Path:
    """IMAGES, as prepare_data.py writes them."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    datasets.save(IMAGES, path)
    return path


def write_run(folder: Path, **changes) -> dict:
    """Write the files of one run as train.py does, with made-up numbers; `changes` override its metrics."""
    metrics = {
        "framework": "pytorch",
        "framework_title": "PyTorch",
        "variant": "alexnet_mod",
        "variant_title": "AlexNet mod. (32)",
        "seed": 1,
        "status": "completed",
        "accuracy": 0.6,
        "loss": 1.2,
        "parameters": 4539786,
        "dataset": "cifar10",
        "train_images": 50000,
        "test_images": 100,
        "data_sha256": IMAGES_SHA256,
        "epochs": 2,
        "batch_size": 64,
        "recipe": {"epochs": 2},
        "start": "random",
        "fresh_layers": ["conv1", "dense1"],
        "setup_seconds": 1.0,
        "compile_seconds": 1.0,
        "train_seconds": 100.0,
        "evaluate_seconds": 1.0,
        "images_per_second": 1000.0,
        "peak_memory_bytes": 10**9,
        "device": "cpu",
        "device_name": "a processor",
        "threads": 2,
        "settings": {"precision": "fp32"},
        "versions": {"python": "3.11"},
    } | changes
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "metrics.json", metrics)
    random = np.random.default_rng(metrics["seed"])
    finite = metrics["status"] != "diverged"
    with (folder / "history.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds"])
        for epoch in (1, 2):
            ended = epoch == 2 and not finite
            writer.writerow([epoch, *(("nan", 0.1, "", "") if ended else (2.3 / epoch, 0.3 * epoch, 2.2 / epoch, 0.3 * epoch)), 50])
    labels = np.arange(100) % 10
    logits = random.standard_normal((100, 10)).astype(np.float32)
    if finite:
        # As many answers are right as the accuracy says, if there is one.
        right = round(100 * metrics["accuracy"]) if isinstance(metrics["accuracy"], float) else 60
        shown = np.where(random.permutation(100) < right, labels, (labels + random.integers(1, 10, 100)) % 10)
        logits[np.arange(100), shown] = logits.max(axis=1) + random.exponential(1.5, 100).astype(np.float32)
    np.savez(folder / "predictions.npz", logits=logits if finite else np.full_like(logits, np.nan), labels=labels)
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def grid_folder(tmp_path) -> Path:
    """A results folder with the runs of two frameworks, two variants and two seeds."""
    for framework, title in (("pytorch", "PyTorch"), ("tensorflow", "TensorFlow")):
        for variant, name in (("alexnet_mod", "AlexNet mod. (32)"), ("alexnet", "AlexNet (224)")):
            for seed in (1, 2):
                write_run(
                    tmp_path / "runs" / framework / variant / f"seed{seed}",
                    framework=framework,
                    framework_title=title,
                    variant=variant,
                    variant_title=name,
                    seed=seed,
                    accuracy=0.6 + 0.02 * seed,
                )
    return tmp_path


SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SMALL = {
    "results": "results/small",
    "variants": ["alexnet_mod"],
    "seeds": [1],
    "data": {"dataset": "digits", "train_limit": 40, "test_limit": 20},
    "recipe": {"epochs": 1, "batch_size": 16},
    "threads": 1,
}


def snakemake(folder: Path, *arguments: str, config: dict | None = None) -> subprocess.CompletedProcess:
    """Run Snakemake in `folder`, a copy of the workflow, with `config` on top of the defaults."""
    command = [str(SNAKEMAKE), "--nocolor", *arguments]
    if config is not None:
        (folder / "mine.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        command += ["--configfile", "mine.yaml"]
    environment = os.environ | {"PATH": f"{SNAKEMAKE.parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False)


# Prints what Snakemake knows of each rule.
LIST_RULES = """
import json, sys
from pathlib import Path
from snakemake.api import OutputSettings, ResourceSettings, SnakemakeApi

with SnakemakeApi(OutputSettings(quiet=["all"])) as api:
    workflow = api.workflow(ResourceSettings(), snakefile=Path(sys.argv[1]))._workflow
    found = {}
    for rule in workflow.rules:
        script = rule.params.get("script")
        found[rule.name] = {
            "local": rule.norun or rule.name in workflow._localrules,
            "environment": rule.conda_env and Path(rule.conda_env).stem,
            "program": script and Path(script(None, None)[-1]).name,
        }
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def rules(tmp_path_factory) -> dict[str, dict]:
    """Every rule by name: whether it is `local`, its `environment` and its `program` (None if it has none)."""
    command = [sys.executable, "-c", LIST_RULES, str(ROOT / "Snakefile")]
    folder = tmp_path_factory.mktemp("rules")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


# A conda that answers only what Snakemake asks before it writes; nothing is solved or installed.
CONDA = """\
#!/bin/sh
case "$*" in
    --version) echo "conda 26.1.0" ;;
    info*) echo '{"conda_prefix": "/opt/conda", "platform": "linux-64"}' ;;
    config*) echo '{"get": {"channel_priority": "strict"}}' ;;
    *) exit 1 ;;
esac
"""


def planned(done: subprocess.CompletedProcess) -> dict[str, int]:
    """The number of jobs per rule, from a dry run's table."""
    assert done.returncode == 0, done.stderr[-2000:]
    lines = (done.stdout + done.stderr).partition("Job stats:")[2].partition("\n\n")[0].splitlines()[3:]
    return {name: int(count) for name, count in (line.split() for line in lines)}


def copy_of_the_workflow(place: Path) -> Path:
    folder = place / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("config", "rules", "scripts", "envs"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "Snakefile", folder)
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the workflow that a test may change."""
    return copy_of_the_workflow(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The workflow, run once from end to end: both frameworks, one small variant, one seed, real digits."""
    folder = copy_of_the_workflow(tmp_path_factory.mktemp("finished"))
    done = snakemake(folder, "-c2", config=SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Server:
    """What a server holds, by path; how it answers; and what it was asked."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    # Answers given before any file is served: status and headers.
    first: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    # The number of bytes after which each transfer breaks off; None: it is complete.
    breaks_after: list[int | None] = field(default_factory=list)
    seconds: float = 0
    ranges: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"{self.address}/{path}"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_PAUSE_SECONDS", 0.01)
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            told.asked.append(dict(self.headers))
            if told.first:
                status, headers = told.first.pop(0)
                return self.answer(status, headers, b"no")
            content = told.files.get(self.path.lstrip("/"))
            if content is None:
                return self.answer(404, {}, b"no")
            etag = f'"{sha256(content)}"'
            headers = {"ETag": etag} | told.headers
            start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if not told.ranges or not start or self.headers.get("If-Range") not in (None, etag):
                return self.answer(200, headers, content)
            start = int(start[1])
            if start >= len(content):
                return self.answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            return self.answer(206, headers | {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}, content[start:])

        def answer(self, status, headers, content):
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            end = told.breaks_after.pop(0) if told.breaks_after else None
            with suppress(ConnectionError):  # the client was killed
                for place in range(0, len(content[:end]), 100_000):
                    self.wfile.write(content[:end][place : place + 100_000])
                    time.sleep(told.seconds)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        told.address = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield told
        httpd.shutdown()


# Root can read everything unless it gives up these two capabilities; then file modes apply to it as to anyone.
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def run_script(name: str, *arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """Run a program of scripts/ as a user to whom file modes apply."""
    command = [*AS_ANYBODY, sys.executable, ROOT / "scripts" / name, *arguments]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
