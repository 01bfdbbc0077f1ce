"""Layers, one file a family.

In: nothing. Out: modules. Invariant: PyTorch's class names, arguments and parameter names.
"""

from __future__ import annotations

from typing import Any

from tgrad.nn.modules import batchnorm as batchnorm
from tgrad.nn.modules import conv as conv
from tgrad.nn.modules import instancenorm as instancenorm
from tgrad.nn.modules import lazy as lazy
from tgrad.nn.modules import module as module
from tgrad.nn.modules import utils as utils


def __getattr__(name: str) -> Any:
    """The layers themselves, which PyTorch has here too."""
    from tgrad import nn

    if name in nn.__all__:
        return getattr(nn, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
