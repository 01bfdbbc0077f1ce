"""Movement methods of Tensor: other shapes of the same elements.

In: a tensor and a shape. Out: lazy tensors. Invariant: nothing is copied; fusion turns movement
into index arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from tgrad.aliases import Step, When, give_gradient_of_its_own, join
from tgrad.dtype import DType
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.shape import window_misfit
from tgrad.graph.size import running_scope
from tgrad.graph.sized import are_same
from tgrad.methods.reduction import normal_axes, normal_axis
from tgrad.methods.sizes import as_size, is_one, is_sized, sliced
from tgrad.tracing import tracer

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


def as_sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes given as one sequence or as arguments."""
    if len(sizes) == 1 and isinstance(sizes[0], Sequence):
        sizes = tuple(sizes[0])
    return tuple(as_size(n) for n in sizes)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [n for n in shape if not is_one(n)]


class MovementMethods:
    """Methods that only change which element stands where."""

    __slots__ = ()

    if TYPE_CHECKING:

        def _apply(self, op: Op, *others: Tensor, **attrs: Any) -> Tensor: ...
        def _view(self, op: Op, when: When = When.ALWAYS, **attrs: Any) -> Tensor: ...

        @property
        def dtype(self) -> DType: ...
        @property
        def shape(self) -> tuple[int, ...]: ...
        @property
        def _shape(self) -> tuple[int, ...]: ...

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements in row-major order with other sizes; one may be -1.

        As in PyTorch, what is written to it is seen by this tensor where strides can say it (not
        for a transposed matrix made flat, say), and is a copy's otherwise.

        Raises:
            ShapeError: the number of elements differs.
        """
        return self._reshaped(shape, When.STRIDES_FIT)

    def view(self, *shape: Any) -> Tensor:
        """`reshape` that always shares memory with this tensor; with a dtype, the same bits read as
        that.

        Raises:
            ShapeError: the number of elements differs.
            UnsupportedError: an element of the dtype has another size.

        >>> import tgrad
        >>> tgrad.tensor([1.0, -2.0]).to(tgrad.float8_e4m3fn).view(tgrad.uint8).tolist()
        [56, 192]
        """
        if len(shape) == 1 and isinstance(shape[0], DType):
            return self._viewed_as(shape[0])
        return self._reshaped(shape, When.ALWAYS)

    def _viewed_as(self, dtype: DType) -> Tensor:
        if dtype.itemsize != self.dtype.itemsize:
            raise UnsupportedError(
                f"view of {self.dtype.name} as {dtype.name}, of another size.",
                "Choose a dtype of as many bytes.",
            )
        with source_scope(label="view"):
            return self._view(Op.BITCAST, dtype=dtype)

    def _reshaped(self, shape: tuple[Any, ...], when: When) -> Tensor:
        sizes = as_sizes(shape)
        if -1 in sizes:
            known = math.prod(n for n in sizes if n != -1)
            total = math.prod(self.shape)
            if sizes.count(-1) > 1 or known == 0 or total % known:
                raise ShapeError(
                    f"shape {self.shape} cannot be reshaped to {sizes}.",
                    "At most one size may be -1, and the others must divide the elements.",
                )
            sizes = tuple(total // known if n == -1 else n for n in sizes)
        if math.prod(sizes) != math.prod(self._shape):
            raise ShapeError(
                f"shape {self.shape} has {math.prod(self.shape)} elements and cannot be reshaped "
                f"to {sizes} with {math.prod(sizes)}.",
                "Give sizes with the same product; one may be -1.",
            )
        with source_scope(label="reshape"):
            if are_same(sizes, self._shape):
                return self._again()
            moves = not are_same(_without_ones(sizes), _without_ones(self._shape))
            return self._view(Op.RESHAPE, when if moves else When.ALWAYS, shape=sizes)

    def _again(self: Any, when: When = When.ALWAYS) -> Tensor:
        """A view of all of it: another tensor, as PyTorch's is, with the same values."""
        if self.requires_grad and not is_grad_enabled():
            return self._view(Op.RESHAPE, when, shape=self.shape)
        storage = self._storage if tracer() is None else None  # made by the trace, and not old
        same = self._of(self._node, self.device, storage)
        same._requires_grad = self._requires_grad
        if same._requires_grad:
            give_gradient_of_its_own(same)
        return join(self, same, Step(Op.RESHAPE, (("shape", self._node.shape),), when))

    def permute(self, *dims: Any) -> Tensor:
        """Axes in another order."""
        rank = len(self.shape)
        axes = tuple(normal_axis(d, rank) for d in as_sizes(dims))
        if sorted(axes) != list(range(rank)):
            raise ShapeError(
                f"permute of shape {self.shape} by {as_sizes(dims)}.", "Name each axis once."
            )
        with source_scope(label="permute"):
            return self._view(Op.PERMUTE, axes=axes)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes exchanged."""
        rank = len(self.shape)
        axes = list(range(rank))
        a, b = normal_axis(dim0, rank), normal_axis(dim1, rank)
        if rank:
            axes[a], axes[b] = axes[b], axes[a]
        return self.permute(axes) if rank else self._again()

    def t(self) -> Tensor:
        """A matrix transposed; fewer axes as they are."""
        if len(self.shape) > 2:
            raise ShapeError(f"t() of shape {self.shape}.", "Use .transpose(dim0, dim1).")
        return self.transpose(0, 1) if len(self.shape) == 2 else self._again()

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return self.permute(tuple(reversed(range(len(self.shape)))))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.transpose(-2, -1)

    def expand(self, *sizes: Any) -> Tensor:
        """Axes of size 1 repeated; -1 keeps a size, new axes come first."""
        wanted = as_sizes(sizes)
        lead = len(wanted) - len(self.shape)
        shape = tuple(
            self.shape[a - lead] if n == -1 and a >= lead else n for a, n in enumerate(wanted)
        )
        with source_scope(label="expand"):
            if are_same(shape, self.shape):
                return self._again()
            return self._view(Op.EXPAND, shape=shape)

    def expand_as(self, other: Tensor) -> Tensor:
        return self.expand(other.shape)

    def squeeze(self, dim: int | Sequence[int] | None = None) -> Tensor:
        """Without axes of size 1 (of those named)."""
        axes = () if dim == () else normal_axes(dim, len(self.shape))
        shape = (n for a, n in enumerate(self.shape) if a not in axes or n != 1)
        return self.reshape(tuple(shape))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of size 1 at `dim`."""
        axis = normal_axis(dim, len(self.shape) + 1)
        return self.reshape((*self.shape[:axis], 1, *self.shape[axis:]))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """Axes from start_dim to end_dim, both included, made one."""
        rank = len(self.shape)
        if not rank:
            return self.reshape(1)
        first, last = normal_axis(start_dim, rank), normal_axis(end_dim, rank)
        if first > last:
            raise ShapeError(f"flatten from axis {first} to {last}.", "Name the first axis first.")
        if first == last:
            return self  # type: ignore[return-value]
        middle = math.prod(self.shape[first : last + 1])
        return self.reshape((*self.shape[:first], middle, *self.shape[last + 1 :]))

    def flip(self, *args: Any, dims: Sequence[int] | None = None) -> Tensor:
        """Axes in reverse, given as numbers or as one sequence."""
        dims = args if dims is None else (dims,)
        axes = normal_axes(as_sizes(dims), len(self.shape)) if as_sizes(dims) else ()
        with source_scope(label="flip"):
            return self._apply(Op.FLIP, axes=axes if self.shape else ())

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """`length` elements of an axis from `start`."""
        if not self.shape:
            raise ShapeError("narrow of a tensor with no axes.")
        axis, start, length = normal_axis(dim, len(self.shape)), as_size(start), as_size(length)
        n = self.shape[axis]
        begin = start + n if start < 0 else start
        if not (0 <= begin <= n and 0 <= length <= n - begin):
            raise ShapeError(
                f"narrow to {length} from {start} of an axis of size {n}.",
                f"Stay within the axis: start + length is at most {n}.",
            )
        return self._slice({axis: (begin, begin + length, 1)})

    def _slice(self, ranges: dict[int, tuple[int, int, int]]) -> Tensor:
        shape = self.shape
        if running_scope() is not None and is_sized(*shape, *chain(*ranges.values())):
            return sliced(self, ranges)
        bounds = [ranges.get(a, (0, n, 1)) for a, n in enumerate(shape)]
        start, stop, step = zip(*bounds) if bounds else ((), (), ())
        with source_scope(label="slice"):
            return self._view(Op.SLICE, start=start, stop=stop, step=step)

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of an axis, of one size (the last may be smaller) or of given sizes."""
        axis = normal_axis(dim, len(self.shape))
        n = self.shape[axis]
        if isinstance(split_size, int):
            if split_size <= 0:
                raise ShapeError(f"split into pieces of {split_size}.", "Give a positive size.")
            sizes = [min(split_size, n - a) for a in range(0, n, split_size)] or [0]
        else:
            sizes = list(split_size)
            if sum(sizes) != n:
                raise ShapeError(
                    f"split sizes {sizes} do not add up to {n}.",
                    "Give sizes whose sum is that of the axis.",
                )
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        return tuple(self.narrow(axis, a, size) for a, size in zip(starts, sizes))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of an axis, of equal size but for the last."""
        n = self.shape[normal_axis(dim, len(self.shape))]
        if chunks < 1:
            raise ShapeError(f"chunk into {chunks} pieces.", "Give 1 or more.")
        if isinstance(n, int) and n == 0:
            return tuple(self.narrow(dim, 0, 0) for _ in range(chunks))
        return self.split(max(-(-n // chunks), 1), dim)

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along an axis, without it."""
        axis = normal_axis(dim, len(self.shape))
        return tuple(self.narrow(axis, i, 1).squeeze(axis) for i in range(self.shape[axis]))

    def _pad_zero(self, low: Sequence[int], high: Sequence[int]) -> Tensor:
        """Zeros before and after each axis."""
        with source_scope(label="pad"):
            return self._apply(Op.PAD, low=tuple(low), high=tuple(high))

    def _window(self, axis: int, size: int, stride: int, dilation: int) -> Tensor:
        """Overlapping windows of an axis; the position in the window becomes the last axis."""
        with source_scope(label="unfold"):
            if is_sized(self._shape[axis]) and self._shape[axis] <= dilation * (size - 1):
                raise window_misfit(self._shape, axis, size, dilation)
            return self._view(Op.WINDOW, axis=axis, size=size, stride=stride, dilation=dilation)

    def unfold(self, dimension: int, size: int, step: int) -> Tensor:
        """Windows of `size` elements, `step` apart, as the last axis."""
        x: Any = self if self.shape else self.reshape(1)
        window = x._window(normal_axis(dimension, len(x.shape)), size, step, 1)
        return window if self.shape else window.reshape(size)
