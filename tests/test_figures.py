"""Every figure is drawn, as PNG and SVG, from any outcome that runs can have."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import collect
import plot_architectures
import plot_calibration
import plot_classes
import plot_learning
import plot_mistakes
import plot_samples
import plot_time_to_accuracy
import plot_tradeoff
from alexbench.analysis import run_files, stats
from alexbench.experiment import datasets, variants
from alexbench.files import InputError
from alexbench.writing import figures
from alexbench.writing.figures import plt
from conftest import run_script, write_run

GRID = ["--frameworks", "pytorch", "tensorflow", "--variants", "alexnet_mod", "alexnet", "--seeds", "1", "2"]


@pytest.fixture
def runs(grid_folder):
    collect.main(["--results", str(grid_folder), *GRID])
    return grid_folder / "runs.csv"


@pytest.fixture
def troubled_runs(grid_folder):
    """One cell lost a run to a collapse, another lost all its runs to divergence."""
    write_run(
        grid_folder / "runs/tensorflow/alexnet_mod/seed2", framework="tensorflow", framework_title="TensorFlow", seed=2, status="collapsed"
    )
    for seed in (1, 2):
        write_run(
            grid_folder / f"runs/pytorch/alexnet/seed{seed}",
            variant="alexnet",
            variant_title="AlexNet (224)",
            seed=seed,
            status="diverged",
            accuracy=None,
            loss=None,
        )
    collect.main(["--results", str(grid_folder), *GRID])
    return grid_folder / "runs.csv"


def drawn(output, width: int = 400) -> str:
    """The SVG's text, after checking that both files exist and are not blank."""
    with Image.open(output) as image:
        assert image.width > width and len(image.convert("L").getcolors()) > 10
    return output.with_suffix(".svg").read_text(encoding="utf-8")


def test_tradeoff(runs, tmp_path):
    assert plot_tradeoff.main(["--runs", str(runs), "--output", str(tmp_path / "t.png")]) == 0
    svg = drawn(tmp_path / "t.png")
    for text in (
        "Training time (s)",
        "Test accuracy",
        "Parameters",
        "PyTorch",
        "TensorFlow",
        "AlexNet (224)",
        "the original study of 2025",
        "n = 2",
    ):
        assert text in svg


def test_tradeoff_leaves_the_original_out_beside_another_data_set(grid_folder, tmp_path):
    write_run(grid_folder / "runs/pytorch/alexnet_mod/seed1", dataset="digits")
    collect.main(["--results", str(grid_folder), "--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1"])
    plot_tradeoff.main(["--runs", str(grid_folder / "runs.csv"), "--output", str(tmp_path / "t.png")])
    assert "the original study of 2025" not in drawn(tmp_path / "t.png")


@pytest.mark.parametrize("status", ["collapsed", "diverged"])
def test_figures_of_a_grid_without_a_completed_run(tmp_path, images_file, status):
    for seed in (1, 2):
        lost = {"status": status, "accuracy": None, "loss": None} if status == "diverged" else {"status": status}
        write_run(tmp_path / f"runs/pytorch/alexnet_mod/seed{seed}", seed=seed, **lost)
    collect.main(["--results", str(tmp_path), "--frameworks", "pytorch", "--variants", "alexnet_mod", "--seeds", "1", "2"])
    runs = ["--runs", str(tmp_path / "runs.csv")]
    assert plot_tradeoff.main([*runs, "--output", str(tmp_path / "t.png")]) == 0
    assert f"n = 0 completed runs; cifar10, 50,000 training and 100 test images, 2 epochs, a processor; 2 {status}" in drawn(
        tmp_path / "t.png"
    )
    assert plot_learning.main([*runs, "--output", str(tmp_path / "l.png")]) == 0
    assert plot_calibration.main([*runs, "--output", str(tmp_path / "k.png")]) == 0
    assert "no completed run" in drawn(tmp_path / "k.png")
    cell = ["--data", str(images_file), "--framework", "pytorch", "--variant", "alexnet_mod"]
    assert plot_classes.main([*runs, *cell, "--output", str(tmp_path / "c.png")]) == 0
    assert plot_mistakes.main([*runs, *cell, "--output", str(tmp_path / "m.png")]) == 0
    assert "no completed run" in drawn(tmp_path / "m.png")


def test_learning(runs, tmp_path):
    assert plot_learning.main(["--runs", str(runs), "--output", str(tmp_path / "l.png")]) == 0
    svg = drawn(tmp_path / "l.png")
    for text in ("Epoch", "Accuracy", "Cross-entropy loss (nats)", "training", "test"):
        assert text in svg


@pytest.mark.parametrize("cell", [("tensorflow", "alexnet_mod"), ("pytorch", "alexnet"), ("pytorch", "alexnet_mod")])
def test_figures_of_runs_that_failed(troubled_runs, images_file, tmp_path, cell):
    framework, variant = cell
    command = ["--runs", str(troubled_runs), "--data", str(images_file), "--framework", framework, "--variant", variant]
    assert plot_classes.main([*command, "--output", str(tmp_path / "c.png")]) == 0
    svg = drawn(tmp_path / "c.png")
    assert ("no completed run" in svg) == (cell == ("pytorch", "alexnet"))
    assert plot_tradeoff.main(["--runs", str(troubled_runs), "--output", str(tmp_path / "t.png")]) == 0
    assert "1 collapsed, not shown; 2 diverged, not shown" in drawn(tmp_path / "t.png")
    assert plot_learning.main(["--runs", str(troubled_runs), "--output", str(tmp_path / "l.png")]) == 0


def test_runs_of_different_hardware_are_drawn_apart_or_said_to_differ(grid_folder, tmp_path):
    write_run(grid_folder / "runs/pytorch/alexnet_mod/seed2", seed=2, accuracy=0.64, device_name="another")
    collect.main(["--results", str(grid_folder), *GRID])
    runs = ["--runs", str(grid_folder / "runs.csv")]
    plot_tradeoff.main([*runs, "--output", str(tmp_path / "t.png")])
    svg = drawn(tmp_path / "t.png")
    assert "n = 1 or 2 completed runs" in svg and "runs of a cell differ in device_name" in svg
    plot_learning.main([*runs, "--output", str(tmp_path / "l.png")])
    assert "runs of a cell differ in device_name" in drawn(tmp_path / "l.png")


def test_calibration(troubled_runs, tmp_path):
    assert plot_calibration.main(["--runs", str(troubled_runs), "--output", str(tmp_path / "k.png")]) == 0
    svg = drawn(tmp_path / "k.png")
    for text in ("PyTorch: calibration error 0.2", "n = 2", "n = 1", "All completed runs together, 15 bins"):
        assert text in svg


def test_mistakes(runs, images_file, tmp_path):
    command = ["--runs", str(runs), "--data", str(images_file), "--framework", "pytorch", "--variant", "alexnet_mod"]
    assert plot_mistakes.main([*command, "--output", str(tmp_path / "m.png")]) == 0
    svg = drawn(tmp_path / "m.png")
    folders = run_files.read_runs(runs).query("framework == 'pytorch' and variant == 'alexnet_mod'").folder
    shares = np.mean([stats.probabilities(run_files.read_predictions(folder)[0]) for folder in folders], axis=0)
    surest = stats.confidently_wrong(shares, np.arange(100) % 10, 1)[0]
    assert f"{surest % 10}</" in svg and f"→ {shares[surest].argmax()}, {shares[surest].max():.3f}" in svg
    wrong = (shares.argmax(axis=1) != np.arange(100) % 10).sum()
    assert f"Mean probability over n = 2 of 2 runs, by which {wrong} images are wrong" in svg


def test_mistakes_are_not_drawn_on_other_images(runs, digits_file, tmp_path):
    command = ["--runs", str(runs), "--data", str(digits_file), "--framework", "pytorch", "--variant", "alexnet_mod"]
    with pytest.raises(InputError, match=r"the predictions in .*seed1 are not of the test images in .*digits.npz"):
        plot_mistakes.main([*command, "--output", str(tmp_path / "m.png")])


def test_samples(digits, tmp_path):
    datasets.save(digits, tmp_path / "d.npz")
    assert plot_samples.main(["--data", str(tmp_path / "d.npz"), "--output", str(tmp_path / "s.png")]) == 0
    assert "100 training images (10 per class) and 50 test images (5 per class)" in drawn(tmp_path / "s.png")


def test_architectures(tmp_path):
    assert plot_architectures.main(["--variants", *variants.VARIANTS, "--output", str(tmp_path / "a.png")]) == 0
    svg = drawn(tmp_path / "a.png")
    for text in ("4,539,786 parameters", "58,322,314 parameters", "57,044,810 parameters", "54×54×96", "37,752,832"):
        assert text in svg


def test_the_same_runs_give_the_same_svg(runs, tmp_path):
    for name in ("a", "b"):
        plot_tradeoff.main(["--runs", str(runs), "--output", str(tmp_path / f"{name}.png")])
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == (tmp_path / "b.svg").read_text(encoding="utf-8")


def test_a_frameworks_colour_does_not_depend_on_the_others_order():
    assert figures.colours(["TensorFlow", "PyTorch"]) == figures.colours(["PyTorch", "TensorFlow", "PyTorch"])


def test_time_to_accuracy(troubled_runs, tmp_path):
    assert plot_time_to_accuracy.main(["--runs", str(troubled_runs), "--output", str(tmp_path / "t.png")]) == 0
    svg = drawn(tmp_path / "t.png")
    for text in ("PyTorch", "TensorFlow", "AlexNet mod. (32)", "Training time to reach it (s)", "n = 1 or 2 completed runs"):
        assert text in svg


def test_an_accuracy_is_reached_when_it_first_is_and_never_where_it_is_not():
    history = pd.DataFrame({"seconds": [10.0, 20.0, 30.0], "accuracy": [0.3, 0.5, 0.4]})
    found = plot_time_to_accuracy.times_to(history, np.array([0.1, 0.3, 0.45, 0.5, 0.6]))
    assert found == pytest.approx([10, 10, 20, 20, np.nan], nan_ok=True)


def test_a_notebooks_backend_and_a_users_matplotlibrc_have_no_say(tmp_path, digits_file):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nlines.linewidth: 9\nsavefig.facecolor: red\n", encoding="utf-8")
    drawn = []
    for name, surroundings in (("a.png", {}), ("b.png", {"MPLBACKEND": "module://no_such.backend", "MATPLOTLIBRC": str(tmp_path)})):
        done = run_script("plot_samples.py", "--data", digits_file, "--output", tmp_path / name, **surroundings)
        assert done.returncode == 0, done.stderr
        drawn.append((tmp_path / name).read_bytes())
    assert drawn[0] == drawn[1]


LONG = [
    "a very long name of a class that nobody would want to read",
    "Gänseblümchen auf der Wiese",
    "$5 or $6",
    "мухомор красный обыкновенный",
    "x",
]


@pytest.mark.parametrize("names", [LONG, [f"class number {number}" for number in range(100)], ["yes", "no"]], ids=["long", "100", "2"])
def test_names_of_classes_do_not_overlap(names):
    figures.style()
    random = np.random.default_rng(0)
    matrices = random.dirichlet(np.ones(len(names)), size=(2, len(names)))
    figure = plot_classes.draw("PyTorch, AlexNet", "blue", matrices, tuple(names), "a note")
    images, labels = random.integers(0, 256, (4 * len(names), 8, 8, 3), np.uint8), np.arange(4 * len(names)) % len(names)
    made = datasets.Dataset("mine", images, labels, images, labels, tuple(names))
    shares = random.dirichlet(np.ones(len(names)), size=len(labels))
    mistakes = plot_mistakes.draw("PyTorch, AlexNet", made, shares, 6, 3, "a note")
    for drawn in (figure, mistakes):
        drawn.canvas.draw()
    left, right = figure.axes[:2]
    for axes in (left, right):
        boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
        assert len(boxes) == len(names) and not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        # Names keep clear of what is beside them.
        assert all(box.x1 <= axes.bbox.x0 and box.x0 >= 0 for box in boxes)
    assert all(label.get_window_extent().y0 >= 0 for label in left.get_xticklabels())
    titles = [axes.title.get_window_extent() for axes in mistakes.axes if axes.get_title()]
    assert titles and not any(one.overlaps(other) for one, other in combinations(titles, 2))
    plt.close("all")
