"""PyTorch's name space of that name.

In: nothing. Out: `checkpoint`, and `data` once it is asked for. Invariant: nothing is defined here;
PyTorch, which `data` needs, is not imported before.
"""

from importlib import import_module
from typing import Any

from tgrad.utils import checkpoint as checkpoint


def __getattr__(name: str) -> Any:
    if name == "data":
        return import_module("tgrad.utils.data")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
