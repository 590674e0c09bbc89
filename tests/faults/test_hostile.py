"""Broken and hostile inputs: each ends in one line that names it; nothing in it is executed, and nothing is written where it says."""

import json
import os
import pickle
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from small_experiment import ENVIRONMENT, SMALL, configure, copy_of_workflow, run

import collect
import plot_classes
import plot_learning
import prepare_weights
import train
from alexbench.experiment import layers, variants, weights
from alexbench.experiment.datasets import cifar10
from alexbench.experiment.download import local_copy
from alexbench.files import InputError
from alexbench.workflow import configuration
from conftest import write_run
from test_datasets import pack

pytestmark = pytest.mark.fault

PRETRAINED = variants.get("alexnet_pretrained")
ATTACK = "results/$(touch pwned);touch pwned`touch pwned`|touch pwned&&touch pwned\n../../pwned"
WORKFLOW = ("config", "rules", "scripts", "envs", "Snakefile", "Makefile", "mine.yaml")


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "around").mkdir()
    return copy_of_workflow(tmp_path / "around" / "project")


def nothing_happened(folder: Path) -> None:
    """Nothing was touched, in the folder or beside it, and the folder contains only what the workflow makes."""
    assert not [path for path in folder.parent.parent.rglob("*pwned*") if path.is_file() and path.name != ARCHIVE]
    assert {path.name for path in folder.iterdir()} <= {*WORKFLOW, "results", "logs", "benchmarks", "resources", ".snakemake", ARCHIVE}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def strings(section: dict, value: str) -> dict:
    """`section` with every string in it replaced by `value`."""

    def changed(old: object) -> object:
        if isinstance(old, dict):
            return strings(old, value)
        if isinstance(old, list):
            return [changed(inner) for inner in old]
        return value if isinstance(old, str) else old

    return {key: changed(old) for key, old in section.items()}


def test_a_shell_in_every_string_key_is_refused_in_lines(project):
    hostile = strings(configuration.load(), ATTACK) | {"seeds": [1]}
    configure(project, hostile)
    done = run(project)
    lines = [line for line in done.stderr.splitlines() if line.startswith("config:")]
    # All string keys except two that may be any text; those are checked once the others are right.
    assert done.returncode == 1 and len(lines) >= 13 and "Traceback" not in done.stderr
    nothing_happened(project)
    for target in ("dag", "report", "status", "doctor"):
        make = ["make", "-o", ".venv/installed", target, "CONFIG=mine.yaml"]
        done = subprocess.run(make, cwd=project, env=ENVIRONMENT, capture_output=True, text=True, encoding="utf-8", check=False)
        assert done.returncode != 0, target
        nothing_happened(project)


# A valid file name.
ARCHIVE = "$(touch pwned);touch pwned`touch pwned`&& 'touch' \"pwned\" --output=x.tar.gz"


@pytest.mark.parametrize(
    "name", [ARCHIVE, "a{dataset}.tar.gz", "http://127.0.0.1:9/{dataset}/%2e%2e", "~nobody-of-this-name/x", "http://[", "x" * 5000]
)
def test_an_archives_name_is_a_name_and_no_command(project, name):
    if len(name) < 255 and "/" not in name:
        (project / name).write_bytes(b"no archive")
    configure(project, SMALL | {"data": {"dataset": "cifar10", "archive": name}})
    done = run(project)
    log = project / "logs/data/cifar10.log"
    told = done.stderr + (log.read_text(encoding="utf-8") if log.exists() else "")
    assert done.returncode == 1 and "Traceback" not in told, told
    refusals = ("is no gzip file", "does not exist", "does not end in a file's name", "has braces", "cannot be read (File name too long)")
    assert any(refusal in told for refusal in refusals), told
    if "/" not in name and name != ARCHIVE and len(name) < 255:
        (project / name).unlink()
    nothing_happened(project)


@pytest.mark.parametrize("path", ["%2e%2e%2f%2e%2e%2fpwned", "a%2f..%2f..%2f..%2fpwned", "%2ftmp%2fpwned", "..", "a%00b", "%2e"])
def test_a_urls_last_part_is_a_name_and_no_path(tmp_path, path):
    with pytest.raises(InputError, match="does not end in a file's name"):
        with local_copy(f"http://127.0.0.1:9/{path}", tmp_path / "downloads", "data.archive"):
            pass
    assert not list(tmp_path.iterdir())


class Attack:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def test_an_archive_of_attacks_is_refused_by_the_workflow(project):
    """Path traversal, links, a device, and a batch that is a program, all with the right names in the right places."""

    def entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        return info

    inside = cifar10.FOLDER
    entries = (
        entry("../../pwned", tarfile.REGTYPE),
        entry("/tmp/pwned", tarfile.REGTYPE),
        entry(f"{inside}/../../pwned", tarfile.DIRTYPE),
        entry(f"{inside}/data_batch_1", tarfile.SYMTYPE, "/etc/passwd"),
        entry(f"{inside}/data_batch_2", tarfile.LNKTYPE, "../../pwned"),
        entry(f"{inside}/test_batch", tarfile.CHRTYPE),
        entry(f"{inside}/batches.meta", tarfile.FIFOTYPE),
    )
    pack(project / ARCHIVE, dict.fromkeys(cifar10.MEMBERS, pickle.dumps(Attack())), entries)
    configure(project, SMALL | {"data": {"dataset": "cifar10", "archive": ARCHIVE}})
    assert run(project).returncode == 1
    log = (project / "logs/data/cifar10.log").read_text(encoding="utf-8")
    assert "has SHA-256" in log and "expected" in log and "Traceback" not in log
    assert not (project / "resources/data/cifar10.npz").exists()
    nothing_happened(project)


def trained_weights(**changes: np.ndarray | None) -> weights.Weights:
    """Weights for the pretrained variant, as prepare_weights.py writes them, with tensors changed, added or (None) left out."""
    start = {name: np.zeros(shape, np.float32) for name, shape in layers.weight_shapes(PRETRAINED).items() if not name.startswith("dense")}
    return {name: array for name, array in (start | changes).items() if array is not None}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"conv1.weight": np.zeros((96, 3, 11, 11), np.float32)},
            r"conv1\.weight of \(96, 3, 11, 11\) float32; .* needs \(64, 3, 11, 11\)",
        ),
        ({"conv2.bias": np.zeros((192, 1), np.float32)}, r"conv2\.bias of \(192, 1\) float32; .* needs \(192,\) float32"),
        ({"conv5.bias": None}, r"lacks conv5\.bias \(256,\), which alexnet_pretrained needs"),
        ({"conv6.bias": np.zeros(8, np.float32)}, r"has conv6\.bias, which alexnet_pretrained has not; is it of another variant\?"),
        ({"conv3.bias": np.zeros(384)}, r"conv3\.bias of \(384,\) float64; .* needs \(384,\) float32"),
        ({"conv3.bias": np.full(384, np.inf, np.float32)}, r"has values in conv3\.bias that are not finite"),
    ],
    ids=["shape", "axis", "missing", "extra", "type", "not finite"],
)
def test_weights_that_do_not_fit_are_refused_when_training_starts(digits_file, tmp_path, changes, says):
    path = tmp_path / "w.safetensors"
    weights.write(path, trained_weights(**changes), {"fresh_layers": "dense1 dense2 dense3"})
    refused(digits_file, tmp_path, path, says)


def test_weights_of_another_variant_are_refused_when_training_starts(digits_file, tmp_path):
    other = weights.initialise(variants.get("alexnet_mod"), "torch", 1)
    weights.write(tmp_path / "w.safetensors", other, {"fresh_layers": ""})
    refused(digits_file, tmp_path, tmp_path / "w.safetensors", r"conv1\.weight of \(96, 3, 11, 11\) float32; .* needs \(64, 3, 11, 11\)")


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_truncated_weights_are_refused_when_training_starts(digits_file, tmp_path, keep):
    path = tmp_path / "w.safetensors"
    weights.write(path, trained_weights(), {"fresh_layers": "dense1 dense2 dense3"})
    path.write_bytes(path.read_bytes()[:keep])
    refused(digits_file, tmp_path, path, "is not a whole safetensors file")


HEADERS = {
    "endless header": b"\xff" * 8 + b"{}",
    "offsets that overlap": {"a": [0, 8], "b": [4, 12]},
    "offsets beyond the end": {"a": [0, 1 << 60]},
    "negative": {"a": [-8, 0]},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_safetensors_header_that_lies_is_refused(tmp_path, header):
    if isinstance(header, dict):
        text = json.dumps({name: {"dtype": "F32", "shape": [2], "data_offsets": place} for name, place in header.items()}).encode()
        header = len(text).to_bytes(8, "little") + text + bytes(16)
    (tmp_path / "w.safetensors").write_bytes(header)
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        weights.read(tmp_path / "w.safetensors")


def refused(data: Path, tmp_path: Path, path: Path, says: str) -> None:
    command = ["--framework=pytorch", "--variant=alexnet_pretrained", f"--data={data}", f"--output={tmp_path / 'run'}", f"--weights={path}"]
    with pytest.raises(InputError, match=says):
        train.main([*command, "--train-limit=20", "--test-limit=20", "--epochs=1", "--device=cpu"])
    assert not (tmp_path / "run/metrics.json").exists()


SOURCES = {
    "bfloat16.safetensors": {"features.0.weight": torch.zeros(64, 3, 11, 11, dtype=torch.bfloat16)},
    "bfloat16.pth": {"features.0.weight": torch.zeros(64, 3, 11, 11, dtype=torch.bfloat16)},
    "sparse.pth": {"features.0.weight": torch.zeros(2, 2).to_sparse()},
    "meta.pth": {"features.0.weight": torch.zeros(2, 2, device="meta")},
    "numbers.pth": {"features.0.weight": 3.0},
    "names.pth": {3: torch.zeros(2)},
    "list.pth": [torch.zeros(2)],
    "code.pth": {"features.0.weight": Attack()},
    "pickle.pth": None,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOURCES)
def test_a_source_of_weights_that_is_none_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    if name.endswith(".safetensors"):
        save_file(SOURCES[name], name)
    elif SOURCES[name] is None:
        Path(name).write_bytes(pickle.dumps(Attack()))
    else:
        torch.save(SOURCES[name], name)
    with pytest.raises(InputError, match=rf"weights: {name}") as raised:
        prepare_weights.main(["--variant=alexnet_pretrained", f"--source={name}", "--output=out/w.safetensors", "--classifier=fresh"])
    assert str(raised.value).splitlines() == [str(raised.value)]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=30)), min_size=1, max_size=4), st.floats(0, 1.2))
@pytest.mark.filterwarnings("ignore")
def test_a_changed_torch_file_is_refused_or_as_good(tmp_path_factory, edits, keep):
    folder = tmp_path_factory.mktemp("torch")
    path = folder / "w.pth"
    torch.save({"features.0.weight": torch.ones(4, 3), "features.0.bias": torch.zeros(4)}, path)
    content = bytearray(path.read_bytes())
    for where, new in edits:
        place = int(where * len(content))
        content[place : place + len(new)] = new
    path.write_bytes(content[: int(keep * len(content)) + 1])
    try:
        found = prepare_weights.read_source(path)
    except InputError as error:
        assert str(error).splitlines() == [str(error)]
    else:
        assert all(isinstance(array, np.ndarray) for array in found.values())
    assert list(folder.iterdir()) == [path]


GRID = ["--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1"]
NONSENSE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.just(10**400)
    | st.sampled_from([-1, 0, 1e300, "\n|"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_metrics_edited_to_nonsense_are_refused_or_read(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("results")
    folder = root / "runs/pytorch/alexnet_mod/seed1"
    metrics = write_run(folder)
    changes = data.draw(st.dictionaries(st.sampled_from([*metrics, "other"]), NONSENSE, min_size=1, max_size=3))
    (folder / "metrics.json").write_text(json.dumps(metrics | changes), encoding="utf-8")
    try:
        collect.main(["--results", str(root), *GRID])
    except InputError as error:
        assert str(folder) in str(error) and not (root / "table.csv").exists()
    shutil.rmtree(root)


@pytest.fixture
def collected(tmp_path) -> Path:
    write_run(tmp_path / "runs/pytorch/alexnet_mod/seed1", accuracy=0.6)
    collect.main(["--results", str(tmp_path), *GRID])
    return tmp_path


def plotted(program, root: Path, *more: str) -> None:
    program.main(["--runs", str(root / "runs.csv"), "--output", str(root / "figure.png"), *more])


HISTORIES = {
    "nan": (b"2.2,", b"nan,", r"history\.csv: test_loss of epoch 1 is nan, expected a finite number"),
    "infinite": (b"2.2,", b"inf,", r"test_loss of epoch 1 is inf, expected a finite number"),
    "words": (b"2.2,", b"good,", r"test_loss of epoch 1 is good, expected a finite number"),
    "no column": (b"test_loss", b"loss", r"history\.csv lacks test_loss"),
    "an epoch less": (b"\r\n2,", b"\r\n", r"history\.csv"),
    "not text": (b"epoch", b"\xff\xfe\x00", r"history\.csv"),
    "empty": (None, b"", r"history\.csv is not a whole history"),
}


@pytest.mark.parametrize("change", HISTORIES.values(), ids=HISTORIES)
def test_a_history_with_a_hole_is_named(collected, change):
    path = collected / "runs/pytorch/alexnet_mod/seed1/history.csv"
    old, new, says = change
    content = path.read_bytes()
    path.write_bytes(content.replace(old, new, 1) if old else new)
    assert path.read_bytes() != content
    with pytest.raises(InputError, match=says):
        plotted(plot_learning, collected)
    assert not (collected / "figure.png").exists()


def test_predictions_of_another_run_are_named(collected, images_file):
    folder = collected / "runs/pytorch/alexnet_mod/seed1"
    cell = [f"--data={images_file}", "--framework=pytorch", "--variant=alexnet_mod"]
    plotted(plot_classes, collected, *cell)
    write_run(collected / "other", seed=2, accuracy=0.7)
    shutil.copy(collected / "other/predictions.npz", folder)
    with pytest.raises(
        InputError, match=r"predictions\.npz has an accuracy of 0\.7, its metrics\.json 0\.6: it is damaged or of another run"
    ):
        plotted(plot_classes, collected, *cell)


def spoilt(**changes) -> dict:
    labels = np.arange(100) % 10
    return {"logits": np.eye(10, dtype=np.float32)[labels], "labels": labels} | changes


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (spoilt(logits=np.full((100, 10), np.nan, np.float32)), "has an accuracy of"),
        (
            spoilt(logits=np.zeros((99, 10), np.float32)),
            r"logits float32 \(99, 10\) and labels int64 \(100,\); its metrics",
        ),
        (spoilt(labels=np.arange(100)), r"labels outside 0\.\.9"),
        (spoilt(labels=np.array([Attack()] * 100)), "is not a whole file of predictions"),
        ({"logits": np.zeros(1)}, "is not a whole file of predictions"),
    ],
    ids=["nan", "short", "labels", "code", "missing"],
)
def test_predictions_that_are_none_are_named(collected, images_file, monkeypatch, arrays, says):
    monkeypatch.chdir(collected)
    np.savez(collected / "runs/pytorch/alexnet_mod/seed1/predictions.npz", **arrays)
    with pytest.raises(InputError, match=rf"predictions\.npz .*{says}|{says}"):
        plotted(plot_classes, collected, f"--data={images_file}", "--framework=pytorch", "--variant=alexnet_mod")
    assert not (collected / "pwned").exists()
