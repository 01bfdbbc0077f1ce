"""Movement methods of Tensor that are written with others: repeats, diagonals, windows, strides.

In: a tensor. Out: lazy tensors of the same elements. Invariant: index arithmetic only, but for
`as_strided` and `repeat_interleave` by a tensor, which gather.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad import dtype as dt
from tgrad.aliases import CLOSED, DETACH, Step, is_contiguous_base, is_part, join, own_memory
from tgrad.errors import ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.graph.size import running_scope
from tgrad.graph.sized import sized
from tgrad.methods.movement import as_sizes
from tgrad.methods.reduction import normal_axis
from tgrad.methods.sizes import diagonal_of, is_sized
from tgrad.strides import memory_order

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Dims = int | Sequence[int]


class ArrangementMethods:
    """Other arrangements of the same elements."""

    __slots__ = ()

    def unflatten(self: Any, dim: int, sizes: Sequence[int]) -> Tensor:
        """One axis made several; one of the sizes may be -1."""
        axis = normal_axis(dim, len(self.shape))
        given = list(sizes)
        if -1 in given:
            known = math.prod(n for n in given if n != -1)
            given[given.index(-1)] = self.shape[axis] // max(known, 1)
        return self.reshape((*self.shape[:axis], *given, *self.shape[axis + 1 :]))

    def ravel(self: Any) -> Tensor:
        """All elements as a vector."""
        return self.reshape(-1)

    def view_as(self: Any, other: Tensor) -> Tensor:
        """In the shape of another."""
        return self.view(other.shape)

    def reshape_as(self: Any, other: Tensor) -> Tensor:
        """In the shape of another."""
        return self.reshape(other.shape)

    def broadcast_to(self: Any, *size: Any) -> Tensor:
        """`expand`."""
        return self.expand(*size)

    def sum_to_size(self: Any, *size: Any) -> Tensor:
        """Summed over the axes that expanding from `size` would make; integers are int64.

        Raises:
            ShapeError: `size` does not expand to this shape.
        """
        wanted = as_sizes(size)
        lead = len(self.shape) - len(wanted)
        padded = (1,) * lead + wanted
        if lead < 0 or any(m not in (1, n) for m, n in zip(padded, self.shape)):
            raise ShapeError(f"sum_to_size of shape {self.shape} to {wanted}.")
        axes = [a for a, (m, n) in enumerate(zip(padded, self.shape)) if m != n]
        same = self if self.dtype.is_float else self.to(dt.int64)
        summed = self.sum(axes) if axes else same
        return summed.reshape(wanted)

    # -- repeats --------------------------------------------------------------------------------

    def roll(self: Any, shifts: Dims, dims: Dims | None = None) -> Tensor:
        """Elements moved along axes, round the end; along all elements where dims is left out."""
        with source_scope(label="roll"):
            if dims is None or dims == ():
                return self.flatten().roll(shifts, 0).reshape(self.shape)
            steps = (shifts,) if isinstance(shifts, int) else tuple(shifts)
            axes = (dims,) if isinstance(dims, int) else tuple(dims)
            if len(steps) != len(axes):
                raise ShapeError(f"roll by {shifts} along {dims}.", "Give one shift an axis.")
            x = self
            for step, dim in zip(steps, axes):
                axis = normal_axis(dim, len(x.shape))
                n = x.shape[axis] if x.shape else 0
                if is_sized(n):
                    from tgrad.creation import places

                    x = x.index_select(axis, (places((n,), 0, device=x.device) - step) % n)
                elif n and step % n:
                    twice = x.unsqueeze(axis).expand(*x.shape[:axis], 2, *x.shape[axis:])
                    twice = twice.reshape((*x.shape[:axis], 2 * n, *x.shape[axis + 1 :]))
                    x = twice.narrow(axis, n - step % n, n)
            return self.clone() if x is self else x

    def repeat(self: Any, *sizes: Any) -> Tensor:
        """The whole tensor repeated along each axis; new axes come first."""
        counts = as_sizes(sizes)
        lead = len(counts) - len(self.shape)
        if lead < 0:
            raise ShapeError(
                f"repeat by {counts} of shape {self.shape}.", "Give at least one number an axis."
            )
        with source_scope(label="repeat"):
            shape = (1,) * lead + self.shape
            apart = [size for n in shape for size in (1, n)]
            wide = [size for count, n in zip(counts, shape) for size in (count, n)]
            made = self.reshape(apart).expand(wide).reshape([c * n for c, n in zip(counts, shape)])
            return own_memory(made, self)

    def tile(self: Any, *dims: Any) -> Tensor:
        """`repeat`, with 1 for the first axes where fewer numbers than axes are given."""
        counts = as_sizes(dims)
        return self.repeat((1,) * (len(self.shape) - len(counts)) + counts)

    def repeat_interleave(
        self: Any, repeats: Any, dim: int | None = None, *, output_size: int | None = None
    ) -> Tensor:
        """Each element repeated, along an axis, or along all elements.

        Args:
            repeats: a number, or a tensor of one number an element, whose values are read.
            dim: the axis.
            output_size: accepted; the size follows from `repeats`.
        """
        from tgrad.tensor import Tensor, tensor

        x = self.flatten() if dim is None else self
        axis = normal_axis(dim or 0, len(x.shape))
        with source_scope(label="repeat_interleave"):
            if isinstance(repeats, Tensor):
                counts = np.broadcast_to(repeats.numpy(), (x.shape[axis],))
                rows = tensor(np.repeat(np.arange(x.shape[axis]), counts), device=self.device)
                return x.index_select(axis, rows)
            shape = x.shape or (1,)
            apart = x.reshape(shape).unsqueeze(axis + 1)
            apart = apart.expand(*shape[: axis + 1], repeats, *shape[axis + 1 :])
            made = apart.reshape((*shape[:axis], shape[axis] * repeats, *shape[axis + 1 :]))
            return own_memory(made, self)

    # -- axes -----------------------------------------------------------------------------------

    def movedim(self: Any, source: Dims, destination: Dims) -> Tensor:
        """Axes moved to other places; the others keep their order."""
        rank = len(self.shape)
        sources = (source,) if isinstance(source, int) else tuple(source)
        places = (destination,) if isinstance(destination, int) else tuple(destination)
        if len(sources) != len(places):
            raise ShapeError(f"movedim of {source} to {destination}.", "Give as many places.")
        target = dict(
            zip((normal_axis(d, rank) for d in places), (normal_axis(d, rank) for d in sources))
        )
        rest = iter(a for a in range(rank) if a not in target.values())
        return self.permute([target[a] if a in target else next(rest) for a in range(rank)])

    moveaxis = movedim

    def swapaxes(self: Any, axis0: int, axis1: int) -> Tensor:
        """`transpose`."""
        return self.transpose(axis0, axis1)

    swapdims = swapaxes

    def adjoint(self: Any) -> Tensor:
        """`mT`."""
        return self.mT

    @property
    def H(self: Any) -> Tensor:
        """A matrix transposed."""
        return self.t()

    @property
    def mH(self: Any) -> Tensor:
        """The last two axes exchanged."""
        return self.mT

    def fliplr(self: Any) -> Tensor:
        """Axis 1 in reverse."""
        return self.flip(1)

    def flipud(self: Any) -> Tensor:
        """Axis 0 in reverse."""
        return self.flip(0)

    def rot90(self: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
        """Turned by k times 90 degrees, from the first axis of `dims` to the second."""
        first, second = dims
        if k % 4 == 0:
            return self.clone()
        if k % 4 == 2:
            return self.flip(first, second)
        turned = self.transpose(first, second)
        return turned.flip(first if k % 4 == 1 else second)

    # -- triangles and diagonals ----------------------------------------------------------------

    def tril(self: Any, diagonal: int = 0) -> Tensor:
        """The last two axes as a matrix, zero above a diagonal."""
        return self._triangle(diagonal, "tril")

    def triu(self: Any, diagonal: int = 0) -> Tensor:
        """The last two axes as a matrix, zero below a diagonal."""
        return self._triangle(diagonal, "triu")

    def _triangle(self: Any, diagonal: int, name: str) -> Tensor:
        rank = len(self.shape)
        if rank < 2:
            raise ShapeError(f"{name} of shape {self.shape}.", "It needs at least two axes.")
        with source_scope(label=name):
            row, column = (self._places(a) for a in (rank - 2, rank - 1))
            limit = row + diagonal
            kept = column <= limit if name == "tril" else column >= limit
            return self.where(kept, self._constant(0, self.dtype))

    def _places(self: Any, axis: int) -> Tensor:
        """The place of each element along an axis (int64)."""
        from tgrad.tensor import Tensor

        node = sized(Op.IOTA, shape=self.shape, axis=axis, dtype=dt.int64)
        return Tensor._of(node, self.device)

    def diagonal(self: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
        """The diagonal of two axes, as the last axis."""
        rank = len(self.shape)
        a, c = normal_axis(dim1, rank), normal_axis(dim2, rank)
        if rank < 2 or a == c:
            raise ShapeError(f"diagonal of axes {dim1} and {dim2} of shape {self.shape}.")
        with source_scope(label="diagonal"):
            x = self.permute(*(d for d in range(rank) if d not in (a, c)), a, c)
            rows, columns = max(-offset, 0), max(offset, 0)
            if is_sized(*x.shape[-2:]):
                return diagonal_of(x, rows, columns)
            n = max(min(x.shape[-2] - rows, x.shape[-1] - columns), 0)
            if not n:
                return x.reshape(-1)[:0].reshape((*x.shape[:-2], 0))
            width = x.shape[-1]
            flat = x.narrow(-2, rows, n).view(*x.shape[:-2], n * width)
            last = columns + (n - 1) * (width + 1)
            return flat[..., columns : last + 1 : width + 1]

    def diag_embed(self: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
        """The last axis as a diagonal of two new axes, zeros elsewhere."""
        rank = len(self.shape) + 1
        a, c = normal_axis(dim1, rank), normal_axis(dim2, rank)
        with source_scope(label="diag_embed"):
            n = self.shape[-1]
            wide = self.unsqueeze(-1).expand(*self.shape, n)
            zero = self._constant(0, self.dtype)
            square = wide.where(wide._places(rank - 2) == wide._places(rank - 1), zero)
            before = [0] * (rank - 2)
            low, high = (max(-offset, 0), max(offset, 0)), (max(offset, 0), max(-offset, 0))
            padded = square._pad_zero([*before, *low], [*before, *high])
            return padded.movedim((-2, -1), (a, c))

    def diag(self: Any, diagonal: int = 0) -> Tensor:
        """The matrix of a diagonal, or the diagonal of a matrix."""
        if len(self.shape) == 1:
            return self.diag_embed(diagonal)
        if len(self.shape) != 2:
            raise ShapeError(f"diag of shape {self.shape}.", "Give a vector or a matrix.")
        return self.diagonal(diagonal)

    def diagflat(self: Any, offset: int = 0) -> Tensor:
        """The matrix whose diagonal holds all elements."""
        return self.flatten().diag_embed(offset)

    def trace(self: Any) -> Tensor:
        """The sum of a matrix's diagonal."""
        if len(self.shape) != 2:
            raise ShapeError(f"trace of shape {self.shape}.", "Give a matrix.")
        return self.diagonal().sum()

    # -- pieces ---------------------------------------------------------------------------------

    def tensor_split(self: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of an axis: so many, as equal as can be, or cut at the given places."""
        from tgrad.tensor import Tensor

        axis = normal_axis(dim, len(self.shape))
        n, cuts = self.shape[axis], indices_or_sections
        cuts = cuts.tolist() if isinstance(cuts, Tensor) else cuts
        if isinstance(cuts, int):
            size, larger = divmod(n, cuts)
            return self.split([size + 1] * larger + [size] * (cuts - larger), axis)
        ends = [min(max(c + n if c < 0 else c, 0), n) for c in cuts]
        pieces = zip([0, *ends], [*ends, n])
        return tuple(self.narrow(axis, a, max(b - a, 0)) for a, b in pieces)

    def hsplit(self: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """`tensor_split` along axis 1, or 0 of a vector."""
        return self.tensor_split(indices_or_sections, 1 if len(self.shape) > 1 else 0)

    def vsplit(self: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """`tensor_split` along axis 0."""
        return self.tensor_split(indices_or_sections, 0)

    def dsplit(self: Any, indices_or_sections: Any) -> tuple[Tensor, ...]:
        """`tensor_split` along axis 2."""
        return self.tensor_split(indices_or_sections, 2)

    def split_with_sizes(self: Any, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """`split` by a list of sizes."""
        return self.split(list(split_sizes), dim)

    def unsafe_split(self: Any, split_size: Dims, dim: int = 0) -> tuple[Tensor, ...]:
        """`split`."""
        return self.split(split_size, dim)

    def unsafe_chunk(self: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """`chunk`."""
        return self.chunk(chunks, dim)

    def as_strided(
        self: Any, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
    ) -> Tensor:
        """out[i, j, ..] = elements[offset + i * stride[0] + j * stride[1] + ..].

        Elements count as they lie in PyTorch's memory, from this tensor's first one: those of a
        transposed tensor are in the order of its columns. A view of which several elements are one
        in memory does not change in place.

        Raises:
            UnsupportedError: this is a view between whose elements others lie, or from a later
                element on and an offset is given, which would count from the start of the memory.

        >>> import tgrad
        >>> tgrad.arange(6).view(2, 3).t().as_strided((2, 2), (3, 1)).tolist()
        [[0, 1], [3, 4]]
        """
        with source_scope(label="as_strided"):
            order, offset = self._memory_order(storage_offset), storage_offset or 0
            view = self.permute(order)._strided(size, stride, offset)
            if running_scope() is not None or not view.numel():
                return self._share(view, CLOSED)
            attrs = ("offset", offset), ("size", tuple(size)), ("stride", tuple(stride))
            in_order, flat = (("axes", order),), (("shape", (self.numel(),)),)
            steps = [Step(Op.PERMUTE, in_order), Step(Op.RESHAPE, flat), Step(Op.GATHER, attrs)]
            is_apart = self._requires_grad and not view._requires_grad
            return join(self, view, *steps, *([DETACH] if is_apart else []))

    def _strided(self: Any, size: Sequence[int], stride: Sequence[int], offset: int) -> Tensor:
        """`as_strided` of elements that lie row by row."""
        flat = self.reshape(-1)
        places = flat._strided_places(size, stride, offset)
        picked: Tensor = flat.index_select(0, places.reshape(-1)).reshape(tuple(size))
        return picked

    def _memory_order(self: Any, offset: int | None) -> tuple[int, ...]:
        """The axes in the order of PyTorch's memory, where a caller begins at an offset."""
        axes = tuple(range(len(self.shape)))
        order = axes if is_contiguous_base(self) else memory_order(self.shape, self.stride())
        if order is None or (offset is not None and is_part(self)):
            raise UnsupportedError(
                f"as_strided of a view of shape {self.shape} that is a part of its memory"
                + (", with an offset, which counts from the start of that." if order else "."),
                "Use as_strided of the tensor that it views, or of .contiguous().",
            )
        return order

    def _strided_places(self: Any, size: Sequence[int], stride: Sequence[int], offset: int) -> Any:
        """The row-major place that each element of a strided view reads."""
        place = self._constant(offset, dt.int64).expand(tuple(size))
        for axis, step in enumerate(stride):
            place = place + place._places(axis) * step
        return place
