"""A run's weights and curves can be used afterwards: in either framework, by hand, on a person's own pictures, in TensorBoard."""

import csv
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile
from safetensors.numpy import load_file, save_file

import describe_model
import predict
from alexbench.analysis import run_files, stats
from alexbench.backends import FRAMEWORKS
from alexbench.experiment import datasets
from alexbench.experiment.datasets import digits as digits_source
from alexbench.files import InputError
from alexbench.training import trained_network
from conftest import ROOT
from test_train import run_cell

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(digits_file, tmp_path_factory):
    """The folder of a short training in PyTorch."""
    folder = tmp_path_factory.mktemp("run") / "runs" / "pytorch" / "alexnet_mod" / "seed1"
    run_cell(digits_file, folder, "--epochs=2")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two digits as pictures of another shape and mode, and two files that are not pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    images = digits_source.read().test_images
    Image.fromarray(images[0]).resize((96, 64)).save(folder / "wide.jpg")
    Image.fromarray(images[1]).convert("RGBA").save(folder / "clear.png")
    (folder / "text.jpg").write_text("not a picture", encoding="utf-8")
    (folder / "half.png").write_bytes((folder / "clear.png").read_bytes()[:100])
    return folder


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_model_predicts_what_the_run_did(run, digits_file, framework):
    logits, _ = run_files.read_predictions(run)
    images = datasets.load(digits_file).limited(40, 20).test_images
    loaded = trained_network.load(run / "model.safetensors", framework)
    assert loaded.predict(images) == pytest.approx(stats.probabilities(logits), abs=1e-6)
    assert (loaded.classes, loaded.side) == (list("0123456789"), 32)


def test_the_model_knows_which_framework_trained_it(run):
    loaded = trained_network.load(run / "model.safetensors")
    assert loaded.backend.title == "PyTorch" and (loaded.about["epochs"], loaded.about["dataset"]) == (2, "digits")


def test_what_is_no_model_is_refused(run, tmp_path):
    save_file(load_file(run / "model.safetensors"), tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match=r"bare\.safetensors is not a trained network of this workflow .* model\.safetensors of a run"):
        trained_network.load(tmp_path / "bare.safetensors")
    (tmp_path / "half.safetensors").write_bytes((run / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"half\.safetensors is not a whole safetensors file"):
        trained_network.load(tmp_path / "half.safetensors")


def test_pictures_are_answered_and_bad_files_named(run, pictures, capsys, monkeypatch):
    # If another test has imported WeasyPrint, Pillow accepts files that are cut short.
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    paths = [str(pictures / name) for name in ("wide.jpg", "text.jpg", "clear.png", "half.png", "missing.png")]
    model = f"--model={run / 'model.safetensors'}"
    assert predict.main([*paths, model]) == 1
    said = capsys.readouterr()
    assert [re.match(r".*/(\S+): (\d) ([\d.]+)%$", line).group(1) for line in said.out.splitlines()] == ["wide.jpg", "clear.png"]
    assert [re.match(r".*/(\S+): skipped", line).group(1) for line in said.err.splitlines()] == ["text.jpg", "half.png", "missing.png"]
    assert predict.main([paths[0], paths[2], model, "--top=10", "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(rows) == 20 and sum(float(row["probability"]) for row in rows[:10]) == pytest.approx(1, abs=1e-3)
    assert sorted(row["class"] for row in rows[10:]) == list("0123456789")


def test_a_picture_is_cut_to_its_middle_square(tmp_path):
    stripes = np.zeros((40, 120, 3), np.uint8)
    stripes[:, 40:80] = 200
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert (predict.read(tmp_path / "stripes.png", 32)[:, 2:-2] == 200).all()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_cards_snippet_works(run, pictures, framework, monkeypatch, capsys, tmp_path):
    table = pd.DataFrame({"framework": ["pytorch"], "variant": ["alexnet_mod"], "n": [1]})
    table.to_csv(tmp_path / "table.csv", index=False)
    model = run / "model.safetensors"
    options = [f"--metrics={run / 'metrics.json'}", f"--model={model}", f"--table={tmp_path / 'table.csv'}"]
    assert describe_model.main([*options, f"--output={tmp_path / 'card.md'}"]) == 0
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    for text in ("AlexNet mod. (32), trained in PyTorch, seed 1", "4,539,786 parameters", "40 training images, 2 epochs", "UCI repository"):
        assert text in card
    snippet = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(ROOT)
    snippet = snippet.replace('framework="pytorch"', f'framework="{framework}"')
    # The snippet cuts, flattens, scales and turns pictures as predict.py does.
    turned, deep = Image.Exif(), np.arange(64 * 96, dtype=np.uint16).reshape(64, 96) * 10
    turned[0x0112] = 6
    Image.open(pictures / "wide.jpg").save(tmp_path / "turned.jpg", exif=turned)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    digits = Image.open(pictures / "clear.png")
    digits.putalpha(Image.fromarray((np.asarray(digits)[..., 0] > 100).astype(np.uint8) * 255))
    digits.save(tmp_path / "alpha.png")
    for picture in (pictures / "wide.jpg", tmp_path / "turned.jpg", tmp_path / "deep.png", tmp_path / "alpha.png"):
        names = {}
        exec(snippet.replace("picture.jpg", str(picture)), names)
        # Compare the images as well: after so short a training the answers hardly depend on them.
        assert np.array_equal(np.asarray(names["image"]), predict.read(picture, 32))
        name, probability = capsys.readouterr().out.split()
        assert predict.main([str(picture), f"--model={model}", f"--framework={framework}", "--csv"]) == 0
        (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
        assert (name, float(probability)) == (row["class"], pytest.approx(float(row["probability"]), abs=1e-4))


def test_tensorboard_reads_every_epoch_once(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "events")).Reload()
    assert set(events.Tags()["scalars"]) == {
        "loss/train",
        "loss/test",
        "accuracy/train",
        "accuracy/test",
        "learning_rate",
        "images_per_second",
    }
    history = run_files.read_history(run)
    found = events.Scalars("accuracy/test")
    assert [event.step for event in found] == [1, 2]
    assert [event.value for event in found] == pytest.approx(history.test_accuracy.tolist())


def test_a_run_leaves_neither_where_neither_is_wanted(digits_file, tmp_path):
    run_cell(digits_file, tmp_path, "--no-model", "--no-tensorboard")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "metrics.json", "predictions.npz"]
