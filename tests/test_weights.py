"""Weights start as each convention says, keep their values through every change of layout, and are refused if they do not fit."""

import argparse
import gzip
import os
from math import sqrt

import numpy as np
import pytest
import safetensors.numpy
from safetensors.numpy import save_file

import prepare_weights
from alexbench.experiment import layers, variants, weights
from alexbench.files import InputError
from conftest import TINY, sha256

PRETRAINED = variants.get("alexnet_pretrained")


def torchvision_names(features_only: bool) -> dict[str, np.ndarray]:
    """Made-up tensors with the names and shapes of torchvision's alexnet."""
    random = np.random.default_rng(0)
    shapes = layers.weight_shapes(PRETRAINED)
    names = {k: v for k, v in PRETRAINED.pretrained.items() if not (features_only and v.startswith("classifier"))}
    state = {
        f"{theirs}.{kind}": random.standard_normal(shapes[f"{ours}.{kind}"], np.float32)
        for ours, theirs in names.items()
        for kind in ("weight", "bias")
    }
    if not features_only:
        state |= {"classifier.6.weight": np.zeros((1000, 4096), np.float32), "classifier.6.bias": np.zeros(1000, np.float32)}
    return state


def torchvision_weights(value: float) -> bytes:
    """A safetensors file of alexnet's convolutions, with this value for the first one's bias."""
    state = torchvision_names(features_only=True) | {"features.0.bias": np.full(64, value, np.float32)}
    return safetensors.numpy.save(state)


def convert(tmp_path, source, *options: str):
    output = tmp_path / "out" / "w.safetensors"
    prepare_weights.main(["--variant", "alexnet_pretrained", "--source", str(source), "--output", str(output), *options])
    return weights.read(output)


@pytest.mark.parametrize("scheme", ["torch", "keras", "he"])
def test_initialisation_has_the_published_bounds(scheme):
    start = weights.initialise(TINY, scheme, seed=1)
    kernel, dense = start["conv2.weight"], start["dense1.weight"]
    assert kernel.dtype == np.float32 and {name: array.shape for name, array in start.items()} == layers.weight_shapes(TINY)
    if scheme == "he":
        assert dense.std() == pytest.approx(sqrt(2 / dense.shape[1]), rel=0.1)
        return
    fan_in, fan_out = 4 * 9, 8 * 9
    bound = {"torch": 1 / sqrt(fan_in), "keras": sqrt(6 / (fan_in + fan_out))}[scheme]
    assert 0.95 * bound < np.abs(kernel).max() <= bound
    assert abs(kernel.mean()) < 0.1 * bound
    assert np.any(start["conv2.bias"]) == (scheme == "torch")


def test_initialisation_follows_the_seed():
    first, again, other = (weights.initialise(TINY, "torch", seed)["dense1.weight"] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert not np.array_equal(first[:, :4], weights.initialise(TINY, "torch", 1)["dense2.weight"][:, :4])


@pytest.mark.parametrize("variant", [TINY, PRETRAINED], ids=lambda v: v.name)
def test_layouts_are_inverse_to_the_bit(variant):
    start = weights.initialise(variant, "he", seed=3)
    there = weights.to_channels_last(variant, start)
    back = weights.from_channels_last(variant, there)
    assert back.keys() == start.keys()
    assert all(np.array_equal(back[name], start[name]) for name in start)


def test_the_first_dense_layer_is_permuted_from_chw_to_hwc():
    start = weights.initialise(TINY, "he", seed=3)
    height, width, channels = next(i.input_shape for i in layers.describe(TINY) if i.kind == "Flatten")
    image = np.random.default_rng(0).standard_normal((height, width, channels), np.float32)
    channels_first = start["dense1.weight"] @ image.transpose(2, 0, 1).ravel()
    channels_last = image.ravel() @ weights.to_channels_last(TINY, start)["dense1.weight"]
    assert channels_last == pytest.approx(channels_first, abs=1e-5)


def test_torchvisions_file_gives_all_but_the_last_layer(tmp_path):
    import torch

    state = torchvision_names(features_only=False)
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, tmp_path / "a.pth")
    trained, metadata = convert(tmp_path, tmp_path / "a.pth")
    assert metadata["fresh_layers"] == "dense3" and metadata["start"] == "ImageNet" and len(metadata["source_sha256"]) == 64
    assert np.array_equal(trained["conv3.weight"], state["features.6.weight"])
    assert np.array_equal(trained["dense2.bias"], state["classifier.4.bias"])


def test_features_alone_are_taken_when_the_configuration_says_so(tmp_path):
    save_file(torchvision_names(features_only=True), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"lacks classifier\.1\.weight.*set weights\.classifier: fresh"):
        convert(tmp_path, tmp_path / "a.safetensors")
    trained, metadata = convert(tmp_path, tmp_path / "a.safetensors", "--classifier=fresh")
    assert metadata["fresh_layers"] == "dense1 dense2 dense3" and metadata["start"] == "ImageNet convolutions, fresh classifier"
    assert sum(array.size for array in trained.values()) == 2_469_696


class Attack:
    def __reduce__(self):
        return os.system, ("touch weights_code_was_run",)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_code_in_a_weights_pickle_is_not_run(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Attack()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth is not a PyTorch file of tensors alone"):
        convert(tmp_path, tmp_path / "a.pth")
    assert not (tmp_path / "weights_code_was_run").exists()


def test_what_is_no_weights_file_is_refused(tmp_path):
    for name, content, says in (
        ("a.pth", b"<html><title>Sign in\n to X</title>", r"but an HTML page \('Sign in to X'\); fetch the file in a browser"),
        ("b.pth", b"", "but an empty file"),
        ("c.safetensors", b"\x08\0\0\0\0\0\0\0{}", "whole safetensors file"),
        ("d.safetensors", b"\n<!DOCTYPE html>", "but an HTML page; fetch the file in a browser"),
        ("e.pth", b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "but XML that starts with .*AccessDenied"),
        ("f.pth", b'{"message": "Not Found"}', "but JSON that starts with .*Not Found"),
        ("g.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n", "but a Git LFS pointer"),
        ("h.pth", gzip.compress(b"weights"), "but a gzip file"),
        ("i.h5", b"\x89HDF\r\n\x1a\n123", "but an HDF5 file, as Keras writes them"),
        ("j.pth", b"PK\x03\x04 cut short", "PyTorch file of tensors alone: it is cut short, damaged, or of another program"),
        ("k.pth", bytes(range(256)), "but a file of 256 bytes that starts with"),
    ):
        (tmp_path / name).write_bytes(content)
        for options in ([], ["--sha256=00000000"]) if "HTML" in says else ([],):
            with pytest.raises(InputError, match=f"weights: .*{name} is not a .*{says}") as raised:
                convert(tmp_path, tmp_path / name, *options)
            assert "\n" not in str(raised.value) and "weights_only" not in str(raised.value)
    with pytest.raises(InputError, match=r"is not a .* but a folder"):
        convert(tmp_path, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore")
def test_what_torch_refuses_is_told_without_its_advice(tmp_path):
    import torch

    path = tmp_path / "a.pth"
    for content, says in (
        ({"state_dict": {}, "args": argparse.Namespace(epochs=3)}, "it holds argparse.Namespace too, and loading such objects could run"),
        (torch.nn.Linear(2, 2), "it holds torch.nn.modules.linear.Linear too"),
        ({"epoch": 3, "notes": "none"}, r"holds no named tensors \(a dict of 'epoch', 'notes'\)"),
        ([torch.zeros(2)], r"holds no named tensors \(list\)"),
    ):
        torch.save(content, path)
        with pytest.raises(InputError, match=says) as raised:
            convert(tmp_path, path)
        assert "weights_only" not in str(raised.value) and "state_dict(), FILE" in str(raised.value)
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)
    with pytest.raises(InputError, match="it is a program"):
        convert(tmp_path, path)


def checkpoint(form: str, state: dict) -> dict:
    """The tensors of `state` in the form in which programs save them."""
    match form:
        case "DataParallel":
            return {f"module.{name}": tensor for name, tensor in state.items()}
        case "DataParallel of the convolutions":  # PyTorch's ImageNet example, for AlexNet
            wrapped = {name.replace("features.", "features.module."): tensor for name, tensor in state.items()}
            return {"epoch": 3, "arch": "alexnet", "state_dict": wrapped, "best_acc1": next(iter(state.values())).sum()}
        case "compiled":
            return {"model": {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()}}
        case "Lightning":
            return {"state_dict": {f"model.backbone.{name}": tensor for name, tensor in state.items()}, "epoch": 1}
        case "with the optimiser":
            moments = {number: {"exp_avg": tensor.bfloat16()} for number, tensor in enumerate(state.values())}
            return {"model_state_dict": state, "optimizer_state_dict": {"state": moments, "param_groups": [{"lr": 0.1}]}}
        case "twice the same":
            both = {"model": state, "state_dict": state}
            return both | {"itself": both}
    raise AssertionError(form)


FORMS = ["DataParallel", "DataParallel of the convolutions", "compiled", "Lightning", "with the optimiser", "twice the same"]


@pytest.mark.parametrize("form", FORMS)
def test_a_trainings_checkpoint_is_read(tmp_path, form):
    import torch

    state = torchvision_names(features_only=True)
    torch.save(checkpoint(form, {name: torch.from_numpy(array) for name, array in state.items()}), tmp_path / "a.pth")
    trained, _ = convert(tmp_path, tmp_path / "a.pth", "--classifier=fresh")
    assert np.array_equal(trained["conv3.weight"], state["features.6.weight"])


def test_two_networks_in_one_file_are_not_guessed_at(tmp_path):
    import torch

    state = {name: torch.from_numpy(array) for name, array in torchvision_names(features_only=True).items()}
    torch.save({"model": state, "ema": {name: tensor + 1 for name, tensor in state.items()}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"holds several networks \('ema\.', 'model\.'\); save one of them alone"):
        convert(tmp_path, tmp_path / "a.pth", "--classifier=fresh")
    torch.save(state | {f"module.{name}": tensor + 1 for name, tensor in state.items()}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"has 'features\.0\.weight' both wrapped and not"):
        convert(tmp_path, tmp_path / "a.pth", "--classifier=fresh")


@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a", "a.PTH", "safetensors"])
def test_what_a_file_is_decides_its_content_and_not_its_ending(tmp_path, name):
    state = torchvision_names(features_only=True)
    save_file({f"module.{key}": array for key, array in state.items()}, tmp_path / name)
    trained, _ = convert(tmp_path, tmp_path / name, "--classifier=fresh")
    assert np.array_equal(trained["conv3.weight"], state["features.6.weight"])


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_may_be_called_safetensors(tmp_path, zipped):
    import torch

    state = {name: torch.from_numpy(array) for name, array in torchvision_names(features_only=True).items()}
    torch.save(state, tmp_path / "a.safetensors", _use_new_zipfile_serialization=zipped)
    trained, _ = convert(tmp_path, tmp_path / "a.safetensors", "--classifier=fresh")
    assert np.array_equal(trained["conv3.weight"], state["features.6.weight"].numpy())


def test_what_a_file_has_instead_is_named(tmp_path):
    save_file({"block1.conv.kernel": np.zeros(2, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"lacks features\.0\.weight, .* \(it has 'block1\.conv\.kernel'\)"):
        convert(tmp_path, tmp_path / "a.safetensors")


def test_a_changed_url_or_hash_fetches_other_weights(server, tmp_path, monkeypatch):
    """With and without a hash, for URLs with the same last part; then the same URL serves another file."""
    monkeypatch.chdir(tmp_path)
    one, two, three = (torchvision_weights(value) for value in (1, 2, 3))
    server.files |= {"one/a.pth": one, "two/a.pth": two}

    def first(path: str, *options: str) -> float:
        trained, metadata = convert(tmp_path, server.url(path), "--classifier=fresh", *options)
        assert metadata["source"] == "a.pth"
        return trained["conv1.bias"][0]

    assert [first("one/a.pth"), first("two/a.pth"), first("one/a.pth"), len(server.asked)] == [1, 2, 1, 2]
    server.files["one/a.pth"] = three
    assert [first("one/a.pth", f"--sha256={sha256(three)}"), len(server.asked)] == [3, 3]
    with pytest.raises(InputError, match=rf"has SHA-256 {sha256(three)}, expected 00000000.*the download from .*/one/a\.pth was deleted"):
        first("one/a.pth", "--sha256=00000000")
    server.files["two/b.pth"] = b"<!DOCTYPE html><title>Log in</title>"
    with pytest.raises(InputError, match=r"but an HTML page \('Log in'\).*was deleted\]"):
        first("two/b.pth", f"--sha256={sha256(three)}")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(torchvision_names(features_only=True), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        convert(tmp_path, path, "--classifier=fresh")


def test_another_hash_is_refused(tmp_path):
    save_file(torchvision_names(features_only=True), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"has SHA-256 [0-9a-f]{64}, expected 7be5be79.*weights\.sha256"):
        convert(tmp_path, tmp_path / "a.safetensors", "--sha256=7be5be79")


def test_a_wrong_shape_names_tensor_and_both_shapes(tmp_path):
    state = torchvision_names(features_only=True) | {"features.0.weight": np.zeros((96, 3, 11, 11), np.float32)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"conv1\.weight of \(96, 3, 11, 11\) float32; .* needs \(64, 3, 11, 11\) float32"):
        convert(tmp_path, tmp_path / "a.safetensors", "--classifier=fresh")


def test_values_that_are_not_finite_are_refused(tmp_path):
    state = torchvision_names(features_only=True)
    state["features.3.bias"][0] = np.nan
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"conv2\.bias that are not finite"):
        convert(tmp_path, tmp_path / "a.safetensors", "--classifier=fresh")


def test_weights_of_another_network_are_refused():
    with pytest.raises(InputError, match=r"x has conv3\.weight, which tiny has not"):
        weights.check(TINY, {"conv3.weight": np.zeros(1, np.float32)}, "x")
    with pytest.raises(InputError, match=r"x lacks conv1\.weight \(4, 3, 5, 5\)"):
        weights.check(TINY, {}, "x")
