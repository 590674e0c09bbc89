"""The study's networks in PyTorch. The only file that imports torch for training."""

from math import sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from alexbench.files import InputError
from alexbench.recipe import Recipe
from alexbench.spec import Conv, Dense, Dropout, Flatten, LayerInfo, MaxPool, Pad, Variant, describe
from alexbench.weights import Weights

# Adam's constants by convention: epsilon, and whether it is added to the bias-corrected root of the second moment.
ADAM = {"torch": (1e-8, True), "keras": (1e-7, False)}


def build(variant: Variant, dropout: float) -> nn.Sequential:
    """The network: float32 (n, 3, size, size) to logits (n, 10). Its modules bear the declaration's names."""
    model = nn.Sequential()
    for info in describe(variant):
        model.add_module(info.name, _module(info, dropout))
        if isinstance(info.layer, Conv) or (isinstance(info.layer, Dense) and info.layer.relu):
            model.add_module(f"{info.name}_relu", nn.ReLU(inplace=True))
    return model


def _module(info: LayerInfo, dropout: float) -> nn.Module:
    match info.layer:
        case Conv(filters, kernel, stride, padding):
            return nn.Conv2d(info.input_shape[2], filters, kernel, stride, padding)
        case Pad(size):
            return nn.ZeroPad2d(size)
        case MaxPool(window, stride):
            return nn.MaxPool2d(window, stride)
        case Flatten():
            return nn.Flatten()
        case Dense(units):
            return nn.Linear(info.input_shape[0], units)
        case Dropout():
            return nn.Dropout(dropout)
    raise TypeError(f"unknown layer {info.layer!r}")


class Backend:
    """See `alexbench.backends.Backend`."""

    conventions = "torch"
    title = "PyTorch"
    out_of_memory = (torch.OutOfMemoryError,)

    def __init__(self, variant: Variant, recipe: Recipe, mean: np.ndarray, std: np.ndarray, device: str, threads: int, seed: int) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            build_of = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
            raise InputError(
                f"device: cuda was asked for, but PyTorch {torch.__version__} (built for {build_of}) sees no GPU; "
                "check the driver (nvidia-smi) and the job's GPU request, or set device to cpu"
            )
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        torch.set_num_threads(threads)
        # fp32 is to be IEEE fp32 in both frameworks; PyTorch would use TF32 in convolutions by default.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
        torch.manual_seed(seed)

        self.variant = variant
        self.model = build(variant, recipe.dropout).to(self.device, memory_format=torch.channels_last)
        self.epsilon, self.epsilon_corrected = ADAM[recipe.adam_epsilon]
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.999), eps=self.epsilon, fused=True
        )
        self.steps = 0
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.scale = torch.tensor(1 / (255 * std), dtype=torch.float32, device=self.device).view(1, 3, 1, 1)
        self.shift = torch.tensor(-mean / std, dtype=torch.float32, device=self.device).view(1, 3, 1, 1)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)

    @staticmethod
    def probe() -> tuple[str, list[str]]:
        return torch.__version__, [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]

    def describe(self) -> dict[str, Any]:
        cuda = self.device.type == "cuda"
        return {
            "device": self.device.type,
            "device_name": torch.cuda.get_device_name() if cuda else None,
            "versions": {
                "torch": torch.__version__,
                "cuda": torch.version.cuda if cuda else None,
                "cudnn": str(torch.backends.cudnn.version()) if cuda else None,
                "onednn": None if cuda else torch.backends.mkldnn.is_available() and "bundled with torch",
            },
            "settings": {
                "execution": "eager",
                "precision": "fp32",
                "memory_format": "channels_last",
                "fused_adam": True,
                "cudnn_benchmark": torch.backends.cudnn.benchmark if cuda else None,
            },
        }

    def set_weights(self, weights: Weights) -> None:
        parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for name, array in weights.items():
                parameters[name].copy_(torch.from_numpy(array))

    def get_weights(self) -> Weights:
        return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in self.model.named_parameters()}

    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images = torch.from_numpy(images).to(self.device)
        self.labels = torch.from_numpy(labels).to(self.device)

    def _inputs(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 (n, height, width, 3) to the network's float32 (n, 3, size, size), channels last in memory."""
        x = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        size = self.variant.input_size
        if x.shape[2:] != (size, size):
            x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
        return x

    def train(self, plan: np.ndarray) -> None:
        self.model.train()
        for batch in torch.from_numpy(plan).to(self.device):
            labels = self.labels[batch]
            logits = self.model(self._inputs(self.images[batch]))
            loss = F.cross_entropy(logits, labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.steps += 1
            if not self.epsilon_corrected:
                # torch adds epsilon to the corrected root; this value there is self.epsilon before the correction.
                self.optimizer.param_groups[0]["eps"] = self.epsilon / sqrt(1 - 0.999**self.steps)
            self.optimizer.step()
            self.loss_sum += loss.detach() * len(batch)
            self.correct += (logits.detach().argmax(1) == labels).sum()

    def metrics(self) -> tuple[float, int]:
        loss_sum, correct = self.loss_sum.item(), self.correct.item()
        self.loss_sum.zero_()
        self.correct.zero_()
        return loss_sum, correct

    @torch.inference_mode()
    def predict(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        self.model.eval()
        logits = [self.model(self._inputs(part.to(self.device))).cpu() for part in torch.from_numpy(images).split(batch_size)]
        return torch.cat(logits).numpy()

    def state(self) -> dict[str, np.ndarray]:
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{number}.{name}": tensor for name, tensor in moments.items()}
        state |= {"loss_sum": self.loss_sum, "correct": self.correct, "random": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state()
        return {"steps": np.array(self.steps)} | {name: _array(tensor) for name, tensor in state.items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        tensors = {name: torch.from_numpy(array.copy()) for name, array in state.items()}
        self.steps = int(state["steps"])
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        moments: dict[int, dict[str, torch.Tensor]] = {}
        parameters = list(self.model.parameters())
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, number, moment = name.split(".")
                if tensor.ndim:
                    # Fused Adam walks memory: its moments must lie as their parameters do, channels last.
                    tensor = torch.empty_like(parameters[int(number)]).copy_(tensor)
                moments.setdefault(int(number), {})[moment] = tensor
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.loss_sum.copy_(tensors["loss_sum"])
        self.correct.copy_(tensors["correct"])
        torch.set_rng_state(tensors["random"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random_cuda"])

    def peak_memory_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A copy of `tensor` on the host."""
    return tensor.detach().cpu().contiguous().numpy().copy()
