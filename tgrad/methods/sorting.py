"""Methods of Tensor that put elements in order.

In: a tensor and an axis. Out: lazy tensors. Invariant: the order is stable, NaN is larger than all
numbers and both zeros are equal, as in PyTorch; values are gathered by their places, so gradients
go back to where they came from.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.aliases import keep_order
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError
from tgrad.graph.node import make, source_scope
from tgrad.graph.op import Op
from tgrad.graph.sized import capacity_of
from tgrad.methods.reduction import ValuesIndices, normal_axis
from tgrad.methods.sizes import is_sized
from tgrad.methods.slopes import define_vjp

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

UNSIGNED = {1: dt.uint8, 2: dt.uint16, 4: dt.uint32, 8: dt.uint64}
"""The unsigned dtype of each size."""

FEW = 4
"""Rows of which no more than one element in so many is needed are not sorted as a whole."""

SHORT_ROW = 128
"""Rows up to which 64 bits are compared at once on the CPU; longer ones are sorted word by word."""

INTERPOLATIONS = ("linear", "lower", "higher", "nearest", "midpoint")


def order_key(x: Tensor, descending: bool = False) -> Tensor:
    """Unsigned integers in the order of the elements.

    A float's bits with the sign flipped are in order above zero, and inverted below it:
    -1.5 = 0xBFC00000 -> 0x403FFFFF, 1.5 = 0x3FC00000 -> 0xBFC00000.
    """
    from tgrad.tensor import Tensor

    x = x.detach()
    kind = UNSIGNED[x.dtype.itemsize]
    top = 1 << (8 * kind.itemsize - 1)

    def bits(value: Tensor) -> Tensor:
        return Tensor._of(make(Op.BITCAST, value._node, dtype=kind), value.device)

    if x.dtype.is_bool:
        key = x.to(dt.uint8)
    elif x.dtype.kind == "i":
        key = bits(x) ^ top
    elif x.dtype.is_float:
        raw = bits(x)
        negative = raw >= top
        key = (raw ^ (2 * top - 1)).where(negative, raw ^ top)
        key = x._constant(top, kind).where(x == 0, key.where(x == x, 2 * top - 1))
    else:
        key = x
    return key ^ int(key.dtype.max) if descending else key


class SortingMethods:
    """Sorting, and what a sorted row tells."""

    __slots__ = ()

    def argsort(self: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
        """Places (int64) of the elements along an axis in order.

        Args:
            stable: accepted; equal elements always keep their order.

        >>> import tgrad
        >>> tgrad.tensor([3.0, 1.0, 2.0]).argsort().tolist()
        [1, 2, 0]
        """
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="argsort"):
            if not self.shape:
                return self._constant(0, dt.int64)
            return self._first_places(axis, descending)

    def _first_places(self: Any, axis: int, descending: bool, first: int = 0) -> Tensor:
        """Places of the elements in order, of which the first are needed, or all: those after them
        may be 0.

        On the CPU such rows lie in one piece and keys may have 64 bits; elsewhere all are sorted.
        """
        n, last = self._node.shape[axis], len(self.shape) - 1
        first = capacity_of(first)
        is_short = n <= SHORT_ROW and self.dtype.itemsize == 8
        if self.device.type != "cpu" or not (is_short or 0 < first * FEW <= n):
            return order_key(self, descending)._apply(Op.ARGSORT, axis=axis)
        if axis == last or is_short:
            key = order_key(self, descending)
            return key._apply(Op.ARGSORT, axis=axis, first=first or n)
        rows = self.detach().transpose(axis, last).contiguous()
        return rows._first_places(last, descending, first).transpose(axis, last)

    def sort(
        self: Any, dim: int = -1, descending: bool = False, stable: bool = False
    ) -> ValuesIndices:
        """The elements along an axis in order, and their places; arguments as of `argsort`.

        >>> import tgrad
        >>> tgrad.tensor([3.0, 1.0, 2.0]).sort(descending=True).values.tolist()
        [3.0, 2.0, 1.0]
        """
        with source_scope(label="sort"):
            places = keep_order(self.argsort(dim, descending, stable), self)
            return ValuesIndices(keep_order(self._at(places, dim), self), places)

    def _at(self: Any, places: Tensor, dim: int) -> Tensor:
        """The elements at places that are known to be inside."""
        if not self.shape:
            return self.clone()
        return self._apply(Op.GATHER, places, axis=normal_axis(dim, len(self.shape)))

    def msort(self: Any) -> Tensor:
        """The elements along the first axis in ascending order."""
        return self.sort(0).values

    def topk(
        self: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
    ) -> ValuesIndices:
        """The k largest elements (or smallest) along an axis, and their places.

        Args:
            sorted: accepted; they always come in order.

        Raises:
            OutOfRangeError: the axis has fewer than k elements.

        >>> import tgrad
        >>> tgrad.tensor([3.0, 1.0, 2.0]).topk(2).values.tolist()
        [3.0, 2.0]
        """
        with source_scope(label="topk"):
            n = self.shape[normal_axis(dim, len(self.shape))] if self.shape else 1
            if not 0 <= k <= n:
                raise OutOfRangeError(f"topk of {k} in an axis of size {n}.", f"Use 0 to {n}.")
            if not self.shape or not k:
                places = self.argsort(dim, largest)
            else:
                places = self._first_places(normal_axis(dim, len(self.shape)), largest, k)
            places = places.narrow(dim, 0, k) if self.shape else places
            return ValuesIndices(self._at(places, dim), places)

    def kthvalue(self: Any, k: int, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
        """The k-th smallest element along an axis, counted from 1, and its place.

        Raises:
            OutOfRangeError: the axis has fewer than k elements.

        >>> import tgrad
        >>> tgrad.tensor([3.0, 1.0, 2.0]).kthvalue(2).values.item()
        2.0
        """
        with source_scope(label="kthvalue"):
            n = self.shape[normal_axis(dim, len(self.shape))] if self.shape else 1
            if not 1 <= k <= n:
                raise OutOfRangeError(f"kthvalue {k} of {n} elements.", f"Use 1 to {n}.")
            if not self.shape:
                return ValuesIndices(self.clone(), self._constant(0, dt.int64))
            places = self._first_places(normal_axis(dim, len(self.shape)), False, k)
            return self._pick_place(places.narrow(dim, k - 1, 1), dim, keepdim)

    def _pick_place(self: Any, place: Tensor, dim: int, keepdim: bool) -> ValuesIndices:
        """One element a row, by its place."""
        value = self._at(place, dim)
        return ValuesIndices(*(t if keepdim else t.squeeze(dim) for t in (value, place)))

    # -- medians and quantiles ------------------------------------------------------------------

    def median(self: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        """The lower median of all elements; over one axis with its place. NaN if one is NaN.

        >>> import tgrad
        >>> tgrad.tensor([4.0, 1.0, 2.0, 3.0]).median().item()
        2.0
        """
        return self._median(dim, keepdim, False)

    def nanmedian(self: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        """`median` of the elements that are not NaN."""
        return self._median(dim, keepdim, True)

    def _median(self: Any, dim: int | None, keepdim: bool, skip_nan: bool) -> Any:
        from tgrad.tensor import with_vjp

        with source_scope(label="nanmedian" if skip_nan else "median"):
            if dim is None:
                flat = self.reshape(-1)
                if not flat.shape[0]:
                    return self._constant(math.nan if self.dtype.is_float else self.dtype.min,
                                          self.dtype)  # fmt: skip
                return with_vjp("median", flat.detach()._median(0, False, skip_nan).values, flat)
            axis = normal_axis(dim, len(self.shape))
            if not self.shape:
                return ValuesIndices(self.clone(), self._constant(0, dt.int64))
            n = self.shape[axis]
            if not n:
                raise ShapeError(
                    f"median over an empty axis of shape {self.shape}.", "Give it an element."
                )
            order = self.argsort(axis)
            if not self.dtype.is_float and not is_sized(n):
                return self._pick_place(order.narrow(axis, (n - 1) // 2, 1), axis, keepdim)
            half: Any = (n - 1).tensor(self.device) >> 1 if is_sized(n) else (n - 1) // 2
            missing = (self != self).sum(axis, keepdim=True)
            if skip_nan:
                middle = ((n - 1 - missing) >> 1).maximum(0)
            else:
                middle = (n - missing).where(missing > 0, half)
            return self._pick_place(order._at(middle, axis), axis, keepdim)

    def quantile(
        self: Any,
        q: float | Tensor,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Tensor:
        """Values below which a share q of the elements lies; NaN where one is NaN.

        Args:
            q: a number, or a tensor of up to one axis, 0 to 1; its axis is the result's first.
            dim: an axis, or None for all elements.
            interpolation: between neighbours, one of "linear", "lower", "higher", "nearest" and
                "midpoint".

        >>> import tgrad
        >>> tgrad.tensor([0.0, 1.0, 2.0, 3.0]).quantile(0.5).item()
        1.5
        """
        return self._quantile(q, dim, keepdim, interpolation, False)

    def nanquantile(
        self: Any,
        q: float | Tensor,
        dim: int | None = None,
        keepdim: bool = False,
        *,
        interpolation: str = "linear",
    ) -> Tensor:
        """`quantile` of the elements that are not NaN."""
        return self._quantile(q, dim, keepdim, interpolation, True)

    def _quantile(
        self: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, skip_nan: bool
    ) -> Tensor:
        from tgrad.tensor import Tensor

        if self.dtype not in (dt.float32, dt.float64):
            raise DTypeError(
                f"quantile of a tensor of {self.dtype.name}.", "Convert it with .float()."
            )
        if interpolation not in INTERPOLATIONS:
            raise NotImplementedError(f"interpolation={interpolation!r} is not supported.")
        share = q if isinstance(q, Tensor) else self._constant(q, self.dtype)
        if not isinstance(q, Tensor) and not 0 <= q <= 1:
            raise OutOfRangeError(f"quantile {q}.", "Use 0 to 1.")
        if share.ndim > 1 or share.dtype is not self.dtype:
            raise ShapeError(
                f"quantiles of shape {share.shape}, {share.dtype.name}.",
                f"Give a number, or a tensor of at most one axis, {self.dtype.name}.",
            )
        with source_scope(label="nanquantile" if skip_nan else "quantile"):
            rank = len(self.shape)
            axis = 0 if dim is None else normal_axis(dim, rank)
            if dim is None or not rank:
                rows, left = self.reshape(-1), (1,) * rank if keepdim else ()
            else:
                rows = self.permute(*(a for a in range(rank) if a != axis), axis)
                kept = tuple(1 if a == axis else n for a, n in enumerate(self.shape))
                left = kept if keepdim else rows.shape[:-1]
            picked = _between(rows, share.reshape(-1), interpolation, skip_nan)
            last = picked.ndim - 1
            return picked.permute(last, *range(last)).reshape((*share.shape, *left))


def _between(rows: Any, share: Tensor, interpolation: str, skip_nan: bool) -> Tensor:
    """[.., n] at shares [k] of the way through each sorted row: [.., k]."""
    n, lead = rows.shape[-1], rows.shape[:-1]
    if not n:
        raise ShapeError("quantile of no elements.", "Give it one.")
    ordered = rows.sort(-1).values
    missing = (rows.detach() != rows.detach()).sum(-1, keepdim=True)
    shape = (*lead, share.shape[0])
    wide = share.reshape((1,) * len(lead) + share.shape).expand(shape)
    if skip_nan:
        place = (wide * (n - 1 - missing).to(wide.dtype)).maximum(0.0)
    else:
        place = (wide * (n - 1)).where((missing == 0).expand(shape), n - 1)
    if interpolation == "nearest":
        place = place.round()
    low, high = (p.to(dt.int64) for p in (place.floor(), place.ceil()))
    if interpolation == "higher":
        return ordered._at(high, -1)
    below = ordered._at(low, -1)
    if interpolation in ("lower", "nearest"):
        return below
    above = ordered._at(high, -1)
    weight = 0.5 if interpolation == "midpoint" else place - place.floor()
    return below.lerp(above, weight)


@define_vjp("median")
def _median_backward(g: Any, y: Any, x: Any) -> tuple[Tensor]:
    """g shared evenly by the elements that are the median, as NaN is where y is"""
    wins = ((x == y) | (x.isnan() & y.isnan())).to(x.dtype.accumulator)
    return ((wins * (g / wins.sum())).to(x.dtype),)
