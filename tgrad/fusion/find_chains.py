"""Where a graph has chains of dots and row reductions.

In: the nodes of a graph. Out: proposals, each the nodes that one kernel would store and those that
it would compute on the way. Invariant: nothing here decides what is legal (chain.py does); a node
that something outside of the chains needs is on nobody's way.

A chain starts where a dot's operand, walked back element by element, leads to a dot of its own size
by way of row statistics: those of a softmax on the way, or the log-sum-exp that one stored, in this
plan or in an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tgrad.fusion.statistics import dot_behind, is_log_sum_exp
from tgrad.graph.node import Node, behind, below
from tgrad.graph.op import REDUCE, Op, is_elementwise
from tgrad.graph.rules_elementwise import constant_of


@dataclass(frozen=True)
class Chain:
    """A kernel that is proposed.

    Attributes:
        roots: what it stores, producers first: last dots, ends of their epilogues, statistics.
        inside: what it computes on the way and stores nowhere.
        dots: the first dots: what makes the scores, and in a gradient that of the weights.
        columns: axes of the scores that its last dots contract.
        has_statistics: whether it computes statistics of its rows; otherwise it loads them.
        rows: reductions over the columns that it stores, too: statistics that others need.
        halves: the two chains that this one joins, if it does.
    """

    roots: tuple[Node, ...]
    inside: frozenset[Node]
    dots: frozenset[Node]
    columns: tuple[int, ...]
    has_statistics: bool
    rows: tuple[Node, ...] = ()
    halves: tuple[Chain, ...] = ()


@dataclass(frozen=True)
class Found:
    """Proposals, and for dots that are none although their operand is of the kind, why not.

    Attributes:
        rows: small values that are stored for chains to load.
    """

    chains: tuple[Chain, ...]
    refused: Mapping[Node, str]
    rows: frozenset[Node] = frozenset()


def find_chains(
    order: Sequence[Node],
    uses: Mapping[Node, set[Node]],
    outputs: set[Node],
) -> Found:
    """Proposals in a graph.

    Args:
        order: all nodes, inputs first.
        uses: users of each node.
        outputs: nodes that are stored whatever happens.
    """
    weights = softmax_weights(order)
    if not weights:
        return Found((), {})
    position = {n: i for i, n in enumerate(order)}
    given = _given_rows(weights)
    stored = {n for n in order if is_log_sum_exp(n) or n in given}
    chains: list[Chain] = []
    for n in order:
        if n.op is Op.DOT:
            sides = [side for side in (0, 1) if n.inputs[side] in weights]
            ways = [w for side in sides if (w := _way(n, side, stored))]
            if len(ways) == 1:
                end = _end_of_epilogue(n, uses, outputs)
                roots = (n,) if end is n else (n, end)
                chains.append(Chain(roots, *ways[0]))
    refused: dict[Node, str] = {}
    statistics = {n for s in stored for n in _row_history(s)}
    reductions = [n for n in order if n.op in REDUCE]
    chains = [_with_sums_beside(c, chains, reductions) for c in chains]
    while True:
        chains = [_with_rows_needed(c, chains, uses, outputs, statistics) for c in chains]
        inside = {n for c in chains for n in c.inside}
        kept = outputs.union(*(c.roots for c in chains))
        inner = inside | statistics | {n for c in chains for n in (*c.rows, c.roots[0])}
        needed = [n for n in inside if n in kept or not uses[n] <= inner]
        if not needed:
            break
        bad = set(needed)
        for c in chains:
            if c.inside & bad:
                what = next(n for n in order if n in c.inside & bad)
                label = what.source.label or what.op.value
                refused[c.roots[0]] = f"its {what.op} of {label} is needed outside of the kernel"
        chains = [c for c in chains if not c.inside & bad]
    in_order = [n for n in order if n in stored]
    found = tuple(_with_statistics(_paired(chains, position), in_order))
    rows = frozenset(below(n, _VIEWS) for n in given if chains)
    return Found(found, refused, frozenset(n for n in rows if n.op is not Op.BUFFER))


_VIEWS = (Op.RESHAPE, Op.PERMUTE, Op.EXPAND)

_Way = tuple[frozenset[Node], frozenset[Node], tuple[int, ...], bool]


def _end_of_epilogue(dot: Node, uses: Mapping[Node, set[Node]], outputs: set[Node]) -> Node:
    """The form in which the only reader of a last dot takes it: views, casts, constant factors.
    Nothing else joins, so that no chain waits for another's result."""
    end = dot
    while end not in outputs and len(uses[end]) == 1:
        (user,) = uses[end]
        others = (x for x in user.inputs if x is not end)
        if user.size != end.size or any(constant_of(x) is None for x in others):
            break
        if user.op not in (Op.RESHAPE, Op.PERMUTE) and not is_elementwise(user.op):
            break
        end = user
    return end


def softmax_weights(order: Sequence[Node]) -> set[Node]:
    """Nodes computed element by element from exp(x - a row's number)."""
    found: set[Node] = set()
    for n in order:
        if n.op is Op.EXP and n.inputs[0].op is Op.SUB:
            if n.inputs[0].inputs[1].op is Op.EXPAND:
                found.add(n)
        elif _is_by_element(n):
            if any(x in found and x.size == n.size for x in n.inputs):
                found.add(n)
    return found


def _given_rows(weights: set[Node]) -> set[Node]:
    """The rows' numbers of exp(scores - a row's number) that the graph is given, or makes of what
    it is given: an earlier plan has stored them, to the base of 2 for instance."""
    found: set[Node] = set()
    for n in weights:
        if n.op is Op.EXP and n.inputs[0].op is Op.SUB:
            scores, row = n.inputs[0].inputs
            (row,) = row.inputs if row.op is Op.EXPAND else (row,)
            if row.size < scores.size and _is_given(row) and dot_behind(scores) is not None:
                found.add(row)
    return found


def _is_given(row: Node) -> bool:
    """Whether a row is computed element by element from what is given and constants."""
    found = behind([row], _is_by_element)
    ends = [n for n in found if not _is_by_element(n)]
    is_given = all(n.op in (Op.BUFFER, Op.CONST) and n.size <= row.size for n in ends)
    return is_given and any(n.op is Op.BUFFER for n in ends)


def _is_by_element(node: Node) -> bool:
    """Whether each element is computed from one of each input."""
    return node.op in _VIEWS or is_elementwise(node.op)


def _way(dot: Node, side: int, stored: set[Node]) -> _Way | None:
    """What lies between an operand of a dot and the dots and statistics behind it."""
    operand = dot.inputs[side]
    wide = _elementwise_history(operand)
    dots = [n for n in wide if n.op is Op.DOT]
    if not dots:
        return None
    inside = dict.fromkeys(wide)
    has_statistics = loads_statistics = False
    stack = [x for n in wide if n.op is not Op.DOT for x in n.inputs if x not in inside]
    seen: set[Node] = set()
    while stack:
        n = stack.pop()
        if n in seen or n in inside:
            continue
        seen.add(n)
        if n in stored:
            loads_statistics = True
        elif n.op in REDUCE and _reduces(n, dots):
            has_statistics |= n.op is Op.REDUCE_MAX
            history = [n, *_elementwise_history(n.inputs[0])]
            inside.update(dict.fromkeys(history))
            stack.extend(x for h in history if h.op is not Op.DOT for x in h.inputs)
        elif n.size < operand.size and _leads_to(n, operand.size, dots, stored):
            inside[n] = None
            stack.extend(n.inputs)
    if not (has_statistics or loads_statistics):
        return None
    return frozenset(inside), frozenset(dots), dot.attr("contract")[side], has_statistics


def _row_history(statistic: Node) -> list[Node]:
    """What a row statistic is computed from, down to the reductions."""
    found, stack = [statistic], [statistic]
    while stack:
        for n in stack.pop().inputs:
            if n.op not in REDUCE:
                found.append(n)
                stack.append(n)
    return found


def _elementwise_history(node: Node) -> list[Node]:
    """Nodes of a node's size that it is computed from element by element, up to dots."""

    def fits(n: Node) -> bool:
        return n.size == node.size and (n.op is Op.DOT or _is_by_element(n))

    return [n for n in behind([node], lambda n: fits(n) and n.op is not Op.DOT) if fits(n)]


def _reduces(node: Node, dots: Sequence[Node]) -> bool:
    """Whether a reduction is one of values that the dots make."""
    return any(n in dots for n in _elementwise_history(node.inputs[0]))


def _leads_to(row: Node, size: int, dots: Sequence[Node], stored: set[Node]) -> bool:
    """Whether a row of numbers comes from a statistic of the dots."""
    inner = behind([row], lambda n: n not in stored and n.size < size and _is_by_element(n))
    return any(n.op in REDUCE and n not in stored and _reduces(n, dots) for n in inner)


def _with_sums_beside(chain: Chain, chains: Sequence[Chain], reductions: Sequence[Node]) -> Chain:
    """The chain with the sums over its columns, for others, of what only it computes."""
    if not chain.has_statistics:
        return replace(chain, rows=())
    mine = chain.inside.difference(*(c.inside for c in chains if c is not chain))
    rows = tuple(
        n
        for n in reductions
        if n.attr("axes") == chain.columns and n.inputs[0] in mine and n not in chain.inside
    )
    return replace(chain, rows=rows)


def _with_rows_needed(
    chain: Chain,
    chains: Sequence[Chain],
    uses: Mapping[Node, set[Node]],
    outputs: set[Node],
    statistics: set[Node],
) -> Chain:
    """The chain with the statistics stored that it alone computes and others need."""
    others = {n for c in chains if c is not chain for n in c.inside}
    mine = chain.inside | statistics | others | {*chain.rows, *chain.roots}
    rows = [
        n
        for n in chain.inside - others
        if n.op in REDUCE and chain.has_statistics and (n in outputs or not uses[n] <= mine)
    ]
    if not rows:
        return chain
    return replace(chain, inside=chain.inside - set(rows), rows=(*rows, *chain.rows))


def _paired(chains: Sequence[Chain], position: Mapping[Node, int]) -> list[Chain]:
    """Gradients that sum the same scores over the same axes, together in one kernel."""
    result: list[Chain] = []
    for chain in chains:
        for at, other in enumerate(result):
            if other.columns != chain.columns or not other.dots & chain.dots:
                continue
            if _turns(other) != _turns(chain):  # columns of the one are rows of the other
                continue
            if other.has_statistics or chain.has_statistics or other.halves:
                continue
            if other.roots[0].size != chain.roots[0].size:
                continue
            if not _depends(chain.roots[-1], other.roots[0], position):
                roots = sorted({*other.roots, *chain.roots}, key=position.__getitem__)
                inside = other.inside | chain.inside
                halves = (other, chain)
                result[at] = replace(chain, roots=tuple(roots), inside=inside, halves=halves)
                break
        else:
            result.append(chain)
    return result


def _turns(chain: Chain) -> set[object]:
    """How scores are permuted on the way to the last dots."""
    return {n.attr("axes") for n in chain.inside if n.op is Op.PERMUTE}


def _depends(node: Node, on: Node, position: Mapping[Node, int]) -> bool:
    return on in behind([node], lambda n: position[n] > position[on])


def _with_statistics(chains: Sequence[Chain], stored: Sequence[Node]) -> list[Chain]:
    """The kernel that computes the statistics that others load stores them: the first of several
    that compute them."""
    result: list[Chain] = []
    taken = set[Node]()
    for chain in chains:
        mine = [
            n for n in stored if n not in taken and chain.has_statistics and _is_made_in(n, chain)
        ]
        taken.update(mine)
        result.append(replace(chain, roots=(*mine, *chain.rows, *chain.roots)))
    return result


def _is_made_in(statistic: Node, chain: Chain) -> bool:
    rows = _row_history(statistic)
    return any(x in chain.inside for n in rows for x in n.inputs if x.op in REDUCE)
