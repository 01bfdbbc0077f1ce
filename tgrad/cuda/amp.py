"""`torch.cuda.amp`'s names, the older ones: see tgrad.amp.

In: nothing. Out: `autocast`, `GradScaler` and the decorators for GPUs. Invariant: defaults are
those of "cuda".
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tgrad import amp
from tgrad.dtype import DType

custom_fwd = partial(amp.custom_fwd, device_type="cuda")
custom_bwd = partial(amp.custom_bwd, device_type="cuda")


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
