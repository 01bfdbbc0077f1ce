"""Contractions of Tensor: matmul in all ranks, over the general dot of the graph.

In: tensors. Out: lazy tensors. Invariant: each contraction is one `dot` node; float16 and bfloat16
accumulate in float32.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad.autocasting import is_autocast_enabled, under_autocast
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.methods.elementwise import broadcast_shapes

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Axes = tuple[int, ...]
Number = bool | int | float


def of_tensordot(a: Tensor, b: Tensor, first: Axes, second: Axes) -> tuple[Tensor, Tensor]:
    """Operands whose axes meet, as autocast has them: PyTorch calls what has one element `dot`."""
    if not is_autocast_enabled(a.device.type):
        return a, b
    free = [n for t, axes in ((a, first), (b, second))
            for axis, n in enumerate(t.shape) if axis not in axes]  # fmt: skip
    is_number = math.prod(free) == 1
    return under_autocast("dot" if is_number else "tensordot", (a, b))


class ContractionMethods:
    """Sums of products."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        def expand(self, *sizes: Any) -> Tensor: ...

        @property
        def dtype(self) -> DType: ...
        @property
        def shape(self) -> tuple[int, ...]: ...

    def _dot(
        self,
        other: Tensor,
        contract: tuple[Axes, Axes],
        batch: tuple[Axes, Axes] = ((), ()),
        dtype: DType | None = None,
    ) -> Tensor:
        """Sum over pairs of axes; result axes are batch, free of self, free of other."""
        may_differ = dtype is not None and self.dtype.is_float8 and other.dtype.is_float8
        if self.dtype is not other.dtype and not may_differ:
            raise DTypeError(
                f"product of {self.dtype.name} and {other.dtype.name}.",
                "Both operands need one dtype; convert one with .to(dtype).",
            )
        result = dtype or self.dtype
        return self._apply(Op.DOT, other, contract=contract, batch=batch, dtype=result)

    def matmul(self, other: Tensor) -> Tensor:
        """Matrix product with batch axes broadcast, as torch.matmul.

        Args:
            other: of shape (K,), (K, N) or (..., K, N) for self (K,), (M, K) or (..., M, K).

        Raises:
            ShapeError: the contracted sizes differ, or an operand has no axes.
        """
        return self._matmul(other, None)

    __matmul__ = matmul

    def __rmatmul__(self: Any, other: Any) -> Tensor:
        return self._operand(other, self.dtype, other.shape).matmul(self)

    def _matmul(self, other: Tensor, dtype: DType | None) -> Tensor:
        """`matmul` with a result of another dtype."""
        a, b = self.shape, other.shape
        if not a or not b:
            raise ShapeError(f"matmul of shapes {a} and {b}.", "Both need at least one axis.")
        if a[-1] != b[max(len(b) - 2, 0)]:
            raise ShapeError(
                f"matmul of shapes {a} and {b}: the contracted sizes {a[-1]} and "
                f"{b[max(len(b) - 2, 0)]} differ.",
                "The last axis of the first must be as long as the second last of the second.",
            )
        with source_scope(label="matmul"):
            if len(b) <= 2:
                return self._dot(other, ((len(a) - 1,), (0,)), dtype=dtype)
            if len(a) == 1:
                return self.unsqueeze(0)._matmul(other, dtype).squeeze(-2)
            batch = broadcast_shapes(a[:-2], b[:-2])
            left = self.expand(*batch, *a[-2:])
            right = other.expand(*batch, *b[-2:])
            rank = len(batch)
            axes = tuple(range(rank))
            return left._dot(right, ((rank + 1,), (rank,)), (axes, axes), dtype)

    def mm(self, mat2: Tensor) -> Tensor:
        """Product of two matrices."""
        return self._ranked(mat2, 2, 2, "mm")

    def bmm(self, mat2: Tensor) -> Tensor:
        """Product of two batches of matrices."""
        return self._ranked(mat2, 3, 3, "bmm")

    def mv(self, vec: Tensor) -> Tensor:
        """Product of a matrix and a vector."""
        return self._ranked(vec, 2, 1, "mv")

    def dot(self, tensor: Tensor) -> Tensor:
        """Inner product of two vectors."""
        return self._ranked(tensor, 1, 1, "dot")

    def vdot(self, other: Tensor) -> Tensor:
        """Inner product of two vectors."""
        return self._ranked(other, 1, 1, "vdot")

    def _ranked(
        self, other: Tensor, mine: int, theirs: int, name: str, dtype: DType | None = None
    ) -> Tensor:
        if len(self.shape) != mine or len(other.shape) != theirs:
            wanted = f"Both need {mine} axes." if mine == theirs else "Give a matrix and a vector."
            raise ShapeError(f"{name} of shapes {self.shape} and {other.shape}.", wanted)
        return self._matmul(other, dtype)

    def outer(self: Any, vec2: Tensor) -> Tensor:
        """Products of all pairs of elements of two vectors."""
        if len(self.shape) != 1 or len(vec2.shape) != 1:
            raise ShapeError(f"outer of shapes {self.shape} and {vec2.shape}.", "Give vectors.")
        return self.unsqueeze(1) * vec2

    ger = outer

    def inner(self: Any, other: Tensor) -> Tensor:
        """Products summed over the last axis of both."""
        if not self.shape or not other.shape:
            return self * other
        axes = (len(self.shape) - 1,), (len(other.shape) - 1,)
        a, b = of_tensordot(self, other, *axes)
        return a._dot(b, axes)

    def kron(self: Any, other: Tensor) -> Tensor:
        """Every element times the whole of other, as blocks."""
        with source_scope(label="kron"):
            rank = max(len(self.shape), len(other.shape))
            a = self.reshape((1,) * (rank - len(self.shape)) + self.shape)
            b = other.reshape((1,) * (rank - len(other.shape)) + other.shape)
            blocks = a.reshape([n for size in a.shape for n in (size, 1)])
            inside = b.reshape([n for size in b.shape for n in (1, size)])
            return (blocks * inside).reshape([m * n for m, n in zip(a.shape, b.shape)])

    # -- a product added to something -----------------------------------------------------------

    def addmm(
        self: Any, mat1: Tensor, mat2: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta * self + alpha * mat1 @ mat2; where beta is 0, self is not read."""
        product = mat1._ranked(mat2, 2, 2, "mm", _wide(mat1))
        return _added(self, mat1, product, beta, alpha, "addmm")

    def addmv(
        self: Any, mat: Tensor, vec: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta * self + alpha * mat @ vec."""
        product = mat._ranked(vec, 2, 1, "mv", _wide(mat))
        return _added(self, mat, product, beta, alpha, "addmv")

    def addr(self: Any, vec1: Any, vec2: Tensor, *, beta: Number = 1, alpha: Number = 1) -> Tensor:
        """beta * self + alpha * outer(vec1, vec2)."""
        product = vec1.to(_wide(vec1)).outer(vec2.to(_wide(vec2)))
        return _added(self, vec1, product, beta, alpha, "addr")

    def baddbmm(
        self: Any, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta * self + alpha * batch1 @ batch2, batch by batch."""
        product = batch1._ranked(batch2, 3, 3, "bmm", _wide(batch1))
        return _added(self, batch1, product, beta, alpha, "baddbmm")

    def addbmm(
        self: Any, batch1: Tensor, batch2: Tensor, *, beta: Number = 1, alpha: Number = 1
    ) -> Tensor:
        """beta * self + alpha * the sum of batch1 @ batch2 over the batch."""
        if len(batch1.shape) != 3 or len(batch2.shape) != 3:
            raise ShapeError(
                f"addbmm of shapes {batch1.shape} and {batch2.shape}.", "Both need 3 axes."
            )
        product = batch1._dot(batch2, ((0, 2), (0, 1)), dtype=_wide(batch1))
        return _added(self, batch1, product, beta, alpha, "addbmm")


def _wide(factor: Any) -> DType:
    """The dtype that products are added in."""
    return factor.dtype.accumulator if factor.dtype.is_float else factor.dtype


def _added(base: Any, factor: Any, product: Any, beta: Number, alpha: Number, name: str) -> Tensor:
    """beta * base + alpha * product, computed in the product's dtype and rounded once; of integers
    both numbers are cut to integers, as in PyTorch."""
    with source_scope(label=name):
        dtype = base.dtype
        beta, alpha = (beta, alpha) if dtype.is_float else (int(beta), int(alpha))
        if dtype is not factor.dtype:
            raise DTypeError(
                f"{name} of {dtype.name} and a product of {factor.dtype.name}.",
                "All operands need one dtype.",
            )
        product = product if alpha == 1 else product * alpha
        if beta == 0:
            return product.expand(broadcast_shapes(base.shape, product.shape)).to(dtype)
        wide = base.to(product.dtype)
        return (product + (wide if beta == 1 else wide * beta)).to(dtype)
