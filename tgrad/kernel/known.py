"""What is known of tiles: numbers, and tiles that are others.

In: statements of a tile program in order. Out: the number that a statement makes, or the tile that
it passes on. Invariant: to the bit what the statement would compute; -0 + 0 stays an addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from tgrad.graph.op import Op, is_elementwise
from tgrad.graph.rules_elementwise import constant_result
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile

Number = bool | int | float

_COMPARED = (Op.LT, Op.LE, Op.EQ, Op.NE)


class Known:
    """Knowledge of the tiles of a program.

    Attributes:
        numbers: tiles of one number in all elements, by id.
        ranges: the least and the largest of an index's values, by the tile's id.
        sums: tiles to which a zero was added, by id: another one changes nothing.
    """

    def __init__(self) -> None:
        self.numbers: dict[int, Number] = {}
        self.ranges: dict[int, tuple[int, int]] = {}
        self.sums: set[int] = set()

    def value(self, s: ir.Stmt) -> Number | None:
        """The number that all elements of what a statement makes are; None if that is not known."""
        match s:
            case ir.ConstTile():
                return s.value
            case ir.LoadTile() if any(b.is_never for b in s.mask):
                return False if s.out.dtype.is_bool else 0.0 if s.out.dtype.is_float else 0
            case ir.InsideTile() if any(b.is_never for b in s.mask):
                return False
            case ir.InsideTile() if not s.mask:
                return True
            case ir.IndexTile() if not s.out.dtype.is_float:
                low, high = s.index.lo, s.index.hi
                if s.out.dtype.min <= low and high <= s.out.dtype.max:
                    self.ranges[s.out.id] = low, high
                    return low if s.index.is_const else None
            case ir.ComputeTile() if s.op in _COMPARED and self._compared(s) is not None:
                return self._compared(s)
            case ir.ComputeTile() if s.op is Op.WHERE and len(self._known(s.args[1:])) == 2:
                one, other = (self.numbers[t.id] for t in s.args[1:])
                if repr(one) == repr(other) or s.args[0].id in self.numbers:
                    return one if self.numbers.get(s.args[0].id, True) else other
                return None
            case ir.ComputeTile() if s.op in (Op.AND, Op.OR) and s.out.dtype.is_bool:
                decides = s.op is Op.OR
                known = [self.numbers.get(t.id) for t in s.args]
                if decides in known:
                    return decides
                return None if None in known else not decides
            case ir.ComputeTile() if is_elementwise(s.op) and not s.word and s.args:
                if len(self._known(s.args)) == len(s.args):
                    constants = [(self.numbers[t.id], t.dtype) for t in s.args]
                    return constant_result(s.op, constants, s.out.dtype)
        return None

    def same(self, s: ir.Stmt) -> Tile | None:
        """The operand that a statement passes on as it is."""
        if not isinstance(s, ir.ComputeTile):
            return None
        args = s.args
        if s.op is Op.WHERE and args[0].id in self.numbers:
            chosen = args[1] if self.numbers[args[0].id] else args[2]
        elif s.op in (Op.AND, Op.OR) and s.out.dtype.is_bool and self._known(args):
            chosen = args[1] if args[0].id in self.numbers else args[0]
        elif s.op is Op.ADD and self._zeros(args):
            chosen = args[1] if self._zeros(args[:1]) else args[0]
            if s.out.dtype.is_float and chosen.id not in self.sums:
                self.sums.add(s.out.id)
                return None
        else:
            return None
        return chosen if chosen.dims == s.out.dims and chosen.dtype is s.out.dtype else None

    def _compared(self, s: ir.ComputeTile) -> bool | None:
        """What a comparison gives for all values of indices."""
        (low, high), (other_low, other_high) = map(self._range, s.args)
        if s.op in (Op.EQ, Op.NE):
            if high < other_low or other_high < low:
                return s.op is Op.NE
            return s.op is Op.EQ if low == high == other_low == other_high else None
        strict = s.op is Op.LT
        if high < other_low + (not strict):
            return True
        return False if low >= other_high + (not strict) else None

    def _range(self, t: Tile) -> tuple[float, float]:
        number = self.numbers.get(t.id)
        if number is not None and not t.dtype.is_float:
            return number, number
        return self.ranges.get(t.id, (-inf, inf))

    def _known(self, tiles: Sequence[Tile]) -> list[Tile]:
        return [t for t in tiles if t.id in self.numbers]

    def _zeros(self, tiles: Sequence[Tile]) -> list[Tile]:
        """Those that are +0."""
        return [t for t in self._known(tiles) if str(self.numbers[t.id]) in ("0", "0.0")]
