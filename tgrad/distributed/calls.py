"""One exchange between processes: the node, and when it runs.

In: a tensor and a group. Out: what the others had, without history. Invariant: outside of compiled
functions the exchange has happened on return, since another process may not ask for the value; a
trace keeps exchanges in the order of their calls, and runs also those whose value nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.distributed.groups import ProcessGroup, get_world_size, number_of
from tgrad.errors import DeviceError, ShapeError
from tgrad.grad_mode import no_grad
from tgrad.graph.node import make
from tgrad.graph.op import Op
from tgrad.methods.sizes import is_padded
from tgrad.tensor import Tensor, realize_tensors
from tgrad.tracing import tracer


def exchange(
    function: str, x: Tensor, params: tuple[Any, ...], group: ProcessGroup | None
) -> Tensor:
    """The result of a function of graph/collective.py, see `exchange_all`."""
    return exchange_all(function, [x], params, group)[0]


def exchange_all(
    function: str, tensors: Sequence[Tensor], params: tuple[Any, ...], group: ProcessGroup | None
) -> list[Tensor]:
    """The results of a function of graph/collective.py, one after the other in one plan.

    Args:
        function: its name.
        tensors: this process's operands, all on one device.
        params: of the function.
        group: the processes that take part; all for None.

    Raises:
        DistributedError: no processes are joined, or the exchange failed.
        TraceError: in a compiled function, where a size of a tensor differs from call to call.
    """
    trace = tracer()
    attributes = {"group": number_of(group), "processes": get_world_size(group)}
    made: list[Tensor] = []
    for x in tensors:
        value, before = x._without_history(), made
        if trace is not None:
            before = trace.exchanged(x.device)
            if is_padded(value._node):
                trace.refuse(
                    f"{function} of a tensor whose size differs from call to call",
                    "Exchange tensors of fixed sizes, or call it outside the compiled function.",
                )
        inputs = (value._node, *(t._node for t in before[-1:]))
        node = make(Op.COLLECTIVE, *inputs, function=function, params=params, **attributes)
        made.append(Tensor._of(node, x.device))
        if trace is not None:
            trace.exchange(made[-1])
    if trace is None:
        realize_tensors(made)
    return made


def write(target: Tensor, value: Tensor) -> None:
    """Give a tensor its new values in place; they are constants to autograd."""
    with no_grad():
        target._assign(value.reshape(target.shape))


def same_shapes(what: str, tensors: Sequence[Tensor], count: int, like: Tensor) -> None:
    """Check a list that has a tensor for each process.

    Raises:
        ShapeError: there are more or fewer, or one differs in shape or dtype from `like`.
        DeviceError: one is on another device.
    """
    if len(tensors) != count:
        raise ShapeError(f"{what} of {len(tensors)} tensors.", f"Give one a process: {count}.")
    for number, t in enumerate(tensors):
        if t.shape != like.shape or t.dtype is not like.dtype:
            raise ShapeError(
                f"{what}[{number}] is {t.dtype.name} of shape {t.shape}, and not "
                f"{like.dtype.name} of shape {like.shape}.",
                "Give tensors of one shape and dtype in every process; pad them.",
            )
        same_device(f"{what}[{number}]", t, like)


def same_size(what: str, target: Tensor, count: int, like: Tensor) -> None:
    """Check a tensor that an exchange fills.

    Raises:
        ShapeError: it has not `count` elements, or another dtype than `like`.
        DeviceError: it is on another device.
    """
    if target.numel() != count or target.dtype is not like.dtype:
        raise ShapeError(
            f"{what} is {target.dtype.name} of shape {target.shape}.",
            f"Give one of {count} elements of {like.dtype.name}.",
        )
    same_device(what, target, like)


def same_device(what: str, target: Tensor, like: Tensor) -> None:
    """Check where a tensor is that an exchange fills.

    Raises:
        DeviceError: it is on another device.
    """
    if target.device != like.device:
        raise DeviceError(
            f"{what} is on {target.device}, and what is exchanged on {like.device}.",
            "Move one of them with .to(device).",
        )
