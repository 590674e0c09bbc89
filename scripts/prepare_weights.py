#!/usr/bin/env python3
"""Convert trained weights of torchvision's AlexNet to the neutral safetensors file that a pretrained variant starts from.

The source is torchvision's own file (.pth, loaded without running any code in it) or a .safetensors with the same names.
Its last layer, of ImageNet's 1,000 classes, is left out: that one starts fresh. With --classifier fresh the whole classifier
does, which is the way to use a file that holds the convolutions (features.*) only.

    python scripts/prepare_weights.py --variant alexnet_pretrained --source alexnet-owt-7be5be79.pth --sha256 7be5be79 \\
        --output resources/weights/alexnet_pretrained.safetensors
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from alexbench import spec, variants, weights
from alexbench.download import local_copy
from alexbench.files import InputError, raise_refusal, run_program

TORCHVISION_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"


def read_source(path: Path) -> weights.Weights:
    """Arrays of a .safetensors or a PyTorch checkpoint, by the names they have there."""
    if path.suffix == ".safetensors":
        return weights.read(path)[0]
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what an unpickler stumbles over in a damaged file may be anything
        raise_refusal(error, "weights", path)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"weights: {path} is not a PyTorch file of tensors alone ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise InputError(f"weights: {path} holds something else than named tensors")
    try:
        return {str(name): tensor.detach().numpy() for name, tensor in state.items()}
    except (TypeError, RuntimeError) as error:  # bfloat16, say, or a sparse tensor
        raise InputError(f"weights: {path} holds a tensor that is no NumPy array ({error}); store them as float32") from None


def convert(variant: spec.Variant, source: weights.Weights, classifier: str, path: Path) -> tuple[weights.Weights, list[str]]:
    """The source's tensors under the variant's names, and the layers that are left to start fresh."""
    trained: weights.Weights = {}
    fresh = []
    for info in spec.describe(variant):
        if not info.parameters:
            continue
        name = variant.pretrained.get(info.name)
        if name is None or (classifier == "fresh" and info.kind == "Dense"):
            fresh.append(info.name)
            continue
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" not in source:
                way_out = "; set weights.classifier: fresh to start with a fresh classifier" if info.kind == "Dense" else ""
                raise InputError(f"weights: {path} lacks {name}.{kind}, from which {info.name} of {variant.name} starts{way_out}")
            trained[f"{info.name}.{kind}"] = np.asarray(source[f"{name}.{kind}"])
    weights.check(variant, trained, str(path), optional=tuple(fresh))
    return trained, fresh


def main(argv: list[str] | None = None) -> int:
    pretrained = [name for name, variant in variants.VARIANTS.items() if variant.pretrained]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--variant", required=True, choices=pretrained)
    p.add_argument("--output", required=True, type=Path, metavar="SAFETENSORS")
    p.add_argument("--source", default=TORCHVISION_URL, help="a URL, a .pth or a .safetensors (%(default)s)")
    p.add_argument("--sha256", metavar="HEX", help="what the source's SHA-256 is to start with; without it, nothing is compared")
    p.add_argument("--classifier", choices=("pretrained", "fresh"), default="pretrained", help="(%(default)s)")
    p.add_argument("--downloads", type=Path, default=Path("resources/downloads"), help="where a URL is kept (%(default)s)")
    args = p.parse_args(argv)
    variant = variants.get(args.variant)
    with local_copy(args.source, args.downloads, key="weights.source") as path:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if args.sha256 and not sha256.startswith(args.sha256.lower()):
            raise InputError(f"weights: {path} has SHA-256 {sha256}, expected {args.sha256}...; set weights.sha256 to the file's own")
        trained, fresh = convert(variant, read_source(path), args.classifier, path)
    start = "ImageNet convolutions, fresh classifier" if args.classifier == "fresh" else "ImageNet"
    metadata = {
        "variant": variant.name,
        "start": start,
        "source": path.name,
        "source_sha256": sha256,
        "fresh_layers": " ".join(fresh),
    }
    weights.write(args.output, trained, metadata)
    count = sum(array.size for array in trained.values())
    print(f"{variant.name}: {count:,} of {spec.parameters(variant):,} parameters from {path.name} ({sha256}) -> {args.output}")
    print(f"starting fresh: {', '.join(fresh)}")
    return 0


if __name__ == "__main__":
    run_program(main)
