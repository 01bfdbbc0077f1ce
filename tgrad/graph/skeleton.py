"""The skeleton of a graph: what graphs share that differ in sizes as well.

    x[4, 8] @ w[8, 3] * 0.25    and    x[6, 8] @ w[8, 3] * 0.5    have    x[] @ w[] * number

In: the form of a graph. Out: a `Skeleton`: rows that are equal for such graphs, and the sizes that
the graph names; from the sizes of a few graphs a `Fit`, which says how sizes follow from others.
Invariant: a skeleton, the values of its form and its sizes say all of the work. A fit is a guess
that every graph is checked against: graphs of one skeleton whose sizes it gives differ in nothing
but the values of its symbols.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import prod
from typing import Any

from tgrad.graph.form import FIRST, Form
from tgrad.graph.node import Node, is_leaf_mark
from tgrad.graph.op import Op
from tgrad.graph.rules_elementwise import constant_of
from tgrad.graph.size import Monomial, Terms, value_of

_NAMED = frozenset((Op.RESHAPE, Op.EXPAND, Op.IOTA, Op.SLICE, Op.PAD, Op.WINDOW))
"""Ops whose result has sizes that are not those of operands."""
_FEW = 4
"""Symbols up to which three of them are multiplied."""

Column = tuple[int, ...]
"""One size in each of a few graphs."""


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A graph without its sizes.

    Attributes:
        rows: what it computes, less values and sizes.
        sizes: those that it names, node by node in the order of its form; none is 0.
    """

    rows: tuple[Hashable, ...]
    sizes: tuple[int, ...]


def skeleton_of(form: Form) -> Skeleton | None:
    """The skeleton of a graph; None where it has no elements somewhere."""
    places: dict[Node, set[int]] = {}
    for site in form.sites:
        places.setdefault(site.node, set()).add(site.place)
    named, nothing = Named.of(form), frozenset[int]()
    number: dict[Node, int] = {}
    rows: list[Hashable] = []
    sizes: list[int] = []
    for node in form.order:
        if node.op is Op.CUSTOM_VJP:
            number[node] = number[node.inputs[0]]
            continue
        row = form.rows[len(rows)]
        number[node] = len(rows)
        if node.op not in _NAMED and node not in named.leaves and _names_nothing(row):
            rows.append(row)
            continue
        own = named.sizes(node)
        if 0 in own:
            return None
        sizes += own
        broadcast = tuple(n == 1 for n in own)
        if node in named.fixed:
            rows.append((node.dtype, node.shape))
        elif node in named.leaves:
            rows.append((node.dtype, broadcast))
        else:
            rows.append((_row(node, number, places.get(node, nothing)), broadcast))
    return Skeleton((*rows, form.rows[-1]), tuple(sizes))


@dataclass(frozen=True, slots=True)
class Named:
    """Which sizes the nodes of a form name.

    Attributes:
        leaves: of the form.
        fixed: those that a gradient is asked for. Models of other sizes are other skeletons.
    """

    leaves: frozenset[Node]
    fixed: frozenset[Node]

    @staticmethod
    def of(form: Form) -> Named:
        marks = (n for n in form.order if is_leaf_mark(n))
        leaves = frozenset(form.leaves)
        return Named(leaves, leaves.intersection(n.inputs[0] for n in marks))

    def sizes(self, node: Node) -> tuple[int, ...]:
        """The sizes that a node names: of operands that are numbers, and its own."""
        if node in self.leaves:
            return () if node in self.fixed else node.shape
        numbers = (n for x in node.inputs if constant_of(x) is not None for n in x.shape)
        if node.op is Op.WINDOW:
            return (*numbers, node.shape[node.attr("axis")])
        return (*numbers, *node.shape) if node.op in _NAMED else tuple(numbers)


def _names_nothing(row: Any) -> bool:
    """Whether a row of a form has no operand that is a number, and so no size."""
    return all(type(x) is int for x in row[1])


def _row(node: Node, number: Mapping[Node, int], places: set[int] | frozenset[int]) -> Hashable:
    """A node without its sizes, and without the values at these places."""
    operands = tuple(
        x.dtype if at in places and node.op not in FIRST else _operand(x, number)
        for at, x in enumerate(node.inputs)
    )
    if node.op in FIRST:
        steps = node.attr("step") if node.op is Op.SLICE else ()
        return (node.op, operands, tuple(sorted(places)), steps)
    return (node.op, operands, tuple(a for a in node.attrs if a[0] != "shape"))


def _operand(x: Node, number: Mapping[Node, int]) -> Hashable:
    constant = constant_of(x)
    return number[x] if constant is None else (x.dtype, repr(constant.attr("value")))


# -- how sizes follow from others ------------------------------------------------------------------


@dataclass(frozen=True)
class Fit:
    """Sizes as polynomials.

    Attributes:
        terms: the polynomials, each once.
        which: for each size, its polynomial.
        read: for each symbol, a size that has its value.
    """

    terms: tuple[Terms, ...]
    which: tuple[int, ...]
    read: tuple[int, ...]

    def values(self, sizes: Sequence[int]) -> tuple[int, ...] | None:
        """The symbols' values for a graph of these sizes; None where the polynomials say others."""
        values = tuple(sizes[i] for i in self.read)
        found = self.at(values)
        return values if tuple([found[i] for i in self.which]) == tuple(sizes) else None

    def at(self, values: Sequence[int]) -> list[int]:
        """What the polynomials are for these values of the symbols."""
        return [value_of(terms, values) for terms in self.terms]


def fit(seen: Sequence[tuple[int, ...]]) -> Fit:
    """Polynomials that give the sizes of all these graphs, of few symbols.

    The smaller a size, the sooner it is a symbol: B and T, not B * T.

    >>> fit([(4, 8, 32, 3), (6, 9, 54, 3)]).terms
    ((((0,), 1),), (((1,), 1),), (((0, 1), 1),), (((), 3),))
    """
    columns = list(zip(*seen))
    changing = sorted({c for c in columns if len(set(c)) > 1}, key=lambda c: (c[-1], c))
    symbols: list[Column] = []
    found: dict[Column, Terms] = {}
    for column in changing:
        terms = _follows(column, symbols)
        if terms is None:
            terms = (((len(symbols),), 1),)
            symbols.append(column)
        found[column] = terms
    of = [found[c] if c in found else (((), c[0]),) for c in columns]
    distinct = {terms: i for i, terms in enumerate(dict.fromkeys(of))}
    return Fit(
        tuple(distinct), tuple(distinct[t] for t in of), tuple(columns.index(s) for s in symbols)
    )


def _follows(column: Column, symbols: Sequence[Column]) -> Terms | None:
    """A size as a polynomial of others: c * m, then c * m + d, of products m, then s + t + d."""
    products = list(_products(symbols))
    for monomial, values in products:
        c, rest = divmod(column[0], values[0])
        if not rest and all(n == c * m for n, m in zip(column, values)):
            return ((monomial, c),)
    for monomial, values in products:
        line = _line(column, values)
        if line is not None:
            factor, constant = line
            return ((), constant), (monomial, factor)
    for i, j in combinations_with_replacement(range(len(symbols)), 2):
        rests = {n - s - t for n, s, t in zip(column, symbols[i], symbols[j])}
        if len(rests) == 1 and i != j:
            d = rests.pop()
            total: Terms = ((i,), 1), ((j,), 1)
            return (((), d), *total) if d else total
    return None


def _products(symbols: Sequence[Column]) -> Iterator[tuple[Monomial, Column]]:
    """Products of one to three symbols, and their values."""
    for degree in (1, 2, 3) if len(symbols) <= _FEW else (1, 2):
        for monomial in combinations_with_replacement(range(len(symbols)), degree):
            yield monomial, tuple(map(prod, zip(*(symbols[i] for i in monomial))))


def _line(column: Column, values: Column) -> tuple[int, int] | None:
    """c > 0 and d for which a column is c * values + d."""
    other = next((i for i, m in enumerate(values) if m != values[0]), None)
    if other is None:
        return None
    c, rest = divmod(column[other] - column[0], values[other] - values[0])
    d = column[0] - c * values[0]
    if rest or c < 1 or any(n != c * m + d for n, m in zip(column, values)):
        return None
    return c, d
