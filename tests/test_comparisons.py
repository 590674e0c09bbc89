"""Pairs of cells: what is said about them is what their runs support, and runs that do not belong together are never mixed."""

import json

import numpy as np
import pandas as pd
import pytest

import collect
import compare
from alexbench.analysis import comparability, comparisons, results_table, run_files, stats
from alexbench.experiment import datasets
from alexbench.files import InputError, write_json
from alexbench.writing import article
from conftest import IMAGES, write_run

TITLES = {"pytorch": "PyTorch", "tensorflow": "TensorFlow", "jax": "JAX", "alexnet_mod": "AlexNet mod. (32)", "alexnet": "AlexNet (224)"}
SEEDS = (1, 2, 3)


def write_cell(root, framework: str, variant: str, accuracies: list[float], seconds: list[float], **changes) -> None:
    """Write one run per value, with seeds from 1 on."""
    titles = {"framework_title": TITLES[framework], "variant_title": TITLES[variant]}
    for seed, (accuracy, time) in enumerate(zip(accuracies, seconds, strict=True), start=1):
        made = {"framework": framework, "variant": variant, "seed": seed, "accuracy": accuracy, "train_seconds": time} | changes
        write_run(root / "runs" / framework / variant / f"seed{seed}", **titles, **made)


def compared(root, seeds=SEEDS, variants=("alexnet_mod",)) -> tuple[pd.DataFrame, str]:
    grid = ["--frameworks", "pytorch", "tensorflow", "--variants", *variants, "--seeds", *map(str, seeds)]
    assert collect.main(["--results", str(root), *grid]) == 0
    datasets.save(IMAGES, root / "images.npz")
    assert compare.main(["--runs", str(root / "runs.csv"), "--data", str(root / "images.npz"), "--output", str(root)]) == 0
    assert (root / "classes.csv").exists()
    return pd.read_csv(root / "comparisons.csv"), (root / "comparisons.md").read_text(encoding="utf-8")


def test_a_clear_difference_is_said_and_another_is_not(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.60, 0.62, 0.64], [100, 101, 103])
    write_cell(tmp_path, "tensorflow", "alexnet_mod", [0.61, 0.61, 0.66], [60, 60.5, 62])
    table, text = compared(tmp_path)
    row = table.iloc[0]
    assert (row.kind, row.a_framework, row.b_framework, row.paired) == ("framework", "tensorflow", "pytorch", True)
    assert row.accuracy_difference == pytest.approx(0.02 / 3) and row.accuracy_low < 0 < row.accuracy_high
    assert row.accuracy_verdict == "no difference found"
    assert row.time_ratio == pytest.approx(182.5 / 304) and row.time_high < 1 and row.time_verdict == "faster"
    assert "No difference in accuracy was found between TensorFlow, AlexNet mod. (32) and PyTorch, AlexNet mod. (32): the estimate" in text
    assert "takes 0.60 (0.60 to 0.60) times as long as PyTorch, AlexNet mod. (32) to train (n = 3, seed by seed): TensorFlow" in text
    assert "more accurate" not in text


def test_every_variant_between_frameworks_and_every_framework_between_variants(tmp_path):
    for framework, other in (("pytorch", 0.0), ("tensorflow", 0.001)):
        write_cell(tmp_path, framework, "alexnet_mod", [0.60, 0.61, 0.62 + other], [100, 101, 102 + other])
        write_cell(tmp_path, framework, "alexnet", [0.70, 0.71, 0.73 + other], [500, 510, 505 + other])
    table, text = compared(tmp_path, variants=("alexnet_mod", "alexnet"))
    assert table.kind.tolist() == ["framework", "framework", "variant", "variant"]
    variants = table[table.kind == "variant"]
    assert variants.a_variant.tolist() == ["alexnet"] * 2 and variants.accuracy_verdict.tolist() == ["better"] * 2
    assert (
        variants.time_verdict.tolist() == ["slower"] * 2
        and "The intervals of the 2 pairs of frameworks and those of the 2 pairs of networks are widened" in text
    )


def test_many_pairs_are_judged_with_wider_intervals(tmp_path):
    """Two frameworks alone: faster. The same two beside a third: three pairs, a wider interval, and a verdict that agrees with it."""
    seconds = {"pytorch": [100, 110, 120], "tensorflow": [80, 96, 106], "jax": [70, 71, 72]}
    found = []
    for frameworks in (["pytorch", "tensorflow"], list(seconds)):
        for framework in frameworks:
            write_cell(tmp_path, framework, "alexnet_mod", [0.60, 0.62, 0.64], seconds[framework])
        runs = run_files.runs_table(run_files.grid(tmp_path, frameworks, ["alexnet_mod"], SEEDS))
        found.append(comparisons.table(runs).iloc[0])
    alone, beside = found
    assert (alone.a_framework, beside.a_framework) == ("tensorflow", "tensorflow")
    assert alone.time_high < 1 < beside.time_high and alone.time_ratio == beside.time_ratio
    assert (alone.time_verdict, beside.time_verdict) == ("faster", "no difference found")
    assert (alone.time_together, beside.time_together) == (1, 3)


def test_one_run_a_cell_has_no_verdict(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.50], [100])
    write_cell(tmp_path, "tensorflow", "alexnet_mod", [0.70], [10])
    table, text = compared(tmp_path, seeds=(1,))
    assert table.accuracy_verdict.tolist() == table.time_verdict.tolist() == ["no interval, no verdict"]
    assert "is +0.2000, but without an interval there is no verdict (n = 1)." in text
    for word in ("is more accurate", "is less accurate", "is faster"):
        assert word not in text.partition("Over completed runs")[0]


def test_runs_that_failed_are_named_and_not_compared(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.60, 0.62, 0.64], [100, 101, 103])
    write_cell(tmp_path, "tensorflow", "alexnet_mod", [0.61, 0.61, 0.66], [60, 60.5, 62])
    write_run(
        tmp_path / "runs/tensorflow/alexnet_mod/seed2", framework="tensorflow", framework_title="TensorFlow", seed=2, status="collapsed"
    )
    table, text = compared(tmp_path)
    row = table.iloc[0]
    assert (row.a_n, row.a_collapsed, row.b_n, row.paired, row.mcnemar_pairs) == (2, 1, 3, False, 2)
    assert "(n = 2 of 3 (1 collapsed) and n = 3)" in text
    for seed in SEEDS:
        write_run(
            tmp_path / f"runs/tensorflow/alexnet_mod/seed{seed}",
            framework="tensorflow",
            framework_title="TensorFlow",
            seed=seed,
            status="diverged",
            accuracy=None,
            loss=None,
        )
    table, text = compared(tmp_path)
    assert np.isnan(table.accuracy_difference[0]) and "nothing to compare without completed runs" in text


def write_predictions(folder, logits, labels) -> None:
    """Replace a run's predictions, and set its accuracy to match."""
    np.savez(folder / "predictions.npz", logits=logits, labels=labels)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    write_json(folder / "metrics.json", metrics | {"accuracy": float(np.mean(logits.argmax(axis=1) == labels))})


def test_mcnemar_is_of_the_predictions_of_the_seeds_that_both_have(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.60, 0.62], [100, 101])
    write_cell(tmp_path, "tensorflow", "alexnet_mod", [0.60, 0.62], [60, 61])
    folder = tmp_path / "runs/tensorflow/alexnet_mod/seed2"
    logits, labels = run_files.read_predictions(folder)
    write_predictions(folder, np.roll(logits, 1, axis=1), labels)
    table, text = compared(tmp_path, seeds=(1, 2))
    ours, theirs = (logits.argmax(axis=1) == labels for logits in (np.roll(logits, 1, axis=1), logits))
    assert (table.mcnemar_pairs[0], table.mcnemar_different[0]) == (2, 1)
    # In seed 1 both have the same predictions, so p is 1.
    assert table.mcnemar_p[0] == pytest.approx((1 + stats.mcnemar(ours, theirs).p) / 2)
    assert "apart in 1 of 2 seeds" in text
    write_predictions(folder, logits, labels[::-1])
    with pytest.raises(InputError, match=r"seed2 and .* are not of the same test images"):
        compared(tmp_path, seeds=(1, 2))


def test_runs_of_different_hardware_have_rows_of_their_own(tmp_path):
    for framework in ("pytorch", "tensorflow"):
        write_cell(tmp_path, framework, "alexnet_mod", [0.60, 0.62, 0.64], [100, 101, 103], device="cuda", device_name="fast GPU")
    write_run(tmp_path / "runs/pytorch/alexnet_mod/seed3", seed=3, train_seconds=900.0, device="cuda", device_name="slow GPU")
    table, _ = compared(tmp_path)
    cells = results_table.read(tmp_path / "table.csv")
    assert cells.made_with.tolist() == ["device_name fast GPU", "device_name slow GPU", ""] and cells.n.tolist() == [2, 1, 3]
    assert cells.train_seconds.tolist() == pytest.approx([100.5, 900, 304 / 3])
    markdown = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "| device_name slow GPU |" in markdown and "are not averaged" in markdown
    assert r"device\_name slow GPU" in (tmp_path / "table.tex").read_text(encoding="utf-8")
    # Compared on the hardware that both used.
    assert table[["a_n", "b_n", "b_made_with"]].values.tolist() == [[3, 2, "device_name fast GPU"]]


def test_times_of_different_hardware_are_not_compared(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.60, 0.62, 0.64], [100, 101, 103], threads=4)
    write_cell(tmp_path, "tensorflow", "alexnet_mod", [0.61, 0.61, 0.66], [60, 60.5, 62], threads=2)
    table, text = compared(tmp_path)
    assert np.isnan(table.time_ratio[0]) and table.time_verdict[0] == "not compared" and table.accuracy_difference.notna().all()
    assert "are not compared because their runs differ in threads." in text


@pytest.mark.parametrize(
    ("changes", "made_with"),
    [
        ({"threads": 8}, "threads 8"),
        ({"runs_per_gpu": 4}, "runs_per_gpu 4"),
        ({"versions": {"python": "3.12"}}, "versions.python 3.12"),
        ({"settings": {"precision": "fp32", "input": "per_image"}}, "settings.input per_image"),
        ({"code": "abc"}, "code abc"),
        ({"gpu": {"driver": "2"}}, "gpu.driver 2"),
        ({"device_name": "another", "cpu_name": "another"}, "device_name another"),
    ],
)
def test_hardware_versions_and_code_set_runs_apart(tmp_path, changes, made_with):
    base = {"settings": {"precision": "fp32", "input": "resident"}, "code": "xyz", "cpu_name": "a processor", "gpu": {"driver": "1"}}
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.6, 0.7, 0.8], [1, 2, 3], **base)
    write_run(tmp_path / "runs/pytorch/alexnet_mod/seed2", **base | {"seed": 2} | changes)
    runs = run_files.runs_table(run_files.grid(tmp_path, ["pytorch"], ["alexnet_mod"], SEEDS))
    assert runs.group.tolist() == [1, 2, 1] and runs.made_with[1] == made_with
    assert comparability.mixed(runs) == [made_with.split()[0]]


def test_a_commit_is_named_only_where_the_code_is_not_known(tmp_path):
    for code, named in (({}, True), ({"code": "the same"}, False)):
        for seed in (1, 2):
            write_run(tmp_path / f"runs/pytorch/alexnet_mod/seed{seed}", seed=seed, git_commit=f"commit{seed}", **code)
        grid = ["--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1", "2"]
        assert collect.main(["--results", str(tmp_path), *grid]) == 0
        assert results_table.read(tmp_path / "table.csv").git_commit.tolist() == ["commit1 or commit2"]
        assert ("Runs of a cell come from different commits" in (tmp_path / "table.md").read_text(encoding="utf-8")) == named


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"data_sha256": "1" * 64}, "data_sha256"),
        ({"recipe": {"epochs": 3}}, "recipe.epochs"),
        ({"start": "ImageNet"}, "start"),
        ({"parameters": 5}, "parameters"),
        ({"settings": {"precision": "bf16"}}, "settings.precision"),
    ],
)
def test_another_experiment_is_refused_by_name(tmp_path, changes, named):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.6, 0.7, 0.8], [1, 2, 3])
    folder = tmp_path / "runs/pytorch/alexnet_mod/seed2"
    write_run(folder, seed=2, **changes)
    with pytest.raises(InputError) as raised:
        run_files.runs_table(run_files.grid(tmp_path, ["pytorch"], ["alexnet_mod"], SEEDS))
    assert f"runs that belong together differ in {named}:" in str(raised.value) and str(folder) in str(raised.value)


def test_one_cell_alone(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.6, 0.7, 0.8], [1, 2, 3])
    runs = run_files.runs_table(run_files.grid(tmp_path, ["pytorch"], ["alexnet_mod"], SEEDS))
    assert comparisons.markdown(comparisons.table(runs)) == "Only one cell: nothing to compare.\n"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_grid_of_one_cell_has_every_table_with_its_header(tmp_path, seeds):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.6, 0.7][:seeds], [1, 2][:seeds])
    grid = ["--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", *map(str, range(1, seeds + 1))]
    assert collect.main(["--results", str(tmp_path), *grid]) == 0
    datasets.save(IMAGES, tmp_path / "images.npz")
    assert compare.main(["--runs", str(tmp_path / "runs.csv"), "--data", str(tmp_path / "images.npz"), "--output", str(tmp_path)]) == 0
    empty = pd.read_csv(tmp_path / "comparisons.csv")
    assert empty.empty and tuple(empty) == comparisons.COLUMNS
    assert article.comparisons(empty, results_table.read(tmp_path / "table.csv")) == []


def test_the_columns_of_a_table_with_rows_are_those_of_one_without(tmp_path):
    write_cell(tmp_path, "pytorch", "alexnet_mod", [0.6], [1])
    write_cell(tmp_path, "tensorflow", "alexnet_mod", [0.6], [1])
    runs = run_files.runs_table(run_files.grid(tmp_path, list(TITLES)[:2], ["alexnet_mod"], [1]))
    row = comparisons._compared(*(cell for _, cell in runs.groupby("framework")))
    assert ("kind", *row) == comparisons.COLUMNS
