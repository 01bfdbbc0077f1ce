"""Methods of Tensor that are written with other methods.

In: tensors. Out: lazy tensors. Invariant: no op and no graph of their own but for the VJPs below,
each where the derivative of the parts would lose digits or divide by zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.autodiff.backward import register_vjp
from tgrad.errors import ShapeError
from tgrad.graph import build as b
from tgrad.graph.node import Node, source_scope
from tgrad.graph.op import Op
from tgrad.methods.activation import as_float
from tgrad.methods.movement import as_sizes
from tgrad.methods.reduction import Dim, normal_axes, normal_axis
from tgrad.methods.sizes import sized

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class DerivedMethods:
    """Functions of one element, norms, and other arrangements of elements."""

    __slots__ = ()

    # -- functions ------------------------------------------------------------------------------

    def log2(self: Any) -> Tensor:
        """Logarithm to base 2."""
        return self.log() * (1 / math.log(2))

    def log10(self: Any) -> Tensor:
        """Logarithm to base 10."""
        return self.log() * (1 / math.log(10))

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

    def tan(self: Any) -> Tensor:
        """sin(x) / cos(x)."""
        with source_scope(label="tan"):
            return self.sin() / self.cos()

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

    def addcmul(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """self + value * tensor1 * tensor2."""
        return self + tensor1 * tensor2 * value

    def addcdiv(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
        """self + value * tensor1 / tensor2."""
        return self + tensor1 * value / tensor2

    def norm(self: Any, p: float | str = 2, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """The p-norm over axes; p may be inf, -inf, 0 or "fro" (2)."""
        from tgrad.tensor import with_vjp

        with source_scope(label="norm"):
            x = self.to(self.dtype.accumulator)
            size = x.abs()
            if p in (2, "fro"):
                square = (x * x).sum(dim, keepdim=True).sqrt()
                y = with_vjp("norm", square, x)
            elif p == math.inf:
                y = size.amax(dim, keepdim=True)
            elif p == -math.inf:
                y = size.amin(dim, keepdim=True)
            elif p == 0:
                y = (x != 0).to(x.dtype).sum(dim, keepdim=True)
            elif p == 1:
                y = size.sum(dim, keepdim=True)
            else:
                y = (size**p).sum(dim, keepdim=True) ** (1.0 / float(p))
            if not keepdim:
                axes = normal_axes(dim, len(self.shape))
                y = y.reshape(tuple(n for a, n in enumerate(self.shape) if a not in axes))
            return y.to(self.dtype)

    # -- arrangements ---------------------------------------------------------------------------

    def unflatten(self: Any, dim: int, sizes: Sequence[int]) -> Tensor:
        """One axis made several; one of the sizes may be -1."""
        axis = normal_axis(dim, len(self.shape))
        given = list(sizes)
        if -1 in given:
            known = math.prod(n for n in given if n != -1)
            given[given.index(-1)] = self.shape[axis] // max(known, 1)
        return self.reshape((*self.shape[:axis], *given, *self.shape[axis + 1 :]))

    def roll(
        self: Any, shifts: int | Sequence[int], dims: int | Sequence[int] | None = None
    ) -> Tensor:
        """Elements moved along axes, round the end; along all elements where dims is left out."""
        with source_scope(label="roll"):
            if dims is None:
                return self.flatten().roll(shifts, 0).reshape(self.shape)
            steps = (shifts,) if isinstance(shifts, int) else tuple(shifts)
            axes = (dims,) if isinstance(dims, int) else tuple(dims)
            if len(steps) != len(axes):
                raise ShapeError(f"roll by {shifts} along {dims}.", "Give one shift an axis.")
            x = self
            for step, dim in zip(steps, axes):
                axis = normal_axis(dim, len(x.shape))
                n = x.shape[axis]
                if n and step % n:
                    twice = x.unsqueeze(axis).expand(*x.shape[:axis], 2, *x.shape[axis:])
                    twice = twice.reshape((*x.shape[:axis], 2 * n, *x.shape[axis + 1 :]))
                    x = twice.narrow(axis, n - step % n, n)
            return x

    def repeat(self: Any, *sizes: Any) -> Tensor:
        """The whole tensor repeated along each axis; new axes come first."""
        counts = as_sizes(sizes)
        lead = len(counts) - len(self.shape)
        if lead < 0:
            raise ShapeError(
                f"repeat by {counts} of shape {self.shape}.", "Give at least one number an axis."
            )
        with source_scope(label="repeat"):
            shape = (1,) * lead + self.shape
            apart = [size for n in shape for size in (1, n)]
            wide = [size for count, n in zip(counts, shape) for size in (count, n)]
            return self.reshape(apart).expand(wide).reshape([c * n for c, n in zip(counts, shape)])

    def repeat_interleave(self: Any, repeats: int, dim: int | None = None) -> Tensor:
        """Each element repeated, along an axis, or along all elements."""
        x = self.flatten() if dim is None else self
        axis = normal_axis(dim or 0, len(x.shape))
        with source_scope(label="repeat_interleave"):
            shape = x.shape
            apart = x.unsqueeze(axis + 1).expand(*shape[: axis + 1], repeats, *shape[axis + 1 :])
            return apart.reshape((*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))

    def tril(self: Any, diagonal: int = 0) -> Tensor:
        """The last two axes as a matrix, zero above a diagonal."""
        return self._triangle(diagonal, "tril")

    def triu(self: Any, diagonal: int = 0) -> Tensor:
        """The last two axes as a matrix, zero below a diagonal."""
        return self._triangle(diagonal, "triu")

    def _triangle(self: Any, diagonal: int, name: str) -> Tensor:
        from tgrad.tensor import Tensor

        rank = len(self.shape)
        if rank < 2:
            raise ShapeError(f"{name} of shape {self.shape}.", "It needs at least two axes.")
        with source_scope(label=name):
            row, column = (
                Tensor._of(sized(Op.IOTA, shape=self.shape, axis=a, dtype=dt.int64), self.device)
                for a in (rank - 2, rank - 1)
            )
            limit = row + diagonal
            return self.where(column <= limit if name == "tril" else column >= limit, 0)

    def diagonal(self: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """The diagonal of two axes, as the last axis."""
        rank = len(self.shape)
        a, c = normal_axis(dim1, rank), normal_axis(dim2, rank)
        if rank < 2 or a == c:
            raise ShapeError(f"diagonal of axes {dim1} and {dim2} of shape {self.shape}.")
        with source_scope(label="diagonal"):
            x = self.permute(*(d for d in range(rank) if d not in (a, c)), a, c)
            rows, columns = max(-offset, 0), max(offset, 0)
            n = max(min(x.shape[-2] - rows, x.shape[-1] - columns), 0)
            if not n:
                return x.reshape(-1)[:0].reshape((*x.shape[:-2], 0))
            square = x.narrow(-2, rows, n).narrow(-1, columns, n).flatten(-2)
            return square[..., :: n + 1]

    def outer(self: Any, vec2: Tensor) -> Tensor:
        """Products of all pairs of elements of two vectors."""
        if len(self.shape) != 1 or len(vec2.shape) != 1:
            raise ShapeError(f"outer of shapes {self.shape} and {vec2.shape}.", "Give vectors.")
        return self.unsqueeze(1) * vec2


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


@register_vjp("norm")
def _norm(g: Node, y: Node, arguments: Nodes, params: tuple[Any, ...]) -> Nodes:
    """g * x / y, and 0 where y = 0"""
    (x,) = arguments
    flat = b.equal(y, b.const_like(y, 0))
    slope = b.where(flat, b.const_like(y, 0), b.div(g, b.where(flat, b.const_like(y, 1), y)))
    return (b.mul(b.expand_to(slope, x.shape), x),)
