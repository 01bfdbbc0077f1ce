"""Steps of a plan, and calls beside it, in which processes exchange memory through torch.

In: a call, a group's number, memories. Out: the result in its memory. Invariant: everything here
runs on the thread that calls, on `cuda` in the order of torch's current stream; a call that fails
raises a DistributedError, and says which call it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tgrad import dtype as dt
from tgrad.errors import DistributedError, Source
from tgrad.graph.collective import CollectiveCall

if TYPE_CHECKING:
    from tgrad.runtime.device import Runtime

WORLD = 0
"""Number of the group of all processes."""
Finish = Callable[[], None]
groups: dict[int, Any] = {}
"""torch's groups by number, but for that of all processes."""


def group_of(number: int) -> Any:
    """torch's group; None stands for all processes, as in torch.

    Raises:
        DistributedError: there is none of this number any more.
    """
    if number == WORLD:
        return None
    if number not in groups:
        raise DistributedError(
            f"group {number} of processes is not there.", "It was destroyed: make a new one."
        )
    return groups[number]


@contextmanager
def exchanging(what: str, source: Source | None = None) -> Iterator[Any]:
    """torch.distributed; what it raises inside is told as an error of `what`.

    Raises:
        DistributedError: no processes are joined, or the exchange failed.
    """
    import torch.distributed as distributed

    if not distributed.is_available() or not distributed.is_initialized():
        raise DistributedError(
            f"{what} before processes are joined.",
            "Call tgrad.distributed.init_process_group first; torchrun starts processes.",
            source,
        )
    try:
        yield distributed
    except (RuntimeError, ValueError) as error:
        raise DistributedError(
            f"{what} failed: {error}",
            "The step has not happened here. If another process has stopped, its output says why; "
            "all must make the same calls in the same order, with the same sizes.",
            source,
        ) from error


def start_collective(
    call: CollectiveCall, source: Source, runtime: Runtime, memories: Sequence[Any]
) -> Finish:
    """Start a call on memories, the operand's first and the result's last.

    Returns:
        What waits for the result; until then nobody reads it, or writes to the operand. On `cuda`
        torch's current stream waits, not the host.
    """
    what = call.text()
    with exchanging(what, source) as distributed:
        group = group_of(call.group)
        given = _bytes_of(runtime, memories[0], prod(call.shapes[0]) * call.dtype.itemsize)
        nbytes, is_host = prod(call.shape) * call.dtype.itemsize, runtime.device.type != "cuda"
        if is_host:
            import torch

            result = torch.empty(nbytes, dtype=torch.uint8)
        else:
            result = memories[-1][:nbytes]
        wait = _START[call.function](distributed, call, group, given, result)

    def finish() -> None:
        with exchanging(what, source):
            wait()
        if is_host:
            runtime.write(memories[-1], result.numpy())

    return finish


def send_memory(runtime: Runtime, memory: Any, nbytes: int, to: int, group: int, tag: int) -> None:
    """Send a memory to a process, by its number among all; returns when it may be overwritten."""
    with exchanging(f"send of {nbytes:,} bytes to process {to}") as distributed:
        distributed.send(_bytes_of(runtime, memory, nbytes), to, group_of(group), tag)


def receive_memory(
    runtime: Runtime, memory: Any, nbytes: int, source: int | None, group: int, tag: int
) -> int:
    """Fill a memory with what a process, or any for None, sends; the number of that process."""
    sender = "any process" if source is None else f"process {source}"
    with exchanging(f"recv of {nbytes:,} bytes from {sender}") as distributed:
        if runtime.device.type == "cuda":
            return int(distributed.recv(memory[:nbytes], source, group_of(group), tag))
        import torch

        taken = torch.empty(nbytes, dtype=torch.uint8)
        number = int(distributed.recv(taken, source, group_of(group), tag))
        runtime.write(memory, taken.numpy())
        return number


def _bytes_of(runtime: Runtime, memory: Any, nbytes: int) -> Any:
    """torch's tensor of bytes: on `cuda` the memory itself, elsewhere a copy."""
    if runtime.device.type == "cuda":
        return memory[:nbytes]
    import torch

    return torch.from_numpy(runtime.read(memory, dt.uint8, (nbytes,)).view(np.uint8))


# -- each call, on bytes -------------------------------------------------------------------------


def _typed(call: CollectiveCall, data: Any) -> Any:
    import torch

    return data.view(getattr(torch, call.dtype.name))


def _operation(distributed: Any, combine: str) -> Any:
    return getattr(distributed.ReduceOp, combine.upper())


def _newest(distributed: Any, *names: str) -> Any:
    """The function of the first of these names that this torch has; 2.13 renamed some."""
    return next(getattr(distributed, name) for name in names if hasattr(distributed, name))


def _root(distributed: Any, root: int, group: Any) -> int:
    """The number among all processes of one in a group."""
    return root if group is None else int(distributed.get_global_rank(group, root))


def _copy(result: Any, x: Any) -> None:
    if result.data_ptr() != x.data_ptr():
        result.copy_(x)


def _all_reduce(distributed: Any, call: CollectiveCall, group: Any, x: Any, result: Any) -> Finish:
    _copy(result, x)
    operation = _operation(distributed, call.params[0])
    work = distributed.all_reduce(_typed(call, result), operation, group, async_op=True)
    return work.wait


def _reduce(distributed: Any, call: CollectiveCall, group: Any, x: Any, result: Any) -> Finish:
    """torch leaves anything in the tensors of the others."""
    combine, root = call.params[0], _root(distributed, call.params[1], group)
    scratch, kept = x.clone(), x.clone()
    operation = _operation(distributed, combine)
    work = distributed.reduce(_typed(call, scratch), root, operation, group, async_op=True)

    def finish() -> None:
        work.wait()
        result.copy_(scratch if distributed.get_rank() == root else kept)

    return finish


def _broadcast(distributed: Any, call: CollectiveCall, group: Any, x: Any, result: Any) -> Finish:
    _copy(result, x)
    root = _root(distributed, call.params[0], group)
    return distributed.broadcast(result, root, group, async_op=True).wait


def _all_gather(distributed: Any, call: CollectiveCall, group: Any, x: Any, result: Any) -> Finish:
    gather = _newest(distributed, "all_gather_single", "all_gather_into_tensor")
    return gather(result, x, group, async_op=True).wait


def _reduce_scatter(
    distributed: Any, call: CollectiveCall, group: Any, x: Any, result: Any
) -> Finish:
    operation = _operation(distributed, call.params[0])
    scatter = _newest(distributed, "reduce_scatter_single", "reduce_scatter_tensor")
    typed = _typed(call, result), _typed(call, x)
    return scatter(*typed, operation, group, async_op=True).wait


def _all_to_all(distributed: Any, call: CollectiveCall, group: Any, x: Any, result: Any) -> Finish:
    row = prod(call.shapes[0][1:]) * call.dtype.itemsize
    given, taken = ([n * row for n in rows] for rows in call.params)
    work = distributed.all_to_all_single(result, x, taken, given, group, async_op=True)
    return work.wait


_START: dict[str, Callable[[Any, CollectiveCall, Any, Any, Any], Finish]] = {
    "all_reduce": _all_reduce,
    "reduce": _reduce,
    "broadcast": _broadcast,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
}
"""What starts of torch: calls that only move take bytes, whatever the dtype."""
