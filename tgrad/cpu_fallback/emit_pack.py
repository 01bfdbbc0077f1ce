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
from tgrad.cpu_fallback.dot_plan import DotPlan, Operand
from tgrad.cpu_fallback.emit_body import SHORT_RUN, Body
from tgrad.cpu_fallback.emit_index import common_run, index_text, split_index
from tgrad.cpu_fallback.emit_vectors import (
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
        self, body: Body, operand: Operand, k: str, dtype: DType, letter: str, has_masks: bool
    ):
        self.body, self.operand, self.k = body, operand, k
        self.code: Code = body.code
        self.dtype = dtype
        self.ctype = ops.register_type(dtype)
        self.letter, self.has_masks = letter, has_masks
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
            value = body.element(self.operand.tile)
            code.line(f"{place} = {ops.cast(value, self.operand.tile.dtype, self.dtype)};")

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
        """Pack along lanes: element (l, k) goes to panel l / panel, row k, lane l % panel."""
        body, code, x, kk = self.body, self.code, self.x, self.kk
        saved = dict(body.scalars)
        ctype = self.ctype
        if isinstance(table, VectorTable):
            with code.block(self._k_loop()):
                emit_registers(body, table, f"{buffer} + ({kk} - {kk}_lo) * {k_stride}")
        elif table is not None:
            with code.block(self._k_loop()):
                self._invariants(self.lane)
                with code.block(table.loop):
                    self.open_run(table, f"{table.name}_q")
                    code.line(
                        f"{ctype} *restrict to = {buffer} + {table.name}_at[{table.name}_q] + "
                        f"({kk} - {kk}_lo) * {k_stride};"
                    )
                    self._copy_run(self.lane)
                    body.bases = {}
        elif not panel:
            with code.block(self._k_loop()):
                self._invariants(self.lane)
                code.line(f"{ctype} *restrict to = {buffer} + ({kk} - {kk}_lo) * {k_stride};")
                self._copy(self.lane, body.lane_loop(self.lane), f"to[{x} - {x}_lo]")
        else:
            block = body.block(self.lane)
            ragged = body.kernel.axis(self.lane).extent % block or block % panel
            with code.block(
                f"for ({body.ctype} {x}_run = {x}_lo; {x}_run < {x}_hi; {x}_run += {panel})"
            ):
                if ragged:
                    code.line(
                        f"const {body.ctype} {x}_w = tg_min({x}_run + {panel}, {x}_hi) - {x}_run;"
                    )
                code.line(
                    f"{ctype} *restrict to = {buffer} + "
                    f"({x}_run - {x}_lo) / {panel} * {panel_stride};"
                )
                with code.block(self._k_loop()):
                    self._invariants(self.lane)
                    head = "for ({c} {x} = {x}_run; {x} < {x}_run + {w}; {x}++)"
                    whole = head.format(c=body.ctype, x=x, w=panel)
                    place = f"to[({kk} - {kk}_lo) * {k_stride} + {x} - {x}_run]"
                    if ragged:
                        inside = dict(body.scalars)
                        with code.block(f"if ({x}_w == {panel})"):
                            self._copy(self.lane, whole, place)
                        body.scalars = inside
                        with code.block("else"):
                            part = head.format(c=body.ctype, x=x, w=f"{x}_w")
                            self._copy(self.lane, part, place)
                    else:
                        self._copy(self.lane, whole, place)
        body.scalars = saved

    def _k_loop(self) -> str:
        return self.body.lane_loop(self.k)

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
            to = f"{self.ctype} *restrict to = {buffer} + ({x} - {first}) * {stride}"
            if table is None:
                code.line(f"{to};")
                self._copy(self.k, self._k_loop(), f"to[{kk} - {kk}_lo]")
            else:
                with code.block(table.loop):
                    self.open_run(table, f"{table.name}_q")
                    code.line(f"{to} + {table.name}_at[{table.name}_q];")
                    self._copy_run(self.k)
                    body.bases = {}
        body.scalars = saved

    def transposed(
        self,
        buffer: str,
        plan: DotPlan,
        panel_stride: int,
        stride: int,
        table: RunTable | VectorTable | None,
    ) -> None:
        """Pack along k through a few rows that are then transposed into the panels."""
        body, code, x, kk = self.body, self.code, self.x, self.kk
        lanes = plan.lanes
        with code.block(f"for ({body.ctype} {x}_t = {x}_lo; {x}_t < {x}_hi; {x}_t += {lanes})"):
            code.line(f"const {body.ctype} {x}_end = tg_min({x}_t + {lanes}, {x}_hi);")
            head = f"for ({body.ctype} {x} = {x}_t; {x} < {x}_end; {x}++)"
            self.rows("rows", stride, f"{x}_t", table, head)
            code.line(
                f"tg_transpose_{self.ctype}_{lanes}(rows, {stride}, {kk}_hi - {kk}_lo, {buffer} + "
                f"({x}_t - {x}_lo) / {plan.nr} * {panel_stride} + ({x}_t - {x}_lo) % {plan.nr}, "
                f"{plan.nr});"
            )
