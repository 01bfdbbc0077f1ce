"""`torch.distributed`'s names: processes that exchange tensors, each with a device of its own.

In: tensors, and torch's process groups. Out: the same tensors with what the others had. Invariant:
a call exchanges where it stands, as in PyTorch; inside of a compiled function it is a step of the
plan, in the order of the calls. torch is imported when processes are joined.
Source: https://docs.pytorch.org/docs/stable/distributed.html; see docs/decisions/0077.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tgrad.distributed import nn as nn
from tgrad.distributed.collectives import (
    ReduceOp,
    all_gather,
    all_gather_into_tensor,
    all_gather_single,
    all_reduce,
    all_to_all,
    all_to_all_single,
    broadcast,
    gather,
    reduce,
    reduce_scatter,
    reduce_scatter_single,
    reduce_scatter_tensor,
    scatter,
)
from tgrad.distributed.groups import (
    GroupMember,
    ProcessGroup,
    Work,
    barrier,
    destroy_process_group,
    get_backend,
    get_global_rank,
    get_group_rank,
    get_process_group_ranks,
    get_rank,
    get_world_size,
    group,
    init_process_group,
    is_available,
    is_gloo_available,
    is_initialized,
    is_nccl_available,
    is_torchelastic_launched,
    new_group,
)
from tgrad.distributed.objects import (
    all_gather_object,
    broadcast_object_list,
    gather_object,
    scatter_object_list,
)
from tgrad.distributed.point_to_point import irecv, isend, recv, send
from tgrad.errors import DistributedError as DistError
from tgrad.module_paths import module_below

__all__ = [
    "DistError", "GroupMember", "ProcessGroup", "ReduceOp", "Work", "all_gather",
    "all_gather_into_tensor", "all_gather_object", "all_gather_single", "all_reduce", "all_to_all",
    "all_to_all_single",
    "barrier", "broadcast", "broadcast_object_list", "destroy_process_group", "gather",
    "gather_object", "get_backend", "get_global_rank", "get_group_rank",
    "get_process_group_ranks", "get_rank", "get_world_size", "group", "init_process_group",
    "irecv", "is_available", "is_gloo_available", "is_initialized", "is_nccl_available",
    "is_torchelastic_launched", "isend", "new_group", "nn", "recv", "reduce", "reduce_scatter",
    "reduce_scatter_single", "reduce_scatter_tensor", "scatter", "scatter_object_list", "send",
]  # fmt: skip

_OF_TORCH = (
    "Backend", "DebugLevel", "DistBackendError", "DistNetworkError", "DistStoreError", "FileStore",
    "HashStore", "PrefixStore", "Store", "TCPStore", "default_pg_timeout", "get_debug_level",
    "get_node_local_rank", "is_mpi_available", "is_ucc_available", "is_xccl_available",
    "set_debug_level",
)  # fmt: skip
"""Names that are torch's own: stores that processes meet at, errors, and questions."""


def __getattr__(name: str) -> Any:
    if name in _OF_TORCH:
        return getattr(import_module("torch.distributed"), name)
    return module_below(__name__, name)
