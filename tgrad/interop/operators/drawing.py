"""Operators that draw random numbers, all of them from tgrad's generator.

In: arguments of an operator. Out: what it gives. Invariant: distributions are PyTorch's, and the
numbers are not.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import tgrad
from tgrad import Tensor
from tgrad.errors import UnsupportedError
from tgrad.interop.operators.table import rule

IN_PLACE = {
    "uniform": "uniform_", "normal_functional": "normal_", "log_normal": "log_normal_",
    "exponential": "exponential_", "cauchy": "cauchy_", "geometric": "geometric_",
    "random": "random_", "bernoulli.p": "bernoulli_", "bernoulli.Tensor": "bernoulli_",
}  # fmt: skip
"""Operators, and the methods that fill a tensor with what they give."""


def _filled(method: str, x: Tensor, *args: Any, generator: Any = None) -> Tensor:
    """A tensor like x, drawn anew.

    Raises:
        UnsupportedError: a generator of torch is given.
    """
    if generator is not None:
        raise UnsupportedError(f"{method} with a generator of torch.", "Use tgrad.manual_seed.")
    drawn: Tensor = getattr(tgrad.empty_like(x), method)(*args)
    return drawn


for _name, _method in IN_PLACE.items():
    rule(_name)(partial(_filled, _method))


@rule("native_dropout")
def _dropout(x: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    if not train:
        return x, tgrad.ones_like(x, dtype=tgrad.bool)
    kept = tgrad.rand(x.shape, device=x.device) >= p
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
