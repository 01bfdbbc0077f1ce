"""Methods of Tensor that make others of its dtype and device.

In: sizes and numbers. Out: lazy tensors. Invariant: values do not depend on the tensor's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tgrad.errors import UnsupportedError

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

    def new_empty_strided(self: Any, size: Any, stride: Any, **options: Any) -> Tensor:
        """`tgrad.empty_strided`."""
        from tgrad.creation import empty_strided

        return empty_strided(size, stride, **self._like(options))

    def new(self: Any, *data: Any, **options: Any) -> Tensor:
        """PyTorch's older constructor: of nested numbers, or of these sizes, with any values.

        >>> import tgrad
        >>> x = tgrad.ones(2, dtype=tgrad.float64)
        >>> x.new(2, 3).shape, x.new([1, 2]).tolist(), x.new(2).dtype
        ((2, 3), [1.0, 2.0], tgrad.float64)

        Raises:
            UnsupportedError: of one tuple, which PyTorch takes for sizes only if it is a Size.
        """
        if len(data) == 1 and isinstance(data[0], tuple):
            raise UnsupportedError(
                f"new({data[0]}): sizes or values.", "Use new_empty(sizes) or new_tensor(values)."
            )
        if len(data) != 1 or isinstance(data[0], int):
            return self.new_zeros(*data or (0,), **options)
        return self.new_tensor(data[0], **options)

    def new_tensor(self: Any, data: Any, **options: Any) -> Tensor:
        """A tensor with a copy of data."""
        from tgrad.tensor import tensor

        return tensor(data, **self._like(options))

    def _like(self: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Options with this tensor's dtype and device where none are given."""
        mine = {"dtype": self.dtype, "device": self.device}
        return {**options, **{k: v for k, v in mine.items() if options.get(k) is None}}
