"""torchvision beside a PyTorch that it was not built for: the one place that knows how to import it."""

import sys
from types import ModuleType


def torchvision() -> ModuleType:
    """The package torchvision, with its models, datasets and transforms.

    Its wheels are CUDA builds. Beside a PyTorch built for the CPU alone their compiled operators cannot be loaded, and the
    import fails with "operator torchvision::nms does not exist" where it describes two of them to PyTorch. Once these two
    are declared the import goes through; only what needs the compiled operators (`ops.nms`, `io`) is missing then.
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
