"""Symbolic sizes in the methods of Tensor: what a trace over a range of sizes sees.

In: shapes, slices and ops whose sizes may be symbolic. Out: nodes of the largest sizes, marked with
the limits. Invariant: where no trace has symbolic sizes, each function is the plain one; a Node's
shape and attributes are plain numbers always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tgrad.aliases import Step
from tgrad.autodiff.backward import register_vjp
from tgrad.device import Device
from tgrad.errors import TraceError
from tgrad.graph import build as b
from tgrad.graph.layout import (
    FILL,
    LIMIT,
    Axis,
    Factor,
    Unknown,
    fill,
    is_static,
    is_uniform,
    layout_of,
    like,
    limit,
    size_of,
    static,
)
from tgrad.graph.node import Node
from tgrad.graph.op import Op
from tgrad.graph.size import Extent, Scope, Size, is_same, running_scope
from tgrad.graph.sized import are_same, capacity_of

if TYPE_CHECKING:
    from tgrad.tensor import Tensor

Shape = tuple[Any, ...]
Range = tuple[Any, Any, int]
"""(start, stop, step) of an axis."""


def as_size(n: Any) -> Any:
    """A size as an int, or as the Size that it is."""
    return n if isinstance(n, Size) else int(n)


def is_one(n: Extent) -> bool:
    """Whether an axis is broadcast. A symbolic size is not, be it 1 in some calls."""
    return not isinstance(n, Size) and n == 1


def is_padded(node: Node) -> bool:
    """Whether an axis has a symbolic size."""
    scope = running_scope()
    return scope is not None and not all(is_static(axis) for axis in layout_of(node, scope))


def exact_number(x: Any) -> Tensor | None:
    """The float64 of a 0-d tensor that stands for a float computed of sizes; None of others."""
    scope = running_scope()
    return None if scope is None or not hasattr(x, "_node") else scope.numbers.get(x._node)


# -- slices --------------------------------------------------------------------------------------


def range_of(item: slice, n: Any) -> Range:
    """`slice.indices` with start <= stop, for sizes that may be symbolic."""
    if not any(isinstance(x, Size) for x in (n, item.start, item.stop)):
        start, stop, step = item.indices(n)
        return start, max(start, stop), step
    step = 1 if item.step is None else item.step
    if step != 1:
        raise TraceError(
            f"a slice by {step} of an axis of size {n}.",
            "Slice an axis of symbolic size by 1, or leave it out of dynamic=.",
        )
    start = 0 if item.start is None else _place(item.start, n)
    stop = n if item.stop is None else _place(item.stop, n)
    return start, (start if stop < start else stop), step


def _place(at: Any, n: Any) -> Any:
    """A bound of a slice counted from the front, within the axis."""
    if at < 0:
        at = at + n
        return 0 if at < 0 else at
    return n if at > n else at


def length_of(bounds: Range) -> Any:
    """Number of elements of a range."""
    start, stop, step = bounds
    if not isinstance(start, Size) and not isinstance(stop, Size):
        return len(range(start, stop, step))
    return stop - start


def is_whole(bounds: Range, n: Extent) -> bool:
    """Whether a range is the axis as it is."""
    return are_same(bounds, (0, n, 1))


def sliced(x: Any, ranges: dict[int, Range]) -> Tensor:
    """Ranges of axes, some sizes symbolic: a static slice and a limit, or a gather where the start
    is symbolic."""
    scope = running_scope()
    assert scope is not None
    for axis, bounds in ranges.items():
        if not is_whole(bounds, x.shape[axis]):
            x = _sliced_axis(x, axis, bounds, scope)
    return x


def _sliced_axis(x: Any, axis: int, bounds: Range, scope: Scope) -> Tensor:
    start, stop, step = bounds
    part = _Part(axis, start, length_of(bounds), x.device)
    if isinstance(start, Size):
        return x._share(part.picked(x), Step(Op.GATHER, (), part=part, scope=scope))
    n, memory = x.shape[axis], x._node.shape[axis]
    until = memory if is_same(stop, n) else part.end(memory)
    view = x._view(
        Op.SLICE,
        start=tuple(start if a == axis else 0 for a in range(x.ndim)),
        stop=tuple(until if a == axis else m for a, m in enumerate(x._node.shape)),
        step=tuple(step if a == axis else 1 for a in range(x.ndim)),
    )
    found = layout_of(view._node, scope)[axis]
    is_known = not isinstance(found[0], Unknown) and is_same(size_of(found), part.length)
    if is_known and view._node.shape[axis] == capacity_of(part.length):
        return view
    if isinstance(found[0], Unknown) and len(layout_of(x._node, scope)[axis]) > 1:
        raise found[0].reason
    return x._share(part.picked(x), Step(Op.GATHER, (), part=part, scope=scope))


@dataclass(frozen=True)
class _Part:
    """`length` elements of an axis from `start` on, of which one is symbolic."""

    axis: int
    start: Any
    length: Any
    device: Device

    @property
    def is_run(self) -> bool:
        """Whether its elements lie one after the other."""
        return self.axis == 0

    def end(self, memory: int) -> int:
        """The place in memory after the last element that there may be."""
        return min(self.start + capacity_of(self.length), memory)

    def picked(self, x: Any) -> Any:
        """The part of a tensor."""
        from tgrad.creation import places

        if isinstance(self.start, Size):
            along = places((self.length,), 0, device=self.device)
            return x.index_select(self.axis, along + self.start)
        return x._result(self._limited(x._node), x.device, (x,))

    def _limited(self, x: Node) -> Node:
        """x[start:end], of which `length` elements exist, in memory as wide as any of that size."""
        cut = self._marked(b.slice_axis(x, self.axis, self.start, self.end(x.shape[self.axis])))
        missing = capacity_of(self.length) - cut.shape[self.axis]
        return self._marked(b.pad_axis(cut, self.axis, 0, missing)) if missing else cut

    def _marked(self, x: Node) -> Node:
        """The value, of which `length` elements exist."""
        scope = running_scope()
        assert scope is not None
        found = layout_of(x, scope)[self.axis]
        axes: list[Axis | None] = [None] * len(x.shape)
        axes[self.axis] = (Factor(x.shape[self.axis], self.length, is_uniform(found)),)
        return limit(x, axes)

    def take(self, x: Node) -> Node:
        """The part of a value."""
        node: Node = self.picked(_of(x, self.device))._node
        return node

    def put(self, x: Node, new: Node) -> Node:
        """The value with the part replaced."""
        before, part = _of(x, self.device), _of(new, self.device)
        wide, inside = placed(part, self.axis, self.start, before.shape[self.axis])
        if not isinstance(self.start, Size):
            filled = b.fit_axis(fill(new), self.axis, self.start, x.shape[self.axis])
            wide = _of(like(filled, x), self.device)
        return wide.where(inside, before)._node


def with_all_of_memory(x: Any, axes: Sequence[int]) -> Tensor:
    """The tensor with axes as long as memory, for whoever reads no more of it than exists."""
    scope = running_scope()
    if scope is None:
        return x
    layout, shape = layout_of(x._node, scope), x._node.shape
    longer = [a in axes and len(p) == 1 and not is_static(p) for a, p in enumerate(layout)]
    if not any(longer):
        return x
    marked = limit(x._node, [static(n) if a else None for n, a in zip(shape, longer)])
    return x._result(marked, x.device, (x,))


def with_sizes_of(x: Any, other: Any) -> Tensor:
    """The tensor, of which the same elements exist as of another one."""
    node = like(x._node, other._node)
    return x if node is x._node else x._result(node, x.device, (x,))


def diagonal_of(x: Any, rows: int, columns: int) -> Tensor:
    """The diagonal of the last two axes from a place on, of which a size is symbolic."""
    n = min(x.shape[-2] - rows, x.shape[-1] - columns)
    part = _Diagonal(rows, columns, max(n, 0), x.device)
    view: Tensor = x._share(part.picked(x), Step(Op.GATHER, (), part=part, scope=running_scope()))
    return view


@dataclass(frozen=True)
class _Diagonal:
    """`length` elements of the last two axes: [rows + i, columns + i]."""

    rows: int
    columns: int
    length: Any
    device: Device

    @property
    def is_run(self) -> bool:
        """Other elements lie between them."""
        return False

    def picked(self, x: Any) -> Any:
        """The diagonal of a tensor."""
        from tgrad.creation import places

        kept = x.narrow(-2, self.rows, self.length)
        column = (places((self.length,), 0, device=self.device) + self.columns).unsqueeze(-1)
        index = column.expand(*kept.shape[:-1], 1)
        return kept._apply(Op.GATHER, index, axis=x.ndim - 1).reshape(kept.shape[:-1])

    def take(self, x: Node) -> Node:
        """The diagonal of a value."""
        node: Node = self.picked(_of(x, self.device))._node
        return node

    def put(self, x: Node, new: Node) -> Node:
        """The value with the diagonal replaced."""
        before = _of(x, self.device)
        row, column = before._places(before.ndim - 2), before._places(before.ndim - 1)
        part = _of(new, self.device).unsqueeze(-1)
        wide, inside = placed(part, before.ndim - 2, self.rows, before.shape[-2])
        is_there = inside & (column - row == self.columns - self.rows)
        return wide.where(is_there, before)._node


def _of(x: Node, device: Device) -> Any:
    from tgrad.tensor import Tensor

    return Tensor._of(x, device)


def placed(x: Any, axis: int, start: Any, size: Any) -> tuple[Tensor, Tensor]:
    """The tensor within an axis of another size, from `start` on.

    Returns:
        A tensor with that axis, whose other elements do not matter, and where it has those of `x`
        (bool, of sizes 1 but along the axis).
    """
    from tgrad.creation import places

    along = places((size,), 0, device=x.device)
    inside = (along >= start) & (along < start + x.shape[axis])
    shape = tuple(-1 if a == axis else 1 for a in range(x.ndim))
    if is_one(x.shape[axis]):
        wide = x.expand(tuple(size if a == axis else n for a, n in enumerate(x.shape)))
    else:
        wide = x.index_select(axis, (along - start).where(inside, 0))
    return wide, inside.reshape(shape)


def is_sized(*values: Any) -> bool:
    """Whether one of them is a symbolic size."""
    return any(isinstance(v, Size) for v in values)


# -- gradients of the marks ----------------------------------------------------------------------


@register_vjp(LIMIT)
def _limit_rule(
    g: Node, y: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> tuple[Node]:
    """g, and 0 beyond the limit"""
    scope = running_scope()
    limited = scope is not None and any(not is_static(a) for a in layout_of(g, scope))
    return (fill(g) if limited else g,)


@register_vjp(FILL)
def _fill_rule(
    g: Node, y: Node, arguments: tuple[Node, ...], params: tuple[Any, ...]
) -> tuple[Node]:
    """g, where elements exist"""
    return (g,)
