"""Methods of Tensor that make others of its dtype and device.

In: sizes and numbers. Out: lazy tensors. Invariant: values do not depend on the tensor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class NewMethods:
    """`new_*`: tensors of the same dtype and device; options as those of `tgrad.full`."""

    __slots__ = ()

    def new_full(self: Any, size: Any, fill_value: Any, **options: Any) -> Tensor:
        """A tensor of one number."""
        from tgrad.creation import full

        return full(size, fill_value, **self._like(options))

    def new_zeros(self: Any, *size: Any, **options: Any) -> Tensor:
        """Zeros."""
        from tgrad.creation import zeros

        return zeros(*size, **self._like(options))

    def new_ones(self: Any, *size: Any, **options: Any) -> Tensor:
        """Ones."""
        from tgrad.creation import ones

        return ones(*size, **self._like(options))

    def new_empty(self: Any, *size: Any, **options: Any) -> Tensor:
        """Zeros: values that do not matter."""
        return self.new_zeros(*size, **options)

    def new_tensor(self: Any, data: Any, **options: Any) -> Tensor:
        """A tensor with a copy of data."""
        from tgrad.tensor import tensor

        return tensor(data, **self._like(options))

    def _like(self: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Options with this tensor's dtype and device where none are given."""
        mine = {"dtype": self.dtype, "device": self.device}
        return {**options, **{k: v for k, v in mine.items() if options.get(k) is None}}
