"""Python's objects between processes: torch pickles them.

In: objects. Out: those of the others, in lists that the caller made. Invariant: these exchange at
once, and never in a compiled function; while plans are made and not run they leave lists alone.
Source: https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

from typing import Any

from tgrad.distributed.groups import ProcessGroup, is_outside, torch_group
from tgrad.runtime.collective import exchanging
from tgrad.runtime.planning import current_planning
from tgrad.tracing import tracer


def _call(name: str, group: ProcessGroup | None, *args: Any, **kwargs: Any) -> bool:
    """Call torch's function, if there are others; whether it was called."""
    trace = tracer()
    if trace is not None:
        trace.refuse(f"{name}() is called", "Call it outside the compiled function.")
    if is_outside(group) or current_planning() is not None:
        return False
    with exchanging(name) as distributed:
        getattr(distributed, name)(*args, group=torch_group(group), **kwargs)
    return True


def all_gather_object(object_list: list[Any], obj: Any, group: ProcessGroup | None = None) -> None:
    """Fill `object_list` with each process's `obj`; while planning all are as this one."""
    if not _call("all_gather_object", group, object_list, obj) and not is_outside(group):
        object_list[:] = [obj] * len(object_list)


def gather_object(
    obj: Any,
    object_gather_list: list[Any] | None = None,
    dst: int | None = None,
    group: ProcessGroup | None = None,
    group_dst: int | None = None,
) -> None:
    """Fill the list of process `dst` with each process's `obj`."""
    _call("gather_object", group, obj, object_gather_list, dst, group_dst=group_dst)


def broadcast_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: ProcessGroup | None = None,
    device: Any = None,
    group_src: int | None = None,
) -> None:
    """Fill the list of every process with the objects of `src`."""
    _call("broadcast_object_list", group, object_list, src, device=device, group_src=group_src)


def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: list[Any] | None = None,
    src: int | None = None,
    group: ProcessGroup | None = None,
    group_src: int | None = None,
) -> None:
    """Put each process's object of the list of `src` first in its output list."""
    lists = scatter_object_output_list, scatter_object_input_list
    _call("scatter_object_list", group, *lists, src, group_src=group_src)
