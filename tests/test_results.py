"""Tables say what the runs' files say; failures are counted and missing runs named."""

import json
import re

import numpy as np
import pandas as pd
import pytest

import collect
from alexbench.analysis import results_table, run_files, stats
from alexbench.files import InputError, write_json
from alexbench.metrics import FORMAT
from conftest import ROOT, write_run

GRID = ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "alexnet", "--seeds", "1", "2"]


def collected(folder, *options: str) -> pd.DataFrame:
    assert collect.main(["--results", str(folder), *GRID, *options]) == 0
    return pd.read_csv(folder / "table.csv").set_index(["framework", "variant"])


def run_folder(root, framework="pytorch", variant="alexnet_mod", seed=1):
    return root / "runs" / framework / variant / f"seed{seed}"


def test_a_cell_is_mean_spread_and_n_beside_the_original(grid_folder):
    table = collected(grid_folder)
    assert table.index.tolist() == [(f, v) for f in ("pytorch", "tensorflow") for v in ("alexnet_mod", "alexnet")]
    row = table.loc["pytorch", "alexnet_mod"]
    assert row.accuracy == pytest.approx(0.63) and row.accuracy_sd == pytest.approx(np.std([0.62, 0.64], ddof=1))
    assert (row.n, row.collapsed, row.diverged, row.parameters) == (2, 0, 0, 4539786)
    assert (row.original_accuracy, row.original_train_seconds, row.original_loss) == (0.6370, 471.11, 1.052892)


def test_a_cell_has_its_interval_and_its_distance_from_the_original(grid_folder):
    row = collected(grid_folder).loc["pytorch", "alexnet_mod"]
    # Student's t for one degree of freedom is 12.706.
    assert (row.accuracy_low, row.accuracy_high) == pytest.approx((0.63 - 12.706 * 0.01, 0.63 + 12.706 * 0.01), abs=1e-5)
    assert row.accuracy_interval == "t" and row.accuracy_minus_original == pytest.approx(-0.007) and row.accuracy_original_within
    write_run(run_folder(grid_folder, seed=2), seed=2, accuracy=0.99, train_seconds=1.0)
    row = collected(grid_folder).loc["pytorch", "alexnet_mod"]
    assert (row.accuracy_low, row.accuracy_high, row.train_seconds_low) == (0, 1, 0) and row.train_seconds_high > 100
    write_run(run_folder(grid_folder, seed=2), seed=2, accuracy=0.6201, train_seconds=101.0)
    row = collected(grid_folder).loc["pytorch", "alexnet_mod"]
    assert not row.accuracy_original_within and not row.train_seconds_original_within
    markdown = (grid_folder / "table.md").read_text(encoding="utf-8")
    assert "0.6370 (-0.0170, outside)" in markdown and "471 (-371, outside)" in markdown
    # These runs have 2 epochs, the original study's 15.
    assert "which does not test it, because the experiments differ" in markdown


def test_the_originals_single_run_is_held_against_a_further_run_of_ours(grid_folder):
    for seed, accuracy in ((1, 0.6201), (2, 0.6199)):
        write_run(run_folder(grid_folder, seed=seed), seed=seed, accuracy=accuracy)
    # The mean's interval is 12.706 standard errors, 0.0013, to each side; that of a further run sqrt(3) times as much.
    for theirs, within in ((0.6221, True), (0.6224, False)):
        original = results_table.read_original(ROOT / "config" / "original.csv")
        original.loc[(original.framework == "pytorch") & (original.variant == "alexnet_mod"), "accuracy"] = theirs
        original.to_csv(grid_folder / "original.csv", index=False)
        row = collected(grid_folder, "--original", str(grid_folder / "original.csv")).loc["pytorch", "alexnet_mod"]
        assert row.accuracy_high < theirs and row.accuracy_original_within == within
        assert row.accuracy_run_high == pytest.approx(0.62 + 12.706 * 1e-4 * 3**0.5, abs=1e-5)
    assert collect.main(["--results", str(grid_folder), *GRID[:-1]]) == 0
    assert pd.read_csv(grid_folder / "table.csv").accuracy_original_within.isna().all()
    assert ", within" not in (text := (grid_folder / "table.md").read_text(encoding="utf-8")) and ", outside" not in text


def test_the_original_is_no_measure_of_another_data_set(grid_folder):
    for framework in ("pytorch", "tensorflow"):
        for variant in ("alexnet_mod", "alexnet"):
            for seed in (1, 2):
                write_run(
                    run_folder(grid_folder, framework, variant, seed), framework=framework, variant=variant, seed=seed, dataset="digits"
                )
    table = collected(grid_folder)
    assert table.accuracy_minus_original.isna().all() and table.accuracy_original_within.isna().all()
    assert "within" not in (grid_folder / "table.md").read_text(encoding="utf-8")


def test_runs_whose_recipe_was_lost_are_not_called_the_originals_experiment(grid_folder):
    for framework in ("pytorch", "tensorflow"):
        for variant in ("alexnet_mod", "alexnet"):
            for seed in (1, 2):
                write_run(run_folder(grid_folder, framework, variant, seed), framework=framework, variant=variant, seed=seed, recipe="lost")
    collected(grid_folder)
    assert "because the experiments differ" in (grid_folder / "table.md").read_text(encoding="utf-8")


def test_where_the_original_has_no_figures_it_is_left_out(grid_folder):
    runs = run_files.runs_table(run_files.grid(grid_folder, ["pytorch"], ["alexnet"], [1, 2]))
    with_original, without = (
        results_table.table(runs, results_table.read_original(ROOT / "config" / "original.csv")),
        results_table.table(runs),
    )
    assert without.columns.tolist() == with_original.columns.tolist() and without.accuracy_minus_original.isna().all()
    assert "Original: accuracy" in results_table.readable(with_original) and "Original" in results_table.conditions(with_original, runs)
    assert not [
        name for name in results_table.readable(without) if name.startswith("Original")
    ] and "Original" not in results_table.conditions(without, runs)


def test_where_classes_are_unbalanced_two_measures_stand_beside_accuracy(grid_folder):
    balanced = collect.main(["--results", str(grid_folder), *GRID]) == 0 and (grid_folder / "table.md").read_text(encoding="utf-8")
    assert "Balanced accuracy" not in balanced and "Macro-F1" not in balanced
    for path in grid_folder.glob("runs/*/*/*/predictions.npz"):
        with np.load(path) as predictions:
            logits, labels = predictions["logits"], np.minimum(predictions["labels"], 6)
        np.savez(path, logits=logits, labels=labels)
        metrics = json.loads((path.parent / "metrics.json").read_bytes())
        write_json(path.parent / "metrics.json", metrics | {"accuracy": float(np.mean(logits.argmax(1) == labels))})
    assert collect.main(["--results", str(grid_folder), *GRID]) == 0
    row = pd.read_csv(grid_folder / "table.csv").iloc[0]
    assert 0 < row.balanced_accuracy < 1 and 0 < row.macro_f1 < 1 and row.balanced_accuracy_low <= row.balanced_accuracy
    assert "Balanced accuracy" in (grid_folder / "table.md").read_text(encoding="utf-8")
    assert results_table.read(grid_folder / "table.csv").macro_f1.notna().all()


def test_calibration_is_of_the_predictions(grid_folder):
    row = collected(grid_folder).loc["pytorch", "alexnet_mod"]
    errors = [stats.expected_calibration_error(*run_files.read_predictions(run_folder(grid_folder, seed=seed))) for seed in (1, 2)]
    assert row.calibration_error == pytest.approx(np.mean(errors)) and row.calibration_error_sd == pytest.approx(np.std(errors, ddof=1))


def test_every_class_has_its_accuracy_and_interval(grid_folder):
    write_run(run_folder(grid_folder, "tensorflow", seed=2), framework="tensorflow", seed=2, status="collapsed")
    collected(grid_folder)
    table = results_table.classes_table(run_files.read_runs(grid_folder / "runs.csv"), tuple("abcdefghij"))
    assert len(table) == 4 * 10 and table.images.tolist() == [10] * 40
    ours = table.set_index(["framework", "variant", "class"]).sort_index()
    accuracies = [stats.class_accuracy(*run_files.read_predictions(run_folder(grid_folder, seed=seed)))[2] for seed in (1, 2)]
    row = ours.loc["pytorch", "alexnet_mod", "c"]
    assert row.accuracy == pytest.approx(np.mean(accuracies)) and row.n == 2
    assert (row.accuracy_low, row.accuracy_high) == pytest.approx(np.clip(stats.mean_interval(accuracies)[1:], 0, 1), nan_ok=True)
    single = ours.loc["tensorflow", "alexnet_mod", "c"]
    assert single.n == 1 and single.accuracy_low == pytest.approx(stats.wilson(round(10 * single.accuracy), 10).low)


def test_the_originals_figures_are_those_that_it_published():
    original = results_table.read_original(ROOT / "config" / "original.csv").set_index(["framework", "variant"])
    assert original.loc["tensorflow", "alexnet"].tolist() == [58322314, 1152.28, 0.6651, 1.019877]
    assert original.loc["pytorch", "alexnet_pretrained"].tolist() == [57044810, 2651.97, 0.7809, 0.689839]
    assert ("tensorflow", "alexnet_pretrained") not in original.index


def test_runs_that_failed_are_counted_and_not_averaged(grid_folder):
    write_run(run_folder(grid_folder, seed=2), seed=2, status="collapsed", accuracy=0.1, loss=2.3026)
    for seed in (1, 2):
        variant = {"variant": "alexnet", "variant_title": "AlexNet (224)", "seed": seed}
        write_run(run_folder(grid_folder, variant="alexnet", seed=seed), **variant, status="diverged", accuracy=None, loss=None)
    table = collected(grid_folder)
    assert table.loc["pytorch", "alexnet_mod"][["n", "collapsed", "accuracy"]].tolist() == [1, 1, 0.62]
    lost = table.loc["pytorch", "alexnet"]
    assert (lost.n, lost.diverged) == (0, 2) and np.isnan(lost.accuracy) and np.isnan(lost.train_seconds)
    markdown = (grid_folder / "table.md").read_text(encoding="utf-8")
    assert "1 of 2 (1 collapsed)" in markdown and "0 of 2 (2 diverged)" in markdown


def test_one_run_has_no_spread(grid_folder):
    assert collect.main(["--results", str(grid_folder), *GRID[:-1]]) == 0
    table = pd.read_csv(grid_folder / "table.csv")
    assert table.n.tolist() == [1] * 4 and table.accuracy_sd.isna().all()
    # Wilson's interval, for 62 right images of 100; a single time or loss has none.
    assert table.accuracy_interval.tolist() == ["Wilson"] * 4
    assert table[["accuracy_low", "accuracy_high"]].iloc[0].tolist() == pytest.approx(stats.wilson(62, 100)[1:])
    assert table.train_seconds_low.isna().all() and table.loss_high.isna().all()
    markdown = (grid_folder / "table.md").read_text(encoding="utf-8")
    assert "0.6200 [0.5221, 0.7090] |" in markdown and "n = 1 |" in markdown
    assert "A single run gets an interval for accuracy only" in markdown


def test_tables_for_reading_have_every_cell(grid_folder):
    collected(grid_folder)
    markdown, latex = (grid_folder / "table.md").read_text(encoding="utf-8"), (grid_folder / "table.tex").read_text(encoding="utf-8")
    assert re.search(r"\| PyTorch +\| AlexNet mod. \(32\) .* 4,539,786 .* 0.6300 ± 0.0141 .* 471 ", markdown)
    assert "50,000 training images, 100 test images; 2 epochs; on a processor" in markdown
    assert r"\toprule" in latex and r"0.6300 $\pm$ 0.0141" in latex and latex.count(r"\\") == 5
    runs = pd.read_csv(grid_folder / "runs.csv")
    assert len(runs) == 8 and runs["recipe.epochs"].tolist() == [2] * 8 and runs.folder.str.endswith("seed1").sum() == 4


def test_missing_runs_are_listed(grid_folder):
    for seed in (1, 2):
        (run_folder(grid_folder, "tensorflow", "alexnet", seed) / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"2 of 8 runs have no metrics.json:\n  tensorflow alexnet seed 1\n  tensorflow alexnet seed 2$"):
        collected(grid_folder)
    assert not (grid_folder / "table.csv").exists()
    assert len(collected(grid_folder, "--partial")) == 3
    assert "2 runs of the grid are missing." in (grid_folder / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"accuracy": 1.5}, "accuracy is 1.5; expected 0 to 1"),
        ({"accuracy": None}, "accuracy is None"),
        ({"accuracy": "high"}, "accuracy is 'high'"),
        ({"loss": -1}, "loss is -1; expected at least 0"),
        ({"status": "fine"}, "status is 'fine'; expected one of completed, collapsed, diverged"),
        ({"parameters": 1.5}, "parameters is 1.5"),
        ({"train_seconds": True}, "train_seconds is True"),
        ({"seed": 7}, "is of seed 7; its place is that of 1"),
        ({"framework": "tensorflow"}, "is of framework 'tensorflow'; its place is that of 'pytorch'"),
    ],
)
def test_metrics_that_make_no_sense_are_refused(grid_folder, change, says):
    write_run(run_folder(grid_folder), **change)
    with pytest.raises(InputError) as raised:
        collected(grid_folder)
    assert says in str(raised.value) and str(run_folder(grid_folder) / "metrics.json") in str(raised.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"status": NaN}', "\x00"])
def test_a_file_that_holds_no_metrics_is_refused(grid_folder, content):
    (run_folder(grid_folder) / "metrics.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"seed1/metrics\.json"):
        collected(grid_folder)


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        ("torch", "keras", "own defaults: PyTorch with the start of torch and the Adam of torch, TensorFlow with the start of keras"),
        ("he", "he", "All frameworks used the same initialisation (he) and Adam (he): this compares only the frameworks."),
    ],
)
def test_the_table_says_which_comparison_was_made(tmp_path, ours, theirs, says):
    for framework, title, way in (("pytorch", "PyTorch", ours), ("tensorflow", "TensorFlow", theirs)):
        folder = tmp_path / "runs" / framework / "alexnet_mod" / "seed1"
        recipe = {"epochs": 2, "initialisation": way, "adam_epsilon": way}
        write_run(folder, framework=framework, framework_title=title, recipe=recipe)
    runs = run_files.runs_table(run_files.grid(tmp_path, ["pytorch", "tensorflow"], ["alexnet_mod"], [1]))
    assert says in results_table.conditions(results_table.table(runs, results_table.read_original(ROOT / "config" / "original.csv")), runs)


def test_runs_of_earlier_versions_are_read_and_of_later_ones_refused(tmp_path):
    (run,) = run_files.grid(tmp_path, ["pytorch"], ["alexnet_mod"], [1])
    write_run(run.folder)
    assert "format" not in json.loads((run.folder / "metrics.json").read_text(encoding="utf-8"))
    metrics = run_files.read_metrics(run)
    assert (metrics["format"], metrics["runs_per_gpu"]) == (FORMAT, 1)
    write_run(run.folder, format=FORMAT + 1)
    with pytest.raises(InputError, match=rf"metrics.json: format is {FORMAT + 1}; this version reads 1 to {FORMAT}"):
        run_files.read_metrics(run)
