"""Methods of Tensor that give it new values.

In: a tensor and values. Out: the same tensor, rebound to new graph. Invariant: no Node changes, so
whatever was computed from the old values keeps them, as PyTorch's results do; where PyTorch's would
change as well (views), it raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgrad.errors import DTypeError, ShapeError
from tgrad.graph.node import source_scope
from tgrad.methods.sizes import are_same

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
        """self[index] = value, for every index that can be read."""
        from tgrad.tensor import Tensor, tensor

        with source_scope(label="setitem"):
            if not isinstance(value, Tensor):
                value = tensor(value, dtype=self.dtype, device=self.device)
            value = value.to(self.device).to(self.dtype)
            if isinstance(index, Tensor) and index.dtype.is_bool and value.numel() == 1:
                self._assign(self._with_masked(index, value))
            else:
                self._assign(self._with_index(self._index(index), value, "set"))

    def _with_masked(self: Any, mask: Tensor, value: Tensor) -> Tensor:
        """One value where a mask holds; nothing is read."""
        if not are_same(mask.shape, self.shape[: mask.ndim]):
            raise ShapeError(f"a mask of shape {mask.shape} for a tensor of shape {self.shape}.")
        wide = mask.reshape((*mask.shape, *(1,) * (self.ndim - mask.ndim)))
        return value.reshape(()).where(wide, self)
