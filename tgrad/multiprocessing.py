"""`torch.multiprocessing`'s names: processes.

In: functions and arguments. Out: processes, queues, pools. Invariant: names of the standard
library's multiprocessing are those; `spawn` and its like are PyTorch's, and need torch. Tensors
that go to another process are copied, with their values.
Source: https://docs.pytorch.org/docs/stable/multiprocessing.html
"""

from __future__ import annotations

import multiprocessing
from importlib import import_module
from typing import Any

_OF_TORCH = (
    "ProcessContext", "ProcessExitedException", "ProcessRaisedException", "SpawnContext", "spawn",
    "start_processes",
)  # fmt: skip

__all__ = [*multiprocessing.__all__, *_OF_TORCH]


def __getattr__(name: str) -> Any:
    if name in multiprocessing.__all__:
        return getattr(multiprocessing, name)
    if name in _OF_TORCH:
        try:
            return getattr(import_module("torch.multiprocessing"), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"tgrad.multiprocessing.{name} is PyTorch's: pip install torch, or use "
                "multiprocessing.Process."
            ) from error
    raise AttributeError(
        f"tgrad.multiprocessing has no {name}: processes do not share tensors, they get copies."
    )
