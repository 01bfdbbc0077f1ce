"""Values of a tile program as C expressions: what C and OpenCL C write alike.

In: a statement that defines a value. Out: its C text at the present loop variables. Invariant:
nothing here knows of loops, threads or memory: a subclass says where tiles and indices are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection

from tgrad import dtype as dt
from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import compares_extrema, unique_names
from tgrad.cpu_fallback.emit_index import index_text
from tgrad.cpu_fallback.near_functions import near
from tgrad.fusion.region import Mask
from tgrad.graph.index import Atom, Index
from tgrad.graph.op import Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Tile, statements
from tgrad.kernel.statements import reads_of


class Values(ABC):
    """The names of a kernel's axes and slots, and the text of what it computes.

    Args:
        taken: names that the language has for itself.
    """

    def __init__(self, kernel: ir.Kernel, taken: Collection[str] = ()):
        self.kernel = kernel
        self.axis_name = unique_names([a.name for a in kernel.axes], taken)
        used = {*self.axis_name.values(), *taken, kernel.name}
        names = unique_names([f"{n} {s.name}" for n, s in enumerate(kernel.slots)], used)
        plain = unique_names([s.name for s in kernel.slots], used)
        distinct = len({s.name for s in kernel.slots}) == len(kernel.slots)
        self.slot_name = [
            plain[s.name] if distinct else names[f"{n} {s.name}"]
            for n, s in enumerate(kernel.slots)
        ]
        self.is_exact = compares_extrema(kernel)
        self.carry_dtype = {
            s.carry.id: ops.scan_carry(s.op, s.out.dtype)
            for s in statements(kernel.body)
            if isinstance(s, ir.ScanTile) and s.carry is not None
        }
        self.twos = {
            s.out.id
            for s in statements(kernel.body)
            if isinstance(s, ir.ConstTile) and s.value == 2 and s.out.dtype.is_float
        }
        self.near: frozenset[int] = frozenset()
        self.settled: dict[Mask, bool] = {}
        """Whether a mask holds, where a loop is emitted for each case."""
        self.rounded_by_stores = _rounded_by_stores(kernel)

    @abstractmethod
    def element(self, tile: Tile) -> str:
        """C text of the tile's element at the present loop variables."""

    @abstractmethod
    def rename(self, atom: Atom) -> str:
        """C text of a variable or of a loaded integer."""

    def index(self, e: Index) -> str:
        """C text of an index."""
        return index_text(e, self.rename)

    def compared(self, e: Index) -> str:
        """C text of an index that a mask bounds."""
        return self.index(e)

    def mask(self, mask: Mask) -> str:
        """C text of the conjunction of bounds, without a branch; "1" where it always holds."""
        parts = []
        for b in mask:
            if b.index.lo < b.lo:
                parts.append(f"({self.compared(b.index)} >= {b.lo})")
            if b.index.hi >= b.hi:
                parts.append(f"({self.compared(b.index)} < {b.hi})")
        return " & ".join(parts) or "1"

    def expression(self, stmt: ir.Stmt) -> str:
        """C text of the value that a Load, Const, Index, Inside or Compute defines."""
        match stmt:
            case ir.LoadTile():
                slot = self.kernel.slots[stmt.slot]
                text = f"{self.slot_name[stmt.slot]}[{self.index(stmt.index)}]"
                text = ops.from_memory(slot.dtype, text)
                if stmt.mask in self.settled:
                    return text if self.settled[stmt.mask] else ops.number(0, stmt.out.dtype)
                condition = self.mask(stmt.mask)
                return text if condition == "1" else f"({condition}) ? {text} : 0"
            case ir.ConstTile():
                return ops.number(stmt.value, stmt.out.dtype)
            case ir.IndexTile():
                ctype = ops.register_type(stmt.out.dtype)
                return ops.round_to(f"({ctype})({self.index(stmt.index)})", stmt.out.dtype)
            case ir.InsideTile():
                return self.mask(stmt.mask)
            case ir.ComputeTile():
                return self.computed(stmt)
            case _:
                raise AssertionError(stmt)

    def computed(self, stmt: ir.ComputeTile) -> str:
        """C text of what an elementwise op makes."""
        args = [self.element(a) for a in stmt.args]
        if stmt.op is Op.MUL and self.is_exact and stmt.out.dtype in (dt.float32, dt.float64):
            return f"tg_product_{stmt.out.dtype.short}({', '.join(args)})"
        dtype = dt.float32 if stmt.out.id in self.rounded_by_stores else stmt.out.dtype
        if stmt.op is Op.POW and stmt.args[0].id in self.twos:
            return ops.round_to(f"{ops.exp2(dtype)}({args[1]})", dtype)
        if stmt.out.id in self.near:
            return ops.round_to(near(stmt.op, args, stmt.args[0].dtype), dtype)
        text = ops.spell(stmt.op, args, [a.dtype for a in stmt.args], dtype, stmt.word)
        if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
            return text[1:-1]
        return text

    def stored(self, stmt: ir.StoreTile) -> str:
        """C text of the value that is stored, in the register type of its slot."""
        dtype, value = self.kernel.slots[stmt.slot].dtype, self.element(stmt.value)
        return value if stmt.value.dtype is dtype else ops.cast(value, stmt.value.dtype, dtype)


def _rounded_by_stores(kernel: ir.Kernel) -> frozenset[int]:
    """Narrow floats that are computed to be stored and for nothing else: one rounding does."""
    computed, read = set[int](), set[int]()
    for s in statements(kernel.body):
        if isinstance(s, ir.ComputeTile) and s.out.dtype.is_narrow and s.op is not Op.BITCAST:
            computed.add(s.out.id)
        if isinstance(s, ir.StoreTile) and s.combine == "set":
            is_same = kernel.slots[s.slot].dtype is s.value.dtype
            read |= ir.read_numbers(s) - ({s.value.id} if is_same else set())
        elif not isinstance(s, ir.Loop):
            read |= reads_of(s)
    return frozenset(computed - read)
