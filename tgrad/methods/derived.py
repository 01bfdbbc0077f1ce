"""Methods of Tensor that are written with other methods.

In: tensors. Out: lazy tensors. Invariant: no op and no graph of their own but for the VJPs below,
each where the derivative of the parts would lose digits or divide by zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad.aliases import leave
from tgrad.autodiff.backward import register_vjp
from tgrad.dtype import DType, float32, float64, int32
from tgrad.graph import build as b
from tgrad.graph.node import Node, make, source_scope
from tgrad.graph.op import Op
from tgrad.methods.activation import as_float
from tgrad.methods.elementwise import rounded_once
from tgrad.methods.reduction import Dim, normal_axis

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


def log_of_sum(x: Tensor) -> Tensor:
    """log(1 + x) of float32 or float64: log(u) + (x - (u - 1)) / u with u = 1 + x, which adds the
    digits that u has lost."""
    u = x + 1.0
    lost = ((x - (u - 1.0)) / u).where((u > 0.0) & (u < math.inf), 0.0)
    return x.where(u == 1.0, u.log() + lost)


_EXP_LESS_ONE = (0.49999997, 0.16666543, 0.0416672, 0.0083665475, 0.0013882517)
"""(e^r - 1 - r) / r^2 for |r| <= log(2) / 2, powers from 0 on: a weighted minimax fit."""


def exp_less_one(x: Tensor) -> Tensor:
    """exp(x) - 1 of float32: 2^k * (e^r - 1) + (2^k - 1) with r = x - k * log(2), twice the half of
    it so that 2^128 is not needed. Of float64: 2 t / (1 - t) with t = tanh(x / 2) up to 1."""
    from tgrad.tensor import Tensor

    if x.dtype is float64:
        t = (x.minimum(1.0) * 0.5).tanh()
        return (x.exp() - 1.0).where(x > 1.0, t * 2.0 / (1.0 - t))
    inner = x.maximum(-30.0).minimum(89.0)
    k = (inner * (1 / math.log(2))).round()
    r = (inner - k * 0.693145752) - k * 1.42860677e-6
    p: Any = _EXP_LESS_ONE[-1]
    for coefficient in _EXP_LESS_ONE[-2::-1]:
        p = r * p + coefficient
    bits = (k.to(int32) + 126) << 23
    half = Tensor._of(make(Op.BITCAST, bits._node, dtype=float32), bits.device)
    y = ((r * r * p + r) * half + (half - 0.5)) * 2.0
    return x.where(x.abs() < 2.0**-24, y)


class DerivedMethods:
    """Functions of one element, and norms."""

    __slots__ = ()

    # -- functions ------------------------------------------------------------------------------

    def log2(self: Any) -> Tensor:
        """Logarithm to base 2."""
        return rounded_once(lambda x: x.log() * (1 / math.log(2)), self)

    def log10(self: Any) -> Tensor:
        """Logarithm to base 10."""
        return rounded_once(lambda x: x.log() * (1 / math.log(10)), self)

    def exp2(self: Any) -> Tensor:
        """2 ** x."""
        return 2.0**self

    def log1p(self: Any) -> Tensor:
        """log(1 + x), with no loss of digits near 0."""
        from tgrad.tensor import with_vjp

        with source_scope(label="log1p"):
            x = as_float(self)
            return with_vjp("log1p", log_of_sum(x.to(x.dtype.accumulator)).to(x.dtype), x)

    def expm1(self: Any) -> Tensor:
        """exp(x) - 1, with no loss of digits near 0."""
        from tgrad.tensor import with_vjp

        with source_scope(label="expm1"):
            x = as_float(self)
            return with_vjp("expm1", exp_less_one(x.to(x.dtype.accumulator)).to(x.dtype), x)

    def sign(self: Any) -> Tensor:
        """1 above 0, -1 below 0, else 0."""
        from tgrad.tensor import with_vjp

        if self.dtype.is_bool:
            return self.clone()
        with source_scope(label="sign"):
            zero = self._constant(0, self.dtype)
            y = zero.where(self <= 0, 1).where(self >= 0, -1).where(self == self, 0)
            return with_vjp("flat", y.to(self.dtype), self)

    def frac(self: Any) -> Tensor:
        """x - trunc(x)."""
        return self - self.trunc()

    def norm(
        self: Any,
        p: float | str | None = "fro",
        dim: Dim = None,
        keepdim: bool = False,
        dtype: DType | None = None,
    ) -> Tensor:
        """The p-norm over axes; "fro" is 2, "nuc" the sum of the singular values of matrices, by
        default of the only two axes. See `tgrad.linalg.vector_norm` and `matrix_norm`."""
        from tgrad.linalg import matrix_norm, vector_norm

        if p == "nuc":
            axes: Any = tuple(range(len(self.shape))) if dim is None else dim
            return matrix_norm(self, "nuc", axes, keepdim, dtype=dtype)
        order = 2.0 if p in ("fro", None) else float(p)
        return vector_norm(self, order, dim, keepdim, dtype=dtype)

    def dist(self: Any, other: Tensor, p: float = 2) -> Tensor:
        """The p-norm of the difference."""
        return (self - other).norm(p)

    def renorm(self: Any, p: float, dim: int, maxnorm: float) -> Tensor:
        """Slices of an axis scaled down to a p-norm of at most `maxnorm`."""
        axes = [a for a in range(len(self.shape)) if a != normal_axis(dim, len(self.shape))]
        size = self.norm(p, axes, keepdim=True)
        scaled = self * (maxnorm / (size + 1e-7)).where(size > maxnorm, 1.0)
        leave(scaled)
        return scaled


Nodes = tuple[Node, ...]


@register_vjp("flat")
def _flat(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """0: a step function"""
    return tuple(b.const_like(x, 0) for x in arguments)


@register_vjp("log1p")
def _log1p(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """g / (1 + x)"""
    (x,) = arguments
    return (b.div(g, b.add(x, b.const_like(x, 1))),)


@register_vjp("expm1")
def _expm1(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """g * (y + 1)"""
    return (b.mul(g, b.add(y, b.const_like(y, 1))),)
