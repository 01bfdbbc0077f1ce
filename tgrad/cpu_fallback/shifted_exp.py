"""Exponentials of values less their maximum, and quotients by their sums, as softmax has them.

In: the statements of a kernel. Out: which exponentials have arguments that are not above zero, and
which sums of them are at least one. Invariant: both are proofs, for any input; NaN apart.

    m = max of x               exp(x - m) and exp((x - m) * 0.125) need no bound above, and one
                               scaling of two
    s = sum of exp(x - m)      is between 1 and the row's length: y / s is y * (1 / s)

Values are compared by how they are made, down to loads and tiles: a row that is loaded again is the
same. A product that is made again need not be, unless all are rounded by themselves: the compiler
may leave out its rounding in one of two passes.
"""

from __future__ import annotations

from collections.abc import Hashable

from tgrad import dtype as dt
from tgrad.graph.index import Index
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile, statements

Around = tuple[tuple[str, tuple[Index, ...], tuple[Index, ...]], ...]
"""Axis, first and last step of each loop around a statement."""

_COMPARED = (Op.WHERE, Op.NEG, Op.ABS, Op.ADD, Op.SUB, Op.MAXIMUM, Op.MINIMUM, Op.CAST)
"""What computes the same bits from the same bits wherever it stands; products do where they are
rounded by themselves."""


class ShiftedExp:
    """What is known of one kernel.

    Args:
        rounds_products: whether all products of floats are rounded by themselves.

    Attributes:
        low: ids of exponentials, in float32, of values not above zero.
        sums: ids of sums of such, of which one is e^0 or NaN.
    """

    def __init__(self, kernel: ir.Kernel, rounds_products: bool):
        self.compared = (*_COMPARED, Op.MUL) if rounds_products else _COMPARED
        self.made: dict[int, ir.Stmt] = {}
        self.joined: dict[int, list[ir.Accumulate]] = {}
        self.keys: dict[int, int | None] = {}
        self.numbers: dict[Hashable, int] = {}
        self.low: set[int] = set()
        self.sums: set[int] = set()
        shifted: dict[int, Around] = {}
        loops = _loops(kernel)
        for stmt in statements(kernel.body):
            if isinstance(stmt, ir.Accumulate):
                self.joined.setdefault(stmt.carry.id, []).append(stmt)
                if stmt.op is Op.ADD and shifted.get(stmt.value.id) == loops[id(stmt)]:
                    self.sums.add(stmt.carry.id)
            elif not isinstance(stmt, (ir.Loop, ir.StoreTile, ir.DotTile, ir.OfTriton)):
                self.made[stmt.out.id] = stmt
            if isinstance(stmt, ir.ComputeTile) and self._is_low(stmt):
                self.low.add(stmt.out.id)
                maximum = self._whole_maximum(stmt)
                if maximum is not None:
                    shifted[stmt.out.id] = loops[id(maximum)]
        self.sums = {n for n in self.sums if len(self.joined[n]) == 1 and self._starts_at_zero(n)}

    def _starts_at_zero(self, carry: int) -> bool:
        s = self.made.get(carry)
        return isinstance(s, ir.Init) and s.value == 0

    def _is_low(self, s: ir.ComputeTile) -> bool:
        return s.op is Op.EXP and s.out.dtype is dt.float32 and self._is_not_above_zero(s.args[0])

    def _is_not_above_zero(self, t: Tile) -> bool:
        s = self.made.get(t.id)
        if not isinstance(s, ir.ComputeTile):
            return False
        if s.op is Op.MUL:
            return any(
                self._is_positive(c) and self._is_not_above_zero(x)
                for x, c in (s.args, s.args[::-1])
            )
        return s.op is Op.SUB and self._is_at_least(s.args[1], s.args[0])

    def _is_positive(self, t: Tile) -> bool:
        s = self.made.get(t.id)
        return isinstance(s, ir.ConstTile) and s.value > 0

    def _is_at_least(self, bound: Tile, t: Tile) -> bool:
        """Whether the bound is a maximum to which the value has been joined."""
        joined = self.joined.get(bound.id, [])
        if joined:
            return all(a.op is Op.MAXIMUM for a in joined) and any(
                self._are_equal(a.value, t) for a in joined
            )
        match self.made.get(bound.id):
            case ir.ReduceTile(op=Op.REDUCE_MAX, arg=arg):
                return self._are_equal(arg, t)
            case ir.ComputeTile(op=Op.MAXIMUM, args=args):
                return any(self._is_at_least(a, t) for a in args)
            case ir.ComputeTile(op=Op.WHERE, args=(empty, _, maximum)):
                return self._says_empty(empty, maximum) and self._is_at_least(maximum, t)
        return False

    def _says_empty(self, condition: Tile, maximum: Tile) -> bool:
        """Whether the condition is that the maximum is -inf: then so are all values."""
        s = self.made.get(condition.id)
        if not isinstance(s, ir.ComputeTile) or s.op is not Op.EQ or s.args[0].id != maximum.id:
            return False
        constant = self.made.get(s.args[1].id)
        return isinstance(constant, ir.ConstTile) and constant.value == float("-inf")

    def _whole_maximum(self, s: ir.ComputeTile) -> ir.Accumulate | None:
        """What joins the values to the maximum, if that is a carry and they are not scaled."""
        difference = self.made.get(s.args[0].id)
        if not isinstance(difference, ir.ComputeTile) or difference.op is not Op.SUB:
            return None
        joined = self.joined.get(difference.args[1].id, [])
        return joined[0] if len(joined) == 1 else None

    # -- values -----------------------------------------------------------------------------------

    def _are_equal(self, a: Tile, b: Tile) -> bool:
        key = self._key(a)
        return key is not None and key == self._key(b)

    def _key(self, t: Tile) -> int | None:
        """A number of how a value is made; None if it might be rounded otherwise when it is made
        again."""
        match self.made.get(t.id):
            case ir.Stash(value=kept) | ir.Unstash(stash=kept):
                return self._key(kept)
        if t.id not in self.keys:
            made = self._how(t)
            number = None if made is None else self.numbers.setdefault(made, len(self.numbers))
            self.keys[t.id] = number
        return self.keys[t.id]

    def _how(self, t: Tile) -> Hashable | None:
        match self.made.get(t.id):
            case ir.LoadTile() as s if not s.index.loaded():
                return s.slot, s.index, s.mask, t.dtype
            case ir.ConstTile() as s:
                return repr(s.value), t.dtype
            case ir.InsideTile() as s:
                return s.mask
            case ir.ComputeTile() as s if s.op in self.compared:
                args = tuple(self._key(a) for a in s.args)
                return None if None in args else (s.op, args, t.dtype)
            case ir.Init() | ir.ReduceTile() if t.id not in self.joined:  # of a dot, whole by now
                return "tile", t.id
        return None


def _loops(kernel: ir.Kernel) -> dict[int, Around]:
    """The loops around each statement, by what they run over."""
    found: dict[int, Around] = {}

    def visit(stmts: tuple[ir.Stmt, ...], around: Around) -> None:
        for s in stmts:
            found[id(s)] = around
            if isinstance(s, ir.Loop):
                visit(s.body, (*around, (s.axis, s.start, s.stop)))

    visit(kernel.body, ())
    return found
