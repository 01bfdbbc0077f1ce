"""How a dot kernel is computed: which axis fills vector registers, tile sizes, packing.

In: a dot kernel (or a region, through a provisional kernel) and the machine. Out: `DotPlan`.
Invariant: a plan depends on sizes, strides and the machine only, never on data.

c[r, v] += a[r, k] * b[k, v]: the *row* axis r is broadcast element by element, the *vector* axis v
fills vector registers. Either of m and n can be v. The v operand is packed in panels of a few
vectors, the r operand in rows (contiguous along k) or columns (contiguous along r), whichever its
memory is, so that a transposing copy is needed for a v operand contiguous along k only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tgrad import dtype as dt
from tgrad.cpu_fallback.dot_words import Words, words_of
from tgrad.cpu_fallback.emit_index import Run, run_along
from tgrad.cpu_fallback.target import Machine
from tgrad.graph.index import Index
from tgrad.kernel import ir
from tgrad.kernel.ir import RegisterTile, Role, Tile, statements
from tgrad.kernel.statements import made_by, reads_of

ROW_STRIDES = (48, 144, 272, 400, 528)
"""Elements between packed rows: an odd number of cache lines, few variants to compile."""

STATIONARY_BYTES = 4 << 20
"""Largest operand tile that is packed for all of k and kept."""

SUMS_IN_FLIGHT = 10
"""Sums that keep two multiply-add units of four cycles busy, and two to spare (GFLOP/s of tiles of
4x2, 5x2 and 6x2 vectors on a core of Zen 3: 60, 89, 86; 2026-11)."""

PACK_CYCLES = {"lanes": 0.2, "rows": 0.2, "transpose": 0.7, "gather": 2.5, "runs": 0.8}
"""Cycles to pack one element, by how memory is read (gcc 12, Zen 5, 16 elements a register)."""


@dataclass(frozen=True)
class Operand:
    """One side of the product: statements in the loop that make its tile."""

    tile: Tile
    lane: str
    stmts: tuple[ir.Stmt, ...]
    lane_run: Run | None
    k_run: Run | None

    def is_contiguous_along_lane(self) -> bool:
        return _is_contiguous(self.lane_run)

    def is_contiguous_along_k(self) -> bool:
        return _is_contiguous(self.k_run)


@dataclass(frozen=True)
class DotProgram:
    """A kernel that is one dot: statements before, in and after the loop over k.

    Attributes:
        start, stop: bounds of the loop; outside of them the operands are 0.
    """

    kernel: ir.Kernel
    dot: ir.DotTile
    before: tuple[ir.Stmt, ...]
    after: tuple[ir.Stmt, ...]
    a: Operand
    b: Operand
    start: tuple[Index, ...] = ()
    stop: tuple[Index, ...] = ()


@dataclass(frozen=True)
class DotPlan:
    """Decisions about a DotProgram.

    Attributes:
        v, r: names of the vector axis and the row axis.
        vector, row: the operands along them.
        lanes: elements of a vector register.
        nv: vectors of a register tile; nr = nv * lanes elements.
        mr: rows of a register tile.
        v_mode, r_mode: "lanes" or "rows": the axis along which packing reads memory.
        words: how operands are packed where an instruction takes several elements at once.
    """

    v: str
    r: str
    vector: Operand
    row: Operand
    lanes: int
    nv: int
    mr: int
    v_mode: str
    r_mode: str
    words: Words | None = None

    @property
    def together(self) -> int:
        """Steps of k that one multiply-add takes."""
        return 1 if self.words is None else self.words.size

    @property
    def nr(self) -> int:
        return self.nv * self.lanes

    @property
    def v_cycles(self) -> float:
        """Of packing an element of the vector operand."""
        return pack_cycles(_packing(self.vector, self.v_mode, transposes=True), self.lanes)

    @property
    def r_cycles(self) -> float:
        """Of packing an element of the row operand."""
        return pack_cycles(_packing(self.row, self.r_mode, transposes=False), self.lanes)

    @property
    def registers(self) -> RegisterTile:
        return RegisterTile(self.v, self.nv, self.mr)


def _is_contiguous(run: Run | None) -> bool:
    return run is not None and run.step == 1 and (run.period == 0 or run.period >= 8)


def match_dot(kernel: ir.Kernel) -> DotProgram | None:
    """The kernel as a DotProgram; None if it has another form."""
    dots = [s for s in statements(kernel.body) if isinstance(s, ir.DotTile)]
    if len(dots) != 1:
        return None
    dot = dots[0]
    at = [
        i
        for i, s in enumerate(kernel.body)
        if isinstance(s, ir.Loop) and s.axis == dot.k and any(t is dot for t in s.body)
    ]
    if len(at) != 1:
        return None
    loop = kernel.body[at[0]]
    assert isinstance(loop, ir.Loop)
    inside = [s for s in loop.body if s is not dot]
    axes_fit = all(kernel.axis(x).role is Role.GRID for x in (dot.m, dot.n))
    axes_fit = axes_fit and kernel.axis(dot.k).extent > 0
    if not axes_fit or any(not isinstance(s, ir.Pure) for s in inside):
        return None
    before = list(kernel.body[: at[0]])
    init = [s for s in before if isinstance(s, ir.Init) and s.out.id == dot.carry.id]
    allowed = {dot.m, dot.n, dot.k}
    wide = set(dot.a.dims) | set(dot.b.dims) | set(dot.carry.dims)
    if len(init) != 1 or init[0].value != 0 or not wide <= allowed:
        return None
    if dot.n in dot.a.dims or dot.m in dot.b.dims:
        return None
    a, b = make_operand(dot.a, dot.m, dot.k, inside), make_operand(dot.b, dot.n, dot.k, inside)
    early, late = split_before([s for s in before if s is not init[0]], loop)
    after = (*late, *kernel.body[at[0] + 1 :])
    return DotProgram(kernel, dot, tuple(early), after, a, b, loop.start, loop.stop)


def split_before(stmts: list[ir.Stmt], loop: ir.Loop) -> tuple[list[ir.Stmt], list[ir.Stmt]]:
    """Statements that the loop needs, and those that can wait for the epilogue."""
    if any(not isinstance(s, ir.Pure) for s in stmts):
        return stmts, []
    early = made_by(reads_of(loop), stmts)
    kept = {id(s) for s in early}
    return list(early), [s for s in stmts if id(s) not in kept]


def make_operand(tile: Tile, lane: str, k: str, inside: Sequence[ir.Stmt]) -> Operand:
    """The operand whose tile the statements make."""
    stmts = made_by([tile.id], inside)
    loads = [s for s in stmts if isinstance(s, ir.LoadTile)]
    main = max(loads, key=lambda s: len(s.out.dims), default=None)
    if main is None:
        return Operand(tile, lane, stmts, Run(0, 1), Run(0, 1))
    return Operand(tile, lane, stmts, run_along(main.index, lane), run_along(main.index, k))


def carry_dtype(program: DotProgram) -> dt.DType:
    """What the contraction computes in."""
    dtype = program.dot.carry.dtype
    return dt.float32 if dtype.is_narrow else dtype


def plan_dot(
    program: DotProgram, machine: Machine, registers: RegisterTile | None = None
) -> DotPlan:
    """The plan with the given registers, else the cheapest one."""
    plans = rate_plans(program, machine, registers)
    return min(plans, key=lambda p: p[0])[1]


def rate_plans(
    program: DotProgram, machine: Machine, registers: RegisterTile | None = None
) -> list[tuple[float, DotPlan]]:
    """Plans with their cycles, a plan for each vector axis: multiply-adds with padding, packing,
    stores."""
    kernel, dot = program.kernel, program.dot
    lanes = machine.lanes(carry_dtype(program).itemsize)
    m, n, k = (max(1, kernel.axis(x).extent) for x in (dot.m, dot.n, dot.k))
    stores = [s for s in program.after if isinstance(s, ir.StoreTile)]
    plans: list[tuple[float, DotPlan]] = []
    for v, r, vector, row in (
        (dot.n, dot.m, program.b, program.a),
        (dot.m, dot.n, program.a, program.b),
    ):
        ext_v, ext_r = (n, m) if v == dot.n else (m, n)
        if registers is None:
            nv, mr = register_tile(ext_v, ext_r, lanes, machine)
        elif registers.axis == v:
            nv, mr = registers.vectors, registers.rows
        else:
            continue
        v_mode = "lanes"
        if not vector.is_contiguous_along_lane() and vector.is_contiguous_along_k():
            v_mode = "rows"
        r_mode = "rows"
        if not row.is_contiguous_along_k() and row.is_contiguous_along_lane():
            r_mode = "lanes"
        padded_v = -(-ext_v // (nv * lanes)) * nv * lanes
        padded_r = -(-ext_r // mr) * mr
        words = words_of(row.tile.dtype, vector.tile.dtype, carry_dtype(program), machine)
        steps = k if words is None else -(-k // words.size)
        plan = DotPlan(v, r, vector, row, lanes, nv, mr, v_mode, r_mode, words)
        cycles = padded_v * padded_r * steps / (lanes * 2) * (1 + 1 / mr)
        cycles += ext_v * k * plan.v_cycles + ext_r * k * plan.r_cycles
        for store in stores:
            run = run_along(store.index, v)
            cycles += m * n * (0.3 if _is_contiguous(run) else 2.0)
        plans.append((cycles, plan))
    return plans


def pack_cycles(packing: str, lanes: int) -> float:
    """Cycles to pack one element: narrow registers move fewer at once."""
    return PACK_CYCLES[packing] * 16 / lanes


def _packing(operand: Operand, mode: str, transposes: bool) -> str:
    """How memory is read; the vector operand `transposes` what is contiguous along k."""
    if mode == "rows" and operand.is_contiguous_along_k():
        return "transpose" if transposes else "rows"
    if mode == "lanes" and operand.is_contiguous_along_lane():
        assert operand.lane_run is not None
        short = 0 < operand.lane_run.period <= 64
        return "runs" if short and not transposes else "lanes"
    return "gather"


def _penalty(machine: Machine) -> dict[int, float]:
    """By the vectors of a register tile, the part of its time that fewer than most cost."""
    return {3: 0.0, 2: 0.03, 1: 0.15} if machine.vector_registers >= 32 else {2: 0.0, 1: 0.2}


def vectors_of(extent: int, lanes: int, machine: Machine) -> int:
    """Vectors of a register tile: as many as waste little on the last panel."""
    vectors = -(-extent // lanes)
    penalty = _penalty(machine)
    return min(penalty, key=lambda nv: (-(-vectors // nv) * nv * (1 + penalty[nv]), -nv))


def tile_cycles(mr: int, nv: int) -> float:
    """Multiply-adds of vectors that a register tile takes time for, a step of k: with few sums each
    waits for its own last one, and with few rows loads of the vector operand count."""
    return max(mr * nv, SUMS_IN_FLIGHT) * (1 + 0.3 / mr)


def register_tile(ext_v: int, ext_r: int, lanes: int, machine: Machine) -> tuple[int, int]:
    """Vectors and rows of the register tile: all registers but those of the operands, as little
    padding as can be (with 16 registers, 4x3 instead of 5x2 for the 32 channels of a first 5x5
    convolution: 0.91 of the time on two cores of Zen 3; 2026-11)."""
    most = {3: 8, 2: 12, 1: 16} if machine.vector_registers >= 32 else {2: 6, 3: 4, 1: 10}
    penalty = _penalty(machine)
    rated = []
    for nv, rows in most.items():
        if nv > max(1, -(-ext_v // lanes)):
            continue
        heights = [ext_r] if ext_r <= rows else range(max(1, rows // 2), rows + 1)
        for mr in heights:
            tiles = -(-ext_v // (nv * lanes)) * -(-ext_r // mr)
            cycles = tiles * tile_cycles(mr, nv) * (1 + penalty.get(nv, 0.0))
            rated.append((cycles, -mr * nv, nv, mr))
    return min(rated)[2:]


def row_stride(kc: int) -> int:
    """Elements between packed rows of up to kc elements."""
    return next((s for s in ROW_STRIDES if s >= kc), kc + 16)


def is_whole(kernel: ir.Kernel, name: str, part: int) -> bool:
    """Whether all tiles along an axis have whole parts."""
    axis = kernel.axis(name)
    is_limited = any(x.axis == name for x in kernel.limits)
    return not is_limited and axis.extent % part == 0 and axis.block % part == 0
