"""How weights of convolutions lie, as PyTorch has it.

In: a module and a memory format. Out: the module. Invariant: values and shapes stay what they are;
plans choose layouts by themselves.
"""

from __future__ import annotations

from typing import Any, TypeVar

from tgrad.arguments import check_memory_format
from tgrad.nn.module import Module

T = TypeVar("T", bound=Module)


def convert_conv2d_weight_memory_format(module: T, memory_format: Any) -> T:
    """The module itself: PyTorch lays the weights of its convolutions of images out so.

    Raises:
        UnsupportedError: there is no such memory format.

    >>> import tgrad
    >>> net = tgrad.nn.Conv2d(1, 2, 3)
    >>> convert_conv2d_weight_memory_format(net, tgrad.channels_last) is net
    True
    """
    check_memory_format("convert_conv2d_weight_memory_format", memory_format)
    return module


def convert_conv3d_weight_memory_format(module: T, memory_format: Any) -> T:
    """The module itself, as `convert_conv2d_weight_memory_format`."""
    check_memory_format("convert_conv3d_weight_memory_format", memory_format)
    return module
