"""Sizes that are known when a plan runs and not when it is made.

In: symbols with ranges. Out: `Size`, a polynomial of symbols with integer coefficients, which
stands where Python code expects the size of an axis. Invariant: a Size is never a number. What is
asked about it is answered for its whole range, or answered for the traced size and noted as a guard
under which alone the answer holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from tgrad.device import Device
from tgrad.dtype import float64
from tgrad.errors import Source, TraceError

if TYPE_CHECKING:
    from tgrad.graph.layout import Layout
    from tgrad.graph.node import Node

Monomial = tuple[int, ...]
"""Numbers of the symbols that are multiplied, sorted; () for the constant."""
Terms = tuple[tuple[Monomial, int], ...]
"""(monomial, its coefficient), sorted, coefficients not zero."""
MANY = 1 << 14
"""Values of symbols that are tried for the largest one of a polynomial that multiplies a symbol by
itself, whose ends of ranges do not tell."""


@dataclass(eq=False)
class Symbol:
    """A size of every call.

    Attributes:
        name: for messages.
        smallest, largest: what was declared; memory is laid out for the largest.
        low, high: what the guards so far leave of that.
        traced: the size of the call that is traced.
        is_fixed: whether the trace is for that size alone, and sees a number.
    """

    name: str
    smallest: int
    largest: int
    traced: int
    is_fixed: bool = False

    def __post_init__(self) -> None:
        self.low, self.high = self.smallest, self.largest


def with_fixed(symbols: Sequence[Symbol]) -> list[Symbol]:
    """The symbols for another trace, with those fixed to which the guards of one left one size; []
    where there is none of these."""
    fixed = [s.low == s.high and not s.is_fixed for s in symbols]
    made = [
        Symbol(s.name, s.smallest, s.largest, s.traced, s.is_fixed or f)
        for s, f in zip(symbols, fixed)
    ]
    return made if any(fixed) else []


@dataclass(frozen=True)
class Guard:
    """An answer that a trace relied on: whether `terms` is at most 0, or exactly 0."""

    terms: Terms
    is_equation: bool
    answer: bool

    def holds(self, values: Sequence[int]) -> bool:
        """Whether the answer is the same for these values of the symbols."""
        value = value_of(self.terms, values)
        return (value == 0 if self.is_equation else value <= 0) is self.answer


class Scope:
    """The symbols of one trace, and what was asked about them.

    Args:
        name, source: of the traced function, for messages.
        symbols: in the order of their numbers.
        tensor_of: the 0-d int64 tensor of a size on a device; of the symbols' device for None.

    Attributes:
        numbers: for 0-d tensors that stand for floats computed of sizes, as 1 / n, by their nodes:
            the same in float64. Like Python's floats they leave the dtype of tensors as it is.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        symbols: Sequence[Symbol],
        tensor_of: Callable[[Size, Device | None], Any],
    ):
        self.name, self.source, self.symbols = name, source, list(symbols)
        self.tensor_of = tensor_of
        self.guards: dict[Guard, None] = {}
        self.layouts: dict[Node, Layout] = {}
        self.numbers: dict[Node, Any] = {}
        self.capacities: dict[Terms, int] = {}
        self.values = [s.traced for s in symbols]
        self.is_open = True
        for number, symbol in enumerate(symbols):
            if symbol.is_fixed:
                difference = Size(self, (((number,), 1),)) - symbol.traced
                self.ask(difference.terms, is_equation=True)

    def size(self, number: int) -> Extent:
        """The symbol of that number."""
        symbol = self.symbols[number]
        return symbol.traced if symbol.is_fixed else Size(self, (((number,), 1),))

    def holds(self, values: Sequence[int]) -> bool:
        """Whether every guard holds for these values of the symbols."""
        return all(g.holds(values) for g in self.guards)

    def bounds(self, terms: Terms) -> tuple[int, int]:
        """The least and the largest value, over what the guards leave. They are reached, unless a
        symbol is multiplied by itself: then they may lie outside of the values."""
        ranges = {i: (self.symbols[i].low, self.symbols[i].high) for i in _symbols_of(terms)}
        is_squared = any(_is_squared(terms, i) for i in ranges)
        return (_limits if is_squared else _extremes)(terms, ranges)

    def capacity(self, terms: Terms) -> int:
        """The largest value, over what was declared: that which is reached, so that an axis has as
        many elements in memory whatever made it; or one above, see `MANY`."""
        if terms not in self.capacities:
            found = {i: self.symbols[i] for i in _symbols_of(terms)}
            ranges = {i: (s.smallest, s.largest) for i, s in found.items()}
            squared = [i for i in ranges if _is_squared(terms, i)]
            tried = {**ranges, **{i: range(ranges[i][0], ranges[i][1] + 1) for i in squared}}
            is_quick = prod(map(len, tried.values())) <= MANY
            extremes = _extremes(terms, tried) if is_quick else _limits(terms, ranges)
            self.capacities[terms] = extremes[1]
        return self.capacities[terms]

    def ask(self, terms: Terms, is_equation: bool) -> bool:
        """Whether a polynomial is at most 0, or exactly 0; a guard where the range leaves both."""
        low, high = self.bounds(terms)
        if low > 0 or (is_equation and high < 0):
            return False
        if high <= 0 and (low == 0 or not is_equation):
            return True
        if not self.is_open:
            raise TraceError(
                f"the size {text_of(terms, self.symbols)} is compared after the trace of "
                f"{self.name!r} that it belongs to.",
                "Return it from the compiled function: it is an int there.",
            )
        guard = Guard(terms, is_equation, True)
        guard = Guard(terms, is_equation, guard.holds([s.traced for s in self.symbols]))
        self.guards[guard] = None
        self._narrow(guard)
        return guard.answer

    def _narrow(self, guard: Guard) -> None:
        """Shrink the range of a symbol n where the guard says c * n + k <= 0 or the like."""
        table = dict(guard.terms)
        k = table.pop((), 0)
        if len(table) != 1 or len(next(iter(table))) != 1:
            return
        ((number,), c) = next(iter(table.items()))
        symbol = self.symbols[number]
        if guard.is_equation:
            if not guard.answer:
                symbol.low += c * symbol.low + k == 0
                symbol.high -= c * symbol.high + k == 0
                return
            symbol.low = symbol.high = -k // c
        elif guard.answer is (c > 0):  # n <= -k / c, or for c < 0 not n >= -k / c
            limit = -k // c if guard.answer else -(k // c) - 1
            symbol.high = min(symbol.high, limit)
        else:
            limit = -(k // c) if guard.answer else -k // c + 1
            symbol.low = max(symbol.low, limit)


class Size:
    """A sum of products of symbols.

    Attributes:
        scope: whose symbols they are.
        terms: the polynomial.
    """

    __slots__ = ("scope", "terms")

    def __init__(self, scope: Scope, terms: Terms):
        self.scope, self.terms = scope, terms

    def at(self, values: Sequence[int]) -> int:
        """The number that it is for these values of the symbols."""
        return value_of(self.terms, values)

    @property
    def capacity(self) -> int:
        """The largest number that it can be."""
        return self.scope.capacity(self.terms)

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the largest number that the guards so far leave."""
        return self.scope.bounds(self.terms)

    def tensor(self, device: Device | None = None) -> Any:
        """The 0-d int64 tensor that holds it when the plan runs."""
        return self.scope.tensor_of(self, device)

    def __repr__(self) -> str:
        return text_of(self.terms, self.scope.symbols)

    def __hash__(self) -> int:
        return hash(self.terms)

    # -- arithmetic -----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        found = terms_of(other)
        if found is None:
            return self._as_number(other, lambda x: x + other)
        table = dict(self.terms)
        for monomial, c in found:
            table[monomial] = table.get(monomial, 0) + c
        return self._made(table)

    def __mul__(self, other: Any) -> Any:
        found = terms_of(other)
        if found is None:
            return self._as_number(other, lambda x: x * other)
        table: dict[Monomial, int] = {}
        for a, c in self.terms:
            for b, d in found:
                monomial = tuple(sorted((*a, *b)))
                table[monomial] = table.get(monomial, 0) + c * d
        return self._made(table)

    def _made(self, table: Mapping[Monomial, int]) -> int | Size:
        terms = tuple(sorted((m, c) for m, c in table.items() if c))
        if not terms or terms == (((), terms[0][1]),):
            return terms[0][1] if terms else 0
        return Size(self.scope, terms)

    def _as_number(self, other: Any, function: Callable[[Any], Any]) -> Any:
        """With a float, or in a division, it is the number that it will be: a 0-d tensor."""
        if not isinstance(other, (int, float, Size)):
            return NotImplemented
        number = function(self.tensor())
        self.scope.numbers[number._node] = function(self.tensor().to(float64))
        return number

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __pos__(self) -> Size:
        return self

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if not isinstance(other, (int, float, Size)) else self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __truediv__(self, other: Any) -> Any:
        return self._as_number(other, lambda x: x / other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._as_number(other, lambda x: other / x)

    def __pow__(self, exponent: Any) -> Any:
        if type(exponent) is int and exponent > 0:
            return prod([self] * exponent)
        return self._as_number(exponent, lambda x: x**exponent)

    def __floordiv__(self, other: Any) -> Any:
        return NotImplemented if terms_of(other) is None else self.__divmod__(other)[0]

    def __mod__(self, other: Any) -> Any:
        return NotImplemented if terms_of(other) is None else self.__divmod__(other)[1]

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        exact = divided(self, other)
        if exact is not None:
            return exact, 0
        if self >= 0 and self < other:
            return 0, self
        raise self._refused(f"{self} is divided by {other}")

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        if other >= 0 and self > other:
            return 0, other
        if other < 0 and self >= -other:
            return -1, other + self
        raise self._refused(f"{other} is divided by {self}")

    def __rfloordiv__(self, other: Any) -> Any:
        return self.__rdivmod__(other)[0]

    def __rmod__(self, other: Any) -> Any:
        return self.__rdivmod__(other)[1]

    # -- comparison -----------------------------------------------------------------------------

    def __eq__(self, other: object) -> bool:
        difference = self._less(other)
        if difference is None:
            return NotImplemented
        return self._ask(difference, is_equation=True)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __le__(self, other: Any) -> bool:
        difference = self._less(other)
        return NotImplemented if difference is None else self._ask(difference)

    def __lt__(self, other: Any) -> bool:
        difference = self._less(other)
        return NotImplemented if difference is None else self._ask(difference + 1)

    def __ge__(self, other: Any) -> bool:
        difference = self._less(other)
        return NotImplemented if difference is None else self._ask(-difference)

    def __gt__(self, other: Any) -> bool:
        difference = self._less(other)
        return NotImplemented if difference is None else self._ask(-difference + 1)

    def __bool__(self) -> bool:
        return self != 0

    def _less(self, other: Any) -> Any:
        """The difference; None where the other is no whole number."""
        if isinstance(other, float) and other.is_integer():
            other = int(other)
        return None if terms_of(other) is None else self + other * -1

    def _ask(self, difference: int | Size, is_equation: bool = False) -> bool:
        if isinstance(difference, int):
            return difference == 0 if is_equation else difference <= 0
        return self.scope.ask(difference.terms, is_equation)

    # -- what it is not -------------------------------------------------------------------------

    def __index__(self) -> int:
        self.refuse()

    __int__ = __index__

    def __float__(self) -> float:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Say that it has no value yet."""
        raise self._refused(f"the size {self} is read as a number")

    def _refused(self, what: str) -> TraceError:
        return TraceError(
            f"{what} while tgrad.compile traces {self.scope.name!r}, where it stands for every "
            "size of its range.",
            "Compute with it as it is: shapes, slices, comparisons, +, -, *, n ** 0.5 and "
            "arithmetic with tensors take it. Or leave it out of dynamic=.",
        )


Extent = int | Size
"""The size of an axis."""


def terms_of(x: Any) -> Terms | None:
    """The polynomial of an integer or a Size; None for anything else."""
    if isinstance(x, Size):
        return x.terms
    if isinstance(x, (int, np.integer)):
        return (((), int(x)),) if x else ()
    return None


def value_of(terms: Terms, values: Sequence[int]) -> int:
    """The number that a polynomial is for these values of the symbols."""
    return sum(c * prod(values[i] for i in monomial) for monomial, c in terms)


def _symbols_of(terms: Terms) -> list[int]:
    """The numbers of its symbols."""
    return sorted({i for monomial, _ in terms for i in monomial})


def _is_squared(terms: Terms, symbol: int) -> bool:
    """Whether a symbol is multiplied by itself. Of one that is not, the ends of its range are
    enough to find the extremes."""
    return any(monomial.count(symbol) > 1 for monomial, _ in terms)


def _extremes(terms: Terms, ranges: Mapping[int, Sequence[int]]) -> tuple[int, int]:
    """The least and the largest value over these values of the symbols."""
    found = [
        sum(c * prod(values[i] for i in monomial) for monomial, c in terms)
        for values in (dict(zip(ranges, chosen)) for chosen in product(*ranges.values()))
    ]
    return min(found), max(found)


def _limits(terms: Terms, ranges: Mapping[int, Sequence[int]]) -> tuple[int, int]:
    """Below and above all values for symbols in these ranges: each monomial by itself."""
    low = high = 0
    for monomial, c in terms:
        least, most = (prod(ranges[i][end] for i in monomial) for end in (0, -1))
        low += c * (least if c > 0 else most)
        high += c * (most if c > 0 else least)
    return low, high


def text_of(terms: Terms, symbols: Sequence[Symbol]) -> str:
    """The polynomial as Python would write it, the constant last."""
    parts: list[str] = []
    for monomial, c in sorted(terms, key=lambda t: (not t[0], t[0])):
        factors = [symbols[i].name for i in monomial]
        if not factors or abs(c) != 1:
            factors.insert(0, str(abs(c)))
        parts.append(("- " if c < 0 else "+ ") + "*".join(factors))
    text = " ".join(parts).removeprefix("+ ")
    return "-" + text[2:] if text.startswith("- ") else text


def divided(a: Extent, b: Extent) -> Extent | None:
    """The quotient without a rest, for every size; None where there is a rest for one."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b if b and a % b == 0 else None
    divisor = terms_of(b)
    if not divisor:
        return None
    lead, factor = _leading(divisor)
    quotient: Any = 0
    rest: Any = a
    while not (isinstance(rest, int) and rest == 0):
        found = terms_of(rest)
        assert found is not None
        monomial, c = _leading(found)
        left = list(monomial)
        if c % factor or any(left.count(i) < lead.count(i) for i in lead):
            return None
        for i in lead:
            left.remove(i)
        scope = a.scope if isinstance(a, Size) else b.scope  # type: ignore[union-attr]
        part: Any = Size(scope, ((tuple(left), c // factor),)) if left else c // factor
        quotient, rest = quotient + part, rest - part * b
    return quotient


def _leading(terms: Terms) -> tuple[Monomial, int]:
    """The term of the highest degree, the last one of those: an order that products keep."""
    return max(terms, key=lambda t: (len(t[0]), t[0]))


def is_same(a: Extent, b: Extent) -> bool:
    """Whether two sizes are equal in every call. Unlike ==, it never adds a guard."""
    return terms_of(a) == terms_of(b) or (
        isinstance(a - b, Size) and (a - b).bounds == (0, 0)  # type: ignore[union-attr]
    )


class _Running(threading.local):
    scope: Scope | None = None


_running = _Running()


def running_scope() -> Scope | None:
    """The symbols of the trace that runs in this thread; None where all sizes are numbers."""
    return _running.scope


@contextmanager
def sizing(scope: Scope | None) -> Iterator[None]:
    """Inside the block, axes of this thread's tensors may have symbolic sizes."""
    previous, _running.scope = _running.scope, scope
    try:
        yield
    finally:
        _running.scope = previous
        if scope is not None:
            scope.is_open = False
