#!/usr/bin/env python3
"""Convert trained weights of torchvision's AlexNet to the neutral safetensors file that a pretrained variant starts from.

The source is torchvision's own file (.pth, loaded without running any code in it) or a safetensors file with the same names; its
content decides which, not its suffix. A training checkpoint works too: names may have a prefix ("module." of DataParallel), and the
tensors may be nested ("state_dict", "model").
The last layer, for ImageNet's 1,000 classes, is left out and starts fresh. With --classifier fresh the whole classifier starts fresh,
so a file with only the convolutions (features.*) is enough.

    python scripts/prepare_weights.py --variant alexnet_pretrained --source alexnet-owt-7be5be79.pth --sha256 7be5be79 \\
        --output resources/weights/alexnet_pretrained.safetensors
"""

import argparse
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from alexbench.experiment import contents, layers, variants, weights
from alexbench.experiment.download import file_name, local_copy
from alexbench.files import InputError, raise_refusal, run_program
from alexbench.workflow import fingerprint

TORCHVISION_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"


# How many levels of nested dicts are searched for tensors.
_DEPTH = 4
# Prefixes that PyTorch's wrappers add to names: DataParallel and DistributedDataParallel, torch.compile.
_WRAPPERS = ("module", "_orig_mod")


def recognised(path: Path) -> str:
    """The kind of a weights file, by its content; InputError, which says what the file is, if it is not a weights file."""
    kind = contents.describe(path)
    page = contents.is_html(kind)
    # A damaged safetensors file is reported when it is read.
    if kind in (contents.SAFETENSORS, contents.ZIP, contents.PICKLE) or (path.suffix == ".safetensors" and path.is_file() and not page):
        return kind
    way_out = "fetch the file in a browser, where the page may ask for a login, and set weights.source to its path" if page else ""
    raise InputError(
        f"weights: {path} is not a PyTorch or safetensors file but {kind}; {way_out or 'set weights.source to the path or URL of one'}"
    )


def read_source(path: Path) -> weights.Weights:
    """The arrays of a safetensors file or a PyTorch checkpoint, by name; a nested one's name is its keys, joined by dots."""
    if recognised(path) not in (contents.ZIP, contents.PICKLE):
        return weights.read(path)[0]
    import torch

    try:
        # Opened here: given a path, torch goes by its suffix.
        with path.open("rb") as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make an unpickler raise anything
        raise_refusal(error, "weights", path)
        raise InputError(f"weights: {path} is not a PyTorch file of tensors alone: {_why_not(path, error)}") from None
    tensors = dict(_tensors(state, seen=set()))
    if not tensors:
        what = f"a dict of {_few(state)}" if isinstance(state, dict) else type(state).__name__
        raise InputError(f"weights: {path} holds no named tensors ({what}); save those of a network: torch.save(model.state_dict(), FILE)")
    arrays = {}
    for name, tensor in tensors.items():
        try:
            arrays[name] = tensor.detach().numpy()
        except (TypeError, RuntimeError) as error:  # for example bfloat16, or a sparse tensor
            if name.endswith((".weight", ".bias")):
                raise InputError(f"weights: {path} holds a tensor that is no NumPy array ({error}); store them as float32") from None
    return arrays


def _few(names: Iterable) -> str:
    """The first of some names, on one line."""
    names = list(map(repr, names))
    return ", ".join(names[:4])[:300] + (", ..." if len(names) > 4 else "") or "nothing"


def _why_not(path: Path, error: Exception) -> str:
    """Why torch.load refuses a file, without its advice to let the file run code."""
    text = str(error)
    save = "save its tensors: torch.save(model.state_dict(), FILE)"
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        return f"it holds {found[1]} too, and loading such objects could run code; {save}"
    if "TorchScript" in text:
        return f"it is a program (TorchScript); {save}"
    if "weights_only" in text:
        return f"it is a pickle of something else, or damaged; {save}"
    reason = (text.strip() or type(error).__name__).splitlines()[0]
    return f"it is cut short, damaged, or of another program ({path.stat().st_size:,} bytes; {reason})"


def _tensors(state: object, seen: set[int], prefix: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, object]]:
    """Every tensor in nested dicts, with its name. A dict that occurs again, even inside itself, is skipped."""
    import torch

    if isinstance(state, torch.Tensor) and prefix:
        yield prefix, state
    elif isinstance(state, dict) and depth and id(state) not in seen:
        seen.add(id(state))
        for key, value in state.items():
            yield from _tensors(value, seen, f"{prefix}.{key}" if prefix else str(key), depth - 1)


def unwrapped(source: weights.Weights, first: str, path: Path) -> weights.Weights:
    """The tensors under their names in the network itself: the prefix found before `first` is removed, if there is one."""
    plain = {}
    for name, array in source.items():
        short = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if short in plain:
            raise InputError(f"weights: {path} has {short!r} both wrapped and not; save one network alone")
        plain[short] = array
    prefixes = sorted(name.removesuffix(first) for name in plain if name == first or name.endswith(f".{first}"))
    if len(prefixes) > 1 and "" not in prefixes:
        raise InputError(f"weights: {path} holds several networks ({_few(prefixes)}); save one of them alone")
    prefix = prefixes[0] if prefixes else ""
    return {name.removeprefix(prefix): array for name, array in plain.items() if name.startswith(prefix)}


def convert(variant: layers.Variant, source: weights.Weights, classifier: str, path: Path) -> tuple[weights.Weights, list[str]]:
    """The source's tensors under the variant's names, and the names of the layers that start fresh."""
    source = unwrapped(source, f"{next(iter(variant.pretrained.values()))}.weight", path)
    trained: weights.Weights = {}
    fresh = []
    for info in layers.every_layer(variant):
        if not info.parameters or info.body:
            continue
        name = variant.pretrained.get(info.name)
        if name is None or (classifier == "fresh" and info.kind == "Dense"):
            fresh.append(info.name)
            continue
        for kind in ("weight", "bias"):
            if f"{name}.{kind}" not in source:
                way_out = "; set weights.classifier: fresh to start with a fresh classifier" if info.kind == "Dense" else ""
                raise InputError(
                    f"weights: {path} lacks {name}.{kind}, from which {info.name} of {variant.name} starts (it has {_few(source)}){way_out}"
                )
            trained[f"{info.name}.{kind}"] = np.asarray(source[f"{name}.{kind}"])
    weights.check(variant, trained, str(path), optional=tuple(fresh))
    return trained, fresh


def main(argv: list[str] | None = None) -> int:
    pretrained = [name for name, variant in variants.VARIANTS.items() if variant.pretrained]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--variant", required=True, choices=pretrained)
    p.add_argument("--output", required=True, type=Path, metavar="SAFETENSORS")
    p.add_argument("--source", default=TORCHVISION_URL, help="URL or path of the trained weights (%(default)s)")
    p.add_argument("--sha256", metavar="HEX", help="expected start of the source's SHA-256 (default: not checked)")
    p.add_argument(
        "--classifier",
        choices=("pretrained", "fresh"),
        default="pretrained",
        help="hidden dense layers: from the source, or fresh (%(default)s)",
    )
    p.add_argument("--downloads", type=Path, default=Path("resources/downloads"), help="folder that keeps downloads (%(default)s)")
    args = p.parse_args(argv)
    variant = variants.get(args.variant)
    with local_copy(args.source, args.downloads, key="weights.source", sha256=args.sha256) as path:
        recognised(path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if args.sha256 and not sha256.startswith(args.sha256.lower()):
            raise InputError(f"weights: {path} has SHA-256 {sha256}, expected {args.sha256}...; set weights.sha256 to the file's own")
        trained, fresh = convert(variant, read_source(path), args.classifier, path)
    start = "ImageNet convolutions, fresh classifier" if args.classifier == "fresh" else "ImageNet"
    name = file_name(args.source)
    metadata = {
        "variant": variant.name,
        "start": start,
        "source": name,
        "source_sha256": sha256,
        "fresh_layers": " ".join(fresh),
    }
    weights.write(args.output, trained, metadata)
    fingerprint.note(args.output)
    count = sum(array.size for array in trained.values())
    print(f"{variant.name}: {count:,} of {layers.parameters(variant):,} parameters from {name} ({sha256}) -> {args.output}")
    print(f"starting fresh: {', '.join(fresh)}")
    return 0


if __name__ == "__main__":
    run_program(main)
