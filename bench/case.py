"""What is measured: a function or a training step, its inputs and its right result.

In: nothing. Out: `FunctionCase` and `StepCase`. Invariant: inputs follow from a seed alone; every
peer computes the same from them, and its result is compared with float64 before any time counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

SEED = 2026
STATE = "state:"
"""Prefix of the arrays that are the model's initial state, by PyTorch's names."""


@dataclass(frozen=True)
class FunctionCase:
    """A function of arrays.

    Attributes:
        key: identifier.
        title: for people.
        arrays: inputs, in the order of the arguments.
        program: the function in PyTorch's names: (library, functional, *inputs).
        reference: the function in NumPy, on float64 inputs; None where the reference is PyTorch's
            float64.
        tolerance: largest error, in parts of the largest magnitude of the right result.
        sizes: name of the sizes, "full" or "small".
        has_gradient: whether the gradients of all floating inputs belong to the result; the last
            input is then the gradient of the output, so that nothing of it is known in advance.
        dtype: what floating inputs are cast to.
        channels_last: whether inputs with four axes are images and their weights, which lie
            channels last where a peer has such a layout.
    """

    key: str
    title: str
    arrays: Callable[[], Arrays]
    program: Callable[..., Any]
    reference: Callable[..., np.ndarray] | None
    tolerance: float = 1e-5
    sizes: str = "full"
    has_gradient: bool = False
    dtype: str = "float32"
    channels_last: bool = False
    checked_calls: int = 1


@dataclass(frozen=True)
class StepCase:
    """A training step: forward, backward and update, always on the same batch.

    Attributes:
        key: identifier.
        title: for people.
        batch: inputs and targets.
        model: the module in PyTorch's names: (nn, functional, library) in, module out.
        optimizer: (optim, parameters, peer's own options) in, optimizer out.
        loss: (functional, model, inputs, targets) in, scalar out.
        tolerance: largest error of the first losses, in parts of the largest.
        sizes: name of the sizes, "full" or "small".
        dtype: of the model's parameters.
        channels_last: as of a function.
        checked_calls: how many losses are compared.
    """

    key: str
    title: str
    batch: Callable[[np.random.Generator], Arrays]
    model: Callable[[Any, Any, Any], Any]
    optimizer: Callable[..., Any]
    loss: Callable[..., Any]
    tolerance: float = 2e-3
    sizes: str = "full"
    dtype: str = "float32"
    channels_last: bool = False
    checked_calls: int = 3

    def arrays(self) -> Arrays:
        """The batch, and under `STATE` the initial state of the model: its names and shapes are
        those of the model in tgrad."""
        import tgrad
        from bench.models import initial_state

        model = self.model(tgrad.nn, tgrad.nn.functional, tgrad)
        state = initial_state(model, SEED)
        return {**self.inputs(), **{STATE + name: a for name, a in state.items()}}

    def inputs(self) -> Arrays:
        """The batch alone."""
        return self.batch(np.random.default_rng(SEED))


Case = FunctionCase | StepCase


def state_of(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """The initial state among a step's arrays."""
    return {k.removeprefix(STATE): a for k, a in arrays.items() if k.startswith(STATE)}


def batch_of(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Inputs and targets among a step's arrays; nothing where the batches come later."""
    return tuple(a for k, a in arrays.items() if not k.startswith(STATE))


def error_of(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference in parts of the largest magnitude; infinite where shapes differ or
    one of the two is not finite.

    >>> error_of(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    0.5
    """
    if got.shape != want.shape or not np.isfinite(got).all():
        return float("inf")
    difference = float(np.abs(got.astype(np.float64) - want).max(initial=0.0))
    return difference / max(float(np.abs(want).max(initial=0.0)), 1e-30)
