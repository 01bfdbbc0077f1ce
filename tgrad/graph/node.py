"""Nodes: the immutable, hash-consed graph.

In: an op, input nodes, attributes. Out: the one Node of that structure. Invariant: equal structure
is the same object, so common subexpressions are free and nodes compare by identity; shape, dtype
and device are derived, never given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from math import prod
from operator import attrgetter
from typing import Any, NamedTuple

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.errors import DeviceError, Source, find_user_source
from tgrad.graph.op import Op
from tgrad.graph.shape import infer
from tgrad.weak_table import WeakTable

Attrs = tuple[tuple[str, Hashable], ...]


class Node:
    """One operation on its inputs. Make it with `make`.

    Attributes:
        op: what is computed.
        inputs: operand nodes.
        attrs: sorted (name, value) pairs, see graph/op.py.
        shape: sizes of the axes.
        size: number of elements.
        dtype: element type.
        device: where it must be computed; None if any device will do.
        source: the user's line that made it first.
        born: how many plans had run when it was made.
        is_computed: whether a plan has computed it.
        is_held: whether a tensor that requires a gradient was made of it. All else never changes.
    """

    __slots__ = (
        "op",
        "inputs",
        "attrs",
        "shape",
        "size",
        "dtype",
        "device",
        "source",
        "born",
        "is_computed",
        "is_held",
        "__weakref__",
    )
    op: Op
    inputs: tuple[Node, ...]
    attrs: Attrs
    shape: tuple[int, ...]
    size: int
    dtype: DType
    device: Device | None
    source: Source
    born: int
    is_computed: bool
    is_held: bool

    def attr(self, name: str) -> Any:
        """The attribute of that name."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(f"{self.op} has no attribute {name!r}")

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __copy__(self) -> Node:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Node:
        """Itself: a copy would not be the one node of its structure, and free its memory twice."""
        return self

    def __reduce__(self) -> Any:
        """
        Raises:
            TypeError: always; a node's memory is an address of this process.
        """
        raise TypeError("a node of tgrad's graph cannot be pickled; pickle the values")

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"<{self.op} {self.dtype.short}[{shape}] at {self.source}>"


Key = tuple[Hashable, ...]


class _Runs:
    """How many plans have run."""

    count = 0


runs = _Runs()
_BUFFER, _CONST, _MARK = Op.BUFFER, Op.CONST, Op.CUSTOM_VJP
"""Looked up once: Python 3.11 takes 0.09 us for the member of an enumeration."""
_nodes: WeakTable[Key, Node] = WeakTable()
locked = threading.RLock()
"""Held while nodes are made."""


class _Entered(threading.local):
    """The scope that was opened last in a thread; it may be closed by now."""

    last: source_scope | None = None


_entered = _Entered()


class source_scope(type(threading.RLock())):  # type: ignore[misc]
    """Context manager: nodes made inside carry this source, or the user's line with this label.

    The outermost label wins: the `exp` inside softmax belongs to softmax, whose scope is entered
    again. A scope is open while its lock is held, which only C takes and gives back, in one step
    each: Ctrl-C leaves none open.
    """

    __slots__ = ("source", "outer")
    source: Source
    outer: source_scope | None

    def __new__(cls, source: Source | None = None, label: str = "") -> source_scope:
        outer = _innermost()
        if source is None:
            if outer is not None:
                return outer
            source = find_user_source(label, 2)
        scope: source_scope = super().__new__(cls)
        scope.source, scope.outer = source, outer
        _entered.last = scope
        return scope


def _innermost() -> source_scope | None:
    """The scope that is open in this thread."""
    scope = _entered.last
    while scope is not None and not scope._is_owned():
        scope = scope.outer
    return scope


def is_in_source_scope() -> bool:
    """Whether nodes are being made for an operation that has begun."""
    return _innermost() is not None


def current_source() -> Source:
    """The operation that has begun, or the user's line."""
    scope = _innermost()
    return find_user_source("", 2) if scope is None else scope.source


def _source_of(op: Op, inner: int = 1) -> Source:
    """Where a node that is made now belongs. So many callers of this function are no user."""
    scope = _innermost()
    return find_user_source(op._value_, inner + 2) if scope is None else scope.source


def source_here(inner: int) -> Source:
    """Where nodes belong that are made of a template now. So many callers are no user."""
    return _source_of(_MARK, inner)


def make(op: Op, *inputs: Node, **attrs: Hashable) -> Node:
    """The node of this structure; the same object as before if it exists already.

    Raises:
        ShapeError, DTypeError, DeviceError: the operands do not fit the op.
    """
    return node_of(op, inputs, attrs, 1)


def is_made(op: Op, inputs: tuple[Node, ...], attrs: Attrs) -> bool:
    """Whether there is a node of this structure; the attributes are in the order of their names."""
    return _nodes.find((op, inputs, attrs)) is not None


def node_of(op: Op, inputs: tuple[Node, ...], attrs: dict[str, Hashable], inner: int) -> Node:
    """The same. So many callers of this function are no user: see `find_user_source`."""
    pairs: Attrs = tuple(sorted(attrs.items()) if len(attrs) > 1 else attrs.items())
    # repr keeps 1, 1.0 and True, and 0.0 and -0.0, apart
    key = (op, repr(attrs["value"]), attrs["dtype"]) if op is _CONST else (op, inputs, pairs)
    with locked:
        node = _nodes.find(key)
        if node is not None:
            return node
        shape, dtype = infer(op, inputs, attrs)
        shape = tuple(shape)  # a Size, which is slow to index, is what users get
        device = _common_device(op, inputs, attrs)
        source = _source_of(op, inner + 1)
        return _new(key, op, inputs, pairs, shape, prod(shape), dtype, device, source)


def _new(
    key: Key,
    op: Op,
    inputs: tuple[Node, ...],
    attrs: Attrs,
    shape: tuple[int, ...],
    size: int,
    dtype: DType,
    device: Device | None,
    source: Source,
) -> Node:
    """A node that there was not, in the table from now on."""
    node = Node.__new__(Node)
    node.op, node.inputs, node.attrs = op, inputs, attrs
    node.shape, node.size, node.dtype = shape, size, dtype
    node.device, node.source = device, source
    node.born, node.is_computed, node.is_held = runs.count, False, False
    _nodes.keep(key, node)
    return node


class Row(NamedTuple):
    """A node whose type is known, on inputs that are not.

    Attributes:
        op, attrs, shape, size, dtype, device: of the node.
        inputs: where they stand in a list.
        source: of the node; None for that of the operation that is being made.
    """

    op: Op
    inputs: tuple[int, ...]
    attrs: Attrs
    shape: tuple[int, ...]
    size: int
    dtype: DType
    device: Device | None
    source: Source | None


def make_rows(rows: Iterable[Row], made: list[Node]) -> None:
    """Append the node of each row to the list that its inputs are in: `make` without its rules."""
    here, find, new = _source_of(_MARK), _nodes.find, _new
    with locked:
        for op, places, attrs, shape, size, dtype, device, source in rows:
            inputs = tuple([made[i] for i in places])
            key = (op, inputs, attrs)
            made.append(
                find(key) or new(key, op, inputs, attrs, shape, size, dtype, device, source or here)
            )


def join_row(row: Row, made: Sequence[Node], here: Source, born: int, empty: Node | None) -> Node:
    """The node of one row.

    Args:
        row: of a template.
        made: the list that its inputs are in.
        here: the line of the node if the row has none.
        born: how many plans had run when it was first spoken of.
        empty: a node to be it, which has neither op nor inputs nor attributes, or got them when
            this was interrupted. If there is an equal one, it becomes a reshape of that to its own
            shape.
    """
    inputs = tuple([made[i] for i in row.inputs])
    key: Key = (row.op, inputs, row.attrs)
    node = _nodes.find(key)
    if empty is None and node is None:
        node = _new(key, row.op, inputs, row.attrs, row.shape, row.size, row.dtype, row.device,
                    row.source or here)  # fmt: skip
        node.born = born
    elif empty is not None and node is None:
        empty.op, empty.inputs, empty.attrs = row.op, inputs, row.attrs
        _nodes.keep(key, empty)
        node = empty
    elif empty is not None and node is not empty and node is not None:
        empty.op, empty.inputs, empty.attrs = Op.RESHAPE, (node,), (("shape", row.shape),)
    assert node is not None
    return node


def is_leaf_mark(node: Node) -> bool:
    """Whether a node is the mark of a tensor that gradients are asked for."""
    return node.op is _MARK and node.attr("rule") == "leaf"


def on_inputs(node: Node, inputs: tuple[Node, ...]) -> Node:
    """The node with other inputs, on the same line of the user's; itself if they are the same.

    Rewriting mostly gives inputs of the shapes and dtypes that were there, and a result's follow
    from those alone.
    """
    if inputs == node.inputs:
        return node
    op, attrs = node.op, node.attrs
    if [(x.shape, x.dtype) for x in inputs] != [(x.shape, x.dtype) for x in node.inputs]:
        with source_scope(node.source):
            return make(op, *inputs, **dict(attrs))
    key = (op, inputs, attrs)
    with locked:
        device = _common_device(op, inputs, {})
        return _nodes.find(key) or _new(
            key, op, inputs, attrs, node.shape, node.size, node.dtype, device, node.source
        )


def buffer_node(storage: Any) -> Node:
    """The node of a storage: `make(Op.BUFFER, storage=storage)` without its rules. A compiled call
    makes one for each result."""
    attrs: Attrs = (("storage", storage),)
    key = (_BUFFER, (), attrs)
    with locked:
        return _nodes.find(key) or _new(
            key, _BUFFER, (), attrs, storage.shape, prod(storage.shape), storage.dtype,
            storage.device, _source_of(_BUFFER),
        )  # fmt: skip


def constant_node(value: bool | int | float, dtype: DType) -> Node:
    """The node of a number: `make(Op.CONST, value=value, dtype=dtype)` without its rules. Every
    operation of a tensor and a number makes one."""
    key = (_CONST, repr(value), dtype)
    with locked:
        return _nodes.find(key) or _new(
            key, _CONST, (), (("dtype", dtype), ("value", value)), (), 1, dtype, None,
            _source_of(_CONST),
        )  # fmt: skip


def _common_device(op: Op, inputs: tuple[Node, ...], attrs: dict[str, Any]) -> Device | None:
    if op is _BUFFER:
        return attrs["storage"].device
    device = None
    for x in inputs:
        if x.device is device or x.device is None or x.device == device:
            continue
        if device is not None:
            raise DeviceError(
                f"{op} of tensors on different devices: {device} and {x.device}.",
                "Move one of them with .to(device).",
            )
        device = x.device
    return device


def living_nodes() -> list[Node]:
    """All nodes that somebody holds."""
    return _nodes.living()


def toposort(
    outputs: Iterable[Node],
    inputs_of: Callable[[Node], tuple[Node, ...]] = attrgetter("inputs"),
) -> list[Node]:
    """All nodes that the outputs depend on, inputs before users; order is deterministic.

    Args:
        outputs: where to begin.
        inputs_of: what a node depends on, where that is less than all of its inputs.
    """
    order: list[Node] = []
    seen: set[Node] = set()
    stack: list[Node | None] = [*outputs]
    stack.reverse()
    while stack:
        node = stack.pop()
        if node is None:  # all that the node below it needs is in order
            order.append(stack.pop())  # type: ignore[arg-type]
        elif node not in seen:
            seen.add(node)
            stack += (node, None, *inputs_of(node)[::-1])
    return order


def users_of(order: Iterable[Node]) -> dict[Node, set[Node]]:
    """By node the nodes that have it among their inputs.

    Args:
        order: all nodes of a graph, inputs before users.
    """
    users: dict[Node, set[Node]] = {}
    for node in order:
        users[node] = set()
        for x in node.inputs:
            users[x].add(node)
    return users


def rebuilt(outputs: Sequence[Node], change: Callable[[Node, Node], Node | None]) -> list[Node]:
    """The outputs with some nodes in another form.

    Args:
        change: a node, and the same on changed inputs; what stands for it, or None for the latter.
    """
    made: dict[Node, Node] = {}
    for node in toposort(outputs):
        same = on_inputs(node, tuple(made[x] for x in node.inputs))
        with source_scope(node.source):
            made[node] = change(node, same) or same
    return [made[n] for n in outputs]


def below(node: Node, ops: Collection[Op]) -> Node:
    """The node under those of some ops, by way of their first inputs: a buffer under views, say."""
    while node.op in ops:
        node = node.inputs[0]
    return node


def behind(nodes: Iterable[Node], through: Callable[[Node], bool]) -> list[Node]:
    """Nodes and what they are computed from, each once.

    Args:
        nodes: where to begin.
        through: whether the inputs of a node are met, too.
    """
    found: dict[Node, None] = {}
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node not in found:
            found[node] = None
            if through(node):
                stack += node.inputs
    return list(found)
