"""`torch.backends.cudnn`'s names. There is no cuDNN here: convolutions are tgrad's kernels, which
are deterministic, and searched by `tgrad autotune`, ahead of time.

In: choices of cuDNN's. Out: TF32, which concerns products and convolutions alike. Invariant: what
cuDNN alone would follow stays as it is, and says so when it is set to something else.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from tgrad.backends.cuda import Precision

_FIXED = {"benchmark": False, "deterministic": True, "enabled": False}


def is_available() -> bool:
    """No."""
    return False


@contextmanager
def flags(
    enabled: bool = False,
    benchmark: bool = False,
    benchmark_limit: int = 10,
    deterministic: bool = False,
    allow_tf32: bool = True,
    fp32_precision: str = "none",
) -> Iterator[None]:
    """A block with other choices of cuDNN's; here it changes nothing: there is no cuDNN."""
    yield


def version() -> None:
    """None."""
    return None


class _Cudnn(ModuleType):
    """The module, whose settings are looked at when they are set."""

    allow_tf32 = Precision.allow_tf32

    def __getattr__(self, name: str) -> Any:
        if name in _FIXED:
            return _FIXED[name]
        raise AttributeError(f"module 'tgrad.backends.cudnn' has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED:
            if value != _FIXED[name]:
                warnings.warn(
                    f"cudnn.{name} = {value} changes nothing: tgrad has no cuDNN; its kernels are "
                    "deterministic, and `tgrad autotune` searches them ahead of time.",
                    stacklevel=2,
                )
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Cudnn
