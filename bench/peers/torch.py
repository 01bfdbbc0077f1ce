"""PyTorch: eager, `torch.compile`, or `torch.compile(mode="max-autotune")`.

In: a case. Out: it, loaded. Invariant: best ordinary settings: no gradients where none are wanted,
the fused optimizers, the model with its loss compiled as one function.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bench.case import Arrays, Case, FunctionCase, StepCase, batch_of, state_of
from bench.peers import Loaded

OPTIONS = ("", "compile", "max-autotune", "float64")


def make(option: str, device: str) -> TorchPeer:
    """The peer in one of `OPTIONS`; "float64" is eager on float64 inputs, the reference."""
    if option not in OPTIONS:
        raise ValueError(f"torch has no option {option!r}; one of {OPTIONS}")
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return TorchPeer(option, device)


class TorchPeer:
    """See bench/peers/__init__.py."""

    def __init__(self, option: str, device: str):
        self.option, self.device = option, device

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}

    def load(self, case: Case, arrays: Arrays) -> Loaded:
        if isinstance(case, FunctionCase):
            return self._function(case, arrays)
        return self._step(case, arrays)

    def compiled(self, function: Any) -> Any:
        """The function under the option."""
        if self.option in ("", "float64"):
            return function
        return torch.compile(function, mode=None if self.option == "compile" else self.option)

    def stored(self, array: np.ndarray, dtype: str) -> torch.Tensor:
        """An array on the device, in the case's dtype if it is of floats."""
        kind = "float64" if self.option == "float64" else dtype
        tensor = torch.from_numpy(array).to(self.device)
        return tensor.to(getattr(torch, kind)) if tensor.is_floating_point() else tensor

    def _function(self, case: FunctionCase, arrays: Arrays) -> Loaded:
        inputs = [self.stored(a, case.dtype) for a in arrays.values()]
        forward = self.compiled(lambda *inputs: case.program(torch, F, *inputs))
        if not case.has_gradient:

            def call() -> Any:
                with torch.no_grad():
                    return forward(*inputs)

            return Loaded(call, _read)
        floats = [x.requires_grad_() for x in inputs if x.is_floating_point()]

        def call_with_gradient() -> Any:
            for x in floats:
                x.grad = None
            result = forward(*inputs)
            result.sum().backward()
            return result, *(x.grad for x in floats)

        return Loaded(call_with_gradient, _read)

    def _step(self, case: StepCase, arrays: Arrays) -> Loaded:
        _, step = self.training_step(case, arrays)
        inputs, targets = (self.stored(a, case.dtype) for a in batch_of(arrays))
        return Loaded(lambda: step(inputs, targets), _read)

    def training_step(self, case: StepCase, arrays: Arrays) -> tuple[Any, Any]:
        """The model with its initial state, and its training step under the option."""
        model = case.model(torch.nn, F, torch)
        model.load_state_dict({k: torch.from_numpy(a) for k, a in state_of(arrays).items()})
        kind = "float64" if self.option == "float64" else case.dtype
        model = model.to(self.device, getattr(torch, kind))
        optimizer = case.optimizer(torch.optim, model.parameters(), fused=True)
        forward = self.compiled(lambda inputs, targets: case.loss(F, model, inputs, targets))

        def step(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = forward(inputs, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return model, step


def _read(result: Any) -> np.ndarray:
    parts = result if isinstance(result, tuple) else (result,)
    flat = [p.detach().to("cpu", torch.float64).numpy() for p in parts]
    return flat[0] if len(flat) == 1 else np.concatenate([a.reshape(-1) for a in flat])
