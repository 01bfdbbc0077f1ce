"""The tile program: one IR that Triton, C and OpenCL print.

In: nothing. Out: `Kernel`. Invariant: every tile is assigned once, before use, in an enclosing
scope; the axes of a tile are those of its operands (reduced ones less), in the kernel's axis
order; axes with block 1 are plain integers and never appear among a tile's dims.

Grammar:
    kernel = name slots axes body [table]
    axis   = name extent block role(grid | loop | full)
    stmt   = tile = load slot[index] if mask | tile = const | tile = index | tile = inside mask
           | tile = op(tiles) | tile = reduce_op(tile) over axes
           | init tile = number                    a carry, declared before the loop that updates it
           | tile = scan_op(tiles) along axis, after carry
           | tile = argsort(tile) along axis
           | loop axis [from max(..)] [to min(..)]: stmts [then: stmts]
                                                   sequential, over tiles of the axis
           | tile op= tile                         accumulate elementwise into a carry, broadcast
           | keep tile = tile                      a carry is what the next step finds in it
           | tile, tile += exp tile                the largest, and the sum of exp(tile - largest)
           | tile, tile = join exp tile, tile over axes
           | tile += dot(tile[m k], tile[k n])     contract over an axis into a carry
           | stash tile | tile = unstash tile      keep a row on chip between two loops over it
           | slot[index] op= tile if mask

Axes: a GRID axis is split over programs, a program owning `block` neighbouring elements; a LOOP
axis is walked by every program in steps of `block`; a FULL axis lies in one tile (block >= extent).
In index expressions the variable named like the axis is the element's own index (program or step
times block plus lane). Lanes at or beyond an axis's extent are undefined: loads and stores must not
touch memory there, and reductions, accumulations over a reduced axis and dots must ignore them.
A loop's bounds are index expressions in which the variable of a GRID axis stands for the first
element of its tile; the loop takes the steps that reach into [max(0, start), min(extent, stop)).
What stands under `then` is repeated after the last step, with the axis one step further.
A stash keeps its tile for each step of the loop it stands in; the unstash stands in a later loop
over the same axis, in the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from tgrad.dtype import DType
from tgrad.errors import Source
from tgrad.fusion.region import Axis, AxisLimit, Mask, Slot, Table
from tgrad.graph.index import Index
from tgrad.graph.op import Op


class Role(Enum):
    """How the elements of an axis are walked; see the module's docstring."""

    GRID = "grid"
    LOOP = "loop"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class TileAxis:
    """One axis of the tile program, covering one or several region axes (row-major).

    Attributes:
        name: variable in index expressions.
        covers: region axes, outermost first; extent is the product of theirs.
        block: elements a tile has along it.
        role: see `Role`.
    """

    name: str
    covers: tuple[Axis, ...]
    block: int
    role: Role

    @property
    def extent(self) -> int:
        n = 1
        for axis in self.covers:
            n *= axis.extent
        return n

    @property
    def steps(self) -> int:
        """Number of tiles along the axis."""
        return -(-self.extent // self.block)

    @property
    def is_ragged(self) -> bool:
        """Whether the last tile has lanes beyond the extent."""
        return self.extent % self.block != 0


@dataclass(frozen=True, slots=True)
class RegisterTile:
    """The part of a dot that a CPU keeps in registers.

    Attributes:
        axis: the tile axis whose elements fill vector registers.
        vectors: registers along it.
        rows: elements along the other axis, each broadcast.
    """

    axis: str
    vectors: int
    rows: int


@dataclass(frozen=True, slots=True)
class Config:
    """What a heuristic or a search decides about a kernel.

    Attributes:
        axes: tile axes in the kernel's order; together they cover each region axis once.
            For a dot the order is batch, m, inner, k, n; for a chain batch, m and k, inner, n,
            where k is LOOP, m is GRID, inner and n are FULL.
        num_warps, num_stages: Triton's launch options.
        stash_limit: rows of up to this many elements may be stashed between loops (0: never).
        group_m: tiles of m that run before n advances, for reuse in the L2 cache.
        registers: of a dot on a CPU; None where the emitter chooses.
        band: rows of a convolution's result that one program computes on a CPU; 0 for as many as
            fit its cache.
        winograd: points along each direction of a convolution that a CPU computes by minimal
            filtering; 0 for the plain sum.
        epilogue_parts: parts of a dot's columns that its epilogue takes one after the other.
        programs: how many walk over all tiles of a dot; 0 for one a tile.
        descriptors: whether matrices that a dot reads are loaded through tensor descriptors.
        late_products: whether what ends a step of a chain is multiplied in the next one on a GPU.
        input_precision: of float32 operands of a dot on a GPU, Triton's "ieee" or "tf32"; the
            user's choice, and no search's.
        origin: "heuristic", "stored", or "nearest": stored for a kernel of other sizes.
    """

    axes: tuple[TileAxis, ...]
    num_warps: int = 4
    num_stages: int = 2
    stash_limit: int = 0
    group_m: int = 1
    registers: RegisterTile | None = None
    band: int = 0
    winograd: int = 0
    epilogue_parts: int = 1
    programs: int = 0
    descriptors: bool = False
    late_products: bool = False
    input_precision: str = "ieee"
    origin: str = "heuristic"


@dataclass(frozen=True, slots=True)
class Tile:
    """A value of the program: a scalar if `dims` is empty, a tile over the named axes else."""

    id: int
    dtype: DType
    dims: tuple[str, ...]

    def __str__(self) -> str:
        return f"t{self.id}"


@dataclass(frozen=True, slots=True)
class LoadTile:
    """out = slot[index], zero where a bound of the mask does not hold."""

    out: Tile
    slot: int
    index: Index
    mask: Mask


@dataclass(frozen=True, slots=True)
class ConstTile:
    """out = number (dims are always empty)."""

    out: Tile
    value: bool | int | float


@dataclass(frozen=True, slots=True)
class IndexTile:
    """out = value of the index expression, cast to out.dtype."""

    out: Tile
    index: Index


@dataclass(frozen=True, slots=True)
class InsideTile:
    """out = all bounds hold (bool)."""

    out: Tile
    mask: Mask


@dataclass(frozen=True, slots=True)
class ComputeTile:
    """out = op(args), elementwise with broadcasting by axis name."""

    out: Tile
    op: Op
    args: tuple[Tile, ...]
    word: int = 0


@dataclass(frozen=True, slots=True)
class ReduceTile:
    """out = reduction of arg over its axes `axes` within the tile (Op.REDUCE_*)."""

    out: Tile
    op: Op
    arg: Tile
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ScanTile:
    """out = scan of args along an axis (Op.SCAN_*) within the tile, after what carry holds of the
    tiles before; the carry (None for a FULL axis) then holds what this tile adds."""

    out: Tile
    op: Op
    args: tuple[Tile, ...]
    carry: Tile | None
    axis: str


@dataclass(frozen=True, slots=True)
class SortTile:
    """out = places along a FULL axis of arg's elements (unsigned, at most 32 bits unless `first` is
    said) in ascending order, equal ones in theirs; 0 after the `first` ones, if it is not 0."""

    out: Tile
    arg: Tile
    axis: str
    first: int = 0


@dataclass(frozen=True, slots=True)
class Init:
    """A carry: out = number in every lane, to be updated by Accumulate or DotTile."""

    out: Tile
    value: bool | int | float


@dataclass(frozen=True, slots=True)
class Accumulate:
    """carry = op(carry, value), elementwise; op is ADD, MUL, MAXIMUM or MINIMUM. A value that lacks
    dims of the carry is broadcast."""

    carry: Tile
    op: Op
    value: Tile


@dataclass(frozen=True, slots=True)
class Keep:
    """carry = value, for the next step of the loop."""

    carry: Tile
    value: Tile


@dataclass(frozen=True, slots=True)
class AccumulateExp:
    """largest, total = next, total * exp(largest - next) + exp(value - next) with next =
    maximum(largest, value): of what a lane or a few together have been given. While those are all
    -inf the total is 0. The carries start at -inf and 0 and have the value's dims."""

    largest: Tile
    total: Tile
    value: Tile


@dataclass(frozen=True, slots=True)
class JoinExp:
    """out_largest = largest, reduced over `axes`; out_total = sum over them of
    total * exp(largest - out_largest): NaN where there is a NaN or +inf, and where all are -inf."""

    out_largest: Tile
    out_total: Tile
    largest: Tile
    total: Tile
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DotTile:
    """carry[m n] += sum over k of a[m k] * b[k n], in carry.dtype. An operand may lack m, k or n
    from its dims if it is constant along it (broadcast)."""

    carry: Tile
    a: Tile
    b: Tile
    m: str
    n: str
    k: str


@dataclass(frozen=True, slots=True)
class Stash:
    """Keep value for the present step of the enclosing loops over `axes`, under out.id's name."""

    out: Tile
    value: Tile
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unstash:
    """out = what the same step of an earlier loop kept under stash.id's name."""

    out: Tile
    stash: Tile
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoreTile:
    """slot[index] = value (combine "set"), or combined atomically with what is there."""

    slot: int
    index: Index
    mask: Mask
    value: Tile
    combine: str = "set"


@dataclass(frozen=True, slots=True)
class Loop:
    """Sequential steps over the tiles of a LOOP axis that reach into its bounds; none unless what
    it `needs` holds. `late` are statements of the body once more, after the last step, where the
    axis is one step further."""

    axis: str
    body: tuple[Stmt, ...]
    start: tuple[Index, ...] = ()
    stop: tuple[Index, ...] = ()
    late: tuple[Stmt, ...] = ()
    needs: Mask = ()


Pure = LoadTile | ConstTile | IndexTile | InsideTile | ComputeTile
"""What makes a tile and does nothing else."""

OfTriton = Keep | AccumulateExp | JoinExp
"""What passes of the Triton generator alone make."""

Stmt = (
    LoadTile
    | ConstTile
    | IndexTile
    | InsideTile
    | ComputeTile
    | ReduceTile
    | ScanTile
    | SortTile
    | Init
    | Accumulate
    | Keep
    | AccumulateExp
    | JoinExp
    | DotTile
    | Stash
    | Unstash
    | StoreTile
    | Loop
)


@dataclass(frozen=True)
class Kernel:
    """A tile program.

    Attributes:
        name: identifier in the generated source.
        slots: buffers in the order of the kernel's pointer arguments.
        axes: tile axes in order; tiles list their dims in this order.
        body: statements of one program.
        equation: what it computes, a line or more of text, for the source's header.
        source: the user's line.
        limits: programs that need not run, by tile axis; see fusion/region.py.
        table: the members, if one launch runs the program for several. The grid then has one axis
            more, outermost, and a program uses the buffers of its member. With lengths, the only
            axis has that many elements, not `extent`.
    """

    name: str
    slots: tuple[Slot, ...]
    axes: tuple[TileAxis, ...]
    body: tuple[Stmt, ...]
    equation: str
    source: Source
    limits: tuple[AxisLimit, ...] = ()
    table: Table | None = None

    def axis(self, name: str) -> TileAxis:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, TileAxis]:
        return {a.name: a for a in self.axes}

    @cached_property
    def grid(self) -> tuple[TileAxis, ...]:
        """GRID axes, outermost first."""
        return tuple(a for a in self.axes if a.role is Role.GRID)

    @property
    def num_programs(self) -> int:
        return count_programs(self.axes, self.table)


def count_programs(axes: tuple[TileAxis, ...], table: Table | None) -> int:
    """Size of the grid of all members together."""
    if table is not None and table.lengths:
        return sum(programs_of_members(axes, table))
    n = 1 if table is None else table.members
    for a in axes:
        n *= a.steps if a.role is Role.GRID else 1
    return n


def count_launched(config: Config, table: Table | None) -> int:
    """Size of the grid that is launched: programs that walk over tiles are fewer than these."""
    tiles = count_programs(config.axes, table)
    return min(tiles, config.programs) if config.programs else tiles


WORK_GROUP = 64
"""Programs that OpenCL starts together, or a half, a quarter .. of that: so a grid that it divides
has no work-items to spare. Two or one of the units that GPUs schedule."""


def statements(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """All statements, those inside loops included."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, Loop):
            yield from statements(stmt.body)


def reads(stmt: Stmt) -> tuple[Tile, ...]:
    """Tiles that a statement reads, those inside its indices and inner statements left out."""
    match stmt:
        case ComputeTile():
            return stmt.args
        case ReduceTile() | SortTile():
            return (stmt.arg,)
        case ScanTile():
            return stmt.args if stmt.carry is None else (*stmt.args, stmt.carry)
        case Accumulate() | Keep():
            return (stmt.carry, stmt.value)
        case AccumulateExp():
            return (stmt.largest, stmt.total, stmt.value)
        case JoinExp():
            return (stmt.largest, stmt.total)
        case DotTile():
            return (stmt.carry, stmt.a, stmt.b)
        case Stash():
            return (stmt.value,)
        case StoreTile():
            return (stmt.value,)
        case _:
            return ()


def indices_of(stmt: Stmt) -> tuple[Index, ...]:
    """Index expressions that a statement evaluates, those of inner statements left out."""
    own = (stmt.index,) if isinstance(stmt, (LoadTile, IndexTile, StoreTile)) else ()
    mask = stmt.mask if isinstance(stmt, (LoadTile, InsideTile, StoreTile)) else ()
    if isinstance(stmt, Loop):
        mask = stmt.needs
    return (*own, *(b.index for b in mask if not b.is_always))


def read_numbers(stmt: Stmt) -> set[int]:
    """Numbers of the tiles that a statement reads, those inside its indices too."""
    return {t.id for t in reads(stmt)} | {n for e in indices_of(stmt) for n in e.loaded()}


def programs_of_members(axes: tuple[TileAxis, ...], table: Table) -> tuple[int, ...]:
    """Size of the grid of each member of a table with lengths."""
    (axis,) = axes
    if axis.role is not Role.GRID:
        return table.members * (1,)
    return tuple(-(-n // axis.block) for n in table.lengths)


@dataclass(frozen=True)
class Draft:
    """A kernel's generated source, not compiled yet."""

    kernel: Kernel
    config: Config
    source: str


@dataclass(frozen=True)
class StaticFigures:
    """What a compiled kernel says about itself without running; None where not known.

    Attributes:
        registers: of a thread.
        spills: bytes (NVIDIA) or registers (AMD) that do not fit.
        shared: bytes of shared memory or LDS.
        matrix_instruction: the first one, or None.
        widest_load: bits of the widest access of a thread to global memory; 0 if there is none.
        async_copies: instructions that copy from global to shared memory by themselves.
    """

    registers: int | None = None
    spills: int | None = None
    shared: int | None = None
    matrix_instruction: str | None = None
    widest_load: int | None = None
    async_copies: int | None = None


@dataclass(frozen=True)
class PointerTable:
    """How the buffers of a batch's launch become arguments of a kernel that reads a table.

    Attributes:
        shared: numbers of the buffers that are arguments, in order; the table is the last one.
        own: numbers of the buffers whose addresses the table begins with.
        numbers: what follows in it.
    """

    shared: tuple[int, ...]
    own: tuple[int, ...]
    numbers: tuple[int, ...]

    def contents(self, addresses: Sequence[int]) -> tuple[int, ...]:
        """The table for a launch on buffers at these addresses."""
        return (*(addresses[n] for n in self.own), *self.numbers)


@dataclass(frozen=True)
class Executable:
    """A compiled kernel, ready to launch by the device's runtime.

    Attributes:
        name: the kernel's name.
        path: where its source is kept in the cache, or "".
        entry: what the runtime calls; its type is between a generator and its device.
        grid: number of programs.
        figures: static quality.
        pointers: how a launch's buffers become arguments; None if each is one.
        needs_scratch: whether a launch needs memory of the device beside its buffers.
        binary: by what its generator finds the compiled code in the cache, or "".
        kept: what the runtime keeps with the kernel between launches.
    """

    name: str
    path: str
    entry: object
    grid: int
    figures: StaticFigures = StaticFigures()
    pointers: PointerTable | None = None
    needs_scratch: bool = False
    binary: str = ""
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Artifact(Executable):
    """An executable with what it was made from.

    Attributes:
        source: generated source text.
        config: as lowered.
    """

    source: str = field(kw_only=True)
    config: Config = field(kw_only=True)
