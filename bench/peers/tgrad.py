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
from bench.case import Arrays, Case, FunctionCase, StepCase, batch_of, state_of
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

    def load(self, case: Case, arrays: Arrays, copies: int = 1) -> Loaded:
        if isinstance(case, FunctionCase):
            return self._function(case, arrays, copies)
        return self._step(case, arrays)

    def _stored(self, array: np.ndarray, dtype: str) -> tgrad.Tensor:
        is_float = array.dtype.kind == "f"
        kind = getattr(tgrad, dtype) if is_float else None
        return tgrad.tensor(array, dtype=kind, device=self.device).realize()

    def _function(self, case: FunctionCase, arrays: Arrays, copies: int) -> Loaded:
        sets = [[self._stored(a, case.dtype) for a in arrays.values()] for _ in range(copies)]
        if case.has_gradient:
            function, calls = differentiated(case.program, sets)
        else:
            function = tgrad.compile(lambda *inputs: case.program(tgrad, F, *inputs))
            calls = [partial(function, *inputs) for inputs in sets]
        return Loaded(calls, _read, lambda: figures_of(function.plans))

    def _step(self, case: StepCase, arrays: Arrays) -> Loaded:
        _, step = compiled_step(case, arrays, self.device)
        inputs, targets = (self._stored(a, case.dtype) for a in batch_of(arrays))
        return Loaded([lambda: step(inputs, targets)], _read, lambda: figures_of(step.plans))

    def trainer(self, case: StepCase, arrays: Arrays) -> Trainer:
        """Step and evaluation, both compiled."""
        model, step = compiled_step(case, arrays, self.device)
        evaluate = tgrad.compile(model)

        def train(inputs: np.ndarray, targets: np.ndarray) -> None:
            step(self._stored(inputs, case.dtype), self._stored(targets, case.dtype))

        def logits(inputs: np.ndarray) -> np.ndarray:
            model.eval()
            with tgrad.no_grad():
                result = _read(evaluate(self._stored(inputs, case.dtype)))
            model.train()
            return result

        return Trainer(train, logits)


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


def compiled_step(case: StepCase, arrays: Arrays, device: str) -> tuple[Any, Any]:
    """The model with its initial state, and its training step, compiled."""
    model = case.model(tgrad.nn, F, tgrad)
    model.load_state_dict({k: tgrad.tensor(a) for k, a in state_of(arrays).items()})
    model = model.to(device)
    if case.dtype != "float32":
        model = model.to(getattr(tgrad, case.dtype))
    optimizer = case.optimizer(tgrad.optim, model.parameters())

    @tgrad.compile
    def step(inputs: tgrad.Tensor, targets: tgrad.Tensor) -> tgrad.Tensor:
        loss: tgrad.Tensor = case.loss(F, model, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def _read(result: Any) -> np.ndarray:
    parts = result if isinstance(result, tuple) else (result,)
    flat = [np.asarray(p.to(tgrad.float32).numpy()) for p in parts]
    return flat[0] if len(flat) == 1 else np.concatenate([a.reshape(-1) for a in flat])


def figures_of(plans: Any) -> PlanFigures:
    """Sums over the plans of a compiled function."""
    return PlanFigures(
        launches=sum(p.launches for p in plans),
        flops=sum(p.flops for p in plans),
        bytes=sum(p.bytes for p in plans),
        peak_bytes=max(p.peak_bytes for p in plans),
    )
