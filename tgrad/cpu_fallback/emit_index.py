"""Index expressions as C integers, and how they step along an axis.

In: an `Index`. Out: C text of type int (ptrdiff_t where 32 bits do not hold it), or its `Run`
along one axis. Invariant: `//` and `%` keep floor semantics; nothing overflows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import gcd

from tgrad.fusion.region import Mask
from tgrad.graph.index import Atom, Div, Index, Loaded, Mod, Var, loaded

INT32 = 2**31 - 1

Rename = Callable[[Atom], str]
"""C text of a variable or of a loaded integer."""


def largest_magnitude(e: Index) -> int:
    """Bound on every intermediate result of evaluating the expression."""
    total = abs(e.const)
    for atom, c in e.terms:
        inner = max(abs(atom.lo), abs(atom.hi)) * abs(c)
        if isinstance(atom, (Div, Mod)):
            inner = max(inner, 2 * largest_magnitude(atom.base) + atom.divisor)
        total += inner
    return total


def index_ctype(indices: Iterable[Index]) -> str:
    """The C type that evaluates all of the expressions without overflow."""
    big = any(largest_magnitude(e) > INT32 for e in indices)
    return "ptrdiff_t" if big else "int"


def bounded(indices: Iterable[Index], mask: Mask) -> Iterator[Index]:
    """Index expressions where a mask holds, less those that are loaded integers as they are: with
    what the mask says of loaded integers."""
    bounds = {b.index.atom.value: b for b in mask if isinstance(b.index.atom, Loaded)}

    def leaf(atom: Atom) -> Index | None:
        if not isinstance(atom, Loaded) or atom.value not in bounds:
            return None
        b = bounds[atom.value]
        return loaded(atom.value, max(atom.lo, b.lo), min(atom.hi, b.hi - 1))

    for e in indices:
        if not (isinstance(e.atom, Loaded) and e.atom.value in bounds):
            yield e.rebuild(leaf) if bounds else e


def index_text(e: Index, rename: Rename) -> str:
    """C text of the expression, safe as an operand of + (parenthesised where needed).

    >>> from tgrad.graph.index import var
    >>> i = var("i", 100)
    >>> index_text(i // 7 * 3 + i % 7, lambda a: a.key)
    'i / 7 * 3 + i % 7'
    """
    parts: list[str] = []
    for atom, c in sorted(e.terms, key=lambda t: -abs(t[1])) if len(e.terms) > 1 else e.terms:
        text = _atom_text(atom, rename)
        if c == 1:
            parts.append(text)
        elif c == -1:
            parts.append(f"-{text}" if not isinstance(atom, (Div, Mod)) else f"-({text})")
        else:
            parts.append(f"{text} * {c}")
    if e.const or not parts:
        parts.append(str(e.const))
    return " + ".join(parts).replace("+ -", "- ")


def _atom_text(atom: Atom, rename: Rename) -> str:
    if isinstance(atom, (Var, Loaded)):
        return rename(atom)
    assert isinstance(atom, (Div, Mod))
    base, d = atom.base, atom.divisor
    shift = 0 if base.lo >= 0 else -(base.lo // d)
    shifted = base + shift * d
    text = index_text(shifted, rename)
    if shifted.atom is None or isinstance(shifted.atom, (Div, Mod)):
        text = f"({text})"
    if isinstance(atom, Mod):
        return f"{text} % {d}"
    return f"{text} / {d}" if not shift else f"({text} / {d} - {shift})"


@dataclass(frozen=True, slots=True)
class Run:
    """The expression adds `step` for each element of the axis between places that are `phase` more
    than multiples of `period` (0: along the whole axis)."""

    period: int
    step: int
    phase: int = 0

    def joined(self, other: Run) -> Run:
        """The runs along which both step evenly, with the sum of the steps."""
        period = gcd(self.period, other.period)
        phase = self.phase if self.period else other.phase
        if period and (self.phase - other.phase) % period and self.period and other.period:
            period, phase = 1, 0
        return Run(period, self.step + other.step, phase % period if period else 0)


def run_along(e: Index, axis: str) -> Run | None:
    """How the expression steps along an axis; None where it does not step evenly."""
    found = Run(0, 0)
    for atom, c in e.terms:
        part = _atom_run(atom, axis)
        if part is None:
            return None
        found = found.joined(Run(part.period, c * part.step, part.phase))
    return found


def _atom_run(atom: Atom, axis: str) -> Run | None:
    if isinstance(atom, Var):
        return Run(0, int(atom.name == axis))
    if not isinstance(atom, (Div, Mod)):
        return Run(0, 0)
    if axis not in atom.base.variables():
        return Run(0, 0)
    base = run_along(atom.base, axis)
    if base is None:
        return None
    if base.step == 0:
        return base
    (inner, factor), *others = atom.base.terms
    if others or factor != 1 or not isinstance(inner, Var):
        return None
    return Run(atom.divisor, int(isinstance(atom, Mod)), -atom.base.const % atom.divisor)


def common_run(indices: Iterable[Index], axis: str) -> Run | None:
    """The runs along which all of the expressions step evenly, or None."""
    found = Run(0, 0)
    for e in indices:
        run = run_along(e, axis)
        if run is None:
            return None
        found = found.joined(run)
    return found


def split_index(e: Index, axis: str, other: str) -> tuple[Index, Index] | None:
    """The expression as f(axis, rest) + g(other); None if an atom needs both.

    Terms that depend on neither are in f.
    """
    f: list[tuple[Atom, int]] = []
    g: list[tuple[Atom, int]] = []
    for atom, c in e.terms:
        names = _atom_variables(atom)
        if other in names:
            if axis in names:
                return None
            g.append((atom, c))
        else:
            f.append((atom, c))
    return Index(tuple(f), e.const), Index(tuple(g), 0)


def _atom_variables(atom: Atom) -> frozenset[str]:
    if isinstance(atom, Var):
        return frozenset((atom.name,))
    if isinstance(atom, (Div, Mod)):
        return atom.base.variables()
    return frozenset()
