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
from math import prod

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
    _Dot(program, config, body, machine).emit()


class _Packing:
    """Copies of operands as register tiles read them; tables stand before the loop over k."""

    def __init__(self, dot: _Dot):
        self.plan, self.layout, self.body = dot.plan, dot.layout, dot.body
        self.k, dtype = dot.k.name, carry_dtype(dot.program)
        plan, layout = dot.plan, dot.layout
        self.vector = Packer(dot.body, plan.vector, plan, self.k, dtype, "v")
        self.row = Packer(dot.body, plan.row, plan, self.k, dtype, "r")
        self.tables: dict[str, RunTable | VectorTable | None] = {"v": None, "r": None}
        if plan.v_mode == "lanes" and not dot.is_direct:
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


class _Dot:
    """What is decided about a kernel, and its lines.

    Attributes:
        is_direct: whether the vector operand is read in place, see emit_direct.py.
        fixed: the operand ("v", "r" or "": none) that is packed once for several tiles of the
            other.
        rows: the row operand where memory has it, if it is read there.
        sums: the result where memory has it, if register tiles add up there.
        order: the axes of the loops over tiles.
    """

    def __init__(self, program: DotProgram, config: ir.Config, body: Body, machine: Machine):
        self.program, self.body, self.code, self.kernel = program, body, body.code, program.kernel
        self.plan = plan = plan_dot(program, machine, config.registers)
        self.k = self.kernel.axis(program.dot.k)
        self.has_bounds = bool(program.start or program.stop)
        kc = max(1, min(self.k.block, self.k.extent))
        ld = row_stride(-(-kc // plan.together)) * plan.together
        chunks = max(1, self.k.steps)
        self.layout = _Layout(plan, body.block(plan.v), body.block(plan.r), kc, chunks, ld)
        self.is_direct = is_direct(program, plan, body)
        self.fixed = "r" if self.is_direct else self._stationary()
        self.rows = self._rows_in_place() if self.fixed != "r" else None
        self.sums = self._sums_in_place()
        self.order = self._tile_order()

    def emit(self) -> None:
        """The whole function body."""
        plan, layout, body, code = self.plan, self.layout, self.body, self.code
        ctype = ops.register_type(carry_dtype(self.program))
        packed = ctype if plan.words is None else plan.words.ctype
        needs_rows = self.rows is None or not is_whole(self.kernel, plan.r, plan.mr)
        v_size = layout.v_chunk * (layout.chunks if self.fixed == "v" else 1)
        r_size = layout.r_chunk * (layout.chunks if self.fixed == "r" else 1) if needs_rows else 0
        acc_size = layout.br_padded * layout.bv_padded * plan.together if self.sums is None else 0
        rows_size = plan.lanes * layout.ld if plan.v_mode == "rows" else 0
        if self.is_direct:
            v_size = acc_size = 0
        sizes = [round_up(s, 64 * plan.together) for s in (v_size, r_size, acc_size, rows_size)]
        parallel = prod(a.steps for a in self.order) > 1 and work_of(self.kernel) >= PARALLEL_WORK
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
            if self.fixed:
                code.line("ptrdiff_t packed = -1;")
            if parallel:
                code.shared(len(self.order), "omp for", self._schedule())
            with code.block(*[body.loop_head(a) for a in self.order] or [""]):
                self._tile()

    # -- decisions ------------------------------------------------------------------------------

    def _schedule(self) -> str:
        """How threads share tiles: as they come where some are less work, those that one packing
        serves together."""
        is_uneven = self.kernel.limits or self.has_bounds
        return f"dynamic, {self.order[-1].steps}" if is_uneven else "static"

    def _tile_order(self) -> list[ir.TileAxis]:
        """Batch axes, then the stationary operand's axis, then the streamed one's."""
        v, r = self.plan.v, self.plan.r
        slow, fast = (v, r) if self.fixed != "r" else (r, v)
        batch = [a for a in self.kernel.grid if a.name not in (v, r)]
        order = [*batch, self.kernel.axis(slow), self.kernel.axis(fast)]
        return [a for a in order if a.steps != 1 or a.block > 1]

    def _stationary(self) -> str:
        """See `fixed`."""
        plan, layout = self.plan, self.layout
        size = carry_dtype(self.program).itemsize * layout.chunks // plan.together
        v, r = self.kernel.axis(plan.v), self.kernel.axis(plan.r)
        v_all = v.extent * PACK_CYCLES["transpose" if plan.v_mode == "rows" else "lanes"]
        r_all = r.extent * PACK_CYCLES["rows"]
        choices: list[tuple[float, str]] = [(v_all * r.steps + r_all * v.steps, "")]
        if r.steps > 1 and layout.v_chunk * size <= STATIONARY_BYTES:
            choices.append((v_all + r_all * v.steps, "v"))
        if v.steps > 1 and layout.r_chunk * size <= STATIONARY_BYTES:
            choices.append((v_all * r.steps + r_all, "r"))
        return min(choices)[1]

    def _rows_in_place(self) -> _Rows | None:
        """The row operand where memory has it, if packing would only copy its rows (768x512 by 128
        on a core of Zen 3: 0.87 of the time, 2048x512 by 2048 0.95, 1024x1024 by 1024 0.97;
        2026-11). Rows further apart than a page would share the lines of the first-level cache."""
        plan, stmts = self.plan, self.plan.row.stmts
        if len(stmts) != 1 or not isinstance(stmts[0], ir.LoadTile):
            return None
        words, dtype = plan.words, carry_dtype(self.program)
        if words is not None:
            if words.moves_rows or not is_whole(self.kernel, self.k.name, words.size):
                return None
            dtype = plan.row.tile.dtype
        rows = self._even_rows(stmts[0], dtype, self.k.name)
        if rows is None:
            return None
        step = rows.along_r * dtype.itemsize
        in_set = Counter(r * step // LINE % SETS for r in range(plan.mr))
        is_good = step <= FARTHEST_ROW and max(in_set.values()) <= MOST_OF_A_SET
        return replace(rows, step=plan.together) if is_good else None

    def _sums_in_place(self) -> _Rows | None:
        """The result in memory, if it is all that the tile's sums become. Its lines are fetched
        while a register tile is computed (48 x 256x64 by 64x256, Zen 4: 0.95 of the time;
        2026-11)."""
        plan, after = self.plan, self.program.after
        if len(after) != 1 or not isinstance(after[0], ir.StoreTile) or self.layout.chunks > 1:
            return None
        store, no_tails = (
            after[0],
            all(is_whole(self.kernel, *side) for side in ((plan.r, plan.mr), (plan.v, plan.nr))),
        )
        is_sum = store.value.id == self.program.dot.carry.id and store.combine == "set"
        if not is_sum or not no_tails:
            return None
        return self._even_rows(store, carry_dtype(self.program), plan.v)

    def _even_rows(
        self, access: ir.LoadTile | ir.StoreTile, dtype: DType, other: str
    ) -> _Rows | None:
        """Where a plain access goes along the row axis, if in even steps, and in ones along the
        other axis."""
        index, slot, r = access.index, self.kernel.slots[access.slot], self.plan.r
        run = run_along(index, r)
        is_plain = slot.dtype is dtype and all(b.is_always for b in access.mask)
        if not is_plain or run is None or run.period or run.step <= 0 or index.loaded():
            return None
        if run_along(index, other) != ONE:
            return None
        return _Rows(self.body.pointer(access, r, other), run.step, 1, is_memory=True)

    # -- lines ----------------------------------------------------------------------------------

    def _tile(self) -> None:
        """One tile of the result."""
        program, plan, layout, body = self.program, self.plan, self.layout, self.body
        for a in self.kernel.grid:
            self._open_axis(a)
        body.skip_unneeded(self.order)
        body.scope(program.before)
        self._declare_bounds()
        pack, place = _Packing(self), {"v": "vp", "r": "rp"}
        if self.fixed:
            chunk = layout.v_chunk if self.fixed == "v" else layout.r_chunk
            place[self.fixed] += f" + {body.axis_name[self.k.name]}_lo / {layout.kc} * {chunk}"
            number = self._tile_number(plan.r if self.fixed == "v" else plan.v)
            with self.code.block(f"if (packed != {number})"):
                self.code.line(f"packed = {number};")
                with self.code.block(self._k_head()):
                    self._open_k()
                    pack.operand(self.fixed, f"({place[self.fixed]})")
        if self.is_direct:
            emit_direct(program, plan, "rp", layout.ld, body)
            return
        self._chunks(pack, place)
        if self.sums is None:
            strides = {plan.r: layout.bv_padded, plan.v: 1}
            carry = program.dot.carry
            body.arrays[carry.id] = Array("acc", tuple((d, strides[d]) for d in carry.dims))
            body.scope(program.after)

    def _chunks(self, pack: _Packing, place: Mapping[str, str]) -> None:
        """The loop over chunks of k: what is not packed yet, and all register tiles.

        Args:
            place: C text of the packed "v" and "r".
        """
        plan, layout, code = self.plan, self.layout, self.code
        packed = _Rows(place["r"], plan.together, layout.br_padded * plan.together)
        if plan.r_mode == "rows":
            packed = _Rows(place["r"], layout.ld, plan.together)
        with code.block(self._k_head()):
            self._open_k()
            if self.fixed != "v":
                pack.operand("v", place["v"])
            if self.rows is None or not is_whole(self.kernel, plan.r, plan.mr):
                name = self.body.axis_name[plan.r]
                head = "" if self.rows is None else f"if (({name}_hi - {name}_lo) % {plan.mr})"
                with code.block(head) if head else nullcontext():
                    if self.fixed != "r":
                        pack.operand("r", place["r"])
                    self._register_tiles(place["v"], packed)
                if head:
                    code.line("else")
            if self.rows is not None:
                self._register_tiles(place["v"], self.rows)

    def _declare_bounds(self) -> None:
        """Where the loop over k starts, a multiple of a chunk, and stops: after one chunk at least,
        which begins the sums."""
        program, body, kc = self.program, self.body, self.layout.kc
        name, extent = body.axis_name[self.k.name], self.k.extent

        def first(e: Index) -> str:
            return body.index_at(e, body.starts(*e.variables()))

        start, stop = "0", str(extent)
        for e in program.start:
            start = f"tg_max({start}, {first(e)})"
        for e in program.stop:
            stop = f"tg_min({stop}, {first(e)})"
        if program.start:
            start = f"tg_min({start}, {extent - 1}) / {kc} * {kc}"
        if self.has_bounds:
            self.code.line(f"const {body.ctype} {name}_start = {start};")
            self.code.line(f"const {body.ctype} {name}_stop = tg_max({stop}, {name}_start + 1);")

    def _k_head(self) -> str:
        name, start, stop = self.body.axis_name[self.k.name], "0", str(self.k.extent)
        if self.has_bounds:
            start, stop = f"{name}_start", f"{name}_stop"
        step, ctype = max(1, self.k.block), self.body.ctype
        return f"for ({ctype} {name}_lo = {start}; {name}_lo < {stop}; {name}_lo += {step})"

    def _open_k(self) -> None:
        name = self.body.axis_name[self.k.name]
        end = f"tg_min({name}_lo + {max(1, self.k.block)}, {self.k.extent})"
        self.code.line(f"const {self.body.ctype} {name}_hi = {end};")

    def _open_axis(self, axis: ir.TileAxis) -> None:
        """First and last element of the tile along an axis, blocks of one element included."""
        name, ctype = self.body.axis_name[axis.name], self.body.ctype
        if axis.block > 1:
            self.body.open_axis(axis)
        elif axis in self.order:
            self.code.line(f"const {ctype} {name}_lo = {name}, {name}_hi = {name} + 1;")
        else:
            self.body.open_full(axis)

    def _tile_number(self, streamed: str) -> str:
        """C text of the number of the present tile among those with an operand of their own."""
        parts, scale = [], 1
        for a in reversed([a for a in self.order if a.name != streamed]):
            name = self.body.axis_name[a.name]
            step = f"(ptrdiff_t){name}_lo / {a.block}" if a.block > 1 else name
            parts.append(step if scale == 1 else f"{step} * (ptrdiff_t){scale}")
            scale *= a.steps
        return " + ".join(reversed(parts)) or "0"

    def _register_tiles(self, panels: str, rows: _Rows) -> None:
        """All register tiles of one chunk of k."""
        plan, layout, dtype = self.plan, self.layout, carry_dtype(self.program)
        v, r, kk = (self.body.axis_name[x] for x in (plan.v, plan.r, self.k.name))
        rs, ks = rows.along_r, rows.step
        kind = ops.register_type(dtype) if plan.words is None else plan.words.kind
        name = dot_name(kind, plan.mr, plan.nv, plan.lanes, rs, ks)
        begins = f"{kk}_start" if self.has_bounds else "0"
        to = _Rows("acc", layout.bv_padded, 1) if self.sums is None else self.sums
        with self.code.block(
            f"for (ptrdiff_t j = 0; j < {v}_hi - {v}_lo; j += {plan.nr})",
            f"for (ptrdiff_t i = 0; i < {r}_hi - {r}_lo; i += {plan.mr})",
        ):
            place = f"{to.start} + i * {to.along_r} + j"
            if to.is_memory:
                row, nbytes = f"{place} + q * {to.along_r}", plan.nr * dtype.itemsize
                self.code.line(f"for (int q = 0; q < {plan.mr}; q++) tg_fetch({row}, {nbytes});")
            self.code.line(
                f"{name}({kk}_hi - {kk}_lo, {rows.start} + i * {rs}, "
                f"{panels} + j * {layout.k_padded}, {place}, {to.along_r}, {kk}_lo == {begins});"
            )
