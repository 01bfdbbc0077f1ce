"""Which operations of a checkpoint keep their results, as torch.utils.checkpoint's policies say.

In: a policy, by operation. Out: the nodes that are kept. Invariant: a policy chooses what is
computed again and nothing else; operations are named as in errors and tables of plans ("linear",
"matmul", "scaled_dot_product_attention"), since there is no dispatcher whose names they could have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tgrad.errors import UnsupportedError
from tgrad.graph.node import Node
from tgrad.graph.op import MOVEMENT, Op


class CheckpointPolicy(Enum):
    """What becomes of the result of an operation; those that prefer count as those that must."""

    MUST_SAVE = 0
    PREFER_SAVE = 1
    MUST_RECOMPUTE = 2
    PREFER_RECOMPUTE = 3
    MUST_CPU_OFFLOAD = 4
    PREFER_CPU_OFFLOAD = 5


_SAVED = (CheckpointPolicy.MUST_SAVE, CheckpointPolicy.PREFER_SAVE)
_MOVED = (CheckpointPolicy.MUST_CPU_OFFLOAD, CheckpointPolicy.PREFER_CPU_OFFLOAD)


@dataclass(frozen=True)
class SelectiveCheckpointContext:
    """What a policy is told beside the operation."""

    is_recompute: bool = False
    op_output: Any = None


class Policy(AbstractContextManager[None]):
    """The first of the contexts that `create_selective_checkpoint_contexts` gives."""

    def __init__(self, decide: Callable[[str], bool]):
        self.saves = decide

    def __exit__(self, *exc: object) -> None:
        pass


def create_selective_checkpoint_contexts(
    policy_fn_or_list: Callable[..., Any] | Sequence[Any], allow_cache_entry_mutation: bool = False
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """For `checkpoint(..., context_fn=lambda: create_selective_checkpoint_contexts(policy))`.

    Args:
        policy_fn_or_list: the operations whose results are kept, by name or as functions; or a
            function (context, name of the operation) -> CheckpointPolicy, or True to keep.
        allow_cache_entry_mutation: accepted; what is changed in place is a new value.

    Raises:
        UnsupportedError: the policy moves values to the host, or names an operator of torch.

    >>> import tgrad
    >>> from functools import partial
    >>> from tgrad.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts
    >>> x = tgrad.ones(2, 2, requires_grad=True)
    >>> keep = partial(create_selective_checkpoint_contexts, [tgrad.matmul])
    >>> checkpoint(lambda x: (x @ x).exp().sum(), x, context_fn=keep).backward()
    >>> x.grad.shape
    (2, 2)
    """
    if callable(policy_fn_or_list):
        policy = policy_fn_or_list
        context = SelectiveCheckpointContext()
        return Policy(lambda name: _is_saved(policy(context, name))), nullcontext()
    names = frozenset(_name(op) for op in policy_fn_or_list)
    return Policy(names.__contains__), nullcontext()


def _is_saved(choice: Any) -> bool:
    if choice in _MOVED:
        raise UnsupportedError(
            f"a checkpoint with {choice}.", "Use MUST_SAVE, or MUST_RECOMPUTE, which takes no room."
        )
    return choice is True or choice in _SAVED


def _name(op: Any) -> str:
    if isinstance(op, str):
        return op
    if type(op).__module__.startswith("torch"):
        raise UnsupportedError(
            f"a checkpoint that keeps the results of {op}.",
            'Name the operation as tgrad does, such as "matmul" or tgrad.matmul.',
        )
    return str(op.__name__)


def saved_nodes(
    result: Node, below: Collection[Node], saves: Callable[[str], bool]
) -> frozenset[Node]:
    """The results of operations that a policy keeps: nodes that another operation reads, and every
    product.

    Args:
        result: of the checkpoint.
        below: where it begins.
        saves: whether results of the operation of this name are kept.
    """
    found: dict[Node, None] = {result: None}
    seen = set(below)
    stack = [result]
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        for x in n.inputs:
            if x.op is Op.DOT or x.source != n.source:
                found[x] = None
            stack.append(x)
    return frozenset(
        n for n in found
        if n not in below and n.dtype.is_float and n.inputs and n.op not in MOVEMENT
        and saves(n.source.label)
    )  # fmt: skip
