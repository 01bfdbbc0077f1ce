"""Exchanges that write into tensors that the caller made.

In: tensors, of equal shapes and dtypes in all processes of a group. Out: the same tensors with new
values, constants to autograd (those of `tgrad.distributed.nn` are differentiated). Invariant: all
processes of the group call the same in the same order; one that a group leaves out does nothing.
Source: https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from math import prod
from typing import Any

from tgrad.distributed.calls import exchange, same_device, same_shapes, same_size, write
from tgrad.distributed.groups import (
    ProcessGroup,
    Work,
    get_group_rank,
    get_rank,
    get_world_size,
    is_outside,
)
from tgrad.errors import DTypeError, ShapeError, UnsupportedError
from tgrad.joining import cat, stack
from tgrad.tensor import Tensor


class ReduceOp(Enum):
    """How elements of different processes are joined."""

    SUM = "sum"
    AVG = "avg"
    PRODUCT = "product"
    MIN = "min"
    MAX = "max"
    BAND = "band"
    BOR = "bor"
    BXOR = "bxor"


def combine_of(op: Any, x: Tensor) -> ReduceOp:
    """The operation, which may be torch's.

    Raises:
        UnsupportedError: there is none of the name.
        DTypeError: the average of integers.
    """
    name = str(op).rpartition(".")[2].upper()
    if name not in ReduceOp.__members__:
        raise UnsupportedError(f"op={op!r}.", f"Use one of {', '.join(ReduceOp.__members__)}.")
    if name == "AVG" and not x.dtype.is_float:
        raise DTypeError(f"the average of {x.dtype.name}.", "Use ReduceOp.SUM, or floats.")
    return ReduceOp[name]


def joined(
    function: str, x: Tensor, op: ReduceOp, params: tuple[Any, ...], group: ProcessGroup | None
) -> Tensor:
    """An exchange that joins elements; an average is a sum, divided."""
    is_average = op is ReduceOp.AVG
    combine = ReduceOp.SUM.value if is_average else op.value
    found = exchange(function, x, (combine, *params), group)
    return found / get_world_size(group) if is_average else found


def root_of(name: str, given: int | None, in_group: int | None, group: ProcessGroup | None) -> int:
    """The number in its group of the process that an exchange starts or ends at.

    Raises:
        ShapeError: both numbers are given, or none.
    """
    if (given is None) is (in_group is None):
        raise ShapeError(f"{name}={given}, group_{name}={in_group}.", "Give one of the two.")
    if in_group is not None:
        return in_group
    assert given is not None
    return given if group is None else get_group_rank(group, given)


def _finished(async_op: bool) -> Work | None:
    return Work() if async_op else None


def all_reduce(
    tensor: Tensor,
    op: Any = ReduceOp.SUM,
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Give `tensor` the sum, or what `op` says, of the tensors of all processes.

    Args:
        tensor: of one shape and dtype in every process.
        op: a ReduceOp.
        group: the processes; all if left out.
        async_op: whether a Work is returned; the exchange has happened in either case.

    Raises:
        DistributedError: no processes are joined, or the exchange failed.
    """
    if not is_outside(group):
        write(tensor, joined("all_reduce", tensor, combine_of(op, tensor), (), group))
    return _finished(async_op)


def reduce(
    tensor: Tensor,
    dst: int | None = None,
    op: Any = ReduceOp.SUM,
    group: ProcessGroup | None = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """`all_reduce` for process `dst` alone; the others keep what they have."""
    if not is_outside(group):
        root, combine = root_of("dst", dst, group_dst, group), combine_of(op, tensor)
        found = joined("reduce", tensor, combine, (root,), group)
        if get_rank(group) == root:
            write(tensor, found)
    return _finished(async_op)


def broadcast(
    tensor: Tensor,
    src: int | None = None,
    group: ProcessGroup | None = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Give `tensor` the values that process `src` has."""
    if not is_outside(group):
        root = root_of("src", src, group_src, group)
        write(tensor, exchange("broadcast", tensor, (root,), group))
    return _finished(async_op)


def all_gather_into_tensor(
    output_tensor: Tensor,
    input_tensor: Tensor,
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Fill `output_tensor` with the tensors of all processes, one after the other.

    Args:
        output_tensor: of as many elements as all have, in either of PyTorch's shapes.
        input_tensor: of one shape in every process.
        group, async_op: as of `all_reduce`.
    """
    if not is_outside(group):
        count = input_tensor.numel() * get_world_size(group)
        same_size("output_tensor", output_tensor, count, input_tensor)
        write(output_tensor, exchange("all_gather", input_tensor, (), group))
    return _finished(async_op)


all_gather_single = all_gather_into_tensor


def all_gather(
    tensor_list: Sequence[Tensor],
    tensor: Tensor,
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Fill the tensors of a list with those of the processes.

    Raises:
        ShapeError: they are not one a process, of the shape and dtype of `tensor`.
    """
    if not is_outside(group):
        same_shapes("tensor_list", tensor_list, get_world_size(group), tensor)
        found = exchange("all_gather", tensor.reshape(1, *tensor.shape), (), group)
        for number, target in enumerate(tensor_list):
            write(target, found[number])
    return _finished(async_op)


def reduce_scatter_tensor(
    output: Tensor,
    input: Tensor,
    op: Any = ReduceOp.SUM,
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Give `output` the process's own share of the sum of all `input`.

    Args:
        output: a share: elements of `input` by the number of processes.
        input: of one shape in every process.
        op, group, async_op: as of `all_reduce`.
    """
    if not is_outside(group):
        count = get_world_size(group)
        same_size("input", input, output.numel() * count, output)
        rows, combine = input.reshape(count, -1), combine_of(op, input)
        write(output, joined("reduce_scatter", rows, combine, (), group))
    return _finished(async_op)


reduce_scatter_single = reduce_scatter_tensor


def reduce_scatter(
    output: Tensor,
    input_list: Sequence[Tensor],
    op: Any = ReduceOp.SUM,
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Give `output` the sum of the tensors that all processes have for this one."""
    if not is_outside(group):
        same_shapes("input_list", input_list, get_world_size(group), output)
        return reduce_scatter_tensor(output, stack(list(input_list)), op, group, async_op)
    return _finished(async_op)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Give rows of `input` to each process, and take theirs into `output`.

    Args:
        output, input: rows along the first axis.
        output_split_sizes, input_split_sizes: how many come from each process and go to it; equal
            shares if left out.
        group, async_op: as of `all_reduce`.

    Raises:
        ShapeError: the sizes do not add up to the rows.
    """
    if not is_outside(group):
        given = split_sizes("input", input, input_split_sizes, group)
        taken = split_sizes("output", output, output_split_sizes, group)
        same_size("output", output, sum(taken) * prod(input.shape[1:]), input)
        write(output, exchange("all_to_all", input, (given, taken), group))
    return _finished(async_op)


def split_sizes(
    name: str, x: Tensor, sizes: Sequence[int] | None, group: ProcessGroup | None
) -> tuple[int, ...]:
    """How many rows of a tensor belong to each process.

    Raises:
        ShapeError: they do not add up.
    """
    processes, rows = get_world_size(group), x.shape[0] if x.ndim else 0
    if not sizes and rows % processes == 0:
        return (rows // processes,) * processes
    if not sizes or len(sizes) != processes or sum(sizes) != rows:
        raise ShapeError(
            f"{name} of {rows} rows for {processes} processes, {name}_split_sizes={sizes}.",
            "Give a size for each process; they add up to the rows.",
        )
    return tuple(int(n) for n in sizes)


def all_to_all(
    output_tensor_list: Sequence[Tensor],
    input_tensor_list: Sequence[Tensor],
    group: ProcessGroup | None = None,
    async_op: bool = False,
) -> Work | None:
    """Give each process a tensor, and take one from it; of any shapes that both agree on."""
    if is_outside(group):
        return _finished(async_op)
    lists = {"output_tensor_list": output_tensor_list, "input_tensor_list": input_tensor_list}
    for name, found in lists.items():
        if len(found) != get_world_size(group) or len({t.dtype for t in found}) != 1:
            raise ShapeError(
                f"{name} of {len(found)} tensors.", "Give one a process, of one dtype."
            )
        for t in found:
            same_device(name, t, input_tensor_list[0])
    given, taken = (tuple(t.numel() for t in found) for found in reversed(lists.values()))
    flat = cat([t.reshape(-1) for t in input_tensor_list])
    parts = exchange("all_to_all", flat, (given, taken), group).split(list(taken))
    for target, part in zip(output_tensor_list, parts):
        write(target, part)
    return _finished(async_op)


def gather(
    tensor: Tensor,
    gather_list: Sequence[Tensor] | None = None,
    dst: int | None = None,
    group: ProcessGroup | None = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Fill the list of process `dst`, by default the first, with the tensors of the processes. All
    of them get all of it on the way, as by `all_gather`.

    Raises:
        ShapeError: the list is missing there, or given elsewhere.
    """
    if is_outside(group):
        return _finished(async_op)
    root = 0 if dst is None and group_dst is None else root_of("dst", dst, group_dst, group)
    is_root = get_rank(group) == root
    if is_root is not bool(gather_list):
        raise ShapeError("gather_list is given in the wrong process.", "Give it in `dst` alone.")
    if gather_list:
        same_shapes("gather_list", gather_list, get_world_size(group), tensor)
    found = exchange("all_gather", tensor.reshape(1, *tensor.shape), (), group)
    for number, target in enumerate(gather_list or ()):
        write(target, found[number])
    return _finished(async_op)


def scatter(
    tensor: Tensor,
    scatter_list: Sequence[Tensor] | None = None,
    src: int | None = None,
    group: ProcessGroup | None = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Give `tensor` this process's one of the list of process `src`, by default the first. All of
    them get all of it on the way, as by `broadcast`.

    Raises:
        ShapeError: the list is missing there, or given elsewhere.
    """
    if is_outside(group):
        return _finished(async_op)
    root = 0 if src is None and group_src is None else root_of("src", src, group_src, group)
    count, is_root = get_world_size(group), get_rank(group) == root
    if is_root is not bool(scatter_list):
        raise ShapeError("scatter_list is given in the wrong process.", "Give it in `src` alone.")
    if scatter_list:
        same_shapes("scatter_list", scatter_list, count, tensor)
    given = stack(list(scatter_list or [tensor] * count))
    write(tensor, exchange("broadcast", given, (root,), group)[get_rank(group)])
    return _finished(async_op)
