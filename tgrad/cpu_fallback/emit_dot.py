"""Dot kernels as packed loops around a register tile.

In: a DotProgram and its plan. Out: C lines. Invariant: each output element is summed over k in one
order, whatever the number of threads.

    parallel for batch, stationary tile, streamed tile:
      pack the stationary operand (all of k) when its tile changes
      for k_0 in steps of KC:
        pack the streamed operand, unless it is rows that lie in memory as they are needed
        for each panel of v, each block of mr rows:  acc[mr, nr] += row[mr, KC] @ panel[KC, nr]
      epilogue: statements on acc, stores
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import round_up, work_of
from tgrad.cpu_fallback.dot_plan import (
    PACK_CYCLES,
    STATIONARY_BYTES,
    DotPlan,
    DotProgram,
    carry_dtype,
    is_whole,
    match_dot,
    plan_dot,
    row_stride,
)
from tgrad.cpu_fallback.emit_body import Array, Body
from tgrad.cpu_fallback.emit_direct import emit_direct, is_direct
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.cpu_fallback.emit_pack import Packer, RunTable
from tgrad.cpu_fallback.emit_vectors import LANES, VectorTable
from tgrad.cpu_fallback.register_tiles import dot_name
from tgrad.cpu_fallback.target import Machine
from tgrad.dtype import DType
from tgrad.graph.index import Index
from tgrad.kernel import ir

__all__ = ["DotProgram", "emit_dot", "match_dot"]

PARALLEL_WORK = 1_000_000
"""Multiply-adds below which one thread does it."""

FARTHEST_ROW = 4096
"""Bytes between rows that register tiles read where they are."""

LINE, SETS, MOST_OF_A_SET = 64, 64, 6
"""Bytes of a cache line, sets of lines in the first-level cache, and rows of a register tile that
may lie in one set of 8 or more: with all of 12 in one, 1024x1024 by 1024 took 15.2 instead of 11.4
ms (two cores of Zen 4, AVX-512; 2026-11)."""

ONE = Run(0, 1)
"""How an index steps along the axis that memory is contiguous along."""


@dataclass(frozen=True)
class _Layout:
    """Sizes in elements of the packed buffers of one tile."""

    plan: DotPlan
    bv: int
    br: int
    kc: int
    chunks: int
    ld: int

    @property
    def k_padded(self) -> int:
        """Steps of a chunk of k, in whole words."""
        return round_up(self.kc, self.plan.together)

    @property
    def bv_padded(self) -> int:
        return round_up(self.bv, self.plan.nr)

    @property
    def br_padded(self) -> int:
        return round_up(self.br, self.plan.mr)

    @property
    def v_chunk(self) -> int:
        return self.bv_padded * self.k_padded

    @property
    def r_chunk(self) -> int:
        return self.br_padded * (self.ld if self.plan.r_mode == "rows" else self.k_padded)


def emit_dot(program: DotProgram, config: ir.Config, body: Body, machine: Machine) -> None:
    """The whole function body of a dot kernel."""
    kernel, code = program.kernel, body.code
    plan = plan_dot(program, machine, config.registers)
    k_axis = kernel.axis(program.dot.k)
    kc = max(1, min(k_axis.block, k_axis.extent))
    together = plan.together
    ld = row_stride(-(-kc // together)) * together
    layout = _Layout(plan, body.block(plan.v), body.block(plan.r), kc, max(1, k_axis.steps), ld)
    direct = is_direct(program, plan, body)
    fixed = "r" if direct else _stationary(layout, kernel, program)
    ctype = ops.register_type(carry_dtype(program))
    packed = ctype if plan.words is None else plan.words.ctype
    v_size = layout.v_chunk * (layout.chunks if fixed == "v" else 1)
    in_place = _rows_in_place(program, plan, body) if fixed != "r" else None
    needs_rows = in_place is None or not is_whole(kernel, plan.r, plan.mr)
    r_size = layout.r_chunk * (layout.chunks if fixed == "r" else 1) if needs_rows else 0
    sums = _sums_in_place(program, plan, layout, body)
    acc_size = layout.br_padded * layout.bv_padded * together if sums is None else 0
    rows_size = plan.lanes * layout.ld if plan.v_mode == "rows" else 0
    if direct:
        v_size = acc_size = 0
    sizes = [round_up(s, 64 * together) for s in (v_size, r_size, acc_size, rows_size)]
    order = _tile_order(kernel, program, plan, fixed)
    tiles = 1
    for a in order:
        tiles *= a.steps
    parallel = tiles > 1 and work_of(kernel) >= PARALLEL_WORK
    if parallel:
        code.pragma("omp parallel")
    with code.block(""):
        code.line(f"{packed} *const restrict vp = tg_scratch({sum(sizes)} * sizeof({packed}));")
        if needs_rows:
            code.line(f"{packed} *const restrict rp = vp + {sizes[0]};")
        if acc_size:
            place = f"vp + {sizes[0] + sizes[1]}"
            place = place if packed == ctype else f"({ctype} *)({place})"
            code.line(f"{ctype} *const restrict acc = {place};")
        if rows_size:
            code.line(f"{packed} *const restrict rows = vp + {sum(sizes[:3])};")
        if fixed:
            code.line("ptrdiff_t packed = -1;")
        if parallel:
            code.shared(len(order), "omp for", _schedule(program, order))
        heads = [body.loop_head(a) for a in order]
        with code.block(*heads or [""]):
            _tile(program, plan, layout, fixed, in_place, sums, direct, order, body)


def _schedule(program: DotProgram, order: list[ir.TileAxis]) -> str:
    """How threads share tiles: as they come where some are less work, those that one packing serves
    together."""
    if program.kernel.limits or program.start or program.stop:
        return f"dynamic, {order[-1].steps}"
    return "static"


def _tile_order(
    kernel: ir.Kernel, program: DotProgram, plan: DotPlan, fixed: str
) -> list[ir.TileAxis]:
    """Batch axes, then the stationary operand's axis, then the streamed one's."""
    slow, fast = (plan.v, plan.r) if fixed != "r" else (plan.r, plan.v)
    batch = [a for a in kernel.grid if a.name not in (plan.v, plan.r)]
    order = [*batch, kernel.axis(slow), kernel.axis(fast)]
    return [a for a in order if a.steps != 1 or a.block > 1]


def _stationary(layout: _Layout, kernel: ir.Kernel, program: DotProgram) -> str:
    """The operand ("v", "r" or "": none) that is packed once for several tiles of the other."""
    plan = layout.plan
    size = carry_dtype(program).itemsize * layout.chunks // plan.together
    v_steps, r_steps = kernel.axis(plan.v).steps, kernel.axis(plan.r).steps
    v_cost = PACK_CYCLES["transpose" if plan.v_mode == "rows" else "lanes"]
    choices: list[tuple[float, str]] = []
    v_all = kernel.axis(plan.v).extent * v_cost
    r_all = kernel.axis(plan.r).extent * PACK_CYCLES["rows"]
    choices.append((v_all * r_steps + r_all * v_steps, ""))
    if r_steps > 1 and layout.v_chunk * size <= STATIONARY_BYTES:
        choices.append((v_all + r_all * v_steps, "v"))
    if v_steps > 1 and layout.r_chunk * size <= STATIONARY_BYTES:
        choices.append((v_all * r_steps + r_all, "r"))
    return min(choices)[1]


class _Packing:
    """Copies of operands as register tiles read them; tables stand before the loop over k."""

    def __init__(
        self, program: DotProgram, plan: DotPlan, layout: _Layout, body: Body, direct: bool
    ):
        self.plan, self.layout, self.body, self.k = plan, layout, body, program.dot.k
        self.vector = Packer(body, plan.vector, plan, self.k, carry_dtype(program), "v")
        self.row = Packer(body, plan.row, plan, self.k, carry_dtype(program), "r")
        self.tables: dict[str, RunTable | VectorTable | None] = {"v": None, "r": None}
        if plan.v_mode == "lanes" and not direct:
            stride = layout.k_padded * plan.nr
            spot = f"w / {plan.nv} * {stride} + w % {plan.nv} * {LANES}"
            vectors = self.vector.vectors(plan.v, spot)
            self.tables["v"] = vectors or self.vector.table(plan.v, plan.nr, stride)
        if plan.r_mode == "lanes":
            self.tables["r"] = self.row.table(plan.r, 0, 0)

    def operand(self, side: str, buffer: str) -> None:
        """One chunk of k of the operand "v" or "r"."""
        plan, layout, tables = self.plan, self.layout, self.tables
        panel, spot = layout.k_padded * plan.nr, f"w * {LANES}"
        if side == "v" and plan.v_mode == "lanes":
            self.vector.lanes(buffer, plan.nr, panel, plan.nr, tables["v"])
            if self.vector.needs_join(tables["v"]):
                with self.body.code.block(f"for (int p = 0; p < {layout.bv}; p += {plan.nr})"):
                    self.vector.join(f"{buffer} + p * {layout.k_padded}", plan.nr)
        elif side == "v":
            table = self.vector.vectors(self.k, spot) or self.vector.table(self.k, 0, 0)
            self.vector.transposed(buffer, panel, layout.ld, table)
        elif plan.r_mode == "lanes":
            self.row.lanes(buffer, 0, 0, layout.br_padded, tables["r"])
            if self.row.needs_join(tables["r"]):
                self.row.join(buffer, layout.br_padded)
        else:
            start = f"{self.body.axis_name[plan.r]}_lo"
            rows = self.row.vectors(self.k, spot) or self.row.table(self.k, 0, 0)
            self.row.rows(buffer, layout.ld, start, rows)


def _tile(
    program: DotProgram,
    plan: DotPlan,
    layout: _Layout,
    fixed: str,
    in_place: _Rows | None,
    sums: _Rows | None,
    direct: bool,
    order: list[ir.TileAxis],
    body: Body,
) -> None:
    """One tile of the result."""
    kernel, code, k = program.kernel, body.code, program.dot.k
    for a in kernel.grid:
        _open_axis(body, a, a in order)
    body.skip_unneeded(order)
    body.scope(program.before)
    _declare_bounds(program, layout, body)
    pack = _Packing(program, plan, layout, body, direct)
    place = {"v": "vp", "r": "rp"}
    if fixed:
        chunk = layout.v_chunk if fixed == "v" else layout.r_chunk
        place[fixed] += f" + {body.axis_name[k]}_lo / {layout.kc} * {chunk}"
        streamed = plan.r if fixed == "v" else plan.v
        number = _tile_number(body, [a for a in order if a.name != streamed])
        with code.block(f"if (packed != {number})"):
            code.line(f"packed = {number};")
            with code.block(_k_head(program, body)):
                _open_k(body, kernel.axis(k))
                pack.operand(fixed, f"({place[fixed]})")
    if direct:
        emit_direct(program, plan, "rp", layout.ld, body)
        return
    to = _Rows("acc", layout.bv_padded, 1) if sums is None else sums
    _chunks(program, plan, layout, pack, fixed, place, in_place, to, body)
    if sums is None:
        strides = {plan.r: layout.bv_padded, plan.v: 1}
        carry = program.dot.carry
        body.arrays[carry.id] = Array("acc", tuple((d, strides[d]) for d in carry.dims))
        body.scope(program.after)


def _chunks(
    program: DotProgram,
    plan: DotPlan,
    layout: _Layout,
    pack: _Packing,
    fixed: str,
    place: Mapping[str, str],
    in_place: _Rows | None,
    to: _Rows,
    body: Body,
) -> None:
    """The loop over chunks of k: what is not packed yet, and all register tiles.

    Args:
        place: C text of the packed "v" and "r".
        to: where the sums go.
    """
    kernel, code, k_axis = program.kernel, body.code, program.kernel.axis(program.dot.k)
    packed = _Rows(place["r"], plan.together, layout.br_padded * plan.together)
    if plan.r_mode == "rows":
        packed = _Rows(place["r"], layout.ld, plan.together)
    with code.block(_k_head(program, body)):
        _open_k(body, k_axis)
        if fixed != "v":
            pack.operand("v", place["v"])
        if in_place is None or not is_whole(kernel, plan.r, plan.mr):
            name = body.axis_name[plan.r]
            head = "" if in_place is None else f"if (({name}_hi - {name}_lo) % {plan.mr})"
            with code.block(head) if head else nullcontext():
                if fixed != "r":
                    pack.operand("r", place["r"])
                _register_tiles(program, plan, layout, place["v"], packed, to, body)
            if head:
                code.line("else")
        if in_place is not None:
            _register_tiles(program, plan, layout, place["v"], in_place, to, body)


def _declare_bounds(program: DotProgram, layout: _Layout, body: Body) -> None:
    """Where the loop over k starts, a multiple of a chunk, and stops: after one chunk at least,
    which begins the sums."""
    axis, kc = program.kernel.axis(program.dot.k), layout.kc
    name, extent = body.axis_name[axis.name], axis.extent

    def first(e: Index) -> str:
        return body.index_at(e, body.starts(*e.variables()))

    start, stop = "0", str(extent)
    for e in program.start:
        start = f"tg_max({start}, {first(e)})"
    for e in program.stop:
        stop = f"tg_min({stop}, {first(e)})"
    if program.start:
        start = f"tg_min({start}, {extent - 1}) / {kc} * {kc}"
    if program.start or program.stop:
        code, ctype = body.code, body.ctype
        code.line(f"const {ctype} {name}_start = {start};")
        code.line(f"const {ctype} {name}_stop = tg_max({stop}, {name}_start + 1);")


def _k_head(program: DotProgram, body: Body) -> str:
    axis = program.kernel.axis(program.dot.k)
    name, start, stop = body.axis_name[axis.name], "0", str(axis.extent)
    if program.start or program.stop:
        start, stop = f"{name}_start", f"{name}_stop"
    step = max(1, axis.block)
    return f"for ({body.ctype} {name}_lo = {start}; {name}_lo < {stop}; {name}_lo += {step})"


def _open_k(body: Body, axis: ir.TileAxis) -> None:
    name = body.axis_name[axis.name]
    body.code.line(
        f"const {body.ctype} {name}_hi = tg_min({name}_lo + {max(1, axis.block)}, {axis.extent});"
    )


def _open_axis(body: Body, axis: ir.TileAxis, has_loop: bool) -> None:
    """First and last element of the tile along an axis, blocks of one element included."""
    if axis.block > 1:
        body.open_axis(axis)
        return
    name = body.axis_name[axis.name]
    if has_loop:
        body.code.line(f"const {body.ctype} {name}_lo = {name}, {name}_hi = {name} + 1;")
    else:
        body.code.line(f"const {body.ctype} {name}_lo = 0, {name}_hi = {axis.extent};")


def _tile_number(body: Body, axes: list[ir.TileAxis]) -> str:
    parts, scale = [], 1
    for a in reversed(axes):
        name = body.axis_name[a.name]
        step = f"(ptrdiff_t){name}_lo / {a.block}" if a.block > 1 else name
        parts.append(step if scale == 1 else f"{step} * (ptrdiff_t){scale}")
        scale *= a.steps
    return " + ".join(reversed(parts)) or "0"


@dataclass(frozen=True)
class _Rows:
    """Where register tiles read the row operand, or write the result.

    Attributes:
        start: C text of the address of the tile's first element, in the chunk of k.
        along_r: elements between rows.
        step: between steps of k, or along the vector axis.
        is_memory: whether that is a slot and no buffer of the thread.
    """

    start: str
    along_r: int
    step: int
    is_memory: bool = False


def _rows_in_place(program: DotProgram, plan: DotPlan, body: Body) -> _Rows | None:
    """The row operand where memory has it, if packing would only copy its rows (768x512 by 128 on a
    core of Zen 3: 0.87 of the time, 2048x512 by 2048 0.95, 1024x1024 by 1024 0.97; 2026-11). Rows
    further apart than a page would share the lines of the first-level cache."""
    stmts = plan.row.stmts
    if len(stmts) != 1 or not isinstance(stmts[0], ir.LoadTile):
        return None
    words, dtype, k = plan.words, carry_dtype(program), program.dot.k
    if words is not None:
        if words.moves_rows or not is_whole(program.kernel, k, words.size):
            return None
        dtype = plan.row.tile.dtype
    rows = _even_rows(stmts[0], program, dtype, plan.r, k, body)
    if rows is None:
        return None
    rows = replace(rows, step=plan.together)
    step = rows.along_r * dtype.itemsize
    in_set = Counter(r * step // LINE % SETS for r in range(plan.mr))
    return rows if step <= FARTHEST_ROW and max(in_set.values()) <= MOST_OF_A_SET else None


def _sums_in_place(program: DotProgram, plan: DotPlan, layout: _Layout, body: Body) -> _Rows | None:
    """The result in memory, if it is all that the tile's sums become. Its lines are fetched while
    a register tile is computed (48 x 256x64 by 64x256, Zen 4: 0.95 of the time; 2026-11)."""
    kernel, after = program.kernel, program.after
    if len(after) != 1 or not isinstance(after[0], ir.StoreTile) or layout.chunks > 1:
        return None
    store = after[0]
    no_tails = is_whole(kernel, plan.r, plan.mr) and is_whole(kernel, plan.v, plan.nr)
    if store.value.id != program.dot.carry.id or store.combine != "set" or not no_tails:
        return None
    return _even_rows(store, program, carry_dtype(program), plan.r, plan.v, body)


def _even_rows(
    access: ir.LoadTile | ir.StoreTile,
    program: DotProgram,
    dtype: DType,
    r: str,
    other: str,
    body: Body,
) -> _Rows | None:
    """Where a plain access goes along r, if in even steps, and in ones along the other axis."""
    index, slot = access.index, program.kernel.slots[access.slot]
    run = run_along(index, r)
    is_plain = slot.dtype is dtype and all(b.is_always for b in access.mask)
    if not is_plain or run is None or run.period or run.step <= 0 or index.loaded():
        return None
    if run_along(index, other) != ONE:
        return None
    return _Rows(body.pointer(access, r, other), run.step, 1, is_memory=True)


def _register_tiles(
    program: DotProgram,
    plan: DotPlan,
    layout: _Layout,
    panels: str,
    rows: _Rows,
    to: _Rows,
    body: Body,
) -> None:
    """All register tiles of one chunk of k."""
    code = body.code
    v, r, kk = (body.axis_name[x] for x in (plan.v, plan.r, program.dot.k))
    rs, ks = rows.along_r, rows.step
    kind = ops.register_type(carry_dtype(program)) if plan.words is None else plan.words.kind
    name = dot_name(kind, plan.mr, plan.nv, plan.lanes, rs, ks)
    begins = f"{kk}_start" if program.start or program.stop else "0"
    with code.block(
        f"for (ptrdiff_t j = 0; j < {v}_hi - {v}_lo; j += {plan.nr})",
        f"for (ptrdiff_t i = 0; i < {r}_hi - {r}_lo; i += {plan.mr})",
    ):
        place = f"{to.start} + i * {to.along_r} + j"
        if to.is_memory:
            row, nbytes = f"{place} + q * {to.along_r}", plan.nr * carry_dtype(program).itemsize
            code.line(f"for (int q = 0; q < {plan.mr}; q++) tg_fetch({row}, {nbytes});")
        code.line(
            f"{name}({kk}_hi - {kk}_lo, {rows.start} + i * {rs}, {panels} + j * {layout.k_padded}, "
            f"{place}, {to.along_r}, {kk}_lo == {begins});"
        )
