"""Operators that draw random numbers, all of them from tgrad's generator.

In: arguments of an operator, and a generator where numbers are drawn again, as in recomputed parts.
Out: what it gives. Invariant: distributions are PyTorch's, and the numbers are not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tgrad
from tgrad import Tensor
from tgrad.device import Device, as_device
from tgrad.errors import UnsupportedError
from tgrad.graph.node import Node
from tgrad.interop.operators.table import Function, rule
from tgrad.random import Generator, default_generator

IN_PLACE = {
    "uniform": "uniform_", "normal_functional": "normal_", "log_normal": "log_normal_",
    "exponential": "exponential_", "cauchy": "cauchy_", "geometric": "geometric_",
    "random": "random_", "bernoulli.p": "bernoulli_", "bernoulli.Tensor": "bernoulli_",
}  # fmt: skip
"""Operators, and the methods that fill a tensor with what they give."""


class SavedGenerator(Generator):
    """Draws that a tensor (2,) says: the number of a draw and a seed, int64."""

    def __init__(self, state: Tensor):
        super().__init__(state.device)
        self._state = state

    def draw(self, device: Device) -> tuple[Node, Node]:
        number, seed = self._state.to(device).unbind()
        self._draws += 1
        return number._node, (seed + (self._draws - 1))._node


def saved_state(device: Device) -> Tensor:
    """A state that nobody has drawn from, for `SavedGenerator`."""
    return tgrad.stack([Tensor._of(node, device) for node in default_generator.draw(device)])


def draw_and_save(function: Function, op: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
    """The state that an operator draws from, and its result: `run_and_save_rng_state`."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    device = tensors[0].device if tensors else as_device(kwargs.get("device") or "cpu")
    state = saved_state(device)
    return state, function(*args, generator=SavedGenerator(state), **kwargs)


def draw_again(function: Function, state: Tensor, op: Any, *args: Any, **kwargs: Any) -> Any:
    """What the operator gave when that state was saved: `run_with_rng_state`."""
    return function(*args, generator=SavedGenerator(state), **kwargs)


def _filled(method: str, x: Tensor, *args: Any, generator: Any = None) -> Tensor:
    """A tensor like x, drawn anew.

    Raises:
        UnsupportedError: a generator of torch is given.
    """
    if not isinstance(generator, Generator | None):
        raise UnsupportedError(f"{method} with a generator of torch.", "Use tgrad.manual_seed.")
    drawn: Tensor = getattr(tgrad.empty_like(x), method)(*args, generator=generator)
    return drawn


for _name, _method in IN_PLACE.items():
    rule(_name)(partial(_filled, _method))


@rule("native_dropout")
def _dropout(
    x: Tensor, p: float, train: bool | None, *, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    if not train:
        return x, tgrad.ones_like(x, dtype=tgrad.bool)
    kept = tgrad.rand(x.shape, device=x.device, generator=generator) >= p
    scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
    return x * kept * scale, kept


@rule("rrelu_with_noise_functional")
def _rrelu(
    x: Tensor,
    noise: Tensor,
    lower: float = 0.125,
    upper: float = 1 / 3,
    training: bool = False,
    generator: Any = None,
) -> tuple[Tensor, Tensor]:
    if training:
        noise = _filled("uniform_", x, lower, upper, generator=generator).where(x <= 0, 1.0)
        return x * noise, noise
    return x.where(x > 0, x * ((lower + upper) / 2)), noise


@rule("rrelu_with_noise_backward")
def _rrelu_backward(
    g: Tensor,
    x: Tensor,
    noise: Tensor,
    lower: float,
    upper: float,
    training: bool,
    self_is_result: bool,
) -> Tensor:
    return g * noise if training else g.where(x > 0, g * ((lower + upper) / 2))
