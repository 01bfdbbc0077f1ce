"""Contractions of Tensor: matmul in all ranks, over the general dot of the graph.

In: tensors. Out: lazy tensors. Invariant: each contraction is one `dot` node; float16 and bfloat16
accumulate in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.methods.elementwise import broadcast_shapes

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Axes = tuple[int, ...]


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
        if self.dtype is not other.dtype:
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
                return self._dot(other, ((len(a) - 1,), (0,)))
            if len(a) == 1:
                return self.unsqueeze(0).matmul(other).squeeze(-2)
            batch = broadcast_shapes(a[:-2], b[:-2])
            left = self.expand(*batch, *a[-2:])
            right = other.expand(*batch, *b[-2:])
            rank = len(batch)
            axes = tuple(range(rank))
            return left._dot(right, ((rank + 1,), (rank,)), (axes, axes))

    __matmul__ = matmul

    def mm(self, mat2: Tensor) -> Tensor:
        """Product of two matrices."""
        return self._ranked(mat2, 2, "mm")

    def bmm(self, mat2: Tensor) -> Tensor:
        """Product of two batches of matrices."""
        return self._ranked(mat2, 3, "bmm")

    def _ranked(self, other: Tensor, rank: int, name: str) -> Tensor:
        if len(self.shape) != rank or len(other.shape) != rank:
            raise ShapeError(
                f"{name} of shapes {self.shape} and {other.shape}.", f"Both need {rank} axes."
            )
        return self.matmul(other)

    def dot(self, other: Tensor) -> Tensor:
        """Inner product of two vectors."""
        if len(self.shape) != 1 or len(other.shape) != 1:
            raise ShapeError(f"dot of shapes {self.shape} and {other.shape}.", "Use matmul.")
        return self.matmul(other)
