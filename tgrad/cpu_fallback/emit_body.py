"""Statements of a tile program as C loops.

In: statements in one scope. Out: C lines. Invariant: lanes at or beyond an axis's extent are never
visited, so nothing is masked for raggedness.

Neighbouring statements over the same tile axes share one loop nest, its innermost loop the axis
that memory is contiguous along. A tile used in one nest only is a variable, else a local array:

    for (int i = i_lo; i < i_hi; i++) {
    #pragma omp simd
      for (int j = j_lo; j < j_hi; j++) {
        const float t0 = x[i * 64 + j];
        t1[(i - i_lo) * 32 + (j - j_lo)] = t0 * t0;
      }
    }

Where addresses step evenly only in runs (one tile axis that covers several region axes), the
innermost loop runs over such a run and its addresses are computed once a run. Loops over scalars
become simd reductions (emit_leaf.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tgrad import dtype as dt
from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import Code, distinct_axes, is_scatter
from tgrad.cpu_fallback.emit_cases import each_case
from tgrad.cpu_fallback.emit_halves import in_halves
from tgrad.cpu_fallback.emit_index import (
    Run,
    bounded,
    common_run,
    index_ctype,
    index_text,
    run_along,
)
from tgrad.cpu_fallback.emit_leaf import STRIP, emit_leaf, is_leaf
from tgrad.cpu_fallback.emit_near import emit_near, looked_at
from tgrad.cpu_fallback.emit_rows import copy_row, fetch_rows
from tgrad.cpu_fallback.emit_sort import emit_sort
from tgrad.cpu_fallback.emit_stream import stream_rows
from tgrad.cpu_fallback.emit_value import Values
from tgrad.cpu_fallback.schedule import Group, schedule
from tgrad.cpu_fallback.shifted_exp import ShiftedExp
from tgrad.cpu_fallback.target import Machine
from tgrad.cpu_fallback.unroll import ROWS, rows_together
from tgrad.graph.index import Atom, Index, Loaded, Var
from tgrad.graph.op import OPS, REDUCE_COMBINE, SCATTER_COMBINE, Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile, statements
from tgrad.kernel.statements import reads_of, writes_of

MOST_BESIDE_GATHERS = 4
"""Arithmetic of an element, in elementary operations, that is worth no vector beside a gather."""

SHORT_RUN = 4
"""Runs below this many elements are not worth a loop of their own."""


@dataclass(frozen=True, slots=True)
class Array:
    """A tile in memory: C text of its base and, by axis, the stride and the first element."""

    base: str
    strides: tuple[tuple[str, int], ...]


def row_major(sizes: Sequence[tuple[str, int]]) -> tuple[tuple[tuple[str, int], ...], int]:
    """The stride of each axis of an array, the last of which is contiguous, and its elements."""
    strides, size = list[tuple[str, int]](), 1
    for axis, n in reversed(sizes):
        strides.append((axis, size))
        size *= n
    return tuple(reversed(strides)), size


class Body(Values):
    """Emits statements of one kernel; `code` receives the lines.

    Attributes:
        takes_part_of_tiles: whether a tile of a grid axis may have any number of elements.
    """

    takes_part_of_tiles = True

    def __init__(self, kernel: ir.Kernel, code: Code, machine: Machine):
        super().__init__(kernel)
        self.code, self.machine = code, machine
        self.dims = {s.out.id: s.out.dims for s in statements(kernel.body) if hasattr(s, "out")}
        every = [e for stmt in statements(kernel.body) for e in self._evaluated(stmt)]
        extents = [Index((), a.extent + a.block + STRIP) for a in kernel.axes]
        self.ctype = index_ctype([*every, *extents])
        self.arrays: dict[int, Array] = {}
        self.scalars: dict[int, str] = {}
        self.consumers: dict[int, set[int]] = {}
        self.note_consumers(statements(kernel.body))
        self.bases: dict[tuple[Index, str], str] = {}
        self.count = 0
        self.heap_bytes = 0
        self.shifted = ShiftedExp(kernel, self.is_exact)
        self.whole: dict[str, int] = {}
        """Elements of the present tile along axes where it is known to be whole, and in one run."""
        self.widened: dict[int, str] = {}
        """C text of the element of an array that a load or store of float16, by its id, is of."""
        self.inverses: dict[int, str] = {}
        """C text of one over a sum of exponentials, by its id."""

    def _evaluated(self, stmt: ir.Stmt) -> Iterator[Index]:
        """The indices that a statement evaluates, within their masks where numbers change along
        lanes: gcc makes no vectors of a masked row whose start is an integer of 32 bits."""
        mask = getattr(stmt, "mask", None) or ()
        picked = {n for b in mask for n in b.index.loaded()}
        is_row = any(not self.dims.get(n) for n in picked)
        return bounded(ir.indices_of(stmt), () if is_row else mask)

    # -- slots ----------------------------------------------------------------------------------

    def open_slots(self) -> None:
        """Declare the slots that all programs share."""
        own = () if self.kernel.table is None else self.kernel.table.own
        for number in range(len(self.kernel.slots)):
            if number not in own:
                self._declare_slot(number, "")

    def open_member(self) -> None:
        """Declare the slots of the member whose number is `member`."""
        table = self.kernel.table
        if table is None:
            return
        for number in table.own:
            self._declare_slot(number, " + member")

    def _declare_slot(self, number: int, member: str) -> None:
        table, slot = self.kernel.table, self.kernel.slots[number]
        place = sum(
            table.members if table is not None and n in table.own else 1 for n in range(number)
        )
        const = "const " if slot.role == "in" else ""
        ctype = f"{const}{ops.memory_type(slot.dtype)} *"
        at = f"{place}{member}" if place or not member else "member"
        self.code.line(f"{ctype}restrict {self.slot_name[number]} = ({ctype})slots[{at}];")

    def extent(self, axis: ir.TileAxis) -> str:
        """C text of the elements along an axis, which members of a batch may have of their own."""
        has_lengths = self.kernel.table is not None and self.kernel.table.lengths
        return "length[member]" if has_lengths else str(axis.extent)

    # -- names ----------------------------------------------------------------------------------

    def rename(self, atom: Atom) -> str:
        if isinstance(atom, Loaded):
            return f"({self.ctype}){self.by_id(atom.value)}"
        assert isinstance(atom, Var)
        return self.axis_name[atom.name]

    def compared(self, e: Index) -> str:
        """Also loaded integers, which the type of indices need not hold where a mask fails."""
        return self.by_id(e.atom.value) if isinstance(e.atom, Loaded) else self.index(e)

    def element(self, tile: Tile) -> str:
        """C text of the tile's element at the present loop variables."""
        return self.by_id(tile.id)

    def by_id(self, tile: int) -> str:
        if tile in self.scalars:
            return self.scalars[tile]
        array = self.arrays[tile]
        return f"{array.base}[{self.offset(array.strides)}]"

    def offset(self, strides: tuple[tuple[str, int], ...]) -> str:
        parts = []
        for axis, stride in strides:
            name = self.axis_name[axis]
            parts.append(f"({name} - {name}_lo)" + (f" * {stride}" if stride != 1 else ""))
        return " + ".join(parts) or "0"

    def index(self, e: Index) -> str:
        """C text of an index, from the base of the present run where there is one."""
        for (known, axis), text in self.bases.items():
            if known == e:
                run = run_along(e, axis)
                assert run is not None
                if run.step == 0:
                    return text
                name = self.axis_name[axis]
                step = f" * {run.step}" if run.step != 1 else ""
                return f"{text} + ({name} - {name}_run){step}"
        return index_text(e, self.rename)

    def index_at(self, e: Index, places: Mapping[str, str]) -> str:
        """C text of an index where axes have other values than their variables, C texts."""

        def rename(atom: Atom) -> str:
            known = places.get(atom.name) if isinstance(atom, Var) else None
            return known or self.rename(atom)

        return index_text(e, rename)

    def pointer(self, access: ir.LoadTile | ir.StoreTile, *axes: str) -> str:
        """C text of the address of an access where the present tile begins along axes."""
        return f"{self.slot_name[access.slot]} + {self.index_at(access.index, self.starts(*axes))}"

    def starts(self, *axes: str) -> dict[str, str]:
        """Where the present tile begins along axes, for `index_at`."""
        return {a: f"{self.axis_name[a]}_lo" for a in axes}

    def declare_array(self, tile: Tile) -> None:
        """A local array for a tile."""
        strides, size = row_major([(d, self.block(d)) for d in tile.dims])
        self.arrays[tile.id] = Array(str(tile), strides)
        dtype = self.carry_dtype.get(tile.id, tile.dtype)
        ctype = ops.array_type(dtype)
        if any(self.kernel.axis(d).role is Role.FULL for d in tile.dims):
            place = self.on_heap(size * ops.array_itemsize(dtype))
            self.code.line(f"{ctype} *restrict const {tile} = ({ctype} *)({place});")
        else:
            self.code.line(f"{ctype} {tile}[{size}];")

    def on_heap(self, nbytes: int) -> str:
        """C text of the next bytes of the program's heap memory."""
        place = f"heap + {self.heap_bytes}"
        self.heap_bytes += -(-nbytes // 64) * 64
        return place

    def block(self, axis: str) -> int:
        a = self.kernel.axis(axis)
        return max(1, min(a.block, a.extent))

    def length(self, axis: str) -> int:
        """Elements that a loop along the axis takes together."""
        a = self.kernel.axis(axis)
        return self.block(axis) if a.block > 1 else a.extent

    # -- statements -----------------------------------------------------------------------------

    def store(self, stmt: ir.StoreTile) -> str:
        """C statement of a store to a slot."""
        slot = self.kernel.slots[stmt.slot]
        place = f"{self.slot_name[stmt.slot]}[{self.index(stmt.index)}]"
        value = self.stored(stmt)
        if stmt.combine != "set":
            old = ops.from_memory(slot.dtype, place)
            value = ops.combine(SCATTER_COMBINE[stmt.combine], old, value, slot.dtype)
            value = ops.round_to(value, slot.dtype)
        text = f"{place} = {ops.to_memory(slot.dtype, value)};"
        condition = self.mask(stmt.mask)
        return text if condition == "1" else f"if ({condition}) {text}"

    def statement(self, stmt: ir.Stmt, escapes: bool) -> None:
        """One statement at the present loop variables."""
        code = self.code
        match stmt:
            case ir.StoreTile() if id(stmt) in self.widened:
                code.line(f"{self.widened[id(stmt)]} = {self.stored(stmt)};")
            case ir.LoadTile() if id(stmt) in self.widened:
                self.assign(stmt.out, self.widened[id(stmt)], escapes)
            case ir.StoreTile():
                code.line(self.store(stmt))
            case ir.Accumulate():
                carry = self.element(stmt.carry)
                value = self.element(stmt.value)
                code.line(f"{carry} = {ops.combine(stmt.op, carry, value, stmt.carry.dtype)};")
            case ir.Stash():
                code.line(f"{self.stash_place(stmt.out, stmt.axes)} = {self.element(stmt.value)};")
            case ir.Unstash():
                self.assign(stmt.out, self.stash_place(stmt.stash, stmt.axes), escapes)
            case ir.Init():
                text = ops.number(stmt.value, stmt.out.dtype)
                if stmt.out.id in self.arrays:
                    code.line(f"{self.element(stmt.out)} = {text};")
                else:
                    self.scalars[stmt.out.id] = str(stmt.out)
                    dtype = self.carry_dtype.get(stmt.out.id, stmt.out.dtype)
                    code.line(f"{ops.register_type(dtype)} {stmt.out} = {text};")
            case ir.ScanTile():
                assert stmt.carry is not None
                carry, args = self.element(stmt.carry), [self.element(a) for a in stmt.args]
                dtype = self.carry_dtype[stmt.carry.id]
                code.line(f"{carry} = {ops.scan_step(stmt.op, carry, args, dtype)};")
                self.assign(stmt.out, carry, escapes)
            case _:
                assert not isinstance(stmt, (ir.Loop, ir.DotTile, ir.ReduceTile))
                assert not isinstance(stmt, ir.OfTriton)
                self.assign(stmt.out, self.expression(stmt), escapes)

    def assign(self, tile: Tile, text: str, escapes: bool) -> None:
        if escapes and tile.dims:
            self.code.line(f"{self.element(tile)} = {text};")
            return
        self.scalars[tile.id] = str(tile)
        self.code.line(f"const {ops.register_type(tile.dtype)} {tile} = {text};")

    def computed(self, stmt: ir.ComputeTile) -> str:
        """Also exponentials and quotients of softmax, see shifted_exp.py."""
        if stmt.out.id in self.shifted.low:
            return f"tg_exp_low({self.element(stmt.args[0])})"
        if stmt.op is Op.DIV and stmt.args[1].id in self.inverses:
            return f"{self.element(stmt.args[0])} * {self.inverses[stmt.args[1].id]}"
        return super().computed(stmt)

    def invert_sums(self, stmts: Sequence[ir.Stmt]) -> None:
        """Declare one over each sum of exponentials that the statements of a loop divide by, for
        this loop alone: the next one may stand in another block."""
        for s in stmts:
            if isinstance(s, ir.ComputeTile) and s.op is Op.DIV:
                tile = s.args[1]
                if tile.id in self.shifted.sums and tile.id not in self.inverses:
                    name = f"{tile}_inverse{self.count}"
                    self.inverses[tile.id] = name
                    self.count += 1
                    self.code.line(f"const float {name} = 1 / {self.element(tile)};")

    def stash_place(self, tile: Tile, axes: tuple[str, ...]) -> str:
        array = self.arrays[tile.id]
        parts = []
        for axis, stride in array.strides[: len(axes)]:
            name, a = self.axis_name[axis], self.kernel.axis(axis)
            wide = f"{name}_lo / {a.block}" if a.block > 1 else name
            parts.append(f"{wide} * {stride}" if stride != 1 else wide)
        lanes = tuple(s for s in array.strides[len(axes) :] if self.kernel.axis(s[0]).block > 1)
        if lanes:
            parts.append(self.offset(lanes))
        return f"{tile}[{' + '.join(parts) or '0'}]"

    # -- scopes ---------------------------------------------------------------------------------

    def scope(self, stmts: tuple[ir.Stmt, ...] | list[ir.Stmt]) -> None:
        """All statements of one scope."""
        for group in schedule(self.kernel, stmts):
            stmt = group.stmts[0]
            if isinstance(stmt, ir.Loop):
                self.declare_stashes(stmt)
                self.loop(stmt)
            elif isinstance(stmt, ir.DotTile):
                self.naive_dot(stmt)
            elif isinstance(stmt, ir.ReduceTile):
                self.reduce(stmt)
            elif isinstance(stmt, ir.SortTile):
                emit_sort(stmt, self)
            elif not group.dims:
                for s in group.stmts:
                    self.statement(s, escapes=True)
            else:
                self.nest(group)

    def nest(self, group: Group) -> None:
        """The loops of a group of tile statements."""
        members = {id(s) for s in group.stmts}
        outside: set[int] = set()
        for stmt in group.stmts:
            for tile in writes_of(stmt):
                if not self.consumers.get(tile, set()) <= members:
                    outside.add(tile)
        for stmt in group.stmts:
            if isinstance(stmt, (ir.StoreTile, ir.Accumulate, ir.Stash)):
                continue
            assert not isinstance(stmt, (ir.Loop, ir.DotTile))
            assert not isinstance(stmt, ir.OfTriton)
            if stmt.out.id in outside and stmt.out.id not in self.arrays:
                self.declare_array(stmt.out)
        inner = group.inner or group.dims[-1]
        turned = [t for s in group.stmts for t in self.turned_tiles(s, inner, outside)]
        for columns in turned:
            self.declare_turned(columns)
        heads = [self.lane_loop(d) for d in group.dims if d != inner]
        indices = [e for s in group.stmts for e in ir.indices_of(s)]
        run = common_run([e for e in indices if not e.loaded()], inner)
        simd = self.may_vectorise(group.stmts, inner) and not self.only_gathers(group.stmts, inner)
        saved = dict(self.scalars)
        if heads:
            with self.code.block(*heads):
                self.innermost(group.stmts, inner, indices, run, simd, outside)
        else:
            self.innermost(group.stmts, inner, indices, run, simd, outside)
        self.scalars = saved
        for columns in turned:
            self.turn(columns)

    # -- tiles that are written along one axis and read along the other ----------------------------

    def turned_tiles(self, stmt: ir.Stmt, inner: str, outside: set[int]) -> list[Tile]:
        """The tile that the statement makes for other nests, if it writes columns of it."""
        if not isinstance(stmt, (ir.LoadTile, ir.ComputeTile)) or stmt.out.id not in outside:
            return []
        dims, lanes = stmt.out.dims, self.machine.lanes(4)
        fits = len(dims) == 2 and dims[0] == inner and stmt.out.dtype is dt.float32
        return [stmt.out] if fits and all(self.block(d) % lanes == 0 for d in dims) else []

    def declare_turned(self, tile: Tile) -> None:
        """A second array with the axes exchanged, which the nest fills row by row."""
        a, b = tile.dims
        strides = ((a, 1), (b, self.block(a)))
        self.arrays[tile.id] = Array(f"{tile}_t", strides)
        self.code.line(f"float {tile}_t[{self.block(a) * self.block(b)}];")

    def turn(self, tile: Tile) -> None:
        """tile[a][b] = tile_t[b][a], in registers."""
        a, b = (self.block(d) for d in tile.dims)
        lanes = self.machine.lanes(4)
        self.code.line(f"for (int e = 0; e < {b}; e += {lanes})")
        self.code.line(
            f"  tg_transpose_float_{lanes}({tile}_t + e * {a}, {a}, {a}, {tile} + e, {b});"
        )
        self.arrays[tile.id] = Array(str(tile), ((tile.dims[0], b), (tile.dims[1], 1)))

    def may_vectorise(self, stmts: list[ir.Stmt], axis: str) -> bool:
        """Whether no two steps along the axis store to one address."""
        return all(
            axis in distinct_axes(s.index)
            for s in stmts
            if isinstance(s, ir.StoreTile) and is_scatter(s)
        )

    def only_gathers(self, stmts: list[ir.Stmt], axis: str) -> bool:
        """Whether loads from computed places are most of the work, and registers are so narrow that
        single loads are quicker (a million picked floats, a core of Zen 3: 1.4 ms, by instructions
        that gather 2.0 ms; 2026-11)."""
        axes = {s.out.id: s.out.dims for s in stmts if isinstance(s, ir.Pure)}
        cost = sum(OPS[s.op].cost for s in stmts if isinstance(s, ir.ComputeTile))
        return (
            self.machine.vector_bytes < 64
            and cost <= MOST_BESIDE_GATHERS
            and any(
                axis in axes.get(tile, ())
                for s in stmts
                if isinstance(s, ir.LoadTile)
                for tile in s.index.loaded()
            )
        )

    def lane_ends(self, axis: str) -> tuple[str, str]:
        """Between which C texts the lanes of the present tile are."""
        name = self.axis_name[axis]
        end = f"{name}_lo + {self.whole[axis]}" if axis in self.whole else f"{name}_hi"
        return f"{name}_lo", end

    def loop_between(self, axis: str, start: str, stop: str) -> str:
        name = self.axis_name[axis]
        return f"for ({self.ctype} {name} = {start}; {name} < {stop}; {name}++)"

    def lane_loop(self, axis: str) -> str:
        return self.loop_between(axis, *self.lane_ends(axis))

    def innermost(
        self,
        stmts: list[ir.Stmt],
        axis: str,
        indices: list[Index],
        run: Run | None,
        simd: bool,
        outside: set[int],
    ) -> None:
        """The loop over lanes of `axis`, in runs of even steps where the addresses ask for it."""
        code, name, ctype = self.code, self.axis_name[axis], self.ctype
        if stream_rows(self, stmts, axis):
            return
        fetch_rows(self, stmts, axis)
        if copy_row(self, stmts, axis):
            return
        if run is None or run.period < SHORT_RUN:
            self.lanes(stmts, axis, simd, outside)
            return
        if axis in self.whole:
            with code.block(""):
                code.line(f"const {ctype} {name}_run = {name}_lo;")
                self.open_run(indices, axis)
                self.lanes(stmts, axis, simd, outside)
                self.bases = {}
            return
        period = run.period
        shift, phase = (f" + {period - run.phase}", f" + {run.phase}") if run.phase else ("", "")
        turn = f"({name}_run{shift}) / {period}" if shift else f"({name}_run / {period} + 1)"
        with code.block(
            f"for ({ctype} {name}_run = {name}_lo, {name}_end; {name}_run < {name}_hi; "
            f"{name}_run = {name}_end)"
        ):
            code.line(f"{name}_end = tg_min({name}_hi, {turn} * {period}{phase});")
            self.open_run(indices, axis)
            self.lanes(stmts, axis, simd, outside, (f"{name}_run", f"{name}_end"))
            self.bases = {}

    def open_run(self, indices: list[Index], axis: str) -> None:
        """Declare the value of each index at the start of a run along `axis`."""
        name = self.axis_name[axis]
        bases: dict[tuple[Index, str], str] = {}
        for e in dict.fromkeys(indices):
            if e.loaded() or axis not in e.variables():
                continue
            text = f"at{self.count}"
            self.count += 1
            self.code.line(
                f"const {self.ctype} {text} = {self.index_at(e, {axis: f'{name}_run'})};"
            )
            bases[(e, axis)] = text
        self.bases = bases

    def lanes(
        self,
        stmts: list[ir.Stmt],
        axis: str,
        simd: bool,
        outside: set[int],
        ends: tuple[str, str] | None = None,
    ) -> None:
        """The loop over lanes of `axis`, all of them or those between two C texts."""
        with in_halves(self, stmts, axis, *(ends or self.lane_ends(axis))) as (start, stop):
            head = self.loop_between(axis, start, stop)
            looked = looked_at(stmts) if simd else None
            for _ in each_case(self, stmts, axis):
                if looked is not None:
                    emit_near(self, looked, stmts, head, outside)
                else:
                    self.all_lanes(stmts, head, simd, outside)

    def all_lanes(self, stmts: list[ir.Stmt], head: str, simd: bool, outside: set[int]) -> None:
        """The loop over lanes, for any arguments."""
        if simd:
            self.code.pragma("omp simd")
        with self.code.block(head):
            for stmt in stmts:
                escapes = bool(writes_of(stmt) & outside)
                self.statement(stmt, escapes)

    # -- loops ----------------------------------------------------------------------------------

    def declare_stashes(self, loop: ir.Loop) -> None:
        for stmt in loop.body:
            if not isinstance(stmt, ir.Stash):
                continue
            steps = [(a, max(1, self.kernel.axis(a).steps)) for a in stmt.axes]
            lanes = [(d, self.block(d)) for d in stmt.out.dims]
            strides, size = row_major([*steps, *lanes])
            self.arrays[stmt.out.id] = Array(str(stmt.out), strides)
            self.code.line(f"{ops.array_type(stmt.out.dtype)} {stmt.out}[{size}];")

    def loop(self, loop: ir.Loop, start: str = "0", stop: str | None = None) -> None:
        """A sequential loop; `start` and `stop` select a part of it."""
        axis = self.kernel.axis(loop.axis)
        stop = self.extent(axis) if stop is None else stop
        if is_leaf(self.kernel, loop):
            self.invert_sums(loop.body)
            emit_leaf(self, loop, start, stop)
            self.inverses = {}
            return
        rows = rows_together(self.kernel, loop) if axis.block == 1 else None
        if rows is not None:
            start = self.loop_of_rows(axis, rows, start, stop)
        if start == stop:
            return
        saved = dict(self.scalars)
        with self.code.block(self.loop_head(axis, start, stop)):
            self.open_axis(axis)
            self.scope(loop.body)
        self.scalars = saved

    def loop_of_rows(
        self, axis: ir.TileAxis, rows: tuple[ir.Stmt, ...], start: str, stop: str
    ) -> str:
        """A loop over ROWS steps at a time; C text of the first step that it leaves."""
        name = self.axis_name[axis.name]
        if start == "0" and stop.isdecimal():
            end = str(int(stop) // ROWS * ROWS)
        else:
            end = f"{name}_end"
            self.code.line(
                f"const {self.ctype} {end} = {start} + ({stop} - {start}) / {ROWS} * {ROWS};"
            )
        # copies of the next loop have the same numbers
        saved, arrays = dict(self.scalars), dict(self.arrays)
        consumers = {tile: set(users) for tile, users in self.consumers.items()}
        self.note_consumers(rows)
        with self.code.block(
            f"for ({self.ctype} {name} = {start}; {name} < {end}; {name} += {ROWS})"
        ):
            self.scope(rows)
        self.scalars, self.arrays, self.consumers = saved, arrays, consumers
        return end

    def note_consumers(self, stmts: Iterable[ir.Stmt]) -> None:
        """Remember which statements read each tile."""
        for stmt in stmts:
            if not isinstance(stmt, ir.Loop):
                for tile in reads_of(stmt):
                    self.consumers.setdefault(tile, set()).add(id(stmt))

    def loop_head(self, axis: ir.TileAxis, start: str = "0", stop: str | None = None) -> str:
        """`for` over the tiles of an axis."""
        name = self.axis_name[axis.name]
        stop = self.extent(axis) if stop is None else stop
        if axis.block == 1:
            return f"for ({self.ctype} {name} = {start}; {name} < {stop}; {name}++)"
        return (
            f"for ({self.ctype} {name}_lo = {start}; {name}_lo < {stop}; {name}_lo += {axis.block})"
        )

    def open_axis(self, axis: ir.TileAxis) -> None:
        """Declare where the tile of a wide axis ends."""
        if axis.block == 1:
            return
        name = self.axis_name[axis.name]
        end = f"{name}_lo + {axis.block}"
        if axis.is_ragged:
            end = f"tg_min({end}, {axis.extent})"
        if self.takes_part_of_tiles:
            end = self._needed_end(axis, end)
        self.code.line(f"const {self.ctype} {name}_hi = {end};")

    def _needed_end(self, axis: ir.TileAxis, end: str) -> str:
        """Where the needed elements of a tile end, if all of its places are in one stretch."""
        name = self.axis_name[axis.name]
        for limit in self.kernel.limits:
            if limit.axis != axis.name or axis.role is not Role.GRID:
                continue
            stretch = limit.inner * limit.capacity
            size = f"({self.ctype})tg_min({self.slot_name[limit.slot]}[0], {limit.capacity})"
            needed = f"tg_min({end}, {name}_lo / {stretch} * {stretch} + {size} * {limit.inner})"
            if stretch % axis.block:
                is_whole = f"({end} - 1) / {stretch} == {name}_lo / {stretch}"
                needed = f"({is_whole} ? {needed} : {end})"
            end = needed
        return end

    def open_full(self, axis: ir.TileAxis) -> None:
        """Declare the lanes of an axis that lies in one tile."""
        name = self.axis_name[axis.name]
        self.code.line(f"const {self.ctype} {name}_lo = 0, {name}_hi = {axis.extent};")

    def skip_unneeded(self, axes: Sequence[ir.TileAxis]) -> None:
        """Go on to the next program if no element of this one is needed: all of its places are
        in one stretch, at or beyond the size."""
        for limit in self.kernel.limits:
            axis = next((a for a in axes if a.name == limit.axis), None)
            if axis is None:
                continue
            name, stretch = self.axis_name[axis.name], limit.inner * limit.capacity
            first = name if axis.block == 1 else f"{name}_lo"
            size = f"{self.slot_name[limit.slot]}[0]"
            tests = [f"{first} / {limit.inner} % {limit.capacity} >= {size}"]
            if axis.block > 1 and stretch < axis.extent:
                tests.append(f"{first} / {stretch} == ({name}_hi - 1) / {stretch}")
            self.code.line(f"if ({' && '.join(tests)}) continue;")

    # -- reductions and dots within a tile ------------------------------------------------------

    def reduce(self, stmt: ir.ReduceTile) -> None:
        """A reduction over axes of a tile."""
        code, op = self.code, REDUCE_COMBINE[stmt.op]
        out = stmt.out
        ctype, start = ops.register_type(out.dtype), ops.identity(op, out.dtype)
        if out.dims:
            self.declare_array(out)
        else:
            code.line(f"{ctype} {out} = {start};")
            self.scalars[out.id] = str(out)
        heads = [self.lane_loop(d) for d in out.dims]
        with code.block(*heads or [""]):
            total = f"{out}_sum"
            code.line(f"{ctype} {total} = {start};")
            *outer, last = [self.lane_loop(d) for d in stmt.axes]
            clause = ops.reduction_clause(op, out.dtype)
            text = ops.combine(op, total, self.element(stmt.arg), out.dtype)
            if outer:
                with code.block(*outer):
                    code.pragma(f"omp simd reduction({clause}:{total})")
                    code.line(last)
                    code.line(f"  {total} = {text};")
            else:
                code.pragma(f"omp simd reduction({clause}:{total})")
                code.line(last)
                code.line(f"  {total} = {text};")
            code.line(f"{self.element(out)} = {total};")

    def naive_dot(self, stmt: ir.DotTile) -> None:
        """A contraction without packing, for programs that emit_dot does not know."""
        carry = self.element(stmt.carry)
        kind = ops.register_type(stmt.carry.dtype)
        heads = []
        for axis in (stmt.m, stmt.k, stmt.n):
            is_walked = axis == stmt.k or axis in stmt.carry.dims
            if is_walked and self.kernel.axis(axis).block > 1:
                heads.append(self.lane_loop(axis))
        text = f"{carry} += ({kind}){self.element(stmt.a)} * ({kind}){self.element(stmt.b)};"
        if not heads:
            self.code.line(text)
            return
        with self.code.block(*heads):
            self.code.line(text)
