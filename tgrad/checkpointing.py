"""Computing again in backward what forward does not keep, as torch.utils.checkpoint.

In: a function and its arguments. Out: its result. Invariant: values, gradients and random numbers
are those without a checkpoint; backward reads the arguments and computes the rest again, because
its copy of the graph stands on arguments that no rule can tell from the forward's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from tgrad import dtype as dt
from tgrad.autodiff.backward import register_vjp
from tgrad.dtype import DType
from tgrad.errors import UnsupportedError
from tgrad.graph.node import Node, make, on_inputs
from tgrad.graph.op import Op
from tgrad.hooks import share_hooks
from tgrad.selective import Policy, saved_nodes
from tgrad.tensor import Tensor

_BITS: dict[int, DType] = {1: dt.int8, 2: dt.int16, 4: dt.int32, 8: dt.int64}


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Any = None,
    determinism_check: str = "default",
    debug: bool = False,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, whose values in between are computed again in backward.

    Args:
        function: gives a tensor, or a list or tuple of tensors and other things.
        use_reentrant: accepted; there is one implementation, and it calls `function` once.
        context_fn: gives the contexts of `create_selective_checkpoint_contexts`, which chooses what
            is kept, or of `noop_context_fn`.
        debug: not supported.
        determinism_check: accepted; the same graph is computed again, so nothing can differ.
        preserve_rng_state: only True: the same random numbers are drawn again.

    Raises:
        UnsupportedError: an argument that is not supported.

    >>> import tgrad
    >>> x = tgrad.ones(2, requires_grad=True)
    >>> tgrad.utils.checkpoint.checkpoint(lambda x: x.exp().sin().sum(), x).backward()
    >>> x.grad.shape
    (2,)
    """
    if debug or not preserve_rng_state:
        raise UnsupportedError(
            "checkpoint with debug, or preserve_rng_state=False.", "Leave it out."
        )
    policy = _policy(context_fn)
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
    result = function(*args, **kwargs)
    if isinstance(result, (tuple, list)):
        return type(result)(_marked(r, given, policy) for r in result)
    return _marked(result, given, policy)


def _policy(context_fn: Any) -> Policy | None:
    """Which results are kept; None for none."""
    if context_fn in (None, noop_context_fn):
        return None
    contexts = context_fn()
    if isinstance(contexts[0], Policy):
        return contexts[0]
    if all(isinstance(c, nullcontext) for c in contexts):
        return None
    raise UnsupportedError(
        "checkpoint with contexts of your own: the function is called once.",
        "Use create_selective_checkpoint_contexts; or no checkpoint and tgrad.compile with "
        "memory_limit=, which chooses what is computed again.",
    )


def noop_context_fn() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Two blocks that change nothing."""
    return nullcontext(), nullcontext()


@contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """A block in which PyTorch stops computing again where nothing more is needed, or does not;
    here nothing is computed that is not needed."""
    yield


@contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """A block in which checkpoints say more when they fail.

    Raises:
        UnsupportedError: `enabled` is True.
    """
    if enabled:
        raise UnsupportedError(
            "set_checkpoint_debug_enabled(True): the same graph is computed again, nothing fails.",
            "Leave it out.",
        )
    yield


def _marked(result: Any, given: Sequence[Tensor], policy: Policy | None) -> Any:
    if not isinstance(result, Tensor) or not result.requires_grad:
        return result
    again = {x: _anew(x) for x in _start(result._node, {t._node for t in given})}
    kept = frozenset() if policy is None else saved_nodes(result._node, again, policy.saves)
    copy = _rebuilt(result._node, again, kept)
    node = make(Op.CUSTOM_VJP, result._node, copy, rule="checkpoint", params=())
    marked = Tensor._of(node, result.device)
    marked._requires_grad = True
    return marked


def _start(node: Node, given: set[Node]) -> list[Node]:
    """Where the gradient leaves the computation: arguments, leaves, and stored values."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = [node]
    while stack:
        n = stack.pop()
        if n in seen:
            continue
        seen.add(n)
        is_kept = n.op is Op.CUSTOM_VJP and n.attr("rule") in ("leaf", "realised")
        if n in given or is_kept:
            if n.dtype.is_float:
                found[n] = None
        else:
            stack.extend(n.inputs)
    return list(found)


@register_vjp("checkpoint")
def _rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> Sequence[Node | None]:
    """g, of the same result on other arguments of the same values."""
    return (g,)


def _anew(x: Node) -> Node:
    """The same values, as a node that common subexpressions do not reach across; its gradient, in
    derivatives of the rule, is that of the values."""
    bits = make(Op.BITCAST, x, dtype=_BITS[x.dtype.itemsize])
    value = make(Op.BITCAST, bits, dtype=x.dtype)
    return make(Op.CUSTOM_VJP, value, x, rule="realised", params=())


def _rebuilt(node: Node, table: dict[Node, Node], kept: Collection[Node]) -> Node:
    """The node with nodes below it replaced. Hooks on what is replaced see the gradients. What is
    kept has its value, and the history of the copy."""
    made = dict(table)
    stack = [(node, False)]
    while stack:
        n, is_ready = stack.pop()
        if n in made:
            continue
        if not is_ready:
            stack.append((n, True))
            stack.extend((x, False) for x in n.inputs if x not in made)
            continue
        inputs = tuple(made[x] for x in n.inputs)
        if n in kept and n.op is Op.CUSTOM_VJP:
            inputs = (n.inputs[0], *inputs[1:])
        made[n] = on_inputs(n, inputs)
        if made[n] is not n:
            share_hooks(made[n], n)
            if n in kept and n.op is not Op.CUSTOM_VJP:
                made[n] = make(Op.CUSTOM_VJP, n, made[n], rule="realised", params=())
    return made[node]


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """Functions one after the other, in `segments` checkpoints, the last of which is kept.

    >>> import tgrad
    >>> x = tgrad.ones(2, requires_grad=True)
    >>> steps = [tgrad.exp, tgrad.sin, tgrad.cos]
    >>> tgrad.utils.checkpoint.checkpoint_sequential(steps, 2, x).shape
    (2,)
    """
    steps = list(functions)
    size = max(len(steps) // segments, 1)

    def run(part: Sequence[Callable[[Any], Any]], value: Any) -> Any:
        for step in part:
            value = step(value)
        return value

    last = size * (segments - 1)
    for start in range(0, last, size):
        part = steps[start : start + size]
        input = checkpoint(lambda x, part=part: run(part, x), input, **kwargs)
    return run(steps[last:], input)
