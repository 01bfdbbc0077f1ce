"""Whole vector registers from runs shorter than a panel (AVX-512 mask registers), to be packed here
or read in place by emit_direct.py.

In: a load of float32 (of bfloat16 for dot_words.py) whose address steps by one in runs of `period`
elements along an axis, as the window of a convolution does. Out: C loops that fill one register
from the few runs it overlaps and store it whole. Invariant: lanes outside all runs, or outside the
load's bounds, are zero and their memory is not touched.

    once a tile, for each register w and run p:  at[w][p] address, in[w][p] lanes
    for (int k = k_lo; k < k_hi; k++)
      for (int w = 0; w < registers; w++) {
        v = 0;
        v = tg_part(v, x + at[w][0] + g, in[w][0] & window);
        v = tg_part(v, x + at[w][1] + g, in[w][1] & window);
        store v
      }

A 5x5 convolution of 512x32x24x24 spent as long in copies of 20 elements as in its products; so it
spends a third of that (one core of Zen 5, gcc 12).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgrad import dtype as dt
from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import dims_of
from tgrad.cpu_fallback.dot_plan import Operand
from tgrad.cpu_fallback.emit_body import Body
from tgrad.cpu_fallback.emit_index import index_text, run_along, split_index
from tgrad.cpu_fallback.register_tiles import vector_type
from tgrad.fusion.region import Bound
from tgrad.graph.index import Index
from tgrad.kernel import ir

LANES = 16
"""Elements of a register; the only width that is emitted."""

MAX_PARTS = 5
"""Most runs that one register may overlap: as many as of the shortest that are worth a loop."""


@dataclass(frozen=True)
class VectorTable:
    """C arrays that describe each register along an axis.

    Attributes:
        axis: along which registers are filled.
        name: prefix of the arrays.
        period: elements of a run.
        parts: runs that a register may overlap.
        load: what is packed.
        ctype: C type of a packed element.
        address: part of the load's index that other loop variables add.
        bounds: (bound, C array of its value in lane 0, what others add, whether it steps).
    """

    axis: str
    name: str
    period: int
    parts: int
    load: ir.LoadTile
    ctype: str
    address: Index
    bounds: tuple[tuple[Bound, str, Index, bool], ...]

    def part(self, body: Body, w: str, p: int, v: str) -> str:
        """C text of register `w`, whose earlier runs are in v, with what lies in its run p."""
        name, lanes = self.name, [f"{self.name}_in[{w}][{p}]"]
        for number, (b, array, _, steps) in enumerate(self.bounds):
            value = f"{array}[{w}][{p}] + {name}_g{number}"
            if steps:
                lanes.append(f"tg_window({b.lo} - ({value}), {b.hi} - ({value}))")
            else:
                lanes.append(f"-(({value} >= {b.lo}) & ({value} < {b.hi}))")
        return f"tg_part_{self.ctype}({v}, {self.address_of(body, w, p)}, {' & '.join(lanes)})"

    def address_of(self, body: Body, w: str, p: int) -> str:
        """C text of where lane 0 of register `w` would be if all of it were in its run p."""
        return f"{body.slot_name[self.load.slot]} + {self.name}_at[{w}][{p}] + {self.name}_g"


def find_load(operand: Operand, body: Body, axis: str, dtype: dt.DType) -> ir.LoadTile | None:
    """The operand's load, if it is nothing but a load that can be packed so."""
    needed = [s for s in operand.stmts if axis in dims_of(s)]
    load = needed[0] if len(needed) == 1 else None
    if not isinstance(load, ir.LoadTile) or load.out.id != operand.tile.id:
        return None
    slot = body.kernel.slots[load.slot]
    if not load.out.dtype is dtype is slot.dtype or dtype not in (dt.float32, dt.bfloat16):
        return None
    run = run_along(load.index, axis)
    bounds = [run_along(b.index, axis) for b in load.mask]
    if run is None or run.step != 1 or any(r is None or r.step not in (0, 1) for r in bounds):
        return None
    return load


def parts_of(period: int, is_aligned: bool = False) -> int:
    """Runs of `period` elements that one register may overlap.

    Args:
        is_aligned: whether each register begins at a multiple of its lanes.
    """
    return LANES // period if is_aligned and LANES % period == 0 else (LANES - 1) // period + 2


def declare_table(
    body: Body,
    load: ir.LoadTile,
    axis: str,
    other: str,
    period: int,
    prefix: str,
    place: str,
    together: int = 1,
) -> VectorTable | None:
    """Declare and fill the arrays for the axis's present tile; None if runs are too short.

    Args:
        other: the axis of the loop around the registers.
        period: elements of a run.
        place: C text of register `w`'s offset in the packed buffer; "" without one.
        together: registers that are read together: empty ones fill up the last.
    """
    block = body.block(axis)
    parts = parts_of(period, body.kernel.axis(axis).steps == 1 or block % LANES == 0)
    if parts > MAX_PARTS:
        return None
    code, x, ctype = body.code, body.axis_name[axis], body.ctype
    name = f"{prefix}{x}"
    count = -(-block // (LANES * together)) * together
    address = split_index(load.index, axis, other)
    assert address is not None
    bounds: list[tuple[Bound, str, Index, bool]] = []
    values: list[tuple[str, Index, bool]] = [(f"{name}_at", address[0], True)]
    for number, b in enumerate(load.mask):
        run, split = run_along(b.index, axis), split_index(b.index, axis, other)
        assert run is not None and split is not None
        array, steps = f"{name}_b{number}", run.step == 1
        bounds.append((b, array, split[1], steps))
        values.append((array, split[0], steps))
    arrays = ", ".join(f"{array}[{count}][{parts}]" for array, _, _ in values)
    places = f", {name}_to[{count}]" if place else ""
    code.line(f"{ctype} {arrays}{places}, {name}_w = 0;")
    code.line(f"uint16_t {name}_in[{count}][{parts}];")
    stop, step = f"{x}_hi", LANES * together
    if together > 1:
        stop = f"{x}_lo + ({x}_hi - {x}_lo + {step - 1}) / {step} * {step}"
    head = f"for ({ctype} {x}_t = {x}_lo; {x}_t < {stop}; {x}_t += {LANES}, {name}_w++)"
    with code.block(head):
        code.line(f"const {ctype} {x}_end = tg_min({x}_t + {LANES}, {x}_hi), w = {name}_w;")
        if place:
            code.line(f"{name}_to[w] = {place};")
        _fill_runs(body, x, name, parts, period, values)
    packed = ops.memory_type(load.out.dtype)
    return VectorTable(axis, name, period, parts, load, packed, address[1], tuple(bounds))


def _fill_runs(
    body: Body,
    x: str,
    name: str,
    parts: int,
    period: int,
    values: Sequence[tuple[str, Index, bool]],
) -> None:
    """For each run that register `w` overlaps its lanes, and what it has of each index: (C array,
    index, whether it steps along the lanes)."""
    code, ctype = body.code, body.ctype
    with code.block(f"for ({ctype} p = 0, {x} = {x}_t, {x}_s; p < {parts}; p++, {x} = {x}_s)"):
        code.line(f"{x}_s = tg_min({x}_end, ({x} / {period} + 1) * {period});")
        code.line(f"{name}_in[w][p] = tg_window({x} - {x}_t, {x}_s - {x}_t);")
        for array, e, steps in values:
            shift = f" - ({x} - {x}_t)" if steps else ""
            code.line(f"{array}[w][p] = {index_text(e, body.rename)}{shift};")


def declare_offsets(body: Body, table: VectorTable) -> None:
    """What the present row adds to addresses and bounds of all registers."""
    g = f"{table.name}_g"
    code = body.code
    code.line(f"const {body.ctype} {g} = {index_text(table.address, body.rename)};")
    for number, (_, _, rest, _) in enumerate(table.bounds):
        code.line(f"const {body.ctype} {g}{number} = {index_text(rest, body.rename)};")


def emit_registers(body: Body, table: VectorTable, to: str) -> None:
    """Pack all registers of the present row; `to` is the C text of the row's first element."""
    code, name = body.code, table.name
    declare_offsets(body, table)
    with code.block(f"for (int w = 0; w < {name}_w; w++)"):
        code.line(f"{vector_type(table.ctype, LANES)} v = {{0}};")
        for p in range(table.parts):
            code.line(f"v = {table.part(body, 'w', p, 'v')};")
        code.line(f"*({vector_type(table.ctype, LANES)} *)({to} + {name}_to[w]) = v;")
