"""OpenCL C of a tile program: one work-item runs one program.

In: a Kernel whose tiles are small (see opencl_heuristics.py). Out: OpenCL C of one kernel without
the functions that it uses (opencl_words.py adds them). Invariant: the text depends on the Kernel
alone; equal places of equal buffers are read and written whatever the work-group's size.

    __kernel void NAME(__global const float *restrict x, long x_at, ...) {
      x += x_at;                                  where in its memory the buffer begins
      const int program = (int)get_global_id(0);
      if (program >= 4100) return;                where work-groups do not divide the grid
      const int i = program / 64;                 grid axes, the contiguous one last
      const int j = program % 64 * 4;
      const int j_0 = j, j_1 = tg_min(j + 1, 255);
      float t0_0 = 0.0f, ...;                     an element of a tile is a variable
      for (int k = 0; k < 1000; k++) { ... }
    }

A lane at or beyond its grid axis's extent is the last element once more, which it does not store.
Neighbouring work-items take neighbouring elements of the axis along which memory is contiguous, so
that their accesses are one. Rows that are sorted lie in arrays of the work-item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, product
from math import prod

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import Code, header, loops_of, unique_names
from tgrad.cpu_fallback.emit_index import index_ctype, run_along
from tgrad.cpu_fallback.emit_value import Values
from tgrad.cpu_fallback.opencl_words import RESERVED, atomic_name, to_opencl
from tgrad.graph.index import Atom, Index, Loaded, Var
from tgrad.graph.op import REDUCE_COMBINE
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile, TileAxis, statements
from tgrad.kernel.statements import reads_of, writes_of

Lanes = Mapping[str, int]
"""Which lane of each wide axis is meant."""

INT32 = 2**31 - 1


def emit_opencl(kernel: ir.Kernel) -> str:
    """OpenCL C of the kernel's function."""
    code = Code()
    header(code, kernel)
    _WorkItem(kernel, code).emit()
    return to_opencl(code.text())


class _WorkItem(Values):
    """Emits the statements of one program; `code` receives the lines."""

    def __init__(self, kernel: ir.Kernel, code: Code):
        super().__init__(kernel, RESERVED)
        assert kernel.table is None, "members of a batch have launches of their own"
        self.code = code
        every = [e for stmt in statements(kernel.body) for e in ir.indices_of(stmt)]
        every += [Index((), a.extent + 2 * a.block) for a in kernel.axes]
        self.ctype = index_ctype([*every, Index((), kernel.num_programs + ir.WORK_GROUP)])
        taken = {*self.axis_name.values(), *self.slot_name, kernel.name, *RESERVED}
        wide = [a for a in kernel.axes if a.block > 1 and a.role is not Role.FULL]
        lanes = unique_names([f"{a.name}_{n}" for a in wide for n in range(a.block)], taken)
        self.lane_name = {(a.name, n): lanes[f"{a.name}_{n}"] for a in wide for n in range(a.block)}
        self.lanes: Lanes = {}
        self.tiles = {t.id: t for s in statements(kernel.body) if (t := getattr(s, "out", None))}
        self.arrays: set[int] = set()
        self.single: set[str] = set()

    def emit(self) -> None:
        """The whole function."""
        parameters: list[str] = []
        for name, slot in zip(self.slot_name, self.kernel.slots):
            const = "const " if slot.role == "in" else ""
            ctype = ops.memory_type(slot.dtype)
            parameters += [f"__global {const}{ctype} *restrict {name}", f"const long {name}_at"]
        self.code.line(f"__kernel void {self.kernel.name}(")
        for n in range(0, len(parameters), 2):
            end = "," if n + 2 < len(parameters) else ")"
            self.code.line(f"    {parameters[n]}, {parameters[n + 1]}{end}")
        with self.code.block(""):
            for name in self.slot_name:
                self.code.line(f"{name} += {name}_at;")
            self.grid()
            self.scope(self.kernel.body)

    # -- axes -----------------------------------------------------------------------------------

    def grid(self) -> None:
        """The place of the work-item's program along each grid axis."""
        count = self.kernel.num_programs
        self.code.line(f"const {self.ctype} program = ({self.ctype})get_global_id(0);")
        if count % ir.WORK_GROUP:
            self.code.line(f"if (program >= {count}) return;")
        order = sorted(self.kernel.grid, key=self.unit_steps)
        for number, axis in enumerate(order):
            inner = prod(a.steps for a in order[number + 1 :])
            text = "program" if inner == 1 else f"program / {inner}"
            text = text if number == 0 else f"{text} % {axis.steps}"
            text = text if axis.block == 1 else f"{text} * {axis.block}"
            text = text if axis.steps > 1 else "0"
            self.code.line(f"const {self.ctype} {self.axis_name[axis.name]} = {text};")
            self.open_lanes(axis)
        for limit in self.kernel.limits:
            axis = self.kernel.axis(limit.axis)
            if axis.role is Role.GRID and axis.block == 1:
                place = f"{self.axis_name[axis.name]} / {limit.inner} % {limit.capacity}"
                self.code.line(f"if ({place} >= {self.slot_name[limit.slot]}[0]) return;")

    def unit_steps(self, axis: TileAxis) -> int:
        """How many accesses are contiguous along an axis; a store counts as much as all loads."""
        found = 0
        stmts = list(statements(self.kernel.body))
        for s in stmts:
            if isinstance(s, (ir.LoadTile, ir.StoreTile)):
                run = run_along(s.index, axis.name)
                weight = len(stmts) if isinstance(s, ir.StoreTile) else 1
                found += weight * (run is not None and run.step == 1)
        return found

    def open_lanes(self, axis: TileAxis) -> None:
        """Declare the elements of a wide axis."""
        if axis.block == 1:
            return
        name, last = self.axis_name[axis.name], axis.extent - 1
        places = [f"{name} + {n}" if n else name for n in range(self.width(axis.name))]
        if axis.role is Role.GRID and axis.is_ragged:
            places[1:] = [f"tg_min({p}, {last})" for p in places[1:]]
        lanes = (f"{self.lane_name[axis.name, n]} = {p}" for n, p in enumerate(places))
        self.code.line(f"const {self.ctype} {', '.join(lanes)};")

    def is_inside(self) -> str:
        """Condition under which the present lanes are elements; "" where they always are."""
        axes = (self.kernel.axis(name) for name, lane in self.lanes.items() if lane)
        return " && ".join(
            f"{self.axis_name[a.name]} + {self.lanes[a.name]} < {a.extent}"
            for a in axes
            if a.role is Role.GRID and a.is_ragged
        )

    def width(self, axis: str) -> int:
        """Lanes of an axis here: one where a loop takes what its wide steps leave."""
        return 1 if axis in self.single else self.kernel.axis(axis).block

    def each_lane(self, dims: Sequence[str]) -> Iterator[None]:
        """The lanes of a tile over these axes, one after the other."""
        wide = [d for d in dims if self.kernel.axis(d).role is not Role.FULL]
        for chosen in product(*(range(self.width(d)) for d in wide)):
            self.lanes = dict(zip(wide, chosen))
            yield
        self.lanes = {}

    # -- names ----------------------------------------------------------------------------------

    def rename(self, atom: Atom) -> str:
        if isinstance(atom, Loaded):
            return f"({self.ctype}){self.element(self.tiles[atom.value])}"
        assert isinstance(atom, Var)
        axis = self.kernel.axis(atom.name)
        if axis.block == 1 or axis.role is Role.FULL:
            return self.axis_name[atom.name]
        return self.lane_name[atom.name, self.lanes.get(atom.name, 0)]

    def element(self, tile: Tile) -> str:
        if tile.id in self.arrays:
            return f"{tile}[{self.axis_name[tile.dims[-1]]}]"
        suffix = "".join(f"_{self.lanes[d]}" for d in tile.dims if d in self.lanes)
        return f"{tile}{suffix}"

    # -- statements -----------------------------------------------------------------------------

    def scope(self, stmts: Sequence[ir.Stmt]) -> None:
        """All statements of one scope; those along a row that lies in arrays share its loop."""
        for axis, group in groupby(stmts, self.full_axis):
            members = list(group)
            if axis is None:
                for stmt in members:
                    self.statement(stmt)
                continue
            ids = set(map(id, members))
            readers = [s for s in statements(self.kernel.body) if id(s) not in ids]
            outside = set().union(*map(reads_of, readers)) if readers else set()
            for stmt in members:
                for tile in writes_of(stmt) & outside:
                    self.declare_array(self.tiles[tile])
            name = self.axis_name[axis]
            extent = self.kernel.axis(axis).extent
            with self.code.block(f"for ({self.ctype} {name} = 0; {name} < {extent}; {name}++)"):
                for stmt in members:
                    self.statement(stmt)

    def full_axis(self, stmt: ir.Stmt) -> str | None:
        """The axis of a row that the statement takes element by element."""
        if isinstance(stmt, (ir.SortTile, ir.Loop)):
            return None
        dims = loops_of(self.kernel, stmt)
        return next((d for d in dims if self.kernel.axis(d).role is Role.FULL), None)

    def declare_array(self, tile: Tile) -> None:
        self.arrays.add(tile.id)
        size = self.kernel.axis(tile.dims[-1]).extent
        self.code.line(f"{ops.array_type(tile.dtype)} {tile}[{size}];")

    def statement(self, stmt: ir.Stmt) -> None:
        code = self.code
        match stmt:
            case ir.Loop():
                self.loop(stmt)
            case ir.SortTile():
                self.sort(stmt)
            case ir.StoreTile():
                for _ in self.each_lane(loops_of(self.kernel, stmt)):
                    self.store(stmt)
            case ir.Init():
                dtype = self.carry_dtype.get(stmt.out.id, stmt.out.dtype)
                number = ops.number(stmt.value, dtype)
                for _ in self.each_lane(stmt.out.dims):
                    code.line(f"{ops.register_type(dtype)} {self.element(stmt.out)} = {number};")
            case ir.Accumulate():
                for _ in self.each_lane(stmt.carry.dims):
                    carry, value = self.element(stmt.carry), self.element(stmt.value)
                    text = ops.combine(stmt.op, carry, value, stmt.carry.dtype)
                    code.line(f"{carry} = {text};")
            case ir.ReduceTile():
                self.reduce(stmt)
            case ir.DotTile():
                self.dot(stmt)
            case ir.ScanTile():
                assert stmt.carry is not None
                dtype = self.carry_dtype[stmt.carry.id]
                for _ in self.each_lane(stmt.carry.dims):
                    carry, args = self.element(stmt.carry), [self.element(a) for a in stmt.args]
                    code.line(f"{carry} = {ops.scan_step(stmt.op, carry, args, dtype)};")
                    self.assign(stmt.out, carry)
            case _:
                assert not isinstance(stmt, (ir.Stash, ir.Unstash)), "rows are read again"
                assert not isinstance(stmt, ir.OfTriton)
                for _ in self.each_lane(stmt.out.dims):
                    self.assign(stmt.out, self.expression(stmt))

    def assign(self, tile: Tile, text: str) -> None:
        const = "" if tile.id in self.arrays else f"const {ops.register_type(tile.dtype)} "
        self.code.line(f"{const}{self.element(tile)} = {text};")

    def store(self, stmt: ir.StoreTile) -> None:
        """A store; one that joins what is there, with what other work-items join, is atomic."""
        slot, value = self.kernel.slots[stmt.slot], self.stored(stmt)
        place = f"{self.slot_name[stmt.slot]}[{self.index(stmt.index)}]"
        if stmt.combine == "set":
            text = f"{place} = {ops.to_memory(slot.dtype, value)};"
        else:
            text = f"{atomic_name(stmt.combine, slot.dtype)}(&{place}, {value});"
        mask = self.mask(stmt.mask)
        tests = [self.is_inside(), mask if mask != "1" else ""]
        condition = " && ".join(f"({t})" for t in tests if t)
        self.code.line(f"if ({condition}) {text}" if condition else text)

    def loop(self, loop: ir.Loop) -> None:
        """Steps in order, over the part of the axis that the loop's bounds leave:

        for (int k = 0; k < 1000; k += 8) { ... }       the elements k to k + 7
        for (int k = 1000; k < 1003; k++) { ... }       what is left, as first elements
        """
        axis = self.kernel.axis(loop.axis)
        name, start, stop = self.axis_name[axis.name], "0", str(axis.extent)
        if axis.block == 1:
            self.steps(loop, *self.bounds(loop))
            return
        if not (loop.start or loop.stop):
            whole = axis.extent // axis.block * axis.block
            self.steps(loop, start, str(whole))
            if whole < axis.extent:
                self.single_steps(loop, str(whole), stop)
            return
        with self.code.block(""):
            start, stop = self.bounds(loop)
            self.code.line(f"const {self.ctype} {name}_start = {start}, {name}_stop = {stop};")
            count = f"tg_max({name}_stop - {name}_start, 0) / {axis.block} * {axis.block}"
            self.code.line(f"const {self.ctype} {name}_end = {name}_start + {count};")
            self.steps(loop, f"{name}_start", f"{name}_end")
            self.single_steps(loop, f"{name}_end", f"{name}_stop")

    def bounds(self, loop: ir.Loop) -> tuple[str, str]:
        start, stop = "0", str(self.kernel.axis(loop.axis).extent)
        for e in loop.start:
            start = f"tg_max({start}, {self.index(e)})"
        for e in loop.stop:
            stop = f"tg_min({stop}, {self.index(e)})"
        return start, stop

    def single_steps(self, loop: ir.Loop, start: str, stop: str) -> None:
        self.single.add(loop.axis)
        self.steps(loop, start, stop)
        self.single.discard(loop.axis)

    def steps(self, loop: ir.Loop, start: str, stop: str) -> None:
        axis, name = self.kernel.axis(loop.axis), self.axis_name[loop.axis]
        step = "++" if self.width(loop.axis) == 1 else f" += {axis.block}"
        with self.code.block(f"for ({self.ctype} {name} = {start}; {name} < {stop}; {name}{step})"):
            self.open_lanes(axis)
            self.scope(loop.body)

    def reduce(self, stmt: ir.ReduceTile) -> None:
        """Lanes joined two by two."""
        op, out = REDUCE_COMBINE[stmt.op], stmt.out
        rest = [d for d in stmt.arg.dims if d not in stmt.axes]
        parts: dict[tuple[int, ...], list[str]] = {}
        for _ in self.each_lane(stmt.arg.dims):
            place = tuple(self.lanes[d] for d in rest)
            parts.setdefault(place, []).append(self.element(stmt.arg))
        for _ in self.each_lane(rest):
            terms = parts[tuple(self.lanes[d] for d in rest)]
            while len(terms) > 1:
                pairs = zip(terms[::2], terms[1::2])
                joined = [ops.combine(op, a, b, out.dtype) for a, b in pairs]
                terms = joined + terms[len(terms) // 2 * 2 :]
            self.assign(out, terms[0])

    def dot(self, stmt: ir.DotTile) -> None:
        """carry[m n] += a[m] * b[n], for one k."""
        assert self.kernel.axis(stmt.k).block == 1, "a work-item takes one k after the other"
        kind = ops.register_type(stmt.carry.dtype)
        a, b = ("" if ops.register_type(t.dtype) == kind else f"({kind})" for t in (stmt.a, stmt.b))
        for _ in self.each_lane(stmt.carry.dims):
            product = f"{a}{self.element(stmt.a)} * {b}{self.element(stmt.b)}"
            self.code.line(f"{self.element(stmt.carry)} += {product};")

    def sort(self, stmt: ir.SortTile) -> None:
        """A row's places in ascending order of its keys, by the function of emit_sort.py."""
        if not stmt.out.dims:
            self.assign(stmt.out, "0")
            return
        n = self.kernel.axis(stmt.axis).extent
        self.declare_array(stmt.out)
        ctype = ops.array_type(stmt.arg.dtype)
        with self.code.block(""):
            self.code.line(f"uint64_t work[{2 * n}];")
            self.code.line(f"tg_argsort_{ctype}_8({stmt.arg}, {n}, {stmt.out}, work);")
