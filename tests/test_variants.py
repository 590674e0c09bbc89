"""The networks are the original study's, layer by layer: as declared, and as each framework builds them."""

from itertools import pairwise

import pytest

from alexbench import backends
from alexbench.experiment import layers, variants

# Building a network starts TensorFlow, which fixes its number of threads for the rest of the process.
pytestmark = pytest.mark.usefixtures("one_thread")

# The layer tables printed in the original study: output shape and parameters.
MOD = {
    "conv1": ((22, 22, 96), 34_944),
    "pad1": ((26, 26, 96), 0),
    "maxpool1": ((12, 12, 96), 0),
    "conv2": ((12, 12, 256), 614_656),
    "maxpool2": ((5, 5, 256), 0),
    "conv3": ((5, 5, 384), 885_120),
    "conv4": ((5, 5, 384), 1_327_488),
    "conv5": ((5, 5, 256), 884_992),
    "maxpool3": ((2, 2, 256), 0),
    "flatten1": ((1024,), 0),
    "dense1": ((512,), 524_800),
    "dropout1": ((512,), 0),
    "dense2": ((512,), 262_656),
    "dropout2": ((512,), 0),
    "dense3": ((10,), 5_130),
}
ORIGINAL = {
    "conv1": ((54, 54, 96), 34_944),
    "pad1": ((58, 58, 96), 0),
    "maxpool1": ((28, 28, 96), 0),
    "conv2": ((28, 28, 256), 614_656),
    "maxpool2": ((13, 13, 256), 0),
    "conv3": ((13, 13, 384), 885_120),
    "conv4": ((13, 13, 384), 1_327_488),
    "conv5": ((13, 13, 256), 884_992),
    "maxpool3": ((6, 6, 256), 0),
    "flatten1": ((9216,), 0),
    "dense1": ((4096,), 37_752_832),
    "dropout1": ((4096,), 0),
    "dense2": ((4096,), 16_781_312),
    "dropout2": ((4096,), 0),
    "dense3": ((10,), 40_970),
}
# torchvision's alexnet; the original study prints only its total.
PRETRAINED = {
    "conv1": ((55, 55, 64), 23_296),
    "maxpool1": ((27, 27, 64), 0),
    "conv2": ((27, 27, 192), 307_392),
    "maxpool2": ((13, 13, 192), 0),
    "conv3": ((13, 13, 384), 663_936),
    "conv4": ((13, 13, 256), 884_992),
    "conv5": ((13, 13, 256), 590_080),
    "maxpool3": ((6, 6, 256), 0),
    "flatten1": ((9216,), 0),
    "dropout1": ((9216,), 0),
    "dense1": ((4096,), 37_752_832),
    "dropout2": ((4096,), 0),
    "dense2": ((4096,), 16_781_312),
    "dense3": ((10,), 40_970),
}
TABLES = {"alexnet_mod": MOD, "alexnet": ORIGINAL, "alexnet_pretrained": PRETRAINED}
TOTALS = {"alexnet_mod": 4_539_786, "alexnet": 58_322_314, "alexnet_pretrained": 57_044_810}
MILLION_MULTIPLY_ADDS = {"alexnet_mod": 183.55, "alexnet": 1161.19, "alexnet_pretrained": 710.13}


@pytest.mark.parametrize("name", TABLES)
def test_declaration_gives_the_originals_layer_table(name):
    variant = variants.get(name)
    assert {i.name: (i.output_shape, i.parameters) for i in layers.describe(variant)} == TABLES[name]
    assert layers.parameters(variant) == TOTALS[name]
    assert layers.multiply_adds(variant) / 1e6 == pytest.approx(MILLION_MULTIPLY_ADDS[name], abs=0.005)


def test_other_networks_have_their_published_numbers_of_parameters():
    """Krizhevsky et al. (2012) with ImageNet's 1,000 classes; ResNet-18 for CIFAR-10 as widely published, 11.17 million."""
    assert layers.parameters(variants.get("alexnet_2012", 1000)) == 60_965_224
    assert layers.parameters(variants.get("resnet18")) == 11_173_962
    assert layers.parameters(variants.get("resnet18", 100)) == 11_173_962 + 90 * 513


@pytest.mark.parametrize("name", TABLES)
def test_pytorch_builds_the_declared_layers(name):
    import torch

    from alexbench.backends.pytorch import build

    variant = variants.get(name)
    model = build(variant, dropout=0.5)
    x, seen = torch.zeros(1, 3, variant.input_size, variant.input_size), {}
    for layer, module in model.named_children():
        x = module(x)
        if not layer.endswith("_relu"):
            shape = (*x.shape[2:], x.shape[1]) if x.ndim == 4 else (x.shape[1],)
            seen[layer] = (shape, sum(p.numel() for p in module.parameters()))
    assert seen == TABLES[name]
    assert sum(p.numel() for p in model.parameters()) == TOTALS[name]


@pytest.mark.parametrize("name", TABLES)
def test_tensorflow_builds_the_declared_layers(name):
    from alexbench.backends.tensorflow import build

    model = build(variants.get(name), dropout=0.5, seed=0)
    layers = [layer for layer in model.layers[1:] if not layer.name.endswith("_padding")]
    assert {layer.name: (layer.output.shape[1:], layer.count_params()) for layer in layers} == TABLES[name]
    assert model.count_params() == TOTALS[name]


@pytest.mark.parametrize("framework", ["pytorch", "tensorflow"])
@pytest.mark.parametrize("name", TABLES)
def test_relu_follows_every_layer_with_weights_but_the_last(framework, name):
    with_weights = [i.name for i in layers.describe(variants.get(name)) if i.parameters]
    if framework == "pytorch":
        from alexbench.backends.pytorch import build

        names = [layer for layer, _ in build(variants.get(name), 0.5).named_children()]
        rectified = [layer for layer, after in pairwise(names) if after == f"{layer}_relu"]
    else:
        from alexbench.backends.tensorflow import build

        built = build(variants.get(name), 0.5, 0).layers
        rectified = [layer.name for layer in built if getattr(getattr(layer, "activation", None), "__name__", "") == "relu"]
    assert rectified == with_weights[:-1]


def test_unknown_names_are_told_the_choices():
    with pytest.raises(ValueError, match=r"'alexnett'.*alexnet_mod, alexnet, alexnet_pretrained"):
        variants.get("alexnett")
    with pytest.raises(ValueError, match=rf"'torch'.*{', '.join(backends.FRAMEWORKS)}"):
        backends.load("torch")


C = layers.Conv(4, kernel=3)


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ((layers.Conv(4, kernel=11),), r"conv1 leaves nothing of an input of \(8, 8, 3\)"),
        ((layers.Residual((C,)),), r"residual1 gives \(6, 6, 4\), and its shortcut, which has no projection, gives \(8, 8, 3\)"),
        ((layers.Residual((C,), (layers.Conv(4, kernel=1),)),), r"residual1 gives \(6, 6, 4\), and its projection gives \(8, 8, 4\)"),
        (
            (
                layers.Residual(
                    (C, layers.Conv(4, kernel=9)),
                ),
            ),
            r"residual1\.conv2 leaves nothing of an input of \(6, 6, 4\)",
        ),
        ((layers.Conv(4, kernel=3, groups=2),), r"conv1 has 2 groups, which divide its 3 channels and 4 filters unevenly"),
        ((layers.Dense(4),), r"dense1 takes a vector: put a Flatten or GlobalAvgPool before it"),
        ((layers.Flatten(), C), r"conv1 takes an image: put it before the Flatten"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value[0]).__name__,
)
def test_a_layer_that_does_not_fit_is_refused(declared, says):
    with pytest.raises(ValueError, match=f"variant bad: {says}"):
        layers.describe(layers.Variant("bad", "Bad", "", 8, declared))
