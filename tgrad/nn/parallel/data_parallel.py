"""`torch.nn.DataParallel`, of the one device that a process drives.

In: a module. Out: the same results. Invariant: with one device PyTorch's class calls its module and
does nothing else; more than one is refused.
Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.errors import UnsupportedError
from tgrad.nn.module import Module


class DataParallel(Module):
    """A module on one device, in a wrapper: `.module`, and "module." before the names of its state.

    Args:
        module: what is called.
        device_ids: the GPUs; by default all that there are.
        output_device: of the results; only that one.
        dim: accepted; batches are not divided.

    Raises:
        UnsupportedError: these are several.

    >>> import tgrad
    >>> model = tgrad.nn.DataParallel(tgrad.nn.Linear(3, 2))
    >>> model(tgrad.ones(4, 3)).shape, list(model.state_dict())
    ((4, 2), ['module.weight', 'module.bias'])
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ):
        super().__init__()
        _check(device_ids, output_device)
        self.module, self.dim = module, dim
        self.device_ids = [] if device_ids is None else list(device_ids)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)


def data_parallel(
    module: Module,
    inputs: Any,
    device_ids: Sequence[Any] | None = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """`DataParallel(module, device_ids, output_device, dim)` of inputs, one or a tuple."""
    _check(device_ids, output_device)
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return module(*given, **(module_kwargs or {}))


def _check(device_ids: Sequence[Any] | None, output_device: Any) -> None:
    from tgrad.cuda import device_count  # it has optimizers, which have modules

    given = [*(device_ids or ()), *([] if output_device is None else [output_device])]
    used = {str(d).removeprefix("cuda:") for d in given}
    count = len(used) if device_ids is not None else max(len(used), device_count())
    if count > 1:
        raise UnsupportedError(
            f"DataParallel on {count} GPUs: one process drives one device.",
            "Use nn.parallel.DistributedDataParallel, with one process for each, or "
            "device_ids=[0].",
        )
