"""Exponentials with one multiply-add an element.

In: a Kernel, and its tiles that are rounded in the end. Out: what to print for their exponentials,
and the tiles that nothing then needs. Invariant: nothing between a difference and its exponential
changes what it is of.

    exp((x - y) c)  =>  exp2(x C - y C)            C = c log2 e, for a number c
    exp(x c - y)    =>  exp2(x C - y log2 e)       for a number y of each of many x: of a row, say
    exp(x c)        =>  exp2(x C)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tgrad import dtype as dt
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Kernel, Tile

LOG2_E = 1.4426950408889634
LARGE = 2.0**29
"""Numbers y from which on what the rounding of y C loses does not cancel in the quotient."""
MOST = 2.0**64
"""Numbers c beyond this or its inverse are multiplied first, as written."""


@dataclass(frozen=True, slots=True)
class Exponent:
    """exp2(x * factor), or exp2(x * factor - y * shift).

    Attributes:
        is_guarded: whether the factors are one and y may be so large that its product is infinite,
            or that what its rounding loses is a power of two that counts. Such are rows of logits,
            and of scores with a mask that is added or of large numbers; sums of products alone are
            taken to be below.
    """

    x: Tile
    factor: float
    y: Tile | None = None
    shift: float = 0.0
    is_guarded: bool = False


@dataclass(frozen=True)
class Exponents:
    """Of a kernel.

    Attributes:
        of: by number of an exponential's tile.
        unneeded: numbers of tiles that were made for them alone.
        scaled: by number of a tile y that is there before the loop of its exponential: the shift
            by which it is multiplied there, once.
    """

    of: dict[int, Exponent]
    unneeded: frozenset[int]
    scaled: dict[int, float]


def find_exponents(kernel: Kernel, rounded: frozenset[int]) -> Exponents:
    """The short forms of a kernel's exponentials."""
    found = _Search(kernel)
    of = {
        s.out.id: e
        for s in found.flat
        if isinstance(s, ir.ComputeTile) and s.op is Op.EXP and s.out.id in rounded
        if (e := found.exponent(s)) is not None
    }
    return Exponents(of, found.unneeded(of), found.scaled(of))


class _Search:
    def __init__(self, kernel: Kernel):
        self.flat = list(ir.statements(kernel.body))
        self.made = {
            s.out.id: (at, s) for at, s in enumerate(self.flat) if isinstance(s, ir.ComputeTile)
        }
        self.numbers = {s.out.id: s.value for s in self.flat if isinstance(s, ir.ConstTile)}
        self.loads = {s.out.id for s in self.flat if isinstance(s, ir.LoadTile)}
        self.has_dot = any(isinstance(s, ir.DotTile) for s in self.flat)
        self.changes: dict[int, list[int]] = {}
        """By number of a carry, the places where it changes."""
        for at, s in enumerate(self.flat):
            if isinstance(s, (ir.Accumulate, ir.DotTile, ir.Keep)):
                self.changes.setdefault(s.carry.id, []).append(at)
        whole = (ir.LoadTile, ir.ReduceTile, ir.ComputeTile)
        self.before = {s.out.id for s in kernel.body if isinstance(s, whole)}

    def exponent(self, stmt: ir.ComputeTile) -> Exponent | None:
        (arg,), at = stmt.args, self.made[stmt.out.id][0]
        if arg.dtype is not dt.float32:
            return None
        product, c = self.product(arg, at)
        difference = self.difference(product, at)
        if difference is None:
            return None if product is arg else Exponent(product, c * LOG2_E)
        x, factor = self.product(difference[0], at)
        is_even = factor == 1.0 and c <= 1.0
        is_guarded = self.may_be_large(x) if self.has_dot else is_even and c == 1.0
        if is_guarded and not is_even:
            return None
        return Exponent(x, factor * c * LOG2_E, difference[1], c * LOG2_E, is_guarded)

    def may_be_large(self, tile: Tile) -> bool:
        """Whether a loaded number, or a constant that is large and finite, is part of a tile beside
        sums of products."""
        left, seen = [tile.id], set[int]()
        while left:
            number = left.pop()
            if number in seen:
                continue
            seen.add(number)
            constant = abs(float(self.numbers.get(number, 0.0)))
            if number in self.loads or LARGE <= constant < math.inf:
                return True
            if number in self.made:
                left += [a.id for a in self.made[number][1].args if a.dtype.is_float]
        return False

    def product(self, tile: Tile, at: int) -> tuple[Tile, float]:
        """(x, c) of a tile x * c, for x that is the same at a later place; itself times 1 if it is
        no such product."""
        before, stmt = self.made.get(tile.id, (0, None))
        if stmt is not None and stmt.op is Op.MUL and stmt.args[0].id not in self.numbers:
            x, factor = stmt.args
            c = float(self.numbers.get(factor.id, 0.0))
            if 1 / MOST <= abs(c) <= MOST and not self.changes_between(x, before, at):
                return x, c
        return tile, 1.0

    def difference(self, tile: Tile, at: int) -> tuple[Tile, Tile] | None:
        """(x, y) of a tile x - y, for one y of many x that are both the same at a later place."""
        before, stmt = self.made.get(tile.id, (0, None))
        if stmt is None or stmt.op is not Op.SUB:
            return None
        x, y = stmt.args
        if x.dims != tile.dims or len(y.dims) >= len(x.dims) or {x.id, y.id} & set(self.numbers):
            return None
        changes = self.changes_between(x, before, at) or self.changes_between(y, before, at)
        return None if changes else (x, y)

    def changes_between(self, tile: Tile, before: int, at: int) -> bool:
        return any(before < c < at for c in self.changes.get(tile.id, ()))

    def unneeded(self, of: dict[int, Exponent]) -> frozenset[int]:
        """Arguments of the exponentials, and what those are made of, that nothing else reads."""
        readers: dict[int, set[int]] = {}
        for at, stmt in enumerate(self.flat):
            for tile in ir.reads(stmt):
                readers.setdefault(tile.id, set()).add(at)
        gone = {self.made[number][0] for number in of}
        kept = {t.id for e in of.values() for t in (e.x, e.y) if t is not None}
        found: set[int] = set()
        for at in range(len(self.flat) - 1, -1, -1):
            stmt = self.flat[at]
            if isinstance(stmt, ir.ComputeTile) and stmt.op in (Op.SUB, Op.MUL):
                mine = readers.get(stmt.out.id, set())
                if mine and mine <= gone and stmt.out.id not in kept:
                    found.add(stmt.out.id)
                    gone.add(at)
        return frozenset(found)

    def scaled(self, of: dict[int, Exponent]) -> dict[int, float]:
        """What exponentials inside of loops subtract, and is there before."""
        found: dict[int, float] = {}
        for number, e in of.items():
            if e.y is None or e.is_guarded:
                continue
            if e.y.id in self.before and number not in self.before:
                found.setdefault(e.y.id, e.shift)
        return found
