"""A run that is interrupted, anywhere and in any way, ends as if it had not been: bit for bit, with the time of every piece counted."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from alexbench import backends, machine
from alexbench.backends import FRAMEWORKS
from alexbench.experiment import weights
from alexbench.experiment.execution import Execution
from alexbench.experiment.recipe import Recipe
from alexbench.training import checkpoint, loop
from alexbench.training.interruption import Interrupted, Stop
from conftest import NORMALISED, ROOT, TINY

RECIPE = Recipe(initialisation="torch", adam_epsilon="torch", epochs=3, batch_size=16)
# 100 digits: 7 steps per epoch, the last with 4 images.
STEPS = 7


class StopAfter(Stop):
    """True from the n-th time that the loop checks it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def __bool__(self) -> bool:
        self.looks -= 1
        if self.looks < 0:
            self.signal = signal.SIGTERM
        return self.signal is not None


def piece(
    framework, digits, folder, stop=None, identity=None, said=None, variant=TINY, runs_per_gpu=1, **other
) -> tuple[loop.Outcome, weights.Weights]:
    """One process's part of a run, from fresh objects, until `stop`; `other` changes the recipe."""
    recipe = replace(RECIPE, **other).resolved({}, "unit")
    setup = backends.Setup(variant, recipe, np.zeros(3, np.float32), np.ones(3, np.float32), "cpu", 1, 1, Execution())
    backend = backends.load(framework)(setup)
    backend.set_weights(weights.initialise(variant, "torch", 1))
    backend.set_data(digits.train_images, digits.train_labels)
    run_folder, identity = loop.RunFolder(folder), identity or {"seed": 1}
    stop = Stop() if stop is None else stop
    say = print if said is None else said.append
    outcome = loop.train(backend, digits, recipe, 1, run_folder, identity, 1.0, stop, say, runs_per_gpu=runs_per_gpu)
    return outcome, backend.get_weights()


def without_seconds(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("looks", [0, 1, 3, STEPS - 1, STEPS, STEPS + 1, 2 * STEPS + 4])
def test_stopped_anywhere_it_ends_as_if_it_had_not_been(framework, looks, digits, tmp_path):
    whole, whole_weights = piece(framework, digits, tmp_path / "whole")
    with pytest.raises(Interrupted, match="SIGTERM: saved after"):
        piece(framework, digits, tmp_path / "pieces", StopAfter(looks))
    first = checkpoint.load(tmp_path / "pieces" / "checkpoint.safetensors", {"seed": 1}, print)[0]
    outcome, ended = piece(framework, digits, tmp_path / "pieces")
    assert all(np.array_equal(ended[name], whole_weights[name]) for name in whole_weights)
    assert np.array_equal(outcome.progress.logits, whole.progress.logits)
    assert without_seconds(outcome.progress.history) == without_seconds(whole.progress.history)
    assert outcome.progress.interruptions == 1 and whole.progress.interruptions == 0
    clocks = outcome.progress.clocks
    assert clocks.setup_seconds == 2.0 and clocks.compile_seconds > first.clocks.compile_seconds
    assert clocks.train_seconds > first.clocks.train_seconds
    assert sum(row["seconds"] for row in outcome.progress.history) == pytest.approx(clocks.train_seconds)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_stopped_again_and_again(framework, digits, tmp_path):
    _, whole = piece(framework, digits, tmp_path / "whole")
    pieces = 0
    while True:
        try:
            outcome, ended = piece(framework, digits, tmp_path / "pieces", StopAfter(5))
            break
        except Interrupted:
            pieces += 1
    assert pieces >= 3 and outcome.progress.interruptions == pieces
    assert all(np.array_equal(ended[name], whole[name]) for name in whole)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_running_averages_schedule_and_augmentation_go_on_too(framework, digits, tmp_path):
    better = {"schedule": "one_cycle", "warm_up_epochs": 1.5, "flips": True, "crop_padding": 2, "weight_decay": 0.1}
    whole, whole_weights = piece(framework, digits, tmp_path / "whole", variant=NORMALISED, **better)
    with pytest.raises(Interrupted):
        piece(framework, digits, tmp_path / "pieces", StopAfter(STEPS + 3), variant=NORMALISED, **better)
    outcome, ended = piece(framework, digits, tmp_path / "pieces", variant=NORMALISED, **better)
    assert all(np.array_equal(ended[name], whole_weights[name]) for name in whole_weights)
    assert without_seconds(outcome.progress.history) == without_seconds(whole.progress.history)


def test_a_run_that_went_on_elsewhere_names_both_machines(interrupted, digits, monkeypatch):
    monkeypatch.setattr(machine, "cpu_name", lambda: "another processor")
    here = checkpoint.load(interrupted / "checkpoint.safetensors", {"seed": 1}, print)[0].device_names
    outcome, _ = piece("pytorch", digits, interrupted)
    assert len(here) == 1 and outcome.progress.device_names == [*here, "another processor"]


def test_a_run_that_shared_its_gpu_once_has_done_so(digits, tmp_path):
    with pytest.raises(Interrupted):
        piece("pytorch", digits, tmp_path, StopAfter(STEPS + 4), runs_per_gpu=3)
    outcome, _ = piece("pytorch", digits, tmp_path, runs_per_gpu=2)
    assert outcome.progress.interruptions == 1 and outcome.progress.runs_per_gpu == 3


@pytest.fixture
def interrupted(digits, tmp_path):
    """A folder with the checkpoint of a run that was stopped in its second epoch."""
    with pytest.raises(Interrupted):
        piece("pytorch", digits, tmp_path / "run", StopAfter(STEPS + 4))
    return tmp_path / "run"


def test_a_checkpoint_of_another_run_is_set_aside_and_the_difference_told(interrupted, digits):
    said = []
    outcome, _ = piece("pytorch", digits, interrupted, identity={"seed": 1, "recipe": {"epochs": 3}}, said=said)
    assert outcome.progress.interruptions == 0 and len(outcome.progress.history) == 3
    assert any("it is of another run (recipe was None, is {'epochs': 3}); set aside as checkpoint.set-aside" in line for line in said)
    assert (interrupted / "checkpoint.set-aside").exists()


def test_what_differs_is_named_key_by_key():
    ours = {"versions": {"torch": "2.13.0"}, "seed": 1}
    theirs = {"versions": {"torch": "2.12.0"}, "seed": 1}
    assert checkpoint._differences(ours, theirs) == "versions.torch was '2.12.0', is '2.13.0'"
    assert checkpoint._differences(ours, ours) == ""


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_checkpoint_is_set_aside(interrupted, digits, keep):
    path = interrupted / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    said = []
    outcome, _ = piece("pytorch", digits, interrupted, said=said)
    assert outcome.progress.interruptions == 0
    assert any("checkpoint.safetensors: it is damaged" in line and "starting from the beginning" in line for line in said)


def test_weights_are_no_checkpoint(interrupted, digits):
    weights.write(interrupted / "checkpoint.safetensors", weights.initialise(TINY, "torch", 1), {})
    said = []
    piece("pytorch", digits, interrupted, said=said)
    assert any("it is damaged ('identity')" in line for line in said)


def start(framework: str, data, output) -> subprocess.Popen:
    """Start train.py as a user does, on 300 digits."""
    size = ["--train-limit=300", "--test-limit=20", "--epochs=3", "--batch-size=16"]
    options = ["--variant=alexnet_mod", *size, "--device=cpu", "--threads=1"]
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--framework", framework, *options, "--data", str(data)]
    return subprocess.Popen([*command, "--output", str(output)], stderr=subprocess.PIPE, text=True, encoding="utf-8")


def wait_for(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit, "it takes too long"
        time.sleep(0.02)


def stage(output) -> str:
    """What the run in `output` reports as its progress; empty if nothing."""
    path = output / "progress.json"
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.slow
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_signals_to_a_real_process(framework, digits_file, tmp_path):
    """SIGTERM in mid-epoch, kill -9 later on, then run to the end; compared with an undisturbed run."""
    whole, output = tmp_path / "whole", tmp_path / "pieces"
    undisturbed = start(framework, digits_file, whole)
    assert undisturbed.wait() == 0

    process = start(framework, digits_file, output)
    wait_for(lambda: "training" in stage(output), process)
    process.send_signal(signal.SIGTERM)
    stderr = process.communicate()[1]
    assert stage(output) == ""
    assert process.returncode == 75 and "interrupted by SIGTERM: saved after 0 epochs and" in stderr
    assert not (output / "metrics.json").exists()

    process = start(framework, digits_file, output)
    saved = (output / "checkpoint.safetensors").stat().st_mtime_ns
    wait_for(lambda: (output / "checkpoint.safetensors").stat().st_mtime_ns != saved, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL

    process = start(framework, digits_file, output)
    assert process.wait() == 0
    assert "resumed after 1 epochs and 0 steps (interruption 2)" in process.stderr.read()
    first, second = (json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (whole, output))
    assert second["interruptions"] == 2 and second["final_weights_sha256"] == first["final_weights_sha256"]
    assert second["loss"] == first["loss"]
    assert (whole / "predictions.npz").read_bytes() == (output / "predictions.npz").read_bytes()
    histories = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (whole, output)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    assert sorted(path.name for path in output.iterdir()) == [
        "events",
        "history.csv",
        "metrics.json",
        "model.safetensors",
        "predictions.npz",
    ]


@pytest.mark.slow
def test_two_processes_on_one_run_train_it_once(digits_file, tmp_path):
    """The first process outlived its Snakemake and is still training when the next Snakemake starts the job again."""
    first = start("pytorch", digits_file, tmp_path / "run")
    wait_for(lambda: "training" in stage(tmp_path / "run"), first)
    second = start("pytorch", digits_file, tmp_path / "run")
    assert first.wait() == 0
    assert second.wait() == 0
    said = second.stderr.read()
    assert "another process is training this run; waiting for it to end: {" in said and f'"pid": {first.pid}' in said
    assert "is from this same run: nothing to do" in said and "compiled" not in said
