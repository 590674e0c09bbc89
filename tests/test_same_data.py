"""Runs are drawn, compared and described only together with the data file that they used."""

from dataclasses import replace

import numpy as np
import pytest

import collect
import compare
import compare_equal_time
import compare_parity
import plot_classes
import plot_mistakes
import write_article
from alexbench.analysis import run_files
from alexbench.experiment import datasets, variants, weights
from alexbench.files import InputError
from conftest import IMAGES, write_run
from test_train import run_cell

PROGRAMS = {"compare": compare, "classes": plot_classes, "mistakes": plot_mistakes, "article": write_article}
CELL = ["--framework", "pytorch", "--variant", "alexnet_mod"]


def made(name: str, folder, data) -> int:
    """Run a program on a folder's runs and a data file, writing into the folder's made/."""
    runs = ["--results", str(folder)] if name == "article" else ["--runs", f"{folder}/runs.csv"]
    cell = CELL if name in ("classes", "mistakes") else []
    return PROGRAMS[name].main([*runs, *cell, "--data", str(data), "--output", f"{folder}/made/{name}.png"])


# The labels are the same: only the hash tells these data from those of the runs.
OTHERS = {
    "training image": replace(IMAGES, name="mine", train_images=255 - IMAGES.train_images, classes=tuple("abcdefghij")),
    "test image": replace(IMAGES, name="mine", test_images=255 - IMAGES.test_images, classes=tuple("abcdefghij")),
}


def saved(dataset: datasets.Dataset, path):
    datasets.save(dataset, path)
    return path


def collected(folder, **changes):
    """Write runs of both frameworks, and the tables of them that the page is written from."""
    changes = {"train_limit": None, "test_limit": None} | changes
    changes["recipe"] = {"epochs": 2, "initialisation": "torch", "adam_epsilon": "torch"}
    for framework in ("pytorch", "tensorflow"):
        write_run(folder / "runs" / framework / "alexnet_mod/seed1", framework=framework, framework_title=framework, **changes)
    grid = ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "--seeds", "1"]
    assert collect.main(["--results", str(folder), *grid]) == 0
    return folder


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_file_of_other_data_is_refused_and_both_are_named(tmp_path, images_file, program, other):
    collected(tmp_path)
    compare.main(["--runs", f"{tmp_path}/runs.csv", "--data", str(images_file), "--output", str(tmp_path)])
    path = saved(other, tmp_path / "other.npz")
    with pytest.raises(InputError) as refused:
        made(program, tmp_path, path)
    for text in ("runs/pytorch/alexnet_mod/seed1", "cifar10", IMAGES.sha256(), str(path), "mine", other.sha256()):
        assert text in str(refused.value)
    assert not (tmp_path / "made").exists()


def test_runs_of_a_part_of_the_data_are_of_that_part_of_the_file(tmp_path, images_file):
    part = IMAGES.limited(40, 20)
    runs = run_files.read_runs(collected(tmp_path, train_limit=40, test_limit=20, data_sha256=part.sha256()) / "runs.csv")
    assert run_files.data_of(runs, images_file).sha256() == IMAGES.sha256()
    for limits, says in (
        ({"train_limit": 41}, "mine|cifar10, train_limit 41"),
        ({"train_limit": 4000}, "4000; cifar10 allows 10 .* to 100"),
    ):
        with pytest.raises(InputError, match=rf"seed1 are not of the test images in .*images\.npz(.|\n)*{says}"):
            run_files.data_of(runs.assign(**limits), images_file)
    # A file with only that part is accepted too: the limits do not fit it, but the images are the same.
    assert len(run_files.data_of(runs, saved(part, tmp_path / "part.npz")).test_labels) == 20
    # Metrics without limits mean all images.
    old = runs.drop(columns=["train_limit", "test_limit"])
    assert run_files.data_of(old, tmp_path / "part.npz").train_labels.size == 40
    with pytest.raises(InputError, match=r"data_sha256"):
        run_files.data_of(old, images_file)


@pytest.mark.parametrize("limit", ["many", 40.5, True, 0])
def test_a_limit_that_is_no_number_of_images_is_refused(tmp_path, limit):
    with pytest.raises(InputError, match=rf"metrics\.json: train_limit is {limit!r}"):
        collected(tmp_path, train_limit=limit)


def test_of_a_table_of_two_data_sets_each_cell_has_its_own_file(tmp_path, images_file):
    theirs, other = OTHERS["test image"], saved(OTHERS["test image"], tmp_path / "other.npz")
    runs = run_files.read_runs(collected(tmp_path) / "runs.csv")
    runs.loc[runs.framework == "tensorflow", ["data_sha256", "dataset"]] = [theirs.sha256(), theirs.name]
    runs.to_csv(tmp_path / "runs.csv", index=False)
    for file, named in ((images_file, "tensorflow"), (other, "pytorch")):
        with pytest.raises(InputError, match=f"runs/{named}/alexnet_mod/seed1"):
            made("compare", tmp_path, file)
    assert made("classes", tmp_path, images_file) == 0
    with pytest.raises(InputError, match="runs/pytorch/alexnet_mod/seed1"):
        made("classes", tmp_path, other)


def test_the_time_that_another_took_on_other_data_is_no_measure(digits_file, tmp_path):
    run_cell(digits_file, tmp_path / "model")
    path = tmp_path / "model" / "metrics.json"
    with pytest.raises(InputError, match=r"metrics\.json has data_sha256 '\w{64}' and this run '\w{64}', .* on the same data"):
        run_cell(digits_file, tmp_path / "long", "--train-limit=50", f"--as-long-as={path}")


def test_equal_time_on_other_data_is_not_compared(tmp_path):
    for variant in ("alexnet", "alexnet_mod"):
        write_run(tmp_path / "runs/pytorch" / variant / "seed1", variant=variant, variant_title=variant)
    write_run(tmp_path / "equal_time/runs/pytorch/alexnet_mod/seed1", data_sha256="1" * 64, budget_seconds=100.0)
    command = ["--frameworks=pytorch", "--variant=alexnet_mod", "--as-long-as=alexnet", "--seeds=1"]
    with pytest.raises(InputError, match=rf"differ in data_sha256:\n  {IMAGES.sha256()} in .*\n  1+ in .*equal_time/runs"):
        compare_equal_time.main(["--results", str(tmp_path), *command])
    assert not (tmp_path / "equal_time/table.md").exists()


def test_parity_of_other_images_is_no_difference_of_frameworks(tmp_path):
    start = weights.initialise(variants.get("alexnet_mod"), "he", 1)
    for name, image in (("pytorch", 0), ("tensorflow", 1)):
        shown = {key: np.full((2, 32, 32, 3), 0, np.uint8) for key in ("images", "input_images")}
        shown |= {"images": shown["images"] + np.uint8(image), "labels": np.arange(2)}
        np.savez(tmp_path / f"{name}.npz", **dict.fromkeys(compare_parity.SHOWN, np.zeros(2)) | shown)
        weights.write(tmp_path / f"{name}.safetensors", start, {})
    files = [str(tmp_path / f"{name}.npz") for name in ("pytorch", "tensorflow")]
    with pytest.raises(InputError, match=r"parity: .*tensorflow\.npz and .*pytorch\.npz differ in their images: .* the same data"):
        compare_parity.main([*files, "--variant=alexnet_mod", "--output", str(tmp_path / "parity.md")])
