"""The same network in every framework: each in its own process, with files between them, and compared with a float64 reference."""

import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compare_parity
from alexbench.backends import FRAMEWORKS
from alexbench.experiment import layers, reference, variants, weights
from alexbench.files import InputError
from conftest import EVERY, NORMALISED, ROOT, TINY


def measure(framework: str, variant: str, data, output, *more: str, scripts: Path = ROOT / "scripts") -> None:
    """Run measure_parity.py as Snakemake does."""
    options = ["--variant", variant, "--data", str(data), "--output", str(output), "--device=cpu", "--threads=1"]
    command = [sys.executable, str(scripts / "measure_parity.py"), "--framework", framework, *options, *more]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def shown(digits_file, tmp_path_factory):
    """What the frameworks compute for the small AlexNet on digits."""
    folder = tmp_path_factory.mktemp("parity")
    for framework in FRAMEWORKS:
        measure(framework, "alexnet_mod", digits_file, folder / f"{framework}.npz", "--batch-size=16")
    return folder


def compare(folder, capsys) -> str:
    files = [str(folder / f"{framework}.npz") for framework in FRAMEWORKS]
    compare_parity.main([*files, "--variant=alexnet_mod", "--output", str(folder / "parity.md")])
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_frameworks_compute_the_same_network(shown, capsys):
    said = compare(shown, capsys)
    for pair in combinations(FRAMEWORKS, 2):
        assert said.count(", ".join(pair)) == len(compare_parity.TOLERANCES) + len(compare_parity.LOSSES)
    assert said.count("float64 NumPy") == len(FRAMEWORKS) * 4
    assert (shown / "parity.md").read_text(encoding="utf-8").startswith("# AlexNet mod. (32): do the frameworks compute the same?")
    # Both start alike: if twenty steps had taught them nothing, agreement would mean little.
    losses = compare_parity.read(shown / "pytorch.npz")["step_losses"]
    assert len(losses) == 20 and losses[-5:].mean() < losses[:5].mean()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("logits", lambda x: x + 1e-4, "parity: logits of pytorch and tensorflow differ by 0.0001, allowed are 1e-05"),
        # The effect of forgetting the order of the flattened axes.
        ("gradient.dense1.weight", lambda x: x.reshape(-1, 256, 2, 2).transpose(0, 2, 3, 1).reshape(x.shape), "parity: gradients of"),
        ("batches_sha256", lambda x: np.array("another"), "parity: batches of pytorch and tensorflow"),
        # A framework that computes otherwise does so in its twin as well.
        ("_losses", lambda x: x + 0.01, "parity: losses of 5 steps of"),
        ("inputs", lambda x: x + 1e-3, "parity: inputs of"),
    ],
)
def test_a_difference_is_named(shown, tmp_path, capsys, name, change, says):
    shutil.copytree(shown, tmp_path, dirs_exist_ok=True)
    content = compare_parity.read(tmp_path / "tensorflow.npz")
    content |= {key: change(content[key]) for key in content if key.endswith(name)}
    np.savez(tmp_path / "tensorflow.npz", **content)
    with pytest.raises(InputError, match=says):
        compare(tmp_path, capsys)


@pytest.mark.slow
def test_a_layer_that_is_computed_otherwise_is_found(shown, digits_file, tmp_path, capsys):
    """Every convolution's padding a pixel further down and right than in the other frameworks."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    backend = tmp_path / "scripts/alexbench/backends/jax.py"
    code = backend.read_text(encoding="utf-8")
    right = "edge = [(padding, padding)] * 2"
    assert code.count(right) == 1
    backend.write_text(code.replace(right, "edge = [(padding - 1, padding + 1) if padding else (0, 0)] * 2"), encoding="utf-8")
    shutil.copytree(shown, tmp_path / "shown")
    measure("jax", "alexnet_mod", digits_file, tmp_path / "shown/jax.npz", "--batch-size=16", scripts=tmp_path / "scripts")
    with pytest.raises(InputError, match=r"parity: logits of (jax and|float64 NumPy and jax|.* and jax)"):
        compare(tmp_path / "shown", capsys)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda whole: b"", "cannot be read"),
        (lambda whole: whole[: len(whole) // 2], "cannot be read"),
        (lambda whole: whole.replace(b"NUMPY", b"NUMPI"), "cannot be read"),
        (lambda whole: whole.replace(b"mean.npy", b"meen.npy"), "lacks mean"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, says):
    path = tmp_path / "pytorch.npz"
    np.savez(path, **{name: np.zeros(9) for name in compare_parity.SHOWN})
    assert set(compare_parity.read(path)) == set(compare_parity.SHOWN)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=rf"pytorch\.npz {says}"):
        compare_parity.read(path)


@pytest.mark.slow
def test_weights_travel_from_framework_to_framework_and_back_to_the_bit(digits_file, tmp_path):
    start = tmp_path / "start.safetensors"
    weights.write(start, weights.initialise(variants.get("alexnet_mod"), "he", 7), {})
    for framework, name in (("pytorch", "first"), ("tensorflow", "second"), ("jax", "third"), ("pytorch", "fourth")):
        measure(framework, "alexnet_mod", digits_file, tmp_path / f"{name}.npz", "--weights", str(start), "--steps=1", "--batch-size=4")
        expected, _ = weights.read(start)
        start = tmp_path / f"{name}.safetensors"
        found, _ = weights.read(start)
        assert list(found) == list(expected) and all(np.array_equal(found[n], expected[n]) for n in expected)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("variant", [TINY, NORMALISED, EVERY], ids=lambda variant: variant.name)
def test_the_reference_has_the_gradient_of_its_loss(variant, training):
    """By central differences, because the reference itself is not copied from anywhere."""
    random = np.random.default_rng(1)
    start = {name: random.standard_normal(shape) * 0.3 for name, shape in layers.weight_shapes(variant).items()}
    start |= {name: array**2 + 0.5 for name, array in start.items() if name.endswith("running_var")}
    x, labels = random.standard_normal((3, 3, variant.input_size, variant.input_size)), np.array([1, 4, 9])
    _, _, gradients = reference.loss_and_gradients(variant, start, x, labels, training)
    assert gradients.keys() == {name for name in start if not name.endswith(layers.RUNNING)}
    for name in gradients:
        array = start[name]
        for _ in range(3):
            where = tuple(random.integers(side) for side in array.shape)
            kept, step, losses = array[where], 1e-5, []
            for sign in (1, -1):
                array[where] = kept + sign * step
                losses.append(reference.loss_and_gradients(variant, start, x, labels, training)[1])
            array[where] = kept
            assert gradients[name][where] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4, abs=1e-8), name


def test_the_reference_resizes_as_pil_does_but_for_its_rounding(digits):
    image = digits.train_images[0]
    theirs = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BILINEAR), np.float64)
    ours = reference.resize(np.float64(image).transpose(2, 0, 1), 224).transpose(1, 2, 0)
    # PIL rounds twice, once per axis.
    assert np.abs(ours - theirs).max() <= 1.0
    assert np.abs(ours[3::7, 3::7] - image).max() < 1e-9, "the middle of an enlarged pixel keeps its value"
