"""Tensors that share memory in PyTorch, and writes that all of them see.

In: a tensor that is or has a view, and its new values. Out: every tensor of that memory, rebound.
Invariant: each alias is its path of movement over the memory's value as it is now; no Node changes,
so what was computed before keeps the values that it was computed from. See docs/decisions/0018.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any

from tgrad import dtype as dt
from tgrad.arguments import CHANNELS_LAST
from tgrad.autodiff.backward import TWIN, register_vjp
from tgrad.errors import GradientError, ShapeError, UnsupportedError
from tgrad.grad_mode import is_grad_enabled
from tgrad.graph import build as b
from tgrad.graph.layout import like
from tgrad.graph.node import Node, buffer_node, is_leaf_mark, is_made, make
from tgrad.graph.op import ELEMENTWISE, Op
from tgrad.graph.size import Scope, running_scope
from tgrad.graph.sized import SizedPart, may_be_one, shape_of, sized
from tgrad.pending import is_waiting, mark_pending
from tgrad.strided import are_apart, picked, with_picked
from tgrad.strides import Shape, Strides, channels_last, contiguous, in_order_of, reshaped, runs
from tgrad.tracing import tracer
from tgrad.weak_table import WeakTable

if TYPE_CHECKING:
    from tgrad.tensor import Tensor


class When(Enum):
    """When PyTorch gives a view, and not a copy."""

    ALWAYS = "always"
    STRIDES_FIT = "strides fit"
    CONTIGUOUS = "contiguous"


@dataclass(frozen=True, slots=True)
class Step:
    """One movement on the way from a memory to an alias of it.

    Attributes:
        op, attrs: as of a Node; a `custom_vjp` is a detach, a `gather` a strided view of a row.
        when: whether it is a view there.
        is_closed: whether it cannot be followed again, as a view by computed places.
        part: of a slice that begins or ends at a symbolic size, what follows it.
        scope: of the trace whose symbolic sizes it has: it can be followed there alone.
    """

    op: Op
    attrs: tuple[tuple[str, Any], ...]
    when: When = When.ALWAYS
    is_closed: bool = False
    part: SizedPart | None = None
    scope: Scope | None = None

    @property
    def is_open(self) -> bool:
        """Whether it can be followed again."""
        return not (self.is_closed or self.is_over)

    @property
    def is_over(self) -> bool:
        """Whether the trace is over that its sizes belong to."""
        return self.scope is not None and self.scope is not running_scope()


COPY = "copy"
"""The rule of marks of values that were copied, whose original gets their gradients, too."""
DETACH = Step(Op.CUSTOM_VJP, (("params", ()), ("rule", "detach")))


def leaf_step(token: int) -> Step:
    """Through a leaf that is itself an alias: gradients of its views end there."""
    return Step(Op.CUSTOM_VJP, (("params", (token,)), ("rule", "leaf")))


CLOSED = Step(Op.GATHER, (), is_closed=True)
Path = tuple[Step, ...]


@dataclass(eq=False, slots=True)
class Memory:
    """What PyTorch would keep in one memory.

    Attributes:
        value: graph of all of it, as it is now; None where its base is its only tensor.
        strides: of the base.
        requires_grad: whether that graph leads to tensors that require gradients.
        members: the tensors that live in it, by id. That with no path is the base.
    """

    value: Node | None
    strides: Strides
    requires_grad: bool = False
    members: WeakTable[int, Tensor] = field(default_factory=WeakTable)


def join(base: Tensor, alias: Tensor, *steps: Step) -> Tensor:
    """Put `alias`, which is `steps` from `base`, into its memory; the alias."""
    if base._path and base._token is not None:
        is_shared(base)  # alone in its memory it is the base
    memory = base._memory
    if memory is None:
        memory = base._memory = Memory(None, contiguous(base._node.shape))
        memory.members.keep(id(base), base)
    if memory.value is None:
        memory.value, memory.requires_grad = base._node, base._requires_grad
    path = base._path
    if path and base._token is not None:
        path = (*path, leaf_step(base._token))
    alias._memory, alias._path = memory, (*path, *steps)
    memory.members.keep(id(alias), alias)
    return alias


def strides_of(t: Tensor) -> Strides:
    """PyTorch's strides; None where a path does not tell."""
    memory = t._memory
    if memory is None:
        return contiguous(t._node.shape)
    if memory.value is None:
        return memory.strides
    return _strides_along(memory.value, memory.strides, t._path)


@dataclass(frozen=True)
class Place:
    """Where a tensor starts in PyTorch.

    Attributes:
        offset: elements before its first one; None where a path does not tell.
        is_apart: whether it has a memory of its own.
    """

    offset: int | None
    is_apart: bool


def place_of(t: Tensor) -> Place:
    """Where a tensor starts."""
    memory = t._memory
    if memory is None or memory.value is None:
        return Place(0, is_apart=True)
    value, strides, offset, is_apart = memory.value, memory.strides, 0, False
    for step in t._path:
        if strides is None or not step.is_open or step.part is not None:
            return Place(None, is_apart=True)
        made = derive(value, (step,))
        if _is_copied(step, value, strides, made):
            strides, offset, is_apart = contiguous(made.shape), 0, True
        else:
            attrs = dict(step.attrs)
            starts = attrs["start"] if step.op is Op.SLICE else ()
            offset += sum(n * s for n, s in zip(starts, strides)) + attrs.get("offset", 0)
            strides = _strides_after(step, value.shape, strides, made.shape)
        value = made
    return Place(offset, is_apart)


def base_of(t: Tensor) -> Tensor:
    """A tensor of all of its memory, computed; itself where that one is gone and its values lead
    to gradients."""
    memory = t._memory
    if memory is None or memory.value is None:
        return t
    for member in memory.members.living():
        if not member._path:
            return member
    if memory.requires_grad:
        return t
    storage = memory.value.attr("storage") if memory.value.op is Op.BUFFER else None
    base: Tensor = t.detach()
    leave(base)
    base._set(memory.value, t._device, storage)
    base._memory = memory
    memory.members.keep(id(base), base)  # first: of one that is alone, computing makes a base
    memory.value = base.realize()._node
    return base


def copy_to(twin: Tensor, t: Tensor, memo: dict[int, Any]) -> None:
    """Give `twin` the values of a tensor, in a memory of its own.

    Args:
        memo: of `copy.deepcopy`: a memory is copied once for all of its tensors.
    """
    value = t._without_history()
    twin._set(value._node, t._device, value._storage)
    memory = t._memory
    if not is_shared(t) or memory is None or not all(step.is_open for step in t._path):
        return
    assert memory.value is not None
    if id(memory) not in memo:
        base = base_of(t)
        whole = base._without_history()
        if base._path:  # all that is left of its base is graph
            whole = t._of(derive(memory.value, (DETACH,)), t._device)
        memo[id(memory)] = whole
        whole._memory = Memory(None, memory.strides)
        whole._memory.members.keep(id(whole), whole)
    whole = memo[id(memory)]
    twin._node = derive(whole._node, t._path)
    twin._storage = None if twin._node is not whole._node else whole._storage
    join(whole, twin, *(t._path or (DETACH,)))


_REORDERING = frozenset({Op.PERMUTE, Op.WINDOW})


def is_reordered(t: Tensor) -> bool:
    """Whether its elements may lie in memory in another order than row by row."""
    memory = t._memory
    if memory is None:
        return False
    shape = t._node.shape if memory.value is None else memory.value.shape
    if memory.strides != contiguous(shape):
        return True
    return bool(t._path) and any(s.op in _REORDERING for s in t._path)


KEEPS_ORDER = ELEMENTWISE | {Op.FLIP, Op.EXPAND}
"""Ops whose result has the strides of a permuted operand in PyTorch."""


IN_ROWS = frozenset({"softmax", "log_softmax", "normalise"})
"""Composites whose result PyTorch lays out row by row, whatever the strides of its operand."""


def keep_order(result: Tensor, *operands: Tensor) -> Tensor:
    """Give what is computed element by element the strides that PyTorch gives it; the result."""
    for t in operands:
        if t._memory is not None and is_reordered(t):
            break
    else:
        return result
    shape = result._node.shape
    if result._node.op is Op.EXPAND:
        strides = _broadcast(strides_of(operands[0]), operands[0]._node.shape, shape)
    else:
        strides = in_order_of(shape, [_expanded_strides(t, shape) for t in operands])
    leave(result)
    if strides != contiguous(shape):
        _lie(result, strides)
    return result


def in_rows(t: Tensor) -> Tensor:
    """The tensor, which PyTorch lays out row by row though one number is all that it is made of."""
    if t._memory is None and t._node.op is Op.EXPAND:
        _lie(t, contiguous(t._node.shape))
    return t


def _lie(t: Tensor, strides: Strides) -> None:
    """Give a tensor that has no memory one with these strides."""
    t._memory = Memory(None, strides)
    t._memory.members.keep(id(t), t)


def laid_out(t: Tensor, memory_format: str) -> Tensor:
    """The same values with the strides of a format that lays channels last, as PyTorch has it;
    itself if it has them. How tgrad stores anything is its own choice.

    Raises:
        ShapeError: the format is one of tensors with more or fewer axes.
    """
    rank = CHANNELS_LAST[memory_format]
    if len(t._node.shape) != rank:
        raise ShapeError(
            f"{memory_format} of a tensor with {len(t._node.shape)} axes.",
            f"Only tensors with {rank} axes have it.",
        )
    strides = channels_last(t._node.shape)
    if strides_of(t) == strides:
        return t
    copy: Tensor = t.clone(memory_format="contiguous_format")
    leave(copy)
    if strides != contiguous(t._node.shape):
        _lie(copy, strides)
    return copy


def own_memory(result: Tensor, operand: Tensor) -> Tensor:
    """The result, apart from what it was made of: in rows, unless the operand is not, whose order
    PyTorch follows in part."""
    leave(result)
    if is_reordered(operand):
        _lie(result, None)
    return result


def _expanded_strides(t: Tensor, shape: Shape) -> Strides:
    """Strides of an operand of that shape, expanded to it by now or not."""
    node = t._node
    if t._memory is None and node.op is Op.EXPAND:
        return _broadcast(contiguous(node.inputs[0].shape), node.inputs[0].shape, shape)
    return _broadcast(strides_of(t), node.shape, shape)


def _broadcast(strides: Strides, shape: Shape, made: Shape) -> Strides:
    if strides is None:
        return None
    lead = len(made) - len(shape)
    kept = zip(strides, shape, made[lead:], strict=True)
    return (*(0,) * lead, *(s if n == m else 0 for s, n, m in kept))


def is_contiguous_base(t: Tensor) -> bool:
    """Whether it is no view, and lies in memory as what is computed does."""
    return not t._path and (t._memory is None or t._memory.strides == contiguous(t._node.shape))


def is_part(t: Tensor) -> bool:
    """Whether it is a view of fewer elements than its memory has."""
    memory = t._memory
    return memory is not None and memory.value is not None \
        and prod(memory.value.shape) != prod(t._node.shape)  # fmt: skip


def leave(t: Tensor) -> None:
    """Take it out of its memory, to have one of its own."""
    if t._memory is not None:
        t._memory.members.pop(id(t), None)
    t._memory, t._path = None, ()


def is_shared(t: Tensor) -> bool:
    """Whether another tensor lives in its memory; a tensor that is alone becomes the base."""
    memory = t._memory
    if memory is None or memory.value is None:
        return False
    if len(memory.members) > 1:
        return True
    if t._path:
        memory.strides = _strides_along(memory.value, memory.strides, t._path)
    memory.value, t._path = None, ()
    if memory.strides == contiguous(t._node.shape):
        t._memory = None
    return False


def stored(t: Tensor) -> None:
    """A member has the same values as before, by another graph: what was not computed of the
    others, and leads to no gradient, begins there from now on."""
    if not is_shared(t) or t._path or t._memory is None:
        return
    t._memory.value, t._memory.requires_grad = t._node, t._requires_grad
    if t._storage is None:
        return
    for m in t._memory.members.living():
        if not is_waiting(m) or m._requires_grad or not all(step.is_open for step in m._path):
            continue
        path = [step for step in m._path if step.op is not Op.CUSTOM_VJP]
        m._node = derive(buffer_node(t._storage), path)
        m._storage = None if path else t._storage


def refresh(tensors: Iterable[Tensor]) -> None:
    """Tensors were given new values by their storages: the others in their memories see them."""
    values = [(t, t._without_history()) for t in tensors if is_shared(t)]  # a write derives others
    for t, value in values:
        _write(t, value, keeps_history=True)


def write(t: Tensor, value: Tensor) -> None:
    """New values of a tensor that `is_shared`, of its shape and dtype.

    Raises:
        GradientError: it is a view of a leaf that requires a gradient, and gradients are on.
        UnsupportedError: several of its elements are one in memory, or cannot be found there.
    """
    assert t._memory is not None
    is_apart = DETACH in t._path
    check_open(t)
    _separate_copies(t._memory)
    if not is_shared(t):
        t._assign(value)
        return
    assert t._memory.value is not None
    if is_grad_enabled() and _is_view_of_leaf(t._memory.value, t._path):
        raise GradientError(
            "a view of a leaf that requires a gradient is changed in place.",
            "Do it under no_grad().",
        )
    _write(t, value, keeps_history=is_apart or not is_grad_enabled())


def _write(t: Tensor, value: Tensor, keeps_history: bool) -> None:
    """Put the values into the memory, and derive the members again.

    Args:
        keeps_history: whether gradients go where they went before, as in PyTorch under no_grad.
    """
    memory = t._memory
    assert memory is not None and memory.value is not None
    before, node = memory.value, _put(memory.value, t._path, value._node)
    if not keeps_history:
        memory.requires_grad |= value._requires_grad
    elif is_leaf_mark(before):
        node = make(Op.CUSTOM_VJP, node, rule="leaf", params=before.attr("params"))
    elif memory.requires_grad:
        node = with_history_of(before, node)
    members = memory.members.living()
    bases = [m for m in members if not m._path]
    views = {id(m): derive(node, m._path) for m in members if m is not t}
    for m in members:
        _note(m, bases, m is t)
    memory.value = node
    for m in members:
        if m is not t:
            _give(m, views[id(m)], _leads_on(memory, m._path))
    if t._token is not None:
        t._rebind(value._without_history()._node, value._storage)
    elif keeps_history and t._requires_grad:
        _give(t, derive(node, t._path), True)
    else:
        _give(t, value._node, value._requires_grad)
        t._storage = value._storage
    for m in dict.fromkeys((*bases, t)):
        mark_pending(m)


def _leads_on(memory: Memory, path: Path) -> bool:
    """Whether gradients pass from the end of a path to what the memory was computed from, or to a
    leaf on the way."""
    for step in reversed(path):
        if step.op is Op.CUSTOM_VJP:
            return step != DETACH
    return memory.requires_grad


def _is_view_of_leaf(value: Node, path: Path) -> bool:
    marks = [step for step in path if step.op is Op.CUSTOM_VJP]
    return marks[-1] != DETACH if marks else is_leaf_mark(value)


def _note(t: Tensor, bases: Sequence[Tensor], is_written: bool) -> None:
    """Tell a trace: what a living base gives again need not be kept."""
    trace = tracer()
    if trace is None:
        return
    if not bases or not t._path or (is_written and t._storage is not None):
        trace.note(t)
    else:
        trace.note_view(t)


def _give(t: Tensor, node: Node, requires_grad: bool) -> None:
    """Bind a member to new graph."""
    if t._token is not None:
        t._rebind(node.inputs[0] if is_leaf_mark(node) else node, None)
        return
    t._take_back()
    t._node, t._storage = node, None
    t._requires_grad = requires_grad


def with_history_of(before: Node, value: Node) -> Node:
    """The new values, whose gradient goes where that of `before` goes."""
    apart = make(Op.CUSTOM_VJP, value, rule="detach", params=())
    return make(Op.CUSTOM_VJP, apart, before, rule="realised", params=())


@register_vjp("overwritten")
def _overwritten_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[object, ...]
) -> Sequence[Node | None]:
    """0: nothing of the old values is left"""
    return (b.const_like(g, 0),)


def overwriting(before: Node, value: Node) -> Node:
    """The new values, which still lead to what the old ones were computed from."""
    return make(Op.CUSTOM_VJP, value, before, rule="overwritten", params=())


def replacing(old: Tensor, value: Tensor) -> Tensor:
    """The new values of all elements; zeros, and not None, are the gradient of what the old ones
    were computed from."""
    if not (old._requires_grad and is_grad_enabled()):
        return value
    new = value._node
    node = make(Op.CUSTOM_VJP, new, new, old._node, rule="zero_slope", params=())
    return value._result(node, value._device, (old,))


@register_vjp(COPY)
@register_vjp(TWIN)
def _copy_rule(
    g: Node, result: Node, arguments: tuple[Node, ...], params: tuple[object, ...]
) -> Sequence[Node | None]:
    """g of the copy"""
    return (g,)


def give_gradient_of_its_own(t: Tensor, rule: str = COPY) -> None:
    """Have a tensor told from what it was copied from, or from one that was computed alike: hooks
    on it do not see the gradients of those.

    Its mark has the least number that no other has, so that steps alike make graphs alike.
    """
    node = t._node
    inputs, number = (node, node), 0
    while is_made(Op.CUSTOM_VJP, inputs, (("params", (number,)), ("rule", rule))):
        number += 1
    t._node = make(Op.CUSTOM_VJP, *inputs, rule=rule, params=(number,))


def tell_from_equals(t: Tensor) -> None:
    """Give a computed tensor a node that no other was computed as."""
    if t._node.is_held:
        give_gradient_of_its_own(t, TWIN)
    t._node.is_held = True


# -- along a path --------------------------------------------------------------------------------


def derive(value: Node, path: Sequence[Step]) -> Node:
    """The alias of that path."""
    for step in path:
        attrs = dict(step.attrs)
        made = None if step.part is None else step.part.take(value)
        if made is None:
            build = make if step.scope is None else sized
            made = (
                picked(value, **attrs) if step.op is Op.GATHER else build(step.op, value, **attrs)
            )
        value = made
    return value


def check_open(t: Tensor) -> None:
    """Make sure that a write to it can reach all that share its memory.

    Raises:
        UnsupportedError: one of them is an alias that no write follows.
    """
    members = () if t._memory is None else t._memory.members.living()
    for m in members:
        if m is not t and any(step.is_over for step in m._path):
            leave(m)  # the trace failed, and its error holds what it had made
    for m in (t, *members):
        if m._memory is t._memory and not all(step.is_open for step in m._path):
            raise UnsupportedError(
                "an in-place change of a tensor that shares memory by a symbolic size is not "
                "supported.",
                "Assign to an index (x[i] = v), use the function without the underscore, or "
                ".clone() first.",
            )


def _put(value: Node, path: Sequence[Step], new: Node) -> Node:
    """The memory's value with the elements of an alias replaced."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    return _put_back(step, value, _put(derive(value, (step,)), rest, new))


def _put_back(step: Step, x: Node, new: Node) -> Node:
    """`x` with the elements that the step shows replaced by those of `new`."""
    attrs = dict(step.attrs)
    if step.part is not None:
        return step.part.put(x, new)
    if step.op is Op.CUSTOM_VJP:
        return derive(new, (DETACH,))
    if step.op is Op.RESHAPE or (step.op is Op.EXPAND and prod(new.shape) == prod(x.shape)):
        return new if new.shape == x.shape else sized(Op.RESHAPE, new, shape=shape_of(x))
    if step.op is Op.GATHER and are_apart(attrs["size"], attrs["stride"]):
        return with_picked(x, new, **attrs)
    if step.op is Op.BITCAST:
        return make(Op.BITCAST, new, dtype=x.dtype)
    if step.op is Op.PERMUTE:
        return b.permute(new, [attrs["axes"].index(a) for a in range(len(x.shape))])
    if step.op is Op.SLICE:
        inside = b.const(True, dt.bool_, new.shape)
        for axis, (start, by) in enumerate(zip(attrs["start"], attrs["step"], strict=True)):
            new, inside = (
                b.fit_axis(b.dilate_axis(n, axis, by), axis, start, x.shape[axis])
                for n in (new, inside)
            )
        return b.where(like(inside, x), like(new, x), x)
    name = "as_strided" if step.op is Op.GATHER else step.op
    raise UnsupportedError(
        f"an in-place change through {name}: several elements of the view are one in memory.",
        "Use .clone() first.",
    )


# -- which aliases PyTorch would have copied -----------------------------------------------------


def _separate_copies(memory: Memory) -> None:
    """Give members that PyTorch would have copied, and aliases of these, a memory of their own."""
    assert memory.value is not None
    moved: dict[int, Memory] = {}
    for m in memory.members.living():
        at = _first_copy(memory.value, memory.strides, m._path)
        if at is None:
            continue
        copy, rest = m._path[at], m._path[at + 1 :]
        if id(copy) not in moved:
            value = derive(memory.value, m._path[: at + 1])
            leads = _leads_on(memory, m._path[:at])
            moved[id(copy)] = Memory(value, contiguous(value.shape), leads)
        leave(m)
        m._memory, m._path = moved[id(copy)], rest
        m._memory.members.keep(id(m), m)
    for each in moved.values():
        _separate_copies(each)


def _first_copy(value: Node, strides: Strides, path: Path) -> int | None:
    """The place of the first step of a path where PyTorch makes a copy.

    Raises:
        UnsupportedError: the path does not tell.
    """
    for place, step in enumerate(path):
        if not step.is_open:
            return None
        made = derive(value, (step,))
        after = _strides_after(step, value.shape, strides, made.shape)
        if step.when is not When.ALWAYS:
            is_view = strides is not None and _is_view(step, value.shape, strides, after)
            if strides is None or (not is_view and may_be_one(value)):
                raise UnsupportedError(
                    "an in-place change of memory of which a reshape may or may not be a copy.",
                    "Use .view() or .clone() in place of the reshape.",
                )
            if not is_view:
                return place
        value, strides = made, after
    return None


def _is_view(step: Step, shape: Shape, strides: tuple[int, ...], after: Strides) -> bool:
    if step.when is When.CONTIGUOUS:
        return runs(shape, strides) == runs(shape, contiguous(shape))
    return after is not None


def _strides_along(value: Node, strides: Strides, path: Path) -> Strides:
    """Strides of the alias of that path, which may have been copied on the way."""
    for step in path:
        if not step.is_open:
            return None
        made = derive(value, (step,))
        if strides is not None and _is_copied(step, value, strides, made):
            strides = contiguous(made.shape)
        else:
            strides = _strides_after(step, value.shape, strides, made.shape)
        value = made
    return strides


def _is_copied(step: Step, value: Node, strides: Shape, made: Node) -> bool:
    """Whether PyTorch copies what the step moves."""
    if step.when is When.ALWAYS:
        return False
    after = _strides_after(step, value.shape, strides, made.shape)
    return not _is_view(step, value.shape, strides, after)


def _strides_after(step: Step, shape: Shape, strides: Strides, made: Shape) -> Strides:
    """Strides of what the step makes, of shape `made`, from those of what it moves."""
    attrs = dict(step.attrs)
    if strides is None:
        return None
    if step.op is Op.PERMUTE:
        return tuple(strides[a] for a in attrs["axes"])
    if step.op is Op.SLICE:
        return tuple(s * by for s, by in zip(strides, attrs["step"], strict=True))
    if step.op is Op.EXPAND:
        return _broadcast(strides, shape, made)
    if step.op is Op.WINDOW:
        axis = attrs["axis"]
        wider = (s * attrs["stride"] if a == axis else s for a, s in enumerate(strides))
        return (*wider, strides[axis] * attrs["dilation"])
    if step.op is Op.RESHAPE:
        return reshaped(runs(shape, strides), made)
    if step.op is Op.GATHER and step.part is None:
        given: tuple[int, ...] = attrs["stride"]
        return given
    if step.part is not None and not step.part.is_run:
        return None  # what lies between its elements differs from call to call
    return strides
