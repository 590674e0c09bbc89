"""One run as a user runs it by hand: its files, its outcomes, its messages."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import train
from alexbench import backends
from alexbench.analysis import run_files, stats
from alexbench.backends import FRAMEWORKS
from alexbench.experiment import datasets
from alexbench.files import InputError
from alexbench.training import loop, trained_network
from conftest import ROOT

METRICS = [
    "framework",
    "variant",
    "seed",
    "dataset",
    "train_images",
    "test_images",
    "data_sha256",
    "parameters",
    "epochs",
    "batch_size",
    "recipe",
    "accuracy",
    "loss",
    "status",
    "setup_seconds",
    "compile_seconds",
    "train_seconds",
    "evaluate_seconds",
    "images_per_second",
    "peak_memory_bytes",
    "device",
    "device_name",
    "threads",
    "hostname",
    "slurm_job_id",
    "versions",
    "git_commit",
]
FILES = ["events", "history.csv", "metrics.json", "model.safetensors", "predictions.npz"]
PROGRAMS = sorted(path.name for path in (ROOT / "scripts").glob("*.py"))


def run_cell(data, output, *options: str, framework: str = "pytorch") -> dict:
    """Train alexnet_mod on 40 digits for one epoch, unless `options` say otherwise."""
    small = ["--train-limit=40", "--test-limit=20", "--epochs=1", "--batch-size=16", "--device=cpu", "--threads=1"]
    command = ["--framework", framework, "--variant=alexnet_mod", "--data", str(data), "--output", str(output)]
    assert train.main([*command, *small, *options]) == 0
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_run_writes_metrics_history_and_predictions(framework, digits_file, tmp_path):
    metrics = run_cell(digits_file, tmp_path, "--epochs=2", "--seed=5", framework=framework)
    assert set(METRICS) <= set(metrics)
    assert (metrics["framework"], metrics["seed"], metrics["parameters"]) == (framework, 5, 4_539_786)
    assert (metrics["train_images"], metrics["test_images"], metrics["train_limit"]) == (40, 20, 40)
    assert metrics["recipe"]["initialisation"] == backends.load(framework).conventions["initialisation"]
    assert metrics["images_per_second"] == pytest.approx(80 / metrics["train_seconds"])
    assert metrics["versions"]["numpy"] == np.__version__ and metrics["peak_memory_bytes"] > 1e8
    history = pd.read_csv(tmp_path / "history.csv")
    assert list(history) == ["epoch", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "learning_rate", "seconds"]
    assert history.epoch.tolist() == [1, 2]
    assert history.seconds.sum() == pytest.approx(metrics["train_seconds"])
    with np.load(tmp_path / "predictions.npz") as predictions:
        logits, labels = predictions["logits"], predictions["labels"]
    assert np.mean(logits.argmax(1) == labels) == metrics["accuracy"] == history.test_accuracy.iloc[-1]
    assert loop.cross_entropy(logits, labels) == pytest.approx(metrics["loss"])
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_seed_gives_the_same_bits(framework, digits_file, tmp_path):
    runs = [run_cell(digits_file, tmp_path / name, framework=framework) for name in ("a", "b")]
    assert runs[0]["loss"] == runs[1]["loss"]
    assert (tmp_path / "a" / "predictions.npz").read_bytes() == (tmp_path / "b" / "predictions.npz").read_bytes()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_deterministic_kernels_do_the_same_mathematics(framework, digits, tmp_path):
    """In a separate process, because TensorFlow cannot switch back. tests/test_gpu.py checks that a GPU repeats its bits."""
    # Noise, because in the flat parts of digits, rounding alone decides which of several equal numbers is the largest.
    noise = np.random.default_rng(1).integers(0, 256, digits.train_images.shape, np.uint8)
    data = tmp_path / "noise.npz"
    datasets.save(replace(digits, train_images=noise), data)
    # Adam makes a whole step of a gradient that is nothing but rounding: at the usual rate the loss differs by 9e-5 on a Zen 3.
    rate = "--learning-rate=1e-5"
    usual, another = (run_cell(data, tmp_path / f"seed{seed}", rate, f"--seed={seed}", framework=framework) for seed in (1, 2))
    small = ["--train-limit=40", "--test-limit=20", "--epochs=1", "--batch-size=16", "--device=cpu", "--threads=1", rate]
    options = ["--framework", framework, "--variant=alexnet_mod", f"--data={data}", f"--output={tmp_path / 'other'}"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), *options, *small, "--deterministic"]
    subprocess.run(command, check=True, capture_output=True)
    other = json.loads((tmp_path / "other" / "metrics.json").read_text(encoding="utf-8"))
    assert other["settings"]["deterministic"] and not usual["settings"]["deterministic"]
    assert other["loss"] == pytest.approx(usual["loss"], abs=1e-5)
    assert other["loss"] != pytest.approx(another["loss"], abs=1e-4), "as close as another network"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_with_validation_the_test_images_are_seen_once_after_the_last_epoch(framework, digits_file, tmp_path, monkeypatch):
    backend = backends.load(framework)
    test_images = datasets.load(digits_file).limited(40, 20).test_images
    seen, predict = [], backend.predict

    def noted(self, images, *more):
        seen.append("test" if len(images) == 20 and np.array_equal(images, test_images) else len(images))
        return predict(self, images, *more)

    monkeypatch.setattr(backend, "predict", noted)
    metrics = run_cell(digits_file, tmp_path, "--epochs=2", "--validation=10", "--validation-seed=3", framework=framework)
    # The first two compile, before the network has learned anything.
    assert seen == ["test", 10, 10, 10, "test"]
    assert (metrics["train_images"], metrics["validation_images"], metrics["validation_seed"]) == (30, 10, 3)
    history = pd.read_csv(tmp_path / "history.csv")
    assert [name for name in history if name.startswith(("test", "valid"))] == ["validation_loss", "validation_accuracy"]
    with np.load(tmp_path / "predictions.npz") as predictions:
        assert predictions["logits"].shape == (20, 10)
        assert metrics["accuracy"] == np.mean(predictions["logits"].argmax(1) == predictions["labels"])
    assert run_files.read_history(tmp_path).evaluated_loss.tolist() == history.validation_loss.tolist()


@pytest.mark.parametrize("classes", [2, 100])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_last_layer_has_an_output_for_each_class_of_the_data(framework, classes, digits, tmp_path):
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (2 * classes, 32, 32, 3), np.uint8)
    labels = np.arange(2 * classes) % classes
    made = datasets.Dataset("noise", images, labels, images, labels, tuple(f"class {number}" for number in range(classes)), left_out=3)
    datasets.save(made, tmp_path / "noise.npz")
    limits = [f"--train-limit={classes}", f"--test-limit={classes}"]
    metrics = run_cell(tmp_path / "noise.npz", tmp_path / "out", *limits, framework=framework)
    assert metrics["parameters"] == 4_539_786 + (classes - 10) * 513
    assert (metrics["left_out"], metrics["in_both"]) == (3, 0)
    with np.load(tmp_path / "out" / "predictions.npz") as predictions:
        assert predictions["logits"].shape == (classes, classes)
    network = trained_network.load(tmp_path / "out" / "model.safetensors", framework)
    assert network.classes == list(made.classes) and network.predict(images[:2]).shape == (2, classes)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_loss_that_is_not_finite_is_recorded_as_diverged(framework, digits_file, tmp_path):
    metrics = run_cell(digits_file, tmp_path, "--learning-rate=1e30", "--epochs=5", framework=framework)
    assert (metrics["status"], metrics["accuracy"], metrics["loss"]) == ("diverged", None, None)
    assert metrics["epochs"] < 5
    assert len(pd.read_csv(tmp_path / "history.csv")) == metrics["epochs"]


def test_an_untrained_network_counts_as_collapsed(digits_file, tmp_path):
    metrics = run_cell(digits_file, tmp_path, "--learning-rate=1e-12")
    assert metrics["status"] == "collapsed" and metrics["loss"] == pytest.approx(np.log(10), abs=0.01)


def predictions(labels, right: int, scale: float = 3.0):
    """Logits, float32 (n, 10), that name the true class for the first `right` images and the next class for all others."""
    return scale * np.eye(10, dtype=np.float32)[(labels + (np.arange(len(labels)) >= right)) % 10]


def test_collapse_is_accuracy_at_chance_or_one_class_for_all_whatever_the_loss():
    labels = np.arange(1000) % 10
    # One is right but unsure, the other wrong but sure.
    unsure, sure = predictions(labels, 646, 1e-4), predictions(labels, 75, 1e8)
    assert loop.cross_entropy(unsure, labels) == pytest.approx(2.3026, abs=1e-3) and not loop.has_collapsed(unsure, labels)
    assert loop.cross_entropy(sure, labels) > 9e7 and loop.has_collapsed(sure, labels)
    # Wilson's lower limit is 0.1022 for 121 of 1,000, and 0.0995 for 118.
    assert not loop.has_collapsed(predictions(labels, 121), labels) and loop.has_collapsed(predictions(labels, 118), labels)
    assert loop.has_collapsed(predictions(labels, 1000)[[0] * 1000], labels)
    # If 900 of 1,000 images are of one class, chance is 0.9.
    labels = np.array([0] * 900 + [1] * 100)
    assert loop.has_collapsed(predictions(labels, 900), labels) and not loop.has_collapsed(predictions(labels, 950), labels)
    assert loop.has_collapsed(predictions(labels, 0)[:, ::-1], labels)


@pytest.mark.parametrize(("correct", "n"), [(0, 20), (5, 20), (81, 263), (1000, 1000)])
def test_wilsons_lower_limit_is_that_of_the_tables(correct, n):
    assert loop.wilson_lower(correct, n) == pytest.approx(stats.wilson(correct, n).low, abs=1e-12)


def test_cross_entropy_is_exact_for_large_logits():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], np.float32)
    assert loop.cross_entropy(logits, np.array([0, 0])) == pytest.approx(500.0)


def test_data_and_weights_that_are_missing_are_named(digits_file, tmp_path):
    with pytest.raises(InputError, match=r"data: .*no\.npz does not exist"):
        run_cell(tmp_path / "no.npz", tmp_path)
    with pytest.raises(InputError, match=r"alexnet_pretrained starts from trained weights; make their file with"):
        run_cell(digits_file, tmp_path, "--variant=alexnet_pretrained")
    with pytest.raises(InputError, match=r"weights: .*no\.safetensors does not exist"):
        run_cell(digits_file, tmp_path, "--variant=alexnet_pretrained", f"--weights={tmp_path / 'no.safetensors'}")
    with pytest.raises(InputError, match="alexnet_mod starts from random weights"):
        run_cell(digits_file, tmp_path, f"--weights={digits_file}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option",
    ["--epochs=0", "--epochs=1.5", "--batch-size=-1", "--learning-rate=0", "--dropout=1", "--framework=jaxx", "--threads=0", "--seed=x"],
)
def test_options_out_of_range_are_refused(option, digits_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as raised:
        run_cell(digits_file, tmp_path, option)
    assert raised.value.code == 2
    assert option.partition("=")[0] in capsys.readouterr().err


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_helps(program):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / program, "--help"], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.startswith("usage: ") and f"python scripts/{program}" in done.stdout


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "train.py", "--framework=pytorch", "--variant=alexnet", "--data=no.npz", "--output=out"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stderr == "data: no.npz does not exist; make it with scripts/prepare_data.py\n"


def test_a_gpu_without_enough_memory_is_not_tried_again(digits_file, tmp_path, monkeypatch):
    """There is no GPU here, so the test raises the framework's own exception."""
    import torch

    from alexbench.backends import pytorch

    def describe(self):
        return {"device": "cuda", "device_name": "a GPU", "versions": {}, "settings": {}}

    def train_out_of_memory(self, plan):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with monkeypatch.context() as patched:
        patched.setattr(pytorch.Backend, "describe", describe)
        patched.setattr(pytorch.Backend, "train", train_out_of_memory)
        with pytest.raises(
            InputError, match=r"the GPU \(a GPU\) has too little memory .* batches of 16: lower recipe\.batch_size.*CUDA out of memory"
        ):
            run_cell(digits_file, tmp_path)
    with pytest.raises(InputError, match=r"not tried again: the GPU .* has too little memory"):
        run_cell(digits_file, tmp_path, "--attempt=2")
    assert run_cell(digits_file, tmp_path)["status"] in ("completed", "collapsed")
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_the_peak_memory_of_a_process_is_not_its_launchers(tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from alexbench.training import loop; print(loop.peak_process_memory_bytes())"
    launcher = f"import os, sys; big = b'x' * 1_000_000_000; os.execv(sys.executable, [sys.executable, '-c', {code!r}, sys.argv[1]])"
    command = [sys.executable, "-c", launcher, str(ROOT / "scripts")]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert sys.platform != "linux" or int(done.stdout) < 500_000_000


def test_the_benchmark_of_scale_does_not_measure_itself(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    import scale

    ours = b"x" * 500_000_000
    assert scale.measured([sys.executable, "-c", "pass"], tmp_path)[1] < len(ours) / 1e6 / 2
    # The measured command may start processes of its own.
    nested = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'big = bytes(1) * 200_000_000'], check=True)"
    assert 190 < scale.measured([sys.executable, "-c", nested], tmp_path)[1] < 300
    with pytest.raises(SystemExit, match="no such thing"):
        scale.measured([sys.executable, "-c", "import sys; sys.exit('no such thing')"], tmp_path)
