"""`torch.types`' names, for annotations.

In: nothing. Out: types. Invariant: nothing is defined here.
"""

import builtins
from collections.abc import Sequence

from tgrad import device, dtype
from tgrad.methods.memory import UntypedStorage as Storage
from tgrad.tensor import Tensor as Tensor

_int, _float, _bool = builtins.int, builtins.float, builtins.bool
_size = Sequence[int] | list[int] | tuple[int, ...]
_dtype, _device, _layout = dtype.DType, device, str
Number = int | float | bool
Device = _device | str | int | None
Size = tuple

__all__ = ["Device", "Number", "Size", "Storage", "Tensor"]
