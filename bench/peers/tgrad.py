"""tgrad: a function or a whole step under `tgrad.compile`, on stored inputs.

In: a case. Out: it, loaded. Invariant: the public interface alone, as a user writes it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

import tgrad
import tgrad.nn.functional as F
from bench.case import (
    AS_CHANNELS,
    AS_PIXELS,
    Case,
    FunctionCase,
    Inputs,
    Repeated,
    StepCase,
    batch_of,
    sampled,
    state_of,
)
from bench.peers import Loaded, PlanFigures, Trainer
from tgrad.settings import settings


def make(option: str, device: str) -> TgradPeer:
    """The peer; it has no options."""
    if option:
        raise ValueError(f"tgrad has no option {option!r}")
    return TgradPeer(device)


class TgradPeer:
    """See bench/peers/__init__.py."""

    def __init__(self, device: str):
        self.device = device

    def versions(self) -> dict[str, str]:
        configured = "tgrad autotune" if settings.use_stored else "heuristics"
        return {
            "tgrad": tgrad.__version__,
            "configurations": configured,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    def load(self, case: Case, arrays: Inputs, copies: int = 1) -> Loaded:
        if isinstance(case, FunctionCase):
            return self._function(case, arrays, copies)
        return self._step(case, arrays)

    def _function(self, case: FunctionCase, arrays: Inputs, copies: int) -> Loaded:
        sets = [
            [lying(stored(a, case.dtype, self.device), case) for a in arrays.values()]
            for _ in range(copies)
        ]
        function, calls = compiled_function(case, sets)
        read = partial(_read, axes=AS_CHANNELS if case.channels_last else None)
        return Loaded(calls, read, lambda: figures_of(function.plans))

    def _step(self, case: StepCase, arrays: Inputs) -> Loaded:
        _, step = compiled_step(case, arrays, self.device)
        inputs, targets = (stored(a, case.dtype, self.device) for a in batch_of(arrays))
        return Loaded([lambda: step(inputs, targets)], _read, lambda: figures_of(step.plans))

    def trainer(self, case: StepCase, arrays: Inputs) -> Trainer:
        """Step and evaluation, both compiled."""
        model, step = compiled_step(case, arrays, self.device)
        evaluate = tgrad.compile(model)

        def train(inputs: np.ndarray, targets: np.ndarray) -> None:
            step(stored(inputs, case.dtype, self.device), stored(targets, case.dtype, self.device))

        def logits(inputs: np.ndarray) -> np.ndarray:
            model.eval()
            with tgrad.no_grad():
                result = evaluate(stored(inputs, case.dtype, self.device))
            model.train()
            found: np.ndarray = result.to(tgrad.float32).numpy()
            return found

        return Trainer(train, logits)


def stored(array: np.ndarray | Repeated, dtype: str, device: str) -> tgrad.Tensor:
    """A copy of an array on the device, in the dtype if it is of floats."""
    if device.startswith("cuda"):
        from bench.peers import torch_arrays

        return tgrad.from_dlpack(torch_arrays.stored(array, device, dtype))
    host = array.expanded() if isinstance(array, Repeated) else array
    kind = getattr(tgrad, dtype) if host.dtype.kind == "f" else None
    return tgrad.tensor(host, dtype=kind, device=device).realize()


def lying(tensor: tgrad.Tensor, case: FunctionCase) -> tgrad.Tensor:
    """An input in the layout that PyTorch's have; tgrad chooses one inside of a program alone."""
    is_image = case.channels_last and tensor.ndim == 4
    return tensor.permute(*AS_PIXELS).contiguous().realize() if is_image else tensor


def compiled_function(
    case: FunctionCase, sets: Sequence[Sequence[tgrad.Tensor]]
) -> tuple[Any, list[Callable[[], Any]]]:
    """A case's program, compiled, with the gradients that belong to it; a call for each set."""
    if case.has_gradient:
        return differentiated(case.of_pixels, sets)
    function = tgrad.compile(lambda *inputs: case.of_pixels(tgrad, F, *inputs))
    return function, [partial(function, *inputs) for inputs in sets]


def differentiated(
    program: Callable[..., Any], sets: Sequence[Sequence[tgrad.Tensor]]
) -> tuple[Any, list[Callable[[], Any]]]:
    """A function and the gradients of its floating inputs, compiled, and a call for each set.

    Args:
        program: (tgrad, functional, *inputs).
        sets: of inputs; the last one of each is the gradient of the output.
    """

    @tgrad.compile
    def function(gradient: tgrad.Tensor, *arguments: tgrad.Tensor) -> Any:
        result = program(tgrad, F, *arguments)
        result.backward(gradient)
        return result, *(x.grad for x in arguments if x.dtype.is_float)

    def call(floats: list[tgrad.Tensor], inputs: Sequence[tgrad.Tensor]) -> Any:
        for x in floats:
            x.grad = None
        return function(*inputs)

    calls: list[Callable[[], Any]] = []
    for *arguments, gradient in sets:
        floats = [x.requires_grad_() for x in arguments if x.dtype.is_float]
        calls.append(partial(call, floats, [gradient, *arguments]))
    return function, calls


def compiled_step(case: StepCase, arrays: Inputs, device: str) -> tuple[Any, Any]:
    """The model with its initial state, and its training step, compiled."""
    with tgrad.device(device):
        model = case.model(tgrad.nn, F, tgrad)
    if case.dtype != "float32":
        model = model.to(getattr(tgrad, case.dtype))
    values = state_of(arrays)
    model.load_state_dict({k: stored(a, case.dtype, device) for k, a in values.items()})
    optimizer = case.optimizer(tgrad.optim, model.parameters())

    @tgrad.compile
    def step(inputs: tgrad.Tensor, targets: tgrad.Tensor) -> tgrad.Tensor:
        loss: tgrad.Tensor = case.loss(F, model, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def _read(result: Any, axes: Sequence[int] | None = None) -> list[np.ndarray]:
    """The parts of a result; those with four axes in the order that is given."""
    parts = [p.detach() for p in (result if isinstance(result, tuple) else (result,))]
    return [_sampled(p.permute(*axes) if axes and p.ndim == 4 else p) for p in parts]


def _sampled(part: tgrad.Tensor) -> np.ndarray:
    if part.device.type != "cuda":
        return sampled(part.to(tgrad.float32).numpy())
    import torch

    from bench.peers import torch_arrays

    return torch_arrays.sampled(torch.from_dlpack(part))


def figures_of(plans: Any) -> PlanFigures:
    """Sums over the plans of a compiled function."""
    return PlanFigures(
        launches=sum(p.launches for p in plans),
        flops=sum(p.flops for p in plans),
        bytes=sum(p.bytes for p in plans),
        peak_bytes=max(p.peak_bytes for p in plans),
    )
