"""Integer index expressions over loop variables, kept in one canonical form.

In: loop variables with extents and integer arithmetic by constants. Out: `Index`, a sum of
coefficient x atom + constant, where an atom is a loop variable, `e // d`, `e % d` or an integer
that the kernel loads. Invariant: atoms are distinct and ordered, coefficients are not zero, and
every expression knows its bounds, so equal expressions compare equal and most `//` and `%` vanish.

Equations (floor semantics):
    (a*d + b) // d = a + b // d          (a*d + b) % d = b % d
    b // d = 0 and b % d = b             when 0 <= b < d
    (e // a) // b = e // (a*b)           (e % (a*b)) % a = e % a
    (e // d)*d + e % d = e               (e // d % m)*d + e % d = e % (d*m)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from math import gcd

import numpy as np


class Atom:
    """What a coefficient multiplies: bounds [lo, hi], a name to order by, and a cached hash."""

    __slots__ = ("lo", "hi", "key", "_parts", "_hash")
    lo: int
    hi: int
    key: str
    _parts: tuple[object, ...]

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, type(self))
            and self._hash == other._hash
            and self._parts == other._parts
        )

    def __repr__(self) -> str:
        return self.key

    def _finish(self, key: str, lo: int, hi: int, *parts: object) -> None:
        self.key, self.lo, self.hi, self._parts = key, lo, hi, parts
        self._hash = hash(parts)


class Var(Atom):
    """A loop variable: 0 <= name < extent."""

    __slots__ = ("name", "extent")

    def __init__(self, name: str, extent: int):
        self.name, self.extent = name, extent
        self._finish(name, 0, max(extent - 1, 0), name, extent)


class Loaded(Atom):
    """An integer that the kernel computes (value number `value`), known to be in [lo, hi]."""

    __slots__ = ("value",)

    def __init__(self, value: int, lo: int, hi: int):
        self.value = value
        self._finish(f"%{value}", lo, hi, value, lo, hi)


class Div(Atom):
    """`base // divisor`, for a base that no rule divides."""

    __slots__ = ("base", "divisor")

    def __init__(self, base: Index, divisor: int):
        self.base, self.divisor = base, divisor
        lo, hi = base.lo // divisor, base.hi // divisor
        self._finish(f"({base} // {divisor})", lo, hi, base, divisor)


class Mod(Atom):
    """`base % divisor`, for a base that no rule reduces."""

    __slots__ = ("base", "divisor")

    def __init__(self, base: Index, divisor: int):
        self.base, self.divisor = base, divisor
        self._finish(f"({base} % {divisor})", 0, divisor - 1, base, divisor)


class Index:
    """A sum of coefficient x atom plus a constant.

    >>> i, j = var("i", 4), var("j", 8)
    >>> flat = i * 8 + j
    >>> flat // 8, flat % 8, (flat // 4) % 2
    (i, j, (j // 4))
    >>> (j // 4) * 4 + j % 4
    j
    """

    __slots__ = ("terms", "const", "lo", "hi", "_hash", "_variables", "_loaded")
    _variables: frozenset[str] | None
    _loaded: frozenset[int] | None

    def __init__(self, terms: tuple[tuple[Atom, int], ...], const: int):
        self.terms, self.const = terms, const
        self._variables = self._loaded = None
        lo = hi = const
        for atom, c in terms:
            lo += atom.lo * c if c > 0 else atom.hi * c
            hi += atom.hi * c if c > 0 else atom.lo * c
        self.lo, self.hi = lo, hi
        self._hash = hash((terms, const))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Index)
            and self._hash == other._hash
            and self.const == other.const
            and self.terms == other.terms
        )

    def __repr__(self) -> str:
        parts = [a.key if c == 1 else f"{a.key}*{c}" for a, c in self.terms]
        if self.const or not parts:
            parts.append(str(self.const))
        return " + ".join(parts) if len(parts) < 2 else "(" + " + ".join(parts) + ")"

    @property
    def is_const(self) -> bool:
        return not self.terms

    @property
    def atom(self) -> Atom | None:
        """The atom, when the expression is exactly one atom."""
        if len(self.terms) == 1 and self.const == 0 and self.terms[0][1] == 1:
            return self.terms[0][0]
        return None

    def __add__(self, other: Index | int) -> Index:
        if isinstance(other, int):
            return Index(self.terms, self.const + other) if other else self
        if not other.terms:
            return self + other.const
        return _add(self, other) if self.terms else other + self.const

    def __mul__(self, factor: int) -> Index:
        if factor == 1:
            return self
        if factor == 0:
            return ZERO
        return Index(tuple((a, c * factor) for a, c in self.terms), self.const * factor)

    def __sub__(self, other: Index | int) -> Index:
        return self + other * -1

    def __floordiv__(self, divisor: int) -> Index:
        return self if divisor == 1 else _floordiv(self, divisor)

    def _over(self, divisor: int) -> Index:
        """The quotient by a number that divides every term."""
        return Index(tuple((a, c // divisor) for a, c in self.terms), self.const // divisor)

    def __mod__(self, divisor: int) -> Index:
        return ZERO if divisor == 1 else _mod(self, divisor)

    def atoms(self) -> Iterator[Atom]:
        """All atoms, those inside `//` and `%` included."""
        for atom, _ in self.terms:
            yield atom
            if isinstance(atom, (Div, Mod)):
                yield from atom.base.atoms()

    def variables(self) -> frozenset[str]:
        """Names of the loop variables that the expression depends on."""
        names = self._variables
        if names is None:
            names = frozenset(a.name for a in self.atoms() if isinstance(a, Var))
            self._variables = names
        return names

    def loaded(self) -> frozenset[int]:
        """Value numbers of the loaded integers that the expression depends on."""
        numbers = self._loaded
        if numbers is None:
            numbers = frozenset(a.value for a in self.atoms() if isinstance(a, Loaded))
            self._loaded = numbers
        return numbers

    def stride(self, name: str) -> int | None:
        """Change of the expression per step of a variable; None if it is not affine in it."""
        found = 0
        for atom, c in self.terms:
            if isinstance(atom, Var):
                if atom.name == name:
                    found = c
            elif isinstance(atom, (Div, Mod)) and name in atom.base.variables():
                return None
        return found

    def divisor(self) -> int:
        """The largest integer that divides every value (0 for the constant zero)."""
        g = abs(self.const)
        for _, c in self.terms:
            g = gcd(g, c)
        return g

    def substitute(self, values: Mapping[str, Index]) -> Index:
        """The expression with variables replaced, simplified again."""
        if values.keys().isdisjoint(self.variables()):
            return self
        return self.rebuild(lambda a: values.get(a.name) if isinstance(a, Var) else None)

    def rebuild(self, leaf: Callable[[Atom], Index | None]) -> Index:
        """The expression with each variable or loaded atom replaced where `leaf` gives one."""
        result = constant(self.const)
        for atom, c in self.terms:
            if isinstance(atom, Div):
                part = atom.base.rebuild(leaf) // atom.divisor
            elif isinstance(atom, Mod):
                part = atom.base.rebuild(leaf) % atom.divisor
            else:
                part = leaf(atom) or Index(((atom, 1),), 0)
            result = result + part * c
        return result


ZERO = Index((), 0)


@lru_cache(maxsize=4096)
def constant(value: int) -> Index:
    return Index((), value)


def var(name: str, extent: int) -> Index:
    """The loop variable `name` in [0, extent)."""
    return Index(((Var(name, extent), 1),), 0) if extent != 1 else ZERO


def loaded(value: int, lo: int, hi: int) -> Index:
    """The integer that value number `value` of the region computes, in [lo, hi]."""
    return Index(((Loaded(value, lo, hi), 1),), 0)


def flatten(indices: tuple[Index, ...], shape: tuple[int, ...]) -> Index:
    """Row-major linear offset of `indices` into `shape`."""
    result, stride = ZERO, 1
    for index, n in zip(reversed(indices), reversed(shape)):
        result = result + index * stride
        stride *= n
    return result


def unflatten(flat: Index, shape: tuple[int, ...]) -> tuple[Index, ...]:
    """Inverse of `flatten`: one index per axis of `shape`."""
    indices: list[Index] = []
    for axis in range(len(shape) - 1, -1, -1):
        n = shape[axis]
        indices.append(ZERO if n == 1 else (flat if axis == 0 else flat % n))
        flat = flat // n if n > 0 else flat
    return tuple(reversed(indices))


def _canonical(terms: dict[Atom, int], const: int) -> Index:
    ordered = sorted(((a, c) for a, c in terms.items() if c), key=lambda t: t[0].key)
    return Index(tuple(ordered), const)


@lru_cache(maxsize=65536)
def _add(a: Index, b: Index) -> Index:
    terms = dict(a.terms)
    for atom, c in b.terms:
        terms[atom] = terms.get(atom, 0) + c
    result = _canonical(terms, a.const + b.const)
    joined = _join_div_mod(result)
    return result if joined is None else joined


def _join_div_mod(e: Index) -> Index | None:
    """One application of (e//d)*d + e%d = e or (e//d % m)*d + e%d = e % (d*m)."""
    terms = dict(e.terms)
    for low, c in e.terms:
        if not isinstance(low, Mod):
            continue
        for high, k in e.terms:
            if k != c * low.divisor:
                continue
            if isinstance(high, Div) and high.base == low.base and high.divisor == low.divisor:
                whole = low.base
            elif isinstance(high, Mod) and high.base == low.base // low.divisor:
                whole = low.base % (low.divisor * high.divisor)
            else:
                continue
            del terms[low], terms[high]
            return _canonical(terms, e.const) + whole * c
    return None


@lru_cache(maxsize=65536)
def _floordiv(e: Index, d: int) -> Index:
    quotient = Index(tuple((a, c // d) for a, c in e.terms if c % d == 0), e.const // d)
    rest = Index(tuple((a, c) for a, c in e.terms if c % d), e.const % d)
    if rest.lo >= 0 and rest.hi < d:
        return quotient
    g = d
    for _, c in rest.terms:
        g = gcd(g, c)
    if g > 1:
        smaller = Index(tuple((a, c // g) for a, c in rest.terms), rest.const // g)
        return quotient + smaller // (d // g)
    atom = rest.atom
    if isinstance(atom, Div):
        return quotient + atom.base // (atom.divisor * d)
    if isinstance(atom, Mod) and atom.divisor % d == 0:
        return quotient + (atom.base // d) % (atom.divisor // d)
    for g in sorted({gcd(c, d) for _, c in rest.terms} - {1}, reverse=True):
        low = Index(tuple((a, c) for a, c in rest.terms if c % g), rest.const % g)
        if low.lo >= 0 and low.hi < g:  # (a*g + low) // d = a // (d // g)
            return quotient + (rest - low)._over(g) // (d // g)
    return quotient + Index(((Div(rest, d), 1),), 0)


@lru_cache(maxsize=65536)
def _mod(e: Index, d: int) -> Index:
    rest = Index(tuple((a, c) for a, c in e.terms if c % d), e.const % d)
    if rest.lo >= 0 and rest.hi < d:
        return rest
    unwrapped, changed = constant(rest.const), False
    for atom, c in rest.terms:
        if isinstance(atom, Mod) and atom.divisor % d == 0:
            unwrapped, changed = unwrapped + atom.base * c, True
        else:
            unwrapped = unwrapped + Index(((atom, c % d),), 0)
            changed = changed or c != c % d
    if changed:
        return unwrapped % d
    g = d
    for _, c in rest.terms:
        g = gcd(g, c)
    if g > 1:
        smaller = Index(tuple((a, c // g) for a, c in rest.terms), rest.const // g)
        return (smaller % (d // g)) * g + rest.const % g
    return Index(((Mod(rest, d), 1),), 0)


class Bound:
    """The condition `lo <= index < hi`: how pads and slices say which elements exist."""

    __slots__ = ("index", "lo", "hi")

    def __init__(self, index: Index, lo: int, hi: int):
        self.index, self.lo, self.hi = index, lo, hi

    def __hash__(self) -> int:
        return hash((self.index, self.lo, self.hi))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and (self.index, self.lo, self.hi) == (
            other.index,
            other.lo,
            other.hi,
        )

    def __repr__(self) -> str:
        return f"{self.lo} <= {self.index} < {self.hi}"

    @property
    def is_always(self) -> bool:
        return self.lo <= self.index.lo and self.index.hi < self.hi

    @property
    def is_never(self) -> bool:
        return self.index.hi < self.lo or self.index.lo >= self.hi


def live_tiles(
    bounds: Iterable[Bound],
    names: tuple[str, str],
    extents: tuple[int, int],
    blocks: tuple[int, int] = (1, 1),
) -> tuple[np.ndarray, np.ndarray]:
    """Of a plane cut into tiles: for each row of tiles the first, and the one after the last, in
    which bounds may hold. A bound that is not linear in both variables is left out; other variables
    and loaded integers may be anything.

    Args:
        names, extents: of the variables down and across.
        blocks: elements of a tile along each.

    >>> row, column = var("i", 4), var("j", 6)
    >>> first, end = live_tiles([Bound(row - column, 0, 4)], ("i", "j"), (4, 6), (1, 2))
    >>> first.tolist(), end.tolist()
    ([0, 0, 0, 0], [1, 1, 2, 2])
    """
    down, across = (-(-extent // block) for extent, block in zip(extents, blocks))
    first, end = np.zeros(down, np.int64), np.full(down, across)
    for bound in bounds:
        steps = [bound.index.stride(name) for name in names]
        if steps[0] is None or steps[1] is None:
            continue
        rest = bound.index.substitute(dict.fromkeys(names, ZERO))
        reach = [step * (block - 1) for step, block in zip((steps[0], steps[1]), blocks)]
        corner = steps[0] * blocks[0] * np.arange(down)
        least = rest.lo + corner + sum(min(r, 0) for r in reach)
        most = rest.hi + corner + sum(max(r, 0) for r in reach)
        step = steps[1] * blocks[1]
        low, high = multiples_between(bound.lo - most, bound.hi - least, step, across)
        first, end = np.maximum(first, low), np.minimum(end, high)
    return first, np.maximum(end, first)


def multiples_between(
    low: np.ndarray, high: np.ndarray, step: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first, and the one after the last, of the numbers n with low <= step * n < high, by
    element; they are below 0, or from `count` on, where such n are.

    >>> [int(n[0]) for n in multiples_between(np.array([3]), np.array([11]), 4, 9)]
    [1, 3]
    """
    if step > 0:
        return -(-low // step), -(-high // step)
    if step < 0:
        return high // step + 1, low // step + 1
    return np.zeros_like(low), np.where((low <= 0) & (high > 0), count, 0)
