"""Cumulative methods of Tensor.

In: a tensor and an axis. Out: lazy tensors of its shape. Invariant: integers and bools add and
multiply in int64, float16 and bfloat16 in float32; an extremum keeps NaN once it is met, and of
equal ones the last counts, as in PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.dtype import DType, as_dtype
from tgrad.errors import DTypeError
from tgrad.graph import build as b
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.methods.reduction import ValuesIndices, normal_axis

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class ScanningMethods:
    """Methods whose every element joins those before it along an axis."""

    __slots__ = ()

    def _scan(self: Any, op: Op, dim: int, *others: Tensor) -> Tensor:
        axis = normal_axis(dim, len(self.shape))
        return self._apply(op, *others, axis=axis) if self.shape else self.clone()

    def cumsum(self: Any, dim: int, *, dtype: DType | None = None) -> Tensor:
        """Sum of the elements up to each one.

        Args:
            dtype: converted to first; by default that of the tensor, int64 for integers and bool.

        >>> import tgrad
        >>> tgrad.tensor([1, 2, 3]).cumsum(0).tolist()
        [1, 3, 6]
        """
        with source_scope(label="cumsum"):
            return _summand(self, dtype)._scan(Op.SCAN_SUM, dim)

    def cumprod(self: Any, dim: int, *, dtype: DType | None = None) -> Tensor:
        """Product of the elements up to each one; `dtype` as that of `cumsum`.

        >>> import tgrad
        >>> tgrad.tensor([1, 2, 3]).cumprod(0).tolist()
        [1, 2, 6]
        """
        with source_scope(label="cumprod"):
            return _summand(self, dtype)._scan(Op.SCAN_PROD, dim)

    def cummax(self: Any, dim: int) -> ValuesIndices:
        """Largest of the elements up to each one, and where it stands (int64).

        >>> import tgrad
        >>> tgrad.tensor([1, 3, 2]).cummax(0).indices.tolist()
        [0, 1, 1]
        """
        return self._extremum(Op.SCAN_MAX, dim, "cummax")

    def cummin(self: Any, dim: int) -> ValuesIndices:
        """Smallest of the elements up to each one, and where it stands (int64)."""
        return self._extremum(Op.SCAN_MIN, dim, "cummin")

    def _extremum(self: Any, op: Op, dim: int, label: str) -> ValuesIndices:
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label=label):
            values = self._scan(op, dim)
            if not self.shape:
                return ValuesIndices(values, self._constant(0, dt.int64))
            x = self.detach()
            hit = x == values.detach()
            hit = hit | (x != x) if x.dtype.is_float else hit
            place = self._places(axis)
            return ValuesIndices(values, place.where(hit, 0)._scan(Op.SCAN_MAX, axis))

    def logcumsumexp(self: Any, dim: int) -> Tensor:
        """log of the sum of exponentials of the elements up to each one.

        With m the largest so far, s[i] = s[i - 1] exp(m[i - 1] - m[i]) + exp(x[i] - m[i]) never
        overflows, and log(s) + m is the result; its gradient is stable too.

        Raises:
            DTypeError: the dtype is not floating point.
        """
        from tgrad.tensor import Tensor

        if not self.dtype.is_float:
            raise DTypeError(
                f"logcumsumexp of a tensor of {self.dtype.name}.", "Convert it with .float()."
            )
        if not self.shape:
            return self.clone()
        axis = normal_axis(dim, len(self.shape))
        last = max(self.shape[axis] - 1, 0)
        with source_scope(label="logcumsumexp"):
            x = self.to(self.dtype.accumulator)
            top = x.detach()._scan(Op.SCAN_MAX, axis)
            before, now = top.narrow(axis, 0, last), top.narrow(axis, self.shape[axis] - last, last)
            fall = (before - now).exp().where(before != now, 1.0)  # infinities too
            fall = b.pad_axis(fall._node, axis, self.shape[axis] - last, 0)
            top = top.where(top.isfinite(), 0.0)
            total = Tensor._of(fall, x.device)._scan(Op.SCAN_LINEAR, axis, (x - top).exp())
            return (total.log() + top).to(self.dtype)


def _summand(x: Tensor, dtype: DType | None) -> Tensor:
    if dtype is not None:
        return x.to(as_dtype(dtype))
    return x if x.dtype.is_float else x.to(dt.int64)
