"""Import torchvision, even alongside a PyTorch that it was not built for. No other file imports it."""

import sys
from types import ModuleType


def torchvision() -> ModuleType:
    """The package torchvision, with its models, datasets and transforms.

    Its wheels are CUDA builds. Alongside a CPU-only PyTorch their compiled operators cannot be loaded, and the import fails with "operator
    torchvision::nms does not exist" when it describes two of them to PyTorch. Once these two are declared the import succeeds; only what
    needs the compiled operators (`ops.nms`, `io`) is missing then.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision
