"""Methods of Tensor that give it new values.

In: a tensor and values. Out: the same tensor, rebound to new graph. Invariant: no Node changes, so
whatever was computed from the old values keeps them, as PyTorch's results do; where PyTorch's would
change as well (views), it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.graph.node import source_scope
from tgrad.graph.op import Op
from tgrad.methods.elementwise import broadcast_shapes
from tgrad.methods.sizes import Range, are_same, is_sized, is_whole, length_of, placed

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Number = bool | int | float


class InPlaceMethods:
    """Methods whose names end in an underscore, and assignment to an index."""

    __slots__ = ()

    def _update(self: Any, value: Tensor, name: str) -> Tensor:
        """`_assign` of a result that must fit: PyTorch casts down within a category only.

        Raises:
            DTypeError: a float result for integers, or a number for bools.
            ShapeError: the result is larger.
        """
        order = {"b": 0, "u": 1, "i": 1, "f": 2}
        if order[value.dtype.kind] > order[self.dtype.kind]:
            raise DTypeError(
                f"{name} gives {value.dtype.name}, which does not fit {self.dtype.name}.",
                "Convert the tensor first, or use the function without the underscore.",
            )
        if not are_same(value.shape, self.shape):
            raise ShapeError(
                f"{name} gives shape {value.shape}, which does not fit shape {self.shape}.",
                "In place, only the other operand is broadcast.",
            )
        return self._assign(value)

    def copy_(self: Any, src: Tensor, non_blocking: bool = False) -> Tensor:
        """Take the values of `src`, broadcast and cast."""
        return self._assign(src.to(self.device).expand(self.shape))

    def zero_(self: Any) -> Tensor:
        """Set all elements to zero."""
        return self.fill_(0)

    def fill_(self: Any, value: Number | Tensor) -> Tensor:
        """Set all elements to a number."""
        from tgrad.tensor import Tensor

        if isinstance(value, Tensor):
            return self.copy_(value)
        return self._assign(self._constant(value, self.dtype).expand(self.shape))

    def add_(self: Any, other: Any, *, alpha: Number = 1) -> Tensor:
        """self += alpha * other."""
        return self._update(self.add(other, alpha=alpha), "add_")

    def sub_(self: Any, other: Any, *, alpha: Number = 1) -> Tensor:
        """self -= alpha * other."""
        return self._update(self.sub(other, alpha=alpha), "sub_")

    def mul_(self: Any, other: Any) -> Tensor:
        """self *= other."""
        return self._update(self * other, "mul_")

    def div_(self: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
        """self /= other."""
        return self._update(self.div(other, rounding_mode=rounding_mode), "div_")

    def pow_(self: Any, exponent: Any) -> Tensor:
        """self **= exponent."""
        return self._update(self**exponent, "pow_")

    def neg_(self: Any) -> Tensor:
        return self._update(-self, "neg_")

    def exp_(self: Any) -> Tensor:
        return self._update(self.exp(), "exp_")

    def sqrt_(self: Any) -> Tensor:
        return self._update(self.sqrt(), "sqrt_")

    def relu_(self: Any) -> Tensor:
        return self._update(self.relu(), "relu_")

    def sigmoid_(self: Any) -> Tensor:
        return self._update(self.sigmoid(), "sigmoid_")

    def tanh_(self: Any) -> Tensor:
        return self._update(self.tanh(), "tanh_")

    def clamp_(self: Any, min: Any = None, max: Any = None) -> Tensor:
        return self._update(self.clamp(min, max), "clamp_")

    def lerp_(self: Any, end: Tensor, weight: Any) -> Tensor:
        return self._update(self.lerp(end, weight), "lerp_")

    def addcmul_(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
        return self._update(self.addcmul(tensor1, tensor2, value=value), "addcmul_")

    def addcdiv_(self: Any, tensor1: Tensor, tensor2: Tensor, *, value: Number = 1) -> Tensor:
        return self._update(self.addcdiv(tensor1, tensor2, value=value), "addcdiv_")

    def masked_fill_(self: Any, mask: Tensor, value: Number) -> Tensor:
        return self._update(self.masked_fill(mask, value), "masked_fill_")

    def scatter_(self: Any, dim: int, index: Tensor, src: Any) -> Tensor:
        return self._update(self.scatter(dim, index, src), "scatter_")

    def scatter_add_(self: Any, dim: int, index: Tensor, src: Tensor) -> Tensor:
        return self._update(self.scatter_add(dim, index, src), "scatter_add_")

    def uniform_(
        self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Any = None
    ) -> Tensor:
        """Uniform in [from_, to)."""
        from tgrad.random import rand_like

        draw = rand_like(self, generator=generator)
        return self._update(draw * (to - from_) + from_, "uniform_")

    def normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
        """Normal with that mean and standard deviation."""
        from tgrad.random import randn_like

        return self._update(randn_like(self, generator=generator) * std + mean, "normal_")

    __iadd__ = add_
    __isub__ = sub_
    __imul__ = mul_

    def __itruediv__(self: Any, other: Any) -> Tensor:
        return self.div_(other)

    # -- assignment to an index -----------------------------------------------------------------

    def __setitem__(self: Any, index: Any, value: Any) -> None:
        """self[index] = value, for slices, integers, None, ..., one integer tensor, or a mask.

        Raises:
            UnsupportedError: several tensors, or a mask with other indices.
        """
        from tgrad.tensor import Tensor, tensor

        with source_scope(label="setitem"):
            if not isinstance(value, Tensor):
                value = tensor(value, dtype=self.dtype, device=self.device)
            value = value.to(self.device).to(self.dtype)
            if isinstance(index, Tensor) and index.dtype.is_bool:
                self._assign(self._with_masked(index, value))
                return
            items = self._items(index)
            tensors = [i for i in items if isinstance(i, Tensor)]
            if not tensors:
                self._assign(self._with_slice(items, value))
                return
            whole = all(i is tensors[0] or i == slice(None) for i in items)
            if len(tensors) > 1 or not whole:
                raise UnsupportedError(
                    "assignment to an index with a tensor and others.",
                    "Use one tensor and full slices, or scatter().",
                )
            axis = next(a for a, i in enumerate(items) if i is tensors[0])
            self._assign(self._with_rows(tensors[0], axis, value))

    def _with_masked(self: Any, mask: Tensor, value: Tensor) -> Tensor:
        if not are_same(mask.shape, self.shape[: mask.ndim]):
            raise ShapeError(f"a mask of shape {mask.shape} for a tensor of shape {self.shape}.")
        if value.numel() != 1:
            raise UnsupportedError(
                "assignment of many values to a mask.", "Assign one, or use where()."
            )
        wide = mask.reshape((*mask.shape, *(1,) * (self.ndim - mask.ndim)))
        return value.reshape(()).where(wide, self)

    def _with_slice(self: Any, items: list[Any], value: Tensor) -> Tensor:
        """Zeros around the value, chosen where its place is."""
        ranges = self._ranges([i for i in items if i is not None])
        picked = self._pick(items).shape
        if not are_same(broadcast_shapes(picked, value.shape), picked):
            raise ShapeError(f"values of shape {value.shape} assigned to shape {picked}.")
        counts = [length_of(r) for r in ranges]
        if is_sized(*(bound for r in ranges for bound in r), *self.shape):
            return self._with_sized_slice(ranges, value.expand(picked).reshape(counts))
        if 0 in counts:
            return self
        value = value.expand(picked).reshape(counts)
        inside = value._constant(1, dt.bool_).expand(counts)
        placed, chosen = (self._placed(t, ranges) for t in (value, inside))
        return placed.where(chosen, self)

    def _with_sized_slice(self: Any, ranges: list[Range], value: Tensor) -> Tensor:
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
        return value if chosen is None else value.where(chosen, self)

    def _placed(self: Any, t: Tensor, ranges: list[tuple[int, int, int]]) -> Tensor:
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

    def _with_rows(self: Any, index: Tensor, axis: int, value: Tensor) -> Tensor:
        """Rows of an axis replaced; of equal indices, one wins."""
        rows = index.reshape(-1)
        shape = (*self.shape[:axis], *index.shape, *self.shape[axis + 1 :])
        if broadcast_shapes(shape, value.shape) != shape:
            raise ShapeError(f"values of shape {value.shape} assigned to shape {shape}.")
        n = rows.shape[0]
        source = value.expand(shape).reshape(*self.shape[:axis], n, *self.shape[axis + 1 :])
        size = self.shape[axis]
        positive = (rows + size).where(rows < 0, rows)
        column = positive.reshape([n if a == axis else 1 for a in range(self.ndim)])
        wide = column.expand(source.shape)
        return self._apply(Op.SCATTER, wide, source, axis=axis, combine="set")
