"""Templates: what a function makes of nodes, to be made again of others with the same types.

In: a function of nodes, and nodes. Out: what it gives for them. Invariant: the graph is the one
that the function itself makes, on the user's line of this call. The function runs on stand-ins,
once for each combination of shapes and dtypes, and tells no two operands apart but by those;
numbers stand for themselves.
See docs/decisions/0083.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from tgrad.device import Device
from tgrad.dtype import DType
from tgrad.graph.deferred import Instance
from tgrad.graph.node import Node, Row, make, make_rows, toposort
from tgrad.graph.op import MOVEMENT, Op

Function = Callable[..., Sequence[Node | None]]
"""Gives nodes, or None in place of some, for nodes."""

KEPT = 1024
"""Templates that are kept, those that were used last."""

_APART = frozenset((Op.BUFFER, Op.COLLECTIVE))
"""What is another one in each call: memory of the function's own, as of a draw of random numbers,
and exchanges between processes."""
_FREE = frozenset((Op.CONST, Op.EXPAND, Op.IOTA))
"""What stays as it is where it depends on no operand."""


@dataclass(frozen=True, eq=False, slots=True)
class _Type:
    """The storage of a stand-in: an array that nobody has."""

    shape: tuple[int, ...]
    dtype: DType
    device: Device


@dataclass(frozen=True, eq=False, slots=True)
class Template:
    """A graph with places for its operands.

    Attributes:
        fixed: nodes that depend on no operand.
        rows: the others, inputs before users; they count `fixed` first, then operands, then rows.
        outputs: the results among all of these; None where there is none.
        used: which of the operands rows read.
    """

    fixed: tuple[Node, ...]
    rows: tuple[Row, ...]
    outputs: tuple[int | None, ...]
    used: tuple[int, ...]

    @staticmethod
    def between(
        operands: Sequence[Node], results: Sequence[Node | None], with_sources: bool = False
    ) -> Template | None:
        """The template of the graph from some nodes to others; None where another call may make
        other graph.

        Args:
            operands: all that the results may share with other graphs.
            results: what is computed from them; None in place of some.
            with_sources: whether nodes keep the lines where they were made now.
        """
        given = frozenset(operands)
        wanted = (n for n in results if n is not None)
        made = [n for n in toposort(wanted, lambda n: () if n in given else n.inputs)
                if n not in given]  # fmt: skip
        if any(n.op in _APART for n in made):
            return None
        fixed: dict[Node, None] = {}
        for n in made:
            if n.op in _FREE and all(x in fixed for x in n.inputs):
                fixed[n] = None
        inner = [n for n in made if n not in fixed]
        place = {n: i for i, n in enumerate((*fixed, *operands, *inner))}
        rows = [
            Row(n.op, tuple(place[x] for x in n.inputs), n.attrs, n.shape, n.size, n.dtype,
                n.device, n.source if with_sources else None)
            for n in inner
        ]  # fmt: skip
        outputs = [None if n is None else place[n] for n in results]
        read = {i - len(fixed) for row in rows for i in row.inputs}
        used = tuple(i for i in range(len(operands)) if i in read)
        return Template(tuple(fixed), tuple(rows), tuple(outputs), used)

    def on(self, operands: Sequence[Node]) -> list[Node | None]:
        """The results for these operands, which have the types of the template."""
        made = [*self.fixed, *operands]
        make_rows(self.rows, made)
        return [None if i is None else made[i] for i in self.outputs]

    def deferred_on(self, operands: Sequence[Node]) -> list[Node | None]:
        """The same; nodes are made when somebody looks behind the results."""
        instance = Instance(self, operands)
        return [None if i is None else instance.result(i) for i in self.outputs]


def _stand_in(x: Node, device: Device) -> Node:
    """An operand of which nothing is known but its type."""
    storage = _Type(x.shape, x.dtype, device)
    return make(Op.CUSTOM_VJP, make(Op.BUFFER, storage=storage), rule="stand_in", params=())


def _is_number(x: Node) -> bool:
    """Whether a node is one number in all places, such as the state before a sequence: it is known
    as itself."""
    while x.op in MOVEMENT:
        x = x.inputs[0]
    return x.op is Op.CONST


_templates: OrderedDict[Hashable, Template | None] = OrderedDict()
_lock = threading.Lock()


def template_of(
    function: Function, key: Hashable, operands: Sequence[Node], with_sources: bool = False
) -> Template | None:
    """The template of what a function gives for nodes of these types; None where there is none.

    Args:
        function: makes graph and does nothing else.
        key: all that its graph depends on beside the types of its operands.
        operands: nodes.
        with_sources: whether the lines of its nodes follow from the key too.
    """
    device = next((x.device for x in operands if x.device is not None), None)
    if device is None:
        return None
    if not all(x.device is device or (x.device is None and _is_number(x)) for x in operands):
        return None
    place = (key, device, *[x if x.device is None else (x.shape, x.dtype) for x in operands])
    with _lock:
        is_known = place in _templates
        if is_known:
            _templates.move_to_end(place)
        template = _templates.get(place)
    if not is_known:
        given = [x if x.device is None else _stand_in(x, device) for x in operands]
        template = Template.between(given, function(*given), with_sources)
        with _lock:
            _templates[place] = template
            if len(_templates) > KEPT:
                _templates.popitem(last=False)
    return template


def made_again(
    function: Function, key: Hashable, operands: Sequence[Node]
) -> Sequence[Node | None]:
    """What a function gives for these nodes; see `template_of`."""
    template = template_of(function, key, operands)
    return function(*operands) if template is None else template.on(operands)
