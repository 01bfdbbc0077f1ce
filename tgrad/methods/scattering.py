"""Scattering methods of Tensor: copies with some elements replaced or combined.

In: a tensor, places and values. Out: lazy tensors. Invariant: one `scatter` node, or movement where
the places are slices; of equal places that replace, one wins, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.aliases import replacing
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.sized import are_same
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.indexing import Index, check_known_index
from tgrad.methods.reduction import normal_axis
from tgrad.methods.sizes import (
    Range,
    is_sized,
    is_whole,
    length_of,
    placed,
    with_all_of_memory,
    with_sizes_of,
)
from tgrad.methods.slopes import reached

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

REDUCTIONS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}
"""PyTorch's names of reductions, and how they combine."""


class ScatteringMethods:
    """Methods that put elements somewhere."""

    __slots__ = ()

    # -- element by element ---------------------------------------------------------------------

    def scatter(
        self: Any,
        dim: int,
        index: Tensor,
        src: Any = None,
        *,
        value: Any = None,
        reduce: Any = None,
    ) -> Tensor:
        """A copy with self[index[i][j]][j] = src[i][j] for dim 0, and so on.

        Args:
            src: a tensor at least as large as index, or a number; also as `value`.
            reduce: "add" or "multiply" instead of replacing.
        """
        combine = {None: "set", "add": "add", "multiply": "mul"}.get(reduce)
        if combine is None:
            raise UnsupportedError(f"scatter: reduce={reduce!r}.", 'Use "add" or "multiply".')
        return self._scatter(dim, index, value if src is None else src, combine)

    def scatter_add(self: Any, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """A copy with src added at the places that index names."""
        return self._scatter(dim, index, src, "add")

    def scatter_reduce(
        self: Any, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
    ) -> Tensor:
        """A copy with elements combined with those of src that index sends there.

        Args:
            reduce: "sum", "prod", "mean", "amax" or "amin".
            include_self: whether the element itself counts where something is sent.
        """
        if reduce not in REDUCTIONS:
            raise UnsupportedError(
                f"scatter_reduce: reduce={reduce!r}.", f"Use one of {', '.join(REDUCTIONS)}."
            )
        with source_scope(label="scatter_reduce"):
            base = self
            if not include_self:
                hit = (
                    self._constant(0, dt.bool_).expand(self.shape)._scatter(dim, index, True, "set")
                )
                base = base.where(~hit, self._constant(_identity(reduce, self.dtype), self.dtype))
            result = base._scatter(dim, index, src, REDUCTIONS[reduce])
            if reduce != "mean":
                return result
            counts = self._constant(int(include_self), self.dtype).expand(self.shape)
            counts = counts._scatter(dim, index, 1, "add")
            counts = counts.where(counts != 0, 1)
            return result.div(counts, rounding_mode=None if self.dtype.is_float else "floor")

    def _scatter(self: Any, dim: int, index: Tensor, src: Any, combine: str) -> Tensor:
        from tgrad.tensor import Tensor

        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="scatter"):
            if not self.shape or not index.shape:
                rows = src.reshape(-1) if isinstance(src, Tensor) else src
                flat = self.reshape(-1)._scatter(0, index.reshape(-1), rows, combine)
                return flat.reshape(self.shape)
            check_known_index(index, self.shape[axis])
            if not index.numel():
                return reached(self.clone(), src)
            if not isinstance(src, Tensor):
                src = self._constant(src, self.dtype).expand(index.shape)
            if not are_same(src.shape, index.shape):
                src = src._narrowed(index, -1)
            return self._apply(Op.SCATTER, index, src, axis=axis, combine=combine)

    # -- slice by slice -------------------------------------------------------------------------

    def index_add(self: Any, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
        """A copy with alpha * source[i] added to slice index[i] of an axis."""
        return self._scatter_slices(dim, index, source if alpha == 1 else source * alpha, "add")

    def index_copy(self: Any, dim: int, index: Tensor, source: Tensor) -> Tensor:
        """A copy with source[i] as slice index[i] of an axis."""
        return self._scatter_slices(dim, index, source, "set")

    def index_fill(self: Any, dim: int, index: Tensor, value: Any) -> Tensor:
        """A copy with slices of an axis filled with a number (or 0-d tensor)."""
        from tgrad.tensor import Tensor

        axis = normal_axis(dim, len(self.shape))
        if not isinstance(value, Tensor):
            value = self._constant(value, self.dtype)
        size = self.shape[axis] if self.shape else 1
        places = (index.reshape(-1) + size).where(index.reshape(-1) < 0, index.reshape(-1))
        hit = self._constant(0, dt.bool_).expand(size)._scatter(0, places, True, "set")
        if not self.shape:
            return value.to(self.dtype).where(hit.reshape(()), self)
        column = hit.reshape([size if a == axis else 1 for a in range(len(self.shape))])
        return value.to(self.dtype).where(column, self)

    def index_reduce(
        self: Any,
        dim: int,
        index: Tensor,
        source: Tensor,
        reduce: str,
        *,
        include_self: bool = True,
    ) -> Tensor:
        """`scatter_reduce` of slices: source[i] into slice index[i]."""
        if not self.shape:
            vector = self.reshape(1).index_reduce(
                0, index.reshape(-1), source.reshape(-1), reduce, include_self=include_self
            )
            return vector.reshape(())
        axis = normal_axis(dim, len(self.shape))
        source = self._slices(axis, index, source)
        wide = source._along(index.reshape(-1), axis)
        return self.scatter_reduce(axis, wide, source, reduce, include_self=include_self)

    def _scatter_slices(self: Any, dim: int, index: Tensor, source: Any, combine: str) -> Tensor:
        if not self.shape:
            vector = self.reshape(1)._scatter_slices(
                0, index.reshape(-1), source.reshape(-1), combine
            )
            return vector.reshape(())
        axis = normal_axis(dim, len(self.shape))
        source = self._slices(axis, index, source)
        return self._scatter(axis, source._along(index.reshape(-1), axis), source, combine)

    def _slices(self: Any, axis: int, index: Tensor, source: Any) -> Any:
        """The source, one slice of an axis for each place of the index."""
        source = source.reshape(1) if not source.shape else source
        count = prod(index.shape)
        wanted = tuple(count if a == axis else n for a, n in enumerate(self.shape))
        if not are_same(source.shape, wanted):
            raise ShapeError(
                f"slices of shape {source.shape} for {count} places along axis {axis} of "
                f"{self.shape}.",
                f"Give them shape {wanted}.",
            )
        return source

    # -- by an index ----------------------------------------------------------------------------

    def index_put(
        self: Any, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False
    ) -> Tensor:
        """A copy with self[indices] = values, or += with `accumulate`; None is a full axis."""
        with source_scope(label="index_put"):
            index = self._index(tuple(slice(None) if i is None else i for i in indices))
            return self._with_index(index, values, "add" if accumulate else "set")

    def put(self: Any, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
        """A copy with elements at row-major places replaced, or added to."""
        flat = self.reshape(-1).index_put((index.reshape(-1),), source.reshape(-1), accumulate)
        return flat.reshape(self.shape)

    def masked_scatter(self: Any, mask: Tensor, source: Tensor) -> Tensor:
        """A copy with the first elements of source where the mask holds; reads the mask."""
        with source_scope(label="masked_scatter"):
            shape = broadcast_shapes(self.shape, mask.shape)
            base = self.expand(shape).reshape(-1)
            (places,) = mask.expand(shape).reshape(-1).nonzero(as_tuple=True)
            count = places.shape[0]
            if source.numel() < count:
                raise ShapeError(
                    f"masked_scatter of {source.numel()} elements to {count} places.",
                    "Give one for each place where the mask holds.",
                )
            put = base._scatter(0, places, source.reshape(-1)[:count].to(self.dtype), "set")
            return put.reshape(shape)

    def select_scatter(self: Any, src: Tensor, dim: int, index: int) -> Tensor:
        """A copy with one slice of an axis replaced."""
        axis = normal_axis(dim, len(self.shape))
        found = self._index((slice(None),) * axis + (index,))
        return self._with_index(found, src, "set").clone()

    def slice_scatter(
        self: Any, src: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
    ) -> Tensor:
        """A copy with self[start:end:step] of an axis replaced."""
        axis = normal_axis(dim, len(self.shape))
        found = self._index((slice(None),) * axis + (slice(start, end, step),))
        return self._with_index(found, src, "set").clone()

    def diagonal_scatter(
        self: Any, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
    ) -> Tensor:
        """A copy with the diagonal of two axes replaced."""
        rank = len(self.shape)
        a, c = normal_axis(dim1, rank), normal_axis(dim2, rank)
        with source_scope(label="diagonal_scatter"):
            row, column = self._places(a), self._places(c)
            low = min(offset, 0)
            wide = src.unsqueeze(-1).expand(*src.shape, self.shape[c]).movedim((-2, -1), (a, c))
            before = [-low if d == a else 0 for d in range(rank)]
            after = [self.shape[a] + low - wide.shape[a] if d == a else 0 for d in range(rank)]
            return wide._pad_zero(before, after).where(column - row == offset, self)

    def as_strided_scatter(
        self: Any,
        src: Tensor,
        size: Sequence[int],
        stride: Sequence[int],
        storage_offset: int | None = None,
    ) -> Tensor:
        """A copy with the elements of `as_strided` replaced."""
        order = self._memory_order(storage_offset)
        lying = self.permute(order)._with_strided(src, size, stride, storage_offset or 0)
        return lying.permute(tuple(order.index(d) for d in range(len(order))))

    def _with_strided(
        self: Any, src: Tensor, size: Sequence[int], stride: Sequence[int], offset: int
    ) -> Any:
        """`as_strided_scatter` of elements that lie row by row."""
        places = self._strided_places(size, stride, offset)
        flat = self.reshape(-1)._scatter(0, places.reshape(-1), src.reshape(-1), "set")
        return flat.reshape(self.shape)

    def fill(self: Any, value: Any) -> Tensor:
        """A copy filled with a number (or 0-d tensor)."""
        from tgrad.tensor import Tensor

        if not isinstance(value, Tensor):
            value = self._constant(value, self.dtype)
        return value.to(self.dtype).expand(self.shape).clone()

    # -- what indices are made of ---------------------------------------------------------------

    def _with_index(self: Any, index: Index, value: Tensor, combine: str) -> Tensor:
        """A copy with the elements at an index replaced (or added to)."""
        moved = self._moved(index)
        if index.tensors:
            value = moved._with_rows(index.tensors, value, combine)
        return self._with_slice(index, value)

    def _with_slice(self: Any, index: Index, value: Any) -> Tensor:
        """Zeros around the value, chosen where its place is."""
        picked = index.shape
        value = value.reshape(_without_leading_ones(value.shape, len(picked)))
        if not are_same(broadcast_shapes(picked, value.shape), picked):
            raise ShapeError(f"values of shape {value.shape} assigned to shape {picked}.")
        counts = [length_of(r) for r in index.ranges]
        value = value.expand(picked).reshape(counts)
        if is_sized(*(bound for r in index.ranges for bound in r), *self.shape):
            return self._with_sized_slice(index.ranges, value)
        if 0 in counts:
            return self
        if counts == list(self.shape):
            return replacing(self, value)
        inside = value._constant(1, dt.bool_).expand(counts)
        placed, chosen = (self._placed(t, index.ranges) for t in (value, inside))
        return placed.where(chosen, self)

    def _with_sized_slice(self: Any, ranges: Sequence[Range], value: Tensor) -> Tensor:
        """As `_with_slice`, for bounds or sizes that are symbolic."""
        chosen: Tensor | None = None
        for axis, bounds in enumerate(ranges):
            size = self.shape[axis]
            if is_whole(bounds, size):
                continue
            if bounds[2] != 1:
                raise UnsupportedError(
                    f"assignment to a slice by {bounds[2]} of symbolic size.", "Use a step of 1."
                )
            value, inside = placed(value, axis, bounds[0], size)
            chosen = inside if chosen is None else chosen & inside
        return replacing(self, value) if chosen is None else value.where(chosen, self)

    def _placed(self: Any, t: Any, ranges: Sequence[Range]) -> Any:
        """`t` where the ranges of this tensor's axes are, zeros elsewhere."""
        low, high = [], []
        for axis, (start, _, step) in enumerate(ranges):
            shape, count = t.shape, t.shape[axis]
            if step > 1 and count > 1:
                column = t.reshape(*shape[: axis + 1], 1, *shape[axis + 1 :])
                gap = [step - 1 if a == axis + 1 else 0 for a in range(column.ndim)]
                spread = column._pad_zero((0,) * column.ndim, gap)
                t = spread.reshape(*shape[:axis], count * step, *shape[axis + 1 :])
                t = t.narrow(axis, 0, (count - 1) * step + 1)
            low.append(start)
            high.append(self.shape[axis] - start - t.shape[axis])
        return t._pad_zero(low, high)

    def _with_rows(self: Any, tensors: Any, value: Any, combine: str) -> Tensor:
        """Rows of the axes that tensors stand at replaced (or added to)."""
        rows, order, rank = self._rows(tensors)
        kept = [self.shape[a] for a in order[len(tensors) :]]
        axes = [axis for axis, _ in tensors]
        first = axes[0] if axes == list(range(axes[0], axes[0] + len(axes))) else 0
        shape = (*kept[:first], *rows.shape, *kept[first:])
        value = value.reshape(_without_leading_ones(value.shape, len(shape)))
        if broadcast_shapes(shape, value.shape) != shape:
            raise ShapeError(f"values of shape {value.shape} assigned to shape {shape}.")
        value = (
            value.to(self.dtype)
            .expand(shape)
            .movedim(tuple(range(first, first + rank)), tuple(range(rank)))
        )
        source = value.reshape(rows.numel(), *kept)
        moved = with_all_of_memory(self.permute(order), range(len(tensors)))
        flat = moved.flatten(0, len(tensors) - 1)
        flat = flat._scatter(0, source._along(rows.reshape(-1), 0), source, combine)
        back = [order.index(a) for a in range(len(order))]
        return with_sizes_of(flat.reshape(moved.shape).permute(back), self)


def _without_leading_ones(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Assigned values may have more axes than their place, if those are 1."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def _identity(reduce: str, dtype: dt.DType) -> Any:
    """What leaves every number as it is."""
    return {"sum": 0, "mean": 0, "prod": 1, "amax": dtype.min, "amin": dtype.max}[reduce]
