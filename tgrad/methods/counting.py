"""Methods of Tensor that count: modes, histograms, distinct elements.

In: a tensor. Out: lazy tensors, except where the shape of the result is a matter of values: then
the values are computed first, which no compiled function can do. Invariant: counts are int64 as in
PyTorch; equal elements are found by sorting.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from tgrad import dtype as dt
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError
from tgrad.graph.node import make, source_scope
from tgrad.graph.op import Op
from tgrad.methods.reduction import ValuesIndices, normal_axis

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class Histogram(NamedTuple):
    """What `histogram` gives."""

    hist: Tensor
    bin_edges: Tensor


class CountingMethods:
    """Elements that are equal or lie close together."""

    __slots__ = ()

    def mode(self: Any, dim: int = -1, keepdim: bool = False) -> ValuesIndices:
        """The most frequent element along an axis, the smallest of several, and its last place.

        >>> import tgrad
        >>> tgrad.tensor([2, 1, 2, 1, 3]).mode().values.item()
        1
        """
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="mode"):
            if not self.shape:
                return ValuesIndices(self.clone(), self._constant(0, dt.int64))
            order = self.argsort(axis)
            ordered = self.detach()._at(order, axis)
            end = _place_in_run(ordered, axis).argmax(axis, keepdim=True)
            return self._pick_place(order._at(end, axis), axis, keepdim)

    def histc(self: Any, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
        """How many elements lie in each of `bins` equal parts of a range.

        Args:
            min, max: the range; where they are equal, that of the data.

        >>> import tgrad
        >>> tgrad.tensor([0.5, 1.5, 1.7]).histc(2, 0, 2).tolist()
        [1.0, 2.0]
        """
        if bins < 1:
            raise ShapeError(f"histc with {bins} bins.", "Give at least one.")
        if not self.dtype.is_float:
            raise DTypeError(f"histc of {self.dtype.name}.", "Convert it with .float().")
        if max < min:
            raise OutOfRangeError(f"histc from {min} to {max}.", "Give min <= max.")
        with source_scope(label="histc"):
            x = self.detach().reshape(-1)
            low, high = (self._constant(v, self.dtype) for v in (min, max))
            if min == max and x.shape[0]:
                low, high = x.amin(), x.amax()
            is_flat = low == high
            low, high = (low - 1).where(is_flat, low), (high + 1).where(is_flat, high)
            at = ((x - low) * bins / (high - low)).floor().clamp(0, bins - 1)
            inside = (x >= low) & (x <= high)
            at = at.where(inside, 0).to(dt.int64)
            zero = self._constant(0, self.dtype).expand(bins)
            return zero._apply(Op.SCATTER, at, inside.to(self.dtype), axis=0, combine="add")

    def histogram(
        self: Any,
        bins: int | Tensor,
        *,
        range: tuple[float, float] | None = None,
        weight: Tensor | None = None,
        density: bool = False,
    ) -> Histogram:
        """How many elements lie between neighbouring edges; those at the last edge count, too.

        Args:
            bins: how many parts of one size, or the edges, in ascending order.
            range: of the parts; by default that of the data.
            weight: of the tensor's shape; its sums take the place of counts.
            density: whether the parts are scaled so that their integral is 1.

        Returns:
            hist (n,) and bin_edges (n + 1,), of the tensor's dtype.

        >>> import tgrad
        >>> tgrad.tensor([0.5, 1.5, 1.7]).histogram(2, range=(0.0, 2.0)).hist.tolist()
        [1.0, 2.0]
        """
        from tgrad.sorting import searchsorted

        if not self.dtype.is_float:
            raise DTypeError(f"histogram of {self.dtype.name}.", "Convert it with .float().")
        with source_scope(label="histogram"):
            x = self.detach().reshape(-1)
            edges = x._edges(bins, range)
            count = edges.shape[0] - 1
            places = searchsorted(edges, x, right=True) - 1
            places = places.where(x != edges[-1], count - 1)
            inside = (x >= edges[0]) & (x <= edges[-1])
            shares = inside.to(self.dtype)
            if weight is not None:
                shares = weight.reshape(-1).where(inside, 0).to(self.dtype)
            zero = self._constant(0, self.dtype).expand(count)
            at = places.where(inside, 0)
            found = zero._apply(Op.SCATTER, at, shares, axis=0, combine="add")
            if density:
                found = found / found.sum() / (edges[1:] - edges[:-1])
            return Histogram(found, edges)

    def _edges(self: Any, bins: int | Tensor, range: tuple[float, float] | None) -> Tensor:
        """The edges of a histogram of these values."""
        if not isinstance(bins, int):
            if bins.ndim != 1 or bins.shape[0] < 2:
                raise ShapeError(f"histogram with edges of shape {bins.shape}.", "Give 2 or more.")
            return bins.to(self.dtype)
        if bins < 1:
            raise ShapeError(f"histogram with {bins} bins.", "Give at least one.")
        if range is not None and not range[0] <= range[1]:
            raise OutOfRangeError(f"histogram from {range[0]} to {range[1]}.", "Give min <= max.")
        low, high = range or ((0.0, 1.0) if not self.numel() else (self.amin(), self.amax()))
        ends = [self._constant(v, self.dtype) if isinstance(v, (int, float)) else v
                for v in (low, high)]  # fmt: skip
        is_flat = ends[0] == ends[1]
        low, high = ((end + more).where(is_flat, end) for end, more in zip(ends, (-0.5, 0.5)))
        steps = self._constant(1, self.dtype).expand(bins + 1)._places(0).to(self.dtype)
        rising = low + (high - low) * steps / bins
        falling = high - (high - low) * (bins - steps) / bins
        return rising.where(steps * 2 < bins + 1, falling)

    def bincount(self: Any, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
        """How often each integer from 0 on occurs, or the sum of the weights where it does.

        The length of the result is one more than the largest element, so the values are computed
        first.

        Args:
            weights: of the tensor's shape; without them counts are int64.
            minlength: least length of the result.

        Raises:
            OutOfRangeError: an element is negative.

        >>> import tgrad
        >>> tgrad.tensor([0, 1, 1, 3]).bincount().tolist()
        [1, 2, 0, 1]
        """
        if len(self.shape) != 1 or not self.dtype.is_int:
            raise ShapeError(
                f"bincount of shape {self.shape}, {self.dtype.name}.", "Give a vector of integers."
            )
        if minlength < 0:
            raise OutOfRangeError(f"bincount with minlength={minlength}.", "Use 0 or more.")
        if weights is not None and weights.shape != self.shape:
            raise ShapeError(
                f"weights of shape {weights.shape} for {self.shape}.", "Make them equal."
            )
        with source_scope(label="bincount"):
            low, size = 0, 0
            if self.shape[0]:
                low, size = int(self.amin().item()), int(self.amax().item()) + 1
            if low < 0:
                raise OutOfRangeError(f"bincount of {low}.", "Give integers from 0 on.")
            dtype = dt.int64
            if weights is not None:
                dtype = weights.dtype if weights.dtype is dt.float32 else dt.float64
            ones = self._constant(1, dtype).expand(self.shape)
            source = ones if weights is None else weights.to(dtype)
            zero = self._constant(0, dtype).expand(max(size, minlength))
            at = self.detach().to(dt.int64)
            return zero._apply(Op.SCATTER, at, source, axis=0, combine="add")

    def unique(
        self: Any,
        sorted: bool = True,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Any:
        """The distinct elements, or slices along `dim`, in ascending order.

        How many there are is a matter of values, so they are computed first.

        Args:
            sorted: accepted; they always come in order.
            return_inverse: also where each element went (int64).
            return_counts: also how often each occurs (int64).

        >>> import tgrad
        >>> tgrad.tensor([3, 1, 3]).unique(return_counts=True)[1].tolist()
        [1, 2]
        """
        with source_scope(label="unique"):
            rows = _rows(self.detach(), dim)
            order = _lexical_order(rows)
            return self._distinct(rows, order, return_inverse, return_counts, dim)

    def unique_consecutive(
        self: Any,
        return_inverse: bool = False,
        return_counts: bool = False,
        dim: int | None = None,
    ) -> Any:
        """The first of each run of equal elements, or slices along `dim`; see `unique`.

        >>> import tgrad
        >>> tgrad.tensor([1, 1, 2, 1]).unique_consecutive().tolist()
        [1, 2, 1]
        """
        with source_scope(label="unique_consecutive"):
            rows = _rows(self.detach(), dim)
            return self._distinct(rows, _places(rows, 0), return_inverse, return_counts, dim)

    def _distinct(
        self: Any, rows: Tensor, order: Tensor, inverse: bool, counts: bool, dim: int | None
    ) -> Any:
        """Results from rows [n, m] and the order in which equal ones are neighbours."""
        n = rows.shape[0]
        ordered = rows.index_select(0, order)
        number = _is_first(ordered).to(dt.int64).cumsum(0) - 1
        size = int(number[-1].item()) + 1 if n else 0
        zero = self._constant(0, dt.int64).expand(size)
        first = (zero + n)._apply(Op.SCATTER, number, _places(rows, 0), axis=0, combine="min")
        kept = order._apply(Op.GATHER, first, axis=0)
        if dim is None:
            results = [self.detach().reshape(-1).index_select(0, kept)]
        else:
            results = [self.detach().index_select(dim, kept)]
        if inverse:
            where = order._apply(Op.SCATTER, order, number, axis=0, combine="set")
            results.append(where.reshape(self.shape) if dim is None else where)
        if counts:
            ones = self._constant(1, dt.int64).expand(n)
            results.append(zero._apply(Op.SCATTER, number, ones, axis=0, combine="add"))
        return results[0] if len(results) == 1 else tuple(results)


def _places(x: Tensor, axis: int) -> Tensor:
    """The places along an axis, as a vector."""
    from tgrad.tensor import Tensor

    shape = (x.shape[axis],)
    return Tensor._of(make(Op.IOTA, shape=shape, axis=0, dtype=dt.int64), x.device)


def _rows(x: Tensor, dim: int | None) -> Tensor:
    """What is to be compared, a row each: [n, m]."""
    if dim is None or not x.ndim:
        return x.reshape(-1, 1)
    axis = normal_axis(dim, x.ndim)
    first = x.permute(axis, *(a for a in range(x.ndim) if a != axis))
    width = math.prod(n for a, n in enumerate(x.shape) if a != axis)
    return first.reshape(x.shape[axis], width)


def _lexical_order(rows: Tensor) -> Tensor:
    """The order of rows by their first element, then by their second: stable sorts, last first."""
    order = _places(rows, 0)
    for column in reversed(range(rows.shape[1])):
        key = rows.narrow(1, column, 1).reshape(-1)
        key = key if column == rows.shape[1] - 1 else key.index_select(0, order)
        order = order.index_select(0, key.argsort(0))
    return order


def _is_first(ordered: Tensor) -> Tensor:
    """Whether each row [n, m] differs from the one before; the first does."""
    place = _places(ordered, 0)
    before = ordered.index_select(0, (place - 1).maximum(0)) if ordered.shape[0] else ordered
    return (ordered != before).any(1) | (place == 0)


def _place_in_run(ordered: Tensor, axis: int) -> Tensor:
    """How many equal elements stand right before each one of a sorted axis."""
    place = ordered._places(axis)
    before = ordered._apply(Op.GATHER, (place - 1).maximum(0), axis=axis)
    starts = (ordered != before) | (place == 0)
    return place - place.where(starts, 0)._scan(Op.SCAN_MAX, axis)
