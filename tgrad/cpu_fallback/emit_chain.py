"""Chains of dots (attention and its gradients) as loops over tiles in the first-level cache.

In: a Kernel with first dots over whole axes and last dots over a loop. Out: C lines. Invariant:
each output element is summed in one order, whatever the number of threads.

A tile over the loop's axis k and the program's rows m lies as [k][m], so that statistics of rows
are vectors and no reduction is horizontal. Every dot is  c[r, v] += a[r, x] * b[x, v]  with v
contiguous in c and b; a is read element by element, from anywhere:

    q^T[d][m] is made once a program                                b of first dots
    for k from .. to ..:
      s[k][m]    = k[k, d] @ q^T[d][m]                              k straight from memory
      statements on [k][m] and [m]
      o[m][n]   += p^T[m, k] @ v[k, n]                              v straight from memory
    epilogue
"""

from __future__ import annotations

from dataclasses import dataclass

from tgrad.cpu_fallback import op_table as ops
from tgrad.cpu_fallback.code import Code
from tgrad.cpu_fallback.dot_plan import SUMS_IN_FLIGHT
from tgrad.cpu_fallback.emit_body import Array, Body, row_major
from tgrad.cpu_fallback.target import Machine
from tgrad.graph.index import Index
from tgrad.graph.op import REDUCE_COMBINE, Op
from tgrad.kernel import ir
from tgrad.kernel.ir import Role, Tile, statements

ROWS = {5: 4, 4: 4, 3: 8, 2: 8, 1: 8}
"""Rows of a register tile, by its vectors: enough sums in flight, all in 32 registers."""

FEW_REGISTERS = {2: 4, 1: 8}
"""The same for 16 registers; powers of two, which divide the sides of tiles."""

MORE_ROWS = 6
"""Rows of two vectors where four have too few sums in flight; a tile of 16 rows then has two of six
and one of four (a core of Zen 3, tiles of four rows and these in turn: causal attention of 8x8x256
by 64 0.98 of the time, of 12x4x64 by 32 0.99 and its gradients 0.95 and 0.97; 2026-11)."""


def is_chain(kernel: ir.Kernel) -> bool:
    """Whether the kernel is of this module's form."""
    dots = [s for s in statements(kernel.body) if isinstance(s, ir.DotTile)]
    return any(kernel.axis(s.k).role is Role.FULL for s in dots)


def emit_chain(kernel: ir.Kernel, body: ChainBody, parallel: bool) -> None:
    """The whole function body."""
    code = body.code
    grid = [a for a in kernel.grid if a.steps != 1 or a.block > 1]
    if parallel and kernel.num_programs > 1:
        code.shared(len(grid), schedule="dynamic")
    heads = [body.loop_head(a) for a in grid]
    with code.block(*heads or [""]):
        for a in grid:
            body.open_axis(a)
        body.skip_unneeded(grid)
        for a in kernel.axes:
            if a.role is Role.FULL:
                body.open_full(a)
        body.scope(kernel.body)


@dataclass(frozen=True)
class _Dot:
    """c[r, v] += a[r, x] * b[x, v]: axes and tiles of a dot."""

    stmt: ir.DotTile
    r: str
    v: str
    a: Tile
    b: Tile


class ChainBody(Body):
    """Statements of a chain: arrays are padded to whole registers, dots use register tiles."""

    takes_part_of_tiles = False

    def __init__(self, kernel: ir.Kernel, code: Code, machine: Machine):
        super().__init__(kernel, code, machine)
        self.direct: set[int] = set()
        """Tiles that are read straight from memory."""
        dots = [s for s in statements(kernel.body) if isinstance(s, ir.DotTile)]
        (self.loop_axis,) = {s.k for s in dots if kernel.axis(s.k).role is Role.LOOP}
        self.dots = {id(s): self.sides(s) for s in dots}
        first = (self.dots[id(s)] for s in dots if s.k != self.loop_axis)
        self.turned = {d.b.id for d in first if d is not None}
        """Tiles over m and a whole axis that lie as [..][m]."""
        self.fresh: set[int] = set()
        """Carries that a dot fills by itself."""
        self.dot_only = {t for t, users in self.consumers.items() if users <= set(self.dots)}

    def sides(self, s: ir.DotTile) -> _Dot | None:
        """Which operand is read element by element; None where one is a constant along an axis."""
        if set(s.carry.dims) != {s.m, s.n} or {s.m, s.k} != set(s.a.dims):
            return None
        if set(s.b.dims) != {s.n, s.k}:
            return None
        kinds = {ops.register_type(t.dtype) for t in (s.carry, s.a, s.b)}
        if kinds not in ({"float"}, {"double"}):
            return None
        v = s.carry.dims[-1]
        if v == s.n:
            return _Dot(s, s.m, s.n, s.a, s.b)
        return _Dot(s, s.n, s.m, s.b, s.a)

    def computed(self, stmt: ir.ComputeTile) -> str:
        """A choice between scores that were just written loads them whatever the mask says: a load
        under a mask waits until they are in the cache. On Zen 4 (2026-11) forward attention of 512
        causal queries took 1.1 times as long."""
        wide = {"float": "f32", "double": "f64"}.get(ops.register_type(stmt.out.dtype))
        if stmt.op is Op.WHERE and wide is not None and stmt.args[1].id in self.arrays:
            return f"tg_where_{wide}({', '.join(self.element(a) for a in stmt.args)})"
        return super().computed(stmt)

    # -- arrays ---------------------------------------------------------------------------------

    def width(self, axis: str, tile: Tile) -> int:
        """Elements of an axis in an array, padded to whole registers and to the rows of a register
        tile, whichever the axis is."""
        lanes = self.machine.lanes(tile.dtype.accumulator.itemsize)
        step = max(lanes, *FEW_REGISTERS.values(), *ROWS.values())  # powers of two
        return -(-self.block(axis) // step) * step

    def declare_array(self, tile: Tile) -> None:
        """A local array with room for whole registers along its last axis."""
        dims = tile.dims
        if tile.id in self.turned:
            dims = tuple(sorted(dims, key=lambda d: self.kernel.axis(d).role is Role.GRID))
        strides, size = row_major([(d, self.width(d, tile)) for d in dims])
        self.arrays[tile.id] = Array(str(tile), strides)
        self.code.line(f"{ops.array_type(tile.dtype)} {tile}[{size}] __attribute__((aligned(64)));")

    def stride(self, tile: Tile, axis: str) -> int:
        return dict(self.arrays[tile.id].strides).get(axis, 0)

    # -- scopes ---------------------------------------------------------------------------------

    def scope(self, stmts: tuple[ir.Stmt, ...] | list[ir.Stmt]) -> None:
        filled = {s.carry.id for s in stmts if isinstance(s, ir.DotTile) and self.dots[id(s)]}
        left: list[ir.Stmt] = []
        for s in stmts:
            if isinstance(s, ir.Init) and s.out.id in filled:
                self.fresh.add(s.out.id)
            elif isinstance(s, ir.LoadTile) and self.is_direct(s):
                self.point(s)
            elif isinstance(s, ir.LoadTile) and self.can_transpose(s):
                self.transpose(s)
            else:
                left.append(s)
        super().scope(left)

    def is_direct(self, s: ir.LoadTile) -> bool:
        """Whether dots read the tile straight from memory."""
        slot = self.kernel.slots[s.slot]
        if s.out.id not in self.dot_only or s.out.id in self.turned or s.mask or s.index.loaded():
            return False
        if ops.memory_type(slot.dtype) != ops.register_type(s.out.dtype):
            return False
        lanes = self.machine.lanes(slot.dtype.itemsize)

        def forward(axis: str) -> bool:
            return (s.index.stride(axis) or 0) > 0

        for dot in self.dots.values():
            if dot is None:
                continue
            if dot.a.id == s.out.id and not all(map(forward, (dot.r, dot.stmt.k))):
                return False
            if dot.b.id == s.out.id:
                even = self.kernel.axis(dot.v).extent % lanes == 0
                if not even or s.index.stride(dot.v) != 1 or not forward(dot.stmt.k):
                    return False
        return True

    def first(self, e: Index) -> str:
        """C text of an index at the first element of each tile."""
        wide = (n for n in e.variables() if self.kernel.axis(n).block > 1)
        return self.index_at(e, self.starts(*wide))

    def point(self, s: ir.LoadTile) -> None:
        kind = ops.memory_type(self.kernel.slots[s.slot].dtype)
        slot = self.slot_name[s.slot]
        self.code.line(f"const {kind} *const {s.out} = {slot} + ({self.first(s.index)});")
        strides = tuple((d, s.index.stride(d) or 0) for d in s.out.dims)
        self.arrays[s.out.id] = Array(str(s.out), strides)
        self.direct.add(s.out.id)

    def can_transpose(self, s: ir.LoadTile) -> bool:
        """Whether whole registers of rows can be turned at once."""
        if s.out.id not in self.turned or s.mask or s.index.loaded() or len(s.out.dims) != 2:
            return False
        slot = self.kernel.slots[s.slot]
        if ops.memory_type(slot.dtype) != ops.register_type(s.out.dtype):
            return False
        m, x = sorted(s.out.dims, key=lambda d: self.kernel.axis(d).role is not Role.GRID)
        lanes = self.machine.lanes(slot.dtype.itemsize)
        axis = self.kernel.axis(m)
        even = axis.extent % lanes == 0 and axis.block % lanes == 0
        return even and s.index.stride(x) == 1 and bool(s.index.stride(m))

    def transpose(self, s: ir.LoadTile) -> None:
        self.declare_array(s.out)
        m, x = sorted(s.out.dims, key=lambda d: self.kernel.axis(d).role is not Role.GRID)
        kind = ops.register_type(s.out.dtype)
        lanes = self.machine.lanes(s.out.dtype.itemsize)
        name, step = self.axis_name[m], s.index.stride(m)
        source = f"{self.slot_name[s.slot]} + ({self.first(s.index)})"
        self.code.line(f"for (ptrdiff_t i = 0; i < {name}_hi - {name}_lo; i += {lanes})")
        self.code.line(
            f"  tg_transpose_{kind}_{lanes}({source} + i * {step}, {step}, "
            f"{self.block(x)}, {s.out} + i, {self.width(m, s.out)});"
        )

    # -- loops, reductions, dots ----------------------------------------------------------------

    def loop(self, loop: ir.Loop, start: str = "0", stop: str | None = None) -> None:
        axis = self.kernel.axis(loop.axis)
        stop = str(axis.extent)
        for e in loop.start:
            start = f"tg_max({start}, {self.first(e)})"
        for e in loop.stop:
            stop = f"tg_min({stop}, {self.first(e)})"
        name = self.axis_name[loop.axis]
        if loop.start:
            block = f" / {axis.block} * {axis.block}" if axis.block > 1 else ""
            self.code.line(f"const {self.ctype} {name}_start = {start}{block};")
            start = f"{name}_start"
        if loop.stop:
            self.code.line(f"const {self.ctype} {name}_stop = {stop};")
            stop = f"{name}_stop"
        super().loop(loop, start, stop)

    def reduce(self, stmt: ir.ReduceTile) -> None:
        """A reduction over k of a tile [k][m], row by row."""
        out, code = stmt.out, self.code
        if len(out.dims) != 1:
            super().reduce(stmt)
            return
        self.declare_array(out)
        place, op = self.element(out), REDUCE_COMBINE[stmt.op]
        start = ops.identity(stmt.op, out.dtype)
        (m,) = out.dims
        code.pragma("omp simd")
        code.line(f"{self.lane_loop(m)} {place} = {start};")
        with code.block(*(self.lane_loop(d) for d in stmt.axes)):
            code.pragma("omp simd")
            text = ops.combine(op, place, self.element(stmt.arg), out.dtype)
            code.line(f"{self.lane_loop(m)} {place} = {text};")

    def naive_dot(self, stmt: ir.DotTile) -> None:
        """A dot in register tiles, where its operands lie as they must."""
        dot, carry = self.dots[id(stmt)], stmt.carry
        fresh = carry.id in self.fresh
        if fresh:
            self.declare_array(carry)
        if dot is None or self.stride(dot.b, dot.v) != 1:
            self.broadcast_dot(stmt, fresh)
            return
        kind, lanes = ops.register_type(carry.dtype), self.machine.lanes(carry.dtype.itemsize)
        r, x = self.axis_name[dot.r], self.axis_name[stmt.k]
        vectors = self.width(dot.v, carry) // lanes
        table = ROWS if self.machine.vector_registers >= 32 else FEW_REGISTERS
        nv = max(n for n in table if vectors % n == 0)
        rs, ks = self.stride(dot.a, dot.r), self.stride(dot.a, stmt.k)
        ldb, ldc = self.stride(dot.b, stmt.k), self.stride(carry, dot.r)

        def call(rows: int) -> str:
            name = f"tg_dot_{kind}_{rows}x{nv}x{lanes}_{rs}_{ks}_{ldb}"
            return (
                f"{name}({x}_hi - {x}_lo, {dot.a} + i * {rs}, {dot.b} + j, "
                f"{carry} + i * {ldc} + j, {ldc}, {int(fresh)});"
            )

        mr = self.rows(dot.r, nv, table[nv])
        panel = f"for (ptrdiff_t j = 0; j < {vectors * lanes}; j += {nv * lanes})"
        if dot.a.id not in self.direct and mr == table[nv]:  # arrays have room for whole tiles
            with self.code.block(panel, f"for (ptrdiff_t i = 0; i < {r}_hi - {r}_lo; i += {mr})"):
                self.code.line(call(mr))
            return
        tail = self.tail(dot.r, mr)
        with self.code.block(panel):
            self.code.line("ptrdiff_t i = 0;")
            self.code.line(f"for (; i + {mr} <= {r}_hi - {r}_lo; i += {mr})")
            self.code.line(f"  {call(mr)}")
            if tail:
                self.code.line(f"if (i < {r}_hi - {r}_lo)")
                self.code.line(f"  {call(tail)}")

    def rows(self, axis: str, nv: int, rows: int) -> int:
        """Rows of a register tile: more than the table has where its sums are too few to be in
        flight and all tiles along the axis leave equally many rows."""
        a = self.kernel.axis(axis)
        is_even = a.extent % self.block(axis) == 0 and self.block(axis) > MORE_ROWS
        return MORE_ROWS if nv == 2 and rows * nv < SUMS_IN_FLIGHT and is_even else rows

    def tail(self, axis: str, mr: int) -> int:
        """Rows beyond whole register tiles, of which memory has no more than there are."""
        a = self.kernel.axis(axis)
        return (a.extent % self.block(axis) or self.block(axis)) % mr

    def broadcast_dot(self, stmt: ir.DotTile, fresh: bool) -> None:
        """Plain loops, for operands that are constant along an axis."""
        carry, kind = stmt.carry, ops.register_type(stmt.carry.dtype)
        dims = [d for d in carry.dims if self.kernel.axis(d).block > 1]
        if fresh:
            with self.code.block(*[self.lane_loop(d) for d in dims] or [""]):
                self.code.line(f"{self.element(carry)} = 0;")
        a, b = self.element(stmt.a), self.element(stmt.b)
        with self.code.block(*(self.lane_loop(d) for d in (stmt.k, *dims))):
            self.code.line(f"{self.element(carry)} += ({kind}){a} * ({kind}){b};")
