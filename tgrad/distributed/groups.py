"""Processes that were joined, and groups of them.

In: how to meet. Out: groups with numbers. Invariant: a group has the same number in every process,
since all make groups in the same order, as PyTorch demands; plans name groups by number.
Source: https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from itertools import count
from typing import Any

from tgrad.arguments import refuse
from tgrad.errors import DeviceError, UnsupportedError
from tgrad.runtime.collective import WORLD, exchanging, group_of, groups
from tgrad.runtime.planning import current_planning
from tgrad.tracing import tracer

_numbers = count(WORLD + 1)


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """Processes that make calls together.

    Attributes:
        number: the same in every process; 0 is all of them.
    """

    number: int

    def rank(self) -> int:
        """This process's number in the group."""
        return get_rank(self)

    def size(self) -> int:
        """How many processes there are."""
        return get_world_size(self)


class Work:
    """An exchange that was asked for with `async_op=True`: it has happened already."""

    def wait(self, timeout: Any = None) -> bool:
        """True."""
        return True

    def is_completed(self) -> bool:
        """True."""
        return True

    def is_success(self) -> bool:
        """True; what failed has raised where it was called."""
        return True


class GroupMember:
    """What a group is where there is none: all processes, or one that leaves this process out."""

    WORLD = ProcessGroup(WORLD)
    NON_GROUP_MEMBER = ProcessGroup(-1)


group = GroupMember


def torch_group(found: ProcessGroup | None) -> Any:
    """torch's group; None for all processes.

    Raises:
        DistributedError: it was destroyed.
    """
    return group_of(number_of(found))


def number_of(found: ProcessGroup | None) -> int:
    """The number by which plans name a group."""
    return WORLD if found is None else found.number


def is_outside(found: ProcessGroup | None) -> bool:
    """Whether the group leaves this process out: its calls do nothing here."""
    return found == GroupMember.NON_GROUP_MEMBER


def is_available() -> bool:
    """Whether there is a torch that joins processes.

    >>> import tgrad
    >>> tgrad.distributed.is_initialized()
    False
    """
    if find_spec("torch") is None:
        return False
    import torch.distributed

    return bool(torch.distributed.is_available())


def is_initialized() -> bool:
    """Whether processes are joined; nobody can have joined them without torch."""
    found = sys.modules.get("torch.distributed")
    return found is not None and bool(found.is_available() and found.is_initialized())


def is_gloo_available() -> bool:
    """Whether torch joins processes on hosts."""
    return _asked("is_gloo_available")


def is_nccl_available() -> bool:
    """Whether torch joins processes on NVIDIA's GPUs."""
    return _asked("is_nccl_available")


def _asked(name: str) -> bool:
    if not is_available():
        return False
    import torch.distributed

    return bool(getattr(torch.distributed, name)())


def is_torchelastic_launched() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    group_name: str = "",
    pg_options: Any = None,
    device_id: Any = None,
) -> None:
    """Join this process with the others, as torch.distributed.init_process_group does. While plans
    are made and not run (`tgrad explain --processes 8`) there is nobody to join.

    Args:
        backend: "gloo" for the device cpu, "nccl" for cuda; both if left out.
        init_method: where to meet; by default the variables that torchrun sets.
        timeout: how long a call waits for the others.
        world_size, rank: how many processes there are, and which this is.
        store: torch's, in place of `init_method`.
        group_name, pg_options: torch's.
        device_id: the GPU that this process drives.

    Raises:
        DeviceError: there is no torch that joins processes.
    """
    if not is_available():
        raise DeviceError(
            "Processes are joined by torch, which is not installed.", "pip install torch"
        )
    import torch

    if current_planning() is not None:
        _pretend(int(os.environ.get("WORLD_SIZE", "1")) if world_size < 0 else world_size)
        return
    device = None if device_id is None else torch.device(str(device_id))
    torch.distributed.init_process_group(
        backend, init_method, timeout, world_size, rank, store, group_name, pg_options, device
    )


def _pretend(processes: int) -> None:
    """Be the first of so many processes, of which the others are not there: torch's group for
    tests, in which nothing is exchanged."""
    import torch.distributed
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=processes, store=FakeStore())


def destroy_process_group(group: ProcessGroup | None = None) -> None:
    """Leave a group, or all of them."""
    with exchanging("destroy_process_group") as distributed:
        distributed.destroy_process_group(torch_group(group))
        if group is None or group.number == WORLD:
            groups.clear()
        else:
            del groups[group.number]


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: Any = None,
) -> ProcessGroup:
    """A group of some processes. All processes make it, also those that it leaves out.

    Args:
        ranks: which; all if left out.
        timeout, backend, pg_options, group_desc: torch's.
        use_local_synchronization: whether members alone make it.
        device_id: the GPU that this process drives.

    Raises:
        UnsupportedError: `use_local_synchronization`: groups are numbered in all processes alike.
    """
    if use_local_synchronization:
        raise UnsupportedError(
            "new_group(use_local_synchronization=True).", "Make the group in every process."
        )
    number = next(_numbers)
    with exchanging("new_group") as distributed:
        made = distributed.new_group(
            ranks, timeout, backend, pg_options, group_desc=group_desc, device_id=device_id
        )
        if made == distributed.GroupMember.NON_GROUP_MEMBER:
            return GroupMember.NON_GROUP_MEMBER
    groups[number] = made
    return ProcessGroup(number)


def get_rank(group: ProcessGroup | None = None) -> int:
    """This process's number in a group; -1 outside of it."""
    if is_outside(group):
        return -1
    with exchanging("get_rank") as distributed:
        return int(distributed.get_rank(torch_group(group)))


def get_world_size(group: ProcessGroup | None = None) -> int:
    """How many processes a group has; -1 outside of it."""
    if is_outside(group):
        return -1
    with exchanging("get_world_size") as distributed:
        return int(distributed.get_world_size(torch_group(group)))


def get_backend(group: ProcessGroup | None = None) -> str:
    """What joins the group: "gloo" or "nccl"."""
    with exchanging("get_backend") as distributed:
        return str(distributed.get_backend(torch_group(group)))


def get_global_rank(group: ProcessGroup, group_rank: int) -> int:
    """The number among all processes of one in a group."""
    with exchanging("get_global_rank") as distributed:
        return int(distributed.get_global_rank(_whole(group), group_rank))


def get_group_rank(group: ProcessGroup, global_rank: int) -> int:
    """The number in a group of one among all processes."""
    with exchanging("get_group_rank") as distributed:
        return int(distributed.get_group_rank(_whole(group), global_rank))


def get_process_group_ranks(group: ProcessGroup | None) -> list[int]:
    """Numbers among all processes of those in a group."""
    with exchanging("get_process_group_ranks") as distributed:
        return list(distributed.get_process_group_ranks(_whole(group)))


def _whole(group: ProcessGroup | None) -> Any:
    import torch.distributed

    found = torch_group(group)
    return torch.distributed.group.WORLD if found is None else found


def barrier(
    group: ProcessGroup | None = None,
    async_op: bool = False,
    device_ids: Any = None,
    timeout: timedelta | None = None,
) -> Work | None:
    """Wait until every process of the group is here.

    Args:
        group: the processes; all if left out.
        async_op: whether a Work is returned; all are here in either case.
        device_ids: torch's.
        timeout: not supported; that of the group counts.

    Raises:
        TraceError: in a compiled function, whose plan has nothing to wait for.
    """
    trace = tracer()
    if trace is not None:
        trace.refuse("barrier() is called", "Call it outside the compiled function.")
    refuse("barrier", timeout=timeout)
    if not is_outside(group):
        with exchanging("barrier") as distributed:
            distributed.barrier(torch_group(group), device_ids=device_ids)
    return Work() if async_op else None
