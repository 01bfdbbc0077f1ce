"""Reductions of Tensor, in PyTorch's names and meanings.

In: a tensor and axes. Out: lazy tensors. Invariant: integers sum in int64, float16 and bfloat16 in
float32; everything here is written with four ops: sum, product, maximum, minimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tgrad import dtype as dt
from tgrad.dtype import DType
from tgrad.errors import DTypeError, ShapeError
from tgrad.from_template import from_template
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.sized import flat_places, sized
from tgrad.methods.elementwise import rounded_once
from tgrad.methods.sizes import is_sized

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Dim = int | Sequence[int] | None


class ValuesIndices(NamedTuple):
    """Result of max and min over one axis."""

    values: Tensor
    indices: Tensor


class MinMax(NamedTuple):
    """Result of aminmax."""

    min: Tensor
    max: Tensor


def normal_axes(dim: Dim, rank: int) -> tuple[int, ...]:
    """Axes counted from the front, sorted; all of them for None.

    Raises:
        ShapeError: an axis is out of range or stands twice.
    """
    if dim is None or (isinstance(dim, Sequence) and not dim):
        return tuple(range(rank))
    given = (dim,) if isinstance(dim, int) else tuple(dim)
    axes = tuple(normal_axis(d, rank) for d in given)
    if len(set(axes)) != len(axes):
        raise ShapeError(f"an axis stands twice in dim={dim}.", "Name each axis once.")
    return tuple(sorted(axes))


def normal_axis(dim: int, rank: int) -> int:
    """The axis counted from the front.

    Raises:
        ShapeError: it is out of range.
    """
    limit = max(rank, 1)
    if not -limit <= dim < limit:
        raise ShapeError(
            f"dim={dim} of a tensor with {rank} axes.", f"Use {-limit} to {limit - 1}."
        )
    return dim % limit


class ReductionMethods:
    """Methods that remove axes."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor: ...
        def to(self, *args: Any, **kwargs: Any) -> Tensor: ...
        def clone(self) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...

        @property
        def dtype(self) -> DType: ...
        @property
        def shape(self) -> tuple[int, ...]: ...

    def _reduce(self, op: Op, dim: Dim, keepdim: bool, label: str = "") -> Tensor:
        axes = normal_axes(dim, len(self.shape))
        with source_scope(label=label or op.value.removeprefix("reduce_")):
            result = self._apply(op, axes=axes) if self.shape else self.clone()
            if keepdim:
                shape = tuple(1 if a in axes else n for a, n in enumerate(self.shape))
                result = result._apply(Op.RESHAPE, shape=shape)
            return result

    def _count(self, dim: Dim) -> int:
        return (
            math.prod(self.shape[a] for a in normal_axes(dim, len(self.shape))) if self.shape else 1
        )

    def sum(self, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
        """Sum over axes; integers and bools sum in int64."""
        x = self.to(dtype or (self.dtype if self.dtype.is_float else dt.int64))
        return x._reduce(Op.REDUCE_SUM, dim, keepdim)

    def prod(self, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
        """Product over axes; integers and bools in int64."""
        if dtype is dt.bool_:
            return self.to(dt.bool_).all(dim, keepdim)
        x = self.to(dtype or (self.dtype if self.dtype.is_float else dt.int64))
        return x._reduce(Op.REDUCE_PROD, dim, keepdim)

    def mean(self, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
        """Sum divided by the number of elements.

        Raises:
            DTypeError: the dtype is not floating point.
        """
        x = self.to(dtype) if dtype is not None else self
        if not x.dtype.is_float:
            raise DTypeError(
                f"mean of a tensor of {x.dtype.name}.", "Convert it with .float() or pass dtype=."
            )
        with source_scope(label="mean"):
            count = self._count(dim)
            scale = 1.0 / count if count else math.nan
            if x.dtype.itemsize == 8:
                return x._reduce(Op.REDUCE_SUM, dim, keepdim, "mean") / count
            total = x.to(x.dtype.accumulator)._reduce(Op.REDUCE_SUM, dim, keepdim, "mean")
            return (total * scale).to(x.dtype)

    def amax(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Largest element over axes; NaN if one is NaN."""
        return self._reduce(Op.REDUCE_MAX, dim, keepdim)

    def amin(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Smallest element over axes; NaN if one is NaN."""
        return self._reduce(Op.REDUCE_MIN, dim, keepdim)

    def max(self: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        """Largest element; over one axis with its first index; with a tensor, `maximum`."""
        if other is not None or hasattr(dim, "dtype"):
            return self.maximum(dim if other is None else other)
        if dim is None:
            return self.amax()
        return self._selected(dim, keepdim, self.argmax)

    def min(self: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        """Smallest element; over one axis with its first index; with a tensor, `minimum`."""
        if other is not None or hasattr(dim, "dtype"):
            return self.minimum(dim if other is None else other)
        if dim is None:
            return self.amin()
        return self._selected(dim, keepdim, self.argmin)

    def _selected(self: Any, dim: int, keepdim: bool, choose: Callable[..., Any]) -> ValuesIndices:
        """What one element an axis is chosen, and gets the whole gradient."""
        place = choose(dim, True)
        values = self.gather(dim, place) if self.shape else self.clone()
        if not keepdim and self.shape:
            values, place = values.squeeze(dim), place.squeeze(dim)
        return ValuesIndices(values, place)

    def aminmax(self: Any, *, dim: int | None = None, keepdim: bool = False) -> MinMax:
        """Smallest and largest element."""
        return MinMax(self.amin(dim, keepdim), self.amax(dim, keepdim))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Index (int64) of the first largest element; of the first NaN if there is one."""
        return self._arg(Op.REDUCE_MAX, dim, keepdim, "argmax")

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Index (int64) of the first smallest element; of the first NaN if there is one."""
        return self._arg(Op.REDUCE_MIN, dim, keepdim, "argmin")

    def _arg(self, op: Op, dim: int | None, keepdim: bool, label: str) -> Tensor:
        from tgrad.tensor import Tensor

        with source_scope(label=label):
            x: Any = self
            if dim is None and not is_sized(*self.shape):
                flat = x._apply(Op.RESHAPE, shape=(math.prod(self.shape),))
                index = flat._arg(op, 0, False, label)
                return index._apply(Op.RESHAPE, shape=(1,) * len(self.shape)) if keepdim else index
            rank = len(self.shape)
            axes = tuple(range(rank)) if dim is None else (normal_axis(dim, rank),)
            if not self.shape:
                return x._constant(0, dt.int64)
            x = x.detach()
            best = x._reduce(op, axes, True)._apply(Op.EXPAND, shape=self.shape)
            hit = (x == best) | (x != x) if self.dtype.is_float else x == best
            if dim is None:
                node = flat_places(self.shape, lambda n: n.tensor(x.device)._node)
            else:
                node = sized(Op.IOTA, shape=self.shape, axis=axes[0], dtype=dt.int64)
            place, beyond = Tensor._of(node, x.device), math.prod(self.shape[a] for a in axes)
            return place.where(hit, beyond)._reduce(Op.REDUCE_MIN, axes, keepdim)

    def count_nonzero(self: Any, dim: Dim = None) -> Tensor:
        """How many elements are not zero (int64)."""
        return (self != 0).sum(dim)

    def nansum(
        self: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None
    ) -> Tensor:
        """`sum`, with NaN as 0."""
        return self.where(self == self, 0).sum(dim, keepdim, dtype=dtype)

    def nanmean(
        self: Any, dim: Dim = None, keepdim: bool = False, *, dtype: DType | None = None
    ) -> Tensor:
        """`mean` of the elements that are not NaN."""
        count = (self == self).sum(dim, keepdim)
        return self.nansum(dim, keepdim, dtype=dtype) / count

    def any(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Whether one element is not zero; of uint8 as uint8, as in PyTorch."""
        x, dtype = self.to(dt.bool_), dt.uint8 if self.dtype is dt.uint8 else dt.bool_
        if 0 in self.shape:  # no axis of no elements has a largest one
            return x.sum(dim, keepdim).to(dt.bool_).to(dtype)
        return x._reduce(Op.REDUCE_MAX, dim, keepdim, "any").to(dtype)

    def all(self, dim: Dim = None, keepdim: bool = False) -> Tensor:
        """Whether all elements are not zero; of uint8 as uint8, as in PyTorch."""
        x, dtype = self.to(dt.bool_), dt.uint8 if self.dtype is dt.uint8 else dt.bool_
        if 0 in self.shape:
            return x.sum(dim, keepdim).logical_not().to(dtype)
        return x._reduce(Op.REDUCE_MIN, dim, keepdim, "all").to(dtype)

    @from_template()
    def var_mean(
        self,
        dim: Any = None,
        unbiased: bool | None = None,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Variance with `correction` (1) degrees of freedom taken off, and mean.

        Args:
            dim: axes; as in PyTorch, a bool here is `unbiased`.
            unbiased: correction 1 for True, 0 for False.
            keepdim: whether reduced axes stay, with size 1.
        """
        dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
        if correction is None:
            correction = 1 if unbiased is None else int(unbiased)
        with source_scope(label="var_mean"):
            x = self.to(self.dtype.accumulator)
            mean = x.mean(dim, keepdim=True)
            centred = x - mean
            divisor = max(self._count(dim) - correction, 0)
            scale = 1.0 / divisor if divisor else math.inf
            total = (centred * centred)._reduce(Op.REDUCE_SUM, dim, keepdim, "var")
            # the mean's rounding, which (Σ (x - mean))² / n takes off again; its gradient is 0
            lost = centred.detach()._reduce(Op.REDUCE_SUM, dim, keepdim, "var")
            lost = lost * lost * (1.0 / max(self._count(dim), 1))
            total = total - lost.minimum(total.detach())
            kept = mean if keepdim else mean._apply(Op.RESHAPE, shape=total.shape)
            return (total * scale).to(self.dtype), kept.to(self.dtype)

    def std_mean(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Square root of the variance, and mean; arguments as those of `var_mean`."""
        return self.std(*args, **options), self.var_mean(*args, **options)[1]

    def var(self, *args: Any, **options: Any) -> Tensor:
        """Variance; arguments as those of `var_mean`."""
        return self.var_mean(*args, **options)[0]

    def std(self, *args: Any, **options: Any) -> Tensor:
        """Square root of the variance; arguments as those of `var_mean`. Where that is 0, its
        gradient is 0, as PyTorch's."""
        return rounded_once(lambda x: _root(x.var(*args, **options)), self)

    @from_template()
    def logsumexp(self, dim: Dim, keepdim: bool = False) -> Tensor:
        """log(sum(exp(x))), without overflow."""
        with source_scope(label="logsumexp"):
            if 0 in self.shape:  # no element is the largest
                return self.exp().sum(dim, keepdim).log()  # type: ignore[attr-defined]
            top = self.detach().amax(dim, keepdim=True)  # type: ignore[attr-defined]
            top = top.where(top.isfinite(), 0.0)
            result = (self - top).exp().sum(dim, keepdim=True).log() + top
            axes = normal_axes(dim, len(self.shape))
            shape = tuple(n for a, n in enumerate(self.shape) if a not in axes)
            return result if keepdim else result._apply(Op.RESHAPE, shape=shape)


def _root(x: Tensor) -> Tensor:
    """√x, whose gradient is 0, and not infinite, where x is."""
    is_zero = x == 0
    return (x + is_zero).sqrt().where(~is_zero, 0.0)
