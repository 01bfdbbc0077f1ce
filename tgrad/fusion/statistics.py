"""Softmax of a product, rewritten so that nothing of the product's size need be stored.

In: canonical outputs. Out: outputs of the same values. Invariant: pure; nothing that a forward pass
alone computes is changed.

Let s = f(a · b) be scores over a contracted axis t, w = g(exp(s - m) / l) weights, o = w · v. Then

    exp(s - m) / l = exp(s - (m + log l))     wherever the weights are needed again
    Σ_t (h · v)_t w_t = Σ_n h_n o_n           the row sums that softmax's gradient needs

so a second kernel needs one number a row, the log-sum-exp m + log l, to compute the weights from
a, b and that number alone; and the row sums need neither scores nor weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tgrad.graph import build as b
from tgrad.graph.node import Node, below, make, on_inputs, source_scope, toposort, users_of
from tgrad.graph.op import MOVEMENT, Op, is_elementwise

MAX_STEPS = 64
"""Longest way that is searched through elementwise nodes."""

MAX_FACTORS = 16
"""Longest product that is taken apart."""


@dataclass(frozen=True)
class Softmax:
    """weights = exp(scores - maximum) / total, along one axis.

    Attributes:
        weights: the quotient.
        scores: what the exponential is taken of, less `maximum`.
        maximum, total: rows expanded to the scores' shape.
    """

    weights: Node
    scores: Node
    maximum: Node
    total: Node


def match_softmax(node: Node) -> Softmax | None:
    """The node as a softmax of something that a dot makes; None if it is none."""
    if node.op is not Op.DIV or node.inputs[0].op is not Op.EXP:
        return None
    power, total = node.inputs
    (difference,) = power.inputs
    if difference.op is not Op.SUB or not _comes_from(total, Op.REDUCE_SUM, power):
        return None
    scores, maximum = difference.inputs
    if not _comes_from(maximum, Op.REDUCE_MAX, scores) or dot_behind(scores) is None:
        return None
    return Softmax(node, scores, maximum, total)


def is_log_sum_exp(node: Node) -> bool:
    """Whether the node is the row statistic that `save_statistics` makes."""
    if node.op is not Op.ADD or node.inputs[1].op is not Op.LOG:
        return False
    maximum, total = _reduction_behind(node.inputs[0]), _reduction_behind(node.inputs[1])
    if maximum is None or total is None or maximum.op is not Op.REDUCE_MAX:
        return False
    power = total.inputs[0]
    return power.op is Op.EXP and dot_behind(power.inputs[0]) is not None


def dot_behind(node: Node) -> Node | None:
    """The first dot of the node's size that it is computed from element by element."""
    return _first_behind(
        node,
        lambda x: x.op is Op.DOT and x.size == node.size,
        lambda x: x.size == node.size and (x.op in MOVEMENT or is_elementwise(x.op)),
    )


def _reduction_behind(row: Node) -> Node | None:
    """The reduction that a row of numbers is computed from."""
    return _first_behind(
        row,
        lambda x: x.op in (Op.REDUCE_MAX, Op.REDUCE_SUM),
        lambda x: x.op in (Op.RESHAPE, Op.EXPAND) or is_elementwise(x.op),
    )


def _first_behind(
    node: Node, is_wanted: Callable[[Node], bool], through: Callable[[Node], bool]
) -> Node | None:
    stack, seen = [node], set[Node]()
    while stack and len(seen) < MAX_STEPS:
        x = stack.pop()
        if is_wanted(x):
            return x
        if x not in seen and through(x):
            seen.add(x)
            stack.extend(reversed(x.inputs))
    return None


def _comes_from(row: Node, op: Op, wide: Node) -> bool:
    """Whether a row, expanded, is computed from the reduction `op` of `wide`."""
    if row.op is not Op.EXPAND:
        return False
    found = _reduction_behind(row.inputs[0])
    return found is not None and found.op is op and found.inputs[0] is wide


def save_statistics(outputs: Sequence[Node]) -> list[Node]:
    """The outputs with the two equations of the module applied.

    %w = div (exp (sub %s, %m)), %l      %o = dot %w, %v      %p = dot %h, %v
    %d = reduce_sum (mul %p, %w)         %g = dot %w, %h over the rows
    ->
    %e = add %m, (log %l)                %o as before
    %d = reduce_sum (mul %h, %o)         %g = dot (exp (sub %s, %e)), %h over the rows
    """
    order = toposort(outputs)
    found = {n: s for n in order if (s := match_softmax(n)) is not None}
    shown = _weights_of(order, found)
    for n in outputs:
        if n in shown:  # the weights are stored anyway, so nothing is gained
            found.pop(shown[n].weights, None)
    return _Saving(order, found).run(outputs) if found else list(outputs)


class _Saving:
    def __init__(self, order: list[Node], found: dict[Node, Softmax]):
        self.order, self.found = order, found
        self.uses = users_of(order)
        self.paths = _weights_of(order, found)
        """Weights, or what is computed from them element by element, and the softmax behind."""
        self.products = {
            n: side for n in order if n.op is Op.DOT and (side := self._product(n)) is not None
        }
        self.summed = {self.paths[n.inputs[side]].weights for n, side in self.products.items()}
        self.factors: dict[tuple[Node, Node], Node] = {}
        for n, side in self.products.items():
            self.factors[
                below(n.inputs[side], (Op.CAST,)), below(n.inputs[1 - side], (Op.CAST,))
            ] = n
        self.plain: dict[Node, Node] = {}
        self.kept: dict[Node, Node] = {}

    def _product(self, dot: Node) -> int | None:
        """Which operand of a dot over the scores' columns are the weights."""
        for side in (0, 1):
            softmax = self.paths.get(dot.inputs[side])
            if softmax is None or dot.inputs[1 - side] in self.paths:
                continue
            reduction = _reduction_behind(softmax.total)
            assert reduction is not None
            if dot.attr("contract")[side] == reduction.attr("axes"):
                return side
        return None

    def run(self, outputs: Sequence[Node]) -> list[Node]:
        for node in toposort([*self.products, *outputs]):  # products before sums over them
            with source_scope(node.source):
                if node in self.paths:
                    self.kept[node] = self._on(node, True)
                self.plain[node] = self._replaced(node)
        return [self.plain[n] for n in outputs]

    def _on(self, node: Node, keeps: bool) -> Node:
        """The node on rewritten inputs; weights in their first form if `keeps`."""
        inputs = tuple(
            self.kept[x] if keeps and x in self.paths else self.plain[x] for x in node.inputs
        )
        return on_inputs(node, inputs)

    def _replaced(self, node: Node) -> Node:
        if node in self.products:
            return self._on(node, True)
        if node in self.summed:
            return self._from_log_sum(self.found[node])
        product = self._row_product(node) if node.op is Op.REDUCE_SUM else None
        return product or self._on(node, False)

    def _from_log_sum(self, s: Softmax) -> Node:
        """exp(scores - (maximum + log total))"""
        maximum, total = (self.plain[x].inputs[0] for x in (s.maximum, s.total))
        if maximum.shape != total.shape or maximum.dtype is not total.dtype:
            return self._on(s.weights, False)
        statistic = make(Op.ADD, maximum, make(Op.LOG, total))
        shift = b.expand_to(statistic, s.weights.shape)
        return make(Op.EXP, b.sub(self.plain[s.scores], shift))

    def _row_product(self, node: Node) -> Node | None:
        """Σ_t (h · v)_t w_t as Σ_n h_n (w · v)_n, where w · v is computed anyway."""
        parts = _factors(node.inputs[0])
        for part in parts:
            if part.op is not Op.DOT or part.dtype.accumulator is not node.dtype:
                continue
            rest = Counter(parts) - Counter([part])
            for side in (0, 1):
                for (weights, values), product in self.factors.items():
                    if below(part.inputs[side], (Op.CAST,)) is not values:
                        continue
                    if Counter(_factors(weights)) == rest:
                        return self._summed(node, part, 1 - side, product)
        return None

    def _summed(self, node: Node, part: Node, side: int, product: Node) -> Node | None:
        """Σ_n h_n o_n, for h the operand `side` of `part` and o = `product`."""
        h, weights_side = part.inputs[side], self.products[product]
        batch, contract = part.attr("batch")[side], part.attr("contract")[side]
        rows = tuple(a for a in range(len(h.shape)) if a not in batch and a not in contract)
        lead = len(batch)
        in_order = part.attr("batch")[1 - side] == product.attr("batch")[1 - weights_side]
        if len(rows) != 1 or len(contract) != 1 or side or weights_side or not in_order:
            return None
        if product not in self.plain:
            return None
        h = b.permute(self.plain[h], (*batch, *rows, *contract))
        o = self._stored(product)
        if h.shape != o.shape or node.attr("axes") != (lead + 1,):
            return None
        wide = node.dtype
        return b.sum_over(b.mul(b.cast_to(h, wide), b.cast_to(o, wide)), (lead + 1,))

    def _stored(self, product: Node) -> Node:
        """The product as a view of the form in which its only reader takes it, so that one form
        of it is stored."""
        end, view, moves = product, self.plain[product], list[Node]()
        while len(self.uses[end]) == 1:
            (user,) = self.uses[end]
            if user.op not in (Op.RESHAPE, Op.PERMUTE):
                break
            moves.append(user)
            end, view = user, make(user.op, view, **dict(user.attrs))
        for move in reversed(moves):
            if move.op is Op.RESHAPE:
                view = make(Op.RESHAPE, view, shape=move.inputs[0].shape)
            else:
                axes = move.attr("axes")
                view = make(Op.PERMUTE, view, axes=tuple(map(axes.index, range(len(axes)))))
        return view


def _weights_of(order: Sequence[Node], found: dict[Node, Softmax]) -> dict[Node, Softmax]:
    """Nodes that are weights times something of their own size that no dot makes."""
    result: dict[Node, Softmax] = {}
    for n in order:
        if n in found:
            result[n] = found[n]
        elif n.op in (Op.CAST, Op.MUL, Op.WHERE, Op.DIV):
            behind = [x for x in n.inputs if x in result]
            others = [x for x in n.inputs if x not in result]
            if len(behind) == 1 and all(dot_behind(x) is None for x in others):
                result[n] = result[behind[0]]
    return result


def _factors(node: Node) -> list[Node]:
    """What a product multiplies, casts left out."""
    found: list[Node] = []
    stack = [node]
    while stack:
        x = below(stack.pop(), (Op.CAST,))
        if x.op is Op.MUL and len(stack) + len(found) < MAX_FACTORS:
            stack.extend(x.inputs)
        else:
            found.append(x)
    return found
