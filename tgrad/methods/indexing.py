"""Indexing of Tensor: slices, integers, and integer tensors.

In: an index as Python writes it. Out: lazy tensors. Invariant: slices and integers are movement, a
tensor index is a gather that reads its rows; what is not supported raises.
"""

from __future__ import annotations

from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad.dtype import DType
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.size import Size, is_same
from tgrad.methods.reduction import normal_axis
from tgrad.methods.sizes import are_same, is_whole, length_of, range_of
from tgrad.tracing import tracer

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class IndexingMethods:
    """Methods that pick elements."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor: ...
        def _slice(self, ranges: dict[int, tuple[int, int, int]]) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def permute(self, *dims: Any) -> Tensor: ...

        @property
        def dtype(self) -> DType: ...
        @property
        def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, index: Any) -> Tensor:
        """Elements by slices, integers, None, ... and at most one integer tensor.

        Raises:
            OutOfRangeError: an integer is beyond the axis.
            UnsupportedError: bool tensors, or several tensors.
        """
        return self._pick(self._items(index))

    def _items(self, index: Any) -> list[Any]:
        """One item an axis, and None for each new one."""
        items = list(index) if isinstance(index, tuple) else [index]
        items = [self._as_index(i) for i in items]
        used = sum(i is not None and not isinstance(i, EllipsisType) for i in items)
        if used > len(self.shape):
            raise ShapeError(
                f"{used} indices for a tensor of shape {self.shape}.",
                f"Give at most {len(self.shape)}.",
            )
        if sum(isinstance(i, EllipsisType) for i in items) > 1:
            raise ShapeError("an index with ... twice.", "Give it once.")
        if not any(isinstance(i, EllipsisType) for i in items):
            items.append(...)
        place = next(p for p, i in enumerate(items) if isinstance(i, EllipsisType))
        items[place : place + 1] = [slice(None)] * (len(self.shape) - used)
        return items

    def _ranges(self, items: list[Any]) -> list[tuple[int, int, int]]:
        """(start, stop, step) of each axis, for integers and slices."""
        ranges: list[tuple[int, int, int]] = []
        for n, item in zip(self.shape, items):
            at = self._place(item, n, len(ranges)) if isinstance(item, (int, Size)) else None
            ranges.append(self._range(item, n) if at is None else (at, at + 1, 1))
        return ranges

    def _place(self, item: Any, n: Any, axis: int) -> Any:
        if not -n <= item < n:
            raise OutOfRangeError(
                f"index {item} of axis {axis} with size {n}.", f"Use {-n} to {n - 1}."
            )
        return item % n

    def _pick(self, items: list[Any]) -> Tensor:
        ranges: dict[int, tuple[int, int, int]] = {}
        shape: list[int] = []
        gathers: list[tuple[int, Tensor]] = []
        axis = 0
        for item in items:
            if item is None:
                shape.append(1)
                continue
            n = self.shape[axis]
            if isinstance(item, (int, Size)):
                at = self._place(item, n, axis)
                ranges[axis] = (at, at + 1, 1)
            elif isinstance(item, slice):
                ranges[axis] = self._range(item, n)
                shape.append(length_of(ranges[axis]))
            else:
                gathers.append((len(shape), item))
                shape.append(n)
            axis += 1
        picked: Any = self
        if not all(is_whole(r, self.shape[a]) for a, r in ranges.items()):
            picked = self._slice(ranges)
        picked = picked.reshape(tuple(shape))
        if len(gathers) > 1:
            raise UnsupportedError(
                "an index with several tensors.", "Index with one tensor at a time, or gather()."
            )
        for position, indices in gathers:
            picked = picked._take(indices, position)
        return picked

    def _range(self, item: slice, n: int) -> tuple[int, int, int]:
        if item.step is not None and item.step <= 0:
            raise ShapeError(
                f"a slice with step {item.step}.", "Steps are positive; use .flip() to reverse."
            )
        return range_of(item, n)

    def _as_index(self, item: Any) -> Any:
        from tgrad.tensor import Tensor, tensor

        if item is None or isinstance(item, (slice, EllipsisType, Size)):
            return item
        if isinstance(item, (bool, np.bool_)):
            raise UnsupportedError("an index with bools.", "Use .where() or masked_fill().")
        if isinstance(item, (int, np.integer)):
            return int(item)
        if isinstance(item, (list, np.ndarray)):
            item = tensor(np.asarray(item), device=self._device)  # type: ignore[attr-defined]
        if isinstance(item, Tensor):
            if item.dtype.is_bool:
                raise UnsupportedError("an index with bools.", "Use .where() or masked_fill().")
            if not item.dtype.is_int:
                raise DTypeError(f"an index of {item.dtype.name}.", "Use .long().")
            return item
        raise DTypeError(
            f"an index of type {type(item).__name__}.",
            "Use integers, slices, None, ... or a tensor of integers.",
        )

    def _take(self, indices: Tensor, axis: int) -> Tensor:
        """Rows of an axis by an integer tensor of any shape, whose axes replace the axis."""
        with source_scope(label="index"):
            n = self.shape[axis]
            check_known_index(indices, n, -n)
            positive = (indices + n).where(indices < 0, indices)
            flat = positive.reshape(-1)
            rows = self.index_select(axis, flat)
            return rows.reshape((*self.shape[:axis], *indices.shape, *self.shape[axis + 1 :]))

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Slices along `dim` at the positions of a vector of integers (not negative)."""
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="index_select"):
            check_known_index(index, self.shape[axis])
            shape = tuple(index.shape[0] if a == axis else n for a, n in enumerate(self.shape))
            column = tuple(index.shape[0] if a == axis else 1 for a in range(len(shape)))
            wide = index.reshape(column)._apply(Op.EXPAND, shape=shape)
            return self._apply(Op.GATHER, wide, axis=axis)

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """out[i][j] = self[index[i][j]][j] for dim 0, and so on, as torch.gather."""
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="gather"):
            check_known_index(index, self.shape[axis])
            return self._narrowed(index, axis)._apply(Op.GATHER, index, axis=axis)

    def _narrowed(self, index: Tensor, axis: int) -> Tensor:
        wanted = {
            a: (0, m, 1)
            for a, (m, n) in enumerate(zip(index.shape, self.shape))
            if a != axis and not is_same(m, n) and m < n
        }
        return self._slice(wanted) if wanted else self  # type: ignore[return-value]

    def scatter(self, dim: int, index: Tensor, src: Any) -> Tensor:
        """A copy with self[index[i][j]][j] = src[i][j] for dim 0, and so on."""
        return self._scatter(dim, index, src, "set")

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """A copy with src added at the places that index names."""
        return self._scatter(dim, index, src, "add")

    def _scatter(self, dim: int, index: Tensor, src: Any, combine: str) -> Tensor:
        from tgrad.tensor import Tensor

        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="scatter"):
            check_known_index(index, self.shape[axis])
            if not isinstance(src, Tensor):
                src = self._constant(src, self.dtype).expand(index.shape)  # type: ignore
            if not are_same(src.shape, index.shape):
                src = src._narrowed(index, -1)
            return self._apply(Op.SCATTER, index, src, axis=axis, combine=combine)


def check_known_index(index: Tensor, size: int, lowest: int = 0) -> None:
    """Refuse an index that is known (stored on the host) to be out of range.

    Raises:
        OutOfRangeError: names the first index that is out of range.
        DTypeError: the index is not of integers.
    """
    if not index.dtype.is_int:
        raise DTypeError(f"an index of {index.dtype.name}.", "Use .long().")
    trace = tracer()
    if trace is not None:
        trace.check(index, check_known_index, size, lowest)
        return
    if index._storage is None or index.device.type == "cuda" or not index.numel():
        return
    values = index._storage.numpy()
    bad = (values < lowest) | (values >= size)
    if bad.any():
        worst = values[np.unravel_index(int(bad.argmax()), values.shape)]
        raise OutOfRangeError(
            f"index {int(worst)} is out of range for an axis of size {size}.",
            f"Use {lowest} to {size - 1}.",
        )
