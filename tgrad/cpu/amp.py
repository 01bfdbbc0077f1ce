"""`torch.cpu.amp`'s names, the older ones: see tgrad.amp.

In: nothing. Out: `autocast` and `GradScaler` for the CPU. Invariant: defaults are those of "cpu".
"""

from __future__ import annotations

from typing import Any

from tgrad import amp
from tgrad.dtype import DType, bfloat16


class autocast(amp.autocast):
    """`tgrad.autocast("cpu")`.

    >>> from tgrad.cpu.amp import autocast
    >>> autocast().device_type
    'cpu'
    """

    def __init__(self, enabled: bool = True, dtype: DType = bfloat16, cache_enabled: bool = True):
        super().__init__("cpu", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """`tgrad.amp.GradScaler("cpu")`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("cpu", *args, **kwargs)
