"""A network trained for as long as another took: for how long, on what hardware, and what the comparison says."""

import json

import pandas as pd
import pytest

import compare_equal_time
from alexbench.experiment.recipe import Recipe
from alexbench.files import InputError
from alexbench.training import loop
from alexbench.training.checkpoint import Clocks, Progress
from conftest import write_run
from test_train import run_cell


def test_as_many_epochs_as_come_closest():
    def epochs(run: int, seconds: float, budget: float | None) -> int:
        return loop._epochs(Progress(clocks=Clocks(train_seconds=seconds), epochs_run=run), Recipe(epochs=15), budget)

    assert epochs(3, 30, None) == epochs(0, 0, 100.0) == 15
    assert epochs(1, 10, 104.0) == 10 and epochs(1, 10, 106.0) == 11
    # The number of epochs left follows from how long they really take.
    assert epochs(5, 100, 106.0) == 5 and epochs(1, 10, 1.0) == 1


def test_a_run_is_trained_as_long_as_another(digits_file, tmp_path):
    model = run_cell(digits_file, tmp_path / "model")
    path = tmp_path / "model" / "metrics.json"
    path.write_text(json.dumps(model | {"train_seconds": 30 * model["train_seconds"]}), encoding="utf-8")
    found = run_cell(digits_file, tmp_path / "long", f"--as-long-as={path}")
    assert found["budget_seconds"] == 30 * model["train_seconds"] and model["budget_seconds"] is None
    # The first epoch is the slowest. How many epochs there are depends on the machine; that the time is kept does not.
    one = found["train_seconds"] / found["epochs"]
    assert found["epochs"] > 1 and abs(found["train_seconds"] - found["budget_seconds"]) <= one
    assert len(pd.read_csv(tmp_path / "long" / "history.csv")) == found["epochs"]


def test_times_of_other_hardware_are_refused(digits_file, tmp_path):
    model = run_cell(digits_file, tmp_path / "model")
    path = tmp_path / "model" / "metrics.json"
    for key, value in (("threads", 7), ("device_name", "a GPU"), ("runs_per_gpu", 3), ("framework", "tensorflow")):
        path.write_text(json.dumps(model | {key: value}), encoding="utf-8")
        with pytest.raises(InputError, match=rf"metrics\.json has {key} {value!r} and this run .* run both on the same kind of machine"):
            run_cell(digits_file, tmp_path / "long", f"--as-long-as={path}")
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"--as-long-as: .*metrics\.json is not the metrics\.json of a run"):
        run_cell(digits_file, tmp_path / "long", f"--as-long-as={path}")


def test_a_schedule_has_to_know_its_end(digits_file, tmp_path):
    with pytest.raises(InputError, match=r"recipe\.schedule: one_cycle has to know the number of epochs"):
        run_cell(digits_file, tmp_path, "--schedule=one_cycle", "--as-long-as=metrics.json")


def test_mirrored_images_are_resident_ones(digits_file, tmp_path):
    with pytest.raises(InputError, match=r"recipe\.flips, recipe\.crop_padding: .* execution\.input: resident alone"):
        run_cell(digits_file, tmp_path, "--flips", "--input=per_image")
    with pytest.raises(InputError, match=r"recipe\.warm_up_epochs: 3 is more than the 1 epochs"):
        run_cell(digits_file, tmp_path, "--warm-up-epochs=3")


def test_the_comparison_names_both_and_what_came_out(grid_folder, capsys):
    for framework, title in (("pytorch", "PyTorch"), ("tensorflow", "TensorFlow")):
        for seed in (1, 2):
            write_run(
                grid_folder / "equal_time/runs" / framework / "alexnet_mod" / f"seed{seed}",
                framework=framework,
                framework_title=title,
                seed=seed,
                epochs=12,
                train_seconds=99.0 + seed,
                budget_seconds=100.0,
                accuracy=0.7 + 0.02 * seed + 0.001 * (seed - 1),
            )
            for variant in ("alexnet_mod", "alexnet"):
                path = grid_folder / "runs" / framework / variant / f"seed{seed}" / "metrics.json"
                path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"budget_seconds": None}))
    seeds = ["--seeds", "1", "2"]
    names = ["--frameworks", "pytorch", "tensorflow", "--variant=alexnet_mod", "--as-long-as=alexnet"]
    assert compare_equal_time.main(["--results", str(grid_folder), *names, *seeds]) == 0
    text = (grid_folder / "equal_time" / "table.md").read_text(encoding="utf-8")
    assert "AlexNet mod. (32), as long as AlexNet (224)" in text
    assert "- PyTorch: 12 epochs instead of 2, 1.00 times the time that it was given." in text
    assert "the difference is +0.1005" in text and capsys.readouterr().out.strip() == text.strip()
    assert len(pd.read_csv(grid_folder / "equal_time" / "table.csv")) == 6
