"""Exchanges that are differentiated, as torch.distributed.nn.functional has them.

In: a tensor of each process. Out: a new tensor. Invariant: the gradient is that of the sum of all
processes' losses; it makes exchanges of its own, so all processes go backward alike.
Source: https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tgrad.distributed.calls import exchange, same_shapes, same_size
from tgrad.distributed.collectives import ReduceOp, combine_of, joined, split_sizes
from tgrad.distributed.groups import ProcessGroup, get_group_rank, get_rank, get_world_size
from tgrad.errors import UnsupportedError
from tgrad.joining import stack
from tgrad.tensor import Tensor, define_vjp, with_vjp

__all__ = ["all_gather", "all_reduce", "all_to_all_single", "broadcast", "reduce_scatter"]

Group = ProcessGroup | None
Rows = tuple[int, ...]


# -- one tensor to one tensor, with its VJP ------------------------------------------------------


@define_vjp("distributed_all_reduce", has_effects=True)
def _all_reduce_rule(
    g: Tensor, y: Tensor, x: Tensor, op: ReduceOp, group: Group
) -> Sequence[Tensor]:
    """Σ_p g_p, or the average"""
    return (_summed(g, op, group),)


@define_vjp("distributed_all_gather", has_effects=True)
def _all_gather_rule(g: Tensor, y: Tensor, x: Tensor, group: Group) -> Sequence[Tensor]:
    """this process's share of Σ_p g_p"""
    return (_scattered(g, ReduceOp.SUM, group),)


@define_vjp("distributed_reduce_scatter", has_effects=True)
def _reduce_scatter_rule(
    g: Tensor, y: Tensor, x: Tensor, op: ReduceOp, group: Group
) -> Sequence[Tensor]:
    """all g_p, one after the other"""
    whole = _gathered(g, group)
    return (whole / get_world_size(group) if op is ReduceOp.AVG else whole,)


@define_vjp("distributed_all_to_all", has_effects=True)
def _all_to_all_rule(
    g: Tensor, y: Tensor, x: Tensor, given: Rows, taken: Rows, group: Group
) -> Sequence[Tensor]:
    """rows go back to where they came from"""
    return (_exchanged(g, taken, given, group),)


@define_vjp("distributed_broadcast", has_effects=True)
def _broadcast_rule(g: Tensor, y: Tensor, x: Tensor, root: int, group: Group) -> Sequence[Tensor]:
    """Σ_p g_p for the process that sent, 0 for the others"""
    return (_at_root(g, root, group),)


@define_vjp("distributed_reduce", has_effects=True)
def _reduce_rule(g: Tensor, y: Tensor, x: Tensor, root: int, group: Group) -> Sequence[Tensor]:
    """g of the root for all; what the others keep of their own adds nothing"""
    return (_sent(g, root, group),)


def _summed(x: Tensor, op: ReduceOp, group: Group) -> Tensor:
    result = joined("all_reduce", x, op, (), group)
    return with_vjp("distributed_all_reduce", result, x, params=(op, group))


def _gathered(x: Tensor, group: Group) -> Tensor:
    result = exchange("all_gather", x, (), group)
    return with_vjp("distributed_all_gather", result, x, params=(group,))


def _scattered(x: Tensor, op: ReduceOp, group: Group) -> Tensor:
    result = joined("reduce_scatter", x, op, (), group)
    return with_vjp("distributed_reduce_scatter", result, x, params=(op, group))


def _exchanged(x: Tensor, given: Rows, taken: Rows, group: Group) -> Tensor:
    result = exchange("all_to_all", x, (given, taken), group)
    return with_vjp("distributed_all_to_all", result, x, params=(given, taken, group))


def _sent(x: Tensor, root: int, group: Group) -> Tensor:
    result = exchange("broadcast", x, (root,), group)
    return with_vjp("distributed_broadcast", result, x, params=(root, group))


def _at_root(x: Tensor, root: int, group: Group) -> Tensor:
    total = exchange("reduce", x, (ReduceOp.SUM.value, root), group)
    result = total if get_rank(group) == root else x._constant(0, x.dtype).expand(x.shape)
    return with_vjp("distributed_reduce", result, x, params=(root, group))


# -- PyTorch's functions -------------------------------------------------------------------------


def _linear(op: object, x: Tensor) -> ReduceOp:
    """The operation.

    Raises:
        UnsupportedError: it is no sum, and the tensor requires a gradient.
    """
    found = combine_of(op, x)
    if found not in (ReduceOp.SUM, ReduceOp.AVG) and x.requires_grad:
        raise UnsupportedError(
            f"the gradient of {found}.", "Use ReduceOp.SUM or ReduceOp.AVG, or detach the tensor."
        )
    return found


def all_reduce(tensor: Tensor, op: Any = ReduceOp.SUM, group: Group = None) -> Tensor:
    """The sum, or the average, of the tensors of all processes.

    Args:
        tensor: of one shape and dtype in every process.
        op: ReduceOp.SUM or ReduceOp.AVG; others where no gradient is required.
        group: the processes; all if left out.

    Raises:
        DistributedError: no processes are joined, or the exchange failed.
    """
    return _summed(tensor, _linear(op, tensor), group)


def all_gather(tensor: Tensor, group: Group = None) -> tuple[Tensor, ...]:
    """The tensors of all processes; of one shape and dtype."""
    return tuple(_gathered(tensor.reshape(1, *tensor.shape), group))


def reduce_scatter(
    output: Tensor, input_list: Sequence[Tensor], op: Any = ReduceOp.SUM, group: Group = None
) -> Tensor:
    """The sum of the tensors that all processes have for this one.

    Args:
        output: of the shape and dtype of the result; nothing is written to it.
        input_list: a tensor for each process.
        op, group: as of `all_reduce`.
    """
    same_shapes("input_list", input_list, get_world_size(group), output)
    shares = stack(list(input_list))
    return _scattered(shares, _linear(op, shares), group).reshape(output.shape)


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Group = None,
) -> Tensor:
    """Rows that the processes have for this one; `input` holds those that it has for them.

    Args:
        output: of the shape and dtype of the result; nothing is written to it.
        input: rows along the first axis.
        output_split_sizes, input_split_sizes: how many come from each process and go to it; equal
            shares if left out.
        group: the processes; all if left out.

    Raises:
        ShapeError: the sizes do not add up to the rows.
    """
    given = split_sizes("input", input, input_split_sizes, group)
    taken = split_sizes("output", output, output_split_sizes, group)
    result = _exchanged(input, given, taken, group)
    same_size("output", output, result.numel(), result)
    return result.reshape(output.shape)


def broadcast(tensor: Tensor, src: int, group: Group = None) -> Tensor:
    """The values that process `src` has, by its number among all processes."""
    return _sent(tensor, src if group is None else get_group_rank(group, src), group)
