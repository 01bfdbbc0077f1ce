"""Methods of Tensor that are written with other methods.

In: tensors. Out: lazy tensors. Invariant: no op and no graph of their own but for the VJPs below,
each where the derivative of the parts would lose digits or divide by zero.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad.autodiff.backward import register_vjp
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.graph import build as b
from tgrad.graph.node import Node, source_scope
from tgrad.methods.activation import as_float
from tgrad.methods.elementwise import rounded_once
from tgrad.methods.reduction import Dim, normal_axis

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


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
        """log(1 + x), with no loss of digits near 0.

        With u = 1 + x: log(u) * (x / (u - 1)), and x where u = 1. Source: Goldberg, What Every
        Computer Scientist Should Know About Floating-Point Arithmetic (1991), theorem 4.
        """
        from tgrad.tensor import with_vjp

        with source_scope(label="log1p"):
            x = as_float(self)
            wide = x.to(x.dtype.accumulator)
            u = wide + 1.0
            plain = (u == 1.0) | (u == math.inf)
            safe = (u - 1.0).where(~plain, 1.0)
            y = wide.where(plain, u.log() * (wide / safe))
            return with_vjp("log1p", y.to(x.dtype), x)

    def expm1(self: Any) -> Tensor:
        """exp(x) - 1, with no loss of digits near 0: 2 t / (1 - t) with t = tanh(x / 2)."""
        from tgrad.tensor import with_vjp

        with source_scope(label="expm1"):
            x = as_float(self)
            wide = x.to(x.dtype.accumulator)
            t = (wide.minimum(1.0) * 0.5).tanh()
            y = (wide.exp() - 1.0).where(wide > 1.0, t * 2.0 / (1.0 - t))
            return with_vjp("expm1", y.to(x.dtype), x)

    def sign(self: Any) -> Tensor:
        """1 above 0, -1 below 0, else 0."""
        from tgrad.tensor import with_vjp

        if self.dtype.is_bool:
            return self
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
        """The p-norm over axes; "fro" is 2. See `tgrad.linalg.vector_norm`.

        Raises:
            UnsupportedError: p is "nuc".
        """
        from tgrad.linalg import vector_norm

        if p == "nuc":
            raise UnsupportedError("norm: p='nuc'.", 'Use a number or "fro".')
        order = 2.0 if p in ("fro", None) else float(p)
        return vector_norm(self, order, dim, keepdim, dtype=dtype)

    def dist(self: Any, other: Tensor, p: float = 2) -> Tensor:
        """The p-norm of the difference."""
        return (self - other).norm(p)

    def renorm(self: Any, p: float, dim: int, maxnorm: float) -> Tensor:
        """Slices of an axis scaled down to a p-norm of at most `maxnorm`."""
        axes = [a for a in range(len(self.shape)) if a != normal_axis(dim, len(self.shape))]
        size = self.norm(p, axes, keepdim=True)
        return self * (maxnorm / (size + 1e-7)).where(size > maxnorm, 1.0)


Nodes = tuple[Node, ...]


@register_vjp("flat")
def _flat(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """0: a step function"""
    (x,) = arguments
    return (b.const_like(x, 0),)


@register_vjp("log1p")
def _log1p(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """g / (1 + x)"""
    (x,) = arguments
    return (b.div(g, b.add(x, b.const_like(x, 1))),)


@register_vjp("expm1")
def _expm1(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """g * (y + 1)"""
    return (b.mul(g, b.add(y, b.const_like(y, 1))),)
