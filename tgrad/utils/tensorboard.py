"""`torch.utils.tensorboard`'s writer, which takes tensors of tgrad.

In: tensors, arrays, numbers. Out: event files. Invariant: `SummaryWriter` is PyTorch's, made when
it is first named, and gets arrays for tensors. It needs torch and tensorboard.
Source: https://docs.pytorch.org/docs/stable/tensorboard.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from tgrad.tensor import Tensor
from tgrad.utils._pytree import tree_map_only


@cache
def _writer() -> type:
    """PyTorch's class, whose methods read the tensors among their arguments when they are called.
    Its `add_graph` shows graphs of PyTorch; for those of tgrad there is `tgrad explain --html`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tgrad.utils.tensorboard has PyTorch's writer: pip install torch tensorboard."
        ) from error
    methods = [name for name in dir(SummaryWriter) if name.startswith("add_")]
    changed = {name: _with_arrays(getattr(SummaryWriter, name)) for name in methods}
    return type("SummaryWriter", (SummaryWriter,), changed)


def _with_arrays(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = tree_map_only(Tensor, lambda t: t.detach().numpy(), (args, kwargs))
        return method(self, *args, **kwargs)

    return call


def __getattr__(name: str) -> Any:
    if name == "SummaryWriter":
        return _writer()
    raise AttributeError(f"module 'tgrad.utils.tensorboard' has no attribute {name!r}")
