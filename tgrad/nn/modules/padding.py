"""Padding as modules.

In: how many elements to add at each end of the last axes, the last axis first; one number for all.
Out: modules without parameters. Invariant: each is `tgrad.nn.functional.pad` in its mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tgrad.nn import functional as F
from tgrad.nn.module import Module
from tgrad.tensor import Tensor


class _Pad(Module):
    """Padding of the last `rank` axes."""

    rank: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: int | Sequence[int]):
        super().__init__()
        ends = 2 * self.rank
        self.padding = (padding,) * ends if isinstance(padding, int) else tuple(padding)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """`value` at both ends of the last axis."""

    rank, mode = 1, "constant"

    def __init__(self, padding: int | Sequence[int], value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """`value` around the last two axes."""

    rank = 2


class ConstantPad3d(ConstantPad1d):
    """`value` around the last three axes."""

    rank = 3


class ZeroPad1d(_Pad):
    """Zeros at both ends of the last axis."""

    rank, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Zeros around the last two axes."""

    rank, mode = 2, "constant"


class ZeroPad3d(_Pad):
    """Zeros around the last three axes."""

    rank, mode = 3, "constant"


class ReflectionPad1d(_Pad):
    """The last axis mirrored at its first and last element."""

    rank, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The last two axes mirrored at their first and last elements."""

    rank, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The last three axes mirrored at their first and last elements."""

    rank, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The first and last element of the last axis repeated."""

    rank, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The first and last elements of the last two axes repeated."""

    rank, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The first and last elements of the last three axes repeated."""

    rank, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The last axis continued from its other end."""

    rank, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The last two axes continued from their other ends."""

    rank, mode = 2, "circular"


class CircularPad3d(_Pad):
    """The last three axes continued from their other ends."""

    rank, mode = 3, "circular"
