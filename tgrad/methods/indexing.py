"""Indexing of Tensor: slices, integers, None, ..., tensors of integers, and masks.

In: an index as Python writes it. Out: lazy tensors. Invariant: slices and integers are movement,
tensors of integers are one gather that reads its rows; a mask whose number of hits is the result's
size is read (so not while compiling).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad import dtype as dt
from tgrad.aliases import own_memory
from tgrad.dtype import DType
from tgrad.errors import DTypeError, OutOfRangeError, ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.size import Size, is_same
from tgrad.graph.sized import are_same
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.reduction import normal_axis
from tgrad.methods.sizes import Range, is_whole, length_of, range_of, with_all_of_memory
from tgrad.tracing import check_values

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


@dataclass(frozen=True)
class Index:
    """An index in two steps: movement, then tensors.

    Attributes:
        ranges: (start, stop, step) of each axis.
        shape: after the movement, axes of integers dropped and new ones put in.
        tensors: (axis after the movement, int64 tensor), by axis.
    """

    ranges: tuple[Range, ...]
    shape: tuple[int, ...]
    tensors: tuple[tuple[int, Any], ...]


class IndexingMethods:
    """Methods that pick elements."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor: ...
        def _slice(self, ranges: dict[int, Range]) -> Tensor: ...
        def reshape(self, *shape: Any) -> Tensor: ...
        def permute(self, *dims: Any) -> Tensor: ...

        @property
        def dtype(self) -> DType: ...
        @property
        def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self: Any, index: Any) -> Tensor:
        """Elements by slices, integers, None, ..., tensors of integers, and masks, mixed freely.

        Where several tensors stand together, their common shape replaces their axes; where others
        stand between them, it comes first, as in NumPy.

        Raises:
            OutOfRangeError: an integer is beyond the axis.
            ShapeError: too many indices, or a mask of another shape.
        """
        with source_scope(label="index"):
            found = self._index(index)
            moved = self._moved(found)
            return own_memory(moved._gathered(found.tensors), moved) if found.tensors else moved

    # -- reading an index -----------------------------------------------------------------------

    def _index(self: Any, index: Any) -> Index:
        """The two steps of an index."""
        ranges: list[Range] = []
        shape: list[int] = []
        tensors: list[tuple[int, Any]] = []
        for item in self._items(index):
            if item is None:
                shape.append(1)
                continue
            if isinstance(item, bool):
                tensors.append((len(shape), self._constant(0, dt.int64).expand(int(item))))
                shape.append(1)
                continue
            n = self.shape[len(ranges)]
            if isinstance(item, (int, Size)):
                at = self._place(item, n, len(ranges))
                ranges.append((at, at + 1, 1))
            elif isinstance(item, slice):
                ranges.append(_range_of(item, n))
                shape.append(length_of(ranges[-1]))
            else:
                check_known_index(item, n, -n)
                tensors.append((len(shape), (item + n).where(item < 0, item)))
                ranges.append((0, n, 1))
                shape.append(n)
        return Index(tuple(ranges), tuple(shape), tuple(tensors))

    def _items(self: Any, index: Any) -> list[Any]:
        """One item an axis, masks as a tensor an axis; None and bool for new axes."""
        given = list(index) if isinstance(index, tuple) else [index]
        items = [i for item in given for i in self._as_items(item)]
        used = sum(not (i is None or isinstance(i, (bool, EllipsisType))) for i in items)
        if used > len(self.shape):
            raise ShapeError(
                f"{used} indices for a tensor of shape {self.shape}.",
                f"Give at most {len(self.shape)}.",
            )
        dots = [p for p, i in enumerate(items) if isinstance(i, EllipsisType)]
        if len(dots) > 1:
            raise ShapeError("an index with ... twice.", "Give it once.")
        place = dots[0] if dots else len(items)
        items[place : place + 1] = [slice(None)] * (len(self.shape) - used)
        self._check_masks(given)
        return items

    def _check_masks(self: Any, given: list[Any]) -> None:
        """A mask that stands first must have the sizes of its axes."""
        first: Any = given[0] if given else None
        if not hasattr(first, "dtype") or not str(first.dtype).endswith("bool"):
            return
        shape = tuple(first.shape)
        if not are_same(shape, self.shape[: len(shape)]):
            raise ShapeError(
                f"a mask of shape {shape} for a tensor of shape {self.shape}.",
                "Give it the sizes of its axes.",
            )

    def _as_items(self: Any, item: Any) -> list[Any]:
        from tgrad.tensor import Tensor, tensor

        if item is None or isinstance(item, (slice, EllipsisType, Size)):
            return [item]
        if isinstance(item, (bool, np.bool_)):
            return [bool(item)]
        if isinstance(item, (int, np.integer)):
            return [int(item)]
        if isinstance(item, (list, tuple, range, np.ndarray)):
            array = np.asarray(item)
            array = array.astype(np.int64) if not array.size and array.dtype.kind == "f" else array
            item = tensor(array, device=self.device)
        if not isinstance(item, Tensor):
            raise DTypeError(
                f"an index of type {type(item).__name__}.",
                "Use integers, slices, None, ... or a tensor of integers.",
            )
        if item.dtype.is_bool:
            return list(item.nonzero(as_tuple=True)) if item.shape else [bool(item)]
        if not item.dtype.is_int:
            raise DTypeError(f"an index of {item.dtype.name}.", "Use .long().")
        return [item.long()]

    def _place(self, item: Any, n: Any, axis: int) -> Any:
        if not -n <= item < n:
            raise OutOfRangeError(
                f"index {item} of axis {axis} with size {n}.", f"Use {-n} to {n - 1}."
            )
        return item % n

    # -- picking --------------------------------------------------------------------------------

    def _moved(self: Any, index: Index) -> Any:
        """The first step: slices, integers and new axes."""
        ranges = dict(enumerate(index.ranges))
        whole = all(is_whole(r, self.shape[a]) for a, r in ranges.items())
        picked = self if whole else self._slice(ranges)
        return picked.reshape(index.shape)

    def _gathered(self: Any, tensors: Sequence[tuple[int, Any]]) -> Tensor:
        """The second step: rows of the axes that tensors stand at."""
        if not tensors:
            return self
        rows, order, rank = self._rows(tensors)
        sizes = [self.shape[a] for a in order]
        moved = with_all_of_memory(self.permute(order), range(len(tensors)))
        flat = moved.flatten(0, len(tensors) - 1)
        if not flat.shape[0] and rows.numel():
            raise OutOfRangeError(f"an index of an empty axis of shape {self.shape}.")
        picked = flat.index_select(0, rows.reshape(-1))
        picked = picked.reshape((*rows.shape, *sizes[len(tensors) :]))
        first = _first_axis(tensors)
        if not first:
            return picked
        new = tuple(range(rank, rank + first))
        return picked.permute(*new, *range(rank), *range(rank + first, picked.ndim))

    def _rows(self: Any, tensors: Sequence[tuple[int, Any]]) -> tuple[Any, list[int], int]:
        """The row-major place in memory along all indexed axes, axes with the indexed ones first,
        and the number of axes of the places."""
        shape = broadcast_shapes(*(t.shape for _, t in tensors))
        total: Any = None
        for axis, t in tensors:
            part = t.expand(shape)
            total = part if total is None else total * self._node.shape[axis] + part
        axes = [axis for axis, _ in tensors]
        order = axes + [a for a in range(len(self.shape)) if a not in axes]
        return total, order, len(shape)

    def index_select(self: Any, dim: int, index: Tensor) -> Tensor:
        """Slices along `dim` at the positions of a vector of integers (not negative)."""
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="index_select"):
            if not self.shape:
                return self.reshape(1).index_select(0, index.reshape(-1)).reshape(())
            index = index.reshape(-1)
            check_known_index(index, self.shape[axis])
            return self._apply(Op.GATHER, self._along(index, axis), axis=axis)

    def _along(self: Any, index: Tensor, axis: int) -> Tensor:
        """A vector of places along an axis, the same for all other axes."""
        count = index.shape[0]
        shape = tuple(count if a == axis else n for a, n in enumerate(self.shape))
        column = tuple(count if a == axis else 1 for a in range(len(shape)))
        return index.reshape(column)._apply(Op.EXPAND, shape=shape)

    def gather(self: Any, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
        """out[i][j] = self[index[i][j]][j] for dim 0, and so on, as torch.gather.

        Raises:
            UnsupportedError: sparse_grad, since no gradient is sparse.
        """
        if sparse_grad:
            raise UnsupportedError("gather with sparse_grad=True.", "Leave it out.")
        axis = normal_axis(dim, len(self.shape))
        with source_scope(label="gather"):
            if not index.numel():
                nothing = self.reshape(-1)[:0].sum().to(self.dtype)  # has a gradient as self has
                return nothing.expand(index.shape)
            if not self.shape or not index.shape:
                rows = self.reshape(1) if not self.shape else self
                return rows.gather(0, index.reshape(-1)).reshape(index.shape)
            check_known_index(index, self.shape[axis])
            return self._narrowed(index, axis)._apply(Op.GATHER, index, axis=axis)

    def _narrowed(self, index: Tensor, axis: int) -> Tensor:
        wanted = {
            a: (0, m, 1)
            for a, (m, n) in enumerate(zip(index.shape, self.shape))
            if a != axis and not is_same(m, n) and m < n
        }
        return self._slice(wanted) if wanted else self  # type: ignore[return-value]

    def take(self: Any, index: Tensor) -> Tensor:
        """Elements by their row-major place."""
        with source_scope(label="take"):
            n = self.numel()
            check_known_index(index, n, -n)
            place = (index + n).where(index < 0, index)
            return self.reshape(-1).index_select(0, place.reshape(-1)).reshape(index.shape)

    def take_along_dim(self: Any, indices: Tensor, dim: int | None = None) -> Tensor:
        """`gather`, with all axes but `dim` broadcast; of all elements where dim is None."""
        if dim is None:
            return self.take(indices.reshape(-1))
        axis = normal_axis(dim, len(self.shape))
        given, n = (self, indices), self.shape[axis]
        others = broadcast_shapes(*(t.shape[:axis] + t.shape[axis + 1 :] for t in given))
        wide = [(*others[:axis], t.shape[axis], *others[axis:]) for t in given]
        check_known_index(indices, n, -n)
        places = (indices + n).where(indices < 0, indices)
        return self.expand(wide[0]).gather(axis, places.expand(wide[1]))

    def select(self: Any, dim: int, index: int) -> Tensor:
        """One slice of an axis, without it."""
        axis = normal_axis(dim, len(self.shape))
        return self[(slice(None),) * axis + (index,)]

    # -- sizes that depend on values ------------------------------------------------------------

    def nonzero(self: Any, *, as_tuple: bool = False) -> Any:
        """Places of the elements that are not zero, a row each (int64); reads the values.

        Args:
            as_tuple: a vector for each axis instead.
        """
        from tgrad.tensor import tensor

        array = self.numpy()
        rows = np.argwhere(array) if array.ndim else np.zeros((int(array != 0), 0), np.int64)
        if not as_tuple:
            return tensor(rows.astype(np.int64), device=self.device)
        columns = rows.T if array.ndim else np.zeros((1, len(rows)), np.int64)
        return tuple(tensor(np.ascontiguousarray(c), device=self.device) for c in columns)

    def argwhere(self: Any) -> Tensor:
        """`nonzero`."""
        return self.nonzero()

    def nonzero_static(self: Any, *, size: int, fill_value: int = -1) -> Tensor:
        """The first `size` rows of `nonzero`; rows of `fill_value` where there are fewer.
        Nothing is read: row k is where the count of such elements reaches k + 1."""
        from tgrad.creation import arange
        from tgrad.joining import stack
        from tgrad.sorting import searchsorted

        counts = (self != 0).reshape(-1).to(dt.int64).cumsum(0)
        place = searchsorted(counts, arange(1, size + 1, device=self.device))
        is_there = (place < counts.shape[0]).unsqueeze(1)
        columns = []
        for n in reversed(self.shape):
            columns.append(place % max(n, 1))
            place = place // max(n, 1)
        if not columns:
            return place.new_full((size, 0), fill_value)
        return stack(columns[::-1], 1).where(is_there, fill_value)

    def masked_select(self: Any, mask: Tensor) -> Tensor:
        """The elements where the mask holds, as a vector; reads the mask."""
        shape = broadcast_shapes(self.shape, mask.shape)
        return self.expand(shape).reshape(-1)[mask.expand(shape).reshape(-1)]


def _first_axis(tensors: Sequence[tuple[int, Any]]) -> int:
    """Where the axes of the tensors' common shape stand in the result."""
    axes = [axis for axis, _ in tensors]
    together = axes == list(range(axes[0], axes[0] + len(axes)))
    return axes[0] if together else 0


def _range_of(item: slice, n: Any) -> Range:
    if item.step is not None and item.step <= 0:
        raise ShapeError(
            f"a slice with step {item.step}.", "Steps are positive; use .flip() to reverse."
        )
    return range_of(item, n)


def outside(values: np.ndarray, lowest: int, end: int) -> np.ndarray:
    """The integers that are below `lowest`, or not below `end`. Compiled functions ask at every
    call."""
    values = values.reshape(-1)
    if values.dtype == np.int64:
        first = values - lowest if lowest else values
        if not np.count_nonzero(first.view(np.uint64) >= end - lowest):  # negative ones are large
            return values[:0]
    return values[(values < lowest) | (values >= end)]


def check_known_index(index: Tensor, size: int, lowest: int = 0) -> None:
    """Refuse an index that is known (stored on the host) to be out of range.

    Raises:
        OutOfRangeError: names the first index that is out of range.
        DTypeError: the index is not of integers.
    """
    if not index.dtype.is_int:
        raise DTypeError(f"an index of {index.dtype.name}.", "Use .long().")
    check_values(index, _refuse_outside, size, lowest)


def _refuse_outside(values: np.ndarray, size: int, lowest: int) -> None:
    bad = outside(values, lowest, size)
    if bad.size:
        raise OutOfRangeError(
            f"index {int(bad[0])} is out of range for an axis of size {size}.",
            f"Use {lowest} to {size - 1}.",
        )
