"""tinygrad: each function and step under TinyJit, realized, without a search.

In: a case. Out: it, loaded. Invariant: a program here computes what the case's program computes; a
case without one is `Unsupported`. Its CPU device needs clang: CC, else the newest on the path.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.case import (
    Arrays,
    Case,
    FunctionCase,
    Inputs,
    StepCase,
    batch_of,
    expanded,
    sampled,
    state_of,
)
from bench.peers import Loaded, StepCounts, Unsupported

CLANGS = ("clang", *(f"clang-{version}" for version in range(25, 13, -1)))
GELU_SCALE = 2**-0.5

os.environ.setdefault("DEV", "CPU")
if "CC" not in os.environ:
    os.environ["CC"] = next((c for c in CLANGS if shutil.which(c)), "clang")

from tinygrad import Device, Tensor, TinyJit, nn  # noqa: E402
from tinygrad.helpers import Context, GlobalCounters  # noqa: E402


def _gelu(x: Any) -> Any:
    """With erf, as PyTorch's default; tinygrad's own is the approximation by tanh."""
    return 0.5 * x * (1 + (x * GELU_SCALE).erf())


PROGRAMS: dict[str, Callable[..., Any]] = {
    "elementwise": lambda a, b: (a * b + a).tanh() * b.sigmoid() - a,
    "sum_rows": lambda x: x.sum(1),
    "sum_columns": lambda x: x.sum(0),
    "softmax": lambda x: x.softmax(1),
    "layer_norm": lambda x, w, b: x.layernorm(eps=1e-5) * w + b,
    "matmul": lambda a, b: a @ b,
    "linear_gelu": lambda x, w, b: _gelu(x @ w.T + b),
    "batched_matmul": lambda a, b: a @ b,
    "conv_3x3": lambda x, w: x.conv2d(w, padding=1),
    "conv_5x5": lambda x, w: x.conv2d(w).relu(),
    "attention": lambda q, k, v: q.scaled_dot_product_attention(k, v, is_causal=True),
    "transpose": lambda x: x.T.contiguous(),
    "gather": lambda table, index: table[index],
}


def make(option: str, device: str) -> TinygradPeer:
    """The peer, on the CPU."""
    if option or device != "cpu":
        raise ValueError(f"tinygrad is measured on the CPU, without options; got {option!r}")
    return TinygradPeer()


class TinygradPeer:
    """See bench/peers/__init__.py."""

    def versions(self) -> dict[str, str]:
        Tensor([1.0]).numpy()  # fails here where clang is missing
        return {"tinygrad": importlib.metadata.version("tinygrad"), "compiler": os.environ["CC"]}

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        arrays = expanded(arrays)
        if isinstance(case, StepCase):
            return _load_step(case, arrays)
        if copies > 1 or case.key not in PROGRAMS or case.has_gradient or case.dtype != "float32":
            raise Unsupported(f"no program for {case.key} is written for tinygrad")
        return _load_function(case, arrays)

    def count_launches(self, case: StepCase, arrays: Arrays) -> StepCounts:
        """As tinygrad counts them in a replay; the update's are not told apart."""
        _, step = training_step(case, arrays)
        inputs, targets = (Tensor(a).realize() for a in batch_of(arrays))
        for _ in range(3):  # the third call replays
            GlobalCounters.reset()
            _waited(step(inputs, targets))
        return StepCounts(GlobalCounters.kernel_count, 0, GlobalCounters.global_mem)


def _load_function(case: FunctionCase, arrays: Arrays) -> Loaded:
    function = TinyJit(lambda *inputs: PROGRAMS[case.key](*inputs).realize())
    inputs = [Tensor(a).realize() for a in arrays.values()]
    return Loaded([lambda: _waited(function(*inputs))], _read)


def _load_step(case: StepCase, arrays: Arrays) -> Loaded:
    _, step = training_step(case, arrays)
    inputs, targets = (Tensor(a).realize() for a in batch_of(arrays))
    return Loaded([lambda: _waited(step(inputs, targets))], _read)


def _read(result: Any) -> list[np.ndarray]:
    return [sampled(result.numpy())]


def _waited(result: Any) -> Any:
    Device[Device.DEFAULT].synchronize()
    return result


def training_step(case: StepCase, arrays: Arrays) -> tuple[Any, Any]:
    """The model with its initial state, and its training step under TinyJit."""
    state = state_of(arrays)
    if case.key == "step_convnet":
        model: Any = _ConvNet()
        optimizer = nn.optim.Adam(nn.state.get_parameters(model), lr=1e-4)
    elif case.key.startswith("step_gpt"):
        model = _GPT(state)
        optimizer = nn.optim.AdamW(nn.state.get_parameters(model), lr=3e-4)
    else:
        raise Unsupported(f"no program for {case.key} is written for tinygrad")
    tensors = {model.renamed(k): Tensor(a) for k, a in state.items()}
    nn.state.load_state_dict(model, tensors, verbose=False)

    @TinyJit
    def step(inputs: Any, targets: Any) -> Any:
        with Context(TRAINING=1):
            logits = model(inputs)
            logits = logits.reshape(-1, logits.shape[-1])
            loss = logits.sparse_categorical_crossentropy(targets.reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            return loss.realize(*optimizer.schedule_step())

    return model, step


class _ConvNet:
    """`bench.models.convnet`."""

    def __init__(self) -> None:
        self.layers = [
            nn.Conv2d(1, 32, 5), Tensor.relu, nn.Conv2d(32, 32, 5), Tensor.relu,
            nn.BatchNorm(32), Tensor.max_pool2d,
            nn.Conv2d(32, 64, 3), Tensor.relu, nn.Conv2d(64, 64, 3), Tensor.relu,
            nn.BatchNorm(64), Tensor.max_pool2d,
            lambda x: x.flatten(1), nn.Linear(576, 10),
        ]  # fmt: skip

    def renamed(self, name: str) -> str:
        """tinygrad's name of PyTorch's."""
        return f"layers.{name}"

    def __call__(self, x: Any) -> Any:
        return x.sequential(self.layers)


class _Block:
    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = [nn.Linear(width, 4 * width), _gelu, nn.Linear(4 * width, width)]

    def __call__(self, x: Any) -> Any:
        batch, length, width = x.shape
        q, k, v = (
            part.reshape(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.attend(self.norm1(x)).chunk(3, 2)
        )
        y = q.scaled_dot_product_attention(k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.norm2(x).sequential(self.mlp)


class _GPT:
    """`bench.models.gpt`, its sizes taken from the state."""

    def __init__(self, state: Arrays) -> None:
        vocabulary, width = state["tokens.weight"].shape
        layers = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks."))
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(state["positions.weight"].shape[0], width)
        heads = {16: 2, 128: 4, 768: 12}.get(width, max(width // 64, 1))
        self.blocks = [_Block(width, heads) for _ in range(layers)]
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)

    def renamed(self, name: str) -> str:
        """tinygrad's name of PyTorch's."""
        return name

    def __call__(self, tokens: Any) -> Any:
        x = self.tokens(tokens) + self.positions(Tensor.arange(tokens.shape[1]))
        return self.head(self.norm(x.sequential(self.blocks)))
