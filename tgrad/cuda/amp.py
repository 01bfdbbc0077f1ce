"""`torch.cuda.amp`'s names, the older ones: see tgrad.amp.

In: nothing. Out: `autocast` and `GradScaler` for GPUs. Invariant: defaults are those of "cuda".
"""

from __future__ import annotations

from typing import Any

from tgrad import amp
from tgrad.dtype import DType


class autocast(amp.autocast):
    """`tgrad.autocast("cuda")`.

    >>> from tgrad.cuda.amp import autocast
    >>> autocast().device_type
    'cuda'
    """

    def __init__(
        self, enabled: bool = True, dtype: DType | None = None, cache_enabled: bool = True
    ):
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """`tgrad.amp.GradScaler("cuda")`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__("cuda", *args, **kwargs)
