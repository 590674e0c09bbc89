"""The networks in PyTorch. The only file that imports torch for training."""

import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any, ClassVar

# libgomp, PyTorch's OpenMP on Linux, reads this when it is loaded together with torch. By default a thread that waits for the others keeps
# its core busy for milliseconds, so that beside any other busy process two threads may be slower than one.
if sys.platform == "linux" and "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# With these set, torch may get fewer threads than it asks for, and does not notice.
for _name in ("OMP_THREAD_LIMIT", "OMP_DYNAMIC"):
    os.environ.pop(_name, None)

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from alexbench.backends import PREDICT_BATCH_SIZE, Setup
from alexbench.experiment.execution import Switch, keep_freed_memory
from alexbench.experiment.layers import (
    BATCH_NORM_EPSILON,
    BATCH_NORM_MOMENTUM,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LayerInfo,
    LocalResponseNorm,
    MaxPool,
    Pad,
    Residual,
    Variant,
    describe,
    trained,
    weight_shapes,
)
from alexbench.experiment.recipe import Plan
from alexbench.experiment.weights import Weights
from alexbench.files import InputError

# Treat denormal numbers as zero, as TensorFlow does: a CPU computes with them many times slower. A thread inherits this from the one that
# starts it, so it must be set before PyTorch starts any. False if the processor cannot do it.
FLUSHES_DENORMALS = torch.set_flush_denormal(True)
# Settings that matter only on a CPU, with the environment variables as they were when torch was loaded.
ON_CPU = {
    "flush_denormals": FLUSHES_DENORMALS,
    "gomp_spincount": os.environ.get("GOMP_SPINCOUNT"),
    "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
}

# Adam's constants by convention: epsilon, and whether it is added to the bias-corrected root of the second moment.
ADAM = {"torch": (1e-8, True), "keras": (1e-7, False)}


ACTIVATIONS = {"relu": partial(nn.ReLU, inplace=True), "gelu": nn.GELU, "silu": partial(nn.SiLU, inplace=True)}


def build(variant: Variant, dropout: float) -> nn.Sequential:
    """The network: float32 (n, 3, size, size) to logits (n, classes). Its modules are named as in the declaration."""
    return nn.Sequential(_modules(describe(variant), dropout))


def _modules(infos: Iterable[LayerInfo], dropout: float) -> OrderedDict[str, nn.Module]:
    """The modules of a chain of layers by name, activations included."""
    modules = OrderedDict()
    for info in infos:
        name = info.name.rpartition(".")[2]
        modules[name] = _module(info, dropout)
        activation = getattr(info.layer, "activation", None)
        if activation:
            modules[f"{name}_{activation}"] = ACTIVATIONS[activation]()
    return modules


def _module(info: LayerInfo, dropout: float) -> nn.Module:
    match info.layer:
        case Conv(filters, kernel, stride, padding, bias, _, groups):
            return nn.Conv2d(info.input_shape[2], filters, kernel, stride, padding, groups=groups, bias=bias)
        case BatchNorm():
            return nn.BatchNorm2d(info.input_shape[2], eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM)
        case LocalResponseNorm(size, alpha, beta, bias):
            # PyTorch divides alpha by the number of channels that it sums over.
            return nn.LocalResponseNorm(size, alpha * size, beta, bias)
        case Pad(size):
            return nn.ZeroPad2d(size)
        case MaxPool(window, stride):
            return nn.MaxPool2d(window, stride)
        case AvgPool(window, stride):
            return nn.AvgPool2d(window, stride)
        case GlobalAvgPool():
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        case Flatten():
            return nn.Flatten()
        case Dense(units, activation):
            return (nn.Linear if activation else Float32Linear)(info.input_shape[0], units)
        case Dropout():
            return nn.Dropout(dropout)
        case Residual():
            return ResidualBlock(_modules(info.body, dropout), _modules(info.projection, dropout))
    raise TypeError(f"unknown layer {info.layer!r}")


class ResidualBlock(nn.Module):
    """Layers with a shortcut around them; see `layers.Residual`."""

    def __init__(self, body: OrderedDict[str, nn.Module], projection: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        for name, module in body.items():
            self.add_module(name, module)
        self.body = tuple(body)
        self.projection = nn.Sequential(projection)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = inputs
        for name in self.body:
            x = self.get_submodule(name)(x)
        return x + self.projection(inputs)


class Float32Linear(nn.Linear):
    """A dense layer that computes in float32 even under autocast. Logits in bfloat16 would have ties, which go to the lower class."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        with torch.autocast(inputs.device.type, enabled=False):
            return super().forward(inputs.float())


class ImageDataset(torch.utils.data.Dataset):
    """One image at a time, as torchvision.datasets.CIFAR10 gives it: a PIL image, transformed, and its label."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


@dataclass(frozen=True)
class StepGraph:
    """A step as a CUDA graph: one launch for its hundreds of kernels.

    `gradients`: where the graph leaves them, one per parameter. `batch`: the function that makes its images, kept because the graph refers
    to them by address.
    """

    graph: torch.cuda.CUDAGraph
    gradients: list[torch.Tensor]
    batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]


class Backend:
    """See `alexbench.backends.Backend`."""

    conventions: ClassVar = {"initialisation": "torch", "adam_epsilon": "torch"}
    title = "PyTorch"
    out_of_memory = (torch.OutOfMemoryError,)
    tutorial_resize = "image"
    switches: ClassVar = {
        "asynchronous": Switch("no waiting for each step's loss", fast={"cpu": ("fp32", "bf16")}, expected=("cuda",)),
        "channels_last": Switch("channels last in memory", fast={"cpu": ("fp32", "bf16")}),
        "fused_adam": Switch("Adam in one kernel", fast={"cpu": ("fp32", "bf16")}, expected=("cuda",)),
        "kept_memory": Switch("freed memory kept", devices=("cpu",), fast={"cpu": ("fp32", "bf16")}),
        "autotuned": Switch(
            "convolutions autotuned", devices=("cuda",), excludes={"deterministic": "what is tried out may be chosen otherwise next time"}
        ),
        "cuda_graph": Switch(
            "a step in one CUDA graph", devices=("cuda",), excludes={"per_image": "a graph finds its images where they always are"}
        ),
        # Makes steps slower on a CPU.
        "compiled": Switch(
            "torch.compile",
            needs={"cpu": {"channels_last": "otherwise its max-pooling has zeros for gradients where few pixels come out"}},
        ),
    }
    extra_steps: ClassVar = {
        "cpu": ("fast+compiled",),
        "cuda": ("fast+channels_last", "fast+autotuned", "fast+cuda_graph", "fast+compiled"),
    }

    def __init__(self, setup: Setup) -> None:
        variant, recipe, device, execution = setup.variant, setup.recipe, setup.device, setup.execution
        if device == "cuda" and not torch.cuda.is_available():
            build_of = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
            raise InputError(
                f"device: cuda was asked for, but PyTorch {torch.__version__} (built for {build_of}) sees no GPU; "
                "check the driver (nvidia-smi) and the job's GPU request, or set device to cpu"
            )
        self.device = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
        self.execution = execution
        self.on = execution.switches(self.switches, self.device.type)
        self.resident = execution.input == "resident"
        if self.on.get("kept_memory"):
            keep_freed_memory()
        if setup.threads is not None:
            torch.set_num_threads(setup.threads)
        # PyTorch's default is TF32 for convolutions but not for matrix products.
        torch.backends.cuda.matmul.allow_tf32 = execution.precision == "tf32"
        torch.backends.cudnn.allow_tf32 = execution.precision == "tf32"
        torch.backends.cudnn.benchmark = self.on.get("autotuned", False)
        if execution.deterministic:
            # cuBLAS reads it when it is first used.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(execution.deterministic)
        # A debugging aid that comes with deterministic algorithms: it would first fill every new tensor.
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.manual_seed(setup.seed)

        self.variant, self.recipe = variant, recipe
        self.mean, self.std = setup.mean, setup.std
        self.memory_format = torch.channels_last if self.on["channels_last"] else torch.contiguous_format
        self.model = build(variant, recipe.dropout).to(self.device, memory_format=self.memory_format)
        names = trained(variant, recipe.frozen_features)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)
        self.trained = {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        self.forward = torch.compile(self.model, dynamic=False) if self.on["compiled"] else self.model
        # A CUDA graph repeats the numbers that it was captured with, except those in tensors.
        graph = self.on.get("cuda_graph", False)
        rate = torch.tensor(recipe.learning_rate, device=self.device) if graph else recipe.learning_rate
        decayed, others = ([p for p in self.trained.values() if (p.ndim > 1) == kernels] for kernels in (True, False))
        # An optimizer would create its state at its first step; a CUDA graph and a restored state need it at a fixed place from the start.
        if recipe.optimizer == "sgd":
            options = {"momentum": recipe.momentum, "nesterov": recipe.nesterov, "fused": self.on["fused_adam"]}
            self.optimizer = torch.optim.SGD([{"params": decayed}, {"params": others}], lr=rate, **options)
            for parameter in self.trained.values() if recipe.momentum else ():
                self.optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
        else:
            self.epsilon, self.epsilon_corrected = ADAM[recipe.adam_epsilon]
            # Without weight decay, AdamW is Adam to the bit.
            self.optimizer = torch.optim.AdamW(
                [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
                lr=rate,
                betas=(0.9, 0.999),
                eps=self.epsilon,
                fused=self.on["fused_adam"],
                capturable=graph,
            )
            count_on = self.device if self.on["fused_adam"] or graph else "cpu"
            for parameter in self.trained.values():
                self.optimizer.state[parameter] = {
                    "step": torch.zeros((), device=count_on),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        self.steps = 0
        # (x / 255 - mean) / std as one multiplication and one addition.
        self.scale = torch.tensor(1 / (255 * setup.std), dtype=torch.float32, device=self.device).view(1, 3, 1, 1)
        self.shift = torch.tensor(-setup.mean / setup.std, dtype=torch.float32, device=self.device).view(1, 3, 1, 1)
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        # CUDA graphs by the key of `_replay`; and by batch size, where those of `train` find the indices and crops of their images.
        self.graphs: dict[int, StepGraph] = {}
        self.places: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

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
            "settings": {**vars(self.execution), "resize": self._resize(), **self.on, **({} if cuda else ON_CPU)},
        }

    def _weights(self) -> dict[str, torch.Tensor]:
        """The network's tensors that belong to the neutral form, by name."""
        tensors = self.model.state_dict()
        return {name: tensors[name] for name in weight_shapes(self.variant)}

    def set_weights(self, weights: Weights) -> None:
        tensors = self._weights()
        for name, array in weights.items():
            tensors[name].copy_(torch.from_numpy(array))

    def get_weights(self) -> Weights:
        return {name: _array(tensor) for name, tensor in self._weights().items()}

    def _resize(self) -> str:
        """Where images are resized: "image" or "batch"."""
        if self.resident:
            return "batch"
        return self.tutorial_resize if self.execution.resize == "framework" else self.execution.resize

    def set_data(self, images: np.ndarray, labels: np.ndarray) -> None:
        if self.resident:
            self.images = torch.from_numpy(images).to(self.device)
            self.labels = torch.from_numpy(labels).to(self.device)
            return
        from alexbench.backends._torchvision import torchvision

        transforms = torchvision().transforms
        steps = [transforms.ToTensor(), transforms.Normalize(self.mean.tolist(), self.std.tolist())]
        size = self.variant.input_size
        if self._resize() == "image" and images.shape[1:3] != (size, size):
            steps.insert(0, transforms.Resize((size, size)))
        self.dataset = ImageDataset(images, labels, transforms.Compose(steps))

    def _inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Turn uint8 (n, height, width, 3) into the network's inputs, float32 (n, 3, size, size)."""
        return self._resized(images.permute(0, 3, 1, 2).float() * self.scale + self.shift)

    def _resized(self, x: torch.Tensor) -> torch.Tensor:
        """Resize float32 (n, 3, height, width) to (n, 3, size, size), in the memory format of the network."""
        size = self.variant.input_size
        if x.shape[2:] != (size, size):
            # The kernel for contiguous tensors rounds like the one for channels last, and is twice as fast on a CPU.
            x = F.interpolate(x.contiguous(), size=(size, size), mode="bilinear", align_corners=False)
        return x.contiguous(memory_format=self.memory_format)

    def load(self, plans: Iterable[Plan]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch, _ in self._load(plans):
            self._wait()
            yield batch

    def _on_device(self, array: np.ndarray) -> torch.Tensor:
        """A copy of `array` on the device, made without waiting for the device's earlier work."""
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)

    def as_arrays(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        return _array(batch[0]), _array(batch[1])

    def _load(self, plans: Iterable[Plan]) -> Iterator[tuple[tuple[torch.Tensor, torch.Tensor], float]]:
        """Yield each step's inputs, float32 (n, 3, size, size), and labels, int64 (n,), on the device; and its learning rate."""
        if self.resident:
            for plan in plans:
                indices, crops = self._on_device(plan.images), self._on_device(plan.crops)
                for index, crop, rate in zip(indices, crops, plan.learning_rates.tolist(), strict=True):
                    yield self._gathered(index, crop), rate
            return
        # A sampler must know all batches beforehand.
        plans = list(plans)
        rows = [row.tolist() for plan in plans for row in plan.images]
        rates = [rate for plan in plans for rate in plan.learning_rates.tolist()]
        loader = DataLoader(self.dataset, batch_sampler=rows, num_workers=self.execution.workers)
        for (images, labels), rate in zip(loader, rates, strict=True):
            yield (self._resized(images.to(self.device)), labels.to(self.device)), rate

    def _gathered(self, index: torch.Tensor, crop: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and labels of the images at `index`, int64 (n,), each cropped as `crop`, int32 (n, 3), says."""
        images = self.images[index]
        if self.recipe.augments:
            images = self._cropped(images, crop)
        return self._inputs(images), self.labels[index]

    def _cropped(self, images: torch.Tensor, crop: torch.Tensor) -> torch.Tensor:
        """Images, uint8 (n, height, width, 3), each padded with black, cropped to its old size, and mirrored; see `Plan`."""
        count, height, width = images.shape[:3]
        top, left, mirrored = crop.long()[:, :, None].unbind(1)
        rows = top + torch.arange(height, device=self.device)
        columns = torch.arange(width, device=self.device)
        columns = left + torch.where(mirrored > 0, width - 1 - columns, columns)
        edge = self.recipe.crop_padding
        padded = F.pad(images, (0, 0, edge, edge, edge, edge))
        return padded[torch.arange(count, device=self.device)[:, None, None], rows[:, :, None], columns[:, None, :]]

    def _loss(self, inputs: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean cross-entropy and logits, both float32."""
        # Without autocast's cache of rounded weights, which a CUDA graph would reuse for ever.
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.execution.precision == "bf16", cache_enabled=False):
            logits = self.forward(inputs)
        logits = logits.float()
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), logits

    def _differentiate(self, inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Leave the gradients in the parameters, add to the sums for `metrics`, and return the loss."""
        loss, logits = self._loss(inputs, labels, self.recipe.label_smoothing)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            self.loss_sum += loss * len(labels)
            self.correct += (logits.argmax(1) == labels).sum()
        return loss.detach()

    def _set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _update(self) -> None:
        self.steps += 1
        if self.recipe.optimizer == "sgd":
            # torch's own weight decay is a part of SGD's gradient.
            with torch.no_grad():
                for parameter in self.optimizer.param_groups[0]["params"] if self.recipe.weight_decay else ():
                    parameter.mul_(1 - self.optimizer.param_groups[0]["lr"] * self.recipe.weight_decay)
        elif not self.epsilon_corrected:
            # torch adds epsilon to the corrected root; this value has the effect of self.epsilon before the correction.
            for group in self.optimizer.param_groups:
                group["eps"] = self.epsilon / sqrt(1 - 0.999**self.steps)
        self.optimizer.step()

    def _step(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        loss = self._differentiate(inputs, labels)
        self._update()
        if not self.on["asynchronous"]:
            loss.item()

    def step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.model.train()
        self._set_learning_rate(self.recipe.learning_rate)
        if self.on.get("cuda_graph"):
            self._replay(id(batch), lambda: batch)
        else:
            self._step(*batch)
        self._wait()

    def train(self, plans: Iterable[Plan]) -> Iterator[int]:
        self.model.train()
        if self.resident and self.on.get("cuda_graph"):
            for plan in plans:
                indices, crops = self._on_device(plan.images), self._on_device(plan.crops)
                for index, crop, rate in zip(indices, crops, plan.learning_rates.tolist(), strict=True):
                    self._set_learning_rate(rate)
                    self._replay_on(index, crop)
                yield len(plan)
            return
        for batch, rate in self._load(plans):
            self._set_learning_rate(rate)
            self._step(*batch)
            yield 1

    def _replay_on(self, index: torch.Tensor, crop: torch.Tensor) -> None:
        """Take one step on the images at `index`, int64 (n,), cropped by `crop`, int32 (n, 3), all in the CUDA graph of its size."""
        size = len(index)
        here = self.places.setdefault(size, (torch.empty_like(index), torch.empty_like(crop)))
        for place, value in zip(here, (index, crop), strict=True):
            place.copy_(value)
        self._replay(size, lambda: self._gathered(*here))

    def _replay(self, key: int, batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Take one step on what `batch` makes, by the CUDA graph of that `key`, which is captured first if there is none."""
        if key not in self.graphs:
            self.graphs[key] = self._capture(batch)
        captured = self.graphs[key]
        captured.graph.replay()
        if self.epsilon_corrected:
            self.steps += 1
        else:
            # Adam's epsilon changes at each step, so the update cannot be part of the graph.
            for parameter, gradient in zip(self.trained.values(), captured.gradients, strict=True):
                parameter.grad = gradient
            self._update()
        if not self.on["asynchronous"]:
            self.loss_sum.item()

    def _capture(self, batch: Callable[[], tuple[torch.Tensor, torch.Tensor]]) -> StepGraph:
        def once() -> None:
            self._differentiate(*batch())
            if self.epsilon_corrected:
                self._update()

        # First steps allocate memory and choose kernels: that must happen before the capture, and must leave the network unchanged.
        before = self.state()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                once()
        torch.cuda.current_stream().wait_stream(aside)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            once()
        gradients = [parameter.grad for parameter in self.trained.values()]
        self.set_state(before)
        return StepGraph(graph, gradients, batch)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_work(self) -> dict[str, tuple[Callable[[], None], float]]:
        size = 8192 if self.device.type == "cuda" else 2048
        dtype = torch.bfloat16 if self.execution.precision == "bf16" else torch.float32
        a, b, c = (torch.rand(size, size, device=self.device).to(dtype) for _ in range(3))
        # Far larger than any cache.
        source, target = (torch.full((2**28,), value, dtype=torch.uint8, device=self.device) for value in (1, 2))

        def matmul() -> None:
            torch.mm(a, b, out=c)
            self._wait()

        def copy() -> None:
            target.copy_(source)
            self._wait()

        return {"matmul": (matmul, 2.0 * size**3), "copy": (copy, 2.0 * source.nbytes)}

    def metrics(self) -> tuple[float, int]:
        loss_sum, correct = self.loss_sum.item(), self.correct.item()
        self.loss_sum.zero_()
        self.correct.zero_()
        return loss_sum, correct

    @torch.inference_mode()
    def predict(self, images: np.ndarray, batch_size: int = PREDICT_BATCH_SIZE) -> np.ndarray:
        self.model.eval()
        logits = []
        for part in torch.from_numpy(images).split(batch_size):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.execution.precision == "bf16"):
                logits.append(self.model(self._inputs(part.to(self.device))).float().cpu())
        return torch.cat(logits).numpy()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Everything that the next steps depend on, by name, except the random state and the number of steps."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.trained.items():
            tensors |= {f"optimizer.{name}.{moment}": tensor for moment, tensor in self.optimizer.state[parameter].items()}
        return tensors | {"loss_sum": self.loss_sum, "correct": self.correct}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Weights]:
        self.model.eval()
        loss, _ = self._loss(self._inputs(torch.from_numpy(images).to(self.device)), torch.from_numpy(labels).to(self.device))
        found = torch.autograd.grad(loss, list(self.trained.values()))
        return loss.item(), {name: _array(gradient) for name, gradient in zip(self.trained, found, strict=True)}

    def state(self) -> dict[str, np.ndarray]:
        random = {"random": torch.get_rng_state()}
        if self.device.type == "cuda":
            random["random_cuda"] = torch.cuda.get_rng_state()
        return {"steps": np.array(self.steps)} | {name: _array(tensor) for name, tensor in (self._tensors() | random).items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        self.steps = int(state["steps"])
        # In place: a CUDA graph holds these tensors' addresses, and fused Adam needs a parameter and its moments in the same memory order.
        for name, tensor in self._tensors().items():
            tensor.copy_(torch.from_numpy(state[name].copy()))
        torch.set_rng_state(torch.from_numpy(state["random"].copy()))
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(torch.from_numpy(state["random_cuda"].copy()))

    def peak_memory_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None


def _array(tensor: torch.Tensor) -> np.ndarray:
    """A copy of `tensor` on the host."""
    return tensor.detach().cpu().contiguous().numpy().copy()
