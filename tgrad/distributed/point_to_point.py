"""Tensors from one process to another.

In: a tensor, and a process's number. Out: the tensor's values there. Invariant: an exchange has
happened on return, and is never part of a compiled function.
Source: https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

from tgrad.distributed.calls import write
from tgrad.distributed.collectives import root_of
from tgrad.distributed.groups import (
    ProcessGroup,
    Work,
    get_global_rank,
    is_outside,
    number_of,
)
from tgrad.runtime.collective import receive_memory, send_memory
from tgrad.runtime.device import allocate, open_device
from tgrad.runtime.planning import current_planning
from tgrad.runtime.storage import Storage
from tgrad.tensor import Tensor
from tgrad.tracing import tracer


def _refuse_traces(name: str) -> None:
    trace = tracer()
    if trace is not None:
        trace.refuse(f"{name}() is called", "Call it outside the compiled function.")


def _peer(name: str, given: int | None, in_group: int | None, group: ProcessGroup | None) -> int:
    """The number of the other process among all."""
    number = root_of(name, given, in_group, group)
    return number if group is None else get_global_rank(group, number)


def send(
    tensor: Tensor,
    dst: int | None = None,
    group: ProcessGroup | None = None,
    tag: int = 0,
    group_dst: int | None = None,
) -> None:
    """Send values to process `dst`, which calls `recv`."""
    _refuse_traces("send")
    if is_outside(group):
        return
    storage = tensor.realize()._storage
    assert storage is not None
    if current_planning() is not None:
        return
    to = _peer("dst", dst, group_dst, group)
    nbytes = tensor.numel() * tensor.element_size()
    runtime = open_device(tensor.device)
    send_memory(runtime, storage.memory, nbytes, to, number_of(group), tag)


def recv(
    tensor: Tensor,
    src: int | None = None,
    group: ProcessGroup | None = None,
    tag: int = 0,
    group_src: int | None = None,
) -> int:
    """Give `tensor` what process `src` sends, or any, and return who it was; -1 outside of a group.

    Args:
        tensor: of the shape and dtype of what is sent.
        src: the process's number; whoever sends first if left out.
        group: the processes; all if left out.
        tag: that of the `send`.
        group_src: the number in the group, in place of `src`.
    """
    _refuse_traces("recv")
    if is_outside(group):
        return -1
    is_any = src is None and group_src is None
    source = None if is_any else _peer("src", src, group_src, group)
    if current_planning() is not None:
        return source or 0
    nbytes = tensor.numel() * tensor.element_size()
    memory = allocate(tensor.device, nbytes)
    runtime = open_device(tensor.device)
    found = receive_memory(runtime, memory, nbytes, source, number_of(group), tag)
    storage = Storage(tensor.device, tensor.dtype, tensor.shape, memory)
    write(tensor, Tensor._of(None, tensor.device, storage))
    return found


def isend(
    tensor: Tensor,
    dst: int | None = None,
    group: ProcessGroup | None = None,
    tag: int = 0,
    group_dst: int | None = None,
) -> Work:
    """`send`; it has happened on return, so the other process must be at its `recv`."""
    send(tensor, dst, group, tag, group_dst)
    return Work()


def irecv(
    tensor: Tensor,
    src: int | None = None,
    group: ProcessGroup | None = None,
    tag: int = 0,
    group_src: int | None = None,
) -> Work:
    """`recv`; it has happened on return."""
    recv(tensor, src, group, tag, group_src)
    return Work()
