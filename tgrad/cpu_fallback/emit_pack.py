"""Copies of a dot's operands into the order in which the register tile reads them.

In: an operand (statements that make its tile), the loop variables in scope. Out: C loops that
evaluate the statements, casts and views and masks included, straight into the packed buffer.
Invariant: elements beyond the extents are not read; what lies in their place is never used.

Along "lanes" (memory contiguous along the lane axis), here for a panel of nr lanes:

    for (int k = k_0; k < k_1; k++)
      for (int n = n_p; n < n_e; n++) panel[k - k_0][n - n_p] = b[k * N + n];

Along "rows" (contiguous along k): the same with the loops exchanged, then transposed for the
vector operand. Where addresses step evenly only in runs, as in a convolution's window, a table of
runs is made once a tile: f(run) + g(k) is the address, and the innermost loop is a plain copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import Code, dims_of
from tgrad.cpu_fallback.dot_plan import DotPlan, Operand, is_whole
from tgrad.cpu_fallback.emit_body import SHORT_RUN, Body
from tgrad.cpu_fallback.emit_index import common_run, index_text, split_index
from tgrad.cpu_fallback.emit_vectors import (
    LANES,
    VectorTable,
    declare_table,
    emit_registers,
    find_load,
)
from tgrad.dtype import DType
from tgrad.graph.index import Index
from tgrad.kernel import ir

LONG_RUN = 64
"""Runs beyond this many elements are copied by a plain vector loop."""


@dataclass(frozen=True)
class RunTable:
    """C arrays of the starts of runs along an axis and of each index's part there."""

    axis: str
    name: str
    parts: tuple[tuple[Index, str, Index], ...]
    """(index, C array of its value at the start, the part that other loop variables add)"""

    @property
    def loop(self) -> str:
        """`for` over the runs."""
        q = f"{self.name}_q"
        return f"for (int {q} = 0; {q} < {self.name}_runs; {q}++)"


class Packer:
    """Emits the packing of one operand."""

    def __init__(
        self, body: Body, operand: Operand, plan: DotPlan, k: str, dtype: DType, letter: str
    ):
        self.body, self.operand, self.plan, self.k = body, operand, plan, k
        self.code: Code = body.code
        words = plan.words
        self.dtype = dtype if words is None else operand.tile.dtype
        self.ctype = ops.register_type(dtype) if words is None else words.ctype
        self.letter = letter
        self.has_masks = plan.lanes == LANES and (words is None or words.kind == "bf16")
        self.lane = operand.lane
        self.x = body.axis_name[operand.lane]
        self.kk = body.axis_name[k]

    # -- runs -----------------------------------------------------------------------------------

    def period(self, axis: str) -> int | None:
        """0 if every address steps evenly along the axis or only single ones help, else the
        period of runs."""
        indices = [e for s in self.operand.stmts for e in ir.indices_of(s) if axis in e.variables()]
        if any(e.loaded() for e in indices):
            return 0
        run = common_run(indices, axis)
        if run is None or run.phase or run.period < SHORT_RUN:
            return 0
        other = self.k if axis == self.lane else self.lane
        if any(split_index(e, axis, other) is None for e in indices):
            return 0
        return run.period

    def window(self, axis: str) -> tuple[ir.LoadTile, int] | None:
        """The operand's load and the elements of its runs along the axis, if registers can be
        filled from these."""
        period = self.period(axis)
        load = find_load(self.operand, self.body, axis, self.dtype) if period else None
        return None if load is None or not period else (load, period)

    def vectors(self, axis: str, place: str) -> VectorTable | None:
        """Declare the table of registers along an axis, where they can be filled so."""
        found = self.window(axis) if self.has_masks else None
        if found is None or found[1] > LONG_RUN:
            return None
        return self._declare(axis, place, 1)

    def registers(self, axis: str, together: int) -> VectorTable:
        """The same for registers that are read in place, so many together."""
        table = self._declare(axis, "", together)
        assert table is not None, "asked after emit_direct.is_direct"
        return table

    def _declare(self, axis: str, place: str, together: int) -> VectorTable | None:
        found = self.window(axis)
        if found is None:
            return None
        (load, period), other = found, self.k if axis == self.lane else self.lane
        return declare_table(self.body, load, axis, other, period, self.letter, place, together)

    def table(self, axis: str, panel: int, panel_stride: int) -> RunTable | None:
        """Declare and fill the table of runs along an axis; None where one run is enough.

        Args:
            panel: elements of a panel, at whose ends runs end too (0: no panels).
            panel_stride: elements between panels in the packed buffer.
        """
        period = self.period(axis)
        if not period:
            return None
        body, code, name = self.body, self.code, self.body.axis_name[axis]
        other = self.k if axis == self.lane else self.lane
        block = body.block(axis)
        most = -(-block // period) + 2 + (-(-block // panel) if panel else 0)
        table = f"{self.letter}{name}"
        seen: dict[Index, str] = {}
        for s in self.operand.stmts:
            for e in ir.indices_of(s):
                if axis in e.variables():
                    seen.setdefault(e, f"{table}_f{len(seen)}")
        arrays = [f"{table}_from[{most + 1}]", f"{table}_at[{most}]"]
        arrays += [f"{array}[{most}]" for array in seen.values()]
        code.line(f"{body.ctype} {', '.join(arrays)}, {table}_runs = 0;")
        parts = []
        with code.block(
            f"for ({body.ctype} {name} = {name}_lo, {name}_end; {name} < {name}_hi; "
            f"{name} = {name}_end)"
        ):
            stops = f"tg_min({name}_hi, ({name} / {period} + 1) * {period})"
            place = f"{name} - {name}_lo"
            if panel:
                stops = f"tg_min({stops}, {name}_lo + (({place}) / {panel} + 1) * {panel})"
                place = f"({place}) / {panel} * {panel_stride} + ({place}) % {panel}"
            code.line(f"{name}_end = {stops};")
            code.line(f"{table}_from[{table}_runs] = {name};")
            code.line(f"{table}_at[{table}_runs] = {place};")
            for e, array in seen.items():
                split = split_index(e, axis, other)
                assert split is not None
                code.line(f"{array}[{table}_runs] = {index_text(split[0], body.rename)};")
                parts.append((e, array, split[1]))
            code.line(f"{table}_runs++;")
        code.line(f"{table}_from[{table}_runs] = {name}_hi;")
        return RunTable(axis, table, tuple(parts))

    def open_run(self, table: RunTable, number: str) -> None:
        """Inside a loop over runs: where the run starts, and its addresses."""
        body, code, name = self.body, self.code, self.body.axis_name[table.axis]
        code.line(
            f"const {body.ctype} {name}_run = {table.name}_from[{number}], "
            f"{name}_end = {table.name}_from[{number} + 1];"
        )
        bases: dict[tuple[Index, str], str] = {}
        for e, array, rest in table.parts:
            text = f"at{body.count}"
            body.count += 1
            more = "" if rest.is_const and not rest.const else f" + {index_text(rest, body.rename)}"
            code.line(f"const {body.ctype} {text} = {array}[{number}]{more};")
            bases[(e, table.axis)] = text
        body.bases = bases

    # -- loops ----------------------------------------------------------------------------------

    def _copy(self, inner: str, head: str, place: str) -> None:
        """The innermost loop: evaluate the statements that need `inner`, store the element."""
        body, code = self.body, self.code
        code.pragma("omp simd")
        with code.block(head):
            for s in self.operand.stmts:
                if inner in dims_of(s):
                    body.statement(s, escapes=False)
            value, words = body.element(self.operand.tile), self.plan.words
            if words is None:
                value = ops.cast(value, self.operand.tile.dtype, self.dtype)
            else:
                value = words.packed(value, self.letter == "r")
            code.line(f"{place} = {value};")

    def _copy_run(self, axis: str) -> None:
        """One run along an axis."""
        body, x = self.body, self.body.axis_name[axis]
        head = f"for ({body.ctype} {x} = {x}_run; {x} < {x}_end; {x}++)"
        self._copy(axis, head, f"to[{x} - {x}_run]")

    def _invariants(self, inner: str) -> None:
        for s in self.operand.stmts:
            if inner not in dims_of(s):
                self.body.statement(s, escapes=False)

    def lanes(
        self,
        buffer: str,
        panel: int,
        panel_stride: int,
        k_stride: int,
        table: RunTable | VectorTable | None,
    ) -> None:
        """Pack along lanes: element (l, k) goes to panel l / panel, row k, lane l % panel; a word
        where its first element would."""
        body, code, x = self.body, self.code, self.x
        saved = dict(body.scalars)
        if table is not None:
            self._lanes_in_runs(buffer, k_stride, table)
        elif panel:
            self._panels(buffer, panel, panel_stride, k_stride)
        else:
            with code.block(self._k_loop()):
                code.line(f"{self.ctype} *restrict to = {buffer} + {self._k_place()} * {k_stride};")
                self._copy_lanes(body.lane_loop(self.lane), "to", f"{x} - {x}_lo")
        body.scalars = saved

    def _lanes_in_runs(self, buffer: str, k_stride: int, table: RunTable | VectorTable) -> None:
        body, code = self.body, self.code
        row = f"({self.kk} - {self.kk}_lo) * {k_stride}"
        with code.block(body.lane_loop(self.k)):
            if isinstance(table, VectorTable):
                emit_registers(body, table, f"{buffer} + {row}")
                return
            self._invariants(self.lane)
            with code.block(table.loop):
                self.open_run(table, f"{table.name}_q")
                at = f"{table.name}_at[{table.name}_q]"
                code.line(f"{self.ctype} *restrict to = {buffer} + {at} + {row};")
                self._copy_run(self.lane)
                body.bases = {}

    def _panels(self, buffer: str, panel: int, panel_stride: int, k_stride: int) -> None:
        """All panels, the last of which may have fewer lanes."""
        body, code, x = self.body, self.code, self.x
        block = body.block(self.lane)
        ragged = body.kernel.axis(self.lane).extent % block or block % panel
        with code.block(
            f"for ({body.ctype} {x}_run = {x}_lo; {x}_run < {x}_hi; {x}_run += {panel})"
        ):
            if ragged:
                width = f"tg_min({x}_run + {panel}, {x}_hi) - {x}_run"
                code.line(f"const {body.ctype} {x}_w = {width};")
            at = f"({x}_run - {x}_lo) / {panel} * {panel_stride}"
            code.line(f"{self.ctype} *restrict to = {buffer} + {at};")
            with code.block(self._k_loop()):
                head = f"for ({body.ctype} {x} = {x}_run; {x} < {x}_run + {{}}; {x}++)"
                place = f"{self._k_place()} * {k_stride}", f"{x} - {x}_run"
                if ragged:
                    with code.block(f"if ({x}_w == {panel})"):
                        self._copy_lanes(head.format(panel), "to", *place)
                    with code.block("else"):
                        self._copy_lanes(head.format(f"{x}_w"), "to", *place)
                else:
                    self._copy_lanes(head.format(panel), "to", *place)

    @property
    def _has_whole_words(self) -> bool:
        words = self.plan.words
        return words is not None and is_whole(self.body.kernel, self.k, words.size)

    def _k_loop(self) -> str:
        """`for` over the chunk of k, in words if these are whole."""
        words, kk, ctype = self.plan.words, self.kk, self.body.ctype
        if words is None or not self._has_whole_words:
            return self.body.lane_loop(self.k)
        return f"for ({ctype} {kk}_w = {kk}_lo; {kk}_w < {kk}_hi; {kk}_w += {words.size})"

    def _k_place(self) -> str:
        """C text of the present step of that loop."""
        return f"({self.kk}{'_w' if self._has_whole_words else ''} - {self.kk}_lo)"

    def _copy_lanes(self, head: str, row: str, *place: str) -> None:
        """The innermost loop along lanes; an element, or a word, goes to `row`[`place`]."""
        words, body, code, kk = self.plan.words, self.body, self.code, self.kk
        saved = dict(body.scalars)
        if words is None or not self._has_whole_words:
            self._invariants(self.lane)
            self._copy(self.lane, head, f"{row}[{' + '.join(place)}]")
            body.scalars = saved
            return
        *start, lane = place
        code.pragma("omp simd")
        with code.block(head):
            code.line("uint32_t w = 0;")
            for e in range(words.size):
                with code.block(""):
                    code.line(f"const {body.ctype} {kk} = {kk}_w + {e};")
                    for s in self.operand.stmts:
                        body.statement(s, escapes=False)
                    value = words.packed(body.element(self.operand.tile), self.letter == "r")
                    shift = f" << {e * 32 // words.size}" if e else ""
                    code.line(f"w |= (uint32_t)({self.ctype})({value}){shift};")
                body.scalars = dict(saved)
            code.line(f"((tg_word *)({' + '.join([row, *start])}))[{lane}] = w;")

    def rows(
        self,
        buffer: str,
        stride: int,
        first: str,
        table: RunTable | VectorTable | None,
        head: str | None = None,
    ) -> None:
        """Pack along k: element (l, k) goes to row l - first, column k."""
        body, code, x, kk = self.body, self.code, self.x, self.kk
        saved = dict(body.scalars)
        with code.block(head or body.lane_loop(self.lane)):
            if isinstance(table, VectorTable):
                emit_registers(body, table, f"{buffer} + ({x} - {first}) * {stride}")
                return
            self._invariants(self.k)
            place = f"{buffer} + ({x} - {first}) * {stride}"
            to = f"{self.ctype} *restrict to = {place}"
            if table is None:
                code.line(f"{to};")
                self._copy(self.k, body.lane_loop(self.k), f"to[{kk} - {kk}_lo]")
            else:
                with code.block(table.loop):
                    self.open_run(table, f"{table.name}_q")
                    code.line(f"{to} + {table.name}_at[{table.name}_q];")
                    self._copy_run(self.k)
                    body.bases = {}
            self._fill_word(place)
        body.scalars = saved

    def _fill_word(self, row: str) -> None:
        """Zeros where the last word of a row has no element."""
        words, kk = self.plan.words, self.kk
        if words is not None and not is_whole(self.body.kernel, self.k, words.size):
            count = f"{kk}_hi - {kk}_lo"
            head = f"for ({self.body.ctype} q = {count}; q % {words.size}; q++)"
            self.code.line(f"{head} ({row})[q] = 0;")

    def needs_join(self, table: RunTable | VectorTable | None) -> bool:
        """Whether `lanes` leaves rows of single elements where there should be words."""
        return self.plan.words is not None and (table is not None or not self._has_whole_words)

    def join(self, buffer: str, width: int) -> None:
        """Rows of neighbouring k, packed along lanes, as rows of words."""
        rows = f"{self.kk}_hi - {self.kk}_lo"
        self.code.line(f"tg_join_{self.ctype}({buffer}, {rows}, {width});")

    def transposed(
        self,
        buffer: str,
        panel_stride: int,
        stride: int,
        table: RunTable | VectorTable | None,
    ) -> None:
        """Pack along k through a few rows that are then transposed into the panels."""
        body, code, x, kk, plan = self.body, self.code, self.x, self.kk, self.plan
        lanes, together = plan.lanes, plan.together
        with code.block(f"for ({body.ctype} {x}_t = {x}_lo; {x}_t < {x}_hi; {x}_t += {lanes})"):
            code.line(f"const {body.ctype} {x}_end = tg_min({x}_t + {lanes}, {x}_hi);")
            head = f"for ({body.ctype} {x} = {x}_t; {x} < {x}_end; {x}++)"
            self.rows("rows", stride, f"{x}_t", table, head)
            at = f"({x}_t - {x}_lo)"
            to = f"{buffer} + {at} / {plan.nr} * {panel_stride} + {at} % {plan.nr}"
            count, ctype, source = f"{kk}_hi - {kk}_lo", self.ctype, "rows"
            if together > 1:
                count, ctype = f"({count} + {together - 1}) / {together}", "uint32_t"
                source, to = f"({ctype} *)rows", f"({ctype} *)({to} * {together})"
            code.line(
                f"tg_transpose_{ctype}_{lanes}({source}, {stride // together}, {count}, {to}, "
                f"{plan.nr});"
            )
