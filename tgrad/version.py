"""Versions, where PyTorch has them.

In: nothing. Out: this package's version, and that of CUDA which PyTorch brings. Invariant: PyTorch
is imported when it is asked for.
"""

from __future__ import annotations

from importlib.util import find_spec

from tgrad import __version__ as __version__

debug = False
hip: str | None = None


def __getattr__(name: str) -> str | None:
    """`cuda`: the version of CUDA that the device "cuda" runs on; None without one."""
    if name != "cuda":
        raise AttributeError(f"module 'tgrad.version' has no attribute {name!r}")
    if find_spec("torch") is None:
        return None
    import torch

    found: str | None = torch.version.cuda
    return found
